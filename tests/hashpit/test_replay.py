"""The replay against what a reader of its docstring expects: formats, refusals, credit, bounds, and equal results."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.invariants import check
from engine.types import Side
from hashpit import replay as module
from hashpit.replay import FlowError, LineError, Replay, Report, replay

Line = dict[str, Any]


def place(id: str, side: str, qty: str, price: str | None = None, **more: str) -> Line:
    line: Line = {"op": "place", "id": id, "side": side, "qty": qty}
    return line | ({"price": price} if price is not None else {"type": "market"}) | more


def run_all(lines: Iterable[Line], tick: str = "0.01", lot: str = "0.00000001") -> tuple[Replay, list[Any]]:
    run = Replay(tick, lot)
    trades = [trade for line in lines for trade in run.feed(json.dumps(line).encode())]
    check(run.engine)
    return run, trades


def write(folder: Path, lines: Iterable[Line | str], zipped: bool = False) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines).encode()
    file = folder / ("flow.jsonl.gz" if zipped else "flow.jsonl")
    file.write_bytes(gzip.compress(text) if zipped else text)
    return file


EXAMPLE = [
    place("a1", "buy", "1.6002045", "6190.84", type="limit", tif="gtc"),
    place("a2", "buy", "0.5", "6190.84"),
    {"op": "amend", "id": "a1", "qty": "1.0"},
    place("a3", "sell", "1.2", type="market"),
    place("a4", "sell", "2", "6191.0"),
    {"op": "cancel", "id": "a2"},
    {"op": "cancel", "id": "a2"},
]


@pytest.mark.parametrize("zipped", [False, True])
def test_example(tmp_path: Path, zipped: bool) -> None:
    out, book = tmp_path / "trades.jsonl", tmp_path / "book.json"
    report = replay(write(tmp_path, [*EXAMPLE, ""], zipped), trades=out, book=book)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"price": "6190.84", "qty": "1.00000000", "maker_id": "a1", "taker_id": "a3", "aggressor": "sell"},
        {"price": "6190.84", "qty": "0.20000000", "maker_id": "a2", "taker_id": "a3", "aggressor": "sell"},
    ]
    assert json.loads(book.read_text()) == {"bids": [], "asks": [["6191.00", "2.00000000", "a4"]]}
    assert (report.commands, report.trades, report.rejects, report.volume) == (7, 2, 1, "1.20000000")
    assert report.rejects_by_reason == {"ORDER_UNKNOWN": 1}
    assert len(report.state_hash) == 64
    assert report.commands_per_second > 0


def test_book_is_in_priority_order() -> None:
    lines = [
        place("b1", "buy", "1", "10"),
        place("b2", "buy", "1", "11"),
        place("b3", "buy", "2", "10"),
        {"op": "amend", "id": "b1", "qty": "3"},  # more: goes to the end of its queue
        {"op": "amend", "id": "b3", "qty": "1"},  # less: stays
        place("s1", "sell", "1", "12"),
        place("s2", "sell", "1", "11.5"),
    ]
    run, _ = run_all(lines, lot="1")
    assert [flow_id for *_, flow_id in run.orders(Side.BUY)] == ["b2", "b3", "b1"]
    assert [flow_id for *_, flow_id in run.orders(Side.SELL)] == ["s2", "s1"]


@pytest.mark.parametrize(
    ("lines", "trades", "rejects"),
    [
        pytest.param([place("m", "buy", "1")], [], {}, id="market order in an empty book just ends"),
        pytest.param(
            [place("s", "sell", "1", "9000000"), place("m", "buy", "2")],
            [(900_000_000, 1, "s", "m", Side.BUY)],
            {},
            id="market order takes any price",
        ),
        pytest.param(
            [place("b", "buy", "1", "0.01"), place("m", "sell", "1", tif="gtc")],
            [(1, 1, "b", "m", Side.SELL)],
            {},
            id="market order never rests",
        ),
        pytest.param(
            [place("s", "sell", "1", "5"), place("f", "buy", "2", "5", tif="fok")],
            [],
            {"FILL_OR_KILL_UNFILLABLE": 1},
            id="fok",
        ),
        pytest.param(
            [place("s", "sell", "1", "5"), place("f", "buy", "2", tif="fok")],
            [],
            {"FILL_OR_KILL_UNFILLABLE": 1},
            id="market fok",
        ),
        pytest.param(
            [place("s", "sell", "1", "5"), place("i", "buy", "2", "5", tif="ioc"), {"op": "cancel", "id": "i"}],
            [(500, 1, "s", "i", Side.BUY)],
            {"ORDER_UNKNOWN": 1},
            id="ioc",
        ),
        pytest.param(
            [place("s", "sell", "1", "5"), place("p", "buy", "1", "5", post_only="reject")],
            [],
            {"POST_ONLY_WOULD_TAKE": 1},
            id="post-only",
        ),
        pytest.param([place("s", "sell", "1", "5"), place("s", "sell", "1", "5")], [], {"DUPLICATE_ID": 1}, id="duplicate id"),
        pytest.param(
            [place("s", "sell", "1", "5"), {"op": "cancel", "id": "s"}, place("s", "sell", "1", "5")],
            [],
            {},
            id="id of a closed order is free",
        ),
        pytest.param(
            [place("s", "sell", "1", "5"), place("b", "buy", "1", "5"), {"op": "amend", "id": "s", "qty": "2"}],
            [(500, 1, "s", "b", Side.BUY)],
            {"ORDER_UNKNOWN": 1},
            id="amend of a filled order",
        ),
        pytest.param(
            [place("b", "buy", "1", "4"), place("s", "sell", "3", "5"), {"op": "amend", "id": "b", "price": "5", "qty": "2"}],
            [(500, 2, "s", "b", Side.BUY)],
            {},
            id="amend up and across",
        ),
        pytest.param(
            [
                place("b", "buy", "3", "5"),
                place("s", "sell", "2", "5"),
                {"op": "amend", "id": "b", "qty": "2"},
                {"op": "cancel", "id": "b"},
            ],
            [(500, 2, "b", "s", Side.SELL)],
            {"ORDER_UNKNOWN": 1},
            id="amend to what has filled ends the order",
        ),
        pytest.param(
            [place("b", "buy", "3", "5"), {"op": "amend", "id": "b", "qty": "0"}, {"op": "cancel", "id": "b"}],
            [],
            {"ORDER_UNKNOWN": 1},
            id="amend to nothing ends the order",
        ),
        pytest.param(
            [place("b", "buy", "3", "5"), {"op": "amend", "id": "b", "price": "0"}, {"op": "amend", "id": "b"}],
            [],
            {"PRICE_TOO_LOW": 1, "AMEND_EMPTY": 1},
            id="amends that are refused",
        ),
        pytest.param(
            [
                place("z", "buy", "1", "0"),
                place("y", "buy", "0", "1"),
                place("x", "buy", "1", "99999999999"),
                place("w", "buy", str(2**48 + 1), "1"),
                place("v", "buy", "1", "5", type="market"),
            ],
            [],
            {"PRICE_TOO_LOW": 1, "QTY_TOO_SMALL": 1, "PRICE_TOO_HIGH": 1, "QTY_TOO_LARGE": 1, "PRICE_NOT_ALLOWED": 1},
            id="out of bounds",
        ),
        pytest.param(
            [place("s", "sell", "1", "5", account="x"), place("b", "buy", "1", "5", account="x")],
            [(500, 1, "s", "b", Side.BUY)],
            {},
            id="orders of one named account may meet",
        ),
    ],
)
def test_commands(lines: list[Line], trades: list[Any], rejects: dict[str, int]) -> None:
    run, found = run_all(lines, lot="1")
    assert found == trades
    assert dict(run.rejects) == rejects
    assert run.commands == len(lines)


def test_biggest_order_is_funded() -> None:
    """At a price near the top, the engine's own bound on money is what refuses, never a lack of credit."""
    run, _ = run_all(
        [place("a", "buy", "175000000000", "10995116277.76"), place("b", "buy", "200000000000", "10995116277.76")], lot="1"
    )
    assert dict(run.rejects) == {"NOTIONAL_TOO_LARGE": 1}
    assert len(list(run.orders(Side.BUY))) == 1


