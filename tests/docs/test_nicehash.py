"""docs/NICEHASH.md: its tables are the code's."""

import re
from pathlib import Path

import pytest

from engine.rejects import RejectCode
from gateway.nicehash import history, http, ids, problems, public, service, stomp
from gateway.nicehash.catalog import ALGORITHMS, MARKETS
from gateway.nicehash.history import TIMEFRAMES
from gateway.nicehash.problems import Problem, refusal
from gateway.nicehash.routes import PRIVATE, PUBLIC

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "NICEHASH.md").read_text(encoding="utf-8")
FLAT = " ".join(TEXT.split())


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table(text: str) -> list[list[str]]:
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in found if not set("".join(row)) <= set("-")]


def test_every_call_is_told_with_what_it_needs() -> None:
    told: dict[tuple[str, str], str] = {}
    for row in table(section("Calls")):
        method, _, paths = row[0].partition(" ")
        for path in re.findall(r"`(/[^`]*)`", paths):
            told[method, path] = row[1]
    assert set(told) == {(route.method, route.path) for route in (*PUBLIC, *PRIVATE)}
    assert {key: told[key] for key in told if told[key] in ("read", "trade")} == {
        (route.method, route.path): route.permission for route in PRIVATE
    }


def test_every_algorithm_is_told() -> None:
    told = [row[:5] for row in table(section("Algorithms, markets, units"))[1:]]
    assert sorted(told) == sorted(
        [f"`{row.name}`", str(row.code), f"`{row.algorithm}`", row.market_display, row.price_display]
        for row in ALGORITHMS.values()
    )
    for row in ALGORITHMS.values():
        for alias in row.aliases:
            assert f"also called `{alias}`" in TEXT
    for market in MARKETS:
        assert f"`{market}`" in TEXT
    assert f"order 1234 is `{ids.to_uuid(ids.ORDER, 1_234)}`" in TEXT


def told_codes() -> dict[int, int]:
    rows = [row for row in table(section("Refusals")) if row[0] != "Code"]
    return {int(code): int(row[1]) for row in rows for code in row[0].split(", ")}


def test_every_code_of_nicehash_is_told() -> None:
    names = ("MALFORMED", "SESSION", "INPUT", "SERVER", "EXPIRED", "NOT_ACTIVE", "PRICE_LOW", "DECREASE_EARLY", "FACTOR")
    known = {getattr(problems, name) for name in (*names, "CREATION_DISABLED", "LOCKED")}
    assert {code for code in told_codes() if not 1_000 <= code < 2_000} == known


@pytest.mark.parametrize("code", [code for code in told_codes() if 1_000 <= code < 2_000])
def test_codes_of_ours_are_what_the_engine_refuses_with(code: int) -> None:
    found = refusal(RejectCode(code), 5, None, 0)
    assert isinstance(found, Problem)
    if code != RejectCode.ORDER_UNKNOWN:
        assert (found.code, found.status) == (code, told_codes()[code])


def test_the_bounds_are_the_codes() -> None:
    for bound in (history.ENDED_MAX, history.PAYMENTS_MAX):
        assert f"the last {bound:,}" in FLAT
    assert f"{service.REMEMBERED_NS // 60 // 10**9} minutes, at most {service.REMEMBERED_MAX:,} answers" in FLAT
    assert f"have more than {service.BODY_BYTES_MAX:,} bytes" in FLAT
    assert f"longer than {http.BODY_S:.0f} seconds" in FLAT
    assert f"leaves {http.FRAMES_MAX:,} messages unread, or {http.FRAMES_BYTES_MAX // 2**20} MiB" in FLAT
    assert f"for every {stomp.ROWS_PER_TOKEN} orders or candles" in FLAT
    assert f"no more than {history.KEPT_MAX:,} of all accounts" in FLAT
    assert f"({history.CANDLES_MAX} of each timeframe)" in FLAT
    assert f"({history.ROWS_MAX * history.ROW_SAMPLES // 1_440} days)" in FLAT
    hours = history.ORDER_ROWS_MAX * history.ROW_SAMPLES // 60
    assert f"({hours} hours of at most {history.ORDERS_SAMPLED_MAX:,} orders at a time)" in FLAT
    assert f"A page of more than {service.ROWS_PER_TOKEN} rows costs a request for every hundred" in FLAT
    assert f"one for every {public.WALKED_PER_TOKEN:,} orders before it" in FLAT
    for timeframe in TIMEFRAMES:
        assert f"`{timeframe}`" in TEXT
