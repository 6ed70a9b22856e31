"""Who has what: accounts, their positions and their orders. Data, and no rules: those are in ledger, risk and matching."""

from typing import Any, Final, TypeAlias

from mypy_extensions import mypyc_attr

from engine.book import Resting
from engine.crossing import Slot
from engine.events import Accepted, AskPlaced, BalanceChanged, BidPlaced, BidRefilled, Rejected
from engine.limits import CLIENT_ORDER_ID_CHARS_MAX
from engine.members import BUY, LIMIT, MARKET, ORDER_OPEN, SELL
from engine.types import FIRST_ACCOUNT, OrderStatus, OrderType, PostOnly, SelfTradePrevention, TimeInForce

_isascii: Final = str.isascii


class Listing:
    """A market as its orders know it. Of a market that was forgotten before a restore this is all there is."""

    __slots__ = ("symbol",)

    def __init__(self, symbol: str) -> None:
        self.symbol: str = symbol


class Position:
    """An account's net position in one market.

    Long (``qty`` > 0): ``basis`` is what it paid. Short (< 0): ``basis`` is its proceeds, which wait in the contract, and
    ``bond`` what secures delivery. ``realized`` sums the profit of everything closed.
    """

    __slots__ = ("basis", "bond", "qty", "realized", "reduce_only", "reduce_only_qty")

    def __init__(self) -> None:
        self.qty: int = 0
        self.basis: int = 0
        self.bond: int = 0
        self.realized: int = 0
        # ids of open reduce-only orders, ascending (all on the side that reduces), and the sum of what remains of them
        self.reduce_only: list[int] = []
        self.reduce_only_qty: int = 0


class Account:
    """One account: ``balance`` is all its cash, ``held`` the part of it that open orders reserve."""

    __slots__ = (
        "account_id",
        "balance",
        "bought_flows",
        "destinations",
        "event_seq",
        "flows",
        "held",
        "latest",
        "latest_position",
        "live",
        "name",
        "orders",
        "outcomes",
        "pools",
        "positions",
    )

    def __init__(self, account_id: int, name: str) -> None:
        self.account_id: int = account_id
        self.name: str = name
        self.balance: int = 0
        self.held: int = 0
        # number of the last fact about this account
        self.event_seq: int = 0
        self.orders: dict[int, Order] = {}
        self.positions: dict[str, Position] = {}
        # the market that it traded in last, and its position there
        self.latest: Listing | None = None
        self.latest_position: Position | None = None
        # first outcome by client_order_id, of transfers by "transfer:" + transfer_id, of refills by "refill:" + refill_id
        self.outcomes: dict[str, Outcome] = {}
        self.destinations: dict[str, tuple[str, str]] = {}
        # open orders of live markets
        self.live: dict[int, Standing] = {}
        # flows (engine.markets.live.Flow) that it buys or sells and that are not done with
        self.flows: dict[int, Any] = {}
        # how many of them it buys
        self.bought_flows: int = 0
        self.pools: dict[int, Pool] = {}


class Pool:
    """A mining pool that an account gave a name; bids copy its ``url`` and ``worker``."""

    __slots__ = ("algorithm", "name", "password", "pool_id", "url", "worker")

    def __init__(self, pool_id: int, name: str, algorithm: str, url: str, worker: str, password: str) -> None:
        self.pool_id: int = pool_id
        self.name: str = name
        self.algorithm: str = algorithm
        self.url: str = url
        self.worker: str = worker
        self.password: str = password


class Accounts:
    """All accounts, by id and in order of their ids. Ids have no gap but the one before FIRST_ACCOUNT, so a list finds one."""

    __slots__ = ("_by_id", "_count")

    def __init__(self) -> None:
        self._by_id: list[Account | None] = [None] * FIRST_ACCOUNT
        self._count: int = 0

    def get(self, account_id: int) -> Account | None:
        """The account of that id; None when there is none, whatever the number."""
        if 0 <= account_id < len(self._by_id):
            return self._by_id[account_id]
        return None

    def __getitem__(self, account_id: int) -> Account:
        account = self.get(account_id)
        if account is None:
            raise KeyError(account_id)
        return account

    def __contains__(self, account_id: int) -> bool:
        return self.get(account_id) is not None

    def __len__(self) -> int:
        return self._count

    def add(self, account: Account) -> None:
        """Add an account: the house's, or the one that comes next."""
        account_id = account.account_id
        if account_id < FIRST_ACCOUNT:
            assert account_id > 0, f"{account_id} is no account's id"
            assert account_id not in self, f"account {account_id} is there already"
            self._by_id[account_id] = account
        else:
            assert account_id == len(self._by_id), f"account {account_id} does not come next"
            self._by_id.append(account)
        self._count += 1

    def values(self) -> list[Account]:
        """All of them. O(accounts)."""
        return [account for account in self._by_id if account is not None]

    def items(self) -> list[tuple[int, Account]]:
        """All of them, with their ids. O(accounts)."""
        return [(account.account_id, account) for account in self._by_id if account is not None]


