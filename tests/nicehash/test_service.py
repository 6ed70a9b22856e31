"""What every request passes: repeats, queries, what is durable, an exchange that stops or is full, and bugs."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.exchange import Taking
from gateway.nicehash import hashpower
from gateway.nicehash.calls import Param, Reply, Request
from gateway.nicehash.problems import Problem
from gateway.nicehash.routes import ROUTES
from gateway.nicehash.service import QUERY_CHARS_MAX, QUERY_FIELDS_MAX, Repeats, parse_query
from tests.nicehash.venue import FACTORS, Account, Venue

ORDER = "/main/api/v2/hashpower/order"


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


@pytest.fixture
def client(venue: Venue) -> Account:
    return venue.client()


# --- durable first


def test_nothing_is_answered_before_it_is_durable(venue: Venue, client: Account) -> None:
    pool = venue.pool(client)
    venue.stage.sequencer.held = True
    usual = {"algorithm": "SHA256ASICBOOST", "price": "0.5", "limit": "0.001", "amount": "0.01", "poolId": pool, **FACTORS}
    placed = venue.start("POST", ORDER, client, usual)
    balance = venue.start("GET", "/main/api/v2/accounting/account2/BTC", client)
    book = venue.start("GET", f"{ORDER}Book", query="algorithm=SHA256")
    mine = venue.start("GET", "/main/api/v2/hashpower/myOrders", client)
    stats = venue.start("GET", "/main/api/v2/public/stats/global/current")
    time = venue.start("GET", "/api/v2/time")
    assert not any((placed, balance, book, mine, stats))
    assert time, "it tells nothing of the engine"
    venue.stage.sequencer.commit()
    order = json.loads(placed[0].body)
    assert json.loads(balance[0].body)["available"] == "0.99"
    assert json.loads(book[0].body)["stats"]["BTC"]["orders"][0]["id"] == order["id"]
    assert json.loads(mine[0].body)["list"][0]["id"] == order["id"]
    assert json.loads(stats[0].body)["algos"][0]["o"] == 1


def test_an_answer_does_not_tell_of_what_came_later_before_that_is_durable(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.stage.sequencer.held = True
    edited = venue.start("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit", client, {"price": "0.6", **FACTORS})
    canceled = venue.start("DELETE", f"{ORDER}/{order['id']}", client)
    venue.stage.sequencer.commit(1)
    assert not edited, "the order is canceled in memory, and that is not durable"
    venue.stage.sequencer.commit()
    assert json.loads(edited[0].body)["price"] == "0.6"
    assert json.loads(canceled[0].body)["status"]["code"] == "CANCELLED"


def test_a_full_exchange(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.stage.sequencer.queue_max = 0
    assert venue.error("DELETE", f"{ORDER}/{order['id']}", client)[:2] == (503, 503)


def test_an_exchange_that_stops(venue: Venue, client: Account) -> None:
    order, pool = venue.order(client), venue.pool(client)
    venue.stage.exchange.taking = Taking.CANCELS
    refill = ("POST", f"{ORDER}/{order['id']}/refill", client, {"amount": "0.01"})
    assert venue.error(*refill)[:2] == (503, 503)
    assert venue.error("DELETE", f"/main/api/v2/pool/{pool}", client)[:2] == (503, 503)
    flags = venue.call("GET", "/api/v2/system/flags")["list"]
    assert {"flagName": "IS_MAINTENANCE", "flagValue": True} in flags
    venue.call("DELETE", f"{ORDER}/{order['id']}", client)
    venue.stage.exchange.taking = Taking.NONE
    assert venue.error("DELETE", f"{ORDER}/{order['id']}", client)[:2] == (503, 503)
    venue.stage.sequencer.stopped = True
    assert venue.error("GET", "/main/api/v2/pools", client)[:2] == (503, 503)


# --- repeats


def test_a_change_that_is_sent_again_is_answered_again(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    edit = ("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit/", client, {"price": "0.6", **FACTORS})
    first = venue.ask(*edit, request_id="r")
    assert venue.ask(*edit, request_id="r") == first, "and not refused by the lock"
    assert venue.error(*edit[:3], {"price": "0.7", **FACTORS})[1] == 5110


def test_a_change_that_is_sent_again_before_it_is_answered(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.stage.sequencer.held = True
    asked = [venue.start("DELETE", f"{ORDER}/{order['id']}", client, request_id="r") for _ in range(2)]
    venue.stage.sequencer.commit()
    assert asked[0] == asked[1]
    assert asked[0][0].status == 200


def test_a_refusal_that_is_sent_again_is_the_same_refusal(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    edit = ("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit/", client, {"price": "0.499", **FACTORS})
    first = venue.ask(*edit, request_id="r")
    assert first[0] == 400
    venue.wait(300)
    assert venue.ask(*edit, request_id="r") == first


def test_what_was_not_executed_is_not_remembered(venue: Venue, client: Account) -> None:
    order = venue.order(client)
    venue.stage.sequencer.queue_max = 0
    cancel = ("DELETE", f"{ORDER}/{order['id']}", client)
    assert venue.error(*cancel, request_id="r")[0] == 503
    venue.stage.sequencer.queue_max = 10
    assert venue.call(*cancel, request_id="r")["status"]["code"] == "CANCELLED"


def test_a_request_id_is_one_requests(venue: Venue, client: Account) -> None:
    order, other = venue.order(client), venue.client()
    venue.call("DELETE", f"{ORDER}/{order['id']}", client, request_id="r")
    status, code, text = venue.error("DELETE", f"{ORDER}/{venue.order(client)['id']}", client, request_id="r")
    assert (status, code) == (400, 2997)
    assert "X-Request-Id" in text
    venue.call("DELETE", f"{ORDER}/{venue.order(other)['id']}", other, request_id="r")


def asked(request_id: str) -> Request:
    return Request("POST", "/p", "", {"x-request-id": request_id}, b"", "10.0.0.1", "u")


@pytest.mark.parametrize("request_id", ["x" * 37, "a b", "\u00e9"])
def test_a_request_id_that_is_none(venue: Venue, client: Account, request_id: str) -> None:
    order = venue.order(client)
    for method, path in (("DELETE", f"{ORDER}/{order['id']}"), ("POST", f"{ORDER}/{order['id']}/refill")):
        status, code, text = venue.error(method, path, client, {"amount": "0.001"}, request_id=request_id)
        assert (status, code) == (400, 1005)
        assert text.startswith("X-Request-Id: ")
    assert len(venue.service.repeats) == 0


def test_repeats_are_bounded_in_number_and_time() -> None:
    repeats = Repeats(remembered_max=3, remembered_ns=100)
    told: list[Reply] = []
    for number in range(5):
        answer = repeats.enter("key", asked(str(number)), number, told.append)
        assert answer is not None
        answer(Reply(200, b"{}"))
        assert len(repeats) <= 3
    assert repeats.enter("key", asked("4"), 104, told.append) is None
    assert repeats.enter("key", asked("0"), 104, told.append) is not None, "forgotten: three are remembered"
    assert repeats.enter("key", asked("4"), 105, told.append) is not None, "forgotten: it is too old"
    assert len(told) == 6


def test_a_repeat_that_was_forgotten_meanwhile_is_still_answered() -> None:
    repeats = Repeats(remembered_max=1)
    told: list[Reply] = []
    first = repeats.enter("key", asked("a"), 0, told.append)
    assert repeats.enter("key", asked("a"), 0, told.append) is None
    second = repeats.enter("key", asked("b"), 0, told.append)
    assert first is not None
    assert second is not None
    first(Reply(503, b""))
    assert len(told) == 2
    assert repeats.enter("key", asked("b"), 0, told.append) is None, "the other one's end took nothing away"


# --- queries


PARAMS = (Param("text"), Param("many", "int", 5, 10, 1), Param("on", "flag", False), Param("must", required=True))


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("must=x", {"text": "", "many": 5, "on": False, "must": "x"}),
        ("must=x&text=None&many=&on=None", {"text": "", "many": 5, "on": False, "must": "x"}),
        ("on=True&many=10&must=a%20b&text=%C3%A4&other=1", {"text": "ä", "many": 10, "on": True, "must": "a b"}),
        ("must=1&must=2&on=0", {"text": "", "many": 5, "on": False, "must": "2"}),
    ],
)
def test_a_query(query: str, found: dict[str, Any]) -> None:
    assert parse_query(query, PARAMS) == found


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "must: the parameter is missing"),
        ("must=", "must: the parameter is missing"),
        ("must=1&many=0", "many: a whole number from 1 to 10"),
        ("must=1&many=11", "many"),
        ("must=1&many=1.5", "many"),
        ("must=1&many=-1", "many"),
        ("must=1&on=maybe", "on: true or false"),
        ("must=" + "x" * QUERY_CHARS_MAX, "at most 2048 characters"),
        ("must=1" + "&a=1" * QUERY_FIELDS_MAX, "at most 32 parameters"),
    ],
)
def test_a_query_that_cannot_be(query: str, says: str) -> None:
    with pytest.raises(Problem, match=says) as refused:
        parse_query(query, PARAMS)
    assert (refused.value.status, refused.value.code) == (400, 2997)


# --- anything at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.decimals().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GOOD: dict[str, Any] = {
    "algorithm": "SHA256ASICBOOST",
    "market": "EU",
    "type": "STANDARD",
    "price": "0.5",
    "limit": "0.001",
    "amount": "0.005",
    "name": "p",
    "stratumHostname": "a.example",
    "stratumPort": 1,
    "username": "u",
    "miningAlgorithm": "SCRYPT",
    "stratumHost": "a.example",
    "password": "x",
    "decreaseFee": True,
    **FACTORS,
}


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_and_no_query_is_a_bug(venue: Venue, data: st.DataObject) -> None:
    client = venue.client()
    route = data.draw(st.sampled_from(ROUTES))
    order, pool = venue.order(client)["id"], venue.pool(client)
    names = st.sampled_from([order, pool, "x" * 60, "00000001-0000-8fff-8000-ffffffffffff"])
    path = route.path.replace("{id}", data.draw(names)).replace("{currency}", data.draw(st.sampled_from(["BTC", "LTC"])))
    body: dict[str, Any] | None = None
    if route.body is not None:
        body = {**GOOD, "poolId": pool}
        for name in data.draw(st.lists(st.sampled_from([*GOOD, "poolId", "id", "peg", "pegOffset", "pegFloor"]), max_size=3)):
            body[name] = data.draw(JSON)
    query = {param.name: data.draw(st.text(max_size=8) | st.integers().map(str)) for param in route.query}
    venue.stage.now_ns += 10**10
    status, answer = venue.ask(route.method, path, client, body, query=query)
    assert status in (200, 400, 404), (route.path, body, query, status, answer)


# --- bugs


def test_a_bug_costs_one_request_and_tells_nothing(venue: Venue, client: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the house")

    order = venue.order(client)
    path = f"{ORDER}/{order['id']}"
    with monkeypatch.context() as patch:
        patch.setattr(hashpower, "view_of", broken)
        assert venue.error("GET", path, client) == (500, 2999, "Generic Server Error")
        venue.stage.sequencer.held = True
        refill = venue.start("POST", f"{path}/refill", client, {"amount": "0.01"})
        venue.stage.sequencer.commit()
        assert refill[0].status == 500, "behind the commit: the sequencer hears nothing of it"
        venue.stage.sequencer.held = False
    assert venue.call("GET", path, client)["amount"] == "0.02"
