"""The oracle: the whole exchange once more, obvious and slow, to compare the engine with event for event.

Written from the event contract and the accounting rules alone, without a look at the engine's matching or
ledger. Nothing is kept up to date that can be worked out anew: the book is a sorted list made on demand, held
funds are a sum over open orders, due work is searched for. A rule that both sides get wrong in the same way stays
hidden; a slip in either shows at once.
"""

import copy
import re
from dataclasses import dataclass, field
from decimal import Decimal
from math import isqrt

from engine.commands import (
    Amend,
    AmendAsk,
    AmendBid,
    Cancel,
    CancelAll,
    Command,
    CreateAccount,
    DeletePool,
    Deposit,
    Entry,
    ListLive,
    ListMarket,
    Place,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    ReportWork,
    SavePool,
    SetDestination,
    SetIndex,
    SetMarketState,
    Settle,
    Tick,
    Withdraw,
)
from engine.events import (
    Accepted,
    AccountCreated,
    Amended,
    BalanceChanged,
    Canceled,
    DeliveryAssigned,
    DeliverySettled,
    DeliveryUpdated,
    DestinationSet,
    Event,
    MarketListed,
    MarketStateChanged,
    Reduced,
    Rejected,
    Trade,
    replace,
)
from engine.limits import (
    BPS,
    CLIENT_ORDER_ID_CHARS_MAX,
    DAY_NS,
    FEE_MAX_BPS,
    MONEY_MAX_MSAT,
    NAME_CHARS_MAX,
    SECOND_NS,
    SHARES_MAX,
    SYMBOL_CHARS_MAX,
    URL_CHARS_MAX,
    WORK_MAX_HASHES,
    Limits,
)
from engine.rejects import RejectCode
from engine.types import (
    FEES_ACCOUNT,
    FIRST_ACCOUNT,
    INSURANCE_ACCOUNT,
    BalanceReason,
    CancelReason,
    DeliveryState,
    EndReason,
    MarketSpec,
    MarketState,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.reference.live import Flow, LiveMarket, LiveOrder, NaiveLive, is_destination
from tests.reference.refused import Refused


@dataclass
class Account:
    name: str
    balance: int = 0
    seq: int = 0


@dataclass
class Position:
    """Signed lots; ``basis`` is what a long paid or a short is owed, ``bond`` what it put up, in msat."""

    qty: int = 0
    basis: int = 0
    bond: int = 0


@dataclass(eq=False)
class Order:
    order_id: int
    account: int
    market: str
    side: Side
    order_type: OrderType
    price: int
    qty: int
    time_in_force: TimeInForce
    post_only: PostOnly
    reduce_only: bool
    stp: SelfTradePrevention
    expires_ns: int
    client_order_id: str
    unit_hold: int
    queued: int
    filled: int = 0
    resting: bool = False

    @property
    def remaining(self) -> int:
        return self.qty - self.filled


@dataclass
class Market:
    spec: MarketSpec
    state: MarketState = MarketState.OPEN
    last_price: int = 0
    trade_id: int = 0
    gate_done: bool = False
    start_done: bool = False


@dataclass
class Delivery:
    delivery_id: int
    market: str
    seller: int
    buyer: int
    qty: int
    contracted: int
    proceeds: int
    bond: int
    cost: int
    url: str
    worker: str
    state: DeliveryState = DeliveryState.SCHEDULED
    proven: int = 0
    excused: int = 0
    waited: int = 0
    shares: int = 0


@dataclass
class Memory:
    """The first outcome of a client order id or transfer id."""

    event: Event
    since_ns: int
    order_id: int


def ceil_div(amount: int, by: int) -> int:
    return -(-amount // by)


def fee_ceil(notional: int, bps: int) -> int:
    return ceil_div(notional * bps, BPS)


def exact_notional(spec: MarketSpec, price: int, qty: int) -> tuple[int, int]:
    """Numerator and denominator of the notional in msat."""
    return price * qty * spec.tick_lot_msat * (spec.period_end_ns - spec.period_start_ns), DAY_NS


def notional_floor(spec: MarketSpec, price: int, qty: int) -> int:
    amount, by = exact_notional(spec, price, qty)
    return amount // by


def notional_ceil(spec: MarketSpec, price: int, qty: int) -> int:
    amount, by = exact_notional(spec, price, qty)
    return ceil_div(amount, by)


def bond_ceil(spec: MarketSpec, notional: int) -> int:
    return ceil_div(notional * spec.bond_bps, BPS)


def opposite(side: Side) -> Side:
    return Side.SELL if side == Side.BUY else Side.BUY


def crosses(side: Side, price: int, other: int) -> bool:
    return price >= other if side == Side.BUY else price <= other


@dataclass
class NaiveExchange:
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.seq = 0
        self.now = 0
        self.entry = Entry(0, 0, Tick())
        self.events: list[Event] = []
        self.accounts = {FEES_ACCOUNT: Account("fees"), INSURANCE_ACCOUNT: Account("insurance")}
        self.positions: dict[tuple[int, str], Position] = {}
        self.destinations: dict[tuple[int, str], tuple[str, str]] = {}
        self.memories: dict[tuple[int, str], Memory] = {}
        self.orders: list[Order] = []
        self.markets: dict[str, Market] = {}
        self.deliveries: list[Delivery] = []
        self.deliveries_made = 0
        self.deposited = 0
        self.live = NaiveLive(self)

    def apply(self, entry: Entry) -> list[Event]:
        assert entry.seq == self.seq + 1
        assert entry.ts_ns >= self.now
        self.seq, self.entry, self.events = entry.seq, entry, []
        self.live.moves = []
        self.do_due_work()
        self.now = entry.ts_ns
        self.live.pass_time()
        self.forget()
        self.obey(entry.command)
        self.live.look_at_budgets()
        return self.events

    def obey(self, command: Command) -> None:
        match command:
            case Place() | PlaceBid() | PlaceAsk():
                self.idempotent(command, command.client_order_id)
            case RefillBid():
                self.idempotent(command, "refill:" + command.refill_id)
            case Deposit() | Withdraw():
                self.idempotent(command, "transfer:" + command.transfer_id)
            case Tick():
                pass
            case _:
                try:
                    self.execute(command)
                except Refused as refused:
                    self.reject(command, refused)

    def idempotent(self, command: Place | PlaceBid | PlaceAsk | RefillBid | Deposit | Withdraw, key: str) -> None:
        """Answer a repeat from memory; remember the outcome of a first."""
        known = (command.account, key)
        if known in self.memories:
            event = replace(self.memories[known].event, repeat=True)
            if not isinstance(event, Rejected):
                # money is told as it is now
                event = replace(event, balance=self.accounts[command.account].balance, held=self.held(command.account))
            self.events.append(event)
            return
        first = len(self.events)
        remember = bool(key)
        try:
            self.execute(command)
        except Refused as refused:
            self.reject(command, refused)
            remember = remember and refused.code not in (RejectCode.ACCOUNT_UNKNOWN, RejectCode.CLIENT_ORDER_ID_INVALID)
        if remember and self.remembered(command.account) < self.limits.client_order_ids_per_account_max:
            self.memories[known] = Memory(self.events[first], self.now, self.seq)

    def execute(self, command: Command) -> None:
        match command:
            case Place():
                self.place(command)
            case Amend():
                self.amend(command)
            case Cancel():
                self.cancel(command)
            case CancelAll():
                self.cancel_all(command)
            case SetDestination():
                self.set_destination(command)
            case CreateAccount():
                self.create_account(command)
            case Deposit():
                self.deposit(command)
            case Withdraw():
                self.withdraw(command)
            case ListMarket():
                self.list_market(command)
            case SetMarketState():
                self.set_market_state(command)
            case ReportWork():
                self.report_work(command)
            case Settle():
                self.settle(command)
            case ListLive():
                self.live.list_live(command)
            case PlaceBid():
                self.live.place_bid(command)
            case PlaceAsk():
                self.live.place_ask(command)
            case AmendBid():
                self.live.amend_bid(command)
            case AmendAsk():
                self.live.amend_ask(command)
            case RefillBid():
                self.live.refill_bid(command)
            case ReportFlow():
                self.live.report(command)
            case SetIndex():
                self.live.set_index(command)
            case SavePool():
                self.live.save_pool(command)
            case DeletePool():
                self.live.delete_pool(command)

    # --- What is looked up, never kept ----------------------------------------------------------------------

    def held(self, account: int) -> int:
        dated = sum(order.unit_hold * order.remaining for order in self.orders if order.account == account)
        return dated + self.live.held(account)

    def available(self, account: int) -> int:
        return self.accounts[account].balance - self.held(account)

    def remembered(self, account: int) -> int:
        return sum(owner == account for owner, _ in self.memories)

    def position(self, account: int, market: str) -> Position:
        return self.positions.setdefault((account, market), Position())

    def book(self, market: str, side: Side) -> list[Order]:
        """Resting orders of one side, best price first, then first come."""
        orders = [o for o in self.orders if o.resting and o.market == market and o.side == side]
        sign = -1 if side == Side.BUY else 1
        return sorted(orders, key=lambda o: (sign * o.price, o.queued))

    def best(self, market: str, side: Side) -> int:
        orders = self.book(market, side)
        return orders[0].price if orders else 0

    def reducible(self, account: int, market: str, side: Side) -> int:
        """Lots that an order of ``side`` could close."""
        qty = self.position(account, market).qty
        return max(0, qty if side == Side.SELL else -qty)

    def reduce_only_open(self, account: int, market: str, side: Side) -> list[Order]:
        """Open reduce-only orders, newest first."""
        orders = [o for o in self.orders if o.reduce_only and (o.account, o.market, o.side) == (account, market, side)]
        return sorted(orders, key=lambda o: -o.order_id)

    def find_order(self, command: Amend | Cancel) -> Order | None:
        for order in self.orders:
            if order.account == command.account and (
                order.order_id == command.order_id
                if command.order_id
                else order.client_order_id == command.client_order_id != ""
            ):
                return order
        return None

    def find_live(self, command: Cancel) -> LiveOrder | None:
        return self.live.find(command.account, command.order_id, command.client_order_id)

    def find_delivery(self, delivery_id: int) -> Delivery | None:
        return next((d for d in self.deliveries if d.delivery_id == delivery_id), None)

    # --- Facts ----------------------------------------------------------------------------------------------

    def number(self, account: int) -> int:
        self.accounts[account].seq += 1
        return self.accounts[account].seq

    def reject(self, command: Command, refused: Refused) -> None:
        account = getattr(command, "account", 0)
        if account not in self.accounts:
            account = 0
        order_id = getattr(command, "order_id", 0)
        client_order_id = getattr(command, "client_order_id", "") or getattr(command, "transfer_id", "")
        if isinstance(command, RefillBid):
            client_order_id = command.refill_id
        market = getattr(command, "market", "")
        if not self.is_late():  # a late command's order is not looked for
            if isinstance(command, Amend | Cancel):
                order = self.find_order(command) or (self.find_live(command) if isinstance(command, Cancel) else None)
                market = order.market if order else ""
            if isinstance(command, AmendBid | AmendAsk | RefillBid):
                market = self.live.market_named_by(command)
        if isinstance(command, ListMarket | ListLive):
            market = command.spec.symbol
        self.events.append(
            Rejected(
                account=account,
                account_seq=self.number(account) if account else 0,
                code=refused.code,
                bound=refused.bound,
                order_id=order_id,
                client_order_id=client_order_id,
                market=market,
            )
        )

    def drop(self, order: Order, reason: CancelReason) -> None:
        """The rest of an order is gone."""
        rest, order.qty = order.remaining, order.filled
        self.orders.remove(order)
        self.events.append(
            Canceled(
                account=order.account,
                account_seq=self.number(order.account),
                order_id=order.order_id,
                client_order_id=order.client_order_id,
                market=order.market,
                side=order.side,
                price=order.price,
                qty=rest,
                filled_qty=order.filled,
                resting=order.resting,
                reason=reason,
                balance=self.accounts[order.account].balance,
                held=self.held(order.account),
            )
        )

    def shrink(self, order: Order, lots: int, reason: CancelReason) -> None:
        """An order loses lots without a trade, and ends when none are left."""
        if lots == order.remaining:
            self.drop(order, reason)
            return
        order.qty -= lots
        self.events.append(
            Reduced(
                account=order.account,
                account_seq=self.number(order.account),
                order_id=order.order_id,
                client_order_id=order.client_order_id,
                market=order.market,
                side=order.side,
                price=order.price,
                qty=lots,
                remaining_qty=order.remaining,
                resting=order.resting,
                reason=reason,
                balance=self.accounts[order.account].balance,
                held=self.held(order.account),
            )
        )

    def update_delivery(self, delivery: Delivery) -> None:
        self.events.append(
            DeliveryUpdated(
                delivery_id=delivery.delivery_id,
                market=delivery.market,
                seller=delivery.seller,
                seller_seq=self.number(delivery.seller),
                buyer=delivery.buyer,
                buyer_seq=self.number(delivery.buyer),
                state=delivery.state,
                proven_hashes=delivery.proven,
                excused_hashes=delivery.excused,
                shares=delivery.shares,
                url=delivery.url,
                worker=delivery.worker,
            )
        )

    # --- Checks that several commands share -----------------------------------------------------------------

    def check_account(self, account: int) -> None:
        if account not in self.accounts:
            raise Refused(RejectCode.ACCOUNT_UNKNOWN)

    def is_late(self) -> bool:
        return bool(self.entry.deadline_ns) and self.now > self.entry.deadline_ns

    def check_deadline(self) -> None:
        if self.is_late():
            raise Refused(RejectCode.DEADLINE_PASSED, self.now)

    def check_client_id(self, text: str) -> None:
        if not re.fullmatch(f"[A-Za-z0-9._-]{{1,{CLIENT_ORDER_ID_CHARS_MAX}}}", text):
            raise Refused(RejectCode.CLIENT_ORDER_ID_INVALID, CLIENT_ORDER_ID_CHARS_MAX)

    def check_client_ids_full(self, account: int) -> None:
        most = self.limits.client_order_ids_per_account_max
        if self.remembered(account) >= most:
            raise Refused(RejectCode.CLIENT_ORDER_IDS_FULL, most)

    def check_placer(self, account: int, client_order_id: str) -> None:
        self.check_account(account)
        if client_order_id:
            self.check_client_id(client_order_id)
        self.check_deadline()
        if client_order_id:
            self.check_client_ids_full(account)

    def known_market(self, symbol: str) -> Market | LiveMarket:
        market = self.markets.get(symbol) or self.live.markets.get(symbol)
        if market is None:
            raise Refused(RejectCode.MARKET_UNKNOWN)
        return market

    def check_dated(self, market: Market | LiveMarket) -> Market:
        if isinstance(market, LiveMarket):
            raise Refused(RejectCode.MARKET_KIND_WRONG)
        return market

    def check_listing(self, symbol: str) -> None:
        if symbol in self.markets or symbol in self.live.markets:
            raise Refused(RejectCode.MARKET_EXISTS)
        if len(self.markets) + len(self.live.markets) >= self.limits.markets_max:
            raise Refused(RejectCode.MARKETS_FULL, self.limits.markets_max)

    def check_trading(self, market: Market | LiveMarket) -> None:
        if market.state == MarketState.CLOSED:
            raise Refused(RejectCode.MARKET_CLOSED)
        if market.state == MarketState.HALTED:
            raise Refused(RejectCode.MARKET_HALTED)
        if market.state == MarketState.CANCEL_ONLY:
            raise Refused(RejectCode.MARKET_CANCEL_ONLY)

    def check_price(self, spec: MarketSpec, price: int) -> None:
        if price < spec.price_min:
            raise Refused(RejectCode.PRICE_TOO_LOW, spec.price_min)
        if price > spec.price_max:
            raise Refused(RejectCode.PRICE_TOO_HIGH, spec.price_max)

    def check_qty(self, spec: MarketSpec, qty: int) -> None:
        if qty < 1:
            raise Refused(RejectCode.QTY_TOO_SMALL, 1)
        if qty > spec.qty_max:
            raise Refused(RejectCode.QTY_TOO_LARGE, spec.qty_max)

    def slid(self, order: Order, spec: MarketSpec) -> int:
        """The price inside the book for a sliding post-only order; its own price where it would not trade."""
        other = self.best(order.market, opposite(order.side))
        if order.post_only != PostOnly.SLIDE or not other or not crosses(order.side, order.price, other):
            return order.price
        inside = other - 1 if order.side == Side.BUY else other + 1
        return inside if spec.price_min <= inside <= spec.price_max else order.price

    def unit_hold(self, order: Order, spec: MarketSpec) -> int:
        fee_bps = max(spec.maker_fee_bps, spec.taker_fee_bps)
        if order.side == Side.BUY:
            notional = notional_ceil(spec, order.price, 1)
            return notional + fee_ceil(notional, fee_bps)
        if order.reduce_only:
            return 0
        notional = notional_ceil(spec, max(order.price, self.best(order.market, Side.BUY)), 1)
        return bond_ceil(spec, notional) + fee_ceil(notional, fee_bps)

    def check_notional(self, order: Order, spec: MarketSpec) -> None:
        """At the price that was asked for, before it slides."""
        needed = self.unit_hold(order, spec) * order.remaining
        if max(needed, notional_ceil(spec, order.price, order.remaining)) > MONEY_MAX_MSAT:
            raise Refused(RejectCode.NOTIONAL_TOO_LARGE, MONEY_MAX_MSAT)

    def check_reduce_only(self, order: Order) -> None:
        if not order.reduce_only:
            return
        others = self.reduce_only_open(order.account, order.market, order.side)
        taken = sum(o.remaining for o in others if o.order_id != order.order_id)
        left = self.reducible(order.account, order.market, order.side) - taken
        if order.remaining > left:
            raise Refused(RejectCode.REDUCE_ONLY_EXCEEDED, left)

    def check_post_only(self, order: Order) -> None:
        other = self.best(order.market, opposite(order.side))
        if order.post_only != PostOnly.OFF and other and crosses(order.side, order.price, other):
            raise Refused(RejectCode.POST_ONLY_WOULD_TAKE, other)

    def check_funds(self, order: Order, given_back: int) -> None:
        available = self.available(order.account) + given_back
        if available < order.unit_hold * order.remaining:
            raise Refused(RejectCode.FUNDS_INSUFFICIENT, available)

    # --- Orders ---------------------------------------------------------------------------------------------

    def place(self, c: Place) -> None:
        self.check_placer(c.account, c.client_order_id)
        market = self.check_dated(self.known_market(c.market))
        spec = market.spec
        self.check_trading(market)
        may_rest = c.time_in_force in (TimeInForce.GTC, TimeInForce.GTD)
        if c.order_type == OrderType.MARKET and may_rest:
            raise Refused(RejectCode.TIME_IN_FORCE_INVALID)
        if c.post_only != PostOnly.OFF and not (c.order_type == OrderType.LIMIT and may_rest):
            raise Refused(RejectCode.POST_ONLY_INVALID)
        if c.time_in_force == TimeInForce.GTD:
            good = self.now < c.expires_ns <= self.now + self.limits.expiry_max_ns
        else:
            good = c.expires_ns == 0
        if not good:
            raise Refused(RejectCode.EXPIRY_INVALID, self.limits.expiry_max_ns)
        if c.order_type == OrderType.LIMIT:
            self.check_price(spec, c.price)
        elif c.price != 0:
            raise Refused(RejectCode.PRICE_NOT_ALLOWED)
        self.check_qty(spec, c.qty)
        order = Order(
            order_id=self.seq,
            account=c.account,
            market=c.market,
            side=c.side,
            order_type=c.order_type,
            price=c.price if c.order_type == OrderType.LIMIT else self.band_edge(market, c.side),
            qty=c.qty,
            time_in_force=c.time_in_force,
            post_only=c.post_only,
            reduce_only=c.reduce_only,
            stp=c.self_trade_prevention,
            expires_ns=c.expires_ns,
            client_order_id=c.client_order_id,
            unit_hold=0,
            queued=self.seq,
        )
        self.check_notional(order, spec)
        if may_rest:
            if sum(o.account == c.account for o in self.orders) >= self.limits.orders_per_account_max:
                raise Refused(RejectCode.ORDERS_PER_ACCOUNT_FULL, self.limits.orders_per_account_max)
            if len(self.orders) >= self.limits.orders_max:
                raise Refused(RejectCode.ORDERS_FULL, self.limits.orders_max)
        self.check_reduce_only(order)
        order.price = self.slid(order, spec)
        self.check_post_only(order)
        order.unit_hold = self.unit_hold(order, spec)
        self.check_funds(order, given_back=0)
        if order.time_in_force == TimeInForce.FOK and (fillable := self.would_trade(order)) < order.qty:
            raise Refused(RejectCode.FILL_OR_KILL_UNFILLABLE, fillable)
        self.orders.append(order)
        at = len(self.events)
        accepted = Accepted(
            account=order.account,
            account_seq=self.number(order.account),
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            market=order.market,
            side=order.side,
            order_type=order.order_type,
            price=order.price,
            qty=order.qty,
            filled_qty=0,
            resting_qty=0,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            self_trade_prevention=order.stp,
            expires_ns=order.expires_ns,
            ts_ns=self.now,
            balance=self.accounts[order.account].balance,
            held=self.held(order.account),
        )
        self.events.append(accepted)
        resting = self.enter(order)
        self.events[at] = replace(accepted, filled_qty=order.filled, resting_qty=resting)

    def band_edge(self, market: Market, side: Side) -> int:
        """The worst price that a market order trades at."""
        spec, centre = market.spec, market.last_price or market.spec.reference_price
        if side == Side.BUY:
            return min(centre * (BPS + spec.band_bps) // BPS, spec.price_max)
        return max(ceil_div(centre * (BPS - spec.band_bps), BPS), spec.price_min)

    def would_trade(self, order: Order) -> int:
        """Lots that fill at once for certain, as far as fill-or-kill counts them.

        Resting reduce-only orders do not count, because they may shrink while the order trades. An own order does not
        count where it would be canceled, and ends the count where it would stop the order.
        """
        lots = 0
        for maker in self.book(order.market, opposite(order.side)):
            own = maker.account == order.account and order.stp != SelfTradePrevention.NONE
            if not crosses(order.side, order.price, maker.price):
                break
            if own and order.stp != SelfTradePrevention.CANCEL_MAKER:
                break
            if not own and not maker.reduce_only:
                lots += maker.remaining
        return lots

    def enter(self, order: Order) -> int:
        """Trade what can be traded, then rest or cancel what is left; return what rests."""
        self.walk(order)
        if order not in self.orders:
            return 0
        if order.remaining == 0:
            self.orders.remove(order)
            return 0
        if order.order_type == OrderType.MARKET:
            self.drop(order, CancelReason.NO_LIQUIDITY)
            return 0
        if order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self.drop(order, CancelReason.IMMEDIATE)
            return 0
        order.resting = True
        return order.remaining

    def walk(self, taker: Order) -> None:
        while taker in self.orders and taker.remaining:
            makers = self.book(taker.market, opposite(taker.side))
            if not makers or not crosses(taker.side, taker.price, makers[0].price):
                return
            maker = makers[0]
            lots = min(taker.remaining, maker.remaining)
            if maker.account != taker.account or taker.stp == SelfTradePrevention.NONE:
                self.trade(maker, taker, lots)
                continue
            match taker.stp:
                case SelfTradePrevention.CANCEL_MAKER:
                    self.drop(maker, CancelReason.SELF_TRADE)
                case SelfTradePrevention.CANCEL_TAKER:
                    self.drop(taker, CancelReason.SELF_TRADE)
                case SelfTradePrevention.CANCEL_BOTH:
                    self.drop(maker, CancelReason.SELF_TRADE)
                    self.drop(taker, CancelReason.SELF_TRADE)
                case SelfTradePrevention.DECREMENT:
                    self.shrink(maker, lots, CancelReason.SELF_TRADE)
                    self.shrink(taker, lots, CancelReason.SELF_TRADE)

    def trade(self, maker: Order, taker: Order, lots: int) -> None:
        market = self.markets[maker.market]
        spec, price = market.spec, maker.price
        buyer = taker if taker.side == Side.BUY else maker
        paid, proceeds = notional_ceil(spec, price, lots), notional_floor(spec, price, lots)
        maker_fee = fee_ceil(paid if maker is buyer else proceeds, spec.maker_fee_bps)
        taker_fee = fee_ceil(paid if taker is buyer else proceeds, spec.taker_fee_bps)
        # The maker's half comes first, and its figures are those before the taker's: seen in trades with oneself.
        maker_realized = self.fill(maker, spec, price, lots, maker_fee)
        if maker.remaining == 0:
            self.orders.remove(maker)
        maker_position = self.position(maker.account, spec.symbol).qty
        maker_balance, maker_held = self.accounts[maker.account].balance, self.held(maker.account)
        taker_realized = self.fill(taker, spec, price, lots, taker_fee)
        self.accounts[FEES_ACCOUNT].balance += maker_fee + taker_fee + paid - proceeds
        market.last_price = price
        market.trade_id += 1
        self.events.append(
            Trade(
                market=spec.symbol,
                trade_id=market.trade_id,
                price=price,
                qty=lots,
                aggressor_side=taker.side,
                ts_ns=self.now,
                maker_account=maker.account,
                maker_seq=self.number(maker.account),
                maker_order_id=maker.order_id,
                maker_client_order_id=maker.client_order_id,
                maker_remaining=maker.remaining,
                maker_fee=maker_fee,
                maker_realized=maker_realized,
                maker_position=maker_position,
                maker_balance=maker_balance,
                maker_held=maker_held,
                taker_account=taker.account,
                taker_seq=self.number(taker.account),
                taker_order_id=taker.order_id,
                taker_client_order_id=taker.client_order_id,
                taker_remaining=taker.remaining,
                taker_fee=taker_fee,
                taker_realized=taker_realized,
                taker_position=self.position(taker.account, spec.symbol).qty,
                taker_balance=self.accounts[taker.account].balance,
                taker_held=self.held(taker.account),
            )
        )
        self.trim_reduce_only(maker.account, spec.symbol)
        self.trim_reduce_only(taker.account, spec.symbol)

    def fill(self, order: Order, spec: MarketSpec, price: int, lots: int, fee: int) -> int:
        """One account's half of a trade; returns what closing realised."""
        order.filled += lots
        self.accounts[order.account].balance -= fee
        account, position = self.accounts[order.account], self.position(order.account, order.market)
        buying = order.side == Side.BUY
        notional = notional_ceil(spec, price, lots) if buying else notional_floor(spec, price, lots)
        closing = min(lots, max(0, -position.qty if buying else position.qty))
        closing_notional = notional if closing == lots else notional_floor(spec, price, closing)
        basis_out = bond_out = 0
        if closing:
            basis_out = position.basis * closing // abs(position.qty)
            bond_out = position.bond * closing // abs(position.qty)
            position.basis -= basis_out
            position.bond -= bond_out
        position.qty += lots if buying else -lots
        position.basis += notional - closing_notional
        account.balance += bond_out
        if buying:
            account.balance += basis_out - notional
            return basis_out - closing_notional if closing else 0
        account.balance += closing_notional
        if lots > closing:
            bond = bond_ceil(spec, notional_ceil(spec, price, lots - closing))
            account.balance -= bond
            position.bond += bond
        return closing_notional - basis_out if closing else 0

    def trim_reduce_only(self, account: int, market: str) -> None:
        """Take from the newest reduce-only orders what the position no longer has."""
        for side in Side:
            orders = self.reduce_only_open(account, market, side)
            excess = sum(o.remaining for o in orders) - self.reducible(account, market, side)
            for order in orders:
                if excess > 0 and order.remaining:
                    lots = min(excess, order.remaining)
                    excess -= lots
                    self.shrink(order, lots, CancelReason.REDUCE_ONLY)

    def amend(self, c: Amend) -> None:
        self.check_account(c.account)
        self.check_deadline()
        order = self.find_order(c)
        if order is None:
            raise Refused(RejectCode.ORDER_UNKNOWN)
        market = self.markets[order.market]
        spec = market.spec
        self.check_trading(market)
        if c.price:
            self.check_price(spec, c.price)
        if c.qty:
            self.check_qty(spec, c.qty)
        if not c.price and not c.qty:
            raise Refused(RejectCode.AMEND_EMPTY)
        price, qty = c.price or order.price, c.qty or order.qty
        if qty <= order.filled:
            self.drop(order, CancelReason.AMENDED)
            return
        old_price, old_resting = order.price, order.remaining
        kept = price == order.price and qty <= order.qty
        if kept:
            order.qty = qty
        else:
            new = copy.copy(order)
            new.price, new.qty, new.queued = price, qty, self.seq
            self.check_notional(new, spec)
            self.check_reduce_only(new)
            new.price = self.slid(new, spec)
            self.check_post_only(new)
            new.unit_hold = self.unit_hold(new, spec)
            self.check_funds(new, given_back=order.unit_hold * order.remaining)
            order.price, order.qty, order.unit_hold, order.queued = new.price, qty, new.unit_hold, new.queued
            order.resting = False
        at = len(self.events)
        amended = Amended(
            account=order.account,
            account_seq=self.number(order.account),
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            market=order.market,
            side=order.side,
            old_price=old_price,
            old_resting_qty=old_resting,
            price=order.price,
            qty=order.qty,
            filled_qty=order.filled,
            resting_qty=order.remaining,
            kept_priority=kept,
            balance=self.accounts[order.account].balance,
            held=self.held(order.account),
        )
        self.events.append(amended)
        if not kept:
            resting = self.enter(order)
            self.events[at] = replace(amended, filled_qty=order.filled, resting_qty=resting)

    def cancel(self, c: Cancel) -> None:
        self.check_account(c.account)
        self.check_deadline()
        order = self.find_order(c) or self.find_live(c)
        if order is None:
            raise Refused(RejectCode.ORDER_UNKNOWN)
        if self.known_market(order.market).state == MarketState.HALTED:
            raise Refused(RejectCode.MARKET_HALTED)
        if isinstance(order, Order):
            self.drop(order, CancelReason.REQUESTED)
        else:
            self.live.end(order, EndReason.REQUESTED)

    def cancel_all(self, c: CancelAll) -> None:
        self.check_account(c.account)
        self.check_deadline()
        if c.market:
            market = self.known_market(c.market)
            if market.state == MarketState.HALTED and not c.by_operator:
                raise Refused(RejectCode.MARKET_HALTED)
        for order in sorted(self.orders, key=lambda o: o.order_id):
            halted = self.markets[order.market].state == MarketState.HALTED
            if (
                order.account == c.account
                and c.market in ("", order.market)
                and c.side in (None, order.side)
                and (c.by_operator or not halted)
            ):
                self.drop(order, CancelReason.OPERATOR if c.by_operator else CancelReason.REQUESTED)
        self.live.cancel_all(c)

    # --- Accounts and money ---------------------------------------------------------------------------------

    def create_account(self, c: CreateAccount) -> None:
        if not 1 <= len(c.name) <= NAME_CHARS_MAX or not c.name.isprintable() or c.name != c.name.strip():
            raise Refused(RejectCode.ACCOUNT_NAME_INVALID, NAME_CHARS_MAX)
        for number, account in self.accounts.items():
            if account.name == c.name:
                raise Refused(RejectCode.ACCOUNT_NAME_TAKEN, number)
        if len(self.accounts) >= self.limits.accounts_max:
            raise Refused(RejectCode.ACCOUNTS_FULL, self.limits.accounts_max)
        self.check_deadline()
        number = max(FIRST_ACCOUNT, *(known + 1 for known in self.accounts))
        self.accounts[number] = Account(c.name)
        self.events.append(AccountCreated(number, c.name))

    def check_transfer(self, c: Deposit | Withdraw) -> None:
        self.check_account(c.account)
        self.check_client_id(c.transfer_id)
        self.check_deadline()
        self.check_client_ids_full(c.account)
        if not 1 <= c.amount <= MONEY_MAX_MSAT:
            raise Refused(RejectCode.AMOUNT_INVALID, MONEY_MAX_MSAT)

    def deposit(self, c: Deposit) -> None:
        self.check_transfer(c)
        if self.deposited + c.amount > MONEY_MAX_MSAT:
            raise Refused(RejectCode.DEPOSITS_FULL, MONEY_MAX_MSAT - self.deposited)
        self.transfer(c, c.amount, BalanceReason.DEPOSIT)

    def withdraw(self, c: Withdraw) -> None:
        self.check_transfer(c)
        if c.amount > self.available(c.account):
            raise Refused(RejectCode.BALANCE_INSUFFICIENT, self.available(c.account))
        self.transfer(c, -c.amount, BalanceReason.WITHDRAW)

    def transfer(self, c: Deposit | Withdraw, amount: int, reason: BalanceReason) -> None:
        self.deposited += amount
        self.accounts[c.account].balance += amount
        self.events.append(
            BalanceChanged(
                account=c.account,
                account_seq=self.number(c.account),
                amount=amount,
                reason=reason,
                transfer_id=c.transfer_id,
                balance=self.accounts[c.account].balance,
                held=self.held(c.account),
            )
        )

    def set_destination(self, c: SetDestination) -> None:
        self.check_account(c.account)
        self.check_deadline()
        self.check_dated(self.known_market(c.market))
        if not is_destination(c.url, c.worker):
            raise Refused(RejectCode.DESTINATION_INVALID, URL_CHARS_MAX)
        most = self.limits.destinations_per_account_max
        mine = [market for account, market in self.destinations if account == c.account]
        if c.market not in mine and len(mine) >= most:
            raise Refused(RejectCode.DESTINATIONS_FULL, most)
        self.destinations[c.account, c.market] = c.url, c.worker
        self.events.append(
            DestinationSet(
                account=c.account,
                account_seq=self.number(c.account),
                market=c.market,
                url=c.url,
                worker=c.worker,
            )
        )
        for delivery in self.deliveries:
            if (delivery.buyer, delivery.market) == (c.account, c.market) and (
                delivery.url,
                delivery.worker,
            ) != (c.url, c.worker):
                if delivery.url == "" and delivery.state == DeliveryState.RUNNING:
                    spec = self.markets[c.market].spec
                    gone, period = self.now - spec.period_start_ns, spec.period_end_ns - spec.period_start_ns
                    delivery.waited = delivery.contracted if gone >= period else delivery.contracted * gone // period
                delivery.url, delivery.worker = c.url, c.worker
                self.update_delivery(delivery)

    # --- Markets and deliveries -----------------------------------------------------------------------------

    def list_market(self, c: ListMarket) -> None:
        self.check_deadline()
        self.check_listing(c.spec.symbol)
        if rule := self.broken_rule(c.spec):
            raise Refused(RejectCode.MARKET_SPEC_INVALID, rule)
        self.markets[c.spec.symbol] = Market(c.spec)
        self.events.append(MarketListed(c.spec))

    def broken_rule(self, spec: MarketSpec) -> int:
        """Number of the first rule of a specification that is broken, 0 when all hold."""
        texts, steps = (spec.algorithm, spec.speed_unit), (spec.tick_size, spec.lot_size)
        period_ns = spec.period_end_ns - spec.period_start_ns
        times = (spec.gate_ns, spec.period_start_ns)
        rules = [
            re.fullmatch(f"[A-Z0-9._-]{{1,{SYMBOL_CHARS_MAX}}}", spec.symbol) is not None,
            spec.kind == "dated",
            all(re.fullmatch("[ -~]{1,24}", text) for text in texts)
            and all(re.fullmatch(r"(?=.{1,24}\Z)[0-9]+(\.[0-9]+)?", step) and Decimal(step) > 0 for step in steps),
            1 <= spec.tick_lot_msat <= 10**12,
            1 <= spec.lot_hashrate < 2**63,
            self.now < times[0] <= times[1] < spec.period_end_ns <= spec.settle_ns < 2**62 - 1,
            period_ns % SECOND_NS == 0 and period_ns <= 366 * DAY_NS,
            1 <= spec.price_max <= self.limits.price_max_ticks,
            1 <= spec.qty_max <= self.limits.qty_max_lots,
            1 <= spec.price_min <= spec.reference_price <= spec.price_max,
            0 <= spec.maker_fee_bps <= FEE_MAX_BPS and 0 <= spec.taker_fee_bps <= FEE_MAX_BPS,
            0 <= spec.bond_bps <= BPS,
            1 <= spec.band_bps < BPS,
            0 <= spec.tolerance_bps <= BPS and 0 <= spec.penalty_bps <= BPS,
        ]
        return next((number for number, holds in enumerate(rules, 1) if not holds), 0)

    def set_market_state(self, c: SetMarketState) -> None:
        self.check_deadline()
        market = self.known_market(c.market)
        if market.state == MarketState.CLOSED or c.state == MarketState.SETTLED:
            raise Refused(RejectCode.MARKET_STATE_INVALID, market.state)
        market.state = c.state
        self.events.append(MarketStateChanged(c.market, c.state))
        if c.state == MarketState.CLOSED:
            if isinstance(market, LiveMarket):
                self.live.close(c.market)
            else:
                self.cancel_market(c.market, CancelReason.OPERATOR)

    def cancel_market(self, symbol: str, reason: CancelReason) -> None:
        for order in sorted(self.orders, key=lambda o: o.order_id):
            if order.market == symbol:
                self.drop(order, reason)

    def report_work(self, c: ReportWork) -> None:
        self.check_deadline()
        delivery = self.find_delivery(c.delivery_id)
        if delivery is None:
            raise Refused(RejectCode.DELIVERY_UNKNOWN)
        if delivery.state == DeliveryState.SCHEDULED:
            raise Refused(RejectCode.DELIVERY_NOT_STARTED, self.markets[delivery.market].spec.period_start_ns)
        reported = (c.hashes, c.shares, c.excused_hashes)
        before = (delivery.proven, delivery.shares, delivery.excused)
        for new, old in zip(reported, before, strict=True):
            if new < old:
                raise Refused(RejectCode.WORK_DECREASED, old)
        if c.hashes + c.excused_hashes > WORK_MAX_HASHES:
            raise Refused(RejectCode.WORK_TOO_LARGE, WORK_MAX_HASHES)
        if c.shares > SHARES_MAX:
            raise Refused(RejectCode.WORK_TOO_LARGE, SHARES_MAX)
        delivery.proven, delivery.shares, delivery.excused = reported
        self.update_delivery(delivery)

    def settle(self, c: Settle) -> None:
        self.check_deadline()
        market = self.check_dated(self.known_market(c.market))
        if c.index_price < 0:
            raise Refused(RejectCode.PRICE_TOO_LOW, 1)
        if c.index_price > market.spec.price_max:
            raise Refused(RejectCode.PRICE_TOO_HIGH, market.spec.price_max)
        if self.now < market.spec.period_end_ns:
            raise Refused(RejectCode.PERIOD_NOT_ENDED, market.spec.period_end_ns)
        self.settle_market(market, c.index_price)

    def settle_market(self, market: Market, index_price: int) -> None:
        symbol = market.spec.symbol
        for delivery in [d for d in self.deliveries if d.market == symbol]:
            self.settle_delivery(delivery, market.spec, index_price)
        del self.markets[symbol]
        self.positions = {key: value for key, value in self.positions.items() if key[1] != symbol}
        self.destinations = {key: value for key, value in self.destinations.items() if key[1] != symbol}
        self.events.append(MarketStateChanged(symbol, MarketState.SETTLED))

    def settle_delivery(self, d: Delivery, spec: MarketSpec, index_price: int) -> None:
        self.deliveries.remove(d)
        insurance = self.accounts[INSURANCE_ACCOUNT]
        take_or_pay = d.url == ""
        delivered = d.contracted if take_or_pay else min(d.proven + d.excused + d.waited, d.contracted)
        shortfall = d.contracted - delivered
        paid = d.proceeds * delivered // d.contracted
        refund_due = d.cost - d.cost * delivered // d.contracted
        unpaid = d.proceeds - paid
        from_proceeds = min(refund_due, unpaid)
        from_bond = min(refund_due - from_proceeds, d.bond)
        from_insurance = min(refund_due - from_proceeds - from_bond, max(0, self.available(INSURANCE_ACCOUNT)))
        refund = from_proceeds + from_bond + from_insurance
        bond_left = d.bond - from_bond
        surplus = unpaid - from_proceeds
        if d.shares:
            noise = 3 * isqrt(d.contracted * d.proven // d.shares)
            breach = shortfall > max(d.contracted * spec.tolerance_bps // BPS, noise)
        else:
            breach = shortfall > 0
        compensation = 0
        if breach:
            dearer = max(0, notional_ceil(spec, index_price, d.qty) - d.proceeds)
            penalty = ceil_div(unpaid * spec.penalty_bps, BPS)
            compensation = min(bond_left, penalty + ceil_div(dearer * shortfall, d.contracted))
        self.accounts[d.seller].balance += paid + bond_left - compensation
        self.accounts[d.buyer].balance += refund + compensation
        insurance.balance += surplus - from_insurance
        self.events.append(
            DeliverySettled(
                delivery_id=d.delivery_id,
                market=d.market,
                seller=d.seller,
                seller_seq=self.number(d.seller),
                buyer=d.buyer,
                buyer_seq=self.number(d.buyer),
                contracted_hashes=d.contracted,
                delivered_hashes=delivered,
                breach=breach,
                paid=paid,
                refund=refund,
                compensation=compensation,
                bond_released=bond_left - compensation,
                surplus=surplus,
                from_insurance=from_insurance,
                uncovered=refund_due - refund,
                seller_balance=self.accounts[d.seller].balance,
                seller_held=self.held(d.seller),
                buyer_balance=self.accounts[d.buyer].balance,
                buyer_held=self.held(d.buyer),
            )
        )

    # --- The passing of time --------------------------------------------------------------------------------

    def do_due_work(self) -> None:
        """One thing at a time, earliest first, at its own time.

        At one time expiries, gates, period starts, settlements, then ends of live orders, budgets, graces.
        """
        while due := [work for work in self.all_work() if work[0] <= self.entry.ts_ns]:
            self.now, kind, _, what = min(due, key=lambda work: work[:3])
            self.live.pass_time()
            if isinstance(what, Order):
                self.drop(what, CancelReason.EXPIRED)
            elif not isinstance(what, Market):
                self.live.do(kind, what)
            elif kind == 2:
                self.close_gate(what)
            elif kind == 3:
                self.start_period(what)
            else:
                self.settle_market(what, index_price=0)

    def all_work(self) -> list[tuple[int, int, int | str, Order | Market | LiveOrder | Flow]]:
        """Time, kind, and id or symbol of everything that will fall due."""
        work: list[tuple[int, int, int | str, Order | Market | LiveOrder | Flow]] = [*self.live.all_work()]
        for order in self.orders:
            if order.expires_ns:
                work.append((order.expires_ns, 1, order.order_id, order))
        for symbol, market in self.markets.items():
            if not market.gate_done:
                work.append((market.spec.gate_ns, 2, symbol, market))
            elif not market.start_done:
                work.append((market.spec.period_start_ns, 3, symbol, market))
            else:
                work.append((market.spec.settle_ns, 4, symbol, market))
        return work

    def close_gate(self, market: Market) -> None:
        market.gate_done = True
        symbol = market.spec.symbol
        self.cancel_market(symbol, CancelReason.GATE)
        if market.state != MarketState.CLOSED:
            market.state = MarketState.CLOSED
            self.events.append(MarketStateChanged(symbol, MarketState.CLOSED))
        for seller, buyer, lots in self.assignment(symbol):
            self.assign(market.spec, seller, buyer, lots)
        if all(delivery.market != symbol for delivery in self.deliveries):
            self.settle_market(market, index_price=0)

    def assignment(self, symbol: str) -> list[tuple[int, int, int]]:
        """Seller, buyer, lots: equal sizes with each other first, then down both lists, the largest first."""
        longs = {a: p.qty for (a, market), p in self.positions.items() if market == symbol and p.qty > 0}
        shorts = {a: -p.qty for (a, market), p in self.positions.items() if market == symbol and p.qty < 0}
        result = []

        def largest_first(sizes: dict[int, int]) -> list[int]:
            return sorted(sizes, key=lambda account: (-sizes[account], account))

        for seller in largest_first(shorts):
            for buyer in largest_first(longs):
                if longs[buyer] == shorts[seller]:
                    result.append((seller, buyer, longs[buyer]))
                    del longs[buyer], shorts[seller]
                    break
        # Who is assigned only in part goes on with the next of the other side.
        sellers, buyers = largest_first(shorts), largest_first(longs)
        while sellers:
            seller, buyer = sellers[0], buyers[0]
            lots = min(shorts[seller], longs[buyer])
            result.append((seller, buyer, lots))
            shorts[seller] -= lots
            longs[buyer] -= lots
            if not shorts[seller]:
                sellers.pop(0)
            if not longs[buyer]:
                buyers.pop(0)
        assert not buyers, "positions of a market sum to zero"
        return result

    def assign(self, spec: MarketSpec, seller: int, buyer: int, lots: int) -> None:
        short, long = self.position(seller, spec.symbol), self.position(buyer, spec.symbol)
        proceeds = short.basis * lots // -short.qty
        bond = short.bond * lots // -short.qty
        cost = long.basis * lots // long.qty
        short.qty += lots
        short.basis -= proceeds
        short.bond -= bond
        long.qty -= lots
        long.basis -= cost
        self.deliveries_made += 1
        hashrate = lots * spec.lot_hashrate
        url, worker = self.destinations.get((buyer, spec.symbol), ("", ""))
        delivery = Delivery(
            delivery_id=self.deliveries_made,
            market=spec.symbol,
            seller=seller,
            buyer=buyer,
            qty=lots,
            contracted=hashrate * (spec.period_end_ns - spec.period_start_ns) // SECOND_NS,
            proceeds=proceeds,
            bond=bond,
            cost=cost,
            url=url,
            worker=worker,
        )
        self.deliveries.append(delivery)
        self.events.append(
            DeliveryAssigned(
                delivery_id=delivery.delivery_id,
                market=spec.symbol,
                seller=seller,
                seller_seq=self.number(seller),
                buyer=buyer,
                buyer_seq=self.number(buyer),
                qty=lots,
                hashrate=hashrate,
                contracted_hashes=delivery.contracted,
                period_start_ns=spec.period_start_ns,
                period_end_ns=spec.period_end_ns,
                proceeds=proceeds,
                bond=bond,
                cost=cost,
                url=url,
                worker=worker,
            )
        )

    def start_period(self, market: Market) -> None:
        market.start_done = True
        for delivery in self.deliveries:
            if delivery.market == market.spec.symbol:
                delivery.state = DeliveryState.RUNNING
                self.update_delivery(delivery)

    def forget(self) -> None:
        """Client order ids go when they are old enough, but not before their order has ended."""
        open_orders = {order.order_id for order in (*self.orders, *self.live.orders())}
        self.memories = {
            key: memory
            for key, memory in self.memories.items()
            if self.now - memory.since_ns < self.limits.client_order_id_ns or memory.order_id in open_orders
        }
