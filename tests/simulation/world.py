"""One seeded world: a heap of things to happen, a clock that only they move, and a loop that looks like asyncio's.

Nothing in a simulation reads a real clock, a real random number or the order of a set: the seed decides everything. A
*step* is one thing taken off the heap (a frame arrives, a commit ends, a timer fires, a bot's turn comes), together with all
that it calls at once.
"""

import hashlib
import random
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

START_NS: Final = 1_795_435_190 * 1_000_000_000
"""When every world begins: 2026-11-23 11:59:50 UTC, ten seconds before the first delivery periods start."""
MS_NS: Final = 1_000_000
SECOND_NS: Final = 1_000_000_000

Fn = Callable[..., object]


class Finding(Exception):
    """Something that must not happen has happened; the text is one line."""


class Died(BaseException):
    """The process that this code belonged to is gone: nothing after this point happens."""


class Handle:
    """Something that is to happen; ``cancel`` takes it back."""

    __slots__ = ("args", "fn")

    def __init__(self, fn: Fn, args: tuple[Any, ...]) -> None:
        self.fn: Fn | None = fn
        self.args = args

    def cancel(self) -> None:
        self.fn = None


class World:
    """The clock, the heap, the random streams, the trace and the hash of everything that was told."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.now_ns = START_NS
        self.steps = 0
        self.soon: deque[tuple[Loop, Fn, tuple[Any, ...]]] = deque()
        self._trace = trace
        self._heap: list[tuple[int, int, Handle]] = []
        self._number = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def random(self, name: str) -> random.Random:
        """A stream of random numbers of its own, so that one part's draws do not shift another's."""
        return random.Random(f"{self.seed}:{name}")

    def later(self, delay_ns: int, fn: Fn, *args: Any) -> Handle:
        """Let ``fn(*args)`` happen ``delay_ns`` from now; of equal times the first that was asked for is first."""
        handle = Handle(fn, args)
        self._number += 1
        heappush(self._heap, (self.now_ns + max(delay_ns, 0), self._number, handle))
        return handle

    def step(self) -> None:
        """Let the next thing happen, and everything that it calls at once."""
        while True:
            at_ns, _, handle = heappop(self._heap)
            if handle.fn is not None:
                break
        self.now_ns = at_ns
        self.steps += 1
        self._do(handle.fn, handle.args)
        soon = self.soon
        while soon:
            loop, fn, args = soon.popleft()
            if loop.alive:
                self._do(fn, args)

    @staticmethod
    def _do(fn: Fn, args: tuple[Any, ...]) -> None:
        try:
            fn(*args)
        except Died:
            pass

    # ---------------------------------------------------------------------------------------------------- what is told

    def digest(self, *parts: bytes | str | int) -> None:
        """Count these into the run's hash."""
        for part in parts:
            self._hash.update(part if isinstance(part, bytes) else str(part).encode())
            self._hash.update(b"\0")

    def hash(self) -> str:
        """Equal for equal runs, on every machine and for both builds."""
        return self._hash.hexdigest()

    @property
    def traced(self) -> bool:
        return self._trace is not None

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self._trace is not None:
            self._trace(f"{self.steps:6d} {(self.now_ns - START_NS) / SECOND_NS:12.6f}  {text}")


class Loop:
    """What the server's code uses of asyncio's event loop, for one process: when that dies, what it planned does not happen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True

    def time(self) -> float:
        return self.world.now_ns / SECOND_NS

    def call_soon(self, fn: Fn, *args: Any) -> None:
        if self.alive:
            self.world.soon.append((self, fn, args))

    call_soon_threadsafe = call_soon

    def call_later(self, delay_s: float, fn: Fn, *args: Any) -> Handle:
        return self.world.later(int(delay_s * SECOND_NS), self._call, fn, *args)

    def _call(self, fn: Fn, *args: Any) -> None:
        if self.alive:
            fn(*args)

    def create_future(self) -> Any:
        raise AssertionError("nothing waits in a simulation")
