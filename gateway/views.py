"""Engine objects and events -> what clients see. The only place where ticks, lots, msat and nanoseconds become text.

A view is made from state as it is at the call; whether that may leave the process yet is the caller's business.
"""

from collections.abc import Iterable
from typing import Final, Literal
from zlib import crc32

from engine.accounts import Account, Order, Position
from engine.events import Accepted, Amended, Canceled, Event, Rejected, Trade
from engine.markets.dated import Delivery
from engine.rejects import REFUSALS, RejectCode, describe
from engine.types import MarketSpec, MarketState, Side
from gateway.channels.base import Terms
from gateway.scale import MONEY
from gateway.wire import (
    DELIVERY_STATE,
    MARKET_STATE,
    ORDER_STATUS,
    ORDER_TYPE,
    POST_ONLY,
    SELF_TRADE_PREVENTION,
    SIDE,
    TIME_IN_FORCE,
    BalanceView,
    BookView,
    DeliveryView,
    Error,
    ErrorData,
    FillView,
    MarketInfo,
    OrderView,
    PositionView,
    TradeView,
)

CHECKSUM_LEVELS: Final = 10
"""Levels of each side that a book's checksum covers."""

Level = tuple[int, int]


def micros(ns: int) -> int:
    """Nanoseconds as the whole microseconds of the wire."""
    return ns // 1_000


# ---------------------------------------------------------------------------------------------------------------- markets


def market_info(spec: MarketSpec, state: MarketState, terms: Terms | None = None) -> MarketInfo:
    if terms is None:
        terms = Terms(spec)
    return MarketInfo(
        market=spec.symbol,
        kind=spec.kind,
        algorithm=spec.algorithm,
        state=MARKET_STATE[state],
        speed_unit=spec.speed_unit,
        tick_size=spec.tick_size,
        lot_size=spec.lot_size,
        price_min=terms.price.format(spec.price_min),
        price_max=terms.price.format(spec.price_max),
        qty_max=terms.qty.format(spec.qty_max),
        maker_fee_bps=spec.maker_fee_bps,
        taker_fee_bps=spec.taker_fee_bps,
        bond_bps=spec.bond_bps,
        band_bps=spec.band_bps,
        tolerance_bps=spec.tolerance_bps,
        penalty_bps=spec.penalty_bps,
        reference_price=terms.price.format(spec.reference_price),
        gate_us=micros(spec.gate_ns),
        period_start_us=micros(spec.period_start_ns),
        period_end_us=micros(spec.period_end_ns),
        settle_us=micros(spec.settle_ns),
    )


def book_checksum(bids: list[Level], asks: list[Level]) -> int:
    """CRC32 over the best levels in integers: ``b<ticks>:<lots>;`` for ten bids, then ``a...`` for ten asks."""
    text = "".join([f"b{price}:{qty};" for price, qty in bids[:CHECKSUM_LEVELS]])
    text += "".join([f"a{price}:{qty};" for price, qty in asks[:CHECKSUM_LEVELS]])
    return crc32(text.encode())


def book_view(bids: list[Level], asks: list[Level], terms: Terms, depth: int) -> BookView:
    """The best ``depth`` levels of each side; the checksum covers ten whatever the depth."""
    price, qty = terms.price.format, terms.qty.format
    return BookView(
        bids=[(price(ticks), qty(lots)) for ticks, lots in bids[:depth]],
        asks=[(price(ticks), qty(lots)) for ticks, lots in asks[:depth]],
        checksum=book_checksum(bids, asks),
    )


def trade_view(trade: Trade, terms: Terms) -> TradeView:
    return TradeView(
        trade_id=trade.trade_id,
        price=terms.price.format(trade.price),
        qty=terms.qty.format(trade.qty),
        aggressor_side=SIDE[trade.aggressor_side],
        ts_us=micros(trade.ts_ns),
    )


# ----------------------------------------------------------------------------------------------------------------- orders


