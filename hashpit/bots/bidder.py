"""A bidder: keeps one bid in a live market, and pays no more for its hashrate than it has to. Written to be copied.

While it gets less than it wants it raises its price by a step, up to its own maximum; while it gets all of it, it tries a step
lower, as often as the market lets it. When its budget runs low it refills. It reads its own bid anew in every round, so nothing
is lost by a cut or a restart.
"""

import asyncio
from decimal import Decimal
from typing import Final

from msgspec import Struct

from engine.rejects import RejectCode
from gateway.wire import BidView, LiveMarketInfo
from hashpit.bots.desk import MARKET_OVER
from hashpit.client import Client
from hashpit.errors import NoAnswer, NotSent, RateLimited, Refused

NOT_NOW: Final = {
    RejectCode.EDIT_LOCKED,
    RejectCode.DECREASE_TOO_EARLY,
    RejectCode.ORDER_UNKNOWN,
    RejectCode.BUDGET_NOT_COVERED,
}
"""Refusals that another round may not meet again: the bid was edited or ended a moment ago, or the account is out of money."""
LOW: Final = 4
"""It refills when less than one part in so many of a budget is left."""


class BidderSettings(Struct, frozen=True, kw_only=True):
    """What a bidder does in one market. Prices, speeds and money are decimal text."""

    market: str
    limit: str
    """How much hashrate it wants."""
    price_max: str
    """The most it pays."""
    price_start: str
    budget: str
    """What it bids with, and refills."""
    url: str
    worker: str
    step: str
    """By how much it raises; it lowers by this too, or by the market's step where that is less."""
    every_s: float = 2.0


class Bidder:
    """One market's bidder."""

    def __init__(self, client: Client, settings: BidderSettings) -> None:
        self.client = client
        self.settings = settings

    async def run(self) -> None:
        """Bid until the market's end, or until canceled. Raises Closed when the client ends, Denied when its key may not."""
        terms = await self.client.live_market(self.settings.market)
        try:
            while True:
                try:
                    await self._round(terms)
                except (NotSent, NoAnswer, RateLimited):
                    pass  # the next round sees what became of it
                except Refused as error:
                    if error.code not in NOT_NOW:
                        raise
                await asyncio.sleep(self.settings.every_s)
        except Refused as error:
            if error.code not in MARKET_OVER:
                raise

    async def _round(self, terms: LiveMarketInfo) -> None:
        settings = self.settings
        bids = (await self.client.live_orders(settings.market)).bids
        if not bids:
            await self.client.place_bid(
                settings.market,
                settings.price_start,
                settings.budget,
                limit=settings.limit,
                url=settings.url,
                worker=settings.worker,
            )
            return
        bid = bids[0]
        if Decimal(bid.left) * LOW < Decimal(settings.budget):
            await self.client.refill(settings.budget, order_id=bid.order_id)
        price = next_price(bid, terms, settings)
        if price != Decimal(bid.price):
            await self.client.amend_bid(order_id=bid.order_id, price=price)


def next_price(bid: BidView, terms: LiveMarketInfo, settings: BidderSettings) -> Decimal:
    """What the bid should pay next: a step more while it gets too little, a step less while it gets all."""
    price, step = Decimal(bid.price), Decimal(settings.step)
    if bid.status != "open":
        return price
    if Decimal(bid.assigned) < Decimal(settings.limit):
        return min(price + step, Decimal(settings.price_max))
    if terms.decrease_step is not None:
        step = min(step, Decimal(terms.decrease_step))
    return max(price - step, Decimal(terms.price_min))
