"""Rate limits: token buckets in integer arithmetic, kept per account and per IP address. Time is a parameter.

A :class:`Bucket` holds no count but the moment at which it will be full again: spending moves that moment ahead by the price
of a token, and a token that would move it further than a whole bucket is refused. It never drifts and needs no timer.
"""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from gateway.config import Bucket as Rate
from gateway.config import RateConfig

SECOND_NS: Final = 1_000_000_000
MS_NS: Final = 1_000_000

IDLE_BUDGETS_MAX: Final = 65_536
"""Accounts, addresses or keys without a socket whose budgets are still remembered, per table. Past it the longest idle one
is forgotten, which fills it."""


IP_LOGINS: Final = Rate(per_second=2, burst=60)
"""Login attempts per IP address."""
KEY_FAILURES: Final = Rate(per_second=1, burst=20)
"""Failed logins per key, known or unknown, from one address. While they are used up the key cannot log in from there. Elsewhere
it can: whoever knows a key's id must not be able to lock its owner out."""
REFUSALS: Final = Rate(per_second=100, burst=2_000)
"""Rate-limit refusals that one socket may collect before it is closed as a flood."""
PROTOCOL_ERRORS: Final = Rate(per_second=10, burst=100)
"""Malformed calls that one socket may send before it is closed as a flood."""


class Bucket:
    """A token bucket of a Rate; starts full."""

    __slots__ = ("_full_ns", "_span_ns", "_token_ns")

    def __init__(self, rate: Rate) -> None:
        self._token_ns = max(1, SECOND_NS // rate.per_second)
        self._span_ns = self._token_ns * rate.burst
        self._full_ns = 0

    def take(self, now_ns: int) -> bool:
        """Spend one token; False when there is none."""
        spent_ns = self._spent_ns(now_ns) + self._token_ns
        if spent_ns > self._span_ns:
            return False
        self._full_ns = now_ns + spent_ns
        return True

    def left(self, now_ns: int) -> int:
        """Whole tokens in the bucket."""
        return (self._span_ns - self._spent_ns(now_ns)) // self._token_ns

    def wait_ms(self, now_ns: int) -> int:
        """Milliseconds until there is a token, rounded up; 0 when there is one."""
        missing_ns = self._spent_ns(now_ns) + self._token_ns - self._span_ns
        return -(-missing_ns // MS_NS) if missing_ns > 0 else 0

    def _spent_ns(self, now_ns: int) -> int:
        """How long until the bucket is full. A clock that was set back by more than that fills it: nobody is locked out until
        the clock is where it had been."""
        spent_ns = self._full_ns - now_ns
        if spent_ns > self._span_ns:
            self._full_ns = now_ns
            return 0
        return spent_ns if spent_ns > 0 else 0


class AccountBudget:
    """What all sockets of one account share."""

    __slots__ = ("cancels", "orders", "requests")

    def __init__(self, rates: RateConfig) -> None:
        self.orders = Bucket(rates.orders)
        self.cancels = Bucket(rates.cancels)
        self.requests = Bucket(rates.requests)


class AddressBudget:
    """What all sockets from one address share: requests until they log in, and logins."""

    __slots__ = ("anonymous", "logins", "requests")

    def __init__(self, rates: RateConfig, ip_logins: Rate) -> None:
        self.requests = Bucket(rates.ip)
        self.logins = Bucket(ip_logins)
        self.anonymous = 0
        """Open sockets from there that are not logged in."""


K = TypeVar("K", bound=Hashable)
B = TypeVar("B")


class Table(Generic[K, B]):
    """Budgets by owner. Those in use stay (their number is that of the sockets); of the others the last ``idle_max`` do."""

    def __init__(self, make: Callable[[], B], idle_max: int = IDLE_BUDGETS_MAX) -> None:
        self._make = make
        self._idle_max = idle_max
        self._in_use: dict[K, tuple[B, int]] = {}
        self._idle: dict[K, B] = {}

    def acquire(self, key: K) -> B:
        """The budget of ``key``, kept until it is released as often as it was acquired."""
        budget, users = self._in_use.get(key, (None, 0))
        if budget is None:
            budget = self._idle.pop(key, None)
            if budget is None:
                budget = self._make()
        self._in_use[key] = (budget, users + 1)
        return budget

    def release(self, key: K) -> None:
        budget, users = self._in_use.pop(key)
        if users > 1:
            self._in_use[key] = (budget, users - 1)
            return
        self._idle[key] = budget
        if len(self._idle) > self._idle_max:
            del self._idle[next(iter(self._idle))]

    def peek(self, key: K) -> B | None:
        """The budget of ``key`` if there is one, without keeping it."""
        found = self._in_use.get(key)
        return found[0] if found is not None else self._idle.get(key)

    def __len__(self) -> int:
        return len(self._in_use) + len(self._idle)


class Limiter:
    """Every budget of the exchange: by account, by address (IPv6: by /64 network), by address and key that failed to log in."""

    def __init__(
        self,
        rates: RateConfig,
        ip_logins: Rate = IP_LOGINS,
        key_failures: Rate = KEY_FAILURES,
        idle_max: int = IDLE_BUDGETS_MAX,
    ) -> None:
        self.accounts: Table[int, AccountBudget] = Table(lambda: AccountBudget(rates), idle_max)
        self.addresses: Table[str, AddressBudget] = Table(lambda: AddressBudget(rates, ip_logins), idle_max)
        self.keys: Table[tuple[str, str], Bucket] = Table(lambda: Bucket(key_failures), idle_max)

    def key_wait_ms(self, group: str, key_id: str, now_ns: int) -> int:
        """How long logins of ``key_id`` from the address ``group`` are refused after failures; 0 when they are not."""
        bucket = self.keys.peek((group, key_id))
        return bucket.wait_ms(now_ns) if bucket is not None else 0

    def key_failed(self, group: str, key_id: str, now_ns: int) -> None:
        """Count a failed login of ``key_id`` from there."""
        self.keys.acquire((group, key_id)).take(now_ns)
        self.keys.release((group, key_id))
