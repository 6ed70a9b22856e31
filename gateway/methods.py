"""Every method of the protocol: its parameters, who may call it, what it costs, and what it does.

A command answers once it is durable; its answer is made from the events of its own entry. A read is answered from the state
at the call, and not before everything that it saw is durable.

The events of an entry start with work that fell due by then (see :mod:`engine.events`). Due work never refuses, accepts or
amends anything, and cancels only for EXPIRED or GATE: so the first Rejected, Accepted or Amended is the command's own, and so
is a Canceled with the reason that the command gives.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from engine.accounts import Order
from engine.commands import (
    Amend,
    Cancel,
    CancelAll,
    CreateAccount,
    Deposit,
    Entry,
    ListMarket,
    Place,
    ReportWork,
    SetDestination,
    SetMarketState,
    Settle,
    Withdraw,
)
from engine.events import (
    Accepted,
    AccountCreated,
    Amended,
    AskEnded,
    BalanceChanged,
    BidEnded,
    Canceled,
    DeliverySettled,
    DeliveryUpdated,
    Event,
    Rejected,
    Trade,
)
from engine.markets.dated import Delivery
from engine.rejects import RejectCode
from engine.types import (
    CancelReason,
    DeliveryState,
    EndReason,
    MarketState,
    OrderType,
    PostOnly,
    TimeInForce,
)
from gateway import live_methods, log, wire
from gateway.algorithms import ALGORITHMS
from gateway.answering import (
    BELOW_ALL,
    Answer,
    Invalid,
    answer_from,
    closed_view,
    later,
    market_settled,
    named_order,
    own_account,
    parse,
    read,
    reject_order,
    rejection,
    submit,
    terms_of,
    used_before,
)
from gateway.auth import Key, KeyStoreError, address_group, in_window
from gateway.calls import Call, Caller
from gateway.channels.base import Channel, Terms
from gateway.listings import dated_market
from gateway.scale import MONEY
from gateway.sequencer import Overloaded, Stopped
from gateway.views import (
    any_market_info,
    balance_view,
    book_view,
    delivery_view,
    entry_status,
    fill_view,
    market_info,
    micros,
    order_view,
    position_view,
    sorted_positions,
)
from gateway.wire import ErrorCode, Params

ACCOUNT_CHANNEL: Final = "account"
"""The one channel that takes a login; the others are public."""
SERVER_NAME: Final = "hashpit"

Role = Literal["seller", "buyer", "meter"]
BucketName = Literal["requests", "orders", "cancels"]

_log = log.get("methods")

SIDES: Final = {name: member for member, name in wire.SIDE.items()}
ORDER_TYPES: Final = {name: member for member, name in wire.ORDER_TYPE.items()}
TIMES_IN_FORCE: Final = {name: member for member, name in wire.TIME_IN_FORCE.items()}
POST_ONLY_MODES: Final = {name: member for member, name in wire.POST_ONLY.items()}
PREVENTIONS: Final = {name: member for member, name in wire.SELF_TRADE_PREVENTION.items()}
MARKET_STATES: Final = {name: member for member, name in wire.MARKET_STATE.items()}


# ----------------------------------------------------------------------------------------------------------------- public


def _time(call: Call, params: wire.NoParams) -> None:
    call.result(wire.TimeResult(micros(call.now_ns)))


def _info(call: Call, params: wire.NoParams) -> None:
    exchange, config = call.exchange, call.exchange.config
    rates = {name: getattr(config.rates, name) for name in config.rates.__struct_fields__}
    call.result(
        wire.InfoResult(
            server=SERVER_NAME,
            version=exchange.version,
            epoch=exchange.epoch,
            ts_us=micros(call.now_ns),
            heartbeat_ms=config.session.heartbeat_ms,
            idle_ms=config.session.idle_ms,
            frame_bytes_max=wire.FRAME_BYTES_MAX,
            batch_max=wire.BATCH_MAX,
            subscriptions_max=config.session.subscriptions_max,
            rates={name: wire.RateInfo(rate.per_second, rate.burst) for name, rate in rates.items()},
        )
    )


def _markets(call: Call, params: wire.NoParams) -> None:
    engine = call.exchange.engine
    infos = [any_market_info(market.spec, market.state, terms_of(call, symbol)) for symbol, market in engine.markets.items()]
    infos += [any_market_info(live.spec, live.state, terms_of(call, symbol)) for symbol, live in engine.live.markets.items()]
    read(call, sorted(infos, key=lambda info: info.market))


def _book(call: Call, params: wire.BookParams) -> None:
    market = call.exchange.engine.markets.get(params.market)
    if market is None:
        call.deny(_not_dated(call, params.market))
        return
    bids, asks = market.book.bids_best_first(), market.book.asks_best_first()
    read(call, book_view(bids, asks, terms_of(call, params.market), params.depth))


def _trades(call: Call, params: wire.TradesParams) -> None:
    def answer() -> None:
        try:
            channel = call.exchange.feeds.trades(params.market)
        except KeyError:
            call.deny(_not_dated(call, params.market))
        else:
            call.result(channel.recent(params.limit))

    later(call, answer)


def _not_dated(call: Call, market: str) -> RejectCode:
    """Why there is no dated market of that name."""
    return RejectCode.MARKET_KIND_WRONG if market in call.exchange.engine.live.markets else RejectCode.MARKET_UNKNOWN


def _heartbeat(call: Call, params: wire.NoParams) -> None:
    call.result(wire.Heartbeat(micros(call.now_ns), call.exchange.feeds.last_seqs(call.caller)))


# ------------------------------------------------------------------------------------------------------------------ login


def _login(call: Call, params: wire.LoginParams) -> None:
    caller, exchange, now_ns = call.caller, call.exchange, call.now_ns
    if caller.key is not None:
        call.error(ErrorCode.INVALID_REQUEST, "logged_in", "this socket is logged in; log out first")
        return
    group = address_group(caller.ip)
    wait_ms = exchange.limiter.key_wait_ms(group, params.key, now_ns) or caller.address.logins.wait_ms(now_ns)
    if wait_ms or not caller.address.logins.take(now_ns):
        _log.warning("login throttled", key=params.key, ip=caller.ip)
        message = "too many logins; wait a little"
        call.error(
            ErrorCode.RATE_LIMITED,
            "rate_limited",
            message,
            "logins",
            retry_after_ms=wait_ms,
            challenge=caller.challenge,
        )
        return
    challenge = caller.challenge
    caller.new_challenge()
    if not in_window(params.timestamp_us, now_ns):
        message = "timestamp_us is more than 10 s from the server's clock"
        _deny_login(call, "timestamp_outside_window", message, "params.timestamp_us")
        return
    key = exchange.keys.verify(params.key, challenge, params.timestamp_us, params.signature)
    if key is None:
        exchange.limiter.key_failed(group, params.key, now_ns)
        _log.warning("login failed", key=params.key, ip=caller.ip)
        _deny_login(call, "login_failed", "unknown key or wrong signature")
    elif key.account not in exchange.engine.accounts:
        _log.warning("login refused: the key's account does not exist", key=key.key_id, account=key.account)
        _deny_login(call, "account_unknown", "the key's account does not exist")
    elif not key.allows(caller.ip):
        _log.warning("login refused: address not in the key's list", key=key.key_id, ip=caller.ip)
        _deny_login(call, "ip_not_allowed", "the key may not be used from this address")
    else:
        caller.log_in(key)
        _log.info("login", key=key.key_id, account=key.account, ip=caller.ip)
        call.result(wire.LoginResult(key.account, key.key_id, [*key.stored.permissions]))


def _deny_login(call: Call, reason: str, message: str, field: str = "") -> None:
    call.error(ErrorCode.LOGIN_FAILED, reason, message, field, challenge=call.caller.challenge)


def _logout(call: Call, params: wire.NoParams) -> None:
    account = call.caller.account
    call.caller.log_out(call.now_ns)
    call.result(wire.LogoutResult(account, call.caller.challenge))


# ----------------------------------------------------------------------------------------------------------------- orders


def _place(call: Call, params: wire.PlaceParams) -> None:
    account, client_order_id = call.caller.account, params.client_order_id or ""
    terms = call.exchange.terms(params.market)
    if terms is None:
        call.deny(RejectCode.MARKET_UNKNOWN)
        return
    if params.post_only == "off" and _only_quotes(call):
        return
    order_type = ORDER_TYPES[params.type]
    if params.price is None:
        if order_type is OrderType.LIMIT:
            call.invalid("price", "required for a limit order")
            return
        price = 0
    else:
        price = parse(terms.price, params.price, "price") or BELOW_ALL
    if params.time_in_force is not None:
        time_in_force = TIMES_IN_FORCE[params.time_in_force]
    else:
        time_in_force = TimeInForce.GTC if order_type is OrderType.LIMIT else TimeInForce.IOC
    command = Place(
        account,
        params.market,
        SIDES[params.side],
        order_type,
        price,
        parse(terms.qty, params.qty, "qty"),
        time_in_force,
        POST_ONLY_MODES[params.post_only],
        params.reduce_only,
        PREVENTIONS[params.self_trade_prevention],
        params.expires_us * 1_000 if params.expires_us else 0,
        client_order_id,
    )

    def answer(entry: Entry, events: list[Event]) -> None:
        for at, event in enumerate(events):
            kind = type(event)
            if kind is Accepted:
                assert isinstance(event, Accepted)
                if event.repeat:
                    _placed_before(call, event)
                else:
                    call.result(_placed(event, events, at, terms))
                return
            if kind is Rejected:
                assert isinstance(event, Rejected)
                call.reject(event, terms)
                return
        assert used_before(call, events), f"entry {entry.seq}: neither accepted nor rejected"

    submit(call, command, params.deadline_us, answer)


def _only_quotes(call: Call) -> bool:
    """Refuse an order that may take to a key that may quote and not trade."""
    key = call.caller.key
    if key is None or "trade" in key.permissions:
        return False
    message = "the key has the permission quote: its orders are post-only"
    call.error(ErrorCode.PERMISSION, "permission", message, "params.post_only")
    return True


def _placed(accepted: Accepted, events: list[Event], at: int, terms: Terms) -> wire.OrderResult:
    fills = _fills_of(accepted.order_id, events, at, terms) if accepted.filled_qty else []
    return _order_result(accepted, entry_status(accepted, islice(events, at + 1, None)), fills, terms)


def _placed_before(call: Call, accepted: Accepted) -> None:
    """Give the first answer again, without its fills. An order that did not rest ended as it still is."""
    terms = call.exchange.terms(accepted.market)
    if terms is None:
        market_settled(call)
        return
    status = "open"
    if not accepted.resting_qty:
        outcome = call.exchange.engine.accounts[accepted.account].outcomes.get(accepted.client_order_id)
        status = wire.ORDER_STATUS[outcome.status] if isinstance(outcome, Order) else entry_status(accepted, ())
    call.result(_order_result(accepted, status, [], terms))


def _order_result(accepted: Accepted, status: str, fills: list[wire.FillView], terms: Terms) -> wire.OrderResult:
    qty = terms.qty.format
    return wire.OrderResult(
        order_id=accepted.order_id,
        client_order_id=accepted.client_order_id,
        market=accepted.market,
        status=status,
        price=terms.price.format(accepted.price),
        qty=qty(accepted.qty),
        filled_qty=qty(accepted.filled_qty),
        remaining_qty=qty(accepted.resting_qty),
        ts_us=micros(accepted.ts_ns),
        repeat=accepted.repeat,
        fills=fills,
    )


def _fills_of(order_id: int, events: list[Event], at: int, terms: Terms) -> list[wire.FillView]:
    """The taker's fills of an order, among the events behind ``events[at]``."""
    return [
        fill_view(event, "taker", terms)
        for event in islice(events, at + 1, None)
        if type(event) is Trade and event.taker_order_id == order_id
    ]


