"""Where a fault happens: a real server with traders who write down all they are told, and judges who compare it afterwards.

A :class:`Scene` is a crash campaign (tests/crash) whose kills are the fault's business. What a fault shows goes to ``note``.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from gateway.recovery import verify
from gateway.wire import Close
from tests.crash.campaign import Campaign
from tests.crash.trader import KILLED
from tests.support import ROOT, config

RUN_S_MAX: Final = 60.0
"""A program that is started to fail has failed to do so by then."""
TRADERS: Final = 3


class Unable(Exception):
    """The fault cannot be made on this machine; the text says why. No failure of the exchange."""


class Ended:
    """A program that ran to its end."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def last_line(self) -> str:
        """What an operator reads: the last line on standard error."""
        lines = [line for line in self.err.splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Scene(Campaign):
    """One server, its traders, and what a fault does to them."""

    def __init__(self, directory: Path, seed: int, say: Callable[[str], None]) -> None:
        super().__init__(directory, seed, TRADERS, False, say)
        self.directory = directory
        self.data_dir = self.server.data_dir
        self.told: tuple[str, ...] = ()
        """What this fault leaves in the log, and no other may."""

    def note(self, text: str) -> None:
        """Something that whoever runs the faults should see."""
        self.say(f"  {text}")

    def configure(self, **changes: int) -> None:
        """Another configuration, before the server starts."""
        (self.data_dir / "config.toml").write_text(config(**changes))

    # -------------------------------------------------------------------------------------------------------- the server

    async def start(self) -> None:
        """Start the server, make accounts, connect the traders."""
        await self.server.start()
        await self._prepare()

    async def kills(self, count: int) -> None:
        """Rounds of the crash campaign: trade, SIGKILL, start again, audit."""
        for _ in range(count):
            await self._round()

    async def trade(self, seconds: float) -> None:
        """Some trading that nothing happens to."""
        await self.trade_through(lambda: asyncio.sleep(seconds))

    async def strike(self, hit: Callable[[], Awaitable[None]], *ends: int) -> None:
        """Trade while ``hit`` goes on; sockets may be closed with ``ends`` meanwhile."""
        for trader in self.traders:
            trader.may_end_with = frozenset(ends)
        await self.trade_through(hit)

    async def fails(self, hit: Callable[[], None], *words: str) -> None:
        """Do ``hit`` while everybody trades: the server has to end with 1, and to say why in its last line."""

        async def until_it_ends() -> None:
            await asyncio.sleep(0.4)
            hit()
            code = await self.server.ended()
            assert code == 1, f"exit code {code}"

        await self.strike(until_it_ends, KILLED, Close.FAILED)
        line = self.last_line()
        self.note(f"exit code 1: {line}")
        assert line.startswith("hashpit: stopped: "), line
        self.says(line, *words)

    def last_line(self) -> str:
        return Ended(0, "", self.server.log_text()).last_line

    @staticmethod
    def says(text: str, *words: str) -> None:
        """Each of the words is in the text, and no traceback."""
        for word in words:
            assert word in text, f"not a word of {word!r}: {text[-2_000:]}"
        assert "Traceback" not in text, text[-4_000:]

    async def back(self) -> None:
        """Start again; everybody resumes, asks again what had no answer, and is audited."""
        self._recover_copy()
        await self.server.start()
        await self._rise()
        await self._audit()

    async def goes_on(self) -> None:
        """The same server went through it: what had no answer is asked again, and everybody is audited."""
        assert self.server.is_running, f"the server is gone: {self.last_line()}"
        for trader in self.traders:
            await trader.settle()
        await self._audit()

    async def restart(self) -> None:
        """Start a server that was stopped; its traders, who were gone, connect and are audited."""
        await self.server.start()
        for trader in self.traders:
            await trader.connect(self.server)
        await self._audit()

    async def end(self) -> None:
        """Trade once more, stop in good manners, and compare everything."""
        for trader in self.traders:
            trader.may_end_with = frozenset()
        await self.trade(0.3)
        await self._finish(self.told)
        report = self.report
        self.note(
            f"kept: {report.acked_orders} orders, {report.acked_changes} changes, {report.fills} fills, "
            f"{report.deposits} deposits; {report.unsure} calls without an answer were settled; {report.entries} entries"
        )

    async def stop(self) -> None:
        """SIGTERM to a server that nobody trades on; its traders are gone before."""
        for trader in self.traders:
            if trader.client is not None:
                await trader.client.close()
        assert await self.server.stop() == 0

    # ------------------------------------------------------------------------------------------------- programs that fail

    def program(self, *arguments: str, prefix: tuple[str, ...] = (), environment: dict[str, str] | None = None) -> Ended:
        """Run a Python program of this project to its end."""
        done = subprocess.run(
            [*prefix, sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    async def refuses(self, data_dir: Path, code: int, *words: str, prefix: tuple[str, ...] = ()) -> None:
        """A start that has to end at once, with a line that says why and what to do."""
        ended = await asyncio.to_thread(self.program, "-m", "gateway", str(data_dir), prefix=prefix)
        self.note(f"exit code {ended.code}: {ended.last_line}")
        assert ended.code == code, f"exit code {ended.code}: {ended.err[-4_000:]}"
        assert ended.last_line.startswith("hashpit: "), ended.err[-4_000:]
        self.says(ended.err, *words)

    def verify(self, data_dir: Path) -> list[str]:
        """What ``hashpit verify`` finds."""
        return verify(data_dir).faults

    def copied(self, name: str) -> Path:
        """A copy of the data directory, to be damaged."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.data_dir, path)
        return path


@asynccontextmanager
async def scene(directory: Path, seed: int = 1, say: Callable[[str], None] = print) -> AsyncIterator[Scene]:
    """A scene that leaves no process behind, however it ends."""
    found = Scene(directory, seed, say)
    try:
        yield found
    finally:
        for trader in found.traders:
            if trader.client is not None:
                await trader.client.abort()
        if found.server.is_running:
            found.server.kill(whole_group=True)


@contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own, in memory, at a new place in ``directory``. Raises Unable where that is not allowed."""
    place = directory / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if mounted.returncode:
        raise Unable(f"a file system cannot be mounted: {mounted.stderr.partition(chr(10))[0]}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def write_protect(place: Path) -> None:
    """Let nobody write to a file system of ``small_disk`` any more."""
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file's bytes but what a start may write to say who holds it."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not re.fullmatch(r"(.*\.)?lock|journal\.db-shm", path.name)
    }
