"""What may be asked of the engine: one frozen Struct per command, and the Entry that sequences it.

Commands are what the journal stores. They are written as MessagePack arrays with a number for a tag; a new field goes last
and has a default, and a number is never used twice, so that old journals stay readable.
"""

from typing import TypeAlias

from msgspec import Struct

from engine.types import (
    LiveSpec,
    MarketSpec,
    MarketState,
    OrderType,
    Peg,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)


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


class PlaceBid(Struct, frozen=True, array_like=True, gc=False, tag=6):
    """Bid for hashrate in a live market. Answered by BidPlaced or Rejected.

    ``price`` in ticks: what the bid pays, or, pegged, the most it ever pays. ``limit`` in lots, 0 for as much as there is.
    ``budget`` in msat, fees on the work included. ``url`` and ``worker``: the pool that the hashrate is pointed at. Pegged, the
    price is what the bid follows plus ``offset`` ticks, at least ``floor`` (0: the market's lowest). ``expires_ns`` 0 is
    the market's longest life.
    """

    account: int
    market: str
    price: int
    limit: int
    budget: int
    url: str
    worker: str
    peg: Peg = Peg.NONE
    offset: int = 0
    floor: int = 0
    expires_ns: int = 0
    client_order_id: str = ""


class PlaceAsk(Struct, frozen=True, array_like=True, gc=False, tag=7):
    """Offer ``speed`` lots of hashrate in a live market for at least ``price`` ticks.

    Answered by AskPlaced or Rejected. ``expires_ns`` 0: until it is canceled.
    """

    account: int
    market: str
    price: int
    speed: int
    expires_ns: int = 0
    client_order_id: str = ""


class AmendBid(Struct, frozen=True, array_like=True, gc=False, tag=8):
    """Change what a live bid pays (``price``, pegged: at most), its ``limit``, its pool, or several of them.

    ``price`` 0, ``limit`` -1 and an empty ``url`` leave each as it is; ``limit`` 0 takes it away. Named as for Amend.
    """

    account: int
    order_id: int
    client_order_id: str = ""
    price: int = 0
    limit: int = -1
    url: str = ""
    worker: str = ""


class AmendAsk(Struct, frozen=True, array_like=True, gc=False, tag=9):
    """Change a live ask's least ``price``, its ``speed``, or both; 0 leaves one as it is. Named as for Amend."""

    account: int
    order_id: int
    client_order_id: str = ""
    price: int = 0
    speed: int = 0


class RefillBid(Struct, frozen=True, array_like=True, gc=False, tag=10):
    """Add ``amount`` msat to a live bid's budget. A repeat of ``refill_id`` by the same account returns the first outcome."""

    account: int
    order_id: int
    client_order_id: str
    amount: int
    refill_id: str


class SavePool(Struct, frozen=True, array_like=True, gc=False, tag=11):
    """Remember a pool by a name, so that bids can be pointed at it; ``pool_id`` 0 makes a new one, another one changes it."""

    account: int
    pool_id: int
    name: str
    algorithm: str
    url: str
    worker: str
    password: str = "x"  # noqa: S105  what pools take that ask for none


class DeletePool(Struct, frozen=True, array_like=True, gc=False, tag=12):
    """Forget a pool. Bids that were placed with it keep their destination."""

    account: int
    pool_id: int


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


class ListLive(Struct, frozen=True, array_like=True, tag=24):
    """Open a live market."""

    spec: LiveSpec


class ReportFlow(Struct, frozen=True, array_like=True, gc=False, tag=25):
    """Proven work of a flow, in total since its start: repeating a report changes nothing. Answered by FlowPaid.

    ``final``: there will be no more; a flow that has ended is done with.
    """

    flow_id: int
    hashes: int
    final: bool = False


class SetIndex(Struct, frozen=True, array_like=True, gc=False, tag=26):
    """Tell a live market the index price, in ticks; 0: there is none."""

    market: str
    price: int


Command: TypeAlias = (
    Place
    | Amend
    | Cancel
    | CancelAll
    | SetDestination
    | PlaceBid
    | PlaceAsk
    | AmendBid
    | AmendAsk
    | RefillBid
    | SavePool
    | DeletePool
    | CreateAccount
    | Deposit
    | Withdraw
    | ListMarket
    | SetMarketState
    | ReportWork
    | Settle
    | ListLive
    | ReportFlow
    | SetIndex
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
