"""Accounts are found by whatever number a client sends, and orders by what they are called."""

import pytest
from msgspec.structs import replace

from engine.accounts import Account, Accounts
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
    SetDestination,
    Tick,
    Withdraw,
)
from engine.core import Engine
from engine.events import Accepted, Canceled, Event, Rejected, Trade
from engine.invariants import check
from engine.limits import DAY_NS, Limits
from engine.rejects import RejectCode
from engine.snapshot import dump, restore
from engine.types import FEES_ACCOUNT, INSURANCE_ACCOUNT, OrderType, Side
from tests.reference.market import SPEC, START_NS

NOBODY = [0, -1, -100, 3, 99, 101, 102, 10**6, 2**31, 2**62, 2**63, 2**64, -(2**63), 10**30]


def exchange(*names: str, limits: Limits | None = None) -> Engine:
    """The market M1, and accounts from 100 with money."""
    engine = Engine(limits)
    do(engine, ListMarket(SPEC), START_NS)
    for account, name in enumerate(names, 100):
        do(engine, CreateAccount(name))
        do(engine, Deposit(account, 1_000_000, "funds"))
    return engine


def do(engine: Engine, command: Command, ts_ns: int = 0, deadline_ns: int = 0) -> list[Event]:
    events = engine.apply(Entry(engine.seq + 1, max(engine.ts_ns, ts_ns), command, deadline_ns))
    check(engine)
    return events


def place(account: int, price: int = 10, qty: int = 5, key: str = "", side: Side = Side.BUY, market: str = "M1") -> Place:
    return Place(account, market, side, OrderType.LIMIT, price, qty, client_order_id=key)


@pytest.mark.parametrize("account", NOBODY)
def test_a_number_that_is_no_account_is_refused(account: int) -> None:
    engine = exchange("ada")
    assert account not in engine.accounts
    assert engine.accounts.get(account) is None
    with pytest.raises(KeyError):
        engine.accounts[account]
    commands: list[Command] = [
        place(account),
        place(account, key="key"),
        Amend(account, 1, "", 5, 5),
        Cancel(account, 1),
        CancelAll(account),
        Deposit(account, 1, "t"),
        Withdraw(account, 1, "t"),
        SetDestination(account, "M1", "stratum+tcp://pool.example:3333", "worker"),
    ]
    for command in commands:
        (event,) = do(engine, command)
        assert isinstance(event, Rejected)
        assert event.code is RejectCode.ACCOUNT_UNKNOWN


def test_accounts_are_listed_in_order() -> None:
    engine = exchange("ada", "bob")
    ids = [FEES_ACCOUNT, INSURANCE_ACCOUNT, 100, 101]
    assert [number for number, _ in engine.accounts.items()] == ids
    assert [account.account_id for account in engine.accounts.values()] == ids
    assert all(number in engine.accounts for number in ids)
    assert len(engine.accounts) == 4


@pytest.mark.parametrize("account", [0, -5, FEES_ACCOUNT, 101, 10**9])
def test_an_account_out_of_order_is_a_bug(account: int) -> None:
    accounts = Accounts()
    accounts.add(Account(FEES_ACCOUNT, "fees"))
    with pytest.raises(AssertionError):
        accounts.add(Account(account, "name"))
    accounts.add(Account(100, "first"))
    assert len(accounts) == 2


LATER = [
    ("the same", place(100, key="key"), 0),
    ("late", place(100, key="key"), 1),
    ("a price too high", place(100, SPEC.price_max + 1, key="key"), 0),
    ("no such market", place(100, key="key", market="M9"), 0),
    ("nothing to pay it with", place(100, 100, SPEC.qty_max, key="key"), 0),
]


@pytest.mark.parametrize(("again", "deadline_ns"), [row[1:] for row in LATER], ids=[row[0] for row in LATER])
def test_a_repeat_is_answered_whatever_it_asks(again: Place, deadline_ns: int) -> None:
    """Even when the id is all that is right about it, and when no other id could be remembered."""
    engine = exchange("ada", limits=Limits(client_order_ids_per_account_max=2))  # one is the deposit's
    (first,) = do(engine, place(100, key="key"))
    (answer,) = do(engine, again, deadline_ns=deadline_ns)
    assert isinstance(first, Accepted)
    assert isinstance(answer, Accepted)
    assert (answer.order_id, answer.repeat, answer.price) == (first.order_id, True, 10)
    assert len(engine.open_orders()) == 1


def test_refusals_of_an_id_come_before_those_of_an_order() -> None:
    engine = exchange("ada", limits=Limits(client_order_ids_per_account_max=2))

    def code(command: Place, deadline_ns: int = 0) -> RejectCode:
        (event,) = do(engine, command, deadline_ns=deadline_ns)
        assert isinstance(event, Rejected)
        return event.code

    assert code(place(100, key="no blanks")) is RejectCode.CLIENT_ORDER_ID_INVALID
    assert code(place(100, key="no blanks", market="M9"), 1) is RejectCode.CLIENT_ORDER_ID_INVALID
    assert code(place(100, key="key", market="M9")) is RejectCode.MARKET_UNKNOWN
    assert code(place(100, key="other")) is RejectCode.CLIENT_ORDER_IDS_FULL
    assert code(place(100, key="other", market="M9")) is RejectCode.CLIENT_ORDER_IDS_FULL
    assert code(place(100, key="other"), 1) is RejectCode.DEADLINE_PASSED
    assert code(place(100, key="key")) is RejectCode.MARKET_UNKNOWN
    assert [*engine.accounts[100].outcomes] == ["transfer:funds", "key"]


def test_a_market_listed_again_is_another_market() -> None:
    """Nothing of the old one is taken for the new: not the market of the last order, nor an account's position in it."""
    engine = exchange("ada", "bob", limits=Limits(client_order_id_ns=30 * DAY_NS))
    do(engine, place(100, 10, 5, "maker"))
    do(engine, place(101, 10, 5, side=Side.SELL))
    do(engine, place(101, 10, 5))
    do(engine, place(100, 10, 5, side=Side.SELL))
    assert engine.accounts[100].positions["M1"].qty == 0
    do(engine, Tick(), SPEC.settle_ns)
    assert "M1" not in engine.markets
    later = SPEC.settle_ns - START_NS
    times = {name: getattr(SPEC, name) + later for name in ("gate_ns", "period_start_ns", "period_end_ns", "settle_ns")}
    do(engine, ListMarket(replace(SPEC, **times)))
    for again in (engine, restore(dump(engine))):
        do(again, place(100, 20, 5))
        accepted, trade = do(again, place(101, 20, 3, side=Side.SELL))
        assert isinstance(accepted, Accepted)
        assert isinstance(trade, Trade)
        assert (trade.trade_id, trade.maker_position, trade.taker_position) == (1, 3, -3)
        assert again.markets["M1"].book.bids_best_first() == [(20, 2)]
        (answer,) = do(again, place(100, 10, 5, "maker"))
        assert isinstance(answer, Accepted)
        assert (answer.market, answer.repeat) == ("M1", True)
        (canceled,) = do(again, CancelAll(100))
        assert isinstance(canceled, Canceled)
