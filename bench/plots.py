"""Plots of what the benches found last: bench/results/*.json -> docs/plots/*.svg.

    books.svg      the bare book beside every other one
    scaling.svg    cost of a command against resting orders, markets, accounts
    live.svg       cost of an edit of a live market against its size, beside an order
    gateway.svg    latency at fixed rates, of an order, an echo and a commit
    fanout.svg     cost of a delivered message against subscribers
    soak.svg       the tail of the latency, and memory, over time

    python -m bench.plots            all plots whose results are there

The same results make the same bytes. Matplotlib is imported here only, and only when something is drawn.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import typer
from msgspec import Struct

from bench import fanout, gateway, live, peers, scaling, soak
from bench.common import RESULTS, Machine, Stored

PLOTS: Final = Path(__file__).resolve().parent.parent / "docs" / "plots"

OURS: Final = "#1f6fb4"
PEER: Final = "#8a8a8a"
WRONG: Final = "#d9a441"
LINES: Final = ("#1f6fb4", "#8a8a8a", "#c4572e")
STYLE: Final[Any] = {
    "svg.hashsalt": "hashpit",  # the same ids in every run
    "svg.fonttype": "none",  # text stays text: small files, and one can search them
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}

R = TypeVar("R", bound=Struct)


class NoMatplotlibError(Exception):
    """There is nothing to draw with."""


def load(name: str, kind: type[R], folder: Path) -> Stored[R] | None:
    """A bench's last result. None if there is none."""
    path = folder / f"{name}.json"
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=Stored[kind])  # type: ignore[valid-type]


@contextmanager
def figure(path: Path, columns: int, width: float, height: float) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes, saved at the end. Sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        axes = drawn.subplots(1, columns)
        yield drawn, axes
        drawn.savefig(path, metadata={"Date": None}, facecolor="white")


def below(stored: Stored[Any], machine: Machine) -> str:
    """Where, when and how: one line for under a plot."""
    size = "small sizes" if stored.short else "full size"
    return f"{stored.date[:10]}, {size}, {machine.processor}, {machine.cores} cores, load {machine.load_average}"


def draw_books(folder: Path, path: Path) -> bool:
    """Bars: rate of every book over the same flow. What is wrong, or tells no fills, is hatched."""
    stored = load("peers", peers.Result, folder)
    if stored is None:
        return False
    rows = [row for row in stored.result.rows if row.per_second is not None and row.name != peers.EMPTY.name]
    rows.sort(key=lambda row: row.per_second.median if row.per_second else 0.0)
    most = max(row.per_second.median for row in rows if row.per_second)
    with figure(path, 1, 8, 0.8 + 0.32 * len(rows)) as (drawn, axes):
        for place, row in enumerate(rows):
            assert row.per_second is not None
            rate = row.per_second.median
            colour = OURS if not row.package else PEER if row.correct else WRONG
            hatch = None if row.correct else "///"
            axes.barh(place, rate, color=colour, hatch=hatch, edgecolor="white", height=0.7)
            told = "" if row.correct else f"  {row.verdict.partition(';')[0]}"
            axes.text(rate + most * 0.01, place, f"{rate:,.0f}{told}", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.set_xlim(0, most * 1.15)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"thousand operations per second, median of {stored.result.rounds} rounds (hatched: not correct)")
        axes.set_title(f"Bare order books, one call per operation, {stored.result.ops:,} operations", loc="left")
        drawn.supxlabel(below(stored, stored.result.machine), fontsize=7, color="#666666")
    return True


