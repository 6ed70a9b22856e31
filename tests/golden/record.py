"""What each version wrote, kept for ever: ``tests/golden/<version>/``, and how to record this version's.

    python -m tests.golden.record            this version's recording; its journal stays as it is if there is one
    python -m tests.golden.record journal    with a new journal

A recording is a data directory as that version left it: an archive, ``journal.db`` and a snapshot between them, with every
command in it, and ``recording.json``: what the state was at every checkpoint and what had been told by then. It is compared by
*facts*, money, positions, orders and events, which no change of a layout concerns, and by ``state_hash`` as long as the layout
of the state is the one of the recording.

A version that is released (CHANGELOG.md has a heading for it) is never recorded again. Before that, a change of
``recording.json`` in a commit means that the same journal now replays to another state: say why.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any, Final, cast

from msgspec import Struct, json, to_builtins

import hashpit
from engine import snapshot
from engine.accounts import Order
from engine.commands import Entry
from engine.core import Engine
from engine.events import FIELDS, Event
from gateway import journal as journals
from gateway import recovery
from gateway.journal import Journal, JournalReader
from tests.reference.exchange import NaiveExchange
from tests.reference.live_stream import LIVE_SMALL, LiveStream

HERE: Final = Path(__file__).parent
RECORDING: Final = "recording.json"
SEED, ENTRIES, CHECKPOINT = 5, 3_000, 250
ARCHIVED, SNAPSHOT = 250, 1_000
"""Entries in the archive, and where the snapshot stands."""
ROW_ENTRIES_MAX = 20


class Checkpoint(Struct):
    """How things stood after an entry. Hashes are BLAKE2b-256 in hex."""

    facts: str
    events: str
    """Of all events up to there."""
    state_hash: str


class Recording(Struct):
    """What a version wrote of itself."""

    version: str
    journal_format: int
    snapshot_format: int
    state_format: int
    """Layout of the state, on which ``state_hash`` depends."""
    fields: dict[str, list[str]]
    """The fields of each event of that time: later ones are not looked at."""
    checkpoints: dict[int, Checkpoint]


def versions() -> list[str]:
    """Every version that has a recording."""
    return sorted(path.parent.name for path in HERE.glob(f"*/{RECORDING}"))


def read(version: str) -> Recording:
    return json.decode((HERE / version / RECORDING).read_bytes(), type=Recording)


# ------------------------------------------------------------------------------------------------------------------ facts


def facts(engine: Engine) -> str:
    """Hash of what traders would call the state. When the engine names things otherwise, this follows, and its result stays."""
    accounts = [
        [
            *(account.account_id, account.name, account.balance, account.held, account.event_seq),
            [
                (symbol, at.qty, str(at.basis), at.bond, str(at.realized))
                for symbol, at in sorted(account.positions.items())
                if (at.qty, at.basis, at.bond, at.realized) != (0, 0, 0, 0)
            ],
            sorted(account.orders),
        ]
        for _, account in sorted(engine.accounts.items())
    ]
    markets = [
        [
            *(symbol, market.state.value, market.last_price, market.trade_id),
            [
                [
                    (order.order_id, order.price, order.remaining, order.account.account_id, order.client_order_id)
                    for order in cast("list[Order]", market.book.orders_best_first(is_buy))
                ]
                for is_buy in (True, False)
            ],
        ]
        for symbol, market in sorted(engine.markets.items())
    ]
    deliveries = [
        [
            *(number, delivery.market, delivery.seller, delivery.buyer, delivery.qty, delivery.state.value),
            *(delivery.proceeds, delivery.bond, str(delivery.cost), str(delivery.contracted_hashes)),
            *(str(delivery.proven_hashes), str(delivery.excused_hashes), delivery.url, delivery.worker),
        ]
        for number, delivery in sorted(engine.deliveries.items())
    ]
    everything = [engine.seq, engine.ts_ns, engine.deposited, accounts, markets, deliveries]
    if live := _live_facts(engine):
        everything.append(live)
    return blake2b(json.encode(everything), digest_size=32).hexdigest()


def _live_facts(engine: Engine) -> list[Any]:
    """Live markets with their orders and flows, and pools; empty where there are none."""
    markets = [
        [
            *(symbol, market.state.value, market.marginal, market.index_price),
            [
                (order.order_id, order.price, order.remaining, order.assigned, order.account.account_id)
                for _, order in sorted(market.orders.items())
            ],
        ]
        for symbol, market in sorted(engine.live.markets.items())
    ]
    flows = [
        (number, flow.bid.order_id, flow.ask.order_id, flow.speed, str(flow.hashes), str(flow.paid_hashes), flow.cost)
        for number, flow in sorted(engine.live.flowing.by_id.items())
    ]
    pools = [
        (account_id, pool.pool_id, pool.name, pool.url, pool.worker)
        for account_id, account in sorted(engine.accounts.items())
        for _, pool in sorted(account.pools.items())
    ]
    return [markets, flows, pools] if markets or flows or pools else []


class Told:
    """The hash of all events so far, each by the fields in ``fields``; while recording, those of unknown ones are noted."""

    def __init__(self, fields: dict[str, list[str]], recording: bool = False) -> None:
        self.fields = fields
        self._recording = recording
        self._hash = blake2b(digest_size=32)

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            self._hash.update(json.encode(self._plain(event)))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _plain(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [self._plain(one) for one in value]
        named = FIELDS[type(value)] if type(value) in FIELDS else getattr(value, "__struct_fields__", None)
        if named is None:
            return str(value) if type(value) is int else to_builtins(value)
        name = type(value).__name__
        if self._recording:
            self.fields.setdefault(name, [*named])
        return [name, *(self._plain(getattr(value, field)) for field in self.fields[name])]


# -------------------------------------------------------------------------------------------------------------- recording


def stream() -> Iterator[Entry]:
    """What a new journal is made of: commands of every kind, good and bad."""
    oracle = NaiveExchange(LIVE_SMALL)
    for entry in LiveStream(oracle, SEED).entries(ENTRIES):
        oracle.apply(entry)
        yield entry


def write_journal(directory: Path, commands: Iterable[Entry]) -> None:
    """A journal with rows of many sizes, its first part archived."""
    random = Random(SEED)
    with Journal(directory / recovery.JOURNAL, LIVE_SMALL) as journal:
        batch: list[Entry] = []
        size = 1
        for entry in commands:
            batch.append(entry)
            if len(batch) == size or entry.seq % CHECKPOINT == 0:
                journal.append(batch[0].seq, entry.seq, journals.encode_batch(batch))
                batch, size = [], random.randint(1, ROW_ENTRIES_MAX)
        recovery.archive(directory, journal, ARCHIVED)
        journal._db.execute("VACUUM")


def entries(directory: Path) -> list[Entry]:
    """The whole history, archive and journal."""
    found: list[Entry] = []
    for path in [*journals.archive_paths(directory / recovery.ARCHIVE), directory / recovery.JOURNAL]:
        with JournalReader(path) as reader:
            found += reader.entries(len(found))
    return found


def replay(directory: Path, version: str) -> Recording:
    """What the journal comes to, checkpoint by checkpoint; writes the snapshot."""
    told = Told({}, recording=True)
    checkpoints = {}
    with JournalReader(directory / recovery.JOURNAL) as journal:
        engine = Engine(journal.limits)
        for entry in entries(directory):
            told.add(engine.apply(entry))
            if entry.seq % CHECKPOINT == 0:
                checkpoints[entry.seq] = Checkpoint(facts(engine), told.hexdigest(), snapshot.state_hash(engine))
            if entry.seq == SNAPSHOT:
                checksum = journal.checksum_at(entry.seq)
                assert checksum is not None
                recovery.write_snapshot(directory, engine, journal.epoch, checksum)
    formats = journals.FORMAT, recovery.SNAPSHOT_FORMAT, snapshot.FORMAT
    return Recording(version, *formats, dict(sorted(told.fields.items())), checkpoints)


def record(version: str, new_journal: bool = False) -> None:
    """Write ``tests/golden/<version>``. Raises SystemExit for one that is released."""
    kept = HERE / version
    if kept.exists() and f"## [{version}]" in (HERE.parents[1] / "CHANGELOG.md").read_text(encoding="utf-8"):
        raise SystemExit(f"{version} is released: what it wrote stays as it is")
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch, version)
        if new_journal or not (kept / recovery.JOURNAL).exists():
            write_journal(directory, stream())
        else:
            shutil.copytree(kept, directory)
            shutil.rmtree(directory / recovery.SNAPSHOTS)
        recording = replay(directory, version)
        shutil.rmtree(kept, ignore_errors=True)
        # SQLite's own files and locks are none of what was written.
        shutil.copytree(directory, kept, ignore=shutil.ignore_patterns("*-wal", "*-shm", "lock"))
    (kept / RECORDING).write_bytes(json.format(json.encode(recording)) + b"\n")


if __name__ == "__main__":
    record(hashpit.__version__, sys.argv[1:] == ["journal"])
