"""Attacks: each opens sockets, does its worst, and judges what came back.

An attack is ``async def attack(siege)``; it counts every frame it sends with ``siege.sent`` and reports what a good server
would not have done with ``siege.fault``. Attacks of one name differ by the siege's random numbers.
"""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final, Protocol

import msgspec

from gateway.wire import FRAME_BYTES_MAX, SUBPROTOCOL_MSGPACK, Close
from tests.hostile.calls import ANONYMOUS, Case, call, cases, fault_of, msgpack_cases, not_permitted, trader_cases
from tests.hostile.sockets import BINARY, CLOSE, GONE, PING, PONG, TEXT, RawSocket, Refused, frame, handshake
from tests.support import TestKey

DOCUMENTED: Final = frozenset(
    {1000, 1002} | {value for name, value in vars(Close).items() if isinstance(value, int) and not name.startswith("_")}
)
"""Close codes of docs/PROTOCOL.md."""
CALLS_PER_SOCKET: Final = 90
"""Malformed calls that an attack sends over one socket; somewhat fewer than the server stands for."""
FLOOD_FRAMES: Final = 400
SLOW: Final = "calls of slow readers"
SLOW_CALLS: Final = 12_000
"""Calls of one slow reader at full speed; their answers are more than the server keeps for a socket."""
SLOW_S_MAX: Final = 60.0
SLOW_BUFFER_BYTES: Final = 4_096


class Siege(Protocol):
    """What attacks need of the campaign."""

    url: str
    random: Random
    market: str
    anonymous_max: int
    reader: TestKey
    """May only read."""
    trader: TestKey
    """May trade, and has nothing to trade with."""

    def sent(self, kind: str, frames: int = 1) -> None: ...
    def fault(self, kind: str, what: str) -> None: ...
    def closed(self, code: int) -> None: ...


Attack = Callable[[Siege], Awaitable[None]]


# --------------------------------------------------------------------------------------------------------- well framed


async def _answers(siege: Siege, kind: str, raw: RawSocket, makers: list[Callable[[Random, int], Case]], binary: bool) -> None:
    """Send bad calls one by one; each has to be answered with the error it deserves."""
    decode = msgspec.msgpack.decode if binary else json.loads
    for case in cases(makers, siege.random, CALLS_PER_SOCKET):
        await raw.send(frame(case.payload, BINARY if binary else TEXT))
        siege.sent(kind)
        answer = await _answer(raw, decode)
        if isinstance(answer, int):
            siege.closed(answer)
            if answer != Close.FLOOD:
                siege.fault(kind, f"closed with {answer} after {case.payload[:300]!r}")
            return
        fault = fault_of(case, answer)
        if fault:
            siege.fault(kind, f"{fault}: {case.payload[:300]!r} -> {str(answer)[:400]}")
    siege.closed(await raw.end())


async def _answer(raw: RawSocket, decode: Callable[[bytes], Any]) -> Any:
    """The next message that is not a notification; a close code when the socket ended instead."""
    while True:
        found = await raw.read()
        if found.opcode == CLOSE:
            raw.abort()
            return found.close_code
        if found.opcode in (TEXT, BINARY):
            message = decode(found.payload)
            if not (isinstance(message, dict) and "method" in message):
                return message


async def malformed_calls(siege: Siege) -> None:
    await _answers(siege, "malformed calls", await RawSocket.open(siege.url), ANONYMOUS, binary=False)


async def malformed_msgpack(siege: Siege) -> None:
    raw = await RawSocket.open(siege.url, SUBPROTOCOL_MSGPACK)
    await _answers(siege, "malformed MessagePack", raw, [msgpack_cases], binary=True)


async def unpermitted_calls(siege: Siege) -> None:
    raw = await _logged_in(siege, siege.reader)
    if raw is not None:
        await _answers(siege, "calls beyond the key's permissions", raw, [not_permitted], binary=False)


