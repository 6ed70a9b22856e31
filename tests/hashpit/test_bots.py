"""The example bots and the meter: their strategies as functions, and their trading on a real exchange."""

import asyncio
import itertools
import random
import statistics
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from gateway.wire import AccountSnapshot, BalanceView, ChannelMessage, DeliveryView, PositionView
from hashpit import client as client_module
from hashpit.bots.desk import Desk
from hashpit.bots.maker import Maker, MakerSettings, quotes
from hashpit.bots.taker import Taker, TakerSettings
from hashpit.client import Client
from hashpit.errors import Denied
from hashpit.keys import load
from hashpit.messages import Accepted, Amended, Canceled, Fill, Reduced
from hashpit.meter import Meter, MeterSettings, poisson
from tests.hashpit.conftest import Exchange
from tests.hashpit.scripted import ORDER, Proxy, Scripted, Silence
from tests.hashpit.test_book import market
from tests.hashpit.test_client import until


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run bots in the background; a failure of theirs is the test's."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


# --- The maker's strategy --------------------------------------------------------------------------------------------


def test_a_flat_maker_quotes_evenly() -> None:
    assert quotes(50_000, 0, 10, 100, 20, 60) == (49_900, 10, 50_100, 10)


def test_inventory_shifts_both_quotes() -> None:
    assert quotes(50_000, 50, 10, 100, 20, 60) == (49_750, 10, 49_950, 10)
    assert quotes(50_000, -50, 10, 100, 20, 60) == (50_050, 10, 50_250, 10)


@pytest.mark.parametrize(("position", "bid_qty", "ask_qty"), [(95, 5, 10), (100, 0, 10), (-100, 10, 0), (120, 0, 10)])
def test_a_maker_never_quotes_beyond_its_position(position: int, bid_qty: int, ask_qty: int) -> None:
    wanted = quotes(50_000, position, 10, 100, 20, 60)
    assert (wanted.bid_qty, wanted.ask_qty) == (bid_qty, ask_qty)


def test_quotes_are_ticks_apart_even_where_ticks_are_coarse() -> None:
    for reference in range(1, 50):
        for position in (-100, 0, 100):
            wanted = quotes(reference, position, 1, 100, 5, 500)
            assert 1 <= wanted.bid < wanted.ask


# --- The desk --------------------------------------------------------------------------------------------------------


def event(data: object) -> ChannelMessage:
    return ChannelMessage("account", "event", 1, 0, 1, data)


def accepted(order_id: int = 7, resting: str = "2.000", **changes: Any) -> Accepted:
    values = {
        "order_id": order_id,
        "client_order_id": "",
        "market": "M",
        "side": "buy",
        "type": "limit",
        "price": "0.00000100",
        "qty": "2.000",
        "filled_qty": "0.000",
        "resting_qty": resting,
        "time_in_force": "gtc",
        "balance": "1",
        "held": "0",
    }
    return Accepted(**(values | changes))  # type: ignore[arg-type]


def fill(remaining: str, position: str) -> Fill:
    return Fill(
        trade_id=1,
        order_id=7,
        client_order_id="",
        market="M",
        side="buy",
        price="0.00000100",
        qty="1.000",
        remaining_qty=remaining,
        fee="0",
        realized="0",
        liquidity="maker",
        ts_us=1,
        position=position,
        balance="1",
        held="0",
    )


def test_the_desk_follows_an_order_from_its_events() -> None:
    desk = Desk(market())
    desk.learn(event(accepted()))
    desk.learn(event(accepted(8, market="OTHER")))
    (order,) = desk.side("buy")
    assert (order.price, order.qty, order.remaining, order.filled) == (100, 2_000, 2_000, 0)
    desk.learn(event(fill("1.000", "1.000")))
    assert (order.remaining, desk.position, desk.fills) == (1_000, 1_000, 1)
    common = {"order_id": 7, "client_order_id": "", "market": "M", "side": "buy", "balance": "1", "held": "0"}
    amended = Amended(
        **common,  # type: ignore[arg-type]
        old_price="0.00000100",
        price="0.00000090",
        qty="3.000",
        filled_qty="1.000",
        resting_qty="2.000",
        kept_priority=False,
    )
    desk.learn(event(amended))
    (order,) = desk.side("buy")
    assert (order.price, order.filled, order.remaining) == (90, 1_000, 2_000)
    rest = {"price": "0.00000090", "reason": "self_trade"}
    desk.learn(event(Reduced(**common, **rest, qty="0.500", remaining_qty="1.500")))  # type: ignore[arg-type]
    assert (order.qty, order.remaining, order.filled) == (2_500, 1_500, 1_000)
    desk.learn(event(Canceled(**common, **rest, qty="1.500", filled_qty="1.000")))  # type: ignore[arg-type]
    assert desk.orders == {}


def test_an_order_that_does_not_rest_is_not_ours() -> None:
    desk = Desk(market())
    desk.learn(event(accepted(resting="0.000", filled_qty="2.000")))
    desk.learn(event(fill("0.000", "-2.000")))
    assert (desk.orders, desk.position) == ({}, -2_000)


