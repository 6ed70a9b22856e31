"""The bare order book beside the order books that one can install for Python: one flow, one call per operation.

    one process per book and round -> 10,000 orders, not timed -> 200,000 operations in slices
                                      arguments made | calls timed | fills counted           bench/drivers/base.py

    python -m bench.peers                    table; installs what is missing, each package in an environment of its own
    python -m bench.peers --json             one JSON object
    python -m bench.peers --only liquibook --only "hashpit plain"

Rounds are interleaved: every book runs once, then every book again. What a book did is held against the plain book of
bench/flow.py: fills, traded quantity, traded value, and the best bid and ask in the end. ``exact (keep)`` and ``exact (repl)``
are both right; they differ in whether an order that is made smaller keeps its place. Books without IOC or amend get two
calls for one operation. A package that cannot be installed or fails has a row that says why.

Added memory is the process's peak over what it was before the book, with one slice of calls and results, and with the order
objects that a caller has to keep.
"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import Machine, OutcomeError, Spread, machine, progress, quantile, spread
from bench.flow import OPS, PRELOAD, SEED, Outcome, build, resolve
from hashpit.build import PLAIN_VARIABLE

ROOT: Final = Path(__file__).resolve().parent.parent
ROUNDS: Final = 5
RUN_S: Final = 300.0
"""A driver that has not ended by then has failed."""
INSTALL_S: Final = 900.0
REFERENCE: Final = "liquibook"
"""The fastest peer that is right and tells its fills: ratios are to its rate in the same round."""


class Peer(NamedTuple):
    """A row of the table: a book, and how it is driven."""

    name: str
    driver: str
    packages: tuple[str, ...] = ()
    """What to install; nothing for our own book. The first one is the book's."""
    variant: str = ""
    keeps: bool = False
    """Whether an order that is made smaller keeps its place."""
    python: tuple[int, int] = (3, 11)
    preload: int = PRELOAD
    ops: int | None = None
    """At most so many operations, of books that would take all day."""
    note: str = ""
    """What the verdict has to begin with."""


COMPILED: Final = Peer("hashpit compiled", "bare", keeps=True)
PLAIN: Final = Peer("hashpit plain", "bare", keeps=True)
EMPTY: Final = Peer("empty method", "bare", variant="empty", keeps=True)
_MATCHING: Final = ("matching-engine==0.1.1",)

PEERS: Final = (
    COMPILED,
    PLAIN,
    EMPTY,
    # makes the order and finds it by its id while the clock runs, as every other book here does
    Peer(REFERENCE, "liquibook", ("liquibook==2.0.1",), variant="by_id"),
    Peer("liquibook, orders ready-made", "liquibook", ("liquibook==2.0.1",)),
    Peer("matching-engine", "matching_engine", _MATCHING, python=(3, 12)),
    Peer("matching-engine, log", "matching_engine", _MATCHING, variant="log", python=(3, 12)),
    Peer("matching-engine, fsync", "matching_engine", _MATCHING, "fsync", python=(3, 12), preload=1_000, ops=2_000),
    Peer("orderly-chaos", "orderly_chaos", ("orderly-chaos==0.2.0",), keeps=True),
    Peer("litebook", "litebook", ("litebook==0.0.1",)),
    Peer("cython-orderbook", "cython_orderbook", ("cython-orderbook==0.1.2",)),
    Peer("lightmatchingengine", "lightmatchingengine", ("lightmatchingengine==2019.1.4",)),
    # it imports what it does not require
    Peer("order-matching", "order_matching", ("order-matching==0.12.0", "polars", "pandera"), preload=1_000, ops=300),
    Peer("limit-order-book", "limit_order_book", ("limit-order-book==2.0.0",)),
    Peer("nautilus-trader", "nautilus_trader", ("nautilus-trader==1.221.0",), keeps=True, note="matches nothing"),
)


class PeerError(Exception):
    """Why a book cannot be measured."""


