"""The SDK against a real exchange: cuts, kills and lost answers do not lose, repeat or invent anything."""

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.wire import AccountSnapshot, Close
from hashpit import client as client_module
from hashpit.client import Client
from hashpit.errors import Closed, Rejected, Unknown
from hashpit.keys import Key, load
from hashpit.messages import Accepted, Amended, Canceled, Fill
from hashpit.messages import Rejected as RejectedEvent
from hashpit.protocol import CodecName
from hashpit.readers import Subscription
from tests.hashpit.conftest import Exchange
from tests.hashpit.scripted import Proxy
from tests.hashpit.test_client import until

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_MIN_S", 0.01)


async def seqs(subscription: Subscription, count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [(await anext(subscription)).seq for _ in range(count)]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_trading_from_both_sides(exchange: Exchange, codec: CodecName) -> None:
    market = await exchange.market()
    seller, buyer = [await exchange.open_account(f"{codec}-{name}") for name in ("seller", "buyer")]
    async with (
        Client(exchange.url, seller, codec=codec) as maker,
        Client(exchange.url, buyer, codec=codec) as taker,
        await maker.subscribe("account", f"trades.{market}") as news,
    ):
        asked = await maker.place(market, "sell", "2", "0.0005", post_only="reject")
        assert (asked.status, asked.remaining_qty, asked.repeat) == ("open", "2.000", False)
        bought = await taker.place(market, "buy", "0.5")
        assert [(fill.price, fill.qty, fill.liquidity) for fill in bought.fills] == [("0.00050000", "0.500", "taker")]
        assert (await maker.order(order_id=asked.order_id)).remaining_qty == "1.500"
        amended = await maker.amend(order_id=asked.order_id, qty="1")
        assert amended.remaining_qty == "0.500"
        assert (await maker.cancel(order_id=asked.order_id)).canceled_qty == "0.500"
        with pytest.raises(Rejected, match="order_unknown") as caught:
            await maker.cancel(order_id=asked.order_id)
        assert caught.value.data.field == "params.order_id"
        assert [position.qty for position in await taker.positions()] == ["0.500"]
        assert [position.qty for position in await maker.positions()] == ["-0.500"]
        assert len(await taker.fills()) == 1
        kinds = [type(message.data) for message in news.take() if message.channel == "account"]
        assert kinds == [AccountSnapshot, Accepted, Fill, Amended, Canceled, RejectedEvent]
        assert taker.budget is not None


async def test_a_cut_leaves_no_gap_and_no_repeat(exchange: Exchange) -> None:
    market = await exchange.market()
    key = await exchange.open_account("resumer")
    async with (
        Proxy(exchange.port) as proxy,
        Client(f"ws://127.0.0.1:{proxy.port}/ws", key) as cut,
        Client(exchange.url, key) as steady,
        await cut.subscribe("account") as there,
        await steady.subscribe("account") as here,
    ):
        for number in range(5):
            order = await steady.place(market, "buy", "0.001", "0.00046")
            proxy.cut()
            await steady.cancel(order_id=order.order_id)
            await until(lambda number=number: cut.connections == number + 2)
        seen = await seqs(there, 11)
        assert seen == list(range(seen[0], seen[0] + 11))
        assert seen == await seqs(here, 11)
        assert there.take() == []


@pytest.mark.parametrize("arrived", [True, False])
async def test_an_unknown_outcome_is_found_out(exchange: Exchange, arrived: bool) -> None:
    """Whether the order was lost on the way there, or its answer on the way back: the retry settles it, once."""
    market = await exchange.market()
    key = await exchange.open_account(f"unknown-{arrived}")
    async with (
        Proxy(exchange.port) as proxy,
        Client(f"ws://127.0.0.1:{proxy.port}/ws", key) as client,
    ):
        client.timeout_s = 0.3
        proxy.answers_pass = False
        proxy.calls_pass = arrived
        with pytest.raises(Unknown) as caught:
            await client.place(market, "buy", "0.001", "0.00046")
        proxy.answers_pass = proxy.calls_pass = True
        proxy.cut()
        client.timeout_s = 5
        order = await client.retry(caught.value)
        assert order.repeat is arrived
        assert [view.order_id for view in await client.orders()] == [order.order_id]


async def test_a_killed_server_comes_back_and_the_account_goes_on(tmp_path: Path) -> None:
    exchange = Exchange(tmp_path / "data")
    exchange.start()
    market = await exchange.market()
    key = await exchange.open_account("survivor")
    async with Client(exchange.url, key) as client, await client.subscribe("account") as account:
        first = await client.place(market, "buy", "0.001", "0.00046", client_order_id="one")
        exchange.stop(signal.SIGKILL)
        exchange.start()
        await until(lambda: client.connections == 2)
        again = await client.place(market, "buy", "0.001", "0.00046", client_order_id="one")
        assert (again.order_id, again.repeat) == (first.order_id, True)
        await client.place(market, "buy", "0.001", "0.00046", client_order_id="two")
        seen = await seqs(account, 3)
        assert seen == list(range(seen[0], seen[0] + 3))
    exchange.stop()


@pytest.mark.parametrize("conflated", [False, True])
@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_live_book_is_the_servers_book(exchange: Exchange, codec: CodecName, conflated: bool) -> None:
    market = await exchange.market()
    key = await exchange.open_account(f"deep-{codec}-{conflated}", deposit="5")
    rng = random.Random(7)
    async with (
        Client(exchange.url, key, codec=codec) as client,
        await client.follow(market, conflated=conflated) as live,
    ):
        for _ in range(150):
            side = rng.choice(("buy", "sell"))
            await client.place(
                market,
                "buy" if side == "buy" else "sell",
                f"0.{rng.randint(1, 9):03}",
                f"0.000{rng.randint(49_900, 50_100)}",
            )
        await asyncio.sleep(0.3)
        view = await client.book(market, 1000)
        price, qty = live.book.price.format, live.book.qty.format
        assert [(price(level), qty(lots)) for level, lots in live.book.bids()] == view.bids
        assert [(price(level), qty(lots)) for level, lots in live.book.asks()] == view.asks
        assert live.resyncs == 0
        await client.cancel_all(market)


async def test_a_revoked_key_ends_its_client(exchange: Exchange) -> None:
    key = await exchange.open_account("revoked")
    async with Client(exchange.url, key) as client, Client(exchange.url, load(exchange.admin)) as admin:
        await admin.revoke_key(key.key)
        await until(lambda: client._ended is not None)
        with pytest.raises(Closed, match=str(Close.KEY_REVOKED)):
            await client.time()


async def test_an_hmac_key_logs_in(exchange: Exchange) -> None:
    async with Client(exchange.url, load(exchange.admin)) as admin:
        account = (await admin.create_account("hmac")).account
        added = await admin.add_key(account, ["read"], kind="hmac")
    async with Client(exchange.url, Key(added.key.key, "hmac", secret=added.secret)) as client:
        assert (await client.balances()).account == account


async def test_the_bot_in_the_readme_runs(exchange: Exchange, tmp_path: Path) -> None:
    market = await exchange.market()
    (await exchange.open_account("bot")).save(tmp_path / "bot.key")
    arguments = ["docs/snippets/bot.py", exchange.url, str(tmp_path / "bot.key"), market]
    bot = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        async with Client(exchange.url, await exchange.open_account("bots-taker")) as taker:
            async with await taker.follow(market) as live:
                async for book in live:
                    if book.best_bid and book.best_ask:
                        break
            for side in ("sell", "buy"):
                await taker.place(market, "sell" if side == "sell" else "buy", "0.001")
        assert bot.stdout is not None
        lines = [await bot.stdout.readline() for _ in range(2)]
        assert lines == [
            b"buy 0.001 at 0.00049980 position 0.001\n",
            b"sell 0.001 at 0.00050020 position 0.000\n",
        ]
    finally:
        bot.kill()
        await bot.communicate()
