"""Ten minutes of steady load on a real server: does memory grow, does anything pause.

    this process     4 traders, fixed rate, Poisson times   -->  server process, bench.soak_server DATA
                     4 subscribers, every public channel    <--  commits and garbage collections recorded inside
    probe process    `time` on an idle socket, 200 a second <->  answered without asking the disk
                     the same bytes                         <->  bench.echo picows: what the machine does to any process

    python -m bench.soak                  ten minutes
    python -m bench.soak --minutes 1      a look
    python -m bench.soak --json           one JSON object

Warm-up: as fast as answers come, until the channels' rings and the lists of closed orders are full; they are bounded, and grow
until then. Then two phases, both at the fixed rate, in the mix of bench.workload (55 % limit orders, 35 % cancels, 5 % takers,
5 % amends; a cancel may find its order filled):

    steady   orders without client_order_id: nothing has to be remembered, so nothing may grow. Snapshots are made meanwhile.
    named    a fifth as long, every order with one: the engine remembers each for 24 h, so memory grows by design. How much
             per order is reported and not judged.

A call's time counts from when it should have been sent. Pauses of the server are what the probe sees: an answer to `time` later
than 5 ms. Less than 5 ms of it must be left without its cause:

    machine      a thread of the server, or the probe, was ready and waited for a core (schedstat), or the echo was late too
    snapshot     the same, while the server's snapshot process ran: on a machine with few cores it may be that which took one
    disk         a commit, which runs in the server's loop while the disk is fast (decision 0014)
    collector    garbage collection
    server       everything else

An order over 5 ms is the disk's when less is left without the commits in it. Growth is the mean of the last quarter less that
of the first.
"""

import contextlib
import math
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.common import START_S, Machine, OutcomeError, machine, process, quantile
from bench.load import Socket
from bench.soak_server import Record, room_bytes
from bench.workload import QTY_MAX_LOTS, SEED, SPREAD_TICKS
from gateway.auth import KeyStore
from gateway.recovery import snapshot_paths
from hashpit.keys import Key, generate

MINUTES: Final = 10.0
RATE: Final = 1_000
"""Commands per second."""
TRADERS: Final = 4
SUBSCRIBERS: Final = 4
WARM_UP: Final = 300_000
"""Commands before the clock starts: more than 65,536 facts for each trader's account channel."""
OPEN_CALLS: Final = 8
"""Per trader, while warming up."""
OPEN_ORDERS: Final = 500
"""Per trader; past it cancels take the place of limit orders."""
NAMED_SHARE: Final = 0.2
SNAPSHOTS: Final = 3
"""In the steady phase."""
PINGS: Final = 200
"""Per second."""

PAUSE_MS: Final = 5.0
GROWTH_BAR_MB: Final = 1.0

MS_NS: Final = 1_000_000
STILL_NS: Final = MS_NS // 10
"""Waits that are not worth a look of their own."""
SECOND_NS: Final = 1_000_000_000
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
MB: Final = 1_000_000

CONFIG: Final = """
[server]
port = 0
stop_ms = 0

[session]
idle_ms = 3600000

[rates]
orders = {{ per_second = 1000000, burst = 1000000 }}
cancels = {{ per_second = 1000000, burst = 1000000 }}
requests = {{ per_second = 1000000, burst = 1000000 }}
ip = {{ per_second = 1000000, burst = 1000000 }}

[snapshot]
every_s = {snapshot_s}

[log]
level = "warning"

[[listings]]
algorithm = "SHA256"
length_s = 86400
ahead = 2
"""

Cause = Literal["machine", "snapshot", "disk", "collector", "server"]
CAUSES: Final[tuple[Cause, ...]] = ("machine", "snapshot", "disk", "collector", "server")
OURS: Final = ("collector", "server")


