"""An order book on its own: no accounts, money, or events. For research, backtests, and comparison with other books.

    book = BareBook()
    book.limit(1, True, 100, 5)             # a bid for 5 lots at 100 rests
    book.ioc(2, False, 99, 3)               # [(1, 100, 3)]: order 1 filled 3 lots at 100
    book.cancel(1)                          # 2 lots were left

It is the book of the exchange (:mod:`engine.book`) with the walk of :mod:`engine.matching` less everything about people.
Prices, quantities and order ids are whole numbers, of any size; prices and quantities from 1. The caller makes the ids.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from mypy_extensions import i64, mypyc_attr

from engine.book import Book, Resting

Fills: TypeAlias = Sequence[tuple[int, int, int]]
"""``(maker's order_id, price, qty)`` per match, in order."""

NO_FILLS: Final[Fills] = ()

SPARE_MAX: Final = 1_024
"""Order objects that a book keeps for its next orders."""

# The largest primes below the powers of two: the ids of no source that counts in steps all share a place.
SLOTS: Final = (
    *(13, 31, 61, 127, 251, 509, 1_021, 2_039, 4_093, 8_191, 16_381, 32_749, 65_521, 131_071, 262_139, 524_287, 1_048_573),
    *(2_097_143, 4_194_301, 8_388_593, 16_777_213),
)
"""Sizes of the table of orders, which is as large as there are orders."""


@mypyc_attr(acyclic=True)
class BareOrder(Resting):
    """A resting order that also knows the next one in its slot of the table."""

    __slots__ = ("chained",)

    def __init__(self, order_id: int, is_buy: bool, price: int, remaining: int) -> None:
        super().__init__(order_id, is_buy, price, remaining)
        self.chained: BareOrder | None = None


class BareBook(Book):
    """Price, then time. Every method that may trade returns its fills; ``best_bid`` and ``best_ask`` are 0 for an empty side.

    ValueError for a price or quantity below 1, or an order id that rests already; then nothing has changed.

    Orders are found by id in a table whose slots chain their orders through the orders; compiled, that takes a tenth of what a
    dictionary takes (decision 0013). The objects of orders that are gone serve again, so none of them may be kept outside.
    """

    __slots__ = ("_count", "_orders", "_slots", "_spare")

    def __init__(self) -> None:
        super().__init__()
        self._slots: int = SLOTS[0]
        self._orders: list[BareOrder | None] = [None] * SLOTS[0]
        self._count: int = 0
        # a list: freeing a long chain of objects that are not garbage-collected is not safe, compiled
        self._spare: list[BareOrder] = []

    def __del__(self) -> None:
        """Orders and levels point at each other, and compiled the garbage collector does not see them."""
        for levels in (self.bids, self.asks):
            for level in levels:
                order = level.head
                level.head = level.tail = None
                while isinstance(order, BareOrder):
                    following = order.next
                    order.level = order.prev = order.next = order.chained = None
                    order = following

    def __len__(self) -> int:
        """How many orders rest."""
        return self._count

    def remaining(self, order_id: int) -> int:
        """The quantity that is left of an order, 0 if it does not rest."""
        order = self._find(order_id)
        return 0 if order is None else order.remaining

    def limit(self, order_id: int, is_buy: bool, price: int, qty: int) -> Fills:
        """Trade at ``price`` or better; what is left rests."""
        if price < 1 or qty < 1:
            raise self._mistake(order_id, price, qty)
        slot: i64 = order_id % self._slots
        found = self._orders[slot]
        while found is not None:
            if found.order_id == order_id:
                raise self._mistake(order_id, price, qty)
            found = found.chained
        if (price >= self.best_ask > 0) if is_buy else (price <= self.best_bid):
            fills: list[tuple[int, int, int]] = []
            qty = self._walk(is_buy, price, qty, fills)
            if qty:
                self._rest(order_id, is_buy, price, qty, slot)
            return fills
        self._rest(order_id, is_buy, price, qty, slot)
        return NO_FILLS

    def ioc(self, order_id: int, is_buy: bool, price: int, qty: int) -> Fills:
        """Trade at ``price`` or better; what is left is dropped."""
        if price < 1 or qty < 1:
            raise self._mistake(order_id, price, qty)
        fills: list[tuple[int, int, int]] = []
        self._walk(is_buy, price, qty, fills)
        return fills

    def market(self, order_id: int, is_buy: bool, qty: int) -> Fills:
        """Trade at any price; what is left is dropped."""
        if qty < 1:
            raise self._mistake(order_id, 1, qty)
        fills: list[tuple[int, int, int]] = []
        self._walk(is_buy, self._worst_price(is_buy), qty, fills)
        return fills

    def cancel(self, order_id: int) -> int:
        """Take an order out; the quantity that was left of it, 0 if it does not rest."""
        order = self._forget(order_id)
        if order is None:
            return 0
        self.remove(order)
        return order.remaining

    def amend(self, order_id: int, price: int, qty: int) -> Fills:
        """Let ``qty`` remain at ``price``. Less at the same price keeps its place; anything else enters anew and may trade.

        KeyError for an order that does not rest.
        """
        order = self._find(order_id)
        if order is None:
            raise KeyError(order_id)
        if price < 1 or qty < 1:
            raise self._mistake(order_id, price, qty)
        level = order.level
        if price == order.price and qty <= order.remaining and level is not None:
            level.qty -= order.remaining - qty
            order.remaining = qty
            return NO_FILLS
        self.remove(order)
        self._forget(order_id)
        return self.limit(order_id, order.is_buy, price, qty)

    def _worst_price(self, is_buy: bool) -> int:
        """The price opposite that is last in priority; 0 for an empty side."""
        levels = self.asks if is_buy else self.bids
        return levels[0].price if levels else 0

    def _walk(self, is_buy: bool, limit: int, qty: int, fills: list[tuple[int, int, int]]) -> int:
        """Match up to the price ``limit``; returns what is left of ``qty``."""
        levels = self.asks if is_buy else self.bids
        while levels:
            level = levels[-1]
            price = level.price
            if price > limit if is_buy else price < limit:
                break
            maker = level.head
            assert maker is not None, price
            remaining = maker.remaining
            if qty < remaining:
                fills.append((maker.order_id, price, qty))
                maker.remaining = remaining - qty
                level.qty -= qty
                return 0
            fills.append((maker.order_id, price, remaining))
            self._forget(maker.order_id)
            self.remove(maker)
            qty -= remaining
            if qty == 0:
                break
        return qty

    def _find(self, order_id: int) -> BareOrder | None:
        slot: i64 = order_id % self._slots
        order = self._orders[slot]
        while order is not None and order.order_id != order_id:
            order = order.chained
        return order

    def _rest(self, order_id: int, is_buy: bool, price: int, qty: int, slot: i64) -> None:
        """Let a new order rest, whose ``slot`` of the table is known."""
        if not self._spare:
            order = BareOrder(order_id, is_buy, price, qty)
        else:
            order = self._spare.pop()
            order.order_id = order_id
            order.is_buy = is_buy
            order.price = price
            order.remaining = qty
        order.chained = self._orders[slot]
        self._orders[slot] = order
        self._count += 1
        if self._count > self._slots:
            self._spread()
        self.add(order)

    def _forget(self, order_id: int) -> BareOrder | None:
        """Take an order out of the table, None if it is not there. The next order to rest may be the same object."""
        slot: i64 = order_id % self._slots
        before: BareOrder | None = None
        order = self._orders[slot]
        while order is not None and order.order_id != order_id:
            before = order
            order = order.chained
        if order is None:
            return None
        if before is None:
            self._orders[slot] = order.chained
        else:
            before.chained = order.chained
        order.chained = None
        self._count -= 1
        if len(self._spare) < SPARE_MAX:
            self._spare.append(order)
        return order

    def _spread(self) -> None:
        """More orders than slots: spread them over twice as many. O(orders), as seldom as they double."""
        larger = SLOTS.index(self._slots) + 1
        if larger == len(SLOTS):
            return
        slots = SLOTS[larger]
        orders: list[BareOrder | None] = [None] * slots
        for first in self._orders:
            order = first
            while order is not None:
                following = order.chained
                slot: i64 = order.order_id % slots
                order.chained = orders[slot]
                orders[slot] = order
                order = following
        self._orders = orders
        self._slots = slots

    def _mistake(self, order_id: int, price: int, qty: int) -> ValueError:
        if price < 1 or qty < 1:
            return ValueError(f"order {order_id}: price and qty are whole numbers from 1, not {price} and {qty}")
        return ValueError(f"order {order_id} rests already")
