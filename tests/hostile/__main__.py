"""``python -m tests.hostile --frames 100000``: hostile frames from many sockets, while two traders go on trading."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from hashpit.build import prefer_source

prefer_source()

from tests.hostile.siege import Siege


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="hostile frames to send (default 100000)")
    parser.add_argument("--seed", type=int, default=1, help="which frames, and in what order (default 1)")
    parser.add_argument("--keep", type=Path, help="use this empty directory, and leave it for a look")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hashpit-hostile-") as temporary:
        siege = Siege(options.keep or Path(temporary), options.seed, print)
        report = asyncio.run(siege.run(options.frames))
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
