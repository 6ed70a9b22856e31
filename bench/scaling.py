"""What a command costs as the exchange grows: more resting orders, more markets, more accounts.

    a process per size, one running at a time, in turns:

    [1,000 commands, decoded just now] -> Engine.apply -> [events, dropped]      10 slices a turn
                                          ^^^^^^^^^^^^ CPU time of each slice

    python -m bench.scaling            table
    python -m bench.scaling --json     one JSON object

One thing grows at a time; the others stay at 100,000 resting orders, one market and 1,000 accounts:

    orders      1,000 to 1,000,000 resting
    markets     1 to 1,000, the same orders spread over them; 1,000 also with a million orders
    accounts    1 to 100,000, the same orders spread over them

The mix is that of bench.workload: 55 % limit orders, 35 % cancels, 5 % takers, 5 % amends, each for a market, an account and an
open order drawn uniformly. That is the hardest case for the processor's cache: real flow returns to few orders. The number of
fills is the same at every size: takers go as deep as they must, and hold the books at their size. Prices are drawn as in
bench.workload too, so a market with more orders has deeper queues and hardly more levels (some 350 with 1,000 orders, 750 with
a million): people quote around the price however many they are. The other way round, 100,000 orders in 1,000 markets stand
almost alone at their prices, and most commands make or end a level. A million orders in 1,000 markets are three at a price,
which compares markets rather than depth.

Another process makes the commands, with an engine of its own that says which orders are open. The measured process decodes
a slice right before it is timed and has seen none of its orders lately: the engine's memory is as cold as its size makes it,
and that is part of the cost. The resting orders are frozen out of the garbage collector first, as the server does after its
recovery. Ratios are taken within a turn. In the end both engines must stand at the same state.
"""

import contextlib
import gc
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import Machine, OutcomeError, Spread, machine, progress, spread
from bench.workload import (
    CROSSING,
    MID_TICKS,
    QTY_MAX_LOTS,
    SEED,
    SPREAD_TICKS,
    START_NS,
    STEP_NS,
    market,
)
from engine.accounts import Order
from engine.commands import Amend, Cancel, Command, CreateAccount, Deposit, Entry, ListMarket, Place
from engine.core import Engine
from engine.events import Accepted, Rejected
from engine.invariants import money
from engine.limits import Limits
from engine.snapshot import state_hash
from engine.types import OrderStatus, OrderType, Side, TimeInForce
from gateway.journal import decode_batch, encode_batch

TURNS: Final = 15
SLICES: Final = 10
"""Per turn."""
SLICE: Final = 1_000
"""Commands of a slice."""
REACH_TICKS: Final = 2 * SPREAD_TICKS
"""How far beyond the mid an order may take: enough to find its quantity in any book, so that every size has as many fills."""
DEPOSITS_MSAT: Final = 2 * 10**18
"""Of all accounts together: rich enough for anything, and within the engine's bound."""
LIMITS: Final = Limits(orders_per_account_max=2_000_000)


class Size(Struct, frozen=True):
    orders: int
    markets: int
    accounts: int


class Comparison(NamedTuple):
    """``size`` may cost ``bar`` times what ``base`` does."""

    what: str
    size: Size
    base: Size
    bar: float


SIZES: Final = (
    Size(1_000, 1, 1_000),
    Size(10_000, 1, 1_000),
    Size(100_000, 1, 1_000),
    Size(1_000_000, 1, 1_000),
    Size(100_000, 10, 1_000),
    Size(100_000, 100, 1_000),
    Size(100_000, 1_000, 1_000),
    Size(1_000_000, 1_000, 1_000),
    Size(100_000, 1, 1),
    Size(100_000, 1, 10_000),
    Size(100_000, 1, 100_000),
)
COMPARISONS: Final = (
    Comparison("1,000,000 resting orders to 10,000", Size(1_000_000, 1, 1_000), Size(10_000, 1, 1_000), 1.4),
    Comparison("1,000 markets to 1, a million orders", Size(1_000_000, 1_000, 1_000), Size(1_000_000, 1, 1_000), 1.2),
    Comparison("1,000 markets to 1, 100,000 orders", Size(100_000, 1_000, 1_000), Size(100_000, 1, 1_000), 1.2),
)


