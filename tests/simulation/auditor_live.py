"""Live markets for the auditor: the books that clients are told, and each account's bids, asks and flows done again.

Written from docs/PROTOCOL.md, "Live markets". A state of an order or a flow is a dictionary of the fields of its view, in
ticks, lots and msat, so that views, events and states compare field by field.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final
from zlib import crc32

from tests.simulation.auditor_books import Find
from tests.simulation.auditor_wire import MSAT_DECIMALS, Step, msat

CHECKSUM_LEVELS: Final = 10
PREFIXES: Final = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
DAY_SECONDS: Final = 86_400
NO_LIMIT: Final = 1 << 62
"""A limit that is null, where limits are compared."""

Level = tuple[int | None, int]
"""Limit or speed in lots, null for none, and what is assigned."""
Row = dict[str, Any]
State = tuple[int, Row]
"""The number of an account's event, and what was true after it."""

PRICES: Final = frozenset({"price", "cap", "floor", "offset", "old_price", "marginal", "bid", "ask"})
SPEEDS: Final = frozenset({"limit", "speed", "assigned", "old_speed", "offered"})
MONEY: Final = frozenset({"budget", "spent", "left", "cost", "fee", "returned", "amount", "released", "placing_fee"})
WORK: Final = frozenset({"hashes", "paid_hashes", "hashrate"})


class LiveTerms:
    """A live market's terms out of a ``LiveMarketInfo``."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.info = dict(info)
        self.market: str = info["market"]
        self.tick, self.lot = Step(info["tick_size"]), Step(info["lot_size"])
        self.price_min = self.tick.parse(info["price_min"]) or 0
        self.price_max = self.tick.parse(info["price_max"]) or 0
        self.speed_min = self.lot.parse(info["speed_min"]) or 0
        self.speed_max = self.lot.parse(info["speed_max"]) or 0
        self.budget_min = msat(info["budget_min"]) or 0
        self.placing_fee = msat(info["placing_fee"]) or 0
        self.buyer_fee_bps: int = info["buyer_fee_bps"]
        self.seller_fee_bps: int = info["seller_fee_bps"]
        self.life_us: int = info["life_s"] * 1_000_000
        self.pays_as_bid: bool = info["pricing"] == "pay_as_bid"
        unit = PREFIXES.get(info["speed_unit"][:1], 0) if info["speed_unit"].endswith("H/s") else 0
        self.lot_hashrate = self.lot.unit * unit // 10**self.lot.decimals
        """Hashes per second of one lot; 0 when the unit does not say."""
        scale = MSAT_DECIMALS - self.tick.decimals - self.lot.decimals
        self.tick_lot_msat: Fraction = Fraction(self.tick.unit * self.lot.unit) * Fraction(10) ** scale
        """What one lot costs in a day at a price of one tick."""

    def cost(self, price: int, hashes: int) -> Fraction:
        """msat of so much work at a price, without rounding."""
        return self.tick_lot_msat * Fraction(price * hashes, self.lot_hashrate * DAY_SECONDS)

    def numbers(self, row: Mapping[str, Any]) -> Row:
        """A view or event with whole ticks, lots, msat and hashes for its texts."""
        return {name: self._number(name, value) for name, value in row.items()}

    def _number(self, name: str, value: Any) -> Any:
        if value is None or value == "":
            return value
        if name in PRICES:
            return self.tick.signed(value)
        if name in SPEEDS:
            return self.lot.parse(value)
        if name in MONEY:
            return msat(value)
        return int(value) if name in WORK else value


# ---------------------------------------------------------------------------------------------------------------- books


class LiveCopy:
    """Levels of a live market, made from one socket's messages."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, Level], dict[int, Level]] = ({}, {})

    def best(self, side: int) -> list[tuple[int, Level]]:
        """One side (0 bids, 1 asks), best first."""
        return sorted(self.sides[side].items(), reverse=side == 0)

    def checksum(self) -> int:
        """CRC32 over the best ten levels of each side, as the document describes it."""
        text = ""
        for side, letter in enumerate("ba"):
            for price, (size, assigned) in self.best(side)[:CHECKSUM_LEVELS]:
                text += f"{letter}{price}:{'-' if size is None else size}:{assigned};"
        return crc32(text.encode())

    def apply(self, kind: str, data: Row, terms: LiveTerms, find: Find, where: str) -> None:
        """Take a ``LiveBookView`` in, and check the whole book by itself."""
        if kind == "snapshot":
            self.sides = ({}, {})
        for side, name in enumerate(("bids", "asks")):
            levels = read_live_levels(data[name], terms, side, find, f"{where} {name}")
            for price, level in levels or ():
                if level[0] != 0:
                    self.sides[side][price] = level
                elif kind == "snapshot" or self.sides[side].pop(price, None) is None:
                    find("book", f"{where}: removes a level that is there, came {name} {price} ticks")
        self.check(data, terms, find, where)

    def check(self, data: Row, terms: LiveTerms, find: Find, where: str) -> None:
        """What is assigned is the crossing of both sides, and the message's sums and checksum are those of the levels."""
        bids, asks = self.best(0), self.best(1)
        for levels, name in ((bids, "bids"), (asks, "asks")):
            total = sum(assigned for _, (_, assigned) in levels)
            if total != terms.lot.parse(data["assigned"]):
                find("book", f"{where}: {total} lots are assigned to {name}, came {data['assigned']}")
            short = [price for price, (size, assigned) in levels if size is None or assigned < size]
            got = [price for price, (_, assigned) in levels if assigned]
            if short and got and ((short[0] > got[-1]) if name == "bids" else (short[0] < got[-1])):
                find("book", f"{where}: who is better is served whole before others, came {levels!r:.240}")
            if any(size is not None and assigned > size for _, (size, assigned) in levels):
                find("book", f"{where}: at most a level's own size is assigned to it, came {levels!r:.240}")
        wants = next((price for price, (size, assigned) in bids if size is None or assigned < size), 0)
        offers = next((price for price, (size, assigned) in asks if size is None or assigned < size), 0)
        if wants and offers and wants >= offers:
            find("book", f"{where}: hashrate is matched while a bid pays what an ask wants, came {wants} beside {offers}")
        served = [price for price, (_, assigned) in bids if assigned]
        marginal = None if data["marginal"] is None else terms.tick.parse(data["marginal"])
        if marginal != (served[-1] if served else None):
            find("book", f"{where}: a marginal price of {served[-1:]} ticks, came {data['marginal']}")
        own = self.checksum()
        if own != data["checksum"]:
            find("book", f"{where}: checksum {own} over the copy, came {data['checksum']}")


