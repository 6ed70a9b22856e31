"""Refusals as NiceHash's clients read them: an HTTP status, a code, a sentence. The table is in docs/NICEHASH.md.

Where NiceHash's own code for a refusal is known it is used. A refusal of the engine that has none keeps its number of
:mod:`engine.rejects` (1xxx); a refusal of this HTTP service has its HTTP status for a code.
"""

from typing import Final

from engine.rejects import REFUSALS, RejectCode, Unit, describe
from gateway.nicehash.units import Units, plain, seconds_until
from gateway.scale import MONEY

MALFORMED: Final = 60
"""The body is no JSON object, or a field of it is missing or of a wrong type."""
SESSION: Final = 2000
"""No request that a known key signed: key, signature, time, nonce or organisation."""
INPUT: Final = 2997
"""A value that cannot be used."""
SERVER: Final = 2999
EXPIRED: Final = 5058
NOT_ACTIVE: Final = 5059
PRICE_LOW: Final = 5060
DECREASE_EARLY: Final = 5061
FACTOR: Final = 5068
CREATION_DISABLED: Final = 5096
"""The key may not place, refill or cancel orders."""
LOCKED: Final = 5110

BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
METHOD_NOT_ALLOWED: Final = 405
REQUEST_TIMEOUT: Final = 408
TOO_LARGE: Final = 413
TOO_MANY: Final = 429
INTERNAL: Final = 500
UNAVAILABLE: Final = 503
TIMED_OUT: Final = 504

_CODES: Final[dict[RejectCode, int]] = {
    RejectCode.PRICE_TOO_LOW: PRICE_LOW,
    RejectCode.DECREASE_TOO_EARLY: DECREASE_EARLY,
    RejectCode.EDIT_LOCKED: LOCKED,
    RejectCode.ORDER_UNKNOWN: NOT_ACTIVE,
    RejectCode.AMEND_EMPTY: INPUT,
    RejectCode.MARKET_UNKNOWN: INPUT,
}
"""Refusals of the engine that NiceHash has a code for."""

_NAMES: Final = {
    "budget": "amount",
    "peg": "peg, pegOffset, pegFloor",
    "order_id": "orderId",
    "client_order_id": "X-Request-Id",
    "url": "stratumHostname",
}
"""Fields of the engine, by the names that these clients send them under."""


class Problem(Exception):
    """A request that is refused: HTTP status, code, sentence."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def malformed(message: str) -> Problem:
    return Problem(BAD_REQUEST, MALFORMED, f"Malformed request: {message}")


def invalid(message: str) -> Problem:
    return Problem(BAD_REQUEST, INPUT, f"Invalid input: {message}")


def session(message: str) -> Problem:
    return Problem(UNAUTHORIZED, SESSION, f"Invalid session: {message}")


def http(status: int, message: str) -> Problem:
    """A refusal of the HTTP service itself."""
    return Problem(status, status, message)


def refusal(code: RejectCode, bound: int, units: Units | None, now_ns: int) -> Problem:
    """The engine's refusal, with its bound in the client's units; ``units`` of the order's market, where it has one."""
    number = _CODES.get(code, code.value)
    if code is RejectCode.DECREASE_TOO_EARLY:
        left = seconds_until(bound, now_ns)
        return Problem(BAD_REQUEST, number, f"Price cannot be decreased yet. Seconds till available: {left}")
    if code is RejectCode.EDIT_LOCKED:
        left = seconds_until(bound, now_ns)
        return Problem(BAD_REQUEST, number, f"Price or limit cannot be changed yet. Seconds till available: {left}")
    told = REFUSALS[code]
    said = str(bound)
    if told.unit is Unit.MSAT:
        said = f"{plain(MONEY.format(bound))} BTC"
    elif units is not None and told.unit is Unit.TICKS:
        said = f"{units.price_text(bound)} BTC/{units.price_display}/day"
    elif units is not None and told.unit is Unit.LOTS:
        said = f"{units.speed_text(bound)} {units.market_display}/s"
    field = _NAMES.get(told.field, told.field)
    status = NOT_FOUND if code is RejectCode.POOL_UNKNOWN else BAD_REQUEST
    return Problem(status, number, f"{field}: {describe(code, said)}")
