"""``hashpit demo``: a whole exchange on this machine, alive within seconds, for looking around and for trying bots on.

Makes a data directory, starts the server out of it as a process of its own, opens accounts with money and keys, and runs
makers, takers and a simulated meter against it over its public protocol, as any bot would. Everything it does can be done
by hand with the other commands. Starting it again goes on where it was: accounts, keys and markets are kept.
"""

import asyncio
import random
import re
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from engine.rejects import RejectCode
from engine.types import FEES_ACCOUNT
from gateway.algorithms import ALGORITHMS
from gateway.auth import KeyStore
from gateway.config import CONFIG_FILE
from gateway.wire import AnyMarketInfo, ChannelMessage, LiveMarketInfo, LiveTickerView, MarketInfo, Permission, TickerView
from hashpit.bots.bidder import Bidder, BidderSettings
from hashpit.bots.maker import Maker, MakerSettings
from hashpit.bots.rig import Rig, RigSettings
from hashpit.bots.taker import Taker, TakerSettings
from hashpit.client import Client
from hashpit.errors import Closed, HashpitError, Rejected
from hashpit.keys import Key, generate, load
from hashpit.messages import DeliveryAssigned, DeliverySettled, Fill, MarketListed, MarketStateChanged, StatusSnapshot
from hashpit.meter import Meter, MeterSettings
from hashpit.readers import Subscription

ADMIN_FILE: Final = "admin.key"
LOG_FILE: Final = "server.log"
DAY_US: Final = 86_400_000_000
START_S: Final = 20.0
"""How long the server may take until it listens."""
STOP_S: Final = 10.0
"""How long it may take to stop by itself; then it is killed, which loses nothing that was acknowledged."""
MONEY: Final = Decimal(10)
"""BTC that every demo account is given, and topped up to when it has less than half of it at the start."""
POOL: Final = "stratum+tcp://pool.example:3333"
"""Where the bots point hashrate."""
MOST: Final = Decimal("1.2")
"""What the bid that you are told to place pays, in usual prices: as much as the most eager bidder."""
FLOW_MONEY: Final = Decimal("0.5")
"""BTC per day that the hashrate which a bidder wants is about worth."""
QUOTE_MONEY: Final = Decimal("0.002")
"""BTC per day that one quote of a maker is about worth, whatever the algorithm."""
BOT: Final = Path("docs/snippets/bot.py")
"""The bot of the README, where the demo runs in a checkout."""
FIRST: Final = "SHA256"
"""The algorithm that the advice is about."""
LINES: Final = 8
"""Recent trades that the status shows."""
REFRESH_PER_S: Final = 4

CONFIG: Final = (
    """\
# The demo exchange: five algorithms, each with five-minute periods for the impatient and daily ones, and two live markets.
# `hashpit init` writes a file with every setting explained.

[server]
host = "127.0.0.1"

[nicehash]
enabled = true
port = 0
"""
    + "".join(
        f"""
[[listings]]
algorithm = "{algorithm}"
length_s = {length_s}
ahead = 2
"""
        for algorithm in ("SHA256", "SCRYPT", "KHEAVYHASH", "RANDOMX", "ETCHASH")
        for length_s in (300, 86_400)
    )
    + "".join(
        f"""
[[live]]
algorithm = "{algorithm}"
budget_min = "0.0001"
decrease_interval_s = 5
grace_s = 30
idle_s = 60
"""
        for algorithm in ("SHA256", "SCRYPT")
    )
)


class DemoError(Exception):
    """The demo cannot start; the message says why and what to do."""


