"""Market kinds, one file each: what a fill is, when trading ends, and how the contract settles.

``dated``   q lots of speed throughout one delivery period; positions net; net shorts deliver to net longs
"""
