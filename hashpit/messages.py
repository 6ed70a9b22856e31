"""What the server's answers and channels carry, as types: one table for methods, one function for channels.

Shapes that the server names itself come from ``gateway.wire``. The events of the ``account`` and ``status`` channels are told
apart by their ``event`` field; each has a Struct here. Unknown fields are ignored, so the server may grow.
"""

from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct

from gateway import wire
from gateway.wire import (
    AccountSnapshot,
    AnyMarketInfo,
    BookView,
    FillView,
    FlowStartView,
    LiveBookView,
    LiveMarketInfo,
    LiveTickerView,
    MarketInfo,
    TickerView,
    TradeView,
)

# ----------------------------------------------------------------------------------------------------- account channel


class AccountEvent(Struct, tag_field="event", kw_only=True):
    """Base of what happens to an account. ``balance`` and ``held`` (BTC) are the account's after the event."""


class Accepted(AccountEvent, tag="accepted"):
    """The engine took an order. ``filled_qty`` traded at once, ``resting_qty`` entered the book."""

    order_id: int
    client_order_id: str
    market: str
    side: str
    type: str
    price: str
    qty: str
    filled_qty: str
    resting_qty: str
    time_in_force: str
    balance: str
    held: str


class Rejected(AccountEvent, tag="rejected"):
    """The engine refused a command."""

    code: int
    message: str
    reason: str
    field: str
    bound: str
    order_id: int
    client_order_id: str
    market: str


class Fill(FillView, AccountEvent, tag="fill", tag_field="event", kw_only=True):
    """The account's half of a trade; ``position`` is its signed position after it."""

    position: str
    balance: str
    held: str


class Canceled(AccountEvent, tag="canceled"):
    """The rest of an order, ``qty``, is gone without a trade."""

    order_id: int
    client_order_id: str
    market: str
    side: str
    price: str
    qty: str
    filled_qty: str
    reason: str
    balance: str
    held: str


class Reduced(AccountEvent, tag="reduced"):
    """An order lost ``qty`` without a trade and keeps its place with ``remaining_qty``."""

    order_id: int
    client_order_id: str
    market: str
    side: str
    price: str
    qty: str
    remaining_qty: str
    reason: str
    balance: str
    held: str


class Amended(AccountEvent, tag="amended"):
    """An order has a new price or quantity under its old id."""

    order_id: int
    client_order_id: str
    market: str
    side: str
    old_price: str
    price: str
    qty: str
    filled_qty: str
    resting_qty: str
    kept_priority: bool
    balance: str
    held: str


class BalanceChanged(AccountEvent, tag="balance"):
    """A deposit or a withdrawal (negative)."""

    amount: str
    reason: str
    transfer_id: str
    balance: str
    held: str


class DestinationSet(AccountEvent, tag="destination"):
    """Where hashrate bought in a market goes from now on."""

    market: str
    url: str
    worker: str


class DeliveryAssigned(AccountEvent, tag="delivery_assigned"):
    """The gate closed: the account sells or buys a delivery."""

    delivery_id: int
    market: str
    role: Literal["seller", "buyer"]
    qty: str
    hashrate: str
    contracted_hashes: str
    period_start_us: int
    period_end_us: int
    url: str
    worker: str


class DeliveryUpdated(AccountEvent, tag="delivery_updated"):
    """Work was reported, the destination changed, or the period started."""

    delivery_id: int
    market: str
    role: Literal["seller", "buyer"]
    state: str
    proven_hashes: str
    excused_hashes: str
    shares: int


class DeliverySettled(AccountEvent, tag="delivery_settled"):
    """A delivery's end, and who got what."""

    delivery_id: int
    market: str
    role: Literal["seller", "buyer"]
    contracted_hashes: str
    delivered_hashes: str
    breach: bool
    paid: str
    refund: str
    compensation: str
    bond_released: str
    uncovered: str
    balance: str
    held: str


class BidPlaced(AccountEvent, tag="bid_placed"):
    """The engine took a bid into a live market. ``price`` is what it pays now, ``cap`` the most it ever pays."""

    order_id: int
    client_order_id: str
    market: str
    price: str
    cap: str
    limit: str | None
    budget: str
    url: str
    worker: str
    peg: str
    offset: str
    floor: str | None
    expires_us: int
    ts_us: int
    placing_fee: str
    balance: str
    held: str


