"""The methods of live markets, and of the pools that their bids are pointed at; :mod:`gateway.methods` has the table.

The events of an entry start with work that fell due by then. Due work never refuses, places or refills anything, amends only
what is pegged, and ends orders for reasons of its own: so the first event of the command's kind is the command's own.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Literal, TypeVar

from engine.accounts import Account
from engine.commands import (
    AmendAsk,
    AmendBid,
    DeletePool,
    Entry,
    ListLive,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    SavePool,
    SetIndex,
)
from engine.events import (
    AskAmended,
    AskEnded,
    AskPlaced,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    BidResumed,
    BidStopped,
    Event,
    FlowChanged,
    FlowPaid,
    IndexSet,
    PoolDeleted,
    PoolSaved,
    Rejected,
)
from engine.limits import BPS, DAY_SECONDS
from engine.markets.live import Ask, Bid, Flow, LiveMarket
from engine.rejects import RejectCode
from engine.types import FlowCause, LiveSpec, MarketState
from gateway import wire
from gateway.algorithms import ALGORITHMS
from gateway.answering import (
    BELOW_ALL,
    Answer,
    Invalid,
    answer_from,
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
from gateway.calls import Call
from gateway.channels.base import Terms
from gateway.config import LiveListing
from gateway.listings import live_market
from gateway.scale import MONEY, Scale
from gateway.views import (
    ask_view,
    bid_view,
    flow_view,
    limit_text,
    live_market_info,
    micros,
    or_null,
    own_flows,
    pool_view,
    reject_error,
)

AS_IT_IS: Final = -1
"""A limit that an amend leaves alone; 0 takes it away."""

PEGS: Final = {name: member for member, name in wire.PEG.items()}
PRICINGS: Final = {name: member for member, name in wire.PRICING.items()}

JSON_INT_MAX: Final = 2**53 - 1
"""The largest whole number that every JSON reader keeps; no budget needs to be told to last longer."""

Role = Literal["seller", "buyer", "meter"]
P = TypeVar("P", BidPlaced, AskPlaced)


# ----------------------------------------------------------------------------------------------------------------- orders


def place_bid(call: Call, params: wire.PlaceBidParams) -> None:
    terms = call.exchange.terms(params.market)
    if terms is None:
        call.deny(RejectCode.MARKET_UNKNOWN)
        return
    pool = _pool(call, params)
    if pool is None:
        return
    url, worker = pool
    if not url:
        raise Invalid("pool_id", "give either pool_id, or url and worker")
    account = own_account(call)
    command = PlaceBid(
        account.account_id,
        params.market,
        parse(terms.price, params.price, "price"),
        parse(terms.qty, params.limit, "limit") if params.limit is not None else 0,
        parse(MONEY, params.budget, "budget"),
        url,
        worker,
        PEGS[params.peg],
        _signed(terms.price, params.offset, "offset") if params.offset is not None else 0,
        parse(terms.price, params.floor, "floor") if params.floor is not None else 0,
        params.expires_us * 1_000 if params.expires_us else 0,
        params.client_order_id or "",
    )

    submit(call, command, params.deadline_us, _placing(call, BidPlaced, _placed_bid, account, terms))


def _placing(
    call: Call, kind: type[P], placed: Callable[[Call, P, Account, list[Event]], None], account: Account, terms: Terms
) -> Answer:
    """Answer with what was placed, or why not; an id may have been used for something else."""

    def answer(entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, kind):
                placed(call, event, account, events)
                return
            if isinstance(event, Rejected):
                call.reject(event, terms)
                return
        assert used_before(call, events), f"entry {entry.seq}: neither placed nor rejected"

    return answer


def _placed_bid(call: Call, event: BidPlaced, account: Account, events: list[Event]) -> None:
    """Answer with what was placed and the hashrate that it got; a repeat gets that of now."""
    terms = call.exchange.terms(event.market)
    if terms is None:
        market_settled(call)
        return
    status, assigned = "open", _assigned(0, events, event.order_id, is_bid=True)
    if event.repeat:
        order = account.live.get(event.order_id)
        status, assigned = "ended", 0
        if isinstance(order, Bid):
            status, assigned = "stopped" if order.stopped else "open", order.assigned
    call.result(
        wire.BidResult(
            order_id=event.order_id,
            client_order_id=event.client_order_id,
            market=event.market,
            status=status,
            price=terms.price.format(event.price),
            cap=terms.price.format(event.cap),
            limit=limit_text(event.limit, terms),
            assigned=terms.qty.format(assigned),
            ts_us=micros(event.ts_ns),
            repeat=event.repeat,
        )
    )


def place_ask(call: Call, params: wire.PlaceAskParams) -> None:
    terms = call.exchange.terms(params.market)
    if terms is None:
        call.deny(RejectCode.MARKET_UNKNOWN)
        return
    account = own_account(call)
    command = PlaceAsk(
        account.account_id,
        params.market,
        parse(terms.price, params.price, "price"),
        parse(terms.qty, params.speed, "speed"),
        params.expires_us * 1_000 if params.expires_us else 0,
        params.client_order_id or "",
    )

    submit(call, command, params.deadline_us, _placing(call, AskPlaced, _placed_ask, account, terms))


def _placed_ask(call: Call, event: AskPlaced, account: Account, events: list[Event]) -> None:
    """As for a bid."""
    terms = call.exchange.terms(event.market)
    if terms is None:
        market_settled(call)
        return
    status, assigned = "open", _assigned(0, events, event.order_id, is_bid=False)
    if event.repeat:
        order = account.live.get(event.order_id)
        status, assigned = ("ended", 0) if order is None else ("open", order.assigned)
    call.result(
        wire.AskResult(
            order_id=event.order_id,
            client_order_id=event.client_order_id,
            market=event.market,
            status=status,
            price=terms.price.format(event.price),
            speed=terms.qty.format(event.speed),
            assigned=terms.qty.format(assigned),
            ts_us=micros(event.ts_ns),
            repeat=event.repeat,
        )
    )


def amend_bid(call: Call, params: wire.AmendBidParams) -> None:
    order_id, client_order_id = named_order(params)
    pool = _pool(call, params)
    if pool is None:
        return
    url, worker = pool
    bid = _open_order(call, order_id, client_order_id)
    terms: Terms | None = None
    price, limit, assigned, stopped = 0, AS_IT_IS, 0, False
    if isinstance(bid, Bid):
        terms = terms_of(call, bid.market)
        # as they are before this entry, whose events tell the rest
        assigned, stopped = bid.assigned, bid.stopped
        if params.price is not None:
            price = parse(terms.price, params.price, "price") or BELOW_ALL
        if params.limit is not None:
            limit = parse(terms.qty, params.limit, "limit")
    elif params.limit is not None:
        limit = 0  # without an open bid the engine refuses, whatever the numbers are
    command = AmendBid(call.caller.account, order_id, client_order_id, price, limit, url, worker)

    def answer(entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, BidAmended) and event.cause is FlowCause.BID_AMENDED:
                known = terms_of(call, event.market)
                call.result(
                    wire.BidResult(
                        order_id=event.order_id,
                        client_order_id=event.client_order_id,
                        market=event.market,
                        status="stopped" if _stopped(stopped, events, event.order_id) else "open",
                        price=known.price.format(event.price),
                        cap=known.price.format(event.cap),
                        limit=limit_text(event.limit, known),
                        assigned=known.qty.format(_assigned(assigned, events, event.order_id, is_bid=True)),
                        ts_us=micros(entry.ts_ns),
                        repeat=False,
                    )
                )
                return
            if isinstance(event, Rejected):
                reject_order(call, event, terms)
                return
        raise AssertionError(f"entry {entry.seq}: neither amended nor rejected")

    submit(call, command, params.deadline_us, answer)


def amend_ask(call: Call, params: wire.AmendAskParams) -> None:
    order_id, client_order_id = named_order(params)
    ask = _open_order(call, order_id, client_order_id)
    terms: Terms | None = None
    price = speed = assigned = 0
    if isinstance(ask, Ask):
        terms = terms_of(call, ask.market)
        assigned = ask.assigned
        if params.price is not None:
            price = parse(terms.price, params.price, "price") or BELOW_ALL
        if params.speed is not None:
            speed = parse(terms.qty, params.speed, "speed") or BELOW_ALL
    command = AmendAsk(call.caller.account, order_id, client_order_id, price, speed)

    def answer(entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, AskAmended):
                known = terms_of(call, event.market)
                call.result(
                    wire.AskResult(
                        order_id=event.order_id,
                        client_order_id=event.client_order_id,
                        market=event.market,
                        status="open",
                        price=known.price.format(event.price),
                        speed=known.qty.format(event.speed),
                        assigned=known.qty.format(_assigned(assigned, events, event.order_id, is_bid=False)),
                        ts_us=micros(entry.ts_ns),
                        repeat=False,
                    )
                )
                return
            if isinstance(event, Rejected):
                reject_order(call, event, terms)
                return
        raise AssertionError(f"entry {entry.seq}: neither amended nor rejected")

    submit(call, command, params.deadline_us, answer)


def refill(call: Call, params: wire.RefillParams) -> None:
    order_id, client_order_id = named_order(params)
    amount = parse(MONEY, params.amount, "amount")
    command = RefillBid(call.caller.account, order_id, client_order_id, amount, params.refill_id)

    def answer(entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, BidRefilled):
                call.result(
                    wire.RefillResult(
                        order_id=event.order_id,
                        client_order_id=event.client_order_id,
                        market=event.market,
                        refill_id=event.refill_id,
                        amount=MONEY.format(event.amount),
                        left=MONEY.format(event.left),
                        balance=MONEY.format(event.balance),
                        held=MONEY.format(event.held),
                        repeat=event.repeat,
                    )
                )
                return
            if isinstance(event, Rejected):
                error = reject_error(event, None, call.fields)
                if event.code is RejectCode.ORDER_UNKNOWN and not order_id:
                    error.data.field = "params.client_order_id"
                call.refuse(error)
                return
        raise AssertionError(f"entry {entry.seq}: neither refilled nor rejected")

    submit(call, command, params.deadline_us, answer)


def ended(call: Call, event: BidEnded | AskEnded, later_events: Iterator[Event]) -> wire.CancelResult:
    """A live order's end as the answer to cancel; ``later_events`` are the entry's behind it."""
    terms = terms_of(call, event.market)
    is_bid = isinstance(event, BidEnded)
    held = -_assigned(0, list(later_events), event.order_id, is_bid)
    return wire.CancelResult(
        order_id=event.order_id,
        client_order_id=event.client_order_id,
        market=event.market,
        canceled_qty=terms.qty.format(held),
        filled_qty=terms.qty.format(0),
        spent=MONEY.format(event.spent) if isinstance(event, BidEnded) else "",
        returned=MONEY.format(event.returned) if isinstance(event, BidEnded) else "",
    )


def _assigned(before: int, events: list[Event], order_id: int, is_bid: bool) -> int:
    """Lots assigned to an order after an entry of these events."""
    for event in events:
        if isinstance(event, FlowChanged) and order_id == (event.bid_id if is_bid else event.ask_id):
            before += event.speed - event.old_speed
    return before


def _stopped(before: bool, events: list[Event], order_id: int) -> bool:
    """Whether a bid is stopped after an entry of these events."""
    for event in events:
        if isinstance(event, BidStopped | BidResumed) and event.order_id == order_id:
            before = isinstance(event, BidStopped)
    return before


def _open_order(call: Call, order_id: int, client_order_id: str) -> Bid | Ask | None:
    """The caller's open order of that id or client order id."""
    account = own_account(call)
    if not order_id:
        outcome = account.outcomes.get(client_order_id)
        if not isinstance(outcome, BidPlaced | AskPlaced):
            return None
        order_id = outcome.order_id
    order = account.live.get(order_id)
    return order if isinstance(order, Bid | Ask) else None


