"""Numbers and ids: exact both ways, or refused."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.nicehash import ids
from gateway.nicehash.catalog import ALGORITHMS, Catalog, factor, named
from gateway.nicehash.units import (
    DIGITS_MAX,
    Units,
    Unusable,
    decimal_text,
    exact,
    money_text,
    parse_money,
    plain,
    seconds_until,
)
from tests.nicehash.venue import live_spec


def units(algorithm: str = "SHA256") -> Units:
    row = next(row for row in ALGORITHMS.values() if row.algorithm == algorithm)
    return Units(live_spec(algorithm), row.market_factor, row.market_display, row.price_factor, row.price_display)


def test_a_speed_and_a_price_by_hand() -> None:
    sha = units()
    # One lot is 10^12 H/s, a millionth of an EH; one tick is a sat per PH per day, 1,000 sat per EH.
    assert sha.parse_speed(Decimal("0.001")) == 1_000
    assert sha.parse_price(Decimal("0.5")) == 50_000
    assert sha.speed_text(1_500) == "0.0015"
    assert sha.price_text(50_001) == "0.50001"
    assert sha.price_decimals == 5
    # 0.45 BTC per EH per day for 0.001 EH: 0.00045 BTC a day, which is 45,000,000 msat, at 1 msat for a lot and tick.
    assert sha.parse_price(Decimal("0.45")) * sha.parse_speed(Decimal("0.001")) == parse_money(Decimal("0.00045"))


def test_a_price_in_other_units_than_the_speed() -> None:
    heavy = units("KHEAVYHASH")
    assert (heavy.market_display, heavy.price_display) == ("PH", "EH")
    # 0.0018 BTC per PH per day are 1.8 per EH.
    assert heavy.parse_price(Decimal("1.8")) == 18_000
    assert heavy.parse_speed(Decimal("1.5")) == 15_000


@pytest.mark.parametrize("algorithm", [row.algorithm for row in ALGORITHMS.values()])
@given(steps=st.integers(min_value=0, max_value=2**53))
def test_every_step_comes_back(algorithm: str, steps: int) -> None:
    found = units(algorithm)
    assert found.parse_price(Decimal(found.price_text(steps))) == steps
    assert found.parse_speed(Decimal(found.speed_text(steps))) == steps


@given(msat=st.integers(min_value=0, max_value=2**61 - 1))
def test_money_comes_back(msat: int) -> None:
    assert parse_money(Decimal(money_text(msat))) == msat


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.500001", "multiple of 0.00001"),
        ("-0.5", "below zero"),
        ("NaN", "not a number"),
        ("Infinity", "not a number"),
        ("1e40", "too large"),
        (f"1e{DIGITS_MAX + 1}", "digits"),
        (f"1e-{DIGITS_MAX + 1}", "digits"),
        ("1e400000000", "digits"),
    ],
)
def test_numbers_that_are_no_price(text: str, says: str) -> None:
    with pytest.raises(Unusable, match=says):
        units().parse_price(Decimal(text))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**12), max_value=10**12))
def test_a_decimal_is_told_as_it_is(number: Decimal) -> None:
    assert Fraction(decimal_text(exact(number))) == exact(number)


def test_plain() -> None:
    assert [plain(text) for text in ("0.1500", "15.00", "100", "0.0")] == ["0.15", "15", "100", "0"]


def test_a_market_whose_steps_are_no_decimals_is_not_offered() -> None:
    odd = live_spec()
    thirds = type(odd)(**{name: getattr(odd, name) for name in odd.__struct_fields__ if name != "lot_hashrate"}, lot_hashrate=3)
    assert Catalog({}).units(thirds) is None
    with pytest.raises(ValueError, match="no decimals"):
        Units(thirds, 10**18, "EH", 10**18, "EH")


def test_seconds_are_rounded_up() -> None:
    assert [seconds_until(then, 0) for then in (-5, 0, 1, 10**9, 10**9 + 1)] == [0, 0, 1, 1, 2]


def test_names() -> None:
    sha = ALGORITHMS["SHA256ASICBOOST"]
    assert (sha.code, sha.port, sha.algorithm) == (35, 3368, "SHA256")
    assert named("sha256") is named("SHA256ASICBOOST") is sha
    assert named("DAGGERHASHIMOTO") is None
    assert factor("TH") == 10**12
    assert len({row.code for row in ALGORITHMS.values()}) == len({row.algorithm for row in ALGORITHMS.values()})


@given(kind=st.integers(0, 2**32 - 1), number=st.integers(0, ids.ID_MAX))
def test_a_uuid_carries_its_number(kind: int, number: int) -> None:
    text = ids.to_uuid(kind, number)
    assert len(text) == 36
    assert ids.from_uuid(kind, text) == ids.from_uuid(kind, text.upper()) == number
    assert ids.from_uuid(kind + 1, text) is None


@pytest.mark.parametrize("text", ["", "7", "00000001-0000-4000-8000-000000000007", "4ebd366d-76f4-4400-a3b6-e51515d054d6"])
def test_texts_that_carry_none(text: str) -> None:
    assert ids.from_uuid(ids.ORDER, text) is None
