"""Ids, enums and the market's specification: the words every other module uses.

Inside the exchange a price is a whole number of ticks, a quantity a whole number of lots, money a whole number of
millisatoshi (msat), a time a whole number of nanoseconds since the Unix epoch. Text decimals exist only at the edge.
"""

from enum import IntEnum
from typing import Final

from msgspec import Struct

FEES_ACCOUNT: Final = 1
"""The house account that earns fees and the odd msat of every rounding."""
INSURANCE_ACCOUNT: Final = 2
"""The house account that makes buyers whole when a seller's proceeds and bond do not."""
FIRST_ACCOUNT: Final = 100
"""The id of the first account that is created; ids count up from here."""


class Side(IntEnum):
    """An order's side. Buys rest as bids, sells as asks."""

    BUY = 1
    SELL = 2


class OrderType(IntEnum):
    """LIMIT trades at its price or better; MARKET at any price inside the market's price band."""

    LIMIT = 1
    MARKET = 2


class TimeInForce(IntEnum):
    """How long an order lives: until canceled, not at all (IOC), all or nothing at once (FOK), until a time (GTD)."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTD = 4


class PostOnly(IntEnum):
    """What happens to an order that must not take but would: REJECT it, or SLIDE it one tick inside the other side."""

    OFF = 0
    REJECT = 1
    SLIDE = 2


class SelfTradePrevention(IntEnum):
    """What happens instead of a trade between two orders of one account; the taker's mode rules."""

    NONE = 0
    CANCEL_MAKER = 1
    CANCEL_TAKER = 2
    CANCEL_BOTH = 3
    DECREMENT = 4


class MarketState(IntEnum):
    """OPEN: everything. CANCEL_ONLY: cancels. HALTED: nothing. CLOSED: the gate has passed; deliveries run.

    SETTLED is final: the market's last event, after which the engine forgets it.
    """

    OPEN = 1
    CANCEL_ONLY = 2
    HALTED = 3
    CLOSED = 4
    SETTLED = 5


class OrderStatus(IntEnum):
    """OPEN rests in the book; the others are final."""

    OPEN = 1
    FILLED = 2
    CANCELED = 3
    EXPIRED = 4


class CancelReason(IntEnum):
    """Why an order, or part of it, went without a trade."""

    REQUESTED = 1
    """By the account's own cancel or cancel_all."""
    IMMEDIATE = 2
    """The rest of an IOC order found no more at its price."""
    NO_LIQUIDITY = 3
    """The rest of a market order: the other side is empty, or goes on only outside the price band."""
    SELF_TRADE = 4
    REDUCE_ONLY = 5
    """The position shrank, so the reduce-only order had more than is left to reduce."""
    AMENDED = 6
    """Amended to no more than what was filled already."""
    EXPIRED = 7
    """GTD time reached."""
    GATE = 8
    """The market's gate closed."""
    OPERATOR = 9


class DeliveryState(IntEnum):
    """SCHEDULED from the gate until the period starts, RUNNING until it is settled, then SETTLED."""

    SCHEDULED = 1
    RUNNING = 2
    SETTLED = 3


class BalanceReason(IntEnum):
    """Why a balance changed outside of trading."""

    DEPOSIT = 1
    WITHDRAW = 2


class MarketSpec(Struct, frozen=True, kw_only=True):
    """One dated market: everything the engine needs to know of it, recorded with the command that lists it.

    Notional of ``price`` ticks x ``qty`` lots is ``price * qty * tick_lot_msat * period / day`` msat, where ``period`` is
    ``period_end_ns - period_start_ns``; for a whole day it is a whole number.
    """

    symbol: str
    """Unique name, e.g. ``SHA256-20261124``."""
    kind: str = "dated"
    algorithm: str
    speed_unit: str
    """Text of the unit that quantities are quoted in, e.g. ``PH/s``."""
    tick_size: str
    """One tick as a decimal of BTC per speed unit per day, e.g. ``0.00000001``."""
    lot_size: str
    """One lot as a decimal of the speed unit, e.g. ``0.001``."""
    tick_lot_msat: int
    """msat that one lot costs per day at a price of one tick."""
    lot_hashrate: int
    """Hashes per second of one lot."""
    gate_ns: int
    """Trading ends here; positions become deliveries."""
    period_start_ns: int
    period_end_ns: int
    settle_ns: int
    """Deliveries that nobody settled by now settle by themselves; the meter has from the period's end until here."""
    reference_price: int
    """In ticks; the price band's centre until the first trade."""
    price_max: int
    """Highest price of an order, in ticks."""
    price_min: int = 1
    """Lowest price of an order, in ticks. With ``price_max`` this is the market's collar: where the bond covers its width,
    nobody gains by selling low to a friend who sells high, and then not delivering."""
    qty_max: int
    """Largest order, in lots."""
    maker_fee_bps: int = 10
    taker_fee_bps: int = 20
    bond_bps: int = 2_000
    """A seller's bond as a share of notional."""
    band_bps: int = 1_000
    """A market order trades within this share of the last trade's price, up and down."""
    tolerance_bps: int = 300
    """Shortfall that is forgiven whatever the number of shares."""
    penalty_bps: int = 500
    """Compensation as a share of the undelivered part's price, taken from the bond once the tolerance is exceeded."""


