"""What the auditor remembers: its setup, sockets, requests, outcomes and findings."""

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation.auditor_accounts import Told
from tests.simulation.auditor_books import BookCopy, PublicRecord
from tests.simulation.auditor_live import LiveCopy, LiveTerms
from tests.simulation.auditor_wire import ASKS, BIDS, CHECK_RESULTS, Checker, Terms

FINDINGS_MAX: Final = 200
MESSAGES_MAX: Final = 5_000_000
"""Messages of one run. The auditor remembers them until the end, so a run has to have one."""
WINDOW_MAX: Final = 64
"""Largest bucket whose requests are counted one by one."""
SECOND_NS: Final = 10**9
ENGINE_SLACK_NS: Final = 2 * SECOND_NS
ID_CHARS_MAX: Final = 64
MESSAGES_PER_SECOND: Final = 10
"""Of a gathering channel."""
TOLD_REFUSALS: Final = frozenset({"place", "amend", "cancel", "withdraw", "live.refill"}) | BIDS | ASKS
"""Methods whose refusals by the engine are events of the account."""
CUT: Final = 1006
"""Close code for a socket that broke without a close frame."""
CLASSES: Final = ("orders", "cancels", "requests")
BUDGET_NAMES: Final = frozenset(CLASSES)
LOSSLESS: Final = ("trades", "flows", "status", "account")
CLOSE_CAUSES: Final = {
    1000: {"client_closed"},
    1001: {"stopping", "overloaded"},
    1002: {"framing"},
    1003: {"wrong_opcode"},
    1007: {"not_utf8"},
    1009: {"too_big"},
    1011: {"disk"},
    1013: {"crowded"},
    4003: {"stalled"},
    4004: {"key_revoked"},
}
PASSING: Final = frozenset({"stopping", "disk"})
"""Causes that end with the server process."""

Rate = tuple[int, int]


@dataclass(frozen=True)
class Setup:
    """What the auditor has to know of the configuration. Rates are (per second, burst)."""

    orders: Rate = (1000, 2000)
    cancels: Rate = (2000, 4000)
    requests: Rate = (200, 400)
    ip: Rate = (50, 200)
    refusals_burst: int = 2000
    protocol_errors_burst: int = 100
    events_kept: int = 65_536
    events_kept_all: int = 524_288
    heartbeat_ms: int = 5000
    idle_ms: int = 60_000
    login_ms: int = 10_000
    frame_bytes_max: int = 65_536
    batch_max: int = 50
    subscriptions_max: int = 1000
    client_order_id_ns: int = 24 * 3_600 * 10**9
    client_order_ids_max: int = 1_048_576
    snapshots: bool = True
    markets: tuple[dict[str, Any], ...] = ()
    opening: tuple[tuple[int, int, int], ...] = ()
    """Account, balance in msat and event_seq of accounts that were funded before the run."""


class Request:
    """A call that waits for its answer."""

    __slots__ = ("batched", "loose", "market_known", "method", "params", "sent_ns", "told_max")

    def __init__(self, method: str, params: dict[str, Any], sent_ns: int, loose: bool, batched: bool) -> None:
        self.method, self.params, self.sent_ns = method, params, sent_ns
        self.loose = loose
        """It is not well formed: its answer may have no id."""
        self.batched = batched
        self.market_known = False
        """Whether its market had been told of when it was sent."""
        self.told_max = 0
        """The highest account event that anybody was told when it was sent."""


class Subscription:
    """One channel of one socket."""

    __slots__ = (
        "asked",
        "behind",
        "book",
        "by_engine",
        "flow_id",
        "fresh",
        "kind",
        "live",
        "market",
        "owed",
        "promised",
        "resumed",
        "sent_us",
        "seq",
        "trade_id",
        "ts_us",
    )

    def __init__(self, name: str) -> None:
        kind, _, rest = name.partition(".")
        self.kind = kind
        self.market = rest.removesuffix(".100ms") if kind == "book" else rest
        self.seq = 0
        self.fresh = True
        """Nothing came yet."""
        self.asked = 0
        """Snapshots that were asked for and may still come."""
        self.owed = False
        """Whether one must come. One snapshot may answer several requests that came before it was made."""
        self.resumed = False
        self.behind = False
        """Whether it may still be catching up: since a resume, or until a snapshot that was asked for."""
        self.promised = 0
        """The number that a heartbeat told."""
        self.ts_us = 0
        self.by_engine = kind in ("account", "trades", "flows", "live") or (kind == "book" and not name.endswith(".100ms"))
        """Whether its messages carry the engine's time, which never goes back."""
        self.trade_id: int | None = None
        self.flow_id = 0
        self.live = LiveCopy() if kind == "live" else None
        self.book = BookCopy() if kind == "book" else None
        self.sent_us: deque[int] | None = (
            deque(maxlen=MESSAGES_PER_SECOND + 1) if name.endswith(".100ms") or kind == "ticker" else None
        )


