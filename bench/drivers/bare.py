"""Ours: engine.bare, compiled or plain. The variant ``empty`` calls a method that does nothing instead."""

from collections.abc import Sequence
from typing import Any

import engine.bare as bare
from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, IOC, LIMIT, Digest, Op


class Empty:
    """The price of a call with the same arguments that does nothing: no book can be faster."""

    best_bid = 0
    best_ask = 0

    def limit(self, order_id: int, is_buy: bool, price: int, qty: int) -> tuple[()]:
        return ()

    ioc = limit

    def market(self, order_id: int, is_buy: bool, qty: int) -> tuple[()]:
        return ()

    def cancel(self, order_id: int) -> int:
        return 0

    def amend(self, order_id: int, price: int, qty: int) -> tuple[()]:
        return ()


class Bare(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.book: Any = Empty() if variant == "empty" else bare.BareBook()
        self.build = "plain" if str(bare.__file__).endswith(".py") else "compiled"
        self._digest = Digest()

    def calls(self, ops: list[Op]) -> list[Call]:
        limit, ioc, market = self.book.limit, self.book.ioc, self.book.market
        cancel, amend = self.book.cancel, self.book.amend
        calls: list[Call] = []
        for kind, order_id, is_buy, price, qty, _ in ops:
            if kind == LIMIT:
                calls.append((limit, (order_id, is_buy, price, qty)))
            elif kind == CANCEL:
                calls.append((cancel, (order_id,)))
            elif kind == AMEND:
                calls.append((amend, (order_id, price, qty)))
            elif kind == IOC:
                calls.append((ioc, (order_id, is_buy, price, qty)))
            else:
                calls.append((market, (order_id, is_buy, qty)))
        return calls

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        digest = self._digest
        for op, fills in zip(ops, results, strict=True):
            if op.kind != CANCEL:
                for maker_id, price, qty in fills:
                    digest.add(op.order_id, maker_id, price, qty)
        self.fills, self.qty, self.value, self.digest = digest.fills, digest.qty, digest.value, digest.hex()

    def best(self) -> tuple[int, int]:
        return self.book.best_bid, self.book.best_ask


if __name__ == "__main__":
    main(Bare)
