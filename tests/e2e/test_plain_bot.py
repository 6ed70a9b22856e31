"""A stranger's bot trades, loses its connection in every way, and ends up knowing exactly what happened."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.plain_bot import PlainBot, steps
from tests.e2e.proxy import Proxy
from tests.support import PlainClient, config, running

CUTS = 8
NEWS_S = 20.0


async def until(bot: PlainBot, account_seq: int) -> None:
    """Wait until the bot knows of so many facts."""
    async with asyncio.timeout(NEWS_S), bot.news:
        await bot.news.wait_for(lambda: (bot.account_seq or 0) >= account_seq)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_plain_bot_resumes_without_gap_or_repeat(tmp_path: Path) -> None:
    rng = Random("plain bot")
    async with running(tmp_path / "data", config(heartbeat_ms=200)) as server:
        maker = await server.trader("maker", deposit="1.0")
        taker = await server.trader("taker", deposit="1.0")
        address = urlsplit(server.url)
        assert address.hostname
        assert address.port
        async with Proxy(address.hostname, address.port) as proxy, PlainClient.to(server, taker) as other:
            market = min(listed["market"] for listed in await other.call("markets"))
            url = f"ws://127.0.0.1:{proxy.port}{address.path}"
            bot = PlainBot(url, maker.key_id, maker.private, market)
            running_bot = asyncio.create_task(bot.run())
            async with asyncio.timeout(NEWS_S):
                await bot.ready.wait()
            taken = await trade(bot, other, proxy, rng)
            await judge(bot, other, server.url, maker, taken)
            running_bot.cancel()
            await asyncio.gather(running_bot, return_exceptions=True)
        assert await server.stop() == 0
        assert "Traceback" not in server.log_text()


async def trade(bot: PlainBot, other: PlainClient, proxy: Proxy, rng: Random) -> list[dict[str, Any]]:
    """Quote and take, with a cut in every round: before, between and while commands are on their way. The taker's fills."""
    taken: list[dict[str, Any]] = []
    for number in range(CUTS):
        bid, ask = 50_000 - rng.randint(1, 9), 50_000 + rng.randint(1, 9)
        cut = proxy.silence if number % 2 else proxy.reset
        quotes = [
            asyncio.create_task(bot.quote(f"bid-{number}", "buy", f"0.{bid:08d}", "0.050")),
            asyncio.create_task(bot.quote(f"ask-{number}", "sell", f"0.{ask:08d}", "0.050")),
        ]
        if number % 4 >= 2:
            await asyncio.sleep(rng.uniform(0, 0.004))
            cut()  # perhaps before the answers, perhaps before the commands
        async with asyncio.timeout(NEWS_S):
            results = await asyncio.gather(*quotes)
        assert [result["client_order_id"] for result in results] == [f"bid-{number}", f"ask-{number}"]
        cut()
        # The bot does not hear of these before it is back.
        for side, price in (("buy", "0.00050050"), ("sell", "0.00049950")):
            result = await other.call("place", market=bot.market, side=side, price=price, qty="0.030", time_in_force="ioc")
            assert result["status"] == "filled"
            taken += result["fills"]
        async with asyncio.timeout(NEWS_S):
            while len(bot.fills()) < len(taken):
                async with bot.news:
                    await bot.news.wait()
    return taken


async def judge(bot: PlainBot, other: PlainClient, url: str, maker: Any, taken: list[dict[str, Any]]) -> None:
    """What the bot knows is what happened: nothing missing, nothing twice."""
    assert not bot.faults, bot.faults
    assert bot.snapshots == 1, "only the first connection may need a snapshot"
    assert bot.resumed >= CUTS
    assert bot.silences >= CUTS // 2
    assert bot.account_seq == bot.first_seq + len(bot.events) - 1
    fills = bot.fills()
    assert [fill["trade_id"] for fill in fills] == [fill["trade_id"] for fill in taken]
    assert [fill["price"] for fill in fills] == [fill["price"] for fill in taken]
    accepted = [event["client_order_id"] for event in bot.events if event["event"] == "accepted"]
    assert sorted(accepted) == sorted(f"{side}-{number}" for number in range(CUTS) for side in ("bid", "ask"))

    # A second connection, straight to the server, sees the same.
    direct = await PlainClient.open(url)
    await direct.login(maker)
    balance = await direct.call("balances")
    last = next(event for event in reversed(bot.events) if "balance" in event)
    assert (balance["balance"], balance["held"]) == (last["balance"], last["held"])
    assert [fill["trade_id"] for fill in reversed(await direct.call("fills"))] == [fill["trade_id"] for fill in fills]
    shown = await direct.call("book", market=bot.market)
    assert shown["checksum"] == bot.book.checksum()
    for name, levels in bot.book.sides.items():
        assert {steps(price): steps(qty) for price, qty in shown[name]} == levels
    assert bot.book.proven > 2 * CUTS
    await direct.close()
