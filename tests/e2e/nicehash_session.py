"""NiceHash's own Python client against one server. Run by the Python that has it; knows nothing of Hashpit.

    python nicehash_session.py < settings.json > report.json

The settings name the host, two keys and the algorithm; the report has what each call returned, or how it was refused.
"""

import ast
import copy
import json
import sys
from typing import Any

from nicehash import nicehash

SETTINGS = json.load(sys.stdin)
HOST, ALGORITHM = SETTINGS["host"], SETTINGS["algorithm"]
REPORT: dict[str, Any] = {"refused": {}}


def private(key: dict[str, str]) -> Any:
    return nicehash.private_api(HOST, key["organization"], key["key"], key["secret"])


def refused(name: str, call: Any) -> None:
    """A call that has to be refused: its status and code, out of the exception's text."""
    try:
        REPORT["refused"][name] = call()
    except Exception as problem:
        status, _, rest = str(problem).partition(": ")
        [error] = json.loads(ast.literal_eval(rest.partition(": ")[2]))["errors"]
        REPORT["refused"][name] = [int(status), error["code"], error["message"]]


def trade() -> None:
    public, client = nicehash.public_api(HOST), private(SETTINGS["trader"])
    algorithms = public.get_algorithms()
    for name in (
        *("get_current_global_stats", "get_global_stats_24", "get_active_orders", "get_active_orders2", "buy_info"),
        *("get_markets", "get_currencies", "get_multialgo_info"),
    ):
        REPORT[name] = getattr(public, name)()
    REPORT["before"] = client.get_accounts_for_currency("BTC")
    REPORT["accounts"] = client.get_accounts()
    pool = client.create_pool("My pool", ALGORITHM, "pool.example", 3333, "bc1q.worker", "x")
    REPORT["pools"] = client.get_my_pools(0, 100)
    order = client.create_hashpower_order("EU", "STANDARD", ALGORITHM, 0.5, 0.001, 0.005, pool["id"], algorithms)
    number = order["id"]
    REPORT["created"] = order
    REPORT["placed"] = client.get_accounts_for_currency("BTC")
    REPORT["raised"] = client.set_price_hashpower_order(number, 0.51, ALGORITHM, algorithms)
    REPORT["limited"] = client.set_limit_hashpower_order(number, 0.002, ALGORITHM, algorithms)
    REPORT["both"] = client.set_price_and_limit_hashpower_order(number, 0.52, 0.003, ALGORITHM, algorithms)
    REPORT["refilled"] = client.refill_hashpower_order(number, 0.005)
    REPORT["book"] = client.get_hashpower_orderbook(ALGORITHM)
    REPORT["mine"] = client.get_my_active_orders(ALGORITHM, "EU", 10)
    refuse(client, number, pool["id"], algorithms)
    REPORT["canceled"] = client.cancel_hashpower_order(number)
    refused("canceled before", lambda: client.cancel_hashpower_order(number))
    REPORT["deleted"] = client.delete_pool(pool["id"])
    REPORT["after"] = client.get_accounts_for_currency("BTC")


def refuse(client: Any, number: str, pool: str, algorithms: Any) -> None:
    """Everything that goes wrong with bots sooner or later."""

    def create(client: Any, settings: Any = algorithms, amount: Any = 0.005) -> Any:
        return client.create_hashpower_order("EU", "STANDARD", ALGORITHM, 0.5, 0.001, amount, pool, settings)

    guess = private({**SETTINGS["trader"], "secret": SETTINGS["reader"]["secret"]})
    refused("wrong signature", guess.get_accounts)
    refused("unknown key", private({**SETTINGS["trader"], "key": number}).get_accounts)
    refused("other organisation", private({**SETTINGS["trader"], "organization": number}).get_accounts)
    late = private(SETTINGS["trader"])
    late.get_epoch_ms_from_now = lambda: client.get_epoch_ms_from_now() - 301_000
    refused("stale time", late.get_accounts)
    real = nicehash.uuid.uuid4
    once = real()
    nicehash.uuid.uuid4 = lambda: once
    client.get_accounts()
    refused("reused nonce", client.get_accounts)
    nicehash.uuid.uuid4 = real
    refused("missing permission", lambda: create(private(SETTINGS["reader"])))
    refused("early decrease", lambda: client.set_price_hashpower_order(number, 0.519, ALGORITHM, algorithms))
    wrong = copy.deepcopy(algorithms)
    for row in wrong["miningAlgorithms"]:
        row["marketFactor"] = "1000000000000"
    refused("wrong factor", lambda: create(client, wrong))
    refused("malformed body", lambda: create(client, amount={"btc": 1}))
    refused("body encoded twice", lambda: client.request("POST", "/main/api/v2/hashpower/order/", "", '{"a": 1}'))
    refused("price between ticks", lambda: client.set_price_hashpower_order(number, 0.5200001, ALGORITHM, algorithms))
    refused("too little", lambda: create(client, amount=0.0001))
    refused("too much", lambda: create(client, amount=1000))


if __name__ == "__main__":
    trade()
    json.dump(REPORT, sys.stdout)