class Connection:
    """One socket as its client saw it."""

    __slots__ = (
        "account",
        "batches",
        "budgets",
        "causes",
        "client",
        "is_open",
        "key",
        "loose_nulls",
        "number",
        "opened_ns",
        "outstanding",
        "permissions",
        "process",
        "refusals",
        "requests",
        "said_hello",
        "sent_ns",
        "spoke_ns",
        "subscriptions",
        "switched_ns",
    )

    def __init__(self, number: int, client: str, process: int, now_ns: int) -> None:
        self.number, self.client, self.process = number, client, process
        self.opened_ns = self.sent_ns = self.switched_ns = now_ns
        self.spoke_ns = now_ns
        """Until when it surely had a login or a channel, or was new."""
        self.is_open = True
        self.said_hello = False
        self.account: int | None = None
        self.key = ""
        self.permissions: frozenset[str] = frozenset()
        self.outstanding: dict[tuple[type, Any], deque[Request]] = {}
        self.batches: list[list[Any]] = []
        self.loose_nulls = 0
        """How many answers without an id may come."""
        self.subscriptions: dict[str, Subscription] = {}
        self.causes: set[str] = set()
        self.requests = 0
        self.refusals = 0
        self.budgets: dict[str, tuple[int, int]] = {}
        """Class to the last told budget and when its request was sent."""


class Outcome:
    """The first outcome of a client order id or transfer id, as far as it was told."""

    __slots__ = ("content", "first", "received_ns", "sent_ns", "ts_us")

    def __init__(self, content: dict[str, Any], first: bool, sent_ns: int, received_ns: int) -> None:
        self.ts_us: int = content.get("ts_us", 0)
        self.content, self.first, self.sent_ns, self.received_ns = content, first, sent_ns, received_ns


