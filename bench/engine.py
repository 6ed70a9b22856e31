"""Full commands through Engine.apply: accounts, holds, fees, idempotency, matching, events. No journal, no sockets.

    a slice of 4,096 commands, decoded just now -> Engine.apply -> [events, dropped]
                                                   ^^^^^^^^^^^^ timed, one call per command, on one core

    python -m bench.engine                 table
    python -m bench.engine --json          one JSON object
    python -m bench.engine --profile       also what the time goes to (slower; look at the shares)
    HASHPIT_PLAIN=1 python -m bench.engine the plain sources although the engine is compiled

Each repeat starts from a fresh engine with the resting orders in place and ends in a state whose hash must be the recorded
one; invariants and conservation of money are checked. One more repeat, with a clock around each command, gives latencies.

Slices, because a server applies what it has just decoded; a list of all commands would be cold memory by the time that it is
used. The garbage collector rests while the clock runs, and what rests in the book is frozen out of it: it is no part of a
command, and a server can choose when to run it. bench.soak shows its pauses.
"""

import contextlib
import cProfile
import gc
import io
import os
import pstats
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import Machine, OutcomeError, machine, progress, quantile
from bench.workload import ACCOUNTS, COMMANDS, RESTING, SEED, Workload, build
from engine.commands import Amend, Cancel, Entry, Place
from engine.core import Engine
from engine.invariants import check
from engine.snapshot import state_hash
from engine.types import TimeInForce
from gateway.collector import Collector, paused
from gateway.journal import decode_batch, encode_batch
from hashpit.build import PLAIN_VARIABLE

ROOT: Final = Path(__file__).resolve().parent.parent
REPEATS: Final = 5
SLICE: Final = 4_096
"""Commands that are decoded together, as many as bench/drivers/base.py prepares, and what a busy server takes between two steps
of its garbage collector."""
PROFILE_LINES: Final = 15

RECORDED: Final = {
    (SEED, COMMANDS, ACCOUNTS, RESTING): "4cac2e13116637234b7b76ca6ac1ffc6a306de91bf1b3e24b0ccbd06f6bfd51d",
    (SEED, 100_000, ACCOUNTS, RESTING): "73683473abe05570303e5e1389e39ee6625f394513eaac4436e2f7e5045040a8",
}
"""Final state_hash by seed, commands, accounts and resting orders. It changes when the engine's behaviour, the snapshot's
layout or the workload does: then, and only then, put in the new one."""


class Result(Struct):
    """Rates in commands per second, times in microseconds."""

    machine: Machine
    commands: int
    accounts: int
    repeats: int
    per_second: int
    per_second_min: int
    per_second_max: int
    cpu_us: float
    """CPU time of a command: what a busy machine disturbs least."""
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float
    mean_us_by_kind: dict[str, float]
    counts: dict[str, int]
    state_hash: str
    recorded: bool
    """Whether the hash was compared with a recorded one."""


def prepare(workload: Workload) -> Engine:
    """An engine with market, accounts and resting orders in place."""
    gc.collect()
    engine = Engine()
    for entry in workload.setup:
        engine.apply(entry)
    return engine


def slices(workload: Workload) -> Iterator[list[Entry]]:
    """The commands, each slice decoded when it is asked for."""
    commands = workload.commands
    for start in range(0, len(commands), SLICE):
        yield decode_batch(bytes(encode_batch(commands[start : start + SLICE])))


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """The garbage collector as the server has it: what is there is frozen, and it steps when it is told to."""
    collector = Collector()
    with paused():
        collector.start()
        try:
            yield collector
        finally:
            collector.stop()


def timed(workload: Workload) -> tuple[float, float, Engine]:
    """Seconds and CPU seconds for all commands, and the engine after them."""
    engine = prepare(workload)
    apply = engine.apply
    seconds = cpu_seconds = 0.0
    with collecting() as collector:
        for entries in slices(workload):
            start, cpu_start = time.perf_counter(), time.process_time()
            for entry in entries:
                apply(entry)
            collector.step()
            seconds += time.perf_counter() - start
            cpu_seconds += time.process_time() - cpu_start
    return seconds, cpu_seconds, engine


def latencies(workload: Workload) -> dict[str, list[int]]:
    """Nanoseconds of each command, by kind; includes some 50 ns of the clock."""
    apply = prepare(workload).apply
    clock = time.perf_counter_ns
    found: dict[str, list[int]] = {"limit": [], "cancel": [], "taker": [], "amend": []}
    with collecting():
        for entries in slices(workload):
            for entry in entries:
                kind = found[_kind(entry)]
                start = clock()
                apply(entry)
                kind.append(clock() - start)
    return found


def _kind(entry: Entry) -> str:
    command = entry.command
    if type(command) is Place:
        return "limit" if command.time_in_force is TimeInForce.GTC else "taker"
    assert type(command) in (Cancel, Amend), entry
    return "cancel" if type(command) is Cancel else "amend"


