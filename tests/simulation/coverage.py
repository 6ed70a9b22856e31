"""What the simulation reached: counts by kind and name, and the table of what the nightly mix has to reach."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from engine.commands import Command, Entry
from engine.events import Canceled, Event, Rejected
from engine.rejects import RejectCode
from engine.types import CancelReason
from gateway.methods import METHODS
from gateway.wire import CANCEL_REASON, Close, ErrorCode

UNREACHABLE: Final[dict[tuple[str, str], str]] = {
    ("reject", "CLIENT_ORDER_ID_INVALID"): "the gateway refuses such an id before the engine sees it",
    ("reject", "NOTIONAL_TOO_LARGE"): "no algorithm's highest price times its largest quantity comes near the bound",
}
"""What no client can bring about, or hardly ever, and why."""


class Coverage:
    """Counts of what happened, by kind (``command``, ``reject``, ...) and name."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def count(self, kind: str, name: str) -> None:
        self.counts[kind, name] += 1

    def count_entry(self, entry: Entry, events: list[Event]) -> None:
        """What the engine was asked, and what came of it."""
        counts = self.counts
        counts["command", type(entry.command).__name__] += 1
        for event in events:
            counts["event", type(event).__name__] += 1
            if isinstance(event, Rejected):
                counts["reject", event.code.name] += 1
            elif isinstance(event, Canceled):
                counts["canceled", CANCEL_REASON[event.reason]] += 1

    def add(self, other: "Coverage") -> None:
        self.counts.update(other.counts)

    def missing(self) -> list[tuple[str, str]]:
        """What should have been reached and was not."""
        return [item for item in required() if not self.counts[item] and item not in UNREACHABLE]

    def lines(self) -> Iterator[str]:
        """The report."""
        wanted = dict.fromkeys(required())
        kind = ""
        for item in sorted({**wanted, **self.counts}):
            if item[0] != kind:
                kind = item[0]
                yield f"{kind}:"
            why = ""
            if not self.counts[item]:
                why = f"   never: {UNREACHABLE[item]}" if item in UNREACHABLE else "   NEVER REACHED"
            yield f"  {self.counts[item]:10,}  {item[1]}{why}"


def required() -> Iterator[tuple[str, str]]:
    """What the nightly mix has to reach at least once."""
    yield from (("command", kind.__name__) for kind in Command.__args__)
    yield from (("event", kind.__name__) for kind in Event.__args__)
    yield from (("reject", code.name) for code in RejectCode)
    yield from (("canceled", CANCEL_REASON[reason]) for reason in CancelReason)
    yield from (("method", name) for name in METHODS)
    yield from (("error", name) for name in vars(ErrorCode) if name.isupper())
    yield from (("close", name) for name in vars(Close) if name.isupper())
    yield from (("channel", name) for name in ("account", "book", "book.100ms", "trades", "ticker", "live", "flows", "status"))
    yield from (("fault", name) for name in FAULTS)


FAULTS: Final = (
    "cut",
    "half-open",
    "deaf",
    "mute",
    "slow",
    "connection refused",
    "power cut",
    "slow commit",
    "commit lost",
    "commit torn",
    "commit kept",
    "disk full",
    "disk I/O error",
    "crash",
    "stop",
    "clock back",
    "clock forward",
    "row changed",
    "row lost",
    "rows swapped",
    "snapshot changed",
    "snapshot of another journal",
    "snapshot of another past",
    "snapshot",
    "snapshot used",
)

_ERRORS: Final = {value: name for name, value in vars(ErrorCode).items() if name.isupper()}
_CLOSES: Final = {value: name for name, value in vars(Close).items() if name.isupper()}


def error_name(code: int) -> str:
    """The name of an error code of the gateway."""
    return _ERRORS.get(code, str(code))


def close_name(code: int) -> str:
    """The name of a close code."""
    return _CLOSES.get(code, str(code))


def channel_name(channel: str) -> str:
    """A channel's family."""
    family = channel.partition(".")[0]
    return f"{family}.100ms" if channel.endswith(".100ms") else family
