"""A local copy of a live market's bids and asks by price, kept from its snapshot and deltas, and proven at every step.

Sans-IO, like :mod:`hashpit.book`: feed it the channel's messages, and ask for a snapshot when :meth:`Levels.apply` answers
False. Inside, prices are ticks and speeds lots.
"""

from binascii import crc32
from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct
from sortedcontainers import SortedDict

from gateway.wire import LiveBookView, LiveMarketInfo
from hashpit.book import CHECKSUM_LEVELS, Copy


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


class Levels(Copy[Level, LiveBookView]):
    """One live market's levels, and what the market tells beside them."""

    def __init__(self, market: LiveMarketInfo) -> None:
        super().__init__(market)
        self.state = market.state
        self.assigned = 0
        """All hashrate that flows, in lots."""
        self.marginal = 0
        """What the last bid with hashrate pays, in ticks; 0 when nothing is matched."""

    def bids(self) -> Iterator[Level]:
        """Levels from the highest bid down."""
        return iter(self._bids.values())

    def asks(self) -> Iterator[Level]:
        """Levels from the cheapest ask up."""
        return iter(self._asks.values())

    def _take(self, view: LiveBookView) -> None:
        for price, limit, assigned in view.bids:
            self._change(self._bids, price, limit, assigned)
        for price, speed, assigned in view.asks:
            self._change(self._asks, price, speed, assigned)
        self.assigned = self.qty.parse(view.assigned)
        self.marginal = 0 if view.marginal is None else self.price.parse(view.marginal)
        self.state = view.state

    def _checksum(self) -> int:
        return checksum(self.bids(), self.asks())

    def _change(self, side: "SortedDict[int, Level]", price_text: str, size_text: str | None, assigned: str) -> None:
        price = self.price.parse(price_text)
        size = None if size_text is None else self.qty.parse(size_text)
        if size == 0:
            side.pop(price, None)
        else:
            side[price] = Level(price, size, self.qty.parse(assigned))
