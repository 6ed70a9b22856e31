"""A client that breaks the protocol: garbled messages, wrong frames, floods, sockets that never log in.

It costs itself its sockets. The auditor hears of what it is told, and of the calls that are calls.
"""

from collections.abc import Callable
from typing import Final

import msgspec
from picows import WSMsgType

from gateway.wire import BATCH_MAX, FRAME_BYTES_MAX
from tests.simulation.clients import Client
from tests.simulation.line import Line
from tests.simulation.network import Frame

FLOOD: Final = 140
"""More malformed messages than a socket may send."""
FRAMES_FLOOD: Final = 1_001

CALLS: Final = (
    {"jsonrpc": "2.0", "id": "x", "method": "nothing"},
    {"jsonrpc": "2.0", "id": "x", "method": "place", "params": {}},
    {"jsonrpc": "2.0", "id": "x", "method": "time", "params": {"now": 1}},
    {"jsonrpc": "1.0", "id": "x", "method": "time"},
    {"jsonrpc": "2.0", "method": "time"},
    {"jsonrpc": "2.0", "id": "x", "method": "book", "params": {"market": 7}},
    {"jsonrpc": "2.0", "id": "x", "method": "subscribe", "params": {"channels": ["account"]}},
    {"jsonrpc": "2.0", "id": "x", "method": "resync", "params": {"channel": "status"}},
    {"jsonrpc": "2.0", "id": "x", "method": "login", "params": {"key": "k-none", "timestamp_us": 1, "signature": "ab" * 32}},
    7,
)


class Vandal(Client):
    """Breaks one rule at a time."""

    def act(self, line: Line) -> None:
        acts: tuple[Callable[[Line], None], ...] = (
            self.call_wrongly,
            self.call_wrongly,
            self.batch,
            self.garble,
            self.garble,
            self.not_utf8,
            self.wrong_kind,
            self.too_big,
            self.bad_frame,
            self.flood,
            self.many_frames,
            self.close_strangely,
        )
        if self.rng.random() < 0.3:
            self.rng.choice(acts)(line)

    def settle_down(self) -> None:
        super().settle_down()
        for line in self.lines:
            line.ended = True
            line.leave("it had its fun")

    def raw(self, line: Line, *frames: Frame) -> None:
        assert line.link is not None
        line.link.send(*frames)

    def call_wrongly(self, line: Line) -> None:
        self._send(line, self.rng.choice(CALLS))

    def batch(self, line: Line) -> None:
        calls = [
            {"jsonrpc": "2.0", "id": f"b{number}", "method": "time"}
            for number in range(self.rng.choice((1, 3, BATCH_MAX, BATCH_MAX + 1)))
        ]
        if self.rng.random() < 0.5:
            calls.append(self.rng.choice(CALLS))  # type: ignore[arg-type]
        self._send(line, calls if self.rng.random() < 0.9 else [])

    def _send(self, line: Line, message: object) -> None:
        line.send((msgspec.msgpack if line.codec.binary else msgspec.json).encode(message))

    def garble(self, line: Line) -> None:
        size = self.rng.randrange(1, 60)
        payload = bytearray(b'{"jsonrpc":"2.0","id":"g","method":"place","params":{"market":')[:size]
        for _ in range(self.rng.randrange(3)):
            payload[self.rng.randrange(size)] = self.rng.randrange(128)
        line.cause("garbage")
        line.send(bytes(payload), told=False)

    def not_utf8(self, line: Line) -> None:
        line.cause("not_utf8")
        line.cause("garbage")
        line.send(b'{"jsonrpc":"2.0","id":"\xff","method":"time"}', told=False)

    def wrong_kind(self, line: Line) -> None:
        line.cause("wrong_opcode")
        self.raw(line, Frame(WSMsgType.TEXT if line.codec.binary else WSMsgType.BINARY, b"{}"))

    def too_big(self, line: Line) -> None:
        kind = WSMsgType.BINARY if line.codec.binary else WSMsgType.TEXT
        line.cause("too_big")
        self.raw(line, Frame(kind, b" ", fin=False), Frame(WSMsgType.CONTINUATION, b" " * FRAME_BYTES_MAX))

    def bad_frame(self, line: Line) -> None:
        kind = WSMsgType.BINARY if line.codec.binary else WSMsgType.TEXT
        bad = (
            (Frame(WSMsgType.CONTINUATION, b"{}"),),
            (Frame(kind, b"{}", rsv1=True),),
            (Frame(kind, b"{", fin=False), Frame(kind, b"}")),
        )
        line.cause("framing")
        self.raw(line, *self.rng.choice(bad))

    def flood(self, line: Line) -> None:
        for _ in range(FLOOD):
            if line.link is not None:
                line.cause("garbage")
                line.send(b"7", told=False)

    def many_frames(self, line: Line) -> None:
        line.cause("frames")
        self.raw(line, *[Frame(WSMsgType.PONG, b"")] * FRAMES_FLOOD)

    def close_strangely(self, line: Line) -> None:
        code = self.rng.choice((b"", (1005).to_bytes(2), (999).to_bytes(2), (1000).to_bytes(2)))
        line.cause("client_closed")
        line.cause("framing")
        self.raw(line, Frame(WSMsgType.CLOSE, code))
