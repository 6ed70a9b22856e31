"""Numbers of NiceHash's API and ours, exactly: every conversion is by a fraction, and what does not come out whole is refused.

A speed is in units of ``market_factor`` H/s, a price in BTC per ``price_factor`` H/s per day, money in BTC; all are decimals.
"""

from decimal import Decimal
from fractions import Fraction
from typing import Final

from engine.limits import SECOND_NS
from engine.types import LiveSpec
from gateway.scale import MONEY

MSAT_PER_BTC: Final = 10**11
DIGITS_MAX: Final = 40
"""Digits of a number from a client, before and behind the point."""
STEPS_MAX: Final = 2**63 - 1
"""The most steps that a client may ask for."""


class Unusable(ValueError):
    """A number that is none of our steps; the text is a sentence for the client."""


def exact(number: Decimal) -> Fraction:
    """The number as a fraction. Raises Unusable for what is not finite, or longer than DIGITS_MAX on a side of the point."""
    if not number.is_finite():
        raise Unusable("not a number")
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int), "it is finite"
    if exponent < -DIGITS_MAX or number.adjusted() > DIGITS_MAX or len(number.as_tuple().digits) > 2 * DIGITS_MAX:
        raise Unusable(f"at most {DIGITS_MAX} digits before and behind the point")
    return Fraction(number)


def decimal_text(value: Fraction) -> str:
    """A fraction whose denominator has no prime factors but 2 and 5, as plain decimal text without closing zeros."""
    numerator, denominator = value.numerator, value.denominator
    decimals = 0
    while denominator % 10 == 0:
        denominator //= 10
        decimals += 1
    while denominator != 1:
        factor = 5 if denominator % 2 == 0 else 2
        assert denominator % 2 == 0 or denominator % 5 == 0, f"{value} is no decimal"
        numerator *= factor
        denominator = denominator * factor // 10
        decimals += 1
    sign = "-" if numerator < 0 else ""
    digits = str(abs(numerator)).zfill(decimals + 1)
    return plain(sign + (f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits))


def plain(text: str) -> str:
    """Decimal text without closing zeros."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def is_decimal(value: Fraction) -> bool:
    """Whether a fraction has finitely many decimals."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def money_text(msat: int) -> str:
    """msat as BTC."""
    return plain(MONEY.format(msat))


def parse_money(number: Decimal) -> int:
    """BTC as msat. Raises Unusable."""
    return _whole(exact(number) * MSAT_PER_BTC, MONEY.step)


def seconds_until(then_ns: int, now_ns: int) -> int:
    """Whole seconds from now until then, rounded up: a client that waits for so long is not early."""
    return max(0, -(-(then_ns - now_ns) // SECOND_NS))


def _whole(steps: Fraction, step: str) -> int:
    if steps < 0:
        raise Unusable("not below zero")
    if steps.denominator != 1:
        raise Unusable(f"not a multiple of {step}")
    if steps > STEPS_MAX:
        raise Unusable("too large")
    return int(steps)


class Units:
    """One live market's numbers as these clients know them.

    Raises ValueError for a market whose steps are no decimals of the units: nothing of it could be told exactly.
    """

    __slots__ = ("market_display", "market_factor", "price_display", "price_factor", "price_step", "speed_step")

    def __init__(self, spec: LiveSpec, market_factor: int, market_display: str, price_factor: int, price_display: str) -> None:
        self.market_factor = market_factor
        self.market_display = market_display
        self.price_factor = price_factor
        self.price_display = price_display
        self.speed_step = Fraction(spec.lot_hashrate, market_factor)
        """One lot, in units of speed."""
        self.price_step = Fraction(spec.tick_lot_msat * price_factor, MSAT_PER_BTC * spec.lot_hashrate)
        """One tick, in BTC per unit of price per day."""
        if not (is_decimal(self.speed_step) and is_decimal(self.price_step)):
            raise ValueError(f"{spec.symbol}: its steps are no decimals of {market_display} and {price_display}")

    @property
    def price_decimals(self) -> int:
        """Decimals of the price step."""
        return len(decimal_text(self.price_step).partition(".")[2])

    def price_text(self, ticks: int) -> str:
        """BTC per unit of price per day."""
        return decimal_text(ticks * self.price_step)

    def speed_text(self, lots: int) -> str:
        """Units of speed."""
        return decimal_text(lots * self.speed_step)

    def parse_price(self, number: Decimal) -> int:
        """Ticks. Raises Unusable."""
        return _whole(exact(number) / self.price_step, decimal_text(self.price_step))

    def parse_speed(self, number: Decimal) -> int:
        """Lots. Raises Unusable."""
        return _whole(exact(number) / self.speed_step, decimal_text(self.speed_step))

    def per_hash(self, ticks: int) -> Fraction:
        """A price in satoshi for one H/s for a day."""
        return ticks * self.price_step * 10**8 / self.price_factor
