"""Every bench runs, tiny: so that it cannot rot, and so that what it checks is checked."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench import engine as engine_bench
from bench.common import OutcomeError
from bench.workload import build
from engine.commands import Amend, Cancel, Place
from engine.core import Engine
from engine.invariants import check
from hashpit.build import build_kind

ROOT = Path(__file__).resolve().parent.parent.parent


def test_workload_is_what_it_says() -> None:
    work = build(seed=1, commands=3_000, accounts=20, resting=400)
    assert work == build(seed=1, commands=3_000, accounts=20, resting=400)
    assert work.setup != build(seed=2, commands=10, accounts=20, resting=400).setup
    engine = Engine()
    for entry in work.setup:
        engine.apply(entry)
    assert len(engine.open_orders()) == 400
    kinds = [type(entry.command) for entry in work.commands]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in (Place, Cancel, Amend)}
    assert shares == {
        Place: pytest.approx(0.6, abs=0.04),
        Cancel: pytest.approx(0.35, abs=0.04),
        Amend: pytest.approx(0.05, abs=0.02),
    }
    for entry in work.commands:
        engine.apply(entry)
    check(engine)
    assert work.counts["trades"] > 300
    assert work.counts["rejects"] == 0
    assert 350 <= work.counts["resting_min"] <= work.counts["resting_max"] <= 550


def test_engine_bench() -> None:
    result = engine_bench.measure(commands=400, accounts=10, resting=50, repeats=2)
    assert result.per_second_min <= result.per_second <= result.per_second_max
    assert set(result.mean_us_by_kind) == {"limit", "cancel", "taker", "amend"}
    assert not result.recorded
    top = engine_bench.profile(commands=100, accounts=10, resting=50)
    assert ("core.py" if build_kind() == "plain" else "apply") in top


def test_engine_bench_notices_another_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine_bench.RECORDED, (1, 50, 5, 20), "0" * 64)
    with pytest.raises(OutcomeError, match="is recorded in"):
        engine_bench.measure(seed=1, commands=50, accounts=5, resting=20, repeats=1)


def test_command_line_prints_one_json_object() -> None:
    command = [sys.executable, "-m", "bench.engine", "--json", "--commands", "100", "--resting", "20", "--repeats", "1"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True)
    assert msgspec.json.decode(done.stdout, type=engine_bench.Result).commands == 100
