"""NiceHash's own Python client, as it was published, trades on a real server with nothing but its host changed."""

import asyncio
import hashlib
import hmac
import http.client
import json
import re
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from gateway.auth import KeyStore
from gateway.nicehash import ids
from gateway.wire import Permission
from tests.support import ROOT, PlainClient, Server, TestKey, config, running

INSTALLED: Final = ROOT / ".venv-nicehash" / "installed"
"""Made when all of it is there."""
PYTHON: Final = INSTALLED.with_name("bin") / "python"
SCRIPT: Final = Path(__file__).with_name("nicehash_session.py")
START_S: Final = 20.0
SESSION_S: Final = 50.0

LIVE: Final = """
[nicehash]
enabled = true
port = 0

[[live]]
algorithm = "SHA256"
buyer_fee_bps = 300
placing_fee = "0.00001"
budget_min = "0.00099"
"""

needs_client = pytest.mark.skipif(
    not INSTALLED.exists(), reason="NiceHash's client is not installed: `make nicehash` does it, with a network"
)


async def nicehash_url(server: Server) -> str:
    """Where a started server has NiceHash's API."""
    async with asyncio.timeout(START_S):
        while True:
            found = re.search(r'"nicehash": ?"(http://[^"]+)"', server.log_text())
            if found:
                return found[1]
            await asyncio.sleep(0.05)


def key_of(server: Server, account: int, *permissions: Permission) -> dict[str, str]:
    key, secret = KeyStore(server.data_dir).add(account, permissions, "nicehash")
    return {"key": key.key_id, "secret": secret, "organization": ids.to_uuid(ids.ORGANIZATION, account)}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", config() + LIVE) as started:
        yield started


async def session(server: Server, settings: dict[str, Any]) -> dict[str, Any]:
    """Run the client; its report."""
    process = await asyncio.create_subprocess_exec(
        str(PYTHON), str(SCRIPT), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SESSION_S):
            out, err = await process.communicate(json.dumps(settings).encode())
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, f"{err.decode()}\n{server.log_text()[-2_000:]}"
    report: dict[str, Any] = json.loads(out)
    return report


