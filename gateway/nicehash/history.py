"""What the engine does not keep, and NiceHash's clients ask for: ended orders, payments, and how markets and orders fared.

A projection of durable events, in memory and bounded. It begins with the process: what happened before is not in it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from msgspec import Raw, Struct

from engine.commands import Entry
from engine.core import Engine
from engine.events import (
    BalanceChanged,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    BidResumed,
    Event,
    FlowChanged,
    FlowPaid,
    LiveListed,
    MarketStateChanged,
)
from engine.limits import SECOND_NS
from engine.markets.live import NO_LIMIT, Bid
from engine.types import BalanceReason, EndReason, FlowCause, LiveSpec, MarketState, Pricing

ENDED_MAX: Final = 1_000
"""Ended orders that are remembered per account."""
PAYMENTS_MAX: Final = 1_000
"""Payments that are remembered per account. What is paid for one order in one hour is one payment."""
ACCOUNTS_MAX: Final = 10_000
"""Accounts whose past is remembered; past it that of the account that was quiet longest is forgotten."""
KEPT_MAX: Final = 500_000
"""Ended orders and payments of all accounts, about 200 MB of them; past it the same."""
SAMPLE_NS: Final = 60 * SECOND_NS
"""How often markets are looked at."""
ROW_SAMPLES: Final = 5
"""Every so many looks one row of the history is kept."""
ROWS_MAX: Final = 8_640
"""Rows of a market's history: 30 days."""
DAY_ROWS: Final = 288
"""Rows of 24 hours."""
CANDLES_MAX: Final = 500
"""Candles of one market and timeframe."""
TIMEFRAMES: Final[dict[str, int]] = {"15m": 900, "1h": 3_600, "1D": 86_400}
"""Lengths of candles in seconds."""
ORDER_ROWS_MAX: Final = 144
"""Rows of one order's statistics: 12 hours."""
ORDERS_SAMPLED_MAX: Final = 1_000
"""Orders with hashrate whose statistics are kept at a time; others have their current row only."""
CLOSING_MAX: Final = 10_000
"""Ended orders whose last work is waited for; past it the one that ended first is taken as it is."""
_HOUR_NS: Final = 3_600 * SECOND_NS

Kind = Literal["deposit", "withdrawal", "fee", "spent", "earned"]


class Placed(Struct):
    """A bid, open or ended, as its events told it."""

    order_id: int
    account: int
    client_order_id: str
    spec: LiveSpec
    price: int
    """What it pays now, in ticks."""
    limit: int
    budget: int
    url: str
    worker: str
    expires_ns: int
    ts_ns: int
    updated_ns: int
    spent: int = 0
    """msat, fees included."""
    speed: int = 0
    """Lots that flow to it."""
    flows: int = 0
    ended: EndReason | None = None


class Row(Struct, frozen=True):
    """A market at one moment: lots that flow, what they pay on average (ticks, times lots), flows, bids."""

    ts_ns: int
    speed: int
    value: int
    flows: int
    bids: int


class OrderRow(Struct, frozen=True):
    """An order at one moment."""

    ts_ns: int
    price: int
    limit: int
    speed: int
    spent: int


class Candle(Struct):
    """The average price of a time, in lots-weighted ticks: each as (value, speed), which is never rounded."""

    start_s: int
    open: tuple[int, int]
    high: tuple[int, int]
    low: tuple[int, int]
    close: tuple[int, int]
    last: Row


class Payment(Struct):
    """Money that came or went; ``amount`` in msat, below zero when it went."""

    number: int
    """Of the account's payments, from 1."""
    ts_ns: int
    kind: Kind
    amount: int
    order_id: int = 0


