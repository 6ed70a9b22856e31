"""``python -m tests.mutation MODULE``: change a module in small ways, and see whether its tests notice.

``make mutants`` installs what it takes and does all of them.

--list                 the modules, and the tests that are to notice
all                    every module, one after the other
MODULE --only TEXT     mutants whose lines or function have the text
MODULE --from N --seconds S    from the N-th mutant on, for so long: the last line says where to go on

The exit code is 1 if a mutant survived that ``equivalents.txt`` does not explain.
"""

import argparse
import importlib.util
import os
import sys
import time
from collections import Counter
from pathlib import Path

os.environ["HASHPIT_PLAIN"] = "1"
os.environ["HYPOTHESIS_PROFILE"] = "mutants"

from hashpit.build import prefer_source

prefer_source()

from tests.mutation.equivalents import equivalents
from tests.mutation.runner import Outcome, Run

ROOT = Path(__file__).resolve().parent.parent.parent
STREAM = "tests/property/test_oracle.py::test_a_short_stream"
SCENARIOS = "tests/engine/test_scenarios.py"
RESTORED = [f"tests/engine/test_snapshot.py::test_a_restored_engine_goes_on_as_the_original[{seed}]" for seed in range(2)]
# The fastest tests that suffice, those first that kill most.
TESTS = {
    "engine/book.py": ("tests/engine/test_book.py", "tests/engine/test_bare.py", SCENARIOS),
    "engine/ledger.py": (STREAM, "tests/engine/test_ledger.py", SCENARIOS),
    "engine/matching.py": (STREAM, SCENARIOS, "tests/engine/test_accounts.py", *RESTORED),
    "gateway/sequencer.py": ("tests/gateway/test_sequencer.py",),
}
TIMEOUT_S = 12
"""How long the tests of a mutant may take. They take about one second; this is for what no test's own timeout ends."""
PAUSE_S = 0.005
"""Between two looks at the tests that run."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("module", nargs="?", choices=[*TESTS, "all"], metavar="MODULE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="first")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="S")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="tests that run at a time: 3 fill one core, as some wait"
    )
    options = parser.parse_args()
    if options.list or options.module is None:
        for name, tests in TESTS.items():
            print(f"{name:21} {' '.join(tests)}")
        return 0
    if importlib.util.find_spec("mutmut") is None:
        sys.exit("hashpit: mutants need mutmut: run `make mutants` once, which installs it")
    names = TESTS if options.module == "all" else (options.module,)
    return max(_one(name, options.only, options.first, options.seconds, options.jobs) for name in names)


def _one(name: str, only: str, first: int, seconds: float, jobs: int) -> int:
    from tests.mutation.mutants import Mutant, mutants

    path, tests, explained = ROOT / name, TESTS[name], equivalents(name)
    original = Run(path, path.read_text(), tests, TIMEOUT_S, quiet=False)
    while (outcome := original.outcome()) is None:
        time.sleep(PAUSE_S)
    if outcome is not Outcome.SURVIVED:
        sys.exit(f"hashpit: the tests of {name} fail without any mutant")
    counts: Counter[str] = Counter()
    until = time.monotonic() + seconds
    chosen = [mutant for mutant in mutants(path) if only in str(mutant)]
    waiting = [*enumerate(chosen)][first:][::-1]
    running: dict[int, tuple[Mutant, Run]] = {}
    while running or (waiting and time.monotonic() < until):
        while waiting and len(running) < jobs and time.monotonic() < until:
            number, mutant = waiting.pop()
            if (mutant.function, *mutant.change) in explained:
                counts["equivalent"] += 1
            else:
                running[number] = (mutant, Run(path, mutant.code, tests, TIMEOUT_S))
        time.sleep(PAUSE_S)
        for at, (mutant, run) in [*running.items()]:
            outcome = run.outcome()
            if outcome is not None:
                del running[at]
                counts[outcome.value] += 1
                if outcome is not Outcome.KILLED:
                    print(f"{outcome.value}: {name} {at}: {mutant}", flush=True)
    killed, survived = counts["killed"] + counts["timeout"], counts["survived"]
    print(
        f"{name}: {killed} of {killed + survived} mutants killed ({100 * killed / max(1, killed + survived):.1f} %), "
        f"{counts['timeout']} of them by the timeout; {survived} survived; {counts['equivalent']} are equivalent",
        flush=True,
    )
    if waiting:
        print(f"{name}: goes on with --from {waiting[-1][0]} of {len(chosen)}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
