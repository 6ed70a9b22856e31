"""What this exchange promises about its speed, measured now in a short form: a line per number, and whether it holds.

    number                         bench                     short form
    1  the bare book               bench.peers               50,000 operations, 5 rounds, every book without a log
    2  the whole engine            bench.engine, bench.peers 100,000 commands, 5 rounds, liquibook by turns
    3  the gateway                 bench.gateway             slices of 0.8 s, 5 of each
    4  fan-out and idle sessions   bench.fanout              streams of 0.75 s, 5 of each; 1,000 subscribers, 1,000 sessions
    5  recovery                    bench.recovery            100,000 commands; 200,000 resting orders, not a million; 5 of each
    6  growth                      bench.scaling, .memory    5 turns of 3,000 commands; 200,000 orders, 3 processes
    7  the soak                    bench.soak                a minute, not ten

    python -m bench.verdict              every number, in less than ten minutes
    python -m bench.verdict --only 1,3   some of them
    python -m bench.verdict --json       one JSON object

Figures are medians, with their range, of ratios taken within a round. Those of the book and the engine are of CPU time, which
other processes disturb least. What could not be measured counts as missed. The exit code is 1 when anything is missed. The
first run also installs the peers, which takes some minutes more. `python -m bench` measures the same at full size.
"""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import engine, fanout, gateway, memory, peers, recovery, scaling, soak
from bench.common import Machine, OutcomeError, Spread, machine, spread
from bench.peers import COMPILED, EMPTY, PLAIN, REFERENCE, PeerError, Row, course, peer
from bench.scaling import COMPARISONS
from bench.workload import ACCOUNTS, RESTING, SEED

ROUNDS: Final = 5
BOOK_OPS: Final = 50_000
ENGINE_COMMANDS: Final = 100_000
ENGINE_OPS: Final = 100_000
"""Of the bare-book flow that liquibook runs beside the engine."""
GATEWAY_S: Final = 0.8
FANOUT_S: Final = 0.75
FANOUT_CASES: Final = ((1_000, 1), (1_000, 16))
REPLAY_COMMANDS: Final = 100_000
RESTORE_ORDERS: Final = 200_000
SCALING_TURNS: Final = 5
SCALING_SLICES: Final = 3
MEMORY_ORDERS: Final = 200_000
MEMORY_RUNS: Final = 3
SOAK_MINUTES: Final = 1.0

BOOK_BARS: Final = {COMPILED.name: 5.0, PLAIN.name: 1.5}
"""Rate of our bare book over that of the reference peer."""
ENGINE_BARS: Final = {"compiled": 2.0, "plain": 0.7}
"""Rate of the whole engine over that of the reference peer's bare book."""

Sign = Literal[">=", "<=", "<", ">"]


class Line(Struct):
    """One number and its bar."""

    number: int
    """Of the part that it belongs to."""
    what: str
    sign: Sign
    bar: float
    unit: str = ""
    figure: float | None = None
    least: float | None = None
    most: float | None = None
    """Of the rounds, as ``least``, where there are several."""
    not_measured: str = ""
    """Why there is no figure."""
    met: bool = False


class Result(Struct):
    machine: Machine
    seconds: float
    """That the whole run took."""
    lines: list[Line]


def line(number: int, what: str, sign: Sign, bar: float, found: Spread | float | str, unit: str = "") -> Line:
    """A line; ``found`` is the figure, or in words why there is none."""
    if isinstance(found, str):
        return Line(number, what, sign, bar, unit, not_measured=found)
    figure = found.median if isinstance(found, Spread) else found
    met = {">=": figure >= bar, "<=": figure <= bar, "<": figure < bar, ">": figure > bar}[sign]
    least, most = (found.least, found.most) if isinstance(found, Spread) else (None, None)
    return Line(number, what, sign, bar, unit, figure, least, most, met=met)


# ------------------------------------------------------------------------------------------------------------------- parts


def book() -> Iterator[Line]:
    """1: the bare book beside every other one."""
    # a log only slows a book down that is there without one
    names = [one.name for one in peers.PEERS if one is not EMPTY and one.variant not in ("log", "fsync")]
    result = peers.measure(names, ROUNDS, BOOK_OPS)
    rows = {row.name: row for row in result.rows}
    for name, bar in BOOK_BARS.items():
        what = f"bare book, {name.removeprefix('hashpit ')}: rate over {REFERENCE}'s"
        yield line(1, what, ">=", bar, rows[REFERENCE].failed or rows[name].failed or _ratio(rows[name]))
    yield line(1, "bare book, plain: rate over that of the best correct peer", ">", 1.0, _best_peer(rows))


def _ratio(row: Row) -> Spread:
    assert row.cpu_ratio is not None, row
    return row.cpu_ratio


