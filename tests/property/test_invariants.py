"""Random traders against the engine: every invariant after every step, and a restart at any moment changes nothing.

Hypothesis shrinks a failure to the shortest story that shows it. The oracle runs along, so a difference shrinks as well.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

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
from engine.events import Event
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

accounts = st.sampled_from((100, 101, 102, 100, 101, 102, INSURANCE_ACCOUNT, 999))
markets = st.sampled_from(("A", "A", "A", "B"))
prices = st.integers(17, 23) | st.integers(-1, 41)
lots = st.integers(1, 9) | st.integers(-1, 51)
keys = st.sampled_from(("", "", "x", "y", "z", "bad key"))
order_numbers = st.integers(0, 12)
seconds = st.sampled_from((0, 0, 0, 1, 1, 2, 5, 20))
amounts = st.integers(0, 40_000) | st.sampled_from((-1, MONEY_MAX_MSAT, MONEY_MAX_MSAT + 1))


class Traders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine, self.oracle = Engine(LIMITS), NaiveExchange(LIMITS)
        self.entries: list[Entry] = []
        self.now = START_NS

    def apply(self, command: Command, late: bool = False) -> list[Event]:
        entry = Entry(len(self.entries) + 1, self.now, command, self.now - 1 if late else 0)
        self.entries.append(entry)
        events = self.engine.apply(entry)
        assert events == self.oracle.apply(entry)
        check(self.engine)
        return events

    def order_id(self, number: int) -> int:
        """The id of one of the open orders, or one that no order has."""
        ids = sorted(self.engine.orders)
        return ids[number] if number < len(ids) else number

    @initialize(balance=st.sampled_from((5_000, 100_000)))
    def open_exchange(self, balance: int) -> None:
        for number, name in enumerate(("ada", "bob", "cyd")):
            self.apply(CreateAccount(name))
            self.apply(Deposit(100 + number, balance, "first"))
        self.apply(ListMarket(SPEC))

    @rule(
        account=accounts,
        market=markets,
        side=st.sampled_from(Side),
        price=prices,
        qty=lots,
        force=st.sampled_from((TimeInForce.GTC, TimeInForce.GTC, *TimeInForce)),
        post_only=st.sampled_from((PostOnly.OFF, PostOnly.OFF, *PostOnly)),
        reduce_only=st.booleans(),
        stp=st.sampled_from(SelfTradePrevention),
        lives=seconds,
        key=keys,
        late=st.integers(0, 9),
    )
    def limit_order(
        self,
        account: int,
        market: str,
        side: Side,
        price: int,
        qty: int,
        force: TimeInForce,
        post_only: PostOnly,
        reduce_only: bool,
        stp: SelfTradePrevention,
        lives: int,
        key: str,
        late: int,
    ) -> None:
        expires = self.now + lives * SECOND_NS if force is TimeInForce.GTD else 0
        order_type = OrderType.LIMIT
        place = Place(account, market, side, order_type, price, qty, force, post_only, reduce_only, stp, expires, key)
        self.apply(place, late == 9)

    @rule(account=accounts, side=st.sampled_from(Side), price=st.integers(18, 22), qty=st.integers(1, 9))
    def plain_order(self, account: int, side: Side, price: int, qty: int) -> None:
        self.apply(Place(account, "A", side, OrderType.LIMIT, price, qty))

    @rule(
        account=accounts,
        side=st.sampled_from(Side),
        qty=lots,
        force=st.sampled_from((TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTC)),
        reduce_only=st.booleans(),
        stp=st.sampled_from(SelfTradePrevention),
    )
    def market_order(
        self, account: int, side: Side, qty: int, force: TimeInForce, reduce_only: bool, stp: SelfTradePrevention
    ) -> None:
        order_type = OrderType.MARKET
        self.apply(Place(account, "A", side, order_type, 0, qty, force, PostOnly.OFF, reduce_only, stp))

    @rule(number=order_numbers, price=st.just(0) | prices, qty=st.just(0) | lots, stranger=st.booleans())
    def amend(self, number: int, price: int, qty: int, stranger: bool) -> None:
        order_id = self.order_id(number)
        order = self.engine.orders.get(order_id)
        account = order.account if order and not stranger else 100
        self.apply(Amend(account, order_id, "", price, qty))

    @rule(account=accounts, number=order_numbers, key=keys)
    def cancel(self, account: int, number: int, key: str) -> None:
        self.apply(Cancel(account, 0 if key else self.order_id(number), key))

    @rule(
        account=accounts, market=st.sampled_from(("", "A", "B")), side=st.none() | st.sampled_from(Side), operator=st.booleans()
    )
    def cancel_all(self, account: int, market: str, side: Side | None, operator: bool) -> None:
        self.apply(CancelAll(account, market, side, operator))

    @rule(account=accounts, market=markets, host=st.sampled_from(("one", "two", "")))
    def destination(self, account: int, market: str, host: str) -> None:
        self.apply(SetDestination(account, market, f"stratum+tcp://{host}:3333", "rig"))

    @rule(account=accounts, amount=amounts, key=keys)
    def deposit(self, account: int, amount: int, key: str) -> None:
        self.apply(Deposit(account, amount, key))

    @rule(account=accounts, amount=amounts, key=keys)
    def withdraw(self, account: int, amount: int, key: str) -> None:
        self.apply(Withdraw(account, amount, key))

    @rule(market=markets, state=st.sampled_from((MarketState.OPEN, MarketState.OPEN, *MarketState)))
    def state(self, market: str, state: MarketState) -> None:
        self.apply(SetMarketState(market, state))

    @rule(market=markets, gate=seconds)
    def list_market(self, market: str, gate: int) -> None:
        changes = {
            name: getattr(SPEC, name) + self.now - START_NS for name in ("period_start_ns", "period_end_ns", "settle_ns")
        }
        fields = {name: getattr(SPEC, name) for name in SPEC.__struct_fields__}
        self.apply(ListMarket(MarketSpec(**(fields | changes | {"symbol": market, "gate_ns": self.now + gate * SECOND_NS}))))

    @rule(number=st.integers(0, 4), hashes=st.integers(-1, 200), shares=st.integers(0, 50), excused=st.integers(0, 20))
    def work(self, number: int, hashes: int, shares: int, excused: int) -> None:
        ids = sorted(self.engine.deliveries)
        self.apply(ReportWork(ids[number] if number < len(ids) else number, hashes, shares, excused))

    @rule(market=markets, index=st.sampled_from((0, 20, 40, 41)))
    def settle(self, market: str, index: int) -> None:
        self.apply(Settle(market, index))

    @rule(step=seconds)
    def wait(self, step: int) -> None:
        self.now += step * SECOND_NS
        self.apply(Tick())

    @rule()
    def wait_for_what_is_due(self) -> None:
        self.now = max(self.now, self.engine.next_due_ns())
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
