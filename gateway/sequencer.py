"""The sequencer: the only writer. Stamps commands, applies them, and lets nobody hear of them before they are durable.

    submit -> stamp seq and ts_ns -> engine.apply at once -> gather
    one batch per loop turn -> journal.append, at once if the disk is fast: what comes meanwhile waits in the sockets and is
    the next batch. If it is slow, a thread runs it, while the loop serves and the next batch gathers (worker.py)
    batch durable -> per entry, in order: on_durable (feeds), done (the reply), reads that waited for it; then on_batch (flush)

Applying before the commit keeps the answer ready for the moment the disk is done; nothing is lost by it, because after a
failure the engine's state in memory is thrown away with the process.

Failures stop it for good, and are told once through ``on_failure``:

* the journal fails: nothing of that batch, nor of a later one, is published. What the disk holds of it is found at the
  next start; its senders have no answer, and learn the outcome by sending the same client_order_id again;
* the engine raises (a bug): that entry was never journaled, so the next start is without it. Entries before it are still
  committed and published, then the process stops with the entry's seq and command in the message;
* a callback raises (a bug): nothing more is published. What was durable stays so.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from engine.commands import Command, Entry, Tick
from engine.events import Event
from gateway.journal import PAYLOAD_HEADER, encode_entry, encode_into, finish_payload
from gateway.worker import DiskWorker, Loop, Timer, Worker

QUEUE_MAX: Final = 65_536
"""Entries that may wait to become durable; past it ``submit`` raises Overloaded."""
READS_MAX: Final = 65_536
"""Reads that may wait for what they saw to become durable; past it ``after_durable`` raises Overloaded."""
BATCH_ENTRIES_MAX: Final = 4_096
"""Entries of one group commit."""
BATCH_BYTES_MAX: Final = 1_048_576
"""Bytes of one group commit's payload; a single entry is always taken."""
DUE_CHECK_S_MAX: Final = 1.0
"""Due work is looked at this often at least, because the wall clock may be set while a timer sleeps."""
DUE_CHECK_S_MIN: Final = 0.001
"""And not more often than this."""

T = TypeVar("T")
Done = Callable[[Entry, list[Event]], None]


class Machine(Protocol):
    """What the sequencer needs of the engine."""

    seq: int
    ts_ns: int

    def apply(self, entry: Entry) -> list[Event]: ...
    def next_due_ns(self) -> int: ...


class Log(Protocol):
    """What the sequencer needs of a journal."""

    last_seq: int

    def append(self, first_seq: int, last_seq: int, payload: bytes | bytearray) -> None: ...


class Overloaded(Exception):
    """QUEUE_MAX entries (or READS_MAX reads) wait already: the command was not sequenced; try again later."""


class Stopped(Exception):
    """The sequencer is closed or has failed: the command was not sequenced."""


class EngineFailure(Exception):
    """The engine, or a callback, raised while it handled entry ``seq``: a bug."""

    def __init__(self, message: str, seq: int) -> None:
        super().__init__(message)
        self.seq = seq


class Batch:
    """Entries that become durable together, with their encoding."""

    __slots__ = ("items", "payload")

    def __init__(self) -> None:
        self.items: list[tuple[Entry, list[Event], Done | None]] = []
        self.payload = bytearray(PAYLOAD_HEADER)


