"""Channels of live markets: snapshot and deltas add up to the engine's crossing, gaps show, slow readers are conflated."""

import random
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest

from engine.book import Resting
from engine.commands import (
    AmendAsk,
    AmendBid,
    Cancel,
    CancelAll,
    ListLive,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    SetIndex,
    SetMarketState,
    Tick,
)
from engine.crossing import Slot
from engine.events import FlowChanged, FlowPaid
from engine.limits import SECOND_NS
from engine.markets.live import NO_LIMIT, LiveMarket
from engine.types import LiveSpec, MarketState, Peg
from gateway.channels.base import CONFLATE_BYTES, Terms
from gateway.channels.live import SNAPSHOT_STARTS, STARTS_KEPT, UNLIMITED, LiveDepth
from gateway.channels.live_ticker import SHORT_MINUTES
from gateway.channels.ticker import MINUTE_NS, WINDOW_MINUTES
from gateway.codec import JSON, MSGPACK, Codec
from gateway.config import LiveListing
from gateway.feeds import Feeds
from gateway.listings import live_market
from gateway.scale import Scale
from tests.gateway.test_channels import Reader, Reads, Rig

POOL = ("stratum+tcp://pool.example:3333", "w.1")
BUDGET = 10**10
Level = list[Any]


def listed(rig: Rig, **terms: Any) -> LiveSpec:
    """A live market whose prices go down freely, with small numbers, unless ``terms`` say otherwise."""
    free = {
        "decrease_step": "0",
        "decrease_interval_s": 0,
        "speed_min": "0.001",
        "budget_min": "0.00000000001",
        "buyer_fee_bps": 0,
    }
    spec = live_market(LiveListing(**{"algorithm": "SHA256", **free, **terms}))
    rig.run(ListLive(spec))
    return spec


def bid(rig: Rig, account: int, price: int, limit: int = 0, budget: int = BUDGET, **more: Any) -> int:
    rig.run(PlaceBid(account, "SHA256-LIVE", price, limit, budget, *POOL, **more))
    return rig.engine.seq


def ask(rig: Rig, account: int, price: int, speed: int) -> int:
    rig.run(PlaceAsk(account, "SHA256-LIVE", price, speed))
    return rig.engine.seq


def levels_of(orders: list[Resting], terms: Terms) -> list[Level]:
    """One side of the engine's crossing as the channel shows it."""
    levels: dict[int, list[int]] = {}
    for order in orders:
        assert isinstance(order, Slot)
        level = levels.setdefault(order.price, [0, 0, 0])
        if order.remaining >= NO_LIMIT:
            level[1] += 1
        else:
            level[0] += order.remaining
        level[2] += order.assigned
    price, qty = terms.price.format, terms.qty.format
    return [[price(ticks), None if unlimited else qty(size), qty(held)] for ticks, (size, unlimited, held) in levels.items()]


