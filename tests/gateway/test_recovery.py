"""restore(snapshot) + tail == replay(all), whatever was damaged, archived or killed in between."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest

from engine.commands import (
    Amend,
    Cancel,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListMarket,
    Place,
    ReportWork,
    SetDestination,
    Tick,
    Withdraw,
)
from engine.core import Engine
from engine.events import Event
from engine.limits import SECOND_NS, Limits
from engine.snapshot import dump, hash_of, state_hash
from engine.types import MarketSpec, OrderType, PostOnly, SelfTradePrevention, Side, TimeInForce
from gateway import recovery
from gateway.journal import (
    Journal,
    JournalCorrupt,
    JournalError,
    JournalLocked,
    JournalMissing,
    JournalReader,
    archive_paths,
    encode_batch,
)
from gateway.recovery import (
    RecoveryError,
    SnapshotError,
    SnapshotResult,
    Snapshotter,
    archive,
    make_snapshot,
    read_snapshot,
    recover,
    show_progress,
    snapshot_paths,
    verify,
)
from gateway.sequencer import Sequencer

ROOT = Path(__file__).resolve().parents[2]
START_NS = 1_700_000_000 * SECOND_NS
GATE_NS = START_NS + 1_800 * SECOND_NS

SPEC = MarketSpec(
    symbol="SHA256-20231115",
    algorithm="SHA256",
    speed_unit="PH/s",
    tick_size="0.00000001",
    lot_size="0.001",
    tick_lot_msat=144,
    lot_hashrate=10**12,
    gate_ns=GATE_NS,
    period_start_ns=GATE_NS + 60 * SECOND_NS,
    period_end_ns=GATE_NS + 660 * SECOND_NS,
    settle_ns=GATE_NS + 720 * SECOND_NS,
    reference_price=50_000,
    price_max=1_000_000,
    qty_max=1_000_000,
)


def flow(seed: int = 1) -> Iterator[tuple[int, Command]]:
    """Endless (ts_ns, command): a market's life with orders of every kind, its gate, proven work and settlement."""
    dice = random.Random(seed)
    ts_ns = START_NS
    for name in ("maker", "taker", "miner"):
        yield ts_ns, CreateAccount(name)
    for account in (100, 101, 102):
        yield ts_ns, Deposit(account, 10**13, "first")
    yield ts_ns, ListMarket(SPEC)
    yield ts_ns, SetDestination(101, SPEC.symbol, "stratum+tcp://pool.example:3333", "worker")
    seq = 8
    placed = [(100, seq)]
    while True:
        seq += 1
        ts_ns += dice.randrange(3 * SECOND_NS)
        account = dice.choice((100, 101, 102))
        draw = dice.random()
        if draw < 0.6:
            gtd = dice.random() < 0.2
            placed = [*placed[-20:], (account, seq)]
            yield (
                ts_ns,
                Place(
                    account,
                    SPEC.symbol,
                    dice.choice(list(Side)),
                    OrderType.LIMIT,
                    50_000 + dice.randrange(-50, 50),
                    dice.randrange(1, 500),
                    TimeInForce.GTD if gtd else dice.choice((TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)),
                    PostOnly.OFF,
                    False,
                    dice.choice(list(SelfTradePrevention)),
                    ts_ns + 60 * SECOND_NS if gtd else 0,
                    f"c{seq}" if dice.random() < 0.5 else "",
                ),
            )
        elif draw < 0.8:
            yield ts_ns, Cancel(*dice.choice(placed))
        elif draw < 0.9:
            yield ts_ns, Amend(*dice.choice(placed), "", 0, dice.randrange(1, 400))
        elif draw < 0.95:
            yield ts_ns, Withdraw(account, dice.randrange(10**9), f"w{seq}")
        elif draw < 0.98:
            yield ts_ns, ReportWork(dice.randrange(1, 9), dice.randrange(2**80), 10_000)
        else:
            yield ts_ns, Tick()


ENTRIES = [Entry(seq, ts_ns, command) for seq, (ts_ns, command) in zip(range(1, 2_001), flow(), strict=False)]