async def malformed_orders(siege: Siege) -> None:
    raw = await _logged_in(siege, siege.trader)
    if raw is not None:
        await _answers(siege, "malformed orders", raw, trader_cases(siege.market), binary=False)


async def _logged_in(siege: Siege, key: TestKey) -> RawSocket | None:
    """A socket with a login, from an address of its own; None where that address had too many logins."""
    raw = await RawSocket.connect(siege.url, source=f"127.0.2.{siege.random.randint(1, 250)}")
    assert await raw.upgrade(handshake(raw.host)) == 101
    greeting = await raw.read()
    if greeting.opcode == CLOSE:
        raise Refused(greeting.close_code)
    hello = json.loads(greeting.payload)
    await raw.send(frame(call("login", key.login(hello["params"]["challenge"]), 0)))
    siege.sent("logins")
    answer = await _answer(raw, json.loads)
    if isinstance(answer, dict) and "result" in answer:
        return raw
    if not (isinstance(answer, dict) and answer["error"]["data"]["reason"] == "rate_limited"):
        siege.fault("logins", f"a correct login got {answer}")
    await raw.end()
    return None


async def mixed_batch(siege: Siege) -> None:
    """A batch of good and bad calls: one answer each, in order."""
    raw = await RawSocket.open(siege.url)
    made = list(cases(ANONYMOUS, siege.random, 20))
    parts = [case for case in made if case.id is not None and len(case.payload) < 1_000]
    payload = b"[" + b",".join(case.payload for case in parts) + b"]" if parts else b"[1]"
    await raw.send(frame(payload))
    siege.sent("batches")
    answer = await _answer(raw, json.loads)
    if parts and not (isinstance(answer, list) and len(answer) == len(parts)):
        siege.fault("batches", f"{len(parts)} calls got {str(answer)[:300]}")
    elif parts:
        for case, one in zip(parts, answer, strict=True):
            fault = fault_of(case, one)
            if fault:
                siege.fault("batches", f"{fault}: {case.payload!r} -> {one}")
    siege.closed(await raw.end())


async def nested_batch(siege: Siege) -> None:
    raw = await RawSocket.open(siege.url)
    await raw.send(frame(siege.random.choice([b"[[]]", b'[[{"jsonrpc":"2.0","id":1,"method":"time"}]]', b"[{},1,null,[]]"])))
    siege.sent("batches")
    answer = await _answer(raw, json.loads)
    if not isinstance(answer, list) or not all("error" in one for one in answer):
        siege.fault("batches", f"a nested batch got {answer}")
    siege.closed(await raw.end())


async def subscribe_storm(siege: Siege) -> None:
    """Every public channel again and again, with unsubscribes and resyncs between."""
    raw = await RawSocket.open(siege.url)
    names = ["status", *(f"{kind}.{siege.market}" for kind in ("book", "trades", "ticker")), f"book.{siege.market}.100ms"]
    count = 0
    for number in range(100):
        method = siege.random.choice(["subscribe", "subscribe", "unsubscribe", "resync"])
        params: dict[str, Any] = {"channel": siege.random.choice(names)} if method == "resync" else {"channels": names * 3}
        await raw.send(frame(call(method, params, number)))
        siege.sent("subscribe storms")
        count += 1
    while count:
        answer = await _answer(raw, json.loads)
        if isinstance(answer, int):
            siege.closed(answer)
            siege.fault("subscribe storms", f"closed with {answer}")
            return
        count -= 1
    siege.closed(await raw.end())


# ------------------------------------------------------------------------------------------------------------- framing


async def _expect_close(siege: Siege, kind: str, codes: set[int], data: bytes, frames: int = 1) -> None:
    """Send bytes over a new websocket; the server has to close it with one of ``codes``."""
    raw = await RawSocket.open(siege.url)
    await raw.send(data)
    siege.sent(kind, frames)
    code = await raw.close_code()
    siege.closed(code)
    if code not in codes:
        siege.fault(kind, f"closed with {code}, not {sorted(codes)}, after {data[:60].hex(' ')}")
    raw.abort()


