"""Every bound of engine/limits.py: what is at the bound is taken, one past it is refused with the bound."""

from msgspec.structs import replace

from engine import limits as bounds
from engine.commands import (
    AmendBid,
    Cancel,
    Command,
    CreateAccount,
    DeletePool,
    Deposit,
    Entry,
    ListLive,
    ListMarket,
    Place,
    PlaceAsk,
    PlaceBid,
    ReportWork,
    SavePool,
    SetDestination,
    Withdraw,
)
from engine.core import Engine
from engine.events import Event, Rejected
from engine.invariants import check
from engine.limits import SECOND_NS, Limits
from engine.rejects import RejectCode
from engine.types import MarketSpec, OrderType, Peg, Side, TimeInForce
from tests.reference.market import LIVE_SPEC, SPEC, START_NS

ADA, BOB = 100, 101
URL = "stratum+tcp://pool.example:3333"


class Desk:
    """An exchange with the market M1 and two accounts."""

    def __init__(self, limits: Limits | None = None, spec: MarketSpec = SPEC) -> None:
        self.engine = Engine(limits)
        self.now = START_NS
        self.takes(CreateAccount("ada"), CreateAccount("bob"), ListMarket(spec))
        self.takes(Deposit(ADA, 1_000_000, "f"), Deposit(BOB, 1_000_000, "f"))

    def apply(self, command: Command) -> list[Event]:
        events = self.engine.apply(Entry(self.engine.seq + 1, self.now, command))
        check(self.engine)
        return events

    def takes(self, *commands: Command) -> None:
        for command in commands:
            assert not any(isinstance(event, Rejected) for event in self.apply(command)), command

    def refuses(self, command: Command, code: RejectCode, bound: int) -> None:
        (event,) = self.apply(command)
        assert isinstance(event, Rejected), event
        assert (event.code, event.bound) == (code, bound)


def buy(account: int = ADA, price: int = 1, qty: int = 1, key: str = "", expires_ns: int = 0) -> Place:
    force = TimeInForce.GTD if expires_ns else TimeInForce.GTC
    return Place(account, "M1", Side.BUY, OrderType.LIMIT, price, qty, force, expires_ns=expires_ns, client_order_id=key)


def test_accounts_max() -> None:
    """The two house accounts count."""
    desk = Desk(Limits(accounts_max=5))
    desk.takes(CreateAccount("cyd"))
    desk.refuses(CreateAccount("dan"), RejectCode.ACCOUNTS_FULL, 5)


def test_orders_per_account_max() -> None:
    desk = Desk(Limits(orders_per_account_max=3))
    desk.takes(buy(), buy(), buy(), buy(BOB))
    desk.refuses(buy(), RejectCode.ORDERS_PER_ACCOUNT_FULL, 3)
    # What cannot rest takes no room.
    desk.takes(Place(ADA, "M1", Side.BUY, OrderType.LIMIT, 1, 1, TimeInForce.IOC))


def test_orders_max() -> None:
    desk = Desk(Limits(orders_max=3))
    desk.takes(buy(), buy(), buy(BOB))
    desk.refuses(buy(BOB), RejectCode.ORDERS_FULL, 3)
    desk.takes(Place(BOB, "M1", Side.BUY, OrderType.MARKET, 0, 1, TimeInForce.IOC))


def test_markets_max() -> None:
    desk = Desk(Limits(markets_max=2))
    desk.takes(ListMarket(replace(SPEC, symbol="M2")))
    desk.refuses(ListMarket(replace(SPEC, symbol="M3")), RejectCode.MARKETS_FULL, 2)


def test_price_max_ticks() -> None:
    desk = Desk(Limits(price_max_ticks=200))
    desk.refuses(ListMarket(replace(SPEC, symbol="M2", price_max=201)), RejectCode.MARKET_SPEC_INVALID, 8)
    desk.takes(ListMarket(replace(SPEC, symbol="M2", price_max=200)), replace(buy(price=200), market="M2"))
    desk.refuses(replace(buy(price=201), market="M2"), RejectCode.PRICE_TOO_HIGH, 200)


