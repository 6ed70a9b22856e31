"""The engine: a deterministic function from entries to events. No IO, clock, randomness or floats.

    core.py                     start here: Engine.apply(entry) -> events, the one dispatch table
    types.py limits.py          ids, enums, MarketSpec; every bound by name
    commands.py events.py       what goes in; what comes out
    rejects.py                  numbered refusals in order of precedence
    members.py words.py         enum members by name, and products in machine words: for the hot path
    accounts.py                 accounts, their positions and their orders
    book.py matching.py         price levels and queues; the aggressor's walk
    ledger.py risk.py           conserved money; what an order holds and may do
    due.py delivery.py          what falls due, and when; from positions at the gate to settled money
    crossing.py flows.py        live markets: who gets how much hashrate; how it flows, and what its work costs
    live.py answers.py          the commands of live markets; what the answers of all kinds of market share
    markets/                    one file per kind of market
    bare.py                     the book on its own, for research and comparison
    columns.py                  orders as columns of numbers, and back
    snapshot.py invariants.py   dump, restore, state_hash; everything that must always be true

Those that setup.py lists are compiled when there is a C compiler.

tests/test_architecture.py holds the exact order of imports.
"""
