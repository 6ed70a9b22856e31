"""The push feed: STOMP 1.2 frames over a websocket, of everything that changes in a market's orders.

    /tradingview/order-changes/{algorithm}/{market}        a snapshot, then every change
    /tradingview/candlesticks/{algorithm}/{timeframe}      the candles so far, then the newest every minute

Only what is durable is told: the feed is fed with durable events and reads the projection of them. Sans-IO: the HTTP edge
carries whole websocket messages; the frames are stompman's.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from stompman.frames import (
    ConnectedFrame,
    ConnectFrame,
    DisconnectFrame,
    ErrorFrame,
    HeartbeatFrame,
    MessageFrame,
    ReceiptFrame,
    StompFrame,
    SubscribeFrame,
    UnsubscribeFrame,
)
from stompman.serde import FrameParser, dump_frame

from engine.events import BidAmended, BidEnded, BidPlaced, BidRefilled, BidResumed, Event, FlowChanged
from engine.types import FlowCause
from gateway.nicehash import ids
from gateway.nicehash.answers import encode
from gateway.nicehash.catalog import MARKETS, Catalog, Quoted
from gateway.nicehash.history import TIMEFRAMES, Candle, History, Market, Placed
from gateway.nicehash.units import Units, money_text
from gateway.nicehash.views import ratio_text

MESSAGE_BYTES_MAX: Final = 4_096
"""Longest message of a client; a frame of this feed is much shorter."""
SUBSCRIPTIONS_MAX: Final = 32
"""Subscriptions of one connection, each to something else."""
SUBSCRIBERS_MAX: Final = 1_000
"""Subscriptions of all connections."""
SNAPSHOT_ORDERS_MAX: Final = 10_000
"""Orders of one snapshot: those that pay best."""
ROWS_PER_TOKEN: Final = 500
"""A message costs the address a request, and a subscription another for every so many orders or candles that it begins with."""
VERSION: Final = "1.2"
BROKE: Final = "too many requests of this address"

_TOLD: Final = frozenset({BidPlaced, BidAmended, BidRefilled, BidResumed, BidEnded})
_ORDERS: Final = "order-changes"
_CANDLES: Final = "candlesticks"


class StompSession:
    """One client: its websocket messages in, frames out through ``send``; ``end`` closes the socket behind what was sent.

    ``afford`` takes so many requests from the client's budget; False when that has fewer.
    """

    def __init__(
        self, feed: "Feed", send: Callable[[bytes], None], end: Callable[[], None], afford: Callable[[int], bool]
    ) -> None:
        self._feed = feed
        self._send = send
        self._end = end
        self._afford = afford
        self._connected = False
        self._open = True
        self._sent = 0
        # What the client's subscriptions are to, by their ids.
        self._names: dict[str, tuple[str, ...]] = {}
        # How a frame to each of them begins: its headers but for those that differ from message to message.
        self._heads: dict[tuple[str, ...], bytes] = {}

    def receive(self, message: bytes) -> None:
        """One websocket message. It holds whole frames."""
        if not self._open:
            return
        if len(message) > MESSAGE_BYTES_MAX:
            self._fail(f"a message has at most {MESSAGE_BYTES_MAX} bytes")
            return
        if not self._afford(1):
            self._fail(BROKE)
            return
        try:
            frames = [*FrameParser().parse_frames_from_chunk(message)]
        except (UnicodeDecodeError, TypeError, ValueError, IndexError):
            self._fail("not a STOMP frame")
            return
        if not frames:
            self._fail("not a whole STOMP frame")
        for frame in frames:
            if self._open:
                self._frame(frame)

    def closed(self) -> None:
        """The socket is gone. Harmless when repeated."""
        self._open = False
        for destination in self._names.values():
            self._feed.remove(destination, self)
        self._names.clear()
        self._heads.clear()

    def tell(self, destination: tuple[str, ...], content: bytes) -> None:
        """Pass on a message of something that is subscribed. The trading path waits for it: once per subscriber and event."""
        self._sent += 1
        tail = b"message-id:%d\ncontent-length:%d\n\n" % (self._sent, len(content))
        self._send(self._heads[destination] + tail + content + b"\0")

    # --------------------------------------------------------------------------------------------------------- internals

    def _frame(self, frame: object) -> None:
        if isinstance(frame, HeartbeatFrame):
            return
        headers: dict[str, Any] = dict(getattr(frame, "headers", {}))
        if isinstance(frame, ConnectFrame | StompFrame):
            if self._connected or VERSION not in str(headers.get("accept-version", VERSION)).split(","):
                self._fail(f"connect once, with version {VERSION}")
                return
            self._connected = True
            self._send(dump_frame(ConnectedFrame(headers={"version": VERSION, "server": "hashpit", "heart-beat": "0,0"})))
        elif not self._connected:
            self._fail("connect first")
        elif isinstance(frame, SubscribeFrame):
            self._subscribe(headers)
        elif isinstance(frame, UnsubscribeFrame):
            self._unsubscribe(headers)
        elif isinstance(frame, DisconnectFrame):
            self._receipt(headers)
            self.closed()
            self._end()
        else:
            self._fail("this feed takes CONNECT, SUBSCRIBE, UNSUBSCRIBE and DISCONNECT")
            return

    def _subscribe(self, headers: dict[str, Any]) -> None:
        name, destination = headers.get("id", ""), headers.get("destination", "")
        if not name or name in self._names:
            self._fail("a subscription has an id of its own")
            return
        if len(self._names) >= SUBSCRIPTIONS_MAX:
            self._fail(f"a connection has at most {SUBSCRIPTIONS_MAX} subscriptions")
            return
        found = self._feed.find(destination)
        if found is None:
            self._fail(f"there is nothing at {destination[:100]}")
            return
        if found in self._heads:
            self._fail("a connection subscribes to a thing once")
            return
        if not self._afford(self._feed.rows(found) // ROWS_PER_TOKEN):
            self._fail(BROKE)
            return
        if not self._feed.add(found, self):
            self._fail(f"the feed has at most {SUBSCRIBERS_MAX} subscriptions")
            return
        self._names[name] = found
        self._heads[found] = _head(name, destination)
        self._receipt(headers)
        shown = self._feed.shown(found)
        if shown is not None:
            self.tell(found, shown)

    def _unsubscribe(self, headers: dict[str, Any]) -> None:
        destination = self._names.pop(headers.get("id", ""), None)
        if destination is not None:
            del self._heads[destination]
            self._feed.remove(destination, self)
        self._receipt(headers)

    def _receipt(self, headers: dict[str, Any]) -> None:
        receipt = headers.get("receipt")
        if receipt:
            self._send(dump_frame(ReceiptFrame(headers={"receipt-id": receipt})))

    def _fail(self, message: str) -> None:
        self._send(dump_frame(ErrorFrame(headers={"message": message}, body=b"")))
        self.closed()
        self._end()


def _head(name: str, destination: str) -> bytes:
    """How the frames of a subscription begin, up to the headers that each message has its own of."""
    headers: Any = {"subscription": name, "destination": destination, "content-type": "application/json"}
    return dump_frame(MessageFrame(headers=headers, body=b"")).removesuffix(b"\n\0")


class Feed:
    """Who is told of what. ``publish`` takes the events of every durable entry, behind the projection."""

    def __init__(self, catalog: Catalog, history: History) -> None:
        self._catalog = catalog
        self._history = history
        self._subscribers: dict[tuple[str, ...], dict[StompSession, None]] = {}

    def __len__(self) -> int:
        return sum(len(sessions) for sessions in self._subscribers.values())

    def find(self, destination: str) -> tuple[str, ...] | None:
        """What a destination names, however it is spelled: topic, algorithm, and market or timeframe; None for nothing."""
        parts = destination.strip("/").split("/")
        if len(parts) != 4 or parts[0] != "tradingview":
            return None
        _, topic, algorithm, last = parts
        quoted = self._quoted(algorithm, last if topic == _ORDERS else "")
        if quoted is None or not (topic == _ORDERS or (topic == _CANDLES and last in TIMEFRAMES)):
            return None
        return topic, quoted.algorithm.name, MARKETS[0] if last in MARKETS else last

    def add(self, destination: tuple[str, ...], session: StompSession) -> bool:
        """Subscribe; False when there are SUBSCRIBERS_MAX already."""
        if len(self) >= SUBSCRIBERS_MAX:
            return False
        self._subscribers.setdefault(destination, {})[session] = None
        return True

    def remove(self, destination: tuple[str, ...], session: StompSession) -> None:
        sessions = self._subscribers.get(destination)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._subscribers[destination]

    def rows(self, destination: tuple[str, ...]) -> int:
        """How many orders or candles the first message of a subscription has."""
        topic, _, last = destination
        _, market = self._named(destination)
        if market is None:
            return 0
        return min(len(market.bids), SNAPSHOT_ORDERS_MAX) if topic == _ORDERS else len(market.candles[last])

    def shown(self, destination: tuple[str, ...]) -> bytes | None:
        """How things stand: the first message of a subscription."""
        topic, _, last = destination
        quoted, market = self._named(destination)
        if quoted is None or market is None:
            return None
        if topic == _ORDERS:
            bids = sorted(market.bids.values(), key=lambda bid: (-bid.price, bid.order_id))[:SNAPSHOT_ORDERS_MAX]
            return encode({"event": "Snapshot", "list": [_snapshot_row(bid, quoted.units) for bid in bids]})
        return encode([_candle(candle, quoted) for candle in market.candles[last]])

    def publish(self, events: list[Event]) -> None:
        """Tell of what one durable entry did."""
        if not self._subscribers:
            return
        by_market: dict[str, list[Any]] = {}
        speeds: dict[str, dict[int, None]] = {}
        for event in events:
            kind = type(event)
            if kind is FlowChanged:
                assert isinstance(event, FlowChanged)
                if event.speed != event.old_speed:
                    speeds.setdefault(event.market, {})[event.bid_id] = None
            elif kind in _TOLD:
                assert isinstance(event, BidPlaced | BidAmended | BidRefilled | BidResumed | BidEnded)
                if isinstance(event, BidAmended | BidResumed | BidEnded) or not event.repeat:
                    by_market.setdefault(event.market, []).append(event)
        if not (by_market or speeds):
            return
        for destination, sessions in [*self._subscribers.items()]:
            topic, algorithm, last = destination
            quoted = self._quoted(algorithm, last) if topic == _ORDERS else None
            market = self._history.markets.get(quoted.spec.symbol) if quoted is not None else None
            if quoted is None or market is None:
                continue
            messages = [told for event in by_market.get(quoted.spec.symbol, ()) for told in _told(event, quoted.units, market)]
            moved = [market.bids[bid] for bid in speeds.get(quoted.spec.symbol, ()) if bid in market.bids]
            if moved:
                messages.append({"event": "OrderSpeedUpdated", "list": [_speed_row(bid, quoted.units) for bid in moved]})
            for message in messages:
                content = encode(message)
                for session in [*sessions]:
                    session.tell(destination, content)

    def candles(self) -> None:
        """A look was taken at the markets: tell of the newest candles."""
        for destination, sessions in [*self._subscribers.items()]:
            topic, algorithm, last = destination
            quoted = self._quoted(algorithm, "") if topic == _CANDLES else None
            market = self._history.markets.get(quoted.spec.symbol) if quoted is not None else None
            if quoted is None or market is None or not market.candles[last]:
                continue
            content = encode([_candle(market.candles[last][-1], quoted)])
            for session in [*sessions]:
                session.tell(destination, content)

    def _named(self, destination: tuple[str, ...]) -> tuple[Quoted | None, Market | None]:
        """The market of a destination, and its past."""
        topic, algorithm, last = destination
        quoted = self._quoted(algorithm, last if topic == _ORDERS else "")
        return quoted, self._history.markets.get(quoted.spec.symbol) if quoted is not None else None

    def _quoted(self, algorithm: str, market: str) -> Quoted | None:
        return self._catalog.find(algorithm, market)


def _told(event: Event, units: Units, market: Market) -> list[dict[str, Any]]:
    """What an event says in this feed. OrderPriceUpdated is an extension: without it nobody could follow the prices."""
    if isinstance(event, BidPlaced):
        return [{"event": "OrderCreated", "orderId": _id(event.order_id), "price": units.price_text(event.price)}]
    if isinstance(event, BidEnded):
        return [{"event": "OrderCancelled", "orderId": _id(event.order_id)}]
    if isinstance(event, BidRefilled):
        bid = market.bids.get(event.order_id)
        amount = bid.budget if bid is not None else event.left
        told = {"event": "OrderAmountUpdated", "orderId": _id(event.order_id)}
        return [{**told, "newAmount": money_text(amount + market.spec.placing_fee)}]
    if isinstance(event, BidResumed):
        # A pegged one is back at the price of now.
        return [{"event": "OrderPriceUpdated", "orderId": _id(event.order_id), "newPrice": units.price_text(event.price)}]
    assert isinstance(event, BidAmended), event
    rows: list[dict[str, Any]] = []
    if event.price != event.old_price:
        rows.append({"event": "OrderPriceUpdated", "orderId": _id(event.order_id), "newPrice": units.price_text(event.price)})
    if event.cause is FlowCause.BID_AMENDED:
        rows.append({"event": "OrderLimitUpdated", "orderId": _id(event.order_id), "newLimit": units.speed_text(event.limit)})
    return rows


def _id(order_id: int) -> str:
    return ids.to_uuid(ids.ORDER, order_id)


def _speed_row(bid: Placed, units: Units) -> dict[str, Any]:
    return {
        "orderId": _id(bid.order_id),
        "price": units.price_text(bid.price),
        "payingSpeed": units.speed_text(bid.speed),
    }


def _snapshot_row(bid: Placed, units: Units) -> dict[str, Any]:
    return {**_speed_row(bid, units), "limit": units.speed_text(bid.limit), "rigsCount": bid.flows}


def _candle(candle: Candle, quoted: Quoted) -> dict[str, Any]:
    def price(average: tuple[int, int]) -> str:
        value, speed = average
        return ratio_text(Fraction(value, speed) * quoted.units.price_step) if speed else "0"

    row = candle.last
    return {
        "time": candle.start_s,
        "open": price(candle.open),
        "high": price(candle.high),
        "low": price(candle.low),
        "close": price(candle.close),
        "totalSpeed": quoted.units.speed_text(row.speed),
        "activeOrders": row.bids,
        "payingPrice": price(candle.close),
        "numberOfRigs": row.flows,
    }
