"""The recent past: equal to what the engine remembers, bounded per account and over accounts, and there after a restart."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from engine import events as engine_events
from engine.accounts import Order
from engine.commands import Amend, Cancel, CancelAll, Place
from engine.types import OrderStatus, OrderType, PostOnly, SelfTradePrevention, Side, TimeInForce
from gateway import history as history_module
from gateway.history import History
from gateway.records import ClosedOrder
from tests.gateway.link import MARKET, Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def place(stage: Stage, account: int, side: Side, price: int, qty: int, name: str = "", **more: object) -> int:
    stage.do(Place(account, MARKET, side, OrderType.LIMIT, price, qty, client_order_id=name, **more))  # type: ignore[arg-type]
    return stage.engine.seq


def busy(stage: Stage) -> list[int]:
    """Two accounts that do everything that ends an order, each order with a name, so that the engine remembers it too."""
    maker, taker = stage.account(100), stage.account(100)
    place(stage, maker, Side.SELL, 50_000, 1_000, "filled")
    place(stage, taker, Side.BUY, 50_000, 1_000, "took")
    place(stage, maker, Side.SELL, 50_000, 1_000, "partly")
    place(stage, taker, Side.BUY, 50_000, 300, "took-2")
    stage.do(Cancel(maker, 0, "partly"))
    place(stage, maker, Side.BUY, 40_000, 1_000, "amended")
    stage.do(Amend(maker, 0, "amended", 41_000, 2_000))
    place(stage, taker, Side.SELL, 41_000, 500, "took-3")
    stage.do(Amend(maker, 0, "amended", 0, 500))
    place(stage, maker, Side.SELL, 50_000, 400, "shrinks")
    place(stage, maker, Side.BUY, 50_000, 100, "shrinks-it", self_trade_prevention=SelfTradePrevention.DECREMENT)
    place(stage, taker, Side.BUY, 50_000, 300, "took-4")
    place(stage, maker, Side.BUY, 40_000, 100, "expired", time_in_force=TimeInForce.GTD, expires_ns=stage.now_ns + 5)
    stage.wait(1)
    place(stage, taker, Side.BUY, 60_000, 100, "nothing", time_in_force=TimeInForce.IOC)
    place(stage, maker, Side.BUY, 40_000, 100, "open", post_only=PostOnly.SLIDE)
    return [maker, taker]


def test_closed_orders_are_as_the_engine_remembers_them(stage: Stage) -> None:
    statuses = set()
    for account in busy(stage):
        closed = {order.accepted.order_id: order for order in stage.exchange.history.closed_orders(account, None, 1_000)}
        remembered = [order for order in stage.engine.accounts[account].outcomes.values() if isinstance(order, Order)]
        assert len(remembered) == len(closed) + len(stage.engine.accounts[account].orders)
        for order in remembered:
            if order.status is OrderStatus.OPEN:
                assert order.order_id not in closed
                continue
            known = closed[order.order_id]
            assert (known.status, known.filled_qty) == (order.status, order.filled), order.client_order_id
            assert (known.accepted.price, known.accepted.qty) == (order.price, order.qty), order.client_order_id
            assert stage.exchange.history.closed_order(account, order.order_id, "") is known
            assert stage.exchange.history.closed_order(account, 0, order.client_order_id) is known
            statuses.add(order.status)
    assert statuses == {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED}


def without_money(order: ClosedOrder) -> ClosedOrder:
    """What the account had when the order was accepted is not remembered, and not shown."""
    return replace(order, accepted=engine_events.replace(order.accepted, balance=0, held=0))


def test_a_restart_keeps_what_the_engine_remembers(stage: Stage) -> None:
    accounts = busy(stage)
    again = History()
    again.start(stage.engine)
    for account in accounts:
        before, after = (history.closed_orders(account, None, 1_000) for history in (stage.exchange.history, again))
        by_id = {order.accepted.order_id: without_money(order) for order in before}
        assert {order.accepted.order_id: without_money(order) for order in after} == by_id
        assert again.fills(account, None, 10) == []
    # and orders that were open then are known when they close
    (name,) = [order.client_order_id for order in stage.engine.accounts[accounts[0]].orders.values()]
    stage.exchange.history = again
    stage.do(Cancel(accounts[0], 0, name))
    closed = again.closed_order(accounts[0], 0, name)
    assert closed is not None
    assert closed.status is OrderStatus.CANCELED


def test_fills_of_the_replayed_tail(stage: Stage) -> None:
    maker, taker = stage.account(), stage.account()
    place(stage, maker, Side.SELL, 50_000, 1_000)
    events = stage.do(Place(taker, MARKET, Side.BUY, OrderType.LIMIT, 50_000, 1_000))
    history = History()
    history.load(events)
    history.start(stage.engine)
    assert history.fills(maker, None, 10) == stage.exchange.history.fills(maker, None, 10)
    assert [liquidity for _, liquidity in history.fills(taker, MARKET, 10)] == ["taker"]
    assert history.fills(taker, "X", 10) == []


def test_bounds(stage: Stage) -> None:
    stage.exchange.history = history = History(accounts_max=2, closed_max=3)
    history.start(stage.engine)
    accounts = [stage.account() for _ in range(3)]
    for account in accounts:
        orders = []
        for _ in range(4):
            orders.append(place(stage, account, Side.BUY, 40_000, 1))
            stage.do(Cancel(account, orders[-1]))
        closed = [order.accepted.order_id for order in history.closed_orders(account, None, 10)]
        assert closed == orders[:0:-1], "newest first, the oldest forgotten"
        assert history.closed_order(account, orders[0], "") is None
    assert history.closed_orders(accounts[0], None, 10) == [], "the account that was quiet longest is forgotten"
    assert len(history.closed_orders(accounts[1], None, 10)) == 3


def test_fills_are_bounded(stage: Stage) -> None:
    maker, taker = stage.account(), stage.account()
    place(stage, maker, Side.SELL, 50_000, 2_000)
    for _ in range(history_module.FILLS_MAX + 5):
        place(stage, taker, Side.BUY, 50_000, 1)
    fills = stage.exchange.history.fills(maker, None, 10_000)
    assert len(fills) == history_module.FILLS_MAX
    assert fills[0][0].trade_id == history_module.FILLS_MAX + 5
    assert len(stage.exchange.history.fills(maker, None, 7)) == 7


def test_an_account_without_open_orders_takes_no_room(stage: Stage) -> None:
    maker, taker = busy(stage)
    open_orders = stage.exchange.history._open
    assert {account: set(orders) for account, orders in open_orders.items()} == {
        account: set(stage.engine.accounts[account].orders)
        for account in (maker, taker)
        if stage.engine.accounts[account].orders
    }
    stage.do(CancelAll(maker, ""))
    stage.do(CancelAll(taker, ""))
    assert open_orders == {}
