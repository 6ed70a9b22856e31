"""A hundred thousand hostile frames against a real server, while two honest traders go on trading.

First every attack runs once, slow readers included, then ``WARM_SHARE`` of the frames: what a server allocates once it has
allocated by then. From there on its memory may not grow by more than ``GROWTH_BYTES_MAX``, and by no more than
``SLOW_GROWTH_BYTES_MAX`` when the slow readers come back at the end: big buffers leave holes. Traders must see every answer
within ``PATIENCE_S``.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from msgspec import Struct

from gateway.recovery import verify
from tests.hostile.attacks import ATTACKS, DOCUMENTED, SLOW, Attack, broken_framing, slow_reader, slowloris
from tests.hostile.sockets import GONE, Refused
from tests.support import PlainClient, Server, TestKey, config

AT_A_TIME: Final = 24
"""Attacks under way at a time; most hold one socket."""
SLOW_READERS: Final = 3
"""Slow readers at a time."""
FRAMINGS_FIRST: Final = 60
"""Sockets with broken framing before anything is drawn, so that a short siege has most ways of breaking it too."""
WARM_SHARE: Final = 0.25
GROWTH_BYTES_MAX: Final = 12 * 1024 * 1024
SLOW_GROWTH_BYTES_MAX: Final = 32 * 1024 * 1024
PATIENCE_S: Final = 5.0
ANONYMOUS_MAX: Final = 100
"""Sockets of one address without a login that this server allows; four times what attacks from one address need."""
GONE_S_MAX: Final = 30.0
"""How long the sockets of attacks that are over may stay open."""
PRICE_TICKS: Final = 50_000
FAULTS_SHOWN: Final = 20


class Report(Struct):
    """What was sent, and how the server took it."""

    frames: int = 0
    slow_calls: int = 0
    """Correct calls of slow readers, not counted in ``frames``."""
    sockets: int = 0
    kinds: dict[str, int] = {}
    """Frames by kind of attack."""
    close_codes: dict[int, int] = {}
    """How sockets ended; 1006 stands for an end without a close frame."""
    refused_sockets: int = 0
    orders: int = 0
    """Orders that the honest traders had acknowledged meanwhile."""
    fills: int = 0
    answer_ms_max: float = 0.0
    """Longest wait of an honest trader for an answer."""
    answer_ms_median: float = 0.0
    memory_warm_bytes: int = 0
    memory_end_bytes: int = 0
    memory_slow_bytes: int = 0
    """After the slow readers came back."""
    growth_bytes: int = 0
    growth_bytes_max: int = GROWTH_BYTES_MAX
    slow_growth_bytes: int = 0
    slow_growth_bytes_max: int = SLOW_GROWTH_BYTES_MAX
    seconds: float = 0.0


class Siege:
    """The server, its two friends, and everybody else."""

    def __init__(self, directory: Path, seed: int, say: Callable[[str], None]) -> None:
        self.random = Random(f"siege {seed}")
        self.say = say
        self.server = Server(directory / "data", config(anonymous_max=ANONYMOUS_MAX))
        self.anonymous_max = ANONYMOUS_MAX
        self.url = ""
        self.market = ""
        self.reader = TestKey()
        self.trader = TestKey()
        self.report = Report()
        self.faults: list[str] = []
        self._kinds: Counter[str] = Counter()
        self._codes: Counter[int] = Counter()
        self._waits: list[float] = []
        self._trading = True
        self._friendly_sockets = 0

    # ------------------------------------------------------------------------------------------------------- for attacks

    def sent(self, kind: str, frames: int = 1) -> None:
        self._kinds[kind] += frames
        if kind == SLOW:
            self.report.slow_calls += frames
        else:
            self.report.frames += frames

    def closed(self, code: int) -> None:
        self._codes[code] += 1

    def fault(self, kind: str, what: str) -> None:
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(f"{kind}: {what}")

    # --------------------------------------------------------------------------------------------------------------- run

    async def run(self, frames: int) -> Report:
        """Send that many frames (or somewhat more). Raises AssertionError naming what the server did not stand."""
        began = monotonic()
        try:
            await self.server.start()
            await self._prepare()
            maker, taker = await self._friend("maker"), await self._friend("taker")
            self._friendly_sockets = self._sockets()
            friends = [asyncio.create_task(self._make(maker)), asyncio.create_task(self._take(taker))]
            await asyncio.gather(self._attack(int(frames * WARM_SHARE), first=True), self._read_slowly())
            self.report.memory_warm_bytes = await self._memory()
            self.say(f"warm: {self.report.frames} frames, {self.report.memory_warm_bytes / 2**20:.1f} MiB")
            await self._attack(frames, first=False)
            self.report.memory_end_bytes = await self._memory()
            await self._read_slowly()
            self.report.memory_slow_bytes = await self._memory()
            self._trading = False
            await asyncio.gather(*friends)
            await maker.close()
            await taker.close()
            await self._judge()
        finally:
            if self.server.is_running:
                self.server.kill(whole_group=True)
        self.report.seconds = round(monotonic() - began, 1)
        return self.report

    async def _prepare(self) -> None:
        self.url = self.server.url
        async with PlainClient.to(self.server) as client:
            self.market = min(market["market"] for market in await client.call("markets"))
        self.reader = await self.server.trader("reader", permissions=("read",))
        self.trader = await self.server.trader("pauper")

    async def _memory(self) -> int:
        """The server's resident memory, once every hostile socket is gone."""
        assert not self.faults, "\n".join(self.faults)
        deadline = monotonic() + GONE_S_MAX
        while (left := self._sockets() - self._friendly_sockets) > 0:
            assert monotonic() < deadline, f"{left} sockets are still open, though their other ends are gone"
            await asyncio.sleep(0.05)
        return self.server.memory_bytes()

    def _sockets(self) -> int:
        """Sockets that the server's process has open."""
        found = 0
        for link in Path(f"/proc/{self.server.pid}/fd").iterdir():
            try:
                found += str(link.readlink()).startswith("socket:")
            except FileNotFoundError:
                continue
        return found

    async def _attack(self, frames: int, first: bool) -> None:
        """Run attacks, many at a time, until so many frames were sent; a slow handshake beside them."""
        attacks, weights = zip(*ATTACKS, strict=True)
        queue = [*attacks, *[broken_framing] * FRAMINGS_FIRST] if first else []

        async def worker() -> None:
            while not self.faults and (queue or self.report.frames < frames):
                await self._one(queue.pop() if queue else self.random.choices(attacks, weights)[0])

        await asyncio.gather(self._one(slowloris), *(worker() for _ in range(AT_A_TIME)))

    async def _read_slowly(self) -> None:
        await asyncio.gather(*(self._one(slow_reader) for _ in range(SLOW_READERS)))

    async def _one(self, attack: Attack) -> None:
        self.report.sockets += 1
        try:
            await attack(self)
        except Refused as refused:
            self.report.refused_sockets += 1
            self.closed(refused.code)
        except ConnectionError as error:
            # Whoever is refused at the door, or cut while still writing, may learn of it like this.
            self._kinds[f"cut: {type(error).__name__}"] += 1
        except TimeoutError:
            self.fault(attack.__name__, "the server did not answer in time")

    # ----------------------------------------------------------------------------------------------------------- friends

    async def _friend(self, name: str) -> PlainClient:
        key = await self.server.trader(name, deposit="1.0")
        client = await PlainClient.open(self.url, lambda method, params: self._on_friend(params))
        await client.login(key)
        await client.call("subscribe", channels=["account"])
        return client

    def _on_friend(self, params: dict[str, Any]) -> None:
        self.report.fills += params.get("channel") == "account" and params["data"].get("event") == "fill"

    async def _ask(self, client: PlainClient, method: str, **params: Any) -> Any:
        began = monotonic()
        result = await client.call(method, **params)
        self._waits.append(monotonic() - began)
        return result

    async def _make(self, client: PlainClient) -> None:
        """Quote both sides, replace a quote now and then."""
        number = 0
        while self._trading:
            number += 1
            orders = [
                await self._place(client, "buy", PRICE_TICKS - 1 - number % 5, 20, post_only="slide"),
                await self._place(client, "sell", PRICE_TICKS + 1 + number % 5, 20, post_only="slide"),
            ]
            await self._ask(client, "balances")
            await asyncio.sleep(0.02)
            if number % 3 == 0:
                await self._ask(client, "cancel_all", market=self.market)
            assert all(order["status"] == "open" for order in orders)
        await self._ask(client, "cancel_all", market=self.market)

    async def _take(self, client: PlainClient) -> None:
        number = 0
        while self._trading:
            number += 1
            side, ticks = ("buy", PRICE_TICKS + 20) if number % 2 else ("sell", PRICE_TICKS - 20)
            await self._place(client, side, ticks, 3, time_in_force="ioc")
            await asyncio.sleep(0.02)

    async def _place(self, client: PlainClient, side: str, ticks: int, lots: int, **more: Any) -> Any:
        params = {"market": self.market, "side": side, "price": f"0.{ticks:08d}", "qty": f"0.{lots:03d}", **more}
        result = await self._ask(client, "place", **params)
        self.report.orders += 1
        return result

    # ------------------------------------------------------------------------------------------------------------- judge

    async def _judge(self) -> None:
        report = self.report
        report.kinds = dict(sorted(self._kinds.items()))
        report.close_codes = dict(sorted(self._codes.items()))
        report.growth_bytes = report.memory_end_bytes - report.memory_warm_bytes
        report.slow_growth_bytes = report.memory_slow_bytes - report.memory_warm_bytes
        waits = sorted(self._waits)
        report.answer_ms_max = round(waits[-1] * 1_000, 1)
        report.answer_ms_median = round(waits[len(waits) // 2] * 1_000, 1)
        assert not self.faults, "\n".join(self.faults)
        undocumented = set(self._codes) - DOCUMENTED - {GONE}
        assert not undocumented, f"close codes that no document knows: {undocumented}"
        assert self.server.is_running, f"the server died:\n{self.server.log_text()[-4_000:]}"
        status = await self.server.stop()
        assert status == 0, f"the server stopped with {status}:\n{self.server.log_text()[-4_000:]}"
        log = self.server.log_text()
        for word in ("Traceback", '"exception"', "session failed", "Exception"):
            assert word not in log, f"the server's log has {word!r}: ...{log[max(0, log.index(word) - 500) :][:3_000]}"
        findings = verify(self.server.data_dir, replay=True)
        assert not findings.faults, findings.faults
        assert report.fills > 0, "the honest traders did not trade"
        assert report.answer_ms_max < PATIENCE_S * 1_000, f"an honest trader waited {report.answer_ms_max} ms"
        assert report.growth_bytes < GROWTH_BYTES_MAX, f"memory grew by {report.growth_bytes / 2**20:.1f} MiB: {report}"
        grown = report.slow_growth_bytes
        assert grown < SLOW_GROWTH_BYTES_MAX, f"slow readers made memory grow by {grown / 2**20:.1f} MiB: {report}"
