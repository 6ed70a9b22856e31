"""Bytes <-> messages, in both encodings of the protocol. Encoders and decoders are built once.

A call is decoded in two stages: first the envelope, whose ``params`` stay raw, then the parameters of its method. What cannot
be decoded raises :class:`Malformed`, which carries everything that the answer to the client needs.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from engine.accounts import is_client_order_id
from gateway.wire import (
    SUBPROTOCOL_JSON,
    SUBPROTOCOL_MSGPACK,
    ErrorCode,
    Ident,
    OrderRef,
    OrderRequest,
    Params,
    PlaceAskParams,
    PlaceBidParams,
    PlaceParams,
    Request,
)

DETAIL_CHARS_MAX: Final = 200
"""An error message repeats at most this much of what the client sent."""

ID_CHARACTERS: Final = "may have only the characters A-Za-z0-9._-"
ENVELOPE_KEYS: Final = 4
"""jsonrpc, id, method, params."""

NAMED: Final = (PlaceParams, OrderRef, PlaceBidParams, PlaceAskParams)
"""Parameters that may carry a client order id."""

P = TypeVar("P", bound=Params)


class Malformed(Exception):
    """A message that is not one of the protocol. ``field`` is a path such as ``params.qty``, empty for the whole message."""

    def __init__(self, code: int, message: str, field: str = "", request_id: str | int | None = None) -> None:
        field = field[:DETAIL_CHARS_MAX]
        self.message = f"{field}: {message}"[:DETAIL_CHARS_MAX] if field else message[:DETAIL_CHARS_MAX]
        super().__init__(self.message)
        self.code = code
        self.field = field
        self.request_id = request_id


class NotUtf8(Exception):
    """A text frame that is not UTF-8: RFC 6455 has the connection closed."""


class _Repeated(Exception):
    """A key that an object has twice."""


_LOCATION: Final = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`$")
_CHARACTERS: Final = re.compile(r"^Expected `str` matching regex '\^\[(?P<set>[^\]]+)\][+*]\\\\Z'$")
"""Every pattern of the wire is one set of characters, as often as the length allows."""
_OBJECT: Final = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`$", re.DOTALL)


def _explain(problem: str, base: str) -> tuple[str, str]:
    """Field path and sentence of what msgspec says about the object at path ``base``."""
    path = ""
    if located := _LOCATION.search(problem):
        path = located["path"]
        problem = problem[: located.start()]
    if shape := _OBJECT.match(problem):
        path += f".{shape['name']}"
        problem = "required" if shape["what"] == "missing required" else "unknown field"
    if pattern := _CHARACTERS.match(problem):
        problem = f"may have only the characters {pattern['set']}"
    # MessagePack's wording of the same thing differs in one word
    problem = problem.replace("got `None`", "got `null`")
    return (base + path).lstrip("."), problem[:1].lower() + problem[1:]


class Codec:
    """One encoding of the protocol. ``encode`` turns any wire Struct into one frame's payload."""

    name: str
    subprotocol: str
    binary: bool
    encode: Callable[[Any], bytes]

    _nothing: bytes
    """An empty object."""
    _envelope: Callable[[bytes], Request]
    _ident: Callable[[bytes], Ident]
    _entries: Callable[[bytes], list[Raw]]

    def __init__(self) -> None:
        self._params: dict[type[Params], Callable[[bytes], Any]] = {}

    def batch(self, payload: bytes) -> list[Raw] | None:
        """The entries of a batch, or None for a payload that is not an array. Raises Malformed, NotUtf8."""
        if not self._is_array(payload):
            return None
        try:
            return self._entries(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise Malformed(ErrorCode.PARSE, self._unreadable(problem)) from None

    def request(self, payload: bytes | Raw) -> Request:
        """The envelope of one call. Raises Malformed."""
        payload = bytes(payload)
        try:
            request = self._envelope(payload)
            self._refuse_repeats(payload, bytes(request.params))
            return request
        except msgspec.ValidationError as problem:
            field, message = _explain(str(problem), "")
        except _Repeated as problem:
            field, message = str(problem), "given twice"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise Malformed(ErrorCode.PARSE, self._unreadable(problem)) from None
        code = ErrorCode.INVALID_PARAMS if field.startswith("params.") else ErrorCode.INVALID_REQUEST
        raise Malformed(code, message, field, self._request_id(payload))

    def order(self, payload: bytes) -> OrderRequest | None:
        """A well-formed call about an order, decoded in one step. None for anything else: ``request`` and ``params`` take that
        apart, and say what is wrong with it."""
        return None

    def params(self, raw: Raw, kind: type[P]) -> P:
        """Parameters of one call. Raises Malformed (without an id: the caller knows it)."""
        payload = bytes(raw) or self._nothing
        decode = self._params.get(kind)
        if decode is None:
            decode = self._params[kind] = self._decoder(kind)
        try:
            params: P = decode(payload)
            self._refuse_repeated_params(payload)
            named = params.client_order_id if isinstance(params, NAMED) else None
            if named is not None and not is_client_order_id(named):
                raise Malformed(ErrorCode.INVALID_PARAMS, ID_CHARACTERS, "params.client_order_id")
            return params
        except msgspec.ValidationError as problem:
            field, message = _explain(str(problem), "params")
        except _Repeated as problem:
            field, message = str(problem), "given twice"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            field, message = "params", self._unreadable(problem)
        raise Malformed(ErrorCode.INVALID_PARAMS, message, field)

    def _request_id(self, payload: bytes) -> str | int | None:
        """The id of a request that has other faults, where it has a usable one."""
        try:
            value = self._ident(payload).id
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if isinstance(value, str) and len(value) <= 64:
            return value
        if type(value) is int and abs(value) <= 2**53:
            return value
        return None

    def _unreadable(self, problem: Exception) -> str:
        if isinstance(problem, RecursionError):
            return "nested too deep"
        if isinstance(problem, UnicodeDecodeError):
            return "text that is not UTF-8"
        text = str(problem)
        return text[:1].lower() + text[1:] if not text.startswith(("JSON", "MessagePack")) else text

    def _decoder(self, kind: type[P]) -> Callable[[bytes], P]:
        raise AssertionError("a codec has decoders")

    def _is_array(self, payload: bytes) -> bool:
        raise AssertionError("a codec knows arrays")

    def _refuse_repeats(self, payload: bytes, params: bytes) -> None:
        """Raise _Repeated for an envelope with a key twice: a parser may take either, and someone may count on the other."""
        raise AssertionError("a codec knows keys")

    def _refuse_repeated_params(self, payload: bytes) -> None:
        """The same for parameters, which hold no objects themselves."""
        raise AssertionError("a codec knows keys")


class JsonCodec(Codec):
    """JSON-RPC 2.0 in text frames."""

    name = "json"
    subprotocol = SUBPROTOCOL_JSON
    binary = False

    def __init__(self) -> None:
        super().__init__()
        self.encode = msgspec.json.Encoder().encode
        self._nothing = b"{}"
        self._envelope = msgspec.json.Decoder(Request).decode
        self._ident = msgspec.json.Decoder(Ident).decode
        self._entries = msgspec.json.Decoder(list[Raw]).decode
        self._map = msgspec.json.Decoder(dict[str, Raw]).decode
        self._order = msgspec.json.Decoder(OrderRequest).decode

    def order(self, payload: bytes) -> OrderRequest | None:
        try:
            request: OrderRequest = self._order(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        name = request.params.client_order_id
        if name is not None and not is_client_order_id(name):
            return None
        # As many colons as keys: then none is there twice (see _refuse_repeats).
        colons = payload.count(b":")
        if colons != ENVELOPE_KEYS + _given(request.params):
            keys = self._map(payload)
            if colons != len(keys) + len(self._map(keys["params"])):
                return None
        return request

    def batch(self, payload: bytes) -> list[Raw] | None:
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError as problem:
                raise NotUtf8(f"not UTF-8 at byte {problem.start}") from None
        return super().batch(payload)

    def _decoder(self, kind: type[P]) -> Callable[[bytes], P]:
        return msgspec.json.Decoder(kind).decode

    def _is_array(self, payload: bytes) -> bool:
        return payload.lstrip(b" \t\r\n")[:1] == b"["

    def _refuse_repeats(self, payload: bytes, params: bytes) -> None:
        # A key brings a colon, so as many colons as different keys mean that none is there twice. More colons may be keys or
        # text: then the slow and exact parser is asked. An envelope that was decoded has three keys, or four with params.
        if payload.count(b":") - params.count(b":") != (4 if params else 3):
            _parse_exactly(payload)

    def _refuse_repeated_params(self, payload: bytes) -> None:
        if payload.count(b":") != len(self._map(payload)):
            _parse_exactly(payload)


class MsgpackCodec(Codec):
    """The same messages as MessagePack maps in binary frames."""

    name = "msgpack"
    subprotocol = SUBPROTOCOL_MSGPACK
    binary = True

    def __init__(self) -> None:
        super().__init__()
        self.encode = msgspec.msgpack.Encoder().encode
        self._nothing = b"\x80"
        self._envelope = msgspec.msgpack.Decoder(Request).decode
        self._ident = msgspec.msgpack.Decoder(Ident).decode
        self._entries = msgspec.msgpack.Decoder(list[Raw]).decode
        self._map = msgspec.msgpack.Decoder(dict[str, Raw]).decode

    def _decoder(self, kind: type[P]) -> Callable[[bytes], P]:
        return msgspec.msgpack.Decoder(kind).decode

    def _is_array(self, payload: bytes) -> bool:
        return bool(payload) and (0x90 <= payload[0] <= 0x9F or payload[0] in (0xDC, 0xDD))

    def _refuse_repeats(self, payload: bytes, params: bytes) -> None:
        if len(self._map(payload)) != _pairs(payload):
            raise _Repeated("*")

    def _refuse_repeated_params(self, payload: bytes) -> None:
        if len(self._map(payload)) != _pairs(payload):
            raise _Repeated("params.*")


def _given(params: Params) -> int:
    """How many parameters are not their default; those that are may have been given all the same."""
    values: tuple[object, ...] = astuple(params)
    defaults: tuple[object, ...] = params.__struct_defaults__
    count = required = len(values) - len(defaults)
    for index, default in enumerate(defaults):
        if values[required + index] is not default:
            count += 1
    return count


def _pairs(payload: bytes) -> int:
    """How many pairs a MessagePack map's header announces."""
    first = payload[0]
    if first == 0xDE:
        return int.from_bytes(payload[1:3])
    if first == 0xDF:
        return int.from_bytes(payload[1:5])
    return first & 0x0F


def _parse_exactly(payload: bytes) -> None:
    """Raise _Repeated for JSON with a key twice in any object."""
    try:
        json.loads(payload, object_pairs_hook=_unique, parse_int=str, strict=False)
    except ValueError as problem:
        raise Malformed(ErrorCode.PARSE, f"not JSON: {problem}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Repeated(key if key in Request.__struct_fields__ else f"params.{key}")
        found[key] = value
    return found


JSON: Final = JsonCodec()
MSGPACK: Final = MsgpackCodec()
CODECS: Final[tuple[Codec, ...]] = (JSON, MSGPACK)


def negotiate(offered: Sequence[str]) -> Codec | None:
    """The codec of the first subprotocol we speak; JSON when none was offered, None when only others were."""
    for name in offered:
        for codec in CODECS:
            if codec.subprotocol == name:
                return codec
    return None if offered else JSON