CALL: Final = call("time", {}, 1)


async def broken_framing(siege: Siege) -> None:
    """One thing wrong with a frame, on a new socket each."""
    rng = siege.random
    broken, too_big = {1002}, {1002, int(Close.TOO_BIG)}
    bad_code = struct.pack(">H", rng.choice([0, 999, 1005, 1006, 1015, 5000]))
    attacks: list[tuple[str, set[int], bytes]] = [
        ("unmasked frames", broken, frame(CALL, masked=False)),
        ("reserved bits", broken, frame(CALL, reserved=rng.choice([1, 2, 4, 7]))),
        ("reserved opcodes", broken, frame(CALL, rng.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]))),
        ("fragmented control frames", broken, frame(b"x", rng.choice([PING, PONG, CLOSE]), fin=False)),
        ("long control frames", broken, frame(b"x" * 126, rng.choice([PING, PONG]))),
        ("continuation of nothing", broken, frame(CALL, 0, fin=rng.random() < 0.5)),
        ("text inside fragments", broken, frame(CALL[:5], fin=False) + frame(CALL)),
        ("binary inside fragments", broken | {1003}, frame(CALL[:5], fin=False) + frame(CALL, BINARY)),
        ("binary on a JSON socket", {int(Close.UNSUPPORTED)}, frame(CALL, BINARY)),
        ("invalid UTF-8", {int(Close.NOT_UTF8)}, frame(rng.choice([b"\xff", b'{"id":"\xc3\x28"}', b"\xed\xa0\x80", b"\xf8"]))),
        ("invalid UTF-8 in fragments", {int(Close.NOT_UTF8)}, frame(b'"\xe2\x82', fin=False) + frame(b'"', 0)),
        ("oversize frames", too_big, frame(b"x" * (FRAME_BYTES_MAX + 1))),
        ("frames that claim gigabytes", too_big, frame(b"x", length=rng.choice([2**31, 2**40, 2**62]), length_bytes=8)),
        ("lengths with the high bit", too_big, frame(b"x", length=2**63 + 5, length_bytes=8)),
        ("fragments beyond the bound", too_big, frame(b" " * 40_000, fin=False) + frame(b" " * 40_000, 0)),
        ("close frames of one byte", {1002, GONE}, frame(b"\x03", CLOSE)),
        ("close codes nobody may send", {1002, GONE}, frame(bad_code, CLOSE)),
        ("close reasons that are not UTF-8", {1000, 1002, 1007, GONE}, frame(struct.pack(">H", 1000) + b"\xff\xfe", CLOSE)),
    ]
    kind, codes, data = rng.choice(attacks)
    await _expect_close(siege, kind, codes, data, 2 if "fragments" in kind else 1)


async def odd_but_correct(siege: Siege) -> None:
    """Frames that are unusual and right: the server has to answer."""
    rng = siege.random
    raw = await RawSocket.open(siege.url)
    pieces = [CALL[at : at + 7] for at in range(0, len(CALL), 7)]
    data = frame(pieces[0], fin=False)
    for piece in pieces[1:]:
        if rng.random() < 0.5:
            data += frame(b"are you there", PING)
        if rng.random() < 0.2:
            data += frame(b"", 0, fin=False)
        data += frame(piece, 0, fin=False)
    data += frame(b"", 0) + frame(b"unasked", PONG)
    # In bytes, one at a time, or all at once.
    step = rng.choice([1, 3, len(data)])
    for at in range(0, len(data), step):
        await raw.send(data[at : at + step])
    siege.sent("interleaved fragments", len(pieces) + 2)
    answer = await _answer(raw, json.loads)
    if not (isinstance(answer, dict) and "result" in answer):
        siege.fault("interleaved fragments", f"a correct call in fragments got {answer}")
        raw.abort()
        return
    siege.closed(await raw.end())


