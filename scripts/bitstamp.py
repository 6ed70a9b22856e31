"""Replay half an hour of Bitstamp's BTC/USD order events through the engine and compare the outcome. Development only.

    python -m pip install --require-hashes -r requirements-research.txt
    python -m scripts.bitstamp build/bitstamp

The events and the trades come with the package ob-analytics. Writes flow.jsonl.gz, trades.jsonl and book.json to the given
directory. Method, figures and what each class means: docs/BITSTAMP.md. Ends with code 1 when a reject, a trade or a resting
order differs in a way that no class explains.
"""

import csv
import gzip
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from hashpit.build import prefer_source

if __name__ == "__main__":
    prefer_source()

import typer
from rich.console import Console
from rich.table import Table

from hashpit.replay import Replay, replay

NO_PRICE: Final = Decimal(999_999_999)
"""What the feed shows as the price of a market buy; a market sell shows 0."""

EXPLAINED_REJECTS: Final = {
    ("limit, created and deleted whole within a millisecond", "POST_ONLY_WOULD_TAKE"): (
        "Bitstamp refused it too: it would have taken, it took nothing, and it was gone at once"
    ),
    ("its cancel", "ORDER_UNKNOWN"): "the order had been refused, see above",
    ("cancel of an order never created", "ORDER_UNKNOWN"): "open before the recording, but missing from its snapshot",
    ("cancel of a market order's rest", "ORDER_UNKNOWN"): "here the rest of a market order ends with the order itself",
    ("limit, from the snapshot", "PRICE_TOO_LOW"): "bids below half a cent, which the feed rounds to a price of 0",
}
"""Why our engine refuses a command that Bitstamp knows, by kind of command and reason."""


class Event(NamedTuple):
    """One row of orders.csv.gz. ``live`` is False for the rows that the recorder made up at both ends."""

    id: str
    exchange_ms: int
    price: Decimal
    volume: Decimal
    action: str
    side: str
    live: bool


class Match(NamedTuple):
    """One trade, ours or theirs, in comparable form."""

    price: Decimal
    qty: Decimal
    maker_id: str
    taker_id: str
    aggressor: str


Command = tuple[str, dict[str, str]]
"""What kind of event it comes from, and the line of the flow."""


# ------------------------------------------------------------------------------------------------------------- reading


def read_events(folder: Path) -> list[Event]:
    """The rows in the order in which the exchange sent them, amounts exactly as recorded."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    with gzip.open(folder / "orders.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first, last = meta["synthetic_created"], len(rows) - meta["synthetic_deleted"]
    return [
        Event(
            row["id"],
            int(row["exchange_timestamp"]),
            Decimal(row["price"]),
            Decimal(row["volume"]),
            row["action"],
            "buy" if row["direction"] == "bid" else "sell",
            first <= number < last,
        )
        for number, row in enumerate(rows)
    ]


def read_trades(folder: Path) -> list[Match]:
    """The trades as the package's own pipeline gives them: price, quantity, which order made and which one took."""
    package = import_module("ob_analytics.bitstamp")
    frame = package.BitstampTradeReader().load(package.BitstampLoader().load(folder / "orders.csv.gz"), folder)
    return [
        Match(
            Decimal(f"{trade.price:.2f}"),
            Decimal(f"{trade.volume:.8f}"),
            str(trade.maker),
            str(trade.taker),
            str(trade.direction),
        )
        for trade in frame.itertuples()
    ]


# ---------------------------------------------------------------------------------------------------------- converting


def stale_orders(events: list[Event], trades: list[Match]) -> set[str]:
    """Orders of the snapshot that cannot have been there: never heard of again, and traded through at a worse price."""
    highest = max(trade.price for trade in trades if trade.aggressor == "buy")
    lowest = min(trade.price for trade in trades if trade.aggressor == "sell")
    heard_of = {event.id for event in events if event.live}
    return {
        event.id
        for event in events
        if event.id not in heard_of and (event.price < highest if event.side == "sell" else event.price > lowest)
    }


def convert(events: list[Event], trades: list[Match]) -> Iterator[Command]:
    """The commands behind the events, as far as the events tell.

    Fills (``changed``, and ``deleted`` with nothing left) are no commands: they must come about by our own matching. So must
    what rests at the end; the recorder's deletions there are compared with our final book.
    """
    stale = stale_orders(events, trades)
    bought: defaultdict[str, Decimal] = defaultdict(Decimal)
    traded: set[str] = set()
    for trade in trades:
        bought[trade.taker_id] += trade.qty
        traded |= {trade.maker_id, trade.taker_id}
    lives: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        lives[event.id].append(event)

    for event in events:
        first, last = lives[event.id][0], lives[event.id][-1]
        is_market = first.live and first.price in (0, NO_PRICE)
        is_brief = (
            first.live
            and len(lives[event.id]) == 2
            and (first.exchange_ms, first.volume) == (last.exchange_ms, last.volume)
            and event.id not in traded
        )
        if event.action == "deleted":
            if not event.live or event.volume == 0:
                continue
            if first.action != "created":
                kind = "cancel of an order never created"
            elif is_market:
                kind = "cancel of a market order's rest"
            else:
                kind = "its cancel" if is_brief else "cancel"
            yield kind, {"op": "cancel", "id": event.id}
        elif event.action == "created":
            line = {"op": "place", "id": event.id, "side": event.side, "type": "limit"}
            if is_market:
                # a market buy for an amount of dollars shows no quantity: take it from its trades
                kind = "market" if event.volume else "market, for dollars"
                yield kind, line | {"type": "market", "qty": f"{event.volume or bought[event.id]:f}"}
                continue
            line |= {"price": f"{event.price:f}", "qty": f"{event.volume:f}", "tif": "gtc"}
            if is_brief:
                yield "limit, created and deleted whole within a millisecond", line | {"post_only": "reject"}
            elif event.live:
                yield "limit", line
            elif event.id not in stale:
                yield "limit, from the snapshot", line


