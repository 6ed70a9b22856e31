"""Attacks over the network against a real server process; docs/SECURITY.md names them as proof.

Everybody comes from an address of their own in 127.0.0.0/8, so that limits per address hold as they would outside. 127.0.0.1
is a trusted proxy.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from msgspec import msgpack

from gateway.auth import LOGIN_WINDOW_US, KeyStore
from gateway.config import parse
from gateway.ratelimit import IP_LOGINS, KEY_FAILURES
from gateway.server import Server as Door
from gateway.server import tls_context
from gateway.wire import FRAME_BYTES_MAX, SUBPROTOCOL_MSGPACK, Close, ErrorCode
from hashpit.client import Client
from hashpit.errors import HashpitError
from tests.gateway.test_server import self_signed
from tests.hostile.sockets import BINARY, CLOSE, GONE, TEXT, Frame, RawSocket, frame, handshake
from tests.support import PlainClient, Server, TestKey, config, running

ORIGIN: Final = "https://trade.example"
PROXY: Final = "127.0.0.1"
MIB: Final = 2**20
HEAD_BYTES_MAX: Final = 16 * 1024
"""The largest head of a request that the websocket library takes."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    text = config().replace("port = 0", f'port = 0\norigins = ["{ORIGIN}"]\ntrusted_proxies = ["{PROXY}"]')
    server = Server(tmp_path_factory.mktemp("attacked") / "data", text)
    asyncio.run(server.start())
    yield server
    assert server.is_running, server.log_text()
    server.kill(whole_group=True)


_addresses = (f"127.1.{number // 250}.{number % 250 + 1}" for number in count())


def new_address() -> str:
    """One that nobody came from before."""
    return next(_addresses)


