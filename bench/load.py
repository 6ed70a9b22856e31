"""The load of bench.gateway and bench.fanout: plain sockets that speak as much of the websocket protocol as a load needs.

    Socket      one client: handshake, frames, one call at a time
    exchange    a real server process with accounts to trade from, whose last seq must account for all that it acknowledged
    Load        many sockets, each with its own calls: as fast as they are answered, or at a fixed rate

One read takes all that is there. The calls that its answers make room for go out in one write, for every server alike. A load
that sent each on its own would pay a system call per message, and so would the server.

Frames are masked with zeros: the server's unmasking costs the same, and the load's costs nothing.
"""

import contextlib
import random
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from bench.common import START_S, OutcomeError, cpu_seconds, process, quantile
from gateway.auth import KeyStore
from hashpit.keys import Key, generate

READ_BYTES: Final = 256 * 1024
LEVELS: Final = 50
"""Prices that a socket's orders go to, one after the other."""
PATIENCE_S: Final = 0.05
"""How long the load sleeps when nothing comes, before it looks at the clock again."""
SCHEDULER_CLOCK: Final = 2
"""Linux's CPU clock of another process is numbered by its id, inverted, and this."""

CONFIG: Final = """
[server]
port = 0
connections_per_ip_max = 100000
anonymous_per_ip_max = 100000
stop_ms = 0

[session]
heartbeat_ms = {heartbeat_ms}
idle_ms = 3600000
login_ms = 600000

[rates]
orders = {{ per_second = 1000000, burst = 1000000 }}
cancels = {{ per_second = 1000000, burst = 1000000 }}
requests = {{ per_second = 1000000, burst = 1000000 }}
ip = {{ per_second = 1000000, burst = 1000000 }}

[snapshot]
every_entries = 1000000000
every_s = 86400

[log]
level = "warning"

[[listings]]
algorithm = "SHA256"
length_s = 86400
ahead = 2
"""


# ----------------------------------------------------------------------------------------------------------------- sockets


class Answer(Struct):
    """As much of an answer as a load looks at."""

    id: int | None = None
    error: Any = None


class Socket:
    """A websocket client over a blocking socket. ``source`` is the address that it connects from."""

    def __init__(self, url: str, source: str = "") -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None, url
        self._socket = socket.create_connection((parts.hostname, parts.port), source_address=(source, 0) if source else None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The system's own timeouts: those of Python's sockets cost a system call per read.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(START_S), 0))
        self._socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.receive_bytes()
        head, _, self._rest = head.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise OutcomeError(f"no websocket at {url}: {head.decode(errors='replace')}")
        self._number = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, payloads: Iterable[bytes]) -> None:
        """Text messages, in one write."""
        self._socket.sendall(b"".join([_header(len(payload)) + payload for payload in payloads]))

    def receive_bytes(self) -> bytes:
        """What one read brings. Raises OutcomeError at the end of the stream, and when nothing comes for START_S."""
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            raise OutcomeError("the server says nothing") from None
        if not data:
            raise OutcomeError("the server cut the socket")
        return data

    def receive(self) -> list[bytes]:
        """The payloads that one read completes; it waits when there is nothing to read."""
        return self.completed(self.receive_bytes())

    def completed(self, data: bytes) -> list[bytes]:
        """The payloads that one read's bytes complete."""
        data = self._rest + data
        payloads, used = split(data)
        self._rest = data[used:]
        return payloads

    def call(self, method: str, **params: Any) -> Any:
        """One call and its result; notifications that come meanwhile are dropped. Raises OutcomeError for a refusal."""
        self._number -= 1
        call = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self.send([msgspec.json.encode(call)])
        while True:
            for payload in self.receive():
                answer = msgspec.json.decode(payload)
                if answer.get("id") == self._number:
                    if "error" in answer:
                        raise OutcomeError(f"{method}: {answer['error']}")
                    return answer["result"]

    def hello(self) -> dict[str, Any]:
        """The parameters of the exchange's first message."""
        payloads, used = split(self._rest)
        self._rest = self._rest[used:]
        while not payloads:
            payloads = self.receive()
        params: dict[str, Any] = msgspec.json.decode(payloads[0])["params"]
        return params

    def log_in(self, key: Key) -> None:
        """Wait for the exchange's hello and answer its challenge."""
        login = key.sign(self.hello()["challenge"], time.time_ns() // 1_000)
        self.call("login", **msgspec.to_builtins(login))

    def close(self) -> None:
        self._socket.close()


def _header(size: int) -> bytes:
    """Of a text frame from a client."""
    if size < 126:
        return bytes((0x81, 0x80 | size, 0, 0, 0, 0))
    return b"\x81\xfe" + size.to_bytes(2) + b"\0\0\0\0"


def split(data: bytes) -> tuple[list[bytes], int]:
    """The payloads of the whole frames in ``data``, and how many bytes they take. Raises OutcomeError for a close frame."""
    payloads: list[bytes] = []
    at, end = 0, len(data)
    while end - at >= 2:
        size, start = data[at + 1], at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start])
        if start + size > end:
            break
        if data[at] == 0x88:
            raise OutcomeError(f"the server closed the socket with {int.from_bytes(data[start : start + 2])}")
        payloads.append(data[start : start + size])
        at = start + size
    return payloads, at


