"""The pictures of docs/MARKETS.md, drawn from what the engine says of the page's examples.

    crossing.svg   bids, asks and flows, before and after cid's raise
    dated.svg      a dated market's life: whose money is where
    peg.svg        a pegged bid and the rival that it follows

    python -m tests.docs.pictures [FOLDER]      draws them into docs/pictures (needs matplotlib, see requirements-bench.txt)

Each picture carries the facts that it was drawn from, so that a test notices when they are no longer true.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree

import msgspec
from msgspec import Struct

from bench.plots import LINES, OURS, STYLE
from tests.docs.markets import PRICE, Crossing, Day, Order, Pegged, Raise, btc, cids_raise, dated_day, pegged

PICTURES: Final = Path(__file__).resolve().parents[2] / "docs" / "pictures"
WIDTH_IN: Final = 8
SMALL_PT: Final = 8
"""The smallest text: 11 px where the page shows a picture 800 px wide."""
LOT: Final = 1_000
"""Lots of one PH/s."""

BUYER: Final = OURS
BUYER_PALE: Final = "#cfe1f2"
SELLER: Final = LINES[2]
SELLER_PALE: Final = "#f6d9cd"
BUYER_TEXT: Final = "#14507f"
SELLER_TEXT: Final = "#93401f"
CONTRACT_PALE: Final = "#e6e6e6"
NEW_PALE: Final = "#ffe08a"
NEW_EDGE: Final = "#b58900"
DARK: Final = "#333333"
UNIT: Final = "BTC per PH/s per day"


@contextmanager
def figure(path: Path, title: str, facts: Struct, columns: int, height: float) -> Iterator[Any]:
    """Axes of a figure, saved at the end together with the facts that it shows."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"font.size": 9, "hatch.linewidth": 0.6, "axes.grid": False}):
        drawn = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        yield drawn.subplots(1, columns)
        told = {"Date": None, "Title": title, "Description": msgspec.json.encode(facts).decode()}
        drawn.savefig(path, metadata=told, facecolor="white")


def drawn_facts(path: Path) -> bytes:
    """The facts, as JSON, that a picture was drawn from."""
    found = ElementTree.parse(path).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert found is not None, f"{path.name} does not say what it shows"
    return (found.text or "").encode()


# --- The crossing ---------------------------------------------------------------------------------


class Span(NamedTuple):
    """Where an order's step lies: from and to, in PH/s."""

    left: float
    right: float


def draw_crossing(facts: Raise, path: Path) -> None:
    """Two panels: price against speed, before and after the raise."""
    before = {(flow.ask, flow.bid) for flow in facts.before.flows}
    new = {(flow.ask, flow.bid) for flow in facts.after.flows} - before
    ended = [f"{move.ask} to {move.bid}: {move.old_speed // LOT}" for move in facts.moves if not move.speed]
    panels = (
        (
            "Before",
            facts.before,
            [("bids", BUYER_TEXT), ("asks", SELLER_TEXT), ("thick: with a speed", DARK), ("in the areas: flows, PH/s", DARK)],
        ),
        ("After cid's raise", facts.after, [(line, DARK) for line in ("hatched: new flows", "ended flows, PH/s:", *ended)]),
    )
    with figure(path, "Where bids and asks cross, before and after a raise", facts, 2, 4.3) as axes:
        for panel, (title, crossing, notes) in zip(axes, panels, strict=True):
            _crossing(panel, crossing, new)
            flowing = sum(flow.speed for flow in crossing.flows) // LOT
            panel.set_title(f"{title}: {flowing} PH/s flow", loc="left", fontsize=10)
            for place, (line, colour) in enumerate(reversed(notes)):
                panel.text(7.6, 44_100 + 700 * place, line, color=colour, fontsize=SMALL_PT)
        axes[0].set_ylabel(UNIT, fontsize=SMALL_PT)


