"""What tests of the whole exchange share: a real server process, and a client that knows nothing but the protocol.

:class:`Server` runs ``python -m gateway DATA`` on a data directory of its own; :class:`PlainClient` speaks JSON-RPC over the
plain ``websockets`` library, as a stranger's bot would, without the SDK.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.auth import KeyStore
from gateway.config import CONFIG_FILE
from gateway.wire import Permission

ROOT: Final = Path(__file__).resolve().parent.parent
START_S: Final = 30.0
"""A server that does not listen by then has failed to start."""
STOP_S: Final = 30.0
CALL_S: Final = 20.0
"""A call that is not answered by then has failed the test."""
LINE_CHARS_MAX: Final = 4_096
OPERATOR: Final = 1
"""The account that the tests' operator key speaks for: the house account of fees."""

CONFIG: Final = """
[server]
port = 0
connections_max = {connections_max}
connections_per_ip_max = {connections_max}
anonymous_per_ip_max = {anonymous_max}
stop_ms = {stop_ms}

[session]
heartbeat_ms = {heartbeat_ms}
idle_ms = 30000

[rates]
orders = {{ per_second = {rate}, burst = {rate} }}
cancels = {{ per_second = {rate}, burst = {rate} }}
requests = {{ per_second = {rate}, burst = {rate} }}
ip = {{ per_second = {rate}, burst = {rate} }}

[snapshot]
every_s = {snapshot_s}
every_entries = {snapshot_entries}
keep = {snapshots_kept}

[log]
format = "json"

[[listings]]
algorithm = "SHA256"
length_s = 86400
ahead = 3
"""


def config(
    rate: int = 100_000,
    connections_max: int = 10_000,
    anonymous_max: int = 1_000,
    heartbeat_ms: int = 1_000,
    snapshot_s: int = 30 * 86_400,
    snapshot_entries: int = 1_000_000_000,
    snapshots_kept: int = 3,
    stop_ms: int = 0,
) -> str:
    """A configuration with limits that tests do not run into, and snapshots that are not made, unless they ask for it."""
    return CONFIG.format(
        rate=rate,
        connections_max=connections_max,
        anonymous_max=anonymous_max,
        heartbeat_ms=heartbeat_ms,
        snapshot_s=snapshot_s,
        snapshot_entries=snapshot_entries,
        snapshots_kept=snapshots_kept,
        stop_ms=stop_ms,
    )


class TestKey:
    """An Ed25519 key of a test's client."""

    __test__ = False

    def __init__(self, private: Ed25519PrivateKey | None = None) -> None:
        self.private = private or Ed25519PrivateKey.generate()
        self.key_id = ""
        """Given by the server when the public half is added."""
        self.account = 0

    @property
    def public_key(self) -> str:
        return self.private.public_key().public_bytes_raw().hex()

    def login(self, challenge: str, timestamp_us: int | None = None) -> dict[str, Any]:
        """The parameters of a login."""
        stamp = time.time_ns() // 1_000 if timestamp_us is None else timestamp_us
        text = f"hashpit login\n{challenge}\n{self.key_id}\n{stamp}"
        return {"key": self.key_id, "timestamp_us": stamp, "signature": self.private.sign(text.encode()).hex()}


# ----------------------------------------------------------------------------------------------------------------- server


