"""A market maker: a bid and an ask around a reference price, leaning against its inventory. Written to be copied.

How it quotes. ``quotes`` is the whole strategy, a pure function: half a spread away from the reference on each side, both
sides shifted down when it is long and up when it is short, so that the side which reduces the position is the one that
trades next. At ``position_max`` the side that would add to it is not quoted at all.

How it trades. It follows the account channel (its orders, its position) and the ticker (the last trade, which pulls its
reference), and compares what rests with what should. A quote that should move is amended: one message instead of two, never
both quotes or none in the book, and a smaller quantity keeps its place in the queue. Quotes are post-only (slide), so a
maker never pays a taker's fee by accident.

What can go wrong, and what it does:

- its key may not trade: it raises, since trying again is no use
- a command is rejected (funds, a market that is halted): that side rests for ``reject_pause_s``, then tries again
- the market closes or is gone: it stops
- the rate limit: it waits as long as the server says
- no answer (Unknown): it asks again with the same command until it knows; nothing is placed twice
- a cut: the client reconnects and resumes; what was missed arrives as events, and quoting goes on from there
- it is stopped (canceled): it takes its quotes out of the book

One maker per account and market: it treats every order of the account there as its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from msgspec import Struct

from engine.rejects import RejectCode
from gateway.wire import ChannelMessage, SideName, TickerView
from hashpit.bots.desk import MARKET_OVER, Desk, is_mistake
from hashpit.client import Client
from hashpit.errors import HashpitError, NoAnswer, NotSent, Overflow, RateLimited, Refused, Unknown
from hashpit.readers import Subscription

BPS: Final = 10_000
PULL: Final = 8
"""A trade moves the maker's own reference by one part in this many of the way to the trade's price."""
STOP_S: Final = 2.0
"""How long it tries to cancel its quotes when it is stopped."""


class MakerSettings(Struct, frozen=True, kw_only=True):
    """What a maker does in one market. Quantities are decimal text in the market's speed unit."""

    market: str
    qty: str
    """Of each quote."""
    position_max: str
    """It never quotes beyond this position, long or short."""
    half_spread_bps: int = 30
    """Distance of a quote from the reference, in hundredths of a percent."""
    skew_bps: int = 60
    """How far both quotes shift when the position is at its maximum."""
    requote_bps: int = 5
    """A quote that is off by no more than this stays where it is."""
    pause_s: float = 0.5
    """Shortest time between two looks at the quotes."""
    reject_pause_s: float = 5.0


class Quotes(NamedTuple):
    """What should rest: ticks and lots; a quantity of 0 is no quote."""

    bid: int
    bid_qty: int
    ask: int
    ask_qty: int


