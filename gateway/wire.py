"""The public protocol's messages, each defined once, for the server, the SDK and the tests.

JSON-RPC 2.0 in text frames, or the same messages as MessagePack in binary frames (chosen by WebSocket subprotocol).
Knows shapes, names and number formats; knows nothing of sockets, sessions, time or the engine's state.

Prices and quantities are decimal strings, money is BTC with eleven decimals (one msat), times are whole microseconds
(``_us``; exact in a double), hashes are strings of digits. Requests refuse unknown fields; what the server sends may grow.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from engine.types import (
    CancelReason,
    DeliveryState,
    EndReason,
    FlowCause,
    MarketState,
    OrderStatus,
    OrderType,
    Peg,
    PostOnly,
    Pricing,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

SUBPROTOCOL_JSON: Final = "hashpit.v1.json"
SUBPROTOCOL_MSGPACK: Final = "hashpit.v1.msgpack"

FRAME_BYTES_MAX: Final = 65_536
"""Largest message from a client, fragments joined; a larger one closes the socket with 1009."""
BATCH_MAX: Final = 50
"""Calls in one JSON-RPC batch."""

# ------------------------------------------------------------------------------------------------------------------ names


def _names(enum: Any) -> dict[Any, str]:
    return {member: member.name.lower() for member in enum}


SIDE: Final[dict[Side, str]] = _names(Side)
ORDER_TYPE: Final[dict[OrderType, str]] = _names(OrderType)
TIME_IN_FORCE: Final[dict[TimeInForce, str]] = _names(TimeInForce)
POST_ONLY: Final[dict[PostOnly, str]] = _names(PostOnly)
SELF_TRADE_PREVENTION: Final[dict[SelfTradePrevention, str]] = _names(SelfTradePrevention)
MARKET_STATE: Final[dict[MarketState, str]] = _names(MarketState)
ORDER_STATUS: Final[dict[OrderStatus, str]] = _names(OrderStatus)
CANCEL_REASON: Final[dict[CancelReason, str]] = _names(CancelReason)
DELIVERY_STATE: Final[dict[DeliveryState, str]] = _names(DeliveryState)
PEG: Final[dict[Peg, str]] = _names(Peg)
PRICING: Final[dict[Pricing, str]] = _names(Pricing)
FLOW_CAUSE: Final[dict[FlowCause, str]] = _names(FlowCause)
END_REASON: Final[dict[EndReason, str]] = _names(EndReason)

SideName = Literal["buy", "sell"]
OrderTypeName = Literal["limit", "market"]
TimeInForceName = Literal["gtc", "ioc", "fok", "gtd"]
PostOnlyName = Literal["off", "reject", "slide"]
SelfTradePreventionName = Literal["none", "cancel_maker", "cancel_taker", "cancel_both", "decrement"]
PegName = Literal["none", "top", "marginal", "index"]
PricingName = Literal["pay_as_bid", "uniform"]
Permission = Literal["read", "trade", "quote", "withdraw", "meter", "admin"]

# ------------------------------------------------------------------------------------------------------------------ codes


class Close:
    """WebSocket close codes the server uses."""

    NORMAL: Final = 1000
    GOING_AWAY: Final = 1001
    """Shutting down: reconnect after a pause."""
    PROTOCOL: Final = 1002
    """Broken framing."""
    UNSUPPORTED: Final = 1003
    """A text frame on a MessagePack socket or a binary one on a JSON socket."""
    NOT_UTF8: Final = 1007
    TOO_BIG: Final = 1009
    FAILED: Final = 1011
    """The server cannot keep its promises (journal failure) and stops."""
    TRY_AGAIN: Final = 1013
    """Too many sockets of this address that are not logged in."""
    LOGIN_TIMEOUT: Final = 4001
    """Neither logged in nor subscribed in time."""
    IDLE: Final = 4002
    SLOW_READER: Final = 4003
    KEY_REVOKED: Final = 4004
    FLOOD: Final = 4005
    """Kept sending past refusals."""


class ErrorCode:
    """JSON-RPC error codes of the gateway (a command that it denied; the engine never saw it). Engine rejects are 1xxx."""

    PARSE: Final = -32700
    INVALID_REQUEST: Final = -32600
    METHOD_UNKNOWN: Final = -32601
    INVALID_PARAMS: Final = -32602
    INTERNAL: Final = -32603
    LOGIN_REQUIRED: Final = -32001
    PERMISSION: Final = -32002
    RATE_LIMITED: Final = -32003
    LOGIN_FAILED: Final = -32004
    CHANNEL_UNKNOWN: Final = -32005
    SUBSCRIPTIONS_FULL: Final = -32006
    TOO_OLD: Final = -32007
    SHUTTING_DOWN: Final = -32008
    OVERLOADED: Final = -32009
    NOT_FOUND: Final = -32010


# --------------------------------------------------------------------------------------------------------------- envelope


RequestId = Annotated[str, Meta(max_length=64)] | Annotated[int, Meta(ge=-(2**53), le=2**53)]


class Request(Struct, forbid_unknown_fields=True):
    """One JSON-RPC call. Without an id it is refused: every call of this protocol has an answer."""

    method: Annotated[str, Meta(max_length=64)]
    jsonrpc: Literal["2.0"]
    id: RequestId
    params: Raw = Raw()


class Ident(Struct):
    """Enough of a faulty request to address the answer to it."""

    id: Any = None


class Budget(Struct):
    """What is left of the rate limits, in requests: of the account once logged in, of the IP address before."""

    orders: int
    cancels: int
    requests: int


class Response(Struct, omit_defaults=True):
    """The answer to a call."""

    id: str | int | None
    result: Any
    budget: Budget | UnsetType = UNSET
    jsonrpc: str = ""


class ErrorData(Struct, omit_defaults=True):
    """Which field (a path such as ``params.qty``), which bound, and what helps: see docs/PROTOCOL.md, Errors.

    ``order`` is what became of an order that could not be canceled or amended because it is closed (an OrderView).
    """

    reason: str
    field: str = ""
    bound: str = ""
    retry_after_ms: int = 0
    challenge: str = ""
    repeat: bool = False
    order: Any = None


class Error(Struct):
    code: int
    message: str
    data: ErrorData


class ErrorResponse(Struct, omit_defaults=True):
    id: str | int | None
    error: Error
    budget: Budget | UnsetType = UNSET
    jsonrpc: str = ""


class Notification(Struct):
    """What the server sends unasked: ``hello`` at once, ``heartbeat`` and ``subscription`` later."""

    method: str
    params: Any
    jsonrpc: str = "2.0"


class Hello(Struct):
    """First message on every socket. ``challenge`` is what a login signs; ``epoch`` names this journal."""

    server: str
    version: str
    epoch: str
    connection: str
    challenge: str
    ts_us: int
    frame_bytes_max: int
    heartbeat_ms: int
    idle_ms: int


class Heartbeat(Struct):
    """Sent every ``heartbeat_ms``: the last number of every channel this socket is subscribed to."""

    ts_us: int
    channels: dict[str, int]


class ChannelMessage(Struct, omit_defaults=True):
    """One message of a channel. ``seq`` is the channel's own number, ``prev_seq`` that of the message before it.

    ``type`` is ``snapshot`` (the whole state; forget what you had) or ``delta``/``event`` (what changed).
    """

    channel: str
    type: Literal["snapshot", "delta", "event"]
    seq: int
    prev_seq: int
    ts_us: int
    data: Any


# ----------------------------------------------------------------------------------------------------------------- params

Symbol = Annotated[str, Meta(min_length=1, max_length=48)]
Decimal = Annotated[str, Meta(min_length=1, max_length=26)]
SignedDecimal = Annotated[str, Meta(min_length=1, max_length=27)]
"""A decimal that may have a minus sign."""
ClientOrderId = Annotated[str, Meta(min_length=1, max_length=36)]
"""Of the characters A-Za-z0-9._- only: the codec looks, as a pattern takes a twentieth of the time of a whole call."""
TransferId = Annotated[str, Meta(min_length=1, max_length=36, pattern=r"^[A-Za-z0-9._-]+\Z")]
OrderId = Annotated[int, Meta(ge=1, le=2**53)]
Micros = Annotated[int, Meta(ge=1, le=2**53)]
AccountId = Annotated[int, Meta(ge=1, le=2**53)]
Limit = Annotated[int, Meta(ge=1, le=1000)]


SpanS = Annotated[int, Meta(ge=0, le=400 * 86_400)]


class Params(Struct, forbid_unknown_fields=True):
    """Base of all parameters: what is not named is refused."""


class NoParams(Params):
    """For methods that take none."""


class BookParams(Params):
    market: Symbol
    depth: Limit = 100


class TradesParams(Params):
    market: Symbol
    limit: Limit = 100


class LoginParams(Params):
    """``signature`` is hex over the text of docs/PROTOCOL.md, Logging in: Ed25519 (64 bytes) or HMAC-SHA256 (32 bytes)."""

    key: Annotated[str, Meta(min_length=1, max_length=64)]
    timestamp_us: Micros
    signature: Annotated[str, Meta(min_length=64, max_length=128, pattern=r"^[0-9a-f]+\Z")]


class PlaceParams(Params):
    market: Symbol
    side: SideName
    qty: Decimal
    price: Decimal | None = None
    type: OrderTypeName = "limit"
    time_in_force: TimeInForceName | None = None
    """Default: gtc for limit orders, ioc for market orders."""
    post_only: PostOnlyName = "off"
    reduce_only: bool = False
    self_trade_prevention: SelfTradePreventionName = "none"
    expires_us: Micros | None = None
    client_order_id: ClientOrderId | None = None
    deadline_us: Micros | None = None


class OrderRef(Params):
    """Names one order: exactly one of the two."""

    order_id: OrderId | None = None
    client_order_id: ClientOrderId | None = None


class AmendParams(OrderRef):
    """New price, new total quantity (filled part included), or both."""

    price: Decimal | None = None
    qty: Decimal | None = None
    deadline_us: Micros | None = None


class CancelParams(OrderRef):
    deadline_us: Micros | None = None


class PlaceRequest(Struct, forbid_unknown_fields=True, tag_field="method", tag="place"):
    """A whole call of the method ``place``: the calls that come most are decoded in one step."""

    jsonrpc: Literal["2.0"]
    id: RequestId
    params: PlaceParams


class AmendRequest(Struct, forbid_unknown_fields=True, tag_field="method", tag="amend"):
    """As PlaceRequest."""

    jsonrpc: Literal["2.0"]
    id: RequestId
    params: AmendParams


class CancelRequest(Struct, forbid_unknown_fields=True, tag_field="method", tag="cancel"):
    """As PlaceRequest."""

    jsonrpc: Literal["2.0"]
    id: RequestId
    params: CancelParams


OrderRequest: TypeAlias = PlaceRequest | AmendRequest | CancelRequest


class CancelAllParams(Params):
    market: Symbol | None = None
    side: SideName | None = None
    deadline_us: Micros | None = None


class OrdersParams(Params):
    """``state``: open orders, or those recently closed (newest first)."""

    market: Symbol | None = None
    state: Literal["open", "closed"] = "open"
    limit: Limit = 100


class FillsParams(Params):
    market: Symbol | None = None
    limit: Limit = 100


class DeliveriesParams(Params):
    """Oldest first, from the first id above ``after_id`` on."""

    market: Symbol | None = None
    limit: Limit = 100
    after_id: Annotated[int, Meta(ge=0, le=2**53)] = 0


class SetDestinationParams(Params):
    market: Symbol
    url: Annotated[str, Meta(min_length=1, max_length=256)]
    worker: Annotated[str, Meta(min_length=1, max_length=128)]


class WithdrawParams(Params):
    amount: Decimal
    transfer_id: TransferId
    deadline_us: Micros | None = None


class SubscribeParams(Params):
    channels: Annotated[list[Annotated[str, Meta(max_length=80)]], Meta(min_length=1, max_length=100)]


class ResyncParams(Params):
    channel: Annotated[str, Meta(max_length=80)]


class ResumeParams(Params):
    """Go on with the account channel after ``account_seq`` of journal ``epoch``."""

    epoch: Annotated[str, Meta(max_length=64)]
    account_seq: Annotated[int, Meta(ge=0, le=2**53)]


class ReportWorkParams(Params):
    delivery_id: OrderId
    hashes: Annotated[str, Meta(max_length=40, pattern=r"^[0-9]+\Z")]
    shares: Annotated[int, Meta(ge=0, le=2**53)]
    excused_hashes: Annotated[str, Meta(max_length=40, pattern=r"^[0-9]+\Z")] = "0"


PoolUrl = Annotated[str, Meta(min_length=1, max_length=256)]
Worker = Annotated[str, Meta(min_length=1, max_length=128)]


class PlaceBidParams(Params):
    """The pool is one that was saved (``pool_id``), or ``url`` and ``worker``. ``price`` is what a pegged bid pays at most."""

    market: Symbol
    price: Decimal
    budget: Decimal
    limit: Decimal | None = None
    """None, and "0": as much as there is."""
    pool_id: OrderId | None = None
    url: PoolUrl | None = None
    worker: Worker | None = None
    peg: PegName = "none"
    offset: SignedDecimal | None = None
    floor: Decimal | None = None
    expires_us: Micros | None = None
    client_order_id: ClientOrderId | None = None
    deadline_us: Micros | None = None


class PlaceAskParams(Params):
    market: Symbol
    price: Decimal
    speed: Decimal
    expires_us: Micros | None = None
    client_order_id: ClientOrderId | None = None
    deadline_us: Micros | None = None


class AmendBidParams(OrderRef):
    """New price (pegged: the most it pays), limit ("0" takes it away), pool, or several of them."""

    price: Decimal | None = None
    limit: Decimal | None = None
    pool_id: OrderId | None = None
    url: PoolUrl | None = None
    worker: Worker | None = None
    deadline_us: Micros | None = None


class AmendAskParams(OrderRef):
    """New least price, new speed, or both."""

    price: Decimal | None = None
    speed: Decimal | None = None
    deadline_us: Micros | None = None


class RefillParams(OrderRef, kw_only=True):
    """``amount`` more for a bid's budget, once per ``refill_id``."""

    amount: Decimal
    refill_id: TransferId
    deadline_us: Micros | None = None


