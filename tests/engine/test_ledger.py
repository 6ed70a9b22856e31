"""The arithmetic of money: each rounding goes where its name says, and a fill neither makes nor loses a msat."""

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.accounts import Account, Position
from engine.ledger import Terms, fill_buy, fill_sell, share_ceil
from engine.limits import BPS, DAY_NS, MONEY_MAX_MSAT, SECOND_NS
from engine.types import MarketSpec
from tests.reference.market import SPEC

bps = st.integers(0, BPS)
specs = st.builds(
    lambda tick_lot_msat, seconds, maker, taker, bond: replace(
        SPEC,
        tick_lot_msat=tick_lot_msat,
        period_end_ns=SPEC.period_start_ns + seconds * SECOND_NS,
        maker_fee_bps=maker,
        taker_fee_bps=taker,
        bond_bps=bond,
    ),
    st.integers(1, 10**12),
    st.integers(1, 366 * 86_400),
    st.integers(0, 1_000),
    st.integers(0, 1_000),
    bps,
)
prices = st.integers(1, 2**40)
lots = st.integers(1, 2**40)


def exact(spec: MarketSpec, price: int, qty: int) -> Fraction:
    period = spec.period_end_ns - spec.period_start_ns
    return price * qty * spec.tick_lot_msat * Fraction(period, DAY_NS)


@given(spec=specs, price=prices, qty=lots)
def test_notionals_round_by_less_than_a_msat_as_they_are_named(spec: MarketSpec, price: int, qty: int) -> None:
    terms = Terms(spec)
    paid, earned = terms.notional_ceil(price, qty), terms.notional_floor(price, qty)
    assert earned <= exact(spec, price, qty) <= paid
    assert paid - earned in (0, 1)


@given(tick_lot_msat=st.integers(1, 10**12), price=prices, qty=lots)
def test_a_whole_day_has_nothing_to_round(tick_lot_msat: int, price: int, qty: int) -> None:
    terms = Terms(replace(SPEC, tick_lot_msat=tick_lot_msat))
    assert terms.notional_ceil(price, qty) == terms.notional_floor(price, qty) == price * qty * tick_lot_msat


@given(amount=st.integers(0, 2**63), share=bps)
def test_shares_round_up_by_less_than_a_msat(amount: int, share: int) -> None:
    assert 0 <= share_ceil(amount, share) - Fraction(amount * share, BPS) < 1


