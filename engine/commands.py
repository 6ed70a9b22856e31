"""What may be asked of the engine: one frozen Struct per command, and the Entry that sequences it.

Commands are what the journal stores. They are written as MessagePack arrays with a number for a tag; a new field goes last
and has a default, and a number is never used twice, so that old journals stay readable.
"""

from typing import TypeAlias

from msgspec import Struct

from engine.types import MarketSpec, MarketState, OrderType, PostOnly, SelfTradePrevention, Side, TimeInForce


class Place(Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Place an order. Answered by Accepted or Rejected, then a Trade per match, then Canceled for what may not rest.

    ``price`` in ticks (0 for a market order), ``qty`` in lots, ``expires_ns`` for GTD only.
    """

    account: int
    market: str
    side: Side
    order_type: OrderType
    price: int
    qty: int
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: PostOnly = PostOnly.OFF
    reduce_only: bool = False
    self_trade_prevention: SelfTradePrevention = SelfTradePrevention.NONE
    expires_ns: int = 0
    client_order_id: str = ""


class Amend(Struct, frozen=True, array_like=True, gc=False, tag=2):
    """Change an open order's price, total quantity (filled part included), or both; 0 leaves one as it is.

    The order is named by ``order_id``, or, when that is 0, by ``client_order_id``.
    """

    account: int
    order_id: int
    client_order_id: str = ""
    price: int = 0
    qty: int = 0


class Cancel(Struct, frozen=True, array_like=True, gc=False, tag=3):
    """Cancel an open order, named by ``order_id`` or, when that is 0, by ``client_order_id``."""

    account: int
    order_id: int
    client_order_id: str = ""


class CancelAll(Struct, frozen=True, array_like=True, gc=False, tag=4):
    """Cancel an account's open orders, oldest first; ``market`` and ``side`` narrow it (empty, None: all)."""

    account: int
    market: str = ""
    side: Side | None = None
    by_operator: bool = False


class SetDestination(Struct, frozen=True, array_like=True, gc=False, tag=5):
    """Where hashrate bought in ``market`` is to be pointed: a pool's URL and the worker name to use there."""

    account: int
    market: str
    url: str
    worker: str


class CreateAccount(Struct, frozen=True, array_like=True, gc=False, tag=16):
    """Open an account of a unique name. Answered by AccountCreated with its id."""

    name: str


class Deposit(Struct, frozen=True, array_like=True, gc=False, tag=17):
    """Credit ``amount`` msat. A repeat of ``transfer_id`` by the same account returns the first outcome."""

    account: int
    amount: int
    transfer_id: str


class Withdraw(Struct, frozen=True, array_like=True, gc=False, tag=18):
    """Debit ``amount`` msat of what is available. ``transfer_id`` as for Deposit."""

    account: int
    amount: int
    transfer_id: str


class ListMarket(Struct, frozen=True, array_like=True, tag=19):
    """Open a market."""

    spec: MarketSpec


class SetMarketState(Struct, frozen=True, array_like=True, gc=False, tag=20):
    """Change a market's state; CLOSED cancels its orders and cannot be taken back."""

    market: str
    state: MarketState


class ReportWork(Struct, frozen=True, array_like=True, gc=False, tag=21):
    """Proven work of a delivery, in total since its start: repeating a report changes nothing.

    ``excused_hashes`` is work that the buyer's pool made impossible (unreachable, no jobs, valid shares refused); it counts
    as delivered. ``shares`` is the number of shares behind ``hashes``.
    """

    delivery_id: int
    hashes: int
    shares: int
    excused_hashes: int = 0


class Settle(Struct, frozen=True, array_like=True, gc=False, tag=22):
    """Settle every delivery of a market whose period has ended.

    ``index_price`` (ticks, 0 for none) is what replacing the hashrate cost; above the seller's own price it adds to the
    compensation that a breach takes from the bond.
    """

    market: str
    index_price: int = 0


class Tick(Struct, frozen=True, array_like=True, gc=False, tag=23):
    """Nothing but the passing of time: lets due work happen when no other entry does."""


Command: TypeAlias = (
    Place
    | Amend
    | Cancel
    | CancelAll
    | SetDestination
    | CreateAccount
    | Deposit
    | Withdraw
    | ListMarket
    | SetMarketState
    | ReportWork
    | Settle
    | Tick
)


class Entry(Struct, frozen=True, array_like=True, gc=False):
    """A sequenced command: the only thing that changes the engine.

    ``seq`` counts from 1 without gaps; ``ts_ns`` never goes back. Past ``deadline_ns`` (0: none) the command is refused.
    """

    seq: int
    ts_ns: int
    command: Command
    deadline_ns: int = 0
