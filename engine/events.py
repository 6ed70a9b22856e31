"""What the engine says: one class per fact, in the order in which the facts happened. Nothing changes an event once it is made.

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
PlaceBid, PlaceAsk   BidPlaced or AskPlaced, then *moves*; or Rejected
AmendBid, AmendAsk   BidAmended or AskAmended, then *moves*; or Rejected
RefillBid            BidRefilled, for a stopped bid then BidResumed and *moves*; or Rejected
Cancel, CancelAll    BidEnded or AskEnded per live order, then its *moves*; orders of dated markets come first
ListLive             LiveListed; or Rejected
ReportFlow           FlowPaid; then perhaps AskEnded(IDLE) and *moves*, or what follows a stopped bid's last report; or Rejected
SetIndex             IndexSet, then per bid that follows it BidAmended(BID_REPRICED) and *moves*; or Rejected
SavePool, DeletePool PoolSaved, PoolDeleted; or Rejected
Tick                 none of its own
due: GTD             Canceled(EXPIRED)
due: gate            Canceled(GATE) per order, MarketStateChanged(CLOSED), DeliveryAssigned per delivery
due: period start    DeliveryUpdated(RUNNING) per delivery
due: settlement      as Settle
due: a bid's life    BidEnded(EXPIRED), *moves*; an ask's likewise
due: a bid's budget  BidStopped, *moves*; with no work to wait for then BidEnded(SPENT)
due: a flow's grace  FlowPaid(final)
*moves*              FlowChanged per flow that the change moved; then per pegged bid that follows a price that moved
                     BidAmended(BID_REPRICED) and the FlowChanged of that
a stopped bid's last BidResumed and *moves* if what is left is at least the market's smallest budget, else BidEnded(SPENT);
report               BidEnded(IDLE) if nothing was reported since it was placed or resumed
===================  ==============================================================================================

``account_seq`` numbers the facts that concern one account, from 1 without gaps, over all commands. A repeat of a client order
id returns its first outcome with ``repeat`` set; such an event is an answer and not a new fact, and keeps its first number;
its ``balance`` and ``held`` are those at the time of the repeat.
``balance`` and ``held`` are the account's, in msat, after the fact. Prices are ticks, quantities lots, positions signed lots.

Compiled, the classes are native: their integers stay machine words until somebody asks for an object. Plain Python has msgspec
Structs of the same signatures in their place, which it makes in less than half the time (decision 0012).
"""

from typing import Any, Final, TypeAlias, TypeVar, get_args

from msgspec import defstruct
from mypy_extensions import mypyc_attr

from engine.rejects import RejectCode
from engine.types import (
    BalanceReason,
    CancelReason,
    DeliveryState,
    EndReason,
    FlowCause,
    LiveSpec,
    MarketSpec,
    MarketState,
    OrderType,
    Peg,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)


