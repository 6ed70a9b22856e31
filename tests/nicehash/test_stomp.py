"""The push feed, frame by frame: what it takes, what it tells, its bounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import AmendAsk
from gateway.nicehash import stomp
from gateway.nicehash.catalog import Catalog
from gateway.nicehash.history import History
from gateway.nicehash.stomp import MESSAGE_BYTES_MAX, Feed, StompSession
from tests.nicehash.venue import FACTORS, Venue

ORDERS = "/tradingview/order-changes/SHA256ASICBOOST/BTC"
ORDER = "/main/api/v2/hashpower/order"


class Client:
    """One client of a feed."""

    def __init__(self, feed: Feed, tokens: int = 1_000) -> None:
        self.frames: list[bytes] = []
        self.ended = False
        self.tokens = tokens
        """Requests that it may still make."""
        self.session = StompSession(feed, self.frames.append, self._end, self._afford)

    def _afford(self, tokens: int) -> bool:
        self.tokens -= tokens
        return self.tokens >= 0

    def _end(self) -> None:
        self.ended = True

    def send(self, command: str, **headers: str) -> None:
        lines = [command, *(f"{name.replace('_', '-')}:{value}" for name, value in headers.items()), "", "\0"]
        self.session.receive("\n".join(lines).encode())

    def connect(self) -> "Client":
        self.send("CONNECT", accept_version="1.2", host="x")
        assert self.take().startswith("CONNECTED\n")
        return self

    def take(self) -> str:
        return self.frames.pop(0).decode()

    def told(self) -> list[Any]:
        """The contents of all messages that came."""
        found = [json.loads(frame.rstrip(b"\0").partition(b"\n\n")[2]) for frame in self.frames]
        self.frames.clear()
        return found

    def failed(self) -> str:
        """Why the feed ended the connection."""
        frame = self.take()
        assert frame.startswith("ERROR\n")
        assert self.ended
        assert not self.frames
        return frame.partition("message:")[2].partition("\n")[0]


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


def subscribed(venue: Venue, destination: str = ORDERS) -> Client:
    client = Client(venue.service.feed).connect()
    client.send("SUBSCRIBE", id="1", destination=destination, receipt="r1")
    assert client.take() == "RECEIPT\nreceipt-id:r1\n\n\0"
    return client


def test_what_is_told_of_orders(venue: Venue) -> None:
    venue.seller(30_000, 3_000)
    trader = venue.client()
    listener = subscribed(venue)
    assert listener.told() == [{"event": "Snapshot", "list": []}]
    order = venue.order(trader)
    speed = {"orderId": order["id"], "price": "0.5", "payingSpeed": "0.001"}
    assert listener.told() == [
        {"event": "OrderCreated", "orderId": order["id"], "price": "0.5"},
        {"event": "OrderSpeedUpdated", "list": [speed]},
    ]
    venue.call("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit", trader, {"price": "0.6", "limit": "0.002", **FACTORS})
    assert listener.told() == [
        {"event": "OrderPriceUpdated", "orderId": order["id"], "newPrice": "0.6"},
        {"event": "OrderLimitUpdated", "orderId": order["id"], "newLimit": "0.002"},
        {"event": "OrderSpeedUpdated", "list": [{**speed, "price": "0.6", "payingSpeed": "0.002"}]},
    ]
    venue.call("POST", f"{ORDER}/{order['id']}/refill", trader, {"amount": "0.01"})
    assert listener.told() == [{"event": "OrderAmountUpdated", "orderId": order["id"], "newAmount": "0.02"}]
    late = subscribed(venue)
    [snapshot] = late.told()
    assert snapshot["list"] == [
        {"orderId": order["id"], "price": "0.6", "payingSpeed": "0.002", "limit": "0.002", "rigsCount": 1}
    ]
    venue.call("DELETE", f"{ORDER}/{order['id']}", trader)
    for client in (listener, late):
        assert client.told() == [{"event": "OrderCancelled", "orderId": order["id"]}]


def test_snapshot_and_changes_add_up_to_the_book(venue: Venue) -> None:
    ask = venue.seller(30_000, 2_500)
    seller = venue.engine.live.orders[ask].account.account_id
    traders = [venue.client() for _ in range(3)]
    venue.order(traders[0], price="0.4")
    listener = subscribed(venue)
    ids = [venue.order(trader, price=f"0.{5 + number}")["id"] for number, trader in enumerate(traders)]
    venue.stage.do(AmendAsk(seller, ask, speed=1_500))
    venue.call("POST", f"{ORDER}/{ids[0]}/updatePriceAndLimit", traders[0], {"price": "0.9", **FACTORS})
    venue.call("DELETE", f"{ORDER}/{ids[2]}", traders[2])
    rows: dict[str, dict[str, str]] = {}
    for message in listener.told():
        match message["event"]:
            case "Snapshot":
                rows = {row["orderId"]: {"price": row["price"], "speed": row["payingSpeed"]} for row in message["list"]}
            case "OrderCreated":
                rows[message["orderId"]] = {"price": message["price"], "speed": "0"}
            case "OrderPriceUpdated":
                rows[message["orderId"]]["price"] = message["newPrice"]
            case "OrderSpeedUpdated":
                for row in message["list"]:
                    rows[row["orderId"]] = {"price": row["price"], "speed": row["payingSpeed"]}
            case "OrderCancelled":
                del rows[message["orderId"]]
    book = venue.call("GET", f"{ORDER}Book", query="algorithm=SHA256")["stats"]["BTC"]["orders"]
    assert rows == {row["id"]: {"price": row["price"], "speed": row["acceptedSpeed"]} for row in book}


def test_a_repeat_is_no_news(venue: Venue) -> None:
    trader = venue.client()
    pool = venue.pool(trader)
    venue.order(trader, pool_id=pool, request_id="r")
    listener = subscribed(venue)
    listener.told()
    venue.order(trader, pool_id=pool, request_id="r")
    assert listener.told() == []


def test_nothing_is_told_before_it_is_durable(venue: Venue) -> None:
    trader = venue.client()
    order = venue.order(trader)
    listener = subscribed(venue)
    listener.told()
    venue.stage.sequencer.held = True
    venue.start("DELETE", f"{ORDER}/{order['id']}", trader)
    assert listener.told() == []
    late = subscribed(venue)
    assert [row["orderId"] for row in late.told()[0]["list"]] == [order["id"]], "it is there as far as anybody may know"
    venue.stage.sequencer.commit()
    assert [message["event"] for message in listener.told()] == ["OrderCancelled"]


def test_candles(venue: Venue) -> None:
    venue.seller(30_000, 1_000)
    venue.order(venue.client())
    venue.wait(60)
    listener = subscribed(venue, "/tradingview/candlesticks/SHA256ASICBOOST/15m")
    candle = {
        "time": 1_795_435_200,
        **dict.fromkeys(("open", "high", "low", "close", "payingPrice"), "0.5"),
        "totalSpeed": "0.001",
        "activeOrders": 1,
        "numberOfRigs": 1,
    }
    assert listener.told() == [[candle]]
    venue.wait(60)
    assert listener.told() == [[candle]]


def test_a_client_that_leaves_is_told_nothing(venue: Venue) -> None:
    listener = subscribed(venue)
    listener.told()
    listener.send("UNSUBSCRIBE", id="1", receipt="r2")
    assert listener.take() == "RECEIPT\nreceipt-id:r2\n\n\0"
    assert len(venue.service.feed) == 0
    other = subscribed(venue)
    other.told()
    other.send("DISCONNECT", receipt="r3")
    assert other.take() == "RECEIPT\nreceipt-id:r3\n\n\0"
    assert other.ended
    gone = subscribed(venue)
    gone.session.closed()
    gone.session.closed()
    assert len(venue.service.feed) == 0


@pytest.mark.parametrize("again", [ORDERS, ORDERS.replace("BTC", "EU_N"), ORDERS.replace("SHA256ASICBOOST", "sha256") + "/"])
def test_a_connection_subscribes_to_a_thing_once_however_it_is_spelled(venue: Venue, again: str) -> None:
    listener = subscribed(venue, again)
    assert len(listener.told()) == 1
    listener.send("UNSUBSCRIBE", id="1")
    listener.send("SUBSCRIBE", id="2", destination=ORDERS)
    assert len(listener.told()) == 1
    listener.send("SUBSCRIBE", id="3", destination=again)
    assert listener.failed() == "a connection subscribes to a thing once"
    assert len(venue.service.feed) == 0


def test_a_message_says_what_it_answers_as_the_client_wrote_it(venue: Venue) -> None:
    listener = Client(venue.service.feed).connect()
    destination = ORDERS.replace("SHA256ASICBOOST", "sha256")
    listener.send("SUBSCRIBE", id="a\\cb", destination=destination)
    content = b'{"event":"Snapshot","list":[]}'
    head = f"MESSAGE\ncontent-type:application/json\ndestination:{destination}\nsubscription:a\\cb\n"
    assert listener.frames == [f"{head}message-id:1\ncontent-length:{len(content)}\n\n".encode() + content + b"\0"]


@pytest.mark.parametrize(
    "destination",
    [
        "",
        "/tradingview/order-changes/X11/BTC",
        "/tradingview/order-changes/SHA256ASICBOOST/MOON",
        "/tradingview/order-changes/SHA256ASICBOOST",
        "/tradingview/candlesticks/SHA256ASICBOOST/2m",
        "/tradingview/gossip/SHA256ASICBOOST/BTC",
        "/elsewhere/order-changes/SHA256ASICBOOST/BTC",
    ],
)
def test_destinations_that_are_not_there(venue: Venue, destination: str) -> None:
    client = Client(venue.service.feed).connect()
    client.send("SUBSCRIBE", id="1", destination=destination)
    assert "there is nothing at" in client.failed()


def test_what_ends_a_connection(venue: Venue) -> None:
    def client() -> Client:
        return Client(venue.service.feed).connect()

    one = Client(venue.service.feed)
    one.send("SUBSCRIBE", id="1", destination=ORDERS)
    assert one.failed() == "connect first"
    one = Client(venue.service.feed)
    one.send("CONNECT", accept_version="1.0,1.1")
    assert "version 1.2" in one.failed()
    one = client()
    one.send("CONNECT", accept_version="1.2")
    assert "connect once" in one.failed()
    one = client()
    one.send("SUBSCRIBE", destination=ORDERS)
    assert "id of its own" in one.failed()
    one = subscribed(venue)
    one.told()
    one.send("SUBSCRIBE", id="1", destination=ORDERS)
    assert "id of its own" in one.failed()
    one = client()
    one.send("SEND", destination=ORDERS)
    assert one.failed().startswith("this feed takes")
    one = client()
    one.session.receive(b"SUBSCRIBE\nid:1\n")
    assert "whole STOMP frame" in one.failed()
    one = client()
    one.session.receive(b"x" * (MESSAGE_BYTES_MAX + 1))
    assert "at most 4096 bytes" in one.failed()
    assert len(venue.service.feed) == 0


def test_heartbeats_are_no_mistake(venue: Venue) -> None:
    client = Client(venue.service.feed).connect()
    client.session.receive(b"\n")
    assert not client.ended


def test_subscriptions_are_bounded(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stomp, "SUBSCRIPTIONS_MAX", 2)
    monkeypatch.setattr(stomp, "SUBSCRIBERS_MAX", 3)
    client = Client(venue.service.feed).connect()
    for number in range(2):
        client.send("SUBSCRIBE", id=str(number), destination=f"/tradingview/candlesticks/SHA256/{('15m', '1h')[number]}")
        client.told()
    other = Client(venue.service.feed).connect()
    other.send("SUBSCRIBE", id="1", destination=ORDERS)
    other.told()
    third = Client(venue.service.feed).connect()
    third.send("SUBSCRIBE", id="1", destination=ORDERS)
    assert "the feed has at most 3" in third.failed()
    client.send("SUBSCRIBE", id="9", destination=ORDERS)
    assert "a connection has at most 2" in client.failed()


def test_a_snapshot_is_bounded(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stomp, "SNAPSHOT_ORDERS_MAX", 2)
    trader = venue.client()
    ids = [venue.order(trader, price=f"0.{digit}")["id"] for digit in (4, 6, 5)]
    [snapshot] = subscribed(venue).told()
    assert [row["orderId"] for row in snapshot["list"]] == [ids[1], ids[2]]


def test_a_subscription_costs_requests_by_the_length_of_its_first_message(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stomp, "ROWS_PER_TOKEN", 2)
    trader = venue.client()
    for digit in (4, 6, 5):
        venue.order(trader, price=f"0.{digit}")
    client = Client(venue.service.feed, tokens=8).connect()
    for number, left in enumerate((5, 2)):
        client.send("SUBSCRIBE", id=str(number), destination=ORDERS)
        assert client.tokens == left
        client.send("UNSUBSCRIBE", id=str(number))
    client.frames.clear()
    client.send("SUBSCRIBE", id="9", destination=ORDERS)
    assert client.failed() == stomp.BROKE
    assert len(venue.service.feed) == 0


def test_a_message_costs_a_request_whatever_it_is() -> None:
    client = Client(Feed(Catalog({}), History()), tokens=2).connect()
    client.session.receive(b"\n" * 4_096)
    assert not client.ended
    client.session.receive(b"\n")
    assert client.failed() == stomp.BROKE


@given(st.binary(max_size=300))
def test_any_bytes_end_in_frames_or_an_error(content: bytes) -> None:
    client = Client(Feed(Catalog({}), History()))
    client.session.receive(content)
    client.session.receive(b"CONNECT\naccept-version:1.2\n\n\0" + content)
    assert len(client.frames) <= 400
