"""Live markets: bids and asks that stand until somebody ends them, and the flows of hashrate between them.

The data, and the arithmetic of one order or flow by itself; docs/decisions/0019-live-markets.md has every rule. Units: ticks,
lots, msat, nanoseconds. An *allowance* counts nano-hashes (10^-9 hashes: lots x lot_hashrate x nanoseconds), a *value*
nano-hashes x ticks.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from engine.accounts import Account, Listing, Standing
from engine.crossing import UNTOUCHED, Crossing
from engine.due import NEVER
from engine.limits import BPS, DAY_SECONDS, FEE_MAX_BPS, MONEY_MAX_MSAT, SECOND_NS, Limits
from engine.markets.dated import LOT_HASHRATE_MAX, TICK_LOT_MSAT_MAX, is_step, is_symbol, is_text
from engine.members import PEG_INDEX, PEG_NONE, PEG_TOP
from engine.types import LiveSpec, MarketState, Peg, Pricing
from engine.words import product

NO_LIMIT: Final = 2**59
"""The size of a bid without a limit, in lots: more than all asks can offer (live_orders_max x qty_max_lots)."""
NANO: Final = 10**9
SPAN_MAX_NS: Final = 400 * DAY_SECONDS * SECOND_NS

LIVE_RULES: Final = (
    "symbol: 1 to 48 characters of A-Z 0-9 . _ -",
    "kind: live",
    "algorithm, speed_unit: 1 to 24 printable ASCII characters; tick_size, lot_size: decimals above zero of at most 24",
    "tick_lot_msat: 1 to 10^12",
    "lot_hashrate: 1 to 2^63 - 1",
    "1 <= price_min <= price_max <= the engine's price_max_ticks",
    "1 <= speed_min <= speed_max <= the engine's qty_max_lots",
    "budget_min: 1 to 2^61 - 1",
    "buyer_fee_bps, seller_fee_bps: 0 to 1000; placing_fee: 0 to budget_min",
    "decrease_interval_ns, lock_ns, slack_ns, idle_ns: 0 to 400 days; decrease_step: 0 to price_max",
    "grace_ns: 1 second to 400 days",
    "life_ns: 1 to 400 days",
)
"""What a live market's specification must satisfy, in the order in which it is checked; a refusal's bound is the rule's number
from 1."""


def broken_live_rule(spec: LiveSpec, limits: Limits) -> int:
    """Number of the first rule of LIVE_RULES that ``spec`` breaks; 0 when it breaks none."""
    spans = (spec.decrease_interval_ns, spec.lock_ns, spec.slack_ns, spec.idle_ns)
    rules = (
        is_symbol(spec.symbol),
        spec.kind == "live",
        is_text(spec.algorithm) and is_text(spec.speed_unit) and is_step(spec.tick_size) and is_step(spec.lot_size),
        0 < spec.tick_lot_msat <= TICK_LOT_MSAT_MAX,
        0 < spec.lot_hashrate <= LOT_HASHRATE_MAX,
        0 < spec.price_min <= spec.price_max <= limits.price_max_ticks,
        0 < spec.speed_min <= spec.speed_max <= limits.qty_max_lots,
        0 < spec.budget_min <= MONEY_MAX_MSAT,
        0 <= spec.buyer_fee_bps <= FEE_MAX_BPS
        and 0 <= spec.seller_fee_bps <= FEE_MAX_BPS
        and 0 <= spec.placing_fee <= spec.budget_min,
        all(0 <= span <= SPAN_MAX_NS for span in spans) and 0 <= spec.decrease_step <= spec.price_max,
        # a bid that nobody reports on comes back after each grace: not more often than that
        SECOND_NS <= spec.grace_ns <= SPAN_MAX_NS,
        0 < spec.life_ns <= SPAN_MAX_NS,
    )
    for number, holds in enumerate(rules, 1):
        if not holds:
            return number
    return 0


@mypyc_attr(acyclic=True)
class Bid(Standing):
    """A standing bid. ``price`` is what it pays now, ``remaining`` its limit (NO_LIMIT without one)."""

    __slots__ = (
        "accrued_value",
        "budget",
        "cap",
        "closing",
        "edited_ns",
        "escrow",
        "exposed_lots",
        "exposure",
        "exposure_clock",
        "floor",
        "flows",
        "heard",
        "offset",
        "peg",
        "price_clock",
        "price_clock_ns",
        "price_ns",
        "spent",
        "stop_ns",
        "stopped",
        "touched",
        "url",
        "worker",
    )

    def __init__(
        self,
        order_id: int,
        account: Account,
        listing: Listing,
        price: int,
        size: int,
        budget: int,
        url: str,
        worker: str,
        peg: Peg,
        offset: int,
        floor: int,
        cap: int,
        expires_ns: int,
        client_order_id: str,
        ts_ns: int,
    ) -> None:
        super().__init__(order_id, account, listing, True, price, size, expires_ns, client_order_id, ts_ns)
        self.url: str = url
        self.worker: str = worker
        self.peg: Peg = peg
        self.offset: int = offset
        self.floor: int = floor
        # the most it pays: its price, unless it is pegged
        self.cap: int = cap
        # all that was put in; what of it is charged; what of it is still held
        self.budget: int = budget
        self.spent: int = 0
        self.escrow: int = budget
        # when an edit last changed the cap, and when one last changed cap or limit (0: never)
        self.price_ns: int = ts_ns
        self.edited_ns: int = 0
        # running flows by ask, and ended ones by flow id, each in order of their flow ids
        self.flows: dict[Ask, Flow] = {}
        self.closing: dict[int, Flow] = {}
        # the integral of its price over time, in ticks x ns, as it stood at price_clock_ns
        self.price_clock: int = 0
        self.price_clock_ns: int = ts_ns
        # of all its flows together the value, and what accrued after their last reports, in ticks x lots x ns, as it stood when
        # what it pays by (see clock_of) was exposure_clock
        self.exposure: int = 0
        self.accrued_value: int = 0
        self.exposure_clock: int = 0
        # exposure in ticks x lots x ns, rounded up
        self.exposed_lots: int = 0
        # whether the change that is under way may have changed how long the budget lasts
        self.touched: bool = False
        # when it is on the agenda to be stopped; NEVER when it is not
        self.stop_ns: int = NEVER
        self.stopped: bool = False
        # whether a flow of it was reported since it was placed or last resumed
        self.heard: bool = False


@mypyc_attr(acyclic=True)
class Ask(Standing):
    """A standing ask: ``remaining`` lots for at least ``price``."""

    __slots__ = ("flows",)

    def __init__(
        self,
        order_id: int,
        account: Account,
        listing: Listing,
        price: int,
        speed: int,
        expires_ns: int,
        client_order_id: str,
        ts_ns: int,
    ) -> None:
        super().__init__(order_id, account, listing, False, price, speed, expires_ns, client_order_id, ts_ns)
        # running flows by bid, in order of their flow ids
        self.flows: dict[Bid, Flow] = {}


@mypyc_attr(acyclic=True)
class Flow:
    """``speed`` lots from an ask to a bid; 0 once it has ended and waits for its last report."""

    __slots__ = (
        "accrued",
        "accrued_value",
        "allowance",
        "ask",
        "bid",
        "buyer_fee",
        "clock",
        "cost",
        "ended_ns",
        "flow_id",
        "hashes",
        "paid_hashes",
        "paid_value",
        "proven_ns",
        "seller_fee",
        "since_ns",
        "speed",
        "speed_before",
        "started_ns",
        "value",
    )

    def __init__(self, flow_id: int, bid: Bid, ask: Ask, now_ns: int, clock: int) -> None:
        self.flow_id: int = flow_id
        self.bid: Bid = bid
        self.ask: Ask = ask
        self.speed: int = 0
        # before the change that is under way; UNTOUCHED if that has not touched it
        self.speed_before: int = UNTOUCHED
        self.started_ns: int = now_ns
        # 0 while it runs; with speed 0 it waits for its last report
        self.ended_ns: int = 0
        # accrued and neither paid nor forfeited by the last report
        self.allowance: int = 0
        self.value: int = 0
        # accrued after it, in lots x ns and ticks x lots x ns, as it stood at since_ns, when the integral of prices was clock:
        # numbers that mostly fit a machine word
        self.accrued: int = 0
        self.accrued_value: int = 0
        self.since_ns: int = now_ns
        self.clock: int = clock
        # proven and paid so far
        self.hashes: int = 0
        self.paid_hashes: int = 0
        self.paid_value: int = 0
        # when a report last brought new work
        self.proven_ns: int = now_ns
        # charged so far, in msat
        self.cost: int = 0
        self.buyer_fee: int = 0
        self.seller_fee: int = 0


class LiveMarket(Listing):
    """One live market: its terms, its orders, and where its prices stand."""

    __slots__ = (
        "budget_min",
        "buyer_fee_bps",
        "clock",
        "clock_ns",
        "crossing",
        "decrease_interval_ns",
        "decrease_step",
        "den",
        "flows",
        "grace_ns",
        "idle_ns",
        "index_price",
        "is_uniform",
        "life_ns",
        "lock_ns",
        "lot_hashrate",
        "marginal",
        "next_rank",
        "num",
        "on_index",
        "on_margin",
        "on_top",
        "orders",
        "per_msat",
        "placing_fee",
        "price_max",
        "price_min",
        "seller_fee_bps",
        "shadow",
        "shadow_left",
        "slack_ns",
        "spec",
        "speed_max",
        "speed_min",
        "state",
    )

    def __init__(self, spec: LiveSpec) -> None:
        self.symbol = spec.symbol
        self.spec: LiveSpec = spec
        self.state: MarketState = MarketState.OPEN
        self.price_min: int = spec.price_min
        self.price_max: int = spec.price_max
        self.lot_hashrate: int = spec.lot_hashrate
        self.buyer_fee_bps: int = spec.buyer_fee_bps
        self.seller_fee_bps: int = spec.seller_fee_bps
        self.placing_fee: int = spec.placing_fee
        self.budget_min: int = spec.budget_min
        self.speed_min: int = spec.speed_min
        self.speed_max: int = spec.speed_max
        self.decrease_step: int = spec.decrease_step
        self.decrease_interval_ns: int = spec.decrease_interval_ns
        self.lock_ns: int = spec.lock_ns
        self.life_ns: int = spec.life_ns
        self.idle_ns: int = spec.idle_ns
        self.slack_ns: int = spec.slack_ns
        self.grace_ns: int = spec.grace_ns
        num: int = spec.tick_lot_msat
        den: int = spec.lot_hashrate * DAY_SECONDS * NANO
        a, b = num, den
        while b:
            a, b = b, a % b
        # msat of one nano-hash at one tick, as a reduced fraction
        self.num: int = num // a
        self.den: int = den // a
        # ticks x lots x ns that one msat pays for, rounded down
        self.per_msat: int = self.den // self.num // spec.lot_hashrate
        self.is_uniform: bool = spec.pricing is Pricing.UNIFORM
        # all that are open, and how many flows run or wait for their last report
        self.orders: dict[int, Bid | Ask] = {}
        self.flows: int = 0
        self.crossing: Crossing = Crossing()
        self.next_rank: int = 1
        # the price of the last bid with a speed, and the integral of it over time, in ticks x ns, as it stood at clock_ns
        self.marginal: int = 0
        self.clock: int = 0
        self.clock_ns: int = 0
        # 0: nobody set one
        self.index_price: int = 0
        # pegged bids by what they follow, in order of their ids; those that are stopped included
        self.on_top: dict[int, Bid] = {}
        self.on_margin: dict[int, Bid] = {}
        self.on_index: dict[int, Bid] = {}
        # the crossing without the bids on the margin, while there are any and for a while longer: until shadow_left more orders
        # have come into the book, so that nobody has it built again and again
        self.shadow: Crossing | None = None
        self.shadow_left: int = 0

    def top(self) -> int:
        """The best price among bids in the book whose price depends on no other bid; 0 without one. O(pegs before it)."""
        book = self.crossing.bids
        order = book.best(True)
        while order is not None:
            assert isinstance(order, Bid), order.order_id
            if order.peg is PEG_NONE or order.peg is PEG_INDEX:
                return order.price
            order = book.after(order)
        return 0

    def reference(self, peg: Peg) -> int:
        """The price that bids with that peg follow now; 0 when there is none."""
        if peg is PEG_TOP:
            return self.top()
        if peg is PEG_INDEX:
            return self.index_price
        # without followers the crossing is what it would be without them
        crossing = self.crossing if self.shadow is None else self.shadow
        return crossing.marginal or self.crossing.asks.best_ask

    def pegged_price(self, reference: int, offset: int, floor: int, cap: int) -> int:
        """What a pegged bid pays while what it follows stands at ``reference`` (0: nowhere)."""
        lowest = floor or self.price_min
        if reference == 0:
            return min(cap, lowest)
        return min(cap, max(lowest, reference + offset))


def clock_of(bid: Bid, market: LiveMarket, now_ns: int) -> int:
    """The integral over time, in ticks x ns, of what the bid pays: its own price, or the market's marginal one."""
    if market.is_uniform:
        return market.clock + product(market.marginal, now_ns - market.clock_ns)
    return bid.price_clock + product(bid.price, now_ns - bid.price_clock_ns)


def charge_max(flow: Flow, market: LiveMarket) -> int:
    """msat that the flow can still cost its buyer, fee included: the charge for all of its allowance, as of the last report."""
    cost = (flow.paid_value + flow.value) * market.num // market.den
    return cost - flow.cost + cost * market.buyer_fee_bps // BPS - flow.buyer_fee
