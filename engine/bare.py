"""An order book on its own: no accounts, money, or events. For research, backtests, and comparison with other books.

    book = BareBook()
    book.limit(1, True, 100, 5)             # a bid for 5 lots at 100 rests
    book.ioc(2, False, 99, 3)               # [(1, 100, 3)]: order 1 filled 3 lots at 100
    book.cancel(1)                          # 2 lots were left

It is the book of the exchange (:mod:`engine.book`) with the walk of :mod:`engine.matching` less everything about people.
Prices, quantities and order ids are whole numbers from 1; the caller makes the ids.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from engine.book import Book, Resting

Fills: TypeAlias = Sequence[tuple[int, int, int]]
"""``(maker's order_id, price, qty)`` per match, in order."""

NO_FILLS: Final[Fills] = ()


class BareBook(Book):
    """Price, then time. Every method that may trade returns its fills; ``best_bid`` and ``best_ask`` are 0 for an empty side.

    ValueError for a price or quantity below 1, or an order id that rests already; then nothing has changed.
    """

    __slots__ = ("orders",)

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[int, Resting] = {}

    def limit(self, order_id: int, is_buy: bool, price: int, qty: int) -> Fills:
        """Trade at ``price`` or better; what is left rests."""
        if price < 1 or qty < 1:
            raise self._mistake(order_id, price, qty)
        if (price >= self.best_ask > 0) if is_buy else (price <= self.best_bid):
            if order_id in self.orders:
                raise self._mistake(order_id, price, qty)
            fills: list[tuple[int, int, int]] = []
            qty = self._walk(is_buy, price, qty, fills)
            if qty:
                order = Resting(order_id, is_buy, price, qty)
                self.orders[order_id] = order
                self.add(order)
            return fills
        order = Resting(order_id, is_buy, price, qty)
        if self.orders.setdefault(order_id, order) is not order:
            raise self._mistake(order_id, price, qty)
        self.add(order)
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
        order = self.orders.pop(order_id, None)
        if order is None:
            return 0
        self.remove(order)
        return order.remaining

    def amend(self, order_id: int, price: int, qty: int) -> Fills:
        """Let ``qty`` remain at ``price``. Less at the same price keeps its place; anything else enters anew and may trade.

        KeyError for an order that does not rest.
        """
        order = self.orders[order_id]
        if price < 1 or qty < 1:
            raise self._mistake(order_id, price, qty)
        level = order.level
        if price == order.price and qty <= order.remaining and level is not None:
            level.qty -= order.remaining - qty
            order.remaining = qty
            return NO_FILLS
        self.remove(order)
        del self.orders[order_id]
        return self.limit(order_id, order.is_buy, price, qty)

    def _worst_price(self, is_buy: bool) -> int:
        """The price opposite that is last in priority; 0 for an empty side."""
        if is_buy:
            return -self._ask_prices[0] if self._ask_prices else 0
        return self._bid_prices[0] if self._bid_prices else 0

    def _walk(self, is_buy: bool, limit: int, qty: int, fills: list[tuple[int, int, int]]) -> int:
        """Match up to the price ``limit``; returns what is left of ``qty``."""
        orders = self.orders
        while qty:
            if is_buy:
                price = self.best_ask
                if price == 0 or price > limit:
                    break
                level = self.asks[price]
            else:
                price = self.best_bid
                if price == 0 or price < limit:
                    break
                level = self.bids[price]
            maker = level.head
            assert maker is not None, price
            remaining = maker.remaining
            if qty < remaining:
                fills.append((maker.order_id, price, qty))
                maker.remaining = remaining - qty
                level.qty -= qty
                return 0
            fills.append((maker.order_id, price, remaining))
            del orders[maker.order_id]
            self.remove(maker)
            qty -= remaining
        return qty

    def _mistake(self, order_id: int, price: int, qty: int) -> ValueError:
        if price < 1 or qty < 1:
            return ValueError(f"order {order_id}: price and qty are whole numbers from 1, not {price} and {qty}")
        return ValueError(f"order {order_id} rests already")
