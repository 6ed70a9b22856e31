"""A simulated meter: stands in for the pools and proxies that count the shares of real deliveries.

It reads every running delivery and every flow of live markets, imagines miners at work, and reports what they proved. A share
stands for a fixed amount of expected work, and how many are found in a while is a Poisson number, as with real miners: an
honest seller proves a little more or less than contracted, and the exchange's tolerance has to bear that. Some sellers are not
honest: every delivery, and every ask, draws its speed once, from its id, and a share of them (``sloppy_share``) runs too slow.

Reports are totals, so a meter that was away, or reports twice, does no harm: it goes on from what the exchange has on record.
"""

import asyncio
import math
import random
from typing import Final

from msgspec import Struct

from gateway.wire import DeliveryView, FlowView
from hashpit.client import Client
from hashpit.errors import HashpitError, NoAnswer, NotSent, RateLimited, Rejected

SHARES_PER_DELIVERY: Final = 5_000
"""Expected shares of a whole delivery: enough for about 1.4 % of noise."""
SHARES_PER_S: Final = 4
"""Shares of a flow per second, expected at its full speed."""
PAGE: Final = 1_000
"""Deliveries asked for at a time."""
KNUTH_MAX: Final = 30.0
"""Up to this mean a Poisson number is counted out, above it the normal distribution is near enough."""
US: Final = 1_000_000


class MeterSettings(Struct, frozen=True, kw_only=True):
    """How the simulated miners behave."""

    every_s: float = 5.0
    """Time between reports."""
    sloppy_share: float = 0.2
    """How many deliveries run too slow."""
    sloppy_speed: tuple[float, float] = (0.5, 0.95)
    """How fast those run, as a part of what was contracted."""
    seed: int = 0


def poisson(rng: random.Random, mean: float) -> int:
    """A Poisson number."""
    if mean > KNUTH_MAX:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    bound, count, product = math.exp(-mean), 0, rng.random()
    while product > bound:
        count += 1
        product *= rng.random()
    return count


def share_hashes(delivery: DeliveryView) -> int:
    """Expected hashes behind one share of a delivery."""
    return max(1, int(delivery.contracted_hashes) // SHARES_PER_DELIVERY)


class Meter:
    """Reports work for every running delivery. Takes a client whose key has the permission ``meter``."""

    def __init__(self, client: Client, settings: MeterSettings | None = None) -> None:
        self.client = client
        self.settings = settings or MeterSettings()
        self.reports = 0
        """Reports that the exchange took."""
        self._rng = random.Random(self.settings.seed)
        # Until when each running delivery was measured.
        self._measured_us: dict[int, int] = {}
        # The same of each flow, its hashrate since, and what it proved in all.
        self._flows: dict[int, tuple[int, int, int]] = {}

    async def run(self) -> None:
        """Report until canceled. Raises what ends the client (Closed), or a refusal of the key (Denied)."""
        while True:
            try:
                await self.report()
            except (NotSent, NoAnswer, RateLimited):
                pass  # reports are totals: the next one says it all
            await asyncio.sleep(self.settings.every_s)

    async def report(self) -> None:
        """One round over every running delivery."""
        now_us = (await self.client.time()).ts_us
        running: set[int] = set()
        after_id = 0
        while True:
            page = await self.client.deliveries(limit=PAGE, after_id=after_id)
            for delivery in page:
                if delivery.state == "running":
                    running.add(delivery.delivery_id)
                    await self._report_one(delivery, now_us)
            if len(page) < PAGE:
                break
            after_id = page[-1].delivery_id
        for settled in self._measured_us.keys() - running:
            del self._measured_us[settled]
        await self._report_flows(now_us)

    def speed(self, delivery_id: int) -> float:
        """A delivery's speed as a part of what was contracted; always the same for the same id and seed."""
        rng = random.Random(f"{self.settings.seed}/{delivery_id}")
        return rng.uniform(*self.settings.sloppy_speed) if rng.random() < self.settings.sloppy_share else 1.0

    def found(self, delivery: DeliveryView, now_us: int) -> int:
        """Shares that its miners found since it was measured last."""
        shares_per_s = int(delivery.hashrate) * self.speed(delivery.delivery_id) / share_hashes(delivery)
        since_us = self._measured_us.get(delivery.delivery_id)
        if since_us is None:  # the first look at it, or an earlier meter's work: as long as its shares take
            since_us = delivery.period_start_us + int(delivery.shares / shares_per_s * US)
        until_us = min(now_us, delivery.period_end_us)
        self._measured_us[delivery.delivery_id] = max(since_us, until_us)
        return poisson(self._rng, max(0, until_us - since_us) / US * shares_per_s)

    async def _report_flows(self, now_us: int) -> None:
        """One round over every flow; one that has ended is reported for the last time."""
        seen: set[int] = set()
        after_id = 0
        while True:
            page = await self.client.flows(limit=PAGE, after_id=after_id)
            for flow in page:
                seen.add(flow.flow_id)
                hashes = self.proven(flow, now_us)
                await self._report_flow(flow, hashes)
            if len(page) < PAGE:
                break
            after_id = page[-1].flow_id
        for done in self._flows.keys() - seen:
            del self._flows[done]

    async def _report_flow(self, flow: FlowView, hashes: int) -> None:
        try:
            # A round that went no further than the budget would never come to the youngest flows.
            await self.client.patiently(lambda: self.client.report_flow(flow.flow_id, hashes, final=flow.state == "closing"))
            self.reports += 1
        except Rejected:
            pass  # done with in the meantime

    def proven(self, flow: FlowView, now_us: int) -> int:
        """Hashes that a flow's ask proved in all by now, those that were not reported for want of an answer with them."""
        on_record = int(flow.hashes)
        until_us = flow.ended_us or now_us
        # What was proven before it was seen here is an earlier meter's, which knows until when.
        first_us = until_us if on_record else flow.started_us
        since_us, hashrate, known = self._flows.get(flow.flow_id, (first_us, int(flow.hashrate), on_record))
        share = max(1, hashrate // SHARES_PER_S)
        found = poisson(self._rng, max(0, until_us - since_us) / US * SHARES_PER_S * self.speed(flow.order_id))
        total = max(known, on_record) + (found * share if hashrate else 0)
        self._flows[flow.flow_id] = until_us, int(flow.hashrate), total
        return total

    async def _report_one(self, delivery: DeliveryView, now_us: int) -> None:
        found = self.found(delivery, now_us)
        if not found:
            return
        hashes = int(delivery.proven_hashes) + found * share_hashes(delivery)
        try:
            await self.client.report_work(delivery.delivery_id, hashes, delivery.shares + found)
            self.reports += 1
        except Rejected:
            pass  # settled in the meantime, or another meter reported more
        except HashpitError:
            # Arrived or not, the next round reads off the record how far it goes.
            del self._measured_us[delivery.delivery_id]
            raise