def quotes(reference: int, position: int, qty: int, position_max: int, half_spread_bps: int, skew_bps: int) -> Quotes:
    """The strategy, in ticks and lots. The bid is at least one tick and always below the ask."""
    shift = reference * skew_bps * position // (BPS * position_max)
    half = max(1, reference * half_spread_bps // BPS)
    bid = max(1, reference - half - shift)
    ask = max(bid + 1, reference + half - shift)
    room_up, room_down = max(0, position_max - position), max(0, position_max + position)
    return Quotes(bid, min(qty, room_up), ask, min(qty, room_down))


class Maker:
    """One market's maker. ``reference`` (ticks) overrides its own, which follows the trades."""

    def __init__(self, client: Client, settings: MakerSettings, reference: Callable[[], int] | None = None) -> None:
        self.client = client
        self.settings = settings
        self._reference = reference
        self._own_reference = 0
        # Price that was last asked for, by side: post-only may have slid the order to another one.
        self._asked: dict[str, int] = {}
        self._rests_until_s: dict[str, float] = {}
        self._over = False
        self.desk: Desk

    async def run(self) -> None:
        """Quote until the market's end, or until canceled. Raises Closed when the client ends, Denied when its key may not."""
        market = await self.client.market(self.settings.market)
        self.desk = Desk(market)
        self._own_reference = self.desk.price.parse(market.reference_price)
        try:
            while not self._over:
                try:
                    async with await self.client.subscribe("account", f"ticker.{market.market}") as news:
                        await self._quote(news)
                except Overflow:
                    continue  # starved of CPU: start over with a snapshot
                except RateLimited as error:
                    await asyncio.sleep(error.retry_after_s)
                except (NotSent, NoAnswer):
                    await asyncio.sleep(self.settings.pause_s)
        except Refused as error:
            if error.code not in MARKET_OVER:
                raise
        finally:
            await self._leave()

    async def _quote(self, news: Subscription) -> None:
        missing = set(news.channels)
        while missing:
            message = await anext(news)
            self._learn(message)
            missing.discard(message.channel)
        while not (self._over or news.ended):
            for message in news.take():
                self._learn(message)
            if self.client.connected:
                await self._requote(news)
            # One look per pause, and at least one per ten: a rejected side has to come back by itself.
            await asyncio.sleep(self.settings.pause_s)
            await news.wait(self.settings.pause_s * 9)

    def _learn(self, message: ChannelMessage) -> None:
        self.desk.learn(message)
        if isinstance(message.data, TickerView) and message.data.last is not None:
            last = self.desk.price.parse(message.data.last)
            step = (last - self._own_reference) // PULL
            self._own_reference += step or (last > self._own_reference) - (last < self._own_reference)

    @property
    def reference(self) -> int:
        """The price it quotes around, in ticks."""
        return self._reference() if self._reference is not None else self._own_reference

    async def _requote(self, news: Subscription) -> None:
        settings, lots = self.settings, self.desk.qty.parse
        for side in ("bid", "ask"):
            # Anew for each side: the other one's command may have traded.
            wanted = quotes(
                self.reference,
                self.desk.position,
                lots(settings.qty),
                lots(settings.position_max),
                settings.half_spread_bps,
                settings.skew_bps,
            )
            price, qty = (wanted.bid, wanted.bid_qty) if side == "bid" else (wanted.ask, wanted.ask_qty)
            await self._stand("buy" if side == "bid" else "sell", self.desk.collared(price), qty)
            for message in news.take():
                self._learn(message)

    async def _stand(self, side: SideName, price: int, qty: int) -> None:
        """Make the resting order of one side what it should be, with one command at most."""
        loop = asyncio.get_running_loop()
        if self._over or loop.time() < self._rests_until_s.get(side, 0):
            return
        own = self.desk.side(side)
        try:
            if len(own) > 1 or (own and not qty):
                await self._surely(self.client.cancel(order_id=own[0].order_id))
            elif own:
                order = own[0]
                away = abs(price - self._asked.get(side, order.price))
                if away * BPS > price * self.settings.requote_bps or order.remaining > qty or order.remaining * 2 < qty:
                    text = self.desk.price.format(price)
                    total = self.desk.qty.format(order.filled + qty)
                    self._asked[side] = price
                    await self._surely(self.client.amend(order_id=order.order_id, price=text, qty=total))
            elif qty:
                text = self.desk.price.format(price)
                self._asked[side] = price
                await self._surely(
                    self.client.place(
                        self.settings.market,
                        side,
                        self.desk.qty.format(qty),
                        text,
                        post_only="slide",
                        self_trade_prevention="cancel_maker",
                    )
                )
        except RateLimited as error:
            await asyncio.sleep(error.retry_after_s)
        except Refused as error:
            if is_mistake(error):
                raise
            if error.code in MARKET_OVER:
                self._over = True
            elif error.code != RejectCode.ORDER_UNKNOWN:  # filled a moment ago: the event is on its way
                self._rests_until_s[side] = loop.time() + self.settings.reject_pause_s
        except NotSent:
            pass  # not connected: the next look is soon enough

    async def _surely(self, command: Awaitable[object]) -> object:
        """Await a command; when its outcome is unknown, ask until it is known."""
        try:
            return await command
        except Unknown as error:
            unknown = error
            while True:
                try:
                    return await self.client.retry(unknown)
                except Unknown:
                    pass  # still cut off; nothing else can be done meanwhile

    async def _leave(self) -> None:
        """Take the quotes out of the book, if that can be done soon."""
        if self._over or not self.client.connected:
            return
        try:
            async with asyncio.timeout(STOP_S):
                await self.client.cancel_all(self.settings.market)
        except (HashpitError, TimeoutError):
            pass
