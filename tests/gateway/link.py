"""A whole exchange without a socket, a disk or a clock: real engine, feeds, keys and sessions over a fake link.

:class:`Stage` is the exchange; ``stage.now_ns`` is its time. :class:`Link` is one client's socket and the session behind it.
:class:`HeldSequencer` applies commands at once, like the real one, and makes them durable when it is told to.
"""

import hashlib
import hmac
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.commands import Command, CreateAccount, Deposit, Entry, ListMarket, Tick
from engine.core import Engine
from engine.events import AccountCreated, Event
from engine.limits import SECOND_NS
from gateway.algorithms import ALGORITHMS
from gateway.auth import KeyStore, login_text
from gateway.codec import JSON, Codec
from gateway.config import Config, TermsConfig
from gateway.exchange import Exchange
from gateway.feeds import Feeds
from gateway.listings import dated_market
from gateway.ratelimit import Limiter
from gateway.sequencer import Overloaded, Stopped
from gateway.session import Session
from gateway.wire import Close, Permission
from tests.gateway.peer import Peer

START_NS: Final = 1_795_435_200 * SECOND_NS
"""2026-11-23 12:00:00 UTC."""
DAY_SECONDS: Final = 86_400
MARKET: Final = "SHA256-20261125"

WIDE: Final = TermsConfig(collar_bps=0)
"""No collar: tests of other things trade at any price."""
BTC_MSAT: Final = 10**11
EPOCH: Final = "5f2b8c41d0a97e36"

Done = Callable[[Entry, list[Event]], None]


class HeldSequencer:
    """Like the real sequencer, with ``commit`` in place of a disk. With ``held`` False everything is durable at once."""

    def __init__(self, stage: "Stage") -> None:
        self.held = False
        self.queue_max = 1_000
        self.stopped = False
        self._stage = stage
        self._waiting: deque[tuple[Entry, list[Event], Done | None]] = deque()
        self._reads: deque[tuple[int, Callable[[], None]]] = deque()
        self.submitted: list[Entry] = []

    def submit(self, command: Command, deadline_ns: int = 0, done: Done | None = None) -> None:
        if self.stopped:
            raise Stopped("the exchange is stopping")
        if len(self._waiting) >= self.queue_max:
            raise Overloaded(f"{self.queue_max} commands wait for the disk")
        engine = self._stage.engine
        entry = Entry(engine.seq + 1, max(self._stage.now_ns, engine.ts_ns), command, deadline_ns)
        self.submitted.append(entry)
        self._waiting.append((entry, engine.apply(entry), done))
        if not self.held:
            self.commit()

    def after_durable(self, fn: Callable[[], None]) -> None:
        if self.stopped:
            raise Stopped("the exchange is stopping")
        if self._waiting:
            self._reads.append((self._waiting[-1][0].seq, fn))
        else:
            fn()

    def commit(self, entries: int = 1_000_000) -> None:
        """The oldest entries are durable: publish, then reply, as the real one does."""
        for _ in range(min(entries, len(self._waiting))):
            entry, events, done = self._waiting.popleft()
            self._stage.publish(entry, events)
            if done is not None:
                done(entry, events)
            while self._reads and self._reads[0][0] <= entry.seq:
                self._reads.popleft()[1]()


class Key:
    """A client's key; the server knows its public half, or shares its secret."""

    def __init__(self, key_id: str, account: int, private: Ed25519PrivateKey | None = None, secret: str = "") -> None:
        self.key_id = key_id
        self.account = account
        self._private = private
        self._secret = secret

    def login(self, challenge: str, timestamp_us: int) -> dict[str, Any]:
        """The parameters of a login."""
        text = login_text(challenge, self.key_id, timestamp_us)
        if self._private is not None:
            signature = self._private.sign(text)
        else:
            signature = hmac.digest(bytes.fromhex(self._secret), text, hashlib.sha256)
        return {"key": self.key_id, "timestamp_us": timestamp_us, "signature": signature.hex()}