class LiveOrdersParams(Params):
    """Open orders in live markets, the latest first."""

    market: Symbol | None = None
    limit: Limit = 100


class FlowsParams(Params):
    """Oldest first, from the first id above ``after_id`` on."""

    market: Symbol | None = None
    limit: Limit = 100
    after_id: Annotated[int, Meta(ge=0, le=2**53)] = 0


class EstimateParams(Params):
    """A bid that may be placed. ``limit`` None, and "0": as much as there is."""

    market: Symbol
    price: Decimal
    limit: Decimal | None = None
    budget: Decimal | None = None


class SavePoolParams(Params):
    """Without ``pool_id`` a new one."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    algorithm: Annotated[str, Meta(min_length=1, max_length=24)]
    url: PoolUrl
    worker: Worker
    password: Annotated[str, Meta(max_length=64)] = "x"  # noqa: S105 what pools expect of those who need none
    pool_id: OrderId | None = None


class PoolParams(Params):
    pool_id: OrderId


class ReportFlowParams(Params):
    flow_id: OrderId
    hashes: Annotated[str, Meta(max_length=40, pattern=r"^[0-9]+\Z")]
    final: bool = False


class ListLiveMarketParams(Params):
    """A live market of ``algorithm``; what is left out is as for ``[[live]]`` of the configuration."""

    algorithm: Annotated[str, Meta(max_length=24)]
    market: Symbol | None = None
    pricing: PricingName = "pay_as_bid"
    buyer_fee_bps: Annotated[int, Meta(ge=0, le=1_000)] = 20
    seller_fee_bps: Annotated[int, Meta(ge=0, le=1_000)] = 10
    placing_fee: Decimal | None = None
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    speed_min: Decimal | None = None
    speed_max: Decimal | None = None
    budget_min: Decimal | None = None
    decrease_interval_s: SpanS | None = None
    decrease_step: Decimal | None = None
    lock_ms: Annotated[int, Meta(ge=0, le=86_400_000)] | None = None
    life_s: Annotated[int, Meta(ge=1, le=400 * 86_400)] | None = None
    slack_s: SpanS | None = None
    grace_s: SpanS | None = None
    idle_s: SpanS | None = None


class SetIndexParams(Params):
    """``price`` None: there is no index."""

    market: Symbol
    price: Decimal | None = None


class CreateAccountParams(Params):
    name: Annotated[str, Meta(min_length=1, max_length=64)]


class TransferParams(Params):
    account: AccountId
    amount: Decimal
    transfer_id: TransferId


class ListMarketParams(Params):
    """A dated market of ``algorithm`` for a period; the rest comes from the algorithm's registry row."""

    algorithm: Annotated[str, Meta(max_length=24)]
    start_us: Micros
    length_s: Annotated[int, Meta(ge=60, le=31 * 86_400)]
    reference_price: Decimal


