"""The bench of live markets runs, tiny, and its flow is what it says."""

from bench import live
from engine.commands import AmendAsk, AmendBid, Cancel, PlaceAsk, PlaceBid, ReportFlow
from engine.invariants import check


def test_the_flow_is_what_it_says() -> None:
    edits = live.Edits(60, 640, seed=1)
    made = [type(entry.command) for round_, _ in edits.rounds for entry in round_]
    assert len(made) == 640
    assert set(made) == {AmendAsk, AmendBid, Cancel, PlaceAsk, PlaceBid}
    assert 0.4 < made.count(AmendBid) / len(made) < 0.7
    assert {type(entry.command) for _, reports in edits.rounds for entry in reports} == {ReportFlow}
    check(edits.engine)
    assert edits.moves > 640
    # what ended is reported, so nothing waits for long
    waiting = sum(flow.speed == 0 for flow in edits.engine.live.flowing.by_id.values())
    assert waiting == 0


def test_the_same_seed_makes_the_same_commands() -> None:
    assert live.Edits(20, 64, seed=3).rounds == live.Edits(20, 64, seed=3).rounds


def test_the_bench_measures() -> None:
    result = live.measure(edits=128, orders_=500, turns=2, sizes=(10, 40))
    assert [size.orders for size in result.sizes] == [10, 40]
    assert all(size.cpu_us.median > 0 and size.moves > 0 for size in result.sizes)
    assert result.met == (result.sizes[-1].ratio.median >= live.BAR)
