"""Snapshots: what is restored goes on exactly as the original would have."""

import random

import pytest
from msgspec import msgpack
from msgspec.structs import replace

from engine.commands import (
    Cancel,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListLive,
    ListMarket,
    Place,
    ReportWork,
    Tick,
    Withdraw,
)
from engine.core import Engine
from engine.events import Accepted, Canceled, Event
from engine.invariants import check
from engine.limits import MONEY_MAX_MSAT, SECOND_NS, SHARES_MAX, WORK_MAX_HASHES, Limits
from engine.snapshot import FORMAT, _Snapshot, dump, restore, state_hash
from engine.types import MarketSpec, OrderType, Side
from tests.engine.live import LIVE
from tests.reference.exchange import NaiveExchange
from tests.reference.market import SPEC, START_NS
from tests.reference.stream import SMALL, Stream


def recorded(seed: int, count: int) -> list[Entry]:
    oracle = NaiveExchange(SMALL)
    entries = []
    for entry in Stream(oracle, seed).entries(count):
        oracle.apply(entry)
        entries.append(entry)
    return entries


@pytest.mark.parametrize("seed", range(8))
def test_a_restored_engine_goes_on_as_the_original(seed: int) -> None:
    rng = random.Random(seed)
    original, copy = Engine(SMALL), Engine(SMALL)
    for entry in recorded(seed, 3_000):
        assert copy.apply(entry) == original.apply(entry)
        if rng.random() < 0.01:
            copy = restore(dump(copy))
            check(copy)
            assert dump(copy) == dump(original)
            assert copy.next_due_ns() == original.next_due_ns()
    assert state_hash(copy) == state_hash(original)


def exchange(ada: int = 10_000, limits: Limits | None = None, spec: MarketSpec = SPEC) -> Engine:
    """A market, ada with as much money as asked for, and bob with 10,000 msat."""
    engine = Engine(limits)
    apply(engine, CreateAccount("ada"), START_NS)
    apply(engine, CreateAccount("bob"), START_NS)
    apply(engine, Deposit(100, ada, "first"), START_NS)
    apply(engine, Deposit(101, 10_000, "first"), START_NS)
    apply(engine, ListMarket(spec), START_NS)
    return engine


def apply(engine: Engine, command: Command, now: int) -> Event:
    """The first event that answers."""
    return engine.apply(Entry(engine.seq + 1, now, command))[0]


def test_the_empty_engine() -> None:
    engine = restore(dump(Engine()))
    assert state_hash(engine) == state_hash(Engine())
    assert (engine.seq, engine.ts_ns, engine.next_due_ns()) == (0, 0, 0)


def test_equal_histories_have_equal_bytes_and_different_ones_have_not() -> None:
    one, two = Engine(SMALL), Engine(SMALL)
    seen = {state_hash(one)}
    for entry in recorded(seed=5, count=500):
        one.apply(entry)
        two.apply(entry)
        assert dump(one) == dump(two)
        seen.add(state_hash(one))
    assert len(seen) == 501, "every entry changes the state, if only its sequence number"


def test_the_limits_are_part_of_the_state() -> None:
    limits = Limits(orders_max=7)
    assert restore(dump(Engine(limits))).limits == limits
    assert state_hash(Engine(limits)) != state_hash(Engine())


def test_an_order_that_outlives_its_id_s_time_is_remembered_until_it_ends() -> None:
    engine = exchange(limits=Limits(client_order_id_ns=SECOND_NS))
    place = Place(100, "M1", Side.BUY, OrderType.LIMIT, 1, 1, client_order_id="old")
    for seconds in range(3):
        event = apply(engine, place, START_NS + seconds * SECOND_NS)
        assert isinstance(event, Accepted)
        assert event.repeat == (seconds > 0)
        engine = restore(dump(engine))
    assert isinstance(apply(engine, Cancel(100, 0, "old"), engine.ts_ns), Canceled)
    engine = restore(dump(engine))
    event = apply(engine, place, engine.ts_ns)
    assert isinstance(event, Accepted)
    assert not event.repeat


@pytest.mark.parametrize("count", [0, 1, 10, -1])
def test_a_damaged_snapshot_is_refused(count: int) -> None:
    whole = dump(Engine())
    with pytest.raises(ValueError, match=r"truncated|snapshot"):
        restore(whole[:count])
    with pytest.raises(ValueError, match=r"trailing|snapshot"):
        restore(whole + b"\0")


