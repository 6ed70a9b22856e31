"""The journal keeps what it was given, proves it, and says by name what is wrong when it cannot."""

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.commands import Command, CreateAccount, Deposit, Entry, ReportWork, Tick
from engine.limits import Limits
from gateway import journal as journal_module
from gateway.journal import (
    CHECKPOINT_PAGES,
    FORGET_ROWS_MAX,
    Journal,
    JournalCorrupt,
    JournalError,
    JournalFormat,
    JournalLocked,
    JournalReader,
    JournalWriteError,
    archive_paths,
    decode_batch,
    encode_batch,
    encode_entry,
    wal_fault,
    write_archive,
)

ROOT = Path(__file__).resolve().parents[2]


def entry(seq: int, command: Command | None = None) -> Entry:
    return Entry(seq, 1_000 + seq, command or CreateAccount(f"account {seq}"))


def write(path: Path, *lengths: int) -> None:
    """A journal at ``path`` with one row per length, entries counted from its end."""
    with Journal(path) as journal:
        for length in lengths:
            first = journal.last_seq + 1
            journal.append(first, first + length - 1, encode_batch([entry(first + i) for i in range(length)]))


def alter(path: Path, statement: str, *values: object) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement, values)
    db.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


# ----------------------------------------------------------------------------------------------------------------- content


def test_what_is_appended_is_read_back(path: Path) -> None:
    write(path, 1, 3, 2)
    with JournalReader(path) as journal:
        assert [(row.first_seq, row.last_seq) for row in journal.rows()] == [(1, 1), (2, 4), (5, 6)]
        assert list(journal.entries()) == [entry(seq) for seq in range(1, 7)]
        assert list(journal.entries(2)) == [entry(seq) for seq in range(3, 7)]
        assert list(journal.entries(6)) == []
        assert journal.last_seq == 6


def test_goes_on_where_it_ended_under_the_same_epoch_and_limits(path: Path) -> None:
    with Journal(path, Limits(orders_max=7)) as journal:
        epoch = journal.epoch
    write(path, 2)
    write(path, 1)
    with Journal(path, Limits(orders_max=9)) as journal:
        assert (journal.epoch, journal.last_seq, journal.limits.orders_max) == (epoch, 3, 7)


def test_two_journals_have_two_epochs(tmp_path: Path) -> None:
    with Journal(tmp_path / "a/journal.db") as a, Journal(tmp_path / "b/journal.db") as b:
        assert a.epoch != b.epoch


def test_integers_past_64_bits_survive() -> None:
    work = entry(1, ReportWork(1, 2**120, 5, 2**70))
    assert decode_batch(bytes(encode_batch([work, entry(2)]))) == [work, entry(2)]


def test_an_entry_without_encoding_leaves_the_payload_alone() -> None:
    payload = bytearray(b"before")
    with pytest.raises(ValueError, match="CreateAccount cannot be journaled"):
        encode_entry(entry(1, CreateAccount("\ud800")), payload)
    assert payload == b"before"


def test_reads_page_by_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "READ_ROWS_MAX", 2)
    write(path, 1, 1, 2, 1, 1)
    with JournalReader(path) as journal:
        assert [item.seq for item in journal.entries()] == [1, 2, 3, 4, 5, 6]


def test_a_gap_is_a_bug(path: Path) -> None:
    with Journal(path) as journal, pytest.raises(AssertionError, match="entry 2 does not follow 0"):
        journal.append(2, 2, encode_batch([entry(2)]))