def hash_at(seq: int) -> str:
    """The state hash that an engine which saw everything has after entry ``seq``."""
    engine = Engine()
    for entry in ENTRIES[:seq]:
        engine.apply(entry)
    return state_hash(engine)


def test_the_flow_reaches_every_kind_of_state() -> None:
    engine = Engine()
    facts = {type(event).__name__ for entry in ENTRIES for event in engine.apply(entry)}
    assert facts >= {"Trade", "Amended", "Reduced", "Canceled", "DeliveryAssigned", "DeliveryUpdated", "DeliverySettled"}


def write(data_dir: Path, up_to: int, row: int = 7) -> None:
    """Bring the journal from where it is to entry ``up_to``, ``row`` entries a commit."""
    with Journal(data_dir / "journal.db") as journal:
        while journal.last_seq < up_to:
            batch = ENTRIES[journal.last_seq : min(journal.last_seq + row, up_to)]
            journal.append(batch[0].seq, batch[-1].seq, encode_batch(batch))


def recovered(data_dir: Path) -> tuple[str, int, list[str]]:
    """State hash, entries replayed and warnings of a recovery."""
    warnings: list[str] = []
    engine, journal, replayed = recover(data_dir, warn=warnings.append)
    journal.close()
    return state_hash(engine), replayed, warnings


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x04
    path.write_bytes(data)


def snapshots_and_archives(data_dir: Path) -> None:
    """Entries 1 to 2,000 with snapshots at 500, 1,000, 1,500; those up to 500 archived and forgotten."""
    for up_to in (500, 1_000, 1_500):
        write(data_dir, up_to)
        make_snapshot(data_dir)
    write(data_dir, 2_000)
    with Journal(data_dir / "journal.db") as journal:
        assert archive(data_dir, journal, 0) == 500


# ---------------------------------------------------------------------------------------------------------------- recovery


def test_an_empty_directory_becomes_an_empty_exchange(tmp_path: Path) -> None:
    engine, journal, replayed = recover(tmp_path / "new", Limits(orders_max=5))
    with journal:
        assert (engine.seq, engine.limits.orders_max, replayed) == (0, 5, 0)


def test_limits_are_those_the_journal_was_made_with(tmp_path: Path) -> None:
    recover(tmp_path, Limits(orders_max=5)).journal.close()
    engine, journal, _ = recover(tmp_path, Limits(orders_max=6))
    journal.close()
    assert engine.limits.orders_max == 5


def test_replays_everything_without_a_snapshot(tmp_path: Path) -> None:
    write(tmp_path, 1_000)
    assert recovered(tmp_path) == (hash_at(1_000), 1_000, [])


@pytest.mark.parametrize("at", [1, 8, 333, 1_400, 1_999, 2_000])
def test_snapshot_and_tail_equal_replay(tmp_path: Path, at: int) -> None:
    write(tmp_path, at)
    result = make_snapshot(tmp_path)
    assert (result.seq, result.replayed, result.state_hash) == (at, at, hash_at(at))
    write(tmp_path, 2_000)
    assert recovered(tmp_path) == (hash_at(2_000), 2_000 - at, [])


def test_the_tail_is_told_with_its_events(tmp_path: Path) -> None:
    write(tmp_path, 1_000)
    make_snapshot(tmp_path)
    write(tmp_path, 1_200)
    told: list[tuple[Entry, list[Event]]] = []
    recover(tmp_path, on_entry=lambda entry, events: told.append((entry, events))).journal.close()
    assert [entry for entry, _ in told] == ENTRIES[1_000:1_200]
    engine = Engine()
    events = [engine.apply(entry) for entry in ENTRIES[:1_200]]
    assert [item for _, item in told] == events[1_000:]


def test_the_recovered_pair_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 500)
    engine, journal, _ = recover(tmp_path)
    with journal:
        for entry in ENTRIES[500:600]:
            engine.apply(entry)
            journal.append(entry.seq, entry.seq, encode_batch([entry]))
    assert recovered(tmp_path) == (hash_at(600), 600, [])


