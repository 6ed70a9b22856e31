"""Any damage to a journal, its rows, its meta table or its write-ahead log is a JournalError, or the entries are those written.

An input begins with a letter that says what the rest of it is::

    P   the payload of a row that has the right checksum         M   the content of a meta table that has the right checksum
    F   a whole file        D   damage to a good one: pairs of place (3 bytes) and new byte
    W   a whole write-ahead log        L   damage to a good one
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from functools import cache
from typing import Final

import msgspec

from engine.commands import Amend, Cancel, Command, CreateAccount, Deposit, Entry, Place, ReportWork, Tick
from engine.limits import Limits
from engine.types import OrderType, Side
from gateway.journal import (
    Journal,
    JournalCorrupt,
    JournalError,
    JournalReader,
    Row,
    encode_batch,
    first_link,
    link,
    row_entries,
    wal_fault,
)
from gateway.journal import _checksum as checksum_of
from tests.fuzz.runner import scratch

BYTES_MAX = 16_384
WORDS = (
    *(letter.encode() for letter in "PMFDWL"),
    *(b"P\xdd\x00\x00\x00\x01", b"\x94\x01\x00", b"\x92\x10\xa1a", b"\xc4", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd9"),
    *(b'"epoch":"', b'"limits":', b'"base_seq":', b'"base_checksum":', b"SQLite format 3\x00", b"\x37\x7f\x06\x82"),
)
COMMANDS: Final[tuple[Command, ...]] = (
    CreateAccount("ada"),
    Deposit(100, 10**12, "first"),
    Place(100, "SHA256-20261125", Side.BUY, OrderType.LIMIT, 50_000, 20, client_order_id="a"),
    Amend(100, 3, "", 50_001, 10),
    Cancel(100, 3),
    ReportWork(1, 2**70, 10),
    Tick(),
)
ENTRIES: Final = [Entry(number, 10**18 + number, command) for number, command in enumerate(COMMANDS, 1)]
_HOME: Final = scratch()
PATH: Final = _HOME / "journal.db"
WAL: Final = _HOME / "journal.db-wal"


@cache
def good() -> tuple[bytes, bytes]:
    """The bytes of a closed journal of ENTRIES, and a write-ahead log of the same entries in a journal that was not closed."""
    folder = _HOME / "good"
    journal = Journal(folder / "journal.db")
    for entry in ENTRIES:
        journal.append(entry.seq, entry.seq, encode_batch([entry]))
    shutil.copy(folder / "journal.db-wal", _HOME / "good-wal")
    journal.close()
    return (folder / "journal.db").read_bytes(), (_HOME / "good-wal").read_bytes()


def one(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind == b"P":
        _payload(rest)
    elif kind == b"M":
        _meta(rest)
    elif kind == b"F":
        _file(rest, written=False)
    elif kind == b"D":
        _file(_damaged(good()[0], rest), written=True)
    elif kind in (b"W", b"L"):
        WAL.write_bytes(rest if kind == b"W" else _damaged(good()[1], rest))
        assert isinstance(wal_fault(WAL), str)


def _damaged(whole: bytes, damage: bytes) -> bytes:
    data = bytearray(whole)
    for at in range(0, len(damage) - 3, 4):
        data[int.from_bytes(damage[at : at + 3]) % len(data)] = damage[at + 3]
    return bytes(data)


def _payload(payload: bytes) -> None:
    row = Row(1, 2, link(first_link("epoch"), 1, 2, payload), payload)
    try:
        entries = row_entries(row)
    except JournalCorrupt as error:
        assert (error.first_seq, error.last_seq) == (1, 2)
        return
    assert [entry.seq for entry in entries] == [1, 2]
    assert row_entries(row._replace(payload=bytes(encode_batch(entries)))) == entries


def _meta(content: bytes) -> None:
    """A journal without rows that says this of itself."""
    PATH.write_bytes(_empty())
    db = sqlite3.connect(PATH, isolation_level=None)
    try:
        db.execute("UPDATE meta SET content = ?, checksum = ?", (content, checksum_of(content)))
    finally:
        db.close()
    entries = _read()
    assert not entries


@cache
def _empty() -> bytes:
    folder = _HOME / "empty"
    Journal(folder / "journal.db").close()
    return (folder / "journal.db").read_bytes()


def _file(data: bytes, written: bool) -> None:
    """Both ways of opening a file refuse it, or give the entries that were written to it."""
    for name in os.listdir(_HOME):
        if name.startswith("journal.db-"):
            (_HOME / name).unlink()
    PATH.write_bytes(data)
    entries = _read()
    assert entries is None or not written or entries == ENTRIES, "other entries than were written"
    try:
        with Journal(PATH) as journal:
            found = [*journal.entries()]
    except JournalError as error:
        assert str(error)
    else:
        assert not written or found == ENTRIES, "the server would go on from other entries than were written"


def _read() -> list[Entry] | None:
    """What a reader finds; None where it refuses, or ``faults`` tells of damage that a mere reader may overlook."""
    try:
        with JournalReader(PATH) as journal:
            faults = [str(fault) for fault in journal.faults()]
            assert all(faults)
            entries = [*journal.entries(journal.base_seq)]
            return None if faults else entries
    except JournalError as error:
        assert str(error)
        return None


def seeds() -> Iterator[tuple[str, bytes]]:
    """Good rows, meta tables, files and logs, and some damage."""
    two = [Entry(1, 5, command) for command in COMMANDS]
    for entry in two:
        second = Entry(2, 6, Tick())
        yield f"payload-{type(entry.command).__name__}", b"P" + bytes(encode_batch([entry, second]))
    yield "payload-none", b"P\xdd\x00\x00\x00\x00"
    meta = {
        "epoch": "0" * 32,
        "limits": msgspec.to_builtins(Limits()),
        "base_seq": 0,
        "base_checksum": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    yield "meta", b"M" + msgspec.json.encode(meta)
    yield "meta-behind", b"M" + msgspec.json.encode({**meta, "base_seq": 12})
    yield "file-none", b"F"
    yield "file-text", b"Fnot a database"
    yield "damage-none", b"D"
    size = len(good()[0])
    for number, at in enumerate(range(0, size, size // 12)):
        yield f"damage-{number:02d}", b"D" + at.to_bytes(3) + b"\xff"
    wal = good()[1]
    yield "wal", b"W" + wal[:4_200]
    yield "wal-none", b"W"
    for number, at in enumerate(range(0, len(wal), len(wal) // 8)):
        yield f"wal-damage-{number}", b"L" + at.to_bytes(3) + b"\x01"