def _pool(call: Call, params: wire.PlaceBidParams | wire.AmendBidParams) -> tuple[str, str] | None:
    """URL and worker that the parameters name, empty where they name none; None, and answered, for a pool that is not there."""
    if params.pool_id is not None:
        if params.url is not None or params.worker is not None:
            raise Invalid("pool_id", "give either pool_id, or url and worker")
        pool = own_account(call).pools.get(params.pool_id)
        if pool is None:
            call.deny(RejectCode.POOL_UNKNOWN)
            return None
        return pool.url, pool.worker
    if (params.url is None) != (params.worker is None):
        raise Invalid("worker" if params.worker is None else "url", "url and worker go together")
    return params.url or "", params.worker or ""


def _signed(scale: Scale, text: str, field: str) -> int:
    """Steps in a decimal that may have a minus sign."""
    steps = parse(scale, text.removeprefix("-"), field)
    return -steps if text.startswith("-") else steps


# ------------------------------------------------------------------------------------------------------------------ reads


def orders(call: Call, params: wire.LiveOrdersParams) -> None:
    found = (order for order in reversed(own_account(call).live.values()) if params.market in (None, order.market))
    bids: list[wire.BidView] = []
    asks: list[wire.AskView] = []
    for order in islice(found, params.limit):
        if isinstance(order, Bid):
            bids.append(bid_view(order, terms_of(call, order.market)))
        elif isinstance(order, Ask):
            asks.append(ask_view(order, terms_of(call, order.market)))
    read(call, wire.LiveOrdersResult(bids, asks))


