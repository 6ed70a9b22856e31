"""A trader that writes down everything it is told, and what it asked without getting an answer.

It trades through :class:`tests.support.PlainClient` with commands drawn from a seeded generator: places of every kind around
a common mid price, so that orders cross, amends, cancels, destinations and questions, many in flight at a time.
"""

import asyncio
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

from msgspec import Struct

from tests.support import Cut, PlainClient, RpcError, Server, TestKey

WINDOW: Final = 24
"""Calls of one trader in flight."""
MID_TICKS: Final = 50_000
SPREAD_TICKS: Final = 6
CAUGHT_UP_S: Final = 20.0
KILLED: Final = 1006
"""How a connection ends whose server is gone."""
TOO_OLD: Final = -32007
UNSURE: Final = frozenset({-32003, -32008, -32009})
"""The gateway's refusals under load, when its clock was set back, or at the end: the command was not carried out."""


class Asked(Struct):
    """One command, and what the trader was told of it: a result, an error, or (both None) nothing."""

    method: str
    params: dict[str, Any]
    result: dict[str, Any] | None = None
    error: RpcError | None = None

    @property
    def is_answered(self) -> bool:
        return self.result is not None or self.error is not None


class Snapshot(Struct):
    """A snapshot of the account channel as it was told."""

    seq: int
    data: dict[str, Any]


