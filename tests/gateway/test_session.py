"""One client's session over a fake link, on the real engine: who may do what, what is answered, and when."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.commands import Deposit, ListMarket, Place, Tick
from engine.limits import SECOND_NS
from engine.types import OrderType, Side, TimeInForce
from gateway import methods, wire
from gateway.auth import KEYS_FILE, KeyStore
from gateway.codec import CODECS, JSON, MSGPACK, Codec
from gateway.config import Bucket as Rate
from gateway.config import Config, RateConfig, ServerConfig, SessionConfig
from gateway.exchange import KEYS_CHECK_NS, Taking
from gateway.methods import METHODS
from gateway.outbox import BACKLOG_BYTES_MAX
from gateway.ratelimit import PROTOCOL_ERRORS, REFUSALS, Limiter
from gateway.scale import MONEY
from gateway.session import TRANSITIONS, State, Step
from gateway.wire import BATCH_MAX, Close, ErrorCode
from tests.gateway.link import BTC_MSAT, EPOCH, MARKET, START_NS, Link, Refused, Stage

BOOK = f"book.{MARKET}"
TRADES = f"trades.{MARKET}"
MS = 1_000_000
PERMISSIONS: list[wire.Permission] = ["read", "trade", "quote", "withdraw", "meter", "admin"]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def refusal(link: Link, method: str, **params: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        link.call(method, **params)
    return caught.value


def small(tmp_path: Path, **rates: tuple[int, int]) -> Stage:
    """A stage with small budgets, as ``name=(per_second, burst)``."""
    given_rates = {name: Rate(*rate) for name, rate in rates.items()}
    return Stage(tmp_path, Config(rates=RateConfig(**given_rates)))


# ------------------------------------------------------------------------------------------------------------------ state


def test_the_transition_table() -> None:
    assert {(state, step) for state, step in TRANSITIONS if state is State.CLOSED} == set(), "closed is final"
    assert TRANSITIONS[State.CONNECTED, Step.LOGIN] is State.AUTHENTICATED
    assert TRANSITIONS[State.AUTHENTICATED, Step.LOGOUT] is State.CONNECTED
    for state in (State.CONNECTED, State.AUTHENTICATED):
        assert TRANSITIONS[state, Step.CLOSE] is State.CLOSED
    assert len(TRANSITIONS) == 4


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_hello_comes_first(stage: Stage, codec: Codec) -> None:
    hello = stage.link(codec=codec).hello
    assert hello["epoch"] == EPOCH
    assert len(hello["challenge"]) == 64
    assert hello["ts_us"] == START_NS // 1_000
    assert hello["frame_bytes_max"] == wire.FRAME_BYTES_MAX
    assert (hello["heartbeat_ms"], hello["idle_ms"]) == (5_000, 60_000)


def test_a_closed_session_hears_and_says_nothing(stage: Stage) -> None:
    link = stage.trader()
    number = link.start("subscribe", channels=[BOOK, "account"])
    link.answer(number)
    link.received.clear()
    link.session.close(Close.IDLE, "enough")
    link.session.close(Close.FLOOD, "again")
    link.session.closed()
    link.put(b'{"jsonrpc":"2.0","id":1,"method":"time"}')
    link.session.tick(START_NS + 3_600 * SECOND_NS)
    link.session.send(b"{}")
    stage.trader().place("buy", "1", "0.0005")
    assert link.closed == (Close.IDLE, "enough")
    assert not link.received
    assert link.session not in stage.exchange.sessions
    assert stage.feeds.last_seqs(link.session) == {}


# ------------------------------------------------------------------------------------------------------------------ login


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("kind", ["ed25519", "hmac"])
def test_login(stage: Stage, codec: Codec, kind: str) -> None:
    account = stage.account()
    key = stage.key(account, "read", "trade", kind=kind)
    link = stage.link(codec=codec)
    assert link.login(key) == {"account": account, "key": key.key_id, "permissions": ["read", "trade"]}
    assert link.session.state is State.AUTHENTICATED
    assert link.call("balances")["account"] == account


def test_every_wrong_login_gets_the_same_answer(stage: Stage) -> None:
    """Unknown key, wrong signature, wrong challenge, wrong kind: nothing tells them apart but the next challenge."""
    key, hmac_key = stage.key(stage.account(), "read"), stage.key(stage.account(), "read", kind="hmac")
    link = stage.link()
    answers = []
    for name in ("unknown", "signature", "challenge", "kind"):
        right = key.login(link.challenge, stage.now_ns // 1_000)
        wrong = {
            "unknown": {**right, "key": "k-" + "0" * 16},
            "signature": {**right, "signature": "0" * 128},
            "challenge": key.login("0" * 64, stage.now_ns // 1_000),
            "kind": {**right, "signature": hmac_key.login(link.challenge, stage.now_ns // 1_000)["signature"]},
        }[name]
        answer = link.ask("login", **wrong)
        assert answer["error"]["data"].pop("challenge") == link.challenge
        answers.append(answer["error"])
    assert answers == [answers[0]] * 4
    assert answers[0]["code"] == ErrorCode.LOGIN_FAILED
    assert answers[0]["data"] == {"reason": "login_failed"}
    link.login(key)


def test_a_challenge_is_good_for_one_attempt(stage: Stage) -> None:
    key = stage.key(stage.account(), "read")
    link = stage.link()
    first = link.challenge
    params = key.login(first, stage.now_ns // 1_000)
    refusal(link, "login", **{**params, "signature": "0" * 128})
    assert refusal(link, "login", **params).data["reason"] == "login_failed"
    link.login(key)
    used = key.login(link.challenge, stage.now_ns // 1_000)
    link.call("logout")
    assert used["signature"] == key.login(link.challenge, stage.now_ns // 1_000)["signature"], "not used yet"
    link.login(key)
    link.call("logout")
    assert refusal(link, "login", **used).code == ErrorCode.LOGIN_FAILED
    other = stage.link()
    assert refusal(other, "login", **key.login(link.challenge, stage.now_ns // 1_000)).code == ErrorCode.LOGIN_FAILED


@pytest.mark.parametrize(("offset_us", "works"), [(10**7, True), (-(10**7), True), (10**7 + 1, False), (-(10**7) - 1, False)])
def test_the_timestamp_has_a_window(stage: Stage, offset_us: int, works: bool) -> None:
    key = stage.key(stage.account(), "read")
    link = stage.link()
    params = key.login(link.challenge, stage.now_ns // 1_000 + offset_us)
    if works:
        link.call("login", **params)
    else:
        refused = refusal(link, "login", **params)
        assert (refused.code, refused.data["reason"]) == (ErrorCode.LOGIN_FAILED, "timestamp_outside_window")
        assert refused.data["field"] == "params.timestamp_us"
        assert refused.data["challenge"] == link.challenge != params["timestamp_us"]


def test_a_key_with_an_address_list(stage: Stage) -> None:
    key = stage.key(stage.account(), "read", ip_list=["192.0.2.0/24"])
    elsewhere = stage.link(ip="192.0.3.1")
    refused = refusal(elsewhere, "login", **key.login(elsewhere.challenge, stage.now_ns // 1_000))
    assert (refused.code, refused.data["reason"]) == (ErrorCode.LOGIN_FAILED, "ip_not_allowed")
    stage.link(ip="192.0.2.9").login(key)


def test_a_key_of_an_account_that_does_not_exist(stage: Stage) -> None:
    key = stage.key(4_711, "read")
    link = stage.link()
    refused = refusal(link, "login", **key.login(link.challenge, stage.now_ns // 1_000))
    assert (refused.code, refused.data["reason"]) == (ErrorCode.LOGIN_FAILED, "account_unknown")


def test_no_second_login_without_logout(stage: Stage) -> None:
    link = stage.trader()
    other = stage.key(stage.account(), "read")
    refused = refusal(link, "login", **other.login(link.challenge, stage.now_ns // 1_000))
    assert (refused.code, refused.data["reason"]) == (ErrorCode.INVALID_REQUEST, "logged_in")
    mine = link.session.account
    out = link.call("logout")
    assert out == {"account": mine, "challenge": link.session.challenge}
    assert refusal(link, "balances").code == ErrorCode.LOGIN_REQUIRED
    link.login(other)
    assert link.call("balances")["account"] == other.account


def test_logins_are_throttled_by_address(tmp_path: Path) -> None:
    config = Config()
    stage = Stage(tmp_path, config, Limiter(config.rates, ip_logins=Rate(1, 2)))
    key = stage.key(stage.account(), "read")
    for ip in ("10.0.0.1", "10.0.0.2"):
        link = stage.link(ip=ip)
        for _ in range(2):
            refusal(link, "login", **{**key.login(link.challenge, stage.now_ns // 1_000), "key": f"k-{ip}"})
        challenge = link.challenge
        refused = refusal(link, "login", **key.login(challenge, stage.now_ns // 1_000))
        assert (refused.code, refused.data["field"], refused.data["retry_after_ms"]) == (
            ErrorCode.RATE_LIMITED,
            "logins",
            1_000,
        )
        assert refused.data["challenge"] == link.challenge == challenge, "a throttled attempt uses up nothing"
    stage.wait(1)
    link.login(key)


def test_logins_are_throttled_by_key_and_address(tmp_path: Path) -> None:
    config = Config()
    stage = Stage(tmp_path, config, Limiter(config.rates, key_failures=Rate(1, 2)))
    key = stage.key(stage.account(), "read")
    for guess in (key.key_id, "k-unknown"):
        for _ in range(2):
            link = stage.link(ip="10.0.1.1")
            wrong = {**key.login(link.challenge, stage.now_ns // 1_000), "key": guess, "signature": "0" * 128}
            assert refusal(link, "login", **wrong).code == ErrorCode.LOGIN_FAILED
        link = stage.link(ip="10.0.1.1")
        right = {**key.login(link.challenge, stage.now_ns // 1_000), "key": guess}
        refused = refusal(link, "login", **right)
        assert (refused.code, refused.data["retry_after_ms"]) == (ErrorCode.RATE_LIMITED, 1_000)
    stage.link(ip="10.0.3.1").login(key)  # whoever fails on purpose cannot lock out the owner
    stage.wait(1)
    stage.link(ip="10.0.1.1").login(key)


def test_secrets_never_reach_the_log(stage: Stage) -> None:
    with structlog.testing.capture_logs() as lines:
        account = stage.account()
        operator = stage.operator()
        made = operator.call("add_key", account=account, permissions=["read"], kind="hmac")
        link = stage.link()
        key = stage.key(account, "read")
        wrong = {**key.login(link.challenge, stage.now_ns // 1_000), "key": "k-x\nforged line"}
        refusal(link, "login", **wrong)
        link.login(key)
        operator.call("revoke_key", key=key.key_id)
    text = json.dumps(lines)
    assert made["secret"] not in text
    assert wrong["signature"] not in text
    for words in ("login failed", "login", "key added", "session closed"):
        assert any(line["event"] == words for line in lines), words


# ------------------------------------------------------------------------------------------------------------- permission

GROUPS: list[tuple[set[str], list[str]]] = [
    (set(), ["time", "info", "markets", "book", "trades", "heartbeat", "login", "logout"]),
    (set(), ["subscribe", "unsubscribe", "resync", "live.book", "live.estimate"]),
    ({"read"}, ["order", "orders", "balances", "positions", "fills", "resume", "live.orders", "pools"]),
    ({"read", "meter"}, ["deliveries", "live.flows"]),
    ({"trade", "quote"}, ["place", "amend", "cancel", "cancel_all"]),
    ({"trade"}, ["set_destination", "pool.save", "pool.delete"]),
    ({"trade"}, ["live.place_bid", "live.place_ask", "live.amend_bid", "live.amend_ask", "live.refill"]),
    ({"withdraw"}, ["withdraw"]),
    ({"meter"}, ["report_work", "report_flow"]),
    ({"admin"}, ["create_account", "deposit", "list_market", "set_market_state", "settle", "account_cancel_all"]),
    ({"admin"}, ["keys", "add_key", "revoke_key", "list_live_market", "set_index"]),
]
NEEDS = {method: needed for needed, names in GROUPS for method in names}
LOGIN_NEEDED = {method for method, needed in NEEDS.items() if needed} | {"logout"}


def test_the_table_names_every_method() -> None:
    assert NEEDS.keys() == METHODS.keys()


@pytest.mark.parametrize("permission", [None, *PERMISSIONS])
def test_permissions(stage: Stage, permission: wire.Permission | None) -> None:
    """Every method with every permission: refused before its parameters are even looked at, or let through to them."""
    key = stage.key(stage.account(), permission) if permission is not None else None
    for method, needed in NEEDS.items():
        error = stage.link(key).ask(method, nonsense=1)["error"]
        if key is None and method in LOGIN_NEEDED:
            assert error["code"] == ErrorCode.LOGIN_REQUIRED, method
        elif needed and permission not in needed:
            assert error["code"] == ErrorCode.PERMISSION, method
            assert " or ".join(sorted(needed)) in error["message"]
        else:
            assert (error["code"], error["data"]["field"]) == (ErrorCode.INVALID_PARAMS, "params.nonsense"), method


def test_the_account_channel_takes_the_permission_to_read(stage: Stage) -> None:
    account = stage.account()
    assert refusal(stage.link(), "subscribe", channels=["account"]).code == ErrorCode.LOGIN_REQUIRED
    trader = stage.link(stage.key(account, "trade"))
    assert refusal(trader, "subscribe", channels=["account"]).code == ErrorCode.PERMISSION
    trader.call("subscribe", channels=[BOOK])


def test_a_key_that_quotes_never_takes(stage: Stage) -> None:
    trader = stage.trader()
    quoter = stage.link(stage.key(trader.session.account, "read", "quote"))
    order = {"market": MARKET, "side": "buy", "qty": "1", "price": "0.0005"}
    refused = refusal(quoter, "place", **order)
    assert (refused.code, refused.data["field"]) == (ErrorCode.PERMISSION, "params.post_only")
    resting = trader.place("buy", "1", "0.0005")["order_id"]
    assert refusal(quoter, "amend", order_id=resting, price="0.0006").code == ErrorCode.PERMISSION
    quote = quoter.call("place", **order, post_only="reject")
    assert quoter.call("amend", order_id=quote["order_id"], price="0.0004")["status"] == "open"
    assert quoter.call("cancel_all")["canceled"] == [resting, quote["order_id"]]


def test_an_account_sees_only_its_own(stage: Stage) -> None:
    mine, other = stage.trader(), stage.trader()
    order = mine.place("buy", "1", "0.0005", client_order_id="a")
    order_id = order["order_id"]
    assert refusal(other, "order", order_id=order_id).code == ErrorCode.NOT_FOUND
    assert refusal(other, "order", client_order_id="a").code == ErrorCode.NOT_FOUND
    for method in ("cancel", "amend"):
        more = {"qty": "2"} if method == "amend" else {}
        assert refusal(other, method, order_id=order_id, **more).data["reason"] == "order_unknown"
    assert other.call("cancel_all") == {"canceled": []}
    assert other.call("orders") == []
    mine.call("cancel", order_id=order_id)
    refused = refusal(other, "cancel", order_id=order_id)
    assert "order" not in refused.data
    assert other.call("orders", state="closed") == []


# ------------------------------------------------------------------------------------------------------------- durability


def test_a_read_of_money_is_of_one_moment(stage: Stage) -> None:
    """Found by simulation: between the gate and its commit, money in deliveries that were not durable yet was in no answer."""
    seller, buyer = stage.trader(), stage.trader()
    seller.call("place", market=MARKET, side="sell", qty="1", price="0.0005")
    buyer.call("place", market=MARKET, side="buy", qty="1", price="0.0005")
    before = seller.call("balances")
    assert float(before["positions"])

    stage.sequencer.held = True
    stage.wait(35 * 3_600, ticks=False)
    stage.sequencer.submit(Tick())
    assert stage.engine.deliveries
    asked, listed = seller.start("balances"), seller.start("deliveries")
    stage.sequencer.commit()
    assert seller.answer(asked)["result"] == before
    assert [view["role"] for view in seller.answer(listed)["result"]] == ["seller"]


def test_nothing_leaves_before_it_is_durable(stage: Stage) -> None:
    maker, taker, watcher = stage.trader(), stage.trader(), stage.link()
    maker.call("subscribe", channels=["account"])
    watcher.call("subscribe", channels=[BOOK, TRADES, "status"])
    for link in (maker, taker, watcher):
        link.received.clear()

    stage.sequencer.held = True
    rest = maker.start("place", market=MARKET, side="sell", qty="1", price="0.0005")
    take = taker.start("place", market=MARKET, side="buy", qty="1", price="0.0005")
    reads = [
        (maker, maker.start("balances")),
        (maker, maker.start("positions")),
        (maker, maker.start("fills")),
        (maker, maker.start("orders")),
        (maker, maker.start("orders", state="closed")),
        (watcher, watcher.start("book", market=MARKET)),
        (watcher, watcher.start("trades", market=MARKET)),
    ]
    assert not maker.received
    assert not taker.received
    assert not watcher.received

    stage.sequencer.commit(1)
    assert maker.answer(rest)["result"]["status"] == "open"
    assert [message["data"]["event"] for message in maker.messages("account")] == ["accepted"]
    assert watcher.messages(BOOK)[0]["data"]["asks"] == [["0.00050000", "1.000"]]
    assert not watcher.received
    assert not maker.received
    assert not taker.received

    stage.sequencer.commit()
    assert taker.answer(take)["result"]["status"] == "filled"
    assert [message["data"]["event"] for message in maker.messages("account")] == ["fill"]
    assert watcher.messages(BOOK)[0]["data"]["asks"] == [["0.00050000", "0.000"]]
    answers = [link.answer(number)["result"] for link, number in reads]
    assert answers[1][0]["qty"] == "-1.000"
    assert answers[2][0]["liquidity"] == "maker"
    assert answers[3] == []
    assert answers[4][0]["status"] == "filled"
    assert answers[5] == {"bids": [], "asks": [], "checksum": 0}
    assert answers[6][0]["price"] == "0.00050000"


def test_a_read_tells_the_state_at_the_call(stage: Stage) -> None:
    """What is applied after the read, and durable before the answer is made, is not in it; nor is what is not durable."""
    link = stage.trader()
    stage.sequencer.held = True
    link.start("place", market=MARKET, side="buy", qty="1", price="0.0005")
    read = link.start("orders")
    link.start("place", market=MARKET, side="buy", qty="2", price="0.0005")
    stage.sequencer.commit(1)
    assert [order["qty"] for order in link.answer(read)["result"]] == ["1.000"]


def test_an_order_is_found_at_every_moment(stage: Stage) -> None:
    """Open, closed and not durable yet, closed: never "no such order"."""
    link = stage.trader()
    order_id = link.place("buy", "1", "0.0005", client_order_id="a")["order_id"]
    assert link.call("order", order_id=order_id)["status"] == "open"
    stage.sequencer.held = True
    link.start("cancel", order_id=order_id)
    by_id, by_name = link.start("order", order_id=order_id), link.start("order", client_order_id="a")
    stage.sequencer.commit()
    views = [link.answer(number)["result"] for number in (by_id, by_name)]
    assert views[0] == views[1]
    assert (views[0]["status"], views[0]["remaining_qty"]) == ("canceled", "0.000")


def test_answers_after_the_socket_is_gone_go_nowhere(stage: Stage) -> None:
    link = stage.trader()
    link.received.clear()
    stage.sequencer.held = True
    link.start("place", market=MARKET, side="buy", qty="1", price="0.0005")
    link.start("balances")
    link.session.closed()
    stage.sequencer.commit()
    assert not link.received


# ----------------------------------------------------------------------------------------------------------------- orders


def test_place_answers_with_what_became_of_the_order(stage: Stage) -> None:
    maker, taker = stage.trader(), stage.trader()
    resting = maker.place("sell", "1.5", "0.0005", client_order_id="rest-1")
    assert resting == {
        "order_id": resting["order_id"],
        "client_order_id": "rest-1",
        "market": MARKET,
        "status": "open",
        "price": "0.00050000",
        "qty": "1.500",
        "filled_qty": "0.000",
        "remaining_qty": "1.500",
        "ts_us": START_NS // 1_000,
        "repeat": False,
        "fills": [],
    }
    filled = taker.place("buy", "0.5", "0.0006")
    assert (filled["status"], filled["filled_qty"], filled["remaining_qty"]) == ("filled", "0.500", "0.000")
    (fill,) = filled["fills"]
    assert (fill["price"], fill["qty"], fill["liquidity"], fill["side"]) == ("0.00050000", "0.500", "taker", "buy")
    assert fill["order_id"] == filled["order_id"]

    partly = taker.place("buy", "3", "0.0006", time_in_force="ioc")
    assert (partly["status"], partly["filled_qty"], partly["remaining_qty"]) == ("canceled", "1.000", "0.000")
    assert len(partly["fills"]) == 1
    none = taker.call("place", market=MARKET, side="buy", qty="1", type="market")
    assert (none["status"], none["fills"]) == ("canceled", [])


def test_filled_is_told_from_canceled_where_the_order_shrank(stage: Stage) -> None:
    """Self-trade prevention took half of it, a trade the rest: filled, though less than its quantity was."""
    link, other = stage.trader(), stage.trader()
    link.place("sell", "1", "0.0005")
    other.place("sell", "1", "0.0005")
    result = link.place("buy", "2", "0.0005", self_trade_prevention="decrement")
    assert (result["status"], result["filled_qty"], result["remaining_qty"]) == ("filled", "1.000", "0.000")
    assert link.call("order", order_id=result["order_id"])["status"] == "filled"


def test_a_place_is_told_from_due_work_before_it(stage: Stage) -> None:
    """The entry's events begin with the expiry of the caller's own order in the same market."""
    link = stage.trader()
    expires_us = stage.now_ns // 1_000 + 10**6
    old = link.place("buy", "1", "0.0004", time_in_force="gtd", expires_us=expires_us)
    stage.wait(2, ticks=False)
    placed = link.place("buy", "2", "0.0005")
    assert placed["order_id"] == stage.sequencer.submitted[-1].seq != old["order_id"]
    assert (placed["status"], placed["qty"]) == ("open", "2.000")
    assert link.call("order", order_id=old["order_id"])["status"] == "expired"


def test_other_commands_are_told_from_due_work_before_them(stage: Stage) -> None:
    link = stage.trader()

    def due_next() -> int:
        expires_us = stage.now_ns // 1_000 + 10**6
        order_id: int = link.place("buy", "0.1", "0.0004", time_in_force="gtd", expires_us=expires_us)["order_id"]
        return order_id

    order_id = link.place("buy", "1", "0.0004")["order_id"]
    expired = due_next()
    stage.wait(2, ticks=False)
    assert link.call("amend", order_id=order_id, qty="0.5")["order_id"] == order_id
    due_next()
    stage.wait(2, ticks=False)
    assert link.call("cancel", order_id=order_id)["order_id"] == order_id
    open_id = link.place("buy", "1", "0.0004")["order_id"]
    due_next()
    stage.wait(2, ticks=False)
    assert link.call("cancel_all") == {"canceled": [open_id]}
    due_next()
    stage.wait(2, ticks=False)
    assert link.call("withdraw", amount="0.1", transfer_id="w")["amount"] == "-0.10000000000"
    gone = due_next()
    stage.wait(2, ticks=False)
    refused = refusal(link, "cancel", order_id=gone)
    assert (refused.data["reason"], refused.data["order"]["status"]) == ("order_unknown", "expired")
    assert link.call("order", order_id=expired)["status"] == "expired"
    for _ in range(2):
        due_next()
    stage.wait(2, ticks=False)
    assert refusal(link, "place", market=MARKET, side="buy", qty="1", price="0.9").data["reason"] == "funds_insufficient"


GOOD = {"market": MARKET, "side": "buy", "qty": "1", "price": "0.0005"}
WRONG = [
    ({"price": None}, "params.price: required for a limit order"),
    ({"price": "0.000500001"}, "params.price: at most 8 decimals (step 0.00000001)"),
    ({"price": "-1"}, 'params.price: expected a plain decimal such as "1.5"'),
    ({"price": "1e-4"}, 'params.price: expected a plain decimal such as "1.5"'),
    ({"price": "0,5"}, 'params.price: expected a plain decimal such as "1.5"'),
    ({"price": "NaN"}, 'params.price: expected a plain decimal such as "1.5"'),
    ({"price": " 1"}, 'params.price: expected a plain decimal such as "1.5"'),
    ({"price": "\u0661"}, 'params.price: expected a plain decimal such as "1.5"'),
    ({"price": "1" * 25}, "params.price: at most 24 digits"),
    ({"price": "9" * 20}, "params.price: at most 92233720368.54775807"),
    ({"qty": "0.0001"}, "params.qty: at most 3 decimals (step 0.001)"),
    ({"qty": "9" * 24}, "params.qty: at most 9223372036854775.807"),
    ({"qty": "."}, 'params.qty: expected a plain decimal such as "1.5"'),
    ({"qty": "1."}, 'params.qty: expected a plain decimal such as "1.5"'),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_numbers_that_are_no_ticks_or_lots(stage: Stage, changes: dict[str, Any], message: str) -> None:
    link = stage.trader()
    before = stage.engine.seq
    refused = refusal(link, "place", **{**GOOD, **changes})
    assert (refused.code, refused.message) == (ErrorCode.INVALID_PARAMS, message)
    assert refused.data == {"reason": "invalid_params", "field": message.partition(":")[0]}
    assert stage.engine.seq == before, "denied: the engine never saw it"


REJECTED = [
    ({"price": "0"}, 1205, "params.price", "0.00000001"),
    ({"price": "2"}, 1206, "params.price", "1.00000000"),
    ({"qty": "0"}, 1207, "params.qty", "0.001"),
    ({"type": "market"}, 1204, "params.price", ""),
    ({"type": "market", "price": None, "time_in_force": "gtc"}, 1201, "params.time_in_force", ""),
    ({"time_in_force": "ioc", "post_only": "reject"}, 1202, "params.post_only", ""),
    ({"time_in_force": "gtd"}, 1203, "params.expires_us", str(400 * 86_400 * 10**6)),
    ({"qty": "10000"}, 1405, "params.qty", "1.00000000000"),
    ({"time_in_force": "fok"}, 1406, "params.qty", "0.000"),
    ({"reduce_only": True}, 1403, "params.reduce_only", "0.000"),
    ({"market": "SHA256-19700101"}, 1101, "params.market", ""),
    ({"deadline_us": START_NS // 1_000 - 1}, 1006, "params.deadline_us", str(START_NS // 1_000)),
]


@pytest.mark.parametrize(("changes", "code", "field", "bound"), REJECTED)
def test_refusals_by_the_engine(stage: Stage, changes: dict[str, Any], code: int, field: str, bound: str) -> None:
    params = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    refused = refusal(stage.trader(), "place", **params)
    assert (refused.code, refused.data["field"], refused.data.get("bound", "")) == (code, field, bound)


def test_every_field_reaches_the_engine(stage: Stage) -> None:
    link = stage.trader()
    expires_us = START_NS // 1_000 + 10**9
    link.place(
        "buy",
        "1.25",
        "0.0005",
        time_in_force="gtd",
        post_only="slide",
        self_trade_prevention="cancel_both",
        expires_us=expires_us,
        client_order_id="a.b_c-1",
        deadline_us=START_NS // 1_000 + 5,
    )
    entry = stage.sequencer.submitted[-1]
    command = entry.command
    assert isinstance(command, Place)
    assert entry.deadline_ns == START_NS + 5_000
    assert (command.price, command.qty, command.expires_ns) == (50_000, 1_250, expires_us * 1_000)
    assert (command.side, command.order_type, command.time_in_force) == (Side.BUY, OrderType.LIMIT, TimeInForce.GTD)
    view = link.call("order", client_order_id="a.b_c-1")
    assert (view["post_only"], view["self_trade_prevention"], view["expires_us"]) == ("slide", "cancel_both", expires_us)


def test_a_repeat_answers_with_the_first_outcome(stage: Stage) -> None:
    maker, link = stage.trader(), stage.trader()
    maker.place("sell", "1", "0.0005")
    first = link.place("buy", "1", "0.0005", client_order_id="once")
    again = link.place("buy", "1", "0.0005", client_order_id="once")
    assert again == {**first, "repeat": True, "fills": []}
    assert link.call("positions")[0]["qty"] == "1.000"
    refused = refusal(link, "place", **{**GOOD, "qty": "10000", "client_order_id": "never"})
    repeated = refusal(link, "place", **{**GOOD, "client_order_id": "never"})
    assert (repeated.code, repeated.data["repeat"]) == (refused.code, True)
    looked_up = refusal(link, "order", client_order_id="never")
    assert looked_up.code == refused.code


def test_a_repeat_after_the_market_is_gone(tmp_path: Path) -> None:
    """The server started after the settlement and cannot show the numbers: it says so, and does nothing else."""
    stage = Stage(tmp_path)
    link = stage.trader()
    link.place("buy", "1", "0.0005", client_order_id="once")
    stage.exchange._terms.clear()
    spec = stage.engine.markets.pop(MARKET)
    stage.feeds.find(BOOK, 0)
    stage.engine.markets["OTHER"] = spec
    refused = refusal(link, "place", **{**GOOD, "market": "OTHER", "client_order_id": "once"})
    assert (refused.data["reason"], refused.data["repeat"]) == ("market_settled", True)


def test_amend(stage: Stage) -> None:
    link, other = stage.trader(), stage.trader()
    order_id = link.place("buy", "2", "0.0004", client_order_id="a")["order_id"]
    smaller = link.call("amend", client_order_id="a", qty="1.5")
    assert (smaller["order_id"], smaller["qty"], smaller["price"]) == (order_id, "1.500", "0.00040000")
    other.place("sell", "1", "0.0005")
    crossing = link.call("amend", order_id=order_id, price="0.0005")
    assert (crossing["status"], crossing["filled_qty"], crossing["remaining_qty"]) == ("open", "1.000", "0.500")
    assert [fill["qty"] for fill in crossing["fills"]] == ["1.000"]
    away = link.call("amend", order_id=order_id, qty="0.5")
    assert (away["status"], away["filled_qty"], away["remaining_qty"]) == ("canceled", "1.000", "0.000")
    gone = refusal(link, "amend", order_id=order_id, qty="3")
    assert (gone.code, gone.data["order"]["status"], gone.data["order"]["filled_qty"]) == (1301, "canceled", "1.000")


@pytest.mark.parametrize(
    ("params", "reason", "field"),
    [
        ({}, "amend_empty", "params.qty"),
        ({"qty": "0"}, "qty_too_small", "params.qty"),
        ({"price": "0.0"}, "price_too_low", "params.price"),
        ({"price": "0.000000001"}, "invalid_params", "params.price"),
        ({"qty": "-1"}, "invalid_params", "params.qty"),
    ],
)
def test_amends_that_change_nothing(stage: Stage, params: dict[str, Any], reason: str, field: str) -> None:
    link = stage.trader()
    order_id = link.place("buy", "2", "0.0004")["order_id"]
    refused = refusal(link, "amend", order_id=order_id, **params)
    assert (refused.data["reason"], refused.data["field"]) == (reason, field)
    assert link.call("order", order_id=order_id)["qty"] == "2.000"


def test_an_amend_to_zero_is_refused_by_the_engine_and_told_in_order(stage: Stage) -> None:
    """Found by simulation: the gateway answered for the engine, before what the engine had still to answer."""
    link = stage.trader()
    order_id = link.place("buy", "2", "0.0004")["order_id"]
    link.call("subscribe", channels=["account"])
    price_min = link.call("markets")[0]["price_min"]
    for params, code, bound in (({"qty": "0"}, 1207, "0.001"), ({"price": "0"}, 1205, price_min)):
        refused = refusal(link, "amend", order_id=order_id, **params)
        event = link.messages("account")[-1]["data"]
        assert (refused.code, refused.data["bound"]) == (event["code"], event["bound"]) == (code, bound)
        assert (event["event"], event["order_id"]) == ("rejected", order_id)


def test_a_price_of_zero_is_a_price(stage: Stage) -> None:
    """Found by simulation: a market order that named 0 was taken as one that named none."""
    link, operator = stage.trader(), stage.operator()
    order = {"market": MARKET, "side": "buy", "qty": "1", "price": "0"}
    assert refusal(link, "place", **order, type="market").data["reason"] == "price_not_allowed"
    refused = refusal(link, "place", **order)
    assert (refused.data["reason"], refused.data["bound"]) == ("price_too_low", link.call("markets")[0]["price_min"])
    refused = refusal(operator, "settle", market=MARKET, index_price="0.0")
    assert (refused.data["reason"], refused.data["bound"]) == ("price_too_low", "0.00000001")


@pytest.mark.parametrize("method", ["amend", "cancel", "order"])
@pytest.mark.parametrize("params", [{}, {"order_id": 1, "client_order_id": "a"}])
def test_an_order_has_one_name(stage: Stage, method: str, params: dict[str, Any]) -> None:
    refused = refusal(stage.trader(), method, **params)
    assert (refused.code, refused.data["field"]) == (ErrorCode.INVALID_PARAMS, "params.order_id")


def test_cancel_and_cancel_all(stage: Stage) -> None:
    link = stage.trader()
    first = link.place("buy", "2", "0.0004", client_order_id="a")["order_id"]
    canceled = link.call("cancel", client_order_id="a")
    assert (canceled["order_id"], canceled["canceled_qty"], canceled["filled_qty"]) == (first, "2.000", "0.000")
    again = refusal(link, "cancel", client_order_id="a")
    assert (again.code, again.data["order"]["order_id"]) == (1301, first), "tells what became of it"
    orders = [
        link.place(side, "1", price)["order_id"] for side, price in (("buy", "0.0004"), ("sell", "0.0006"), ("buy", "0.0003"))
    ]
    assert link.call("cancel_all", side="sell") == {"canceled": [orders[1]]}
    assert link.call("cancel_all", market=MARKET) == {"canceled": [orders[0], orders[2]]}
    assert link.call("cancel_all") == {"canceled": []}
    assert refusal(link, "cancel_all", market="X").data["reason"] == "market_unknown"


# ------------------------------------------------------------------------------------------------------------------ reads


def test_public_reads(stage: Stage) -> None:
    link, trader = stage.link(), stage.trader()
    assert link.call("time") == {"ts_us": START_NS // 1_000}
    info = link.call("info")
    assert (info["epoch"], info["batch_max"], info["rates"]["orders"]) == (
        EPOCH,
        BATCH_MAX,
        {"per_second": 1_000, "burst": 2_000},
    )
    assert [market["market"] for market in link.call("markets")] == [MARKET]
    trader.place("buy", "1", "0.0004")
    trader.place("buy", "2", "0.0003")
    assert link.call("book", market=MARKET, depth=1)["bids"] == [["0.00040000", "1.000"]]
    stage.trader().place("sell", "3", "0.0003")
    assert [trade["qty"] for trade in link.call("trades", market=MARKET)] == ["2.000", "1.000"], "newest first"
    assert len(link.call("trades", market=MARKET, limit=1)) == 1
    for method in ("book", "trades"):
        assert refusal(link, method, market="X").code == 1101


def test_account_reads(stage: Stage) -> None:
    maker, taker = stage.trader(), stage.trader()
    orders = [maker.place("sell", "1", f"0.000{price}")["order_id"] for price in (5, 6, 7)]
    taker.place("buy", "1", "0.0005")
    assert [order["order_id"] for order in maker.call("orders")] == orders[:0:-1], "newest first"
    assert [order["order_id"] for order in maker.call("orders", limit=1)] == [orders[2]]
    assert maker.call("orders", market="X") == []
    maker.call("cancel", order_id=orders[2])
    closed = maker.call("orders", state="closed")
    assert [(order["order_id"], order["status"]) for order in closed] == [(orders[2], "canceled"), (orders[0], "filled")]
    (fill,) = maker.call("fills")
    assert (fill["order_id"], fill["liquidity"], fill["side"]) == (orders[0], "maker", "sell")
    assert maker.call("fills", market="X") == []
    (position,) = maker.call("positions")
    assert (position["market"], position["qty"], position["basis"]) == (MARKET, "-1.000", "0.00050000000")
    balance = taker.call("balances")
    assert (balance["balance"], balance["held"], balance["positions"]) == ("0.99949900000", "0.00000000000", "0.00000000000")
    assert taker.call("deliveries") == []


# ---------------------------------------------------------------------------------------------------- batches, bad messages


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_a_batch_is_answered_at_once_in_its_order(stage: Stage, codec: Codec) -> None:
    link = stage.trader(codec=codec)
    stage.sequencer.held = True
    calls: list[Any] = [
        {"jsonrpc": "2.0", "id": "slow", "method": "place", "params": GOOD},
        {"jsonrpc": "2.0", "id": "fast", "method": "time"},
        {"jsonrpc": "2.0", "method": "time"},
        17,
        {"jsonrpc": "2.0", "id": "wrong", "method": "place", "params": {**GOOD, "qty": 1}},
    ]
    link.put(link._encode(calls))
    assert not link.received, "one answer is missing"
    stage.sequencer.commit()
    (answers,) = link.received
    assert [answer["id"] for answer in answers] == ["slow", "fast", None, None, "wrong"]
    assert answers[0]["result"]["status"] == "open"
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        None,
        None,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_PARAMS,
    ]
    assert answers[4]["error"]["data"]["field"] == "params.qty"


@pytest.mark.parametrize(("size", "works"), [(0, False), (1, True), (BATCH_MAX, True), (BATCH_MAX + 1, False)])
def test_the_size_of_a_batch(stage: Stage, size: int, works: bool) -> None:
    link = stage.link()
    link.put(json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "time"}] * size).encode())
    (answer,) = link.received
    if works:
        assert len(answer) == size
    else:
        assert (answer["id"], answer["error"]["code"]) == (None, ErrorCode.INVALID_REQUEST)
        assert answer["error"]["message"] == "a batch has 1 to 50 calls"


def test_calls_of_a_batch_are_paid_one_by_one(tmp_path: Path) -> None:
    link = small(tmp_path, ip=(1, 3)).link()
    link.put(json.dumps([{"jsonrpc": "2.0", "id": at, "method": "time"} for at in range(5)]).encode())
    (answers,) = link.received
    assert ["result" in answer for answer in answers] == [True, True, True, False, False]
    assert [answer["budget"]["requests"] for answer in answers] == [2, 1, 0, 0, 0]


def test_a_batch_stops_where_it_closes_its_socket(tmp_path: Path) -> None:
    stage = small(tmp_path, requests=(1, 1))
    link = stage.trader()
    bad = [{"jsonrpc": "2.0", "id": at, "method": "no"} for at in range(BATCH_MAX)]
    for _ in range(PROTOCOL_ERRORS.burst // BATCH_MAX + 1):
        link.put(json.dumps(bad).encode())
    assert link.closed == (Close.FLOOD, "kept sending malformed messages")
    assert stage.engine.accounts[100].orders == {}


@pytest.mark.parametrize(
    ("payload", "code", "request_id"),
    [
        (b"", ErrorCode.PARSE, None),
        (b"{", ErrorCode.PARSE, None),
        (b"[1,", ErrorCode.PARSE, None),
        (b"null", ErrorCode.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","method":"time"}', ErrorCode.INVALID_REQUEST, None),
        (b'{"jsonrpc":"2.0","id":5,"method":"none"}', ErrorCode.METHOD_UNKNOWN, 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"time","params":{"a":1}}', ErrorCode.INVALID_PARAMS, 5),
        (b'{"jsonrpc":"2.0","id":5,"method":"time","id":6}', ErrorCode.INVALID_REQUEST, 6),
        (b'{"jsonrpc":"2.0","id":5,"method":"time","params":' + b"[" * 30_000, ErrorCode.PARSE, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_messages_are_answered(stage: Stage, payload: bytes, code: int, request_id: Any) -> None:
    link = stage.link()
    link.put(payload)
    (answer,) = link.received
    assert (answer["error"]["code"], answer["id"], answer["jsonrpc"]) == (code, request_id, "2.0")
    assert answer["budget"]["orders"] == 0
    assert link.is_open


def test_garbage_is_tolerated_up_to_a_bound(stage: Stage) -> None:
    link, other = stage.link(), stage.link()
    for _ in range(PROTOCOL_ERRORS.burst):
        link.put(b"garbage")
    assert link.is_open
    link.put(b"garbage")
    assert link.closed == (Close.FLOOD, "kept sending malformed messages")
    assert len(link.received) == PROTOCOL_ERRORS.burst + 1, "told why, each time"
    assert other.is_open
    other.call("time")


def test_slow_garbage_is_tolerated_for_ever(stage: Stage) -> None:
    link = stage.link()
    for _ in range(3 * PROTOCOL_ERRORS.burst):
        link.put(b"garbage")
        stage.now_ns += SECOND_NS // PROTOCOL_ERRORS.per_second
    assert link.is_open


def test_text_that_is_not_utf8_closes_the_socket(stage: Stage) -> None:
    link = stage.link()
    link.put(b'{"jsonrpc":"2.0","id":1,"method":"\xff"}')
    assert link.closed == (Close.NOT_UTF8, "not UTF-8 at byte 34")


def test_a_bug_costs_one_socket(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(call: Any, params: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(methods.METHODS, "time", methods.Method(wire.NoParams, bug))
    link, other = stage.link(), stage.trader()
    with structlog.testing.capture_logs() as lines:
        link.start("time")
    assert link.closed == (Close.FAILED, "internal error")
    assert [line["event"] for line in lines] == ["bug", "session closed"]
    other.call("balances")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([MARKET, "buy", "1", "0.5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """A call that is nearly right: a real method, real names of parameters, any values."""
    method = draw(st.sampled_from(sorted(METHODS.keys() - {"add_key", "revoke_key"})))
    names = METHODS[method].params.__struct_fields__
    params = {name: draw(VALUES) for name in names if draw(st.booleans())}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@settings(max_examples=30)
@given(st.lists(calls() | st.lists(calls(), max_size=3), max_size=20), st.lists(st.binary(max_size=100), max_size=5))
def test_any_call_is_answered(tmp_path_factory: pytest.TempPathFactory, messages: list[Any], garbage: list[bytes]) -> None:
    stage = Stage(tmp_path_factory.mktemp("keys"))
    key = stage.key(stage.account(), "read", "trade", "withdraw", "meter", "admin")
    link = stage.link(key)
    for message in messages:
        link.received.clear()
        link.put(json.dumps(message).encode())
        if link.closed is None:
            assert any(isinstance(answer, list) or "id" in answer for answer in link.received)
    for payload in garbage:
        link.put(payload)
    assert link.closed is None or link.closed[0] in (Close.NOT_UTF8, Close.FLOOD)


# ------------------------------------------------------------------------------------------------------------ rate limits


def test_budgets_are_in_every_reply(stage: Stage) -> None:
    link = stage.link()
    assert link.ask("time")["budget"] == {"orders": 0, "cancels": 0, "requests": 199}
    assert link.ask("login")["budget"] == {"orders": 0, "cancels": 0, "requests": 198}, "errors too"
    trader = stage.trader()
    assert trader.ask("place", **GOOD)["budget"] == {"orders": 1_999, "cancels": 4_000, "requests": 400}
    assert trader.ask("cancel_all")["budget"] == {"orders": 1_999, "cancels": 3_999, "requests": 400}
    assert trader.ask("balances")["budget"] == {"orders": 1_999, "cancels": 3_999, "requests": 399}


def test_cancels_are_never_refused_by_the_order_budget(tmp_path: Path) -> None:
    stage = small(tmp_path, orders=(1, 2), cancels=(1, 2))
    link = stage.trader()
    orders = [link.place("buy", "1", "0.0004")["order_id"] for _ in range(2)]
    refused = refusal(link, "place", **GOOD)
    assert refused.code == ErrorCode.RATE_LIMITED
    assert refused.data == {"reason": "rate_limited", "field": "orders", "retry_after_ms": 1_000}
    assert refusal(link, "amend", order_id=orders[0], qty="0.5").data["field"] == "orders"
    link.call("cancel", order_id=orders[0])
    link.call("cancel_all")
    assert refusal(link, "cancel_all").data["field"] == "cancels"
    link.call("balances")
    stage.now_ns += refused.data["retry_after_ms"] * MS
    link.place("buy", "1", "0.0004")


def test_sockets_of_an_account_share_its_budget(tmp_path: Path) -> None:
    stage = small(tmp_path, requests=(1, 3))
    key = stage.key(stage.account(), "read")
    first, second = stage.link(key, ip="10.0.0.1"), stage.link(key, ip="10.0.0.2")
    first.call("balances")
    second.call("balances")
    first.call("balances")
    assert refusal(second, "balances").data["field"] == "requests"
    first.session.closed()
    second.session.closed()
    assert refusal(stage.link(key), "balances").data["reason"] == "rate_limited", "a new socket is no new budget"
    stage.link(stage.key(stage.account(), "read")).call("balances")


def test_sockets_of_an_address_share_its_budget(tmp_path: Path) -> None:
    stage = small(tmp_path, ip=(1, 3))
    first, second = stage.link(ip="2001:db8::1"), stage.link(ip="2001:db8::2")
    for link in (first, second, first):
        link.call("time")
    assert refusal(second, "time").data == {"reason": "rate_limited", "field": "requests", "retry_after_ms": 1_000}
    stage.link(ip="2001:db8:0:1::1").call("time")


def test_sending_on_past_refusals_closes_the_socket(tmp_path: Path) -> None:
    stage = small(tmp_path, orders=(1, 1))
    link = stage.trader()
    link.place("buy", "1", "0.0004")
    for _ in range(REFUSALS.burst):
        assert link.ask("place", **GOOD)["error"]["code"] == ErrorCode.RATE_LIMITED
    assert link.is_open
    link.start("place", **GOOD)
    assert link.closed == (Close.FLOOD, "kept sending past the rate limit")


def test_sockets_without_login_are_bounded_per_address(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Config(server=ServerConfig(anonymous_per_ip_max=2)))
    admit = stage.exchange.admit
    links = [stage.link(ip="10.0.0.1") for _ in range(2)]
    assert not admit("10.0.0.1")
    assert not admit("::ffff:10.0.0.1")
    assert admit("10.0.0.2")
    links[0].login(stage.key(stage.account(), "read"))
    assert admit("10.0.0.1")
    links[0].call("logout")
    assert not admit("10.0.0.1")
    links[1].session.closed()
    links[1].session.closed()
    assert admit("10.0.0.1")
    links[0].session.close(Close.IDLE, "")
    budget = stage.exchange.limiter.addresses.peek("10.0.0.1")
    assert budget is not None
    assert budget.anonymous == 0


# ------------------------------------------------------------------------------------------------------------------- time


def test_a_socket_has_to_log_in_or_subscribe_in_time(stage: Stage) -> None:
    idle, subscriber, trader = stage.link(), stage.link(), stage.trader()
    subscriber.call("subscribe", channels=["status"])
    stage.wait(10)
    stage.exchange.tick(stage.now_ns)
    assert idle.is_open, "at the bound"
    stage.exchange.tick(stage.now_ns + 1)
    assert idle.closed == (Close.LOGIN_TIMEOUT, "neither logged in nor subscribed in time")
    assert subscriber.is_open
    assert trader.is_open
    trader.call("logout")
    stage.exchange.tick(stage.now_ns + 10 * SECOND_NS)
    assert trader.is_open, "a logout starts the time anew"
    stage.exchange.tick(stage.now_ns + 10 * SECOND_NS + 1)
    assert trader.closed is not None


def test_the_end_of_the_last_subscription_starts_the_time_anew(stage: Stage) -> None:
    """Found by simulation: who left its last channel late was closed at once."""
    link = stage.link()
    link.call("subscribe", channels=["status"])
    stage.wait(30, ticks=False)
    link.call("unsubscribe", channels=["status"])
    stage.exchange.tick(stage.now_ns + 10 * SECOND_NS)
    assert link.is_open
    stage.exchange.tick(stage.now_ns + 10 * SECOND_NS + 1)
    assert link.closed == (Close.LOGIN_TIMEOUT, "neither logged in nor subscribed in time")


@pytest.mark.parametrize("sign", ["message", "ping"])
def test_silence_closes_the_socket(stage: Stage, sign: str) -> None:
    link = stage.trader()
    stage.wait(59)
    if sign == "message":
        link.put(b"anything")
    else:
        link.session.alive(stage.now_ns)
    stage.wait(60)
    link.session.tick(stage.now_ns)
    assert link.is_open
    link.session.tick(stage.now_ns + 1)
    assert link.closed == (Close.IDLE, "nothing was heard for too long")


def test_heartbeats_carry_the_last_numbers(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Config(session=SessionConfig(heartbeat_ms=1_000)))
    link = stage.trader()
    link.call("subscribe", channels=[BOOK, "account"])
    link.received.clear()
    stage.wait(1)
    stage.exchange.tick(stage.now_ns - 1)
    assert not link.received
    stage.exchange.tick(stage.now_ns)
    before = link.take("heartbeat")
    stage.exchange.tick(stage.now_ns)
    assert not link.received, "one per interval"
    link.place("buy", "1", "0.0005")
    stage.wait(1)
    stage.exchange.tick(stage.now_ns)
    after = link.take("heartbeat")
    assert after["ts_us"] == stage.now_ns // 1_000
    assert after["channels"]["account"] == before["channels"]["account"] + 1 == stage.engine.accounts[100].event_seq
    assert after["channels"][BOOK] == before["channels"][BOOK] + 1
    assert link.call("heartbeat") == after


# --------------------------------------------------------------------------------------------------------------- channels


def test_the_answer_comes_before_the_snapshot(stage: Stage) -> None:
    link = stage.trader()
    number = link.start("subscribe", channels=[BOOK, "status", BOOK])
    kinds = [message.get("id") or message["params"]["channel"] for message in link.received]
    assert kinds == [number, BOOK, "status"]
    assert link.answer(number)["result"] == {"channels": [BOOK, "status"]}


def test_all_channels_or_none(stage: Stage) -> None:
    link = stage.link()
    refused = refusal(link, "subscribe", channels=[BOOK, "book.X"])
    assert (refused.code, refused.data["field"]) == (ErrorCode.CHANNEL_UNKNOWN, "params.channels[1]")
    refused = refusal(link, "subscribe", channels=[BOOK, "account"])
    assert (refused.code, refused.data["field"]) == (ErrorCode.LOGIN_REQUIRED, "params.channels[1]")
    assert stage.feeds.last_seqs(link.session) == {}
    assert not link.received


def test_subscriptions_are_bounded(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Config(session=SessionConfig(subscriptions_max=2)))
    link = stage.link()
    link.call("subscribe", channels=[BOOK, "status"])
    refused = refusal(link, "subscribe", channels=[TRADES])
    assert (refused.code, refused.data["bound"]) == (ErrorCode.SUBSCRIPTIONS_FULL, "2")
    link.call("subscribe", channels=[BOOK])
    link.call("unsubscribe", channels=["status", "book.X", "account"])
    link.call("subscribe", channels=[TRADES])


def test_unsubscribe_and_resync(stage: Stage) -> None:
    link, trader = stage.link(), stage.trader()
    refused = refusal(link, "resync", channel=BOOK)
    assert (refused.code, refused.data["reason"]) == (ErrorCode.CHANNEL_UNKNOWN, "not_subscribed")
    link.call("subscribe", channels=[BOOK])
    trader.place("buy", "1", "0.0004")
    assert [message["type"] for message in link.messages(BOOK)] == ["snapshot", "delta"]
    link.call("resync", channel=BOOK)
    (snapshot,) = link.messages(BOOK)
    assert (snapshot["type"], snapshot["data"]["bids"]) == ("snapshot", [["0.00040000", "1.000"]])
    link.call("unsubscribe", channels=[BOOK])
    trader.place("buy", "1", "0.0004")
    assert not link.messages(BOOK)


def test_resume_goes_on_after_the_last_number(stage: Stage) -> None:
    key = stage.key(stage.account(), "read", "trade")
    first = stage.link(key)
    first.call("subscribe", channels=["account"])
    seen = first.messages("account")[0]["seq"]
    first.session.closed()
    away = stage.link(key)
    for price in ("0.0001", "0.0002", "0.0003"):
        away.place("buy", "1", price)
    again = stage.link(key)
    number = again.start("resume", epoch=EPOCH, account_seq=seen)
    assert again.received[0]["id"] == number, "the answer comes first"
    away.place("buy", "1", "0.0004")
    events = again.messages("account")
    assert [event["seq"] for event in events] == [seen + 1, seen + 2, seen + 3, seen + 4]
    assert [event["prev_seq"] for event in events] == [seen, seen + 1, seen + 2, seen + 3]
    assert events[-1]["data"]["price"] == "0.00040000"


def test_a_resume_before_the_first_event_is_durable(stage: Stage) -> None:
    """Found by simulation: the account's first event was on its way to the disk, and the resume from 0 was refused."""
    account = stage.account(btc=0)
    key = stage.key(account, "read", "trade")
    link, gone, late = stage.link(key), stage.link(key), stage.link(key)
    stage.sequencer.held = True
    stage.sequencer.submit(Deposit(account, 5, "first"))
    waits, leaves = (one.start("resume", epoch=EPOCH, account_seq=0) for one in (link, gone))
    gone.call("logout")
    stage.sequencer.stopped = True
    assert refusal(late, "resume", epoch=EPOCH, account_seq=0).code == ErrorCode.SHUTTING_DOWN
    stage.sequencer.stopped = False
    stage.sequencer.commit()
    assert link.answer(waits)["result"] == {"account_seq": 0}
    assert [event["seq"] for event in link.messages("account")] == [1]
    assert gone.answer(leaves)["error"]["code"] == ErrorCode.LOGIN_REQUIRED
    stage.sequencer.held = False
    stage.sequencer.submit(Deposit(account, 5, "second"))
    assert [event["seq"] for event in link.messages("account")] == [2]
    assert not gone.messages("account")