class Run(Struct):
    """What a driver prints; see bench.drivers.base.run."""

    ops: int
    seconds: float
    cpu_seconds: float
    added_bytes: int | None
    fills: int | None
    qty: int
    value: int
    best_bid: int
    best_ask: int
    digest: str
    build: str
    nanoseconds: list[int]

    @property
    def per_second(self) -> float:
        return self.ops / self.seconds

    @property
    def cpu_us(self) -> float:
        return self.cpu_seconds / self.ops * 1e6


class Row(Struct):
    """Figures of one book; none when it ``failed``."""

    name: str
    package: str = ""
    failed: str = ""
    ops: int = 0
    per_second: Spread | None = None
    """Thousands of operations."""
    cpu_us: Spread | None = None
    """CPU time of an operation."""
    ratio: Spread | None = None
    """Rate over that of the reference peer, round by round."""
    cpu_ratio: Spread | None = None
    """The same by CPU time, which other processes on the machine disturb less. Not for books that wait for the disk."""
    p50_us: float = 0.0
    p99_us: float = 0.0
    p999_us: float = 0.0
    added_mb: float | None = None
    correct: bool = False
    """Right, and says so: exact fills, and the right best prices in the end."""
    verdict: str = ""


class Result(Struct):
    machine: Machine
    seed: int
    ops: int
    rounds: int
    rows: list[Row]


# ------------------------------------------------------------------------------------------------------- their environments


def default_cache() -> Path:
    """Where the peers' environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hashpit" / "peers"


def interpreter(peer: Peer, cache: Path) -> str:
    """The Python that has the peer's package, which is installed if it is not yet. Raises PeerError."""
    if not peer.packages:
        return sys.executable
    folder = cache / peer.packages[0].replace("==", "-")
    python, installed, wanted = folder / "bin" / "python", folder / "installed", "\n".join(peer.packages)
    if not (installed.is_file() and installed.read_text() == wanted):
        base = _python(peer.python)
        shutil.rmtree(folder, ignore_errors=True)
        _command(f"cannot make {folder}", base, "-m", "venv", str(folder))
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _command("cannot be installed", *pip, *peer.packages)
        installed.write_text(wanted)
    return str(python)


def _python(least: tuple[int, int]) -> str:
    """A Python that is new enough: this one, one on the path, or one that pyenv keeps."""
    if sys.version_info[:2] >= least:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for minor in range(least[1], least[1] + 4):
        name = f"python{least[0]}.{minor}"
        for candidate in (name, *sorted(map(str, pyenv.glob(f"{least[0]}.{minor}.*/bin/python")))):
            found = shutil.which(candidate)
            if found and subprocess.run([found, "-c", "import ensurepip"], capture_output=True).returncode == 0:
                return found
    raise PeerError(f"needs Python {least[0]}.{least[1]}")


def _command(why: str, *command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{why}: {error}") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PeerError(f"{why}: {(errors or done.stderr.splitlines() or ['no reason given'])[-1]}")


# ------------------------------------------------------------------------------------------------------------------- a run


class Course:
    """Flows on the disk, what must come of them, and books that run on them."""

    def __init__(self, folder: Path, ops: int, seed: int, cache: Path) -> None:
        self._folder = folder
        self._ops = ops
        self._seed = seed
        self._cache = cache
        self._outcomes: dict[tuple[int, int], dict[bool, Outcome]] = {}

    def run(self, peer: Peer, latency: bool = False) -> Run:
        """Run a book once; its rate counts, or with ``latency`` the time of each call. Raises PeerError."""
        self.outcomes(peer)
        command = [interpreter(peer, self._cache), "-m", f"bench.drivers.{peer.driver}", str(self._path(peer, peer.keeps))]
        environment = {name: value for name, value in os.environ.items() if name != PLAIN_VARIABLE}
        if peer is PLAIN:
            environment[PLAIN_VARIABLE] = "1"
        command += [peer.variant] * bool(peer.variant) + ["--latency"] * latency
        try:
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_S)
        except subprocess.TimeoutExpired:
            raise PeerError(f"took more than {RUN_S:,.0f} s") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise PeerError(f"ended with code {done.returncode}: {(lines or ['it said nothing'])[-1]}")
        run = msgspec.json.decode(done.stdout, type=Run)
        if peer is COMPILED and run.build != "compiled":
            raise PeerError("engine.bare is not compiled, or is older than its source")
        return run

    def outcomes(self, peer: Peer) -> dict[bool, Outcome]:
        """What right books have done that keep an amended order's place, and that do not."""
        size = self._size(peer)
        if size not in self._outcomes:
            flow = build(self._seed, size[1], size[0])
            self._outcomes[size] = {}
            for keeps in (True, False):
                resolved, self._outcomes[size][keeps] = resolve(flow, keeps)
                resolved.save(self._path(peer, keeps))
        return self._outcomes[size]

    def _size(self, peer: Peer) -> tuple[int, int]:
        return min(peer.preload, self._ops), self._ops if peer.ops is None else min(peer.ops, self._ops)

    def _path(self, peer: Peer, keeps: bool) -> Path:
        preload, ops = self._size(peer)
        return self._folder / f"{preload}-{ops}-{'keep' if keeps else 'repl'}.flow"


