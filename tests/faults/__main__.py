"""``python -m tests.faults [NAME...]``: do to a real server what happens to real servers, and audit what is left.

Without a name: the list. ``all`` runs every fault, ``quick`` those that pytest runs.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import traceback
from pathlib import Path
from time import monotonic

from hashpit.build import prefer_source

prefer_source()

from tests.faults.faults import FAULTS, QUICK
from tests.faults.scene import Unable, scene


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="faults to run; all; quick; none: list them")
    parser.add_argument("--seed", type=int, default=1, help="what traders do, and when (default 1)")
    options = parser.parse_args()
    if not options.names:
        for name, fault in FAULTS.items():
            print(f"{name:30} {(fault.__doc__ or '').split(': ')[0].strip()}")
        return 0
    names = [*FAULTS] if options.names == ["all"] else [*QUICK] if options.names == ["quick"] else options.names
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(FAULTS)}")
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    failed = [name for name in names if not _run(name, options.seed)]
    print(f"{len(names) - len(failed)} of {len(names)} passed" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _run(name: str, seed: int) -> bool:
    """Run one fault; whether it passed, or could not be made here."""

    async def run(directory: Path) -> None:
        async with scene(directory, seed) as found:
            await FAULTS[name](found)

    print(f"{name}: {(FAULTS[name].__doc__ or '').partition(chr(10))[0]}", flush=True)
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="hashpit-fault-") as directory:
        try:
            asyncio.run(run(Path(directory)))
        except Unable as problem:
            print(f"{name}: not run: {problem}", flush=True)
            return True
        except Exception as error:
            traceback.print_exception(error)
            print(f"{name}: FAILED", flush=True)
            return False
    print(f"{name}: passed in {monotonic() - began:.1f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
