"""How fast an exchange stands up again: replay of a journal, and a snapshot instead of it.

    the flow of bench.workload --Journal.append--> journal.db

        engine   [entries, decoded before] -> Engine.apply                     as bench.engine does, the same commands
        replay   journal.db -> recover(): check, decode, apply                 what every start does behind its snapshot
        server   the same, and channels and history are loaded along the way   python -m gateway, before its sockets open

    a history that ends with resting orders --Journal.append--> journal.db --make_snapshot()--> snapshot.bin

        replay   journal.db -> recover()
        restore  snapshot.bin -> read_snapshot(): hash of what is read, restore
        start    both -> recover(): the journal's rows are checked, the snapshot is restored, nothing is left to replay

    What replaying takes depends on the history, what restoring takes on what has to be remembered of it:

        placed   a million orders that rest and nothing else: the hardest case for a snapshot, as nothing is left out
        traded   bench.workload's mix until a tenth as many rest, within minutes: every client order id is still remembered
        aged     the same over some days: the ids of all but the last day are forgotten

    python -m bench.recovery                     table
    python -m bench.recovery --json              one JSON object
    python -m bench.recovery --orders 100000     a smaller snapshot, for a quick look

Each run is a fresh process; kinds take turns, and ratios are those of one turn's CPU times. Journal and snapshot were written
just before, so they come out of the page cache. All ways end in the same state hash.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Annotated, Final, ParamSpec, TypeVar

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import Machine, OutcomeError, Spread, machine, progress, spread
from bench.engine import timed
from bench.scaling import resting, setup
from bench.workload import ACCOUNTS, COMMANDS, RESTING, SEED, START_NS, STEP_NS, Workload, build, grown
from engine.commands import Entry, ListMarket
from engine.events import Event
from engine.limits import DAY_NS
from engine.snapshot import state_hash
from engine.types import MarketSpec
from gateway.feeds import Feeds
from gateway.history import History
from gateway.journal import Journal, JournalReader, encode_batch
from gateway.recovery import JOURNAL, make_snapshot, read_snapshot, recover

ORDERS: Final = 1_000_000
REPEATS: Final = 5
ROW_ENTRIES: Final = 100
"""Entries of a journal row: what one commit gathers while some hundred calls are open."""

REPLAY_BAR: Final = 0.6
"""Replay's rate over the engine's, at least."""
TRADED_PART: Final = 10
"""The traded histories end with this part of the orders that are only placed."""
AGED_NS: Final = 5 * DAY_NS
"""How long the aged history is for every ten commands per order that rests in the end; it has some ten to twenty."""
GATE_LATER_NS: Final = 1_000 * DAY_NS

RESTORE_BAR: Final = 0.1
"""Time to restore a snapshot over that to replay what made it; less than this."""

P = ParamSpec("P")
T = TypeVar("T")


class Run(Struct):
    """One process's work."""

    entries: int
    """0 for a restore: it knows none."""
    seconds: float
    cpu_s: float
    state_hash: str
    resting: int = 0
    """Of a restore: orders in the books."""


class Replay(Struct):
    """Entries per second of CPU time, and what they are of the engine's."""

    commands: int
    engine: Spread
    replay: Spread
    server: Spread
    ratio: Spread
    ratio_server: Spread
    met: bool
    """By ``ratio``."""
    state_hash: str


class Restore(Struct):
    """CPU seconds until the engine stands; ratios are over ``replay_s``."""

    history: str
    orders: int
    """That rest in the end."""
    entries: int
    journal_bytes: int
    snapshot_bytes: int
    replay_s: Spread
    restore_s: Spread
    start_s: float
    """Of one run: it is a restore and a check of the journal."""
    ratio: Spread
    met: bool
    """By ``ratio``."""
    state_hash: str


class Result(Struct):
    machine: Machine
    repeats: int
    replay: Replay
    restores: list[Restore]


# ---------------------------------------------------------------------------------------------------------------- journals


def write_journal(folder: Path, entries: Iterable[Entry]) -> None:
    """A journal as the gateway writes it."""
    journal = Journal(folder / JOURNAL)
    try:
        rest = iter(entries)
        while batch := list(islice(rest, ROW_ENTRIES)):
            journal.append(batch[0].seq, batch[-1].seq, encode_batch(batch))
    finally:
        journal.close()