class Times(Struct):
    """Milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Second(Struct):
    """One second of a phase; times of the orders answered in it."""

    at_s: float
    rss_mb: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Slow(Struct):
    """Orders that took over 5 ms, by what explains them."""

    disk: int = 0
    machine: int = 0
    other: int = 0
    other_max_ms: float = 0.0


class Phase(Struct):
    seconds: list[Second]
    commands: int
    placed: int
    gone: int
    """Cancels and amends whose order had been filled."""
    orders: Times
    commits: Times
    slow: Slow
    first_quarter_mb: float
    last_quarter_mb: float
    mb_per_minute: float
    """Of a line through all seconds."""


class Pause(Struct):
    """The server did not answer for over 5 ms."""

    at_s: float
    ms: float
    cause: Cause
    wait_ms: float
    """Server or probe were ready and had no core."""
    echo_ms: float
    """The echo's latest answer meanwhile."""
    collector_ms: float


class Collections(Struct):
    """Garbage collections of one generation."""

    generation: int
    count: int
    sum_ms: float
    max_ms: float


class Verdict(Struct):
    what: str
    figure: float
    bar: float
    met: bool


class Result(Struct):
    machine: Machine
    minutes: float
    rate: int
    snapshots: int
    record_mb: float
    """What of the server's RSS is room for the bench's own record."""
    steady: Phase
    named: Phase
    bytes_per_named_order: int
    pings: Times
    echoes: Times
    pauses: dict[Cause, int]
    worst: list[Pause]
    """The longest of each cause."""
    collections: list[Collections]
    verdicts: list[Verdict]


# ------------------------------------------------------------------------------------------------------------------ waits


class Looks(Struct):
    """How long threads were ready to run and had no core, as of the moments at which they were looked at."""

    at_ns: list[int]
    waited_ns: list[int]

    def add(self, at_ns: int, waited_ns: int) -> None:
        """One more look; while nothing happens, the last one is only moved."""
        if len(self.at_ns) > 1 and waited_ns - self.waited_ns[-2] < STILL_NS:
            self.at_ns[-1], self.waited_ns[-1] = at_ns, waited_ns
        else:
            self.at_ns.append(at_ns)
            self.waited_ns.append(waited_ns)

    def between(self, start_ns: int, end_ns: int) -> int:
        """Nanoseconds waited between the looks around an interval."""
        if not self.at_ns:
            return 0
        before = max(bisect_right(self.at_ns, start_ns) - 1, 0)
        after = min(bisect_left(self.at_ns, end_ns), len(self.at_ns) - 1)
        return self.waited_ns[after] - self.waited_ns[before]


class Waits:
    """Looks at the threads that a process has now."""

    def __init__(self, pid: int) -> None:
        self.looks = Looks([], [])
        self._files = [os.open(path, os.O_RDONLY) for path in sorted(Path(f"/proc/{pid}/task").glob("*/schedstat"))]

    def look(self) -> None:
        waited_ns = sum(int(os.pread(file, 128, 0).split()[1]) for file in self._files)
        self.looks.add(time.perf_counter_ns(), waited_ns)

    def close(self) -> None:
        while self._files:
            os.close(self._files.pop())


# ------------------------------------------------------------------------------------------------------------------- load


class Answer(Struct):
    """As much of an answer as the load looks at."""

    id: int | None = None
    result: Any = None
    error: Any = None


class Sent(NamedTuple):
    due_ns: int
    sent_ns: int
    may_rest: bool
    """Its answer may tell of an order that is open."""


class Slowness(NamedTuple):
    """A call that took over 5 ms."""

    due_ns: int
    sent_ns: int
    answered_ns: int


