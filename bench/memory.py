"""What the engine keeps in memory: bytes per resting order, per account, per remembered client order id.

    a fresh process per figure:

    [entry, decoded from journal bytes] -> Engine.apply -> [entry and events, dropped]
    resident memory before and after a great many of them; the difference, divided

    python -m bench.memory            table, for the compiled and the plain build
    python -m bench.memory --json     one JSON object

    order           an order that rests, with a client_order_id
    unnamed order   one without
    remembered      an order with a client_order_id that was canceled at once: what is kept of it for 24 h
    account         one that was created
    deposit         one transfer to it: its transfer_id is remembered like a client order id

Every entry is encoded and decoded before it is applied, so that no string is shared that a gateway would not share either.
Entries and events are dropped, as nobody holds them in the engine; what the gateway remembers for its channels is not counted.
The figures hold the allocator's rounding and the room that dictionaries keep free. ``containers`` says how much of a figure is
dictionaries, lists and queues of the engine and of its accounts, by name; the rest is the objects themselves.
"""

import gc
import os
import random
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import Machine, OutcomeError, Spread, machine, progress, spread
from bench.scaling import resting, setup
from bench.workload import SEED, START_NS, STEP_NS, market
from engine.commands import Cancel, Command, CreateAccount, Deposit, Entry, ListMarket
from engine.core import Engine
from engine.invariants import money
from gateway.journal import decode_batch, encode_batch
from hashpit.build import PLAIN_VARIABLE, build_kind

ORDERS: Final = 200_000
ACCOUNTS: Final = 1_000
"""That the orders are spread over."""
MANY_ACCOUNTS: Final = 50_000
"""Accounts when it is them that are weighed."""
REPEATS: Final = 3
"""Resident memory hardly differs between two runs."""
CHUNK: Final = 1_000
"""Entries that are decoded together."""
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

ORDER_BAR: Final = 400
"""Bytes per resting order."""

Kind = Literal["order", "unnamed order", "remembered", "account", "deposit"]
KINDS: Final[tuple[Kind, ...]] = ("order", "unnamed order", "remembered", "account", "deposit")


class Weight(NamedTuple):
    """Bytes per item, and what of it is containers, by name."""

    build: str
    bytes: float
    containers: dict[str, float]


class Figure(Struct):
    kind: Kind
    build: str
    items: int
    bytes: Spread
    containers: dict[str, float]
    """Bytes per item that are dictionaries, lists and queues of the engine and of its accounts."""


class Result(Struct):
    machine: Machine
    repeats: int
    figures: list[Figure]
    bar: int
    met: bool
    """Whether a resting order of the compiled build (the plain one where there is none) is within the bar."""


# ---------------------------------------------------------------------------------------------------------- in the process


def weigh(kind: Kind, items: int, accounts: int, seed: int) -> Weight:
    """Measure one kind. Call it in a fresh process: it counts what the process grows by."""
    rng = random.Random(seed)
    engine = Engine()
    if kind in ("account", "deposit"):
        feed(engine, [ListMarket(market())])
        created = (CreateAccount(f"trader-{number}") for number in range(items))
        counted: Iterable[Command] = created
        if kind == "deposit":
            feed(engine, created)
            counted = (Deposit(100 + number, 10**9, f"t{number}") for number in range(items))
    else:
        feed(engine, setup(accounts))
        # what only the first few cost, such as a module's caches and the book's levels
        feed(engine, resting(rng, 5_000, accounts, named=False))
        counted = resting(rng, items, accounts, named=kind != "unnamed order")
    open_before = engine.matching.open_orders
    gc.collect()
    parts, before = containers(engine), resident()
    if kind == "remembered":
        place_and_cancel(engine, counted)
    else:
        feed(engine, counted)
    gc.collect()
    grown = resident() - before
    added = {name: (size - parts.get(name, 0)) / items for name, size in containers(engine).items()}
    opened = engine.matching.open_orders - open_before
    if opened != (items if kind in ("order", "unnamed order") else 0) or not money(engine).conserved():
        raise OutcomeError(f"{opened} orders were added by {items} of {kind}")
    if kind == "account" and len(engine.accounts) != items + 2:
        raise OutcomeError(f"{len(engine.accounts)} accounts were made of {items}")
    return Weight(build_kind(), grown / items, {name: round(size, 1) for name, size in added.items() if round(size, 1)})


def feed(engine: Engine, commands: Iterable[Command]) -> None:
    """Apply commands that were decoded just now, and keep nothing of them."""
    apply = engine.apply
    for entries in decoded(engine, commands, 1):
        for entry in entries:
            apply(entry)


