"""How the engine's values look to NiceHash's clients. Everything here is read, nothing decided."""

from decimal import Decimal
from fractions import Fraction
from typing import Final

from msgspec import UNSET

from engine.accounts import Account, Pool
from engine.limits import DAY_SECONDS, SECOND_NS
from engine.markets.live import NO_LIMIT, Bid
from engine.types import EndReason, LiveSpec, MarketState, Peg
from gateway.nicehash import answers, ids
from gateway.nicehash.catalog import MARKETS, Catalog, Named, Quoted, named
from gateway.nicehash.history import Payment, Placed
from gateway.nicehash.units import Units, decimal_text, money_text, plain
from gateway.ratelimit import MS_NS
from gateway.views import iso

_END: Final[dict[EndReason, tuple[str, str]]] = {
    EndReason.REQUESTED: ("CANCELLED", "Cancelled"),
    EndReason.SPENT: ("COMPLETED", "Completed"),
    EndReason.EXPIRED: ("EXPIRED", "Expired"),
    EndReason.IDLE: ("DEAD", "Dead"),
    EndReason.CLOSED: ("CANCELLED", "Cancelled"),
    EndReason.OPERATOR: ("CANCELLED", "Cancelled"),
}
_ACTIVE: Final = ("ACTIVE", "Active")
STANDARD: Final = answers.Coded(code="STANDARD", description="Standard")
_SCHEMES: Final = ("stratum+tcp://", "stratum+ssl://", "stratum://")


def millis(ts_ns: int) -> int:
    return ts_ns // MS_NS


def exact_number(value: Fraction) -> Decimal:
    """A fraction that is a decimal, as a JSON number."""
    return Decimal(decimal_text(value))


def ratio(value: Fraction, digits: int = 12) -> Decimal:
    """A fraction as a decimal with so many digits that count: for averages, which nobody orders by."""
    if not value:
        return Decimal(0)
    number = Decimal(value.numerator) / Decimal(value.denominator)
    return Decimal(plain(f"{Decimal(f'{number:.{digits - 1}e}'):f}"))


def ratio_text(value: Fraction, digits: int = 12) -> str:
    return f"{ratio(value, digits):f}"


def coded(code: tuple[str, str]) -> answers.Coded:
    return answers.Coded(code=code[0], description=code[1])


def algorithm_ref(row: Named, is_enabled: bool) -> answers.AlgorithmRef:
    return answers.AlgorithmRef(algorithm=row.name, title=row.title, enabled=is_enabled, order=row.code)


def status_of(bid: Bid | Placed) -> answers.Coded:
    reason = bid.ended if isinstance(bid, Placed) else None
    return coded(_END[reason] if reason is not None else _ACTIVE)


def amount_of(spec: LiveSpec, budget: int) -> str:
    """All that was committed: the budget and the fee for placing."""
    return money_text(budget + spec.placing_fee)