class Trader:
    """One account and its socket. Knows its open orders by their answers; fills it does not follow."""

    def __init__(self, url: str, key: Key, market: str, tick: int, seed: int) -> None:
        self.socket = Socket(url)
        self.socket.log_in(key)
        self.sent: dict[int, Sent] = {}
        self.named = False
        self.placed = self.gone = 0
        self._market = market
        self._tick = tick
        self._rng = random.Random(seed)
        self._open: list[int] = []
        self._number = 0
        self._decode = msgspec.json.Decoder(Answer).decode

    def send(self, dues: Sequence[int]) -> None:
        """One call for each time at which one was due."""
        payloads = []
        for due_ns in dues:
            self._number += 1
            body, may_rest = self._call()
            payloads.append(f'{{"jsonrpc":"2.0","id":{self._number},{body}}}'.encode())
            self.sent[self._number] = Sent(due_ns, time.perf_counter_ns(), may_rest)
        self.socket.send(payloads)

    def receive(self) -> Iterator[Sent]:
        """What one read answers."""
        for payload in self.socket.receive():
            answer = self._decode(payload)
            if answer.id is None:
                continue  # a heartbeat
            sent = self.sent.pop(answer.id)
            if answer.error is not None:
                if answer.error["data"]["reason"] != "order_unknown":
                    raise OutcomeError(f"the server refused: {answer.error}")
                self.gone += 1
            elif sent.may_rest and answer.result["status"] == "open":
                self._open.append(answer.result["order_id"])
            yield sent

    def _call(self) -> tuple[str, bool]:
        rng = self._rng
        chance = rng.random()
        if chance < 0.55 and len(self._open) < OPEN_ORDERS:
            distance = int(abs(rng.gauss(0.0, SPREAD_TICKS)))
            buy = rng.random() < 0.5
            return self._place(buy, self._tick - distance if buy else self._tick + 1 + distance, "gtc"), True
        if 0.90 <= chance < 0.95 or not self._open:
            buy = rng.random() < 0.5
            return self._place(buy, self._tick + (SPREAD_TICKS if buy else -SPREAD_TICKS), "ioc"), False
        place = rng.randrange(len(self._open))
        self._open[place], self._open[-1] = self._open[-1], self._open[place]
        order_id = self._open.pop()
        if chance < 0.90:
            return f'"method":"cancel","params":{{"order_id":{order_id}}}', False
        price = self._tick + rng.randint(-SPREAD_TICKS, SPREAD_TICKS)
        return f'"method":"amend","params":{{"order_id":{order_id},"price":"{price / 1e8:.8f}"}}', True

    def _place(self, buy: bool, price: int, time_in_force: str) -> str:
        self.placed += 1
        name = f',"client_order_id":"n{self.placed}"' if self.named else ""
        return (
            f'"method":"place","params":{{"market":"{self._market}","side":"{"buy" if buy else "sell"}",'
            f'"price":"{price / 1e8:.8f}","qty":"{self._rng.randint(1, QTY_MAX_LOTS) / 1_000:.3f}",'
            f'"time_in_force":"{time_in_force}"{name}}}'
        )


