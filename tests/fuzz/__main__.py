"""``python -m tests.fuzz TARGET --seconds 60``: look for bytes that break a promise. ``make fuzz`` installs what it takes.

--list                 the targets, and what each promises
TARGET FILE...         try these inputs only; needs no atheris, and runs either build
all --seconds 60       every target, one after the other
TARGET --merge         take what was learned here into tests/fuzz/corpus/
TARGET --seeds         write the seeds anew
"""

import argparse
import importlib.util
import sys
from pathlib import Path

from hashpit.build import prefer_source

prefer_source()

from tests.fuzz.runner import TARGETS, Outcome, corpus, fuzz, load, merge, promise, write_seeds

KEEP_MAX = 60
"""Inputs that one merge adds to a target's corpus."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", nargs="?", choices=[*TARGETS, "all"], metavar="TARGET")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seconds", type=int, default=60, help="how long, for each target (default 60)")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--seeds", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="show everything that the fuzzer says")
    options = parser.parse_args()
    if options.list or options.target is None:
        for name in TARGETS:
            print(f"{name:9} {promise(name)}")
        return 0
    names = TARGETS if options.target == "all" else (options.target,)
    if options.files:
        for path in options.files:
            load(options.target).one(path.read_bytes())
            print(f"{path}: keeps the promise")
        return 0
    if options.seeds:
        for name in names:
            print(f"{name}: {write_seeds(name)} seeds")
        return 0
    if importlib.util.find_spec("atheris") is None:
        sys.exit("hashpit: fuzzing needs atheris: run `make fuzz` once, which installs it")
    if options.merge:
        for name in names:
            print(f"{name}: {merge(name, KEEP_MAX)} inputs added, {len(corpus(name))} in all")
        return 0
    outcomes = [_one(name, options.seconds, options.verbose) for name in names]
    return 1 if any(outcome.finding for outcome in outcomes) else 0


def _one(name: str, seconds: int, verbose: bool) -> Outcome:
    outcome = fuzz(name, seconds, print if verbose else lambda line: None)
    print(
        f"{name}: {outcome.executions:,} executions in {seconds} s, {outcome.coverage} edges, {outcome.features} features, "
        f"{outcome.corpus} inputs learned",
        flush=True,
    )
    if outcome.finding:
        print(outcome.log[-6_000:])
        print(f"{name}: FINDING in {outcome.finding}: python -m tests.fuzz {name} {outcome.finding}", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