class Caller:
    """A websocket by hand that makes calls."""

    def __init__(self, raw: RawSocket, challenge: str) -> None:
        self.raw = raw
        self.challenge = challenge

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The whole answer, a result or an error."""
        return await self.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode())

    async def send(self, payload: bytes) -> dict[str, Any]:
        await self.raw.send(frame(payload))
        while True:
            found = await self.raw.read()
            assert found.opcode == TEXT, f"closed with {found.close_code}"
            message: dict[str, Any] = json.loads(found.payload)
            if "id" in message:
                self.challenge = message.get("error", {}).get("data", {}).get("challenge") or self.challenge
                return message

    async def reason(self, method: str, **params: Any) -> str:
        """Why a call is refused; empty when it is not."""
        answer = await self.call(method, **params)
        return str(answer["error"]["data"]["reason"]) if "error" in answer else ""


@asynccontextmanager
async def caller(server: Server, source: str = "", extra: str = "") -> AsyncIterator[Caller]:
    raw = await RawSocket.connect(server.url, source=source or new_address())
    try:
        assert await raw.upgrade(handshake(raw.host, extra=extra)) == 101
        hello = json.loads((await raw.read()).payload)
        yield Caller(raw, hello["params"]["challenge"])
    finally:
        raw.abort()


async def alive(server: Server) -> None:
    """Honest people are served."""
    async with caller(server) as honest:
        assert "result" in await honest.call("time")


# ------------------------------------------------------------------------------------------------------------- handshake


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 101),
        (ORIGIN, 101),
        ("https://evil.example", 403),
        ("http://trade.example", 403),
        ("https://trade.example:8443", 403),
        ("https://trade.example.evil.example", 403),
        ("https://TRADE.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_web_pages_connect_from_listed_origins_only(server: Server, origin: str | None, status: int) -> None:
    raw = await RawSocket.connect(server.url, source=new_address())
    extra = "" if origin is None else f"Origin: {origin}\r\n"
    assert await raw.upgrade(handshake(raw.host, extra=extra)) == status
    raw.abort()


async def test_a_second_origin_does_not_help(server: Server) -> None:
    raw = await RawSocket.connect(server.url, source=new_address())
    extra = f"Origin: https://evil.example\r\nOrigin: {ORIGIN}\r\n"
    assert await raw.upgrade(handshake(raw.host, extra=extra)) == 403
    raw.abort()


async def test_compression_is_never_agreed_to(server: Server) -> None:
    """So a small frame cannot grow inside the server. 64 MiB of zeros arrive as 64 KiB, and end the socket."""
    raw = await RawSocket.connect(server.url, source=new_address())
    await raw.send(handshake(raw.host, extra="Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"))
    head = await raw.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert b"extensions" not in head.lower()
    await raw.read()
    before = server.memory_bytes()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeeze.compress(bytes(60 * MIB)) + squeeze.flush()
    assert len(bomb) <= FRAME_BYTES_MAX
    await raw.send(frame(bomb, reserved=4))
    assert await raw.close_code() == Close.PROTOCOL
    raw.abort()
    assert server.memory_bytes() - before < 16 * MIB


async def test_an_endless_handshake_is_cut(server: Server) -> None:
    before = server.memory_bytes()
    raws = [await RawSocket.connect(server.url, source=new_address()) for _ in range(20)]
    for raw in raws:
        await raw.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"y" * (4 * HEAD_BYTES_MAX))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(20):
                while await raw.reader.read(65_536):
                    pass  # an HTTP status, perhaps, and then the end
        raw.abort()
    assert server.memory_bytes() - before < 8 * MIB
    await alive(server)


async def test_more_headers_than_anybody_needs_are_refused(server: Server) -> None:
    raw = await RawSocket.connect(server.url, source=new_address())
    assert await raw.upgrade(handshake(raw.host, extra="X: y\r\n" * 200)) in (400, 431, GONE)
    raw.abort()


async def test_nothing_of_the_url_is_a_secret_or_a_login(server: Server) -> None:
    """A query string is ignored: nobody can be made to log in by a link, and nothing of it is logged."""
    raw = await RawSocket.connect(server.url, source=new_address())
    assert await raw.upgrade(handshake(raw.host, path="/ws?token=5ec2e7&key=k-1")) == 101
    asking = Caller(raw, json.loads((await raw.read()).payload)["params"]["challenge"])
    assert await asking.reason("balances") == "login_required"
    raw.abort()
    assert "5ec2e7" not in server.log_text()


# ------------------------------------------------------------------------------------------------- who is behind a proxy


@pytest.mark.parametrize(
    ("forwarded", "allowed"),
    [
        ("X-Forwarded-For: 192.0.2.7\r\n", True),
        ("X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", True),
        ("X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n", True),
        ("X-Forwarded-For: 192.0.2.7, 203.0.113.9\r\n", False),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 203.0.113.9\r\n", False),
        ("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: \r\n", False),
        ("X-Forwarded-For: unknown\r\n", False),
        ("X-Forwarded-For: 192.0.2.7:1234\r\n", False),
        ("Forwarded: for=192.0.2.7\r\n", False),
        ("", False),
    ],
)
async def test_what_a_client_says_of_its_address_counts_for_nothing(server: Server, forwarded: str, allowed: bool) -> None:
    """The proxy's own word comes last, on the client's line or on one of its own."""
    key = await bound_key(server, "192.0.2.7")
    async with caller(server, PROXY, forwarded) as client:
        assert await client.reason("login", **key.login(client.challenge)) == ("" if allowed else "ip_not_allowed")


async def test_only_a_trusted_proxy_may_name_the_client(server: Server) -> None:
    key = await bound_key(server, "192.0.2.7")
    async with caller(server, new_address(), "X-Forwarded-For: 192.0.2.7\r\n") as client:
        assert await client.reason("login", **key.login(client.challenge)) == "ip_not_allowed"


@pytest.mark.parametrize(
    ("peer", "ip"), [("10.0.0.1", "192.0.2.7"), ("::ffff:10.0.0.1", "192.0.2.7"), ("10.0.0.2", "10.0.0.2")]
)
def test_a_proxy_is_known_by_its_address_through_any_door(peer: str, ip: str) -> None:
    proxies = cast(Any, SimpleNamespace(_proxies=frozenset({"10.0.0.1"})))
    assert Door.client_ip(proxies, peer, "192.0.2.7") == ip


async def bound_key(server: Server, ip: str) -> TestKey:
    """A key of the house that may be used from one address."""
    key = TestKey()
    async with caller(server) as operator:
        assert "result" in await operator.call("login", **server.operator.login(operator.challenge))
        params = {"account": 1, "permissions": ["read"], "public_key": key.public_key, "ip_list": [ip]}
        key.key_id = (await operator.call("add_key", **params))["result"]["key"]["key"]
    return key


# ----------------------------------------------------------------------------------------------------------------- logins


async def test_a_captured_login_is_worth_nothing(server: Server) -> None:
    """Neither on the socket that it was made for, nor on another, nor with another time, key or challenge in it."""
    async with caller(server) as client, caller(server) as thief:
        captured = server.operator.login(client.challenge)
        assert await thief.reason("login", **captured) == "login_failed"
        assert await client.reason("login", **captured) == ""
        assert await thief.reason("login", **captured) == "login_failed"
        assert "result" in await client.call("logout")
        assert await client.reason("login", **captured) == "login_failed"
        changed = captured | {"timestamp_us": captured["timestamp_us"] + 1}
        assert await client.reason("login", **changed) == "login_failed"
        assert await thief.reason("balances") == await client.reason("balances") == "login_required"


@pytest.mark.parametrize(("skew_us", "reason"), [(-1, ""), (1, ""), (-2, "outside"), (2, "outside")])
async def test_clocks_may_differ_by_the_window_and_no_more(server: Server, skew_us: int, reason: str) -> None:
    half = LOGIN_WINDOW_US * 6 // 10
    async with caller(server) as client:
        stamp = time.time_ns() // 1_000 + skew_us * half
        found = await client.reason("login", **server.operator.login(client.challenge, stamp))
        assert found == ("timestamp_outside_window" if reason else "")


async def test_a_login_belongs_to_its_socket_and_cannot_be_prepared(server: Server) -> None:
    """Session fixation: what an attacker knows or chose before the login is worth nothing after it."""
    source = new_address()
    async with caller(server, source) as first, caller(server, source) as second:
        assert first.challenge != second.challenge
        assert await first.reason("login", **server.operator.login(first.challenge)) == ""
        assert await second.reason("balances") == "login_required"
        assert await first.reason("login", **server.operator.login(first.challenge)) == "logged_in"
        before = first.challenge
        after = (await first.call("logout"))["result"]["challenge"]
        assert before != after
        assert await first.reason("balances") == "login_required"


async def test_guessing_is_throttled_by_address(server: Server) -> None:
    source = new_address()
    reasons: list[str] = []
    async with caller(server, source) as guesser:
        for number in range(IP_LOGINS.burst + 20):
            wrong = server.operator.login(guesser.challenge) | {"key": f"k-{number}"}
            reasons.append(await guesser.reason("login", **wrong))
    assert set(reasons) == {"login_failed", "rate_limited"}
    assert reasons.count("login_failed") < IP_LOGINS.burst + 20
    async with caller(server, source) as neighbour:
        assert await neighbour.reason("login", **server.operator.login(neighbour.challenge)) == "rate_limited"
    async with caller(server) as owner:
        assert await owner.reason("login", **server.operator.login(owner.challenge)) == ""


async def test_nobody_can_lock_the_owner_of_a_key_out(server: Server) -> None:
    for _ in range(3):
        async with caller(server) as stranger:
            for _ in range(KEY_FAILURES.burst + 5):
                wrong = server.operator.login(stranger.challenge) | {"signature": "00" * 64}
                last = await stranger.reason("login", **wrong)
            assert last == "rate_limited"
    async with caller(server) as owner:
        assert await owner.reason("login", **server.operator.login(owner.challenge)) == ""


async def test_wrong_logins_of_known_and_unknown_keys_look_alike(server: Server) -> None:
    async with caller(server) as client:
        known = await client.call("login", **(server.operator.login(client.challenge) | {"signature": "00" * 64}))
        unknown = await client.call("login", **(server.operator.login(client.challenge) | {"key": "k-0123456789abcdef"}))
    for answer in (known, unknown):
        del answer["budget"], answer["error"]["data"]["challenge"]
    assert known == unknown


@pytest.mark.parametrize("how", ["over the wire", "in the file"])
async def test_revoking_ends_open_sockets(server: Server, how: str) -> None:
    key = TestKey()
    stored, _ = KeyStore(server.data_dir).add(1, ["read"], public_key=key.public_key)
    key.key_id = stored.key_id
    async with caller(server) as client:
        for _ in range(20):  # until the server has looked at the file
            if not await client.reason("login", **key.login(client.challenge)):
                break
            await asyncio.sleep(0.5)
        assert "result" in await client.call("balances")
        if how == "in the file":
            KeyStore(server.data_dir).revoke(key.key_id)
        else:
            async with caller(server) as operator:
                assert "result" in await operator.call("login", **server.operator.login(operator.challenge))
                assert "result" in await operator.call("revoke_key", key=key.key_id)
        assert await client.raw.close_code() == Close.KEY_REVOKED
    async with caller(server) as client:
        assert await client.reason("login", **key.login(client.challenge)) == "login_failed"


# ------------------------------------------------------------------------------------------------------ bytes as weapons


NUMBERS: Final = [
    "1e999999",
    "1E5",
    "9" * 26,
    "0." + "0" * 24 + "1",
    "-1",
    "+1",
    "0x10",
    "1_000",
    "NaN",
    "Infinity",
    "١٢",
    "１",
]


async def test_numbers_as_weapons_are_refused(server: Server) -> None:
    key = await server.trader("numbers")
    async with caller(server) as client:
        assert await client.reason("login", **key.login(client.challenge)) == ""
        market = (await client.call("markets"))["result"][0]["market"]
        for text in NUMBERS:
            for field in ("price", "qty"):
                order = {"market": market, "side": "buy", "price": "0.0005", "qty": "1"} | {field: text}
                answer = await client.call("place", **order)
                assert answer["error"]["code"] == ErrorCode.INVALID_PARAMS, (text, answer)
                assert answer["error"]["data"]["field"] == f"params.{field}"


HEAD: Final = b'{"jsonrpc":"2.0","id":1,"method":"time","params":'
PAYLOADS: Final = {
    "a number of 60,000 digits": HEAD + b'{"x":' + b"9" * 60_000 + b"}}",
    "a number of 60,000 digits for an id": b'{"jsonrpc":"2.0","method":"time","id":' + b"9" * 60_000 + b"}",
    "an exponent": b'{"jsonrpc":"2.0","method":"time","id":1e999999}',
    "a long fraction": b'{"jsonrpc":"2.0","method":"time","id":0.' + b"1" * 60_000 + b"}",
    "60,000 brackets": HEAD + b"[" * 60_000,
    "30,000 objects": HEAD + b'{"a":' * 13_000,
    "a batch of brackets": b"[" * 65_000,
    "a batch of 32,000": b"[" + b"1," * 32_000 + b"1]",
    "a key twice": b'{"jsonrpc":"2.0","id":1,"id":2,"method":"time"}',
    "5,000 keys of one name": HEAD + b"{" + b",".join([b'"x":1'] * 5_000) + b"}}",
    "escapes without end": HEAD + b'{"' + b"\\u0000" * 10_000 + b'":1}}',
    "half an escape": HEAD + b'{"\\ud800":1}}',
}


@pytest.mark.parametrize("name", PAYLOADS)
async def test_json_as_a_weapon_is_answered_as_an_error(server: Server, name: str) -> None:
    before = server.memory_bytes()
    async with caller(server) as client:
        answer = await client.send(PAYLOADS[name])
        assert answer["error"]["code"] in (ErrorCode.PARSE, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_PARAMS)
        assert len(json.dumps(answer)) < 4_000, "an error repeats little of what came"
        assert "result" in await client.call("time")
    assert server.memory_bytes() - before < 16 * MIB


COUNTS: Final = {
    "array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "extension of 4 GiB": b"\xc9\xff\xff\xff\xff\x00",
    "array of 4 billion, begun": b"\xdd\xff\xff\xff\xff" + b"\x01" * 60_000,
    "60,000 arrays in each other": b"\x91" * 60_000,
    "arrays of thousands in each other": b"\xdd\x00\x00\xff\xff" * 12_000,
    "maps in each other": b"\x81\xa1a" * 20_000,
}


@pytest.mark.parametrize("name", COUNTS)
async def test_messagepack_that_promises_too_much_is_answered_as_an_error(server: Server, name: str) -> None:
    before = server.memory_bytes()
    raw = await RawSocket.open(server.url, SUBPROTOCOL_MSGPACK, source=new_address())
    inside = b"\x84\xa7jsonrpc\xa32.0\xa2id\x07\xa6method\xa4time\xa6params" + COUNTS[name]
    for payload in (COUNTS[name], inside):
        await raw.send(frame(payload, BINARY))
        found = await raw.read()
        assert found.opcode == BINARY, f"closed with {found.close_code}"
        assert "error" in msgpack.decode(found.payload)
    raw.abort()
    assert server.memory_bytes() - before < 16 * MIB


async def test_a_flood_of_bytes_in_one_message_is_cut(server: Server) -> None:
    """A million digits are more than a message may have; nothing of them is parsed."""
    raw = await RawSocket.open(server.url, source=new_address())
    await raw.send(frame(b'{"id":' + b"9" * 1_000_000 + b"}"))
    assert await raw.close_code() in (Close.TOO_BIG, GONE)
    raw.abort()


# ------------------------------------------------------------------------------------------------------- what is logged


async def test_nothing_from_outside_forges_a_log_line(server: Server) -> None:
    nasty = 'x\r\n{"event":"started","level":"info"}\x1b[2J\x9b1m\u202e\u2028'
    async with caller(server) as client:
        await client.call("login", **(server.operator.login(client.challenge) | {"key": nasty[:64]}))
        await client.call(nasty)
    raw = await RawSocket.connect(server.url, source=new_address())
    await raw.upgrade(handshake(raw.host, extra="Origin: https://evil.example/\x9b2J\x85forged\r\n"))
    raw.abort()
    async with caller(server, PROXY, "X-Forwarded-For: a\x85b\r\n") as client:
        await client.call("login", **(server.operator.login(client.challenge) | {"key": "k-none"}))
    text = server.log_text()
    for line in text.removesuffix("\n").split("\n"):
        told = json.loads(line)
        assert told["event"] != "started" or "url" in told, "forged"
        for value in told.values():
            assert not isinstance(value, str) or value.isprintable(), value
    assert all(character == "\n" or character.isprintable() for character in text)


async def test_no_secret_and_no_signature_is_logged_or_told(server: Server) -> None:
    async with caller(server) as operator:
        login = server.operator.login(operator.challenge)
        assert "result" in await operator.call("login", **login)
        made = (await operator.call("add_key", account=1, permissions=["read"], kind="hmac"))["result"]
        secret, key_id = made["secret"], made["key"]["key"]
        assert len(bytes.fromhex(secret)) == 32
        told = json.dumps(await operator.call("keys"))
        await operator.call("revoke_key", key=key_id)
    stored = (server.data_dir / "keys.json").read_text() + (server.data_dir / "master.key").read_text()
    for text in (server.log_text(), told, stored):
        assert secret not in text
        assert login["signature"] not in text
    assert "sealed_secret" not in told


async def test_what_is_worth_a_look_is_logged_with_who_and_from_where(server: Server) -> None:
    """Logins and failures, refused permissions and origins, closed sockets: in UTC, with key, account and address."""
    key = await server.trader("watched")
    source = new_address()
    async with caller(server, source) as client:
        await client.call("login", **(key.login(client.challenge) | {"signature": "00" * 64}))
        await client.call("login", **key.login(client.challenge))
        assert await client.reason("create_account", name="mine") == "permission"
    raw = await RawSocket.connect(server.url, source=source)
    await raw.upgrade(handshake(raw.host, extra="Origin: https://evil.example\r\n"))
    raw.abort()
    told = {line["event"]: line for line in map(json.loads, server.log_text().splitlines())}
    assert told["login failed"]["key"] == told["login"]["key"] == key.key_id
    assert told["login failed"]["ip"] == told["login"]["ip"] == source
    refused = told["permission refused"]
    assert (refused["key"], refused["account"], refused["method"]) == (key.key_id, key.account, "create_account")
    assert told["origin refused"]["origin"] == "https://evil.example"
    assert all(line["timestamp"].endswith("Z") for line in told.values())


# ------------------------------------------------------------------------------------------------- what others may reach


async def test_the_server_calls_nobody(server: Server) -> None:
    """A buyer's pool is written down, and never connected to: no socket of the process leads anywhere but to its own door."""
    pool = socket.create_server(("127.0.0.1", 0))
    pool.setblocking(False)
    url = f"stratum+tcp://127.0.0.1:{pool.getsockname()[1]}"
    key = await server.trader("buyer")
    async with caller(server) as buyer:
        assert await buyer.reason("login", **key.login(buyer.challenge)) == ""
        market = (await buyer.call("markets"))["result"][0]["market"]
        assert (await buyer.call("set_destination", market=market, url=url, worker="w"))["result"]["url"] == url
        for other in ("http://169.254.169.254/", "file:///etc/passwd", "stratum+tcp://x", f"{url}\r\nX: y", "gopher://x:1"):
            assert await buyer.reason("set_destination", market=market, url=other, worker="w") == "destination_invalid"
    with pytest.raises(BlockingIOError):
        pool.accept()
    pool.close()
    door = int(server.url.rpartition(":")[2].partition("/")[0])
    assert sockets_of(server.pid) == {door}


