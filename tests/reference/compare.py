"""An engine beside the oracle, event for event, and what a stream of commands reached of the contract."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, get_args

import pytest

from engine.commands import (
    AmendAsk,
    AmendBid,
    Command,
    DeletePool,
    Entry,
    ListLive,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    SavePool,
    SetIndex,
)
from engine.core import Engine
from engine.events import (
    AskEnded,
    AskPlaced,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    Canceled,
    DeliverySettled,
    Event,
    FlowChanged,
    FlowPaid,
    LiveListed,
    Reduced,
    Rejected,
)
from engine.rejects import RejectCode
from engine.types import CancelReason, EndReason, FlowCause
from tests.reference.exchange import NaiveExchange

LIVE_COMMANDS: Final = (
    PlaceBid,
    PlaceAsk,
    AmendBid,
    AmendAsk,
    RefillBid,
    SavePool,
    DeletePool,
    ListLive,
    ReportFlow,
    SetIndex,
)
LIVE_EVENTS: Final = get_args(Event)[get_args(Event).index(LiveListed) :]
LIVE_CODES: Final = (
    RejectCode.MARKET_KIND_WRONG,
    *(code for code in RejectCode if RejectCode.LIMIT_TOO_LOW <= code <= RejectCode.LIFE_INVALID),
    *(code for code in RejectCode if RejectCode.EDIT_LOCKED <= code <= RejectCode.POOL_UNKNOWN),
    *(code for code in RejectCode if RejectCode.PEGS_FULL <= code <= RejectCode.BUDGET_NOT_COVERED),
    *(code for code in RejectCode if RejectCode.FLOW_UNKNOWN <= code <= RejectCode.POOLS_FULL),
)

DATED_WANTED: Final = [
    *(command.__name__ for command in get_args(Command) if command not in LIVE_COMMANDS),
    *(event.__name__ for event in get_args(Event) if event not in LIVE_EVENTS),
    *(code.name for code in RejectCode if code not in LIVE_CODES),
    *(f"Canceled {reason.name}" for reason in CancelReason),
    *(f"Reduced {reason.name}" for reason in (CancelReason.SELF_TRADE, CancelReason.REDUCE_ONLY)),
    *(f"repeated {name}" for name in ("Accepted", "Rejected", "BalanceChanged")),
    *(f"settled with {name}" for name in ("breach", "refund", "compensation", "surplus", "from_insurance")),
]
LIVE_WANTED: Final = [
    *(command.__name__ for command in LIVE_COMMANDS),
    *(event.__name__ for event in LIVE_EVENTS),
    *(code.name for code in LIVE_CODES),
    *(f"flow moved by {cause.name}" for cause in FlowCause),
    *(f"flow pointed elsewhere by {cause.name}" for cause in (FlowCause.BID_AMENDED,)),
    *(f"bid amended by {cause.name}" for cause in (FlowCause.BID_AMENDED, FlowCause.BID_REPRICED)),
    *(f"BidEnded {reason.name}" for reason in EndReason),
    *(f"AskEnded {reason.name}" for reason in EndReason if reason != EndReason.SPENT),
    *(f"repeated {kind.__name__}" for kind in (BidPlaced, AskPlaced, BidRefilled, Rejected)),
    *(f"paid with {name}" for name in ("work", "cost", "buyer_fee", "seller_fee", "released", "final")),
    "bid ended with work to wait for",
    "stopped, and on for a second or more",
]


def covered(entry: Entry, events: list[Event]) -> list[str]:
    """Names of what an entry and its events exercise."""
    names = [type(entry.command).__name__]
    for event in events:
        names.append(type(event).__name__)
        if isinstance(event, Rejected):
            names.append(event.code.name)
        if isinstance(event, Canceled | Reduced | BidEnded | AskEnded):
            names.append(f"{type(event).__name__} {event.reason.name}")
        if getattr(event, "repeat", False):
            names.append(f"repeated {type(event).__name__}")
        if isinstance(event, DeliverySettled):
            money = ("breach", "refund", "compensation", "surplus", "from_insurance", "uncovered")
            names += [f"settled with {name}" for name in money if getattr(event, name)]
        if isinstance(event, FlowPaid):
            parts = ("work", "cost", "buyer_fee", "seller_fee", "released", "final")
            names += [f"paid with {name}" for name in parts if getattr(event, name)]
        if isinstance(event, FlowChanged):
            how = "pointed elsewhere" if event.speed == event.old_speed else "moved"
            names.append(f"flow {how} by {event.cause.name}")
        if isinstance(event, BidAmended):
            names.append(f"bid amended by {event.cause.name}")
        if isinstance(event, BidEnded) and event.returned < event.budget - event.spent:
            names.append("bid ended with work to wait for")
    return names


def compare(
    engine: Engine,
    oracle: NaiveExchange,
    entries: Iterable[Entry],
    each: Callable[[Engine, int], Engine] = lambda engine, _: engine,
) -> Counter[str]:
    """Run a stream through both; returns what it covered.

    ``each`` is called after every entry with the engine and the entry's number, and returns the engine to go on with.
    """
    coverage: Counter[str] = Counter()
    for entry in entries:
        expected, got = oracle.apply(entry), engine.apply(entry)
        if got != expected:
            pytest.fail(difference(entry, expected, got), pytrace=False)
        coverage.update(covered(entry, expected))
        engine = each(engine, entry.seq)
    coverage["stopped, and on for a second or more"] += oracle.live.went_on
    return coverage


def difference(entry: Entry, expected: list[Event], got: list[Event]) -> str:
    lines = [str(entry)]
    for number in range(max(len(expected), len(got))):
        ours = expected[number] if number < len(expected) else None
        theirs = got[number] if number < len(got) else None
        if ours == theirs:
            lines.append(f"  both    {ours}")
        else:
            lines += [f"  oracle  {ours}", f"  engine  {theirs}"]
    return "\n".join(lines)


def show(coverage: Counter[str], wanted: list[str]) -> None:
    """Print how often each was reached; AssertionError for what never was."""
    print()
    for name in wanted:
        print(f"  {coverage[name]:9,}  {name}")
    missing = [name for name in wanted if not coverage[name]]
    assert not missing, f"never reached: {', '.join(missing)}"
