"""A live market over real sockets, through the SDK: what flows, what it costs, and that a kill -9 changes nothing of it."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway.wire import LiveTickerView
from hashpit.client import Client
from hashpit.errors import Rejected
from hashpit.keys import load
from hashpit.messages import AskEnded, BidEnded, BidStopped, FlowChanged, FlowPaid, StatusSnapshot
from hashpit.readers import Subscription
from tests.hashpit.conftest import Exchange
from tests.hashpit.test_client import until

LIVE = "SHA256-LIVE"
POOL = ("stratum+tcp://pool.example:3333", "w.1")
DEPOSIT = Decimal(10)
CONFIG = """
[snapshot]
every_s = 2592000

[[live]]
algorithm = "SHA256"
buyer_fee_bps = 150
seller_fee_bps = 70
budget_min = "0.0001"
decrease_interval_s = 0
decrease_step = "0"
idle_s = 1
grace_s = 3600

[log]
level = "warning"
"""


class Scene:
    """Three buyers, five sellers, a meter and the operator, their clients, and what their streams told."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.clients: dict[str, Client] = {}
        self.streams: dict[str, Subscription] = {}
        self.told: dict[str, list[Any]] = {}
        self.seqs: dict[str, list[int]] = {}
        self.proven: dict[int, int] = {}
        """What the meter reported of each flow."""
        self._measured: dict[int, tuple[int, int]] = {}

    async def open(self, stack: AsyncExitStack) -> None:
        names = [*(f"buyer-{number}" for number in range(3)), *(f"seller-{number}" for number in range(5))]
        for name in names:
            key = await self.exchange.open_account(name, deposit=str(DEPOSIT))
            client = self.clients[name] = await stack.enter_async_context(Client(self.exchange.url, key))
            self.streams[name] = await client.subscribe("account")
            self.told[name], self.seqs[name] = [], []
        meter = await self.exchange.open_account("meter", "meter")
        self.meter = await stack.enter_async_context(Client(self.exchange.url, meter))
        self.operator = await stack.enter_async_context(Client(self.exchange.url, load(self.exchange.admin)))

    @property
    def buyers(self) -> list[Client]:
        return [client for name, client in self.clients.items() if name.startswith("buyer")]

    @property
    def sellers(self) -> list[Client]:
        return [client for name, client in self.clients.items() if name.startswith("seller")]

    async def assigned(self) -> list[str]:
        """The speed of each buyer's first bid."""
        return [(await buyer.live_orders()).bids[-1].assigned for buyer in self.buyers]

    async def prove(self, idle: int = 0, final: bool = False) -> None:
        """One round of the meter: what could be proven since the last one, more than that of a flow that ended, and nothing for
        the ask ``idle``."""
        now_us = (await self.meter.time()).ts_us
        for flow in await self.meter.flows():
            rate, since_us = self._measured.get(flow.flow_id, (int(flow.hashrate), flow.started_us))
            self._measured[flow.flow_id] = int(flow.hashrate), now_us
            ended = flow.state == "closing"
            found = 2 * rate * (flow.ended_us - since_us) if ended else int(flow.hashrate) * (now_us - since_us)
            hashes = int(flow.hashes) + (0 if flow.order_id == idle else max(0, found) // 10**6)
            await self.meter.report_flow(flow.flow_id, hashes, final=final or ended)
            self.proven[flow.flow_id] = hashes

    def take(self) -> None:
        """What the streams told since: kept, and without a gap."""
        for name, stream in self.streams.items():
            for message in stream.take():
                self.seqs[name].append(message.seq)
                if message.type == "event":
                    self.told[name].append(message.data)

    def of(self, kind: type) -> list[Any]:
        return [event for events in self.told.values() for event in events if isinstance(event, kind)]

    async def state(self) -> dict[str, Any]:
        """What all accounts have."""
        found: dict[str, Any] = {}
        for name, client in [*self.clients.items(), ("fees", self.operator)]:
            found[name] = await client.balances(), await client.live_orders(), await client.flows()
        found["book"] = await self.meter.live_book(LIVE)
        return found


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Exchange]:
    exchange = Exchange(tmp_path / "data", CONFIG)
    exchange.start()
    try:
        yield exchange
    finally:
        exchange.stop()


