"""The auditor: believes nothing but what clients sent and were told, and checks every promise.

It is written from docs/PROTOCOL.md and knows nothing of the engine or the gateway: no code of theirs is used here, and
prices, fees, checksums and queues are worked out again by its own rules. A finding starts with the name of the check that
made it. By promise (the numbers are those of ARCHITECTURE's table, from 1):

1. Acknowledged means durable
``durable``    every acknowledged order, cancel, fill and transfer is an event; the contents of an event's number never
               change, over crashes too; balances, positions and open orders at the end are those that the events add up
               to; a read tells a state that there was, not older than what was told before it was asked for
2. Exactly once
``once``       one outcome per client order id and transfer id while it is remembered: one order, one answer that is no
               repeat, all repeats like it
``trade``      trade numbers of a market start at 1, have no gap and no repeat, and keep their contents over restarts
3. The account stream has no gap, and resumes
``stream``     each socket's numbers follow each other, from its snapshot or the number that it resumed from; heartbeats
               agree; TOO_OLD only for a reason; nothing is missing in the end
``before``     what a command caused is told on the socket before its answer
``snapshot``   balance, open orders and positions of an account snapshot are what the events before it add up to
``life``       an order is accepted, then its fills, then one end; filled and remaining add up; time in force, post-only,
               collar and amends are as documented
``time``       GTD orders end at their time, not earlier and not later; nothing trades from the gate on
4. Book feeds can be verified
``book``       each message has its predecessor's number; levels in order, no crossing; the checksum over the auditor's own
               copy; equal to all accounts' open orders at that time, and to the true book in the end
``same``       one number of a public channel has one content, and one book behind it, for all subscribers; the terms of a
               market never change
``priority``   price and time: no order that surely stood better, or longer at the same price, is passed over; orders that
               cross do not rest; the maker's price
5. Budgets
``budget``     every answer has one, within its bound, and it never grows faster than its rate
``limit``      a request is refused only when its own budget is told to be 0; of burst + 1 requests that pass, the time
               between them has earned one; conflated channels send few messages per second
6. A slow reader slows nobody
``close``      documented close codes, each only with its cause: slow, idle, not logged in, revoked, flooding, ...
7. Money is conserved
``balance``    balance, held, position and realized follow from the event before, by the rules of clearing and holds
``halves``     both halves of a trade and the public one: price, quantity, time, sides; fees
``delivery``   shares of positions; what is paid, refunded, compensated and released
``conserved``  balances, contracts and deliveries are deposits less withdrawals; positions add up to zero; the fee account
               has the fills' fees
8. Same journal, same state: the simulation itself replays the journal and compares ``state_hash``
9. No floats
``number``     prices, quantities and money as text with all decimals of their step; whole numbers elsewhere
10. Every refusal names code, field and bound
``error``      documented code, reason, field and bound, for that method, in that situation
``shape``      messages, results and events have the documented fields and no others
``answer``     every request has one answer, none comes unasked, batches are answered in order

What cannot be known is left out and counted in ``unchecked``: an account whose events nobody read, an order from before a
gap, things that happened at one time. Look at that counter before trusting a run without findings.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation.auditor_accounts import Told
from tests.simulation.auditor_books import BookCopy, PublicRecord, apply_book, checksum, copy_of, read_levels
from tests.simulation.auditor_history import EndAccount, EndOrder, History, View
from tests.simulation.auditor_wire import (
    BALANCE_INSUFFICIENT,
    CHECK_ACCOUNT_SNAPSHOT,
    CHECK_ASSIGNED,
    CHECK_EVENTS,
    CHECK_HELLO,
    CHECK_RESULTS,
    CHECK_STATUS,
    CHECK_SUBSCRIPTION,
    CHECK_TICKER,
    CLOSE_CODES,
    DENIALS,
    ERROR_DATA,
    INT_MAX,
    MARKET_UNKNOWN,
    METHODS,
    NOT_REMEMBERED,
    ORDER_UNKNOWN,
    OVERLOADED,
    RATE_LIMITED,
    REFUSALS,
    REFUSED_METHODS,
    SHUTTING_DOWN,
    TOO_OLD,
    TRANSFERS,
    Checker,
    Terms,
    msat,
)

__all__ = ["Auditor", "EndAccount", "EndOrder", "Setup", "View"]

FINDINGS_MAX: Final = 200
WINDOW_MAX: Final = 64
"""Largest bucket whose requests are counted one by one."""
SECOND_NS: Final = 10**9
ID_CHARS_MAX: Final = 64
MESSAGES_PER_SECOND: Final = 20
"""Of a conflated channel: ten, and what goes out early because others ask for a snapshot."""
TOLD_REFUSALS: Final = frozenset({"place", "amend", "cancel", "withdraw"})
"""Methods whose refusals by the engine are events of the account."""
CUT: Final = 1006
"""Close code for a socket that broke without a close frame."""
CLASSES: Final = ("orders", "cancels", "requests")
BUDGET_NAMES: Final = frozenset(CLASSES)
LOSSLESS: Final = ("trades", "status", "account")
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
    snapshots: bool = True
    markets: tuple[dict[str, Any], ...] = ()
    opening: tuple[tuple[int, int, int], ...] = ()
    """Account, balance in msat and event_seq of accounts that were funded before the run."""


class Request:
    """A call that waits for its answer."""

    __slots__ = ("batched", "loose", "method", "params", "sent_ns", "told_max")

    def __init__(self, method: str, params: dict[str, Any], sent_ns: int, loose: bool, batched: bool) -> None:
        self.method, self.params, self.sent_ns = method, params, sent_ns
        self.loose = loose
        """It is not well formed: its answer may have no id."""
        self.batched = batched
        self.told_max = 0
        """The highest account event that anybody was told when it was sent."""


class Subscription:
    """One channel of one socket."""

    __slots__ = (
        "asked",
        "behind",
        "book",
        "by_engine",
        "fresh",
        "kind",
        "market",
        "owed",
        "promised",
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
        self.behind = False
        """Whether it may still be catching up, after a resume or before a snapshot."""
        self.promised = 0
        """The number that a heartbeat told."""
        self.ts_us = 0
        self.by_engine = kind in ("account", "trades") or (kind == "book" and not name.endswith(".100ms"))
        """Whether its messages carry the engine's time, which never goes back."""
        self.trade_id: int | None = None
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
        "subscriptions",
        "switched_ns",
    )

    def __init__(self, number: int, client: str, process: int, now_ns: int) -> None:
        self.number, self.client, self.process = number, client, process
        self.opened_ns = self.sent_ns = self.switched_ns = now_ns
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


