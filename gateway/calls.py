"""A call that waits for its answer, and a batch of them: what passes between a session and the methods."""

from typing import Any, Final, Protocol

from engine.events import Rejected
from engine.rejects import RejectCode
from gateway.auth import Key
from gateway.channels.base import Subscriber, Terms
from gateway.exchange import Exchange
from gateway.ratelimit import AddressBudget
from gateway.sequencer import Overloaded
from gateway.views import reject_error
from gateway.wire import Budget, Error, ErrorCode, ErrorData, ErrorResponse, Response

OVERLOADED_RETRY_MS: Final = 100
"""What a client is told to wait when the exchange takes no more commands for the moment."""


class Caller(Subscriber, Protocol):
    """What methods need of the session that calls them."""

    exchange: Exchange
    ip: str
    key: Key | None
    address: AddressBudget
    challenge: str
    """What the next login has to sign."""

    @property
    def is_open(self) -> bool:
        """Whether anything that is sent still goes anywhere."""
        ...

    def new_challenge(self) -> None:
        """The challenge is used up; make another."""
        ...

    def log_in(self, key: Key) -> None: ...
    def log_out(self, now_ns: int) -> None: ...
    def deliver(self, call: "Call", response: Response | ErrorResponse) -> None:
        """Send an answer, or keep it until its batch is answered."""
        ...


class Batch:
    """The answers to one JSON-RPC batch, sent as one array when the last of them is there."""

    __slots__ = ("_answers", "_missing")

    def __init__(self, calls: int) -> None:
        self._answers: list[Response | ErrorResponse | None] = [None] * calls
        self._missing = calls

    def add(self, index: int, response: Response | ErrorResponse) -> bool:
        """Take an answer; whether it was the last."""
        assert self._answers[index] is None, f"call {index} of a batch was answered twice"
        self._answers[index] = response
        self._missing -= 1
        return not self._missing

    def answers(self) -> list[Response | ErrorResponse | None]:
        """In the order of the calls."""
        return self._answers


class Call:
    """One request that waits for its answer: exactly one of ``result`` and the ways to refuse, once."""

    __slots__ = ("batch", "budget", "caller", "exchange", "fields", "id", "index", "now_ns")

    def __init__(
        self,
        caller: Caller,
        request_id: str | int | None,
        budget: Budget,
        now_ns: int,
        batch: Batch | None,
        index: int,
    ) -> None:
        self.caller = caller
        self.exchange = caller.exchange
        self.id = request_id
        self.budget = budget
        """What was left behind this call."""
        self.now_ns = now_ns
        """When it came."""
        self.batch = batch
        self.index = index
        """Its place in the batch."""
        self.fields: tuple[str, ...] = ()
        """Names of the method's parameters."""

    def result(self, value: Any) -> None:
        self.caller.deliver(self, Response(self.id, value, self.budget, "2.0"))

    def refuse(self, error: Error) -> None:
        self.caller.deliver(self, ErrorResponse(self.id, error, self.budget, "2.0"))

    def error(self, code: int, reason: str, message: str, field: str = "", **more: Any) -> None:
        """Refuse for a reason of the gateway's own. ``more``: further fields of ErrorData."""
        self.refuse(Error(code, message, ErrorData(reason, field, **more)))

    def invalid(self, field: str, message: str) -> None:
        """Refuse a parameter."""
        self.error(ErrorCode.INVALID_PARAMS, "invalid_params", f"params.{field}: {message}", f"params.{field}")

    def reject(self, rejected: Rejected, terms: Terms | None = None) -> None:
        """Pass on the engine's refusal."""
        self.refuse(reject_error(rejected, terms, self.fields))

    def deny(self, code: RejectCode) -> None:
        """Refuse what the engine would refuse, without asking it."""
        self.reject(Rejected(0, 0, code, 0, 0, "", ""))

    def stopped(self, problem: Exception) -> None:
        """Refuse because the sequencer takes nothing: it is overloaded or stopped."""
        if isinstance(problem, Overloaded):
            self.error(ErrorCode.OVERLOADED, "overloaded", str(problem), retry_after_ms=OVERLOADED_RETRY_MS)
        else:
            self.error(ErrorCode.SHUTTING_DOWN, "shutting_down", "the exchange is shutting down")
