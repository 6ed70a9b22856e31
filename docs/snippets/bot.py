"""Quotes one lot on both sides of a market's reference price, and quotes again whenever it is filled."""

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

from hashpit.client import Client
from hashpit.errors import HashpitError
from hashpit.keys import load
from hashpit.messages import Fill


async def main(url: str, key_file: str, market: str) -> None:
    async with Client(url, load(Path(key_file))) as client:
        terms = await client.market(market)
        await client.cancel_all(market)  # quotes that an earlier run left behind
        edge = {"buy": -20, "sell": 20}  # ticks away from the reference price
        async with await client.subscribe("account") as account:
            for side in edge:
                price = Decimal(terms.reference_price) + edge[side] * Decimal(terms.tick_size)
                await client.place(market, side, terms.lot_size, price, post_only="slide")
            async for message in account:
                if isinstance(message.data, Fill):
                    fill = message.data
                    print(fill.side, fill.qty, "at", fill.price, "position", fill.position, flush=True)
                    await client.place(market, fill.side, fill.qty, fill.price, post_only="slide")


try:
    asyncio.run(main(*sys.argv[1:]))  # URL KEY_FILE MARKET
except KeyboardInterrupt:
    pass
except (HashpitError, ValueError) as error:  # such as a revoked key, or a market that is not listed
    sys.exit(f"bot: {error}")
