"""The commands for live markets: bids, asks, flows, pools, and the picture of a market as it moves.

``hashpit.cli`` adds them to its own; what they print and how they fail is as there.
"""

import asyncio
import time
from collections.abc import Coroutine
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway import wire
from gateway.text import printable
from gateway.wire import LiveMarketInfo, LiveTickerView
from hashpit.client import DEFAULT_URL, Client
from hashpit.console import (
    EXPIRES_S_MAX,
    REFRESH_PER_S,
    AsJson,
    InMarket,
    KeyFile,
    Limit,
    Url,
    ask,
    ask_with_key,
    fail,
    levels_that_fit,
    number,
    out,
    print_json,
    rows,
    show,
    surely,
    symbol,
)
from hashpit.errors import HashpitError
from hashpit.explain import when
from hashpit.levels import Level, Levels

LEVELS: Final = 15
"""Levels of each side in the picture."""
BAR: Final = 32
"""Characters of the longest bar, where there is room for it."""
BAR_MIN: Final = 8
BESIDE: Final = 48
"""Columns that a picture has beside its bars."""


def signed(text: str) -> str:
    """A number that may be negative, as it is typed: -.5 is -0.5."""
    return f"-{number(text[1:])}" if text.startswith("-") else number(text)


bids_app = typer.Typer(help="Bid for hashrate in live markets. hashpit cancel ends a bid.", no_args_is_help=True)
asks_app = typer.Typer(help="Offer hashrate in live markets. hashpit cancel ends an ask.", no_args_is_help=True)
flows_app = typer.Typer(help="Hashrate that flows to or from you.", no_args_is_help=True)
pools_app = typer.Typer(help="Pools that bids can be pointed at.", no_args_is_help=True)

Market = Annotated[str, typer.Argument(metavar="MARKET", parser=symbol, help="such as SHA256-LIVE; see market list")]
OrderId = Annotated[int | None, typer.Argument(metavar="ORDER_ID", help="its number, as list tells it")]
OwnId = Annotated[str | None, typer.Option(help="or your own id for it")]
PoolId = Annotated[int | None, typer.Option("--pool", metavar="ID", help="where it goes: a pool that was saved, see pool list")]
PoolUrl = Annotated[str | None, typer.Option("--to", metavar="POOL", help="or stratum+tcp://host:port, or stratum+ssl://")]
Worker = Annotated[str | None, typer.Option(help="name of the worker at that pool")]
Price = Annotated[str, typer.Argument(metavar="PRICE", parser=number, help="BTC per speed unit per day")]
ExpiresS = Annotated[int | None, typer.Option(min=1, max=EXPIRES_S_MAX, help="seconds from now")]
Speed = Annotated[str, typer.Argument(metavar="SPEED", parser=number, help="in the market's speed unit")]


R = TypeVar("R", wire.BidResult, wire.AskResult)
T = TypeVar("T")


class Peg(StrEnum):
    NONE = "none"
    TOP = "top"
    MARGINAL = "marginal"
    INDEX = "index"


def _one_order(order_id: int | None, client_order_id: str | None) -> None:
    if (order_id is None) == (client_order_id is None):
        fail("name the order by ORDER_ID or --client-order-id", 2)


def _one_pool(pool: int | None, to: str | None, worker: str | None, needed: bool) -> None:
    if (to is None) != (worker is None):
        fail("--to and --worker go together", 2)
    if (pool is not None and to is not None) or (needed and pool is None and to is None):
        fail("say where it goes by --pool, or by --to and --worker", 2)


async def _with_unit(client: Client, done: R, as_json: bool) -> tuple[R, str]:
    """What was done, and the speed unit to tell it with. Where that cannot be known any more, it was done all the same."""
    try:
        return done, "" if as_json else (await client.live_market(done.market)).speed_unit
    except (HashpitError, ValueError):
        return done, "unit"


async def _with_units(client: Client, found: Coroutine[Any, Any, T], as_json: bool) -> tuple[T, dict[str, str]]:
    """What was found, and the speed unit of every market that is listed."""
    told = await found
    return told, {} if as_json else {one.market: one.speed_unit for one in await client.markets()}


def _ends_us(expires_s: int | None) -> int | None:
    return None if expires_s is None else time.time_ns() // 1_000 + expires_s * 1_000_000


# ---------------------------------------------------------------------------------------------------------------- bids