def test_one_server_at_a_time(tmp_path: Path) -> None:
    _, journal, _ = recover(tmp_path)
    with journal, pytest.raises(JournalLocked):
        recover(tmp_path)


def test_progress_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PROGRESS_ENTRIES", 500)
    write(tmp_path, 1_000)
    told: list[tuple[str, int, int]] = []
    recover(tmp_path, progress=lambda *step: told.append(step)).journal.close()
    assert told[-2:] == [("replaying the journal", 504, 1_000), ("replaying the journal", 1_000, 1_000)]
    assert ("checking the journal", 1_000, 1_000) in told


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "PROGRESS_AFTER_S", 0.0)
    with show_progress() as progress:
        progress("replaying", 1, 2)
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal_when_it_takes_long(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with show_progress() as progress:
        progress("replaying", 1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(recovery, "PROGRESS_AFTER_S", 0.0)
    with show_progress() as progress:
        progress("replaying", 1, 2)
    assert "replaying" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------------ damage


def test_a_bad_row_stops_the_start(tmp_path: Path) -> None:
    write(tmp_path, 100)
    db = sqlite3.connect(tmp_path / "journal.db")
    with db:
        db.execute("UPDATE batches SET payload = zeroblob(9) WHERE first_seq = 50")
    db.close()
    with pytest.raises(JournalCorrupt, match="entries 50 to 56"):
        recover(tmp_path)
    assert any("entries 50 to 56" in fault for fault in verify(tmp_path).faults)


def test_any_damage_to_a_snapshot_is_noticed_and_an_older_one_does(tmp_path: Path) -> None:
    snapshots_and_archives(tmp_path)
    newest = snapshot_paths(tmp_path)[0]
    data = newest.read_bytes()
    for at in (0, 20, 100, 300, len(data) // 2, len(data) - 17, len(data) - 1):
        newest.write_bytes(data)
        flip(newest, at)
        with pytest.raises(SnapshotError, match="damaged"):
            read_snapshot(newest)
    state, replayed, warnings = recovered(tmp_path)
    assert (state, replayed) == (hash_at(2_000), 1_000)
    assert len(warnings) == 1
    assert newest.name in warnings[0]
    newest.write_bytes(data[:-1])
    assert recovered(tmp_path)[:2] == (hash_at(2_000), 1_000)


def test_without_a_good_snapshot_the_archives_do(tmp_path: Path) -> None:
    snapshots_and_archives(tmp_path)
    for path in snapshot_paths(tmp_path):
        flip(path, 200)
    state, replayed, warnings = recovered(tmp_path)
    assert (state, replayed, len(warnings)) == (hash_at(2_000), 2_000, 3)


def test_without_snapshots_and_archives_it_refuses(tmp_path: Path) -> None:
    snapshots_and_archives(tmp_path)
    for path in [*snapshot_paths(tmp_path), *archive_paths(tmp_path / "archive")]:
        path.unlink()
    with pytest.raises(RecoveryError, match=r"entries 1 to 500 were archived.*put the archive back"):
        recover(tmp_path)


def parts(path: Path) -> tuple[bytes, bytes]:
    """A snapshot's header line and its body."""
    data = path.read_bytes()
    line = data[: data.index(b"\n") + 1]
    return line, data[len(line) + 16 :]


def put_together(path: Path, line: bytes, body: bytes) -> None:
    path.write_bytes(line + blake2b(line, digest_size=16).digest() + body)


def with_hash_of(line: bytes, body: bytes) -> bytes:
    header = msgspec.json.decode(line)
    return msgspec.json.encode(header | {"state_hash": hash_of(body), "body_bytes": len(body)}) + b"\n"


def test_a_snapshot_that_lies_about_its_state_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, 300)
    make_snapshot(tmp_path)
    (path,) = snapshot_paths(tmp_path)
    line, body = parts(path)
    for lie, says in (
        (msgspec.json.encode(msgspec.json.decode(line) | {"state_hash": "00" * 32}) + b"\n", "its state hash"),
        (msgspec.json.encode(msgspec.json.decode(line) | {"seq": 299}) + b"\n", "does not restore to the state"),
    ):
        put_together(path, lie, body)
        state, replayed, warnings = recovered(tmp_path)
        assert (state, replayed) == (hash_at(300), 300)
        assert says in warnings[0]


def test_a_snapshot_that_does_not_restore_to_its_state_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 300)
    monkeypatch.setattr(recovery, "dump", lambda engine: dump(Engine()))
    monkeypatch.setattr(recovery, "read_snapshot", lambda path: (None, Engine(Limits(orders_max=1))))
    with pytest.raises(SnapshotError, match="does not restore to the state"):
        make_snapshot(tmp_path)
    assert snapshot_paths(tmp_path) == []


def test_a_snapshot_of_another_format_or_engine_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, 300)
    make_snapshot(tmp_path)
    (path,) = snapshot_paths(tmp_path)
    line, body = parts(path)
    for other, content, says in (
        (line.replace(b'"format":2', b'"format":3'), body, "snapshot format 3"),
        (with_hash_of(line, body[:-5]), body[:-5], "cannot be restored"),
        (line[:-2] + b"\n", body, "header cannot be read"),
        (b"\xff" + line, body, "header cannot be read"),
    ):
        put_together(path, other, content)
        with pytest.raises(SnapshotError, match=says):
            read_snapshot(path)


