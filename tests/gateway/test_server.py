"""Real sockets and a real process: what only they can show. Everything else about sessions is tested without them."""

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import os
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import msgpack
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.server import CLOSE_S, EXTRA_FRAMES_MAX, HANDSHAKE_S, Door
from gateway.wire import FRAME_BYTES_MAX, SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, Close
from tests.support import ROOT, PlainClient, RpcError, Server, config, running

ORIGIN = "https://trade.example"
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    text = config().replace("port = 0", f'port = 0\norigins = ["{ORIGIN}"]')
    server = Server(tmp_path_factory.mktemp("server") / "data", text)
    asyncio.run(server.start())
    yield server
    assert server.is_running, server.log_text()
    server.kill(whole_group=True)


class RawSocket:
    """A websocket client without a websocket library: it can send what no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, server: Server, **headers: str) -> AsyncIterator["RawSocket"]:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        fields = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101"), answer
        raw = cls(reader, writer)
        assert json.loads((await raw.read())[1])["method"] == "hello"
        try:
            yield raw
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def send(self, opcode: int, payload: bytes = b"", fin: bool = True, mask: bool = True, reserved: int = 0) -> None:
        self.writer.write(frame(opcode, payload, fin, mask, reserved))

    def call(self, method: str, number: int = 1) -> None:
        self.send(TEXT, request(method, number))

    async def read(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload."""
        async with asyncio.timeout(20):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack(">H", await self.reader.readexactly(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", await self.reader.readexactly(8))[0]
            return first & 0x0F, await self.reader.readexactly(size)

    async def answer(self) -> Any:
        """The next answer to a call, whatever comes before it."""
        while True:
            opcode, payload = await self.read()
            assert opcode == TEXT, payload
            message = json.loads(payload)
            if "id" in message:
                return message

    async def close_code(self) -> int:
        """The code that the server closes with, whatever comes before it."""
        while True:
            opcode, payload = await self.read()
            if opcode == CLOSE:
                code: int = struct.unpack(">H", payload[:2])[0]
                return code


def frame(opcode: int, payload: bytes, fin: bool = True, mask: bool = True, reserved: int = 0) -> bytes:
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    masked = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([masked | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([masked | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", len(payload))
    return head + (b"\0\0\0\0" if mask else b"") + payload


def request(method: str, number: int = 1, params: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}).encode()


# --------------------------------------------------------------------------------------------------------------- trading


@pytest.mark.slow
async def test_a_trading_day(tmp_path: Path) -> None:
    """Log in, place, fill, follow every feed, lose the connection, resume, restart the server, resume again."""
    async with running(tmp_path / "data") as server:
        maker_key, taker_key = await server.trader("maker", "1"), await server.trader("taker", "1")
        async with PlainClient.to(server, maker_key) as maker, PlainClient.to(server, taker_key) as taker:
            market = (await maker.call("markets"))[0]["market"]
            names = ["account", f"book.{market}", f"trades.{market}", f"ticker.{market}", "status"]
            watcher = await PlainClient.open(server.url)
            await maker.call("subscribe", channels=["account"])
            await watcher.call("subscribe", channels=names[1:])
            snapshot = await maker.next_message()
            assert (snapshot["type"], snapshot["seq"]) == ("snapshot", 1)
            kinds = {(await watcher.next_message())["channel"] for _ in names[1:]}
            assert kinds == set(names[1:])

            placed = await maker.call("place", market=market, side="sell", price="0.0005", qty="2", client_order_id="a")
            assert placed["status"] == "open"
            filled = await taker.call("place", market=market, side="buy", price="0.0005", qty="0.5")
            assert (filled["status"], filled["fills"][0]["qty"]) == ("filled", "0.500")
            events = [await maker.next_message() for _ in range(2)]
            assert [(event["seq"], event["data"]["event"]) for event in events] == [(2, "accepted"), (3, "fill")]
            books = [await next_of(watcher, f"book.{market}") for _ in range(2)]
            assert [book["data"]["asks"] for book in books] == [[["0.00050000", "2.000"]], [["0.00050000", "1.500"]]]
            assert books[1]["prev_seq"] == books[0]["seq"]

            await maker.abort()
            await taker.call("place", market=market, side="buy", price="0.0005", qty="0.25")
            async with PlainClient.to(server, maker_key) as again:
                await again.call("resume", epoch=again.hello["epoch"], account_seq=3)
                missed = await again.next_message()
                assert (missed["seq"], missed["prev_seq"], missed["data"]["qty"]) == (4, 3, "0.250")
                with pytest.raises(RpcError) as refused:
                    await again.call("resume", epoch="another", account_seq=3)
                assert refused.value.data["reason"] == "too_old"

        stopping = asyncio.create_task(next_of(watcher, "status"))
        assert await server.stop() == 0
        assert (await stopping)["data"] == {"event": "server", "state": "stopping"}
        assert await watcher.closed() == Close.GOING_AWAY

        await server.start()
        async with PlainClient.to(server, maker_key) as again:
            await again.call("resume", epoch=again.hello["epoch"], account_seq=2)
            missed_events = [await again.next_message() for _ in range(2)]
            assert [event["seq"] for event in missed_events] == [3, 4]
            repeat = await again.call("place", market=market, side="sell", price="0.0005", qty="2", client_order_id="a")
            assert repeat == placed | {"repeat": True}
            book = await again.call("book", market=market)
            assert book["asks"] == [["0.00050000", "1.250"]]
            assert [trade["qty"] for trade in await again.call("trades", market=market)] == ["0.250", "0.500"]
            assert [fill["qty"] for fill in await again.call("fills", market=market)] == ["0.250", "0.500"]


async def next_of(client: PlainClient, channel: str) -> dict[str, Any]:
    while True:
        message = await client.next_message()
        if message["channel"] == channel and message["type"] != "snapshot":
            return message


async def test_msgpack_says_the_same_in_binary_frames(server: Server) -> None:
    async with connect(server.url, subprotocols=[SUBPROTOCOL_MSGPACK]) as client:  # type: ignore[list-item]
        assert client.subprotocol == SUBPROTOCOL_MSGPACK
        assert msgpack.decode(await client.recv(decode=False))["method"] == "hello"
        await client.send(msgpack.encode({"jsonrpc": "2.0", "id": 7, "method": "markets", "params": {}}))
        answer = msgpack.decode(await client.recv(decode=False))
        assert answer["id"] == 7
        assert answer["result"][0]["tick_size"] == "0.00000001"
        await client.send("{}")
        await client.wait_closed()
        assert client.close_code == Close.UNSUPPORTED


async def test_calls_in_one_packet_are_answered_in_order(server: Server) -> None:
    async with RawSocket.to(server) as raw:
        raw.writer.write(b"".join(frame(TEXT, request("time" if number % 3 else "markets", number)) for number in range(200)))
        assert [(await raw.answer())["id"] for _ in range(200)] == [*range(200)]


# ------------------------------------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/", {}, 404),
        ("/ws/", {}, 404),
        ("/ws", {"origin": "https://evil.example"}, 403),
        ("/ws", {"origin": ORIGIN + ".evil.example"}, 403),
        ("/ws", {"origin": "null"}, 403),
        ("/ws", {"subprotocols": ["hashpit.v9"]}, 400),
    ],
)
async def test_an_upgrade_is_refused(server: Server, path: str, options: dict[str, Any], status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await connect(server.url.removesuffix("/ws") + path, **options)
    assert refused.value.response.status_code == status


async def test_an_upgrade_is_granted(server: Server) -> None:
    async with connect(server.url + "?x=1", origin=ORIGIN) as client:  # type: ignore[arg-type]
        assert client.subprotocol is None
    async with connect(server.url, subprotocols=["other", SUBPROTOCOL_JSON]) as client:  # type: ignore[list-item]
        assert client.subprotocol == SUBPROTOCOL_JSON
    async with RawSocket.to(server, Connection="keep-alive, Upgrade") as raw:  # as Firefox does
        raw.call("time")
        assert (await raw.answer())["id"] == 1


async def test_a_pong_keeps_its_place(server: Server) -> None:
    async with RawSocket.to(server) as raw:
        frames = [(TEXT, request("time", 1)), (PING, b"two"), (TEXT, request("time", 3))]
        raw.writer.write(b"".join(frame(kind, payload) for kind, payload in frames))
        assert (await raw.answer())["id"] == 1
        assert await raw.read() == (PONG, b"two")
        assert (await raw.answer())["id"] == 3


@pytest.mark.slow
async def test_a_handshake_that_dawdles_is_closed(server: Server) -> None:
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /ws HTTP/1.1\r\n")
    began = time.monotonic()
    async with asyncio.timeout(HANDSHAKE_S + 5):
        assert await reader.read() == b""
    assert time.monotonic() - began > HANDSHAKE_S - 1
    writer.close()


async def test_sockets_are_bounded(tmp_path: Path) -> None:
    text = config(connections_max=3, anonymous_max=2).replace("connections_per_ip_max = 3", "connections_per_ip_max = 100")
    async with running(tmp_path / "data", text) as server:
        first, second = await PlainClient.open(server.url), await PlainClient.open(server.url)
        async with connect(server.url) as third:
            await third.wait_closed()
            assert third.close_code == Close.TRY_AGAIN
        await first.login(server.operator)
        async with connect(server.url):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["Retry-After"] == "5"
            for _ in range(120):  # more than connections_per_ip_max: sockets of refused upgrades are given back
                with pytest.raises(InvalidStatus):
                    await connect(server.url + "/elsewhere")
        await second.close()
        await first.close()


def test_the_door_closes_what_is_too_much() -> None:
    door = Door(socket.AF_INET, sockets_max=3, per_address_max=2)
    door.bind(("127.0.0.1", 0))
    door.listen()
    clients = [socket.create_connection(door.getsockname()) for _ in range(3)]
    accepted = [door.accept()[0] for _ in range(2)]
    with pytest.raises(ConnectionAbortedError):
        door.accept()
    clients[2].settimeout(5)
    assert clients[2].recv(1) == b""
    assert door.open == 2
    accepted[0].close()
    accepted[0].close()
    assert door.open == 1
    clients.append(socket.create_connection(door.getsockname()))
    accepted.append(door.accept()[0])
    assert door.open == 2
    for sock in (*clients, *accepted, door):
        sock.close()
    assert door.open == 0


# ---------------------------------------------------------------------------------------------------------------- frames


async def test_fragments_are_joined_with_control_frames_between(server: Server) -> None:
    async with RawSocket.to(server) as raw:
        payload = request("time", 5)
        raw.send(TEXT, payload[:10], fin=False)
        raw.send(PING, b"between")
        raw.send(CONTINUATION, payload[10:20], fin=False)
        raw.send(PONG, b"unasked")
        raw.send(CONTINUATION, b"", fin=False)
        raw.send(CONTINUATION, payload[20:])
        assert await raw.read() == (PONG, b"between")
        assert (await raw.answer())["id"] == 5


async def test_a_message_of_the_largest_size_is_taken(server: Server) -> None:
    payload = request("time").ljust(FRAME_BYTES_MAX)
    async with RawSocket.to(server) as raw:
        raw.send(TEXT, payload)
        assert (await raw.answer())["id"] == 1
        for start in range(0, FRAME_BYTES_MAX, 8_192):
            last = start + 8_192 == FRAME_BYTES_MAX
            raw.send(TEXT if not start else CONTINUATION, payload[start : start + 8_192], fin=last)
        assert (await raw.answer())["id"] == 1


BROKEN: dict[str, tuple[list[bytes], int]] = {
    "one byte too large": ([frame(TEXT, b" " * (FRAME_BYTES_MAX + 1))], Close.TOO_BIG),
    "a sum that is too large": (
        [frame(TEXT, b" " * FRAME_BYTES_MAX, fin=False), frame(CONTINUATION, b" ")],
        Close.TOO_BIG,
    ),
    "a huge length": ([b"\x81\xff" + struct.pack(">Q", 2**62)], Close.TOO_BIG),
    "not masked": ([frame(TEXT, request("time"), mask=False)], 1002),
    "reserved bit": ([frame(TEXT, request("time"), reserved=4)], 1002),
    "reserved bit of a ping": ([frame(PING, b"", reserved=1)], 1002),
    "unknown opcode": ([frame(3, b"")], 1002),
    "continuation of nothing": ([frame(CONTINUATION, request("time"))], 1002),
    "a message inside a message": ([frame(TEXT, b"{", fin=False), frame(TEXT, b"}")], 1002),
    "fragmented ping": ([frame(PING, b"", fin=False)], 1002),
    "long ping": ([frame(PING, b" " * 126)], 1002),
    "binary on a text socket": ([frame(BINARY, request("time"))], Close.UNSUPPORTED),
    "binary fragments": ([frame(BINARY, b"{", fin=False)], Close.UNSUPPORTED),
    "not UTF-8": ([frame(TEXT, b'{"method": "\xff"}')], Close.NOT_UTF8),
    "not UTF-8 across fragments": ([frame(TEXT, b"\xe2\x82", fin=False), frame(CONTINUATION, b"(")], Close.NOT_UTF8),
    "flood of pings": ([frame(PING, b"")] * (EXTRA_FRAMES_MAX + 1), Close.FLOOD),
    "flood of fragments": (
        [frame(TEXT, b"", fin=False), *[frame(CONTINUATION, b"", fin=False)] * EXTRA_FRAMES_MAX],
        Close.FLOOD,
    ),
    "close with a local code": ([frame(CLOSE, struct.pack(">H", 1006))], 1002),
    "close with a wild code": ([frame(CLOSE, struct.pack(">H", 65_000))], 1002),
    "close": ([frame(CLOSE, struct.pack(">H", 1000) + b"bye")], 1000),
    "close without a code": ([frame(CLOSE, b"")], 1000),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_framing_is_answered_with_its_code(server: Server, name: str) -> None:
    frames, code = BROKEN[name]
    async with RawSocket.to(server) as raw:
        raw.writer.write(b"".join(frames))
        assert await raw.close_code() == code


# ---------------------------------------------------------------------------------------------------------- slow readers


async def test_a_reader_that_never_reads_is_closed_within_bounds(server: Server) -> None:
    """It asks and asks and takes no answer: its socket ends with 4003, the server's memory hardly grows, others are served."""
    async with PlainClient.to(server) as other, RawSocket.to(server) as raw:
        before = server.memory_bytes()
        raw.writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        packet = b"".join(frame(TEXT, request("markets", number)) for number in range(100))
        sent = 0
        try:
            async with asyncio.timeout(30):
                while not raw.writer.transport.is_closing() and sent < 40_000:
                    raw.writer.write(packet)
                    await raw.writer.drain()
                    sent += 100
                    if sent % 5_000 == 0:
                        await other.call("time")
        except (ConnectionError, TimeoutError):
            pass
        assert server.memory_bytes() - before < 64 * 2**20
        await other.call("time")
        assert '"code": 4003' in server.log_text() or '"code":4003' in server.log_text()


# -------------------------------------------------------------------------------------------------------------- the process


async def test_shutdown_by_signal(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as server:
        client = await PlainClient.open(server.url)
        process = server._process
        assert process is not None
        os.kill(server.pid, signal.SIGINT)
        assert await client.closed() == Close.GOING_AWAY
        assert await asyncio.to_thread(process.wait, 10) == 0


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """A peer that does not answer the close would hold up a graceful end for CLOSE_S."""
    async with running(tmp_path / "data") as other, RawSocket.to(other) as raw:
        process = other._process
        assert process is not None
        os.kill(other.pid, signal.SIGTERM)
        assert await raw.close_code() == Close.GOING_AWAY
        os.kill(other.pid, signal.SIGTERM)
        began = time.monotonic()
        assert await asyncio.to_thread(process.wait, 10) == 1
        assert time.monotonic() - began < CLOSE_S / 2


async def test_markets_are_listed_before_the_door_opens(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as server, PlainClient.to(server) as client:
        assert len(await client.call("markets")) == 3


async def test_a_failing_disk_stops_the_process(tmp_path: Path) -> None:
    """No answer for what is not durable, close code 1011, one clear line, exit status 1; and all is well after a restart."""
    async with running(tmp_path / "data") as server:
        client = await PlainClient.open(server.url)
        await client.login(server.operator)
        await client.call("create_account", name="before")
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = max(path.stat().st_size for path in server.data_dir.iterdir())
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, hard))
        answers = [client.start("create_account", name=f"after-{number}") for number in range(200)]
        await asyncio.gather(*answers, return_exceptions=True)
        assert await client.closed() == Close.FAILED
        assert await server.ended() == 1
        assert [line for line in server.log_text().splitlines() if line.startswith("hashpit: stopped: ")]
        await server.start()
        async with PlainClient.to(server, server.operator) as again:
            known = {answer.result()["account"] for answer in answers if not answer.exception()}
            assert (await again.call("create_account", name="later"))["account"] > max(known, default=100)


async def test_a_second_server_refuses_the_same_data(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as server:
        done = await run_gateway(server.data_dir)
        assert done.returncode == 1
        assert "hashpit: " in done.stderr
        assert "is in use by" in done.stderr


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nhost = '0.0.0.0'", "server.host: '0.0.0.0' is not loopback"),
        ("[server]\ntls_certificate = 'no.pem'\ntls_key = 'no.pem'", "server.tls_certificate, server.tls_key: cannot be used"),
        ("[[listings]]\nalgorithm = 'SHA3'", "listings[0].algorithm: 'SHA3' is none of"),
    ],
)
async def test_a_configuration_that_cannot_work_stops_the_start(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    done = await run_gateway(tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


async def test_an_address_that_is_not_to_be_had_may_be_later(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[server]\nhost = '192.0.2.1'\nallow_plain_remote = true")
    done = await run_gateway(tmp_path)
    assert done.returncode == 1
    assert "hashpit: server.host, server.port: cannot listen on 192.0.2.1:8765: " in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "config.toml").write_text(f"[server]\nport = {taken.getsockname()[1]}")
        done = await run_gateway(tmp_path)
    assert done.returncode == 1
    assert "is another server running there? `--port` chooses another" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_misspelt_directory_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    for name in ("misspelt", "a-file"):
        done = await run_gateway(tmp_path / name)
        assert done.returncode == 2
        assert f"run `hashpit init {tmp_path / name}`" in done.stderr
    assert not (tmp_path / "misspelt").exists()


async def test_the_log_tells_of_start_and_stop(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", "[server]\nport = 0\n[log]\nformat = 'json'")
    await server.start()
    assert await server.stop() == 0
    events = [json.loads(line) for line in server.log_text().splitlines()]
    assert [event["event"] for event in events] == ["started", "stopping", "stopped"]
    assert events[0]["url"].startswith("ws://127.0.0.1:")


def test_an_exchange_without_markets_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[server]\nport = 0")
    command = [sys.executable, "-m", "gateway", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
    assert lines[0].startswith("hashpit: ws://127.0.0.1:")
    assert "no market is listed" in lines[1]


async def test_cancels_are_taken_for_a_while_when_the_exchange_stops(tmp_path: Path) -> None:
    async with running(tmp_path / "data", config(stop_ms=60_000)) as server:
        key = await server.trader("maker", "1")
        async with PlainClient.to(server, key) as maker:
            market = (await maker.call("markets"))[0]["market"]
            order = {"market": market, "side": "sell", "price": "0.0005", "qty": "1"}
            placed = [(await maker.call("place", **order))["order_id"] for _ in range(2)]
            await maker.call("subscribe", channels=["status"])
            stopped = asyncio.create_task(server.stop())
            assert (await next_of(maker, "status"))["data"] == {"event": "server", "state": "stopping"}
            with pytest.raises(RpcError) as refused:
                await maker.call("place", **order)
            assert refused.value.data["reason"] == "shutting_down"
            assert (await maker.call("cancel", order_id=placed[0]))["order_id"] == placed[0]
            assert not stopped.done()
        # The last one who was logged in is gone: there is nothing to wait for.
        assert await stopped == 0
        await server.start()
        async with PlainClient.to(server, key) as maker:
            assert [order["order_id"] for order in await maker.call("orders")] == placed[1:]


async def test_the_time_for_cancels_ends(tmp_path: Path) -> None:
    async with running(tmp_path / "data", config(stop_ms=50)) as server:
        client = await PlainClient.open(server.url)
        await client.login(server.operator)
        assert await server.stop() == 0
        assert await client.closed() == Close.GOING_AWAY


async def run_gateway(data_dir: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "gateway", str(data_dir)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


async def test_tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    text = config(connections_max=20).replace("port = 0", f'port = 0\ntls_certificate = "{certificate}"\ntls_key = "{key}"')
    async with running(tmp_path / "data", text) as server:
        assert server.url.startswith("wss://")
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with connect(server.url, ssl=trusting) as client:
            assert json.loads(await client.recv())["method"] == "hello"
            for number in range(50):
                await client.send(request("markets", number).decode())
            assert [json.loads(await client.recv())["id"] for _ in range(50)] == [*range(50)]
        for _ in range(40):  # more than connections_per_ip_max: sockets of failed handshakes are given back
            _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2].partition("/")[0]))
            writer.write(b"GET /ws HTTP/1.1\r\n\r\n")
            writer.close()
            await asyncio.sleep(0.01)
        old = ssl.create_default_context(cafile=str(certificate))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(server.url, ssl=old)
        async with connect(server.url, ssl=trusting):
            pass


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].touch(mode=0o600)
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
