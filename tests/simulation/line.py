"""A client's connection as ``hashpit.client`` keeps one, without asyncio: the SDK's real Protocol and Book on a simulated link.

A :class:`Line` outlives links: after a cut it connects again, logs in, resumes its account and subscribes its channels. A call
gets its answer through a callback; one that is not answered in time, or whose link broke, is told as lost.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct
from picows import WSMsgType

from gateway import wire
from gateway.codec import JSON, MSGPACK
from gateway.outbox import BINARY, TEXT
from gateway.wire import ChannelMessage, Error, ErrorCode, Heartbeat, Hello
from hashpit.book import Book
from hashpit.errors import NotSent
from hashpit.keys import Key
from hashpit.messages import METHODS, ChannelClosed
from hashpit.protocol import ACCOUNT, Answer, Gap, Protocol
from tests.simulation.coverage import channel_name, close_name, error_name
from tests.simulation.network import CUT, Frame, Link
from tests.simulation.world import MS_NS, Finding

if TYPE_CHECKING:
    from tests.simulation.clients import Client

SILENCE_HEARTBEATS: Final = 3
"""A link that brought nothing for as many heartbeat intervals is dead."""
NORMAL: Final = 1000
CLOSE: Final = 0x8

Then = Callable[[Any, Error | None], None]
"""Gets the result or the error; both are None for a call that was lost."""


class Asked:
    """A call that waits for its answer."""

    __slots__ = ("method", "params", "sent_ns", "then")

    def __init__(self, method: str, params: Struct | None, sent_ns: int, then: Then | None) -> None:
        self.method = method
        self.params = params
        self.sent_ns = sent_ns
        self.then = then


class Line:
    """One logged-in connection that mends itself."""

    def __init__(self, client: "Client", key: Key | None, msgpack: bool) -> None:
        self.client = client
        self.world = client.world
        self.key = key
        self.protocol = Protocol("msgpack" if msgpack else "json")
        self.codec = MSGPACK if msgpack else JSON
        self.link: Link | None = None
        self.ready = False
        self.ended = False
        """The owner wants no connection any more."""
        self.books: dict[str, Book] = {}
        self.lossy = False
        """A message was dropped on purpose, so that a gap is no surprise."""
        self.asked: dict[int, Asked] = {}
        self.retry_at_ns = 0
        self._decode = (msgspec.msgpack if msgpack else msgspec.json).decode
        self._buffer = bytearray()
        self._heard_ns = self._sent_ns = 0
        self._heartbeat_ns = self._idle_ns = 0
        self._close: tuple[int, str] | None = None

    # ------------------------------------------------------------------------------------------------------- connection

    def look_after(self) -> None:
        """Called at every turn of the client: connect, keep alive, give up what is dead, tell what is lost."""
        now_ns = self.world.now_ns
        if self.link is None:
            if now_ns >= self.retry_at_ns and not self.ended:
                self.connect()
            return
        late = [number for number, asked in self.asked.items() if now_ns - asked.sent_ns > self.client.plan.retry_ns]
        for number in late:
            self.protocol.forget(number)
            if number in self.asked:  # else the line went down with the one before it
                self._lost(self.asked.pop(number))
        self._keep_alive(now_ns)

    def _keep_alive(self, now_ns: int) -> None:
        if self.link is None or not self.link.reading:
            return
        if now_ns - self._heard_ns > SILENCE_HEARTBEATS * (self._heartbeat_ns or 5_000 * MS_NS):
            self.leave("the server is silent")
        elif self.ready and now_ns - self._sent_ns > self._idle_ns // 3:
            self.call("heartbeat")

    def cause(self, kind: str) -> None:
        """Tell the auditor what explains an end that is to come."""
        if self.link is not None and self.link.was_opened:
            self.client.auditor.cause(self.link.number, kind, self.world.now_ns)

    def connect(self) -> None:
        self._buffer.clear()
        self._close = None
        self._heard_ns = self._sent_ns = self.world.now_ns
        self.link = self.client.network.connect(self, self.codec, self.client.ip)
        self.world.note(f"{self.client.name}: connects, conn {self.link.number}")

    def leave(self, why: str, politely: bool = False) -> None:
        """Let go of the link, with a close frame or without."""
        link = self.link
        if link is None:
            return
        self.world.note(f"{self.client.name}: leaves conn {link.number}: {why}")
        if politely:
            self.cause("client_closed")
            link.send(Frame(WSMsgType.CLOSE, NORMAL.to_bytes(2)))
        link.leave()
        self._down(NORMAL if politely else CUT, why)

    def opened(self, link: Link) -> None:
        now_ns, auditor = self.world.now_ns, self.client.auditor
        auditor.connected(link.number, self.client.name, now_ns)
        if self.client.plan.byte_weight > 1:
            auditor.cause(link.number, "stalled", now_ns)

    def gone(self, code: int) -> None:
        self._down(code, "")

    def _down(self, code: int, reason: str) -> None:
        link = self.link
        assert link is not None
        self.link = None
        self.ready = False
        if link.was_opened:
            self.client.auditor.closed(link.number, code, reason, self.world.now_ns)
        self.client.coverage.count("close", close_name(code))
        self.world.note(f"{self.client.name}: conn {link.number} is gone: {code} {reason}")
        self.protocol.disconnected()
        lost, self.asked = self.asked, {}
        for asked in lost.values():
            self._lost(asked)
        for book in self.books.values():
            book.lose("disconnected")
        self.retry_at_ns = self.world.now_ns + self.client.rng.randrange(1_000) * MS_NS

    def _lost(self, asked: Asked) -> None:
        if asked.then is not None:
            asked.then(None, None)

    @property
    def at_rest(self) -> bool:
        """Whether it is up, on a link that is alive, and nothing is open."""
        link = self.link
        return self.ready and not self.asked and link is not None and not (link.deaf or link.mute)

    # ------------------------------------------------------------------------------------------------------------- out

    def call(self, method: str, params: Struct | None = None, then: Then | None = None) -> bool:
        """Send a call; False when there is no link, or too many calls wait."""
        if self.link is None:
            return False
        try:
            number, payload = self.protocol.call(method, params)
        except NotSent:
            return False
        self.asked[number] = Asked(method, params, self.world.now_ns, then)
        self.client.coverage.count("method", method)
        self.send(payload)
        return True

    def send(self, payload: bytes, told: bool = True) -> None:
        """Hand a message to the link, at times in fragments. ``told``: it is one that the auditor can read."""
        link = self.link
        assert link is not None
        self._sent_ns = self.world.now_ns
        if told:
            message = self._decode(payload)
            self.client.auditor.sent(link.number, message, self.world.now_ns)
            if self.world.traced:
                self.world.note(f"{self.client.name} #{link.number} > {message}")
        kind = WSMsgType.BINARY if self.codec.binary else WSMsgType.TEXT
        rng = self.client.rng
        if self.client.plan.fragments and rng.random() < 0.2:
            at = rng.randrange(len(payload) + 1)
            link.send(Frame(kind, payload[:at], fin=False))
            if rng.random() < 0.5:
                link.send(Frame(WSMsgType.PING, b"?"))
            link.send(Frame(WSMsgType.CONTINUATION, payload[at:]))
        else:
            link.send(Frame(kind, payload))

    # -------------------------------------------------------------------------------------------------------------- in

    def arrived(self, data: bytes) -> None:
        """Bytes of the server's frames, cut anywhere."""
        buffer = self._buffer
        buffer += data
        link = self.link
        start = 0
        while len(buffer) - start >= 2:
            size, head = buffer[start + 1], 2
            if size > 125:
                head = 4 if size == 126 else 10
                if len(buffer) - start < head:
                    break
                size = int.from_bytes(buffer[start + 2 : start + head])
            if len(buffer) - start < head + size:
                break
            opcode = buffer[start] & 0x0F
            payload = bytes(buffer[start + head : start + head + size])
            start += head + size
            self._frame(opcode, payload)
            if self.link is not link:
                return
        del buffer[:start]

    def _frame(self, opcode: int, payload: bytes) -> None:
        link = self.link
        assert link is not None
        self._heard_ns = self.world.now_ns
        self.world.digest(self.world.now_ns, link.number, payload)
        if opcode == CLOSE:
            code, reason = int.from_bytes(payload[:2]), payload[2:].decode()
            link.send(Frame(WSMsgType.CLOSE, payload[:2]))
            link.leave()
            self._down(code, reason)
        elif opcode in (TEXT, BINARY):
            self._message(payload)

    def _message(self, payload: bytes) -> None:
        client, link = self.client, self.link
        assert link is not None
        message = self._decode(payload)
        client.auditor.received(link.number, message, self.world.now_ns)
        if self.world.traced:
            self.world.note(f"{client.name} #{link.number} < {message}")
        for answer in message if isinstance(message, list) else (message,):
            if error := answer.get("error"):
                client.coverage.count("error", error_name(error["code"]) if error["code"] < 0 else "reject")
        if isinstance(message, list) or ("id" in message and not isinstance(message["id"], int)):
            return  # of a batch, or of what was garbled on purpose
        if message.get("method") == "subscription" and self._loses(message["params"]):
            self.lossy = True
            return
        for happening in self.protocol.receive(payload if self.codec.binary else payload.decode()):
            self._take(happening)
            if self.link is not link:
                return

    def _loses(self, message: Any) -> bool:
        """Whether to drop a channel's message, as if the client's own queue had been full. Not one that mends such a loss."""
        place = self.protocol._places.get(message["channel"])
        is_whole = place is not None and not place.mending
        return is_whole and message["type"] != "snapshot" and self.client.loses_a_message()

    def _take(self, happening: Any) -> None:
        match happening:
            case Answer():
                self._answered(happening)
            case ChannelMessage():
                self._channel(happening)
            case Hello():
                self._greeted(happening)
            case Gap():
                if not self.lossy:
                    raise Finding(
                        f"{self.client.name}: a gap on a link that loses nothing: {happening.channel}: {happening.why}"
                    )
                self._mend(happening.channel, happening.method, happening.params)
            case Heartbeat():
                pass

    def _answered(self, answer: Answer) -> None:
        asked = self.asked.pop(answer.id)
        result = None
        if answer.error is None:
            result = self.protocol.decode(answer.result, METHODS[asked.method].result)
        if asked.then is not None:
            asked.then(result, answer.error)

    # ------------------------------------------------------------------------------------------------- login, channels

    def _greeted(self, hello: Hello) -> None:
        self._heartbeat_ns = hello.heartbeat_ms * MS_NS
        self._idle_ns = hello.idle_ms * MS_NS
        if self.key is None:
            self._restore()
            return
        challenge, stamp_us = self.client.answer_challenge(hello.challenge, hello.ts_us)
        self.call("login", self.key.sign(challenge, stamp_us), self._logged_in)

    def _logged_in(self, result: wire.LoginResult | None, error: Error | None) -> None:
        if result is not None:
            self._restore()
        elif error is not None:
            self.ended = self.client.settling and error.data.reason == "login_failed"  # the key is gone
            self.leave(f"login refused: {error.message}")
            self.retry_at_ns = self.world.now_ns + max(error.data.retry_after_ms, 500) * MS_NS
        elif self.link is not None:
            self.leave("no answer to the login")

    def _restore(self) -> None:
        self.lossy = False
        for method, params in self.protocol.restore():
            self._mend(ACCOUNT if method == "resume" else "", method, params)
        if self.link is not None:
            self.ready = True
            self.client.came_up(self)

    def _mend(self, channel: str, method: str, params: Struct) -> None:
        """Resume, resync or subscribe again; a channel that is refused for good is given up."""

        link = self.link

        def again() -> None:
            if self.link is link:
                self._mend(channel, method, params)

        def then(result: Any, error: Error | None) -> None:
            if result is not None or self.link is not link:
                return
            if error is None:
                self.leave("channels are not restored")
            elif error.code in (ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED):
                self.world.later(max(error.data.retry_after_ms, 50) * MS_NS, again)
            elif method == "resume":
                self._mend(ACCOUNT, "subscribe", self.protocol.start_over())
            elif isinstance(params, wire.SubscribeParams) and len(params.channels) > 1:
                for one in params.channels:
                    self._mend(one, "subscribe", wire.SubscribeParams([one]))
            else:
                for one in params.channels if isinstance(params, wire.SubscribeParams) else [channel]:
                    self.drop(one)

        if link is not None and not self.call(method, params, then):
            self.leave("too many calls wait")

    def resume_from_the_start(self, epoch: str) -> None:
        """Let the next restore resume the account from its first event."""
        self.protocol.want(ACCOUNT)
        self.protocol._places[ACCOUNT].seq = 0
        self.protocol._epoch = epoch

    def subscribe(self, *channels: str) -> None:
        """Follow channels from now on."""
        new = [channel for channel in channels if self.protocol.want(channel)]
        if new:
            self._mend("", "subscribe", wire.SubscribeParams(new))

    def unsubscribe(self, channel: str) -> None:
        self.drop(channel)
        self.call("unsubscribe", wire.SubscribeParams([channel]))

    def drop(self, channel: str) -> None:
        """Want a channel no longer."""
        self.protocol.unwant(channel)
        self.books.pop(channel, None)

    @property
    def channels(self) -> list[str]:
        return [*self.protocol._places]

    def _channel(self, message: ChannelMessage) -> None:
        client, channel = self.client, message.channel
        client.coverage.count("channel", channel_name(channel))
        if isinstance(message.data, ChannelClosed):
            self.drop(channel)
            return
        if channel.startswith("book."):
            book = self.books.get(channel)
            if book is None:
                info = client.board.markets.get(channel.split(".")[1])
                if info is None:
                    return
                book = self.books[channel] = Book(info)
            if (message.type == "snapshot" or book.synced) and not book.apply(message):
                raise Finding(f"{client.name}: {channel} at {message.seq}: {book.trouble}")
        elif channel == ACCOUNT:
            client.account_message(message)
        elif channel == "status":
            client.learn(message.data)