def test_a_journal_behind_its_snapshot_has_lost_entries(tmp_path: Path) -> None:
    write(tmp_path, 300)
    with sqlite3.connect(tmp_path / "journal.db") as db, sqlite3.connect(tmp_path / "backup.db") as backup:
        db.backup(backup)
    db.close()
    backup.close()
    write(tmp_path, 400)
    make_snapshot(tmp_path)
    (tmp_path / "backup.db").replace(tmp_path / "journal.db")
    with pytest.raises(RecoveryError, match=r"ends at entry 300.*was made at entry 400.*missing"):
        recover(tmp_path)
    assert "was made at entry 400" in verify(tmp_path).faults[0]


def test_a_journal_from_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, 300)
    make_snapshot(tmp_path / "a")
    (tmp_path / "b/journal.db").replace(tmp_path / "a/journal.db")
    with pytest.raises(RecoveryError, match="came from elsewhere"):
        recover(tmp_path / "a")


def test_a_missing_journal_beside_snapshots_is_not_a_new_exchange(tmp_path: Path) -> None:
    write(tmp_path, 300)
    make_snapshot(tmp_path)
    (tmp_path / "journal.db").unlink()
    before = sorted(tmp_path.rglob("*"))
    for use in (recover, make_snapshot, verify):
        with pytest.raises(JournalMissing, match="is missing, but there are snapshots"):
            use(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("use", [make_snapshot, verify])
def test_without_a_journal_nothing_is_made(tmp_path: Path, use: Callable[[Path], object]) -> None:
    for data_dir in (tmp_path, tmp_path / "misspelt"):
        with pytest.raises(JournalMissing, match=r"no journal at .*; `hashpit serve` makes one"):
            use(data_dir)
    assert [*tmp_path.iterdir()] == []


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    write(data_dir, 300)
    make_snapshot(data_dir)
    with Journal(data_dir / "journal.db") as journal:
        archive(data_dir, journal, 200)
        made = [data_dir, *data_dir.rglob("*")]
        modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in made}
        assert any("journal.db-wal" in name for name in modes)
        assert any("archive/journal-" in name for name in modes)
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}


def test_an_engine_that_fails_in_replay_names_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 300)

    class Broken:
        """Not a subclass: the compiled Engine has none."""

        def __init__(self, limits: Limits) -> None:
            self.seq, self._engine = 0, Engine(limits)

        def apply(self, entry: Entry) -> list[Event]:
            assert entry.seq != 9, "books do not balance"
            self.seq = entry.seq
            return self._engine.apply(entry)

    monkeypatch.setattr(recovery, "Engine", Broken)
    with pytest.raises(RecoveryError, match=r"entry 9 .*books do not balance"):
        recover(tmp_path)
    monkeypatch.undo()
    assert recovered(tmp_path)[0] == hash_at(300)  # the lock is free again