def _amend(call: Call, params: wire.AmendParams) -> None:
    order_id, client_order_id = named_order(params)
    exchange, account = call.exchange, call.caller.account
    order = _open_order(call, order_id, client_order_id)
    if order is not None and order.post_only is PostOnly.OFF and _only_quotes(call):
        return
    terms = exchange.terms(order.market) if order is not None else None
    price = qty = 0
    if terms is not None:
        if params.price is not None:
            price = parse(terms.price, params.price, "price") or BELOW_ALL
        if params.qty is not None:
            qty = parse(terms.qty, params.qty, "qty") or BELOW_ALL
    # Without an open order the engine refuses, whatever the numbers are.

    def answer(entry: Entry, events: list[Event]) -> None:
        for at, event in enumerate(events):
            if isinstance(event, Amended):
                call.result(_amended(event, entry, events, at, terms_of(call, event.market)))
                return
            if isinstance(event, Canceled) and event.reason is CancelReason.AMENDED:
                call.result(_amended_away(event, entry, terms_of(call, event.market)))
                return
            if isinstance(event, Rejected):
                reject_order(call, event, terms)
                return
        raise AssertionError(f"entry {entry.seq}: neither amended nor rejected")

    submit(call, Amend(account, order_id, client_order_id, price, qty), params.deadline_us, answer)