def sockets_of(pid: int) -> set[int]:
    """The local ports of a process's internet sockets."""
    links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
    inodes = {link.removeprefix("socket:[").rstrip("]") for link in links}
    ports = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[9] in inodes:
                ports.add(int(words[1].rpartition(":")[2], 16))
    return ports


async def test_a_crowd_of_one_address_keeps_nobody_else_out(server: Server) -> None:
    text = config(anonymous_max=5)
    async with running(server.data_dir.parent / "crowded", text) as crowded:
        source = new_address()
        raws = [await RawSocket.connect(crowded.url, source=source) for _ in range(12)]
        greetings: list[Frame] = []
        for raw in raws:
            assert await raw.upgrade(handshake(raw.host)) == 101
            greetings.append(await raw.read())
        closed = [greeting.close_code for greeting in greetings if greeting.opcode == CLOSE]
        assert closed == [Close.TRY_AGAIN] * 7
        await alive(crowded)
        for raw in raws:
            raw.abort()


async def test_errors_tell_nothing_of_the_inside(server: Server) -> None:
    """No path, no traceback, no library by name, in answers, close frames and HTTP."""
    told = b""
    for request in (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"BREW /ws\r\n\r\n", handshake("x", subprotocol="chat")):
        raw = await RawSocket.connect(server.url, source=new_address())
        await raw.send(request)
        with contextlib.suppress(ConnectionError):
            told += await raw.reader.read(65_536)
        raw.abort()
    async with caller(server) as client:
        for payload in (b"{", b"[]", b'{"jsonrpc":"2.0","id":1,"method":"__class__"}', *PAYLOADS.values()):
            told += json.dumps(await client.send(payload)).encode()
    for word in (b"Traceback", b".py", b"/home", str(server.data_dir).encode(), b"msgspec", b"picows", b"Python", b"Error("):
        assert word not in told, word


