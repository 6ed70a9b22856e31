"""``account``: everything that happens to one account, numbered from 1 without gaps for as long as the account exists.

``seq`` is the engine's ``account_seq``, so a client can go on after a cut, or after a restart of the server, with ``resume``:
the latest facts of every account are kept. When they do not reach back far enough the client takes a snapshot instead.

An event is ``{"event": kind, ...}``; ``balance`` and ``held`` are the account's after it.
"""

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple, Protocol

from msgspec.structs import asdict

from engine.accounts import Account
from engine.core import Engine
from engine.events import (
    Accepted,
    Amended,
    AskAmended,
    AskEnded,
    AskPlaced,
    BalanceChanged,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    BidResumed,
    BidStopped,
    Canceled,
    DeliveryAssigned,
    DeliverySettled,
    DeliveryUpdated,
    DestinationSet,
    Event,
    FlowChanged,
    FlowPaid,
    PoolDeleted,
    PoolSaved,
    Reduced,
    Rejected,
    Trade,
)
from engine.markets.live import Ask, Bid
from gateway.channels.base import Channel, Frame, Subscriber, Subscriptions, Terms
from gateway.outbox import BACKLOG_BYTES_MAX
from gateway.records import Fact, Role
from gateway.scale import MONEY
from gateway.views import (
    ask_view,
    balance_view,
    bid_view,
    delivery_view,
    fill_view,
    flow_view,
    limit_text,
    micros,
    needs_terms,
    or_null,
    order_view,
    own_flows,
    pool_view,
    position_view,
    reject_error,
    sorted_positions,
)
from gateway.wire import (
    CANCEL_REASON,
    DELIVERY_STATE,
    END_REASON,
    FLOW_CAUSE,
    ORDER_TYPE,
    PEG,
    POST_ONLY,
    SELF_TRADE_PREVENTION,
    SIDE,
    TIME_IN_FORCE,
    AccountSnapshot,
    ChannelMessage,
    Close,
)

ACCOUNT_FACTS_MAX: Final = 65_536
"""Facts of one account that can be resumed from; older ones are forgotten."""
FACTS_MAX: Final = 524_288
"""Facts of all accounts together; past it the account that was quiet for longest loses its own."""

RESUME_FACTS_MAX: Final = 1_000
"""Facts that a resume sends at a time, so that a long one holds up nobody else."""
RESUME_BYTES_MAX: Final = BACKLOG_BYTES_MAX // 4
"""A resume waits while the subscriber has more unsent bytes than this."""


class FactLimits(NamedTuple):
    """What is kept to resume from, and how it is sent."""

    account_max: int = ACCOUNT_FACTS_MAX
    all_max: int = FACTS_MAX
    resume_max: int = RESUME_FACTS_MAX


PRICED: Final = (
    Accepted,
    Amended,
    Canceled,
    DeliveryAssigned,
    Reduced,
    Trade,
    BidPlaced,
    AskPlaced,
    BidAmended,
    AskAmended,
    BidResumed,
    FlowChanged,
)
"""Events with prices or quantities, which only the market's terms turn into text."""

Data = dict[str, Any]


