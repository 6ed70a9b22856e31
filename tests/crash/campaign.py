"""kill -9 again and again: traders trade on a real server, the server dies at a random moment, starts again, and is audited.

One round: start (now and then the process is killed while it still starts), log in, resume, settle what had no answer, audit,
trade, SIGKILL. The audit compares three sources that share no memory: what traders were told on the wire before and after the
kill, what the server answers now, and a :class:`tests.crash.replica.Replica` fed from the journal alone. Beside that, each
dead data directory is copied and recovered in this process, and must have the replica's state hash.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

from msgspec import Struct

from engine.snapshot import state_hash
from gateway.journal import archive_paths
from gateway.recovery import ARCHIVE, recover, verify
from gateway.scale import MONEY
from tests.crash.replica import Replica, replay
from tests.crash.trader import UNSURE, Asked, Snapshot, Trader
from tests.support import Cut, PlainClient, RpcError, Server, config

LOAD_S_MAX: Final = 0.8
"""Longest time under load before a kill."""
LOAD_WITH_SNAPSHOTS_S_MAX: Final = 2.5
"""The same when snapshots are made: the first one starts a second after the server."""
STARTING_S_MAX: Final = 0.6
KILL_STARTING: Final = 0.15
"""Share of rounds in which the starting process is killed first."""
OLDER_ORDERS: Final = 50
"""Orders of earlier rounds that each audit asks for again, per trader."""
QUIET_NS: Final = 10_000_000_000
"""Nothing may fall due within this time while an audit compares."""
DEPOSIT: Final = "0.01000000000"


class Report(Struct):
    """What a campaign did and proved. It raised AssertionError instead if anything was not as promised."""

    kills: int = 0
    kills_while_starting: int = 0
    acked_orders: int = 0
    """Acknowledged orders that were there after a restart, with the state that was told."""
    acked_changes: int = 0
    """Acknowledged amends and cancels, likewise."""
    refused_orders: int = 0
    events: int = 0
    """Different events of account channels that were told and equal the journal's facts."""
    fills: int = 0
    repeated_events: int = 0
    """Events told again after a resume from an earlier number: the same, byte for byte."""
    balances: int = 0
    deposits: int = 0
    public_trades: int = 0
    unsure: int = 0
    """Commands cut off without an answer; each was retried under its id and happened once or not at all."""
    unsure_happened: int = 0
    """Unsure places that had been carried out before the kill."""
    resumed: int = 0
    too_old: int = 0
    archives: int = 0
    """Files that rows of the journal were moved to; the replays read them."""
    from_snapshot: int = 0
    """Recoveries that started from a snapshot."""
    entries: int = 0
    state_hash: str = ""
    seconds: float = 0.0


