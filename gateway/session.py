"""One client's socket, without the socket: whole messages in, bytes out, a transition table in between.

A message passes, in this order: the envelope, the method's name, the rate limit, the login, the permission, the parameters,
the method. Each stage answers by itself what it refuses. A message that is refused too often, for whatever reason, ends the
socket: refusals are cheap, and not free.

Sans-IO: the shell (``server.py``) calls ``opened``, ``receive``, ``alive``, ``tick`` and ``closed``; time is a parameter.
"""

from enum import Enum
from typing import Final, Protocol

from msgspec import Raw

from gateway import log, wire
from gateway.auth import Key, address_group
from gateway.calls import Batch, Call
from gateway.codec import Codec, Malformed, NotUtf8
from gateway.exchange import Exchange
from gateway.methods import METHODS, SERVER_NAME, Method, run
from gateway.outbox import Outbox
from gateway.ratelimit import MS_NS, PROTOCOL_ERRORS, REFUSALS, AccountBudget, Bucket
from gateway.views import micros
from gateway.wire import BATCH_MAX, Budget, Close, ErrorCode, ErrorResponse, Notification, Response

_log = log.get("session")


class State(Enum):
    """CONNECTED may read the public part; AUTHENTICATED speaks for an account; CLOSED is final."""

    CONNECTED = "connected"
    AUTHENTICATED = "authenticated"
    CLOSED = "closed"


class Step(Enum):
    """What changes a session's state."""

    LOGIN = "login"
    LOGOUT = "logout"
    CLOSE = "close"


TRANSITIONS: Final[dict[tuple[State, Step], State]] = {
    (State.CONNECTED, Step.LOGIN): State.AUTHENTICATED,
    (State.AUTHENTICATED, Step.LOGOUT): State.CONNECTED,
    (State.CONNECTED, Step.CLOSE): State.CLOSED,
    (State.AUTHENTICATED, Step.CLOSE): State.CLOSED,
}
"""Every legal change; the methods refuse what is not here before it gets this far."""


ORDER_METHODS: Final[dict[type, str]] = {
    wire.PlaceRequest: "place",
    wire.AmendRequest: "amend",
    wire.CancelRequest: "cancel",
}
"""What a call that was decoded in one step is called."""

REASONS: Final = {
    ErrorCode.PARSE: "parse",
    ErrorCode.INVALID_REQUEST: "invalid_request",
    ErrorCode.METHOD_UNKNOWN: "method_unknown",
    ErrorCode.INVALID_PARAMS: "invalid_params",
}


class Transport(Protocol):
    """The socket, as a session sees it. Nothing here waits or raises."""

    @property
    def outbox(self) -> Outbox:
        """Where messages wait to be written; one that is full ends the session."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame and let go of the socket."""
        ...