def read_live_levels(rows: Any, terms: LiveTerms, side: int, find: Find, where: str) -> list[tuple[int, Level]] | None:
    """The levels of one side of a message, best first. None, and a finding, if they are not as documented."""
    levels: list[tuple[int, Level]] = []
    for row in rows:
        if type(row) is not list or len(row) != 3:
            find("shape", f"{where}: [price, size, assigned], came {row!r:.80}")
            return None
        price, assigned = terms.tick.parse(row[0]), terms.lot.parse(row[2])
        size = None if row[1] is None and side == 0 else terms.lot.parse(row[1])
        if price is None or assigned is None or (size is None and (side or row[1] is not None)):
            find("number", f"{where}: a level on tick and lot, came {row!r:.80}")
            return None
        levels.append((price, (size, assigned)))
    for better, worse in pairwise(levels):
        if (better[0] <= worse[0]) if side == 0 else (better[0] >= worse[0]):
            find("book", f"{where}: levels best first, came {rows!r:.120}")
            return None
    return levels


# ------------------------------------------------------------------------------------------------------------- accounts


class LiveOrder:
    """A bid or an ask as its owner's events tell it."""

    def __init__(self, view: Row, is_bid: bool) -> None:
        self.view = view
        """What its view shows, as numbers."""
        self.is_bid = is_bid
        self.placed: Row | None = None
        """Price, cap and limit or speed as it was placed; None while unknown."""
        self.end: Row | None = None
        """How it ended, and the speed that it had."""
        self.states: list[State] = []

    @property
    def size(self) -> int:
        """The most that may be assigned to it."""
        size = self.view["limit" if self.is_bid else "speed"]
        return NO_LIMIT if size is None else int(size)


class LiveFlow:
    """One side of a flow."""

    def __init__(self, view: Row) -> None:
        self.view = view
        self.payments: list[tuple[int, int, int, bool]] = []
        """Totals of hashes and paid hashes, the cost, and whether it is done with, of each report."""
        self.speeds: list[tuple[int, int]] = []
        """When its speed changed, and to what."""
        self.whole = True
        """Whether it is known from its start."""
        self.low = self.high = view["price"]
        """The lowest and the highest price of its bid while it ran, as a buyer is told."""
        self.lots_us = 0
        """Lots that were assigned, times microseconds, until ``since_us``; a microsecond more for each change."""
        self.since_us: int = view["started_us"]
        self.heard_us: int = view["started_us"]
        """When it started, or was last reported."""
        self.states: list[State] = []

    def passes(self, ts_us: int) -> None:
        """Time passes at the speed of now."""
        self.lots_us += self.view["speed"] * (ts_us - self.since_us + 1)
        self.since_us = ts_us


