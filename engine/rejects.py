"""Numbered refusals, in precedence order: when two reasons apply, the smaller number is the answer.

Each refusal names the field at fault and, where there is one, the bound it broke. A refusal is a value in the event
stream (:class:`engine.events.Rejected`), ordered and replayable; the engine raises nothing for a trader's mistake.
"""

from enum import Enum, IntEnum, auto
from typing import Final, NamedTuple


class RejectCode(IntEnum):
    """Why the engine refused a command. Ranges: 10xx who and when, 11xx market, 12xx order fields, 13xx which order,
    14xx book and funds, 15xx transfers, 16xx deliveries."""

    ACCOUNT_UNKNOWN = 1001
    ACCOUNT_NAME_INVALID = 1002
    ACCOUNT_NAME_TAKEN = 1003
    ACCOUNTS_FULL = 1004
    CLIENT_ORDER_ID_INVALID = 1005
    DEADLINE_PASSED = 1006
    CLIENT_ORDER_IDS_FULL = 1007

    MARKET_UNKNOWN = 1101
    MARKET_EXISTS = 1102
    MARKETS_FULL = 1103
    MARKET_SPEC_INVALID = 1104
    MARKET_CLOSED = 1105
    MARKET_HALTED = 1106
    MARKET_CANCEL_ONLY = 1107
    MARKET_STATE_INVALID = 1108
    MARKET_KIND_WRONG = 1109

    TIME_IN_FORCE_INVALID = 1201
    POST_ONLY_INVALID = 1202
    EXPIRY_INVALID = 1203
    PRICE_NOT_ALLOWED = 1204
    PRICE_TOO_LOW = 1205
    PRICE_TOO_HIGH = 1206
    QTY_TOO_SMALL = 1207
    QTY_TOO_LARGE = 1208
    NOTIONAL_TOO_LARGE = 1209
    LIMIT_TOO_LOW = 1210
    LIMIT_TOO_HIGH = 1211
    SPEED_TOO_LOW = 1212
    SPEED_TOO_HIGH = 1213
    BUDGET_TOO_SMALL = 1214
    BUDGET_TOO_LARGE = 1215
    PEG_INVALID = 1216
    LIFE_INVALID = 1217

    ORDER_UNKNOWN = 1301
    AMEND_EMPTY = 1302
    EDIT_LOCKED = 1303
    DECREASE_TOO_LARGE = 1304
    DECREASE_TOO_EARLY = 1305
    POOL_UNKNOWN = 1306

    ORDERS_PER_ACCOUNT_FULL = 1401
    ORDERS_FULL = 1402
    REDUCE_ONLY_EXCEEDED = 1403
    POST_ONLY_WOULD_TAKE = 1404
    FUNDS_INSUFFICIENT = 1405
    FILL_OR_KILL_UNFILLABLE = 1406
    PEGS_FULL = 1407
    FLOWS_FULL = 1408
    BUDGET_NOT_COVERED = 1409

    AMOUNT_INVALID = 1501
    DEPOSITS_FULL = 1502
    BALANCE_INSUFFICIENT = 1503

    DESTINATION_INVALID = 1601
    DESTINATIONS_FULL = 1602
    DELIVERY_UNKNOWN = 1603
    DELIVERY_NOT_STARTED = 1604
    WORK_DECREASED = 1605
    WORK_TOO_LARGE = 1606
    PERIOD_NOT_ENDED = 1607
    FLOW_UNKNOWN = 1608
    POOL_INVALID = 1609
    POOLS_FULL = 1610


class Unit(Enum):
    """What a refusal's bound counts: a TIME is in ns since the epoch, a SPAN in ns."""

    NUMBER = auto()
    TICKS = auto()
    LOTS = auto()
    MSAT = auto()
    TIME = auto()
    SPAN = auto()


class Refusal(NamedTuple):
    """What a client is told about a code: the field at fault, a sentence, and what its ``{bound}`` counts."""

    field: str
    message: str
    unit: Unit = Unit.NUMBER


