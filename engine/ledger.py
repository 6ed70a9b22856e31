"""Money: accounts, positions, and what a fill moves between them.

Everything is a whole number of msat. The exchange stands between both sides: a buyer pays into the contract, a seller's
proceeds stay in it until delivery, and what is rounded off goes to the fee account. At every moment

    sum of balances + proceeds of shorts + bonds + money in deliveries == deposits - withdrawals.

Roundings, each one function: a buyer pays ``notional_ceil``, a seller earns ``notional_floor``, a fee is ``fee_ceil``, a bond
is ``bond_ceil``: each in the exchange's favour by less than one msat per fill.
"""

from typing import Final

from engine.accounts import Account, Position
from engine.limits import BPS, DAY_NS, MONEY_MAX_MSAT
from engine.types import MarketSpec

_BPS: Final = BPS


def share_ceil(amount: int, bps: int) -> int:
    """``bps`` basis points of ``amount`` (not below zero), rounded up."""
    return (amount * bps + _BPS - 1) // _BPS


class Terms:
    """A market's arithmetic: notional, fee, bond and hold from price and quantity."""

    __slots__ = ("bond_bps", "den", "fee_max_bps", "maker_fee_bps", "num", "price_qty_max", "taker_fee_bps")

    def __init__(self, spec: MarketSpec) -> None:
        num: int = spec.tick_lot_msat * (spec.period_end_ns - spec.period_start_ns)
        den: int = DAY_NS
        a, b = num, den
        while b:
            a, b = b, a % b
        # notional of one lot at one tick over the period, as a reduced fraction of msat
        self.num: int = num // a
        self.den: int = den // a
        # up to here price x qty has a notional of at most MONEY_MAX_MSAT
        self.price_qty_max: int = MONEY_MAX_MSAT * self.den // self.num
        self.maker_fee_bps: int = spec.maker_fee_bps
        self.taker_fee_bps: int = spec.taker_fee_bps
        self.fee_max_bps: int = max(spec.maker_fee_bps, spec.taker_fee_bps)
        self.bond_bps: int = spec.bond_bps

    def notional_ceil(self, price: int, qty: int) -> int:
        """price x qty x period, rounded up: what a buyer pays."""
        return (price * qty * self.num + self.den - 1) // self.den

    def notional_floor(self, price: int, qty: int) -> int:
        """price x qty x period, rounded down: what a seller earns."""
        return price * qty * self.num // self.den

    def unit_hold_buy(self, price: int) -> int:
        """The most one lot can cost at ``price``, fee included."""
        notional = price * self.num if self.den == 1 else self.notional_ceil(price, 1)
        return notional + (notional * self.fee_max_bps + _BPS - 1) // _BPS

    def unit_hold_sell(self, price: int) -> int:
        """The most that selling one lot at ``price`` can take from the balance: bond and fee."""
        notional = price * self.num if self.den == 1 else self.notional_ceil(price, 1)
        return (notional * self.bond_bps + _BPS - 1) // _BPS + (notional * self.fee_max_bps + _BPS - 1) // _BPS


def fill_buy(account: Account, position: Position, terms: Terms, price: int, qty: int, paid: int) -> int:
    """Book a buy of ``qty`` lots for ``paid`` msat; returns the profit (or loss) that closing a short realised.

    Closing a short frees its share of proceeds and bond into the balance (floor shares; the last lot takes the rest).
    """
    account.balance -= paid
    before = position.qty
    position.qty = before + qty
    if before >= 0:
        position.basis += paid
        return 0
    short = -before
    if qty < short:
        proceeds = position.basis * qty // short
        bond = position.bond * qty // short
        position.basis -= proceeds
        position.bond -= bond
        cost = paid
    else:
        proceeds = position.basis
        bond = position.bond
        cost = paid if qty == short else terms.notional_floor(price, short)
        position.basis = paid - cost
        position.bond = 0
    account.balance += proceeds + bond
    realized = proceeds - cost
    position.realized += realized
    return realized


def fill_sell(account: Account, position: Position, terms: Terms, price: int, qty: int, proceeds: int) -> int:
    """Book a sale of ``qty`` lots for ``proceeds`` msat; returns the profit (or loss) that closing a long realised.

    What closes a long is paid out at once; what opens a short leaves its proceeds in the contract and moves a bond there.
    """
    before = position.qty
    position.qty = before - qty
    if before <= 0:
        opened = qty
        position.basis += proceeds
        realized = 0
    else:
        if qty < before:
            basis = position.basis * qty // before
            position.basis -= basis
            account.balance += proceeds
            realized = proceeds - basis
            position.realized += realized
            return realized
        opened = qty - before
        closing = proceeds if opened == 0 else terms.notional_floor(price, before)
        realized = closing - position.basis
        position.basis = proceeds - closing
        position.realized += realized
        account.balance += closing
        if opened == 0:
            return realized
    bond = share_ceil(terms.notional_ceil(price, opened), terms.bond_bps)
    account.balance -= bond
    position.bond += bond
    return realized