def test_reads_while_another_writes(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(1, 1, encode_batch([entry(1)]))
        with JournalReader(path) as reader:
            journal.append(2, 2, encode_batch([entry(2)]))
            assert [item.seq for item in reader.entries()] == [1, 2]


def test_is_durable_in_the_sqlite_sense(path: Path) -> None:
    with Journal(path) as journal:
        assert journal._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._db.execute("PRAGMA synchronous").fetchone() == (2,)


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_no_journal_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(JournalError, match="hashpit serve"):
        JournalReader(path)


def test_one_process_at_a_time_and_it_is_named(path: Path) -> None:
    with Journal(path), pytest.raises(JournalLocked, match=f"process {os.getpid()}"):
        Journal(path)
    Journal(path).close()


def test_a_directory_that_cannot_be_written_is_named(path: Path) -> None:
    path.with_name("lock").mkdir(parents=True)
    with pytest.raises(JournalError, match=r"^cannot write to .*lock: Is a directory"):
        Journal(path)


def test_a_killed_holder_leaves_no_lock(path: Path) -> None:
    code = f"from gateway.journal import Journal; import os, pathlib; Journal(pathlib.Path({str(path)!r})); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    Journal(path).close()


@pytest.mark.parametrize("opener", [Journal, JournalReader])
def test_another_format_is_refused_with_its_number(path: Path, opener: type[JournalReader]) -> None:
    write(path, 1)
    alter(path, "UPDATE meta SET format = 99")
    with pytest.raises(JournalFormat, match="format 99, this program reads format 1"):
        opener(path)


@pytest.mark.parametrize("opener", [Journal, JournalReader])
def test_what_is_no_database_is_refused(path: Path, opener: type[JournalReader]) -> None:
    path.write_bytes(b"these are not the rows you are looking for" * 100)
    with pytest.raises(JournalError, match="not a database"):
        opener(path)


@pytest.mark.parametrize("statement", ["UPDATE meta SET content = replace(content, '40', '41')", "DROP TABLE meta"])
def test_a_damaged_meta_table_is_refused(path: Path, statement: str) -> None:
    write(path, 1)
    alter(path, statement)
    with pytest.raises(JournalCorrupt, match="meta"):
        Journal(path)


def test_tables_of_another_shape_are_refused(path: Path) -> None:
    write(path, 1)
    db = sqlite3.connect(path)
    db.execute("PRAGMA writable_schema = 1")
    with db:
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'INTEGER PRIMARY', 'INTEGEQ PRIMARY') WHERE name = 'batches'")
    db.close()
    with pytest.raises(JournalCorrupt, match="damaged table definitions"):
        Journal(path)


