"""Feed a recorded order flow through the real engine: `hashpit replay FLOW`, or `python -m hashpit.replay FLOW`.

FLOW is JSON lines, plain or gzip, one command each::

    {"op":"place","id":"a1","side":"buy","type":"limit","price":"6190.84","qty":"1.6002045","tif":"gtc"}
    {"op":"amend","id":"a1","price":"6190.90","qty":"1.0"}
    {"op":"cancel","id":"a1"}

``type`` is limit (default) or market, ``tif`` gtc (default), ioc or fok, ``post_only`` off (default), reject or slide,
``account`` any text: orders that name the same account belong together, others have an account to themselves. ``qty``
of an amend is the new total, what has filled included. Amounts are text, plain decimals, whole ticks or lots.

What a recorded flow lacks is filled in so that it changes nothing of the matching:

* **Credit is unlimited.** The replay's market lasts one second and has neither fee nor bond, so that an order needs
  next to no money; what it needs is deposited before it is placed, by commands of the engine like any other.
* **An account has at most one unnamed order open**, so unnamed orders never trade with themselves; the accounts of
  closed orders are used again, and orders that cannot rest share one. Memory follows the open orders and named accounts.
* **A market order takes any price**: it is sent as an IOC (or FOK) limit order at the edge of what a price may be, as
  a recording knows nothing of the price band of the engine's own market orders. It never rests, whatever its ``tif``.
* **An id is free again when its order is closed.** While it is open, a second of that id is refused (DUPLICATE_ID).

All else is the engine's answer: what it refuses is counted by reason, and the replay goes on. A line that is no command
stops the replay with LineError, naming the line and the field, or is only counted when told so.
"""

import gzip
import io
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, TypeAlias

from hashpit.build import prefer_source

if __name__ == "__main__":
    prefer_source()

import msgspec
import typer
from msgspec import Meta, Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from engine.commands import Amend, Cancel, Command, CreateAccount, Deposit, Entry, ListMarket, Place
from engine.core import Engine
from engine.events import Accepted, AccountCreated, Amended, Event, Rejected, Trade
from engine.limits import SECOND_NS, Limits
from engine.rejects import RejectCode, describe
from engine.snapshot import state_hash
from engine.types import MarketSpec, OrderType, PostOnly, Side, TimeInForce
from gateway.scale import Scale

LINE_BYTES_MAX: Final = 65_536
"""Longest line of a flow."""
ID_CHARS_MAX: Final = 256
"""Longest id or account name of a flow."""

SYMBOL: Final = "REPLAY"
DUPLICATE_ID: Final = "DUPLICATE_ID"
"""The one refusal that is not the engine's: an order of that id is open."""

LIMITS: Final = Limits(
    # a recording may hold any number of accounts and orders; what fits the machine's memory is welcome
    accounts_max=2**31,
    orders_per_account_max=2**31,
    orders_max=2**31,
    qty_max_lots=2**48,
    # nothing is ever repeated, so no outcome need be remembered
    client_order_id_ns=1,
)
CREDIT_MSAT: Final = 2**40
"""What an account gets at a time, at least: enough for most orders, and a small part of the 2^61 there is."""
STEP_NS: Final = 1_000
"""Engine time between two entries."""
PROGRESS_LINES: Final = 4_096
"""Lines between two looks at the progress bar."""


class FlowError(ValueError):
    """The flow, or an option, cannot be used. The message names the field or option."""


class LineError(FlowError):
    """A numbered line of the flow is no command, or cannot be read."""


# ------------------------------------------------------------------------------------------------------------- lines

Id: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]


class PlaceLine(Struct, tag_field="op", tag="place", forbid_unknown_fields=True, gc=False):
    id: Id
    side: Literal["buy", "sell"]
    qty: str
    type: Literal["limit", "market"] = "limit"
    price: str | None = None
    tif: Literal["gtc", "ioc", "fok"] | None = None
    post_only: Literal["off", "reject", "slide"] = "off"
    account: Id | None = None


