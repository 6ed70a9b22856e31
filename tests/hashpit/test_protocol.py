"""The client's half of the protocol, fed frames by hand."""

from typing import Any

import msgspec
import pytest

from gateway.wire import ChannelMessage, ErrorCode, Heartbeat, PlaceParams, TickerView
from hashpit.errors import Denied, LoginFailed, NotSent, ProtocolError, RateLimited, Rejected, refused
from hashpit.protocol import CALLS_MAX, CodecName, Gap, Protocol

HELLO = {
    "server": "hashpit",
    "version": "0",
    "epoch": "e1",
    "connection": "c1",
    "challenge": "00" * 32,
    "ts_us": 1,
    "frame_bytes_max": 65536,
    "heartbeat_ms": 5000,
    "idle_ms": 60000,
}
BALANCE = {
    "account": 100,
    "name": "n",
    "balance": "1",
    "held": "0",
    "available": "1",
    "positions": "0",
}
EMPTY = {"balance": BALANCE, "positions": [], "orders": [], "deliveries": []}
DEPOSIT = {
    "event": "balance",
    "amount": "1",
    "reason": "deposit",
    "transfer_id": "t",
    "balance": "1",
    "held": "0",
}


class Wire:
    """Speaks to a Protocol as a server would."""

    def __init__(self, codec: CodecName = "json") -> None:
        self.protocol = Protocol(codec)
        self.format: Any = msgspec.msgpack if codec == "msgpack" else msgspec.json

    def say(self, message: dict[str, Any]) -> list[Any]:
        payload = self.format.encode({"jsonrpc": "2.0", **message})
        return self.protocol.receive(payload if self.protocol.binary else payload.decode())

    def hello(self, **changes: Any) -> None:
        self.say({"method": "hello", "params": HELLO | changes})

    def publish(self, channel: str, kind: str, seq: int, prev_seq: int, data: Any) -> list[Any]:
        message = {
            "channel": channel,
            "type": kind,
            "seq": seq,
            "prev_seq": prev_seq,
            "ts_us": 1,
            "data": data,
        }
        return self.say({"method": "subscription", "params": message})

    def account(self, seq: int, prev_seq: int | None = None) -> list[Any]:
        return self.publish("account", "event", seq, seq - 1 if prev_seq is None else prev_seq, DEPOSIT)

    def heartbeat(self, **channels: int) -> list[Any]:
        return self.say({"method": "heartbeat", "params": {"ts_us": 1, "channels": channels}})


@pytest.fixture
def wire() -> Wire:
    wire = Wire()
    wire.hello()
    return wire


@pytest.fixture
def subscribed(wire: Wire) -> Wire:
    """Wants the account channel, and has its snapshot at 5."""
    wire.protocol.want("account")
    wire.publish("account", "snapshot", 5, 5, EMPTY)
    return wire


# --- Calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_an_answer_finds_its_call(codec: CodecName) -> None:
    wire = Wire(codec)
    wire.hello()
    first, _ = wire.protocol.call("time")
    second, frame = wire.protocol.call("markets")
    assert wire.format.decode(frame) == {"jsonrpc": "2.0", "id": second, "method": "markets"}
    budget = {"orders": 1, "cancels": 2, "requests": 3}
    (answer,) = wire.say({"id": second, "result": [1, 2], "budget": budget})
    assert (answer.id, answer.error) == (second, None)
    assert wire.protocol.decode(answer.result, list[int]) == [1, 2]
    assert wire.protocol.budget is not None
    assert wire.protocol.budget.requests == 3
    (answer,) = wire.say({"id": first, "error": {"code": 1405, "message": "no", "data": {"reason": "funds"}}})
    assert answer.error.data.reason == "funds"


def test_parameters_that_are_not_given_are_not_sent(wire: Wire) -> None:
    _, frame = wire.protocol.call("place", PlaceParams("M", "buy", "1", client_order_id="c"))
    params = msgspec.json.decode(frame)["params"]
    assert "price" not in params
    assert params["client_order_id"] == "c"