@pytest.mark.parametrize(("epoch", "offset", "field"), [("other", 0, "params.epoch"), (EPOCH, 1, "params.account_seq")])
def test_resume_from_what_is_not_there(stage: Stage, epoch: str, offset: int, field: str) -> None:
    link = stage.trader()
    link.place("buy", "1", "0.0004")
    seq = stage.engine.accounts[100].event_seq + offset
    refused = refusal(link, "resume", epoch=epoch, account_seq=seq)
    assert (refused.code, refused.data["reason"], refused.data["field"]) == (ErrorCode.TOO_OLD, "too_old", field)
    assert not link.messages("account")


def test_logout_ends_private_channels_only(stage: Stage) -> None:
    key = stage.key(stage.account(), "read", "trade")
    link, other = stage.link(key), stage.link(key)
    link.call("subscribe", channels=["account", BOOK])
    link.call("logout")
    link.received.clear()
    other.place("buy", "1", "0.0004")
    assert not link.messages("account")
    assert len(link.messages(BOOK)) == 1


def test_who_does_not_read_answers_is_closed(stage: Stage) -> None:
    link = stage.trader()
    link.peer.unread_bytes = BACKLOG_BYTES_MAX
    link.call("time")
    link.peer.unread_bytes += 1
    link.start("subscribe", channels=["status", BOOK])
    assert link.closed == (Close.SLOW_READER, "not read fast enough")
    assert stage.feeds.last_seqs(link.session) == {}, "nothing follows an answer that closed the socket"


