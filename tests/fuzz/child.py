"""The process in which atheris fuzzes one target: ``python -m tests.fuzz.child TARGET [libFuzzer's flags]``.

Coverage guides the search, so the plain sources run here: machine code cannot be instrumented.
"""

import os
import sys

from hashpit.build import PLAIN_VARIABLE, prefer_source

os.environ[PLAIN_VARIABLE] = "1"
prefer_source()

import atheris

with atheris.instrument_imports(include=["engine", "gateway", "hashpit"]):
    from gateway import log
    from tests.fuzz.runner import AGAIN, load

    TARGET = load(sys.argv[1])


def main() -> None:
    log.configure("json", "error")  # what a target refuses is no news
    atheris.Setup([os.environ.get(AGAIN, sys.argv[0]), *sys.argv[2:]], TARGET.one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
