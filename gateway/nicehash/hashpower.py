"""Orders and pools: what a key's owner has, and how it changes. Every change is a command of the engine."""

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from engine.accounts import Account, Pool
from engine.commands import AmendBid, Cancel, DeletePool, PlaceBid, RefillBid, SavePool
from engine.events import BidPlaced, BidRefilled, Event, PoolSaved
from engine.limits import DAY_NS, MONEY_MAX_MSAT
from engine.markets.live import Bid
from engine.rejects import RejectCode
from engine.types import EndReason, LiveSpec, Peg
from gateway.nicehash import answers, bodies, ids, problems
from gateway.nicehash.calls import Call, page_of
from gateway.nicehash.catalog import MARKETS, Named, named
from gateway.nicehash.history import Placed
from gateway.nicehash.problems import Problem, invalid
from gateway.nicehash.public import matches
from gateway.nicehash.units import Units, Unusable, exact, money_text, parse_money
from gateway.nicehash.views import duration_s, millis, pool_url, pool_view, status_of, view_of

UNCHANGED: Final = -1
"""A limit that stays as it is."""

# ------------------------------------------------------------------------------------------------------------ parameters


def _order_id(call: Call) -> int:
    number = ids.from_uuid(ids.ORDER, call.path["id"])
    if number is None:
        raise Problem(problems.NOT_FOUND, RejectCode.ORDER_UNKNOWN, "orderId: the account has no such order")
    return number


def _pool_id(text: str) -> int:
    number = ids.from_uuid(ids.POOL, text)
    if number is None:
        raise Problem(problems.NOT_FOUND, RejectCode.POOL_UNKNOWN, "poolId: the account has no such pool")
    return number


def _price(units: Units, number: Decimal) -> int:
    """Ticks. A price between them is PRICE_DATA_SCALE, as NiceHash says it."""
    try:
        ticks = units.parse_price(number)
    except Unusable as problem:
        raise invalid(f"PRICE_DATA_SCALE: price: {problem}") from None
    if not ticks:
        raise Problem(problems.BAD_REQUEST, problems.PRICE_LOW, "price: it is above 0")
    return ticks


def _signed_price(units: Units, number: Decimal, field: str) -> int:
    """Ticks, above or below zero."""
    try:
        # a minus sign would round to the digits of the context
        return -units.parse_price(number.copy_negate()) if number < 0 else units.parse_price(number)
    except (Unusable, InvalidOperation) as problem:
        raise invalid(f"PRICE_DATA_SCALE: {field}: {problem}") from None


def _limit(units: Units, number: Decimal) -> int:
    """Lots; 0: as much as there is."""
    try:
        return units.parse_speed(number)
    except Unusable as problem:
        raise invalid(f"LIMIT_DATA_SCALE: limit: {problem}") from None


def _amount(number: Decimal) -> int:
    """msat."""
    try:
        return parse_money(number)
    except Unusable as problem:
        raise invalid(f"AMOUNT_DATA_SCALE: amount: {problem}") from None


def _check_factors(body: bodies.Factors, units: Units) -> None:
    """The client reckons in the algorithm's units. The two of speed have to be there, those of price only fit if they are."""
    for name, value in (("MARKETFACTOR", body.market_factor), ("DISPLAYMARKETFACTOR", body.display_market_factor)):
        if value is UNSET:
            raise invalid(f"MISSING_{name}_DATA")
    _check_factor("marketFactor", body.market_factor, units.market_factor)
    _check_factor("priceFactor", body.price_factor, units.price_factor)
    _check_display("displayMarketFactor", body.display_market_factor, units.market_display)
    _check_display("displayPriceFactor", body.display_price_factor, units.price_display)


def _check_factor(field: str, given: Decimal | UnsetType, factor: int) -> None:
    if given is UNSET:
        return
    try:
        fits = exact(given) == factor
    except Unusable:
        fits = False
    if not fits:
        raise Problem(problems.BAD_REQUEST, problems.FACTOR, f"Invalid order market factor: {field}: it is {factor}")


def _check_display(field: str, given: str | UnsetType, display: str) -> None:
    if given is not UNSET and given != display:
        raise Problem(problems.BAD_REQUEST, problems.FACTOR, f"Invalid order market factor: {field}: it is {display}")


def _check_type(kind: str) -> None:
    if kind != "STANDARD":
        raise invalid(f"type: {kind[:20]!r} is not offered, STANDARD is")


# ---------------------------------------------------------------------------------------------------------------- orders


