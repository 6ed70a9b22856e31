"""The whole state as bytes and back, and its hash.

``restore(dump(engine))`` continues exactly as ``engine`` would; two engines with the same history have the same dump and the
same ``state_hash``. Everything is written in a canonical order, so nothing depends on how the state came about.
"""

from hashlib import blake2b
from typing import Annotated, Any, Final, cast

from msgspec import DecodeError, Meta, Struct, msgpack
from msgspec.structs import astuple

from engine.accounts import Account, Listing, Order, Pool, Position
from engine.book import Resting
from engine.columns import (
    BLOCK,
    COLUMNS,
    Remembered,
    decode_answers,
    decode_orders,
    encode_answers,
    encode_orders,
    known_orders,
)
from engine.core import Engine
from engine.due import EXPIRY, LIFE
from engine.events import AskPlaced, BalanceChanged, BidPlaced, BidRefilled, Rejected, values
from engine.limits import Limits
from engine.markets.dated import Delivery, Market
from engine.markets.live import Ask, Bid, Flow, LiveMarket
from engine.rejects import RejectCode
from engine.types import BalanceReason, DeliveryState, LiveSpec, MarketSpec, MarketState, Peg

FORMAT: Final = 3
"""Version of the layout below; a snapshot of another one is refused and the journal replayed instead."""


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
    pools: list["_Pool"]


class _Pool(Struct, array_like=True):
    pool_id: int
    name: str
    algorithm: str
    url: str
    worker: str
    password: str


class _Market(Struct, array_like=True):
    spec: MarketSpec
    state: MarketState
    last_price: int
    trade_id: int
    bids: int
    asks: int
    deliveries: list[int]


class _Orders(Struct, array_like=True):
    """Up to BLOCK orders in the columns of :mod:`engine.columns`, their client order ids as lines of one text."""

    columns: Annotated[list[int | bytes], Meta(min_length=COLUMNS, max_length=COLUMNS)]
    keys: str
    answers: int
    answer_columns: list[int | bytes]


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


class _Bid(Struct, array_like=True):
    order_id: int
    account: int
    market: str
    price: int
    size: int
    rank: int
    budget: int
    spent: int
    escrow: int
    url: str
    worker: str
    peg: Peg
    offset: int
    floor: int
    cap: int
    expires_ns: int
    client_order_id: str
    ts_ns: int
    price_ns: int
    edited_ns: int
    price_clock: str
    price_clock_ns: int
    exposure: str
    exposed_lots: str
    accrued_value: str
    exposure_clock: str
    stop_ns: int
    stopped: bool
    heard: bool
    ended: bool
    forget: bool


class _Ask(Struct, array_like=True):
    order_id: int
    account: int
    market: str
    price: int
    size: int
    rank: int
    expires_ns: int
    client_order_id: str
    ts_ns: int
    ended: bool
    forget: bool


class _Flow(Struct, array_like=True):
    flow_id: int
    bid: int
    ask: int
    speed: int
    started_ns: int
    ended_ns: int
    allowance: str
    value: str
    accrued: str
    accrued_value: str
    since_ns: int
    clock: str
    hashes: str
    paid_hashes: str
    paid_value: str
    proven_ns: int
    cost: int
    buyer_fee: int
    seller_fee: int


class _LiveMarket(Struct, array_like=True):
    spec: LiveSpec
    state: MarketState
    next_rank: int
    marginal: int
    clock: str
    clock_ns: int
    index_price: int
    bids: list[_Bid]
    """Open ones by id; after them ended ones that flows still wait for."""
    asks: list[_Ask]
    flows: list[_Flow]
    """By id."""


class _Rejected(Struct, tag="rejected"):
    account: int
    account_seq: int
    code: RejectCode
    bound: int
    order_id: int
    client_order_id: str
    market: str
    repeat: bool


class _BalanceChanged(Struct, tag="balance_changed"):
    account: int
    account_seq: int
    amount: int
    reason: BalanceReason
    transfer_id: str
    balance: int
    held: int
    repeat: bool


class _BidPlaced(Struct, tag="bid_placed"):
    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    price: int
    limit: int
    budget: int
    url: str
    worker: str
    peg: Peg
    offset: int
    floor: int
    cap: int
    expires_ns: int
    ts_ns: int
    placing_fee: int
    balance: int
    held: int
    repeat: bool


