"""What waits to be written to a socket, and to whom it is written first. Sans-IO: the shell (server.py) has the sockets.

    session   outbox.send(payload)   an answer or a heartbeat, for this socket alone
    channel   outbox.put(frame)      a frame that many sockets get, made once for all of them
    shell     outgoing.flush()       the end of a batch or of a loop turn: one write per socket

An outbox holds whole websocket frames. A server does not mask them, so several in a row are just bytes. Sockets that wait for
the same frames share the joined bytes too.
"""

from collections.abc import Callable
from typing import Final, Protocol

from gateway.codec import Codec

TEXT: Final = 0x1
BINARY: Final = 0x2
PONG: Final = 0xA
"""Opcodes of frames."""
HEADER_SIZES: Final = 1_024
"""Headers of payloads with fewer bytes are made in advance: making one takes longer than joining it with its payload."""

BACKLOG_BYTES_MAX: Final = 8 * 1024 * 1024
"""A socket with more unsent bytes than this is closed rather than left without a message. More than the largest snapshot of
an account (10,000 orders)."""


class Stream(Protocol):
    """The way out. Nothing here waits or raises. asyncio's transports are one."""

    def write(self, data: bytes) -> None:
        """Hand bytes to the system; what it does not take is buffered."""
        ...

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and the system has not taken yet."""
        ...


class Socket(Protocol):
    """Whose outbox it is."""

    def overflowed(self) -> None:
        """More than BACKLOG_BYTES_MAX are buffered: end the socket."""
        ...


class Outbox:
    """One socket's frames on their way out."""

    __slots__ = ("_answers", "_frames", "_opcode", "_outgoing", "_socket", "_stream", "codec", "unsent_bytes")

    def __init__(self, socket: Socket, stream: Stream, outgoing: "Outgoing", codec: Codec) -> None:
        self.codec = codec
        """What messages for this socket are encoded with."""
        self._opcode = opcode(codec)
        self.unsent_bytes = 0
        """Bytes that were handed over and not taken, or fewer: the peer may have read since the last write. See ``measure``."""
        # None after close.
        self._socket: Socket | None = socket
        self._stream = stream
        self._outgoing = outgoing
        self._frames: list[bytes] = []
        # Whether something in _frames is for this socket alone.
        self._answers = False

    def send(self, payload: bytes) -> None:
        """One message for this socket alone; it leaves before what goes to many."""
        if not self._answers:
            self._answers = True
            self._outgoing.first.append(self)
        self.put(framed(self._opcode, payload))

    def put(self, frame: bytes) -> None:
        """One message as a frame. Written early if too much is gathered, which ends a socket that is not read."""
        frames = self._frames
        frames.append(frame)
        self.unsent_bytes += len(frame)
        if len(frames) == 1:
            self._outgoing.add(self)
        if self.unsent_bytes > BACKLOG_BYTES_MAX:
            self.flush()

    def measure(self) -> int:
        """Bytes that were handed over and the peer has not taken yet."""
        buffered_bytes = self._stream.get_write_buffer_size() if self._socket is not None else 0
        self.unsent_bytes = buffered_bytes + sum(map(len, self._frames))
        return self.unsent_bytes

    def flush(self) -> None:
        """Write what was gathered, now."""
        if frames := self.take():
            self.write(b"".join(frames))

    def take(self) -> list[bytes]:
        """Frames that have to be written; they are not kept."""
        frames, self._frames = self._frames, []
        self._answers = False
        return frames

    def write(self, block: bytes) -> None:
        """Write frames that were taken."""
        socket = self._socket
        if socket is None:
            self.unsent_bytes = 0
            return
        stream = self._stream
        stream.write(block)
        self.unsent_bytes = stream.get_write_buffer_size()
        if self.unsent_bytes > BACKLOG_BYTES_MAX:
            socket.overflowed()

    def close(self) -> None:
        """Drop what was gathered, and all that comes."""
        self._socket = None
        self._frames = []
        self.unsent_bytes = 0


class Outgoing:
    """The outboxes of a server that have something to write."""

    __slots__ = ("_waiting", "_wake", "first")

    def __init__(self, wake: Callable[[], None]) -> None:
        """``wake`` is called when something waits for a flush and nothing did before."""
        self.first: list[Outbox] = []
        """Those that wait for an answer: they go first."""
        self._waiting: list[Outbox] = []
        self._wake = wake

    def add(self, outbox: Outbox) -> None:
        """Something waits in an outbox."""
        self._waiting.append(outbox)
        if len(self._waiting) == 1:
            self._wake()

    def flush(self) -> None:
        """Write everything that waits."""
        # Those that go first are in both lists; the second time there is nothing left in them.
        outboxes = self.first + self._waiting
        self.first, self._waiting = [], []
        last: list[bytes] = []
        block = b""
        for outbox in outboxes:
            frames = outbox.take()
            if frames:
                # Mostly the same objects, so this is a look at pointers.
                if frames != last:
                    last, block = frames, b"".join(frames)
                outbox.write(block)


def opcode(codec: Codec) -> int:
    """The opcode of a codec's messages."""
    return BINARY if codec.binary else TEXT


def framed(kind: int, payload: bytes) -> bytes:
    """A server's websocket frame (RFC 6455, 5.2) of an opcode: one whole message, not masked."""
    size = len(payload)
    return (_HEADERS[kind][size] if size < HEADER_SIZES else _header(kind, size)) + payload


def _header(kind: int, size: int) -> bytes:
    first = bytes((0x80 | kind,))
    if size < 126:
        return first + size.to_bytes(1)
    if size < 65_536:
        return first + b"\x7e" + size.to_bytes(2)
    return first + b"\x7f" + size.to_bytes(8)


_HEADERS: Final = {kind: [_header(kind, size) for size in range(HEADER_SIZES)] for kind in (TEXT, BINARY, PONG)}
