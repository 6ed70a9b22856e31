"""Any websocket frames give the session the messages that RFC 6455 says they are, within bounds, and one close with its reason.

What the library has parsed arrives here as frames; an independent account of fragments, sizes and codes says what has to come
out. An input is frames as in RFC 6455, without masks. Opcodes that RFC 6455 reserves stand for what else can happen to a
socket: 3 repeats a byte in the next frame (length x 256 times), 4 is a second on the clock, 5 leaves length x 64 KiB unread,
6 has the session send a message of length x 256 bytes, 7 lets the client be gone.
"""

import asyncio
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from picows import WSFrame, WSMsgType, WSTransport

from engine.limits import SECOND_NS
from gateway.channels.base import CONFLATE_BYTES
from gateway.codec import CODECS, Codec
from gateway.config import ServerConfig
from gateway.outbox import BACKLOG_BYTES_MAX, framed
from gateway.server import EXTRA_FRAMES_MAX, STALL_NS, Connection, Server
from gateway.session import Session
from gateway.wire import FRAME_BYTES_MAX, Close
from tests.fuzz.runner import scratch
from tests.gateway.link import Stage
from tests.gateway.peer import payloads

BYTES_MAX = 8_192
CONTINUATION, TEXT, BINARY, REPEAT, SECOND, UNREAD, SEND, GONE, CLOSE, PING, PONG = range(11)
WORDS = (
    *(bytes((0x80 | opcode, 2)) + b"ab" for opcode in (0, 1, 2, 9, 10)),
    *(bytes((opcode, 2)) + b"ab" for opcode in (0, 1, 2)),
    *(
        b"\x88\x00",
        b"\x88\x02\x03\xe8",
        b"\x88\x02\x03\xed",
        b"\x88\x01\x03",
        b"\xc1\x01a",
        b"\x83\xff",
        b"\x84\x1f",
        b"\x85\x7f",
    ),
    *(b"\x86\x7f", b"\x87\x00", b"\x81\x7e\x00\x80", b"\x89\x00" * 64, b"\x00\x00" * 64),
)


class Frame:
    """What the library hands over, as far as it is read."""

    def __init__(self, first: int, payload: bytes) -> None:
        self.opcode = first & 0x0F
        self.fin = bool(first & 0x80)
        self.rsv1, self.rsv2, self.rsv3 = (bool(first & bit) for bit in (0x40, 0x20, 0x10))
        self.payload = payload

    @property
    def msg_type(self) -> WSMsgType:
        return WSMsgType(self.opcode)

    @property
    def payload_size(self) -> int:
        return len(self.payload)

    def get_payload_as_bytes(self) -> bytes:
        return self.payload

    def get_close_code(self) -> Any:
        code: int = struct.unpack(">H", self.payload[:2])[0] if len(self.payload) > 1 else 1005
        return type("Code", (), {"value": code})()


class Socket:
    """The library's transport and the system's stream, in one. Remembers what was done to it."""

    def __init__(self) -> None:
        self.request = self.response = type("Head", (), {"headers": {}})()
        self.underlying_transport = self
        self.unread_bytes = 0
        self.pongs: list[bytes] = []
        self.closes: list[int] = []
        self.disconnected = False

    def get_extra_info(self, name: str) -> Any:
        return "10.0.0.1", 50_000

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def write(self, data: bytes) -> None:
        assert not self.closes, "written behind the close frame"
        for payload in payloads(data):
            size = len(payload)
            head = 2 if size < 126 else 4 if size < 65_536 else 10
            if data[0] & 0x0F == PONG:
                self.pongs.append(payload)
            data = data[head + size :]

    def send_close(self, code: int, text: str) -> None:
        assert len(text.encode()) <= 123
        self.closes.append(int(code))

    def disconnect(self, graceful: bool = True) -> None:
        self.disconnected = True