@mypyc_attr(acyclic=True)
class Standing(Slot):
    """An order of a live market. It stands until somebody ends it."""

    __slots__ = ("account", "client_order_id", "ended", "expires_ns", "forget", "listing", "shade", "ts_ns")

    def __init__(
        self,
        order_id: int,
        account: Account,
        listing: Listing,
        is_buy: bool,
        price: int,
        size: int,
        expires_ns: int,
        client_order_id: str,
        ts_ns: int,
    ) -> None:
        super().__init__(order_id, is_buy, price, size)
        self.account: Account = account
        self.listing: Listing = listing
        # 0: until it is canceled
        self.expires_ns: int = expires_ns
        self.client_order_id: str = client_order_id
        self.ts_ns: int = ts_ns
        self.ended: bool = False
        # its place in the crossing without the bids that follow the margin, while there are such bids
        self.shade: Slot | None = None
        # its client_order_id outlived its time while it stood: forget it when it ends
        self.forget: bool = False

    @property
    def market(self) -> str:
        """The market's symbol."""
        return self.listing.symbol


@mypyc_attr(acyclic=True)
class Order(Resting):
    """One order, open or closed. While it is open ``qty == filled + remaining``; a closed one has nothing remaining.

    It outlives its place in the book: as long as its client_order_id is remembered, it is the answer to repeats.
    """

    __slots__ = (
        "account",
        "account_seq",
        "answer",
        "client_order_id",
        "expires_ns",
        "filled",
        "forget",
        "id_object",
        "is_limit",
        "listing",
        "post_only",
        "qty",
        "reduce_only",
        "self_trade_prevention",
        "status",
        "time_in_force",
        "ts_ns",
        "unit_hold",
    )

    def __init__(
        self,
        id_object: Any,
        account: Account,
        listing: Listing,
        is_buy: bool,
        order_type: OrderType,
        price: int,
        qty: int,
        time_in_force: TimeInForce,
        post_only: PostOnly,
        reduce_only: bool,
        self_trade_prevention: SelfTradePrevention,
        expires_ns: int,
        client_order_id: str,
        ts_ns: int,
        account_seq: int,
        unit_hold: int,
    ) -> None:
        # the order_id as Account.orders has it: an order is found at once by the very object that it is filed under
        self.id_object: Any = id_object
        self.order_id = id_object
        self.price = price
        self.remaining = qty
        self.level = None
        self.prev = None
        self.next = None
        self.is_buy = is_buy
        self.reduce_only: bool = reduce_only
        # its client_order_id outlived its time while the order was open: forget it when the order closes
        self.forget: bool = False
        # one byte beside the other bools, where the order type would take a word of every order's memory
        self.is_limit: bool = order_type is LIMIT
        self.account: Account = account
        self.listing: Listing = listing
        self.qty: int = qty
        self.filled: int = 0
        self.time_in_force: TimeInForce = time_in_force
        self.post_only: PostOnly = post_only
        self.self_trade_prevention: SelfTradePrevention = self_trade_prevention
        self.expires_ns: int = expires_ns
        self.client_order_id: str = client_order_id
        self.ts_ns: int = ts_ns
        # number of the fact that took the order
        self.account_seq: int = account_seq
        # msat held per remaining lot, fixed when the order enters the book or re-enters it
        self.unit_hold: int = unit_hold
        self.status: OrderStatus = ORDER_OPEN
        # the first answer, where it cannot be told from the order any more: it traded at once, or was amended
        self.answer: Accepted | None = None

    @property
    def order_type(self) -> OrderType:
        return LIMIT if self.is_limit else MARKET

    @property
    def market(self) -> str:
        """The market's symbol."""
        return self.listing.symbol


Outcome: TypeAlias = Order | Rejected | BalanceChanged | BidPlaced | AskPlaced | BidRefilled
"""What was first said to a command that carries the client's own id; an order stands for how it was accepted."""


def is_client_order_id(text: str) -> bool:
    """1 to 36 characters of A-Z a-z 0-9 . _ - (no colon: that marks transfers among the remembered outcomes)."""
    if not 0 < len(text) <= CLIENT_ORDER_ID_CHARS_MAX or not _isascii(text):
        return False
    if text.isalnum():
        return True
    rest = text.replace("-", "").replace("_", "").replace(".", "")
    return not rest or rest.isalnum()


def answer_of(order: Order, price: int, qty: int, filled: int, resting: int, balance: int, held: int) -> Accepted:
    """How the order was accepted: its ``price`` (ticks) and ``qty`` (lots) of then, what of it filled at once and came to rest,
    and the account's money (msat)."""
    return Accepted(
        order.account.account_id,
        order.account_seq,
        order.order_id,
        order.client_order_id,
        order.listing.symbol,
        BUY if order.is_buy else SELL,
        order.order_type,
        price,
        qty,
        filled,
        resting,
        order.time_in_force,
        order.post_only,
        order.reduce_only,
        order.self_trade_prevention,
        order.expires_ns,
        order.ts_ns,
        balance,
        held,
    )


def first_answer(order: Order) -> Accepted:
    """The answer that was kept; else the order came to rest whole and is as it was, and the account's money is that of now."""
    if order.answer is not None:
        return order.answer
    return answer_of(order, order.price, order.qty, 0, order.qty, order.account.balance, order.account.held)


def keep_answer(order: Order) -> None:
    """Before an order's price or quantity changes: keep what repeats of its client_order_id are to be told."""
    if order.answer is None and order.client_order_id:
        order.answer = first_answer(order)
