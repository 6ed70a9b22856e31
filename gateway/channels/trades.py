"""``trades.<market>``: every trade, in order. A snapshot is the latest trades; an event holds the trades of one command."""

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

from engine.events import Trade
from gateway.channels.base import NS_PER_US, Channel, Subscriptions, Terms
from gateway.wire import SIDE, TradeView

TRADES_KEPT: Final = 1_000
"""Trades of a market that can be asked for."""
SNAPSHOT_TRADES: Final = 50


class TradesChannel(Channel):
    """One market's trades; ``recent`` also serves the ``trades`` method."""

    def __init__(self, name: str, terms: Terms, subscriptions: Subscriptions) -> None:
        super().__init__(name, subscriptions)
        self._terms = terms
        self._trades: deque[Trade] = deque(maxlen=TRADES_KEPT)

    def load(self, trades: Sequence[Trade]) -> None:
        """Remember trades from before the start."""
        self._trades.extend(trades)

    def trades(self, trades: Sequence[Trade], ts_ns: int) -> None:
        """The trades of one command."""
        self._trades.extend(trades)
        if self._subscribers:
            self._broadcast(self._next("event", [self._view(trade) for trade in trades], ts_ns))
        else:
            self._skip()

    def recent(self, limit: int) -> list[TradeView]:
        """The latest trades, newest first."""
        return [self._view(trade) for trade in islice(reversed(self._trades), limit)]

    def snapshot_data(self, now_ns: int) -> list[TradeView]:
        return self.recent(SNAPSHOT_TRADES)[::-1]

    def _view(self, trade: Trade) -> TradeView:
        return TradeView(
            trade_id=trade.trade_id,
            price=self._terms.price.format(trade.price),
            qty=self._terms.qty.format(trade.qty),
            aggressor_side=SIDE[trade.aggressor_side],
            ts_us=trade.ts_ns // NS_PER_US,
        )
