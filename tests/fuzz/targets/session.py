"""Any messages, in any state of a session, get one answer each of a documented kind; the engine does what the oracle does.

An input is lines. A line is a message to the socket in use, or begins with ``!`` and is something else that happens::

    !open trader        a new socket, of a client who logs in (trader, other, quoter, reader, operator, meter, hmac, nobody),
    !binary trader      the same in MessagePack,
    !from trader 1.2.3.4     the same from an address
    !use 1              go on with the first socket
    !login trader       a correct login on the socket in use
    !hold   !commit 2   nothing is durable any more, until two entries are; !free: everything is at once again
    !wait 5             seconds pass; !beat: and sessions and feeds look at the clock
    !cancels   !none    what a stopping exchange takes
    !slow   !quick      the socket in use leaves everything unread, or reads again
    !drop               the client is gone
"""

import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.commands import CreateAccount, Deposit, ListLive
from engine.core import Engine
from engine.invariants import check
from engine.rejects import RejectCode
from engine.snapshot import state_hash
from gateway.auth import KEYS_FILE, KeyStore
from gateway.channels.base import CONFLATE_BYTES
from gateway.codec import JSON, MSGPACK, Codec
from gateway.config import LiveListing
from gateway.exchange import Taking
from gateway.listings import live_market
from gateway.methods import METHODS
from gateway.wire import Close, ErrorCode, Permission
from tests.fuzz.runner import scratch
from tests.fuzz.targets.codec import WORDS as CALL_WORDS
from tests.gateway.link import BTC_MSAT, MARKET, Key, Link, Stage
from tests.reference.exchange import NaiveExchange

BYTES_MAX = 4_096
LINES_MAX: Final = 60
SOCKETS_MAX: Final = 4
LIVE: Final = "SHA256-LIVE"
WORDS = (
    *CALL_WORDS,
    *(b"!open trader\n", b"!open other\n", b"!binary trader\n", b"!open operator\n", b"!open meter\n", b"!open quoter\n"),
    *(b"!from reader 10.0.0.9\n", b"!from hmac unknown\n", b"!use 1\n", b"!hold\n", b"!commit 1\n", b"!free\n", b"!beat\n"),
    *(b"!wait 7\n", b"!wait 86400\n", b"!cancels\n", b"!none\n", b"!slow\n", b"!quick\n", b"!drop\n", b"!login trader\n"),
    f'"{MARKET}"'.encode(),
    *(f'"{name}.{MARKET}"'.encode() for name in ("book", "trades", "ticker")),
    f'"{LIVE}"'.encode(),
    *(f'"{name}.{LIVE}"'.encode() for name in ("live", "flows", "ticker")),
    *(b'"peg":"top"', b'"peg":"marginal"', b'"peg":"index"', b'"offset":"-0.00000010"', b'"flow_id":1', b'"final":true'),
    *(b'"account"', b'"status"', b'"0.00050000"', b'"0.001"', b'"order_id":4', b'"client_order_id":"a"'),
)
CODES: Final = {value for name, value in vars(ErrorCode).items() if isinstance(value, int)} - {ErrorCode.INTERNAL}
CLOSES: Final = {value for value in vars(Close).values() if isinstance(value, int)} - {Close.FAILED}
WHO: Final[dict[str, tuple[int, tuple[Permission, ...]]]] = {
    "trader": (100, ("read", "trade", "withdraw")),
    "other": (101, ("read", "trade")),
    "quoter": (101, ("read", "quote")),
    "reader": (100, ("read",)),
    "operator": (1, ("read", "admin")),
    "meter": (1, ("meter",)),
    "hmac": (101, ("read", "trade")),
}
BOUND_TO: Final = {"reader": ("10.0.0.0/24",), "hmac": ("10.0.0.1", "2001:db8::/32")}

_HOME: Final = scratch()
"""The keys are made once; an input that changes them changes a copy."""
_KEYS: Final[dict[str, Key]] = {}


def _keys() -> dict[str, Key]:
    if not _KEYS:
        store = KeyStore(_HOME)
        for name, (account, permissions) in WHO.items():
            bound = BOUND_TO.get(name, ())
            if name == "hmac":
                made, secret = store.add(account, permissions, "hmac", ip_list=bound)
                _KEYS[name] = Key(made.key_id, account, secret=secret)
            else:
                private = Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())
                public = private.public_key().public_bytes_raw().hex()
                made, _ = store.add(account, permissions, public_key=public, ip_list=bound)
                _KEYS[name] = Key(made.key_id, account, private)
        shutil.copy(_HOME / KEYS_FILE, _HOME / "as-made")
        shutil.copy(_HOME / KEYS_FILE, _HOME / "in-use")
    return _KEYS


