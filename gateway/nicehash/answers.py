"""The shape of every answer. Texts with numbers are decimals; fields that are UNSET are left out."""

from decimal import Decimal
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


def encode(value: object) -> bytes:
    """JSON. A Decimal is a number there, with all its digits."""
    return _ENCODER.encode(value)


class Answer(Struct, rename="camel"):
    """Base of every answer."""


class ErrorItem(Answer, kw_only=True):
    code: int
    message: str


class ErrorAnswer(Struct, kw_only=True):
    """Every refusal."""

    error_id: str
    errors: list[ErrorItem]


class Time(Answer, kw_only=True):
    server_time: int
    """Milliseconds."""


class Flag(Answer, kw_only=True):
    flag_name: str
    flag_value: bool


class Flags(Answer, kw_only=True):
    rows: list[Flag] = field(name="list")


class MiningAlgorithm(Answer, kw_only=True):
    algorithm: str
    title: str
    enabled: bool
    order: int
    display_mining_factor: str
    mining_factor: str
    display_market_factor: str
    market_factor: str
    display_price_factor: str
    price_factor: str
    price_scale: int
    minimal_order_amount: str
    min_speed_limit: str
    max_speed_limit: str
    price_down_step: str
    minimal_pool_difficulty: str
    port: int
    color: str
    orders_enabled: bool
    enabled_markets: str


class MiningAlgorithms(Answer, kw_only=True):
    mining_algorithms: list[MiningAlgorithm]


class BuyInfoRow(Struct, kw_only=True):
    name: str
    algo: int
    down_step: Decimal
    min_diff_working: Decimal
    min_diff_initial: Decimal
    min_limit: Decimal
    max_limit: Decimal
    speed_text: str
    multi: Decimal
    price_multi: Decimal
    min_price: Decimal
    max_price: Decimal
    min_amount: Decimal


class BuyInfo(Answer, kw_only=True):
    mining_algorithms: list[BuyInfoRow]


class MultiAlgoRow(Answer, kw_only=True):
    algorithm: str
    title: str
    speed: str
    paying: str


class MultiAlgo(Answer, kw_only=True):
    mining_algorithms: list[MultiAlgoRow]


class GlobalRow(Answer, kw_only=True):
    """``a`` the algorithm's number, ``p`` satoshi for one H/s for a day, ``s`` H/s, ``r`` sellers at work, ``o`` orders."""

    a: int
    p: Decimal
    s: Decimal
    r: int
    o: int


class GlobalStats(Answer, kw_only=True):
    algos: list[GlobalRow]


class BookOrder(Answer, kw_only=True):
    id: str
    type: str
    price: str
    limit: str
    rigs_count: int
    accepted_speed: str
    paying_speed: str
    alive: bool
    mining_status: str
    currency_market: str
    my_order: bool | UnsetType = UNSET
    amount: str | UnsetType = UNSET
    available_amount: str | UnsetType = UNSET
    payed_amount: str | UnsetType = UNSET
    end_ts: str | UnsetType = UNSET
    updated_ts: str | UnsetType = UNSET
    estimate_duration_in_seconds: int | UnsetType = UNSET


class Pagination(Answer, kw_only=True):
    size: int
    page: int
    total_page_count: int


class BookMarket(Answer, kw_only=True):
    updated_ts: str
    total_speed: str
    market_factor: str
    display_market_factor: str
    price_factor: str
    display_price_factor: str
    orders: list[BookOrder]
    pagination: Pagination


class OrderBook(Answer, kw_only=True):
    stats: dict[str, BookMarket]


class Price(Answer, kw_only=True):
    price: str


class FixedQuote(Answer, kw_only=True):
    fixed_max: str
    fixed_price: str


class Profile(Answer, kw_only=True):
    type: str
    speed: str
    price: str
    rig_count: int
    order_count: int


class Summary(Answer, kw_only=True):
    profs: list[Profile]
    accepted_pool_speed: str
    accepted_rig_speed: str
    rejected_pool_speed: str
    rejected_rig_speed: str
    paying_price: str


class Summaries(Answer, kw_only=True):
    summaries: dict[str, Summary]


class Coded(Answer, kw_only=True):
    code: str
    description: str


class AlgorithmRef(Answer, kw_only=True):
    algorithm: str
    title: str
    enabled: bool
    order: int


class Pool(Answer, kw_only=True):
    id: str | UnsetType = UNSET
    name: str
    algorithm: str
    stratum_hostname: str
    stratum_port: int
    username: str
    password: str | UnsetType = UNSET
    status: str
    in_moratorium: bool = False


