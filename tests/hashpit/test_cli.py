"""The command line: every command against a real exchange, and what it says when something is wrong."""

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main
from rich.console import Console
from typer.testing import CliRunner

from gateway.wire import AnyMarketInfo, ChannelMessage, ErrorData, LiveTickerView, TickerView, TradeView
from hashpit import __version__, keys
from hashpit.cli import app
from hashpit.client import Client
from hashpit.demo import CONFIG, Board, DemoError, Server, create
from hashpit.errors import RateLimited
from hashpit.messages import ServerState, StatusSnapshot
from tests.hashpit.conftest import Exchange
from tests.hashpit.test_book import market as dated

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def shell(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> "Shell":
    monkeypatch.setenv("HASHPIT_URL", exchange.url)
    monkeypatch.delenv("HASHPIT_KEY", raising=False)
    return Shell(exchange)


class Shell:
    """Types commands."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.runner = CliRunner()

    def run(self, *words: object, code: int = 0) -> str:
        """What a command prints; errors included."""
        done = self.runner.invoke(app, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return done.output

    def ask(self, *words: object) -> Any:
        return json.loads(self.run(*words, "--json"))

    def admin(self, *words: object) -> Any:
        return self.ask(*words, "--key", self.exchange.admin)

    def open_account(self, name: str, folder: Path, *options: str) -> Path:
        """An account with a key file, made by commands."""
        account = self.admin("account", "create", name, "--deposit", "1")["account"]
        file = folder / f"{name}.key"
        wanted = options or ("--permission", "trade", "--permission", "read", "--permission", "withdraw")
        added = self.admin("key", "add", "--account", account, "--out", file, *wanted)
        assert added["account"] == account
        return file

    def market(self) -> str:
        """The open market whose gate comes last."""
        return max(str(one["market"]) for one in self.ask("market", "list") if one["state"] == "open")


# --- Help -------------------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(prefix: str, command: Any) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(f"{prefix} {name}".strip(), inner)
        else:
            found[prefix] = command

    walk("", typer.main.get_command(app))
    return found


COMMANDS = commands()
PRINT_NO_DATA = {"init", "serve", "demo", "replay"}
"""These start something, or print JSON in any case."""


def test_every_promised_command_is_there() -> None:
    words = {name.split()[0] for name in COMMANDS}
    promised = "serve init demo key account market book watch place cancel orders replay snapshot verify"
    assert words >= set(promised.split())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_an_example_that_parses(name: str) -> None:
    command = COMMANDS[name]
    examples = re.findall(r"Example: hashpit (.*)", command.help)
    assert examples, f"hashpit {name} has no example"
    for example in examples:
        words = example.split()
        count = len(name.split())
        assert words[:count] == name.split()
        if name != "replay":  # its file must exist
            command.make_context(name, words[count:])


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - PRINT_NO_DATA))
def test_everything_that_prints_data_takes_json(name: str) -> None:
    command = COMMANDS[name]
    assert any("--json" in parameter.opts for parameter in command.params)


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"hashpit {__version__}\n"


# --- Commands ---------------------------------------------------------------------------------------------------------


def test_an_account_trades(shell: Shell, tmp_path: Path) -> None:
    market = shell.market()
    seller, buyer = (shell.open_account(name, tmp_path) for name in ("cli-seller", "cli-buyer"))
    asked = shell.ask("place", market, "sell", "2", "--price", "0.0005", "--key", seller)
    assert asked["status"] == "open"
    assert shell.ask("book", market)["asks"] == [["0.00050000", "2.000"]]
    assert "0.00050000" in shell.run("book", market)
    assert "2.000" in shell.run("orders", "--key", seller)
    text = shell.run("place", market, "buy", "0.5", "--key", buyer)
    assert "filled: 0.500 at" in text
    assert "taker" in text
    assert shell.ask("amend", asked["order_id"], "--qty", "1.5", "--key", seller)["remaining_qty"] == "1.000"
    text = shell.run("cancel", asked["order_id"], "--key", seller)
    assert f"order {asked['order_id']} canceled: 1.000 of it was left" in text
    assert shell.ask("orders", "--key", seller) == []
    assert len(shell.ask("orders", "--closed", "--key", seller)) == 1
    standing = shell.ask("account", "show", "--key", buyer)
    assert standing["positions"][0]["qty"] == "0.500"
    assert "0.500" in shell.run("account", "show", "--key", buyer)


def test_cancel_names_exactly_one_thing(shell: Shell, tmp_path: Path) -> None:
    market = shell.market()
    key = shell.open_account("canceler", tmp_path)
    for client_order_id in ("a", "b", "c"):
        words = ("buy", "1", "--price", "0.00046", "--client-order-id", client_order_id, "--key", key)
        shell.run("place", market, *words)
    assert "name one order" in shell.run("cancel", "--key", key, code=2)
    assert "name one order" in shell.run("cancel", "7", "--all", "--key", key, code=2)
    assert shell.ask("cancel", "--client-order-id", "b", "--key", key)["client_order_id"] == "b"
    assert "canceled: 2" in shell.run("cancel", "--all", "--side", "buy", "--market", market, "--key", key)


def test_the_same_client_order_id_is_placed_once(shell: Shell, tmp_path: Path) -> None:
    key = shell.open_account("repeater", tmp_path)
    words = ("place", shell.market(), "buy", "1", "--price", "0.00046", "--client-order-id", "x", "--key", key)
    first, text = shell.ask(*words), shell.run(*words)
    assert f"order {first['order_id']}" in text
    assert "placed before" in text
    shell.run("cancel", "--all", "--key", key)


def test_money_moves_once_per_transfer_id(shell: Shell, tmp_path: Path) -> None:
    key = shell.open_account("mover", tmp_path)
    account = shell.ask("account", "show", "--key", key)["balance"]["account"]
    for repeat in (False, True):
        done = shell.admin("account", "deposit", account, "0.25", "--transfer-id", "i-7")
        assert (done["balance"], done["repeat"]) == ("1.25000000000", repeat)
    assert shell.ask("account", "withdraw", "0.5", "--key", key)["balance"] == "0.75000000000"
    assert "balance_insufficient" in shell.run("account", "withdraw", "1", "--key", key, code=1)


def test_keys_are_made_listed_and_revoked(shell: Shell, tmp_path: Path) -> None:
    key = shell.open_account("keyed", tmp_path)
    loaded = keys.load(key)
    account = shell.ask("account", "show", "--key", key)["balance"]["account"]
    file = tmp_path / "hmac.key"
    added = shell.admin(
        *("key", "add", "--account", account, "--permission", "read", "--hmac", "--out", file, "--ip", "127.0.0.1")
    )
    assert added["kind"] == "hmac"
    assert file.stat().st_mode & 0o777 == 0o600
    assert shell.ask("account", "show", "--key", file)["balance"]["account"] == account
    listed = shell.admin("key", "list", "--account", account)
    assert [one["key"] for one in listed] == [loaded.key, added["key"]]
    assert loaded.key in shell.run("key", "list", "--key", shell.exchange.admin)
    again = ("key", "add", "--account", account, "--permission", "read", "--out", file)
    assert "never overwritten" in shell.run(*again, code=1)
    assert shell.admin("key", "revoke", loaded.key)["key"] == loaded.key
    assert "unknown key or wrong signature" in shell.run("account", "show", "--key", key, code=1)


def test_a_key_for_nicehashs_api_is_printed_once(shell: Shell, tmp_path: Path) -> None:
    key = shell.open_account("nicehash", tmp_path)
    account = shell.ask("account", "show", "--key", key)["balance"]["account"]
    made = shell.admin("key", "nicehash", "--account", account, "--label", "bot")
    assert len(made["key"]) == 36
    assert len(made["secret"]) == 72
    assert made["organization"] == f"00000003-0000-8000-8000-{account:012x}"
    [listed] = [one for one in shell.admin("key", "list", "--account", account) if one["key"] == made["key"]]
    assert (listed["kind"], listed["permissions"], listed["label"]) == ("nicehash", ["read", "trade"], "bot")
    assert made["secret"] not in json.dumps(listed)
    reader = shell.admin("key", "nicehash", "--account", account, "--permission", "read")
    assert reader["organization"] == made["organization"]
    assert "--permission admin" in shell.run(
        *("key", "nicehash", "--account", account, "--permission", "admin", "--key", shell.exchange.admin), code=2
    )


def test_markets_are_listed_and_changed(shell: Shell) -> None:
    words = ("market", "add", "SHA256", "--start", "2027-01-01T12:00", "--length", "3600", "--price", "0.0005")
    added = shell.admin(*words)
    assert added["market"] == "SHA256-20270101T12"
    assert "market_exists" in shell.run(*words, "--key", shell.exchange.admin, code=1)
    assert "SHA256-20270101T12" in shell.run("market", "list")
    changed = shell.admin("market", "state", added["market"], "closed")
    assert changed["state"] == "closed"
    settle = ("market", "settle", added["market"], "--key", shell.exchange.admin)
    assert "period" in shell.run(*settle, code=1)


def test_watch_prints_lines_for_programs(shell: Shell) -> None:
    market = shell.market()
    lines = shell.run("watch", market, "--seconds", "0.3", "--json").splitlines()
    assert {json.loads(line)["channel"] for line in lines} == {f"book.{market}", f"trades.{market}"}
    picture = shell.run("watch", market, "--seconds", "0.5")
    assert market in picture
    assert "verified" in picture
    assert picture.endswith("\n")


def test_fills_trades_and_destinations(shell: Shell, tmp_path: Path) -> None:
    market = shell.market()
    seller, buyer = (shell.open_account(name, tmp_path) for name in ("fills-seller", "fills-buyer"))
    shell.run("place", market.lower(), "sell", ".5", "--price", ".0005", "--client-order-id", "ask", "--key", seller)
    amended = shell.ask("amend", "--client-order-id", "ask", "--qty", "0.4", "--key", seller)
    assert amended["remaining_qty"] == "0.400"
    shell.run("place", market, "buy", "0.4", "--key", buyer)
    (fill,) = shell.ask("fills", "--market", market.lower(), "--key", buyer)
    assert (fill["qty"], fill["liquidity"]) == ("0.400", "taker")
    assert shell.ask("trades", market, "--limit", 1)[0]["qty"] == "0.400"
    assert "0.400" in shell.run("trades", market)
    assert "taker" in shell.run("fills", "--key", buyer)
    text = shell.run("destination", "set", market, "stratum+tcp://pool.example:3333", "w.1", "--key", buyer)
    assert "stratum+tcp://pool.example:3333, worker w.1" in text
    gone = shell.run("cancel", "--client-order-id", "ask", "--key", seller, code=1)
    assert "is filled, 0.400 of 0.400 filled" in gone
    assert "name the order" in shell.run("amend", "--qty", "1", "--key", seller, code=2)


def test_a_market_order_into_an_empty_book_says_why_it_is_gone(shell: Shell, tmp_path: Path) -> None:
    key = shell.open_account("lonely", tmp_path)
    assert "the book offers no more" in shell.run("place", shell.market(), "buy", "0.5", "--key", key)


def test_an_account_is_not_created_for_money_that_cannot_be(shell: Shell) -> None:
    admin = shell.exchange.admin
    for amount in ("1x", "0", "0.000000000001"):
        assert "no account was created" in shell.run("account", "create", "poor", "--deposit", amount, "--key", admin, code=2)
    assert shell.admin("account", "create", "poor", "--deposit", ".5")["balance"] == "0.50000000000"
    text = shell.run("account", "create", "rich", "--deposit", "92233720", "--key", admin, code=1)
    found = re.search(r"account (\d+) created; deposit failed: .* BTC .*; run hashpit (.*)", text)
    assert found is not None, text
    assert found[2] == f"account deposit {found[1]} 92233720 --transfer-id open-{found[1]}"


def test_a_key_is_not_made_without_a_place_for_its_file(shell: Shell, tmp_path: Path) -> None:
    before = shell.admin("key", "list")
    words = ("key", "add", "--account", 1, "--key", shell.exchange.admin)
    assert "no key was made" in shell.run(*words, "--permission", "read", "--out", tmp_path / "no" / "x.key", code=1)
    text = shell.run(*words, "--permission", "read,fly", "--out", tmp_path / "x.key", code=2)
    assert "--permission fly: expected one of read, trade" in text
    assert shell.admin("key", "list") == before
    added = shell.admin("key", "add", "--account", 1, "--permission", "read,meter", "--out", tmp_path / "x.key")
    assert added["permissions"] == ["read", "meter"]


# --- What goes wrong --------------------------------------------------------------------------------------------------


def test_errors_are_one_line_and_say_what(shell: Shell, tmp_path: Path) -> None:
    market = shell.market()
    key = shell.open_account("erring", tmp_path, "--permission", "read")
    assert "--key FILE or HASHPIT_KEY" in shell.run("place", market, "buy", "1", "--price", "1", code=2)
    text = shell.run("place", market, "buy", "1", "--price", "1", "--key", key, code=1)
    assert "permission" in text
    assert len(text.splitlines()) == 1
    assert "market_unknown" in shell.run("book", "NOPE", code=1)
    assert "market NOPE is not listed" in shell.run("watch", "NOPE", code=1)
    missing = tmp_path / "none.key"
    assert "No such file" in shell.run("orders", "--key", missing, code=1)
    key.chmod(0o644)
    assert "chmod 600" in shell.run("orders", "--key", key, code=1)


def test_errors_speak_the_units_of_the_market(shell: Shell, tmp_path: Path) -> None:
    key = shell.open_account("units", tmp_path)
    words = ("place", shell.market(), "buy", "1", "--key", key)
    assert "a quantity is at least 0.001 [1207" in shell.run(*words[:3], "0", *words[4:], "--price", "0.0005", code=1)
    assert "a price in this market is at most 1.00000000 [1206" in shell.run(*words, "--price", "2", code=1)
    assert "more than the 1.00000000000 BTC available [1405" in shell.run(*words, "--price", "1", code=1)
    late = ("--price", "0.0005", "--tif", "gtd", "--expires-s", 10**8)
    assert re.search(r"at most \d+ s ahead", shell.run(*words, *late, code=1))
    assert "--expires-s" in shell.run(*words, "--price", "0.0005", "--tif", "gtd", code=2)
    error = json.loads(shell.run(*words, "--price", "1", "--json", code=1))["error"]
    assert (error["code"], error["data"]["field"], error["data"]["bound"]) == (1405, "params.qty", "1.00000000000")


def test_many_commands_in_a_row_wait_for_their_logins(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    connect, tries = Client.connect, []

    async def throttled(client: Client) -> None:
        tries.append(client)
        if len(tries) < 3:
            raise RateLimited(-32003, "too many logins", ErrorData("rate_limited", retry_after_ms=1))
        await connect(client)

    monkeypatch.setattr(Client, "connect", throttled)
    assert shell.ask("market", "list")
    assert len(tries) == 3


def test_only_a_key_file_is_told_to_change_its_mode(shell: Shell, tmp_path: Path) -> None:
    text = tmp_path / "README.md"
    text.write_text("# no key")
    text.chmod(0o644)
    for path in (text, tmp_path):
        told = shell.run("orders", "--key", path, code=1)
        assert "is not a key file" in told
        assert "chmod" not in told


def test_what_others_wrote_is_shown_and_never_obeyed(shell: Shell, tmp_path: Path) -> None:
    """Neither as rich's markup nor as a terminal's: a label, a name, an answer of the server."""
    label = "[/nope] :boom: \x1b[2J\x9b1m\u202e"
    added = shell.admin("key", "add", "--account", 1, "--permission", "read", "--out", tmp_path / "k.key", "--label", label)
    shown = shell.run("key", "list", "--key", shell.exchange.admin)
    assert r"[/nope] :boom: \x1b[2J\x9b1m\u202e" in shown
    told = shell.run("key", "list", "--key", shell.exchange.admin, "--json")
    assert [one["label"] for one in json.loads(told) if one["key"] == added["key"]] == [label]
    refused = shell.run("book", "x\x1b[2J", code=1)
    for text in (shown, told, refused):
        assert all(character == "\n" or character.isprintable() for character in text), text


def test_init_where_there_can_be_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        done = CliRunner().invoke(app, ["init", str(path)])
        assert done.exit_code == 1
        assert len(done.output.splitlines()) == 1, done.output
    (tmp_path / "open").mkdir(mode=0o755)
    assert CliRunner().invoke(app, ["init", str(tmp_path / "open")]).exit_code == 0
    assert (tmp_path / "open").stat().st_mode & 0o777 == 0o700


def test_no_server(shell: Shell) -> None:
    text = shell.run("market", "list", "--url", "ws://127.0.0.1:1/ws", code=1)
    assert "no connection to ws://127.0.0.1:1/ws" in text
    assert "is `hashpit serve` running there?" in text


# --- Data directories -------------------------------------------------------------------------------------------------


def test_init_makes_a_directory_that_serves(tmp_path: Path) -> None:
    data = tmp_path / "data"
    shell = CliRunner()
    done = shell.invoke(app, ["init", str(data)])
    assert done.exit_code == 0, done.output
    assert f"hashpit serve {data}" in done.output
    assert (data / "admin.key").stat().st_mode & 0o777 == 0o600
    assert "exists" in shell.invoke(app, ["init", str(data)]).output
    server = subprocess.Popen(
        [sys.executable, "-m", "hashpit.cli", "serve", str(data), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert server.stdout is not None
        found = re.match(r"hashpit: (\S+)", server.stdout.readline())
        assert found is not None
        options = ["--url", found[1], "--key", str(data / "admin.key")]
        made = shell.invoke(app, ["account", "create", "first", "--json", *options])
        assert json.loads(made.output)["account"] == 100, made.output
    finally:
        server.terminate()
        server.communicate()
    assert server.returncode == 0
    made = shell.invoke(app, ["snapshot", str(data), "--json"])
    assert json.loads(made.output)["seq"] >= 1, made.output
    checked = shell.invoke(app, ["verify", str(data), "--replay", "--json"])
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["state_hash"] == json.loads(made.output)["state_hash"]
    journal = data / "journal.db"
    journal.write_bytes(b"x" * 4096)
    assert shell.invoke(app, ["verify", str(data)]).exit_code == 1


def test_commands_on_no_directory(tmp_path: Path) -> None:
    for command in ("snapshot", "verify"):
        done = CliRunner().invoke(app, [command, str(tmp_path / "none")])
        assert done.exit_code == 1
        assert done.output.startswith("hashpit: "), done.output


def test_replay_is_a_command(tmp_path: Path) -> None:
    flow = tmp_path / "flow.jsonl.gz"
    lines = [
        {"op": "place", "id": "a", "side": "sell", "type": "limit", "price": "2", "qty": "1", "tif": "gtc"},
        {"op": "place", "id": "b", "side": "buy", "type": "limit", "price": "2", "qty": "1", "tif": "gtc"},
    ]
    flow.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in lines).encode()))
    done = CliRunner().invoke(app, ["replay", str(flow)])
    assert json.loads(done.output)["trades"] == 1, done.output


# --- The demo ---------------------------------------------------------------------------------------------------------


def demo(data: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "hashpit.cli", "demo", str(data), "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_trades_and_starts_again(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    began_s = time.monotonic()
    process = demo(data, "--seconds", "20")
    text, _ = process.communicate()
    assert process.returncode == 0, text
    assert time.monotonic() - began_s < 60
    trades = re.search(r"(\d+) trades in 20 seconds", text)
    assert trades is not None, text
    assert int(trades[1]) > 0, "it trades within seconds"
    typed = re.search(r"hashpit (place .*)", text)
    assert typed is not None

    process = demo(data)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.match(r"\d\d:\d\d:\d\d ", line):
            break
    found = re.search(r"(place \S+ buy \S+ --price \S+ --key \S+ --url \S+)", "".join(lines))
    assert found is not None, lines
    placed = CliRunner().invoke(app, [*found[1].split(), "--json"])
    assert json.loads(placed.output)["order_id"] > 0, placed.output
    found = re.search(r"(bid place \S+ .* --key \S+ --url \S+)", "".join(lines))
    assert found is not None, lines
    bid = CliRunner().invoke(app, [*found[1].split(), "--json"])
    assert json.loads(bid.output)["assigned"] > "0.000", bid.output
    os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    assert rest.endswith("Stopped.\n")
    checked = CliRunner().invoke(app, ["verify", str(data), "--replay", "--json"])
    assert json.loads(checked.output)["faults"] == []


def test_the_demos_picture_tells_units_and_shows_first_what_the_advice_is_about() -> None:
    screen = Console(width=80, height=22, record=True, file=io.StringIO(), force_terminal=True)
    board = Board(screen)
    names = [(f"{algorithm}-{day}", unit) for algorithm, unit in (("ETCHASH", "TH/s"), ("SHA256", "PH/s")) for day in range(4)]
    markets: list[AnyMarketInfo] = [msgspec.structs.replace(dated(), market=name, speed_unit=unit) for name, unit in names]
    board.learn(ChannelMessage("status", "snapshot", 0, 0, 0, StatusSnapshot(ServerState("open"), markets)))
    for name, _ in names:
        ticker = TickerView(name, "1", "1", "2", "1", None, "0", None, None, 0)
        board.learn(ChannelMessage(f"ticker.{name}", "snapshot", 0, 0, 0, ticker))
    price, speed = "0.00050000", "9999.999"
    live = LiveTickerView("SHA256-LIVE", price, price, price, speed, speed, price, price, None)
    board.learn(ChannelMessage("ticker.SHA256-LIVE", "snapshot", 0, 0, 0, live))
    board.learn(ChannelMessage("trades.SHA256-0", "event", 1, 0, 0, [TradeView(1, "0.5", "1.000", "buy", 0)]))
    screen.print(board.picture())
    text = screen.export_text()
    assert re.search(r"SHA256-3 +PH/s +1 +2", text)
    assert "ETCHASH-3" not in text
    assert "…" not in text, "no number is cut"
    assert "1.000 PH/s at 0.5" in text


async def test_a_server_that_cannot_start_says_why(tmp_path: Path, exchange: Exchange) -> None:
    create(tmp_path / "data", CONFIG)
    with pytest.raises(DemoError, match=r"did not start: .*cannot listen on"):
        async with Server(tmp_path / "data", exchange.port):
            pass
