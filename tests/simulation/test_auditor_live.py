"""The auditor on a short day of a live market, and on days that break one promise about it.

An ask and a bid meet, ten seconds are reported, the bid is refilled and canceled, and its last work is reported. All figures
are literals worked out by hand from docs/PROTOCOL.md, "Live markets".
"""

import re
from types import SimpleNamespace
from typing import Any, Final
from zlib import crc32

import pytest

from tests.simulation import auditor as auditor_module
from tests.simulation.auditor import EndAccount, View
from tests.simulation.auditor_live import LiveCopy, LiveOrder, LiveReplay, LiveTerms, judge_live_answer, may_be_done
from tests.simulation.test_auditor import (
    CASES,
    INFO,
    MAKER,
    MARKET,
    OPERATOR,
    TAKER,
    WATCHER,
    Change,
    Script,
    _log_in,
    lots,
    money,
    price,
)

LIVE: Final = "SHA256-LIVE"
LIVE_INFO: Final[dict[str, Any]] = {
    "kind": "live",
    "market": LIVE,
    "algorithm": "SHA256",
    "state": "open",
    "speed_unit": "PH/s",
    "tick_size": "0.00000001",
    "lot_size": "0.001",
    "price_min": "0.00000001",
    "price_max": "1.00000000",
    "speed_min": "0.100",
    "speed_max": "100000.000",
    "budget_min": "0.00000001000",
    "pricing": "pay_as_bid",
    "buyer_fee_bps": 20,
    "seller_fee_bps": 10,
    "placing_fee": "0.00000000000",
    "decrease_interval_s": 600,
    "decrease_step": "0.00000200",
    "lock_ms": 0,
    "life_s": 864_000,
    "slack_s": 60,
    "grace_s": 60,
    "idle_s": 300,
}
BTC: Final = 10**11
BUDGET: Final = 10**8
REFILL: Final = 10**6
LEFT: Final = BUDGET + REFILL - 5_798
"""5,787 msat are the cost of 1000 lots at 50000 ticks in 10 seconds, 11 the buyer's fee."""
POOL: Final = {"url": "stratum+tcp://pool.example:3333", "worker": "t.1"}
FLOW: Final = {"flow_id": 1, "market": LIVE}
BID: Final = {"order_id": 31, "client_order_id": "b-1", "market": LIVE}


def _after(balance: int, held: int) -> dict[str, str]:
    return {"balance": money(balance), "held": money(held)}


def _levels(s: Script, label: str, kind: str, seq: int, bids: list[Any], asks: list[Any], text: str, assigned: int) -> None:
    data = {
        "state": "open",
        "assigned": lots(assigned),
        "marginal": price(50_000) if assigned else None,
        "bids": bids,
        "asks": asks,
        "checksum": crc32(text.encode()),
    }
    s.channel(WATCHER, label, f"live.{LIVE}", kind, seq, seq if kind == "snapshot" else seq - 1, data)


def _flow(s: Script, conn: int, label: str, change: str, old: int, new: int, cause: str) -> None:
    role = {"role": "buyer", "order_id": 31} if conn == TAKER else {"role": "seller", "order_id": 30}
    speeds = {"old_speed": lots(old), "speed": lots(new), "price": price(50_000), "cause": cause, "ts_us": s.ts_us}
    s.event(conn, label, "flow_changed", **FLOW, **role, change=change, **speeds, **POOL)


def live_day() -> Script:
    """The whole day, as it should be told."""
    s = Script()
    _log_in(s)
    s.tick()
    s.call(WATCHER, "live markets", "markets")
    s.answer(WATCHER, "live markets", [dict(INFO), dict(LIVE_INFO)], {"orders": 0, "cancels": 0, "requests": 17})
    channels = [f"live.{LIVE}", f"flows.{LIVE}"]
    s.call(WATCHER, "watch live", "subscribe", channels=channels)
    s.answer(WATCHER, "watch live", {"channels": channels}, {"orders": 0, "cancels": 0, "requests": 16})
    _levels(s, "live snapshot", "snapshot", 0, [], [], "", 0)
    s.channel(WATCHER, "flows snapshot", f"flows.{LIVE}", "snapshot", 0, 0, [])
    _trade(s)
    _end(s)
    ask = {"order_id": 30, "client_order_id": "a-1", "market": LIVE, "price": 45_000, "speed": 2_000, "assigned": 0}
    s.view = View(
        accounts={
            1: EndAccount(16, 0, 0),
            100: EndAccount(BTC + 5_782, 0, s.seqs[MAKER], live={30: ask}),
            101: EndAccount(BTC - 5_798, 0, s.seqs[TAKER]),
        },
        levels={MARKET: ([], [])},
        deliveries_msat=0,
        deposited_msat=2 * BTC,
        ts_us=s.ts_us,
        live={LIVE: ({}, {45_000: (2_000, 0)})},
    )
    return s