class Trader:
    """One account and its memory, which outlives connections."""

    def __init__(self, name: str, key: TestKey, markets: list[str], seed: str) -> None:
        self.name = name
        self.key = key
        self.markets = markets
        self.random = Random(seed)
        self.placed: dict[str, Asked] = {}
        """Every place ever sent, by client order id."""
        self.changes: list[Asked] = []
        """Amends and cancels that were answered or not, since the last audit."""
        self.seen: dict[int, dict[str, Any]] = {}
        """Every event of the account channel, by number, whole."""
        self.snapshots: list[Snapshot] = []
        self.balances: list[dict[str, Any]] = []
        """Answers to ``balances`` since the last audit."""
        self.resumed = 0
        self.too_old = 0
        self.repeated = 0
        """Events that were told a second time, and were the same."""
        self.open: dict[str, None] = {}
        """Client order ids of orders that may be open."""
        self.epoch = ""
        self.last_seq = 0
        """Number of the last event of the account channel on this connection."""
        self.client: PlainClient | None = None
        self.may_end_with = frozenset({KILLED})
        """Close codes that are no fault while it trades."""
        self.resting = False
        """Whether it asks for nothing more."""
        self.faults: list[str] = []
        self._number = 0
        self._moved = asyncio.Condition()
        self._in_flight: set[asyncio.Future[Any]] = set()
        self._unsure: list[Asked] = []

    # ------------------------------------------------------------------------------------------------------ connection

    async def connect(self, server: Server) -> None:
        """Log in and follow the account channel from where it was left, or from somewhere earlier."""
        self.client = client = await PlainClient.open(server.url, self._on_message)
        await client.login(self.key)
        epoch = client.hello["epoch"]
        assert self.epoch in ("", epoch), f"the journal's epoch changed from {self.epoch} to {epoch}"
        if self.epoch:
            from_seq = self.last_seq
            if self.seen and self.random.random() < 0.5:
                from_seq = self.random.randint(0, from_seq)
            before = self.last_seq
            self.last_seq = from_seq
            try:
                await client.call("resume", epoch=epoch, account_seq=from_seq)
                self.resumed += 1
                return
            except RpcError as error:
                if error.code != TOO_OLD:
                    raise
                self.too_old += 1
                self.last_seq = before
        self.epoch = epoch
        told = len(self.snapshots)
        await client.call("subscribe", channels=["account"])
        await self._until(lambda: len(self.snapshots) > told, "a snapshot of the account")

    async def caught_up(self, account_seq: int) -> None:
        """Wait until the channel has told everything up to ``account_seq``."""
        await self._until(lambda: self.last_seq >= account_seq, f"event {account_seq}")
        if self.last_seq > account_seq:
            self.faults.append(f"{self.name}: told of event {self.last_seq}, but there are {account_seq} only")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(CAUGHT_UP_S), self._moved:
                await self._moved.wait_for(lambda: condition() or bool(self.faults))
        except TimeoutError:
            raise AssertionError(f"{self.name}: waited in vain for {what}; at {self.last_seq}") from None

    def _on_message(self, method: str, params: dict[str, Any]) -> None:
        if method == "subscription" and params["channel"] == "account":
            self._on_account(params)
            asyncio.ensure_future(self._notify())  # noqa: RUF006

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    def _on_account(self, message: dict[str, Any]) -> None:
        seq, data = message["seq"], message["data"]
        if message["type"] == "snapshot":
            if seq < self.last_seq:
                self.faults.append(f"{self.name}: a snapshot at {seq} after event {self.last_seq}")
            self.snapshots.append(Snapshot(seq, data))
        else:
            if seq != self.last_seq + 1 or message["prev_seq"] != self.last_seq:
                self.faults.append(f"{self.name}: event {seq} (after {message['prev_seq']}) follows {self.last_seq}")
            told = {**data, "ts": message["ts_us"]}
            if seq in self.seen:
                self.repeated += 1
                if self.seen[seq] != told:
                    self.faults.append(f"{self.name}: event {seq} was {self.seen[seq]} and is now {told}")
            self.seen[seq] = told
            gone = data["event"] in ("canceled", "rejected") or (data["event"] == "fill" and not float(data["remaining_qty"]))
            if gone:
                self.open.pop(data["client_order_id"], None)
        self.last_seq = seq

    # --------------------------------------------------------------------------------------------------------- trading

    async def trade(self) -> None:
        """Trade until the connection is cut, or ``resting`` is set and everything is answered."""
        assert self.client is not None
        while self.client.close_code is None and (self._in_flight or not self.resting):
            while len(self._in_flight) < WINDOW and not self.resting:
                self._act()
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        if self.client.close_code is not None and self.client.close_code not in self.may_end_with:
            self.faults.append(f"{self.name}: closed with {self.client.close_code} while it traded")

    async def settle(self) -> None:
        """Ask again, with the same ids, whatever has no known outcome; some of it twice at a time."""
        assert self.client is not None
        unsure, self._unsure = self._unsure, []
        for asked in unsure:
            for _ in range(1 + (self.random.random() < 0.3)):
                self._send(asked)
        while self._in_flight:
            await asyncio.wait(self._in_flight)
        code = self.client.close_code
        assert not self._unsure, f"{self.name}: closed with {code} while settling, without an answer to {self._unsure[0]}"

    @property
    def unsure(self) -> int:
        """Commands without a known outcome."""
        return len(self._unsure)

    def _act(self) -> None:
        draw = self.random.random()
        if draw < 0.55 or not self.open:
            self._place()
        elif draw < 0.75:
            self._change("cancel", {})
        elif draw < 0.93:
            self._amend()
        elif draw < 0.95:
            self._send(Asked("cancel_all", {"market": self.random.choice(self.markets)}))
        elif draw < 0.97:
            worker = f"{self.name}.{self.random.randint(1, 9)}"
            params = {"market": self.random.choice(self.markets), "url": "stratum+tcp://pool.example:3333", "worker": worker}
            self._send(Asked("set_destination", params))
        else:
            self._send(Asked("balances", {}))

    def _place(self) -> None:
        rng = self.random
        self._number += 1
        client_order_id = f"{self.name}-{self._number}"
        is_buy = rng.random() < 0.5
        params: dict[str, Any] = {
            "market": rng.choice(self.markets),
            "side": "buy" if is_buy else "sell",
            "qty": _lots(rng.randint(1, 40)),
            "client_order_id": client_order_id,
        }
        draw = rng.random()
        if draw < 0.08:
            params |= {"type": "market", "time_in_force": rng.choice(["ioc", "fok"])}
        else:
            params["price"] = self._price()
            if draw < 0.16:
                params["time_in_force"] = rng.choice(["ioc", "fok"])
            elif draw < 0.26:
                # Soon, while trading or right after a restart, or long after everything.
                lifetime_us = rng.randint(50_000, 700_000) if rng.random() < 0.5 else 3_600_000_000
                expires_us = time.time_ns() // 1_000 + lifetime_us
                params |= {"time_in_force": "gtd", "expires_us": expires_us}
            elif draw < 0.36:
                params["post_only"] = rng.choice(["reject", "slide"])
            elif draw < 0.42:
                params["reduce_only"] = True
            elif draw < 0.44:
                params["qty"] = "90000.000"  # more than anybody can pay for
        params["self_trade_prevention"] = rng.choice(["none", "cancel_maker", "cancel_taker", "cancel_both", "decrement"])
        asked = self.placed[client_order_id] = Asked("place", params)
        self.open[client_order_id] = None
        self._send(asked)

    def _amend(self) -> None:
        changes: dict[str, Any] = {}
        draw = self.random.random()
        if draw < 0.7:
            changes["price"] = self._price()
        if draw > 0.4:
            changes["qty"] = _lots(self.random.randint(1, 40))
        self._change("amend", changes)

    def _change(self, method: str, changes: dict[str, Any]) -> None:
        client_order_id = self.random.choice([*self.open])
        first = self.placed[client_order_id].result
        named: dict[str, Any] = {"client_order_id": client_order_id}
        if first is not None and self.random.random() < 0.5:
            named = {"order_id": first["order_id"]}
        asked = Asked(method, named | changes)
        self.changes.append(asked)
        self._send(asked)

    def _price(self) -> str:
        ticks = MID_TICKS + self.random.randint(-SPREAD_TICKS, SPREAD_TICKS)
        return f"0.{ticks:08d}"

    # --------------------------------------------------------------------------------------------------------- answers

    def _send(self, asked: Asked) -> None:
        assert self.client is not None
        answer = self.client.start(asked.method, **asked.params)
        self._in_flight.add(answer)
        answer.add_done_callback(lambda done: self._answered(asked, done))

    def _answered(self, asked: Asked, answer: "asyncio.Future[Any]") -> None:
        self._in_flight.discard(answer)
        error = answer.exception()
        if isinstance(error, Cut) or (isinstance(error, RpcError) and error.code in UNSURE):
            if not asked.is_answered and not any(known is asked for known in self._unsure):
                self._unsure.append(asked)
            return
        if isinstance(error, RpcError):
            self._refused(asked, error)
        elif error is not None:
            self.faults.append(f"{self.name}: {asked.method}: {error!r}")
        else:
            self._told(asked, answer.result())

    def _told(self, asked: Asked, result: Any) -> None:
        if asked.method == "balances":
            self.balances.append(result)
            return
        if asked.error is not None and asked.method == "place":
            self.faults.append(f"{self.name}: {asked.method} {asked.params}: first {asked.error}, then {result}")
        if asked.result is not None and asked.method == "place" and asked.result["order_id"] != result["order_id"]:
            self.faults.append(f"{self.name}: two orders for {asked.params}: {asked.result} and {result}")
        if asked.result is None:
            asked.result = result

    def _refused(self, asked: Asked, error: RpcError) -> None:
        if error.code < 1_000:
            self.faults.append(f"{self.name}: {asked.method} {asked.params}: {error}")
        elif asked.result is not None and asked.method == "place":
            self.faults.append(f"{self.name}: {asked.params}: first {asked.result}, then {error}")
        else:
            asked.error = error


def _lots(lots: int) -> str:
    return f"{lots // 1_000}.{lots % 1_000:03d}"
