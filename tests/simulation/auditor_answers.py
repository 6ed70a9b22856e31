"""The auditor's ear for requests and answers."""

from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from tests.simulation.auditor_books import checksum, read_levels
from tests.simulation.auditor_channels import Channels
from tests.simulation.auditor_live import LiveCopy
from tests.simulation.auditor_state import (
    BUDGET_NAMES,
    CLASSES,
    ID_CHARS_MAX,
    SECOND_NS,
    TOLD_REFUSALS,
    WINDOW_MAX,
    Connection,
    Outcome,
    Request,
    Setup,
    Subscription,
)
from tests.simulation.auditor_wire import (
    BALANCE_INSUFFICIENT,
    CHECK_RESULTS,
    DEADLINE_PASSED,
    DENIALS,
    ERROR_DATA,
    INT_MAX,
    MARKET_UNKNOWN,
    METHODS,
    NOT_REMEMBERED,
    ORDER_UNKNOWN,
    OVERLOADED,
    PLACES,
    POOL_UNKNOWN,
    RATE_LIMITED,
    READS_MARKET,
    REFUSALS,
    REFUSED_METHODS,
    SHUTTING_DOWN,
    TOO_OLD,
    TRANSFERS,
    msat,
)

OWN_FIELDS: Final = {
    ("qty", "live.place_bid"): "limit",
    ("qty", "live.place_ask"): "speed",
    ("qty", "live.amend_bid"): "limit",
    ("qty", "live.amend_ask"): "speed",
    ("client_order_id", "live.refill"): "refill_id",
    ("budget", "live.refill"): "amount",
}
"""Where a method has another name for the field of a refusal."""
ENDS: Final = ("canceled", "bid_ended", "ask_ended")
MARKET_INFOS: Final = ("MarketInfo", "AnyMarketInfo", "LiveMarketInfo")
OPENING_NAMES: Final = 2
"""Transfers that an account may have had before the run."""


