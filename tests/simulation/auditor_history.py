"""Everything together, once the exchange is at rest: both halves of trades, the queue of every level, the end state.

Accounts are replayed one by one; here their orders stand in one book per market again, ordered by the engine's time.
Of two things at one time the order may be unknown, and then neither speaks against the other.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from math import isqrt
from typing import Any, Final

from tests.simulation.auditor_accounts import (
    BAND,
    CUT,
    ENDED,
    FEES,
    FILL,
    FOREVER_US,
    HOUSE,
    REST,
    Delivery,
    Moment,
    Order,
    Replay,
    Told,
    view_is_wrong,
    view_state,
)
from tests.simulation.auditor_books import Find, Levels, PublicRecord, checksum, copy_of
from tests.simulation.auditor_live import LiveTerms, check_flows, compare_live_end, judge_live_answer, read_live
from tests.simulation.auditor_wire import Terms, bps_ceil, msat

SETTLED_ALIKE: Final = (
    *("contracted_hashes", "delivered_hashes", "breach", "paid", "refund", "compensation", "bond_released", "uncovered"),
)


@dataclass
class EndOrder:
    """An open order at the end, in ticks and lots."""

    client_order_id: str
    market: str
    side: str
    price: int
    qty: int
    filled: int
    remaining: int


@dataclass
class EndAccount:
    """An account at the end, in msat and lots."""

    balance: int
    held: int
    event_seq: int
    orders: dict[int, EndOrder] = field(default_factory=dict)
    positions: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """Market to quantity, basis and bond."""
    live: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Open bids and asks: fields of their views, in ticks, lots and msat."""


@dataclass
class View:
    """The true state at rest. ``book`` gives a market's levels at a number of its ``book`` channel, if they are kept."""

    accounts: dict[int, EndAccount]
    levels: dict[str, tuple[Levels, Levels]]
    deliveries_msat: int
    deposited_msat: int
    ts_us: int
    book: Callable[[str, int], tuple[Levels, Levels] | None] | None = None
    live: dict[str, tuple[dict[int, tuple[int | None, int]], dict[int, tuple[int | None, int]]]] = field(default_factory=dict)
    """By live market: bids and asks, price to limit or speed and what is assigned."""


