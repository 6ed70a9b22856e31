"""Nothing is heard before it is durable, everything is heard in order, and a failure is heard once and ends it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from engine.commands import Command, CreateAccount, Entry, ReportWork, Tick
from engine.events import AccountCreated, Event
from gateway import sequencer as sequencer_module
from gateway.journal import PAYLOAD_HEADER, JournalWriteError, decode_batch, encode_entry
from gateway.sequencer import EngineFailure, Overloaded, Sequencer, Stopped
from gateway.worker import FAST_NS, DiskWorker, Loop

A_SECOND = 1_000_000_000


class FakeEngine:
    """Answers each entry with one event; fails where it is told to."""

    def __init__(self, seq: int = 0, ts_ns: int = 0) -> None:
        self.seq = seq
        self.ts_ns = ts_ns
        self.due: list[int] = []
        self.fail_at = 0
        self.applied: list[Entry] = []

    def apply(self, entry: Entry) -> list[Event]:
        if entry.seq == self.fail_at:
            raise AssertionError("books do not balance")
        assert entry.seq == self.seq + 1
        assert entry.ts_ns >= self.ts_ns
        self.due = [due for due in self.due if due > entry.ts_ns]
        self.seq, self.ts_ns = entry.seq, entry.ts_ns
        self.applied.append(entry)
        return [AccountCreated(entry.seq, "")]

    def next_due_ns(self) -> int:
        return min(self.due, default=0)


class FakeJournal:
    """A journal whose disk stands still until it is let go, and breaks where it is told to."""

    def __init__(self, last_seq: int = 0) -> None:
        self.last_seq = last_seq
        self.rows: list[tuple[int, int, bytes]] = []
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        self.fail_at = 0
        self.threads: set[str] = set()

    def append(self, first_seq: int, last_seq: int, payload: bytes | bytearray) -> None:
        self.threads.add(threading.current_thread().name)
        self.busy.set()
        assert self.free.wait(10)
        assert first_seq == self.last_seq + 1
        if first_seq <= self.fail_at <= last_seq:
            raise JournalWriteError("disk full")
        self.rows.append((first_seq, last_seq, bytes(payload)))
        self.last_seq = last_seq

    @property
    def batches(self) -> list[list[int]]:
        return [[entry.seq for entry in decode_batch(row[2])] for row in self.rows]


class SlowDisk(DiskWorker):
    """One that never looks fast."""

    @property
    def fast(self) -> bool:
        return False


class Rig:
    """A sequencer between fakes, and a record of everything it said."""

    def __init__(self, seq: int = 0, ts_ns: int = 0, **bounds: int) -> None:
        self.engine = FakeEngine(seq, ts_ns)
        self.journal = FakeJournal(seq)
        self.now_ns = 1_000
        self.said: list[Any] = []
        self.failures: list[BaseException] = []
        self.on_durable: Callable[[Entry, list[Event]], None] = lambda entry, events: self.said.append(f"feed {entry.seq}")
        self.sequencer = Sequencer(
            self.engine,
            self.journal,
            lambda: self.now_ns,
            lambda entry, events: self.on_durable(entry, events),
            lambda: self.said.append("flush"),
            self.failures.append,
            **bounds,
        )

    def start(self, fast: bool = False) -> None:
        """Commits run in the thread, or with ``fast`` in the loop."""
        self.sequencer.start(DiskWorker() if fast else SlowDisk())

    def submit(self, name: str = "x", command: Command | None = None) -> None:
        self.sequencer.submit(command or CreateAccount(name), 0, lambda entry, events: self.said.append(f"reply {entry.seq}"))

    async def disk_is_busy(self) -> None:
        """Until the journal's thread is inside a commit."""
        assert await asyncio.to_thread(self.journal.busy.wait, 5)
        self.journal.busy.clear()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    rig.start()
    yield rig
    rig.journal.free.set()
    rig.sequencer.close()