def _amended(event: Amended, entry: Entry, events: list[Event], at: int, terms: Terms) -> wire.OrderResult:
    qty = terms.qty.format
    return wire.OrderResult(
        order_id=event.order_id,
        client_order_id=event.client_order_id,
        market=event.market,
        status=entry_status(event, islice(events, at + 1, None)),
        price=terms.price.format(event.price),
        qty=qty(event.qty),
        filled_qty=qty(event.filled_qty),
        remaining_qty=qty(event.resting_qty),
        ts_us=micros(entry.ts_ns),
        repeat=False,
        fills=_fills_of(event.order_id, events, at, terms),
    )


def _amended_away(event: Canceled, entry: Entry, terms: Terms) -> wire.OrderResult:
    """Amended to no more than what was filled: nothing is left."""
    qty = terms.qty.format
    return wire.OrderResult(
        order_id=event.order_id,
        client_order_id=event.client_order_id,
        market=event.market,
        status="canceled",
        price=terms.price.format(event.price),
        qty=qty(event.filled_qty + event.qty),
        filled_qty=qty(event.filled_qty),
        remaining_qty=qty(0),
        ts_us=micros(entry.ts_ns),
        repeat=False,
        fills=[],
    )


def _open_order(call: Call, order_id: int, client_order_id: str) -> Order | None:
    """The caller's open order of that id or client order id."""
    account = own_account(call)
    if order_id:
        return account.orders.get(order_id)
    outcome = account.outcomes.get(client_order_id)
    return account.orders.get(outcome.order_id) if isinstance(outcome, Order) else None


