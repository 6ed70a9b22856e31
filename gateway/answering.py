"""What the methods share: how a command is sequenced and answered, how a read waits, how parameters are taken apart.

A command answers once it is durable; its answer is made from the events of its own entry. A read is answered from the state
at the call, and not before everything that it saw is durable.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from engine.accounts import Account
from engine.commands import Cancel, CancelAll, Command, Entry
from engine.events import Accepted, AskPlaced, BidPlaced, Event, Rejected
from engine.rejects import RejectCode
from gateway import wire
from gateway.calls import Call
from gateway.channels.base import Terms
from gateway.exchange import Taking
from gateway.records import ClosedOrder
from gateway.scale import Scale
from gateway.sequencer import Overloaded, Stopped
from gateway.views import accepted_view, reject_error
from gateway.wire import ErrorCode

Answer = Callable[[Entry, list[Event]], None]
E = TypeVar("E")


BELOW_ALL: Final = -1
"""A price, quantity or speed of zero where 0 says "none" or "as it is" to the engine: it refuses the one like the other."""


class Invalid(Exception):
    """A parameter that cannot be used: field and sentence."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def submit(call: Call, command: Command, deadline_us: int | None, answer: Answer) -> None:
    """Sequence a command; ``answer`` makes the reply once it is durable."""
    taking = call.exchange.taking
    if taking is Taking.NONE or (taking is Taking.CANCELS and not isinstance(command, Cancel | CancelAll)):
        call.error(ErrorCode.SHUTTING_DOWN, "shutting_down", "the exchange is shutting down")
        return
    try:
        call.exchange.sequencer.submit(command, deadline_us * 1_000 if deadline_us else 0, answer)
    except (Overloaded, Stopped) as problem:
        call.stopped(problem)


def read(call: Call, value: Any) -> None:
    """Answer with what was read from the engine just now."""
    later(call, lambda: call.result(value))


def later(call: Call, answer: Callable[[], None]) -> None:
    """Answer once everything that happened up to now is durable and published."""
    try:
        call.exchange.sequencer.after_durable(answer)
    except (Overloaded, Stopped) as problem:
        call.stopped(problem)


def rejection(events: list[Event]) -> Rejected | None:
    """The command's refusal, if it was refused."""
    for event in events:
        if isinstance(event, Rejected):
            return event
    return None


def answer_from(call: Call, kind: type[E], view: Callable[[E], Any]) -> Answer:
    """Answer with the command's one event, which is of ``kind`` or a refusal; due work comes before it."""

    def answer(entry: Entry, events: list[Event]) -> None:
        event = events[-1]
        if isinstance(event, Rejected):
            call.reject(event)
            return
        assert isinstance(event, kind), f"entry {entry.seq}: neither {kind.__name__} nor Rejected"
        call.result(view(event))

    return answer


def terms_of(call: Call, market: str) -> Terms:
    """Number formats of a market that exists."""
    terms = call.exchange.terms(market)
    assert terms is not None, market
    return terms


def parse(scale: Scale, text: str, field: str) -> int:
    try:
        return scale.parse(text)
    except ValueError as problem:
        raise Invalid(field, str(problem)) from None


def own_account(call: Call) -> Account:
    """The caller's account; login made sure that it exists."""
    return call.exchange.engine.accounts[call.caller.account]


def named_order(params: wire.OrderRef) -> tuple[int, str]:
    """Which order is meant, as ``(order_id, client_order_id)``, one of them empty."""
    if (params.order_id is None) == (params.client_order_id is None):
        raise Invalid("order_id", "give either order_id or client_order_id")
    return params.order_id or 0, params.client_order_id or ""


def used_before(call: Call, events: list[Event]) -> bool:
    """Refuse a client order id that was used for an order of another kind before; whether that is what the events say."""
    for event in events:
        if isinstance(event, Accepted | BidPlaced | AskPlaced) and event.repeat:
            message = f"the id was used before, for order {event.order_id} of another kind"
            call.error(ErrorCode.INVALID_PARAMS, "client_order_id_used", message, "params.client_order_id", repeat=True)
            return True
    return False


def market_settled(call: Call) -> None:
    """Refuse to repeat what happened in a market that nothing is known of any more."""
    message = "placed before, in a market that was settled before the server started: its numbers cannot be shown"
    call.error(ErrorCode.NOT_FOUND, "market_settled", message, "params.client_order_id", repeat=True)


def closed_view(closed: ClosedOrder, terms: Terms) -> wire.OrderView:
    return accepted_view(closed.accepted, terms, wire.ORDER_STATUS[closed.status], closed.filled_qty, 0)


def reject_order(call: Call, rejected: Rejected, terms: Terms | None) -> None:
    """The engine's refusal of a cancel or amend; for an order that is closed, with what became of it."""
    error = reject_error(rejected, terms, call.fields)
    if rejected.code is RejectCode.ORDER_UNKNOWN:
        if not rejected.order_id:
            error.data.field = "params.client_order_id"
        closed = call.exchange.history.closed_order(call.caller.account, rejected.order_id, rejected.client_order_id)
        known = call.exchange.terms(closed.accepted.market) if closed is not None else None
        if closed is not None and known is not None:
            error.data.order = closed_view(closed, known)
    call.refuse(error)
