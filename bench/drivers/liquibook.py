# mypy: disable-error-code="import-not-found"
"""liquibook: C++ behind SWIG. It takes order objects and calls back for every step; amending costs an order its place.

As it is, a call gets its order object ready made. In the variant ``by_id`` the call gets what ours gets: it makes the object of
a new order, and finds that of an open one by its id.

``replace`` serves to make an order smaller. It also moves one, but the SimpleOrder of this package goes on telling its old
price, by which the book then looks for it in vain; so a move is a cancel and a new order.
"""

from collections.abc import Sequence
from typing import Any

import liquibook as lb

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, Op


class Listener(lb.OrderListener):  # type: ignore[misc]
    """Keeps the fills. The package wants all of the others to be there."""

    def __init__(self) -> None:
        super().__init__()
        self.fills: list[tuple[int, int]] = []
        self.canceled = False

    def on_fill(self, order: Any, matched: Any, qty: int, price: int) -> None:
        self.fills.append((price, qty))

    def on_cancel(self, order: Any) -> None:
        self.canceled = True

    def on_accept(self, order: Any) -> None:
        pass

    def on_replace(self, order: Any, delta: int, price: int) -> None:
        pass

    def on_reject(self, order: Any, reason: str) -> None:
        pass

    def on_cancel_reject(self, order: Any, reason: str) -> None:
        pass

    def on_replace_reject(self, order: Any, reason: str) -> None:
        pass


class Liquibook(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.by_id = variant == "by_id"
        self.book = lb.DepthOrderBook("X")
        self.listener = Listener()
        self.book.set_order_listener(self.listener)

    def calls(self, ops: list[Op]) -> list[Call]:
        return self.calls_by_id(ops) if self.by_id else self.calls_with_objects(ops)

    def calls_with_objects(self, ops: list[Op]) -> list[Call]:
        book, listener, orders = self.book, self.listener, self.orders
        new, ioc = lb.SimpleOrder, lb.oc_immediate_or_cancel
        add, cancel, replace = book.add, book.cancel, book.replace

        def move(old: Any, moved: Any) -> None:
            listener.canceled = False
            cancel(old)
            if listener.canceled:
                add(moved)

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, less in ops:
            if kind == LIMIT:
                orders[order_id] = new(is_buy, price, qty)
                calls.append((add, (orders[order_id],)))
            elif kind == CANCEL:
                calls.append((cancel, (orders[order_id],)))
            elif kind != AMEND:  # a price of 0 is a market order
                calls.append((add, (new(is_buy, price, qty), ioc)))
            elif less:
                calls.append((replace, (orders[order_id], -less, price)))
            else:
                old, orders[order_id] = orders[order_id], new(is_buy, price, qty)
                calls.append((move, (old, orders[order_id])))
        return calls

    def calls_by_id(self, ops: list[Op]) -> list[Call]:
        book, listener, orders = self.book, self.listener, self.orders
        new, ioc = lb.SimpleOrder, lb.oc_immediate_or_cancel

        def limit(order_id: int, is_buy: bool, price: int, qty: int) -> None:
            order = orders[order_id] = new(is_buy, price, qty)
            book.add(order)

        def take(is_buy: bool, price: int, qty: int) -> None:
            book.add(new(is_buy, price, qty), ioc)

        def cancel(order_id: int) -> None:
            book.cancel(orders[order_id])

        def shrink(order_id: int, less: int, price: int) -> None:
            book.replace(orders[order_id], -less, price)

        def move(order_id: int, is_buy: bool, price: int, qty: int) -> None:
            listener.canceled = False
            book.cancel(orders[order_id])
            if listener.canceled:
                limit(order_id, is_buy, price, qty)

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, less in ops:
            if kind == LIMIT:
                calls.append((limit, (order_id, is_buy, price, qty)))
            elif kind == CANCEL:
                calls.append((cancel, (order_id,)))
            elif kind != AMEND:
                calls.append((take, (is_buy, price, qty)))
            elif less:
                calls.append((shrink, (order_id, less, price)))
            else:
                calls.append((move, (order_id, is_buy, price, qty)))
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        self.count(self.listener.fills)
        self.listener.fills.clear()

    def best(self) -> tuple[int, int]:
        depth = self.book.depth()
        return depth.bids().price(), depth.asks().price()


if __name__ == "__main__":
    main(Liquibook)
