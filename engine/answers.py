"""What every kind of market needs to answer: who is there, what time it is, refusals, and the memory of first outcomes.

A command that carries the client's own id is done once: its first outcome is remembered for ``client_order_id_ns``, and never
shorter than its order lives, and a repeat is told the same again.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from engine.accounts import Account, Accounts, Order, Outcome, first_answer, is_client_order_id
from engine.due import NEVER, Due
from engine.events import AskPlaced, BidPlaced, Event, Rejected, replace
from engine.limits import CLIENT_ORDER_ID_CHARS_MAX, URL_CHARS_MAX, WORKER_CHARS_MAX, Limits
from engine.markets.dated import Market
from engine.members import MARKET_HALTED, ORDER_OPEN
from engine.rejects import RejectCode
from engine.types import FEES_ACCOUNT, FIRST_ACCOUNT, INSURANCE_ACCOUNT, MarketState

URL_SCHEMES: Final = ("stratum+tcp://", "stratum+ssl://")

CLOSED_FOR_PLACING: Final = {
    MarketState.CANCEL_ONLY: RejectCode.MARKET_CANCEL_ONLY,
    MARKET_HALTED: RejectCode.MARKET_HALTED,
    MarketState.CLOSED: RejectCode.MARKET_CLOSED,
}


class Answers:
    """The part of the engine's state that answers need. :class:`engine.core.Engine` is one."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits: Limits = limits if limits is not None else Limits()
        self.client_order_ids_max: int = self.limits.client_order_ids_per_account_max
        self.seq: int = 0
        self.ts_ns: int = 0
        self.fees: Account = Account(FEES_ACCOUNT, "fees")
        self.insurance: Account = Account(INSURANCE_ACCOUNT, "insurance")
        self.accounts: Accounts = Accounts()
        self.accounts.add(self.fees)
        self.accounts.add(self.insurance)
        self.next_account: int = FIRST_ACCOUNT
        # dated markets by symbol
        self.markets: dict[str, Market] = {}
        self.due: Due = Due()
        # when the oldest outcome is to be forgotten; NEVER when there is none
        self.forget_ns: int = NEVER
        # every remembered outcome, oldest first: an order knows its time, account and key, others come with
        # (placed_ns, account, key)
        self.remembered: deque[Order | tuple[int, int, str]] = deque()
        self.queue: Callable[[Order | tuple[int, int, str]], None] = self.remembered.append

    def remember(self, account: Account, key: str, outcome: Outcome, ts_ns: int) -> None:
        """Keep the first outcome of ``key``; the account has none of it yet."""
        account.outcomes[key] = outcome
        if self.forget_ns == NEVER:
            self.forget_ns = ts_ns + self.limits.client_order_id_ns
        self.queue(outcome if isinstance(outcome, Order) else (ts_ns, account.account_id, key))

    def forget(self, ts_ns: int) -> None:
        """Drop the outcomes whose time is over; those of open orders go with the order."""
        remembered = self.remembered
        while self.forget_ns <= ts_ns:
            _, account_id, key = memory(remembered.popleft())
            account = self.accounts[account_id]
            outcome = account.outcomes[key]
            if isinstance(outcome, Order) and outcome.status is ORDER_OPEN:
                outcome.forget = True
            elif isinstance(outcome, BidPlaced | AskPlaced) and outcome.order_id in account.live:
                account.live[outcome.order_id].forget = True
            else:
                del account.outcomes[key]
            self.forget_ns = memory(remembered[0])[0] + self.limits.client_order_id_ns if remembered else NEVER

    def recall(self, remembered: list[Order | tuple[int, int, str]]) -> None:
        """Remember what a snapshot tells of, oldest first, after what is there. The accounts know the outcomes already."""
        if remembered and not self.remembered:
            self.forget_ns = memory(remembered[0])[0] + self.limits.client_order_id_ns
        self.remembered.extend(remembered)

    def refuse(
        self,
        out: list[Event],
        code: RejectCode,
        bound: int = 0,
        account: Account | None = None,
        order_id: int = 0,
        client_order_id: str = "",
        market: str = "",
    ) -> Rejected:
        """Say that a command is refused."""
        account_id = account_seq = 0
        if account is not None:
            account.event_seq += 1
            account_seq = account.event_seq
            account_id = account.account_id
        rejected = Rejected(account_id, account_seq, code, bound, order_id, client_order_id, market)
        out.append(rejected)
        return rejected

    def refuse_new(
        self,
        code: RejectCode,
        bound: int,
        account: Account,
        name: str,
        market: str,
        out: list[Event],
        prefix: str = "",
        order_id: int = 0,
    ) -> None:
        """Refuse what carries a new id (``name``), unless it is a repeat; before ``code`` come the refusals of the id.

        ``prefix`` tells ids of one kind from those of another among the outcomes; ``order_id`` is the order that is named.
        """
        if not name and not prefix:
            self.refuse(out, code, bound, account, order_id, name, market)
            return
        if self.repeated(account, name, out, prefix):
            return
        if not is_client_order_id(name):
            self.refuse(out, RejectCode.CLIENT_ORDER_ID_INVALID, CLIENT_ORDER_ID_CHARS_MAX, account, order_id, name, market)
            return
        full = len(account.outcomes) >= self.client_order_ids_max
        if full and code is not RejectCode.DEADLINE_PASSED:
            code, bound = RejectCode.CLIENT_ORDER_IDS_FULL, self.client_order_ids_max
        rejected = self.refuse(out, code, bound, account, order_id, name, market)
        if not full:
            self.remember(account, prefix + name, rejected, self.ts_ns)

    def is_new(self, account: Account, name: str, prefix: str = "") -> bool:
        """Whether a command of that id may be done: the id is well-formed, was not used, and there is room for it."""
        return (
            is_client_order_id(name)
            and len(account.outcomes) < self.client_order_ids_max
            and (prefix + name) not in account.outcomes
        )

    def repeated(self, account: Account, name: str, out: list[Event], prefix: str = "") -> bool:
        """Whether that id was used before; then its first outcome is told again."""
        first = account.outcomes.get(prefix + name)
        if first is None:
            return False
        out.append(_repeat(first, account))
        return True


def memory(item: Order | tuple[int, int, str]) -> tuple[int, int, str]:
    """When an outcome was first given, to which account, under which key."""
    if isinstance(item, Order):
        return item.ts_ns, item.account.account_id, item.client_order_id
    return item


def _repeat(outcome: Outcome, account: Account) -> Event:
    """A first outcome, marked as a repeat; the account's money is that of now."""
    if isinstance(outcome, Rejected):
        return replace(outcome, repeat=True)
    if isinstance(outcome, Order):
        return replace(first_answer(outcome), repeat=True, balance=account.balance, held=account.held)
    return replace(outcome, repeat=True, balance=account.balance, held=account.held)


def is_destination(url: str, worker: str) -> bool:
    """A stratum URL with host and port, and a worker name, both printable ASCII without blanks."""
    if not url.startswith(URL_SCHEMES) or len(url) > URL_CHARS_MAX or not 0 < len(worker) <= WORKER_CHARS_MAX:
        return False
    if not (_is_graphic(url) and _is_graphic(worker)):
        return False
    host, _, port = url.partition("://")[2].rpartition(":")
    return bool(host) and "/" not in host and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65_535


def _is_graphic(text: str) -> bool:
    """Printable ASCII without blanks."""
    return text.isascii() and text.isprintable() and " " not in text
