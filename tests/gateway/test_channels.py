"""Channels: snapshot and deltas add up to the engine's state, numbers have no gaps, slow readers cost nobody anything."""

import random
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from msgspec import json, msgpack
from msgspec.structs import replace

from engine.commands import Cancel, CreateAccount, Deposit, Entry, ListMarket, Place, SetMarketState, Settle, Tick
from engine.core import Engine
from engine.events import Event, PoolDeleted, Rejected
from engine.limits import SECOND_NS
from engine.snapshot import dump, restore
from engine.types import MarketSpec, MarketState, OrderType, Side
from gateway.algorithms import ALGORITHMS
from gateway.channels import account as account_module
from gateway.channels.account import AccountChannel, Accounts, FactLimits
from gateway.channels.base import CONFLATE_BYTES, Subscriptions, Terms
from gateway.channels.book import Depth, Levels
from gateway.channels.ticker import MINUTE_NS, WINDOW_MINUTES
from gateway.channels.trades import SNAPSHOT_TRADES, TRADES_KEPT
from gateway.codec import JSON, MSGPACK, Codec
from gateway.config import TermsConfig
from gateway.feeds import Feeds
from gateway.listings import dated_market
from gateway.outbox import BACKLOG_BYTES_MAX
from gateway.scale import Scale
from gateway.wire import Close
from tests.gateway.peer import Peer
from tests.reference.exchange import NaiveExchange
from tests.reference.stream import SMALL, Stream

NOW = 1_800_000_000 * SECOND_NS
DAY = 86_400