class Loop:
    """Runs nothing by itself."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []

    def call_soon(self, fn: Callable[[], object]) -> None:
        self.soon.append(fn)

    def call_later(self, delay_s: float, fn: Callable[..., object], *args: object) -> None:
        pass

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for fn in soon:
            fn()


class Heard:
    """In the session's place: remembers what it is told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.alive_count = 0
        self.closes: list[int] = []
        self.is_gone = False

    def receive(self, payload: bytes, now_ns: int) -> None:
        assert not self.closes, "a message behind the end"
        self.messages.append(payload)

    def alive(self, now_ns: int) -> None:
        self.alive_count += 1

    def close(self, code: int, reason: str) -> None:
        self.closes.append(code)

    def closed(self) -> None:
        self.is_gone = True


class Account:
    """What RFC 6455 and the server's bounds say of the same frames, told independently."""

    def __init__(self, codec: Codec) -> None:
        self.kind = BINARY if codec.binary else TEXT
        self.messages: list[bytes] = []
        self.pongs: list[bytes] = []
        self.code = 0
        """What the socket was closed with."""
        self._parts: bytes | None = None
        self._extra = 0

    def frame(self, frame: Frame) -> None:
        if self.code:
            return
        whole = frame.opcode == self.kind and frame.fin and self._parts is None
        if frame.opcode == CLOSE:
            code = struct.unpack(">H", frame.payload[:2])[0] if len(frame.payload) > 1 else 0
            if not frame.payload:
                self.code = Close.NORMAL
            else:
                self.code = code if 1_000 <= code < 5_000 and code not in (1004, 1005, 1006, 1015) else Close.PROTOCOL
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.code = Close.PROTOCOL
        elif whole:
            self.messages.append(frame.payload)
        else:
            self._extra += 1
            if self._extra > EXTRA_FRAMES_MAX:
                self.code = Close.FLOOD
            elif frame.opcode in (PING, PONG):
                if frame.opcode == PING:
                    self.pongs.append(frame.payload)
            elif frame.opcode == CONTINUATION:
                self._continue(frame)
            elif self._parts is not None:
                self.code = Close.PROTOCOL
            elif frame.opcode != self.kind:
                self.code = Close.UNSUPPORTED
            else:
                self._parts = b""
                self._continue(frame)

    def _continue(self, frame: Frame) -> None:
        if self._parts is None:
            self.code = Close.PROTOCOL
            return
        self._parts += frame.payload
        if len(self._parts) > FRAME_BYTES_MAX:
            self.code = Close.TOO_BIG
        elif frame.fin:
            self.messages.append(self._parts)
            self._parts = None

    def second(self) -> None:
        self._extra = 0


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """First byte and payload of each frame; the last may be cut short."""
    at = 0
    while at + 2 <= len(data):
        first, size = data[at], data[at + 1] & 0x7F
        at += 2
        if size == 126:
            size = int.from_bytes(data[at : at + 2])
            at += 2
        yield first, data[at : at + size]
        at += size


_HOME: Final = scratch()
_STAGE: list[Stage] = []


def one(data: bytes) -> None:
    if not _STAGE:
        _STAGE.append(Stage(_HOME))
    for codec in CODECS:
        loop = Loop()
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", loop))
        try:
            _play(_STAGE[0], codec, data, loop)
        finally:
            asyncio._set_running_loop(before)