class _AskPlaced(Struct, tag="ask_placed"):
    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    price: int
    speed: int
    expires_ns: int
    ts_ns: int
    balance: int
    held: int
    repeat: bool


class _BidRefilled(Struct, tag="bid_refilled"):
    account: int
    account_seq: int
    order_id: int
    client_order_id: str
    market: str
    refill_id: str
    amount: int
    left: int
    balance: int
    held: int
    repeat: bool


class _Told(Struct, array_like=True):
    """A remembered outcome that is no order, and its place from 1 among all that are remembered."""

    place: int
    placed_ns: int
    account: int
    key: str
    event: _Rejected | _BalanceChanged | _BidPlaced | _AskPlaced | _BidRefilled


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
    symbols: list[str]
    """Names that the orders' column of markets counts in: those of ``markets``, then of closed orders' older ones."""
    orders: list[_Orders]
    """Open ones, and closed ones that are remembered, account by account in order of their ids: each account's tables are then
    filled while the processor has them at hand."""
    queued: int
    """How many rest: market by market the bids and asks, best first, as the column of places in the books counts."""
    remembered: int
    told: list[_Told]
    due: list[tuple[int, int, str]]
    """Of dated markets, without the expiries of orders, which the orders tell."""
    next_flow: int
    live: list[_LiveMarket]
    outlived: list[_BidPlaced | _AskPlaced]
    """How live orders were accepted that are open, and whose ids are kept for that only."""


_EVENTS: Final[dict[type, Any]] = {
    _Rejected: Rejected,
    _BalanceChanged: BalanceChanged,
    _BidPlaced: BidPlaced,
    _AskPlaced: AskPlaced,
    _BidRefilled: BidRefilled,
}
_SAVED: Final[dict[type, Any]] = {event: saved for saved, event in _EVENTS.items()}

_ENCODER: Final = msgpack.Encoder()
_DECODER: Final = msgpack.Decoder(_Snapshot)


def dump(engine: Engine) -> bytes:
    """The engine's state as MessagePack. O(everything)."""
    accounts = engine.accounts.values()
    markets = [engine.markets[symbol] for symbol in sorted(engine.markets)]
    symbols = [market.symbol for market in markets]
    queue: list[Order] = []
    saved_markets = [_market(market, queue) for market in markets]
    queued = {order.order_id: place for place, order in enumerate(queue, 1)}
    places, told = _remembered(engine)
    orders = [order for account in accounts for order in known_orders(account)]
    symbols += sorted({order.market for order in orders} - engine.markets.keys())
    account_rows = {account.account_id: row for row, account in enumerate(accounts)}
    market_rows = {symbol: row for row, symbol in enumerate(symbols)}
    return _ENCODER.encode(
        _Snapshot(
            FORMAT,
            engine.limits,
            engine.seq,
            engine.ts_ns,
            engine.next_account,
            engine.delivering.next_delivery,
            engine.deposited,
            [_account(account) for account in accounts],
            saved_markets,
            [_delivery(engine.deliveries[delivery_id]) for delivery_id in sorted(engine.deliveries)],
            symbols,
            [
                _orders(orders[start : start + BLOCK], queued, places, account_rows, market_rows)
                for start in range(0, len(orders), BLOCK)
            ],
            len(queue),
            len(engine.remembered),
            told,
            [(due_ns, kind, key) for due_ns, kind, key in engine.due.entries() if EXPIRY < kind < LIFE],
            engine.live.flowing.next_flow,
            _live(engine),
            [
                _SAVED[type(event)](*values(event))
                for _, order in sorted(engine.live.orders.items())
                if order.forget
                for event in (order.account.outcomes[order.client_order_id],)
            ],
        )
    )


def state_hash(engine: Engine) -> str:
    """BLAKE2b-256 of the dump, in hex: equal for equal states, on every machine and build."""
    return hash_of(dump(engine))


def hash_of(snapshot: bytes | memoryview) -> str:
    """The ``state_hash`` of the engine that ``snapshot`` was dumped of."""
    return blake2b(snapshot, digest_size=32).hexdigest()


