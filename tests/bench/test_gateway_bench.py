"""The gateway's benches run, tiny."""

from pathlib import Path

import msgspec
import pytest

from bench import fanout as fanout_bench
from bench import gateway as gateway_bench
from bench.common import OutcomeError, process
from bench.fanout import LOGINS_PER_ADDRESS
from bench.load import split


@pytest.mark.slow
def test_gateway_bench(tmp_path: Path) -> None:
    result = gateway_bench.measure(sockets=2, open_calls=4, seconds=0.1, warm_up=0.02, repeats=1, data=tmp_path)
    closed = result.closed
    assert min(one.messages for one in (closed.order, closed.place, closed.picows, closed.websockets)) > 20
    assert closed.order.p50_us <= closed.order.p99_us <= closed.order.p999_us
    assert closed.order_to_picows.median > 1
    assert [rate.share for rate in result.rates] == list(gateway_bench.SHARES)
    assert all(rate.orders_per_commit >= 1 for rate in result.rates)
    assert result.unloaded.commit.p50_us > 0
    assert msgspec.json.decode(msgspec.json.encode(result), type=gateway_bench.Result) == result
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_fanout_bench(tmp_path: Path) -> None:
    found = fanout_bench.fanout(tmp_path, 3, 2, 0.1, 1, quiet=True)
    assert found.deltas > 5
    assert found.deltas_per_write >= 1
    assert found.exchange.per_second > 0
    assert found.ratio_send.median < 1
    assert msgspec.json.decode(msgspec.json.encode(found), type=fanout_bench.Fanout) == found


@pytest.mark.slow
def test_memory_of_idle_sessions(tmp_path: Path) -> None:
    result = fanout_bench.measure((), sessions=10, warm_up_sessions=LOGINS_PER_ADDRESS // 2 + 1, settle=0.05, data=tmp_path)
    assert result.fanouts == []
    assert set(result.met) == {"session_bytes", "trader_bytes"}
    assert msgspec.json.decode(msgspec.json.encode(result), type=fanout_bench.Result) == result
    assert list(tmp_path.iterdir()) == []


def test_a_stream_with_a_gap_is_noticed() -> None:
    def read(seq: int, prev_seq: int) -> tuple[float, bytes]:
        payload = b'{"params":{"channel":"book.X","type":"delta","seq":%d,"prev_seq":%d}}' % (seq, prev_seq)
        return float(seq), bytes((0x81, len(payload))) + payload

    (first, second) = fanout_bench.recorded([read(4, 3), read(5, 4)], 2, 1)
    assert (first.at_s, second.at_s) == (0.0, 1.0)
    assert second.block == read(5, 4)[1]
    late = [(1.0, read(4, 3)[1] + read(5, 4)[1] + read(6, 5)[1])]
    assert [len(played.frames) for played in fanout_bench.recorded(late, 3, 2)] == [2, 1]
    with pytest.raises(OutcomeError, match="after delta 4"):
        fanout_bench.recorded([read(4, 3), read(6, 5)], 2, 1)
    with pytest.raises(OutcomeError, match="3 changes of the book, 2 deltas"):
        fanout_bench.recorded([read(4, 3), read(5, 4)], 3, 1)


def test_gateway_bench_notices_a_server_that_does_not_start() -> None:
    with pytest.raises(OutcomeError, match="did not start"), process("-c", "pass"):
        pass


def test_frames_are_found_in_what_was_read() -> None:
    small, large = b"\x81\x02{}", b"\x81\x7e" + (300).to_bytes(2) + b"x" * 300
    assert split(small + large + small[:-1]) == ([b"{}", b"x" * 300], len(small + large))
    assert split(large[:3]) == ([], 0)
    with pytest.raises(OutcomeError, match="with 4003"):
        split(b"\x88\x02" + (4003).to_bytes(2))


def test_heartbeats_are_left_out_of_a_stream() -> None:
    def frame(payload: bytes) -> bytes:
        return b"\x81" + (bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)) + payload

    delta, short = frame(b'{"method":"subscription"}'), frame(b'{"method":"heartbeat","params":{}}')
    long = frame(b'{"method":"heartbeat","params":"%b"}' % (b"x" * 200))
    assert fanout_bench.without_heartbeats(delta + short + delta + long) == delta + delta
    assert fanout_bench.without_heartbeats(long + delta) == delta
