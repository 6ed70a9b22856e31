# mypy: disable-error-code="import-not-found"
"""lightmatchingengine: Python. It gives out the ids, lets a market order's rest stay at price 0, and has no IOC or amend."""

from collections.abc import Sequence
from typing import Any

from lightmatchingengine.lightmatchingengine import LightMatchingEngine, Side

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, Op


class Light(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.engine = LightMatchingEngine()
        self.ids: dict[int, int] = {}

    def calls(self, ops: list[Op]) -> list[Call]:
        add_order, cancel_order, ids = self.engine.add_order, self.engine.cancel_order, self.ids

        def limit(order_id: int, price: int, qty: int, side: int) -> Any:
            order, trades = add_order("X", price, qty, side)
            ids[order_id] = order.order_id
            return trades

        def take(price: int, qty: int, side: int) -> Any:
            order, trades = add_order("X", price, qty, side)
            if order.leaves_qty:
                cancel_order(order.order_id, "X")
            return trades

        def cancel(order_id: int) -> Any:
            try:
                return cancel_order(ids[order_id], "X")
            except AssertionError:  # for an order that was filled
                return None

        def amend(order_id: int, price: int, qty: int, side: int) -> Any:
            return [] if cancel(order_id) is None else limit(order_id, price, qty, side)

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, _ in ops:
            side = Side.BUY if is_buy else Side.SELL
            if kind == LIMIT:
                calls.append((limit, (order_id, price, qty, side)))
            elif kind == CANCEL:
                calls.append((cancel, (order_id,)))
            elif kind == AMEND:
                calls.append((amend, (order_id, price, qty, side)))
            else:
                calls.append((take, (price, qty, side)))
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        for op, trades in zip(ops, results, strict=True):
            if op.kind != CANCEL:  # the taker's side has trades of its own, one for a price
                maker_side = Side.SELL if op.is_buy else Side.BUY
                self.count((trade.trade_price, trade.trade_qty) for trade in trades if trade.trade_side == maker_side)

    def best(self) -> tuple[int, int]:
        book = self.engine.order_books["X"]
        return max(book.bids, default=0), min(book.asks, default=0)


if __name__ == "__main__":
    main(Light)