# ---------------------------------------------------------------------------------------------------------------- exchange


class Exchange:
    """A server process and its operator. ``acknowledged`` is what its journal must hold in the end, at least."""

    def __init__(self, child: subprocess.Popen[str], url: str, operator: Socket) -> None:
        self.url = url
        self.pid = child.pid
        self.acknowledged = 0
        self._operator = operator
        market = operator.call("markets")[0]
        self.market: str = market["market"]
        self.tick = round(float(market["reference_price"]) * 1e8)
        """The reference price, in ticks."""

    def trader(self, name: str) -> Key:
        """The key of a new account with money in it."""
        account = self._operator.call("create_account", name=name)["account"]
        self._operator.call("deposit", account=account, amount="100000", transfer_id="first")
        private, public = generate()
        made = self._operator.call("add_key", account=account, permissions=["read", "trade"], public_key=public)
        return Key(key=made["key"]["key"], kind="ed25519", private_key=private)


@contextlib.contextmanager
def exchange(folder: Path, profile: Path | None = None, heartbeat_ms: int = 5_000) -> Iterator[Exchange]:
    """A fresh exchange in ``folder``, without limits of rate and without snapshots. Raises OutcomeError when anything
    acknowledged is missing in the end, or the end is not a graceful one. ``profile`` is where cProfile writes."""
    folder.mkdir(mode=0o700)
    (folder / "config.toml").write_text(CONFIG.format(heartbeat_ms=heartbeat_ms))
    private, public = generate()
    stored, _ = KeyStore(folder).add(1, ["read", "admin"], public_key=public)
    arguments = ["-m", "gateway", str(folder)]
    if profile is not None:
        arguments = ["-m", "cProfile", "-o", str(profile), *arguments]
    with process(*arguments) as (child, url):
        operator = Socket(url)
        try:
            operator.log_in(Key(key=stored.key_id, kind="ed25519", private_key=private))
            server = Exchange(child, url, operator)
            yield server
        finally:
            operator.close()
        child.terminate()
        assert child.stdout is not None
        said = child.stdout.read()
        code = child.wait(START_S)
    words = said.split()
    if code or "seq" not in words:
        raise OutcomeError(f"the server ended with code {code} and said: {said}")
    seq = int(words[words.index("seq") + 1])
    if seq < server.acknowledged:
        raise OutcomeError(f"{server.acknowledged} orders were acknowledged, but the server ended at seq {seq}")


Calls = Iterator[bytes]
"""Calls without their beginning, ``{"jsonrpc":"2.0","id":N,``."""


def places(market: str, tick: int, number: int, prefix: str = "p") -> Calls:
    """Limit orders inside the collar that rest: even sockets bid below the price ``tick``, odd ones ask above it."""
    side = "buy" if number % 2 == 0 else "sell"
    order = 0
    while True:
        price = tick - 1 - order % LEVELS if side == "buy" else tick + 1 + order % LEVELS
        yield (
            f'"method":"place","params":{{"market":"{market}","side":"{side}","price":"{price / 1e8:.8f}",'
            f'"qty":"1.000","client_order_id":"{prefix}{number}-{order}"}}}}'
        ).encode()
        order += 1


