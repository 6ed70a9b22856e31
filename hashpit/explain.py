"""Errors in the words of whoever types commands: prices, quantities and BTC instead of steps, UTC instead of nanoseconds."""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from hashpit.errors import Denied, HashpitError, Refused

_STEPS = re.compile(r"\b(\d+) (ticks?|lots?|msat|ns ahead|ns)\b")
"""A bound in the engine's own units, as its sentences have it."""


def when(us: int) -> str:
    """A time of the wire for people, in UTC."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if us else ""


def explain(error: HashpitError | ValueError) -> str:
    """One line: what was refused, with which bound, and what became of the order if it is closed already."""
    if not isinstance(error, Refused):
        return str(error)
    bound = error.data.bound

    def on_the_wire(found: re.Match[str]) -> str:
        steps, unit = found.groups()
        if not bound:
            return found[0]
        if unit == "ns ahead":
            return f"{int(bound) // 1_000_000} s ahead"
        if unit == "ns":
            return f"{when(int(bound))} UTC"
        if unit == "msat":
            return f"{bound} BTC"
        return found[0] if bound == steps else bound

    message = _STEPS.sub(on_the_wire, error.message.replace("params.", ""))
    field = error.data.field.removeprefix("params.")
    # The engine's sentences name what they are about.
    where = f" ({field})" if isinstance(error, Denied) and field and field not in message else ""
    return f"{message}{where}{_fate(error.data.order)} [{error.code} {error.data.reason}]"


def _fate(order: Any) -> str:
    """What became of an order (an OrderView as it was decoded) that can no longer be changed."""
    if not isinstance(order, dict):
        return ""
    return f"; order {order['order_id']} is {order['status']}, {order['filled_qty']} of {order['qty']} filled"


def error_object(error: HashpitError | ValueError) -> dict[str, Any]:
    """The same for programs: the line that people read, and what the server said."""
    if not isinstance(error, Refused):
        return {"message": explain(error)}
    return {"code": error.code, "message": explain(error), "data": msgspec.to_builtins(error.data)}