def order_view(order: Order, terms: Terms) -> OrderView:
    """An order as the engine has it, open or closed."""
    return OrderView(
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        market=order.market,
        side=SIDE[Side.BUY if order.is_buy else Side.SELL],
        type=ORDER_TYPE[order.order_type],
        status=ORDER_STATUS[order.status],
        price=terms.price.format(order.price),
        qty=terms.qty.format(order.qty),
        filled_qty=terms.qty.format(order.filled),
        remaining_qty=terms.qty.format(order.remaining),
        time_in_force=TIME_IN_FORCE[order.time_in_force],
        post_only=POST_ONLY[order.post_only],
        reduce_only=order.reduce_only,
        self_trade_prevention=SELF_TRADE_PREVENTION[order.self_trade_prevention],
        expires_us=micros(order.expires_ns),
        ts_us=micros(order.ts_ns),
    )


def accepted_view(accepted: Accepted, terms: Terms, status: str, filled_qty: int, remaining_qty: int) -> OrderView:
    """An order as its Accepted event tells it, with what became of it since."""
    return OrderView(
        order_id=accepted.order_id,
        client_order_id=accepted.client_order_id,
        market=accepted.market,
        side=SIDE[accepted.side],
        type=ORDER_TYPE[accepted.order_type],
        status=status,
        price=terms.price.format(accepted.price),
        qty=terms.qty.format(accepted.qty),
        filled_qty=terms.qty.format(filled_qty),
        remaining_qty=terms.qty.format(remaining_qty),
        time_in_force=TIME_IN_FORCE[accepted.time_in_force],
        post_only=POST_ONLY[accepted.post_only],
        reduce_only=accepted.reduce_only,
        self_trade_prevention=SELF_TRADE_PREVENTION[accepted.self_trade_prevention],
        expires_us=micros(accepted.expires_ns),
        ts_us=micros(accepted.ts_ns),
    )


def entry_status(event: Accepted | Amended, later: Iterable[Event]) -> str:
    """An order's state once the entry that this event opens was done; ``later`` are the entry's events behind it.

    Filled is not ``filled_qty == qty``: self-trade prevention may have reduced the order before its last fill.
    """
    if event.resting_qty:
        return "open"
    gone = any(type(after) is Canceled and after.order_id == event.order_id for after in later)
    return "canceled" if gone else "filled"


def fill_view(trade: Trade, liquidity: Literal["maker", "taker"], terms: Terms) -> FillView:
    """The maker's or the taker's half of a trade."""
    buy_taker = trade.aggressor_side is Side.BUY
    if liquidity == "taker":
        return FillView(
            trade_id=trade.trade_id,
            order_id=trade.taker_order_id,
            client_order_id=trade.taker_client_order_id,
            market=trade.market,
            side="buy" if buy_taker else "sell",
            price=terms.price.format(trade.price),
            qty=terms.qty.format(trade.qty),
            remaining_qty=terms.qty.format(trade.taker_remaining),
            fee=MONEY.format(trade.taker_fee),
            realized=MONEY.format(trade.taker_realized),
            liquidity=liquidity,
            ts_us=micros(trade.ts_ns),
        )
    return FillView(
        trade_id=trade.trade_id,
        order_id=trade.maker_order_id,
        client_order_id=trade.maker_client_order_id,
        market=trade.market,
        side="sell" if buy_taker else "buy",
        price=terms.price.format(trade.price),
        qty=terms.qty.format(trade.qty),
        remaining_qty=terms.qty.format(trade.maker_remaining),
        fee=MONEY.format(trade.maker_fee),
        realized=MONEY.format(trade.maker_realized),
        liquidity=liquidity,
        ts_us=micros(trade.ts_ns),
    )


# --------------------------------------------------------------------------------------------------------------- accounts


def balance_view(account: Account, deliveries: list[Delivery]) -> BalanceView:
    """``deliveries``: those that the account sells into and that are not settled."""
    in_positions = sum(held.basis + held.bond for held in account.positions.values() if held.qty < 0)
    in_deliveries = sum(delivery.proceeds + delivery.bond for delivery in deliveries if delivery.seller == account.account_id)
    return BalanceView(
        account=account.account_id,
        name=account.name,
        balance=MONEY.format(account.balance),
        held=MONEY.format(account.held),
        available=MONEY.format(account.balance - account.held),
        positions=MONEY.format(in_positions + in_deliveries),
    )