class Sequencer:
    """Use it from one event loop's thread: ``start()``, then ``submit`` until ``await drain()`` and ``close()``.

    Threads and timers are the worker's and the loop's, which ``start`` is given. ``clock`` gives nanoseconds since the Unix
    epoch; time that goes back is replaced by the last time. The engine must stand where the journal ends. ``on_failure`` is
    called at most once; see the module's text for what happened before.
    """

    def __init__(
        self,
        engine: Machine,
        journal: Log,
        clock: Callable[[], int],
        on_durable: Callable[[Entry, list[Event]], None],
        on_batch: Callable[[], None],
        on_failure: Callable[[BaseException], None],
        queue_max: int = QUEUE_MAX,
        batch_entries_max: int = BATCH_ENTRIES_MAX,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        reads_max: int = READS_MAX,
    ) -> None:
        assert engine.seq == journal.last_seq, f"engine at {engine.seq}, journal at {journal.last_seq}"
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._on_durable = on_durable
        self._on_batch = on_batch
        self._on_failure = on_failure
        self._queue_max = queue_max
        self._batch_entries_max = batch_entries_max
        self._batch_bytes_max = batch_bytes_max
        self._reads_max = reads_max

        self._seq = engine.seq
        self._ts_ns = engine.ts_ns
        # Everything up to here is durable and was handed to on_durable and done.
        self._published_seq = engine.seq
        self._gathering = Batch()
        # Batches that reached a bound and wait for the worker; all their entries count against queue_max.
        self._full: deque[Batch] = deque()
        # (seq, fn): call fn when entry seq is published. Seqs do not decrease.
        self._reads: deque[tuple[int, Callable[[], None]]] = deque()
        self._in_flight: Batch | None = None
        self._append_error: BaseException | None = None
        self._turn_scheduled = False
        self._open = False
        self._closed = False
        self._failure: BaseException | None = None
        self._failure_told = False
        self._drains: list[Any] = []
        self._due_timer: Timer | None = None
        self._due_armed_ns = 0
        self._loop: Loop
        self._worker: Worker

    def start(self, worker: Worker | None = None, loop: Loop | None = None) -> None:
        """Begin to take commands, once. ``worker`` runs the commits; ``loop`` is the running event loop by default."""
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._worker = worker if worker is not None else DiskWorker()
        self._worker.start(self._loop)
        self._open = True
        self._arm_due_timer()

    @property
    def undurable(self) -> int:
        """Entries that are applied and not yet published; at most ``queue_max``."""
        return self._seq - self._published_seq

    # ---------------------------------------------------------------------------------------------------------- commands

    def submit(self, command: Command, deadline_ns: int = 0, done: Done | None = None) -> None:
        """Sequence one command and apply it; ``done(entry, events)`` is called once it is durable.

        Raises Overloaded, Stopped, or ValueError for a command that has no encoding; nothing has changed then, except
        that Stopped may also mean that this very command hit a bug in the engine (the process is about to stop).
        """
        if self._seq - self._published_seq >= self._queue_max:
            raise Overloaded(f"{self._queue_max} commands wait for the disk")
        if not self._open:
            raise Stopped("the exchange is stopping")
        ts_ns = self._clock()
        if ts_ns < self._ts_ns:
            ts_ns = self._ts_ns
        seq = self._seq + 1
        entry = Entry(seq, ts_ns, command, deadline_ns)
        batch = self._gathering
        start = len(batch.payload)
        # Encoded before it is applied: what cannot be journaled must not change the engine.
        try:
            encode_into(entry, batch.payload, -1)
        except (OverflowError, ValueError, TypeError):
            del batch.payload[start:]
            encode_entry(entry, batch.payload)
        try:
            events = self._engine.apply(entry)
        except BaseException as error:
            del batch.payload[start:]
            self._engine_failed(entry, error)
            raise Stopped(f"the exchange stops at entry {seq}") from error
        self._seq = seq
        self._ts_ns = ts_ns
        if len(batch.payload) > self._batch_bytes_max and batch.items:
            batch = self._next_batch(start)
        batch.items.append((entry, events, done))
        if len(batch.items) >= self._batch_entries_max:
            self._next_batch(len(batch.payload))
        if not self._turn_scheduled and self._in_flight is None:
            self._schedule_turn()

    def after_durable(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` once everything applied so far is durable and published: right behind the last such entry's ``done``
        and before any later entry is published; at once when nothing is pending.

        What an answer says of the engine has to be read now, not in ``fn``: by then the engine may hold entries that are
        not durable. Raises Overloaded or Stopped.
        """
        if not self._open:
            raise Stopped("the exchange is stopping")
        if self._published_seq == self._seq:
            fn()
        elif len(self._reads) >= self._reads_max:
            raise Overloaded(f"{self._reads_max} reads wait for the disk")
        else:
            self._reads.append((self._seq, fn))

    async def drain(self) -> None:
        """Wait until everything submitted so far, and meanwhile, is durable and published. Raises the failure, if any."""
        while not self._failure_told and (self._published_seq != self._seq or self._failure is not None):
            waiter = self._loop.create_future()
            self._drains.append(waiter)
            await waiter
        if self._failure is not None:
            raise self._failure

    async def between_commits(self, job: Callable[[], T]) -> T:
        """Let the worker run ``job`` between two commits, for example to tidy the journal. Keep it short."""
        if not self._open:
            raise Stopped("the exchange is stopping")
        result = self._loop.create_future()
        values: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                values.append(job())
            except Exception as error:
                errors.append(error)

        def settle() -> None:
            if result.cancelled():
                return
            if errors:
                result.set_exception(errors[0])
            else:
                result.set_result(values[0])

        self._worker.put(run, settle)
        value: T = await result
        return value

    def close(self) -> None:
        """Take no more commands and end the worker; waits for a commit in flight. Undrained entries are never published."""
        self._open = False
        self._closed = True
        self._disarm_due_timer()
        self._worker.close()

    # ----------------------------------------------------------------------------------------------------------- batches

    def _next_batch(self, keep_bytes: int) -> Batch:
        """Close the gathering batch after ``keep_bytes`` of its payload; what is behind them starts the next one."""
        batch = self._gathering
        self._full.append(batch)
        self._gathering = Batch()
        self._gathering.payload += batch.payload[keep_bytes:]
        del batch.payload[keep_bytes:]
        return self._gathering

    @property
    def _pending(self) -> bool:
        """Whether there is a batch to commit."""
        return bool(self._full or self._gathering.items)

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """The end of a loop turn in which something was submitted and no commit was in flight."""
        self._turn_scheduled = False
        self._commit_next()

    def _commit_next(self) -> None:
        """Give the oldest batch to the idle worker; with nothing left, tell a failure that waited for it."""
        if self._in_flight is not None or self._closed:
            return
        if self._full:
            batch = self._full.popleft()
        elif self._gathering.items:
            batch = self._gathering
            self._gathering = Batch()
        else:
            if self._failure is not None:
                self._tell_failure()
            return
        self._in_flight = batch
        finish_payload(batch.payload, len(batch.items))
        self._arm_due_timer()
        if self._worker.fast:
            self._worker.run(self._append)
            self._committed()
        else:
            self._worker.put(self._append, self._committed)

    def _append(self) -> None:
        """The worker's job: make the batch in flight durable."""
        batch = self._in_flight
        assert batch is not None
        try:
            self._journal.append(batch.items[0][0].seq, batch.items[-1][0].seq, batch.payload)
        except BaseException as raised:
            self._append_error = raised

    def _committed(self) -> None:
        """The batch in flight is durable, or failed."""
        batch = self._in_flight
        if self._failure_told or self._closed or batch is None:
            return
        if self._append_error is not None:
            self._fail(self._append_error)
            return
        self._in_flight = None
        overlap = self._pending and not self._worker.fast
        if overlap:
            # The slow disk gets its next batch before this one is published, so that both are busy.
            self._commit_next()
        self._publish(batch)
        if not overlap and (self._pending or self._failure is not None):
            self._schedule_turn()
        if self._published_seq == self._seq:
            self._wake_drains()

    def _publish(self, batch: Batch) -> None:
        reads = self._reads
        entry = batch.items[0][0]
        try:
            for entry, events, done in batch.items:
                self._on_durable(entry, events)
                if done is not None:
                    done(entry, events)
                self._published_seq = entry.seq
                while reads and reads[0][0] <= entry.seq:
                    reads.popleft()[1]()
            self._on_batch()
        except BaseException as error:
            failure = EngineFailure(f"publishing entry {entry.seq} ({_name(entry)}) failed: {error!r}", entry.seq)
            failure.__cause__ = error
            self._fail(failure)

    # ---------------------------------------------------------------------------------------------------------- failures

    def _engine_failed(self, entry: Entry, error: BaseException) -> None:
        """Entry's apply raised: refuse what comes, but let what was gathered before it become durable."""
        self._failure = EngineFailure(f"the engine failed at entry {entry.seq} ({_name(entry)}): {error!r}", entry.seq)
        self._failure.__cause__ = error
        self._open = False
        self._disarm_due_timer()
        # The engine's state may be half changed: nobody may read it any more.
        self._reads.clear()
        if not self._turn_scheduled and self._in_flight is None:
            self._schedule_turn()

    def _fail(self, error: BaseException) -> None:
        """Stop at once and for good."""
        if self._failure is not None and error is not self._failure:
            error.__context__ = self._failure
        self._failure = error
        self._open = False
        self._disarm_due_timer()
        self._reads.clear()
        self._full.clear()
        self._gathering = Batch()
        self._tell_failure()

    def _tell_failure(self) -> None:
        assert self._failure is not None
        if self._failure_told:
            return
        self._failure_told = True
        self._wake_drains()
        self._on_failure(self._failure)

    def _wake_drains(self) -> None:
        waiters, self._drains = self._drains, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ---------------------------------------------------------------------------------------------------------- due work

    def _arm_due_timer(self) -> None:
        """Wake up when the engine's next due work is due. Called once per batch."""
        due_ns = self._engine.next_due_ns()
        if due_ns == self._due_armed_ns:
            return
        self._disarm_due_timer()
        if due_ns and self._open:
            delay_s = (due_ns - self._clock()) / 1e9
            self._due_armed_ns = due_ns
            self._due_timer = self._loop.call_later(min(max(delay_s, DUE_CHECK_S_MIN), DUE_CHECK_S_MAX), self._due_timer_fired)

    def _disarm_due_timer(self) -> None:
        self._due_armed_ns = 0
        if self._due_timer is not None:
            self._due_timer.cancel()
            self._due_timer = None

    def _due_timer_fired(self) -> None:
        """Sequence a Tick if something is due by now: any entry stamped since would have done it already."""
        self._disarm_due_timer()
        due_ns = self._engine.next_due_ns()
        if due_ns and due_ns <= max(self._clock(), self._ts_ns):
            try:
                self.submit(Tick())
            except (Overloaded, Stopped):
                pass  # overloaded: traffic does the due work; stopped: a failure is being told
        if self._open:
            self._arm_due_timer()


def _name(entry: Entry) -> str:
    return type(entry.command).__name__
