"""Every path: what its answer looks like, field by field, as the facts of NiceHash's clients have it."""

from pathlib import Path
from typing import Any

import pytest

from gateway.nicehash.routes import PRIVATE, ROUTES
from tests.nicehash.venue import FACTORS, Account, Venue, find

API = "/main/api/v2"
ALGO = {"algorithm": "SHA256ASICBOOST"}

BALANCE = {"currency", "totalBalance", "available", "debt", "pending"}
ROW = BALANCE | {"active", "enabled", "btcRate", "pendingDetails"}
FACTOR_FIELDS = {"marketFactor", "displayMarketFactor", "priceFactor", "displayPriceFactor"}
LIST_ORDER = FACTOR_FIELDS | {
    *("id", "createdTs", "updatedTs", "startTs", "endTs", "type", "market", "algorithm", "status", "price", "limit"),
    *("amount", "availableAmount", "payedAmount", "alive", "miningStatus", "pool", "organizationId", "creatorUserId"),
    *("rigsCount", "acceptedCurrentSpeed", "estimateDurationInSeconds"),
}
ORDER = LIST_ORDER | {"bridges"}
POOL = {
    *("id", "name", "algorithm", "stratumHostname", "stratumPort", "username", "password", "status", "inMoratorium"),
}
PUBLIC_ORDER = FACTOR_FIELDS | {
    *("id", "type", "algorithm", "market", "price", "limit", "acceptedCurrentSpeed", "rigsCount", "alive"),
    *("startTs", "endTs"),
}
PAGINATION = {"size", "page", "totalPageCount"}
MOVEMENT = {"id", "created", "currency", "type", "desc", "amount", "status"}
SUMMARY = {
    *("profs", "acceptedPoolSpeed", "acceptedRigSpeed", "rejectedPoolSpeed", "rejectedRigSpeed", "payingPrice"),
}
RULE = {"coin": str, "intervals": [{"start": int, "end": None, "element": {"value", "type", "sndValue", "sndType"}}]}