def draw_scaling(folder: Path, path: Path) -> bool:
    """CPU time of a command against each thing that can grow."""
    stored = load("scaling", scaling.Result, folder)
    if stored is None:
        return False
    costs = stored.result.costs
    base = scaling.Size(100_000, 1, 1_000)
    with figure(path, 3, 9, 3) as (drawn, axes):
        for panel, name in zip(axes, ("orders", "markets", "accounts"), strict=True):
            fixed = [other for other in ("orders", "markets", "accounts") if other != name]
            line = [cost for cost in costs if all(getattr(cost.size, one) == getattr(base, one) for one in fixed)]
            line.sort(key=lambda cost: getattr(cost.size, name))
            _ranges(panel, [getattr(cost.size, name) for cost in line], [cost.cpu_us for cost in line], OURS, "")
            panel.set_xscale("log")
            panel.set_xlabel({"orders": "resting orders", "markets": "markets", "accounts": "accounts"}[name])
            held = ", ".join(f"{getattr(base, one):,} {one if getattr(base, one) > 1 else one[:-1]}" for one in fixed)
            panel.set_title(held, loc="left", fontsize=8)
        most = max((cost.cpu_us.most for cost in costs), default=1.0)
        for panel in axes:
            panel.set_ylim(0, most * 1.1)
        axes[0].set_ylabel("CPU per command, µs")
        drawn.suptitle("Cost of a command as the exchange grows: median and range", x=0.01, ha="left", fontsize=10)
        drawn.supxlabel(below(stored, stored.result.machine), fontsize=7, color="#666666")
    return True


def _ranges(panel: Any, places: list[int], found: list[Any], colour: str, label: str) -> None:
    """A line of medians with bars from least to most."""
    medians = [one.median for one in found]
    lower = [one.median - one.least for one in found]
    upper = [one.most - one.median for one in found]
    panel.errorbar(places, medians, (lower, upper), color=colour, marker="o", markersize=4, capsize=2, label=label or None)


def draw_live(folder: Path, path: Path) -> bool:
    """CPU time of an edit and of a report against the size of the market, with the flows that an edit moves."""
    stored = load("live", live.Result, folder)
    if stored is None:
        return False
    result = stored.result
    places = [size.orders for size in result.sizes]
    with figure(path, 2, 8, 3) as (drawn, axes):
        _ranges(axes[0], places, [size.cpu_us for size in result.sizes], OURS, "an edit")
        _ranges(axes[0], places, [size.report_cpu_us for size in result.sizes], PEER, "a report of work")
        axes[0].axhline(result.engine_cpu_us.median, color=WRONG, linewidth=1, linestyle=":", label="an order of bench.engine")
        axes[0].set_ylim(0, max(size.cpu_us.most for size in result.sizes) * 1.3)
        axes[0].set_ylabel("CPU, µs")
        axes[0].legend(fontsize=8)
        axes[1].plot(places, [size.moves for size in result.sizes], color=OURS, marker="o", markersize=4)
        axes[1].set_ylim(0, max(size.moves for size in result.sizes) * 1.3)
        axes[1].set_ylabel("flows that an edit moves, mean")
        for panel in axes:
            panel.set_xscale("log")
            panel.set_xlabel("bids, and as many asks")
        drawn.suptitle("Live markets: an edit's cost is of what moves, not of the book", x=0.01, ha="left", fontsize=10)
        drawn.supxlabel(below(stored, result.machine), fontsize=7, color="#666666")
    return True


def draw_gateway(folder: Path, path: Path) -> bool:
    """Percentiles of the latency at fixed rates."""
    stored = load("gateway", gateway.Result, folder)
    if stored is None:
        return False
    rates = stored.result.rates
    with figure(path, 3, 9, 3.2) as (drawn, axes):
        for panel, (field, title) in zip(axes, (("p50_us", "p50"), ("p99_us", "p99"), ("p999_us", "p99.9")), strict=True):
            for (name, label), colour in zip(
                (("order", "durable order"), ("echo", "picows echo"), ("commit", "bare commit")),
                (OURS, PEER, LINES[2]),
                strict=True,
            ):
                values = [getattr(getattr(rate, name), field) / 1_000 for rate in rates]
                panel.plot([rate.per_second for rate in rates], values, color=colour, marker="o", markersize=4, label=label)
            panel.set_yscale("log")
            panel.set_title(title, loc="left", fontsize=9)
            panel.set_xlabel("orders per second")
            panel.set_xlim(left=0)
        low = min(panel.get_ylim()[0] for panel in axes)
        high = max(panel.get_ylim()[1] for panel in axes)
        for panel in axes:
            panel.set_ylim(low, high)
            panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0].set_ylabel("latency, ms")
        axes[0].legend(fontsize=8)
        shares = ", ".join(f"{rate.share:.0%}" for rate in rates)
        drawn.suptitle(f"Latency at fixed rates: {shares} of the closed loop's", x=0.01, ha="left", fontsize=10)
        drawn.supxlabel(below(stored, stored.result.machine), fontsize=7, color="#666666")
    return True


