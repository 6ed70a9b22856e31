"""``book.<market>``: price levels at every change, and ``book.<market>.100ms``: the same, gathered for 100 ms.

A subscriber gets the whole book, then deltas; each delta names its predecessor, and carries the checksum of the book after it.

The channels see events only, never the engine's book, which runs ahead of what is durable. Both forms share one
:class:`Depth`, the projection of one market's events onto price levels.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Final
from zlib import crc32

from engine.events import Accepted, Amended, Canceled, Event, Reduced, Trade
from engine.members import BUY
from engine.types import Side
from gateway.channels.base import Channel, Subscriptions, Terms
from gateway.wire import BookView

CHECKSUM_LEVELS: Final = 10
"""Levels of each side that the checksum covers."""

Changes = dict[int, int]
"""Quantity that a level had before it changed, by price."""


class Levels:
    """One side of a book: lots by price, best price found at once.

    ``keys`` is sorted with the best at its end (asks negated), where a list is cheapest to change.
    """

    __slots__ = ("_is_bid", "_keys", "_letter", "_sign", "changes", "lots", "top_changed")

    def __init__(self, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._sign = 1 if is_bid else -1
        self._letter = "b" if is_bid else "a"
        self._keys: list[int] = []
        self.lots: dict[int, int] = {}
        self.changes: Changes = {}
        """What changed since they were last taken."""
        self.top_changed = True
        """Whether a level that the checksum covers changed since the text of them was last made."""

    def load(self, levels: Iterable[tuple[int, int]]) -> None:
        """Replace everything."""
        self.lots = dict(levels)
        self._keys = sorted(price * self._sign for price in self.lots)
        self.changes = {}
        self.top_changed = True

    def add(self, price: int, lots: int) -> None:
        """Add ``lots`` (negative: take away) at a price. O(log n), and a short move when a level appears or vanishes."""
        before = self.lots.get(price, 0)
        after = before + lots
        assert after >= 0, f"level {price} would hold {after} lots"
        if price not in self.changes:
            self.changes[price] = before
        keys = self._keys
        key = price if self._is_bid else -price
        if len(keys) < CHECKSUM_LEVELS or key >= keys[-CHECKSUM_LEVELS]:
            self.top_changed = True
        if before == 0:
            insort(keys, key)
        if after:
            self.lots[price] = after
        else:
            self.lots.pop(price, None)
            del keys[bisect_left(keys, key)]

    def take_changes(self) -> Changes:
        """Levels that differ from what they were, with what they were; starts over."""
        found = self.changes
        if found:
            self.changes = {}
            for price, was in found.items():
                if self.lots.get(price, 0) == was:
                    return still_changed(found, self)
        return found

    def best_first(self) -> Iterator[tuple[int, int]]:
        for key in reversed(self._keys):
            price = key * self._sign
            yield price, self.lots[price]

    def best(self) -> tuple[int, int] | None:
        """Best price and its lots."""
        if not self._keys:
            return None
        price = self._keys[-1] * self._sign
        return price, self.lots[price]

    def sorted(self, prices: Iterable[int]) -> list[int]:
        """Prices in the order of this side, best first."""
        return sorted(prices, reverse=self._sign > 0)

    def top_text(self) -> str:
        """The levels that the checksum covers, as the text that it is made of."""
        self.top_changed = False
        prices = [key * self._sign for key in self._keys[: -CHECKSUM_LEVELS - 1 : -1]]
        return "".join([f"{self._letter}{price}:{self.lots[price]};" for price in prices])


class Depth:
    """Price levels of one market, from its events."""

    __slots__ = ("_texts", "asks", "bids", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.bids = Levels(is_bid=True)
        self.asks = Levels(is_bid=False)
        self._texts = ["", ""]

    def apply(self, event: Event) -> None:
        """Take in one new fact of this market. Events that leave the book alone are ignored."""
        if type(event) is Accepted:
            if event.resting_qty:
                self._side(event.side).add(event.price, event.resting_qty)
        elif type(event) is Canceled or type(event) is Reduced:
            if event.resting:
                self._side(event.side).add(event.price, -event.qty)
        elif type(event) is Trade:
            makers = self.asks if event.aggressor_side is BUY else self.bids
            makers.add(event.price, -event.qty)
        elif type(event) is Amended:
            levels = self._side(event.side)
            if event.old_resting_qty:
                levels.add(event.old_price, -event.old_resting_qty)
            if event.resting_qty:
                levels.add(event.price, event.resting_qty)

    def _side(self, side: Side) -> Levels:
        return self.bids if side is BUY else self.asks

    def checksum(self) -> int:
        """CRC32 over the best levels as ASCII text: ``b<ticks>:<lots>;`` per bid, then ``a<ticks>:<lots>;`` per ask."""
        for number, levels in enumerate((self.bids, self.asks)):
            if levels.top_changed:
                self._texts[number] = levels.top_text()
        return crc32((self._texts[0] + self._texts[1]).encode())

    def view(self) -> BookView:
        """The whole book."""
        price, qty = self.terms.price.format, self.terms.qty.format
        return BookView(
            bids=[(price(ticks), qty(lots)) for ticks, lots in self.bids.best_first()],
            asks=[(price(ticks), qty(lots)) for ticks, lots in self.asks.best_first()],
            checksum=self.checksum(),
        )

    def delta(self, bids: Changes, asks: Changes) -> BookView:
        """The levels that changed, as they are now."""
        price, qty = self.terms.price.format, self.terms.qty.format
        return BookView(
            bids=[(price(ticks), qty(self.bids.lots.get(ticks, 0))) for ticks in self.bids.sorted(bids)],
            asks=[(price(ticks), qty(self.asks.lots.get(ticks, 0))) for ticks in self.asks.sorted(asks)],
            checksum=self.checksum(),
        )


class BookChannel(Channel):
    """One form of a market's depth feed."""

    conflates = True

    def __init__(self, name: str, depth: Depth, subscriptions: Subscriptions) -> None:
        super().__init__(name, subscriptions)
        self._depth = depth

    def snapshot_data(self, now_ns: int) -> BookView:
        return self._depth.view()

    def changed(self, bids: Changes, asks: Changes, ts_ns: int) -> None:
        """Tell subscribers of changed levels."""
        if self._subscribers:
            self._broadcast(self._next("delta", self._depth.delta(bids, asks), ts_ns))
        else:
            self._skip()