# Compiled, events are left out of the cyclic garbage collector: none refers to what could refer to it.
@mypyc_attr(acyclic=True)
class _Fact:
    """What all events can do: be compared and shown."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and values(self) == values(other)

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in zip(FIELDS[type(self)], values(self), strict=True)]
        return f"{type(self).__name__}({', '.join(shown)})"


@mypyc_attr(acyclic=True)
class Accepted(_Fact):
    """The engine took the order.

    ``price`` is the limit it trades by: the one asked for, slid inside the book by post-only, or a market order's band edge.
    ``filled_qty`` traded at once and ``resting_qty`` entered the book; what is left of ``qty`` was canceled.
    ``balance`` and ``held`` are those before the trades that follow.
    """

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        side: Side,
        order_type: OrderType,
        price: int,
        qty: int,
        filled_qty: int,
        resting_qty: int,
        time_in_force: TimeInForce,
        post_only: PostOnly,
        reduce_only: bool,
        self_trade_prevention: SelfTradePrevention,
        expires_ns: int,
        ts_ns: int,
        balance: int,
        held: int,
        repeat: bool = False,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.side: Final = side
        self.order_type: Final = order_type
        self.price: Final = price
        self.qty: Final = qty
        self.filled_qty: Final = filled_qty
        self.resting_qty: Final = resting_qty
        self.time_in_force: Final = time_in_force
        self.post_only: Final = post_only
        self.reduce_only: Final = reduce_only
        self.self_trade_prevention: Final = self_trade_prevention
        self.expires_ns: Final = expires_ns
        self.ts_ns: Final = ts_ns
        self.balance: Final = balance
        self.held: Final = held
        self.repeat: Final = repeat


@mypyc_attr(acyclic=True)
class Rejected(_Fact):
    """The engine refused a command; nothing changed.

    ``account`` is 0 and ``account_seq`` 0 where no account is concerned; ``bound`` is the bound that was broken, 0 for none.
    """

    def __init__(
        self,
        account: int,
        account_seq: int,
        code: RejectCode,
        bound: int,
        order_id: int,
        client_order_id: str,
        market: str,
        repeat: bool = False,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.code: Final = code
        self.bound: Final = bound
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.repeat: Final = repeat


@mypyc_attr(acyclic=True)
class Trade(_Fact):
    """One match, with both halves of it. Public: market, trade_id, price, qty, aggressor_side.

    Fees are in msat. ``*_position`` is the account's net position after the trade, ``*_realized`` the profit (or loss) in
    msat that closing a position realised, fees not counted; ``*_remaining`` is what is left of the order.
    """

    def __init__(
        self,
        market: str,
        trade_id: int,
        price: int,
        qty: int,
        aggressor_side: Side,
        ts_ns: int,
        maker_account: int,
        maker_seq: int,
        maker_order_id: int,
        maker_client_order_id: str,
        maker_remaining: int,
        maker_fee: int,
        maker_realized: int,
        maker_position: int,
        maker_balance: int,
        maker_held: int,
        taker_account: int,
        taker_seq: int,
        taker_order_id: int,
        taker_client_order_id: str,
        taker_remaining: int,
        taker_fee: int,
        taker_realized: int,
        taker_position: int,
        taker_balance: int,
        taker_held: int,
    ) -> None:
        self.market: Final = market
        self.trade_id: Final = trade_id
        self.price: Final = price
        self.qty: Final = qty
        self.aggressor_side: Final = aggressor_side
        self.ts_ns: Final = ts_ns
        self.maker_account: Final = maker_account
        self.maker_seq: Final = maker_seq
        self.maker_order_id: Final = maker_order_id
        self.maker_client_order_id: Final = maker_client_order_id
        self.maker_remaining: Final = maker_remaining
        self.maker_fee: Final = maker_fee
        self.maker_realized: Final = maker_realized
        self.maker_position: Final = maker_position
        self.maker_balance: Final = maker_balance
        self.maker_held: Final = maker_held
        self.taker_account: Final = taker_account
        self.taker_seq: Final = taker_seq
        self.taker_order_id: Final = taker_order_id
        self.taker_client_order_id: Final = taker_client_order_id
        self.taker_remaining: Final = taker_remaining
        self.taker_fee: Final = taker_fee
        self.taker_realized: Final = taker_realized
        self.taker_position: Final = taker_position
        self.taker_balance: Final = taker_balance
        self.taker_held: Final = taker_held


@mypyc_attr(acyclic=True)
class Canceled(_Fact):
    """The rest of an order is gone without a trade. ``qty`` is that rest, ``resting`` whether it stood in the book."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        side: Side,
        price: int,
        qty: int,
        filled_qty: int,
        resting: bool,
        reason: CancelReason,
        balance: int,
        held: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.side: Final = side
        self.price: Final = price
        self.qty: Final = qty
        self.filled_qty: Final = filled_qty
        self.resting: Final = resting
        self.reason: Final = reason
        self.balance: Final = balance
        self.held: Final = held


