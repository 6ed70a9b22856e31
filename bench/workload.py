"""A seeded flow of engine commands: 55 % limit orders near a random-walk mid, 35 % cancels, 5 % takers, 5 % amends.

    mid:  a random walk, one step every fifty commands on average
    55 %  limit order, its distance from the mid normally distributed; one in twelve is priced to cross
    35 %  cancel of a random open order
     5 %  taker: half market orders, half IOC limit orders through the best price
     5 %  amend of a random open order: half reduce its quantity, half move its price

The flow is built with an engine of its own that says which orders are open, so that every cancel and amend finds its order;
the entries are complete before any clock starts. Takers are larger while more than the wanted number of orders rests, which
holds the book at its size. Same arguments, same entries, on every machine.
"""

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from engine.commands import Amend, Cancel, Command, CreateAccount, Deposit, Entry, ListMarket, Place
from engine.core import Engine
from engine.events import Accepted, AccountCreated, Amended, Canceled, Rejected, Trade
from engine.limits import DAY_NS
from engine.types import MarketSpec, OrderType, Side, TimeInForce

SEED: Final = 20_261_124
COMMANDS: Final = 200_000
ACCOUNTS: Final = 1_000
RESTING: Final = 8_000
"""Orders in the book."""

START_NS: Final = 1_800_000_000 * 1_000_000_000
STEP_NS: Final = 10_000
"""Time between two commands: 100,000 a second."""
MID_TICKS: Final = 45_000
SPREAD_TICKS: Final = 88
"""Standard deviation of a limit order's distance from the mid; about 500 levels when 8,000 orders rest."""
CROSSING: Final = 1 / 12
MID_STEP: Final = 0.02
QTY_MAX_LOTS: Final = 100
DEPOSIT_MSAT: Final = 10**13
SYMBOL: Final = "SHA256-20270116"


class Workload(NamedTuple):
    """``setup`` makes market, accounts, deposits and the resting orders; ``commands`` is the mix."""

    setup: list[Entry]
    commands: list[Entry]
    counts: dict[str, int]
    """Commands by kind, and what they led to: trades, orders resting and price levels (least and most)."""


def market(symbol: str = SYMBOL) -> MarketSpec:
    """A daily SHA256 market: 1 sat per PH/s per day a tick, 0.001 PH/s a lot, usual fees and bond."""
    gate_ns = START_NS + DAY_NS
    return MarketSpec(
        symbol=symbol,
        algorithm="SHA256",
        speed_unit="PH/s",
        tick_size="0.00000001",
        lot_size="0.001",
        tick_lot_msat=1,
        lot_hashrate=10**12,
        gate_ns=gate_ns,
        period_start_ns=gate_ns,
        period_end_ns=gate_ns + DAY_NS,
        settle_ns=gate_ns + DAY_NS,
        reference_price=MID_TICKS,
        price_max=10**7,
        qty_max=10**9,
    )


def build(seed: int = SEED, commands: int = COMMANDS, accounts: int = ACCOUNTS, resting: int = RESTING) -> Workload:
    """Build the flow. Takes about as long as applying it twice."""
    builder = _Builder(seed, resting)
    builder.send(ListMarket(market()))
    for number in range(accounts):
        builder.create_account(f"trader-{number}")
    while len(builder.open) < resting:
        builder.limit()
    setup = builder.entries
    builder.entries = []
    for _ in range(commands):
        builder.step()
    return Workload(setup, builder.entries, builder.counts)


def grown(seed: int, accounts: int, resting: int) -> Iterator[Entry]:
    """The mix from an empty book until so many orders rest."""
    builder = _Builder(seed, resting)
    builder.send(ListMarket(market()))
    for number in range(accounts):
        builder.create_account(f"trader-{number}")
    while len(builder.open) < resting:
        builder.step()
        yield from builder.entries
        builder.entries.clear()