async def test_three_buyers_and_five_sellers(live: Exchange) -> None:
    scene = Scene(live)
    async with AsyncExitStack() as stack:
        await scene.open(stack)
        first, second, third = scene.buyers
        for number, seller in enumerate(scene.sellers, 1):
            await seller.place_ask(LIVE, f"0.0{number}", "10")

        # hashrate for all, then not for all: the third outbids the first, which raises and so outbids the second
        await first.place_bid(LIVE, "0.1", "1", limit="30", url=POOL[0], worker=POOL[1], client_order_id="mine")
        await second.place_bid(LIVE, "0.2", "1", limit="20", url=POOL[0], worker=POOL[1])
        assert [order.assigned for order in (await first.live_orders()).bids] == ["30.000"]
        await third.place_bid(LIVE, "0.3", "1", limit="25", url=POOL[0], worker=POOL[1])
        assert await scene.assigned() == ["5.000", "20.000", "25.000"]
        estimate = await first.estimate(LIVE, "0.4", "30")
        raised = await first.amend_bid(client_order_id="mine", price="0.4")
        assert raised.assigned == estimate.assigned == "30.000"
        assert await scene.assigned() == ["30.000", "0.000", "20.000"]
        await asyncio.sleep(0.3)
        await scene.prove()

        # killed in the middle: nobody is told anything else than before
        before = await scene.state()
        scene.take()
        live.stop(signal.SIGKILL)
        live.start()
        await until(lambda: all(client.connections == 2 for client in [*scene.clients.values(), scene.meter, scene.operator]))
        after = await scene.state()
        assert after == before
        again = await first.place_bid(LIVE, "0.1", "1", limit="30", url=POOL[0], worker=POOL[1], client_order_id="mine")
        assert again.repeat
        await scene.prove()

        # a budget that lasts two seconds
        small = await second.place_bid(LIVE, "0.9", "0.001", limit="50", url=POOL[0], worker=POOL[1])
        assert small.assigned == "50.000"
        assert await scene.assigned() == ["0.000", "0.000", "0.000"]
        while not scene.of(BidStopped):
            await asyncio.sleep(0.2)
            await scene.prove()
            scene.take()
        await scene.prove()
        scene.take()
        (spent,) = [event for event in scene.of(BidEnded) if event.order_id == small.order_id]
        assert spent.reason == "spent"
        assert Decimal(spent.spent) <= Decimal("0.001")
        assert await scene.assigned() == ["30.000", "0.000", "20.000"]

        # a rig that proves nothing any more loses its place; what it sold comes from nobody
        lost = (await scene.sellers[0].live_orders()).asks[0].order_id
        for _ in range(20):
            await scene.prove(idle=lost)
            if not (await scene.sellers[0].live_orders()).asks:
                break
            await asyncio.sleep(0.2)
        scene.take()
        assert [(event.order_id, event.reason) for event in scene.of(AskEnded)] == [(lost, "idle")]
        assert await scene.assigned() == ["30.000", "0.000", "10.000"]

        # the end, and the sums
        for client in scene.buyers:
            await client.cancel_all()
        assert not [flow for flow in await scene.meter.flows() if flow.state == "running"]
        await scene.prove(final=True)
        assert await scene.meter.flows() == []
        scene.take()
        await adds_up(scene)
    live.stop()
    assert findings(live.data) == []
    live.start()


