"""The agenda: everything comes in order, once, and what was taken off never."""

import random

from engine.due import BUDGET, EXPIRY, GATE, GRACE, KEY_BITS, NEVER, SETTLEMENT, SLACK, START, Due


def test_it_comes_in_order_of_time_kind_and_key() -> None:
    due = Due()
    due.add(5, BUDGET, 1)
    due.add(5, EXPIRY, 9)
    due.add_market(3, GATE, "B")
    due.add_market(3, GATE, "A")
    due.add_market(5, START, "C")
    due.add(5, EXPIRY, 2)
    wanted = [(3, GATE, "A"), (3, GATE, "B"), (5, EXPIRY, 2), (5, EXPIRY, 9), (5, START, "C"), (5, BUDGET, 1)]
    assert due.entries() == wanted
    assert [due.pop() for _ in wanted] == wanted
    assert due.next_ns == NEVER


def test_random_agendas_are_what_a_sorted_list_is() -> None:
    rng = random.Random(1)
    due = Due()
    known: list[tuple[int, int, int]] = []
    for _ in range(5_000):
        chance = rng.random()
        if chance < 0.5 or not known:
            entry = (rng.randrange(50), rng.choice((EXPIRY, BUDGET)), rng.randrange(1_000))
            if entry not in known:
                known.append(entry)
                due.add(*entry)
        elif chance < 0.8:
            entry = known.pop(rng.randrange(len(known)))
            due.discard(*entry)
            due.discard(*entry)
            if rng.random() < 0.3:
                # it may come back, while its old place in the heap is still there
                known.append(entry)
                due.add(*entry)
        else:
            known.sort()
            assert due.pop() == known.pop(0)
        assert due.next_ns == (min(known)[0] if known else NEVER)
    assert due.entries() == sorted(known)


def test_what_is_taken_off_is_forgotten() -> None:
    due = Due()
    due.add(0, EXPIRY, 0)
    for number in range(1, 10_000):
        due.add(number, EXPIRY, number)
        due.discard(number, EXPIRY, number)
        assert len(due._heap) <= 2 * len(due.entries()) + SLACK + 1


def test_an_agenda_is_loaded_at_once() -> None:
    due = Due()
    due.add_market(7, GATE, "Z")
    due.load([(9, EXPIRY, 1), (4, EXPIRY, 2), (8, EXPIRY, 3)])
    assert due.entries() == [(4, EXPIRY, 2), (7, GATE, "Z"), (8, EXPIRY, 3), (9, EXPIRY, 1)]
    assert due.next_ns == 4


def test_a_market_is_taken_off() -> None:
    due = Due()
    due.add_market(7, SETTLEMENT, "B")
    due.add_market(7, SETTLEMENT, "A")
    due.add(9, EXPIRY, 1)
    due.discard_market(7, SETTLEMENT, "A")
    assert due.next_ns == 7
    due.discard_market(7, SETTLEMENT, "B")
    assert due.next_ns == 9


def test_the_largest_numbers_come_as_they_went() -> None:
    due = Due()
    entry = NEVER - 1, GRACE, 2**KEY_BITS - 1
    due.add(*entry)
    assert due.entries() == [entry]
    assert due.next_ns == NEVER - 1
    assert due.pop() == entry