class Stage:
    """One exchange with one open market, MARKET."""

    def __init__(self, data_dir: Path, config: Config | None = None, limiter: Limiter | None = None) -> None:
        self.now_ns = START_NS
        self.engine = Engine()
        self.config = config if config is not None else Config()
        self.keys = KeyStore(data_dir)
        self.feeds = Feeds()
        challenges = itertools.count(1)
        self.exchange = Exchange(
            self.engine,
            self.config,
            self.keys,
            self.feeds,
            EPOCH,
            "0.0.1",
            limiter=limiter,
            new_challenge=lambda: f"{next(challenges):064x}",
        )
        self.sequencer = HeldSequencer(self)
        self.feeds.start(self.engine, self.sequencer)
        self.exchange.start(self.sequencer)
        self.publish: Callable[[Entry, list[Event]], None] = self.exchange.publish
        """Who is told of what is durable."""
        self._numbers = itertools.count(1)
        spec = dated_market(
            ALGORITHMS["SHA256"], START_NS + 36 * 3_600 * SECOND_NS, DAY_SECONDS, 50_000, TermsConfig(collar_bps=0)
        )
        assert spec.symbol == MARKET
        self.do(ListMarket(spec))

    def do(self, command: Command) -> list[Event]:
        """Put a command through, durable at once."""
        found: list[Event] = []
        self.sequencer.submit(command, done=lambda entry, events: found.extend(events))
        self.sequencer.commit()
        return found

    def account(self, btc: int = 1) -> int:
        """A new account with some money."""
        number = next(self._numbers)
        created = self.do(CreateAccount(f"account {number}"))[-1]
        assert isinstance(created, AccountCreated)
        if btc:
            self.do(Deposit(created.account, btc * BTC_MSAT, "first"))
        return created.account

    def key(self, account: int, *permissions: Permission, kind: str = "ed25519", ip_list: Sequence[str] = ()) -> Key:
        """A new key of an account."""
        if kind == "hmac":
            made, secret = self.keys.add(account, permissions, "hmac", ip_list=ip_list)
            return Key(made.key_id, account, secret=secret)
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw().hex()
        made, _ = self.keys.add(account, permissions, public_key=public, ip_list=ip_list)
        return Key(made.key_id, account, private)

    def link(self, key: Key | None = None, codec: Codec = JSON, ip: str = "10.0.0.1") -> "Link":
        """A new socket, logged in if there is a key."""
        link = Link(self, codec, ip)
        if key is not None:
            link.login(key)
        return link

    def trader(self, btc: int = 1, codec: Codec = JSON) -> "Link":
        """A socket that may trade for an account of its own."""
        return self.link(self.key(self.account(btc), "read", "trade", "withdraw"), codec)

    def operator(self) -> "Link":
        return self.link(self.key(1, "read", "admin"))

    def meter(self) -> "Link":
        return self.link(self.key(1, "meter"))

    def wait(self, seconds: int, ticks: bool = True) -> None:
        """Time passes; what falls due in the engine happens."""
        self.now_ns += seconds * SECOND_NS
        if ticks and 0 < self.engine.next_due_ns() <= self.now_ns:
            self.do(Tick())


class Refused(Exception):
    """A call was answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: dict[str, Any] = error["data"]


class Link:
    """Both ends of one socket. It is the session's Transport; what the session sends is decoded and kept, in order."""

    def __init__(self, stage: Stage, codec: Codec, ip: str) -> None:
        self.stage = stage
        self.codec = codec
        self.received: list[Any] = []
        """Every message that the client was sent and did not take yet."""
        self.closed: tuple[int, str] | None = None
        """Code and reason of the server's close."""
        self.peer = Peer(codec, self._receive, self._overflowed)
        self.outbox = self.peer.outbox
        self._decode = (msgspec.msgpack if codec.binary else msgspec.json).decode
        self._encode = (msgspec.msgpack if codec.binary else msgspec.json).encode
        self._ids = itertools.count(1)
        self.session = Session(stage.exchange, self, f"c{id(self)}", ip, codec, stage.now_ns)
        self.session.opened(stage.now_ns)
        self.hello = self.take("hello")

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        return self.closed is None

    # --- the session's side

    def _receive(self, payload: bytes) -> None:
        assert self.closed is None, "the session sends on a socket that it closed"
        self.received.append(self._decode(payload))

    def _overflowed(self) -> None:
        self.session.close(Close.SLOW_READER, "not read fast enough")

    def close(self, code: int, reason: str) -> None:
        assert self.closed is None, "the session closes twice"
        self.closed = code, reason

    # --- the client's side

    def put(self, payload: bytes) -> None:
        """Send bytes as they are."""
        self.session.receive(payload, self.stage.now_ns)

    def start(self, method: str, **params: Any) -> int:
        """Send a call; its id."""
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "id": number, "method": method}
        if params:
            request["params"] = params
        self.put(self._encode(request))
        return number

    def answer(self, number: int) -> dict[str, Any]:
        """The whole answer to a call. Raises KeyError when there is none yet."""
        for message in self.received:
            if isinstance(message, dict) and message.get("id") == number:
                self.received.remove(message)
                return message
        raise KeyError(f"call {number} is not answered")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a call and return the whole answer."""
        return self.answer(self.start(method, **params))

    def call(self, method: str, **params: Any) -> Any:
        """Send a call and return its result. Raises Refused."""
        answer = self.ask(method, **params)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def login(self, key: Key, challenge: str = "") -> dict[str, Any]:
        result: dict[str, Any] = self.call("login", **key.login(challenge or self.challenge, self.stage.now_ns // 1_000))
        return result

    @property
    def challenge(self) -> str:
        return self.session.challenge

    def take(self, method: str) -> dict[str, Any]:
        """The parameters of the next notification of a method."""
        for message in self.received:
            if isinstance(message, dict) and message.get("method") == method:
                self.received.remove(message)
                params: dict[str, Any] = message["params"]
                return params
        raise KeyError(f"no {method}")

    def messages(self, channel: str) -> list[dict[str, Any]]:
        """Take every message of a channel."""
        found = [
            message
            for message in self.received
            if isinstance(message, dict) and message.get("method") == "subscription" and message["params"]["channel"] == channel
        ]
        for message in found:
            self.received.remove(message)
        return [message["params"] for message in found]

    def place(self, side: str, qty: str, price: str, **more: Any) -> dict[str, Any]:
        """A limit order in MARKET."""
        result: dict[str, Any] = self.call("place", market=MARKET, side=side, qty=qty, price=price, **more)
        return result
