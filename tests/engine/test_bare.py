"""The book on its own: what each method does, what it refuses, and that it matches as a list of orders would."""

import itertools
import random
import sys

import pytest

from engine.bare import SLOTS, SPARE_MAX, BareBook


def test_limit_ioc_market_cancel() -> None:
    book = BareBook()
    assert list(book.limit(1, True, 100, 5)) == []
    assert list(book.limit(2, True, 100, 5)) == []
    assert list(book.limit(3, True, 99, 5)) == []
    assert (book.best_bid, book.best_ask) == (100, 0)
    assert book.ioc(4, False, 100, 7) == [(1, 100, 5), (2, 100, 2)]
    assert book.market(5, False, 4) == [(2, 100, 3), (3, 99, 1)]
    assert book.limit(6, False, 99, 6) == [(3, 99, 4)]
    assert (book.best_bid, book.best_ask) == (0, 99)
    assert book.cancel(6) == 2
    assert book.cancel(6) == 0
    assert list(book.market(7, True, 1)) == []
    assert (book.best_bid, book.best_ask, len(book)) == (0, 0, 0)


def test_amend_keeps_the_place_only_for_less_at_the_same_price() -> None:
    book = BareBook()
    for order_id in (1, 2, 3):
        book.limit(order_id, False, 50, 10)
    book.amend(1, 50, 4)
    assert book.ioc(9, True, 50, 4) == [(1, 50, 4)]
    book.amend(2, 50, 11)
    assert book.ioc(9, True, 50, 10) == [(3, 50, 10)]
    book.limit(4, True, 40, 5)
    assert book.amend(2, 40, 11) == [(4, 40, 5)]
    assert (book.best_bid, book.best_ask, book.remaining(2)) == (0, 40, 6)


def test_mistakes_change_nothing() -> None:
    book = BareBook()
    book.limit(1, True, 10, 10)
    with pytest.raises(ValueError, match="order 1 rests already"):
        book.limit(1, False, 10, 10)
    wrong = "order 2: price and qty are whole numbers from 1"
    with pytest.raises(ValueError, match=wrong):
        book.limit(2, True, 0, 1)
    with pytest.raises(ValueError, match=wrong):
        book.ioc(2, True, 5, 0)
    with pytest.raises(ValueError, match=wrong):
        book.market(2, False, -1)
    with pytest.raises(ValueError, match="order 1: price and qty"):
        book.amend(1, 10, 0)
    with pytest.raises(KeyError):
        book.amend(2, 10, 1)
    assert (book.bids_best_first(), book.asks_best_first()) == ([(10, 10)], [])


# steps of a power of two share one place of the book's table, steps of a prime one slot of the table of orders
@pytest.mark.parametrize(("seed", "step"), [(0, 1), (1, 1), (2, 1 << 20), (3, SLOTS[3] * SLOTS[4]), (4, 10**30)])
def test_matches_as_a_sorted_list_of_orders(seed: int, step: int) -> None:
    rng = random.Random(seed)
    book = BareBook()
    resting: list[list[int]] = []  # [is_buy, price, place in time, order_id, qty]

    def best_first(is_buy: bool) -> list[list[int]]:
        side = [order for order in resting if order[0] == is_buy]
        return sorted(side, key=lambda order: (-order[1] if is_buy else order[1], order[2]))

    def enter(now: int, order_id: int, is_buy: bool, price: int, qty: int, rests: bool) -> list[tuple[int, int, int]]:
        fills = []
        for order in best_first(not is_buy):
            if qty == 0 or (order[1] > price if is_buy else order[1] < price):
                break
            took = min(qty, order[4])
            fills.append((order[3], order[1], took))
            order[4] -= took
            qty -= took
            if not order[4]:
                resting.remove(order)
        if qty and rests:
            resting.append([is_buy, price, now, order_id, qty])
        return fills

    for now in range(step, 3_000 * step, step):
        is_buy, price, qty = rng.random() < 0.5, rng.randint(1, 30) * step, rng.randint(1, 20)
        chosen = rng.choice(resting) if resting else None
        chance = rng.random()
        if chance < 0.6 or chosen is None:
            assert list(book.limit(now, is_buy, price, qty)) == enter(now, now, is_buy, price, qty, True)
        elif chance < 0.7:
            assert list(book.ioc(now, is_buy, price, qty)) == enter(now, now, is_buy, price, qty, False)
        elif chance < 0.75:
            assert list(book.market(now, is_buy, qty)) == enter(now, now, is_buy, 31 * step if is_buy else 0, qty, False)
        elif chance < 0.85:
            resting.remove(chosen)
            assert book.cancel(chosen[3]) == chosen[4]
        elif chance < 0.92:
            chosen[4] = rng.randint(1, chosen[4])
            assert list(book.amend(chosen[3], chosen[1], chosen[4])) == []
        else:
            resting.remove(chosen)
            assert list(book.amend(chosen[3], price, qty + 20)) == enter(now, chosen[3], bool(chosen[0]), price, qty + 20, True)
        for side, levels in ((True, book.bids_best_first()), (False, book.asks_best_first())):
            expected: dict[int, int] = {}
            for order in best_first(side):
                expected[order[1]] = expected.get(order[1], 0) + order[4]
            assert levels == list(expected.items())
    assert len(book) == len(resting)
    assert {order[3]: order[4] for order in resting} == {order[3]: book.remaining(order[3]) for order in resting}


def test_more_orders_than_slots() -> None:
    book = BareBook()
    ids = [*range(-1_500, 1_500), *range(2**70, 2**70 + 1_500)]
    for number, order_id in enumerate(ids):
        assert len(book) == number
        book.limit(order_id, True, 1 + order_id % 7, 1 + number)
    assert [book.remaining(order_id) for order_id in ids] == [1 + number for number in range(len(ids))]
    random.Random(1).shuffle(ids)
    for order_id in ids:
        left = book.remaining(order_id)
        assert left > 0
        assert (book.cancel(order_id), book.remaining(order_id), book.cancel(order_id)) == (left, 0, 0)
    assert len(book) == 0


def test_sizes_of_the_table_are_primes() -> None:
    for slots, larger in itertools.pairwise(SLOTS):
        assert 1.9 * slots < larger < 2.5 * slots
    for slots in SLOTS:
        assert all(slots % divisor for divisor in range(2, 5_000) if divisor * divisor <= slots)


def test_only_so_many_spare_orders_are_kept() -> None:
    book = BareBook()
    for _ in range(2):
        for order_id in range(3 * SPARE_MAX):
            book.limit(order_id, False, 5, 1)
        for order_id in range(3 * SPARE_MAX):
            assert book.cancel(order_id) == 1
        assert len(book._spare) == SPARE_MAX
        for spare in book._spare:
            assert (spare.level, spare.prev, spare.next, spare.chained) == (None, None, None, None)


def test_a_book_that_is_dropped_leaves_nothing_behind() -> None:
    """Orders and levels point at each other; research makes thousands of books."""

    def made_and_dropped() -> int:
        book = BareBook()
        for order_id in range(1, 1_001):
            book.limit(order_id, order_id % 2 == 0, 100 - order_id % 7 if order_id % 2 == 0 else 101 + order_id % 7, 5)
        assert len(book) == 1_000
        del book
        return sys.getallocatedblocks()

    made_and_dropped()
    first = made_and_dropped()
    for _ in range(3):
        last = made_and_dropped()
    assert last - first < 500
