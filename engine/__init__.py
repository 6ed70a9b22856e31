"""The engine: a deterministic function from entries to events. No IO, clock, randomness or floats.

    core.py                     start here: Engine.apply(entry) -> events, the one dispatch table
    types.py limits.py          ids, enums, MarketSpec; every bound by name
    commands.py events.py       what goes in; what comes out
    rejects.py                  numbered refusals in order of precedence
    book.py matching.py         price levels and queues; the aggressor's walk (compiled when possible)
    ledger.py risk.py           conserved double entries (compiled when possible); holds and releases
    markets/                    one file per kind of market
    snapshot.py invariants.py   dump, restore, state_hash; everything that must always be true

tests/test_architecture.py holds the exact order of imports.
"""