class _Builder:
    def __init__(self, seed: int, resting: int) -> None:
        self.rng = random.Random(seed)
        self.resting = resting
        self.engine = Engine()
        self.entries: list[Entry] = []
        self.accounts: list[int] = []
        self.mid = MID_TICKS
        self.placed = 0
        # ids of open orders, in no order that matters, and where each stands in that list
        self.open: list[int] = []
        self.place_of: dict[int, int] = {}
        self.owner: dict[int, int] = {}
        names = ("limit", "cancel", "taker", "amend", "trades", "crossing", "rejects")
        self.counts: dict[str, int] = dict.fromkeys(names, 0)
        self.counts |= {"resting_min": 2**62, "resting_max": 0, "levels_min": 2**62, "levels_max": 0}

    def step(self) -> None:
        rng = self.rng
        if rng.random() < MID_STEP:
            self.mid += rng.choice((-1, 1))
        chance = rng.random()
        if chance < 0.55 or not self.open:
            self.counts["limit"] += 1
            self.limit()
        elif chance < 0.90:
            self.counts["cancel"] += 1
            order_id = rng.choice(self.open)
            self.send(Cancel(self.owner[order_id], order_id))
        elif chance < 0.95:
            self.counts["taker"] += 1
            self.taker()
        else:
            self.counts["amend"] += 1
            self.amend()
        self.measure()

    def limit(self) -> None:
        if self.rng.random() < CROSSING and len(self.open) >= self.resting:
            side, price, qty = self.aggressive()
            self.place(side, OrderType.LIMIT, price, qty, TimeInForce.GTC)
            return
        distance = int(abs(self.rng.gauss(0.0, SPREAD_TICKS)))
        side = self.rng.choice((Side.BUY, Side.SELL))
        price = self.mid - distance if side is Side.BUY else self.mid + 1 + distance
        self.place(side, OrderType.LIMIT, price, self.qty(), TimeInForce.GTC)

    def taker(self) -> None:
        side, price, qty = self.aggressive()
        if self.rng.random() < 0.5:
            self.place(side, OrderType.MARKET, 0, qty, TimeInForce.IOC)
        else:
            self.place(side, OrderType.LIMIT, price, qty, TimeInForce.IOC)

    def aggressive(self) -> tuple[Side, int, int]:
        """Side, price up to four ticks through the best one, and quantity of an order that takes."""
        side = self.rng.choice((Side.BUY, Side.SELL))
        book = self.engine.markets[SYMBOL].book
        best = (book.best_ask if side is Side.BUY else book.best_bid) or self.mid
        through = self.rng.randrange(5)
        qty = self.qty() * (3 if len(self.open) > self.resting else 1)
        return side, best + through if side is Side.BUY else best - through, qty

    def amend(self) -> None:
        order_id = self.rng.choice(self.open)
        account = self.owner[order_id]
        order = self.engine.accounts[account].orders[order_id]
        if order.remaining > 1 and self.rng.random() < 0.5:
            self.send(Amend(account, order_id, "", 0, order.filled + order.remaining // 2))
        else:
            step = self.rng.choice((-3, -2, -1, 1, 2, 3))
            self.send(Amend(account, order_id, "", order.price + step, 0))

    def qty(self) -> int:
        return self.rng.randint(1, QTY_MAX_LOTS)

    def place(self, side: Side, order_type: OrderType, price: int, qty: int, time_in_force: TimeInForce) -> None:
        self.placed += 1
        account = self.rng.choice(self.accounts)
        key = f"c{self.placed}"
        self.send(Place(account, SYMBOL, side, order_type, price, qty, time_in_force, client_order_id=key))

    def create_account(self, name: str) -> None:
        event = self.send(CreateAccount(name))
        assert type(event) is AccountCreated, event
        self.accounts.append(event.account)
        self.send(Deposit(event.account, DEPOSIT_MSAT, "first"))

    def send(self, command: Command) -> object:
        """Append the entry, apply it, and follow which orders are open; returns its first event."""
        seq = self.engine.seq + 1
        entry = Entry(seq, START_NS + seq * STEP_NS, command)
        self.entries.append(entry)
        events = self.engine.apply(entry)
        for event in events:
            if type(event) is Accepted:
                if event.resting_qty:
                    self.opened(event.order_id, event.account)
                if event.filled_qty and event.time_in_force is TimeInForce.GTC:
                    self.counts["crossing"] += 1
            elif type(event) is Trade:
                self.counts["trades"] += 1
                if not event.maker_remaining:
                    self.closed(event.maker_order_id)
            elif type(event) is Amended:
                if not event.resting_qty:
                    self.closed(event.order_id)
            elif type(event) is Canceled:
                if event.resting:
                    self.closed(event.order_id)
            elif type(event) is Rejected:
                self.counts["rejects"] += 1
        return events[0]

    def opened(self, order_id: int, account: int) -> None:
        self.owner[order_id] = account
        self.place_of[order_id] = len(self.open)
        self.open.append(order_id)

    def closed(self, order_id: int) -> None:
        del self.owner[order_id]
        place = self.place_of.pop(order_id)
        last = self.open.pop()
        if last != order_id:
            self.open[place] = last
            self.place_of[last] = place

    def measure(self) -> None:
        counts = self.counts
        book = self.engine.markets[SYMBOL].book
        resting, levels = len(self.open), len(book.bids) + len(book.asks)
        counts["resting_min"] = min(counts["resting_min"], resting)
        counts["resting_max"] = max(counts["resting_max"], resting)
        counts["levels_min"] = min(counts["levels_min"], levels)
        counts["levels_max"] = max(counts["levels_max"], levels)
