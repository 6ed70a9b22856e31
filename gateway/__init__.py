"""Everything between the engine and the world: sockets, sequencing, the journal, channels, HTTP.

__main__.py                 start here: config -> recovery -> wiring -> run
wire.py session.py          frames <-> commands and events; one client's state machine (both sans-IO)
auth.py ratelimit.py        keys and signatures; budgets (time is a parameter)
sequencer.py journal.py     the only writer: stamp, group commit, apply; entries <-> rows
recovery.py                 snapshot + tail -> engine
channels/                   one file per feed
server.py                   the only file that knows the websocket library
http/ archive/ web/         REST and metrics; history database; the page
"""
