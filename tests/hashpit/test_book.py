"""The local book: equal to the server's at every step, and never quietly wrong."""

import random
from binascii import crc32

import pytest

from gateway.wire import BookView, ChannelMessage, MarketInfo
from hashpit.book import CHECKSUM_LEVELS, Book, checksum


def market(tick_size: str = "0.00000001", lot_size: str = "0.001") -> MarketInfo:
    return MarketInfo(
        market="M",
        algorithm="SHA256",
        state="open",
        speed_unit="PH/s",
        tick_size=tick_size,
        lot_size=lot_size,
        price_min="0.00000001",
        price_max="1.00000000",
        qty_max="1000.000",
        maker_fee_bps=10,
        taker_fee_bps=20,
        bond_bps=2_000,
        band_bps=1_000,
        tolerance_bps=300,
        penalty_bps=500,
        reference_price="0.00050000",
        gate_us=1,
        period_start_us=1,
        period_end_us=2,
        settle_us=3,
    )


class Feed:
    """A server's book, told as the channel's messages."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[int, int]] = {"b": {}, "a": {}}
        self.seq = 10
        self.scales = Book(market())

    def levels(self, side: str) -> list[tuple[int, int]]:
        return sorted(self.sides[side].items(), reverse=side == "b")

    def checksum(self) -> int:
        text = "".join(f"{side}{p}:{q};" for side in "ba" for p, q in self.levels(side)[:CHECKSUM_LEVELS])
        return crc32(text.encode())

    def text(self, levels: list[tuple[int, int]]) -> list[tuple[str, str]]:
        return [(self.scales.price.format(price), self.scales.qty.format(qty)) for price, qty in levels]

    def snapshot(self) -> ChannelMessage:
        view = BookView(self.text(self.levels("b")), self.text(self.levels("a")), self.checksum())
        return ChannelMessage("book.M", "snapshot", self.seq, self.seq, 1, view)

    def delta(self, side: str, *levels: tuple[int, int]) -> ChannelMessage:
        for price, qty in levels:
            self.sides[side][price] = qty
            if not qty:
                del self.sides[side][price]
        changed = self.text(list(levels))
        view = BookView(changed if side == "b" else [], changed if side == "a" else [], self.checksum())
        self.seq += 1
        return ChannelMessage("book.M", "delta", self.seq, self.seq - 1, 1, view)


def test_published_vector() -> None:
    bids = [(50000, 1500), (49990, 20)]
    assert checksum(bids, [(50010, 7)]) == crc32(b"b50000:1500;b49990:20;a50010:7;") == 1384510419
    assert checksum([], []) == 0


def test_only_ten_levels_of_a_side_count() -> None:
    bids = [(price, 1) for price in range(100, 88, -1)]
    assert checksum(bids, []) == checksum(bids[:10], []) != checksum(bids[:9], [])


@pytest.mark.parametrize("seed", range(5))
def test_snapshot_and_deltas_give_the_servers_book(seed: int) -> None:
    rng = random.Random(seed)
    feed, book = Feed(), Book(market())
    assert book.apply(feed.snapshot())
    for _ in range(500):
        side = rng.choice("ba")
        price = rng.randint(100, 140) if side == "b" else rng.randint(141, 180)
        qty = rng.choice((0, rng.randint(1, 99))) if price in feed.sides[side] else rng.randint(1, 99)
        assert book.apply(feed.delta(side, (price, qty)))
        assert list(book.bids()) == feed.levels("b")
        assert list(book.asks()) == feed.levels("a")
        assert book.best_bid == max(feed.sides["b"], default=0)
        assert book.best_ask == min(feed.sides["a"], default=0)
        assert book.seq == feed.seq


def test_nothing_counts_before_the_first_snapshot() -> None:
    feed, book = Feed(), Book(market())
    assert not book.apply(feed.delta("b", (100, 1)))
    assert not book.synced
    assert book.trouble == "no snapshot yet"
    assert list(book.bids()) == []


def test_a_missing_delta_is_noticed_and_a_snapshot_mends_it() -> None:
    feed, book = Feed(), Book(market())
    book.apply(feed.snapshot())
    feed.delta("b", (100, 1))
    assert not book.apply(feed.delta("b", (101, 1)))
    assert book.trouble == "gap: the delta follows 11, the book is at 10"
    assert not book.apply(feed.delta("b", (102, 1))), "deltas are ignored until the snapshot"
    assert book.apply(feed.snapshot())
    assert (book.synced, book.trouble, book.best_bid) == (True, "", 102)


def test_a_wrong_quantity_is_noticed_by_the_checksum() -> None:
    feed, book = Feed(), Book(market())
    book.apply(feed.snapshot())
    message = feed.delta("a", (200, 5))
    message.data.asks = [("0.00000200", "0.006")]
    assert not book.apply(message)
    assert book.trouble == "the checksum after 11 differs"


def test_a_level_between_ticks_is_trouble_and_not_an_exception() -> None:
    feed, book = Feed(), Book(market(tick_size="0.00000005"))
    message = feed.delta("b", (3, 1))
    message.type = "snapshot"
    assert not book.apply(message)
    assert "not a multiple of 0.00000005" in book.trouble


def test_a_removed_level_that_was_not_there_changes_nothing() -> None:
    feed, book = Feed(), Book(market())
    book.apply(feed.snapshot())
    feed.sides["b"][7] = 1
    assert book.apply(feed.delta("b", (7, 0)))
    assert book.best_bid == 0
