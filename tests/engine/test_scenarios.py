"""The tables in scenarios/: one command per row, what the exchange answers in the last column, the book drawn below.

A file holds scenarios; each starts with a line of its own, ``== what it shows``. Before the table may stand

    limits orders_max=2            engine limits other than the default
    market M1 bond_bps=0           a market's terms other than the default; M1 is listed anyway, where no live market is
    live L1 pricing=uniform        a live market, with terms other than the default
    funds ada 500                  msat that an account starts with, instead of 10,000,000

A row is ``account | command | events``. ``a1: buy 3 @ 20`` names an order a1; events and the book use that name. After the
table ``book M1`` draws the queues, first in line first, and ``ada balance=.. held=.. position=..`` states what an account has.
In the book of a live market stands what each order has of what it could have: ``b1:4/10`` has 4 lots of its limit of 10.
Every row runs through the engine and the oracle, which must agree, and the engine's invariants are checked.

    python -m tests.engine.test_scenarios          writes the events and figures that the oracle finds into the tables
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.commands import (
    Amend,
    AmendAsk,
    AmendBid,
    Cancel,
    CancelAll,
    Command,
    CreateAccount,
    DeletePool,
    Deposit,
    Entry,
    ListLive,
    ListMarket,
    Place,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    ReportWork,
    SavePool,
    SetDestination,
    SetIndex,
    SetMarketState,
    Settle,
    Tick,
    Withdraw,
)
from engine.core import Engine
from engine.events import (
    Accepted,
    AccountCreated,
    Amended,
    AskAmended,
    AskEnded,
    AskPlaced,
    BalanceChanged,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    BidResumed,
    BidStopped,
    Canceled,
    DeliveryAssigned,
    DeliverySettled,
    DeliveryUpdated,
    DestinationSet,
    Event,
    FlowChanged,
    FlowPaid,
    IndexSet,
    LiveListed,
    MarketListed,
    MarketStateChanged,
    PoolDeleted,
    PoolSaved,
    Reduced,
    Rejected,
    Trade,
)
from engine.invariants import check
from engine.limits import SECOND_NS, Limits
from engine.rejects import RejectCode
from engine.types import (
    FlowCause,
    LiveSpec,
    MarketState,
    OrderType,
    Peg,
    PostOnly,
    Pricing,
    SelfTradePrevention,
    Side,
    TimeInForce,
)
from tests.reference.exchange import NaiveExchange
from tests.reference.live_check import check_live
from tests.reference.market import LIVE_SPEC, SPEC, START_NS

FILES = sorted(Path(__file__).with_name("scenarios").glob("*.txt"))
ACCOUNTS = ("ada", "bob", "cyd", "dan", "eve")
HOUSE = {"fees": 1, "insurance": 2, "nobody": 99}
FUNDS_MSAT = 10_000_000
GIVEN = ("limits", "market", "live", "funds")
POOL = ("stratum+tcp://pool.example:3333", "rig")


@dataclass
class Scenario:
    title: str
    given: list[list[str]] = field(default_factory=list)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    books: dict[str, list[str]] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)


def parse(text: str) -> list[Scenario]:
    scenarios: list[Scenario] = []
    drawing: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("== "):
            scenarios.append(Scenario(line[3:]))
            drawing = []
            continue
        if not line or line.startswith("#"):
            continue
        scenario = scenarios[-1]
        words = line.split()
        if words[0] == "book":
            drawing = scenario.books.setdefault(words[1], [])
        elif raw.startswith("    "):
            drawing.append(line)
        elif "|" in line:
            account, command, events = (cell.strip() for cell in line.split("|"))
            scenario.rows.append((account, command, events))
        elif words[0] in GIVEN:
            scenario.given.append(words)
        else:
            scenario.figures.append(line)
    return scenarios


def nanoseconds(text: str) -> int:
    for unit, length in (("ms", SECOND_NS // 1_000), ("ns", 1), ("s", SECOND_NS)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * length
    raise ValueError(f"{text} has no unit")


def live_spec(symbol: str, words: list[str]) -> LiveSpec:
    """A live market's terms: a number, ``pricing=uniform``, or a span such as ``lock_ns=3s``."""
    terms: dict[str, object] = {"symbol": symbol}
    for word in words:
        name, _, value = word.partition("=")
        if name == "pricing":
            terms[name] = Pricing[value.upper()]
        elif name.endswith("_ns"):
            terms[name] = nanoseconds(value)
        else:
            terms[name] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return replace(LIVE_SPEC, **terms)


