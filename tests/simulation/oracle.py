"""The naive exchange beside the engine: what is published, and what recovery replays, has to be what it would have said."""

from engine.commands import Entry
from engine.events import Event
from engine.limits import Limits
from gateway.journal import JournalReader
from tests.reference.exchange import NaiveExchange
from tests.simulation.world import Finding


class Oracle:
    """Follows durable entries in order."""

    def __init__(self, limits: Limits, is_on: bool) -> None:
        self._exchange = NaiveExchange(limits) if is_on else None

    def follow(self, entry: Entry, events: list[Event]) -> None:
        """Compare the engine's events with its own, event for event."""
        exchange = self._exchange
        if exchange is None or entry.seq != exchange.seq + 1:
            return
        expected = exchange.apply(entry)
        if expected != events:
            pairs = zip(events, expected, strict=False)
            first = next((f"{told}, expected {true}" for told, true in pairs if told != true), "")
            what = first or f"{len(events)} events, expected {len(expected)}"
            raise Finding(f"entry {entry.seq} ({type(entry.command).__name__}): {what}")

    def catch_up(self, journal: JournalReader) -> None:
        """Apply what a snapshot hid: entries that were durable and never published."""
        if self._exchange is not None:
            for entry in journal.entries(self._exchange.seq):
                self._exchange.apply(entry)
