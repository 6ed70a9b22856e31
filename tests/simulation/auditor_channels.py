"""The auditor's ear for what the server says unasked."""

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.auditor_accounts import ORDER_EVENTS, Told
from tests.simulation.auditor_books import apply_book
from tests.simulation.auditor_live import LIVE_ORDER_EVENTS
from tests.simulation.auditor_state import LOSSLESS, MESSAGES_PER_SECOND, Connection, Setup, State, Subscription
from tests.simulation.auditor_wire import (
    CHECK_ACCOUNT_SNAPSHOT,
    CHECK_ASSIGNED,
    CHECK_BOUGHT,
    CHECK_EVENTS,
    CHECK_HELLO,
    CHECK_LIVE_TICKER,
    CHECK_RESULTS,
    CHECK_STATUS,
    CHECK_SUBSCRIPTION,
    CHECK_TICKER,
    REFUSALS,
)

OWN_FIELD_NAMES: Final = {"qty": ("limit", "speed"), "budget": ("amount",), "client_order_id": ("refill_id",)}
"""What commands of live markets call the field of a refusal."""
SNAPSHOT_ROWS: Final = {
    "positions": "PositionView",
    "orders": "OrderView",
    "deliveries": "DeliveryView",
    "bids": "BidView",
    "asks": "AskView",
    "flows": "FlowView",
    "pools": "PoolView",
}