def traded(orders: int, accounts: int, seed: int, step_ns: int = STEP_NS) -> Iterable[Entry]:
    """bench.workload's mix from an empty book until so many rest, one command every ``step_ns``."""
    for entry in grown(seed, accounts, orders):
        command = entry.command
        if type(command) is ListMarket:
            command = ListMarket(later(command.spec))
        yield Entry(entry.seq, START_NS + entry.seq * step_ns, command)


def later(spec: MarketSpec) -> MarketSpec:
    """The market with its gate where no history reaches it."""
    return msgspec.structs.replace(
        spec,
        gate_ns=spec.gate_ns + GATE_LATER_NS,
        period_start_ns=spec.period_start_ns + GATE_LATER_NS,
        period_end_ns=spec.period_end_ns + GATE_LATER_NS,
        settle_ns=spec.settle_ns + GATE_LATER_NS,
    )


def orders_that_rest(orders: int, accounts: int, seed: int) -> Iterable[Entry]:
    """Market, accounts, and orders that nothing ever happens to, each with a client_order_id."""
    seq = 0
    for commands in (setup(accounts), resting(Random(seed), orders, accounts)):
        for command in commands:
            seq += 1
            yield Entry(seq, START_NS + seq * STEP_NS, command)


# -------------------------------------------------------------------------------------------------------- in fresh processes


def fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it in a process of its own, whose memory nothing has used before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def run_engine(folder: Path, setup_entries: int) -> Run:
    """The journal's commands through bench.engine's loop."""
    with JournalReader(folder / JOURNAL) as journal:
        entries = list(journal.entries())
    workload = Workload(entries[:setup_entries], entries[setup_entries:], {})
    seconds, cpu_s, engine = timed(workload)
    return Run(len(workload.commands), seconds, cpu_s, state_hash(engine))


def run_recover(folder: Path, as_server: bool = False) -> Run:
    """``recover``, alone or with what a server's start does for each entry."""
    feeds, history = Feeds(), History()

    def replayed(entry: Entry, events: list[Event]) -> None:
        feeds.load(entry, events)
        history.load(events)

    start, cpu_start = time.perf_counter(), time.process_time()
    recovered = recover(folder, on_entry=replayed if as_server else None)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    recovered.journal.close()
    return Run(recovered.engine.seq, seconds, cpu_s, state_hash(recovered.engine))


def run_restore(snapshot: Path) -> Run:
    """``read_snapshot``."""
    start, cpu_start = time.perf_counter(), time.process_time()
    header, engine = read_snapshot(snapshot)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    assert engine.seq == header.seq
    return Run(0, seconds, cpu_s, state_hash(engine), len(engine.open_orders()))


# ------------------------------------------------------------------------------------------------------------------- bench


def measure_replay(
    folder: Path, commands: int, accounts: int, resting_orders: int, seed: int, repeats: int, quiet: bool
) -> Replay:
    """Replay beside the engine's rate."""
    workload = build(seed, commands, accounts, resting_orders)
    setup_entries = len(workload.setup)
    write_journal(folder, workload.setup + workload.commands)
    del workload
    engine, replay, server = [], [], []
    for _ in progress(range(repeats), "replaying", quiet):
        engine.append(fresh(run_engine, folder, setup_entries))
        replay.append(fresh(run_recover, folder))
        server.append(fresh(run_recover, folder, True))
    rates = [[run.entries / run.cpu_s for run in runs] for runs in (engine, replay, server)]
    ratio = spread(mine / other for mine, other in zip(rates[1], rates[0], strict=True))
    return Replay(
        commands=commands,
        engine=spread(rates[0], 0),
        replay=spread(rates[1], 0),
        server=spread(rates[2], 0),
        ratio=ratio,
        ratio_server=spread(mine / other for mine, other in zip(rates[2], rates[0], strict=True)),
        met=ratio.median >= REPLAY_BAR,
        state_hash=_same_hash(engine + replay + server),
    )


