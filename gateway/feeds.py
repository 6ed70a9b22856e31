"""The registry of channels: hands every durable event to the channels that show it, and finds channels by name.

    publish(entry, events)   one durable entry, in order: deltas, trades and account facts go out
    tick(now_ns)             every TICK_MS: what is gathered for so long goes out, and slow readers that have caught up go on

A new kind of feed is a file in gateway/channels/, a line in one of the two classes here, and a part of docs/PROTOCOL.md.
Sans-IO; subscribers are sessions, events come from the sequencer once they are durable.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from engine.commands import Entry
from engine.core import Engine
from engine.events import (
    Accepted,
    Amended,
    AskAmended,
    AskEnded,
    AskPlaced,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidResumed,
    BidStopped,
    Canceled,
    Event,
    FlowChanged,
    FlowPaid,
    IndexSet,
    LiveListed,
    MarketListed,
    MarketStateChanged,
    Reduced,
    Trade,
)
from engine.types import MarketState
from gateway.channels.account import AccountChannel, Accounts, FactLimits, Reads
from gateway.channels.base import Channel, Subscriber, Subscriptions, Terms
from gateway.channels.book import BookChannel, ConflatedBookChannel, Depth
from gateway.channels.live import FlowsChannel, LiveBookChannel, LiveDepth, started
from gateway.channels.live_ticker import LiveTickerChannel
from gateway.channels.status import ServerState, StatusChannel
from gateway.channels.ticker import MINUTE_NS, TickerChannel
from gateway.channels.trades import TradesChannel

TICK_MS: Final = 100
"""How long the conflated channels gather."""

BOOK_EVENTS: Final = (Accepted, Trade, Canceled, Reduced, Amended)
"""Events that may change a book."""

LIVE_EVENTS: Final = (
    FlowChanged,
    FlowPaid,
    BidAmended,
    BidPlaced,
    BidEnded,
    BidStopped,
    BidResumed,
    AskPlaced,
    AskAmended,
    AskEnded,
    IndexSet,
)
"""Events that the channels of a live market show."""


class MarketChannels:
    """One market's projection and its channels."""

    __slots__ = ("book", "book_100ms", "depth", "terms", "ticker", "trades")

    def __init__(self, terms: Terms, last_price: int, subscriptions: Subscriptions) -> None:
        symbol = terms.spec.symbol
        self.terms = terms
        self.depth = Depth(terms)
        self.book = BookChannel(f"book.{symbol}", self.depth, subscriptions)
        self.book_100ms = ConflatedBookChannel(f"book.{symbol}.100ms", self.depth, subscriptions)
        self.trades = TradesChannel(f"trades.{symbol}", terms, subscriptions)
        self.ticker = TickerChannel(f"ticker.{symbol}", self.depth, subscriptions, last_price)

    def all(self) -> Iterator[Channel]:
        yield from (self.book, self.book_100ms, self.trades, self.ticker)

    def publish(self, events: list[Event], ts_ns: int) -> None:
        """The events of one entry that concern this market's book."""
        trades: list[Trade] = []
        for event in events:
            self.depth.apply(event)
            if type(event) is Trade:
                trades.append(event)
        bids, asks = self.depth.bids.take_changes(), self.depth.asks.take_changes()
        if bids or asks:
            self.book.changed(bids, asks, ts_ns)
            self.book_100ms.gather(bids, asks)
            self.ticker.touched()
        if trades:
            self.trades.trades(trades, ts_ns)
            self.ticker.trades(trades)


class LiveChannels:
    """One live market's projection and its channels."""

    __slots__ = ("depth", "flows", "live", "terms", "ticker")

    def __init__(self, terms: Terms, subscriptions: Subscriptions) -> None:
        symbol = terms.spec.symbol
        self.terms = terms
        self.depth = LiveDepth(terms)
        self.live = LiveBookChannel(f"live.{symbol}", self.depth, subscriptions)
        self.flows = FlowsChannel(f"flows.{symbol}", terms, subscriptions)
        self.ticker = LiveTickerChannel(f"ticker.{symbol}", self.depth, subscriptions)

    def all(self) -> Iterator[Channel]:
        yield from (self.live, self.flows, self.ticker)

    def publish(self, events: list[Event], ts_ns: int) -> None:
        """The events of one entry that concern this market."""
        moved: list[FlowChanged] = []
        payments: list[FlowPaid] = []
        for event in events:
            if type(event) is FlowPaid:
                payments.append(event)
                continue
            self.depth.apply(event)
            if type(event) is FlowChanged:
                moved.append(event)
        changes = self.depth.take_changes()
        if changes.any():
            self.live.changed(changes, ts_ns)
        if moved and (starts := started(moved)):
            self.flows.started(starts, ts_ns)
        if payments:
            self.ticker.paid(payments, ts_ns)
        self.ticker.touched()


