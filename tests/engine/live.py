"""A live market on its own, and commands in few words: what tests of live markets share.

Prices in satoshi per PH/s per day (ticks), speeds in lots of 0.001 PH/s, money in msat: one lot at one tick costs 1 msat a day.
"""

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from engine.commands import (
    AmendAsk,
    AmendBid,
    Cancel,
    Command,
    CreateAccount,
    Deposit,
    Entry,
    ListLive,
    PlaceAsk,
    PlaceBid,
    ReportFlow,
    Tick,
)
from engine.core import Engine
from engine.events import AskPlaced, BidPlaced, Event, FlowChanged
from engine.invariants import check
from engine.limits import DAY_NS, SECOND_NS, Limits
from engine.types import LiveSpec, Peg

START_NS: Final = 1_800_000_000 * SECOND_NS
HOUR_NS: Final = DAY_NS // 24
POOL: Final = "stratum+tcp://pool.example:3333"
LIVE: Final = LiveSpec(
    symbol="SHA256-LIVE",
    algorithm="SHA256",
    speed_unit="PH/s",
    tick_size="0.00000001",
    lot_size="0.001",
    tick_lot_msat=1,
    lot_hashrate=10**12,
    price_max=1_000_000,
    speed_max=1_000_000,
)

E = TypeVar("E")


class Live:
    """An engine with one live market; time stands still until somebody lets it pass. ``check`` after every command."""

    def __init__(self, *names: str, money: int = 10**12, limits: Limits | None = None, **terms: Any) -> None:
        self.engine = Engine(limits)
        self.ts_ns = START_NS
        self.spec = replace(LIVE, **terms)
        self.accounts: dict[str, int] = {}
        self.events: list[Event] = []
        self.apply(ListLive(self.spec))
        for name in names:
            self.apply(CreateAccount(name))
            self.accounts[name] = self.engine.next_account - 1
            self.apply(Deposit(self.accounts[name], money, "first"))

    @property
    def market(self) -> Any:
        return self.engine.live.markets[self.spec.symbol]

    def apply(self, command: Command) -> list[Event]:
        self.events = self.engine.apply(Entry(self.engine.seq + 1, self.ts_ns, command))
        check(self.engine)
        return self.events

    def wait(self, ns: int) -> list[Event]:
        """Let time pass; what fell due."""
        self.ts_ns += ns
        return self.apply(Tick())

    def bid(self, who: str, price: int, limit: int = 0, budget: int = 10**10, **more: Any) -> int:
        """Place a bid that is taken; its id."""
        placed = self.apply(PlaceBid(self.accounts[who], self.spec.symbol, price, limit, budget, POOL, "w", **more))[0]
        assert isinstance(placed, BidPlaced), placed
        return placed.order_id

    def peg(self, who: str, peg: Peg, offset: int, cap: int, limit: int = 0, floor: int = 0, budget: int = 10**10) -> int:
        return self.bid(who, cap, limit, budget, peg=peg, offset=offset, floor=floor)

    def ask(self, who: str, price: int, speed: int, **more: Any) -> int:
        """Place an ask that is taken; its id."""
        placed = self.apply(PlaceAsk(self.accounts[who], self.spec.symbol, price, speed, **more))[0]
        assert isinstance(placed, AskPlaced), placed
        return placed.order_id

    def amend(self, order_id: int, price: int = 0, size: int = -1) -> list[Event]:
        order = self.engine.live.orders[order_id]
        account = order.account.account_id
        if order.is_buy:
            return self.apply(AmendBid(account, order_id, "", price, size))
        return self.apply(AmendAsk(account, order_id, "", price, max(size, 0)))

    def cancel(self, order_id: int) -> list[Event]:
        return self.apply(Cancel(self.engine.live.orders[order_id].account.account_id, order_id))

    def report(self, flow_id: int, hashes: int, final: bool = False) -> list[Event]:
        return self.apply(ReportFlow(flow_id, hashes, final))

    def speed(self, order_id: int) -> int:
        return self.engine.live.orders[order_id].assigned

    def price(self, order_id: int) -> int:
        return self.engine.live.orders[order_id].price

    def flows(self) -> list[tuple[int, int, int]]:
        """``(bid, ask, speed)`` of those that run, by flow id."""
        return [(f.bid.order_id, f.ask.order_id, f.speed) for f in self.engine.live.flowing.by_id.values() if f.speed]

    def told(self, kind: type[E]) -> list[E]:
        """The last command's events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def moved(self) -> list[tuple[int, int, int, int]]:
        """``(bid, ask, old speed, speed)`` of the flows that the last command moved."""
        return [(e.bid_id, e.ask_id, e.old_speed, e.speed) for e in self.told(FlowChanged)]
