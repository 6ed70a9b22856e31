"""The exchange's process without sockets, files and threads: what ``gateway/__main__.py`` wires, over the simulated parts.

:class:`Process` is one life of it, from recovery to its end; :class:`Host` is the machine that starts it again. Everything
between a frame that arrives and a row that is written is the product's own code.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from engine.commands import Entry
from engine.core import Engine
from engine.events import Event
from engine.invariants import check
from gateway import listings
from gateway.__main__ import CLOCK_SET_NS
from gateway.exchange import Exchange, Taking
from gateway.feeds import Feeds
from gateway.history import History
from gateway.journal import JournalError
from gateway.ratelimit import Limiter
from gateway.recovery import RecoveryError
from gateway.sequencer import Overloaded, Sequencer, Stopped
from gateway.server import CLOSE_S, Server
from gateway.wire import Close
from tests.simulation.coverage import Coverage
from tests.simulation.disk import Disk, Rot, SimulatedJournal, SimulatedKeys, Writer, bring_up, recovered
from tests.simulation.network import Network
from tests.simulation.oracle import Oracle
from tests.simulation.swarm import Plan
from tests.simulation.world import MS_NS, SECOND_NS, Finding, Loop, World

VERSION: Final = "0.0.0"
STOP_CHECK_NS: Final = 10 * MS_NS


class Watched:
    """The engine as the sequencer sees it; what it does is counted and checked."""

    def __init__(self, engine: Engine, coverage: Coverage, check_every: int) -> None:
        self._engine = engine
        self._apply = engine.apply
        self._coverage = coverage
        self._check_every = check_every
        self.next_due_ns = engine.next_due_ns
        self.seq, self.ts_ns = engine.seq, engine.ts_ns

    def apply(self, entry: Entry) -> list[Event]:
        events = self._apply(entry)
        self._coverage.count_entry(entry, events)
        if entry.seq % self._check_every == 0:
            check(self._engine)
        return events


class Process:
    """One life of the server."""

    def __init__(self, host: "Host") -> None:
        self.host = host
        self.world = world = host.world
        self.plan = plan = host.plan
        self.loop = Loop(world)
        feeds = Feeds(plan.fact_limits)
        history = History(plan.history_accounts_max, plan.closed_max)

        def replayed(entry: Entry, events: list[Event]) -> None:
            host.oracle.follow(entry, events)
            feeds.load(entry, events)
            history.load(events)

        self.engine, self.journal = recovered(host.disk, replayed, host.warned)
        host.oracle.catch_up(self.journal)
        challenges = host.world.random(f"challenges:{host.lives}")
        self.exchange = Exchange(
            self.engine,
            plan.config,
            SimulatedKeys(host.disk),
            feeds,
            self.journal.epoch,
            VERSION,
            history=history,
            limiter=Limiter(plan.config.rates, plan.ip_logins, plan.key_failures, plan.budgets_idle_max),
            new_challenge=lambda: f"{challenges.getrandbits(256):064x}",
        )
        self.feeds = feeds
        self.server = Server(self.exchange, plan.config.server, host.clock, 100_000)
        self.sequencer = Sequencer(
            Watched(self.engine, host.coverage, plan.check_every),
            self.journal,
            host.clock,
            on_durable=self._published,
            on_batch=self.server.flush,
            on_failure=self._failed,
            queue_max=plan.queue_max,
            batch_entries_max=plan.batch_entries_max,
            batch_bytes_max=plan.batch_bytes_max,
            reads_max=plan.reads_max,
        )
        self.writer = Writer(host.disk, self.loop, host.crash)
        feeds.start(self.engine, self.sequencer)
        self.exchange.start(self.sequencer)
        self.lister = listings.Lister(
            plan.config.listings,
            plan.config.terms,
            self.engine.markets,
            lambda command, done: self.sequencer.submit(command, done=done),
        )
        self.stopping = False
        self._skew_ns = host.clock_skew_ns

    def start(self) -> None:
        """Serve. The loop has to be the running one."""
        server: Any = self.server
        server._loop = self.loop
        server._accepting = True
        server._listening = SimpleNamespace(close=lambda: None)
        self.host.network.server = self.server
        self.host.network.loop_call_soon = self.loop.call_soon
        self.sequencer.start(self.writer, self.loop)
        self._keep_time()
        if self.plan.snapshot_ns:
            self.loop.call_later(self.plan.snapshot_ns / SECOND_NS, self._snapshot)

    def _keep_time(self) -> None:
        now_ns = self.host.clock()
        if abs(self.host.clock_skew_ns - self._skew_ns) >= CLOCK_SET_NS:
            self.exchange.clock_set(now_ns)
            self.server.clock_set(now_ns)
        self._skew_ns = self.host.clock_skew_ns
        if self.exchange.taking is Taking.ALL:
            try:
                self.lister.run(now_ns)
            except (Overloaded, Stopped):
                pass
        self.feeds.tick(now_ns)
        self.exchange.tick(now_ns)
        self.server.tick(now_ns)
        self.loop.call_later(self.plan.tick_ns / SECOND_NS, self._keep_time)

    # ----------------------------------------------------------------------------------------------------- what happens

    def _published(self, entry: Entry, events: list[Event]) -> None:
        host = self.host
        if entry.seq > host.disk.last_seq:
            raise Finding(f"entry {entry.seq} is published, and the disk holds {host.disk.last_seq}")
        host.oracle.follow(entry, events)
        host.world.digest(entry.seq, entry.ts_ns, len(events))
        self.exchange.publish(entry, events)
        if self.sequencer.undurable <= 1 and self.engine.seq == entry.seq:
            host.keep_books(self, events)

    def _failed(self, failure: BaseException) -> None:
        self.world.note(f"server: failed: {failure}")
        if not isinstance(failure, JournalError):
            raise Finding(f"the server failed: {failure}") from failure
        self._close_all(Close.FAILED, "the exchange failed and stops")
        self.loop.call_later(CLOSE_S + 1, self.host.ended, self)

    def _snapshot(self) -> None:
        """Another process makes a snapshot of what is durable now; it takes a while, and dies with the machine."""
        disk = self.host.disk
        journal = SimulatedJournal(disk, check=False)
        if journal.last_seq:
            engine = bring_up(disk, journal)
            self.loop.call_later(0.05, self._snapshot_done, engine, journal.last_checksum)
        self.loop.call_later(self.plan.snapshot_ns / SECOND_NS, self._snapshot)

    def _snapshot_done(self, engine: Engine, checksum: bytes) -> None:
        if not self.host.disk.full:
            self.host.disk.store_snapshot(engine, checksum)
            self.host.coverage.count("fault", "snapshot")
            self.world.note(f"server: snapshot at entry {engine.seq}")

    # ---------------------------------------------------------------------------------------------------------- its end

    def crash(self) -> None:
        """Gone within an instant."""
        self.loop.alive = False
        self.writer.crash()
        self.host.network.died()

    def stop(self) -> None:
        """As SIGTERM does: announce, let clients cancel, make everything durable, close every socket."""
        if self.stopping:
            return
        self.stopping = True
        self.exchange.taking = Taking.CANCELS
        self.feeds.announce("stopping", self.host.clock())
        self.server.stop_accepting()
        self._wait_for_cancels(self.plan.config.server.stop_ms * MS_NS)

    def _wait_for_cancels(self, left_ns: int) -> None:
        if left_ns > 0 and self.exchange.has_traders:
            self.loop.call_later(STOP_CHECK_NS / SECOND_NS, self._wait_for_cancels, left_ns - STOP_CHECK_NS)
            return
        self.exchange.taking = Taking.NONE
        self._wait_for_disk()

    def _wait_for_disk(self) -> None:
        if self.sequencer.undurable:
            self.loop.call_later(0.05, self._wait_for_disk)
            return
        self._close_all(Close.GOING_AWAY, "the exchange is stopping; connect again in a while")
        self.loop.call_later(CLOSE_S + 1, self.host.ended, self)

    def _close_all(self, code: int, reason: str) -> None:
        self.stopping = True
        self.server.stop_accepting()
        for connection in [*self.server._connections]:
            connection.close(code, reason)

    @property
    def is_quiet(self) -> bool:
        """Whether everything that was asked is durable and told."""
        return not self.sequencer.undurable and not self.stopping


class Host:
    """The machine: its clock, its disk, and the process that runs on it, if one does."""

    def __init__(self, world: World, plan: Plan, network: Network, coverage: Coverage) -> None:
        self.world = world
        self.plan = plan
        self.network = network
        self.coverage = coverage
        self.disk = Disk(world, plan, coverage, plan.limits)
        self.oracle = Oracle(plan.limits, plan.oracle)
        self.rng = world.random("host")
        self.process: Process | None = None
        self.lives = 0
        self.clock_skew_ns = 0
        self.books: dict[tuple[str, int], tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
        """Levels of quiet moments of the running process, by market and channel number."""
        self.on_crash: Callable[[], None] = lambda: None
        self.on_recovered: Callable[[], None] = lambda: None
        self.cause: Callable[[str], None] = lambda kind: None
        """Tells the auditor what explains what clients will see."""

    def clock(self) -> int:
        """The machine's wall clock, which may be set."""
        return self.world.now_ns + self.clock_skew_ns

    def warned(self, problem: str) -> None:
        self.world.note(f"server: {problem}")
        self.coverage.count("fault", "snapshot not used")

    def start(self) -> None:
        """Start the process; it recovers first."""
        self.disk.full = self.disk.broken = False
        self.books.clear()
        rot = self.disk.rot() if self.plan.faulty and self.plan.rots and self.rng.random() < 0.7 else None
        if rot is not None:
            self._start_damaged(rot)
        if self.disk.snapshots:
            self.coverage.count("fault", "snapshot used")
        process = self.process = Process(self)
        asyncio._set_running_loop(process.loop)  # type: ignore[arg-type]
        process.start()
        if self.lives:
            self.on_recovered()
        self.lives += 1
        self.world.note(f"server: serves from entry {process.engine.seq}")

    def _start_damaged(self, rot: Rot) -> None:
        """Recovery has to refuse what is damaged, or to find another way; then the good copy is put back."""
        self.coverage.count("fault", rot.kind)
        self.world.note(f"fault: {rot.kind}")
        try:
            bring_up(self.disk, SimulatedJournal(self.disk))
        except (JournalError, RecoveryError) as refusal:
            self.world.note(f"server: does not start: {refusal}")
            if not rot.must_fail:
                raise Finding(f"recovery gave up for {rot.kind}: {refusal}") from refusal
        else:
            if rot.must_fail:
                raise Finding(f"recovery did not notice: {rot.kind}")
        rot.heal(self.disk)

    # ----------------------------------------------------------------------------------------------------------- faults

    def start_faults(self) -> None:
        if self.plan.server_faults:
            self.world.later(self._next_fault_ns(), self._fault)

    def _next_fault_ns(self) -> int:
        return int(self.rng.expovariate(1.0) * self.plan.server_fault_ns)

    def _fault(self) -> None:
        if not self.plan.faulty:
            return
        self.world.later(self._next_fault_ns(), self._fault)
        kind = self.rng.choice(self.plan.server_faults)
        process = self.process
        if kind.startswith("clock"):
            self._set_clock(kind)
        elif process is None or process.stopping:
            return
        elif kind == "crash":
            self.crash()
        elif kind == "stop":
            self.cause("stopping")
            process.stop()
        else:
            self.cause("disk")
            self.disk.full = self.disk.full or kind == "disk full"
            self.disk.broken = not self.disk.full
        self.coverage.count("fault", kind)
        self.world.note(f"fault: {kind}")

    def _set_clock(self, kind: str) -> None:
        step_ns = int(self.rng.choice((0.001, 0.1, 1, 5, 20)) * SECOND_NS)
        self.cause("clock")
        self.clock_skew_ns += step_ns if kind == "clock forward" else -step_ns

    def crash(self) -> None:
        """The process dies this instant, and is started again after a while."""
        process = self.process
        assert process is not None
        process.crash()
        self._gone()
        self.on_crash()

    def ended(self, process: Process) -> None:
        """The process has ended by itself, after a clean stop or a failure of the disk."""
        if process is not self.process:
            return
        failed = process.exchange.taking is Taking.ALL
        process.loop.alive = False
        self.network.died()
        self._gone()
        if failed:
            self.on_crash()

    def _gone(self) -> None:
        self.process = None
        asyncio._set_running_loop(None)
        self.world.later(self.plan.on_grid(int(self.plan.downtime_ns * (0.5 + self.rng.random()))), self.start)

    # -------------------------------------------------------------------------------------------------------- the truth

    def keep_books(self, process: Process, events: list[Event]) -> None:
        """Nothing is on its way to the disk: keep the engine's levels for the numbers that the book channels have now."""
        for symbol in dict.fromkeys(getattr(event, "market", "") for event in events):
            channels = process.feeds._markets.get(symbol)
            if channels is not None:
                book = process.engine.markets[symbol].book
                levels = (book.bids_best_first(), book.asks_best_first())
                self.books[symbol, channels.book.seq] = levels
                depth = channels.depth
                if levels != ([*depth.bids.best_first()], [*depth.asks.best_first()]):
                    raise Finding(
                        f"{symbol}: the book that is shown differs from the engine's after entry {process.engine.seq}"
                    )