class Cost(Struct):
    """CPU time of a command in microseconds, over the turns."""

    size: Size
    levels: int
    """Price levels of all markets together, at the end."""
    trades: int
    """Fills in a thousand commands."""
    cpu_us: Spread


class Verdict(Struct):
    """A ratio of two sizes' costs, taken within each turn, and what it may be."""

    what: str
    ratio: Spread
    bar: float
    met: bool


class Result(Struct):
    machine: Machine
    turns: int
    slices: int
    """Per size and turn."""
    costs: list[Cost]
    verdicts: list[Verdict]


# ------------------------------------------------------------------------------------------------------------------- flow


def spread_over(rng: random.Random, mid: int = MID_TICKS) -> tuple[Side, int]:
    """Side and price of an order that does not cross: its distance from the mid is normally distributed."""
    distance = int(abs(rng.gauss(0.0, SPREAD_TICKS)))
    if rng.random() < 0.5:
        return Side.BUY, mid - distance
    return Side.SELL, mid + 1 + distance


def setup(accounts: int, markets: int = 1) -> Iterator[Command]:
    """Lists ``markets`` markets, then makes accounts (ids from 100 on)."""
    for number in range(markets):
        yield ListMarket(market(symbol(number)))
    for number in range(accounts):
        yield CreateAccount(f"trader-{number}")
        yield Deposit(100 + number, DEPOSITS_MSAT // accounts, "first")


def resting(rng: random.Random, orders: int, accounts: int, markets: int = 1, named: bool = True) -> Iterator[Command]:
    """Orders that all rest, of accounts and markets by turns. ``named``: each with a client_order_id of its own."""
    for number in range(orders):
        side, price = spread_over(rng)
        yield Place(
            100 + number % accounts,
            symbol(number % markets),
            side,
            OrderType.LIMIT,
            price,
            rng.randint(1, QTY_MAX_LOTS),
            client_order_id=f"r{number}" if named else "",
        )


def symbol(number: int) -> str:
    return f"SHA256-{20_270_116 + number}"


def populated(size: Size, seed: int) -> Engine:
    """An engine of that size."""
    engine = Engine(LIMITS)
    for commands in (
        setup(size.accounts, size.markets),
        resting(random.Random(seed), size.orders, size.accounts, size.markets),
    ):
        for command in commands:
            engine.apply(next_entry(engine, command))
    if engine.matching.open_orders != size.orders:
        raise OutcomeError(f"{engine.matching.open_orders} of {size.orders} orders rest")
    return engine


def next_entry(engine: Engine, command: Command) -> Entry:
    seq = engine.seq + 1
    return Entry(seq, START_NS + seq * STEP_NS, command)


class End(Struct):
    """Where a run ended."""

    state_hash: str
    levels: int
    """Price levels of all markets together."""
    trades: int
    """All of them: none happens while the books fill up."""


def end(engine: Engine) -> End:
    if not money(engine).conserved():
        raise OutcomeError("money was made or lost")
    markets = engine.markets.values()
    levels = sum(len(one.book.bids) + len(one.book.asks) for one in markets)
    return End(state_hash(engine), levels, sum(one.trade_id for one in markets))


class Flow:
    """The mix, for an engine of its own, which it keeps at its size."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.rng = random.Random(seed)
        self.engine = populated(size, seed)
        self.symbols = [symbol(number) for number in range(size.markets)]
        self.placed = 0
        # all open orders, and some that are not any more, in no order that matters
        self.open = self.engine.open_orders()

    def slice(self) -> bytes:
        """The next SLICE entries, as a journal would hold them."""
        entries = []
        for _ in range(SLICE):
            entry = next_entry(self.engine, self.command())
            events = self.engine.apply(entry)
            if type(events[0]) is Rejected:
                raise OutcomeError(f"{entry} was refused: {events[0]}")
            if type(events[0]) is Accepted and events[0].resting_qty:
                self.open.append(self.engine.accounts[events[0].account].orders[entry.seq])
            entries.append(entry)
        if not 0.8 <= self.engine.matching.open_orders / self.size.orders <= 1.2:
            raise OutcomeError(f"{self.engine.matching.open_orders} orders rest, not {self.size.orders}")
        return bytes(encode_batch(entries))

    def command(self) -> Command:
        rng = self.rng
        chance = rng.random()
        if chance < 0.55:
            if rng.random() < CROSSING:
                return self.aggressive(OrderType.LIMIT, TimeInForce.GTC)
            side, price = spread_over(rng)
            return self.place(rng.choice(self.symbols), side, OrderType.LIMIT, price, TimeInForce.GTC, 1)
        if chance >= 0.95:
            return self.aggressive(rng.choice((OrderType.MARKET, OrderType.LIMIT)), TimeInForce.IOC)
        order = self.pick(remove=chance < 0.90)
        account = order.account.account_id
        if chance < 0.90:
            return Cancel(account, order.order_id)
        if order.remaining > 1 and rng.random() < 0.5:
            return Amend(account, order.order_id, "", 0, order.filled + order.remaining // 2)
        return Amend(account, order.order_id, "", order.price + rng.choice((-3, -2, -1, 1, 2, 3)), 0)

    def aggressive(self, order_type: OrderType, time_in_force: TimeInForce) -> Place:
        """An order that takes; three times as large while too many orders rest."""
        rng = self.rng
        side = rng.choice((Side.BUY, Side.SELL))
        price = MID_TICKS + REACH_TICKS if side is Side.BUY else MID_TICKS - REACH_TICKS
        times = 3 if self.engine.matching.open_orders > self.size.orders else 1
        price = 0 if order_type is OrderType.MARKET else price
        return self.place(rng.choice(self.symbols), side, order_type, price, time_in_force, times)

    def place(self, name: str, side: Side, order_type: OrderType, price: int, time_in_force: TimeInForce, times: int) -> Place:
        rng = self.rng
        self.placed += 1
        account = 100 + rng.randrange(self.size.accounts)
        qty = rng.randint(1, QTY_MAX_LOTS) * times
        return Place(account, name, side, order_type, price, qty, time_in_force, client_order_id=f"c{self.placed}")

    def pick(self, remove: bool) -> Order:
        """A random open order."""
        found = self.open
        while True:
            place = self.rng.randrange(len(found))
            order = found[place]
            is_open = order.status is OrderStatus.OPEN
            if remove or not is_open:
                found[place] = found[-1]
                found.pop()
            if is_open:
                return order


# -------------------------------------------------------------------------------------------------------------- processes


def script(size: Size, seed: int, turns: int, slices: int) -> tuple[list[list[bytes]], End]:
    """In a process of its own: the slices of every turn, and where they lead."""
    flow = Flow(size, seed)
    made = [[flow.slice() for _ in range(slices)] for _ in range(turns)]
    return made, end(flow.engine)


def measured(size: Size, seed: int, pipe: Connection) -> None:
    """The process of one size: answers a turn's slices with their CPU seconds, and no slices with its final state."""
    engine = populated(size, seed)
    gc.collect()
    gc.freeze()
    pipe.send(None)
    apply = engine.apply
    while slices := pipe.recv():
        cpu_s = 0.0
        for payload in slices:
            entries = decode_batch(payload)
            start = time.process_time()
            for entry in entries:
                apply(entry)
            cpu_s += time.process_time() - start
        pipe.send(cpu_s)
    pipe.send(end(engine).state_hash)


class Measured(NamedTuple):
    """A size's process, ready, and what it has to do."""

    pipe: Connection
    turns: list[list[bytes]]
    end: End


@contextlib.contextmanager
def started(size: Size, seed: int, turns: int, slices: int) -> Iterator[Measured]:
    context = get_context("spawn")
    mine, theirs = context.Pipe()
    worker = context.Process(target=measured, args=(size, seed, theirs), daemon=True)
    worker.start()
    theirs.close()
    try:
        with ProcessPoolExecutor(1, context) as pool:
            made, last = pool.submit(script, size, seed, turns, slices).result()
        mine.recv()
        yield Measured(mine, made, last)
    except EOFError:
        raise OutcomeError(f"the process of {size} died") from None
    finally:
        mine.close()
        worker.kill()
        worker.join()


def measure(
    sizes: Sequence[Size] = SIZES,
    comparisons: Sequence[Comparison] = COMPARISONS,
    turns: int = TURNS,
    slices: int = SLICES,
    seed: int = SEED,
    quiet: bool = True,
) -> Result:
    """The whole bench; ``sizes`` holds all that are compared. Raises OutcomeError when a flow was not what it is said to be."""
    where = machine()
    costs: dict[Size, list[float]] = {size: [] for size in sizes}
    with contextlib.ExitStack() as stack:
        found = {
            size: stack.enter_context(started(size, seed, turns + 1, slices)) for size in progress(sizes, "building", quiet)
        }
        for turn in progress(range(turns + 1), "measuring", quiet):
            for size, one in found.items():
                one.pipe.send(one.turns[turn])
                cpu_s = one.pipe.recv()
                if turn:  # the first one warms up
                    costs[size].append(cpu_s / (slices * SLICE) * 1e6)
        for size, one in found.items():
            one.pipe.send([])
            if one.pipe.recv() != one.end.state_hash:
                raise OutcomeError(f"two engines disagree about the same commands, with {size}")
    commands = (turns + 1) * slices * SLICE
    return Result(
        machine=where,
        turns=turns,
        slices=slices,
        costs=[
            Cost(size, one.end.levels, round(one.end.trades / commands * 1_000), spread(costs[size]))
            for size, one in found.items()
        ],
        verdicts=[verdict(one.what, costs[one.size], costs[one.base], one.bar) for one in comparisons],
    )


def verdict(what: str, costs: list[float], base: list[float], bar: float) -> Verdict:
    ratio = spread((cost / other for cost, other in zip(costs, base, strict=True)), 3)
    return Verdict(what, ratio, bar, ratio.median <= bar)


def main(
    turns: Annotated[int, typer.Option(min=1, help="measured turns of every size")] = TURNS,
    slices: Annotated[int, typer.Option(min=1, help="slices per turn and size")] = SLICES,
    seed: Annotated[int, typer.Option(help="of the flow")] = SEED,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure what a command costs as the exchange grows."""
    try:
        result = measure(turns=turns, slices=slices, seed=seed, quiet=as_json or not sys.stderr.isatty())
    except OutcomeError as error:
        print(f"bench.scaling: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    found = result.machine
    table = Table(title=f"bench.scaling: {found.build} build, Python {found.python}, load {found.load_average}")
    for name in ("orders", "markets", "accounts", "levels", "trades per 1,000", "CPU per command, µs"):
        table.add_column(name, justify="right")
    for cost in result.costs:
        size = cost.size
        counts = (size.orders, size.markets, size.accounts, cost.levels, cost.trades)
        table.add_row(*(f"{count:,}" for count in counts), str(cost.cpu_us))
    console = Console()
    console.print(table)
    for one in result.verdicts:
        console.print(f"{one.what}: {one.ratio} times the cost, at most {one.bar}: {'met' if one.met else 'missed'}")


if __name__ == "__main__":
    typer.run(main)
