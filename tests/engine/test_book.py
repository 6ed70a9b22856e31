"""The book's levels: found whatever their prices, in order, and forgotten when they are empty."""

import random

import pytest

from engine.book import FIRST_PLACES, Book, Level, Resting


def check(book: Book, resting: list[Resting]) -> None:
    """Both sides hold exactly these orders, each in its queue, and the table nothing that is wrong."""
    for is_buy, levels, best in ((True, book.bids, book.best_bid), (False, book.asks, book.best_ask)):
        expected: dict[int, int] = {}
        for order in resting:
            if order.is_buy == is_buy:
                expected[order.price] = expected.get(order.price, 0) + order.remaining
        prices = sorted(expected, reverse=not is_buy)
        assert [level.price for level in levels] == prices
        assert [level.qty for level in levels] == [expected[price] for price in prices]
        assert best == (prices[-1] if prices else 0)
        for level in levels:
            before: Resting | None = None
            queued = level.head
            while queued is not None:
                assert (queued.level, queued.prev) == (level, before)
                before, queued = queued, queued.next
            assert level.tail is before
    places = len(book._table)
    assert places >= len(book.bids) + len(book.asks)
    for place, known in enumerate(book._table):
        if known is not None:
            assert known.price % places == place
            assert (known in book.bids or known in book.asks) == (known.head is not None)


@pytest.mark.parametrize("step", [1, 3, FIRST_PLACES, 64 * FIRST_PLACES])
def test_levels_come_and_go(step: int) -> None:
    rng = random.Random(step)
    book = Book()
    resting: list[Resting] = []
    for number in range(2_000):
        if rng.random() < (0.55 if number < 1_000 else 0.45) or not resting:
            is_buy = rng.random() < 0.5
            price = (50 - rng.randrange(40) if is_buy else 51 + rng.randrange(40)) * step
            resting.append(Resting(number, is_buy, price, rng.randint(1, 9)))
            book.add(resting[-1])
        else:
            book.remove(resting.pop(rng.randrange(len(resting))))
        check(book, resting)


def test_a_price_that_comes_back_finds_its_level() -> None:
    book = Book()
    seen: list[Level | None] = []
    for number in range(3):
        order = Resting(number, True, 100, 5)
        book.add(order)
        seen.append(order.level)
        book.remove(order)
        assert (book.bids, book.best_bid) == ([], 0)
    assert seen[0] is seen[1] is seen[2] is not None


def test_the_table_grows_with_the_levels_and_with_nothing_else() -> None:
    book = Book()
    for number in range(50 * FIRST_PLACES):
        order = Resting(number, False, 1 + number, 1)
        book.add(order)
        book.remove(order)
    assert len(book._table) == FIRST_PLACES
    for number in range(4 * FIRST_PLACES):
        book.add(Resting(number, number % 2 == 0, 1_000 - number if number % 2 == 0 else 1_001 + number, 1))
    assert len(book._table) == 4 * FIRST_PLACES


def test_a_side_that_is_loaded_is_as_one_that_was_added_to() -> None:
    orders = [Resting(number, False, 10 * FIRST_PLACES * (1 + number // 3), 1 + number) for number in range(90)]
    added = Book()
    for order in orders:
        added.add(order)
    queue = [Resting(order.order_id, False, order.price, order.remaining) for order in added.orders_best_first(False)]
    resting = list(queue)
    loaded = Book()
    loaded.load(False, queue, len(queue))
    check(loaded, resting)
    assert [order.order_id for order in loaded.orders_best_first(False)] == [order.order_id for order in orders]
    assert [level.price for level in loaded.levels_from_best(True, 25 * FIRST_PLACES)] == [10 * FIRST_PLACES, 20 * FIRST_PLACES]
    late = Resting(99, False, 10 * FIRST_PLACES, 7)
    loaded.add(late)
    check(loaded, [*resting, late])
    assert [order.order_id for order in loaded.orders_best_first(False)] == [0, 1, 2, 99, *range(3, 90)]
    resting.insert(3, late)
    random.Random(1).shuffle(resting)
    while resting:
        gone = resting.pop()
        loaded.remove(gone)
        assert (gone.level, gone.prev, gone.next) == (None, None, None)
        check(loaded, resting)


@pytest.mark.parametrize(("is_buy", "limit", "expected"), [(True, 12, [10, 11, 12]), (False, 8, [10, 9, 8])])
def test_what_an_order_could_take_ends_with_its_own_price(is_buy: bool, limit: int, expected: list[int]) -> None:
    book = Book()
    for number in range(5):
        book.add(Resting(number, not is_buy, 10 + number if is_buy else 10 - number, 1))
    assert [level.price for level in book.levels_from_best(is_buy, limit)] == expected
    assert [level.price for level in book.levels_from_best(not is_buy, limit)] == []
    prices = [order.price for order in book.orders_best_first(not is_buy)]
    assert prices == [level.price for level in book.levels_from_best(is_buy, prices[-1])]


@pytest.mark.parametrize("is_buy", [True, False])
def test_a_loaded_side_has_a_place_for_each_level_and_no_more(is_buy: bool) -> None:
    book = Book()
    orders = [Resting(number, is_buy, 100 - number if is_buy else 100 + number, 2) for number in range(FIRST_PLACES)]
    book.load(is_buy, [], 0)
    check(book, [])
    waiting = [Resting(99, is_buy, 500, 1), *orders]
    book.load(is_buy, waiting, FIRST_PLACES)
    assert [order.order_id for order in waiting] == [99]  # only so many were asked for
    check(book, orders)
    assert len(book._table) == FIRST_PLACES
    assert (book.best_bid, book.best_ask) == ((100, 0) if is_buy else (0, 100))
    # it can be taken apart again from its middle, its end and its best
    for at in (FIRST_PLACES // 2, -1, 0):
        book.remove(orders.pop(at))
        check(book, orders)


def test_a_book_that_is_cleared_lets_go_of_its_orders_and_can_be_used_again() -> None:
    book = Book()
    orders = [Resting(number, number < 20, 50 + number // 2, 5) for number in range(40)]
    for order in orders:
        book.add(order)
    book.clear()
    check(book, [])
    assert not any((order.level, order.prev, order.next) != (None, None, None) for order in orders)
    book.clear()
    for order in orders:
        book.add(order)
    check(book, orders)


def test_what_the_engine_must_not_do_is_a_bug() -> None:
    book = Book()
    order = Resting(7, True, 10, 1)
    with pytest.raises(AssertionError, match="7"):
        book.remove(order)  # it does not rest
    book.add(order)
    with pytest.raises(AssertionError, match="not empty"):
        book.load(True, [Resting(8, True, 10, 1)], 1)
    check(book, [order])