class Client:
    """One socket, and what it asked."""

    def __init__(self, stage: Stage, codec: Codec, ip: str) -> None:
        self.link = Link(stage, codec, ip)
        self.asked = 0
        self.gone = False

    def say(self, payload: bytes) -> None:
        if self.link.is_open and not self.gone:
            self.asked += 1
            self.link.put(payload)

    def log_in(self, key: Key, now_us: int) -> None:
        params = key.login(self.link.challenge, now_us)
        self.say(self.link.codec.encode({"jsonrpc": "2.0", "id": 0, "method": "login", "params": params}))


class Scene:
    """One exchange and its sockets; lines make them do something."""

    def __init__(self) -> None:
        self.keys = _keys()
        if (_HOME / KEYS_FILE).read_bytes() != (_HOME / "as-made").read_bytes():
            shutil.copy(_HOME / "as-made", _HOME / KEYS_FILE)
        self.stage = Stage(_HOME)
        for name in ("one", "two"):
            self.stage.do(CreateAccount(name))
        for account in (100, 101):
            self.stage.do(Deposit(account, BTC_MSAT, "first"))
        self.stage.do(ListLive(live_market(LiveListing(algorithm="SHA256", buyer_fee_bps=300, seller_fee_bps=200, grace_s=60))))
        self.clients: list[Client] = []
        self.at = 0
        self._open("nobody", JSON)

    def line(self, line: bytes) -> None:
        """One line of an input; what is no directive is a message."""
        word, _, rest = line.partition(b" ")
        directive = self._directives().get(word) if line.startswith(b"!") else None
        if directive is None:
            self.clients[self.at].say(line)
        else:
            directive(rest.decode(errors="replace"))

    def _directives(self) -> dict[bytes, Callable[[str], None]]:
        return {
            b"!open": lambda who: self._open(who, JSON),
            b"!binary": lambda who: self._open(who, MSGPACK),
            b"!from": lambda rest: self._open(rest.partition(" ")[0], JSON, rest.partition(" ")[2]),
            b"!use": self._use,
            b"!login": self._login,
            b"!hold": lambda rest: self._hold(True),
            b"!free": lambda rest: self._hold(False),
            b"!commit": lambda count: self.stage.sequencer.commit(_number(count)),
            b"!wait": lambda seconds: self.stage.wait(min(_number(seconds), 10**6)),
            b"!beat": self._beat,
            b"!cancels": lambda rest: self._take(Taking.CANCELS),
            b"!none": lambda rest: self._take(Taking.NONE),
            b"!slow": lambda rest: self._unread(CONFLATE_BYTES + 1),
            b"!quick": lambda rest: self._unread(0),
            b"!drop": self._drop,
        }

    def _open(self, who: str, codec: Codec, ip: str = "10.0.0.1") -> None:
        if len(self.clients) < SOCKETS_MAX:
            self.clients.append(Client(self.stage, codec, ip))
            self.at = len(self.clients) - 1
            self._login(who)

    def _login(self, who: str) -> None:
        if who in self.keys:
            self.clients[self.at].log_in(self.keys[who], self.stage.now_ns // 1_000)

    def _use(self, number: str) -> None:
        self.at = min(max(_number(number), 1), len(self.clients)) - 1

    def _hold(self, held: bool) -> None:
        self.stage.sequencer.held = held
        if not held:
            self.stage.sequencer.commit()

    def _beat(self, _: str) -> None:
        self.stage.feeds.tick(self.stage.now_ns)
        self.stage.exchange.tick(self.stage.now_ns)

    def _take(self, taking: Taking) -> None:
        self.stage.exchange.taking = taking

    def _unread(self, count: int) -> None:
        self.clients[self.at].link.peer.unread_bytes = count

    def _drop(self, _: str) -> None:
        client = self.clients[self.at]
        if client.link.is_open and not client.gone:
            client.gone = True
            client.link.session.closed()

    def judge(self) -> None:
        """Everything is durable now: what was each client told?"""
        self.stage.sequencer.commit()
        check(self.stage.engine)
        oracle, replayed = NaiveExchange(self.stage.engine.limits), Engine(self.stage.engine.limits)
        for entry in self.stage.sequencer.submitted:
            assert replayed.apply(entry) == oracle.apply(entry), f"the oracle disagrees about {entry}"
        assert state_hash(replayed) == state_hash(self.stage.engine), "a replay gives another state"
        for client in self.clients:
            link = client.link
            if link.closed is not None:
                assert link.closed[0] in CLOSES, f"closed with {link.closed}"
            answers = [message for message in link.received if not (isinstance(message, dict) and "method" in message)]
            whole = link.is_open and not client.gone
            assert len(answers) == client.asked if whole else len(answers) <= client.asked, "not one answer for each message"
            for answer in answers:
                for item in answer if isinstance(answer, list) else [answer]:
                    _documented(item)
            _gapless(link.received)


def _documented(answer: dict[str, Any]) -> None:
    assert answer["jsonrpc"] == "2.0"
    assert ("result" in answer) is not ("error" in answer)
    assert {"orders", "cancels", "requests"} == answer["budget"].keys()
    if "error" in answer:
        error = answer["error"]
        assert error["code"] in CODES or error["code"] in {int(code) for code in RejectCode}, error
        assert error["message"]
        assert error["data"]["reason"]


def _gapless(messages: list[Any]) -> None:
    """Every channel of a socket names its predecessor, from its last snapshot on."""
    last: dict[str, int] = {}
    for message in messages:
        if isinstance(message, dict) and message.get("method") == "subscription":
            params = message["params"]
            channel = params["channel"]
            if params["type"] != "snapshot" and channel in last:
                # A resume may go back to any number.
                follows = params["prev_seq"] <= last[channel] if channel == "account" else params["prev_seq"] == last[channel]
                assert follows, f"{channel}: {params['seq']} does not follow {last[channel]}"
            last[channel] = params["seq"]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 1


def one(data: bytes) -> None:
    scene = Scene()
    for line in data.split(b"\n")[:LINES_MAX]:
        scene.line(line)
    scene.judge()


# ----------------------------------------------------------------------------------------------------------------- seeds


def _said(*lines: Any) -> bytes:
    """Lines; a tuple is a call."""
    out = []
    for number, line in enumerate(lines, 1):
        if isinstance(line, str):
            out.append(line.encode())
        else:
            method, params = line
            out.append(msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
    return b"\n".join(out)


def _order(side: str, price: str, qty: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "place", {"market": MARKET, "side": side, "price": price, "qty": qty, **more}


def _bid(price: str, budget: str = "0.1", **more: Any) -> tuple[str, dict[str, Any]]:
    pool = {"url": "stratum+tcp://pool.example:3333", "worker": "w"}
    return "live.place_bid", {"market": LIVE, "price": price, "budget": budget, **pool, **more}


def _ask(price: str, speed: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "live.place_ask", {"market": LIVE, "price": price, "speed": speed, **more}


def seeds() -> Iterator[tuple[str, bytes]]:
    """Short trading days: every state of a session, every channel, what a stop and a slow disk do."""
    public = [f"{name}.{MARKET}" for name in ("book", "trades", "ticker")]
    yield (
        "trade",
        _said(
            ("subscribe", {"channels": ["status", *public]}),
            "!open trader",
            ("subscribe", {"channels": ["account"]}),
            _order("sell", "0.00051000", "0.010", client_order_id="a"),
            _order("sell", "0.00052000", "0.010", post_only="slide"),
            "!open other",
            ("subscribe", {"channels": ["account", public[0]]}),
            _order("buy", "0.00051000", "0.004", time_in_force="ioc"),
            ("place", {"market": MARKET, "side": "buy", "type": "market", "qty": "0.002"}),
            _order("buy", "0.00050000", "0.004", self_trade_prevention="cancel_maker", client_order_id="b"),
            ("amend", {"client_order_id": "b", "qty": "0.003", "price": "0.00050001"}),
            "!use 2",
            ("amend", {"client_order_id": "a", "price": "0.00050001"}),
            ("cancel", {"client_order_id": "a"}),
            ("cancel_all", {"market": MARKET}),
            ("positions", {}),
            "!wait 1",
            "!beat",
        ),
    )
    yield (
        "held",
        _said(
            "!open trader",
            "!hold",
            ("subscribe", {"channels": ["account"]}),
            _order("buy", "0.00050000", "0.010", client_order_id="a"),
            ("balances", {}),
            ("orders", {}),
            "!commit 1",
            ("cancel", {"client_order_id": "a"}),
            "!drop",
            "!open trader",
            ("order", {"client_order_id": "a"}),
            "!free",
        ),
    )
    yield (
        "operator",
        _said(
            "!open operator",
            ("create_account", {"name": "mallory"}),
            ("deposit", {"account": 102, "amount": "1.0", "transfer_id": "d1"}),
            ("add_key", {"account": 102, "permissions": ["trade"], "kind": "hmac"}),
            ("keys", {}),
            ("set_market_state", {"market": MARKET, "state": "halted"}),
            ("list_market", {"algorithm": "SCRYPT", "start_us": 1795651200000000, "length_s": 3600, "reference_price": "0.01"}),
            ("settle", {"market": MARKET, "index_price": "0.0005"}),
            ("revoke_key", {"key": "k-0123456789abcdef"}),
            ("account_cancel_all", {"account": 100}),
        ),
    )
    yield (
        "delivery",
        _said(
            "!open trader",
            _order("sell", "0.00050000", "1.000"),
            "!open other",
            _order("buy", "0.00050000", "1.000"),
            ("set_destination", {"market": MARKET, "url": "stratum+tcp://pool.example:3333", "worker": "w"}),
            "!wait 130000",
            "!open meter",
            ("report_work", {"delivery_id": 1, "hashes": "1000000000000000000", "shares": 100}),
            ("deliveries", {}),
            "!wait 90000",
            "!use 2",
            ("fills", {}),
            ("deliveries", {"market": MARKET}),
            ("withdraw", {"amount": "0.5", "transfer_id": "w1"}),
        ),
    )
    yield (
        "batch",
        _said('[{"jsonrpc":"2.0","id":1,"method":"time"},{"jsonrpc":"2.0","id":2,"method":"x"},3]', "[]", "[[]]", "{", ""),
    )
    yield (
        "resume",
        _said(
            "!open trader",
            ("subscribe", {"channels": ["account"]}),
            _order("buy", "0.00050000", "0.010"),
            "!drop",
            "!open trader",
            ("resume", {"epoch": "5f2b8c41d0a97e36", "account_seq": 1}),
            ("resync", {"channel": "account"}),
            ("unsubscribe", {"channels": ["account"]}),
            ("resume", {"epoch": "other", "account_seq": 99}),
            ("logout", {}),
            ("balances", {}),
            "!login other",
        ),
    )
    yield (
        "stopping",
        _said(
            "!open trader",
            _order("buy", "0.0005", "0.010", client_order_id="a"),
            "!cancels",
            ("cancel_all", {}),
            "!none",
            ("cancel_all", {}),
        ),
    )
    yield "idle", _said("!wait 11", "!beat", "!open reader", "!wait 61", "!beat", "!from hmac 10.0.0.2", "!from reader unknown")
    yield (
        "slow",
        _said(
            "!open trader",
            ("subscribe", {"channels": ["account", *public]}),
            "!slow",
            _order("buy", "0.0005", "0.01"),
            "!beat",
            "!quick",
            "!beat",
        ),
    )
    yield (
        "live",
        _said(
            ("subscribe", {"channels": [f"{name}.{LIVE}" for name in ("live", "flows", "ticker")]}),
            "!open trader",
            ("subscribe", {"channels": ["account"]}),
            _bid("0.0005", limit="1", client_order_id="a"),
            _bid("0.0006", "0.002", peg="top", offset="0.00000010"),
            _bid("0.0006", peg="marginal", floor="0.0001"),
            "!open other",
            ("subscribe", {"channels": ["account"]}),
            _ask("0.0004", "2"),
            _ask("0.00045", "1.5", client_order_id="b"),
            ("live.estimate", {"market": LIVE, "price": "0.0005"}),
            "!wait 50",
            "!open meter",
            ("report_flow", {"flow_id": 1, "hashes": "50000000000000000"}),
            ("report_flow", {"flow_id": 2, "hashes": "40000000000000000", "final": True}),
            ("live.flows", {"market": LIVE}),
            "!use 2",
            ("live.amend_bid", {"client_order_id": "a", "price": "0.00055", "limit": "3"}),
            ("live.refill", {"client_order_id": "a", "amount": "0.05", "refill_id": "r1"}),
            "!wait 7",
            ("live.amend_bid", {"client_order_id": "a", "price": "0.0005499"}),
            ("live.orders", {}),
            "!use 3",
            ("live.amend_ask", {"client_order_id": "b", "speed": "0.2"}),
            ("cancel", {"client_order_id": "b"}),
            "!wait 9",
            "!beat",
            "!use 2",
            ("cancel_all", {"market": LIVE}),
            ("live.flows", {}),
            "!wait 86400",
            "!beat",
        ),
    )
    yield (
        "index",
        _said(
            "!open operator",
            ("set_index", {"market": LIVE, "price": "0.0005"}),
            "!open trader",
            ("pool.save", {"name": "home", "algorithm": "SHA256", "url": "stratum+tcp://pool.example:3333", "worker": "w"}),
            ("live.place_bid", {"market": LIVE, "price": "0.0006", "budget": "0.1", "pool_id": 8, "peg": "index"}),
            ("pools", {}),
            "!open other",
            _ask("0.0004", "1"),
            "!use 2",
            ("set_index", {"market": LIVE, "price": "0.0003"}),
            ("set_market_state", {"market": LIVE, "state": "halted"}),
            ("set_market_state", {"market": LIVE, "state": "closed"}),
            "!use 3",
            ("pool.delete", {"pool_id": 8}),
            ("balances", {}),
            ("list_live_market", {"algorithm": "SCRYPT"}),
            ("live.book", {"market": LIVE}),
        ),
    )
    binary = msgspec.msgpack.encode(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "place",
            "params": {"market": MARKET, "side": "buy", "qty": "0.001", "price": "0.0005"},
        }
    )
    yield "binary", b"!binary trader\n" + binary
    yield "methods", _said(*((method, {}) for method in METHODS))
