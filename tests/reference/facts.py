"""Events that differ in a field or two."""

from typing import TypeVar

from engine.events import FIELDS, values

Fact = TypeVar("Fact")


def replace(event: Fact, **changes: object) -> Fact:
    """A copy of an event with other values."""
    same = dict(zip(FIELDS[type(event)], values(event), strict=True))
    return type(event)(**(same | changes))
