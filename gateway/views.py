"""Engine objects and events -> what clients see. The only place where ticks, lots, msat and nanoseconds become text.

A view is made from state as it is at the call; whether that may leave the process yet is the caller's business.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, Literal
from zlib import crc32

from engine.accounts import Account, Order, Pool, Position
from engine.events import Accepted, Amended, Canceled, Event, PoolSaved, Rejected, Trade
from engine.limits import SECOND_NS
from engine.markets.dated import Delivery
from engine.markets.live import NO_LIMIT, Ask, Bid, Flow
from engine.rejects import REFUSALS, RejectCode, Unit, describe
from engine.types import LiveSpec, MarketSpec, MarketState, Side
from gateway.channels.base import Terms
from gateway.scale import MONEY, Scale
from gateway.wire import (
    DELIVERY_STATE,
    MARKET_STATE,
    ORDER_STATUS,
    ORDER_TYPE,
    PEG,
    POST_ONLY,
    PRICING,
    SELF_TRADE_PREVENTION,
    SIDE,
    TIME_IN_FORCE,
    AnyMarketInfo,
    AskView,
    BalanceView,
    BidView,
    BookView,
    DeliveryView,
    Error,
    ErrorData,
    FillView,
    FlowView,
    LiveMarketInfo,
    MarketInfo,
    OrderView,
    PoolView,
    PositionView,
    TradeView,
)

CHECKSUM_LEVELS: Final = 10
"""Levels of each side that a book's checksum covers."""

MS_NS: Final = 1_000_000

Level = tuple[int, int]


def micros(ns: int) -> int:
    """Nanoseconds as the whole microseconds of the wire."""
    return ns // 1_000


def iso(ns: int) -> str:
    """A time as ISO 8601 in UTC, with microseconds: as people read it."""
    return f"{datetime.fromtimestamp(ns // SECOND_NS, UTC):%Y-%m-%dT%H:%M:%S}.{ns % SECOND_NS // 1_000:06d}Z"


# ---------------------------------------------------------------------------------------------------------------- markets


