"""docs/MARKETS.md: every table with numbers is what the engine says."""

import re
from pathlib import Path

import pytest

from engine.commands import AmendBid
from engine.events import BidEnded, BidResumed, BidStopped, FlowChanged, FlowPaid
from engine.limits import SECOND_NS
from engine.types import Peg, Pricing
from gateway.scale import MONEY, Scale
from tests.engine.live import HOUR_NS, Live

TEXT = Path(__file__).parents[2].joinpath("docs", "MARKETS.md").read_text()
PRICE, SPEED = Scale("0.00000001"), Scale("0.001")
MINUTE_NS = 60 * SECOND_NS


def tables(mark: str) -> list[list[list[str]]]:
    """The tables behind a mark, up to the next one; each without its two header rows."""
    text = TEXT.partition(f"<!-- {mark} -->")[2].partition("<!--")[0]
    assert text, f"MARKETS.md lost its mark {mark}"
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]] for rows in found]


class Example:
    """The market of the page: three bids, three rigs."""

    def __init__(self, pricing: Pricing = Pricing.PAY_AS_BID) -> None:
        self.live = Live("ann", "bob", "cid", "rig-1", "rig-2", "rig-3", pricing=pricing, buyer_fee_bps=300, seller_fee_bps=200)
        live = self.live
        self.asks = {
            "rig-1": live.ask("rig-1", 45_000, 5_000),
            "rig-2": live.ask("rig-2", 50_000, 2_000),
            "rig-3": live.ask("rig-3", 54_000, 3_000),
        }
        self.bids = {
            "ann": live.bid("ann", 60_000, 4_000),
            "bob": live.bid("bob", 55_000, 3_000),
            "cid": live.bid("cid", 52_000),
        }
        self.names = {order_id: name for name, order_id in (*self.asks.items(), *self.bids.items())}


def test_the_crossing() -> None:
    example = Example()
    live = example.live
    limits = {"ann": "4.000", "bob": "3.000", "cid": "none"}
    bids = [
        [name, PRICE.format(live.price(order)), limits[name], SPEED.format(live.speed(order))]
        for name, order in example.bids.items()
    ]
    asks = [
        [
            name,
            PRICE.format(live.price(order)),
            SPEED.format(live.engine.live.orders[order].remaining),
            SPEED.format(live.speed(order)),
        ]
        for name, order in example.asks.items()
    ]
    assert tables("crossing") == [bids, asks]
    assert live.market.marginal == 55_000


def test_the_raise() -> None:
    example = Example()
    live = example.live
    live.apply(AmendBid(live.accounts["cid"], example.bids["cid"], "", 56_000))
    moved = [
        [str(e.flow_id), example.names[e.ask_id], example.names[e.bid_id], SPEED.format(e.old_speed), SPEED.format(e.speed)]
        for e in live.told(FlowChanged)
    ]
    assert tables("raise") == [moved]


def test_the_hour() -> None:
    columns: list[dict[str, tuple[int, int]]] = []
    for pricing in (Pricing.PAY_AS_BID, Pricing.UNIFORM):
        example = Example(pricing)
        live = example.live
        live.wait(HOUR_NS)
        costs = dict.fromkeys(("ann", "bob"), (0, 0))
        for flow_id, flow in list(live.engine.live.flowing.by_id.items()):
            live.report(flow_id, flow.speed * 10**12 * 3_600)
            (paid,) = live.told(FlowPaid)
            cost, fee = costs[example.names[paid.bid_id]]
            costs[example.names[paid.bid_id]] = cost + paid.cost, fee + paid.cost + paid.buyer_fee
        columns.append(costs)
    as_bid, uniform = columns
    rows = [[name, *[MONEY.format(value) for value in (*as_bid[name], *uniform[name])]] for name in ("ann", "bob")]
    assert tables("hour") == [rows]


def test_the_budget() -> None:
    live = Live("ann", "rig", budget_min=1_000)
    live.ask("rig", 1, 1_000)
    bid = live.bid("ann", 24_000, 1_000, budget=1_000_000)
    hour = 1_000 * 10**12 * 3_600
    start = live.ts_ns
    left = [1_000_000]
    minutes = [0]
    for hashes in (hour // 10, hour * 9 // 10):
        while not live.told(BidStopped):
            live.wait(MINUTE_NS)
        stopped_ns = live.told(FlowChanged)[0].ts_ns
        # some nanoseconds before the full minute
        minutes += [-(-(stopped_ns - start) // MINUTE_NS)] * 2
        left.append(live.told(BidStopped)[0].left)
        flow_id = live.told(FlowChanged)[0].flow_id
        live.report(flow_id, hashes, final=True)
        ends = [event.returned for event in live.told(BidEnded)]
        left += ends or [event.left for event in live.told(BidResumed)]
    rows = tables("budget")[0]
    assert [int(row[0]) for row in rows] == minutes
    # a few msat are never spent: what rounding could have cost
    assert [MONEY.parse(row[2]) for row in rows[:-1]] == left[:-1]
    assert left[-1] < 10
    assert bid not in live.engine.live.orders


def test_the_peg() -> None:
    live = Live("ann", "bob", "rig")
    live.ask("rig", 1, 5)
    rival = live.bid("bob", 1_000, 5)
    pegged = live.peg("ann", Peg.TOP, offset=1, cap=1_055, limit=5)
    rows = []
    for step in range(1, 11):
        live.amend(rival, price=1_000 + 10 * step)
        holds = "yes" if live.speed(pegged) == 5 else "no"
        rows.append([PRICE.format(live.price(rival)), PRICE.format(live.price(pegged)), holds])
    assert tables("peg") == [rows]


@pytest.mark.parametrize("mark", re.findall(r"<!-- (\w+) -->", TEXT))
def test_every_mark_is_computed(mark: str) -> None:
    assert f"test_the_{mark}" in globals()
