"""Snapshot + tail -> engine; and how snapshots and archives come about while the exchange trades on.

A data directory holds ``journal.db``, ``snapshots/snapshot-<seq>.bin`` and, once old rows were moved out of the journal,
``archive/journal-<first>-<last>.db``. Archives and journal together are the whole history from entry 1.

Snapshots are made by a process of its own: it restores the newest snapshot, replays
the rows behind it read-only, and writes the next one. The file is trusted only after it was read back, restored and its
state hash compared. Rows are archived only when every snapshot that is kept stands behind them, so falling back to an
older snapshot needs nothing but the journal.
"""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from engine.commands import Entry
from engine.core import Engine
from engine.events import Event
from engine.limits import Limits
from engine.snapshot import dump, hash_of, restore, state_hash
from gateway.collector import paused
from gateway.journal import (
    SEQ_DIGITS,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalMissing,
    JournalReader,
    Progress,
    archive_paths,
    row_entries,
    sync_directory,
    wal_fault,
    write_archive,
)

JOURNAL: Final = "journal.db"
SNAPSHOTS: Final = "snapshots"
ARCHIVE: Final = "archive"

SNAPSHOT_FORMAT: Final = 2
SNAPSHOTS_KEPT: Final = 3
"""Older snapshots are removed once a new one is verified; entries before the oldest kept one may be archived."""
SNAPSHOT_EVERY_ENTRIES: Final = 1_000_000
SNAPSHOT_EVERY_S: Final = 3_600.0
SNAPSHOT_TIMEOUT_S: Final = 1_800.0
"""A snapshot process that takes longer is killed and counted as failed."""
SNAPSHOT_NICE: Final = 10
"""The snapshot process gives way to the exchange."""
CHECK_EVERY_S: Final = 1.0
PROGRESS_ENTRIES: Final = 4_096
"""Progress is reported after this many entries."""
PROGRESS_AFTER_S: Final = 1.0
"""What takes no longer needs no progress bar."""

_CHECKSUM_BYTES: Final = 16
_SNAPSHOT_PROCESS: Final = f"""
import os, sys
os.nice({SNAPSHOT_NICE})
from hashpit.build import prefer_source
prefer_source()
from gateway.recovery import main
sys.exit(main(sys.argv[1:]))
"""

OnEntry = Callable[[Entry, list[Event]], None]


class RecoveryError(Exception):
    """The engine cannot be brought to the journal's end. The message says why and what can be done."""


class SnapshotError(Exception):
    """A snapshot file is not usable; an older one, or the whole journal, has to do."""


# -------------------------------------------------------------------------------------------------------------- snapshots


class SnapshotHeader(msgspec.Struct, frozen=True):
    """First line of a snapshot file, as JSON. ``journal_checksum`` is the journal's chain at ``seq``: it proves that the
    snapshot belongs to this journal and to nothing else."""

    format: int
    epoch: str
    seq: int
    ts_ns: int
    state_hash: str
    journal_checksum: str
    body_bytes: int


def snapshot_paths(data_dir: Path) -> list[Path]:
    """Snapshot files, newest first."""
    return sorted((data_dir / SNAPSHOTS).glob(f"snapshot-{SEQ_DIGITS}.bin"), reverse=True)