def test_a_snapshot_replaces_everything() -> None:
    desk = Desk(market())
    desk.learn(event(accepted()))
    balance = BalanceView(100, "n", "1", "0", "1", "0")
    positions = [PositionView("M", "-0.001", "0", "0", "0"), PositionView("OTHER", "9.000", "0", "0", "0")]
    desk.learn(ChannelMessage("account", "snapshot", 9, 9, 1, AccountSnapshot(balance, positions, [], [])))
    assert (desk.orders, desk.position) == ({}, -1)


# --- Trading ---------------------------------------------------------------------------------------------------------


async def test_maker_and_taker_trade(exchange: Exchange) -> None:
    """Within their limits, with at most one order per side, moved by amends; and nothing is left behind."""
    symbol = await exchange.market()
    maker_key = await exchange.open_account("maker", deposit="5")
    taker_key = await exchange.open_account("taker", deposit="5")
    settings = MakerSettings(market=symbol, qty="1.000", position_max="3.000", pause_s=0.02)
    takes = TakerSettings(market=symbol, qty_max="1.000", position_max="3.000", every_s=0.05)
    async with Client(exchange.url, maker_key) as one, Client(exchange.url, taker_key) as two:
        maker, taker = Maker(one, settings), Taker(two, takes, random.Random(3))
        async with await one.subscribe("account") as account:
            async with running(maker.run(), taker.run()):
                await until(lambda: hasattr(maker, "desk") and maker.desk.fills >= 25, 30)
                assert abs(maker.desk.position) <= 3_000
                assert len(maker.desk.side("buy")) <= 1
                assert len(maker.desk.side("sell")) <= 1
            await until(lambda: one.connected)
            events = [message.data for message in account.take()]
        assert await one.orders() == []
        amends = sum(isinstance(data, Amended) for data in events)
        cancels = sum(isinstance(data, Canceled) and data.reason == "requested" for data in events)
        assert amends > 5
        assert cancels <= 4, "it amends rather than cancels"
        assert all(data.liquidity == "maker" for data in events if isinstance(data, Fill))