def _cancel(call: Call, params: wire.CancelParams) -> None:
    order_id, client_order_id = named_order(params)

    def answer(entry: Entry, events: list[Event]) -> None:
        for at, event in enumerate(events):
            if isinstance(event, Canceled) and event.reason is CancelReason.REQUESTED:
                qty = terms_of(call, event.market).qty.format
                call.result(
                    wire.CancelResult(
                        order_id=event.order_id,
                        client_order_id=event.client_order_id,
                        market=event.market,
                        canceled_qty=qty(event.qty),
                        filled_qty=qty(event.filled_qty),
                    )
                )
                return
            if isinstance(event, BidEnded | AskEnded) and event.reason is EndReason.REQUESTED:
                call.result(live_methods.ended(call, event, islice(events, at + 1, None)))
                return
            if isinstance(event, Rejected):
                reject_order(call, event, None)
                return
        raise AssertionError(f"entry {entry.seq}: neither canceled nor rejected")

    submit(call, Cancel(call.caller.account, order_id, client_order_id), params.deadline_us, answer)


def _cancel_all(call: Call, params: wire.CancelAllParams) -> None:
    side = SIDES[params.side] if params.side is not None else None
    command = CancelAll(call.caller.account, params.market or "", side)
    submit(call, command, params.deadline_us, _canceled_all(call, CancelReason.REQUESTED, EndReason.REQUESTED))


def _canceled_all(call: Call, reason: CancelReason, end: EndReason) -> Answer:
    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected)
            return
        gone = [
            event.order_id
            for event in events
            if (isinstance(event, Canceled) and event.reason is reason)
            or (isinstance(event, BidEnded | AskEnded) and event.reason is end)
        ]
        call.result(wire.CancelAllResult(gone))

    return answer


# ------------------------------------------------------------------------------------------------------------------ reads


def _order(call: Call, params: wire.OrderRef) -> None:
    order_id, client_order_id = named_order(params)
    account = own_account(call)
    if client_order_id:
        outcome = account.outcomes.get(client_order_id)
        if isinstance(outcome, Order):
            terms = call.exchange.terms(outcome.market)
            if terms is not None:
                read(call, order_view(outcome, terms))
                return
        elif isinstance(outcome, Rejected):
            refused = outcome
            later(call, lambda: call.reject(refused, call.exchange.terms(refused.market)))
            return
    else:
        order = account.orders.get(order_id)
        if order is not None:
            read(call, order_view(order, terms_of(call, order.market)))
            return

    def answer() -> None:
        closed = call.exchange.history.closed_order(account.account_id, order_id, client_order_id)
        terms = call.exchange.terms(closed.accepted.market) if closed is not None else None
        if closed is None or terms is None:
            field = "params.order_id" if order_id else "params.client_order_id"
            call.error(ErrorCode.NOT_FOUND, "not_found", "the account has no such order, or it closed long ago", field)
        else:
            call.result(closed_view(closed, terms))

    later(call, answer)


def _orders(call: Call, params: wire.OrdersParams) -> None:
    account = own_account(call)
    if params.state == "open":
        found = (order for order in reversed(account.orders.values()) if params.market is None or order.market == params.market)
        views = [order_view(order, terms_of(call, order.market)) for order in islice(found, params.limit)]
        read(call, views)
        return

    def answer() -> None:
        closed = call.exchange.history.closed_orders(account.account_id, params.market, params.limit)
        known = ((order, call.exchange.terms(order.accepted.market)) for order in closed)
        call.result([closed_view(order, terms) for order, terms in known if terms is not None])

    later(call, answer)


