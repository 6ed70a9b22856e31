"""The journal: every entry the engine ever applied, in order, durable before anyone hears of it.

One SQLite file (WAL, ``synchronous=FULL``); one row per group commit, holding the batch's entries as one MessagePack array.
Knows entries and rows; never looks inside a command and never imports the engine's logic.

Rows form a chain: a row's checksum is BLAKE2b-128 over the previous row's checksum, its first and last seq and its payload,
starting from the journal's epoch. A changed, missing, swapped or foreign row therefore breaks the chain at a place that can
be named. Old rows may be moved into archives, files of the same shape; ``base_seq`` and ``base_checksum`` say where the
journal goes on from them, so archives and journal stay one provable chain.

::

    JournalError
    ├── JournalMissing      there is no journal
    ├── JournalLocked       another process serves this data directory
    ├── JournalFormat       written by a version that this one does not understand
    ├── JournalCorrupt      a row, or the file around it, is not what was written
    └── JournalWriteError   disk full or I/O error: the batch is not durable and never will be
"""

import fcntl
import os
import secrets
import socket
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from engine.commands import Entry
from engine.limits import Limits

FORMAT: Final = 1
"""Version of the tables, the checksum chain and the payload. A journal of another format is refused, never guessed at."""

READ_ROWS_MAX: Final = 64
"""Rows that one query reads. Between queries a reader holds no lock, so that the WAL can be folded back meanwhile."""

CHECKPOINT_PAGES: Final = 250
"""Pages of the WAL after which a commit folds it back into the file. With SQLite's own 1,000 some commits are slow ones
(worker.py), with a quarter hardly one (bench/RESULTS.md)."""

SEQ_DIGITS: Final = "[0-9]" * 20
"""A seq in the name of a file; a copy that somebody made under another name is not looked at."""

FORGET_ROWS_MAX: Final = 64
"""Archived rows that one transaction removes: a commit that waits for it waits about as long as for another commit."""

PAYLOAD_HEADER: Final = b"\xdd\x00\x00\x00\x00"
"""A payload starts as this MessagePack array header; its count is filled in when the batch is cut."""

_SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""A damaged file may spoil even the text of SQLite's complaint."""

