"""The process in which atheris fuzzes one target: ``python -m tests.fuzz.child TARGET [libFuzzer's flags]``.

Coverage guides the search, so the plain sources run here: machine code cannot be instrumented.
"""

import os
import sys
import time

from hashpit.build import PLAIN_VARIABLE, prefer_source

os.environ[PLAIN_VARIABLE] = "1"
prefer_source()

import atheris

with atheris.instrument_imports(include=["engine", "gateway", "hashpit"]):
    from gateway import log
    from tests.fuzz.runner import AGAIN, INPUT_CPU_S_MAX, load

    TARGET = load(sys.argv[1])


def one(data: bytes) -> None:
    """The target, within its time."""
    start_s = time.process_time()
    TARGET.one(data)
    assert time.process_time() - start_s <= INPUT_CPU_S_MAX, f"took more than {INPUT_CPU_S_MAX} s of the processor"


def main() -> None:
    log.configure("json", "error")  # what a target refuses is no news
    atheris.Setup([os.environ.get(AGAIN, sys.argv[0]), *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
