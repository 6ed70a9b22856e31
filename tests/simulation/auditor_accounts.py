"""One account's history, done again from its events: money, holds, positions and the lives of its orders.

The replay starts from nothing and follows the numbered events. Each event tells what happened and what stands after
it; the replay works out the latter by the rules of the document and compares. Where events are missing it begins anew
from the next snapshot and leaves out what it cannot know.
"""

from collections import Counter
from typing import Any, Final, NamedTuple

from tests.simulation.auditor_books import Find
from tests.simulation.auditor_live import LIVE_EVENTS, LiveReplay, LiveTerms
from tests.simulation.auditor_wire import BUDGET_NOT_COVERED, FUNDS_INSUFFICIENT, Terms, bps_ceil, msat

REST: Final = 0
"""An order entered the book with ``qty`` lots at ``price``."""
FILL: Final = 1
"""``qty`` lots of an order traded."""
CUT: Final = 2
"""``qty`` lots of a resting order went without a trade."""
ENDED: Final = 3
"""The rest of an arriving order found no more within its price."""
BAND: Final = 4
"""A market order arrived; its price is the edge of the band."""


FOREVER_US: Final = 1 << 62
FEES: Final = 1
INSURANCE: Final = 2
HOUSE: Final = frozenset({FEES, INSURANCE})


class Told:
    """What anybody was told about one account."""

    def __init__(self, account: int, remembered_us: int, balance: int = 0, event_seq: int = 0) -> None:
        self.account = account
        self.remembered_us = remembered_us
        """How long names of orders and transfers are remembered at least."""
        self.opening = (balance, event_seq)
        self.events: dict[int, dict[str, Any]] = {}
        self.conns: dict[int, int] = {}
        """By number: the connection that was told first."""
        self.snapshots: dict[int, tuple[dict[str, Any], int, int]] = {}
        """By number: data, connection and engine time."""
        self.clock_stepped = False
        """Whether the time at which a snapshot was made may be behind the engine's."""
        self.max_seq = event_seq
        self.order_seq: dict[tuple[str, int], int] = {}
        """Kind of event and order_id to the first number."""
        self.transfer_seq: dict[str, int] = {}
        self.rejections: dict[tuple[int, str], int] = {}
        """Code and bound of refusals to the first number."""
        self.reads: list[tuple[str, Any, int, int]] = []
        """Method or view and result of reads, with the connection and the highest number told before they were asked for."""
        self.answers: list[tuple[str, dict[str, Any], int]] = []
        """Acknowledgements: method, result, connection."""


class Order:
    """An order as its owner's events tell it."""

    __slots__ = (
        "account",
        "amends",
        "client_order_id",
        "data",
        "due",
        "end",
        "excess",
        "expires_us",
        "filled",
        "fills",
        "first",
        "lost",
        "market",
        "order_id",
        "post_only",
        "price",
        "qty",
        "reduce_only",
        "remaining",
        "rest_lots",
        "side",
        "since_us",
        "states",
        "status",
        "stp",
        "ts_us",
        "unit",
    )

    def __init__(self, account: int, data: dict[str, Any], price: int, qty: int, filled: int) -> None:
        self.account = account
        self.order_id: int = data["order_id"]
        self.client_order_id: str = data["client_order_id"]
        self.market: str = data["market"]
        self.side: str = data["side"]
        self.reduce_only: bool = data["reduce_only"]
        self.post_only: str = data["post_only"]
        self.stp: str = data["self_trade_prevention"]
        self.expires_us: int = data["expires_us"]
        self.ts_us: int = data["ts_us"]
        self.price, self.qty, self.filled = price, qty, filled
        self.remaining = qty - filled
        self.status = "open"
        self.unit: int | None = None
        """msat held per open lot; None while unknown."""
        self.due = 0
        """Lots that its own arrival has traded and that are not told yet."""
        self.excess = 0
        """Lots that its own arrival lost without a trade and that are not told yet."""
        self.fills: list[dict[str, Any]] = []
        self.since_us: int | None = self.ts_us
        """When it took its place in the queue; None while unknown."""
        self.rest_lots = 0
        """Lots in the book, for the replay of the market."""
        self.data = data
        """``accepted``, or the view in a snapshot: what never changes of it."""
        self.first: tuple[int, int] | None = None
        """Filled and resting as the acceptance told; None while unknown."""
        self.amends: list[tuple[int, int, int, int]] = []
        """Engine time, price, quantity and resting lots of each amend."""
        self.end: tuple[int, int] | None = None
        """Lots that were canceled and that had filled."""
        self.states: list[tuple[int, int, int, int, int, str]] = []
        """Number, price, quantity, filled, remaining and status after each event of it."""
        self.lost = 0
        """Lots that self-trade prevention or reduce-only took, without an end of the order."""