class CancelLine(Struct, tag_field="op", tag="cancel", forbid_unknown_fields=True, gc=False):
    id: Id


class AmendLine(Struct, tag_field="op", tag="amend", forbid_unknown_fields=True, gc=False):
    """Whatever is missing stays as it is."""

    id: Id
    price: str | None = None
    qty: str | None = None


Line: TypeAlias = PlaceLine | CancelLine | AmendLine

_SIDES: Final = {"buy": Side.BUY, "sell": Side.SELL}
_POST_ONLY: Final = {"off": PostOnly.OFF, "reject": PostOnly.REJECT, "slide": PostOnly.SLIDE}
_TIMES_IN_FORCE: Final = {
    None: TimeInForce.GTC,
    "gtc": TimeInForce.GTC,
    "ioc": TimeInForce.IOC,
    "fok": TimeInForce.FOK,
}


class Report(Struct):
    """What a replay came to. ``commands`` are the flow's own, the rejected ones included; ``volume`` is what traded.

    ``seconds`` is the whole run, reading and writing files included.
    """

    commands: int
    trades: int
    rejects: int
    rejects_by_reason: dict[str, int]
    skipped: int
    volume: str
    seconds: float
    commands_per_second: int
    state_hash: str


# ------------------------------------------------------------------------------------------------------------ replay


