"""A journal recorded once replays to the recorded state, on every machine and build."""

from msgspec import json, msgpack

from engine.commands import Command, Entry
from engine.limits import Limits
from tests.golden.record import HASHES, read_journal, replay


def test_the_recorded_journal_replays_to_the_recorded_hashes() -> None:
    assert replay() == json.decode(HASHES.read_bytes()), "see tests/golden/record.py"


def test_it_holds_every_command() -> None:
    _, entries = read_journal()
    commands: tuple[type, ...] = Command.__args__
    assert {type(entry.command) for entry in entries} == set(commands)


def test_a_command_s_place_and_tag_are_for_ever() -> None:
    """The first bytes of a journal entry; fields are added at the end only."""
    _, entries = read_journal()
    first = msgpack.decode(msgpack.encode(entries[0]))
    assert first == [1, 1_000_000_000_000, [16, "ada"], 0]
    assert msgpack.decode(msgpack.encode(entries[0]), type=Entry) == entries[0]


def test_its_limits_are_read_as_they_were() -> None:
    limits, _ = read_journal()
    assert isinstance(limits, Limits)
    assert limits != Limits()