class Past:
    """One account's: ended orders and payments, oldest first."""

    __slots__ = ("_ended_max", "_numbered", "_running", "by_id", "payments")

    def __init__(self, ended_max: int, payments_max: int) -> None:
        self._ended_max = ended_max
        self._numbered = 0
        # The payment that what comes for an order in this hour is added to.
        self._running: dict[tuple[int, Kind], Payment] = {}
        self.by_id: dict[int, Placed] = {}
        self.payments: deque[Payment] = deque(maxlen=payments_max)

    def __len__(self) -> int:
        """Ended orders and payments."""
        return len(self.by_id) + len(self.payments)

    def end(self, bid: Placed) -> None:
        self.by_id[bid.order_id] = bid
        if len(self.by_id) > self._ended_max:
            del self.by_id[next(iter(self.by_id))]

    def pay(self, ts_ns: int, kind: Kind, amount: int, order_id: int = 0) -> None:
        if not amount:
            return
        running = self._running.get((order_id, kind)) if order_id else None
        if running is not None and running.ts_ns // _HOUR_NS == ts_ns // _HOUR_NS:
            running.amount += amount
            return
        self._numbered += 1
        payment = Payment(self._numbered, ts_ns, kind, amount, order_id)
        if len(self.payments) == self.payments.maxlen:
            oldest = self.payments[0]
            if self._running.get((oldest.order_id, oldest.kind)) is oldest:
                del self._running[oldest.order_id, oldest.kind]
        self.payments.append(payment)
        if order_id:
            self._running[order_id, kind] = payment


class Market:
    """One live market: its open bids, what flows now, and how that was."""

    __slots__ = ("bids", "candles", "flows", "marginal", "rows", "spec", "speed", "told", "value")

    def __init__(self, spec: LiveSpec) -> None:
        self.spec = spec
        self.bids: dict[int, Placed] = {}
        self.speed = 0
        self.value = 0
        """Sum of price times lots over all flows; of a uniform market, see :meth:`row`."""
        self.flows = 0
        self.marginal = 0
        """Of a uniform market the lowest price that has hashrate; 0 when it is to be looked for."""
        self.rows: deque[Row] = deque(maxlen=ROWS_MAX)
        self.told: tuple[Row | None, Raw] | None = None
        """What all rows were told as, and the newest of them then."""
        self.candles: dict[str, deque[Candle]] = {name: deque(maxlen=CANDLES_MAX) for name in TIMEFRAMES}

    def row(self, ts_ns: int) -> Row:
        """The market as it is now."""
        value = self.value
        if self.spec.pricing is Pricing.UNIFORM and self.speed:
            if not self.marginal:
                self.marginal = min(bid.price for bid in self.bids.values() if bid.speed)
            value = self.speed * self.marginal
        return Row(ts_ns, self.speed, value, self.flows, len(self.bids))

    def day(self) -> list[Row]:
        """The rows of the last 24 hours, oldest first."""
        return [self.rows[at] for at in range(max(0, len(self.rows) - DAY_ROWS), len(self.rows))]

    def sample(self, ts_ns: int, keep: bool) -> None:
        """Look at the market: candles grow, and with ``keep`` its history gets a row."""
        row = self.row(ts_ns)
        if keep:
            self.rows.append(row)
        for name, candles in self.candles.items():
            start_s = ts_ns // SECOND_NS // TIMEFRAMES[name] * TIMEFRAMES[name]
            price = (row.value, row.speed)
            if not candles or candles[-1].start_s != start_s:
                candles.append(Candle(start_s, price, price, price, price, row))
                continue
            candle = candles[-1]
            candle.high = price if _above(price, candle.high) else candle.high
            candle.low = price if _above(candle.low, price) else candle.low
            candle.close = price
            candle.last = row


