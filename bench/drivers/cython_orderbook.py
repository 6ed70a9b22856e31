# mypy: disable-error-code="import-not-found"
"""cython-orderbook: Cython. Order objects, fills in a log that only grows; no IOC and no amend."""

from collections.abc import Sequence
from typing import Any

from cython_orderbook import Order, OrderBook, OrderSide

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, MARKET, Op


class CythonOrderbook(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.book = OrderBook()
        self.seen = 0

    def calls(self, ops: list[Op]) -> list[Call]:
        orders, add, market, cancel = self.orders, self.book.add_limit_order, self.book.add_market_order, self.book.cancel_order

        def ioc(order: Any) -> None:
            add(order)
            cancel(order.order_id)

        def amend(name: str, order: Any) -> None:
            if cancel(name):
                add(order)

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, _ in ops:
            if kind == CANCEL:
                calls.append((cancel, (orders[order_id].order_id,)))
                continue
            side = OrderSide.BID if is_buy else OrderSide.ASK
            order = Order(side=side, price=price, original_quantity=qty)
            if kind == MARKET:
                calls.append((market, (order,)))
            elif kind == LIMIT:
                calls.append((add, (order,)))
            elif kind == AMEND:
                calls.append((amend, (orders[order_id].order_id, order)))
            else:
                calls.append((ioc, (order,)))
            orders[order_id] = order
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        log = self.book.trade_log
        self.count((trade.price, trade.quantity_filled) for trade in log[self.seen :])
        self.seen = len(log)

    def best(self) -> tuple[int, int]:
        return self.book.best_bid() or 0, self.book.best_ask() or 0


if __name__ == "__main__":
    main(CythonOrderbook)