def read_snapshot(path: Path) -> tuple[SnapshotHeader, Engine]:
    """The engine that ``path`` holds. Raises SnapshotError.

    A file is one line of JSON (the header), BLAKE2b-128 over it, and the engine's dump, whose hash is the header's
    ``state_hash``: what was written is read. That it restores to the state it was made of was proven when it was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path} cannot be read: {error}") from error
    line = data[: data.find(b"\n") + 1]
    try:
        header = msgspec.json.decode(line, type=SnapshotHeader)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{path} is damaged: its header cannot be read") from error
    if header.format != SNAPSHOT_FORMAT:
        raise SnapshotError(
            f"{path} has snapshot format {header.format}, this program reads format {SNAPSHOT_FORMAT}: the journal does "
            f"instead, and `hashpit snapshot` makes one of this format"
        )
    start = len(line) + _CHECKSUM_BYTES
    if _checksum(line) != data[len(line) : start]:
        raise SnapshotError(f"{path} is damaged: its checksum does not match its header")
    body = memoryview(data)[start:]
    if len(body) != header.body_bytes or hash_of(body) != header.state_hash:
        raise SnapshotError(f"{path} is damaged: its state hash does not match its content")
    try:
        with paused():
            engine = restore(body)
    except Exception as error:
        # The content is what was written, so this is a dump of another version of the engine.
        raise SnapshotError(f"{path} cannot be restored by this version: {error!r}") from error
    if engine.seq != header.seq:
        raise SnapshotError(f"{path} does not restore to the state that it was made of")
    return header, engine


def _checksum(line: bytes) -> bytes:
    return blake2b(line, digest_size=_CHECKSUM_BYTES).digest()


def write_snapshot(data_dir: Path, engine: Engine, epoch: str, journal_checksum: bytes) -> SnapshotHeader:
    """Write a snapshot of ``engine``, read it back and prove that it restores to the same state; the file has its name only
    then. Raises SnapshotError.
    """
    directory = data_dir / SNAPSHOTS
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    body = dump(engine)
    header = SnapshotHeader(SNAPSHOT_FORMAT, epoch, engine.seq, engine.ts_ns, hash_of(body), journal_checksum.hex(), len(body))
    line = msgspec.json.encode(header) + b"\n"
    path = directory / f"snapshot-{engine.seq:020d}.bin"
    draft = directory / f"draft-{os.getpid()}.tmp"
    try:
        draft.touch(mode=0o600)
        with draft.open("wb") as file:
            file.write(line)
            file.write(_checksum(line))
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        if state_hash(read_snapshot(draft)[1]) != header.state_hash:
            raise SnapshotError(f"{path} does not restore to the state that it was made of")
        draft.rename(path)
        sync_directory(directory)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return header


# --------------------------------------------------------------------------------------------------------------- recovery


class Recovered(NamedTuple):
    """An engine that stands where its journal ends."""

    engine: Engine
    journal: Journal
    replayed: int
    """Entries that were replayed behind the snapshot."""


def recover(
    data_dir: Path,
    limits: Limits | None = None,
    on_entry: OnEntry | None = None,
    progress: Progress | None = None,
    warn: Callable[[str], None] | None = None,
) -> Recovered:
    """Open the journal and bring an engine to its end: newest good snapshot, then the tail, each entry of it handed to
    ``on_entry`` with its events. A new data directory gets a new journal, with ``limits``.

    ``warn`` hears of snapshots that could not be used. Raises JournalError or RecoveryError; nothing was changed then.
    """
    _refuse_lost_journal(data_dir)
    journal = Journal(data_dir / JOURNAL, limits, progress)
    try:
        with paused():
            engine = _restore_newest(data_dir, journal, warn or _ignore)
            start = engine.seq
            _replay(engine, _history(data_dir, journal, start), journal.last_seq, on_entry, progress)
    except BaseException:
        journal.close()
        raise
    return Recovered(engine, journal, engine.seq - start)


def _refuse_lost_journal(data_dir: Path) -> None:
    """Raises JournalMissing when there is no journal, and something that was made of it."""
    path = data_dir / JOURNAL
    if not path.exists() and (snapshot_paths(data_dir) or archive_paths(data_dir / ARCHIVE)):
        raise JournalMissing(
            f"{path} is missing, but there are snapshots or archives of it: restore the data directory from a backup, or "
            f"move them away to start an empty exchange"
        )


def _open_journal(data_dir: Path) -> JournalReader:
    """The journal to read. Makes nothing. Raises JournalError."""
    _refuse_lost_journal(data_dir)
    return JournalReader(data_dir / JOURNAL)


def _ignore(message: str) -> None:
    """For callers that do not want to hear of it."""


def _replay(
    engine: Engine,
    history: Iterator[list[Entry]],
    last_seq: int,
    on_entry: OnEntry | None = None,
    progress: Progress | None = None,
    what: str = "replaying the journal",
) -> None:
    """Apply the history up to ``last_seq``: rows behind it were written since the journal was opened. Raises RecoveryError."""
    apply = engine.apply
    start = engine.seq
    told = start // PROGRESS_ENTRIES
    for entries in history:
        if entries[0].seq > last_seq:
            return
        for entry in entries:
            try:
                events = apply(entry)
            except Exception as error:
                raise RecoveryError(
                    f"the engine failed at journaled entry {entry.seq} ({type(entry.command).__name__}): {error!r}. This is a "
                    f"bug, or the journal was written by a version with other rules: start the version that wrote it"
                ) from error
            if on_entry is not None:
                on_entry(entry, events)
        if progress is not None and engine.seq // PROGRESS_ENTRIES > told:
            told = engine.seq // PROGRESS_ENTRIES
            progress(what, engine.seq - start, last_seq - start)


def _restore_newest(data_dir: Path, journal: JournalReader, warn: Callable[[str], None]) -> Engine:
    for path in snapshot_paths(data_dir):
        try:
            header, engine = read_snapshot(path)
        except SnapshotError as error:
            warn(f"{error}; going back to an older one")
            continue
        if header.epoch != journal.epoch:
            raise RecoveryError(
                f"{path} belongs to journal {header.epoch}, but {journal.path} is journal {journal.epoch}: one of them came "
                f"from elsewhere. Put the right journal back, or move the snapshots away"
            )
        if header.seq > journal.last_seq:
            raise RecoveryError(
                f"{journal.path} ends at entry {journal.last_seq}, but {path} was made at entry {header.seq}: acknowledged "
                f"entries are missing. Restore journal.db together with journal.db-wal"
            )
        if header.seq >= journal.base_seq:
            checksum = journal.checksum_at(header.seq)
            if checksum is None or checksum.hex() != header.journal_checksum:
                raise RecoveryError(f"{path} and {journal.path} disagree about the entries up to {header.seq}")
        return engine
    return Engine(journal.limits)


def _history(data_dir: Path, journal: JournalReader, after_seq: int) -> Iterator[list[Entry]]:
    """The entries after ``after_seq``, row by row, out of archives as far as the journal does not reach back.

    An entry's archive is looked for when it is needed: a running server may archive while this reads.
    """
    while after_seq < journal.base_seq:
        with _archive_of(data_dir, journal, after_seq) as archive:
            yield from _rows(archive, after_seq)
            after_seq = archive.last_seq
    yield from _rows(journal, after_seq)


def _rows(journal: JournalReader, after_seq: int) -> Iterator[list[Entry]]:
    for row in journal.rows(after_seq):
        entries = row_entries(row)
        yield entries if row.first_seq > after_seq else entries[after_seq + 1 - row.first_seq :]


@contextmanager
def _archive_of(data_dir: Path, journal: JournalReader, after_seq: int) -> Iterator[JournalReader]:
    for path in archive_paths(data_dir / ARCHIVE):
        with JournalReader(path) as archive:
            if archive.epoch == journal.epoch and archive.base_seq <= after_seq < archive.last_seq:
                yield archive
                return
    raise RecoveryError(
        f"entries {after_seq + 1} to {journal.base_seq} were archived out of {journal.path}, no snapshot at or behind entry "
        f"{journal.base_seq} is usable, and no file in {data_dir / ARCHIVE} holds entry {after_seq + 1}: put the archive back"
    )


# ------------------------------------------------------------------------------------------------- snapshots and archives


class SnapshotResult(msgspec.Struct, frozen=True):
    """What one run of the snapshot process did; it prints this as JSON."""

    path: str
    seq: int
    state_hash: str
    replayed: int
    archived_seq: int
    """The journal may forget its rows up to here; 0 for none."""


def make_snapshot(
    data_dir: Path, keep: int = SNAPSHOTS_KEPT, archive: bool = True, progress: Progress | None = None
) -> SnapshotResult:
    """Write a verified snapshot at the journal's end, next to a running server or without one.

    Afterwards only the newest ``keep`` snapshots remain, and rows older than all of them are copied to an archive (when
    ``archive``). Raises RecoveryError, SnapshotError or JournalError; the snapshots and rows from before are still there then.
    """
    assert keep >= 1, keep
    with _open_journal(data_dir) as journal, _only_one(data_dir / SNAPSHOTS), paused():
        engine = _restore_newest(data_dir, journal, _ignore)
        start = engine.seq
        _replay(engine, _history(data_dir, journal, start), journal.last_seq, None, progress)
        path = data_dir / SNAPSHOTS / f"snapshot-{engine.seq:020d}.bin"
        if engine.seq > start or not path.exists():
            hashed = write_snapshot(data_dir, engine, journal.epoch, journal.last_checksum).state_hash
        else:
            hashed = state_hash(engine)
        kept, old = snapshot_paths(data_dir)[:keep], snapshot_paths(data_dir)[keep:]
        for file in old:
            file.unlink()
        archived_seq = _archive(data_dir, journal, _seq_of(kept[-1])) if archive and len(kept) == keep else 0
        return SnapshotResult(str(path), engine.seq, hashed, engine.seq - start, archived_seq)


def _seq_of(path: Path) -> int:
    """The last seq in a snapshot's or archive's name."""
    return int(path.stem.rpartition("-")[2])


def _archive(data_dir: Path, journal: JournalReader, up_to_seq: int) -> int:
    """Copy what is not archived yet, up to ``up_to_seq``; how far the archives reach afterwards."""
    archived_seq = journal.base_seq
    for path in archive_paths(data_dir / ARCHIVE):
        with JournalReader(path) as archive:
            if archive.base_seq <= archived_seq < archive.last_seq:
                archived_seq = archive.last_seq
    written = write_archive(journal, data_dir / ARCHIVE, archived_seq, up_to_seq) if up_to_seq > archived_seq else None
    return archived_seq if written is None else _seq_of(written)


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Keep a second snapshot process out, and clear away what a killed one left."""
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / "lock"
    path.touch(mode=0o600)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SnapshotError(f"another process is making a snapshot in {directory}") from None
        for draft in directory.glob("draft-*.tmp"):
            draft.unlink()
        yield


