"""Any bytes are a call that an independent parser reads alike, or Malformed with a code, a field and a short text.

The same bytes go to both encodings, as a message and, where they are a batch, entry by entry. A call that is decoded in one
step is the call that two steps decode, and a call keeps its meaning in the other encoding.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.codec import CODECS, DETAIL_CHARS_MAX, JSON, MSGPACK, Codec, Malformed, NotUtf8
from gateway.methods import METHODS
from gateway.session import ORDER_METHODS
from gateway.wire import BATCH_MAX, Error, ErrorCode, ErrorData, ErrorResponse, Params, Request
from tests.hostile.calls import CORRECT, PRIVATE
from tests.hostile.calls import PLACE as PLACE_PARAMS

BYTES_MAX = 4_096
PARSE_CODES = frozenset({ErrorCode.PARSE, ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_PARAMS})
FIELDS = sorted({field for method in METHODS.values() for field in method.params.__struct_fields__})
WORDS = (
    *(f'"{name}"'.encode() for name in ("jsonrpc", "id", "method", "params", "2.0", *METHODS, *FIELDS)),
    *(msgspec.msgpack.encode(name) for name in ("jsonrpc", "id", "method", "params", "2.0", *METHODS, *FIELDS)),
    *(f'"{text}"'.encode() for text in ("buy", "limit", "gtd", "slide", "decrement", "0.001", "SHA256-20261125")),
    *(b'"\\ud800"', b'"\\u0061"', b"1e400", b"null", b"true", b"9007199254740993", b"-0", b"\xc3\xa9", b"\xde\x00", b"\xdf"),
)


def one(data: bytes) -> None:
    for codec in CODECS:
        try:
            entries = codec.batch(data)
        except Malformed as problem:
            _explained(codec, problem)
        except NotUtf8:
            assert not codec.binary
        else:
            for payload in [data] if entries is None else entries[:BATCH_MAX]:
                _call(codec, bytes(payload))


def _call(codec: Codec, payload: bytes) -> None:
    at_once = codec.order(payload)
    try:
        request = codec.request(payload)
        method = METHODS.get(request.method)
        params = None if method is None else codec.params(request.params, method.params)
    except Malformed as problem:
        assert at_once is None, f"decoded in one step, refused in two: {problem}"
        _explained(codec, problem)
        return
    if params is None:
        assert at_once is None
        return
    if at_once is not None:
        assert (at_once.id, at_once.params, ORDER_METHODS[type(at_once)]) == (request.id, params, request.method)
    _same_elsewhere(codec, payload, request, params)
    other = MSGPACK if codec is JSON else JSON
    body = other.encode(params)
    again = other.request(
        other.encode({"jsonrpc": "2.0", "id": request.id, "method": request.method, "params": msgspec.Raw(body)})
    )
    assert (again.id, again.method) == (request.id, request.method)
    assert other.params(again.params, type(params)) == params, "the other encoding reads something else"


def _same_elsewhere(codec: Codec, payload: bytes, request: Request, params: Params) -> None:
    """Another parser finds the same values, each once."""
    told = (
        msgspec.msgpack.decode(payload) if codec.binary else json.loads(payload.decode(), object_pairs_hook=_once, strict=False)
    )
    assert (told["method"], told["id"]) == (request.method, request.id)
    for name, value in told.get("params", {}).items():
        assert getattr(params, name) == value, f"{name}: {getattr(params, name)!r} and {value!r}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), f"a name is there twice: {pairs}"
    return found


def _explained(codec: Codec, problem: Malformed) -> None:
    """The refusal can be told to the client, and is no longer than it has to be."""
    assert problem.code in PARSE_CODES, problem.code
    assert 0 < len(problem.message) <= DETAIL_CHARS_MAX
    assert len(problem.field) <= DETAIL_CHARS_MAX
    answer = ErrorResponse(
        problem.request_id, Error(problem.code, problem.message, ErrorData("x", problem.field)), jsonrpc="2.0"
    )
    (msgspec.msgpack if codec.binary else msgspec.json).decode(codec.encode(answer))


def seeds() -> Iterator[tuple[str, bytes]]:
    """A correct call of every method in both encodings, batches, and the requests of docs/PROTOCOL.md that are special."""
    calls = {**CORRECT, **PRIVATE, "place": PLACE_PARAMS, "time": {}, "markets": {}}
    for method, params in calls.items():
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        yield f"{method}.json", msgspec.json.encode(call)
        yield f"{method}.msgpack", msgspec.msgpack.encode(call)
    batch = [{"jsonrpc": "2.0", "id": number, "method": "time"} for number in range(3)]
    yield "batch.json", msgspec.json.encode(batch)
    yield "batch.msgpack", msgspec.msgpack.encode(batch)
    yield "twice.json", b'{"jsonrpc":"2.0","id":1,"method":"book","params":{"market":"A","mark\\u0065t":"B"}}'
    yield "deep.json", b'{"jsonrpc":"2.0","id":1,"method":"book","params":' + b"[" * 200
    yield "wide.json", b'{"jsonrpc":"2.0","id":12345678901234567890,"method":"book","params":{"depth":1e400}}'
    yield from documented()


def documented() -> Iterator[tuple[str, bytes]]:
    """What clients say in docs/PROTOCOL.md, but the plain calls of above."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    said = re.findall(r"^// \w+ -> exchange\n(.*?)(?=^//|^```)", text, re.MULTILINE | re.DOTALL)
    shapes: set[str] = set()
    for message in said:
        value = json.loads(message)
        shape = re.sub(r'"[^"]*"|\d+', "x", json.dumps(value))
        if shape not in shapes and len(shapes) < 40:
            shapes.add(shape)
            yield f"told-{len(shapes):02d}.json", msgspec.json.encode(value)