@given(spec=specs, price=prices, better=st.integers(0, 2**40), parts=st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_a_hold_covers_every_way_in_which_an_order_can_fill(
    spec: MarketSpec, price: int, better: int, parts: list[int]
) -> None:
    """In any parts, at the order's price or a better one (for a seller: up to the best bid at entry), as maker or taker."""
    terms = Terms(spec)
    buy_price = max(1, price - better)
    needed = sold = 0
    for qty in parts:
        paid = terms.notional_ceil(buy_price, qty)
        needed += paid + share_ceil(paid, max(spec.maker_fee_bps, spec.taker_fee_bps))
        bond = share_ceil(paid, spec.bond_bps)
        sold += bond + share_ceil(terms.notional_floor(buy_price, qty), max(spec.maker_fee_bps, spec.taker_fee_bps))
    assert needed <= terms.unit_hold_buy(price) * sum(parts)
    assert sold <= terms.unit_hold_sell(price) * sum(parts)


fills = st.lists(st.tuples(st.booleans(), st.integers(1, 1_000), st.integers(1, 30)), min_size=1, max_size=20)


@given(spec=specs, story=fills)
def test_a_fill_moves_money_between_balance_and_contract_and_nothing_else(
    spec: MarketSpec, story: list[tuple[bool, int, int]]
) -> None:
    """Cash, what waits in the contract for a short, and its bond change by what was paid or earned; the rest is profit."""
    terms, account, position = Terms(spec), Account(100, "ada"), Position()

    def waiting() -> int:
        return position.bond + (position.basis if position.qty < 0 else 0)

    net = realized = paid_in = 0
    for is_buy, price, qty in story:
        before = account.balance + waiting()
        notional = terms.notional_ceil(price, qty) if is_buy else terms.notional_floor(price, qty)
        fill = fill_buy if is_buy else fill_sell
        realized += fill(account, position, terms, price, qty, notional)
        change = account.balance + waiting() - before
        assert change == (-notional if is_buy else notional)
        paid_in += change
        net += qty if is_buy else -qty
        assert position.qty == net
        assert position.basis >= 0
        assert position.bond >= 0
        assert position.realized == realized
    # Whatever is not profit is in the position: what a long paid, or what a short is owed.
    assert paid_in == realized + (-position.basis if position.qty > 0 else position.basis)


@given(spec=specs, story=fills)
def test_a_position_that_is_closed_leaves_nothing_behind(spec: MarketSpec, story: list[tuple[bool, int, int]]) -> None:
    terms, account, position = Terms(spec), Account(100, "ada"), Position()
    for is_buy, price, qty in story:
        notional = terms.notional_ceil(price, qty) if is_buy else terms.notional_floor(price, qty)
        (fill_buy if is_buy else fill_sell)(account, position, terms, price, qty, notional)
    assume(position.qty)
    qty = abs(position.qty)
    if position.qty > 0:
        fill_sell(account, position, terms, 7, qty, terms.notional_floor(7, qty))
    else:
        fill_buy(account, position, terms, 7, qty, terms.notional_ceil(7, qty))
    assert (position.qty, position.basis, position.bond) == (0, 0, 0)
    assert account.balance == position.realized


def test_a_partial_close_frees_a_share_rounded_down_and_the_last_lot_takes_the_rest() -> None:
    terms = Terms(replace(SPEC, tick_lot_msat=1, bond_bps=2_000))
    account, position = Account(100, "ada"), Position()
    fill_sell(account, position, terms, 10, 3, 30)
    assert (account.balance, position.basis, position.bond) == (-6, 30, 6)
    fill_sell(account, position, terms, 11, 1, 11)
    assert (account.balance, position.basis, position.bond) == (-9, 41, 9)
    # A quarter of 41 is 10.25, of 9 it is 2.25.
    assert fill_buy(account, position, terms, 9, 1, 9) == 10 - 9
    assert (account.balance, position.basis, position.bond) == (-9 + 10 + 2 - 9, 31, 7)
    assert fill_buy(account, position, terms, 9, 3, 27) == 31 - 27
    assert (account.balance, position.basis, position.bond, position.realized) == (5, 0, 0, 5)


def test_one_part_over_is_rounded_up_and_none_is_not() -> None:
    assert [share_ceil(amount, 1) for amount in (0, 1, BPS - 1, BPS, BPS + 1)] == [0, 1, 1, 1, 2]
    assert [share_ceil(1, share) for share in (0, 1, BPS)] == [0, 1, 1]
    bond_only = Terms(replace(SPEC, tick_lot_msat=1, maker_fee_bps=0, taker_fee_bps=0, bond_bps=1))
    assert [bond_only.unit_hold_sell(price) for price in (1, BPS, BPS + 1)] == [1, 1, 2]
    # A second of a day: one lot at one tick is the 86,400th part of a msat.
    terms = Terms(replace(SPEC, tick_lot_msat=1, period_end_ns=SPEC.period_start_ns + SECOND_NS))
    assert (terms.num, terms.den) == (1, 86_400)
    quantities = (1, 86_399, 86_400, 86_401)
    assert [terms.notional_ceil(1, qty) for qty in quantities] == [1, 1, 1, 2]
    assert [terms.notional_floor(1, qty) for qty in quantities] == [0, 0, 1, 1]
    assert [terms.notional_ceil(qty, 2) for qty in (43_200, 43_201)] == [1, 2]
    assert [type(terms.notional_floor(86_400, 1)), type(terms.notional_ceil(86_400, 1))] == [int, int]


@pytest.mark.parametrize(("maker", "taker"), [(1, 0), (0, 1)])
@pytest.mark.parametrize("days", [Fraction(1), Fraction(1, 2), Fraction(1, 3)])
def test_a_lots_hold_is_its_notional_with_the_higher_fee_or_its_bond_with_that_fee(
    maker: int, taker: int, days: Fraction
) -> None:
    terms = Terms(
        replace(
            SPEC,
            tick_lot_msat=1,
            period_end_ns=SPEC.period_start_ns + int(DAY_NS * days),
            maker_fee_bps=maker,
            taker_fee_bps=taker,
            bond_bps=2_500,
        )
    )
    price_of = {notional: int(notional / days) for notional in (1, BPS, BPS + 1)}
    assert terms.den == days.denominator
    assert [terms.unit_hold_buy(price) for price in price_of.values()] == [1 + 1, BPS + 1, BPS + 1 + 2]
    assert [terms.unit_hold_sell(price) for price in price_of.values()] == [1 + 1, 2_500 + 1, 2_501 + 2]
    # A part of a msat more is held as a whole one.
    assert terms.unit_hold_buy(price_of[BPS] + 1) == BPS + 1 + 2
    assert terms.unit_hold_sell(price_of[BPS] + 1) == 2_501 + 2


def test_the_largest_order_has_a_notional_within_the_bound_on_money() -> None:
    for period_ns in (DAY_NS, SECOND_NS, 7 * SECOND_NS):
        terms = Terms(replace(SPEC, tick_lot_msat=977, period_end_ns=SPEC.period_start_ns + period_ns))
        assert isinstance(terms.price_qty_max, int)
        assert terms.notional_ceil(1, terms.price_qty_max) <= MONEY_MAX_MSAT
        assert terms.notional_ceil(1, terms.price_qty_max + 1) > MONEY_MAX_MSAT


def test_a_sale_of_more_than_is_held_closes_a_long_and_opens_a_short() -> None:
    terms = Terms(replace(SPEC, tick_lot_msat=1, bond_bps=2_000))
    account, position = Account(100, "ada"), Position()
    assert fill_buy(account, position, terms, 10, 4, 40) == 0
    assert fill_sell(account, position, terms, 11, 1, 11) == 1
    assert (account.balance, position.qty, position.basis, position.bond, position.realized) == (-29, 3, 30, 0, 1)
    assert fill_sell(account, position, terms, 12, 5, 60) == 36 - 30
    assert (account.balance, position.qty, position.basis, position.bond, position.realized) == (-29 + 36 - 5, -2, 24, 5, 7)
    assert fill_buy(account, position, terms, 8, 3, 24) == 24 - 16
    assert (account.balance, position.qty, position.basis, position.bond, position.realized) == (2 + 24 + 5 - 24, 1, 8, 0, 15)
