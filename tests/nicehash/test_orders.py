"""Orders and pools: placing, editing, refilling, canceling, and NiceHash's own code for everything that is refused."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.commands import PlaceAsk, PlaceBid, SetMarketState
from engine.limits import SECOND_NS
from engine.types import EndReason, MarketState
from gateway.config import Bucket, Config, RateConfig
from gateway.nicehash import public
from gateway.nicehash.public import price_for
from gateway.ratelimit import MS_NS
from tests.nicehash.venue import FACTORS, MARKET, Account, Venue, live_spec

ORDER = "/main/api/v2/hashpower/order"
MY_ORDERS = "/main/api/v2/hashpower/myOrders"


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


@pytest.fixture
def client(venue: Venue) -> Account:
    return venue.client()


def body(venue: Venue, client: Account, **more: Any) -> dict[str, Any]:
    fields = {
        "market": "BTC",
        "algorithm": "SHA256ASICBOOST",
        "type": "STANDARD",
        "price": "0.5",
        "limit": "0.001",
        "amount": "0.01",
        "poolId": venue.pool(client),
        **FACTORS,
        **more,
    }
    return {name: value for name, value in fields.items() if value is not None}


def edit(venue: Venue, client: Account, order: Any, **fields: Any) -> Any:
    return venue.call("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit/", client, {**FACTORS, **fields})


def edit_error(venue: Venue, client: Account, order: Any, **fields: Any) -> tuple[int, int, str]:
    return venue.error("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit/", client, {**FACTORS, **fields})


def money(venue: Venue, client: Account) -> tuple[str, str]:
    row = venue.call("GET", "/main/api/v2/accounting/account2/BTC", client)
    return row["totalBalance"], row["available"]


# --- a life


def test_an_order_from_placing_to_cancel(venue: Venue, client: Account) -> None:
    venue.seller(30_000, 5_000)
    order = venue.order(client, request_id="4ebd366d-76f4-4400-a3b6-e51515d054d6")
    assert order["status"]["code"] == "ACTIVE"
    assert order["requestId"] == "4ebd366d-76f4-4400-a3b6-e51515d054d6"
    assert (order["price"], order["limit"], order["amount"]) == ("0.5", "0.001", "0.01")
    assert (order["availableAmount"], order["payedAmount"]) == ("0.00999", "0")
    assert (order["alive"], order["rigsCount"], order["acceptedCurrentSpeed"]) == (True, 1, "0.001")
    assert order["startTs"] == "2026-11-23T12:00:00.000000Z"
    assert order["endTs"] == "2026-12-03T12:00:00.000000Z"
    assert money(venue, client) == ("0.99999", "0.99")

    order = venue.call("POST", f"{ORDER}/{order['id']}/refill/", client, {"amount": 0.02})
    assert (order["amount"], order["availableAmount"]) == ("0.03", "0.02999")
    order = edit(venue, client, order, price=0.51, limit="0.002")
    assert (order["price"], order["limit"], order["acceptedCurrentSpeed"]) == ("0.51", "0.002", "0.002")

    # An hour of 0.002 EH at 0.51 BTC per EH and day is 0.0000425 BTC, and 3 % on top.
    venue.wait(3_600)
    [flow] = venue.engine.live.flowing.by_id
    venue.report(flow, 2 * 10**15 * 3_600)
    seen = venue.call("GET", f"{ORDER}/{order['id']}", client)
    assert seen["payedAmount"] == "0.000043775"
    order = venue.call("DELETE", f"{ORDER}/{order['id']}", client)
    assert order["status"]["code"] == "CANCELLED"
    assert (order["alive"], order["rigsCount"]) == (False, 0)
    assert order["payedAmount"] == "0.000043775"
    assert money(venue, client) == ("0.999946225", "0.999946225")
    paid = venue.call("GET", f"/main/api/v2/accounting/hashpower/{order['id']}/transactions", client)["transactions"]
    assert [row["amount"] for row in paid] == ["-0.000043775", "-0.00001"]


def test_an_unlimited_order_takes_all_there_is(venue: Venue, client: Account) -> None:
    venue.seller(30_000, 5_000)
    order = venue.order(client, limit="0", amount="0.1")
    assert (order["limit"], order["acceptedCurrentSpeed"]) == ("0", "0.005")


def test_a_better_price_takes_the_hashrate(venue: Venue, client: Account) -> None:
    venue.seller(30_000, 1_000)
    first, rival = venue.order(client), venue.client()
    second = venue.order(rival, price="0.50001")
    assert second["alive"]
    seen = venue.call("GET", f"{ORDER}/{first['id']}", client)
    assert (seen["status"]["code"], seen["alive"], seen["acceptedCurrentSpeed"]) == ("ACTIVE", False, "0")


@pytest.mark.parametrize("market", ["BTC", "EU", "USA", "ASIA", "", MARKET])
def test_all_usual_markets_are_one(venue: Venue, client: Account, market: str) -> None:
    assert venue.order(client, market=market)["market"] == "BTC"


def test_a_second_market_of_an_algorithm_has_its_symbol_for_a_name(venue: Venue, client: Account) -> None:
    from engine.commands import ListLive

    venue.stage.do(ListLive(live_spec(symbol="SHA256-SECOND")))
    order = venue.order(client, market="SHA256-SECOND")
    assert order["market"] == "SHA256-SECOND"
    listed = venue.call("GET", "/main/api/v2/mining/markets")
    assert listed[0] == "BTC"
    assert listed[-1] == "SHA256-SECOND"
    assert venue.error("POST", ORDER, client, body(venue, client, market="SHA256-THIRD"))[1] == 2997
    book = venue.call("GET", "/main/api/v2/hashpower/orderBook", query={"algorithm": "SHA256", "market": "SHA256-SECOND"})
    assert [row["id"] for row in book["stats"]["SHA256-SECOND"]["orders"]] == [order["id"]]


def test_an_order_that_follows_the_top_up_to_its_cap(venue: Venue, client: Account) -> None:
    venue.seller(30_000, 1_000)
    rival = venue.client()
    other = venue.order(rival, price="0.5")
    mine = venue.order(client, price="0.6", peg="TOP", pegOffset="0.0001")
    assert (mine["price"], mine["peg"], mine["priceCap"], mine["alive"]) == ("0.5001", "TOP", "0.6", True)
    for raised, followed in (("0.55", "0.5501"), ("0.5999", "0.6"), ("0.7", "0.6")):
        edit(venue, rival, other, price=raised)
        venue.wait(11)
        seen = venue.call("GET", f"{ORDER}/{mine['id']}", client)
        assert seen["price"] == followed
        assert seen["alive"] is (raised != "0.7")
    low = venue.order(client, price="0.6", peg="MARGINAL", pegOffset="-0.1", pegFloor="0.2")
    assert low["priceCap"] == "0.6"
    plain = venue.order(client)
    assert "peg" not in plain
    assert "priceCap" not in plain


# --- again


def test_a_create_that_is_sent_again_is_one_order(venue: Venue, client: Account) -> None:
    fields = body(venue, client)
    first = venue.call("POST", ORDER, client, fields, request_id="r-1")
    again = venue.call("POST", ORDER, client, fields, request_id="r-1")
    assert again["id"] == first["id"]
    assert len(venue.call("GET", "/main/api/v2/hashpower/myOrders", client)["list"]) == 1
    venue.call("DELETE", f"{ORDER}/{first['id']}", client)
    ended = venue.call("POST", ORDER, client, fields, request_id="r-1")
    assert (ended["id"], ended["status"]["code"]) == (first["id"], "CANCELLED")


def test_a_create_that_is_sent_again_after_its_order_was_forgotten(venue: Venue, client: Account) -> None:
    fields = body(venue, client)
    first = venue.call("POST", ORDER, client, fields, request_id="r-1")
    venue.call("DELETE", f"{ORDER}/{first['id']}", client)
    venue.restart()
    status, code, text = venue.error("POST", ORDER, client, fields, request_id="r-1")
    assert (status, code) == (400, 5059)
    assert first["id"] in text
    assert venue.error("GET", f"{ORDER}/{first['id']}", client)[:2] == (404, 1301)


def test_what_a_restart_keeps(venue: Venue, client: Account) -> None:
    venue.seller(30_000, 1_000)
    before = venue.call("GET", f"{ORDER}/{venue.order(client)['id']}", client)
    pools = venue.call("GET", "/main/api/v2/pools", client)
    venue.restart()
    after = venue.call("GET", f"{ORDER}/{before['id']}", client)
    assert {**after, "estimateDurationInSeconds": 864_000} == before
    assert venue.call("GET", "/main/api/v2/pools", client) == pools
    assert venue.call("GET", "/main/api/v2/accounting/transactions/BTC", client)["list"] == []
    edit(venue, client, before, price="0.6")
    venue.call("DELETE", f"{ORDER}/{before['id']}", client)


def test_a_refill_that_is_sent_again_is_one_refill(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    for _ in range(2):
        seen = venue.call("POST", f"{ORDER}/{order['id']}/refill", client, {"amount": "0.005"}, request_id="r-2")
        assert seen["amount"] == "0.015"
    assert money(venue, client) == ("0.99999", "0.985")


def test_a_request_id_of_another_refill(venue: Venue, client: Account) -> None:
    one, other = venue.order(client), venue.order(client)
    venue.call("POST", f"{ORDER}/{one['id']}/refill", client, {"amount": "0.01"}, request_id="r-1")
    for order, amount in ((other, "0.01"), (one, "0.02")):
        refill = venue.error("POST", f"{ORDER}/{order['id']}/refill", client, {"amount": amount}, request_id="r-1")
        assert refill == (400, 2997, "Invalid input: X-Request-Id: the account has used it for another refill")
    assert [venue.call("GET", f"{ORDER}/{order['id']}", client)["amount"] for order in (one, other)] == ["0.02", "0.01"]


def test_a_request_id_of_another_kind_of_order(venue: Venue, client: Account) -> None:
    account = client.account
    venue.stage.do(PlaceAsk(account, MARKET, 30_000, 500, client_order_id="r-3"))
    status, code, text = venue.error("POST", ORDER, client, body(venue, client), request_id="r-3")
    assert (status, code) == (400, 2997)
    assert "X-Request-Id" in text


# --- refusals


def test_lowering_a_price(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.wait(60)
    status, code, text = edit_error(venue, client, order, price="0.499")
    assert (status, code) == (400, 5061)
    assert text.endswith("Seconds till available: 540")
    venue.wait(540)
    assert edit(venue, client, order, price="0.499")["price"] == "0.499"
    venue.wait(11)
    assert edit_error(venue, client, order, price="0.498")[:2] == (400, 5061)
    edit(venue, client, order, price="0.51")


def test_lowering_a_price_by_too_much(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.wait(600)
    status, code, text = edit_error(venue, client, order, price="0.49799")
    assert (status, code) == (400, 1304)
    assert "at most 0.002 BTC/EH/day" in text


def test_editing_again_at_once(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    edit(venue, client, order, price="0.6")
    status, code, text = edit_error(venue, client, order, limit="0.002")
    assert (status, code) == (400, 5110)
    assert text.endswith("Seconds till available: 10")
    venue.wait(10)
    edit(venue, client, order, limit="0.002")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"marketFactor": "1000000000000000"}, 5068),
        ({"marketFactor": 10**18 + 1}, 5068),
        ({"marketFactor": "NaN"}, 5068),
        ({"displayMarketFactor": "PH"}, 5068),
        ({"priceFactor": "1000000000000000"}, 5068),
        ({"displayPriceFactor": "PH"}, 5068),
        ({"marketFactor": None}, 2997),
        ({"displayMarketFactor": None}, 2997),
        ({"price": "0.500001"}, 2997),
        ({"price": "-1"}, 2997),
        ({"limit": "0.0010001"}, 2997),
        ({"amount": "0.010000000001"}, 2997),
        ({"price": "0"}, 5060),
        ({"peg": "MOON"}, 60),
        ({"peg": "TOP", "pegOffset": "0.000001"}, 2997),
        ({"peg": "TOP", "pegOffset": "-0.0001000000000000000000000000000000001"}, 2997),
        ({"peg": "TOP", "pegOffset": "NaN"}, 2997),
        ({"peg": "TOP", "pegFloor": "0.6"}, 1216),
        ({"pegOffset": "0.1"}, 1216),
        ({"price": "1000.00001"}, 1206),
        ({"limit": "0.00001"}, 1210),
        ({"limit": "101"}, 1211),
        ({"amount": "0.0009"}, 1214),
        ({"amount": "0"}, 1214),
        ({"amount": "2"}, 1409),
        ({"type": "FIXED"}, 2997),
        ({"algorithm": "X11"}, 2997),
        ({"market": "MOON"}, 2997),
        ({"price": None}, 60),
        ({"amount": None}, 60),
        ({"poolId": None}, 60),
        ({"price": "cheap"}, 60),
        ({"price": [1]}, 60),
        ({"algorithm": 35}, 60),
    ],
)
def test_an_order_that_cannot_be(venue: Venue, client: Account, fields: dict[str, Any], code: int) -> None:
    status, found, _ = venue.error("POST", ORDER, client, body(venue, client, **fields))
    assert (status, found) == (400, code)
    assert money(venue, client) == ("1", "1")


def test_refusals_name_field_and_bound(venue: Venue, client: Account) -> None:
    def text(**fields: Any) -> str:
        return venue.error("POST", ORDER, client, body(venue, client, **fields))[2]

    assert text(limit="0.00001") == "limit: a limit in this market is at least 0.0001 EH/s, or 0 for none"
    assert text(price="1000.00001") == "price: a price in this market is at most 1000 BTC/EH/day"
    # with the fee for placing in it; a refill has none
    assert text(amount="0.0009") == "amount: a budget or refill in this market is at least 0.001 BTC"
    order = venue.order(client, amount="0.001")
    refill = venue.error("POST", f"{ORDER}/{order['id']}/refill", client, {"amount": "0.0009"})
    assert refill[2] == "amount: a budget or refill in this market is at least 0.00099 BTC"
    venue.call("DELETE", f"{ORDER}/{order['id']}", client)
    assert text(amount="2") == "amount: the bid needs more than the 0.99999 BTC available"
    assert text(price=None) == "Malformed request: Object missing required field `price`"
    assert text(price=[1]).startswith("Malformed request: price: ")
    assert text(marketFactor=None) == "Invalid input: MISSING_MARKETFACTOR_DATA"
    assert "PRICE_DATA_SCALE" in text(price="0.500001")


def test_factors_may_be_numbers_or_texts_and_the_prices_may_be_left_out(venue: Venue, client: Account) -> None:
    for factor in ("1000000000000000000", "1000000000000000000.00000000", 10**18, 1e18):
        venue.order(client, marketFactor=factor)
    venue.order(client, priceFactor="1000000000000000000", displayPriceFactor="EH")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"{}"', b"null", b"\xff", b"[" * 10_000])
def test_a_body_that_is_none(venue: Venue, client: Account, raw: bytes) -> None:
    assert venue.error("POST", ORDER, client, raw=raw)[:2] == (400, 60)


def test_a_pool_of_another_algorithm_or_account(venue: Venue, client: Account) -> None:
    scrypt = venue.pool(client, "SCRYPT")
    assert venue.error("POST", ORDER, client, body(venue, client, poolId=scrypt))[:2] == (400, 2997)
    other = venue.pool(venue.client())
    for pool in (other, "nonsense", ""):
        assert venue.error("POST", ORDER, client, body(venue, client, poolId=pool))[:2] == (404, 1306)


def test_orders_that_are_not_there(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    other = venue.client()
    paths = [f"{ORDER}/{order['id']}", f"{ORDER}/00000001-0000-8000-8000-00000000ffff", f"{ORDER}/nonsense"]
    for path in paths:
        assert venue.error("GET", path, other)[:2] == (404, 1301)
        assert venue.error("DELETE", path, other)[:2] == (404, 1301)
        assert venue.error("GET", f"{path}/stats", other)[:2] == (404, 1301)
        assert venue.error("POST", f"{path}/refill", other, {"amount": "0.01"})[:2] == (404, 1301)
        assert venue.error("POST", f"{path}/updatePriceAndLimit", other, {"price": "1", **FACTORS})[:2] == (404, 1301)
    assert venue.call("GET", paths[0], client)["status"]["code"] == "ACTIVE"


def test_an_order_that_ended(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    path = f"{ORDER}/{order['id']}"
    venue.call("DELETE", path, client)
    assert venue.error("DELETE", path, client)[:2] == (400, 5059)
    assert venue.error("POST", f"{path}/refill", client, {"amount": "0.01"})[:2] == (400, 5059)
    assert venue.error("POST", f"{path}/updatePriceAndLimit", client, {"price": "1", **FACTORS})[:2] == (400, 5059)


def test_an_order_that_expired(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.wait(10 * 86_400)
    path = f"{ORDER}/{order['id']}"
    assert venue.call("GET", path, client)["status"]["code"] == "EXPIRED"
    assert venue.error("DELETE", path, client)[:2] == (400, 5058)


def test_an_order_whose_money_is_used_up(venue: Venue, client: Account) -> None:
    venue.seller(30_000, 5_000)
    order = venue.order(client, limit="0.005", amount="0.001")
    for _ in range(40):
        venue.wait(3_600)
        for flow in [*venue.engine.live.flowing.by_id.values()]:
            venue.report(flow.flow_id, flow.hashes + 5 * 10**15 * 3_600)
    seen = venue.call("GET", f"{ORDER}/{order['id']}", client)
    assert seen["status"]["code"] == "COMPLETED"
    assert float(seen["payedAmount"]) <= float(seen["availableAmount"])


def test_an_empty_edit(venue: Venue, client: Account) -> None:
    assert edit_error(venue, client, venue.order(client))[:2] == (400, 2997)


def test_an_edit_in_other_units(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    assert edit_error(venue, client, order, price="0.6", marketFactor="1000000000000")[:2] == (400, 5068)


def test_a_market_that_takes_no_orders(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.stage.do(SetMarketState(MARKET, MarketState.CANCEL_ONLY))
    assert venue.error("POST", ORDER, client, body(venue, client))[:2] == (400, 1107)
    [row] = venue.call("GET", "/main/api/v2/mining/algorithms")["miningAlgorithms"]
    assert row["ordersEnabled"] is False
    venue.call("DELETE", f"{ORDER}/{order['id']}", client)


def test_a_market_that_is_closed(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.stage.do(SetMarketState(MARKET, MarketState.CLOSED))
    assert venue.call("GET", f"{ORDER}/{order['id']}", client)["status"]["code"] == "CANCELLED"
    assert venue.service.history.ended(client.account, int(order["id"][-12:], 16)).ended is EndReason.CLOSED  # type: ignore[union-attr]
    assert venue.call("GET", "/main/api/v2/mining/algorithms")["miningAlgorithms"] == []
    assert venue.error("POST", ORDER, client, body(venue, client))[:2] == (400, 2997)


# --- budgets


def tight(tmp_path: Path, **rates: Bucket) -> Venue:
    return Venue(tmp_path, Config(rates=RateConfig(**rates)))


def test_orders_and_cancels_have_budgets_of_their_own(tmp_path: Path) -> None:
    venue = tight(tmp_path, orders=Bucket(per_second=1, burst=4))
    client = venue.client()
    pool = venue.pool(client)
    placed = [venue.order(client, pool_id=pool) for _ in range(3)]
    status, code, text = venue.error("POST", ORDER, client, body_of(pool))
    assert (status, code) == (429, 429)
    assert "wait 1000 ms" in text
    for order in placed:
        venue.call("DELETE", f"{ORDER}/{order['id']}", client)
    venue.stage.now_ns += SECOND_NS
    venue.order(client, pool_id=pool)


def body_of(pool: str) -> dict[str, Any]:
    usual = {"market": "BTC", "algorithm": "SHA256ASICBOOST", "type": "STANDARD", "price": 1, "limit": 1, "amount": 1}
    return {**usual, "poolId": pool, **FACTORS}


def test_strangers_share_the_budget_of_their_address(tmp_path: Path) -> None:
    venue = tight(tmp_path, ip=Bucket(per_second=1, burst=3))
    for _ in range(3):
        venue.call("GET", "/api/v2/time")
    assert venue.error("GET", "/api/v2/time")[:2] == (429, 429)
    venue.call("GET", "/api/v2/time", ip="10.0.0.10")
    assert len(venue.stage.exchange.limiter.addresses) == 2


def test_long_pages_cost_more(tmp_path: Path) -> None:
    venue = tight(tmp_path, ip=Bucket(per_second=1, burst=12))
    book = ("GET", "/main/api/v2/hashpower/orderBook")
    venue.call(*book, query="algorithm=SHA256&size=1000")
    venue.call(*book, query="algorithm=SHA256&size=100")
    venue.call(*book, query="algorithm=SHA256")
    assert venue.error(*book, query="algorithm=SHA256&size=1")[0] == 429
    venue.stage.now_ns += 5 * SECOND_NS
    assert venue.error(*book, query="algorithm=SHA256&size=1000")[0] == 429


def test_a_long_list_of_one_s_own_orders_costs_more(tmp_path: Path) -> None:
    venue = tight(tmp_path, requests=Bucket(per_second=1, burst=11))
    client = venue.client()
    venue.call("GET", MY_ORDERS, client, query="limit=1000")
    venue.call("GET", MY_ORDERS, client)
    assert venue.error("GET", MY_ORDERS, client)[0] == 429


@pytest.mark.parametrize("path", ["/main/api/v2/hashpower/orderBook", "/main/api/v2/public/orders"])
def test_orders_on_the_way_to_a_page_cost_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(public, "WALKED_PER_TOKEN", 2)
    venue = tight(tmp_path, ip=Bucket(per_second=1, burst=4))
    client = venue.client()
    for digit in range(6):
        venue.order(client, price=f"0.5{digit}")
    # the fifth order costs what passing by four does, and there are six to pass by
    venue.call("GET", path, query="algorithm=SHA256&size=1&page=4")
    assert venue.error("GET", path, query="algorithm=SHA256&size=1&page=2")[0] == 429
    venue.stage.now_ns += 5 * SECOND_NS
    venue.call("GET", path, query="algorithm=SHA256&size=100&page=1000")
    assert venue.error("GET", path, query="algorithm=SHA256&size=1")[0] == 429


def test_orders_of_a_time_cost_as_many_requests_as_there_are_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "WALKED_PER_TOKEN", 2)
    venue = tight(tmp_path, ip=Bucket(per_second=1, burst=4))
    client = venue.client()
    for digit in range(6):
        venue.order(client, price=f"0.5{digit}")
    late = {"op": "GT", "timestamp": venue.stage.now_ns // MS_NS}
    assert venue.call("GET", "/main/api/v2/public/orders", query=late) == {"list": []}
    assert venue.error("GET", "/main/api/v2/public/orders")[0] == 429


# --- lists


def test_my_orders(venue: Venue, client: Account) -> None:
    ids: list[str] = []
    for _ in range(4):
        ids.append(venue.order(client)["id"])
        venue.wait(1)
    venue.order(venue.client())
    venue.call("DELETE", f"{ORDER}/{ids[1]}", client)

    def found(**query: Any) -> list[str]:
        usual = {"ts": venue.stage.now_ns // 10**6, "op": "LE", "limit": 100}
        answer = venue.call("GET", "/main/api/v2/hashpower/myOrders", client, query={**usual, **query})
        return [order["id"] for order in answer["list"]]

    newest = ids[::-1]
    assert found() == newest
    assert found(op="GT", ts=0) == ids
    assert found(active="true") == [ids[3], ids[2], ids[0]]
    assert found(active="False") == newest
    assert found(status="CANCELLED") == [ids[1]]
    assert found(status="ACTIVE", limit=2) == [ids[3], ids[2]]
    assert found(algorithm="SCRYPT") == []
    assert found(algorithm="SHA256ASICBOOST", market="EU") == newest
    assert found(algorithm="", market="", status="") == newest
    assert found(market="SHA256-SECOND") == []
    start_ms = (venue.stage.now_ns - 4 * SECOND_NS) // 10**6
    assert found(ts=start_ms) == [ids[0]]
    assert found(ts=start_ms, op="LT") == []
    assert found(ts=start_ms, op="GE", limit=1) == [ids[0]]
    assert found(ts=start_ms, op="GT", limit=1) == [ids[1]]
    for query in ({"limit": 1_001}, {"limit": 0}, {"ts": "soon"}, {"active": "perhaps"}):
        assert venue.error("GET", "/main/api/v2/hashpower/myOrders", client, query=query)[:2] == (400, 2997)


def test_the_book_has_pages_and_marks_own_rows(venue: Venue, client: Account) -> None:
    mine = venue.order(client, price="0.55")["id"]
    other = venue.client()
    rest = [venue.order(other, price=f"0.5{digit}")["id"] for digit in range(4)]

    def book(signer: Account | None = None, **query: Any) -> Any:
        answer = venue.call("GET", "/main/api/v2/hashpower/orderBook", signer, query={"algorithm": "SHA256ASICBOOST", **query})
        return answer["stats"]["BTC"]

    rows = book()["orders"]
    assert [row["id"] for row in rows] == [mine, *rest[::-1]]
    assert all("myOrder" not in row and "amount" not in row for row in rows)
    signed = book(client)["orders"]
    assert signed[0]["myOrder"] is True
    assert signed[0]["amount"] == "0.01"
    assert all("myOrder" not in row for row in signed[1:])
    page = book(size=2, page=1)
    assert [row["id"] for row in page["orders"]] == [rest[2], rest[1]]
    assert page["pagination"] == {"size": 2, "page": 1, "totalPageCount": 3}
    assert book(size=2, page=9)["orders"] == []
    assert venue.error("GET", "/main/api/v2/hashpower/orderBook")[:2] == (400, 2997)
    wrong = venue.error("GET", "/main/api/v2/hashpower/orderBook", client, query="algorithm=SHA256", signature="0" * 64)
    assert wrong[:2] == (401, 2000)


def test_quotes_follow_the_book(venue: Venue, client: Account) -> None:
    def quote(limit: str) -> Any:
        fields = {"algorithm": "SHA256ASICBOOST", "market": "EU", "limit": limit}
        return venue.call("POST", "/main/api/v2/hashpower/orders/fixedPrice", None, fields)

    price = "/main/api/v2/hashpower/order/price"
    venue.seller(30_000, 1_000)
    venue.seller(40_000, 1_000)
    assert quote("0.001") == {"fixedMax": "0.002", "fixedPrice": "0.3"}
    assert quote("0.002") == {"fixedMax": "0.002", "fixedPrice": "0.4"}
    venue.order(client, price="0.5", limit="0.002")
    assert quote("0.001")["fixedPrice"] == "0.50001"
    assert venue.call("GET", price, query={"market": "EU", "algorithm": "SHA256ASICBOOST"}) == {"price": "0.50001"}


def test_the_quoted_price_is_the_lowest_that_gets_the_limit(venue: Venue) -> None:
    rng = Random("quotes")
    accounts = [venue.stage.account(100) for _ in range(3)]
    for _ in range(60):
        account = rng.choice(accounts)
        if rng.random() < 0.5:
            venue.stage.do(PlaceAsk(account, MARKET, rng.randint(100, 140), rng.randint(100, 400)))
        else:
            limit = rng.choice((0, rng.randint(100, 400)))
            venue.stage.do(PlaceBid(account, MARKET, rng.randint(100, 140), limit, 10**9, "stratum+tcp://a.example:1", "u"))
        quoted = venue.service.catalog.find("SHA256")
        assert quoted is not None
        estimate = venue.engine.live.estimate
        for limit in (1, 100, rng.randint(1, 5_000)):
            price = price_for(quoted, limit)
            if price is None:
                assert estimate(quoted.market, quoted.market.price_max, limit) < limit
            else:
                assert estimate(quoted.market, price, limit) == limit
                assert price == quoted.market.price_min or estimate(quoted.market, price - 1, limit) < limit


def test_how_long_an_amount_lasts(venue: Venue) -> None:
    path = "/main/api/v2/hashpower/orders/calculateEstimateDuration"
    fields = {"type": "STANDARD", "price": "0.5", "limit": "0.1", "amount": "0.01", "decreaseFee": False, **FACTORS}
    assert venue.call("POST", path, None, fields) == {"estimateDurationInSeconds": 17_280}
    with_fees = {**fields, "algorithm": "SHA256ASICBOOST", "decreaseFee": True}
    # 0.00999 BTC at 0.0515 BTC a day
    assert venue.call("POST", path, None, with_fees) == {"estimateDurationInSeconds": 16_759}
    assert venue.call("POST", path, None, {**fields, "limit": "0.0001"})["estimateDurationInSeconds"] == 864_000
    assert venue.call("POST", path, None, {**fields, "limit": 0})["estimateDurationInSeconds"] == 0


# --- pools


def test_a_pool_from_making_to_forgetting(venue: Venue, client: Account) -> None:
    made = venue.pool(client)
    fields = {
        "id": made,
        "name": "renamed",
        "algorithm": "SHA256ASICBOOST",
        "stratumHostname": "stratum+tcp://other.example",
        "stratumPort": "4444",
        "username": "w",
        "password": "pw",
    }
    changed = venue.call("POST", "/main/api/v2/pool", client, fields)
    assert changed["id"] == made
    assert (changed["stratumHostname"], changed["stratumPort"]) == ("other.example", 4444)
    assert venue.call("GET", f"/main/api/v2/pool/{made}", client) == changed
    assert venue.call("GET", "/main/api/v2/pools/", client, query="algorithm=SCRYPT&size=5&page=0")["list"] == []
    assert venue.call("GET", "/main/api/v2/pools/", client)["list"] == [changed]
    assert venue.call("DELETE", f"/main/api/v2/pool/{made}", client)["success"] is True
    assert venue.error("GET", f"/main/api/v2/pool/{made}", client)[:2] == (404, 1306)
    assert venue.error("DELETE", f"/main/api/v2/pool/{made}", client)[:2] == (404, 1306)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"stratumPort": 0}, 2997),
        ({"stratumPort": "x"}, 2997),
        ({"stratumPort": 65_536}, 2997),
        ({"stratumHostname": ""}, 1601),
        ({"stratumHostname": "a b"}, 1601),
        ({"algorithm": "X11"}, 2997),
        ({"name": ""}, 1609),
        ({"id": "nonsense"}, 1306),
        ({"stratumPort": 1.5}, 60),
    ],
)
def test_a_pool_that_cannot_be(venue: Venue, client: Account, fields: dict[str, Any], code: int) -> None:
    usual = {
        "name": "p",
        "algorithm": "SCRYPT",
        "stratumHostname": "a.example",
        "stratumPort": 1,
        "username": "u",
        "password": "x",
    }
    assert venue.error("POST", "/main/api/v2/pool/", client, {**usual, **fields})[1] == code


def test_an_order_keeps_where_it_was_pointed(venue: Venue, client: Account) -> None:
    pool = venue.pool(client)
    order = venue.order(client, pool_id=pool)
    assert order["pool"]["id"] == pool
    venue.call("DELETE", f"/main/api/v2/pool/{pool}", client)
    seen = venue.call("GET", f"{ORDER}/{order['id']}", client)["pool"]
    assert "id" not in seen
    assert (seen["stratumHostname"], seen["stratumPort"], seen["username"]) == ("pool.example", 3333, "bc1q.worker")
