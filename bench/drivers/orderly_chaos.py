# mypy: disable-error-code="import-not-found"
"""orderly-chaos: C++ behind ctypes. No IOC, so that is a limit order and a cancel of what it left; fills come by callback."""

from collections.abc import Sequence
from typing import Any

from orderly_chaos import LimitOrderBook, Side

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, MARKET, Op


class OrderlyChaos(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.trades: list[Any] = []
        self.book = LimitOrderBook(on_trade=self.trades.append)

    def calls(self, ops: list[Op]) -> list[Call]:
        limit, market, cancel, reduce = self.book.limit, self.book.market, self.book.cancel, self.book.reduce

        def ioc(side: Side, order_id: int, qty: int, price: int) -> None:
            if limit(side, order_id, qty, price) < qty:
                cancel(order_id)

        def move(side: Side, order_id: int, qty: int, price: int) -> None:
            cancel(order_id)
            limit(side, order_id, qty, price)

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, less in ops:
            side = Side.BUY if is_buy else Side.SELL
            if kind == LIMIT:
                calls.append((limit, (side, order_id, qty, price)))
            elif kind == CANCEL:
                calls.append((cancel, (order_id,)))
            elif kind == MARKET:
                calls.append((market, (side, order_id, qty)))
            elif kind != AMEND:
                calls.append((ioc, (side, order_id, qty, price)))
            elif less:
                calls.append((reduce, (order_id, less)))
            else:
                calls.append((move, (side, order_id, qty, price)))
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        self.count((trade.price, trade.quantity) for trade in self.trades)
        self.trades.clear()

    def best(self) -> tuple[int, int]:
        return self.book.best_buy() or 0, self.book.best_sell() or 0


if __name__ == "__main__":
    main(OrderlyChaos)
