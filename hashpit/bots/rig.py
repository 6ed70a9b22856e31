"""A rig: offers its hashrate in a live market for a least price, and comes and goes as machines do. Written to be copied."""

import asyncio
import random

from msgspec import Struct

from engine.rejects import RejectCode
from hashpit.bots.desk import MARKET_OVER
from hashpit.client import Client
from hashpit.errors import NoAnswer, NotSent, RateLimited, Refused, Rejected


class RigSettings(Struct, frozen=True, kw_only=True):
    """What a rig does in one market."""

    market: str
    price: str
    """The least it works for."""
    speed: str
    on_s: float = 60.0
    """Mean time that it is on."""
    off_s: float = 15.0
    """Mean time that it is off."""


class Rig:
    """One machine. ``rng`` says when it comes and goes, so a seeded one repeats itself."""

    def __init__(self, client: Client, settings: RigSettings, rng: random.Random | None = None) -> None:
        self.client = client
        self.settings = settings
        self._rng = rng or random.Random()

    async def run(self) -> None:
        """Offer until the market's end, or until canceled. Raises Closed when the client ends, Denied when its key may not."""
        settings = self.settings
        order_id: int | None = None
        try:
            while True:
                try:
                    if order_id is None:
                        order_id = (await self.client.place_ask(settings.market, settings.price, settings.speed)).order_id
                        await asyncio.sleep(self._rng.expovariate(1 / settings.on_s))
                    await self._leave(order_id)
                    order_id = None
                    await asyncio.sleep(self._rng.expovariate(1 / settings.off_s))
                except (NotSent, NoAnswer, RateLimited):
                    await asyncio.sleep(1)
        except Refused as error:
            if error.code not in MARKET_OVER:
                raise

    async def _leave(self, order_id: int) -> None:
        try:
            await self.client.cancel(order_id=order_id)
        except Rejected as error:
            if error.code != RejectCode.ORDER_UNKNOWN:  # it ended by itself: it was idle, or the market closed
                raise
