"""Edits of a live market through Engine.apply: crossing, flows that move, budgets, money, events. No journal, no sockets.

    64 edits, decoded just now -> Engine.apply -> [events, dropped]        then the reports that they make due
                                  ^^^^^^^^^^^^ timed, one call per command, on one core; reports on a clock of their own

    python -m bench.live             table
    python -m bench.live --json      one JSON object

One market with as many bids as asks, from 100 of each to 10,000; prices are drawn around one price, so that about half of
both is matched, and every edit is of an order drawn at random. The mix: 40 % new prices of bids, 15 % new limits, 15 % other
speeds of rigs, 15 % bids that come or go, 15 % rigs that come or go. After each 64 of them a meter reports the last work of the
flows that ended, and the work of 16 flows that run.

Beside it, in the same turns, bench.engine's workload: what a live edit costs as a ratio to what an order costs.
"""

import gc
import random
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench import engine as orders
from bench import workload
from bench.common import Machine, OutcomeError, Spread, machine, progress, spread
from engine.commands import (
    AmendAsk,
    AmendBid,
    Cancel,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListLive,
    PlaceAsk,
    PlaceBid,
    ReportFlow,
)
from engine.core import Engine
from engine.events import FlowChanged, Rejected
from engine.invariants import check
from engine.markets.live import Bid
from engine.snapshot import state_hash
from engine.types import LiveSpec
from gateway.journal import decode_batch, encode_batch

SEED: Final = 20_261_125
SIZES: Final = (100, 1_000, 10_000)
"""Bids, and as many asks."""
EDITS: Final = 50_000
ORDERS: Final = 100_000
"""Commands of bench.engine in each turn."""
TURNS: Final = 5
ACCOUNTS: Final = 200
BATCH: Final = 64
"""Edits between two rounds of reports."""
RUNNING: Final = 16
"""Flows that run and are reported in a round."""
START_NS: Final = 1_800_000_000_000_000_000
STEP_NS: Final = 1_000_000
SYMBOL: Final = "SHA256-LIVE"
MID_TICKS: Final = 50_000
SPREAD_TICKS: Final = 5_000
"""Standard deviation of prices on both sides."""
STEP_TICKS: Final = 500
"""A bid's price changes by up to so much."""
LIMIT_MAX_LOTS: Final = 10_000
SPEED_MAX_LOTS: Final = 10_000
BUDGET_DAYS_MAX: Final = 30
"""A bid's budget lasts for up to so many days at its limit."""
BAR: Final = 0.3
"""Edits per second, as a share of bench.engine's commands per second, with the largest market."""


class Size(Struct, frozen=True):
    """One market. ``moves`` are flows that began, changed or ended per edit, ``flows`` those that are there in the end."""

    orders: int
    per_second: Spread
    cpu_us: Spread
    """Of an edit."""
    report_cpu_us: Spread
    """Of a report."""
    moves: float
    flows: int
    ratio: Spread
    """To bench.engine's commands per second in the same turn."""
    state_hash: str


class Result(Struct):
    """Rates in commands per second, times in microseconds of CPU."""

    machine: Machine
    edits: int
    turns: int
    engine_per_second: Spread
    engine_cpu_us: Spread
    sizes: list[Size]
    bar: float
    met: bool


