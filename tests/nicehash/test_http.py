"""The HTTP edge over real sockets: raw bytes, every bound, the feed, the description of the API, stopping."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
import websockets

from gateway.config import Config, NiceHashConfig, ServerConfig
from gateway.nicehash import http as http_module
from gateway.nicehash.http import FEED_PATH, Edge
from gateway.nicehash.routes import ROUTES
from gateway.nicehash.service import BODY_BYTES_MAX
from gateway.server import ListenError
from tests.gateway.test_server import self_signed
from tests.nicehash.venue import Venue

WAIT_S = 10.0


class Running:
    """A venue behind a listening edge."""

    def __init__(self, venue: Venue, edge: Edge) -> None:
        self.venue = venue
        self.edge = edge
        self.port = int(edge.url.rpartition(":")[2])

    async def raw(self, content: bytes, read_all: bool = True) -> bytes:
        """Send bytes, and read what comes until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(content)
            async with asyncio.timeout(WAIT_S):
                return await reader.read(-1 if read_all else 65_536)
        finally:
            writer.close()

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: Any) -> tuple[int, dict[str, str], Any]:
        """One request on a socket of its own: status, headers, JSON."""
        lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        answer = await self.raw("\r\n".join([*lines, "", ""]).encode() + body)
        head, _, content = answer.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
        return int(first.split()[1]), found, json.loads(content)


