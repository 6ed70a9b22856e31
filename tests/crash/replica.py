"""An engine of our own, fed from nothing but the journal and its archives: the judge of what a killed server had promised.

It shares the engine's rules with the server, and none of the server's memory, snapshots, channels or views: what traders were
told on the wire is compared here with the engine's facts, by code that was written from the protocol.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.accounts import Order
from engine.commands import Entry
from engine.core import Engine
from engine.events import Accepted, Amended, BalanceChanged, Canceled, DestinationSet, Event, Reduced, Rejected, Trade
from engine.invariants import check
from engine.snapshot import state_hash
from engine.types import MarketSpec
from gateway.journal import JournalCorrupt, JournalReader, archive_paths
from gateway.recovery import ARCHIVE, JOURNAL
from gateway.scale import MONEY, Scale

Fact = tuple[Event, str]
"""An engine event and the account's role in it (maker, taker; empty for events of one account)."""

ONE_ACCOUNT: Final = (Accepted, Rejected, Canceled, Reduced, Amended, BalanceChanged, DestinationSet)


class Replica:
    """Follows a data directory; ``catch_up`` may be called beside a running server."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.facts: dict[int, dict[int, Fact]] = defaultdict(dict)
        """Every fact of every account, by account and account_seq."""
        self.accepted: dict[tuple[int, str], list[Accepted]] = defaultdict(list)
        """First acceptances (no repeats), by account and client order id."""
        self.transfers: dict[tuple[int, str], list[BalanceChanged]] = defaultdict(list)
        self.canceled: dict[int, Canceled] = {}
        """Orders that ended without a trade, by order id."""
        self.amended: dict[int, list[Amended]] = defaultdict(list)
        self.trades: dict[tuple[str, int], Trade] = {}
        self.balances: dict[int, set[tuple[int, int]]] = defaultdict(lambda: {(0, 0)})
        """(balance, held) that each account had after some entry."""
        self.specs: dict[str, MarketSpec] = {}

    def catch_up(self, data_dir: Path) -> int:
        """Apply what the journal has and this has not; the number of entries."""
        before = self.engine.seq
        while True:
            base_seq = base_of(data_dir)
            try:
                for entry in history(data_dir, self.engine.seq):
                    self._apply(entry)
                return self.engine.seq - before
            except JournalCorrupt:
                # A running server takes rows out that an archive holds; what vanished while it was read is there instead.
                if base_of(data_dir) == base_seq:
                    raise

    def prove(self) -> str:
        """Check every invariant of the engine; its state hash."""
        check(self.engine)
        return state_hash(self.engine)

    def _apply(self, entry: Entry) -> None:
        events = self.engine.apply(entry)
        touched: set[int] = set()
        for event in events:
            for account, seq, fact in facts_of(event):
                assert seq not in self.facts[account], f"account {account} has two facts {seq}"
                self.facts[account][seq] = fact
                touched.add(account)
            if isinstance(event, Accepted) and not event.repeat:
                self.accepted[event.account, event.client_order_id].append(event)
            elif isinstance(event, BalanceChanged) and not event.repeat:
                self.transfers[event.account, event.transfer_id].append(event)
            elif isinstance(event, Trade):
                self.trades[event.market, event.trade_id] = event
            elif isinstance(event, Canceled):
                assert event.order_id not in self.canceled, f"order {event.order_id} was canceled twice"
                self.canceled[event.order_id] = event
            elif isinstance(event, Amended):
                self.amended[event.order_id].append(event)
        for market in self.engine.markets.values():
            self.specs.setdefault(market.symbol, market.spec)
        for account in touched:
            self.balances[account].add((self.engine.accounts[account].balance, self.engine.accounts[account].held))

    # ------------------------------------------------------------------------------------------- the wire, in our own words

    def price(self, market: str, ticks: int) -> str:
        return Scale(self.specs[market].tick_size).format(ticks)

    def qty(self, market: str, lots: int) -> str:
        return Scale(self.specs[market].lot_size).format(lots)

    def order(self, account: int, client_order_id: str) -> Order | None:
        """The order that a client order id stands for, open or closed."""
        found = self.engine.accounts[account].outcomes.get(client_order_id)
        return found if isinstance(found, Order) else None

    def order_text(self, order: Order) -> dict[str, Any]:
        """An order as the ``order`` method has to show it."""
        return {
            "order_id": order.order_id,
            "client_order_id": order.client_order_id,
            "market": order.market,
            "side": "buy" if order.is_buy else "sell",
            "status": order.status.name.lower(),
            "price": self.price(order.market, order.price),
            "qty": self.qty(order.market, order.qty),
            "filled_qty": self.qty(order.market, order.filled),
            "remaining_qty": self.qty(order.market, order.remaining),
        }

    def fill_text(self, trade: Trade, role: str) -> dict[str, Any]:
        """One half of a trade as fills show it."""
        maker = role == "maker"
        taker_buys = trade.aggressor_side.name == "BUY"
        return {
            "trade_id": trade.trade_id,
            "order_id": trade.maker_order_id if maker else trade.taker_order_id,
            "client_order_id": trade.maker_client_order_id if maker else trade.taker_client_order_id,
            "market": trade.market,
            "side": "buy" if taker_buys is not maker else "sell",
            "price": self.price(trade.market, trade.price),
            "qty": self.qty(trade.market, trade.qty),
            "remaining_qty": self.qty(trade.market, trade.maker_remaining if maker else trade.taker_remaining),
            "fee": MONEY.format(trade.maker_fee if maker else trade.taker_fee),
            "realized": MONEY.format(trade.maker_realized if maker else trade.taker_realized),
            "liquidity": role,
            "ts_us": trade.ts_ns // 1_000,
        }

    def event_text(self, fact: Fact) -> dict[str, Any]:
        """What a message of the account channel has to say of a fact, as far as it is compared."""
        event, role = fact
        match event:
            case Trade():
                maker = role == "maker"
                return {
                    "event": "fill",
                    **self.fill_text(event, role),
                    "balance": MONEY.format(event.maker_balance if maker else event.taker_balance),
                    "held": MONEY.format(event.maker_held if maker else event.taker_held),
                }
            case Accepted():
                return {
                    "event": "accepted",
                    "order_id": event.order_id,
                    "client_order_id": event.client_order_id,
                    "market": event.market,
                    "side": event.side.name.lower(),
                    "price": self.price(event.market, event.price),
                    "qty": self.qty(event.market, event.qty),
                    "balance": MONEY.format(event.balance),
                    "held": MONEY.format(event.held),
                }
            case Rejected():
                return {"event": "rejected", "client_order_id": event.client_order_id}
            case Canceled():
                return {
                    "event": "canceled",
                    "order_id": event.order_id,
                    "market": event.market,
                    "reason": event.reason.name.lower(),
                    "balance": MONEY.format(event.balance),
                    "held": MONEY.format(event.held),
                }
            case Reduced():
                return {
                    "event": "reduced",
                    "order_id": event.order_id,
                    "reason": event.reason.name.lower(),
                    "remaining_qty": self.qty(event.market, event.remaining_qty),
                    "held": MONEY.format(event.held),
                }
            case Amended():
                return {
                    "event": "amended",
                    "order_id": event.order_id,
                    "price": self.price(event.market, event.price),
                    "qty": self.qty(event.market, event.qty),
                    "balance": MONEY.format(event.balance),
                    "held": MONEY.format(event.held),
                }
            case BalanceChanged():
                return {
                    "event": "balance",
                    "amount": MONEY.format(event.amount),
                    "transfer_id": event.transfer_id,
                    "balance": MONEY.format(event.balance),
                    "held": MONEY.format(event.held),
                }
            case DestinationSet():
                return {"event": "destination", "market": event.market, "url": event.url, "worker": event.worker}
            case _:
                raise AssertionError(f"the crash campaign makes no {type(event).__name__}")

    def balance_text(self, account: int) -> dict[str, str]:
        found = self.engine.accounts[account]
        return {
            "balance": MONEY.format(found.balance),
            "held": MONEY.format(found.held),
            "available": MONEY.format(found.balance - found.held),
        }


def facts_of(event: Event) -> Iterator[tuple[int, int, Fact]]:
    """The accounts that an event is a new fact for: ``(account, account_seq, fact)``."""
    if isinstance(event, Trade):
        yield event.maker_account, event.maker_seq, (event, "maker")
        yield event.taker_account, event.taker_seq, (event, "taker")
    elif isinstance(event, ONE_ACCOUNT) and event.account_seq and not getattr(event, "repeat", False):
        yield event.account, event.account_seq, (event, "")


def history(data_dir: Path, after_seq: int) -> Iterator[Entry]:
    """The entries after ``after_seq``: from the archives as far as they reach, the rest from the journal."""
    with JournalReader(data_dir / JOURNAL) as journal:
        for path in archive_paths(data_dir / ARCHIVE):
            if after_seq >= journal.base_seq:
                break
            with JournalReader(path) as archive:
                assert archive.epoch == journal.epoch, f"{path} is of another journal"
                if archive.last_seq > after_seq:
                    for entry in archive.entries(after_seq):
                        after_seq = entry.seq
                        yield entry
        yield from journal.entries(after_seq)


def base_of(data_dir: Path) -> int:
    """The last entry that is not in the journal any more."""
    with JournalReader(data_dir / JOURNAL) as journal:
        return journal.base_seq


def replay(data_dir: Path) -> Engine:
    """A fresh engine that applied the whole history from entry 1."""
    replica = Replica()
    replica.catch_up(data_dir)
    return replica.engine
