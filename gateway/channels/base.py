"""What all channels share: numbers, subscribers, one encode per message and codec, and what happens to slow readers.

Every message carries the channel's own ``seq`` and its predecessor's ``prev_seq``. Numbers start anew with the process, and
the first message that a subscriber gets is a snapshot. A channel whose messages replace each other (depth, ticker) skips a
subscriber that does not keep up and sends it a fresh snapshot once it has read what waits for it: it is conflated. A channel
whose messages each matter (trades, status, account) goes on until the outbox is full, which ends the socket.
"""

from typing import Any, Final, Literal, Protocol

from engine.types import LiveSpec, MarketSpec
from gateway.codec import Codec
from gateway.outbox import Outbox, framed, opcode
from gateway.scale import Scale
from gateway.wire import ChannelMessage, Notification

CONFLATE_BYTES: Final = 256 * 1024
"""A subscriber with more unsent bytes than this gets no deltas of depth or ticker; at half of it a snapshot."""
NS_PER_US: Final = 1_000


class Subscriber(Protocol):
    """One socket, as channels see it."""

    @property
    def codec(self) -> Codec: ...
    @property
    def account(self) -> int:
        """0 before login."""
        ...

    @property
    def outbox(self) -> Outbox:
        """Where its messages wait to be written."""
        ...

    def send(self, frame: bytes) -> None:
        """Hand over one whole message, as a Frame gives it; never waits."""
        ...

    def buffered_bytes(self) -> int:
        """Bytes that were handed over and the peer has not taken yet."""
        ...

    def close(self, code: int, reason: str) -> None: ...


class Subscriptions:
    """Who has which channel, kept by the channels for all of them to share."""

    __slots__ = ("behind", "of")

    def __init__(self) -> None:
        self.of: dict[Subscriber, dict[str, Channel]] = {}
        """Each subscriber's channels by name."""
        self.behind: dict[Channel, None] = {}
        """Channels with a conflated subscriber that waits for a snapshot."""


class Terms:
    """A market's specification and its number formats, for as long as anything shows its prices."""

    __slots__ = ("price", "qty", "spec")

    def __init__(self, spec: MarketSpec | LiveSpec) -> None:
        self.spec: MarketSpec | LiveSpec = spec
        self.price = Scale(spec.tick_size)
        self.qty = Scale(spec.lot_size)


class Frame:
    """One channel message, encoded and framed at most once per codec however many subscribers it has."""

    __slots__ = ("_encoded", "_message")

    def __init__(self, message: ChannelMessage) -> None:
        self._message = Notification("subscription", message)
        self._encoded: dict[str, bytes] = {}

    def bytes_for(self, codec: Codec) -> bytes:
        """The message as a websocket frame."""
        frame = self._encoded.get(codec.name)
        if frame is None:
            frame = self._encoded[codec.name] = framed(opcode(codec), codec.encode(self._message))
        return frame


