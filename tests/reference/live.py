"""The oracle's live markets, written from docs/decisions/0019-live-markets.md alone: obvious and slow.

Of an order's speed nothing is kept but its flows. After every change both sides are walked anew, and the flows follow by
the five steps of the decision, on the speeds before and after. Allowances accrue for every flow whenever the clock moves.
What a bid holds, where its price should be and when its budget is spent is worked out when somebody asks.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING, TypeAlias

from engine.commands import (
    AmendAsk,
    AmendBid,
    CancelAll,
    DeletePool,
    ListLive,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    SavePool,
    SetIndex,
)
from engine.events import (
    AskAmended,
    AskEnded,
    AskPlaced,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    BidResumed,
    BidStopped,
    FlowChanged,
    FlowPaid,
    IndexSet,
    LiveListed,
    MarketStateChanged,
    PoolDeleted,
    PoolSaved,
)
from engine.limits import (
    BPS,
    DAY_NS,
    DAY_SECONDS,
    FEE_MAX_BPS,
    MONEY_MAX_MSAT,
    NAME_CHARS_MAX,
    SECOND_NS,
    SYMBOL_CHARS_MAX,
    URL_CHARS_MAX,
    WORK_MAX_HASHES,
    WORKER_CHARS_MAX,
    Limits,
)
from engine.rejects import RejectCode
from engine.types import FEES_ACCOUNT, EndReason, FlowCause, LiveSpec, MarketState, Peg, Pricing, Side
from tests.reference.refused import Refused

if TYPE_CHECKING:
    from tests.reference.exchange import NaiveExchange

NANO = 10**9
SPAN_MAX_NS = 400 * DAY_NS


@dataclass(eq=False)
class Bid:
    """``escrow`` is what was put in (``budget``) and not charged yet, in msat. ``cap`` is the price of a bid without a peg."""

    order_id: int
    account: int
    market: str
    client_order_id: str
    price: int
    limit: int
    budget: int
    url: str
    worker: str
    peg: Peg
    offset: int
    floor: int
    cap: int
    expires_ns: int
    changed_ns: int
    """When it was placed, or its price (cap) last changed by an edit."""
    edited_ns: int | None = None
    """When an amend last changed its price (cap) or limit."""
    escrow: int = 0
    rank: int = 0
    stopped: bool = False
    heard: bool = False
    """Whether a flow of it was reported since it was placed or last resumed."""
    ended: bool = False
    stop_ns: int | None = None
    """In a UNIFORM market, when its budget is to be looked at, as computed when something of it last changed."""


@dataclass(eq=False)
class Ask:
    order_id: int
    account: int
    market: str
    client_order_id: str
    price: int
    speed: int
    expires_ns: int
    rank: int = 0
    ended: bool = False


LiveOrder: TypeAlias = Bid | Ask


@dataclass(eq=False)
class Flow:
    """``allowance`` in nano-hashes and ``value`` in nano-hashes x ticks: accrued, and neither paid nor forfeited yet."""

    flow_id: int
    market: str
    bid: Bid
    ask: Ask
    news_ns: int
    """When a report last brought new hashes; before, when the flow began."""
    speed: int = 0
    allowance: int = 0
    value: int = 0
    hashes: int = 0
    paid_hashes: int = 0
    paid_value: int = 0
    cost: int = 0
    buyer_fee: int = 0
    seller_fee: int = 0
    ended_ns: int | None = None

    @property
    def running(self) -> bool:
        return self.ended_ns is None


@dataclass
class LiveMarket:
    spec: LiveSpec
    state: MarketState = MarketState.OPEN
    ranks: int = 0
    index: int = 0


@dataclass
class Pool:
    name: str
    algorithm: str
    url: str
    worker: str
    password: str


@dataclass
class Move:
    """What one change did to the flows of a market: speeds by pair of order ids before and after, and what orders lost."""

    before: dict[tuple[int, int], int]
    after: dict[tuple[int, int], int]
    bids_lost: dict[int, int]
    asks_lost: dict[int, int]


def crossing(bids: list[Bid], asks: list[Ask]) -> tuple[Counter[Bid], Counter[Ask]]:
    """Speeds: both sides, each in the order of its book, walked until the next bid pays less than the next ask wants."""
    bid_speeds: Counter[Bid] = Counter()
    ask_speeds: Counter[Ask] = Counter()
    supply = sum(ask.speed for ask in asks)
    wanting, offering = list(bids), list(asks)
    while wanting and offering and wanting[0].price >= offering[0].price:
        bid, ask = wanting[0], offering[0]
        bid_left = (bid.limit or supply) - bid_speeds[bid]
        ask_left = ask.speed - ask_speeds[ask]
        lots = min(bid_left, ask_left)
        bid_speeds[bid] += lots
        ask_speeds[ask] += lots
        if lots == bid_left:
            wanting.pop(0)
        if lots == ask_left:
            offering.pop(0)
    return bid_speeds, ask_speeds


def marginal_price(bids: list[Bid], asks: list[Ask]) -> int:
    speeds, _ = crossing(bids, asks)
    return min((bid.price for bid in bids if speeds[bid]), default=0)


def is_destination(url: str, worker: str) -> bool:
    address = re.fullmatch(r"stratum\+(tcp|ssl)://([!-.0-~]+):([0-9]{1,5})", url)
    good_url = len(url) <= URL_CHARS_MAX and address is not None and 1 <= int(address[3]) <= 65535
    return good_url and re.fullmatch(f"[!-~]{{1,{WORKER_CHARS_MAX}}}", worker) is not None


def broken_live_rule(spec: LiveSpec, limits: Limits) -> int:
    """Number of the first rule of a specification that is broken, 0 when all hold."""
    texts, steps = (spec.algorithm, spec.speed_unit), (spec.tick_size, spec.lot_size)
    spans = (spec.decrease_interval_ns, spec.lock_ns, spec.slack_ns, spec.idle_ns)
    rules = [
        re.fullmatch(f"[A-Z0-9._-]{{1,{SYMBOL_CHARS_MAX}}}", spec.symbol) is not None,
        spec.kind == "live",
        all(re.fullmatch("[ -~]{1,24}", text) for text in texts)
        and all(re.fullmatch(r"(?=.{1,24}\Z)[0-9]+(\.[0-9]+)?", step) and Fraction(step) > 0 for step in steps),
        1 <= spec.tick_lot_msat <= 10**12,
        1 <= spec.lot_hashrate < 2**63,
        1 <= spec.price_min <= spec.price_max <= limits.price_max_ticks,
        1 <= spec.speed_min <= spec.speed_max <= limits.qty_max_lots,
        1 <= spec.budget_min <= MONEY_MAX_MSAT,
        0 <= spec.buyer_fee_bps <= FEE_MAX_BPS
        and 0 <= spec.seller_fee_bps <= FEE_MAX_BPS
        and 0 <= spec.placing_fee <= spec.budget_min,
        all(0 <= span <= SPAN_MAX_NS for span in spans) and 0 <= spec.decrease_step <= spec.price_max,
        SECOND_NS <= spec.grace_ns <= SPAN_MAX_NS,
        1 <= spec.life_ns <= SPAN_MAX_NS,
    ]
    return next((number for number, holds in enumerate(rules, 1) if not holds), 0)


class NaiveLive:
    """The live markets of one naive exchange, which has the accounts, the clock and the list of events."""

    def __init__(self, exchange: "NaiveExchange") -> None:
        self.exchange = exchange
        self.markets: dict[str, LiveMarket] = {}
        self.bids: list[Bid] = []
        self.asks: list[Ask] = []
        self.flows: list[Flow] = []
        """Running ones, and those that ended and are not done with."""
        self.flows_made = 0
        self.pools: dict[tuple[int, int], Pool] = {}
        self.accrued_ns = 0
        self.went_on = 0
        """How often a bid's budget was looked at in time, and lasted for longer."""
        self.touched: list[Bid] = []
        """Bids that an event named since their budgets were last looked at."""
        self.moves: list[Move] = []
        """What the last entry did to the flows, change by change; for ``check``."""

    # --- What is looked up, never kept ----------------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.exchange.now

    def orders(self) -> list[LiveOrder]:
        """Open orders, by id."""
        both: list[LiveOrder] = [*self.bids, *self.asks]
        return sorted(both, key=lambda order: order.order_id)

    def book(self, symbol: str) -> tuple[list[Bid], list[Ask]]:
        """Both sides, best first."""
        bids = [bid for bid in self.bids if bid.market == symbol and not bid.stopped]
        asks = [ask for ask in self.asks if ask.market == symbol]
        return sorted(bids, key=lambda bid: (-bid.price, bid.rank)), sorted(asks, key=lambda ask: (ask.price, ask.rank))

    def running(self, symbol: str) -> list[Flow]:
        return [flow for flow in self.flows if flow.market == symbol and flow.running]

    def flows_of(self, order: LiveOrder) -> list[Flow]:
        return [flow for flow in self.flows if order in (flow.bid, flow.ask)]

    def speed(self, order: LiveOrder) -> int:
        return sum(flow.speed for flow in self.flows_of(order))

    def work_price(self, flow: Flow) -> int:
        """What a unit of the flow's work is worth at the moment."""
        if self.markets[flow.market].spec.pricing == Pricing.PAY_AS_BID:
            return flow.bid.price
        return marginal_price(*self.book(flow.market))

    def money_of(self, symbol: str) -> Fraction:
        """msat per nano-hash x tick."""
        spec = self.markets[symbol].spec
        return Fraction(spec.tick_lot_msat, spec.lot_hashrate * DAY_SECONDS * NANO)

    def can_cost(self, flow: Flow) -> int:
        """What a flow's allowance costs when all of it is proven, fee included."""
        spec = self.markets[flow.market].spec
        cost = floor((flow.paid_value + flow.value) * self.money_of(flow.market))
        fee = cost * spec.buyer_fee_bps // BPS
        return cost - flow.cost + fee - flow.buyer_fee

    def held(self, account: int) -> int:
        open_bids = sum(bid.escrow for bid in self.bids if bid.account == account)
        return open_bids + sum(self.can_cost(f) for f in self.flows if f.bid.ended and f.bid.account == account)

    def reference(self, symbol: str, peg: Peg) -> int:
        """What bids of a peg follow; 0 when there is nothing to follow."""
        bids, asks = self.book(symbol)
        if peg == Peg.INDEX:
            return self.markets[symbol].index
        if peg == Peg.TOP:
            return max((bid.price for bid in bids if bid.peg in (Peg.NONE, Peg.INDEX)), default=0)
        others = [bid for bid in bids if bid.peg != Peg.MARGINAL]
        return marginal_price(others, asks) or (asks[0].price if asks else 0)

    def pegged_price(self, bid: Bid) -> int:
        """What the bid should pay now."""
        if bid.peg == Peg.NONE:
            return bid.cap
        lowest = bid.floor or self.markets[bid.market].spec.price_min
        reference = self.reference(bid.market, bid.peg)
        return min(bid.cap, max(lowest, reference + bid.offset)) if reference else lowest

    def lasts(self, bid: Bid) -> int | None:
        """For how many ns the bid's budget certainly lasts; None when it spends nothing."""
        lots = self.speed(bid)
        if not lots:
            return None
        spec = self.markets[bid.market].spec
        flows = self.flows_of(bid)
        cost_max = (bid.escrow - len(flows)) * BPS // (BPS + spec.buyer_fee_bps)
        value_max = ceil((cost_max - len(flows) + 1) / self.money_of(bid.market)) - 1
        left = value_max - sum(flow.value for flow in flows)
        return left // (bid.price * lots * spec.lot_hashrate) if left > 0 else 0

    def stop_time(self, bid: Bid) -> int | None:
        """When the bid's budget is to be looked at."""
        if self.markets[bid.market].spec.pricing == Pricing.UNIFORM:
            return bid.stop_ns
        lasts = self.lasts(bid)
        return None if lasts is None else self.accrued_ns + lasts

    def find(self, account: int, order_id: int, client_order_id: str) -> LiveOrder | None:
        for order in self.orders():
            named = order.order_id == order_id if order_id else order.client_order_id == client_order_id != ""
            if order.account == account and named:
                return order
        return None

    def find_bid(self, c: AmendBid | RefillBid) -> Bid | None:
        order = self.find(c.account, c.order_id, c.client_order_id)
        return order if isinstance(order, Bid) else None

    def find_ask(self, c: AmendAsk) -> Ask | None:
        order = self.find(c.account, c.order_id, c.client_order_id)
        return order if isinstance(order, Ask) else None

    def market_named_by(self, c: AmendBid | RefillBid | AmendAsk) -> str:
        order = self.find_ask(c) if isinstance(c, AmendAsk) else self.find_bid(c)
        return order.market if order else ""

    # --- The passing of time --------------------------------------------------------------------------------

    def pass_time(self) -> None:
        """Allowances accrue up to now."""
        for symbol in self.markets:
            for flow in self.running(symbol):
                more = self.markets[symbol].spec.lot_hashrate * flow.speed * (self.now - self.accrued_ns)
                if more:
                    flow.allowance += more
                    flow.value += more * self.work_price(flow)
        self.accrued_ns = self.now

    def look_at_budgets(self) -> None:
        """In a UNIFORM market a bid's next look is computed when an event named the bid."""
        for bid in self.touched:
            lasts = self.lasts(bid)
            bid.stop_ns = None if lasts is None else self.now + lasts
        self.touched = []

    def all_work(self) -> Iterator[tuple[int, int, int, LiveOrder | Flow]]:
        """Time, kind, id of everything that will fall due: ends of orders, budgets, graces."""
        for order in self.orders():
            if order.expires_ns:
                yield order.expires_ns, 5, order.order_id, order
        for bid in self.bids:
            stop_ns = self.stop_time(bid)
            if stop_ns is not None:
                yield stop_ns, 6, bid.order_id, bid
        for flow in self.flows:
            if flow.ended_ns is not None:
                yield flow.ended_ns + self.markets[flow.market].spec.grace_ns, 7, flow.flow_id, flow

    def do(self, kind: int, what: LiveOrder | Flow) -> None:
        """One thing that fell due."""
        if isinstance(what, Flow):
            self.pay(what, what.hashes, final=True)
        elif kind == 5:
            self.end(what, EndReason.EXPIRED)
        else:
            assert isinstance(what, Bid)
            self.budget_due(what)
        self.look_at_budgets()

    def budget_due(self, bid: Bid) -> None:
        if self.markets[bid.market].spec.pricing == Pricing.UNIFORM:
            lasts = self.lasts(bid)
            if lasts is not None and lasts >= SECOND_NS:
                bid.stop_ns = self.now + lasts
                self.went_on += 1
                return
        bid.stopped = True
        bid.stop_ns = None
        self.exchange.events.append(
            BidStopped(
                account=bid.account,
                account_seq=self.exchange.number(bid.account),
                order_id=bid.order_id,
                client_order_id=bid.client_order_id,
                market=bid.market,
                left=bid.escrow,
            )
        )
        self.changed(bid.market, FlowCause.BID_STOPPED)
        if not self.flows_of(bid):
            self.end(bid, EndReason.SPENT)

    # --- Flows ----------------------------------------------------------------------------------------------

    def enter(self, order: LiveOrder) -> None:
        """Last of its price."""
        market = self.markets[order.market]
        market.ranks += 1
        order.rank = market.ranks

    def changed(self, symbol: str, cause: FlowCause) -> None:
        """An order changed: flows follow, then prices that follow others, each with its flows."""
        self.follow(symbol, cause)
        self.reprice(symbol, Peg.TOP)
        self.reprice(symbol, Peg.MARGINAL)

    def reprice(self, symbol: str, peg: Peg) -> None:
        moved = False
        for bid in sorted(self.bids, key=lambda bid: bid.order_id):
            if bid.market == symbol and bid.peg == peg and not bid.stopped:
                price = self.pegged_price(bid)
                if price != bid.price:
                    old_price, bid.price = bid.price, price
                    self.enter(bid)
                    self.tell_amended(bid, old_price, FlowCause.BID_REPRICED)
                    moved = True
        if moved:
            self.follow(symbol, FlowCause.BID_REPRICED)

    def follow(self, symbol: str, cause: FlowCause) -> None:
        """Flows of a market take on the speeds of its crossing."""
        bids, asks = self.book(symbol)
        bid_speeds, ask_speeds = crossing(bids, asks)
        flows = self.running(symbol)
        before = {flow: flow.speed for flow in flows}
        touched: list[Flow] = []
        # Those that are out of the book lose all; they are where they stood.
        gone_bids = {flow.bid for flow in flows} - set(bids)
        gone_asks = {flow.ask for flow in flows} - set(asks)
        worst_bids = sorted([*gone_bids, *bids], key=lambda bid: (bid.price, -bid.rank))
        worst_asks = sorted([*gone_asks, *asks], key=lambda ask: (-ask.price, -ask.rank))
        bids_lose = {bid: self.speed(bid) - bid_speeds[bid] for bid in worst_bids if self.speed(bid) > bid_speeds[bid]}
        asks_lose = {ask: self.speed(ask) - ask_speeds[ask] for ask in worst_asks if self.speed(ask) > ask_speeds[ask]}
        wanted = {bid: bid_speeds[bid] - self.speed(bid) for bid in bids if bid_speeds[bid] > self.speed(bid)}
        offered = {ask: ask_speeds[ask] - self.speed(ask) for ask in asks if ask_speeds[ask] > self.speed(ask)}
        bids_lost, asks_lost = dict(bids_lose), dict(asks_lose)

        def cut(flow: Flow, most: int) -> int:
            lots = min(flow.speed, most)
            if lots and flow not in touched:
                touched.append(flow)
            flow.speed -= lots
            return lots

        # 1: flows between two that lose
        for ask in asks_lose:
            for bid in bids_lose:
                for flow in flows:
                    if flow.ask is ask and flow.bid is bid:
                        lots = cut(flow, min(asks_lose[ask], bids_lose[bid]))
                        asks_lose[ask] -= lots
                        bids_lose[bid] -= lots
        youngest_first = sorted(flows, key=lambda flow: -flow.flow_id)
        # 2: other flows of asks that lose; their bids are short
        for ask in asks_lose:
            for flow in youngest_first:
                if flow.ask is ask:
                    lots = cut(flow, asks_lose[ask])
                    asks_lose[ask] -= lots
                    wanted[flow.bid] = wanted.get(flow.bid, 0) + lots
        # 3: other flows of bids that lose; their asks are free
        for bid in bids_lose:
            for flow in youngest_first:
                if flow.bid is bid:
                    lots = cut(flow, bids_lose[bid])
                    bids_lose[bid] -= lots
                    offered[flow.ask] = offered.get(flow.ask, 0) + lots

        def grow(flow: Flow) -> None:
            lots = min(wanted.get(flow.bid, 0), offered.get(flow.ask, 0))
            if lots:
                wanted[flow.bid] -= lots
                offered[flow.ask] -= lots
                if flow not in touched:
                    touched.append(flow)
                flow.speed += lots

        # 4: what is wanted takes what is offered where it flows already
        for bid in bids:
            for flow in sorted(flows, key=lambda flow: flow.flow_id):
                if flow.bid is bid:
                    grow(flow)
        # 5: and then from anybody
        for bid in bids:
            for ask in asks:
                if wanted.get(bid, 0) and offered.get(ask, 0):
                    self.flows_made += 1
                    flow = Flow(self.flows_made, symbol, bid, ask, self.now)
                    self.flows.append(flow)
                    grow(flow)
        assert not any([*asks_lose.values(), *bids_lose.values(), *wanted.values(), *offered.values()])
        for flow in touched:
            old_speed = before.get(flow, 0)
            if flow.speed != old_speed:
                self.tell_flow(flow, old_speed, cause)
        after = {(flow.bid.order_id, flow.ask.order_id): flow.speed for flow in self.running(symbol)}
        self.moves.append(
            Move(
                before={(flow.bid.order_id, flow.ask.order_id): speed for flow, speed in before.items()},
                after=after,
                bids_lost={bid.order_id: lots for bid, lots in bids_lost.items()},
                asks_lost={ask.order_id: lots for ask, lots in asks_lost.items()},
            )
        )
        for flow in touched:
            if not flow.speed:
                self.stop_flow(flow)

    def stop_flow(self, flow: Flow) -> None:
        flow.ended_ns = self.now
        if not flow.allowance:
            self.flows.remove(flow)

    def tell_flow(self, flow: Flow, old_speed: int, cause: FlowCause) -> None:
        bid, ask = flow.bid, flow.ask
        self.touched.append(bid)
        self.exchange.events.append(
            FlowChanged(
                flow_id=flow.flow_id,
                market=flow.market,
                bid_id=bid.order_id,
                buyer=bid.account,
                buyer_seq=self.exchange.number(bid.account),
                ask_id=ask.order_id,
                seller=ask.account,
                seller_seq=self.exchange.number(ask.account),
                old_speed=old_speed,
                speed=flow.speed,
                price=bid.price,
                cause=cause,
                url=bid.url,
                worker=bid.worker,
                ts_ns=self.now,
            )
        )

    def tell_amended(self, bid: Bid, old_price: int, cause: FlowCause) -> None:
        self.touched.append(bid)
        self.exchange.events.append(
            BidAmended(
                account=bid.account,
                account_seq=self.exchange.number(bid.account),
                order_id=bid.order_id,
                client_order_id=bid.client_order_id,
                market=bid.market,
                old_price=old_price,
                price=bid.price,
                cap=bid.cap,
                limit=bid.limit,
                url=bid.url,
                worker=bid.worker,
                cause=cause,
            )
        )

    # --- Work and money -------------------------------------------------------------------------------------

    def report(self, c: ReportFlow) -> None:
        self.exchange.check_deadline()
        flow = next((flow for flow in self.flows if flow.flow_id == c.flow_id), None)
        if flow is not None and c.hashes < flow.hashes:
            raise Refused(RejectCode.WORK_DECREASED, flow.hashes)
        if c.hashes > WORK_MAX_HASHES:
            raise Refused(RejectCode.WORK_TOO_LARGE, WORK_MAX_HASHES)
        if flow is None:
            raise Refused(RejectCode.FLOW_UNKNOWN)
        flow.bid.heard = True
        news = c.hashes > flow.hashes
        if news:
            flow.news_ns = self.now
        if not flow.running:
            self.pay(flow, c.hashes, c.final)
            return
        self.pay(flow, c.hashes, final=False)
        spec = self.markets[flow.market].spec
        if not news and spec.idle_ns and self.now - flow.news_ns > spec.idle_ns:
            self.end(flow.ask, EndReason.IDLE)

    def pay(self, flow: Flow, hashes: int, final: bool) -> None:
        """Pay for what is proven of what was allowed; ``final``: the flow is done with."""
        spec = self.markets[flow.market].spec
        bid, buyer, seller = flow.bid, flow.bid.account, flow.ask.account
        held_before = self.can_cost(flow)
        flow.hashes = hashes
        work = min(hashes - flow.paid_hashes, flow.allowance // NANO)
        if work:
            value = flow.value * work * NANO // flow.allowance
            flow.value -= value
            flow.allowance -= work * NANO
            flow.paid_value += value
            flow.paid_hashes += work
        total = floor(flow.paid_value * self.money_of(flow.market))
        cost = total - flow.cost
        buyer_fee = total * spec.buyer_fee_bps // BPS - flow.buyer_fee
        seller_fee = total * spec.seller_fee_bps // BPS - flow.seller_fee
        flow.cost += cost
        flow.buyer_fee += buyer_fee
        flow.seller_fee += seller_fee
        slack = flow.speed * spec.lot_hashrate * spec.slack_ns
        if flow.running and flow.allowance > slack:
            flow.value = flow.value * slack // flow.allowance
            flow.allowance = slack
        bid.escrow -= cost + buyer_fee
        accounts = self.exchange.accounts
        accounts[buyer].balance -= cost + buyer_fee
        accounts[seller].balance += cost - seller_fee
        accounts[FEES_ACCOUNT].balance += buyer_fee + seller_fee
        if final:
            self.flows.remove(flow)
        still_held = 0 if final else self.can_cost(flow)
        if not bid.ended:
            self.touched.append(bid)
        self.exchange.events.append(
            FlowPaid(
                flow_id=flow.flow_id,
                market=flow.market,
                bid_id=bid.order_id,
                buyer=buyer,
                buyer_seq=self.exchange.number(buyer),
                ask_id=flow.ask.order_id,
                seller=seller,
                seller_seq=self.exchange.number(seller),
                hashes=flow.hashes,
                paid_hashes=flow.paid_hashes,
                work=work,
                cost=cost,
                buyer_fee=buyer_fee,
                seller_fee=seller_fee,
                released=held_before - cost - buyer_fee - still_held if bid.ended else 0,
                final=final,
                buyer_balance=accounts[buyer].balance,
                buyer_held=self.exchange.held(buyer),
                seller_balance=accounts[seller].balance,
                seller_held=self.exchange.held(seller),
            )
        )
        if final:
            self.after_last_report(bid)

    def after_last_report(self, bid: Bid) -> None:
        """A flow is done with: a stopped bid goes on or ends, a closed market may be forgotten."""
        market = self.markets[bid.market]
        if bid.stopped and not bid.ended and not self.flows_of(bid):
            if bid.escrow < market.spec.budget_min:
                self.end(bid, EndReason.SPENT)
            elif not bid.heard:
                self.end(bid, EndReason.IDLE)
            else:
                self.resume(bid)
        self.forget_closed(bid.market)

    def resume(self, bid: Bid) -> None:
        bid.stopped = bid.heard = False
        bid.price = self.pegged_price(bid)
        self.enter(bid)
        self.touched.append(bid)
        self.exchange.events.append(
            BidResumed(
                account=bid.account,
                account_seq=self.exchange.number(bid.account),
                order_id=bid.order_id,
                client_order_id=bid.client_order_id,
                market=bid.market,
                price=bid.price,
                left=bid.escrow,
            )
        )
        self.changed(bid.market, FlowCause.BID_RESUMED)

    # --- Ends -----------------------------------------------------------------------------------------------

    def end(self, order: LiveOrder, reason: EndReason) -> None:
        self.tell_ended(order, reason)
        self.changed(order.market, FlowCause.BID_ENDED if isinstance(order, Bid) else FlowCause.ASK_ENDED)

    def tell_ended(self, order: LiveOrder, reason: EndReason) -> None:
        """The order is gone; its flows are somebody else's business."""
        order.ended = True
        account_seq = self.exchange.number(order.account)
        if isinstance(order, Ask):
            self.asks.remove(order)
            self.exchange.events.append(
                AskEnded(
                    account=order.account,
                    account_seq=account_seq,
                    order_id=order.order_id,
                    client_order_id=order.client_order_id,
                    market=order.market,
                    reason=reason,
                )
            )
            return
        self.bids.remove(order)
        order.stop_ns = None
        self.exchange.events.append(
            BidEnded(
                account=order.account,
                account_seq=account_seq,
                order_id=order.order_id,
                client_order_id=order.client_order_id,
                market=order.market,
                reason=reason,
                budget=order.budget,
                spent=order.budget - order.escrow,
                returned=order.escrow - sum(self.can_cost(flow) for flow in self.flows_of(order)),
                balance=self.exchange.accounts[order.account].balance,
                held=self.exchange.held(order.account),
            )
        )

    def cancel_all(self, c: CancelAll) -> None:
        reason = EndReason.OPERATOR if c.by_operator else EndReason.REQUESTED
        ended: list[LiveOrder] = []
        for order in self.orders():
            side = Side.BUY if isinstance(order, Bid) else Side.SELL
            halted = self.markets[order.market].state == MarketState.HALTED
            if (
                order.account == c.account
                and c.market in ("", order.market)
                and c.side in (None, side)
                and (c.by_operator or not halted)
            ):
                self.tell_ended(order, reason)
                ended.append(order)
        for symbol in dict.fromkeys(order.market for order in ended):
            has_bid = any(isinstance(order, Bid) for order in ended if order.market == symbol)
            self.changed(symbol, FlowCause.BID_ENDED if has_bid else FlowCause.ASK_ENDED)

    def close(self, symbol: str) -> None:
        """Flows end, then orders: nobody takes over what is free."""
        for flow in sorted(self.running(symbol), key=lambda flow: flow.flow_id):
            old_speed, flow.speed = flow.speed, 0
            self.tell_flow(flow, old_speed, FlowCause.BID_ENDED)
            self.stop_flow(flow)
        for order in self.orders():
            if order.market == symbol:
                self.tell_ended(order, EndReason.CLOSED)
        self.forget_closed(symbol)

    def forget_closed(self, symbol: str) -> None:
        market = self.markets[symbol]
        if market.state == MarketState.CLOSED and all(flow.market != symbol for flow in self.flows):
            del self.markets[symbol]
            self.exchange.events.append(MarketStateChanged(symbol, MarketState.SETTLED))

    # --- Checks ---------------------------------------------------------------------------------------------

    def check_destination(self, url: str, worker: str) -> None:
        if not is_destination(url, worker):
            raise Refused(RejectCode.DESTINATION_INVALID, URL_CHARS_MAX)

    def check_price(self, spec: LiveSpec, price: int) -> None:
        if price < spec.price_min:
            raise Refused(RejectCode.PRICE_TOO_LOW, spec.price_min)
        if price > spec.price_max:
            raise Refused(RejectCode.PRICE_TOO_HIGH, spec.price_max)

    def check_limit(self, spec: LiveSpec, limit: int) -> None:
        if limit != 0 and limit < spec.speed_min:
            raise Refused(RejectCode.LIMIT_TOO_LOW, spec.speed_min)
        if limit > spec.speed_max:
            raise Refused(RejectCode.LIMIT_TOO_HIGH, spec.speed_max)

    def check_speed(self, spec: LiveSpec, speed: int) -> None:
        if speed < spec.speed_min:
            raise Refused(RejectCode.SPEED_TOO_LOW, spec.speed_min)
        if speed > spec.speed_max:
            raise Refused(RejectCode.SPEED_TOO_HIGH, spec.speed_max)

    def check_peg(self, spec: LiveSpec, peg: Peg, offset: int, lowest: int, cap: int) -> None:
        if peg == Peg.NONE:
            good = offset == 0 and lowest == 0
        else:
            good = abs(offset) <= spec.price_max and (lowest == 0 or spec.price_min <= lowest <= cap)
        if not good:
            raise Refused(RejectCode.PEG_INVALID, spec.price_max)

    def check_life(self, expires_ns: int, longest: int) -> None:
        if expires_ns and not self.now < expires_ns <= self.now + longest:
            raise Refused(RejectCode.LIFE_INVALID, longest)

    def check_room(self, account: int) -> None:
        limits = self.exchange.limits
        if sum(order.account == account for order in self.orders()) >= limits.live_orders_per_account_max:
            raise Refused(RejectCode.ORDERS_PER_ACCOUNT_FULL, limits.live_orders_per_account_max)
        if len(self.orders()) >= limits.live_orders_max:
            raise Refused(RejectCode.ORDERS_FULL, limits.live_orders_max)

    def check_flows(self, buyer: int | None = None) -> None:
        """Flows that are not done with, first those that the account buys."""
        limits = self.exchange.limits
        if buyer is not None and sum(flow.bid.account == buyer for flow in self.flows) >= limits.flows_per_account_max:
            raise Refused(RejectCode.FLOWS_FULL, limits.flows_per_account_max)
        if len(self.flows) >= limits.flows_max:
            raise Refused(RejectCode.FLOWS_FULL, limits.flows_max)

    def check_covered(self, account: int, amount: int) -> None:
        available = self.exchange.available(account)
        if amount > available:
            raise Refused(RejectCode.BUDGET_NOT_COVERED, available)

    def market_to_place(self, c: PlaceBid | PlaceAsk) -> LiveMarket:
        """Who and when, and the market if it takes live orders."""
        self.exchange.check_placer(c.account, c.client_order_id)
        market = self.exchange.known_market(c.market)
        if not isinstance(market, LiveMarket):
            raise Refused(RejectCode.MARKET_KIND_WRONG)
        self.exchange.check_trading(market)
        return market

    # --- Commands -------------------------------------------------------------------------------------------

    def list_live(self, c: ListLive) -> None:
        self.exchange.check_deadline()
        self.exchange.check_listing(c.spec.symbol)
        if rule := broken_live_rule(c.spec, self.exchange.limits):
            raise Refused(RejectCode.MARKET_SPEC_INVALID, rule)
        self.markets[c.spec.symbol] = LiveMarket(c.spec)
        self.exchange.events.append(LiveListed(c.spec))

    def place_bid(self, c: PlaceBid) -> None:
        market = self.market_to_place(c)
        spec, limits = market.spec, self.exchange.limits
        self.check_price(spec, c.price)
        self.check_limit(spec, c.limit)
        if c.budget < spec.budget_min:
            raise Refused(RejectCode.BUDGET_TOO_SMALL, spec.budget_min)
        if c.budget > MONEY_MAX_MSAT:
            raise Refused(RejectCode.BUDGET_TOO_LARGE, MONEY_MAX_MSAT)
        self.check_peg(spec, c.peg, c.offset, c.floor, c.price)
        self.check_life(c.expires_ns, spec.life_ns)
        self.check_room(c.account)
        pegged = sum(bid.market == c.market and bid.peg != Peg.NONE for bid in self.bids)
        if c.peg != Peg.NONE and pegged >= limits.pegs_max:
            raise Refused(RejectCode.PEGS_FULL, limits.pegs_max)
        self.check_flows(c.account)
        self.check_covered(c.account, c.budget + spec.placing_fee)
        self.check_destination(c.url, c.worker)
        bid = Bid(
            order_id=self.exchange.seq,
            account=c.account,
            market=c.market,
            client_order_id=c.client_order_id,
            price=c.price,
            limit=c.limit,
            budget=c.budget,
            url=c.url,
            worker=c.worker,
            peg=c.peg,
            offset=c.offset,
            floor=c.floor,
            cap=c.price,
            expires_ns=c.expires_ns or self.now + spec.life_ns,
            changed_ns=self.now,
            escrow=c.budget,
        )
        bid.price = self.pegged_price(bid)
        self.enter(bid)
        self.bids.append(bid)
        self.touched.append(bid)
        account = self.exchange.accounts[c.account]
        account.balance -= spec.placing_fee
        self.exchange.accounts[FEES_ACCOUNT].balance += spec.placing_fee
        self.exchange.events.append(
            BidPlaced(
                account=c.account,
                account_seq=self.exchange.number(c.account),
                order_id=bid.order_id,
                client_order_id=bid.client_order_id,
                market=bid.market,
                price=bid.price,
                limit=bid.limit,
                budget=bid.budget,
                url=bid.url,
                worker=bid.worker,
                peg=bid.peg,
                offset=bid.offset,
                floor=bid.floor,
                cap=bid.cap,
                expires_ns=bid.expires_ns,
                ts_ns=self.now,
                placing_fee=spec.placing_fee,
                balance=account.balance,
                held=self.exchange.held(c.account),
            )
        )
        self.changed(c.market, FlowCause.BID_PLACED)

    def place_ask(self, c: PlaceAsk) -> None:
        market = self.market_to_place(c)
        self.check_price(market.spec, c.price)
        self.check_speed(market.spec, c.speed)
        self.check_life(c.expires_ns, self.exchange.limits.expiry_max_ns)
        self.check_room(c.account)
        self.check_flows()
        ask = Ask(
            order_id=self.exchange.seq,
            account=c.account,
            market=c.market,
            client_order_id=c.client_order_id,
            price=c.price,
            speed=c.speed,
            expires_ns=c.expires_ns,
        )
        self.enter(ask)
        self.asks.append(ask)
        self.exchange.events.append(
            AskPlaced(
                account=c.account,
                account_seq=self.exchange.number(c.account),
                order_id=ask.order_id,
                client_order_id=ask.client_order_id,
                market=ask.market,
                price=ask.price,
                speed=ask.speed,
                expires_ns=ask.expires_ns,
                ts_ns=self.now,
                balance=self.exchange.accounts[c.account].balance,
                held=self.exchange.held(c.account),
            )
        )
        self.changed(c.market, FlowCause.ASK_PLACED)

    def amend_bid(self, c: AmendBid) -> None:
        self.exchange.check_account(c.account)
        self.exchange.check_deadline()
        bid = self.find_bid(c)
        if bid is None:
            raise Refused(RejectCode.ORDER_UNKNOWN)
        market = self.markets[bid.market]
        spec = market.spec
        self.exchange.check_trading(market)
        cap = c.price if c.price else bid.cap
        limit = c.limit if c.limit != -1 else bid.limit
        if c.price:
            self.check_price(spec, c.price)
        if c.limit != -1:
            self.check_limit(spec, c.limit)
        self.check_peg(spec, bid.peg, bid.offset, bid.floor, cap)
        if not c.price and c.limit == -1 and not c.url:
            raise Refused(RejectCode.AMEND_EMPTY)
        edits = cap != bid.cap or limit != bid.limit
        if edits and bid.edited_ns is not None and self.now < bid.edited_ns + spec.lock_ns:
            raise Refused(RejectCode.EDIT_LOCKED, bid.edited_ns + spec.lock_ns)
        if cap < bid.cap:
            if spec.decrease_step and bid.cap - cap > spec.decrease_step:
                raise Refused(RejectCode.DECREASE_TOO_LARGE, spec.decrease_step)
            if self.now < bid.changed_ns + spec.decrease_interval_ns:
                raise Refused(RejectCode.DECREASE_TOO_EARLY, bid.changed_ns + spec.decrease_interval_ns)
        raised = bid.limit != 0 and (limit == 0 or limit > bid.limit)
        if cap != bid.cap or raised:
            self.check_flows(c.account)
        if c.url:
            self.check_destination(c.url, c.worker)
        old_price, old_cap, old_pool = bid.price, bid.cap, (bid.url, bid.worker)
        bid.limit, bid.cap = limit, cap
        if c.url:
            bid.url, bid.worker = c.url, c.worker
        if edits:
            bid.edited_ns = self.now
        if cap != old_cap:
            bid.changed_ns = self.now
        bid.price = self.pegged_price(bid)
        if (bid.price != old_price or raised) and not bid.stopped:
            self.enter(bid)
        self.tell_amended(bid, old_price, FlowCause.BID_AMENDED)
        if (bid.url, bid.worker) != old_pool:
            for flow in sorted(self.flows_of(bid), key=lambda flow: flow.flow_id):
                if flow.running:
                    self.tell_flow(flow, flow.speed, FlowCause.BID_AMENDED)
        self.changed(bid.market, FlowCause.BID_AMENDED)

    def amend_ask(self, c: AmendAsk) -> None:
        self.exchange.check_account(c.account)
        self.exchange.check_deadline()
        ask = self.find_ask(c)
        if ask is None:
            raise Refused(RejectCode.ORDER_UNKNOWN)
        market = self.markets[ask.market]
        self.exchange.check_trading(market)
        if c.price:
            self.check_price(market.spec, c.price)
        if c.speed:
            self.check_speed(market.spec, c.speed)
        if not c.price and not c.speed:
            raise Refused(RejectCode.AMEND_EMPTY)
        old_price, old_speed = ask.price, ask.speed
        price, speed = c.price or ask.price, c.speed or ask.speed
        enters = price != old_price or speed > old_speed
        if enters:
            self.check_flows()
        ask.price, ask.speed = price, speed
        if enters:
            self.enter(ask)
        self.exchange.events.append(
            AskAmended(
                account=ask.account,
                account_seq=self.exchange.number(ask.account),
                order_id=ask.order_id,
                client_order_id=ask.client_order_id,
                market=ask.market,
                old_price=old_price,
                price=ask.price,
                old_speed=old_speed,
                speed=ask.speed,
            )
        )
        self.changed(ask.market, FlowCause.ASK_AMENDED)

    def refill_bid(self, c: RefillBid) -> None:
        self.exchange.check_account(c.account)
        self.exchange.check_client_id(c.refill_id)
        self.exchange.check_deadline()
        self.exchange.check_client_ids_full(c.account)
        bid = self.find_bid(c)
        if bid is None:
            raise Refused(RejectCode.ORDER_UNKNOWN)
        market = self.markets[bid.market]
        if market.state == MarketState.HALTED:
            raise Refused(RejectCode.MARKET_HALTED)
        if c.amount < market.spec.budget_min:
            raise Refused(RejectCode.BUDGET_TOO_SMALL, market.spec.budget_min)
        if bid.budget + c.amount > MONEY_MAX_MSAT:
            raise Refused(RejectCode.BUDGET_TOO_LARGE, MONEY_MAX_MSAT)
        self.check_covered(c.account, c.amount)
        bid.budget += c.amount
        bid.escrow += c.amount
        self.touched.append(bid)
        self.exchange.events.append(
            BidRefilled(
                account=bid.account,
                account_seq=self.exchange.number(bid.account),
                order_id=bid.order_id,
                client_order_id=bid.client_order_id,
                market=bid.market,
                refill_id=c.refill_id,
                amount=c.amount,
                left=bid.escrow,
                balance=self.exchange.accounts[bid.account].balance,
                held=self.exchange.held(bid.account),
            )
        )
        if bid.stopped:
            self.resume(bid)

    def set_index(self, c: SetIndex) -> None:
        self.exchange.check_deadline()
        market = self.exchange.known_market(c.market)
        if not isinstance(market, LiveMarket):
            raise Refused(RejectCode.MARKET_KIND_WRONG)
        if c.price < 0:
            raise Refused(RejectCode.PRICE_TOO_LOW, 1)
        if c.price > market.spec.price_max:
            raise Refused(RejectCode.PRICE_TOO_HIGH, market.spec.price_max)
        market.index = c.price
        self.exchange.events.append(IndexSet(c.market, c.price))
        self.reprice(c.market, Peg.INDEX)
        self.reprice(c.market, Peg.TOP)
        self.reprice(c.market, Peg.MARGINAL)

    def save_pool(self, c: SavePool) -> None:
        self.exchange.check_account(c.account)
        self.exchange.check_deadline()
        if c.pool_id and (c.account, c.pool_id) not in self.pools:
            raise Refused(RejectCode.POOL_UNKNOWN)
        self.check_destination(c.url, c.worker)
        texts = (c.name, c.algorithm)
        if not all(1 <= len(text) <= NAME_CHARS_MAX and text.isprintable() for text in texts) or not (
            len(c.password) <= NAME_CHARS_MAX and c.password.isprintable()
        ):
            raise Refused(RejectCode.POOL_INVALID, NAME_CHARS_MAX)
        most = self.exchange.limits.pools_per_account_max
        if not c.pool_id and sum(account == c.account for account, _ in self.pools) >= most:
            raise Refused(RejectCode.POOLS_FULL, most)
        pool_id = c.pool_id or self.exchange.seq
        self.pools[c.account, pool_id] = Pool(c.name, c.algorithm, c.url, c.worker, c.password)
        self.exchange.events.append(
            PoolSaved(
                account=c.account,
                account_seq=self.exchange.number(c.account),
                pool_id=pool_id,
                name=c.name,
                algorithm=c.algorithm,
                url=c.url,
                worker=c.worker,
                password=c.password,
            )
        )

    def delete_pool(self, c: DeletePool) -> None:
        self.exchange.check_account(c.account)
        self.exchange.check_deadline()
        if (c.account, c.pool_id) not in self.pools:
            raise Refused(RejectCode.POOL_UNKNOWN)
        del self.pools[c.account, c.pool_id]
        self.exchange.events.append(PoolDeleted(c.account, self.exchange.number(c.account), c.pool_id))
