"""Who takes a channel's messages: a Subscription hands them out one by one, a Followed keeps a copy from them.

The client feeds them from its one reading task, so they never wait. ``Client.subscribe``, ``Client.follow`` and
``Client.follow_live`` make them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from gateway.wire import ChannelMessage
from hashpit.errors import Overflow, ProtocolError
from hashpit.messages import ChannelClosed

QUEUE_MAX: Final = 10_000
"""Messages that may wait in one subscription; one more ends it with Overflow, after it gave out all it holds."""


class Reader(Protocol):
    """Who takes a channel's messages."""

    def put(self, message: ChannelMessage) -> None:
        """A message, in order. Never waits."""

    def lost(self, why: str) -> None:
        """Messages are missing; a snapshot or the missing ones will follow."""

    def end(self, channel: str, error: BaseException | None) -> None:
        """The channel's end."""


Leave = Callable[[Reader, Sequence[str]], None]
"""The client's way of forgetting a reader of some channels."""


class Subscription:
    """An async iterator over the messages of its channels, in the order in which they came.

    It ends by itself when all of its channels did (their markets are settled), and with Overflow when QUEUE_MAX messages wait
    and one more comes: what waits is given out first, and nothing in between is left out.
    """

    def __init__(self, channels: Sequence[str], leave: Leave, queue_max: int = QUEUE_MAX) -> None:
        self.channels = tuple(channels)
        self._leave = leave
        self._queue: deque[ChannelMessage] = deque()
        self._queue_max = queue_max
        self._open = set(channels)
        # Channels whose snapshot is to come: what another reader still gets before it does not count here.
        self._fresh = set(channels)
        self._error: BaseException | None = None
        self._news = asyncio.Event()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> ChannelMessage:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if not self._open:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._queue.popleft()

    async def __aenter__(self) -> "Subscription":
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    def take(self) -> list[ChannelMessage]:
        """Everything that waits, at once. An answer to a call comes after the messages that it caused, so what is taken after
        ``await client.place(...)`` holds the order's own events."""
        messages = [*self._queue]
        self._queue.clear()
        if not messages and self._error is not None:
            raise self._error
        return messages

    async def wait(self, timeout_s: float) -> None:
        """Wait until there is something to take, or the end, but no longer than ``timeout_s``."""
        if self._queue or self._error is not None or not self._open:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            pass

    @property
    def ended(self) -> bool:
        """Whether all channels came to their end and nothing waits any more."""
        return not self._open and not self._queue

    def close(self) -> None:
        """Stop following, and forget what waits. Channels that nobody else follows are unsubscribed."""
        self._queue.clear()
        self._finish()

    def put(self, message: ChannelMessage) -> None:
        if message.channel in self._fresh:
            if message.type != "snapshot":
                return
            self._fresh.discard(message.channel)
        if len(self._queue) >= self._queue_max:
            self._error = Overflow(message.channel, self._queue_max)
            self._finish()
            return
        self._queue.append(message)
        self._news.set()

    def lost(self, why: str) -> None:
        """Nothing to do: what was lost comes again, or a snapshot says that it will not."""

    def end(self, channel: str, error: BaseException | None) -> None:
        self._open.discard(channel)
        self._error = self._error or error
        self._news.set()

    def _finish(self) -> None:
        self._open.clear()
        self._news.set()
        self._leave(self, self.channels)


class Copy(Protocol):
    """A local copy of a market's levels: :class:`hashpit.book.Book` or :class:`hashpit.levels.Levels`."""

    trouble: str

    def apply(self, message: ChannelMessage) -> bool:
        """Take in a message; whether the copy is proven."""
        ...

    def lose(self, why: str) -> bool:
        """Mark the copy as not proven."""
        ...


C = TypeVar("C", bound=Copy)


class Followed(Generic[C]):
    """A local book that the client keeps current and proven, for reading at any time through ``book``.

    ``async for book in live`` yields it after changes: a reader that is slower than the market sees fewer states, each of
    them current, and nothing queues up. A copy that fails its checks asks for a snapshot by itself; until it comes
    ``book.synced`` is False and nothing is yielded. SNAPSHOTS_MAX bad snapshots in a row end it with ProtocolError.
    """

    SNAPSHOTS_MAX: Final = 3

    def __init__(self, book: C, channel: str, leave: Leave, resync: Callable[[str, str], None]) -> None:
        self.book = book
        self.channel = channel
        self.resyncs = 0
        """How often the copy failed its checks."""
        self._leave = leave
        self._resync = resync
        self._bad_snapshots = 0
        self._asked = False
        self.ended = False
        """Whether the market is gone, or the book was closed."""
        self._error: BaseException | None = None
        self._news = asyncio.Event()

    def __aiter__(self) -> "Followed[C]":
        return self

    async def __anext__(self) -> C:
        await self.changed()
        if self.ended:
            raise StopAsyncIteration
        return self.book

    async def __aenter__(self) -> "Followed[C]":
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()

    async def changed(self) -> None:
        """Wait until the book changed since this was last asked, or its market's end."""
        await self._news.wait()
        if self._error is not None:
            raise self._error
        if not self.ended:
            self._news.clear()

    def close(self) -> None:
        """Stop following."""
        self.end(self.channel, None)
        self._leave(self, [self.channel])

    def put(self, message: ChannelMessage) -> None:
        if isinstance(message.data, ChannelClosed):
            return
        is_snapshot = message.type == "snapshot"
        if is_snapshot:
            self._asked = False
        if self.book.apply(message):
            self._bad_snapshots = 0
            self._news.set()
        elif not self._asked:
            self.resyncs += 1
            self._news.clear()
            self._bad_snapshots += is_snapshot
            if self._bad_snapshots >= self.SNAPSHOTS_MAX:
                self.end(self.channel, ProtocolError(f"{self.channel}: {self.book.trouble}, again and again"))
                self._leave(self, [self.channel])
                return
            self._asked = True
            self._resync(self.channel, self.book.trouble)

    def lost(self, why: str) -> None:
        self.book.lose(why)
        self._asked = True  # by the client
        self._news.clear()

    def end(self, channel: str, error: BaseException | None) -> None:
        self.book.lose("no longer followed")
        self.ended = True
        self._error = self._error or error
        self._news.set()