@asynccontextmanager
async def serving(tmp_path: Path, server: ServerConfig | None = None, **limits: Any) -> AsyncIterator[Running]:
    config = Config(server=server or ServerConfig(), nicehash=NiceHashConfig(enabled=True, port=0, **limits))
    venue = Venue(tmp_path, config)
    edge = Edge(venue.service, config, lambda: venue.stage.now_ns)
    await edge.start()
    try:
        yield Running(venue, edge)
    finally:
        async with asyncio.timeout(WAIT_S):
            await edge.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds of the edge, which tells nobody."""
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def open_sockets(running: Running) -> int:
    assert running.edge.door is not None
    return running.edge.door.open


def is_error(answer: Any, code: int) -> bool:
    return (
        isinstance(answer, dict)
        and set(answer) == {"error_id", "errors"}
        and [item["code"] for item in answer["errors"]] == [code]
    )


async def test_a_request_and_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        for target in ("/api/v2/time", "/api/v2/time/", "/api/v2/time?", "/api/v2/time/?x=1"):
            status, headers, answer = await running.ask("GET", target)
            assert (status, answer) == (200, {"serverTime": 1_795_435_200_000})
            assert headers["content-type"] == "application/json"
            assert "server" not in headers


async def test_every_path_is_there_with_and_without_a_slash(tmp_path: Path) -> None:
    async with serving(tmp_path, connections_per_ip_max=1_000) as running:
        for route in ROUTES:
            for slash in ("", "/"):
                target = route.path.replace("{id}", "x").replace("{currency}", "BTC") + slash
                status, _, answer = await running.ask(route.method, target)
                assert not is_error(answer, 404), f"{route.method} {target}"
                assert status in (200, 400, 401, 429), (route.path, status, answer)
                running.venue.wait(1)


async def test_a_signature_is_over_the_bytes_as_they_were_sent(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        venue = running.venue
        client = venue.client()
        body = b'{ "name":"p\xc3\xa4",  "algorithm":"SCRYPT","stratumHostname":"a.example","stratumPort":1,"username":"u"}'
        headers = signed(venue, client, "POST", "/main/api/v2/pool/", "a=%20b&c", body)
        status, _, answer = await running.ask("POST", "/main/api/v2/pool/?a=%20b&c", body, **headers)
        assert (status, answer.get("name")) == (200, "pä"), answer
        changed = body.replace(b"  ", b" ")
        headers = signed(venue, client, "POST", "/main/api/v2/pool/", "", body)
        status, _, answer = await running.ask("POST", "/main/api/v2/pool/", changed, **headers)
        assert status == 401
        assert is_error(answer, 2000)


def signed(venue: Venue, client: Any, method: str, path: str, query: str, body: bytes) -> dict[str, str]:
    """The headers of a signed request."""
    caught: list[dict[str, str]] = []
    real = venue.service.handle
    venue.service.handle = lambda route, request, *rest: caught.append(dict(request.headers))  # type: ignore[method-assign]
    try:
        venue.start(method, path, client, query=query, raw=body)
    finally:
        venue.service.handle = real  # type: ignore[method-assign]
    return caught[0]


async def test_paths_and_methods_that_are_not_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        status, _, answer = await running.ask("GET", "/main/api/v2/nothing")
        assert status == 404
        assert is_error(answer, 404)
        status, _, answer = await running.ask("PUT", "/api/v2/time")
        assert status == 405
        assert is_error(answer, 405)


async def test_a_body_that_is_too_long(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        path = "/main/api/v2/hashpower/orders/fixedPrice"
        fits = b'{"algorithm":"SHA256","limit":1,"x":"'.ljust(BODY_BYTES_MAX - 2, b"x") + b'"}'
        assert len(fits) == BODY_BYTES_MAX
        assert (await running.ask("POST", path, fits))[0] == 200
        status, _, answer = await running.ask("POST", path, fits + b" ")
        assert status == 413
        assert is_error(answer, 413)


async def test_a_head_that_is_too_long(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        answer = await running.raw(b"GET /api/v2/time HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000)
        assert b" 400 " in answer.partition(b"\r\n")[0]


async def test_bytes_that_are_no_http(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        assert b" 400 " in (await running.raw(b"\x16\x03\x01 hello\r\n\r\n")).partition(b"\r\n")[0]
        assert (await running.ask("GET", "/api/v2/time"))[0] == 200


async def test_a_head_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "HEAD_S", 0.05)
    async with serving(tmp_path) as running:
        for sent in (b"", b"GET /api/v2/time HTTP/1.1\r\nHost:"):
            assert await running.raw(sent) == b""
        # A socket that is kept gets the same time for its next head.
        keep = b"GET /api/v2/time HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await running.raw(keep + b"GET /api")
        assert answer.count(b"HTTP/1.1 200") == 1


async def test_a_body_that_does_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "BODY_S", 0.05)
    async with serving(tmp_path) as running:
        head = b"POST /main/api/v2/pool HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
        answer = await running.raw(head, read_all=False)
        assert b" 408 " in answer.partition(b"\r\n")[0]


async def test_bodies_that_do_not_come_keep_no_other_request_out(tmp_path: Path) -> None:
    async with serving(tmp_path, requests_max=1) as running:
        head = b"POST /main/api/v2/pool HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
        waiting = [asyncio.create_task(running.raw(head, read_all=False)) for _ in range(3)]
        await until(lambda: open_sockets(running) == 3)
        await asyncio.sleep(0.05)  # until their heads are read
        assert (await running.ask("GET", "/api/v2/time"))[0] == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_an_answer_that_the_disk_holds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "ANSWER_S", 0.05)
    async with serving(tmp_path) as running:
        venue = running.venue
        client = venue.client()
        order = venue.order(client)
        venue.stage.sequencer.held = True
        path = f"/main/api/v2/hashpower/order/{order['id']}"
        headers = signed(venue, client, "DELETE", path, "", b"")
        status, _, answer = await running.ask("DELETE", path, b"", **headers)
        assert status == 504
        assert is_error(answer, 504)
        venue.stage.sequencer.commit()
        assert running.edge.in_flight == 0


async def test_requests_in_flight_are_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path, requests_max=2) as running:
        venue = running.venue
        client = venue.client()
        venue.stage.sequencer.held = True
        venue.start("DELETE", "/main/api/v2/hashpower/order/00000001-0000-8000-8000-000000000009", client)
        book = "/main/api/v2/hashpower/orderBook?algorithm=SHA256"
        waiting = [asyncio.create_task(running.ask("GET", book)) for _ in range(2)]
        await until(lambda: running.edge.in_flight == 2)
        status, _, answer = await running.ask("GET", "/api/v2/time")
        assert status == 503
        assert is_error(answer, 503)
        venue.stage.sequencer.commit()
        assert [(await task)[0] for task in waiting] == [200, 200]
        assert (await running.ask("GET", "/api/v2/time"))[0] == 200


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_sockets_are_bounded(tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """With the loop of the tests, and with that of the server: each closes sockets in its own way."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(bounded_sockets(tmp_path))


