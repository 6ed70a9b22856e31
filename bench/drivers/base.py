"""What all drivers share: slices of the flow, the clock, and the result.

    a slice of 4,096 operations -> calls with their arguments     not timed, as a gateway has just decoded them
                                -> [call(*arguments) for each]    timed; what the calls return is kept
                                -> fills are counted              not timed

The same for every book. Slices, because a list of all arguments would be cold memory by the time that it is used.
"""

import argparse
import gc
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from bench.flow import Flow, Op, load

SLICE: Final = 4_096

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Driver(ABC):
    """A book, and how it is asked."""

    tells_fills = True
    digest = ""
    """Of the fills, from our book."""
    build = ""
    """compiled or plain, of our book."""
    memory = True
    """Whether the process's memory is the book's."""

    def __init__(self) -> None:
        self.fills = 0
        self.qty = 0
        self.value = 0
        self.orders: dict[int, Any] = {}
        """Order objects by id, of books that want them back. Dropped after their last use."""

    @abstractmethod
    def calls(self, ops: list[Op]) -> list[Call]:
        """One call per operation."""

    @abstractmethod
    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        """Count the fills that the calls led to."""

    @abstractmethod
    def best(self) -> tuple[int, int]:
        """Best bid and best ask, 0 for none."""

    def count(self, fills: Iterable[tuple[float, float]]) -> None:
        """Count fills given as price and quantity; some books have them as floats."""
        for price, qty in fills:
            self.fills += 1
            self.qty += int(qty)
            self.value += int(price) * int(qty)


def main(make: Callable[[str], Driver]) -> None:
    """Run a driver on the flow that the command line names, and print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("flow", type=Path)
    parser.add_argument("variant", nargs="?", default="")
    parser.add_argument("--latency", action="store_true", help="a clock around each call; rates mean nothing then")
    given = parser.parse_args()
    print(json.dumps(run(make, given.flow, given.variant, given.latency)))


def run(make: Callable[[str], Driver], path: Path, variant: str = "", latency: bool = False) -> dict[str, Any]:
    """Seconds, CPU seconds, memory and outcome; with ``latency`` nanoseconds of every call instead, ascending."""
    flow = load(path)
    last_use: dict[int, int] = {}
    for stop, ops in _slices(flow, 0, flow.preload + len(flow)):
        last_use |= {op.order_id: stop - len(ops) + number for number, op in enumerate(ops)}
    before = _memory("VmRSS")
    driver = make(variant)
    for _, ops in _slices(flow, 0, flow.preload):
        driver.tally(ops, [call(*arguments) for call, arguments in driver.calls(ops)])
    gc.collect()
    seconds = cpu_seconds = 0.0
    nanoseconds: list[int] = []
    for stop, ops in _slices(flow, flow.preload, flow.preload + len(flow)):
        calls = driver.calls(ops)
        if latency:
            results = _clocked(calls, nanoseconds)
        else:
            cpu_start, start = time.process_time(), time.perf_counter()
            results = [call(*arguments) for call, arguments in calls]
            seconds += time.perf_counter() - start
            cpu_seconds += time.process_time() - cpu_start
        driver.tally(ops, results)
        for op in ops:
            if last_use[op.order_id] < stop:
                driver.orders.pop(op.order_id, None)
        del calls, results
    after = _memory("VmHWM")
    best_bid, best_ask = driver.best()
    return {
        "ops": len(flow),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "added_bytes": after - before if driver.memory and not latency else None,
        "fills": driver.fills if driver.tells_fills else None,
        "qty": driver.qty,
        "value": driver.value,
        "best_bid": best_bid,
        "best_ask": best_ask,
        "digest": driver.digest,
        "build": driver.build,
        "nanoseconds": sorted(nanoseconds),
    }


def _clocked(calls: list[Call], nanoseconds: list[int]) -> list[Any]:
    """Each call between two looks at the clock, which cost some 50 ns."""
    clock = time.perf_counter_ns
    results = []
    for call, arguments in calls:
        start = clock()
        result = call(*arguments)
        nanoseconds.append(clock() - start)
        results.append(result)
    return results


def _slices(flow: Flow, start: int, stop: int) -> Iterator[tuple[int, list[Op]]]:
    """Where each slice ends, and its operations."""
    for first in range(start, stop, SLICE):
        end = min(first + SLICE, stop)
        yield end, flow.ops(first, end)


def _memory(name: str) -> int:
    """A figure of this process in bytes: VmRSS now, VmHWM the most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1_024
    raise RuntimeError(f"/proc/self/status has no {name}")