def test_qty_max_lots() -> None:
    desk = Desk(Limits(qty_max_lots=1_000))
    desk.refuses(ListMarket(replace(SPEC, symbol="M2", qty_max=1_001)), RejectCode.MARKET_SPEC_INVALID, 9)
    desk.takes(ListMarket(replace(SPEC, symbol="M2", qty_max=900)), replace(buy(qty=900), market="M2"))
    desk.refuses(replace(buy(qty=901), market="M2"), RejectCode.QTY_TOO_LARGE, 900)


def test_client_order_ids_per_account_max() -> None:
    desk = Desk(Limits(client_order_ids_per_account_max=3))
    # The first deposit is one of the three, a refused order another.
    desk.takes(buy(key="one"))
    desk.refuses(buy(price=0, key="two"), RejectCode.PRICE_TOO_LOW, 1)
    desk.refuses(buy(key="three"), RejectCode.CLIENT_ORDER_IDS_FULL, 3)
    desk.refuses(Deposit(ADA, 1, "three"), RejectCode.CLIENT_ORDER_IDS_FULL, 3)
    desk.takes(buy(), buy(key="one"), buy(BOB, key="three"))


def test_client_order_id_ns() -> None:
    desk = Desk(Limits(client_order_id_ns=SECOND_NS))
    desk.refuses(buy(price=0, key="x"), RejectCode.PRICE_TOO_LOW, 1)
    desk.now += SECOND_NS - 1
    desk.refuses(buy(key="x"), RejectCode.PRICE_TOO_LOW, 1)
    desk.now += 1
    desk.takes(buy(key="x"))


def test_expiry_max_ns() -> None:
    desk = Desk(Limits(expiry_max_ns=SECOND_NS))
    desk.takes(buy(expires_ns=START_NS + SECOND_NS), buy(expires_ns=START_NS + 1))
    desk.refuses(buy(expires_ns=START_NS + SECOND_NS + 1), RejectCode.EXPIRY_INVALID, SECOND_NS)
    desk.refuses(buy(expires_ns=START_NS), RejectCode.EXPIRY_INVALID, SECOND_NS)


def test_destinations_per_account_max() -> None:
    desk = Desk(Limits(destinations_per_account_max=1))
    desk.takes(ListMarket(replace(SPEC, symbol="M2")))
    desk.takes(SetDestination(ADA, "M1", URL, "rig"), SetDestination(ADA, "M1", URL, "other"))
    desk.refuses(SetDestination(ADA, "M2", URL, "rig"), RejectCode.DESTINATIONS_FULL, 1)
    desk.takes(SetDestination(BOB, "M2", URL, "rig"))


def test_money_max_msat() -> None:
    most = bounds.MONEY_MAX_MSAT
    desk = Desk(spec=replace(SPEC, price_max=2**40, qty_max=2**40, tick_lot_msat=2**21, taker_fee_bps=0, maker_fee_bps=0))
    desk.refuses(Deposit(ADA, most + 1, "a"), RejectCode.AMOUNT_INVALID, most)
    desk.refuses(Deposit(ADA, most - 2_000_000 + 1, "b"), RejectCode.DEPOSITS_FULL, most - 2_000_000)
    desk.takes(Deposit(ADA, most - 2_000_000, "c"))
    desk.refuses(Deposit(BOB, 1, "d"), RejectCode.DEPOSITS_FULL, 0)
    # One tick and lot is 2^21 msat: 2^40 lots are one too many.
    desk.refuses(buy(qty=2**40), RejectCode.NOTIONAL_TOO_LARGE, most)
    desk.takes(buy(qty=2**40 - 1))
    left = most - 1_000_000 - (2**61 - 2**21)
    desk.refuses(buy(qty=1), RejectCode.FUNDS_INSUFFICIENT, left)
    desk.refuses(Withdraw(ADA, left + 1, "e"), RejectCode.BALANCE_INSUFFICIENT, left)
    desk.takes(Withdraw(ADA, left, "f2"), Deposit(BOB, left, "g"))


