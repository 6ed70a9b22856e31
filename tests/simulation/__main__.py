"""The whole exchange in one thread, every fault, one seed.

python -m tests.simulation --seed 7 --steps 2000        one run
python -m tests.simulation --seed 7 --replay            the same, with everything that happens
python -m tests.simulation --seeds 0:10000 --steps 2000 many, and what they reached
python -m tests.simulation --budget 60                  new seeds for a minute
"""

import argparse
import sys
import time

from hashpit.build import build_kind, prefer_source

prefer_source()

from tests.simulation.coverage import Coverage
from tests.simulation.simulation import Simulation


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--seeds", help="A:B, run the seeds from A to B - 1")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--budget", type=float, help="stop beginning seeds after so many seconds")
    parser.add_argument("--replay", action="store_true", help="print everything that happens")
    parser.add_argument("--keep-going", action="store_true", help="go on after a finding")
    parser.add_argument("--coverage", action="store_true", help="print what was reached; fail if something never was")
    options = parser.parse_args()
    first, last = 0, 1 << 62
    if options.seed is not None:
        first, last = options.seed, options.seed + 1
    elif options.seeds:
        first, last = (int(part) for part in options.seeds.split(":"))
    elif options.budget is None:
        parser.error("one of --seed, --seeds, --budget")
    else:
        first = int(time.time())
    return run(first, last, options)


def run(first: int, last: int, options: argparse.Namespace) -> int:
    """Run the seeds; 0 when nothing was found."""
    coverage = Coverage()
    began = time.monotonic()
    steps = failed = runs = 0
    for seed in range(first, last):
        if options.budget is not None and time.monotonic() - began > options.budget:
            break
        simulation = Simulation(seed, print if options.replay else None)
        if options.replay:
            print(simulation.plan)
        simulation.run(options.steps)
        coverage.add(simulation.coverage)
        runs += 1
        steps += simulation.world.steps
        if simulation.finding:
            failed += 1
            print(f"FOUND seed {seed} steps {options.steps} at step {simulation.world.steps}: {simulation.finding}", flush=True)
            if options.seed is not None:
                print(simulation.details)
            if not options.keep_going:
                break
        elif options.seed is not None:
            print(f"seed {seed}: {simulation.world.steps} steps, hash {simulation.hash}")
    took_s = time.monotonic() - began
    pace_us = took_s / max(steps, 1) * 1e6
    print(f"{runs} seeds, {steps:,} steps, {failed} findings, {took_s:.1f} s, {pace_us:.0f} us a step, {build_kind()}")
    missing = coverage.missing()
    if options.coverage:
        for line in coverage.lines():
            print(line)
        if missing:
            print(f"never reached: {', '.join(f'{kind} {name}' for kind, name in missing)}")
    return 1 if failed or (options.coverage and missing) else 0


if __name__ == "__main__":
    sys.exit(main())
