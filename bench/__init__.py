"""Measurements: what a command costs, layer by layer. `make bench`, or one at a time with `python -m bench.<name>`.

    workload.py   the seeded flow of commands that the benches share
    engine.py     full commands through Engine.apply
    gateway.py    a real server process under load, beside a bare websocket echo
    echo.py       that echo
    common.py     machine, quantiles, progress and child processes
    RESULTS.md    every figure kept, with mix, machine and reason

A bench draws what it measures, seeds its input, checks its outcome, prints a table or with `--json` one JSON object, and
runs tiny in tests/bench.
"""

from hashpit.build import prefer_source

prefer_source()