def _spec_of(call: Call, bid: Bid) -> LiveSpec:
    return call.exchange.engine.live.markets[bid.market].spec


def _view(call: Call, bid: Bid | Placed, spec: LiveSpec) -> answers.Order:
    view = view_of(bid, call.account, spec, call.catalog, call.now_ns)
    if view is None:
        raise problems.invalid("the order's market cannot be told in these units")
    return view


def _open_bid(account: Account, order_id: int) -> Bid | None:
    order = account.live.get(order_id)
    return order if isinstance(order, Bid) else None


def _forgotten() -> Problem:
    return Problem(problems.NOT_FOUND, RejectCode.ORDER_UNKNOWN, "orderId: no such order, or it ended long ago")


def _answer_order(call: Call, order_id: int, forgotten: Callable[[], Problem] = _forgotten) -> None:
    """Answer with the order as it is now, open or ended; with ``forgotten`` for one that is neither known to be."""
    account = call.account
    bid = _open_bid(account, order_id)
    if bid is not None:
        call.read(_view(call, bid, _spec_of(call, bid)))
        return

    def ended() -> None:
        placed = call.history.ended(account.account_id, order_id)
        if placed is None:
            raise forgotten()
        call.answer(_view(call, placed, placed.spec))

    call.later(ended)


def create(call: Call) -> None:
    body: bodies.CreateOrder = call.body
    quoted = call.quoted(body.algorithm, body.market)
    _check_factors(body, quoted.units)
    _check_type(body.type)
    price, limit, amount = _price(quoted.units, body.price), _limit(quoted.units, body.limit), _amount(body.amount)
    pool = _pool_of(call, body.pool_id, quoted.algorithm)
    command = PlaceBid(
        call.account.account_id,
        quoted.spec.symbol,
        price,
        limit,
        amount - quoted.spec.placing_fee,
        pool.url,
        pool.worker,
        Peg[body.peg] if body.peg else Peg.NONE,
        _signed_price(quoted.units, body.peg_offset, "pegOffset"),
        _signed_price(quoted.units, body.peg_floor, "pegFloor"),
        client_order_id=call.request.headers.get("x-request-id", ""),
    )

    def answer(events: list[Event]) -> None:
        placed = next((event for event in events if isinstance(event, BidPlaced)), None)
        if placed is None:
            raise invalid("X-Request-Id: the account has used it for an order of another kind")
        _answer_order(call, placed.order_id, lambda: _placed_and_ended(placed.order_id))

    def refused(code: RejectCode) -> None:
        """The engine's bounds are those of the budget; the amount has the fee for placing in it."""
        bounds = {RejectCode.BUDGET_TOO_SMALL: quoted.spec.budget_min, RejectCode.BUDGET_TOO_LARGE: MONEY_MAX_MSAT}
        if code in bounds:
            raise problems.refusal(code, bounds[code] + quoted.spec.placing_fee, quoted.units, call.now_ns)

    call.submit(command, answer, quoted.units, refused)


def _placed_and_ended(order_id: int) -> Problem:
    """What a repeat is told whose order ended before this process began: nothing was placed again."""
    number = ids.to_uuid(ids.ORDER, order_id)
    return Problem(problems.BAD_REQUEST, problems.NOT_ACTIVE, f"Order is not active: it was placed as {number}, and ended")


def _pool_of(call: Call, pool_id: str, algorithm: Named) -> Pool:
    """The account's pool of that id. Raises Problem, for a pool of another algorithm too."""
    pool = call.account.pools.get(_pool_id(pool_id))
    if pool is None:
        raise Problem(problems.NOT_FOUND, RejectCode.POOL_UNKNOWN, "poolId: the account has no such pool")
    if named(pool.algorithm) is not algorithm:
        raise invalid(f"poolId: the pool is for {pool.algorithm}")
    return pool


def get(call: Call) -> None:
    _answer_order(call, _order_id(call))


def cancel(call: Call) -> None:
    order_id = _order_id(call)
    command = Cancel(call.account.account_id, order_id)
    call.submit(command, lambda events: _answer_order(call, order_id), refused=_not_open(call, order_id))


def refill(call: Call) -> None:
    order_id = _order_id(call)
    amount = _amount(call.body.amount)
    command = RefillBid(call.account.account_id, order_id, "", amount, call.request_id)

    def answer(events: list[Event]) -> None:
        refilled = next(event for event in events if isinstance(event, BidRefilled))
        if (refilled.order_id, refilled.amount) != (order_id, amount):
            raise invalid("X-Request-Id: the account has used it for another refill")
        _answer_order(call, order_id)

    call.submit(command, answer, refused=_not_open(call, order_id))