@contextlib.contextmanager
def course(ops: int = OPS, seed: int = SEED, cache: Path | None = None) -> Iterator[Course]:
    """Flows in a temporary folder.

    Other benches interleave themselves with a peer this way:

        with course() as flows:
            for _ in range(5):
                theirs.append(flows.run(peer("liquibook")).per_second)
                ours.append(...)
    """
    with tempfile.TemporaryDirectory(prefix="hashpit-bench-") as folder:
        yield Course(Path(folder), ops, seed, cache or default_cache())


def peer(name: str) -> Peer:
    """The row of that name. Raises OutcomeError."""
    for one in PEERS:
        if one.name == name:
            return one
    raise OutcomeError(f"no book is called {name}; there are: {', '.join(one.name for one in PEERS)}")


def judge(run: Run, outcomes: dict[bool, Outcome]) -> tuple[bool, str]:
    """Whether a book was right and said so, and in words what it did."""
    sides = "bid and ask " + (
        "right"
        if any((run.best_bid, run.best_ask) == (right.best_bid, right.best_ask) for right in outcomes.values())
        else "wrong"
    )
    if run.fills is None:
        return False, f"tells no fills; {sides}"
    told = (run.fills, run.qty, run.value, run.best_bid, run.best_ask)
    exact = [keeps for keeps, right in outcomes.items() if told == right[:5]]
    if exact:
        return True, "exact" if len(exact) == 2 else "exact (keep)" if exact[0] else "exact (repl)"
    right = min(outcomes.values(), key=lambda one: (abs(one.fills - (run.fills or 0)), abs(one.qty - run.qty)))
    wrong = []
    if run.fills != right.fills:
        wrong.append(f"{run.fills - right.fills:+,} of {right.fills:,} fills")
    if run.qty != right.qty:
        wrong.append(f"{run.qty - right.qty:+,} of {right.qty:,} lots")
    if run.value != right.value:
        wrong.append(f"value {(run.value - right.value) / right.value:+.2%}")
    return False, f"wrong: {', '.join(wrong)}; {sides}" if wrong else f"fills right; {sides}"


# -------------------------------------------------------------------------------------------------------------- the bench