@pytest.fixture(params=["in the thread", "in the loop"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """A rig whose disk is never held, with commits in either place."""
    rig = Rig()
    rig.start(fast=request.param == "in the loop")
    yield rig
    rig.sequencer.close()


async def started(seq: int = 0, ts_ns: int = 0, **bounds: int) -> Rig:
    rig = Rig(seq, ts_ns, **bounds)
    rig.start()
    return rig


# ------------------------------------------------------------------------------------------------------------------- order


async def test_feed_then_reply_for_each_entry_then_one_flush(either: Rig) -> None:
    either.submit()
    either.submit()
    assert either.said == []
    await either.sequencer.drain()
    assert either.said == ["feed 1", "reply 1", "feed 2", "reply 2", "flush"]


async def test_the_feed_and_the_reply_get_the_entry_and_its_events(either: Rig) -> None:
    told: list[tuple[Entry, list[Event]]] = []
    either.on_durable = lambda entry, events: told.append((entry, events))
    either.sequencer.submit(CreateAccount("a"), 0, lambda entry, events: told.append((entry, events)))
    either.sequencer.submit(CreateAccount("b"))
    await either.sequencer.drain()
    first, second = either.engine.applied
    of_first, of_second = [AccountCreated(1, "")], [AccountCreated(2, "")]
    assert told == [(first, of_first), (first, of_first), (second, of_second)]


async def test_one_batch_per_loop_turn(either: Rig) -> None:
    for _ in range(3):
        either.submit()
    await either.sequencer.drain()
    either.submit()
    await either.sequencer.drain()
    assert either.journal.batches == [[1, 2, 3], [4]]


async def test_nothing_is_said_before_the_commit_and_the_next_batch_gathers_meanwhile(rig: Rig) -> None:
    rig.journal.free.clear()
    rig.submit()
    await rig.disk_is_busy()
    for _ in range(5):  # the loop keeps serving
        rig.submit()
        await asyncio.sleep(0)
    assert rig.engine.seq == 6
    assert (rig.said, rig.journal.rows, rig.sequencer.undurable) == ([], [], 6)
    rig.journal.free.set()
    await rig.sequencer.drain()
    assert rig.journal.batches == [[1], [2, 3, 4, 5, 6]]
    assert rig.said == [
        "feed 1",
        "reply 1",
        "flush",
        *(f"{what} {n}" for n in range(2, 7) for what in ("feed", "reply")),
        "flush",
    ]
    assert rig.sequencer.undurable == 0


async def test_commits_in_one_thread_of_its_own(rig: Rig) -> None:
    for _ in range(3):
        rig.submit()
        await rig.sequencer.drain()
    assert rig.journal.threads == {"journal"}


async def test_the_journal_holds_what_was_applied(either: Rig) -> None:
    either.sequencer.submit(CreateAccount("a"), 77)
    either.submit("b")
    await either.sequencer.drain()
    assert decode_batch(either.journal.rows[0][2]) == either.engine.applied
    assert either.engine.applied[0] == Entry(1, 1_000, CreateAccount("a"), 77)


async def test_goes_on_behind_what_was_recovered() -> None:
    rig = await started(seq=41, ts_ns=5_000)
    rig.submit()
    await rig.sequencer.drain()
    rig.sequencer.close()
    assert rig.engine.applied == [Entry(42, 5_000, CreateAccount("x"))]  # the clock says 1,000


async def test_a_callback_may_submit(either: Rig) -> None:
    either.sequencer.submit(CreateAccount("a"), 0, lambda entry, events: either.submit("b"))
    await either.sequencer.drain()
    assert either.said == ["feed 1", "flush", "feed 2", "reply 2", "flush"]


async def test_drain_with_nothing_pending_returns(either: Rig) -> None:
    await either.sequencer.drain()


async def test_a_worker_of_its_own_unless_it_is_given_one() -> None:
    rig = Rig()
    with pytest.raises(Stopped):
        rig.submit()  # not started
    rig.sequencer.start()
    rig.submit()
    await rig.sequencer.drain()
    rig.sequencer.close()
    assert rig.said == ["feed 1", "reply 1", "flush"]


def test_engine_and_journal_must_agree() -> None:
    with pytest.raises(AssertionError, match="engine at 3, journal at 2"):
        Sequencer(FakeEngine(3), FakeJournal(2), int, print, print, print)


# -------------------------------------------------------------------------------------------------------------------- time


async def test_time_never_goes_back(either: Rig) -> None:
    for now_ns in (2_000, 1_500, 2_500):
        either.now_ns = now_ns
        either.submit()
    assert [entry.ts_ns for entry in either.engine.applied] == [2_000, 2_000, 2_500]


async def test_a_tick_is_written_when_something_is_due(either: Rig) -> None:
    either.engine.due = [either.now_ns + 20_000_000]
    either.submit()
    await either.sequencer.drain()
    await asyncio.sleep(0.05)
    assert len(either.engine.applied) == 1  # the timer fired, the clock does not say so yet
    either.now_ns += 20_000_000
    await either.until(lambda: len(either.engine.applied) == 2)
    assert either.engine.applied[1].command == Tick()
    await asyncio.sleep(0.05)
    assert len(either.engine.applied) == 2


@pytest.mark.parametrize("due_ns", [1, 500, 1_000])
async def test_due_work_of_a_recovered_engine_gets_its_tick(due_ns: int) -> None:
    rig = Rig()
    rig.engine.due = [due_ns]
    rig.start()
    await rig.until(lambda: rig.engine.applied == [Entry(1, 1_000, Tick())])
    await rig.sequencer.drain()
    rig.sequencer.close()


async def test_no_tick_when_traffic_did_the_work(rig: Rig) -> None:
    rig.engine.due = [1_000_000]
    rig.submit()
    rig.now_ns = 1_000_000
    rig.submit()  # does what is due
    await rig.sequencer.drain()
    await asyncio.sleep(0.05)
    assert [type(entry.command) for entry in rig.engine.applied] == [CreateAccount, CreateAccount]


async def test_no_tick_without_due_work(rig: Rig) -> None:
    rig.now_ns += 3600 * A_SECOND
    await asyncio.sleep(0.03)
    assert rig.engine.applied == []


async def test_a_clock_that_jumps_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer_module, "DUE_CHECK_S_MAX", 0.01)
    rig = Rig()
    rig.engine.due = [3600 * A_SECOND]
    rig.start()
    await asyncio.sleep(0.03)
    rig.now_ns = 3600 * A_SECOND
    await rig.until(lambda: len(rig.engine.applied) == 1)
    await rig.sequencer.drain()
    rig.sequencer.close()


# ------------------------------------------------------------------------------------------------------------------- reads


async def test_a_read_answers_at_once_when_nothing_is_pending(either: Rig) -> None:
    either.sequencer.after_durable(lambda: either.said.append("read"))
    assert either.said == ["read"]


async def test_a_read_answers_right_behind_the_last_entry_it_saw(either: Rig) -> None:
    either.submit()
    either.sequencer.after_durable(lambda: either.said.append("read at 1"))
    either.submit()
    either.sequencer.after_durable(lambda: either.said.append("read at 2"))
    either.sequencer.after_durable(lambda: either.said.append("again at 2"))
    await either.sequencer.drain()
    assert either.said == ["feed 1", "reply 1", "read at 1", "feed 2", "reply 2", "read at 2", "again at 2", "flush"]


async def test_a_read_from_a_callback_does_not_overtake(either: Rig) -> None:
    either.sequencer.submit(
        CreateAccount("a"), 0, lambda entry, events: either.sequencer.after_durable(lambda: either.said.append("read"))
    )
    either.submit()
    await either.sequencer.drain()
    assert either.said == ["feed 1", "feed 2", "reply 2", "read", "flush"]


# ------------------------------------------------------------------------------------------------------------------ bounds


async def test_queue_max() -> None:
    rig = await started(queue_max=3)
    rig.journal.free.clear()
    for _ in range(3):
        rig.submit()
    with pytest.raises(Overloaded, match="3 commands"):
        rig.submit()
    assert rig.engine.seq == 3  # refused before it was sequenced
    rig.journal.free.set()
    await rig.sequencer.drain()
    rig.submit()
    await rig.sequencer.drain()
    rig.sequencer.close()
    assert rig.journal.last_seq == 4


async def test_reads_max() -> None:
    rig = await started(reads_max=2)
    rig.submit()
    for _ in range(2):
        rig.sequencer.after_durable(lambda: rig.said.append("read"))
    with pytest.raises(Overloaded, match="2 reads"):
        rig.sequencer.after_durable(lambda: rig.said.append("read"))
    await rig.sequencer.drain()
    rig.sequencer.close()
    assert rig.said.count("read") == 2


async def test_batch_entries_max() -> None:
    rig = await started(batch_entries_max=3)
    for _ in range(7):
        rig.submit()
    await rig.sequencer.drain()
    rig.sequencer.close()
    assert rig.journal.batches == [[1, 2, 3], [4, 5, 6], [7]]
    assert [word for word in rig.said if word.startswith("feed")] == [f"feed {n}" for n in range(1, 8)]


async def test_batch_bytes_max() -> None:
    one = 5 + len(bytes_of("x" * 50))
    rig = await started(batch_bytes_max=5 + 2 * (one - 5))
    for _ in range(5):
        rig.submit("x" * 50)
    rig.submit("x" * 500)  # larger than the bound: alone
    rig.submit("x" * 50)
    await rig.sequencer.drain()
    rig.sequencer.close()
    assert rig.journal.batches == [[1, 2], [3, 4], [5], [6], [7]]


def bytes_of(name: str) -> bytes:
    payload = bytearray(PAYLOAD_HEADER)
    encode_entry(Entry(1, 1_000, CreateAccount(name)), payload)
    return bytes(payload[5:])


async def test_what_cannot_be_encoded_changes_nothing(either: Rig) -> None:
    either.submit("a")
    with pytest.raises(ValueError, match="cannot be journaled"):
        either.submit("\ud800")
    either.submit("b")
    await either.sequencer.drain()
    assert either.journal.batches == [[1, 2]]
    assert either.failures == []


async def test_integers_past_64_bits_are_journaled(rig: Rig) -> None:
    work = ReportWork(1, 2**120, 5, 2**70)
    rig.submit("a")
    rig.submit(command=work)
    rig.submit("b")
    await rig.sequencer.drain()
    assert [entry.command for entry in decode_batch(rig.journal.rows[0][2])] == [CreateAccount("a"), work, CreateAccount("b")]


# ---------------------------------------------------------------------------------------------------------------- failures


async def test_a_journal_failure_is_told_once_and_nothing_is_published(rig: Rig) -> None:
    rig.journal.fail_at = 3
    rig.submit()
    await rig.sequencer.drain()
    said = list(rig.said)
    rig.journal.free.clear()
    rig.journal.busy.clear()
    rig.submit()  # 2 and 3 share a batch
    rig.submit()
    rig.sequencer.after_durable(lambda: rig.said.append("read"))
    await rig.disk_is_busy()
    rig.submit()  # gathers behind the failure
    rig.journal.free.set()
    with pytest.raises(JournalWriteError, match="disk full"):
        await rig.sequencer.drain()
    assert rig.said == said
    assert [str(failure) for failure in rig.failures] == ["disk full"]
    with pytest.raises(Stopped):
        rig.submit()
    with pytest.raises(Stopped):
        rig.sequencer.after_durable(lambda: rig.said.append("read"))
    await asyncio.sleep(0.01)
    assert rig.journal.batches == [[1]]
    assert len(rig.failures) == 1


async def test_a_journal_failure_keeps_what_was_behind_it(either: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    error = JournalWriteError("disk full")
    error.__context__ = OSError("no space left on device")

    def append(first_seq: int, last_seq: int, payload: bytes) -> None:
        raise error

    monkeypatch.setattr(either.journal, "append", append)
    either.submit()
    await either.until(lambda: len(either.failures) == 1)
    assert either.failures == [error]
    assert isinstance(error.__context__, OSError)


async def test_an_engine_failure_keeps_what_was_before_it(either: Rig) -> None:
    either.engine.fail_at = 3
    either.submit()
    either.submit()
    either.sequencer.after_durable(lambda: either.said.append("read"))
    with pytest.raises(Stopped, match="entry 3"):
        either.submit()
    either.engine.fail_at = 0
    with pytest.raises(Stopped, match="the exchange is stopping"):
        either.submit()  # whether it would fail again or not
    assert len(either.engine.applied) == 2
    assert either.failures == []  # not before the others are safe
    with pytest.raises(EngineFailure):
        await either.sequencer.drain()
    assert either.journal.batches == [[1, 2]]
    # the read would have seen a half-applied engine
    assert either.said == ["feed 1", "reply 1", "feed 2", "reply 2", "flush"]
    (failure,) = either.failures
    assert isinstance(failure, EngineFailure)
    assert failure.seq == 3
    assert str(failure) == "the engine failed at entry 3 (CreateAccount): AssertionError('books do not balance')"


async def test_an_engine_failure_while_a_commit_is_in_flight(rig: Rig) -> None:
    rig.engine.fail_at = 3
    rig.journal.free.clear()
    rig.submit()
    await rig.disk_is_busy()
    rig.submit()
    with pytest.raises(Stopped):
        rig.submit()
    assert rig.failures == []
    rig.journal.free.set()
    with pytest.raises(EngineFailure):
        await rig.sequencer.drain()
    assert rig.journal.batches == [[1], [2]]
    assert len(rig.failures) == 1


async def test_an_engine_failure_with_nothing_else_pending(either: Rig) -> None:
    either.engine.fail_at = 1
    with pytest.raises(Stopped):
        either.submit()
    await either.until(lambda: len(either.failures) == 1)
    assert either.journal.rows == []


async def test_a_journal_failure_behind_an_engine_failure_is_the_one_told(either: Rig) -> None:
    either.engine.fail_at = 2
    either.journal.fail_at = 1
    either.submit()
    with pytest.raises(Stopped):
        either.submit()
    await either.until(lambda: len(either.failures) == 1)
    assert isinstance(either.failures[0], JournalWriteError)
    assert isinstance(either.failures[0].__context__, EngineFailure)


async def test_a_failing_tick_stops_it_too() -> None:
    rig = Rig()
    rig.engine.due = [500]
    rig.engine.fail_at = 1
    rig.start()
    await rig.until(lambda: len(rig.failures) == 1)
    rig.sequencer.close()
    assert "entry 1 (Tick)" in str(rig.failures[0])


@pytest.mark.parametrize("where", ["feed", "reply", "read"])
async def test_a_failing_callback_stops_it(either: Rig, where: str) -> None:
    def fail(*_: object) -> None:
        raise KeyError("no such level")

    if where == "feed":
        either.on_durable = fail
    either.sequencer.submit(CreateAccount("a"), 0, fail if where == "reply" else None)
    if where == "read":
        either.sequencer.after_durable(fail)
    either.submit()
    with pytest.raises(EngineFailure, match="publishing entry 1"):
        await either.sequencer.drain()
    assert "reply 2" not in either.said
    assert len(either.failures) == 1
    assert either.journal.batches == [[1, 2]]


@pytest.mark.parametrize("batch_entries_max", [1, 9])
async def test_what_gathered_behind_a_failing_callback_is_never_journaled(batch_entries_max: int) -> None:
    rig = Rig(batch_entries_max=batch_entries_max)
    rig.start(fast=True)
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    def fail(entry: Entry, events: list[Event]) -> None:
        rig.submit("behind")
        raise KeyError("no such level")

    rig.on_durable = fail
    rig.submit()
    with pytest.raises(
        EngineFailure, match=r"publishing entry 1 \(CreateAccount\) failed: KeyError\('no such level'\)"
    ) as raised:
        await rig.sequencer.drain()
    await asyncio.sleep(0.01)
    assert isinstance(raised.value.__cause__, KeyError)
    assert raised.value.seq == 1
    assert (rig.said, rig.journal.batches, len(rig.failures), told) == ([], [[1]], 1, [])
    rig.sequencer.close()


async def test_a_drain_after_a_failure_raises_it(either: Rig) -> None:
    either.engine.fail_at = 1
    with pytest.raises(Stopped):
        either.submit()
    for _ in range(2):
        with pytest.raises(EngineFailure) as raised:
            await either.sequencer.drain()
        assert isinstance(raised.value.__cause__, AssertionError)
    assert either.failures == [raised.value]


# -------------------------------------------------------------------------------------------------------- without threads


class HandLoop:
    """A loop and a worker that do nothing by themselves: what was asked of them is run by hand, on a clock that stands."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.jobs: list[tuple[Callable[[], None], Callable[[], None]]] = []

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self.soon.append(lambda: callback(*args))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        raise AssertionError("there is no other thread")

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> "HandLoop":
        self.later.append((delay, lambda: callback(*args)))
        return self

    def create_future(self) -> Any:
        raise AssertionError("nobody waits here")

    def cancel(self) -> None:
        self.later.clear()

    def start(self, loop: Loop) -> None:
        assert loop is self

    fast = False

    def run(self, job: Callable[[], None]) -> None:
        raise AssertionError("it is not fast")

    def put(self, job: Callable[[], None], then: Callable[[], None]) -> None:
        self.jobs.append((job, then))

    def close(self) -> None:
        while self.jobs:
            self.jobs.pop(0)[0]()

    def turn(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


def test_runs_in_one_thread_without_asyncio_on_a_clock_of_its_own() -> None:
    rig, loop = Rig(), HandLoop()
    rig.engine.due = [rig.now_ns + 500_000_000]
    rig.sequencer.start(loop, loop)
    rig.submit()
    assert (len(loop.soon), loop.jobs) == (1, [])
    loop.turn()
    ((job, then),) = loop.jobs
    rig.submit()  # gathers behind the commit in flight
    job()
    assert (rig.journal.batches, rig.said) == ([[1]], [])
    loop.jobs.clear()
    then()
    assert rig.said == ["feed 1", "reply 1", "flush"]
    ((job, then),) = loop.jobs
    loop.jobs.clear()
    job()
    then()
    assert (rig.journal.batches, rig.sequencer.undurable) == ([[1], [2]], 0)
    ((delay_s, fire),) = loop.later
    assert delay_s == 0.5
    loop.later.clear()
    rig.now_ns += 500_000_000
    fire()
    assert [type(entry.command) for entry in rig.engine.applied] == [CreateAccount, CreateAccount, Tick]
    loop.turn()
    ((job, then),) = loop.jobs
    rig.sequencer.close()
    then()
    assert rig.journal.last_seq == 3
    assert "feed 3" not in rig.said


def hand_rig(**bounds: int) -> tuple[Rig, HandLoop]:
    rig, loop = Rig(**bounds), HandLoop()
    rig.sequencer.start(loop, loop)
    return rig, loop


def commit(loop: HandLoop) -> None:
    """The job in flight, and what follows it."""
    ((job, then),) = loop.jobs
    loop.jobs.clear()
    job()
    then()


def test_one_turn_is_asked_for_at_a_time() -> None:
    rig, loop = hand_rig()
    rig.submit()
    rig.submit()
    assert (len(loop.soon), loop.jobs) == (1, [])
    loop.turn()
    rig.submit()
    assert (len(loop.soon), len(loop.jobs)) == (0, 1)  # the commit that ends gives the next one
    commit(loop)
    assert (len(loop.soon), len(loop.jobs)) == (0, 1)
    commit(loop)
    assert (loop.soon, loop.jobs, rig.journal.batches) == ([], [], [[1, 2], [3]])
    rig.submit()
    loop.turn()
    rig.on_durable = lambda entry, events: rig.submit()
    commit(loop)
    assert (len(loop.soon), loop.jobs) == (1, [])  # for what the callback submitted
    rig.sequencer.close()


@pytest.mark.parametrize("fails", ["callback", "journal", "engine"])
def test_after_a_failure_no_timer_runs_and_a_commit_that_ends_says_nothing(fails: str) -> None:
    def fail(entry: Entry, events: list[Event]) -> None:
        raise KeyError("no such level")

    rig, loop = hand_rig()
    rig.engine.due = [rig.now_ns + A_SECOND]
    rig.submit()
    loop.turn()
    rig.submit()
    assert len(loop.later) == 1
    if fails == "engine":
        rig.engine.fail_at = 3
        with pytest.raises(Stopped):
            rig.submit()
        assert loop.later == []
        commit(loop)
        commit(loop)
        assert (len(loop.soon), rig.failures) == (1, [])  # told when everything before it is published
        loop.turn()
        said = ["feed 1", "reply 1", "flush", "feed 2", "reply 2", "flush"]
    elif fails == "callback":
        rig.on_durable = fail
        commit(loop)  # the next one is under way before the callback fails
        commit(loop)
        said = []
    else:
        rig.journal.fail_at = 1
        commit(loop)
        said = []
    loop.turn()
    assert (rig.said, len(rig.failures), loop.soon, loop.jobs, loop.later) == (said, 1, [], [], [])
    rig.sequencer.close()


@pytest.mark.parametrize(
    ("due_in_ns", "delay_s"),
    [(1, 0.001), (1_000_000, 0.001), (2_000_000, 0.002), (A_SECOND, 1), (5 * A_SECOND, 1), (-5, 0.001)],
)
def test_the_timer_sleeps_within_its_bounds(due_in_ns: int, delay_s: float) -> None:
    rig = Rig()
    loop = HandLoop()
    rig.engine.due = [rig.now_ns + due_in_ns]
    rig.sequencer.start(loop, loop)
    assert [delay for delay, _ in loop.later] == [delay_s]
    rig.sequencer.close()
    assert loop.later == []


def test_a_timer_is_set_once_for_one_due_time_and_anew_for_another() -> None:
    rig, loop = hand_rig()
    assert loop.later == []
    rig.engine.due = [rig.now_ns + A_SECOND]
    rig.submit()
    loop.turn()
    (timer,) = loop.later
    commit(loop)
    rig.submit()
    loop.turn()
    assert loop.later == [timer]
    commit(loop)
    rig.engine.due = [rig.now_ns + A_SECOND // 2]
    rig.submit()
    loop.turn()
    assert [delay for delay, _ in loop.later] == [0.5]
    rig.engine.due = []
    commit(loop)
    rig.submit()
    loop.turn()
    assert loop.later == []
    commit(loop)
    rig.submit()
    rig.engine.due = [1]
    loop.turn()
    assert [delay for delay, _ in loop.later] == [0.001]


def test_time_that_was_stamped_counts_for_due_work_when_the_clock_went_back() -> None:
    rig, loop = hand_rig()
    rig.now_ns = 9_000
    rig.submit()
    rig.now_ns = 1_000
    rig.engine.due = [9_000]
    loop.turn()
    ((_, fire),) = loop.later
    fire()
    assert [(entry.ts_ns, type(entry.command)) for entry in rig.engine.applied] == [(9_000, CreateAccount), (9_000, Tick)]
    rig.sequencer.close()


def test_a_tick_that_finds_the_queue_full_is_tried_again() -> None:
    rig, loop = hand_rig(queue_max=1)
    rig.engine.due = [5_000]
    rig.submit()
    loop.turn()
    rig.now_ns = 5_000
    ((_, fire),) = loop.later
    loop.later.clear()
    fire()
    assert len(rig.engine.applied) == 1
    ((_, fire),) = loop.later
    commit(loop)
    fire()
    assert [type(entry.command) for entry in rig.engine.applied] == [CreateAccount, Tick]
    assert rig.failures == []
    rig.sequencer.close()


# ------------------------------------------------------------------------------------------------------- where it commits


class Stopwatch(DiskWorker):
    """Commits take as long as they are told to."""

    def __init__(self, fast_commits: int) -> None:
        self.now_ns = 0
        self.took_ns = FAST_NS
        super().__init__(self._clock_ns, fast_commits)

    def _clock_ns(self) -> int:
        self.now_ns += self.took_ns
        return self.now_ns


async def committed(rig: Rig) -> set[str]:
    """The threads in which the next commit runs."""
    rig.journal.threads.clear()
    rig.submit()
    await rig.sequencer.drain()
    return set(rig.journal.threads)


async def test_a_slow_commit_sends_the_next_ones_to_the_thread() -> None:
    rig, worker = Rig(), Stopwatch(fast_commits=2)
    rig.sequencer.start(worker)
    here, there = {threading.current_thread().name}, {"journal"}
    assert [await committed(rig) for _ in range(2)] == [here, here]
    worker.took_ns = FAST_NS + 1
    assert await committed(rig) == here  # the one stall that is felt
    assert await committed(rig) == there
    worker.took_ns = FAST_NS
    assert await committed(rig) == there
    worker.took_ns = FAST_NS + 1
    assert await committed(rig) == there  # one fast commit was not enough
    worker.took_ns = FAST_NS
    assert [await committed(rig) for _ in range(3)] == [there, there, here]
    assert rig.said == [f"{what}" for n in range(1, 10) for what in (f"feed {n}", f"reply {n}", "flush")]
    rig.sequencer.close()


async def test_commits_come_back_to_the_loop_under_load() -> None:
    rig, worker = Rig(), Stopwatch(fast_commits=3)
    worker.took_ns = FAST_NS + 1
    rig.sequencer.start(worker)
    rig.submit()
    await rig.sequencer.drain()
    worker.took_ns = FAST_NS
    # each reply brings the next command, so something is always waiting
    rig.on_durable = lambda entry, events: rig.submit() if entry.seq < 40 else None
    rig.journal.threads.clear()
    rig.submit()
    await rig.until(lambda: rig.journal.last_seq == 40)
    await rig.sequencer.drain()
    assert rig.journal.threads == {"journal", threading.current_thread().name}
    assert [word for word in rig.said if word.startswith("reply")] == [f"reply {n}" for n in range(1, 41)]
    rig.sequencer.close()


async def test_no_commit_runs_beside_a_job_in_the_thread() -> None:
    rig, worker = Rig(), DiskWorker()
    rig.sequencer.start(worker)
    hold, inside = threading.Event(), threading.Event()

    def job() -> int:
        inside.set()
        assert hold.wait(10)
        return rig.journal.last_seq

    waiting = asyncio.ensure_future(rig.sequencer.between_commits(job))
    assert await asyncio.to_thread(inside.wait, 5)
    rig.submit()
    await asyncio.sleep(0.01)
    assert rig.journal.rows == []
    hold.set()
    assert await waiting == 0
    await rig.sequencer.drain()
    assert rig.journal.threads == {"journal"}
    rig.sequencer.close()


async def test_a_failing_commit_in_the_loop_is_told_once() -> None:
    rig = Rig()
    rig.start(fast=True)
    rig.journal.fail_at = 2
    rig.submit()
    rig.submit()
    rig.sequencer.after_durable(lambda: rig.said.append("read"))
    with pytest.raises(JournalWriteError, match="disk full"):
        await rig.sequencer.drain()
    assert (rig.said, rig.journal.rows, [str(failure) for failure in rig.failures]) == ([], [], ["disk full"])
    with pytest.raises(Stopped):
        rig.submit()
    rig.sequencer.close()


async def test_full_batches_are_committed_in_order_in_the_loop() -> None:
    rig = Rig(batch_entries_max=3)
    rig.start(fast=True)
    for _ in range(8):
        rig.submit()
    await rig.sequencer.drain()
    assert rig.journal.batches == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert [word for word in rig.said if word.startswith("reply")] == [f"reply {n}" for n in range(1, 9)]
    rig.sequencer.close()


# -------------------------------------------------------------------------------------------------------------------- ends


async def test_close_ends_the_thread_and_refuses(rig: Rig) -> None:
    rig.submit()
    await rig.sequencer.drain()
    rig.sequencer.close()
    rig.sequencer.close()
    assert "journal" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(Stopped):
        rig.submit()


@pytest.mark.parametrize("fast", [False, True])
async def test_what_is_not_drained_at_the_close_is_never_published(fast: bool) -> None:
    rig = Rig()
    rig.start(fast)
    rig.submit()
    await rig.sequencer.drain()
    said = list(rig.said)
    rig.submit()
    if not fast:
        rig.journal.free.clear()
        rig.journal.busy.clear()
        await rig.disk_is_busy()
        threading.Timer(0.05, rig.journal.free.set).start()
    rig.sequencer.close()
    await asyncio.sleep(0.01)
    assert rig.said == said
    assert rig.journal.batches == ([[1]] if fast else [[1], [2]])  # a commit in flight was waited for


async def test_jobs_run_between_commits_in_the_journals_thread(rig: Rig) -> None:
    rig.journal.free.clear()
    rig.submit()
    await rig.disk_is_busy()
    job = asyncio.ensure_future(rig.sequencer.between_commits(lambda: (threading.current_thread().name, rig.journal.last_seq)))
    await asyncio.sleep(0.01)
    assert not job.done()
    rig.journal.free.set()
    assert await job == ("journal", 1)


async def test_a_failing_job_fails_its_caller_only(either: Rig) -> None:
    def job() -> None:
        raise JournalWriteError("no room for tidying")

    with pytest.raises(JournalWriteError, match="tidying"):
        await either.sequencer.between_commits(job)
    either.submit()
    await either.sequencer.drain()
    assert either.failures == []


async def test_no_job_is_taken_after_the_close(rig: Rig) -> None:
    rig.sequencer.close()
    with pytest.raises(Stopped, match="stopping"):
        await rig.sequencer.between_commits(lambda: 1)
    with pytest.raises(Stopped, match="stopping"):
        rig.sequencer.after_durable(lambda: None)


async def test_a_caller_that_gives_up_disturbs_nobody(rig: Rig) -> None:
    """Neither one who waits for a job nor one who waits for the disk."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    rig.journal.free.clear()
    rig.submit()
    await rig.disk_is_busy()
    job = asyncio.ensure_future(rig.sequencer.between_commits(lambda: 1))
    first, second = (asyncio.ensure_future(rig.sequencer.drain()) for _ in range(2))
    await asyncio.sleep(0)
    job.cancel()
    first.cancel()
    await asyncio.sleep(0)
    rig.journal.free.set()
    await second
    assert await rig.sequencer.between_commits(lambda: 2) == 2
    assert (job.cancelled(), first.cancelled(), told, rig.failures) == (True, True, [], [])