def create(data: Path, config: str) -> Path:
    """Make a data directory with a configuration and an operator's key; returns the key's file.

    Raises FileExistsError naming what is there already, another OSError, KeyStoreError or KeyFileError when a file cannot be
    written.
    """
    admin = data / ADMIN_FILE
    if data.exists() and not data.is_dir():
        raise NotADirectoryError(f"{data} is not a directory")
    for path in (data / CONFIG_FILE, admin):
        if path.exists():
            raise FileExistsError(f"{path} exists; an exchange lives there already")
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.chmod(0o700)  # one that was there already, too: keys and journal are for nobody else
    private, public = generate()
    key, _ = KeyStore(data).add(
        FEES_ACCOUNT,
        ["read", "admin"],
        public_key=public,
        label="operator",
        created_us=time.time_ns() // 1_000,
    )
    Key(key.key_id, "ed25519", private_key=private).save(admin)
    (data / CONFIG_FILE).touch(mode=0o600)
    (data / CONFIG_FILE).write_text(config, encoding="utf-8")
    return admin


# ---------------------------------------------------------------------------------------------------------- the server


class Server:
    """The exchange's process."""

    def __init__(self, data: Path, port: int) -> None:
        self._data = data
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.nicehash_url = ""
        """Of NiceHash's API, where the configuration turns it on."""

    async def __aenter__(self) -> "Server":
        with (self._data / LOG_FILE).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", str(self._data), "--port", str(self._port)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its bots first
            )
        assert self._process.stdout is not None, "it is a pipe"
        try:
            async with asyncio.timeout(START_S):
                line = (await self._process.stdout.readline()).decode()
        except TimeoutError:
            line = ""
        found = re.match(r"hashpit: (wss?://\S+)", line)
        if found is None:
            await self.__aexit__()
            why = (self._data / LOG_FILE).read_text(errors="replace").strip().splitlines()[-1:]
            hint = " Is another server running? Choose another --port." if "cannot listen" in "".join(why) else ""
            raise DemoError(f"the server did not start: {''.join(why)} (see {self._data / LOG_FILE}){hint}")
        self.url = found[1]
        nicehash = re.search(r"NiceHash's API (https?://\S+)", line)
        self.nicehash_url = nicehash[1] if nicehash is not None else ""
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._process is not None, "it was started"
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.communicate()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()

    async def ended(self) -> None:
        """Wait for its end, which nobody asked for. Raises DemoError."""
        assert self._process is not None, "it was started"
        code = await self._process.wait()
        raise DemoError(f"the server ended with code {code} (see {self._data / LOG_FILE})")


async def account(admin: Client, data: Path, name: str, permissions: list[Permission], money: bool = True) -> Path:
    """An account of that name with money and a key file; what is there already is kept. Returns the key file."""
    try:
        number = (await admin.create_account(name)).account
    except Rejected as error:
        if error.code != RejectCode.ACCOUNT_NAME_TAKEN:
            raise
        number = int(error.data.bound)
    file = data / f"{name}.key"
    known = {key.key for key in await admin.keys(number)}
    if not file.exists() or load(file).key not in known:
        private, public = generate()
        added = await admin.add_key(number, permissions, public_key=public, label=f"demo {name}")
        file.unlink(missing_ok=True)
        Key(added.key.key, "ed25519", private_key=private).save(file)
    if money:
        async with Client(admin.url, load(file)) as client:
            balance = Decimal((await client.balances()).balance)
        if balance < MONEY / 2:
            await admin.deposit(number, MONEY - balance)
    return file


# ------------------------------------------------------------------------------------------------------------ the bots

Bot = Callable[[Client, MarketInfo], Coroutine[Any, Any, None]]
M = TypeVar("M", MarketInfo, LiveMarketInfo)


def sized(market: MarketInfo, money: Decimal) -> str:
    """How much of a market's hashrate costs about ``money`` BTC per day, in whole lots and at least one."""
    lots = (money / Decimal(market.reference_price) / Decimal(market.lot_size)).to_integral_value(ROUND_DOWN)
    return f"{max(lots, Decimal(1)) * Decimal(market.lot_size):f}"


