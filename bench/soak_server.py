"""The server of bench.soak: `python -m gateway` with a record of its commits and of its garbage collections.

    python -m bench.soak_server DATA RECORD ROWS

ROWS is how many commits the record has room for, and ten times as many as collections. The room is taken before the start, so
that the record itself does not grow while memory is watched. It is written to RECORD at the end, as MessagePack.
"""

import gc
import sys
import time
from array import array
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.__main__ import main
from gateway.journal import Journal

COLLECTIONS_PART: Final = 10
ROW_BYTES: Final = 3 * 8


def room_bytes(rows: int) -> int:
    """Memory that the record takes."""
    return (rows + rows // COLLECTIONS_PART) * ROW_BYTES


class Record(Struct, array_like=True):
    """Triples of start and end, in nanoseconds of time.perf_counter, and a number."""

    commits: list[tuple[int, int, int]]
    """The number: entries."""
    collections: list[tuple[int, int, int]]
    """The number: the generation."""
    dropped: int
    """That found no room."""


class Intervals:
    """Room for so many intervals."""

    def __init__(self, rows: int) -> None:
        self._values = array("q", [1]) * (3 * rows)
        self._used = 0
        self.dropped = 0

    def add(self, start_ns: int, end_ns: int, number: int) -> None:
        at = self._used
        if at == len(self._values):
            self.dropped += 1
            return
        self._values[at] = start_ns
        self._values[at + 1] = end_ns
        self._values[at + 2] = number
        self._used = at + 3

    def rows(self) -> list[tuple[int, int, int]]:
        values = self._values
        return [(values[at], values[at + 1], values[at + 2]) for at in range(0, self._used, 3)]


def run(data: str, record: str, rows: str) -> int:
    """Serve until a signal; returns the gateway's exit code."""
    clock = time.perf_counter_ns
    commits, collections = Intervals(int(rows)), Intervals(int(rows) // COLLECTIONS_PART)
    append = Journal.append
    collection_start = 0

    def timed_append(self: Journal, first_seq: int, last_seq: int, payload: bytes | bytearray) -> None:
        start = clock()
        append(self, first_seq, last_seq, payload)
        commits.add(start, clock(), last_seq - first_seq + 1)

    def collected(phase: str, info: dict[str, Any]) -> None:
        nonlocal collection_start
        if phase == "start":
            collection_start = clock()
        else:
            collections.add(collection_start, clock(), info["generation"])

    Journal.append = timed_append  # type: ignore[method-assign]
    gc.callbacks.append(collected)
    code = main([data])
    made = Record(commits.rows(), collections.rows(), commits.dropped + collections.dropped)
    Path(record).write_bytes(msgspec.msgpack.encode(made))
    return code


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
