"""A websocket by hand, so that everything about it can be wrong. RFC 6455 framing over asyncio streams, client side."""

import asyncio
import base64
import os
import socket
import struct
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from gateway.wire import SUBPROTOCOL_JSON

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
ANSWER_S: Final = 30.0
"""A server that says nothing for so long to somebody who waits has failed the test."""
GONE: Final = 1006
"""Stands for a socket that ended without a close frame."""


class Frame(NamedTuple):
    """One frame from the server."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """The code of a close frame; 1005 when it carries none."""
        return int(struct.unpack(">H", self.payload[:2])[0]) if self.payload else 1005


def frame(
    payload: bytes,
    opcode: int = TEXT,
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
    length_bytes: int | None = None,
) -> bytes:
    """A client's frame. ``length`` may lie, ``length_bytes`` (1, 2 or 8) may be more than it takes."""
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 1 if size < 126 else 2 if size < 65_536 else 8
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if length_bytes == 1:
        head += bytes([mask_bit | size])
    elif length_bytes == 2:
        head += bytes([mask_bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _masked(payload, mask)


def _masked(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return (int.from_bytes(payload) ^ key).to_bytes(size)


def handshake(host: str, path: str = "/ws", subprotocol: str = SUBPROTOCOL_JSON, extra: str = "") -> bytes:
    """A correct upgrade request."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n{extra}\r\n"
    ).encode()


class RawSocket:
    """A TCP connection to the server; after ``upgrade`` a websocket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader = reader
        self.writer = writer
        self.host = host

    @classmethod
    async def connect(cls, url: str, receive_buffer: int = 0, source: str = "") -> "RawSocket":
        """A TCP connection, from address ``source``. ``receive_buffer`` bytes make a reader that soon is a slow one."""
        parts = urlsplit(url)
        assert parts.hostname
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            raw.bind((source, 0))
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
        reader, writer = await asyncio.open_connection(sock=raw, limit=receive_buffer or 2**20)
        return cls(reader, writer, parts.netloc)

    @classmethod
    async def open(
        cls, url: str, subprotocol: str = SUBPROTOCOL_JSON, receive_buffer: int = 0, source: str = ""
    ) -> "RawSocket":
        """A websocket, its greeting read. Raises Refused when it is closed instead of greeted."""
        raw = await cls.connect(url, receive_buffer, source)
        status = await raw.upgrade(handshake(raw.host, subprotocol=subprotocol))
        assert status == 101, f"the upgrade was answered with {status}"
        greeting = await raw.read()
        if greeting.opcode == CLOSE:
            raw.abort()
            raise Refused(greeting.close_code)
        return raw

    async def upgrade(self, request: bytes) -> int:
        """Send a request, read the answer's head; its status, or GONE when there is none."""
        await self.send(request)
        try:
            async with asyncio.timeout(ANSWER_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            return GONE
        return int(head.split(b" ", 2)[1])

    async def send(self, data: bytes) -> None:
        """Write bytes as they are. A peer that is gone is no error here: what it said before is still to be read."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def read(self) -> Frame:
        """The next frame; a socket that just ends gives a close frame with GONE."""
        try:
            async with asyncio.timeout(ANSWER_S):
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    size = struct.unpack(">H", await self.reader.readexactly(2))[0]
                elif size == 127:
                    size = struct.unpack(">Q", await self.reader.readexactly(8))[0]
                payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return Frame(CLOSE, struct.pack(">H", GONE))
        assert first & 0x80, "the server sends no fragments"
        assert not first & 0x70, "the server sets no reserved bits"
        assert not second & 0x80, "a server's frames are not masked"
        return Frame(first & 0x0F, payload)

    async def close_code(self) -> int:
        """Read on until the end; the close code, GONE without one."""
        while True:
            found = await self.read()
            if found.opcode == CLOSE:
                return found.close_code

    async def end(self) -> int:
        """Close in good manners, and read to the end; the code that the server answered with."""
        await self.send(frame(struct.pack(">H", 1000), CLOSE))
        code = await self.close_code()
        self.abort()
        return code

    def abort(self) -> None:
        self.writer.transport.abort()


class Refused(Exception):
    """The server closed a new websocket instead of greeting it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


Message = dict[str, Any]