class Load:
    """All traders and subscribers, from one thread."""

    def __init__(self, pid: int, traders: list[Trader], subscribers: list[Socket]) -> None:
        self.traders = traders
        self.latencies: list[int] = []
        self.slow: list[Slowness] = []
        self.waits = Waits(os.getpid())
        self.answers = 0
        self._pid = pid
        self._by_socket = {trader.socket: trader for trader in traders}
        self._sockets: list[Socket] = [*self._by_socket, *subscribers]

    def closed(self, commands: int, told: Callable[[float], None]) -> None:
        """As fast as answers come, OPEN_CALLS open per trader."""
        left = commands
        for trader in self.traders:
            trader.send([0] * OPEN_CALLS)
        while left > 0:
            for trader, answered in self._receive(START_S).items():
                left -= len(answered)
                trader.send([0] * len(answered))
            told(1 - left / commands)
        self._drain()
        self.latencies = []
        self.slow = []

    def at_rate(self, rate: int, seconds: float, seed: int, told: Callable[[float], None]) -> list[Second]:
        """At Poisson times, whatever is answered."""
        rng = random.Random(seed)
        start_ns = due_ns = time.perf_counter_ns()
        end_ns = start_ns + round(seconds * SECOND_NS)
        found: list[Second] = []
        looked = number = 0
        while (now_ns := time.perf_counter_ns()) < end_ns:
            dues: dict[int, list[int]] = {}
            while due_ns <= now_ns:
                dues.setdefault(number % len(self.traders), []).append(due_ns)
                number += 1
                due_ns += round(rng.expovariate(rate) * SECOND_NS)
            for index, times in dues.items():
                self.traders[index].send(times)
            self._receive(max(due_ns - time.perf_counter_ns(), 0) / SECOND_NS)
            if now_ns - start_ns >= (len(found) + 1) * SECOND_NS:
                found.append(self._second(now_ns - start_ns, looked))
                looked = len(self.latencies)
                told((now_ns - start_ns) / (end_ns - start_ns))
        self._drain()
        return found

    def close(self) -> None:
        self.waits.close()
        for socket in self._sockets:
            socket.close()

    def _second(self, at_ns: int, looked: int) -> Second:
        times = sorted(self.latencies[looked:]) or [0]
        p50, p99, most = (round(quantile(times, share) / MS_NS, 3) for share in (0.5, 0.99, 1.0))
        return Second(round(at_ns / SECOND_NS, 1), round(resident(self._pid) / MB, 3), p50, p99, most)

    def _receive(self, timeout_s: float) -> dict[Trader, list[Sent]]:
        """Read what there is; subscribers' messages are dropped unread."""
        answered: dict[Trader, list[Sent]] = {}
        readable, _, _ = select.select(self._sockets, (), (), timeout_s)
        self.waits.look()
        for socket in readable:
            trader = self._by_socket.get(socket)
            if trader is None:
                socket.receive_bytes()
                continue
            answered[trader] = list(trader.receive())
            now_ns = time.perf_counter_ns()
            for sent in answered[trader]:
                self.latencies.append(now_ns - sent.due_ns)
                if now_ns - sent.due_ns > PAUSE_MS * MS_NS:
                    self.slow.append(Slowness(sent.due_ns, sent.sent_ns, now_ns))
        return answered

    def _drain(self) -> None:
        deadline = time.perf_counter() + START_S
        while any(trader.sent for trader in self.traders):
            if time.perf_counter() > deadline:
                raise OutcomeError("calls were never answered")
            self._receive(0.1)


def resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES


# ------------------------------------------------------------------------------------------------------------------ probe


class Probed(NamedTuple):
    """What the probe saw."""

    pings: list[list[int]]
    """When it was sent, nanoseconds until the server and the echo answered, and whether the server had a snapshot process."""
    server: Looks
    probe: Looks


