"""UUIDs that carry our whole numbers: NiceHash's clients want the one, the engine counts with the other.

``to_uuid(ORDER, 7) == "00000001-0000-8000-8000-000000000007"``: the kind, then the number. The way back needs no table.
"""

import re
from typing import Final

ORDER: Final = 1
POOL: Final = 2
ORGANIZATION: Final = 3
"""An account."""
TRANSACTION: Final = 4

ID_MAX: Final = 2**60 - 1
"""The largest number that a UUID carries."""
_TAIL: Final = 2**48
# Version 8 and the variant of RFC 9562 stand between the number's upper 12 bits and its lower 48.
_UUID: Final = re.compile(r"([0-9a-f]{8})-0000-8([0-9a-f]{3})-8000-([0-9a-f]{12})")


def to_uuid(kind: int, number: int) -> str:
    """The UUID of the order, pool, ... of that number."""
    assert 0 <= number <= ID_MAX, f"{number} does not fit a UUID"
    return f"{kind:08x}-0000-8{number // _TAIL:03x}-8000-{number % _TAIL:012x}"


def from_uuid(kind: int, text: str) -> int | None:
    """The number in a UUID of that kind; None for any other text."""
    match = _UUID.fullmatch(text.lower())
    if match is None or int(match[1], 16) != kind:
        return None
    return int(match[2], 16) * _TAIL + int(match[3], 16)
