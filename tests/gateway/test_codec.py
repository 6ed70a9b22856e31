"""Decoding: what is not a call of the protocol is refused with a path, in both encodings, and never crashes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.codec import DETAIL_CHARS_MAX, JSON, MSGPACK, Codec, Malformed, NotUtf8, negotiate
from gateway.wire import (
    SUBPROTOCOL_JSON,
    SUBPROTOCOL_MSGPACK,
    ErrorCode,
    PlaceParams,
    Request,
    SubscribeParams,
    WithdrawParams,
)

PLACE = {"market": "M", "side": "buy", "qty": "1", "price": "2"}
DEEP = 100_000


def envelope(**changes: Any) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 7, "method": "place", "params": PLACE}
    return {name: value for name, value in {**request, **changes}.items() if value != "leave out"}


def pack(codec: Codec, value: Any) -> bytes:
    return msgspec.msgpack.encode(value) if codec.binary else json.dumps(value).encode()


def refused(codec: Codec, payload: bytes) -> Malformed:
    """The refusal of a payload, wherever it fails."""
    try:
        assert codec.batch(payload) is None
        codec.params(codec.request(payload).params, PlaceParams)
    except Malformed as problem:
        return problem
    pytest.fail(f"{payload[:100]!r} was understood")


# --- envelopes ------------------------------------------------------------------------------------------------------

ENVELOPES: list[tuple[dict[str, Any], str, str, Any]] = [
    # changes, field, sentence, id of the answer
    ({"id": "leave out"}, "id", "required", None),
    ({"id": None}, "id", "expected `int | str`, got `null`", None),
    ({"id": 1.5}, "id", "expected `int | str`, got `float`", None),
    ({"id": True}, "id", "expected `int | str`, got `bool`", None),
    ({"id": 2**53 + 1}, "id", "expected `int` <= 9007199254740992", None),
    ({"id": "x" * 65}, "id", "expected `str` of length <= 64", None),
    ({"id": []}, "id", "expected `int | str`, got `array`", None),
    ({"method": "leave out"}, "method", "required", 7),
    ({"method": 5}, "method", "expected `str`, got `int`", 7),
    ({"method": "x" * 65}, "method", "expected `str` of length <= 64", 7),
    ({"jsonrpc": "leave out"}, "jsonrpc", "required", 7),
    ({"jsonrpc": "1.0"}, "jsonrpc", "invalid enum value '1.0'", 7),
    ({"jsonrpc": 2.0}, "jsonrpc", "expected `str`", 7),
    ({"id": "abc", "extra": 1}, "extra", "unknown field", "abc"),
]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize(("changes", "field", "sentence", "request_id"), ENVELOPES)
def test_envelopes(codec: Codec, changes: dict[str, Any], field: str, sentence: str, request_id: Any) -> None:
    problem = refused(codec, pack(codec, envelope(**changes)))
    assert (problem.code, problem.field, problem.request_id) == (ErrorCode.INVALID_REQUEST, field, request_id)
    assert problem.message.startswith(f"{field}: {sentence}")


# --- parameters -----------------------------------------------------------------------------------------------------

PARAMS: list[tuple[Any, str, str]] = [
    ({**PLACE, "qty": 1.5}, "params.qty", "expected `str`, got `float`"),
    ({**PLACE, "qty": 1}, "params.qty", "expected `str`, got `int`"),
    ({**PLACE, "qty": None}, "params.qty", "expected `str`, got `null`"),
    ({**PLACE, "qty": ""}, "params.qty", "expected `str` of length >= 1"),
    ({**PLACE, "qty": "9" * 27}, "params.qty", "expected `str` of length <= 26"),
    ({**PLACE, "side": "up"}, "params.side", "invalid enum value 'up'"),
    ({**PLACE, "side": ["buy"]}, "params.side", "expected `str`"),
    ({**PLACE, "reduce_only": 1}, "params.reduce_only", "expected `bool`, got `int`"),
    ({**PLACE, "expires_us": 10**15 + 0.5}, "params.expires_us", "expected `int | null`, got `float`"),
    ({**PLACE, "expires_us": 0}, "params.expires_us", "expected `int` >= 1"),
    ({**PLACE, "expires_us": 2**63}, "params.expires_us", "expected `int` <= 9007199254740992"),
    ({**PLACE, "client_order_id": "a b"}, "params.client_order_id", "may have only the characters A-Za-z0-9._-"),
    ({**PLACE, "client_order_id": "ab\n"}, "params.client_order_id", "may have only the characters A-Za-z0-9._-"),
    ({**PLACE, "client_order_id": "x" * 37}, "params.client_order_id", "expected `str` of length <= 36"),
    ({**PLACE, "colour": "red"}, "params.colour", "unknown field"),
    ({"market": "M", "side": "buy"}, "params.qty", "required"),
    ([], "params", "expected `object`, got `array`"),
    ("text", "params", "expected `object`, got `str`"),
    (None, "params", "expected `object`, got `null`"),
    (5, "params", "expected `object`, got `int`"),
]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize(("params", "field", "sentence"), PARAMS)
def test_params(codec: Codec, params: Any, field: str, sentence: str) -> None:
    problem = refused(codec, pack(codec, envelope(params=params)))
    assert (problem.code, problem.field) == (ErrorCode.INVALID_PARAMS, field)
    assert problem.message.startswith(f"{field}: {sentence}")


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_the_path_goes_into_lists(codec: Codec) -> None:
    request = codec.request(pack(codec, envelope(params={"channels": ["status", 5]})))
    with pytest.raises(Malformed) as caught:
        codec.params(request.params, SubscribeParams)
    assert caught.value.field == "params.channels[1]"


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
def test_no_params_are_an_empty_object(codec: Codec) -> None:
    request = codec.request(pack(codec, envelope(params="leave out")))
    with pytest.raises(Malformed) as caught:
        codec.params(request.params, WithdrawParams)
    assert caught.value.field == "params.amount"


# --- bytes ----------------------------------------------------------------------------------------------------------

START = b'{"jsonrpc":"2.0","id":7,"method":"place","params":'

JSON_BYTES = [
    (b"", ErrorCode.PARSE, ""),
    (b"  ", ErrorCode.PARSE, ""),
    (b"hello", ErrorCode.PARSE, ""),
    (START, ErrorCode.PARSE, ""),
    (START + b'{"qty":NaN}}', ErrorCode.PARSE, ""),
    (START + b'{"qty":Infinity}}', ErrorCode.PARSE, ""),
    (START + b"{}} {}", ErrorCode.PARSE, ""),
    (START + b'{"qty":1e999}}', ErrorCode.INVALID_PARAMS, "params.qty"),
    (START + b'{"expires_us":' + b"9" * 5_000 + b"}}", ErrorCode.INVALID_PARAMS, "params.expires_us"),
    (b'{"jsonrpc":"2.0","id":' + b"9" * 5_000 + b',"method":"time"}', ErrorCode.INVALID_REQUEST, "id"),
    (START + b"[" * DEEP + b"]" * DEEP + b"}", ErrorCode.PARSE, ""),
    (b'{"a":' * DEEP, ErrorCode.INVALID_REQUEST, "a"),
    (START + b'{"market":"M","market":"N","side":"buy","qty":"1"}}', ErrorCode.INVALID_PARAMS, "params.market"),
    (START + b'{"market":"M","m\\u0061rket":"N","side":"buy","qty":"1"}}', ErrorCode.INVALID_PARAMS, "params.market"),
    (START + b'{"market" \n : "M","market"\t:"N","side":"buy","qty":"1"}}', ErrorCode.INVALID_PARAMS, "params.market"),
    (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"time"}', ErrorCode.INVALID_REQUEST, "id"),
    (b'{"jsonrpc":"2.0","id":7,"method":"time","method":"place"}', ErrorCode.INVALID_REQUEST, "method"),
    (b'"text"', ErrorCode.INVALID_REQUEST, ""),
    (b"\xef\xbb\xbf{}", ErrorCode.PARSE, ""),
]


@pytest.mark.parametrize(("payload", "code", "field"), JSON_BYTES, ids=lambda value: str(value)[:40])
def test_json_bytes(payload: bytes, code: int, field: str) -> None:
    problem = refused(JSON, payload)
    assert (problem.code, problem.field) == (code, field)
    assert len(problem.message) <= DETAIL_CHARS_MAX


def test_a_text_frame_that_is_not_utf8() -> None:
    for payload in (b'{"a":"\xff"}', b"\xc3(", START + b'{"market":"\xed\xa0\x80"}}'):
        with pytest.raises(NotUtf8):
            JSON.batch(payload)


MARKET_TWICE = b"\x82\xa6market\xa1M\xa6market\xa1N"


def message(params: bytes) -> bytes:
    return b"\x84\xa7jsonrpc\xa32.0\xa2id\x07\xa6method\xa5place\xa6params" + params


MSGPACK_BYTES = [
    (b"", ErrorCode.PARSE, ""),
    (b"\xc1", ErrorCode.PARSE, ""),
    (b"\x84\xa7jsonrpc", ErrorCode.PARSE, ""),
    (message(b"\x80") + b"\x00", ErrorCode.PARSE, ""),
    (message(MARKET_TWICE), ErrorCode.INVALID_PARAMS, "params.*"),
    (b"\xde\x00\x05\xa7jsonrpc\xa32.0\xa2id\x07\xa2id\x07\xa6method\xa4time\xa6params\x80", ErrorCode.INVALID_REQUEST, "*"),
    (b"\xdf\xff\xff\xff\xff", ErrorCode.PARSE, ""),
    (message(b"\x91" * DEEP + b"\x90"), ErrorCode.PARSE, ""),
    (message(b"\x81\xa3qty\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), ErrorCode.INVALID_PARAMS, "params.qty"),
    (message(b"\x81\xa3qty\xa1\xff"), ErrorCode.INVALID_PARAMS, "params"),
    (message(b"\x81\x05\x01"), ErrorCode.INVALID_PARAMS, "params"),
    (message(b"\x81\xa3qty\xc4\x011"), ErrorCode.INVALID_PARAMS, "params.qty"),
    (b"\x05", ErrorCode.INVALID_REQUEST, ""),
]


@pytest.mark.parametrize(("payload", "code", "field"), MSGPACK_BYTES, ids=lambda value: str(value)[:40])
def test_msgpack_bytes(payload: bytes, code: int, field: str) -> None:
    problem = refused(MSGPACK, payload)
    if field == "params.*":
        # the first field that is missing is as good an answer as the one that is there twice
        assert problem.field in ("params.*", "params.side", "params.qty")
    else:
        assert (problem.code, problem.field) == (code, field)


def test_a_key_twice_in_a_whole_msgpack_map() -> None:
    whole = b"\x84\xa6market\xa1M\xa6market\xa1N\xa4side\xa3buy\xa3qty\xa11"
    problem = refused(MSGPACK, message(whole))
    assert (problem.code, problem.field, problem.message) == (ErrorCode.INVALID_PARAMS, "params.*", "params.*: given twice")


def test_text_that_makes_the_exact_parser_look() -> None:
    """Colons in text are counted as keys at first. Whatever else the frame holds, the second look decides without a crash."""
    assert JSON.request(b'{"jsonrpc":"2.0","id":"a:b","method":"time"}').id == "a:b"
    many = b"9" * 5_000
    problem = refused(JSON, b'{"jsonrpc":"2.0","id":"a:b","method":"place","params":{"market":"M","qty":' + many + b"}}")
    assert (problem.code, problem.field) == (ErrorCode.INVALID_PARAMS, "params.qty")
    problem = refused(JSON, b'{"jsonrpc":"2.0","id":":","method":"place","params":{"a":1,"a":' + many + b"}}")
    assert (problem.code, problem.field, problem.request_id) == (ErrorCode.INVALID_PARAMS, "params.a", ":")
    deep = refused(JSON, b'{"jsonrpc":"2.0","id":":","method":"place","params":' + b"[" * 900 + b"]" * 900 + b"}")
    assert deep.code in (ErrorCode.PARSE, ErrorCode.INVALID_PARAMS)


def test_keys_inside_text_are_no_keys() -> None:
    odd = [
        {"market": '"qty":', "side": "buy", "qty": "1"},
        {"market": 'x","qty":"2', "side": "buy", "qty": "1"},
        {"market": '\\"qty": \\', "side": "buy", "qty": "1"},
        {"market": "qty", "side": "buy", "qty": '"market": "side":'},
    ]
    for params in odd:
        request = JSON.request(pack(JSON, envelope(params=params)))
        assert JSON.params(request.params, PlaceParams).market == params["market"]


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
@pytest.mark.parametrize("size", [0, 1, 20, 70_000])
def test_batches(codec: Codec, size: int) -> None:
    entries = codec.batch(pack(codec, [envelope()] * size))
    assert entries is not None
    assert len(entries) == size
    if entries:
        assert codec.request(entries[-1]).method == "place"


def test_a_batch_that_is_not_one() -> None:
    for codec, payload in ((JSON, b'[{"a":1},'), (JSON, b"[1] 2"), (JSON, b"[" * DEEP), (MSGPACK, b"\xdd\xff\xff\xff\xff")):
        with pytest.raises(Malformed) as caught:
            codec.batch(payload)
        assert caught.value.code == ErrorCode.PARSE
    assert JSON.batch(b" \n [1]") is not None


# --- any bytes ------------------------------------------------------------------------------------------------------

ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def understand(codec: Codec, payload: bytes) -> None:
    """Only the named exceptions may come out."""
    try:
        entries = codec.batch(payload)
        for entry in [payload] if entries is None else entries:
            codec.params(codec.request(entry).params, PlaceParams)
    except (Malformed, NotUtf8):
        pass


@given(st.binary(max_size=300))
def test_any_bytes(payload: bytes) -> None:
    for codec in (JSON, MSGPACK):
        understand(codec, payload)


@given(st.dictionaries(st.sampled_from([*PlaceParams.__struct_fields__, "x"]), ANY_VALUE))
def test_any_params(params: dict[str, Any]) -> None:
    understand(JSON, json.dumps(envelope(params=params)).encode())


@given(st.dictionaries(st.sampled_from([*Request.__struct_fields__, "x"]), ANY_VALUE))
def test_any_envelope(request: dict[str, Any]) -> None:
    understand(JSON, json.dumps(request).encode())


# --- choice ---------------------------------------------------------------------------------------------------------


def test_negotiate() -> None:
    assert negotiate([]) is JSON
    assert negotiate([SUBPROTOCOL_MSGPACK]) is MSGPACK
    assert negotiate(["chat", SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK]) is JSON
    assert negotiate(["chat"]) is None
