"""The benches of what an exchange keeps run, tiny: recovery, memory, scaling, soak."""

from pathlib import Path

import msgspec
import pytest

from bench import memory, recovery, scaling, soak
from bench.common import OutcomeError, Spread
from bench.scaling import Comparison, Flow, Size
from engine.commands import Amend, Cancel, Place
from gateway.journal import decode_batch
from hashpit.build import build_kind


@pytest.mark.slow
def test_recovery_bench(tmp_path: Path) -> None:
    result = recovery.measure(
        commands=300, accounts=10, resting_orders=50, orders=200, repeats=1, seed=1, data=tmp_path, quiet=True
    )
    assert result.replay.ratio.median > 0
    assert [(restore.history, restore.orders) for restore in result.restores] == [("placed", 200), ("traded", 20), ("aged", 20)]
    assert all(restore.snapshot_bytes > 200 for restore in result.restores)
    assert len({result.replay.state_hash, *(restore.state_hash for restore in result.restores)}) == 4
    assert list(tmp_path.iterdir()) == []
    assert msgspec.json.decode(msgspec.json.encode(result), type=recovery.Result) == result


def test_recovery_bench_notices_another_state() -> None:
    run = recovery.Run(1, 1.0, 1.0, "a")
    with pytest.raises(OutcomeError, match="different states"):
        recovery._same_hash([run, msgspec.structs.replace(run, state_hash="b")])


@pytest.mark.slow
def test_memory_bench() -> None:
    result = memory.measure(orders=2_000, accounts=10, many_accounts=500, repeats=1, seed=1)
    builds = {"compiled", "plain"} if build_kind() == "compiled" else {"plain"}
    assert {(figure.kind, figure.build) for figure in result.figures} == {
        (kind, build) for kind in memory.KINDS for build in builds
    }
    order = result.figures[0]
    assert 0 < sum(order.containers.values()) < order.bytes.median


def test_memory_bench_in_this_process() -> None:
    for kind in memory.KINDS:
        assert memory.weigh(kind, 300, 10, 1).build == build_kind()


def test_scaling_flow_is_what_it_says() -> None:
    flow = Flow(Size(500, 2, 20), seed=1)
    commands = [entry.command for _ in range(4) for entry in decode_batch(flow.slice())]
    shares = {kind: [type(command) for command in commands].count(kind) / len(commands) for kind in (Place, Cancel, Amend)}
    assert shares == {
        Place: pytest.approx(0.6, abs=0.04),
        Cancel: pytest.approx(0.35, abs=0.04),
        Amend: pytest.approx(0.05, abs=0.02),
    }
    assert len({command.market for command in commands if isinstance(command, Place)}) == 2


@pytest.mark.slow
def test_scaling_bench() -> None:
    small, large = Size(300, 1, 10), Size(600, 2, 10)
    result = scaling.measure((small, large), (Comparison("twice", large, small, 1.0),), turns=2, slices=1, seed=1)
    assert [cost.size for cost in result.costs] == [small, large]
    assert all(cost.trades > 100 for cost in result.costs)
    (verdict,) = result.verdicts
    assert verdict.met == (verdict.ratio.median <= 1.0)


def test_scaling_verdict_is_of_ratios_within_turns() -> None:
    verdict = scaling.verdict("x", [1.0, 4.0, 30.0], [1.0, 2.0, 10.0], 1.5)
    assert verdict == scaling.Verdict("x", Spread(2.0, 1.0, 3.0), 1.5, met=False)


@pytest.mark.slow
def test_soak_bench(tmp_path: Path) -> None:
    result = soak.measure(minutes=0.02, rate=200, warm_up=200, traders=2, subscribers=1, seed=1, data=tmp_path)
    assert result.steady.commands > 100
    assert result.named.placed > 50
    assert result.pings.count > 200
    assert result.pings.p50_ms > 0
    assert list(tmp_path.iterdir()) == []


MS = 1_000_000


@pytest.mark.parametrize(
    ("answers_ms", "snapshot", "waits_ms", "collections_ms", "commits_ms", "cause"),
    [
        ((9, 1), 0, (0, 0, 5), [], [], "machine"),
        ((9, 8), 0, (0, 0, 0), [], [], "machine"),
        ((9, 8), 1, (0, 0, 0), [], [], "snapshot"),
        ((9, 1), 0, (0, 0, 0), [], [(1, 7)], "disk"),
        ((9, 1), 0, (0, 0, 0), [(1, 8)], [(8, 9)], "collector"),
        ((9, 1), 1, (0, 0, 1), [(1, 3)], [(3, 5)], "server"),
    ],
)
def test_soak_tells_whose_pause_it_was(
    answers_ms: tuple[int, int],
    snapshot: int,
    waits_ms: tuple[int, ...],
    collections_ms: list[tuple[int, int]],
    commits_ms: list[tuple[int, int]],
    cause: str,
) -> None:
    server, echo = answers_ms
    waits = soak.Looks([0, 5 * MS, 10 * MS], [wait * MS for wait in waits_ms])
    probed = soak.Probed([[0, server * MS, echo * MS, snapshot]], waits, soak.Looks([], []))
    collections = soak.Overlaps([(start * MS, end * MS, 2) for start, end in collections_ms])
    commits = soak.Overlaps([(start * MS, end * MS, 1) for start, end in commits_ms])
    (pause,) = soak.pauses(probed, collections, commits)
    assert pause.cause == cause
    assert pause.ms == server


def test_soak_counts_a_pause_once() -> None:
    pings = [[0, 20 * MS, MS, 0], [5 * MS, 15 * MS, MS, 0], [40 * MS, MS, MS, 0], [50 * MS, 6 * MS, MS, 0]]
    probed = soak.Probed(pings, soak.Looks([], []), soak.Looks([], []))
    nothing = soak.Overlaps([])
    assert [pause.ms for pause in soak.pauses(probed, nothing, nothing)] == [20, 6]


def test_soak_explains_slow_orders() -> None:
    commits = soak.Overlaps([(0, 8 * MS, 1), (20 * MS, 21 * MS, 1)])
    slow = [soak.Slowness(0, 0, 9 * MS), soak.Slowness(20 * MS, 20 * MS, 29 * MS), soak.Slowness(30 * MS, 38 * MS, 39 * MS)]
    still = soak.Looks([], [])
    found = soak.explain(slow, commits, soak.Probed([], still, still), still)
    assert found == soak.Slow(disk=1, machine=1, other=1, other_max_ms=9.0)


def test_soak_looks_at_waits() -> None:
    looks = soak.Looks([], [])
    for at_ms, waited_ms in ((0, 0), (1, 0), (2, 0), (3, 0), (4, 2), (5, 2)):
        looks.add(at_ms * MS, waited_ms * MS)
    assert looks.at_ns == [0, 3 * MS, 4 * MS, 5 * MS]
    assert [looks.between(start * MS, end * MS) / MS for start, end in ((0, 2), (2, 3), (3, 4), (3, 9), (4, 5))] == [
        0,
        0,
        2,
        2,
        0,
    ]