def _trade(s: Script) -> None:
    s.tick()
    s.call(MAKER, "a-1", "live.place_ask", market=LIVE, price="0.00045", speed="2", client_order_id="a-1")
    ask = {"order_id": 30, "client_order_id": "a-1", "market": LIVE, "price": price(45_000), "speed": lots(2_000)}
    s.event(MAKER, "a-1", "ask_placed", **ask, expires_us=0, ts_us=s.ts_us, **_after(BTC, 0))
    _levels(s, "delta a-1", "delta", 1, [], [[price(45_000), lots(2_000), lots(0)]], "a45000:2000:0;", 0)
    s.answer(MAKER, "a-1", {**ask, "status": "open", "assigned": lots(0), "ts_us": s.ts_us, "repeat": False})
    s.tick()
    told: dict[str, Any] = {"price": price(50_000), "cap": price(50_000), "limit": lots(1_000)}
    more = {"peg": "none", "offset": price(0), "floor": None, "expires_us": s.ts_us + 864_000_000_000, "ts_us": s.ts_us}
    params = {"price": "0.0005", "budget": "0.001", "limit": "1", "client_order_id": "b-1", **POOL}
    s.call(TAKER, "b-1", "live.place_bid", market=LIVE, **params)
    placed: dict[str, Any] = {**BID, **told, **POOL, **more, "budget": money(BUDGET), "placing_fee": money(0)}
    s.event(TAKER, "b-1", "bid_placed", **placed, **_after(BTC, BUDGET))
    _flow(s, TAKER, "bought", "started", 0, 1_000, "bid_placed")
    _flow(s, MAKER, "sold", "started", 0, 1_000, "bid_placed")
    bids, asks = [[price(50_000), lots(1_000), lots(1_000)]], [[price(45_000), lots(2_000), lots(1_000)]]
    _levels(s, "delta b-1", "delta", 2, bids, asks, "b50000:1000:1000;a45000:2000:1000;", 1_000)
    start = {"flow_id": 1, "price": price(50_000), "speed": lots(1_000), "ts_us": s.ts_us}
    s.channel(WATCHER, "start", f"flows.{LIVE}", "event", 1, 0, [start])
    answer = {**BID, **told, "status": "open", "assigned": lots(1_000), "ts_us": s.ts_us, "repeat": False}
    s.answer(TAKER, "b-1", answer)
    s.tick(s.ts_us + 10_000_000)
    _report(s, "report", 10**16, False)


def _report(s: Script, label: str, hashes: int, final: bool) -> None:
    cost, fees = (0, (0, 0)) if final else (5_787, (11, 5))
    s.call(OPERATOR, label, "report_flow", flow_id=1, hashes=str(hashes), final=final)
    totals = {"hashes": str(hashes), "paid_hashes": str(hashes), "cost": money(cost), "final": final}
    held = 0 if final else BUDGET - 5_798
    bought = {**totals, "fee": money(fees[0]), "released": money(10 if final else 0), **_after(BTC - 5_798, held)}
    s.event(TAKER, f"{label} bought", "flow_paid", **FLOW, role="buyer", order_id=31, **bought)
    sold = {**totals, "fee": money(fees[1]), **_after(BTC + 5_782, 0)}
    s.event(MAKER, f"{label} sold", "flow_paid", **FLOW, role="seller", order_id=30, **sold)
    s.answer(OPERATOR, label, {**FLOW, **totals})