def maker(half_spread_bps: int) -> Bot:
    """A maker for each market; wider ones stand behind narrower ones."""

    async def bot(client: Client, market: MarketInfo) -> None:
        settings = MakerSettings(
            market=market.market,
            qty=sized(market, QUOTE_MONEY),
            position_max=sized(market, QUOTE_MONEY * 20),
            half_spread_bps=half_spread_bps,
        )
        await Maker(client, settings).run()

    return bot


async def taker(client: Client, market: MarketInfo) -> None:
    settings = TakerSettings(
        market=market.market,
        qty_max=sized(market, QUOTE_MONEY * 2),
        position_max=sized(market, QUOTE_MONEY * 10),
        destination_url=POOL,
    )
    await Taker(client, settings).run()


def bidder(share: str, most: str) -> Callable[[Client, LiveMarketInfo], Coroutine[Any, Any, None]]:
    """A bidder that wants a share of FLOW_MONEY's hashrate, and pays up to ``most`` times the usual price."""

    async def bot(client: Client, market: LiveMarketInfo) -> None:
        usual = Decimal(ALGORITHMS[market.algorithm].reference_price)
        settings = BidderSettings(
            market=market.market,
            limit=in_lots(market, FLOW_MONEY * Decimal(share)),
            price_start=to_tick(market, usual * Decimal("0.9")),
            price_max=to_tick(market, usual * Decimal(most)),
            budget="0.0005",
            url=POOL,
            worker="demo",
            step=to_tick(market, usual / 50),
        )
        await Bidder(client, settings).run()

    return bot


async def rigs(client: Client, market: LiveMarketInfo) -> None:
    """Several rigs in each live market, some of which work for less than others."""
    usual = Decimal(ALGORITHMS[market.algorithm].reference_price)
    await client.cancel_all(market.market)  # what an earlier run left
    async with asyncio.TaskGroup() as tasks:
        for number, least in enumerate(("0.80", "0.90", "0.95", "1.00", "1.05")):
            settings = RigSettings(
                market=market.market, price=to_tick(market, usual * Decimal(least)), speed=in_lots(market, FLOW_MONEY / 3)
            )
            tasks.create_task(Rig(client, settings, random.Random(f"{market.market}/{number}")).run())


def in_lots(market: LiveMarketInfo, money: Decimal) -> str:
    """How much hashrate costs about ``money`` BTC per day, in whole lots and at least the market's smallest speed."""
    speed = money / Decimal(ALGORITHMS[market.algorithm].reference_price)
    lots = max(speed, Decimal(market.speed_min)) / Decimal(market.lot_size)
    return f"{lots.to_integral_value(ROUND_DOWN) * Decimal(market.lot_size):f}"


def to_tick(market: LiveMarketInfo, price: Decimal) -> str:
    """A price on the tick below, and at least one tick."""
    ticks = max(price / Decimal(market.tick_size), Decimal(1)).to_integral_value(ROUND_DOWN)
    return f"{ticks * Decimal(market.tick_size):f}"


async def crew(url: str, key: Key, kind: type[M], bot: Callable[[Client, M], Coroutine[Any, Any, None]]) -> None:
    """Run one bot in every open market of a kind, and in every one that opens later. Ends them all when canceled."""
    async with (
        Client(url, key) as client,
        await client.subscribe("status") as status,
        asyncio.TaskGroup() as tasks,
    ):
        running: set[str] = set()

        def start(market: AnyMarketInfo) -> None:
            if isinstance(market, kind) and market.state == "open" and market.market not in running:
                running.add(market.market)
                tasks.create_task(bot(client, market), name=f"bot in {market.market}")

        async for message in status:
            match message.data:
                case StatusSnapshot(markets=markets):
                    for market in markets:
                        start(market)
                case MarketListed(terms=market):
                    start(market)
                case MarketStateChanged(market=symbol, state="settled"):
                    running.discard(symbol)


async def meter(url: str, key: Key) -> None:
    async with Client(url, key) as client:
        await Meter(client, MeterSettings()).run()


