"""What falls due, and when: expiries, gates, starts of delivery, settlements, in one order for everybody.

At one instant expiries come first (by order id), then gates, starts and settlements (each by market symbol), then of live
markets the ends of orders and of budgets (by order id) and of graces (by flow id).
"""

from typing import Final

from sortedcontainers import SortedList

EXPIRY: Final = 0
GATE: Final = 1
START: Final = 2
SETTLEMENT: Final = 3
LIFE: Final = 4
BUDGET: Final = 5
GRACE: Final = 6

NEVER: Final = 2**62 - 1
"""Later than any time (in the year 2116); compiled code compares up to here in one machine word."""


class Due:
    """The agenda. Every entry is removed when its order or market ends, so it is bounded by what is open."""

    __slots__ = ("entries", "next_ns")

    def __init__(self) -> None:
        self.entries: SortedList[tuple[int, int, int | str]] = SortedList()
        # when the first entry falls due; NEVER when there is none
        self.next_ns: int = NEVER

    def add(self, due_ns: int, kind: int, key: int | str) -> None:
        """Put ``key`` (an order's or flow's id, of GATE, START and SETTLEMENT a symbol) on the agenda. O(log n)."""
        self.entries.add((due_ns, kind, key))
        if due_ns < self.next_ns:
            self.next_ns = due_ns

    def load(self, entries: list[tuple[int, int, int | str]]) -> None:
        """Put many entries on the agenda. O(n log n)."""
        self.entries.update(entries)
        self.next_ns = self.entries[0][0] if self.entries else NEVER

    def discard(self, due_ns: int, kind: int, key: int | str) -> None:
        """Take an entry off the agenda, if it is there. O(log n)."""
        self.entries.discard((due_ns, kind, key))
        self.next_ns = self.entries[0][0] if self.entries else NEVER

    def pop(self) -> tuple[int, int, int | str]:
        """Take the first entry off. O(log n)."""
        entry: tuple[int, int, int | str] = self.entries.pop(0)
        self.next_ns = self.entries[0][0] if self.entries else NEVER
        return entry
