"""Well-framed messages that nobody should send, each with what a good server answers: which codes, naming which field.

A :class:`Case` is one message. Most are made out of a correct call by breaking one thing about it, so that the field at fault
is known.
"""

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final, NamedTuple

import msgspec

from gateway.wire import BATCH_MAX, ErrorCode

PARSE: Final = frozenset({ErrorCode.PARSE})
BAD_REQUEST: Final = frozenset({ErrorCode.INVALID_REQUEST})
UNREADABLE: Final = frozenset({ErrorCode.PARSE, ErrorCode.INVALID_REQUEST})
BAD_PARAMS: Final = frozenset({ErrorCode.INVALID_PARAMS})
UNKNOWN: Final = frozenset({ErrorCode.METHOD_UNKNOWN})
NO_LOGIN: Final = frozenset({ErrorCode.LOGIN_REQUIRED})
NO_PERMISSION: Final = frozenset({ErrorCode.PERMISSION})
LOGIN_REFUSED: Final = frozenset({ErrorCode.LOGIN_FAILED, ErrorCode.RATE_LIMITED})


class Case(NamedTuple):
    """One message, and the error that has to answer it."""

    payload: bytes
    codes: frozenset[int]
    field: str | None = None
    """Where the fault is; None when nothing in particular is."""
    id: str | int | None = None
    """The id that the answer has to carry."""


PLACE: Final[dict[str, Any]] = {
    "market": "SHA256-20990101",
    "side": "buy",
    "qty": "0.001",
    "price": "0.00050000",
    "type": "limit",
    "time_in_force": "gtc",
    "post_only": "off",
    "reduce_only": False,
    "self_trade_prevention": "none",
    "expires_us": 4_000_000_000_000_000,
    "client_order_id": "abc",
    "deadline_us": 4_000_000_000_000_000,
}
CORRECT: Final[dict[str, dict[str, Any]]] = {
    "book": {"market": "SHA256-20990101", "depth": 10},
    "trades": {"market": "SHA256-20990101", "limit": 10},
    "login": {"key": "k-0123456789abcdef", "timestamp_us": 1_700_000_000_000_000, "signature": "ab" * 64},
    "live.book": {"market": "SHA256-LIVE", "depth": 10},
    "subscribe": {"channels": ["status"]},
    "resync": {"channel": "status"},
}
"""Public methods with parameters, and correct ones."""
PRIVATE: Final[dict[str, dict[str, Any]]] = {
    "logout": {},
    "resume": {"epoch": "0" * 32, "account_seq": 0},
    "place": {"market": "SHA256-20990101", "side": "buy", "qty": "0.001", "price": "0.00050000"},
    "amend": {"order_id": 1, "qty": "0.001"},
    "cancel": {"order_id": 1},
    "cancel_all": {},
    "order": {"order_id": 1},
    "orders": {},
    "balances": {},
    "positions": {},
    "deliveries": {},
    "fills": {},
    "set_destination": {"market": "SHA256-20990101", "url": "stratum+tcp://pool.example:3333", "worker": "w"},
    "withdraw": {"amount": "1.0", "transfer_id": "w1"},
    "live.place_bid": {
        "market": "SHA256-LIVE",
        "price": "0.0005",
        "budget": "0.01",
        "url": "stratum+tcp://pool.example:3333",
        "worker": "w",
    },
    "live.place_ask": {"market": "SHA256-LIVE", "price": "0.0005", "speed": "1"},
    "live.amend_bid": {"order_id": 1, "price": "0.0005"},
    "live.amend_ask": {"order_id": 1, "price": "0.0005"},
    "live.refill": {"order_id": 1, "amount": "0.01", "refill_id": "r1"},
    "live.orders": {},
    "live.flows": {},
    "pool.save": {"name": "p", "algorithm": "SHA256", "url": "stratum+tcp://pool.example:3333", "worker": "w"},
    "pool.delete": {"pool_id": 1},
    "pools": {},
    "report_flow": {"flow_id": 1, "hashes": "1"},
    "list_live_market": {"algorithm": "SHA256"},
    "set_index": {"market": "SHA256-LIVE", "price": "0.0005"},
    "report_work": {"delivery_id": 1, "hashes": "1", "shares": 1},
    "create_account": {"name": "mallory"},
    "deposit": {"account": 100, "amount": "1.0", "transfer_id": "d1"},
    "list_market": {"algorithm": "SHA256", "start_us": 4_000_000_000_000_000, "length_s": 86_400, "reference_price": "0.0005"},
    "set_market_state": {"market": "SHA256-20990101", "state": "closed"},
    "settle": {"market": "SHA256-20990101"},
    "account_cancel_all": {"account": 100},
    "keys": {},
    "add_key": {"account": 1, "permissions": ["admin"], "public_key": "ab" * 32},
    "revoke_key": {"key": "k-0123456789abcdef"},
}
READ_METHODS: Final = frozenset(
    {
        *("logout", "resume", "order", "orders", "balances", "positions", "deliveries", "fills"),
        *("live.orders", "live.flows", "pools"),
    }
)
"""What a key that may only read may call."""