class Auditor:
    """Told of every message, in the order in which each socket sent and read; see ``findings``."""

    def __init__(self, setup: Setup | None = None) -> None:
        self.setup = setup or Setup()
        self.findings: list[str] = []
        self.counts: Counter[str] = Counter()
        self.unchecked: Counter[str] = Counter()
        self.terms: dict[str, Terms] = {}
        self.told: dict[int, Told] = {}
        self.public = PublicRecord()
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
        self._process_causes: list[set[str]] = [set()]
        for info in self.setup.markets:
            self._learn(info)
        for account, balance, event_seq in self.setup.opening:
            self.told[account] = Told(account, balance, event_seq)
        self._results: dict[str, Callable[[Connection, Request, Any, int], None]] = {
            "info": self._info,
            "markets": self._markets,
            "book": self._book,
            "trades": self._trades,
            "heartbeat": self._heartbeat_result,
            "login": self._login,
            "logout": self._logout,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "resync": self._resync,
            "resume": self._resume,
            "place": self._place,
            "amend": self._amend,
            "cancel": self._cancel,
            "cancel_all": self._cancel_all,
            "order": self._order,
            "orders": self._orders,
            "balances": self._read,
            "positions": self._read,
            "fills": self._read,
            "account_cancel_all": self._cancel_all,
            "set_destination": self._echo,
            "create_account": self._echo,
            "set_market_state": self._echo,
            "add_key": self._add_key,
            "withdraw": self._transfer,
            "deposit": self._transfer,
            "list_market": self._list_market,
            "revoke_key": self._revoke_key,
        }
        self._channels: dict[str, Callable[[Connection, Subscription, dict[str, Any]], None]] = {
            "book": self._book_message,
            "trades": self._trades_message,
            "ticker": self._ticker_message,
            "status": self._status_message,
            "account": self._account_message,
        }

    # ------------------------------------------------------------------------------------------------------ interface

    def connected(self, conn: int, client: str, now_ns: int) -> None:
        """A socket is open, to the server process that recovered last."""
        self._conns[conn] = Connection(conn, client, self.process, now_ns)
        self.counts["connected"] += 1

    def sent(self, conn: int, message: Any, now_ns: int) -> None:
        """A client sent this; it may never arrive."""
        connection = self._conns[conn]
        connection.sent_ns = now_ns
        connection.requests += 1
        if type(message) is list:
            if not 0 < len(message) <= self.setup.batch_max:
                connection.loose_nulls += 1
                return
            connection.batches.append([self._request(connection, item, now_ns, True) for item in message])
        else:
            self._request(connection, message, now_ns, False)

    def received(self, conn: int, message: Any, now_ns: int) -> None:
        """A client read this."""
        connection = self._conns[conn]
        if type(message) is list:
            self._batch(connection, message, now_ns)
        elif type(message) is not dict or message.get("jsonrpc") != "2.0":
            self._say(connection, "shape", f"a JSON-RPC 2.0 message, came {message!r:.120}")
        elif "method" in message:
            self._notification(connection, message)
        else:
            self._answer(connection, message, now_ns)

    def closed(self, conn: int, code: int, reason: str, now_ns: int) -> None:
        """The socket ended, as the client saw it; 1006 stands for an end without a close frame."""
        connection = self._conns[conn]
        connection.is_open = False
        self.counts[f"close {code}"] += 1
        if code == CUT:
            return
        if code not in CLOSE_CODES:
            self._say(connection, "close", f"a documented close code, came {code} {reason!r}")
            return
        waited_ms = (now_ns - connection.opened_ns) // 1_000_000
        excused = self.clock_stepped or "silent" in connection.causes
        why = ""
        if code == 4001:
            speaks = connection.account is not None or connection.subscriptions
            if not excused and (speaks or waited_ms < self.setup.login_ms):
                why = f"a socket without login and subscription for {self.setup.login_ms} ms"
        elif code == 4002:
            if not excused and waited_ms < self.setup.idle_ms:
                why = f"a socket that was not heard for {self.setup.idle_ms} ms"
        elif code == 4005:
            least = min(self.setup.refusals_burst, self.setup.protocol_errors_burst)
            if connection.requests < least and "frames" not in connection.causes:
                why = f"a socket with more than {least} requests refused"
        elif code == 4004:
            if connection.key not in self._revoked and "key_revoked" not in connection.causes:
                why = "a socket of a key that was revoked"
        else:
            causes = connection.causes | self._process_causes[connection.process] | self.causes
            account = connection.subscriptions.get("account")
            if code == 4003 and account is not None and account.behind:
                causes.add("stalled")  # what it missed was forgotten before it had caught up
            if not causes & CLOSE_CAUSES[code]:
                why = f"a cause ({' or '.join(sorted(CLOSE_CAUSES[code]))})"
        if why:
            self._say(connection, "close", f"{code} only for {why}, came {reason!r} after {waited_ms} ms")

    def crashed(self, now_ns: int) -> None:
        """The server process is gone."""
        self.counts["crashed"] += 1

    def recovered(self, now_ns: int) -> None:
        """Another server process listens, on the same data."""
        self.process += 1
        self.counts["recovered"] += 1
        self._process_causes.append(set())

    def cause(self, conn: int | None, kind: str, now_ns: int) -> None:
        """The simulation did something that explains a refusal or the end of a socket."""
        if conn is None:
            (self._process_causes[self.process] if kind in PASSING else self.causes).add(kind)
            self.clock_stepped |= kind == "clock"
        else:
            connection = self._conns[conn]
            connection.causes.add(kind)
            connection.requests += 1
            if kind == "garbage":
                connection.loose_nulls += 1

    def at_rest(self, view: View, now_ns: int) -> None:
        """Everything is quiet, durable and read: the final audit."""
        for connection in self._conns.values():
            if connection.is_open:
                self._rest_of(connection, view)
        self._check_too_old(view)
        history = History(self.told, self.terms, self.public, self._index_prices, self._find, self.unchecked)
        history.run(view)

    # ------------------------------------------------------------------------------------------------------- findings

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
        known = self.terms.get(info["market"])
        if known is None:
            self.terms[info["market"]] = Terms(info)
        elif known.info != info and connection is not None:
            changed = {
                name: info.get(name) for name, value in known.info.items() if info.get(name) != value and name != "state"
            }
            if changed:
                self._say(connection, "same", f"the terms of {info['market']} as before, came {changed}")

    def _account(self, account: int) -> Told:
        told = self.told.get(account)
        if told is None:
            told = self.told[account] = Told(account)
        return told

    # ------------------------------------------------------------------------------------------------------- requests

    def _request(self, connection: Connection, message: Any, now_ns: int, batched: bool) -> Any:
        """Remembers a request; returns its id, or None."""
        if type(message) is not dict:
            connection.loose_nulls += 1
            return None
        number = message.get("id")
        usable = (type(number) is int and -INT_MAX <= number <= INT_MAX) or (
            type(number) is str and len(number) <= ID_CHARS_MAX
        )
        if not usable:
            connection.loose_nulls += 1
            return None
        method, params = message.get("method"), message.get("params", {})
        loose = (
            message.get("jsonrpc") != "2.0"
            or type(method) is not str
            or type(params) is not dict
            or not message.keys() <= {"jsonrpc", "id", "method", "params"}
        )
        if loose:
            connection.loose_nulls += 1
        request = Request(method if type(method) is str else "", params if type(params) is dict else {}, now_ns, loose, batched)
        if connection.account is not None:
            request.told_max = self._account(connection.account).max_seq
            key = self._name(connection.account, request)
            if key is not None:
                self._asked[key] += 1
        if method == "settle":
            self._index_prices.setdefault(str(request.params.get("market")), []).append(request.params.get("index_price"))
        elif method == "revoke_key":
            self._revoked.add(str(request.params.get("key")))
        connection.outstanding.setdefault((type(number), number), deque()).append(request)
        return number

    def _name(self, account: int, request: Request) -> tuple[int, str, str] | None:
        """What a request is remembered by."""
        params = request.params
        if request.method == "place":
            name = params.get("client_order_id")
        elif request.method in TRANSFERS:
            name = params.get("transfer_id")
            account = params.get("account", 0) if request.method == "deposit" else account
        else:
            return None
        return (account, request.method, name) if type(name) is str and type(account) is int else None

    def _batch(self, connection: Connection, answers: list[Any], now_ns: int) -> None:
        ids = [answer.get("id") if type(answer) is dict else None for answer in answers]
        for expected in connection.batches:
            if len(expected) == len(ids) and all(
                one is None or other is None or one == other for one, other in zip(expected, ids, strict=True)
            ):
                connection.batches.remove(expected)
                break
        else:
            self._say(connection, "answer", f"one array per batch, in the order of its requests, came ids {ids!r:.120}")
        for answer in answers:
            if type(answer) is not dict or answer.get("jsonrpc") != "2.0":
                self._say(connection, "shape", f"a JSON-RPC 2.0 answer, came {answer!r:.120}")
            else:
                self._answer(connection, answer, now_ns)

    # -------------------------------------------------------------------------------------------------------- answers

    def _answer(self, connection: Connection, message: dict[str, Any], now_ns: int) -> None:
        if not connection.said_hello:
            self._say(connection, "shape", "hello before everything else, came an answer")
            connection.said_hello = True
        is_error = "error" in message
        if message.keys() != {"id", "error" if is_error else "result", "budget", "jsonrpc"}:
            self._say(
                connection,
                "budget" if "budget" not in message else "shape",
                f"id, result or error, budget, came {sorted(message)}",
            )
            if "budget" not in message or "id" not in message:
                message = {"id": None, "budget": dict.fromkeys(CLASSES, 0), **message}
        number = message["id"]
        request = None
        if number is None:
            if not is_error or connection.loose_nulls < 1:
                self._say(connection, "answer", f"no answer without id, came {message!r:.160}")
            connection.loose_nulls -= 1
        else:
            waiting = connection.outstanding.get((type(number), number))
            if not waiting:
                self._say(connection, "answer", f"an answer to a request that waits, came id {number!r}")
            else:
                request = waiting.popleft()
        method = request.method if request is not None else ""
        self._budget(connection, request, message["budget"], message.get("error"), now_ns)
        if is_error:
            self._error(connection, request, message["error"], now_ns)
            return
        self.counts[f"method {method}"] += 1
        spec = METHODS.get(method)
        if request is None:
            return
        if spec is None:
            self._say(connection, "error", f"METHOD_UNKNOWN for {method!r}, came a result")
            return
        self._result(connection, request, message["result"], now_ns)

    def _result(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        spec = METHODS[request.method]
        checker = CHECK_RESULTS[spec.result]
        if spec.is_list and type(result) is not list:
            self._say(connection, "shape", f"in {request.method} a list, came {result!r:.80}")
            return
        for record in result if spec.is_list else (result,):
            terms = None
            if type(record) is dict:
                if spec.result == "MarketInfo" and CHECK_RESULTS["MarketInfo"].names <= record.keys():
                    self._learn(record, connection)
                market = record.get("market") or request.params.get("market")
                terms = self.terms.get(market) if type(market) is str else None
            if self._wrong(connection, checker, record, terms, request.method):
                return
        handler = self._results.get(request.method)
        if handler is not None:
            handler(connection, request, result, now_ns)

    def _budget(self, connection: Connection, request: Request | None, budget: Any, error: Any, now_ns: int) -> None:
        if type(budget) is not dict or budget.keys() != BUDGET_NAMES:
            self._say(connection, "budget", f"orders, cancels and requests, came {budget!r:.80}")
            return
        for name in CLASSES:
            if type(budget[name]) is not int or budget[name] < 0:
                self._say(connection, "budget", f"whole numbers from 0 on, came {budget}")
                return
        setup = self.setup
        steady = request is not None and request.sent_ns > connection.switched_ns
        if connection.account is None:
            more = budget["orders"] or budget["cancels"] or budget["requests"] > setup.ip[1]
            if more and steady and request is not None and request.method != "login":
                self._say(connection, "budget", f"0, 0 and at most {setup.ip[1]} before login, came {budget}")
            return
        for name in CLASSES:
            bound = getattr(setup, name)[1]
            if budget[name] > bound and (steady or budget[name] > setup.ip[1]):
                self._say(connection, "budget", f"at most {bound} {name}, came {budget}")
        if request is None or not steady or self.clock_stepped:
            return
        spec = METHODS.get(request.method)
        refused = type(error) is dict and error.get("code") == RATE_LIMITED
        if spec is None:
            return
        if refused and budget[spec.budget] and request.method != "login":
            self._say(connection, "limit", f"{request.method} is refused at 0 {spec.budget} only, came {budget}")
        denied_early = type(error) is dict and error.get("code") in (-32700, -32600, -32601)
        charged = not refused and not denied_early and not request.loose
        for name in CLASSES:
            self._growth(connection, name, budget[name], request.sent_ns, int(charged and name == spec.budget), now_ns)
        if charged:
            self._window(connection, connection.account, spec.budget, request.sent_ns, now_ns)

    def _growth(self, connection: Connection, name: str, value: int, sent_ns: int, charge: int, now_ns: int) -> None:
        """A budget grows by its rate only: ``value < earlier + 1 + rate x time - charge``."""
        known = connection.budgets.get(name)
        if known is not None and sent_ns > known[1]:
            rate = getattr(self.setup, name)[0]
            allowed = rate * (now_ns - known[1])
            if (value - known[0] - 1 + charge) * SECOND_NS >= allowed + SECOND_NS // 1000:
                self._say(
                    connection,
                    "budget",
                    f"{name} grow by {rate} per second from {known[0]}, came {value} after {now_ns - known[1]} ns",
                )
        if known is None or sent_ns > known[1]:
            connection.budgets[name] = (value, sent_ns)

    def _window(self, connection: Connection, account: int, name: str, sent_ns: int, now_ns: int) -> None:
        """Of any ``burst + 1`` requests that passed, the time around them must have earned at least one."""
        rate, burst = getattr(self.setup, name)
        if burst > WINDOW_MAX:
            return
        key = (connection.process, account, name)
        passed = self._charged.get(key)
        if passed is None:
            passed = self._charged[key] = deque(maxlen=burst + 1)
        passed.append((sent_ns, now_ns))
        if len(passed) > burst:
            first_ns = min(sent for sent, _ in passed)
            if rate * (now_ns - first_ns) < SECOND_NS:
                self._say(
                    connection, "limit", f"at most {burst} {name} at once, came {len(passed)} within {now_ns - first_ns} ns"
                )

    # --------------------------------------------------------------------------------------------------------- errors

    def _error(self, connection: Connection, request: Request | None, error: Any, now_ns: int) -> None:
        if type(error) is not dict or error.keys() != {"code", "message", "data"} or type(error["data"]) is not dict:
            self._say(connection, "shape", f"an error with code, message and data, came {error!r:.120}")
            return
        code, data = error["code"], error["data"]
        method = request.method if request is not None else ""
        self.counts[f"code {code}"] += 1
        if type(error["message"]) is not str or not error["message"] or not data.keys() <= ERROR_DATA:
            self._say(connection, "error", f"a sentence and documented data, came {error!r:.160}")
        if code in DENIALS:
            self._denial(connection, request, code, data)
        elif code in REFUSALS:
            self._refusal(connection, method, request, code, data)
        else:
            self._say(connection, "error", f"a documented code for {method}, came {error!r:.160}")
        if request is not None and "order" in data:
            order = data["order"]
            terms = self.terms.get(str(order.get("market"))) if type(order) is dict else None
            if not self._wrong(connection, CHECK_RESULTS["OrderView"], order, terms, "data.order"):
                self._order_view(connection, request, order)
        if request is None or connection.account is None or code not in REFUSALS:
            return
        if request.method in TOLD_REFUSALS and not data.get("repeat") and request.sent_ns > connection.switched_ns:
            self._refusal_before(connection, connection.account, code, data, request)
        key = self._name(connection.account, request)
        if key is None:
            return
        if code in NOT_REMEMBERED or (code == MARKET_UNKNOWN and not data.get("repeat")):
            return
        content = {"code": code, **{key: value for key, value in data.items() if key != "repeat"}}
        self._once(connection, key, content, not data.get("repeat", False), request.sent_ns, now_ns)

    def _refusal_before(self, connection: Connection, account: int, code: int, data: dict[str, Any], request: Request) -> None:
        subscription = connection.subscriptions.get("account")
        if subscription is None or subscription.fresh or subscription.behind:
            return
        if code == MARKET_UNKNOWN or any(str(request.params.get(name, 1)).strip("0.") == "" for name in ("qty", "price")):
            return  # the gateway answers these with the engine's code, and the engine never hears of them
        seq = self._account(account).rejections.get((code, data.get("bound", "")), subscription.seq + 1)
        if seq > subscription.seq:
            self._say(connection, "before", f"rejected {code} before the answer, came event {subscription.seq} last, {data}")

    def _denial(self, connection: Connection, request: Request | None, code: int, data: dict[str, Any]) -> None:
        reasons, needed = DENIALS[code]
        method = request.method if request is not None else ""
        if data.get("reason") not in reasons or not needed <= data.keys():
            self._say(
                connection, "error", f"{code} with a reason of {sorted(reasons)} and {sorted(needed)}, came {data!r:.160}"
            )
        retry = data.get("retry_after_ms")
        if retry is not None and (type(retry) is not int or retry < 1):
            self._say(connection, "error", f"retry_after_ms of 1 or more, came {data!r:.160}")
        if code == RATE_LIMITED:
            connection.refusals += 1
        if request is None:
            if code not in (-32700, -32600, RATE_LIMITED):
                self._say(connection, "error", f"PARSE or INVALID_REQUEST without an id, came {code}")
            return
        steady = request.sent_ns > connection.switched_ns
        spec = METHODS.get(method)
        why = ""
        if code == -32601 and spec is not None:
            why = f"no METHOD_UNKNOWN for {method}"
        elif code == -32001 and steady and connection.account is not None:
            why = f"no LOGIN_REQUIRED on a socket of account {connection.account}"
        elif code == -32002 and steady and spec is not None and spec.permissions & connection.permissions - {"quote"}:
            why = f"no PERMISSION refusal of {method} for a key with {sorted(connection.permissions)}"
        elif code == SHUTTING_DOWN and "stopping" not in self._process_causes[connection.process]:
            why = "SHUTTING_DOWN only when the exchange stops"
        elif code == OVERLOADED and "overloaded" not in self.causes:
            why = "OVERLOADED only when too many commands wait"
        elif code == TOO_OLD and method != "resume":
            why = "TOO_OLD for resume only"
        elif data.get("reason") == "market_settled" and (method != "place" or data.get("repeat") is not True):
            why = "market_settled for a repeated place only"
        elif code == -32602 and not str(data.get("field", "")).startswith("params"):
            why = "a field of params"
        if why:
            self._say(connection, "error", f"{why}, came {data!r:.160}")
        if code == TOO_OLD and connection.account is not None:
            self._too_old.append((connection.account, self._account(connection.account).max_seq, request, connection))

    def _refusal(self, connection: Connection, method: str, request: Request | None, code: int, data: dict[str, Any]) -> None:
        row = REFUSALS[code]
        name = f"{code} of {method}"
        repeats = method == "order" and "place" in REFUSED_METHODS[code]
        reads = code == MARKET_UNKNOWN and method in ("book", "trades")
        if method not in REFUSED_METHODS[code] and not repeats and not reads:
            self._say(
                connection, "error", f"{code} for {sorted(REFUSED_METHODS[code])} only, came for {method or 'no request'}"
            )
        if data.get("reason") != row.reason:
            self._say(connection, "error", f"{name}: reason {row.reason}, came {data!r:.160}")
        spec = METHODS.get(method)
        fields = {row.field}
        if row.field == "client_order_id" and method in TRANSFERS:
            fields = {"transfer_id"}
        elif code == ORDER_UNKNOWN:
            fields = {"order_id", "client_order_id"}
        params = spec.params if spec is not None else frozenset()
        expected = {f"params.{one}" if one in params else one for one in fields}
        if data.get("field") not in expected:
            self._say(connection, "error", f"{name}: field {sorted(expected)}, came {data!r:.160}")
        terms = self.terms.get(str(request.params.get("market"))) if request is not None else None
        if not _bound_is_good(row.bound, data.get("bound"), terms):
            self._say(connection, "error", f"{name}: a bound that is {row.bound}, came {data.get('bound')!r:.80}")
        if code == BALANCE_INSUFFICIENT and request is not None and method == "withdraw":
            available, asked = msat(data.get("bound")), request.params.get("amount")
            digits = type(asked) is str and asked.replace(".", "", 1).isdigit()
            if available is not None and digits and not data.get("repeat") and _msat_of(str(asked)) <= available:
                self._say(connection, "error", f"{name}: more than available, came {asked} of {data['bound']}")

    def _once(
        self, connection: Connection, key: tuple[int, str, str], content: dict[str, Any], first: bool, sent_ns: int, now_ns: int
    ) -> None:
        """One name, one outcome."""
        if not first and self._asked[key] == 1:
            self._say(connection, "once", f"no repeat of {key}, which was sent once, came {content!r:.240}")
        known = self._outcomes.get(key)
        if known is None:
            self._outcomes[key] = Outcome(content, first, sent_ns, now_ns)
            return
        span_ns = max(now_ns, known.received_ns) - min(sent_ns, known.sent_ns)
        one_us, other_us = known.ts_us, content.get("ts_us", 0)
        if one_us and other_us:
            span_ns = max(span_ns, abs(other_us - one_us) * 1_000)
        if span_ns >= self.setup.client_order_id_ns or self.clock_stepped:
            if first and other_us >= one_us:
                self._outcomes[key] = Outcome(content, first, sent_ns, now_ns)
            return
        if known.content != content:
            self._say(connection, "once", f"the first outcome of {key} again: {known.content!r:.240}, came {content!r:.240}")
        elif known.first and first:
            self._say(connection, "once", f"one outcome of {key} that is no repeat, came another: {content!r:.240}")
        known.first |= first

    # -------------------------------------------------------------------------------------------------------- results

    def _info(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        rates = {
            name: {"per_second": getattr(self.setup, name)[0], "burst": getattr(self.setup, name)[1]}
            for name in (*CLASSES, "ip")
        }
        told = {name: result[name] for name in ("heartbeat_ms", "idle_ms", "frame_bytes_max", "batch_max", "subscriptions_max")}
        own = {name: getattr(self.setup, name) for name in told}
        if result["epoch"] != self.epoch or result["version"] != self.version:
            self._say(connection, "shape", f"epoch and version of hello, came {result}")
        if result["rates"] != rates or told != own:
            self._say(connection, "budget", f"the configured sizes {rates} {own}, came {result}")

    def _markets(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        names = [info["market"] for info in result]
        if names != sorted(names):
            self._say(connection, "shape", f"markets sorted by name, came {names}")

    def _list_market(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        start, length = request.params.get("start_us"), request.params.get("length_s")
        period = result["period_start_us"], result["period_end_us"]
        if type(start) is int and type(length) is int and period != (start, start + length * 1_000_000):
            self._say(connection, "shape", f"a period from {start} for {length} s, came {period}")

    def _book(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        terms = self.terms.get(str(request.params.get("market")))
        if terms is None:
            self.unchecked["book: a market without terms"] += 1
            return
        where = f"conn {connection.number} ({connection.client}): expected in the answer of book"
        bids = read_levels(result["bids"], terms, 0, self._find, where)
        asks = read_levels(result["asks"], terms, 1, self._find, where)
        depth = request.params.get("depth", 100)
        if bids is None or asks is None or type(depth) is not int:
            return
        if max(len(bids), len(asks)) > depth:
            self._find("book", f"{where}: at most {depth} levels, came {len(bids)} and {len(asks)}")
        if bids and asks and bids[0][0] >= asks[0][0]:
            self._find("book", f"{where}: best bid below best ask, came {bids[0]} and {asks[0]}")
        if depth >= 10 or (len(bids) < depth and len(asks) < depth):
            own = checksum(bids, asks)
            if own != result["checksum"]:
                self._find("book", f"{where}: checksum {own}, came {result['checksum']}")

    def _trades(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        market = str(request.params.get("market"))
        numbers = [trade["trade_id"] for trade in result]
        if numbers != list(range(numbers[0], numbers[0] - len(numbers), -1) if numbers else ()):
            self._say(connection, "trade", f"trades without gap, newest first, came {numbers!r:.120}")
        for trade in result:
            self._public_trade(connection, market, trade)

    def _public_trade(self, connection: Connection, market: str, trade: dict[str, Any]) -> None:
        other = self.public.trade(market, trade)
        if other is not None:
            self._say(connection, "trade", f"{market} trade {other!r:.160}, came {trade!r:.160}")

    def _login(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        if result["key"] != request.params.get("key"):
            self._say(connection, "shape", f"the key that logged in, came {result}")
        if connection.account is not None:
            self._say(connection, "error", f"logged_in for a second login, came {result}")
        connection.account, connection.key = result["account"], result["key"]
        connection.permissions = frozenset(result["permissions"])
        connection.switched_ns = now_ns
        connection.budgets.clear()

    def _logout(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        if result["account"] != connection.account:
            self._say(connection, "shape", f"account {connection.account}, came {result}")
        connection.account, connection.key, connection.permissions = None, "", frozenset()
        connection.subscriptions.pop("account", None)
        connection.switched_ns = now_ns
        connection.budgets.clear()

    def _subscribe(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        names = result["channels"]
        if names != request.params.get("channels"):
            self._say(connection, "shape", f"the channels that were asked for, came {names!r:.160}")
            return
        for name in dict.fromkeys(names):
            subscription = connection.subscriptions.get(name)
            if subscription is None:
                subscription = connection.subscriptions[name] = Subscription(name)
            if not request.batched:
                subscription.asked += 1
                subscription.owed = subscription.behind = True

    def _unsubscribe(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        for name in result["channels"]:
            connection.subscriptions.pop(name, None)

    def _resync(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        for name in result["channels"]:
            subscription = connection.subscriptions.get(name)
            if subscription is None:
                self._say(connection, "error", f"not_subscribed for {name}, came a result")
            elif not request.batched:
                subscription.asked += 1
                subscription.owed = subscription.behind = True

    def _resume(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        if result["account_seq"] != request.params.get("account_seq"):
            self._say(connection, "stream", f"from {request.params.get('account_seq')} on, came {result}")
        subscription = connection.subscriptions["account"] = Subscription("account")
        subscription.seq, subscription.fresh, subscription.behind = result["account_seq"], False, True

    def _place(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        params, account = request.params, connection.account
        name = params.get("client_order_id") or ""
        if (result["client_order_id"], result["market"]) != (name, params.get("market")) and not result["repeat"]:
            self._say(connection, "shape", f"client_order_id {name!r} and market of the request, came {result!r:.240}")
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        terms = self.terms.get(result["market"])
        if terms is not None and not result["repeat"]:
            asked = terms.tick.loose(params.get("price"))
            told = terms.tick.parse(result["price"])
            if asked is not None and params.get("post_only") != "slide" and told != asked:
                self._say(connection, "life", f"the price that was asked for, {asked} ticks, came {told}")
            if terms.lot.loose(params.get("qty")) != terms.lot.parse(result["qty"]):
                self._say(connection, "life", f"the quantity that was asked for, {params.get('qty')}, came {result['qty']}")
        if result["repeat"] and result["fills"]:
            self._say(connection, "once", f"no fills in a repeat, came {result!r:.240}")
        if name:
            content = {key: value for key, value in result.items() if key not in ("repeat", "fills")}
            self._once(connection, (account, "place", name), content, not result["repeat"], request.sent_ns, now_ns)
        elif result["repeat"]:
            self._say(connection, "once", f"no repeat without a client_order_id, came {result!r:.240}")
        for fill in result["fills"]:
            if self._wrong(connection, CHECK_RESULTS["FillView"], fill, terms, "place fills"):
                return
        self._account(account).answers.append(("place", result, connection.number))
        if not result["repeat"]:
            self._before(connection, account, ("accepted",), result["order_id"], "place")

    def _before(self, connection: Connection, account: int, events: tuple[str, ...], order_id: int, method: str) -> None:
        subscription = connection.subscriptions.get("account")
        if subscription is None or subscription.fresh:
            return
        told = self._account(account)
        if any(told.order_seq.get((event, order_id), subscription.seq + 1) <= subscription.seq for event in events):
            subscription.behind = False
        elif not subscription.behind:
            self._say(
                connection,
                "before",
                f"{'/'.join(events)} of order {order_id} before the answer of {method}, came event {subscription.seq} last",
            )

    def _amend(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account = connection.account
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        terms = self.terms.get(result["market"])
        for fill in result["fills"]:
            if self._wrong(connection, CHECK_RESULTS["FillView"], fill, terms, "amend fills"):
                return
        if result["repeat"]:
            self._say(connection, "once", f"no repeat of an amend, came {result!r:.240}")
        self._account(account).answers.append(("amend", result, connection.number))
        self._before(connection, account, ("amended", "canceled"), result["order_id"], "amend")

    def _cancel(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account = connection.account
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        for name in ("order_id", "client_order_id"):
            if request.params.get(name) not in (None, result[name]):
                self._say(connection, "shape", f"the order that was to be canceled, came {result}")
        self._account(account).answers.append(("cancel", result, connection.number))
        self._before(connection, account, ("canceled",), result["order_id"], "cancel")

    def _cancel_all(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account = connection.account
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        of = request.params.get("account") if request.method == "account_cancel_all" else account
        for order_id in result["canceled"]:
            if type(order_id) is not int or type(of) is not int:
                self._say(connection, "number", f"order ids, came {result}")
                return
            self._account(of).answers.append(("cancel", {"order_id": order_id}, connection.number))
            if of == account:
                self._before(connection, account, ("canceled",), order_id, request.method)
        if result["canceled"] != sorted(result["canceled"]):
            self._say(connection, "shape", f"the oldest first, came {result}")

    def _order(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        for name in ("order_id", "client_order_id"):
            if request.params.get(name) not in (None, result[name]):
                self._say(connection, "shape", f"the order that was asked for, came {result}")
        self._order_view(connection, request, result)
        if result["status"] != "open":
            terms = self.terms.get(result["market"])
            if terms is not None and terms.lot.parse(result["remaining_qty"]):
                self._say(connection, "life", f"nothing remains of a closed order, came {result}")

    def _orders(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        for view in result:
            self._order_view(connection, request, view)
        numbers = [view["order_id"] for view in result]
        if request.params.get("state", "open") == "open":
            if numbers != sorted(numbers, reverse=True):
                self._say(connection, "shape", f"the newest first, came {numbers}")
            if any(view["status"] != "open" for view in result):
                self._say(connection, "life", f"open orders, came {result!r:.240}")

    def _order_view(self, connection: Connection, request: Request, view: dict[str, Any]) -> None:
        if connection.account is not None and request.sent_ns > connection.switched_ns:
            told = self._account(connection.account)
            told.reads.append(("order", view, connection.number, request.told_max))

    def _echo(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        for name, value in result.items():
            if request.params.get(name, value) != value:
                self._say(connection, "shape", f"{name} {request.params[name]!r} of the request, came {value!r}")

    def _add_key(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        if not self._wrong(connection, CHECK_RESULTS["KeyView"], result["key"], None, "add_key"):
            self._echo(connection, request, result["key"], now_ns)

    def _read(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account = connection.account
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        if request.method == "balances":
            told = [msat(result[name]) or 0 for name in ("balance", "held", "available")]
            if result["account"] != account or told[2] != told[0] - told[1]:
                self._say(connection, "balance", f"account {account}, available = balance - held, came {result}")
        self._account(account).reads.append((request.method, result, connection.number, request.told_max))

    def _transfer(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        if connection.account is None or request.sent_ns <= connection.switched_ns:
            return
        deposit = request.method == "deposit"
        account = result["account"]
        if account != (request.params.get("account") if deposit else connection.account):
            self._say(connection, "shape", f"the account of the transfer, came {result}")
        name, amount = request.params.get("transfer_id"), msat(result["amount"]) or 0
        if result["transfer_id"] != name or (amount > 0) != deposit:
            self._say(connection, "shape", f"transfer_id {name!r} and the sign of a {request.method}, came {result}")
        if not result["repeat"] and abs(amount) != _msat_of(str(request.params.get("amount"))):
            self._say(connection, "durable", f"the amount {request.params.get('amount')}, came {result['amount']}")
        content = {"account": account, "amount": result["amount"]}
        self._once(connection, (account, request.method, str(name)), content, not result["repeat"], request.sent_ns, now_ns)
        told = self._account(account)
        told.answers.append((request.method, result, connection.number))
        subscription = connection.subscriptions.get("account")
        if account == connection.account and subscription is not None and not subscription.fresh and not result["repeat"]:
            seq = told.transfer_seq.get(str(name), 0)
            if not 0 < seq <= subscription.seq and not subscription.behind:
                self._say(connection, "before", f"the balance event of {name} before its answer, came {subscription.seq} last")

    def _revoke_key(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        self._echo(connection, request, result, now_ns)
        self._revoked.add(result["key"])

    def _heartbeat_result(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        self._heartbeat(connection, result["channels"])

    # -------------------------------------------------------------------------------------------------- notifications

    def _notification(self, connection: Connection, message: dict[str, Any]) -> None:
        method, params = message["method"], message.get("params")
        if message.keys() != {"method", "params", "jsonrpc"} or type(params) is not dict:
            self._say(connection, "shape", f"a notification with method and params, came {message!r:.120}")
            return
        if (method == "hello") == connection.said_hello:
            self._say(connection, "shape", f"hello once and before everything else, came {method}")
        connection.said_hello = True
        if method == "subscription":
            self._subscription(connection, params)
        elif method == "heartbeat":
            if not self._wrong(connection, CHECK_RESULTS["Heartbeat"], params, None, "heartbeat"):
                self._heartbeat(connection, params["channels"])
        elif method == "hello":
            self._hello(connection, params)
        else:
            self._say(connection, "shape", f"hello, heartbeat or subscription, came {method!r:.40}")

    def _hello(self, connection: Connection, params: dict[str, Any]) -> None:
        if self._wrong(connection, CHECK_HELLO, params, None, "hello"):
            return
        setup = self.setup
        own = {"frame_bytes_max": setup.frame_bytes_max, "heartbeat_ms": setup.heartbeat_ms, "idle_ms": setup.idle_ms}
        if any(params[name] != value for name, value in own.items()):
            self._say(connection, "shape", f"in hello {own}, came {params}")
        if self.epoch is None:
            self.epoch, self.version = params["epoch"], params["version"]
        elif params["epoch"] != self.epoch:
            self._say(connection, "stream", f"epoch {self.epoch} of the journal, came {params['epoch']}")
        started = self.started_us.setdefault(connection.process, params["ts_us"])
        self.started_us[connection.process] = min(started, params["ts_us"])

    def _heartbeat(self, connection: Connection, channels: dict[str, Any]) -> None:
        self.counts["heartbeat"] += 1
        if channels.keys() != connection.subscriptions.keys() and not connection.batches:
            self._say(connection, "stream", f"a heartbeat of {sorted(connection.subscriptions)}, came {sorted(channels)}")
        for name, seq in channels.items():
            subscription = connection.subscriptions.get(name)
            if subscription is None or subscription.fresh or subscription.owed:
                continue
            if type(seq) is not int or seq < subscription.seq:
                self._say(connection, "stream", f"a heartbeat of {name} at {subscription.seq} or later, came {seq}")
            else:
                subscription.promised = seq
                subscription.behind &= seq != subscription.seq

    def _subscription(self, connection: Connection, params: dict[str, Any]) -> None:
        if self._wrong(connection, CHECK_SUBSCRIPTION, params, None, "a message of a channel"):
            return
        name, kind, seq, prev_seq = params["channel"], params["type"], params["seq"], params["prev_seq"]
        subscription = connection.subscriptions.get(name)
        if subscription is None:
            if kind != "snapshot" or not connection.batches:
                self._say(connection, "stream", f"only channels that it has, came {name} {kind} {seq}")
                return
            subscription = connection.subscriptions[name] = Subscription(name)
        self.counts[f"{subscription.kind} {kind}"] += 1
        where = f"{name} {kind}"
        if kind == "snapshot":
            if prev_seq == seq and (subscription.asked or connection.batches):
                subscription.asked = max(0, subscription.asked - 1)
                subscription.owed = False
            elif subscription.kind in LOSSLESS:
                self._say(
                    connection, "stream", f"a snapshot of {name} only if asked, with its own prev_seq, came {prev_seq} {seq}"
                )
            elif not subscription.fresh and (prev_seq > seq or seq < subscription.seq):
                self._say(connection, "stream", f"{where} behind {subscription.seq}, came {prev_seq} {seq}")
        elif subscription.fresh:
            self._say(connection, "stream", f"a snapshot of {name} first, came {kind} {seq}")
        else:
            if prev_seq != subscription.seq or seq <= prev_seq or (subscription.kind == "account" and seq != prev_seq + 1):
                self._say(connection, "stream", f"{where} after {subscription.seq}, came prev_seq {prev_seq} seq {seq}")
            if params["ts_us"] < subscription.ts_us and subscription.by_engine:
                self._say(connection, "stream", f"{where} not before {subscription.ts_us}, came {params['ts_us']}")
            subscription.ts_us = params["ts_us"]
        if subscription.sent_us is not None and not (kind == "snapshot" and prev_seq == seq):
            sent = subscription.sent_us
            sent.append(params["ts_us"])
            if len(sent) > MESSAGES_PER_SECOND and sent[-1] - sent[0] < 1_000_000 and not self.clock_stepped:
                self._say(connection, "limit", f"at most {MESSAGES_PER_SECOND} {where} per second, came {list(sent)}")
        subscription.fresh, subscription.seq = False, seq
        handler = self._channels.get(subscription.kind)
        if handler is not None:
            handler(connection, subscription, params)

    def _seen(self, connection: Connection, params: dict[str, Any]) -> bool:
        """Whether this message was read before, by anybody, and is the same."""
        same = self.public.same((connection.process, params["channel"], params["seq"], params["type"]), params)
        if same is False:
            known = self.public.messages[connection.process, params["channel"], params["seq"], params["type"]]
            self._say(connection, "same", f"{known!r:.240}, came {params!r:.240}")
        return bool(same)

    def _ended(self, connection: Connection, params: dict[str, Any]) -> bool:
        """Whether this is the last message of a settled market's channel."""
        data = params["data"]
        if params["type"] != "event" or type(data) is not dict or data.get("event") != "closed":
            return False
        if data.keys() != {"event", "reason"}:
            self._say(connection, "shape", f"event and reason, came {data!r:.120}")
        del connection.subscriptions[params["channel"]]
        return True

    def _book_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        if self._ended(connection, params):
            return
        name, kind, seq = params["channel"], params["type"], params["seq"]
        if kind == "event":
            self._say(connection, "shape", f"snapshot or delta of {name}, came event")
            return
        self._seen(connection, params)
        terms = self.terms.get(subscription.market)
        if terms is None or subscription.book is None:
            self.unchecked["book: a market without terms"] += 1
            return
        direct = not name.endswith(".100ms")
        where = f"conn {connection.number} ({connection.client}): expected in {name} {kind} {seq}"
        apply_book(subscription.book, kind, params["data"], terms, direct and kind == "delta", self._find, where)
        mark = self.public.marks.setdefault((connection.process, name, seq), subscription.book.mark)
        if mark != subscription.book.mark:
            self._say(connection, "same", f"one book at {name} {seq}, came another: {subscription.book.best(5)}")
        if direct and kind == "delta":
            by_time = self.public.checksums.setdefault((connection.process, subscription.market), {})
            if by_time.get(params["ts_us"], (0, 0))[0] <= seq:
                by_time[params["ts_us"]] = (seq, subscription.book.checksum())

    def _trades_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        if self._ended(connection, params):
            return
        trades = params["data"]
        if params["type"] == "delta" or type(trades) is not list:
            self._say(connection, "shape", f"a list of trades, came {params!r:.160}")
            return
        if params["type"] == "event" and not trades:
            self._say(connection, "shape", "an event per command that traded, came no trade")
        terms = self.terms.get(subscription.market)
        seen = self._seen(connection, params)
        last = subscription.trade_id if params["type"] == "event" else None
        for trade in trades:
            if not seen and self._wrong(connection, CHECK_RESULTS["TradeView"], trade, terms, "trades"):
                return
            number = trade["trade_id"]
            if last is not None and number != last + 1:
                self._say(connection, "trade", f"{subscription.market} trade {last + 1}, came {number}")
            last = number
            self._public_trade(connection, subscription.market, trade)
        if trades or params["type"] == "snapshot":
            subscription.trade_id = last

    def _ticker_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        if self._ended(connection, params):
            return
        data, terms = params["data"], self.terms.get(subscription.market)
        if params["type"] != "snapshot":
            self._say(connection, "shape", f"snapshots of a ticker, came {params['type']}")
            return
        if self._wrong(connection, CHECK_TICKER, data, terms, "ticker") or terms is None:
            return
        bid, ask, high, low = (None if data[x] is None else terms.tick.parse(data[x]) for x in ("bid", "ask", "high", "low"))
        if bid is not None and ask is not None and bid >= ask:
            self._say(connection, "book", f"a bid below the ask, came {data}")
        if (high is None) != (low is None) or (high is not None and low is not None and high < low):
            self._say(connection, "book", f"high at low or above, came {data}")
        if (data["bid"] is None) != (data["bid_qty"] is None) or (data["ask"] is None) != (data["ask_qty"] is None):
            self._say(connection, "book", f"a quantity with each price, came {data}")

    def _status_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        data = params["data"]
        self._seen(connection, params)
        if params["type"] == "snapshot":
            if type(data) is not dict or data.keys() != {"server", "markets"} or type(data["markets"]) is not list:
                self._say(connection, "shape", f"server and markets, came {data!r:.120}")
                return
            for info in data["markets"]:
                if type(info) is dict and CHECK_RESULTS["MarketInfo"].names <= info.keys():
                    self._learn(info, connection)
                self._wrong(connection, CHECK_RESULTS["MarketInfo"], info, self.terms.get(str(info.get("market"))), "status")
            self._stops(connection, data["server"].get("state") if type(data["server"]) is dict else None)
            return
        event = data.get("event") if type(data) is dict else None
        checker = CHECK_STATUS.get(str(event))
        if checker is None:
            self._say(connection, "shape", f"a documented event of status, came {data!r:.120}")
            return
        if self._wrong(connection, checker, data, None, "status"):
            return
        self.counts[f"status {event}"] += 1
        if event == "market_listed":
            if CHECK_RESULTS["MarketInfo"].names <= data["terms"].keys():
                self._learn(data["terms"], connection)
            self._wrong(connection, CHECK_RESULTS["MarketInfo"], data["terms"], self.terms.get(data["market"]), "market_listed")
        elif event == "server":
            self._stops(connection, data["state"])

    def _stops(self, connection: Connection, state: Any) -> None:
        if state == "stopping":
            self._process_causes[connection.process].add("stopping")

    def _account_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        account, data, seq = connection.account, params["data"], params["seq"]
        if account is None:
            self._say(connection, "stream", f"no account channel without login, came event {seq}")
            return
        told = self._account(account)
        if params["type"] == "snapshot":
            self._account_snapshot(connection, told, params)
            return
        if params["type"] != "event" or type(data) is not dict:
            self._say(connection, "shape", f"snapshot or event of the account, came {params!r:.160}")
            return
        known = told.events.get(seq)
        if known is not None:
            if known != params:
                self._say(
                    connection,
                    "durable",
                    f"account {account} event {seq} as it was told before: {known!r:.300}, came {params!r:.300}",
                )
            return
        event = data.get("event")
        checker = CHECK_EVENTS.get(str(event))
        if event == "delivery_assigned" and data.get("role") in CHECK_ASSIGNED:
            checker = CHECK_ASSIGNED[data["role"]]
        if checker is None:
            self._say(connection, "shape", f"a documented event of the account, came {data!r:.160}")
            return
        market = data.get("market")
        terms = self.terms.get(market) if type(market) is str else None
        wrong = checker.wrong(data, terms)
        if wrong is not None:
            self._say(connection, wrong[0], f"in event {event} {wrong[1]}")
            if wrong[0] == "shape":
                return
        self.counts[f"event {event}"] += 1
        if event == "canceled":
            self.counts[f"canceled {data['reason']}"] += 1
        elif event == "rejected":
            self._rejected_event(connection, data)
            told.rejections.setdefault((data["code"], data["bound"] or ""), seq)
        told.events[seq] = params
        told.conns[seq] = connection.number
        told.max_seq = max(told.max_seq, seq)
        order_id = data.get("order_id")
        if order_id:
            told.order_seq.setdefault((str(event), order_id), seq)
        elif event == "balance":
            told.transfer_seq[data["transfer_id"]] = seq

    def _rejected_event(self, connection: Connection, data: dict[str, Any]) -> None:
        row = REFUSALS.get(data["code"])
        self.counts[f"rejected {data['code']}"] += 1
        fields = {row.field, "transfer_id", "client_order_id"} if row is not None else set()
        if row is None or data["reason"] != row.reason or data["field"] not in fields:
            self._say(connection, "error", f"a documented refusal, came {data!r:.160}")

    def _account_snapshot(self, connection: Connection, told: Told, params: dict[str, Any]) -> None:
        data, seq = params["data"], params["seq"]
        if self._wrong(connection, CHECK_ACCOUNT_SNAPSHOT, data, None, "the account's snapshot"):
            return
        if self._wrong(connection, CHECK_RESULTS["BalanceView"], data["balance"], None, "the account's snapshot"):
            return
        if data["balance"]["account"] != told.account:
            self._say(connection, "snapshot", f"account {told.account}, came {data['balance']}")
        for name, shape in (("positions", "PositionView"), ("orders", "OrderView"), ("deliveries", "DeliveryView")):
            for row in data[name]:
                terms = self.terms.get(str(row.get("market"))) if type(row) is dict else None
                if self._wrong(connection, CHECK_RESULTS[shape], row, terms, f"the snapshot's {name}"):
                    return
        known = told.snapshots.get(seq)
        if known is not None:
            if known[0] != data:
                self._say(connection, "snapshot", f"one state at {seq}: {known[0]!r:.240}, came {data!r:.240}")
            return
        told.snapshots[seq] = (data, connection.number, params["ts_us"])
        told.max_seq = max(told.max_seq, seq)

    # -------------------------------------------------------------------------------------------------------- the end

    def _rest_of(self, connection: Connection, view: View) -> None:
        for waiting in connection.outstanding.values():
            for request in waiting:
                if not request.loose:
                    self._say(connection, "answer", f"an answer to {request.method} {request.params!r:.120}, came none")
        for name, subscription in connection.subscriptions.items():
            if subscription.fresh or subscription.owed:
                self._say(connection, "stream", f"a snapshot of {name}, came none")
                continue
            if subscription.kind in LOSSLESS and subscription.seq < subscription.promised:
                self._say(connection, "stream", f"{name} up to {subscription.promised}, came {subscription.seq}")
            if subscription.kind == "account" and connection.account in view.accounts:
                last = view.accounts[connection.account].event_seq
                if subscription.seq != last:
                    self._say(connection, "stream", f"account events up to {last}, came {subscription.seq}")
            elif subscription.book is not None and subscription.market in view.levels:
                if "stalled" in connection.causes:
                    self.unchecked["book: the copy of a slow reader at the end"] += 1
                    continue
                end = copy_of(*view.levels[subscription.market])
                if end.mark != subscription.book.mark:
                    self._say(connection, "book", f"{name} as at the end {end.best(5)}, came {subscription.book.best(5)}")

    def _check_too_old(self, view: View) -> None:
        everything = sum(end.event_seq for end in view.accounts.values())
        for account, told_max, request, connection in self._too_old:
            number, epoch = request.params.get("account_seq"), request.params.get("epoch")
            end = view.accounts.get(account)
            if type(number) is not int or epoch != self.epoch or number > told_max or end is None:
                continue
            if end.event_seq - number >= self.setup.events_kept or everything >= self.setup.events_kept_all:
                continue
            following = self.told[account].events.get(number + 1)
            restarted = connection.process > 0
            if restarted and self.setup.snapshots:
                if following is None and number < end.event_seq:
                    continue  # when it happened is not known
                if following is not None and following["ts_us"] < self.started_us.get(connection.process, 0):
                    continue
            if restarted and any(terms.gate_us <= view.ts_us for terms in self.terms.values()):
                continue
            self._say(connection, "stream", f"account {account} is resumed from {number} of {told_max}, came TOO_OLD")


def _msat_of(text: str) -> int:
    """Money as a client writes it, to msat; -1 if it is not."""
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdigit() or len(fraction) > 11:
        return -1
    return int(whole + fraction.ljust(11, "0"))


def _bound_is_good(unit: str, bound: Any, terms: Terms | None) -> bool:
    if unit == "-":
        return bound is None
    if type(bound) is not str:
        return False
    if unit in ("number", "µs"):
        return bound.isdigit()
    if unit == "money":
        return msat(bound) is not None
    if terms is None:
        return bound.replace(".", "", 1).isdigit()
    return (terms.tick if unit == "price" else terms.lot).parse(bound) is not None
