"""The asyncio client against a scripted server on real websockets: what it does when things go wrong."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.wire import ChannelMessage, Close, ErrorCode, PlaceParams
from hashpit import client as client_module
from hashpit import keys
from hashpit.client import Client
from hashpit.errors import (
    Closed,
    Denied,
    KeyFileError,
    LoginFailed,
    NoAnswer,
    NotSent,
    Overflow,
    ProtocolError,
    RateLimited,
    Rejected,
    Unknown,
)
from hashpit.protocol import CodecName
from tests.hashpit.scripted import ORDER, Cut, Handler, Refuse, Scripted, Silence
from tests.hashpit.test_book import Feed


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as server:
        yield server


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_MIN_S", 0.01)


async def until(condition: object, timeout_s: float = 5) -> None:
    """Wait until ``condition()`` is true."""
    assert callable(condition)
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it never came true"
        await asyncio.sleep(0.005)


def raises(error: Exception) -> Handler:
    def handler(params: object) -> object:
        raise error

    return handler


# --- Connecting, logging in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_call_and_its_typed_answer(server: Scripted, codec: CodecName) -> None:
    async with Client(server.url, codec=codec) as client:
        assert (await client.time()).ts_us == 5
        assert (await client.market("M")).tick_size == "0.00000001"
        with pytest.raises(ValueError, match="market X is not listed"):
            await client.market("X")
        assert client.connected
    assert not client.connected


async def test_the_login_is_signed(server: Scripted) -> None:
    private, public = keys.generate()
    server.hello["ts_us"] = 1_234
    async with Client(server.url, keys.Key("k-1", "ed25519", private_key=private)):
        pass
    (params,) = server.asked("login")
    assert params["timestamp_us"] == 1_234, "the server's clock counts"
    text = b"hashpit login\n" + b"ab" * 32 + b"\nk-1\n1234"
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(bytes.fromhex(params["signature"]), text)


async def test_a_refused_login_is_final(server: Scripted) -> None:
    server.handlers["login"] = raises(Refuse(ErrorCode.LOGIN_FAILED, "login_failed", challenge="x"))
    with pytest.raises(LoginFailed):
        await Client(server.url, keys.Key("k", "hmac", secret="00" * 32)).connect()
    assert len(server.asked("login")) == 1


async def test_nobody_there() -> None:
    with pytest.raises(NotSent, match="no connection to ws://127"):
        await Client("ws://127.0.0.1:1/ws", timeout_s=0.2).connect()


async def test_a_closed_client_says_so(server: Scripted) -> None:
    client = Client(server.url)
    await client.connect()
    subscription = await client.subscribe("account")
    with pytest.raises(RuntimeError, match="connects once"):
        await client.connect()
    await client.close()
    with pytest.raises(Closed):
        await client.time()
    with pytest.raises(Closed):
        await anext(subscription)


async def test_a_revoked_key_ends_the_client(server: Scripted) -> None:
    async with Client(server.url) as client:
        subscription = await client.subscribe("account")
        await server.sockets[-1].close(Close.KEY_REVOKED, "the key was revoked")
        with pytest.raises(Closed, match="revoked"):
            await anext(subscription)
        with pytest.raises(Closed, match="revoked"):
            await client.time()
    assert len(server.sockets) == 1


async def test_it_reconnects_after_any_cut(server: Scripted) -> None:
    async with Client(server.url) as client:
        for number in range(2, 5):
            server.cut()
            await until(lambda number=number: client.connections == number)
            assert (await client.time()).ts_us == 5
        await server.sockets[-1].close(1001, "going away")
        await until(lambda: client.connections == 5)
        assert client.trouble is not None


async def test_a_server_that_talks_nonsense_is_left_and_tried_again(server: Scripted) -> None:
    async with Client(server.url) as client:
        await server.sockets[-1].send("nonsense")
        await until(lambda: client.connections == 2)
        assert isinstance(client.trouble, ProtocolError)


async def test_a_silent_server_is_left(server: Scripted) -> None:
    server.hello["heartbeat_ms"] = 50
    server.handlers["heartbeat"] = raises(Silence())
    async with Client(server.url) as client:
        await until(lambda: client.connections == 2)
        assert "silent" in str(client.trouble)


async def test_a_quiet_client_says_that_it_is_there(server: Scripted) -> None:
    server.hello["idle_ms"] = 150
    async with Client(server.url) as client:
        await until(lambda: len(server.asked("heartbeat")) >= 2)
        assert client.connections == 1


async def test_backoff_grows_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        bounds.append(high)
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    monkeypatch.setattr(client_module, "BACKOFF_MAX_S", 0.08)
    async with Scripted() as server, Client(server.url):
        await server.stop()
        await until(lambda: len(bounds) >= 6)
    assert bounds[:6] == [0.01, 0.02, 0.04, 0.08, 0.08, 0.08]


# --- Calls -----------------------------------------------------------------------------------------------------------


async def test_refusals_are_typed(server: Scripted) -> None:
    server.handlers["place"] = raises(Refuse(1405, "funds_insufficient", field="params.qty", bound="0.1"))
    server.handlers["cancel"] = raises(Refuse(ErrorCode.PERMISSION, "permission"))
    async with Client(server.url) as client:
        with pytest.raises(Rejected, match=r"funds_insufficient \(params.qty\) \[1405 funds_insufficient\]"):
            await client.place("M", "buy", "1", "1")
        with pytest.raises(Denied):
            await client.cancel(order_id=1)


async def test_numbers_are_text_or_exact(server: Scripted) -> None:
    server.handlers["place"] = lambda params: ORDER
    async with Client(server.url) as client:
        await client.place("M", "buy", Decimal("1E-3"), 2)
        await client.place("M", "buy", "1")
        with pytest.raises(TypeError, match="price: write a decimal as text"):
            await client.place("M", "buy", "1", 0.5)  # type: ignore[arg-type]
    limit, market = server.asked("place")
    assert (limit["qty"], limit["price"], limit["type"]) == ("0.001", "2", "limit")
    assert (market["type"], "price" in market) == ("market", False)


@pytest.mark.parametrize("fault", [Silence(), Cut()])
async def test_an_unknown_outcome_is_resolved_by_a_retry(server: Scripted, fault: Exception) -> None:
    """The order arrives, its answer does not. The retry carries the same id and gets the first outcome."""
    server.handlers["place"] = raises(fault)
    async with Client(server.url, timeout_s=1) as client:
        with pytest.raises(Unknown, match="outcome unknown") as caught:
            await client.call("place", PlaceParams("M", "buy", "1", "1", client_order_id="mine"), timeout_s=0.1)
        assert "mine" in str(caught.value)
        server.handlers["place"] = lambda params: ORDER | {"repeat": True}
        order = await client.retry(caught.value)
        assert order.repeat
    first, second = server.asked("place")
    assert first == second


async def test_a_retry_that_finds_nothing_out_says_so(server: Scripted) -> None:
    server.handlers["place"] = raises(Silence())
    async with Client(server.url) as client:
        client.timeout_s = 0.1
        with pytest.raises(Unknown) as caught:
            await client.place("M", "buy", "1", "1")
        with pytest.raises(Unknown) as again:
            await client.retry(caught.value, timeout_s=0.3)
    assert again.value is caught.value
    assert len(server.asked("place")) >= 3


async def test_orders_get_an_id_by_which_a_retry_is_safe(server: Scripted) -> None:
    server.handlers["place"] = lambda params: ORDER
    async with Client(server.url) as client:
        await client.place("M", "buy", "1", "1")
        await client.place("M", "buy", "1", "1")
    assert len({params["client_order_id"] for params in server.asked("place")}) == 2


async def test_a_question_without_an_answer_is_not_an_unknown_outcome(server: Scripted) -> None:
    server.handlers["time"] = raises(Silence())
    async with Client(server.url) as client:
        client.timeout_s = 0.1
        with pytest.raises(NoAnswer) as caught:
            await client.time()
        assert not isinstance(caught.value, Unknown)


async def test_without_a_connection_nothing_is_sent(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_MIN_S", 60)
    monkeypatch.setattr(random, "uniform", lambda low, high: 60)
    async with Client(server.url) as client:
        client.timeout_s = 0.1
        server.cut()
        await until(lambda: not client.connected)
        with pytest.raises(NotSent):
            await client.place("M", "buy", "1", "1")
    assert server.asked("place") == []


async def test_patience_waits_as_long_as_the_server_says(server: Scripted) -> None:
    answers = iter([Refuse(ErrorCode.RATE_LIMITED, "rate_limited", retry_after_ms=30)] * 2)

    def limited(params: object) -> object:
        for refusal in answers:
            raise refusal
        return ORDER

    server.handlers["place"] = limited
    async with Client(server.url) as client:
        began_s = time.monotonic()
        await client.patiently(lambda: client.place("M", "buy", "1", "1", client_order_id="x"))
        assert time.monotonic() - began_s >= 0.06
        answers = iter([Refuse(ErrorCode.RATE_LIMITED, "rate_limited", retry_after_ms=1)] * 9)
        with pytest.raises(RateLimited):
            await client.patiently(lambda: client.place("M", "buy", "1", "1"), tries=3)
    assert len(server.asked("place")) == 6


# --- Channels --------------------------------------------------------------------------------------------------------


async def test_the_account_goes_on_after_a_cut_without_gap_or_repeat(server: Scripted) -> None:
    async with Client(server.url) as client:
        async with await client.subscribe("account") as subscription:
            await server.account_snapshot(5)
            await server.deposit(6)
            assert [(await anext(subscription)).seq for _ in range(2)] == [5, 6]
            server.cut()
            await until(lambda: client.connections == 2)
            assert server.asked("resume") == [{"epoch": "e1", "account_seq": 6}]
            for seq in (6, 7, 8):
                await server.deposit(seq)
            assert [(await anext(subscription)).seq for _ in range(2)] == [7, 8]
        await until(lambda: server.asked("unsubscribe") == [{"channels": ["account"]}])


async def test_too_long_a_cut_starts_over_with_a_snapshot(server: Scripted) -> None:
    server.handlers["resume"] = raises(Refuse(ErrorCode.TOO_OLD, "too_old"))
    async with Client(server.url) as client, await client.subscribe("account") as subscription:
        await server.account_snapshot(5)
        await anext(subscription)
        server.cut()
        await until(lambda: client.connections == 2)
        await server.account_snapshot(900)
        message = await anext(subscription)
        assert (message.type, message.seq) == ("snapshot", 900)
    assert len(server.asked("subscribe")) == 2


async def test_a_gap_on_a_living_connection_is_mended(server: Scripted) -> None:
    async with Client(server.url) as client, await client.subscribe("account") as subscription:
        await server.account_snapshot(5)
        await server.deposit(8)
        await until(lambda: server.asked("resume"))
        for seq in (6, 7, 8):
            await server.deposit(seq)
        assert [(await anext(subscription)).seq for _ in range(4)] == [5, 6, 7, 8]
        assert client.connections == 1


async def test_a_gap_that_cannot_be_mended_reconnects(server: Scripted) -> None:
    async with Client(server.url) as client, await client.subscribe("trades.M"):
        client.timeout_s = 0.2
        await server.publish("trades.M", "snapshot", 5, 5, [])
        server.handlers["resync"] = raises(Silence())
        await server.publish("trades.M", "event", 8, 7, [])
        await until(lambda: client.connections == 2)


async def test_a_slow_reader_overflows_at_its_bound(server: Scripted) -> None:
    async with Client(server.url) as client:
        slow = await client.subscribe("account", queue_max=3)
        await server.account_snapshot(1)
        await until(lambda: len(slow._queue) == 1)
        quick = await client.subscribe("account")
        await server.account_snapshot(1)
        for seq in range(2, 5):
            await server.deposit(seq)
        assert [(await anext(quick)).seq for _ in range(4)] == [1, 2, 3, 4], "others are not held up"
        assert [(await anext(slow)).seq for _ in range(3)] == [1, 1, 2], "what it holds is given out"
        with pytest.raises(Overflow, match="more than 3 messages"):
            await anext(slow)
        assert server.asked("unsubscribe") == [], "the other still reads"
        quick.close()
        await until(lambda: server.asked("unsubscribe"))


async def test_a_second_reader_starts_with_its_own_snapshot(server: Scripted) -> None:
    async with Client(server.url) as client:
        await client.subscribe("account")
        await server.account_snapshot(1)
        second = await client.subscribe("account")
        await server.deposit(2)
        await server.account_snapshot(2)
        assert server.asked("resync") == [{"channel": "account"}]
        assert (await anext(second)).type == "snapshot"


async def test_leaving_and_coming_back_stays_in_order(server: Scripted) -> None:
    async with Client(server.url) as client:
        for _ in range(3):
            (await client.subscribe("trades.M")).close()
        await client.subscribe("trades.M")
    methods = [method for method, _ in server.calls if method.endswith("subscribe")]
    assert methods == ["subscribe", "unsubscribe"] * 3 + ["subscribe"]


async def test_a_refused_subscription_leaves_nothing_behind(server: Scripted) -> None:
    server.handlers["subscribe"] = raises(Refuse(ErrorCode.CHANNEL_UNKNOWN, "channel_unknown"))
    async with Client(server.url) as client:
        with pytest.raises(Denied):
            await client.subscribe("trades.X")
        server.cut()
        await until(lambda: client.connections == 2)
    assert len(server.asked("subscribe")) == 1


async def test_a_channel_that_ends_ends_its_readers(server: Scripted) -> None:
    async with Client(server.url) as client:
        subscription = await client.subscribe("trades.M")
        await server.publish("trades.M", "snapshot", 1, 1, [])
        await server.publish("trades.M", "event", 2, 1, {"event": "closed", "reason": "settled"})
        kinds = [message.type async for message in subscription]
        assert kinds == ["snapshot", "event"]
        server.cut()
        await until(lambda: client.connections == 2)
    assert len(server.asked("subscribe")) == 1, "it is not asked for again"


async def test_a_channel_that_is_gone_after_a_cut_ends_its_readers(server: Scripted) -> None:
    async with Client(server.url) as client:
        subscription = await client.subscribe("trades.M")
        server.handlers["subscribe"] = raises(Refuse(ErrorCode.CHANNEL_UNKNOWN, "channel_unknown"))
        server.cut()
        with pytest.raises(Denied, match="channel_unknown"):
            await anext(subscription)
        assert (await client.time()).ts_us == 5


async def test_of_many_channels_only_the_gone_one_ends(server: Scripted) -> None:
    def subscribe(params: dict[str, list[str]]) -> object:
        if gone in params["channels"]:
            raise Refuse(ErrorCode.CHANNEL_UNKNOWN, "channel_unknown")
        return params

    gone = ""
    server.handlers["subscribe"] = subscribe
    names = [f"trades.M{number}" for number in range(102)]
    async with Client(server.url) as client:
        subscriptions = [await client.subscribe(name) for name in names]
        gone = names[7]
        server.calls.clear()
        server.cut()
        with pytest.raises(Denied):
            await anext(subscriptions[7])
        await until(lambda: client.connections == 2)
        asked = [len(params["channels"]) for params in server.asked("subscribe")]
        assert asked == [100, *[1] * 100, 2]
        assert [subscription.ended for subscription in subscriptions].count(True) == 1
        assert len(client._readers) == 101


async def test_a_rate_limit_on_the_way_back_costs_no_channel(server: Scripted) -> None:
    refusals = iter([Refuse(ErrorCode.RATE_LIMITED, "rate_limited", retry_after_ms=20)] * 3)

    def subscribe(params: object) -> object:
        for refusal in refusals if len(server.sockets) > 1 else ():
            raise refusal
        return params

    server.handlers["subscribe"] = subscribe
    async with Client(server.url) as client, await client.subscribe("trades.M") as trades:
        server.cut()
        await until(lambda: client.connections == 2)
        await server.publish("trades.M", "snapshot", 1, 1, [])
        assert (await anext(trades)).type == "snapshot"


# --- Live books ------------------------------------------------------------------------------------------------------


class BookServer:
    """Serves one book channel: a snapshot for each subscribe and resync."""

    def __init__(self, server: Scripted) -> None:
        self.server = server
        self.feed = Feed()
        self.lie = False
        for method in ("subscribe", "resync"):
            server.handlers[method] = self.snapshot
        self._tasks: set[asyncio.Task[None]] = set()

    def snapshot(self, params: dict[str, object]) -> object:
        task = asyncio.create_task(self.send(self.feed.snapshot()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return params

    async def send(self, message: ChannelMessage) -> None:
        if self.lie:
            message.data.checksum += 1
        await self.server.publish(message.channel, message.type, message.seq, message.prev_seq, message.data)


@pytest.fixture
def books(server: Scripted) -> BookServer:
    books = BookServer(server)
    server.handlers["resync"] = lambda params: books.snapshot({"channels": [params["channel"]]})
    return books


async def test_a_live_book_follows(server: Scripted, books: BookServer) -> None:
    books.feed.sides["b"][100] = 5
    async with Client(server.url) as client, await client.follow("M") as live:
        assert live.book.best_bid == 100
        await books.send(books.feed.delta("b", (101, 1)))
        book = await anext(live)
        assert (book.best_bid, book.synced) == (101, True)


async def test_a_live_book_resyncs_after_a_gap(server: Scripted, books: BookServer) -> None:
    async with Client(server.url) as client, await client.follow("M") as live:
        books.feed.delta("b", (100, 1))
        await books.send(books.feed.delta("b", (101, 1)))
        book = await anext(live)
        assert list(book.bids()) == [(101, 1), (100, 1)]
        assert len(server.asked("resync")) == 1


async def test_a_live_book_resyncs_after_a_wrong_checksum(server: Scripted, books: BookServer) -> None:
    async with Client(server.url) as client, await client.follow("M") as live:
        books.lie = True
        await books.send(books.feed.delta("b", (100, 1)))
        books.lie = False
        book = await anext(live)
        assert (book.best_bid, live.resyncs) == (100, 1)


async def test_a_live_book_that_is_always_wrong_gives_up(server: Scripted, books: BookServer) -> None:
    async with Client(server.url) as client, await client.follow("M") as live:
        books.lie = True
        await books.send(books.feed.delta("b", (100, 1)))
        with pytest.raises(ProtocolError, match="again and again"):
            await anext(live)
        assert live.resyncs == live.SNAPSHOTS_MAX + 1
        assert not live.book.synced


async def test_a_live_book_is_not_trusted_while_disconnected(
    server: Scripted, books: BookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.2)
    async with Client(server.url) as client, await client.follow("M") as live:
        server.cut()
        await until(lambda: not live.book.synced)
        assert live.book.trouble == "disconnected"
        await until(lambda: live.book.synced and client.connections == 2)


# --- Key files -------------------------------------------------------------------------------------------------------


def test_a_key_file_is_private_and_comes_back(tmp_path: Path) -> None:
    private, _ = keys.generate()
    key = keys.Key("k-1", "ed25519", private_key=private)
    path = tmp_path / "bot.key"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load(path) == key
    assert private not in repr(key)
    with pytest.raises(KeyFileError, match="exists"):
        key.save(path)
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keys.load(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"key": "k", "kind": "rsa"}',
        '{"key": "k", "kind": "hmac", "secret": "zz"}',
        '{"key": "k", "kind": "hmac", "secret": "00"}',
        '{"key": "k", "kind": "ed25519", "secret": "' + "00" * 32 + '"}',
        '{"key": "k", "kind": "hmac", "secret": "' + "00" * 32 + '", "more": 1}',
        '{"key": "", "kind": "hmac", "secret": "' + "00" * 32 + '"}',
        '{"key": "k-\u00e9", "kind": "hmac", "secret": "' + "00" * 32 + '"}',
        '{"key": "' + "k" * 65 + '", "kind": "hmac", "secret": "' + "00" * 32 + '"}',
        b"\x80PNG",
        b'{"key\xff": "k"}',
    ],
)
def test_what_is_not_a_key_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "bot.key"
    path.touch(0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KeyFileError):
        keys.load(path)
    with pytest.raises(KeyFileError, match="No such file"):
        keys.load(tmp_path / "none.key")
