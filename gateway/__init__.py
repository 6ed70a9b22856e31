"""Everything between the engine and the world: sockets, sequencing, the journal, channels, HTTP.

__main__.py                 start here: config -> recovery -> wiring -> run
wire.py codec.py scale.py   messages; bytes <-> messages, JSON and MessagePack; decimals <-> whole steps
session.py calls.py         one client's state machine; a call that waits for its answer
methods.py live_methods.py  what every method does; those of live markets
answering.py exchange.py    what all methods share; what all sessions share
views.py history.py         engine state -> messages; recent orders and fills of an account
records.py                  the Structs that history and channels keep
auth.py ratelimit.py        keys and signatures; budgets (time is a parameter, as in all of the above)
sequencer.py journal.py     the only writer: stamp, group commit, apply; entries <-> rows
worker.py                   who waits for the disk: the loop while it is fast, a thread while it is slow
recovery.py collector.py    snapshot + tail -> engine; when garbage is collected
channels/ feeds.py          one file per feed; their registry
config.py log.py text.py    config.toml; structlog; what a terminal can be shown
algorithms.py listings.py   registry of algorithms; terms of markets, and who lists them
outbox.py                   what waits to be written to each socket
server.py                   the only file that knows the websocket library
http/ archive/ web/         REST and metrics; history database; the page

The modules that every order passes are compiled when there is a C compiler (see setup.py).
"""