# -------------------------------------------------------------------------------------------------------------------- TLS


async def test_tls_keys_and_clients_that_do_not_look(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    text = config().replace("port = 0", f'port = 0\ntls_certificate = "{certificate}"\ntls_key = "{key}"')
    context = tls_context(parse(text).server)
    assert context is not None
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    async with running(tmp_path / "data", text) as server:
        with pytest.raises((HashpitError, OSError)):  # the SDK trusts nobody whom the system does not trust
            async with asyncio.timeout(20):
                await Client(server.url).connect()
        plain = await RawSocket.connect(server.url.replace("wss:", "ws:"))
        assert await plain.upgrade(handshake(plain.host)) == GONE
        plain.abort()
        for name in ("RC4-SHA:@SECLEVEL=0", "AES128-SHA:@SECLEVEL=0", "NULL-SHA256:@SECLEVEL=0"):
            weak = ssl.create_default_context(cafile=str(certificate))
            weak.maximum_version = ssl.TLSVersion.TLSv1_2
            try:
                weak.set_ciphers(name)
            except ssl.SSLError:
                continue  # not even the client has it
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2].partition("/")[0]), ssl=weak)


async def test_a_close_frame_says_no_more_than_it_should(server: Server) -> None:
    raw = await RawSocket.open(server.url, source=new_address())
    await raw.send(frame(struct.pack(">H", 3_000) + b"x" * 100, CLOSE))
    found = await raw.read()
    assert (found.opcode, found.payload) == (CLOSE, struct.pack(">H", 3_000)), "nothing of the reason comes back"
    raw.abort()


async def test_the_honest_are_served_to_the_end(server: Server) -> None:
    await alive(server)
    async with PlainClient.to(server, server.operator) as operator:
        assert (await operator.call("balances"))["account"] == 1
    assert '"level": "error"' not in server.log_text(), server.log_text()[-4_000:]