class Answers(Channels):
    """Remembers requests, and reads their answers: budgets, refusals and results."""

    def __init__(self, setup: Setup | None = None) -> None:
        super().__init__(setup)
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
            "live.place_bid": self._live_placed,
            "live.place_ask": self._live_placed,
            "live.amend_bid": self._live_amended,
            "live.amend_ask": self._live_amended,
            "live.refill": self._refilled,
            "live.orders": self._live_orders,
            "live.flows": self._live_flows,
            "live.book": self._live_book,
            "live.estimate": self._echo_market,
            "pool.save": self._echo_pool,
            "pool.delete": self._echo,
            "pools": self._read,
            "report_flow": self._reported,
            "set_index": self._echo_market,
            "list_live_market": self._echo_market,
            "amend": self._amend,
            "cancel": self._cancel,
            "cancel_all": self._cancel_all,
            "order": self._order,
            "orders": self._orders,
            "balances": self._read,
            "positions": self._read,
            "deliveries": self._deliveries,
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
                self._names[key[0]] += self._asked[key] == 1
        request.market_known = self._terms_of(request.params.get("market")) is not None
        if method == "set_market_state" and request.params.get("state") == "closed":
            self.closings.add(str(request.params.get("market")))
        if method == "settle":
            self._index_prices.setdefault(str(request.params.get("market")), []).append(request.params.get("index_price"))
        elif method == "revoke_key":
            self._revoked.add(str(request.params.get("key")))
        connection.outstanding.setdefault((type(number), number), deque()).append(request)
        return number

    def _name(self, account: int, request: Request) -> tuple[int, str, str] | None:
        """What a request is remembered by."""
        params = request.params
        kind = request.method
        if kind in PLACES:
            kind, name = "place", params.get("client_order_id")
        elif kind == "live.refill":
            name = params.get("refill_id")
        elif request.method in TRANSFERS:
            name = params.get("transfer_id")
            account = params.get("account", 0) if request.method == "deposit" else account
        else:
            return None
        return (account, kind, name) if type(name) is str and type(account) is int else None

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
                if spec.result in MARKET_INFOS:
                    checker = self._market_checker(record)
                    if checker.names <= record.keys():
                        self._learn(record, connection)
                elif spec.result == "CancelResult" and "spent" in record:
                    checker = CHECK_RESULTS["CancelBidResult"]
                terms = self._terms_of(record.get("market") or request.params.get("market"))
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
        full = self._names[key[0]] + OPENING_NAMES >= self.setup.client_order_ids_max
        if (
            code in NOT_REMEMBERED | {POOL_UNKNOWN}
            or (code == DEADLINE_PASSED and full)
            or (code == MARKET_UNKNOWN and not data.get("repeat"))
        ):
            return
        # The field is checked above; a repeat by another method may call it otherwise.
        content = {"code": code, **{key: value for key, value in data.items() if key not in ("repeat", "field")}}
        self._once(connection, key, content, not data.get("repeat", False), request.sent_ns, now_ns)

    def _refusal_before(self, connection: Connection, account: int, code: int, data: dict[str, Any], request: Request) -> None:
        subscription = connection.subscriptions.get("account")
        if subscription is None or subscription.fresh or subscription.behind:
            return
        if code == MARKET_UNKNOWN and not (request.market_known and connection.process == 0):
            return  # the gateway answers in the engine's place for a market that its process has never known
        if code == POOL_UNKNOWN:
            return  # the gateway looks for pools
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
        elif data.get("reason") == "market_settled" and (method not in PLACES or data.get("repeat") is not True):
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
        # a name that an order of another kind was refused under: that refusal is the answer
        repeats |= data.get("repeat") is True and method in PLACES and bool(REFUSED_METHODS[code] & PLACES)
        reads = code == MARKET_UNKNOWN and method in READS_MARKET
        if method not in REFUSED_METHODS[code] and not repeats and not reads:
            self._say(
                connection, "error", f"{code} for {sorted(REFUSED_METHODS[code])} only, came for {method or 'no request'}"
            )
        if data.get("reason") != row.reason:
            self._say(connection, "error", f"{name}: reason {row.reason}, came {data!r:.160}")
        spec = METHODS.get(method)
        fields = {row.field}
        if (row.field, method) in OWN_FIELDS:
            fields = {OWN_FIELDS[row.field, method]}
        elif row.field == "client_order_id" and method in TRANSFERS:
            fields = {"transfer_id"}
        elif code == ORDER_UNKNOWN:
            fields = {"order_id", "client_order_id"}
        params = spec.params if spec is not None else frozenset()
        expected = {f"params.{one}" if one in params else one for one in fields}
        if data.get("field") not in expected:
            self._say(connection, "error", f"{name}: field {sorted(expected)}, came {data!r:.160}")
        terms = self._terms_of(request.params.get("market")) if request is not None and not data.get("repeat") else None
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
        if one_us:
            span_ns = max(span_ns, abs((other_us * 1_000 or self._engine_ns()) - one_us * 1_000))
        elif not known.first:
            span_ns = self.setup.client_order_id_ns  # when it happened is not known
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
        connection.spoke_ns = request.sent_ns
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
        if any(self._goes_on(subscription) for subscription in connection.subscriptions.values()):
            connection.spoke_ns = request.sent_ns
        for name in result["channels"]:
            connection.subscriptions.pop(name, None)

    def _goes_on(self, subscription: Subscription) -> bool:
        """Whether the channel has surely not ended with its market."""
        terms = self.terms.get(subscription.market)
        return subscription.kind == "status" or (terms is not None and self._engine_ns() < terms.gate_us * 1_000)

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
        subscription.resumed = True

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
            return
        if not subscription.behind:
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
        self._before(connection, account, ENDS, result["order_id"], "cancel")

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
                self._before(connection, account, ENDS, order_id, request.method)
        falls = sum(other < one for one, other in pairwise(result["canceled"]))
        if falls > bool(self.live_terms):  # those of dated markets before those of live ones
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
            steady = connection.account is not None and request.sent_ns > connection.switched_ns
            limit = request.params.get("limit", 100)
            if steady and connection.account is not None and request.params.get("market") is None and len(result) < limit:
                told = self._account(connection.account)
                told.reads.append(("open", result, connection.number, request.told_max))

    def _deliveries(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        numbers = [row["delivery_id"] for row in result]
        if numbers != sorted(numbers):
            self._say(connection, "shape", f"the oldest first, came {numbers}")
        if not any(row["role"] == "meter" for row in result):
            self._read(connection, request, result, now_ns)

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

    # Live markets.

    def _live_placed(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account, name = connection.account, request.params.get("client_order_id") or ""
        if (result["client_order_id"], result["market"]) != (name, request.params.get("market")) and not result["repeat"]:
            self._say(connection, "shape", f"client_order_id {name!r} and market of the request, came {result!r:.240}")
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        if name:  # status and hashrate are those of now, in a repeat too
            content = {key: value for key, value in result.items() if key not in ("repeat", "status", "assigned")}
            self._once(connection, (account, "place", name), content, not result["repeat"], request.sent_ns, now_ns)
        elif result["repeat"]:
            self._say(connection, "once", f"no repeat without a client_order_id, came {result!r:.240}")
        self._account(account).answers.append((request.method, result, connection.number))
        if not result["repeat"]:
            event = "bid_placed" if request.method == "live.place_bid" else "ask_placed"
            self._before(connection, account, (event,), result["order_id"], request.method)

    def _live_amended(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account = connection.account
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        if result["repeat"]:
            self._say(connection, "once", f"no repeat of an amend, came {result!r:.240}")
        self._account(account).answers.append((request.method, result, connection.number))
        event = "bid_amended" if request.method == "live.amend_bid" else "ask_amended"
        self._before(connection, account, (event,), result["order_id"], request.method)

    def _refilled(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        account, name = connection.account, str(request.params.get("refill_id"))
        if account is None or request.sent_ns <= connection.switched_ns:
            return
        content = {key: value for key, value in result.items() if key not in ("repeat", "balance", "held")}
        self._once(connection, (account, "live.refill", name), content, not result["repeat"], request.sent_ns, now_ns)
        self._account(account).answers.append((request.method, result, connection.number))
        if not result["repeat"]:
            self._before(connection, account, ("bid_refilled",), result["order_id"], request.method)

    def _live_orders(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        for name, shape in (("bids", "BidView"), ("asks", "AskView")):
            for row in result[name]:
                terms = self._terms_of(row.get("market")) if type(row) is dict else None
                if self._wrong(connection, CHECK_RESULTS[shape], row, terms, request.method):
                    return
            numbers = [row["order_id"] for row in result[name]]
            if numbers != sorted(numbers, reverse=True):
                self._say(connection, "shape", f"the latest first, came {numbers}")
        self._read(connection, request, result, now_ns)

    def _live_flows(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        numbers = [row["flow_id"] for row in result]
        if numbers != sorted(numbers):
            self._say(connection, "shape", f"the oldest first, came {numbers}")
        if not any(row["role"] == "meter" for row in result):
            self._read(connection, request, result, now_ns)

    def _live_book(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        market, depth = str(request.params.get("market")), request.params.get("depth", 100)
        listings = self.live_terms.get(market)
        if listings is None or type(depth) is not int:
            self.unchecked["book: a market without terms"] += 1
        elif max(len(result["bids"]), len(result["asks"])) < depth:
            where = f"conn {connection.number} ({connection.client}): expected in the answer of live.book"
            LiveCopy().apply("snapshot", result, listings[-1], self._find, where)

    def _echo_market(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        market = request.params.get("market")
        if market is not None and result["market"] != market:
            self._say(connection, "shape", f"market {market!r} of the request, came {result['market']!r}")

    def _echo_pool(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        if request.params.get("pool_id") is None:  # a new one
            result = {name: value for name, value in result.items() if name != "pool_id"}
        self._echo(connection, request, result, now_ns)

    def _reported(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        told = request.params.get("flow_id"), str(request.params.get("hashes")).lstrip("0") or "0"
        if (result["flow_id"], result["hashes"]) != told or int(result["paid_hashes"]) > int(result["hashes"]):
            self._say(connection, "flow", f"flow and hashes of the report, {told}, and no more paid, came {result}")

    def _revoke_key(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        self._echo(connection, request, result, now_ns)
        self._revoked.add(result["key"])

    def _heartbeat_result(self, connection: Connection, request: Request, result: Any, now_ns: int) -> None:
        self._heartbeat(connection, result["channels"])


def _msat_of(text: str) -> int:
    """Money as a client writes it, to msat; -1 if it is not."""
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdigit() or len(fraction) > 11:
        return -1
    return int(whole + fraction.ljust(11, "0"))


def _bound_is_good(unit: str, bound: Any, terms: Any) -> bool:
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
