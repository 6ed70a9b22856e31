"""The recorded journal, its hashes, and how to record them anew.

    python -m tests.golden.record              new hashes for the journal as it is: the state or events changed on purpose
    python -m tests.golden.record journal      a new journal as well

``journal.jsonl`` holds the limits in its first line, then an entry per line, as the journal's arrays. A change of
``hashes.json`` in a commit means that old journals replay to another state: say why, and raise ``engine.snapshot.FORMAT``
when it is the snapshot's layout that changed.
"""

import re
import sys
from hashlib import blake2b
from pathlib import Path

from msgspec import json

from engine.commands import Entry
from engine.core import Engine
from engine.events import FIELDS, Event, values
from engine.limits import Limits
from engine.snapshot import state_hash
from tests.reference.exchange import NaiveExchange
from tests.reference.stream import SMALL, Stream

JOURNAL = Path(__file__).with_name("journal.jsonl")
HASHES = Path(__file__).with_name("hashes.json")
TAGS = {"MarketStateChanged": "market_state"}
SEED, ENTRIES, CHECKPOINT = 5, 1_500, 250


def read_journal() -> tuple[Limits, list[Entry]]:
    first, *rest = JOURNAL.read_bytes().splitlines()
    return json.decode(first, type=Limits), [json.decode(line, type=Entry) for line in rest]


def write_journal() -> None:
    oracle = NaiveExchange(SMALL)
    lines = [json.encode(SMALL)]
    for entry in Stream(oracle, SEED).entries(ENTRIES):
        oracle.apply(entry)
        lines.append(json.encode(entry))
    JOURNAL.write_bytes(b"\n".join(lines) + b"\n")


def told(event: Event) -> dict[str, object]:
    """An event as the hash of all events has it: its name, then its fields."""
    name = TAGS.get(type(event).__name__) or re.sub("(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    return {"type": name} | dict(zip(FIELDS[type(event)], values(event), strict=True))


def replay() -> dict[str, str]:
    """State hash at every checkpoint, and a hash of all events."""
    limits, entries = read_journal()
    engine = Engine(limits)
    hashes = {}
    events = blake2b(digest_size=32)
    for entry in entries:
        facts: list[Event] = engine.apply(entry)
        events.update(json.encode([told(fact) for fact in facts]))
        if entry.seq % CHECKPOINT == 0:
            hashes[f"state after {entry.seq}"] = state_hash(engine)
    return hashes | {"events": events.hexdigest()}


if __name__ == "__main__":
    if sys.argv[1:] == ["journal"]:
        write_journal()
    HASHES.write_bytes(json.format(json.encode(replay())) + b"\n")