def market_info(spec: MarketSpec, state: MarketState, terms: Terms | None = None) -> MarketInfo:
    if terms is None:
        terms = Terms(spec)
    return MarketInfo(
        market=spec.symbol,
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


def live_market_info(spec: LiveSpec, state: MarketState, terms: Terms | None = None) -> LiveMarketInfo:
    if terms is None:
        terms = Terms(spec)
    price, qty = terms.price.format, terms.qty.format
    return LiveMarketInfo(
        market=spec.symbol,
        algorithm=spec.algorithm,
        state=MARKET_STATE[state],
        speed_unit=spec.speed_unit,
        tick_size=spec.tick_size,
        lot_size=spec.lot_size,
        price_min=price(spec.price_min),
        price_max=price(spec.price_max),
        speed_min=qty(spec.speed_min),
        speed_max=qty(spec.speed_max),
        budget_min=MONEY.format(spec.budget_min),
        pricing=PRICING[spec.pricing],
        buyer_fee_bps=spec.buyer_fee_bps,
        seller_fee_bps=spec.seller_fee_bps,
        placing_fee=MONEY.format(spec.placing_fee),
        decrease_interval_s=spec.decrease_interval_ns // SECOND_NS,
        decrease_step=price(spec.decrease_step) if spec.decrease_step else None,
        lock_ms=spec.lock_ns // MS_NS,
        life_s=spec.life_ns // SECOND_NS,
        slack_s=spec.slack_ns // SECOND_NS,
        grace_s=spec.grace_ns // SECOND_NS,
        idle_s=spec.idle_ns // SECOND_NS,
    )


def any_market_info(spec: MarketSpec | LiveSpec, state: MarketState, terms: Terms | None = None) -> AnyMarketInfo:
    return live_market_info(spec, state, terms) if isinstance(spec, LiveSpec) else market_info(spec, state, terms)


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


# ----------------------------------------------------------------------------------------------------------- live markets


def limit_text(limit: int, terms: Terms) -> str | None:
    """A bid's limit in lots; None where there is none (0 in commands and events, NO_LIMIT in the book)."""
    return None if limit == 0 or limit >= NO_LIMIT else terms.qty.format(limit)


def or_null(scale: Scale, steps: int) -> str | None:
    """A number of which 0 means that there is none."""
    return scale.format(steps) if steps else None


def bid_view(bid: Bid, terms: Terms) -> BidView:
    """An open bid as the engine has it."""
    price = terms.price.format
    return BidView(
        order_id=bid.order_id,
        client_order_id=bid.client_order_id,
        market=terms.spec.symbol,
        status="stopped" if bid.stopped else "open",
        price=price(bid.price),
        cap=price(bid.cap),
        limit=limit_text(bid.remaining, terms),
        assigned=terms.qty.format(bid.assigned),
        budget=MONEY.format(bid.budget),
        spent=MONEY.format(bid.spent),
        left=MONEY.format(bid.escrow),
        url=bid.url,
        worker=bid.worker,
        peg=PEG[bid.peg],
        offset=price(bid.offset),
        floor=or_null(terms.price, bid.floor),
        expires_us=micros(bid.expires_ns),
        ts_us=micros(bid.ts_ns),
    )


def ask_view(ask: Ask, terms: Terms) -> AskView:
    """An open ask as the engine has it."""
    return AskView(
        order_id=ask.order_id,
        client_order_id=ask.client_order_id,
        market=terms.spec.symbol,
        price=terms.price.format(ask.price),
        speed=terms.qty.format(ask.remaining),
        assigned=terms.qty.format(ask.assigned),
        expires_us=micros(ask.expires_ns),
        ts_us=micros(ask.ts_ns),
    )


def flow_view(flow: Flow, role: Literal["seller", "buyer", "meter"], terms: Terms) -> FlowView:
    """A flow as the engine has it, for one side of it or for a meter."""
    fee = flow.buyer_fee if role == "buyer" else flow.seller_fee if role == "seller" else 0
    return FlowView(
        flow_id=flow.flow_id,
        market=terms.spec.symbol,
        role=role,
        state="closing" if flow.ended_ns else "running",
        order_id=flow.bid.order_id if role == "buyer" else flow.ask.order_id,
        price=terms.price.format(flow.bid.price),
        speed=terms.qty.format(flow.speed),
        hashrate=str(flow.speed * terms.spec.lot_hashrate),
        hashes=str(flow.hashes),
        paid_hashes=str(flow.paid_hashes),
        cost=MONEY.format(flow.cost),
        fee=MONEY.format(fee),
        url=flow.bid.url,
        worker=flow.bid.worker,
        started_us=micros(flow.started_ns),
        ended_us=micros(flow.ended_ns),
    )


def own_flows(account: Account) -> Iterator[tuple[Flow, Literal["seller", "buyer"]]]:
    """Flows that an account has part in and that are not done with, oldest first; one of its own bid and ask comes as the
    buyer's and as the seller's."""
    for flow in account.flows.values():
        if flow.bid.account is account:
            yield flow, "buyer"
        if flow.ask.account is account:
            yield flow, "seller"


def pool_view(pool: Pool | PoolSaved) -> PoolView:
    return PoolView(pool.pool_id, pool.name, pool.algorithm, pool.url, pool.worker, pool.password)


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
    spec = terms.spec
    assert isinstance(spec, MarketSpec), "live markets have no deliveries"
    return DeliveryView(
        delivery_id=delivery.delivery_id,
        market=delivery.market,
        role=role,
        state=DELIVERY_STATE[delivery.state],
        qty=terms.qty.format(delivery.qty),
        hashrate=str(delivery.qty * spec.lot_hashrate),
        contracted_hashes=str(delivery.contracted_hashes),
        proven_hashes=str(delivery.proven_hashes),
        excused_hashes=str(delivery.excused_hashes),
        shares=delivery.shares,
        period_start_us=micros(spec.period_start_ns),
        period_end_us=micros(spec.period_end_ns),
        url=delivery.url,
        worker=delivery.worker,
    )


# ---------------------------------------------------------------------------------------------------------------- refusals

# Fields whose name on the wire is another.
_WIRE_NAMES: Final = {"deadline": "deadline_us", "expires_ns": "expires_us"}
# Names of a field in calls that have no parameter of that name, or have one that means something else.
_INSTEAD: Final = {
    "client_order_id": ("transfer_id", "refill_id"),
    "budget": ("amount",),
    "qty": ("limit", "speed"),
}


def reject_error(rejected: Rejected, terms: Terms | None, fields: tuple[str, ...] = ()) -> Error:
    """A refusal by the engine as the error that a client reads. ``fields`` are the call's parameters: a refusal's field that
    is one of them gets its path. Without ``terms`` a bound in ticks or lots stays a whole number."""
    code = rejected.code
    bound, said = _bound_texts(code, rejected.bound, terms)
    field = _WIRE_NAMES.get(REFUSALS[code].field, REFUSALS[code].field)
    if field in _INSTEAD and fields:
        for other in _INSTEAD[field]:
            if other in fields:
                field = other
    return Error(
        code=code.value,
        message=describe(code, said),
        data=ErrorData(
            reason=code.name.lower(),
            field=f"params.{field}" if field in fields else field,
            bound=bound,
            repeat=rejected.repeat,
        ),
    )


def needs_terms(code: RejectCode) -> bool:
    """Whether a refusal's bound is a price or a quantity."""
    unit = REFUSALS[code].unit
    return unit is Unit.TICKS or unit is Unit.LOTS


def _bound_texts(code: RejectCode, bound: int, terms: Terms | None) -> tuple[str, str]:
    """A bound in the units of the wire, and with its unit as a sentence has it; empty where the code has none."""
    told = REFUSALS[code]
    if "{bound}" not in told.message and not bound:
        return "", ""
    unit = told.unit
    if unit is Unit.MSAT:
        text = MONEY.format(bound)
        return text, f"{text} BTC"
    if unit is Unit.TIME:
        return str(micros(bound)), iso(bound)
    if unit is Unit.SPAN:
        return str(micros(bound)), f"{bound // SECOND_NS} s"
    if unit is Unit.NUMBER or terms is None:
        text = str(bound)
        return text, text if unit is Unit.NUMBER else f"{text} {unit.name.lower()}"
    text = (terms.price if unit is Unit.TICKS else terms.qty).format(bound)
    return text, text
