"""The order book of one market: price levels, each a queue of orders in time order.

Knows prices, quantities and places in the queue; knows nothing of money, accounts' rules or events.

Layout: per side a dict from price to level and a sorted list of prices with the best at its end (asks are kept negated), so
that the levels that change most are where a list is cheapest to change. Orders of a level form a doubly linked list through
the orders themselves: adding, removing and taking the first are O(1); a new or vanishing price is O(log n) plus a short move.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator

from mypy_extensions import mypyc_attr


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
    """Both sides of one market. ``best_bid`` and ``best_ask`` are 0 while a side is empty (no price is below one tick)."""

    __slots__ = ("_ask_prices", "_bid_prices", "asks", "best_ask", "best_bid", "bids")

    def __init__(self) -> None:
        self.bids: dict[int, Level] = {}
        self.asks: dict[int, Level] = {}
        self._bid_prices: list[int] = []
        self._ask_prices: list[int] = []
        self.best_bid: int = 0
        self.best_ask: int = 0

    def add(self, order: Resting) -> None:
        """Put ``order`` last in the queue at its price."""
        price = order.price
        if order.is_buy:
            level = self.bids.get(price)
            if level is None:
                level = Level(price)
                self.bids[price] = level
                if price > self.best_bid:
                    self._bid_prices.append(price)
                    self.best_bid = price
                else:
                    insort(self._bid_prices, price)
        else:
            level = self.asks.get(price)
            if level is None:
                level = Level(price)
                self.asks[price] = level
                if self.best_ask == 0 or price < self.best_ask:
                    self._ask_prices.append(-price)
                    self.best_ask = price
                else:
                    insort(self._ask_prices, -price)
        tail = level.tail
        if tail is None:
            level.head = order
        else:
            tail.next = order
            order.prev = tail
        level.tail = order
        level.qty += order.remaining
        order.level = level

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
            self._drop(level.price, order.is_buy)

    def _drop(self, price: int, is_buy: bool) -> None:
        """Forget an empty level."""
        if is_buy:
            del self.bids[price]
            prices = self._bid_prices
            if price == self.best_bid:
                prices.pop()
                self.best_bid = prices[-1] if prices else 0
            else:
                del prices[bisect_left(prices, price)]
        else:
            del self.asks[price]
            prices = self._ask_prices
            if price == self.best_ask:
                prices.pop()
                self.best_ask = -prices[-1] if prices else 0
            else:
                del prices[bisect_left(prices, -price)]

    def load(self, is_buy: bool, orders: list[Resting], count: int) -> None:
        """Fill an empty side with the last ``count`` of ``orders``, which are in priority order; they are taken off the list.

        No place is searched, and every order is looked at once: O(count).
        """
        levels = self.bids if is_buy else self.asks
        prices = self._bid_prices if is_buy else self._ask_prices
        assert not levels, "the side is not empty"
        level: Level | None = None
        head: Resting | None = None
        for _ in range(count):
            order = orders.pop()
            price = order.price
            if level is None or level.price != price:
                level = Level(price)
                levels[price] = level
                prices.append(price if is_buy else -price)
                level.tail = order
            else:
                order.next = head
                if head is not None:
                    head.prev = order
            level.head = order
            level.qty += order.remaining
            order.level = level
            head = order
        if prices:
            if is_buy:
                self.best_bid = prices[-1]
            else:
                self.best_ask = -prices[-1]

    def bids_best_first(self) -> list[tuple[int, int]]:
        """``(price, qty)`` per bid level, highest price first. O(levels)."""
        return [(price, self.bids[price].qty) for price in reversed(self._bid_prices)]

    def asks_best_first(self) -> list[tuple[int, int]]:
        """``(price, qty)`` per ask level, lowest price first. O(levels)."""
        return [(-price, self.asks[-price].qty) for price in reversed(self._ask_prices)]

    def orders_best_first(self, is_buy: bool) -> list[Resting]:
        """One side's orders in priority order. O(orders)."""
        orders: list[Resting] = []
        levels = self.bids if is_buy else self.asks
        for key in reversed(self._bid_prices if is_buy else self._ask_prices):
            order = levels[key if is_buy else -key].head
            while order is not None:
                orders.append(order)
                order = order.next
        return orders

    def levels_from_best(self, is_buy: bool, limit: int) -> Iterator[Level]:
        """The levels that an order (a buy or not) could take down to its price ``limit``, best first; O(1) each."""
        if is_buy:
            for key in reversed(self._ask_prices):
                if -key > limit:
                    return
                yield self.asks[-key]
        else:
            for key in reversed(self._bid_prices):
                if key < limit:
                    return
                yield self.bids[key]
