"""The flow of bare order book operations that bench.book and bench.peers share, and the plain book that knows its outcome.

    first  10,000 limit orders that rest
    55 %   limit order, its distance from a random-walk mid normally distributed; 8 % of them cross
    35 %   cancel of a random open order
     5 %   taker: half market orders, half IOC limit orders, up to four ticks through the best price
     5 %   amend of a random open order: half halve its quantity, half move its price

Order books differ in what an amend does to an order's place in the queue, so the flow has two right outcomes. Where a book
``keeps``, less quantity at the same price keeps the place; otherwise every amend is a cancel and a new order under the same
id. The flow is made with a book that keeps, so there every cancel and amend finds its order. In another book a few miss, and
then must do nothing.

Same arguments, same rows, on every machine. This file imports the standard library only, because the drivers of
bench.peers run in other environments.
"""

import hashlib
import random
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple

SEED: Final = 20_240_607
PRELOAD: Final = 10_000
"""Limit orders that rest before the operations begin."""
OPS: Final = 200_000
OPEN: Final = 9_000
"""Takers are larger while more orders are open, which holds the book at its size."""
MID_TICKS: Final = 45_000
SPREAD_TICKS: Final = 88
"""Standard deviation of a limit order's distance from the mid; about 500 levels when 9,000 orders rest."""
MID_STEP: Final = 0.02
QTY_MAX: Final = 100
CROSSING: Final = 0.06
"""Share of limit orders that are priced to cross; 8 % do, because others find the market away from the mid."""

LIMIT, IOC, MARKET, CANCEL, AMEND = range(5)


class Op(NamedTuple):
    """One operation. ``price`` and ``qty`` are 0 where they mean nothing."""

    kind: int
    order_id: int
    is_buy: bool
    """Of the order; cancels and amends tell it too, for books that ask."""
    price: int
    """Ticks."""
    qty: int
    """Lots. Of an amend: what shall remain."""
    less: int = 0
    """In a resolved flow, of a cancel or amend: how much it takes off what remained, for books that ask that instead."""


class Fill(NamedTuple):
    maker_id: int
    price: int
    qty: int


class Outcome(NamedTuple):
    """What a book must have done in the end, the preload included."""

    fills: int
    qty: int
    value: int
    """Price times quantity of all fills, added up."""
    best_bid: int
    """0 for none, as in ``best_ask``."""
    best_ask: int
    digest: str
    """Of every fill's taker, maker, price and quantity, in order."""


COLUMNS: Final = len(Op._fields)


class Digest:
    """Counts fills and hashes them."""

    def __init__(self) -> None:
        self.fills = 0
        self.qty = 0
        self.value = 0
        self._hash = hashlib.sha256()

    def add(self, taker_id: int, maker_id: int, price: int, qty: int) -> None:
        self.fills += 1
        self.qty += qty
        self.value += price * qty
        self._hash.update(b"%d %d %d %d\n" % (taker_id, maker_id, price, qty))

    def hex(self) -> str:
        return self._hash.hexdigest()


class Resting:
    """An order in the plain book."""

    def __init__(self, is_buy: bool, price: int, qty: int, place: int) -> None:
        self.is_buy = is_buy
        self.price = price
        self.qty = qty
        self.place = place


class PlainBook:
    """Two sorted lists of (price, place, id), the best order first: slow and obvious. Bids have their price negated."""

    def __init__(self, keeps: bool = True) -> None:
        self.keeps = keeps
        self.orders: dict[int, Resting] = {}
        self.bids: list[tuple[int, int, int]] = []
        self.asks: list[tuple[int, int, int]] = []
        self._place = 0

    @property
    def best_bid(self) -> int:
        return -self.bids[0][0] if self.bids else 0

    @property
    def best_ask(self) -> int:
        return self.asks[0][0] if self.asks else 0

    def apply(self, op: Op) -> list[Fill]:
        """Do one operation; its fills, in the order in which they happen."""
        if op.kind == CANCEL:
            self.cancel(op.order_id)
            return []
        if op.kind == AMEND:
            return self.amend(op.order_id, op.price, op.qty)
        price = op.price if op.kind != MARKET else 2**62 if op.is_buy else 0
        fills, rest = self._take(op.is_buy, price, op.qty)
        if op.kind == LIMIT and rest:
            self._rest(op.order_id, op.is_buy, op.price, rest)
        return fills

    def cancel(self, order_id: int) -> None:
        order = self.orders.pop(order_id, None)
        if order is not None:
            side = self.bids if order.is_buy else self.asks
            del side[bisect_left(side, self._key(order_id, order))]

    def amend(self, order_id: int, price: int, qty: int) -> list[Fill]:
        order = self.orders.get(order_id)
        if order is None:
            return []
        if self.keeps and price == order.price and qty < order.qty:
            order.qty = qty
            return []
        self.cancel(order_id)
        return self.apply(Op(LIMIT, order_id, order.is_buy, price, qty))

    def _take(self, is_buy: bool, price: int, qty: int) -> tuple[list[Fill], int]:
        side = self.asks if is_buy else self.bids
        worst = price if is_buy else -price
        fills = []
        while qty and side and side[0][0] <= worst:
            maker_id = side[0][2]
            maker = self.orders[maker_id]
            done = min(qty, maker.qty)
            fills.append(Fill(maker_id, maker.price, done))
            qty -= done
            maker.qty -= done
            if not maker.qty:
                del side[0], self.orders[maker_id]
        return fills, qty

    def _rest(self, order_id: int, is_buy: bool, price: int, qty: int) -> None:
        self._place += 1
        order = self.orders[order_id] = Resting(is_buy, price, qty, self._place)
        insort(self.bids if is_buy else self.asks, self._key(order_id, order))

    def _key(self, order_id: int, order: Resting) -> tuple[int, int, int]:
        return (-order.price if order.is_buy else order.price, order.place, order_id)


