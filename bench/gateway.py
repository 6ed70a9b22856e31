"""A real server process under load from this one: what a durable order costs the server, beside a bare websocket echo.

    this process                            server process, python -m gateway DATA
    10 sockets, 32 calls open on each  -->  decode, check, sequence, match, journal with fsync, reply
                                       <--  CPU time of all its threads, from /proc/PID/stat

    the same sockets and bytes         -->  bench.echo: picows hands every message straight back

    python -m bench.gateway            table
    python -m bench.gateway --json     one JSON object
    python -m bench.gateway --profile  one more run with the server under cProfile, and the top of it

Closed loop: each socket sends its next call when an answer comes, so latency is that of a saturated server and throughput is
what both processes together reach. The calls are JSON: place a limit order away from the market, cancel it by its
client_order_id, and so on; each socket has an account of its own. Every answer must be a result, and the server's last
sequence number must account for all of them.
"""

import asyncio
import contextlib
import platform
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
import uvloop
from msgspec import Struct
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from rich.console import Console
from rich.progress import track
from rich.table import Table
from websockets.sync.client import ClientConnection, connect

from bench.common import START_S, OutcomeError, cpu_seconds, process, quantile
from gateway.auth import KeyStore
from hashpit.build import build_kind
from hashpit.keys import Key, generate

SOCKETS: Final = 10
OPEN_CALLS: Final = 32
"""Calls that one socket has open at a time."""
SECONDS: Final = 5.0
WARM_UP: Final = 1.0
"""Seconds before the measured ones."""
REPEATS: Final = 3
LEVELS: Final = 50
"""Prices that a socket's orders go to, one after the other."""
PROFILE_LINES: Final = 25

CONFIG: Final = """
[server]
port = 0

[rates]
orders = { per_second = 1000000, burst = 1000000 }
cancels = { per_second = 1000000, burst = 1000000 }
requests = { per_second = 1000000, burst = 1000000 }
ip = { per_second = 1000000, burst = 1000000 }

[log]
level = "warning"

[[listings]]
algorithm = "SHA256"
length_s = 86400
ahead = 2
"""


class Load(Struct):
    """What one loaded process did in the measured seconds. CPU and latency in microseconds."""

    messages: int
    per_second: int
    cpu_us: float
    cpu_user_us: float
    cpu_system_us: float
    p50_us: float
    p99_us: float
    p999_us: float


class Result(Struct):
    """Medians over the repeats, each repeat with both servers one after the other."""

    build: str
    python: str
    machine: str
    sockets: int
    open_calls: int
    repeats: int
    order: Load
    echo: Load
    ratio: float
    """Server CPU of a durable order over that of an echoed message."""
    ratio_min: float
    ratio_max: float


# ------------------------------------------------------------------------------------------------------------------- load


class Answer(Struct):
    """As much of an answer as the load looks at."""

    id: int | None = None
    error: Any = None
    method: str = ""
    params: Any = None


