"""A bot in one file, written from docs/PROTOCOL.md: the websockets library, an Ed25519 key, and nothing of this project.

It logs in, follows its account and one market's book, checks every number and every checksum, and quotes. When its connection
is cut, or only goes quiet, it connects again and resumes where it was. Anything that is not as promised is in ``faults``.
"""

import asyncio
import itertools
import json
import time
from typing import Any
from zlib import crc32

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

SILENCE_HEARTBEATS = 4
"""Heartbeats that may be missed in a row before the connection counts as dead."""


class Unanswered(Exception):
    """The connection was cut before the answer came: nobody knows whether it happened. Ask again with the same id."""


class Refused(Exception):
    """An error of the protocol; ``code`` says which."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']} {error['message']}")
        self.code: int = error["code"]


class Book:
    """Price levels in whole ticks and lots, proven by checksum after every message."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}
        self.seq: int | None = None
        self.proven = 0
        """Messages whose checksum was right."""

    def apply(self, message: dict[str, Any]) -> str:
        """What is wrong with the message; empty when nothing is."""
        if message["type"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
        elif message["prev_seq"] != self.seq:
            return f"book {message['seq']} follows {message['prev_seq']}, but {self.seq} came last"
        for name, levels in self.sides.items():
            for price, qty in message["data"][name]:
                levels[steps(price)] = steps(qty)
                if not steps(qty):
                    del levels[steps(price)]
        self.seq = message["seq"]
        if self.checksum() != message["data"]["checksum"]:
            return f"the checksum of book {self.seq} is not {self.checksum()}"
        self.proven += 1
        return ""

    def checksum(self) -> int:
        bids = sorted(self.sides["bids"].items(), reverse=True)[:10]
        asks = sorted(self.sides["asks"].items())[:10]
        return crc32("".join([f"b{p}:{q};" for p, q in bids] + [f"a{p}:{q};" for p, q in asks]).encode())


def steps(text: str) -> int:
    """A decimal of the market as a whole number: one tick is 0.00000001, one lot 0.001, and both are written in full."""
    return int(text.replace(".", ""))


class PlainBot:
    """Start ``run()`` as a task; ``call`` and ``quote`` wait for a connection by themselves."""

    def __init__(self, url: str, key: str, private: Ed25519PrivateKey, market: str) -> None:
        self.url = url
        self.key = key
        self.private = private
        self.market = market
        self.book = Book()
        self.events: list[dict[str, Any]] = []
        """Everything the account channel told since the first snapshot, in order."""
        self.first_seq = 0
        self.account_seq: int | None = None
        self.resumed = 0
        self.snapshots = 0
        self.silences = 0
        """Connections given up because no heartbeat came."""
        self.faults: list[str] = []
        self.ready = asyncio.Event()
        self.news = asyncio.Condition()
        self._epoch = ""
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._socket: ClientConnection | None = None

    # --------------------------------------------------------------------------------------------------- connection

    async def run(self) -> None:
        """Stay connected until canceled."""
        while True:
            try:
                async with connect(self.url, ping_interval=None, open_timeout=2, close_timeout=0.1) as socket:
                    await self._session(socket)
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(0.02)
            finally:
                self.ready.clear()
                for answer in self._waiting.values():
                    if not answer.done():
                        answer.set_exception(Unanswered())
                self._waiting.clear()

    async def _session(self, socket: ClientConnection) -> None:
        hello = json.loads(await asyncio.wait_for(socket.recv(), 2))["params"]
        self._socket = socket
        silence_s = SILENCE_HEARTBEATS * hello["heartbeat_ms"] / 1_000
        login = asyncio.create_task(self._log_in(hello))
        try:
            while True:
                try:
                    frame = await asyncio.wait_for(socket.recv(), silence_s)
                except TimeoutError:
                    self.silences += 1
                    socket.transport.abort()
                    return
                await self._receive(json.loads(frame))
        except ConnectionClosed:
            pass
        finally:
            login.cancel()
            await asyncio.gather(login, return_exceptions=True)

    async def _log_in(self, hello: dict[str, Any]) -> None:
        now_us = time.time_ns() // 1_000
        text = f"hashpit login\n{hello['challenge']}\n{self.key}\n{now_us}"
        await self._send("login", key=self.key, timestamp_us=now_us, signature=self.private.sign(text.encode()).hex())
        await self._send("subscribe", channels=[f"book.{self.market}"])
        if self._epoch == hello["epoch"] and self.account_seq is not None:
            await self._send("resume", epoch=self._epoch, account_seq=self.account_seq)
            self.resumed += 1
        else:
            self._epoch = hello["epoch"]
            await self._send("subscribe", channels=["account"])
        self.ready.set()

    # ----------------------------------------------------------------------------------------------------- messages

    async def _receive(self, message: dict[str, Any]) -> None:
        if "id" in message:
            answer = self._waiting.pop(message["id"], None)
            if answer is None or answer.done():
                return
            if "error" in message:
                answer.set_exception(Refused(message["error"]))
            else:
                answer.set_result(message["result"])
        elif message["method"] == "subscription":
            params = message["params"]
            if params["channel"] == "account":
                self._account(params)
            else:
                fault = self.book.apply(params)
                if fault:
                    self.faults.append(fault)
            async with self.news:
                self.news.notify_all()
        elif message["method"] == "heartbeat":
            for channel, seq in message["params"]["channels"].items():
                mine = self.account_seq if channel == "account" else self.book.seq
                if mine != seq:
                    self.faults.append(f"the heartbeat says {channel} is at {seq}, {mine} came last")

    def _account(self, message: dict[str, Any]) -> None:
        seq = message["seq"]
        if message["type"] == "snapshot":
            self.snapshots += 1
            self.first_seq = seq + 1
        else:
            if seq != (self.account_seq or 0) + 1 or message["prev_seq"] != self.account_seq:
                self.faults.append(f"event {seq} follows {message['prev_seq']}, but {self.account_seq} came last")
            self.events.append(message["data"])
        self.account_seq = seq

    async def _send(self, method: str, **params: Any) -> Any:
        assert self._socket is not None
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        except ConnectionClosed:
            self._waiting.pop(number, None)
            raise Unanswered from None
        return await answer

    # ------------------------------------------------------------------------------------------------------- orders

    async def call(self, method: str, **params: Any) -> Any:
        """Call once. Raises Refused, or Unanswered."""
        await self.ready.wait()
        return await self._send(method, **params)

    async def quote(self, client_order_id: str, side: str, price: str, qty: str) -> dict[str, Any]:
        """Place a post-only order exactly once, however often the connection is cut meanwhile."""
        while True:
            try:
                result: dict[str, Any] = await self.call(
                    "place",
                    market=self.market,
                    side=side,
                    price=price,
                    qty=qty,
                    post_only="slide",
                    client_order_id=client_order_id,
                )
                return result
            except Unanswered:
                continue

    def fills(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == "fill"]
