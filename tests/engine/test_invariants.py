"""``check`` notices when the books and the accounts do not know the same orders."""

import pytest
from msgspec.structs import replace

from engine.accounts import Order
from engine.commands import Cancel, ListMarket, Place
from engine.core import Engine
from engine.invariants import check
from engine.types import OrderType, Side
from tests.engine.test_snapshot import apply, exchange
from tests.reference.market import SPEC, START_NS


def two_markets() -> Engine:
    """One order rests in each of two markets."""
    engine = exchange()
    apply(engine, ListMarket(replace(SPEC, symbol="OTHER")), START_NS)
    for symbol in (SPEC.symbol, "OTHER"):
        apply(engine, Place(100, symbol, Side.BUY, OrderType.LIMIT, 1, 1), START_NS)
    assert [order.market for order in engine.open_orders()] == [SPEC.symbol, "OTHER"]
    check(engine)
    return engine


def test_an_open_order_that_is_in_no_book() -> None:
    engine = two_markets()
    engine.markets["OTHER"].book.remove(engine.open_orders()[1])
    with pytest.raises(AssertionError, match="OTHER has 0 orders in its book and 1 open"):
        check(engine)


def test_an_open_order_whose_market_is_gone() -> None:
    engine = two_markets()
    del engine.markets["OTHER"]
    with pytest.raises(AssertionError, match="orders are open in markets that are gone"):
        check(engine)


def test_two_orders_of_one_id() -> None:
    """Found by the fuzzer of snapshots: a closed order that is remembered under the id of another one."""
    engine = two_markets()
    apply(engine, Place(100, "OTHER", Side.BUY, OrderType.LIMIT, 1, 1, client_order_id="a"), START_NS)
    apply(engine, Cancel(100, 0, "a"), START_NS)
    check(engine)
    outcome = engine.accounts[100].outcomes["a"]
    assert isinstance(outcome, Order)
    outcome.order_id = engine.open_orders()[0].order_id
    with pytest.raises(AssertionError, match=f"order {outcome.order_id} is there twice"):
        check(engine)
