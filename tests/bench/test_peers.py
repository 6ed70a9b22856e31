"""The benches of the bare order book, tiny; and the flow and the plain book that they trust."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from bench import book as book_bench
from bench import peers
from bench.common import OutcomeError
from bench.drivers.bare import Bare
from bench.drivers.base import run
from bench.flow import AMEND, CANCEL, IOC, LIMIT, MARKET, Op, Outcome, PlainBook, build, load, resolve
from bench.peers import EMPTY, PLAIN, Course, Peer, PeerError, Run, judge


def test_flow_is_what_it_says() -> None:
    flow = build(seed=1, ops=4_000, preload=1_000)
    assert flow.rows == build(seed=1, ops=4_000, preload=1_000).rows
    assert flow.rows != build(seed=2, ops=4_000, preload=1_000).rows
    assert (len(flow), flow.preload) == (4_000, 1_000)
    book = PlainBook()
    for op in flow.ops(0, 1_000):
        assert op.kind == LIMIT
        assert book.apply(op) == []
    kinds: Counter[int] = Counter()
    crossing = smaller = 0
    sizes = []
    for op in flow.ops(1_000, 5_000):
        kinds[op.kind] += 1
        if op.kind in (CANCEL, AMEND):
            assert op.order_id in book.orders
            smaller += op.kind == AMEND and op.price == book.orders[op.order_id].price
        fills = book.apply(op)
        crossing += op.kind == LIMIT and bool(fills)
        sizes.append(len(book.orders))
    assert kinds[LIMIT] / 4_000 == pytest.approx(0.55, abs=0.03)
    assert kinds[CANCEL] / 4_000 == pytest.approx(0.35, abs=0.03)
    assert (kinds[MARKET] + kinds[IOC]) / 4_000 == pytest.approx(0.05, abs=0.015)
    assert kinds[AMEND] / 4_000 == pytest.approx(0.05, abs=0.015)
    assert smaller / kinds[AMEND] == pytest.approx(0.5, abs=0.15)
    assert crossing / kinds[LIMIT] == pytest.approx(0.08, abs=0.03)
    assert 800 <= min(sizes) <= max(sizes) <= 1_050


def test_plain_book_knows_both_conventions() -> None:
    ops = [
        Op(LIMIT, 1, False, 10, 6),
        Op(LIMIT, 2, False, 10, 5),
        Op(AMEND, 1, False, 10, 4),  # smaller at the same price
        Op(LIMIT, 3, True, 10, 3),
        Op(AMEND, 2, False, 9, 5),  # moved
        Op(IOC, 4, True, 9, 9),
        Op(CANCEL, 2, False, 0, 0),  # gone
        Op(AMEND, 2, False, 8, 5),
        Op(MARKET, 5, True, 0, 2),
    ]
    keep, repl = PlainBook(keeps=True), PlainBook(keeps=False)
    assert [keep.apply(op) for op in ops[:4]][3] == [(1, 10, 3)]
    assert [repl.apply(op) for op in ops[:4]][3] == [(2, 10, 3)]
    assert [keep.apply(op) for op in ops[4:]] == [[], [(2, 9, 5)], [], [], [(1, 10, 1)]]
    assert (keep.best_bid, keep.best_ask) == (0, 0)


def test_our_book_does_what_the_plain_one_does(tmp_path: Path) -> None:
    flow, right = resolve(build(seed=3, ops=3_000, preload=600), keeps=True)
    flow.save(tmp_path / "flow")
    assert load(tmp_path / "flow").rows == flow.rows
    done = msgspec.convert(run(Bare, tmp_path / "flow"), Run)
    assert judge(done, {True: right})[0]
    assert done.digest == right.digest
    assert done.fills is not None
    assert done.fills > 300
    assert len(run(Bare, tmp_path / "flow", latency=True)["nanoseconds"]) == 3_000


def test_what_a_book_did_wrong_is_told() -> None:
    keep = Outcome(fills=100, qty=1_000, value=50_000, best_bid=49, best_ask=51, digest="")
    repl = keep._replace(fills=101)
    both = {True: keep, False: repl}

    def told(**changes: int | None) -> tuple[bool, str]:
        figures = keep._asdict() | {
            "ops": 1,
            "seconds": 1.0,
            "cpu_seconds": 1.0,
            "added_bytes": 0,
            "build": "",
            "nanoseconds": [],
        }
        return judge(msgspec.convert(figures | changes, Run), both)

    assert told() == (True, "exact (keep)")
    assert told(fills=101) == (True, "exact (repl)")
    assert told(fills=None) == (False, "tells no fills; bid and ask right")
    assert told(fills=94, qty=1_006) == (False, "wrong: -6 of 100 fills, +6 of 1,000 lots; bid and ask right")
    assert told(value=49_500, best_ask=52) == (False, "wrong: value -1.00%; bid and ask wrong")
    assert told(best_bid=48) == (False, "fills right; bid and ask wrong")


def test_peers_bench_and_a_peer_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(why: str, *command: str) -> None:
        raise PeerError(f"{why}: no network")

    monkeypatch.setattr(peers, "_command", no_network)
    result = peers.measure([PLAIN.name, EMPTY.name, "liquibook"], rounds=1, ops=200, cache=tmp_path)
    ours, empty, theirs = result.rows
    assert ours.correct
    assert ours.per_second is not None
    assert empty.per_second is not None
    assert empty.verdict == "no book, the call alone"
    assert "no network" in theirs.failed
    assert theirs.package == "liquibook==2.0.1"


def test_a_driver_that_fails_says_why(tmp_path: Path) -> None:
    flows = Course(tmp_path, ops=10, seed=1, cache=tmp_path)
    with pytest.raises(PeerError, match=r"ended with code 1: .*No module named"):
        flows.run(Peer("nobody", "nobody"))
    with pytest.raises(PeerError, match=r"needs Python 9\.1"):
        flows.run(Peer("tomorrow", "bare", ("tomorrow==1",), python=(9, 1)))
    with pytest.raises(OutcomeError, match="no book is called"):
        peers.peer("nobody")


def test_book_bench() -> None:
    result = book_bench.measure(rounds=1, ops=200)
    assert [row.name for row in result.rows] == ["hashpit compiled", "hashpit plain", "empty method"]
    assert result.rows[1].correct
    assert result.fills > 10
    assert not result.recorded
    assert "limit" in book_bench.profile(ops=50)


def test_book_bench_notices_another_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(book_bench.RECORDED, (1, 50, 50), "0" * 64)
    with pytest.raises(OutcomeError, match="is recorded in"):
        book_bench.measure(rounds=1, ops=50, seed=1)
