"""Errors in a line for whoever types commands, and times in UTC."""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from engine.rejects import RejectCode
from hashpit.errors import Denied, HashpitError, Refused

KINDS: Final = ": book, trades, watch, place and amend are for dated markets; live, bid and ask for live ones"
"""What to type in a market of the other kind."""


def when(us: int) -> str:
    """A time of the wire for people, in UTC."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if us else ""


def explain(error: HashpitError | ValueError) -> str:
    """One line: what was refused, with which bound, and what became of the order if it is closed already."""
    if not isinstance(error, Refused):
        return str(error)
    message = error.message.replace("params.", "")
    field = error.data.field.removeprefix("params.")
    # The engine's sentences name what they are about.
    where = f" ({field})" if isinstance(error, Denied) and field and field not in message else ""
    hint = KINDS if error.code == RejectCode.MARKET_KIND_WRONG else ""
    if error.data.repeat and not isinstance(error, Denied):
        hint += "; told before for that id: a new try takes a new one"
    return f"{message}{where}{hint}{_fate(error.data.order)} [{error.code} {error.data.reason}]"


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