def flows(call: Call, params: wire.FlowsParams) -> None:
    """The account's own; for a meter, all of them."""
    key = call.caller.key
    assert key is not None
    found = _metered(call) if "meter" in key.permissions else own_flows(own_account(call))
    views: list[wire.FlowView] = []
    for flow, role in found:
        if flow.flow_id <= params.after_id or params.market not in (None, flow.ask.market):
            continue
        if len(views) >= params.limit and flow.flow_id != views[-1].flow_id:
            break  # both halves of a flow to oneself are on one page
        views.append(flow_view(flow, role, terms_of(call, flow.ask.market)))
    read(call, views)


def _metered(call: Call) -> Iterator[tuple[Flow, Role]]:
    for flow in call.exchange.engine.live.flowing.by_id.values():
        yield flow, "meter"


def book(call: Call, params: wire.BookParams) -> None:
    def answer() -> None:
        try:
            depth = call.exchange.feeds.live(params.market)
        except KeyError:
            call.deny(_not_live(call, params.market))
        else:
            call.result(depth.view(params.depth))

    later(call, answer)


def _not_live(call: Call, market: str) -> RejectCode:
    """Why there is no live market of that name."""
    return RejectCode.MARKET_KIND_WRONG if market in call.exchange.engine.markets else RejectCode.MARKET_UNKNOWN