@mypyc_attr(acyclic=True)
class Reduced(_Fact):
    """An order lost ``qty`` lots without a trade and keeps its place with the rest (self-trade decrement, reduce-only)."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        side: Side,
        price: int,
        qty: int,
        remaining_qty: int,
        resting: bool,
        reason: CancelReason,
        balance: int,
        held: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.side: Final = side
        self.price: Final = price
        self.qty: Final = qty
        self.remaining_qty: Final = remaining_qty
        self.resting: Final = resting
        self.reason: Final = reason
        self.balance: Final = balance
        self.held: Final = held


@mypyc_attr(acyclic=True)
class Amended(_Fact):
    """An order has a new price or quantity under its old id.

    ``old_resting_qty`` at ``old_price`` left the book and ``resting_qty`` at ``price`` stands in it after the trades that
    follow; ``kept_priority`` says whether it kept its place. ``balance`` and ``held`` are those before the trades.
    """

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        side: Side,
        old_price: int,
        old_resting_qty: int,
        price: int,
        qty: int,
        filled_qty: int,
        resting_qty: int,
        kept_priority: bool,
        balance: int,
        held: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.side: Final = side
        self.old_price: Final = old_price
        self.old_resting_qty: Final = old_resting_qty
        self.price: Final = price
        self.qty: Final = qty
        self.filled_qty: Final = filled_qty
        self.resting_qty: Final = resting_qty
        self.kept_priority: Final = kept_priority
        self.balance: Final = balance
        self.held: Final = held


@mypyc_attr(acyclic=True)
class AccountCreated(_Fact):
    def __init__(
        self,
        account: int,
        name: str,
    ) -> None:
        self.account: Final = account
        self.name: Final = name


@mypyc_attr(acyclic=True)
class BalanceChanged(_Fact):
    """A deposit (``amount`` > 0) or withdrawal (< 0)."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        amount: int,
        reason: BalanceReason,
        transfer_id: str,
        balance: int,
        held: int,
        repeat: bool = False,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.amount: Final = amount
        self.reason: Final = reason
        self.transfer_id: Final = transfer_id
        self.balance: Final = balance
        self.held: Final = held
        self.repeat: Final = repeat


@mypyc_attr(acyclic=True)
class MarketListed(_Fact):
    def __init__(
        self,
        spec: MarketSpec,
    ) -> None:
        self.spec: Final = spec


@mypyc_attr(acyclic=True)
class MarketStateChanged(_Fact):
    def __init__(
        self,
        market: str,
        state: MarketState,
    ) -> None:
        self.market: Final = market
        self.state: Final = state


