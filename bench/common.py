"""What the benches share: the machine they ran on, quantiles, progress, and the processes they measure."""

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from msgspec import Struct
from rich.console import Console
from rich.progress import track

from hashpit.build import build_kind

START_S: Final = 30.0
"""A child process that has not printed its address by then has failed; one asked to stop has as long."""
CLOCK_TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")
RESULTS: Final = Path(__file__).resolve().parent / "results"
"""Where `python -m bench` keeps the last result of each bench."""

T = TypeVar("T")


class OutcomeError(Exception):
    """The run did not do what it must; its figures mean nothing."""


class Machine(Struct, frozen=True):
    """Where and when figures were taken: what a reader needs to judge them."""

    build: str
    """compiled or plain."""
    python: str
    system: str
    processor: str
    cores: int
    load_average: float
    """Over the last minute, when the bench began."""


def machine() -> Machine:
    """This machine, now."""
    return Machine(
        build=build_kind(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        load_average=round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the ascending values lie; the last one for 1.0."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Stored(Struct, Generic[T]):
    """A result on the disk."""

    bench: str
    date: str
    """When it began, in UTC."""
    short: bool
    """Whether it was measured at small sizes."""
    result: T


class Spread(Struct, frozen=True):
    """A figure over the repeats of one run: its median, least and most."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:,g} ({self.least:,g} to {self.most:,g})"


def spread(values: Iterable[float], digits: int = 2) -> Spread:
    """Median and range of a figure's repeats, rounded. Raises OutcomeError for none."""
    found = sorted(values)
    if not found:
        raise OutcomeError("nothing was measured")
    return Spread(round(statistics.median(found), digits), round(found[0], digits), round(found[-1], digits))


def progress(items: Sequence[T], what: str, quiet: bool) -> Iterable[T]:
    """The items, with a bar on stderr that goes away at the end."""
    return track(items, what, console=Console(stderr=True), disable=quiet, transient=True)


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Python process that prints its address, and that address. Stopped by SIGTERM at the end."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            # a child that says nothing is killed, which ends the reading
            alarm = threading.Timer(START_S, child.kill)
            alarm.start()
            line = child.stdout.readline()
            alarm.cancel()
            url = next((word for word in line.split() if word.startswith("ws://")), "")
            if not url:
                raise OutcomeError(f"{' '.join(arguments)} did not start")
            yield child, url
        finally:
            child.terminate()
            try:
                child.wait(START_S)
            except subprocess.TimeoutExpired:
                child.kill()


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system time of a process, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) * CLOCK_TICK_S, int(fields[12]) * CLOCK_TICK_S
