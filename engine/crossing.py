"""Where two standing sides cross: how much of every bid and ask is matched, and what a change changes.

Knows prices, sizes and places in the queue; knows nothing of money, flows or accounts. The rule: walk both sides from the best,
and match as long as the next bid's price is at least the next ask's. So what is matched is a prefix of each side, whole but for
its last order, and the speeds are unique. A change therefore moves the two ends of the prefixes only: O(log levels + orders
whose speed changes).
"""

from typing import Final, cast

from mypy_extensions import mypyc_attr

from engine.book import Book, Resting

UNTOUCHED: Final = -1


@mypyc_attr(acyclic=True)
class Slot(Resting):
    """An order's place in a crossing: of its size (``remaining``, lots) ``assigned`` are matched."""

    __slots__ = ("assigned", "assigned_before", "pending", "rank")

    def __init__(self, order_id: int, is_buy: bool, price: int, size: int) -> None:
        super().__init__(order_id, is_buy, price, size)
        self.assigned: int = 0
        # what was assigned before the change that is under way; UNTOUCHED if that has not touched it
        self.assigned_before: int = UNTOUCHED
        # lots that its flows still have to follow by; 0 but in the middle of a change
        self.pending: int = 0
        # age in the book: of equal prices the lower rank comes first
        self.rank: int = 0


class Crossing:
    """Both sides, and how far each is matched. After ``enter``, ``leave`` and ``shrink`` comes ``settle``, then ``take_moved``.

    ``last_bid`` and ``last_ask`` are the last orders that have a speed; the totals are the sums of the speeds.
    """

    __slots__ = ("ask_total", "asks", "bid_total", "bids", "last_ask", "last_bid", "moved")

    def __init__(self) -> None:
        # a book each, as one holds no price on both sides
        self.bids: Book = Book()
        self.asks: Book = Book()
        self.last_bid: Slot | None = None
        self.last_ask: Slot | None = None
        self.bid_total: int = 0
        self.ask_total: int = 0
        # orders that the change under way has touched
        self.moved: list[Slot] = []

    @property
    def marginal(self) -> int:
        """The price of the last bid with a speed; 0 when nothing is matched."""
        return 0 if self.last_bid is None else self.last_bid.price

    def enter(self, slot: Slot) -> None:
        """Put an order last in the queue at its price."""
        price = slot.price
        if slot.is_buy:
            self.bids.add(slot)
            last = self.last_bid
            inside = last is not None and price > last.price
        else:
            self.asks.add(slot)
            last = self.last_ask
            inside = last is not None and price < last.price
        if inside:
            self._assign(slot, slot.remaining)

    def leave(self, slot: Slot) -> None:
        """Take an order out, with its speed."""
        book = self.bids if slot.is_buy else self.asks
        if slot.assigned:
            if slot.is_buy:
                if slot is self.last_bid:
                    self.last_bid = cast("Slot | None", book.before(slot))
            elif slot is self.last_ask:
                self.last_ask = cast("Slot | None", book.before(slot))
            self._assign(slot, 0)
        book.remove(slot)

    def shrink(self, slot: Slot, size: int) -> None:
        """Give an order a smaller size, at least one lot; it keeps its place."""
        level = slot.level
        assert level is not None, slot.order_id
        level.qty -= slot.remaining - size
        slot.remaining = size
        if slot.assigned > size:
            self._assign(slot, size)

    def settle(self) -> None:
        """Move the ends of both prefixes to where the sides cross now."""
        while True:
            bid = self.last_bid
            ask = self.last_ask
            gap = self.ask_total - self.bid_total
            if gap > 0:
                assert ask is not None
                following = self._next_bid()
                if following is not None and following.price >= ask.price:
                    self._extend_bid(following, min(gap, following.remaining - following.assigned))
                else:
                    self._cut_ask(ask, min(gap, ask.assigned))
            elif gap < 0:
                assert bid is not None
                offered = self._next_ask()
                if offered is not None and offered.price <= bid.price:
                    self._extend_ask(offered, min(-gap, offered.remaining - offered.assigned))
                else:
                    self._cut_bid(bid, min(-gap, bid.assigned))
            else:
                following = self._next_bid()
                offered = self._next_ask()
                if following is not None and offered is not None and following.price >= offered.price:
                    speed = min(following.remaining - following.assigned, offered.remaining - offered.assigned)
                    self._extend_bid(following, speed)
                    self._extend_ask(offered, speed)
                elif bid is not None and ask is not None and bid.price < ask.price:
                    speed = min(bid.assigned, ask.assigned)
                    self._cut_bid(bid, speed)
                    self._cut_ask(ask, speed)
                else:
                    return

    def take_moved(self) -> list[Slot]:
        """The orders that were touched since the last time, and forget them: the caller resets their ``assigned_before``."""
        moved = self.moved
        self.moved = []
        return moved

    def forget_moved(self) -> None:
        """Nobody wants to know."""
        for slot in self.moved:
            slot.assigned_before = UNTOUCHED
        self.moved = []

    def _next_bid(self) -> Slot | None:
        """The first bid that has room."""
        last = self.last_bid
        if last is None:
            return cast("Slot | None", self.bids.best(True))
        if last.assigned < last.remaining:
            return last
        return cast("Slot | None", self.bids.after(last))

    def _next_ask(self) -> Slot | None:
        """The first ask that has room."""
        last = self.last_ask
        if last is None:
            return cast("Slot | None", self.asks.best(False))
        if last.assigned < last.remaining:
            return last
        return cast("Slot | None", self.asks.after(last))

    def _extend_bid(self, bid: Slot, speed: int) -> None:
        self._assign(bid, bid.assigned + speed)
        self.last_bid = bid

    def _extend_ask(self, ask: Slot, speed: int) -> None:
        self._assign(ask, ask.assigned + speed)
        self.last_ask = ask

    def _cut_bid(self, bid: Slot, speed: int) -> None:
        """Less for the last bid."""
        if speed == bid.assigned:
            self.last_bid = cast("Slot | None", self.bids.before(bid))
        self._assign(bid, bid.assigned - speed)

    def _cut_ask(self, ask: Slot, speed: int) -> None:
        """Less for the last ask."""
        if speed == ask.assigned:
            self.last_ask = cast("Slot | None", self.asks.before(ask))
        self._assign(ask, ask.assigned - speed)

    def _assign(self, slot: Slot, speed: int) -> None:
        if slot.assigned_before == UNTOUCHED:
            slot.assigned_before = slot.assigned
            self.moved.append(slot)
        if slot.is_buy:
            self.bid_total += speed - slot.assigned
        else:
            self.ask_total += speed - slot.assigned
        slot.assigned = speed


def best_first(slot: Slot) -> tuple[int, int]:
    """Sort key: the order in which a side is walked."""
    return (-slot.price if slot.is_buy else slot.price), slot.rank
