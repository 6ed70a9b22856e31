"""Events are the same to everybody who reads them, whichever build made them."""

import pytest

from engine.events import FIELDS, Accepted, BalanceChanged, Canceled, MarketListed, Rejected, Trade, replace, values
from engine.rejects import RejectCode
from engine.types import BalanceReason, CancelReason, Side
from tests.reference.market import SPEC

CANCELED = Canceled(100, 7, 5, "mine", "M1", Side.SELL, 90, 3, 2, True, CancelReason.GATE, 1_000, 0)


def test_fields_are_named_in_the_order_of_the_constructor() -> None:
    assert FIELDS[Rejected] == ("account", "account_seq", "code", "bound", "order_id", "client_order_id", "market", "repeat")
    assert (len(FIELDS[Accepted]), len(FIELDS[Trade]), len(FIELDS)) == (20, 26, 29)


def test_values_are_those_given() -> None:
    assert values(CANCELED) == (100, 7, 5, "mine", "M1", Side.SELL, 90, 3, 2, True, CancelReason.GATE, 1_000, 0)
    assert CANCELED.reason is CancelReason.GATE
    assert CANCELED.resting is True
    assert MarketListed(SPEC).spec is SPEC


def test_equal_when_kind_and_values_are() -> None:
    assert replace(CANCELED) == CANCELED
    assert replace(CANCELED, held=1) != CANCELED
    assert values(CANCELED) != CANCELED
    one = Rejected(1, 2, RejectCode.ACCOUNT_UNKNOWN, 0, 0, "", "")
    assert one == Rejected(1, 2, RejectCode.ACCOUNT_UNKNOWN, 0, 0, "", "", False)
    assert one != Rejected(1, 2, RejectCode.ACCOUNT_UNKNOWN, 0, 0, "", "", True)


def test_shown_by_name() -> None:
    text = repr(Rejected(1, 2, RejectCode.ACCOUNT_UNKNOWN, 0, 0, "key", "M1"))
    assert text.startswith("Rejected(account=1, account_seq=2, code=<RejectCode.ACCOUNT_UNKNOWN: 1001>, ")
    assert text.endswith("client_order_id='key', market='M1', repeat=False)")


@pytest.mark.parametrize("name", FIELDS[Canceled])
def test_nothing_changes_an_event(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(CANCELED, name, 1)


def test_numbers_of_any_size() -> None:
    huge = 2**130
    changed = BalanceChanged(100, 1, -huge, BalanceReason.WITHDRAW, "t", huge, 0)
    assert (changed.amount, changed.balance) == (-huge, huge)