class MarketStateParams(Params):
    market: Symbol
    state: Literal["open", "cancel_only", "halted", "closed"]


class SettleParams(Params):
    market: Symbol
    index_price: Decimal | None = None


class AccountCancelAllParams(Params):
    account: AccountId
    market: Symbol | None = None


class AddKeyParams(Params):
    """``public_key`` (hex, Ed25519) for kind ed25519; for hmac the server makes the secret and tells it once."""

    account: AccountId
    permissions: Annotated[list[Permission], Meta(min_length=1, max_length=6)]
    kind: Literal["ed25519", "hmac", "nicehash"] = "ed25519"
    public_key: Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]*\Z")] = ""
    ip_list: Annotated[list[Annotated[str, Meta(max_length=43)]], Meta(max_length=32)] = []
    label: Annotated[str, Meta(max_length=64)] = ""


class KeysParams(Params):
    """Oldest first; ``account`` narrows it."""

    account: AccountId | None = None
    limit: Limit = 1000


class RevokeKeyParams(Params):
    key: Annotated[str, Meta(min_length=1, max_length=64)]


# ------------------------------------------------------------------------------------------------- results and event data


class TimeResult(Struct):
    ts_us: int


class RateInfo(Struct):
    """``per_second`` in the long run, ``burst`` at once."""

    per_second: int
    burst: int


