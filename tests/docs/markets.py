"""What docs/MARKETS.md shows: its examples, played to the engine. The tables are compared with it, the pictures drawn from it.

Prices in ticks of 0.00000001 BTC, speeds in lots of 0.001 PH/s, money in msat.
"""

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from engine.commands import (
    AmendBid,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListMarket,
    Place,
    ReportWork,
    SetDestination,
    Tick,
)
from engine.core import Engine
from engine.events import DeliveryAssigned, DeliverySettled, Event, FlowChanged, Trade
from engine.invariants import check
from engine.limits import DAY_SECONDS, SECOND_NS
from engine.markets.live import NO_LIMIT
from engine.types import OrderType, Peg, Pricing, Side
from gateway.algorithms import ALGORITHMS
from gateway.listings import dated_market
from gateway.scale import MONEY, Scale
from tests.engine.live import Live

PRICE: Final = Scale("0.00000001")
SPEED: Final = Scale("0.001")


class Order(Struct, frozen=True):
    """A bid or an ask of a live market. ``size`` is its limit or speed, None without a limit; ``speed`` is what flows."""

    name: str
    price: int
    size: int | None
    speed: int


class Flow(Struct, frozen=True):
    ask: str
    bid: str
    speed: int


class Crossing(Struct, frozen=True):
    """Bids and asks, each from the best, what flows between them, by flow id, and the marginal price."""

    bids: list[Order]
    asks: list[Order]
    flows: list[Flow]
    marginal: int


class Move(Struct, frozen=True):
    flow_id: int
    ask: str
    bid: str
    old_speed: int
    speed: int


class Raise(Struct, frozen=True):
    """The market before and after cid raises, and the flows that this moves."""

    before: Crossing
    after: Crossing
    moves: list[Move]


class Example:
    """The live market of the page: three bids, three rigs."""

    def __init__(self, pricing: Pricing = Pricing.PAY_AS_BID) -> None:
        self.live = Live("ann", "bob", "cid", "rig-1", "rig-2", "rig-3", pricing=pricing, buyer_fee_bps=300, seller_fee_bps=200)
        live = self.live
        self.asks = {
            "rig-1": live.ask("rig-1", 45_000, 5_000),
            "rig-2": live.ask("rig-2", 50_000, 2_000),
            "rig-3": live.ask("rig-3", 54_000, 3_000),
        }
        self.bids = {
            "ann": live.bid("ann", 60_000, 4_000),
            "bob": live.bid("bob", 55_000, 3_000),
            "cid": live.bid("cid", 52_000),
        }
        self.names = {order_id: name for name, order_id in (*self.asks.items(), *self.bids.items())}

    def crossing(self) -> Crossing:
        return Crossing(
            bids=sorted(map(self._order, self.bids.values()), key=lambda bid: -bid.price),
            asks=sorted(map(self._order, self.asks.values()), key=lambda ask: ask.price),
            flows=[Flow(self.names[ask], self.names[bid], speed) for bid, ask, speed in self.live.flows()],
            marginal=self.live.market.marginal,
        )

    def _order(self, order_id: int) -> Order:
        order = self.live.engine.live.orders[order_id]
        size = None if order.remaining == NO_LIMIT else order.remaining
        return Order(self.names[order_id], order.price, size, order.assigned)


def crossing() -> Crossing:
    return Example().crossing()


def cids_raise() -> Raise:
    example = Example()
    before = example.crossing()
    example.live.apply(AmendBid(example.live.accounts["cid"], example.bids["cid"], "", 56_000))
    moves = [
        Move(e.flow_id, example.names[e.ask_id], example.names[e.bid_id], e.old_speed, e.speed)
        for e in example.live.told(FlowChanged)
    ]
    return Raise(before, example.crossing(), moves)


class PegStep(Struct, frozen=True):
    rival: int
    ann: int
    ann_holds: bool


class Pegged(Struct, frozen=True):
    """A rival's raises, ann's pegged bid after each, and the most that ann pays."""

    cap: int
    steps: list[PegStep]


def pegged() -> Pegged:
    live = Live("ann", "bob", "rig")
    live.ask("rig", 1, 5)
    rival = live.bid("bob", 1_000, 5)
    cap = 1_055
    ann = live.peg("ann", Peg.TOP, offset=1, cap=cap, limit=5)
    steps = []
    for step in range(1, 11):
        live.amend(rival, price=1_000 + 10 * step)
        steps.append(PegStep(live.price(rival), live.price(ann), live.speed(ann) == 5))
    return Pegged(cap, steps)