def update(call: Call) -> None:
    body: bodies.UpdateOrder = call.body
    order_id = _order_id(call)
    bid = _open_bid(call.account, order_id)
    if bid is None:
        call.later(lambda: _not_open(call, order_id)(RejectCode.ORDER_UNKNOWN))
        return
    units = call.catalog.units(_spec_of(call, bid))
    if units is None:
        raise problems.invalid("the order's market cannot be told in these units")
    _check_factors(body, units)
    price = _price(units, body.price) if body.price is not UNSET else 0
    limit = _limit(units, body.limit) if body.limit is not UNSET else UNCHANGED
    if body.price is UNSET and body.limit is UNSET:
        raise invalid("price, limit: give one of them, or both")
    command = AmendBid(call.account.account_id, order_id, "", price, limit)
    call.submit(command, lambda events: _answer_order(call, order_id), units, _not_open(call, order_id))


def _not_open(call: Call, order_id: int) -> Callable[[RejectCode], None]:
    """Says of an order that is not open what became of it."""
    account = call.account.account_id

    def refused(code: RejectCode) -> None:
        if code is not RejectCode.ORDER_UNKNOWN:
            return
        placed = call.history.ended(account, order_id)
        if placed is None:
            raise _forgotten()
        if placed.ended is EndReason.EXPIRED:
            raise Problem(problems.BAD_REQUEST, problems.EXPIRED, "Order is expired")
        raise Problem(problems.BAD_REQUEST, problems.NOT_ACTIVE, "Order is not active")

    return refused


class _Found(NamedTuple):
    """An order that a question asked for; ``view`` was made when it was asked, for what is open may have changed since."""

    order_id: int
    view: answers.Order


def my_orders(call: Call) -> None:
    """Open and ended orders; of times before ``ts`` the newest first, of times after it the oldest first."""
    query, account = call.query, call.account
    newest_first = query["op"] not in ("GT", "GE")
    open_ids = {*account.live}
    found = _views(call, [bid for bid in account.live.values() if isinstance(bid, Bid)], newest_first)

    def answer() -> None:
        if not query["active"]:
            ended = [bid for bid in call.history.all_ended(account.account_id) if bid.order_id not in open_ids]
            found.extend(_views(call, ended, newest_first))
        found.sort(key=lambda one: one.order_id, reverse=newest_first)
        call.answer(answers.Orders(rows=[one.view for one in found[: query["limit"]]]))

    call.later(answer)


def _views(call: Call, bids: Sequence[Bid | Placed], newest_first: bool) -> list[_Found]:
    """Those that the query asks for, at most as many as it wants, in its order."""
    query, account = call.query, call.account
    row = named(query["algorithm"]) if query["algorithm"] else None
    found: list[_Found] = []
    for bid in sorted(bids, key=lambda bid: bid.order_id, reverse=newest_first):
        if len(found) == query["limit"]:
            break
        spec = bid.spec if isinstance(bid, Placed) else _spec_of(call, bid)
        if (
            not matches(query["op"], bid.ts_ns, query["ts"])
            or (query["algorithm"] and (row is None or row.algorithm != spec.algorithm))
            or query["status"] not in ("", status_of(bid).code)
            or query["type"] not in ("", "STANDARD")
        ):
            continue
        view = view_of(bid, account, spec, call.catalog, call.now_ns)
        if view is not None and query["market"] in ("", view.market, *(MARKETS if view.market in MARKETS else ())):
            view.request_id = UNSET
            view.bridges = UNSET
            found.append(_Found(bid.order_id, view))
    return found


def order_stats(call: Call) -> None:
    """Every five minutes while hashrate flowed, and now."""
    order_id, account = _order_id(call), call.account

    def answer() -> None:
        placed = next(
            (
                market.bids[order_id]
                for market in call.history.markets.values()
                if order_id in market.bids and market.bids[order_id].account == account.account_id
            ),
            None,
        ) or call.history.ended(account.account_id, order_id)
        units = call.catalog.units(placed.spec) if placed is not None else None
        if placed is None or units is None:
            raise _forgotten()
        data: list[list[Decimal | int]] = [
            [
                millis(row.ts_ns),
                int(row.speed > 0),
                Decimal(units.speed_text(row.speed)),
                Decimal(units.speed_text(row.limit)),
                Decimal(units.price_text(row.price)),
                Decimal(money_text(row.spent)),
            ]
            for row in call.history.order_rows(placed, call.now_ns)
        ]
        call.answer(
            answers.OrderStats(
                display_market_factor=units.market_display,
                market_factor=str(units.market_factor),
                columns=["time", "is_alive", "speed_accepted", "limit", "price", "paid_amount"],
                data=data,
            )
        )

    call.later(answer)