# --------------------------------------------------------------------------------------------------- snapshots and archives


def test_only_the_newest_snapshots_are_kept_and_older_rows_archived(tmp_path: Path) -> None:
    results = []
    for up_to in (300, 600, 900, 1_200):
        write(tmp_path, up_to)
        results.append(make_snapshot(tmp_path, keep=2))
    assert [result.archived_seq for result in results] == [0, 300, 600, 900]
    assert [result.replayed for result in results] == [300, 300, 300, 300]
    assert [recovery._seq_of(path) for path in snapshot_paths(tmp_path)] == [1_200, 900]
    with Journal(tmp_path / "journal.db") as journal:
        archive(tmp_path, journal, 0)
        assert journal.base_seq == 900
    assert [recovery._seq_of(path) for path in archive_paths(tmp_path / "archive")] == [300, 600, 900]
    assert recovered(tmp_path) == (hash_at(1_200), 0, [])
    for path in snapshot_paths(tmp_path):
        path.unlink()
    assert recovered(tmp_path) == (hash_at(1_200), 1_200, [])


def test_archiving_can_be_left_out(tmp_path: Path) -> None:
    for up_to in (300, 600):
        write(tmp_path, up_to)
        assert make_snapshot(tmp_path, keep=1, archive=False).archived_seq == 0
    assert not (tmp_path / "archive").exists()


def test_a_snapshot_without_news_is_the_same_one(tmp_path: Path) -> None:
    write(tmp_path, 300)
    first = make_snapshot(tmp_path)
    again = make_snapshot(tmp_path)
    assert (again.path, again.replayed) == (first.path, 0)
    flip(Path(first.path), 300)
    assert make_snapshot(tmp_path).replayed == 300
    assert recovered(tmp_path) == (hash_at(300), 0, [])


def test_a_snapshot_is_made_beside_a_writing_server(tmp_path: Path) -> None:
    write(tmp_path, 300)
    with Journal(tmp_path / "journal.db") as journal:
        batch = ENTRIES[300:400]
        journal.append(301, 400, encode_batch(batch))
        assert make_snapshot(tmp_path).seq == 400


def test_two_snapshot_processes_do_not_meet(tmp_path: Path) -> None:
    write(tmp_path, 10)
    with recovery._only_one(tmp_path / "snapshots"), pytest.raises(SnapshotError, match="another process"):
        make_snapshot(tmp_path)


def test_what_a_killed_snapshot_process_left_is_no_snapshot(tmp_path: Path) -> None:
    write(tmp_path, 10)
    make_snapshot(tmp_path)
    draft = tmp_path / "snapshots/draft-1.tmp"
    draft.write_bytes(b"half")
    assert recovered(tmp_path)[2] == []
    make_snapshot(tmp_path)
    assert not draft.exists()


def test_a_full_disk_leaves_the_old_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 300)
    make_snapshot(tmp_path, keep=1)
    write(tmp_path, 400)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SnapshotError, match="No space left"):
        make_snapshot(tmp_path, keep=1)
    monkeypatch.undo()
    assert [recovery._seq_of(path) for path in snapshot_paths(tmp_path)] == [300]
    assert list((tmp_path / "snapshots").glob("draft-*")) == []


# ------------------------------------------------------------------------------------------------------------------ verify


def test_verify_finds_nothing_wrong(tmp_path: Path) -> None:
    snapshots_and_archives(tmp_path)
    with JournalReader(tmp_path / "journal.db") as journal:
        epoch = journal.epoch
    findings = verify(tmp_path, replay=True)
    assert findings == recovery.Findings(epoch, 1, 2_000, 3, hash_at(2_000), [])
    with Journal(tmp_path / "journal.db"):  # beside a server as well
        assert verify(tmp_path).faults == []


