"""What every version wrote is read for ever, with the recorded result, or refused with the way out named: on every machine and
build. See record.py."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from msgspec import json, msgpack

import hashpit
from engine import snapshot
from engine.commands import Command, Entry
from engine.events import Event
from engine.limits import Limits
from gateway import journal, recovery
from gateway.journal import JournalFormat, JournalReader
from gateway.recovery import Recovered, RecoveryError
from tests.golden.record import HERE, SNAPSHOT, Told, entries, facts, read, record, versions

ROOT = HERE.parents[1]
VERSIONS = versions()
CHECKPOINTS = [(version, seq) for version in VERSIONS for seq in read(version).checkpoints]
THIS = hashpit.__version__


def copied(version: str, folder: Path, until_seq: int | None = None, snapshots: bool = True) -> Path:
    """A data directory as ``version`` left it; if asked, as it was after an entry, or without its snapshots."""
    data_dir = folder / version
    shutil.copytree(HERE / version, data_dir)
    if until_seq is not None:
        with sqlite3.connect(data_dir / recovery.JOURNAL) as db:
            db.execute("DELETE FROM batches WHERE first_seq > ?", (until_seq,))
        db.close()
    for path in recovery.snapshot_paths(data_dir):
        if not snapshots or (until_seq is not None and until_seq < SNAPSHOT):
            path.unlink()
    return data_dir


def edited(data_dir: Path, statement: str) -> bytes:
    """Change the journal; its bytes afterwards."""
    path = data_dir / recovery.JOURNAL
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()
    return path.read_bytes()


def compare(recovered: Recovered, version: str, seq: int, told: Told | None = None) -> None:
    recording = read(version)
    wanted = recording.checkpoints[seq]
    assert recovered.engine.seq == seq
    assert facts(recovered.engine) == wanted.facts
    if told is not None:
        assert told.hexdigest() == wanted.events
    if recording.state_format == snapshot.FORMAT:
        assert snapshot.state_hash(recovered.engine) == wanted.state_hash, "the state's layout changed: raise its FORMAT"


def test_this_version_has_a_recording() -> None:
    assert THIS in VERSIONS, "python -m tests.golden.record, see CONTRIBUTING.md, Releasing"


@pytest.mark.parametrize(("version", "seq"), CHECKPOINTS)
def test_the_recorded_journal_replays_to_the_recorded_facts(tmp_path: Path, version: str, seq: int) -> None:
    data_dir = copied(version, tmp_path, seq, snapshots=False)
    if read(version).journal_format != journal.FORMAT:
        with pytest.raises(JournalFormat, match=r"docs/OPERATIONS\.md, Upgrades"):
            recovery.recover(data_dir)
        return
    told = Told(read(version).fields)

    def listen(entry: Entry, events: list[Event]) -> None:
        told.add(events)

    recovered = recovery.recover(data_dir, on_entry=listen)
    recovered.journal.close()
    assert recovered.replayed == seq
    compare(recovered, version, seq, told)


@pytest.mark.parametrize("version", VERSIONS)
def test_snapshot_and_tail_end_where_the_journal_does(tmp_path: Path, version: str) -> None:
    recording = read(version)
    if recording.journal_format != journal.FORMAT:
        pytest.skip("a journal of that format is refused, see the test above")
    end = max(recording.checkpoints)
    warnings: list[str] = []
    data_dir = copied(version, tmp_path)
    recovered = recovery.recover(data_dir, warn=warnings.append)
    recovered.journal.close()
    compare(recovered, version, end)
    if recording.snapshot_format == recovery.SNAPSHOT_FORMAT and recording.state_format == snapshot.FORMAT:
        assert (recovered.replayed, warnings) == (end - SNAPSHOT, [])
        assert recovery.verify(data_dir, replay=True).faults == []
    else:
        assert recovered.replayed == end
        assert len(warnings) == 1


def test_a_recording_is_small() -> None:
    for version in VERSIONS:
        assert sum(path.stat().st_size for path in (HERE / version).rglob("*")) < 300_000, version


def test_it_holds_every_command(tmp_path: Path) -> None:
    commands: tuple[type, ...] = Command.__args__
    assert {type(entry.command) for entry in entries(copied(THIS, tmp_path))} == set(commands)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_s_place_and_tag_are_for_ever(tmp_path: Path, version: str) -> None:
    """The first bytes of a journal entry; fields are added at the end only."""
    entry = entries(copied(version, tmp_path))[0]
    assert msgpack.decode(msgpack.encode(entry)) == [1, 1_000_000_000_000, [16, "ada"], 0]
    assert msgpack.decode(msgpack.encode(entry), type=Entry) == entry


def test_its_limits_are_read_as_they_were(tmp_path: Path) -> None:
    with JournalReader(copied(THIS, tmp_path) / recovery.JOURNAL) as reader:
        assert isinstance(reader.limits, Limits)
        assert reader.limits != Limits()


# ---------------------------------------------------------------------------------------------------------- other formats


@pytest.mark.parametrize(
    ("other", "way_out"),
    [
        (journal.FORMAT + 1, "a newer Hashpit wrote it: use that version, or a newer one"),
        (999, "a newer Hashpit wrote it: use that version, or a newer one"),
        (journal.FORMAT - 1, "an older Hashpit wrote it: docs/OPERATIONS.md, Upgrades, tells which versions read it"),
    ],
)
def test_a_journal_of_another_format_is_refused_with_the_way_out(tmp_path: Path, other: int, way_out: str) -> None:
    data_dir = copied(THIS, tmp_path)
    before = edited(data_dir, f"UPDATE meta SET format = {other}")
    for use in (recovery.recover, recovery.make_snapshot):
        with pytest.raises(
            JournalFormat, match=f"journal format {other}, this program reads format {journal.FORMAT}: {way_out}"
        ):
            use(data_dir)
    assert (data_dir / recovery.JOURNAL).read_bytes() == before, "nothing was changed"


def test_a_snapshot_of_another_format_is_passed_over_and_the_journal_does(tmp_path: Path) -> None:
    data_dir = copied(THIS, tmp_path)
    (path,) = recovery.snapshot_paths(data_dir)
    header, _, rest = path.read_bytes().partition(b"\n")
    other = json.decode(header) | {"format": 999}
    path.write_bytes(json.encode(other) + b"\n" + rest)
    warnings: list[str] = []
    recovered = recovery.recover(data_dir, warn=warnings.append)
    recovered.journal.close()
    assert recovered.replayed == max(read(THIS).checkpoints)
    compare(recovered, THIS, recovered.replayed)
    (warning,) = warnings
    assert f"{path} has snapshot format 999, this program reads format {recovery.SNAPSHOT_FORMAT}" in warning
    assert "the journal does instead, and `hashpit snapshot` makes one of this format" in warning


def test_without_archives_a_snapshot_of_another_format_names_the_way_out(tmp_path: Path) -> None:
    data_dir = copied(THIS, tmp_path)
    (path,) = recovery.snapshot_paths(data_dir)
    path.write_bytes(path.read_bytes().replace(f'"format":{recovery.SNAPSHOT_FORMAT}'.encode(), b'"format":999', 1))
    shutil.rmtree(data_dir / recovery.ARCHIVE)
    with pytest.raises(RecoveryError, match="put the archive back"):
        recovery.recover(data_dir)


def test_every_recorded_format_has_a_line_about_who_reads_it() -> None:
    text = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    for version in VERSIONS:
        assert f"\n| {read(version).journal_format} | " in text, version


def test_what_is_released_is_not_recorded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "tests" / "golden"
    shutil.copytree(HERE / THIS, here / THIS)
    (tmp_path / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n## [{THIS}] - 2026-12-01\n")
    monkeypatch.setattr("tests.golden.record.HERE", here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit, match=f"{THIS} is released"):
        record(THIS)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")
    record(THIS)
    after = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert after == before, "recorded twice, the same"