def keywords(words: list[str]) -> dict[str, int | str]:
    """``name=value`` words; ``6s`` after START_NS for instants."""
    result: dict[str, int | str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name.endswith("_ns") and value.endswith("s"):
            result[name] = START_NS + nanoseconds(value)
        else:
            result[name] = int(value) if re.fullmatch(r"-?\d+", value) else value
    return result


class Table:
    """Runs a scenario's rows through engine and oracle."""

    def __init__(self, scenario: Scenario, strict: bool = True) -> None:
        self.strict = strict
        limits = Limits()
        funds = dict.fromkeys(ACCOUNTS, FUNDS_MSAT)
        markets: dict[str, dict[str, int | str]] = {}
        live: list[LiveSpec] = []
        for words in scenario.given:
            if words[0] == "limits":
                limits = replace(limits, **keywords(words[1:]))
            elif words[0] == "market":
                markets[words[1]] = keywords(words[2:])
            elif words[0] == "live":
                live.append(live_spec(words[1], words[2:]))
            else:
                funds[words[1]] = int(words[2])
        if not live:
            markets.setdefault("M1", {})
        self.engine, self.oracle = Engine(limits), NaiveExchange(limits)
        self.now = START_NS
        self.accounts = dict(HOUSE)
        self.labels: dict[str, int] = {}
        for name in ACCOUNTS:
            self.apply(CreateAccount(name))
        for name, amount in funds.items():
            if amount:
                self.apply(Deposit(self.accounts[name], amount, f"funds-{name}"))
        for symbol, terms in markets.items():
            events = self.apply(ListMarket(replace(SPEC, symbol=symbol, **terms)))
            assert isinstance(events[0], MarketListed), events
        for spec in live:
            events = self.apply(ListLive(spec))
            assert isinstance(events[0], LiveListed), events

    def apply(self, command: Command, deadline_ns: int = 0) -> list[Event]:
        entry = Entry(self.oracle.seq + 1, self.now, command, deadline_ns)
        expected, events = self.oracle.apply(entry), self.engine.apply(entry)
        if self.strict:
            assert events == expected
            check(self.engine)
        check_live(self.oracle)
        for event in expected:
            if isinstance(event, AccountCreated):
                self.accounts[event.name] = event.account
        return expected

    def run(self, account: str, text: str) -> str:
        """The events of one row, as text."""
        label, colon, rest = text.partition(": ")
        if colon:
            self.labels[label] = self.oracle.seq + 1
            text = rest
        words = text.split()
        deadline = 0
        if "by" in words:
            at = words.index("by")
            deadline = self.now + nanoseconds(words[at + 1])
            del words[at : at + 2]
        command = self.command(account, words)
        return "; ".join(self.describe(event) for event in self.apply(command, deadline)) or "-"

    # --- Commands as a trader writes them -------------------------------------------------------------------------

    def command(self, who: str, words: list[str]) -> Command:
        verb, rest = words[0], words[1:]
        account = self.accounts.get(who, 0)
        match verb:
            case "bid" | "ask" | "report" | "refill" | "index" | "pool":
                return self.live_command(account, verb, rest)
            case "amend" | "list" if rest[0] in ("bid", "ask", "live"):
                return self.live_command(account, f"{verb} {rest[0]}", rest[1:])
            case "buy" | "sell":
                return self.place(account, Side[verb.upper()], rest)
            case "amend":
                order_id, client_order_id = self.reference(rest)
                price = int(rest[rest.index("@") + 1]) if "@" in rest else 0
                qty = int(rest[rest.index("qty") + 1]) if "qty" in rest else 0
                return Amend(account, order_id, client_order_id, price, qty)
            case "cancel" if rest[0] == "all":
                side = next((Side[word.upper()] for word in rest if word in ("buy", "sell")), None)
                symbol = next((word for word in rest[1:] if word not in ("buy", "sell", "operator")), "")
                return CancelAll(account, symbol, side, "operator" in rest)
            case "cancel":
                return Cancel(account, *self.reference(rest))
            case "destination":
                return SetDestination(account, rest[0], rest[1] if len(rest) > 1 else "", " ".join(rest[2:]))
            case "create":
                return CreateAccount(" ".join(rest).replace("<65>", "x" * 65))
            case "deposit":
                return Deposit(account, int(rest[0]), rest[1] if len(rest) > 1 else f"t{self.oracle.seq}")
            case "withdraw":
                return Withdraw(account, int(rest[0]), rest[1] if len(rest) > 1 else f"t{self.oracle.seq}")
            case "list":
                return ListMarket(replace(SPEC, **({"symbol": rest[0]} | keywords(rest[1:]))))
            case "state":
                return SetMarketState(rest[0], MarketState[rest[1].upper()])
            case "work":
                return ReportWork(*(int(word) for word in rest if word.lstrip("-").isdigit()))
            case "settle":
                return Settle(rest[0], int(rest[2]) if len(rest) > 2 else 0)
            case "wait":
                self.now += self.pause(rest)
                return Tick()
        raise ValueError(f"no command {verb!r}")

    def pause(self, words: list[str]) -> int:
        """``wait 5s``, ``wait for gate``: gate, start, end or settle of M1."""
        if words[0] != "for":
            return nanoseconds(words[0])
        spec = self.oracle.markets["M1"].spec
        instants = {
            "gate": spec.gate_ns,
            "start": spec.period_start_ns,
            "end": spec.period_end_ns,
            "settle": spec.settle_ns,
        }
        return instants[words[1]] - self.now

    def reference(self, words: list[str]) -> tuple[int, str]:
        """An order by the table's name for it, by client order id (``id x``), or by a number that no order has."""
        if words[0] == "id":
            return 0, words[1]
        return self.labels.get(words[0]) or int(words[0]), ""

    def live_command(self, account: int, verb: str, words: list[str]) -> Command:
        match verb:
            case "bid":
                return self.bid(account, words)
            case "ask":
                told = options(words[1:], {"in": 1, "for": 1, "id": 1})
                expires_ns = self.now + nanoseconds(told["for"][0]) if "for" in told else 0
                market, client_order_id = told.get("in", ["L1"])[0], told.get("id", [""])[0]
                return PlaceAsk(account, market, int(told["@"][0]), int(words[0]), expires_ns, client_order_id)
            case "amend bid":
                order_id, client_order_id = self.reference(words)
                told = options(words[2 if words[0] == "id" else 1 :], {"limit": 1, "to": 2})
                price, limit = int(told.get("@", ["0"])[0]), lots(told.get("limit", ["-1"])[0])
                url, worker = told.get("to", ["", ""])
                return AmendBid(account, order_id, client_order_id, price, limit, url, worker)
            case "amend ask":
                order_id, client_order_id = self.reference(words)
                told = options(words[2 if words[0] == "id" else 1 :], {"speed": 1})
                return AmendAsk(
                    account, order_id, client_order_id, int(told.get("@", ["0"])[0]), int(told.get("speed", ["0"])[0])
                )
            case "refill":
                order_id, client_order_id = self.reference(words)
                amount, *refill_id = words[2:] if words[0] == "id" else words[1:]
                named = refill_id[0] if refill_id else f"r{self.oracle.seq}"
                return RefillBid(account, order_id, client_order_id, int(amount), named)
            case "report":
                return ReportFlow(int(words[0]), int(words[1]), "final" in words)
            case "index":
                return SetIndex(words[0], int(words[1]))
            case "list live":
                return ListLive(live_spec(words[0], words[1:]))
            case "pool" if words[0] == "delete":
                return DeletePool(account, self.labels.get(words[1]) or int(words[1]))
            case "pool":
                pool_id = self.labels.get(words[0]) or int(words[0])
                name, algorithm, url, worker, *password = (word.replace("<65>", "x" * 65) for word in words[1:])
                return SavePool(account, pool_id, name, algorithm, url, worker, *password)
        raise ValueError(f"no command {verb!r}")

    def bid(self, account: int, words: list[str]) -> PlaceBid:
        """``bid 5 @ 20 budget 900``; without a budget it is 100,000 msat."""
        takes = {"in": 1, "for": 1, "id": 1, "budget": 1, "peg": 2, "floor": 1, "to": 2}
        told = options(words[1:], takes)
        peg, offset = told.get("peg", ["none", "0"])
        url, worker = told.get("to", POOL)
        return PlaceBid(
            account=account,
            market=told.get("in", ["L1"])[0],
            price=int(told["@"][0]),
            limit=lots(words[0]),
            budget=int(told.get("budget", ["100000"])[0]),
            url=url,
            worker=worker,
            peg=Peg[peg.upper()],
            offset=int(offset),
            floor=int(told.get("floor", ["0"])[0]),
            expires_ns=self.now + nanoseconds(told["for"][0]) if "for" in told else 0,
            client_order_id=told.get("id", [""])[0],
        )

    def place(self, account: int, side: Side, words: list[str]) -> Place:
        fields: dict[str, object] = {"order_type": OrderType.LIMIT, "price": 0, "market": "M1"}
        qty = int(words[0])
        rest = iter(words[1:])
        for word in rest:
            match word:
                case "@":
                    fields["price"] = int(next(rest))
                case "market":
                    fields["order_type"] = OrderType.MARKET
                    fields.setdefault("time_in_force", TimeInForce.IOC)
                case "gtc" | "ioc" | "fok":
                    fields["time_in_force"] = TimeInForce[word.upper()]
                case "gtd":
                    fields["time_in_force"] = TimeInForce.GTD
                    fields["expires_ns"] = self.now + nanoseconds(next(rest))
                case "post":
                    fields["post_only"] = PostOnly.REJECT
                case "slide":
                    fields["post_only"] = PostOnly.SLIDE
                case "reduce":
                    fields["reduce_only"] = True
                case "stp":
                    fields["self_trade_prevention"] = SelfTradePrevention[next(rest).upper()]
                case "id":
                    fields["client_order_id"] = next(rest)
                case "in":
                    fields["market"] = next(rest)
                case _:
                    raise ValueError(f"what is {word!r}?")
        return Place(account=account, side=side, qty=qty, **fields)  # type: ignore[arg-type]

    # --- Events as a trader reads them ----------------------------------------------------------------------------

    def order(self, order_id: int) -> str:
        return next((label for label, seq in self.labels.items() if seq == order_id), str(order_id))

    def account(self, account: int) -> str:
        return next(name for name, number in self.accounts.items() if number == account)

    def describe(self, event: Event) -> str:
        match event:
            case Accepted():
                again = " again" if event.repeat else ""
                return f"accepted{again} @ {event.price}, rests {event.resting_qty}"
            case Rejected():
                again = "rejected again" if event.repeat else "rejected"
                return f"{again} {event.code.name} {event.bound}"
            case Trade():
                return f"{self.order(event.maker_order_id)} trades {event.qty} @ {event.price}"
            case Canceled():
                return f"{self.order(event.order_id)} canceled {event.qty} {event.reason.name}"
            case Reduced():
                lost, left = event.qty, event.remaining_qty
                return f"{self.order(event.order_id)} reduced {lost} to {left} {event.reason.name}"
            case Amended():
                place = "keeps its place" if event.kept_priority else "goes last"
                return f"amended {event.qty} @ {event.price}, rests {event.resting_qty}, {place}"
            case AccountCreated():
                return f"account {event.account}"
            case BalanceChanged():
                return f"balance {event.balance}{' again' if event.repeat else ''}"
            case MarketListed():
                return f"listed {event.spec.symbol}"
            case MarketStateChanged():
                return f"{event.market} {event.state.name}"
            case DestinationSet():
                return f"destination {event.worker}@{event.url}"
            case DeliveryAssigned():
                pair = f"{self.account(event.seller)} to {self.account(event.buyer)}"
                money = f"proceeds {event.proceeds}, bond {event.bond}, cost {event.cost}"
                return f"delivery {event.delivery_id}: {pair} {event.qty} lots ({money})"
            case DeliveryUpdated():
                work = f"{event.proven_hashes} proven, {event.excused_hashes} excused"
                return f"delivery {event.delivery_id} {event.state.name}: {work}"
            case DeliverySettled():
                words = [
                    f"delivery {event.delivery_id}: {event.delivered_hashes} of {event.contracted_hashes}",
                    f"paid {event.paid}",
                    f"bond {event.bond_released}",
                ]
                for name in ("refund", "from_insurance", "surplus", "uncovered", "compensation"):
                    if getattr(event, name):
                        words.append(f"{name} {getattr(event, name)}")
                return ", ".join(words + ["breach"] * event.breach)
        return self.describe_live(event)

    def describe_live(self, event: Event) -> str:
        match event:
            case BidPlaced():
                of = f" of at most {event.cap}" if event.peg != Peg.NONE else ""
                return f"bid{' again' * event.repeat} @ {event.price}{of}"
            case AskPlaced():
                return f"ask{' again' * event.repeat} {event.speed} @ {event.price}"
            case BidAmended(cause=FlowCause.BID_REPRICED):
                return f"{self.order(event.order_id)} follows from {event.old_price} to {event.price}"
            case BidAmended():
                price = f"{event.old_price} to {event.price}" if event.price != event.old_price else event.price
                of = f" of at most {event.cap}" if event.cap != event.price else ""
                return f"{self.order(event.order_id)} @ {price}{of}, limit {event.limit or 'any'}"
            case AskAmended():
                return f"{self.order(event.order_id)} {event.speed} @ {event.price}"
            case BidStopped():
                return f"{self.order(event.order_id)} stopped, {event.left} left"
            case BidResumed():
                return f"{self.order(event.order_id)} back @ {event.price}, {event.left} left"
            case BidRefilled():
                return f"{self.order(event.order_id)} refilled{' again' * event.repeat}, {event.left} left"
            case BidEnded():
                money = f"spent {event.spent} of {event.budget}, returned {event.returned}"
                return f"{self.order(event.order_id)} ended {event.reason.name}: {money}"
            case AskEnded():
                return f"{self.order(event.order_id)} ended {event.reason.name}"
            case FlowChanged():
                if event.speed == event.old_speed:
                    return f"flow {event.flow_id} to {event.worker}@{event.url}"
                pair = f"{self.order(event.ask_id)} to {self.order(event.bid_id)}"
                return f"flow {event.flow_id} {pair} {event.old_speed}>{event.speed}"
            case FlowPaid():
                words = [f"flow {event.flow_id} proves {event.work} of {event.hashes}"]
                for name in ("cost", "buyer_fee", "seller_fee", "released"):
                    if getattr(event, name):
                        words.append(f"{name} {getattr(event, name)}")
                return ", ".join(words + ["done with"] * event.final)
            case LiveListed():
                return f"listed {event.spec.symbol}"
            case IndexSet():
                return f"index {event.price}"
            case PoolSaved():
                return f"pool {self.order(event.pool_id)} {event.name}: {event.worker}@{event.url}"
            case PoolDeleted():
                return f"pool {self.order(event.pool_id)} gone"
        raise ValueError(event)

    # --- What stands below the table ------------------------------------------------------------------------------

    def book(self, symbol: str) -> list[str]:
        """One line per price, highest first: ``bids | price | asks``, each queue from its first order to its last."""
        if symbol in self.oracle.live.markets:
            return self.live_book(symbol)
        market = self.engine.markets[symbol]
        levels: dict[int, tuple[list[str], list[str]]] = {}
        sums: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for column, side in enumerate((Side.BUY, Side.SELL)):
            for order in self.oracle.book(symbol, side):
                levels.setdefault(order.price, ([], []))[column].append(f"{self.order(order.order_id)}:{order.remaining}")
                sums[column][order.price] = sums[column].get(order.price, 0) + order.remaining
        if self.strict:
            assert market.book.bids_best_first() == list(sums[0].items())
            assert market.book.asks_best_first() == list(sums[1].items())
        return [f"{' '.join(bids)} | {price} | {' '.join(asks)}" for price, (bids, asks) in sorted(levels.items())[::-1]]

    def live_book(self, symbol: str) -> list[str]:
        """The same for a live market: speed and size of each order."""
        live = self.oracle.live
        bids, asks = live.book(symbol)
        levels: dict[int, tuple[list[str], list[str]]] = {}
        for bid in bids:
            shown = f"{self.order(bid.order_id)}:{live.speed(bid)}/{bid.limit or 'any'}"
            levels.setdefault(bid.price, ([], []))[0].append(shown)
        for ask in asks:
            shown = f"{self.order(ask.order_id)}:{live.speed(ask)}/{ask.speed}"
            levels.setdefault(ask.price, ([], []))[1].append(shown)
        return [f"{' '.join(bids)} | {price} | {' '.join(asks)}" for price, (bids, asks) in sorted(levels.items())[::-1]]

    def figures(self, line: str) -> str:
        """The line about an account with today's figures; the same names in the same order."""
        name, *words = line.split()
        account = self.engine.accounts[self.accounts[name]]
        result = [name]
        for word in words:
            what = word.partition("=")[0]
            if what in ("balance", "held"):
                result.append(f"{what}={getattr(account, what)}")
            else:
                symbol, _, attribute = what.rpartition(".")
                position = account.positions.get(symbol or "M1")
                attribute = "qty" if attribute == "position" else attribute
                result.append(f"{what}={getattr(position, attribute) if position else 0}")
        return " ".join(result)


def options(words: list[str], takes: dict[str, int]) -> dict[str, list[str]]:
    """Words that take words: ``@ 20 for 5s`` is a price and a time."""
    takes = {"@": 1, **takes}
    told: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        if word not in takes:
            raise ValueError(f"what is {word!r}?")
        told[word] = ["" if (value := next(rest)) == "-" else value for _ in range(takes[word])]
    return told


def lots(text: str) -> int:
    return 0 if text == "any" else int(text)


def squeezed(lines: list[str]) -> list[str]:
    return [re.sub(r"\s+", " ", line).strip() for line in lines]


SCENARIOS = [
    pytest.param(scenario, id=f"{file.stem}: {scenario.title}")
    for file in FILES
    for scenario in parse(file.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: Scenario) -> None:
    table = Table(scenario)
    for account, command, events in scenario.rows:
        assert (command, table.run(account, command)) == (command, events)
    for symbol, drawn in scenario.books.items():
        assert squeezed(table.book(symbol)) == squeezed(drawn)
    for line in scenario.figures:
        assert table.figures(line) == line


@pytest.mark.parametrize("code", RejectCode)
def test_every_refusal_stands_in_a_table(code: RejectCode) -> None:
    assert any(f"rejected {code.name} " in file.read_text(encoding="utf-8") for file in FILES)


def rewritten(text: str) -> str:
    """The tables with the events, books and figures that are found now: a start for a new table, to be read and judged."""
    scenarios = iter(parse(text))
    tables: list[Table] = []
    width = 0
    result: list[str] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("== "):
            scenario = next(scenarios)
            tables.append(Table(scenario, strict=False))
            width = max(len(command) for _, command, _ in scenario.rows)
        elif not line or line.startswith("#") or line.split()[0] in GIVEN:
            pass
        elif line.startswith("book "):
            result += [raw, *(f"    {level}" for level in aligned(tables[-1].book(line.split()[1])))]
            continue
        elif raw.startswith("    "):
            continue
        elif "|" in line:
            account, command, _ = (cell.strip() for cell in line.split("|"))
            raw = f"{account:<9}| {command:<{width}} | {tables[-1].run(account, command)}"
        else:
            raw = tables[-1].figures(line)
        result.append(raw)
    return "\n".join(result) + "\n"


def aligned(levels: list[str]) -> list[str]:
    cells = [[cell.strip() for cell in level.split("|")] for level in levels]
    widths = [max((len(row[column]) for row in cells), default=0) for column in (0, 1)]
    return [f"{bids:>{widths[0]}} | {price:>{widths[1]}} | {asks}".rstrip() for bids, price, asks in cells]


if __name__ == "__main__":
    for path in FILES:
        path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