class Session:
    """One client. It is a channels' Subscriber and the methods' Caller."""

    def __init__(self, exchange: Exchange, transport: Transport, connection: str, ip: str, codec: Codec, now_ns: int) -> None:
        self.exchange = exchange
        self.connection = connection
        """Name of this socket in logs and in hello."""
        self.ip = ip
        self.codec = codec
        self.state = State.CONNECTED
        self.key: Key | None = None
        self.account = 0
        """0 before login."""
        self.challenge = exchange.new_challenge()
        self.outbox = transport.outbox
        self._transport = transport
        self._group = address_group(ip)
        self.address = exchange.limiter.addresses.acquire(self._group)
        self.address.anonymous += 1
        self._budget: AccountBudget | None = None
        """The account's, from login on."""
        self._refusals = Bucket(REFUSALS)
        self._protocol_errors = Bucket(PROTOCOL_ERRORS)
        limits = exchange.config.session
        self._heartbeat_ns = limits.heartbeat_ms * MS_NS
        self._idle_ns = limits.idle_ms * MS_NS
        self._login_ns = limits.login_ms * MS_NS
        self._next_heartbeat_ns = now_ns + self._heartbeat_ns
        self._login_deadline_ns = now_ns + self._login_ns
        self._heard_ns = now_ns
        exchange.sessions[self] = None

    # -------------------------------------------------------------------------------------------------------- the shell

    def opened(self, now_ns: int) -> None:
        """The handshake is done: greet."""
        limits = self.exchange.config.session
        hello = wire.Hello(
            server=SERVER_NAME,
            version=self.exchange.version,
            epoch=self.exchange.epoch,
            connection=self.connection,
            challenge=self.challenge,
            ts_us=micros(now_ns),
            frame_bytes_max=wire.FRAME_BYTES_MAX,
            heartbeat_ms=limits.heartbeat_ms,
            idle_ms=limits.idle_ms,
        )
        self.outbox.send(self.codec.encode(Notification("hello", hello)))

    def receive(self, payload: bytes, now_ns: int) -> None:
        """One whole message from the client, of the codec's frame type."""
        if self.state is State.CLOSED:
            return
        self._heard_ns = now_ns
        if self.state is State.CONNECTED and self.exchange.feeds.has_any(self):
            # The message may end the last of them.
            self._login_deadline_ns = now_ns + self._login_ns
        try:
            self._message(payload, now_ns)
        except Exception:
            # A bug between the socket and the sequencer, so no state is in doubt. It costs this client its socket, and nobody
            # else anything; a bug in the engine stops the process through the sequencer.
            _log.exception("bug", connection=self.connection)
            self.close(Close.FAILED, "internal error")

    def alive(self, now_ns: int) -> None:
        """A ping or pong came."""
        self._heard_ns = now_ns

    def clock_set(self, now_ns: int) -> None:
        """The clock jumped: what is measured with it starts over."""
        self._heard_ns = self._next_heartbeat_ns = now_ns
        self._login_deadline_ns = now_ns + self._login_ns

    def tick(self, now_ns: int) -> None:
        """Time passes: heartbeat, and what a silent client has coming."""
        if self.state is State.CLOSED:
            return
        if now_ns - self._heard_ns > self._idle_ns:
            self.close(Close.IDLE, "nothing was heard for too long")
            return
        if self.state is State.CONNECTED:
            if self.exchange.feeds.has_any(self):
                self._login_deadline_ns = now_ns + self._login_ns
            elif now_ns > self._login_deadline_ns:
                self.close(Close.LOGIN_TIMEOUT, "neither logged in nor subscribed in time")
                return
        if now_ns >= self._next_heartbeat_ns:
            self._next_heartbeat_ns = now_ns + self._heartbeat_ns
            beat = wire.Heartbeat(micros(now_ns), self.exchange.feeds.last_seqs(self))
            self.outbox.send(self.codec.encode(Notification("heartbeat", beat)))

    def closed(self) -> None:
        """The socket is gone, whoever closed it. Harmless when repeated."""
        if self.state is not State.CLOSED:
            self._leave()

    # ------------------------------------------------------------------------------------------------------- subscriber

    def send(self, frame: bytes) -> None:
        if self.state is not State.CLOSED:
            self.outbox.put(frame)

    def buffered_bytes(self) -> int:
        return self.outbox.measure()

    def close(self, code: int, reason: str) -> None:
        """End the session and its socket, for a reason that the client is told. Harmless when repeated."""
        if self.state is State.CLOSED:
            return
        key_id = self.key.key_id if self.key is not None else ""
        _log.info(
            "session closed",
            connection=self.connection,
            code=code,
            reason=reason,
            key=key_id,
            account=self.account,
            ip=self.ip,
        )
        self._leave()
        self._transport.close(code, reason)

    # ----------------------------------------------------------------------------------------------------------- caller

    def new_challenge(self) -> None:
        self.challenge = self.exchange.new_challenge()

    def log_in(self, key: Key) -> None:
        self._become(Step.LOGIN)
        self.key = key
        self.account = key.account
        self._budget = self.exchange.limiter.accounts.acquire(key.account)
        self.address.anonymous -= 1

    def log_out(self, now_ns: int) -> None:
        """Speak for nobody again. Public subscriptions stay."""
        self._become(Step.LOGOUT)
        self.exchange.feeds.account(self.account).remove(self)
        self._forget_login()
        self.address.anonymous += 1
        self._login_deadline_ns = now_ns + self._login_ns

    @property
    def is_open(self) -> bool:
        return self.state is not State.CLOSED

    def deliver(self, call: Call, response: Response | ErrorResponse) -> None:
        if self.state is State.CLOSED:
            return
        batch = call.batch
        if batch is None:
            self.outbox.send(self.codec.encode(response))
        elif batch.add(call.index, response):
            self.outbox.send(self.codec.encode(batch.answers()))

    # --------------------------------------------------------------------------------------------------------- internals

    def _message(self, payload: bytes, now_ns: int) -> None:
        try:
            entries = self.codec.batch(payload)
        except NotUtf8 as garbled:
            self.close(Close.NOT_UTF8, str(garbled))
            return
        except Malformed as problem:
            self._malformed(self._call(problem.request_id, now_ns), problem)
            return
        if entries is None:
            self._request(payload, now_ns, None, 0)
        elif not 0 < len(entries) <= BATCH_MAX:
            message = f"a batch has 1 to {BATCH_MAX} calls"
            self._malformed(self._call(None, now_ns), Malformed(ErrorCode.INVALID_REQUEST, message))
        else:
            batch = Batch(len(entries))
            for index, entry in enumerate(entries):
                if self.state is not State.CLOSED:
                    self._request(entry, now_ns, batch, index)

    def _request(self, payload: bytes | Raw, now_ns: int, batch: Batch | None, index: int) -> None:
        """One call, alone or in a batch."""
        payload = bytes(payload)
        params: wire.Params | None = None
        order = self.codec.order(payload)
        if order is not None:
            params = order.params
            request_id = order.id
            name = ORDER_METHODS[type(order)]
        else:
            try:
                request = self.codec.request(payload)
            except Malformed as problem:
                self._malformed(self._call(problem.request_id, now_ns, batch, index), problem)
                return
            request_id = request.id
            name = request.method
        method = METHODS.get(name)
        if method is None:
            unknown = Malformed(ErrorCode.METHOD_UNKNOWN, f"there is no {name}", "method")
            self._malformed(self._call(request_id, now_ns, batch, index), unknown)
            return
        bucket = self._bucket(method)
        within = bucket.take(now_ns)
        call = self._call(request_id, now_ns, batch, index)
        key = self.key
        if not within:
            self._limited(call, method, bucket)
        elif key is not None and key.revoked:
            self.close(Close.KEY_REVOKED, "the key was revoked")
        elif method.login and key is None:
            call.error(ErrorCode.LOGIN_REQUIRED, "login_required", f"{name} takes a login")
        elif key is not None and method.permissions and method.permissions.isdisjoint(key.permissions):
            needed = " or ".join(sorted(method.permissions))
            _log.warning("permission refused", connection=self.connection, key=key.key_id, account=self.account, method=name)
            call.error(ErrorCode.PERMISSION, "permission", f"the key lacks the permission {needed}")
        else:
            if params is None:
                try:
                    params = self.codec.params(request.params, method.params)
                except Malformed as problem:
                    self._malformed(call, problem)
                    return
            run(call, method, params)

    def _call(self, request_id: str | int | None, now_ns: int, batch: Batch | None = None, index: int = 0) -> Call:
        mine = self._budget
        if mine is None:
            left = Budget(0, 0, self.address.requests.left(now_ns))
        else:
            left = Budget(mine.orders.left(now_ns), mine.cancels.left(now_ns), mine.requests.left(now_ns))
        return Call(self, request_id, left, now_ns, batch, index)

    def _bucket(self, method: Method) -> Bucket:
        """What the method is paid from: the account's budget, or the address's before login."""
        mine = self._budget
        if mine is None:
            return self.address.requests
        if method.bucket == "orders":
            return mine.orders
        return mine.cancels if method.bucket == "cancels" else mine.requests

    def _limited(self, call: Call, method: Method, bucket: Bucket) -> None:
        """Refuse for the rate limit, and count how often."""
        name = method.bucket if self._budget is not None else "requests"
        call.error(
            ErrorCode.RATE_LIMITED,
            "rate_limited",
            f"the budget for {name} is used up",
            name,
            retry_after_ms=bucket.wait_ms(call.now_ns),
        )
        if not self._refusals.take(call.now_ns):
            self.close(Close.FLOOD, "kept sending past the rate limit")

    def _malformed(self, call: Call, problem: Malformed) -> None:
        """Refuse what is not a call of the protocol, and count how often."""
        call.error(problem.code, REASONS[problem.code], problem.message, problem.field)
        if not self._protocol_errors.take(call.now_ns):
            self.close(Close.FLOOD, "kept sending malformed messages")

    def _become(self, step: Step) -> None:
        """The one place where the state changes."""
        state = TRANSITIONS.get((self.state, step))
        assert state is not None, f"{step.value} while {self.state.value}"
        self.state = state

    def _leave(self) -> None:
        """Give back all that the session holds."""
        authenticated = self.state is State.AUTHENTICATED
        self._become(Step.CLOSE)
        self.exchange.feeds.remove(self)
        del self.exchange.sessions[self]
        if authenticated:
            self._forget_login()
        else:
            self.address.anonymous -= 1
        self.exchange.limiter.addresses.release(self._group)

    def _forget_login(self) -> None:
        self.exchange.limiter.accounts.release(self.account)
        self._budget = None
        self.key = None
        self.account = 0