class Moment(Struct, frozen=True):
    """Whose money is where, from a moment on. ``at`` is UTC."""

    at: str
    buyer_available: int
    buyer_held: int
    proceeds: int
    bond: int
    seller_available: int
    fees: int


class Day(Struct, frozen=True):
    """A dated market from its first order to its settlement."""

    symbol: str
    gate: str
    period_start: str
    period_end: str
    settle: str
    price: int
    qty: int
    contracted_hashes: int
    delivered_hashes: int
    paid: int
    refund: int
    compensation: int
    bond_released: int
    moments: dict[str, Moment]


class DatedExample:
    """One dated market: ann buys 2 PH/s of a day, sam sells them and proves nine tenths."""

    def __init__(self) -> None:
        start_ns = _ns("2026-11-24 00:00")
        self.spec = dated_market(ALGORITHMS["SHA256"], start_ns, DAY_SECONDS, 50_000)
        self.engine = Engine()
        self.moments: dict[str, Moment] = {}
        self.ts_ns = start_ns - DAY_SECONDS * SECOND_NS
        self.do(ListMarket(self.spec))
        self.accounts: dict[str, int] = {}
        for name, msat in (("ann", 120_000_000), ("sam", 30_000_000)):
            self.do(CreateAccount(name))
            self.accounts[name] = self.engine.next_account - 1
            self.do(Deposit(self.accounts[name], msat, "first"))

    def do(self, command: Command, at: str = "") -> list[Event]:
        if at:
            self.ts_ns = _ns(at)
        events = self.engine.apply(Entry(self.engine.seq + 1, self.ts_ns, command))
        check(self.engine)
        return events

    def order(self, name: str, side: Side, at: str) -> list[Event]:
        return self.do(Place(self.accounts[name], self.spec.symbol, side, OrderType.LIMIT, 50_000, 2_000), at)

    def note(self, what: str) -> None:
        """Remember where the money is now."""
        ann, sam = (self.engine.accounts[self.accounts[name]] for name in ("ann", "sam"))
        deliveries = self.engine.deliveries.values()
        positions = sam.positions.values()
        self.moments[what] = Moment(
            at=_text(self.ts_ns),
            buyer_available=ann.balance - ann.held,
            buyer_held=ann.held,
            proceeds=sum(position.basis for position in positions) + sum(delivery.proceeds for delivery in deliveries),
            bond=sum(position.bond for position in positions) + sum(delivery.bond for delivery in deliveries),
            seller_available=sam.balance - sam.held,
            fees=self.engine.accounts[self.engine.names["fees"]].balance,
        )


def dated_day() -> Day:
    example = DatedExample()
    spec = example.spec
    example.note("deposits")
    example.order("ann", Side.BUY, "2026-11-23 07:00")
    example.do(SetDestination(example.accounts["ann"], spec.symbol, "stratum+tcp://pool.example:3333", "w"))
    example.note("bid")
    sold = example.order("sam", Side.SELL, "2026-11-23 14:00")
    (trade,) = (event for event in sold if isinstance(event, Trade))
    example.note("trade")
    gated = example.do(Tick(), _text(spec.gate_ns))
    (assigned,) = (event for event in gated if isinstance(event, DeliveryAssigned))
    example.note("gate")
    proven = assigned.contracted_hashes * 9 // 10
    example.do(ReportWork(assigned.delivery_id, proven, shares=38_000), _text(spec.period_end_ns))
    (settled,) = (event for event in example.do(Tick(), _text(spec.settle_ns)) if isinstance(event, DeliverySettled))
    example.note("settlement")
    return Day(
        symbol=spec.symbol,
        gate=_text(spec.gate_ns),
        period_start=_text(spec.period_start_ns),
        period_end=_text(spec.period_end_ns),
        settle=_text(spec.settle_ns),
        price=trade.price,
        qty=trade.qty,
        contracted_hashes=settled.contracted_hashes,
        delivered_hashes=settled.delivered_hashes,
        paid=settled.paid,
        refund=settled.refund,
        compensation=settled.compensation,
        bond_released=settled.bond_released,
        moments=example.moments,
    )


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * SECOND_NS


def _text(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns // SECOND_NS, UTC):%Y-%m-%d %H:%M}"


def btc(msat: int) -> str:
    """Whole satoshi as the page writes them: 8 decimals."""
    assert msat % 1_000 == 0, f"{MONEY.format(msat)} is no whole number of satoshi"
    return PRICE.format(msat // 1_000)
