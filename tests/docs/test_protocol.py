"""docs/PROTOCOL.md says what the code does: every dialogue is performed, every vector computed, every table compared.

After a change of the protocol ``python -m tests.docs.dialogue`` writes the new answers; read the difference before you keep it.
"""

import doctest
import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from msgspec.structs import fields

from engine import limits
from engine.events import Rejected
from engine.limits import DAY_NS, SECOND_NS, Limits
from engine.markets.dated import SPEC_RULES
from engine.markets.live import LIVE_RULES
from engine.rejects import REFUSALS, RejectCode
from engine.types import CancelReason, EndReason, FlowCause
from gateway import auth, history, outbox, ratelimit, scale, sequencer, server, wire
from gateway.algorithms import ALGORITHMS
from gateway.channels import account, base, live, trades
from gateway.codec import MSGPACK
from gateway.config import Bucket, RateConfig, ServerConfig, SessionConfig
from gateway.feeds import TICK_MS
from gateway.methods import METHODS
from gateway.views import reject_error
from hashpit.messages import METHODS as SDK_METHODS
from tests.docs.dialogue import BLOCK, PROTOCOL, WIDTH, Stage, performed, sections

TEXT = PROTOCOL.read_text(encoding="utf-8")
SECTIONS = {section.splitlines()[0].lstrip("# "): section for section in sections(TEXT)}
HOUR_NS = 3_600 * SECOND_NS
RESULTS = [kind for name, kind in vars(wire).items() if isinstance(kind, type) and name.endswith(("Result", "View"))]
PERFORMED = [title for title, section in SECTIONS.items() if BLOCK.search(section)]


