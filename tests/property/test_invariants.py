"""Random traders against the engine: every invariant after every step, and a restart at any moment changes nothing.

Hypothesis shrinks a failure to the shortest story that shows it. The oracle runs along, so a difference shrinks as well.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace

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
from engine.core import Engine
from engine.invariants import check, money
from engine.limits import MONEY_MAX_MSAT, SECOND_NS, Limits
from engine.snapshot import dump, restore, state_hash
from engine.types import (
    INSURANCE_ACCOUNT,
    MarketSpec,
    MarketState,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.reference.exchange import NaiveExchange

LIMITS = Limits(
    accounts_max=5,
    orders_per_account_max=5,
    orders_max=9,
    markets_max=2,
    client_order_ids_per_account_max=6,
    client_order_id_ns=3 * SECOND_NS,
    destinations_per_account_max=1,
)
START_NS = 1_000 * SECOND_NS
SPEC = MarketSpec(
    symbol="A",
    algorithm="SHA256",
    speed_unit="PH/s",
    tick_size="0.00000001",
    lot_size="0.001",
    tick_lot_msat=333_333,
    lot_hashrate=7,
    gate_ns=START_NS + 10 * SECOND_NS,
    period_start_ns=START_NS + 11 * SECOND_NS,
    period_end_ns=START_NS + 14 * SECOND_NS,
    settle_ns=START_NS + 16 * SECOND_NS,
    reference_price=20,
    price_max=40,
    qty_max=50,
)

SIDES, STPS = st.sampled_from(Side), st.sampled_from(SelfTradePrevention)
ACCOUNTS = st.sampled_from((100, 101, 102) * 6 + (INSURANCE_ACCOUNT, 999))
MARKETS = st.sampled_from(("A",) * 9 + ("B",))
PRICES = st.integers(17, 23) | st.integers(17, 23) | st.integers(-1, 41)
LOTS = st.integers(1, 9) | st.integers(1, 9) | st.integers(-1, 51)
KEYS = st.sampled_from(("", "", "", "x", "y", "z", "bad key"))
AMOUNTS = st.integers(0, 40_000) | st.sampled_from((-1, MONEY_MAX_MSAT, MONEY_MAX_MSAT + 1))
STATES = st.sampled_from((MarketState.OPEN,) * 8 + tuple(MarketState))
INSTANTS = st.integers(0, 30).map(lambda seconds: START_NS + seconds * SECOND_NS)

PLAIN = st.builds(Place, ACCOUNTS, st.just("A"), SIDES, st.just(OrderType.LIMIT), st.integers(18, 22), st.integers(1, 9))
LIMIT = st.builds(
    Place,
    account=ACCOUNTS,
    market=MARKETS,
    side=SIDES,
    order_type=st.just(OrderType.LIMIT),
    price=PRICES,
    qty=LOTS,
    time_in_force=st.sampled_from(TimeInForce),
    post_only=st.sampled_from((PostOnly.OFF,) * 4 + tuple(PostOnly)),
    reduce_only=st.booleans(),
    self_trade_prevention=STPS,
    client_order_id=KEYS,
)
GTD = st.builds(replace, LIMIT, time_in_force=st.just(TimeInForce.GTD), expires_ns=INSTANTS)
MARKET = st.builds(
    Place,
    account=ACCOUNTS,
    market=MARKETS,
    side=SIDES,
    order_type=st.just(OrderType.MARKET),
    price=st.just(0),
    qty=LOTS,
    time_in_force=st.sampled_from((TimeInForce.IOC, TimeInForce.FOK)),
    reduce_only=st.booleans(),
    self_trade_prevention=STPS,
)
CANCEL = st.builds(Cancel, ACCOUNTS, st.just(0), KEYS)
CANCEL_ALL = st.builds(CancelAll, ACCOUNTS, st.sampled_from(("", "A", "B")), st.none() | SIDES, st.booleans())
DESTINATION = st.builds(
    SetDestination, ACCOUNTS, MARKETS, st.sampled_from(("stratum+tcp://one:1", "stratum+tcp://two:2", "")), st.just("rig")
)
TRANSFER = st.builds(Deposit, ACCOUNTS, AMOUNTS, KEYS) | st.builds(Withdraw, ACCOUNTS, AMOUNTS, KEYS)
OPERATOR = st.builds(SetMarketState, MARKETS, STATES) | st.builds(Settle, MARKETS, st.sampled_from((0, 20, 40, 41)))


class Traders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine, self.oracle = Engine(LIMITS), NaiveExchange(LIMITS)
        self.entries: list[Entry] = []
        self.now = START_NS

    def apply(self, command: Command, late: bool = False) -> None:
        entry = Entry(len(self.entries) + 1, self.now, command, self.now - 1 if late else 0)
        self.entries.append(entry)
        events = self.engine.apply(entry)
        assert events == self.oracle.apply(entry)
        check(self.engine)

    @initialize(balance=st.sampled_from((5_000, 100_000)))
    def open_exchange(self, balance: int) -> None:
        for number, name in enumerate(("ada", "bob", "cyd")):
            self.apply(CreateAccount(name))
            self.apply(Deposit(100 + number, balance, "first"))
        self.apply(ListMarket(SPEC))

    @rule(commands=st.lists(PLAIN, min_size=1, max_size=5))
    def plain_orders(self, commands: list[Place]) -> None:
        for command in commands:
            self.apply(command)

    @rule(command=LIMIT | GTD | MARKET, late=st.integers(0, 9))
    def any_order(self, command: Place, late: int) -> None:
        self.apply(command, late == 9)

    @rule(number=st.integers(0, 9), price=st.just(0) | PRICES, qty=st.just(0) | LOTS)
    def amend(self, number: int, price: int, qty: int) -> None:
        orders = sorted(order.order_id for order in self.engine.open_orders())
        order_id = orders[number % len(orders)] if orders else number
        owner = next((owner for owner, account in self.engine.accounts.items() if order_id in account.orders), 100)
        self.apply(Amend(owner if number else 100, order_id, "", price, qty))

    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        orders = sorted(order.order_id for order in self.engine.open_orders())
        order_id = orders[number % len(orders)] if orders else number
        self.apply(Cancel(100 + number % 3, order_id))

    @rule(command=CANCEL | CANCEL_ALL | DESTINATION | TRANSFER | OPERATOR)
    def other_command(self, command: Command) -> None:
        self.apply(command)

    @rule(market=MARKETS, gate=st.integers(0, 9))
    def list_market(self, market: str, gate: int) -> None:
        shift = self.now - START_NS
        times = {name: getattr(SPEC, name) + shift for name in ("period_start_ns", "period_end_ns", "settle_ns")}
        self.apply(ListMarket(replace(SPEC, symbol=market, gate_ns=self.now + gate * SECOND_NS, **times)))

    @rule(number=st.integers(0, 4), hashes=st.integers(-1, 200), shares=st.integers(0, 50), excused=st.integers(0, 20))
    def work(self, number: int, hashes: int, shares: int, excused: int) -> None:
        ids = sorted(self.engine.deliveries)
        self.apply(ReportWork(ids[number % len(ids)] if ids else number, hashes, shares, excused))

    @rule(step=st.sampled_from((1, 1, 1, 2, 3)))
    def wait(self, step: int) -> None:
        self.now += step * SECOND_NS
        self.apply(Tick())

    @rule()
    def restart(self) -> None:
        """Go on with the restored engine: whatever it forgot shows up later."""
        before = state_hash(self.engine)
        self.engine = restore(dump(self.engine))
        assert state_hash(self.engine) == before
        check(self.engine)

    def teardown(self) -> None:
        self.restart()
        replayed = Engine(LIMITS)
        for entry in self.entries:
            replayed.apply(entry)
        assert state_hash(replayed) == state_hash(self.engine)
        assert money(replayed) == money(self.engine)


TestTraders = Traders.TestCase
TestTraders.settings = settings(stateful_step_count=60)