def measure(
    seed: int = SEED,
    commands: int = COMMANDS,
    accounts: int = ACCOUNTS,
    resting: int = RESTING,
    repeats: int = REPEATS,
    quiet: bool = True,
) -> Result:
    """The whole bench. Raises OutcomeError when repeats disagree or the state is not the recorded one."""
    where = machine()
    workload = build(seed, commands, accounts, resting)
    rates: list[float] = []
    costs: list[float] = []
    hashes: set[str] = set()
    for _ in progress(range(repeats), "measuring", quiet):
        seconds, cpu_seconds, engine = timed(workload)
        rates.append(commands / seconds)
        costs.append(cpu_seconds / commands * 1e6)
        check(engine)
        hashes.add(state_hash(engine))
        del engine  # so that the next repeat's garbage collections do not walk it
    if len(hashes) > 1:
        raise OutcomeError(f"repeats ended in different states: {', '.join(sorted(hashes))}")
    (final,) = hashes
    recorded = RECORDED.get((seed, commands, accounts, resting))
    if recorded is not None and recorded != final:
        raise OutcomeError(f"the state is {final}, but {recorded} is recorded in bench/engine.py")
    by_kind = latencies(workload)
    times = sorted(value for kind in by_kind.values() for value in kind)
    return Result(
        machine=where,
        commands=commands,
        accounts=accounts,
        repeats=repeats,
        per_second=round(statistics.median(rates)),
        per_second_min=round(min(rates)),
        per_second_max=round(max(rates)),
        cpu_us=round(statistics.median(costs), 2),
        p50_us=round(quantile(times, 0.5) / 1_000, 2),
        p99_us=round(quantile(times, 0.99) / 1_000, 2),
        p999_us=round(quantile(times, 0.999) / 1_000, 2),
        max_us=round(quantile(times, 1.0) / 1_000, 2),
        mean_us_by_kind={kind: round(statistics.fmean(found) / 1_000, 2) for kind, found in by_kind.items() if found},
        counts=workload.counts,
        state_hash=final,
        recorded=recorded is not None,
    )


def in_build(plain: bool, commands: int = COMMANDS, repeats: int = REPEATS) -> Result:
    """The bench in a process of its own, with the plain sources or the compiled ones. Raises OutcomeError."""
    environment = {name: value for name, value in os.environ.items() if name != PLAIN_VARIABLE}
    if plain:
        environment[PLAIN_VARIABLE] = "1"
    command = [sys.executable, "-m", "bench.engine", "--json", "--commands", str(commands), "--repeats", str(repeats)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise OutcomeError(f"bench.engine in a process of its own: {(done.stderr.splitlines() or ['it said nothing'])[-1]}")
    result = msgspec.json.decode(done.stdout, type=Result)
    if (result.machine.build == "plain") != plain:
        raise OutcomeError("the engine is not compiled, or is older than its source")
    return result


def profile(seed: int = SEED, commands: int = COMMANDS, accounts: int = ACCOUNTS, resting: int = RESTING) -> str:
    """Where the time goes, by own time per function; the profiler's own cost makes it about three times as long."""
    workload = build(seed, commands, accounts, resting)
    apply = prepare(workload).apply
    profiler = cProfile.Profile()
    with collecting():
        for entries in slices(workload):
            profiler.enable()
            for entry in entries:
                apply(entry)
            profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def main(
    commands: Annotated[int, typer.Option(min=1, help="commands per repeat")] = COMMANDS,
    accounts: Annotated[int, typer.Option(min=2, help="accounts that trade")] = ACCOUNTS,
    resting: Annotated[int, typer.Option(min=1, help="orders in the book")] = RESTING,
    repeats: Annotated[int, typer.Option(min=1, help="fresh engines to measure")] = REPEATS,
    seed: Annotated[int, typer.Option(help="of the workload")] = SEED,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    with_profile: Annotated[bool, typer.Option("--profile", help="also print the top of a profile")] = False,
) -> None:
    """Measure the engine."""
    try:
        result = measure(seed, commands, accounts, resting, repeats, quiet=as_json or not sys.stderr.isatty())
    except OutcomeError as error:
        print(f"bench.engine: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)
    if with_profile:
        print(profile(seed, commands, accounts, resting), file=sys.stderr if as_json else sys.stdout)


def _show(result: Result) -> None:
    where = result.machine
    title = f"bench.engine: {where.build} build, Python {where.python}, load {where.load_average}"
    table = Table("figure", "value", title=title)
    table.add_row("commands per second", f"{result.per_second:,}")
    table.add_row("least and most", f"{result.per_second_min:,} to {result.per_second_max:,}")
    table.add_row("CPU time of a command", f"{result.cpu_us} µs")
    table.add_row("latency p50, p99, p99.9, max", f"{result.p50_us}, {result.p99_us}, {result.p999_us}, {result.max_us} µs")
    for kind, mean in result.mean_us_by_kind.items():
        table.add_row(f"mean of a {kind} command", f"{mean} µs")
    counts = result.counts
    table.add_row("mix", ", ".join(f"{counts[kind]:,} {kind}" for kind in ("limit", "cancel", "taker", "amend")))
    table.add_row("trades", f"{counts['trades']:,}")
    table.add_row("resting orders", f"{counts['resting_min']:,} to {counts['resting_max']:,}")
    table.add_row("price levels", f"{counts['levels_min']:,} to {counts['levels_max']:,}")
    table.add_row("final state", f"{result.state_hash[:16]}…, {'as recorded' if result.recorded else 'none recorded'}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
