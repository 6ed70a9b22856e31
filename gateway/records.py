"""What the projections keep: msgspec Structs, which a compiled module cannot define."""

from typing import Literal, TypeAlias

from msgspec import Struct

from engine.events import Accepted, Event
from engine.types import OrderStatus
from gateway.channels.base import Terms

Role: TypeAlias = Literal["", "maker", "taker", "seller", "buyer"]


class Fact(Struct, frozen=True, gc=False):
    """One event as it concerns one account. Text is made of it only when somebody is there to read it."""

    seq: int
    ts_ns: int
    role: Role
    event: Event
    terms: Terms | None
    """Of the event's market; None where that does not exist."""


class ClosedOrder(Struct, frozen=True):
    """An order's end. ``accepted`` has its last price and quantity."""

    accepted: Accepted
    status: OrderStatus
    filled_qty: int