class Replay:
    """One flow in one market of an engine of its own. Feed it lines; read trades and book from it."""

    def __init__(self, tick: str = "0.01", lot: str = "0.00000001") -> None:
        self.prices = _scale("tick", tick)
        self.quantities = _scale("lot", lot)
        self.commands = 0
        self.trades = 0
        self.volume_lots = 0
        self.rejects: Counter[str] = Counter()
        self.engine = Engine(LIMITS)
        spec = _spec(tick, lot)
        self._price_max = spec.price_max
        self._decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
        # open orders: (order_id, account) by the flow's id, and back
        self._open: dict[str, tuple[int, int]] = {}
        self._ids: dict[int, str] = {}
        self._named: dict[str, int] = {}
        self._named_accounts: set[int] = set()
        self._free: list[int] = []
        self._apply(ListMarket(spec))
        self._immediate = self._create_account()

    def feed(self, line: bytes) -> list[tuple[int, int, str, str, Side]]:
        """Do what ``line`` says; its trades as ``(price, qty, maker_id, taker_id, aggressor)`` in ticks and lots.

        Raises FlowError naming the field when the line is no command; then nothing has changed.
        """
        try:
            command = self._decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise FlowError(_explain(error)) from None
        except UnicodeDecodeError as error:
            raise FlowError(f"not UTF-8: {error.reason}") from None
        if type(command) is PlaceLine:
            events = self._place(command)
        elif type(command) is CancelLine:
            events = self._cancel(command)
        else:
            assert type(command) is AmendLine
            events = self._amend(command)
        self.commands += 1
        if len(events) <= 1:
            return []
        return self._book_trades(events, command.id)

    def orders(self, side: Side) -> Iterator[tuple[int, int, str]]:
        """``(price, remaining qty, id)`` of one side in priority order, in ticks and lots."""
        for order in self.engine.markets[SYMBOL].book.orders_best_first(side is Side.BUY):
            yield order.price, order.remaining, self._ids[order.order_id]

    # -- the three commands

    def _place(self, line: PlaceLine) -> list[Event]:
        qty = _steps("qty", line.qty, self.quantities)
        time_in_force = _TIMES_IN_FORCE[line.tif]
        side = _SIDES[line.side]
        price = 0 if line.price is None else _steps("price", line.price, self.prices)
        order_type = OrderType.LIMIT
        if line.type == "market":
            if time_in_force is TimeInForce.GTC:
                time_in_force = TimeInForce.IOC
            if price:
                order_type = OrderType.MARKET  # with a price, for the engine to refuse
            else:
                price = self._price_max if side is Side.BUY else 1
        elif line.price is None:
            raise FlowError("price: a limit order carries a price")
        if line.id in self._open:
            self.rejects[DUPLICATE_ID] += 1
            return []
        if line.account is not None:
            account = self._named_account(line.account)
        elif time_in_force is TimeInForce.GTC:
            account = self._free.pop() if self._free else self._create_account()
        else:
            account = self._immediate
        if side is Side.BUY:
            self._fund(account, self._need(price, qty), 0)
        events = self._apply(Place(account, SYMBOL, side, order_type, price, qty, time_in_force, _POST_ONLY[line.post_only]))
        first = events[0]
        if not self._rejected(events) and type(first) is Accepted and first.resting_qty:
            self._open[line.id] = (first.order_id, account)
            self._ids[first.order_id] = line.id
        else:
            self._release(account)
        return events

    def _cancel(self, line: CancelLine) -> list[Event]:
        found = self._open.get(line.id)
        if found is None:
            return self._unknown()
        events = self._apply(Cancel(found[1], found[0]))
        if not self._rejected(events):
            self._closed(line.id)
        return events

    def _amend(self, line: AmendLine) -> list[Event]:
        price = 0 if line.price is None else _steps("price", line.price, self.prices)
        qty = 0 if line.qty is None else _steps("qty", line.qty, self.quantities)
        found = self._open.get(line.id)
        if found is None:
            return self._unknown()
        order_id, account = found
        if line.qty is not None and qty == 0:
            # a total of nothing is never above what has filled, so the rest goes; as a number, 0 would mean: leave it
            return self._cancel(CancelLine(line.id))
        if line.price is not None and price == 0:
            price = -1  # for the engine to refuse; 0 would mean: leave it
        order = self.engine.accounts[account].orders[order_id]
        if order.is_buy:
            rest = (qty or order.qty) - order.filled
            self._fund(account, self._need(price or order.price, rest), order.unit_hold * order.remaining)
        events = self._apply(Amend(account, order_id, "", price, qty))
        first = events[0]
        if not self._rejected(events) and not (type(first) is Amended and first.resting_qty):
            self._closed(line.id)
        return events

    def _unknown(self) -> list[Event]:
        """The engine's refusal of an order that is not open: no order has the number of this entry yet."""
        events = self._apply(Cancel(self._immediate, self.engine.seq + 1))
        assert self._rejected(events), events
        return events

    def _rejected(self, events: list[Event]) -> bool:
        first = events[0]
        if type(first) is Rejected:
            self.rejects[first.code.name] += 1
            return True
        return False

    def _book_trades(self, events: list[Event], taker_id: str) -> list[tuple[int, int, str, str, Side]]:
        trades = []
        for event in events:
            if type(event) is Trade:
                maker_id = self._ids[event.maker_order_id]
                trades.append((event.price, event.qty, maker_id, taker_id, event.aggressor_side))
                self.volume_lots += event.qty
                if not event.maker_remaining:
                    self._closed(maker_id)
        self.trades += len(trades)
        return trades

    def _closed(self, flow_id: str) -> None:
        order_id, account = self._open.pop(flow_id)
        del self._ids[order_id]
        self._release(account)

    # -- accounts and their credit

    def _named_account(self, name: str) -> int:
        account = self._named.get(name)
        if account is None:
            account = self._named[name] = self._create_account()
            self._named_accounts.add(account)
        return account

    def _release(self, account: int) -> None:
        """The account's order is over; unless it is named or shared, the next order may have it."""
        if account != self._immediate and account not in self._named_accounts:
            self._free.append(account)

    def _create_account(self) -> int:
        event = self._apply(CreateAccount(f"replay {self.engine.seq}"))[0]
        assert type(event) is AccountCreated, event
        return event.account

    def _need(self, price: int, qty: int) -> int:
        """What the engine holds for a buy; a sell, without bond and fee, needs nothing."""
        return self.engine.markets[SYMBOL].terms.unit_hold_buy(price) * qty

    def _fund(self, account_id: int, need: int, own_hold: int) -> None:
        account = self.engine.accounts[account_id]
        missing = need - (account.balance - account.held + own_hold)
        if missing <= 0:
            return
        amount = max(missing, CREDIT_MSAT)
        first = self._apply(Deposit(account_id, amount, f"{self.engine.seq}"))[0]
        # DEPOSITS_FULL, AMOUNT_INVALID: the engine then refuses the order for its funds or its size, and says which
        assert type(first) is not Rejected or first.code in _CREDIT_ENDS, describe(first.code, first.bound)

    def _apply(self, command: Command) -> list[Event]:
        seq = self.engine.seq + 1
        return self.engine.apply(Entry(seq, seq * STEP_NS, command))


