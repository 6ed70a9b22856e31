"""A local copy of one market's order book, kept from its snapshot and deltas, and proven at every step.

Sans-IO: feed it the channel's messages. :meth:`Book.apply` answers whether the copy is still proven: each delta must name
the message before it, and the checksum after it must be the server's. When it answers False, ask for a snapshot
(``resync``); deltas are ignored until it comes. Inside, prices are ticks and quantities lots, as in the engine.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import neg
from typing import Generic, TypeVar

from sortedcontainers import SortedDict

from gateway.scale import Scale
from gateway.wire import BookView, ChannelMessage, LiveBookView, LiveMarketInfo, MarketInfo

CHECKSUM_LEVELS = 10
"""Levels per side that the checksum covers."""

Level = tuple[int, int]
"""(price in ticks, quantity in lots)"""


def checksum(bids: Iterable[Level], asks: Iterable[Level]) -> int:
    """CRC32 over the best ten levels of each side, best first: ``b<ticks>:<lots>;`` per bid, then ``a<ticks>:<lots>;``."""
    text = [f"b{price}:{qty};" for price, qty in islice(bids, CHECKSUM_LEVELS)]
    text += [f"a{price}:{qty};" for price, qty in islice(asks, CHECKSUM_LEVELS)]
    return crc32("".join(text).encode("ascii"))


T = TypeVar("T")
V = TypeVar("V", BookView, LiveBookView)


class Copy(Generic[T, V]):
    """What every local copy of both sides is: levels of kind T by price, kept from views V, proven or not."""

    def __init__(self, market: MarketInfo | LiveMarketInfo) -> None:
        self.market = market.market
        self.price = Scale(market.tick_size)
        """Price text <-> ticks."""
        self.qty = Scale(market.lot_size)
        """Quantity or speed text <-> lots."""
        self.seq = 0
        """Number of the last message applied."""
        self.ts_us = 0
        """Its time."""
        self.synced = False
        """Whether the copy is whole and proven. While it is False, read nothing from it."""
        self.trouble = "no snapshot yet"
        """Why it is not synced; empty when it is."""
        self._bids: SortedDict[int, T] = SortedDict(neg)
        self._asks: SortedDict[int, T] = SortedDict()

    def apply(self, message: ChannelMessage) -> bool:
        """Take in one message of the channel. False: the copy is not proven, ask for a snapshot."""
        view: V = message.data
        if message.type == "snapshot":
            self._bids.clear()
            self._asks.clear()
        elif not self.synced:
            return False
        elif message.prev_seq != self.seq:
            return self.lose(f"gap: the delta follows {message.prev_seq}, the book is at {self.seq}")
        try:
            self._take(view)
        except ValueError as error:
            return self.lose(f"a level does not fit the market's steps: {error}")
        self.seq, self.ts_us = message.seq, message.ts_us
        if self._checksum() != view.checksum:
            return self.lose(f"the checksum after {message.seq} differs")
        self.synced, self.trouble = True, ""
        return True

    def lose(self, why: str) -> bool:
        """Mark the copy as not proven. Returns False, for ``apply``."""
        self.synced, self.trouble = False, why
        return False

    def _take(self, view: V) -> None:
        """Change what the view names. Raises ValueError for what is no tick or lot."""
        raise AssertionError("a copy takes in views")

    def _checksum(self) -> int:
        """Over the best levels of both sides."""
        raise AssertionError("a copy has a checksum")


class Book(Copy[int, BookView]):
    """One market's depth. Reading the best price is O(log levels), applying a changed level likewise."""

    @property
    def best_bid(self) -> int:
        """Highest bid in ticks; 0 when there is none."""
        return self._bids.peekitem(0)[0] if self._bids else 0

    @property
    def best_ask(self) -> int:
        """Lowest ask in ticks; 0 when there is none."""
        return self._asks.peekitem(0)[0] if self._asks else 0

    def bids(self) -> Iterator[Level]:
        """Levels from the highest bid down."""
        return iter(self._bids.items())

    def asks(self) -> Iterator[Level]:
        """Levels from the lowest ask up."""
        return iter(self._asks.items())

    def _take(self, view: BookView) -> None:
        self._change(self._bids, view.bids)
        self._change(self._asks, view.asks)

    def _checksum(self) -> int:
        return checksum(self.bids(), self.asks())

    def _change(self, side: "SortedDict[int, int]", levels: list[tuple[str, str]]) -> None:
        for price_text, qty_text in levels:
            price, qty = self.price.parse(price_text), self.qty.parse(qty_text)
            if qty:
                side[price] = qty
            else:
                side.pop(price, None)
