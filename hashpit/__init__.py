"""Hashpit from a bot author's side: the SDK and the `hashpit` command.

    client.py readers.py         start here: the asyncio client; subscriptions and books that it keeps current
    protocol.py                  sans-IO: calls and answers, gaps, resume
    book.py levels.py            sans-IO: local copies that prove themselves, of an order book and of a live market
    messages.py errors.py        types of what answers and channels carry; everything that is raised, as one tree
    keys.py                      key files, and the signature of a login
    bots/                        a maker and a taker to copy, a bidder and a rig for live markets
    meter.py                     simulated miners that prove work for running deliveries and flows
    cli.py live_cli.py           the `hashpit` command, and its commands for live markets
    console.py demo.py           what commands share; `hashpit demo`, an exchange with bots on this machine
    replay.py                    recorded order flow through the real engine
    build.py                     compiled or plain engine: which one runs

Nothing is imported here, so `import hashpit` costs nothing: write `from hashpit.client import Client`.
"""

__version__ = "0.1.0"