class Queue:
    """One side of one market, order by order, as the owners' events tell it."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.levels: dict[int, list[Order]] = {}
        self.prices: list[int] = []
        self.lots: dict[Order, int] = {}

    def add(self, order: Order, price: int, lots: int) -> None:
        """The order takes its place at the end of a level."""
        if price not in self.levels:
            insort(self.prices, price)
            self.levels[price] = []
        self.levels[price].append(order)
        self.lots[order] = lots

    def take(self, order: Order, price: int, lots: int) -> None:
        """Lots of the order are gone from this level."""
        rest = self.lots.get(order, 0) - lots
        if rest > 0:
            self.lots[order] = rest
            return
        self.lots.pop(order, None)
        queue = self.levels.get(price)
        if queue is not None and order in queue:
            queue.remove(order)
            if not queue:
                del self.levels[price]
                del self.prices[bisect_left(self.prices, price)]

    def better(self, price: int) -> Iterable[int]:
        """Prices that are better than this one, best first."""
        if self.side == "buy":
            return self.prices[bisect_left(self.prices, price + 1) :][::-1]
        return self.prices[: bisect_left(self.prices, price)]

    def total(self, limit: int) -> Levels:
        """Aggregated levels, best first."""
        prices = self.prices[::-1] if self.side == "buy" else self.prices
        return [(price, sum(self.lots[order] for order in self.levels[price])) for price in prices[:limit]]


class MarketReplay:
    """The book of one market, order by order, and the rule of price and time."""

    def __init__(
        self,
        market: str,
        terms: Terms,
        darks: list[tuple[int, int]],
        checksums: list[dict[int, tuple[int, int, bool]]],
        find: Find,
        unchecked: Counter[str],
    ) -> None:
        self.market, self.terms, self.darks, self.checksums = market, terms, darks, checksums
        self.find, self.unchecked = find, unchecked
        self.sides = {"buy": Queue("buy"), "sell": Queue("sell")}
        self.last = terms.reference
        """Price of the last trade."""
        self.place: dict[Order, int] = {}
        self.since: dict[Order, int] = {}
        self.moved: set[Order] = set()
        """Orders whose place is from an amend; when in its microsecond that was is not known."""

    def run(self, moments: list[Moment]) -> None:
        """Replay the moments of all accounts."""
        moments.sort(key=lambda moment: moment.ts_us)
        for ts_us, group in groupby(moments, key=lambda moment: moment.ts_us):
            self._at(ts_us, list(group))

    def _at(self, ts_us: int, group: list[Moment]) -> None:
        rests: dict[Order, Moment] = {}
        cuts: dict[Order, int] = {}
        unsure: set[Order] = set()
        """Orders that changed now by themselves: whether before or after a trade of now is not known."""
        before: Counter[Order] = Counter()
        """Lots that an order sold or bought as maker before it took its last place of now."""
        traded: Counter[Order] = Counter()
        for moment in group:
            if moment.kind == REST:
                if moment.order in rests or ts_us != moment.order.ts_us:
                    self.moved.add(moment.order)
                rests[moment.order] = moment
                cuts.pop(moment.order, None)
                unsure.add(moment.order)
                before[moment.order] = traded[moment.order]
            elif moment.kind == FILL and not moment.taker:
                traded[moment.order] += moment.qty
            elif moment.kind == CUT:
                cuts[moment.order] = cuts.get(moment.order, 0) + moment.qty
                unsure.add(moment.order)
        for order, moment in sorted(rests.items(), key=lambda item: item[0].order_id):
            if order in self.place:
                self._leave(order)
            self.place[order], self.since[order] = moment.price, ts_us
            self.sides[order.side].add(order, moment.price, moment.qty + before[order])
        fills = sorted((m for m in group if m.kind == FILL and not m.taker), key=lambda moment: moment.trade_id)
        whole = not _is_dark(self.darks, ts_us)
        if not self.darks or ts_us < self.darks[0][0]:
            self._bands([m for m in group if m.kind == BAND], fills)
        for moment in fills:
            self._trade(moment, unsure)
        for order, lots in cuts.items():
            if order in self.place:
                self.sides[order.side].take(order, self.place[order], lots)
        if whole:
            self._ends([m for m in group if m.kind == ENDED], unsure)
            self._whole_book(ts_us)
        if fills:
            self.last = fills[-1].price

    def _bands(self, arrivals: list[Moment], fills: list[Moment]) -> None:
        """A market order's price is the edge of the band around the last trade."""
        terms = self.terms
        for moment in arrivals:
            edges = set()
            for last in (self.last, *(fill.price for fill in fills)):
                if moment.order.side == "buy":
                    edges.add(min(last * (10_000 + terms.band_bps) // 10_000, terms.price_max))
                else:
                    edges.add(max(-(-last * (10_000 - terms.band_bps) // 10_000), terms.price_min))
            if moment.price not in edges:
                self.find(
                    "life",
                    f"{self.market} at {moment.ts_us}: market order {moment.order.order_id} with the band's edge "
                    f"{sorted(edges)}, came {moment.price}",
                )

    def _ends(self, ends: list[Moment], unsure: set[Order]) -> None:
        """The rest of an arriving order is canceled only when nothing within its price is left."""
        for moment in ends:
            order = moment.order
            other = self.sides["sell" if order.side == "buy" else "buy"]
            price = moment.price + 1 if order.side == "buy" else moment.price - 1
            left = [resting for better in other.better(price) for resting in other.levels[better] if resting not in unsure]
            if left:
                self.find(
                    "priority",
                    f"{self.market} at {moment.ts_us}: order {order.order_id} to {moment.price} takes order {left[0].order_id} "
                    f"of account {left[0].account} at {self.place[left[0]]}, came canceled with {moment.qty} lots left",
                )

    def _leave(self, order: Order) -> None:
        queue = self.sides[order.side]
        queue.take(order, self.place.pop(order), queue.lots.get(order, 0))

    def _trade(self, moment: Moment, unsure: set[Order]) -> None:
        order, price = moment.order, moment.price
        queue = self.sides[order.side]
        if order not in queue.lots:
            self.unchecked["priority: a maker from before a gap"] += 1
            return
        for ahead in self._ahead(queue, order, price, order in unsure):
            if ahead not in unsure:
                first = f"order {ahead.order_id} of account {ahead.account} ({queue.lots[ahead]} lots at {self.place[ahead]}, "
                first += f"since {self.since[ahead]})"
                self.find(
                    "priority",
                    f"{self.market} trade {moment.trade_id} at {moment.ts_us}: {first} comes first, "
                    f"came order {order.order_id} of account {order.account} at {price}, since {self.since[order]}",
                )
                break
        queue.take(order, self.place[order], moment.qty)

    def _ahead(self, queue: Queue, order: Order, price: int, moves: bool) -> Iterable[Order]:
        for better in queue.better(price):
            yield from queue.levels[better]
        if moves:  # it had another place before, or has one since
            return
        for other in queue.levels.get(price, ()):
            if other is order:
                return
            if other.since_us is None or order.since_us is None:
                continue
            if self.since[other] == self.since[order] and other in self.moved:
                continue
            yield other

    def _whole_book(self, ts_us: int) -> None:
        bids, asks = self.sides["buy"].total(10), self.sides["sell"].total(10)
        if bids and asks and bids[0][0] >= asks[0][0]:
            self.find("priority", f"{self.market} at {ts_us}: orders that cross trade, came {bids[0]} beside {asks[0]}")
        own = checksum(bids, asks)
        for known in self.checksums:
            told = known.get(ts_us)
            if told is not None and told[2] and told[1] != own:
                self.find(
                    "book",
                    f"{self.market} number {told[0]} at {ts_us}: checksum {own} of all accounts' open orders "
                    f"{bids} {asks}, came {told[1]}",
                )


def _same_state(state: tuple[int, int, int, int, int, str], told: tuple[Any, ...]) -> bool:
    """Whether an order's view is that state; a closed order has nothing left."""
    _, price, qty, filled, remaining, status = state
    return (price, qty, filled, 0 if status != "open" else remaining, status) == told


def _is_dark(darks: list[tuple[int, int]], ts_us: int) -> bool:
    return any(start_us <= ts_us <= end_us for start_us, end_us in darks)


class History:
    """The audit at rest. Fills are by market and trade number, with the account and the event's data."""

    def __init__(
        self,
        told: dict[int, Told],
        terms: dict[str, Terms],
        public: PublicRecord,
        index_prices: dict[str, list[str | None]],
        listed_again: set[str],
        find: Find,
        unchecked: Counter[str],
        live_terms: dict[str, list[LiveTerms]] | None = None,
        flow_starts: dict[int, tuple[str, dict[str, Any]]] | None = None,
    ) -> None:
        self.live_terms, self.flow_starts = live_terms or {}, flow_starts or {}
        self.told, self.terms, self.public, self.index_prices = told, terms, public, index_prices
        self.listed_again = listed_again
        self.find, self.unchecked = find, unchecked
        self.moments: dict[str, list[Moment]] = {}
        self.fills: dict[tuple[str, int], list[tuple[int, dict[str, Any]]]] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.replays: dict[int, Replay] = {}

    def run(self, view: View) -> None:
        """Replay every account, put them together, and compare with the end."""
        for account, told in sorted(self.told.items()):
            replay = Replay(
                told, self.terms, self.moments, self.fills, self.deliveries, self.find, self.unchecked, self.live_terms
            )
            end = view.accounts.get(account)
            replay.run(end.event_seq if end is not None else 0)
            self.replays[account] = replay
        darks = self._darks(view)
        for account, replay in self.replays.items():
            end = view.accounts.get(account)
            if end is None:
                self.find("durable", f"account {account} is there at the end, came none")
            else:
                self._compare_end(replay, end, view.ts_us)
            self._answers(replay, end)
            self._reads(replay)
        self._orders_by_time()
        self._trades(darks)
        for market, moments in sorted(self.moments.items()):
            if market in self.listed_again:
                continue
            known = self.public.of_market(market)
            MarketReplay(market, self.terms[market], darks, known, self.find, self.unchecked).run(moments)
        for number, delivery in sorted(self.deliveries.items()):
            self._settlement(number, delivery)
        starts = {
            number: self.live_terms[market][-1].numbers(start)
            for number, (market, start) in self.flow_starts.items()
            if market in self.live_terms
        }
        check_flows([replay.live for replay in self.replays.values()], starts, self.find, self.unchecked)
        self._conserved(view, darks)
        self._levels(view)

    def _darks(self, view: View) -> list[tuple[int, int]]:
        """Spans of engine time in which somebody's orders may be unknown, the earliest first."""
        darks: list[tuple[int, int]] = []
        for account, end in view.accounts.items():
            replay = self.replays.get(account)
            if replay is not None:
                darks += replay.darks
            elif account not in HOUSE and end.event_seq:
                darks.append((0, FOREVER_US))
        return sorted(darks)

    # ------------------------------------------------------------------------------------------------------- accounts

    def _compare_end(self, replay: Replay, end: EndAccount, ts_us: int) -> None:
        account = replay.account
        if replay.applied > end.event_seq:
            self.find("durable", f"account {account}: event {replay.applied} was told, came {end.event_seq} events at the end")
            return
        if replay.house:
            return
        if not replay.known or replay.applied != end.event_seq:
            self.unchecked["durable: an account's last events were told to nobody"] += 1
            return
        if (replay.balance, replay.held) != (end.balance, end.held):
            self.find(
                "durable",
                f"account {account}: balance and held {(replay.balance, replay.held)} msat at the end, "
                f"came {(end.balance, end.held)}",
            )
        own = {o.order_id: o for o in replay.orders.values() if o.status == "open"}
        for order_id, order in own.items():
            last = end.orders.get(order_id)
            told = (order.market, order.side, order.client_order_id, order.price, order.filled, order.remaining)
            if last is None:
                self.find("durable", f"account {account}: order {order_id} {told} is open at the end, came none")
            elif told != (last.market, last.side, last.client_order_id, last.price, last.filled, last.remaining):
                self.find("durable", f"account {account}: order {order_id} {told} at the end, came {last}")
            if 0 < order.expires_us <= replay.ts_us and last is not None:
                self.find("time", f"account {account}: order {order_id} expired at {order.expires_us}, came open at {ts_us}")
        for order_id in sorted(end.orders.keys() - own.keys()):
            self.find("durable", f"account {account}: order {order_id} was never told or has ended, came open at the end")
        compare_live_end(replay.live, end.live, self.find)
        for market in sorted(replay.positions.keys() | end.positions.keys()):
            position = replay.positions.get(market)
            told3 = (position.qty, position.basis, position.bond) if position is not None else (0, 0, 0)
            if end.positions.get(market, (0, 0, 0)) != told3:
                self.find(
                    "durable",
                    f"account {account}: position in {market} {told3} at the end, came {end.positions.get(market)}",
                )

    def _answers(self, replay: Replay, end: EndAccount | None) -> None:
        """What was acknowledged stands in the account's events."""
        if end is None:
            return
        whole = replay.whole and replay.applied == end.event_seq
        # With a memory that is shorter than the run, an event that nobody read may be the transfer's second.
        sure = whole or replay.told.remembered_us >= 3_600 * 1_000_000
        transfers: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for params in replay.told.events.values():
            data = params["data"]
            if data["event"] == "balance":
                after = data["balance"], data["held"]
                transfers.setdefault((data["transfer_id"], data["amount"]), []).append(after)
        for method, result, conn in replay.told.answers:
            where = f"conn {conn}: account {replay.account}"
            if method in ("withdraw", "deposit"):
                known = transfers.get((result["transfer_id"], result["amount"]))
                if known is None and whole:
                    self.find("durable", f"{where}: the acknowledged {method} {result['transfer_id']} is an event, came none")
                elif known and sure and not result["repeat"] and (result["balance"], result["held"]) not in known:
                    self.find("balance", f"{where}: balance and held of the transfer's event {known}, came {result}")
                continue
            if judge_live_answer(replay.live, method, result, where, whole, self.find):
                continue
            order = replay.orders.get(result["order_id"])
            if order is None:
                if whole:
                    self.find(
                        "durable", f"{where}: order {result['order_id']}, acknowledged by {method}, is accepted, came none"
                    )
                else:
                    self.unchecked["durable: an acknowledged order of an account with a gap"] += 1
                continue
            self._answer(method, result, order, where, whole)

    def _answer(self, method: str, result: dict[str, Any], order: Order, where: str, whole: bool) -> None:
        terms = self.terms[order.market]
        if method == "cancel":
            if order.status == "open":
                self.find("durable", f"{where}: the canceled order {order.order_id} has ended, came {order.status}")
            elif order.end is not None and "canceled_qty" in result:
                told = tuple(terms.lot.parse(result[name]) for name in ("canceled_qty", "filled_qty"))
                if told != order.end or result["market"] != order.market:
                    self.find("life", f"{where}: {order.end} lots of order {order.order_id} canceled and filled, came {result}")
            return
        if (result["market"], result["client_order_id"]) != (order.market, order.client_order_id):
            self.find("life", f"{where}: order {order.order_id} with its market and name, came {result}")
        if order.first is not None:
            self._like_its_event(method, result, order, terms, where, whole)
        fills = order.fills
        for fill in result["fills"]:
            event = next(
                (data for data in fills if data["trade_id"] == fill["trade_id"] and data["liquidity"] == "taker"), None
            )
            if event is None:
                if whole:
                    self.find("durable", f"{where}: fill {fill['trade_id']} of order {order.order_id} is an event, came none")
            elif any(event[name] != value for name, value in fill.items()):
                self.find("halves", f"{where}: the answer's fill {fill} is the event's, came {event}")
        if result["repeat"]:
            return
        filled, remaining = terms.lot.parse(result["filled_qty"]), terms.lot.parse(result["remaining_qty"])
        qty = terms.lot.parse(result["qty"])
        if filled is None or remaining is None or qty is None:
            return
        status = result["status"]
        if (
            (status == "open") != (remaining > 0)
            or (status == "filled" and filled + order.lost != qty)
            or filled + remaining > qty
        ):
            self.find("life", f"{where}: status, filled and remaining that agree, came {result}")
        if method == "place":
            taken = sum(terms.lot.parse(fill["qty"]) or 0 for fill in result["fills"])
            if taken != filled:
                self.find("life", f"{where}: order {order.order_id} filled {filled} by its fills, came {taken}")

    def _like_its_event(self, method: str, result: dict[str, Any], order: Order, terms: Terms, where: str, whole: bool) -> None:
        """An ``OrderResult`` tells the command's outcome as its event does."""
        price, qty = terms.tick.parse(result["price"]), terms.lot.parse(result["qty"])
        filled, remaining = terms.lot.parse(result["filled_qty"]), terms.lot.parse(result["remaining_qty"])
        told = (result["ts_us"], price, qty, remaining)
        if method == "place":
            first = order.states[0] if order.states else (0, order.price, order.qty, 0, 0, "")
            assert order.first is not None
            own = (order.ts_us, first[1], first[2], order.first[1])
            if told != own or filled != order.first[0]:
                self.find("once", f"{where}: order {order.order_id} as accepted {own}, came {result!r:.300}")
        elif told not in order.amends and remaining and whole:
            self.find("durable", f"{where}: one of the amends {order.amends} of order {order.order_id}, came {result!r:.300}")

    def _reads(self, replay: Replay) -> None:
        for method, result, conn, floor in replay.told.reads:
            where = f"conn {conn}: account {replay.account}"
            if method == "balances":
                told = tuple(msat(result[name]) for name in ("balance", "held", "positions"))
                size = 3 if replay.whole else 2  # what is in contracts is not known behind a hole
                states = [state[1 : size + 1] for state in replay.states if state[0] >= floor]
                if replay.is_clear(floor) and not replay.house and told[:size] not in states:
                    self.find("durable", f"{where}: balances of event {floor} or later, came {told} msat")
            elif method in ("live.orders", "live.flows", "pools"):
                read_live(replay.live, method, result, floor, where, self.find)
            elif method == "positions":
                self._read_positions(replay, result, where)
            elif method == "deliveries":
                self._read_deliveries(replay, result, floor, where)
            elif method == "open":
                since = max((seq for seq, _ in replay.open_states if seq <= floor), default=0)
                ids = tuple(sorted(view["order_id"] for view in result))
                states = [state for seq, state in replay.open_states if seq >= since]
                if replay.is_clear(floor) and ids not in states:
                    self.find("durable", f"{where}: open orders as after event {floor} or later, came {ids}")
            elif method == "order":
                self._read_order(replay, result, floor, where)
            elif method == "fills":
                for row in result:
                    halves = [d for a, d in self.fills.get((row["market"], row["trade_id"]), ()) if a == replay.account]
                    if not replay.whole:  # of a trade with itself perhaps the other half was told
                        halves = [data for data in halves if data["side"] == row["side"]]
                    if halves and not any(all(d[name] == value for name, value in row.items()) for d in halves):
                        self.find("halves", f"{where}: a fill as its event, came {row}")

    def _read_positions(self, replay: Replay, rows: list[dict[str, Any]], where: str) -> None:
        for row in rows if replay.whole else ():
            terms = self.terms.get(row["market"])
            if terms is None:
                continue
            told = (terms.lot.signed(row["qty"]), msat(row["basis"]), msat(row["bond"]), msat(row["realized"]))
            if told not in replay.position_states.get(row["market"], ()):
                self.find("durable", f"{where}: a position that it has had in {row['market']}, came {row}")

    def _read_deliveries(self, replay: Replay, rows: list[dict[str, Any]], floor: int, where: str) -> None:
        for row in rows if replay.whole else ():
            states = replay.delivery_states.get(row["delivery_id"], [])
            since = max((seq for seq, _ in states if seq <= floor), default=0)
            if not any(all(state.get(name) == value for name, value in row.items()) for seq, state in states if seq >= since):
                self.find("durable", f"{where}: a delivery as after event {floor} or later, came {row}")

    def _read_order(self, replay: Replay, view: dict[str, Any], floor: int, where: str) -> None:
        order = replay.orders.get(view["order_id"])
        if order is None:
            if replay.whole:
                self.find("durable", f"{where}: an order that was accepted, came {view}")
            return
        wrong = view_is_wrong(order, view, self.terms.get(order.market))
        if wrong:
            self.find("durable", f"{where}: order {order.order_id} with {wrong}")
        if not replay.is_clear(floor) or order.status == "unknown":
            return
        told = view_state(view, self.terms)
        since = max((state[0] for state in order.states if state[0] <= floor), default=0)
        if not any(_same_state(state, told) for state in order.states if state[0] >= since):
            self.find("durable", f"{where}: order {order.order_id} as after event {floor} or later, came {view}")

    def _orders_by_time(self) -> None:
        accepted = sorted((order.ts_us, order.order_id) for replay in self.replays.values() for order in replay.orders.values())
        accepted += [
            (order.view["ts_us"], order_id)
            for replay in self.replays.values()
            for order_id, order in replay.live.orders.items()
            if order.placed is not None
        ]
        accepted.sort()
        highest = (0, 0)
        seen: set[int] = set()
        for ts_us, order_id in accepted:
            if order_id in seen:
                self.find("life", f"one order has one id, came {order_id} twice")
            seen.add(order_id)
            if order_id < highest[1] and ts_us > highest[0]:
                self.find("life", f"order ids rise with time, came {order_id} at {ts_us} after {highest[1]} at {highest[0]}")
            highest = max(highest, (ts_us, order_id), key=lambda pair: pair[1])

    # --------------------------------------------------------------------------------------------------------- trades

    def _trades(self, darks: list[tuple[int, int]]) -> None:
        numbers: dict[str, list[tuple[int, int]]] = {}
        for (market, trade_id), halves in sorted(self.fills.items()):
            if market in self.listed_again:
                continue
            numbers.setdefault(market, []).append((trade_id, halves[0][1]["ts_us"]))
            self._halves(market, trade_id, halves, darks)
        for market, trades in sorted(self.public.trades.items()):
            if market in self.listed_again:
                continue
            for trade_id, trade in sorted(trades.items()):
                if (market, trade_id) not in self.fills:
                    numbers.setdefault(market, []).append((trade_id, trade["ts_us"]))
                    if not _is_dark(darks, trade["ts_us"]):
                        self.find("halves", f"{market} trade {trade_id} has two halves, came none to its public one")
        for market, pairs in sorted(numbers.items()):
            pairs.sort()
            for (one, one_us), (other, other_us) in pairwise(pairs):
                if other != one + 1 and not darks:
                    self.find("trade", f"{market}: trade numbers without gap, came {other} after {one}")
                if other_us < one_us:
                    self.find(
                        "trade", f"{market}: trade numbers rise with time, came {other} at {other_us} after {one} at {one_us}"
                    )
            if not darks and pairs[0][0] != 1:
                self.find("trade", f"{market}: trade numbers start at 1, came {pairs[0][0]}")

    def _halves(
        self, market: str, trade_id: int, halves: list[tuple[int, dict[str, Any]]], darks: list[tuple[int, int]]
    ) -> None:
        name = f"{market} trade {trade_id}"
        if len(halves) != 2:
            if len(halves) > 2 or not _is_dark(darks, halves[0][1]["ts_us"]):
                accounts = [(account, data["order_id"]) for account, data in halves]
                self.find("halves", f"{name} has two halves, came {len(halves)} (account, order): {accounts}")
            return
        one, other = halves[0][1], halves[1][1]
        for field_name in ("price", "qty", "ts_us"):
            if one[field_name] != other[field_name]:
                self.find("halves", f"{name}: one {field_name} for both halves, came {one[field_name]} and {other[field_name]}")
        for field_name in ("side", "liquidity", "order_id"):
            if one[field_name] == other[field_name]:
                self.find("halves", f"{name}: two values of {field_name}, came {one[field_name]} twice")
        trade = self.public.trades.get(market, {}).get(trade_id)
        taker = one if one["liquidity"] == "taker" else other
        if trade is not None:
            own = {
                "trade_id": trade_id,
                "price": taker["price"],
                "qty": taker["qty"],
                "aggressor_side": taker["side"],
                "ts_us": taker["ts_us"],
            }
            if own != trade:
                self.find("halves", f"{name}: public trade {own}, came {trade}")

    # ------------------------------------------------------------------------------------------------------ settlement

    def _settlement(self, number: int, delivery: Delivery) -> None:
        name = f"delivery {number}"
        seller, buyer = delivery.assigned.get("seller"), delivery.assigned.get("buyer")
        if seller is not None and buyer is not None:
            for field_name in ("market", "qty", "hashrate", "contracted_hashes"):
                if seller[field_name] != buyer[field_name]:
                    self.find(
                        "delivery", f"{name}: one {field_name} for both, came {seller[field_name]} and {buyer[field_name]}"
                    )
        sides = list(delivery.settled.values())
        if len(sides) == 2:
            for field_name in SETTLED_ALIKE:
                if sides[0][field_name] != sides[1][field_name]:
                    self.find("delivery", f"{name}: one {field_name} for both, came {sides}")
        if not sides or seller is None or buyer is None:
            if sides:
                self.unchecked["delivery: only one side was told"] += 1
            return
        self._shares(name, sides[0], seller, buyer, delivery)

    def _shares(
        self, name: str, settled: dict[str, Any], seller: dict[str, Any], buyer: dict[str, Any], delivery: Delivery
    ) -> None:
        terms = self.terms.get(seller["market"])
        if terms is None:
            return
        proceeds, bond, cost = msat(seller["proceeds"]) or 0, msat(seller["bond"]) or 0, msat(buyer["cost"]) or 0
        contracted, delivered = int(settled["contracted_hashes"]), int(settled["delivered_hashes"])
        paid, refund, uncovered = (msat(settled[part]) or 0 for part in ("paid", "refund", "uncovered"))
        compensation, released = msat(settled["compensation"]) or 0, msat(settled["bond_released"]) or 0
        if paid != proceeds * delivered // contracted:
            self.find("delivery", f"{name}: paid {proceeds * delivered // contracted} msat, came {paid}")
        due = cost - cost * delivered // contracted
        if refund + uncovered != due:
            self.find("delivery", f"{name}: refund and uncovered are the {due} msat due, came {refund} and {uncovered}")
        unpaid = proceeds - paid
        from_bond = min(bond, max(0, due - unpaid))
        if compensation + released != bond - from_bond:
            self.find(
                "delivery",
                f"{name}: compensation and released bond are {bond - from_bond} msat, came {compensation} and {released}",
            )
        updated = delivery.updated
        proven, shares = (int(updated["proven_hashes"]), updated["shares"]) if updated is not None else (0, 0)
        tolerance = 0  # without shares
        if shares:
            tolerance = max(contracted * terms.tolerance_bps // 10_000, 3 * isqrt(contracted * proven // shares))
        breach = contracted - delivered > tolerance
        if breach != settled["breach"]:
            self.find("delivery", f"{name}: breach {breach} with a tolerance of {tolerance}, came {settled['breach']}")
        if not settled["breach"]:
            if compensation:
                self.find("delivery", f"{name}: no compensation without a breach, came {compensation} msat")
            return
        penalty = bps_ceil(unpaid, terms.penalty_bps)
        lots = terms.lot.parse(seller["qty"]) or 0
        possible = set()
        for text in [None, *self.index_prices.get(seller["market"], ())]:
            more = 0
            if text is not None:
                index = terms.tick.loose(text)
                more = max(0, terms.notional_ceil(index or 0, lots) - proceeds)
            possible.add(min(bond - from_bond, penalty + -(-more * (contracted - delivered) // contracted)))
        if compensation not in possible:
            self.find("delivery", f"{name}: a compensation of {sorted(possible)} msat, came {compensation}")

    # -------------------------------------------------------------------------------------------------------- the end

    def _conserved(self, view: View, darks: list[tuple[int, int]]) -> None:
        balances = sum(end.balance for end in view.accounts.values())
        shorts = sum(basis + bond for end in view.accounts.values() for qty, basis, bond in end.positions.values() if qty < 0)
        total = balances + shorts + view.deliveries_msat
        if total != view.deposited_msat:
            self.find("conserved", f"balances, contracts and deliveries are {view.deposited_msat} msat, came {total}")
        lots: Counter[str] = Counter()
        for account, end in view.accounts.items():
            if not 0 <= end.held <= end.balance:
                self.find("conserved", f"account {account}: held {end.held} is within the balance, came {end.balance}")
            for market, (qty, _, _) in end.positions.items():
                lots[market] += qty
        for market, sum_of in sorted(lots.items()):
            if sum_of:
                self.find("conserved", f"{market}: positions add up to zero, came {sum_of} lots")
        transfers = any(replay.house and replay.deposited for replay in self.replays.values())
        if darks or transfers:
            self.unchecked["conserved: deposits and fees of a history with gaps"] += 1
            return
        opening = sum(replay.told.opening[0] for replay in self.replays.values())
        deposited = opening + sum(replay.deposited for replay in self.replays.values())
        if deposited != view.deposited_msat:
            self.find("conserved", f"the transfers that were told are {deposited} msat, came {view.deposited_msat}")
        fees = sum(replay.fees for replay in self.replays.values())
        odd = 3 * len(self.fills)
        house = view.accounts.get(FEES)
        if house is not None and not fees <= house.balance <= fees + odd:
            self.find(
                "conserved",
                f"the fee account has the {fees} msat of all fills' fees and at most {odd} more, came {house.balance}",
            )

    def _levels(self, view: View) -> None:
        for market, (bids, asks) in sorted(view.levels.items()):
            own = {"buy": Counter[int](), "sell": Counter[int]()}
            for end in view.accounts.values():
                for order in end.orders.values():
                    if order.market == market:
                        own[order.side][order.price] += order.remaining
            orders = copy_of(own["buy"].items(), own["sell"].items())
            if orders.best() != (list(bids), list(asks)):
                self.find("book", f"{market}: the levels are the open orders' {orders.best()}, came {(bids, asks)}")