# ----------------------------------------------------------------------------------------------------------- comparing


def find_rejects(commands: list[Command]) -> Counter[tuple[str, str]]:
    """What the engine refuses, by kind of command and reason."""
    run = Replay()
    found: Counter[tuple[str, str]] = Counter()
    for kind, line in commands:
        before = run.rejects.copy()
        run.feed(json.dumps(line).encode())
        for reason in run.rejects - before:
            found[kind, reason] += 1
    return found


def read_matches(file: Path) -> list[Match]:
    with file.open(encoding="utf-8") as lines:
        rows = [json.loads(line, parse_float=Decimal) for line in lines]
    return [
        Match(Decimal(row["price"]), Decimal(row["qty"]), row["maker_id"], row["taker_id"], row["aggressor"]) for row in rows
    ]


def compare_books(events: list[Event], trades: list[Match], file: Path) -> dict[str, int]:
    """Their resting orders against ours, by id, side, price and remaining quantity."""
    sides = {"bids": "buy", "asks": "sell"}
    ours = {
        flow_id: (sides[name], Decimal(price), Decimal(qty))
        for name, orders in json.loads(file.read_text(encoding="utf-8")).items()
        for price, qty, flow_id in orders
    }
    theirs = {
        event.id: (event.side, event.price, event.volume) for event in events if not event.live and event.action == "deleted"
    }
    stale = stale_orders(events, trades)
    differ = {key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)}
    below = {key for key in differ if key in theirs and theirs[key][:2] == ("buy", Decimal(0))}
    return {
        "resting orders of theirs": len(theirs),
        "resting orders of ours": len(ours),
        "equal": len(theirs.keys() & ours.keys()) - len(differ & theirs.keys() & ours.keys()),
        "only theirs: price 0, refused here": len(below),
        "only theirs: stale in the snapshot": len(differ & stale),
        "unexplained": len(differ - below - stale),
    }


def main(
    out: Annotated[Path, typer.Argument(help="directory for the flow and the results")],
    data: Annotated[Path | None, typer.Option(help="directory of the recording; default: that of ob-analytics")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Convert, replay, compare, and print what agrees and what does not."""
    if data is None:
        data = Path(import_module("ob_analytics").sample_data_dir())
    out.mkdir(parents=True, exist_ok=True)
    flow_file, trades_file, book_file = out / "flow.jsonl.gz", out / "trades.jsonl", out / "book.json"
    events, theirs = read_events(data), read_trades(data)
    commands = list(convert(events, theirs))
    with gzip.open(flow_file, "wt", encoding="utf-8", compresslevel=6) as file:
        file.writelines(json.dumps(line, separators=(",", ":")) + "\n" for _, line in commands)
    report = replay(flow_file, trades=trades_file, book=book_file)

    ours = read_matches(trades_file)
    rejects = find_rejects(commands)
    books = compare_books(events, theirs, book_file)
    unexplained = sum(count for key, count in rejects.items() if key not in EXPLAINED_REJECTS)
    agreed = sum((Counter(ours) & Counter(theirs)).values())
    result = {
        "events": len(events),
        "commands": dict(Counter(kind for kind, _ in commands)),
        "rejects": {f"{kind} -> {reason}": count for (kind, reason), count in sorted(rejects.items())},
        "rejects unexplained": unexplained,
        "trades of theirs": len(theirs),
        "trades of ours": len(ours),
        "trades equal (price, quantity, maker, taker, aggressor)": agreed,
        "trades in the same order": ours == theirs,
        "books": books,
        "volume": report.volume,
        "commands_per_second": report.commands_per_second,
        "state_hash": report.state_hash,
    }
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _show(result)
    if unexplained or books["unexplained"] or ours != theirs:
        sys.exit(1)


def _show(result: dict[str, Any]) -> None:
    table = Table("what", "figure", title="Bitstamp through Hashpit")
    for name, value in result.items():
        if isinstance(value, dict):
            for key, figure in value.items():
                table.add_row(f"{name}: {key}", str(figure))
        else:
            table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
