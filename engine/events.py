"""What the engine says: one frozen Struct per fact, in the order in which the facts happened.

The event contract (due work first: expiries, gates and settlements that fell due by the entry's time):

===================  ==============================================================================================
command              events
===================  ==============================================================================================
Place                Accepted, then per match Trade (or Canceled/Reduced by self-trade prevention), then Canceled for
                     a remainder that may not rest; or Rejected
Amend                Amended, then as for Place when the new price trades; Canceled alone when nothing would be left;
                     or Rejected
Cancel               Canceled; or Rejected
CancelAll            one Canceled per order, oldest first; Rejected for an unknown account or market
SetDestination       DestinationSet, then DeliveryUpdated per running delivery that it changes; or Rejected
CreateAccount        AccountCreated; or Rejected
Deposit, Withdraw    BalanceChanged; or Rejected
ListMarket           MarketListed; or Rejected
SetMarketState       MarketStateChanged, then Canceled per order when it closes; or Rejected
ReportWork           DeliveryUpdated; or Rejected
Settle               DeliverySettled per delivery, then MarketStateChanged(SETTLED); or Rejected
Tick                 none of its own
due: GTD             Canceled(EXPIRED)
due: gate            Canceled(GATE) per order, MarketStateChanged(CLOSED), DeliveryAssigned per delivery
due: period start    DeliveryUpdated(RUNNING) per delivery
due: settlement      as Settle
===================  ==============================================================================================

``account_seq`` numbers the facts that concern one account, from 1 without gaps, over all commands. A repeat of a client order
id returns its first outcome with ``repeat`` set; such an event is an answer and not a new fact, and keeps its first number;
its ``balance`` and ``held`` are those at the time of the repeat.
``balance`` and ``held`` are the account's, in msat, after the fact. Prices are ticks, quantities lots, positions signed lots.
"""

from typing import TypeAlias

from msgspec import Struct

from engine.rejects import RejectCode
from engine.types import (
    BalanceReason,
    CancelReason,
    DeliveryState,
    MarketSpec,
    MarketState,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)


class Accepted(Struct, frozen=True, gc=False, tag="accepted"):
    """The engine took the order.

    ``price`` is the limit it trades by: the one asked for, slid inside the book by post-only, or a market order's band edge.
    ``filled_qty`` traded at once and ``resting_qty`` entered the book; what is left of ``qty`` was canceled.
    ``balance`` and ``held`` are those before the trades that follow.
    """

    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    side: Side
    order_type: OrderType
    price: int
    qty: int
    filled_qty: int
    resting_qty: int
    time_in_force: TimeInForce
    post_only: PostOnly
    reduce_only: bool
    self_trade_prevention: SelfTradePrevention
    expires_ns: int
    ts_ns: int
    balance: int
    held: int
    repeat: bool = False


class Rejected(Struct, frozen=True, gc=False, tag="rejected"):
    """The engine refused a command; nothing changed.

    ``account`` is 0 and ``account_seq`` 0 where no account is concerned; ``bound`` is the bound that was broken, 0 for none.
    """

    account: int
    account_seq: int
    code: RejectCode
    bound: int
    order_id: int
    client_order_id: str
    market: str
    repeat: bool = False


class Trade(Struct, frozen=True, gc=False, tag="trade"):
    """One match, with both halves of it. Public: market, trade_id, price, qty, aggressor_side.

    Fees are in msat. ``*_position`` is the account's net position after the trade, ``*_realized`` the profit (or loss) in
    msat that closing a position realised, fees not counted; ``*_remaining`` is what is left of the order.
    """

    market: str
    trade_id: int
    price: int
    qty: int
    aggressor_side: Side
    ts_ns: int
    maker_account: int
    maker_seq: int
    maker_order_id: int
    maker_client_order_id: str
    maker_remaining: int
    maker_fee: int
    maker_realized: int
    maker_position: int
    maker_balance: int
    maker_held: int
    taker_account: int
    taker_seq: int
    taker_order_id: int
    taker_client_order_id: str
    taker_remaining: int
    taker_fee: int
    taker_realized: int
    taker_position: int
    taker_balance: int
    taker_held: int