def _best_peer(rows: dict[str, Row]) -> Spread | str:
    """Least over the peers. A peer that could not be measured may be the best one, so then there is no figure."""
    theirs = [row for row in rows.values() if row.package]
    failed = [row for row in (rows[PLAIN.name], *theirs) if row.failed]
    if failed:
        return "; ".join(f"{row.name}: {row.failed}" for row in failed)
    ours = rows[PLAIN.name].cpu_us
    assert ours is not None
    best = min((row.cpu_us for row in theirs if row.correct and row.cpu_us), key=lambda cpu_us: cpu_us.median, default=None)
    if best is None:
        return "no peer is correct"
    return Spread(*(round(cpu_us / ours.median, 2) for cpu_us in (best.median, best.least, best.most)))


def whole_engine() -> Iterator[Line]:
    """2: the engine with accounts, holds, fees, idempotency and events, beside the reference peer's bare book."""
    cpu_us: dict[str, list[float]] = {build: [] for build in (REFERENCE, *ENGINE_BARS)}
    failed: dict[str, str] = {}
    with course(ENGINE_OPS) as flows:
        runs: dict[str, Callable[[], float]] = {
            REFERENCE: lambda: flows.run(peer(REFERENCE)).cpu_us,
            "compiled": lambda: engine.in_build(False, ENGINE_COMMANDS, 1).cpu_us,
            "plain": lambda: engine.in_build(True, ENGINE_COMMANDS, 1).cpu_us,
        }
        for _ in range(ROUNDS):
            for build, run in runs.items():
                if build in failed:
                    continue
                try:
                    cpu_us[build].append(run())
                except (PeerError, OutcomeError) as error:
                    failed[build] = str(error)
    for build, bar in ENGINE_BARS.items():
        what = f"whole engine, {build}: rate over {REFERENCE}'s bare book"
        why = failed.get(REFERENCE) or failed.get(build)
        pairs = zip(cpu_us[REFERENCE], cpu_us[build], strict=False)
        yield line(2, what, ">=", bar, why or spread(theirs / ours for theirs, ours in pairs))


def durable_orders() -> Iterator[Line]:
    """3: the gateway beside two echoes and a bare commit."""
    found = gateway.measure(seconds=GATEWAY_S, repeats=ROUNDS)
    closed = found.closed
    for mix, to_picows, to_websockets in (
        ("place", closed.place_to_picows, closed.place_to_websockets),
        ("place and cancel by turns", closed.order_to_picows, closed.order_to_websockets),
    ):
        yield line(3, f"CPU per durable order over the picows echo, {mix}", "<=", gateway.RATIO_PICOWS_MAX, to_picows)
        yield line(3, f"the same over the websockets echo, {mix}", "<", gateway.RATIO_WEBSOCKETS_MAX, to_websockets)
    above = found.unloaded.above_us
    slower = f"{above.median:,g} µs means nothing: the disk was slower for the bare commits than for the orders"
    alone = above if above.median >= 0 else slower
    yield line(3, "unloaded p50 above echo and commit", "<=", gateway.UNLOADED_ABOVE_MAX_US, alone, "µs")
    half = next(rate for rate in found.rates if rate.share == 0.5)
    yield line(3, "p99 at half of the closed rate over the commit's", "<=", gateway.RATIO_P99_MAX, half.p99_to_commit)


def stream() -> Iterator[Line]:
    """4: fan-out beside a bare broadcast, and what an idle session costs."""
    found = fanout.measure(FANOUT_CASES, FANOUT_S, ROUNDS)
    for one in found.fanouts:
        what = f"fan-out to {one.subscribers:,}, {one.open_calls} open: rate over the broadcast's"
        if one.open_calls == 1:
            yield line(4, what, ">=", fanout.RATIO_MIN, one.ratio_send)
        else:
            yield line(4, f"{what}, a write per delta", ">=", fanout.RATIO_MIN, one.ratio_send)
            yield line(4, f"{what}, a write per batch", ">=", fanout.RATIO_MIN, one.ratio_write)
    for what, size in (("an idle session", found.session_bytes), ("an idle session, logged in", found.trader_bytes)):
        yield line(4, what, "<", fanout.SESSION_BYTES_MAX / 1_024, round(size / 1_024, 1), "KiB")


def standing_up() -> Iterator[Line]:
    """5: replay and restore."""
    found = recovery.measure(REPLAY_COMMANDS, ACCOUNTS, RESTING, RESTORE_ORDERS, ROUNDS)
    yield line(5, "replay's rate over the engine's", ">=", recovery.REPLAY_BAR, found.replay.ratio)
    for one in found.restores:
        what = f"restore of {one.orders:,} resting orders over the replay of their history, {one.history}"
        yield line(5, what, "<", recovery.RESTORE_BAR, one.ratio)