def measure(
    only: list[str] | None = None,
    rounds: int = ROUNDS,
    ops: int = OPS,
    seed: int = SEED,
    cache: Path | None = None,
    quiet: bool = True,
) -> Result:
    """The whole bench. Raises OutcomeError when our own book is wrong; a peer that is wrong has a row that says so."""
    field = [peer(name) for name in only] if only else list(PEERS)
    found = machine()
    runs: dict[str, list[Run]] = {one.name: [] for one in field}
    clocked: dict[str, Run] = {}
    failed: dict[str, str] = {}
    with course(ops, seed, cache) as flows:
        turns = [(one, number == rounds) for number in range(rounds + 1) for one in field]
        for one, latency in progress(turns, "measuring", quiet):
            if one.name in failed:
                continue
            try:
                if latency:
                    clocked[one.name] = flows.run(one, latency=True)
                else:
                    runs[one.name].append(flows.run(one))
            except PeerError as error:
                failed[one.name] = str(error)
        reference = runs.get(REFERENCE, []) if REFERENCE not in failed else []
        rows = [
            Row(one.name, " ".join(one.packages[:1]), failed=failed[one.name])
            if one.name in failed
            else _row(one, runs[one.name], clocked[one.name], flows.outcomes(one), reference)
            for one in field
        ]
    return Result(found, seed, ops, rounds, rows)


def _row(one: Peer, runs: list[Run], clocked: Run, outcomes: dict[bool, Outcome], reference: list[Run]) -> Row:
    judged = [judge(run, outcomes) for run in runs]
    correct, verdict = min(judged)  # a round in which it was wrong, if there is one
    if one is EMPTY:
        correct, verdict = False, "no book, the call alone"
    elif not one.packages and not (correct and {run.digest for run in runs} == {outcomes[True].digest}):
        raise OutcomeError(f"{one.name}: {verdict}, and its fills are not all those of the plain book in bench/flow.py")
    pairs = list(zip(runs, reference, strict=True)) if reference else []
    times = clocked.nanoseconds
    added = [run.added_bytes for run in runs if run.added_bytes is not None]
    return Row(
        name=one.name,
        package=" ".join(one.packages[:1]),
        ops=runs[0].ops,
        per_second=spread((run.per_second / 1_000 for run in runs), 1),
        cpu_us=spread((run.cpu_us for run in runs), 3),
        ratio=spread(run.per_second / theirs.per_second for run, theirs in pairs) if pairs else None,
        cpu_ratio=spread(theirs.cpu_us / run.cpu_us for run, theirs in pairs) if pairs else None,
        p50_us=round(quantile(times, 0.5) / 1_000, 2),
        p99_us=round(quantile(times, 0.99) / 1_000, 2),
        p999_us=round(quantile(times, 0.999) / 1_000, 2),
        added_mb=round(statistics.median(added) / 1e6, 1) if added else None,
        correct=correct,
        verdict=f"{one.note}; {verdict}" if one.note else verdict,
    )


def main(
    only: Annotated[list[str] | None, typer.Option(help="measure this book; may be repeated")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="runs of each book")] = ROUNDS,
    ops: Annotated[int, typer.Option(min=1, help="operations per run")] = OPS,
    seed: Annotated[int, typer.Option(help="of the flow")] = SEED,
    cache: Annotated[Path | None, typer.Option(help="where the packages are; ~/.cache/hashpit/peers if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure the order books that one can install for Python, and ours."""
    try:
        result = measure(only, rounds, ops, seed, cache, quiet=as_json or not sys.stderr.isatty())
    except OutcomeError as error:
        print(f"bench.peers: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    table = Table(title=f"bench.peers: {result.ops:,} operations, {result.rounds} rounds, load {result.machine.load_average}")
    for column in (
        "book",
        "1,000 op/s (range)",
        f"x {REFERENCE}",
        "by CPU",
        "p50, p99, p99.9 µs",
        "added MB",
        "outcome",
    ):
        table.add_column(column, justify="left" if column in ("book", "outcome") else "right")
    for row in result.rows:
        if row.failed:
            table.add_row(row.name, "", "", "", "", "", row.failed)
            continue
        ratios = ["" if ratio is None else f"{ratio.median:.2f}" for ratio in (row.ratio, row.cpu_ratio)]
        times = f"{row.p50_us}, {row.p99_us}, {row.p999_us}"
        added = "" if row.added_mb is None else str(row.added_mb)
        verdict = row.verdict if row.ops == result.ops else f"{row.verdict}; in {row.ops:,} operations"
        table.add_row(row.name, str(row.per_second), *ratios, times, added, verdict)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