def _play(stage: Stage, codec: Codec, data: bytes, loop: Loop) -> None:
    now_ns = stage.now_ns
    server = Server(stage.exchange, ServerConfig(), lambda: now_ns, 100)
    server._loop = cast("asyncio.AbstractEventLoop", loop)
    server._accepting = True
    connection, socket = Connection(server, codec, ""), Socket()
    transport = cast("WSTransport", socket)
    connection.on_ws_connected(transport)
    session = connection._session
    assert session is not None
    session.closed()  # what a session does with messages is another target's business
    heard, account = Heard(), Account(codec)
    connection._session = cast("Session", heard)
    loop.turn()
    stalled_ns = repeat = 0
    for first, payload in frames(data):
        opcode = first & 0x0F
        if opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            frame = Frame(first, (payload[:1] or b"x") * 256 * repeat if repeat else payload)
            repeat = 0
            if opcode >= CLOSE and (not frame.fin or frame.payload_size > 125):
                continue  # the library ends these
            account.frame(frame)
            connection.on_ws_frame(transport, cast("WSFrame", frame))
        elif opcode == REPEAT:
            repeat = min(len(payload), 300)
        elif opcode == SECOND:
            now_ns += SECOND_NS
            server.tick(now_ns)
            account.second()
            stalled_ns = stalled_ns or now_ns if socket.unread_bytes > CONFLATE_BYTES else 0
            if stalled_ns and now_ns - stalled_ns >= STALL_NS:
                account.code = account.code or Close.SLOW_READER
        elif opcode == UNREAD:
            socket.unread_bytes = len(payload) * 65_536
        elif opcode == SEND:
            connection.outbox.put(framed(TEXT, b"x" * 256 * len(payload)))
        elif opcode == GONE:
            break
        loop.turn()
        if not account.code and socket.closes:
            # What is written finds out that too much waits; nothing else may end a socket here.
            assert socket.unread_bytes > BACKLOG_BYTES_MAX, socket.closes
            account.code = Close.SLOW_READER
        assert [account.code] * bool(account.code) == socket.closes, f"closed with {socket.closes}, not {account.code}"
        assert heard.messages == account.messages, "other messages than the frames say"
        assert len(connection._parts or b"") <= FRAME_BYTES_MAX
    assert socket.pongs == account.pongs or account.code, "a ping without its pong"
    connection.on_ws_disconnected(transport)
    assert heard.is_gone
    assert connection not in server._connections


def seeds() -> Iterator[tuple[str, bytes]]:
    """Whole and fragmented messages, control frames, codes, floods and slow readers."""

    def frame(opcode: int, payload: bytes = b"", fin: bool = True, reserved: int = 0) -> bytes:
        head = bytes(((0x80 if fin else 0) | reserved << 4 | opcode,))
        size = bytes((len(payload),)) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
        return head + size + payload

    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "time"}).encode()
    yield "whole", frame(TEXT, call) + frame(BINARY, call)
    yield "binary", frame(BINARY, call) * 2 + frame(PING, b"hello") + frame(PONG)
    for name, kind in (("text", TEXT), ("bytes", BINARY)):
        parts = frame(kind, call[:9], fin=False) + frame(PING, b"x") + frame(0, call[9:20], fin=False) + frame(0, call[20:])
        yield f"fragments-{name}", parts + frame(kind, call) + frame(CLOSE, b"\x03\xe8bye")
        yield f"inside-{name}", frame(kind, call, fin=False) + frame(kind, call)
        yield (
            f"big-{name}",
            frame(REPEAT, b"x" * 200) + frame(kind, b"[", fin=False) + frame(REPEAT, b"x" * 57) + frame(0, b" "),
        )
        yield f"largest-{name}", frame(REPEAT, b"x" * 128) + frame(kind, b"[", fin=False) + frame(REPEAT, b"x" * 128) + frame(0)
        yield f"second-{name}", (frame(PING) * 600 + frame(SECOND)) * 2 + frame(kind, call)
    yield "nothing", frame(0, b"x")
    yield "reserved", frame(PING, b"a", reserved=4)
    yield "flood", frame(PING) * 1_001
    for number, code in enumerate((1000, 1001, 1005, 1011, 999, 4003, 4999, 5000)):
        yield f"close-{number}", frame(CLOSE, struct.pack(">H", code)) + frame(TEXT, call)
    yield "close-bare", frame(CLOSE) + frame(CLOSE)
    yield "stalled", frame(UNREAD, b"x" * 8) + frame(SECOND) * 32 + frame(TEXT, call)
    yield "overflow", frame(UNREAD, b"x" * 140) + frame(SEND, b"x") + frame(PING) + frame(GONE)
