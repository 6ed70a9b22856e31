"""The commands for live markets, and the bots that fill the demo's, against a real exchange."""

import asyncio
import io
import json
import random
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from gateway.wire import AskResult, BidView, FlowView
from hashpit import console
from hashpit.bots.bidder import Bidder, BidderSettings, next_price
from hashpit.bots.rig import Rig, RigSettings
from hashpit.client import Client
from hashpit.console import levels_that_fit
from hashpit.keys import load
from hashpit.levels import Level, Levels
from hashpit.live_cli import BAR, BAR_MIN, LEVELS, _with_unit, bar, picture
from hashpit.meter import SHARES_PER_S, Meter, MeterSettings
from tests.hashpit.conftest import Exchange
from tests.hashpit.test_bots import running
from tests.hashpit.test_cli import Shell, shell
from tests.hashpit.test_client import until
from tests.hashpit.test_levels import SNAPSHOT, terms
from tests.hashpit.test_live_exchange import CONFIG, LIVE, POOL

__all__ = ["shell"]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    exchange = Exchange(tmp_path_factory.mktemp("live") / "data", CONFIG)
    exchange.start()
    try:
        yield exchange
    finally:
        exchange.stop()


def test_a_live_market_by_commands(shell: Shell, tmp_path: Path) -> None:
    buyer, seller = (shell.open_account(name, tmp_path) for name in ("live-buyer", "live-seller"))
    placed = shell.run("ask", "place", LIVE, ".0004", "2", "--key", seller)
    assert "2.000 PH/s for at least 0.00040000 BTC/PH/s/day, 0.000 PH/s taken" in placed
    pool = shell.ask("pool", "save", "home", "SHA256", *POOL, "--key", buyer)
    assert "home" in shell.run("pool", "list", "--key", buyer)
    found = shell.ask("bid", "estimate", LIVE, "0.0005", "--limit", "1", "--budget", "0.01")
    assert (found["assigned"], found["full_price"]) == ("1.000", "0.00040000")
    told = shell.run("bid", "estimate", LIVE, "0.0003", "--limit", "1")
    assert re.search(r"would get +0.000 +PH/s", told)
    assert re.search(r"budget lasts +- ", told), "nothing lasts no time"
    bid = shell.ask("bid", "place", LIVE, "0.0005", "0.01", "--limit", "1", "--pool", pool["pool_id"], "--key", buyer)
    assert bid["assigned"] == "1.000"
    pegged = ("bid", "place", LIVE, "0.0006", "0.01", "--to", POOL[0], "--worker", "w", "--peg", "top", "--offset", "-.00001")
    assert "pays 0.00049000, at most 0.00060000 BTC/PH/s/day, without a limit, gets" in shell.run(*pegged, "--key", buyer)
    amended = shell.run("bid", "amend", bid["order_id"], "--price", "0.00055", "--limit", "0", "--key", buyer)
    assert "pays 0.00055000 BTC/PH/s/day, without a limit, gets 2.000 PH/s" in amended
    for told in ("no open order of that id [1301", "told before for that id: a new try takes a new one [1301"):
        assert told in shell.run("bid", "refill", "999999", "0.01", "--refill-id", "r", "--key", buyer, code=1)
    assert "0.02000000000 BTC left" in shell.run("bid", "refill", bid["order_id"], "0.01", "--key", buyer)
    offers = shell.ask("ask", "list", "--key", seller)
    assert [offer["assigned"] for offer in offers] == ["2.000"]
    assert "1.000 PH/s for" in shell.run("ask", "amend", offers[0]["order_id"], "--speed", "1", "--key", seller)
    for command in ("bid", "flow"):
        assert re.search(rf"{LIVE}.* PH/s ", shell.run(command, "list", "--key", buyer))
    assert re.search(rf"{LIVE}.* PH/s ", shell.run("ask", "list", "--key", seller))
    assert "is forgotten" in shell.run("pool", "delete", pool["pool_id"], "--key", buyer)
    assert "index 0.00052000" in shell.run("market", "index", LIVE, "0.00052", "--key", shell.exchange.admin)
    listed = shell.admin("market", "add-live", "SCRYPT", "--uniform", "--decrease-step", "0")
    assert (listed["market"], listed["pricing"], listed["decrease_step"]) == ("SCRYPT-LIVE", "uniform", None)
    assert "SCRYPT-LIVE" in shell.run("market", "list")
    assert "BTC/PH/s/day" in shell.run("live", LIVE, "--seconds", "0.5")
    lines = shell.run("live", LIVE, "--seconds", "0.5", "--json").splitlines()
    assert {json.loads(line)["type"] for line in lines} == {"snapshot"}
    ended = shell.run("cancel", bid["order_id"], "--key", buyer)
    assert re.search(r"canceled: 0\.0+ BTC spent, 0\.0\d+ BTC returned; what its last work", ended)
    assert "canceled: 1" in shell.run("cancel", "--all", "--key", buyer)
    assert "1.000" in shell.run("ask", "list", "--key", seller)
    assert "is a live market" in shell.run("watch", LIVE, "--seconds", "1", code=1)
    assert "is not listed" in shell.run("live", "NONE", code=1)
    for orders in (("book", LIVE), ("place", LIVE, "buy", "1", "--price", "1", "--key", buyer)):
        assert "bid and ask for live ones [1109" in shell.run(*orders, code=1)
    refused = shell.run("bid", "place", LIVE, "0.0005", "0.00001", "--pool", pool["pool_id"], "--key", buyer, code=1)
    assert "pool_unknown" in refused


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("bid", "amend", "--price", "1"), "name the order by"),
        (("bid", "amend", "7"), "say what changes: --price"),
        (("ask", "amend", "7"), "say what changes: --price"),
        (("bid", "amend", "7", "--to", POOL[0]), "--to and --worker go together"),
        (("bid", "amend", "7", "--pool", "1", "--to", POOL[0], "--worker", "w"), "by --pool, or by --to and --worker"),
        (("bid", "place", LIVE, "1", "1"), "by --pool, or by --to and --worker"),
        (("bid", "place", LIVE, "1", "1", "--pool", "1", "--offset", "1"), "--offset and --floor go with --peg"),
    ],
)
def test_mistakes_are_told_in_words_of_the_command_line(shell: Shell, arguments: tuple[str, ...], told: str) -> None:
    assert told in shell.run(*arguments, "--key", shell.exchange.admin, code=2)


