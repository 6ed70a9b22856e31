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
TEXTS_MAX: Final = 4_096
"""Numbers of one kind whose text is remembered."""
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


class Steps:
    """Whole steps as plain decimal text: one step is ``size``, a fraction with finitely many decimals."""

    __slots__ = ("_decimals", "_texts", "_unit", "size")

    def __init__(self, size: Fraction) -> None:
        self.size = size
        self._decimals = len(decimal_text(size).partition(".")[2])
        unit = size * 10**self._decimals
        assert unit.denominator == 1, size
        self._unit = int(unit)
        # prices and speeds come again and again
        self._texts: dict[int, str] = {}

    @property
    def decimals(self) -> int:
        return self._decimals

    def text(self, steps: int) -> str:
        """So many steps, at least none."""
        text = self._texts.get(steps)
        if text is None:
            digits = str(steps * self._unit).zfill(self._decimals + 1)
            text = plain(f"{digits[: -self._decimals]}.{digits[-self._decimals :]}") if self._decimals else digits
            if len(self._texts) >= TEXTS_MAX:
                self._texts.clear()
            self._texts[steps] = text
        return text

    def parse(self, number: Decimal) -> int:
        """Whole steps. Raises Unusable."""
        return _whole(exact(number) / self.size, decimal_text(self.size))


class Units:
    """One live market's numbers as these clients know them.

    Raises ValueError for a market whose steps are no decimals of the units: nothing of it could be told exactly.
    """

    __slots__ = ("_prices", "_speeds", "market_display", "market_factor", "price_display", "price_factor")

    def __init__(self, spec: LiveSpec, market_factor: int, market_display: str, price_factor: int, price_display: str) -> None:
        self.market_factor = market_factor
        self.market_display = market_display
        self.price_factor = price_factor
        self.price_display = price_display
        speed_step = Fraction(spec.lot_hashrate, market_factor)
        price_step = Fraction(spec.tick_lot_msat * price_factor, MSAT_PER_BTC * spec.lot_hashrate)
        if not (is_decimal(speed_step) and is_decimal(price_step)):
            raise ValueError(f"{spec.symbol}: its steps are no decimals of {market_display} and {price_display}")
        self._speeds = Steps(speed_step)
        self._prices = Steps(price_step)

    @property
    def speed_step(self) -> Fraction:
        """One lot, in units of speed."""
        return self._speeds.size

    @property
    def price_step(self) -> Fraction:
        """One tick, in BTC per unit of price per day."""
        return self._prices.size

    @property
    def price_decimals(self) -> int:
        """Decimals of the price step."""
        return self._prices.decimals

    def price_text(self, ticks: int) -> str:
        """BTC per unit of price per day."""
        return self._prices.text(ticks)

    def speed_text(self, lots: int) -> str:
        """Units of speed."""
        return self._speeds.text(lots)

    def parse_price(self, number: Decimal) -> int:
        """Ticks. Raises Unusable."""
        return self._prices.parse(number)

    def parse_speed(self, number: Decimal) -> int:
        """Lots. Raises Unusable."""
        return self._speeds.parse(number)

    def per_hash(self, ticks: int) -> Fraction:
        """A price in satoshi for one H/s for a day."""
        return ticks * self.price_step * 10**8 / self.price_factor