async def truncated(siege: Siege) -> None:
    """Part of a frame, then the end."""
    raw = await RawSocket.open(siege.url)
    data = frame(CALL, fin=siege.random.random() < 0.5)
    await raw.send(data[: siege.random.randrange(1, len(data))])
    siege.sent("truncated frames")
    raw.abort()


async def garbage(siege: Siege) -> None:
    """Noise after the handshake. Whatever it looks like, the socket ends with a code that is documented."""
    raw = await RawSocket.open(siege.url)
    await raw.send(siege.random.randbytes(siege.random.randint(1, 4_000)))
    await raw.send(frame(struct.pack(">H", 1000), CLOSE))
    siege.sent("noise")
    raw.writer.write_eof()
    code = await raw.close_code()
    siege.closed(code)
    if code not in DOCUMENTED | {GONE}:
        siege.fault("noise", f"closed with {code}")
    raw.abort()


async def talking_after_close(siege: Siege) -> None:
    raw = await RawSocket.open(siege.url)
    await raw.send(frame(struct.pack(">H", 1000), CLOSE) + frame(CALL) * 20)
    siege.sent("frames behind a close", 21)
    code = await raw.close_code()
    siege.closed(code)
    if code not in (1000, GONE):
        siege.fault("frames behind a close", f"closed with {code}")
    raw.abort()


# ----------------------------------------------------------------------------------------------------------- handshakes


async def bad_handshake(siege: Siege) -> None:
    """Requests that are no upgrade, or one that may not be."""
    raw = await RawSocket.connect(siege.url)
    good = handshake(raw.host)
    request, statuses = siege.random.choice(
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404, 426, GONE}),
            (good.replace(b"/ws", b"/other"), {404}),
            (good.replace(b"GET", b"POST"), {400, 405, GONE}),
            (good.replace(b"HTTP/1.1", b"HTTP/1.0"), {400, 426, 505, GONE}),
            (good.replace(b"Version: 13", b"Version: 8"), {400, 426, GONE}),
            (good.replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Kex"), {400, GONE}),
            (good.replace(b"hashpit.v1.json", b"chat"), {400}),
            (handshake(raw.host, extra="Origin: https://evil.example\r\n"), {403}),
            (handshake(raw.host, extra="X: " + "y" * 100_000 + "\r\n"), {400, 413, 431, GONE}),
            (handshake(raw.host, extra="X: y\r\n" * 5_000), {101, 400, 413, 431, GONE}),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + siege.random.randbytes(300) + b"\r\n\r\n", {400, GONE}),
            (siege.random.randbytes(500) + b"\r\n\r\n", {400, GONE}),
            (b"\r\n\r\n", {400, GONE}),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404, 405, 426, 505, GONE}),
        ]
    )
    status = await raw.upgrade(request)
    siege.sent("bad handshakes")
    if status not in statuses:
        siege.fault("bad handshakes", f"status {status}, not {sorted(statuses)}: {request[:120]!r}")
    raw.abort()


async def half_handshake(siege: Siege) -> None:
    raw = await RawSocket.connect(siege.url)
    request = handshake(raw.host)
    await raw.send(request[: siege.random.randrange(1, len(request) - 1)])
    siege.sent("half handshakes")
    raw.abort()


async def slowloris(siege: Siege) -> None:
    """A handshake byte by byte. The server ends it long before it is done."""
    raw = await RawSocket.connect(siege.url)
    siege.sent("slow handshakes")
    request = handshake(raw.host)
    for at in range(len(request) - 1):
        await raw.send(request[at : at + 1])
        try:
            async with asyncio.timeout(0.2):
                await raw.reader.read(1_000)
            if raw.reader.at_eof():
                raw.abort()
                return
        except TimeoutError:
            continue
        except ConnectionError:
            return
    siege.fault("slow handshakes", "a handshake of 30 s was not ended")
    raw.abort()


# --------------------------------------------------------------------------------------------------------------- floods