def test_client_order_id_chars_max() -> None:
    desk, most = Desk(), bounds.CLIENT_ORDER_ID_CHARS_MAX
    desk.takes(buy(key="x" * most), Deposit(ADA, 1, "x" * most))
    desk.refuses(buy(key="x" * (most + 1)), RejectCode.CLIENT_ORDER_ID_INVALID, most)
    desk.refuses(Deposit(ADA, 1, "x" * (most + 1)), RejectCode.CLIENT_ORDER_ID_INVALID, most)
    desk.refuses(Deposit(ADA, 1, ""), RejectCode.CLIENT_ORDER_ID_INVALID, most)


def test_name_chars_max() -> None:
    desk, most = Desk(), bounds.NAME_CHARS_MAX
    desk.takes(CreateAccount("x" * most), CreateAccount("x"))
    for name in ("x" * (most + 1), "", "a\nb", "a\0"):
        desk.refuses(CreateAccount(name), RejectCode.ACCOUNT_NAME_INVALID, most)


def test_symbol_chars_max() -> None:
    desk, most = Desk(), bounds.SYMBOL_CHARS_MAX
    desk.takes(ListMarket(replace(SPEC, symbol="X" * most)))
    desk.refuses(ListMarket(replace(SPEC, symbol="X" * (most + 1))), RejectCode.MARKET_SPEC_INVALID, 1)


def test_url_chars_max() -> None:
    desk, most = Desk(), bounds.URL_CHARS_MAX
    url = "stratum+tcp://" + "p" * (most - len("stratum+tcp://:80")) + ":80"
    assert len(url) == most
    desk.takes(SetDestination(ADA, "M1", url, "rig"))
    desk.refuses(SetDestination(ADA, "M1", url + "8", "rig"), RejectCode.DESTINATION_INVALID, most)


def test_worker_chars_max() -> None:
    desk, most = Desk(), bounds.WORKER_CHARS_MAX
    desk.takes(SetDestination(ADA, "M1", URL, "w" * most))
    for worker in ("w" * (most + 1), ""):
        desk.refuses(SetDestination(ADA, "M1", URL, worker), RejectCode.DESTINATION_INVALID, bounds.URL_CHARS_MAX)


def test_fee_max_bps() -> None:
    desk, most = Desk(), bounds.FEE_MAX_BPS
    desk.takes(ListMarket(replace(SPEC, symbol="M2", maker_fee_bps=most, taker_fee_bps=most)))
    for name in ("maker_fee_bps", "taker_fee_bps"):
        for fee in (most + 1, -1):
            spec = replace(SPEC, symbol="M3", **{name: fee})
            desk.refuses(ListMarket(spec), RejectCode.MARKET_SPEC_INVALID, 11)


def delivering() -> Desk:
    """With delivery 1 running."""
    desk = Desk()
    desk.takes(buy(), Place(BOB, "M1", Side.SELL, OrderType.LIMIT, 1, 1))
    desk.now = SPEC.period_start_ns
    return desk


def test_work_max_hashes() -> None:
    """Proven and excused work together."""
    desk, most = delivering(), bounds.WORK_MAX_HASHES
    desk.takes(ReportWork(1, most - 1, 1, 1))
    desk.refuses(ReportWork(1, most, 1, 1), RejectCode.WORK_TOO_LARGE, most)
    desk.refuses(ReportWork(1, most - 1, 1, 2), RejectCode.WORK_TOO_LARGE, most)


def test_shares_max() -> None:
    desk, most = delivering(), bounds.SHARES_MAX
    desk.takes(ReportWork(1, 1, most))
    desk.refuses(ReportWork(1, 1, most + 1), RejectCode.WORK_TOO_LARGE, most)


