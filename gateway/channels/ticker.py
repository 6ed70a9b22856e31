"""``ticker.<market>``: top of book, last trade and the last 24 hours, at most every 100 ms. Every message is a snapshot."""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from engine.events import Trade
from engine.limits import SECOND_NS
from gateway.channels.base import Channel, Subscriptions
from gateway.channels.book import Depth
from gateway.wire import TickerView

MINUTE_NS: Final = 60 * SECOND_NS
WINDOW_MINUTES: Final = 24 * 60
"""The 24 hours, in whole minutes; a minute without trades costs nothing."""


class Minute:
    """What traded within one minute."""

    __slots__ = ("high", "low", "minute", "trades", "volume")

    def __init__(self, minute: int, trade: Trade) -> None:
        self.minute = minute
        self.volume = 0
        self.trades = 0
        self.high = trade.price
        self.low = trade.price

    def add(self, trade: Trade) -> None:
        self.volume += trade.qty
        self.trades += 1
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)


class Ticker(Channel):
    """What tickers of all market kinds share: at most one message per tick, and none that says the same again."""

    conflates = True

    def __init__(self, name: str, subscriptions: Subscriptions) -> None:
        super().__init__(name, subscriptions)
        self._shown: Any = None
        self._dirty = False

    def touched(self) -> None:
        """Something that it shows may have changed: the book, the index, the market's state."""
        self._dirty = True

    def tick(self, now_ns: int) -> None:
        """Show the ticker if it changed since the last tick, be it because something old left a window."""
        if self._expire(now_ns) or self._dirty:
            self._dirty = False
            view = self.snapshot_data(now_ns)
            if view == self._shown:
                return
            self._shown = view
            if self._subscribers:
                self._broadcast(self._next("snapshot", view, now_ns))
            else:
                self._skip()

    def _gathers(self) -> bool:
        # A change that is taken back before the tick would stay with whoever saw it in a snapshot.
        return self._dirty

    def _show_gathered(self, now_ns: int) -> None:
        self.tick(now_ns)

    def _expire(self, now_ns: int) -> bool:
        """Forget what is too old by now; whether there was any."""
        raise AssertionError("a ticker has windows")


class TickerChannel(Ticker):
    """One market's ticker."""

    def __init__(self, name: str, depth: Depth, subscriptions: Subscriptions, last_price: int = 0) -> None:
        super().__init__(name, subscriptions)
        self._depth = depth
        self._last = last_price
        self._minutes: deque[Minute] = deque()
        self._volume = 0
        self._trades = 0
        self._high = 0
        self._low = 0

    def trades(self, trades: Sequence[Trade]) -> None:
        """Count trades; shown at the next tick."""
        for trade in trades:
            minute = trade.ts_ns // MINUTE_NS
            if not self._minutes or self._minutes[-1].minute != minute:
                self._minutes.append(Minute(minute, trade))
            self._minutes[-1].add(trade)
            self._volume += trade.qty
            self._trades += 1
            self._last = trade.price
            self._high = max(self._high, trade.price)
            self._low = min(self._low or trade.price, trade.price)
        self._expire(trades[-1].ts_ns)
        self._dirty = True

    def snapshot_data(self, now_ns: int) -> TickerView:
        price, qty = self._depth.terms.price.format, self._depth.terms.qty.format
        bid, ask = self._depth.bids.best(), self._depth.asks.best()
        return TickerView(
            market=self._depth.terms.spec.symbol,
            bid=price(bid[0]) if bid else None,
            bid_qty=qty(bid[1]) if bid else None,
            ask=price(ask[0]) if ask else None,
            ask_qty=qty(ask[1]) if ask else None,
            last=price(self._last) if self._last else None,
            volume=qty(self._volume),
            high=price(self._high) if self._minutes else None,
            low=price(self._low) if self._minutes else None,
            trades=self._trades,
        )

    def _expire(self, now_ns: int) -> bool:
        oldest = now_ns // MINUTE_NS - WINDOW_MINUTES
        expired = False
        while self._minutes and self._minutes[0].minute <= oldest:
            gone = self._minutes.popleft()
            self._volume -= gone.volume
            self._trades -= gone.trades
            expired = True
        if expired:
            self._high = max((minute.high for minute in self._minutes), default=0)
            self._low = min((minute.low for minute in self._minutes), default=0)
        return expired
