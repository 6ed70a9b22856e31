"""The ``hashpit`` command. Every command that prints data takes ``--json``; every help text has an example.

Talks to an exchange through the SDK only, like any bot. The commands that work on a data directory (serve, init, snapshot,
verify, replay) load the gateway or the engine when they run, and not before.
"""

from hashpit.build import prefer_source

prefer_source()

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast, get_args

import msgspec
import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway import wire
from gateway.nicehash import ids
from gateway.scale import MONEY
from gateway.text import printable
from gateway.wire import LiveMarketInfo, MarketInfo, Permission
from hashpit import __version__, live_cli
from hashpit.book import Book
from hashpit.client import DEFAULT_URL, Client
from hashpit.console import (
    DAY_S,
    EXPIRES_S_MAX,
    REFRESH_PER_S,
    AsJson,
    Data,
    InMarket,
    KeyFile,
    Limit,
    Market,
    Url,
    ask,
    ask_with_key,
    fail,
    fields,
    json_wanted,
    levels_that_fit,
    number,
    os_text,
    out,
    print_json,
    rows,
    show,
    surely,
    symbol,
)
from hashpit.errors import HashpitError
from hashpit.explain import error_object, explain, when
from hashpit.keys import Key, generate
from hashpit.replay import command as replay_command

WATCH_LEVELS = 12
WATCH_TRADES = 12

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
destinations_app = typer.Typer(help="Where hashrate that you buy in dated markets is pointed.", no_args_is_help=True)
app.add_typer(destinations_app, name="destination")
for group, commands in live_cli.COMMANDS:
    app.add_typer(commands, name=group)


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


# ------------------------------------------------------------------------------------------------------- the exchange


@app.command()
def init(data: Data) -> None:
    """Make a data directory: a commented config.toml, and an operator's key.

    Example: hashpit init ./data
    """
    from gateway.auth import KeyStoreError
    from gateway.config import CONFIG_FILE, TEMPLATE
    from hashpit.demo import create, program

    try:
        admin = create(data, TEMPLATE)
    except OSError as error:
        fail(os_text(error))
    except (KeyStoreError, HashpitError) as error:
        fail(str(error))
    day = datetime.fromtimestamp(time.time() + 2 * DAY_S, UTC).date()
    hashpit = program()
    typer.echo(
        f"""Made {data / CONFIG_FILE}
     {admin}   (the operator's key: keep it private)

Next:
  {hashpit} serve {data}
  {hashpit} market list
  {hashpit} market add-live SHA256 --key {admin}
  {hashpit} market add SHA256 --start {day} --price 0.0005 --key {admin}
  {hashpit} account create alice --deposit 0.5 --key {admin}
  {hashpit} key add --account 100 --permission trade --permission read --out alice.key --key {admin}"""
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
    seconds: Annotated[float, typer.Option(min=0, help="stop after so long; 0: run until Ctrl-C")] = 0,
) -> None:
    """Start an exchange with bots and a simulated meter, and say what to type next.

    Example: hashpit demo
    """
    from hashpit.demo import DemoError, run

    try:
        asyncio.run(run(data, port, seconds))
    except OSError as error:
        fail(os_text(error))
    except (DemoError, HashpitError) as error:
        fail(str(error))
    except (KeyboardInterrupt, asyncio.CancelledError):  # Ctrl-C, SIGTERM
        pass
    typer.echo("Stopped.")


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
    count = len(findings.faults)
    found = f"FAULTS: {count}" if count else "OK"
    told = f"{found}: entries {findings.first_seq} to {findings.last_seq}, snapshots: {findings.snapshots}"
    hashed = f"state hash after a replay of everything: {findings.state_hash}"
    show(findings, as_json, lambda: "\n".join([told, *([hashed] if findings.state_hash else []), *findings.faults]))
    if findings.faults:
        raise typer.Exit(1)


app.command("replay")(replay_command)

# ------------------------------------------------------------------------------------------------------------ accounts


class Opened(msgspec.Struct):
    """A new account and what is in it, in BTC."""

    account: int
    name: str
    balance: str


