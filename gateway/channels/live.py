"""``live.<market>``: a live market's bids, asks and hashrate by price; ``flows.<market>``: every flow's start.

``live.<market>`` is a book: a subscriber gets all levels, then deltas that name their predecessor and carry a checksum. A bid
level tells the sum of its limits (or that a bid has none) and what is assigned to it; an ask level its speed and what of it is
taken.

The channels see events only. All of a market's share one :class:`LiveDepth`, the projection of its events onto orders and
levels. Within an entry a level may have hashrate and no order: an order leaves first, then its flows end.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

from engine.events import (
    AskAmended,
    AskEnded,
    AskPlaced,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidResumed,
    BidStopped,
    Event,
    FlowChanged,
    IndexSet,
    MarketStateChanged,
)
from engine.markets.live import NO_LIMIT, Ask, Bid, LiveMarket
from engine.types import MarketState
from gateway.channels.base import NS_PER_US, Channel, Subscriptions, Terms
from gateway.wire import MARKET_STATE, FlowStartView, LiveBookView

CHECKSUM_LEVELS: Final = 10
"""Levels of each side that the checksum covers."""
UNLIMITED: Final = -1
"""The size of a bid without a limit, and of a level that has one."""
STARTS_KEPT: Final = 1_000
"""Starts of a market's flows that are remembered."""
SNAPSHOT_STARTS: Final = 50

Shown = tuple[int, int]
"""What a level tells: limit or speed (0: the level is gone; UNLIMITED), and what is assigned, in lots."""


class LiveLevel:
    """The orders of one side at one price."""

    __slots__ = ("assigned", "orders", "size", "unlimited")

    def __init__(self) -> None:
        self.orders: int = 0
        self.size: int = 0
        """Limits or speeds of those that have one."""
        self.unlimited: int = 0
        """Bids without a limit."""
        self.assigned: int = 0

    def shown(self) -> Shown:
        return (UNLIMITED if self.unlimited else self.size), self.assigned


