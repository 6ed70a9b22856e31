"""Numbers that fit a machine word. Compiled code keeps those below 2^62 in one, and makes an object of every other."""

from typing import Final

from mypy_extensions import i64

WORD_MAX: Final = 2**62 - 1


def product(left: int, right: int) -> int:
    """``left * right`` of two numbers that are not negative.

    Compiled, ``*`` makes three objects as soon as one factor has 30 bits; this makes none while the product fits a word.
    """
    if left <= WORD_MAX and right <= WORD_MAX:
        one: i64 = left
        other: i64 = right
        if one == 0 or other <= WORD_MAX // one:
            return one * other
    return left * right
