"""The client's half of the protocol, without a socket: calls and answers, channels and gaps, what to ask for after a cut.

A :class:`Protocol` outlives connections. The shell around it (``client.py``) does this, over and over:

1. new socket: feed it every frame; the first one gives Hello, whose challenge a login signs;
2. logged in: send each call of ``restore()``, which resumes the account channel after its last number and subscribes the rest;
3. each frame: ``receive`` it, and act on what it says: an Answer, a channel's message, a Heartbeat, or a Gap, whose
   call mends it; messages that came twice are dropped here, and after a gap nothing passes until it is mended;
4. the socket is gone: ``disconnected()`` says which calls will get no answer.

Knows nothing of sockets, time, or what messages mean.
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from gateway import wire
from gateway.wire import Budget, ChannelMessage, Error, Heartbeat, Hello, ResumeParams, ResyncParams, SubscribeParams
from hashpit.errors import NotSent, ProtocolError
from hashpit.messages import data_type

CALLS_MAX: Final = 1_024
"""Calls that may wait for their answers at a time; past it a call is refused here and not sent."""
CHANNELS_MAX: Final = 100
"""Channels that one subscribe may name."""
ACCOUNT: Final = "account"
"""The channel that is numbered per account and can be resumed; every other one starts again with a snapshot."""

CodecName = Literal["json", "msgpack"]


class Answer(Struct, frozen=True):
    """The answer to a call: ``result`` (still raw) or ``error``."""

    id: int
    result: Raw
    error: Error | None


class Gap(Struct, frozen=True):
    """A channel skipped a number. Sending the call (``method``, ``params``) mends it."""

    channel: str
    why: str
    method: str
    params: Struct


Happening = Hello | Heartbeat | Answer | ChannelMessage | Gap


class _Frame(Struct):
    """Any message of the server."""

    id: str | int | UnsetType | None = UNSET
    result: Raw = Raw()
    error: Error | None = None
    budget: Budget | None = None
    method: str = ""
    params: Raw = Raw()


class _Message(Struct):
    """A ChannelMessage before its data is understood."""

    channel: str
    type: Literal["snapshot", "delta", "event"]
    seq: int
    prev_seq: int
    ts_us: int
    data: Raw


class _Place(Struct):
    """Where a wanted channel is: the last number taken in, None before its first snapshot on this connection."""

    seq: int | None = None
    mending: bool = False
    """A gap was found and reported; nothing passes until a snapshot or the missing number comes."""


class Protocol:
    """Both directions of the message stream, for one client. ``codec`` chooses JSON text or MessagePack binary frames."""

    def __init__(self, codec: CodecName = "json") -> None:
        self.binary = codec == "msgpack"
        self.subprotocol = wire.SUBPROTOCOL_MSGPACK if self.binary else wire.SUBPROTOCOL_JSON
        self.hello: Hello | None = None
        """The greeting of the current connection."""
        self.budget: Budget | None = None
        """What the last answer said is left of the rate limits."""
        self._format: Any = msgspec.msgpack if self.binary else msgspec.json
        self._frames = self._format.Decoder(_Frame)
        self._messages = self._format.Decoder(_Message)
        self._decoders: dict[Any, Any] = {}
        self._next_id = 1
        self._waiting: set[int] = set()
        self._places: dict[str, _Place] = {}
        # The journal that the account channel's numbers belong to.
        self._epoch = ""

    # ------------------------------------------------------------------------------------------------------- calls

    def call(self, method: str, params: Struct | None = None) -> tuple[int, bytes]:
        """A call's id and frame. Raises NotSent when CALLS_MAX of them wait already."""
        if len(self._waiting) >= CALLS_MAX:
            raise NotSent(f"{CALLS_MAX} calls wait for their answers")
        number = self._next_id
        self._next_id += 1
        self._waiting.add(number)
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            fields = ((name, getattr(params, name)) for name in params.__struct_fields__)
            request["params"] = {name: value for name, value in fields if value is not None}
        return number, self._format.encode(request)

    def forget(self, number: int) -> None:
        """Stop waiting for a call's answer; if it comes after all it is dropped."""
        self._waiting.discard(number)

    def decode(self, raw: Raw, kind: Any) -> Any:
        """Turn a raw result or data into ``kind``. Raises ProtocolError when it does not fit."""
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = self._format.Decoder(kind)
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"not a {kind}: {error}") from error

    # ---------------------------------------------------------------------------------------------------- channels

    def want(self, channel: str) -> bool:
        """Count a channel as subscribed; False when it was already."""
        if channel in self._places:
            return False
        self._places[channel] = _Place()
        return True

    def unwant(self, channel: str) -> None:
        """Forget a channel; what still comes of it is dropped."""
        self._places.pop(channel, None)

    def last_seq(self, channel: str) -> int | None:
        """Number of the last message taken in; None before the first."""
        place = self._places.get(channel)
        return place.seq if place else None

    def restore(self) -> list[tuple[str, Struct]]:
        """The calls that bring every wanted channel back on a new connection."""
        assert self.hello is not None, "restore follows hello"
        account = self._places.get(ACCOUNT)
        calls: list[tuple[str, Struct]] = []
        if account is not None and account.seq is not None:
            if self._epoch == self.hello.epoch:
                account.mending = False
                calls.append(("resume", self._resume()))
            else:  # another journal: its numbers mean something else
                account.seq = None
        new = [channel for channel, place in self._places.items() if channel != ACCOUNT or place.seq is None]
        for channel in new:
            self._places[channel] = _Place()
        batches = (new[at : at + CHANNELS_MAX] for at in range(0, len(new), CHANNELS_MAX))
        return calls + [("subscribe", SubscribeParams(batch)) for batch in batches]

    def start_over(self) -> SubscribeParams:
        """The call for an account channel that can not be resumed: its next message is a snapshot."""
        self._places[ACCOUNT] = _Place()
        return SubscribeParams([ACCOUNT])

    # -------------------------------------------------------------------------------------------------- connection

    def receive(self, payload: bytes | str) -> list[Happening]:
        """Take in one whole frame. Raises ProtocolError for one that this protocol does not have."""
        if isinstance(payload, str) == self.binary:
            raise ProtocolError(f"a {'text' if self.binary else 'binary'} frame in {self.subprotocol}")
        try:
            frame = self._frames.decode(payload)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"not a message of the protocol: {error}") from error
        if frame.budget is not None:
            self.budget = frame.budget
        if frame.id is not UNSET:
            return self._answer(frame)
        match frame.method:
            case "subscription":
                return self._message(frame.params)
            case "heartbeat":
                return self._heartbeat(self.decode(frame.params, Heartbeat))
            case "hello":
                hello: Hello = self.decode(frame.params, Hello)
                self.hello = hello
                return [hello]
        return []  # an announcement that this version does not know: the protocol may grow

    def disconnected(self) -> list[int]:
        """The connection is gone: the calls that wait for an answer in vain."""
        lost = sorted(self._waiting)
        self._waiting.clear()
        self.hello = None
        return lost

    def _answer(self, frame: _Frame) -> list[Happening]:
        if frame.id is None:
            message = frame.error.message if frame.error else "an answer to nothing"
            raise ProtocolError(f"the server did not understand a call: {message}")
        if frame.id not in self._waiting:
            return []
        assert isinstance(frame.id, int), "only our own ids are waited for"
        self._waiting.discard(frame.id)
        return [Answer(frame.id, frame.result, frame.error)]

    def _heartbeat(self, heartbeat: Heartbeat) -> list[Happening]:
        """A heartbeat says the last number of every channel: a channel behind it lost its newest messages."""
        happenings: list[Happening] = [heartbeat]
        for channel, seq in heartbeat.channels.items():
            place = self._places.get(channel)
            if place is not None and place.seq is not None and not place.mending and place.seq < seq:
                happenings.append(self._gap(channel, place, f"the heartbeat says {seq}, {place.seq} came last"))
        return happenings

    def _message(self, params: Raw) -> list[Happening]:
        try:
            message = self._messages.decode(params)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"not a channel's message: {error}") from error
        place = self._places.get(message.channel)
        if place is None:
            return []
        if message.type != "snapshot":
            if place.seq is None or message.seq <= place.seq:
                return []  # of before the snapshot that is to come, or known already
            if message.prev_seq != place.seq:
                if place.mending:
                    return []
                why = f"{message.seq} follows {message.prev_seq}, {place.seq} came last"
                return [self._gap(message.channel, place, why)]
        place.seq, place.mending = message.seq, False
        if message.channel == ACCOUNT:
            assert self.hello is not None, "hello is a connection's first message"
            self._epoch = self.hello.epoch
        data = self.decode(message.data, data_type(message.channel, message.type))
        return [ChannelMessage(message.channel, message.type, message.seq, message.prev_seq, message.ts_us, data)]

    def _gap(self, channel: str, place: _Place, why: str) -> Gap:
        place.mending = True
        if channel == ACCOUNT:
            return Gap(channel, why, "resume", self._resume())
        return Gap(channel, why, "resync", ResyncParams(channel))

    def _resume(self) -> ResumeParams:
        seq = self._places[ACCOUNT].seq
        assert seq is not None, "there is a number to resume from"
        return ResumeParams(epoch=self._epoch, account_seq=seq)