# ---------------------------------------------------------------------------------------------------------- the status


class Board:
    """What is going on, as a picture on a terminal or as lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.trades = 0
        """Trades seen so far."""
        self._console = console
        self.flows = 0
        """Flows that started so far."""
        self._tickers: dict[str, TickerView] = {}
        self._live: dict[str, LiveTickerView] = {}
        self._units: dict[str, str] = {}
        """The speed unit of each market."""
        self._lines: deque[str] = deque(maxlen=LINES)

    def learn(self, message: ChannelMessage) -> None:
        """Take in one message of any channel."""
        data = message.data
        if isinstance(data, TickerView):
            self._tickers[data.market] = data
        elif isinstance(data, LiveTickerView):
            self._live[data.market] = data
        elif isinstance(data, StatusSnapshot):
            self._units.update((market.market, market.speed_unit) for market in data.markets)
        elif isinstance(data, MarketListed):
            self._units[data.market] = data.terms.speed_unit
        elif isinstance(data, MarketStateChanged) and data.state != "open":
            for known in (self._tickers, self._live):
                known.pop(data.market, None)
            if data.state == "settled":
                self._units.pop(data.market, None)
        elif isinstance(data, Fill):
            self._say(message.ts_us, f"you: {data.side} {data.qty} at {data.price} in {data.market}")
        elif isinstance(data, DeliveryAssigned):
            told = f"you: {data.role} of {data.qty} in {data.market}, delivery {data.delivery_id}"
            self._say(message.ts_us, f"{told}, {clock(data.period_start_us)} to {clock(data.period_end_us)}")
        elif isinstance(data, DeliverySettled):
            self._say(message.ts_us, f"you: {settled(data)}")
        elif isinstance(data, list) and message.type == "event":
            tape, _, market = message.channel.partition(".")
            unit = self._units.get(market, "")
            if tape == "flows":
                self.flows += len(data)
                for flow in data:
                    self._say(message.ts_us, f"{market:28} flow {flow.speed:>12} {unit} at {flow.price}")
            else:
                self.trades += len(data)
                for trade in data:
                    self._say(message.ts_us, f"{market:28} {trade.aggressor_side:4} {trade.qty:>12} {unit} at {trade.price}")

    def picture(self) -> Group:
        """One frame."""
        table = Table(box=None, padding=(0, 1), pad_edge=False)
        for column in ("market", "unit", "bid", "ask", "last", "trades"):
            table.add_column(column, justify="left" if column in ("market", "unit") else "right", no_wrap=True)
        # Those that the advice is about first, as not all may fit.
        tickers = sorted(self._tickers.values(), key=lambda ticker: (not ticker.market.startswith(FIRST), ticker.market))
        live = sorted(self._live.values(), key=lambda ticker: (not ticker.market.startswith(FIRST), ticker.market))
        room = max(1, self._console.height - LINES - len(live) - 9)
        for ticker in tickers[:room]:
            table.add_row(
                ticker.market, self._units.get(ticker.market, ""), ticker.bid, ticker.ask, ticker.last, str(ticker.trades)
            )
        if len(tickers) > room:
            table.add_row(f"and {len(tickers) - room} more markets")
        flowing = Table(box=None, padding=(0, 1), pad_edge=False, collapse_padding=True)  # 80 columns hold it
        for column in ("live market", "unit", "bid", "ask", "marginal", "paid", "flows", "of"):
            flowing.add_column(column, justify="left" if column in ("live market", "unit") else "right", no_wrap=True)
        for one in live:
            prices = one.bid, one.ask, one.marginal, one.paying_price
            flowing.add_row(one.market, self._units.get(one.market, ""), *prices, one.assigned, one.offered)
        return Group(Text(), table, Text(), flowing, Text(), *(Text(line, style="dim") for line in self._lines))

    def _say(self, ts_us: int, line: str) -> None:
        line = f"{clock(ts_us)} {line}"
        self._lines.append(line)
        if not self._console.is_terminal:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def clock(us: int) -> str:
    """The time of day of the wire's time, in UTC."""
    return time.strftime("%H:%M:%S", time.gmtime(us / 1_000_000))


