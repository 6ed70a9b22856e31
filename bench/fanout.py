"""One book stream to many subscribers, beside a bare broadcast of the same bytes; and the memory of idle sessions.

    this process                server process, python -m gateway DATA        reader process
    market maker, one socket -> order -> delta -> encoded once -> N writes -> N sockets, count and checksum of their bytes
                                <-- CPU time of all its threads               the first one keeps what it reads
                                                                                      |
    the same stream, the same pace   bench.echo broadcast -------------------> N other sockets

    python -m bench.fanout             table
    python -m bench.fanout --json      one JSON object

Closed loop: the market maker sends its next call when an answer comes, so the book changes as fast as it is served. Each of its
calls changes one level, which is one delta. The first subscriber must get every one of them in order, and all others the same
bytes; so must the sockets of the broadcast. With one call open at a time there is one delta per write, and the two broadcasts
(see bench/echo.py) do the same. With more, the server writes the deltas of a batch together: ``send`` then pays for a system
call that the server saves, ``write`` is the least that anybody could do.

CPU per message is that of the whole process over the messages delivered, orders and journal included. That is why few
subscribers make expensive messages.

Memory of a session: so many sockets come and go, and as many come and stay, that code, caches and buffers are there and no hole
is left to fill. Then resident memory with a thousand more, after a few heartbeats, less resident memory before them. Logged-in
ones share an account and come from several addresses, because logins are limited per address.
"""

import contextlib
import gc
import multiprocessing
import os
import resource
import select
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.common import START_S, Machine, OutcomeError, Spread, machine, process, progress, spread
from bench.echo import Played
from bench.load import Calls, Cpu, Exchange, Load, Socket, exchange, mixed, split

CASES: Final = ((1, 1), (100, 1), (1_000, 1), (1_000, 16))
"""Subscribers, and calls that the market maker has open at a time."""
SECONDS: Final = 2.0
"""Measured time of one stream."""
REPEATS: Final = 5
SESSIONS: Final = 1_000
WARM_UP_SESSIONS: Final = 200
SETTLE_S: Final = 3.0
"""From the last login to a look at memory: some heartbeats."""
HEARTBEAT_MS: Final = 1_000
LOGINS_PER_ADDRESS: Final = 50
QUIET_S: Final = 0.3
"""A reader that got nothing for so long has got everything."""
HEARTBEAT: Final = b'{"method":"heartbeat"'
FILES_SPARE: Final = 64

RATIO_MIN: Final = 0.85
SESSION_BYTES_MAX: Final = 16 * 1024


class Delivery(Struct):
    """What a server spent on the stream: medians over the repeats. CPU in microseconds per delivered message."""

    cpu_us: float
    cpu_user_us: float
    cpu_system_us: float
    per_second: int
    """Messages delivered."""


class Fanout(Struct):
    """One number of subscribers."""

    subscribers: int
    open_calls: int
    """Of the market maker."""
    deltas: int
    deltas_per_write: float
    exchange: Delivery
    send: Delivery
    """The broadcast, a write per delta."""
    write: Delivery
    """The broadcast, a write for the deltas that the exchange wrote together."""
    ratio_send: Spread
    """CPU of the broadcast over that of the exchange."""
    ratio_write: Spread


class Result(Struct):
    """``met`` by bar: whether it holds, at the median; ``send_1000_16`` is that of ``ratio_send`` with 1,000 subscribers and 16
    calls open."""

    machine: Machine
    seconds: float
    repeats: int
    fanouts: list[Fanout]
    sessions: int
    session_bytes: int
    """Resident memory of one idle session that is not logged in."""
    trader_bytes: int
    """The same of one that is."""
    met: dict[str, bool]


# ----------------------------------------------------------------------------------------------------------------- readers


class Report(Struct, array_like=True):
    """What a reader process read since it was told to go."""

    last_s: float
    """When the last bytes came, by the system's monotonic clock."""
    streams: list[tuple[int, int]]
    """Bytes and their CRC32, by socket."""
    reads: list[tuple[float, bytes]]
    """Every read of the first socket."""


