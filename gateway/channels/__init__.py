"""Feeds: what a subscriber sees of the event stream. Sans-IO; everything here happened and is durable.

base.py       what channels share: numbering, subscribers, one encode per message and codec, slow readers
book.py       book.<market> and book.<market>.100ms: price levels with checksum
trades.py     trades.<market>
ticker.py     ticker.<market>: top of book and 24 hours
live.py       live.<market>: a live market's bids, asks and hashrate by price; flows.<market>: flows that started
live_ticker.py  ticker.<market> of a live market
status.py     status: the server and its markets
account.py    account: one account's own numbered stream, with resume

gateway/feeds.py is their registry: it hands them the events and finds them by name.
"""
