"""What falls due, and when: expiries, gates, starts of delivery, settlements, in one order for everybody.

At one instant expiries come first (by order id), then gates, starts and settlements (each by market symbol), then of live
markets the ends of orders and of budgets (by order id) and of graces (by flow id).
"""

from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

Entry: TypeAlias = tuple[int, int, Any]
"""When, what kind, and of whom."""

EXPIRY: Final = 0
GATE: Final = 1
START: Final = 2
SETTLEMENT: Final = 3
LIFE: Final = 4
BUDGET: Final = 5
GRACE: Final = 6

NEVER: Final = 2**62 - 1
"""Later than any time (in the year 2116); compiled code compares up to here in one machine word."""


_push: Final = heappush
_pop: Final = heappop
_heapify: Final = heapify


SLACK: Final = 64
"""The heap may hold so many entries more than twice what is on the agenda."""


class Due:
    """The agenda. Every entry is taken off when its order or market ends, so it is bounded by what is open.

    A heap, and a table of what is on the agenda: an entry that is taken off out of turn stays in the heap until it comes to the
    top, or until more of the heap is gone than not.
    """

    __slots__ = ("_heap", "_there", "next_ns")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._there: dict[Entry, None] = {}
        # when the first entry falls due; NEVER when there is none
        self.next_ns: int = NEVER

    def add(self, due_ns: int, kind: int, key: int | str) -> None:
        """Put ``key`` (an order's or flow's id, of GATE, START and SETTLEMENT a symbol) on the agenda. O(log n)."""
        entry = (due_ns, kind, key)
        self._there[entry] = None
        _push(self._heap, entry)
        if due_ns < self.next_ns:
            self.next_ns = due_ns

    def load(self, entries: list[Entry]) -> None:
        """Put many entries on the agenda. O(n)."""
        self._heap += entries
        self._there.update(dict.fromkeys(entries))
        _heapify(self._heap)
        self._clean()

    def discard(self, due_ns: int, kind: int, key: int | str) -> None:
        """Take an entry off the agenda, if it is there. O(log n)."""
        self._there.pop((due_ns, kind, key), None)
        if due_ns == self.next_ns:
            self._clean()
        elif len(self._heap) > 2 * len(self._there) + SLACK:
            self._heap = list(self._there)
            _heapify(self._heap)

    def pop(self) -> Entry:
        """Take the first entry off. O(log n)."""
        entry: Entry = _pop(self._heap)
        del self._there[entry]
        self._clean()
        return entry

    def entries(self) -> list[Entry]:
        """All of them, in order. O(n log n)."""
        return sorted(self._there)

    def _clean(self) -> None:
        """Let the first entry of the heap be one that is on the agenda."""
        heap = self._heap
        while heap and heap[0] not in self._there:
            _pop(heap)
        self.next_ns = heap[0][0] if heap else NEVER