def table(title: str, after: str = "") -> list[list[str]]:
    """Cells of the first table in a section, behind the text ``after``; without the two header rows."""
    text = SECTIONS[title]
    assert after in text, f"{title} lost: {after}"
    found = re.search(r"^\|.*?(?=^(?!\|))", text.partition(after)[2] if after else text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no table in {title} behind {after!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[0].strip().splitlines()[2:]]


def code(cell: str) -> str:
    """What is in the first backticks of a cell."""
    found = re.search(r"`([^`]*)`", cell)
    return found[1] if found else cell


# -------------------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("title", PERFORMED)
async def test_dialogues_go_as_they_are_written(title: str, tmp_path: Path) -> None:
    written = BLOCK.findall(SECTIONS[title])
    real = BLOCK.findall(await performed(SECTIONS[title], tmp_path))
    for mine, theirs in zip(written, real, strict=True):
        assert mine == theirs, "run `python -m tests.docs.dialogue` and look at the difference"


def test_every_method_is_shown() -> None:
    asked = set(re.findall(r'"method": "([a-z_.]+)"', "".join(BLOCK.findall(TEXT))))
    assert asked >= METHODS.keys(), f"no example of {sorted(METHODS.keys() - asked)}"


def test_every_account_event_is_listed() -> None:
    listed = {code(row[0]) for row in table("Account channel", "Kinds of event:")}
    assert listed == {kind for kind, _ in account.DESCRIBE.values()}


def test_messagepack_vector() -> None:
    found = re.search(r"^83 a7 .*$", TEXT, re.MULTILINE)
    assert found is not None
    request = MSGPACK.request(bytes.fromhex(found[0].replace(" ", "")))
    assert (request.jsonrpc, request.id, request.method) == ("2.0", 1, "time")


async def test_events_come_before_their_answer(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        mine = await stage.connect("maker")
        await stage.say("maker", {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"channels": ["account"]}})
        mine.sent.clear()
        params = {"market": "SHA256-20261125", "side": "buy", "price": "0.0005", "qty": "1"}
        await stage.say("maker", {"jsonrpc": "2.0", "id": 2, "method": "place", "params": params})
        assert [message.get("method") or message["id"] for message in mine.sent] == ["subscription", 2]


@pytest.mark.parametrize("title", ["Logging in", "Channels"])
def test_vectors(title: str) -> None:
    session = "".join(re.findall(r"^```pycon\n(.*?)^```$", SECTIONS[title], re.MULTILINE | re.DOTALL))
    example = doctest.DocTestParser().get_doctest(session, {}, title, str(PROTOCOL), 0)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(example, out=report.append)
    assert runner.tries > 5
    assert not runner.failures, "".join(report)


def test_login_vector_is_what_the_server_verifies() -> None:
    challenge = bytes(range(32)).hex()
    assert auth.login_text(challenge, "k-0123456789abcdef", 1795435200000000).hex() in TEXT


# --------------------------------------------------------------------------------------------------------------- methods


def type_name(kind: Any) -> str:
    """How the result column writes a type."""
    if kind == list[wire.AnyMarketInfo]:
        return "list of `AnyMarketInfo`"
    return f"list of `{get_args(kind)[0].__name__}`" if get_origin(kind) is list else f"`{kind.__name__}`"


def test_methods_table() -> None:
    rows = {code(row[0]): row[1:] for row in table("Methods")}
    assert rows.keys() == METHODS.keys()
    for name, method in METHODS.items():
        order = {permission: number for number, permission in enumerate(get_args(wire.Permission))}
        permissions = ", ".join(sorted(method.permissions, key=order.__getitem__)) or ("login" if method.login else "-")
        assert rows[name] == [permissions, method.bucket, type_name(SDK_METHODS[name].result)], name


def method_text(name: str) -> str:
    found = re.search(rf"^#### `{name}`\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no part about {name}"
    return found[1]


@pytest.mark.parametrize("name", METHODS)
def test_parameters(name: str) -> None:
    wanted = {field.name: field for field in fields(METHODS[name].params)}
    text = method_text(name)
    found = re.search(r"^\| Parameter .*?(?=^(?!\|))", text, re.MULTILINE | re.DOTALL)
    if not wanted:
        assert found is None
        assert "No parameters." in text
        return
    assert found is not None, f"{name} has no table of parameters"
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in found[0].strip().splitlines()[2:]]
    assert {code(row[0]) for row in rows} == wanted.keys()
    hints = get_type_hints(METHODS[name].params)
    for row in rows:
        field = wanted[code(row[0])]
        default = field.default if field.default is not msgspec.NODEFAULT else None
        if field.default_factory is not msgspec.NODEFAULT:
            written = json.dumps(field.default_factory())
        else:
            written = "" if field.required else json.dumps(default)
        assert row[2].strip("`") == written, f"{name}.{field.name}"
        for choice in choices(hints[field.name]):
            assert f"`{choice}`" in row[1], f"{name}.{field.name}: {choice}"
        for number in bounds(hints_of(METHODS[name].params)[field.name]):
            assert number in row[1], f"{name}.{field.name}: {number} in {row[1]}"


def hints_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def choices(kind: Any) -> list[str]:
    if get_origin(kind) is Literal:
        return [*get_args(kind)]
    return [choice for part in get_args(kind) for choice in choices(part)]


def bounds(kind: Any) -> list[str]:
    """Upper bounds that a parameter's own row has to name: those of numbers and of free text."""
    found: list[str] = []
    for part in get_args(kind):
        if isinstance(part, msgspec.Meta):
            if part.le not in (None, 2**53):
                found.append(str(part.le))
            if part.max_length not in (None, 26, 36, 48, 80, 24, 40, 128, 64, 6) and part.pattern is None:
                found.append(str(part.max_length))
    return found


@pytest.mark.parametrize(
    "kind",
    [
        wire.MarketInfo,
        wire.LiveMarketInfo,
        wire.BidResult,
        wire.BidView,
        wire.AskView,
        wire.FlowView,
        wire.EstimateResult,
        wire.LiveBookView,
        wire.LiveTickerView,
        wire.OrderResult,
        wire.FillView,
        wire.BalanceView,
        wire.PositionView,
        wire.DeliveryView,
        wire.Hello,
        wire.ChannelMessage,
    ],
)
def test_fields_are_explained(kind: type[msgspec.Struct]) -> None:
    """Each field stands in a table row of its own or with its neighbours."""
    rows = re.findall(r"^\| (`[^|]*)\|", TEXT, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    missing = {field.name for field in fields(kind)} - named
    assert not missing, f"{kind.__name__}: {sorted(missing)}"


@pytest.mark.parametrize("kind", RESULTS)
def test_result_fields_are_shown(kind: type[msgspec.Struct]) -> None:
    """Each field of a result occurs in an example."""
    shown = "".join(BLOCK.findall(TEXT))
    missing = [field.name for field in fields(kind) if f'"{field.name}":' not in shown]
    assert not missing, f"{kind.__name__}: {missing}"


# ----------------------------------------------------------------------------------------------------- channels, budgets


def test_channels_table() -> None:
    names = [code(row[0]) for row in table("Channels")]
    assert names == [
        "book.<market>",
        f"book.<market>.{TICK_MS}ms",
        "trades.<market>",
        "ticker.<market>",
        "live.<market>",
        "flows.<market>",
        "status",
        "account",
    ]


def test_cancel_reasons() -> None:
    rows = table("Account channel", "Reasons of `canceled`:")
    assert [code(row[0]) for row in rows] == [reason.name.lower() for reason in CancelReason]


def test_reasons_and_causes_of_live_orders() -> None:
    rows = table("Account channel", "Reasons of `bid_ended` and `ask_ended`:")
    assert [code(row[0]) for row in rows] == [reason.name.lower() for reason in EndReason]
    rows = table("Account channel", "Causes of `flow_changed`")
    assert [code(row[0]) for row in rows] == [cause.name.lower() for cause in FlowCause]


def test_budgets() -> None:
    rows = {code(row[0]): row[2] for row in table("Rate limits")}
    config = RateConfig()
    budgets: dict[str, Bucket] = {name: getattr(config, name) for name in RateConfig.__struct_fields__}
    budgets |= {
        "logins": ratelimit.IP_LOGINS,
        "failed logins": ratelimit.KEY_FAILURES,
        "refusals": ratelimit.REFUSALS,
        "protocol errors": ratelimit.PROTOCOL_ERRORS,
    }
    assert rows.keys() == budgets.keys()
    for name, rate in budgets.items():
        assert rows[name].startswith(f"{rate.per_second} per second, {rate.burst} at once"), name


# ------------------------------------------------------------------------------------------------------- errors, closing


def constants(kind: type) -> dict[str, int]:
    return {name: value for name, value in vars(kind).items() if name.isupper() and isinstance(value, int)}


def test_gateway_errors() -> None:
    rows = table("Errors")
    assert {code(row[2]): int(row[0]) for row in rows} == constants(wire.ErrorCode)


def test_gateway_reasons() -> None:
    """Every reason that the gateway writes stands in the table."""
    source = "".join(
        (PROTOCOL.parents[1] / "gateway" / f"{name}.py").read_text()
        for name in ("calls", "answering", "methods", "live_methods", "session")
    )
    written = set(re.findall(r'(?:ErrorCode\.\w+,|_deny_login\(call,)\s+"([a-z_]+)"', source))
    assert len(written) > 8
    told = {name for row in table("Errors") for name in re.findall(r"`([a-z_]+)`", " ".join(row))}
    assert written <= told, f"not told: {sorted(written - told)}"


def test_engine_rejects_in_order() -> None:
    rows = table("Errors", "### Refusals of the engine")
    assert [int(row[0]) for row in rows] == sorted(member.value for member in RejectCode)
    for row, (member, refusal) in zip(rows, REFUSALS.items(), strict=True):
        error = reject_error(Rejected(0, 0, member, 7, 0, "", ""), None)
        assert [row[0], code(row[1]), code(row[2])] == [str(error.code), member.name, error.data.field]
        assert row[4] == refusal.message.replace("{bound}", "..."), member.name
        assert (row[3] == "-") == ("{bound}" not in refusal.message), member.name
        unit = {"7": "number", "0": "µs", "0.00000000007": "money"}
        if row[3] in unit.values():
            assert unit[error.data.bound] == row[3], member.name


def test_spec_rules() -> None:
    rows = table("Errors", "### Rules of a market specification")
    assert [row[1] for row in rows] == [*SPEC_RULES]
    rows = table("Errors", "### Rules of a live market's specification")
    assert [row[1] for row in rows] == [*LIVE_RULES]


def test_after_a_timeout_every_command_of_a_trader_is_named() -> None:
    named = {name for row in table("Exactly once", "### After a timeout") for name in re.findall(r"`([a-z_.]+)`", row[0])}
    commands = {
        name
        for name, method in METHODS.items()
        if method.permissions & {"trade", "quote", "withdraw", "meter"} and "read" not in method.permissions
    }
    assert len(commands) > 10
    assert not commands - named


def test_close_codes() -> None:
    rows = table("Close codes")
    assert {code(row[1]): int(row[0]) for row in rows if row[1]} == constants(wire.Close)


# ---------------------------------------------------------------------------------------------------------------- limits


def test_limits() -> None:
    rows = {row[0]: row[1] for row in table("Limits")}
    engine = Limits()
    session = SessionConfig()
    said = {
        "Message from a client": f"{wire.FRAME_BYTES_MAX} bytes",
        "Calls in a batch": f"{wire.BATCH_MAX}",
        "Channels in one `subscribe`": str(bound_of(wire.SubscribeParams, "channels")),
        "Subscriptions of a socket": f"{session.subscriptions_max} (operator)",
        "Open orders of an account": str(engine.orders_per_account_max),
        "Open orders of the exchange": str(engine.orders_max),
        "Accounts": str(engine.accounts_max),
        "Markets that are not settled": str(engine.markets_max),
        "Remembered client order ids and transfer ids of an account": str(engine.client_order_ids_per_account_max),
        "How long they are remembered": f"{engine.client_order_id_ns // HOUR_NS} hours, and as long as the order is open",
        "How far ahead a `gtd` order expires": f"{engine.expiry_max_ns // DAY_NS} days",
        "Destinations of an account": str(engine.destinations_per_account_max),
        "Open bids and asks of an account in live markets": str(engine.live_orders_per_account_max),
        "Open bids and asks of the exchange": str(engine.live_orders_max),
        "Pegged bids of a live market": str(engine.pegs_max),
        "Flows of the exchange": str(engine.flows_max),
        "Pools of an account": str(engine.pools_per_account_max),
        "Starts of flows kept per market": str(live.STARTS_KEPT),
        "Characters of a client order id": str(limits.CLIENT_ORDER_ID_CHARS_MAX),
        "... of an account name": str(limits.NAME_CHARS_MAX),
        "... of a market's name": str(limits.SYMBOL_CHARS_MAX),
        "... of a pool URL": str(limits.URL_CHARS_MAX),
        "... of a worker": str(limits.WORKER_CHARS_MAX),
        "Fee": f"{limits.FEE_MAX_BPS} bps",
        "Digits of a decimal": str(scale.DIGITS_MAX),
        "Events kept per account, to resume": str(account.ACCOUNT_FACTS_MAX),
        "... over all accounts": str(account.FACTS_MAX),
        "Closed orders and fills kept per account": f"{history.CLOSED_ORDERS_MAX} each",
        "Trades kept per market": str(trades.TRADES_KEPT),
        "Commands that wait for the disk": f"{sequencer.QUEUE_MAX}, then `OVERLOADED`",
        "Timestamp of a login": f"{auth.LOGIN_WINDOW_US // 10**6} seconds from the server's clock",
    }
    assert said.items() <= rows.items(), {name: (rows.get(name), text) for name, text in said.items() if rows.get(name) != text}
    others = {"Price", "Quantity of an order", "Balance, notional, sum of deposits", "Work of a delivery"}
    assert rows.keys() - said.keys() == others
    assert engine.price_max_ticks == engine.qty_max_lots == 2**40
    assert limits.MONEY_MAX_MSAT == 2**61 - 1
    assert limits.SHARES_MAX == 2**63 - 1
    assert limits.WORK_MAX_HASHES == 2**120
    assert history.FILLS_MAX == history.CLOSED_ORDERS_MAX


def bound_of(kind: type, name: str) -> int:
    metas = [part for part in get_args(hints_of(kind)[name]) if isinstance(part, msgspec.Meta)]
    assert metas[0].max_length is not None
    return metas[0].max_length


def test_numbers_in_the_text() -> None:
    """Bounds that sentences name."""
    session, listen = SessionConfig(), ServerConfig()
    for text in (
        f"ws://host:{listen.port}{server.PATH}",
        f"at most {server.EXTRA_FRAMES_MAX} per second",
        f"Handshake and TLS have {server.HANDSHAKE_S:.0f} seconds",
        f"for {session.login_ms // 1000} seconds is closed (4001)",
        f"neither logged in nor subscribed for {session.login_ms // 1000} seconds |",
        f"At most {listen.anonymous_per_ip_max} sockets",
        f"at most {wire.FRAME_BYTES_MAX} bytes",
        f"an array of 1 to {wire.BATCH_MAX} requests",
        f"more than {base.CONFLATE_BYTES} |",
        f"more than {base.CONFLATE_BYTES} for {server.STALL_NS // SECOND_NS} seconds",
        f"more than {outbox.BACKLOG_BYTES_MAX} |",
        f"{server.BACKLOGS_BYTES_MAX} over all sockets",
        f"a snapshot has the last {trades.SNAPSHOT_TRADES}",
        f"a snapshot has the last {live.SNAPSHOT_STARTS}",
        f"The last {account.ACCOUNT_FACTS_MAX} events of an account are kept, and {account.FACTS_MAX} of all accounts",
        f"(at most {trades.TRADES_KEPT})",
        wire.SUBPROTOCOL_JSON,
        wire.SUBPROTOCOL_MSGPACK,
    ):
        assert text in re.sub(r"\s+", " ", TEXT), f"not in PROTOCOL.md: {text}"


def test_http_statuses() -> None:
    source = (PROTOCOL.parents[1] / "gateway" / "server.py").read_text(encoding="utf-8")
    sent = {HTTPStatus[name].value for name in re.findall(r"HTTPStatus\.([A-Z_]+)", source)}
    assert sent == {int(number) for number in re.findall(r"\b([45]\d\d)\b", SECTIONS["Connecting"].partition("plain HTTP")[2])}


def test_algorithms_are_listed() -> None:
    row = next(line for line in method_text("list_market").splitlines() if line.startswith("| `algorithm`"))
    assert re.findall(r"`([A-Z0-9]+)`", row) == [*ALGORITHMS]


def test_examples_are_readable() -> None:
    for block in BLOCK.findall(TEXT):
        for line in block.splitlines():
            assert len(line) <= 200, line
    assert WIDTH < 200
