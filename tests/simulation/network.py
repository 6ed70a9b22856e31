"""A network without sockets: bytes on their way between clients and the real ``gateway.server.Connection``.

A :class:`Link` is one TCP connection that carries a websocket. What one end sends arrives at the other in order, after a
delay; links do not wait for one another. Bytes that the peer does not read fill a window, and then the sender's buffer. Links
are cut (both ends notice), or die silently: in both directions, or in one.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from picows import WSCloseCode, WSMsgType

from gateway.codec import Codec
from gateway.server import Connection, Server
from tests.simulation.coverage import Coverage
from tests.simulation.swarm import Plan
from tests.simulation.world import MS_NS, World

DELAY_NS_MAX: Final = 4_000 * MS_NS
CUT: Final = 1006
"""The close code of a connection that ended without a close frame."""


class Headers:
    """What the real connection clears when the handshake is done."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}


class Frame:
    """A frame from a client, as the websocket library hands it out."""

    __slots__ = ("fin", "msg_type", "payload", "rsv1", "rsv2", "rsv3")

    def __init__(self, msg_type: WSMsgType, payload: bytes, fin: bool = True, rsv1: bool = False) -> None:
        self.msg_type = msg_type
        self.payload = payload
        self.fin = fin
        self.rsv1 = rsv1
        self.rsv2 = self.rsv3 = False

    @property
    def payload_size(self) -> int:
        return len(self.payload)

    def get_payload_as_bytes(self) -> bytes:
        return self.payload

    def get_close_code(self) -> WSCloseCode:
        return WSCloseCode(int.from_bytes(self.payload[:2]))


class End(Protocol):
    """A client's end of a link."""

    def opened(self, link: "Link") -> None:
        """The server accepted the connection (which the client itself learns from the first bytes)."""

    def arrived(self, data: bytes) -> None:
        """Bytes came, of any number of frames."""

    def gone(self, code: int) -> None:
        """The link ended without a close frame that was read."""


class Link:
    """One connection. It is the websocket library's transport and its underlying stream at the server's end."""

    def __init__(self, network: "Network", number: int, end: End, codec: Codec, ip: str) -> None:
        self.network = network
        self.number = number
        self.end = end
        self.codec = codec
        self.ip = ip
        self.request, self.response = Headers(), Headers()
        self.server_open = False
        self.client_open = True
        self.was_opened = False
        """Whether a server ever accepted it."""
        self.deaf = False
        """Nothing arrives at the client any more, and nobody notices."""
        self.mute = False
        """Nothing arrives at the server any more, and nobody notices."""
        self.reading = True
        """Whether the client takes what arrives."""
        self._connection: Any = None
        self._unsent = bytearray()
        self._flying = 0
        self._unread: list[bytes] = []
        self._to_client_ns = self._to_server_ns = 0
        self._rng = network.rng
        self._delay_ns = network.plan.delay_ns * self._rng.choice((1, 1, 1, 3, 10))

    # ------------------------------------------------------------------------------------------------- the server's end

    @property
    def underlying_transport(self) -> "Link":
        return self

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return (self.ip, 1)

    def opened(self, server: Server) -> None:
        """The handshake is done."""
        self.server_open = self.was_opened = True
        self.end.opened(self)
        if self.deaf or self.mute:
            self.network.cause(self.number, "silent", self.network.world.now_ns)
        self._connection = Connection(server, self.codec, "")
        self._connection.on_ws_connected(self)

    def write(self, data: bytes) -> None:
        if self.server_open:
            self._unsent += data
            self._pump()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent) * self.network.plan.byte_weight

    def send_close(self, code: WSCloseCode, reason: str) -> None:
        payload = code.value.to_bytes(2) + reason.encode()
        self.write(bytes((0x88, len(payload))) + payload)

    def disconnect(self, graceful: bool = True) -> None:
        """The server lets go of the socket; what the peer did not take is lost unless ``graceful``."""
        if not self.server_open:
            return
        self.server_open = False
        if not graceful:
            self._unsent.clear()
        assert self._connection is not None
        self.network.loop_call_soon(self._connection.on_ws_disconnected, self)
        self._fin()

    def process_died(self) -> None:
        """The server's process is gone; what it handed to the system may still arrive, or not."""
        if self.server_open:
            self.server_open = False
            self._unsent.clear()
            if self.network.plan.chance(self._rng, "power cut", 0.5):
                self.network.coverage.count("fault", "power cut")
                self.deaf = self.mute = True
            else:
                self._fin()

    def _fin(self) -> None:
        at_ns = self._arrival(self._to_client_ns)
        self._to_client_ns = at_ns
        self.network.world.later(at_ns - self.network.world.now_ns, self._client_learns)

    def _client_learns(self) -> None:
        if self.client_open and not self.deaf and self.reading:
            self.client_open = False
            self.end.gone(CUT)

    def _pump(self) -> None:
        """Put on its way what the window has room for."""
        plan, world = self.network.plan, self.network.world
        while self._unsent and (room := plan.window_bytes - self._flying) > 0:
            size = min(room, len(self._unsent))
            if plan.fragments and size > 1 and self._rng.random() < 0.3:
                size = self._rng.randrange(1, size)
            data = bytes(self._unsent[:size])
            del self._unsent[:size]
            self._flying += size
            self._to_client_ns = self._arrival(self._to_client_ns)
            world.later(self._to_client_ns - world.now_ns, self._at_client, data)

    def _at_client(self, data: bytes) -> None:
        if not self.client_open or self.deaf:
            return
        if self.reading and not self._unread:
            self._flying -= len(data)
            self.end.arrived(data)
            self._pump()
        else:
            self._unread.append(data)

    def _arrival(self, not_before_ns: int) -> int:
        jitter = self._rng.random()
        delay_ns = min(int(self._delay_ns * (jitter if jitter < 0.98 else 20 * jitter)), DELAY_NS_MAX)
        return max(not_before_ns, self.network.plan.on_grid(self.network.world.now_ns + delay_ns))

    # ------------------------------------------------------------------------------------------------- the client's end

    def send(self, *frames: Frame) -> None:
        """Frames leave the client together."""
        if self.client_open:
            self._to_server_ns = self._arrival(self._to_server_ns)
            world = self.network.world
            world.later(self._to_server_ns - world.now_ns, self._at_server, frames)

    def _at_server(self, frames: tuple[Frame, ...]) -> None:
        for frame in frames:
            if self.server_open and not self.mute:
                assert self._connection is not None
                self._connection.on_ws_frame(self, frame)

    def pause(self) -> None:
        """The client forgets to read."""
        self.reading = False

    def resume(self) -> None:
        """The client reads again; what waited comes at once."""
        if self.reading or not self.client_open:
            return
        self.reading = True
        waited, self._unread = self._unread, []
        for data in waited:
            self._flying -= len(data)
            if self.client_open:
                self.end.arrived(data)
        if self.client_open:
            self._pump()
            if not self.server_open and not self.deaf and not self._unsent:
                self._fin()

    def leave(self) -> None:
        """The client lets go of the socket; the server notices after a while."""
        if self.client_open:
            self.client_open = False
            self._to_server_ns = self._arrival(self._to_server_ns)
            world = self.network.world
            world.later(self._to_server_ns - world.now_ns, self._server_learns)

    def _server_learns(self) -> None:
        if self.server_open and not self.mute:
            self.server_open = False
            self._unsent.clear()
            assert self._connection is not None
            self._connection.on_ws_disconnected(self)

    def cut(self) -> None:
        """The connection breaks, and both ends notice; what was on its way is lost."""
        self._unsent.clear()
        if self.server_open and not self.mute:
            self.server_open = False
            assert self._connection is not None
            self._connection.on_ws_disconnected(self)
        if self.client_open:
            self.client_open = False
            self.end.gone(CUT)