class LiveSide:
    """One side's levels by price. ``keys`` is sorted with the best at its end (asks negated)."""

    __slots__ = ("_is_bid", "_keys", "_letter", "_sign", "changes", "levels")

    def __init__(self, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._sign = 1 if is_bid else -1
        self._letter = "b" if is_bid else "a"
        self._keys: list[int] = []
        self.levels: dict[int, LiveLevel] = {}
        self.changes: dict[int, Shown] = {}
        """What levels told before they changed, since that was last taken."""

    def add(self, price: int, orders: int, size: int, assigned: int) -> None:
        """Add orders (-1: take one away) of that size, and hashrate. O(log levels), and a short move for a new level."""
        level = self.levels.get(price)
        if level is None:
            level = self.levels[price] = LiveLevel()
            insort(self._keys, price * self._sign)
        if price not in self.changes:
            self.changes[price] = level.shown()
        level.orders += orders
        if size == UNLIMITED:
            level.unlimited += orders
        else:
            level.size += size * orders
        level.assigned += assigned
        assert level.orders >= 0, f"level {price} would have {level.orders} orders"
        assert level.assigned >= 0, f"level {price} would have {level.assigned} lots assigned"

    def take_changes(self) -> list[int]:
        """Prices of levels that tell something else than they did, best first; starts over. Empty levels are dropped."""
        found: list[int] = []
        for price, was in self.changes.items():
            level = self.levels[price]
            if not level.orders:
                assert not level.assigned, f"{level.assigned} lots are assigned at {price}, where nobody stands"
                del self.levels[price]
                key = price * self._sign
                del self._keys[bisect_left(self._keys, key)]
            if self.shown(price) != was:
                found.append(price)
        self.changes = {}
        return sorted(found, reverse=self._is_bid)

    def shown(self, price: int) -> Shown:
        level = self.levels.get(price)
        return (0, 0) if level is None else level.shown()

    def best_first(self) -> Iterator[int]:
        """Prices of levels."""
        for key in reversed(self._keys):
            yield key * self._sign

    def best(self) -> int:
        """The best price; 0 without one."""
        return self._keys[-1] * self._sign if self._keys else 0

    def last_assigned(self) -> int:
        """The worst price that anything is assigned at, 0 without one: what is matched is a prefix. O(log levels)."""
        low, high = 0, len(self._keys)
        while low < high:
            middle = (low + high) // 2
            if self.levels[self._keys[middle] * self._sign].assigned:
                high = middle
            else:
                low = middle + 1
        return self._keys[low] * self._sign if low < len(self._keys) else 0

    def top_text(self) -> str:
        """The levels that the checksum covers, as the text that it is made of."""
        parts: list[str] = []
        for price in islice(self.best_first(), CHECKSUM_LEVELS):
            size, assigned = self.levels[price].shown()
            parts.append(f"{self._letter}{price}:{'-' if size == UNLIMITED else size}:{assigned};")
        return "".join(parts)


class Known:
    """What the projection knows of an order. It is forgotten when it has ended and nothing is assigned to it any more."""

    __slots__ = ("assigned", "ended", "is_bid", "price", "size", "stands")

    def __init__(self, is_bid: bool, price: int, size: int) -> None:
        self.is_bid = is_bid
        self.price = price
        self.size = size
        self.assigned = 0
        self.stands = False
        """Whether it is in the book: not when it is stopped or has ended."""
        self.ended = False


class LiveDepth:
    """Orders and levels of one live market, from its events."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.bids = LiveSide(is_bid=True)
        self.asks = LiveSide(is_bid=False)
        self.state = MarketState.OPEN
        self.index_price = 0
        self.assigned = 0
        """Hashrate that flows, in lots."""
        self.offered = 0
        """Speed of all asks, in lots."""
        self._orders: dict[int, Known] = {}
        self._shown_state = self.state

    def load(self, market: LiveMarket) -> None:
        """Begin where the engine stands."""
        for order in market.orders.values():
            if isinstance(order, Bid):
                known = Known(True, order.price, size_of(order.remaining))
                stands = not order.stopped
            else:
                assert isinstance(order, Ask), order.order_id
                known = Known(False, order.price, order.remaining)
                stands = True
                self.assigned += order.assigned
            self._orders[order.order_id] = known
            if stands:
                self._stand(known)
            self._assign(known, order.assigned)
        self.state = self._shown_state = market.state
        self.index_price = market.index_price
        self.bids.take_changes()
        self.asks.take_changes()

    @property
    def orders(self) -> int:
        """Orders that are known."""
        return len(self._orders)

    @property
    def marginal(self) -> int:
        """The price of the last bid that has hashrate; 0 when none has."""
        return self.bids.last_assigned()

    def apply(self, event: Event) -> None:
        """Take in one new fact of this market; others are ignored."""
        kind = type(event)
        if kind is FlowChanged:
            assert isinstance(event, FlowChanged)
            more = event.speed - event.old_speed
            if more:
                self.assigned += more
                self._flow(event.bid_id, more)
                self._flow(event.ask_id, more)
        elif kind is BidPlaced:
            assert isinstance(event, BidPlaced)
            self._add(event.order_id, Known(True, event.price, size_of(event.limit)))
        elif kind is AskPlaced:
            assert isinstance(event, AskPlaced)
            self._add(event.order_id, Known(False, event.price, event.speed))
        elif kind is BidAmended:
            assert isinstance(event, BidAmended)
            self._change(self._orders[event.order_id], event.price, size_of(event.limit))
        elif kind is AskAmended:
            assert isinstance(event, AskAmended)
            self._change(self._orders[event.order_id], event.price, event.speed)
        elif kind is BidStopped:
            assert isinstance(event, BidStopped)
            self._leave(self._orders[event.order_id])
        elif kind is BidResumed:
            assert isinstance(event, BidResumed)
            known = self._orders[event.order_id]
            known.price = event.price
            self._stand(known)
        elif kind is BidEnded or kind is AskEnded:
            assert isinstance(event, BidEnded | AskEnded)
            known = self._orders[event.order_id]
            known.ended = True
            self._leave(known)
            self._forget(event.order_id, known)
        elif kind is IndexSet:
            assert isinstance(event, IndexSet)
            self.index_price = event.price
        elif kind is MarketStateChanged:
            assert isinstance(event, MarketStateChanged)
            self.state = event.state

    def _add(self, order_id: int, known: Known) -> None:
        self._orders[order_id] = known
        self._stand(known)

    def _side(self, known: Known) -> LiveSide:
        return self.bids if known.is_bid else self.asks

    def _stand(self, known: Known) -> None:
        known.stands = True
        self._side(known).add(known.price, 1, known.size, 0)
        if not known.is_bid:
            self.offered += known.size

    def _leave(self, known: Known) -> None:
        if known.stands:
            known.stands = False
            self._side(known).add(known.price, -1, known.size, 0)
            if not known.is_bid:
                self.offered -= known.size

    def _change(self, known: Known, price: int, size: int) -> None:
        stood = known.stands
        self._leave(known)
        if known.assigned and price != known.price:
            side = self._side(known)
            side.add(known.price, 0, 0, -known.assigned)
            side.add(price, 0, 0, known.assigned)
        known.price, known.size = price, size
        if stood:
            self._stand(known)

    def _flow(self, order_id: int, more: int) -> None:
        known = self._orders[order_id]
        self._assign(known, more)
        self._forget(order_id, known)

    def _assign(self, known: Known, more: int) -> None:
        if more:
            known.assigned += more
            self._side(known).add(known.price, 0, 0, more)

    def _forget(self, order_id: int, known: Known) -> None:
        if known.ended and not known.assigned:
            del self._orders[order_id]

    def take_changes(self) -> "Changes":
        """What tells something else than it did; starts over."""
        is_new = self.state is not self._shown_state
        self._shown_state = self.state
        return Changes(self.bids.take_changes(), self.asks.take_changes(), is_new)

    def checksum(self) -> int:
        """CRC32 over the best levels as ASCII text: ``b<ticks>:<limit in lots, or ->:<assigned>;`` per bid level, then
        ``a<ticks>:<speed>:<assigned>;`` per ask level."""
        return crc32((self.bids.top_text() + self.asks.top_text()).encode())

    def view(self, depth: int | None = None) -> LiveBookView:
        """The best ``depth`` levels of each side, or all; the checksum covers ten whatever the depth."""
        return self._view(islice(self.bids.best_first(), depth), islice(self.asks.best_first(), depth))

    def delta(self, changes: "Changes") -> LiveBookView:
        """The levels that changed, as they are now."""
        return self._view(changes.bids, changes.asks)

    def _view(self, bids: Iterable[int], asks: Iterable[int]) -> LiveBookView:
        price, qty = self.terms.price.format, self.terms.qty.format
        shown_bids: list[tuple[str, str | None, str]] = []
        for ticks in bids:
            size, assigned = self.bids.shown(ticks)
            shown_bids.append((price(ticks), None if size == UNLIMITED else qty(size), qty(assigned)))
        shown_asks: list[tuple[str, str, str]] = []
        for ticks in asks:
            size, assigned = self.asks.shown(ticks)
            shown_asks.append((price(ticks), qty(size), qty(assigned)))
        marginal = self.marginal
        return LiveBookView(
            state=MARKET_STATE[self.state],
            assigned=qty(self.assigned),
            marginal=price(marginal) if marginal else None,
            bids=shown_bids,
            asks=shown_asks,
            checksum=self.checksum(),
        )


class Changes:
    """What one entry changed: prices of levels, and whether the market's state is another one."""

    __slots__ = ("asks", "bids", "state")

    def __init__(self, bids: list[int], asks: list[int], state: bool) -> None:
        self.bids = bids
        self.asks = asks
        self.state = state

    def any(self) -> bool:
        return bool(self.bids or self.asks or self.state)


def size_of(limit: int) -> int:
    """A bid's size: events say 0 for no limit, the engine's orders NO_LIMIT."""
    return UNLIMITED if limit == 0 or limit >= NO_LIMIT else limit


def started(changes: Iterable[FlowChanged]) -> list[FlowChanged]:
    """The flows that started, in order, each as it stood when that instant was over.

    One that ended in the instant of its start carried nothing, and is not among them: where bids follow others, there may be
    very many of these.
    """
    starts: dict[int, FlowChanged] = {}
    for change in changes:
        if not change.old_speed and change.speed:
            starts[change.flow_id] = change
        elif change.flow_id in starts and starts[change.flow_id].ts_ns == change.ts_ns:
            if change.speed:
                starts[change.flow_id] = change
            else:
                del starts[change.flow_id]
    return [*starts.values()]


class LiveBookChannel(Channel):
    """One live market's orders, by price."""

    conflates = True

    def __init__(self, name: str, depth: LiveDepth, subscriptions: Subscriptions) -> None:
        super().__init__(name, subscriptions)
        self._depth = depth

    def snapshot_data(self, now_ns: int) -> LiveBookView:
        return self._depth.view()

    def changed(self, changes: Changes, ts_ns: int) -> None:
        """Tell subscribers what one entry changed."""
        if self._subscribers:
            self._broadcast(self._next("delta", self._depth.delta(changes), ts_ns))
        else:
            self._skip()


class FlowsChannel(Channel):
    """Starts of one live market's flows, in order. A snapshot is the latest ones; an event holds those of one command."""

    def __init__(self, name: str, terms: Terms, subscriptions: Subscriptions) -> None:
        super().__init__(name, subscriptions)
        self._terms = terms
        self._starts: deque[FlowChanged] = deque(maxlen=STARTS_KEPT)

    def load(self, starts: Sequence[FlowChanged]) -> None:
        """Remember starts from before the server's own."""
        self._starts.extend(starts)

    def started(self, starts: Sequence[FlowChanged], ts_ns: int) -> None:
        """The flows that one command started."""
        self._starts.extend(starts)
        if self._subscribers:
            self._broadcast(self._next("event", [self._view(start) for start in starts], ts_ns))
        else:
            self._skip()

    def snapshot_data(self, now_ns: int) -> list[FlowStartView]:
        return [self._view(start) for start in islice(reversed(self._starts), SNAPSHOT_STARTS)][::-1]

    def _view(self, start: FlowChanged) -> FlowStartView:
        price, qty = self._terms.price.format, self._terms.qty.format
        return FlowStartView(start.flow_id, price(start.price), qty(start.speed), start.ts_ns // NS_PER_US)
