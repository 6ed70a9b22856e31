"""One order book on one flow, in a process of its own, run by the Python that has its package.

    python -m bench.drivers.NAME FLOW [VARIANT] [--latency]     prints one JSON object

A driver imports the standard library, bench.flow and the package that it drives, nothing else. Each file says how an operation
becomes one call of the package's public interface.
"""