class InfoResult(Struct):
    """The server and its limits. ``rates`` by budget: orders, cancels, requests (per account), ip (before login)."""

    server: str
    version: str
    epoch: str
    ts_us: int
    heartbeat_ms: int
    idle_ms: int
    frame_bytes_max: int
    batch_max: int
    subscriptions_max: int
    rates: dict[str, RateInfo]


class LoginResult(Struct):
    account: int
    key: str
    permissions: list[str]


class LogoutResult(Struct):
    """The account that this socket no longer speaks for, and what the next login has to sign."""

    account: int
    challenge: str


class ChannelsResult(Struct):
    """The answer to subscribe, unsubscribe and resync: the channels that were named."""

    channels: list[str]


class ResumeResult(Struct):
    """The account channel goes on with the event after ``account_seq``."""

    account_seq: int


class MarketInfo(Struct, tag_field="kind", tag="dated"):
    """A dated market's terms, as ``markets`` and the status channel show them."""

    market: str
    algorithm: str
    state: str
    speed_unit: str
    tick_size: str
    lot_size: str
    price_min: str
    price_max: str
    qty_max: str
    maker_fee_bps: int
    taker_fee_bps: int
    bond_bps: int
    band_bps: int
    tolerance_bps: int
    penalty_bps: int
    reference_price: str
    gate_us: int
    period_start_us: int
    period_end_us: int
    settle_us: int