@accounts_app.command("create")
def account_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name of its own")],
    deposit: Annotated[str | None, typer.Option(metavar="BTC", parser=number, help="money to start with")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open an account. Takes an admin key.

    Example: hashpit account create alice --deposit 0.5 --key data/admin.key
    """

    if deposit is not None:
        try:
            positive = MONEY.parse(deposit) > 0
        except ValueError as error:
            fail(f"--deposit: {error}; no account was created", 2)
        if not positive:
            fail("--deposit: expected an amount above zero; no account was created", 2)

    async def work(client: Client) -> Opened:
        account = await surely(client, client.create_account(name))
        if deposit is None:
            return Opened(account.account, account.name, MONEY.format(0))
        # An id of its own, so that whoever repeats the deposit by hand does not pay twice.
        transfer_id = f"open-{account.account}"
        try:
            paid = await surely(client, client.deposit(account.account, deposit, transfer_id))
        except HashpitError as error:
            again = f"hashpit account deposit {account.account} {deposit} --transfer-id {transfer_id}"
            fail(f"account {account.account} created; deposit failed: {explain(error)}; run {again}", error=error_object(error))
        return Opened(account.account, account.name, paid.balance)

    account = ask_with_key(url, key, work)
    show(account, as_json, lambda: fields("account", account))


@accounts_app.command("deposit")
def account_deposit(
    account: Annotated[int, typer.Argument(metavar="ACCOUNT", help="account id")],
    amount: Annotated[str, typer.Argument(metavar="BTC", parser=number)],
    transfer_id: Annotated[str | None, typer.Option(help="the same id again is not paid again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Credit money to an account. Takes an admin key.

    Example: hashpit account deposit 100 0.25 --transfer-id invoice-7 --key data/admin.key
    """
    done = ask_with_key(url, key, lambda client: surely(client, client.deposit(account, amount, transfer_id)))
    show(done, as_json, lambda: fields("deposit", done))


@accounts_app.command("withdraw")
def account_withdraw(
    amount: Annotated[str, typer.Argument(metavar="BTC", parser=number)],
    transfer_id: Annotated[str | None, typer.Option(help="the same id again is not paid again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Take money out of the key's own account. Takes a key with the permission withdraw.

    Example: hashpit account withdraw 0.1 --key alice.key
    """
    done = ask_with_key(url, key, lambda client: surely(client, client.withdraw(amount, transfer_id)))
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

    standing = ask_with_key(url, key, work)
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
    permission: Annotated[list[str], typer.Option(help="read, trade, quote, withdraw, meter, admin; several with commas")],
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
    if not os.access(out_file.parent, os.W_OK | os.X_OK):
        fail(f"{out_file.parent} is not a directory to write a key file into; no key was made")
    permissions = [one for many in permission for one in many.split(",")]
    for one in permissions:
        if one not in get_args(Permission):
            fail(f"--permission {one}: expected one of {', '.join(get_args(Permission))}", 2)
    private, public = ("", "") if hmac else generate()

    async def work(client: Client) -> wire.AddKeyResult:
        return await client.add_key(
            account,
            cast(list[Permission], permissions),
            kind="hmac" if hmac else "ed25519",
            public_key=public,
            ip_list=ip or [],
            label=label,
        )

    added = ask_with_key(url, key, work)
    try:
        if hmac:
            Key(added.key.key, "hmac", secret=added.secret).save(out_file)
        else:
            Key(added.key.key, "ed25519", private_key=private).save(out_file)
    except HashpitError as error:
        fail(f"{error}; revoke {added.key.key} and try again")
    show(added.key, as_json, lambda: fields(f"key, in {out_file}", added.key))


class NiceHashKey(msgspec.Struct):
    """What a client of NiceHash's API is configured with."""

    key: str
    secret: str
    organization: str


@keys_app.command("nicehash")
def key_nicehash(
    account: Annotated[int, typer.Option(help="account that the key speaks for")],
    permission: Annotated[list[str] | None, typer.Option(help="read, trade; several with commas; default: both")] = None,
    ip: Annotated[list[str] | None, typer.Option(help="address or network it may be used from; may be given again")] = None,
    label: Annotated[str, typer.Option(help="a note to find it by")] = "",
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for NiceHash's API and print it: key, secret, organisation id. It is shown this once. Takes an admin key.

    Example: hashpit key nicehash --account 100 --key data/admin.key
    """
    permissions = [one for many in permission or ["read,trade"] for one in many.split(",")]
    for one in permissions:
        if one not in ("read", "trade"):
            fail(f"--permission {one}: NiceHash's API knows read and trade", 2)

    async def work(client: Client) -> NiceHashKey:
        added = await client.add_key(
            account, cast(list[Permission], permissions), kind="nicehash", ip_list=ip or [], label=label
        )
        return NiceHashKey(added.key.key, added.secret, ids.to_uuid(ids.ORGANIZATION, account))

    made = ask_with_key(url, key, work)
    show(made, as_json, lambda: fields("key for NiceHash's API", made))


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
    found = ask_with_key(url, key, lambda client: client.keys(account))
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
    revoked = ask_with_key(url, key, lambda client: client.revoke_key(key_id))
    show(revoked, as_json, lambda: f"{revoked.key} is revoked")


# ------------------------------------------------------------------------------------------------------------- markets


@markets_app.command("list")
def market_list(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List markets and their terms.

    Example: hashpit market list --json
    """
    found = ask(url, None, lambda client: client.markets())
    lines = [_market_line(one) for one in found]
    columns = ["market", "state", "unit", "reference>", "gate (UTC)", "from (UTC)", "until (UTC)"]
    show(found, as_json, lambda: rows("markets", columns, lines))


def _market_line(one: wire.AnyMarketInfo) -> tuple[str, ...]:
    terms = one.market, one.state, one.speed_unit
    if isinstance(one, LiveMarketInfo):
        return *terms, "", "", "now", "-"
    period = [when(us)[5:16] for us in (one.gate_us, one.period_start_us, one.period_end_us)]
    return *terms, one.reference_price, *period


@markets_app.command("add")
def market_add(
    algorithm: Annotated[str, typer.Argument(metavar="ALGORITHM", help="such as SHA256")],
    start: Annotated[datetime, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"], help="UTC; a whole minute")],
    price: Annotated[str, typer.Option(metavar="BTC", parser=number, help="reference price: per unit per day")],
    length: Annotated[int, typer.Option(help="length of the period in seconds")] = 86_400,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a market for one delivery period. Takes an admin key.

    Example: hashpit market add SHA256 --start 2026-11-24 --price 0.0005 --key data/admin.key
    """
    start_us = int(start.replace(tzinfo=UTC).timestamp()) * 1_000_000
    added = ask_with_key(url, key, lambda client: surely(client, client.list_market(algorithm, start_us, length, price)))
    show(added, as_json, lambda: fields("market", added))


@markets_app.command("add-live")
def market_add_live(
    algorithm: Annotated[str, typer.Argument(metavar="ALGORITHM", help="such as SHA256")],
    name: Annotated[str | None, typer.Option(parser=symbol, help="default: the algorithm's with -LIVE")] = None,
    uniform: Annotated[bool, typer.Option("--uniform", help="everybody pays the marginal price, not the own")] = False,
    buyer_fee_bps: Annotated[int, typer.Option(min=0, max=1000, help="on top of what work costs")] = 20,
    seller_fee_bps: Annotated[int, typer.Option(min=0, max=1000, help="of what work earns")] = 10,
    budget_min: Annotated[str | None, typer.Option(metavar="BTC", parser=number, help="smallest budget and refill")] = None,
    decrease_interval_s: Annotated[int | None, typer.Option(min=0, help="between two lower prices of a bid")] = None,
    decrease_step: Annotated[str | None, typer.Option(metavar="BTC", parser=number, help="at most this; 0: any")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a live market. Takes an admin key.

    Example: hashpit market add-live SHA256 --key data/admin.key
    """
    params = wire.ListLiveMarketParams(
        algorithm=algorithm,
        market=name,
        pricing="uniform" if uniform else "pay_as_bid",
        buyer_fee_bps=buyer_fee_bps,
        seller_fee_bps=seller_fee_bps,
        budget_min=budget_min,
        decrease_interval_s=decrease_interval_s,
        decrease_step=decrease_step,
    )
    added = ask_with_key(url, key, lambda client: surely(client, client.list_live_market(params)))
    show(added, as_json, lambda: fields("live market", added))


@markets_app.command("index")
def market_index(
    market: Market,
    price: Annotated[str | None, typer.Argument(metavar="[PRICE]", help="BTC per unit per day; left out: none")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell a live market the index price, which pegged bids can follow. Takes an admin key.

    Example: hashpit market index SHA256-LIVE 0.00052 --key data/admin.key
    """
    done = ask_with_key(url, key, lambda client: surely(client, client.set_index(market, price)))
    show(done, as_json, lambda: f"{done.market}: index {done.price or 'none'}")


@markets_app.command("state")
def market_state(
    market: Market,
    state: Annotated[State, typer.Argument(metavar="STATE", help="closed is for good")],
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change what a market takes. Takes an admin key.

    Example: hashpit market state SHA256-20261124 halted --key data/admin.key
    """
    done = ask_with_key(url, key, lambda client: surely(client, client.set_market_state(market, state.value)))
    show(done, as_json, lambda: f"{done.market} is {done.state}")


@markets_app.command("settle")
def market_settle(
    market: Market,
    index_price: Annotated[
        str | None, typer.Option(metavar="BTC", parser=number, help="what replacing the hashrate cost")
    ] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Settle a market's deliveries as soon as their period is over. Takes an admin key.

    Example: hashpit market settle SHA256-20261124 --index-price 0.00052 --key data/admin.key
    """
    done = ask_with_key(url, key, lambda client: surely(client, client.settle(market, index_price)))
    show(done, as_json, lambda: f"{done.market}: deliveries settled: {len(done.deliveries)}")


# --------------------------------------------------------------------------------------------------------- market data


@app.command()
def book(
    market: Market,
    depth: Annotated[int, typer.Option(min=1, max=1000, help="levels per side")] = 10,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show a dated market's book once.

    Example: hashpit book SHA256-20261124 --depth 5
    """
    view = ask(url, None, lambda client: client.book(market, depth))
    lines = [("", price, qty) for price, qty in reversed(view.asks)]
    lines += [(qty, price, "") for price, qty in view.bids]
    show(view, as_json, lambda: rows(market, ["bid qty>", "price>", "ask qty>"], lines))


@app.command()
def trades(market: Market, limit: Limit = 20, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List a dated market's latest trades, newest first.

    Example: hashpit trades SHA256-20261124 --limit 5
    """
    found = ask(url, None, lambda client: client.trades(market, limit))
    lines = [(one.trade_id, when(one.ts_us), one.aggressor_side, one.price, one.qty) for one in found]
    columns = ["trade>", "time (UTC)", "aggressor", "price>", "qty>"]
    show(found, as_json, lambda: rows(f"trades in {market}", columns, lines))


@app.command()
def watch(
    market: Market,
    seconds: Annotated[float, typer.Option(min=0, help="stop after so long; 0: until Ctrl-C")] = 0,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Follow a dated market's book and trades.

    With --json, one line per message of its channels, and {"connected":false} or true when the connection breaks or is back.

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
    connected = True
    async with await client.subscribe(f"book.{market}", f"trades.{market}") as messages:
        while not messages.ended:
            for message in messages.take():
                print_json(message)
            if client.connected != connected:
                connected = client.connected
                print_json({"connected": connected})
            await messages.wait(1 / REFRESH_PER_S)


async def _watch(client: Client, market: str) -> None:
    info = await client.market(market)
    trades: list[wire.TradeView] = []
    async with (
        await client.follow(market, conflated=True) as live,
        await client.subscribe(f"trades.{market}") as messages,
    ):
        try:
            with Live(console=out, refresh_per_second=REFRESH_PER_S, screen=out.is_terminal) as screen:
                while not live.ended:
                    for message in messages.take():
                        if isinstance(message.data, list):
                            trades = [*message.data[::-1], *trades][:WATCH_TRADES]
                    screen.update(_picture(info, live.book, trades, client.connected))
                    await messages.wait(1 / REFRESH_PER_S)
                    await asyncio.sleep(1 / REFRESH_PER_S)
        finally:
            if not out.is_terminal:
                typer.echo()  # the one picture that goes elsewhere has no end of line
    typer.echo(f"{market} has ended")


def _picture(info: MarketInfo, book: Book, trades: list[wire.TradeView], connected: bool) -> Group:
    """One frame of ``watch``."""
    levels = Table(box=None, padding=(0, 1))
    for column in ("bid qty", f"BTC/{info.speed_unit}/day", "ask qty"):
        levels.add_column(column, justify="right", no_wrap=True)
    shown = levels_that_fit(WATCH_LEVELS)
    asks = [level for level, _ in zip(book.asks(), range(shown), strict=False)]
    bids = [level for level, _ in zip(book.bids(), range(shown), strict=False)]
    for price, qty in reversed(asks):
        levels.add_row("", Text(book.price.format(price), style="red"), book.qty.format(qty))
    for price, qty in bids:
        levels.add_row(book.qty.format(qty), Text(book.price.format(price), style="green"), "")
    tape = Table(box=None, padding=(0, 1))
    for column in ("time (UTC)", "price", "qty"):
        tape.add_column(column, justify="right", no_wrap=True)
    for trade in trades:
        style = "green" if trade.aggressor_side == "buy" else "red"
        tape.add_row(when(trade.ts_us)[11:], Text(printable(trade.price), style=style), printable(trade.qty))
    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row(levels, tape)
    verified = "verified" if book.synced else f"not current: {book.trouble}"
    state = printable(f"{info.market}   gate {when(info.gate_us)}   seq {book.seq} {verified}")
    return Group(Text(state if connected else f"{state}   reconnecting", style="bold"), side_by_side, Text("Ctrl-C to stop"))


app.command("live")(live_cli.live)

# -------------------------------------------------------------------------------------------------------------- orders


@app.command()
def place(
    market: Market,
    side: Annotated[Side, typer.Argument(metavar="SIDE")],
    qty: Annotated[str, typer.Argument(metavar="QTY", parser=number, help="in the market's speed unit")],
    price: Annotated[
        str | None, typer.Option(metavar="BTC", parser=number, help="per unit per day; without it, a market order")
    ] = None,
    tif: Annotated[TimeInForce | None, typer.Option(help="default: gtc with a price, ioc without")] = None,
    post_only: Annotated[PostOnly, typer.Option(help="never take: reject, or slide the price")] = PostOnly.OFF,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="only make the position smaller")] = False,
    expires_s: Annotated[int | None, typer.Option(min=1, max=EXPIRES_S_MAX, help="for gtd: seconds from now")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="the same id again is not placed again")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Place an order in a dated market. Takes a key with the permission trade.

    Example: hashpit place SHA256-20261124 buy 1.5 --price 0.0005 --key alice.key
    """

    if (tif is TimeInForce.GTD) != (expires_s is not None):
        fail("--tif gtd and --expires-s SECONDS go together", 2)

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

    placed = ask_with_key(url, key, work)
    _show_order(placed, as_json)
    if placed.status == "canceled" and not as_json:
        out.print("What is left is canceled, as the order does not wait: the book offers no more within its price.")


@app.command()
def amend(
    order_id: Annotated[int | None, typer.Argument(metavar="ORDER_ID", help="order to change")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="order to change, by your own id")] = None,
    price: Annotated[str | None, typer.Option(metavar="BTC", parser=number, help="new price")] = None,
    qty: Annotated[str | None, typer.Option(metavar="QTY", parser=number, help="new total, filled part included")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Change an open order of a dated market. Only a smaller quantity keeps its place in the queue.

    Example: hashpit amend 42 --qty 1.0 --key alice.key
    """
    if (order_id is None) == (client_order_id is None):
        fail("name the order by ORDER_ID or --client-order-id", 2)

    async def work(client: Client) -> wire.OrderResult:
        return await surely(client, client.amend(order_id=order_id, client_order_id=client_order_id, price=price, qty=qty))

    _show_order(ask_with_key(url, key, work), as_json)


def _show_order(order: wire.OrderResult, as_json: bool) -> None:
    if as_json:
        return print_json(order)
    repeat = "   (placed before: this is its first outcome)" if order.repeat else ""
    filled = f"filled {order.filled_qty}, remaining {order.remaining_qty}"
    out.print(printable(f"order {order.order_id} {order.status}: {order.qty} at {order.price}, {filled}{repeat}"))
    if order.fills:
        lines = [(fill.trade_id, fill.price, fill.qty, fill.fee, fill.liquidity) for fill in order.fills]
        out.print(rows("fills", ["trade>", "price>", "qty>", "fee (BTC)>", "as"], lines))


@app.command()
def cancel(
    order_id: Annotated[int | None, typer.Argument(metavar="ORDER_ID", help="order to cancel")] = None,
    client_order_id: Annotated[str | None, typer.Option(help="order to cancel, by your own id")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every open order, bid and ask of the account")] = False,
    market: InMarket = None,
    side: Annotated[Side | None, typer.Option(help="with --all: on this side only; bids buy, asks sell")] = None,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Cancel one order, bid or ask, or all of them. Takes a key with the permission trade.

    Example: hashpit cancel 42 --key alice.key
    Example: hashpit cancel --all --market SHA256-20261124 --key alice.key
    """
    if (order_id is not None) + (client_order_id is not None) + everything != 1:
        fail("name one order by ORDER_ID or --client-order-id, or say --all", 2)
    if (market or side) and not everything:
        fail("--market and --side go with --all", 2)
    if everything:
        side_name: wire.SideName | None = side.value if side else None
        gone = ask_with_key(url, key, lambda client: surely(client, client.cancel_all(market, side_name)))
        show(gone, as_json, lambda: f"canceled: {len(gone.canceled)}")
        return
    command = lambda client: surely(  # noqa: E731
        client, client.cancel(order_id=order_id, client_order_id=client_order_id)
    )
    done: wire.CancelResult = ask_with_key(url, key, command)
    left = f"{done.canceled_qty} of it was left"
    if done.returned:  # a bid
        held = "what its last work can cost is held until that is reported"
        left = f"{done.spent} BTC spent, {done.returned} BTC returned; {held}"
    show(done, as_json, lambda: f"order {done.order_id} canceled: {left}")


@app.command()
def orders(
    market: InMarket = None,
    closed: Annotated[bool, typer.Option("--closed", help="those closed recently instead of open ones")] = False,
    limit: Limit = 100,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the account's orders in dated markets; bid list and ask list have the others. Takes a key with the permission read.

    Example: hashpit orders --key alice.key
    """
    found = ask_with_key(url, key, lambda client: client.orders(market, "closed" if closed else "open", limit))
    lines = [
        (one.order_id, one.market, one.side, one.price, one.qty, one.filled_qty, one.remaining_qty, one.status) for one in found
    ]
    columns = ["order>", "market", "side", "price>", "qty>", "filled>", "remaining>", "status"]
    show(found, as_json, lambda: rows("orders", columns, lines))


@app.command()
def fills(
    market: InMarket = None,
    limit: Limit = 100,
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """List the account's latest fills, newest first. Takes a key with the permission read.

    Example: hashpit fills --market SHA256-20261124 --key alice.key
    """
    found = ask_with_key(url, key, lambda client: client.fills(market, limit))
    lines = [
        (one.trade_id, when(one.ts_us), one.market, one.order_id, one.side, one.price, one.qty, one.fee, one.liquidity)
        for one in found
    ]
    columns = ["trade>", "time (UTC)", "market", "order>", "side", "price>", "qty>", "fee (BTC)>", "as"]
    show(found, as_json, lambda: rows("fills", columns, lines))


@destinations_app.command("set")
def destination_set(
    market: Market,
    pool: Annotated[str, typer.Argument(metavar="POOL", help="stratum+tcp://host:port or stratum+ssl://host:port")],
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="name of the worker at that pool")],
    url: Url = DEFAULT_URL,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Say where hashrate bought in a market shall be pointed. Takes a key with the permission trade.

    Example: hashpit destination set SHA256-20261124 stratum+tcp://pool.example:3333 alice.1 --key alice.key
    """
    done = ask_with_key(url, key, lambda client: surely(client, client.set_destination(market, pool, worker)))
    show(done, as_json, lambda: f"{done.market}: to {done.url}, worker {done.worker}")


# --------------------------------------------------------------------------------------------------------------- entry


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hashpit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")] = False,
) -> None:
    json_wanted.set(False)


def main() -> None:
    """The command's entry point."""
    try:
        app()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()


if __name__ == "__main__":
    main()
