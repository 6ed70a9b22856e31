"""Seeded streams of commands, for comparing engines: every command, order type and refusal, corners included.

A stream looks at a :class:`NaiveExchange` that has applied what came before, so that it can aim: at open orders, at
prices that cross, at the next instant when something falls due, and one step past any bound. Limits are shrunk so
that the exchange is full most of the time.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any

from engine.commands import (
    Amend,
    Cancel,
    CancelAll,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListMarket,
    Place,
    ReportWork,
    SetDestination,
    SetMarketState,
    Settle,
    Tick,
    Withdraw,
)
from engine.limits import MONEY_MAX_MSAT, SECOND_NS, SHARES_MAX, WORK_MAX_HASHES, Limits
from engine.types import (
    FEES_ACCOUNT,
    FIRST_ACCOUNT,
    INSURANCE_ACCOUNT,
    MarketSpec,
    MarketState,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.reference.exchange import NaiveExchange, Order

MILLISECOND_NS = 1_000_000

SMALL = Limits(
    accounts_max=8,
    orders_per_account_max=6,
    orders_max=24,
    markets_max=4,
    price_max_ticks=2**40,
    qty_max_lots=2**40,
    client_order_ids_per_account_max=12,
    client_order_id_ns=400 * MILLISECOND_NS,
    expiry_max_ns=3 * SECOND_NS,
    destinations_per_account_max=2,
)

HOSTILE = (-(2**63), -(2**40), -1, 0, 2**31, 2**40, 2**40 + 1, 2**62, 2**63 - 1)
"""Integers that break things, as far as a journal can hold them."""

SYMBOLS = ("SHA256-A", "SHA256-B", "SCRYPT-C", "RANDOMX-D", "KHEAVYHASH-E")
NAMES = ("fees", "insurance", "ada", "bob", "cyd", "dan", "eve", "fay", "gus", "", "x" * 64, "y" * 65, "a\nb", " x")
CLIENT_ORDER_IDS = (*(f"id-{number}" for number in range(24)), "a" * 36, "a" * 37, "no spaces", "é")
URLS = (
    "stratum+tcp://pool.example:3333",
    "stratum+tcp://other.example:1",
    "stratum+ssl://[::1]:65535",
    "stratum+tcp://pool.example",
    "stratum+tcp://pool.example:65536",
    "stratum+tcp://pool.example:0",
    "stratum+tcp://pool.example/path:80",
    "stratum+tcp://:80",
    "stratum+tcp://pool example:80",
    "http://pool.example:80",
    "stratum+tcp://" + "p" * 240 + ":80",
    "",
)


class Stream:
    """Commands for ``exchange``; the same seed and the same answers make the same stream."""

    def __init__(self, exchange: NaiveExchange, seed: int) -> None:
        self.exchange = exchange
        self.rng = random.Random(seed)
        self.seed = seed
        # Some streams are poor, so that funds run out; some are as rich as money can be.
        self.rich = seed % 4 == 3
        self.makers: list[tuple[Callable[[], Command], int]] = [
            (self.place, 600),
            (self.amend, 110),
            (self.cancel, 60),
            (self.cancel_all, 12),
            (self.set_destination, 20),
            (self.create_account, 10),
            (self.deposit, 40),
            (self.withdraw, 15),
            (self.list_market, 30),
            (self.set_market_state, 18),
            (self.report_work, 60),
            (self.settle, 12),
            (self.tick, 10),
        ]

    def entries(self, count: int) -> Iterator[Entry]:
        """The caller applies each entry to the exchange before it takes the next."""
        functions = [function for function, _ in self.makers]
        weights = [weight for _, weight in self.makers]
        seq = 0
        now = 1_000 * SECOND_NS
        for command in self.opening():
            seq += 1
            yield Entry(seq, now, command)
        while seq < count:
            seq += 1
            now = self.step(now)
            self.now = now
            command = self.rng.choices(functions, weights)[0]()
            yield Entry(seq, now, command, self.deadline(now))

    def opening(self) -> Iterator[Command]:
        self.now = 1_000 * SECOND_NS
        for name in NAMES[2:6]:
            yield CreateAccount(name)
        for account in range(FIRST_ACCOUNT, FIRST_ACCOUNT + 4):
            yield Deposit(account, self.amount(), f"open-{account}")
        for symbol in SYMBOLS[:2]:
            yield ListMarket(self.spec(symbol))

    def step(self, now: int) -> int:
        """Mostly no time at all, often a little, at times exactly to what falls due next, or far past it."""
        dice = self.rng.random()
        if dice < 0.6:
            return now
        if dice < 0.984:
            return now + self.rng.randrange(1, 4 * MILLISECOND_NS)
        due = [work[0] for work in self.exchange.all_work()]
        if dice < 0.994 and due:
            return max(now, min(due) + self.rng.choice((-1, 0, 0, 1)))
        if dice < 0.997 and due:
            return max(now, self.rng.choice(due))
        return now + self.rng.randrange(SECOND_NS // 4)

    def deadline(self, now: int) -> int:
        dice = self.rng.random()
        if dice < 0.95:
            return 0
        return now + self.rng.choice((-1, -1, 0, 1, SECOND_NS))

    # --- Values ---------------------------------------------------------------------------------------------

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def account(self) -> int:
        if self.chance(1):
            return self.rng.choice((*HOSTILE, FEES_ACCOUNT, INSURANCE_ACCOUNT, 99))
        known = [number for number in self.exchange.accounts if number >= FIRST_ACCOUNT]
        return self.rng.choice(known) if known else FIRST_ACCOUNT

    def symbol(self) -> str:
        trading = [symbol for symbol, market in self.exchange.markets.items() if market.state == MarketState.OPEN]
        if trading and self.chance(96):
            return self.rng.choice(trading)
        if self.exchange.markets and self.chance(80):
            return self.rng.choice(list(self.exchange.markets))
        return self.rng.choice((*SYMBOLS, "NONE", ""))

    def some_open_order(self) -> Order | None:
        return self.rng.choice(self.exchange.orders) if self.exchange.orders else None

    def amount(self) -> int:
        if self.rich:
            return self.rng.randrange(MONEY_MAX_MSAT // 5)
        return self.rng.randrange(60_000)

    def spec(self, symbol: str) -> MarketSpec:
        rng = self.rng
        gate = self.now + rng.randrange(1, 5 * SECOND_NS)
        start = gate + rng.choice((0, 0, rng.randrange(SECOND_NS)))
        end = start + rng.choice((1, 1, 1, 2)) * SECOND_NS
        reference = rng.choice((12, 20, 50))
        # Odd factors over a short period leave fractions of a msat in nearly every notional.
        huge = self.rich and self.chance(40)
        return MarketSpec(
            symbol=symbol,
            algorithm="SHA256",
            speed_unit="PH/s",
            tick_size="0.00000001",
            lot_size="0.001",
            tick_lot_msat=10**12 if huge else rng.randrange(100_000, 900_000),
            lot_hashrate=2**63 - 1 if huge else rng.choice((1, 7, 1_000, 10**6)),
            gate_ns=gate,
            period_start_ns=start,
            period_end_ns=end,
            settle_ns=end + rng.choice((0, rng.randrange(SECOND_NS // 2))),
            reference_price=reference,
            price_max=rng.choice((reference + 5, 60, 1_000)) if not huge else 2**40,
            price_min=rng.choice((1, 1, reference - 5, reference)),
            qty_max=rng.choice((20, 100)) if not huge else 2**40,
            maker_fee_bps=rng.choice((0, 10, 1_000)),
            taker_fee_bps=rng.choice((0, 20, 700)),
            bond_bps=rng.choice((0, 2_000, 3_333, 10_000)),
            band_bps=rng.choice((1, 1_000, 2_500, 9_999)),
            tolerance_bps=rng.choice((0, 300, 5_000, 10_000)),
            penalty_bps=rng.choice((0, 500, 10_000)),
        )

    def broken(self, spec: MarketSpec) -> MarketSpec:
        """The specification with one or two fields at or past a bound."""
        changes: dict[str, Any] = {}
        for _ in range(self.rng.randrange(1, 3)):
            name, values = self.rng.choice(
                [
                    ("symbol", ("", "sha256", "S" * 48, "S" * 49, "A B")),
                    ("kind", ("live", "")),
                    ("algorithm", ("", "A" * 24, "A" * 25, "É", "a\tb")),
                    ("speed_unit", ("", "H/s")),
                    ("tick_size", ("", "0", "1e-8", "0." + "1" * 23)),
                    ("lot_size", ("", "0.0", ".5", "5.", "1")),
                    ("tick_lot_msat", (0, 1, 10**12, 10**12 + 1, -1)),
                    ("lot_hashrate", (0, 2**63 - 1, 2**63)),
                    ("gate_ns", (0, self.now, self.now + 1, spec.period_start_ns + 1)),
                    ("period_start_ns", (0, spec.gate_ns, spec.period_end_ns, spec.period_start_ns + 1)),
                    ("period_end_ns", (0, spec.period_start_ns, spec.settle_ns + 1)),
                    ("settle_ns", (0, spec.period_end_ns, spec.period_end_ns - 1)),
                    ("price_max", (0, 1, spec.reference_price, spec.reference_price - 1, 2**40, 2**40 + 1)),
                    ("price_min", (0, 1, spec.reference_price, spec.reference_price + 1)),
                    ("qty_max", (0, 1, 2**40, 2**40 + 1)),
                    ("reference_price", (0, 1, spec.price_max, spec.price_max + 1)),
                    ("maker_fee_bps", (-1, 0, 1_000, 1_001)),
                    ("taker_fee_bps", (-1, 0, 1_000, 1_001)),
                    ("bond_bps", (-1, 0, 10_000, 10_001)),
                    ("band_bps", (0, 1, 9_999, 10_000)),
                    ("tolerance_bps", (-1, 10_000, 10_001)),
                    ("penalty_bps", (-1, 10_000, 10_001)),
                ]
            )
            changes[name] = self.rng.choice(values)
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
        return MarketSpec(**(fields | changes))

    def price(self, symbol: str) -> int:
        market = self.exchange.markets.get(symbol)
        if self.chance(1):
            return self.rng.choice(HOSTILE)
        if market is None:
            return self.rng.randrange(1, 40)
        if self.chance(2):
            return market.spec.price_max + self.rng.randrange(-1, 2)
        if self.chance(2):
            return market.spec.price_min + self.rng.randrange(-1, 2)
        if self.chance(2):
            return self.rng.randrange(0, 4)
        centre = market.last_price or market.spec.reference_price
        # The walk is pulled back to the reference, or prices would drift to a bound and stay there.
        centre = (centre + market.spec.reference_price + 1) // 2
        return max(market.spec.price_min, centre + self.rng.randrange(-4, 5))

    def qty(self, symbol: str) -> int:
        market = self.exchange.markets.get(symbol)
        if self.chance(1):
            return self.rng.choice(HOSTILE)
        if market and self.chance(2):
            return market.spec.qty_max + self.rng.randrange(-1, 2)
        return self.rng.randrange(1, 12)

    # --- Commands -------------------------------------------------------------------------------------------

    def place(self) -> Place:
        rng = self.rng
        account, symbol = self.account(), self.symbol()
        side = rng.choice((Side.BUY, Side.SELL))
        market_order = self.chance(10)
        if self.chance(97):
            forces = [2, 3] if market_order else [1, 1, 1, 1, 1, 1, 2, 3, 4]
        else:
            forces = [1, 2, 3, 4]
        force = TimeInForce(rng.choice(forces))
        expires = 0
        if force == TimeInForce.GTD or self.chance(1):
            expires = self.now + rng.randrange(1, SECOND_NS)
            if self.chance(8):
                limit = self.exchange.limits.expiry_max_ns
                expires = rng.choice((0, self.now, self.now + 1, self.now + limit, self.now + limit + 1))
        reduce_only, qty = self.chance(18), self.qty(symbol)
        if reduce_only and self.chance(80):
            # Aim at what is there to reduce: the side that closes, about as much as is left.
            position = self.exchange.positions.get((account, symbol))
            if position and position.qty:
                side = Side.SELL if position.qty > 0 else Side.BUY
                others = self.exchange.reduce_only_open(account, symbol, side)
                left = abs(position.qty) - sum(order.remaining for order in others)
                qty = max(1, min(left + rng.choice((0, 0, 1)), qty + 4))
        return Place(
            account=account,
            market=symbol,
            side=side,
            order_type=OrderType.MARKET if market_order else OrderType.LIMIT,
            price=0 if market_order and not self.chance(3) else self.price(symbol),
            qty=qty,
            time_in_force=force,
            post_only=rng.choice(tuple(PostOnly)) if self.chance(16 if force in (1, 4) else 1) else PostOnly.OFF,
            reduce_only=reduce_only,
            self_trade_prevention=rng.choice(tuple(SelfTradePrevention)),
            expires_ns=expires,
            client_order_id=rng.choice(CLIENT_ORDER_IDS) if self.chance(35) else "",
        )

    def named(self) -> tuple[int, int, str]:
        """Account, order id and client order id of an order, mostly open and mostly one's own."""
        order = self.some_open_order()
        if order is None or self.chance(4):
            return self.account(), self.rng.choice((*HOSTILE, 5)), self.rng.choice(CLIENT_ORDER_IDS)
        account = order.account if self.chance(97) else self.account()
        if order.client_order_id and self.chance(50):
            return account, 0, order.client_order_id
        return account, order.order_id, "" if self.chance(90) else self.rng.choice(CLIENT_ORDER_IDS)

    def amend(self) -> Amend:
        account, order_id, client_order_id = self.named()
        found = Amend(account, order_id, client_order_id)
        order = self.exchange.find_order(found)
        price = qty = 0
        symbol = order.market if order else self.symbol()
        kind = self.rng.randrange(8)
        if kind in (0, 1, 2):
            price = self.price(symbol)
        if kind in (1, 3):
            qty = self.qty(symbol)
        if order and kind >= 4:
            qty = order.qty + self.rng.choice((-4, -2, -1, 0, 1, 2, 5))
            if kind == 5:
                qty = order.filled + self.rng.choice((0, 1, -1))
            if kind == 6:
                price = order.price
        return Amend(account, order_id, client_order_id, price, qty)

    def cancel(self) -> Cancel:
        return Cancel(*self.named())

    def cancel_all(self) -> CancelAll:
        return CancelAll(
            account=self.account(),
            market=self.symbol() if self.chance(50) else "",
            side=self.rng.choice((None, None, Side.BUY, Side.SELL)),
            by_operator=self.chance(40),
        )

    def set_destination(self) -> SetDestination:
        url = self.rng.choice(URLS[:2] if self.chance(85) else URLS)
        worker = self.rng.choice(("rig", "w" * 128) if self.chance(95) else ("", "w" * 129, "a b", "é"))
        return SetDestination(self.account(), self.symbol(), url, worker)

    def create_account(self) -> CreateAccount:
        return CreateAccount(self.rng.choice(NAMES))

    def transfer_id(self) -> str:
        if self.chance(90):
            return f"t-{self.rng.randrange(200)}"
        return self.rng.choice((*CLIENT_ORDER_IDS, ""))

    def deposit(self) -> Deposit:
        amount = self.rng.choice(HOSTILE) if self.chance(3) and self.rich else self.amount()
        account = INSURANCE_ACCOUNT if self.chance(5) else self.account()
        return Deposit(account, self.rng.choice((0, -1)) if self.chance(2) else amount, self.transfer_id())

    def withdraw(self) -> Withdraw:
        account = self.account()
        amount = self.amount() // 2
        if account in self.exchange.accounts and self.chance(40):
            amount = self.exchange.available(account) + self.rng.choice((-1, 0, 1))
        return Withdraw(account, self.rng.choice(HOSTILE) if self.chance(3) else amount, self.transfer_id())

    def list_market(self) -> Command:
        absent = [symbol for symbol in SYMBOLS if symbol not in self.exchange.markets]
        if len(absent) == 1 and self.chance(80):
            return self.place()
        spec = self.spec(self.rng.choice(absent if absent and self.chance(80) else SYMBOLS))
        return ListMarket(self.broken(spec) if self.chance(20) else spec)

    def set_market_state(self) -> SetMarketState:
        """Mostly back to OPEN, so that markets are not shut most of the time."""
        closed = [s for s, m in self.exchange.markets.items() if m.state not in (1, MarketState.CLOSED)]
        if closed and self.chance(85):
            return SetMarketState(self.rng.choice(closed), MarketState.OPEN)
        states = (1, 2, 2, 3, 3, 4, 5) if self.chance(15) else (1, 2, 3)
        return SetMarketState(self.symbol(), MarketState(self.rng.choice(states)))

    def report_work(self) -> ReportWork:
        rng = self.rng
        running = [d for d in self.exchange.deliveries if d.state == 2]
        if running and self.chance(90):
            delivery = rng.choice(running)
        elif self.exchange.deliveries:
            delivery = rng.choice(self.exchange.deliveries)
        else:
            return ReportWork(rng.choice((*HOSTILE, 1)), 1, 1)
        most = delivery.contracted
        hashes = delivery.proven + most * rng.randrange(0, 8) // 10
        shares = delivery.shares + rng.choice((0, 1, 10, 1_000))
        excused = delivery.excused + (rng.randrange(most // 5 + 1) if self.chance(20) else 0)
        if self.chance(4):
            hashes = rng.choice((-1, delivery.proven - 1, WORK_MAX_HASHES, WORK_MAX_HASHES + 1))
        if self.chance(2):
            shares = rng.choice((-1, delivery.shares - 1, SHARES_MAX, SHARES_MAX + 1))
        if self.chance(2):
            excused = rng.choice((-1, delivery.excused - 1, WORK_MAX_HASHES + 1))
        return ReportWork(delivery.delivery_id, hashes, shares, excused)

    def settle(self) -> Settle:
        due = [s for s, m in self.exchange.markets.items() if m.spec.period_end_ns <= self.now]
        symbol = self.rng.choice(due) if due and self.chance(80) else self.symbol()
        index = self.rng.choice((0, 10, 30, 100)) if self.chance(95) else self.rng.choice(HOSTILE)
        return Settle(symbol, index)

    def tick(self) -> Tick:
        return Tick()