class Canceled(Struct, frozen=True, gc=False, tag="canceled"):
    """The rest of an order is gone without a trade. ``qty`` is that rest, ``resting`` whether it stood in the book."""

    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    side: Side
    price: int
    qty: int
    filled_qty: int
    resting: bool
    reason: CancelReason
    balance: int
    held: int


class Reduced(Struct, frozen=True, gc=False, tag="reduced"):
    """An order lost ``qty`` lots without a trade and keeps its place with the rest (self-trade decrement, reduce-only)."""

    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    side: Side
    price: int
    qty: int
    remaining_qty: int
    resting: bool
    reason: CancelReason
    balance: int
    held: int


class Amended(Struct, frozen=True, gc=False, tag="amended"):
    """An order has a new price or quantity under its old id.

    ``old_resting_qty`` at ``old_price`` left the book and ``resting_qty`` at ``price`` stands in it after the trades that
    follow; ``kept_priority`` says whether it kept its place. ``balance`` and ``held`` are those before the trades.
    """

    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    side: Side
    old_price: int
    old_resting_qty: int
    price: int
    qty: int
    filled_qty: int
    resting_qty: int
    kept_priority: bool
    balance: int
    held: int


class AccountCreated(Struct, frozen=True, gc=False, tag="account_created"):
    account: int
    name: str


class BalanceChanged(Struct, frozen=True, gc=False, tag="balance_changed"):
    """A deposit (``amount`` > 0) or withdrawal (< 0)."""

    account: int
    account_seq: int
    amount: int
    reason: BalanceReason
    transfer_id: str
    balance: int
    held: int
    repeat: bool = False


class MarketListed(Struct, frozen=True, tag="market_listed"):
    spec: MarketSpec


class MarketStateChanged(Struct, frozen=True, gc=False, tag="market_state"):
    market: str
    state: MarketState


class DestinationSet(Struct, frozen=True, gc=False, tag="destination_set"):
    account: int
    account_seq: int
    market: str
    url: str
    worker: str


class DeliveryAssigned(Struct, frozen=True, gc=False, tag="delivery_assigned"):
    """A net short was matched with a net long at the gate: ``qty`` lots throughout the period.

    ``proceeds`` (the seller's, msat) and ``bond`` wait in the delivery; ``cost`` is what the buyer paid. The two positions
    are reduced by ``qty``.
    """

    delivery_id: int
    market: str
    seller: int
    seller_seq: int
    buyer: int
    buyer_seq: int
    qty: int
    hashrate: int
    contracted_hashes: int
    period_start_ns: int
    period_end_ns: int
    proceeds: int
    bond: int
    cost: int
    url: str
    worker: str


class DeliveryUpdated(Struct, frozen=True, gc=False, tag="delivery_updated"):
    """Work was reported, the destination changed, or the period started."""

    delivery_id: int
    market: str
    seller: int
    seller_seq: int
    buyer: int
    buyer_seq: int
    state: DeliveryState
    proven_hashes: int
    excused_hashes: int
    shares: int
    url: str
    worker: str


class DeliverySettled(Struct, frozen=True, gc=False, tag="delivery_settled"):
    """A delivery's end. All money in msat; see docs/ARCHITECTURE.md, Settlement.

    ``paid`` to the seller for work, ``refund`` and ``compensation`` to the buyer, ``bond_released`` to the seller, ``surplus``
    (price of undelivered work above the buyer's cost) to the insurance account, of ``refund`` ``from_insurance`` came
    from it; ``uncovered`` is what no one could pay.
    """

    delivery_id: int
    market: str
    seller: int
    seller_seq: int
    buyer: int
    buyer_seq: int
    contracted_hashes: int
    delivered_hashes: int
    breach: bool
    paid: int
    refund: int
    compensation: int
    bond_released: int
    surplus: int
    from_insurance: int
    uncovered: int
    seller_balance: int
    seller_held: int
    buyer_balance: int
    buyer_held: int


Event: TypeAlias = (
    Accepted
    | Rejected
    | Trade
    | Canceled
    | Reduced
    | Amended
    | AccountCreated
    | BalanceChanged
    | MarketListed
    | MarketStateChanged
    | DestinationSet
    | DeliveryAssigned
    | DeliveryUpdated
    | DeliverySettled
)