def measure_restore(folder: Path, history: str, entries: Iterable[Entry], orders: int, repeats: int, quiet: bool) -> Restore:
    """A snapshot beside the journal that made it."""
    bare, whole = folder / "bare", folder / "whole"
    bare.mkdir(parents=True)
    write_journal(bare, entries)
    shutil.copytree(bare, whole)
    made = fresh(make_snapshot, whole)
    snapshot = Path(made.path)
    replay, restore = [], []
    for _ in progress(range(repeats), f"restoring what was {history}", quiet):
        replay.append(fresh(run_recover, bare))
        restore.append(fresh(run_restore, snapshot))
    start = fresh(run_recover, whole)
    final = _same_hash([*replay, *restore, start])
    if final != made.state_hash:
        raise OutcomeError(f"the snapshot was made of {made.state_hash}, but {final} came out")
    if restore[0].resting != orders:
        raise OutcomeError(f"{restore[0].resting} orders rest in what was {history}, not {orders}")
    ratio = spread((mine.cpu_s / other.cpu_s for mine, other in zip(restore, replay, strict=True)), 3)
    result = Restore(
        history=history,
        orders=orders,
        entries=made.seq,
        journal_bytes=(bare / JOURNAL).stat().st_size,
        snapshot_bytes=snapshot.stat().st_size,
        replay_s=spread(run.cpu_s for run in replay),
        restore_s=spread(run.cpu_s for run in restore),
        start_s=round(start.cpu_s, 2),
        ratio=ratio,
        met=ratio.median < RESTORE_BAR,
        state_hash=final,
    )
    shutil.rmtree(folder)
    return result


def _same_hash(runs: list[Run]) -> str:
    hashes = {run.state_hash for run in runs}
    if len(hashes) > 1:
        raise OutcomeError(f"the ways end in different states: {', '.join(sorted(hashes))}")
    return hashes.pop()


def measure(
    commands: int = COMMANDS,
    accounts: int = ACCOUNTS,
    resting_orders: int = RESTING,
    orders: int = ORDERS,
    repeats: int = REPEATS,
    seed: int = SEED,
    data: Path | None = None,
    quiet: bool = True,
) -> Result:
    """The whole bench; ``data`` is where journals and snapshots go meanwhile. Raises OutcomeError when states differ."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="hashpit-bench-", dir=data) as name:
        folder = Path(name)
        replay = measure_replay(folder / "flow", commands, accounts, resting_orders, seed, repeats, quiet)
        fewer = max(1, orders // TRADED_PART)
        histories = (
            ("placed", orders_that_rest(orders, accounts, seed), orders),
            ("traded", traded(fewer, accounts, seed), fewer),
            ("aged", traded(fewer, accounts, seed, AGED_NS // (10 * fewer)), fewer),
        )
        restores = [
            measure_restore(folder / history, history, entries, count, repeats, quiet) for history, entries, count in histories
        ]
    return Result(where, repeats, replay, restores)


def main(
    commands: Annotated[int, typer.Option(min=1, help="commands of the flow to replay")] = COMMANDS,
    accounts: Annotated[int, typer.Option(min=2, help="accounts that trade")] = ACCOUNTS,
    orders: Annotated[int, typer.Option(min=1, help="resting orders of the snapshot")] = ORDERS,
    repeats: Annotated[int, typer.Option(min=1, help="fresh processes per figure")] = REPEATS,
    seed: Annotated[int, typer.Option(help="of the flows")] = SEED,
    data: Annotated[
        Path | None, typer.Option(help="directory for the journals; default: the system's for temporary files")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure recovery."""
    try:
        quiet = as_json or not sys.stderr.isatty()
        result = measure(commands, accounts, RESTING, orders, repeats, seed, data, quiet)
    except OutcomeError as error:
        print(f"bench.recovery: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    found = result.machine
    console = Console()
    replay = result.replay
    title = f"bench.recovery: {found.build} build, Python {found.python}, load {found.load_average}"
    table = Table(f"{replay.commands:,} commands", "per second of CPU time", "of the engine's rate", title=title)
    table.add_row("engine", str(replay.engine), "1")
    table.add_row("replay", str(replay.replay), str(replay.ratio))
    table.add_row("server", str(replay.server), str(replay.ratio_server))
    console.print(table)
    console.print(f"replay has at least {REPLAY_BAR} of the engine's rate: {'met' if replay.met else 'missed'}")
    for restore in result.restores:
        title = f"{restore.entries:,} entries, {restore.history}: {restore.orders:,} rest"
        table = Table(title, "CPU seconds", "of replay's", "bytes")
        table.add_row("replay", str(restore.replay_s), "1", f"{restore.journal_bytes:,}")
        table.add_row("restore", str(restore.restore_s), str(restore.ratio), f"{restore.snapshot_bytes:,}")
        table.add_row("start", f"{restore.start_s:,g}", "", "both")
        console.print(table)
        console.print(f"restore takes less than {RESTORE_BAR} of replay's time: {'met' if restore.met else 'missed'}")


if __name__ == "__main__":
    typer.run(main)