def _crossing(panel: Any, crossing: Crossing, new: set[tuple[str, str]]) -> None:
    """Flows between the steps of both sides, and the marginal price. ``new``: ask and bid of flows to be hatched."""
    supply = sum(ask.size or 0 for ask in crossing.asks) / LOT
    end = supply + 5.2
    low, high = _spans(crossing.asks, supply, end), _spans(crossing.bids, supply, end)
    prices = {order.name: order.price for order in (*crossing.bids, *crossing.asks)}

    for flow in crossing.flows:
        left, right = max(low[flow.ask].left, high[flow.bid].left), min(low[flow.ask].right, high[flow.bid].right)
        # between what is above each other, as it happens in this example: others could not be drawn like this
        assert right - left == flow.speed / LOT, flow
        bottom, top = prices[flow.ask], prices[flow.bid]
        hatched = (flow.ask, flow.bid) in new
        panel.fill_between([left, right], bottom, top, color=NEW_PALE if hatched else BUYER_PALE, linewidth=0)
        if hatched:
            panel.fill_between([left, right], bottom, top, facecolor="none", edgecolor=NEW_EDGE, hatch="///", linewidth=0)
        panel.plot([left, left], [bottom, top], color="white", linewidth=1)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none"} if hatched else None
        panel.text((left + right) / 2, (bottom + top) / 2, f"{flow.speed / LOT:g}", ha="center", va="center", bbox=box)

    panel.axhline(crossing.marginal, color=DARK, linewidth=0.9, linestyle="--", zorder=1)
    panel.text(end, crossing.marginal + 250, "marginal price", color=DARK, ha="right", va="bottom", fontsize=SMALL_PT)
    _steps(panel, crossing.bids, high, BUYER, BUYER_TEXT)
    _steps(panel, crossing.asks, low, SELLER, SELLER_TEXT)

    ticks = sorted(set(prices.values()))
    panel.set_yticks(ticks, [PRICE.format(price) for price in ticks], fontsize=SMALL_PT)
    panel.set_ylim(43_500, 61_500)
    panel.set_xlim(0, end)
    panel.set_xticks(range(0, int(supply) + 1, 2))
    panel.text(supply + 1, 43_100, "PH/s", va="top")


def _spans(orders: list[Order], supply: float, end: float) -> dict[str, Span]:
    """Steps side by side, from the best. One without a limit goes on to the end, or leaves a gap before the next."""
    spans = {}
    at = 0.0
    for order in orders:
        if order.size is not None:
            spans[order.name] = Span(at, at + order.size / LOT)
            at = spans[order.name].right
        elif order is orders[-1]:
            spans[order.name] = Span(at, end)
        else:
            spans[order.name] = Span(at, supply + 1)
            at = supply + 2
    return spans


def _steps(panel: Any, orders: list[Order], spans: dict[str, Span], colour: str, ink: str) -> None:
    """One side's steps. The names of bids that have a speed stand above them, all others below."""
    corner: tuple[float, int] | None = None
    for order in orders:
        (left, right), price = spans[order.name], order.price
        panel.plot([left, right], [price, price], color=colour, linewidth=3 if order.speed else 1.2, solid_capstyle="butt")
        if corner is not None and corner[0] == left:
            panel.plot([left, left], [corner[1], price], color=colour, linewidth=0.8, linestyle=":")
        corner = right, price
        name, x, ha = order.name, (left + right) / 2, "center"
        if order.size is None:
            name = f"{order.name}, no limit"
            x, ha = (left + 0.2, "left") if order.speed else (right, "right")
            if order is orders[-1]:
                panel.plot(right, price, marker=">", color=colour, markersize=6, clip_on=False)
            else:
                panel.text(right + 0.1, price, "//", color=colour, va="center")
        if colour == BUYER and order.speed:
            panel.text(x, price + 250, name, color=ink, ha=ha, va="bottom")
        else:
            panel.text(x, price - 250, name, color=ink, ha=ha, va="top")


# --- A dated market's life ------------------------------------------------------------------------


