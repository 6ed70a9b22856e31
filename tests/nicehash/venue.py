"""An exchange with a live market, and NiceHash's API over it: real engine and Service, without a socket, a disk or a clock."""

import hashlib
import hmac
import itertools
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from engine.commands import Entry, ListLive, PlaceAsk, ReportFlow
from engine.events import AskPlaced, Event
from engine.limits import DAY_NS, SECOND_NS
from engine.types import LiveSpec, Pricing
from gateway.algorithms import ALGORITHMS
from gateway.config import Config
from gateway.nicehash import ids, signing
from gateway.nicehash.calls import Reply, Request, Route
from gateway.nicehash.routes import ROUTES
from gateway.nicehash.service import Service
from gateway.ratelimit import MS_NS
from gateway.wire import Permission
from tests.gateway.link import BTC_MSAT, Stage

MARKET: Final = "SHA256-LIVE"
FACTORS: Final = {"marketFactor": "1000000000000000000.00000000", "displayMarketFactor": "EH"}
"""What clients echo of mining/algorithms."""


def live_spec(algorithm: str = "SHA256", symbol: str = "", **terms: Any) -> LiveSpec:
    """A live market on NiceHash's usual terms: 10 minutes between decreases, a short lock after edits."""
    row = ALGORITHMS[algorithm]
    usual: dict[str, Any] = {
        "speed_min": 100,
        "budget_min": BTC_MSAT // 1_000 - BTC_MSAT // 100_000,
        "buyer_fee_bps": 300,
        "seller_fee_bps": 200,
        "placing_fee": BTC_MSAT // 100_000,
        "decrease_interval_ns": 600 * SECOND_NS,
        "decrease_step": 200,
        "lock_ns": 10 * SECOND_NS,
        "life_ns": 10 * DAY_NS,
        "pricing": Pricing.PAY_AS_BID,
    }
    return LiveSpec(
        symbol=symbol or f"{algorithm}-LIVE",
        algorithm=row.name,
        speed_unit=row.speed_unit,
        tick_size=row.tick_size,
        lot_size=row.lot_size,
        tick_lot_msat=row.tick_lot_msat(),
        lot_hashrate=row.lot_hashrate(),
        price_max=row.price().parse(row.price_max),
        speed_max=row.qty().parse(row.qty_max),
        **{**usual, **terms},
    )


class Account:
    """A client with a key of NiceHash's kind."""

    def __init__(self, account: int, key: str, secret: str) -> None:
        self.account = account
        self.key = key
        self.secret = secret
        self.organization = ids.to_uuid(ids.ORGANIZATION, account)


