"""The order book of one market: price levels, each a queue of orders in time order.

Knows prices, quantities and places in the queue; knows nothing of money, accounts' rules or events.

Layout: per side a list of levels in order of price, the best at its end, where a list is cheapest to change. Orders of a level
form a doubly linked list through the orders themselves: adding, removing and taking the first are O(1). A table remembers at
``price & mask`` the level that was asked for last, so that hardly any price is searched; where two prices share a place, or
a level is new, the list is searched by halves: O(log n), plus a short move if the list changes.
"""

from collections.abc import Iterator
from typing import Final

from mypy_extensions import i64, mypyc_attr

FIRST_PLACES: Final = 16
"""Places of a new book's table, a power of two. It doubles whenever there are more levels than places, and never shrinks."""
FAR: Final = 128
"""So many levels from the best, a new one is put in as a slice: that moves all others in one piece, ``insert`` one by one."""


# Compiled, orders and levels are left out of the cyclic garbage collector, which would walk every one of them again and again.
# Closed orders are unlinked, so nothing is kept; only an engine that is thrown away whole leaves its book behind.
@mypyc_attr(acyclic=True)
class Resting:
    """What the book knows of an order: ``remaining`` lots at ``price`` ticks, and its neighbours in the queue."""

    __slots__ = ("is_buy", "level", "next", "order_id", "prev", "price", "remaining")

    def __init__(self, order_id: int, is_buy: bool, price: int, remaining: int) -> None:
        self.order_id: int = order_id
        self.price: int = price
        self.remaining: int = remaining
        self.level: Level | None = None
        self.prev: Resting | None = None
        self.next: Resting | None = None
        # last, so that the bools of a compiled subclass lie beside it and all of them fill one word
        self.is_buy: bool = is_buy


@mypyc_attr(acyclic=True)
class Level:
    """The queue at one price: ``head`` is the oldest order, ``qty`` the sum of what remains."""

    __slots__ = ("head", "price", "qty", "tail")

    def __init__(self, price: int) -> None:
        self.price: int = price
        self.qty: int = 0
        self.head: Resting | None = None
        self.tail: Resting | None = None


