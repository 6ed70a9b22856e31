"""Token buckets: exact at their bounds, in integers; tables: what is in use stays, what is idle is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Bucket as Rate
from gateway.config import RateConfig
from gateway.ratelimit import SECOND_NS, Bucket, Limiter, Table

NOW = 1_795_435_200 * SECOND_NS


def test_a_full_bucket_gives_its_burst_and_no_more() -> None:
    bucket = Bucket(Rate(per_second=10, burst=3))
    assert bucket.left(NOW) == 3
    assert [bucket.take(NOW) for _ in range(4)] == [True, True, True, False]
    assert bucket.left(NOW) == 0


def test_a_token_comes_back_after_its_time_and_not_a_nanosecond_before() -> None:
    bucket = Bucket(Rate(per_second=10, burst=3))
    for _ in range(3):
        bucket.take(NOW)
    tenth = SECOND_NS // 10
    assert bucket.wait_ms(NOW) == 100
    assert not bucket.take(NOW + tenth - 1)
    assert bucket.wait_ms(NOW + tenth - 1) == 1
    assert bucket.wait_ms(NOW + tenth) == 0
    assert bucket.take(NOW + tenth)
    assert not bucket.take(NOW + tenth)


def test_an_idle_bucket_holds_no_more_than_its_burst() -> None:
    bucket = Bucket(Rate(per_second=1_000, burst=2))
    bucket.take(NOW)
    later = NOW + 3_600 * SECOND_NS
    assert bucket.left(later) == 2
    assert [bucket.take(later) for _ in range(3)] == [True, True, False]


def test_a_refusal_costs_nothing() -> None:
    bucket = Bucket(Rate(per_second=1, burst=1))
    bucket.take(NOW)
    for _ in range(1_000):
        assert not bucket.take(NOW)
    assert bucket.take(NOW + SECOND_NS)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    """Found by simulation: nobody could do anything until the clock was where it had been, and budgets were below zero."""
    bucket = Bucket(Rate(per_second=10, burst=3))
    bucket.take(NOW)
    span = 3 * SECOND_NS // 10
    assert bucket.left(NOW + SECOND_NS // 10 - span) == 0  # looks as if all were spent just now
    earlier = NOW - 3_600 * SECOND_NS
    assert bucket.left(earlier) == 3
    assert [bucket.take(earlier) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait_ms(earlier) == 100


@given(
    per_second=st.integers(1, 1_000_000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.integers(0, SECOND_NS // 5), max_size=200),
)
def test_never_more_than_burst_and_rate_allow(per_second: int, burst: int, pauses: list[int]) -> None:
    bucket = Bucket(Rate(per_second=per_second, burst=burst))
    token_ns = SECOND_NS // per_second
    now, given_out = NOW, 0
    for pause in pauses:
        now += pause
        left = bucket.left(now)
        assert 0 <= left <= burst
        taken = bucket.take(now)
        assert taken == (left > 0) == (bucket.wait_ms(now) == 0 or taken)
        given_out += taken
        assert given_out <= burst + (now - NOW) // token_ns


def test_a_table_keeps_what_is_in_use_and_bounds_what_is_idle() -> None:
    table: Table[str, list[str]] = Table(list, idle_max=2)
    budgets = {name: table.acquire(name) for name in "abcd"}
    assert len(table) == 4, "in use: not bounded by idle_max"
    for name in "abc":
        table.release(name)
    assert table.peek("a") is None, "idle for longest: forgotten"
    assert table.peek("b") is budgets["b"]
    assert table.acquire("b") is budgets["b"]
    assert len(table) == 3


def test_a_budget_is_shared_until_its_last_user_lets_go() -> None:
    table: Table[str, list[str]] = Table(list, idle_max=1)
    first = table.acquire("a")
    assert table.acquire("a") is first
    table.release("a")
    for name in "xyz":
        table.acquire(name)
        table.release(name)
    assert table.peek("a") is first, "one user is left"
    table.release("a")
    assert table.peek("a") is first
    table.acquire("x")
    table.release("x")
    assert table.peek("a") is None


def test_letting_go_does_not_refill() -> None:
    limiter = Limiter(RateConfig(requests=Rate(per_second=1, burst=1)))
    assert limiter.accounts.acquire(100).requests.take(NOW)
    limiter.accounts.release(100)
    assert not limiter.accounts.acquire(100).requests.take(NOW)


def test_failed_logins_of_a_key_are_counted_whether_or_not_there_is_such_a_key() -> None:
    limiter = Limiter(RateConfig(), key_failures=Rate(per_second=1, burst=2), idle_max=2)
    assert limiter.key_wait_ms("192.0.2.7", "k-any", NOW) == 0
    limiter.key_failed("192.0.2.7", "k-any", NOW)
    assert limiter.key_wait_ms("192.0.2.7", "k-any", NOW) == 0
    limiter.key_failed("192.0.2.7", "k-any", NOW)
    assert limiter.key_wait_ms("192.0.2.7", "k-any", NOW) == 1_000
    assert limiter.key_wait_ms("192.0.2.7", "k-other", NOW) == 0
    assert limiter.key_wait_ms("192.0.2.8", "k-any", NOW) == 0
    for number in range(10):
        limiter.key_failed("192.0.2.7", f"k-{number}", NOW)
    assert len(limiter.keys) == 2


@pytest.mark.parametrize("rate", [(1, 1), (3, 7), (1_000_000, 1_000_000)])
def test_the_long_run_keeps_the_rate(rate: tuple[int, int]) -> None:
    per_second, burst = rate
    bucket = Bucket(Rate(per_second=per_second, burst=min(burst, 1_000)))
    token_ns = SECOND_NS // per_second
    given_out = sum(bucket.take(NOW + step * token_ns // 2) for step in range(10_000))
    assert given_out <= 5_000 + min(burst, 1_000)
    assert given_out >= 5_000
