"""A tiny exchange that says what a test tells it to, over real websockets; and a proxy that cuts connections."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve

from gateway.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, MarketInfo
from tests.hashpit.test_book import market

HELLO = {
    "server": "hashpit",
    "version": "0",
    "epoch": "e1",
    "connection": "c1",
    "challenge": "ab" * 32,
    "ts_us": 1,
    "frame_bytes_max": 65536,
    "heartbeat_ms": 5000,
    "idle_ms": 60000,
}
BALANCE = {
    "account": 100,
    "name": "n",
    "balance": "1",
    "held": "0",
    "available": "1",
    "positions": "0",
}


ORDER = {
    "order_id": 7,
    "client_order_id": "c",
    "market": "M",
    "status": "open",
    "price": "1",
    "qty": "1",
    "filled_qty": "0",
    "remaining_qty": "1",
    "ts_us": 1,
    "repeat": False,
    "fills": [],
}


class Refuse(Exception):
    """Raised by a handler: the answer is an error."""

    def __init__(self, code: int, reason: str, **data: Any) -> None:
        self.error = {"code": code, "message": reason, "data": {"reason": reason, **data}}


class Silence(Exception):
    """Raised by a handler: no answer."""


class Cut(Exception):
    """Raised by a handler: no answer, and the TCP connection breaks."""


Handler = Callable[[dict[str, Any]], Any]


class Scripted:
    """The server. ``handlers`` answer methods; ``calls`` is everything that was asked."""

    def __init__(self) -> None:
        self.hello: dict[str, Any] = dict(HELLO)
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.sockets: list[ServerConnection] = []
        self.handlers: dict[str, Handler] = {
            "time": lambda params: {"ts_us": 5},
            "markets": lambda params: [msgspec.to_builtins(self.market())],
            "login": lambda params: {"account": 100, "key": params["key"], "permissions": ["read"]},
            "subscribe": lambda params: params,
            "unsubscribe": lambda params: params,
            "resync": lambda params: {"channels": [params["channel"]]},
            "resume": lambda params: {"account_seq": params["account_seq"]},
            "heartbeat": lambda params: {"ts_us": 1, "channels": {}},
        }
        self._server: Server | None = None

    @staticmethod
    def market() -> MarketInfo:
        return market()

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = next(iter(self._server.sockets)).getsockname()[:2]
        return f"ws://{host}:{port}/ws"

    async def __aenter__(self) -> "Scripted":
        names: Any = [SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK]
        self._server = await serve(self._serve, "127.0.0.1", 0, subprotocols=names)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close(close_connections=True)
        await self._server.wait_closed()

    def asked(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.calls if name == method]

    async def say(self, message: dict[str, Any], socket: ServerConnection | None = None) -> None:
        socket = socket or self.sockets[-1]
        binary = socket.subprotocol == SUBPROTOCOL_MSGPACK
        payload = (msgspec.msgpack if binary else msgspec.json).encode({"jsonrpc": "2.0", **message})
        await socket.send(payload, text=not binary)

    async def publish(self, channel: str, kind: str, seq: int, prev_seq: int, data: Any) -> None:
        message = {"channel": channel, "type": kind, "seq": seq, "prev_seq": prev_seq, "ts_us": 1}
        await self.say({"method": "subscription", "params": message | {"data": msgspec.to_builtins(data)}})

    async def account_snapshot(self, seq: int) -> None:
        empty = {"balance": BALANCE, "positions": [], "orders": [], "deliveries": []}
        await self.publish("account", "snapshot", seq, seq, empty)

    async def deposit(self, seq: int) -> None:
        """An event of the account channel."""
        data = {"event": "balance", "amount": str(seq), "reason": "deposit", "transfer_id": "t"}
        await self.publish("account", "event", seq, seq - 1, data | {"balance": "1", "held": "0"})

    def cut(self) -> None:
        """Break the newest connection without a closing handshake."""
        self.sockets[-1].transport.abort()

    async def _serve(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        await self.say({"method": "hello", "params": self.hello}, socket)
        async for payload in socket:
            decode: Any = msgspec.msgpack.decode if isinstance(payload, bytes) else msgspec.json.decode
            request = decode(payload)
            method, params = request["method"], request.get("params", {})
            self.calls.append((method, params))
            answer: dict[str, Any] = {"id": request["id"]}
            try:
                answer["result"] = self.handlers[method](params)
            except Refuse as refusal:
                answer["error"] = refusal.error
            except Silence:
                continue
            except Cut:
                socket.transport.abort()
                return
            await self.say(answer, socket)


class Proxy:
    """Between a client and a server: forwards bytes, and cuts or withholds them on command."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers_pass = True
        """False: what the server says is lost."""
        self.calls_pass = True
        """False: what the client says is lost."""

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, onward]
        for source, sink, is_answer in ((reader, onward, False), (there, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
        try:
            while data := await source.read(65_536):
                if not (self.answers_pass if is_answer else self.calls_pass):
                    continue
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()
