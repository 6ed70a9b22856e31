"""Engine state as clients see it: decimals, names, money, and what a refusal says."""

from pathlib import Path
from zlib import crc32

import pytest

from engine.accounts import first_answer
from engine.commands import Place, SetMarketState
from engine.events import Accepted, Event, Rejected, Trade
from engine.rejects import REFUSALS, RejectCode
from engine.types import MarketState, OrderType, Side
from gateway import wire
from gateway.channels.base import Terms
from gateway.scale import MONEY
from gateway.views import (
    accepted_view,
    balance_view,
    book_checksum,
    book_view,
    entry_status,
    fill_view,
    market_info,
    order_view,
    position_view,
    reject_error,
    trade_view,
)
from tests.gateway.link import MARKET, START_NS, Stage


def terms_of(stage: Stage) -> Terms:
    terms = stage.exchange.terms(MARKET)
    assert terms is not None
    return terms


def placed(stage: Stage, account: int, side: Side, price: int, qty: int) -> list[Event]:
    return stage.do(Place(account, MARKET, side, OrderType.LIMIT, price, qty))


def test_a_market(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.do(SetMarketState(MARKET, MarketState.HALTED))
    market = stage.engine.markets[MARKET]
    info = market_info(market.spec, market.state)
    assert (info.market, info.state, info.speed_unit) == (MARKET, "halted", "PH/s")
    assert (info.tick_size, info.lot_size, info.reference_price) == ("0.00000001", "0.001", "0.00050000")
    assert info.gate_us < info.period_start_us < info.period_end_us < info.settle_us
    assert info.period_start_us == START_NS // 1_000 + 36 * 3_600 * 10**6
    assert market_info(market.spec, market.state, terms_of(stage)) == info


def test_the_checksum_is_over_integers_and_ten_levels() -> None:
    assert book_checksum([], []) == 0
    assert book_checksum([(5, 7)], [(6, 1)]) == crc32(b"b5:7;a6:1;")
    bids = [(100 - at, at + 1) for at in range(12)]
    text = "".join(f"b{price}:{qty};" for price, qty in bids[:10])
    assert book_checksum(bids, []) == crc32(text.encode())
    assert book_checksum(bids[:10], []) == book_checksum(bids, [])


def test_a_book(tmp_path: Path) -> None:
    terms = terms_of(Stage(tmp_path))
    bids, asks = [(50_000, 1_500), (49_999, 1)], [(50_001, 2)]
    view = book_view(bids, asks, terms, 1)
    assert view.bids == [("0.00050000", "1.500")]
    assert view.asks == [("0.00050001", "0.002")]
    assert view.checksum == book_checksum(bids, asks), "covers ten levels whatever the depth"


def test_orders_fills_and_money(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    terms = terms_of(stage)
    maker, taker = stage.account(), stage.account()
    placed(stage, maker, Side.SELL, 50_000, 1_500)
    events = placed(stage, taker, Side.BUY, 50_100, 500)
    accepted = next(event for event in events if isinstance(event, Accepted))
    trade = next(event for event in events if isinstance(event, Trade))

    assert entry_status(accepted, events[events.index(accepted) + 1 :]) == "filled"
    order = next(iter(stage.engine.accounts[maker].orders.values()))
    view = order_view(order, terms)
    assert (view.side, view.status, view.price, view.qty) == ("sell", "open", "0.00050000", "1.500")
    assert (view.filled_qty, view.remaining_qty, view.time_in_force, view.type) == ("0.500", "1.000", "gtc", "limit")
    assert accepted_view(first_answer(order), terms, "open", order.filled, order.remaining) == view

    halves = fill_view(trade, "maker", terms), fill_view(trade, "taker", terms)
    assert [half.side for half in halves] == ["sell", "buy"]
    assert [half.liquidity for half in halves] == ["maker", "taker"]
    assert [half.remaining_qty for half in halves] == ["1.000", "0.000"]
    # 0.5 PH/s for a day at 0.0005 BTC/PH/s/day; fees 10 and 20 bps
    assert [half.fee for half in halves] == ["0.00000025000", "0.00000050000"]
    assert trade_view(trade, terms) == wire.TradeView(1, "0.00050000", "0.500", "buy", START_NS // 1_000)

    short = position_view(MARKET, stage.engine.accounts[maker].positions[MARKET], terms)
    assert (short.qty, short.basis, short.bond) == ("-0.500", "0.00025000000", "0.00005000000")
    balance = balance_view(stage.engine.accounts[maker], [])
    # a bond of 20 % and the fee are gone from the balance; proceeds and bond wait in the position
    assert (balance.balance, balance.positions) == ("0.99994975000", "0.00030000000")
    money = MONEY.parse
    assert money(balance.available) == money(balance.balance) - money(balance.held)
    assert balance_view(stage.engine.accounts[taker], []).positions == "0.00000000000"


@pytest.mark.parametrize(
    ("code", "bound", "text", "said"),
    [
        (RejectCode.PRICE_TOO_HIGH, 100_000_000, "1.00000000", "a price in this market is at most 1.00000000"),
        (RejectCode.POST_ONLY_WOULD_TAKE, 50_001, "0.00050001", "the order would trade: the best price opposite is 0.00050001"),
        (RejectCode.QTY_TOO_SMALL, 1, "0.001", "a quantity is at least 0.001"),
        (RejectCode.FILL_OR_KILL_UNFILLABLE, 0, "0.000", "0.000 could fill at once"),
        (RejectCode.REDUCE_ONLY_EXCEEDED, 0, "0.000", "0.000 is left to reduce on that side"),
        (
            RejectCode.FUNDS_INSUFFICIENT,
            10**11 + 1,
            "1.00000000001",
            "the order needs more than the 1.00000000001 BTC available",
        ),
        (RejectCode.BALANCE_INSUFFICIENT, 0, "0.00000000000", "the account has 0.00000000000 BTC available"),
        (
            RejectCode.EDIT_LOCKED,
            START_NS + 1_002_000,
            str(START_NS // 1_000 + 1_002),
            "the bid was edited a moment ago: price and limit can change at 2026-11-23T12:00:00.001002Z",
        ),
        (RejectCode.LIFE_INVALID, 864_000 * 10**9, "864000000000", "an order ends after now and at most 864000 s ahead"),
        (RejectCode.ORDERS_PER_ACCOUNT_FULL, 10_000, "10000", "an account has at most 10000 open orders"),
        (RejectCode.MARKET_UNKNOWN, 0, "", "no such market"),
        (RejectCode.FLOW_UNKNOWN, 0, "", "no such flow, or it is done with"),
    ],
)
def test_bounds_are_in_units_of_the_wire(tmp_path: Path, code: RejectCode, bound: int, text: str, said: str) -> None:
    terms = terms_of(Stage(tmp_path))
    error = reject_error(Rejected(100, 1, code, bound, 0, "", MARKET), terms, ())
    assert (error.code, error.data.reason, error.data.bound) == (code.value, code.name.lower(), text)
    assert error.message == said


def test_without_a_market_a_bound_stays_a_whole_number() -> None:
    error = reject_error(Rejected(100, 1, RejectCode.PRICE_TOO_LOW, 1, 0, "", ""), None)
    assert (error.data.bound, error.message) == ("1", "a price in this market is at least 1 ticks")


@pytest.mark.parametrize("code", RejectCode)
def test_every_refusal_can_be_told(code: RejectCode) -> None:
    fields = wire.PlaceParams.__struct_fields__
    error = reject_error(Rejected(100, 1, code, 7, 0, "", "", repeat=True), None, fields)
    assert error.data.repeat
    assert "{" not in error.message
    name = error.data.field.removeprefix("params.")
    assert name
    assert (name in fields) == error.data.field.startswith("params.")
    assert not REFUSALS[code].field.endswith("_ns") or name.endswith("_us")


def test_fields_have_their_names_on_the_wire() -> None:
    def field(code: RejectCode, params: type[wire.Params]) -> str:
        return reject_error(Rejected(1, 1, code, 1, 0, "", ""), None, params.__struct_fields__).data.field

    assert field(RejectCode.DEADLINE_PASSED, wire.PlaceParams) == "params.deadline_us"
    assert field(RejectCode.EXPIRY_INVALID, wire.PlaceParams) == "params.expires_us"
    assert field(RejectCode.ORDERS_PER_ACCOUNT_FULL, wire.PlaceParams) == "account"
    assert field(RejectCode.ACCOUNT_UNKNOWN, wire.TransferParams) == "params.account"
    assert field(RejectCode.CLIENT_ORDER_ID_INVALID, wire.WithdrawParams) == "params.transfer_id"
    assert field(RejectCode.CLIENT_ORDER_IDS_FULL, wire.PlaceParams) == "params.client_order_id"