DAMAGE = {
    "payload": ("UPDATE batches SET payload = zeroblob(length(payload)) WHERE first_seq = 3", "checksum"),
    "checksum": ("UPDATE batches SET checksum = zeroblob(16) WHERE first_seq = 3", "checksum"),
    "type": ("UPDATE batches SET payload = CAST('x' AS TEXT) WHERE first_seq = 3", "other types"),
    "length": ("UPDATE batches SET last_seq = 6 WHERE first_seq = 3", "checksum"),
    "backwards": ("UPDATE batches SET last_seq = 1 WHERE first_seq = 3", "ends before it starts"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_row_is_named_and_stops_the_start(path: Path, damage: str) -> None:
    write(path, 2, 3, 1)
    statement, reason = DAMAGE[damage]
    alter(path, statement)
    with pytest.raises(JournalCorrupt, match=reason) as caught:
        Journal(path)
    assert caught.value.first_seq == 3
    assert "hashpit verify" in str(caught.value)
    # nothing was dropped, and the lock is free again
    with JournalReader(path) as reader:
        assert reader.last_seq == 6
        assert next(fault.first_seq for fault in reader.faults()) == 3
    with pytest.raises(JournalCorrupt):
        Journal(path)


def test_a_missing_row_is_named(path: Path) -> None:
    write(path, 2, 3, 1)
    alter(path, "DELETE FROM batches WHERE first_seq = 3")
    with pytest.raises(JournalCorrupt, match="entries 3 to 5 are missing"):
        Journal(path)


def test_a_row_of_another_journal_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a/journal.db", 1, 1)
    write(tmp_path / "b/journal.db", 1, 1)
    alter(tmp_path / "a/journal.db", "DELETE FROM batches WHERE first_seq = 2")
    db = sqlite3.connect(tmp_path / "a/journal.db")
    db.execute("ATTACH ? AS b", (str(tmp_path / "b/journal.db"),))
    with db:
        db.execute("INSERT INTO batches SELECT * FROM b.batches WHERE first_seq = 2")
    db.close()
    with pytest.raises(JournalCorrupt, match="entries 2 to 2"):
        Journal(tmp_path / "a/journal.db")


def test_every_fault_is_found_not_only_the_first(path: Path) -> None:
    write(path, 1, 1, 1, 1, 1)
    alter(path, "UPDATE batches SET payload = x'00' WHERE first_seq IN (2, 4)")
    with JournalReader(path) as reader:
        assert [fault.first_seq for fault in reader.faults()] == [2, 4]


def test_rows_that_lead_in_a_circle_are_one_fault(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Found by the fuzzer: a file whose pages were damaged gave the same rows for ever, and `hashpit verify` never ended."""
    write(path, 1, 1, 1)
    with JournalReader(path) as reader:
        everything = reader._rows_from("first_seq > ?", 0, 10)
        assert len(everything) == 3
        monkeypatch.setattr(reader, "_rows_from", lambda where, seq, rows_max, order="ASC": everything)
        (fault,) = reader.faults()
        assert (fault.first_seq, fault.last_seq) == (3, 3)
        assert "behind entry 3 comes the row of entry 1" in str(fault)


def test_columns_of_other_types_are_found_and_hide_nothing_behind_them(path: Path) -> None:
    write(path, 1, 1, 1, 1, 1)
    alter(path, "UPDATE batches SET checksum = 7 WHERE first_seq = 2")
    with JournalReader(path) as reader:
        assert [fault.first_seq for fault in reader.faults()] == [2, 3]  # the row behind it has nothing to continue
        for read in (reader.entries(2), reader.rows(1)):
            with pytest.raises(JournalCorrupt, match="columns"):
                list(read)
    alter(path, "UPDATE batches SET checksum = 7 WHERE first_seq = 5")
    with pytest.raises(JournalCorrupt, match="a last row with damaged columns"):
        JournalReader(path)


def test_what_is_wrong_is_said_in_one_line(path: Path) -> None:
    write(path, *[1] * 200)
    data = bytearray(path.read_bytes())
    data[4_096 * 4 : 4_096 * 5] = bytes(4_096)
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="the file is damaged") as raised:
        Journal(path)
    assert "\n" not in str(raised.value)


def test_a_row_that_holds_other_entries_is_found(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(1, 2, encode_batch([entry(1), entry(3)]))
        with pytest.raises(JournalCorrupt, match="holds other entries"):
            list(journal.entries())


def test_any_flipped_byte_of_the_file_is_harmless_or_noticed(path: Path) -> None:
    write(path, *[1] * 40)
    data = path.read_bytes()
    with JournalReader(path) as journal:
        entries = list(journal.entries())
    unnoticed = 0
    for at in [*range(3_700, 4_096, 7), *range(0, len(data), 97)]:  # the first: table definitions
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            with Journal(path) as journal:
                assert list(journal.entries()) == entries, f"byte {at} changed the content"
                unnoticed += 1
        except JournalError:
            pass
        for leftover in path.parent.glob("journal.db-*"):
            leftover.unlink()
    assert unnoticed  # free space and unused header fields


# ------------------------------------------------------------------------------------------------------------- disk faults


def test_disk_full_is_told_and_final(path: Path) -> None:
    with Journal(path) as journal:
        journal.append(1, 1, encode_batch([entry(1)]))
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count = {pages}")
        big = encode_batch([entry(2, CreateAccount("x" * 100_000))])
        with pytest.raises(JournalWriteError, match=r"entries 2 to 2 .* full.*None of them was acknowledged"):
            journal.append(2, 2, big)
        journal._db.execute("PRAGMA max_page_count = 1000000")
        with pytest.raises(JournalWriteError, match="failed before"):
            journal.append(2, 2, encode_batch([entry(2)]))
    with Journal(path) as journal:
        assert journal.last_seq == 1


def test_io_error_is_told(path: Path) -> None:
    """The kernel refuses to let the WAL grow, as a broken disk would."""

    def shrink() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    code = """
import pathlib, sys
from engine.commands import CreateAccount, Entry
from gateway.journal import Journal, JournalWriteError, encode_batch
with Journal(pathlib.Path(sys.argv[1])) as journal:
    try:
        while True:
            seq = journal.last_seq + 1
            journal.append(seq, seq, encode_batch([Entry(seq, seq, CreateAccount("x" * 5000))]))
    except JournalWriteError as error:
        print(journal.last_seq, error, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, preexec_fn=shrink, timeout=30
    )
    last_seq, _, message = done.stdout.partition(" ")
    assert "could not be written" in message, done.stderr
    with Journal(path) as journal:
        assert journal.last_seq == int(last_seq) > 0


# --------------------------------------------------------------------------------------------------------------- SQLite WAL


@pytest.fixture
def wal(path: Path) -> Path:
    """The WAL that a killed process left behind, with 20 commits."""
    code = f"""
import os, pathlib
from engine.commands import Entry, Tick
from gateway.journal import Journal, encode_batch
journal = Journal(pathlib.Path({str(path)!r}))
for seq in range(1, 21):
    journal.append(seq, seq, encode_batch([Entry(seq, seq, Tick())]))
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    return path.with_name("journal.db-wal")


def test_kill_loses_nothing(path: Path, wal: Path) -> None:
    assert wal_fault(wal) == ""
    with Journal(path) as journal:
        assert [item.seq for item in journal.entries()] == list(range(1, 21))


def test_a_torn_last_commit_is_sqlites_business(path: Path, wal: Path) -> None:
    os.truncate(wal, wal.stat().st_size - 100)
    assert wal_fault(wal) == ""
    with Journal(path) as journal:
        assert journal.last_seq == 19


def test_a_damaged_last_commit_looks_torn(path: Path, wal: Path) -> None:
    data = bytearray(wal.read_bytes())
    data[-1] ^= 1
    wal.write_bytes(data)
    assert wal_fault(wal) == ""


@pytest.mark.parametrize("at", [0, 3, 4, 8, 12, 16, 20, 23, 24, 1000, 4119])
def test_damage_before_intact_commits_is_noticed(path: Path, wal: Path, at: int) -> None:
    """SQLite alone would silently drop the intact commits behind it."""
    data = bytearray(wal.read_bytes())
    frames = (len(data) - 32) // 4120
    data[32 + (frames - 5) * 4120 + at] ^= 0x10
    wal.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="before commits that are intact"):
        Journal(path)
    assert wal.read_bytes() == data  # the evidence is still there


def test_a_damaged_header_is_noticed(path: Path, wal: Path) -> None:
    data = bytearray(wal.read_bytes())
    data[17] ^= 1
    wal.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="damaged header"):
        Journal(path)


def test_old_frames_behind_new_ones_are_no_damage(path: Path) -> None:
    """After a checkpoint SQLite writes over the WAL from its start; what is behind is of the generation before."""
    with Journal(path) as journal:
        for seq in range(1, 31):
            journal.append(seq, seq, encode_batch([entry(seq, Tick())]))
        journal._db.execute("PRAGMA wal_checkpoint(RESTART)")
        journal.append(31, 31, encode_batch([entry(31, Tick())]))
        assert wal_fault(path.with_name("journal.db-wal")) == ""


def test_the_wal_is_folded_back_in_small_steps(path: Path) -> None:
    """So that no commit has much to fold back. A commit's own pages come on top: the one that passes the bound is whole."""
    frame_bytes, most = 24 + 4_096, 0
    with Journal(path) as journal:
        for seq in range(1, 2 * CHECKPOINT_PAGES):
            journal.append(seq, seq, encode_batch([entry(seq, CreateAccount("n" * 8_000))]))
            most = max(most, path.with_name("journal.db-wal").stat().st_size)
    assert (CHECKPOINT_PAGES - 8) * frame_bytes < most < (CHECKPOINT_PAGES + 8) * frame_bytes


# ---------------------------------------------------------------------------------------------------------------- archives


def forget_all(journal: Journal, archive: Path) -> int:
    steps = 1
    with JournalReader(archive) as reader:
        while journal.forget(reader):
            steps += 1
    return steps


def test_archived_rows_move_and_the_chain_goes_on(path: Path, tmp_path: Path) -> None:
    write(path, 2, 3, 1, 4)
    with Journal(path) as journal:
        first = write_archive(journal, tmp_path / "archive", 0, 5)
        assert first is not None
        assert journal.last_seq == 10
        assert first.name == "journal-00000000000000000001-00000000000000000005.db"
        forget_all(journal, first)
        assert (journal.base_seq, [item.seq for item in journal.entries(5)]) == (5, [6, 7, 8, 9, 10])
        with pytest.raises(JournalError, match="starts after entry 5"):
            list(journal.entries(0))
        # rows are moved whole: entry 8 is in the middle of one
        second = write_archive(journal, tmp_path / "archive", 5, 8)
        assert second is not None
        assert second.name.endswith("6.db")
        forget_all(journal, second)
    write(path, 1)
    with Journal(path) as journal, JournalReader(first) as a, JournalReader(second) as b:
        assert [*a.entries(), *b.entries(5), *journal.entries(6)] == [entry(seq) for seq in range(1, 12)]
        assert (b.base_checksum, journal.base_checksum) == (a.last_checksum, b.last_checksum)
        assert list(journal.faults()) == list(a.faults()) == list(b.faults()) == []
    assert archive_paths(tmp_path / "archive") == [first, second]


def test_everything_may_be_archived(path: Path, tmp_path: Path) -> None:
    write(path, 2, 3)
    with Journal(path) as journal:
        archive = write_archive(journal, tmp_path / "archive", 0, 5)
        assert archive is not None
        forget_all(journal, archive)
    write(path, 1)
    with Journal(path) as journal:
        assert [item.seq for item in journal.entries(5)] == [6]


def test_nothing_to_archive_makes_no_file(path: Path, tmp_path: Path) -> None:
    write(path, 5)
    with JournalReader(path) as journal:
        assert write_archive(journal, tmp_path / "archive", 0, 4) is None
    assert list((tmp_path / "archive").iterdir()) == []


def test_forgets_a_few_rows_at_a_time(path: Path, tmp_path: Path) -> None:
    write(path, *[1] * (FORGET_ROWS_MAX * 2 + 1))
    with Journal(path) as journal:
        archive = write_archive(journal, tmp_path / "archive", 0, journal.last_seq)
        assert archive is not None
        with JournalReader(archive) as reader:
            assert journal.forget(reader)
            assert journal.base_seq == FORGET_ROWS_MAX
            assert journal.forget(reader)
            assert not journal.forget(reader)
            assert not journal.forget(reader)


def test_forgets_nothing_that_the_archive_does_not_hold(tmp_path: Path) -> None:
    write(tmp_path / "a/journal.db", 1, 1, 1)
    write(tmp_path / "b/journal.db", 1, 1, 1)
    with Journal(tmp_path / "a/journal.db") as a, Journal(tmp_path / "b/journal.db") as b:
        foreign = write_archive(b, tmp_path / "archive-b", 0, 2)
        late = write_archive(a, tmp_path / "archive-a", 1, 3)
        assert foreign is not None
        assert late is not None
        with JournalReader(foreign) as reader, pytest.raises(JournalError, match="does not hold this journal's entries"):
            a.forget(reader)
        with JournalReader(late) as reader, pytest.raises(JournalError, match="does not continue after entry 0"):
            a.forget(reader)
        assert a.base_seq == 0


def test_deposits_are_plain_rows(path: Path) -> None:
    """The journal never looks inside a command: any of them is just bytes to it."""
    with Journal(path) as journal:
        journal.append(1, 1, encode_batch([entry(1, Deposit(100, 5, "t1"))]))
        assert next(journal.entries()).command == Deposit(100, 5, "t1")
