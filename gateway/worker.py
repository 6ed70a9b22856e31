"""Who makes batches durable, and what the sequencer needs of an event loop: the seam between deciding and waiting.

A test may stand in for either, and so run the sequencer in one thread, on a clock of its own.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol


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
    """Runs jobs that wait for the disk, one after the other, in the order in which they were put."""

    def start(self, loop: Loop) -> None:
        """Called once, before the first job, in the loop's thread."""
        ...

    def put(self, job: Callable[[], None], then: Callable[[], None]) -> None:
        """Run ``job``, which does not raise, anywhere, and after it ``then`` in a later turn of the loop."""
        ...

    def close(self) -> None:
        """Return when every job that was put is done. ``then`` of those that were not is called if the loop goes on. Harmless
        when repeated."""
        ...


class ThreadWorker:
    """A Worker with a thread of its own, named ``journal``."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], None], Callable[[], None]] | None] = SimpleQueue()
        self._runner = Thread(target=self._run, name="journal", daemon=True)
        self._loop: Loop

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self._runner.is_alive()

    def start(self, loop: Loop) -> None:
        self._loop = loop
        self._runner.start()

    def put(self, job: Callable[[], None], then: Callable[[], None]) -> None:
        self._jobs.put((job, then))

    def close(self) -> None:
        if self._runner.is_alive():
            self._jobs.put(None)
            self._runner.join()

    def _run(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, then = task
            job()
            self._loop.call_soon_threadsafe(then)