class Position:
    """Lots and money of one account in one market."""

    __slots__ = ("basis", "bond", "qty", "realized")

    def __init__(self, qty: int = 0, basis: int = 0, bond: int = 0, realized: int = 0) -> None:
        self.qty, self.basis, self.bond, self.realized = qty, basis, bond, realized


class Moment(NamedTuple):
    """One change of one order in a market."""

    ts_us: int
    kind: int
    order: Order
    qty: int
    price: int
    trade_id: int
    taker: bool


class Delivery:
    """What the events of both sides say about one delivery."""

    def __init__(self) -> None:
        self.assigned: dict[str, dict[str, Any]] = {}
        self.updated: dict[str, Any] | None = None
        self.settled: dict[str, dict[str, Any]] = {}
        self.accounts: dict[str, int] = {}


class Replay:
    """Goes through one account's events in order. What it finds out is in its attributes afterwards."""

    def __init__(
        self,
        told: Told,
        terms: dict[str, Terms],
        moments: dict[str, list[Moment]],
        fills: dict[tuple[str, int], list[tuple[int, dict[str, Any]]]],
        deliveries: dict[int, Delivery],
        find: Find,
        unchecked: Counter[str],
        live_terms: dict[str, list[LiveTerms]] | None = None,
    ) -> None:
        self.live = LiveReplay(self, live_terms or {})
        self.told, self.terms, self.moments, self.fills, self.deliveries = told, terms, moments, fills, deliveries
        self.report, self.unchecked = find, unchecked
        self.account = told.account
        self.balance, self.applied = told.opening
        self.held = 0
        self.house = told.account in HOUSE
        """Whether money comes and goes without an event: fees, surplus."""
        self.known = not self.house
        self.clear_seq = self.applied
        """From this number on nothing is missing, if the account is known."""
        self.whole = True
        """Whether no event was missing so far."""
        self.darks: list[tuple[int, int]] = []
        """Spans of engine time in which something may be missing."""
        self.orders: dict[int, Order] = {}
        self.positions: dict[str, Position] = {}
        self.states: list[tuple[int, int, int, int]] = [(self.applied, self.balance, 0, 0)]
        """Number, balance, held and money in contracts after every event."""
        self.position_states: dict[str, list[tuple[int, int, int, int]]] = {}
        """By market: quantity, basis, bond and realized after every event."""
        self.running: dict[int, dict[str, Any]] = {}
        """By delivery that is not settled: what its events told."""
        self.delivery_states: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        """By delivery: number and what was true of it after each event of it."""
        self.open_states: list[tuple[int, tuple[int, ...]]] = [(self.applied, ())]
        """Number and open orders after each event that changed them."""
        self.owed: dict[int, int] = {}
        """By delivery that it owes: proceeds and bond in msat."""
        self.names: dict[tuple[str, str], int] = {}
        """Kind and name of orders and transfers to when they happened last."""
        self.arriving: Order | None = None
        self.order_id_max = 0
        self.ts_us = 0
        self.known_us = 0
        """Engine time until which the open orders are known."""
        self.deposited = 0
        self.fees = 0
        self.seq = 0

    # ------------------------------------------------------------------------------------------------------ the walk

    def find(self, check: str, text: str) -> None:
        """A finding about the event at hand."""
        conn = self.told.conns.get(self.seq, -1)
        self.report(check, f"conn {conn}: account {self.account} event {self.seq}: {text}")

    def run(self, event_seq: int) -> None:
        """Replay everything that was told; in truth there are so many events."""
        told = self.told
        for seq in sorted(told.events.keys() | told.snapshots.keys()):
            self.seq = seq
            params = told.events.get(seq)
            if params is not None and seq > told.opening[1]:
                if seq != self.applied + 1:
                    self._lose_track()
                self._event(params)
                self.applied = seq
            if seq in told.snapshots:
                data, conn, made_us = told.snapshots[seq]
                if self.known and seq == self.applied:
                    self._compare_snapshot(data, conn)
                else:
                    if seq != self.applied:
                        self._lose_track()
                    self._begin_anew(seq, data, made_us)
        if self.applied < event_seq:
            self._lose_track()
        self._end_of_command()

    def _lose_track(self) -> None:
        self._forget_arrival()
        if not self.darks or self.darks[-1][1] < FOREVER_US:
            self.darks.append((self.known_us, FOREVER_US))
        self.known = self.whole = False
        self.unchecked["account: a gap, nobody was told"] += 1
        for order in self.orders.values():
            if order.status == "open":
                self._moment(CUT, order, order.rest_lots, self.known_us)
                order.rest_lots = 0
                order.status = "unknown"

    def _forget_arrival(self) -> None:
        if self.arriving is not None:
            self.arriving.due = self.arriving.excess = 0
            self.arriving = None

    def _moment(
        self, kind: int, order: Order, qty: int, ts_us: int, price: int = 0, trade_id: int = 0, taker: bool = False
    ) -> None:
        if qty:
            self.moments.setdefault(order.market, []).append(Moment(ts_us, kind, order, qty, price, trade_id, taker))

    def _event(self, params: dict[str, Any]) -> None:
        data, ts_us = params["data"], params["ts_us"]
        if ts_us < self.ts_us:
            self.find("stream", f"time does not go back from {self.ts_us}, came {ts_us}")
        self.ts_us = ts_us
        self.known_us = max(self.known_us, ts_us)
        kind = data["event"]
        terms = self.terms.get(data.get("market", ""))
        before = self.balance, self.held
        if kind in LIVE_EVENTS:
            self._end_of_command()
            self.live.event(kind, data)
        elif kind in ORDER_EVENTS:
            if terms is None:
                self.unchecked["account: a market without terms"] += 1
                self._lose_track()
                return
            self._order_event(kind, data, terms)
        elif kind == "balance":
            self._end_of_command()
            self._transfer(data)
        elif kind == "rejected":
            self._end_of_command()
            self._rejected(data)
        elif kind == "delivery_assigned":
            self._end_of_command()
            self._assigned(data, terms)
        elif kind == "delivery_updated":
            self._delivery(data).updated = data
            self.running.setdefault(data["delivery_id"], {}).update(data)
        elif kind == "delivery_settled":
            self._end_of_command()
            self._settled(data)
        if "balance" in data:
            self._compare_money(data, before)
        self._note_state(data)

    def _note_state(self, data: dict[str, Any]) -> None:
        contracts = sum(self.owed.values())
        for position in self.positions.values():
            if position.qty < 0:
                contracts += position.basis + position.bond
        self.states.append((self.seq, self.balance, self.held, contracts))
        market = data.get("market")
        if market in self.positions:
            position = self.positions[market]
            state = (position.qty, position.basis, position.bond, position.realized)
            self.position_states.setdefault(market, []).append(state)
        delivery_id = data.get("delivery_id")
        if delivery_id in self.running:
            self.delivery_states.setdefault(delivery_id, []).append((self.seq, dict(self.running[delivery_id])))
        order = self.orders.get(data.get("order_id", 0))
        if order is not None and data["event"] != "rejected":
            resting = tuple(sorted(one.order_id for one in self.orders.values() if one.status == "open"))
            if resting != self.open_states[-1][1]:
                self.open_states.append((self.seq, resting))
            order.states.append((self.seq, order.price, order.qty, order.filled, order.remaining, order.status))

    def _order_event(self, kind: str, data: dict[str, Any], terms: Terms) -> None:
        if kind == "accepted":
            self._end_of_command()
            self._accepted(data, terms)
        elif kind == "fill":
            self._fill(data, terms)
        elif kind == "amended":
            self._end_of_command()
            self._amended(data, terms)
        else:
            self._gone(data, terms, kind)

    def _compare_money(self, data: dict[str, Any], before: tuple[int, int]) -> None:
        balance, held = msat(data["balance"]), msat(data["held"])
        own = self.balance, self.held
        if self.known and (balance, held) != own:
            self.find("balance", f"{data['event']} takes balance and held from {before} to {own} msat, came {(balance, held)}")
        if balance is None or held is None:
            return
        self.balance, self.held = balance, held
        if self.held > self.balance:
            self.find("balance", f"held is never above the balance, came {self.held} of {self.balance} msat")

    def _end_of_command(self) -> None:
        order, self.arriving = self.arriving, None
        if order is None:
            return
        if order.due or order.excess:
            self.find(
                "life",
                f"the arrival of order {order.order_id} is told to its end, {order.due} lots of fills and "
                f"{order.excess} lots that went are missing",
            )
            order.due = order.excess = 0

    def happens_once(self, kind: str, name: str) -> None:
        """An order or a transfer of that name happens; not a second time while it is remembered."""
        if not name:
            return
        before_us = self.names.get((kind, name))
        if before_us is not None and self.ts_us - before_us < self.told.remembered_us:
            self.find("once", f"{kind} {name!r} happens once, came at {before_us} and at {self.ts_us}")
        self.names[kind, name] = self.ts_us

    # -------------------------------------------------------------------------------------------------------- orders

    def _arrive(self, order: Order, resting: int) -> None:
        """The order's arrival is told: it will trade, lose and rest so much."""
        self.arriving = order if order.due or order.excess else None
        order.rest_lots = resting
        self._moment(REST, order, resting, self.ts_us, order.price)

    def _accepted(self, data: dict[str, Any], terms: Terms) -> None:
        price, qty = terms.tick.parse(data["price"]), terms.lot.parse(data["qty"])
        filled, resting = terms.lot.parse(data["filled_qty"]), terms.lot.parse(data["resting_qty"])
        if price is None or qty is None or filled is None or resting is None:
            return  # a finding about its numbers stands already
        order = Order(self.account, data, price, qty, 0)
        name = f"order {order.order_id}"
        if order.order_id <= self.order_id_max:
            self.find("life", f"order ids rise with acceptance, came {order.order_id} after {self.order_id_max}")
        self.order_id_max = max(self.order_id_max, order.order_id)
        if data["ts_us"] != self.ts_us:
            self.find("life", f"{name} is accepted at the time of its event {self.ts_us}, came {data['ts_us']}")
        self.happens_once("order", order.client_order_id)
        self.orders[order.order_id] = order
        order.first = filled, resting
        order.due, order.excess = filled, qty - filled - resting
        if qty < 1 or order.excess < 0:
            self.find("life", f"{name}: filled and resting are at most qty {qty} lots, came {filled} and {resting}")
            order.excess = 0
        tif = data["time_in_force"]
        if tif in ("ioc", "fok") and resting:
            self.find("life", f"{name} is {tif} and never rests, came {resting} lots")
        if tif == "fok" and filled != qty:
            self.find("life", f"{name} is fok and fills {qty} lots, came {filled}")
        if tif in ("gtc", "gtd") and order.excess and order.stp in ("none", "cancel_maker"):
            self.find("life", f"{name}: all of {qty} lots trade or rest, came {filled} and {resting}")
        if data["type"] == "market" and tif not in ("ioc", "fok"):
            self.find("life", f"{name} is a market order and so ioc or fok, came {tif}")
        if data["post_only"] != "off" and filled:
            self.find("life", f"{name} is post-only and never takes, came {filled} lots")
        if (tif == "gtd") != (order.expires_us > 0) or (tif == "gtd" and order.expires_us < self.ts_us):
            self.find("time", f"{name} is {tif} at {self.ts_us}, came expires_us {order.expires_us}")
        if self.ts_us >= terms.gate_us:
            self.find("time", f"no order is accepted from the gate {terms.gate_us} on, came {name} at {self.ts_us}")
        if not terms.price_min <= price <= terms.price_max:
            self.find("life", f"{name} inside the collar {terms.price_min} to {terms.price_max} ticks, came {price}")
        if qty > terms.qty_max:
            self.find("life", f"{name} of at most {terms.qty_max} lots, came {qty}")
        if data["type"] == "market":
            self._moment(BAND, order, qty, self.ts_us, price)
        self._take_hold(order, qty, terms, data)
        self._arrive(order, resting)

    def _take_hold(self, order: Order, lots: int, terms: Terms, data: dict[str, Any]) -> None:
        """Work out what the order holds per lot. A sell holds at the best bid when it enters, if that is above its price."""
        bids = [order.price]
        if order.side == "sell":
            met = self._bid_met() if order.due else None
            if met is not None:
                bids = [max(order.price, met)]
            if order.stp != "none":  # its own bid may have stood first, and went or stayed without a trade
                bids += [bid.price for bid in self.orders.values() if self._is_bid(bid, order)]
        units = {terms.unit_hold(bid, order.side, order.reduce_only) for bid in bids}
        told = msat(data["held"])
        unit, rest = divmod((told or 0) - self.held, lots) if lots else (0, 0)
        possible = unit in units
        if order.side == "sell" and order.due and self.seq + 1 not in self.told.events:
            # nobody was told the fill behind it, which would tell what it met
            most = terms.unit_hold(terms.price_max, order.side, order.reduce_only)
            possible = min(units) <= unit <= most
        order.unit = unit if not rest and possible else terms.unit_hold(bids[0], order.side, order.reduce_only)
        if self.known:
            self.held += order.unit * lots

    def _is_bid(self, bid: Order, order: Order) -> bool:
        return bid.status == "open" and bid.side == "buy" and bid.market == order.market and bid.price > order.price

    def _bid_met(self) -> int | None:
        """Price of the first fill, if the next event is one: what stood first on the other side."""
        following = self.told.events.get(self.seq + 1)
        if following is None or following["data"]["event"] != "fill":
            return None
        terms = self.terms.get(following["data"]["market"])
        return None if terms is None else terms.tick.parse(following["data"]["price"])

    def _known_order(self, data: dict[str, Any]) -> Order | None:
        order = self.orders.get(data["order_id"])
        if order is None or order.status == "unknown":
            if self.whole:
                self.find("life", f"{data['event']} of an order that was accepted, came order {data['order_id']}")
            else:
                self.unchecked["account: an order from before a gap"] += 1
            return None
        for name, own in (("market", order.market), ("side", order.side), ("client_order_id", order.client_order_id)):
            if data[name] != own:
                self.find("life", f"{data['event']} of order {order.order_id}: {name} {own}, came {data[name]}")
        if order.status != "open":
            self.find("life", f"nothing after the end of order {order.order_id} ({order.status}), came {data['event']}")
        return order

    def _release(self, order: Order | None, lots: int, data: dict[str, Any]) -> None:
        if order is None or order.unit is None:
            told = msat(data["held"])
            if order is not None and told is not None and lots:
                order.unit = max(0, (self.held - told) // lots)
            if told is not None:
                self.held = told
            return
        self.held -= order.unit * lots

    def _fill(self, data: dict[str, Any], terms: Terms) -> None:
        price, qty, remaining = (
            terms.tick.parse(data["price"]),
            terms.lot.parse(data["qty"]),
            terms.lot.parse(data["remaining_qty"]),
        )
        if price is None or qty is None or remaining is None:
            return
        self.fills.setdefault((data["market"], data["trade_id"]), []).append((self.account, data))
        order = self._known_order(data)
        taker = data["liquidity"] == "taker"
        if data["ts_us"] != self.ts_us:
            self.find("life", f"a fill has the time of its event {self.ts_us}, came {data['ts_us']}")
        if qty < 1:
            self.find("life", "a fill of at least one lot, came 0")
        if self.ts_us >= terms.gate_us:
            self.find("time", f"no trade from the gate {terms.gate_us} on, came one at {self.ts_us}")
        if order is not None:
            self._fill_of(order, data, price, qty, remaining, taker)
        self._release(order, qty, data)
        self._clear(data, terms, price, qty, taker)

    def _fill_of(self, order: Order, data: dict[str, Any], price: int, qty: int, remaining: int, taker: bool) -> None:
        name = f"order {order.order_id}"
        if taker:
            if order.due < qty:
                self.find("life", f"{name} takes what its arrival told, {order.due} lots more, came {qty}")
            order.due = max(0, order.due - qty)
            if (price > order.price) if order.side == "buy" else (price < order.price):
                self.find("life", f"{name} trades at {order.price} ticks or better, came {price}")
        else:
            if order.due:
                self.find("life", f"{name} is told as taker for {order.due} lots first, came a fill as maker")
            if price != order.price:
                self.find("priority", f"{name} trades at its own price {order.price} as maker, came {price}")
            order.rest_lots -= qty
        if order.expires_us and self.ts_us >= order.expires_us:
            self.find("time", f"{name} ends at {order.expires_us}, came a fill at {self.ts_us}")
        order.filled += qty
        order.remaining -= qty
        if order.remaining != remaining or remaining < 0:
            self.find("life", f"{name}: {order.remaining} lots remain after the fill, came {remaining}")
            order.remaining = remaining
        order.fills.append(data)
        self._moment(FILL, order, qty, self.ts_us, price, data["trade_id"], taker)
        if not order.remaining:
            order.status = "filled"

    def _clear(self, data: dict[str, Any], terms: Terms, price: int, qty: int, taker: bool) -> None:
        """What the fill does to balance and position."""
        position = self.positions.setdefault(data["market"], Position())
        buy = data["side"] == "buy"
        own = terms.notional_ceil(price, qty) if buy else terms.notional_floor(price, qty)
        fee = bps_ceil(own, terms.taker_fee_bps if taker else terms.maker_fee_bps)
        told_fee = msat(data["fee"])
        if fee != told_fee:
            self.find("halves", f"a fee of {fee} msat on a notional of {own}, came {told_fee}")
        self.fees += fee
        told_position = terms.lot.signed(data["position"])
        if not self.known:
            position.qty = told_position or 0
            return
        balance = -fee
        closes = min(qty, -position.qty if buy else position.qty)
        closes = max(closes, 0)
        realized = 0
        if closes:
            part = own if closes == qty else terms.notional_floor(price, closes)
            lots = abs(position.qty)
            basis, bond = position.basis * closes // lots, position.bond * closes // lots
            position.basis -= basis
            position.bond -= bond
            if buy:
                realized = basis - part
                balance += basis + bond - part
                position.qty += closes
            else:
                realized = part - basis
                balance += part
                position.qty -= closes
            own -= part
        opens = qty - closes
        if opens:
            position.basis += own
            if buy:
                balance -= own
                position.qty += opens
            else:
                bond = bps_ceil(terms.notional_ceil(price, opens), terms.bond_bps)
                position.bond += bond
                balance -= bond
                position.qty -= opens
        position.realized += realized
        self.balance += balance
        if told_position != position.qty:
            self.find("balance", f"a position of {position.qty} lots after the fill, came {told_position}")
        if msat(data["realized"]) != realized:
            self.find("balance", f"the fill realizes {realized} msat, came {msat(data['realized'])}")

    def _gone(self, data: dict[str, Any], terms: Terms, kind: str) -> None:
        qty = terms.lot.parse(data["qty"])
        if qty is None:
            return
        order = self._known_order(data)
        self._release(order, qty, data)
        if order is None:
            return
        name, reason = f"order {order.order_id}", data["reason"]
        if terms.tick.parse(data["price"]) != order.price:
            self.find("life", f"{name} has a price of {order.price} ticks, came {data['price']}")
        if reason in ("immediate", "no_liquidity") and order.due:
            self.find("life", f"{name} is told {order.due} lots of fills before its rest is {kind}")
        if reason in ("immediate", "no_liquidity"):
            self._moment(ENDED, order, qty, self.ts_us, order.price)
        of_arrival = min(order.excess, qty)
        order.excess -= of_arrival
        order.rest_lots -= qty - of_arrival
        self._moment(CUT, order, qty - of_arrival, self.ts_us)
        order.remaining -= qty
        if kind == "reduced":
            order.lost += qty
            order.qty -= qty
            told = terms.lot.parse(data["remaining_qty"])
            if told != order.remaining or order.remaining < 1:
                self.find("life", f"{name}: {order.remaining} lots remain, came {told}")
            return
        if order.remaining:
            self.find("life", f"{name}: all {order.remaining + qty} lots that remain are canceled, came {qty}")
            order.remaining = 0
        if terms.lot.parse(data["filled_qty"]) != order.filled:
            self.find("life", f"{name} filled {order.filled} lots, came {data['filled_qty']}")
        order.end = qty, order.filled
        order.status = "expired" if reason == "expired" else "canceled"
        if reason == "expired" and not 0 < order.expires_us <= self.ts_us:
            self.find("time", f"{name} expires at {order.expires_us}, came at {self.ts_us}")
        elif reason != "expired" and 0 < order.expires_us <= self.ts_us and not self._gate_came_first(order, terms, reason):
            self.find("time", f"{name} expires at {order.expires_us}, came canceled ({reason}) at {self.ts_us}")

    def _gate_came_first(self, order: Order, terms: Terms, reason: str) -> bool:
        """Of what falls due at one late entry the earlier is done first."""
        return reason == "gate" and terms.gate_us <= order.expires_us

    def _amended(self, data: dict[str, Any], terms: Terms) -> None:
        price, qty = terms.tick.parse(data["price"]), terms.lot.parse(data["qty"])
        old_price, resting = terms.tick.parse(data["old_price"]), terms.lot.parse(data["resting_qty"])
        filled = terms.lot.parse(data["filled_qty"])
        order = self._known_order(data)
        if price is None or qty is None or resting is None or filled is None or order is None:
            told = msat(data["held"])
            self.held = self.held if told is None else told
            return
        name = f"order {order.order_id}"
        if old_price != order.price:
            self.find("life", f"{name} had a price of {order.price} ticks, came {old_price}")
        kept: bool = data["kept_priority"]
        working = qty - order.filled
        in_place = price == order.price and working <= order.remaining
        if kept != in_place and (kept or order.post_only != "slide"):  # a new price may slide back to the old one
            self.find("life", f"{name}: kept_priority {in_place} from {order.remaining} lots at {order.price}, came {kept}")
        if self.ts_us >= terms.gate_us:
            self.find("time", f"no amend from the gate {terms.gate_us} on, came {name} at {self.ts_us}")
        before = order.remaining
        order.amends.append((self.ts_us, price, qty, resting))
        order.lost = 0
        if kept:
            if resting != working:
                self.find("life", f"{name}: {working} lots rest after the amend, came {resting}")
            self._moment(CUT, order, before - resting, self.ts_us)
            self._release(order, before - resting, data)
            order.qty, order.remaining, order.rest_lots = qty, resting, resting
            return
        self._moment(CUT, order, order.rest_lots, self.ts_us)
        self._release(order, before, data) if order.unit is not None else None
        order.price, order.qty, order.remaining = price, qty, working
        order.since_us = self.ts_us
        order.due = filled - order.filled if filled > order.filled else 0
        order.excess = working - order.due - resting
        if not order.due and order.excess > 0 and order.stp in ("none", "cancel_maker"):
            order.due, order.excess = order.excess, 0
        if order.excess < 0:
            self.find("life", f"{name}: at most {working} lots trade or rest after the amend, came {resting}")
            order.excess = 0
        if not terms.price_min <= price <= terms.price_max:
            self.find("life", f"{name} inside the collar {terms.price_min} to {terms.price_max} ticks, came {price}")
        if order.unit is None:
            told = msat(data["held"])
            self.held = self.held if told is None else told
        else:
            self._take_hold(order, working, terms, data)
        self._arrive(order, resting)

    # --------------------------------------------------------------------------------------------------------- money

    def _transfer(self, data: dict[str, Any]) -> None:
        amount = msat(data["amount"])
        if amount is None:
            return
        if (amount > 0) != (data["reason"] == "deposit") or not amount:
            self.find("balance", f"a deposit is above zero and a withdrawal below, came {data['reason']} {amount}")
        self.happens_once(data["reason"], data["transfer_id"])
        self.balance += amount
        self.deposited += amount

    def _rejected(self, data: dict[str, Any]) -> None:
        if not self.known or data["code"] not in (FUNDS_INSUFFICIENT, BUDGET_NOT_COVERED):
            return
        available, bound = self.balance - self.held, msat(data.get("bound"))
        for order in self.orders.values():  # an amend: the order's own hold counts
            named = order.order_id == data["order_id"] or order.client_order_id == (data["client_order_id"] or None)
            if not named or order.status != "open":
                continue
            if order.unit is None:  # a sell from before a gap: the bound is the first to tell what it holds per lot
                self.unchecked["error: a bound with an unknown hold"] += 1
                unit, rest = divmod((bound or 0) - available, order.remaining)
                if unit < 0 or rest:
                    text = f"bound is the available {available} msat and as much for each of {order.remaining} lots"
                    self.find("error", f"{text}, came {bound}")
                    return
                order.unit = unit
            available += order.unit * order.remaining
        if bound != available:
            self.find("error", f"bound is the available {available} msat, came {bound}")

    def _delivery(self, data: dict[str, Any]) -> Delivery:
        delivery = self.deliveries.setdefault(data["delivery_id"], Delivery())
        delivery.accounts[data["role"]] = self.account
        return delivery

    def _assigned(self, data: dict[str, Any], terms: Terms | None) -> None:
        delivery = self._delivery(data)
        delivery.assigned[data["role"]] = data
        self.running[data["delivery_id"]] = {**NEW_DELIVERY, **data}
        if terms is None or not self.known:
            return
        position = self.positions.setdefault(data["market"], Position())
        qty = terms.lot.parse(data["qty"]) or 0
        if self.ts_us < terms.gate_us:
            self.unchecked["delivery: the market was closed before its gate"] += 1
        seller = data["role"] == "seller"
        lots = -position.qty if seller else position.qty
        if not 0 < qty <= lots:
            self.find("delivery", f"a {data['role']} delivers at most its {lots} lots, came {qty}")
            return
        basis, bond = position.basis * qty // lots, position.bond * qty // lots
        told = (msat(data["proceeds"]), msat(data["bond"])) if seller else (msat(data["cost"]), 0)
        if told != (basis, bond):
            self.find("delivery", f"the share of {qty} in {lots} lots is {(basis, bond)} msat, came {told}")
        position.basis -= basis
        position.bond -= bond
        position.qty += qty if seller else -qty
        if seller:
            self.owed[data["delivery_id"]] = basis + bond

    def _settled(self, data: dict[str, Any]) -> None:
        delivery = self._delivery(data)
        delivery.settled[data["role"]] = data
        self.owed.pop(data["delivery_id"], None)
        self.running.pop(data["delivery_id"], None)
        parts = ("paid", "bond_released") if data["role"] == "seller" else ("refund", "compensation")
        self.balance += sum(msat(data[part]) or 0 for part in parts)

    # ----------------------------------------------------------------------------------------------------- snapshots

    def _compare_snapshot(self, data: dict[str, Any], conn: int) -> None:
        where = f"conn {conn}: account {self.account} snapshot {self.seq}"
        view = data["balance"]
        told = msat(view["balance"]), msat(view["held"]), msat(view["available"])
        own = self.balance, self.held, self.balance - self.held
        if told != own:
            self.report("snapshot", f"{where}: balance, held, available {own} msat, came {told}")
        open_orders = {order.order_id: order for order in self.orders.values() if order.status == "open"}
        if [row["order_id"] for row in data["orders"]] != sorted(open_orders):
            self.report("snapshot", f"{where}: open orders {sorted(open_orders)}, came {data['orders']!r:.240}")
        for row in data["orders"]:
            order = open_orders.get(row["order_id"])
            wrong = view_is_wrong(order, row, self.terms.get(order.market)) if order is not None else ""
            if order is not None and (wrong or (order.states and order.states[-1][1:5] != view_state(row, self.terms)[:4])):
                self.report("snapshot", f"{where}: order {order.states[-1:]} {wrong}, came {row}")
        self._compare_positions(data["positions"], where)
        self.live.compare(data, self.report, where)
        if self.whole:
            self._compare_deliveries(data["deliveries"], where)
            contracts = msat(view["positions"])
            if contracts != self.states[-1][3]:
                self.report("snapshot", f"{where}: {self.states[-1][3]} msat in contracts, came {contracts}")

    def _compare_deliveries(self, rows: list[dict[str, Any]], where: str) -> None:
        if [row["delivery_id"] for row in rows] != sorted(self.running):
            self.report("snapshot", f"{where}: deliveries {sorted(self.running)}, came {rows!r:.240}")
        for row in rows:
            known = self.running.get(row["delivery_id"], row)
            wrong = {name: known.get(name) for name, value in row.items() if known.get(name) != value}
            if wrong:
                self.report("snapshot", f"{where}: delivery {row['delivery_id']} with {wrong}, came {row}")

    def _compare_positions(self, rows: list[dict[str, Any]], where: str) -> None:
        came = {}
        for row in rows:
            terms = self.terms.get(row["market"])
            if terms is not None:
                came[row["market"]] = (
                    terms.lot.signed(row["qty"]),
                    msat(row["basis"]),
                    msat(row["bond"]),
                    msat(row["realized"]),
                )
        for market, position in self.positions.items():
            own = (position.qty, position.basis, position.bond, position.realized)
            if came.pop(market, own if not position.qty else None) != own:
                self.report("snapshot", f"{where}: position in {market} {own}, came {rows}")
        if any(row[0] for row in came.values()):
            self.report("snapshot", f"{where}: no position but those of its fills, came {came}")

    def _begin_anew(self, seq: int, data: dict[str, Any], made_us: int) -> None:
        view = data["balance"]
        self.balance, self.held = msat(view["balance"]) or 0, msat(view["held"]) or 0
        self.applied, self.known = seq, not self.house
        following = self.told.events.get(seq + 1)
        if self.told.clock_stepped:
            made_us = self.ts_us if following is None else following["ts_us"]
        self.known_us = max(self.known_us, made_us)
        unsure = self.told.clock_stepped and following is None
        if self.darks and self.darks[-1][1] == FOREVER_US and not unsure:
            self.darks[-1] = (self.darks[-1][0], self.known_us)
        self.states.append((seq, self.balance, self.held, 0))
        self.clear_seq = seq
        self.positions = {}
        for row in data["positions"]:
            terms = self.terms.get(row["market"])
            if terms is not None:
                self.positions[row["market"]] = Position(
                    terms.lot.signed(row["qty"]) or 0,
                    msat(row["basis"]) or 0,
                    msat(row["bond"]) or 0,
                    msat(row["realized"]) or 0,
                )
        for row in data["orders"]:
            terms = self.terms.get(row["market"])
            if terms is None:
                continue
            known = self.orders.get(row["order_id"])
            order = Order(
                self.account,
                row,
                terms.tick.parse(row["price"]) or 0,
                terms.lot.parse(row["qty"]) or 0,
                terms.lot.parse(row["filled_qty"]) or 0,
            )
            order.remaining = order.rest_lots = terms.lot.parse(row["remaining_qty"]) or 0
            order.fills = known.fills if known is not None else []
            order.since_us = None
            if order.side == "buy" or order.reduce_only:
                order.unit = terms.unit_hold(order.price, order.side, order.reduce_only)
            self.orders[order.order_id] = order
            order.states.append((seq, order.price, order.qty, order.filled, order.remaining, order.status))
            if not unsure:  # since when they rest is not known, and nothing comes after
                self._moment(REST, order, order.rest_lots, self.known_us, order.price)
        resting = tuple(sorted(row["order_id"] for row in data["orders"]))
        self.open_states.append((seq, resting))
        self.live.begin_anew(data)

    def is_clear(self, floor: int) -> bool:
        """Whether everything from this number on was told."""
        return self.whole or (self.known and floor >= self.clear_seq)


NEW_DELIVERY: Final = {"state": "scheduled", "proven_hashes": "0", "excused_hashes": "0", "shares": 0}
STATIC: Final = (
    "client_order_id",
    "market",
    "side",
    *("type", "time_in_force", "post_only", "reduce_only", "self_trade_prevention", "expires_us", "ts_us"),
)
"""What never changes of an order."""


def view_is_wrong(order: Order, view: dict[str, Any], terms: Terms | None) -> str:
    """What of an ``OrderView`` is not as the order was accepted; empty if nothing."""
    if terms is None:
        return ""
    for name in STATIC:
        if view[name] != order.data[name]:
            return f"{name} {order.data[name]!r}, came {view[name]!r}"
    return ""


def view_state(view: dict[str, Any], terms: dict[str, Terms]) -> tuple[int | None, int | None, int | None, int | None, str]:
    """Price, quantity, filled, remaining and status of an ``OrderView``."""
    of = terms.get(view["market"])
    if of is None:
        return None, None, None, None, ""
    qty, filled, remaining = (of.lot.parse(view[name]) for name in ("qty", "filled_qty", "remaining_qty"))
    return of.tick.parse(view["price"]), qty, filled, remaining, view["status"]


ORDER_EVENTS: Final = frozenset({"accepted", "fill", "canceled", "reduced", "amended"})