class Pools(Answer, kw_only=True):
    rows: list[Pool] = field(name="list")
    pagination: Pagination


class Bridge(Answer, kw_only=True):
    """Where an order's hashrate goes."""

    pool_url: str
    rigs_count: int
    speed_accepted: str
    speed_rewarded: str
    status: str


class Order(Answer, kw_only=True):
    id: str
    created_ts: str
    updated_ts: str
    start_ts: str
    end_ts: str
    request_id: str | UnsetType = UNSET
    type: Coded
    market: str
    algorithm: AlgorithmRef
    status: Coded
    price: str
    limit: str
    amount: str
    available_amount: str
    payed_amount: str
    alive: bool
    mining_status: str
    pool: Pool
    organization_id: str
    creator_user_id: str
    rigs_count: int
    accepted_current_speed: str
    market_factor: str
    display_market_factor: str
    price_factor: str
    display_price_factor: str
    estimate_duration_in_seconds: int
    bridges: list[Bridge] | UnsetType = UNSET
    peg: str | UnsetType = UNSET
    """Of orders that follow, with the most that they pay."""
    price_cap: str | UnsetType = UNSET


class Orders(Answer, kw_only=True):
    rows: list[Order] = field(name="list")


class PublicOrder(Answer, kw_only=True):
    id: str
    type: str
    algorithm: str
    market: str
    price: str
    limit: str
    accepted_current_speed: str
    rigs_count: int
    alive: bool
    start_ts: str
    end_ts: str
    market_factor: str
    display_market_factor: str
    price_factor: str
    display_price_factor: str


class PublicOrders(Answer, kw_only=True):
    rows: list[PublicOrder] = field(name="list")


class OrderStats(Answer, kw_only=True):
    display_market_factor: str
    market_factor: str
    columns: list[str]
    data: list[list[Decimal | int]]


class Duration(Answer, kw_only=True):
    estimate_duration_in_seconds: int


class Done(Answer, kw_only=True):
    success: bool
    success_type: str
    message: str


class VerifyLog(Answer, kw_only=True):
    timestamp: int
    level: str
    pool_verification_message: str
    params: list[str]
    message: str


class Verified(Answer, kw_only=True):
    success: bool
    logs: list[VerifyLog]
    highest_difficulty: int
    highest_difficulty_formatted: str
    difficulty_correct: bool


class Currency(Answer, kw_only=True):
    symbol: str
    name: str
    subunits: int
    order: int
    base: bool
    wallets: list[str]


class Currencies(Answer, kw_only=True):
    currencies: list[Currency]


class FeeElement(Answer, kw_only=True):
    value: Decimal
    type: str
    """``U``: BTC; ``%``: of what is spent or earned."""
    snd_value: Decimal
    snd_type: str


class FeeInterval(Answer, kw_only=True):
    start: Decimal
    end: Decimal | None
    element: FeeElement


class FeeRule(Answer, kw_only=True):
    coin: str
    intervals: list[FeeInterval]


class FeeInfo(Answer, kw_only=True):
    """By market, in the order of mining/algorithms; the first is what the others are where they do not differ."""

    deposit: dict[str, FeeRule]
    withdrawal: dict[str, FeeRule]
    exchange_taker: dict[str, FeeRule]
    exchange_maker: dict[str, FeeRule]
    buying_non_refundable_fee: dict[str, FeeRule]
    buying_spent_fee: dict[str, FeeRule]
    sell_fee: dict[str, FeeRule]


class PendingDetails(Answer, kw_only=True):
    deposit: str
    withdrawal: str
    exchange: str
    hashpower_orders: str
    unpaid_mining: str


class Balance(Answer, kw_only=True):
    active: bool | UnsetType = UNSET
    currency: str
    total_balance: str
    available: str
    debt: str
    pending: str
    pending_details: PendingDetails | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    btc_rate: Decimal | UnsetType = UNSET


class Accounts(Answer, kw_only=True):
    total: Balance
    currencies: list[Balance]


class Payment(Answer, kw_only=True):
    created: int
    """Milliseconds."""
    desc: str
    amount: str


class Payments(Answer, kw_only=True):
    transactions: list[Payment]


class Movement(Answer, kw_only=True):
    id: str
    created: int
    currency: str
    type: str
    desc: str
    amount: str
    order_id: str | UnsetType = UNSET
    status: Coded


class Movements(Answer, kw_only=True):
    rows: list[Movement] = field(name="list")
    pagination: Pagination