BID_FIELDS: Final = ("order_id", "client_order_id", "market", "price", "cap", "limit", "budget", "url", "worker")
BID_TERMS: Final = ("peg", "offset", "floor", "expires_us", "ts_us")
ASK_FIELDS: Final = ("order_id", "client_order_id", "market", "price", "speed", "expires_us", "ts_us")
LIVE_EVENTS: Final = frozenset(
    [
        "bid_placed",
        "bid_amended",
        "bid_stopped",
        "bid_resumed",
        "bid_refilled",
        "bid_ended",
        "ask_placed",
        "ask_amended",
        "ask_ended",
        "flow_changed",
        "flow_paid",
        "pool_saved",
        "pool_deleted",
    ]
)
LIVE_ORDER_EVENTS: Final = LIVE_EVENTS - {"pool_saved", "pool_deleted"}


class LiveReplay:
    """The live half of one account's replay; ``replay`` has the balances and the order of events."""

    def __init__(self, replay: Any, terms: dict[str, list[LiveTerms]]) -> None:
        self.replay, self.terms = replay, terms
        self.orders: dict[int, LiveOrder] = {}
        self.flows: dict[tuple[int, str], LiveFlow] = {}
        """Flows that are not done with, as far as that is told."""
        self.all_flows: dict[tuple[int, str], LiveFlow] = {}
        self.pools: dict[int, Row] = {}
        self.pool_states: list[tuple[int, dict[int, Row]]] = [(0, {})]
        self.refills: dict[str, list[Row]] = {}
        self._sold = (0, 0)
        """Flow and event of a seller's half that the buyer's has told already."""
        self._touched: set[int] = set()
        """Orders whose hashrate changed since an order's event."""

    def _find(self, check: str, text: str) -> None:
        self.replay.find(check, text)

    def _any(self, market: str, name: str, wanted: Any) -> bool:
        """Whether one of the listings of that name has that value: when one follows another is not known."""
        return any(getattr(terms, name) == wanted for terms in self.terms[market])

    def event(self, kind: str, data: Row) -> None:
        """One event of the account."""
        if kind == "pool_saved":
            self.pools[data["pool_id"]] = {name: value for name, value in data.items() if name != "event"}
        elif kind == "pool_deleted":
            if self.pools.pop(data["pool_id"], None) is None and self.replay.whole:
                self._find("life", f"a pool that was saved is deleted, came {data['pool_id']}")
        else:
            if kind not in ("flow_changed", "bid_ended", "ask_ended"):
                # orders may end together, and their flows behind the last of them, market by market
                self.settled(data["market"])
            market = data["market"]
            row = self.terms[market][-1].numbers(data)
            handlers: dict[str, Callable[[Row], None]] = {
                "bid_placed": self._bid_placed,
                "ask_placed": self._ask_placed,
                "flow_changed": self._flow_changed,
                "flow_paid": self._flow_paid,
            }
            handler = handlers.get(kind)
            if handler is not None:
                handler(row)
            else:
                self._order_event(kind, row)
            order = self.orders.get(data["order_id"])
            if order is not None:
                order.states.append((self.replay.seq, dict(order.view)))
        if kind in ("pool_saved", "pool_deleted"):
            self.pool_states.append((self.replay.seq, dict(self.pools)))

    def settled(self, market: str = "") -> None:
        """The flows of a change are all told, of one market or of all: nothing is assigned to who is gone, nor more than who
        stands takes."""
        for order_id in sorted(self._touched):
            order = self.orders.get(order_id)
            if order is not None and market and order.view["market"] != market:
                continue
            self._touched.discard(order_id)
            if order is None:
                continue
            size = order.size if order.view["status"] == "open" else 0
            if order.view["assigned"] > size:
                self._find("flow", f"at most {size} lots flow for {order.view}, came {order.view['assigned']}")

    # Orders.

    def _placed(self, row: Row, order: LiveOrder) -> None:
        replay, name = self.replay, f"order {row['order_id']}"
        if row["order_id"] <= replay.order_id_max:
            self._find("life", f"order ids rise with acceptance, came {name} after {replay.order_id_max}")
        replay.order_id_max = max(replay.order_id_max, row["order_id"])
        if row["ts_us"] != replay.ts_us:
            self._find("life", f"{name} is placed at the time of its event {replay.ts_us}, came {row['ts_us']}")
        if row["expires_us"] and row["expires_us"] <= replay.ts_us:
            self._find("time", f"{name} ends after now {replay.ts_us}, came {row['expires_us']}")
        replay.happens_once("order", row["client_order_id"])
        self.orders[row["order_id"]] = order
        all_terms = self.terms[row["market"]]
        if not any(terms.price_min <= row["price"] <= terms.price_max for terms in all_terms):
            self._find("life", f"{name} with a price of the market's, came {row['price']}")
        if order.size != NO_LIMIT and not any(terms.speed_min <= order.size <= terms.speed_max for terms in all_terms):
            self._find("life", f"{name} with a speed of the market's, came {order.size}")

    def _bid_placed(self, row: Row) -> None:
        view = {name: row[name] for name in (*BID_FIELDS, *BID_TERMS)}
        order = LiveOrder(view | {"status": "open", "assigned": 0, "spent": 0, "left": row["budget"]}, True)
        order.placed = {name: row[name] for name in ("price", "cap", "limit", "ts_us")}
        self._placed(row, order)
        if not any(row["expires_us"] - row["ts_us"] <= terms.life_us for terms in self.terms[row["market"]]):
            self._find("time", f"a bid lives no longer than its market says, came {row}")
        if not any(row["budget"] >= terms.budget_min for terms in self.terms[row["market"]]):
            self._find("life", f"a budget of the market's budget_min or more, came {row['budget']}")
        if not self._any(row["market"], "placing_fee", row["placing_fee"]):
            self._find("balance", f"the market's placing_fee, came {row['placing_fee']}")
        if row["peg"] == "none" and (row["offset"] or row["floor"] is not None):
            self._find("life", f"offset and floor are of pegged bids only, came {row}")
        self._in_its_bounds(order)
        replay = self.replay
        replay.fees += row["placing_fee"]
        if replay.known:
            replay.balance -= row["placing_fee"]
            replay.held += row["budget"]

    def _in_its_bounds(self, order: LiveOrder) -> None:
        view = order.view
        low = min(terms.price_min for terms in self.terms[view["market"]]) if view["floor"] is None else view["floor"]
        if view["peg"] == "none":
            low = view["cap"]
        if not low <= view["price"] <= view["cap"]:
            self._find("life", f"bid {view['order_id']} pays {low} to {view['cap']} ticks, came {view['price']}")

    def _ask_placed(self, row: Row) -> None:
        order = LiveOrder({name: row[name] for name in ASK_FIELDS} | {"status": "open", "assigned": 0}, False)
        order.placed = {name: row[name] for name in ("price", "speed", "ts_us")}
        self._placed(row, order)

    def _known(self, row: Row, kind: str) -> LiveOrder | None:
        order = self.orders.get(row["order_id"])
        if order is None:
            if self.replay.whole:
                self._find("life", f"{kind} of an order that was placed, came order {row['order_id']}")
            else:
                self.replay.unchecked["live: an order from before a gap"] += 1
            return None
        for name in ("market", "client_order_id"):
            if name in row and row[name] != order.view[name]:
                self._find("life", f"{kind} of order {row['order_id']}: {name} {order.view[name]!r}, came {row[name]!r}")
        return order

    def _order_event(self, kind: str, row: Row) -> None:
        order = self._known(row, kind)
        replay = self.replay
        if order is None:
            for name, sign in (("returned", -1), ("amount", 1)):
                if replay.known and name in row:
                    replay.held += sign * row[name]
            return
        view, name = order.view, f"order {row['order_id']}"
        if view["status"] == "ended" or order.is_bid != kind.startswith("bid"):
            self._find("life", f"nothing after the end of {name}, and nothing of the other side, came {kind}")
            return
        self._touched.add(row["order_id"])
        for field, own in (("old_price", "price"), ("old_speed", "speed"), ("left", "left"), ("budget", "budget")):
            expected = view.get(own)
            if field == "left" and kind == "bid_refilled":
                expected = view["left"] + row["amount"]
            if field in row and row[field] != expected:
                self._find("balance" if field in MONEY else "life", f"{name}: {field} {expected}, came {kind} {row[field]}")
        if kind == "bid_amended":
            if row["cause"] == "bid_repriced" and (
                view["peg"] == "none" or any(row[field] != view[field] for field in ("cap", "limit", "url", "worker"))
            ):
                self._find("life", f"{name} changes by itself in price only, and if pegged, came {row}")
            view.update((field, row[field]) for field in ("price", "cap", "limit", "url", "worker"))
            self._in_its_bounds(order)
            for flow in self.flows.values():
                if flow.view["order_id"] == view["order_id"] and flow.view["role"] == "buyer":
                    flow.low, flow.high = min(flow.low, row["price"]), max(flow.high, row["price"])
        elif kind == "ask_amended":
            view["price"], view["speed"] = row["price"], row["speed"]
        elif kind in ("bid_stopped", "bid_resumed"):
            before = "open" if kind == "bid_stopped" else "stopped"
            if view["status"] != before:
                self._find("life", f"{kind} of a bid that is {before}, came {view}")
            view["status"] = "stopped" if kind == "bid_stopped" else "open"
            if kind == "bid_resumed":
                view["price"] = row["price"]
                self._in_its_bounds(order)
        elif kind == "bid_refilled":
            view["budget"] += row["amount"]
            view["left"] = row["left"]
            replay.happens_once("refill", row["refill_id"])
            self.refills.setdefault(row["refill_id"], []).append(row)
            if replay.known:
                replay.held += row["amount"]
        else:
            self._ended(order, row, kind)

    def _ended(self, order: LiveOrder, row: Row, kind: str) -> None:
        view, replay, reason = order.view, self.replay, row["reason"]
        order.end = {"assigned": view["assigned"], "reason": reason}
        if reason == "expired" and not 0 < view["expires_us"] <= replay.ts_us:
            self._find("time", f"order {row['order_id']} ends at {view['expires_us']}, came expired at {replay.ts_us}")
        if kind == "bid_ended":
            order.end |= {"spent": row["spent"], "returned": row["returned"]}
            if row["spent"] != view["spent"] or not 0 <= row["returned"] <= view["left"]:
                self._find("balance", f"bid {view['order_id']} spent {view['spent']} of {view['left']} left, came {row}")
            if reason in ("spent", "idle") and view["status"] != "stopped":
                self._find("life", f"a bid that ends {reason} is stopped, came {view}")
            view["left"] -= row["returned"]
            if replay.known:
                replay.held -= row["returned"]
            waits = any(f.view["order_id"] == view["order_id"] and f.view["role"] == "buyer" for f in self.flows.values())
            if not waits and view["left"] and replay.whole:
                self._find("balance", f"nothing stays held of bid {view['order_id']} without flows, came {view['left']} msat")
        view["status"] = "ended"

    # Flows.

    def _flow_changed(self, row: Row) -> None:
        key = row["flow_id"], row["role"]
        replay, name, change = self.replay, f"flow {row['flow_id']}", row["change"]
        order = self._known(row, "flow_changed")
        flow = self.flows.get(key)
        if change == "started":
            if key in self.all_flows or row["old_speed"] or not row["speed"]:
                self._find("flow", f"{name} starts once and from nothing, came {row}")
            view = {field: row[field] for field in ("flow_id", "market", "role", "order_id", "speed", "price", "url", "worker")}
            view |= {"state": "running", "hashes": 0, "paid_hashes": 0, "cost": 0, "fee": 0}
            flow = LiveFlow(view | {"started_us": row["ts_us"], "ended_us": 0})
            self.flows[key] = self.all_flows[key] = flow
        elif flow is None:
            if replay.whole:
                self._find("flow", f"a flow that runs is {change}, came {name}")
                return
            replay.unchecked["live: a flow from before a gap"] += 1
        elif flow.view["state"] != "running" or flow.view["speed"] != row["old_speed"]:
            self._find("flow", f"{name} is {change} from {flow.view}, came {row}")
        grows = row["speed"] > row["old_speed"]
        if order is not None:
            if grows and order.view["status"] != "open":
                self._find("flow", f"nothing flows for an order that is {order.view['status']}, came {row}")
            if order.is_bid != (row["role"] == "buyer"):
                self._find("flow", f"bids buy and asks sell, came {row}")
            order.view["assigned"] += row["speed"] - row["old_speed"]
            if order.is_bid and order.view["price"] != row["price"]:
                self._find("flow", f"{name} at its bid's price {order.view['price']}, came {row}")
            if not order.is_bid and grows and row["price"] < order.view["price"]:
                self._find("flow", f"{name} pays what its ask wants, {order.view['price']}, came {row}")
            self._touched.add(row["order_id"])
        if (change == "ended") != (not row["speed"]) or (change == "redirected" and row["speed"] != row["old_speed"]):
            self._find("flow", f"{name} ends at no speed, and a redirected one keeps its own, came {row}")
        if flow is not None:
            flow.passes(row["ts_us"])
            flow.view.update((field, row[field]) for field in ("speed", "price", "url", "worker"))
            flow.speeds.append((row["ts_us"], row["speed"]))
            if change == "ended":
                flow.view["state"], flow.view["ended_us"] = "closing", row["ts_us"]
            flow.states.append((replay.seq, dict(flow.view)))

    def _flow_paid(self, row: Row) -> None:
        key, replay = (row["flow_id"], row["role"]), self.replay
        name, buys = f"flow {row['flow_id']}", row["role"] == "buyer"
        flow = self.flows.get(key)
        order = self._known(row, "flow_paid")
        released = row.get("released", 0) or 0
        replay.fees += row["fee"]
        if replay.known:
            replay.balance += self._paid(row, buys)
            if buys:
                replay.held -= row["cost"] + row["fee"] + released
        if order is not None and buys:
            view = order.view
            view["spent"] += row["cost"] + row["fee"]
            view["left"] -= row["cost"] + row["fee"] + released
            if view["left"] < 0 or (released and view["status"] != "ended"):
                self._find("balance", f"a bid pays out of its budget, and releases when it has ended, came {row} of {view}")
        if flow is None:
            if replay.whole:
                self._find("flow", f"a flow that is not done with is paid, came {name}")
            return
        view = flow.view
        if row["hashes"] < view["hashes"] or not view["paid_hashes"] <= row["paid_hashes"] <= row["hashes"]:
            self._find("flow", f"{name}: hashes never fall, and no more is paid than was proven, came {row} after {view}")
        if (row["cost"] or row["fee"]) and row["paid_hashes"] == view["paid_hashes"] and not buys:
            self._find("balance", f"{name}: no work, no money, came {row}")
        if row["final"] and view["state"] == "running":
            self._find("flow", f"{name} is done with when it has ended, came {row}")
        view["cost"] += row["cost"]
        view["fee"] += row["fee"]
        view["hashes"], view["paid_hashes"] = row["hashes"], row["paid_hashes"]
        flow.heard_us = replay.ts_us
        flow.passes(replay.ts_us)
        self._fair(flow, name)
        flow.payments.append((row["hashes"], row["paid_hashes"], row["cost"], row["final"]))
        bps = [terms.buyer_fee_bps if buys else terms.seller_fee_bps for terms in self.terms[row["market"]]]
        if flow.whole and view["fee"] not in {view["cost"] * one // 10_000 for one in bps}:
            self._find("balance", f"{name}: a fee of {bps} bps of {view['cost']} msat, came {view['fee']}")
        flow.states.append((replay.seq, dict(view)))
        if row["final"]:
            del self.flows[key]

    def _fair(self, flow: LiveFlow, name: str) -> None:
        """No more work is paid than what was assigned over time, and none above or below the bid's own price."""
        view = flow.view
        listings = self.terms[view["market"]]
        terms = listings[-1]
        if not flow.whole or not terms.lot_hashrate:
            return
        most = flow.lots_us * terms.lot_hashrate // 1_000_000
        if view["paid_hashes"] > most:
            self._find("flow", f"{name}: at most {most} hashes are paid by now, came {view}")
        if view["role"] == "buyer":
            high, low = terms.cost(flow.high, view["paid_hashes"]), terms.cost(flow.low, view["paid_hashes"])
            fixed = all(one.pays_as_bid for one in listings)
            if view["cost"] > high or (fixed and view["cost"] < int(low) - 1):
                self._find(
                    "balance", f"{name}: work at {flow.low} to {flow.high} ticks costs {low} to {high} msat, came {view}"
                )

    def _paid(self, row: Row, buys: bool) -> int:
        """What a report moves; both halves tell the account after the whole report, where one account buys from itself."""
        if not buys:
            done, self._sold = self._sold == (row["flow_id"], self.replay.seq), (0, 0)
            return 0 if done else int(row["cost"] - row["fee"])
        moved = -row["cost"] - row["fee"]
        following = self.replay.told.events.get(self.replay.seq + 1)
        data = following["data"] if following is not None else {}
        if following is None and (row["flow_id"], "seller") in self.flows:
            return (msat(row["balance"]) or 0) - int(self.replay.balance)  # what it sold for is told to nobody
        if data.get("event") == "flow_paid" and (data["flow_id"], data["role"]) == (row["flow_id"], "seller"):
            self._sold = row["flow_id"], self.replay.seq + 1
            moved += (msat(data["cost"]) or 0) - (msat(data["fee"]) or 0)
        return int(moved)

    # Views.

    def begin_anew(self, data: Row) -> None:
        """Go on from a snapshot, after a gap."""
        self._touched.clear()
        self.orders = {order_id: order for order_id, order in self.orders.items() if order.view["status"] == "ended"}
        self.flows = {}
        for name in ("bids", "asks"):
            for row in data[name]:
                order = LiveOrder(self.view(row), name == "bids")
                order.view.setdefault("status", "open")
                self.orders[row["order_id"]] = order
                order.states.append((self.replay.seq, dict(order.view)))
        for row in data["flows"]:
            flow = LiveFlow(self.view(row))
            flow.view.pop("hashrate")
            flow.whole = False
            # at the latest; the clock that dates snapshots may have been set back
            flow.heard_us = max(flow.heard_us, self.replay.ts_us)
            self.flows[row["flow_id"], row["role"]] = self.all_flows[row["flow_id"], row["role"]] = flow
            flow.states.append((self.replay.seq, dict(flow.view)))
        self.pools = {row["pool_id"]: row for row in data["pools"]}
        self.pool_states.append((self.replay.seq, dict(self.pools)))

    def view(self, row: Row) -> Row:
        """A row of a view, as numbers."""
        terms = self.terms.get(row["market"])
        return terms[-1].numbers(row) if terms else dict(row)

    def compare(self, data: Row, report: Find, where: str) -> None:
        """A snapshot of the account shows what its events add up to."""
        self.settled()
        for name in ("bids", "asks"):
            own = {i: o.view for i, o in self.orders.items() if o.is_bid == (name == "bids") and o.view["status"] != "ended"}
            if sorted(own) != sorted(row["order_id"] for row in data[name]):
                report("snapshot", f"{where}: {name} {sorted(own)}, came {data[name]!r:.240}")
            for row in data[name]:
                known = own.get(row["order_id"])
                if known is not None and differs(self.view(row), known):
                    report("snapshot", f"{where}: {name} with {differs(self.view(row), known)}, came {row}")
        came = {(row["flow_id"], row["role"]): row for row in data["flows"]}
        for key, flow in self.flows.items():
            if key not in came and not may_be_done(flow):
                report("snapshot", f"{where}: {flow.view} is not done with, came {sorted(came)}")
        for key, row in came.items():
            known_flow = self.flows.get(key)
            if known_flow is None:
                report("snapshot", f"{where}: flows that were told, came {row}")
            elif self.flow_differs(row, known_flow.view):
                report("snapshot", f"{where}: a flow with {self.flow_differs(row, known_flow.view)}, came {row}")
        if {row["pool_id"]: row for row in data["pools"]} != self.pools:
            report("snapshot", f"{where}: pools {self.pools}, came {data['pools']}")

    def flow_differs(self, row: Row, known: Row) -> Row:
        """What of a flow's view is not as known. A seller is not told when the price moves, nobody an ended flow's pool."""
        skipped = {"price"}
        known = known | {"hashrate": known["speed"] * self.terms[known["market"]][-1].lot_hashrate}
        if known["state"] == "closing":
            skipped |= {"url", "worker"}
        return {name: value for name, value in differs(self.view(row), known).items() if name not in skipped}


def differs(row: Row, known: Row) -> Row:
    """Fields of a view that are not as known, with the known values."""
    return {name: known.get(name) for name, value in row.items() if name in known and known[name] != value}


def may_be_done(flow: LiveFlow) -> bool:
    """Whether a flow that ended may have had nothing left to be paid: then no event tells that it is done with."""
    return bool(flow.view["state"] == "closing") and flow.view["ended_us"] - flow.heard_us <= 1


def was_so(row: Row, states: Iterable[State], floor: int, wrong: Callable[[Row, Row], Row]) -> bool:
    """Whether a row is one of the states since the last of up to ``floor``."""
    states = [*states]
    since = max((seq for seq, _ in states if seq <= floor), default=0)
    return any(not wrong(row, state) for seq, state in states if seq >= since)


def check_flows(replays: Iterable[LiveReplay], starts: Mapping[int, Row], find: Find, unchecked: Counter[str]) -> None:
    """Both sides of a flow were told the same, and the public its start."""
    sides: dict[int, dict[str, LiveFlow]] = {}
    for replay in replays:
        for (flow_id, role), flow in replay.all_flows.items():
            sides.setdefault(flow_id, {})[role] = flow
    for flow_id, both in sorted(sides.items()):
        start = starts.get(flow_id)
        told = [flow.speeds for flow in both.values() if flow.whole and flow.speeds]
        if start is not None and told:
            # others may have taken from it in that instant; one side may have read on further than the other
            at_once = sorted({(at, speed) for speeds in told for at, speed in speeds if at == speeds[0][0]})
            if (start["ts_us"], start["speed"]) not in at_once:
                find("flow", f"flow {flow_id} starts as its sides are told {at_once}, came {start}")
        if len(both) < 2 or not all(flow.whole for flow in both.values()):
            unchecked["flow: only one side was told"] += 1
            continue
        one, other = both.values()
        _alike(flow_id, one.speeds, other.speeds, find)
        _alike(flow_id, one.payments, other.payments, find)


def _alike(flow_id: int, one: list[Any], other: list[Any], find: Find) -> None:
    size = min(len(one), len(other))  # the last may be told to one of them only, who read on
    if one[:size] != other[:size]:
        find("flow", f"flow {flow_id} is one for both sides, came {one[:size]} and {other[:size]}")


# ------------------------------------------------------------------------------------------------------------- the end


def compare_live_end(replay: LiveReplay, end: Mapping[int, Row], find: Find) -> None:
    """An account's bids and asks at the end are those that its events add up to."""
    replay.settled()
    account = replay.replay.account
    own = {order_id: order.view for order_id, order in replay.orders.items() if order.view["status"] != "ended"}
    if own.keys() != end.keys():
        find("durable", f"account {account}: live orders {sorted(own)} at the end, came {sorted(end)}")
    for order_id, row in end.items():
        known = own.get(order_id)
        if known is None:
            continue
        if differs(row, known):
            find("durable", f"account {account}: a live order with {differs(row, known)} at the end, came {row}")
        if 0 < known["expires_us"] <= replay.replay.ts_us:
            find("time", f"account {account}: order {order_id} ends at {known['expires_us']}, came open at the end")


def judge_live_answer(replay: LiveReplay, method: str, result: Row, where: str, whole: bool, find: Find) -> bool:
    """Whether an acknowledgement is one of a live order; then it stands in the account's events."""
    order = replay.orders.get(result["order_id"])
    if order is None:
        if method.startswith("live.") and whole:
            find("durable", f"{where}: order {result['order_id']}, acknowledged by {method}, is placed, came none")
        return method.startswith("live.")
    row = replay.view(result) if "market" in result else result
    if method == "cancel":
        if order.view["status"] != "ended":
            find("durable", f"{where}: the canceled order {result['order_id']} has ended, came {order.view}")
        elif order.end is not None and "canceled_qty" in result:
            terms = replay.terms[order.view["market"]][-1]
            if terms.lot.parse(result["canceled_qty"]) != order.end["assigned"] or differs(row, order.end):
                find("life", f"{where}: order {result['order_id']} ended with {order.end}, came {result}")
    elif method == "live.refill":
        # an id is remembered for a while: it may have been used again since
        events = replay.refills.get(result["refill_id"], [])
        money = {} if result["repeat"] else {"balance": msat(result["balance"]), "held": msat(result["held"])}
        row = {name: value for name, value in row.items() if name not in ("balance", "held")}
        if not events and whole:
            find("durable", f"{where}: the acknowledged refill {result['refill_id']} is an event, came none")
        elif events and all(differs(row | money, _with_money(one)) or row["order_id"] != one["order_id"] for one in events):
            find("once", f"{where}: a refill as its event, one of {events}, came {result}")
    elif method.startswith("live.place"):
        if order.placed is not None and differs(row, order.placed):
            find("once", f"{where}: an order as it was placed {order.placed}, came {result}")
        if differs({name: row[name] for name in ("client_order_id", "market")}, order.view):
            find("life", f"{where}: order {result['order_id']} with its market and name, came {result}")
    elif whole and result["status"] != "ended":
        names = ("price", "cap", "limit") if order.is_bid else ("price", "speed")
        told = {name: row[name] for name in names}
        if not any(not differs(told, state) for _, state in order.states):
            find("durable", f"{where}: one of the states of order {result['order_id']}, came {result}")
    return True


def _with_money(event: Row) -> Row:
    return event | {name: msat(event[name]) for name in ("balance", "held") if type(event[name]) is str}


def read_live(replay: LiveReplay, method: str, result: Any, floor: int, where: str, find: Find) -> None:
    """What a read told is a state that there was."""
    if not replay.replay.is_clear(floor):
        return
    if method == "pools":
        rows = {row["pool_id"]: row for row in result}
        since = max((seq for seq, _ in replay.pool_states if seq <= floor), default=0)
        if not any(state == rows for seq, state in replay.pool_states if seq >= since):
            find("durable", f"{where}: pools as after event {floor} or later, came {result}")
        return
    for row in [*result["bids"], *result["asks"]] if method == "live.orders" else result:
        if method == "live.orders":
            order = replay.orders.get(row["order_id"])
            known = order is not None and was_so(replay.view(row), order.states, floor, differs)
        else:
            flow = replay.all_flows.get((row["flow_id"], row["role"]))
            known = flow is not None and was_so(row, flow.states, floor, replay.flow_differs)
        if not known:
            find("durable", f"{where}: {method} as after event {floor} or later, came {row}")