class Channel:
    """One feed: its number, its subscribers, and how to show its state at once.

    Subclasses say what the state is (``snapshot_data``) and whether a slow reader is conflated.
    """

    conflates: bool = False

    def __init__(self, name: str, subscriptions: Subscriptions) -> None:
        self.name = name
        self.seq = 0
        """Number of the last message; 0 before the first."""
        self._subscriptions = subscriptions
        # By outbox, because a broadcast needs no more of them.
        self._subscribers: dict[Outbox, Subscriber] = {}
        # Subscribers that do not keep up, with the number of the last message they got.
        self._behind: dict[Subscriber, int] = {}
        self._snapshot: Frame | None = None
        self._snapshot_seq = -1

    # -------------------------------------------------------------------------------------------------- subscribers

    def add(self, subscriber: Subscriber, now_ns: int) -> None:
        """Subscribe: a snapshot, then everything that follows. Again: another snapshot."""
        last_seq = self.seq if subscriber.outbox in self._subscribers else 0
        # Attached first: sending the snapshot may end the subscriber, which takes it out again.
        self._attach(subscriber)
        self._show(subscriber, last_seq, now_ns)

    def remove(self, subscriber: Subscriber) -> None:
        """Unsubscribe; harmless for one that is not subscribed."""
        self._subscribers.pop(subscriber.outbox, None)
        self._caught_up(subscriber)
        mine = self._subscriptions.of.get(subscriber)
        if mine is not None and mine.get(self.name) is self:
            del mine[self.name]
            if not mine:
                del self._subscriptions.of[subscriber]

    def resync(self, subscriber: Subscriber, now_ns: int) -> None:
        """Send the snapshot again: now, or when what is gathered went out and the subscriber has read what waits for it."""
        self._show(subscriber, self.seq, now_ns)

    def _show(self, subscriber: Subscriber, last_seq: int, now_ns: int) -> None:
        """Send the snapshot, now or soon; until then ``last_seq`` is the last that the subscriber got."""
        if self.conflates and (self._gathers() or subscriber.buffered_bytes() > CONFLATE_BYTES):
            self._fell_behind(subscriber, last_seq)
            return
        self._caught_up(subscriber)
        subscriber.send(self._snapshot_frame(now_ns).bytes_for(subscriber.codec))

    def last_seq(self, subscriber: Subscriber) -> int:
        """Number of the last message that was sent to ``subscriber``; 0 while its first snapshot is to come."""
        return self._behind.get(subscriber, self.seq)

    def close(self, reason: str, now_ns: int) -> None:
        """The feed's end: a last event that says so, and no subscribers any more."""
        if self._behind:
            self._show_gathered(now_ns)
        for subscriber in [*self._behind]:
            # Its snapshot comes now or never; without it the last event looks like a gap.
            self._caught_up(subscriber)
            subscriber.send(self._snapshot_frame(now_ns).bytes_for(subscriber.codec))
        frame = self._next("event", {"event": "closed", "reason": reason}, now_ns)
        for subscriber in [*self._subscribers.values()]:
            subscriber.send(frame.bytes_for(subscriber.codec))
            self.remove(subscriber)

    def catch_up(self, now_ns: int) -> None:
        """Give a snapshot to conflated subscribers that have read most of what waited for them."""
        for subscriber in [*self._behind]:
            if subscriber.buffered_bytes() <= CONFLATE_BYTES // 2:
                self.resync(subscriber, now_ns)

    # ------------------------------------------------------------------------------------------------- for subclasses

    def snapshot_data(self, now_ns: int) -> Any:
        """The channel's whole state as wire data."""
        raise AssertionError(f"{self.name} has no snapshot")

    def _gathers(self) -> bool:
        """Whether a snapshot of now would show what waits for the next tick. One number, one state: so the snapshot waits, too,
        and nobody makes the others get more than one message for a tick."""
        return False

    def _show_gathered(self, now_ns: int) -> None:
        """Tell those who are subscribed what waits for the next tick."""

    def _attach(self, subscriber: Subscriber) -> None:
        self._subscribers[subscriber.outbox] = subscriber
        self._subscriptions.of.setdefault(subscriber, {})[self.name] = self

    def _fell_behind(self, subscriber: Subscriber, last_seq: int) -> None:
        self._behind.setdefault(subscriber, last_seq)
        self._subscriptions.behind[self] = None

    def _caught_up(self, subscriber: Subscriber) -> None:
        self._behind.pop(subscriber, None)
        if not self._behind:
            self._subscriptions.behind.pop(self, None)

    def _snapshot_frame(self, now_ns: int) -> Frame:
        # Many subscribers of one moment share the bytes.
        if self._snapshot is None or self._snapshot_seq != self.seq:
            message = ChannelMessage(self.name, "snapshot", self.seq, self.seq, now_ns // NS_PER_US, self.snapshot_data(now_ns))
            self._snapshot = Frame(message)
            self._snapshot_seq = self.seq
        return self._snapshot

    def _next(self, kind: Literal["snapshot", "delta", "event"], data: Any, ts_ns: int) -> Frame:
        self.seq += 1
        self._snapshot = None
        return Frame(ChannelMessage(self.name, kind, self.seq, self.seq - 1, ts_ns // NS_PER_US, data))

    def _skip(self) -> None:
        """Count a message that nobody is there to get."""
        self.seq += 1
        self._snapshot = None

    def _broadcast(self, frame: Frame) -> None:
        """Send to every subscriber that keeps up; conflate the others where that is the channel's way."""
        subscribers, behind = self._subscribers, self._behind
        codec: Codec | None = None
        message = b""
        # A copy: a subscriber that is not read ends, which removes it.
        for outbox, subscriber in [*subscribers.items()]:
            if behind and subscriber in behind:
                continue
            if self.conflates and outbox.unsent_bytes > CONFLATE_BYTES and outbox.measure() > CONFLATE_BYTES:
                self._fell_behind(subscriber, self.seq - 1)
                continue
            if outbox.codec is not codec:
                codec = outbox.codec
                message = frame.bytes_for(codec)
            outbox.put(message)