class Flow:
    """The operations, ``preload`` untimed ones and then the others, as rows of integers."""

    def __init__(self, rows: "array[int]", preload: int) -> None:
        self.rows = rows
        self.preload = preload

    def __len__(self) -> int:
        """Operations after the preload."""
        return len(self.rows) // COLUMNS - self.preload

    def ops(self, start: int, stop: int) -> list[Op]:
        """Some operations, counted from the first one of the preload."""
        values = iter(self.rows[start * COLUMNS : stop * COLUMNS])
        rows = zip(*[values] * COLUMNS, strict=True)
        return [Op(kind, order_id, buy == 1, price, qty, less) for kind, order_id, buy, price, qty, less in rows]

    def save(self, path: Path) -> None:
        path.write_bytes(array("i", [self.preload]).tobytes() + self.rows.tobytes())


def load(path: Path) -> Flow:
    """A saved flow."""
    values = array("i")
    values.frombytes(path.read_bytes())
    return Flow(values[1:], values[0])


def resolve(flow: Flow, keeps: bool, ops: int | None = None) -> tuple[Flow, Outcome]:
    """The preload and the first ``ops`` operations with ``less`` filled in, and what a right book has done after them.

    Takes some 5 µs per operation.
    """
    book = PlainBook(keeps)
    digest = Digest()
    rows = array("i")
    for op in flow.ops(0, flow.preload + (len(flow) if ops is None else ops)):
        if op.kind in (CANCEL, AMEND) and op.order_id in book.orders:
            op = op._replace(less=book.orders[op.order_id].qty - op.qty)
        rows.extend(op)
        for fill in book.apply(op):
            digest.add(op.order_id, *fill)
    return Flow(rows, flow.preload), Outcome(digest.fills, digest.qty, digest.value, book.best_bid, book.best_ask, digest.hex())


# ------------------------------------------------------------------------------------------------------------- the makings


def build(seed: int = SEED, ops: int = OPS, preload: int = PRELOAD) -> Flow:
    """Build the flow. Takes some 10 µs per operation."""
    return Flow(array("i", chain.from_iterable(islice(_ops(seed, preload), preload + ops))), preload)


def _ops(seed: int, preload: int) -> Iterator[Op]:
    rng = random.Random(seed)
    book = PlainBook()
    open_ids = _OpenIds()
    mid = MID_TICKS
    target = preload * OPEN // PRELOAD
    order_id = 0

    def passive() -> tuple[bool, int, int]:
        distance = int(abs(rng.gauss(0.0, SPREAD_TICKS)))
        is_buy = rng.random() < 0.5
        return is_buy, mid - distance if is_buy else mid + 1 + distance, rng.randint(1, QTY_MAX)

    def aggressive() -> tuple[bool, int, int]:
        is_buy = rng.random() < 0.5
        best = (book.best_ask if is_buy else book.best_bid) or mid
        through = rng.randrange(5)
        qty = rng.randint(1, QTY_MAX) * (5 if len(open_ids) > target else 1)
        return is_buy, best + through if is_buy else best - through, qty

    while True:
        chance = rng.random()
        if rng.random() < MID_STEP and order_id >= preload:
            mid += rng.choice((-1, 1))
        if order_id < preload:
            order_id += 1
            op = Op(LIMIT, order_id, *passive())
        elif chance < 0.55 or not len(open_ids):
            order_id += 1
            op = Op(LIMIT, order_id, *(aggressive() if rng.random() < CROSSING else passive()))
        elif chance < 0.90:
            canceled = open_ids.choose(rng)
            op = Op(CANCEL, canceled, book.orders[canceled].is_buy, 0, 0)
        elif chance < 0.95:
            order_id += 1
            is_buy, price, qty = aggressive()
            op = Op(MARKET, order_id, is_buy, 0, qty) if rng.random() < 0.5 else Op(IOC, order_id, is_buy, price, qty)
        else:
            amended = open_ids.choose(rng)
            order = book.orders[amended]
            if order.qty > 1 and rng.random() < 0.5:
                op = Op(AMEND, amended, order.is_buy, order.price, order.qty // 2)
            else:
                op = Op(AMEND, amended, order.is_buy, order.price + rng.choice((-3, -2, -1, 1, 2, 3)), order.qty)
        fills = book.apply(op)
        for one in (op.order_id, *(fill.maker_id for fill in fills)):
            open_ids.note(one, one in book.orders)
        yield op


class _OpenIds:
    """Ids of open orders, in no order that matters, and where each stands, so that one can be drawn at random."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._place_of: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def choose(self, rng: random.Random) -> int:
        return rng.choice(self._ids)

    def note(self, order_id: int, is_open: bool) -> None:
        if is_open == (order_id in self._place_of):
            return
        if is_open:
            self._place_of[order_id] = len(self._ids)
            self._ids.append(order_id)
            return
        place = self._place_of.pop(order_id)
        last = self._ids.pop()
        if last != order_id:
            self._ids[place] = last
            self._place_of[last] = place
