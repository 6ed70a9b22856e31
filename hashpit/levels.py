"""A local copy of a live market's bids and asks by price, kept from its snapshot and deltas, and proven at every step.

Sans-IO, like :mod:`hashpit.book`: feed it the channel's messages, and ask for a snapshot when :meth:`Levels.apply` answers
False. Inside, prices are ticks and speeds lots.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import neg

from msgspec import Struct
from sortedcontainers import SortedDict

from gateway.scale import Scale
from gateway.wire import ChannelMessage, LiveBookView, LiveMarketInfo
from hashpit.book import CHECKSUM_LEVELS


class Level(Struct, frozen=True):
    """What stands at one price: bids' limits or asks' speed (None: a bid without a limit), and what of it is assigned."""

    price: int
    size: int | None
    assigned: int


def checksum(bids: Iterable[Level], asks: Iterable[Level]) -> int:
    """CRC32 over the best ten levels of each side: ``b<ticks>:<limit in lots, or ->:<assigned>;`` per bid level, then
    ``a<ticks>:<speed>:<assigned>;`` per ask level."""
    text = [_text("b", level) for level in islice(bids, CHECKSUM_LEVELS)]
    text += [_text("a", level) for level in islice(asks, CHECKSUM_LEVELS)]
    return crc32("".join(text).encode("ascii"))


def _text(letter: str, level: Level) -> str:
    return f"{letter}{level.price}:{'-' if level.size is None else level.size}:{level.assigned};"


class Levels:
    """One live market's levels, and what the market tells beside them."""

    def __init__(self, market: LiveMarketInfo) -> None:
        self.market = market.market
        self.price = Scale(market.tick_size)
        """Price text <-> ticks."""
        self.qty = Scale(market.lot_size)
        """Speed text <-> lots."""
        self.state = market.state
        self.assigned = 0
        """All hashrate that flows, in lots."""
        self.marginal = 0
        """What the last bid with hashrate pays, in ticks; 0 when nothing is matched."""
        self.seq = 0
        """Number of the last message applied."""
        self.ts_us = 0
        """Its time."""
        self.synced = False
        """Whether the copy is whole and proven. While it is False, read nothing from it."""
        self.trouble = "no snapshot yet"
        """Why it is not synced; empty when it is."""
        self._bids: SortedDict[int, Level] = SortedDict(neg)
        self._asks: SortedDict[int, Level] = SortedDict()

    def bids(self) -> Iterator[Level]:
        """Levels from the highest bid down."""
        return iter(self._bids.values())

    def asks(self) -> Iterator[Level]:
        """Levels from the cheapest ask up."""
        return iter(self._asks.values())

    def apply(self, message: ChannelMessage) -> bool:
        """Take in one message whose data is a LiveBookView. False: the copy is not proven, ask for a snapshot."""
        view: LiveBookView = message.data
        if message.type == "snapshot":
            self._bids.clear()
            self._asks.clear()
        elif not self.synced:
            return False
        elif message.prev_seq != self.seq:
            return self.lose(f"gap: the delta follows {message.prev_seq}, the copy is at {self.seq}")
        try:
            for price, limit, assigned in view.bids:
                self._change(self._bids, price, limit, assigned)
            for price, speed, assigned in view.asks:
                self._change(self._asks, price, speed, assigned)
            self.assigned = self.qty.parse(view.assigned)
            self.marginal = 0 if view.marginal is None else self.price.parse(view.marginal)
        except ValueError as error:
            return self.lose(f"a level does not fit the market's steps: {error}")
        self.state, self.seq, self.ts_us = view.state, message.seq, message.ts_us
        if checksum(self.bids(), self.asks()) != view.checksum:
            return self.lose(f"the checksum after {message.seq} differs")
        self.synced, self.trouble = True, ""
        return True

    def lose(self, why: str) -> bool:
        """Mark the copy as not proven. Returns False, for ``apply``."""
        self.synced, self.trouble = False, why
        return False

    def _change(self, side: "SortedDict[int, Level]", price_text: str, size_text: str | None, assigned: str) -> None:
        price = self.price.parse(price_text)
        size = None if size_text is None else self.qty.parse(size_text)
        if size == 0:
            side.pop(price, None)
        else:
            side[price] = Level(price, size, self.qty.parse(assigned))
