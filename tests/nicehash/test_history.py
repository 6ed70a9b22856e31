"""What the engine does not keep: it adds up to what the engine says, and it is bounded."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.commands import AmendAsk, Cancel, Deposit, Entry
from engine.core import Engine
from engine.events import BalanceChanged, BidEnded, Event
from engine.markets.live import Bid
from engine.types import BalanceReason, Pricing
from gateway.nicehash import history as history_module
from gateway.nicehash import public
from gateway.nicehash.catalog import Catalog
from gateway.nicehash.history import CANDLES_MAX, DAY_ROWS, ROW_SAMPLES, ROWS_MAX, History, Past, Row
from gateway.nicehash.stomp import Feed, StompSession
from gateway.nicehash.views import view_of
from tests.nicehash.venue import FACTORS, MARKET, Account, Venue, live_spec
from tests.reference.exchange import NaiveExchange
from tests.reference.live_stream import LIVE_SMALL, LiveStream

ORDER = "/main/api/v2/hashpower/order"


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


def agree(engine: Engine, history: History) -> None:
    """The projection has what the engine has."""
    assert set(history.markets) == set(engine.live.markets)
    for symbol, listed in engine.live.markets.items():
        market = history.markets[symbol]
        bids = {number: order for number, order in listed.orders.items() if isinstance(order, Bid)}
        assert {number: (bid.price, bid.spent, bid.budget) for number, bid in market.bids.items()} == {
            number: (bid.price, bid.spent, bid.budget) for number, bid in bids.items()
        }
        assert {number: (bid.speed, bid.flows) for number, bid in market.bids.items()} == {
            number: (bid.assigned, len(bid.flows)) for number, bid in bids.items()
        }
        assert market.speed == listed.crossing.bid_total
        assert market.flows == sum(len(bid.flows) for bid in bids.values())
        assert market.value == sum(bid.price * bid.assigned for bid in bids.values())
        paid = listed.marginal * market.speed if listed.is_uniform else market.value
        assert market.row(0).value == paid


def test_the_projection_adds_up_to_the_engine(venue: Venue) -> None:
    rng = Random("history")
    clients = [venue.client(10) for _ in range(3)]
    asks = [venue.seller(rng.randint(20_000, 60_000), rng.randint(500, 3_000)) for _ in range(4)]
    orders: list[tuple[Account, str]] = []
    for _ in range(150):
        client = rng.choice(clients)
        act = rng.random()
        if act < 0.3 or not orders:
            price = f"0.{rng.randint(20_000, 70_000):05}"
            limit = rng.choice(("0", "0.0005", "0.002"))
            orders.append((client, venue.order(client, price=price, limit=limit, amount="0.003")["id"]))
        elif act < 0.5:
            owner, order = rng.choice(orders)
            price = f"0.{rng.randint(20_000, 70_000):05}"
            venue.ask("POST", f"{ORDER}/{order}/updatePriceAndLimit", owner, {"price": price, "limit": "0.001", **FACTORS})
        elif act < 0.6:
            owner, order = rng.choice(orders)
            venue.ask("POST", f"{ORDER}/{order}/refill", owner, {"amount": "0.001"})
        elif act < 0.7:
            owner, order = rng.choice(orders)
            venue.ask("DELETE", f"{ORDER}/{order}", owner)
        elif act < 0.8:
            ask = rng.choice(asks)
            account = venue.engine.live.orders[ask].account.account_id if ask in venue.engine.live.orders else 1
            venue.stage.do(AmendAsk(account, ask, speed=rng.randint(500, 3_000)))
        else:
            venue.wait(rng.randint(1, 1_200))
            for flow in [*venue.engine.live.flowing.by_id.values()]:
                venue.report(flow.flow_id, flow.hashes + rng.randint(0, 10**18))
        agree(venue.engine, venue.service.history)
        started = History()
        started.start(venue.engine)
        agree(venue.engine, started)
    for client in clients:
        changes = sum(payment.amount for payment in venue.service.history.payments(client.account))
        assert changes == venue.engine.accounts[client.account].balance


@pytest.mark.parametrize("seed", range(300, 306))
def test_the_projection_and_the_feed_follow_any_stream(seed: int) -> None:
    """Pegs, uniform prices, budgets that run out, markets that close, ids that repeat: nothing that happens is too much."""
    oracle, engine = NaiveExchange(LIVE_SMALL), Engine(LIVE_SMALL)
    history = History()
    history.start(engine)
    catalog = Catalog(engine.live.markets)
    feed = Feed(catalog, history)
    frames: list[bytes] = []
    ended: dict[int, int] = {}
    for entry in LiveStream(oracle, seed).entries(700):
        oracle.apply(entry)
        events = engine.apply(entry)
        history.publish(entry, events)
        feed.publish(events)
        history.tick(entry.ts_ns)
        feed.candles()
        ended |= {event.order_id: event.account for event in events if isinstance(event, BidEnded)}
        if entry.seq % 25 == 0:
            agree(engine, history)
            listener = StompSession(feed, frames.append, lambda: None, lambda tokens: True)
            listener.receive(b"CONNECT\naccept-version:1.2\n\n\0")
            for number, quoted in enumerate(catalog.all_quoted()):
                topic = f"/tradingview/order-changes/{quoted.algorithm.name}/{quoted.spec.symbol}"
                listener.receive(f"SUBSCRIBE\nid:{number}\ndestination:{topic}\n\n\0".encode())
    assert ended
    assert not any(frame.startswith(b"ERROR") for frame in frames)
    for order_id, account in ended.items():
        placed = history.ended(account, order_id)
        assert placed is not None
        view_of(placed, engine.accounts[account], placed.spec, catalog, entry.ts_ns)


def test_payments_of_an_hour_are_one(venue: Venue) -> None:
    venue.seller(30_000, 1_000)
    client = venue.client()
    order = venue.order(client)
    [flow] = venue.engine.live.flowing.by_id
    for minute in range(1, 121):
        venue.wait(60)
        venue.report(flow, minute * 60 * 10**15)
    paid = venue.call("GET", f"/main/api/v2/accounting/hashpower/{order['id']}/transactions", client)["transactions"]
    assert len(paid) == 4, "the fee, and the hours from 12 to 14"
    total = sum(payment.amount for payment in venue.service.history.payments(client.account, ("spent",)))
    # two hours of 0.001 EH at 0.5 BTC per EH and day, and 3 %: whole msat, rounded down each
    assert total == -(4_166_666 + 124_999)
    seller = venue.engine.live.flowing.by_id[flow].ask.account.account_id
    earned = venue.service.history.payments(seller, ("earned",))
    assert sum(payment.amount for payment in earned) == venue.engine.accounts[seller].balance


def test_ended_orders_and_payments_are_bounded_per_account() -> None:
    past = Past(ended_max=3, payments_max=3)
    for number in range(5):
        past.pay(number, "deposit", 1)
        past.pay(number, "spent", -1, order_id=number)
    assert [payment.number for payment in past.payments] == [8, 9, 10]
    assert len(past._running) <= 3


def test_the_account_that_was_quiet_longest_is_forgotten(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    history = History(accounts_max=2, ended_max=2)
    history.start(venue.engine)
    publish = venue.stage.publish

    def both(entry: Entry, events: list[Event]) -> None:
        publish(entry, events)
        history.publish(entry, events)

    venue.stage.publish = both
    clients = [venue.client() for _ in range(3)]
    assert [len(history.payments(client.account)) for client in clients] == [0, 1, 1]
    client = clients[2]
    ids = [venue.order(client)["id"] for _ in range(3)]
    for order in ids:
        venue.call("DELETE", f"{ORDER}/{order}", client)
    assert [bid.order_id for bid in history.all_ended(client.account)] == [int(order[-12:], 16) for order in ids[1:]]
    assert history.ended(client.account, int(ids[0][-12:], 16)) is None


def test_what_is_remembered_of_all_accounts_is_bounded(venue: Venue) -> None:
    history = History(kept_max=4)
    history.start(venue.engine)

    def deposit(account: int, number: int) -> None:
        history.publish(
            Entry(1, number, Deposit(account, 1, "x")),
            [BalanceChanged(account, number, 1, BalanceReason.DEPOSIT, str(number), 1, 0)],
        )

    for number, account in enumerate((100, 101, 100, 102, 101, 102)):
        deposit(account, number)
    # the fifth is one too many: of three accounts the first was quiet longest
    assert [len(history.payments(account)) for account in (100, 101, 102)] == [0, 2, 2]
    for number in range(9):
        deposit(103, number)
    assert [len(history.payments(account)) for account in (101, 102, 103)] == [0, 0, 9], "one's own bounds are others"


def test_work_that_is_reported_after_the_end_is_in_the_order(venue: Venue) -> None:
    venue.seller(30_000, 1_000)
    client = venue.client()
    order = venue.order(client)
    venue.wait(60)
    [flow] = venue.engine.live.flowing.by_id
    venue.call("DELETE", f"{ORDER}/{order['id']}", client)
    assert venue.call("GET", f"{ORDER}/{order['id']}", client)["payedAmount"] == "0"
    venue.report(flow, 60 * 10**15, final=True)
    assert venue.call("GET", f"{ORDER}/{order['id']}", client)["payedAmount"] == "0.00000035763"


def test_ended_orders_that_wait_for_work_are_bounded(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "CLOSING_MAX", 2)
    client = venue.client()
    for _ in range(4):
        venue.call("DELETE", f"{ORDER}/{venue.order(client)['id']}", client)
    assert len(venue.service.history._closing) == 2


# --- as time passes


def stats(venue: Venue, which: str) -> Any:
    [row] = venue.call("GET", f"/main/api/v2/public/stats/global/{which}/")["algos"]
    return row


def test_statistics(venue: Venue) -> None:
    venue.seller(30_000, 3_000)
    one, two = venue.client(), venue.client()
    venue.order(one, price="0.5", limit="0.001")
    venue.order(two, price="0.8", limit="0.002")
    row = stats(venue, "current")
    assert (row["a"], row["s"], row["r"], row["o"]) == (35, 3 * 10**15, 2, 2)
    # a third at 0.5, two at 0.8: 0.7 BTC per EH and day, 7 x 10^7 sat for 10^18 H/s
    assert row["p"] == 7e-11
    [paying] = venue.call("GET", "/main/api/v2/public/simplemultialgo/info/")["miningAlgorithms"]
    assert paying["paying"] == "0.00000000007"
    summary = venue.call("GET", "/main/api/v2/hashpower/orders/summary", query="market=EU&algorithm=SHA256ASICBOOST")
    assert (summary["payingPrice"], summary["acceptedRigSpeed"]) == ("0.7", "0.003")


def test_a_uniform_market_pays_its_marginal_price(tmp_path: Path) -> None:
    venue = Venue(tmp_path, spec=live_spec(pricing=Pricing.UNIFORM))
    venue.seller(30_000, 3_000)
    venue.order(venue.client(), price="0.5", limit="0.001")
    venue.order(venue.client(), price="0.8", limit="0.002")
    assert stats(venue, "current")["p"] == 5e-11


def test_the_history_has_a_row_every_five_minutes(venue: Venue) -> None:
    venue.seller(30_000, 3_000)
    client = venue.client()
    order = venue.order(client, price="0.5", limit="0.001")
    for _ in range(20):
        venue.wait(30)
    rows = venue.call("GET", "/main/api/v2/public/algo/history", query="algorithm=SHA256ASICBOOST")
    first = rows[0][0]
    assert [row[0] - first for row in rows] == [0, 300, 600]
    assert rows[-1][1:] == [10**15, 5e-11, 0]
    data = venue.call("GET", f"{ORDER}/{order['id']}/stats", client)
    assert [row[1:] for row in data["data"]] == [[1, 0.001, 0.001, 0.5, 0]] * 4
    assert data["columns"][0] == "time"


def test_the_history_is_written_down_once_per_row(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ("GET", "/main/api/v2/public/algo/history")
    assert venue.call(*path, query="algorithm=SHA256") == []
    venue.wait(300)
    rows = venue.call(*path, query="algorithm=SHA256")
    assert len(rows) == 1
    with monkeypatch.context() as patched:
        patched.setattr(public, "_history_row", None)
        assert venue.call(*path, query="algorithm=SHA256ASICBOOST&market=EU") == rows
    for _ in range(ROW_SAMPLES):
        venue.wait(60)
    assert len(venue.call(*path, query="algorithm=SHA256")) == 2


def test_24_hours(venue: Venue) -> None:
    ask = venue.seller(30_000, 1_000)
    venue.order(venue.client(), price="0.5", limit="0.001")
    for _ in range(DAY_ROWS * 5):
        venue.wait(60)
    assert stats(venue, "24h")["s"] == 10**15
    venue.stage.do(Cancel(venue.engine.live.orders[ask].account.account_id, ask))
    for _ in range(DAY_ROWS * 5 // 2):
        venue.wait(60)
    assert stats(venue, "current")["s"] == 0
    assert stats(venue, "24h")["s"] == 5 * 10**14
    assert stats(venue, "24h")["p"] == 5e-11, "weighted by the hashrate that was paid so"


def test_candles(venue: Venue) -> None:
    venue.seller(30_000, 1_000)
    client = venue.client()
    order = venue.order(client, price="0.5", limit="0.001")
    for price in ("0.6", "0.9", "0.9", "0.8"):
        venue.wait(60)
        venue.ask("POST", f"{ORDER}/{order['id']}/updatePriceAndLimit", client, {"price": price, **FACTORS})
    venue.wait(60)
    [candle] = venue.service.history.markets[MARKET].candles["15m"]
    assert [value // speed for value, speed in (candle.open, candle.high, candle.low, candle.close)] == [
        50_000,
        90_000,
        50_000,
        90_000,
    ]
    assert candle.start_s % 900 == 0


def test_rows_and_candles_are_bounded(venue: Venue) -> None:
    market = venue.service.history.markets[MARKET]
    for number in range(ROWS_MAX + 10):
        market.sample(number * 900 * 10**9, keep=True)
    assert len(market.rows) == ROWS_MAX
    assert {name: len(candles) for name, candles in market.candles.items()} == {
        "15m": CANDLES_MAX,
        "1h": CANDLES_MAX,
        "1D": (ROWS_MAX + 10) * 900 // 86_400 + 1,
    }
    assert len(market.day()) == DAY_ROWS
    assert isinstance(market.rows[0], Row)


def test_statistics_of_orders_are_bounded(tmp_path: Path) -> None:
    venue = Venue(tmp_path)
    venue.seller(30_000, 10_000)
    client = venue.client()
    for _ in range(4):
        venue.order(client)
    history = History(orders_sampled_max=2)
    history.start(venue.engine)
    for minute in range(1_000):
        history.tick(venue.stage.now_ns + minute * 60 * 10**9)
    assert len(history._order_rows) == 2
    assert {len(rows) for rows in history._order_rows.values()} == {history_module.ORDER_ROWS_MAX}


def test_a_clock_that_is_set_back_is_looked_at_again(venue: Venue) -> None:
    history = venue.service.history
    assert history.tick(venue.stage.now_ns + 3_600 * 10**9)
    assert not history.tick(venue.stage.now_ns + 3_601 * 10**9)
    assert history.tick(venue.stage.now_ns)
