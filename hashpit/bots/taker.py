"""A taker: at random moments it buys or sells a random quantity at the best price opposite. Written to be copied.

It keeps a local book, so it knows the price it will get, and sends limit orders that trade at once or not at all (IOC) with
a little room for a price that moves in the meantime: a market order with a bound of its own. The further its position is
from zero the more likely it trades back, so it neither runs out of money nor leans on the market.
"""

import asyncio
import random
from typing import Final

from msgspec import Struct

from gateway.wire import SideName
from hashpit.book import Book
from hashpit.bots.desk import MARKET_OVER, Desk, is_mistake
from hashpit.client import Client
from hashpit.errors import NoAnswer, NotSent, Overflow, RateLimited, Refused
from hashpit.readers import Followed

BPS: Final = 10_000


class TakerSettings(Struct, frozen=True, kw_only=True):
    """What a taker does in one market. Quantities are decimal text in the market's speed unit."""

    market: str
    qty_max: str
    """Largest order."""
    position_max: str
    """At this position it only trades back."""
    every_s: float = 5.0
    """Mean time between orders."""
    slippage_bps: int = 10
    """How much worse than the best price an order may trade."""
    destination_url: str = ""
    """Where hashrate that it still holds at the gate shall go; empty: nowhere."""
    destination_worker: str = "hashpit"


class Taker:
    """One market's taker. ``rng`` makes its choices, so a seeded one repeats them."""

    def __init__(self, client: Client, settings: TakerSettings, rng: random.Random | None = None) -> None:
        self.client = client
        self.settings = settings
        self._rng = rng or random.Random()
        self._over = False
        self.desk: Desk

    async def run(self) -> None:
        """Trade until the market's end, or until canceled. Raises Closed when the client ends, Denied when its key may not."""
        self.desk = Desk(await self.client.market(self.settings.market))
        try:
            while not self._over:
                try:
                    await self._trade()
                except (NotSent, NoAnswer, Overflow, RateLimited):
                    # Unknown is among them, and an IOC order cannot rest: what it did shows in the next snapshot.
                    await asyncio.sleep(self.settings.every_s)
        except Refused as error:
            if error.code not in MARKET_OVER:
                raise

    async def _trade(self) -> None:
        """Start over from snapshots, and trade until something breaks or ends."""
        settings = self.settings
        if settings.destination_url:
            await self.client.set_destination(settings.market, settings.destination_url, settings.destination_worker)
        async with (
            await self.client.follow(settings.market) as live,
            await self.client.subscribe("account") as news,
        ):
            self.desk.learn(await anext(news))
            while not self._over:
                await asyncio.sleep(self._rng.expovariate(1 / settings.every_s))
                for message in news.take():
                    self.desk.learn(message)
                if live.ended:
                    self._over = True
                    return
                if live.book.synced:
                    await self._take(live)

    async def _take(self, live: Followed[Book]) -> None:
        side, qty = self.choose()
        book = live.book
        best = book.best_ask if side == "buy" else book.best_bid
        if not best or not qty:
            return
        room = best * self.settings.slippage_bps // BPS
        price = self.desk.collared(best + room if side == "buy" else best - room)
        try:
            await self.client.place(
                self.settings.market,
                side,
                self.desk.qty.format(qty),
                self.desk.price.format(price),
                time_in_force="ioc",
                self_trade_prevention="cancel_taker",
            )
        except RateLimited as error:
            await asyncio.sleep(error.retry_after_s)
        except Refused as error:
            if is_mistake(error):
                raise
            self._over = error.code in MARKET_OVER

    def choose(self) -> tuple[SideName, int]:
        """A side and a quantity in lots. The chance of a buy falls from one to zero as the position goes from short to long."""
        bound = self.desk.qty.parse(self.settings.position_max)
        chance = (bound - self.desk.position) / (2 * bound)
        side: SideName = "buy" if self._rng.random() < chance else "sell"
        return side, self._rng.randint(1, self.desk.qty.parse(self.settings.qty_max))
