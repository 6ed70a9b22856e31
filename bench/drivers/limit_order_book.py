# mypy: disable-error-code="import-not-found"
"""limit-order-book: C++ behind ctypes. It tells no fills at all, and knows no IOC and no amend.

To cancel an order that is not there ends the process, so the driver leaves that out.
"""

from collections.abc import Sequence
from typing import Any

from limit_order_book import LimitOrderBook

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, MARKET, Op


class Silent(Driver):
    tells_fills = False

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.book = LimitOrderBook()

    def calls(self, ops: list[Op]) -> list[Call]:
        limit, market, cancel, has = self.book.limit, self.book.market, self.book.cancel, self.book.has

        def ioc(is_buy: bool, order_id: int, qty: int, price: int) -> None:
            limit(is_buy, order_id, qty, price)
            if has(order_id):
                cancel(order_id)

        def amend(is_buy: bool, order_id: int, qty: int, price: int) -> None:
            if has(order_id):
                cancel(order_id)
                limit(is_buy, order_id, qty, price)

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, less in ops:
            if kind == LIMIT:
                calls.append((limit, (is_buy, order_id, qty, price)))
            elif kind == CANCEL:
                calls.append((cancel if less else has, (order_id,)))
            elif kind == MARKET:
                calls.append((market, (is_buy, order_id, qty)))
            elif kind == AMEND:
                calls.append((amend, (is_buy, order_id, qty, price)))
            else:
                calls.append((ioc, (is_buy, order_id, qty, price)))
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        pass

    def best(self) -> tuple[int, int]:
        return self.book.best_buy(), self.book.best_sell()


if __name__ == "__main__":
    main(Silent)