def live(limits: Limits) -> Desk:
    """With the live market L1."""
    desk = Desk(limits)
    desk.takes(ListLive(LIVE_SPEC))
    return desk


def bid(account: int = ADA, limit: int = 1, peg: Peg = Peg.NONE) -> PlaceBid:
    return PlaceBid(account, "L1", 20, limit, 1_000, "stratum+tcp://pool.example:3333", "rig", peg)


def ask(account: int = BOB, speed: int = 1) -> PlaceAsk:
    return PlaceAsk(account, "L1", 5, speed)


def test_live_orders_per_account_max() -> None:
    """Bids and asks together; orders of dated markets are counted by themselves."""
    desk = live(Limits(live_orders_per_account_max=2, orders_per_account_max=1))
    desk.takes(buy(), bid(), ask(ADA), bid(BOB))
    desk.refuses(bid(), RejectCode.ORDERS_PER_ACCOUNT_FULL, 2)
    desk.refuses(ask(ADA), RejectCode.ORDERS_PER_ACCOUNT_FULL, 2)


def test_live_orders_max() -> None:
    desk = live(Limits(live_orders_max=3, orders_max=1))
    desk.takes(buy(), bid(), bid(BOB), ask())
    desk.refuses(bid(), RejectCode.ORDERS_FULL, 3)
    desk.refuses(ask(), RejectCode.ORDERS_FULL, 3)


def test_pegs_max() -> None:
    """Per market."""
    desk = live(Limits(pegs_max=2))
    desk.takes(bid(peg=Peg.TOP), bid(peg=Peg.INDEX), ListLive(replace(LIVE_SPEC, symbol="L2")))
    desk.refuses(bid(BOB, peg=Peg.MARGINAL), RejectCode.PEGS_FULL, 2)
    desk.takes(bid(), replace(bid(peg=Peg.TOP), market="L2"))


def test_flows_max() -> None:
    """Those count as well that ended and are not done with; what makes room is not refused."""
    desk = live(Limits(flows_max=2))
    desk.takes(ask(speed=2), bid(), bid())
    first = desk.engine.seq
    desk.refuses(bid(), RejectCode.FLOWS_FULL, 2)
    desk.refuses(ask(), RejectCode.FLOWS_FULL, 2)
    desk.refuses(AmendBid(ADA, first, "", 21), RejectCode.FLOWS_FULL, 2)
    desk.now += SECOND_NS
    desk.takes(AmendBid(ADA, first, "", 0, 1), Cancel(ADA, first))
    desk.refuses(bid(), RejectCode.FLOWS_FULL, 2)


def test_flows_per_account_max() -> None:
    """Flows that an account buys; what it sells does not count."""
    desk = live(Limits(flows_per_account_max=2))
    desk.takes(ask(), ask(), bid(limit=2))
    first = desk.engine.seq
    desk.refuses(bid(), RejectCode.FLOWS_FULL, 2)
    desk.refuses(AmendBid(ADA, first, "", 0, 3), RejectCode.FLOWS_FULL, 2)
    desk.takes(bid(BOB), ask(), ask(ADA))


def test_pools_per_account_max() -> None:
    desk = live(Limits(pools_per_account_max=2))
    pool = SavePool(ADA, 0, "mine", "SHA256", "stratum+tcp://pool.example:3333", "rig")
    desk.takes(pool, pool, replace(pool, account=BOB))
    last = desk.engine.seq - 1
    desk.refuses(pool, RejectCode.POOLS_FULL, 2)
    desk.takes(replace(pool, pool_id=last), DeletePool(ADA, last), pool)


NO_BOUNDS = ("SECOND_NS", "DAY_SECONDS", "DAY_NS", "BPS")
"""Numbers of the module that bound nothing."""


def test_every_bound_has_its_test() -> None:
    names = [*Limits.__struct_fields__, *(name for name, value in vars(bounds).items() if isinstance(value, int))]
    assert [name for name in names if name not in NO_BOUNDS and f"test_{name.lower()}" not in globals()] == []