class Book:
    """Both sides of one market. ``best_bid`` and ``best_ask`` are 0 while a side is empty (no price is below one tick).

    ``bids`` and ``asks`` hold the levels that have orders, the best one last. No price is on both sides: who adds an order has
    traded first with whatever it crosses.
    """

    __slots__ = ("_mask", "_table", "asks", "best_ask", "best_bid", "bids")

    def __init__(self) -> None:
        self.bids: list[Level] = []
        self.asks: list[Level] = []
        self.best_bid: int = 0
        self.best_ask: int = 0
        # a level that has emptied stays here until another price needs the place: prices come and go at the best
        self._table: list[Level | None] = [None] * FIRST_PLACES
        self._mask: int = FIRST_PLACES - 1

    def add(self, order: Resting) -> None:
        """Put ``order`` last in the queue at its price."""
        price = order.price
        place: i64 = price & self._mask
        level = self._table[place]
        if level is None or level.price != price or level.head is None:
            level = self._level(order.is_buy, price)
        tail = level.tail
        if tail is None:
            level.head = order
        else:
            tail.next = order
            order.prev = tail
        level.tail = order
        level.qty += order.remaining
        order.level = level

    def _level(self, is_buy: bool, price: int) -> Level:
        """The level at a price where the table has none with orders: found in the list, or put into it."""
        levels = self.bids if is_buy else self.asks
        if price > self.best_bid if is_buy else (price < self.best_ask or self.best_ask == 0):
            where = len(levels)
            if is_buy:
                self.best_bid = price
            else:
                self.best_ask = price
        else:
            where = _search(levels, is_buy, price)
            found = levels[where]
            if found.price == price:
                self._table[price & self._mask] = found
                return found
        level = self._table[price & self._mask]
        if level is None or level.price != price:
            level = Level(price)
            self._table[price & self._mask] = level
        if len(levels) - where < FAR:
            levels.insert(where, level)
        else:
            levels[where:where] = [level]
        if len(self.bids) + len(self.asks) > len(self._table):
            self._index()
        return level

    def _index(self) -> None:
        """Put all levels into a table that has a place for each, unless two share one."""
        places = len(self._table)
        while places < len(self.bids) + len(self.asks):
            places *= 2
        self._table = [None] * places
        self._mask = places - 1
        for levels in (self.bids, self.asks):
            for level in levels:
                self._table[level.price & self._mask] = level

    def remove(self, order: Resting) -> None:
        """Take a resting ``order`` out, with whatever remains of it."""
        level = order.level
        assert level is not None, order.order_id
        prev = order.prev
        following = order.next
        if prev is None:
            level.head = following
        else:
            prev.next = following
            order.prev = None
        if following is None:
            level.tail = prev
        else:
            following.prev = prev
            order.next = None
        level.qty -= order.remaining
        order.level = None
        if level.head is None:
            self._drop(order.is_buy, level)

    def _drop(self, is_buy: bool, level: Level) -> None:
        """Take an empty level out of its side."""
        levels = self.bids if is_buy else self.asks
        if level is not levels[-1]:
            levels.pop(_search(levels, is_buy, level.price))
            return
        levels.pop()
        best = levels[-1].price if levels else 0
        if is_buy:
            self.best_bid = best
        else:
            self.best_ask = best

    def load(self, is_buy: bool, orders: list[Resting], count: int) -> None:
        """Fill an empty side with the last ``count`` of ``orders``, which are in priority order; they are taken off the list.

        No place is searched, and every order is looked at once: O(count).
        """
        levels = self.bids if is_buy else self.asks
        assert not levels, "the side is not empty"
        level: Level | None = None
        head: Resting | None = None
        for _ in range(count):
            order = orders.pop()
            price = order.price
            if level is None or level.price != price:
                level = Level(price)
                levels.append(level)
                level.tail = order
            else:
                order.next = head
                if head is not None:
                    head.prev = order
            level.head = order
            level.qty += order.remaining
            order.level = level
            head = order
        if level is not None:
            if is_buy:
                self.best_bid = level.price
            else:
                self.best_ask = level.price
            self._index()

    def clear(self) -> None:
        """Take every order out. O(orders)."""
        for levels in (self.bids, self.asks):
            for level in levels:
                order = level.head
                while order is not None:
                    following = order.next
                    order.level = order.prev = order.next = None
                    order = following
                level.head = level.tail = None
                level.qty = 0
            levels.clear()
        self.best_bid = self.best_ask = 0

    def bids_best_first(self) -> list[tuple[int, int]]:
        """``(price, qty)`` per bid level, highest price first. O(levels)."""
        return [(level.price, level.qty) for level in reversed(self.bids)]

    def asks_best_first(self) -> list[tuple[int, int]]:
        """``(price, qty)`` per ask level, lowest price first. O(levels)."""
        return [(level.price, level.qty) for level in reversed(self.asks)]

    def orders_best_first(self, is_buy: bool) -> list[Resting]:
        """One side's orders in priority order. O(orders)."""
        orders: list[Resting] = []
        for level in reversed(self.bids if is_buy else self.asks):
            order = level.head
            while order is not None:
                orders.append(order)
                order = order.next
        return orders

    def best(self, is_buy: bool) -> Resting | None:
        """The first order of a side."""
        levels = self.bids if is_buy else self.asks
        return levels[-1].head if levels else None

    def after(self, order: Resting) -> Resting | None:
        """Who comes next on the order's side: behind it at its price, or at the next worse one. O(1) or O(log levels)."""
        if order.next is not None:
            return order.next
        levels = self.bids if order.is_buy else self.asks
        where = _search(levels, order.is_buy, order.price)
        return levels[where - 1].head if where else None

    def before(self, order: Resting) -> Resting | None:
        """Who comes just before the order on its side. O(1) or O(log levels)."""
        if order.prev is not None:
            return order.prev
        levels = self.bids if order.is_buy else self.asks
        where = _search(levels, order.is_buy, order.price) + 1
        return levels[where].tail if where < len(levels) else None

    def levels_from_best(self, is_buy: bool, limit: int) -> Iterator[Level]:
        """The levels that an order (a buy or not) could take down to its price ``limit``, best first; O(1) each."""
        for level in reversed(self.asks if is_buy else self.bids):
            if level.price > limit if is_buy else level.price < limit:
                return
            yield level


def _search(levels: list[Level], is_buy: bool, price: int) -> int:
    """How many levels of a side come before ``price`` on the way to the best. O(log levels)."""
    low: i64 = 0
    high: i64 = len(levels)
    while low < high:
        middle = (low + high) >> 1
        other = levels[middle].price
        if other < price if is_buy else other > price:
            low = middle + 1
        else:
            high = middle
    return low
