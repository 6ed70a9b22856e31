"""Any upgrade request gets a connection in an encoding that it offered, or an HTTP status that is documented, and no exception.

An input is a request's head as it is on the wire: a line with method and path, then headers. The library has parsed it by the
time it is ours, so what it refuses (a head without end, names with spaces) is cut away here.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Final, cast

from multidict import CIMultiDict
from picows import WSUpgradeRequest

from gateway.codec import CODECS
from gateway.config import ServerConfig
from gateway.server import PATH, Connection, Server
from gateway.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK
from tests.fuzz.runner import scratch
from tests.gateway.link import START_NS, Stage

BYTES_MAX = 2_048
ORIGIN: Final = "https://trade.example"
PROXY: Final = "10.0.0.1"
STATUSES: Final = frozenset({400, 403, 404, 426, 503})
WORDS = (
    *(b"GET /ws HTTP/1.1\n", b"GET /ws?a=b HTTP/1.1\n", b"Upgrade: websocket\n", b"Connection: keep-alive, Upgrade\n"),
    *(b"Sec-WebSocket-Version: 13\n", b"Sec-WebSocket-Protocol: ", SUBPROTOCOL_JSON.encode(), SUBPROTOCOL_MSGPACK.encode()),
    *(b"Origin: https://trade.example\n", b"Origin: null\n", b"X-Forwarded-For: 192.0.2.7, unknown\n", b", ", b"\xc3\xa9"),
)
_SERVERS: list[Server] = []


def one(data: bytes) -> None:
    if not _SERVERS:
        config = ServerConfig(origins=(ORIGIN,), trusted_proxies=(PROXY,))
        for sockets_max in (100, 0):
            _SERVERS.append(Server(Stage(scratch()).exchange, config, lambda: START_NS, sockets_max))
            _SERVERS[-1]._accepting = True
    first, *lines = data.decode("latin-1").split("\n")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.isascii() and name.replace("-", "").isalnum():
            headers.add(name, value.strip())
    path = [*first.split(" "), ""][1].encode("latin-1")
    for server in _SERVERS:
        copy = headers.copy()
        request = cast("WSUpgradeRequest", SimpleNamespace(path=path, method=b"GET", headers=copy))
        answer = server.listener(request)
        offered = [name.strip() for line in headers.getall("Sec-WebSocket-Protocol", []) for name in line.split(",")]
        if answer.listener is None:
            status = int(answer.response.status)
            assert status in STATUSES, status
            assert answer.response.body, "a refusal says why"
            continue
        connection = answer.listener
        assert isinstance(connection, Connection)
        assert server is _SERVERS[0], "a full server let somebody in"
        assert path.partition(b"?")[0] == PATH.encode()
        assert headers.get("Origin", ORIGIN) == ORIGIN
        spoken = answer.response.headers.get("Sec-WebSocket-Protocol")
        known = [name for name in offered if name in {codec.subprotocol for codec in CODECS}]
        assert spoken == (known[0] if known else None)
        for peer in (PROXY, "192.0.2.9"):
            ip = server.client_ip(peer, headers.get("X-Forwarded-For", ""))
            assert ip == ip.strip()
            assert peer == PROXY or ip == peer, "somebody else's word was taken for an address"


def seeds() -> Iterator[tuple[str, bytes]]:
    """Good requests of programs, browsers and proxies, and what is refused."""
    good = "GET /ws HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n"
    yield "program", good.encode()
    yield "json", f"{good}Sec-WebSocket-Protocol: {SUBPROTOCOL_JSON}\n".encode()
    yield (
        "either",
        f"{good}Sec-WebSocket-Protocol: chat, {SUBPROTOCOL_MSGPACK}\nSec-WebSocket-Protocol: {SUBPROTOCOL_JSON}\n".encode(),
    )
    yield "chat", f"{good}Sec-WebSocket-Protocol: chat\n".encode()
    yield "empty", f"{good}Sec-WebSocket-Protocol: ,\n".encode()
    yield "browser", f"{good}Origin: {ORIGIN}\n".encode().replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade")
    yield "elsewhere", f"{good}Origin: https://evil.example\n".encode()
    yield "proxy", f"{good}X-Forwarded-For: 192.0.2.7, 203.0.113.9\n".encode()
    yield "query", good.replace("/ws", "/ws?token=x").encode()
    yield "path", good.replace("/ws", "/").encode()
    yield "version", good.replace("13", "8").encode()
    yield "nothing", b"GET"
