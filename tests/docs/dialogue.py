"""The dialogues of docs/PROTOCOL.md: read from the text, performed by the real gateway, compared word for word.

A dialogue is a ``jsonc`` block of messages, each under a line that says who speaks::

    // maker -> exchange
    {"jsonrpc": "2.0", "id": 1, "method": "time"}
    // exchange -> maker
    {"id": 1, "result": {...}, ...}
    // ... 5 s later

Each ``##`` section starts from the same stage (:class:`Stage`): a fixed clock, fixed keys and challenges, two traders with one
BTC each, an operator, a meter, and one market. So every number in a dialogue can be literal. An answer is the one with the
request's id; another message is the next one on that socket with the same method (and channel). What is not shown is skipped.

    python -m tests.docs.dialogue          writes what the gateway really says into the document
"""

import asyncio
import hashlib
import itertools
import json
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.commands import Command, CreateAccount, Deposit, ListMarket, Tick
from engine.core import Engine
from gateway.algorithms import ALGORITHMS
from gateway.auth import KeyStore
from gateway.codec import JSON
from gateway.config import Config
from gateway.exchange import Exchange
from gateway.feeds import Feeds
from gateway.listings import dated_market
from gateway.sequencer import Sequencer
from gateway.session import Session
from gateway.wire import Permission
from tests.gateway.peer import Peer

PROTOCOL: Final = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"
START_NS: Final = 1_795_435_200 * 10**9
"""2026-11-23 12:00:00 UTC."""
STEP_NS: Final = 1_000_000
"""The clock moves on by this before each message of a client."""
PERIOD_START_NS: Final = 1_795_564_800 * 10**9
"""2026-11-25 00:00:00 UTC."""
EPOCH: Final = "5f2b8c41d0a97e36b1c4f80d2a6e9357"
VERSION: Final = "0.1.0"
BTC_MSAT: Final = 10**11
WIDTH: Final = 124

BLOCK: Final = re.compile(r"^```jsonc\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPEAKER: Final = re.compile(r"^// (\w+) -> (\w+)$")
LATER: Final = re.compile(r"^// \.\.\. (\d+) (ms|s|min|h) later$")
UNITS_NS: Final = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3_600 * 10**9}

SEEDS: Final = {name: hashlib.sha256(name.encode()).digest() for name in ("maker", "taker", "operator", "meter")}
PERMISSIONS: Final[dict[str, tuple[Permission, ...]]] = {
    "maker": ("read", "trade", "withdraw"),
    "taker": ("read", "trade", "withdraw"),
    "operator": ("read", "admin"),
    "meter": ("meter",),
}
ACCOUNTS: Final = {"maker": 100, "taker": 101, "operator": 1, "meter": 1}


class Line(NamedTuple):
    """One message of a dialogue, or a pause."""

    speaker: str
    listener: str
    text: str
    wait_ns: int = 0


def lines(block: str) -> Iterator[Line]:
    """The messages of one block. Raises AssertionError for text that nobody speaks."""
    speaker = listener = ""
    text: list[str] = []
    for row in [*block.splitlines(), "// ... 0 ms later"]:
        spoken, later = SPEAKER.match(row), LATER.match(row)
        if not (spoken or later):
            assert speaker, f"nobody says: {row}"
            text.append(row)
            continue
        if speaker:
            yield Line(speaker, listener, "\n".join(text))
        speaker, listener, text = "", "", []
        if spoken:
            speaker, listener = spoken[1], spoken[2]
        elif later and int(later[1]):
            yield Line("", "", row, int(later[1]) * UNITS_NS[later[2]])