def restore(snapshot: bytes | memoryview) -> Engine:
    """The engine that ``dump`` wrote. Raises ValueError when the bytes are no snapshot of this format. O(everything)."""
    try:
        state = _DECODER.decode(snapshot)
    except DecodeError as error:
        raise ValueError(f"not a snapshot of format {FORMAT}: {error}") from error
    if state.format != FORMAT:
        raise ValueError(f"snapshot format {state.format}; this engine reads format {FORMAT}")
    try:
        return _restore(state)
    except Exception as error:  # whatever it was that restoring tripped over, dump did not write it
        raise ValueError(f"not a snapshot of format {FORMAT}: {error!r}") from error


def _restore(state: _Snapshot) -> Engine:
    engine = Engine(state.limits)
    engine.seq = state.seq
    engine.ts_ns = state.ts_ns
    engine.next_account = state.next_account
    engine.delivering.next_delivery = state.next_delivery
    engine.deposited = state.deposited
    for listed in state.markets:
        _restore_market(engine, listed)
    accounts = [_restore_account(engine, saved) for saved in state.accounts]
    rows = sum(block.keys.count("\n") + 1 for block in state.orders)
    if max(state.queued, state.remembered - len(state.told)) > rows:
        raise ValueError(f"{rows} orders have more places than that")
    listings: list[Listing] = [engine.markets.get(symbol) or Listing(symbol) for symbol in state.symbols]
    remembered: list[Remembered | None] = [None] * state.remembered
    queue: list[Order | None] = [None] * state.queued
    special: list[Order] = []
    for block in state.orders:
        orders = decode_orders(block.columns, block.keys.split("\n"), accounts, listings, queue, remembered, special)
        if block.answers:
            decode_answers(block.answer_columns, block.answers, orders)
    for told in state.told:
        kind = _EVENTS[type(told.event)]
        engine.accounts[told.account].outcomes[told.key] = kind(*astuple(told.event))
        remembered[told.place - 1] = (told.placed_ns, told.account, told.key)
    # A book takes no gap for an order: it fails, and only the counts are left to compare.
    for saved in reversed(state.markets):
        book = engine.markets[saved.spec.symbol].book
        book.load(False, cast("list[Resting]", queue), saved.asks)
        book.load(True, cast("list[Resting]", queue), saved.bids)
    if queue:
        raise ValueError(f"{len(queue)} places are in no book")
    engine.matching.open_orders = state.queued
    engine.matching.load(special, engine.markets)
    for item in state.deliveries:
        _restore_delivery(engine, item)
    _recall(engine, remembered)
    for live in state.live:
        _restore_live(engine, live)
    _by_id(engine.live.orders)
    _by_id(engine.live.flowing.by_id)
    for account in engine.accounts.values():
        _by_id(account.live)
        _by_id(account.flows)
    engine.live.flowing.next_flow = state.next_flow
    for placed in state.outlived:
        engine.accounts[placed.account].outcomes[placed.client_order_id] = _EVENTS[type(placed)](*astuple(placed))
    for due_ns, kind, symbol in state.due:
        engine.due.add_market(due_ns, kind, symbol)
    return engine


def _recall(engine: Engine, remembered: list[Remembered | None]) -> None:
    """Have the engine remember them, oldest first; the list is emptied.

    Block by block: what a list does to an order (take it, ask it, drop it) reaches for its memory, which is far away only
    the first time.
    """
    remembered.reverse()
    while remembered:
        block = remembered[: -BLOCK - 1 : -1]
        del remembered[-BLOCK:]
        # Nothing that has a place is false, and asking so is the cheapest question.
        if not all(block):
            raise ValueError("a place without an outcome")
        engine.recall(cast("list[Remembered]", block))


def _position(symbol: str, position: Position) -> _Position:
    # what was paid and earned in all has no bound, MessagePack's integers have
    return _Position(symbol, position.qty, str(position.basis), position.bond, str(position.realized))


def _account(account: Account) -> _Account:
    return _Account(
        account.account_id,
        account.name,
        account.balance,
        account.held,
        account.event_seq,
        [_position(symbol, account.positions[symbol]) for symbol in sorted(account.positions)],
        [(symbol, *account.destinations[symbol]) for symbol in sorted(account.destinations)],
        [
            _Pool(pool.pool_id, pool.name, pool.algorithm, pool.url, pool.worker, pool.password)
            for _, pool in sorted(account.pools.items())
        ],
    )


