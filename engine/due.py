"""What falls due, and when: expiries, gates, starts of delivery, settlements, in one order for everybody.

At one instant expiries come first (by order id), then gates, starts and settlements (each by market symbol), then of live
markets the ends of orders and of budgets (by order id) and of graces (by flow id).
"""

from bisect import insort
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

SLACK: Final = 64
"""The heap may hold so many entries more than twice what is on the agenda."""

KIND_BITS: Final = 3
KEY_BITS: Final = 58
"""Ids are smaller than 2^58: so many commands nobody sends."""
NS_SHIFT: Final = KEY_BITS + KIND_BITS

_push: Final = heappush
_pop: Final = heappop
_heapify: Final = heapify
_insort: Final = insort


class Due:
    """The agenda. Every entry is taken off when its order or market ends, so it is bounded by what is open.

    Of orders and flows, which are many, an entry is one number, as that compares fast: time, kind, id. They are in a heap, and
    in a table of what is on the agenda: an entry that is taken off out of turn stays in the heap until it comes to the top, or
    until more of the heap is gone than not. Of markets, which are few, entries are in a sorted list.
    """

    __slots__ = ("_heap", "_markets", "_there", "next_ns")

    def __init__(self) -> None:
        self._heap: list[int] = []
        self._there: dict[int, None] = {}
        self._markets: list[Entry] = []
        # when the first entry falls due; NEVER when there is none
        self.next_ns: int = NEVER

    def add(self, due_ns: int, kind: int, key: int) -> None:
        """Put an order's or flow's id on the agenda. O(log n)."""
        entry = _packed(due_ns, kind, key)
        self._there[entry] = None
        _push(self._heap, entry)
        if due_ns < self.next_ns:
            self.next_ns = due_ns

    def add_market(self, due_ns: int, kind: int, symbol: str) -> None:
        """Put a market on the agenda, for its GATE, START or SETTLEMENT. O(markets)."""
        _insort(self._markets, (due_ns, kind, symbol))
        if due_ns < self.next_ns:
            self.next_ns = due_ns

    def load(self, entries: list[tuple[int, int, int]]) -> None:
        """Put many orders on the agenda. O(n)."""
        for due_ns, kind, key in entries:
            entry = _packed(due_ns, kind, key)
            self._there[entry] = None
            self._heap.append(entry)
        _heapify(self._heap)
        self._clean()

    def discard(self, due_ns: int, kind: int, key: int) -> None:
        """Take an order or flow off the agenda, if it is there. O(log n)."""
        self._there.pop(_packed(due_ns, kind, key), None)
        if due_ns == self.next_ns:
            self._clean()
        elif len(self._heap) > 2 * len(self._there) + SLACK:
            self._heap = list(self._there)
            _heapify(self._heap)

    def discard_market(self, due_ns: int, kind: int, symbol: str) -> None:
        """Take a market off the agenda, which is on it. O(markets)."""
        self._markets.remove((due_ns, kind, symbol))
        self._clean()

    def pop(self) -> Entry:
        """Take the first entry off. O(log n), of a market O(markets)."""
        entry: Entry
        heap = self._heap
        markets = self._markets
        if markets and (not heap or markets[0][:2] < _unpacked(heap[0])[:2]):
            entry = markets.pop(0)
        else:
            first = _pop(heap)
            del self._there[first]
            entry = _unpacked(first)
        self._clean()
        return entry

    def entries(self) -> list[Entry]:
        """All of them, in order. O(n log n)."""
        return sorted([*map(_unpacked, self._there), *self._markets])

    def _clean(self) -> None:
        """Let the first entry of the heap be one that is on the agenda."""
        heap = self._heap
        while heap and heap[0] not in self._there:
            _pop(heap)
        self.next_ns = heap[0] >> NS_SHIFT if heap else NEVER
        if self._markets:
            due_ns: int = self._markets[0][0]
            if due_ns < self.next_ns:
                self.next_ns = due_ns


def _packed(due_ns: int, kind: int, key: int) -> int:
    """An order's or flow's entry as one number, in the order of the agenda."""
    return due_ns << NS_SHIFT | (kind << KEY_BITS | key)


def _unpacked(entry: int) -> Entry:
    return entry >> NS_SHIFT, entry >> KEY_BITS & (2**KIND_BITS - 1), entry & (2**KEY_BITS - 1)
