"""A disk without files: the real journal's rows and checksum chain, real snapshots, and what happens to them at a crash.

:class:`Disk` is what survives a process. :class:`SimulatedJournal` is the real :class:`gateway.journal.Journal` with a list in
place of SQLite's table, so that appending, checking and reading rows is the product's own code. :class:`Writer` stands for the
journal's thread: a commit takes time, and a crash may come before, within or right behind it.
"""

import sqlite3
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from engine.accounts import Order
from engine.columns import known_orders
from engine.core import Engine
from engine.limits import Limits
from engine.snapshot import dump, hash_of, state_hash
from gateway import recovery
from gateway.auth import KeyStore, KeyStoreError, StoredKey
from gateway.journal import Journal, JournalReader, Row, first_link
from gateway.recovery import SNAPSHOT_FORMAT, SnapshotHeader, read_snapshot
from tests.simulation.coverage import Coverage
from tests.simulation.swarm import Plan
from tests.simulation.world import SECOND_NS, Died, Finding, Fn, Loop, World

SLOW_COMMIT_NS_MAX: Final = 5 * SECOND_NS
SNAPSHOT_NAME: Final = "snapshots/snapshot-{:020d}.bin"


class DiskPath:
    """As much of a Path as recovery uses."""

    def __init__(self, disk: "Disk", name: str = "") -> None:
        self.disk = disk
        self.name = name

    def __truediv__(self, part: str) -> "DiskPath":
        return DiskPath(self.disk, f"{self.name}/{part}" if self.name else part)

    def __str__(self) -> str:
        return self.name

    def __lt__(self, other: "DiskPath") -> bool:
        return self.name < other.name

    def glob(self, pattern: str) -> Iterator["DiskPath"]:
        if pattern.startswith("snapshot-"):
            yield from (DiskPath(self.disk, name) for name in self.disk.snapshots)

    def read_bytes(self) -> bytes:
        return self.disk.snapshots[self.name]


class Disk:
    """What the exchange has stored, and the faults that the disk has at this moment."""

    def __init__(self, world: World, plan: Plan, coverage: Coverage, limits: Limits) -> None:
        self.world = world
        self.plan = plan
        self.coverage = coverage
        self.limits = limits
        self.rng = world.random("disk")
        self.epoch = f"{self.rng.getrandbits(128):032x}"
        self.rows: list[Row] = []
        self.snapshots: dict[str, bytes] = {}
        self.keys: list[StoredKey] = []
        self.keys_version = 1
        self.engines: list[Engine] = []
        """Every engine that was ever brought up from what is here; see let_go."""
        self.full = False
        self.broken = False
        """The next write fails with an I/O error; nobody knows whether it was written."""

    @property
    def last_seq(self) -> int:
        """The last entry that no crash can take away."""
        return self.rows[-1].last_seq if self.rows else 0

    def write(self, row: Row) -> None:
        """One transaction: whole and synced, or an error."""
        if self.full:
            raise sqlite3.OperationalError("database or disk is full")
        if self.broken:
            self.broken = False
            if self.rng.random() < 0.5:
                self.rows.append(row)
            raise sqlite3.OperationalError("disk I/O error")
        self.rows.append(row)

    # ------------------------------------------------------------------------------------------------------- snapshots

    def store_snapshot(self, engine: Engine, checksum: bytes) -> None:
        """Keep a snapshot under its name, proven as the product proves it, and drop the oldest beyond ``keep``."""
        body = dump(engine)
        header = SnapshotHeader(SNAPSHOT_FORMAT, self.epoch, engine.seq, engine.ts_ns, hash_of(body), checksum.hex(), len(body))
        name = SNAPSHOT_NAME.format(engine.seq)
        self.snapshots[name] = _snapshot_file(header, bytes(body))
        restored = read_snapshot(DiskPath(self, name))[1]  # type: ignore[arg-type]
        self.engines.append(restored)
        if state_hash(restored) != header.state_hash:
            raise Finding(f"the snapshot at entry {engine.seq} does not restore to the state that it was made of")
        for old in sorted(self.snapshots, reverse=True)[self.plan.snapshots_kept :]:
            del self.snapshots[old]

    # -------------------------------------------------------------------------------------------------------------- rot

    def rot(self) -> "Rot | None":
        """Damage something that is stored; None when there is nothing to damage."""
        kinds = [kind for kind in self.plan.rots if (self.snapshots if kind.startswith("snapshot") else self.rows)]
        if not kinds:
            return None
        kind = self.rng.choice(kinds)
        rot = Rot(self, kind)
        if kind == "row changed":
            at = self.rng.randrange(len(self.rows))
            row = self.rows[at]
            self.rows[at] = row._replace(payload=_flipped(row.payload, self.rng.randrange(len(row.payload) * 8)))
        elif kind == "row lost":
            del self.rows[self.rng.choice((-1, self.rng.randrange(len(self.rows))))]
            at_end = self.last_seq != rot.rows[-1].last_seq
            if at_end and self._newest_snapshot_seq() <= self.last_seq:
                # Nobody can tell a journal that lost its end from one that never had it.
                rot.heal(self)
                return None
        elif kind == "rows swapped":
            at = self.rng.randrange(len(self.rows))
            other = self.rng.randrange(len(self.rows))
            one, two = self.rows[at], self.rows[other]
            self.rows[at] = one._replace(payload=two.payload, checksum=two.checksum)
            rot.must_fail = one.payload != two.payload
        elif kind == "snapshot changed":
            name = self.rng.choice(sorted(self.snapshots))
            data = self.snapshots[name]
            self.snapshots[name] = _flipped(data, self.rng.randrange(len(data) * 8))
            rot.must_fail = False
        else:
            name = max(self.snapshots)
            data = self.snapshots[name]
            line, _, _ = data.partition(b"\n")
            header = msgspec.json.decode(line, type=SnapshotHeader)
            if kind == "snapshot of another journal":
                header = replace(header, epoch="0" * 32)
            else:
                header = replace(header, journal_checksum="0" * 32)
            self.snapshots[name] = _snapshot_file(header, data[-header.body_bytes :])
        return rot

    def _newest_snapshot_seq(self) -> int:
        return int(max(self.snapshots)[-24:-4]) if self.snapshots else 0