def draw_dated(facts: Day, path: Path) -> None:
    """All money, stacked, over time: it moves, and its sum stays."""
    moments = facts.moments
    start = datetime.fromisoformat(moments["deposits"].at)

    def hour(at: str) -> float:
        return (datetime.fromisoformat(at) - start).total_seconds() / 3_600

    gate, begins, ends, settle = map(hour, (facts.gate, facts.period_start, facts.period_end, facts.settle))
    end = settle + 15
    layers = [
        ("buyer_available", BUYER_PALE, ""),
        ("buyer_held", BUYER_PALE, "///"),
        ("proceeds", CONTRACT_PALE, ""),
        ("bond", CONTRACT_PALE, "\\\\\\"),
        ("seller_available", SELLER_PALE, ""),
    ]
    times = [hour(moment.at) for moment in moments.values()] + [end]
    with figure(path, "A dated market's life, and whose money is where", facts, 1, 4.4) as panel:
        bases = [0] * len(times)
        middle: dict[tuple[str, str], float] = {}
        for name, colour, hatch in layers:
            values = [getattr(moment, name) for moment in moments.values()]
            tops = [base + value for base, value in zip(bases, [*values, values[-1]], strict=True)]
            panel.fill_between(times, bases, tops, step="post", facecolor=colour, edgecolor="white", linewidth=0.8)
            if hatch:
                panel.fill_between(
                    times, bases, tops, step="post", facecolor="none", edgecolor="#b0b0b0", hatch=hatch, linewidth=0
                )
            middle |= {(what, name): (base + top) / 2 for what, base, top in zip(moments, bases, tops, strict=False)}
            bases = tops

        def label(what: str, until: float, name: str, text: str) -> None:
            panel.text(
                (begins + ends if until == settle else hour(moments[what].at) + until) / 2,
                middle[what, name],
                f"{text} {btc(getattr(moments[what], name))}",
                ha="center",
                va="center",
                fontsize=SMALL_PT,
                color=DARK,
                bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
            )

        bid, trade = hour(moments["bid"].at), hour(moments["trade"].at)
        label("deposits", bid, "buyer_available", "ann\n")
        label("deposits", bid, "seller_available", "sam\n")
        label("bid", trade, "buyer_held", "ann, held\n")
        label("bid", trade, "buyer_available", "ann\n")
        label("trade", settle, "buyer_available", "ann")
        label("trade", settle, "proceeds", "in the contract, for the work:")
        label("trade", settle, "bond", "in the contract, sam's bond:")
        label("trade", settle, "seller_available", "sam")
        label(
            "settlement",
            end,
            "buyer_available",
            f"+ {btc(facts.refund)} refund\n+ {btc(facts.compensation)} compensation\n= ann",
        )
        label("settlement", end, "seller_available", f"+ {btc(facts.paid)} paid\n+ {btc(facts.bond_released)} bond\n= sam")

        # the fees are too thin a layer to be seen to scale
        fees = moments["settlement"].fees
        total = bases[0]
        panel.plot([trade, end], [total, total], color=DARK, linewidth=2, solid_capstyle="butt")
        panel.text(end, total * 1.012, f"fees {btc(fees)}", ha="right", va="bottom", fontsize=SMALL_PT)
        for at in (gate, begins, ends, settle):
            panel.plot([at, at], [0, total * 1.15], color=DARK, linewidth=0.8, linestyle="--")
        proven = f"{facts.delivered_hashes * 100 // facts.contracted_hashes} % proven"
        for left, right, text in ((0, gate, "trading"), (begins, ends, f"delivery: {proven}"), (settle, end, "settled")):
            panel.text((left + right) / 2, total * 1.11, text, ha="center", va="center", fontsize=10)
        date = ""
        for moment, ha, text in (
            (moments["bid"].at, "center", "ann bids"),
            (moments["trade"].at, "center", "sam sells to her"),
            (facts.gate, "right", "gate"),
            (facts.period_start, "left", "period starts"),
            (facts.period_end, "right", "period ends"),
            (facts.settle, "left", "settlement"),
        ):
            time = datetime.fromisoformat(moment)
            when = f"{time:%H:%M}" if f"{time:%d}" == date else f"{time:%d %b %H:%M}"
            date = f"{time:%d}"
            panel.text(hour(moment), -total * 0.02, f"{text}\n{when}", ha=ha, va="top", fontsize=SMALL_PT)
        panel.set_xlim(0, end)
        panel.set_ylim(-total * 0.12, total * 1.15)
        panel.axis("off")
        title = f"{facts.symbol}: ann buys {facts.qty // LOT} PH/s at {PRICE.format(facts.price)} {UNIT}, sam sells"
        panel.set_title(title, loc="left", fontsize=10)


