"""Any bytes are refused as no snapshot (ValueError; SnapshotError for a file), or restore to an engine that dumps again.

An input begins with a letter: ``B`` and the body of a snapshot, which also goes into a file with the right hashes; ``F`` and a
whole file; ``D`` and damage to a good file, as pairs of place (3 bytes) and new byte: that is always noticed.
"""

from collections.abc import Iterator
from functools import cache
from typing import Final

import msgspec

from engine.core import Engine
from engine.invariants import check
from engine.snapshot import dump, hash_of, restore
from gateway.recovery import SNAPSHOT_FORMAT, SnapshotError, SnapshotHeader, read_snapshot
from gateway.recovery import _checksum as checksum_of
from tests.fuzz.runner import scratch
from tests.reference.exchange import NaiveExchange
from tests.reference.stream import SMALL, Stream

BYTES_MAX = 16_384
WORDS = (
    *(b"B", b"F", b"D", b"\x00", b"\xc0", b"\x90", b"\x91", b"\xdc\xff\xff", b"\xdd\x7f\xff\xff\xff", b"\xa0"),
    *(
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00",
        b"\xce\xff\xff\xff\xff",
        b"\xff",
        b"\xc4\x00",
    ),
    *(b'"format":2', b'"body_bytes":', b'"state_hash":"', b'"seq":', b"\n"),
)
_HOME: Final = scratch()
PATH: Final = _HOME / "snapshot-1.bin"


@cache
def states() -> list[bytes]:
    """Dumps of an exchange at several moments of a busy life."""
    oracle, engine = NaiveExchange(SMALL), Engine(SMALL)
    dumps = [dump(engine)]
    for entry in Stream(oracle, 7).entries(400):
        oracle.apply(entry)
        engine.apply(entry)
        if entry.seq in (6, 20, 60, 150, 400):
            dumps.append(dump(engine))
    return dumps


def file_of(body: bytes, seq: int) -> bytes:
    """A snapshot file with the right hashes."""
    header = SnapshotHeader(SNAPSHOT_FORMAT, "epoch", seq, 0, hash_of(body), "00", len(body))
    line = msgspec.json.encode(header) + b"\n"
    return line + checksum_of(line) + body


def one(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"B":
        _body(rest)
    elif kind == b"F":
        PATH.write_bytes(rest)
        _read()
    elif kind == b"D":
        whole = file_of(states()[3], 60)
        damaged = bytearray(whole)
        for at in range(0, len(rest) - 3, 4):
            damaged[int.from_bytes(rest[at : at + 3]) % len(whole)] = rest[at + 3]
        PATH.write_bytes(damaged)
        found = _read()
        assert found is None or hash_of(dump(found)) == hash_of(states()[3]), "damage was not noticed"


def _body(body: bytes) -> None:
    try:
        engine = restore(body)
    except ValueError as error:
        assert str(error)
        engine = None
    PATH.write_bytes(file_of(body, engine.seq if engine is not None else 0))
    found = _read()
    assert (found is None) is (engine is None), "a body is a snapshot by itself and not in a file, or the other way round"
    if engine is None or found is None:
        return
    try:
        check(engine)
    except (AssertionError, LookupError, TypeError, ValueError, AttributeError):
        return  # the hashes of a file prove that it is what an engine wrote; this is what none would
    again = dump(engine)
    assert dump(restore(again)) == again
    assert dump(found) == again


def _read() -> Engine | None:
    try:
        return read_snapshot(PATH)[1]
    except SnapshotError as error:
        assert str(error)
        return None


def seeds() -> Iterator[tuple[str, bytes]]:
    """Engines of several ages, whole, and files around them."""
    for number, state in enumerate(states()):
        if len(state) < BYTES_MAX:
            yield f"body-{number}", b"B" + state
    yield "file", b"F" + file_of(states()[1], 6)
    yield "file-none", b"F"
    yield "file-header", b"F" + file_of(b"", 0)
    for number, at in enumerate((0, 20, 180, 230, 300, 900)):
        yield f"damage-{number}", b"D" + at.to_bytes(3) + b"\x00"