def draw_fanout(folder: Path, path: Path) -> bool:
    """CPU per delivered message; one call open at a time, so one message per write."""
    stored = load("fanout", fanout.Result, folder)
    if stored is None:
        return False
    found = [one for one in stored.result.fanouts if one.open_calls == 1]
    with figure(path, 1, 6, 3.4) as (drawn, axes):
        for (name, label), colour in zip(
            (("exchange", "exchange, orders and journal included"), ("send", "bare broadcast of the same bytes")),
            (OURS, PEER),
            strict=True,
        ):
            values = [getattr(one, name).cpu_us for one in found]
            axes.plot([one.subscribers for one in found], values, color=colour, marker="o", markersize=4, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.set_xlabel("subscribers")
        axes.set_ylabel("server CPU per delivered message, µs")
        axes.legend(fontsize=8)
        axes.set_title("One book stream to many subscribers", loc="left")
        drawn.supxlabel(below(stored, stored.result.machine), fontsize=7, color="#666666")
    return True


def draw_soak(folder: Path, path: Path) -> bool:
    """Latency of each second, and resident memory, in the steady phase and then with names."""
    stored = load("soak", soak.Result, folder)
    if stored is None:
        return False
    result = stored.result
    start = result.steady.seconds[-1].at_s
    seconds = result.steady.seconds + [msgspec.structs.replace(one, at_s=start + one.at_s) for one in result.named.seconds]
    at = [one.at_s / 60 for one in seconds]
    with figure(path, 2, 9, 3.2) as (drawn, axes):
        for (field, label), colour in zip(
            (("max_ms", "slowest"), ("p99_ms", "p99"), ("p50_ms", "p50")), (WRONG, OURS, PEER), strict=True
        ):
            axes[0].plot(at, [getattr(one, field) for one in seconds], color=colour, linewidth=0.9, label=label)
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0].set_ylabel("latency of an order, by second, ms")
        axes[0].legend(fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.12))
        axes[1].plot(at, [one.rss_mb for one in seconds], color=OURS, linewidth=1.2)
        axes[1].set_ylim(0, max(one.rss_mb for one in seconds) * 1.15)
        axes[1].set_ylabel("resident memory, MB")
        for panel in axes:
            panel.axvline(start / 60, color="#666666", linewidth=0.8, linestyle=":")
            panel.set_xlabel("minutes after warm-up (dotted: from here every order has a name)")
            panel.xaxis.label.set_size(8)
        drawn.suptitle(f"Soak at {result.rate:,} commands per second", x=0.01, ha="left", fontsize=10)
        drawn.supxlabel(below(stored, result.machine), fontsize=7, color="#666666")
    return True


DRAWN: Final[dict[str, Callable[[Path, Path], bool]]] = {
    "books": draw_books,
    "scaling": draw_scaling,
    "live": draw_live,
    "gateway": draw_gateway,
    "fanout": draw_fanout,
    "soak": draw_soak,
}


def draw_all(folder: Path = RESULTS, plots: Path = PLOTS) -> list[Path]:
    """Draw every plot whose result is there; the files written. Raises NoMatplotlibError."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NoMatplotlibError("matplotlib is not installed; `make bench` installs it") from None
    plots.mkdir(parents=True, exist_ok=True)
    paths = {name: plots / f"{name}.svg" for name in DRAWN}
    return [paths[name] for name, draw in DRAWN.items() if draw(folder, paths[name])]


def main() -> None:
    """Draw the plots of what was measured last."""
    try:
        for path in draw_all():
            print(path)
    except NoMatplotlibError as error:
        print(f"bench.plots: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