class LiveMarketInfo(Struct, tag_field="kind", tag="live"):
    """A live market's terms. A bid's price goes down by ``decrease_step`` (null: any) once in ``decrease_interval_s``."""

    market: str
    algorithm: str
    state: str
    speed_unit: str
    tick_size: str
    lot_size: str
    price_min: str
    price_max: str
    speed_min: str
    speed_max: str
    budget_min: str
    pricing: str
    buyer_fee_bps: int
    seller_fee_bps: int
    placing_fee: str
    decrease_interval_s: int
    decrease_step: str | None
    lock_ms: int
    life_s: int
    slack_s: int
    grace_s: int
    idle_s: int


AnyMarketInfo: TypeAlias = MarketInfo | LiveMarketInfo
"""Told apart by ``kind``."""


class FillView(Struct):
    """The account's half of a trade."""

    trade_id: int
    order_id: int
    client_order_id: str
    market: str
    side: str
    price: str
    qty: str
    remaining_qty: str
    fee: str
    realized: str
    liquidity: Literal["maker", "taker"]
    ts_us: int


class OrderResult(Struct):
    """The answer to place and amend."""

    order_id: int
    client_order_id: str
    market: str
    status: str
    price: str
    qty: str
    filled_qty: str
    remaining_qty: str
    ts_us: int
    repeat: bool
    fills: list[FillView]