def _balances(call: Call, params: wire.NoParams) -> None:
    read(call, balance_view(own_account(call), list(_own_deliveries(call))))


def _positions(call: Call, params: wire.NoParams) -> None:
    held = sorted_positions(own_account(call))
    read(call, [position_view(market, position, terms_of(call, market)) for market, position in held])


def _deliveries(call: Call, params: wire.DeliveriesParams) -> None:
    """The account's own; for a meter, every one that is running."""
    account, key = call.caller.account, call.caller.key
    assert key is not None
    is_meter = "meter" in key.permissions
    found = _running_deliveries(call) if is_meter else _own_deliveries(call)
    chosen = (
        delivery for delivery in found if delivery.delivery_id > params.after_id and params.market in (None, delivery.market)
    )
    views: list[wire.DeliveryView] = []
    for delivery in islice(chosen, params.limit):
        own: Role = "seller" if delivery.seller == account else "buyer"
        views.append(delivery_view(delivery, "meter" if is_meter else own, terms_of(call, delivery.market)))
    read(call, views)


def _own_deliveries(call: Call) -> Iterator[Delivery]:
    """Deliveries that the caller's account has part in and that are not settled, oldest first: as the engine has them now."""
    account, deliveries, history = call.caller.account, call.exchange.engine.deliveries, call.exchange.history
    for delivery_id in history.deliveries(account):
        delivery = deliveries.get(delivery_id)
        if delivery is not None:
            yield delivery
    # The history knows what is durable; what was assigned since stands at the end of the engine's table.
    newer: list[Delivery] = []
    for delivery_id in reversed(deliveries):
        if delivery_id <= history.last_delivery:
            break
        delivery = deliveries[delivery_id]
        if account in (delivery.seller, delivery.buyer):
            newer.append(delivery)
    yield from reversed(newer)


def _running_deliveries(call: Call) -> Iterator[Delivery]:
    for delivery in call.exchange.engine.deliveries.values():
        if delivery.state is DeliveryState.RUNNING:
            yield delivery


def _fills(call: Call, params: wire.FillsParams) -> None:
    def answer() -> None:
        fills = call.exchange.history.fills(call.caller.account, params.market, params.limit)
        known = ((trade, liquidity, call.exchange.terms(trade.market)) for trade, liquidity in fills)
        call.result([fill_view(trade, liquidity, terms) for trade, liquidity, terms in known if terms is not None])

    later(call, answer)


# ------------------------------------------------------------------------------------------------------- account's own


def _set_destination(call: Call, params: wire.SetDestinationParams) -> None:
    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected)
        else:
            call.result(wire.DestinationResult(params.market, params.url, params.worker))

    command = SetDestination(call.caller.account, params.market, params.url, params.worker)
    submit(call, command, None, answer)


def _withdraw(call: Call, params: wire.WithdrawParams) -> None:
    amount = parse(MONEY, params.amount, "amount")
    command = Withdraw(call.caller.account, amount, params.transfer_id)
    submit(call, command, params.deadline_us, answer_from(call, BalanceChanged, _transferred))


def _transferred(event: BalanceChanged) -> wire.TransferResult:
    return wire.TransferResult(
        account=event.account,
        transfer_id=event.transfer_id,
        amount=MONEY.format(event.amount),
        balance=MONEY.format(event.balance),
        held=MONEY.format(event.held),
        repeat=event.repeat,
    )


# --------------------------------------------------------------------------------------------------------------- channels


def _subscribe(call: Call, params: wire.SubscribeParams) -> None:
    """All of the channels or none. The answer comes before the first snapshot (that of a batch: when all of it is there)."""
    caller, feeds = call.caller, call.exchange.feeds
    names = list(dict.fromkeys(params.channels))
    channels: list[Channel] = []
    for at, name in enumerate(params.channels):
        channel = _channel(call, name, f"params.channels[{at}]")
        if channel is None:
            return
        channels.append(channel)
    have = feeds.last_seqs(caller)
    bound = call.exchange.config.session.subscriptions_max
    if len(have.keys() | set(names)) > bound:
        message = f"a socket has at most {bound} subscriptions"
        call.error(ErrorCode.SUBSCRIPTIONS_FULL, "subscriptions_full", message, "params.channels", bound=str(bound))
        return

    call.result(wire.ChannelsResult(names))
    for channel in dict.fromkeys(channels):
        _follow(call, channel.add)


