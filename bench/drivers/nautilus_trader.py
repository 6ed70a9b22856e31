# mypy: disable-error-code="import-not-found"
"""nautilus-trader's OrderBook: Rust behind Cython. It matches nothing, so the plain book says what each operation changes.

A taker is an update or a delete for each maker that it meets.
"""

from collections.abc import Sequence
from typing import Any

from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.data import BookOrder
from nautilus_trader.model.enums import BookType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Price, Quantity

from bench.drivers.base import Call, Driver, main
from bench.flow import Op, PlainBook, Resting


class Nautilus(Driver):
    tells_fills = False
    memory = False  # the plain book's is in it

    def __init__(self, variant: str) -> None:
        super().__init__()
        self.book = OrderBook(InstrumentId.from_str("X.Y"), BookType.L3_MBO)
        self.plain = PlainBook()

    def calls(self, ops: list[Op]) -> list[Call]:
        def several(*calls: Call) -> None:
            for call, arguments in calls:
                call(*arguments)

        found: list[Call] = []
        for op in ops:
            calls = self.changes(op)
            found.append(calls[0] if len(calls) == 1 else (several, tuple(calls)))
        return found

    def changes(self, op: Op) -> list[Call]:
        before = self.plain.orders.get(op.order_id)
        was = before and (before.price, before.qty, before.place)
        fills = self.plain.apply(op)
        calls: list[Call] = []
        for fill in fills:
            calls.append(self.change(fill.maker_id, self.plain.orders.get(fill.maker_id), not op.is_buy, fill.price))
        after = self.plain.orders.get(op.order_id)
        if was and before and (after is not before):
            calls.insert(0, self.change(op.order_id, None, op.is_buy, was[0]))
        if after is not None and after is before:
            calls.append(self.change(op.order_id, after, op.is_buy, after.price))
        elif after is not None:
            calls.append((self.book.add, (self.order(op.order_id, op.is_buy, after.price, after.qty), 0)))
        return calls

    def change(self, order_id: int, order: Resting | None, is_buy: bool, price: int) -> Call:
        """What sets an order to what is left of it."""
        if order is None:
            return self.book.delete, (self.order(order_id, is_buy, price, 1), 0)
        return self.book.update, (self.order(order_id, is_buy, price, order.qty), 0)

    def order(self, order_id: int, is_buy: bool, price: int, qty: int) -> BookOrder:
        return BookOrder(OrderSide.BUY if is_buy else OrderSide.SELL, Price(price, 0), Quantity(qty, 0), order_id)

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        pass

    def best(self) -> tuple[int, int]:
        return int(self.book.best_bid_price() or 0), int(self.book.best_ask_price() or 0)


if __name__ == "__main__":
    main(Nautilus)
