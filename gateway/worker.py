"""Who makes batches durable, and what the sequencer needs of an event loop: the seam between deciding and waiting.

    disk fast    the commit runs in the loop's thread: no hand-over, and what arrives meanwhile makes the next batch
    disk slow    the commit runs in the journal's thread, while the loop serves everybody who does not wait for it

A test may stand in for either, and so run the sequencer in one thread, on a clock of its own.
"""

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Protocol

FAST_NS: Final = 2_000_000
"""A commit that takes longer than this is slow. It is how long the loop may stand still without anybody minding."""
FAST_COMMITS: Final = 16
"""After a slow commit as many fast ones in a row have to pass in the thread before one runs in the loop again. So a stall
of the disk holds the loop up once, and a disk that is always slow never again."""


class Timer(Protocol):
    """Something that was asked for later."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What is used of an event loop; asyncio's and uvloop's are one."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> object:
        """Call it in a turn of its own, soon."""
        ...

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> object:
        """The same from another thread."""
        ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call it after so many seconds."""
        ...

    def create_future(self) -> Any:
        """Something to await, with ``set_result``, ``set_exception``, ``done`` and ``cancelled``."""
        ...


class Worker(Protocol):
    """Runs jobs that wait for the disk, one after the other, in the order in which they come. A job does not raise."""

    def start(self, loop: Loop) -> None:
        """Called once, before the first job, in the loop's thread."""
        ...

    @property
    def fast(self) -> bool:
        """Whether to ``run`` the next commit, rather than to ``put`` it."""
        ...

    def run(self, job: Callable[[], None]) -> None:
        """Run ``job`` at once, here. Only while ``fast``."""
        ...

    def put(self, job: Callable[[], None], then: Callable[[], None]) -> None:
        """Run ``job`` without holding up the loop, and after it ``then`` in a later turn of the loop."""
        ...

    def close(self) -> None:
        """Return when every job that was put is done. Their ``then`` may be called if the loop goes on. Harmless when
        repeated."""
        ...


class DiskWorker:
    """A Worker with a thread, named ``journal``, and a memory of how fast the disk has been. ``clock`` gives nanoseconds."""

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns, fast_commits: int = FAST_COMMITS) -> None:
        self._clock = clock
        self._fast_commits = fast_commits
        # Fast jobs that have to pass in the thread before the next may run in the loop.
        self._probation = 0
        # Jobs that were put and have not come back to the loop.
        self._away = 0
        self._jobs: SimpleQueue[tuple[Callable[[], None], Callable[[], None]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="journal", daemon=True)
        self._loop: Loop

    def start(self, loop: Loop) -> None:
        self._loop = loop
        self._thread.start()

    @property
    def fast(self) -> bool:
        return not self._away and not self._probation

    def run(self, job: Callable[[], None]) -> None:
        assert not self._away, "jobs run one after the other"
        self._judge(self._timed(job))

    def put(self, job: Callable[[], None], then: Callable[[], None]) -> None:
        self._away += 1
        self._jobs.put((job, then))

    def close(self) -> None:
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def _timed(self, job: Callable[[], None]) -> int:
        begin_ns = self._clock()
        job()
        return self._clock() - begin_ns

    def _judge(self, took_ns: int) -> None:
        if took_ns > FAST_NS:
            self._probation = self._fast_commits
        elif self._probation:
            self._probation -= 1

    def _work(self) -> None:
        """The thread."""
        while (task := self._jobs.get()) is not None:
            job, then = task
            self._loop.call_soon_threadsafe(self._back, self._timed(job), then)

    def _back(self, took_ns: int, then: Callable[[], None]) -> None:
        self._away -= 1
        self._judge(took_ns)
        then()