def _follow(call: Call, show: Callable[[Caller, int], None]) -> None:
    """Let a channel follow the answer, unless that was too much for a client that does not read."""
    if not call.caller.is_open:
        return
    try:
        show(call.caller, call.now_ns)
    except (Overloaded, Stopped):
        # Answered already, and without its snapshot the subscription would be a lie.
        call.caller.close(wire.Close.GOING_AWAY, "the exchange is overloaded or stopping; connect again")


def _channel(call: Call, name: str, field: str) -> Channel | None:
    """The channel of that name; None, and answered, when the caller cannot have it."""
    caller = call.caller
    key = caller.key
    if name == ACCOUNT_CHANNEL and key is not None and "read" not in key.permissions:
        call.error(ErrorCode.PERMISSION, "permission", "the key lacks the permission read", field)
        return None
    try:
        return call.exchange.feeds.find(name, caller.account)
    except KeyError:
        call.error(ErrorCode.CHANNEL_UNKNOWN, "channel_unknown", "there is no such channel", field)
    except PermissionError:
        call.error(ErrorCode.LOGIN_REQUIRED, "login_required", "this channel takes a login", field)
    return None


def _unsubscribe(call: Call, params: wire.SubscribeParams) -> None:
    """Channels that are not subscribed, or gone with their market, are no mistake."""
    for name in params.channels:
        try:
            channel = call.exchange.feeds.find(name, call.caller.account)
        except (KeyError, PermissionError):
            continue
        channel.remove(call.caller)
    call.result(wire.ChannelsResult(list(dict.fromkeys(params.channels))))


def _resync(call: Call, params: wire.ResyncParams) -> None:
    channel = _channel(call, params.channel, "params.channel")
    if channel is None:
        return
    if params.channel not in call.exchange.feeds.last_seqs(call.caller):
        message = "this socket is not subscribed to the channel"
        call.error(ErrorCode.CHANNEL_UNKNOWN, "not_subscribed", message, "params.channel")
        return

    call.result(wire.ChannelsResult([params.channel]))
    _follow(call, channel.resync)


def _resume(call: Call, params: wire.ResumeParams) -> None:
    """The account channel, without its snapshot: what was missed, then what comes."""
    account = call.caller.account
    channel = call.exchange.feeds.account(account)
    if params.epoch != call.exchange.epoch:
        message = "another journal numbered that; subscribe for a snapshot"
        call.error(ErrorCode.TOO_OLD, "too_old", message, "params.epoch")
        return

    def answer() -> None:
        if call.caller.account != account:
            call.error(ErrorCode.LOGIN_REQUIRED, "login_required", "this socket has logged out")
        elif not channel.reaches(params.account_seq):
            message = "the events after that number are not kept any more; subscribe for a snapshot"
            call.error(ErrorCode.TOO_OLD, "too_old", message, "params.account_seq")
        else:
            call.result(wire.ResumeResult(params.account_seq))
            if call.caller.is_open:
                channel.resume(call.caller, params.account_seq)

    try:
        channel.when_known(answer)
    except (Overloaded, Stopped) as problem:
        call.stopped(problem)


# -------------------------------------------------------------------------------------------------------- meter, operator


def _report_work(call: Call, params: wire.ReportWorkParams) -> None:
    def view(event: DeliveryUpdated) -> wire.WorkResult:
        return wire.WorkResult(
            delivery_id=event.delivery_id,
            market=event.market,
            state=wire.DELIVERY_STATE[event.state],
            proven_hashes=str(event.proven_hashes),
            excused_hashes=str(event.excused_hashes),
            shares=event.shares,
        )

    command = ReportWork(params.delivery_id, int(params.hashes), params.shares, int(params.excused_hashes))
    submit(call, command, None, answer_from(call, DeliveryUpdated, view))


def _create_account(call: Call, params: wire.CreateAccountParams) -> None:
    def view(event: AccountCreated) -> wire.AccountResult:
        return wire.AccountResult(event.account, event.name)

    submit(call, CreateAccount(params.name), None, answer_from(call, AccountCreated, view))


def _deposit(call: Call, params: wire.TransferParams) -> None:
    amount = parse(MONEY, params.amount, "amount")
    command = Deposit(params.account, amount, params.transfer_id)
    submit(call, command, None, answer_from(call, BalanceChanged, _transferred))