class Reads:
    """The sequencer's after_durable: at once, or when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.holds = False
        self.full = False

    def after_durable(self, fn: Callable[[], None]) -> None:
        if self.full:
            raise RuntimeError("no more reads")
        if self.holds:
            self.waiting.append(fn)
        else:
            fn()

    def durable(self) -> None:
        waiting, self.waiting = self.waiting, []
        for fn in waiting:
            fn()


class Reader:
    """A subscriber that remembers everything; ``unread`` is what its transport claims to hold."""

    def __init__(self, codec: Codec = JSON, account: int = 0) -> None:
        self.codec = codec
        self.account = account
        self.messages: list[dict[str, Any]] = []
        self.close_code = 0
        self.close_reason = ""
        self._peer = Peer(codec, self._receive, lambda: self.close(Close.SLOW_READER, "not read fast enough"))
        self.outbox = self._peer.outbox

    @property
    def unread(self) -> int:
        return self._peer.unread_bytes

    @unread.setter
    def unread(self, count: int) -> None:
        self._peer.unread_bytes = count

    def _receive(self, payload: bytes) -> None:
        decode = msgpack.decode if self.codec.binary else json.decode
        message = decode(payload)
        assert message["method"] == "subscription"
        self.messages.append(message["params"])

    def send(self, frame: bytes) -> None:
        self.outbox.put(frame)

    def buffered_bytes(self) -> int:
        return self.outbox.measure()

    def close(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason

    def take(self) -> list[dict[str, Any]]:
        messages, self.messages = self.messages, []
        return messages


class LocalBook:
    """What a client makes of a book channel's messages; proves number and checksum of each."""

    def __init__(self, spec: MarketSpec) -> None:
        self.price, self.qty = Scale(spec.tick_size), Scale(spec.lot_size)
        self.sides: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}
        self.seq = -1

    def apply(self, message: dict[str, Any]) -> None:
        if message["type"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert message["type"] == "delta"
            assert message["prev_seq"] == self.seq
        self.seq = message["seq"]
        for name, side in self.sides.items():
            for price, qty in message["data"][name]:
                ticks, lots = self.price.parse(price), self.qty.parse(qty)
                if lots:
                    side[ticks] = lots
                else:
                    del side[ticks]
        assert message["data"]["checksum"] == self.checksum()

    def levels(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return sorted(self.sides["bids"].items(), reverse=True), sorted(self.sides["asks"].items())

    def checksum(self) -> int:
        bids, asks = self.levels()
        text = "".join(f"b{price}:{lots};" for price, lots in bids[:10])
        text += "".join(f"a{price}:{lots};" for price, lots in asks[:10])
        return crc32(text.encode())


class Rig:
    """An engine, its feeds, and one way to run commands through both."""

    def __init__(self, limits: FactLimits | None = None) -> None:
        self.engine = Engine()
        self.feeds = Feeds(limits)
        self.reads = Reads()
        self.log: list[tuple[Entry, list[Event]]] = []
        self.now = NOW
        self.feeds.start(self.engine, self.reads)

    def run(self, command: Any, publish: bool = True) -> list[Event]:
        entry = Entry(self.engine.seq + 1, self.now, command)
        events = self.engine.apply(entry)
        self.log.append((entry, events))
        if publish:
            self.feeds.publish(entry, events)
        return events

    def account(self, name: str, msat: int = 10**15) -> int:
        event: Any = self.run(CreateAccount(name))[0]
        self.run(Deposit(event.account, msat, "first"))
        return int(event.account)

    def market(self, length_s: int = DAY, start_ns: int = NOW - NOW % (DAY * SECOND_NS) + 2 * DAY * SECOND_NS) -> MarketSpec:
        spec = dated_market(ALGORITHMS["SHA256"], start_ns, length_s, 50_000, TermsConfig(collar_bps=0))
        self.run(ListMarket(spec))
        return spec

    def place(self, account: int, spec: MarketSpec, side: Side, price: int, qty: int) -> list[Event]:
        return self.run(Place(account, spec.symbol, side, OrderType.LIMIT, price, qty))

    def subscribe(self, name: str, codec: Codec = JSON, account: int = 0) -> Reader:
        reader = Reader(codec, account)
        self.feeds.find(name, account).add(reader, self.now)
        return reader


def market_with_trade(rig: Rig) -> tuple[MarketSpec, int, int]:
    """A market in which ``buyer`` took half of ``seller``'s two lots at 50,000."""
    spec, seller, buyer = rig.market(), rig.account("seller"), rig.account("buyer")
    rig.place(seller, spec, Side.SELL, 50_000, 2)
    rig.place(buyer, spec, Side.BUY, 50_000, 1)
    return spec, seller, buyer


# ------------------------------------------------------------------------------------------------------ against the engine


@pytest.mark.parametrize("seed", range(8))
def test_every_feed_adds_up_to_the_engine(seed: int) -> None:
    """Readers that join, resync and fall behind at random always end with the engine's own books and balances."""
    engine, oracle, feeds, rng = Engine(SMALL), NaiveExchange(SMALL), Feeds(), random.Random(seed)
    feeds.start(engine, Reads())
    books: dict[str, tuple[Reader, LocalBook, str]] = {}
    watchers: dict[int, Reader] = {}
    seen: dict[int, dict[str, Any]] = {}
    history: dict[int, list[dict[str, Any]]] = {}
    for entry in Stream(oracle, seed).entries(1_500):
        if isinstance(entry.command, ListMarket):
            # The engine does not care what a tick is called; the gateway lists nothing that it could not write down.
            spec = replace(entry.command.spec, tick_size="0.00000001", lot_size="0.001")
            entry = replace(entry, command=ListMarket(spec))
        oracle.apply(entry)
        feeds.publish(entry, engine.apply(entry))
        now = entry.ts_ns
        ticked = rng.random() < 0.1
        if ticked:
            feeds.tick(now)
        for symbol, market in engine.markets.items():
            for name in (f"book.{symbol}", f"book.{symbol}.100ms"):
                if name not in books and rng.random() < 0.3:
                    reader = Reader(rng.choice((JSON, MSGPACK)))
                    books[name] = reader, LocalBook(market.spec), symbol
                    feeds.find(name, 0).add(reader, now)
        for name, (reader, local, symbol) in [*books.items()]:
            for message in reader.take():
                if message["type"] == "event":
                    assert message["data"] == {"event": "closed", "reason": "settled"}
                    assert feeds.last_seqs(reader) == {}
                    del books[name]
                    break
                local.apply(message)
            else:
                reader.unread = rng.choice((0, 0, 0, CONFLATE_BYTES + 1))
                channel = feeds.find(name, 0)
                if channel.last_seq(reader) == channel.seq and not name.endswith("100ms"):
                    book = engine.markets[symbol].book
                    assert local.levels() == ([*book.bids_best_first()], [*book.asks_best_first()])
                if rng.random() < 0.02:
                    channel.resync(reader, now)
        for number, account in engine.accounts.items():
            if number < 100:
                continue
            if number not in watchers:
                watchers[number] = Reader(account=number)
                feeds.find("account", number).add(watchers[number], now)
            for message in watchers[number].take():
                if message["type"] == "event":
                    assert message["prev_seq"] == seen[number]["seq"]
                    history.setdefault(number, []).append(message)
                money = message["data"].get("balance", seen.get(number, {}).get("balance"))
                held = message["data"].get("held", seen.get(number, {}).get("held"))
                if isinstance(money, dict):
                    money, held = money["balance"], money["held"]
                seen[number] = {"seq": message["seq"], "balance": money, "held": held}
            known = seen[number]
            assert known["seq"] == account.event_seq
            shown = Scale("0.00000000001")
            assert (known["balance"], known["held"]) == (shown.format(account.balance), shown.format(account.held))
    feeds.tick(now)
    for reader, _, _ in books.values():
        reader.unread = 0
    feeds.tick(now)
    for reader, local, symbol in books.values():
        for message in reader.take():
            local.apply(message)
        book = engine.markets[symbol].book
        assert local.levels() == ([*book.bids_best_first()], [*book.asks_best_first()])
    for number, messages in history.items():
        cut = rng.randrange(len(messages))
        reader = Reader(account=number)
        assert feeds.account(number).resume(reader, messages[cut]["seq"])
        assert reader.messages == messages[cut + 1 :]


# ----------------------------------------------------------------------------------------------------------------- encoding


def test_a_message_is_encoded_once_per_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    readers = [rig.subscribe(f"book.{spec.symbol}", codec) for codec in (JSON, JSON, JSON, MSGPACK, MSGPACK)]
    encoded: list[str] = []

    def counting(codec: Codec) -> Callable[[Any], bytes]:
        encode = codec.encode

        def count(message: Any) -> bytes:
            encoded.append(codec.name)
            return encode(message)

        return count

    for codec in (JSON, MSGPACK):
        monkeypatch.setattr(codec, "encode", counting(codec))
    rig.place(seller, spec, Side.SELL, 51_000, 5)
    assert sorted(encoded) == ["json", "msgpack"]
    assert all(reader.messages[-1] == readers[0].messages[-1] for reader in readers)
    assert readers[0].messages[-1]["data"]["asks"] == [["0.00051000", "0.005"]]


def test_nothing_is_encoded_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    monkeypatch.setattr(JSON, "encode", lambda message: pytest.fail("encoded"))
    market_with_trade(rig)
    rig.feeds.tick(rig.now)


# --------------------------------------------------------------------------------------------------------------------- book


def test_checksum_vector() -> None:
    """The vector of docs/PROTOCOL.md: integers, best first, ten of each side."""
    depth = Depth(Terms(dated_market(ALGORITHMS["SHA256"], 2 * DAY * SECOND_NS, DAY, 50_000)))
    depth.bids.load([(49_999, 5), (49_998, 10)])
    depth.asks.load([(50_001, 7)])
    assert depth.checksum() == crc32(b"b49999:5;b49998:10;a50001:7;")
    depth.asks.load([(50_001 + step, 1) for step in range(12)])
    assert depth.checksum() == crc32(b"b49999:5;b49998:10;" + b"".join(b"a%d:1;" % (50_001 + step) for step in range(10)))
    depth.asks.add(50_012, 4)  # the twelfth level: not covered
    assert depth.checksum() == crc32(b"b49999:5;b49998:10;" + b"".join(b"a%d:1;" % (50_001 + step) for step in range(10)))


def test_empty_book_has_the_checksum_of_nothing() -> None:
    rig = Rig()
    reader = rig.subscribe(f"book.{rig.market().symbol}")
    assert reader.messages == [
        {
            "channel": f"book.{next(iter(rig.engine.markets))}",
            "type": "snapshot",
            "seq": 0,
            "prev_seq": 0,
            "ts_us": NOW // 1_000,
            "data": {"bids": [], "asks": [], "checksum": 0},
        }
    ]


def test_a_delta_tells_levels_best_first_and_removed_ones_with_nothing() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    rig.place(seller, spec, Side.SELL, 50_002, 3)
    reader = rig.subscribe(f"book.{spec.symbol}")
    rig.place(buyer, spec, Side.BUY, 50_002, 5)
    delta = reader.messages[-1]
    assert delta["data"]["asks"] == [["0.00050000", "0.000"], ["0.00050002", "0.000"]]
    assert delta["data"]["bids"] == [["0.00050002", "0.001"]]
    assert (delta["prev_seq"], delta["seq"]) == (reader.messages[0]["seq"], reader.messages[0]["seq"] + 1)


def test_an_entry_that_leaves_the_book_alone_is_not_told() -> None:
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    reader = rig.subscribe(f"book.{spec.symbol}")
    rig.run(Place(seller, spec.symbol, Side.SELL, OrderType.LIMIT, 0, 1))
    rig.run(CreateAccount("somebody"))
    assert len(reader.messages) == 1


def test_conflated_book_gathers_until_the_tick() -> None:
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    reader = rig.subscribe(f"book.{spec.symbol}.100ms")
    for price in (50_003, 50_002, 50_003):
        rig.place(seller, spec, Side.SELL, price, 1)
    assert len(reader.messages) == 1
    rig.feeds.tick(rig.now)
    assert [message["data"]["asks"] for message in reader.messages[1:]] == [[["0.00050002", "0.001"], ["0.00050003", "0.002"]]]
    rig.feeds.tick(rig.now)
    assert len(reader.messages) == 2


def test_a_conflated_book_that_nobody_followed_meanwhile_is_shown_as_it_is() -> None:
    """Found by simulation: the next subscriber got the snapshot of the one before, under the same number."""
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    name = f"book.{spec.symbol}.100ms"
    first = rig.subscribe(name)
    rig.feeds.remove(first)
    rig.place(seller, spec, Side.SELL, 50_003, 1)
    second = rig.subscribe(name)
    book = LocalBook(spec)
    book.apply(second.messages[0])
    assert book.levels()[1][-1] == (50_003, 1)
    assert second.messages[0]["seq"] > first.messages[0]["seq"]


def test_a_slow_reader_of_a_book_is_conflated() -> None:
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    reader = rig.subscribe(f"book.{spec.symbol}")
    quick = rig.subscribe(f"book.{spec.symbol}")
    first = reader.messages[0]["seq"]
    reader.unread = CONFLATE_BYTES  # at the bound: still told
    rig.place(seller, spec, Side.SELL, 50_100, 1)
    assert reader.messages[-1]["seq"] == first + 1
    reader.unread = CONFLATE_BYTES + 1
    for price in range(50_200, 50_210):
        rig.place(seller, spec, Side.SELL, price, 1)
    assert len(reader.messages) == 2
    assert len(quick.messages) == 12
    assert rig.feeds.last_seqs(reader) == {f"book.{spec.symbol}": first + 1}
    reader.unread = CONFLATE_BYTES // 2 + 1
    rig.feeds.tick(rig.now)
    assert len(reader.messages) == 2
    reader.unread = CONFLATE_BYTES // 2
    rig.feeds.tick(rig.now)
    assert (reader.messages[-1]["type"], reader.messages[-1]["seq"]) == ("snapshot", first + 11)
    assert len(reader.messages[-1]["data"]["asks"]) == 12
    assert reader.close_code == 0
    rig.place(seller, spec, Side.SELL, 50_300, 1)
    assert reader.messages[-1]["prev_seq"] == first + 11


def test_a_slow_reader_learns_of_the_end_behind_a_snapshot() -> None:
    """Found by simulation: the end came without the snapshot that was owed, like a gap in a channel that is gone."""
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    name = f"book.{spec.symbol}"
    reader = rig.subscribe(name)
    reader.unread = CONFLATE_BYTES + 1
    rig.place(seller, spec, Side.SELL, 50_100, 1)
    late = Reader()
    late.unread = CONFLATE_BYTES + 1
    channel = rig.feeds.find(name, 0)
    channel.add(late, rig.now)
    assert late.messages == []
    channel.close("settled", rig.now)
    quick = rig.subscribe(f"{name}.100ms")
    slow_one = rig.subscribe(f"{name}.100ms")
    slow_one.unread = CONFLATE_BYTES + 1
    rig.place(seller, spec, Side.SELL, 50_100, 1)
    rig.feeds.tick(rig.now)
    rig.place(seller, spec, Side.SELL, 50_100, 1)
    rig.feeds.find(f"{name}.100ms", 0).close("settled", rig.now)
    assert [message["seq"] for message in quick.messages[-2:]] == [message["seq"] for message in slow_one.messages[-2:]]
    assert quick.messages[-2]["data"]["checksum"] == slow_one.messages[-2]["data"]["checksum"]
    for slow in (reader, late):
        last, end = slow.messages[-2:]
        assert (last["type"], end["data"]["event"]) == ("snapshot", "closed")
        assert end["prev_seq"] == last["seq"]


def test_a_reader_that_has_read_meanwhile_is_not_conflated() -> None:
    """What an outbox says of unsent bytes may be out of date, and then only too much."""
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    reader = rig.subscribe(f"book.{spec.symbol}")
    reader.outbox.unsent_bytes = CONFLATE_BYTES + 1
    rig.place(seller, spec, Side.SELL, 50_100, 1)
    assert [message["type"] for message in reader.messages] == ["snapshot", "delta"]


def test_levels_follow_a_plain_dict() -> None:
    rng = random.Random(5)
    for is_bid in (True, False):
        levels, plain = Levels(is_bid), dict[int, int]()
        for _ in range(2_000):
            price = rng.randrange(1, 60)
            lots = rng.randrange(1, 9) if rng.random() < 0.5 or not plain.get(price) else -rng.randrange(1, plain[price] + 1)
            plain[price] = plain.get(price, 0) + lots
            if not plain[price]:
                del plain[price]
            levels.add(price, lots)
            expected = sorted(plain.items(), reverse=is_bid)
            assert [*levels.best_first()] == expected
            assert levels.best() == (expected[0] if expected else None)
            if levels.top_changed:
                text = levels.top_text()
            assert text == "".join(f"{'b' if is_bid else 'a'}{price}:{lots};" for price, lots in expected[:10])


# -------------------------------------------------------------------------------------------------------- trades and ticker


def test_trades_of_one_command_are_one_message() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    reader = rig.subscribe(f"trades.{spec.symbol}")
    rig.place(seller, spec, Side.SELL, 50_002, 3)
    rig.place(buyer, spec, Side.BUY, 50_002, 4)
    snapshot, event = reader.messages
    assert [trade["trade_id"] for trade in snapshot["data"]] == [1]
    assert [(trade["trade_id"], trade["price"], trade["qty"]) for trade in event["data"]] == [
        (2, "0.00050000", "0.001"),
        (3, "0.00050002", "0.003"),
    ]
    assert event["prev_seq"] == snapshot["seq"]
    assert {trade["aggressor_side"] for trade in event["data"]} == {"buy"}


def test_trades_are_kept_up_to_a_bound() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    for _ in range(TRADES_KEPT):
        rig.place(seller, spec, Side.SELL, 50_000, 1)
        rig.place(buyer, spec, Side.BUY, 50_000, 1)
    recent = rig.feeds.trades(spec.symbol).recent(TRADES_KEPT + 1)
    assert [trade.trade_id for trade in recent] == [*range(TRADES_KEPT + 1, 1, -1)]
    snapshot = rig.subscribe(f"trades.{spec.symbol}").messages[0]["data"]
    assert len(snapshot) == SNAPSHOT_TRADES
    assert snapshot[-1]["trade_id"] == TRADES_KEPT + 1


@pytest.mark.parametrize("name", ["trades.{}", "status", "account"])
def test_a_slow_reader_of_a_lossless_channel_is_closed(name: str) -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    channel = name.format(spec.symbol)
    reader = rig.subscribe(channel, account=seller)

    def happen() -> None:
        if name == "status":
            state = rig.engine.markets[spec.symbol].state
            other = MarketState.HALTED if state is MarketState.OPEN else MarketState.OPEN
            rig.run(SetMarketState(spec.symbol, other))
        else:
            rig.place(seller, spec, Side.SELL, 50_000, 1)
            rig.place(buyer, spec, Side.BUY, 50_000, 1)

    reader.unread = BACKLOG_BYTES_MAX
    happen()
    assert reader.close_code == 0
    reader.unread = BACKLOG_BYTES_MAX + 1
    happen()
    assert reader.close_code == Close.SLOW_READER


def test_a_ticker_shows_nothing_that_is_taken_back_unseen() -> None:
    """Between two ticks: a snapshot with an order that is gone at the next one must not be the last word."""
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    rig.feeds.tick(rig.now)
    placed: Any = rig.place(seller, spec, Side.SELL, 49_000, 1)[0]
    reader = rig.subscribe(f"ticker.{spec.symbol}")
    rig.run(Cancel(seller, placed.order_id))
    rig.feeds.tick(rig.now)
    assert [message["data"]["ask"] for message in reader.messages] == ["0.00050000"]


@pytest.mark.parametrize("form", ["book.{}.100ms", "ticker.{}"])
def test_snapshots_for_some_make_no_messages_for_others(form: str) -> None:
    """Found by simulation: each snapshot of a gathering channel sent everybody what had been gathered for it."""
    rig = Rig()
    spec, seller, _ = market_with_trade(rig)
    name = form.format(spec.symbol)
    rig.feeds.tick(rig.now)
    reader, again = rig.subscribe(name), rig.subscribe(name)
    late = []
    for price in range(49_999, 49_979, -1):
        rig.place(seller, spec, Side.SELL, price, 1)
        late.append(rig.subscribe(name))
        rig.feeds.find(name, 0).resync(again, rig.now)
    assert [len(one.messages) for one in (reader, again, *late)] == [1, 1] + [0] * 20, "all wait for the tick"
    told = again.messages[0]["seq"]
    assert rig.feeds.last_seqs(again) == {name: told}
    assert rig.feeds.last_seqs(late[0]) == {name: 0}, "found by simulation: it named a message that was not sent"
    rig.feeds.tick(rig.now)
    assert rig.feeds.last_seqs(late[0]) == rig.feeds.last_seqs(again) == {name: told + 1}
    assert len(reader.messages) == 2, "one for a tick"
    seq = reader.messages[-1]["seq"]
    for one in (again, *late):
        last = one.messages[-1]
        assert (last["type"], last["seq"], last["prev_seq"]) == ("snapshot", seq, seq)
    assert again.messages[-1]["data"] == late[0].messages[-1]["data"]
    rig.subscribe(name)
    assert len(reader.messages) == 2
    prompt = rig.subscribe(name)
    assert len(prompt.messages) == 1, "with nothing gathered the snapshot comes at once"


def test_ticker_counts_24_hours() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    rig.feeds.tick(rig.now)
    reader = rig.subscribe(f"ticker.{spec.symbol}")
    assert reader.messages[0]["data"] == {
        "kind": "dated",
        "market": spec.symbol,
        "bid": None,
        "bid_qty": None,
        "ask": "0.00050000",
        "ask_qty": "0.001",
        "last": "0.00050000",
        "volume": "0.001",
        "high": "0.00050000",
        "low": "0.00050000",
        "trades": 1,
    }
    rig.feeds.tick(rig.now)
    rig.feeds.tick(rig.now)
    rig.now += 60 * MINUTE_NS
    rig.place(seller, spec, Side.SELL, 49_000, 5)
    rig.place(buyer, spec, Side.BUY, 49_000, 5)
    rig.feeds.tick(rig.now)
    data = reader.messages[-1]["data"]
    assert (data["volume"], data["high"], data["low"], data["trades"]) == ("0.006", "0.00050000", "0.00049000", 2)
    got = len(reader.messages)
    rig.feeds.tick(rig.now)
    assert len(reader.messages) == got
    rig.feeds.tick(NOW + (WINDOW_MINUTES - 1) * MINUTE_NS)
    assert len(reader.messages) == got
    rig.feeds.tick(NOW + WINDOW_MINUTES * MINUTE_NS)
    data = reader.messages[-1]["data"]
    assert (data["volume"], data["high"], data["low"], data["trades"]) == ("0.005", "0.00049000", "0.00049000", 1)
    assert data["last"] == "0.00049000"


# ------------------------------------------------------------------------------------------------------------------- status


def test_status_tells_of_markets_and_of_the_server() -> None:
    rig = Rig()
    first = rig.market()
    reader = rig.subscribe("status")
    assert [market["market"] for market in reader.messages[0]["data"]["markets"]] == [first.symbol]
    assert reader.messages[0]["data"]["server"] == {"state": "open"}
    second = rig.market(length_s=3_600)
    rig.run(SetMarketState(second.symbol, MarketState.HALTED))
    rig.feeds.announce("stopping", rig.now)
    assert [message["data"]["event"] for message in reader.messages[1:]] == ["market_listed", "market_state", "server"]
    assert reader.messages[1]["data"]["terms"]["tick_size"] == "0.00000001"
    assert reader.messages[2]["data"] == {"event": "market_state", "market": second.symbol, "state": "halted"}
    snapshot = rig.subscribe("status").messages[0]["data"]
    assert {market["market"]: market["state"] for market in snapshot["markets"]} == {
        first.symbol: "open",
        second.symbol: "halted",
    }
    assert snapshot["server"] == {"state": "stopping"}


def test_a_settled_market_ends_its_channels() -> None:
    rig = Rig()
    spec = rig.market(length_s=300, start_ns=NOW + 300 * SECOND_NS)
    names = [f"book.{spec.symbol}", f"book.{spec.symbol}.100ms", f"trades.{spec.symbol}", f"ticker.{spec.symbol}"]
    readers = [rig.subscribe(name) for name in names]
    status = rig.subscribe("status")
    rig.now = spec.period_end_ns
    rig.run(Settle(spec.symbol))
    for reader in readers:
        assert reader.messages[-1]["data"] == {"event": "closed", "reason": "settled"}
        assert rig.feeds.last_seqs(reader) == {}
    assert [message["data"]["state"] for message in status.messages[1:]] == ["closed", "settled"]
    assert status.messages[0]["data"]["markets"]
    assert rig.subscribe("status").messages[0]["data"]["markets"] == []
    for name in names:
        with pytest.raises(KeyError):
            rig.feeds.find(name, 0)
    rig.feeds.tick(rig.now)


# ------------------------------------------------------------------------------------------------------------------ account


def test_account_snapshot_then_events() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    reader = rig.subscribe("account", account=seller)
    snapshot = reader.messages[0]
    assert snapshot["seq"] == rig.engine.accounts[seller].event_seq == 3
    data = snapshot["data"]
    assert [(order["price"], order["remaining_qty"]) for order in data["orders"]] == [("0.00050000", "0.001")]
    assert [(held["market"], held["qty"]) for held in data["positions"]] == [(spec.symbol, "-0.001")]
    rig.place(buyer, spec, Side.BUY, 50_000, 1)
    rig.run(Place(seller, spec.symbol, Side.SELL, OrderType.LIMIT, 0, 1))
    fill, rejected = reader.messages[1:]
    assert (fill["seq"], fill["prev_seq"], fill["type"]) == (4, 3, "event")
    assert fill["data"]["event"] == "fill"
    assert (fill["data"]["liquidity"], fill["data"]["side"], fill["data"]["position"]) == ("maker", "sell", "-0.002")
    assert rejected["data"]["event"] == "rejected"
    assert (rejected["data"]["reason"], rejected["data"]["field"]) == ("price_too_low", "price")


def test_account_snapshot_waits_until_what_it_shows_is_durable() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    rig.reads.holds = True
    rig.run(Place(seller, spec.symbol, Side.SELL, OrderType.LIMIT, 50_500, 1), publish=False)
    late = rig.log[-1]
    reader = rig.subscribe("account", account=seller)
    assert reader.messages == []
    assert rig.feeds.last_seqs(reader) == {"account": 0}
    rig.feeds.publish(*late)
    assert reader.messages == []
    rig.reads.durable()
    assert [(message["type"], message["seq"]) for message in reader.messages] == [("snapshot", 4)]
    rig.place(buyer, spec, Side.BUY, 50_000, 1)
    assert [message["seq"] for message in reader.messages] == [4, 5]


def test_a_subscription_that_ends_while_it_waits_gets_nothing() -> None:
    rig = Rig()
    _, seller, _ = market_with_trade(rig)
    rig.reads.holds = True
    reader = rig.subscribe("account", account=seller)
    rig.feeds.remove(reader)
    again = rig.subscribe("account", account=seller)
    rig.feeds.find("account", seller).add(again, rig.now)
    rig.reads.durable()
    assert reader.messages == []
    assert len(again.messages) == 1
    assert rig.feeds.last_seqs(reader) == {}


def test_a_refused_read_leaves_no_subscription() -> None:
    rig = Rig()
    _, seller, _ = market_with_trade(rig)
    rig.reads.full = True
    reader = Reader(account=seller)
    with pytest.raises(RuntimeError):
        rig.feeds.find("account", seller).add(reader, rig.now)
    assert rig.feeds.last_seqs(reader) == {}


def test_account_needs_a_login() -> None:
    with pytest.raises(PermissionError):
        Rig().feeds.find("account", 0)


def test_resume_from_every_number() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    for _ in range(3):
        rig.place(buyer, spec, Side.BUY, 49_000, 1)
    channel = rig.feeds.account(buyer)
    assert channel.seq == rig.engine.accounts[buyer].event_seq == 6
    for seq in range(7):
        reader = Reader(account=buyer)
        assert channel.resume(reader, seq)
        assert [message["seq"] for message in reader.messages] == [*range(seq + 1, 7)]
        rig.feeds.remove(reader)
    reader = Reader(account=buyer)
    assert not channel.resume(reader, 7)  # nobody can have seen what did not happen
    assert reader.messages == []
    assert rig.feeds.last_seqs(reader) == {}
    assert channel.resume(reader, 6)
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    assert [message["seq"] for message in reader.messages] == [7]
    assert seller != buyer


def test_facts_of_one_account_are_bounded() -> None:
    rig = Rig(FactLimits(account_max=3))
    spec, _, buyer = market_with_trade(rig)
    for _ in range(3):
        rig.place(buyer, spec, Side.BUY, 49_000, 1)
    channel, reader = rig.feeds.account(buyer), Reader(account=buyer)
    assert channel.seq == 6
    assert not channel.resume(reader, 2)
    assert channel.resume(reader, 3)
    assert [message["seq"] for message in reader.messages] == [4, 5, 6]


def test_a_long_resume_goes_out_in_portions() -> None:
    """Between portions others are served, new facts come behind the missed ones, and unread bytes stay bounded."""
    rig = Rig(FactLimits(resume_max=4))
    spec, _, buyer = market_with_trade(rig)
    for _ in range(7):
        rig.place(buyer, spec, Side.BUY, 49_000, 1)
    channel, reader = rig.feeds.account(buyer), Reader(account=buyer)
    assert channel.seq == 10
    assert channel.resume(reader, 0)
    assert [message["seq"] for message in reader.take()] == [1, 2, 3, 4]
    assert rig.feeds.last_seqs(reader) == {"account": 4}
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    assert reader.take() == []
    reader.unread = account_module.RESUME_BYTES_MAX + 1
    rig.feeds.tick(rig.now)
    assert reader.take() == []
    reader.unread = account_module.RESUME_BYTES_MAX
    rig.feeds.tick(rig.now)
    assert [message["seq"] for message in reader.take()] == [5, 6, 7, 8]
    rig.feeds.tick(rig.now)
    assert [message["seq"] for message in reader.take()] == [9, 10, 11]
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    assert [message["seq"] for message in reader.take()] == [12]
    assert not reader.close_code


def test_a_resume_that_is_outrun_ends_the_socket() -> None:
    rig = Rig(FactLimits(account_max=5, resume_max=1))
    spec, _, buyer = market_with_trade(rig)
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    reader = Reader(account=buyer)
    assert rig.feeds.account(buyer).resume(reader, 0)
    assert [message["seq"] for message in reader.take()] == [1]
    for _ in range(2):
        rig.place(buyer, spec, Side.BUY, 49_000, 1)
    rig.feeds.tick(rig.now)
    assert reader.close_code == Close.SLOW_READER
    assert reader.take() == []
    assert rig.feeds.last_seqs(reader) == {}


def test_the_quietest_account_loses_its_facts_first() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    accounts = Accounts(rig.engine, rig.reads, {spec.symbol: Terms(spec)}, Subscriptions(), FactLimits(all_max=6))
    for entry, events in rig.log:
        for event in events:
            accounts.publish(event, entry.ts_ns)
    # Six facts: deposit, accepted, fill of each.
    assert (accounts.find(seller).facts_kept, accounts.find(buyer).facts_kept) == (3, 3)
    for event in rig.run(Deposit(buyer, 1, "second")):
        accounts.publish(event, rig.now)
    assert (accounts.find(seller).facts_kept, accounts.find(buyer).facts_kept) == (0, 4)
    reader = Reader(account=seller)
    assert not accounts.find(seller).resume(reader, 2)
    assert accounts.find(seller).resume(reader, 3)
    for event in rig.place(seller, spec, Side.SELL, 50_005, 1):
        accounts.publish(event, rig.now)
    assert [message["seq"] for message in reader.messages] == [4]


# -------------------------------------------------------------------------------------------------------------- after a start


def test_feeds_go_on_from_what_recovery_replayed() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    feeds = Feeds()
    for entry, events in rig.log:
        feeds.load(entry, events)
    feeds.start(rig.engine, Reads())
    book, trades, reader = Reader(), Reader(), Reader(account=buyer)
    feeds.find(f"book.{spec.symbol}", 0).add(book, NOW)
    feeds.find(f"trades.{spec.symbol}", 0).add(trades, NOW)
    assert book.messages[0]["data"]["bids"] == [["0.00049000", "0.001"]]
    assert book.messages[0]["data"]["asks"] == [["0.00050000", "0.001"]]
    assert [trade["trade_id"] for trade in trades.messages[0]["data"]] == [1]
    assert feeds.account(buyer).resume(reader, 1)
    assert [message["data"]["event"] for message in reader.messages] == ["accepted", "fill", "accepted"]
    assert seller


def test_a_market_that_is_listed_again_starts_without_the_trades_of_the_one_before() -> None:
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    rig.place(buyer, spec, Side.SELL, 49_000, 1)
    rig.place(seller, spec, Side.BUY, 49_000, 1)
    rig.now = spec.gate_ns
    rig.run(CreateAccount("somebody"))
    assert spec.symbol not in rig.engine.markets, "nobody was left in it"
    rig.run(ListMarket(replace(spec, gate_ns=spec.period_start_ns)))
    rig.place(seller, spec, Side.SELL, 51_000, 1)
    rig.place(buyer, spec, Side.BUY, 51_000, 1)
    feeds = Feeds()
    for entry, events in rig.log:
        feeds.load(entry, events)
    feeds.start(rig.engine, Reads())
    feeds.tick(rig.now)
    trades, ticker = Reader(), Reader()
    feeds.find(f"trades.{spec.symbol}", 0).add(trades, rig.now)
    feeds.find(f"ticker.{spec.symbol}", 0).add(ticker, rig.now)
    assert [(trade["trade_id"], trade["price"]) for trade in trades.messages[0]["data"]] == [(1, "0.00051000")]
    assert (ticker.messages[0]["data"]["trades"], ticker.messages[0]["data"]["low"]) == (1, "0.00051000")


def known(channel: AccountChannel) -> bool:
    """Whether the channel knows its number at once."""
    came: list[bool] = []
    channel.when_known(lambda: came.append(True))
    return bool(came)


def test_feeds_start_without_a_tail() -> None:
    """As after a snapshot at the journal's very end: a client that missed nothing goes on, one that did is told."""
    rig = Rig()
    spec, _, buyer = market_with_trade(rig)
    feeds = Feeds()
    feeds.start(rig.engine, Reads())
    reader = Reader(account=buyer)
    assert known(feeds.account(buyer))
    assert not feeds.account(buyer).resume(reader, 2)
    assert feeds.account(buyer).resume(reader, 3)
    entry = Entry(rig.engine.seq + 1, NOW, Place(buyer, spec.symbol, Side.BUY, OrderType.LIMIT, 49_000, 1))
    feeds.publish(entry, rig.engine.apply(entry))
    assert [message["seq"] for message in reader.messages] == [4]


def test_what_is_not_durable_yet_is_no_reason_to_refuse_a_resume() -> None:
    """Found by simulation: the account's first command behind a start was on its way to the disk, and its owner was refused."""
    rig = Rig()
    spec, seller, buyer = market_with_trade(rig)
    feeds, reads = Feeds(), Reads()
    feeds.start(rig.engine, reads)
    entry = Entry(rig.engine.seq + 1, NOW, Place(buyer, spec.symbol, Side.BUY, OrderType.LIMIT, 49_000, 1))
    events = rig.engine.apply(entry)
    reads.holds = True
    channel, other = feeds.account(buyer), feeds.account(seller)
    assert not known(channel)
    assert not known(other)
    feeds.publish(entry, events)
    reads.durable()
    reader = Reader(account=buyer)
    assert known(channel)
    assert not channel.resume(reader, 5), "nobody can have seen what did not happen"
    assert not channel.resume(reader, 2)
    assert channel.resume(reader, 3)
    assert [message["seq"] for message in reader.messages] == [4]
    assert known(other)
    assert other.resume(Reader(account=seller), 3), "nothing of it was on its way"


def test_an_account_that_is_new_can_be_resumed_from_its_beginning() -> None:
    rig = Rig()
    event: Any = rig.run(CreateAccount("new"))[0]
    rig.reads.holds = True
    channel, reader = rig.feeds.account(event.account), Reader(account=event.account)
    assert known(channel)
    assert channel.resume(reader, 0)
    rig.run(Deposit(event.account, 1, "first"))
    assert [message["seq"] for message in reader.messages] == [1]


def test_positions_are_shown_by_market_whatever_came_first() -> None:
    """Found by simulation: behind a start from a snapshot one number of the account had another content."""
    rig = Rig()
    seller, buyer = rig.account("seller"), rig.account("buyer")
    later, earlier = rig.market(start_ns=NOW - NOW % (DAY * SECOND_NS) + 3 * DAY * SECOND_NS), rig.market()
    assert earlier.symbol < later.symbol
    for spec in (later, earlier):
        rig.place(seller, spec, Side.SELL, 50_000, 1)
        rig.place(buyer, spec, Side.BUY, 50_000, 1)
    feeds = Feeds()
    feeds.start(restore(dump(rig.engine)), Reads())
    reader = Reader(account=buyer)
    feeds.find("account", buyer).add(reader, NOW)
    for message in (rig.subscribe("account", account=buyer).messages[0], reader.messages[0]):
        assert [held["market"] for held in message["data"]["positions"]] == [earlier.symbol, later.symbol]


def test_facts_of_a_market_that_is_gone_cannot_be_resumed() -> None:
    """The tail behind a snapshot settled a market listed before it: its prices have no units any more."""
    rig = Rig()
    spec = rig.market(length_s=300, start_ns=NOW + 300 * SECOND_NS)
    seller, buyer = rig.account("seller"), rig.account("buyer")
    tail = len(rig.log)
    rig.place(seller, spec, Side.SELL, 50_000, 2)
    rig.place(buyer, spec, Side.BUY, 50_000, 1)
    rig.now = spec.period_end_ns
    rig.run(Settle(spec.symbol))
    rig.run(Deposit(buyer, 1, "second"))
    feeds = Feeds()
    for entry, events in rig.log[tail:]:
        feeds.load(entry, events)
    feeds.start(rig.engine, Reads())
    last = rig.engine.accounts[buyer].event_seq
    reader = Reader(account=buyer)
    assert not feeds.account(buyer).resume(reader, 1)
    assert feeds.account(buyer).resume(reader, last - 1)
    assert [message["data"]["event"] for message in reader.messages] == ["balance"]


def test_what_recovery_replays_is_kept_by_the_number_of_its_events() -> None:
    feeds = Feeds(FactLimits(all_max=10))
    events: list[Event] = [PoolDeleted(100, number, number) for number in range(4)]
    for seq in range(1, 21):
        feeds.load(Entry(seq, seq, Tick()), events)
    # the last ten events are in three entries
    assert [ts_ns for ts_ns, _ in feeds._loaded] == [18, 19, 20]


def test_who_missed_nothing_goes_on_behind_facts_that_cannot_be_shown() -> None:
    rig = Rig()
    spec = rig.market(length_s=300, start_ns=NOW + 300 * SECOND_NS)
    buyer = rig.account("buyer")
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    tail = len(rig.log)
    rig.run(Deposit(buyer, 1, "second"))
    rig.place(buyer, spec, Side.BUY, 49_000, 1)
    rig.now = spec.gate_ns
    rig.run(CreateAccount("somebody"))
    assert spec.symbol not in rig.engine.markets
    feeds = Feeds()
    for entry, events in rig.log[tail:]:
        feeds.load(entry, events)
    feeds.start(rig.engine, Reads())
    channel, reader = feeds.account(buyer), Reader(account=buyer)
    last = rig.engine.accounts[buyer].event_seq
    assert known(channel)
    assert not channel.resume(reader, last - 1), "its orders were canceled in a market that is gone"
    assert channel.resume(reader, last)
    assert reader.messages == []


def test_a_refusal_that_named_a_price_of_a_market_that_is_gone_cannot_be_resumed() -> None:
    """Found by simulation: behind a restart its bound was told in ticks, as if it were a decimal."""
    rig = Rig()
    spec = rig.market(length_s=300, start_ns=NOW + 300 * SECOND_NS)
    buyer = rig.account("buyer")
    tail = len(rig.log)
    (refused,) = rig.place(buyer, spec, Side.BUY, 50_000, spec.qty_max + 1)
    assert isinstance(refused, Rejected)
    rig.run(SetMarketState(spec.symbol, MarketState.HALTED))
    rig.place(buyer, spec, Side.BUY, 50_000, 1)
    rig.now = spec.period_end_ns
    rig.run(Settle(spec.symbol))
    feeds = Feeds()
    for entry, events in rig.log[tail:]:
        feeds.load(entry, events)
    feeds.start(rig.engine, Reads())
    reader = Reader(account=buyer)
    assert not feeds.account(buyer).resume(reader, refused.account_seq - 1)
    assert feeds.account(buyer).resume(reader, refused.account_seq)
    assert [message["data"]["reason"] for message in reader.messages] == ["market_halted"]


def test_a_repeat_is_no_news_even_when_its_market_is_gone() -> None:
    rig = Rig()
    spec = rig.market(length_s=300, start_ns=NOW + 300 * SECOND_NS)
    buyer = rig.account("buyer")
    order = Place(buyer, spec.symbol, Side.BUY, OrderType.LIMIT, 50_000, 1, client_order_id="a")
    rig.run(order)
    book = rig.subscribe(f"book.{spec.symbol}")
    rig.run(order)
    assert len(book.messages) == 1
    rig.now = spec.period_end_ns
    rig.run(Settle(spec.symbol))
    reader = rig.subscribe("account", account=buyer)
    (answer,) = rig.run(order)
    assert getattr(answer, "repeat", False)
    assert len(reader.messages) == 1
