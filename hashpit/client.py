"""The asyncio client: one logged-in connection that mends itself.

    async with Client("ws://127.0.0.1:8765/ws", load(Path("bot.key"))) as client:
        result = await client.place("SHA256-20261124", "buy", qty="1.500", price="0.00050000")
        async for message in await client.subscribe("account"):
            ...

What it does by itself: answers the challenge, keeps the connection alive, notices a dead one, reconnects with backoff and
jitter, resumes the account channel after its last number, subscribes the other channels again, mends gaps, and keeps local
books that verify every delta.

What it never does by itself is send a command twice. When no answer comes the call raises Unknown, and
``await client.retry(unknown)`` finds out what happened.

One reader takes in frames and hands them on without ever waiting for you, so a slow consumer delays nobody. It fills its
own queue instead, and at QUEUE_MAX messages that one subscription ends with Overflow.
"""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Literal, TypeVar, cast

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException
from websockets.typing import Subprotocol

from gateway import wire
from gateway.wire import (
    AnyMarketInfo,
    Budget,
    ChannelMessage,
    Close,
    Heartbeat,
    Hello,
    LiveMarketInfo,
    MarketInfo,
    ResyncParams,
    SubscribeParams,
)
from hashpit.book import Book
from hashpit.errors import (
    Closed,
    Denied,
    HashpitError,
    LoginFailed,
    NoAnswer,
    NotSent,
    ProtocolError,
    RateLimited,
    Unknown,
    refused,
)
from hashpit.keys import Key
from hashpit.levels import Levels
from hashpit.messages import METHODS, ChannelClosed
from hashpit.protocol import ACCOUNT, Answer, CodecName, Gap, Happening, Protocol
from hashpit.readers import QUEUE_MAX, C, Followed, Reader, Subscription

DEFAULT_URL: Final = "ws://127.0.0.1:8765/ws"
TIMEOUT_S: Final = 5.0
"""How long a call waits for a connection and its answer, unless told otherwise."""
RETRY_S: Final = 30.0
"""How long ``retry`` tries to find out what became of a call, unless told otherwise."""
RETRY_PAUSE_S: Final = 0.05
BACKOFF_MIN_S: Final = 0.2
BACKOFF_MAX_S: Final = 15.0
"""A reconnect waits a random time up to a bound that doubles from the first of these to the second; a connection that lasted
longer than the second starts over at the first."""
SILENCE_HEARTBEATS: Final = 3
"""A connection that brought nothing for as many heartbeat intervals is dead."""
BEATS_PER_IDLE: Final = 3
"""The client sends a heartbeat this many times in the span after which the server closes an idle connection."""
MESSAGE_BYTES_MAX: Final = 64 * 2**20
"""Largest message taken from the server (the snapshot of a very deep book)."""

Number = str | Decimal | int
"""A price, quantity or amount. Floats are refused: 0.1 is not a decimal to them."""

T = TypeVar("T")


