"""The whole state as bytes and back, and its hash.

``restore(dump(engine))`` continues exactly as ``engine`` would; two engines with the same history have the same dump and the
same ``state_hash``. Everything is written in a canonical order, so nothing depends on how the state came about.
"""

from hashlib import blake2b
from typing import Final

from msgspec import Struct, ValidationError, msgpack

from engine.accounts import Account, Order, Position
from engine.core import Engine, memory
from engine.events import Accepted, BalanceChanged, Rejected
from engine.limits import Limits
from engine.markets.dated import Delivery, Market
from engine.types import (
    DeliveryState,
    MarketSpec,
    MarketState,
    OrderStatus,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    TimeInForce,
)

FORMAT: Final = 2
"""Version of the layout below; a snapshot of another one is refused and the journal replayed instead."""


class _Order(Struct, array_like=True, gc=False):
    order_id: int
    account: int
    market: str
    is_buy: bool
    order_type: OrderType
    price: int
    qty: int
    time_in_force: TimeInForce
    post_only: PostOnly
    reduce_only: bool
    self_trade_prevention: SelfTradePrevention
    expires_ns: int
    client_order_id: str
    ts_ns: int
    account_seq: int
    unit_hold: int
    filled: int
    remaining: int
    status: OrderStatus
    forget: bool
    answer: Accepted | None


class _Position(Struct, array_like=True):
    market: str
    qty: int
    basis: str
    bond: int
    realized: str


class _Account(Struct, array_like=True):
    account_id: int
    name: str
    balance: int
    held: int
    event_seq: int
    positions: list[_Position]
    destinations: list[tuple[str, str, str]]


class _Market(Struct, array_like=True):
    spec: MarketSpec
    state: MarketState
    last_price: int
    trade_id: int
    bids: list[_Order]
    asks: list[_Order]
    deliveries: list[int]


class _Delivery(Struct, array_like=True):
    delivery_id: int
    market: str
    seller: int
    buyer: int
    qty: int
    contracted_hashes: str
    proceeds: int
    bond: int
    cost: str
    url: str
    worker: str
    state: DeliveryState
    proven_hashes: str
    excused_hashes: str
    waited_hashes: str
    shares: int


class _Remembered(Struct, array_like=True):
    """One remembered outcome: an open order (by id), a closed one, or an event."""

    placed_ns: int
    account: int
    key: str
    open_order: int = 0
    closed: _Order | None = None
    event: Rejected | BalanceChanged | None = None


class _Snapshot(Struct, array_like=True):
    format: int
    limits: Limits
    seq: int
    ts_ns: int
    next_account: int
    next_delivery: int
    deposited: int
    accounts: list[_Account]
    markets: list[_Market]
    deliveries: list[_Delivery]
    remembered: list[_Remembered]
    due: list[tuple[int, int, int | str]]


_ENCODER: Final = msgpack.Encoder()
_DECODER: Final = msgpack.Decoder(_Snapshot)


def dump(engine: Engine) -> bytes:
    """The engine's state as MessagePack. O(everything)."""
    accounts = []
    for account_id in sorted(engine.accounts):
        account = engine.accounts[account_id]
        accounts.append(
            _Account(
                account_id,
                account.name,
                account.balance,
                account.held,
                account.event_seq,
                [_position(symbol, account.positions[symbol]) for symbol in sorted(account.positions)],
                [(symbol, *account.destinations[symbol]) for symbol in sorted(account.destinations)],
            )
        )
    return _ENCODER.encode(
        _Snapshot(
            FORMAT,
            engine.limits,
            engine.seq,
            engine.ts_ns,
            engine.next_account,
            engine.delivering.next_delivery,
            engine.deposited,
            accounts,
            [_market(engine.markets[symbol]) for symbol in sorted(engine.markets)],
            [_delivery(engine.deliveries[delivery_id]) for delivery_id in sorted(engine.deliveries)],
            [_remembered(engine, *memory(item)) for item in engine.remembered],
            list(engine.due.entries),
        )
    )


def state_hash(engine: Engine) -> str:
    """BLAKE2b-256 of the dump, in hex: equal for equal states, on every machine and build."""
    return blake2b(dump(engine), digest_size=32).hexdigest()


def restore(snapshot: bytes) -> Engine:
    """The engine that ``dump`` wrote. Raises ValueError when the bytes are no snapshot of this format."""
    try:
        state = _DECODER.decode(snapshot)
    except ValidationError as error:
        raise ValueError(f"not a snapshot of format {FORMAT}: {error}") from error
    if state.format != FORMAT:
        raise ValueError(f"snapshot format {state.format}; this engine reads format {FORMAT}")
    engine = Engine(state.limits)
    engine.seq = state.seq
    engine.ts_ns = state.ts_ns
    engine.next_account = state.next_account
    engine.delivering.next_delivery = state.next_delivery
    engine.deposited = state.deposited
    for spec in state.markets:
        _restore_market(engine, spec)
    for saved in state.accounts:
        _restore_account(engine, saved)
    for listed in state.markets:
        market = engine.markets[listed.spec.symbol]
        for order in listed.bids + listed.asks:
            _rest(engine, market, _restore_order(engine, order))
    for item in state.deliveries:
        _restore_delivery(engine, item)
    for remembered in state.remembered:
        _restore_outcome(engine, remembered)
    for due_ns, kind, key in state.due:
        # orders put their own expiries back when they came to rest
        engine.due.discard(due_ns, kind, key)
        engine.due.add(due_ns, kind, key)
    for open_order in engine.open_orders():
        # its id is past its time: it is remembered for as long as the order lives, and no longer in the queue
        if open_order.forget:
            open_order.account.outcomes[open_order.client_order_id] = open_order
    return engine


