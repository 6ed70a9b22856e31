"""The ``hashpit`` command. Every command that prints data takes ``--json``; every help text has an example.

Talks to an exchange through the SDK only, like any bot. The commands that work on a data directory (serve, init, snapshot,
verify, replay) load the gateway or the engine when they run, and not before.
"""

from hashpit.build import prefer_source

prefer_source()

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import msgspec
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway import wire
from gateway.wire import MarketInfo, Permission
from hashpit import __version__
from hashpit.book import Book
from hashpit.client import DEFAULT_URL, Client
from hashpit.errors import HashpitError, Unknown
from hashpit.keys import Key, generate
from hashpit.keys import load as load_key
from hashpit.replay import command as replay_command

WATCH_LEVELS = 12
WATCH_TRADES = 12
REFRESH_PER_S = 8
DAY_S = 86_400

app = typer.Typer(
    help="Hashpit: a self-hosted, real-time exchange for hashrate. New here? Run [bold]hashpit demo[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)
keys_app = typer.Typer(help="Make, list and revoke keys (takes an admin key).", no_args_is_help=True)
accounts_app = typer.Typer(help="Open accounts, move money, see what an account has.", no_args_is_help=True)
markets_app = typer.Typer(help="List markets and change their state.", no_args_is_help=True)
app.add_typer(accounts_app, name="account")
app.add_typer(keys_app, name="key")
app.add_typer(markets_app, name="market")

PIPE_COLUMNS = 200
"""Width of tables that do not go to a terminal, so that nothing in them is cut."""

out = Console() if sys.stdout.isatty() else Console(width=PIPE_COLUMNS)
T = TypeVar("T")

Url = Annotated[str, typer.Option("--url", envvar="HASHPIT_URL", help="where the exchange listens")]
KeyFile = Annotated[Path | None, typer.Option("--key", envvar="HASHPIT_KEY", metavar="FILE", help="key file to log in with")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
Data = Annotated[Path, typer.Argument(metavar="DATA", help="data directory")]
Market = Annotated[str, typer.Argument(metavar="MARKET", help="such as SHA256-20261124")]


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class TimeInForce(StrEnum):
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    GTD = "gtd"


class PostOnly(StrEnum):
    OFF = "off"
    REJECT = "reject"
    SLIDE = "slide"


class State(StrEnum):
    OPEN = "open"
    CANCEL_ONLY = "cancel_only"
    HALTED = "halted"
    CLOSED = "closed"


# ------------------------------------------------------------------------------------------------------------ plumbing


def fail(message: str, code: int = 1) -> NoReturn:
    typer.echo(f"hashpit: {message}", err=True)
    raise typer.Exit(code)


def ask(url: str, key_file: Path | None, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Connect, do the work, disconnect. Errors of the SDK become one line and exit code 1."""

    async def connected() -> T:
        async with Client(url, load_key(key_file) if key_file else None) as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except (HashpitError, ValueError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


async def surely(client: Client, command: Coroutine[Any, Any, T]) -> T:
    """Await a command; when its outcome is unknown, find out. The ids that it carries make that safe."""
    try:
        return await command
    except Unknown as unknown:
        return cast(T, await client.retry(unknown))


def print_json(value: object) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def show(value: object, as_json: bool, table: Callable[[], Table | str]) -> None:
    """Print a result, as JSON or as a table."""
    if as_json:
        print_json(value)
    else:
        out.print(table())


def rows(title: str, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> Table:
    """A table; columns whose name ends in ``>`` are numbers, set to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
    for line in lines:
        table.add_row(*(str(cell) for cell in line))
    return table


def fields(title: str, value: msgspec.Struct) -> Table:
    """One thing, a line per field."""
    table = rows(title, ["", ""], [(name, getattr(value, name)) for name in value.__struct_fields__])
    table.show_header = False
    return table


def when(us: int) -> str:
    """A time of the wire for people, in UTC."""
    return datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S") if us else ""


# ------------------------------------------------------------------------------------------------------- the exchange


@app.command()
def init(data: Data) -> None:
    """Make a data directory: a commented config.toml, and an operator's key.

    Example: hashpit init ./data
    """
    from gateway.auth import KeyStoreError
    from gateway.config import CONFIG_FILE, TEMPLATE
    from hashpit.demo import create

    try:
        admin = create(data, TEMPLATE)
    except (FileExistsError, KeyStoreError, HashpitError) as error:
        fail(str(error))
    day = datetime.fromtimestamp(time.time() + 2 * DAY_S, UTC).date()
    typer.echo(
        f"""Made {data / CONFIG_FILE}
     {admin}   (the operator's key: keep it private)

Next:
  hashpit serve {data}
  hashpit market list
  hashpit market add SHA256 --start {day} --price 0.0005 --key {admin}
  hashpit account create alice --deposit 0.5 --key {admin}
  hashpit key add --account 100 --permission trade --permission read --out alice.key --key {admin}"""
    )


@app.command()
def serve(
    data: Data,
    host: Annotated[str | None, typer.Option(help="listen here instead of what config.toml says")] = None,
    port: Annotated[int | None, typer.Option(help="listen here instead; 0 lets the system choose")] = None,
) -> None:
    """Run an exchange out of its data directory, until Ctrl-C.

    Example: hashpit serve ./data --port 8765
    """
    from gateway.__main__ import main as run_gateway

    arguments = [str(data)]
    for option, value in (("--host", host), ("--port", port)):
        if value is not None:
            arguments += [option, str(value)]
    raise typer.Exit(run_gateway(arguments))


@app.command()
def demo(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="data directory")] = Path("data/demo"),
    port: Annotated[int, typer.Option(help="port to listen on; 0 lets the system choose")] = 8765,
    seconds: Annotated[float, typer.Option(help="stop after so long; 0: run until Ctrl-C")] = 0,
) -> None:
    """Start an exchange with bots and a simulated meter, and say what to type next.

    Example: hashpit demo
    """
    from hashpit.demo import DemoError, run

    try:
        code = asyncio.run(run(data, port, seconds))
    except (DemoError, HashpitError) as error:
        fail(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM
        code = 0
    raise typer.Exit(code)


@app.command()
def snapshot(
    data: Data,
    keep: Annotated[int, typer.Option(min=1, help="how many snapshots to keep")] = 3,
    archive: Annotated[bool, typer.Option(help="copy journal rows older than every kept snapshot to an archive")] = True,
    as_json: AsJson = False,
) -> None:
    """Make and verify a snapshot, beside a running server or without one.

    Example: hashpit snapshot ./data
    """
    from gateway.journal import JournalError
    from gateway.recovery import RecoveryError, SnapshotError, make_snapshot, show_progress

    try:
        with show_progress() as progress:
            made = make_snapshot(data, keep, archive, progress)
    except (JournalError, RecoveryError, SnapshotError, OSError) as error:
        fail(str(error))
    show(made, as_json, lambda: fields("snapshot", made))


@app.command()
def verify(
    data: Data,
    replay: Annotated[bool, typer.Option("--replay", help="also apply the whole history again")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every journal row, archive and snapshot; exit code 1 when there is a fault.

    Example: hashpit verify ./data --replay
    """
    from gateway.journal import JournalError
    from gateway.recovery import show_progress
    from gateway.recovery import verify as look

    try:
        with show_progress() as progress:
            findings = look(data, replay, progress)
    except (JournalError, OSError) as error:
        fail(str(error))
    show(findings, as_json, lambda: fields("verify", findings))
    if findings.faults:
        raise typer.Exit(1)


app.command("replay")(replay_command)

# ------------------------------------------------------------------------------------------------------------ accounts


@accounts_app.command("create")
def account_create(
    name: Annotated[str, typer.Argument(help="a name of its own")],
    deposit: Annotated[str | None, typer.Option(metavar="BTC", help="money to start with")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open an account. Takes an admin key.

    Example: hashpit account create alice --deposit 0.5 --key data/admin.key
    """

    async def work(client: Client) -> wire.AccountResult:
        account = await surely(client, client.create_account(name))
        if deposit is not None:
            await surely(client, client.deposit(account.account, deposit))
        return account

    account = ask(url, key, work)
    show(account, as_json, lambda: fields("account", account))


@accounts_app.command("deposit")
def account_deposit(
    account: Annotated[int, typer.Argument(help="account id")],
    amount: Annotated[str, typer.Argument(metavar="BTC")],
    transfer_id: Annotated[str | None, typer.Option(help="the same id again is not paid again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Credit money to an account. Takes an admin key.

    Example: hashpit account deposit 100 0.25 --transfer-id invoice-7 --key data/admin.key
    """
    done = ask(url, key, lambda client: surely(client, client.deposit(account, amount, transfer_id)))
    show(done, as_json, lambda: fields("deposit", done))


@accounts_app.command("withdraw")
def account_withdraw(
    amount: Annotated[str, typer.Argument(metavar="BTC")],
    transfer_id: Annotated[str | None, typer.Option(help="the same id again is not paid again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take money out of the key's own account. Takes a key with the permission withdraw.

    Example: hashpit account withdraw 0.1 --key alice.key
    """
    done = ask(url, key, lambda client: surely(client, client.withdraw(amount, transfer_id)))
    show(done, as_json, lambda: fields("withdrawal", done))


class Standing(msgspec.Struct):
    """Everything that an account has."""

    balance: wire.BalanceView
    positions: list[wire.PositionView]
    deliveries: list[wire.DeliveryView]


@accounts_app.command("show")
def account_show(url: Url = DEFAULT_URL, key: KeyFile = None, as_json: AsJson = False) -> None:
    """Show the money, positions and deliveries of the key's account.

    Example: hashpit account show --key alice.key
    """

    async def work(client: Client) -> Standing:
        return Standing(await client.balances(), await client.positions(), await client.deliveries())

    standing = ask(url, key, work)
    if as_json:
        return print_json(standing)
    out.print(fields("balance (BTC)", standing.balance))
    positions = [(view.market, view.qty, view.basis, view.bond, view.realized) for view in standing.positions]
    out.print(rows("positions", ["market", "qty>", "basis>", "bond>", "realized>"], positions))
    deliveries = [
        (view.delivery_id, view.market, view.role, view.state, view.qty, _proven(view), when(view.period_end_us))
        for view in standing.deliveries
    ]
    out.print(rows("deliveries", ["id>", "market", "role", "state", "qty>", "proven>", "until (UTC)"], deliveries))


def _proven(view: wire.DeliveryView) -> str:
    hundredths = int(view.proven_hashes) * 10_000 // max(1, int(view.contracted_hashes))
    return f"{hundredths // 100}.{hundredths % 100:02} %"


# ---------------------------------------------------------------------------------------------------------------- keys


@keys_app.command("add")
def key_add(
    account: Annotated[int, typer.Option(help="account that the key speaks for")],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="write the new key file here (0600)")],
    permission: Annotated[list[str], typer.Option(help="read, trade, quote, withdraw, meter or admin; may be given again")],
    hmac: Annotated[bool, typer.Option("--hmac", help="an HMAC secret instead of an Ed25519 pair")] = False,
    ip: Annotated[list[str] | None, typer.Option(help="address or network it may be used from; may be given again")] = None,
    label: Annotated[str, typer.Option(help="a note to find it by")] = "",
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for an account. The private half never leaves this machine. Takes an admin key.

    Example: hashpit key add --account 100 --permission trade --permission read --out alice.key --key data/admin.key
    """
    if out_file.exists():
        fail(f"{out_file} exists; a key file is never overwritten")
    private, public = ("", "") if hmac else generate()

    async def work(client: Client) -> wire.AddKeyResult:
        return await client.add_key(
            account,
            cast(list[Permission], permission),
            kind="hmac" if hmac else "ed25519",
            public_key=public,
            ip_list=ip or [],
            label=label,
        )

    added = ask(url, key, work)
    try:
        if hmac:
            Key(added.key.key, "hmac", secret=added.secret).save(out_file)
        else:
            Key(added.key.key, "ed25519", private_key=private).save(out_file)
    except HashpitError as error:
        fail(f"{error}; revoke {added.key.key} and try again")
    show(added.key, as_json, lambda: fields(f"key, in {out_file}", added.key))


@keys_app.command("list")
def key_list(
    account: Annotated[int | None, typer.Option(help="of this account only")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List keys. Takes an admin key.

    Example: hashpit key list --account 100 --key data/admin.key
    """
    found = ask(url, key, lambda client: client.keys(account))
    lines = [(one.key, one.account, one.kind, " ".join(one.permissions), " ".join(one.ip_list), one.label) for one in found]
    columns = ["key", "account>", "kind", "permissions", "from", "label"]
    show(found, as_json, lambda: rows("keys", columns, lines))


@keys_app.command("revoke")
def key_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="such as k-0123456789abcdef")],
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """End a key for good; its connections close at once. Takes an admin key.

    Example: hashpit key revoke k-0123456789abcdef --key data/admin.key
    """
    revoked = ask(url, key, lambda client: client.revoke_key(key_id))
    show(revoked, as_json, lambda: f"{revoked.key} is revoked")


# ------------------------------------------------------------------------------------------------------------- markets


@markets_app.command("list")
def market_list(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List markets and their terms.

    Example: hashpit market list --json
    """
    found = ask(url, None, lambda client: client.markets())
    lines = [
        (
            one.market,
            one.state,
            one.speed_unit,
            one.reference_price,
            when(one.gate_us)[5:16],
            when(one.period_start_us)[5:16],
            when(one.period_end_us)[5:16],
        )
        for one in found
    ]
    columns = ["market", "state", "unit", "reference>", "gate (UTC)", "from (UTC)", "until (UTC)"]
    show(found, as_json, lambda: rows("markets", columns, lines))


@markets_app.command("add")
def market_add(
    algorithm: Annotated[str, typer.Argument(help="such as SHA256")],
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="UTC; a whole minute")],
    price: Annotated[str, typer.Option(help="reference price: BTC per unit per day")],
    length: Annotated[int, typer.Option(help="length of the period in seconds")] = 86_400,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a market for one delivery period. Takes an admin key.

    Example: hashpit market add SHA256 --start 2026-11-24 --price 0.0005 --key data/admin.key
    """
    start_us = int(start.replace(tzinfo=UTC).timestamp()) * 1_000_000
    added = ask(url, key, lambda client: surely(client, client.list_market(algorithm, start_us, length, price)))
    show(added, as_json, lambda: fields("market", added))


@markets_app.command("state")
def market_state(
    market: Market,
    state: Annotated[State, typer.Argument(help="closed is for good")],
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what a market takes. Takes an admin key.

    Example: hashpit market state SHA256-20261124 halted --key data/admin.key
    """
    done = ask(url, key, lambda client: surely(client, client.set_market_state(market, state.value)))
    show(done, as_json, lambda: f"{done.market} is {done.state}")


@markets_app.command("settle")
def market_settle(
    market: Market,
    index_price: Annotated[str | None, typer.Option(help="what replacing the hashrate cost")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Settle a market's deliveries as soon as their period is over. Takes an admin key.

    Example: hashpit market settle SHA256-20261124 --index-price 0.00052 --key data/admin.key
    """
    done = ask(url, key, lambda client: surely(client, client.settle(market, index_price)))
    show(done, as_json, lambda: f"{done.market}: deliveries settled: {len(done.deliveries)}")


# --------------------------------------------------------------------------------------------------------- market data


@app.command()
def book(
    market: Market,
    depth: Annotated[int, typer.Option(min=1, max=1000, help="levels per side")] = 10,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a market's book once.

    Example: hashpit book SHA256-20261124 --depth 5
    """
    view = ask(url, None, lambda client: client.book(market, depth))
    lines = [("", price, qty) for price, qty in reversed(view.asks)]
    lines += [(qty, price, "") for price, qty in view.bids]
    show(view, as_json, lambda: rows(market, ["bid qty>", "price>", "ask qty>"], lines))


@app.command()
def watch(
    market: Market,
    seconds: Annotated[float, typer.Option(help="stop after so long; 0: until Ctrl-C")] = 0,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Follow a market's book and trades. With --json, one line per message of its channels.

    Example: hashpit watch SHA256-20261124
    """

    async def work(client: Client) -> None:
        try:
            async with asyncio.timeout(seconds or None):
                await (_watch_json if as_json else _watch)(client, market)
        except TimeoutError:
            pass

    ask(url, None, work)


async def _watch_json(client: Client, market: str) -> None:
    async with await client.subscribe(f"book.{market}", f"trades.{market}") as messages:
        async for message in messages:
            print_json(message)


async def _watch(client: Client, market: str) -> None:
    info = await client.market(market)
    trades: list[wire.TradeView] = []
    async with (
        await client.follow(market, conflated=True) as live,
        await client.subscribe(f"trades.{market}") as messages,
    ):
        with Live(console=out, refresh_per_second=REFRESH_PER_S, screen=out.is_terminal) as screen:
            while not live.ended:
                for message in messages.take():
                    if isinstance(message.data, list):
                        trades = [*message.data[::-1], *trades][:WATCH_TRADES]
                screen.update(_picture(info, live.book, trades, client.connected))
                await messages.wait(1 / REFRESH_PER_S)
                await asyncio.sleep(1 / REFRESH_PER_S)
    typer.echo(f"{market} has ended")


def _picture(info: MarketInfo, book: Book, trades: list[wire.TradeView], connected: bool) -> Group:
    """One frame of ``watch``."""
    levels = Table(box=None, padding=(0, 2))
    for column in ("bid qty", f"price (BTC/{info.speed_unit}/day)", "ask qty"):
        levels.add_column(column, justify="right")
    asks = [level for level, _ in zip(book.asks(), range(WATCH_LEVELS), strict=False)]
    bids = [level for level, _ in zip(book.bids(), range(WATCH_LEVELS), strict=False)]
    for price, qty in reversed(asks):
        levels.add_row("", Text(book.price.format(price), style="red"), book.qty.format(qty))
    for price, qty in bids:
        levels.add_row(book.qty.format(qty), Text(book.price.format(price), style="green"), "")
    tape = Table(box=None, padding=(0, 2))
    for column in ("time (UTC)", "price", "qty"):
        tape.add_column(column, justify="right")
    for trade in trades:
        style = "green" if trade.aggressor_side == "buy" else "red"
        tape.add_row(when(trade.ts_us)[11:], Text(trade.price, style=style), trade.qty)
    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row(levels, tape)
    proven = "proven" if book.synced else f"not current: {book.trouble}"
    state = f"{info.market}   gate {when(info.gate_us)}   seq {book.seq} {proven}"
    return Group(Text(state if connected else f"{state}   reconnecting", style="bold"), side_by_side, Text("Ctrl-C to stop"))


# -------------------------------------------------------------------------------------------------------------- orders


@app.command()
def place(
    market: Market,
    side: Annotated[Side, typer.Argument()],
    qty: Annotated[str, typer.Argument(help="in the market's speed unit")],
    price: Annotated[str | None, typer.Option(help="BTC per unit per day; without it, a market order")] = None,
    tif: Annotated[TimeInForce | None, typer.Option(help="default: gtc with a price, ioc without")] = None,
    post_only: Annotated[PostOnly, typer.Option(help="never take: reject, or slide the price")] = PostOnly.OFF,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="only make the position smaller")] = False,
    expires_s: Annotated[int | None, typer.Option(help="for gtd: seconds from now")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="the same id again is not placed again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Place an order. Takes a key with the permission trade.

    Example: hashpit place SHA256-20261124 buy 1.5 --price 0.0005 --key alice.key
    """

    async def work(client: Client) -> wire.OrderResult:
        order = client.place(
            market,
            side.value,
            qty,
            price,
            time_in_force=tif.value if tif else None,
            post_only=post_only.value,
            reduce_only=reduce_only,
            expires_us=None if expires_s is None else time.time_ns() // 1_000 + expires_s * 1_000_000,
            client_order_id=client_order_id,
        )
        return await surely(client, order)

    _show_order(ask(url, key, work), as_json)


@app.command()
def amend(
    order_id: Annotated[int, typer.Argument()],
    price: Annotated[str | None, typer.Option(help="new price")] = None,
    qty: Annotated[str | None, typer.Option(help="new total quantity, filled part included")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change an open order. Only a smaller quantity keeps its place in the queue.

    Example: hashpit amend 42 --qty 1.0 --key alice.key
    """
    command = lambda client: surely(client, client.amend(order_id=order_id, price=price, qty=qty))  # noqa: E731
    _show_order(ask(url, key, command), as_json)


def _show_order(order: wire.OrderResult, as_json: bool) -> None:
    if as_json:
        return print_json(order)
    repeat = "   (placed before: this is its first outcome)" if order.repeat else ""
    filled = f"filled {order.filled_qty}, remaining {order.remaining_qty}"
    out.print(f"order {order.order_id} {order.status}: {order.qty} at {order.price}, {filled}{repeat}")
    if order.fills:
        lines = [(fill.trade_id, fill.price, fill.qty, fill.fee, fill.liquidity) for fill in order.fills]
        out.print(rows("fills", ["trade>", "price>", "qty>", "fee (BTC)>", "as"], lines))


@app.command()
def cancel(
    order_id: Annotated[int | None, typer.Argument(help="order to cancel")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="order to cancel, by your own id")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every open order of the account")] = False,
    market: Annotated[str | None, typer.Option(help="with --all: in this market")] = None,
    side: Annotated[Side | None, typer.Option(help="with --all: on this side")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel one order, or all of them. Takes a key with the permission trade.

    Example: hashpit cancel 42 --key alice.key
    Example: hashpit cancel --all --market SHA256-20261124 --key alice.key
    """
    if (order_id is not None) + (client_order_id is not None) + everything != 1:
        fail("name one order by ORDER_ID or --client-order-id, or say --all", 2)
    if everything:
        side_name: wire.SideName | None = side.value if side else None
        gone = ask(url, key, lambda client: surely(client, client.cancel_all(market, side_name)))
        show(gone, as_json, lambda: f"canceled: {len(gone.canceled)}")
        return
    command = lambda client: surely(  # noqa: E731
        client, client.cancel(order_id=order_id, client_order_id=client_order_id)
    )
    done: wire.CancelResult = ask(url, key, command)
    show(done, as_json, lambda: f"order {done.order_id} canceled: {done.canceled_qty} of it was left")


@app.command()
def orders(
    market: Annotated[str | None, typer.Option(help="in this market only")] = None,
    closed: Annotated[bool, typer.Option("--closed", help="those closed recently instead of open ones")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the account's orders. Takes a key with the permission read.

    Example: hashpit orders --key alice.key
    """
    found = ask(url, key, lambda client: client.orders(market, "closed" if closed else "open", limit))
    lines = [
        (one.order_id, one.market, one.side, one.price, one.qty, one.filled_qty, one.remaining_qty, one.status) for one in found
    ]
    columns = ["order>", "market", "side", "price>", "qty>", "filled>", "remaining>", "status"]
    show(found, as_json, lambda: rows("orders", columns, lines))


# --------------------------------------------------------------------------------------------------------------- entry


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hashpit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    pass


def main() -> None:
    """The command's entry point."""
    try:
        app()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()


if __name__ == "__main__":
    main()