def probe(server_url: str, echo_url: str, server_pid: int, pipe: Connection) -> None:
    """The probe's process, until it is sent something."""
    server, echo = Socket(server_url), Socket(echo_url)
    server.hello()
    server.call("subscribe", channels=["status"])  # or the server closes it, as nobody's
    decode = msgspec.json.Decoder(Answer).decode
    theirs, mine = Waits(server_pid), Waits(os.getpid())
    children = Path(f"/proc/{server_pid}/task/{server_pid}/children")
    pings: list[list[int]] = []
    answered = 0
    pipe.send(None)
    due_ns = time.perf_counter_ns()
    stopping_ns = 0
    while True:
        now_ns = time.perf_counter_ns()
        if not stopping_ns and pipe.poll():
            stopping_ns = now_ns + round(START_S * SECOND_NS)
        if stopping_ns and (answered == 2 * len(pings) or now_ns > stopping_ns):
            break
        if now_ns >= due_ns and not stopping_ns:
            theirs.look()
            mine.look()
            payload = f'{{"jsonrpc":"2.0","id":{len(pings)},"method":"time"}}'.encode()
            snapshotting = int(bool(children.read_text()))
            pings.append([time.perf_counter_ns(), -1, -1, snapshotting])
            server.send([payload])
            echo.send([payload])
            due_ns = max(due_ns + SECOND_NS // PINGS, now_ns)
        readable, _, _ = select.select((server, echo), (), (), max(due_ns - time.perf_counter_ns(), 0) / SECOND_NS)
        for socket in readable:
            for payload in socket.receive():
                number = decode(payload).id
                if number is not None:
                    ping = pings[number]
                    ping[1 if socket is server else 2] = time.perf_counter_ns() - ping[0]
                    answered += 1
    theirs.look()
    mine.look()
    pipe.send(Probed([ping for ping in pings if min(ping) >= 0], theirs.looks, mine.looks))


@contextlib.contextmanager
def probing(server_url: str, echo_url: str, server_pid: int) -> Iterator[Callable[[], Probed]]:
    """A probe at work; call what this gives to stop it and to hear what it saw."""
    context = get_context("spawn")
    mine, theirs = context.Pipe()
    worker = context.Process(target=probe, args=(server_url, echo_url, server_pid, theirs), daemon=True)
    worker.start()
    theirs.close()

    def stop() -> Probed:
        mine.send(None)
        return Probed(*mine.recv())

    try:
        mine.recv()
        yield stop
    except EOFError:
        raise OutcomeError("the probe died") from None
    finally:
        worker.kill()
        worker.join()


# ------------------------------------------------------------------------------------------------------------------ judge


class Overlaps:
    """How much of an interval is covered by recorded ones, which do not overlap each other."""

    def __init__(self, rows: list[tuple[int, int, int]]) -> None:
        self._rows = rows
        self._ends = [end for _, end, _ in rows]

    def ns(self, start_ns: int, end_ns: int) -> int:
        covered = 0
        at = bisect_left(self._ends, start_ns)
        while at < len(self._rows) and self._rows[at][0] < end_ns:
            start, end, _ = self._rows[at]
            covered += min(end, end_ns) - max(start, start_ns)
            at += 1
        return covered


def pauses(probed: Probed, collections: Overlaps, commits: Overlaps) -> list[Pause]:
    """Pings that were late, each with its cause; those that waited together count once, as the longest."""
    late = [ping for ping in probed.pings if ping[1] > PAUSE_MS * MS_NS]
    groups: list[list[list[int]]] = []
    for ping in late:
        if groups and ping[0] <= max(other[0] + other[1] for other in groups[-1]):
            groups[-1].append(ping)
        else:
            groups.append([ping])
    sent_ns = [ping[0] for ping in probed.pings]
    found = []
    for group in groups:
        start, rtt, *_ = max(group, key=lambda ping: ping[1])
        together = probed.pings[max(bisect_left(sent_ns, start) - 1, 0) : bisect_right(sent_ns, start + rtt)]
        echo_ms = max(ping[2] for ping in together) / MS_NS
        wait_ms = sum(looks.between(start, start + rtt) for looks in (probed.server, probed.probe)) / MS_NS
        collector_ms = collections.ns(start, start + rtt) / MS_NS
        ms = rtt / MS_NS
        cause: Cause = "server"
        if ms - max(wait_ms, echo_ms) <= PAUSE_MS:
            cause = "snapshot" if any(ping[3] for ping in together) else "machine"
        elif ms - wait_ms - commits.ns(start, start + rtt) / MS_NS <= PAUSE_MS:
            cause = "disk"
        elif ms - wait_ms - collector_ms <= PAUSE_MS:
            cause = "collector"
        at_s = (start - probed.pings[0][0]) / SECOND_NS
        found.append(
            Pause(round(at_s, 3), *(round(ms, 2), cause, round(wait_ms, 2), round(echo_ms, 2), round(collector_ms, 2)))
        )
    return found


def explain(slow: list[Slowness], commits: Overlaps, probed: Probed, own: Looks) -> Slow:
    """What orders over 5 ms waited for: the disk, a core (or the load was late to send), or something else."""
    found = Slow()
    for due_ns, sent_ns, answered_ns in slow:
        rest = answered_ns - due_ns - commits.ns(due_ns, answered_ns)
        if rest <= PAUSE_MS * MS_NS:
            found.disk += 1
            continue
        rest -= sent_ns - due_ns
        rest -= own.between(sent_ns, answered_ns) + probed.server.between(sent_ns, answered_ns)
        if rest <= PAUSE_MS * MS_NS:
            found.machine += 1
        else:
            found.other += 1
            found.other_max_ms = max(found.other_max_ms, round((answered_ns - due_ns) / MS_NS, 2))
    return found


def times(values_ns: Sequence[int]) -> Times:
    """Quantiles. Raises OutcomeError for nothing."""
    if not values_ns:
        raise OutcomeError("nothing was measured")
    ordered = sorted(values_ns)
    return Times(len(ordered), *(round(quantile(ordered, share) / MS_NS, 3) for share in (0.5, 0.99, 0.999, 1.0)))


def slope(seconds: list[Second]) -> float:
    """MB per minute of the line through them."""
    if len(seconds) < 2:
        return 0.0
    fit = statistics.linear_regression([one.at_s / 60 for one in seconds], [one.rss_mb for one in seconds])
    return round(fit.slope, 3)


# ------------------------------------------------------------------------------------------------------------------- bench


class Watched(NamedTuple):
    """A phase as the load saw it."""

    seconds: list[Second]
    start_ns: int
    end_ns: int
    latencies: list[int]
    slow: list[Slowness]
    placed: int
    gone: int


def watch(load: Load, rate: int, seconds: float, seed: int, told: Callable[[float], None]) -> Watched:
    placed, gone = (sum(getattr(trader, name) for trader in load.traders) for name in ("placed", "gone"))
    start_ns = time.perf_counter_ns()
    found = load.at_rate(rate, seconds, seed, told)
    end_ns = time.perf_counter_ns()
    latencies, load.latencies = load.latencies, []
    slow, load.slow = load.slow, []
    placed, gone = (
        sum(getattr(trader, name) for trader in load.traders) - before for name, before in (("placed", placed), ("gone", gone))
    )
    return Watched(found, start_ns, end_ns, latencies, slow, placed, gone)


def phase(seen: Watched, record: Record, probed: Probed, own: Looks) -> Phase:
    """A phase with what the server and the probe recorded of it."""
    commits = [row for row in record.commits if seen.start_ns <= row[0] <= seen.end_ns]
    quarter = math.ceil(len(seen.seconds) / 4)
    if not quarter:
        raise OutcomeError("a phase takes at least a second")
    first, last = (statistics.fmean(one.rss_mb for one in part) for part in (seen.seconds[:quarter], seen.seconds[-quarter:]))
    return Phase(
        seconds=seen.seconds,
        commands=len(seen.latencies),
        placed=seen.placed,
        gone=seen.gone,
        orders=times(seen.latencies),
        commits=times([end - start for start, end, _ in commits]),
        slow=explain(seen.slow, Overlaps(record.commits), probed, own),
        first_quarter_mb=round(first, 2),
        last_quarter_mb=round(last, 2),
        mb_per_minute=slope(seen.seconds),
    )


@contextlib.contextmanager
def serving(data: Path, record: Path, rows: int, snapshot_s: int) -> Iterator[tuple[subprocess.Popen[str], str, Key]]:
    """A fresh exchange: its process, its address, the operator's key. It must end gracefully."""
    data.mkdir()
    (data / "config.toml").write_text(CONFIG.format(snapshot_s=snapshot_s))
    private, public = generate()
    stored, _ = KeyStore(data).add(1, ["read", "admin"], public_key=public)
    with process("-m", "bench.soak_server", str(data), str(record), str(rows)) as (child, url):
        yield child, url, Key(key=stored.key_id, kind="ed25519", private_key=private)
        child.terminate()
        if child.wait(START_S):
            raise OutcomeError(f"the server ended with code {child.returncode}")


def populate(url: str, operator_key: Key, traders: int, subscribers: int, seed: int) -> tuple[list[Trader], list[Socket]]:
    """Accounts with money, logged in, and sockets that listen to everything public."""
    operator = Socket(url)
    operator.log_in(operator_key)
    market = operator.call("markets")[-1]
    symbol, tick = market["market"], round(float(market["reference_price"]) * 1e8)
    found = []
    for number in range(traders):
        account = operator.call("create_account", name=f"trader-{number}")["account"]
        operator.call("deposit", account=account, amount="100000", transfer_id="first")
        private, public = generate()
        made = operator.call("add_key", account=account, permissions=["read", "trade"], public_key=public)
        key = Key(key=made["key"]["key"], kind="ed25519", private_key=private)
        found.append(Trader(url, key, symbol, tick, seed + number))
    operator.close()
    channels = [f"{kind}.{symbol}" for kind in ("book", "trades", "ticker")]
    listeners = [Socket(url) for _ in range(subscribers)]
    for listener in listeners:
        listener.hello()
        listener.call("subscribe", channels=channels)
    return found, listeners


def measure(
    minutes: float = MINUTES,
    rate: int = RATE,
    warm_up: int = WARM_UP,
    traders: int = TRADERS,
    subscribers: int = SUBSCRIBERS,
    seed: int = SEED,
    data: Path | None = None,
    quiet: bool = True,
) -> Result:
    """The whole bench; ``data`` is where the journal goes meanwhile. Raises OutcomeError."""
    where = machine()
    steady_s, named_s = minutes * 60, max(minutes * 60 * NAMED_SHARE, 1.1)
    rows = warm_up + round((steady_s + named_s) * rate * 1.2) + 1_000  # no more commits than commands
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hashpit-bench-", dir=data)))
        bar = stack.enter_context(Progress(console=Console(stderr=True), disable=quiet, transient=True))
        snapshot_s = max(round(steady_s / SNAPSHOTS), 1)
        with serving(folder / "data", folder / "record", rows, snapshot_s) as (child, url, operator_key):
            sockets = populate(url, operator_key, traders, subscribers, seed)
            load = Load(child.pid, *sockets)
            load.closed(warm_up, _shown(bar, "warming up"))
            with process("-m", "bench.echo", "picows") as (_, echo_url), probing(url, echo_url, child.pid) as stop_probe:
                steady = watch(load, rate, steady_s, seed, _shown(bar, "steady"))
                for trader in load.traders:
                    trader.named = True
                named = watch(load, rate, named_s, seed, _shown(bar, "named"))
                probed = stop_probe()
            snapshots = len(snapshot_paths(folder / "data"))
            load.close()
        record = msgspec.msgpack.decode((folder / "record").read_bytes(), type=Record)
    if record.dropped:
        raise OutcomeError(f"{record.dropped} commits or collections found no room in the record")
    return judge(where, minutes, rate, snapshots, room_bytes(rows), steady, named, record, probed, load.waits.looks)


def _shown(bar: Progress, what: str) -> Callable[[float], None]:
    task = bar.add_task(what, total=1.0)
    return lambda share: bar.update(task, completed=share)


def judge(
    where: Machine,
    minutes: float,
    rate: int,
    snapshots: int,
    record_bytes: int,
    steady: Watched,
    named: Watched,
    record: Record,
    probed: Probed,
    own: Looks,
) -> Result:
    """All figures and verdicts out of what was recorded."""
    watched = [row for row in record.collections if steady.start_ns <= row[0] <= named.end_ns]
    found = pauses(probed, Overlaps(watched), Overlaps(record.commits))
    worst = [max(mine, key=lambda one: one.ms) for cause in CAUSES if (mine := [one for one in found if one.cause == cause])]
    phases = [phase(seen, record, probed, own) for seen in (steady, named)]
    growth = round(phases[0].last_quarter_mb - phases[0].first_quarter_mb, 2)
    ours = [one.ms for one in found if one.cause in OURS]
    collected = [
        Collections(generation, len(took), round(sum(took) / MS_NS, 1), round(max(took) / MS_NS, 2))
        for generation in (0, 1, 2)
        if (took := [end - start for start, end, number in watched if number == generation])
    ]
    longest = max((one.max_ms for one in collected), default=0.0)
    return Result(
        machine=where,
        minutes=minutes,
        rate=rate,
        snapshots=snapshots,
        record_mb=round(record_bytes / MB, 1),
        steady=phases[0],
        named=phases[1],
        bytes_per_named_order=_growth_per_order(phases[1]),
        pings=times([ping[1] for ping in probed.pings]),
        echoes=times([ping[2] for ping in probed.pings]),
        pauses={cause: sum(one.cause == cause for one in found) for cause in CAUSES},
        worst=worst,
        collections=collected,
        verdicts=[
            Verdict("growth of memory in the steady phase, MB", growth, GROWTH_BAR_MB, growth <= GROWTH_BAR_MB),
            Verdict("longest pause of the collector's or the server's own, ms", max(ours, default=0.0), PAUSE_MS, not ours),
            Verdict("longest garbage collection with its waits for a core, ms", longest, PAUSE_MS, longest <= PAUSE_MS),
        ],
    )


def _growth_per_order(named: Phase) -> int:
    minutes = sum(after.at_s - before.at_s for before, after in pairwise(named.seconds)) / 60
    return round(named.mb_per_minute * minutes * MB / named.placed) if named.placed else 0


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="of the steady phase")] = MINUTES,
    rate: Annotated[int, typer.Option(min=1, help="commands per second")] = RATE,
    warm_up: Annotated[int, typer.Option(min=1, help="commands before the clock starts")] = WARM_UP,
    seed: Annotated[int, typer.Option(help="of the flow")] = SEED,
    data: Annotated[
        Path | None, typer.Option(help="directory for the journal; default: the system's for temporary files")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Watch memory and pauses under steady load."""
    try:
        quiet = as_json or not sys.stderr.isatty()
        result = measure(minutes, rate, warm_up, seed=seed, data=data, quiet=quiet)
    except OutcomeError as error:
        print(f"bench.soak: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    console = Console()
    found = result.machine
    title = f"bench.soak: {found.build} build, {result.minutes:g} minutes at {result.rate:,}/s, {result.snapshots} snapshots"
    table = Table("", "steady", "named", title=title)
    phases = (result.steady, result.named)
    table.add_row("commands", *(f"{one.commands:,}" for one in phases))
    table.add_row("RSS, first and last quarter, MB", *(f"{one.first_quarter_mb}, {one.last_quarter_mb}" for one in phases))
    table.add_row("of it the bench's record, MB", f"{result.record_mb}", f"{result.record_mb}")
    table.add_row("growth, MB per minute", *(f"{one.mb_per_minute}" for one in phases))
    table.add_row("growth per order placed, bytes", "", f"{result.bytes_per_named_order:,}")
    table.add_row("order p50, p99, p99.9, max, ms", *(_times(one.orders) for one in phases))
    table.add_row("commit p50, p99, p99.9, max, ms", *(_times(one.commits) for one in phases))
    for name in ("disk", "machine", "other"):
        table.add_row(f"orders over 5 ms: {name}", *(f"{getattr(one.slow, name):,}" for one in phases))
    console.print(table)
    table = Table("pauses", "number", "longest, ms", "of it without a core", "echo meanwhile", "collector")
    worst = {one.cause: one for one in result.worst}
    for cause in CAUSES:
        one = worst.get(cause)
        cells = (f"{one.ms}", f"{one.wait_ms}", f"{one.echo_ms}", f"{one.collector_ms}") if one else ("", "", "", "")
        table.add_row(cause, f"{result.pauses[cause]:,}", *cells)
    console.print(table)
    console.print(f"`time` p50, p99, p99.9, max, ms: {_times(result.pings)}; echo: {_times(result.echoes)}")
    for each in result.collections:
        console.print(
            f"collections of generation {each.generation}: {each.count:,}, {each.sum_ms} ms, longest {each.max_ms} ms"
        )
    for verdict in result.verdicts:
        console.print(f"{verdict.what}: {verdict.figure}, at most {verdict.bar}: {'met' if verdict.met else 'missed'}")


def _times(found: Times) -> str:
    return f"{found.p50_ms}, {found.p99_ms}, {found.p999_ms}, {found.max_ms}"


if __name__ == "__main__":
    typer.run(main)