@bids_app.command("place")
def bid_place(
    market: Market,
    price: Price,
    budget: Annotated[str, typer.Argument(metavar="BUDGET", parser=number, help="BTC that is held for it, fees included")],
    limit: Annotated[
        str | None, typer.Option(metavar="SPEED", parser=number, help="in the market's unit: the most it takes; else all")
    ] = None,
    pool: PoolId = None,
    to: PoolUrl = None,
    worker: Worker = None,
    peg: Annotated[Peg, typer.Option(help="follow a price; PRICE is then the most it pays")] = Peg.NONE,
    offset: Annotated[
        str | None, typer.Option(metavar="BTC", parser=signed, help="added to that price; may be negative")
    ] = None,
    floor: Annotated[str | None, typer.Option(metavar="BTC", parser=number, help="the least it pays while it follows")] = None,
    expires_s: ExpiresS = None,
    client_order_id: Annotated[str | None, typer.Option(help="the same id again is not placed again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Bid for hashrate. Takes a key with the permission trade.

    Example: hashpit bid place SHA256-LIVE 0.0005 0.01 --limit 1.5 --pool 17 --key alice.key
    """
    _one_pool(pool, to, worker, needed=True)
    if peg is Peg.NONE and (offset, floor) != (None, None):
        fail("--offset and --floor go with --peg", 2)

    async def work(client: Client) -> tuple[wire.BidResult, str]:
        bid = client.place_bid(
            market,
            price,
            budget,
            limit=limit,
            pool_id=pool,
            url=to,
            worker=worker,
            peg=peg.value,
            offset=offset,
            floor=floor,
            expires_us=_ends_us(expires_s),
            client_order_id=client_order_id,
        )
        return await _with_unit(client, await surely(client, bid), as_json)

    _show_bid(*ask_with_key(url, key, work), as_json)


@bids_app.command("amend")
def bid_amend(
    order_id: OrderId = None,
    client_order_id: OwnId = None,
    price: Annotated[
        str | None, typer.Option(metavar="BTC", parser=number, help="per unit per day: what it pays; pegged: at most")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="SPEED", parser=number, help="in the market's unit: the most it takes; 0: all")
    ] = None,
    pool: PoolId = None,
    to: PoolUrl = None,
    worker: Worker = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what a bid pays, its limit or its pool. Takes a key with the permission trade.

    Example: hashpit bid amend 42 --price 0.00051 --key alice.key
    """
    _one_order(order_id, client_order_id)
    _one_pool(pool, to, worker, needed=False)
    if (price, limit, pool, to) == (None, None, None, None):
        fail("say what changes: --price, --limit, --pool, or --to and --worker", 2)

    async def work(client: Client) -> tuple[wire.BidResult, str]:
        amended = client.amend_bid(
            order_id=order_id,
            client_order_id=client_order_id,
            price=price,
            limit=limit,
            pool_id=pool,
            url=to,
            worker=worker,
        )
        return await _with_unit(client, await surely(client, amended), as_json)

    _show_bid(*ask_with_key(url, key, work), as_json)


def _show_bid(bid: wire.BidResult, unit: str, as_json: bool) -> None:
    if as_json:
        return print_json(bid)
    cap = "" if bid.cap == bid.price else f", at most {bid.cap}"
    limit = "without a limit" if bid.limit is None else f"limit {bid.limit} {unit}"
    repeat = "   (placed before)" if bid.repeat else ""
    told = f"bid {bid.order_id} {bid.status}: pays {bid.price}{cap} BTC/{unit}/day, {limit}, gets {bid.assigned} {unit}{repeat}"
    out.print(printable(told))


@bids_app.command("refill")
def bid_refill(
    order_id: OrderId,
    amount: Annotated[str, typer.Argument(metavar="BTC", parser=number, help="how much more")],
    refill_id: Annotated[str | None, typer.Option(help="the same id again is not paid again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Add to a bid's budget. Takes a key with the permission trade.

    Example: hashpit bid refill 42 0.01 --key alice.key
    """

    async def work(client: Client) -> wire.RefillResult:
        return await surely(client, client.refill(amount, order_id=order_id, refill_id=refill_id))

    filled = ask_with_key(url, key, work)
    show(filled, as_json, lambda: f"bid {filled.order_id}: {filled.left} BTC left")


@bids_app.command("list")
def bid_list(
    market: InMarket = None, limit: Limit = 100, url: Url = DEFAULT_URL, key: KeyFile = None, as_json: AsJson = False
) -> None:
    """List the account's open bids. Takes a key with the permission read.

    Example: hashpit bid list --key alice.key
    """
    orders, units = ask_with_key(url, key, lambda client: _with_units(client, client.live_orders(market, limit), as_json))
    lines = [
        (one.order_id, one.market, one.price, one.limit or "-", one.assigned, units.get(one.market, ""), one.left, one.status)
        for one in orders.bids
    ]
    columns = ["order>", "market", "price>", "limit>", "assigned>", "unit", "left (BTC)>", "status"]
    show(orders.bids, as_json, lambda: rows("bids", columns, lines))


@bids_app.command("estimate")
def bid_estimate(
    market: Market,
    price: Price,
    limit: Annotated[
        str | None, typer.Option(metavar="SPEED", parser=number, help="in the market's unit: the most it would take")
    ] = None,
    budget: Annotated[str | None, typer.Option(metavar="BTC", parser=number, help="to tell how long it lasts")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """What a bid would get now, without placing it. Takes no key.

    Example: hashpit bid estimate SHA256-LIVE 0.0005 --limit 1.5 --budget 0.01
    """

    async def work(client: Client) -> tuple[wire.EstimateResult, dict[str, str]]:
        return await _with_units(client, client.estimate(market, price, limit, budget), as_json)

    found, units = ask(url, None, work)
    show(found, as_json, lambda: _estimate(found, units.get(found.market, "unit")))


def _estimate(found: wire.EstimateResult, unit: str) -> Table:
    per_day = f"BTC/{unit}/day"
    lines = [
        ("market", found.market, ""),
        ("price", found.price, per_day),
        ("limit", found.limit, unit),
        ("would get", found.assigned, unit),
        ("cost per day", found.cost_per_day, "BTC, fee included"),
        ("budget lasts", found.lasts_s, "s"),
        ("marginal price now", found.marginal, per_day),
        ("lowest price for all of the limit", found.full_price, per_day),
    ]
    told = [(name, "-", "") if value is None else (name, value, of) for name, value, of in lines]
    table = rows("estimate", ["", ">", ""], told)
    table.show_header = False
    return table


# ---------------------------------------------------------------------------------------------------------------- asks


@asks_app.command("place")
def ask_place(
    market: Market,
    price: Price,
    speed: Speed,
    expires_s: ExpiresS = None,
    client_order_id: Annotated[str | None, typer.Option(help="the same id again is not placed again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Offer hashrate for at least a price. Takes a key with the permission trade.

    Example: hashpit ask place SHA256-LIVE 0.00045 2 --key bob.key
    """

    async def work(client: Client) -> tuple[wire.AskResult, str]:
        offer = client.place_ask(market, price, speed, expires_us=_ends_us(expires_s), client_order_id=client_order_id)
        return await _with_unit(client, await surely(client, offer), as_json)

    _show_ask(*ask_with_key(url, key, work), as_json)


@asks_app.command("amend")
def ask_amend(
    order_id: OrderId = None,
    client_order_id: OwnId = None,
    price: Annotated[
        str | None, typer.Option(metavar="BTC", parser=number, help="per unit per day: the least it wants")
    ] = None,
    speed: Annotated[str | None, typer.Option(metavar="SPEED", parser=number, help="in the market's unit: in all")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change an ask's price or speed. Only less speed keeps its place. Takes a key with the permission trade.

    Example: hashpit ask amend 43 --speed 1 --key bob.key
    """
    _one_order(order_id, client_order_id)
    if (price, speed) == (None, None):
        fail("say what changes: --price, --speed, or both", 2)

    async def work(client: Client) -> tuple[wire.AskResult, str]:
        amended = client.amend_ask(order_id=order_id, client_order_id=client_order_id, price=price, speed=speed)
        return await _with_unit(client, await surely(client, amended), as_json)

    _show_ask(*ask_with_key(url, key, work), as_json)


def _show_ask(offer: wire.AskResult, unit: str, as_json: bool) -> None:
    if as_json:
        return print_json(offer)
    repeat = "   (placed before)" if offer.repeat else ""
    told = f"ask {offer.order_id} {offer.status}: {offer.speed} {unit} for at least {offer.price} BTC/{unit}/day"
    told = f"{told}, {offer.assigned} {unit} taken{repeat}"
    out.print(printable(told))


@asks_app.command("list")
def ask_list(
    market: InMarket = None, limit: Limit = 100, url: Url = DEFAULT_URL, key: KeyFile = None, as_json: AsJson = False
) -> None:
    """List the account's open asks. Takes a key with the permission read.

    Example: hashpit ask list --key bob.key
    """
    orders, units = ask_with_key(url, key, lambda client: _with_units(client, client.live_orders(market, limit), as_json))
    lines = [(one.order_id, one.market, one.price, one.speed, one.assigned, units.get(one.market, "")) for one in orders.asks]
    columns = ["order>", "market", "price>", "speed>", "assigned>", "unit"]
    show(orders.asks, as_json, lambda: rows("asks", columns, lines))


# -------------------------------------------------------------------------------------------------------- flows, pools


@flows_app.command("list")
def flow_list(
    market: InMarket = None, limit: Limit = 100, url: Url = DEFAULT_URL, key: KeyFile = None, as_json: AsJson = False
) -> None:
    """List hashrate that the account buys or sells; with a meter key, all of it. Takes a key with the permission read.

    Example: hashpit flow list --key alice.key
    """
    found, units = ask_with_key(url, key, lambda client: _with_units(client, client.flows(market, limit), as_json))
    lines = [
        (one.flow_id, one.market, one.role, one.order_id, one.speed, unit, one.price, one.cost, one.state, when(one.started_us))
        for one, unit in ((flow, units.get(flow.market, "")) for flow in found)
    ]
    columns = ["flow>", "market", "as", "order>", "speed>", "unit", "price>", "paid (BTC)>", "state", "since (UTC)"]
    show(found, as_json, lambda: rows("flows", columns, lines))


@pools_app.command("save")
def pool_save(  # nosec B107
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name of your own for it")],
    algorithm: Annotated[str, typer.Argument(metavar="ALGORITHM", help="such as SHA256; a note")],
    pool: Annotated[str, typer.Argument(metavar="POOL", help="stratum+tcp://host:port or stratum+ssl://host:port")],
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="name of the worker at that pool")],
    password: Annotated[str, typer.Option(help="what the pool expects")] = "x",  # noqa: S107
    pool_id: Annotated[int | None, typer.Option("--id", help="change this one instead of making another")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Remember a pool, to point bids at. Takes a key with the permission trade.

    Example: hashpit pool save home SHA256 stratum+tcp://pool.example:3333 alice.1 --key alice.key
    """

    async def work(client: Client) -> wire.PoolView:
        return await client.save_pool(name, algorithm, pool, worker, password, pool_id)

    saved = ask_with_key(url, key, work)
    show(saved, as_json, lambda: f"pool {saved.pool_id}: {saved.name}, {saved.url}, worker {saved.worker}")


@pools_app.command("list")
def pool_list(url: Url = DEFAULT_URL, key: KeyFile = None, as_json: AsJson = False) -> None:
    """List the account's pools. Takes a key with the permission read.

    Example: hashpit pool list --key alice.key
    """
    found = ask_with_key(url, key, lambda client: client.pools())
    lines = [(one.pool_id, one.name, one.algorithm, one.url, one.worker) for one in found]
    show(found, as_json, lambda: rows("pools", ["pool>", "name", "algorithm", "URL", "worker"], lines))


@pools_app.command("delete")
def pool_delete(
    pool_id: Annotated[int, typer.Argument(metavar="ID", help="see pool list")],
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Forget a pool. Bids that were placed with it keep their destination. Takes a key with the permission trade.

    Example: hashpit pool delete 17 --key alice.key
    """
    gone = ask_with_key(url, key, lambda client: surely(client, client.delete_pool(pool_id)))
    show(gone, as_json, lambda: f"pool {gone.pool_id} is forgotten")


# ------------------------------------------------------------------------------------------------------------- picture


def live(
    market: Market,
    seconds: Annotated[float, typer.Option(min=0, help="stop after so long; 0: until Ctrl-C")] = 0,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Watch a live market: its bids and asks by price, how much of each flows, where the margin is.

    "paid" is what proven work was paid with on average in the last five minutes. With --json, one line per message.

    Example: hashpit live SHA256-LIVE
    """

    async def work(client: Client) -> None:
        try:
            async with asyncio.timeout(seconds or None):
                await (_watch_json if as_json else _watch)(client, market)
        except TimeoutError:
            pass

    ask(url, None, work)


async def _watch_json(client: Client, market: str) -> None:
    await client.live_market(market)
    async with await client.subscribe(f"live.{market}", f"flows.{market}", f"ticker.{market}") as messages:
        async for message in messages:
            print_json(message)


async def _watch(client: Client, market: str) -> None:
    info = await client.live_market(market)
    ticker: LiveTickerView | None = None
    async with (
        await client.follow_live(market) as followed,
        await client.subscribe(f"ticker.{market}") as messages,
    ):
        try:
            with Live(console=out, refresh_per_second=REFRESH_PER_S, screen=out.is_terminal) as screen:
                while not followed.ended:
                    for message in messages.take():
                        if isinstance(message.data, LiveTickerView):
                            ticker = message.data
                    levels, width = levels_that_fit(LEVELS), max(BAR_MIN, min(BAR, out.width - BESIDE))
                    screen.update(picture(info, followed.book, ticker, client.connected, levels, width))
                    await messages.wait(1 / REFRESH_PER_S)
                    await asyncio.sleep(1 / REFRESH_PER_S)
        finally:
            if not out.is_terminal:
                typer.echo()  # the one picture that goes elsewhere has no end of line
    typer.echo(f"{market} has ended")


def picture(
    info: LiveMarketInfo, book: Levels, ticker: LiveTickerView | None, connected: bool, levels: int = LEVELS, width: int = BAR
) -> Group:
    """One frame: asks from the dearest down, bids from the best down, and a line where the hashrate ends.

    ``levels`` of each side, bars of at most ``width`` characters."""
    asks = [level for level, _ in zip(book.asks(), range(levels), strict=False)]
    bids = [level for level, _ in zip(book.bids(), range(levels), strict=False)]
    largest = max((size_shown(level) for level in [*asks, *bids]), default=1)
    table = Table(box=None, padding=(0, 1))
    for column, side in (("", "left"), (f"BTC/{info.speed_unit}/day", "right"), ("limit", "right"), ("assigned", "right")):
        table.add_column(column, justify="right" if side == "right" else "left", no_wrap=True)
    table.add_column("", no_wrap=True)

    def add(kind: str, level: Level, style: str) -> None:
        size = "no limit" if level.size is None else book.qty.format(level.size)
        price = Text(book.price.format(level.price), style=style)
        table.add_row(kind, price, size, book.qty.format(level.assigned), bar(level, largest, style, width))

    for level in reversed(asks):
        add("ask", level, "red")
    drawn = False
    for level in bids:
        if not drawn and level.price < book.marginal:
            table.add_row(*_margin(book, width))
            drawn = True
        add("bid", level, "green")
    if not drawn and book.marginal:
        table.add_row(*_margin(book, width))
    verified = "verified" if book.synced else f"not current: {book.trouble}"
    paying = f"   paid {ticker.paying_price}" if ticker is not None and ticker.paying_price else ""
    told = f"{info.market} {book.state}   {book.qty.format(book.assigned)} {info.speed_unit} flow{paying}"
    state = printable(f"{told}   seq {book.seq} {verified}")
    return Group(Text(state if connected else f"{state}   reconnecting", style="bold"), table, Text("Ctrl-C to stop"))


def _margin(book: Levels, width: int) -> tuple[str, Text, str, str, Text]:
    line = Text("─" * width + " margin", style="yellow")
    return "", Text(book.price.format(book.marginal), style="bold yellow"), "", "", line


def size_shown(level: Level) -> int:
    """How long a level's bar is, in lots; one without a limit is as long as what it has."""
    return max(1, level.assigned if level.size is None else level.size)


def bar(level: Level, largest: int, style: str, width: int = BAR) -> Text:
    """What is assigned, filled, and what more there could be; a level without a limit has an open end."""
    whole = max(1, size_shown(level) * width // largest)
    filled = min(whole, -(-level.assigned * width // largest))
    text = Text("█" * filled, style=style)
    text.append("░" * (whole - filled), style="dim")
    if level.size is None:
        text.append("→", style=style)
    return text


COMMANDS: Final[tuple[tuple[str, typer.Typer], ...]] = (
    ("bid", bids_app),
    ("ask", asks_app),
    ("flow", flows_app),
    ("pool", pools_app),
)
"""Groups of commands that ``hashpit.cli`` adds."""
