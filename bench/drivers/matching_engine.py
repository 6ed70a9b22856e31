# mypy: disable-error-code="import-not-found"
"""matching-engine: Python 3.12 and msgspec. Sequenced commands in, events out; no amend.

The variants append each command to its write-ahead log before it is processed: ``log`` writes it to the file, ``fsync`` also
waits for the disk.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matching_engine import CancelOrder, NewOrder, OrderType, SelfTradePrevention, SequencedCommand, Side, TimeInForce
from matching_engine.engine import MatchingEngine
from matching_engine.events import OrderCancelled, Trade
from matching_engine.journal import Journal

from bench.drivers.base import Call, Driver, main
from bench.flow import AMEND, CANCEL, LIMIT, MARKET, Op

ACCOUNT = 1


class Matching(Driver):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.engine = MatchingEngine()
        self.seq = 0
        self.process = self.logged(variant == "fsync") if variant else self.engine.process

    def logged(self, fsync: bool) -> Any:
        self.folder = tempfile.TemporaryDirectory(prefix="hashpit-bench-")  # goes away with the process
        journal = Journal(Path(self.folder.name), fsync=fsync)
        journal.open(1)
        append, sync, process = journal.append, journal.sync, self.engine.process

        def logged(command: SequencedCommand) -> Any:
            append(command)
            sync()
            return process(command)

        return logged

    def calls(self, ops: list[Op]) -> list[Call]:
        process = self.process

        def amend(cancel: SequencedCommand, new: SequencedCommand) -> Any:
            events = process(cancel)
            return process(new) if type(events[0]) is OrderCancelled else events

        calls: list[Call] = []
        for op in ops:
            cancel = self.sequenced(CancelOrder(op.order_id, ACCOUNT)) if op.kind in (CANCEL, AMEND) else None
            new = None if op.kind == CANCEL else self.sequenced(self.order(op))
            if cancel is not None and new is not None:
                calls.append((amend, (cancel, new)))
            else:
                calls.append((process, (cancel or new,)))
        return calls

    def sequenced(self, command: Any) -> SequencedCommand:
        self.seq += 1
        return SequencedCommand(self.seq, self.seq, command)

    def order(self, op: Op) -> NewOrder:
        rests = op.kind in (LIMIT, AMEND)
        return NewOrder(
            op.order_id,
            ACCOUNT,
            Side.BUY if op.is_buy else Side.SELL,
            op.price,
            op.qty,
            OrderType.MARKET if op.kind == MARKET else OrderType.LIMIT,
            TimeInForce.GTC if rests else TimeInForce.IOC,
            stp=SelfTradePrevention.NONE,
        )

    def tally(self, ops: list[Op], results: Sequence[Any]) -> None:
        for events in results:
            self.count((event.price, event.qty) for event in events if type(event) is Trade)

    def best(self) -> tuple[int, int]:
        book = self.engine.book
        bids = [entry.price for entry in book.entries() if entry.side is Side.BUY]
        asks = [entry.price for entry in book.entries() if entry.side is Side.SELL]
        return max(bids, default=0), min(asks, default=0)


if __name__ == "__main__":
    main(Matching)
