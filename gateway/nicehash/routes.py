"""Every path: what it takes, what it answers, who may call it, and what it costs."""

from typing import Any, Final

from gateway.nicehash import accounting, answers, bodies, hashpower, public
from gateway.nicehash.calls import PAGE_MAX, Param, Route
from gateway.ratelimit import MS_NS
from gateway.wire import Permission

API: Final = "/main/api/v2"
TIME_MS_MAX: Final = 2**62 // MS_NS
"""The last time of the engine, in milliseconds."""

_ALGORITHM: Final = Param("algorithm", description="NiceHash's name of an algorithm, such as SHA256ASICBOOST; or ours")
_NEEDED_ALGORITHM: Final = _ALGORITHM._replace(required=True)
_MARKET: Final = Param("market", description="BTC, EU, USA, ... are all one; or the symbol of a live market")
_SIZE: Final = Param("size", "int", 100, PAGE_MAX, 1, description="rows of a page")
_PAGE: Final = Param("page", "int", 0, 1_000_000, description="from 0")
_OP: Final = Param("op", default="LE", description="GT, GE, LT or LE")
_TIMESTAMP: Final = Param("timestamp", "int", 0, TIME_MS_MAX, description="milliseconds")
_PAGED: Final = (_SIZE, _PAGE)


def _get(path: str, run: Any, answer: Any, summary: str, *query: Param, **more: Any) -> Route:
    return Route("GET", path, run, answer, summary, query, **more)


def _private(
    method: str, path: str, run: Any, answer: Any, summary: str, permission: Permission, *query: Param, **more: Any
) -> Route:
    return Route(method, f"{API}{path}", run, answer, summary, query, signature="yes", permission=permission, **more)


PUBLIC: Final = (
    _get("/api/v2/time", public.time, answers.Time, "The server's clock"),
    _get("/api/v2/system/flags", public.flags, answers.Flags, "Whether the exchange takes orders"),
    _get("/api/v2/enum/permissions", public.permissions, list[str], "What a key can be allowed"),
    _get(f"{API}/public/apiVersion", public.api_version, float, "2.0"),
    _get(f"{API}/mining/algorithms", public.algorithms, answers.MiningAlgorithms, "Algorithms, with units and bounds"),
    _get(f"{API}/mining/markets", public.markets, list[str], "Names of markets"),
    _get(f"{API}/public/buy/info", public.buy_info, answers.BuyInfo, "Bounds of orders, as numbers"),
    _get(f"{API}/public/currencies", public.currencies, answers.Currencies, "Bitcoin"),
    _get(f"{API}/public/service/fee/info", public.fee_info, answers.FeeInfo, "Fees", _ALGORITHM, _MARKET),
    _get(f"{API}/public/simplemultialgo/info", public.multi_algo, answers.MultiAlgo, "What sellers are paid"),
    _get(f"{API}/public/stats/global/current", public.stats_now, answers.GlobalStats, "Price, speed, orders: now"),
    _get(f"{API}/public/stats/global/24h", public.stats_day, answers.GlobalStats, "Price, speed, orders: of 24 hours"),
    _get(
        f"{API}/public/algo/history",
        public.algo_history,
        list[list[float]],
        "Unix time, speed, price, 0: every five minutes",
        _NEEDED_ALGORITHM,
        _MARKET,
    ),
    _get(
        f"{API}/public/orders",
        public.public_orders,
        answers.PublicOrders,
        "Every order",
        _ALGORITHM,
        _MARKET,
        _OP,
        _TIMESTAMP,
        *_PAGED,
    ),
    *(
        _get(
            f"{API}/public/orders/{name}",
            public.public_orders,
            answers.PublicOrders,
            "Every active order",
            _ALGORITHM,
            _MARKET,
            _OP,
            _TIMESTAMP,
            _SIZE._replace(default=PAGE_MAX),
            _PAGE,
        )
        for name in ("active", "active2")
    ),
    _get(
        f"{API}/hashpower/orderBook",
        public.order_book,
        answers.OrderBook,
        "The book, best price first; signed, your own rows are marked",
        _NEEDED_ALGORITHM,
        _MARKET,
        *_PAGED,
        signature="optional",
    ),
    _get(
        f"{API}/hashpower/order/price",
        public.order_price,
        answers.Price,
        "The lowest price that gets hashrate now",
        _NEEDED_ALGORITHM,
        _MARKET,
    ),
    _get(
        f"{API}/hashpower/orders/summaries",
        public.summaries,
        answers.Summaries,
        "Speed and price of every market",
        _ALGORITHM,
        _MARKET,
    ),
    _get(
        f"{API}/hashpower/orders/summary",
        public.summary,
        answers.Summary,
        "Speed and price of a market",
        _NEEDED_ALGORITHM,
        _MARKET,
    ),
    Route(
        "POST",
        f"{API}/hashpower/orders/fixedPrice",
        public.fixed_price,
        answers.FixedQuote,
        "The lowest price that gets a whole limit now",
        body=bodies.FixedPrice,
    ),
    Route(
        "POST",
        f"{API}/hashpower/orders/calculateEstimateDuration",
        hashpower.estimate,
        answers.Duration,
        "How long an amount lasts",
        body=bodies.Estimate,
        signature="optional",
    ),
)

