"""What every request passes, in this order: the signature, the address's or account's budget, the permission, a repeat of
X-Request-Id, the query, the body, the call. Each stage refuses by itself.

Sans-IO: the HTTP edge calls :meth:`Service.handle` with whole requests; time is a parameter.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from engine.accounts import is_client_order_id
from engine.commands import Entry
from engine.events import Event
from engine.limits import CLIENT_ORDER_ID_CHARS_MAX
from engine.rejects import RejectCode
from gateway import log
from gateway.auth import Key, address_group
from gateway.exchange import Exchange
from gateway.nicehash import ids, problems, signing
from gateway.nicehash.calls import Call, Param, Reply, Request, Route
from gateway.nicehash.catalog import Catalog
from gateway.nicehash.history import History
from gateway.nicehash.problems import Problem
from gateway.nicehash.stomp import Feed
from gateway.ratelimit import MS_NS, AddressBudget, Bucket

BODY_BYTES_MAX: Final = 16_384
QUERY_CHARS_MAX: Final = 2_048
QUERY_FIELDS_MAX: Final = 32
ROWS_PER_TOKEN: Final = 100
"""A page of more rows than this costs as many requests as it has hundreds."""
REMEMBERED_NS: Final = 600 * 1_000 * MS_NS
"""How long the answer to an X-Request-Id is given again."""
REMEMBERED_MAX: Final = 10_000
"""Answers that are remembered; past it the oldest is forgotten."""
UNEXECUTED: Final = frozenset({problems.TOO_MANY, problems.UNAVAILABLE})
"""Statuses of requests that did nothing: sent again they may."""

_log = log.get("nicehash")

_TRUE: Final = {"true", "1", "yes"}
_FALSE: Final = {"false", "0", "no"}


class Repeats:
    """Answers by X-Request-Id, so that a request that is sent again is not executed again."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX, remembered_ns: int = REMEMBERED_NS) -> None:
        self._max = remembered_max
        self._ns = remembered_ns
        self._known: dict[tuple[str, str], _Repeat] = {}

    def __len__(self) -> int:
        return len(self._known)

    def enter(self, key: str, request: Request, now_ns: int, reply: Callable[[Reply], None]) -> Callable[[Reply], None] | None:
        """Where the answer has to go; None for a repeat, which is answered with the first one's answer."""
        name = (key, request.headers.get("x-request-id", ""))
        if not name[1]:
            return reply
        if not is_client_order_id(name[1]):
            raise problems.refusal(RejectCode.CLIENT_ORDER_ID_INVALID, CLIENT_ORDER_ID_CHARS_MAX, None, now_ns)
        while self._known:
            oldest = next(iter(self._known))
            if now_ns - self._known[oldest].since_ns <= self._ns:
                break
            del self._known[oldest]
        fingerprint = _fingerprint(request)
        known = self._known.get(name)
        if known is not None:
            if known.fingerprint != fingerprint:
                raise problems.invalid("X-Request-Id: it was used for another request")
            if known.reply is not None:
                reply(known.reply)
            else:
                known.waiting.append(reply)
            return None
        if len(self._known) >= self._max:
            del self._known[next(iter(self._known))]
        repeat = self._known[name] = _Repeat(fingerprint, now_ns, [reply])

        def answered(first: Reply) -> None:
            repeat.reply = first
            if first.status in UNEXECUTED and self._known.get(name) is repeat:
                del self._known[name]
            waiting, repeat.waiting = repeat.waiting, []
            for each in waiting:
                each(first)

        return answered


class _Repeat:
    __slots__ = ("fingerprint", "reply", "since_ns", "waiting")

    def __init__(self, fingerprint: bytes, since_ns: int, waiting: list[Callable[[Reply], None]]) -> None:
        self.fingerprint = fingerprint
        self.since_ns = since_ns
        self.waiting = waiting
        self.reply: Reply | None = None


def _fingerprint(request: Request) -> bytes:
    text = f"{request.method}\0{request.path.rstrip('/')}\0{request.query}\0".encode("latin-1", "replace")
    return hashlib.blake2b(text + request.body, digest_size=16).digest()