async def bounded_sockets(tmp_path: Path) -> None:
    async with serving(tmp_path, connections_max=3, connections_per_ip_max=2) as running:
        held = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]
        await until(lambda: open_sockets(running) == 2)
        assert await quiet(running) == b"", "closed at once"
        held[0][1].close()
        await until(lambda: open_sockets(running) == 1)
        assert (await running.ask("GET", "/api/v2/time"))[0] == 200
        async with feed(running):
            await until(lambda: open_sockets(running) == 2)
            assert await quiet(running) == b"", "the feed counts"
        held[1][1].close()
        await until(lambda: not open_sockets(running))


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    monkeypatch.setattr(http_module, "HEAD_S", 0.3)
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(tls(tmp_path))


async def tls(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    server = ServerConfig(tls_certificate=str(certificate), tls_key=str(key))
    async with serving(tmp_path / "data", server=server) as running:
        assert running.edge.url.startswith("https://")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=ssl.create_default_context(cafile=str(certificate))
        )
        writer.write(b"GET /api/v2/time HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(WAIT_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        # Whoever does not finish the handshake, or knows nothing of one, is let go.
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            silent = await asyncio.open_connection("127.0.0.1", running.port)
            silent[1].write(sent)
            async with asyncio.timeout(WAIT_S):
                await silent[0].read()
            silent[1].close()
        await until(lambda: not open_sockets(running))


async def quiet(running: Running) -> bytes:
    """What a request gets whose socket may be closed at once."""
    try:
        return await running.raw(b"GET /api/v2/time HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    except ConnectionError:
        return b""


async def test_a_bug_in_the_edge_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the house")

    async with serving(tmp_path) as running:
        monkeypatch.setattr(running.venue.service, "handle", broken)
        status, _, answer = await running.ask("GET", "/api/v2/time")
        assert status == 500
        assert is_error(answer, 2999)
        assert "secret" not in json.dumps(answer)


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    async with serving(tmp_path / "one") as running:
        config = Config(nicehash=NiceHashConfig(enabled=True, port=running.port))
        with pytest.raises(ListenError, match=r"nicehash\.port: cannot listen"):
            await Edge(running.venue.service, config, lambda: 0).start()


async def test_the_client_behind_a_trusted_proxy(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        ips: list[str] = []
        handle = running.venue.service.handle

        def seen(route: Any, request: Any, *rest: Any) -> None:
            ips.append(request.ip)
            handle(route, request, *rest)

        running.venue.service.handle = seen  # type: ignore[assignment, method-assign]
        await running.ask("GET", "/api/v2/time", X_Forwarded_For="10.9.9.9")
        running.edge._proxies = frozenset({"127.0.0.1"})
        await running.ask("GET", "/api/v2/time", X_Forwarded_For="10.9.9.9")
        assert ips == ["127.0.0.1", "10.9.9.9"]


async def test_a_stop_answers_what_is_in_flight(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        venue = running.venue
        client = venue.client()
        venue.stage.sequencer.held = True
        venue.start("DELETE", "/main/api/v2/hashpower/order/00000001-0000-8000-8000-000000000009", client)
        waiting = asyncio.create_task(running.ask("GET", "/main/api/v2/hashpower/orderBook?algorithm=SHA256"))
        await until(lambda: running.edge.in_flight == 1)
        stopping = asyncio.create_task(running.edge.stop())
        await asyncio.sleep(0.05)
        venue.stage.sequencer.commit()
        await stopping
        assert (await waiting)[0] == 200


async def test_the_description_of_the_api(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        status, _, api = await running.ask("GET", "/schema/openapi.json")
    assert status == 200
    assert {(method.upper(), path) for path, methods in api["paths"].items() for method in methods} == {
        (route.method, route.path) for route in ROUTES
    }
    create = api["paths"]["/main/api/v2/hashpower/order"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    assert {"price", "limit", "amount", "poolId", "algorithm"} <= set(body["required"])
    assert {parameter["name"] for parameter in create["parameters"]} == {
        *("X-Auth", "X-Time", "X-Nonce", "X-Organization-Id", "X-Request-Id"),
    }
    answer = create["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    order = api["components"]["schemas"][answer.rpartition("/")[2]]
    assert {"id", "availableAmount", "payedAmount"} <= set(order["properties"])
    mine = api["paths"]["/main/api/v2/hashpower/myOrders"]["get"]["parameters"]
    assert {"ts", "op", "limit", "active"} <= {parameter["name"] for parameter in mine}


# --- the feed


def feed(running: Running) -> Any:
    """A client's end of the feed."""
    return websockets.connect(running.edge.url.replace("http", "ws") + FEED_PATH)


async def frames(socket: Any, count: int) -> list[str]:
    async with asyncio.timeout(WAIT_S):
        return [await socket.recv() for _ in range(count)]


async def test_the_feed(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        venue = running.venue
        client = venue.client()
        venue.seller(30_000, 2_000)
        first = venue.order(client)
        url = running.edge.url.replace("http", "ws") + FEED_PATH
        async with websockets.connect(url, subprotocols=[websockets.Subprotocol("v12.stomp")]) as socket:
            assert socket.subprotocol == "v12.stomp"
            await socket.send("CONNECT\naccept-version:1.1,1.2\nhost:x\n\n\0")
            [connected] = await frames(socket, 1)
            assert connected.startswith("CONNECTED\n")
            topic = "/tradingview/order-changes/SHA256ASICBOOST/BTC"
            await socket.send(f"SUBSCRIBE\nid:7\ndestination:{topic}\n\n\0")
            [snapshot] = await frames(socket, 1)
            head, _, content = snapshot.rstrip("\0").partition("\n\n")
            assert head.startswith("MESSAGE\n")
            assert "subscription:7" in head
            assert f"destination:{topic}" in head
            assert [row["orderId"] for row in json.loads(content)["list"]] == [first["id"]]
            second = venue.order(client, price="0.6")
            created, _ = await frames(socket, 2)
            assert json.loads(created.rstrip("\0").partition("\n\n")[2]) == {
                "event": "OrderCreated",
                "orderId": second["id"],
                "price": "0.6",
            }
        await until(lambda: not running.edge._feeds and not open_sockets(running))
        assert len(venue.service.feed) == 0


@pytest.mark.parametrize(("bound", "most"), [("FRAMES_MAX", 5), ("FRAMES_BYTES_MAX", 2_000)])
async def test_a_feed_that_is_not_read_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(http_module, bound, most)
    async with serving(tmp_path) as running:
        venue = running.venue
        client = venue.client()
        async with feed(running) as socket:
            await socket.send("CONNECT\naccept-version:1.2\n\n\0")
            await socket.send("SUBSCRIBE\nid:7\ndestination:/tradingview/order-changes/SHA256/BTC\n\n\0")
            await frames(socket, 2)
            pool = venue.pool(client)
            for _ in range(3):
                # what is read takes no room
                venue.order(client, pool_id=pool)
                await frames(socket, 1)
            for _ in range(20):
                venue.order(client, pool_id=pool)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await frames(socket, 100)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008


async def test_subscribing_again_and_again_spends_the_address_s_requests(tmp_path: Path) -> None:
    async with serving(tmp_path) as running, feed(running) as socket:
        await socket.send("CONNECT\naccept-version:1.2\n\n\0")
        await frames(socket, 1)
        topic = "/tradingview/candlesticks/SHA256/1h"
        for number in range(running.venue.stage.exchange.config.rates.ip.burst + 1):
            await socket.send(f"SUBSCRIBE\nid:{number}\ndestination:{topic}\n\n\0UNSUBSCRIBE\nid:{number}\n\n\0")
        told = [frame async for frame in socket]
        assert str(told[-1]).startswith("ERROR\nmessage:too many requests")


async def test_a_stop_closes_the_feed(tmp_path: Path) -> None:
    async with serving(tmp_path) as running, feed(running) as socket:
        stopping = asyncio.create_task(running.edge.stop())
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await frames(socket, 1)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1001, 1012)
        await stopping


async def test_a_message_that_is_too_long_closes_the_feed(tmp_path: Path) -> None:
    async with serving(tmp_path) as running, feed(running) as socket:
        await socket.send("x" * 5_000)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await frames(socket, 1)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
