# mypy: disable-error-code="import-not-found"
"""order-matching: Python. Orders are placed, then matched; no IOC and no amend."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from loguru import logger
from order_matching.enums import Side
from order_matching.matching_engine import MatchingEngine
from order_matching.order import LimitOrder, MarketOrder
from order_matching.orders import Orders

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, MARKET, Op

START = datetime(2027, 1, 1)  # noqa: DTZ001 (the package compares with datetimes that have no zone)
STEP = timedelta(microseconds=1)


class OrderMatching(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        logger.remove()  # it would write a line or two for every call
        self.engine = MatchingEngine(seed=1)
        self.now = START

    def calls(self, ops: list[Op]) -> list[Call]:
        engine = self.engine

        def place(orders: Orders, now: datetime) -> Any:
            engine.place(orders)
            return engine.match(now).trades

        def cancel(name: str) -> bool:
            try:
                engine.cancel_order(name)
            except ValueError:
                return False
            return True

        def take(orders: Orders, now: datetime, name: str) -> Any:
            trades = place(orders, now)
            cancel(name)
            return trades

        def amend(name: str, orders: Orders, now: datetime) -> Any:
            return place(orders, now) if cancel(name) else []

        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, _ in ops:
            self.now += STEP
            name = str(order_id)
            given: dict[str, Any] = {"side": Side.BUY if is_buy else Side.SELL, "size": float(qty), "timestamp": self.now}
            given |= {"order_id": name, "trader_id": "x"}
            if kind == CANCEL:
                calls.append((cancel, (name,)))
                continue
            orders = Orders([MarketOrder(**given) if kind == MARKET else LimitOrder(price=float(price), **given)])
            if kind == LIMIT:
                calls.append((place, (orders, self.now)))
            elif kind == AMEND:
                calls.append((amend, (name, orders, self.now)))
            else:
                calls.append((take, (orders, self.now, name)))
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        for op, trades in zip(ops, results, strict=True):
            if op.kind != CANCEL:
                self.count((trade.price, trade.size) for trade in trades)

    def best(self) -> tuple[int, int]:
        book = self.engine.unprocessed_orders
        return int(max(book.bids, default=0)), int(min(book.offers, default=0))


if __name__ == "__main__":
    main(OrderMatching)