def test_credit_has_an_end_and_says_so() -> None:
    run, _ = run_all([place(f"b{n}", "buy", "175000000000", "10995116277.76") for n in range(3)], lot="1")
    assert dict(run.rejects) == {"FUNDS_INSUFFICIENT": 2}


def test_accounts_follow_the_open_orders() -> None:
    lines: list[Line] = []
    for n in range(300):
        lines += [place(f"b{n}", "buy", "1", "5"), place(f"s{n}", "sell", "1", "5"), place(f"m{n}", "sell", "1")]
    run, trades = run_all(lines)
    assert len(trades) == 300
    assert len(run.engine.accounts) <= 2 + 1 + 2  # house, shared by market orders, two for orders that may rest


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"op":"place","id":"a","side":"buy","price":"1"}', "`qty`"),
        ('{"op":"place","id":"a","side":"buy","qty":"1"}', "price: a limit order carries a price"),
        ('{"op":"place","id":"a","side":"bid","qty":"1","price":"1"}', "side: "),
        ('{"op":"place","id":"a","side":"buy","qty":1.5,"price":"1"}', "qty: Expected `str`"),
        ('{"op":"place","id":"a","side":"buy","qty":"1","price":"1.001"}', "price: at most 2 decimals"),
        ('{"op":"place","id":"a","side":"buy","qty":"1e3","price":"1"}', "qty: "),
        ('{"op":"place","id":"a","side":"buy","qty":"-1","price":"1"}', "qty: "),
        ('{"op":"place","id":"a","side":"buy","qty":"1","price":"1..0"}', "price: "),
        ('{"op":"place","id":"a","side":"buy","qty":"1","price":"1","tif":"gtd"}', "tif: "),
        ('{"op":"place","id":"a","side":"buy","qty":"1","price":"1","typo":""}', "`typo`"),
        ('{"op":"place","id":"","side":"buy","qty":"1","price":"1"}', "id: "),
        ('{"op":"amend","id":"a","qty":"1.000000001"}', "qty: at most 8 decimals"),
        ('{"op":"move","id":"a"}', "op: "),
        ("x" * 70_000, "longer than 65536 bytes"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(FlowError, match=r"^line 2: ") as caught:
        replay(write(tmp_path, [place("ok", "buy", "1", "1"), line]))
    assert says in str(caught.value)


def test_line_that_is_not_utf8() -> None:
    with pytest.raises(FlowError, match="not UTF-8"):
        Replay().feed(b'{"op":"cancel","id":"\xff"}')


def test_zeros_at_the_end_do_no_harm() -> None:
    run, _ = run_all([place("a", "buy", "2.000", "1.500")], lot="1")
    assert list(run.orders(Side.BUY)) == [(150, 2, "a")]


def test_longest_id_and_one_past_it(tmp_path: Path) -> None:
    longest = "i" * module.ID_CHARS_MAX
    assert replay(write(tmp_path, [place(longest, "buy", "1", "1")])).rejects == 0
    with pytest.raises(FlowError, match="line 1: id: "):
        replay(write(tmp_path, [place(longest + "i", "buy", "1", "1")]))


def test_longest_line_and_one_past_it(tmp_path: Path) -> None:
    line = json.dumps(place("a", "buy", "1", "1"))
    padded = line + " " * (module.LINE_BYTES_MAX - 1 - len(line))
    assert replay(write(tmp_path, [padded])).commands == 1
    with pytest.raises(FlowError, match="line 1: longer"):
        replay(write(tmp_path, [padded + " "]))


def test_skip_bad(tmp_path: Path) -> None:
    report = replay(write(tmp_path, ["{", place("ok", "buy", "1", "1"), "[]"]), skip_bad=True)
    assert (report.commands, report.skipped, report.rejects) == (1, 2, 0)


@pytest.mark.parametrize(("tick", "lot"), [("0", "1"), ("1", "x"), ("1e-2", "1"), ("-1", "1"), ("", "1")])
def test_bad_steps(tick: str, lot: str) -> None:
    with pytest.raises(FlowError, match=r"^(tick|lot): expected a plain decimal"):
        Replay(tick, lot)


@pytest.mark.parametrize("cut", [slice(0, -12), slice(0, 30)])
def test_damaged_gzip(tmp_path: Path, cut: slice) -> None:
    file = write(tmp_path, EXAMPLE, zipped=True)
    file.write_bytes(file.read_bytes()[cut])
    with pytest.raises(FlowError, match="the gzip file is damaged"):
        replay(file)


def random_flow(seed: int, count: int) -> list[Line]:
    """Every op, side, type and time in force, crossing often; ids are used again now and then."""
    rng = random.Random(seed)
    lines: list[Line] = []
    for n in range(count):
        chance = rng.random()
        known = f"o{max(0, n - rng.randrange(1, 40))}"
        price, qty = str(rng.randrange(95, 106)), str(rng.randrange(1, 20))
        if chance < 0.6:
            more = {"tif": rng.choice(["gtc", "gtc", "gtc", "ioc", "fok"])}
            if rng.random() < 0.2:
                more["account"] = rng.choice("xyz")
            market = rng.random() < 0.1
            lines.append(place(f"o{n}", rng.choice(["buy", "sell"]), qty, None if market else price, **more))
        elif chance < 0.8:
            lines.append({"op": "cancel", "id": known})
        else:
            lines.append({"op": "amend", "id": known, "qty": qty} | ({"price": price} if rng.random() < 0.5 else {}))
    return lines


class NaiveBook:
    """Price-time matching by sorting a list: obvious, slow, and written without looking at the engine."""

    def __init__(self) -> None:
        self.resting: list[Line] = []
        self.clock = 0

    def do(self, line: Line) -> list[Any]:
        self.clock += 1
        found = next((order for order in self.resting if order["id"] == line["id"]), None)
        if line["op"] == "cancel":
            if found:
                self.resting.remove(found)
            return []
        if line["op"] == "amend":
            if not found:
                return []
            price, total = int(line.get("price") or found["price"]), int(line["qty"])
            if total <= found["filled"]:
                self.resting.remove(found)
            elif price == found["price"] and total <= found["filled"] + found["left"]:
                found["left"] = total - found["filled"]
            else:
                self.resting.remove(found)
                found |= {"price": price, "left": total - found["filled"], "time": self.clock}
                return self.enter(found, rests=True)
            return []
        if found:
            return []
        market = line.get("type") == "market"
        price = int(line["price"]) if not market else (10**9 if line["side"] == "buy" else 0)
        order = {"id": line["id"], "buy": line["side"] == "buy", "price": price}
        order |= {"left": int(line["qty"]), "filled": 0, "time": self.clock}
        if line["tif"] == "fok" and sum(other["left"] for other in self.opposite(order)) < order["left"]:
            return []
        return self.enter(order, rests=line["tif"] == "gtc" and not market)

    def opposite(self, order: Line) -> list[Line]:
        sign = 1 if order["buy"] else -1
        others = [o for o in self.resting if o["buy"] != order["buy"] and o["price"] * sign <= order["price"] * sign]
        return sorted(others, key=lambda other: (other["price"] * sign, other["time"]))

    def enter(self, order: Line, rests: bool) -> list[Any]:
        trades = []
        for other in self.opposite(order):
            qty = min(order["left"], other["left"])
            if not qty:
                break
            for one in (order, other):
                one["left"] -= qty
                one["filled"] += qty
            if not other["left"]:
                self.resting.remove(other)
            aggressor = Side.BUY if order["buy"] else Side.SELL
            trades.append((other["price"], qty, other["id"], order["id"], aggressor))
        if order["left"] and rests:
            self.resting.append(order)
        return trades


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_naive_book(seed: int) -> None:
    lines = random_flow(seed, 1_500)
    naive = NaiveBook()
    expected = [trade for line in lines for trade in naive.do(line)]
    run, trades = run_all(lines, tick="1", lot="1")
    assert len(trades) > 100
    assert trades == expected
    for side in Side:
        sign = -1 if side is Side.BUY else 1
        resting = [order for order in naive.resting if order["buy"] == (side is Side.BUY)]
        resting.sort(key=lambda order: (order["price"] * sign, order["time"]))
        assert list(run.orders(side)) == [(order["price"], order["left"], order["id"]) for order in resting]


def test_same_flow_same_hash(tmp_path: Path) -> None:
    flow = write(tmp_path, random_flow(7, 500))
    first, second = replay(flow, tick="1", lot="1"), replay(flow, tick="1", lot="1")
    assert first.state_hash == second.state_hash
    assert (first.trades, first.rejects_by_reason) == (second.trades, second.rejects_by_reason)


def test_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "PROGRESS_LINES", 1)
    assert isinstance(replay(write(tmp_path, EXAMPLE, zipped=True), progress=True), Report)
    captured = capsys.readouterr()
    assert captured.out == ""


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hashpit.replay", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_command_line(tmp_path: Path) -> None:
    good = command(write(tmp_path, EXAMPLE), "--trades", tmp_path / "t.jsonl")
    assert good.returncode == 0, good.stderr
    report = json.loads(good.stdout)
    assert (report["commands"], report["trades"], report["rejects"]) == (7, 2, 1)
    assert len((tmp_path / "t.jsonl").read_text().splitlines()) == 2

    bad = command(write(tmp_path, ['{"op":"cancel"}']))
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert "line 1: " in bad.stderr
    assert "`id`" in bad.stderr

    assert command(tmp_path / "missing.jsonl").returncode == 2


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    trades, book = tmp_path / "t.jsonl", tmp_path / "b.json"
    trades.write_text("of an earlier run")
    bad = write(tmp_path, [*EXAMPLE, '{"op":"cancel"}'])
    with pytest.raises(LineError, match="line "):
        replay(bad, trades=trades, book=book)
    assert trades.read_text() == "of an earlier run"
    assert not book.exists()
    assert not [*tmp_path.glob("*.part")]
    replay(bad, trades=trades, book=book, skip_bad=True)
    assert len(trades.read_text().splitlines()) == 2
    assert set(json.loads(book.read_text())) == {"bids", "asks"}


def test_a_flow_without_any_command(tmp_path: Path) -> None:
    done = command(write(tmp_path, ["{}", "what"]), "--skip-bad")
    assert done.returncode == 2
    assert "not one of its 2 lines is a command" in done.stderr


def test_the_file_is_named_for_its_lines_only(tmp_path: Path) -> None:
    flow = write(tmp_path, EXAMPLE)
    assert command(flow, "--tick", "x").stderr.startswith("hashpit replay: tick: ")
    assert f"{flow}: line 1: " in command(write(tmp_path, ["{}"])).stderr