def _list_market(call: Call, params: wire.ListMarketParams) -> None:
    algorithm = ALGORITHMS.get(params.algorithm)
    if algorithm is None:
        raise Invalid("algorithm", f"one of {', '.join(ALGORITHMS)}")
    price = parse(algorithm.price(), params.reference_price, "reference_price")
    try:
        spec = dated_market(algorithm, params.start_us * 1_000, params.length_s, price, call.exchange.config.terms)
    except ValueError as problem:
        field, _, sentence = str(problem).partition(": ")
        raise Invalid("start_us" if field == "start" else field, sentence) from None

    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected)
        else:
            call.result(market_info(spec, MarketState.OPEN))

    submit(call, ListMarket(spec), None, answer)


def _set_market_state(call: Call, params: wire.MarketStateParams) -> None:
    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected)
        else:
            call.result(wire.MarketStateResult(params.market, params.state))

    submit(call, SetMarketState(params.market, MARKET_STATES[params.state]), None, answer)


def _settle(call: Call, params: wire.SettleParams) -> None:
    terms = call.exchange.terms(params.market)
    if terms is None:
        call.deny(RejectCode.MARKET_UNKNOWN)
        return
    price = 0
    if params.index_price is not None:
        price = parse(terms.price, params.index_price, "index_price") or BELOW_ALL

    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected, terms)
            return
        settled = [
            event.delivery_id for event in events if isinstance(event, DeliverySettled) and event.market == params.market
        ]
        call.result(wire.SettleResult(params.market, settled))

    submit(call, Settle(params.market, price), None, answer)


def _account_cancel_all(call: Call, params: wire.AccountCancelAllParams) -> None:
    command = CancelAll(params.account, params.market or "", None, by_operator=True)
    submit(call, command, None, _canceled_all(call, CancelReason.OPERATOR, EndReason.OPERATOR))


def _key_view(key: Key) -> wire.KeyView:
    stored = key.stored
    return wire.KeyView(
        key=stored.key,
        account=stored.account,
        kind=stored.kind,
        permissions=[*stored.permissions],
        ip_list=[*stored.ip_list],
        label=stored.label,
        public_key=stored.public_key,
        created_us=stored.created_us,
    )


def _keys(call: Call, params: wire.KeysParams) -> None:
    found = (key for key in call.exchange.keys.all() if params.account in (None, key.account))
    call.result([_key_view(key) for key in islice(found, params.limit)])


def _add_key(call: Call, params: wire.AddKeyParams) -> None:
    if params.account not in call.exchange.engine.accounts:
        call.deny(RejectCode.ACCOUNT_UNKNOWN)
        return
    try:
        key, secret = call.exchange.keys.add(
            params.account,
            params.permissions,
            params.kind,
            params.public_key,
            params.ip_list,
            params.label,
            micros(call.now_ns),
        )
    except ValueError as problem:
        field, _, sentence = str(problem).partition(": ")
        raise Invalid(field, sentence) from None
    except KeyStoreError as problem:
        _key_files_failed(call, problem)
        return
    _log.info("key added", key=key.key_id, account=key.account, by=_own_key_id(call))
    call.result(wire.AddKeyResult(_key_view(key), secret))


def _revoke_key(call: Call, params: wire.RevokeKeyParams) -> None:
    """Closes the key's sockets. A key that revokes itself is answered by the close."""
    # Before it is done: the key may be the caller's own, and then its session is gone afterwards.
    by = _own_key_id(call)
    try:
        revoked = call.exchange.keys.revoke(params.key)
    except KeyStoreError as problem:
        _key_files_failed(call, problem)
        return
    if revoked:
        _log.info("key revoked by an operator", key=params.key, by=by)
        call.result(wire.RevokeKeyResult(params.key))
    else:
        call.error(ErrorCode.NOT_FOUND, "not_found", "there is no such key", "params.key")


def _own_key_id(call: Call) -> str:
    return call.caller.key.key_id if call.caller.key is not None else ""


def _key_files_failed(call: Call, problem: KeyStoreError) -> None:
    _log.error("key files", problem=str(problem))
    call.error(ErrorCode.INTERNAL, "key_files", "the key files cannot be read or written; see the server's log")


# -------------------------------------------------------------------------------------------------------------- the table


class Method(NamedTuple):
    """``permissions``: any one of them is enough; empty: none is needed. ``login``: takes one, with or without permission."""

    params: type[Params]
    run: Callable[[Call, Any], None]
    permissions: frozenset[str] = frozenset()
    login: bool = False
    bucket: BucketName = "requests"


def _public(params: type[Params], run: Callable[[Call, Any], None]) -> Method:
    return Method(params, run)


