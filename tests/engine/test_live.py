"""Live markets in worked numbers: who gets hashrate, what moves, what work costs, and when a budget stops."""

import pytest
from msgspec.structs import replace

from engine.commands import Cancel, CancelAll, ListLive, Place, PlaceBid, RefillBid, SetIndex, SetMarketState
from engine.core import Engine
from engine.events import (
    AskEnded,
    BidAmended,
    BidEnded,
    BidResumed,
    BidStopped,
    FlowChanged,
    FlowPaid,
    MarketStateChanged,
    Rejected,
)
from engine.invariants import check, money
from engine.limits import DAY_NS, SECOND_NS, Limits
from engine.rejects import RejectCode
from engine.snapshot import dump, restore, state_hash
from engine.types import EndReason, FlowCause, MarketState, OrderType, Peg, Pricing, Side
from tests.engine.live import HOUR_NS, LIVE, POOL, Live

LOT_HOUR_HASHES = 10**12 * 3_600


def refused(live: Live) -> tuple[RejectCode, int]:
    (rejected,) = live.told(Rejected)
    return rejected.code, rejected.bound


# ---------------------------------------------------------------------------------------------------------- who gets what


def test_the_best_paying_bids_hold_the_cheapest_hashrate() -> None:
    live = Live("ann", "bob", "cid", "rig")
    cheap, dear = live.ask("rig", 45_000, 5_000), live.ask("rig", 54_000, 3_000)
    ann, bob, cid = live.bid("ann", 60_000, 4_000), live.bid("bob", 55_000, 3_000), live.bid("cid", 52_000)
    assert [live.speed(order) for order in (ann, bob, cid)] == [4_000, 3_000, 0]
    assert [live.speed(order) for order in (cheap, dear)] == [5_000, 2_000]
    assert live.market.marginal == 55_000


def test_a_better_bid_takes_the_marginal_one_s_youngest_flows() -> None:
    live = Live("ann", "bob", "rig")
    first, second = live.ask("rig", 1, 3), live.ask("rig", 2, 3)
    bob = live.bid("bob", 10, 6)
    ann = live.bid("ann", 11, 4)
    assert live.moved() == [(bob, second, 3, 0), (bob, first, 3, 2), (ann, first, 0, 1), (ann, second, 0, 3)]
    assert {event.cause for event in live.told(FlowChanged)} == {FlowCause.BID_PLACED}


def test_a_rig_that_leaves_is_replaced_by_what_is_free() -> None:
    live = Live("ann", "rig")
    first, spare = live.ask("rig", 1, 3), live.ask("rig", 2, 9)
    ann = live.bid("ann", 10, 3)
    live.cancel(first)
    assert live.moved() == [(ann, first, 3, 0), (ann, spare, 0, 3)]


def test_a_raise_that_changes_no_speed_moves_nothing() -> None:
    live = Live("ann", "bob", "rig")
    live.ask("rig", 1, 9)
    live.bid("ann", 20, 3)
    bob = live.bid("bob", 10, 3)
    live.amend(bob, price=30)
    assert live.moved() == []
    assert live.told(BidAmended)[0].old_price == 10


def test_one_s_own_ask_may_serve_one_s_own_bid() -> None:
    live = Live("ann")
    ask, bid = live.ask("ann", 5, 2), live.bid("ann", 6)
    (flow,) = live.told(FlowChanged)
    assert (flow.bid_id, flow.ask_id, flow.seller_seq - flow.buyer_seq) == (bid, ask, 1)
    live.wait(HOUR_NS)
    live.report(flow.flow_id, 2 * LOT_HOUR_HASHES)
    live.cancel(bid)


# --------------------------------------------------------------------------------------------------------------- the money


def test_an_hour_of_work_costs_a_twenty_fourth_of_the_price() -> None:
    live = Live("ann", "rig", buyer_fee_bps=300, seller_fee_bps=200)
    live.ask("rig", 1, 4_000)
    live.bid("ann", 60_000, 4_000)
    (flow,) = live.told(FlowChanged)
    live.wait(HOUR_NS)
    live.report(flow.flow_id, 4_000 * LOT_HOUR_HASHES)
    (paid,) = live.told(FlowPaid)
    assert (paid.cost, paid.buyer_fee, paid.seller_fee) == (10_000_000, 300_000, 200_000)
    assert paid.seller_balance == 10**12 + 9_800_000
    assert live.engine.fees.balance == 500_000