def estimate(call: Call) -> None:
    """How long an amount lasts at a price and limit, at most as long as an order lives."""
    body: bodies.Estimate = call.body
    _check_type(body.type)
    if body.algorithm:
        quoted = call.quoted(body.algorithm, body.market)
        _check_factors(body, quoted.units)
        price, limit, amount = _price(quoted.units, body.price), _limit(quoted.units, body.limit), _amount(body.amount)
        fee = quoted.spec.placing_fee if body.decrease_fee else 0
        seconds = duration_s(quoted.spec, max(0, amount - fee), price, limit, quoted.spec.life_ns)
    else:
        seconds = _plain_estimate(body)
    call.answer(answers.Duration(estimate_duration_in_seconds=seconds))


def _plain_estimate(body: bodies.Estimate) -> int:
    """Without an algorithm: the units are those that the client names, and there are no fees to take off."""
    longest_s = 10 * DAY_NS // 10**9
    try:
        per_day = exact(body.price) * exact(body.limit)
        if body.market_factor is not UNSET and body.price_factor is not UNSET:
            per_day = per_day * exact(body.market_factor) / exact(body.price_factor)
        amount = exact(body.amount)
    except (Unusable, ZeroDivisionError):
        raise invalid("price, limit, amount, factors: they are numbers") from None
    if per_day <= 0 or amount <= 0:
        return 0
    return min(longest_s, int(amount * 86_400 / per_day))


# ----------------------------------------------------------------------------------------------------------------- pools


def _port(value: int | str, field: str) -> int:
    text = str(value).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise invalid(f"{field}: a port is 1 to 65535")
    return int(text)


def save_pool(call: Call) -> None:
    body: bodies.SavePoolBody = call.body
    row = named(body.algorithm)
    if row is None:
        raise invalid(f"algorithm: there is no {body.algorithm[:40]!r}")
    pool_id = _pool_id(body.id) if body.id else 0
    url = pool_url(body.stratum_hostname, _port(body.stratum_port, "stratumPort"))
    command = SavePool(call.account.account_id, pool_id, body.name, row.algorithm, url, body.username, body.password or "x")

    def answer(events: list[Event]) -> None:
        saved = next(event for event in events if isinstance(event, PoolSaved))
        call.answer(pool_view(Pool(saved.pool_id, saved.name, saved.algorithm, saved.url, saved.worker, saved.password)))

    call.submit(command, answer)


def get_pool(call: Call) -> None:
    pool = call.account.pools.get(_pool_id(call.path["id"]))
    if pool is None:
        raise Problem(problems.NOT_FOUND, RejectCode.POOL_UNKNOWN, "poolId: the account has no such pool")
    call.read(pool_view(pool))


def delete_pool(call: Call) -> None:
    command = DeletePool(call.account.account_id, _pool_id(call.path["id"]))
    done = answers.Done(success=True, success_type="SUCCESSFUL", message="")
    call.submit(command, lambda events: call.answer(done))


def pools(call: Call) -> None:
    algorithm = call.query["algorithm"]
    row = named(algorithm) if algorithm else None
    found = [pool for pool in call.account.pools.values() if not algorithm or named(pool.algorithm) is row]
    first, last, pages = page_of(len(found), call.query)
    shown = answers.Pagination(size=call.query["size"], page=call.query["page"], total_page_count=pages)
    call.read(answers.Pools(rows=[pool_view(pool) for pool in found[first:last]], pagination=shown))


def verify_pool(call: Call) -> None:
    """Looks at the form of what is given. The exchange connects to no pool: sellers do."""
    body: bodies.VerifyPool = call.body
    _port(body.stratum_port, "stratumPort")
    fits = named(body.mining_algorithm) is not None and bool(body.stratum_host) and bool(body.username)
    text = "The form is right. Nobody connected to the pool." if fits else "Algorithm, host and user name are needed."
    log = answers.VerifyLog(
        timestamp=millis(call.now_ns),
        level="INFO" if fits else "ERROR",
        pool_verification_message="FORM_CHECKED",
        params=[],
        message=text,
    )
    call.answer(
        answers.Verified(
            success=fits, logs=[log], highest_difficulty=0, highest_difficulty_formatted="0", difficulty_correct=fits
        )
    )
