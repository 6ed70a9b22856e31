"""Bots worth copying. Each is one class with a ``run`` method, on top of ``hashpit.client``.

maker.py    quotes both sides around a reference, leaning against its inventory
taker.py    takes liquidity at random, so that a market has trades
bidder.py   keeps one bid in a live market at the lowest price that gets its hashrate
rig.py      offers hashrate in a live market, and comes and goes
desk.py     what both keep: an account's own orders and position in one market, learned from the account channel
"""