class Server:
    """One exchange as a process. It may be started, stopped or killed any number of times on the same data."""

    def __init__(self, data_dir: Path, config_text: str | None = None) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        self.operator = TestKey()
        self.url = ""
        self.program = ["-m", "gateway"]
        self.prefix: list[str] = []
        """A command that starts the process, such as ``prlimit``."""
        self.environment: dict[str, str] = {}
        """Variables that the process gets besides this one's."""
        self._process: subprocess.Popen[str] | None = None
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data_dir / CONFIG_FILE).write_text(config_text or config())
        permissions: list[Permission] = ["read", "admin", "meter"]
        key, _ = KeyStore(data_dir).add(OPERATOR, permissions, public_key=self.operator.public_key, label="tests")
        self.operator.key_id, self.operator.account = key.key_id, OPERATOR

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start the process without waiting for it to listen."""
        assert not self.is_running, "it runs already"
        self._forget()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, sys.executable, *self.program, str(self.data_dir)],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    async def start(self) -> None:
        """Start the process and wait until it listens. Raises AssertionError with its log if it does not."""
        self.spawn()
        await self.listening()

    async def listening(self) -> None:
        """Wait until a process that was spawned listens: it says so, with its address, on standard output."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        reading = asyncio.create_task(asyncio.to_thread(self._read_url, process))
        done, _ = await asyncio.wait({reading}, timeout=START_S)
        if not done:
            self.kill()
        self.url = await reading
        assert self.url, f"the server did not start:\n{self.log_text()[-4_000:]}"

    @staticmethod
    def _read_url(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        for line in process.stdout:
            for word in line.split():
                if word.startswith(("ws://", "wss://")):
                    return word.rstrip(".,;")
        return ""

    def kill(self, whole_group: bool = False) -> None:
        """SIGKILL the process, or with it everything that it started; returns when it is gone."""
        process = self._process
        assert process is not None, "the server was not started"
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        self._forget()

    async def stop(self) -> int:
        """SIGTERM, and wait for the end; the exit status."""
        assert self._process is not None, "the server was not started"
        self._process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Wait until the process ended by itself; the exit status."""
        process = self._process
        assert process is not None, "the server was not started"
        try:
            return await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not stop:\n{self.log_text()[-4_000:]}") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            self._forget()

    def _forget(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdout is not None:
            process.stdout.close()

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1_024
        raise AssertionError("no VmRSS in /proc")

    # ------------------------------------------------------------------------------------------------------- accounts

    async def trader(self, name: str, deposit: str = "0", permissions: tuple[Permission, ...] = ("read", "trade")) -> TestKey:
        """A new account with a key of its own and some BTC, made by the operator over the wire."""
        async with PlainClient.to(self, self.operator) as operator:
            account = (await operator.call("create_account", name=name))["account"]
            if float(deposit):
                await operator.call("deposit", account=account, amount=deposit, transfer_id=f"first-{account}")
            key = TestKey()
            key.account = account
            answer = await operator.call(
                "add_key", account=account, permissions=[*permissions], public_key=key.public_key, label=name
            )
            key.key_id = answer["key"]["key"]
        return key


@asynccontextmanager
async def running(data_dir: Path, config_text: str | None = None) -> AsyncIterator[Server]:
    """A server that is started and, however the block ends, gone afterwards."""
    server = Server(data_dir, config_text)
    try:
        await server.start()
        yield server
    finally:
        if server.is_running:
            server.kill(whole_group=True)
        server._forget()


# ----------------------------------------------------------------------------------------------------------------- client


class RpcError(Exception):
    """The server answered a call with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')} {error.get('data')}")
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error["data"]


class Cut(Exception):
    """The connection ended before the answer came: nobody knows whether the call was carried out."""


class PlainClient:
    """One connection. Calls may be pipelined; ``on_message`` hears of each message that answers no call."""

    def __init__(self, socket: ClientConnection, on_message: Callable[[str, dict[str, Any]], None] | None = None) -> None:
        self.socket = socket
        self.hello: dict[str, Any] = {}
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        """Channel messages, when there is no ``on_message``."""
        self.close_code: int | None = None
        """Why the connection ended; None while it is open."""
        self.on_message = on_message
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._greeted = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, url: str, on_message: Callable[[str, dict[str, Any]], None] | None = None) -> Self:
        """Connect and wait for the greeting."""
        socket = await connect(url, compression=None, max_size=2**26, open_timeout=CALL_S, ping_interval=None)
        client = cls(socket, on_message)
        try:
            async with asyncio.timeout(CALL_S):
                await client._greeted.wait()
        except BaseException:
            await client.abort()
            raise
        return client

    @classmethod
    @asynccontextmanager
    async def to(cls, server: Server, key: TestKey | None = None) -> AsyncIterator[Self]:
        """A connection to ``server``, logged in if there is a key."""
        client = await cls.open(server.url)
        try:
            if key is not None:
                await client.login(key)
            yield client
        finally:
            await client.close()

    async def login(self, key: TestKey) -> dict[str, Any]:
        result: dict[str, Any] = await self.call("login", **key.login(self.hello["challenge"]))
        return result

    def start(self, method: str, **params: Any) -> "asyncio.Future[Any]":
        """Send a call without waiting. The future gives the result, RpcError, or Cut."""
        number = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        if self.close_code is not None or self.socket.transport.is_closing():
            answer.set_exception(Cut(f"{method} was not sent"))
            return answer
        self._waiting[number] = answer
        payload = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        task = asyncio.ensure_future(self.socket.send(json.dumps(payload)))
        task.add_done_callback(_seen)
        return answer

    async def call(self, method: str, **params: Any) -> Any:
        """Send a call and wait for its result. Raises RpcError, Cut, or TimeoutError."""
        async with asyncio.timeout(CALL_S):
            return await self.start(method, **params)

    async def next_message(self, kind: str | None = None) -> dict[str, Any]:
        """The next channel message, of a type if one is given (others are dropped)."""
        async with asyncio.timeout(CALL_S):
            while True:
                message = await self.messages.get()
                if kind is None or message["type"] == kind:
                    return message

    async def _read(self) -> None:
        try:
            async for frame in self.socket:
                message = json.loads(frame)
                if "id" in message:
                    self._answered(message)
                elif message["method"] == "hello":
                    self.hello = message["params"]
                    self._greeted.set()
                elif self.on_message is not None:
                    self.on_message(message["method"], message["params"])
                elif message["method"] == "subscription":
                    self.messages.put_nowait(message["params"])
        except ConnectionClosed:
            pass
        finally:
            self.close_code = self.socket.close_code or 1006
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Cut(f"closed with {self.close_code}"))
            self._waiting.clear()

    def _answered(self, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(message["id"], None)
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(RpcError(message["error"]))
        else:
            answer.set_result(message["result"])

    async def closed(self) -> int:
        """Wait for the connection's end; its close code."""
        await asyncio.wait({self._reader})
        assert self.close_code is not None
        return self.close_code

    async def close(self) -> None:
        """Close in good manners."""
        await self.socket.close()
        await self.closed()

    async def abort(self) -> None:
        """Drop the connection without a word."""
        self.socket.transport.abort()
        await self.closed()


def _seen(future: "asyncio.Future[Any]") -> None:
    """Look at an exception that nobody waits for, so that asyncio does not complain."""
    if not future.cancelled():
        future.exception()
