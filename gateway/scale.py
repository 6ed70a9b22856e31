"""Numbers of the wire: decimal text <-> whole steps."""

from typing import Final

DIGITS_MAX: Final = 24
"""Digits of a decimal from a client."""
STEPS_MAX: Final = 2**63 - 1
"""The largest number of steps that a client may ask for."""
TEXTS_MAX: Final = 4_096
"""Numbers of one scale whose text is remembered."""


class Scale:
    """Decimal text <-> whole steps. ``Scale("0.001").parse("1.5") == 1500`` and ``.format(1500) == "1.500"``.

    Takes plain ASCII digits with at most as many decimals as the step has: no sign, exponent, blank, or value between steps.
    """

    __slots__ = ("_powers", "_texts", "_unit", "decimals", "step")

    def __init__(self, step: str) -> None:
        whole, _, fraction = step.partition(".")
        self.step: str = step
        self.decimals: int = len(fraction)
        self._unit: int = int(whole + fraction)
        # what a number with so many decimals is multiplied with
        self._powers: list[int] = [10 ** (self.decimals - given) for given in range(self.decimals + 1)]
        # texts of numbers that were asked for: prices and quantities come again and again
        self._texts: dict[int, str] = {}
        if self._unit <= 0:
            raise ValueError(f"a step is above zero, not {step}")

    def parse(self, text: str) -> int:
        """Steps in ``text``. Raises ValueError with a sentence for the client."""
        whole, dot, fraction = text.partition(".")
        digits = whole + fraction
        if not (digits.isascii() and digits.isdigit() and whole) or (dot and not fraction):
            raise ValueError('expected a plain decimal such as "1.5"')
        if len(digits) > DIGITS_MAX:
            raise ValueError(f"at most {DIGITS_MAX} digits")
        if len(fraction) > self.decimals:
            raise ValueError(f"at most {self.decimals} decimals (step {self.step})")
        steps = int(digits) * self._powers[len(fraction)]
        if self._unit != 1:
            if steps % self._unit:
                raise ValueError(f"not a multiple of {self.step}")
            steps //= self._unit
        if steps > STEPS_MAX:
            raise ValueError(f"at most {self.format(STEPS_MAX)}")
        return steps

    def format(self, steps: int) -> str:
        """Plain decimal text with exactly the step's decimals; a minus sign for negative amounts."""
        text = self._texts.get(steps)
        if text is None:
            text = self._format(steps)
            if len(self._texts) >= TEXTS_MAX:
                self._texts.clear()
            self._texts[steps] = text
        return text

    def _format(self, steps: int) -> str:
        decimals = self.decimals
        value = steps * self._unit
        if value < 0:
            return "-" + self._format(-steps)
        text = str(value)
        if decimals == 0:
            return text
        if len(text) <= decimals:
            text = text.zfill(decimals + 1)
        return text[:-decimals] + "." + text[-decimals:]


MONEY: Final = Scale("0.00000000001")
"""BTC with one msat as its step."""
