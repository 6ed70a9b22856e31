"""A real server process under load from this one: what a durable order costs, beside bare echoes and a bare commit.

    this process                            server process, python -m gateway DATA
    10 sockets, 32 calls open on each  -->  decode, check, sequence, match, journal with fsync, reply
                                       <--  CPU time of all its threads, from /proc/PID/stat

    the same sockets and bytes         -->  bench.echo: picows, or websockets, hands every message straight back
    the same disk                      -->  Journal.append, as the server calls it

    python -m bench.gateway            table
    python -m bench.gateway --json     one JSON object
    python -m bench.gateway --profile  one more run with the server under cProfile, and the top of it

Three loads, each with everything it is compared with by turns, in slices of a few seconds; all servers stay up meanwhile:

    closed loop   each socket sends its next call when an answer comes: CPU per message, messages per second. Latency is then
                  that of the queue. Two mixes: place and cancel by turns; place only, after which all is canceled, unmeasured.
    fixed rates   shares of the closed loop's rate, at Poisson times drawn in advance. Time counts from when a call should have
                  been sent. The commits beside it have the server's own size and cadence, found in its journal.
    unloaded      one socket, one call at a time; commits of one order, one after the other.

The calls are JSON; orders rest away from the market; each socket has an account of its own. Every answer must be a result, and
the server's last sequence number must account for all of them. What the echoes get is the place-and-cancel mix.
"""

import contextlib
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import Machine, OutcomeError, Spread, machine, process, progress, quantile, spread
from bench.load import Calls, Exchange, Figures, Load, Socket, exchange, mixed, places, take
from engine.commands import Entry, Place
from engine.types import OrderType, Side
from gateway.journal import Journal, JournalReader, encode_batch
from gateway.recovery import JOURNAL

SEED: Final = 20_261_123
SOCKETS: Final = 10
OPEN_CALLS: Final = 32
"""Calls that one socket has open at a time."""
SECONDS: Final = 2.0
"""Measured time of one slice."""
WARM_UP: Final = 0.3
"""Seconds before the measured ones of each slice."""
REPEATS: Final = 5
SHARES: Final = (0.1, 0.25, 0.5)
"""Fixed rates, as shares of the orders per second of the closed loop."""
RESTING_MAX: Final = 9_000
"""Orders that a socket places in a slice without canceling them; an account may have 10,000 open."""
COMMITS_MIN: Final = 10
"""Commits that one slice measures at least."""
PROFILE_LINES: Final = 25
PROFILE_S: Final = 10.0
"""Long enough that the server's start does not lead the profile."""

RATIO_PICOWS_MAX: Final = 2.0
RATIO_WEBSOCKETS_MAX: Final = 1.0
UNLOADED_ABOVE_MAX_US: Final = 100.0
RATIO_P99_MAX: Final = 3.0


class Closed(Struct):
    """The closed loop: medians over the repeats, and the ratios of their CPU per message."""

    order: Figures
    """Place and cancel by turns."""
    place: Figures
    """Place only."""
    picows: Figures
    websockets: Figures
    order_to_picows: Spread
    order_to_websockets: Spread
    place_to_picows: Spread
    place_to_websockets: Spread


class Latency(Struct):
    """Medians over the repeats of each repeat's quantile, in microseconds."""

    p50_us: float
    p99_us: float
    p999_us: float


class Rate(Struct):
    """One fixed rate."""

    share: float
    """Of the closed loop's orders per second."""
    per_second: int
    order: Latency
    echo: Latency
    """Of the picows echo at the same rate."""
    commit: Latency
    """Of a bare commit as large and as often as the server's."""
    orders_per_commit: float
    commits_per_second: float
    server_busy: float
    """CPU time of the exchange over the time that passed."""
    late_p99_us: float
    """How late the load sent; part of the latencies."""
    p99_to_commit: Spread


class Unloaded(Struct):
    """One call at a time, one commit at a time."""

    order: Latency
    echo: Latency
    """Of the picows echo."""
    commit: Latency
    above_us: Spread
    """p50 of an order less p50 of an echo and of a commit."""


class Result(Struct):
    """``met`` by bar: whether it holds, at the median."""

    machine: Machine
    sockets: int
    open_calls: int
    seconds: float
    repeats: int
    closed: Closed
    rates: list[Rate]
    unloaded: Unloaded
    met: dict[str, bool]


# ----------------------------------------------------------------------------------------------------------------- commits