async def flood(siege: Siege) -> None:
    """As many frames as fit, without waiting for answers; then read whatever there is."""
    rng = siege.random
    raw = await RawSocket.open(siege.url)
    kind, one = rng.choice(
        [
            ("floods of calls", frame(CALL)),
            ("floods of nonsense", frame(b"{")),
            ("floods of pings", frame(b"", PING)),
            ("floods of pongs", frame(b"", PONG)),
            ("floods of unknown methods", frame(call("x", {}, 1))),
        ]
    )
    frames = FLOOD_FRAMES * rng.randint(1, 4)
    # Written before a close can come back, whatever happens to it.
    await raw.send(one * frames)
    siege.sent(kind, frames)
    await raw.send(frame(struct.pack(">H", 1000), CLOSE))
    code = await raw.close_code()
    siege.closed(code)
    if code not in (1000, int(Close.FLOOD), GONE):
        siege.fault(kind, f"closed with {code}")
    raw.abort()


async def fragment_flood(siege: Siege) -> None:
    """Empty fragments of a message that never ends."""
    raw = await RawSocket.open(siege.url)
    frames = 2_500
    await raw.send(frame(b"", fin=False) + frame(b"", 0, fin=False) * frames)
    siege.sent("floods of empty fragments", frames)
    code = await raw.close_code()
    siege.closed(code)
    if code not in (int(Close.FLOOD), GONE):
        siege.fault("floods of empty fragments", f"closed with {code}")
    raw.abort()


async def crowd(siege: Siege) -> None:
    """More sockets from one address than may be there without a login; the others have to be told so."""
    source = f"127.0.3.{siege.random.randint(1, 250)}"
    raws: list[RawSocket] = []
    refused = 0
    for _ in range(siege.anonymous_max + 20):
        try:
            raws.append(await RawSocket.open(siege.url, source=source))
        except Refused as error:
            refused += 1
            siege.closed(error.code)
            if error.code != Close.TRY_AGAIN:
                siege.fault("crowds", f"closed with {error.code}")
    siege.sent("crowds", len(raws) + refused)
    if len(raws) != siege.anonymous_max:
        siege.fault("crowds", f"{len(raws)} sockets of one address were let in, not {siege.anonymous_max}")
    for raw in raws:
        raw.abort()


async def slow_reader(siege: Siege) -> None:
    """Asks and asks, follows every feed, and reads nothing, until the server cuts it off."""
    raw = await RawSocket.open(siege.url, receive_buffer=SLOW_BUFFER_BYTES)
    names = ["status", *(f"{kind}.{siege.market}" for kind in ("book", "trades", "ticker"))]
    await raw.send(frame(call("subscribe", {"channels": names}, 0)))
    one = frame(call("markets", {}, 1))
    began = asyncio.get_running_loop().time()
    frames = 0
    while not raw.writer.transport.is_closing():
        # A good many at first, then few: who does not read learns of the end only by writing.
        burst = 100 if frames < SLOW_CALLS else 1
        await raw.send(one * burst)
        frames += burst
        siege.sent(SLOW, burst)
        if burst == 1:
            await asyncio.sleep(0.1)
        if asyncio.get_running_loop().time() - began > SLOW_S_MAX:
            siege.fault(SLOW, f"{frames} calls without reading an answer in {SLOW_S_MAX:.0f} s, and still connected")
            break
    siege.closed(GONE)
    raw.abort()


ATTACKS: Final[list[tuple[Attack, float]]] = [
    (malformed_calls, 40),
    (malformed_msgpack, 10),
    (unpermitted_calls, 4),
    (malformed_orders, 8),
    (mixed_batch, 6),
    (nested_batch, 3),
    (subscribe_storm, 4),
    (broken_framing, 60),
    (odd_but_correct, 12),
    (truncated, 12),
    (garbage, 8),
    (talking_after_close, 3),
    (bad_handshake, 20),
    (half_handshake, 8),
    (crowd, 0.3),
    (flood, 2),
    (fragment_flood, 0.5),
]
"""The attacks that are over soon, with how often each is drawn."""
