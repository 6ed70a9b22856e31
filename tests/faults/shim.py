"""The preloaded library of shim.c: compiled when it is needed, and told through shared memory what to do."""

import mmap
import os
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from tests.faults.scene import Unable

SOURCE: Final = Path(__file__).with_name("shim.c")
FIELDS: Final = ("clock_ns", "sync_errno", "write_errno", "sync_delay_us", "writes_left", "syncs_failed", "writes_failed")
"""Numbers of 64 bits, in the order of the struct in shim.c."""


@cache
def library(directory: Path) -> Path:
    """The compiled library, in ``directory``. Raises Unable without a C compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")
    if compiler is None:
        raise Unable("there is no C compiler for the preloaded library")
    path = directory / "shim.so"
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(path), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unable(f"the preloaded library does not compile here: {done.stderr.strip()[:500]}")
    return path


class Shim:
    """One server's control file. ``shim.set(sync_errno=errno.EIO)`` takes effect at once."""

    def __init__(self, directory: Path) -> None:
        path = directory / "faults"
        path.write_bytes(bytes(8 * len(FIELDS)))
        self.environment = {"LD_PRELOAD": str(library(directory)), "HASHPIT_FAULTS": str(path)}
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8 * len(FIELDS))

    def set(self, **values: int) -> None:
        for name, value in values.items():
            struct.pack_into("=q", self._memory, 8 * FIELDS.index(name), value)

    def get(self, name: str) -> int:
        value: int = struct.unpack_from("=q", self._memory, 8 * FIELDS.index(name))[0]
        return value