class Channels(State):
    """Reads notifications: hello, heartbeats and the messages of channels."""

    def __init__(self, setup: Setup | None = None) -> None:
        super().__init__(setup)
        self._channels: dict[str, Callable[[Connection, Subscription, dict[str, Any]], None]] = {
            "book": self._book_message,
            "trades": self._trades_message,
            "ticker": self._ticker_message,
            "live": self._live_message,
            "flows": self._flows_message,
            "status": self._status_message,
            "account": self._account_message,
        }

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
        self._see(params["ts_us"])
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

    def _subscription(self, connection: Connection, params: dict[str, Any]) -> None:
        if self._wrong(connection, CHECK_SUBSCRIPTION, params, None, "a message of a channel"):
            return
        name, kind, seq, prev_seq = params["channel"], params["type"], params["seq"], params["prev_seq"]
        self._see(params["ts_us"])
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
                subscription.owed = subscription.behind = False
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
        if subscription.sent_us is not None and kind != "event" and not (kind == "snapshot" and prev_seq == seq):
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
        if same is False and params["channel"].partition(".")[2] in self.closings:
            self.unchecked["same: a channel of a live market that was listed again"] += 1
        elif same is False:
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
        if type(data) is dict and data.get("kind") == "live":
            self._live_ticker(connection, data, self._terms_of(subscription.market))
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

    def _live_ticker(self, connection: Connection, data: dict[str, Any], terms: Any) -> None:
        if self._wrong(connection, CHECK_LIVE_TICKER, data, terms, "ticker") or terms is None:
            return
        row = terms.numbers(data)
        if (row["assigned"] > 0) != (row["marginal"] is not None) or row["assigned"] > row["offered"]:
            self._say(connection, "book", f"a marginal price when something of what is offered flows, came {data}")
        if row["marginal"] is not None and not row["marginal"] <= (row["bid"] or 0):
            self._say(connection, "book", f"a marginal price up to the best bid, came {data}")

    def _live_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        if self._ended(connection, params):
            return
        name, kind, seq = params["channel"], params["type"], params["seq"]
        if kind == "event":
            self._say(connection, "shape", f"snapshot or delta of {name}, came event")
            return
        self._seen(connection, params)
        terms = self._terms_of(subscription.market)
        if self._wrong(connection, CHECK_RESULTS["LiveBookView"], params["data"], terms, name) or subscription.live is None:
            return
        if terms is None or subscription.market not in self.live_terms:
            self.unchecked["book: a market without terms"] += 1
            return
        where = f"conn {connection.number} ({connection.client}): expected in {name} {kind} {seq}"
        subscription.live.apply(kind, params["data"], terms, self._find, where)

    def _flows_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        if self._ended(connection, params):
            return
        starts = params["data"]
        if params["type"] == "delta" or type(starts) is not list:
            self._say(connection, "shape", f"a list of starts, came {params!r:.160}")
            return
        if params["type"] == "event" and not starts:
            self._say(connection, "shape", "an event per command that started flows, came no start")
        terms = self._terms_of(subscription.market)
        last = subscription.flow_id if params["type"] == "event" else 0
        for start in starts:
            if self._wrong(connection, CHECK_RESULTS["FlowStartView"], start, terms, "flows"):
                return
            if start["flow_id"] <= last:
                self._say(connection, "flow", f"flows that start after {last}, came {start}")
            last = start["flow_id"]
            known = self.flow_starts.setdefault(last, (subscription.market, start))
            if known != (subscription.market, start):
                self._say(connection, "flow", f"one start of a flow, {known}, came {start}")
        subscription.flow_id = max(last, subscription.flow_id)

    def _status_message(self, connection: Connection, subscription: Subscription, params: dict[str, Any]) -> None:
        data = params["data"]
        self._seen(connection, params)
        if params["type"] == "snapshot":
            if type(data) is not dict or data.keys() != {"server", "markets"} or type(data["markets"]) is not list:
                self._say(connection, "shape", f"server and markets, came {data!r:.120}")
                return
            for info in data["markets"]:
                if type(info) is dict and self._market_checker(info).names <= info.keys():
                    self._learn(info, connection)
                self._wrong(connection, self._market_checker(info), info, self._terms_of(info.get("market")), "status")
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
            checker = self._market_checker(data["terms"])
            if checker.names <= data["terms"].keys():
                self._listed(data["terms"], connection, params["seq"])
            self._wrong(connection, checker, data["terms"], self._terms_of(data["market"]), "market_listed")
        elif event == "server":
            self._stops(connection, data["state"])

    def _listed(self, info: dict[str, Any], connection: Connection, seq: int) -> None:
        """A market is listed: for the first time, or again under the name of one that has ended."""
        known = self.terms.get(info["market"])
        listing = (connection.process, seq)
        if known is not None and self._listings.setdefault(info["market"], listing) != listing:
            self._is_listed_again(known)
        self._listings.setdefault(info["market"], listing)
        self._learn(info, connection)

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
        terms = self._terms_of(market)
        if event == "flow_paid" and data.get("role") == "buyer":
            checker = CHECK_BOUGHT
        if terms is None and (event in ORDER_EVENTS or event in LIVE_ORDER_EVENTS):
            self._say(connection, "shape", f"a market that somebody was told of, came {data!r:.160}")
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
            refusal = data["code"], data["bound"] or ""
            told.rejections[refusal] = min(seq, told.rejections.get(refusal, seq))
        told.events[seq] = params
        told.conns[seq] = connection.number
        told.max_seq = max(told.max_seq, seq)
        order_id = data.get("order_id")
        if order_id:
            named = str(event), order_id
            told.order_seq[named] = min(seq, told.order_seq.get(named, seq))
        elif event == "balance":
            name = data["transfer_id"]
            told.transfer_seq[name] = min(seq, told.transfer_seq.get(name, seq))

    def _rejected_event(self, connection: Connection, data: dict[str, Any]) -> None:
        row = REFUSALS.get(data["code"])
        self.counts[f"rejected {data['code']}"] += 1
        fields = (
            {row.field, "transfer_id", "client_order_id", *OWN_FIELD_NAMES.get(row.field, ())} if row is not None else set()
        )
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
        for name, shape in SNAPSHOT_ROWS.items():
            for row in data[name]:
                terms = self._terms_of(row.get("market")) if type(row) is dict else None
                if self._wrong(connection, CHECK_RESULTS[shape], row, terms, f"the snapshot's {name}"):
                    return
        known = told.snapshots.get(seq)
        if known is not None:
            if _lasting(known[0], data) != _lasting(data, known[0]):
                self._say(connection, "snapshot", f"one state at {seq}: {known[0]!r:.240}, came {data!r:.240}")
            return
        told.snapshots[seq] = (data, connection.number, params["ts_us"])
        told.max_seq = max(told.max_seq, seq)


def _lasting(state: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """An account snapshot without closed positions that the other one lacks: they go with their market, without an event."""
    there = {row["market"] for row in other["positions"]}
    return {**state, "positions": [row for row in state["positions"] if row["market"] in there or row["qty"].strip("-0.")]}