def _end(s: Script) -> None:
    s.tick()
    s.call(TAKER, "r-1", "live.refill", order_id=31, amount="0.00001", refill_id="r-1")
    refill = {"refill_id": "r-1", "amount": money(REFILL), "left": money(LEFT), **_after(BTC - 5_798, LEFT)}
    s.event(TAKER, "r-1", "bid_refilled", **BID, **refill)
    s.answer(TAKER, "r-1", {**BID, **refill, "repeat": False})
    s.tick()
    s.call(TAKER, "again", "live.refill", order_id=31, amount="0.00001", refill_id="r-1")
    s.answer(TAKER, "again", {**BID, **refill, "repeat": True})
    s.tick()
    s.call(TAKER, "cancel", "cancel", order_id=31)
    ended = {"spent": money(5_798), "returned": money(LEFT - 10)}
    told = {"reason": "requested", "budget": money(BUDGET + REFILL), **_after(BTC - 5_798, 10)}
    s.event(TAKER, "b-1 ends", "bid_ended", **BID, **ended, **told)
    _flow(s, TAKER, "bought ends", "ended", 1_000, 0, "bid_ended")
    _flow(s, MAKER, "sold ends", "ended", 1_000, 0, "bid_ended")
    bids, asks = [[price(50_000), lots(0), lots(0)]], [[price(45_000), lots(2_000), lots(0)]]
    _levels(s, "delta end", "delta", 3, bids, asks, "a45000:2000:0;", 0)
    s.answer(TAKER, "cancel", {**BID, "canceled_qty": lots(1_000), "filled_qty": lots(0), **ended})
    s.tick()
    _report(s, "last", 10**16, True)


def test_a_good_live_day_has_no_finding_and_nothing_is_left_out() -> None:
    auditor = live_day().run()
    assert auditor.findings == []
    assert not auditor.unchecked
    assert auditor.counts["event flow_changed"] == 4
    assert auditor.counts["event flow_paid"] == 4
    assert auditor.counts["live delta"] == 3


LIVE_CASES: Final[list[tuple[str, str, Change]]] = []


def set_data(check: str, label: str, **values: Any) -> None:
    """A day on which a channel's message has other data."""

    def change(s: Script) -> None:
        s.data(label).update(values)

    LIVE_CASES.append((check, f"{label} {' '.join(values)}", change))


def set_result(check: str, label: str, **values: Any) -> None:
    """A day on which an answer has another result."""

    def change(s: Script) -> None:
        s.message(f"answer {label}")["result"].update(values)

    LIVE_CASES.append((check, f"answer {label} {' '.join(values)}", change))


set_data("flow", "event bought", speed=lots(1_001))
set_data("flow", "event bought ends", old_speed=lots(999))
set_data("flow", "event sold ends", change="resized", speed=lots(1))
set_data("flow", "event sold", role="buyer")
set_data("flow", "event sold", ts_us=1)
set_data("flow", "event report sold", paid_hashes=str(10**16 + 1))
set_data("flow", "event last sold", hashes=str(10**16 - 1))
set_data("flow", "event report bought", final=True)
set_data("flow", "start", data=None)
LIVE_CASES[-1] = ("flow", "start speed", lambda s: s.data("start")[0].update(speed=lots(999)))
set_data("balance", "event b-1", held=money(BUDGET + 1))
set_data("balance", "event b-1", placing_fee=money(1))
set_data("balance", "event report sold", fee=money(6))
set_data("balance", "event report sold", cost=money(5_788))
set_data("balance", "event r-1", left=money(LEFT + 1))
set_data("balance", "event b-1 ends", spent=money(5_797))
set_data("balance", "event b-1 ends", returned=money(LEFT - 9))
set_data("balance", "event last bought", released=money(9))
set_data("life", "event b-1", cap=price(49_999))
set_data("life", "event b-1 ends", reason="idle")
set_data("time", "event b-1 ends", reason="expired")
set_data("book", "delta b-1", assigned=lots(999))
set_data("book", "delta b-1", marginal=price(45_000))
set_data("book", "delta end", checksum=1)
set_data("shape", "event b-1 ends", reason="gone")
set_result("once", "b-1", cap=price(50_001))
set_result("once", "again", left=money(LEFT - 1))
set_result("once", "again", repeat=False)
set_result("life", "cancel", canceled_qty=lots(999))
set_result("flow", "report", hashes=str(10**16 + 1))
LIVE_CASES.append(("durable", "the ask is gone at the end", lambda s: s.view.accounts[100].live.clear()))
LIVE_CASES.append(("book", "the book is another at the end", lambda s: s.view.live.update({LIVE: ({}, {45_000: (1, 0)})})))
LIVE_CASES.append(("stream", "an event is left out", lambda s: s.drop("event bought")))
LIVE_CASES.append(("before", "an answer overtakes its event", lambda s: s.move("event r-1", "answer r-1")))


@pytest.mark.parametrize(("check", "name", "change"), LIVE_CASES, ids=[name for _, name, _ in LIVE_CASES])
def test_a_broken_promise_about_live_markets_is_found(check: str, name: str, change: Change) -> None:
    script = live_day()
    change(script)
    found = {text.partition(":")[0] for text in script.run().findings}
    assert check in found, f"{name}: {found}"