async def test_a_maker_goes_on_after_cuts(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BACKOFF_MIN_S", 0.01)
    symbol = await exchange.market()
    key = await exchange.open_account("cut-maker")
    settings = MakerSettings(market=symbol, qty="0.100", position_max="1.000", pause_s=0.02)
    walk = itertools.cycle([*range(48_000, 52_000, 100), *range(52_000, 48_000, -100)])
    async with (
        Proxy(exchange.port) as proxy,
        Client(f"ws://127.0.0.1:{proxy.port}/ws", key) as client,
        Client(exchange.url, key) as direct,
    ):
        maker = Maker(client, settings, reference=lambda: next(walk))
        async with running(maker.run()):
            for number in range(4):
                await until(lambda: hasattr(maker, "desk") and len(maker.desk.orders) == 2)
                proxy.cut()
                await until(lambda number=number: client.connections == number + 2)
            await until(lambda: len(maker.desk.orders) == 2)
            before = {order.side: order.price for order in await direct.orders()}
            await asyncio.sleep(0.5)
            after = {order.side: order.price for order in await direct.orders()}
            assert sorted(after) == ["buy", "sell"], "two orders, and no forgotten ones"
            assert after != before, "it still moves its quotes"
        assert await direct.orders() == []


async def test_a_maker_rests_after_a_rejection(exchange: Exchange) -> None:
    symbol = await exchange.market()
    key = await exchange.open_account("poor", deposit="0.00001")
    settings = MakerSettings(market=symbol, qty="1.000", position_max="1.000", pause_s=0.01, reject_pause_s=0.3)
    async with Client(exchange.url, key) as client, await client.subscribe("account") as account:
        async with running(Maker(client, settings).run()):
            await asyncio.sleep(0.5)
        rejected = [message for message in account.take() if message.type == "event"]
        assert 2 <= len(rejected) <= 4, "both sides, once or twice"


async def test_a_bot_whose_key_may_not_trade_says_so(exchange: Exchange) -> None:
    symbol = await exchange.market()
    key = await exchange.open_account("reader", "read")
    async with Client(exchange.url, key) as client:
        with pytest.raises(Denied, match="permission"):
            await Maker(client, MakerSettings(market=symbol, qty="1", position_max="2")).run()
        taker = Taker(client, TakerSettings(market=symbol, qty_max="1", position_max="2", destination_url="x"))
        with pytest.raises(Denied, match="permission"):
            await taker.run()


async def test_bots_end_with_their_market(exchange: Exchange) -> None:
    async with Client(exchange.url, load(exchange.admin)) as admin:
        start_us = ((await admin.time()).ts_us // 60_000_000 + 600) * 60_000_000
        listed = await admin.list_market("SHA256", start_us, 3_600, "0.0005")
        key = await exchange.open_account("ender")
        async with Client(exchange.url, key) as client:
            maker = Maker(client, MakerSettings(market=listed.market, qty="1", position_max="2", pause_s=0.02))
            taker = Taker(client, TakerSettings(market=listed.market, qty_max="1", position_max="2", every_s=0.05))
            async with running(maker.run(), taker.run()) as tasks:
                await until(lambda: hasattr(maker, "desk") and len(maker.desk.orders) == 2)
                await admin.set_market_state(listed.market, "closed")
                await asyncio.wait_for(tasks[0], 5)


def lose() -> None:
    raise Silence


async def test_an_unknown_order_is_not_placed_twice() -> None:
    """The answer to a place is lost: the maker asks again with the same id, and goes on."""
    async with Scripted() as server:
        server.handlers["place"] = lambda params: ORDER if len(server.asked("place")) > 1 else lose()
        server.handlers["cancel_all"] = lambda params: {"canceled": []}
        async with Client(server.url) as client:
            client.timeout_s = 0.1
            maker = Maker(client, MakerSettings(market="M", qty="1", position_max="1", pause_s=0.01))
            async with running(maker.run()):
                await until(lambda: server.asked("subscribe"))
                await server.account_snapshot(1)
                ticker: dict[str, object] = {
                    "kind": "dated",
                    "market": "M",
                    "bid": None,
                    "bid_qty": None,
                    "ask": None,
                    "ask_qty": None,
                }
                ticker |= {"last": None, "volume": "0", "high": None, "low": None, "trades": 0}
                await server.publish("ticker.M", "snapshot", 1, 1, ticker)
                await until(lambda: len(server.asked("place")) >= 3)
    first, second, third = server.asked("place")[:3]
    assert first == second
    assert third["client_order_id"] != first["client_order_id"]


# --- The meter -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.5, 7.0, 400.0])
def test_poisson_has_its_mean_and_variance(mean: float) -> None:
    rng = random.Random(5)
    sample = [poisson(rng, mean) for _ in range(4_000)]
    assert statistics.fmean(sample) == pytest.approx(mean, rel=0.06)
    assert statistics.pvariance(sample) == pytest.approx(mean, rel=0.12)
    assert poisson(rng, 0) == 0


def delivery(number: int, proven: int = 0, shares: int = 0) -> DeliveryView:
    return DeliveryView(
        delivery_id=number,
        market="M",
        role="meter",
        state="running",
        qty="1.000",
        hashrate=str(10**15),
        contracted_hashes=str(10**15 * 300),
        proven_hashes=str(proven),
        excused_hashes="0",
        shares=shares,
        period_start_us=0,
        period_end_us=300_000_000,
        url="",
        worker="",
    )


def test_some_sellers_are_sloppy_and_stay_so() -> None:
    meter = Meter(Client(), MeterSettings(sloppy_share=0.2, sloppy_speed=(0.5, 0.9)))
    speeds = [meter.speed(number) for number in range(1_000)]
    assert speeds == [meter.speed(number) for number in range(1_000)]
    sloppy = [speed for speed in speeds if speed < 1]
    assert 150 < len(sloppy) < 250
    assert all(0.5 <= speed <= 0.9 for speed in sloppy)


def test_an_honest_seller_delivers_about_what_was_contracted() -> None:
    meter = Meter(Client(), MeterSettings(sloppy_share=0))
    totals = []
    for number in range(50):
        shares = 0
        for now_s in range(0, 400, 5):
            shares += meter.found(delivery(number), now_s * 1_000_000)
        totals.append(shares)
    assert statistics.fmean(totals) == pytest.approx(5_000, rel=0.01)
    assert statistics.pstdev(totals) == pytest.approx(5_000**0.5, rel=0.4)


def test_a_meter_that_was_away_goes_on_from_the_record() -> None:
    meter = Meter(Client(), MeterSettings(sloppy_share=0))
    assert meter.found(delivery(1, shares=2_500), 150_000_000) == 0
    assert meter.found(delivery(2, shares=2_500), 300_000_000) == pytest.approx(2_500, rel=0.1)


async def test_the_meter_reports_every_running_delivery() -> None:
    async with Scripted() as server:
        views = [delivery(1), delivery(2)]
        server.handlers["time"] = lambda params: {"ts_us": 150_000_000}
        server.handlers["live.flows"] = lambda params: []
        server.handlers["deliveries"] = lambda params: [
            {name: getattr(view, name) for name in view.__struct_fields__} for view in views
        ]
        server.handlers["report_work"] = lambda params: {
            "delivery_id": params["delivery_id"],
            "market": "M",
            "state": "running",
            "proven_hashes": params["hashes"],
            "excused_hashes": "0",
            "shares": params["shares"],
        }
        async with Client(server.url) as client:
            meter = Meter(client, MeterSettings(sloppy_share=0))
            await meter.report()
            reports = server.asked("report_work")
            assert [report["delivery_id"] for report in reports] == [1, 2]
            hashes = int(reports[0]["hashes"])
            assert hashes == reports[0]["shares"] * (10**15 * 300 // 5_000)
            assert hashes == pytest.approx(10**15 * 150, rel=0.1)
            views.clear()
            await meter.report()
            assert meter._measured_us == {}
            assert meter.reports == 2