def settled(delivery: DeliverySettled) -> str:
    """One line on how a delivery ended for you."""
    hundredths = int(delivery.delivered_hashes) * 10_000 // max(1, int(delivery.contracted_hashes))
    money = (
        f"paid {delivery.paid}, bond back {delivery.bond_released}"
        if delivery.role == "seller"
        else f"refund {delivery.refund}, compensation {delivery.compensation}"
    )
    delivered = f"{hundredths // 100}.{hundredths % 100:02} % delivered"
    return f"delivery {delivery.delivery_id} in {delivery.market} settled: {delivered}, {money} BTC"


async def watch(url: str, key: Key, board: Board) -> None:
    """Feed the board: every market's ticker and trades, and your own fills."""
    async with Client(url, key) as client, asyncio.TaskGroup() as tasks:

        async def follow(*channels: str) -> None:
            try:
                async for message in await client.subscribe(*channels):
                    board.learn(message)
            except Closed:
                raise
            except HashpitError:
                pass  # the market has ended

        async def follow_status(status: Subscription) -> None:
            followed: set[str] = set()
            async for message in status:
                board.learn(message)
                match message.data:
                    case StatusSnapshot(markets=listed):
                        markets = [market for market in listed if market.state == "open"]
                    case MarketListed(terms=market):
                        markets = [market]
                    case _:
                        markets = []
                for market in markets:
                    name = market.market
                    if name not in followed:
                        followed.add(name)
                        tape = "flows" if isinstance(market, LiveMarketInfo) else "trades"
                        tasks.create_task(follow(f"ticker.{name}", f"{tape}.{name}"))

        tasks.create_task(follow("account"))
        tasks.create_task(follow_status(await client.subscribe("status")))


# ------------------------------------------------------------------------------------------------------------- the run


def advice(url: str, data: Path, market: MarketInfo, nicehash_url: str, account: int) -> str:
    """What to type next."""
    command = program()
    options = "" if url.endswith(":8765/ws") else f" --url {url}"
    key = data / "you.key"
    bot = f"\n  {near(Path(sys.executable))} {BOT} {url} {key} {market.market}" if BOT.exists() else ""
    admin = data / ADMIN_FILE
    nicehash = (
        f"""
NiceHash's API is at {nicehash_url} (docs/NICEHASH.md); an account's key for it:

  {command} key nicehash --account {account} --key {admin}{options}
"""
        if nicehash_url
        else ""
    )
    live = f"{market.algorithm}-LIVE"
    qty = sized(market, QUOTE_MONEY)
    most = (Decimal(market.reference_price) * MOST).quantize(Decimal(market.tick_size))
    return f"""The exchange runs at {url}, its files are in {data}. In another terminal:

  {command} live {live}{options}
  {command} bid estimate {live} {most} --limit {qty} --budget 0.001{options}
  {command} bid place {live} {most} 0.001 --limit {qty} --to {POOL} --worker you --key {key}{options}
  {command} bid list --key {key}{options}
  {command} flow list --key {key}{options}

  {command} watch {market.market}{options}
  {command} book {market.market}{options}
  {command} place {market.market} buy {qty} --price {market.reference_price} --key {key}{options}
  {command} orders --key {key}{options}
  {command} account show --key {key}{options}{bot}
{nicehash}
Ctrl-C stops it; the next `{command} demo {data}` goes on from here."""


def program() -> str:
    """What to type for ``hashpit`` in the shell that this was started from."""
    return "hashpit" if shutil.which("hashpit") else near(Path(sys.executable).parent / "hashpit")