def _private(
    params: type[Params], run: Callable[[Call, Any], None], *permissions: wire.Permission, bucket: BucketName = "requests"
) -> Method:
    return Method(params, run, frozenset(permissions), login=True, bucket=bucket)


METHODS: Final[dict[str, Method]] = {
    "time": _public(wire.NoParams, _time),
    "info": _public(wire.NoParams, _info),
    "markets": _public(wire.NoParams, _markets),
    "book": _public(wire.BookParams, _book),
    "trades": _public(wire.TradesParams, _trades),
    "heartbeat": _public(wire.NoParams, _heartbeat),
    "login": _public(wire.LoginParams, _login),
    "logout": _private(wire.NoParams, _logout),
    "subscribe": _public(wire.SubscribeParams, _subscribe),
    "unsubscribe": _public(wire.SubscribeParams, _unsubscribe),
    "resync": _public(wire.ResyncParams, _resync),
    "resume": _private(wire.ResumeParams, _resume, "read"),
    "place": _private(wire.PlaceParams, _place, "trade", "quote", bucket="orders"),
    "amend": _private(wire.AmendParams, _amend, "trade", "quote", bucket="orders"),
    "cancel": _private(wire.CancelParams, _cancel, "trade", "quote", bucket="cancels"),
    "cancel_all": _private(wire.CancelAllParams, _cancel_all, "trade", "quote", bucket="cancels"),
    "live.place_bid": _private(wire.PlaceBidParams, live_methods.place_bid, "trade", bucket="orders"),
    "live.place_ask": _private(wire.PlaceAskParams, live_methods.place_ask, "trade", bucket="orders"),
    "live.amend_bid": _private(wire.AmendBidParams, live_methods.amend_bid, "trade", bucket="orders"),
    "live.amend_ask": _private(wire.AmendAskParams, live_methods.amend_ask, "trade", bucket="orders"),
    "live.refill": _private(wire.RefillParams, live_methods.refill, "trade", bucket="orders"),
    "live.orders": _private(wire.LiveOrdersParams, live_methods.orders, "read"),
    "live.flows": _private(wire.FlowsParams, live_methods.flows, "read", "meter"),
    "live.book": _public(wire.BookParams, live_methods.book),
    "live.estimate": _public(wire.EstimateParams, live_methods.estimate),
    "pool.save": _private(wire.SavePoolParams, live_methods.save_pool, "trade"),
    "pool.delete": _private(wire.PoolParams, live_methods.delete_pool, "trade"),
    "pools": _private(wire.NoParams, live_methods.pools, "read"),
    "order": _private(wire.OrderRef, _order, "read"),
    "orders": _private(wire.OrdersParams, _orders, "read"),
    "balances": _private(wire.NoParams, _balances, "read"),
    "positions": _private(wire.NoParams, _positions, "read"),
    "deliveries": _private(wire.DeliveriesParams, _deliveries, "read", "meter"),
    "fills": _private(wire.FillsParams, _fills, "read"),
    "set_destination": _private(wire.SetDestinationParams, _set_destination, "trade"),
    "withdraw": _private(wire.WithdrawParams, _withdraw, "withdraw"),
    "report_work": _private(wire.ReportWorkParams, _report_work, "meter"),
    "report_flow": _private(wire.ReportFlowParams, live_methods.report_flow, "meter"),
    "create_account": _private(wire.CreateAccountParams, _create_account, "admin"),
    "deposit": _private(wire.TransferParams, _deposit, "admin"),
    "list_market": _private(wire.ListMarketParams, _list_market, "admin"),
    "list_live_market": _private(wire.ListLiveMarketParams, live_methods.list_live_market, "admin"),
    "set_index": _private(wire.SetIndexParams, live_methods.set_index, "admin"),
    "set_market_state": _private(wire.MarketStateParams, _set_market_state, "admin"),
    "settle": _private(wire.SettleParams, _settle, "admin"),
    "account_cancel_all": _private(wire.AccountCancelAllParams, _account_cancel_all, "admin", bucket="cancels"),
    "keys": _private(wire.KeysParams, _keys, "admin"),
    "add_key": _private(wire.AddKeyParams, _add_key, "admin"),
    "revoke_key": _private(wire.RevokeKeyParams, _revoke_key, "admin"),
}
"""Every method by name."""


def run(call: Call, method: Method, params: Params) -> None:
    """Do what the method does; a parameter that turns out unusable is refused by its name."""
    call.fields = method.params.__struct_fields__
    try:
        method.run(call, params)
    except Invalid as problem:
        call.invalid(problem.field, str(problem))
