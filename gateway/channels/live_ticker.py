"""``ticker.<market>`` of a live market: best prices, hashrate, and what was paid for work. Every message is a snapshot."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from engine.events import FlowPaid
from engine.limits import DAY_SECONDS
from gateway.channels.base import Subscriptions, Terms
from gateway.channels.live import LiveDepth
from gateway.channels.ticker import MINUTE_NS, WINDOW_MINUTES, Ticker
from gateway.wire import LiveTickerView

SHORT_MINUTES: Final = 5
"""The latest minutes whose paying price is told beside that of 24 hours."""


class PaidMinute:
    """What was paid within one minute, in msat, and for how many hashes."""

    __slots__ = ("cost", "minute", "work")

    def __init__(self, minute: int) -> None:
        self.minute = minute
        self.cost = 0
        self.work = 0


class PaidWindow:
    """What was paid within the latest minutes."""

    __slots__ = ("_minutes", "_paid", "cost", "work")

    def __init__(self, minutes: int) -> None:
        self._minutes = minutes
        self._paid: deque[PaidMinute] = deque()
        self.cost = 0
        self.work = 0

    def add(self, minute: int, cost: int, work: int) -> None:
        if not self._paid or self._paid[-1].minute != minute:
            self._paid.append(PaidMinute(minute))
        self._paid[-1].cost += cost
        self._paid[-1].work += work
        self.cost += cost
        self.work += work

    def expire(self, minute: int) -> bool:
        """Forget what is too old by that minute; whether there was any."""
        expired = False
        while self._paid and self._paid[0].minute <= minute - self._minutes:
            gone = self._paid.popleft()
            self.cost -= gone.cost
            self.work -= gone.work
            expired = True
        return expired


class LiveTickerChannel(Ticker):
    """One live market's ticker."""

    def __init__(self, name: str, depth: LiveDepth, subscriptions: Subscriptions) -> None:
        super().__init__(name, subscriptions)
        self._depth = depth
        self._short = PaidWindow(SHORT_MINUTES)
        self._day = PaidWindow(WINDOW_MINUTES)

    def paid(self, payments: Sequence[FlowPaid], ts_ns: int) -> None:
        """Count what was paid; shown at the next tick."""
        minute = ts_ns // MINUTE_NS
        for paid in payments:
            self._short.add(minute, paid.cost, paid.work)
            self._day.add(minute, paid.cost, paid.work)
        self._expire(ts_ns)
        self._dirty = True

    def snapshot_data(self, now_ns: int) -> LiveTickerView:
        depth = self._depth
        qty = depth.terms.qty.format
        return LiveTickerView(
            market=depth.terms.spec.symbol,
            bid=self._price(depth.bids.best()),
            ask=self._price(depth.asks.best()),
            marginal=self._price(depth.marginal),
            assigned=qty(depth.assigned),
            offered=qty(depth.offered),
            paying_price=self._price(paying_ticks(self._short, depth.terms)),
            paying_price_day=self._price(paying_ticks(self._day, depth.terms)),
            index_price=self._price(depth.index_price),
        )

    def _price(self, ticks: int) -> str | None:
        return self._depth.terms.price.format(ticks) if ticks else None

    def _expire(self, now_ns: int) -> bool:
        minute = now_ns // MINUTE_NS
        short, day = self._short.expire(minute), self._day.expire(minute)
        return short or day


def paying_ticks(paid: PaidWindow, terms: Terms) -> int:
    """What the work was paid with on average, rounded to a whole tick; 0 when nothing was paid."""
    if not paid.work:
        return 0
    spec = terms.spec
    value, unit = paid.cost * spec.lot_hashrate * DAY_SECONDS, paid.work * spec.tick_lot_msat
    return (2 * value + unit) // (2 * unit)
