"""Random bids and asks against the engine: every invariant after every step, and a restart at any moment changes nothing.

Hypothesis shrinks a failure to the shortest story that shows it. The oracle runs along and is checked itself, so a difference
shrinks as well.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from msgspec.structs import replace

from engine.commands import (
    AmendAsk,
    AmendBid,
    Cancel,
    CancelAll,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListLive,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    SetIndex,
    SetMarketState,
    Tick,
)
from engine.core import Engine
from engine.invariants import check, money
from engine.limits import MONEY_MAX_MSAT, SECOND_NS, Limits
from engine.snapshot import dump, restore, state_hash
from engine.types import LiveSpec, MarketState, Peg, Pricing, Side
from tests.reference.exchange import NaiveExchange
from tests.reference.live_check import check_live
from tests.reference.market import LIVE_SPEC, START_NS

LIMITS = Limits(
    accounts_max=5,
    markets_max=2,
    client_order_ids_per_account_max=8,
    client_order_id_ns=30 * SECOND_NS,
    live_orders_per_account_max=6,
    live_orders_max=14,
    pegs_max=3,
    flows_max=20,
)
POOL = ("stratum+tcp://pool.example:3333", "rig")

SPECS = st.builds(
    replace,
    st.just(replace(LIVE_SPEC, price_max=12, speed_max=9)),
    tick_lot_msat=st.sampled_from((86_400, 100_003)),
    budget_min=st.sampled_from((1, 100)),
    pricing=st.sampled_from(Pricing),
    buyer_fee_bps=st.sampled_from((0, 333)),
    seller_fee_bps=st.sampled_from((0, 777)),
    decrease_interval_ns=st.sampled_from((0, 5 * SECOND_NS)),
    decrease_step=st.sampled_from((0, 2)),
    lock_ns=st.sampled_from((0, 2 * SECOND_NS)),
    life_ns=st.sampled_from((20 * SECOND_NS, 2_000 * SECOND_NS)),
    slack_ns=st.sampled_from((0, 3 * SECOND_NS, 60 * SECOND_NS)),
    grace_ns=st.sampled_from((SECOND_NS, 15 * SECOND_NS)),
    idle_ns=st.sampled_from((0, 4 * SECOND_NS)),
)
ACCOUNTS = st.sampled_from((100, 101, 102) * 6 + (999,))
PRICES = st.integers(3, 8) | st.integers(3, 8) | st.integers(-1, 13)
LOTS = st.integers(1, 6) | st.integers(1, 6) | st.integers(-2, 10)
BUDGETS = st.integers(50, 2_000) | st.integers(-1, 5_000) | st.sampled_from((0, MONEY_MAX_MSAT, MONEY_MAX_MSAT + 1))
KEYS = st.sampled_from(("", "", "", "x", "y", "bad key"))
LIVES = st.just(0) | st.integers(-1, 30)
PEGS = st.sampled_from((Peg.NONE,) * 4 + tuple(Peg))
STATES = st.sampled_from((MarketState.OPEN,) * 8 + tuple(MarketState))

CANCEL_ALL = st.builds(CancelAll, ACCOUNTS, st.sampled_from(("", "L1", "L9")), st.none() | st.sampled_from(Side), st.booleans())
OPERATOR = st.builds(SetMarketState, st.just("L1"), STATES) | st.builds(SetIndex, st.just("L1"), st.integers(0, 12))


class LiveTraders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.engine, self.oracle = Engine(LIMITS), NaiveExchange(LIMITS)
        self.entries: list[Entry] = []
        self.now = START_NS
        self.spec = LIVE_SPEC

    def apply(self, command: Command, late: bool = False) -> None:
        entry = Entry(len(self.entries) + 1, self.now, command, self.now - 1 if late else 0)
        self.entries.append(entry)
        events = self.engine.apply(entry)
        assert events == self.oracle.apply(entry)
        check(self.engine)
        check_live(self.oracle)

    def named(self, number: int, asks: bool) -> tuple[int, int]:
        """Owner and id of an open bid or ask, or of none."""
        orders = [*self.oracle.live.asks] if asks else [*self.oracle.live.bids]
        if not orders or number == 9:
            return 100, number
        order = orders[number % len(orders)]
        return order.account, order.order_id

    @initialize(spec=SPECS, balance=st.sampled_from((2_000, 50_000)))
    def open_exchange(self, spec: LiveSpec, balance: int) -> None:
        self.spec = spec
        for number, name in enumerate(("ada", "bob", "cyd")):
            self.apply(CreateAccount(name))
            self.apply(Deposit(100 + number, balance, "first"))
        self.apply(ListLive(spec))

    @rule(account=st.integers(100, 102), price=st.integers(3, 8), lots=st.integers(0, 6), budget=st.integers(100, 900))
    def plain_bid(self, account: int, price: int, lots: int, budget: int) -> None:
        self.apply(PlaceBid(account, "L1", price, lots, budget, *POOL))

    @rule(account=st.integers(100, 102), price=st.integers(3, 8), lots=st.integers(1, 6))
    def plain_ask(self, account: int, price: int, lots: int) -> None:
        self.apply(PlaceAsk(account, "L1", price, lots))

    @rule(account=st.integers(100, 102), price=st.integers(5, 9), peg=st.sampled_from(Peg), offset=st.integers(-2, 2))
    def plain_peg(self, account: int, price: int, peg: Peg, offset: int) -> None:
        self.apply(PlaceBid(account, "L1", price, 3, 200, *POOL, peg, offset if peg != Peg.NONE else 0))

    @rule(
        account=ACCOUNTS,
        price=PRICES,
        lots=LOTS,
        budget=BUDGETS,
        peg=PEGS,
        offset=st.just(0) | st.integers(-13, 13),
        lowest=st.just(0) | st.integers(-1, 9),
        life=LIVES,
        key=KEYS,
        late=st.integers(0, 9),
    )
    def any_bid(
        self,
        account: int,
        price: int,
        lots: int,
        budget: int,
        peg: Peg,
        offset: int,
        lowest: int,
        life: int,
        key: str,
        late: int,
    ) -> None:
        expires_ns = self.now + life * SECOND_NS if life else 0
        self.apply(PlaceBid(account, "L1", price, lots, budget, *POOL, peg, offset, lowest, expires_ns, key), late == 9)

    @rule(account=ACCOUNTS, price=PRICES, lots=LOTS, life=LIVES, key=KEYS)
    def any_ask(self, account: int, price: int, lots: int, life: int, key: str) -> None:
        self.apply(PlaceAsk(account, "L1", price, lots, self.now + life * SECOND_NS if life else 0, key))

    @rule(number=st.integers(0, 9), price=st.just(0) | PRICES, limit=st.just(-1) | LOTS, pool=st.booleans())
    def amend_bid(self, number: int, price: int, limit: int, pool: bool) -> None:
        url, worker = POOL if pool else ("", "")
        self.apply(AmendBid(*self.named(number, asks=False), "", price, limit, url, worker + "2" * (number % 2)))

    @rule(number=st.integers(0, 9), price=st.just(0) | PRICES, speed=st.just(0) | LOTS)
    def amend_ask(self, number: int, price: int, speed: int) -> None:
        self.apply(AmendAsk(*self.named(number, asks=True), "", price, speed))

    @rule(number=st.integers(0, 9), amount=BUDGETS, key=KEYS)
    def refill(self, number: int, amount: int, key: str) -> None:
        self.apply(RefillBid(*self.named(number, asks=False), "", amount, key or f"r{len(self.entries)}"))

    @rule(number=st.integers(0, 9), asks=st.booleans())
    def cancel(self, number: int, asks: bool) -> None:
        self.apply(Cancel(*self.named(number, asks)))

    @rule(number=st.integers(0, 30), less=st.integers(-5, 9), final=st.booleans())
    def report(self, number: int, less: int, final: bool) -> None:
        """About what the flow may be paid for."""
        flows = self.oracle.live.flows
        if not flows:
            self.apply(ReportFlow(number, less, final))
            return
        flow = flows[number % len(flows)]
        allowed = (flow.allowance + flow.speed * (self.now - self.oracle.live.accrued_ns)) // 10**9
        self.apply(ReportFlow(flow.flow_id, max(flow.paid_hashes + allowed - less, flow.hashes - (less == 9)), final))

    @rule(command=CANCEL_ALL | OPERATOR)
    def other_command(self, command: Command) -> None:
        self.apply(command)

    @rule()
    def list_again(self) -> None:
        self.apply(ListLive(self.spec))

    @rule(step=st.sampled_from((1, 400, 1_000, 1_000, 3_000, 10_000)))
    def wait(self, step: int) -> None:
        """Milliseconds."""
        self.now += step * SECOND_NS // 1_000
        self.apply(Tick())

    @rule()
    def wait_for_what_is_due(self) -> None:
        due = [work[0] for work in self.oracle.live.all_work()]
        if due:
            self.now = max(self.now, min(due))
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


TestLiveTraders = LiveTraders.TestCase
TestLiveTraders.settings = settings(stateful_step_count=60)