class Service:
    """The whole API over one exchange, without its sockets."""

    def __init__(self, exchange: Exchange, start_ns: int, history: History | None = None) -> None:
        """``start_ns``: now. Signed requests from before are refused, because their nonces may have been used."""
        self.exchange = exchange
        self.history = history if history is not None else History()
        self.catalog = Catalog(exchange.engine.live.markets)
        self.nonces = signing.Nonces(start_ns)
        self.repeats = Repeats()
        self.feed = Feed(self.catalog, self.history)
        self.history.start(exchange.engine)

    def publish(self, entry: Entry, events: list[Event]) -> None:
        """An entry is durable."""
        self.history.publish(entry, events)
        self.feed.publish(events)

    def tick(self, now_ns: int) -> None:
        """Time passes; call at least once a second."""
        if self.history.tick(now_ns):
            self.feed.candles()

    def afford(self, ip: str, tokens: int, now_ns: int) -> bool:
        """Take requests from the budget of an address that has no key; False, with what there was taken, for too many."""
        addresses = self.exchange.limiter.addresses
        group = address_group(ip)
        bucket = addresses.acquire(group).requests
        addresses.release(group)
        return all(bucket.take(now_ns) for _ in range(tokens))

    def handle(
        self, route: Route, request: Request, path: Mapping[str, str], now_ns: int, reply: Callable[[Reply], None]
    ) -> None:
        """Answer a request, now or when what it did is durable; ``reply`` is called once."""
        call = Call(route, request, path, self.exchange, self.catalog, self.history, now_ns, reply)
        try:
            self._pass(call, reply)
        except Problem as problem:
            call.refuse(problem)
        except Exception:
            # A bug before anything was sequenced; it costs this request and nothing else. One in the engine stops the process.
            _log.exception("bug", method=request.method, path=route.path)
            call.refuse(Problem(problems.INTERNAL, problems.SERVER, "Generic Server Error"))

    def _pass(self, call: Call, reply: Callable[[Reply], None]) -> None:
        route, request, now_ns = call.route, call.request, call.now_ns
        group = address_group(request.ip)
        addresses = self.exchange.limiter.addresses
        address = addresses.acquire(group)
        try:
            if route.signature == "yes" or (route.signature == "optional" and "x-auth" in request.headers):
                call.key, nonce = self._signer(request, group, address, now_ns)
                call.bucket = self._budget(call.key, route)
                # What is refused for want of budget uses no nonce up: it may be sent again, and fills no table.
                if not call.bucket.wait_ms(now_ns):
                    self._use_up(call.key, nonce, address, now_ns)
            else:
                call.bucket = address.requests
            call.spend(1)
        finally:
            addresses.release(group)
        key = call.key
        if route.permission is not None and (key is None or route.permission not in key.permissions):
            _log.warning("permission refused", key=key.key_id if key is not None else "", path=route.path)
            if route.bucket == "requests":
                raise Problem(problems.FORBIDDEN, problems.FORBIDDEN, f"the key lacks the permission {route.permission}")
            raise Problem(
                problems.BAD_REQUEST,
                problems.CREATION_DISABLED,
                f"Order creations are currently disabled: the key lacks the permission {route.permission}",
            )
        call.query = parse_query(request.query, route.query)
        call.spend((call.query.get("size", call.query.get("limit", 1)) - 1) // ROWS_PER_TOKEN)
        if route.body is not None:
            call.body = parse_body(request.body, route.body)
        if key is not None and request.method != "GET" and not route.is_repeatable:
            answered = self.repeats.enter(key.key_id, request, now_ns, reply)
            if answered is None:
                return
            call.reply_to(answered)
        route.run(call)

    def _signer(self, request: Request, group: str, address: AddressBudget, now_ns: int) -> tuple[Key, str]:
        """The key that signed the request, and the nonce that it came with. Raises Problem."""
        try:
            signed = signing.signed_headers(request.headers)
        except ValueError as problem:
            _take(address.requests, now_ns)
            raise problems.session(str(problem)) from None
        limiter = self.exchange.limiter
        wait_ms = limiter.key_wait_ms(group, signed.key, now_ns)
        if wait_ms:
            raise problems.http(problems.TOO_MANY, f"too many bad signatures; wait {wait_ms} ms")
        text = signing.message(signed, request.headers["x-time"], request.method, request.path, request.query, request.body)
        key = self.exchange.keys.signed_by(signed.key, text, signed.signature)
        if key is None or signed.organization != ids.to_uuid(ids.ORGANIZATION, key.account):
            _take(address.requests, now_ns)
            limiter.key_failed(group, signed.key, now_ns)
            _log.warning("signature refused", key=signed.key, ip=request.ip)
            raise problems.session("unknown key, wrong signature, or another organisation's id")
        if not self.nonces.is_timely(signed.time_ms, now_ns):
            _take(address.requests, now_ns)
            off = signed.time_ms - now_ns // MS_NS
            raise problems.session(f"X-Time is {off} ms from the server's clock (or from before the server's start)")
        if key.account not in self.exchange.engine.accounts:
            raise problems.session("the key's account does not exist")
        if not key.allows(request.ip):
            _log.warning("address refused: not in the key's list", key=signed.key, ip=request.ip)
            raise problems.session("the key may not be used from this address")
        return key, signed.nonce

    def _use_up(self, key: Key, nonce: str, address: AddressBudget, now_ns: int) -> None:
        """The nonce is good once. Raises Problem."""
        if self.nonces.is_full(key.key_id, now_ns):
            raise problems.http(problems.TOO_MANY, "too many requests of this key in ten minutes")
        if not self.nonces.use(key.key_id, nonce, now_ns):
            _take(address.requests, now_ns)
            raise problems.session("X-Nonce was used before")

    def _budget(self, key: Key, route: Route) -> Bucket:
        """What of the account's the request is paid from."""
        accounts = self.exchange.limiter.accounts
        budget = accounts.acquire(key.account)
        accounts.release(key.account)
        return {"orders": budget.orders, "cancels": budget.cancels, "requests": budget.requests}[route.bucket]


def _take(bucket: Bucket, now_ns: int) -> None:
    if not bucket.take(now_ns):
        raise problems.http(problems.TOO_MANY, f"too many requests; wait {bucket.wait_ms(now_ns)} ms")


def parse_query(text: str, params: tuple[Param, ...]) -> dict[str, Any]:
    """The parameters that a route knows, with defaults for those that are not there; others are no mistake. Raises Problem."""
    if len(text) > QUERY_CHARS_MAX:
        raise problems.invalid(f"the query has at most {QUERY_CHARS_MAX} characters")
    try:
        sent = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX))
    except ValueError:
        raise problems.invalid(f"the query has at most {QUERY_FIELDS_MAX} parameters") from None
    found: dict[str, Any] = {}
    for param in params:
        value = sent.get(param.name, "").strip()
        if value in ("", "None", "null"):
            if param.required:
                raise problems.invalid(f"{param.name}: the parameter is missing")
            found[param.name] = param.default
        elif param.kind == "text":
            found[param.name] = value
        elif param.kind == "flag":
            if value.lower() not in _TRUE | _FALSE:
                raise problems.invalid(f"{param.name}: true or false")
            found[param.name] = value.lower() in _TRUE
        else:
            if not (value.isascii() and value.isdigit() and len(value) <= 18) or not param.least <= int(value) <= param.most:
                raise problems.invalid(f"{param.name}: a whole number from {param.least} to {param.most}")
            found[param.name] = int(value)
    return found


def parse_body(content: bytes, kind: type[Any]) -> Any:
    """A body of a route's kind. Raises Problem, which names the field."""
    if not content:
        raise problems.malformed("the body is missing")
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as problem:
        text, _, where = str(problem).partition(" - at `$")
        field = where.rstrip("`").lstrip(".")
        raise problems.malformed(f"{field}: {text}" if field else text) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise problems.malformed("the body is no JSON") from None