async def adds_up(scene: Scene) -> None:
    """Balances are deposits and what the streams told; what one pays another gets, or the house."""
    for seqs in scene.seqs.values():
        assert seqs == [*range(seqs[0], seqs[0] + len(seqs))]
    fees = Decimal(0)
    hashes: dict[str, dict[int, int]] = {"buyer": {}, "seller": {}}
    total = Decimal((await scene.operator.balances()).balance)
    for name, client in scene.clients.items():
        paid = [event for event in scene.told[name] if isinstance(event, FlowPaid)]
        cost, fee = (sum((Decimal(getattr(event, kind)) for event in paid), Decimal(0)) for kind in ("cost", "fee"))
        balance = await client.balances()
        moved = -cost - fee if name.startswith("buyer") else cost - fee
        assert Decimal(balance.balance) == DEPOSIT + moved, name
        assert Decimal(balance.held) == 0, name
        assert moved < 0 if name.startswith("buyer") else moved > 0, name
        fees += fee
        total += Decimal(balance.balance)
        for event in paid:
            hashes[event.role][event.flow_id] = int(event.hashes)
            assert int(event.paid_hashes) <= int(event.hashes)
    assert hashes["buyer"] == hashes["seller"] == scene.proven
    assert Decimal((await scene.operator.balances()).balance) == fees > 0
    assert total == DEPOSIT * len(scene.clients)
    ended = {event.flow_id for event in scene.of(FlowChanged) if event.change == "ended"}
    assert ended == {event.flow_id for event in scene.of(FlowChanged) if event.change == "started"}


def findings(data: Path) -> list[str]:
    """What a look at every row, and a replay of all of them, finds wrong."""
    from gateway.recovery import verify

    return [*verify(data, True).faults]


async def test_the_sdk_follows_a_live_market(live: Exchange) -> None:
    key = await live.open_account("both")
    async with Client(live.url, key) as client:
        async with await client.subscribe("status") as status:
            message = await anext(status)
            assert isinstance(message.data, StatusSnapshot)
            assert [market.market for market in message.data.markets] == [LIVE]
        with pytest.raises(ValueError, match="live market"):
            await client.market(LIVE)
        with pytest.raises(ValueError, match="not listed"):
            await client.live_market("NONE")
        terms = await client.live_market(LIVE)
        assert (terms.pricing, terms.buyer_fee_bps, terms.budget_min) == ("pay_as_bid", 150, "0.00010000000")
        pool = await client.save_pool("home", "SHA256", *POOL)
        assert await client.pools() == [pool]
        async with (
            await client.follow_live(LIVE) as followed,
            await client.subscribe(f"ticker.{LIVE}", f"flows.{LIVE}") as told,
        ):
            ask = await client.place_ask(LIVE, "0.0004", 2)
            bid = await client.place_bid(LIVE, "0.0005", "0.1", pool_id=pool.pool_id, peg="top", offset="-0.0001")
            assert (bid.price, bid.assigned) == ("0.00000001", "0.000")
            await client.place_bid(LIVE, Decimal("0.0005"), "0.1", limit="0.5", pool_id=pool.pool_id)
            await client.refill("0.1", order_id=bid.order_id)
            await client.amend_ask(order_id=ask.order_id, speed="1")
            view = await client.live_book(LIVE)
            await until(lambda: followed.book.seq >= 4)
            price, qty = followed.book.price.format, followed.book.qty.format
            bids = [
                (price(level.price), None if level.size is None else qty(level.size), qty(level.assigned))
                for level in followed.book.bids()
            ]
            assert bids == view.bids
            assert [
                (price(level.price), qty(level.size or 0), qty(level.assigned)) for level in followed.book.asks()
            ] == view.asks
            assert (qty(followed.book.assigned), price(followed.book.marginal)) == (view.assigned, view.marginal)
            assert (followed.book.state, followed.resyncs) == ("open", 0)
            assert [flow.role for flow in await client.flows()] == ["buyer", "seller"] * 2
            await asyncio.sleep(0.3)
            messages = told.take()
            assert any(isinstance(message.data, LiveTickerView) for message in messages)
            assert [message.type for message in messages if message.channel.startswith("flows")][:2] == ["snapshot", "event"]
        orders = await client.live_orders()
        gone = await client.cancel_all()
        assert sorted(gone.canceled) == sorted([view.order_id for view in orders.bids] + [ask.order_id])
        await client.delete_pool(pool.pool_id)
        async with Client(live.url, load(live.admin)) as operator:
            assert (await operator.set_index(LIVE, "0.0005")).price == "0.00050000"
        with pytest.raises(TypeError, match="price"):
            await client.place_ask(LIVE, 0.1, 1)  # type: ignore[arg-type]
        with pytest.raises(Rejected) as refused:
            await client.amend_bid(order_id=bid.order_id, price="1")
        assert refused.value.code == 1301
