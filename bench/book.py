"""The bare order book alone, compiled and plain, beside a method that does nothing: how much of the time is the call itself.

    a child process per build and round -> 10,000 orders, not timed -> 200,000 operations of bench/flow.py in slices
                                           arguments made | calls timed | fills hashed          bench/drivers/bare.py

    python -m bench.book                     table
    python -m bench.book --json              one JSON object
    python -m bench.book --profile           also what the time goes to, in the build that this process runs
    HASHPIT_PLAIN=1 python -m bench.book --profile     the same of the plain sources

Rounds are interleaved. Every fill of every round is held against the plain book of bench/flow.py, whose hash of them is
recorded here. bench.peers puts the same figures beside other packages.
"""

import cProfile
import io
import pstats
import sys
from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench import peers
from bench.common import Machine, OutcomeError
from bench.drivers.bare import Bare
from bench.flow import OPS, PRELOAD, SEED, build, resolve
from bench.peers import COMPILED, EMPTY, PLAIN, ROUNDS, Row

PROFILE_LINES: Final = 15

RECORDED: Final = {
    (SEED, OPS, PRELOAD): "5023de22a24c79f906b9bb5ff9061748706350101bd69c139b5fe21760c9e3a8",
}
"""Hash of all fills by seed, operations and preload. It changes when the flow does: then, and only then, put in the new one."""


class Result(Struct):
    machine: Machine
    ops: int
    rounds: int
    rows: list[Row]
    """Compiled, plain, and the empty method; see bench.peers."""
    fills: int
    digest: str
    recorded: bool
    """Whether the digest was compared with a recorded one."""


def measure(rounds: int = ROUNDS, ops: int = OPS, seed: int = SEED, quiet: bool = True) -> Result:
    """The whole bench. Raises OutcomeError when a fill is not what it must be."""
    found = peers.measure([COMPILED.name, PLAIN.name, EMPTY.name], rounds, ops, seed, quiet=quiet)
    plain = found.rows[1]
    if plain.failed:
        raise OutcomeError(f"the plain book {plain.failed}")
    preload = min(PRELOAD, ops)
    _, right = resolve(build(seed, ops, preload), keeps=True)
    recorded = RECORDED.get((seed, ops, preload))
    if recorded is not None and recorded != right.digest:
        raise OutcomeError(f"the fills hash to {right.digest}, but {recorded} is recorded in bench/book.py")
    return Result(found.machine, ops, rounds, found.rows, right.fills, right.digest, recorded is not None)


def profile(ops: int = OPS, seed: int = SEED) -> str:
    """Where the time goes, by own time per function; the profiler's own cost makes it several times as long."""
    flow = build(seed, ops, min(PRELOAD, ops))
    driver = Bare("")
    for call, arguments in driver.calls(flow.ops(0, flow.preload)):
        call(*arguments)
    calls = driver.calls(flow.ops(flow.preload, flow.preload + ops))
    profiler = cProfile.Profile()
    profiler.enable()
    for call, arguments in calls:
        call(*arguments)
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def main(
    rounds: Annotated[int, typer.Option(min=1, help="runs of each build")] = ROUNDS,
    ops: Annotated[int, typer.Option(min=1, help="operations per run")] = OPS,
    seed: Annotated[int, typer.Option(help="of the flow")] = SEED,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    with_profile: Annotated[bool, typer.Option("--profile", help="also print the top of a profile")] = False,
) -> None:
    """Measure the bare order book."""
    try:
        result = measure(rounds, ops, seed, quiet=as_json or not sys.stderr.isatty())
    except OutcomeError as error:
        print(f"bench.book: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)
    if with_profile:
        print(profile(ops, seed), file=sys.stderr if as_json else sys.stdout)


def _show(result: Result) -> None:
    table = Table(title=f"bench.book: {result.ops:,} operations, {result.rounds} rounds, load {result.machine.load_average}")
    for column in ("", "1,000 op/s (range)", "CPU µs", "p50, p99, p99.9 µs"):
        table.add_column(column, justify="right" if column else "left")
    for row in result.rows:
        if row.failed or row.cpu_us is None:
            table.add_row(row.name, row.failed, "", "")
        else:
            times = f"{row.p50_us}, {row.p99_us}, {row.p999_us}"
            table.add_row(row.name, str(row.per_second), f"{row.cpu_us.median}", times)
    console = Console()
    console.print(table)
    known = "as recorded" if result.recorded else "none recorded"
    console.print(f"{result.fills:,} fills, every one that of the plain book: {result.digest[:16]}…, {known}", highlight=False)


if __name__ == "__main__":
    typer.run(main)
