"""Hashpit from a bot author's side: the SDK and the `hashpit` command.

    protocol.py   sans-IO: matches replies to requests, finds gaps, resumes
    book.py       a local order book kept from snapshot and deltas
    client.py     asyncio client on top of the two
    bots/         example maker and taker
    cli.py        the `hashpit` command
    build.py      compiled or plain engine: which one runs

Nothing is imported here, so `import hashpit` costs nothing: write `from hashpit.client import Client`.
"""

__version__ = "0.1.0"
