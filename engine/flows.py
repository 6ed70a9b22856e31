"""Flows: how hashrate moves from order to order, what its work costs, and when a budget could be spent.

The rules are docs/decisions/0019-live-markets.md; who changes, and why, is :mod:`engine.live`'s business.
"""

from engine.accounts import Account
from engine.crossing import UNTOUCHED, Slot, best_first
from engine.due import BUDGET, GRACE, NEVER, Due
from engine.events import Event, FlowChanged, FlowPaid
from engine.limits import BPS, SECOND_NS
from engine.markets.live import NANO, Ask, Bid, Flow, LiveMarket, charge_max, clock_of
from engine.types import FlowCause


class Flows:
    """All flows: those that run, and those that wait for their last report."""

    __slots__ = ("by_id", "due", "fees", "next_flow")

    def __init__(self, fees: Account, due: Due) -> None:
        self.fees: Account = fees
        self.due: Due = due
        self.by_id: dict[int, Flow] = {}
        # ids count from 1, over all markets
        self.next_flow: int = 1

    # ---------------------------------------------------------------------------------------------------------- moving

    def move(self, market: LiveMarket, cause: FlowCause, now_ns: int, out: list[Event]) -> None:
        """The crossing has settled: have the flows follow the speeds. O(orders and flows that move, sorted)."""
        moved = market.crossing.take_moved()
        if not moved:
            return
        gaining: list[tuple[Slot, int]] = []
        free: list[tuple[Slot, int]] = []
        losing_bids: list[tuple[Slot, int]] = []
        losing_asks: list[tuple[Slot, int]] = []
        bids: dict[int, Bid] = {}
        for slot in moved:
            change = slot.assigned - slot.assigned_before
            if change == 0:
                slot.assigned_before = UNTOUCHED
            elif isinstance(slot, Bid):
                self.expose(slot, market, now_ns)
                slot.assigned_before = UNTOUCHED
                bids[slot.order_id] = slot
                if change > 0:
                    gaining.append((slot, change))
                else:
                    losing_bids.append((slot, -change))
            else:
                assert isinstance(slot, Ask), slot.order_id
                slot.assigned_before = UNTOUCHED
                if change > 0:
                    free.append((slot, change))
                else:
                    losing_asks.append((slot, -change))
        touched: dict[int, int] = {}
        if losing_asks:
            self._cut(market, losing_bids, losing_asks, gaining, free, touched, now_ns)
        elif losing_bids:
            _worst_first(losing_bids)
            self._cut_bids(market, losing_bids, free, touched, now_ns)
        if gaining:
            self._pair(market, gaining, free, touched, now_ns)
        self._tell(market, touched, bids, cause, now_ns, out)
        for bid in bids.values():
            self.schedule(bid, market, now_ns)
        self._mark(market, now_ns)

    def _cut(
        self,
        market: LiveMarket,
        losing_bids: list[tuple[Slot, int]],
        losing_asks: list[tuple[Slot, int]],
        gaining: list[tuple[Slot, int]],
        free: list[tuple[Slot, int]],
        touched: dict[int, int],
        now_ns: int,
    ) -> None:
        """Asks lose, and perhaps bids: take from the flows that both lose first, then from the youngest of each."""
        _worst_first(losing_bids)
        _worst_first(losing_asks)
        for i, (ask, ask_loss) in enumerate(losing_asks):
            for j, (bid, bid_loss) in enumerate(losing_bids):
                assert isinstance(bid, Bid), bid.order_id
                flow = bid.flows.get(ask.order_id)
                if flow is not None and ask_loss and bid_loss:
                    speed = min(flow.speed, ask_loss, bid_loss)
                    self._resize(flow, market, -speed, touched, now_ns)
                    ask_loss -= speed
                    bid_loss -= speed
                    losing_bids[j] = (bid, bid_loss)
            losing_asks[i] = (ask, ask_loss)
        short: dict[int, int] = {}
        shorted: list[Bid] = []
        for ask, loss in losing_asks:
            assert isinstance(ask, Ask), ask.order_id
            while loss:
                flow = _youngest(ask.flows)
                speed = min(flow.speed, loss)
                self._resize(flow, market, -speed, touched, now_ns)
                loss -= speed
                if flow.bid.order_id not in short:
                    short[flow.bid.order_id] = 0
                    shorted.append(flow.bid)
                short[flow.bid.order_id] += speed
        self._cut_bids(market, losing_bids, free, touched, now_ns)
        for place, (slot, speed) in enumerate(gaining):
            if slot.order_id in short:
                gaining[place] = (slot, speed + short.pop(slot.order_id))
        gaining += [(bid, short[bid.order_id]) for bid in shorted if bid.order_id in short]

    def _cut_bids(
        self,
        market: LiveMarket,
        losing_bids: list[tuple[Slot, int]],
        free: list[tuple[Slot, int]],
        touched: dict[int, int],
        now_ns: int,
    ) -> None:
        """Take what bids still lose from their youngest flows; the asks of those are free by as much."""
        freed: dict[int, int] = {}
        asks: list[Ask] = []
        for bid, loss in losing_bids:
            assert isinstance(bid, Bid), bid.order_id
            while loss:
                flow = _youngest(bid.flows)
                speed = min(flow.speed, loss)
                self._resize(flow, market, -speed, touched, now_ns)
                loss -= speed
                if flow.ask.order_id not in freed:
                    freed[flow.ask.order_id] = 0
                    asks.append(flow.ask)
                freed[flow.ask.order_id] += speed
        for place, (slot, speed) in enumerate(free):
            if slot.order_id in freed:
                free[place] = (slot, speed + freed.pop(slot.order_id))
        free += [(ask, freed[ask.order_id]) for ask in asks if ask.order_id in freed]

    def _pair(
        self,
        market: LiveMarket,
        gaining: list[tuple[Slot, int]],
        free: list[tuple[Slot, int]],
        touched: dict[int, int],
        now_ns: int,
    ) -> None:
        """Give what is free, best first, to who gains, best first."""
        _best_first(gaining)
        _best_first(free)
        place = left = 0
        ask: Slot | None = None
        for bid, wanted in gaining:
            assert isinstance(bid, Bid), bid.order_id
            while wanted:
                if left == 0:
                    ask, left = free[place]
                    place += 1
                assert isinstance(ask, Ask), place
                speed = min(wanted, left)
                flow = bid.flows.get(ask.order_id)
                if flow is None:
                    flow = Flow(self.next_flow, bid, ask, now_ns, clock_of(bid, market, now_ns))
                    self.next_flow += 1
                    self.by_id[flow.flow_id] = flow
                    bid.flows[ask.order_id] = flow
                    ask.flows[bid.order_id] = flow
                    market.flows += 1
                    bid.account.flows[flow.flow_id] = flow
                    ask.account.flows[flow.flow_id] = flow
                self._resize(flow, market, speed, touched, now_ns)
                wanted -= speed
                left -= speed

    def _resize(self, flow: Flow, market: LiveMarket, change: int, touched: dict[int, int], now_ns: int) -> None:
        accrue(flow, market, now_ns)
        if flow.flow_id not in touched:
            touched[flow.flow_id] = flow.speed
        flow.speed += change
        if flow.speed == 0:
            # nobody takes from it any more
            del flow.bid.flows[flow.ask.order_id]
            del flow.ask.flows[flow.bid.order_id]

    def _tell(
        self,
        market: LiveMarket,
        touched: dict[int, int],
        bids: dict[int, Bid],
        cause: FlowCause,
        now_ns: int,
        out: list[Event],
    ) -> None:
        """Say what moved, in the order in which it was touched, and put those that ended aside."""
        for flow_id, old_speed in touched.items():
            flow = self.by_id[flow_id]
            bids[flow.bid.order_id] = flow.bid
            self.tell(flow, old_speed, cause, now_ns, out)
            if flow.speed == 0:
                self._close(flow, market, now_ns)

    def tell(self, flow: Flow, old_speed: int, cause: FlowCause, now_ns: int, out: list[Event]) -> None:
        """Say how a flow stands, to both its accounts."""
        bid = flow.bid
        ask = flow.ask
        bid.account.event_seq += 1
        buyer_seq = bid.account.event_seq
        ask.account.event_seq += 1
        out.append(
            FlowChanged(
                flow.flow_id,
                bid.listing.symbol,
                bid.order_id,
                bid.account.account_id,
                buyer_seq,
                ask.order_id,
                ask.account.account_id,
                ask.account.event_seq,
                old_speed,
                flow.speed,
                bid.price,
                cause,
                bid.url,
                bid.worker,
                now_ns,
            )
        )

    def _close(self, flow: Flow, market: LiveMarket, now_ns: int) -> None:
        """A flow has ended: it waits for its last report, unless there is nothing to report."""
        if flow.allowance == 0:
            self._forget(flow, market)
            return
        flow.ended_ns = now_ns
        flow.bid.closing[flow.flow_id] = flow
        self.due.add(now_ns + market.grace_ns, GRACE, flow.flow_id)

    def _forget(self, flow: Flow, market: LiveMarket) -> None:
        """The flow is done with."""
        del self.by_id[flow.flow_id]
        market.flows -= 1
        del flow.bid.account.flows[flow.flow_id]
        # gone already where an account trades with itself
        flow.ask.account.flows.pop(flow.flow_id, None)

    def end_all(self, market: LiveMarket, cause: FlowCause, now_ns: int, out: list[Event]) -> None:
        """End every flow of a market, by flow id: all orders have left its crossing. O(flows of all markets)."""
        market.crossing.forget_moved()
        for flow_id in sorted(self.by_id):
            flow = self.by_id[flow_id]
            if flow.bid.listing is market and flow.speed:
                old_speed = flow.speed
                self._resize(flow, market, -old_speed, {}, now_ns)
                self.tell(flow, old_speed, cause, now_ns, out)
                self._close(flow, market, now_ns)
        self._mark(market, now_ns)

    def _mark(self, market: LiveMarket, now_ns: int) -> None:
        """Note where the marginal price stands."""
        marginal = market.crossing.marginal
        if marginal != market.marginal:
            market.clock += market.marginal * (now_ns - market.clock_ns)
            market.clock_ns = now_ns
            market.marginal = marginal

    # ----------------------------------------------------------------------------------------------------------- money

    def expose(self, bid: Bid, market: LiveMarket, now_ns: int) -> None:
        """Bring ``exposure`` to now: before the bid's speed or price changes."""
        speed = bid.assigned if bid.assigned_before == UNTOUCHED else bid.assigned_before
        clock = clock_of(bid, market, now_ns)
        bid.exposure += speed * market.lot_hashrate * (clock - bid.exposure_clock)
        bid.exposure_clock = clock

    def pay(self, flow: Flow, market: LiveMarket, hashes: int, done: bool, now_ns: int, out: list[Event]) -> None:
        """Charge the buyer, and credit the seller, for the work that is proven by now; ``done``: there will be no more."""
        bid = flow.bid
        buyer = bid.account
        seller = flow.ask.account
        accrue(flow, market, now_ns)
        self.expose(bid, market, now_ns)
        released = charge_max(flow, market) if bid.ended and done else 0
        cost = buyer_fee = seller_fee = 0
        payable = min(hashes - flow.paid_hashes, flow.allowance // NANO)
        if payable:
            work = payable * NANO
            value = flow.value * work // flow.allowance
            flow.allowance -= work
            flow.value -= value
            bid.exposure -= value
            flow.paid_hashes += payable
            flow.paid_value += value
            cost = flow.paid_value * market.num // market.den - flow.cost
            flow.cost += cost
            buyer_fee = flow.cost * market.buyer_fee_bps // BPS - flow.buyer_fee
            flow.buyer_fee += buyer_fee
            seller_fee = flow.cost * market.seller_fee_bps // BPS - flow.seller_fee
            flow.seller_fee += seller_fee
            charged = cost + buyer_fee
            assert charged <= bid.escrow, f"flow {flow.flow_id} costs {charged} of {bid.escrow} msat"
            bid.escrow -= charged
            bid.spent += charged
            buyer.balance -= charged
            buyer.held -= charged
            seller.balance += cost - seller_fee
            self.fees.balance += buyer_fee + seller_fee
            if released:
                released -= charged
        if hashes > flow.hashes:
            flow.hashes = hashes
            flow.proven_ns = now_ns
        if done:
            if released:
                bid.escrow -= released
                buyer.held -= released
            bid.exposure -= flow.value
            del bid.closing[flow.flow_id]
            self.due.discard(flow.ended_ns + market.grace_ns, GRACE, flow.flow_id)
            self._forget(flow, market)
        elif flow.speed:
            most = flow.speed * market.lot_hashrate * market.slack_ns
            if flow.allowance > most:
                kept = flow.value * most // flow.allowance
                bid.exposure -= flow.value - kept
                flow.value = kept
                flow.allowance = most
        buyer.event_seq += 1
        buyer_seq = buyer.event_seq
        seller.event_seq += 1
        out.append(
            FlowPaid(
                flow.flow_id,
                market.symbol,
                bid.order_id,
                buyer.account_id,
                buyer_seq,
                flow.ask.order_id,
                seller.account_id,
                seller.event_seq,
                flow.hashes,
                flow.paid_hashes,
                payable,
                cost,
                buyer_fee,
                seller_fee,
                released,
                done,
                buyer.balance,
                buyer.held,
                seller.balance,
                seller.held,
            )
        )
        if not bid.ended:
            self.schedule(bid, market, now_ns)

    def owed_max(self, bid: Bid, market: LiveMarket, now_ns: int) -> int:
        """msat that all flows of the bid can still cost. O(flows of the bid)."""
        total = 0
        for flow in bid.flows.values():
            accrue(flow, market, now_ns)
            total += charge_max(flow, market)
        for flow in bid.closing.values():
            total += charge_max(flow, market)
        return total

    # --------------------------------------------------------------------------------------------------------- restoring

    def restore(self, flow: Flow, market: LiveMarket) -> None:
        """Take a flow out of a snapshot, after those with lower ids."""
        self.by_id[flow.flow_id] = flow
        market.flows += 1
        flow.bid.account.flows[flow.flow_id] = flow
        flow.ask.account.flows[flow.flow_id] = flow
        if flow.speed == 0:
            flow.bid.closing[flow.flow_id] = flow
            self.due.add(flow.ended_ns + market.grace_ns, GRACE, flow.flow_id)
        else:
            flow.bid.flows[flow.ask.order_id] = flow
            flow.ask.flows[flow.bid.order_id] = flow

    # --------------------------------------------------------------------------------------------------------- budgets

    def lasts_ns(self, bid: Bid, market: LiveMarket, now_ns: int) -> int:
        """How long the bid can certainly go on as it is without its flows costing more than its escrow."""
        self.expose(bid, market, now_ns)
        flows = len(bid.flows) + len(bid.closing)
        cost_max = (bid.escrow - flows) * BPS // (BPS + market.buyer_fee_bps)
        left = ((cost_max - flows + 1) * market.den - 1) // market.num - bid.exposure
        if left <= 0:
            return 0
        return left // (bid.price * bid.assigned * market.lot_hashrate)

    def schedule(self, bid: Bid, market: LiveMarket, now_ns: int) -> None:
        """Put the instant on the agenda at which the bid is to be stopped.

        An instant that is there already and comes too early does no harm where the bid pays its own price: it is looked at anew
        then.
        """
        stop_ns = NEVER
        if bid.assigned:
            stop_ns = now_ns + self.lasts_ns(bid, market, now_ns)
            if stop_ns >= bid.expires_ns:
                # it ends before
                stop_ns = NEVER
        if stop_ns < bid.stop_ns or (stop_ns != bid.stop_ns and market.is_uniform):
            self.unschedule(bid)
            if stop_ns < NEVER:
                bid.stop_ns = stop_ns
                self.due.add(stop_ns, BUDGET, bid.order_id)

    def unschedule(self, bid: Bid) -> None:
        """Take that instant off the agenda."""
        if bid.stop_ns < NEVER:
            self.due.discard(bid.stop_ns, BUDGET, bid.order_id)
            bid.stop_ns = NEVER

    def may_go_on(self, bid: Bid, market: LiveMarket, now_ns: int) -> bool:
        """The instant has come, and is off the agenda: whether the bid goes on all the same."""
        bid.stop_ns = NEVER
        if bid.assigned == 0:
            return True
        lasts_ns = self.lasts_ns(bid, market, now_ns)
        if lasts_ns < (SECOND_NS if market.is_uniform else 1):
            return False
        self.schedule(bid, market, now_ns)
        return True


def accrue(flow: Flow, market: LiveMarket, now_ns: int) -> None:
    """Add the allowance of the time since the flow was last looked at, at what its bid paid then."""
    if flow.speed and now_ns > flow.since_ns:
        clock = clock_of(flow.bid, market, now_ns)
        rate = flow.speed * market.lot_hashrate
        flow.allowance += rate * (now_ns - flow.since_ns)
        flow.value += rate * (clock - flow.clock)
        flow.since_ns = now_ns
        flow.clock = clock


def _youngest(flows: dict[int, Flow]) -> Flow:
    return flows[next(reversed(flows))]


def _place(item: tuple[Slot, int]) -> tuple[int, int]:
    return best_first(item[0])


def _best_first(orders: list[tuple[Slot, int]]) -> None:
    if len(orders) > 1:
        orders.sort(key=_place)


def _worst_first(orders: list[tuple[Slot, int]]) -> None:
    if len(orders) > 1:
        orders.sort(key=_place, reverse=True)