class Network:
    """Every link, and the server that listens, if any does."""

    def __init__(self, world: World, plan: Plan, coverage: Coverage) -> None:
        self.world = world
        self.plan = plan
        self.coverage = coverage
        self.rng = world.random("network")
        self.links: dict[int, Link] = {}
        self.server: Server | None = None
        self.loop_call_soon: Any = None
        self.cause: Callable[[int, str, int], None] = lambda conn, kind, now_ns: None
        """Tells the auditor what explains an end."""
        self._opened = 0

    def connect(self, end: End, codec: Codec, ip: str) -> Link:
        """Ask for a connection: ``end`` gets bytes, or hears that it is gone."""
        self._opened += 1
        link = Link(self, self._opened, end, codec, ip)
        self.links[link.number] = link
        link._to_server_ns = link._arrival(0)
        self.world.later(link._to_server_ns - self.world.now_ns, self._open, link)
        return link

    def _open(self, link: Link) -> None:
        if not link.client_open:
            return
        if self.server is None or not self.server._accepting:
            self.coverage.count("fault", "connection refused")
            link._fin()
        else:
            link.opened(self.server)

    def died(self) -> None:
        """The server's process is gone."""
        self.server = None
        for link in self.open_links():
            link.process_died()

    def open_links(self) -> list[Link]:
        """Links that somebody still believes in; the others are forgotten."""
        for number in [number for number, link in self.links.items() if not (link.client_open or link.server_open)]:
            del self.links[number]
        return [*self.links.values()]

    def calm_down(self) -> None:
        """From now on the network is a good one; links that died stay dead."""
        self.plan.window_bytes, self.plan.fragments, self.plan.delay_ns = 10**9, False, MS_NS
        for link in self.open_links():
            link._delay_ns = MS_NS
            link._pump()

    def start_faults(self) -> None:
        if self.plan.network_faults:
            self.world.later(self._next_fault_ns(), self._fault)

    def _next_fault_ns(self) -> int:
        return int(self.rng.expovariate(1.0) * self.plan.network_fault_ns)

    def _fault(self) -> None:
        if not self.plan.faulty:
            return
        self.world.later(self._next_fault_ns(), self._fault)
        links = self.open_links()
        if not links:
            return
        link = self.rng.choice(links)
        kind = self.rng.choice(self.plan.network_faults)
        self.coverage.count("fault", kind)
        self.world.note(f"fault: {kind} on conn {link.number}")
        if kind == "cut":
            link.cut()
        elif kind in ("half-open", "deaf", "mute"):
            link.deaf = link.deaf or kind != "mute"
            link.mute = link.mute or kind != "deaf"
            if link.was_opened:
                self.cause(link.number, "silent", self.world.now_ns)
        elif kind == "slow":
            link._delay_ns = self.rng.choice((100, 500, 3_000)) * MS_NS