def test_verify_finds_everything_wrong(tmp_path: Path) -> None:
    snapshots_and_archives(tmp_path)
    flip(snapshot_paths(tmp_path)[1], 200)
    (archived,) = archive_paths(tmp_path / "archive")
    for path, first_seq in ((archived, 8), (tmp_path / "journal.db", 1_205), (tmp_path / "journal.db", 1_604)):
        db = sqlite3.connect(path)
        with db:
            db.execute("UPDATE batches SET checksum = zeroblob(16) WHERE ? BETWEEN first_seq AND last_seq", (first_seq,))
        db.close()
    faults = verify(tmp_path, replay=True).faults
    assert len(faults) == 4 + 3  # a bad link shows in the row itself and in the one behind it
    text = "\n".join(faults)
    for name in (archived.name, "snapshot-00000000000000001000.bin", "journal.db"):
        assert name in text


def test_verify_finds_a_missing_archive(tmp_path: Path) -> None:
    for up_to in (300, 600, 900):
        write(tmp_path, up_to)
        make_snapshot(tmp_path, keep=1)
    with Journal(tmp_path / "journal.db") as journal:
        archive(tmp_path, journal, 0)
    archive_paths(tmp_path / "archive")[1].unlink()
    assert any("entries 301 to 600" in fault for fault in verify(tmp_path).faults)
    archive_paths(tmp_path / "archive")[1].unlink()
    assert any("entries 301 to 900 are in no archive" in fault for fault in verify(tmp_path).faults)


def test_verify_finds_a_snapshot_that_a_replay_does_not_give(tmp_path: Path) -> None:
    write(tmp_path, 300)
    make_snapshot(tmp_path)
    (path,) = snapshot_paths(tmp_path)
    with JournalReader(tmp_path / "journal.db") as journal:
        other = Engine()
        for entry in ENTRIES[:299]:
            other.apply(entry)
        other.apply(msgspec.structs.replace(ENTRIES[299], command=CreateAccount("nobody")))
        recovery.write_snapshot(tmp_path, other, journal.epoch, journal.last_checksum)
    assert read_snapshot(path)[0].seq == 300
    assert verify(tmp_path).faults == []
    assert verify(tmp_path, replay=True).faults == ["the snapshot at entry 300 is not what a replay from entry 1 gives"]


def test_verify_without_a_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        verify(tmp_path)


# ------------------------------------------------------------------------------------------------------------- snapshotter


class Server:
    """Engine, journal, sequencer and snapshotter, as the exchange wires them."""

    def __init__(self, data_dir: Path, every_entries: int = 1_000_000, every_s: float = 3_600.0) -> None:
        self.engine, self.journal, _ = recover(data_dir)
        self.now_ns = self.engine.ts_ns
        self.failures: list[BaseException] = []
        self.sequencer = Sequencer(
            self.engine, self.journal, lambda: self.now_ns, lambda entry, events: None, lambda: None, self.failures.append
        )
        self.results: list[SnapshotResult] = []
        self.warnings: list[str] = []
        self.snapshotter = Snapshotter(
            data_dir,
            self.journal,
            self.sequencer.between_commits,
            self.results.append,
            self.warnings.append,
            every_entries,
            every_s,
            keep=1,
        )

    async def trade(self, up_to: int) -> None:
        while self.engine.seq < up_to:
            entry = ENTRIES[self.engine.seq]
            self.now_ns = entry.ts_ns
            self.sequencer.submit(entry.command)
            if entry.seq % 50 == 0:
                await self.sequencer.drain()
        await self.sequencer.drain()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        await self.snapshotter.stop()
        self.sequencer.close()
        self.journal.close()


async def test_snapshots_come_while_trading_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "CHECK_EVERY_S", 0.02)
    server = Server(tmp_path, every_entries=300)
    server.sequencer.start()
    server.snapshotter.start()
    await server.trade(250)
    await asyncio.sleep(0.1)
    assert server.results == []
    await server.trade(400)
    while not server.results:
        await server.trade(min(server.engine.seq + 1, 1_900))
        await asyncio.sleep(0.005)
    first = server.results[0]
    assert first.seq >= 400
    assert first.state_hash == hash_at(first.seq)
    assert server.journal.base_seq == first.archived_seq > 0
    await server.trade(2_000)
    await server.until(lambda: len(server.results) >= 2 or server.journal.last_seq - first.seq < 300)
    await server.stop()
    assert (server.warnings, server.failures) == ([], [])
    assert recovered(tmp_path)[0] == hash_at(2_000)
    assert verify(tmp_path, replay=True).faults == []