_CREDIT_ENDS: Final = (RejectCode.DEPOSITS_FULL, RejectCode.AMOUNT_INVALID)


def _spec(tick: str, lot: str) -> MarketSpec:
    """A market without fee, bond or end, and with the smallest notional there can be."""
    end_ns = 2**61
    return MarketSpec(
        symbol=SYMBOL,
        algorithm="REPLAY",
        speed_unit="units",
        tick_size=tick,
        lot_size=lot,
        tick_lot_msat=1,
        lot_hashrate=1,
        gate_ns=end_ns,
        period_start_ns=end_ns,
        period_end_ns=end_ns + SECOND_NS,
        settle_ns=end_ns + SECOND_NS,
        reference_price=1,
        price_max=LIMITS.price_max_ticks,
        qty_max=LIMITS.qty_max_lots,
        maker_fee_bps=0,
        taker_fee_bps=0,
        bond_bps=0,
    )


def _scale(option: str, step: str) -> Scale:
    try:
        return Scale(step)
    except ValueError:
        raise FlowError(f"{option}: expected a plain decimal above zero such as 0.01, not {step!r}") from None


def _steps(field: str, text: str, scale: Scale) -> int:
    try:
        return scale.parse(text)
    except ValueError:
        pass
    try:
        # zeros at the end may go beyond the step: 1.500 is as good as 1.5
        whole, _, fraction = text.partition(".")
        return scale.parse(text.rstrip("0").removesuffix(".") if whole and fraction.endswith("0") else text)
    except ValueError as error:
        raise FlowError(f"{field}: {error}") from None


def _explain(error: msgspec.MsgspecError) -> str:
    """msgspec's message with the field in front, where it names one by path."""
    message, _, path = str(error).partition(" - at `$.")
    return f"{path.rstrip('`')}: {message}" if path else message


# ------------------------------------------------------------------------------------------------------------- files


