"""Every bench, one after the other: tables, a JSON file of each, and the plots. `make bench` calls it.

    bench.<name> -> table, bench/results/<name>.json -> bench.plots -> docs/plots/*.svg

    python -m bench                        full size: about 40 minutes, ten of them the soak
    python -m bench --short                small sizes, about nine minutes: a look
    python -m bench --only gateway --only peers

A bench that fails is told at the end, its old file stays, and the exit code is 1. Plots need matplotlib, which `make bench`
installs from requirements-bench.txt; without it there are tables and files.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import typer
from rich.console import Console

from bench import book, engine, fanout, gateway, live, memory, peers, plots, recovery, scaling, soak
from bench.common import RESULTS, OutcomeError, Stored
from bench.workload import COMMANDS


class Bench(NamedTuple):
    measure: Callable[..., Any]
    show: Callable[[Any], None]
    short: dict[str, Any]
    """Arguments of ``measure`` that make it small."""
    minutes: float
    """About how long it takes at full size."""
    quiet: dict[str, Any]
    """Arguments of ``measure`` that let it draw its progress bar, where it has one."""


BAR: Final = {"quiet": not sys.stderr.isatty()}

BENCHES: Final = {
    "book": Bench(book.measure, book._show, {"ops": 50_000}, 1, BAR),
    "engine": Bench(engine.measure, engine._show, {"commands": 100_000}, 0.3, BAR),
    "engine-plain": Bench(
        lambda commands=COMMANDS: engine.in_build(True, commands), engine._show, {"commands": 100_000}, 0.5, {}
    ),
    "live": Bench(live.measure, live._show, {"edits": 12_800, "turns": 3}, 1, BAR),
    "peers": Bench(peers.measure, peers._show, {"ops": 50_000}, 4, BAR),
    "gateway": Bench(gateway.measure, gateway._show, {"seconds": 1.0}, 4, BAR),
    "fanout": Bench(fanout.measure, fanout._show, {"seconds": 0.5}, 3, BAR),
    "recovery": Bench(recovery.measure, recovery._show, {"commands": 50_000, "orders": 100_000}, 4, BAR),
    "memory": Bench(memory.measure, memory._show, {"orders": 50_000, "many_accounts": 20_000, "repeats": 1}, 3, BAR),
    "scaling": Bench(scaling.measure, scaling._show, {"turns": 3, "slices": 3}, 6, BAR),
    "soak": Bench(soak.measure, soak._show, {"minutes": 1.0}, 13, BAR),
}


def run(name: str, short: bool, folder: Path) -> None:
    """One bench: table and file. Raises OutcomeError."""
    bench = BENCHES[name]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    result = bench.measure(**bench.quiet, **(bench.short if short else {}))
    bench.show(result)
    folder.mkdir(parents=True, exist_ok=True)
    stored = msgspec.json.encode(Stored(name, now, short, result))
    (folder / f"{name}.json").write_bytes(msgspec.json.format(stored, indent=1) + b"\n")


def main(
    short: Annotated[bool, typer.Option("--short", help="small sizes: a look")] = False,
    only: Annotated[list[str] | None, typer.Option(help="run this bench; may be repeated")] = None,
) -> None:
    """Run every bench, keep its result, and draw the plots."""
    console = Console(highlight=False)
    names = only or list(BENCHES)
    if unknown := [name for name in names if name not in BENCHES]:
        raise typer.BadParameter(f"no bench is called {unknown[0]}; there are: {', '.join(BENCHES)}")
    if not short:
        minutes = sum(BENCHES[name].minutes for name in names)
        soaks = f", {BENCHES['soak'].minutes:g} of them the soak" if "soak" in names else ""
        console.print(f"This takes about {minutes:.0f} minutes{soaks}; peers that are not installed yet come on top.")
    failed: list[str] = []
    for number, name in enumerate(names, 1):
        started = time.perf_counter()
        console.print(f"{number} of {len(names)}: {name}")
        try:
            run(name, short, RESULTS)
        except OutcomeError as error:
            failed.append(name)
            print(f"bench.{name}: {error}", file=sys.stderr)
        console.print(f"{name} took {time.perf_counter() - started:.0f} s")
    try:
        for path in plots.draw_all():
            console.print(f"drew {path.name}")
    except plots.NoMatplotlibError as error:
        console.print(f"no plots: {error}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