class ConflatedBookChannel(BookChannel):
    """Gathers changes until ``tick``; a level that is back to what it was is not told."""

    def __init__(self, name: str, depth: Depth, subscriptions: Subscriptions) -> None:
        super().__init__(name, depth, subscriptions)
        self._bids: Changes = {}
        self._asks: Changes = {}

    def gather(self, bids: Changes, asks: Changes) -> None:
        """Remember which levels changed, and what they were. Never more than the levels of one tick."""
        if not self._subscribers:
            # One number, one book: the snapshot that the last subscriber was shown is not this one's.
            self._skip()
            return
        for mine, news in ((self._bids, bids), (self._asks, asks)):
            for price, was in news.items():
                mine.setdefault(price, was)

    def _gathers(self) -> bool:
        return bool(self._bids or self._asks)

    def _show_gathered(self, now_ns: int) -> None:
        self.tick(now_ns)

    def tick(self, now_ns: int) -> None:
        """Tell subscribers what changed since the last tick."""
        bids, self._bids = still_changed(self._bids, self._depth.bids), {}
        asks, self._asks = still_changed(self._asks, self._depth.asks), {}
        if bids or asks:
            self.changed(bids, asks, now_ns)


def still_changed(changes: Changes, levels: Levels) -> Changes:
    """Those of the changes whose level is not back to what it was."""
    return {price: was for price, was in changes.items() if levels.lots.get(price, 0) != was}