class Rot:
    """Damage that was done, and the good copy from before it."""

    def __init__(self, disk: Disk, kind: str) -> None:
        self.kind = kind
        self.rows = [*disk.rows]
        self.snapshots = dict(disk.snapshots)
        self.must_fail = True
        """Whether recovery has to refuse; else it has to find another way, or cannot know."""

    def heal(self, disk: Disk) -> None:
        """Put the other copy of a mirrored disk in place."""
        disk.rows, disk.snapshots = self.rows, self.snapshots


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _snapshot_file(header: SnapshotHeader, body: bytes) -> bytes:
    line = msgspec.json.encode(header) + b"\n"
    return line + recovery._checksum(line) + body


# ----------------------------------------------------------------------------------------------------------------- journal


class _Table:
    """The one statement that the journal executes."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def execute(self, statement: str, values: tuple[int, int, bytes, bytes]) -> None:
        assert statement.startswith("INSERT INTO batches"), statement
        first_seq, last_seq, checksum, payload = values
        self._disk.write(Row(first_seq, last_seq, checksum, bytes(payload)))


class SimulatedJournal(Journal):
    """The real journal over the simulated disk. Raises what the real one raises."""

    def __init__(self, disk: Disk, check: bool = True) -> None:
        self.path = DiskPath(disk, "journal.db")  # type: ignore[assignment]
        self._disk = disk
        self._db = _Table(disk)  # type: ignore[assignment]
        self._lock = -1
        self._failed = False
        self.epoch = disk.epoch
        self.limits = disk.limits
        self.base_seq = 0
        self.base_checksum = first_link(disk.epoch)
        self.last_seq = disk.last_seq
        self.last_checksum = disk.rows[-1].checksum if disk.rows else self.base_checksum
        if check:
            for _ in self.rows(self.base_seq):
                pass

    def _rows_from(self, where: str, seq: int, rows_max: int, order: str = "ASC") -> list[Row]:
        rows = self._disk.rows
        if where == "first_seq > ?":
            start = bisect_right(rows, seq, key=_first_seq)
            return rows[start : start + rows_max]
        assert (where, rows_max, order) == ("first_seq <= ?", 1, "DESC"), where
        start = bisect_right(rows, seq, key=_first_seq)
        return rows[start - 1 : start] if start else []

    def close(self) -> None:
        pass


def _first_seq(row: Row) -> int:
    return row.first_seq


def recovered(disk: Disk, on_entry: recovery.OnEntry, warn: Callable[[str], None]) -> tuple[Engine, SimulatedJournal]:
    """``gateway.recovery.recover`` over the simulated disk: the same parts in the same order."""
    journal = SimulatedJournal(disk)
    engine = bring_up(disk, journal, on_entry, warn)
    return engine, journal


def bring_up(
    disk: Disk,
    journal: JournalReader,
    on_entry: recovery.OnEntry | None = None,
    warn: Callable[[str], None] = recovery._ignore,
) -> Engine:
    """Newest good snapshot, then the rows behind it."""
    path: Any = DiskPath(disk)
    engine = recovery._restore_newest(path, journal, warn)
    disk.engines.append(engine)
    recovery._replay(engine, recovery._history(path, journal, engine.seq), journal.last_seq, on_entry)
    return engine


def let_go(engine: Engine) -> None:
    """Take a dead engine's orders apart, so that its memory comes back.

    Accounts, books and orders know each other, and the garbage collector does not look into orders where they are compiled.
    """
    orders: list[Order] = []
    for account in engine.accounts.values():
        orders += known_orders(account)
        account.orders.clear()
        account.outcomes.clear()
    for order in orders:
        if order.level is not None:
            order.level.head = order.level.tail = None
        order.next = order.prev = order.level = None


class Writer:
    """The sequencer's Worker: one job at a time, at once while the disk is fast, else taking as long as the disk takes.

    ``die`` ends the process this instant.
    """

    def __init__(self, disk: Disk, loop: Loop, die: Fn) -> None:
        self._disk = disk
        self._loop = loop
        self._die = die
        self._is_fast = disk.plan.commits != "thread"
        self._jobs: deque[tuple[Fn, Fn]] = deque()

    def start(self, loop: Any) -> None:
        pass

    @property
    def fast(self) -> bool:
        return self._is_fast and not self._jobs

    def run(self, job: Fn) -> None:
        """A commit in the loop; the process may die before it, in it, or right behind it, before anybody hears of it."""
        assert not self._jobs, "jobs run one after the other"
        if self._disk.plan.dies_in_commit(self._disk.rng):
            if self._fate() == "commit kept":
                job()
            self._die()
            raise Died
        job()
        self._judge()

    def _judge(self) -> None:
        """How fast the disk was decides where the next commit runs."""
        if self._disk.plan.commits == "both":
            self._is_fast = self._disk.rng.random() < 0.7

    def put(self, job: Fn, then: Fn) -> None:
        self._jobs.append((job, then))
        if len(self._jobs) == 1:
            self._start()

    def close(self) -> None:
        pass

    def _start(self) -> None:
        plan, rng = self._disk.plan, self._disk.rng
        delay_ns = int(plan.commit_ns * (0.5 + rng.random()))
        if plan.chance(rng, "slow commit", 0.02):
            delay_ns = min(delay_ns * rng.choice((10, 100, 500)), SLOW_COMMIT_NS_MAX)
            self._disk.coverage.count("fault", "slow commit")
        self._disk.world.later(plan.on_grid(delay_ns), self._finish)

    def _finish(self) -> None:
        if not self._loop.alive:
            return
        job, then = self._jobs.popleft()
        job()
        self._judge()
        self._loop.call_soon(then)
        if self._jobs:
            self._start()

    def crash(self) -> None:
        """The process dies: what was being written is lost, torn (and dropped at the next start), or kept unbeknown."""
        if self._jobs and self._fate() == "commit kept":
            self._jobs[0][0]()
        self._jobs.clear()

    def _fate(self) -> str:
        fate = self._disk.rng.choice(("commit lost", "commit torn", "commit kept"))
        self._disk.coverage.count("fault", fate)
        return fate


# -------------------------------------------------------------------------------------------------------------------- keys


class _Sealer:
    """Stands for the master key: secrets on the simulated disk are not encrypted."""

    def encrypt(self, secret: bytes) -> bytes:
        return secret.hex().encode()

    def decrypt(self, sealed: bytes) -> bytes:
        return bytes.fromhex(sealed.decode())


class SimulatedKeys(KeyStore):
    """The real key store with its file on the simulated disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(DiskPath(disk))  # type: ignore[arg-type]

    def _stamp(self) -> tuple[int, int, int]:
        return (self._disk.keys_version, 0, 0)

    def _read(self) -> list[StoredKey]:
        return self._disk.keys

    def _write(self, keys: Any) -> None:
        if self._disk.full:
            raise KeyStoreError("keys.json: no space left on device")
        self._disk.keys = [*keys]
        self._disk.keys_version += 1
        self._seen = self._stamp()

    def _master(self, make: bool = False) -> Any:
        return _Sealer()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        yield