class State:
    """What the auditor has been told so far, and what it found. Its layers above read messages into it."""

    def __init__(self, setup: Setup | None = None) -> None:
        self.setup = setup or Setup()
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.unchecked: Counter[str] = Counter()
        self.terms: dict[str, Terms] = {}
        self.live_terms: dict[str, list[LiveTerms]] = {}
        """By live market: the terms of every listing under that name."""
        self.flow_starts: dict[int, tuple[str, dict[str, Any]]] = {}
        """What ``flows`` channels told of the start of each flow, with its market."""
        self.closings: set[str] = set()
        """Markets that somebody asked to be closed: they may be listed again, with other terms."""
        self.told: dict[int, Told] = {}
        self.public = PublicRecord()
        self.messages = 0
        self.process = 0
        """Which server process: the number of recoveries so far."""
        self.epoch: str | None = None
        self.version = ""
        self.started_us: dict[int, int] = {0: 0}
        """By server process: the earliest time that it told."""
        self.causes: set[str] = set()
        self.clock_stepped = False
        self._conns: dict[int, Connection] = {}
        self._outcomes: dict[tuple[int, str, str], Outcome] = {}
        self._charged: dict[tuple[int, int, str], deque[tuple[int, int]]] = {}
        self._too_old: list[tuple[int, int, Request, Connection]] = []
        self._revoked: set[str] = set()
        self._asked: Counter[tuple[int, str, str]] = Counter()
        """By name of an order or transfer: how often it was sent."""
        self._index_prices: dict[str, list[str | None]] = {}
        self._seen_us = 0
        """The latest engine time that was told."""
        self._now_ns = 0
        self._ahead_ns = -(1 << 62)
        """How far the engine's time was ahead of the simulation's, at most."""
        self._names: Counter[int] = Counter()
        """By account: how many names of orders and transfers were sent."""
        self._listed_again: set[str] = set()
        self._listings: dict[str, tuple[int, int]] = {}
        """By market: process and number of the status event that listed it first."""
        self._process_causes: list[set[str]] = [set()]
        for info in self.setup.markets:
            self._learn(info)
        for account, balance, event_seq in self.setup.opening:
            self.told[account] = Told(account, self.setup.client_order_id_ns // 1_000, balance, event_seq)

    def _see(self, ts_us: int) -> None:
        """A time of the engine was told."""
        self._seen_us = max(self._seen_us, ts_us)
        self._ahead_ns = max(self._ahead_ns, ts_us * 1_000 - self._now_ns)

    def _engine_ns(self) -> int:
        """The engine's time by now, rather later than earlier."""
        return self._now_ns + self._ahead_ns + ENGINE_SLACK_NS

    def _find(self, check: str, text: str) -> None:
        self.counts[f"finding {check}"] += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(f"{check}: {text}")

    def _say(self, connection: Connection, check: str, text: str) -> None:
        self._find(check, f"conn {connection.number} ({connection.client}): expected {text}")

    def _wrong(self, connection: Connection, checker: Checker, record: Any, terms: Terms | None, what: str) -> bool:
        """Whether a record is not as documented; then a finding is made."""
        wrong = checker.wrong(record, terms)
        if wrong is None:
            return False
        self._say(connection, wrong[0], f"in {what} {wrong[1]}")
        return True

    def _learn(self, info: dict[str, Any], connection: Connection | None = None) -> None:
        """Terms of a market; they never change, but for its state."""
        if info.get("kind") == "live":
            self._learn_live(info, connection)
            return
        known = self.terms.get(info["market"])
        if known is None:
            if CHECK_RESULTS["MarketInfo"].wrong(info, None) is None and Terms.are_usable(info):
                self.terms[info["market"]] = Terms(info)
            else:
                self._find("number", f"terms of a market that can be used, came {info!r:.240}")
        elif known.info != info and connection is not None:
            changed = {
                name: info.get(name) for name, value in known.info.items() if info.get(name) != value and name != "state"
            }
            if changed and not self._is_listed_again(known):
                self._say(connection, "same", f"the terms of {info['market']} as before, came {changed}")
            elif changed and info["gate_us"] > known.gate_us:
                self.terms[info["market"]] = Terms(info)

    def _learn_live(self, info: dict[str, Any], connection: Connection | None) -> None:
        if CHECK_RESULTS["LiveMarketInfo"].wrong(info, None) is not None:
            return  # a finding about its shape follows
        listings = self.live_terms.setdefault(info["market"], [])
        fixed = {name: value for name, value in info.items() if name != "state"}
        if any(all(known.info[name] == value for name, value in fixed.items()) for known in listings):
            return
        if listings and info["market"] not in self.closings and connection is not None:
            self._say(connection, "same", f"the terms of {info['market']} as before, came {info}")
        listings.append(LiveTerms(info))

    def _market_checker(self, info: Any) -> Checker:
        """For the terms of a market of either kind."""
        return CHECK_RESULTS["LiveMarketInfo" if type(info) is dict and info.get("kind") == "live" else "MarketInfo"]

    def _terms_of(self, market: Any) -> Any:
        """Terms of a market of either kind, as far as steps go; None if nobody was told of it."""
        if type(market) is not str:
            return None
        live = self.live_terms.get(market)
        return live[-1] if live else self.terms.get(market)

    def _is_listed_again(self, known: Terms) -> bool:
        """Whether the market may have ended, nobody being left in it, and may be listed anew under its name."""
        name = known.market
        if name not in self._listed_again and known.gate_us <= self._seen_us:
            self._listed_again.add(name)
            self.unchecked["trades of a market that was listed again"] += 1
        return name in self._listed_again

    def _account(self, account: int) -> Told:
        told = self.told.get(account)
        if told is None:
            told = self.told[account] = Told(account, self.setup.client_order_id_ns // 1_000)
        return told

    def _public_trade(self, connection: Connection, market: str, trade: dict[str, Any]) -> None:
        other = self.public.trade(market, trade)
        if other is not None and market not in self._listed_again:
            self._say(connection, "trade", f"{market} trade {other!r:.160}, came {trade!r:.160}")