@mypyc_attr(acyclic=True)
class DestinationSet(_Fact):
    def __init__(
        self,
        account: int,
        account_seq: int,
        market: str,
        url: str,
        worker: str,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.market: Final = market
        self.url: Final = url
        self.worker: Final = worker


@mypyc_attr(acyclic=True)
class DeliveryAssigned(_Fact):
    """A net short was matched with a net long at the gate: ``qty`` lots throughout the period.

    ``proceeds`` (the seller's, msat) and ``bond`` wait in the delivery; ``cost`` is what the buyer paid. The two positions
    are reduced by ``qty``.
    """

    def __init__(
        self,
        delivery_id: int,
        market: str,
        seller: int,
        seller_seq: int,
        buyer: int,
        buyer_seq: int,
        qty: int,
        hashrate: int,
        contracted_hashes: int,
        period_start_ns: int,
        period_end_ns: int,
        proceeds: int,
        bond: int,
        cost: int,
        url: str,
        worker: str,
    ) -> None:
        self.delivery_id: Final = delivery_id
        self.market: Final = market
        self.seller: Final = seller
        self.seller_seq: Final = seller_seq
        self.buyer: Final = buyer
        self.buyer_seq: Final = buyer_seq
        self.qty: Final = qty
        self.hashrate: Final = hashrate
        self.contracted_hashes: Final = contracted_hashes
        self.period_start_ns: Final = period_start_ns
        self.period_end_ns: Final = period_end_ns
        self.proceeds: Final = proceeds
        self.bond: Final = bond
        self.cost: Final = cost
        self.url: Final = url
        self.worker: Final = worker


@mypyc_attr(acyclic=True)
class DeliveryUpdated(_Fact):
    """Work was reported, the destination changed, or the period started."""

    def __init__(
        self,
        delivery_id: int,
        market: str,
        seller: int,
        seller_seq: int,
        buyer: int,
        buyer_seq: int,
        state: DeliveryState,
        proven_hashes: int,
        excused_hashes: int,
        shares: int,
        url: str,
        worker: str,
    ) -> None:
        self.delivery_id: Final = delivery_id
        self.market: Final = market
        self.seller: Final = seller
        self.seller_seq: Final = seller_seq
        self.buyer: Final = buyer
        self.buyer_seq: Final = buyer_seq
        self.state: Final = state
        self.proven_hashes: Final = proven_hashes
        self.excused_hashes: Final = excused_hashes
        self.shares: Final = shares
        self.url: Final = url
        self.worker: Final = worker


@mypyc_attr(acyclic=True)
class DeliverySettled(_Fact):
    """A delivery's end. All money in msat; see docs/ARCHITECTURE.md, Settlement.

    ``paid`` to the seller for work, ``refund`` and ``compensation`` to the buyer, ``bond_released`` to the seller, ``surplus``
    (price of undelivered work above the buyer's cost) to the insurance account, of ``refund`` ``from_insurance`` came
    from it; ``uncovered`` is what no one could pay.
    """

    def __init__(
        self,
        delivery_id: int,
        market: str,
        seller: int,
        seller_seq: int,
        buyer: int,
        buyer_seq: int,
        contracted_hashes: int,
        delivered_hashes: int,
        breach: bool,
        paid: int,
        refund: int,
        compensation: int,
        bond_released: int,
        surplus: int,
        from_insurance: int,
        uncovered: int,
        seller_balance: int,
        seller_held: int,
        buyer_balance: int,
        buyer_held: int,
    ) -> None:
        self.delivery_id: Final = delivery_id
        self.market: Final = market
        self.seller: Final = seller
        self.seller_seq: Final = seller_seq
        self.buyer: Final = buyer
        self.buyer_seq: Final = buyer_seq
        self.contracted_hashes: Final = contracted_hashes
        self.delivered_hashes: Final = delivered_hashes
        self.breach: Final = breach
        self.paid: Final = paid
        self.refund: Final = refund
        self.compensation: Final = compensation
        self.bond_released: Final = bond_released
        self.surplus: Final = surplus
        self.from_insurance: Final = from_insurance
        self.uncovered: Final = uncovered
        self.seller_balance: Final = seller_balance
        self.seller_held: Final = seller_held
        self.buyer_balance: Final = buyer_balance
        self.buyer_held: Final = buyer_held


@mypyc_attr(acyclic=True)
class LiveListed(_Fact):
    """A live market is open."""

    def __init__(
        self,
        spec: LiveSpec,
    ) -> None:
        self.spec: Final = spec


@mypyc_attr(acyclic=True)
class BidPlaced(_Fact):
    """The engine took a bid into a live market; the flows that it gets follow.

    ``price`` is what it pays now, ``cap`` the most it ever pays. ``budget`` is held; ``placing_fee`` has left the balance.
    """

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        price: int,
        limit: int,
        budget: int,
        url: str,
        worker: str,
        peg: Peg,
        offset: int,
        floor: int,
        cap: int,
        expires_ns: int,
        ts_ns: int,
        placing_fee: int,
        balance: int,
        held: int,
        repeat: bool = False,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.price: Final = price
        self.limit: Final = limit
        self.budget: Final = budget
        self.url: Final = url
        self.worker: Final = worker
        self.peg: Final = peg
        self.offset: Final = offset
        self.floor: Final = floor
        self.cap: Final = cap
        self.expires_ns: Final = expires_ns
        self.ts_ns: Final = ts_ns
        self.placing_fee: Final = placing_fee
        self.balance: Final = balance
        self.held: Final = held
        self.repeat: Final = repeat


@mypyc_attr(acyclic=True)
class AskPlaced(_Fact):
    """The engine took an ask into a live market; the flows that it gets follow."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        price: int,
        speed: int,
        expires_ns: int,
        ts_ns: int,
        balance: int,
        held: int,
        repeat: bool = False,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.price: Final = price
        self.speed: Final = speed
        self.expires_ns: Final = expires_ns
        self.ts_ns: Final = ts_ns
        self.balance: Final = balance
        self.held: Final = held
        self.repeat: Final = repeat


@mypyc_attr(acyclic=True)
class BidAmended(_Fact):
    """A bid changed: by its buyer (BID_AMENDED), or because what it follows moved (BID_REPRICED). Flows that move follow."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        old_price: int,
        price: int,
        cap: int,
        limit: int,
        url: str,
        worker: str,
        cause: FlowCause,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.old_price: Final = old_price
        self.price: Final = price
        self.cap: Final = cap
        self.limit: Final = limit
        self.url: Final = url
        self.worker: Final = worker
        self.cause: Final = cause


@mypyc_attr(acyclic=True)
class AskAmended(_Fact):
    """A seller changed an ask. The flows that move follow."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        old_price: int,
        price: int,
        old_speed: int,
        speed: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.old_price: Final = old_price
        self.price: Final = price
        self.old_speed: Final = old_speed
        self.speed: Final = speed


@mypyc_attr(acyclic=True)
class BidStopped(_Fact):
    """The bid's budget could be spent by now: it left the book until the last work of its flows is reported.

    ``left`` is what is not charged yet, in msat.
    """

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        left: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.left: Final = left


@mypyc_attr(acyclic=True)
class BidResumed(_Fact):
    """A bid that was stopped is back in the book, last at its ``price``. ``left`` is what is not charged yet."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        price: int,
        left: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.price: Final = price
        self.left: Final = left


@mypyc_attr(acyclic=True)
class BidRefilled(_Fact):
    """A bid's budget grew by ``amount``; ``left`` is what is not charged yet."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        refill_id: str,
        amount: int,
        left: int,
        balance: int,
        held: int,
        repeat: bool = False,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.refill_id: Final = refill_id
        self.amount: Final = amount
        self.left: Final = left
        self.balance: Final = balance
        self.held: Final = held
        self.repeat: Final = repeat


@mypyc_attr(acyclic=True)
class BidEnded(_Fact):
    """A bid's end. Of all that was put in (``budget``) ``spent`` is charged, ``returned`` is available again at once, and the
    rest is held until the last work of its flows is reported.
    """

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        reason: EndReason,
        budget: int,
        spent: int,
        returned: int,
        balance: int,
        held: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.reason: Final = reason
        self.budget: Final = budget
        self.spent: Final = spent
        self.returned: Final = returned
        self.balance: Final = balance
        self.held: Final = held


@mypyc_attr(acyclic=True)
class AskEnded(_Fact):
    """An ask's end."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        order_id: int,
        client_order_id: str,
        market: str,
        reason: EndReason,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.order_id: Final = order_id
        self.client_order_id: Final = client_order_id
        self.market: Final = market
        self.reason: Final = reason


@mypyc_attr(acyclic=True)
class FlowChanged(_Fact):
    """Hashrate from an ask to a bid: it began (``old_speed`` 0), changed, or ended (``speed`` 0); both in lots.

    ``price`` is the bid's. Both speeds are the same where the bid is pointed at another pool.
    """

    def __init__(
        self,
        flow_id: int,
        market: str,
        bid_id: int,
        buyer: int,
        buyer_seq: int,
        ask_id: int,
        seller: int,
        seller_seq: int,
        old_speed: int,
        speed: int,
        price: int,
        cause: FlowCause,
        url: str,
        worker: str,
        ts_ns: int,
    ) -> None:
        self.flow_id: Final = flow_id
        self.market: Final = market
        self.bid_id: Final = bid_id
        self.buyer: Final = buyer
        self.buyer_seq: Final = buyer_seq
        self.ask_id: Final = ask_id
        self.seller: Final = seller
        self.seller_seq: Final = seller_seq
        self.old_speed: Final = old_speed
        self.speed: Final = speed
        self.price: Final = price
        self.cause: Final = cause
        self.url: Final = url
        self.worker: Final = worker
        self.ts_ns: Final = ts_ns


@mypyc_attr(acyclic=True)
class FlowPaid(_Fact):
    """Work of a flow was reported. ``hashes`` are proven in total, ``paid_hashes`` of them paid, ``work`` of those by this
    report, as is the money, in msat.

    The buyer pays ``cost`` + ``buyer_fee``, the seller gets ``cost`` - ``seller_fee``. ``released`` is what an ended bid no
    longer has to hold. ``final``: the flow is done with.
    """

    def __init__(
        self,
        flow_id: int,
        market: str,
        bid_id: int,
        buyer: int,
        buyer_seq: int,
        ask_id: int,
        seller: int,
        seller_seq: int,
        hashes: int,
        paid_hashes: int,
        work: int,
        cost: int,
        buyer_fee: int,
        seller_fee: int,
        released: int,
        final: bool,
        buyer_balance: int,
        buyer_held: int,
        seller_balance: int,
        seller_held: int,
    ) -> None:
        self.flow_id: Final = flow_id
        self.market: Final = market
        self.bid_id: Final = bid_id
        self.buyer: Final = buyer
        self.buyer_seq: Final = buyer_seq
        self.ask_id: Final = ask_id
        self.seller: Final = seller
        self.seller_seq: Final = seller_seq
        self.hashes: Final = hashes
        self.paid_hashes: Final = paid_hashes
        self.work: Final = work
        self.cost: Final = cost
        self.buyer_fee: Final = buyer_fee
        self.seller_fee: Final = seller_fee
        self.released: Final = released
        self.final: Final = final
        self.buyer_balance: Final = buyer_balance
        self.buyer_held: Final = buyer_held
        self.seller_balance: Final = seller_balance
        self.seller_held: Final = seller_held


@mypyc_attr(acyclic=True)
class IndexSet(_Fact):
    """A live market's index price; 0: there is none."""

    def __init__(
        self,
        market: str,
        price: int,
    ) -> None:
        self.market: Final = market
        self.price: Final = price


@mypyc_attr(acyclic=True)
class PoolSaved(_Fact):
    """An account made or changed a pool."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        pool_id: int,
        name: str,
        algorithm: str,
        url: str,
        worker: str,
        password: str,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.pool_id: Final = pool_id
        self.name: Final = name
        self.algorithm: Final = algorithm
        self.url: Final = url
        self.worker: Final = worker
        self.password: Final = password


@mypyc_attr(acyclic=True)
class PoolDeleted(_Fact):
    """An account forgot a pool."""

    def __init__(
        self,
        account: int,
        account_seq: int,
        pool_id: int,
    ) -> None:
        self.account: Final = account
        self.account_seq: Final = account_seq
        self.pool_id: Final = pool_id


def _as_struct(kind: Any) -> type:
    """The Struct of the same name and signature."""
    hints = [*kind.__init__.__annotations__.items()]
    hints.remove(("return", None))
    defaults = kind.__init__.__defaults__ or ()
    first = len(hints) - len(defaults)
    with_default = [(*hint, default) for hint, default in zip(hints[first:], defaults, strict=True)]
    fields = [*hints[:first], *with_default]
    namespace = {"__doc__": kind.__doc__}
    return defstruct(kind.__name__, fields, frozen=True, gc=False, module=kind.__module__, namespace=namespace)


_COMPILED: Final = hasattr(_Fact, "__mypyc_attrs__")
if not _COMPILED:
    for _kind in _Fact.__subclasses__():
        globals()[_kind.__name__] = _as_struct(_kind)

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
    | LiveListed
    | BidPlaced
    | AskPlaced
    | BidAmended
    | AskAmended
    | BidStopped
    | BidResumed
    | BidRefilled
    | BidEnded
    | AskEnded
    | FlowChanged
    | FlowPaid
    | IndexSet
    | PoolSaved
    | PoolDeleted
)

_E = TypeVar("_E")

FIELDS: Final[dict[type, tuple[str, ...]]] = {
    kind: getattr(kind, "__mypyc_attrs__" if _COMPILED else "__struct_fields__") for kind in get_args(Event)
}
"""The names of what each kind of event tells, in order."""


def values(event: object) -> tuple[Any, ...]:
    """What an event tells, in the order of FIELDS. For tests and tools: an attribute is read faster by its name."""
    return tuple([getattr(event, name) for name in FIELDS[type(event)]])


def replace(event: _E, **changes: object) -> _E:
    """The event with other values, like ``dataclasses.replace``. For what happens seldom: making one by its signature takes a
    fraction of the time. TypeError for a name that it does not have."""
    told = dict(zip(FIELDS[type(event)], values(event), strict=True))
    told.update(changes)
    return type(event)(**told)