def replay(
    flow: Path,
    *,
    tick: str = "0.01",
    lot: str = "0.00000001",
    trades: Path | None = None,
    book: Path | None = None,
    skip_bad: bool = False,
    progress: bool = False,
) -> Report:
    """Replay the file ``flow``; write its trades and the final book where told, both or, after an error, neither.

    Raises LineError for a bad line (with ``skip_bad`` such lines are only counted), FlowError when all of them are bad, OSError
    for files.
    """
    started = time.perf_counter()
    run = Replay(tick, lot)
    skipped = 0
    with ExitStack() as stack:
        raw = stack.enter_context(flow.open("rb"))
        out = stack.enter_context(_whole(trades)) if trades else None
        bar = _Bar(stack, flow) if progress else None
        for number, line in _lines(raw):
            try:
                matched = run.feed(line)
            except FlowError as error:
                if not skip_bad:
                    raise LineError(f"line {number}: {error}") from None
                skipped += 1
                continue
            if out is not None and matched:
                out.writelines(_trade_line(run, *trade) for trade in matched)
            if bar is not None and number % PROGRESS_LINES == 0:
                bar.show(raw.tell())
        if skipped and not run.commands:
            raise FlowError(f"{flow}: not one of its {skipped} lines is a command")
        if book is not None:
            stack.enter_context(_whole(book)).write(_book_json(run))
    seconds = time.perf_counter() - started
    return Report(
        commands=run.commands,
        trades=run.trades,
        rejects=run.rejects.total(),
        rejects_by_reason=dict(sorted(run.rejects.items())),
        skipped=skipped,
        volume=run.quantities.format(run.volume_lots),
        seconds=round(seconds, 6),
        commands_per_second=round(run.commands / seconds),
        state_hash=state_hash(run.engine),
    )


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name only when it was written to the end; a pipe or device is written as it is."""
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:  # a new file, wherever a link of that name led
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _lines(raw: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number and text of every line that is not blank, from a plain or gzip file."""
    zipped = raw.read(2) == b"\x1f\x8b"
    raw.seek(0)
    text = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 18) if zipped else raw
    number = 0
    while True:
        number += 1
        try:
            line = text.readline(LINE_BYTES_MAX + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise LineError(f"line {number}: the gzip file is damaged: {error}") from None
        if not line:
            return
        if len(line) > LINE_BYTES_MAX:
            raise LineError(f"line {number}: longer than {LINE_BYTES_MAX} bytes")
        if not line.isspace():
            yield number, line


def _trade_line(run: Replay, price: int, qty: int, maker_id: str, taker_id: str, aggressor: Side) -> bytes:
    return (
        _ENCODER.encode(
            {
                "price": run.prices.format(price),
                "qty": run.quantities.format(qty),
                "maker_id": maker_id,
                "taker_id": taker_id,
                "aggressor": "buy" if aggressor is Side.BUY else "sell",
            }
        )
        + b"\n"
    )


def _book_json(run: Replay) -> bytes:
    sides = {
        name: [(run.prices.format(price), run.quantities.format(qty), flow_id) for price, qty, flow_id in run.orders(side)]
        for name, side in (("bids", Side.BUY), ("asks", Side.SELL))
    }
    return _ENCODER.encode(sides) + b"\n"


_ENCODER: Final = msgspec.json.Encoder()


class _Bar:
    """A progress bar on standard error, by bytes of the file read."""

    def __init__(self, stack: ExitStack, flow: Path) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        self._progress = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
        self._task = self._progress.add_task(f"replaying {flow.name}", total=flow.stat().st_size)

    def show(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


# ------------------------------------------------------------------------------------------------------ command line


def command(
    flow: Annotated[Path, typer.Argument(metavar="FLOW", help="JSON lines, plain or gzip", exists=True)],
    tick: Annotated[str, typer.Option(help="price step")] = "0.01",
    lot: Annotated[str, typer.Option(help="quantity step")] = "0.00000001",
    trades: Annotated[Path | None, typer.Option(metavar="OUT.jsonl", help="write each trade here")] = None,
    book: Annotated[Path | None, typer.Option(metavar="OUT.json", help="write the final book here")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="count lines that are no command; do not stop")] = False,
) -> None:
    """Feed a recorded order flow through the real engine and print one JSON object.

    A line of FLOW is a command, such as

    {"op":"place","id":"a1","side":"buy","price":"6190.84","qty":"1.6"}

    {"op":"amend","id":"a1","qty":"1.0"}

    {"op":"cancel","id":"a1"}

    All fields, and what comes out: docs/REPLAY.md.

    Example: hashpit replay flow.jsonl.gz --tick 0.01 --lot 0.00000001 --trades trades.jsonl --book book.json
    """
    try:
        report = replay(flow, tick=tick, lot=lot, trades=trades, book=book, skip_bad=skip_bad, progress=sys.stderr.isatty())
    except LineError as error:
        typer.echo(f"hashpit replay: {flow}: {error}", err=True)
        raise typer.Exit(2) from None
    except (FlowError, OSError) as error:
        typer.echo(f"hashpit replay: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(msgspec.json.encode(report).decode())


if __name__ == "__main__":
    typer.run(command)