def test_a_late_answer_is_dropped(wire: Wire) -> None:
    number, _ = wire.protocol.call("time")
    wire.protocol.forget(number)
    assert wire.say({"id": number, "result": 1}) == []


def test_a_cut_tells_which_calls_are_lost(wire: Wire) -> None:
    calls = [wire.protocol.call("time")[0] for _ in range(3)]
    wire.say({"id": calls[1], "result": 1})
    assert wire.protocol.disconnected() == [calls[0], calls[2]]
    assert wire.protocol.disconnected() == []


def test_calls_that_wait_are_bounded(wire: Wire) -> None:
    numbers = [wire.protocol.call("time")[0] for _ in range(CALLS_MAX)]
    with pytest.raises(NotSent, match=str(CALLS_MAX)):
        wire.protocol.call("time")
    wire.say({"id": numbers[0], "result": 1})
    wire.protocol.call("time")


@pytest.mark.parametrize(
    "payload",
    ["", "[]", "{", "1", '{"id": null, "error": {"code": 1, "message": "m", "data": {"reason": "r"}}}', b"{}"],
)
def test_what_is_not_of_the_protocol_is_an_error(wire: Wire, payload: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.protocol.receive(payload)


def test_a_text_frame_on_a_binary_connection_is_an_error() -> None:
    with pytest.raises(ProtocolError, match="text frame"):
        Protocol("msgpack").receive("{}")


def test_an_unknown_announcement_is_ignored(wire: Wire) -> None:
    assert wire.say({"method": "weather", "params": {"sun": True}}) == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1405, Rejected),
        (ErrorCode.LOGIN_FAILED, LoginFailed),
        (ErrorCode.RATE_LIMITED, RateLimited),
        (ErrorCode.TOO_OLD, Denied),
        (-1, Denied),
    ],
)
def test_refusals_are_told_apart_by_their_code(wire: Wire, code: int, kind: type) -> None:
    number, _ = wire.protocol.call("place")
    error = {"code": code, "message": "no", "data": {"reason": "r", "retry_after_ms": 250, "more": 1}}
    (answer,) = wire.say({"id": number, "error": error})
    exception = refused(answer.error)
    assert type(exception) is kind
    if isinstance(exception, RateLimited):
        assert exception.retry_after_s == 0.25


# --- Channels ---------------------------------------------------------------------------------------------------


def test_messages_are_typed_and_in_order(subscribed: Wire) -> None:
    (message,) = subscribed.account(6)
    assert isinstance(message, ChannelMessage)
    assert message.data.transfer_id == "t"
    assert subscribed.protocol.last_seq("account") == 6


def test_a_channel_nobody_wants_is_dropped(wire: Wire) -> None:
    assert wire.account(1) == []
    wire.protocol.want("account")
    wire.protocol.unwant("account")
    assert wire.account(1) == []


def test_nothing_passes_before_the_snapshot(wire: Wire) -> None:
    assert wire.protocol.want("account")
    assert not wire.protocol.want("account"), "once is enough"
    assert wire.account(5) == []


def test_repeats_are_dropped(subscribed: Wire) -> None:
    assert len(subscribed.account(6)) == 1
    assert subscribed.account(6) == []
    assert subscribed.account(5) == []


def test_a_gap_is_told_once_and_resumed_from_the_last_number(subscribed: Wire) -> None:
    (gap,) = subscribed.account(8)
    assert isinstance(gap, Gap)
    assert (gap.method, msgspec.to_builtins(gap.params)) == ("resume", {"epoch": "e1", "account_seq": 5})
    assert subscribed.account(9) == [], "nothing passes, and it is not told again"
    assert [len(subscribed.account(seq)) for seq in (6, 7, 8, 9)] == [1, 1, 1, 1]