def _market(market: Market, queue: list[Order]) -> _Market:
    """The market; its orders are put behind ``queue``."""
    before = len(queue)
    queue += cast("list[Order]", market.book.orders_best_first(True))
    bids = len(queue) - before
    queue += cast("list[Order]", market.book.orders_best_first(False))
    asks = len(queue) - before - bids
    return _Market(market.spec, market.state, market.last_price, market.trade_id, bids, asks, list(market.deliveries))


def _orders(
    orders: list[Order],
    queued: dict[int, int],
    places: dict[int, int],
    account_rows: dict[int, int],
    market_rows: dict[str, int],
) -> _Orders:
    answered = [row for row, order in enumerate(orders) if order.answer is not None]
    return _Orders(
        encode_orders(orders, queued, places, account_rows, market_rows),
        "\n".join([order.client_order_id for order in orders]),
        len(answered),
        encode_answers(answered, [orders[row] for row in answered]) if answered else [],
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


def _remembered(engine: Engine) -> tuple[dict[int, int], list[_Told]]:
    """By id the places from 1 of orders among what is remembered, and the other outcomes."""
    places: dict[int, int] = {}
    told: list[_Told] = []
    for place, item in enumerate(engine.remembered, 1):
        if isinstance(item, Order):
            places[item.order_id] = place
        else:
            placed_ns, account, key = item
            event = engine.accounts[account].outcomes[key]
            assert not isinstance(event, Order), key
            told.append(_Told(place, placed_ns, account, key, _SAVED[type(event)](*values(event))))
    return places, told


def _restore_market(engine: Engine, saved: _Market) -> None:
    market = Market(saved.spec)
    market.state = saved.state
    market.last_price = saved.last_price
    market.trade_id = saved.trade_id
    market.deliveries = list(saved.deliveries)
    engine.markets[market.symbol] = market


def _restore_account(engine: Engine, saved: _Account) -> Account:
    account = engine.accounts.get(saved.account_id)
    if account is None:
        account = Account(saved.account_id, saved.name)
        engine.accounts.add(account)
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
    for pool in saved.pools:
        account.pools[pool.pool_id] = Pool(*astuple(pool))
    for symbol, url, worker in saved.destinations:
        account.destinations[symbol] = (url, worker)
        engine.markets[symbol].destined.append(account.account_id)
    return account


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


def _live(engine: Engine) -> list[_LiveMarket]:
    live = engine.live
    # as they were listed: of two that are alike the older one comes first wherever markets are named or shown
    flows: dict[str, list[Flow]] = {symbol: [] for symbol in live.markets}
    for flow_id in sorted(live.flowing.by_id):
        flow = live.flowing.by_id[flow_id]
        flows[flow.bid.market].append(flow)
    return [_live_market(live.markets[symbol], mine) for symbol, mine in flows.items()]


def _live_market(market: LiveMarket, flows: list[Flow]) -> _LiveMarket:
    bids: dict[int, Bid] = {}
    asks: dict[int, Ask] = {}
    for order_id in sorted(market.orders):
        order = market.orders[order_id]
        if isinstance(order, Bid):
            bids[order_id] = order
        else:
            asks[order_id] = order
    for flow in flows:
        bids.setdefault(flow.bid.order_id, flow.bid)
        asks.setdefault(flow.ask.order_id, flow.ask)
    return _LiveMarket(
        market.spec,
        market.state,
        market.next_rank,
        market.marginal,
        str(market.clock),
        market.clock_ns,
        market.index_price,
        [_bid(bid) for bid in bids.values()],
        [_ask(ask) for ask in asks.values()],
        [_flow(flow) for flow in flows],
    )


def _bid(bid: Bid) -> _Bid:
    return _Bid(
        bid.order_id,
        bid.account.account_id,
        bid.market,
        bid.price,
        bid.remaining,
        bid.rank,
        bid.budget,
        bid.spent,
        bid.escrow,
        bid.url,
        bid.worker,
        bid.peg,
        bid.offset,
        bid.floor,
        bid.cap,
        bid.expires_ns,
        bid.client_order_id,
        bid.ts_ns,
        bid.price_ns,
        bid.edited_ns,
        # integrals pass 64 bits
        str(bid.price_clock),
        bid.price_clock_ns,
        str(bid.exposure),
        str(bid.exposed_lots),
        str(bid.accrued_value),
        str(bid.exposure_clock),
        bid.stop_ns,
        bid.stopped,
        bid.heard,
        bid.ended,
        bid.forget,
    )


def _ask(ask: Ask) -> _Ask:
    return _Ask(
        ask.order_id,
        ask.account.account_id,
        ask.market,
        ask.price,
        ask.remaining,
        ask.rank,
        ask.expires_ns,
        ask.client_order_id,
        ask.ts_ns,
        ask.ended,
        ask.forget,
    )


def _flow(flow: Flow) -> _Flow:
    return _Flow(
        flow.flow_id,
        flow.bid.order_id,
        flow.ask.order_id,
        flow.speed,
        flow.started_ns,
        flow.ended_ns,
        str(flow.allowance),
        str(flow.value),
        str(flow.accrued),
        str(flow.accrued_value),
        flow.since_ns,
        str(flow.clock),
        str(flow.hashes),
        str(flow.paid_hashes),
        str(flow.paid_value),
        flow.proven_ns,
        flow.cost,
        flow.buyer_fee,
        flow.seller_fee,
    )


def _by_id(table: dict[int, Any]) -> None:
    """Orders and flows come market by market; they are listed, and paged, by age."""
    rows = sorted(table.items())
    table.clear()
    table.update(rows)


def _restore_live(engine: Engine, saved: _LiveMarket) -> None:
    live = engine.live
    market = LiveMarket(saved.spec)
    market.state = saved.state
    market.marginal = saved.marginal
    market.clock = int(saved.clock)
    market.clock_ns = saved.clock_ns
    market.index_price = saved.index_price
    live.markets[market.symbol] = market
    bids = {row.order_id: _restore_bid(engine, market, row) for row in saved.bids}
    asks = {row.order_id: _restore_ask(engine, market, row) for row in saved.asks}
    for order_id in sorted([*bids, *asks]):
        live.restore(bids.get(order_id) or asks[order_id], market)
    live.fill(market)
    market.next_rank = saved.next_rank
    for row in saved.flows:
        live.flowing.restore(_restore_flow(row, bids[row.bid], asks[row.ask]), market)


def _restore_bid(engine: Engine, market: LiveMarket, row: _Bid) -> Bid:
    bid = Bid(
        row.order_id,
        engine.accounts[row.account],
        market,
        row.price,
        row.size,
        row.budget,
        row.url,
        row.worker,
        row.peg,
        row.offset,
        row.floor,
        row.cap,
        row.expires_ns,
        row.client_order_id,
        row.ts_ns,
    )
    bid.rank = row.rank
    bid.spent = row.spent
    bid.escrow = row.escrow
    bid.price_ns = row.price_ns
    bid.edited_ns = row.edited_ns
    bid.price_clock = int(row.price_clock)
    bid.price_clock_ns = row.price_clock_ns
    bid.exposure = int(row.exposure)
    bid.exposed_lots = int(row.exposed_lots)
    bid.accrued_value = int(row.accrued_value)
    bid.exposure_clock = int(row.exposure_clock)
    bid.stop_ns = row.stop_ns
    bid.stopped = row.stopped
    bid.heard = row.heard
    bid.ended = row.ended
    bid.forget = row.forget
    return bid


def _restore_ask(engine: Engine, market: LiveMarket, row: _Ask) -> Ask:
    ask = Ask(
        row.order_id,
        engine.accounts[row.account],
        market,
        row.price,
        row.size,
        row.expires_ns,
        row.client_order_id,
        row.ts_ns,
    )
    ask.rank = row.rank
    ask.ended = row.ended
    ask.forget = row.forget
    return ask


def _restore_flow(row: _Flow, bid: Bid, ask: Ask) -> Flow:
    flow = Flow(row.flow_id, bid, ask, row.started_ns, int(row.clock))
    flow.speed = row.speed
    flow.ended_ns = row.ended_ns
    flow.allowance = int(row.allowance)
    flow.value = int(row.value)
    flow.accrued = int(row.accrued)
    flow.accrued_value = int(row.accrued_value)
    flow.since_ns = row.since_ns
    flow.hashes = int(row.hashes)
    flow.paid_hashes = int(row.paid_hashes)
    flow.paid_value = int(row.paid_value)
    flow.proven_ns = row.proven_ns
    flow.cost = row.cost
    flow.buyer_fee = row.buyer_fee
    flow.seller_fee = row.seller_fee
    return flow
