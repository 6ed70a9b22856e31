"""The auditor's own copies of books, and what public channels told.

One :class:`BookCopy` stands for one socket's copy of one book channel, made from nothing but its messages. One
:class:`PublicRecord` remembers what was said to anybody, so that two subscribers cannot be told different things.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Final
from zlib import crc32

from tests.simulation.auditor_wire import Terms

CHECKSUM_LEVELS: Final = 10
MIX: Final = (1 << 64) - 1

Levels = list[tuple[int, int]]
Find = Callable[[str, str], None]
"""Takes a check's name and a sentence."""


def _mix(side: int, price: int, qty: int) -> int:
    """A 64-bit mark of one level; the sum of all marks tells whether two books are equal, in any order of change."""
    value = (price * 2 + side + 1) * 0x9E3779B97F4A7C15 ^ qty * 0xC2B2AE3D27D4EB4F
    value &= MIX
    value ^= value >> 29
    return value * 0xBF58476D1CE4E5B9 & MIX


class BookCopy:
    """Levels of both sides in ticks and lots."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.prices: tuple[list[int], list[int]] = ([], [])
        """Ascending: the best bid is last, the best ask first."""
        self.mark = 0

    def clear(self) -> None:
        """Forget everything, before a snapshot."""
        self.sides = ({}, {})
        self.prices = ([], [])
        self.mark = 0

    def put(self, side: int, price: int, qty: int) -> bool:
        """Set a level (0 bids, 1 asks); quantity 0 removes it. False if there is nothing to remove."""
        levels, prices = self.sides[side], self.prices[side]
        old = levels.get(price)
        if old is not None:
            self.mark = (self.mark - _mix(side, price, old)) & MIX
        elif qty:
            insort(prices, price)
        if qty:
            levels[price] = qty
            self.mark = (self.mark + _mix(side, price, qty)) & MIX
        elif old is not None:
            del levels[price]
            del prices[bisect_left(prices, price)]
        return qty > 0 or old is not None

    def best(self, depth: int | None = None) -> tuple[Levels, Levels]:
        """Both sides, best first."""
        bids, asks = self.sides
        bid_prices, ask_prices = self.prices
        first = len(bid_prices) if depth is None else depth
        return (
            [(price, bids[price]) for price in bid_prices[: -first - 1 : -1]],
            [(price, asks[price]) for price in ask_prices[: len(ask_prices) if depth is None else depth]],
        )

    def checksum(self) -> int:
        """CRC32 over the best ten levels of each side, as the document describes it."""
        return checksum(*self.best(CHECKSUM_LEVELS))

    def crossed(self) -> bool:
        """Whether somebody bids as much as somebody asks."""
        bids, asks = self.prices
        return bool(bids) and bool(asks) and bids[-1] >= asks[0]


def checksum(bids: Levels, asks: Levels) -> int:
    """CRC32 over levels that are best first; only the best ten of each count."""
    text = "".join([f"b{price}:{qty};" for price, qty in bids[:CHECKSUM_LEVELS]])
    text += "".join([f"a{price}:{qty};" for price, qty in asks[:CHECKSUM_LEVELS]])
    return crc32(text.encode())


def read_levels(rows: Any, terms: Terms, side: int, find: Find, where: str) -> Levels | None:
    """The levels of one side of a message, best first. None, and a finding, if they are not as documented."""
    if type(rows) is not list:
        find("shape", f"{where}: a list of levels, came {rows!r:.80}")
        return None
    levels: Levels = []
    for row in rows:
        if type(row) is not list or len(row) != 2:
            find("shape", f"{where}: [price, qty], came {row!r:.80}")
            return None
        price, qty = terms.tick.parse(row[0]), terms.lot.parse(row[1])
        if price is None or qty is None:
            find("number", f"{where}: a level on tick and lot, came {row!r:.80}")
            return None
        levels.append((price, qty))
    for better, worse in pairwise(levels):
        if (better[0] <= worse[0]) if side == 0 else (better[0] >= worse[0]):
            find("book", f"{where}: levels best first, came {rows!r:.120}")
            return None
    return levels


class PublicRecord:
    """What the public channels of one server process told, and what must be the same after a restart."""

    def __init__(self) -> None:
        self.messages: dict[tuple[int, str, int, str], dict[str, Any]] = {}
        """By server process, channel, number and type: the first copy that anybody read."""
        self.marks: dict[tuple[int, str, int], int] = {}
        """By server process, book channel and number: the mark of the whole book after it."""
        self.checksums: dict[tuple[int, str], dict[int, tuple[int, int]]] = {}
        """By server process and market: engine time to (number, checksum) of the last ``book`` message with that time."""
        self.trades: dict[str, dict[int, dict[str, Any]]] = {}
        """By market: trade_id to the public trade. Numbers go on over restarts."""

    def of_market(self, market: str) -> list[dict[int, tuple[int, int, bool]]]:
        """By server process: engine time to number, checksum, and whether the next number has another time."""
        found = []
        for (process, name), by_time in sorted(self.checksums.items()):
            if name == market:
                following = [(process, f"book.{market}", seq + 1, "delta") in self.messages for seq, _ in by_time.values()]
                pairs = zip(by_time.items(), following, strict=True)
                found.append({ts_us: (seq, told, last) for (ts_us, (seq, told)), last in pairs})
        return found

    def same(self, key: tuple[int, str, int, str], params: dict[str, Any]) -> bool | None:
        """Whether this message was read before with the same contents; None if nobody read it before."""
        known = self.messages.get(key)
        if known is None:
            self.messages[key] = params
            return None
        if key[3] == "snapshot":
            return bool(known["data"] == params["data"])
        return known == params

    def trade(self, market: str, trade: dict[str, Any]) -> dict[str, Any] | None:
        """Remembers a public trade; returns the other one if its number was told with other contents."""
        known = self.trades.setdefault(market, {}).setdefault(trade["trade_id"], trade)
        return None if known == trade else known


def apply_book(copy: BookCopy, kind: str, data: Any, terms: Terms, every_command: bool, find: Find, where: str) -> None:
    """Take a book message into a copy, and check it by itself: levels, no crossing, checksum."""
    if type(data) is not dict or data.keys() != {"bids", "asks", "checksum"} or type(data["checksum"]) is not int:
        find("shape", f"{where}: bids, asks and checksum, came {data!r:.120}")
        return
    if kind == "snapshot":
        copy.clear()
    for side, name in enumerate(("bids", "asks")):
        levels = read_levels(data[name], terms, side, find, f"{where} {name}")
        for price, qty in levels or ():
            if kind == "snapshot" and not qty:
                find("book", f"{where}: no empty level in a snapshot, came {price} ticks")
            elif not copy.put(side, price, qty) and every_command:
                find("book", f"{where}: removes a level that is there, came {name} {price} ticks")
    if copy.crossed():
        find("book", f"{where}: best bid below best ask, came {copy.best(1)}")
    own = copy.checksum()
    if own != data["checksum"]:
        find("book", f"{where}: checksum {own} over the copy, came {data['checksum']}")


def copy_of(bids: Iterable[tuple[int, int]], asks: Iterable[tuple[int, int]]) -> BookCopy:
    """A copy with these levels."""
    copy = BookCopy()
    for side, levels in enumerate((bids, asks)):
        for price, qty in levels:
            copy.put(side, price, qty)
    return copy