class LocalLive:
    """What a client makes of a live channel's messages; proves number and checksum of each."""

    def __init__(self, spec: LiveSpec) -> None:
        self.price, self.qty = Scale(spec.tick_size), Scale(spec.lot_size)
        self.sides: dict[str, dict[int, Level]] = {"bids": {}, "asks": {}}
        self.seq = -1
        self.about: dict[str, Any] = {}

    def apply(self, message: dict[str, Any]) -> None:
        if message["type"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert message["type"] == "delta"
            assert message["prev_seq"] == self.seq
        self.seq = message["seq"]
        for name, side in self.sides.items():
            for level in message["data"][name]:
                ticks = self.price.parse(level[0])
                if level[1] is not None and not self.qty.parse(level[1]):
                    del side[ticks]
                else:
                    side[ticks] = level
        self.about = {name: message["data"][name] for name in ("state", "assigned", "marginal")}
        assert message["data"]["checksum"] == self.checksum()

    def levels(self) -> tuple[list[Level], list[Level]]:
        bids, asks = self.sides["bids"], self.sides["asks"]
        return [bids[price] for price in sorted(bids, reverse=True)], [asks[price] for price in sorted(asks)]

    def checksum(self) -> int:
        def text(letter: str, level: Level) -> str:
            size = "-" if level[1] is None else str(self.qty.parse(level[1]))
            return f"{letter}{self.price.parse(level[0])}:{size}:{self.qty.parse(level[2])};"

        bids, asks = self.levels()
        return crc32("".join([*(text("b", one) for one in bids[:10]), *(text("a", one) for one in asks[:10])]).encode())


def same(local: LocalLive, market: LiveMarket) -> None:
    """The copy is what the engine has."""
    terms = Terms(market.spec)
    crossing = market.crossing
    bids, asks = local.levels()
    assert bids == levels_of(crossing.bids.orders_best_first(True), terms)
    assert asks == levels_of(crossing.asks.orders_best_first(False), terms)
    assert local.about["assigned"] == terms.qty.format(crossing.ask_total)
    assert local.about["marginal"] == (terms.price.format(market.marginal) if market.marginal else None)
    assert local.about["state"] == market.state.name.lower()


def mixed(rig: Rig, rng: random.Random, accounts: list[int]) -> Iterator[Any]:
    """Commands of all kinds, most of them good."""
    while True:
        account = rng.choice(accounts)
        mine = rig.engine.accounts[account].live
        order = rng.choice([*mine, 1]) if mine else 1
        price, lots = rng.randrange(1, 30), rng.randrange(1, 20)
        pegged = rng.random() < 0.2
        yield rng.choice(
            [
                PlaceBid(
                    account,
                    "SHA256-LIVE",
                    price,
                    rng.choice([0, lots]),
                    rng.choice([5, 10**4, 10**9]),
                    *POOL,
                    peg=rng.choice([Peg.TOP, Peg.MARGINAL, Peg.INDEX]) if pegged else Peg.NONE,
                    offset=rng.randrange(-3, 4) if pegged else 0,
                ),
                PlaceAsk(account, "SHA256-LIVE", price, lots),
                AmendBid(account, order, price=rng.choice([0, price]), limit=rng.choice([-1, 0, lots])),
                AmendAsk(account, order, price=price, speed=rng.choice([0, lots])),
                RefillBid(account, order, "", 10**5, f"r{rig.engine.seq}"),
                Cancel(account, order),
                ReportFlow(
                    rng.choice([*rig.engine.live.flowing.by_id, 1]), rng.choice([10**12, 10**15, 10**18]), rng.random() < 0.3
                ),
                SetIndex("SHA256-LIVE", price),
                SetMarketState("SHA256-LIVE", rng.choice([MarketState.OPEN, MarketState.OPEN, MarketState.CANCEL_ONLY])),
                CancelAll(account) if rng.random() < 0.05 else Tick(),
            ]
        )


@pytest.mark.parametrize("seed", range(6))
def test_snapshots_and_deltas_add_up_to_the_crossing(seed: int) -> None:
    """Readers that join, resync and fall behind at random end with the engine's own levels; so do feeds that start later."""
    rng, rig = random.Random(seed), Rig()
    spec = listed(rig, pricing=rng.choice(["pay_as_bid", "uniform"]), grace_s=20, idle_s=30)
    accounts = [rig.account(name) for name in ("a", "b", "c")]
    market = rig.engine.live.markets[spec.symbol]
    name = f"live.{spec.symbol}"
    readers: list[tuple[Reader, LocalLive]] = []
    moved = 0
    for command in mixed(rig, rng, accounts):
        rig.now += rng.choice([0, 1, SECOND_NS, 5 * SECOND_NS])
        events = rig.run(command)
        moved += sum(isinstance(event, FlowChanged) for event in events)
        if rng.random() < 0.1:
            rig.feeds.tick(rig.now)
        if len(readers) < 4 and rng.random() < 0.1:
            readers.append((rig.subscribe(name, rng.choice([JSON, MSGPACK])), LocalLive(spec)))
        for reader, local in readers:
            for message in reader.take():
                local.apply(message)
            channel = rig.feeds.find(name, 0)
            if channel.last_seq(reader) == channel.seq:
                same(local, market)
            reader.unread = rng.choice([0, 0, 0, CONFLATE_BYTES + 1])
            if rng.random() < 0.02:
                channel.resync(reader, rig.now)
        if rig.engine.seq % 100 == 0:
            feeds = Feeds()
            feeds.start(rig.engine, Reads())
            fresh, late = LocalLive(spec), Reader()
            feeds.find(name, 0).add(late, rig.now)
            fresh.apply(late.take()[0])
            same(fresh, market)
        if rig.engine.seq >= 600:
            break
    assert moved > 100
    assert rig.feeds.live(spec.symbol).orders >= len(market.orders)
    for reader, local in readers:
        reader.unread = 0
        rig.feeds.tick(rig.now)
        for message in reader.take():
            local.apply(message)
        same(local, market)


def test_what_has_ended_is_forgotten() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    for _ in range(3):
        ask(rig, seller, 10, 5)
        bid(rig, buyer, 20, 5)
        rig.now += SECOND_NS
    depth = rig.feeds.live(spec.symbol)
    assert (depth.orders, depth.assigned, depth.offered, depth.marginal) == (6, 15, 15, 20)
    rig.run(CancelAll(buyer))
    assert (depth.orders, depth.assigned, depth.offered, depth.marginal) == (3, 0, 15, 0)
    rig.run(CancelAll(seller))
    assert (depth.orders, depth.assigned, depth.offered) == (0, 0, 0)
    assert depth.bids.levels == depth.asks.levels == {}


def test_a_delta_tells_what_changed() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    ask(rig, seller, 10, 5)
    reader = rig.subscribe(f"live.{spec.symbol}")
    assert reader.take()[0]["data"]["asks"] == [["0.00000010", "0.005", "0.000"]]
    order = bid(rig, buyer, 20, 3)
    (delta,) = reader.take()
    assert (delta["type"], delta["seq"] - delta["prev_seq"]) == ("delta", 1)
    assert delta["data"] | {"checksum": 0} == {
        "state": "open",
        "assigned": "0.003",
        "marginal": "0.00000020",
        "bids": [["0.00000020", "0.003", "0.003"]],
        "asks": [["0.00000010", "0.005", "0.003"]],
        "checksum": 0,
    }
    assert delta["data"]["checksum"] == crc32(b"b20:3:3;a10:5:3;")
    rig.run(AmendBid(buyer, order, price=21, limit=0))
    (delta,) = reader.take()
    assert delta["data"]["bids"] == [["0.00000021", None, "0.005"], ["0.00000020", "0.000", "0.000"]]
    assert delta["data"]["checksum"] == crc32(b"b21:-:5;a10:5:5;")
    rig.run(AmendBid(buyer, order, url=POOL[0], worker="w.2"))
    assert reader.take() == [], "another pool is nobody else's business"
    rig.run(SetMarketState(spec.symbol, MarketState.CANCEL_ONLY))
    (delta,) = reader.take()
    assert (delta["data"]["state"], delta["data"]["bids"], delta["data"]["asks"]) == ("cancel_only", [], [])


def test_a_level_is_unlimited_while_a_bid_in_it_is() -> None:
    spec = live_market(LiveListing(algorithm="SHA256"))
    rig = Rig()
    listed(rig)
    buyer = rig.account("buyer")
    first, _ = bid(rig, buyer, 20), bid(rig, buyer, 20, 7)
    depth = rig.feeds.live(spec.symbol)
    assert depth.bids.shown(20) == (UNLIMITED, 0)
    rig.run(Cancel(buyer, first))
    assert depth.bids.shown(20) == (7, 0)


def test_a_gap_shows() -> None:
    rig = Rig()
    spec = listed(rig)
    seller = rig.account("seller")
    reader, local = rig.subscribe(f"live.{spec.symbol}"), LocalLive(spec)
    ask(rig, seller, 10, 5)
    ask(rig, seller, 11, 5)
    snapshot, lost, after = reader.take()
    local.apply(snapshot)
    with pytest.raises(AssertionError):
        local.apply(after)
    assert after["prev_seq"] == lost["seq"]
    rig.feeds.find(f"live.{spec.symbol}", 0).resync(reader, rig.now)
    local.apply(reader.take()[0])
    same(local, rig.engine.live.markets[spec.symbol])


def test_a_slow_reader_of_a_live_book_is_conflated() -> None:
    rig = Rig()
    spec = listed(rig)
    seller = rig.account("seller")
    reader, local = rig.subscribe(f"live.{spec.symbol}"), LocalLive(spec)
    reader.take()
    reader.unread = CONFLATE_BYTES + 1
    for price in range(10, 20):
        ask(rig, seller, price, 5)
    assert reader.take() == []
    rig.feeds.tick(rig.now)
    assert reader.take() == [], "it has not read anything yet"
    reader.unread = 0
    rig.feeds.tick(rig.now)
    (snapshot,) = reader.take()
    assert (snapshot["type"], len(snapshot["data"]["asks"])) == ("snapshot", 10)
    local.apply(snapshot)
    ask(rig, seller, 30, 5)
    local.apply(reader.take()[0])
    same(local, rig.engine.live.markets[spec.symbol])


# ------------------------------------------------------------------------------------------------------- starts of flows


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_starts_of_flows_are_told(codec: Codec) -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    ask(rig, seller, 10, 5)
    ask(rig, seller, 11, 5)
    reader = rig.subscribe(f"flows.{spec.symbol}", codec)
    assert reader.take()[0]["data"] == []
    order = bid(rig, buyer, 20, 8)
    (event,) = reader.take()
    start = {"flow_id": 1, "price": "0.00000020", "speed": "0.005", "ts_us": rig.now // 1_000}
    assert (event["type"], event["data"]) == ("event", [start, {**start, "flow_id": 2, "speed": "0.003"}])
    rig.run(AmendBid(buyer, order, limit=10))
    assert reader.take() == [], "a flow that grows is no start"
    later = rig.subscribe(f"flows.{spec.symbol}", codec)
    assert later.take()[0]["data"] == event["data"]


def test_a_flow_that_ended_in_the_instant_of_its_start_is_not_told() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, rival, seller = (rig.account(name) for name in ("buyer", "rival", "seller"))
    for _ in range(2):
        ask(rig, seller, 10, 5)
    top = bid(rig, rival, 20, 1)
    for offset in (1, 2):
        bid(rig, buyer, 900, peg=Peg.TOP, offset=offset)
    reader = rig.subscribe(f"flows.{spec.symbol}")
    reader.take()
    told = rig.run(AmendBid(rival, top, price=30))
    # the rival is ahead for no time: until its followers have moved, too
    assert [change.bid_id for change in told if isinstance(change, FlowChanged) and not change.old_speed] == [top]
    assert reader.take() == []


def test_starts_that_are_kept_and_shown() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    bid(rig, buyer, 20)
    for _ in range(STARTS_KEPT + 5):
        rig.run(Cancel(seller, ask(rig, seller, 10, 1)))
    shown = rig.subscribe(f"flows.{spec.symbol}").take()[0]["data"]
    assert [start["flow_id"] for start in shown] == [*range(STARTS_KEPT + 6 - SNAPSHOT_STARTS, STARTS_KEPT + 6)]


# ----------------------------------------------------------------------------------------------------------------- ticker


def test_the_ticker_of_a_live_market() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    reader = rig.subscribe(f"ticker.{spec.symbol}")
    nothing = {
        "kind": "live",
        "market": spec.symbol,
        "bid": None,
        "ask": None,
        "marginal": None,
        "assigned": "0.000",
        "offered": "0.000",
        "paying_price": None,
        "paying_price_day": None,
        "index_price": None,
    }
    assert reader.take()[0]["data"] == nothing
    ask(rig, seller, 10, 5_000)
    first, second = bid(rig, buyer, 30_000, 2_000), bid(rig, buyer, 20_000, 3_000)
    rig.run(SetIndex(spec.symbol, 17))
    assert reader.take() == [], "it is gathered"
    rig.feeds.tick(rig.now)
    (shown,) = reader.take()
    assert shown["data"] == nothing | {
        "bid": "0.00030000",
        "ask": "0.00000010",
        "marginal": "0.00020000",
        "assigned": "5.000",
        "offered": "5.000",
        "index_price": "0.00000017",
    }
    rig.feeds.tick(rig.now)
    assert reader.take() == []

    rig.now += 50 * SECOND_NS
    hashes = {flow.flow_id: flow.speed * 10**12 * 50 for flow in rig.engine.live.flowing.by_id.values()}
    for flow_id, proven in hashes.items():
        (paid,) = rig.run(ReportFlow(flow_id, proven))
        assert isinstance(paid, FlowPaid)
        assert paid.work == proven
    rig.feeds.tick(rig.now)
    (shown,) = reader.take()
    # two units at 30,000 and three at 20,000
    assert shown["data"]["paying_price"] == "0.00024000"
    assert shown["data"]["paying_price_day"] == shown["data"]["paying_price"]

    rig.run(Cancel(buyer, first))
    rig.run(Cancel(buyer, second))
    rig.now += SHORT_MINUTES * MINUTE_NS
    rig.feeds.tick(rig.now)
    (shown,) = reader.take()
    assert (shown["data"]["paying_price"], shown["data"]["assigned"]) == (None, "0.000")
    assert shown["data"]["paying_price_day"] is not None
    rig.now += WINDOW_MINUTES * MINUTE_NS
    rig.feeds.tick(rig.now)
    assert reader.take()[-1]["data"]["paying_price_day"] is None


def test_starts_of_one_time_are_told_alike_behind_a_restart() -> None:
    """Found by simulation, seed 1652: two entries of one time were taken for one."""
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    name = f"flows.{spec.symbol}"
    offered = ask(rig, seller, 10, 5)
    bid(rig, buyer, 30, 9)
    rig.run(AmendAsk(seller, offered, speed=2))
    feeds = Feeds()
    for entry, events in rig.log:
        feeds.load(entry, events)
    assert len({entry.ts_ns for entry, _ in rig.log[-2:]}) == 1
    feeds.start(rig.engine, Reads())
    after = Reader()
    feeds.find(name, 0).add(after, rig.now)
    assert after.take()[0]["data"] == rig.subscribe(name).take()[0]["data"]


def test_feeds_that_start_later_know_payments_and_starts() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    ask(rig, seller, 10, 5)
    bid(rig, buyer, 30_000, 2)
    rig.now += 50 * SECOND_NS
    rig.run(ReportFlow(1, 10**14))
    rig.run(SetIndex(spec.symbol, 17))
    feeds = Feeds()
    for entry, events in rig.log:
        feeds.load(entry, events)
    feeds.start(rig.engine, Reads())
    for name in (f"flows.{spec.symbol}", f"ticker.{spec.symbol}", f"live.{spec.symbol}", "status"):
        before, after = Reader(), Reader()
        rig.feeds.tick(rig.now)
        feeds.tick(rig.now)
        rig.feeds.find(name, 0).add(before, rig.now)
        feeds.find(name, 0).add(after, rig.now)
        assert before.take()[0]["data"] == after.take()[0]["data"], name
    for account in (buyer, seller):
        known = Reader(account=account)
        assert feeds.account(account).resume(known, 1)
        seen = Reader(account=account)
        assert rig.feeds.account(account).resume(seen, 1)
        assert known.messages == seen.messages
        assert len(known.messages) > 2


# ----------------------------------------------------------------------------------------------------------------- status


def test_status_tells_of_live_markets() -> None:
    rig = Rig()
    reader = rig.subscribe("status")
    spec = listed(rig)
    event = reader.take()[-1]["data"]
    assert (event["event"], event["market"], event["terms"]["kind"]) == ("market_listed", spec.symbol, "live")
    snapshot = rig.subscribe("status").take()[0]["data"]["markets"]
    assert snapshot == [event["terms"]]


def test_a_market_that_closes_takes_its_channels_along() -> None:
    rig = Rig()
    spec = listed(rig)
    buyer, seller = rig.account("buyer"), rig.account("seller")
    ask(rig, seller, 10, 5)
    bid(rig, buyer, 20, 5)
    names = [f"{kind}.{spec.symbol}" for kind in ("live", "flows", "ticker")]
    readers = [rig.subscribe(name) for name in names]
    rig.run(SetMarketState(spec.symbol, MarketState.CLOSED))
    assert spec.symbol not in rig.engine.live.markets, "nothing had accrued: there is nothing to wait for"
    for reader in readers:
        assert reader.take()[-1]["data"] == {"event": "closed", "reason": "settled"}
    for name in names:
        with pytest.raises(KeyError):
            rig.feeds.find(name, 0)
    with pytest.raises(KeyError):
        rig.feeds.live(spec.symbol)
    again = listed(rig)
    assert rig.feeds.live(again.symbol).orders == 0


def test_empty_sides() -> None:
    depth = LiveDepth(Terms(live_market(LiveListing(algorithm="SHA256"))))
    assert (depth.bids.best(), depth.asks.best(), depth.marginal, depth.checksum()) == (0, 0, 0, 0)