def signed(url: str, key: dict[str, str], method: str, path: str, body: Any = None, request_id: str = "") -> tuple[int, Any]:
    """A signed request by the standard library: status and JSON."""
    content = json.dumps(body).encode() if body is not None else b""
    stamp, nonce = str(time.time_ns() // 1_000_000), str(uuid.uuid4())
    fields = (key["key"], stamp, nonce, "", key["organization"], "", method, path, "")
    text = "\0".join(fields).encode() + (b"\0" + content if content else b"")
    signature = hmac.new(key["secret"].encode(), text, hashlib.sha256).hexdigest()
    headers = {
        "X-Auth": f"{key['key']}:{signature}",
        "X-Time": stamp,
        "X-Nonce": nonce,
        "X-Organization-Id": key["organization"],
        **({"X-Request-Id": request_id} if request_id else {}),
    }
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=START_S)
    try:
        connection.request(method, path, content or None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_what_was_answered_survives_kill_9(server: Server) -> None:
    buyer = await server.trader("buyer", deposit="1.0")
    key = key_of(server, buyer.account, "read", "trade")
    await asyncio.sleep(1.5)  # the key file is looked at once a second
    url = await nicehash_url(server)
    usual = {"algorithm": "SHA256ASICBOOST", "stratumHostname": "pool.example", "stratumPort": 3333, "username": "u"}
    status, pool = await asyncio.to_thread(signed, url, key, "POST", "/main/api/v2/pool", {"name": "p", **usual})
    assert status == 200, pool
    order = {
        "algorithm": "SHA256ASICBOOST",
        "price": 0.5,
        "limit": 0.001,
        "amount": 0.005,
        "poolId": pool["id"],
        "marketFactor": 10**18,
        "displayMarketFactor": "EH",
    }
    create = (key, "POST", "/main/api/v2/hashpower/order/", order, "r-1")
    status, placed = await asyncio.to_thread(signed, url, *create)
    assert status == 200, placed
    server.kill()
    server.log_path.unlink()
    await server.start()
    url = await nicehash_url(server)
    status, again = await asyncio.to_thread(signed, url, *create)
    assert (status, again["id"]) == (200, placed["id"])
    status, mine = await asyncio.to_thread(signed, url, key, "GET", "/main/api/v2/hashpower/myOrders")
    assert [one["id"] for one in mine["list"]] == [placed["id"]]
    status, money = await asyncio.to_thread(signed, url, key, "GET", "/main/api/v2/accounting/account2/BTC")
    assert (money["totalBalance"], money["available"]) == ("0.99999", "0.995")
    assert await server.stop() == 0
    assert "Traceback" not in server.log_text()


@needs_client
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_nicehashs_client_trades_unchanged(server: Server) -> None:
    buyer, seller = await server.trader("buyer", deposit="1.0"), await server.trader("seller")
    async with PlainClient.to(server, seller) as client:
        await client.call("live.place_ask", market="SHA256-LIVE", price="0.00030000", speed="5.000")
    settings = {
        "host": await nicehash_url(server),
        "algorithm": "SHA256ASICBOOST",
        "trader": key_of(server, buyer.account, "read", "trade"),
        "reader": key_of(server, buyer.account, "read"),
    }
    await asyncio.sleep(1.5)  # the key file is looked at once a second
    report = await session(server, settings)
    judge(report)
    await elsewhere(server, buyer)
    assert await server.stop() == 0
    assert "Traceback" not in server.log_text()


def judge(report: dict[str, Any]) -> None:
    created = report["created"]
    assert (created["status"]["code"], created["type"]["code"], created["market"]) == ("ACTIVE", "STANDARD", "BTC")
    assert (created["price"], created["limit"], created["amount"]) == ("0.5", "0.001", "0.005")
    assert (created["alive"], created["acceptedCurrentSpeed"]) == (True, "0.001")
    assert created["pool"]["stratumHostname"] == "pool.example"
    assert report["before"]["available"] == "1"
    assert (report["placed"]["available"], report["placed"]["pending"]) == ("0.995", "0.00499")
    assert report["accounts"]["total"]["totalBalance"] == "1"
    assert report["raised"]["price"] == "0.51"
    assert report["limited"]["limit"] == "0.002"
    assert (report["both"]["price"], report["both"]["limit"]) == ("0.52", "0.003")
    assert report["both"]["acceptedCurrentSpeed"] == "0.003"
    assert report["refilled"]["amount"] == "0.01"
    [row] = report["book"]["stats"]["BTC"]["orders"]
    assert (row["id"], row["price"], row["myOrder"]) == (created["id"], "0.52", True)
    assert [order["id"] for order in report["mine"]["list"]] == [created["id"]]
    assert [pool["name"] for pool in report["pools"]["list"]] == ["My pool"]
    assert report["canceled"]["status"]["code"] == "CANCELLED"
    assert report["deleted"]["success"] is True
    # Nobody proved work, so nothing but the fee for placing is gone. What a meter may still report is held.
    assert report["after"]["totalBalance"] == "0.99999"
    assert 0.9999 < float(report["after"]["available"]) <= 0.99999
    assert report["get_markets"][0] == "BTC"
    assert report["get_active_orders"] == {"list": []}

    refused = {name: answer[:2] for name, answer in report["refused"].items()}
    assert refused == {
        "wrong signature": [401, 2000],
        "unknown key": [401, 2000],
        "other organisation": [401, 2000],
        "stale time": [401, 2000],
        "reused nonce": [401, 2000],
        "missing permission": [400, 5096],
        "early decrease": [400, 5061],
        "wrong factor": [400, 5068],
        "malformed body": [400, 60],
        "body encoded twice": [400, 60],
        "price between ticks": [400, 2997],
        "too little": [400, 1214],
        "too much": [400, 1409],
        "canceled before": [400, 5059],
    }
    assert re.search(r"Seconds till available: \d+$", report["refused"]["early decrease"][2])


async def elsewhere(server: Server, buyer: TestKey) -> None:
    """What the client did is what the exchange's own protocol tells: there is one state."""
    async with PlainClient.to(server, server.operator) as meter:
        for flow in await meter.call("live.flows"):
            await meter.call("report_flow", flow_id=flow["flow_id"], hashes="0", final=True)
    async with PlainClient.to(server, buyer) as client:
        balances = await client.call("balances")
        assert (balances["balance"], balances["held"]) == ("0.99999000000", "0.00000000000")
        assert await client.call("live.orders") == {"bids": [], "asks": []}
