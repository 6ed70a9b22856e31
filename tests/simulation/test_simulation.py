"""A handful of seeds for every change; the nightly run has thousands (see docs/TESTING.md)."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hashpit.build import build_kind
from tests.simulation import auditor
from tests.simulation.coverage import FAULTS, Coverage, required
from tests.simulation.simulation import Simulation
from tests.support import ROOT

SECONDS = float(os.environ.get("HASHPIT_SIMULATION_SECONDS", "8"))
FIRST_SEED = 1_000_000
STEPS = 2_000
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def run(seed: int, steps: int = STEPS) -> Simulation:
    simulation = Simulation(seed)
    simulation.run(steps)
    if simulation.finding:
        again = f"python -m tests.simulation --seed {seed} --steps {steps} --replay"
        pytest.fail(f"seed {seed}: {simulation.finding}\n{again}", pytrace=False)
    return simulation


def regressions() -> list[tuple[int, int]]:
    rows = [line.split() for line in REGRESSIONS.read_text().splitlines() if line and not line.startswith("#")]
    return [(int(seed), int(steps)) for seed, steps, *_ in rows]


@pytest.mark.parametrize(("seed", "steps"), regressions())
def test_what_was_found_once_is_not_found_again(seed: int, steps: int) -> None:
    run(seed, steps)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_seeds_within_the_budget() -> None:
    """As many seeds as HASHPIT_SIMULATION_SECONDS allow, always the same ones first."""
    coverage = Coverage()
    ends = time.monotonic() + SECONDS
    seeds = 0
    while time.monotonic() < ends:
        coverage.add(run(FIRST_SEED + seeds).coverage)
        seeds += 1
    print(f"\n{seeds} seeds from {FIRST_SEED} on")
    assert coverage.counts["event", "Trade"] > seeds


def test_the_same_seed_is_the_same_run() -> None:
    assert run(11).hash == run(11).hash
    assert run(11).hash != run(12).hash


@pytest.mark.slow
def test_both_builds_run_alike() -> None:
    if build_kind() != "compiled":
        pytest.skip("there is one build only")
    seed = 13
    environment = {**os.environ, "HASHPIT_PLAIN": "1", "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--steps", str(STEPS)]
    plain = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"hash (\w+)", plain.stdout)
    assert found, plain.stdout + plain.stderr
    assert "plain" in plain.stdout
    assert found[1] == run(seed).hash


def test_the_trace_changes_nothing() -> None:
    lines: list[str] = []
    traced = Simulation(14, lines.append)
    traced.run(STEPS)
    silent = Simulation(14)
    silent.run(STEPS)
    assert traced.hash == silent.hash
    assert len(lines) > 100


def test_a_report_names_what_was_never_reached() -> None:
    coverage = Coverage()
    coverage.count("fault", "crash")
    missing = coverage.missing()
    assert ("fault", "crash") not in missing
    assert ("fault", "stop") in missing
    assert ("reject", "NOTIONAL_TOO_LARGE") not in missing, "it is explained"
    assert {name for kind, name in required() if kind == "fault"} == set(FAULTS)
    assert any("NEVER REACHED" in line for line in coverage.lines())


def test_the_promises_are_written_down_once() -> None:
    """The auditor's list of checks stands in its module, next to the code, and in the documentation, next to the rest."""
    text = auditor.__doc__ or ""
    checks = text[text.index("1. Acknowledged") : text.index("What cannot be known")].strip()
    assert checks in (ROOT / "docs" / "TESTING.md").read_text()
