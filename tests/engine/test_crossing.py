"""The crossing's speeds are those of both sides walked from the best, whatever happened before, and only the margin moves."""

import random

import pytest

from engine.crossing import UNTOUCHED, Crossing, Slot, best_first


def walked(bids: list[Slot], asks: list[Slot]) -> dict[int, int]:
    """Lot by lot, from the best of both sides."""
    wanted = [bid for bid in sorted(bids, key=best_first) for _ in range(bid.remaining)]
    offered = [ask for ask in sorted(asks, key=best_first) for _ in range(ask.remaining)]
    speeds = dict.fromkeys([slot.order_id for slot in (*bids, *asks)], 0)
    for bid, ask in zip(wanted, offered, strict=False):
        if bid.price < ask.price:
            break
        speeds[bid.order_id] += 1
        speeds[ask.order_id] += 1
    return speeds


class Sides:
    """A crossing, and its orders in a list."""

    def __init__(self) -> None:
        self.crossing = Crossing()
        self.orders: list[Slot] = []
        self.ranks = 0

    def enter(self, is_buy: bool, price: int, size: int) -> Slot:
        # nothing enters twice before its id has been taken
        slot = Slot(self.ranks + 1, is_buy, price, size)
        self.orders.append(slot)
        return self.again(slot)

    def again(self, slot: Slot) -> Slot:
        self.ranks += 1
        slot.rank = self.ranks
        self.crossing.enter(slot)
        return slot

    def settle(self) -> list[tuple[int, int, int]]:
        """``(order_id, before, after)`` of what moved."""
        self.crossing.settle()
        moved = self.crossing.take_moved()
        changes = [(slot.order_id, slot.assigned_before, slot.assigned) for slot in moved]
        for slot in moved:
            slot.assigned_before = UNTOUCHED
        return [change for change in changes if change[1] != change[2]]

    def speeds(self) -> dict[int, int]:
        return {slot.order_id: slot.assigned for slot in self.orders}

    def expected(self) -> dict[int, int]:
        return walked([o for o in self.orders if o.is_buy], [o for o in self.orders if not o.is_buy])


@pytest.mark.parametrize("seed", range(20))
def test_speeds_are_those_of_a_walk(seed: int) -> None:
    rng = random.Random(seed)
    sides = Sides()
    crossing = sides.crossing
    for _ in range(300):
        chance = rng.random()
        before = sides.speeds()
        if chance < 0.5 or not sides.orders:
            before[sides.enter(rng.random() < 0.5, rng.randint(1, 12), rng.randint(1, 9)).order_id] = 0
        elif chance < 0.7:
            crossing.leave(sides.orders.pop(rng.randrange(len(sides.orders))))
        elif chance < 0.85:
            slot = rng.choice(sides.orders)
            crossing.leave(slot)
            slot.price = rng.randint(1, 12)
            slot.remaining = rng.randint(1, 9)
            sides.again(slot)
        else:
            slot = rng.choice(sides.orders)
            if slot.remaining > 1:
                crossing.shrink(slot, rng.randint(1, slot.remaining - 1))
        moved = {order_id for order_id, _, _ in sides.settle()}
        after = sides.speeds()
        assert after == sides.expected()
        assert crossing.bid_total == crossing.ask_total == sum(o.assigned for o in sides.orders if o.is_buy)
        assert {order_id for order_id in after if after[order_id] != before[order_id]} == moved & after.keys()
        matched = [o.price for o in sides.orders if o.is_buy and o.assigned]
        assert crossing.marginal == min(matched, default=0)


def test_a_better_bid_takes_from_the_marginal_one() -> None:
    sides = Sides()
    sides.enter(False, 10, 5)
    sides.settle()
    first = sides.enter(True, 12, 3)
    marginal = sides.enter(True, 11, 3)
    sides.settle()
    assert (first.assigned, marginal.assigned) == (3, 2)
    better = sides.enter(True, 13, 1)
    assert sides.settle() == [(better.order_id, 0, 1), (marginal.order_id, 2, 1)]


def test_of_equal_prices_the_older_rank_comes_first() -> None:
    sides = Sides()
    sides.enter(False, 10, 5)
    older = sides.enter(True, 11, 4)
    younger = sides.enter(True, 11, 4)
    sides.settle()
    assert (older.assigned, younger.assigned) == (4, 1)
    sides.crossing.leave(older)
    sides.again(older)
    sides.settle()
    assert (older.assigned, younger.assigned) == (1, 4)


def test_an_order_at_the_margin_that_enters_again_at_another_price_moves_nothing() -> None:
    sides = Sides()
    sides.enter(False, 10, 5)
    top = sides.enter(True, 20, 2)
    sides.enter(True, 15, 9)
    sides.settle()
    sides.crossing.leave(top)
    top.price = 18
    sides.again(top)
    assert sides.settle() == []


def test_a_bid_without_a_limit_takes_all_that_it_may() -> None:
    sides = Sides()
    for price in (10, 11, 12):
        sides.enter(False, price, 4)
    everything = sides.enter(True, 11, 2**41)
    sides.settle()
    assert everything.assigned == 8


def test_work_is_proportional_to_what_moves() -> None:
    """With a deep book, an edit far from the margin touches one order, one at the margin two."""
    sides = Sides()
    for price in range(1_000):
        sides.enter(False, 1_000 + price, 10)
        sides.enter(True, 2_000 - price, 10)
    sides.settle()
    rich = max((o for o in sides.orders if o.is_buy), key=lambda slot: slot.price)
    sides.crossing.leave(rich)
    rich.price = 3_000
    sides.again(rich)
    sides.crossing.settle()
    assert len(sides.crossing.moved) == 1
    sides.crossing.forget_moved()
    assert rich.assigned_before == UNTOUCHED
    sides.crossing.shrink(rich, 9)
    assert len(sides.settle()) <= 3