SHAPES: dict[str, tuple[Any, Any]] = {
    "GET /api/v2/time": ("", {"serverTime": int}),
    "GET /api/v2/system/flags": ("", {"list": [{"flagName": str, "flagValue": bool}]}),
    "GET /api/v2/enum/permissions": ("", [str]),
    "GET /main/api/v2/public/apiVersion": ("", float),
    "GET /main/api/v2/mining/algorithms": (
        "",
        {
            "miningAlgorithms": [
                FACTOR_FIELDS
                | {
                    *("algorithm", "title", "enabled", "order", "displayMiningFactor", "miningFactor", "priceScale"),
                    *("minimalOrderAmount", "minSpeedLimit", "maxSpeedLimit", "priceDownStep", "port", "color"),
                    *("minimalPoolDifficulty", "ordersEnabled", "enabledMarkets"),
                }
            ]
        },
    ),
    "GET /main/api/v2/mining/markets": ("", [str]),
    "GET /main/api/v2/public/buy/info": (
        "",
        {
            "miningAlgorithms": [
                {
                    *("name", "algo", "down_step", "min_diff_working", "min_diff_initial", "min_limit", "max_limit"),
                    *("speed_text", "multi", "price_multi", "min_price", "max_price", "min_amount"),
                }
            ]
        },
    ),
    "GET /main/api/v2/public/currencies": (
        "",
        {"currencies": [{"symbol", "name", "subunits", "order", "base", "wallets"}]},
    ),
    "GET /main/api/v2/public/service/fee/info": (
        "",
        {
            name: {"BTC": RULE}
            for name in (
                *("deposit", "withdrawal", "exchangeTaker", "exchangeMaker"),
                *("buyingNonRefundableFee", "buyingSpentFee", "sellFee"),
            )
        },
    ),
    "GET /main/api/v2/public/simplemultialgo/info": (
        "",
        {"miningAlgorithms": [{"algorithm": str, "title": str, "speed": str, "paying": str}]},
    ),
    "GET /main/api/v2/public/stats/global/current": ("", {"algos": [{"a": int, "p": float, "s": int, "r": int, "o": int}]}),
    "GET /main/api/v2/public/stats/global/24h": ("", {"algos": [{"a": int, "p": float, "s": int, "r": int, "o": int}]}),
    "GET /main/api/v2/public/algo/history": (ALGO, [[int, int, float, int]]),
    "GET /main/api/v2/public/orders": ("", {"list": [PUBLIC_ORDER]}),
    "GET /main/api/v2/public/orders/active": ("", {"list": [PUBLIC_ORDER]}),
    "GET /main/api/v2/public/orders/active2": ("", {"list": [PUBLIC_ORDER]}),
    "GET /main/api/v2/hashpower/orderBook": (
        ALGO,
        {
            "stats": {
                "BTC": {
                    "updatedTs": str,
                    "totalSpeed": str,
                    **dict.fromkeys(FACTOR_FIELDS, str),
                    "orders": [
                        {
                            *("id", "type", "price", "limit", "rigsCount", "acceptedSpeed", "payingSpeed", "alive"),
                            *("miningStatus", "currencyMarket"),
                        }
                    ],
                    "pagination": PAGINATION,
                }
            }
        },
    ),
    "GET /main/api/v2/hashpower/order/price": (ALGO, {"price": str}),
    "GET /main/api/v2/hashpower/orders/summaries": ("", {"summaries": {"BTC,SHA256ASICBOOST": SUMMARY}}),
    "GET /main/api/v2/hashpower/orders/summary": (ALGO, SUMMARY),
    "POST /main/api/v2/hashpower/orders/fixedPrice": ({**ALGO, "limit": 0.001}, {"fixedMax": str, "fixedPrice": str}),
    "POST /main/api/v2/hashpower/orders/calculateEstimateDuration": (
        {"type": "STANDARD", "price": "0.5", "limit": 0.001, "amount": "0.001", "decreaseFee": False, **FACTORS},
        {"estimateDurationInSeconds": int},
    ),
    "POST /main/api/v2/hashpower/order": (
        {**ALGO, "market": "EU", "type": "STANDARD", "price": 0.5, "limit": 0, "amount": "0.01", "poolId": "POOL", **FACTORS},
        ORDER,
    ),
    "GET /main/api/v2/hashpower/order/{id}": ("", ORDER),
    "DELETE /main/api/v2/hashpower/order/{id}": ("", ORDER),
    "POST /main/api/v2/hashpower/order/{id}/refill": ({"amount": "0.005"}, ORDER),
    "POST /main/api/v2/hashpower/order/{id}/updatePriceAndLimit": ({"price": "0.6", "limit": "0.002", **FACTORS}, ORDER),
    "GET /main/api/v2/hashpower/order/{id}/stats": (
        "",
        {
            "displayMarketFactor": str,
            "marketFactor": str,
            "columns": [str],
            "data": [[int, int, float, float, float, int]],
        },
    ),
    "GET /main/api/v2/hashpower/myOrders": ({"ts": 2_000_000_000_000, "op": "LE", "limit": 10}, {"list": [LIST_ORDER]}),
    "POST /main/api/v2/pool": (
        {"name": "p", **ALGO, "stratumHostname": "a.example", "stratumPort": "3334", "username": "u", "password": ""},
        POOL,
    ),
    "GET /main/api/v2/pool/{id}": ("", POOL),
    "DELETE /main/api/v2/pool/{id}": ("", {"success": bool, "successType": str, "message": str}),
    "GET /main/api/v2/pools": ("", {"list": [POOL], "pagination": PAGINATION}),
    "POST /main/api/v2/pools/verify": (
        {"miningAlgorithm": "SCRYPT", "stratumHost": "a.example", "stratumPort": 1, "username": "u"},
        {
            "success": bool,
            "logs": [{"timestamp", "level", "poolVerificationMessage", "params", "message"}],
            "highestDifficulty": int,
            "highestDifficultyFormatted": str,
            "difficultyCorrect": bool,
        },
    ),
    "GET /main/api/v2/accounting/accounts2": (
        {"extendedResponse": False, "fiat": "USD"},
        {"total": BALANCE, "currencies": [ROW]},
    ),
    "GET /main/api/v2/accounting/account2/{currency}": ("", ROW),
    "GET /main/api/v2/accounting/hashpower/{id}/transactions": (
        "",
        {"transactions": [{"created": int, "desc": str, "amount": str}]},
    ),
    "GET /main/api/v2/accounting/transactions/{currency}": ("", {"list": [MOVEMENT], "pagination": PAGINATION}),
    "GET /main/api/v2/accounting/activity/{currency}": ("", {"list": [MOVEMENT], "pagination": PAGINATION}),
    "GET /main/api/v2/accounting/deposits/{currency}": ("", {"list": [MOVEMENT], "pagination": PAGINATION}),
    "GET /main/api/v2/accounting/withdrawals/{currency}": ("", {"list": [], "pagination": PAGINATION}),
    "GET /main/api/v2/accounting/hashpowerEarnings/{currency}": ("", {"list": [], "pagination": PAGINATION}),
}
"""What is sent (a query's or a body's fields) and what comes: types, lists of them, objects; a set has an object's fields."""