def _position(symbol: str, position: Position) -> _Position:
    # what was paid and earned in all has no bound, MessagePack's integers have
    return _Position(symbol, position.qty, str(position.basis), position.bond, str(position.realized))


def _order(order: Order) -> _Order:
    return _Order(
        order.order_id,
        order.account.account_id,
        order.market,
        order.is_buy,
        order.order_type,
        order.price,
        order.qty,
        order.time_in_force,
        order.post_only,
        order.reduce_only,
        order.self_trade_prevention,
        order.expires_ns,
        order.client_order_id,
        order.ts_ns,
        order.account_seq,
        order.unit_hold,
        order.filled,
        order.remaining,
        order.status,
        order.forget,
        order.answer,
    )


def _side(market: Market, is_buy: bool) -> list[_Order]:
    return [_order(order) for order in market.book.orders_best_first(is_buy) if isinstance(order, Order)]


def _market(market: Market) -> _Market:
    return _Market(
        market.spec,
        market.state,
        market.last_price,
        market.trade_id,
        _side(market, True),
        _side(market, False),
        list(market.deliveries),
    )


def _delivery(delivery: Delivery) -> _Delivery:
    return _Delivery(
        delivery.delivery_id,
        delivery.market,
        delivery.seller,
        delivery.buyer,
        delivery.qty,
        # hashes pass 64 bits, MessagePack's integers do not
        str(delivery.contracted_hashes),
        delivery.proceeds,
        delivery.bond,
        str(delivery.cost),
        delivery.url,
        delivery.worker,
        delivery.state,
        str(delivery.proven_hashes),
        str(delivery.excused_hashes),
        str(delivery.waited_hashes),
        delivery.shares,
    )


def _remembered(engine: Engine, placed_ns: int, account: int, key: str) -> _Remembered:
    outcome = engine.accounts[account].outcomes[key]
    if not isinstance(outcome, Order):
        return _Remembered(placed_ns, account, key, event=outcome)
    if outcome.status is OrderStatus.OPEN:
        return _Remembered(placed_ns, account, key, open_order=outcome.order_id)
    return _Remembered(placed_ns, account, key, closed=_order(outcome))


def _restore_order(engine: Engine, saved: _Order) -> Order:
    order = Order(
        saved.order_id,
        engine.accounts[saved.account],
        saved.market,
        saved.is_buy,
        saved.order_type,
        saved.price,
        saved.qty,
        saved.time_in_force,
        saved.post_only,
        saved.reduce_only,
        saved.self_trade_prevention,
        saved.expires_ns,
        saved.client_order_id,
        saved.ts_ns,
        saved.account_seq,
        saved.unit_hold,
    )
    order.filled = saved.filled
    order.remaining = saved.remaining
    order.status = saved.status
    order.forget = saved.forget
    order.answer = saved.answer
    return order


def _restore_market(engine: Engine, saved: _Market) -> None:
    market = Market(saved.spec)
    market.state = saved.state
    market.last_price = saved.last_price
    market.trade_id = saved.trade_id
    market.deliveries = list(saved.deliveries)
    engine.markets[market.symbol] = market


def _restore_account(engine: Engine, saved: _Account) -> None:
    account = engine.accounts.get(saved.account_id)
    if account is None:
        account = Account(saved.account_id, saved.name)
        engine.accounts[saved.account_id] = account
        engine.names[saved.name] = saved.account_id
    account.balance = saved.balance
    account.held = saved.held
    account.event_seq = saved.event_seq
    for item in saved.positions:
        position = engine.matching.position(account, engine.markets[item.market])
        position.qty = item.qty
        position.basis = int(item.basis)
        position.bond = item.bond
        position.realized = int(item.realized)
    for symbol, url, worker in saved.destinations:
        account.destinations[symbol] = (url, worker)
        engine.markets[symbol].destined.append(account.account_id)


def _rest(engine: Engine, market: Market, order: Order) -> None:
    account = order.account
    account.orders[order.order_id] = order
    engine.matching.open_orders += 1
    engine.matching.rest(order, account, market)


def _restore_delivery(engine: Engine, saved: _Delivery) -> None:
    delivery = Delivery(
        saved.delivery_id,
        saved.market,
        saved.seller,
        saved.buyer,
        saved.qty,
        int(saved.contracted_hashes),
        saved.proceeds,
        saved.bond,
        int(saved.cost),
        saved.url,
        saved.worker,
    )
    delivery.state = saved.state
    delivery.proven_hashes = int(saved.proven_hashes)
    delivery.excused_hashes = int(saved.excused_hashes)
    delivery.waited_hashes = int(saved.waited_hashes)
    delivery.shares = saved.shares
    engine.deliveries[delivery.delivery_id] = delivery


def _restore_outcome(engine: Engine, saved: _Remembered) -> None:
    outcome: Order | Rejected | BalanceChanged | None
    if saved.open_order:
        outcome = engine.accounts[saved.account].orders[saved.open_order]
    elif saved.closed is not None:
        outcome = _restore_order(engine, saved.closed)
    else:
        outcome = saved.event
    assert outcome is not None, saved.key
    engine.recall(saved.account, saved.key, outcome, saved.placed_ns)
