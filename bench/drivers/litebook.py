# mypy: disable-error-code="import-not-found"
"""litebook: Rust. Limit orders only, so a taker is a limit order far enough away and a cancel of what it left."""

from collections.abc import Sequence
from typing import Any

import litebook as lb

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, MARKET, Op

FAR = 1_000_000


class Litebook(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.book = lb.OrderBook(tick_size=1.0)

    def calls(self, ops: list[Op]) -> list[Call]:
        orders, new, buy, sell = self.orders, lb.Order, lb.OrderType.Buy, lb.OrderType.Sell
        add, cancel = self.book.add, self.book.cancel

        def take(order: Any, name: str) -> Any:
            fills = add(order)
            cancel(name)
            return fills

        def amend(name: str, order: Any) -> Any:
            return add(order) if cancel(name) else []

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, _ in ops:
            if kind == CANCEL:
                calls.append((cancel, (orders[order_id].id,)))
                continue
            if kind == MARKET:
                price = FAR if is_buy else 1
            order = new(buy if is_buy else sell, price, qty)
            if kind == LIMIT:
                calls.append((add, (order,)))
            elif kind == AMEND:
                calls.append((amend, (orders[order_id].id, order)))
            else:
                calls.append((take, (order, order.id)))
                continue
            orders[order_id] = order
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        for op, fills in zip(ops, results, strict=True):
            if op.kind != CANCEL:
                self.count((fill.price, fill.quantity) for fill in fills)

    def best(self) -> tuple[int, int]:
        bids = [order.price_in_ticks for order in self.book.buy_orders]
        asks = [order.price_in_ticks for order in self.book.sell_orders]
        return max(bids, default=0), min(asks, default=0)


if __name__ == "__main__":
    main(Litebook)
