"""Sockets: the only file that knows the websocket library (picows).

A :class:`Connection` turns frames into whole messages for its Session and carries the session's answers back. What it
decides is RFC 6455 and memory: fragments are joined up to a bound, and nothing waits for a peer that does not read.

Writes are gathered per socket (outbox.py) and go out together, at the end of a batch or of a loop turn, in one system call.

Bounds, from the outside in: ``Door`` (open sockets, in all and per address, before a byte is read), HANDSHAKE_S,
``Server.listener`` (path, origin, subprotocol, number of websockets), FRAME_BYTES_MAX, EXTRA_FRAMES_MAX, BACKLOG_BYTES_MAX
per socket, STALL_NS, BACKLOGS_BYTES_MAX over all sockets.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from engine.limits import SECOND_NS
from gateway import log
from gateway.auth import address_group
from gateway.channels.base import CONFLATE_BYTES
from gateway.codec import Codec, negotiate
from gateway.config import ConfigError, ServerConfig, client_address
from gateway.exchange import Exchange
from gateway.outbox import PONG, Outbox, Outgoing, framed
from gateway.session import Session
from gateway.wire import FRAME_BYTES_MAX, Close

PATH: Final = "/ws"
HANDSHAKE_S: Final = 5.0
"""A socket that has not asked for the upgrade (or finished its TLS handshake) by then is closed."""
HANDSHAKES_MAX: Final = 1_000
"""Sockets beyond ``connections_max`` that may be before their upgrade or after their close."""
CLOSE_S: Final = 2.0
"""How long a peer has to take what is left and to answer a close; then the socket is cut."""
EXTRA_FRAMES_MAX: Final = 1_000
"""Frames per second that bring no message to an end (pings, pongs, fragments); more is a flood."""
STALL_NS: Final = 30 * SECOND_NS
"""A socket that had more than CONFLATE_BYTES unsent at every look for this long is closed."""
BACKLOGS_BYTES_MAX: Final = 1024 * 1024 * 1024
"""Unsent bytes of all sockets together; past it those with the most are closed."""
CHECK_NS: Final = SECOND_NS
"""How often sockets are looked at for stalls."""
READ_BUFFER_BYTES: Final = 2 * 1024
"""What a quiet socket's read buffer takes, the least that the library allows; it grows to FRAME_BYTES_MAX on demand."""
BACKLOG: Final = 1_024
"""Connections that the system keeps waiting to be accepted."""
REASON_BYTES_MAX: Final = 123
"""Longest reason that fits a close frame."""

S = TypeVar("S", bound=socket.socket)

_CLOSE: Final = WSMsgType.CLOSE
# Codes that may not travel in a close frame.
_LOCAL_CODES: Final = frozenset({1004, 1005, 1006, 1015})


class ListenError(Exception):
    """The server cannot listen where it should; the text says where and why."""


class Counted(socket.socket):
    """An accepted socket that tells its Door when it is closed."""

    door: "Door | None" = None
    group: str = ""

    def close(self) -> None:
        self._leave()
        super().close()

    def detach(self) -> int:
        # How uvloop lets go of a socket whose transport it has closed.
        self._leave()
        return super().detach()

    def _leave(self) -> None:
        door, self.door = self.door, None
        if door is not None:
            door.left(self.group)


