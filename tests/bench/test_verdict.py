"""The verdict says met, missed or not measured, with the right exit code; all benches are run and kept; plots are drawn."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from bench import __main__ as every
from bench import engine, fanout, gateway, live, memory, peers, plots, recovery, scaling, soak, verdict
from bench.common import RESULTS, Machine, OutcomeError, Spread, Stored, machine
from bench.load import Figures
from bench.peers import PeerError, Row
from bench.verdict import Line, Part, line


def invoke(command: Callable[..., None], *arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def even(value: float) -> Spread:
    return Spread(value, value, value)


def row(name: str, cpu_us: float, package: str = "", failed: str = "", correct: bool = True) -> Row:
    if failed:
        return Row(name, package, failed=failed)
    figures: dict[str, Any] = {"per_second": even(1_000 / cpu_us), "cpu_us": even(cpu_us), "cpu_ratio": even(2.0 / cpu_us)}
    return Row(name, package, correct=correct, verdict="exact" if correct else "wrong: -6 fills; bid right", **figures)


def books(*changed: Row) -> peers.Result:
    rows = [
        row("hashpit compiled", 0.4),
        row("hashpit plain", 0.8),
        row("liquibook", 2.0, "liquibook==2.0.1"),
        row("litebook", 0.5, "litebook==0.0.1", correct=False),
    ]
    names = {one.name: one for one in [*rows, *changed]}
    return peers.Result(machine(), seed=1, ops=100, rounds=1, rows=list(names.values()))


# ----------------------------------------------------------------------------------------------------------------- verdict


def test_a_line_is_met_at_its_bar_or_beyond() -> None:
    signs: tuple[verdict.Sign, ...] = (">=", "<=", "<", ">")
    assert [line(1, "x", sign, 2.0, 2.0).met for sign in signs] == [True, True, False, False]
    assert [line(1, "x", sign, 2.0, Spread(3.0, 1.0, 4.0)).met for sign in signs] == [True, False, False, True]
    assert not line(1, "x", "<", 2.0, "no network").met


def test_lines_tell_figure_bar_and_range() -> None:
    one = line(4, "an idle session", "<", 16.0, Spread(12.5, 12.0, 13.0), "KiB")
    assert (verdict.figure(one), verdict.bar(one), verdict.verdict(one)) == ("12.5 (12 to 13) KiB", "< 16 KiB", "met")
    assert verdict.figure(line(4, "x", "<", 1.0, "no compiler")) == "not measured: no compiler"


@pytest.mark.parametrize(
    ("only", "code", "told"),
    [
        ("1", 0, "1 met, 0 missed"),
        ("1,2", 1, "1 met, 1 missed"),
        ("3", 1, "not measured: no server"),
        ("", 1, "1 met, 2 missed"),
    ],
)
def test_the_exit_code_tells_what_was_missed(monkeypatch: pytest.MonkeyPatch, only: str, code: int, told: str) -> None:
    def broken() -> Iterator[Line]:
        yield line(3, "lost", "<=", 1.0, 0.5)
        raise OutcomeError("no server")

    parts = {
        1: Part("good", 1, lambda: iter([line(1, "rate", ">=", 1.0, 2.0)])),
        2: Part("bad", 1, lambda: iter([line(2, "rate", ">=", 1.0, 0.5)])),
        3: Part("broken", 1, broken),
    }
    monkeypatch.setattr(verdict, "PARTS", parts)
    found, output = invoke(verdict.main, *(["--only", only] if only else []))
    assert found == code, output
    assert told in output
    found, output = invoke(verdict.main, "--json", *(["--only", only] if only else []))
    assert found == code
    assert msgspec.json.decode(output, type=verdict.Result).lines


def test_a_number_that_is_not_there_is_refused() -> None:
    for text in ("8", "book"):
        with pytest.raises(typer.BadParameter):
            verdict.numbers(text)


def test_the_book_is_judged_against_every_correct_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(*changed: Row) -> list[Line]:
        monkeypatch.setattr(peers, "measure", lambda *_: books(*changed))
        return list(verdict.book())

    compiled, plain, best = lines()
    assert (compiled.figure, compiled.met) == (5.0, True)
    assert (plain.figure, plain.met) == (2.5, True)
    assert (best.figure, best.met) == (2.5, True), "litebook is faster, and wrong"
    assert [one.met for one in lines(row("litebook", 0.5, "litebook==0.0.1"))] == [True, True, False]
    compiled, plain, best = lines(row("hashpit compiled", 0.0, failed="not compiled"))
    assert (compiled.not_measured, plain.met, best.met) == ("not compiled", True, True)
    found = lines(row("liquibook", 0.0, "liquibook==2.0.1", failed="no network"))
    assert all("no network" in one.not_measured and not one.met for one in found)


def test_the_engine_is_judged_in_both_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flows:
        def __enter__(self) -> "Flows":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def run(self, _: object) -> Any:
            if failing:
                raise PeerError("no network")
            return msgspec.defstruct("Run", [("cpu_us", float)])(cpu_us=2.0)

    def in_build(plain: bool, *_: int) -> Any:
        if not plain:
            raise OutcomeError("not compiled")
        return msgspec.defstruct("Result", [("cpu_us", float)])(cpu_us=4.0)

    failing = False
    monkeypatch.setattr(verdict, "course", lambda _: Flows())
    monkeypatch.setattr(engine, "in_build", in_build)
    compiled, plain = verdict.whole_engine()
    assert compiled.not_measured == "not compiled"
    assert (plain.figure, plain.met) == (0.5, False)
    failing = True
    assert [one.not_measured for one in verdict.whole_engine()] == ["no network", "no network"]


# ------------------------------------------------------------------------------------------------------------ tiny results


def a_machine() -> Machine:
    return Machine("compiled", "3.11", "Linux", "a processor", 2, 0.5)


def a_gateway() -> gateway.Result:
    figures = Figures(100, 1_000, 8.0, 6.0, 2.0, 0.5, 0.5, 1.0, 1.0, 100.0, 200.0, 300.0)
    closed = gateway.Closed(figures, figures, figures, figures, even(1.9), even(1.1), even(1.8), even(0.9))
    latency = gateway.Latency(500.0, 2_000.0, 9_000.0)
    rates = [
        gateway.Rate(share, round(1_000 * share), latency, latency, latency, 1.0, 900.0, 0.1, 10.0, even(2.5))
        for share in gateway.SHARES
    ]
    return gateway.Result(
        a_machine(), 10, 32, 1.0, 1, closed, rates, gateway.Unloaded(latency, latency, latency, even(120.0)), {}
    )


def a_fanout() -> fanout.Result:
    delivery = fanout.Delivery(2.0, 1.0, 1.0, 100_000)
    found = [
        fanout.Fanout(count, calls, 100, float(calls), delivery, delivery, delivery, even(0.9), even(0.8))
        for count, calls in fanout.CASES
    ]
    return fanout.Result(a_machine(), 1.0, 1, found, 1_000, 12 * 1_024, 20 * 1_024, {})


def a_live() -> live.Result:
    sizes = [live.Size(size, even(1e5), even(9.0), even(4.0), 2.0, size, even(0.2), "") for size in live.SIZES]
    return live.Result(a_machine(), 1, 1, even(5e5), even(2.0), sizes, live.BAR, False)


def a_scaling() -> scaling.Result:
    costs = [scaling.Cost(size, 500, 200, Spread(4.0, 3.0, 5.0)) for size in scaling.SIZES]
    verdicts = [scaling.verdict(one.what, [1.3], [1.0], one.bar) for one in scaling.COMPARISONS]
    return scaling.Result(a_machine(), 1, 1, costs, verdicts)


def a_soak(own_pause_ms: float = 0.0) -> soak.Result:
    times = soak.Times(10, 0.5, 2.0, 3.0, 4.0)
    seconds = [soak.Second(float(at), 60.0, 0.5, 2.0, 4.0) for at in range(1, 5)]
    phase = soak.Phase(seconds, 10, 5, 1, times, times, soak.Slow(), 60.0, 60.5, 0.1)
    pauses: dict[soak.Cause, int] = dict.fromkeys(soak.CAUSES, 0)
    worst = [soak.Pause(1.0, 40.0, "machine", 39.0, 1.0, 0.0)]
    if own_pause_ms:
        worst.append(soak.Pause(2.0, own_pause_ms, "server", 0.0, 1.0, 0.0))
    return soak.Result(a_machine(), 1.0, 1_000, 3, 1.0, phase, phase, 600, times, times, pauses, worst, [], [])


def test_the_other_parts_judge_what_their_benches_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "measure", lambda **_: a_gateway())
    assert [one.met for one in verdict.durable_orders()] == [True, True, True, False, False, True]
    odd = a_gateway()
    odd.unloaded.above_us = even(-3_000.0)
    monkeypatch.setattr(gateway, "measure", lambda **_: odd)
    assert "means nothing" in list(verdict.durable_orders())[4].not_measured
    monkeypatch.setattr(fanout, "measure", lambda *_: msgspec.structs.replace(a_fanout(), fanouts=a_fanout().fanouts[-2:]))
    assert [one.met for one in verdict.stream()] == [True, True, False, True, False]
    replay = recovery.Replay(1, even(10), even(7), even(5), even(0.7), even(0.5), True, "a")
    restore = recovery.Restore("placed", 1, 1, 1, 1, even(1), even(1), 1.0, even(0.2), False, "b")
    monkeypatch.setattr(recovery, "measure", lambda *_: recovery.Result(a_machine(), 1, replay, [restore]))
    assert [one.met for one in verdict.standing_up()] == [True, False]
    monkeypatch.setattr(scaling, "measure", lambda *_: a_scaling())
    monkeypatch.setattr(memory, "fresh", lambda *_, plain: memory.Weight("compiled", 390.0, {}))
    assert [one.met for one in verdict.growing()] == [True, False, False, True]
    monkeypatch.setattr(soak, "measure", lambda _: a_soak())
    assert [one.met for one in verdict.short_soak()] == [True, True], "the machine's pauses are not ours"
    monkeypatch.setattr(soak, "measure", lambda _: a_soak(6.0))
    assert [one.figure for one in verdict.short_soak()] == [0.5, 6.0]


# ------------------------------------------------------------------------------------------------------- results and plots


def store(folder: Path) -> None:
    found = {
        "peers": books(),
        "gateway": a_gateway(),
        "fanout": a_fanout(),
        "scaling": a_scaling(),
        "live": a_live(),
        "soak": a_soak(),
    }
    folder.mkdir(exist_ok=True)
    for name, result in found.items():
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(Stored(name, "2026-11-23T00:00:00+00:00", True, result)))


def test_benches_are_run_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def failing(**_: object) -> None:
        raise OutcomeError("another outcome")

    bench = every.BENCHES["soak"]
    monkeypatch.setattr(every, "RESULTS", tmp_path)
    monkeypatch.setattr(plots, "draw_all", list)
    monkeypatch.setitem(every.BENCHES, "soak", bench._replace(measure=lambda **_: a_soak()))
    code, output = invoke(every.main, "--short", "--only", "soak")
    assert code == 0, output
    stored = plots.load("soak", soak.Result, tmp_path)
    assert stored is not None
    assert stored.short
    assert stored.result == a_soak()
    monkeypatch.setitem(every.BENCHES, "soak", bench._replace(measure=failing))
    assert invoke(every.main, "--only", "soak")[0] == 1
    assert plots.load("soak", soak.Result, tmp_path) == stored, "the old file stays"
    assert invoke(every.main, "--only", "nothing")[0] == 2


def test_plots_are_drawn_and_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: plots are not drawn")
    store(tmp_path / "results")
    drawn = [plots.draw_all(tmp_path / "results", tmp_path / name) for name in ("one", "two")]
    assert [path.stem for path in drawn[0]] == list(plots.DRAWN)
    assert [path.read_bytes() for path in drawn[0]] == [path.read_bytes() for path in drawn[1]]
    for path in drawn[0]:
        text = path.read_text()
        assert "dc:date" not in text
        assert re.search(r">[^<]*(second|µs|ms|MB)", text), "axes have units"
    assert plots.draw_all(tmp_path / "nothing", tmp_path / "one") == []


def test_results_that_are_kept_can_be_read() -> None:
    for name, kind in (("gateway", gateway.Result), ("soak", soak.Result), ("peers", peers.Result)):
        stored = plots.load(name, kind, RESULTS)
        assert stored is None or stored.bench == name