def duration_s(spec: LiveSpec, money: int, price: int, speed: int, longest_ns: int) -> int:
    """Seconds that ``money`` msat lasts at a price and speed, fees included; at most ``longest_ns``."""
    if price <= 0 or speed <= 0:
        return 0
    per_day = price * speed * spec.tick_lot_msat * (10_000 + spec.buyer_fee_bps)
    return min(money * 10_000 * DAY_SECONDS // per_day, max(0, longest_ns) // SECOND_NS)


# ------------------------------------------------------------------------------------------------------------------ pools


def pool_url(host: str, port: int) -> str:
    """A pool's address as the engine has it."""
    for prefix in _SCHEMES:
        if host.startswith(prefix):
            return f"{host.rstrip('/')}:{port}"
    return f"stratum+tcp://{host.rstrip('/')}:{port}"


def host_and_port(url: str) -> tuple[str, int]:
    """A pool's address as these clients have it."""
    host, _, port = url.removeprefix("stratum+tcp://").rpartition(":")
    return (host, int(port)) if port.isascii() and port.isdigit() and len(port) <= 5 else (url, 0)


def pool_view(pool: Pool) -> answers.Pool:
    host, port = host_and_port(pool.url)
    row = named(pool.algorithm)
    return answers.Pool(
        id=ids.to_uuid(ids.POOL, pool.pool_id),
        name=pool.name,
        algorithm=row.name if row is not None else pool.algorithm,
        stratum_hostname=host,
        stratum_port=port,
        username=pool.worker,
        password=pool.password,
        status="NOT_VERIFIED",
    )


def order_pool(account: Account, algorithm: Named, url: str, worker: str) -> answers.Pool:
    """The pool that an order is pointed at: the account's own of that address, else what the order says of it."""
    for pool in account.pools.values():
        if pool.url == url and pool.worker == worker and named(pool.algorithm) is algorithm:
            return pool_view(pool)
    host, port = host_and_port(url)
    return answers.Pool(
        name=host,
        algorithm=algorithm.name,
        stratum_hostname=host,
        stratum_port=port,
        username=worker,
        status="NOT_VERIFIED",
    )


# ----------------------------------------------------------------------------------------------------------------- orders


class Standing:
    """An order, open or ended, with what the views need of it."""

    __slots__ = (
        "budget",
        "client_order_id",
        "end_ns",
        "escrow",
        "flows",
        "limit",
        "order_id",
        "price",
        "source",
        "speed",
        "spent",
        "ts_ns",
        "updated_ns",
        "url",
        "worker",
    )

    def __init__(self, bid: Bid | Placed) -> None:
        self.source = bid
        self.order_id = bid.order_id
        self.client_order_id = bid.client_order_id
        self.price = bid.price
        self.budget = bid.budget
        self.spent = bid.spent
        self.url = bid.url
        self.worker = bid.worker
        self.ts_ns = bid.ts_ns
        if isinstance(bid, Bid):
            self.limit = 0 if bid.remaining == NO_LIMIT else bid.remaining
            self.speed = bid.assigned
            self.flows = len(bid.flows)
            self.end_ns = bid.expires_ns
            self.updated_ns = max(bid.ts_ns, bid.edited_ns)
            self.escrow = bid.escrow
        else:
            self.limit = bid.limit
            self.speed = self.flows = self.escrow = 0
            self.end_ns = bid.updated_ns
            self.updated_ns = bid.updated_ns


def order_view(
    bid: Bid | Placed,
    account: Account,
    market_name: str,
    algorithm: Named,
    units: Units,
    spec: LiveSpec,
    is_open: bool,
    now_ns: int,
) -> answers.Order:
    """An order as its owner sees it. ``market_name``: what it says for a market; ``is_open``: whether that takes orders."""
    seen = Standing(bid)
    organization = ids.to_uuid(ids.ORGANIZATION, account.account_id)
    alive = seen.speed > 0
    pool = order_pool(account, algorithm, seen.url, seen.worker)
    speed = units.speed_text(seen.speed)
    follows = isinstance(bid, Bid) and bid.peg is not Peg.NONE
    return answers.Order(
        peg=bid.peg.name if isinstance(bid, Bid) and follows else UNSET,
        price_cap=units.price_text(bid.cap) if isinstance(bid, Bid) and follows else UNSET,
        id=ids.to_uuid(ids.ORDER, seen.order_id),
        created_ts=iso(seen.ts_ns),
        updated_ts=iso(seen.updated_ns),
        start_ts=iso(seen.ts_ns),
        end_ts=iso(seen.end_ns),
        request_id=seen.client_order_id or UNSET,
        type=STANDARD,
        market=market_name,
        algorithm=algorithm_ref(algorithm, is_open),
        status=status_of(bid),
        price=units.price_text(seen.price),
        limit=units.speed_text(seen.limit),
        amount=amount_of(spec, seen.budget),
        available_amount=money_text(seen.budget),
        payed_amount=money_text(seen.spent),
        alive=alive,
        mining_status="LIVE" if alive else "INACTIVE",
        pool=pool,
        organization_id=organization,
        creator_user_id=organization,
        rigs_count=seen.flows,
        accepted_current_speed=speed,
        market_factor=str(units.market_factor),
        display_market_factor=units.market_display,
        price_factor=str(units.price_factor),
        display_price_factor=units.price_display,
        estimate_duration_in_seconds=duration_s(spec, seen.escrow, seen.price, seen.speed, seen.end_ns - now_ns),
        bridges=[
            answers.Bridge(
                pool_url=seen.url,
                rigs_count=seen.flows,
                speed_accepted=speed,
                speed_rewarded=speed,
                status="CONNECTED" if alive else "DISCONNECTED",
            )
        ],
    )


def view_of(bid: Bid | Placed, account: Account, spec: LiveSpec, catalog: Catalog, now_ns: int) -> answers.Order | None:
    """:func:`order_view`, with what the catalog says of the order's market; None where these clients cannot be told of it."""
    units, algorithm = catalog.units(spec), named(spec.algorithm)
    if units is None or algorithm is None:
        return None
    quoted = catalog.of(spec.symbol)
    name = quoted.name if quoted is not None else MARKETS[0]
    is_open = quoted is not None and quoted.market.state is MarketState.OPEN
    return order_view(bid, account, name, algorithm, units, spec, is_open, now_ns)


def book_row(bid: Bid, quoted: Quoted, mine: bool, now_ns: int) -> answers.BookOrder:
    """A bid in the book; to its owner with what only it may see."""
    units, seen = quoted.units, Standing(bid)
    speed = units.speed_text(seen.speed)
    row = answers.BookOrder(
        id=ids.to_uuid(ids.ORDER, seen.order_id),
        type="STANDARD",
        price=units.price_text(seen.price),
        limit=units.speed_text(seen.limit),
        rigs_count=seen.flows,
        accepted_speed=speed,
        paying_speed=speed,
        alive=seen.speed > 0,
        mining_status="LIVE" if seen.speed else "INACTIVE",
        currency_market="BTC",
    )
    if mine:
        row.my_order = True
        row.amount = amount_of(quoted.spec, seen.budget)
        row.available_amount = money_text(seen.budget)
        row.payed_amount = money_text(seen.spent)
        row.end_ts = iso(seen.end_ns)
        row.updated_ts = iso(seen.updated_ns)
        row.estimate_duration_in_seconds = duration_s(quoted.spec, seen.escrow, seen.price, seen.speed, seen.end_ns - now_ns)
    return row


def public_order(bid: Bid, quoted: Quoted) -> answers.PublicOrder:
    """A bid as everybody sees it."""
    units, seen = quoted.units, Standing(bid)
    return answers.PublicOrder(
        id=ids.to_uuid(ids.ORDER, seen.order_id),
        type="STANDARD",
        algorithm=quoted.algorithm.name,
        market=quoted.name,
        price=units.price_text(seen.price),
        limit=units.speed_text(seen.limit),
        accepted_current_speed=units.speed_text(seen.speed),
        rigs_count=seen.flows,
        alive=seen.speed > 0,
        start_ts=iso(seen.ts_ns),
        end_ts=iso(seen.end_ns),
        market_factor=str(units.market_factor),
        display_market_factor=units.market_display,
        price_factor=str(units.price_factor),
        display_price_factor=units.price_display,
    )


# ------------------------------------------------------------------------------------------------------------------ money

DESCRIPTIONS: Final = {
    "deposit": "Deposit",
    "withdrawal": "Withdrawal",
    "fee": "Non-refundable fee for placing the order",
    "spent": "Payment for proven work, fee included",
    "earned": "Earnings of proven work, fee taken off",
}


def payment_view(payment: Payment) -> answers.Payment:
    return answers.Payment(created=millis(payment.ts_ns), desc=DESCRIPTIONS[payment.kind], amount=money_text(payment.amount))


def movement_view(payment: Payment) -> answers.Movement:
    return answers.Movement(
        id=ids.to_uuid(ids.TRANSACTION, payment.number),
        created=millis(payment.ts_ns),
        currency="BTC",
        type=payment.kind.upper(),
        desc=DESCRIPTIONS[payment.kind],
        amount=money_text(payment.amount),
        order_id=ids.to_uuid(ids.ORDER, payment.order_id) if payment.order_id else UNSET,
        status=answers.Coded(code="COMPLETED", description="Completed"),
    )


def balance_view(account: Account, is_total: bool) -> answers.Balance:
    """An account's bitcoin: all of it, and what orders do not hold."""
    row = answers.Balance(
        currency="BTC",
        total_balance=money_text(account.balance),
        available=money_text(account.balance - account.held),
        debt="0",
        pending=money_text(account.held),
    )
    if not is_total:
        row.active = row.enabled = True
        row.btc_rate = Decimal(1)
        row.pending_details = answers.PendingDetails(
            deposit="0", withdrawal="0", exchange="0", hashpower_orders=money_text(account.held), unpaid_mining="0"
        )
    return row
