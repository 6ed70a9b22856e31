"""Hashpit from a bot author's side: the SDK and the `hashpit` command.

    client.py readers.py         start here: the asyncio client; subscriptions and live books
    protocol.py book.py          sans-IO: calls and answers, gaps, resume; a local order book that proves itself
    messages.py errors.py        types of what answers and channels carry; everything that is raised, as one tree
    keys.py                      key files, and the signature of a login
    bots/                        a maker and a taker to copy
    meter.py                     simulated miners that prove work for running deliveries
    cli.py demo.py               the `hashpit` command; `hashpit demo`, an exchange with bots on this machine
    replay.py                    recorded order flow through the real engine
    build.py                     compiled or plain engine: which one runs

Nothing is imported here, so `import hashpit` costs nothing: write `from hashpit.client import Client`.
"""

__version__ = "0.1.0"