# ---------------------------------------------------------------------------------------------------- keys, the server's end


def test_revoking_a_key_closes_its_sockets_at_once(stage: Stage) -> None:
    account = stage.account()
    key, other = stage.key(account, "read"), stage.key(account, "read")
    links = [stage.link(key), stage.link(key), stage.link(other)]
    assert stage.operator().call("revoke_key", key=key.key_id) == {"key": key.key_id}
    assert [link.closed for link in links] == [(Close.KEY_REVOKED, "the key was revoked")] * 2 + [None]
    late = stage.link()
    assert refusal(late, "login", **key.login(late.challenge, stage.now_ns // 1_000)).data["reason"] == "login_failed"


def test_a_revoked_key_does_nothing_more(stage: Stage) -> None:
    """Even if its socket were still open: the flag is looked at on every message."""
    link = stage.trader()
    assert link.session.key is not None
    link.session.key.revoked = True
    before = stage.engine.seq
    link.start("place", **GOOD)
    assert link.closed == (Close.KEY_REVOKED, "the key was revoked")
    assert stage.engine.seq == before


def test_a_key_that_another_process_removes(stage: Stage, tmp_path: Path) -> None:
    key = stage.key(stage.account(), "read")
    link = stage.link(key)
    KeyStore(tmp_path).revoke(key.key_id)
    assert link.is_open
    stage.exchange.tick(stage.now_ns)
    assert link.closed == (Close.KEY_REVOKED, "the key was revoked")


def test_a_broken_key_file_changes_nothing(stage: Stage, tmp_path: Path) -> None:
    link = stage.trader()
    (tmp_path / KEYS_FILE).write_text("{")
    with structlog.testing.capture_logs() as lines:
        for turn in range(3):
            stage.exchange.tick(stage.now_ns + turn * KEYS_CHECK_NS)
    assert link.is_open
    assert [line["event"] for line in lines] == ["keys not reloaded"], "said once"


def test_keys_over_the_wire(stage: Stage) -> None:
    operator, account = stage.operator(), stage.account()
    made = operator.call(
        "add_key", account=account, permissions=["trade", "read"], kind="hmac", label="desk", ip_list=["10.0.0.0/8"]
    )
    assert len(made["secret"]) == 64
    assert made["key"]["permissions"] == ["read", "trade"]
    assert operator.call("keys", account=account) == [made["key"]]
    assert len(operator.call("keys")) == 2
    assert len(operator.call("keys", limit=1)) == 1
    assert refusal(operator, "add_key", account=999, permissions=["read"], kind="hmac").data["field"] == "params.account"
    assert refusal(operator, "add_key", account=account, permissions=["read"]).data["field"] == "params.public_key"
    refused = refusal(operator, "add_key", account=account, permissions=["read"], kind="hmac", ip_list=["x"])
    assert refused.data["field"] == "params.ip_list[0]"
    assert refusal(operator, "revoke_key", key="k-none").code == ErrorCode.NOT_FOUND


def test_key_files_that_fail(stage: Stage, tmp_path: Path) -> None:
    operator = stage.operator()
    (tmp_path / KEYS_FILE).chmod(0o644)
    (tmp_path / KEYS_FILE).write_text((tmp_path / KEYS_FILE).read_text() + " ")
    for method, params in (("revoke_key", {"key": "k"}), ("add_key", {"account": 1, "permissions": ["read"], "kind": "hmac"})):
        refused = refusal(operator, method, **params)
        assert (refused.code, refused.data["reason"]) == (ErrorCode.INTERNAL, "key_files")
        assert str(tmp_path) not in refused.message, "no internals"


COMMANDS: list[tuple[str, dict[str, Any]]] = [
    ("place", GOOD),
    ("amend", {"order_id": 1, "qty": "1"}),
    ("cancel", {"order_id": 1}),
    ("cancel_all", {}),
    ("withdraw", {"amount": "1", "transfer_id": "a"}),
    ("set_destination", {"market": MARKET, "url": "stratum+tcp://a:1", "worker": "w"}),
]


@pytest.mark.parametrize(("method", "params"), COMMANDS)
def test_no_commands_while_shutting_down(stage: Stage, method: str, params: dict[str, Any]) -> None:
    link = stage.trader()
    stage.exchange.taking = Taking.NONE
    before = stage.engine.seq
    refused = refusal(link, method, **params)
    assert (refused.code, refused.data["reason"]) == (ErrorCode.SHUTTING_DOWN, "shutting_down")
    assert stage.engine.seq == before
    link.call("balances")


@pytest.mark.parametrize(("method", "params"), COMMANDS)
def test_cancels_only_while_about_to_stop(stage: Stage, method: str, params: dict[str, Any]) -> None:
    link = stage.trader()
    order_id = link.call("place", **GOOD)["order_id"]
    stage.exchange.taking = Taking.CANCELS
    if "order_id" in params:
        params = params | {"order_id": order_id}
    if method.startswith("cancel"):
        link.call(method, **params)
        assert not stage.engine.open_orders()
    else:
        assert refusal(link, method, **params).code == ErrorCode.SHUTTING_DOWN
        assert [order.order_id for order in stage.engine.open_orders()] == [order_id]


def test_the_operator_cancels_for_others_while_about_to_stop(stage: Stage) -> None:
    link, operator = stage.trader(), stage.operator()
    order_id = link.call("place", **GOOD)["order_id"]
    stage.exchange.taking = Taking.CANCELS
    account = stage.engine.open_orders()[0].account.account_id
    assert operator.call("account_cancel_all", account=account)["canceled"] == [order_id]


def test_traders_are_those_who_are_logged_in(stage: Stage) -> None:
    seen = [stage.exchange.has_traders]
    stage.link()
    seen.append(stage.exchange.has_traders)
    link = stage.trader()
    seen.append(stage.exchange.has_traders)
    link.call("logout")
    seen.append(stage.exchange.has_traders)
    assert seen == [False, False, True, False]


def test_markets_are_sorted_by_name(stage: Stage) -> None:
    operator, start_us = stage.operator(), START_NS // 1_000 + 3_600 * 10**6
    for algorithm in ("SCRYPT", "KHEAVYHASH"):
        operator.call("list_market", algorithm=algorithm, start_us=start_us, length_s=3_600, reference_price="0.00001")
    names = [market["market"] for market in operator.call("markets")]
    assert len(names) == 3
    assert names == sorted(names)


def test_an_exchange_that_cannot_take_more(stage: Stage) -> None:
    link = stage.trader()
    stage.sequencer.held = True
    stage.sequencer.queue_max = 1
    first = link.start("place", **GOOD)
    refused = refusal(link, "place", **GOOD)
    assert (refused.code, refused.data["retry_after_ms"]) == (ErrorCode.OVERLOADED, 100)
    stage.sequencer.commit()
    assert link.answer(first)["result"]["status"] == "open"


def test_an_exchange_that_has_stopped(stage: Stage) -> None:
    link = stage.trader()
    stage.sequencer.stopped = True
    for method, params in (("place", GOOD), ("balances", {}), ("markets", {}), ("fills", {})):
        assert refusal(link, method, **params).code == ErrorCode.SHUTTING_DOWN
    link.start("subscribe", channels=["account"])
    assert link.closed is not None
    assert link.closed[0] == Close.GOING_AWAY


# ------------------------------------------------------------------------------------------------------ operator and meter


def test_the_operator(stage: Stage) -> None:
    operator = stage.operator()
    account = operator.call("create_account", name="desk")["account"]
    assert refusal(operator, "create_account", name="desk").data["bound"] == str(account)
    deposit = {"account": account, "amount": "2.5", "transfer_id": "t1"}
    made = operator.call("deposit", **deposit)
    assert (made["amount"], made["balance"], made["repeat"]) == ("2.50000000000", "2.50000000000", False)
    assert operator.call("deposit", **deposit)["repeat"]
    assert refusal(operator, "deposit", **{**deposit, "transfer_id": "t2", "amount": "0"}).code == 1501
    refused = refusal(operator, "deposit", **{**deposit, "amount": "0.000000000001"})
    assert (refused.code, refused.data["field"]) == (ErrorCode.INVALID_PARAMS, "params.amount")
    assert refusal(operator, "deposit", **{**deposit, "account": 9_999}).data["field"] == "params.account"

    start_us = START_NS // 1_000 + 3_600 * 10**6
    listing = {"algorithm": "SCRYPT", "start_us": start_us, "length_s": 3_600, "reference_price": "0.00001"}
    listed = operator.call("list_market", **listing)
    assert (listed["algorithm"], listed["state"], listed["period_start_us"]) == ("SCRYPT", "open", start_us)
    assert refusal(operator, "list_market", **listing).data["reason"] == "market_exists"
    for changes, field in (
        ({"algorithm": "MD5"}, "params.algorithm"),
        ({"start_us": start_us + 1}, "params.start_us"),
        ({"length_s": 61}, "params.length_s"),
        ({"reference_price": "0"}, "params.reference_price"),
    ):
        refused = refusal(operator, "list_market", **{**listing, **changes})
        assert (refused.code, refused.data["field"]) == (ErrorCode.INVALID_PARAMS, field)

    trader = stage.trader()
    order_id = trader.place("buy", "1", "0.0004")["order_id"]
    assert operator.call("set_market_state", market=MARKET, state="halted") == {"market": MARKET, "state": "halted"}
    assert refusal(trader, "cancel", order_id=order_id).data["reason"] == "market_halted"
    assert operator.call("account_cancel_all", account=trader.session.account) == {"canceled": [order_id]}
    assert refusal(operator, "set_market_state", market="X", state="open").code == 1101
    assert refusal(operator, "settle", market=MARKET).data["reason"] == "period_not_ended"
    assert refusal(operator, "settle", market="X").code == 1101


def test_a_delivery_from_gate_to_settlement(stage: Stage) -> None:
    seller, buyer, meter, operator = stage.trader(), stage.trader(), stage.meter(), stage.operator()
    seller.place("sell", "1", "0.0005")
    buyer.place("buy", "1", "0.0005")
    destination = {"market": MARKET, "url": "stratum+tcp://pool.example:3333", "worker": "w.1"}
    assert buyer.call("set_destination", **destination) == destination
    assert refusal(buyer, "set_destination", **{**destination, "url": "http://x"}).data["field"] == "params.url"
    stage.wait(35 * 3_600)
    (sold,), (bought,) = seller.call("deliveries"), buyer.call("deliveries")
    assert (sold["role"], bought["role"], sold["state"], bought["url"]) == ("seller", "buyer", "scheduled", destination["url"])
    assert seller.call("balances")["positions"] == "0.00060000000", "proceeds and bond"
    assert buyer.call("balances")["positions"] == "0.00000000000"
    assert meter.call("deliveries") == [], "not running yet"
    report = {"delivery_id": sold["delivery_id"], "hashes": "5", "shares": 1}
    assert refusal(meter, "report_work", **report).data["reason"] == "delivery_not_started"

    # the start of the period falls due with the report itself
    stage.wait(3_600, ticks=False)
    contracted = int(sold["contracted_hashes"])
    assert contracted > 2**64
    work = meter.call("report_work", **{**report, "hashes": str(contracted), "shares": 1_000, "excused_hashes": "3"})
    assert (work["state"], work["proven_hashes"], work["excused_hashes"]) == ("running", str(contracted), "3")
    (running,) = meter.call("deliveries")
    assert (running["role"], running["proven_hashes"]) == ("meter", str(contracted))
    assert meter.call("deliveries", after_id=running["delivery_id"]) == []
    assert meter.call("deliveries", market="X") == []
    assert refusal(meter, "report_work", **report).data["bound"] == str(contracted)

    stage.wait(86_400, ticks=False)
    before = seller.call("balances")
    settled = operator.call("settle", market=MARKET, index_price="0.0006")
    assert settled == {"market": MARKET, "deliveries": [sold["delivery_id"]]}
    assert seller.call("deliveries") == buyer.call("deliveries") == []
    money = MONEY.parse
    after = seller.call("balances")
    assert money(after["balance"]) - money(before["balance"]) == BTC_MSAT * 6 // 10_000
    assert seller.call("fills")[0]["market"] == MARKET, "still told after the market is gone"
    assert refusal(seller, "place", **GOOD).data["reason"] == "market_unknown"


def test_due_work_alone_keeps_the_histories(stage: Stage) -> None:
    """A gate cancels what rests, in a Tick that no session submitted."""
    link = stage.trader()
    order_id = link.place("buy", "1", "0.0005")["order_id"]
    stage.now_ns += 36 * 3_600 * SECOND_NS
    stage.do(Tick())
    assert link.call("orders") == []
    assert link.call("order", order_id=order_id)["status"] == "canceled"


def test_the_same_in_messagepack(stage: Stage) -> None:
    """One call each way in both encodings gives the same answer."""
    answers = []
    for codec in (JSON, MSGPACK):
        link = stage.link(codec=codec)
        link.call("subscribe", channels=["status"])
        (message,) = link.messages("status")
        answers.append((link.call("markets"), message))
    assert msgspec.json.encode(answers[0]) == msgspec.json.encode(answers[1])


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_cuts_nobody_off_and_stops_no_heartbeat(stage: Stage, hours: int) -> None:
    reader, trader = stage.link(), stage.trader()
    stage.now_ns += hours * 3_600 * SECOND_NS
    stage.exchange.clock_set(stage.now_ns)
    stage.exchange.tick(stage.now_ns)
    assert reader.is_open
    assert trader.is_open
    for link in (reader, trader):
        assert link.take("heartbeat")["ts_us"] == stage.now_ns // 1_000
    stage.wait(10, ticks=False)
    stage.exchange.tick(stage.now_ns)
    assert reader.take("heartbeat")
    assert reader.is_open, "the time to log in starts over"
    stage.exchange.tick(stage.now_ns + 1)
    assert reader.closed is not None
    stage.wait(50, ticks=False)
    stage.exchange.tick(stage.now_ns + 1)
    assert trader.closed == (Close.IDLE, "nothing was heard for too long")


def test_a_market_that_came_and_went_is_refused_by_the_engine(stage: Stage) -> None:
    """Found by simulation: as nobody had asked for it while it was there, its refusal was no event of the account."""
    link = stage.trader()
    stage.now_ns += 100 * 3_600 * SECOND_NS
    stage.do(Tick())
    assert MARKET not in stage.engine.markets
    before = stage.engine.accounts[100].event_seq
    assert refusal(link, "place", **GOOD).data["reason"] == "market_unknown"
    assert stage.engine.accounts[100].event_seq == before + 1


def test_a_market_that_was_gone_before_it_was_durable_is_refused_by_the_engine(stage: Stage) -> None:
    """Found by simulation: the listing became durable when the gate of the market, empty, had passed in the engine."""
    link, listed = stage.trader(), stage.engine.markets[MARKET].spec
    stage.sequencer.held = True
    stage.sequencer.submit(ListMarket(replace(listed, symbol="BRIEF")))
    stage.now_ns = listed.gate_ns
    stage.sequencer.submit(Tick())
    assert "BRIEF" not in stage.engine.markets
    stage.sequencer.commit()
    stage.sequencer.held = False
    before = stage.engine.accounts[100].event_seq
    assert refusal(link, "place", **{**GOOD, "market": "BRIEF"}).data["reason"] == "market_unknown"
    assert stage.engine.accounts[100].event_seq == before + 1