REFUSALS: Final[dict[RejectCode, Refusal]] = {
    RejectCode.ACCOUNT_UNKNOWN: Refusal("account", "no such account"),
    RejectCode.ACCOUNT_NAME_INVALID: Refusal("name", "an account name has 1 to {bound} printable characters"),
    RejectCode.ACCOUNT_NAME_TAKEN: Refusal("name", "account {bound} has that name"),
    RejectCode.ACCOUNTS_FULL: Refusal("name", "the exchange holds at most {bound} accounts"),
    RejectCode.CLIENT_ORDER_ID_INVALID: Refusal(
        "client_order_id", "a client order id has 1 to {bound} characters of A-Z a-z 0-9 . _ -"
    ),
    RejectCode.DEADLINE_PASSED: Refusal("deadline", "the engine reached the command at {bound}, after its deadline", Unit.TIME),
    RejectCode.CLIENT_ORDER_IDS_FULL: Refusal(
        "client_order_id", "at most {bound} client order ids of an account are remembered at a time"
    ),
    RejectCode.MARKET_UNKNOWN: Refusal("market", "no such market"),
    RejectCode.MARKET_EXISTS: Refusal("market", "a market of that symbol is listed"),
    RejectCode.MARKETS_FULL: Refusal("market", "at most {bound} markets may be listed at a time"),
    RejectCode.MARKET_SPEC_INVALID: Refusal("spec", "rule {bound} of a market specification is broken (see docs/PROTOCOL.md)"),
    RejectCode.MARKET_CLOSED: Refusal("market", "the market is closed"),
    RejectCode.MARKET_HALTED: Refusal("market", "the market is halted"),
    RejectCode.MARKET_CANCEL_ONLY: Refusal("market", "the market takes cancels only"),
    RejectCode.MARKET_STATE_INVALID: Refusal("state", "a market cannot change to that state from state {bound}"),
    RejectCode.MARKET_KIND_WRONG: Refusal("market", "the market is of another kind, which takes other orders"),
    RejectCode.TIME_IN_FORCE_INVALID: Refusal("time_in_force", "a market order is ioc or fok"),
    RejectCode.POST_ONLY_INVALID: Refusal("post_only", "post-only goes with limit orders that may rest (gtc, gtd)"),
    RejectCode.EXPIRY_INVALID: Refusal(
        "expires_ns", "a gtd order, and no other, carries a time after now and at most {bound} ahead", Unit.SPAN
    ),
    RejectCode.PRICE_NOT_ALLOWED: Refusal("price", "a market order carries no price"),
    RejectCode.PRICE_TOO_LOW: Refusal("price", "a price in this market is at least {bound}", Unit.TICKS),
    RejectCode.PRICE_TOO_HIGH: Refusal("price", "a price in this market is at most {bound}", Unit.TICKS),
    RejectCode.QTY_TOO_SMALL: Refusal("qty", "a quantity is at least {bound}", Unit.LOTS),
    RejectCode.QTY_TOO_LARGE: Refusal("qty", "a quantity in this market is at most {bound}", Unit.LOTS),
    RejectCode.NOTIONAL_TOO_LARGE: Refusal("qty", "price x quantity with fee and bond is at most {bound}", Unit.MSAT),
    RejectCode.LIMIT_TOO_LOW: Refusal("limit", "a limit in this market is at least {bound}, or 0 for none", Unit.LOTS),
    RejectCode.LIMIT_TOO_HIGH: Refusal("limit", "a limit in this market is at most {bound}, or 0 for none", Unit.LOTS),
    RejectCode.SPEED_TOO_LOW: Refusal("speed", "a speed in this market is at least {bound}", Unit.LOTS),
    RejectCode.SPEED_TOO_HIGH: Refusal("speed", "a speed in this market is at most {bound}", Unit.LOTS),
    RejectCode.BUDGET_TOO_SMALL: Refusal("budget", "a budget or refill in this market is at least {bound}", Unit.MSAT),
    RejectCode.BUDGET_TOO_LARGE: Refusal("budget", "a budget is at most {bound}", Unit.MSAT),
    RejectCode.PEG_INVALID: Refusal(
        "peg",
        "a pegged bid, and no other, has an offset of at most {bound} and a floor that its price is not below",
        Unit.TICKS,
    ),
    RejectCode.LIFE_INVALID: Refusal("expires_ns", "an order ends after now and at most {bound} ahead", Unit.SPAN),
    RejectCode.ORDER_UNKNOWN: Refusal("order_id", "the account has no open order of that id"),
    RejectCode.AMEND_EMPTY: Refusal("qty", "an amend names something to change"),
    RejectCode.EDIT_LOCKED: Refusal(
        "order_id", "the bid was edited a moment ago: price and limit can change at {bound}", Unit.TIME
    ),
    RejectCode.DECREASE_TOO_LARGE: Refusal("price", "a bid's price is lowered by at most {bound} at a time", Unit.TICKS),
    RejectCode.DECREASE_TOO_EARLY: Refusal("price", "the price changed a while ago: it can be lowered at {bound}", Unit.TIME),
    RejectCode.POOL_UNKNOWN: Refusal("pool_id", "the account has no such pool"),
    RejectCode.ORDERS_PER_ACCOUNT_FULL: Refusal("account", "an account has at most {bound} open orders"),
    RejectCode.ORDERS_FULL: Refusal("market", "the exchange holds at most {bound} open orders"),
    RejectCode.REDUCE_ONLY_EXCEEDED: Refusal("reduce_only", "{bound} is left to reduce on that side", Unit.LOTS),
    RejectCode.POST_ONLY_WOULD_TAKE: Refusal(
        "post_only", "the order would trade: the best price opposite is {bound}", Unit.TICKS
    ),
    RejectCode.FUNDS_INSUFFICIENT: Refusal("qty", "the order needs more than the {bound} available", Unit.MSAT),
    RejectCode.FILL_OR_KILL_UNFILLABLE: Refusal("qty", "{bound} could fill at once", Unit.LOTS),
    RejectCode.PEGS_FULL: Refusal("peg", "a market has at most {bound} pegged bids"),
    RejectCode.FLOWS_FULL: Refusal("market", "there are {bound} flows: more may not be, of the exchange or of one buyer"),
    RejectCode.BUDGET_NOT_COVERED: Refusal("budget", "the bid needs more than the {bound} available", Unit.MSAT),
    RejectCode.AMOUNT_INVALID: Refusal("amount", "an amount is more than 0 and at most {bound}", Unit.MSAT),
    RejectCode.DEPOSITS_FULL: Refusal("amount", "the exchange takes {bound} more in all", Unit.MSAT),
    RejectCode.BALANCE_INSUFFICIENT: Refusal("amount", "the account has {bound} available", Unit.MSAT),
    RejectCode.DESTINATION_INVALID: Refusal(
        "url", "a destination is a pool URL of 1 to {bound} characters, stratum+tcp://host:port, and a worker name"
    ),
    RejectCode.DESTINATIONS_FULL: Refusal("market", "an account has at most {bound} destinations"),
    RejectCode.DELIVERY_UNKNOWN: Refusal("delivery_id", "no such delivery, or it is settled"),
    RejectCode.DELIVERY_NOT_STARTED: Refusal("delivery_id", "the delivery starts at {bound}", Unit.TIME),
    RejectCode.WORK_DECREASED: Refusal("hashes", "work is reported in total so far, and {bound} was reported before"),
    RejectCode.WORK_TOO_LARGE: Refusal("hashes", "a delivery has at most 2^120 hashes, 2^63 - 1 shares; bound {bound}"),
    RejectCode.PERIOD_NOT_ENDED: Refusal("market", "the delivery period ends at {bound}", Unit.TIME),
    RejectCode.FLOW_UNKNOWN: Refusal("flow_id", "no such flow, or it is done with"),
    RejectCode.POOL_INVALID: Refusal(
        "name", "a pool has a name and an algorithm of 1 to {bound} printable characters and a password of at most as many"
    ),
    RejectCode.POOLS_FULL: Refusal("name", "an account has at most {bound} pools"),
}


def describe(code: RejectCode, bound: object) -> str:
    """The sentence a client reads for ``code``, with the bound that was broken: as text in the client's units, or as it is."""
    return REFUSALS[code].message.format(bound=bound)