class Commits:
    """Bare commits to a journal of its own, of batches of resting orders."""

    def __init__(self, folder: Path) -> None:
        self._journal = Journal(folder / JOURNAL)

    def measure(self, orders: int, per_second: float, seconds: float) -> Latency:
        """Commit batches of ``orders`` at an even pace, or one after the other where the disk is slower than that."""
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end or len(times) < COMMITS_MIN:
            seq = self._journal.last_seq + 1
            batch = [
                Entry(
                    number, number, Place(3, "SHA256-20270116", Side.BUY, OrderType.LIMIT, 45_000, 1_000, client_order_id="m0")
                )
                for number in range(seq, seq + orders)
            ]
            payload = encode_batch(batch)
            begin = time.perf_counter()
            self._journal.append(seq, seq + orders - 1, payload)
            times.append((time.perf_counter() - begin) * 1e6)
            time.sleep(max(started + 1 / per_second - time.perf_counter(), 0.0))
        return _latency(times)

    def close(self) -> None:
        self._journal.close()


def _latency(times_us: Sequence[float]) -> Latency:
    ordered = sorted(times_us)
    return Latency(*(round(quantile(ordered, share), 1) for share in (0.5, 0.99, 0.999)))


def _of(figures: Figures) -> Latency:
    return Latency(figures.p50_us, figures.p99_us, figures.p999_us)


# ------------------------------------------------------------------------------------------------------------------- bench


class Bench(NamedTuple):
    """The servers, with everything open. ``mixed``: the place-and-cancel calls of each socket, going on over the fixed
    rates."""

    exchange: Exchange
    data: Path
    """The exchange's data directory."""
    orders: Load
    picows: Load
    websockets: Load
    mixed: list[Calls]
    echoed: list[Calls]
    commits: Commits
    open_calls: int
    seconds: float
    warm_up: float

    def order(self, number: int) -> Figures:
        # Calls of its own: the slice may end between an order and its cancel, and ``place`` cancels all.
        market, tick = self.exchange.market, self.exchange.tick
        calls = [mixed(market, tick, peer, f"m{number}-") for peer in range(len(self.orders.peers))]
        return self.orders.closed(calls, self.open_calls, self.warm_up, self.seconds)

    def place(self, number: int) -> Figures:
        """Orders that rest, as many as an account may have; then the book is as it was."""
        market, tick = self.exchange.market, self.exchange.tick
        calls = [take(places(market, tick, peer, f"p{number}-"), RESTING_MAX) for peer in range(len(self.orders.peers))]
        figures = self.orders.closed(calls, self.open_calls, self.warm_up / 2, self.seconds)
        for peer in self.orders.peers:
            peer.socket.call("cancel_all")
        return figures

    def echo(self, load: Load) -> Figures:
        return load.closed(self.echoed, self.open_calls, self.warm_up, self.seconds)

    def rate(self, per_second: float, seed: int) -> tuple[Figures, Figures, Latency, float, float, list[int]]:
        """Order, echo and commit at one rate; orders per commit and commits per second; how late the load was."""
        with JournalReader(self.data / JOURNAL) as journal:
            before = journal.last_seq
        started = time.perf_counter()
        order = self.orders.at_rate(self.mixed, per_second, seed, self.warm_up, self.seconds)
        elapsed = time.perf_counter() - started
        late = self.orders.late
        with JournalReader(self.data / JOURNAL) as journal:
            rows = sum(1 for _ in journal.rows(before))
            per_commit = (journal.last_seq - before) / rows
        echo = self.picows.at_rate(self.echoed, per_second, seed, self.warm_up, self.seconds)
        commit = self.commits.measure(max(round(per_commit), 1), rows / elapsed, self.seconds)
        return order, echo, commit, per_commit, rows / elapsed, late

    def unloaded(self) -> tuple[Latency, Latency, Latency]:
        """Order, echo and commit."""
        order = self.orders.closed(self.mixed[:1], 1, self.warm_up, self.seconds)
        echo = self.picows.closed(self.echoed[:1], 1, self.warm_up, self.seconds)
        return _of(order), _of(echo), self.commits.measure(1, 1e9, self.seconds)


@contextlib.contextmanager
def _bench(folder: Path, sockets: int, open_calls: int, seconds: float, warm_up: float) -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        commits = Commits(folder / "commits")
        stack.callback(commits.close)
        server = stack.enter_context(exchange(folder / "data"))
        traders: list[Socket] = []
        for number in range(sockets):
            socket = Socket(server.url)
            stack.callback(socket.close)
            socket.log_in(server.trader(f"trader-{number}"))
            traders.append(socket)
        orders = Load(server.pid, traders)
        echoes: dict[str, Load] = {}
        for kind in ("picows", "websockets"):
            child, url = stack.enter_context(process("-m", "bench.echo", kind))
            clients = [Socket(url) for _ in range(sockets)]
            for client in clients:
                stack.callback(client.close)
            echoes[kind] = Load(child.pid, clients)
        calls, echoed = ([mixed(server.market, server.tick, number) for number in range(sockets)] for _ in range(2))
        yield Bench(
            server,
            folder / "data",
            orders,
            **echoes,
            mixed=calls,
            echoed=echoed,
            commits=commits,
            open_calls=open_calls,
            seconds=seconds,
            warm_up=warm_up,
        )
        server.acknowledged = orders.answers