class BidAmended(AccountEvent, tag="bid_amended"):
    """A bid changed: by its buyer (``bid_amended``), or because what it follows moved (``bid_repriced``)."""

    order_id: int
    client_order_id: str
    market: str
    old_price: str
    price: str
    cap: str
    limit: str | None
    url: str
    worker: str
    cause: str


class BidStopped(AccountEvent, tag="bid_stopped"):
    """A bid's budget could be spent by now: it is out of the book until the last work of its flows is reported."""

    order_id: int
    client_order_id: str
    market: str
    left: str


class BidResumed(AccountEvent, tag="bid_resumed"):
    """A bid that was stopped is back in the book."""

    order_id: int
    client_order_id: str
    market: str
    price: str
    left: str


class BidRefilled(AccountEvent, tag="bid_refilled"):
    """A bid's budget grew."""

    order_id: int
    client_order_id: str
    market: str
    refill_id: str
    amount: str
    left: str
    balance: str
    held: str


class BidEnded(AccountEvent, tag="bid_ended"):
    """A bid's end: of its ``budget`` ``spent`` is charged and ``returned`` available again; the rest waits for reports."""

    order_id: int
    client_order_id: str
    market: str
    reason: str
    budget: str
    spent: str
    returned: str
    balance: str
    held: str


class AskPlaced(AccountEvent, tag="ask_placed"):
    """The engine took an ask into a live market."""

    order_id: int
    client_order_id: str
    market: str
    price: str
    speed: str
    expires_us: int
    ts_us: int
    balance: str
    held: str


class AskAmended(AccountEvent, tag="ask_amended"):
    """An ask has another price or speed."""

    order_id: int
    client_order_id: str
    market: str
    old_price: str
    price: str
    old_speed: str
    speed: str


class AskEnded(AccountEvent, tag="ask_ended"):
    """An ask's end."""

    order_id: int
    client_order_id: str
    market: str
    reason: str


class FlowChanged(AccountEvent, tag="flow_changed"):
    """Hashrate that the account buys or sells, under its order ``order_id``: it started, was resized, ended, or goes to
    another pool."""

    flow_id: int
    market: str
    role: Literal["seller", "buyer"]
    change: Literal["started", "resized", "ended", "redirected"]
    order_id: int
    old_speed: str
    speed: str
    price: str
    cause: str
    url: str
    worker: str
    ts_us: int


class FlowPaid(AccountEvent, tag="flow_paid"):
    """Work of a flow was reported. The money is that of this report, ``fee`` the account's own; hashes are totals."""

    flow_id: int
    market: str
    role: Literal["seller", "buyer"]
    order_id: int
    hashes: str
    paid_hashes: str
    cost: str
    fee: str
    final: bool
    balance: str
    held: str
    released: str = ""


class PoolSaved(AccountEvent, tag="pool_saved"):
    """A pool was made or changed."""

    pool_id: int
    name: str
    algorithm: str
    url: str
    worker: str
    password: str


class PoolDeleted(AccountEvent, tag="pool_deleted"):
    """A pool was forgotten."""

    pool_id: int


AnyAccountEvent = (
    Accepted
    | Rejected
    | Fill
    | Canceled
    | Reduced
    | Amended
    | BalanceChanged
    | DestinationSet
    | DeliveryAssigned
    | DeliveryUpdated
    | DeliverySettled
    | BidPlaced
    | BidAmended
    | BidStopped
    | BidResumed
    | BidRefilled
    | BidEnded
    | AskPlaced
    | AskAmended
    | AskEnded
    | FlowChanged
    | FlowPaid
    | PoolSaved
    | PoolDeleted
)

# ------------------------------------------------------------------------------------------------------ other channels


class ServerState(Struct):
    """``open``, or ``stopping``: the server is about to close all connections."""

    state: str


class StatusSnapshot(Struct):
    """The server's state and every market's terms."""

    server: ServerState
    markets: list[AnyMarketInfo]


class ServerChanged(Struct, tag_field="event", tag="server"):
    state: str


class MarketListed(Struct, tag_field="event", tag="market_listed"):
    market: str
    terms: AnyMarketInfo


