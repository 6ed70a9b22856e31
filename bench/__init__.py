"""Measurements: what a command costs, layer by layer. `make bench`, or one at a time with `python -m bench.<name>`.

    flow.py          the seeded flow of bare-book operations, and the plain book that knows its outcome
    book.py          the bare order book alone
    peers.py         beside every order book that one can install for Python
    drivers/         how each of those books is asked, in environments of their own
    workload.py      the seeded flow of commands that the benches share
    engine.py        full commands through Engine.apply
    load.py          plain sockets that load a real server
    gateway.py       a real server process under load, beside bare echoes and a bare commit
    echo.py          those echoes, and a bare broadcast
    fanout.py        one book stream to many subscribers; memory of idle sessions
    recovery.py      replay of a journal, and a snapshot instead of it
    memory.py        bytes per resting order, account and remembered id
    scaling.py       what a command costs as the exchange grows
    soak.py          ten minutes of steady load: memory and pauses
    soak_server.py   its server, with a record of commits and collections
    common.py        machine, quantiles, progress and child processes
    __main__.py      all of them at full size, one after the other, with a file of each
    results/         those files, of the last run
    plots.py         plots of those files, in docs/plots
    verdict.py       what is promised, in a short form: met or missed
    RESULTS.md       every figure kept, with mix, machine and reason

A bench draws what it measures, seeds its input, checks its outcome, prints a table or with `--json` one JSON object, and
runs tiny in tests/bench.
"""

from hashpit.build import prefer_source

prefer_source()