class Client:
    """A connection to the exchange. Use it as an async context manager, or call ``connect`` and ``close``.

    Without a key only public methods and channels answer. ``timeout_s`` bounds each call. All methods belong to the event
    loop that connected.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: Key | None = None,
        *,
        codec: CodecName = "json",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.url = url
        self.key = key
        self.timeout_s = timeout_s
        self.connections = 0
        """How often it connected (and logged in) so far."""
        self.trouble: BaseException | None = None
        """Why the last connection, or attempt at one, ended."""
        self._protocol = Protocol(codec)
        self._socket: ClientConnection | None = None
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._greeting: asyncio.Future[Hello] | None = None
        self._ready = asyncio.Event()
        self._run_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Unsubscribes on their way: a new subscribe to the same channel must not overtake them.
        self._leaving: set[asyncio.Task[None]] = set()
        self._ended: BaseException | None = None
        self._heard_s = 0.0
        self._sent_s = 0.0
        self._readers: dict[str, list[Reader]] = {}
        self._markets: dict[str, AnyMarketInfo] = {}

    # -------------------------------------------------------------------------------------------------- connection

    async def __aenter__(self) -> "Client":
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect and log in; from then on the client stays connected until it is closed.

        This first attempt is the only one that is not repeated: raises NotSent when the exchange cannot be reached, LoginFailed
        when it does not know the key.
        """
        if self._run_task is not None:
            raise RuntimeError("a Client connects once; make another one")
        self._run_task = asyncio.create_task(self._run(), name="hashpit client")
        try:
            await self._wait_ready(asyncio.get_running_loop().time() + self.timeout_s)
        except BaseException as error:
            await self.close()
            cause = error.__cause__ if isinstance(error, Closed) else None
            if isinstance(cause, HashpitError):
                raise cause from None
            if cause is not None:
                raise NotSent(f"no connection to {self.url}: {_reason(cause)}") from None
            raise

    async def close(self) -> None:
        """Disconnect for good. Orders stay in the book; cancel them first if they should not."""
        self._end(None)
        tasks = [*self._tasks]
        if self._run_task is not None:
            self._run_task.cancel()
            tasks.append(self._run_task)
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connected(self) -> bool:
        """Whether it is connected, logged in, and its channels were asked for again."""
        return self._ready.is_set() and self._ended is None

    @property
    def budget(self) -> Budget | None:
        """What the last answer said is left of the rate limits."""
        return self._protocol.budget

    async def _run(self) -> None:
        """Connect, serve the connection to its end, wait, again; until something makes that pointless."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began_s = loop.time()
            try:
                await self._serve_one()
            except LoginFailed as error:
                return self._end(error)
            except (OSError, WebSocketException, HashpitError) as error:
                self.trouble = error
                revoked = isinstance(error, ConnectionClosed) and error.rcvd and error.rcvd.code == Close.KEY_REVOKED
                if revoked or not self.connections:
                    return self._end(error)
            failures = 1 if loop.time() - began_s > BACKOFF_MAX_S else failures + 1
            # Randomly spread, so that a thousand clients that were cut together do not come back together.
            bound_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 10))
            await asyncio.sleep(random.uniform(0, bound_s))

    async def _serve_one(self) -> None:
        """One connection, from handshake to its end. Raises what ended it."""
        loop = asyncio.get_running_loop()
        async with connect(
            self.url,
            subprotocols=[Subprotocol(self._protocol.subprotocol)],
            compression=None,
            max_size=MESSAGE_BYTES_MAX,
            open_timeout=self.timeout_s,
            close_timeout=1,
            ping_interval=None,  # the protocol's own heartbeats prove more than pings do
        ) as socket:
            self._socket = socket
            self._greeting = loop.create_future()
            self._heard_s = self._sent_s = loop.time()
            opening = asyncio.create_task(self._open(socket, self._greeting), name="hashpit login and heartbeats")
            broken: Exception = ConnectionClosedOK(None, None)
            try:
                async for payload in socket:
                    self._heard_s = loop.time()
                    for happening in self._protocol.receive(payload):
                        self._take(happening)
            except (ConnectionClosed, ProtocolError) as error:
                broken = error
            finally:
                self._disconnected()
                opening.cancel()
                (outcome,) = await asyncio.gather(opening, return_exceptions=True)
        if isinstance(outcome, Exception) and not isinstance(outcome, NoAnswer):
            raise outcome  # it closed the connection, and says why
        raise broken

    def _disconnected(self) -> None:
        self._socket = None
        if self._ended is None:
            self._ready.clear()
        for number in self._protocol.disconnected():
            waiting = self._answers.pop(number)
            if not waiting.done():
                waiting.set_exception(_ConnectionBroke())
        for readers in self._readers.values():
            for reader in readers:
                reader.lost("disconnected")

    async def _open(self, socket: ClientConnection, greeting: asyncio.Future[Hello]) -> None:
        """Log in, ask for the channels again, then keep the connection alive. Closes it when that fails."""
        try:
            async with asyncio.timeout(self.timeout_s):
                hello = await greeting
            if self.key is not None:
                # Dated by the server's clock, so that ours need not be right; the challenge is what makes it single-use.
                await self._ask("login", self.key.sign(hello.challenge, hello.ts_us))
            for method, params in self._protocol.restore():
                await self._restore(method, params)
            self.connections += 1
            self._ready.set()
            await self._beat(hello)
        except Exception:
            self._spawn(socket.close())  # the reader sees the end, and cannot be waited for here
            raise

    async def _restore(self, method: str, params: Struct) -> None:
        """Resume or subscribe. A refused channel ends that channel's readers and nothing else."""
        try:
            await self.patiently(lambda: self._ask(method, params))
        except RateLimited:
            raise  # says nothing about the channels; the next connection tries again
        except Denied as error:
            if method == "resume":
                return await self._restore("subscribe", self._protocol.start_over())
            assert isinstance(params, SubscribeParams), "restore resumes and subscribes, nothing else"
            if len(params.channels) == 1:
                return self._drop(params.channels[0], error)
            for channel in params.channels:  # one of them is gone; the others are not to suffer
                await self._restore("subscribe", SubscribeParams([channel]))

    async def _beat(self, hello: Hello) -> None:
        """Send heartbeats while nothing else is sent. Raises NotSent once the server has fallen silent."""
        loop = asyncio.get_running_loop()
        silence_s = SILENCE_HEARTBEATS * hello.heartbeat_ms / 1000
        idle_s = hello.idle_ms / 1000 / BEATS_PER_IDLE
        while True:
            await asyncio.sleep(min(silence_s / SILENCE_HEARTBEATS, idle_s))
            if loop.time() - self._heard_s > silence_s:
                raise NotSent(f"the server was silent for {silence_s:.1f} s")
            if loop.time() - self._sent_s >= idle_s:
                self._spawn(self._quietly("heartbeat", None))

    def _take(self, happening: Happening) -> None:
        match happening:
            case ChannelMessage():
                for reader in [*self._readers.get(happening.channel, ())]:
                    reader.put(happening)
                if isinstance(happening.data, ChannelClosed):
                    self._drop(happening.channel, None)
            case Answer():
                waiting = self._answers.pop(happening.id)
                if not waiting.done():
                    waiting.set_result(happening)
            case Gap():
                for reader in self._readers.get(happening.channel, ()):
                    reader.lost(happening.why)
                self._spawn(self._mend(happening))
            case Hello():
                if self._greeting is not None and not self._greeting.done():
                    self._greeting.set_result(happening)
            case Heartbeat():
                pass  # the protocol compared its numbers already

    async def _mend(self, gap: Gap) -> None:
        """Ask for what a channel lost. When that fails the connection is given up: the next one restores every channel."""
        socket = self._socket
        try:
            try:
                await self.patiently(lambda: self._ask(gap.method, gap.params))
            except Denied as error:
                if gap.channel != ACCOUNT or isinstance(error, RateLimited):
                    raise
                await self._ask("subscribe", self._protocol.start_over())
        except HashpitError:
            if socket is not None:
                await socket.close()

    def _resync(self, channel: str, why: str) -> None:
        """A reader found its copy wrong: ask for a snapshot."""
        self._spawn(self._mend(Gap(channel, why, "resync", ResyncParams(channel))))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _quietly(self, method: str, params: Struct | None) -> None:
        """A call whose failure does not matter: what broke it shows elsewhere."""
        try:
            await self._ask(method, params)
        except HashpitError:
            pass

    def _end(self, cause: BaseException | None) -> None:
        """No more connections: wake everyone who waits."""
        if self._ended is not None:
            return
        self._ended = cause or Closed("closed by its owner")
        self._ready.set()
        for channel in [*self._readers]:
            self._drop(channel, self._closed())

    def _closed(self) -> Closed:
        error = Closed(f"the client is closed: {self._ended}")
        error.__cause__ = self._ended
        return error

    def _drop(self, channel: str, error: BaseException | None) -> None:
        """End a channel for all of its readers; without an error it came to its natural end."""
        self._protocol.unwant(channel)
        for reader in self._readers.pop(channel, []):
            reader.end(channel, error)

    async def _wait_ready(self, deadline_s: float) -> None:
        if not self._ready.is_set():
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._ready.wait()
            except TimeoutError:
                why = f": {_reason(self.trouble)}" if self.trouble else ": timed out"
                raise NotSent(f"no connection to {self.url}{why}") from None
        if self._ended is not None:
            raise self._closed()

    # ------------------------------------------------------------------------------------------------------- calls

    async def call(self, method: str, params: Struct | None = None, *, timeout_s: float | None = None) -> Any:
        """Call a method with its params Struct of ``gateway.wire``; returns its typed result.

        Raises Rejected or Denied when the server says no; NotSent when there is no connection; Unknown when a command went
        out and no answer came, NoAnswer when a question did.
        """
        span_s = self.timeout_s if timeout_s is None else timeout_s
        deadline_s = asyncio.get_running_loop().time() + span_s
        await self._wait_ready(deadline_s)
        return await self._ask(method, params, deadline_s)

    async def retry(self, unknown: NoAnswer, *, timeout_s: float = RETRY_S) -> Any:
        """Find out what became of a call: send it again exactly as it was, over new connections if need be, until it is
        answered. Raises ``unknown`` again when that takes longer than ``timeout_s``.

        A place, withdraw or deposit carries its own id, so the answer is the first outcome (``repeat`` is set) or, if the
        first never arrived, the outcome now. A cancel or amend of an order that is gone is Rejected with order_unknown.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + timeout_s
        while (left_s := deadline_s - loop.time()) > 0:
            try:
                return await self.call(unknown.method, unknown.params, timeout_s=min(left_s, self.timeout_s))
            except RateLimited as error:
                await asyncio.sleep(error.retry_after_s)
            except (NoAnswer, NotSent):
                await asyncio.sleep(RETRY_PAUSE_S)
        raise unknown

    async def patiently(self, make: Callable[[], Awaitable[T]], *, tries: int = 10) -> T:
        """Await ``make()``; when the rate limit refuses it, wait for as long as the server says and make another.

        ``await client.patiently(lambda: client.cancel(order_id=7))``. The last refusal of ``tries`` is raised.
        """
        for _ in range(tries - 1):
            try:
                return await make()
            except RateLimited as error:
                await asyncio.sleep(error.retry_after_s * random.uniform(1.0, 1.25))
        return await make()

    async def _ask(self, method: str, params: Struct | None = None, deadline_s: float | None = None) -> Any:
        """A call on the connection that is there now, ready or not."""
        loop = asyncio.get_running_loop()
        socket = self._socket
        if socket is None:
            raise NotSent(f"no connection to {self.url}")
        number, frame = self._protocol.call(method, params)
        future = self._answers[number] = loop.create_future()
        shape = METHODS[method]
        no_answer = Unknown if shape.is_command else NoAnswer
        try:
            async with asyncio.timeout_at(loop.time() + self.timeout_s if deadline_s is None else deadline_s):
                self._sent_s = loop.time()
                await socket.send(frame, text=not self._protocol.binary)
                answer = await future
        except TimeoutError:
            raise no_answer(method, params, "no answer in time") from None
        except (ConnectionClosed, _ConnectionBroke):
            raise no_answer(method, params, "the connection broke") from None
        finally:
            self._answers.pop(number, None)
            self._protocol.forget(number)
            future.cancel()
        if answer.error is not None:
            raise refused(answer.error)
        return self._protocol.decode(answer.result, shape.result)

    # ---------------------------------------------------------------------------------------------------- channels

    async def subscribe(self, *channels: str, queue_max: int = QUEUE_MAX) -> Subscription:
        """Follow channels: ``book.<market>``, ``trades.<market>``, ``ticker.<market>``, ``status``, ``account``, and of live
        markets ``live.<market>``, ``flows.<market>``.

        Every channel's first message is a snapshot. Subscriptions survive reconnects: public channels start again with a
        snapshot, the account channel goes on after its last number (or, if that is too long ago, with a snapshot).
        """
        subscription = Subscription(channels, self._unlisten, queue_max)
        await self._listen(subscription, channels)
        return subscription

    async def follow(self, market: str, *, conflated: bool = False) -> Followed[Book]:
        """Keep a local book of a market; ``conflated`` takes the 100 ms form. Returns once its snapshot is in."""
        channel = f"book.{market}.100ms" if conflated else f"book.{market}"
        return await self._follow(Book(await self.market(market)), channel)

    async def follow_live(self, market: str) -> Followed[Levels]:
        """Keep a local copy of a live market's bids and asks. Returns once its snapshot is in."""
        return await self._follow(Levels(await self.live_market(market)), f"live.{market}")

    async def _follow(self, copy: C, channel: str) -> Followed[C]:
        followed = Followed(copy, channel, self._unlisten, self._resync)
        await self._listen(followed, [channel])
        try:
            async with asyncio.timeout(self.timeout_s):
                await followed.changed()
        except TimeoutError:
            followed.close()
            raise NoAnswer("subscribe", None, f"no snapshot of {channel} in time") from None
        return followed

    async def _listen(self, reader: Reader, channels: Sequence[str]) -> None:
        await self._wait_ready(asyncio.get_running_loop().time() + self.timeout_s)
        if self._leaving:
            await asyncio.wait(self._leaving)
        new = [channel for channel in channels if self._protocol.want(channel)]
        for channel in channels:
            self._readers.setdefault(channel, []).append(reader)
        try:
            if new:
                await self._ask("subscribe", SubscribeParams(new))
            for channel in channels:
                if channel not in new:  # another reader has it: the snapshot goes to both
                    await self._ask("resync", ResyncParams(channel))
        except BaseException:
            self._unlisten(reader, channels)
            raise

    def _unlisten(self, reader: Reader, channels: Iterable[str]) -> None:
        silent = []
        for channel in channels:
            readers = self._readers.get(channel, [])
            if reader in readers:
                readers.remove(reader)
                if not readers:
                    del self._readers[channel]
                    self._protocol.unwant(channel)
                    silent.append(channel)
        if silent and self._socket is not None:
            leaving = self._spawn(self._quietly("unsubscribe", SubscribeParams(silent)))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)

    # ----------------------------------------------------------------------------------------------------- methods

    async def time(self) -> wire.TimeResult:
        """The server's clock."""
        return cast(wire.TimeResult, await self.call("time"))

    async def info(self) -> wire.InfoResult:
        """The server's version, limits and rates."""
        return cast(wire.InfoResult, await self.call("info"))

    async def markets(self) -> list[AnyMarketInfo]:
        """Every listed market with its terms: MarketInfo of a dated one, LiveMarketInfo of a live one."""
        markets: list[AnyMarketInfo] = await self.call("markets")
        self._markets = {market.market: market for market in markets}
        return markets

    async def market(self, symbol: str) -> MarketInfo:
        """One dated market's terms, asked for once. Raises ValueError when it is not listed."""
        market = await self._market(symbol)
        if not isinstance(market, MarketInfo):
            raise ValueError(f"{symbol} is a live market; see `hashpit live`, or live_market in a program")
        return market

    async def live_market(self, symbol: str) -> LiveMarketInfo:
        """One live market's terms, asked for once. Raises ValueError when it is not listed."""
        market = await self._market(symbol)
        if not isinstance(market, LiveMarketInfo):
            raise ValueError(f"{symbol} is not a live market")
        return market

    async def _market(self, symbol: str) -> AnyMarketInfo:
        if symbol not in self._markets:
            await self.markets()
        if symbol not in self._markets:
            raise ValueError(f"market {symbol} is not listed")
        return self._markets[symbol]

    async def book(self, market: str, depth: int = 100) -> wire.BookView:
        """The best ``depth`` levels of a market, once; ``follow`` keeps them current."""
        return cast(wire.BookView, await self.call("book", wire.BookParams(market, depth)))

    async def trades(self, market: str, limit: int = 100) -> list[wire.TradeView]:
        """The latest public trades, newest first."""
        return cast(list[wire.TradeView], await self.call("trades", wire.TradesParams(market, limit)))

    async def place(
        self,
        market: str,
        side: wire.SideName,
        qty: Number,
        price: Number | None = None,
        *,
        type: wire.OrderTypeName | None = None,
        time_in_force: wire.TimeInForceName | None = None,
        post_only: wire.PostOnlyName = "off",
        reduce_only: bool = False,
        self_trade_prevention: wire.SelfTradePreventionName = "none",
        expires_us: int | None = None,
        client_order_id: str | None = None,
        deadline_us: int | None = None,
    ) -> wire.OrderResult:
        """Place an order: a limit order with a price, a market order without one.

        Without a ``client_order_id`` one is made, so that an Unknown outcome can always be resolved.
        """
        params = wire.PlaceParams(
            market=market,
            side=side,
            qty=_text(qty, "qty"),
            price=None if price is None else _text(price, "price"),
            type=type or ("market" if price is None else "limit"),
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
            self_trade_prevention=self_trade_prevention,
            expires_us=expires_us,
            client_order_id=client_order_id or secrets.token_hex(12),
            deadline_us=deadline_us,
        )
        return cast(wire.OrderResult, await self.call("place", params))

    async def amend(
        self,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        price: Number | None = None,
        qty: Number | None = None,
        deadline_us: int | None = None,
    ) -> wire.OrderResult:
        """Change an open order's price, total quantity (filled part included), or both. Only a smaller quantity at the same
        price keeps the order's place in the queue."""
        params = wire.AmendParams(
            order_id=order_id,
            client_order_id=client_order_id,
            price=None if price is None else _text(price, "price"),
            qty=None if qty is None else _text(qty, "qty"),
            deadline_us=deadline_us,
        )
        return cast(wire.OrderResult, await self.call("amend", params))

    async def cancel(
        self, *, order_id: int | None = None, client_order_id: str | None = None, deadline_us: int | None = None
    ) -> wire.CancelResult:
        """Cancel an open order."""
        params = wire.CancelParams(order_id=order_id, client_order_id=client_order_id, deadline_us=deadline_us)
        return cast(wire.CancelResult, await self.call("cancel", params))

    async def cancel_all(
        self, market: str | None = None, side: wire.SideName | None = None, deadline_us: int | None = None
    ) -> wire.CancelAllResult:
        """Cancel the account's open orders, of one market or side if given."""
        params = wire.CancelAllParams(market, side, deadline_us)
        return cast(wire.CancelAllResult, await self.call("cancel_all", params))

    # ------------------------------------------------------------------------------------------------- live markets

    async def place_bid(
        self,
        market: str,
        price: Number,
        budget: Number,
        *,
        limit: Number | None = None,
        pool_id: int | None = None,
        url: str | None = None,
        worker: str | None = None,
        peg: wire.PegName = "none",
        offset: Number | None = None,
        floor: Number | None = None,
        expires_us: int | None = None,
        client_order_id: str | None = None,
        deadline_us: int | None = None,
    ) -> wire.BidResult:
        """Bid for hashrate in a live market, for a pool that was saved (``pool_id``) or ``url`` and ``worker``.

        ``price`` is what it pays, pegged the most it ever pays; without ``limit`` it takes all that its price gets. Without a
        ``client_order_id`` one is made, so that an Unknown outcome can always be resolved.
        """
        params = wire.PlaceBidParams(
            market=market,
            price=_text(price, "price"),
            budget=_text(budget, "budget"),
            limit=None if limit is None else _text(limit, "limit"),
            pool_id=pool_id,
            url=url,
            worker=worker,
            peg=peg,
            offset=None if offset is None else _text(offset, "offset"),
            floor=None if floor is None else _text(floor, "floor"),
            expires_us=expires_us,
            client_order_id=client_order_id or secrets.token_hex(12),
            deadline_us=deadline_us,
        )
        return cast(wire.BidResult, await self.call("live.place_bid", params))

    async def place_ask(
        self,
        market: str,
        price: Number,
        speed: Number,
        *,
        expires_us: int | None = None,
        client_order_id: str | None = None,
        deadline_us: int | None = None,
    ) -> wire.AskResult:
        """Offer hashrate in a live market for at least ``price``. ``client_order_id`` as for a bid."""
        params = wire.PlaceAskParams(
            market=market,
            price=_text(price, "price"),
            speed=_text(speed, "speed"),
            expires_us=expires_us,
            client_order_id=client_order_id or secrets.token_hex(12),
            deadline_us=deadline_us,
        )
        return cast(wire.AskResult, await self.call("live.place_ask", params))

    async def amend_bid(
        self,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        price: Number | None = None,
        limit: Number | None = None,
        pool_id: int | None = None,
        url: str | None = None,
        worker: str | None = None,
        deadline_us: int | None = None,
    ) -> wire.BidResult:
        """Change what a bid pays (pegged: at most), its limit (0 takes it away), or its pool."""
        params = wire.AmendBidParams(
            order_id=order_id,
            client_order_id=client_order_id,
            price=None if price is None else _text(price, "price"),
            limit=None if limit is None else _text(limit, "limit"),
            pool_id=pool_id,
            url=url,
            worker=worker,
            deadline_us=deadline_us,
        )
        return cast(wire.BidResult, await self.call("live.amend_bid", params))

    async def amend_ask(
        self,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        price: Number | None = None,
        speed: Number | None = None,
        deadline_us: int | None = None,
    ) -> wire.AskResult:
        """Change the least price or the speed of an ask; less speed keeps its place."""
        params = wire.AmendAskParams(
            order_id=order_id,
            client_order_id=client_order_id,
            price=None if price is None else _text(price, "price"),
            speed=None if speed is None else _text(speed, "speed"),
            deadline_us=deadline_us,
        )
        return cast(wire.AskResult, await self.call("live.amend_ask", params))

    async def refill(
        self,
        amount: Number,
        *,
        order_id: int | None = None,
        client_order_id: str | None = None,
        refill_id: str | None = None,
        deadline_us: int | None = None,
    ) -> wire.RefillResult:
        """Add ``amount`` BTC to a bid's budget, once per ``refill_id``."""
        params = wire.RefillParams(
            order_id=order_id,
            client_order_id=client_order_id,
            amount=_text(amount, "amount"),
            refill_id=refill_id or secrets.token_hex(12),
            deadline_us=deadline_us,
        )
        return cast(wire.RefillResult, await self.call("live.refill", params))

    async def live_orders(self, market: str | None = None, limit: int = 100) -> wire.LiveOrdersResult:
        """The account's open bids and asks in live markets, the latest first."""
        return cast(wire.LiveOrdersResult, await self.call("live.orders", wire.LiveOrdersParams(market, limit)))

    async def flows(self, market: str | None = None, limit: int = 100, after_id: int = 0) -> list[wire.FlowView]:
        """Hashrate that the account buys or sells, oldest first from above ``after_id`` on; with a meter key, all of it."""
        return cast(list[wire.FlowView], await self.call("live.flows", wire.FlowsParams(market, limit, after_id)))

    async def live_book(self, market: str, depth: int = 100) -> wire.LiveBookView:
        """The best ``depth`` levels of a live market, once; ``follow_live`` keeps them current."""
        return cast(wire.LiveBookView, await self.call("live.book", wire.BookParams(market, depth)))

    async def estimate(
        self, market: str, price: Number, limit: Number | None = None, budget: Number | None = None
    ) -> wire.EstimateResult:
        """What a bid of that price and limit would get now, what that costs, and how long a budget lasts."""
        params = wire.EstimateParams(
            market=market,
            price=_text(price, "price"),
            limit=None if limit is None else _text(limit, "limit"),
            budget=None if budget is None else _text(budget, "budget"),
        )
        return cast(wire.EstimateResult, await self.call("live.estimate", params))

    async def save_pool(
        self,
        name: str,
        algorithm: str,
        url: str,
        worker: str,
        password: str = "x",  # noqa: S107 what pools expect of those who need none
        pool_id: int | None = None,
    ) -> wire.PoolView:
        """Remember a pool by a name, or change one that is there."""
        params = wire.SavePoolParams(name, algorithm, url, worker, password, pool_id)
        return cast(wire.PoolView, await self.call("pool.save", params))

    async def delete_pool(self, pool_id: int) -> wire.PoolResult:
        """Forget a pool; bids that were pointed at it stay so."""
        return cast(wire.PoolResult, await self.call("pool.delete", wire.PoolParams(pool_id)))

    async def pools(self) -> list[wire.PoolView]:
        """The account's pools."""
        return cast(list[wire.PoolView], await self.call("pools"))

    # -------------------------------------------------------------------------------------------------------- reads

    async def order(self, *, order_id: int | None = None, client_order_id: str | None = None) -> wire.OrderView:
        """One order of the account, open or recently closed."""
        return cast(wire.OrderView, await self.call("order", wire.OrderRef(order_id, client_order_id)))

    async def orders(
        self, market: str | None = None, state: Literal["open", "closed"] = "open", limit: int = 100
    ) -> list[wire.OrderView]:
        """The account's open orders, or those closed recently (newest first)."""
        return cast(list[wire.OrderView], await self.call("orders", wire.OrdersParams(market, state, limit)))

    async def balances(self) -> wire.BalanceView:
        """The account's money in BTC."""
        return cast(wire.BalanceView, await self.call("balances"))

    async def positions(self) -> list[wire.PositionView]:
        """The account's position in every market that it has traded in and that is not settled."""
        return cast(list[wire.PositionView], await self.call("positions"))

    async def deliveries(self, market: str | None = None, limit: int = 100, after_id: int = 0) -> list[wire.DeliveryView]:
        """Deliveries that the account sells or buys, oldest first from above ``after_id`` on; with a meter key, every running
        one."""
        params = wire.DeliveriesParams(market, limit, after_id)
        return cast(list[wire.DeliveryView], await self.call("deliveries", params))

    async def fills(self, market: str | None = None, limit: int = 100) -> list[wire.FillView]:
        """The account's latest fills, newest first."""
        return cast(list[wire.FillView], await self.call("fills", wire.FillsParams(market, limit)))

    async def set_destination(self, market: str, url: str, worker: str) -> wire.DestinationResult:
        """Where hashrate bought in a market shall be pointed."""
        params = wire.SetDestinationParams(market, url, worker)
        return cast(wire.DestinationResult, await self.call("set_destination", params))

    async def withdraw(self, amount: Number, transfer_id: str | None = None) -> wire.TransferResult:
        """Take ``amount`` BTC out of the account."""
        params = wire.WithdrawParams(_text(amount, "amount"), transfer_id or secrets.token_hex(12))
        return cast(wire.TransferResult, await self.call("withdraw", params))

    # ------------------------------------------------------------------------------------------ the meter, the operator

    async def report_work(self, delivery_id: int, hashes: int, shares: int, excused_hashes: int = 0) -> wire.WorkResult:
        """A meter's report: proven work of a delivery in total so far. Repeating one changes nothing."""
        params = wire.ReportWorkParams(delivery_id, str(hashes), shares, str(excused_hashes))
        return cast(wire.WorkResult, await self.call("report_work", params))

    async def report_flow(self, flow_id: int, hashes: int, final: bool = False) -> wire.FlowResult:
        """A meter's report: proven work of a flow in total so far. ``final``: there will be no more."""
        return cast(wire.FlowResult, await self.call("report_flow", wire.ReportFlowParams(flow_id, str(hashes), final)))

    async def list_live_market(self, params: wire.ListLiveMarketParams) -> LiveMarketInfo:
        """Open a live market."""
        return cast(LiveMarketInfo, await self.call("list_live_market", params))

    async def set_index(self, market: str, price: Number | None = None) -> wire.IndexResult:
        """Tell a live market the index price; None: there is none."""
        text = None if price is None else _text(price, "price")
        return cast(wire.IndexResult, await self.call("set_index", wire.SetIndexParams(market, text)))

    async def create_account(self, name: str) -> wire.AccountResult:
        """Open an account. Its name is unique, so a retry that finds it taken has its id in the refusal's bound."""
        return cast(wire.AccountResult, await self.call("create_account", wire.CreateAccountParams(name)))

    async def deposit(self, account: int, amount: Number, transfer_id: str | None = None) -> wire.TransferResult:
        """Credit ``amount`` BTC to an account."""
        params = wire.TransferParams(account, _text(amount, "amount"), transfer_id or secrets.token_hex(12))
        return cast(wire.TransferResult, await self.call("deposit", params))

    async def list_market(self, algorithm: str, start_us: int, length_s: int, reference_price: Number) -> MarketInfo:
        """Open a dated market for one delivery period; it starts on a whole minute."""
        price = _text(reference_price, "reference_price")
        params = wire.ListMarketParams(algorithm, start_us, length_s, price)
        return cast(MarketInfo, await self.call("list_market", params))

    async def set_market_state(
        self, market: str, state: Literal["open", "cancel_only", "halted", "closed"]
    ) -> wire.MarketStateResult:
        """Change a market's state; closed is for good."""
        params = wire.MarketStateParams(market, state)
        return cast(wire.MarketStateResult, await self.call("set_market_state", params))

    async def settle(self, market: str, index_price: Number | None = None) -> wire.SettleResult:
        """Settle the deliveries of a market whose period has ended, without waiting for its settlement time."""
        price = None if index_price is None else _text(index_price, "index_price")
        return cast(wire.SettleResult, await self.call("settle", wire.SettleParams(market, price)))

    async def account_cancel_all(self, account: int, market: str | None = None) -> wire.CancelAllResult:
        """Cancel the open orders of any account."""
        params = wire.AccountCancelAllParams(account, market)
        return cast(wire.CancelAllResult, await self.call("account_cancel_all", params))

    async def keys(self, account: int | None = None) -> list[wire.KeyView]:
        """Every key, or those of one account."""
        return cast(list[wire.KeyView], await self.call("keys", wire.KeysParams(account)))

    async def add_key(
        self,
        account: int,
        permissions: Sequence[wire.Permission],
        *,
        kind: Literal["ed25519", "hmac", "nicehash"] = "ed25519",
        public_key: str = "",
        ip_list: Sequence[str] = (),
        label: str = "",
    ) -> wire.AddKeyResult:
        """Let a key speak for an account: an Ed25519 public key, or an HMAC secret that the server makes."""
        params = wire.AddKeyParams(account, [*permissions], kind, public_key, [*ip_list], label)
        return cast(wire.AddKeyResult, await self.call("add_key", params))

    async def revoke_key(self, key: str) -> wire.RevokeKeyResult:
        """End a key for good; its connections are closed at once."""
        return cast(wire.RevokeKeyResult, await self.call("revoke_key", wire.RevokeKeyParams(key)))


class _ConnectionBroke(Exception):
    """Given to calls that wait for an answer when their connection breaks."""


def _reason(error: BaseException) -> str:
    """Why there is no connection, and what to look at."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; is `hashpit serve` running there?"
    return str(error) or type(error).__name__


def _text(number: Number, name: str) -> str:
    """A number as the plain decimal text of the wire. Raises TypeError for a float, naming the parameter."""
    if isinstance(number, str):
        return number
    if isinstance(number, bool) or not isinstance(number, int | Decimal):
        raise TypeError(f'{name}: write a decimal as text, such as "0.0005", not {number!r}')
    return f"{number:f}" if isinstance(number, Decimal) else str(number)