PRIVATE: Final = (
    _private(
        "POST",
        "/hashpower/order",
        hashpower.create,
        answers.Order,
        "Place an order",
        "trade",
        body=bodies.CreateOrder,
        bucket="orders",
        is_repeatable=True,
    ),
    _private("GET", "/hashpower/order/{id}", hashpower.get, answers.Order, "An order", "read"),
    _private("DELETE", "/hashpower/order/{id}", hashpower.cancel, answers.Order, "Cancel an order", "trade", bucket="cancels"),
    _private(
        "POST",
        "/hashpower/order/{id}/refill",
        hashpower.refill,
        answers.Order,
        "Add to an order's amount",
        "trade",
        body=bodies.Refill,
        bucket="orders",
        is_repeatable=True,
    ),
    _private(
        "POST",
        "/hashpower/order/{id}/updatePriceAndLimit",
        hashpower.update,
        answers.Order,
        "Change an order's price, limit, or both",
        "trade",
        body=bodies.UpdateOrder,
        bucket="orders",
    ),
    _private("GET", "/hashpower/order/{id}/stats", hashpower.order_stats, answers.OrderStats, "How an order fared", "read"),
    _private(
        "GET",
        "/hashpower/myOrders",
        hashpower.my_orders,
        answers.Orders,
        "Your orders, open and ended",
        "read",
        Param("ts", "int", 0, TIME_MS_MAX, description="milliseconds"),
        _OP,
        Param("limit", "int", 100, PAGE_MAX, 1),
        _ALGORITHM,
        _MARKET,
        Param("status", description="ACTIVE, CANCELLED, COMPLETED, EXPIRED or DEAD"),
        Param("type", description="STANDARD"),
        Param("active", "flag", False, description="open orders only"),
    ),
    _private(
        "POST",
        "/pool",
        hashpower.save_pool,
        answers.Pool,
        "Make or change a pool",
        "trade",
        body=bodies.SavePoolBody,
        bucket="orders",
    ),
    _private("GET", "/pool/{id}", hashpower.get_pool, answers.Pool, "A pool", "read"),
    _private("DELETE", "/pool/{id}", hashpower.delete_pool, answers.Done, "Forget a pool", "trade", bucket="orders"),
    _private("GET", "/pools", hashpower.pools, answers.Pools, "Your pools", "read", *_PAGED, _ALGORITHM),
    _private(
        "POST",
        "/pools/verify",
        hashpower.verify_pool,
        answers.Verified,
        "Look at the form of a pool",
        "read",
        body=bodies.VerifyPool,
    ),
    _private("GET", "/accounting/accounts2", accounting.accounts, answers.Accounts, "Your money", "read"),
    _private("GET", "/accounting/account2/{currency}", accounting.account, answers.Balance, "Your bitcoin", "read"),
    _private(
        "GET",
        "/accounting/hashpower/{id}/transactions",
        accounting.order_transactions,
        answers.Payments,
        "What was paid for an order",
        "read",
    ),
    *(
        _private("GET", f"/accounting/{name}/{{currency}}", run, answers.Movements, summary, "read", *_PAGED)
        for name, run, summary in (
            ("transactions", accounting.transactions, "All payments"),
            ("activity", accounting.transactions, "All payments"),
            ("deposits", accounting.deposits, "Deposits"),
            ("withdrawals", accounting.withdrawals, "Withdrawals"),
            ("hashpowerEarnings", accounting.earnings, "What you earned as a seller"),
        )
    ),
)

ROUTES: Final[tuple[Route, ...]] = (*PUBLIC, *PRIVATE)
"""All of them."""