def measure(
    sockets: int = SOCKETS,
    open_calls: int = OPEN_CALLS,
    seconds: float = SECONDS,
    warm_up: float = WARM_UP,
    repeats: int = REPEATS,
    data: Path | None = None,
    quiet: bool = True,
) -> Result:
    """The whole bench; ``data`` is where the journals go meanwhile. Raises OutcomeError."""
    where = machine()
    with _scratch(data) as folder, _bench(folder, sockets, open_calls, seconds, warm_up) as bench:
        closed = _closed(bench, repeats, quiet)
        rates = [_rate(bench, share, closed.order.per_second * share, repeats, quiet) for share in SHARES]
        unloaded = _unloaded(bench, repeats, quiet)
    half = next(rate for rate in rates if rate.share == 0.5)
    met = {
        "order_to_picows": closed.order_to_picows.median <= RATIO_PICOWS_MAX,
        "order_to_websockets": closed.order_to_websockets.median < RATIO_WEBSOCKETS_MAX,
        "place_to_picows": closed.place_to_picows.median <= RATIO_PICOWS_MAX,
        "place_to_websockets": closed.place_to_websockets.median < RATIO_WEBSOCKETS_MAX,
        "unloaded_above": unloaded.above_us.median <= UNLOADED_ABOVE_MAX_US,
        "half_p99_to_commit": half.p99_to_commit.median <= RATIO_P99_MAX,
    }
    return Result(where, sockets, open_calls, seconds, repeats, closed, rates, unloaded, met)


def _closed(bench: Bench, repeats: int, quiet: bool) -> Closed:
    orders, resting, picows, websockets = [], [], [], []
    for number in progress(range(repeats), "closed loop", quiet):
        orders.append(bench.order(number))
        picows.append(bench.echo(bench.picows))
        resting.append(bench.place(number))
        websockets.append(bench.echo(bench.websockets))
    return Closed(
        order=_median(orders),
        place=_median(resting),
        picows=_median(picows),
        websockets=_median(websockets),
        order_to_picows=_ratio(orders, picows),
        order_to_websockets=_ratio(orders, websockets),
        place_to_picows=_ratio(resting, picows),
        place_to_websockets=_ratio(resting, websockets),
    )


def _ratio(ours: list[Figures], bare: list[Figures]) -> Spread:
    """CPU of ours over that of the bare one, pair by pair."""
    return spread(one.cpu_us / other.cpu_us for one, other in zip(ours, bare, strict=True))


def _rate(bench: Bench, share: float, per_second: float, repeats: int, quiet: bool) -> Rate:
    found = [bench.rate(per_second, SEED + number) for number in progress(range(repeats), f"{share:.0%} of it", quiet)]
    orders, echoes, commits, per_commit, often, late = zip(*found, strict=True)
    return Rate(
        share=share,
        per_second=round(per_second),
        order=_middle([_of(one) for one in orders]),
        echo=_middle([_of(one) for one in echoes]),
        commit=_middle(commits),
        orders_per_commit=round(statistics.median(per_commit), 1),
        commits_per_second=round(statistics.median(often), 1),
        server_busy=round(statistics.median(one.server_busy for one in orders), 2),
        late_p99_us=statistics.median(_latency([ns / 1_000 for ns in one]).p99_us for one in late),
        p99_to_commit=spread(order.p99_us / commit.p99_us for order, commit in zip(orders, commits, strict=True)),
    )


def _unloaded(bench: Bench, repeats: int, quiet: bool) -> Unloaded:
    found = [bench.unloaded() for _ in progress(range(repeats), "unloaded", quiet)]
    orders, echoes, commits = zip(*found, strict=True)
    above = spread((order.p50_us - echo.p50_us - commit.p50_us for order, echo, commit in found), 1)
    return Unloaded(_middle(orders), _middle(echoes), _middle(commits), above)


def _median(figures: list[Figures]) -> Figures:
    """Field by field."""
    found = {name: statistics.median(getattr(one, name) for one in figures) for name in Figures.__struct_fields__}
    whole = ("messages", "per_second")
    return Figures(**{name: round(value) if name in whole else round(value, 2) for name, value in found.items()})


def _middle(latencies: Sequence[Latency]) -> Latency:
    """Field by field."""
    return Latency(
        *(round(statistics.median(values), 1) for values in zip(*map(msgspec.structs.astuple, latencies), strict=True))
    )


