"""The methods of live markets, over fake links: what they ask for and answer, who may call them, what the streams tell."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.commands import ListLive, SetMarketState
from engine.limits import SECOND_NS
from engine.types import MarketState
from gateway.channels.live import CHECKSUM_LEVELS
from gateway.codec import CODECS, MSGPACK
from gateway.config import LiveListing
from gateway.exchange import Taking
from gateway.listings import live_market
from gateway.live_methods import JSON_INT_MAX
from gateway.methods import METHODS
from gateway.wire import ErrorCode
from tests.gateway.link import MARKET, Link, Refused, Stage

LIVE = "SHA256-LIVE"
POOL = {"url": "stratum+tcp://pool.example:3333", "worker": "w.1"}
HASHES = 10**15
"""Of one PH/s in a second."""


def staged(tmp_path: Path, **terms: Any) -> Stage:
    """A stage with a live market, whose prices go down freely unless ``terms`` say otherwise."""
    stage = Stage(tmp_path)
    stage.do(
        ListLive(live_market(LiveListing(**{"algorithm": "SHA256", "decrease_step": "0", "decrease_interval_s": 0, **terms})))
    )
    return stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return staged(tmp_path)


def bid(link: Link, price: str, limit: str | None = None, budget: str = "0.1", **more: Any) -> dict[str, Any]:
    params = {"market": LIVE, "price": price, "budget": budget, **POOL, **more}
    if limit is not None:
        params["limit"] = limit
    result: dict[str, Any] = link.call("live.place_bid", **params)
    return result


def ask(link: Link, price: str, speed: str, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = link.call("live.place_ask", market=LIVE, price=price, speed=speed, **more)
    return result


def refusal(link: Link, method: str, **params: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        link.call(method, **params)
    return caught.value


def events(link: Link) -> list[dict[str, Any]]:
    """What the account channel told since it was last asked."""
    return [message["data"] for message in link.messages("account") if message["type"] == "event"]


def test_an_account_may_have_orders_in_a_market_that_nobody_was_told_of(tmp_path: Path) -> None:
    """Found by simulation: a market of that name had ended, the next one was listed, and neither was durable; the snapshot's
    terms were those that had been published."""
    stage = Stage(tmp_path)
    trader = stage.trader()
    spec = live_market(LiveListing(algorithm="SHA256"))
    stage.sequencer.held = True
    stage.sequencer.submit(ListLive(spec))
    trader.start("live.place_ask", market=LIVE, price="0.00048", speed="2")
    trader.start("place", market=MARKET, side="buy", qty="0.001", price="0.0005")
    trader.start("subscribe", channels=["account"])
    stage.sequencer.submit(SetMarketState(LIVE, MarketState.CLOSED))
    stage.sequencer.submit(ListLive(replace(spec, tick_size="0.0000001")))
    trader.start("live.place_ask", market=LIVE, price="0.0004800", speed="2")
    trader.start("subscribe", channels=["account"])
    stage.sequencer.commit()
    snapshots = [message["data"] for message in trader.messages("account") if message["type"] == "snapshot"]
    assert [ask["price"] for ask in snapshots[-1]["asks"]] == ["0.0004800"], "in the terms of the market that it is in"


# ------------------------------------------------------------------------------------------------------------ placing bids


def test_a_bid_gets_the_hashrate_that_its_price_pays_for(stage: Stage) -> None:
    buyer, seller = stage.trader(), stage.trader()
    assert ask(seller, "0.00048", "2") | {"ts_us": 0} == {
        "order_id": 7,
        "client_order_id": "",
        "market": LIVE,
        "status": "open",
        "price": "0.00048000",
        "speed": "2.000",
        "assigned": "0.000",
        "ts_us": 0,
        "repeat": False,
    }
    placed = bid(buyer, "0.0005", "1.5", client_order_id="b1")
    assert (placed["status"], placed["price"], placed["cap"]) == ("open", "0.00050000", "0.00050000")
    assert (placed["limit"], placed["assigned"], placed["repeat"]) == ("1.500", "1.500", False)
    assert bid(buyer, "0.0004")["assigned"] == "0.000", "it pays less than the ask wants"
    again = bid(buyer, "0.0005", "1.5", client_order_id="b1")
    assert (again["order_id"], again["assigned"], again["repeat"]) == (placed["order_id"], "1.500", True)
    whole = bid(buyer, "0.0006", client_order_id="b2")
    assert (whole["limit"], whole["assigned"]) == (None, "2.000")
    assert bid(buyer, "0.0005", "1.5", client_order_id="b1")["assigned"] == "0.000", "outbid since"
    buyer.call("cancel", client_order_id="b1")
    assert bid(buyer, "0.0005", "1.5", client_order_id="b1")["status"] == "ended"


def test_a_client_order_id_names_one_order_of_one_kind(stage: Stage) -> None:
    trader = stage.trader()
    dated, live = trader.place("buy", "1", "0.0005", client_order_id="d"), bid(trader, "0.0005", client_order_id="b")
    offered = ask(trader, "0.0006", "1", client_order_id="a")
    for method, name, first in (
        ("place", "b", live),
        ("place", "a", offered),
        ("live.place_bid", "d", dated),
        ("live.place_bid", "a", offered),
        ("live.place_ask", "d", dated),
        ("live.place_ask", "b", live),
    ):
        params = {
            "place": {"market": MARKET, "side": "buy", "qty": "1", "price": "0.0004"},
            "live.place_bid": {"market": LIVE, "price": "0.0004", "budget": "0.1", **POOL},
            "live.place_ask": {"market": LIVE, "price": "0.0004", "speed": "1"},
        }[method]
        refused = refusal(trader, method, **params, client_order_id=name)
        assert (refused.data["reason"], refused.data["repeat"]) == ("client_order_id_used", True)
        assert f"order {first['order_id']} " in refused.message
    stage.exchange._terms.clear()
    gone = stage.engine.live.markets.pop(LIVE)
    stage.engine.live.markets["OTHER"] = gone
    refused = refusal(trader, "live.place_ask", market="OTHER", price="0.0004", speed="1", client_order_id="a")
    assert (refused.data["reason"], refused.data["repeat"]) == ("market_settled", True)


def test_a_limit_of_zero_is_none(stage: Stage) -> None:
    buyer = stage.trader()
    assert bid(buyer, "0.0005", "0")["limit"] is None
    placed = bid(buyer, "0.0005", "1")
    assert buyer.call("live.amend_bid", order_id=placed["order_id"], limit="0")["limit"] is None
    assert buyer.call("live.amend_bid", order_id=placed["order_id"], limit="2")["limit"] == "2.000"
    assert buyer.call("live.amend_bid", order_id=placed["order_id"], price="0.0006")["limit"] == "2.000"


def test_a_pegged_bid_follows(stage: Stage) -> None:
    rival, buyer = stage.trader(), stage.trader()
    bid(rival, "0.0005")
    placed = bid(buyer, "0.0006", peg="top", offset="0.00000010", floor="0.0001")
    assert (placed["price"], placed["cap"]) == ("0.00050010", "0.00060000")
    below = bid(buyer, "0.0006", peg="top", offset="-0.00000010")
    assert below["price"] == "0.00049990"
    buyer.call("subscribe", channels=["account"])
    bid(rival, "0.00055")
    buyer.messages("account")
    shown = {view["order_id"]: view for view in buyer.call("live.orders")["bids"]}
    assert shown[placed["order_id"]]["price"] == "0.00055010"
    assert (shown[below["order_id"]]["peg"], shown[below["order_id"]]["offset"]) == ("top", "-0.00000010")
    assert (shown[placed["order_id"]]["floor"], shown[below["order_id"]]["floor"]) == ("0.00010000", None)


def test_a_bid_names_its_pool(stage: Stage) -> None:
    buyer, other = stage.trader(), stage.trader()
    saved = buyer.call("pool.save", name="home", algorithm="SHA256", **POOL)
    assert saved == {"pool_id": saved["pool_id"], "name": "home", "algorithm": "SHA256", **POOL, "password": "x"}
    assert buyer.call("pools") == [saved]
    assert other.call("pools") == []
    common = {"market": LIVE, "price": "0.0005", "budget": "0.1"}
    placed = buyer.call("live.place_bid", pool_id=saved["pool_id"], **common)
    assert buyer.call("live.orders")["bids"][0] | POOL == buyer.call("live.orders")["bids"][0]
    moved = buyer.call(
        "pool.save", pool_id=saved["pool_id"], name="away", algorithm="SHA256", url=POOL["url"], worker="w.2", password=""
    )
    assert (moved["pool_id"], moved["worker"], moved["password"]) == (saved["pool_id"], "w.2", "")
    assert buyer.call("live.orders")["bids"][0]["worker"] == "w.1", "a bid keeps the pool that it was given"
    buyer.call("live.amend_bid", order_id=placed["order_id"], pool_id=saved["pool_id"])
    assert buyer.call("live.orders")["bids"][0]["worker"] == "w.2"

    for link, params, code, field in (
        (buyer, {}, ErrorCode.INVALID_PARAMS, "params.pool_id"),
        (buyer, {"url": POOL["url"]}, ErrorCode.INVALID_PARAMS, "params.worker"),
        (buyer, {"worker": "w"}, ErrorCode.INVALID_PARAMS, "params.url"),
        (buyer, {"pool_id": saved["pool_id"], **POOL}, ErrorCode.INVALID_PARAMS, "params.pool_id"),
        (buyer, {"pool_id": 1_000}, 1306, "params.pool_id"),
        (other, {"pool_id": saved["pool_id"]}, 1306, "params.pool_id"),
        (buyer, {"url": "http://pool.example", "worker": "w"}, 1601, "params.url"),
    ):
        refused = refusal(link, "live.place_bid", **common, **params)
        assert (refused.code, refused.data["field"]) == (code, field)

    assert buyer.call("pool.delete", pool_id=saved["pool_id"]) == {"pool_id": saved["pool_id"]}
    assert refusal(buyer, "pool.delete", pool_id=saved["pool_id"]).code == 1306
    assert buyer.call("pools") == []
    assert refusal(buyer, "pool.save", name="\n", algorithm="SHA256", **POOL).data["field"] == "params.name"


@pytest.mark.parametrize(
    ("more", "code", "field", "bound"),
    [
        ({"market": "SHA256-NONE"}, 1101, "params.market", None),
        ({"market": MARKET}, 1109, "params.market", None),
        ({"price": "0"}, 1205, "params.price", "0.00000001"),
        ({"price": "1.00000001"}, 1206, "params.price", "1.00000000"),
        ({"limit": "0.099"}, 1210, "params.limit", "0.100"),
        ({"limit": "100000.001"}, 1211, "params.limit", "100000.000"),
        ({"budget": "0.00099999999"}, 1214, "params.budget", "0.00100000000"),
        ({"budget": "5"}, 1409, "params.budget", "1.00000000000"),
        ({"offset": "0.00000001"}, 1216, "params.peg", "1.00000000"),
        ({"peg": "top", "floor": "0.0006"}, 1216, "params.peg", "1.00000000"),
        ({"expires_us": 1}, 1217, "params.expires_us", str(10 * 86_400 * 10**6)),
        ({"price": "0.000500001"}, ErrorCode.INVALID_PARAMS, "params.price", None),
        ({"limit": "1.0001"}, ErrorCode.INVALID_PARAMS, "params.limit", None),
        ({"offset": "+1"}, ErrorCode.INVALID_PARAMS, "params.offset", None),
        ({"peg": "best"}, ErrorCode.INVALID_PARAMS, "params.peg", None),
        ({"client_order_id": "a b"}, ErrorCode.INVALID_PARAMS, "params.client_order_id", None),
        ({"deadline_us": 1}, 1006, "params.deadline_us", None),
    ],
)
def test_a_bid_is_refused_with_field_and_bound(
    stage: Stage, more: dict[str, Any], code: int, field: str, bound: str | None
) -> None:
    buyer = stage.trader()
    refused = refusal(buyer, "live.place_bid", **{"market": LIVE, "price": "0.0005", "budget": "0.1", **POOL, **more})
    assert (refused.code, refused.data["field"]) == (code, field)
    if bound is not None:
        assert refused.data["bound"] == bound


# ---------------------------------------------------------------------------------------------------------------- amending


def test_a_price_goes_up_at_once_and_down_slowly(tmp_path: Path) -> None:
    stage = staged(tmp_path, decrease_step="0.00000200", decrease_interval_s=600, lock_ms=10_000)
    buyer, seller = stage.trader(), stage.trader()
    ask(seller, "0.0004", "1")
    order = bid(buyer, "0.0005", "1")["order_id"]
    raised = buyer.call("live.amend_bid", order_id=order, price="0.00051")
    assert (raised["order_id"], raised["price"], raised["assigned"], raised["status"]) == (order, "0.00051000", "1.000", "open")
    locked = refusal(buyer, "live.amend_bid", order_id=order, price="0.00052")
    assert (locked.code, locked.data["field"]) == (1303, "params.order_id")
    assert int(locked.data["bound"]) == stage.now_ns // 1_000 + 10 * 10**6
    stage.wait(10)
    early = refusal(buyer, "live.amend_bid", order_id=order, price="0.00050900")
    assert (early.code, early.data["field"]) == (1305, "params.price")
    assert int(early.data["bound"]) == stage.now_ns // 1_000 + 590 * 10**6
    large = refusal(buyer, "live.amend_bid", order_id=order, price="0.00050799")
    assert (large.code, large.data["field"], large.data["bound"]) == (1304, "params.price", "0.00000200")
    stage.wait(590)
    assert buyer.call("live.amend_bid", order_id=order, price="0.000508")["price"] == "0.00050800"


def test_amends_are_refused_with_their_field(stage: Stage) -> None:
    buyer, seller = stage.trader(), stage.trader()
    own, theirs = bid(buyer, "0.0005", client_order_id="mine")["order_id"], ask(seller, "0.0006", "1")["order_id"]
    for link, method, params, code, field in (
        (buyer, "live.amend_bid", {"order_id": own}, 1302, "params.limit"),
        (buyer, "live.amend_bid", {"order_id": own, "price": "0"}, 1205, "params.price"),
        (buyer, "live.amend_bid", {"order_id": 99_999, "price": "1"}, 1301, "params.order_id"),
        (buyer, "live.amend_bid", {"client_order_id": "other", "limit": "1"}, 1301, "params.client_order_id"),
        (buyer, "live.amend_bid", {"order_id": own, "client_order_id": "mine"}, ErrorCode.INVALID_PARAMS, "params.order_id"),
        (buyer, "live.amend_bid", {"price": "1"}, ErrorCode.INVALID_PARAMS, "params.order_id"),
        (buyer, "live.amend_bid", {"order_id": own, "url": POOL["url"]}, ErrorCode.INVALID_PARAMS, "params.worker"),
        (buyer, "live.amend_ask", {"order_id": theirs, "price": "1"}, 1301, "params.order_id"),
        (seller, "live.amend_ask", {"order_id": theirs}, 1302, "params.speed"),
        (seller, "live.amend_ask", {"order_id": theirs, "speed": "0"}, 1212, "params.speed"),
        (seller, "live.amend_ask", {"order_id": theirs, "price": "0"}, 1205, "params.price"),
        (seller, "live.amend_bid", {"order_id": theirs, "price": "1"}, 1301, "params.order_id"),
    ):
        refused = refusal(link, method, **params)
        assert (refused.code, refused.data["field"]) == (code, field), (method, params)
    assert buyer.call("live.amend_bid", client_order_id="mine", price="0.00051")["order_id"] == own
    amended = seller.call("live.amend_ask", order_id=theirs, price="0.0005", speed="2")
    assert (amended["price"], amended["speed"], amended["assigned"]) == ("0.00050000", "2.000", "2.000")
    assert seller.call("live.amend_ask", order_id=theirs, speed="1")["assigned"] == "1.000"


def test_a_refill_counts_once(stage: Stage) -> None:
    buyer = stage.trader()
    order = bid(buyer, "0.0005", budget="0.1")["order_id"]
    filled = buyer.call("live.refill", order_id=order, amount="0.2", refill_id="r1")
    assert (filled["amount"], filled["left"], filled["held"]) == ("0.20000000000", "0.30000000000", "0.30000000000")
    again = buyer.call("live.refill", order_id=order, amount="0.2", refill_id="r1")
    assert (again["left"], again["repeat"]) == ("0.30000000000", True)
    for params, code, field in (
        ({"order_id": order, "amount": "0.0001"}, 1214, "params.amount"),
        ({"order_id": order, "amount": "0.8"}, 1409, "params.amount"),
        ({"order_id": 99_999, "amount": "0.1"}, 1301, "params.order_id"),
        ({"client_order_id": "none", "amount": "0.1"}, 1301, "params.client_order_id"),
    ):
        refused = refusal(buyer, "live.refill", refill_id=f"r{code}", **params)
        assert (refused.code, refused.data["field"]) == (code, field), params
    assert refusal(buyer, "live.refill", order_id=order, amount="0.1").data["field"] == "params.refill_id"


# --------------------------------------------------------------------------------------------------------------- canceling


def test_cancel_ends_live_orders(stage: Stage) -> None:
    buyer, seller = stage.trader(), stage.trader()
    offered = ask(seller, "0.0004", "2")["order_id"]
    order = bid(buyer, "0.0005", "1.5", "0.1")["order_id"]
    gone = buyer.call("cancel", order_id=order)
    assert gone == {
        "order_id": order,
        "client_order_id": "",
        "market": LIVE,
        "canceled_qty": "1.500",
        "filled_qty": "0.000",
        "spent": "0.00000000000",
        "returned": "0.10000000000",
    }
    assert refusal(buyer, "cancel", order_id=order).code == 1301
    bid(buyer, "0.0005", "0.5")
    gone = seller.call("cancel", order_id=offered)
    assert (gone["canceled_qty"], "spent" in gone, "returned" in gone) == ("0.500", False, False)


def test_cancel_all_ends_both_kinds(stage: Stage) -> None:
    trader, operator = stage.trader(), stage.operator()
    dated = trader.place("buy", "1", "0.0005")["order_id"]
    live = [bid(trader, "0.0005")["order_id"], ask(trader, "0.0006", "1")["order_id"]]
    assert trader.call("cancel_all", market=LIVE, side="sell") == {"canceled": live[1:]}
    assert trader.call("cancel_all") == {"canceled": [dated, live[0]]}
    order = bid(trader, "0.0005")["order_id"]
    trader.call("subscribe", channels=["account"])
    assert operator.call("account_cancel_all", account=trader.session.account) == {"canceled": [order]}
    assert [(event["event"], event["reason"]) for event in events(trader)] == [("bid_ended", "operator")]


def test_a_stopping_exchange_takes_cancels_of_live_orders(stage: Stage) -> None:
    trader = stage.trader()
    order = bid(trader, "0.0005")["order_id"]
    stage.exchange.taking = Taking.CANCELS
    assert refusal(trader, "live.amend_bid", order_id=order, price="0.0006").code == ErrorCode.SHUTTING_DOWN
    assert trader.call("cancel", order_id=order)["order_id"] == order


# ------------------------------------------------------------------------------------------------------------------ flows


def test_a_flow_is_metered_and_paid(tmp_path: Path) -> None:
    stage = staged(tmp_path, buyer_fee_bps=100, seller_fee_bps=200)
    buyer, seller, meter = stage.trader(), stage.trader(), stage.meter()
    for link in (buyer, seller):
        link.call("subscribe", channels=["account"])
    offered = ask(seller, "0.0004", "2")["order_id"]
    order = bid(buyer, "0.0005", "1")["order_id"]
    (flow,) = meter.call("live.flows")
    assert (flow["role"], flow["state"], flow["order_id"], flow["speed"]) == ("meter", "running", offered, "1.000")
    assert (flow["hashrate"], flow["url"], flow["worker"]) == (str(HASHES), POOL["url"], POOL["worker"])
    stage.wait(86_400 // 1_000)
    proven = HASHES * 86
    paid = meter.call("report_flow", flow_id=flow["flow_id"], hashes=str(proven))
    # a 1000th of 86,000/86,400 days at 0.0005: 0.4976..e-6 BTC
    cost = 50_000 * 1_000 * 86 // 86_400
    assert paid == {
        "flow_id": flow["flow_id"],
        "market": LIVE,
        "hashes": str(proven),
        "paid_hashes": str(proven),
        "cost": f"0.{cost:011}",
        "final": False,
    }
    told = {link: [event for event in events(link) if event["event"].startswith("flow")] for link in (buyer, seller)}
    started, money = told[buyer]
    assert (started["role"], started["change"], started["cause"], started["speed"]) == (
        "buyer",
        "started",
        "bid_placed",
        "1.000",
    )
    assert (started["order_id"], told[seller][0]["order_id"]) == (order, offered)
    assert (money["event"], money["cost"], money["fee"]) == ("flow_paid", paid["cost"], f"0.{cost // 100:011}")
    assert (told[seller][1]["cost"], told[seller][1]["fee"]) == (paid["cost"], f"0.{cost * 2 // 100:011}")
    assert "released" not in told[seller][1]
    (mine,) = buyer.call("live.flows")
    assert (mine["role"], mine["order_id"], mine["paid_hashes"], mine["cost"]) == ("buyer", order, str(proven), paid["cost"])
    (theirs,) = seller.call("live.flows", market=LIVE)
    assert (theirs["role"], theirs["fee"]) == ("seller", told[seller][1]["fee"])
    assert seller.call("live.flows", after_id=flow["flow_id"]) == []
    assert seller.call("live.flows", market=MARKET) == []

    stage.wait(10)
    seller.call("cancel", order_id=offered)
    (ended,) = meter.call("live.flows")
    assert (ended["state"], ended["speed"], ended["ended_us"]) == ("closing", "0.000", stage.now_ns // 1_000)
    final = meter.call("report_flow", flow_id=flow["flow_id"], hashes=str(proven + 10 * HASHES), final=True)
    assert final["final"]
    assert meter.call("live.flows") == []
    assert refusal(meter, "report_flow", flow_id=flow["flow_id"], hashes=str(proven)).code == 1608
    assert [event.get("change") for event in events(buyer)] == ["ended", None]


def test_a_report_answers_with_its_own_payment(stage: Stage) -> None:
    buyer, seller, meter = stage.trader(), stage.trader(), stage.meter()
    ask(seller, "0.0004", "1")
    bid(buyer, "0.0005", "1")
    (flow,) = meter.call("live.flows")
    decreased = HASHES * 10
    stage.wait(20)
    meter.call("report_flow", flow_id=flow["flow_id"], hashes=str(decreased))
    refused = refusal(meter, "report_flow", flow_id=flow["flow_id"], hashes=str(decreased - 1))
    assert (refused.code, refused.data["field"], refused.data["bound"]) == (1605, "params.hashes", str(decreased))
    assert refusal(meter, "report_flow", flow_id=77, hashes="1").data["field"] == "params.flow_id"
    # idle for longer than the market allows: the report pays nothing and ends the ask, which is told behind the answer's event
    stage.wait(301)
    paid = meter.call("report_flow", flow_id=flow["flow_id"], hashes=str(decreased))
    assert (paid["cost"], paid["final"]) == ("0.00000000000", False)
    assert seller.call("live.orders") == {"bids": [], "asks": []}


def test_own_hashrate_has_two_roles(stage: Stage) -> None:
    trader = stage.trader()
    trader.call("subscribe", channels=["account"])
    ask(trader, "0.0004", "1")
    bid(trader, "0.0005", "1")
    assert [flow["role"] for flow in trader.call("live.flows")] == ["buyer", "seller"]
    assert len(trader.call("live.flows", limit=1)) == 2, "a page does not end within a flow"
    ask(trader, "0.0003", "0.5")
    assert [flow["flow_id"] for flow in trader.call("live.flows", limit=1)] == [1, 1]
    assert [flow["flow_id"] for flow in trader.call("live.flows", limit=1, after_id=1)] == [2, 2]
    messages = trader.messages("account")
    assert [message["seq"] - message["prev_seq"] for message in messages[1:]] == [1] * (len(messages) - 1)
    assert [message["data"].get("role") for message in messages[-2:]] == ["buyer", "seller"]


def test_a_budget_that_runs_out_stops_the_bid(tmp_path: Path) -> None:
    stage = staged(tmp_path, buyer_fee_bps=0, budget_min="0.00000100000")
    buyer, seller, meter = stage.trader(), stage.trader(), stage.meter()
    ask(seller, "0.0004", "1")
    order = bid(buyer, "0.0005", "1", budget="0.000001")["order_id"]
    (flow,) = meter.call("live.flows")
    buyer.call("subscribe", channels=["account"])
    stage.wait(300)
    (view,) = buyer.call("live.orders")["bids"]
    assert (view["status"], view["assigned"], view["order_id"]) == ("stopped", "0.000", order)
    amended = buyer.call("live.amend_bid", order_id=order, price="0.0006")
    assert (amended["status"], amended["assigned"]) == ("stopped", "0.000")
    refilled = buyer.call("live.refill", order_id=order, amount="0.01", refill_id="more")
    assert refilled["left"] == "0.01000100000"
    kinds = [event["event"] for event in events(buyer)]
    assert kinds == ["bid_stopped", "flow_changed", "bid_amended", "bid_refilled", "bid_resumed", "flow_changed"]
    assert buyer.call("live.orders")["bids"][0]["status"] == "open"
    meter.call("report_flow", flow_id=flow["flow_id"], hashes=str(HASHES * 100), final=True)
    buyer.call("cancel", order_id=order)
    (ended,) = [event for event in events(buyer) if event["event"] == "bid_ended"]
    assert ended["reason"] == "requested"
    assert ended["budget"] == "0.01000100000"


# --------------------------------------------------------------------------------------------------- the book, estimates


def test_the_live_book(stage: Stage) -> None:
    buyer, seller, stranger = stage.trader(), stage.trader(), stage.link()
    empty: dict[str, Any] = {"state": "open", "assigned": "0.000", "marginal": None, "bids": [], "asks": [], "checksum": 0}
    assert stranger.call("live.book", market=LIVE) == empty
    ask(seller, "0.0004", "1")
    ask(seller, "0.0006", "3")
    bid(buyer, "0.0005", "2")
    bid(buyer, "0.0005")
    bid(buyer, "0.00045", "2")
    shown = stranger.call("live.book", market=LIVE, depth=1)
    assert shown["bids"] == [["0.00050000", None, "1.000"]]
    assert shown["asks"] == [["0.00040000", "1.000", "1.000"]]
    assert (shown["assigned"], shown["marginal"]) == ("1.000", "0.00050000")
    assert shown["checksum"] == stranger.call("live.book", market=LIVE)["checksum"]
    assert stranger.call("live.book", market=LIVE)["bids"][1:] == [["0.00045000", "2.000", "0.000"]]
    assert CHECKSUM_LEVELS == 10


def test_estimates(tmp_path: Path) -> None:
    stage = staged(tmp_path, buyer_fee_bps=100)
    buyer, seller, stranger = stage.trader(), stage.trader(), stage.link()

    def estimate(**params: Any) -> dict[str, Any]:
        result: dict[str, Any] = stranger.call("live.estimate", market=LIVE, **params)
        return result

    nothing = estimate(price="0.0005", limit="1", budget="0.1")
    assert nothing == {
        "market": LIVE,
        "price": "0.00050000",
        "limit": "1.000",
        "assigned": "0.000",
        "cost_per_day": "0.00000000000",
        "lasts_s": None,
        "marginal": None,
        "full_price": None,
    }
    ask(seller, "0.0004", "2")
    ask(seller, "0.0006", "3")
    bid(buyer, "0.0005", "1.5")
    found = estimate(price="0.0005", limit="1", budget="0.000505")
    assert (found["assigned"], found["marginal"], found["full_price"]) == ("0.500", "0.00050000", "0.00050001")
    assert (found["cost_per_day"], found["lasts_s"]) == ("0.00025250000", 2 * 86_400)
    assert estimate(price="0.0004", limit="0.001", budget="23058430.09213693951")["lasts_s"] == JSON_INT_MAX
    assert estimate(price="0.00050001", limit="1")["assigned"] == "1.000"
    assert estimate(price="0.0007")["assigned"] == "5.000", "it outbids, and takes what costs more"
    assert estimate(price="0.0007", limit="4")["full_price"] == "0.00060000"
    assert estimate(price="0.0007", limit="6")["full_price"] is None
    assert estimate(price="0.0007", limit="0") == estimate(price="0.0007")
    placed = bid(buyer, "0.0006", "4")
    assert placed["assigned"] == "4.000", "what was estimated is what it gets"

    for params, code, field in (
        ({"market": "NONE", "price": "1"}, 1101, "params.market"),
        ({"market": MARKET, "price": "1"}, 1109, "params.market"),
        ({"market": LIVE, "price": "0"}, 1205, "params.price"),
        ({"market": LIVE, "price": "2"}, 1206, "params.price"),
    ):
        refused = refusal(stranger, "live.estimate", **params)
        assert (refused.code, refused.data["field"]) == (code, field)


def test_the_other_kind_of_market_is_named(stage: Stage) -> None:
    trader = stage.trader()
    for method, params in (
        ("book", {"market": LIVE}),
        ("trades", {"market": LIVE}),
        ("live.book", {"market": MARKET}),
        ("live.place_ask", {"market": MARKET, "price": "1", "speed": "1"}),
        ("place", {"market": LIVE, "side": "buy", "price": "0.0005", "qty": "1"}),
    ):
        refused = refusal(trader, method, **params)
        assert (refused.code, refused.data["field"]) == (1109, "params.market"), method
    assert refusal(trader, "live.book", market="NONE").code == 1101
    assert refusal(trader, "live.place_ask", market="NONE", price="1", speed="1").code == 1101


# --------------------------------------------------------------------------------------------------------- the operator


def test_an_operator_lists_a_live_market(stage: Stage) -> None:
    operator, stranger = stage.operator(), stage.link()
    listed = operator.call("list_live_market", algorithm="SCRYPT", pricing="uniform", decrease_step="0.000050", lock_ms=1_500)
    assert (listed["kind"], listed["market"], listed["state"], listed["pricing"]) == ("live", "SCRYPT-LIVE", "open", "uniform")
    assert (listed["decrease_step"], listed["decrease_interval_s"], listed["lock_ms"]) == ("0.000050", 600, 1_500)
    assert (listed["speed_min"], listed["budget_min"]) == ("0.0100", "0.00100000000")
    assert listed in stranger.call("markets")
    kinds = {info["market"]: info["kind"] for info in stranger.call("markets")}
    assert kinds == {"SCRYPT-LIVE": "live", LIVE: "live", MARKET: "dated"}
    assert refusal(operator, "list_live_market", algorithm="SCRYPT").code == 1102
    assert refusal(operator, "list_live_market", algorithm="SCRYPT", market=MARKET).code == 1102
    for params, field in (
        ({"algorithm": "MD5"}, "params.algorithm"),
        ({"algorithm": "SHA256", "market": "sha"}, "params.market"),
        ({"algorithm": "SHA256", "market": "A", "price_min": "0.1", "price_max": "0.05"}, "params.price_min"),
        ({"algorithm": "SHA256", "market": "A", "budget_min": "x"}, "params.budget_min"),
    ):
        assert refusal(operator, "list_live_market", **params).data["field"] == field, params
    own = {"algorithm": "SHA256", "market": "OWN", "decrease_step": "0", "placing_fee": "0.0001"}
    assert operator.call("list_live_market", **own)["decrease_step"] is None


def test_an_operator_sets_the_index(stage: Stage) -> None:
    buyer, operator = stage.trader(), stage.operator()
    placed = bid(buyer, "0.0006", peg="index")
    assert placed["price"] == "0.00000001"
    assert operator.call("set_index", market=LIVE, price="0.00052") == {"market": LIVE, "price": "0.00052000"}
    assert buyer.call("live.orders")["bids"][0]["price"] == "0.00052000"
    assert operator.call("set_index", market=LIVE) == {"market": LIVE, "price": None}
    assert refusal(operator, "set_index", market=LIVE, price="2").data["bound"] == "1.00000000"
    assert refusal(operator, "set_index", market=MARKET, price="1").code == 1109
    assert refusal(operator, "set_index", market="NONE").code == 1101


def test_a_live_market_ends(stage: Stage) -> None:
    buyer, seller, operator, meter = stage.trader(), stage.trader(), stage.operator(), stage.meter()
    ask(seller, "0.0004", "1")
    bid(buyer, "0.0005", "1")
    stage.wait(10)
    stranger = stage.link()
    stranger.call("subscribe", channels=["status", f"live.{LIVE}", f"flows.{LIVE}", f"ticker.{LIVE}"])
    assert operator.call("set_market_state", market=LIVE, state="halted")["state"] == "halted"
    assert stranger.messages(f"live.{LIVE}")[-1]["data"]["state"] == "halted"
    operator.call("set_market_state", market=LIVE, state="closed")
    delta = stranger.messages(f"live.{LIVE}")[-1]["data"]
    assert (delta["state"], delta["assigned"], delta["marginal"]) == ("closed", "0.000", None)
    assert delta["bids"] == [["0.00050000", "0.000", "0.000"]]
    assert refusal(buyer, "live.place_ask", market=LIVE, price="1", speed="1").code == 1105
    (flow,) = meter.call("live.flows")
    meter.call("report_flow", flow_id=flow["flow_id"], hashes=str(HASHES), final=True)
    assert [message["data"].get("event") for message in stranger.messages(f"live.{LIVE}")][-1] == "closed"
    assert [message["data"].get("state") for message in stranger.messages("status")[1:]] == ["halted", "closed", "settled"]
    assert [info["market"] for info in stranger.call("markets")] == [MARKET]
    assert buyer.call("live.orders") == {"bids": [], "asks": []}


# ------------------------------------------------------------------------------------------------- permissions, budgets


PRIVATE = [name for name in METHODS if name.startswith(("live.", "pool")) and METHODS[name].login]


def test_who_may_call_what(stage: Stage) -> None:
    quoter = stage.link(stage.key(stage.account(), "quote"))
    reader = stage.link(stage.key(stage.account(), "read"))
    assert {name for name in PRIVATE if METHODS[name].permissions == {"trade"}} == {
        *("live.place_bid", "live.place_ask", "live.amend_bid", "live.amend_ask", "live.refill"),
        *("pool.save", "pool.delete"),
    }
    for link in (quoter, reader):
        refused = refusal(link, "live.place_ask", market=LIVE, price="1", speed="1")
        assert (refused.code, refused.data["reason"]) == (ErrorCode.PERMISSION, "permission")
    assert reader.call("live.orders") == {"bids": [], "asks": []}
    assert refusal(quoter, "live.flows").code == ErrorCode.PERMISSION
    assert refusal(reader, "report_flow", flow_id=1, hashes="1").code == ErrorCode.PERMISSION
    assert refusal(stage.link(), "live.orders").code == ErrorCode.LOGIN_REQUIRED


def test_live_orders_spend_the_budgets_of_their_like(stage: Stage) -> None:
    trader = stage.trader()
    before = trader.ask("time")["budget"]
    placed = trader.ask("live.place_ask", market=LIVE, price="0.0005", speed="1")
    assert placed["budget"] == before | {"orders": before["orders"] - 1}
    order = placed["result"]["order_id"]
    amended = trader.ask("live.amend_ask", order_id=order, speed="2")
    assert amended["budget"] == before | {"orders": before["orders"] - 2}
    canceled = trader.ask("cancel", order_id=order)
    assert canceled["budget"] == before | {"orders": before["orders"] - 2, "cancels": before["cancels"] - 1}


# ------------------------------------------------------------------------------------------------------------ the stream


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_the_snapshot_has_all_and_resume_goes_on(stage: Stage, codec: Any) -> None:
    seller = stage.trader()
    key = stage.key(stage.account(), "read", "trade")
    buyer = stage.link(key, codec)
    saved = buyer.call("pool.save", name="home", algorithm="SHA256", **POOL)
    ask(seller, "0.0004", "2")
    order = bid(buyer, "0.0005", "1")["order_id"]
    own = ask(buyer, "0.0006", "1")["order_id"]
    buyer.call("subscribe", channels=["account"])
    (snapshot,) = buyer.messages("account")
    data = snapshot["data"]
    assert [view["order_id"] for view in data["bids"]] == [order]
    assert [view["order_id"] for view in data["asks"]] == [own]
    assert [(flow["role"], flow["order_id"]) for flow in data["flows"]] == [("buyer", order)]
    assert data["pools"] == [saved]
    assert data["bids"] == buyer.call("live.orders")["bids"]
    assert data["flows"] == buyer.call("live.flows")

    buyer.call("live.amend_bid", order_id=order, price="0.00055", limit="2")
    buyer.call("pool.delete", pool_id=saved["pool_id"])
    buyer.call("cancel", order_id=order)
    seen = buyer.messages("account")
    again = stage.link(key, MSGPACK if codec is not MSGPACK else codec)
    again.call("resume", epoch=stage.exchange.epoch, account_seq=snapshot["seq"])
    assert again.messages("account") == seen
    assert [message["data"]["event"] for message in seen] == [
        "bid_amended",
        "flow_changed",
        "pool_deleted",
        "bid_ended",
        "flow_changed",
    ]
    assert [message["data"].get("change") for message in seen] == [None, "resized", None, None, "ended"]


def test_nothing_is_told_before_it_is_durable(stage: Stage) -> None:
    buyer, seller = stage.trader(), stage.trader()
    stage.sequencer.held = True
    seller.start("live.place_ask", market=LIVE, price="0.0004", speed="2")
    number = buyer.start("live.place_bid", market=LIVE, price="0.0005", limit="1", budget="0.1", **POOL)
    asked = buyer.start("live.book", market=LIVE)
    listed = buyer.start("live.orders")
    seller.start("live.place_ask", market=LIVE, price="0.0003", speed="1")
    assert not buyer.received
    stage.sequencer.commit()
    assert buyer.answer(number)["result"]["assigned"] == "1.000"
    assert buyer.answer(asked)["result"]["asks"] == [["0.00040000", "2.000", "1.000"]]
    assert buyer.answer(listed)["result"]["bids"][0]["assigned"] == "1.000"


def test_an_amend_tells_its_own_entry_only(stage: Stage) -> None:
    buyer, rival, seller = stage.trader(), stage.trader(), stage.trader()
    ask(seller, "0.0004", "1")
    order = bid(buyer, "0.0005", "1")["order_id"]
    stage.sequencer.held = True
    number = buyer.start("live.amend_bid", order_id=order, price="0.00051")
    rival.start("live.place_bid", market=LIVE, price="0.0006", budget="0.1", **POOL)
    stage.sequencer.commit()
    assert buyer.answer(number)["result"]["assigned"] == "1.000", "the rival came later"
    assert stage.now_ns % SECOND_NS == 0