class Door(socket.socket):
    """A listening socket that closes what comes beyond its bounds at once, before any byte of it is read.

    Without it a flood of idle TCP connections could use up the process's file descriptors.
    """

    def __init__(self, family: int, sockets_max: int, per_address_max: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._sockets_max = sockets_max
        self._per_address_max = per_address_max
        self._total = 0
        self._per_address: dict[str, int] = {}

    @property
    def open(self) -> int:
        """Accepted sockets that are not closed."""
        return self._total

    def accept(self) -> tuple[socket.socket, Any]:
        fd, address = self._accept()  # type: ignore[attr-defined]
        conn = Counted(self.family, self.type, self.proto, fileno=fd)
        group = address_group(address[0])
        if self._total >= self._sockets_max or self._per_address.get(group, 0) >= self._per_address_max:
            conn.close()
            raise ConnectionAbortedError
        self._total += 1
        self._per_address[group] = self._per_address.get(group, 0) + 1
        conn.door, conn.group = self, group
        return conn, address

    def left(self, group: str) -> None:
        """One accepted socket of an address is closed."""
        self._total -= 1
        self._per_address[group] -= 1
        if not self._per_address[group]:
            del self._per_address[group]


class Connection(WSListener):
    """One websocket: frames to messages, and the way out for its Outbox. The session's Transport."""

    __slots__ = (
        "_closing",
        "_codec",
        "_extra_frames",
        "_forwarded_for",
        "_kind",
        "_parts",
        "_server",
        "_session",
        "_stalled_ns",
        "_transport",
        "outbox",
    )

    outbox: Outbox

    def __init__(self, server: "Server", codec: Codec, forwarded_for: str) -> None:
        self._server = server
        self._codec = codec
        self._forwarded_for = forwarded_for
        self._kind = WSMsgType.BINARY if codec.binary else WSMsgType.TEXT
        self._session: Session | None = None
        self._closing = False
        # What has come of an unfinished message; None between messages. Bytes and no list: fragments may be empty, and many.
        self._parts: bytearray | None = None
        self._extra_frames = 0
        # Since when more than CONFLATE_BYTES were unsent; 0 while they are not.
        self._stalled_ns = 0

    # ------------------------------------------------------------------------------------------------ for the session

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then the close frame; whoever does not answer within CLOSE_S is cut off."""
        if self._closing:
            return
        self._closing = True
        self.outbox.flush()
        self.outbox.close()
        self._parts = None
        text = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        self._transport.send_close(WSCloseCode(code), text)
        asyncio.get_running_loop().call_later(CLOSE_S, self._transport.disconnect, False)

    # ------------------------------------------------------------------------------------------------- for the server

    def overflowed(self) -> None:
        """The outbox is full: close a peer that leaves too much unread."""
        self.end(Close.SLOW_READER, "not read fast enough")

    def check(self, now_ns: int) -> int:
        """Look for a flood of frames and a stalled peer; returns the unsent bytes."""
        self._extra_frames = 0
        # What waits behind a close frame is no concern of the outbox any more.
        stream = self._transport.underlying_transport
        unsent: int = stream.get_write_buffer_size() if self._closing else self.outbox.measure()
        if unsent <= CONFLATE_BYTES:
            self._stalled_ns = 0
        elif not self._stalled_ns:
            self._stalled_ns = now_ns
        elif now_ns - self._stalled_ns >= STALL_NS:
            self.end(Close.SLOW_READER, "not read for too long")
        return unsent

    def clock_set(self) -> None:
        """The clock jumped: a stall is measured from the next look on."""
        self._stalled_ns = 0

    def end(self, code: int, reason: str) -> None:
        """Close for a reason that lies in the socket: through the session, which logs it and leaves its channels."""
        if self._session is not None:
            self._session.close(code, reason)
        self.close(code, reason)

    def cut(self) -> None:
        """End the socket without ceremony."""
        self._transport.disconnect(False)

    # ------------------------------------------------------------------------------------------------- picows' callbacks

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        # The library keeps both heads as long as the socket; nobody reads them again.
        transport.request.headers.clear()
        transport.response.headers.clear()
        stream = transport.underlying_transport
        self.outbox = Outbox(self, stream, self._server.outgoing, self._codec)
        peer = stream.get_extra_info("peername")
        ip = self._server.client_ip(peer[0] if peer else "", self._forwarded_for)
        if not self._server.opened(self):
            self.close(Close.GOING_AWAY, "the exchange is stopping")
        elif not self._server.exchange.admit(ip):
            self.close(Close.TRY_AGAIN, "too many sockets of this address are not logged in")
        else:
            now_ns = self._server.clock()
            self._session = Session(self._server.exchange, self, self._server.next_name(), ip, self._codec, now_ns)
            self._session.opened(now_ns)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        # Once per message: reading an attribute of a frame, or a member of an enum by its class, costs as much as a method.
        kind = frame.msg_type
        if kind is _CLOSE:
            self._peer_closed(frame)
        elif self._closing or self._session is None:
            return
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.end(Close.PROTOCOL, "reserved bits are set")
        elif kind is self._kind and self._parts is None and frame.fin:
            self._receive(frame.get_payload_as_bytes())
        else:
            self._extra_frame(kind, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._closing = True
        self.outbox.close()
        self._server.closed(self)
        session, self._session = self._session, None
        if session is not None:
            session.closed()

    def pause_writing(self) -> None:
        """The library's watermark; ours are looked at on every flush."""

    def resume_writing(self) -> None:
        """As pause_writing."""

    # --------------------------------------------------------------------------------------------------------- frames

    def _receive(self, payload: bytes) -> None:
        assert self._session is not None
        try:
            self._session.receive(payload, self._server.clock())
        except Exception:
            # A bug; it costs this client its socket and nobody else anything.
            self._server.log.exception("session failed", payload_bytes=len(payload))
            self.end(Close.FAILED, "internal error")

    def _extra_frame(self, kind: WSMsgType, frame: WSFrame) -> None:
        """Everything but a whole message or a close."""
        self._extra_frames += 1
        if self._extra_frames > EXTRA_FRAMES_MAX:
            self.end(Close.FLOOD, f"more than {EXTRA_FRAMES_MAX} control frames and fragments a second")
        elif kind is WSMsgType.PING or kind is WSMsgType.PONG:
            self._alive(kind, frame)
        elif kind is WSMsgType.CONTINUATION:
            self._fragment(frame)
        elif self._parts is not None:
            self.end(Close.PROTOCOL, "a message begins inside a fragmented one")
        elif kind is not self._kind:
            wanted = "binary" if self._codec.binary else "text"
            self.end(Close.UNSUPPORTED, f"this socket speaks {wanted} frames")
        else:
            self._parts = bytearray()
            self._fragment(frame)

    def _fragment(self, frame: WSFrame) -> None:
        if self._parts is None:
            self.end(Close.PROTOCOL, "a continuation of nothing")
            return
        if len(self._parts) + frame.payload_size > FRAME_BYTES_MAX:
            self.end(Close.TOO_BIG, f"a message has at most {FRAME_BYTES_MAX} bytes")
            return
        self._parts += frame.get_payload_as_bytes()
        if frame.fin:
            payload = bytes(self._parts)
            self._parts = None
            self._receive(payload)

    def _alive(self, kind: WSMsgType, frame: WSFrame) -> None:
        assert self._session is not None
        self._session.alive(self._server.clock())
        if kind is WSMsgType.PING:
            self.outbox.put(framed(PONG, frame.get_payload_as_bytes()))

    def _peer_closed(self, frame: WSFrame) -> None:
        """Answer a close with the same code, or take it as the answer to ours; either way the socket ends."""
        if not self._closing:
            code = frame.get_close_code().value
            if frame.payload_size == 0:
                code = Close.NORMAL
            elif code in _LOCAL_CODES or not 1_000 <= code < 5_000:
                code = Close.PROTOCOL
            self.close(code, "")
        self._transport.disconnect()


class Bugs(logging.Handler):
    """Passes on what picows says of exceptions in our callbacks. What clients do to the framing is no news for an operator."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "exception" in str(record.msg):
            log.get("server").error("a socket's callback failed", problem=record.getMessage(), exc_info=record.exc_info)


class Server:
    """Listens, admits, and keeps every open connection.

    ``clock`` gives nanoseconds since the Unix epoch; ``sockets_max`` is how many sockets the process may have open. Raises
    ConfigError for a certificate that cannot be used.
    """

    def __init__(self, exchange: Exchange, config: ServerConfig, clock: Callable[[], int], sockets_max: int) -> None:
        self.exchange = exchange
        self.clock = clock
        self.log = log.get("server")
        self._config = config
        self._sockets_max = sockets_max
        # A tenth of the sockets is left to those before their upgrade and after their close.
        self._connections_max = min(config.connections_max, -(-sockets_max * 9 // 10))
        self._tls = tls_context(config)
        self._origins = frozenset(config.origins)
        self._proxies = frozenset(config.trusted_proxies)
        self._connections: dict[Connection, None] = {}
        self.outgoing = Outgoing(self._will_flush)
        """The outboxes of all connections."""
        self._flush_scheduled = False
        self._accepting = False
        self._opened = 0
        self._checked_ns = 0
        self._empty: asyncio.Event | None = None

    async def start(self) -> None:
        """Bind and listen. Raises ListenError when the address cannot be used."""
        config = self._config
        self._loop = asyncio.get_running_loop()
        per_address_max = config.connections_per_ip_max
        self._door = await bind(
            "server", config.host, config.port, lambda family: Door(family, self._sockets_max, per_address_max)
        )
        library_log = logging.getLogger("gateway.picows")
        library_log.setLevel(logging.ERROR)
        library_log.propagate = False
        library_log.handlers[:] = [Bugs()]
        timeouts: dict[str, Any] = {}
        if self._tls:
            timeouts = {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": CLOSE_S}
        self._listening = await ws_create_server(
            self.listener,
            sock=self._door,
            ssl=self._tls,
            backlog=BACKLOG,
            websocket_handshake_timeout=HANDSHAKE_S,
            max_frame_size=FRAME_BYTES_MAX,
            read_buffer_init_size=READ_BUFFER_BYTES,
            enable_auto_pong=False,
            # An adapter, because the library makes a logger per connection of one that it is given.
            logger_name=logging.LoggerAdapter(library_log),
            **timeouts,
        )
        self._accepting = True
        address, port = self._door.getsockname()[:2]
        host = config.host or address
        scheme = "wss" if self._tls else "ws"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    # ------------------------------------------------------------------------------------------------------ admission

    def listener(self, request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        """Answer an upgrade request: a connection, or an HTTP status that says why not."""
        if request.path.partition(b"?")[0] != PATH.encode():
            return _refuse(HTTPStatus.NOT_FOUND, f"the websocket is at {PATH}")
        if request.headers.get("Sec-WebSocket-Version") != "13":
            wanted = {"Sec-WebSocket-Version": "13"}
            return _refuse(HTTPStatus.UPGRADE_REQUIRED, "the websocket protocol is version 13", wanted)
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins:
            self.log.warning("origin refused", origin=origin)
            return _refuse(HTTPStatus.FORBIDDEN, "this origin may not connect")
        offered = [
            name.strip()
            for line in request.headers.getall("Sec-WebSocket-Protocol", [])
            for name in line.split(",")
            if name.strip()
        ]
        codec = negotiate(offered)
        if codec is None:
            return _refuse(HTTPStatus.BAD_REQUEST, "none of the offered subprotocols is known")
        if not self._accepting or len(self._connections) >= self._connections_max:
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, "no room for another connection", {"Retry-After": "5"})
        # Browsers may send more than the one word that the library looks for.
        words = [word.strip().lower() for word in request.headers.get("Connection", "").split(",")]
        if "upgrade" in words:
            request.headers["Connection"] = "upgrade"
        extra = {"Sec-WebSocket-Protocol": codec.subprotocol} if offered else {}
        # Some proxies add a line of their own behind what the client sent, some go on in its line: the last address counts.
        forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", [])) if self._proxies else ""
        return WSUpgradeResponseWithListener(
            WSUpgradeResponse.create_101_response(extra), Connection(self, codec, forwarded_for)
        )

    def client_ip(self, peer: str, forwarded_for: str) -> str:
        """The client's address; see :func:`gateway.config.client_address`."""
        return client_address(peer, forwarded_for, self._proxies)

    def next_name(self) -> str:
        """A connection's name in logs and in its hello."""
        self._opened += 1
        return f"c{self._opened}"

    # ---------------------------------------------------------------------------------------------------- connections

    def opened(self, connection: Connection) -> bool:
        """Count a connection; False when it has to go again because the server is stopping."""
        self._connections[connection] = None
        return self._accepting

    def closed(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        if self._empty is not None and not self._connections:
            self._empty.set()

    def _will_flush(self) -> None:
        """Something waits to be written: do so at the end of this loop turn, if not earlier."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_turn)

    def flush(self) -> None:
        """Write what all connections gathered: the end of a batch."""
        self.outgoing.flush()

    def _flush_turn(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def tick(self, now_ns: int) -> None:
        """Call several times a second."""
        if now_ns - self._checked_ns < CHECK_NS:
            return
        self._checked_ns = now_ns
        unsent = {connection: connection.check(now_ns) for connection in [*self._connections]}
        total = sum(unsent.values())
        if total > BACKLOGS_BYTES_MAX:
            for connection, count in sorted(unsent.items(), key=lambda item: -item[1]):
                connection.end(Close.SLOW_READER, "the server is short of memory for what is not read")
                connection.cut()
                total -= count
                if total <= BACKLOGS_BYTES_MAX:
                    break

    def clock_set(self, now_ns: int) -> None:
        """The clock jumped: sockets are looked at soon, and stalls are measured anew."""
        self._checked_ns = now_ns
        for connection in self._connections:
            connection.clock_set()

    # ------------------------------------------------------------------------------------------------------- shutdown

    def stop_accepting(self) -> None:
        """Take no more connections."""
        if self._accepting:
            self._accepting = False
            self._listening.close()

    async def close_all(self, code: int, reason: str) -> None:
        """Close every connection and wait until they are gone, at most a little longer than CLOSE_S."""
        self._empty = asyncio.Event()
        if not self._connections:
            return
        for connection in [*self._connections]:
            connection.close(code, reason)
        try:
            async with asyncio.timeout(CLOSE_S + 1):
                await self._empty.wait()
        except TimeoutError:
            for connection in [*self._connections]:
                connection.cut()
            await asyncio.sleep(0)


async def bind(section: str, host: str, port: int, make: Callable[[int], S]) -> S:
    """A socket that ``make`` made of an address family, bound to where ``section`` of the configuration says; IPv4 first.
    Raises ListenError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        door = make(family)
        try:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.setblocking(False)
            door.bind(address)
        except OSError:
            door.close()
            raise
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "; is another server running there? `--port` chooses another" if taken and section == "server" else ""
        raise ListenError(f"{section}.host, {section}.port: cannot listen on {host}:{port}: {error.strerror}{hint}") from error
    return door


def tls_context(config: ServerConfig) -> ssl.SSLContext | None:
    """TLS 1.2 or newer as configured; None for plain sockets. Raises ConfigError, for a key that everybody may use too."""
    if not config.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # work for the server at a client's whim
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
        mode = Path(config.tls_key).stat().st_mode & 0o777
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"server.tls_certificate, server.tls_key: cannot be used: {error}") from error
    if mode & 0o007:
        raise ConfigError(f"server.tls_key: everybody may use {config.tls_key} (mode {mode:04o}); chmod 600 it")
    return context


def _refuse(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> WSUpgradeResponseWithListener:
    response = WSUpgradeResponse.create_error_response(status, text.encode() + b"\n", headers)
    return WSUpgradeResponseWithListener(response, None)