def growing() -> Iterator[Line]:
    """6: the cost of a command in a large exchange, and the memory of an order."""
    sizes = dict.fromkeys(size for one in COMPARISONS for size in (one.size, one.base))
    for found in scaling.measure(list(sizes), COMPARISONS, SCALING_TURNS, SCALING_SLICES).verdicts:
        yield line(6, f"cost per command, {found.what}", "<=", found.bar, found.ratio)
    weights = [memory.fresh("order", MEMORY_ORDERS, memory.ACCOUNTS, SEED, plain=False) for _ in range(MEMORY_RUNS)]
    size = spread((weight.bytes for weight in weights), 0)
    yield line(6, f"memory of a resting order, {weights[0].build}", "<=", memory.ORDER_BAR, size, "bytes")


def short_soak() -> Iterator[Line]:
    """7: memory and pauses under steady load."""
    found = soak.measure(SOAK_MINUTES)
    growth = round(found.steady.last_quarter_mb - found.steady.first_quarter_mb, 2)
    yield line(7, f"growth of memory in {SOAK_MINUTES:g} min after warm-up", "<=", soak.GROWTH_BAR_MB, growth, "MB")
    longest = max((pause.ms for pause in found.worst if pause.cause in soak.OURS), default=0.0)
    what = f"longest pause of our own over {soak.PAUSE_MS:g} ms, 0 if none"
    yield line(7, what, "<=", soak.PAUSE_MS, longest, "ms")


class Part(NamedTuple):
    name: str
    seconds: int
    """About how long it takes."""
    measure: Callable[[], Iterator[Line]]


PARTS: Final = {
    1: Part("the bare book", 90, book),
    2: Part("the whole engine", 35, whole_engine),
    3: Part("the gateway", 100, durable_orders),
    4: Part("fan-out and idle sessions", 90, stream),
    5: Part("recovery", 55, standing_up),
    6: Part("growth", 90, growing),
    7: Part("the soak", 95, short_soak),
}


# ------------------------------------------------------------------------------------------------------------- the verdict


def measure(only: list[int] | None = None, quiet: bool = True) -> Result:
    """All parts, or ``only`` those, one after the other."""
    where, started = machine(), time.perf_counter()
    parts = {number: part for number, part in PARTS.items() if not only or number in only}
    lines: list[Line] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("", total=sum(part.seconds for part in parts.values()))
        for number, part in parts.items():
            bar.update(task, description=f"{number} of {max(PARTS)}: {part.name}")
            lines += judged(number, part)
            bar.advance(task, part.seconds)
    return Result(where, round(time.perf_counter() - started, 1), lines)


def judged(number: int, part: Part) -> list[Line]:
    """The lines of a part, or one that says why there are none."""
    try:
        return list(part.measure())
    except (OutcomeError, PeerError, OSError) as error:
        return [Line(number, part.name, ">=", 0.0, not_measured=str(error) or type(error).__name__)]


def numbers(text: str) -> list[int]:
    """Parts by number, such as ``1,3``. Raises BadParameter."""
    try:
        found = [int(word) for word in text.split(",") if word.strip()]
    except ValueError:
        raise typer.BadParameter(f"{text} is no list of numbers") from None
    if unknown := set(found) - set(PARTS):
        raise typer.BadParameter(f"there is no number {min(unknown)}; they go from 1 to {max(PARTS)}")
    return found


def main(
    only: Annotated[str, typer.Option(help="numbers to measure, such as 1,3; all if not given")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure what is promised; exit code 1 when something is missed."""
    result = measure(numbers(only), quiet=as_json or not sys.stderr.isatty())
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)
    if not all(one.met for one in result.lines):
        raise typer.Exit(1)


def _show(result: Result) -> None:
    where = result.machine
    title = f"bench.verdict: {where.build} build, Python {where.python}, {where.cores} cores, load {where.load_average}"
    table = Table("", "number", "figure (range)", "bar", "", title=title)
    for one in result.lines:
        table.add_row(str(one.number), one.what, figure(one), bar(one), verdict(one))
    missed = sum(not one.met for one in result.lines)
    console = Console()
    console.print(table)
    console.print(f"{len(result.lines) - missed} met, {missed} missed, in {result.seconds / 60:.1f} minutes", highlight=False)


def figure(one: Line) -> str:
    """The figure with its range and unit, or why there is none."""
    if one.figure is None:
        return f"not measured: {one.not_measured}"
    text = f"{one.figure:,g}"
    if one.least is not None and one.most is not None:
        text += f" ({one.least:,g} to {one.most:,g})"
    return f"{text} {one.unit}".strip()


def bar(one: Line) -> str:
    return f"{one.sign} {one.bar:g} {one.unit}".strip()


def verdict(one: Line) -> str:
    return "met" if one.met else "missed"


if __name__ == "__main__":
    typer.run(main)