def near(path: Path) -> str:
    """A path as short as it can be typed from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


async def run(data: Path, port: int = 0, seconds: float = 0, console: Console | None = None) -> int:
    """Run the demo for ``seconds``, or until canceled (0). Raises DemoError when it cannot start or the server fails."""
    console = console or Console()
    task = asyncio.current_task()
    assert task is not None, "it runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if not (data / CONFIG_FILE).exists():
        create(data, CONFIG)
    console.print(f"Starting an exchange in {data} ...", highlight=False)
    async with Server(data, port) as server:
        async with Client(server.url, load(data / ADMIN_FILE)) as admin:
            makers = [await account(admin, data, f"maker-{name}", ["trade", "read"]) for name in ("near", "far")]
            takes = await account(admin, data, "taker", ["trade", "read"])
            bidders = [await account(admin, data, f"bidder-{name}", ["trade", "read"]) for name in ("one", "two", "three")]
            farm = await account(admin, data, "farm", ["trade", "read"])
            meters = await account(admin, data, "meter", ["meter", "read"], money=False)
            you = await account(admin, data, "you", ["trade", "read", "withdraw"])
            market = await first_market(admin)
            mine = next(key.account for key in await admin.keys() if key.key == load(you).key)
        told = advice(server.url, data, market, server.nicehash_url, mine)
        console.print(told, highlight=False, markup=False, soft_wrap=True)
        board = Board(console)
        try:
            async with asyncio.timeout(seconds or None), asyncio.TaskGroup() as tasks:
                for work in (
                    crew(server.url, load(makers[0]), MarketInfo, maker(20)),
                    crew(server.url, load(makers[1]), MarketInfo, maker(60)),
                    crew(server.url, load(takes), MarketInfo, taker),
                    crew(server.url, load(bidders[0]), LiveMarketInfo, bidder("1", "1.05")),
                    crew(server.url, load(bidders[1]), LiveMarketInfo, bidder("0.7", "1.10")),
                    crew(server.url, load(bidders[2]), LiveMarketInfo, bidder("0.4", "1.20")),
                    crew(server.url, load(farm), LiveMarketInfo, rigs),
                    meter(server.url, load(meters)),
                    watch(server.url, load(you), board),
                    server.ended(),
                ):
                    tasks.create_task(work)
                await draw(board, console)
        except TimeoutError:
            console.print(f"{board.trades} trades in {seconds:g} seconds.", highlight=False)
        except BaseExceptionGroup as failures:
            raise first_of(failures) from None
        finally:
            console.print("Stopping ...", highlight=False)
    return 0


def first_of(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong, out of what task groups made of it; the server's end explains everything else."""
    matched, rest = failures.split(DemoError)
    failure: BaseException | None = matched or rest
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    assert failure is not None, "a group is not empty"
    return failure


async def first_market(client: Client) -> MarketInfo:
    """The daily market whose gate is next, one of SHA256 if there is any; the server lists markets a moment after it starts."""
    async with await client.subscribe("status") as status, asyncio.timeout(START_S):
        async for message in status:
            match message.data:
                case StatusSnapshot(markets=listed):
                    markets = listed
                case MarketListed(terms=terms):
                    markets = [terms]
                case _:
                    markets = []
            dated = [one for one in markets if isinstance(one, MarketInfo)]
            daily = [one for one in dated if one.state == "open" and one.period_end_us - one.period_start_us == DAY_US]
            if daily:
                return min(daily, key=lambda one: (one.algorithm != FIRST, one.gate_us, one.market))
    raise DemoError("the exchange lists no daily market")


async def draw(board: Board, console: Console) -> None:
    """Keep the picture current for ever; elsewhere than on a terminal the board prints lines by itself."""
    if not console.is_terminal:
        await asyncio.Event().wait()
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        while True:
            screen.update(board.picture(), refresh=True)
            await asyncio.sleep(1 / REFRESH_PER_S)