def check(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, set):
        assert isinstance(value, dict), where
        assert shape <= set(value), f"{where}: {sorted(shape - set(value))} missing"
        assert set(value) - shape <= {"orderId", "requestId"}, f"{where}: {sorted(set(value) - shape)} too much"
    elif isinstance(shape, dict):
        assert isinstance(value, dict), where
        assert set(value) == set(shape), where
        for name, inner in shape.items():
            check(value[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), where
        assert bool(value) == bool(shape), f"{where}: {value}"
        for at, item in enumerate(value):
            check(item, shape[at] if len(shape) > 1 else shape[0], f"{where}[{at}]")
    elif shape is None:
        assert value is None, where
    else:
        assert type(value) is shape, f"{where}: {value!r} is no {shape.__name__}"


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


@pytest.fixture
def client(venue: Venue) -> Account:
    return venue.client()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_shape_of_every_answer(venue: Venue, client: Account, route: Any, slash: str) -> None:
    pool, order = venue.pool(client), venue.order(client)
    venue.seller(30_000, 5_000)
    venue.wait(60)
    sent, shape = SHAPES[f"{route.method} {route.path}"]
    names = {"{id}": pool if "/pool/" in route.path else order["id"], "{currency}": "BTC"}
    path = route.path
    for name, value in names.items():
        path = path.replace(name, value)
    signer = client if route in PRIVATE else None
    if route.method == "GET":
        answer = venue.call("GET", path + slash, signer, query=sent)
    else:
        body = {**sent, "poolId": pool} if sent and "poolId" in sent else sent
        answer = venue.call(route.method, path + slash, signer, body or None)
    check(answer, shape, "$")


def test_every_route_has_its_shape_here() -> None:
    assert set(SHAPES) == {f"{route.method} {route.path}" for route in ROUTES}


@pytest.mark.parametrize("route", PRIVATE, ids=lambda route: f"{route.method} {route.path}")
def test_everything_private_takes_a_signature_and_a_permission(venue: Venue, route: Any) -> None:
    path = route.path.replace("{id}", "x").replace("{currency}", "BTC")
    assert venue.error(route.method, path)[:2] == (401, 2000)
    status, code, text = venue.error(route.method, path, venue.client(1, "withdraw"))
    assert (status, code) == ((403, 403) if route.bucket == "requests" else (400, 5096))
    assert f"the key lacks the permission {route.permission}" in text


def test_the_paths_of_routes_are_unique() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert find("GET", f"{API}/hashpower/order/price")[0].summary != find("GET", f"{API}/hashpower/order/7")[0].summary