# --- A pegged bid ---------------------------------------------------------------------------------


def draw_peg(facts: Pegged, path: Path) -> None:
    """Two prices over the rival's raises, the cap, and who holds the hashrate."""
    raises = [*range(1, len(facts.steps) + 1)]
    edges = [*raises, len(raises) + 1]
    held = sum(step.ann_holds for step in facts.steps)
    assert all(step.ann_holds for step in facts.steps[:held]), "ann holds the hashrate first, and then no more"
    last = facts.steps[-1]
    with figure(path, "A pegged bid follows a rival up to its cap", facts, 1, 3.4) as panel:
        for name, colour, width in (("rival", SELLER, 3), ("ann", BUYER, 1.6)):
            values = [getattr(step, name) for step in facts.steps]
            panel.step(edges, [*values, values[-1]], where="post", color=colour, linewidth=width)
        panel.axhline(facts.cap, color=DARK, linewidth=0.9, linestyle="--", zorder=1)
        panel.axvspan(1, 1 + held, color=BUYER_PALE, linewidth=0, zorder=0)
        panel.axvspan(1 + held, edges[-1], color=SELLER_PALE, linewidth=0, zorder=0)
        panel.set_xlim(1, edges[-1])
        panel.set_xticks([at + 0.5 for at in raises], raises)
        panel.set_xlabel("the rival's raises")
        panel.set_ylim(facts.steps[0].rival - 22, last.rival + 8)
        prices = [facts.steps[0].rival, facts.cap, last.rival]
        panel.set_yticks(prices, [PRICE.format(price) for price in prices], fontsize=SMALL_PT)
        panel.set_ylabel(UNIT, fontsize=SMALL_PT)
        bottom = facts.steps[0].rival - 18
        for left, right, who, colour in ((1, 1 + held, "ann", BUYER_TEXT), (1 + held, edges[-1], "the rival", SELLER_TEXT)):
            panel.text((left + right) / 2, bottom, f"{who} holds the hashrate", ha="center", fontsize=9, color=colour)
        more = facts.steps[0].ann - facts.steps[0].rival
        for x, y, text, ha, colour in (
            (0.9 + held, facts.steps[0].rival, f"ann pays {more} satoshi more than the rival", "right", BUYER_TEXT),
            (edges[-1] - 0.1, facts.cap - 7, "ann stays at her cap", "right", BUYER_TEXT),
            (edges[-1] - 1.1, last.rival - 2, "rival", "right", SELLER_TEXT),
            (1.1, facts.cap + 2, "ann's cap", "left", DARK),
        ):
            panel.text(x, y, text, ha=ha, fontsize=9, color=colour)


class Picture(NamedTuple):
    """What is drawn, and what draws it into a file."""

    facts: Callable[[], Struct]
    draw: Callable[[Any, Path], None]


DRAWN: Final = {
    "crossing": Picture(cids_raise, draw_crossing),
    "dated": Picture(dated_day, draw_dated),
    "peg": Picture(pegged, draw_peg),
}


def main(folder: Path = PICTURES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (facts, draw) in DRAWN.items():
        draw(facts(), folder / f"{name}.svg")
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
