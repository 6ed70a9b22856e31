"""The conversion of Bitstamp's events, on a small recording made up here; the real one needs requirements-research.txt."""

from decimal import Decimal
from typing import Any

from scripts.bitstamp import EXPLAINED_REJECTS, Event, Match, convert, find_rejects, stale_orders


def event(id: str, price: str, volume: str, action: str, side: str, ms: int = 0, live: bool = True) -> Event:
    return Event(id, ms, Decimal(price), Decimal(volume), action, side, live)


# A snapshot of one bid, two asks and a bid whose price the feed cannot show; ask "gone" was canceled before the recording.
EVENTS = [
    event("bid", "99", "2", "created", "buy", live=False),
    event("tiny", "0", "5", "created", "buy", live=False),
    event("gone", "100", "1", "created", "sell", live=False),
    event("ask", "101", "3", "created", "sell", live=False),
    event("maker", "101", "1", "created", "buy", ms=1),  # post-only at a price that would take: refused
    event("maker", "101", "1", "deleted", "buy", ms=1),
    event("taker", "101", "1", "created", "buy", ms=2),
    event("taker", "101", "0", "changed", "buy", ms=2),
    event("ask", "101", "2", "changed", "sell", ms=2),
    event("taker", "101", "0", "deleted", "buy", ms=2),
    event("unseen", "98", "1", "deleted", "buy", ms=3),
    event("dollars", "999999999", "0", "created", "buy", ms=4),
    event("dollars", "101", "0.00000001", "deleted", "buy", ms=4),
    event("ask", "101", "1.5", "deleted", "sell", ms=5),
    event("bid", "99", "2", "deleted", "buy", ms=9, live=False),
    event("tiny", "0", "5", "deleted", "buy", ms=9, live=False),
    event("gone", "100", "1", "deleted", "sell", ms=9, live=False),
]
TRADES = [
    Match(Decimal("101.00"), Decimal("1"), "ask", "taker", "buy"),
    Match(Decimal("101.00"), Decimal("0.5"), "ask", "dollars", "buy"),
    Match(Decimal("99.00"), Decimal("1"), "bid", "x", "sell"),
]


def test_convert() -> None:
    assert stale_orders(EVENTS, TRADES) == {"gone"}
    lines: list[Any] = [(line["op"], line["id"], line.get("type")) for _, line in convert(EVENTS, TRADES)]
    assert lines == [
        ("place", "bid", "limit"),
        ("place", "tiny", "limit"),
        ("place", "ask", "limit"),
        ("place", "maker", "limit"),
        ("cancel", "maker", None),
        ("place", "taker", "limit"),
        ("cancel", "unseen", None),
        ("place", "dollars", "market"),
        ("cancel", "dollars", None),
        ("cancel", "ask", None),
    ]
    by_id = {line["id"]: line for _, line in convert(EVENTS, TRADES) if line["op"] == "place"}
    assert by_id["maker"]["post_only"] == "reject"
    assert by_id["dollars"]["qty"] == "0.5"


def test_every_reject_is_explained() -> None:
    rejects = find_rejects(list(convert(EVENTS, TRADES)))
    assert set(rejects) == set(EXPLAINED_REJECTS)
    assert set(rejects.values()) == {1}
