"""The configuration: defaults, the template, and a message that names the field for whatever is wrong. And the logs."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from msgspec import json

from gateway import log
from gateway.config import TEMPLATE, Config, ConfigError, Listing, is_loopback, load, parse


def test_no_file_means_all_defaults(tmp_path: Path) -> None:
    assert load(tmp_path) == Config()


def test_the_template_spells_out_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(TEMPLATE)
    assert load(tmp_path) == Config()
    listed = parse(TEMPLATE.replace("# [[", "[[").replace("# algorithm", "algorithm").replace("# length_s", "length_s"))
    assert listed.listings == (Listing(algorithm="SHA256"),)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[server]\nprot = 1", "server: Object contains unknown field `prot`"),
        ("[sever]\nport = 1", "Object contains unknown field `sever`"),
        ('[server]\nport = "80"', "server.port: Expected `int`, got `str`"),
        ("[server]\nport = 65536", "server.port: Expected `int` <= 65535"),
        ("[server]\nconnections_max = 0", "server.connections_max: Expected `int` >= 1"),
        ("[session]\nheartbeat_ms = 0.5", "session.heartbeat_ms: Expected `int`, got `float`"),
        ("[session]\nidle_ms = 5000", "session.idle_ms: must be longer than session.heartbeat_ms"),
        ("[rates]\norders = { per_second = 0, burst = 1 }", "rates.orders.per_second: Expected `int` >= 1"),
        ("[rates]\norders = { per_second = 1 }", "rates.orders: Object missing required field `burst`"),
        ("[terms]\ntaker_fee_bps = 1001", "terms.taker_fee_bps: Expected `int` <= 1000"),
        ("[terms]\ncollar_bps = 910", "terms.collar_bps: at most 909 with terms.bond_bps = 2000"),
        ("[terms]\nbond_bps = 1000", "terms.collar_bps: at most 476 with terms.bond_bps = 1000"),
        ("[[listings]]\nalgorithm = 'SHA256'\nlength_s = 59", "listings[0].length_s: Expected `int` >= 60"),
        ("[log]\nlevel = 'loud'", "log.level: Invalid enum value 'loud'"),
        ("[server", "not valid TOML"),
        ("[server]\ntls_key = 'key.pem'", "server.tls_certificate: TLS needs both"),
        ("[server]\ntls_certificate = 'chain.pem'", "server.tls_key: TLS needs both"),
        ("[server]\nhost = '0.0.0.0'", "server.host: '0.0.0.0' is not loopback"),
        ("[server]\nhost = ''", "server.host: '' is not loopback"),
        ("[server]\nhost = 'exchange.example'", "server.host: 'exchange.example' is not loopback"),
        ("[server]\ntrusted_proxies = ['::1', 'proxy']", "server.trusted_proxies[1]: 'proxy' is not an IP address"),
        ("[server]\ntrusted_proxies = ['10.0.0.0/8']", "server.trusted_proxies[0]: '10.0.0.0/8' is not an IP address"),
        ("[server]\norigins = ['https://a.example/']", "server.origins[0]: 'https://a.example/' is not what browsers send"),
        ("[server]\norigins = ['https://A.example']", "server.origins[0]: 'https://A.example' is not what browsers send"),
        ("[server]\norigins = ['null']", "server.origins[0]: 'null' is not what browsers send"),
        ("[server]\norigins = ['*']", "server.origins[0]: '*' is not what browsers send"),
    ],
)
def test_what_is_wrong_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value).startswith(f"config.toml: {problem}")


def test_plain_sockets_beyond_loopback_on_demand_only() -> None:
    assert parse("[server]\nhost = '0.0.0.0'\nallow_plain_remote = true").server.host == "0.0.0.0"
    assert parse("[server]\nhost = '::'\ntls_certificate = 'a'\ntls_key = 'b'").server.tls_key == "b"
    assert [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("", "::", "10.0.0.1", "localhost.example")] == [False] * 4


def test_nicehashs_api_beyond_loopback_on_demand_only() -> None:
    assert parse('[nicehash]\nhost = "0.0.0.0"').nicehash.enabled is False
    with pytest.raises(ConfigError, match=r"nicehash\.host: '0\.0\.0\.0' is not loopback"):
        parse('[nicehash]\nenabled = true\nhost = "0.0.0.0"')
    parse('[nicehash]\nenabled = true\nhost = "0.0.0.0"\n[server]\nallow_plain_remote = true')


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read"):
        load(tmp_path)


# --------------------------------------------------------------------------------------------------------------------- log


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_log_is_one_object_per_line(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    log.get("auth").info("login failed", key="k1\nforged line", signature="00ff", secret="s3cret")
    log.get("auth").debug("not shown")
    logging.getLogger("asyncio").warning("from a library")
    first, second = (json.decode(line) for line in stream.getvalue().splitlines())
    assert (first["event"], first["part"], first["level"]) == ("login failed", "auth", "info")
    assert first["key"] == "k1\\nforged line"
    assert first["timestamp"].endswith("Z")
    assert (first["signature"], first["secret"]) == ("(hidden)", "(hidden)")
    assert (second["event"], second["level"]) == ("from a library", "warning")


def test_console_log_cannot_be_forged_either(stream: io.StringIO) -> None:
    log.configure("console", "info", stream)
    log.get("server").warning("origin refused", origin="https://x\r\n2026 [info] all is well \x1b[2J\x9b\u202e\udc9b")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert r"\n2026 [info] all is well \\x1b[2J\\x9b\\u202e\\udc9b" in lines[0]
    assert lines[0].isprintable()


def test_the_text_of_an_exception_cannot_forge_a_line_on_the_console(stream: io.StringIO) -> None:
    log.configure("console", "info", stream)
    try:
        raise ValueError("boom\n2026-11-25T12:00:00Z [info     ] all is well\x1b[2J")
    except ValueError:
        log.get("server").exception("session failed")
    first, *more = stream.getvalue().splitlines()
    assert "session failed" in first
    assert any("all is well" in line for line in more)
    for line in more:
        assert not line or line.startswith("  ")
        assert line.isprintable()


def test_a_traceback_is_part_of_the_event(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    try:
        raise ValueError("boom")
    except ValueError:
        log.get("server").exception("session failed")
    (line,) = stream.getvalue().splitlines()
    assert json.decode(line)["exception"][0]["exc_value"] == "boom"


def test_long_texts_are_cut(stream: io.StringIO) -> None:
    log.configure("json", "info", stream)
    log.get("server").info("text", value="x" * (log.TEXT_CHARS_MAX + 1))
    assert json.decode(stream.getvalue())["value"] == "x" * log.TEXT_CHARS_MAX


def test_a_flood_of_one_event_is_throttled(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 10.0
    monkeypatch.setattr(log, "monotonic", lambda: now)
    log.configure("json", "info", stream)
    for _ in range(log.EVENTS_PER_SECOND_MAX + 7):
        log.get("server").warning("origin refused")
        log.get("server").error("never dropped")
    log.get("server").warning("another event")
    now = 11.0
    log.get("server").warning("origin refused")
    log.get("server").warning("origin refused")
    lines = [json.decode(line) for line in stream.getvalue().splitlines()]
    refused = [line for line in lines if line["event"] == "origin refused"]
    assert len(refused) == log.EVENTS_PER_SECOND_MAX + 2
    assert [line.get("dropped") for line in refused[-3:]] == [None, 7, None]
    assert len([line for line in lines if line["event"] == "never dropped"]) == log.EVENTS_PER_SECOND_MAX + 7
    assert [line["event"] for line in lines].count("another event") == 1


def test_the_widest_collar_that_a_bond_covers() -> None:
    assert parse("[terms]\ncollar_bps = 909").terms.collar_bps == 909
    assert parse("[terms]\ncollar_bps = 0\nbond_bps = 0").terms.collar_bps == 0
