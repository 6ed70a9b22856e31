"""The HTTP edge: the only file that knows Litestar and uvicorn. It carries requests to the Service and answers back.

It runs in the exchange's event loop, and the trading path never waits for it. What it decides is memory and time: sockets in
all and per address, the length of headers and bodies, requests in flight, how long each step may take.
"""

import asyncio
import logging
import re
import socket
import ssl
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import h11
import uvicorn
from litestar import Litestar, MediaType, Request, Response, WebSocket
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.handlers import HTTPRouteHandler, websocket
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)
from msgspec.json import schema as json_schema
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway import log
from gateway.config import Config, client_address
from gateway.nicehash import problems
from gateway.nicehash.calls import Reply, Route, error_reply
from gateway.nicehash.calls import Request as Asked
from gateway.nicehash.problems import Problem
from gateway.nicehash.routes import ROUTES
from gateway.nicehash.service import BODY_BYTES_MAX, Service
from gateway.nicehash.stomp import MESSAGE_BYTES_MAX, StompSession
from gateway.server import Door, ListenError, bind, tls_context

FEED_PATH: Final = "/ws-front-public/websocket"
SCHEMA_PATH: Final = "/schema"
HEADERS_BYTES_MAX: Final = 16_384
HEAD_S: Final = 5.0
"""A socket that has not sent a whole request's head by then is closed; a kept one that has not begun one, too."""
BODY_S: Final = 5.0
"""How long a body may take."""
ANSWER_S: Final = 10.0
"""How long a command may wait for the disk before the client is told that its outcome is unknown."""
ACCEPT_AGAIN_S: Final = 0.1
"""The pause when the system lets no socket in, for want of file descriptors say."""
STALL_S: Final = 30.0
"""A socket that does not take what is written to it for so long is closed."""
STOP_S: Final = 2
"""How long requests in flight have when the exchange stops."""
BACKLOG: Final = 256
FRAMES_MAX: Final = 1_000
"""Messages of the feed that wait for one client; one that reads too slowly for that is closed."""
FRAMES_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of them, the same: a whole book is more than one of them."""
SLOW_READER: Final = 1008
GOING_AWAY: Final = 1001

_log = log.get("nicehash")


class Edge:
    """Listens, and answers. ``clock`` gives nanoseconds since the Unix epoch."""

    def __init__(self, service: Service, config: Config, clock: Callable[[], int]) -> None:
        """Raises ConfigError for a certificate that cannot be used."""
        self.service = service
        self.config = config
        self.clock = clock
        self.in_flight = 0
        """Requests that are not answered."""
        self.url = ""
        self._feeds: dict[FeedSocket, None] = {}
        self._tls = tls_context(config.server)
        self._proxies = frozenset(config.server.trusted_proxies)
        self.door: Door | None = None
        self._server: Listener | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and listen. Raises ListenError when the address cannot be used."""
        mine = self.config.nicehash
        self.door = door = await bind(
            "nicehash",
            mine.host,
            mine.port,
            lambda family: Door(family, mine.connections_max, mine.connections_per_ip_max),
        )
        door.listen(BACKLOG)
        settings = uvicorn.Config(
            application(self),
            http=Patient,
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES_MAX,
            ws_per_message_deflate=False,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(HEAD_S),
            timeout_graceful_shutdown=STOP_S,
            h11_max_incomplete_event_size=HEADERS_BYTES_MAX,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        address, port = door.getsockname()[:2]
        host = mine.host or address
        self.url = f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        self._server = Listener(settings, self._tls)
        self._task = asyncio.create_task(self._server.serve(sockets=[door]))
        self._task.add_done_callback(_served)
        listening = asyncio.create_task(self._server.listening.wait())
        await asyncio.wait({self._task, listening}, return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        if self._task.done():
            raise ListenError(f"nicehash.host, nicehash.port: cannot listen on {mine.host}:{mine.port}") from (
                self._task.exception()
            )

    async def stop(self) -> None:
        """Take no more requests, let those in flight be answered, and close every socket. Harmless when repeated."""
        if self._server is None or self._task is None:
            return
        for feed in [*self._feeds]:
            feed.end(GOING_AWAY)
        self._server.should_exit = True
        task, self._task = self._task, None
        await task

    # ---------------------------------------------------------------------------------------------------------- requests

    async def answer(self, route: Route, request: Request[Any, Any, Any]) -> Response[bytes]:
        """One request, from its raw bytes to its answer."""
        unique = str(uuid.uuid4())
        try:
            # Before the request is counted: bodies that do not come must not keep others out. The door bounds them.
            body = await _body(request)
            if self.in_flight >= self.config.nicehash.requests_max:
                raise problems.http(problems.UNAVAILABLE, "too many requests at once")
            self.in_flight += 1
            try:
                return _response(await self._reply(route, request, body, unique))
            finally:
                self.in_flight -= 1
        except Problem as problem:
            return _response(error_reply(problem, unique))

    async def _reply(self, route: Route, request: Request[Any, Any, Any], body: bytes, unique: str) -> Reply:
        scope = request.scope
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asked = Asked(
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            headers=headers,
            body=body,
            ip=self._address(scope["client"], headers.get("x-forwarded-for", "")),
            unique=unique,
        )
        told: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def reply(answer: Reply) -> None:
            if not told.done():
                told.set_result(answer)

        path = {name: str(value) for name, value in request.path_params.items()}
        self.service.handle(route, asked, path, self.clock(), reply)
        try:
            async with asyncio.timeout(ANSWER_S):
                return await told
        except TimeoutError:
            text = "the outcome is not known yet: send the request again with its X-Request-Id"
            raise problems.http(problems.TIMED_OUT, text) from None

    def _address(self, client: Any, forwarded: str) -> str:
        """Who sent a request: the peer, or for whom a trusted proxy did."""
        return client_address(client[0] if client else "", forwarded, self._proxies)

    # -------------------------------------------------------------------------------------------------------------- feed

    async def feed(self, socket: WebSocket[Any, Any, Any]) -> None:
        """One client of the push feed, until either side closes."""
        offered = socket.scope.get("subprotocols") or []
        wanted = next((name for name in offered if name in ("v12.stomp",)), None)
        await socket.accept(subprotocols=wanted)
        mine = FeedSocket(socket)
        ip = self._address(socket.scope["client"], socket.headers.get("x-forwarded-for", ""))

        def afford(tokens: int) -> bool:
            return self.service.afford(ip, tokens, self.clock())

        session = StompSession(self.service.feed, mine.put, lambda: mine.end(1000), afford)
        self._feeds[mine] = None
        writer = asyncio.create_task(mine.write())
        try:
            while True:
                message = await socket.receive_data(mode="text")
                session.receive(message.encode())
        except WebSocketDisconnect:
            pass
        finally:
            session.closed()
            del self._feeds[mine]
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)


class FeedSocket:
    """What waits for one client of the feed."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        self._socket = socket
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._code = 0
        self._news = asyncio.Event()

    def put(self, frame: bytes) -> None:
        """Send a frame, soon."""
        if self._code:
            return
        if len(self._frames) >= FRAMES_MAX or self._bytes + len(frame) > FRAMES_BYTES_MAX:
            self.end(SLOW_READER)
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        self._news.set()

    def end(self, code: int) -> None:
        """Close behind what waits."""
        self._code = self._code or code
        self._news.set()

    async def write(self) -> None:
        """Write what comes, until the end."""
        while True:
            while self._frames:
                frame = self._frames.popleft()
                self._bytes -= len(frame)
                await self._socket.send_text(frame.decode())
            if self._code:
                await self._socket.close(code=self._code)
                return
            self._news.clear()
            await self._news.wait()


def _served(task: asyncio.Task[None]) -> None:
    """The server's end. One that nobody asked for is a bug, which costs this API and nothing else."""
    if not task.cancelled() and task.exception() is not None:
        _log.error("NiceHash's API ended", exc_info=task.exception())


class Listener(uvicorn.Server):
    """uvicorn's server behind a Door of ours, and without signal handlers: those are the exchange's.

    uvicorn would let its event loop accept: any number of sockets, and each as long as it takes to finish a TLS handshake.
    ``listening`` is set once it takes requests.
    """

    def __init__(self, settings: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(settings)
        self.listening = asyncio.Event()
        self._tls = tls
        self._accepting: asyncio.Task[None] | None = None
        self._greeting: set[asyncio.Task[None]] = set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None, "the edge binds"
        await self.lifespan.startup()
        self.servers = []
        self._accepting = asyncio.create_task(self._accept(sockets[0]))
        self.started = True
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        await super().shutdown(sockets)

    async def _accept(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(door)
            except ConnectionAbortedError:
                continue  # the door let it go again, or it went by itself
            except OSError as problem:
                _log.error("sockets are not accepted", problem=str(problem))
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            greeting = asyncio.create_task(self._greet(accepted))
            self._greeting.add(greeting)
            greeting.add_done_callback(self._greeting.discard)

    async def _greet(self, accepted: socket.socket) -> None:
        """Finish the TLS handshake, if there is one, and hand the socket over."""
        loop = asyncio.get_running_loop()
        accepted.setblocking(False)

        def protocol() -> Patient:
            return Patient(self.config, self.server_state, self.lifespan.state, loop)

        timeouts: dict[str, Any] = {"ssl_handshake_timeout": HEAD_S} if self._tls is not None else {}
        try:
            await loop.connect_accepted_socket(protocol, accepted, ssl=self._tls, **timeouts)
        except (OSError, ssl.SSLError):
            accepted.close()  # the peer's doing


class Patient(H11Protocol):
    """uvicorn's HTTP, which would wait for a head, and for a peer that does not read, as long as it takes."""

    _head_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and self.conn.their_state is h11.IDLE:
            self._await_head()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


# -------------------------------------------------------------------------------------------------------- the application


def application(edge: Edge) -> Litestar:
    """The routes as a Litestar application, with their OpenAPI description at ``/schema/openapi.json``."""

    @websocket(FEED_PATH)
    async def feed(socket: WebSocket[Any, Any, Any]) -> None:
        await edge.feed(socket)

    return Litestar(
        [*(_handler(edge, route) for route in ROUTES), feed],
        debug=False,
        logging_config=None,
        request_max_body_size=BODY_BYTES_MAX,
        exception_handlers={HTTPException: _refused, Exception: _failed},
        openapi_config=OpenAPIConfig(
            title="Hashpit: NiceHash's API v2 over live markets",
            version=edge.service.exchange.version,
            path=SCHEMA_PATH,
            render_plugins=[JsonRenderPlugin()],
        ),
    )


def _handler(edge: Edge, route: Route) -> HTTPRouteHandler:
    async def run(request: Request[Any, Any, Any]) -> Response[bytes]:
        return await edge.answer(route, request)

    name = re.sub(r"[^A-Za-z0-9]+", "_", f"{route.method} {route.path}").strip("_").lower()
    run.__name__ = name
    return HTTPRouteHandler(
        re.sub(r"\{(\w+)\}", r"{\1:str}", route.path),
        http_method=route.method,  # type: ignore[arg-type]
        name=name,
        status_code=200,
        media_type=MediaType.JSON,
        summary=route.summary,
        operation_id=name,
        operation_class=_operation(route),
        responses={200: ResponseSpec(route.answer, generate_examples=False)},
    )(run)


def _operation(route: Route) -> type[Operation]:
    """What the OpenAPI description says of a route beyond its answer: parameters, body, signature."""
    types = {"text": OpenAPIType.STRING, "int": OpenAPIType.INTEGER, "flag": OpenAPIType.BOOLEAN}
    parameters = [
        Parameter(name=name, param_in="path", required=True, schema=Schema(type=OpenAPIType.STRING))
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        Parameter(
            name=param.name,
            param_in="query",
            required=param.required,
            description=param.description,
            schema=Schema(type=types[param.kind]),
        )
        for param in route.query
    ]
    if route.signature != "no":
        parameters += [
            Parameter(
                name=name,
                param_in="header",
                required=route.signature == "yes",
                schema=Schema(type=OpenAPIType.STRING),
            )
            for name in ("X-Auth", "X-Time", "X-Nonce", "X-Organization-Id")
        ]
        parameters.append(
            Parameter(name="X-Request-Id", param_in="header", required=False, schema=Schema(type=OpenAPIType.STRING))
        )
    body: RequestBody | None = None
    if route.body is not None:
        [kind] = json_schema(route.body)["$defs"].values()
        body = RequestBody(content={"application/json": OpenAPIMediaType(schema=kind)}, required=True)

    @dataclass
    class RouteOperation(Operation):
        def __post_init__(self) -> None:
            self.parameters = [*parameters]
            self.request_body = body

    return RouteOperation


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """The body, as it was sent. Raises Problem for one that is too long or takes too long."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.body()
    except TimeoutError:
        raise problems.http(problems.REQUEST_TIMEOUT, f"a body takes at most {BODY_S:.0f} s") from None


def _response(reply: Reply) -> Response[bytes]:
    return Response(reply.body, status_code=reply.status, media_type=MediaType.JSON)


def _refused(request: Request[Any, Any, Any], problem: HTTPException) -> Response[bytes]:
    """What Litestar refuses: paths that are not there, methods, bodies that are too long."""
    texts = {
        problems.NOT_FOUND: "there is nothing at this path",
        problems.METHOD_NOT_ALLOWED: "this path takes other methods",
        problems.TOO_LARGE: f"a body has at most {BODY_BYTES_MAX} bytes",
    }
    text = texts.get(problem.status_code, "the request cannot be answered")
    return _response(error_reply(problems.http(problem.status_code, text), str(uuid.uuid4())))


def _failed(request: Request[Any, Any, Any], problem: Exception) -> Response[bytes]:
    """A bug in the edge: it is logged, and the client is told no more than that."""
    _log.error("bug", path=request.scope["path"], exc_info=problem)
    generic = Problem(problems.INTERNAL, problems.SERVER, "Generic Server Error")
    return _response(error_reply(generic, str(uuid.uuid4())))