async def test_what_was_done_is_told_even_when_its_unit_is_not_known() -> None:
    done = AskResult(7, "", LIVE, "open", "0.0004", "2.000", "0.000", 0, False)
    client = Client(url="ws://127.0.0.1:1/ws")
    assert await _with_unit(client, done, as_json=False) == (done, "unit")
    assert await _with_unit(client, done, as_json=True) == (done, "")


# --- The picture ------------------------------------------------------------------------------------------------------


def test_bars_say_what_is_assigned_and_what_could_be() -> None:
    assert bar(Level(1, 100, 50), 100, "red").plain == "█" * (BAR // 2) + "░" * (BAR // 2)
    assert bar(Level(1, 50, 0), 100, "red").plain == "░" * (BAR // 2)
    assert bar(Level(1, None, 100), 100, "red").plain == "█" * BAR + "→"
    assert bar(Level(1, 1, 1), 1_000_000, "red").plain == "█", "never nothing"


def test_the_margin_is_drawn_behind_the_last_bid_that_has_hashrate() -> None:
    info, levels = terms(), Levels(terms())
    screen = Console(width=120, record=True, file=io.StringIO())
    screen.print(picture(info, levels, None, True))
    assert "margin" not in screen.export_text()
    levels.apply(SNAPSHOT)
    screen.print(picture(info, levels, None, False))
    text = screen.export_text()
    assert text.index("bid") < text.index("margin")
    assert "no limit" in text
    assert "reconnecting" in text


def test_a_picture_fits_a_small_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    info, levels = terms(), Levels(terms())
    levels.apply(SNAPSHOT)
    small = Console(width=60, height=11, record=True, file=io.StringIO(), force_terminal=True)
    monkeypatch.setattr(console, "out", small)
    assert levels_that_fit(LEVELS) == 3
    small.print(picture(info, levels, None, True, 1, BAR_MIN))
    text = small.export_text()
    assert "…" not in text, "no number is cut"
    assert (text.count("ask"), text.count("bid")) == (1, 1)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 60


# --- The bots ---------------------------------------------------------------------------------------------------------


def settings(market: str = LIVE) -> BidderSettings:
    return BidderSettings(
        market=market,
        limit="2.000",
        price_max="0.00051",
        price_start="0.0004",
        budget="0.001",
        url=POOL[0],
        worker=POOL[1],
        step="0.00002",
        every_s=0.02,
    )


@pytest.mark.parametrize(
    ("price", "assigned", "status", "wanted"),
    [
        ("0.0004", "1.000", "open", "0.00042"),
        ("0.0005", "1.000", "open", "0.00051"),
        ("0.0005", "2.000", "open", "0.000498"),
        ("0.00000001", "2.000", "open", "0.00000001"),
        ("0.0005", "0.000", "stopped", "0.0005"),
    ],
)
def test_a_bidder_pays_as_much_as_it_has_to(price: str, assigned: str, status: str, wanted: str) -> None:
    view = BidView(1, "", LIVE, "open", price, price, "2.000", assigned, "1", "0", "1", "", "", "none", "0", None, 0, 0)
    view.status = "stopped" if status == "stopped" else "open"
    assert next_price(view, terms(), settings()) == Decimal(wanted)


async def test_bidders_rigs_and_the_meter_make_a_market(exchange: Exchange) -> None:
    async with Client(exchange.url, load(exchange.admin)) as admin:
        keys = [await exchange.open_account(f"bot-{name}") for name in ("bidder", "rig")]
        meters = await exchange.open_account("bot-meter", "meter")
        async with (
            Client(exchange.url, keys[0]) as buyer,
            Client(exchange.url, keys[1]) as seller,
            Client(exchange.url, meters) as counting,
        ):
            rig = RigSettings(market=LIVE, price="0.00044", speed="1.5", on_s=0.3, off_s=0.1)
            rigs = [Rig(seller, rig, random.Random(seed)) for seed in range(3)]
            meter = Meter(counting, MeterSettings(every_s=0.1, sloppy_share=0))
            async with running(Bidder(buyer, settings()).run(), meter.run(), *(one.run() for one in rigs)) as tasks:
                seen = 0
                for _ in range(100):
                    bids = (await buyer.live_orders(LIVE)).bids
                    seen += bool(bids) and Decimal(bids[0].assigned) > 0
                    if seen > 5 and meter.reports > 20 and Decimal(bids[0].spent) > 0:
                        break
                    await asyncio.sleep(0.1)
                assert seen > 5
                assert Decimal(bids[0].price) <= Decimal("0.00051")
                await admin.set_market_state(LIVE, "closed")
                await until(lambda: all(task.done() for task in [tasks[0], *tasks[2:]]))
                await until(lambda: not meter._flows)


def test_a_meter_proves_what_flows() -> None:
    def flow(**more: object) -> FlowView:
        view = FlowView(7, LIVE, "meter", "running", 3, "1", "1.000", str(10**15), "0", "0", "0", "0", "", "", 0, 0)
        for name, value in more.items():
            setattr(view, name, value)
        return view

    meter = Meter(Client(), MeterSettings(sloppy_share=0))
    first = meter.proven(flow(), 1_000_000_000)
    assert first == pytest.approx(10**18, rel=0.1)
    assert first % (10**15 // SHARES_PER_S) == 0
    assert meter.proven(flow(hashes=str(first)), 1_000_000_000) == first, "nothing has passed"
    ended = flow(state="closing", hashrate="0", ended_us=1_500_000_000, hashes=str(first))
    last = meter.proven(ended, 2_000_000_000) - first
    assert last == pytest.approx(5 * 10**17, rel=0.15), "at the speed of before, to its end"
    assert meter.proven(flow(flow_id=8, hashes="5"), 1_000_000_000) == 5, "an earlier meter's"


def test_a_report_that_did_not_arrive_is_made_up_for() -> None:
    meter = Meter(Client(), MeterSettings(sloppy_share=0))
    view = FlowView(7, LIVE, "meter", "running", 3, "1", "1.000", str(10**15), "0", "0", "0", "0", "", "", 0, 0)
    lost = meter.proven(view, 1_000_000_000)
    assert lost
    assert meter.proven(view, 1_000_000_000) == lost, "the exchange has nothing of it on record"
    view.hashes = str(lost + 10**18)
    assert meter.proven(view, 1_000_000_000) == lost + 10**18, "another meter reported more"