class Campaign:
    """One server, its traders, and the replica that judges them."""

    def __init__(self, directory: Path, seed: int, traders: int, snapshots: bool, say: Callable[[str], None]) -> None:
        self.random = Random(f"campaign {seed}")
        self.seed = seed
        self.say = say
        often = config(snapshot_s=1, snapshot_entries=1, snapshots_kept=1)
        self.server = Server(directory / "data", often if snapshots else config())
        self.load_s_max = LOAD_WITH_SNAPSHOTS_S_MAX if snapshots else LOAD_S_MAX
        self.copy = directory / "copy"
        self.replica = Replica()
        self.traders: list[Trader] = []
        self.traders_wanted = traders
        self.report = Report()
        self.deposits: dict[str, Asked] = {}
        self.public_trades: dict[tuple[str, int], dict[str, Any]] = {}
        self.markets: list[str] = []
        # How far each trader's events and places were audited.
        self._events_audited: dict[str, int] = {}
        self._places_audited: dict[str, int] = {}

    async def run(self, kills: int) -> Report:
        began = monotonic()
        try:
            await self.server.start()
            await self._prepare()
            for number in range(1, kills + 1):
                await self._round()
                report = self.report
                self.say(
                    f"round {number}/{kills}: {report.acked_orders} orders, {report.acked_changes} changes, {report.unsure} "
                    f"unsure, {self.replica.engine.seq} entries, {report.from_snapshot} recoveries from a snapshot"
                )
            await self._finish()
        finally:
            if self.server.is_running:
                self.server.kill(whole_group=True)
        self.report.seconds = round(monotonic() - began, 1)
        return self.report

    async def _prepare(self) -> None:
        async with PlainClient.to(self.server) as client:
            self.markets = sorted(market["market"] for market in await client.call("markets"))[:2]
        for number in range(self.traders_wanted):
            key = await self.server.trader(f"t{number}", deposit="1.00000000000")
            self.traders.append(Trader(f"t{number}", key, self.markets, f"{self.seed} {number}"))
        for trader in self.traders:
            await trader.connect(self.server)

    # ----------------------------------------------------------------------------------------------------------- rounds

    async def _round(self) -> None:
        """Trade, die, rise, be audited."""
        await self._trade_until_killed()
        self.report.kills += 1
        self._recover_copy()
        self.server.spawn()
        if self.random.random() < KILL_STARTING:
            await asyncio.sleep(self.random.uniform(0, STARTING_S_MAX))
            self.server.kill(whole_group=True)
            self.report.kills += 1
            self.report.kills_while_starting += 1
            self.server.spawn()
        await self.server.listening()
        await self._rise()
        await self._audit()

    async def _trade_until_killed(self) -> None:
        async def kill() -> None:
            await asyncio.sleep(self.random.uniform(0.01, self.load_s_max))
            # A snapshot process outlives the server, unless the whole group dies, as with the machine.
            self.server.kill(whole_group=self.random.random() < 0.5)

        await self.trade_through(kill)

    async def trade_through(self, strike: Callable[[], Awaitable[None]]) -> None:
        """Everybody trades while ``strike`` goes on. If the server outlives it, they rest then, and every call is answered."""
        observer = await PlainClient.open(self.server.url, self._on_public)
        await observer.call("subscribe", channels=[f"trades.{market}" for market in self.markets])
        operator = await PlainClient.open(self.server.url)
        await operator.login(self.server.operator)
        for trader in self.traders:
            trader.resting = False
        tasks = [asyncio.create_task(trader.trade()) for trader in self.traders]
        tasks.append(asyncio.create_task(self._deposit_until_cut(operator)))
        try:
            await strike()
        finally:
            for trader in self.traders:
                trader.resting = True
        await asyncio.gather(*tasks)
        if self.server.is_running:
            await observer.close()
            await operator.close()
            return
        for client in (observer, operator, *(trader.client for trader in self.traders)):
            assert client is not None
            await client.closed()
        for trader in self.traders:
            self.report.unsure += trader.unsure

    async def _deposit_until_cut(self, operator: PlainClient) -> None:
        while operator.close_code is None and not self.traders[0].resting:
            trader = self.random.choice(self.traders)
            transfer_id = f"d-{len(self.deposits) + 1}"
            params = {"account": trader.key.account, "amount": DEPOSIT, "transfer_id": transfer_id}
            asked = self.deposits[transfer_id] = Asked("deposit", params)
            try:
                asked.result = await operator.call("deposit", **params)
            except Cut:
                return
            except RpcError as error:
                if error.code not in UNSURE:
                    raise
                return

    def _on_public(self, method: str, params: dict[str, Any]) -> None:
        if method == "subscription" and params["channel"].startswith("trades."):
            market = params["channel"].removeprefix("trades.")
            for trade in params["data"]:
                self.public_trades[market, trade["trade_id"]] = trade

    def _recover_copy(self) -> None:
        """What the server left behind recovers, by snapshot and tail, to what the journal alone says."""
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.server.data_dir, self.copy, ignore=shutil.ignore_patterns("draft-*"))
        self.replica.catch_up(self.copy)
        recovered = recover(self.copy)
        try:
            assert recovered.engine.seq == self.replica.engine.seq
            assert state_hash(recovered.engine) == self.replica.prove(), f"two states at entry {recovered.engine.seq}"
            self.report.from_snapshot += recovered.replayed < recovered.engine.seq
        finally:
            recovered.journal.close()

    async def _rise(self) -> None:
        """Log in and resume everybody; then ask again what had no answer."""
        async with PlainClient.to(self.server, self.server.operator) as operator:
            for asked in self.deposits.values():
                if asked.result is None:
                    self.report.unsure += 1
                    asked.result = await operator.call("deposit", **asked.params)
        for trader in self.traders:
            await trader.connect(self.server)
        happened = sum(
            bool(self.replica.accepted.get((trader.key.account, cid)))
            for trader in self.traders
            for cid, asked in trader.placed.items()
            if not asked.is_answered
        )
        self.report.unsure_happened += happened
        await asyncio.gather(*(trader.settle() for trader in self.traders))

    async def _finish(self, told: tuple[str, ...] = ()) -> None:
        """Stop in good manners, and replay everything from entry 1 once more. ``told``: what the log may have, for once."""
        await self._audit(everything=True)
        for trader in self.traders:
            assert trader.client is not None
            await trader.client.close()
        status = await self.server.stop()
        assert status == 0, f"the server stopped with status {status}:\n{self.server.log_text()[-4_000:]}"
        log = self.server.log_text()
        for word in {"Traceback", "snapshot not used"} - {*told}:
            assert word not in log, f"the server's log has {word!r}: {log[max(0, log.index(word) - 500) :][:3_000]}"
        self.replica.catch_up(self.server.data_dir)
        ours = self.replica.prove()
        assert state_hash(replay(self.server.data_dir)) == ours, "a replay from entry 1 gives another state"
        findings = verify(self.server.data_dir, replay=True)
        assert not findings.faults, findings.faults
        assert findings.state_hash == ours
        recovered = recover(self.server.data_dir)
        recovered.journal.close()
        assert state_hash(recovered.engine) == ours, "recovery gives another state"
        report = self.report
        report.entries, report.state_hash = self.replica.engine.seq, ours
        report.events = sum(len(trader.seen) for trader in self.traders)
        report.fills = sum(seen["event"] == "fill" for trader in self.traders for seen in trader.seen.values())
        report.repeated_events = sum(trader.repeated for trader in self.traders)
        report.resumed = sum(trader.resumed for trader in self.traders)
        report.too_old = sum(trader.too_old for trader in self.traders)
        report.public_trades = len(self.public_trades)
        report.deposits = len(self.deposits)
        report.archives = len(archive_paths(self.server.data_dir / ARCHIVE))

    # ------------------------------------------------------------------------------------------------------------ audit

    async def _audit(self, everything: bool = False) -> None:
        """Nobody trades now: compare what was told, what the server says, and what the journal says."""
        await self._quiet()
        self.replica.prove()
        for trader in self.traders:
            await trader.caught_up(self.replica.engine.accounts[trader.key.account].event_seq)
            assert not trader.faults, "\n".join(trader.faults[:10])
            self._audit_events(trader)
            self._audit_answers(trader)
            await self._audit_orders(trader, everything)
            await self._audit_account(trader)
        self._audit_deposits()
        for (market, trade_id), told in self.public_trades.items():
            trade = self.replica.trades[market, trade_id]
            assert told["price"] == self.replica.price(market, trade.price), (told, trade)
            assert told["qty"] == self.replica.qty(market, trade.qty), (told, trade)

    async def _quiet(self) -> None:
        """Bring the replica to the server's state, at a moment when nothing falls due for a while."""
        self.replica.catch_up(self.server.data_dir)
        while 0 < self.replica.engine.next_due_ns() < time.time_ns() + QUIET_NS:
            await asyncio.sleep(0.02)
            self.replica.catch_up(self.server.data_dir)

    def _audit_events(self, trader: Trader) -> None:
        """Every event that was told is the journal's fact of that number."""
        facts = self.replica.facts[trader.key.account]
        for seq in [seq for seq in trader.seen if seq > self._events_audited.get(trader.name, 0)]:
            _same(trader.seen[seq], self.replica.event_text(facts[seq]), f"{trader.name}: event {seq}")
        # Events told late, after a resume from earlier, are the same as before: the trader has seen to that.
        self._events_audited[trader.name] = trader.last_seq
        for snapshot in trader.snapshots:
            self._audit_snapshot(trader, snapshot)
        trader.snapshots.clear()

    def _audit_snapshot(self, trader: Trader, snapshot: Snapshot) -> None:
        """A snapshot has the balance that the account had at its number."""
        facts = self.replica.facts[trader.key.account]
        with_balance = next((seq for seq in range(snapshot.seq, 0, -1) if "balance" in self.replica.event_text(facts[seq])), 0)
        if with_balance:
            told = self.replica.event_text(facts[with_balance])
            # The held amount may have changed since by an event that does not carry it; the balance may not.
            assert snapshot.data["balance"]["balance"] == told["balance"], (snapshot.seq, snapshot.data["balance"], told)

    def _audit_answers(self, trader: Trader) -> None:
        """Every answer is what the journal's entry did."""
        account = trader.key.account
        known = self.replica.balances[account]
        for balance in trader.balances:
            pair = MONEY.parse(balance["balance"]), MONEY.parse(balance["held"])
            assert pair in known, f"{trader.name}: was told a balance that it never had: {balance}"
        self.report.balances += len(trader.balances)
        trader.balances.clear()
        for asked in trader.changes:
            if asked.result is not None:
                self._audit_change(trader, asked)
                self.report.acked_changes += 1
        trader.changes.clear()

    def _audit_change(self, trader: Trader, asked: Asked) -> None:
        result = asked.result
        assert result is not None
        canceled = self.replica.canceled.get(result["order_id"])
        if asked.method == "cancel":
            assert canceled is not None, asked
            assert canceled.account == trader.key.account, (asked, canceled)
            assert self.replica.qty(canceled.market, canceled.qty) == result["canceled_qty"], (asked, canceled)
        elif result["status"] == "canceled" and canceled is not None:
            assert self.replica.qty(canceled.market, canceled.filled_qty) == result["filled_qty"], (asked, canceled)
        else:
            terms = {
                (self.replica.price(event.market, event.price), self.replica.qty(event.market, event.qty))
                for event in self.replica.amended[result["order_id"]]
            }
            assert (result["price"], result["qty"]) in terms, (asked, terms)

    async def _audit_orders(self, trader: Trader, everything: bool) -> None:
        """Every acknowledged order is there, once, in at least the state that was told."""
        assert trader.client is not None
        account = trader.key.account
        ids = [*trader.placed]
        known = self._places_audited.get(trader.name, 0)
        older, fresh = ids[:known], ids[known:]
        self._places_audited[trader.name] = len(ids)
        if not everything:
            older = self.random.sample(older, min(OLDER_ORDERS, len(older)))
        told_fills: dict[int, int] = {}
        for event in trader.seen.values():
            if event["event"] == "fill":
                told_fills[event["order_id"]] = told_fills.get(event["order_id"], 0) + _lots(event["qty"])
        answers = {cid: trader.client.start("order", client_order_id=cid) for cid in [*older, *fresh]}
        for cid, answer in answers.items():
            asked = trader.placed[cid]
            assert asked.is_answered, f"{cid} was never settled"
            accepted = self.replica.accepted.get((account, cid), [])
            if asked.error is not None:
                assert not accepted, f"{cid} was refused ({asked.error}) and accepted: {accepted}"
                with suppress(RpcError):
                    assert not await answer, f"{cid} was refused ({asked.error}) and is shown as an order"
                continue
            assert asked.result is not None
            assert len(accepted) == 1, f"{cid} was accepted {len(accepted)} times"
            assert accepted[0].order_id == asked.result["order_id"], (asked, accepted)
            shown = await answer
            ours = self.replica.order(account, cid)
            assert ours is not None, cid
            _same(shown, self.replica.order_text(ours), cid)
            _same(shown, {"order_id": asked.result["order_id"]}, cid)
            if asked.result["status"] != "open" and not asked.result["repeat"]:
                _same(shown, {"status": asked.result["status"], "filled_qty": asked.result["filled_qty"]}, cid)
            assert _lots(shown["filled_qty"]) >= _lots(asked.result["filled_qty"]), (shown, asked)
            assert _lots(shown["filled_qty"]) >= told_fills.get(ours.order_id, 0), (shown, told_fills[ours.order_id])
            for fill in asked.result["fills"]:
                trade = self.replica.trades[fill["market"], fill["trade_id"]]
                _same(fill, self.replica.fill_text(trade, fill["liquidity"]), cid)
        for cid in fresh:
            if trader.placed[cid].result is not None:
                self.report.acked_orders += 1
            else:
                self.report.refused_orders += 1

    async def _audit_account(self, trader: Trader) -> None:
        """Balance, positions, open orders and fills as the server shows them are the journal's."""
        assert trader.client is not None
        account = self.replica.engine.accounts[trader.key.account]
        _same(await trader.client.call("balances"), self.replica.balance_text(account.account_id), trader.name)
        positions = {found["market"]: found["qty"] for found in await trader.client.call("positions")}
        ours = {market: self.replica.qty(market, position.qty) for market, position in account.positions.items()}
        assert positions == ours, (positions, ours)
        shown = await trader.client.call("orders", limit=1_000)
        by_id = {order["order_id"]: order for order in shown}
        assert len(by_id) == len(shown) == min(len(account.orders), 1_000), trader.name
        for order_id, order in by_id.items():
            _same(order, self.replica.order_text(account.orders[order_id]), trader.name)
        seen: set[tuple[str, int, str]] = set()
        for fill in await trader.client.call("fills", limit=1_000):
            _same(
                fill, self.replica.fill_text(self.replica.trades[fill["market"], fill["trade_id"]], fill["liquidity"]), "fill"
            )
            half = fill["market"], fill["trade_id"], fill["liquidity"]
            assert half not in seen, f"{trader.name}: fill {half} is listed twice"
            seen.add(half)

    def _audit_deposits(self) -> None:
        for transfer_id, asked in self.deposits.items():
            if asked.result is not None:
                booked = self.replica.transfers[asked.params["account"], transfer_id]
                assert len(booked) == 1, f"deposit {transfer_id} was booked {len(booked)} times"
                assert MONEY.format(booked[0].amount) == DEPOSIT


def _lots(text: str) -> int:
    return int(text.replace(".", ""))


def _same(told: dict[str, Any], ours: dict[str, Any], what: str) -> None:
    """``told`` has every field of ``ours``, with the same value."""
    different = {name: (told.get(name), value) for name, value in ours.items() if told.get(name) != value}
    assert not different, f"{what}: told and journal differ: {different}"