def pretty(value: Any, indent: int = 0, lead: int = 0) -> str:
    """JSON on one line where that fits, else one member per line."""
    text = json.dumps(value, ensure_ascii=False)
    if indent + lead + len(text) <= WIDTH or not isinstance(value, dict | list) or not value:
        return text
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        members = []
        for key, item in value.items():
            name = json.dumps(key, ensure_ascii=False)
            members.append(f"{pad}{name}: {pretty(item, indent + 2, len(name) + 3)}")
        return "{\n" + ",\n".join(members) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + pretty(item, indent + 2, 1) for item in value) + "\n" + " " * indent + "]"


# ------------------------------------------------------------------------------------------------------------------ stage


class Wire:
    """A socket that remembers what it was given."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closed: tuple[int, str] | None = None
        self.outbox = Peer(JSON, lambda payload: self.sent.append(json.loads(payload))).outbox

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = code, reason

    def take(self, like: Any) -> Any:
        """The next unread message that ``like`` is about: an answer by its id, another by what ``like`` says of its place."""
        for about in (_place, _about):
            for at, message in enumerate(self.sent):
                if about(message) == about(like):
                    return self.sent.pop(at)
        raise AssertionError(f"nothing like {json.dumps(like)} was sent; there is\n" + "\n".join(map(json.dumps, self.sent)))


def _about(message: Any) -> Any:
    """What tells messages apart: an answer by its id, another by its method and channel."""
    if isinstance(message, list):
        return [_about(item) for item in message]
    if "method" in message:
        return message["method"], message.get("params", {}).get("channel")
    return message.get("id")


def _place(message: Any) -> Any:
    """The same, with type and number where the message has them: tells one of several in a row."""
    if isinstance(message, dict) and "params" in message:
        return _about(message), message["params"].get("type"), message["params"].get("seq")
    return _about(message)


class Disk:
    """A journal that needs no disk."""

    last_seq = 0

    def append(self, first_seq: int, last_seq: int, payload: bytes | bytearray) -> None:
        self.last_seq = last_seq


class Stage:
    """An exchange with nothing left to chance. Use it as an async context manager."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.now_ns = START_NS
        self.wires: dict[str, Wire] = {}
        self.sessions: dict[str, Session] = {}
        self._challenges = itertools.count()
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> "Stage":
        self.engine = Engine()
        self._disk = Disk()
        self._random = mock.patch.multiple(secrets, token_hex=self._token_hex)
        self._random.start()
        keys = KeyStore(self.data_dir)
        config = Config()
        self.feeds = Feeds()
        self.exchange = Exchange(self.engine, config, keys, self.feeds, EPOCH, VERSION, new_challenge=self._challenge)
        failures: list[BaseException] = []
        self.sequencer = Sequencer(
            self.engine, self._disk, lambda: self.now_ns, self.exchange.publish, lambda: None, failures.append
        )
        self.sequencer.start()
        self.feeds.start(self.engine, self.sequencer)
        self.exchange.start(self.sequencer)
        row = ALGORITHMS["SHA256"]
        price = row.price().parse(row.reference_price)
        spec = dated_market(row, PERIOD_START_NS, 86_400, price, config.terms)
        await self._command(CreateAccount("maker"))
        await self._command(CreateAccount("taker"))
        await self._command(Deposit(ACCOUNTS["maker"], BTC_MSAT, "first"))
        await self._command(Deposit(ACCOUNTS["taker"], BTC_MSAT, "first"))
        await self._command(ListMarket(spec))
        for name, seed in SEEDS.items():
            public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
            self._next_key = name
            keys.add(ACCOUNTS[name], PERMISSIONS[name], public_key=public, label=name, created_us=START_NS // 1_000)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.sequencer.drain()
        self.sequencer.close()
        self._random.stop()

    def _challenge(self) -> str:
        return hashlib.sha256(b"challenge %d" % next(self._challenges)).hexdigest()

    def _token_hex(self, size: int = 32) -> str:
        """What stands for randomness: key ids are their owner's name, everything else counts up."""
        if size == 8 and self._next_key:
            name, self._next_key = self._next_key, ""
            return name
        return hashlib.sha256(b"token %d" % next(self._numbers)).hexdigest()[: 2 * size]

    _next_key = ""

    async def _command(self, command: Command) -> None:
        self.sequencer.submit(command)
        await self.sequencer.drain()

    async def connect(self, name: str) -> Wire:
        """A new socket; the traders', the operator's and the meter's are logged in."""
        wire = Wire()
        session = Session(self.exchange, wire, f"c{len(self.sessions) + 1}", "192.0.2.7", JSON, self.now_ns)
        self.wires[name], self.sessions[name] = wire, session
        session.opened(self.now_ns)
        if name in SEEDS:
            await self.say(name, self.login(name, wire.sent[0]["params"]["challenge"]))
            assert "result" in wire.sent[-1], wire.sent
            wire.sent.clear()
        return wire

    def login(self, name: str, challenge: str) -> dict[str, Any]:
        stamp = self.now_ns // 1_000
        text = f"hashpit login\n{challenge}\nk-{name}\n{stamp}".encode()
        signature = Ed25519PrivateKey.from_private_bytes(SEEDS[name]).sign(text).hex()
        params = {"key": f"k-{name}", "timestamp_us": stamp, "signature": signature}
        return {"jsonrpc": "2.0", "id": "login", "method": "login", "params": params}

    async def say(self, name: str, message: Any) -> None:
        self.sessions[name].receive(json.dumps(message).encode(), self.now_ns)
        await self.sequencer.drain()

    async def wait(self, span_ns: int) -> None:
        """Let time pass: due work, heartbeats, conflated channels."""
        until_ns = self.now_ns + span_ns
        while (due_ns := self.engine.next_due_ns()) and due_ns <= until_ns:
            self.now_ns = due_ns
            await self._command(Tick())
        self.now_ns = until_ns
        self.feeds.tick(until_ns)
        for session in [*self.sessions.values()]:
            session.tick(until_ns)
        await self.sequencer.drain()

    async def perform(self, block: str) -> str:
        """Play one dialogue; the same with what the exchange really said."""
        out: list[str] = []
        for line in lines(block):
            if line.wait_ns:
                await self.wait(line.wait_ns)
                out.append(line.text)
                continue
            out.append(f"// {line.speaker} -> {line.listener}")
            name = line.listener if line.speaker == "exchange" else line.speaker
            wire = self.wires.get(name) or await self.connect(name)
            said = json.loads(line.text)
            if line.speaker == "exchange":
                out.append(pretty(wire.take(said)))
            else:
                assert line.listener == "exchange", f"{line.speaker} can only talk to the exchange"
                self.now_ns += STEP_NS
                text = line.text
                if isinstance(said, dict) and said.get("method") == "login" and said["params"]["key"][2:] in SEEDS:
                    said["params"] = self.login(said["params"]["key"][2:], self.sessions[name].challenge)["params"]
                    text = pretty(said)
                wire.sent = [message for message in wire.sent if "method" in message or _about(message) != _about(said)]
                await self.say(name, said)
                out.append(text)
        return "\n".join(out) + "\n"


def sections(text: str) -> list[str]:
    """The document, cut before each ``##`` heading."""
    return re.split(r"^(?=## )", text, flags=re.MULTILINE)


async def performed(section: str, data_dir: Path) -> str:
    """A section with its dialogues as they really go."""
    blocks = BLOCK.findall(section)
    if not blocks:
        return section
    async with Stage(data_dir) as stage:
        real = [await stage.perform(block) for block in blocks]
    parts = iter(real)
    return BLOCK.sub(lambda _: f"```jsonc\n{next(parts)}```", section)


async def _update() -> None:
    import tempfile

    out = []
    for section in sections(PROTOCOL.read_text(encoding="utf-8")):
        with tempfile.TemporaryDirectory() as folder:
            out.append(await performed(section, Path(folder)))
    PROTOCOL.write_text("".join(out), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(asyncio.run(_update()))
