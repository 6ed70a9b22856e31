"""The calls that take no key: time, algorithms, the book, statistics, quotes."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from msgspec import Raw

from engine.book import Book, Resting
from engine.crossing import Slot
from engine.markets.live import Bid
from engine.types import MarketState
from gateway.exchange import Taking
from gateway.nicehash import answers
from gateway.nicehash.calls import Call, page_of
from gateway.nicehash.catalog import MARKETS, Quoted
from gateway.nicehash.history import Market, Row
from gateway.nicehash.problems import invalid
from gateway.nicehash.units import Unusable, decimal_text, money_text
from gateway.nicehash.views import book_row, exact_number, millis, public_order, ratio, ratio_text
from gateway.views import iso

PERMISSIONS: Final = ("VHOR", "PRCO", "ELCO", "MAPO", "VBTD")
"""NiceHash's names of what a key can be allowed here: the first and last come with our ``read``, the others with ``trade``."""
WALKED_PER_TOKEN: Final = 2_000
"""Orders that are passed by on the way to a page cost a request for every so many."""


def time(call: Call) -> None:
    call.answer(answers.Time(server_time=millis(call.now_ns)))


def flags(call: Call) -> None:
    stops = call.exchange.taking is not Taking.ALL
    named = {"IS_MAINTENANCE": stops, "SYSTEM_UNAVAILABLE": stops, "DISABLE_REGISTRATION": True, "IS_KM_MAINTENANCE": False}
    call.answer(answers.Flags(rows=[answers.Flag(flag_name=name, flag_value=value) for name, value in named.items()]))


def api_version(call: Call) -> None:
    call.answer(Decimal("2.0"))


def permissions(call: Call) -> None:
    call.answer([*PERMISSIONS])


def markets(call: Call) -> None:
    others = [quoted.name for quoted in call.catalog.all_quoted() if not quoted.is_first]
    call.read([*MARKETS, *others])


def algorithms(call: Call) -> None:
    call.read(answers.MiningAlgorithms(mining_algorithms=[_algorithm(quoted) for quoted in _first(call)]))


def _first(call: Call) -> list[Quoted]:
    """One market per algorithm."""
    return [quoted for quoted in call.catalog.all_quoted() if quoted.is_first]


def _smallest(quoted: Quoted) -> int:
    """The least that an order may commit, in msat."""
    return quoted.spec.budget_min + quoted.spec.placing_fee


def _step_down(quoted: Quoted) -> Fraction:
    """The most by which a price may be lowered at a time, below zero; all of it where the market does not say."""
    return -(quoted.spec.decrease_step or quoted.spec.price_max) * quoted.units.price_step


def _algorithm(quoted: Quoted) -> answers.MiningAlgorithm:
    row, units, spec = quoted.algorithm, quoted.units, quoted.spec
    return answers.MiningAlgorithm(
        algorithm=row.name,
        title=row.title,
        enabled=True,
        order=row.code,
        display_mining_factor=row.mining_display,
        mining_factor=str(row.mining_factor),
        display_market_factor=units.market_display,
        market_factor=str(units.market_factor),
        display_price_factor=units.price_display,
        price_factor=str(units.price_factor),
        price_scale=units.price_decimals,
        minimal_order_amount=money_text(_smallest(quoted)),
        min_speed_limit=units.speed_text(spec.speed_min),
        max_speed_limit=units.speed_text(spec.speed_max),
        price_down_step=decimal_text(_step_down(quoted)),
        minimal_pool_difficulty="0",
        port=row.port,
        color="#000000",
        orders_enabled=quoted.market.state is MarketState.OPEN,
        enabled_markets=MARKETS[0],
    )


def buy_info(call: Call) -> None:
    rows = [
        answers.BuyInfoRow(
            name=quoted.algorithm.title,
            algo=quoted.algorithm.code,
            down_step=exact_number(_step_down(quoted)),
            min_diff_working=Decimal(0),
            min_diff_initial=Decimal(0),
            min_limit=exact_number(quoted.spec.speed_min * quoted.units.speed_step),
            max_limit=exact_number(quoted.spec.speed_max * quoted.units.speed_step),
            speed_text=quoted.units.market_display,
            multi=exact_number(Fraction(10**9, quoted.units.market_factor)),
            price_multi=exact_number(Fraction(10**9, quoted.units.price_factor)),
            min_price=exact_number(quoted.spec.price_min * quoted.units.price_step),
            max_price=exact_number(quoted.spec.price_max * quoted.units.price_step),
            min_amount=Decimal(money_text(_smallest(quoted))),
        )
        for quoted in _first(call)
    ]
    call.read(answers.BuyInfo(mining_algorithms=rows))


def currencies(call: Call) -> None:
    bitcoin = answers.Currency(symbol="BTC", name="Bitcoin", subunits=11, order=0, base=True, wallets=[])
    call.answer(answers.Currencies(currencies=[bitcoin]))


