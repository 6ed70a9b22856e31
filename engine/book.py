"""The order book of one market: price levels, each a queue of orders in time order.

Knows prices, quantities and places in the queue; knows nothing of money, accounts' rules or events.

Layout: per side a dict from price to level and a sorted list of prices with the best at its end (asks are kept negated), so
that the levels that change most are where a list is cheapest to change. Orders of a level form a doubly linked list through
the orders themselves: adding, removing and taking the first are O(1); a new or vanishing price is O(log n) plus a short move.
"""

from bisect import bisect_left, insort

from mypy_extensions import mypyc_attr

from engine.events import Accepted
from engine.members import ORDER_OPEN, STP_CANCEL_MAKER, STP_NONE
from engine.types import OrderStatus, OrderType, PostOnly, SelfTradePrevention, TimeInForce


# Compiled, orders and levels are left out of the cyclic garbage collector, which would walk every one of them again and again.
# Closed orders are unlinked, so nothing is kept; only an engine that is thrown away whole leaves its book behind.
@mypyc_attr(acyclic=True)
class Order:
    """One order, open or closed. While it is open ``qty == filled + remaining``; a closed one has nothing remaining."""

    __slots__ = (
        "accepted",
        "account",
        "client_order_id",
        "expires_ns",
        "filled",
        "forget",
        "is_buy",
        "level",
        "market",
        "next",
        "order_id",
        "order_type",
        "post_only",
        "prev",
        "price",
        "qty",
        "reduce_only",
        "remaining",
        "self_trade_prevention",
        "status",
        "time_in_force",
        "ts_ns",
        "unit_hold",
    )

    def __init__(
        self,
        order_id: int,
        account: int,
        market: str,
        is_buy: bool,
        order_type: OrderType,
        price: int,
        qty: int,
        time_in_force: TimeInForce,
        post_only: PostOnly,
        reduce_only: bool,
        self_trade_prevention: SelfTradePrevention,
        expires_ns: int,
        client_order_id: str,
        ts_ns: int,
        unit_hold: int,
    ) -> None:
        self.order_id: int = order_id
        self.account: int = account
        self.market: str = market
        self.is_buy: bool = is_buy
        self.order_type: OrderType = order_type
        self.price: int = price
        self.qty: int = qty
        self.filled: int = 0
        self.remaining: int = qty
        self.time_in_force: TimeInForce = time_in_force
        self.post_only: PostOnly = post_only
        self.reduce_only: bool = reduce_only
        self.self_trade_prevention: SelfTradePrevention = self_trade_prevention
        self.expires_ns: int = expires_ns
        self.client_order_id: str = client_order_id
        self.ts_ns: int = ts_ns
        # msat held per remaining lot, fixed when the order enters the book or re-enters it
        self.unit_hold: int = unit_hold
        self.status: OrderStatus = ORDER_OPEN
        # the first answer, for repeats of its client_order_id
        self.accepted: Accepted | None = None
        # its client_order_id outlived its time while the order was open: forget it when the order closes
        self.forget: bool = False
        self.level: Level | None = None
        self.prev: Order | None = None
        self.next: Order | None = None


@mypyc_attr(acyclic=True)
class Level:
    """The queue at one price: ``head`` is the oldest order, ``qty`` the sum of what remains."""

    __slots__ = ("head", "price", "qty", "tail")

    def __init__(self, price: int) -> None:
        self.price: int = price
        self.qty: int = 0
        self.head: Order | None = None
        self.tail: Order | None = None


class Book:
    """Both sides of one market. ``best_bid`` and ``best_ask`` are 0 while a side is empty (no price is below one tick)."""

    __slots__ = ("_ask_prices", "_bid_prices", "asks", "best_ask", "best_bid", "bids", "reduce_only_orders")

    def __init__(self) -> None:
        self.bids: dict[int, Level] = {}
        self.asks: dict[int, Level] = {}
        self._bid_prices: list[int] = []
        self._ask_prices: list[int] = []
        self.best_bid: int = 0
        self.best_ask: int = 0
        # resting reduce-only orders: while there are none, a level's qty is all good to fill a FOK order
        self.reduce_only_orders: int = 0

    def add(self, order: Order) -> None:
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
        if order.reduce_only:
            self.reduce_only_orders += 1

    def remove(self, order: Order) -> None:
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
        if order.reduce_only:
            self.reduce_only_orders -= 1
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

    def bids_best_first(self) -> list[tuple[int, int]]:
        """``(price, qty)`` per bid level, highest price first. O(levels)."""
        return [(price, self.bids[price].qty) for price in reversed(self._bid_prices)]

    def asks_best_first(self) -> list[tuple[int, int]]:
        """``(price, qty)`` per ask level, lowest price first. O(levels)."""
        return [(-price, self.asks[-price].qty) for price in reversed(self._ask_prices)]

    def orders_best_first(self, is_buy: bool) -> list[Order]:
        """One side's orders in priority order. O(orders)."""
        orders: list[Order] = []
        levels = self.bids if is_buy else self.asks
        for key in reversed(self._bid_prices if is_buy else self._ask_prices):
            order = levels[key if is_buy else -key].head
            while order is not None:
                orders.append(order)
                order = order.next
        return orders

    def fillable(self, is_buy: bool, limit: int, qty: int, account: int, prevention: SelfTradePrevention) -> int:
        """How much of ``qty`` an order that takes up to price ``limit`` is sure to fill at once.

        Leaves out what self-trade prevention keeps from trading, and resting reduce-only orders, which may be trimmed while
        the order walks the book. O(levels), or O(orders) when one of these applies.
        """
        levels = self.asks if is_buy else self.bids
        by_order = self.reduce_only_orders > 0 or prevention is not STP_NONE
        found = 0
        for key in reversed(self._ask_prices if is_buy else self._bid_prices):
            price = -key if is_buy else key
            if (price > limit) if is_buy else (price < limit):
                break
            level = levels[price]
            if by_order:
                order = level.head
                while order is not None and found < qty:
                    if order.account == account and prevention is not STP_NONE:
                        if prevention is not STP_CANCEL_MAKER:
                            return found
                    elif not order.reduce_only:
                        found += order.remaining
                    order = order.next
            else:
                found += level.qty
            if found >= qty:
                return qty
        return found