async def test_a_snapshot_comes_by_time_only_when_there_is_news(tmp_path: Path) -> None:
    server = Server(tmp_path, every_s=0.02)
    server.sequencer.start()
    server.snapshotter.start()
    await server.trade(10)
    await server.until(lambda: len(server.results) == 1)
    await asyncio.sleep(0.2)
    await server.stop()
    assert [result.seq for result in server.results] == [10]


async def test_a_failed_snapshot_is_told_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("in the way")
    server = Server(tmp_path, every_s=0.02)
    server.sequencer.start()
    server.snapshotter.start()
    await server.trade(10)
    await server.until(lambda: len(server.warnings) == 1)
    assert "no snapshot was made" in server.warnings[0]
    (tmp_path / "snapshots").unlink()
    await server.trade(20)
    await server.until(lambda: len(server.results) == 1)
    await server.stop()
    assert server.results[0].seq == 20


async def test_a_snapshot_that_dawdles_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "SNAPSHOT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(recovery, "_SNAPSHOT_PROCESS", "import time; time.sleep(60)")
    server = Server(tmp_path, every_s=0.02)
    server.sequencer.start()
    server.snapshotter.start()
    await server.trade(10)
    await server.until(lambda: bool(server.warnings))
    await server.stop()
    assert "longer than" in server.warnings[0]


async def test_stop_ends_a_snapshot_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(recovery, "_SNAPSHOT_PROCESS", code)
    server = Server(tmp_path, every_s=0.02)
    server.sequencer.start()
    server.snapshotter.start()
    await server.trade(10)
    await server.until(lambda: pid_file.exists() and pid_file.read_text() != "")
    await server.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_the_snapshot_process_tells_what_it_did_or_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recovery.main([str(tmp_path), "3"]) == 1
    assert "no journal" in capsys.readouterr().err
    write(tmp_path, 10)
    assert recovery.main([str(tmp_path), "3", "archive"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out, type=SnapshotResult).seq == 10


# -------------------------------------------------------------------------------------------------------------- kill -9

VICTIM = """
import asyncio, pathlib, sys
from tests.gateway.test_recovery import ENTRIES, recover, Sequencer

async def main(data_dir):
    engine, journal, _ = recover(pathlib.Path(data_dir))
    now = [0]
    def acknowledge(entry, events):
        sys.stdout.write(f"{entry.seq}\\n")
    sequencer = Sequencer(engine, journal, lambda: now[0], acknowledge, sys.stdout.flush, print)
    sequencer.start()
    while engine.seq < len(ENTRIES):
        for entry in ENTRIES[engine.seq : engine.seq + 5]:
            now[0] = entry.ts_ns
            sequencer.submit(entry.command)
        await asyncio.sleep(0)
    await sequencer.drain()

asyncio.run(main(sys.argv[1]))
"""


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    dice = random.Random(5)
    acknowledged = 0
    while acknowledged < len(ENTRIES):
        victim = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        patience = dice.randrange(50, 800)
        for line in victim.stdout:
            assert int(line) == acknowledged + 1 or patience == 0, "acknowledged out of order"
            acknowledged = int(line)
            patience -= 1
            if patience == 0:
                victim.send_signal(signal.SIGKILL)
                break
        for line in victim.stdout:  # what it said before it died
            if line.endswith("\n"):
                acknowledged = int(line)
        victim.stdout.close()
        victim.wait()
        engine, journal, _ = recover(tmp_path)
        journal.close()
        assert engine.seq >= acknowledged
        assert state_hash(engine) == hash_at(engine.seq)
        acknowledged = engine.seq