class Reads(Protocol):
    """What the channel needs of the sequencer."""

    def after_durable(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` right behind the entries that are applied by now, once they are durable and published."""
        ...


class AccountChannel(Channel):
    """One account's feed. ``seq`` is the last fact that was published, 0 while none is known."""

    def __init__(
        self,
        account: int,
        engine: Engine,
        reads: Reads,
        terms: Mapping[str, Terms],
        subscriptions: Subscriptions,
        limits: FactLimits,
    ) -> None:
        super().__init__("account", subscriptions)
        self._limits = limits
        self._account = account
        self._engine = engine
        self._reads = reads
        self._terms = terms
        self._facts: deque[Fact] = deque(maxlen=limits.account_max)
        # Subscribers whose snapshot waits to become durable; the value tells one wait from the next.
        self._waiting: dict[Subscriber, object] = {}
        # The latest snapshot and its number: asking for it again and again costs no more than sending it.
        self._latest: tuple[int, Frame] | None = None

    @property
    def facts_kept(self) -> int:
        """Facts that can be resumed from."""
        return len(self._facts)

    def publish(self, fact: Fact) -> None:
        """A new fact: keep it, and tell whoever listens."""
        assert not self.seq or fact.seq == self.seq + 1, f"account {self._account}: {fact.seq} after {self.seq}"
        self._facts.append(fact)
        self.seq = fact.seq
        if self._subscribers:
            self._broadcast(_frame(fact))

    def forget(self) -> None:
        """Drop the kept facts."""
        self._facts.clear()

    def add(self, subscriber: Subscriber, now_ns: int) -> None:
        """A snapshot of the account as it is now, sent once it is durable, then everything after it.

        Raises what the sequencer raises when it takes no more reads.
        """
        self._subscribers.pop(subscriber.outbox, None)
        self._caught_up(subscriber)
        account = self._engine.accounts[self._account]
        seq = account.event_seq
        if self._latest is None or self._latest[0] != seq:
            data = account_snapshot(self._engine, account, self._terms)
            self._latest = seq, Frame(ChannelMessage("account", "snapshot", seq, seq, micros(now_ns), data))
        frame = self._latest[1]
        token = object()

        def deliver() -> None:
            if self._waiting.get(subscriber) is not token:
                return  # unsubscribed, or asked again, in the meantime
            del self._waiting[subscriber]
            assert self.seq <= seq, f"account {self._account}: {self.seq} was published before snapshot {seq}"
            self.seq = seq
            self._attach(subscriber)
            subscriber.send(frame.bytes_for(subscriber.codec))

        self._waiting[subscriber] = token
        self._subscriptions.of.setdefault(subscriber, {})[self.name] = self
        try:
            self._reads.after_durable(deliver)
        except Exception:
            self.remove(subscriber)
            raise

    def resync(self, subscriber: Subscriber, now_ns: int) -> None:
        self.add(subscriber, now_ns)

    def remove(self, subscriber: Subscriber) -> None:
        self._waiting.pop(subscriber, None)
        super().remove(subscriber)
        if not self._subscribers and not self._waiting:
            self._latest = None

    def when_known(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` as soon as ``seq`` is known, which it is not before the first fact behind a start without any.

        The engine has the number; but perhaps of a fact that is not durable, so that nobody has seen it. Raises what the
        sequencer raises when it takes no more reads.
        """
        seq = self._engine.accounts[self._account].event_seq
        if self.seq or not seq:
            fn()
            return

        def known() -> None:
            # Everything up to that number is published by now: if none of it came through here, it is from before the start.
            if not self.seq:
                self.seq = seq
            fn()

        self._reads.after_durable(known)

    def reaches(self, account_seq: int) -> bool:
        """Whether every fact after ``account_seq`` is kept, so that ``resume`` can go on there. ``seq`` has to be known."""
        return 0 <= self.seq - account_seq <= len(self._facts)

    def resume(self, subscriber: Subscriber, account_seq: int) -> bool:
        """Send every fact after ``account_seq``, then everything that follows. False: some of them are not kept any more
        (or never happened), and nothing was sent; the subscriber needs a snapshot. ``seq`` has to be known.

        The facts go out in portions, the first one now and the others in ``catch_up``.
        """
        if not self.reaches(account_seq):
            return False
        self._waiting.pop(subscriber, None)
        self._caught_up(subscriber)
        self._attach(subscriber)
        if account_seq < self.seq:
            self._fell_behind(subscriber, account_seq)
            self._go_on(subscriber)
        return True

    def catch_up(self, now_ns: int) -> None:
        """Send the next portion to those who resume."""
        for subscriber in [*self._behind]:
            self._go_on(subscriber)

    def _go_on(self, subscriber: Subscriber) -> None:
        """Send some of the facts that a subscriber missed; behind the last one it is as up to date as the others."""
        last = self._behind[subscriber]
        missed = self.seq - last
        if missed > len(self._facts):
            self.remove(subscriber)
            subscriber.close(Close.SLOW_READER, "account: what was missed was not read fast enough")
            return
        start = len(self._facts) - missed
        for fact in islice(self._facts, start, start + self._limits.resume_max):
            if subscriber.buffered_bytes() > RESUME_BYTES_MAX:
                break
            subscriber.send(_frame(fact).bytes_for(subscriber.codec))
            last = fact.seq
        if last == self.seq:
            self._caught_up(subscriber)
        else:
            self._behind[subscriber] = last

    def last_seq(self, subscriber: Subscriber) -> int:
        """0 while the snapshot is not sent yet."""
        return 0 if subscriber in self._waiting else super().last_seq(subscriber)


class Accounts:
    """The account channels, and the bound on what they keep together."""

    def __init__(
        self,
        engine: Engine,
        reads: Reads,
        terms: Mapping[str, Terms],
        subscriptions: Subscriptions,
        limits: FactLimits | None = None,
    ) -> None:
        self._engine = engine
        self._reads = reads
        self._terms = terms
        self._subscriptions = subscriptions
        self._limits = limits if limits is not None else FactLimits()
        self._facts = 0
        self._channels: dict[int, AccountChannel] = {}
        # Accounts that have facts, the one with the latest last; and that one.
        self._active: dict[int, None] = {}
        self._newest: int = 0

    def find(self, account: int) -> AccountChannel:
        """The channel of an account that exists."""
        channel = self._channels.get(account)
        if channel is None:
            channel = AccountChannel(account, self._engine, self._reads, self._terms, self._subscriptions, self._limits)
            self._channels[account] = channel
        return channel

    def publish(self, event: Event, ts_ns: int) -> None:
        """Tell the accounts that an event concerns."""
        for account, seq, role, market in concerned(event):
            self._tell(account, Fact(seq, ts_ns, role, event, self._terms.get(market)))

    def _tell(self, account: int, fact: Fact) -> None:
        channel = self._channels.get(account)
        if channel is None:
            channel = self.find(account)
        kept = channel.facts_kept
        channel.publish(fact)
        self._facts += channel.facts_kept - kept
        active = self._active
        if self._newest != account:
            self._newest = account
            active.pop(account, None)
            active[account] = None
        while self._facts > self._limits.all_max:
            self._forget(next(iter(active)))

    def load(self, event: Event, ts_ns: int) -> None:
        """Publish an event from before the start.

        One whose market is gone cannot be shown any more. The account's facts before it go with it: no gaps.
        """
        market = ""
        if isinstance(event, PRICED) or (isinstance(event, Rejected) and needs_terms(event.code)):
            market = event.market
        if market and market not in self._terms:
            for account, seq, _, _ in concerned(event):
                if account in self._active:
                    self._forget(account)
                if account in self._channels:
                    self._channels[account].seq = seq
        else:
            self.publish(event, ts_ns)

    def _forget(self, account: int) -> None:
        channel = self._channels[account]
        self._facts -= channel.facts_kept
        channel.forget()
        del self._active[account]
        if self._newest == account:
            self._newest = 0


def account_snapshot(engine: Engine, account: Account, terms: Mapping[str, Terms]) -> AccountSnapshot:
    """The account as the engine has it. O(its orders and positions, and all deliveries).

    ``terms`` are those that were published. The engine is ahead of that: it may have listed a market, or listed another under
    the name of one that ended, whose orders the account has already.
    """

    now: dict[str, Terms] = {}

    def of(symbol: str) -> Terms:
        found = now.get(symbol)
        if found is None:
            market = engine.markets.get(symbol) or engine.live.markets[symbol]
            known = terms.get(symbol)
            found = now[symbol] = known if known is not None and known.spec is market.spec else Terms(market.spec)
        return found

    mine = account.account_id
    deliveries = [delivery for delivery in engine.deliveries.values() if mine in (delivery.seller, delivery.buyer)]
    return AccountSnapshot(
        balance=balance_view(account, deliveries),
        positions=[position_view(market, held, of(market)) for market, held in sorted_positions(account)],
        orders=[order_view(order, of(order.market)) for order in account.orders.values()],
        deliveries=[
            delivery_view(delivery, "seller" if mine == delivery.seller else "buyer", of(delivery.market))
            for delivery in deliveries
        ],
        bids=[bid_view(order, of(order.market)) for order in account.live.values() if isinstance(order, Bid)],
        asks=[ask_view(order, of(order.market)) for order in account.live.values() if isinstance(order, Ask)],
        flows=[flow_view(flow, role, of(flow.ask.market)) for flow, role in own_flows(account)],
        pools=[pool_view(pool) for pool in account.pools.values()],
    )


# ------------------------------------------------------------------------------------------------------- events as facts


def concerned(event: Event) -> list[tuple[int, int, Role, str]]:
    """Accounts that an event is a new fact for: ``(account, account_seq, role, market)``, by rising number."""
    if type(event) is Accepted or type(event) is Rejected:
        if event.account_seq and not event.repeat:
            return [(event.account, event.account_seq, "", event.market)]
        return []
    if type(event) is Trade:
        return [
            (event.maker_account, event.maker_seq, "maker", event.market),
            (event.taker_account, event.taker_seq, "taker", event.market),
        ]
    if isinstance(event, Canceled | Reduced | Amended | DestinationSet):
        return [(event.account, event.account_seq, "", event.market)]
    if isinstance(event, DeliveryAssigned | DeliveryUpdated | DeliverySettled):
        return [
            (event.seller, event.seller_seq, "seller", event.market),
            (event.buyer, event.buyer_seq, "buyer", event.market),
        ]
    if type(event) is BalanceChanged and not event.repeat:
        return [(event.account, event.account_seq, "", "")]
    if isinstance(event, FlowChanged | FlowPaid):
        return [
            (event.buyer, event.buyer_seq, "buyer", event.market),
            (event.seller, event.seller_seq, "seller", event.market),
        ]
    if isinstance(event, BidAmended | AskAmended | BidStopped | BidResumed | BidEnded | AskEnded):
        return [(event.account, event.account_seq, "", event.market)]
    if isinstance(event, BidPlaced | AskPlaced | BidRefilled) and not event.repeat:
        return [(event.account, event.account_seq, "", event.market)]
    if isinstance(event, PoolSaved | PoolDeleted):
        return [(event.account, event.account_seq, "", "")]
    return []


def _frame(fact: Fact) -> Frame:
    return Frame(ChannelMessage("account", "event", fact.seq, fact.seq - 1, micros(fact.ts_ns), describe(fact)))


def describe(fact: Fact) -> Data:
    """A fact as its account reads it."""
    kind, show = DESCRIBE[type(fact.event)]
    return {"event": kind, **show(fact.event, fact)}


def _accepted(event: Accepted, fact: Fact) -> Data:
    assert fact.terms is not None
    price, qty = fact.terms.price.format, fact.terms.qty.format
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "side": SIDE[event.side],
        "type": ORDER_TYPE[event.order_type],
        "price": price(event.price),
        "qty": qty(event.qty),
        "filled_qty": qty(event.filled_qty),
        "resting_qty": qty(event.resting_qty),
        "time_in_force": TIME_IN_FORCE[event.time_in_force],
        "post_only": POST_ONLY[event.post_only],
        "reduce_only": event.reduce_only,
        "self_trade_prevention": SELF_TRADE_PREVENTION[event.self_trade_prevention],
        "expires_us": micros(event.expires_ns),
        "ts_us": micros(event.ts_ns),
        **_money(event.balance, event.held),
    }


def _rejected(event: Rejected, fact: Fact) -> Data:
    error = reject_error(event, fact.terms)
    return {
        "code": error.code,
        "message": error.message,
        "reason": error.data.reason,
        "field": error.data.field,
        "bound": error.data.bound,
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
    }


def _fill(event: Trade, fact: Fact) -> Data:
    assert fact.terms is not None
    if fact.role == "maker":
        fill = fill_view(event, "maker", fact.terms)
        position, money = event.maker_position, _money(event.maker_balance, event.maker_held)
    else:
        fill = fill_view(event, "taker", fact.terms)
        position, money = event.taker_position, _money(event.taker_balance, event.taker_held)
    return {**asdict(fill), "position": fact.terms.qty.format(position), **money}


def _canceled(event: Canceled, fact: Fact) -> Data:
    assert fact.terms is not None
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "side": SIDE[event.side],
        "price": fact.terms.price.format(event.price),
        "qty": fact.terms.qty.format(event.qty),
        "filled_qty": fact.terms.qty.format(event.filled_qty),
        "reason": CANCEL_REASON[event.reason],
        **_money(event.balance, event.held),
    }


def _reduced(event: Reduced, fact: Fact) -> Data:
    assert fact.terms is not None
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "side": SIDE[event.side],
        "price": fact.terms.price.format(event.price),
        "qty": fact.terms.qty.format(event.qty),
        "remaining_qty": fact.terms.qty.format(event.remaining_qty),
        "reason": CANCEL_REASON[event.reason],
        **_money(event.balance, event.held),
    }


def _amended(event: Amended, fact: Fact) -> Data:
    assert fact.terms is not None
    price, qty = fact.terms.price.format, fact.terms.qty.format
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "side": SIDE[event.side],
        "old_price": price(event.old_price),
        "price": price(event.price),
        "qty": qty(event.qty),
        "filled_qty": qty(event.filled_qty),
        "resting_qty": qty(event.resting_qty),
        "kept_priority": event.kept_priority,
        **_money(event.balance, event.held),
    }


def _balance(event: BalanceChanged, fact: Fact) -> Data:
    return {
        "amount": MONEY.format(event.amount),
        "reason": event.reason.name.lower(),
        "transfer_id": event.transfer_id,
        **_money(event.balance, event.held),
    }


def _destination(event: DestinationSet, fact: Fact) -> Data:
    return {"market": event.market, "url": event.url, "worker": event.worker}


def _assigned(event: DeliveryAssigned, fact: Fact) -> Data:
    assert fact.terms is not None
    if fact.role == "seller":
        money = {"proceeds": MONEY.format(event.proceeds), "bond": MONEY.format(event.bond)}
    else:
        money = {"cost": MONEY.format(event.cost)}
    return {
        "delivery_id": event.delivery_id,
        "market": event.market,
        "role": fact.role,
        "qty": fact.terms.qty.format(event.qty),
        "hashrate": str(event.hashrate),
        "contracted_hashes": str(event.contracted_hashes),
        "period_start_us": micros(event.period_start_ns),
        "period_end_us": micros(event.period_end_ns),
        "url": event.url,
        "worker": event.worker,
        **money,
    }


def _updated(event: DeliveryUpdated, fact: Fact) -> Data:
    return {
        "delivery_id": event.delivery_id,
        "market": event.market,
        "role": fact.role,
        "state": DELIVERY_STATE[event.state],
        "proven_hashes": str(event.proven_hashes),
        "excused_hashes": str(event.excused_hashes),
        "shares": event.shares,
        "url": event.url,
        "worker": event.worker,
    }


def _settled(event: DeliverySettled, fact: Fact) -> Data:
    if fact.role == "seller":
        money = _money(event.seller_balance, event.seller_held)
    else:
        money = _money(event.buyer_balance, event.buyer_held)
    return {
        "delivery_id": event.delivery_id,
        "market": event.market,
        "role": fact.role,
        "contracted_hashes": str(event.contracted_hashes),
        "delivered_hashes": str(event.delivered_hashes),
        "breach": event.breach,
        "paid": MONEY.format(event.paid),
        "refund": MONEY.format(event.refund),
        "compensation": MONEY.format(event.compensation),
        "bond_released": MONEY.format(event.bond_released),
        "uncovered": MONEY.format(event.uncovered),
        **money,
    }


def _bid_placed(event: BidPlaced, fact: Fact) -> Data:
    assert fact.terms is not None
    price = fact.terms.price.format
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "price": price(event.price),
        "cap": price(event.cap),
        "limit": limit_text(event.limit, fact.terms),
        "budget": MONEY.format(event.budget),
        "url": event.url,
        "worker": event.worker,
        "peg": PEG[event.peg],
        "offset": price(event.offset),
        "floor": or_null(fact.terms.price, event.floor),
        "expires_us": micros(event.expires_ns),
        "ts_us": micros(event.ts_ns),
        "placing_fee": MONEY.format(event.placing_fee),
        **_money(event.balance, event.held),
    }


def _ask_placed(event: AskPlaced, fact: Fact) -> Data:
    assert fact.terms is not None
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "price": fact.terms.price.format(event.price),
        "speed": fact.terms.qty.format(event.speed),
        "expires_us": micros(event.expires_ns),
        "ts_us": micros(event.ts_ns),
        **_money(event.balance, event.held),
    }


def _bid_amended(event: BidAmended, fact: Fact) -> Data:
    assert fact.terms is not None
    price = fact.terms.price.format
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "old_price": price(event.old_price),
        "price": price(event.price),
        "cap": price(event.cap),
        "limit": limit_text(event.limit, fact.terms),
        "url": event.url,
        "worker": event.worker,
        "cause": FLOW_CAUSE[event.cause],
    }


def _ask_amended(event: AskAmended, fact: Fact) -> Data:
    assert fact.terms is not None
    price, qty = fact.terms.price.format, fact.terms.qty.format
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "old_price": price(event.old_price),
        "price": price(event.price),
        "old_speed": qty(event.old_speed),
        "speed": qty(event.speed),
    }


def _bid_stopped(event: BidStopped, fact: Fact) -> Data:
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "left": MONEY.format(event.left),
    }


def _bid_resumed(event: BidResumed, fact: Fact) -> Data:
    assert fact.terms is not None
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "price": fact.terms.price.format(event.price),
        "left": MONEY.format(event.left),
    }


def _bid_refilled(event: BidRefilled, fact: Fact) -> Data:
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "refill_id": event.refill_id,
        "amount": MONEY.format(event.amount),
        "left": MONEY.format(event.left),
        **_money(event.balance, event.held),
    }


def _bid_ended(event: BidEnded, fact: Fact) -> Data:
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "reason": END_REASON[event.reason],
        "budget": MONEY.format(event.budget),
        "spent": MONEY.format(event.spent),
        "returned": MONEY.format(event.returned),
        **_money(event.balance, event.held),
    }


def _ask_ended(event: AskEnded, fact: Fact) -> Data:
    return {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "reason": END_REASON[event.reason],
    }


def _flow_changed(event: FlowChanged, fact: Fact) -> Data:
    assert fact.terms is not None
    qty = fact.terms.qty.format
    if event.old_speed == event.speed:
        change = "redirected"
    elif not event.old_speed:
        change = "started"
    else:
        change = "resized" if event.speed else "ended"
    return {
        "flow_id": event.flow_id,
        "market": event.market,
        "role": fact.role,
        "change": change,
        "order_id": event.bid_id if fact.role == "buyer" else event.ask_id,
        "old_speed": qty(event.old_speed),
        "speed": qty(event.speed),
        "price": fact.terms.price.format(event.price),
        "cause": FLOW_CAUSE[event.cause],
        "url": event.url,
        "worker": event.worker,
        "ts_us": micros(event.ts_ns),
    }


def _flow_paid(event: FlowPaid, fact: Fact) -> Data:
    data: Data = {
        "flow_id": event.flow_id,
        "market": event.market,
        "role": fact.role,
        "order_id": event.bid_id if fact.role == "buyer" else event.ask_id,
        "hashes": str(event.hashes),
        "paid_hashes": str(event.paid_hashes),
        "cost": MONEY.format(event.cost),
    }
    if fact.role == "buyer":
        data |= {"fee": MONEY.format(event.buyer_fee), "released": MONEY.format(event.released)}
        money = _money(event.buyer_balance, event.buyer_held)
    else:
        data |= {"fee": MONEY.format(event.seller_fee)}
        money = _money(event.seller_balance, event.seller_held)
    return {**data, "final": event.final, **money}


def _pool_saved(event: PoolSaved, fact: Fact) -> Data:
    return asdict(pool_view(event))


def _pool_deleted(event: PoolDeleted, fact: Fact) -> Data:
    return {"pool_id": event.pool_id}


def _money(balance: int, held: int) -> Data:
    return {"balance": MONEY.format(balance), "held": MONEY.format(held)}


DESCRIBE: Final[dict[type, tuple[str, Callable[[Any, Fact], Data]]]] = {
    Accepted: ("accepted", _accepted),
    Rejected: ("rejected", _rejected),
    Trade: ("fill", _fill),
    Canceled: ("canceled", _canceled),
    Reduced: ("reduced", _reduced),
    Amended: ("amended", _amended),
    BalanceChanged: ("balance", _balance),
    DestinationSet: ("destination", _destination),
    DeliveryAssigned: ("delivery_assigned", _assigned),
    DeliveryUpdated: ("delivery_updated", _updated),
    DeliverySettled: ("delivery_settled", _settled),
    BidPlaced: ("bid_placed", _bid_placed),
    BidAmended: ("bid_amended", _bid_amended),
    BidStopped: ("bid_stopped", _bid_stopped),
    BidResumed: ("bid_resumed", _bid_resumed),
    BidRefilled: ("bid_refilled", _bid_refilled),
    BidEnded: ("bid_ended", _bid_ended),
    AskPlaced: ("ask_placed", _ask_placed),
    AskAmended: ("ask_amended", _ask_amended),
    AskEnded: ("ask_ended", _ask_ended),
    FlowChanged: ("flow_changed", _flow_changed),
    FlowPaid: ("flow_paid", _flow_paid),
    PoolSaved: ("pool_saved", _pool_saved),
    PoolDeleted: ("pool_deleted", _pool_deleted),
}
"""How each kind of fact is called and shown."""