@pytest.mark.parametrize("field", ["queued", "remembered"])
@pytest.mark.parametrize("count", [1, 2**60])
def test_more_places_than_orders_are_refused_before_memory_is_taken(field: str, count: int) -> None:
    fields = msgpack.decode(dump(Engine()))
    fields[_Snapshot.__struct_fields__.index(field)] = count
    with pytest.raises(ValueError, match="not a snapshot"):
        restore(msgpack.encode(fields))


@pytest.mark.parametrize("column", [-2, -1], ids=["queued", "remembered"])
def test_two_orders_at_one_place_are_refused(column: int) -> None:
    engine = exchange()
    for number in range(2):
        apply(engine, Place(100, "M1", Side.BUY, OrderType.LIMIT, 1, 1, client_order_id=f"o{number}"), START_NS)
    fields = msgpack.decode(dump(engine))
    columns = fields[_Snapshot.__struct_fields__.index("orders")][0][0]
    assert isinstance(columns[column], bytes)
    columns[column] = columns[column][0]
    with pytest.raises(ValueError, match="not a snapshot"):
        restore(msgpack.encode(fields))


@pytest.mark.parametrize("bids", [-1, 1, 3])
def test_a_book_with_more_or_fewer_orders_than_places_is_refused(bids: int) -> None:
    engine = exchange()
    for _ in range(2):
        apply(engine, Place(100, "M1", Side.BUY, OrderType.LIMIT, 1, 1), START_NS)
    fields = msgpack.decode(dump(engine))
    market = fields[_Snapshot.__struct_fields__.index("markets")][0]
    assert market[4:6] == [2, 0]
    market[4] = bids
    with pytest.raises(ValueError, match="not a snapshot"):
        restore(msgpack.encode(fields))


def test_another_format_is_refused_by_its_number() -> None:
    fields = msgpack.decode(dump(Engine()))
    assert fields[0] == FORMAT
    fields[0] = FORMAT + 1
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}"):
        restore(msgpack.encode(fields))


def test_what_was_paid_and_earned_in_all_has_no_bound() -> None:
    """Without a collar the same money may be paid for the same thing again and again."""
    high, much = 2**40, 2**20
    spec = replace(SPEC, price_max=high, qty_max=much, tick_lot_msat=1, maker_fee_bps=0, taker_fee_bps=0)
    engine = exchange(10**12, spec=spec)
    apply(engine, CreateAccount("cyd"), START_NS)
    apply(engine, Deposit(101, 10**12, "more"), START_NS)
    apply(engine, Deposit(102, high * much, "first"), START_NS)
    for turn in range(10):
        apply(engine, Place(100, "M1", Side.SELL, OrderType.LIMIT, 1, much), START_NS)
        apply(engine, Place(101, "M1", Side.BUY, OrderType.LIMIT, 1, much), START_NS)
        apply(engine, Place(102, "M1", Side.BUY, OrderType.LIMIT, high, much), START_NS)
        apply(engine, Place(101, "M1", Side.SELL, OrderType.LIMIT, high, much, reduce_only=True), START_NS)
        apply(engine, Withdraw(101, high * much, f"out{turn}"), START_NS)
        apply(engine, Deposit(102, high * much, f"in{turn}"), START_NS)
    assert engine.accounts[102].positions["M1"].basis == 10 * high * much > 2**63
    assert state_hash(restore(dump(engine))) == state_hash(engine)


def test_money_fills_64_bits_and_work_more() -> None:
    engine = exchange(ada=MONEY_MAX_MSAT - 10_000, spec=replace(SPEC, lot_hashrate=2**63 - 1))
    apply(engine, Place(100, "M1", Side.BUY, OrderType.LIMIT, 1, 1), START_NS)
    apply(engine, Place(101, "M1", Side.SELL, OrderType.LIMIT, 1, 1), START_NS)
    apply(engine, Tick(), SPEC.period_start_ns)
    apply(engine, ReportWork(1, WORK_MAX_HASHES, SHARES_MAX), SPEC.period_start_ns)
    restored = restore(dump(engine))
    assert state_hash(restored) == state_hash(engine)
    assert restored.accounts[100].balance == MONEY_MAX_MSAT - 10_000 - 1_001
    assert restored.deliveries[1].proven_hashes == WORK_MAX_HASHES
    assert restored.deliveries[1].contracted_hashes == (2**63 - 1) * 86_400


def test_live_markets_come_back_in_the_order_in_which_they_were_listed() -> None:
    engine = Engine()
    for name in ("B", "C", "A"):
        engine.apply(Entry(engine.seq + 1, START_NS, ListLive(replace(LIVE, symbol=name))))
    restored = restore(dump(engine))
    assert [*restored.live.markets] == ["B", "C", "A"]
    assert dump(restored) == dump(engine)
