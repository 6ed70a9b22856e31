"""Flows: how hashrate moves from order to order, what its work costs, and when a budget could be spent.

The rules are docs/decisions/0019-live-markets.md; who changes, and why, is :mod:`engine.live`'s business.
"""

from typing import Any, Final

from engine.accounts import Account
from engine.crossing import UNTOUCHED, best_first
from engine.due import BUDGET, GRACE, NEVER, Due
from engine.events import Event, FlowChanged, FlowPaid
from engine.limits import BPS, SECOND_NS
from engine.markets.live import NANO, Ask, Bid, Flow, LiveMarket, charge_max, clock_of
from engine.types import FlowCause
from engine.words import product

EARLY_SHIFT: Final = 5
"""The end of a budget is looked at anew when a 32nd of the time to it is left."""


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
        gaining: list[Bid] = []
        free: list[Ask] = []
        losing_bids: list[Bid] = []
        losing_asks: list[Ask] = []
        bids: list[Bid] = []
        for slot in moved:
            change = slot.assigned - slot.assigned_before
            if change and isinstance(slot, Bid):
                self.expose(slot, market, now_ns)
                slot.touched = True
                bids.append(slot)
                if change > 0:
                    gaining.append(slot)
                else:
                    losing_bids.append(slot)
            elif change:
                assert isinstance(slot, Ask), slot.order_id
                if change > 0:
                    free.append(slot)
                else:
                    losing_asks.append(slot)
            slot.assigned_before = UNTOUCHED
            slot.pending = abs(change)
        touched: list[Flow] = []
        if losing_asks:
            losing_bids = self._cut_both(market, losing_bids, losing_asks, gaining, touched, now_ns)
        if losing_bids:
            self._cut_bids(market, losing_bids, free, touched, now_ns)
        if gaining:
            self._pair(market, gaining, free, touched, now_ns)
        for flow in touched:
            bid = flow.bid
            if not bid.touched:
                bid.touched = True
                bids.append(bid)
            self.tell(flow, flow.speed_before, cause, now_ns, out)
            flow.speed_before = UNTOUCHED
            if flow.speed == 0:
                self._close(flow, market, now_ns)
        for bid in bids:
            bid.touched = False
            self.schedule(bid, market, now_ns)
        self._mark(market, now_ns)

    def _cut_both(
        self,
        market: LiveMarket,
        losing_bids: list[Bid],
        losing_asks: list[Ask],
        gaining: list[Bid],
        touched: list[Flow],
        now_ns: int,
    ) -> list[Bid]:
        """Asks lose, and perhaps bids: take from the flows that both lose first, then from the youngest of the asks.

        A bid that is short of a flow so, without losing speed, gains it back. Returns the bids that still lose: none of them
        has a flow left from an ask that still loses, so none is short.
        """
        if len(losing_bids) > 1:
            losing_bids.sort(key=best_first, reverse=True)
        if len(losing_asks) > 1:
            losing_asks.sort(key=best_first, reverse=True)
        for ask in losing_asks:
            for bid in losing_bids:
                if ask.pending and bid.pending:
                    flow = bid.flows.get(ask)
                    if flow is not None:
                        speed = min(flow.speed, ask.pending, bid.pending)
                        ask.pending -= speed
                        bid.pending -= speed
                        self._cut(flow, market, speed, touched, now_ns)
        still_losing = [bid for bid in losing_bids if bid.pending]
        for ask in losing_asks:
            while ask.pending:
                flow = _youngest(ask.flows)
                bid = flow.bid
                speed = min(flow.speed, ask.pending)
                ask.pending -= speed
                if bid.pending == 0:
                    gaining.append(bid)
                bid.pending += speed
                self._cut(flow, market, speed, touched, now_ns)
        return still_losing

    def _cut_bids(self, market: LiveMarket, losing_bids: list[Bid], free: list[Ask], touched: list[Flow], now_ns: int) -> None:
        """Take what bids still lose from their youngest flows; the asks of those are free by as much."""
        if len(losing_bids) > 1:
            losing_bids.sort(key=best_first, reverse=True)
        for bid in losing_bids:
            while bid.pending:
                flow = _youngest(bid.flows)
                ask = flow.ask
                speed = min(flow.speed, bid.pending)
                bid.pending -= speed
                if ask.pending == 0:
                    free.append(ask)
                ask.pending += speed
                self._cut(flow, market, speed, touched, now_ns)

    def _pair(self, market: LiveMarket, gaining: list[Bid], free: list[Ask], touched: list[Flow], now_ns: int) -> None:
        """Give what is free to who gains, best first: where they have a flow it grows, and only the rest starts others."""
        if len(gaining) > 1:
            gaining.sort(key=best_first)
        if len(free) > 1:
            free.sort(key=best_first)
        for bid in gaining:
            for flow in _flows_between(bid, free):
                speed = min(bid.pending, flow.ask.pending)
                if speed:
                    bid.pending -= speed
                    flow.ask.pending -= speed
                    accrue(flow, market, now_ns)
                    _touch(flow, touched)
                    flow.speed += speed
        place = 0
        for bid in gaining:
            while bid.pending:
                ask = free[place]
                speed = min(bid.pending, ask.pending)
                if speed:
                    bid.pending -= speed
                    ask.pending -= speed
                    flow = self._start(market, bid, ask, now_ns)
                    _touch(flow, touched)
                    flow.speed = speed
                else:
                    place += 1

    def _start(self, market: LiveMarket, bid: Bid, ask: Ask, now_ns: int) -> Flow:
        flow_id = self.next_flow
        self.next_flow = flow_id + 1
        flow = Flow(flow_id, bid, ask, now_ns, clock_of(bid, market, now_ns))
        self.by_id[flow_id] = flow
        bid.flows[ask] = flow
        ask.flows[bid] = flow
        bid.account.flows[flow_id] = flow
        bid.account.bought_flows += 1
        ask.account.flows[flow_id] = flow
        market.flows += 1
        return flow

    def _cut(self, flow: Flow, market: LiveMarket, speed: int, touched: list[Flow], now_ns: int) -> None:
        """Take ``speed`` lots from a flow."""
        accrue(flow, market, now_ns)
        _touch(flow, touched)
        flow.speed -= speed
        if flow.speed == 0:
            # nobody takes from it any more
            del flow.bid.flows[flow.ask]
            del flow.ask.flows[flow.bid]

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
        if flow.allowance == 0 and flow.accrued == 0:
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
        flow.bid.account.bought_flows -= 1
        # gone already where an account trades with itself
        flow.ask.account.flows.pop(flow.flow_id, None)

    def end_all(self, market: LiveMarket, cause: FlowCause, now_ns: int, out: list[Event]) -> None:
        """End every flow of a market, by flow id: all orders have left its crossing. O(flows of all markets)."""
        market.crossing.forget_moved()
        for flow_id in sorted(self.by_id):
            flow = self.by_id[flow_id]
            if flow.bid.listing is market and flow.speed:
                old_speed = flow.speed
                self._cut(flow, market, old_speed, [], now_ns)
                self.tell(flow, old_speed, cause, now_ns, out)
                self._close(flow, market, now_ns)
        self._mark(market, now_ns)

    def _mark(self, market: LiveMarket, now_ns: int) -> None:
        """Note where the marginal price stands."""
        marginal = market.crossing.marginal
        if marginal != market.marginal:
            market.clock += product(market.marginal, now_ns - market.clock_ns)
            market.clock_ns = now_ns
            market.marginal = marginal

    # ----------------------------------------------------------------------------------------------------------- money

    def expose(self, bid: Bid, market: LiveMarket, now_ns: int) -> None:
        """Bring ``exposure`` to now: before the bid's speed or price changes."""
        speed = bid.assigned if bid.assigned_before == UNTOUCHED else bid.assigned_before
        clock = clock_of(bid, market, now_ns)
        bid.accrued_value += product(speed, clock - bid.exposure_clock)
        bid.exposure_clock = clock

    def pay(self, flow: Flow, market: LiveMarket, hashes: int, done: bool, now_ns: int, out: list[Event]) -> None:
        """Charge the buyer, and credit the seller, for the work that is proven by now; ``done``: there will be no more."""
        bid = flow.bid
        buyer = bid.account
        seller = flow.ask.account
        self.expose(bid, market, now_ns)
        self._carry(flow, market, now_ns)
        released = charge_max(flow, market) if bid.ended and done else 0
        cost = buyer_fee = seller_fee = 0
        payable = min(hashes - flow.paid_hashes, flow.allowance // NANO)
        if payable:
            work = payable * NANO
            value = flow.value * work // flow.allowance
            flow.allowance -= work
            flow.value -= value
            bid.exposure -= value
            bid.exposed_lots -= value // market.lot_hashrate
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
            bid.exposed_lots -= flow.value // market.lot_hashrate
            del bid.closing[flow.flow_id]
            self.due.discard(flow.ended_ns + market.grace_ns, GRACE, flow.flow_id)
            self._forget(flow, market)
        elif flow.speed:
            most = flow.speed * market.lot_hashrate * market.slack_ns
            if flow.allowance > most:
                kept = flow.value * most // flow.allowance
                bid.exposure -= flow.value - kept
                bid.exposed_lots -= (flow.value - kept) // market.lot_hashrate
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
        for flow in (*bid.flows.values(), *bid.closing.values()):
            self._carry(flow, market, now_ns)
            total += charge_max(flow, market)
        return total

    def _carry(self, flow: Flow, market: LiveMarket, now_ns: int) -> None:
        """Add what accrued since the last report to the allowance, in nano-hashes."""
        accrue(flow, market, now_ns)
        value = flow.accrued_value * market.lot_hashrate
        flow.allowance += flow.accrued * market.lot_hashrate
        flow.value += value
        flow.bid.exposure += value
        flow.bid.exposed_lots += flow.accrued_value
        flow.bid.accrued_value -= flow.accrued_value
        flow.accrued = 0
        flow.accrued_value = 0

    # --------------------------------------------------------------------------------------------------------- restoring

    def restore(self, flow: Flow, market: LiveMarket) -> None:
        """Take a flow out of a snapshot, after those with lower ids."""
        self.by_id[flow.flow_id] = flow
        market.flows += 1
        flow.bid.account.flows[flow.flow_id] = flow
        flow.bid.account.bought_flows += 1
        flow.ask.account.flows[flow.flow_id] = flow
        if flow.speed == 0:
            flow.bid.closing[flow.flow_id] = flow
            self.due.add(flow.ended_ns + market.grace_ns, GRACE, flow.flow_id)
        else:
            flow.bid.flows[flow.ask] = flow
            flow.ask.flows[flow.bid] = flow

    # --------------------------------------------------------------------------------------------------------- budgets

    def lasts_ns(self, bid: Bid, market: LiveMarket, now_ns: int) -> int:
        """How long the bid can certainly go on as it is without its flows costing more than its escrow."""
        self.expose(bid, market, now_ns)
        flows = len(bid.flows) + len(bid.closing)
        cost_max = (bid.escrow - flows) * BPS // (BPS + market.buyer_fee_bps)
        left = ((cost_max - flows + 1) * market.den - 1) // market.num - bid.exposure
        # in lots x ns again, which divides as exactly
        left = left // market.lot_hashrate - bid.accrued_value
        return left // (bid.price * bid.assigned) if left > 0 else 0

    def schedule(self, bid: Bid, market: LiveMarket, now_ns: int) -> None:
        """Put the instant on the agenda at which the bid is to be stopped.

        One that comes too early does no harm where the bid pays its own price: it is looked at anew then. So there it is taken
        early by a part of what is left, and most changes need no other. One past the bid's end never comes.
        """
        stop_ns = NEVER
        if bid.assigned:
            ends_ns = bid.expires_ns if market.is_uniform else min(bid.expires_ns, bid.stop_ns)
            if not self._surely_lasts(bid, market, ends_ns, now_ns):
                lasts_ns = self.lasts_ns(bid, market, now_ns)
                if lasts_ns > SECOND_NS and not market.is_uniform:
                    lasts_ns -= lasts_ns >> EARLY_SHIFT
                stop_ns = now_ns + lasts_ns
                if stop_ns >= bid.expires_ns:
                    stop_ns = NEVER
        if stop_ns < bid.stop_ns or (stop_ns != bid.stop_ns and market.is_uniform):
            self.unschedule(bid)
            if stop_ns < NEVER:
                bid.stop_ns = stop_ns
                self.due.add(stop_ns, BUDGET, bid.order_id)

    def _surely_lasts(self, bid: Bid, market: LiveMarket, until_ns: int, now_ns: int) -> bool:
        """Whether ``lasts_ns`` reaches that far, by smaller numbers, rounded against the bid: most often they say so."""
        self.expose(bid, market, now_ns)
        flows = len(bid.flows) + len(bid.closing)
        most = (bid.escrow - flows) // (BPS + market.buyer_fee_bps) * BPS - flows
        used = (bid.exposed_lots + bid.accrued_value) // market.per_msat + 1
        msat_per_s = product(product(bid.price, bid.assigned), SECOND_NS) // market.per_msat + 1
        return most - used >= product(msat_per_s, (until_ns - now_ns) // SECOND_NS + 1)

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
        flow.accrued += product(flow.speed, now_ns - flow.since_ns)
        flow.accrued_value += product(flow.speed, clock - flow.clock)
        flow.since_ns = now_ns
        flow.clock = clock


def _touch(flow: Flow, touched: list[Flow]) -> None:
    """Remember what a flow's speed was before the change that is under way."""
    if flow.speed_before == UNTOUCHED:
        flow.speed_before = flow.speed
        touched.append(flow)


def _youngest(flows: dict[Any, Flow]) -> Flow:
    """The last flow of a table, which stays there."""
    key, flow = flows.popitem()
    flows[key] = flow
    return flow


def _flows_between(bid: Bid, asks: list[Ask]) -> list[Flow]:
    """The flows that join a bid and one of some asks, oldest first. O(flows of the bid, or asks, whichever are fewer)."""
    if len(bid.flows) <= len(asks):
        return [flow for flow in bid.flows.values() if flow.ask.pending]
    flows: list[Flow] = []
    for ask in asks:
        flow = bid.flows.get(ask)
        if flow is not None:
            flows.append(flow)
    if len(flows) > 1:
        flows.sort(key=_age)
    return flows


def _age(flow: Flow) -> int:
    return flow.flow_id