def fee_info(call: Call) -> None:
    """The terms of the algorithm that is asked for, else of the market that was listed first."""
    found = call.all_quoted()
    spec = found[0].spec if found else None

    def rule(value: str, kind: str) -> dict[str, answers.FeeRule]:
        element = answers.FeeElement(value=Decimal(value), type=kind, snd_value=Decimal(0), snd_type="U")
        interval = answers.FeeInterval(start=Decimal(0), end=None, element=element)
        return {"BTC": answers.FeeRule(coin="BTC", intervals=[interval])}

    def percent(bps: int) -> dict[str, answers.FeeRule]:
        return rule(decimal_text(Fraction(bps, 100)), "%")

    call.read(
        answers.FeeInfo(
            deposit=rule("0", "U"),
            withdrawal=rule("0", "U"),
            exchange_taker=percent(call.exchange.config.terms.taker_fee_bps),
            exchange_maker=percent(call.exchange.config.terms.maker_fee_bps),
            buying_non_refundable_fee=rule(money_text(spec.placing_fee if spec is not None else 0), "U"),
            buying_spent_fee=percent(spec.buyer_fee_bps if spec is not None else 0),
            sell_fee=percent(spec.seller_fee_bps if spec is not None else 0),
        )
    )


# ------------------------------------------------------------------------------------------------------------- the book


def best_first(book: Book) -> Iterator[Bid]:
    """A market's bids in the order of the book, one by one."""
    order = book.best(True)
    while order is not None:
        if isinstance(order, Bid):
            yield order
        order = book.after(order)


