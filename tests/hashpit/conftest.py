"""A real exchange for the tests that need one: the server's own process, on a free port, out of a fresh data directory."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.wire import Permission
from hashpit.client import Client
from hashpit.demo import create
from hashpit.keys import Key, generate, load

CONFIG = """
[terms]
collar_bps = 0

[[listings]]
algorithm = "SHA256"
length_s = 86400
ahead = 2

[log]
level = "warning"
"""


class Exchange:
    """The server's process, which can be killed and started again."""

    def __init__(self, data: Path, config: str = CONFIG) -> None:
        self.data = data
        self.url = ""
        self.port = 0
        self.admin = create(data, config)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway", str(self.data), "--port", str(self.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.match(r"hashpit: (ws://127\.0\.0\.1:(\d+)/ws)", line)
        assert found, f"the server did not start: {line}"
        self.url, self.port = found[1], int(found[2])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        os.kill(self._process.pid, number)
        self._process.wait(timeout=15)
        self._process.stdout.close()

    async def open_account(self, name: str, *permissions: Permission, deposit: str = "1") -> Key:
        """A new account with money, and a key for it."""
        private, public = generate()
        async with Client(self.url, load(self.admin)) as admin:
            account = (await admin.create_account(name)).account
            await admin.deposit(account, deposit)
            added = await admin.add_key(account, permissions or ("trade", "read"), public_key=public)
        return Key(added.key.key, "ed25519", private_key=private)

    async def market(self) -> str:
        """The later daily market, whose gate is at least a day ahead."""
        async with Client(self.url) as client, await client.subscribe("status") as status:
            names: list[str] = []
            async for message in status:
                names += [market.market for market in getattr(message.data, "markets", [])]
                names += [message.data.market] if hasattr(message.data, "terms") else []
                if len(names) >= 2:
                    break
        return sorted(names)[-1]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    exchange = Exchange(tmp_path_factory.mktemp("exchange") / "data")
    exchange.start()
    try:
        yield exchange
    finally:
        exchange.stop()