def read(url: str, channel: str, count: int, control: Connection) -> None:
    """A reader process: ``count`` sockets, subscribed if there is a channel. Says when it is ready; then for each message that
    it gets, reads until the next one, and until it is quiet, and reports. None ends it."""
    raise_files(count)
    sockets = [Socket(url) for _ in range(count)]
    if channel:
        for socket in sockets:
            socket.call("subscribe", channels=[channel])
    poll = select.epoll()
    poll.register(control, select.EPOLLIN)
    numbers = {socket.fileno(): number for number, socket in enumerate(sockets)}
    for handle in numbers:
        poll.register(handle, select.EPOLLIN)
    gc.freeze()

    def listen(asked: bool) -> Report:
        sizes, sums, last_s = [0] * count, [0] * count, time.monotonic()
        reads: list[tuple[float, bytes]] = []
        while (found := poll.poll(QUIET_S)) or not asked:
            for handle, _ in found:
                if handle == control.fileno():
                    asked = True
                    if control.recv() is None:
                        sys.exit()
                    continue
                number = numbers[handle]
                data = sockets[number].receive_bytes()
                if HEARTBEAT in data:
                    data = without_heartbeats(data)
                sizes[number] += len(data)
                sums[number] = zlib.crc32(data, sums[number])
                last_s = time.monotonic()
                if not number:
                    reads.append((last_s, data))
        return Report(last_s, list(zip(sizes, sums, strict=True)), reads)

    listen(asked=True)  # what came with the subscription
    control.send_bytes(b"ready")
    while control.recv() is not None:
        control.send_bytes(msgspec.msgpack.encode(listen(asked=False)))


def without_heartbeats(data: bytes) -> bytes:
    """What was read, without the one thing in it that differs from session to session."""
    while (at := data.find(HEARTBEAT)) >= 0:
        if data[at - 2] == 0x81:
            start, size = at - 2, data[at - 1]
        else:
            start, size = at - 4, int.from_bytes(data[at - 2 : at])
        data = data[:start] + data[at + size :]
    return data