def order_book(call: Call) -> None:
    query = call.query
    quoted = call.quoted(query["algorithm"], query["market"])
    crossing, units = quoted.market.crossing, quoted.units
    first = query["page"] * query["size"]
    own = call.key.account if call.key is not None else 0
    call.spend(min(first, len(_market(call, quoted).bids)) // WALKED_PER_TOKEN)
    shown = answers.BookMarket(
        updated_ts=iso(call.now_ns),
        total_speed=units.speed_text(crossing.bid_total),
        market_factor=str(units.market_factor),
        display_market_factor=units.market_display,
        price_factor=str(units.price_factor),
        display_price_factor=units.price_display,
        orders=[
            book_row(bid, quoted, bid.account.account_id == own, call.now_ns)
            for bid in islice(best_first(crossing.bids), first, first + query["size"])
        ],
        pagination=answers.Pagination(size=query["size"], page=query["page"], total_page_count=1),
    )

    def answer() -> None:
        # Counted where it is known without counting: those that are stopped, and not in the book, are with them.
        shown.pagination.total_page_count = page_of(len(_market(call, quoted).bids), query)[2]
        call.answer(answers.OrderBook(stats={query["market"] or quoted.name: shown}))

    call.later(answer)


def price_for(quoted: Quoted, limit: int) -> int | None:
    """The lowest price, in ticks, at which a new order of so many lots gets all of them now; None where none does.

    Above the margin it gets what sellers have free up to its price, and what bids below its price have. Both are walked from
    the margin on, as far as needed.
    """
    market, crossing = quoted.market, quoted.market.crossing
    bid: Resting | None = crossing.last_bid
    ask: Resting | None = crossing.last_ask if crossing.last_ask is not None else crossing.asks.best(False)
    found = 0
    while bid is not None or ask is not None:
        if ask is not None and (bid is None or ask.price <= bid.price):
            price = ask.price
            found += ask.remaining - (ask.assigned if isinstance(ask, Slot) else 0)
            ask = crossing.asks.after(ask)
        else:
            assert bid is not None
            price = bid.price + 1
            found += bid.assigned if isinstance(bid, Slot) else 0
            bid = crossing.bids.before(bid)
        if found >= limit:
            return max(price, market.price_min) if price <= market.price_max else None
    return None


def order_price(call: Call) -> None:
    quoted = call.quoted(call.query["algorithm"], call.query["market"])
    least = price_for(quoted, quoted.spec.speed_min)
    call.read(answers.Price(price=quoted.units.price_text(least if least is not None else quoted.market.price_max)))


def fixed_price(call: Call) -> None:
    body = call.body
    quoted = call.quoted(body.algorithm, body.market)
    try:
        limit = quoted.units.parse_speed(body.limit)
    except Unusable as problem:
        raise invalid(f"limit: {problem}") from None
    most = call.exchange.engine.live.estimate(quoted.market, quoted.market.price_max, 0)
    price = price_for(quoted, max(1, min(limit, most)))
    call.read(
        answers.FixedQuote(
            fixed_max=quoted.units.speed_text(most),
            fixed_price=quoted.units.price_text(price if price is not None else quoted.market.price_max),
        )
    )


def _summary(quoted: Quoted, row: Row) -> answers.Summary:
    units = quoted.units
    speed = units.speed_text(row.speed)
    price = ratio_text(_average(row) * units.price_step)
    profile = answers.Profile(type="STANDARD", speed=speed, price=price, rig_count=row.flows, order_count=row.bids)
    return answers.Summary(
        profs=[profile],
        accepted_pool_speed=speed,
        accepted_rig_speed=speed,
        rejected_pool_speed="0",
        rejected_rig_speed="0",
        paying_price=price,
    )


def _average(row: Row) -> Fraction:
    """What is paid on average, in ticks."""
    return Fraction(row.value, row.speed) if row.speed else Fraction(0)


def _later(call: Call, make: Callable[[], Any]) -> None:
    """Answer with what the projection knows once it knows all that happened before the call."""
    call.later(lambda: call.answer(make()))


def _market(call: Call, quoted: Quoted) -> Market:
    return call.history.markets.get(quoted.spec.symbol) or Market(quoted.spec)


def summary(call: Call) -> None:
    quoted = call.quoted(call.query["algorithm"], call.query["market"])
    _later(call, lambda: _summary(quoted, _market(call, quoted).row(call.now_ns)))


def summaries(call: Call) -> None:
    found = call.all_quoted()

    def make() -> answers.Summaries:
        rows = {f"{o.name},{o.algorithm.name}": _summary(o, _market(call, o).row(call.now_ns)) for o in found}
        return answers.Summaries(summaries=rows)

    _later(call, make)


def public_orders(call: Call) -> None:
    """Bids of every market, best first; the time of ``timestamp`` and ``op`` is that of placing."""
    query = call.query
    first, found = query["page"] * query["size"], call.all_quoted()
    there = sum(len(_market(call, quoted).bids) for quoted in found)
    # any of them may have to be looked at for one that is of the right time
    call.spend((there if query["timestamp"] or query["op"] in ("GT", "GE") else min(first, there)) // WALKED_PER_TOKEN)
    chosen = (
        (bid, quoted)
        for quoted in found
        for bid in best_first(quoted.market.crossing.bids)
        if matches(query["op"], bid.ts_ns, query["timestamp"])
    )
    rows = [public_order(bid, quoted) for bid, quoted in islice(chosen, first, first + query["size"])]
    call.read(answers.PublicOrders(rows=rows))


def matches(op: str, ts_ns: int, bound_ms: int) -> bool:
    """Whether a time is on the side of ``bound_ms`` that ``op`` names; 0 ms with LE or LT: any."""
    ts_ms = millis(ts_ns)
    if op == "GT":
        return ts_ms > bound_ms
    if op == "GE":
        return ts_ms >= bound_ms
    if not bound_ms:
        return True
    return ts_ms < bound_ms if op == "LT" else ts_ms <= bound_ms


# ------------------------------------------------------------------------------------------------------------ statistics


def _global(call: Call, quoted: Quoted, rows: list[Row], now: Row) -> answers.GlobalRow:
    units = quoted.units
    count = max(1, len(rows))
    speed = Fraction(sum(row.speed for row in rows), count)
    value = Fraction(sum(row.value for row in rows), count)
    price = (value / speed if speed else Fraction(0)) * units.per_hash(1)
    return answers.GlobalRow(
        a=quoted.algorithm.code,
        p=ratio(price),
        s=ratio(speed * quoted.spec.lot_hashrate),
        r=now.flows,
        o=now.bids,
    )


def stats_now(call: Call) -> None:
    found = _first(call)

    def make() -> answers.GlobalStats:
        rows = [(quoted, _market(call, quoted).row(call.now_ns)) for quoted in found]
        return answers.GlobalStats(algos=[_global(call, quoted, [row], row) for quoted, row in rows])

    _later(call, make)


def stats_day(call: Call) -> None:
    found = _first(call)

    def make() -> answers.GlobalStats:
        rows: list[answers.GlobalRow] = []
        for quoted in found:
            market = _market(call, quoted)
            now = market.row(call.now_ns)
            rows.append(_global(call, quoted, market.day() or [now], now))
        return answers.GlobalStats(algos=rows)

    _later(call, make)


def multi_algo(call: Call) -> None:
    found = _first(call)

    def make() -> answers.MultiAlgo:
        rows: list[answers.MultiAlgoRow] = []
        for quoted in found:
            row = _market(call, quoted).row(call.now_ns)
            rows.append(
                answers.MultiAlgoRow(
                    algorithm=quoted.algorithm.name,
                    title=quoted.algorithm.title,
                    speed=str(row.speed * quoted.spec.lot_hashrate),
                    paying=ratio_text(_average(row) * quoted.units.per_hash(1)),
                )
            )
        return answers.MultiAlgo(mining_algorithms=rows)

    _later(call, make)


def algo_history(call: Call) -> None:
    """Every five minutes: Unix time, H/s, satoshi for one H/s for a day, 0."""
    quoted = call.quoted(call.query["algorithm"], call.query["market"])

    def make() -> Raw:
        market = _market(call, quoted)
        newest = market.rows[-1] if market.rows else None
        # 30 days are long to write down, and stay the same for five minutes
        if market.told is None or market.told[0] is not newest:
            market.told = newest, Raw(answers.encode([_history_row(quoted, row) for row in market.rows]))
        return market.told[1]

    _later(call, make)


def _history_row(quoted: Quoted, row: Row) -> list[int | Decimal]:
    speed = Decimal(row.speed * quoted.spec.lot_hashrate)
    return [row.ts_ns // 10**9, speed, ratio(_average(row) * quoted.units.per_hash(1)), 0]