def estimate(call: Call, params: wire.EstimateParams) -> None:
    market = call.exchange.engine.live.markets.get(params.market)
    if market is None:
        call.deny(_not_live(call, params.market))
        return
    terms = terms_of(call, params.market)
    price = parse(terms.price, params.price, "price")
    limit = parse(terms.qty, params.limit, "limit") if params.limit is not None else 0
    budget = parse(MONEY, params.budget, "budget") if params.budget is not None else 0
    if not market.price_min <= price <= market.price_max:
        low = price < market.price_min
        code = RejectCode.PRICE_TOO_LOW if low else RejectCode.PRICE_TOO_HIGH
        call.reject(Rejected(0, 0, code, market.price_min if low else market.price_max, 0, "", params.market), terms)
        return
    spec = market.spec
    engine = call.exchange.engine
    speed = engine.live.estimate(market, price, limit)
    cost = cost_per_day(spec, price, speed)
    full = full_price(market, limit) if limit else 0
    result = wire.EstimateResult(
        market=params.market,
        price=terms.price.format(price),
        limit=limit_text(limit, terms),
        assigned=terms.qty.format(speed),
        cost_per_day=MONEY.format(cost),
        lasts_s=min(budget * DAY_SECONDS // cost, JSON_INT_MAX) if budget and cost else None,
        marginal=or_null(terms.price, market.marginal),
        full_price=or_null(terms.price, full),
    )
    read(call, result)


def cost_per_day(spec: LiveSpec, price: int, lots: int) -> int:
    """msat that so much hashrate costs a buyer in a day at a price, fee included, rounded up."""
    cost = price * lots * spec.tick_lot_msat
    return cost - (-cost * spec.buyer_fee_bps // BPS)


def full_price(market: LiveMarket, limit: int) -> int:
    """The lowest price at which a new bid of ``limit`` lots gets all of it; 0 when none does. O(price levels).

    A bid gets what asks want no more than it pays, less what bids that pay as much or more take before it; so the more it
    pays, the more it gets, and only a price that an ask has, or one above a bid's, can be the lowest.
    """
    asks, bids = [*reversed(market.crossing.asks.asks)], market.crossing.bids.bids  # both by rising price
    free = -sum([level.qty for level in bids])
    at_ask = at_bid = 0
    price = market.price_min
    while price <= market.price_max:
        while at_ask < len(asks) and asks[at_ask].price <= price:
            free += asks[at_ask].qty
            at_ask += 1
        while at_bid < len(bids) and bids[at_bid].price < price:
            free += bids[at_bid].qty
            at_bid += 1
        if free >= limit:
            return price
        following = [asks[at_ask].price] if at_ask < len(asks) else []
        if at_bid < len(bids):
            following.append(bids[at_bid].price + 1)
        if not following:
            return 0
        price = min(following)
    return 0


# ------------------------------------------------------------------------------------------------------------------ pools


def save_pool(call: Call, params: wire.SavePoolParams) -> None:
    account = call.caller.account
    command = SavePool(account, params.pool_id or 0, params.name, params.algorithm, params.url, params.worker, params.password)
    submit(call, command, None, answer_from(call, PoolSaved, pool_view))


def delete_pool(call: Call, params: wire.PoolParams) -> None:
    command = DeletePool(call.caller.account, params.pool_id)
    submit(call, command, None, answer_from(call, PoolDeleted, lambda event: wire.PoolResult(event.pool_id)))


def pools(call: Call, params: wire.NoParams) -> None:
    read(call, [pool_view(pool) for pool in own_account(call).pools.values()])


# -------------------------------------------------------------------------------------------------------- meter, operator


def report_flow(call: Call, params: wire.ReportFlowParams) -> None:
    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected)
            return
        # due work may have paid the same flow before; what follows the report pays nothing
        for event in reversed(events):
            if isinstance(event, FlowPaid) and event.flow_id == params.flow_id:
                call.result(
                    wire.FlowResult(
                        flow_id=event.flow_id,
                        market=event.market,
                        hashes=str(event.hashes),
                        paid_hashes=str(event.paid_hashes),
                        cost=MONEY.format(event.cost),
                        final=event.final,
                    )
                )
                return
        raise AssertionError(f"entry {entry.seq}: neither paid nor rejected")

    submit(call, ReportFlow(params.flow_id, int(params.hashes), params.final), None, answer)


def list_live_market(call: Call, params: wire.ListLiveMarketParams) -> None:
    algorithm = ALGORITHMS.get(params.algorithm)
    if algorithm is None:
        raise Invalid("algorithm", f"one of {', '.join(ALGORITHMS)}")
    given = {name: getattr(params, name) for name in params.__struct_fields__ if getattr(params, name) is not None}
    try:
        spec = live_market(LiveListing(**given))
    except ValueError as problem:
        field, _, sentence = str(problem).partition(": ")
        raise Invalid(field, sentence) from None

    def answer(entry: Entry, events: list[Event]) -> None:
        rejected = rejection(events)
        if rejected is not None:
            call.reject(rejected)
        else:
            call.result(live_market_info(spec, MarketState.OPEN))

    submit(call, ListLive(spec), None, answer)


def set_index(call: Call, params: wire.SetIndexParams) -> None:
    terms = call.exchange.terms(params.market)
    if terms is None:
        call.deny(RejectCode.MARKET_UNKNOWN)
        return
    price = parse(terms.price, params.price, "price") if params.price is not None else 0

    def answer(entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, IndexSet):
                call.result(wire.IndexResult(event.market, or_null(terms.price, event.price)))
                return
            if isinstance(event, Rejected):
                call.reject(event, terms)
                return
        raise AssertionError(f"entry {entry.seq}: neither set nor rejected")

    submit(call, SetIndex(params.market, price), None, answer)
