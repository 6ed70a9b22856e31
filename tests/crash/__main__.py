"""``python -m tests.crash --kills 50 --seed 1``: kill a real server under load again and again, and audit every restart."""

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import msgspec

from hashpit.build import prefer_source

prefer_source()

from tests.crash.campaign import Campaign


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="rounds of trade, kill -9, restart and audit (default 50)")
    parser.add_argument("--seed", type=int, default=1, help="what traders do and about when they are cut off (default 1)")
    parser.add_argument("--traders", type=int, default=4, help="accounts that trade with each other (default 4)")
    parser.add_argument("--snapshots", action="store_true", help="have a snapshot made every second, so that kills hit them")
    parser.add_argument("--keep", type=Path, help="use this empty directory, and leave it for a look")
    options = parser.parse_args()
    # Writing to a socket whose peer was just killed is what this is about, and no news.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="hashpit-crash-") as temporary:
        directory = options.keep or Path(temporary)
        campaign = Campaign(directory, options.seed, options.traders, options.snapshots, print)
        report = asyncio.run(campaign.run(options.kills))
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
