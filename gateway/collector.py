"""Python's cyclic garbage collector, kept off the hot path.

The collector stops everything while it walks what was made, and automatic collections come when most is being made. So:

    recovery        none: what is restored or replayed stays
    before serving  one of everything; what is there then is frozen: no collection looks at it again
    serving         a step on the server's tick: one of what is new, and at every FREEZE_STEPS-th step one of everything that is
                    not frozen, after which that is frozen too

A step therefore looks at what came since the last few, however long the process runs. What is frozen goes when nothing refers
to it, as always; only a cycle that outlived its freezing would stay. Whatever lives long therefore breaks its cycles when it
ends, as sessions and sockets do.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FREEZE_STEPS: Final = 5
"""Steps until what survived is frozen. Whatever is in use for less than that may even be a cycle."""


@contextmanager
def paused() -> Iterator[None]:
    """No collections in here: for work that makes much and drops little."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Collector:
    """Collects in steps, where automatic collections are ``paused``. One per process."""

    def __init__(self) -> None:
        self._steps = 0

    def start(self) -> None:
        """Clean up and freeze what is there: O(everything). To be called when all that stays stands."""
        gc.collect()
        gc.freeze()

    def step(self) -> None:
        """Collect what is new. To be called several times a second: a step takes some 50 ns for each object that is new (or
        survived one of the last steps) and still there."""
        self._steps += 1
        if self._steps % FREEZE_STEPS:
            gc.collect(0)
        else:
            gc.collect()
            gc.freeze()

    def stop(self) -> None:
        """Let collections look at everything again."""
        gc.unfreeze()