class Feeds:
    """All channels. Before ``start`` it only remembers what ``load`` gives it."""

    def __init__(self, limits: FactLimits | None = None) -> None:
        """``limits``: of what accounts may resume from."""
        self._limits = limits if limits is not None else FactLimits()
        self._subscriptions = Subscriptions()
        self._markets: dict[str, MarketChannels] = {}
        self._live: dict[str, LiveChannels] = {}
        # Every channel but those of accounts, by name.
        self._public: dict[str, Channel] = {}
        # Of the markets that are listed; the channels read it.
        self._terms: dict[str, Terms] = {}
        # Markets with something to say at the next tick; a dict because order matters.
        self._touched: dict[str, None] = {}
        self._minute = 0
        # What the last entries that recovery replays did, and when.
        self._loaded: deque[tuple[int, list[Event]]] = deque()
        self._loaded_events = 0
        self._status = StatusChannel(self._subscriptions)
        self._public[self._status.name] = self._status

    # ---------------------------------------------------------------------------------------------------------- start

    def load(self, entry: Entry, events: list[Event]) -> None:
        """Remember the events of an entry that recovery replays, if it has any; the latest of them are kept."""
        if events:
            self._loaded.append((entry.ts_ns, events))
            self._loaded_events += len(events)
            # an entry that moves many flows has many events
            while self._loaded_events - len(self._loaded[0][1]) >= self._limits.all_max:
                self._loaded_events -= len(self._loaded.popleft()[1])

    def start(self, engine: Engine, reads: Reads) -> None:
        """Begin where the engine stands, with everything in it durable; ``reads`` is the sequencer."""
        for market in engine.markets.values():
            channels = self._open(Terms(market.spec), market.last_price)
            channels.depth.bids.load(market.book.bids_best_first())
            channels.depth.asks.load(market.book.asks_best_first())
            self._status.load(market.spec, market.state)
        for live in engine.live.markets.values():
            self._open_live(Terms(live.spec)).depth.load(live)
            self._status.load(live.spec, live.state)
        self._accounts = Accounts(engine, reads, self._terms, self._subscriptions, self._limits)
        loaded = [(ts_ns, event) for ts_ns, events in self._loaded for event in events]
        trades: dict[str, list[Trade]] = {symbol: [] for symbol in self._markets}
        for ts_ns, event in loaded[-self._limits.all_max :]:
            self._accounts.load(event, ts_ns)
            if type(event) is Trade and event.market in trades:
                trades[event.market].append(event)
            elif type(event) is MarketListed and event.spec.symbol in trades:
                # What traded under this name before was another market.
                trades[event.spec.symbol].clear()
        self._load_live()
        for symbol, mine in trades.items():
            if mine:
                self._markets[symbol].trades.load(mine)
                self._markets[symbol].ticker.trades(mine)
                self._touched[symbol] = None
        self._loaded.clear()

    def _load_live(self) -> None:
        """What the channels of live markets remember of the time before the start: flows that started, and payments; entry by
        entry, as they were told."""
        starts: dict[str, list[FlowChanged]] = {symbol: [] for symbol in self._live}
        payments: dict[str, list[tuple[int, FlowPaid]]] = {symbol: [] for symbol in self._live}
        for ts_ns, events in self._loaded:
            moved: dict[str, list[FlowChanged]] = {}
            for event in events:
                if type(event) is FlowChanged and event.market in starts:
                    moved.setdefault(event.market, []).append(event)
                elif type(event) is FlowPaid and event.market in payments:
                    payments[event.market].append((ts_ns, event))
                elif type(event) is LiveListed and event.spec.symbol in starts:
                    moved.pop(event.spec.symbol, None)
                    starts[event.spec.symbol].clear()
                    payments[event.spec.symbol].clear()
            for symbol, changes in moved.items():
                starts[symbol] += started(changes)
        for symbol, channels in self._live.items():
            channels.flows.load(starts[symbol])
            for ts_ns, paid in payments[symbol]:
                channels.ticker.paid([paid], ts_ns)
                self._touched[symbol] = None

    # -------------------------------------------------------------------------------------------------------- publish

    def publish(self, entry: Entry, events: list[Event]) -> None:
        """One durable entry. Cost: that of its events, plus one send per message and subscriber."""
        ts_ns = entry.ts_ns
        if len(events) == 1:
            # nearly always: an order that rests, or a cancel
            event = events[0]
            if type(event) is Canceled or (type(event) is Accepted and not event.repeat):
                self._accounts.publish(event, ts_ns)
                self._markets[event.market].publish(events, ts_ns)
                self._touched[event.market] = None
                return
        by_market: dict[str, list[Event]] = {}
        for event in events:
            self._accounts.publish(event, ts_ns)
            if isinstance(event, BOOK_EVENTS):
                # A repeat is an answer and no news; its market may be long gone.
                if not (isinstance(event, Accepted) and event.repeat):
                    by_market.setdefault(event.market, []).append(event)
            elif isinstance(event, MarketListed):
                self._open(Terms(event.spec), 0)
                self._status.apply(event, ts_ns)
            elif isinstance(event, MarketStateChanged):
                self._status.apply(event, ts_ns)
                if event.market in self._live:
                    by_market.setdefault(event.market, []).append(event)
                if event.state is MarketState.SETTLED:
                    # One entry may do all of it: cancel, settle, and list the same symbol anew.
                    self._publish_market(event.market, by_market.pop(event.market, []), ts_ns)
                    self._close(event.market, ts_ns)
            elif isinstance(event, LIVE_EVENTS):
                if not (isinstance(event, BidPlaced | AskPlaced) and event.repeat):
                    by_market.setdefault(event.market, []).append(event)
            elif isinstance(event, LiveListed):
                self._open_live(Terms(event.spec))
                self._status.apply(event, ts_ns)
        for symbol, mine in by_market.items():
            self._publish_market(symbol, mine, ts_ns)

    def _publish_market(self, symbol: str, events: list[Event], ts_ns: int) -> None:
        if events:
            if symbol in self._live:
                self._live[symbol].publish(events, ts_ns)
            else:
                self._markets[symbol].publish(events, ts_ns)
            self._touched[symbol] = None

    def tick(self, now_ns: int) -> None:
        """Call every TICK_MS."""
        touched, self._touched = self._touched, {}
        for symbol in touched:
            if channels := self._markets.get(symbol):
                channels.book_100ms.tick(now_ns)
                channels.ticker.tick(now_ns)
            elif live := self._live.get(symbol):
                live.ticker.tick(now_ns)
        minute = now_ns // MINUTE_NS
        if minute != self._minute:
            # Trades and payments may have left the windows of any ticker.
            self._minute = minute
            for channels in self._markets.values():
                channels.ticker.tick(now_ns)
            for live in self._live.values():
                live.ticker.tick(now_ns)
        for channel in [*self._subscriptions.behind]:
            channel.catch_up(now_ns)

    def announce(self, state: ServerState, now_ns: int) -> None:
        """Tell the status channel what the server is about to do."""
        self._status.server(state, now_ns)

    # ---------------------------------------------------------------------------------------------------- subscribers

    def find(self, name: str, account: int) -> Channel:
        """The channel of that name, as the account may see it (0: nobody is logged in).

        Raises KeyError for an unknown one, PermissionError for one that needs a login.
        """
        if name == "account":
            if not account:
                raise PermissionError("the account channel needs a login")
            return self._accounts.find(account)
        return self._public[name]

    def account(self, account: int) -> AccountChannel:
        """The account's own channel, which can also resume."""
        return self._accounts.find(account)

    def trades(self, symbol: str) -> TradesChannel:
        """A market's trades; raises KeyError for an unknown market."""
        return self._markets[symbol].trades

    def live(self, symbol: str) -> LiveDepth:
        """A live market's levels; raises KeyError for an unknown market."""
        return self._live[symbol].depth

    def remove(self, subscriber: Subscriber) -> None:
        """End all subscriptions of a socket that is gone or logged out."""
        for channel in [*self._subscriptions.of.get(subscriber, {}).values()]:
            channel.remove(subscriber)

    def last_seqs(self, subscriber: Subscriber) -> dict[str, int]:
        """Number of the last message of every channel that the subscriber has."""
        mine = self._subscriptions.of.get(subscriber, {})
        return {name: channel.last_seq(subscriber) for name, channel in mine.items()}

    def has_any(self, subscriber: Subscriber) -> bool:
        """Whether the subscriber has a channel."""
        return subscriber in self._subscriptions.of

    # ------------------------------------------------------------------------------------------------------- markets

    def _open(self, terms: Terms, last_price: int) -> MarketChannels:
        channels = MarketChannels(terms, last_price, self._subscriptions)
        self._markets[terms.spec.symbol] = channels
        self._terms[terms.spec.symbol] = terms
        for channel in channels.all():
            self._public[channel.name] = channel
        return channels

    def _open_live(self, terms: Terms) -> LiveChannels:
        channels = LiveChannels(terms, self._subscriptions)
        self._live[terms.spec.symbol] = channels
        self._terms[terms.spec.symbol] = terms
        for channel in channels.all():
            self._public[channel.name] = channel
        return channels

    def _close(self, symbol: str, ts_ns: int) -> None:
        channels = self._live.pop(symbol).all() if symbol in self._live else self._markets.pop(symbol).all()
        for channel in channels:
            channel.close("settled", ts_ns)
            del self._public[channel.name]
        del self._terms[symbol]
        self._touched.pop(symbol, None)