class Peg(IntEnum):
    """What a live bid's price follows. NONE: nothing, it is the buyer's own."""

    NONE = 0
    TOP = 1
    """The best price among bids whose price does not depend on other bids."""
    MARGINAL = 2
    """The marginal price as it would be without the bids that follow it."""
    INDEX = 3
    """The market's index price, which the operator sets."""


class Pricing(IntEnum):
    """What a live market's buyers pay per unit of proven work: each the own bid, or everybody the marginal price."""

    PAY_AS_BID = 1
    UNIFORM = 2


class FlowCause(IntEnum):
    """What moved a flow: the change of an order, its own or another one."""

    BID_PLACED = 1
    BID_AMENDED = 2
    """Price or limit, by its buyer."""
    BID_REPRICED = 3
    """It is pegged, and what it follows moved."""
    BID_STOPPED = 4
    """Its budget could be spent by now."""
    BID_RESUMED = 5
    """Less was spent than could be, or the budget was refilled."""
    BID_ENDED = 6
    ASK_PLACED = 7
    ASK_AMENDED = 8
    ASK_ENDED = 9


class EndReason(IntEnum):
    """Why a live order ended."""

    REQUESTED = 1
    SPENT = 2
    """The bid's budget is spent."""
    EXPIRED = 3
    IDLE = 4
    """A flow of the ask proved no work for too long; or no work of the bid was reported until its budget could be spent."""
    CLOSED = 5
    """The market was closed."""
    OPERATOR = 6


class LiveSpec(Struct, frozen=True, kw_only=True):
    """One live market: everything the engine needs to know of it, recorded with the command that lists it.

    One lot of speed at a price of one tick costs ``tick_lot_msat`` a day, so ``h`` hashes at ``price`` ticks cost
    ``price * h * tick_lot_msat / (lot_hashrate * 86400)`` msat.
    """

    symbol: str
    """Unique name, e.g. ``SHA256-LIVE``; no dated market has it at the same time."""
    kind: str = "live"
    algorithm: str
    speed_unit: str
    tick_size: str
    lot_size: str
    tick_lot_msat: int
    lot_hashrate: int
    """Hashes per second of one lot."""
    price_max: int
    """Highest price of an order, in ticks."""
    price_min: int = 1
    speed_max: int
    """Largest limit of a bid and largest speed of an ask, in lots."""
    speed_min: int = 1
    """Smallest limit of a bid and smallest speed of an ask, in lots."""
    budget_min: int = 1
    """Smallest budget of a bid, and smallest refill, in msat."""
    pricing: Pricing = Pricing.PAY_AS_BID
    buyer_fee_bps: int = 0
    """On top of what the buyer pays for work; it comes out of the budget."""
    seller_fee_bps: int = 0
    """Of what the seller earns."""
    placing_fee: int = 0
    """msat for placing a bid, on top of its budget; never returned."""
    decrease_interval_ns: int = 0
    """How long after a bid's price last changed it may be lowered; 0: at once."""
    decrease_step: int = 0
    """The most by which a bid's price may be lowered at a time, in ticks; 0: any."""
    lock_ns: int = 0
    """How long after an edit a bid's price and limit stay as they are."""
    life_ns: int = 10 * 86_400 * 1_000_000_000
    """How long a bid lives at most, and where it does not say."""
    slack_ns: int = 60 * 1_000_000_000
    """How much unproven time of a running flow may still be made up for: shares come in bursts."""
    grace_ns: int = 600 * 1_000_000_000
    """How long after its end a flow's work may be reported; what is unproven then is not paid."""
    idle_ns: int = 300 * 1_000_000_000
    """An ask ends when a report finds no new work of one of its flows for longer than that; 0: never."""