def test_every_check_has_a_case_and_stands_in_the_table() -> None:
    table = set(re.findall(r"^``(\w+)``", auditor_module.__doc__ or "", re.MULTILINE))
    assert table == {check for check, _, _, _ in CASES} | {check for check, _, _ in LIVE_CASES}


@pytest.mark.parametrize(
    ("bids", "asks", "told"),
    [
        ([(50_000, "5", "3"), (49_999, "2", "2")], [(40_000, "5", "5")], "who is better is served whole"),
        ([(50_000, "5", "4")], [(40_000, "5", "4")], "hashrate is matched while"),
        ([(50_000, "5", "6")], [(40_000, "6", "6")], "at most a level's own size"),
        ([(50_000, None, "6")], [(40_000, "6", "6")], ""),
    ],
)
def test_what_is_assigned_is_the_crossing(bids: list[Any], asks: list[Any], told: str) -> None:
    def rows(levels: list[Any]) -> list[list[str | None]]:
        return [[price(ticks), size and lots(int(size)), lots(int(assigned))] for ticks, size, assigned in levels]

    findings: list[str] = []
    assigned = sum(int(level[2]) for level in bids)
    data = {"assigned": lots(assigned), "marginal": price(bids[-1][0]), "bids": rows(bids), "asks": rows(asks)}
    copy = LiveCopy()
    copy.apply("snapshot", {**data, "checksum": 0}, LiveTerms(LIVE_INFO), lambda check, text: findings.append(text), "here")
    findings = [text for text in findings if "checksum" not in text]
    assert all(told in text for text in findings)
    assert bool(findings) == bool(told)


def test_checksum_of_the_documents_live_book() -> None:
    copy = LiveCopy()
    copy.sides = ({50_000: (1_500, 1_500)}, {45_000: (2_000, 1_500)})
    assert copy.checksum() == 3_887_454_932


def test_no_more_work_is_paid_than_was_assigned() -> None:
    """1000 lots are 10^15 hashes per second: in ten seconds 10^16, and a little for times that are told in microseconds."""
    script = live_day()
    for label in ("event report bought", "event report sold", "event last bought", "event last sold"):
        script.data(label).update(hashes=str(10**16 + 10**11), paid_hashes=str(10**16 + 10**11))
    assert any("hashes are paid by now" in text for text in script.run().findings)


def test_work_is_paid_at_the_price_of_the_bid() -> None:
    script = live_day()
    script.data("event bought")["price"] = script.data("event sold")["price"] = price(49_900)
    findings = script.run().findings
    assert any("work at 49900 to 49900 ticks costs" in text for text in findings)


def test_refill_id_that_was_forgotten() -> None:
    """Found by simulation, seed 8453: an id used again names another refill; the first answer is still one of its events."""
    found: list[str] = []
    replay = LiveReplay(None, {})
    bid = {"order_id": 31, "client_order_id": "b", "market": "NONE"}
    replay.orders[31] = LiveOrder({**bid, "status": "open"}, True)
    times = [{**bid, "refill_id": "r", "amount": "0.00000000005", "left": left} for left in ("0.00000000015", "0.00000000020")]
    replay.refills["r"] = [{**one, "balance": "1.00000000000", "held": "0.5"} for one in times]
    for left, problems in (("0.00000000015", 0), ("0.00000000020", 0), ("0.00000000025", 1)):
        answer = {**times[0], "left": left, "repeat": True}
        judge_live_answer(replay, "live.refill", answer, "here", True, lambda check, text: found.append(text))
        assert len(found) == problems, found


def test_flow_of_a_snapshot_may_be_done() -> None:
    """Found by simulation, seed 9279: its work may have been paid up to the end before the snapshot was made."""
    replay = LiveReplay(SimpleNamespace(ts_us=150, seq=5), {})
    view = {"flow_id": 5, "role": "buyer", "market": "NONE", "state": "running", "price": 3, "speed": 2, "hashrate": "2"}
    flows = [{**view, "started_us": 50, "ended_us": 0, "order_id": 31}]
    replay.begin_anew({"bids": [], "asks": [], "pools": [], "flows": flows})
    flow = replay.flows[5, "buyer"]
    flow.view |= {"state": "closing", "ended_us": 150}
    assert may_be_done(flow)
    flow.view["ended_us"] = 200
    assert not may_be_done(flow)