class Client(WSListener):
    """One socket that keeps ``open_calls`` messages open. ``key``: log in first; without one, the peer is the echo."""

    def __init__(self, calls: Iterator[bytes], open_calls: int, key: Key | None) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failure = ""
        self.answers = 0
        self.measuring = False
        self.latencies: list[int] = []
        self._calls = calls
        self._open_calls = open_calls
        self._key = key
        self._sent: dict[int, int] = {}
        self._number = 0
        self._decode = msgspec.json.Decoder(Answer).decode
        self._stopped = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._key is None:
            self.ready.set_result(None)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            self._fail(f"the server closed the socket with {frame.get_close_code()}")
            return
        answer = self._decode(frame.get_payload_as_bytes())
        if answer.error is not None:
            self._fail(f"the server refused: {answer.error}")
        elif answer.method == "hello" and self._key is not None and not self.ready.done():
            login = self._key.sign(answer.params["challenge"], time.time_ns() // 1_000)
            self._send({"jsonrpc": "2.0", "id": 0, "method": "login", "params": login})
        elif answer.id == 0 and not self.ready.done():
            self.ready.set_result(None)
        elif answer.id:
            now = time.perf_counter_ns()
            self.answers += 1
            sent = self._sent.pop(answer.id)
            if self.measuring:
                self.latencies.append(now - sent)
            self._next()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._stopped:
            self._fail("the server cut the socket")

    def start(self) -> None:
        for _ in range(self._open_calls):
            self._next()

    @property
    def open(self) -> int:
        return len(self._sent)

    def stop(self) -> None:
        """Send nothing more; what is open may still be answered."""
        self._stopped = True

    def close(self) -> None:
        self._transport.disconnect()

    def _next(self) -> None:
        if self._stopped:
            return
        self._number += 1
        payload = b'{"jsonrpc":"2.0","id":%d,%b' % (self._number, next(self._calls))
        self._sent[self._number] = time.perf_counter_ns()
        self._transport.send(WSMsgType.TEXT, payload)

    def _send(self, message: Any) -> None:
        self._transport.send(WSMsgType.TEXT, msgspec.json.encode(message))

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why
        self._stopped = True
        if not self.ready.done():
            self.ready.set_result(None)


def calls(market: str, tick: int, number: int) -> Iterator[bytes]:
    """Place, cancel, place, cancel, inside the collar: even sockets bid below the price ``tick``, odd ones ask above it."""
    side = "buy" if number % 2 == 0 else "sell"
    order = 0
    while True:
        price = tick - 1 - order % LEVELS if side == "buy" else tick + 1 + order % LEVELS
        name = f"{number}-{order}"
        yield (
            f'"method":"place","params":{{"market":"{market}","side":"{side}","price":"{price / 1e8:.8f}",'
            f'"qty":"1.000","client_order_id":"{name}"}}}}'
        ).encode()
        yield f'"method":"cancel","params":{{"client_order_id":"{name}"}}}}'.encode()
        order += 1


async def load(
    url: str, pid: int, market: str, tick: int, keys: list[Key | None], open_calls: int, seconds: float, warm_up: float
) -> tuple[Load, int]:
    """Load one server; the figures, and how many answers came in all."""
    clients: list[Client] = []
    for number, key in enumerate(keys):
        client = Client(calls(market, tick, number), open_calls, key)
        await ws_connect(lambda client=client: client, url)
        clients.append(client)
    await asyncio.gather(*(client.ready for client in clients))
    for client in clients:
        client.start()
    await asyncio.sleep(warm_up)
    for client in clients:
        client.measuring = True
    user, system = cpu_seconds(pid)
    answers = sum(client.answers for client in clients)
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    user, system = (after - before for after, before in zip(cpu_seconds(pid), (user, system), strict=True))
    elapsed = time.perf_counter() - started
    messages = sum(client.answers for client in clients) - answers
    for client in clients:
        client.measuring = False
        client.stop()
    deadline = time.perf_counter() + START_S
    while any(client.open for client in clients) and not any(client.failure for client in clients):
        if time.perf_counter() > deadline:
            raise OutcomeError("calls were never answered")
        await asyncio.sleep(0.01)
    for client in clients:
        client.close()
        if client.failure:
            raise OutcomeError(client.failure)
    times = sorted(latency for client in clients for latency in client.latencies)
    if not times:
        raise OutcomeError("no answer came while measuring")
    figures = Load(
        messages=messages,
        per_second=round(messages / elapsed),
        cpu_us=round((user + system) / messages * 1e6, 2),
        cpu_user_us=round(user / messages * 1e6, 2),
        cpu_system_us=round(system / messages * 1e6, 2),
        p50_us=round(quantile(times, 0.5) / 1_000, 1),
        p99_us=round(quantile(times, 0.99) / 1_000, 1),
        p999_us=round(quantile(times, 0.999) / 1_000, 1),
    )
    return figures, sum(client.answers for client in clients)


# --------------------------------------------------------------------------------------------------------------- exchange


class Operator:
    """The operator on an open socket: makes accounts and keys over the wire, as anybody's tools would."""

    def __init__(self, socket: ClientConnection, key: Key) -> None:
        self._socket = socket
        self._number = 0
        hello = msgspec.json.decode(self._socket.recv())
        login = key.sign(hello["params"]["challenge"], time.time_ns() // 1_000)
        self.call("login", **msgspec.to_builtins(login))

    def call(self, method: str, **params: Any) -> Any:
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self._socket.send(msgspec.json.encode(request).decode())
        while True:
            answer = msgspec.json.decode(self._socket.recv())
            if answer.get("id") == self._number:
                break
        if "error" in answer:
            raise OutcomeError(f"{method}: {answer['error']}")
        return answer["result"]

    def trader(self, name: str) -> Key:
        account = self.call("create_account", name=name)["account"]
        self.call("deposit", account=account, amount="1000", transfer_id="first")
        private, public = generate()
        made = self.call("add_key", account=account, permissions=["read", "trade"], public_key=public)
        return Key(key=made["key"]["key"], kind="ed25519", private_key=private)


def load_exchange(
    folder: Path, sockets: int, open_calls: int, seconds: float, warm_up: float, profile: Path | None = None
) -> Load:
    """A fresh exchange in ``folder`` under load. Raises OutcomeError when anything acknowledged is missing in the end."""
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG)
    private, public = generate()
    operator_key, _ = KeyStore(folder).add(1, ["read", "admin"], public_key=public)
    arguments = ["-m", "gateway", str(folder)]
    if profile is not None:
        arguments = ["-m", "cProfile", "-o", str(profile), *arguments]
    with process(*arguments) as (child, url):
        with connect(url, compression=None) as socket:
            operator = Operator(socket, Key(key=operator_key.key_id, kind="ed25519", private_key=private))
            keys: list[Key | None] = [operator.trader(f"trader-{number}") for number in range(sockets)]
            market = operator.call("markets")[0]
        tick = round(float(market["reference_price"]) * 1e8)
        coroutine = load(url, child.pid, market["market"], tick, keys, open_calls, seconds, warm_up)
        figures, answers = uvloop.run(coroutine)
        child.terminate()
        assert child.stdout is not None
        said = child.stdout.read()
        code = child.wait(START_S)
    words = said.split()
    if code or "seq" not in words:
        raise OutcomeError(f"the server ended with code {code} and said: {said}")
    seq = int(words[words.index("seq") + 1])
    if seq < answers:
        raise OutcomeError(f"{answers} orders were acknowledged, but the server ended at seq {seq}")
    return figures


def load_echo(sockets: int, open_calls: int, seconds: float, warm_up: float) -> Load:
    """The echo server under the same load, byte for byte what the exchange gets."""
    with process("-m", "bench.echo") as (child, url):
        keys: list[Key | None] = [None] * sockets
        coroutine = load(url, child.pid, "SHA256-20270116", 45_000, keys, open_calls, seconds, warm_up)
        figures, _ = uvloop.run(coroutine)
    return figures


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
    orders: list[Load] = []
    echoes: list[Load] = []
    with _scratch(data) as folder:
        for number in track(range(repeats), "measuring", console=Console(stderr=True), disable=quiet, transient=True):
            orders.append(load_exchange(folder / str(number), sockets, open_calls, seconds, warm_up))
            echoes.append(load_echo(sockets, open_calls, seconds, warm_up))
    ratios = [order.cpu_us / echo.cpu_us for order, echo in zip(orders, echoes, strict=True) if echo.cpu_us]
    if not ratios:
        raise OutcomeError("too short: the echo used no measurable CPU")
    return Result(
        build=build_kind(),
        python=platform.python_version(),
        machine=f"{platform.machine()}, {platform.system()}",
        sockets=sockets,
        open_calls=open_calls,
        repeats=repeats,
        order=_median(orders),
        echo=_median(echoes),
        ratio=round(statistics.median(ratios), 2),
        ratio_min=round(min(ratios), 2),
        ratio_max=round(max(ratios), 2),
    )


def _median(loads: list[Load]) -> Load:
    names = Load.__struct_fields__
    found = {name: statistics.median(getattr(one, name) for one in loads) for name in names}
    return msgspec.convert(
        {name: round(value) if name in ("messages", "per_second") else round(value, 2) for name, value in found.items()},
        Load,
    )


@contextlib.contextmanager
def _scratch(data: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hashpit-bench-", dir=data))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def profile(sockets: int = SOCKETS, open_calls: int = OPEN_CALLS, seconds: float = SECONDS, data: Path | None = None) -> str:
    """Where the server's time goes, by own time per function; the profiler's own cost slows the server several times."""
    with _scratch(data) as folder:
        file = folder / "profile"
        load_exchange(folder / "data", sockets, open_calls, seconds, 0.0, file)
        with (folder / "text").open("w") as text:
            pstats.Stats(str(file), stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
        return "\n".join(line for line in (folder / "text").read_text().splitlines() if line.strip())


def main(
    sockets: Annotated[int, typer.Option(min=1, help="sockets, each with an account")] = SOCKETS,
    open_calls: Annotated[int, typer.Option(min=1, help="calls open per socket")] = OPEN_CALLS,
    seconds: Annotated[float, typer.Option(min=0.1, help="measured seconds per repeat")] = SECONDS,
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
            print(profile(sockets, open_calls, seconds, data), file=sys.stderr if as_json else sys.stdout)
    except OutcomeError as error:
        print(f"bench.gateway: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _show(result: Result) -> None:
    table = Table("figure", "durable order", "echo", title=f"bench.gateway: {result.build} build, Python {result.python}")
    order, echo = result.order, result.echo
    table.add_row("server CPU per message", f"{order.cpu_us} µs", f"{echo.cpu_us} µs")
    table.add_row(
        "of it user, system", f"{order.cpu_user_us}, {order.cpu_system_us}", f"{echo.cpu_user_us}, {echo.cpu_system_us}"
    )
    table.add_row("messages per second", f"{order.per_second:,}", f"{echo.per_second:,}")
    table.add_row("latency p50, µs", f"{order.p50_us:,}", f"{echo.p50_us:,}")
    table.add_row("latency p99, µs", f"{order.p99_us:,}", f"{echo.p99_us:,}")
    table.add_row("latency p99.9, µs", f"{order.p999_us:,}", f"{echo.p999_us:,}")
    table.add_row("CPU ratio, median (range)", f"{result.ratio} ({result.ratio_min} to {result.ratio_max})", "1")
    table.add_row("sockets x open calls", f"{result.sockets} x {result.open_calls}", "the same")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