def test_nothing_is_lost_by_rounding_however_often_work_is_reported() -> None:
    often, once = Live("ann", "rig", buyer_fee_bps=333), Live("ann", "rig", buyer_fee_bps=333)
    for live, steps in ((often, 997), (once, 1)):
        live.ask("rig", 1, 7)
        live.bid("ann", 13, 7)
        hashes = 0
        for _ in range(steps):
            live.wait(997 * SECOND_NS // steps)
            hashes += 7 * 10**12 * 997 // steps
            live.report(1, hashes)
    assert often.told(FlowPaid)[0].buyer_balance == once.told(FlowPaid)[0].buyer_balance
    assert often.told(FlowPaid)[0].seller_balance == once.told(FlowPaid)[0].seller_balance


def test_unproven_time_is_not_paid() -> None:
    live = Live("ann", "rig", slack_ns=60 * SECOND_NS, idle_ns=0)
    live.ask("rig", 1, 1_000)
    live.bid("ann", 24_000)
    live.wait(HOUR_NS)
    live.report(1, 0)
    # all but a minute is forfeited: an hour's worth that comes a minute later is paid as two minutes
    live.wait(60 * SECOND_NS)
    live.report(1, 1_000 * LOT_HOUR_HASHES)
    assert live.told(FlowPaid)[0].work == 2 * 60 * 1_000 * 10**12


def test_nobody_pays_for_more_than_the_assigned_speed() -> None:
    live = Live("ann", "rig")
    live.ask("rig", 1, 10)
    live.bid("ann", 100)
    live.wait(HOUR_NS)
    live.report(1, 100 * LOT_HOUR_HASHES)
    assert live.told(FlowPaid)[0].work == 10 * LOT_HOUR_HASHES
    # what is over waits until there is room
    live.wait(HOUR_NS)
    live.report(1, 100 * LOT_HOUR_HASHES)
    assert live.told(FlowPaid)[0].paid_hashes == 20 * LOT_HOUR_HASHES


def test_a_price_counts_for_the_time_that_it_stood() -> None:
    live = Live("ann", "rig")
    live.ask("rig", 1, 1_000)
    bid = live.bid("ann", 24_000)
    live.wait(HOUR_NS)
    live.amend(bid, price=48_000)
    live.wait(HOUR_NS)
    live.report(1, 2_000 * LOT_HOUR_HASHES)
    assert live.told(FlowPaid)[0].cost == 1_000_000 + 2_000_000


@pytest.mark.parametrize(
    ("pricing", "costs"), [(Pricing.PAY_AS_BID, (3_000_000, 2_000_000)), (Pricing.UNIFORM, (2_000_000,) * 2)]
)
def test_uniform_markets_pay_the_marginal_price(pricing: Pricing, costs: tuple[int, int]) -> None:
    live = Live("ann", "bob", "rig", pricing=pricing)
    live.ask("rig", 1, 2_000)
    live.bid("ann", 72_000, 1_000)
    live.bid("bob", 48_000)
    live.wait(HOUR_NS)
    found = []
    for flow_id in (1, 2):
        live.report(flow_id, 1_000 * LOT_HOUR_HASHES)
        found.append(live.told(FlowPaid)[0].cost)
    assert tuple(found) == costs


def test_a_flow_s_last_work_is_reported_after_its_end() -> None:
    live = Live("ann", "rig", grace_ns=600 * SECOND_NS)
    ask = live.ask("rig", 1, 1_000)
    live.bid("ann", 24_000)
    live.wait(HOUR_NS)
    live.cancel(ask)
    live.wait(599 * SECOND_NS)
    live.report(1, 1_000 * LOT_HOUR_HASHES, final=True)
    assert (live.told(FlowPaid)[0].cost, live.told(FlowPaid)[0].final) == (1_000_000, True)
    live.report(1, 1_000 * LOT_HOUR_HASHES)
    assert refused(live) == (RejectCode.FLOW_UNKNOWN, 0)


def test_what_is_not_reported_in_time_is_not_paid() -> None:
    live = Live("ann", "rig", grace_ns=600 * SECOND_NS)
    ask = live.ask("rig", 1, 1_000)
    live.bid("ann", 24_000)
    live.wait(HOUR_NS)
    live.cancel(ask)
    live.wait(600 * SECOND_NS)
    (paid,) = live.told(FlowPaid)
    assert (paid.cost, paid.final) == (0, True)


def test_an_ask_that_proves_nothing_ends() -> None:
    live = Live("ann", "rig", idle_ns=300 * SECOND_NS)
    live.ask("rig", 1, 10)
    live.bid("ann", 100)
    live.wait(300 * SECOND_NS)
    live.report(1, 0)
    assert not live.told(AskEnded)
    live.wait(1)
    live.report(1, 0)
    assert live.told(AskEnded)[0].reason is EndReason.IDLE


# ----------------------------------------------------------------------------------------------------------------- budgets


def test_a_bid_stops_before_its_budget_is_passed_and_ends_when_it_is_spent() -> None:
    live = Live("ann", "rig", budget_min=1_000_000)
    live.ask("rig", 1, 1_000)
    bid = live.bid("ann", 24_000, budget=1_000_000)
    live.wait(HOUR_NS + SECOND_NS)
    assert [type(event) for event in live.events] == [BidStopped, FlowChanged]
    # an hour is what the budget was good for; what a flow's rounding could cost stops it some milliseconds before
    (changed,) = live.told(FlowChanged)
    assert 0 <= live.ts_ns - SECOND_NS - changed.ts_ns < 10**7
    live.report(1, 1_000 * LOT_HOUR_HASHES, final=True)
    paid, ended = live.events
    assert isinstance(paid, FlowPaid)
    assert isinstance(ended, BidEnded)
    assert (ended.reason, ended.spent + ended.returned) == (EndReason.SPENT, 1_000_000)
    assert ended.order_id == bid
    assert 0 <= ended.returned < 10


def test_a_bid_whose_rigs_proved_little_goes_on() -> None:
    live = Live("ann", "rig", budget_min=1_000, idle_ns=0)
    live.ask("rig", 1, 1_000)
    bid = live.bid("ann", 24_000, budget=1_000_000)
    live.wait(HOUR_NS)
    live.report(1, 100 * LOT_HOUR_HASHES, final=True)
    (resumed,) = live.told(BidResumed)
    assert (resumed.order_id, resumed.left) == (bid, 900_000)
    assert live.speed(bid) == 1_000


def test_a_bid_that_nobody_reports_on_ends_however_long_nobody_comes() -> None:
    live = Live("ann", "rig", budget_min=1_000)
    live.ask("rig", 1, 1_000)
    live.bid("ann", 24_000, budget=1_000_000)
    live.wait(9 * DAY_NS)
    assert [type(event) for event in live.events] == [BidStopped, FlowChanged, FlowPaid, BidEnded]
    ended = live.told(BidEnded)[0]
    assert (ended.reason, ended.spent, ended.returned) == (EndReason.IDLE, 0, 1_000_000)


def test_a_refill_brings_a_stopped_bid_back() -> None:
    live = Live("ann", "rig", budget_min=1_000)
    live.ask("rig", 1, 1_000)
    bid = live.bid("ann", 24_000, budget=1_000_000)
    live.wait(HOUR_NS)
    assert live.speed(bid) == 0
    for _ in range(2):
        live.apply(RefillBid(live.accounts["ann"], bid, "", 500_000, "more"))
    assert live.engine.accounts[live.accounts["ann"]].held == 1_500_000
    assert live.speed(bid) == 1_000


def test_a_canceled_bid_s_rest_returns_at_once() -> None:
    live = Live("ann", "rig", buyer_fee_bps=1_000)
    live.ask("rig", 1, 1_000)
    bid = live.bid("ann", 24_000, budget=10_000_000)
    live.wait(HOUR_NS)
    live.cancel(bid)
    (ended,) = live.told(BidEnded)
    # an hour's work and its fee stay held
    assert (ended.returned, ended.held) == (8_900_000, 1_100_000)
    live.report(1, 500 * LOT_HOUR_HASHES, final=True)
    (paid,) = live.told(FlowPaid)
    assert (paid.cost, paid.buyer_fee, paid.released, paid.buyer_held) == (500_000, 50_000, 550_000, 0)


def test_a_uniform_market_s_bid_goes_on_as_long_as_the_marginal_price_lets_it() -> None:
    live = Live("ann", "bob", "rig", pricing=Pricing.UNIFORM, budget_min=1_000)
    live.ask("rig", 1, 2_000)
    ann = live.bid("ann", 240_000, 1_000, budget=1_000_000)
    live.bid("bob", 24_000)
    live.wait(HOUR_NS - 20 * SECOND_NS)
    assert live.speed(ann) == 1_000
    live.wait(30 * SECOND_NS)
    assert live.speed(ann) == 0


# ------------------------------------------------------------------------------------------------------------------- edits


def test_a_price_falls_by_steps_and_seldom() -> None:
    live = Live("ann", decrease_interval_ns=600 * SECOND_NS, decrease_step=100, lock_ns=10 * SECOND_NS)
    bid = live.bid("ann", 10_000)
    start = live.ts_ns
    live.amend(bid, price=9_950)
    assert refused(live) == (RejectCode.DECREASE_TOO_EARLY, start + 600 * SECOND_NS)
    live.amend(bid, price=9_899)
    assert refused(live) == (RejectCode.DECREASE_TOO_LARGE, 100)
    live.amend(bid, price=10_100)
    live.amend(bid, price=10_200)
    assert refused(live) == (RejectCode.EDIT_LOCKED, start + 10 * SECOND_NS)
    live.wait(600 * SECOND_NS - 1)
    live.amend(bid, price=10_000)
    assert refused(live) == (RejectCode.DECREASE_TOO_EARLY, start + 600 * SECOND_NS)
    live.wait(1)
    live.amend(bid, price=10_000)
    assert live.price(bid) == 10_000


def test_a_bid_pegged_to_the_top_holds_it_up_to_its_cap() -> None:
    live = Live("ann", "bob", "rig")
    live.ask("rig", 1, 5)
    rival = live.bid("bob", 1_000, 5)
    pegged = live.peg("ann", Peg.TOP, offset=1, cap=1_055, limit=5)
    prices = []
    for step in range(1, 11):
        live.amend(rival, price=1_000 + 10 * step)
        prices.append(live.price(pegged))
    assert prices == [1_011, 1_021, 1_031, 1_041, 1_051, 1_055, 1_055, 1_055, 1_055, 1_055]
    assert [live.speed(pegged), live.speed(rival)] == [0, 5]


def test_a_bid_pegged_to_the_margin_does_not_chase_itself() -> None:
    live = Live("ann", "bob", "cid", "rig")
    live.ask("rig", 1, 10)
    live.bid("bob", 100, 6)
    live.bid("cid", 90, 6)
    pegged = live.peg("ann", Peg.MARGINAL, offset=1, cap=1_000, limit=4)
    assert (live.price(pegged), live.speed(pegged)) == (91, 4)
    for _ in range(3):
        live.wait(1)
        assert live.price(pegged) == 91


def test_a_follower_that_comes_and_goes_has_nothing_built_again() -> None:
    live = Live("ann", "bob", "rig")
    for price in (300, 400):
        live.ask("rig", price, 1_000)
    live.bid("bob", 500, 1_500)

    def follow() -> None:
        order_id = live.peg("ann", Peg.MARGINAL, -10, 600, limit=100)
        assert live.price(order_id) == 490
        live.cancel(order_id)

    follow()
    shadow = live.market.shadow
    assert shadow is not None
    for _ in range(5):
        follow()
    assert live.market.shadow is shadow
    # four orders stood, the last follower with them: when as many have come without one, it is let go
    ids = [live.bid("bob", price, 100) for price in (310, 320, 330)]
    assert live.market.shadow is shadow
    ids.append(live.bid("bob", 340, 100))
    assert live.market.shadow is None
    assert all(order.shade is None for order in live.market.orders.values())
    for order_id in ids:
        live.cancel(order_id)
    follow()


def test_bids_pegged_to_the_index_follow_it() -> None:
    live = Live("ann", "rig")
    pegged = live.peg("ann", Peg.INDEX, offset=-5, cap=50, floor=10)
    found = []
    for index in (30, 8, 80, 0):
        live.apply(SetIndex(live.spec.symbol, index))
        found.append(live.price(pegged))
    assert found == [25, 10, 50, 10]


# -------------------------------------------------------------------------------------------------------------------- ends


def test_orders_end_at_their_time() -> None:
    live = Live("ann", "rig", life_ns=DAY_NS)
    ask = live.ask("rig", 1, 5, expires_ns=live.ts_ns + HOUR_NS)
    bid = live.bid("ann", 10)
    live.wait(HOUR_NS)
    assert [(event.order_id, event.reason) for event in live.told(AskEnded)] == [(ask, EndReason.EXPIRED)]
    live.wait(23 * HOUR_NS)
    assert [(event.order_id, event.reason) for event in live.told(BidEnded)] == [(bid, EndReason.EXPIRED)]


def test_a_closed_market_is_forgotten_when_the_last_work_is_reported() -> None:
    live = Live("ann", "rig")
    live.ask("rig", 1, 1_000)
    live.bid("ann", 24_000)
    live.wait(HOUR_NS)
    live.apply(SetMarketState(live.spec.symbol, MarketState.CLOSED))
    kinds = [type(event) for event in live.events]
    assert kinds == [MarketStateChanged, FlowChanged, AskEnded, BidEnded]
    live.report(1, 1_000 * LOT_HOUR_HASHES, final=True)
    assert [type(event) for event in live.events] == [FlowPaid, MarketStateChanged]
    assert not live.engine.live.markets
    assert money(live.engine).conserved()


def test_a_kill_switch_ends_live_orders_too() -> None:
    live = Live("ann", "rig")
    live.ask("rig", 1, 5)
    bids = [live.bid("ann", 10 + step, 1) for step in range(3)]
    live.apply(CancelAll(live.accounts["ann"]))
    assert [event.order_id for event in live.told(BidEnded)] == bids
    assert live.engine.accounts[live.accounts["ann"]].held == 0


def test_markets_of_another_kind_say_so() -> None:
    live = Live("ann")
    live.apply(Place(live.accounts["ann"], live.spec.symbol, Side.BUY, OrderType.LIMIT, 1, 1))
    assert refused(live) == (RejectCode.MARKET_KIND_WRONG, 0)


def test_nobody_cancels_what_is_another_s() -> None:
    live = Live("ann", "bob")
    bid = live.bid("ann", 10)
    live.apply(Cancel(live.accounts["bob"], bid))
    assert refused(live) == (RejectCode.ORDER_UNKNOWN, 0)


# ----------------------------------------------------------------------------------------------------- snapshot, estimate


def busy() -> Live:
    live = Live("ann", "bob", "rig", buyer_fee_bps=300, decrease_interval_ns=600 * SECOND_NS, budget_min=1_000)
    for price in range(1, 30):
        live.ask("rig", price, 10 + price)
        live.bid("ann" if price % 2 else "bob", 60 - price, 10 + price, 10**6 * price, client_order_id=f"bid-{price}")
    live.peg("bob", Peg.TOP, 1, 200, 50)
    live.peg("bob", Peg.MARGINAL, 1, 200, 50)
    live.wait(HOUR_NS)
    for flow_id in (1, 3, 5):
        live.report(flow_id, LOT_HOUR_HASHES)
    live.cancel(next(iter(live.engine.live.orders)))
    return live


def test_a_restored_live_market_goes_on_as_the_original() -> None:
    live = busy()
    restored = restore(dump(live.engine))
    check(restored)
    assert state_hash(restored) == state_hash(live.engine)
    other = Live()
    other.engine, other.ts_ns, other.accounts = restored, live.ts_ns, live.accounts
    for both in (live, other):
        both.amend(next(iter(sorted(both.engine.live.orders))), 3, 5)
        both.wait(5 * HOUR_NS)
        both.report(2, LOT_HOUR_HASHES)
        both.apply(PlaceBid(both.accounts["ann"], both.spec.symbol, 9, 1, 1_000, POOL, "w", client_order_id="bid-3"))
    assert live.events == other.events
    assert state_hash(restored) == state_hash(live.engine)


def test_orders_and_flows_of_two_markets_are_restored_oldest_first() -> None:
    """Not market by market: they are listed and paged by age."""
    live = Live("ann", "bob")
    live.apply(ListLive(replace(LIVE, symbol="A-LIVE")))
    for symbol in (LIVE.symbol, "A-LIVE", LIVE.symbol):
        live.spec = replace(LIVE, symbol=symbol)
        live.ask("bob", 10, 1_000)
        live.bid("ann", 20, 1_000)
    restored = restore(dump(live.engine))
    orders = [*live.engine.live.orders]
    assert [*restored.live.orders] == orders == sorted(orders)
    assert [*restored.live.flowing.by_id] == [1, 2, 3]
    for account_id in live.accounts.values():
        before, after = live.engine.accounts[account_id], restored.accounts[account_id]
        assert ([*after.live], [*after.flows]) == ([*before.live], [1, 2, 3])


def test_an_estimate_is_what_a_bid_then_gets() -> None:
    for price in (1, 15, 31, 45, 59, 60, 61, 100):
        live = busy()
        told = live.engine.live.estimate(live.market, price, 40)
        # nobody follows: an estimate is of the book as it stands
        live.apply(CancelAll(live.accounts["bob"]))
        told = live.engine.live.estimate(live.market, price, 40)
        assert live.speed(live.bid("ann", price, 40)) == told


def test_an_engine_without_live_markets_knows_none() -> None:
    engine = Engine()
    assert not engine.live.markets
    check(engine)


@pytest.mark.parametrize(("limits", "bound"), [(Limits(flows_per_account_max=3), 3), (Limits(flows_max=3), 3)])
def test_flows_that_last_for_an_instant_fill_nothing(limits: Limits, bound: int) -> None:
    live = Live("ann", "bob", "rig", limits=limits)
    for _ in range(2):
        live.ask("rig", 5, 1)
    ann = live.bid("ann", 20, 2)
    live.wait(1)
    # the flows that end wait for their last report, and count
    bob = live.bid("bob", 30, 1)
    for price in range(31, 60):
        live.wait(1)
        live.amend(ann if price % 2 else bob, price=price)
        if live.told(Rejected):
            break
    assert refused(live) == (RejectCode.FLOWS_FULL, bound)
    assert len(live.engine.live.flowing.by_id) >= bound
    # a lower limit, a refill, and ending it are never refused
    live.amend(ann, size=1)
    live.cancel(ann)
    assert not live.told(Rejected)


def test_followers_move_the_flows_of_a_market_once() -> None:
    """Each of them by itself would take every ask from the one before: followers times asks."""
    live = Live("rival", "ada", "dan", limits=Limits(pegs_max=40))
    asks, followers = 50, 40
    top = live.bid("rival", 100)
    for offset in range(1, followers + 1):
        live.peg("ada", Peg.TOP, offset, 10_000)
    for _ in range(asks):
        live.ask("dan", 10, 5)
    events = live.amend(top, 200)
    check(live.engine)
    assert len(live.told(BidAmended)) == 1 + followers
    assert len(events) <= 1 + followers + 4 * asks


def test_orders_that_end_together_move_flows_once() -> None:
    live = Live("rival", "ada", "dan")
    for _ in range(40):
        live.bid("ada", 100, 5)
        live.bid("rival", 90, 5)
        live.ask("ada", 10, 5)
        live.ask("dan", 20, 5)
    events = live.apply(CancelAll(live.accounts["ada"]))
    check(live.engine)
    assert len(live.told(BidEnded)) == len(live.told(AskEnded)) == 40
    assert len(events) <= 80 + 4 * 80