class Venue:
    """One exchange. ``call`` speaks to it as a client does."""

    def __init__(self, data_dir: Path, config: Config | None = None, spec: LiveSpec | None = None) -> None:
        self.stage = Stage(data_dir, config)
        self._nonces = itertools.count(1)
        self._uniques = itertools.count(1)
        self.stage.do(ListLive(spec if spec is not None else live_spec()))
        self.service = Service(self.stage.exchange, self.stage.now_ns)
        self.stage.publish = self._publish

    def _publish(self, entry: Entry, events: list[Event]) -> None:
        self.stage.exchange.publish(entry, events)
        self.service.publish(entry, events)

    @property
    def engine(self) -> Any:
        return self.stage.engine

    def restart(self) -> None:
        """The process starts again: the engine is what it was, the API begins anew."""
        self.stage.now_ns += MS_NS
        self.service = Service(self.stage.exchange, self.stage.now_ns)

    def wait(self, seconds: int) -> None:
        self.stage.wait(seconds)
        self.service.tick(self.stage.now_ns)

    def client(self, btc: int = 1, *permissions: Permission, ip_list: tuple[str, ...] = ()) -> Account:
        """An account with money and a key."""
        account = self.stage.account(btc)
        key, secret = self.stage.keys.add(account, permissions or ("read", "trade"), "nicehash", ip_list=ip_list)
        return Account(account, key.key_id, secret)

    def seller(self, price: int, speed: int, symbol: str = MARKET) -> int:
        """An account that all_quoted ``speed`` lots for ``price`` ticks; the ask's id."""
        placed = next(
            e for e in self.stage.do(PlaceAsk(self.stage.account(0), symbol, price, speed)) if isinstance(e, AskPlaced)
        )
        return placed.order_id

    def report(self, flow_id: int, hashes: int, final: bool = False) -> list[Event]:
        return self.stage.do(ReportFlow(flow_id, hashes, final))

    # --- requests

    def start(
        self,
        method: str,
        path: str,
        client: Account | None = None,
        body: Any = None,
        *,
        query: dict[str, Any] | str = "",
        raw: bytes | None = None,
        request_id: str = "",
        time_ms: int | None = None,
        nonce: str = "",
        organization: str = "",
        signature: str = "",
        ip: str = "10.0.0.9",
    ) -> list[Reply]:
        """Send a request; where its answer will be."""
        content = raw if raw is not None else (json.dumps(body).encode() if body is not None else b"")
        text = query if isinstance(query, str) else urlencode(query)
        headers = {"content-type": "application/json"}
        if client is not None:
            stamp = str(self.stage.now_ns // MS_NS if time_ms is None else time_ms)
            once = nonce or f"nonce-{next(self._nonces)}"
            org = organization or client.organization
            signed = signing.Signed(client.key, "", int(stamp), once, org)
            message = signing.message(signed, stamp, method, path, text, content)
            given = signature or hmac.new(client.secret.encode(), message, hashlib.sha256).hexdigest()
            headers |= {
                "x-auth": f"{client.key}:{given}",
                "x-time": stamp,
                "x-nonce": once,
                "x-organization-id": org,
            }
        if request_id:
            headers["x-request-id"] = request_id
        route, names = find(method, path)
        unique = f"00000000-0000-4000-8000-{next(self._uniques):012}"
        replies: list[Reply] = []
        request = Request(method, path, text, headers, content, ip, unique)
        self.service.handle(route, request, names, self.stage.now_ns, replies.append)
        return replies

    def ask(self, *args: Any, **more: Any) -> tuple[int, Any]:
        """Send a request; status and JSON of its answer."""
        replies = self.start(*args, **more)
        assert len(replies) == 1, replies
        return replies[0].status, json.loads(replies[0].body)

    def call(self, *args: Any, **more: Any) -> Any:
        """Send a request that succeeds; the answer's JSON."""
        status, answer = self.ask(*args, **more)
        assert status == 200, (status, answer)
        return answer

    def error(self, *args: Any, **more: Any) -> tuple[int, int, str]:
        """Send a request that is refused; status, code and text."""
        status, answer = self.ask(*args, **more)
        assert status != 200, answer
        assert set(answer) == {"error_id", "errors"}
        [item] = answer["errors"]
        assert set(item) == {"code", "message"}
        return status, item["code"], item["message"]

    # --- what most tests do first

    def pool(self, client: Account, algorithm: str = "SHA256ASICBOOST") -> str:
        """A pool of the client's; its id."""
        body = {
            "name": "my pool",
            "algorithm": algorithm,
            "stratumHostname": "pool.example",
            "stratumPort": 3333,
            "username": "bc1q.worker",
            "password": "x",
        }
        answer = self.call("POST", "/main/api/v2/pool/", client, body)
        return str(answer["id"])

    def order(self, client: Account, price: str = "0.5", limit: str = "0.001", amount: str = "0.01", **more: Any) -> Any:
        """Place an order; its view."""
        request_id = more.pop("request_id", "")
        body = {
            "market": "BTC",
            "algorithm": "SHA256ASICBOOST",
            "type": "STANDARD",
            "price": price,
            "limit": limit,
            "amount": amount,
            "poolId": more.pop("pool_id", None) or self.pool(client),
            **FACTORS,
            **more,
        }
        return self.call("POST", "/main/api/v2/hashpower/order/", client, body, request_id=request_id)


def find(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route of a path, and the path's variable parts: what the HTTP edge's framework does."""
    given = path.strip("/").split("/")
    for route in ROUTES:
        parts = route.path.strip("/").split("/")
        if route.method != method or len(parts) != len(given):
            continue
        names: dict[str, str] = {}
        for part, text in zip(parts, given, strict=True):
            if part.startswith("{"):
                names[part.strip("{}")] = text
            elif part != text:
                break
        else:
            return route, names
    raise KeyError(f"no route {method} {path}")