class MarketStateChanged(Struct, tag_field="event", tag="market_state"):
    market: str
    state: str


class ChannelClosed(Struct, tag_field="event", tag="closed"):
    """A channel's last message: its market is gone."""

    reason: str = ""


_DATA: Final[dict[tuple[str, str], Any]] = {
    ("account", "snapshot"): AccountSnapshot,
    ("account", "event"): AnyAccountEvent,
    ("status", "snapshot"): StatusSnapshot,
    ("status", "event"): ServerChanged | MarketListed | MarketStateChanged,
    ("book", "snapshot"): BookView,
    ("book", "delta"): BookView,
    ("book", "event"): ChannelClosed,
    ("trades", "snapshot"): list[TradeView],
    ("trades", "event"): list[TradeView] | ChannelClosed,
    ("live", "snapshot"): LiveBookView,
    ("live", "delta"): LiveBookView,
    ("live", "event"): ChannelClosed,
    ("flows", "snapshot"): list[FlowStartView],
    ("flows", "event"): list[FlowStartView] | ChannelClosed,
    ("ticker", "snapshot"): TickerView | LiveTickerView,
    ("ticker", "event"): ChannelClosed,
}


def data_type(channel: str, kind: str) -> Any:
    """What a channel's message of that kind carries; Any for channels this version does not know."""
    return _DATA.get((channel.partition(".")[0], kind), Any)


# ------------------------------------------------------------------------------------------------------------- methods


class Method(NamedTuple):
    """What a method answers, and whether it changes anything, so that a missing answer leaves its outcome unknown."""

    result: Any = Any
    is_command: bool = False


METHODS: Final[dict[str, Method]] = {
    "time": Method(wire.TimeResult),
    "info": Method(wire.InfoResult),
    "markets": Method(list[AnyMarketInfo]),
    "book": Method(BookView),
    "trades": Method(list[TradeView]),
    "heartbeat": Method(wire.Heartbeat),
    "login": Method(wire.LoginResult),
    "logout": Method(wire.LogoutResult),
    "subscribe": Method(wire.ChannelsResult),
    "unsubscribe": Method(wire.ChannelsResult),
    "resync": Method(wire.ChannelsResult),
    "resume": Method(wire.ResumeResult),
    "place": Method(wire.OrderResult, True),
    "amend": Method(wire.OrderResult, True),
    "cancel": Method(wire.CancelResult, True),
    "cancel_all": Method(wire.CancelAllResult, True),
    "live.place_bid": Method(wire.BidResult, True),
    "live.place_ask": Method(wire.AskResult, True),
    "live.amend_bid": Method(wire.BidResult, True),
    "live.amend_ask": Method(wire.AskResult, True),
    "live.refill": Method(wire.RefillResult, True),
    "live.orders": Method(wire.LiveOrdersResult),
    "live.flows": Method(list[wire.FlowView]),
    "live.book": Method(LiveBookView),
    "live.estimate": Method(wire.EstimateResult),
    "pool.save": Method(wire.PoolView, True),
    "pool.delete": Method(wire.PoolResult, True),
    "pools": Method(list[wire.PoolView]),
    "order": Method(wire.OrderView),
    "orders": Method(list[wire.OrderView]),
    "balances": Method(wire.BalanceView),
    "positions": Method(list[wire.PositionView]),
    "deliveries": Method(list[wire.DeliveryView]),
    "fills": Method(list[FillView]),
    "set_destination": Method(wire.DestinationResult, True),
    "withdraw": Method(wire.TransferResult, True),
    "report_work": Method(wire.WorkResult, True),
    "report_flow": Method(wire.FlowResult, True),
    "create_account": Method(wire.AccountResult, True),
    "deposit": Method(wire.TransferResult, True),
    "list_market": Method(MarketInfo, True),
    "list_live_market": Method(LiveMarketInfo, True),
    "set_index": Method(wire.IndexResult, True),
    "set_market_state": Method(wire.MarketStateResult, True),
    "settle": Method(wire.SettleResult, True),
    "account_cancel_all": Method(wire.CancelAllResult, True),
    "keys": Method(list[wire.KeyView]),
    "add_key": Method(wire.AddKeyResult, True),
    "revoke_key": Method(wire.RevokeKeyResult, True),
}
"""Every method by name."""