@contextlib.contextmanager
def _scratch(data: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hashpit-bench-", dir=data))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def profile(sockets: int = SOCKETS, open_calls: int = OPEN_CALLS, seconds: float = PROFILE_S, data: Path | None = None) -> str:
    """Where the server's time goes, by own time per function; the profiler's own cost slows the server several times."""
    with _scratch(data) as folder:
        file = folder / "profile"
        with exchange(folder / "data", file) as server:
            traders = [Socket(server.url) for _ in range(sockets)]
            for number, socket in enumerate(traders):
                socket.log_in(server.trader(f"trader-{number}"))
            load = Load(server.pid, traders)
            calls = [mixed(server.market, server.tick, number) for number in range(sockets)]
            load.closed(calls, open_calls, 0.0, seconds)
            for socket in traders:
                socket.close()
        with (folder / "text").open("w") as text:
            pstats.Stats(str(file), stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
        return "\n".join(line for line in (folder / "text").read_text().splitlines() if line.strip())


def main(
    sockets: Annotated[int, typer.Option(min=1, help="sockets, each with an account")] = SOCKETS,
    open_calls: Annotated[int, typer.Option(min=1, help="calls open per socket")] = OPEN_CALLS,
    seconds: Annotated[float, typer.Option(min=0.1, help="measured seconds of a slice")] = SECONDS,
    repeats: Annotated[int, typer.Option(min=1)] = REPEATS,
    data: Annotated[
        Path | None, typer.Option(help="directory for the journals; default: the system's for temporary files")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    with_profile: Annotated[bool, typer.Option("--profile", help="also print the top of a profile")] = False,
) -> None:
    """Measure the gateway."""
    try:
        quiet = as_json or not sys.stderr.isatty()
        result = measure(sockets, open_calls, seconds, WARM_UP, repeats, data, quiet)
        if as_json:
            print(msgspec.json.encode(result).decode())
        else:
            _show(result)
        if with_profile:
            print(profile(sockets, open_calls, data=data), file=sys.stderr if as_json else sys.stdout)
    except OutcomeError as error:
        print(f"bench.gateway: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _show(result: Result) -> None:
    closed, console = result.closed, Console()
    where = result.machine
    title = (
        f"bench.gateway: {where.build} build, Python {where.python}, load average {where.load_average}; closed loop, "
        f"{result.sockets} sockets x {result.open_calls} open calls, medians of {result.repeats}"
    )
    columns = (closed.order, closed.place, closed.picows, closed.websockets)
    table = Table("figure", "place, cancel", "place only", "picows echo", "websockets echo", title=title)
    table.add_row("server CPU per message, µs", *(f"{one.cpu_us}" for one in columns))
    table.add_row("of it user, system", *(f"{one.cpu_user_us}, {one.cpu_system_us}" for one in columns))
    table.add_row("messages per second", *(f"{one.per_second:,}" for one in columns))
    table.add_row("CPU share of server, load", *(f"{one.server_busy:.0%}, {one.load_busy:.0%}" for one in columns))
    table.add_row("calls per write, answers per read", *(f"{one.calls_per_write}, {one.answers_per_read}" for one in columns))
    table.add_row("latency p50, p99, µs", *(f"{one.p50_us:,}, {one.p99_us:,}" for one in columns))
    table.add_row("CPU to picows echo", f"{closed.order_to_picows}", f"{closed.place_to_picows}", "1", "")
    table.add_row("CPU to websockets echo", f"{closed.order_to_websockets}", f"{closed.place_to_websockets}", "", "1")
    console.print(table)

    table = Table(
        "latency p50, p99, p99.9, µs", "order", "picows echo", "bare commit", "commits", "server busy", "p99 to commit's"
    )
    for rate in result.rates:
        table.add_row(
            f"{rate.share:.0%}: {rate.per_second:,} orders/s",
            *(_text(latency) for latency in (rate.order, rate.echo, rate.commit)),
            f"{rate.commits_per_second:,}/s of {rate.orders_per_commit}",
            f"{rate.server_busy:.0%}",
            f"{rate.p99_to_commit}",
        )
    alone = result.unloaded
    table.add_row("one at a time", *(_text(latency) for latency in (alone.order, alone.echo, alone.commit)), "", "", "")
    table.caption = f"order less echo and commit, one at a time, p50: {alone.above_us} µs"
    console.print(table)
    console.print(", ".join(f"{name}: {'met' if held else 'missed'}" for name, held in result.met.items()))


def _text(latency: Latency) -> str:
    return f"{latency.p50_us:,}, {latency.p99_us:,}, {latency.p999_us:,}"


if __name__ == "__main__":
    typer.run(main)