def mixed(market: str, tick: int, number: int, prefix: str = "m") -> Calls:
    """Place, cancel that order, place, cancel, and so on."""
    for order, call in enumerate(places(market, tick, number, prefix)):
        yield call
        yield f'"method":"cancel","params":{{"client_order_id":"{prefix}{number}-{order}"}}}}'.encode()


# -------------------------------------------------------------------------------------------------------------------- load


class Cpu(NamedTuple):
    """CPU seconds of a process, all its threads together."""

    total: float
    user: float
    system: float

    @classmethod
    def of(cls, pid: int) -> "Cpu":
        """So far. The total is exact; what is told of its parts are whole ticks of the clock."""
        return cls(time.clock_gettime(~pid << 3 | SCHEDULER_CLOCK), *cpu_seconds(pid))

    def since(self, before: "Cpu") -> "Cpu":
        """The difference, its parts made to add up."""
        total, user, system = (after - then for after, then in zip(self, before, strict=True))
        share = user / (user + system) if user + system else 1.0
        return Cpu(total, total * share, total - total * share)


class Peer:
    """One socket under load: what it has sent, and when (or when it should have)."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.sent: dict[int, int] = {}
        """Start in nanoseconds of each open call, by its id."""
        self._number = 0

    def send(self, calls: Iterable[bytes], starts: Iterable[int]) -> int:
        """Send calls in one write; how many there were, at most as many as ``starts``."""
        payloads = []
        for start, call in zip(starts, calls, strict=False):
            self._number += 1
            self.sent[self._number] = start
            payloads.append(b'{"jsonrpc":"2.0","id":%d,%b' % (self._number, call))
        if payloads:
            self.socket.send(payloads)
        return len(payloads)


class Figures(Struct):
    """What a loaded process did in the measured seconds. Times in microseconds."""

    messages: int
    per_second: int
    cpu_us: float
    """CPU of the server per message, all its threads together."""
    cpu_user_us: float
    cpu_system_us: float
    server_busy: float
    """Its CPU time over the time that passed; threads may bring it above 1."""
    load_busy: float
    """The same of the load: what is nearer to 1 sets the pace."""
    calls_per_write: float
    """Frames in one write of the load, so at least as many as in one read of the server."""
    answers_per_read: float
    """Frames in one read of the load."""
    p50_us: float
    p99_us: float
    p999_us: float


class Load:
    """Sockets under load, with what is counted of them."""

    def __init__(self, pid: int, sockets: list[Socket]) -> None:
        self.peers = [Peer(socket) for socket in sockets]
        self.answers = 0
        """All answers, measured or not."""
        self.late: list[int] = []
        """Of each call of the last fixed rate, nanoseconds from its intended time to its write."""
        self._pid = pid
        self._decode = msgspec.json.Decoder(Answer).decode
        self._latencies: list[int] = []
        self._reads = self._writes = self._sent = 0

    def closed(self, calls: list[Calls], open_calls: int, warm_up: float, seconds: float) -> Figures:
        """Keep ``open_calls`` open on a socket per entry of ``calls``, for ``seconds`` after ``warm_up`` or until the calls
        run out. A call's time begins when it is sent."""
        peers = self.peers[: len(calls)]
        source = dict(zip(peers, calls, strict=True))
        for peer in peers:
            self._count(peer.send(source[peer], [time.perf_counter_ns()] * open_calls))
        ended = False

        def run(until: float) -> None:
            nonlocal ended
            while not ended and time.perf_counter() < until:
                for peer, answers in self._receive(peers, PATIENCE_S):
                    sent = peer.send(source[peer], [time.perf_counter_ns()] * answers)
                    self._count(sent)
                    ended = ended or sent < answers

        return self._measure(run, warm_up, seconds, peers)

    def at_rate(self, calls: list[Calls], per_second: float, seed: int, warm_up: float, seconds: float) -> Figures:
        """Send at times drawn in advance (Poisson, ``per_second`` in all, sockets in turn), whatever is answered. A call's
        time begins when it should have been sent, so neither a slow server nor a late load can hide a wait."""
        peers = self.peers[: len(calls)]
        rng = random.Random(seed)
        due_ns, number = time.perf_counter_ns(), 0
        self.late = []

        def send_due() -> None:
            nonlocal due_ns, number
            now_ns = time.perf_counter_ns()
            due: dict[int, list[int]] = {}
            while due_ns <= now_ns:
                due.setdefault(number % len(peers), []).append(due_ns)
                number += 1
                due_ns += round(rng.expovariate(per_second) * 1e9)
            for index, starts in due.items():
                self._count(peers[index].send(calls[index], starts))
                now_ns = time.perf_counter_ns()
                self.late += [now_ns - start for start in starts]

        def run(until: float) -> None:
            while time.perf_counter() < until:
                send_due()
                for _ in self._receive(peers, max(min(due_ns / 1e9, until) - time.perf_counter(), 0.0)):
                    # What became due while a socket's answers were decoded does not wait for those of the others.
                    send_due()

        return self._measure(run, warm_up, seconds, peers)

    def _measure(self, run: Callable[[float], None], warm_up: float, seconds: float, peers: list[Peer]) -> Figures:
        run(time.perf_counter() + warm_up)
        self._latencies = []
        self._reads = self._writes = self._sent = 0
        answers = self.answers
        before = Cpu.of(self._pid)
        own, started = time.process_time(), time.perf_counter()
        run(started + seconds)
        while self.answers == answers and time.perf_counter() < started + START_S:
            run(time.perf_counter() + PATIENCE_S)
        elapsed, own = time.perf_counter() - started, time.process_time() - own
        cpu = Cpu.of(self._pid).since(before)
        messages, times = self.answers - answers, sorted(self._latencies)
        reads, writes, sent = self._reads, self._writes, self._sent
        self._drain(peers)
        if not messages:
            raise OutcomeError("no answer came while measuring")
        return Figures(
            messages=messages,
            per_second=round(messages / elapsed),
            cpu_us=round(cpu.total / messages * 1e6, 2),
            cpu_user_us=round(cpu.user / messages * 1e6, 2),
            cpu_system_us=round(cpu.system / messages * 1e6, 2),
            server_busy=round(cpu.total / elapsed, 2),
            load_busy=round(own / elapsed, 2),
            calls_per_write=round(sent / writes, 1) if writes else 0.0,
            answers_per_read=round(messages / reads, 1),
            p50_us=round(quantile(times, 0.5) / 1_000, 1),
            p99_us=round(quantile(times, 0.99) / 1_000, 1),
            p999_us=round(quantile(times, 0.999) / 1_000, 1),
        )

    def _count(self, sent: int) -> None:
        self._sent += sent
        self._writes += sent > 0

    def _receive(self, peers: list[Peer], timeout: float) -> Iterator[tuple[Peer, int]]:
        """Read once from each socket that has something, and how many answers it had."""
        sockets = {peer.socket: peer for peer in peers}
        # All are read before any is decoded, so that no answer's time has the decoding of others in it.
        read = [
            (sockets[ready], ready.receive_bytes(), time.perf_counter_ns())
            for ready in select.select(sockets, (), (), timeout)[0]
        ]
        for peer, data, now_ns in read:
            found = 0
            for payload in peer.socket.completed(data):
                answer = self._decode(payload)
                if answer.error is not None:
                    raise OutcomeError(f"the server refused: {answer.error}")
                if answer.id is not None:
                    self._latencies.append(now_ns - peer.sent.pop(answer.id))
                    found += 1
            self.answers += found
            self._reads += found > 0
            yield peer, found

    def _drain(self, peers: list[Peer]) -> None:
        deadline = time.perf_counter() + START_S
        while any(peer.sent for peer in peers):
            if time.perf_counter() > deadline:
                raise OutcomeError("calls were never answered")
            for _ in self._receive(peers, PATIENCE_S):
                pass


def take(calls: Calls, count: int) -> Calls:
    """The next ``count`` of the calls."""
    return islice(calls, count)