def sorted_positions(account: Account) -> list[tuple[str, Position]]:
    """The account's positions by market; the engine has them in the order in which they began, or of a snapshot."""
    positions = account.positions
    return [(market, positions[market]) for market in sorted(positions)]


def position_view(market: str, position: Position, terms: Terms) -> PositionView:
    return PositionView(
        market=market,
        qty=terms.qty.format(position.qty),
        basis=MONEY.format(position.basis),
        bond=MONEY.format(position.bond),
        realized=MONEY.format(position.realized),
    )


def delivery_view(delivery: Delivery, role: Literal["seller", "buyer", "meter"], terms: Terms) -> DeliveryView:
    return DeliveryView(
        delivery_id=delivery.delivery_id,
        market=delivery.market,
        role=role,
        state=DELIVERY_STATE[delivery.state],
        qty=terms.qty.format(delivery.qty),
        hashrate=str(delivery.qty * terms.spec.lot_hashrate),
        contracted_hashes=str(delivery.contracted_hashes),
        proven_hashes=str(delivery.proven_hashes),
        excused_hashes=str(delivery.excused_hashes),
        shares=delivery.shares,
        period_start_us=micros(terms.spec.period_start_ns),
        period_end_us=micros(terms.spec.period_end_ns),
        url=delivery.url,
        worker=delivery.worker,
    )


# ---------------------------------------------------------------------------------------------------------------- refusals

# The unit of a refusal's bound, where it is not a plain number.
_IN_TICKS: Final = frozenset(
    {RejectCode.PRICE_TOO_LOW, RejectCode.PRICE_TOO_HIGH, RejectCode.POST_ONLY_WOULD_TAKE},
)
_IN_LOTS: Final = frozenset(
    {
        RejectCode.QTY_TOO_SMALL,
        RejectCode.QTY_TOO_LARGE,
        RejectCode.REDUCE_ONLY_EXCEEDED,
        RejectCode.FILL_OR_KILL_UNFILLABLE,
    }
)
_IN_MSAT: Final = frozenset(
    {
        RejectCode.NOTIONAL_TOO_LARGE,
        RejectCode.FUNDS_INSUFFICIENT,
        RejectCode.AMOUNT_INVALID,
        RejectCode.DEPOSITS_FULL,
        RejectCode.BALANCE_INSUFFICIENT,
    }
)
_IN_NS: Final = frozenset(
    {
        RejectCode.DEADLINE_PASSED,
        RejectCode.EXPIRY_INVALID,
        RejectCode.DELIVERY_NOT_STARTED,
        RejectCode.PERIOD_NOT_ENDED,
    }
)
# Fields whose name on the wire is another.
_WIRE_NAMES: Final = {"deadline": "deadline_us", "expires_ns": "expires_us"}


def reject_error(rejected: Rejected, terms: Terms | None, fields: tuple[str, ...] = ()) -> Error:
    """A refusal by the engine as the error that a client reads. ``fields`` are the call's parameters: a refusal's field that
    is one of them gets its path. Without ``terms`` a bound in ticks or lots stays a whole number."""
    code, bound = rejected.code, rejected.bound
    field = _WIRE_NAMES.get(REFUSALS[code].field, REFUSALS[code].field)
    if field == "client_order_id" and "transfer_id" in fields:
        field = "transfer_id"
    return Error(
        code=code.value,
        message=describe(code, bound),
        data=ErrorData(
            reason=code.name.lower(),
            field=f"params.{field}" if field in fields else field,
            bound=_bound_text(code, bound, terms),
            repeat=rejected.repeat,
        ),
    )


def needs_terms(code: RejectCode) -> bool:
    """Whether a refusal's bound is a price or a quantity."""
    return code in _IN_TICKS or code in _IN_LOTS


def _bound_text(code: RejectCode, bound: int, terms: Terms | None) -> str:
    if "{bound}" not in REFUSALS[code].message and not bound:
        return ""
    if code in _IN_MSAT:
        return MONEY.format(bound)
    if code in _IN_NS:
        return str(micros(bound))
    if terms is not None and code in _IN_TICKS:
        return terms.price.format(bound)
    if terms is not None and code in _IN_LOTS:
        return terms.qty.format(bound)
    return str(bound)