_SCHEMA: Final = {
    "meta": "CREATE TABLE meta (format INTEGER NOT NULL, content BLOB NOT NULL, checksum BLOB NOT NULL)",
    "batches": "CREATE TABLE batches (first_seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, checksum BLOB NOT NULL, "
    "payload BLOB NOT NULL)",
}

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` while something long goes on; done and total in entries."""


class JournalError(Exception):
    """Something about the journal that a person has to look at. The message says what, where and what can be done."""


class JournalMissing(JournalError):
    """There is no journal where one is expected."""


class JournalLocked(JournalError):
    """Another process has the journal open for writing."""


class JournalFormat(JournalError):
    """The journal has a format version that this program does not know."""


class JournalCorrupt(JournalError):
    """What is stored is not what was written. Entries ``first_seq`` to ``last_seq`` are concerned (0: not known)."""

    def __init__(self, message: str, first_seq: int = 0, last_seq: int = 0) -> None:
        super().__init__(message)
        self.first_seq = first_seq
        self.last_seq = last_seq


class JournalWriteError(JournalError):
    """A batch could not be made durable."""


# ------------------------------------------------------------------------------------------------------- entries <-> bytes

encode_into: Final = msgspec.msgpack.Encoder().encode_into
"""``encode_into(entry, payload, -1)``: the short way of ``encode_entry``, for entries with nothing special. When it raises it
leaves a part of the entry behind, and ``encode_entry`` knows better."""
_decode = msgspec.msgpack.Decoder(list[Entry | bytes]).decode
_decode_wide = msgspec.json.Decoder(Entry).decode


def encode_entry(entry: Entry, payload: bytearray) -> None:
    """Append ``entry`` to a payload that began as PAYLOAD_HEADER.

    MessagePack integers end at 64 bits and proven work, in hashes, does not: such an entry is stored as its JSON text.
    Raises ValueError, and leaves the payload as it was, for an entry that has no encoding at all.
    """
    start = len(payload)
    try:
        encode_into(entry, payload, -1)
    except OverflowError:
        del payload[start:]
        encode_into(msgspec.json.encode(entry), payload, -1)
    except (ValueError, TypeError) as error:
        del payload[start:]
        raise ValueError(f"{type(entry.command).__name__} cannot be journaled: {error}") from error


def finish_payload(payload: bytearray, count: int) -> None:
    """Write the number of entries into the payload's header."""
    struct.pack_into(">I", payload, 1, count)


def encode_batch(entries: list[Entry]) -> bytearray:
    """The payload of a whole batch."""
    payload = bytearray(PAYLOAD_HEADER)
    for entry in entries:
        encode_entry(entry, payload)
    finish_payload(payload, len(entries))
    return payload


def decode_batch(payload: bytes) -> list[Entry]:
    """The entries of a payload. Raises msgspec.DecodeError."""
    return [item if type(item) is Entry else _decode_wide(item) for item in _decode(payload)]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------------- rows


class _Meta(msgspec.Struct):
    """What a journal knows of itself, besides its rows; stored as JSON with a checksum."""

    epoch: str
    limits: Limits
    base_seq: int
    base_checksum: bytes


class Row(NamedTuple):
    """One group commit."""

    first_seq: int
    last_seq: int
    checksum: bytes
    payload: bytes


def first_link(epoch: str) -> bytes:
    """The checksum that the chain of journal ``epoch`` starts from."""
    return _checksum(epoch.encode())


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def link(previous: bytes, first_seq: int, last_seq: int, payload: bytes | bytearray) -> bytes:
    """The checksum of a row that follows one with checksum ``previous``."""
    digest = blake2b(previous + struct.pack(">QQ", first_seq, last_seq), digest_size=16)
    digest.update(payload)
    return digest.digest()


def _is_mistyped(row: Row) -> bool:
    """Whether damage made something else of a column: then nothing it says can be used."""
    return (type(row.last_seq), type(row.checksum), type(row.payload)) != (int, bytes, bytes)


def row_fault(row: Row, after_seq: int, previous: bytes) -> str:
    """What is wrong with ``row`` as the successor of the row that ended at ``after_seq``; empty when nothing is."""
    if _is_mistyped(row):
        return "its columns have other types"
    if row.first_seq != after_seq + 1:
        return f"entries {after_seq + 1} to {row.first_seq - 1} are missing before it"
    if row.last_seq < row.first_seq:
        return "it ends before it starts"
    if link(previous, row.first_seq, row.last_seq, row.payload) != row.checksum:
        return "its checksum does not match its content"
    return ""


def row_entries(row: Row) -> list[Entry]:
    """The entries of a row, which must be numbered as the row says. Raises JournalCorrupt."""
    try:
        entries = decode_batch(row.payload)
    except (msgspec.DecodeError, ValueError) as error:
        raise JournalCorrupt(f"entries {row.first_seq} to {row.last_seq} cannot be decoded: {error}", *row[:2]) from error
    if [entry.seq for entry in entries] != list(range(row.first_seq, row.last_seq + 1)):
        raise JournalCorrupt(f"the row of entries {row.first_seq} to {row.last_seq} holds other entries", *row[:2])
    return entries


_RESTORE: Final = (
    "Nothing was changed and nothing after it was used. Run `hashpit verify` to see everything that is wrong, then restore "
    "the data directory (journal.db together with journal.db-wal) from a backup or from the other copy of a mirrored disk."
)


class JournalReader:
    """A journal or an archive, opened read-only; safe beside a server that is writing.

    ``epoch`` names the journal, ``limits`` are the engine's bounds that it is replayed under, ``base_seq`` and
    ``base_checksum`` the last entry before its first row (0 unless rows were archived), ``last_seq`` and ``last_checksum``
    its end, all as of opening. Raises JournalError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise JournalMissing(f"there is no journal at {path}; `hashpit serve` makes one when it first starts")
        self._db = self._connect(f"{path.absolute().as_uri()}?mode=ro", timeout_s=5.0)
        try:
            self._read_meta()
        except BaseException:
            self._db.close()
            raise

    @staticmethod
    def _connect(uri: str, timeout_s: float) -> sqlite3.Connection:
        try:
            return sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        except _SQLITE_ERRORS as error:
            raise JournalError(f"cannot open {uri}: {error}") from error

    def _read_meta(self) -> None:
        try:
            found = self._db.execute("SELECT format FROM meta").fetchone()
            if found != (FORMAT,):
                written = found[0] if found else "?"
                if isinstance(written, int) and written < FORMAT:
                    way_out = "an older Hashpit wrote it: docs/OPERATIONS.md, Upgrades, tells which versions read it"
                else:
                    way_out = "a newer Hashpit wrote it: use that version, or a newer one"
                raise JournalFormat(f"{self.path} has journal format {written}, this program reads format {FORMAT}: {way_out}")
            # With a damaged definition SQLite may find no rows, and no fault either.
            if dict(self._db.execute("SELECT name, sql FROM sqlite_schema")) != _SCHEMA:
                raise JournalCorrupt(f"{self.path} has damaged table definitions. {_RESTORE}")
            content, checksum = self._db.execute("SELECT content, checksum FROM meta").fetchone()
            if _checksum(content) != checksum:
                raise JournalCorrupt(f"{self.path} has a damaged meta table. {_RESTORE}")
            tail = self._db.execute("SELECT last_seq, checksum FROM batches ORDER BY first_seq DESC LIMIT 1").fetchone()
            if tail and (type(tail[0]), type(tail[1])) != (int, bytes):
                raise JournalCorrupt(f"{self.path} has a last row with damaged columns. {_RESTORE}")
            meta = msgspec.json.decode(content, type=_Meta)
        except (*_SQLITE_ERRORS, TypeError, msgspec.DecodeError) as error:
            raise JournalCorrupt(f"{self.path} is not a readable journal: {error}. {_RESTORE}") from error
        self.epoch = meta.epoch
        self.limits = meta.limits
        self.base_seq = meta.base_seq
        self.base_checksum = meta.base_checksum
        self.last_seq: int = tail[0] if tail else self.base_seq
        self.last_checksum: bytes = tail[1] if tail else self.base_checksum

    def checksum_at(self, seq: int) -> bytes | None:
        """The chain's checksum after entry ``seq``; None if no row ends there (any more)."""
        if seq == self.base_seq:
            return self.base_checksum
        row = self._row_of(seq)
        return row.checksum if row is not None and row.last_seq == seq else None

    def rows(self, after_seq: int = 0) -> Iterator[Row]:
        """The rows that hold entries after ``after_seq``, each one proven to continue the chain; the first may start earlier.

        Raises JournalCorrupt naming the first row that does not, and JournalError if ``after_seq`` is before the base.
        """
        before = self.base_seq, self.base_checksum
        if after_seq < self.base_seq:
            raise JournalError(f"{self.path} starts after entry {self.base_seq}; what is before it was archived")
        start = self._row_of(after_seq)
        if start is not None and start.last_seq > after_seq:
            start = self._row_of(start.first_seq - 1)
        if start is not None:
            before = start.last_seq, start.checksum
        for row in self._walk(before[0]):
            fault = row_fault(row, *before)
            if fault:
                raise JournalCorrupt(
                    f"{self.path}: bad row for entries {row.first_seq} to {row.last_seq}: {fault}. {_RESTORE}",
                    row.first_seq,
                    row.last_seq,
                )
            before = row.last_seq, row.checksum
            yield row
        if before[0] < self.last_seq:
            raise JournalCorrupt(
                f"{self.path}: entries {before[0] + 1} to {self.last_seq} cannot be found. {_RESTORE}",
                before[0] + 1,
                self.last_seq,
            )

    def entries(self, after_seq: int = 0) -> Iterator[Entry]:
        """The entries after ``after_seq``, in order. Raises as ``rows`` does."""
        for row in self.rows(after_seq):
            for entry in row_entries(row):
                if entry.seq > after_seq:
                    yield entry

    def faults(self) -> Iterator[JournalCorrupt]:
        """Everything wrong with the rows, one by one: unlike ``rows`` it goes on behind a bad one."""
        fault = self._file_fault()
        if fault:
            yield JournalCorrupt(f"{self.path}: {fault}")
        before = self.base_seq, self.base_checksum
        try:
            for row in self._walk(self.base_seq):
                fault = row_fault(row, *before)
                if fault:
                    yield JournalCorrupt(
                        f"{self.path}: bad row for entries {row.first_seq} to {row.last_seq}: {fault}", *row[:2]
                    )
                else:
                    try:
                        row_entries(row)
                    except JournalCorrupt as error:
                        yield error
                if not _is_mistyped(row):
                    before = row.last_seq, row.checksum
        except JournalCorrupt as error:
            yield error

    def _walk(self, after_seq: int) -> Iterator[Row]:
        """All rows behind ``after_seq`` as stored, a page at a time, unchecked, except that their numbers rise."""
        while page := self._rows_from("first_seq > ?", after_seq, READ_ROWS_MAX):
            for row in page:
                if row.first_seq <= after_seq:
                    raise JournalCorrupt(
                        f"{self.path}: behind entry {after_seq} comes the row of entry {row.first_seq}: the file is damaged. "
                        f"{_RESTORE}",
                        after_seq,
                        after_seq,
                    )
                yield row
                after_seq = row.first_seq

    def _row_of(self, seq: int) -> Row | None:
        """The row that holds entry ``seq``, or the last row when ``seq`` is behind it."""
        found = self._rows_from("first_seq <= ?", seq, 1, "DESC")
        if found and _is_mistyped(found[0]):
            raise JournalCorrupt(
                f"{self.path}: the row of entry {found[0].first_seq} has damaged columns. {_RESTORE}", seq, seq
            )
        return found[0] if found else None

    def _rows_from(self, where: str, seq: int, rows_max: int, order: str = "ASC") -> list[Row]:
        query = f"SELECT first_seq, last_seq, checksum, payload FROM batches WHERE {where} ORDER BY first_seq {order} LIMIT ?"  # noqa: S608  # nosec B608
        try:
            return [Row(*values) for values in self._db.execute(query, (seq, rows_max))]
        except _SQLITE_ERRORS as error:
            raise JournalCorrupt(f"{self.path} cannot be read near entry {seq}: {error}. {_RESTORE}", seq, seq) from error

    def _file_fault(self) -> str:
        """What SQLite finds wrong with the file's structure; a damaged page must not make rows vanish unnoticed."""
        try:
            found: str = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        except _SQLITE_ERRORS as error:
            return f"the file is damaged: {error}"
        return "" if found == "ok" else f"the file is damaged: {' '.join(found.split())}"

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Journal(JournalReader):
    """The journal of a running exchange: opened by one process at a time, made when it does not exist.

    Opening holds ``lock`` beside the file, looks through every row, and refuses to go on from a journal that is not whole.
    One thread at a time may use it. Raises JournalError.
    """

    def __init__(self, path: Path, limits: Limits | None = None, progress: Progress | None = None) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _acquire_lock(path.with_name("lock"))
        try:
            fault = wal_fault(path.with_name(path.name + "-wal"))
            if fault:
                raise JournalCorrupt(f"{fault}. {_RESTORE}")
            self._open(path, limits or Limits())
            self._check_all(progress)
        except BaseException:
            os.close(self._lock)
            raise
        self._failed = False

    def _open(self, path: Path, limits: Limits) -> None:
        self.path = path
        try:
            path.touch(mode=0o600)  # SQLite makes files that others may read, and gives the WAL the file's mode
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error}") from error
        self._db = self._connect(f"{path.absolute().as_uri()}?mode=rwc", timeout_s=5.0)
        try:
            mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise JournalError(
                    f"{path} cannot use SQLite's WAL here (it uses {mode}): put the data directory on a local disk"
                )
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            if not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                epoch = secrets.token_hex(16)
                _create(self._db, _Meta(epoch, limits, 0, first_link(epoch)))
                sync_directory(path.parent)
            self._read_meta()
        except _SQLITE_ERRORS as error:
            self._db.close()
            raise JournalError(f"cannot open {path}: {error}. {_RESTORE}") from error
        except BaseException:
            self._db.close()
            raise

    def _check_all(self, progress: Progress | None) -> None:
        try:
            fault = self._file_fault()
            if fault:
                raise JournalCorrupt(f"{self.path}: {fault}. {_RESTORE}")
            for row in self.rows(self.base_seq):
                if progress is not None:
                    progress("checking the journal", row.last_seq - self.base_seq, self.last_seq - self.base_seq)
        except BaseException:
            self._db.close()
            raise

    def append(self, first_seq: int, last_seq: int, payload: bytes | bytearray) -> None:
        """Make one batch durable: returns after it is on disk. Blocks for about the time of an fsync.

        Raises JournalWriteError; from then on the journal takes nothing any more, as nobody can say what the disk holds.
        """
        if self._failed:
            raise JournalWriteError(f"{self.path} failed before and takes no more entries")
        assert first_seq == self.last_seq + 1, f"entry {first_seq} does not follow {self.last_seq}"
        assert last_seq >= first_seq, f"a batch of entries {first_seq} to {last_seq}"
        checksum = link(self.last_checksum, first_seq, last_seq, payload)
        try:
            self._db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", (first_seq, last_seq, checksum, payload))
        except _SQLITE_ERRORS as error:
            self._failed = True
            raise JournalWriteError(
                f"entries {first_seq} to {last_seq} could not be written to {self.path}: {error}. None of them was "
                f"acknowledged. Make room or repair the disk, then start again"
            ) from error
        self.last_seq = last_seq
        self.last_checksum = checksum

    def forget(self, archive: JournalReader) -> bool:
        """Remove up to FORGET_ROWS_MAX rows that ``archive`` holds; True while more are left. Nothing unarchived is removed.

        Raises JournalError when the archive is not a continuation of this journal's base, or on failure to write; the rows
        are still there then.
        """
        if archive.epoch != self.epoch or self.checksum_at(archive.last_seq) != archive.last_checksum:
            raise JournalError(f"{archive.path} does not hold this journal's entries up to {archive.last_seq}")
        if archive.checksum_at(self.base_seq) != self.base_checksum:
            raise JournalError(f"{archive.path} does not continue after entry {self.base_seq}")
        rows = self._rows_from("first_seq > ?", self.base_seq, FORGET_ROWS_MAX)
        rows = [row for row in rows if row.last_seq <= archive.last_seq]
        if rows:
            self._set_base(rows[-1])
        return self.base_seq < archive.last_seq

    def _set_base(self, row: Row) -> None:
        try:
            with _transaction(self._db):
                self._db.execute("DELETE FROM batches WHERE first_seq <= ?", (row.first_seq,))
                content = msgspec.json.encode(_Meta(self.epoch, self.limits, row.last_seq, row.checksum))
                self._db.execute("UPDATE meta SET content = ?, checksum = ?", (content, _checksum(content)))
        except _SQLITE_ERRORS as error:
            raise JournalWriteError(f"archived entries could not be removed from {self.path}: {error}") from error
        self.base_seq = row.last_seq
        self.base_checksum = row.checksum

    def close(self) -> None:
        """Fold the WAL into the file and give the lock back. Closing twice is harmless."""
        super().close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


# --------------------------------------------------------------------------------------------------------------- archives


def write_archive(journal: JournalReader, directory: Path, after_seq: int, up_to_seq: int) -> Path | None:
    """Copy the whole rows behind ``after_seq`` that end by ``up_to_seq`` into a file of their own; None if there are none.

    The file appears under its name, ``journal-<first>-<last>.db``, only when it is complete, synced and read back. The
    journal is only read: ``Journal.forget`` removes what an archive holds. Raises JournalError.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    draft = directory / f"draft-{os.getpid()}.tmp"
    draft.unlink(missing_ok=True)
    base_checksum = journal.checksum_at(after_seq)
    if base_checksum is None:
        raise JournalError(f"{journal.path} has no row that ends at entry {after_seq}")
    last_seq = after_seq
    try:
        draft.touch(mode=0o600)
        db = sqlite3.connect(draft, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            _create(db, _Meta(journal.epoch, journal.limits, after_seq, base_checksum))
            with _transaction(db):
                for row in journal.rows(after_seq):
                    if row.last_seq > up_to_seq:
                        break
                    db.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", row)
                    last_seq = row.last_seq
        finally:
            db.close()
        if last_seq == after_seq:
            return None
        with JournalReader(draft) as copy:
            for fault in copy.faults():
                raise JournalWriteError(f"the new archive does not read back: {fault}")
        path = directory / f"journal-{after_seq + 1:020d}-{last_seq:020d}.db"
        draft.rename(path)
        sync_directory(directory)
    except (*_SQLITE_ERRORS, OSError) as error:
        raise JournalWriteError(f"entries could not be archived to {directory}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def archive_paths(directory: Path) -> list[Path]:
    """The archives in ``directory``, oldest first."""
    return sorted(directory.glob(f"journal-{SEQ_DIGITS}-{SEQ_DIGITS}.db"))


# ------------------------------------------------------------------------------------------------------------ SQLite's WAL


def wal_fault(path: Path) -> str:
    """What makes a stopped journal's write-ahead log untrustworthy; empty when it is whole or ends in a torn commit.

    SQLite reads its WAL up to the first frame with a wrong checksum. After a power cut that is the commit that was being
    written, which nobody was told of. But a damaged frame further up would hide acknowledged commits behind it, so
    finding an intact commit behind a damaged one is an error. (Damage inside the very last commit looks like a torn one.)
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ""
    if len(data) < 32:
        return ""
    magic, _, page_bytes, _, *salts, sum0, sum1 = struct.unpack(">8I", data[:32])
    words = ">" if magic & 1 else "<"
    whole = magic in (0x377F0682, 0x377F0683) and _wal_sum(data[:24], words, 0, 0) == (sum0, sum1)
    if not whole:
        return f"{path} has a damaged header" if any(data[32:]) else ""
    damaged_at = 0
    # Set once an intact frame can only belong to a later commit than the damaged one.
    commit_ended = False
    for at in range(32, len(data) - 23 - page_bytes, 24 + page_bytes):
        _, commit, salt0, salt1, *sums = struct.unpack(">6I", data[at : at + 24])
        intact = False
        if [salt0, salt1] == salts:
            part = _wal_sum(data[at : at + 8], words, sum0, sum1)
            intact = _wal_sum(data[at + 24 : at + 24 + page_bytes], words, *part) == tuple(sums)
        if not intact and not damaged_at:
            damaged_at = at
            commit_ended = commit != 0
        elif intact and damaged_at:
            if commit_ended:
                return f"{path} is damaged at byte {damaged_at}, before commits that are intact"
            commit_ended = commit != 0
        sum0, sum1 = sums
    return ""


def _wal_sum(data: bytes, words: str, sum0: int, sum1: int) -> tuple[int, int]:
    """SQLite's WAL checksum over ``data``, going on from ``sum0, sum1``."""
    values = iter(struct.unpack(f"{words}{len(data) // 4}I", data))
    for value in values:
        sum0 = (sum0 + value + sum1) & 0xFFFFFFFF
        sum1 = (sum1 + next(values) + sum0) & 0xFFFFFFFF
    return sum0, sum1


# ------------------------------------------------------------------------------------------------------------------ helpers


def _create(db: sqlite3.Connection, meta: _Meta) -> None:
    content = msgspec.json.encode(meta)
    with _transaction(db):
        for statement in _SCHEMA.values():
            db.execute(statement)
        db.execute("INSERT INTO meta VALUES (?, ?, ?)", (FORMAT, content, _checksum(content)))


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _acquire_lock(path: Path) -> int:
    """Hold ``path`` locked until the descriptor is closed or the process ends, however it ends."""
    lock = -1
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise JournalLocked(f"{path.parent} is in use by {holder}: stop it first, or serve another data directory") from None
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        raise JournalError(f"cannot write to {path}: {error.strerror}") from error
    return lock


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