def place_and_cancel(engine: Engine, places: Iterable[Command]) -> None:
    """Cancel every order as soon as it is placed."""
    apply = engine.apply
    for entries in decoded(engine, places, 2):
        for entry in entries:
            event = apply(entry)[0]
            apply(Entry(entry.seq + 1, entry.ts_ns, Cancel(event.account, entry.seq)))  # type: ignore[union-attr]


def decoded(engine: Engine, commands: Iterable[Command], step: int) -> Iterator[list[Entry]]:
    """Commands as entries, ``step`` apart, out of the bytes that a journal would hold."""
    rest = iter(commands)
    while chunk := list(islice(rest, CHUNK)):
        seqs = range(engine.seq + 1, engine.seq + 1 + step * len(chunk), step)
        entries = [Entry(seq, START_NS + seq * STEP_NS, command) for seq, command in zip(seqs, chunk, strict=True)]
        yield decode_batch(bytes(encode_batch(entries)))


def containers(engine: Engine) -> dict[str, int]:
    """Bytes of all dictionaries, lists and queues that hang on the engine, or on an account, by the attribute's name."""
    found: dict[str, int] = {}
    holders = [("engine", engine), ("engine.accounts", engine.accounts)]
    for owner, holder in [*holders, *(("account", account) for account in engine.accounts.values())]:
        for name in dir(holder):
            value = None if name.startswith("__") else getattr(holder, name)
            if isinstance(value, dict | list | deque):
                found[f"{owner}.{name}"] = found.get(f"{owner}.{name}", 0) + sys.getsizeof(value)
    return found


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


# ------------------------------------------------------------------------------------------------------------------- bench


def fresh(kind: Kind, items: int, accounts: int, seed: int, plain: bool) -> Weight:
    """``weigh`` in a process of its own, with the plain sources if wanted."""
    with _environment(plain), ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(weigh, kind, items, accounts, seed).result()


@contextmanager
def _environment(plain: bool) -> Iterator[None]:
    before = os.environ.get(PLAIN_VARIABLE)
    if plain:
        os.environ[PLAIN_VARIABLE] = "1"
    try:
        yield
    finally:
        if plain and before is None:
            del os.environ[PLAIN_VARIABLE]
        elif before is not None:
            os.environ[PLAIN_VARIABLE] = before


def measure(
    orders: int = ORDERS,
    accounts: int = ACCOUNTS,
    many_accounts: int = MANY_ACCOUNTS,
    repeats: int = REPEATS,
    seed: int = SEED,
    quiet: bool = True,
) -> Result:
    """The whole bench, both builds where there are two. Raises OutcomeError when an order did not do what it should."""
    where = machine()
    builds = [False, True] if build_kind() == "compiled" else [True]
    runs = [(kind, plain) for _ in range(repeats) for plain in builds for kind in KINDS]
    found: dict[tuple[Kind, str], list[Weight]] = {}
    for kind, plain in progress(runs, "weighing", quiet):
        items = many_accounts if kind in ("account", "deposit") else orders
        weight = fresh(kind, items, accounts, seed, plain)
        found.setdefault((kind, weight.build), []).append(weight)
    figures = [
        Figure(
            kind,
            build,
            many_accounts if kind in ("account", "deposit") else orders,
            spread((weight.bytes for weight in weights), 0),
            weights[0].containers,
        )
        for (kind, build), weights in found.items()
    ]
    order = next(figure for figure in figures if figure.kind == "order")
    return Result(where, repeats, figures, ORDER_BAR, order.bytes.median <= ORDER_BAR)


def main(
    orders: Annotated[int, typer.Option(min=1, help="orders to weigh")] = ORDERS,
    accounts: Annotated[int, typer.Option(min=1, help="accounts that they are spread over")] = ACCOUNTS,
    many_accounts: Annotated[int, typer.Option(min=1, help="accounts to weigh")] = MANY_ACCOUNTS,
    repeats: Annotated[int, typer.Option(min=1, help="fresh processes per figure")] = REPEATS,
    seed: Annotated[int, typer.Option(help="of the orders")] = SEED,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure what the engine keeps in memory."""
    try:
        result = measure(orders, accounts, many_accounts, repeats, seed, quiet=as_json or not sys.stderr.isatty())
    except OutcomeError as error:
        print(f"bench.memory: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    found = result.machine
    table = Table("of one", "build", "bytes", "of them containers", title=f"bench.memory: Python {found.python}")
    for figure in result.figures:
        parts = sorted(figure.containers.items(), key=lambda part: -part[1])
        text = ", ".join(f"{size:,.0f} {name}" for name, size in parts if size >= 1)
        table.add_row(figure.kind, figure.build, str(figure.bytes), text)
    console = Console()
    console.print(table)
    console.print(f"a resting order has at most {result.bar} bytes: {'met' if result.met else 'missed'}")


if __name__ == "__main__":
    typer.run(main)