def forget_archived(data_dir: Path, journal: Journal) -> bool:
    """Let the journal drop a few of the rows that archives hold; True while there are more. One short transaction."""
    for path in archive_paths(data_dir / ARCHIVE):
        if _seq_of(path) > journal.base_seq:
            with JournalReader(path) as archive:
                return journal.forget(archive) or path != archive_paths(data_dir / ARCHIVE)[-1]
    return False


def archive(data_dir: Path, journal: Journal, up_to_seq: int) -> int:
    """Move rows that end by ``up_to_seq`` into an archive, at once; the seq up to which the journal is archived now.

    For a journal that no sequencer is using; ``Snapshotter`` does it in small steps while one is.
    """
    _archive(data_dir, journal, up_to_seq)
    while forget_archived(data_dir, journal):
        pass
    return journal.base_seq


class Snapshotter:
    """Has a snapshot made every so many entries or seconds, without pausing trade, and lets the journal forget what was
    archived.

    ``last_seq`` tells the newest durable entry; ``between_commits`` runs a job in the journal's thread (the sequencer's
    method of that name). ``report`` hears of each snapshot, ``warn`` of each failure; the next interval tries again.
    """

    def __init__(
        self,
        data_dir: Path,
        journal: Journal,
        between_commits: Callable[[Callable[[], bool]], Awaitable[bool]],
        report: Callable[[SnapshotResult], None],
        warn: Callable[[str], None],
        every_entries: int = SNAPSHOT_EVERY_ENTRIES,
        every_s: float = SNAPSHOT_EVERY_S,
        keep: int = SNAPSHOTS_KEPT,
        archive: bool = True,
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._journal = journal
        self._between_commits = between_commits
        self._report = report
        self._warn = warn
        self._every_entries = every_entries
        self._every_s = every_s
        self._keep = keep
        self._archive = archive
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, inside the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; a snapshot process under way is killed, which harms nothing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        paths = snapshot_paths(self._data_dir)
        seq = _seq_of(paths[0]) if paths else 0
        since = monotonic()
        while True:
            await asyncio.sleep(min(CHECK_EVERY_S, self._every_s))
            behind = self._journal.last_seq - seq
            if behind < self._every_entries and (behind == 0 or monotonic() - since < self._every_s):
                continue
            try:
                result = await self._snapshot()
                while await self._between_commits(self._forget):
                    pass
                self._report(result)
                seq = result.seq
            except Exception as error:
                self._warn(f"no snapshot was made: {error}")
                seq = self._journal.last_seq  # the next attempt is due after a whole interval
            since = monotonic()

    def _forget(self) -> bool:
        return forget_archived(self._data_dir, self._journal)

    async def _snapshot(self) -> SnapshotResult:
        arguments = [str(self._data_dir), str(self._keep), *(["archive"] if self._archive else [])]
        process = _start(*arguments)
        try:
            output, errors = await asyncio.to_thread(_outcome, process)
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()
        if process.returncode:
            raise SnapshotError(errors.decode(errors="replace").strip() or f"the process ended with {process.returncode}")
        return msgspec.json.decode(output, type=SnapshotResult)


def _start(*arguments: str) -> subprocess.Popen[bytes]:
    """A snapshot process. Takes less than a millisecond.

    The event loop's own way to start one forks: that copies the page tables of the whole exchange, some 50 ms for a gigabyte,
    while everybody waits. This one shares the memory until the new program runs.
    """
    return subprocess.Popen(  # noqa: S603
        (sys.executable, "-c", _SNAPSHOT_PROCESS, *arguments),
        cwd=Path(__file__).parent.parent,  # makes a checkout that is not installed importable
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _outcome(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What a snapshot process said, once it has ended. For a thread: it waits. Raises SnapshotError."""
    with process:
        try:
            return process.communicate(timeout=SNAPSHOT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise SnapshotError(f"it took longer than {SNAPSHOT_TIMEOUT_S:.0f} s") from None


# ----------------------------------------------------------------------------------------------------------------- verify


class Findings(msgspec.Struct):
    """What ``verify`` saw. All is well when ``faults`` is empty."""

    epoch: str = ""
    first_seq: int = 0
    last_seq: int = 0
    snapshots: int = 0
    state_hash: str = ""
    """At the journal's end; only after a replay."""
    faults: list[str] = []


def verify(data_dir: Path, replay: bool = False, progress: Progress | None = None) -> Findings:
    """Look through every row of archives and journal and every snapshot; beside a running server too (rows that it archives at
    this very moment may show as missing: run it again).

    With ``replay`` the whole history is applied from entry 1, and each snapshot must have the state hash of that place.
    Raises JournalError only when there is no journal to look at.
    """
    findings = Findings()
    faults = findings.faults
    wal_fault_text = _stopped_wal_fault(data_dir)
    if wal_fault_text:
        faults.append(wal_fault_text)
    try:
        journal = _open_journal(data_dir)
    except JournalCorrupt as error:
        faults.append(str(error))
        return findings
    with journal:
        findings.epoch, findings.last_seq = journal.epoch, journal.last_seq
        findings.first_seq = _verify_archives(data_dir, journal, faults) + 1
        faults.extend(str(fault) for fault in journal.faults())
        hashes = _verify_snapshots(data_dir, journal, findings)
        if replay and not faults:
            _verify_replay(data_dir, journal, hashes, findings, progress)
    return findings


def _stopped_wal_fault(data_dir: Path) -> str:
    """The WAL's fault, if no server is writing to it at this moment."""
    try:
        with (data_dir / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return wal_fault(data_dir / f"{JOURNAL}-wal")
    except OSError:
        return ""


def _verify_archives(data_dir: Path, journal: JournalReader, faults: list[str]) -> int:
    """The seq before the first archived entry (or the journal's first, without archives)."""
    first: int | None = None
    seq, checksum = 0, b""
    for path in archive_paths(data_dir / ARCHIVE):
        try:
            with JournalReader(path) as archive:
                faults.extend(str(fault) for fault in archive.faults())
                if archive.epoch != journal.epoch:
                    faults.append(f"{path} belongs to journal {archive.epoch}, not to {journal.epoch}")
                if first is None:
                    first = archive.base_seq
                elif (archive.base_seq, archive.base_checksum) != (seq, checksum):
                    faults.append(f"{path} does not continue the archive before it: entries {seq + 1} to {archive.base_seq}")
                seq, checksum = archive.last_seq, archive.last_checksum
        except JournalError as error:
            faults.append(str(error))
    if first is None:
        return journal.base_seq
    # Rows that are archived and not yet forgotten are in both.
    if seq < journal.base_seq:
        faults.append(f"entries {seq + 1} to {journal.base_seq} are in no archive, and {journal.path} starts behind them")
    elif journal.checksum_at(seq) != checksum:
        faults.append(f"the archives and {journal.path} disagree about the entries up to {seq}")
    return first


def _verify_snapshots(data_dir: Path, journal: JournalReader, findings: Findings) -> dict[int, str]:
    hashes: dict[int, str] = {}
    for path in snapshot_paths(data_dir):
        findings.snapshots += 1
        try:
            header, _ = read_snapshot(path)
        except SnapshotError as error:
            findings.faults.append(str(error))
            continue
        hashes[header.seq] = header.state_hash
        checksum = journal.checksum_at(header.seq)
        if header.epoch != journal.epoch or header.seq > journal.last_seq:
            findings.faults.append(f"{path} was made at entry {header.seq} of journal {header.epoch}, not of this journal")
        elif header.seq >= journal.base_seq and (checksum is None or checksum.hex() != header.journal_checksum):
            findings.faults.append(f"{path} and {journal.path} disagree about the entries up to {header.seq}")
    return hashes


def _verify_replay(
    data_dir: Path, journal: JournalReader, hashes: dict[int, str], findings: Findings, progress: Progress | None
) -> None:
    engine = Engine(journal.limits)

    def compare(entry: Entry, events: list[Event]) -> None:
        if entry.seq in hashes and state_hash(engine) != hashes[entry.seq]:
            findings.faults.append(f"the snapshot at entry {entry.seq} is not what a replay from entry 1 gives")

    try:
        _replay(engine, _history(data_dir, journal, 0), journal.last_seq, compare, progress, "replaying everything")
    except (RecoveryError, JournalError) as error:
        findings.faults.append(str(error))
        return
    findings.state_hash = state_hash(engine)


# --------------------------------------------------------------------------------------------------------------- progress


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A Progress callback that draws a bar on standard error once the work takes longer than PROGRESS_AFTER_S, and only on
    a terminal."""
    console = Console(stderr=True)
    bar = ProgressBar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    began = monotonic()

    def progress(what: str, done: int, total: int) -> None:
        if not console.is_terminal or monotonic() - began < PROGRESS_AFTER_S:
            return
        if not bar.live.is_started:
            bar.start()
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    try:
        yield progress
    finally:
        if bar.live.is_started:
            bar.stop()


def main(arguments: list[str]) -> int:
    """The snapshot process: ``DATA KEEP [archive]``. Prints a SnapshotResult, or the error and ends with 1."""
    data_dir, keep, *rest = arguments
    try:
        result = make_snapshot(Path(data_dir), int(keep), "archive" in rest)
    except (SnapshotError, RecoveryError, JournalError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return 0
