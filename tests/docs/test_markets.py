"""docs/MARKETS.md: every table with numbers is what the engine says."""

import re
from pathlib import Path

import msgspec
import pytest

from engine.events import BidEnded, BidResumed, BidStopped, FlowChanged, FlowPaid
from engine.limits import SECOND_NS
from engine.types import Pricing
from gateway.scale import MONEY
from tests.docs.markets import PRICE, SPEED, DatedExample, Example, cids_raise, crossing, dated_day, pegged
from tests.engine.live import HOUR_NS, Live

TEXT = Path(__file__).parents[2].joinpath("docs", "MARKETS.md").read_text()
MINUTE_NS = 60 * SECOND_NS


def tables(mark: str) -> list[list[list[str]]]:
    """The tables behind a mark, up to the next one; each without its two header rows."""
    text = TEXT.partition(f"<!-- {mark} -->")[2].partition("<!--")[0]
    assert text, f"MARKETS.md lost its mark {mark}"
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()[2:]] for rows in found]


def test_the_day() -> None:
    day = dated_day()
    table, ending = tables("day")
    for row, moment in zip(table, day.moments.values(), strict=True):
        money = msgspec.structs.astuple(moment)[1:]
        assert row[:1] + row[2:] == [moment.at[5:], *map(MONEY.format, money)]
        assert sum(money) == 150_000_000
    assert [row[2] for row in ending] == [*map(MONEY.format, (day.paid, day.bond_released, day.refund, day.compensation))]
    spec = DatedExample().spec
    assert (spec.maker_fee_bps, spec.taker_fee_bps, spec.bond_bps, spec.penalty_bps) == (10, 20, 2_000, 500)


def test_the_crossing() -> None:
    found = crossing()
    bids = [
        [bid.name, PRICE.format(bid.price), "none" if bid.size is None else SPEED.format(bid.size), SPEED.format(bid.speed)]
        for bid in found.bids
    ]
    asks = [[ask.name, PRICE.format(ask.price), SPEED.format(ask.size or 0), SPEED.format(ask.speed)] for ask in found.asks]
    assert tables("crossing") == [bids, asks]
    assert found.marginal == found.bids[1].price


def test_the_raise() -> None:
    moves = [
        [str(move.flow_id), move.ask, move.bid, SPEED.format(move.old_speed), SPEED.format(move.speed)]
        for move in cids_raise().moves
    ]
    assert tables("raise") == [moves]


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
    rows = [[PRICE.format(step.rival), PRICE.format(step.ann), "yes" if step.ann_holds else "no"] for step in pegged().steps]
    assert tables("peg") == [rows]


@pytest.mark.parametrize("mark", re.findall(r"<!-- (\w+) -->", TEXT))
def test_every_mark_is_computed(mark: str) -> None:
    assert f"test_the_{mark}" in globals()