class History:
    """The past of all accounts and markets. :meth:`publish` takes every durable entry, in order; :meth:`tick` passes time."""

    def __init__(
        self,
        ended_max: int = ENDED_MAX,
        payments_max: int = PAYMENTS_MAX,
        accounts_max: int = ACCOUNTS_MAX,
        orders_sampled_max: int = ORDERS_SAMPLED_MAX,
        kept_max: int = KEPT_MAX,
    ) -> None:
        self._kept = 0
        self._kept_max = kept_max
        self._ended_max = ended_max
        self._payments_max = payments_max
        self._accounts_max = accounts_max
        self._orders_sampled_max = orders_sampled_max
        # In the order in which they last had news.
        self._accounts: dict[int, Past] = {}
        # Bids that ended and have work to be reported, by id.
        self._closing: dict[int, Placed] = {}
        self._order_rows: dict[int, deque[OrderRow]] = {}
        self._samples = 0
        self._sampled_ns = 0
        self.markets: dict[str, Market] = {}
        # Most events of an exchange are none of these, and each entry waits for this.
        self._learns: dict[type, Callable[[Any, int], None]] = {
            FlowChanged: self._flow_changed,
            FlowPaid: self._flow_paid,
            BidPlaced: self._bid_placed,
            BidAmended: self._bid_amended,
            BidRefilled: self._bid_refilled,
            BidResumed: self._bid_resumed,
            BidEnded: self._bid_ended,
            BalanceChanged: self._balance_changed,
            LiveListed: self._listed,
            MarketStateChanged: self._state_changed,
        }

    def start(self, engine: Engine) -> None:
        """Take over what stands in the engine. To be called once, with everything durable."""
        for symbol, listed in engine.live.markets.items():
            market = self.markets[symbol] = Market(listed.spec)
            for order in listed.orders.values():
                if not isinstance(order, Bid):
                    continue
                limit = 0 if order.remaining == NO_LIMIT else order.remaining
                bid = Placed(
                    order.order_id,
                    order.account.account_id,
                    order.client_order_id,
                    listed.spec,
                    order.price,
                    limit,
                    order.budget,
                    order.url,
                    order.worker,
                    order.expires_ns,
                    order.ts_ns,
                    max(order.ts_ns, order.edited_ns),
                    order.spent,
                )
                for flow in order.flows.values():
                    bid.speed += flow.speed
                    bid.flows += 1
                market.bids[bid.order_id] = bid
                market.speed += bid.speed
                market.value += bid.speed * bid.price
                market.flows += bid.flows

    # ---------------------------------------------------------------------------------------------------------- events

    def publish(self, entry: Entry, events: list[Event]) -> None:
        """Take in what one durable entry did."""
        for event in events:
            learn = self._learns.get(type(event))
            if learn is not None:
                learn(event, entry.ts_ns)

    def _listed(self, event: LiveListed, ts_ns: int) -> None:
        self.markets[event.spec.symbol] = Market(event.spec)

    def _state_changed(self, event: MarketStateChanged, ts_ns: int) -> None:
        if event.state is MarketState.SETTLED:
            self.markets.pop(event.market, None)

    def _balance_changed(self, event: BalanceChanged, ts_ns: int) -> None:
        if not event.repeat:
            kind: Kind = "deposit" if event.reason is BalanceReason.DEPOSIT else "withdrawal"
            self._pay(event.account, ts_ns, kind, event.amount)

    def _bid_refilled(self, event: BidRefilled, ts_ns: int) -> None:
        if not event.repeat:
            bid = self.markets[event.market].bids[event.order_id]
            bid.budget += event.amount
            bid.updated_ns = ts_ns

    def _bid_resumed(self, event: BidResumed, ts_ns: int) -> None:
        # Nothing flows to it yet, so the market's value stays.
        self.markets[event.market].bids[event.order_id].price = event.price

    def _bid_placed(self, event: BidPlaced, ts_ns: int) -> None:
        if event.repeat:
            return
        market = self.markets[event.market]
        market.bids[event.order_id] = Placed(
            event.order_id,
            event.account,
            event.client_order_id,
            market.spec,
            event.price,
            event.limit,
            event.budget,
            event.url,
            event.worker,
            event.expires_ns,
            event.ts_ns,
            event.ts_ns,
        )
        self._pay(event.account, event.ts_ns, "fee", -event.placing_fee, event.order_id)

    def _bid_amended(self, event: BidAmended, ts_ns: int) -> None:
        market = self.markets[event.market]
        bid = market.bids[event.order_id]
        market.value += (event.price - bid.price) * bid.speed
        market.marginal = 0
        bid.price = event.price
        bid.limit = event.limit
        bid.url = event.url
        bid.worker = event.worker
        if event.cause is FlowCause.BID_AMENDED:
            bid.updated_ns = ts_ns

    def _flow_changed(self, event: FlowChanged, ts_ns: int) -> None:
        market = self.markets[event.market]
        bid = market.bids.get(event.bid_id) or self._closing.get(event.bid_id)
        moved = event.speed - event.old_speed
        count = (event.speed > 0) - (event.old_speed > 0)
        market.speed += moved
        market.flows += count
        market.marginal = 0
        if bid is not None:
            market.value += moved * bid.price
            bid.speed += moved
            bid.flows += count

    def _flow_paid(self, event: FlowPaid, ts_ns: int) -> None:
        cost = event.cost + event.buyer_fee
        market = self.markets[event.market]
        bid = market.bids.get(event.bid_id) or self._closing.get(event.bid_id)
        if bid is not None:
            bid.spent += cost
        self._pay(event.buyer, ts_ns, "spent", -cost, event.bid_id)
        self._pay(event.seller, ts_ns, "earned", event.cost - event.seller_fee, event.ask_id)

    def _bid_ended(self, event: BidEnded, ts_ns: int) -> None:
        bid = self.markets[event.market].bids.pop(event.order_id)
        bid.ended = event.reason
        bid.updated_ns = ts_ns
        bid.spent = event.spent
        bid.budget = event.budget
        past = self._past(event.account)
        before = len(past)
        past.end(bid)
        self._keep(len(past) - before)
        # Its flows end behind it, and what they did may be reported for a while.
        self._closing[event.order_id] = bid
        if len(self._closing) > CLOSING_MAX:
            del self._closing[next(iter(self._closing))]

    # ------------------------------------------------------------------------------------------------------------ time

    def tick(self, now_ns: int) -> bool:
        """Look at all markets if it is time to; whether it was."""
        if 0 <= now_ns - self._sampled_ns < SAMPLE_NS:
            return False
        self._sampled_ns = now_ns // SAMPLE_NS * SAMPLE_NS
        keep = self._samples % ROW_SAMPLES == 0
        self._samples += 1
        for market in self.markets.values():
            market.sample(self._sampled_ns, keep)
        if keep:
            self._sample_orders()
        return True

    def _sample_orders(self) -> None:
        rows: dict[int, deque[OrderRow]] = {}
        for market in self.markets.values():
            for bid in market.bids.values():
                if len(rows) >= self._orders_sampled_max:
                    break
                if bid.speed:
                    kept = self._order_rows.get(bid.order_id)
                    rows[bid.order_id] = kept if kept is not None else deque(maxlen=ORDER_ROWS_MAX)
                    rows[bid.order_id].append(_order_row(bid, self._sampled_ns))
        self._order_rows = rows

    # ----------------------------------------------------------------------------------------------------------- reads

    def ended(self, account: int, order_id: int) -> Placed | None:
        """An ended order of the account, if it is still remembered."""
        past = self._accounts.get(account)
        return past.by_id.get(order_id) if past is not None else None

    def all_ended(self, account: int) -> list[Placed]:
        """The account's ended orders, oldest first."""
        past = self._accounts.get(account)
        return [*past.by_id.values()] if past is not None else []

    def payments(self, account: int, kinds: tuple[Kind, ...] = ()) -> list[Payment]:
        """The account's payments, newest first; of some kinds only."""
        past = self._accounts.get(account)
        if past is None:
            return []
        return [payment for payment in reversed(past.payments) if not kinds or payment.kind in kinds]

    def order_rows(self, bid: Placed, now_ns: int) -> list[OrderRow]:
        """How an order fared, oldest first; the last row is how it is now."""
        return [*self._order_rows.get(bid.order_id, ()), _order_row(bid, now_ns)]

    def open_bids(self) -> Iterator[Placed]:
        """Every open bid."""
        for market in self.markets.values():
            yield from market.bids.values()

    def _pay(self, account: int, ts_ns: int, kind: Kind, amount: int, order_id: int = 0) -> None:
        past = self._past(account)
        before = len(past)
        past.pay(ts_ns, kind, amount, order_id)
        self._keep(len(past) - before)

    def _past(self, account: int) -> Past:
        past = self._accounts.pop(account, None)
        if past is None:
            past = Past(self._ended_max, self._payments_max)
            if len(self._accounts) >= self._accounts_max:
                self._forget_quietest()
        self._accounts[account] = past
        return past

    def _keep(self, more: int) -> None:
        """The account that had news last has so many more orders or payments."""
        self._kept += more
        while self._kept > self._kept_max and len(self._accounts) > 1:
            self._forget_quietest()

    def _forget_quietest(self) -> None:
        self._kept -= len(self._accounts.pop(next(iter(self._accounts))))


def _order_row(bid: Placed, ts_ns: int) -> OrderRow:
    return OrderRow(ts_ns, bid.price, bid.limit, bid.speed, bid.spent)


def _above(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether an average price is above another; without hashrate there is none, which is below all."""
    if not one[1] or not other[1]:
        return bool(one[1])
    return one[0] * other[1] > other[0] * one[1]
