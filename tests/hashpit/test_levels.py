"""The local copy of a live market: snapshot and deltas give the server's levels, and what is wrong is noticed."""

from typing import Any
from zlib import crc32

import pytest

from engine.types import MarketState
from gateway.config import LiveListing
from gateway.listings import live_market
from gateway.views import live_market_info
from gateway.wire import ChannelMessage, LiveBookView, LiveMarketInfo
from hashpit.levels import Level, Levels


def terms() -> LiveMarketInfo:
    return live_market_info(live_market(LiveListing(algorithm="SHA256")), MarketState.OPEN)


def message(
    kind: Any, seq: int, text: bytes, bids: Any = (), asks: Any = (), prev: int | None = None, **more: Any
) -> ChannelMessage:
    """A message of the channel; ``text`` is what its checksum is over."""
    view = LiveBookView("open", more.get("assigned", "0.000"), more.get("marginal"), [*bids], [*asks], crc32(text))
    return ChannelMessage("live.SHA256-LIVE", kind, seq, seq - 1 if prev is None else prev, 0, view)


SNAPSHOT = message(
    "snapshot",
    5,
    b"b50000:-:1500;a45000:2000:1500;",
    [("0.00050000", None, "1.500")],
    [("0.00045000", "2.000", "1.500")],
    assigned="1.500",
    marginal="0.00050000",
)


def test_snapshot_and_deltas() -> None:
    levels = Levels(terms())
    assert (levels.synced, levels.trouble) == (False, "no snapshot yet")
    assert levels.apply(SNAPSHOT)
    assert [*levels.bids()] == [Level(50_000, None, 1_500)]
    assert [*levels.asks()] == [Level(45_000, 2_000, 1_500)]
    assert (levels.assigned, levels.marginal, levels.seq, levels.synced) == (1_500, 50_000, 5, True)
    raised = message(
        "delta",
        6,
        b"b50001:7:7;a45000:2000:7;",
        [("0.00050001", "0.007", "0.007"), ("0.00050000", "0.000", "0.000")],
        [("0.00045000", "2.000", "0.007")],
        assigned="0.007",
        marginal="0.00050001",
    )
    assert levels.apply(raised)
    assert [*levels.bids()] == [Level(50_001, 7, 7)]
    gone = message("delta", 7, b"", [("0.00050001", "0.000", "0.000")], [("0.00045000", "0.000", "0.000")])
    assert levels.apply(gone)
    assert [*levels.bids()] == [*levels.asks()] == []
    assert (levels.assigned, levels.marginal) == (0, 0)


def test_nothing_counts_before_the_first_snapshot() -> None:
    levels = Levels(terms())
    assert not levels.apply(message("delta", 1, b""))
    assert levels.apply(SNAPSHOT)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (message("delta", 7, b"b50000:-:1500;a45000:2000:1500;", prev=6), "gap"),
        (message("delta", 6, b"b50000:-:1500;a45000:2000:1501;"), "checksum"),
        (message("delta", 6, b"", [("0.000500001", "1.000", "0.000")]), "steps"),
        (message("delta", 6, b"", [], [("0.00050000", "1.0001", "0.000")]), "steps"),
    ],
)
def test_what_is_wrong_is_noticed_and_a_snapshot_mends_it(wrong: ChannelMessage, why: str) -> None:
    levels = Levels(terms())
    levels.apply(SNAPSHOT)
    assert not levels.apply(wrong)
    assert why in levels.trouble
    assert not levels.synced
    assert levels.apply(SNAPSHOT)
    assert (levels.synced, levels.trouble) == (True, "")