class CancelResult(Struct, omit_defaults=True):
    """The answer to cancel: what was left of the order and is gone. Of a live order ``canceled_qty`` is the speed that it had
    and nothing is filled; of a live bid there is also what was ``spent`` of its budget and what is available again."""

    order_id: int
    client_order_id: str
    market: str
    canceled_qty: str
    filled_qty: str
    spent: str = ""
    returned: str = ""


class CancelAllResult(Struct):
    canceled: list[int]


class OrderView(Struct):
    """One order as it is now."""

    order_id: int
    client_order_id: str
    market: str
    side: str
    type: str
    status: str
    price: str
    qty: str
    filled_qty: str
    remaining_qty: str
    time_in_force: str
    post_only: str
    reduce_only: bool
    self_trade_prevention: str
    expires_us: int
    ts_us: int


class BalanceView(Struct):
    """``available`` is ``balance - held``; ``positions`` is the money in positions and deliveries (bonds, proceeds)."""

    account: int
    name: str
    balance: str
    held: str
    available: str
    positions: str


class PositionView(Struct):
    """``qty`` is signed; ``basis`` is what a long paid or a short's proceeds in BTC; ``bond`` a short's bond."""

    market: str
    qty: str
    basis: str
    bond: str
    realized: str


class DeliveryView(Struct):
    delivery_id: int
    market: str
    role: Literal["seller", "buyer", "meter"]
    state: str
    qty: str
    hashrate: str
    contracted_hashes: str
    proven_hashes: str
    excused_hashes: str
    shares: int
    period_start_us: int
    period_end_us: int
    url: str
    worker: str


class BidResult(Struct):
    """The answer to live.place_bid and live.amend_bid. ``price`` is what it pays now, ``cap`` the most it ever pays,
    ``assigned`` the speed that it has by now; ``limit`` is null where there is none."""

    order_id: int
    client_order_id: str
    market: str
    status: str
    price: str
    cap: str
    limit: str | None
    assigned: str
    ts_us: int
    repeat: bool


class AskResult(Struct):
    """The answer to live.place_ask and live.amend_ask: it offers ``speed``, of which ``assigned`` is taken by now."""

    order_id: int
    client_order_id: str
    market: str
    status: str
    price: str
    speed: str
    assigned: str
    ts_us: int
    repeat: bool


class RefillResult(Struct):
    """The answer to live.refill; ``left`` is what is not charged yet."""

    order_id: int
    client_order_id: str
    market: str
    refill_id: str
    amount: str
    left: str
    balance: str
    held: str
    repeat: bool


class BidView(Struct):
    """An open bid of a live market. ``stopped``: its budget could be spent by now, and it waits for its flows' last reports."""

    order_id: int
    client_order_id: str
    market: str
    status: Literal["open", "stopped"]
    price: str
    cap: str
    limit: str | None
    assigned: str
    budget: str
    spent: str
    left: str
    url: str
    worker: str
    peg: str
    offset: str
    floor: str | None
    expires_us: int
    ts_us: int


class AskView(Struct):
    """An open ask of a live market."""

    order_id: int
    client_order_id: str
    market: str
    price: str
    speed: str
    assigned: str
    expires_us: int
    ts_us: int


class LiveOrdersResult(Struct):
    """The account's open orders in live markets, the latest first."""

    bids: list[BidView]
    asks: list[AskView]


class FlowView(Struct):
    """Hashrate from an ask to a bid. ``order_id`` is the account's order, for a meter the ask; ``cost`` is what was paid for
    proven work so far, ``fee`` the account's own on it. ``closing``: it has ended, and its last work may still be
    reported."""

    flow_id: int
    market: str
    role: Literal["seller", "buyer", "meter"]
    state: Literal["running", "closing"]
    order_id: int
    price: str
    speed: str
    hashrate: str
    hashes: str
    paid_hashes: str
    cost: str
    fee: str
    url: str
    worker: str
    started_us: int
    ended_us: int