class Edits:
    """The commands: those that fill the market, then edits of it."""

    def __init__(self, size: int, edits: int, seed: int = SEED) -> None:
        self.random = random.Random(seed)
        self.size = size
        self.engine = Engine()
        self.moves = 0
        self._ts_ns = START_NS
        self._entries: list[Entry] = []
        self._accounts: list[int] = []
        self._bids: list[int] = []
        self._asks: list[int] = []
        # flows that wait for their last report
        self._ended: list[int] = []
        self._send(ListLive(spec()))
        for number in range(ACCOUNTS):
            self._send(CreateAccount(f"trader-{number}"))
            self._accounts.append(self.engine.next_account - 1)
            self._send(Deposit(self._accounts[-1], 10**15, "first"))
        for _ in range(size):
            self._place_ask()
            self._place_bid()
        self.setup = self._entries
        self.moves = 0
        # (edits, the reports after them)
        self.rounds: list[tuple[list[Entry], list[Entry]]] = []
        for _ in range(edits // BATCH):
            self._entries = []
            for _ in range(BATCH):
                self._edit()
            made, self._entries = self._entries, []
            self._report()
            self.rounds.append((made, self._entries))

    def _send(self, command: Command) -> None:
        self._ts_ns += STEP_NS
        entry = Entry(self.engine.seq + 1, self._ts_ns, command)
        self._entries.append(entry)
        events = self.engine.apply(entry)
        if type(events[0]) is Rejected:
            raise OutcomeError(f"{command} is refused: {events[0]}")
        for event in events:
            if type(event) is FlowChanged:
                self.moves += 1
                if event.speed == 0:
                    self._ended.append(event.flow_id)

    def _price(self) -> int:
        return max(1, round(self.random.gauss(MID_TICKS, SPREAD_TICKS)))

    def _place_bid(self) -> None:
        account, limit = self.random.choice(self._accounts), self.random.randint(1, LIMIT_MAX_LOTS)
        price = self._price()
        budget = 1 + price * limit * self.random.randint(1, BUDGET_DAYS_MAX * 24) // 24
        self._bids.append(self.engine.seq + 1)
        self._send(PlaceBid(account, SYMBOL, price, limit, budget, "stratum+tcp://pool.example:3333", "w"))

    def _place_ask(self) -> None:
        self._asks.append(self.engine.seq + 1)
        speed = self.random.randint(1, SPEED_MAX_LOTS)
        self._send(PlaceAsk(self.random.choice(self._accounts), SYMBOL, self._price(), speed))

    def _cancel(self, order_ids: list[int]) -> None:
        place = self.random.randrange(len(order_ids))
        order_ids[place], order_ids[-1] = order_ids[-1], order_ids[place]
        order_id = order_ids.pop()
        self._send(Cancel(self.engine.live.orders[order_id].account.account_id, order_id))

    def _edit(self) -> None:
        draw = self.random
        chance = draw.random()
        if chance < 0.55:
            bid = self.engine.live.orders[draw.choice(self._bids)]
            account = bid.account.account_id
            if chance < 0.40:
                price = max(1, bid.price + draw.choice((-1, 1)) * draw.randint(1, STEP_TICKS))
                self._send(AmendBid(account, bid.order_id, "", price))
            else:
                self._send(AmendBid(account, bid.order_id, "", 0, draw.randint(1, LIMIT_MAX_LOTS)))
        elif chance < 0.70:
            ask = self.engine.live.orders[draw.choice(self._asks)]
            self._send(AmendAsk(ask.account.account_id, ask.order_id, "", 0, draw.randint(1, SPEED_MAX_LOTS)))
        elif chance < 0.85:
            if len(self._bids) > self.size:
                self._cancel(self._bids)
            else:
                self._place_bid()
        elif len(self._asks) > self.size:
            self._cancel(self._asks)
        else:
            self._place_ask()

    def _report(self) -> None:
        """All that ended, and some that run, proved what they could."""
        by_id = self.engine.live.flowing.by_id
        ended = [by_id[flow_id] for flow_id in self._ended if flow_id in by_id]
        self._ended.clear()
        for flow in ended:
            work = flow.allowance + flow.accrued * spec().lot_hashrate
            self._send(ReportFlow(flow.flow_id, flow.hashes + work // 10**9, True))
        for order_id in self.random.sample(self._bids, min(RUNNING, len(self._bids))):
            order = self.engine.live.orders[order_id]
            assert isinstance(order, Bid), order_id
            for flow in list(order.flows.values())[:1]:
                work = flow.allowance + (flow.accrued + flow.speed * (self._ts_ns - flow.since_ns)) * spec().lot_hashrate
                self._send(ReportFlow(flow.flow_id, flow.hashes + work // 10**9))


def spec() -> LiveSpec:
    """SHA256 in steps of 0.001 PH/s and one satoshi."""
    return LiveSpec(
        symbol=SYMBOL,
        algorithm="SHA256",
        speed_unit="PH/s",
        tick_size="0.00000001",
        lot_size="0.001",
        tick_lot_msat=1,
        lot_hashrate=10**12,
        price_max=10**8,
        speed_max=10**8,
        buyer_fee_bps=300,
        seller_fee_bps=200,
    )


class Timed(NamedTuple):
    """One run: seconds and CPU seconds of the edits, CPU seconds of the reports, and the engine after them."""

    seconds: float
    cpu_seconds: float
    report_cpu_seconds: float
    engine: Engine


def timed(edits: Edits) -> Timed:
    """All rounds on a fresh engine."""
    gc.collect()
    engine = Engine()
    for entry in edits.setup:
        engine.apply(entry)
    apply = engine.apply
    seconds = cpu_seconds = report_cpu_seconds = 0.0
    with orders.collecting() as collector:
        for made, reports in edits.rounds:
            entries = decode_batch(bytes(encode_batch(made)))
            start, cpu_start = time.perf_counter(), time.process_time()
            for entry in entries:
                apply(entry)
            seconds += time.perf_counter() - start
            cpu_seconds += time.process_time() - cpu_start
            entries = decode_batch(bytes(encode_batch(reports)))
            cpu_start = time.process_time()
            for entry in entries:
                apply(entry)
            report_cpu_seconds += time.process_time() - cpu_start
            collector.step()
    return Timed(seconds, cpu_seconds, report_cpu_seconds, engine)


def measure(
    edits: int = EDITS, orders_: int = ORDERS, turns: int = TURNS, sizes: Sequence[int] = SIZES, quiet: bool = True
) -> Result:
    """The whole bench. Raises OutcomeError when turns disagree."""
    where = machine()
    flow = workload.build(commands=orders_)
    streams = [Edits(size, edits) for size in sizes]
    engine_rates: list[float] = []
    engine_costs: list[float] = []
    rates: list[list[float]] = [[] for _ in sizes]
    costs: list[list[float]] = [[] for _ in sizes]
    report_costs: list[list[float]] = [[] for _ in sizes]
    ratios: list[list[float]] = [[] for _ in sizes]
    hashes: list[str] = [""] * len(sizes)
    flows = [0] * len(sizes)
    for turn in progress(range(turns), "measuring", quiet):
        seconds, cpu_seconds, _ = orders.timed(flow)
        engine_rates.append(orders_ / seconds)
        engine_cost = cpu_seconds / orders_
        engine_costs.append(engine_cost * 1e6)
        for place, stream in enumerate(streams):
            run = timed(stream)
            engine = run.engine
            made = len(stream.rounds) * BATCH
            rates[place].append(made / run.seconds)
            costs[place].append(run.cpu_seconds / made * 1e6)
            report_costs[place].append(run.report_cpu_seconds / sum(len(reports) for _, reports in stream.rounds) * 1e6)
            ratios[place].append(engine_cost / (run.cpu_seconds / made))
            if turn == 0:
                check(engine)
                hashes[place] = state_hash(engine)
                flows[place] = len(engine.live.flowing.by_id)
            elif hashes[place] != state_hash(engine):
                raise OutcomeError(f"turns ended in different states with {sizes[place]} bids")
            del engine, run
    found = [
        Size(
            orders=size,
            per_second=spread(rates[place], 0),
            cpu_us=spread(costs[place]),
            report_cpu_us=spread(report_costs[place]),
            moves=round(stream.moves / (len(stream.rounds) * BATCH), 2),
            flows=flows[place],
            ratio=spread(ratios[place]),
            state_hash=hashes[place],
        )
        for place, (size, stream) in enumerate(zip(sizes, streams, strict=True))
    ]
    return Result(
        machine=where,
        edits=edits,
        turns=turns,
        engine_per_second=spread(engine_rates, 0),
        engine_cpu_us=spread(engine_costs),
        sizes=found,
        bar=BAR,
        met=found[-1].ratio.median >= BAR,
    )


def main(
    edits: Annotated[int, typer.Option(min=1, help="edits per turn and size")] = EDITS,
    turns: Annotated[int, typer.Option(min=1, help="turns")] = TURNS,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure live markets."""
    try:
        result = measure(edits, turns=turns, quiet=as_json or not sys.stderr.isatty())
    except OutcomeError as error:
        print(f"bench.live: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    where = result.machine
    title = f"bench.live: {where.build} build, Python {where.python}, load {where.load_average}"
    table = Table(
        "bids and asks, each",
        "edits per second",
        "CPU µs",
        "of a report",
        "flows moved",
        "flows",
        "to bench.engine",
        title=title,
    )
    for size in result.sizes:
        table.add_row(
            f"{size.orders:,}",
            str(size.per_second),
            str(size.cpu_us),
            str(size.report_cpu_us),
            f"{size.moves}",
            f"{size.flows:,}",
            str(size.ratio),
        )
    table.caption = f"bench.engine: {result.engine_per_second}; bar {result.bar}: {'met' if result.met else 'missed'}"
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
