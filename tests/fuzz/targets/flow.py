"""Any file is a flow that replays to an engine whose invariants hold, or a FlowError that names line and field.

The first byte says which price and quantity steps are used; the rest is the file, plain or gzip.
"""

import gzip
from collections.abc import Iterator
from typing import Final

import msgspec

from engine.invariants import check
from engine.types import Side
from hashpit.replay import LINE_BYTES_MAX, FlowError, LineError, Replay, Report, _lines, replay
from tests.fuzz.runner import scratch

BYTES_MAX = 4_096
STEPS: Final = (("0.01", "0.00000001"), ("1", "1"), ("0.000001", "0.5"), ("5", "0.00000000000001"), ("0", "x"))
WORDS = (
    *(f'"{name}"'.encode() for name in ("op", "id", "side", "qty", "type", "price", "tif", "post_only", "account")),
    *(
        f'"{name}"'.encode()
        for name in ("place", "amend", "cancel", "buy", "sell", "market", "limit", "ioc", "fok", "slide", "a")
    ),
    *(b'"100.00"', b'"0.01"', b'"1"', b'"0"', b"}\n{", b"\x1f\x8b\x08", b"null", b"99999999999", b"\xc3\xa9"),
)
_HOME: Final = scratch()
FLOW, TRADES, BOOK = _HOME / "flow", _HOME / "trades", _HOME / "book"


def one(data: bytes) -> None:
    tick, lot = STEPS[data[0] % len(STEPS)] if data else STEPS[0]
    FLOW.write_bytes(data[1:])
    strict = _replay(tick, lot, skip_bad=False)
    lenient = _replay(tick, lot, skip_bad=True)
    if strict is not None:
        assert lenient is not None
        assert (strict.state_hash, strict.commands, strict.trades) == (lenient.state_hash, lenient.commands, lenient.trades)
    try:
        run = Replay(tick, lot)
    except FlowError:
        return
    with FLOW.open("rb") as file:
        try:
            for _, line in _lines(file):
                assert len(line) <= LINE_BYTES_MAX
                try:
                    run.feed(line)
                except FlowError as error:
                    assert str(error)
        except LineError:
            pass
    check(run.engine)
    for side in Side:
        assert all(flow_id in run._open for _, _, flow_id in run.orders(side))


def _replay(tick: str, lot: str, skip_bad: bool) -> Report | None:
    for path in (TRADES, BOOK):
        path.unlink(missing_ok=True)
    try:
        report = replay(FLOW, tick=tick, lot=lot, trades=TRADES, book=BOOK, skip_bad=skip_bad)
    except FlowError as error:
        assert str(error)
        assert not TRADES.exists(), "half a result was left"
        assert not BOOK.exists(), "half a result was left"
        return None
    assert len(TRADES.read_bytes().splitlines()) == report.trades
    msgspec.json.decode(BOOK.read_bytes())
    return report


def seeds() -> Iterator[tuple[str, bytes]]:
    """The flow of docs/REPLAY.md and its like."""
    lines = [
        b'{"op":"place","id":"a1","side":"buy","type":"limit","price":"6190.84","qty":"1.6002045","tif":"gtc"}',
        b'{"op":"place","id":"a2","side":"sell","price":"6190.84","qty":"1","post_only":"slide","account":"m"}',
        b'{"op":"amend","id":"a1","price":"6190.90","qty":"1.0"}',
        b'{"op":"place","id":"a3","side":"sell","type":"market","qty":"2.5","tif":"fok","account":"m"}',
        b'{"op":"place","id":"a4","side":"sell","price":"6190","qty":"0.5","tif":"ioc"}',
        b'{"op":"cancel","id":"a1"}',
    ]
    flow = b"\n".join(lines) + b"\n"
    yield "plain", b"\x00" + flow
    yield "gzip", b"\x00" + gzip.compress(flow, mtime=0)
    yield "gzip-torn", b"\x00" + gzip.compress(flow, mtime=0)[:60]
    yield "whole-steps", b"\x01" + flow.replace(b"6190.84", b"6190").replace(b"1.6002045", b"2").replace(b"6190.90", b"6191")
    yield "fine", b"\x02" + flow.replace(b"1.6002045", b"1.5")
    yield "finest", b"\x03" + b'{"op":"place","id":"a","side":"buy","price":"10","qty":"92233720368547.75807"}'
    yield "no-step", b"\x04" + flow
    yield "blank", b"\x00\n\n  \n" + lines[0]
    yield "twice", b"\x00" + lines[0] + b"\n" + lines[0]
    yield "amend-away", b"\x00" + lines[0] + b'\n{"op":"amend","id":"a1","qty":"0"}\n{"op":"amend","id":"a1","price":"0"}'
    yield "wrong", b"\x00" + b'{"op":"place","id":1}\n{"op":"x"}\n[]\n'
