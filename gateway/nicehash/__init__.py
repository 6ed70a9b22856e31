"""NiceHash's REST API v2 over our live markets, so that their clients and bots can trade here unchanged. See docs/NICEHASH.md.

http.py      the HTTP edge: Litestar and uvicorn, sockets and timeouts; the rest is sans-IO
stomp.py     the push feed: STOMP frames over a websocket
routes.py    every path, with what it takes and answers
service.py   what a request passes: signature, permission, budget, the body, the call
calls.py     one request that waits for its answer
public.py    the calls that take no key
hashpower.py orders and pools
accounting.py balances, payments, transfers
views.py     engine values as NiceHash shows them
answers.py   the shape of every answer
bodies.py    the shape of every body
history.py   what the engine does not keep: ended orders, payments, statistics
catalog.py   algorithms and markets under their names
units.py     their numbers and ours, exactly
signing.py   signatures, times, nonces
ids.py       their UUIDs and our numbers
problems.py  refusals: codes, statuses, texts
"""