def test_a_gap_in_a_public_channel_asks_for_a_snapshot(wire: Wire) -> None:
    wire.protocol.want("trades.M")
    wire.publish("trades.M", "snapshot", 3, 3, [])
    (gap,) = wire.publish("trades.M", "event", 5, 4, [])
    assert (gap.method, gap.params.channel) == ("resync", "trades.M")
    assert "5 follows 4, 3 came last" in gap.why
    assert len(wire.publish("trades.M", "snapshot", 5, 5, [])) == 1
    assert len(wire.publish("trades.M", "event", 6, 5, [])) == 1


def test_a_heartbeat_finds_a_lost_tail(subscribed: Wire) -> None:
    happenings = subscribed.heartbeat(account=5, other=9)
    assert [type(happening) for happening in happenings] == [Heartbeat]
    _, gap = subscribed.heartbeat(account=6)
    assert isinstance(gap, Gap)
    assert len(subscribed.heartbeat(account=6)) == 1, "it is being mended"


def test_snapshots_may_skip_numbers(wire: Wire) -> None:
    """Each message of a ticker replaces the one before."""
    wire.protocol.want("ticker.M")
    ticker = msgspec.to_builtins(TickerView("M", None, None, None, None, None, "0", None, None, 0))
    assert len(wire.publish("ticker.M", "snapshot", 1, 0, ticker)) == 1
    assert len(wire.publish("ticker.M", "snapshot", 9, 8, ticker)) == 1


def test_data_of_the_wrong_shape_is_an_error(subscribed: Wire) -> None:
    with pytest.raises(ProtocolError):
        subscribed.publish("account", "event", 6, 5, {"event": "balance"})


def test_a_market_that_is_gone_closes_its_channel(wire: Wire) -> None:
    wire.protocol.want("trades.M")
    wire.publish("trades.M", "snapshot", 1, 1, [])
    (message,) = wire.publish("trades.M", "event", 2, 1, {"event": "closed", "reason": "settled"})
    assert message.data.reason == "settled"


# --- Reconnects -------------------------------------------------------------------------------------------------


def test_the_account_is_resumed_and_the_rest_subscribed_again(subscribed: Wire) -> None:
    subscribed.protocol.want("trades.M")
    subscribed.publish("trades.M", "snapshot", 3, 3, [])
    subscribed.protocol.disconnected()
    subscribed.hello(connection="c2")
    calls = subscribed.protocol.restore()
    assert [(method, msgspec.to_builtins(params)) for method, params in calls] == [
        ("resume", {"epoch": "e1", "account_seq": 5}),
        ("subscribe", {"channels": ["trades.M"]}),
    ]
    assert subscribed.account(5) == [], "no repeat"
    assert len(subscribed.account(6)) == 1, "no gap"
    assert subscribed.publish("trades.M", "event", 4, 3, []) == [], "public numbers start anew"
    assert len(subscribed.publish("trades.M", "snapshot", 1, 1, [])) == 1


def test_a_resume_that_comes_too_late_starts_over(subscribed: Wire) -> None:
    subscribed.protocol.disconnected()
    subscribed.hello()
    subscribed.protocol.restore()
    assert subscribed.protocol.start_over().channels == ["account"]
    assert subscribed.account(900) == []
    assert len(subscribed.publish("account", "snapshot", 900, 900, EMPTY)) == 1
    assert len(subscribed.account(901)) == 1


def test_another_journal_makes_the_numbers_void(subscribed: Wire) -> None:
    subscribed.protocol.disconnected()
    subscribed.hello(epoch="e2")
    ((method, params),) = subscribed.protocol.restore()
    assert (method, msgspec.to_builtins(params)) == ("subscribe", {"channels": ["account"]})
    assert subscribed.account(6) == []


def test_a_cut_before_the_first_snapshot_subscribes_again(wire: Wire) -> None:
    wire.protocol.want("account")
    wire.protocol.disconnected()
    wire.hello()
    assert [method for method, _ in wire.protocol.restore()] == ["subscribe"]