WRONG_TEXT: Final[list[Any]] = [0, 1, -1, 1.5, 2**63, True, [], {}, ["x"], {"a": 1}, "", "x" * 300, None]
WRONG_NUMBER: Final[list[Any]] = ["", "1", 1.5, True, [], {}, 2**70, -(2**70), -1, 10**300, None, "NaN"]
WRONG_LIST: Final[list[Any]] = [None, 1, "status", {}, [], [1], [None], [[]], ["x" * 100], ["status"] * 101, True]
NOT_DECIMAL: Final = ["NaN", "Infinity", "-1", "+1", "1e5", "1E-3", "0x10", " 1", "1 ", "1.", ".5", "1_000", "１", "1,5"]
NOT_DECIMAL_EITHER: Final = ["0.000000001", "99999999999999999999999999", "1" * 27, "1.5.5", "--1", "\u0661", "1\u0000", "١٢"]


def call(method: Any, params: Any, number: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


# ------------------------------------------------------------------------------------------------------------ generators


def wrong_type(rng: Random, number: int) -> Case:
    """One parameter of another type, or far out of its range."""
    method = rng.choice([*CORRECT])
    params: dict[str, Any] = dict(CORRECT[method])
    name = rng.choice([*params])
    right = params[name]
    choices = WRONG_NUMBER if isinstance(right, int) else WRONG_LIST if isinstance(right, list) else WRONG_TEXT
    params[name] = rng.choice(choices)
    # An empty channel name is no wrong type, there is just no such channel.
    return Case(call(method, params, number), BAD_PARAMS | {ErrorCode.CHANNEL_UNKNOWN}, f"params.{name}", number)


def unknown_field(rng: Random, number: int) -> Case:
    method = rng.choice([*CORRECT])
    name = rng.choice(["pirce", "x", "Market", "market ", "__proto__", "\u202eprice", "a" * 40])
    return Case(call(method, {**CORRECT[method], name: 1}, number), BAD_PARAMS, f"params.{name}", number)


def missing_field(rng: Random, number: int) -> Case:
    method = rng.choice(["login", "subscribe", "resync", "book"])
    params = dict(CORRECT[method])
    name = rng.choice([name for name in params if name != "depth"])
    del params[name]
    return Case(call(method, params, number), BAD_PARAMS, f"params.{name}", number)


def wrong_params(rng: Random, number: int) -> Case:
    """Parameters that are no object."""
    params: Any = rng.choice([None, 1, "x", [1], [[]], True, 1e300])
    return Case(call("book", params, number), BAD_PARAMS, "params", number)


def wrong_envelope(rng: Random, number: int) -> Case:
    """A JSON-RPC object that is not one."""
    good: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": "time"}
    name, value = rng.choice(
        [
            ("jsonrpc", "1.0"),
            ("jsonrpc", 2.0),
            ("jsonrpc", None),
            ("method", 1),
            ("method", None),
            ("method", "m" * 65),
            ("method", ["time"]),
            ("extra", 1),
            ("auth", {"key": "x"}),
        ]
    )
    return Case(json.dumps({**good, name: value}).encode(), BAD_REQUEST, name, number)


def wrong_id(rng: Random, number: int) -> Case:
    value: Any = rng.choice([None, 1.5, True, [], {}, 2**53 + 1, -(2**53) - 1, "i" * 65, 10**400])
    return Case(json.dumps({"jsonrpc": "2.0", "id": value, "method": "time"}).encode(), UNREADABLE, "id")


def notification(rng: Random, number: int) -> Case:
    """A call without an id: this protocol answers everything, so it needs one."""
    return Case(b'{"jsonrpc":"2.0","method":"time"}', BAD_REQUEST, "id")


def repeated_key(rng: Random, number: int) -> Case:
    """Two values under one name, in plain or in disguise."""
    name = rng.choice(["market", "depth", "mark\\u0065t"])
    text = (
        f'{{"jsonrpc":"2.0","id":{number},"method":"book","params":'
        f'{{"market":"SHA256-20990101","depth":1,"{name}":{"2" if name == "depth" else chr(34) + "x" + chr(34)}}}}}'
    )
    return Case(text.encode(), UNREADABLE | BAD_PARAMS, f"params.{'depth' if name == 'depth' else 'market'}", number)


def repeated_envelope_key(rng: Random, number: int) -> Case:
    name = rng.choice(["method", "jsonrpc"])
    value = "time" if name == "method" else "2.0"
    text = f'{{"jsonrpc":"2.0","id":{number},"method":"time","{name}":"{value}"}}'
    return Case(text.encode(), UNREADABLE, name, number)


def not_json(rng: Random, number: int) -> Case:
    """Bytes that no JSON parser takes, or whole values that are no call."""
    payload = rng.choice(
        [
            b"",
            b" ",
            b"{",
            b"}",
            b"[",
            b"]",
            b"nul",
            b"{]",
            b'{"a":}',
            b'{"a":1,}',
            b"{'a':1}",
            b"\x00",
            b"\x00" * 100,
            b"GET / HTTP/1.1\r\n\r\n",
            b'{"jsonrpc":"2.0","id":NaN,"method":"time"}',
            b'{"jsonrpc":"2.0","id":1,"method":"time","params":Infinity}',
            b'{"jsonrpc":"2.0","id":1,"method":"time","params":{"a":-Infinity}}',
            b'{"jsonrpc":"2.0","id":01,"method":"time"}',
            b'{"jsonrpc":"2.0","id":1,"method":"time"} {"jsonrpc":"2.0","id":2,"method":"time"}',
            b'"\\ud800"',
            b'"\\u12"',
            b"\xef\xbb\xbf{}",
            b"1",
            b"null",
            b"true",
            b'"time"',
            b"1e999",
            b"-",
            rng.randbytes(rng.randint(1, 200)).translate(_ASCII),
        ]
    )
    return Case(payload, UNREADABLE)


def deep(rng: Random, number: int) -> Case:
    """Nested deeper than any parser's stack."""
    depth = rng.choice([200, 2_000, 20_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    nest = opening * depth + b"1" + (closing * depth if rng.random() < 0.7 else b"")
    payload = nest if rng.random() < 0.5 else b'{"jsonrpc":"2.0","id":1,"method":"book","params":' + nest + b"}"
    return Case(payload[:65_536], UNREADABLE | BAD_PARAMS, "*")


def giant(rng: Random, number: int) -> Case:
    """Texts and numbers as long as a frame."""
    size = rng.choice([1_000, 10_000, 60_000])
    name, value = rng.choice([("market", "A" * size), ("market", "\u00e9" * (size // 8)), ("depth", 10 ** min(size, 4_000))])
    return Case(call("book", {"market": "SHA256-20990101", name: value}, number)[:65_536], BAD_PARAMS, f"params.{name}", number)


def unknown_method(rng: Random, number: int) -> Case:
    name = rng.choice(["", "Time", "time ", "rpc.discover", "__class__", "place\u0000", "eval", "login;drop", "\U0001f4a9" * 8])
    return Case(call(name, {}, number), UNKNOWN, "method", number)


def unauthorised(rng: Random, number: int) -> Case:
    """Correct calls by somebody who is not logged in."""
    method = rng.choice([*PRIVATE])
    return Case(call(method, PRIVATE[method], number), NO_LOGIN, None, number)


def account_channel(rng: Random, number: int) -> Case:
    channels = ["status", "account"] if rng.random() < 0.5 else ["account"]
    return Case(call("subscribe", {"channels": channels}, number), NO_LOGIN, f"params.channels[{len(channels) - 1}]", number)


def unknown_channel(rng: Random, number: int) -> Case:
    name = rng.choice(["book", "book.", "book.X.100ms", "trades.\u0000", "account.100", "*", "x" * 80, "ticker.SHA256"])
    codes = frozenset({ErrorCode.CHANNEL_UNKNOWN})
    return Case(call("subscribe", {"channels": [name]}, number), codes, "params.channels[0]", number)


def unknown_market(rng: Random, number: int) -> Case:
    method = rng.choice(["book", "trades"])
    params = {"market": rng.choice(["X", "\u0000", "SHA256-20990101"])}
    return Case(call(method, params, number), frozenset({1101}), "params.market", number)


def brute_force(rng: Random, number: int) -> Case:
    """A login with a guessed signature, now and then of a key that was tried before."""
    params = {
        "key": f"k-{rng.randint(0, 50):016x}",
        "timestamp_us": rng.choice([1, 1_700_000_000_000_000, 2**53]),
        "signature": rng.randbytes(rng.choice([32, 64, 50])).hex(),
    }
    return Case(call("login", params, number), LOGIN_REFUSED, "*", number)


def bad_batch(rng: Random, number: int) -> Case:
    """A batch that is refused as a whole."""
    one = b'{"jsonrpc":"2.0","id":1,"method":"time"}'
    payload = rng.choice([b"[]", b" [ ] ", b"[" + b",".join([one] * (BATCH_MAX + 1)) + b"]", b"[" + b"1," * 20_000 + b"1]"])
    return Case(payload, BAD_REQUEST)


ANONYMOUS: Final[list[Callable[[Random, int], Case]]] = [
    *[wrong_type] * 4,
    *[unknown_field] * 2,
    missing_field,
    wrong_params,
    *[wrong_envelope] * 2,
    wrong_id,
    notification,
    *[repeated_key] * 2,
    repeated_envelope_key,
    *[not_json] * 3,
    deep,
    giant,
    unknown_method,
    *[unauthorised] * 3,
    account_channel,
    unknown_channel,
    unknown_market,
    brute_force,
    bad_batch,
]
"""What somebody without a key sends."""


# ------------------------------------------------------------------------------------------------------------- logged in


def place_wrong_type(rng: Random, number: int) -> Case:
    params = dict(PLACE)
    name = rng.choice([*params])
    right = params[name]
    if isinstance(right, bool):
        params[name] = rng.choice([0, 1, "true", None, [], {}, 1.5])
    elif isinstance(right, int):
        params[name] = rng.choice([value for value in WRONG_NUMBER if value is not None])
    else:
        optional = name in ("price", "time_in_force", "client_order_id")
        params[name] = rng.choice([value for value in WRONG_TEXT if not (optional and value is None)])
    return Case(call("place", params, number), BAD_PARAMS, f"params.{name}", number)


def place_not_decimal(market: str) -> Callable[[Random, int], Case]:
    def make(rng: Random, number: int) -> Case:
        name = rng.choice(["price", "qty"])
        text = rng.choice(NOT_DECIMAL + NOT_DECIMAL_EITHER)
        params = {"market": market, "side": "buy", "qty": "0.001", "price": "0.00050000", name: text}
        return Case(call("place", params, number), BAD_PARAMS, f"params.{name}", number)

    return make


def place_out_of_bounds(market: str) -> Callable[[Random, int], Case]:
    """Correct numbers that the engine refuses, naming field and bound."""

    def make(rng: Random, number: int) -> Case:
        choices: list[tuple[int, str, dict[str, Any]]] = [
            (1205, "price", {"price": "0"}),
            (1206, "price", {"price": "9999.0"}),
            (1207, "qty", {"qty": "0"}),
            (1208, "qty", {"qty": "99999999999"}),
            (1203, "expires_us", {"time_in_force": "gtd"}),
            (1203, "expires_us", {"time_in_force": "gtd", "expires_us": 1}),
            (1201, "time_in_force", {"type": "market", "time_in_force": "gtc", "price": None}),
            (1202, "post_only", {"post_only": "reject", "time_in_force": "ioc"}),
            (1403, "reduce_only", {"reduce_only": True}),
            (1006, "deadline_us", {"deadline_us": 1}),
            (1101, "market", {"market": "SHA256-20990101"}),
        ]
        code, name, params = rng.choice(choices)
        good: dict[str, Any] = {"market": market, "side": "buy", "qty": "0.001", "price": "0.00050000"}
        return Case(call("place", {**good, **params}, number), frozenset({code}), f"params.{name}", number)

    return make


def not_permitted(rng: Random, number: int) -> Case:
    """Correct calls with a key that may only read."""
    method = rng.choice([name for name in PRIVATE if name not in READ_METHODS])
    return Case(call(method, PRIVATE[method], number), NO_PERMISSION, None, number)


def order_reference(rng: Random, number: int) -> Case:
    """None of the two names of an order, or both."""
    method = rng.choice(["cancel", "amend", "order"])
    params = rng.choice([{}, {"order_id": 1, "client_order_id": "a"}])
    return Case(call(method, params, number), BAD_PARAMS, "params.order_id", number)


def trader_cases(market: str) -> list[Callable[[Random, int], Case]]:
    """What somebody with a trading key sends, to a market that is listed."""
    return [*[place_wrong_type] * 4, *[place_not_decimal(market)] * 3, *[place_out_of_bounds(market)] * 3, order_reference]


# ------------------------------------------------------------------------------------------------------------ MessagePack


def msgpack_cases(rng: Random, number: int) -> Case:
    """The same kind of trouble in the other encoding."""
    good: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": "book"}
    encode = msgspec.msgpack.encode
    draw = rng.randrange(9)
    name: str
    value: Any
    if draw == 0:
        return Case(rng.choice([b"", b"\xc1", b"\xc0", b"\x93\x01", b"\xd9\xff", b"\xdf\xff\xff\xff\xff"]), UNREADABLE, "*")
    if draw == 1:  # declares gigabytes
        head = rng.choice([b"\xdd\xff", b"\xc6\xff", b"\xdb\xff", b"\xc9\x7f", b"\xdf\x7f"])
        return Case(head + b"\xff\xff\xff" + rng.randbytes(20), UNREADABLE, "*")
    if draw == 2:
        return Case(b"\x91" * rng.choice([500, 50_000]), UNREADABLE, "*")
    if draw == 3:
        name, value = rng.choice([("market", b"bytes"), ("market", 1), ("depth", 1.5), ("depth", -1), ("depth", 2**63)])
        return Case(encode({**good, "params": {"market": "X", name: value}}), BAD_PARAMS, f"params.{name}", number)
    if draw == 4:
        return Case(encode({**good, "params": {"market": "X", "x": 1}}), BAD_PARAMS, "params.x", number)
    if draw == 5:  # a key twice
        return Case(b"\x84" + encode({**good})[1:] + encode("method") + encode("time"), UNREADABLE, "*", number)
    if draw == 6:  # text that is not UTF-8
        return Case(b"\x83" + encode(good)[1:].replace(b"book", b"bo\xffk"), UNREADABLE, "*")
    if draw == 7:  # an extension type
        return Case(encode({**good, "params": {"market": msgspec.msgpack.Ext(5, b"x")}}), BAD_PARAMS, "*", number)
    method = rng.choice([*PRIVATE])
    return Case(encode({**good, "method": method, "params": PRIVATE[method]}), NO_LOGIN, None, number)


# ------------------------------------------------------------------------------------------------------------------ checks


def fault_of(case: Case, answer: Any) -> str:
    """What is wrong with ``answer`` as the answer to ``case``; empty when nothing is."""
    if isinstance(answer, list) and len(answer) == 1 and case.payload.startswith(b"["):
        answer = answer[0]  # an array with something in it is a batch, however deep that is
    if not isinstance(answer, dict):
        return "not an object"
    if answer.get("jsonrpc") != "2.0":
        return "no jsonrpc"
    if "id" not in answer or (case.id is not None and answer["id"] != case.id):
        return f"not the id {case.id!r}"
    if "result" in answer or not isinstance(answer.get("error"), dict):
        return "not an error"
    error = answer["error"]
    data = error.get("data")
    if not isinstance(error.get("message"), str) or not error["message"] or not isinstance(data, dict):
        return "no message or data"
    if error.get("code") not in case.codes:
        return f"code {error.get('code')}, not {sorted(case.codes)}"
    if not isinstance(data.get("reason"), str) or not data["reason"]:
        return "no reason"
    if len(error["message"]) > 1_000:
        return "a message that repeats too much"
    if case.field is None or case.field == "*":
        return ""
    field = data.get("field", "")
    if field != case.field and not field.startswith((f"{case.field}[", f"{case.field}.")):
        return f"field {field!r}, not {case.field!r}"
    return ""


_ASCII: Final = bytes(byte & 0x7F for byte in range(256))


def cases(makers: list[Callable[[Random, int], Case]], rng: Random, count: int) -> Iterator[Case]:
    for number in range(1, count + 1):
        yield rng.choice(makers)(rng, number)