class Readers:
    """A reader process, from outside."""

    def __init__(self, url: str, channel: str, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._control, theirs = context.Pipe()
        self._process = context.Process(target=read, args=(url, channel, count, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._receive()

    def go(self) -> None:
        self._control.send("go")

    def report(self) -> Report:
        """What was read since ``go``, once nothing more comes."""
        self._control.send("report")
        return msgspec.msgpack.decode(self._receive(), type=Report)

    def _receive(self) -> bytes:
        try:
            if not self._control.poll(START_S * 4):
                raise OutcomeError("the readers do not answer")
            return self._control.recv_bytes()
        except EOFError:
            raise OutcomeError("the readers failed") from None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._control.send(None)
        self._process.join(START_S)
        self._process.kill()
        self._process.join()
        self._process.close()


def raise_files(sockets: int) -> None:
    """Let this process have so many sockets open. Raises OutcomeError where the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sockets + FILES_SPARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OutcomeError(f"{sockets} sockets need {wanted} open files, the limit (ulimit -Hn) is {hard}")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# ------------------------------------------------------------------------------------------------------------------ stream


class Delta(Struct):
    channel: str
    type: str
    seq: int
    prev_seq: int


class Message(Struct):
    params: Delta


def recorded(reads: list[tuple[float, bytes]], deltas: int, together: int) -> list[Played]:
    """The first subscriber's stream, a block per read, or several if the reader was late: a write has at most ``together``
    deltas. Raises OutcomeError unless it has all deltas, one after the other."""
    stream: list[Played] = []
    rest, number, seq = b"", 0, 0
    decode = msgspec.json.Decoder(Message).decode
    for at_s, data in reads:
        data = rest + data
        payloads, used = split(data)
        rest = data[used:]
        for payload in payloads:
            delta = decode(payload).params
            if delta.type != "delta" or (seq and delta.prev_seq != seq):
                raise OutcomeError(f"after delta {seq} came a {delta.type} with prev_seq {delta.prev_seq}")
            seq = delta.seq
        number += len(payloads)
        for start in range(0, len(payloads), together):
            block = payloads[start : start + together]
            stream.append(Played(at_s - reads[0][0], block, b"".join(map(_framed, block))))
    if number != deltas or rest:
        raise OutcomeError(f"{deltas} changes of the book, {number} deltas")
    return stream


def _framed(payload: bytes) -> bytes:
    """As a server's text frame."""
    size = len(payload)
    return (bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2)) + payload


class Spent(Struct):
    """CPU and messages of one stream, measured."""

    cpu: Cpu
    messages: int
    seconds: float
    streams: set[tuple[int, int]]
    reads: list[tuple[float, bytes]]

    @property
    def cpu_us(self) -> float:
        return self.cpu.total / self.messages * 1e6


def _spend(pid: int, readers: Readers, count: int, drive: Callable[[], int]) -> Spent:
    """Let ``drive`` cause a stream; it returns the number of deltas."""
    readers.go()
    before, started = Cpu.of(pid), time.monotonic()
    deltas = drive()
    report = readers.report()
    cpu = Cpu.of(pid).since(before)
    streams = set(report.streams)
    if len(streams) != 1:
        raise OutcomeError(f"the subscribers got {len(streams)} different streams")
    return Spent(cpu, deltas * count, report.last_s - started, streams, report.reads)


def fanout(folder: Path, count: int, open_calls: int, seconds: float, repeats: int, quiet: bool) -> Fanout:
    """One number of subscribers; in each repeat exchange and broadcasts by turns. Raises OutcomeError."""
    ours: list[Spent] = []
    sent: list[Spent] = []
    written: list[Spent] = []
    deltas: list[int] = []
    blocks = 0
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(exchange(folder / f"exchange-{count}-{open_calls}", heartbeat_ms=60_000))
        child, url = stack.enter_context(process("-m", "bench.echo", "broadcast"))
        subscribed = Readers(server.url, f"book.{server.market}", count)
        stack.callback(subscribed.close)
        listening = Readers(url, "", count)
        stack.callback(listening.close)
        asker = Socket(url)
        stack.callback(asker.close)
        maker = Socket(server.url)
        stack.callback(maker.close)
        maker.log_in(server.trader("maker"))
        load = Load(server.pid, [maker])
        calls: list[Calls] = [mixed(server.market, server.tick, 0)]
        file = folder / f"stream-{count}-{open_calls}"

        def trade(for_s: float) -> int:
            before = load.answers
            load.closed(calls, open_calls, 0.0, for_s)
            return load.answers - before

        def play(how: str) -> int:
            asker.send([f"{how} {file}".encode()])
            while not asker.receive():
                pass
            return deltas[-1]

        _spend(server.pid, subscribed, count, lambda: trade(seconds / 4))  # unmeasured: buffers grow, code warms up
        for _ in progress(range(repeats), f"{count:,} subscribers, {open_calls} open", quiet):
            ours.append(_spend(server.pid, subscribed, count, lambda: trade(seconds)))
            deltas.append(ours[-1].messages // count)
            stream = recorded(ours[-1].reads, deltas[-1], open_calls)
            blocks += len(stream)
            file.write_bytes(msgspec.msgpack.encode(stream))
            sent.append(_spend(child.pid, listening, count, lambda: play("send")))
            written.append(_spend(child.pid, listening, count, lambda: play("write")))
            if sent[-1].streams != ours[-1].streams or written[-1].streams != ours[-1].streams:
                raise OutcomeError("the broadcast did not send the recorded bytes")
        server.acknowledged = load.answers
    return Fanout(
        subscribers=count,
        open_calls=open_calls,
        deltas=sum(deltas),
        deltas_per_write=round(sum(deltas) / blocks, 1),
        exchange=_delivery(ours),
        send=_delivery(sent),
        write=_delivery(written),
        ratio_send=spread(bare.cpu_us / one.cpu_us for bare, one in zip(sent, ours, strict=True)),
        ratio_write=spread(bare.cpu_us / one.cpu_us for bare, one in zip(written, ours, strict=True)),
    )


def _delivery(spent: list[Spent]) -> Delivery:
    return Delivery(
        cpu_us=spread(one.cpu_us for one in spent).median,
        cpu_user_us=spread(one.cpu.user / one.messages * 1e6 for one in spent).median,
        cpu_system_us=spread(one.cpu.system / one.messages * 1e6 for one in spent).median,
        per_second=round(spread(one.messages / one.seconds for one in spent).median),
    )


# ------------------------------------------------------------------------------------------------------------------ memory


def session_bytes(folder: Path, sessions: int, warm_up: int, trading: bool, settle: float) -> int:
    """Resident bytes of an idle session, logged in if ``trading``; see the module's text. Raises OutcomeError."""
    raise_files(sessions + warm_up)
    with exchange(folder, heartbeat_ms=HEARTBEAT_MS) as server, contextlib.ExitStack() as stack:
        enter = _entrance(server, trading)
        for socket in [next(enter) for _ in range(warm_up)]:
            socket.close()
        time.sleep(settle)
        for _ in range(warm_up):
            stack.callback(next(enter).close)
        time.sleep(settle)
        before = _resident(server.pid)
        for _ in range(sessions):
            stack.callback(next(enter).close)
        time.sleep(settle)
        return (_resident(server.pid) - before) // sessions


def _entrance(server: Exchange, trading: bool) -> Iterator[Socket]:
    """Session after session."""
    key = server.trader("idle") if trading else None
    number = 0
    while True:
        socket = Socket(server.url, f"127.0.0.{2 + number // LOGINS_PER_ADDRESS}")
        if key is not None:
            socket.log_in(key)
        else:
            socket.hello()
        yield socket
        number += 1


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ------------------------------------------------------------------------------------------------------------------- bench


def measure(
    cases: Sequence[tuple[int, int]] = CASES,
    seconds: float = SECONDS,
    repeats: int = REPEATS,
    sessions: int = SESSIONS,
    warm_up_sessions: int = WARM_UP_SESSIONS,
    settle: float = SETTLE_S,
    data: Path | None = None,
    quiet: bool = True,
) -> Result:
    """The whole bench; ``data`` is where the journals go meanwhile. Raises OutcomeError."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="hashpit-bench-", dir=data) as name:
        folder = Path(name)
        fanouts = [fanout(folder, count, open_calls, seconds, repeats, quiet) for count, open_calls in cases]
        anonymous = session_bytes(folder / "sessions", sessions, warm_up_sessions, False, settle)
        trading = session_bytes(folder / "traders", sessions, warm_up_sessions, True, settle)
    most = max((count for count, _ in cases), default=0)
    met = {
        f"{kind}_{one.subscribers}_{one.open_calls}": ratio.median >= RATIO_MIN
        for one in fanouts
        if one.subscribers == most
        for kind, ratio in (("send", one.ratio_send), ("write", one.ratio_write))
    }
    met |= {
        "session_bytes": anonymous < SESSION_BYTES_MAX,
        "trader_bytes": trading < SESSION_BYTES_MAX,
    }
    return Result(where, seconds, repeats, fanouts, sessions, anonymous, trading, met)


def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="measured seconds of a stream")] = SECONDS,
    repeats: Annotated[int, typer.Option(min=1)] = REPEATS,
    data: Annotated[
        Path | None, typer.Option(help="directory for the journals; default: the system's for temporary files")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Measure the fan-out."""
    try:
        quiet = as_json or not sys.stderr.isatty()
        result = measure(seconds=seconds, repeats=repeats, data=data, quiet=quiet)
    except OutcomeError as error:
        print(f"bench.fanout: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(msgspec.json.encode(result).decode())
    else:
        _show(result)


def _show(result: Result) -> None:
    where, console = result.machine, Console()
    title = f"bench.fanout: {where.build} build, Python {where.python}, load average {where.load_average}"
    table = Table("subscribers", *(f"{one.subscribers:,}, {one.open_calls} open" for one in result.fanouts), title=title)
    for name, what in (("exchange", "server"), ("send", "broadcast, send"), ("write", "broadcast, write")):
        found: list[Delivery] = [getattr(one, name) for one in result.fanouts]
        table.add_row(f"{what}: CPU per message, µs", *(f"{one.cpu_us}" for one in found))
        table.add_row("of it user, system", *(f"{one.cpu_user_us}, {one.cpu_system_us}" for one in found))
        table.add_row("messages per second", *(f"{one.per_second:,}" for one in found))
    table.add_row("broadcast send to server", *(f"{one.ratio_send}" for one in result.fanouts))
    table.add_row("broadcast write to server", *(f"{one.ratio_write}" for one in result.fanouts))
    table.add_row("deltas per write", *(f"{one.deltas_per_write}" for one in result.fanouts))
    table.caption = (
        f"memory of an idle session, by {result.sessions:,}: {result.session_bytes:,} bytes, logged in {result.trader_bytes:,}"
    )
    console.print(table)
    console.print(", ".join(f"{name}: {'met' if held else 'missed'}" for name, held in result.met.items()))


if __name__ == "__main__":
    typer.run(main)