class FlowResult(Struct):
    """The answer to report_flow: the flow's work so far, and what this report paid for it."""

    flow_id: int
    market: str
    hashes: str
    paid_hashes: str
    cost: str
    final: bool


class EstimateResult(Struct):
    """What a bid would get if it were placed now. ``cost_per_day`` is what ``assigned`` costs at its own price, fee included;
    ``lasts_s`` how long the budget lasts at it. ``marginal`` is the market's marginal price now; ``full_price`` the lowest
    price that gets all of the limit. Null: nothing is matched, no budget or no speed, no limit or not enough hashrate."""

    market: str
    price: str
    limit: str | None
    assigned: str
    cost_per_day: str
    lasts_s: int | None
    marginal: str | None
    full_price: str | None


class LiveBookView(Struct):
    """Levels best first: bids ``[price, limit, assigned]`` (limit null where a bid has none), asks ``[price, speed,
    assigned]``. In a delta a level whose limit or speed is 0 is removed; ``assigned`` is the market's total. CRC32 as in
    docs/PROTOCOL.md."""

    state: str
    assigned: str
    marginal: str | None
    bids: list[tuple[str, str | None, str]]
    asks: list[tuple[str, str, str]]
    checksum: int


class LiveTickerView(Struct, tag_field="kind", tag="live"):
    """A live market at a glance. ``paying_price`` is what proven work was paid with, by work, in the last five minutes."""

    market: str
    bid: str | None
    ask: str | None
    marginal: str | None
    assigned: str
    offered: str
    paying_price: str | None
    paying_price_day: str | None
    index_price: str | None


class FlowStartView(Struct):
    """A flow that started. Who buys and who sells is not told."""

    flow_id: int
    price: str
    speed: str
    ts_us: int


class PoolView(Struct):
    pool_id: int
    name: str
    algorithm: str
    url: str
    worker: str
    password: str


class PoolResult(Struct):
    """The answer to pool.delete."""

    pool_id: int


class IndexResult(Struct):
    market: str
    price: str | None


class DestinationResult(Struct):
    market: str
    url: str
    worker: str


class TransferResult(Struct):
    """The answer to deposit (``amount`` above zero) and withdraw (below)."""

    account: int
    transfer_id: str
    amount: str
    balance: str
    held: str
    repeat: bool


class WorkResult(Struct):
    """The answer to report_work: the delivery's work so far."""

    delivery_id: int
    market: str
    state: str
    proven_hashes: str
    excused_hashes: str
    shares: int


class AccountResult(Struct):
    account: int
    name: str


class MarketStateResult(Struct):
    market: str
    state: str


class SettleResult(Struct):
    """The answer to settle: ids of the deliveries that were settled."""

    market: str
    deliveries: list[int]


class KeyView(Struct):
    key: str
    account: int
    kind: str
    permissions: list[str]
    ip_list: list[str]
    label: str
    public_key: str
    created_us: int


class AddKeyResult(Struct):
    """``secret`` (hex, for kind hmac only) is told this once; the server cannot show it again."""

    key: KeyView
    secret: str


class RevokeKeyResult(Struct):
    key: str


class TradeView(Struct):
    trade_id: int
    price: str
    qty: str
    aggressor_side: str
    ts_us: int


class BookView(Struct):
    """Levels ``[price, qty]``, best first; in a delta ``qty`` 0 removes the level. CRC32 as in docs/PROTOCOL.md."""

    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    checksum: int


class TickerView(Struct, tag_field="kind", tag="dated"):
    """Top of book, last trade, and what traded in the last 24 hours."""

    market: str
    bid: str | None
    bid_qty: str | None
    ask: str | None
    ask_qty: str | None
    last: str | None
    volume: str
    high: str | None
    low: str | None
    trades: int


class AccountSnapshot(Struct):
    """The account channel's whole state at its ``seq``."""

    balance: BalanceView
    positions: list[PositionView]
    orders: list[OrderView]
    deliveries: list[DeliveryView]
    bids: list[BidView] = []
    asks: list[AskView] = []
    flows: list[FlowView] = []
    pools: list[PoolView] = []
