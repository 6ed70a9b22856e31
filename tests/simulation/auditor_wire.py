"""What docs/PROTOCOL.md says about messages, as data: methods, errors, close codes, shapes, numbers.

Methods, refusals and close codes are read out of the document's own tables, so that the auditor cannot know an
older truth than the reader does. The shapes of results and events stand there by example; here they are lists.
Decimals become whole ticks, lots and msat; nothing here is a float.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

PROTOCOL: Final = Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"
MSAT_DECIMALS: Final = 11
INT_MAX: Final = 2**53
TEXTS_MAX: Final = 50_000
"""Decimal texts remembered per market, to parse each once."""

Shape = dict[str, str]
"""Field to kind. A kind is a letter of ``KINDS``, or the words that may stand there; ``?`` before it allows null."""


# ----------------------------------------------------------------------------------------------- the document's tables


class Refusal(NamedTuple):
    """A row of the table of the engine's refusals."""

    code: int
    reason: str
    field: str
    bound: str
    of: str


class Method(NamedTuple):
    """A row of the table of methods, with the parameters of its section."""

    name: str
    permissions: frozenset[str]
    budget: str
    result: str
    is_list: bool
    params: frozenset[str]


def _words(title: str, until: str) -> frozenset[str]:
    """The first column of the table under a sentence."""
    table = PROTOCOL.read_text(encoding="utf-8").split(title)[1].split(until)[0]
    return frozenset(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) - {"reason", "cause"}


def _read() -> tuple[dict[int, Refusal], dict[str, Method], frozenset[int], frozenset[str]]:
    text = PROTOCOL.read_text(encoding="utf-8")
    refusals = {
        int(code): Refusal(int(code), name.lower(), field, bound, of)
        for code, name, field, bound, of in re.findall(
            r"^\| (1\d{3}) \| `(\w+)` \| `(\w+)` \| (\S+) \| .* \| ([^|]+) \|$", text, re.MULTILINE
        )
    }
    params: dict[str, frozenset[str]] = {}
    for section in re.split(r"^#{2,4} ", text, flags=re.MULTILINE):
        named = re.match(r"`([\w.]+)`\n", section)
        table = re.search(r"^\| Parameter .*\n\|[-| ]+\n((?:\|.*\n)+)", section, re.MULTILINE)
        if named:
            params[named[1]] = frozenset(re.findall(r"^\| `(\w+)`", table[1], re.MULTILINE)) if table else frozenset()
    methods = {
        name: Method(name, frozenset(who.split(", ")), budget, result, bool(many), params.get(name, frozenset()))
        for name, who, budget, many, result in re.findall(
            r"^\| \[`([\w.]+)`\]\(#\w+\) \| ([^|]+) \| (\w+) \| (list of )?`(\w+)` \|$", text, re.MULTILINE
        )
    }
    closes = text.split("## Close codes")[1].split("\n## ")[0]
    codes = frozenset(int(code) for code in re.findall(r"^\| (\d{4}) \|", closes, re.MULTILINE))
    reasons = text.split("Reasons of `canceled`:")[1].split("\nReasons of ")[0]
    return refusals, methods, codes, frozenset(re.findall(r"^\| `(\w+)` \| [^|]", reasons, re.MULTILINE)) - {"reason"}


REFUSALS, METHODS, CLOSE_CODES, CANCEL_REASONS = _read()
END_REASONS: Final = _words("Reasons of `bid_ended` and `ask_ended`:", "\nCauses of ")
FLOW_CAUSES: Final = _words("Causes of `flow_changed`", "\n### ")

TRANSFERS: Final = frozenset({"withdraw", "deposit"})
BIDS: Final = frozenset({"live.place_bid", "live.amend_bid"})
ASKS: Final = frozenset({"live.place_ask", "live.amend_ask"})
PLACES: Final = frozenset({"place", "live.place_bid", "live.place_ask"})
OF_LIVE: Final = BIDS | ASKS | {"live.refill", "pool.save", "pool.delete"}
OF_ACCOUNTS: Final = (
    frozenset({"place", "amend", "cancel", "cancel_all", "set_destination", "account_cancel_all"}) | TRANSFERS | OF_LIVE
)
OF_OPERATOR: Final = frozenset({"create_account", "list_market", "list_live_market", "set_index", "set_market_state", "settle"})
COMMANDS: Final = OF_ACCOUNTS | OF_OPERATOR | {"report_work", "report_flow"}
OTHER_KIND: Final = frozenset({"place", "set_destination", "settle", "live.place_bid", "live.place_ask", "set_index"})
READS_MARKET: Final = frozenset({"book", "trades", "live.book", "live.estimate"})
NAMES_MARKET: Final = frozenset({"amend", "cancel", "cancel_all", "account_cancel_all", "set_market_state"}) | OTHER_KIND
GROUPS: Final = {
    "transfers": TRANSFERS,
    "every command": COMMANDS,
    "every command of an account": OF_ACCOUNTS,
    "every command that names a market": NAMES_MARKET,
    "place of an order that may rest": frozenset({"place"}),
    "bids": BIDS,
    "asks": ASKS,
    "refills": frozenset({"live.refill"}),
    "commands for the other kind of market": OTHER_KIND | READS_MARKET,
    "and where a `pool_id` is named": BIDS,
}


def _methods_of(of: str) -> frozenset[str]:
    names: set[str] = set()
    for word in of.split(", "):
        names |= GROUPS.get(word, {word})
    return frozenset(names)


REFUSED_METHODS: Final = {code: _methods_of(row.of) for code, row in REFUSALS.items()}

DENIALS: Final[dict[int, tuple[frozenset[str], frozenset[str]]]] = {
    # code: reasons, fields of `data` that must be there
    -32700: (frozenset({"parse"}), frozenset()),
    -32600: (frozenset({"invalid_request", "logged_in"}), frozenset()),
    -32601: (frozenset({"method_unknown"}), frozenset()),
    -32602: (frozenset({"invalid_params", "client_order_id_used"}), frozenset({"field"})),
    -32603: (frozenset({"key_files"}), frozenset()),
    -32001: (frozenset({"login_required"}), frozenset()),
    -32002: (frozenset({"permission"}), frozenset()),
    -32003: (frozenset({"rate_limited"}), frozenset({"retry_after_ms"})),
    -32004: (
        frozenset({"login_failed", "timestamp_outside_window", "ip_not_allowed", "account_unknown"}),
        frozenset({"challenge"}),
    ),
    -32005: (frozenset({"channel_unknown", "not_subscribed"}), frozenset({"field"})),
    -32006: (frozenset({"subscriptions_full"}), frozenset({"field"})),
    -32007: (frozenset({"too_old"}), frozenset({"field"})),
    -32008: (frozenset({"shutting_down"}), frozenset()),
    -32009: (frozenset({"overloaded"}), frozenset({"retry_after_ms"})),
    -32010: (frozenset({"not_found", "market_settled"}), frozenset()),
}
ERROR_DATA: Final = frozenset({"reason", "field", "bound", "challenge", "retry_after_ms", "repeat", "order"})
NOT_REMEMBERED: Final = frozenset({1001, 1005, 1007})
"""Refusals of the engine that leave a client order id free, always."""
MARKET_UNKNOWN: Final = 1101
RATE_LIMITED: Final = -32003
TOO_OLD: Final = -32007
OVERLOADED: Final = -32009
SHUTTING_DOWN: Final = -32008
DEADLINE_PASSED: Final = 1006
ORDER_UNKNOWN: Final = 1301
POOL_UNKNOWN: Final = 1306
FUNDS_INSUFFICIENT: Final = 1405
BUDGET_NOT_COVERED: Final = 1409
BALANCE_INSUFFICIENT: Final = 1503


# -------------------------------------------------------------------------------------------------------------- numbers

DECIMAL: Final = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
DIGITS: Final = re.compile(r"0|[1-9][0-9]*")
MONEY: Final = re.compile(r"(?:0|[1-9][0-9]*)\.[0-9]{11}")
HEX64: Final = re.compile(r"[0-9a-f]{64}")


def msat(text: Any) -> int | None:
    """Money as the server writes it, eleven decimals and perhaps a minus sign. None for anything else."""
    if type(text) is not str:
        return None
    body = text[1:] if text[:1] == "-" else text
    if MONEY.fullmatch(body) is None:
        return None
    value = int(body[:-12] + body[-11:])
    return -value if body is not text else value


class Step:
    """Texts of one tick or lot size, as whole steps."""

    def __init__(self, size: str) -> None:
        whole, _, fraction = size.partition(".")
        self.decimals = len(fraction)
        self.unit = int(whole + fraction)
        point = rf"\.[0-9]{{{self.decimals}}}" if self.decimals else ""
        self._format = re.compile(rf"(?:0|[1-9][0-9]*){point}")
        self._known: dict[str, int] = {}

    def parse(self, text: Any) -> int | None:
        """Whole steps of a text with all decimals of the step; None if it is not one."""
        if type(text) is not str:
            return None
        known = self._known.get(text)
        if known is not None:
            return known
        if self._format.fullmatch(text) is None:
            return None
        steps, rest = divmod(int(text.replace(".", "")), self.unit)
        if rest:
            return None
        if len(self._known) < TEXTS_MAX:
            self._known[text] = steps
        return steps

    def signed(self, text: Any) -> int | None:
        """As ``parse``, with a minus sign allowed."""
        if type(text) is str and text[:1] == "-":
            steps = self.parse(text[1:])
            return None if steps is None else -steps
        return self.parse(text)

    def loose(self, text: Any) -> int | None:
        """Whole steps of a text that a client sent: fewer decimals and leading zeros are allowed."""
        if type(text) is not str or re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text) is None:
            return None
        whole, _, fraction = text.partition(".")
        if len(fraction) > self.decimals or len(whole) + len(fraction) > 24:
            return None
        steps, rest = divmod(int(whole + fraction.ljust(self.decimals, "0")), self.unit)
        return None if rest else steps


class Terms:
    """A market's terms out of a ``MarketInfo``, in ticks, lots and msat."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.info = dict(info)
        self.market: str = info["market"]
        self.tick, self.lot = Step(info["tick_size"]), Step(info["lot_size"])
        scale = MSAT_DECIMALS - self.tick.decimals - self.lot.decimals
        product = self.tick.unit * self.lot.unit
        self.tick_lot_msat: int = product * 10**scale if scale >= 0 else product // 10**-scale
        self.seconds: int = (info["period_end_us"] - info["period_start_us"]) // 1_000_000
        self.gate_us: int = info["gate_us"]
        self.period_end_us: int = info["period_end_us"]
        self.settle_us: int = info["settle_us"]
        self.maker_fee_bps: int = info["maker_fee_bps"]
        self.taker_fee_bps: int = info["taker_fee_bps"]
        self.bond_bps: int = info["bond_bps"]
        self.band_bps: int = info["band_bps"]
        self.tolerance_bps: int = info["tolerance_bps"]
        self.penalty_bps: int = info["penalty_bps"]
        self.price_min = self.tick.parse(info["price_min"]) or 0
        self.price_max = self.tick.parse(info["price_max"]) or 0
        self.qty_max = self.lot.parse(info["qty_max"]) or 0
        self.reference = self.tick.parse(info["reference_price"]) or 0

    @staticmethod
    def are_usable(info: Mapping[str, Any]) -> bool:
        """Whether steps and times make sense."""
        sizes = (info["tick_size"], info["lot_size"])
        steps = all(type(size) is str and DECIMAL.fullmatch(size) is not None and Step(size).unit for size in sizes)
        times = info["gate_us"] <= info["period_start_us"] < info["period_end_us"] <= info["settle_us"]
        return steps and times

    # Clearing, as its section in the document has it.

    def notional_floor(self, price: int, qty: int) -> int:
        """What a seller earns."""
        return price * qty * self.tick_lot_msat * self.seconds // 86_400

    def notional_ceil(self, price: int, qty: int) -> int:
        """What a buyer pays."""
        return -(-price * qty * self.tick_lot_msat * self.seconds // 86_400)

    def unit_hold(self, price: int, side: str, reduce_only: bool) -> int:
        """What one open lot holds."""
        lot = self.notional_ceil(price, 1)
        fee = bps_ceil(lot, max(self.maker_fee_bps, self.taker_fee_bps))
        if side == "buy":
            return lot + fee
        return 0 if reduce_only else bps_ceil(lot, self.bond_bps) + fee


def bps_ceil(amount: int, bps: int) -> int:
    """Basis points of an amount, rounded up."""
    return -(-amount * bps // 10_000)


# --------------------------------------------------------------------------------------------------------------- shapes


def _int(value: Any, terms: Terms | None) -> bool:
    return type(value) is int and 0 <= value < INT_MAX


def _any_int(value: Any, terms: Terms | None) -> bool:
    return type(value) is int and -INT_MAX < value < INT_MAX


def _text(value: Any, terms: Terms | None) -> bool:
    return type(value) is str


def _bool(value: Any, terms: Terms | None) -> bool:
    return value is True or value is False


def _money(value: Any, terms: Terms | None) -> bool:
    return type(value) is str and MONEY.fullmatch(value) is not None


def _signed_money(value: Any, terms: Terms | None) -> bool:
    return msat(value) is not None


def _price(value: Any, terms: Terms | None) -> bool:
    if terms is None:
        return type(value) is str and DECIMAL.fullmatch(value) is not None
    return terms.tick.parse(value) is not None


def _signed_price(value: Any, terms: Terms | None) -> bool:
    return _price(value[1:] if type(value) is str and value[:1] == "-" else value, terms)


def _qty(value: Any, terms: Terms | None) -> bool:
    if terms is None:
        return type(value) is str and DECIMAL.fullmatch(value) is not None
    return terms.lot.parse(value) is not None


def _signed_qty(value: Any, terms: Terms | None) -> bool:
    return _qty(value[1:] if type(value) is str and value[:1] == "-" else value, terms)


def _digits(value: Any, terms: Terms | None) -> bool:
    return type(value) is str and DIGITS.fullmatch(value) is not None


def _list(value: Any, terms: Terms | None) -> bool:
    return type(value) is list


def _dict(value: Any, terms: Terms | None) -> bool:
    return type(value) is dict


def _hex64(value: Any, terms: Terms | None) -> bool:
    return type(value) is str and HEX64.fullmatch(value) is not None


KINDS: Final[dict[str, Callable[[Any, Terms | None], bool]]] = {
    "i": _int,
    "j": _any_int,
    "s": _text,
    "b": _bool,
    "m": _money,
    "M": _signed_money,
    "p": _price,
    "P": _signed_price,
    "q": _qty,
    "Q": _signed_qty,
    "d": _digits,
    "l": _list,
    "o": _dict,
    "h": _hex64,
}
NUMBERS: Final = frozenset("imMpPqQdj")
"""Kinds whose breach is one of the promise about numbers."""


def _order(extra: str) -> Shape:
    head = "order_id:i client_order_id:s market:s " + extra
    return _shape(head)


def _shape(text: str) -> Shape:
    return dict(item.split(":") for item in text.split())


SIDE: Final = "buy|sell"
TERMS_OF_ORDER: Final = (
    "time_in_force:gtc|ioc|fok|gtd post_only:off|reject|slide reduce_only:b "
    "self_trade_prevention:none|cancel_maker|cancel_taker|cancel_both|decrement expires_us:i ts_us:i"
)
FILL: Final = (
    f"trade_id:i order_id:i client_order_id:s market:s side:{SIDE} price:p qty:q remaining_qty:q fee:m realized:M "
    "liquidity:maker|taker ts_us:i"
)
DELIVERY: Final = "delivery_id:i market:s "
PERIOD: Final = "period_start_us:i period_end_us:i url:s worker:s"
ORDER_VIEW: Final = (
    f"order_id:i client_order_id:s market:s side:{SIDE} type:limit|market status:open|filled|canceled|expired "
    f"price:p qty:q filled_qty:q remaining_qty:q {TERMS_OF_ORDER}"
)

MARKET_INFO: Final = _shape(
    "market:s kind:dated algorithm:s state:open|cancel_only|halted|closed speed_unit:s tick_size:s lot_size:s price_min:p "
    "price_max:p qty_max:q maker_fee_bps:i taker_fee_bps:i bond_bps:i band_bps:i tolerance_bps:i penalty_bps:i "
    "reference_price:p gate_us:i period_start_us:i period_end_us:i settle_us:i"
)
"""Of the dated markets that the simulation has."""

LIVE_MARKET_INFO: Final = _shape(
    "market:s kind:live algorithm:s state:open|cancel_only|halted|closed speed_unit:s tick_size:s lot_size:s price_min:p "
    "price_max:p speed_min:q speed_max:q budget_min:m pricing:pay_as_bid|uniform buyer_fee_bps:i seller_fee_bps:i "
    "placing_fee:m decrease_interval_s:i decrease_step:?p lock_ms:i life_s:i slack_s:i grace_s:i idle_s:i"
)
LIVE_HEAD: Final = "order_id:i client_order_id:s market:s "
POOL: Final = "pool_id:i name:s algorithm:s url:s worker:s password:s"
PEGGED: Final = "url:s worker:s peg:none|top|marginal|index offset:P floor:?p expires_us:i ts_us:i"
ENDED_BID: Final = "spent:m returned:m"

RESULTS: Final[dict[str, Shape]] = {
    "LiveMarketInfo": LIVE_MARKET_INFO,
    "IndexResult": _shape("market:s price:?p"),
    "BidResult": _shape(LIVE_HEAD + "status:open|stopped|ended price:p cap:p limit:?q assigned:q ts_us:i repeat:b"),
    "AskResult": _shape(LIVE_HEAD + "status:open|ended price:p speed:q assigned:q ts_us:i repeat:b"),
    "RefillResult": _shape(LIVE_HEAD + "refill_id:s amount:m left:m balance:m held:m repeat:b"),
    "LiveOrdersResult": _shape("bids:l asks:l"),
    "BidView": _shape(LIVE_HEAD + f"status:open|stopped price:p cap:p limit:?q assigned:q budget:m spent:m left:m {PEGGED}"),
    "AskView": _shape(LIVE_HEAD + "price:p speed:q assigned:q expires_us:i ts_us:i"),
    "FlowView": _shape(
        "flow_id:i market:s role:seller|buyer|meter state:running|closing order_id:i price:p speed:q hashrate:d hashes:d "
        "paid_hashes:d cost:m fee:m url:s worker:s started_us:i ended_us:i"
    ),
    "FlowResult": _shape("flow_id:i market:s hashes:d paid_hashes:d cost:m final:b"),
    "FlowStartView": _shape("flow_id:i price:p speed:q ts_us:i"),
    "LiveBookView": _shape("state:open|cancel_only|halted|closed|settled assigned:q marginal:?p bids:l asks:l checksum:i"),
    "EstimateResult": _shape("market:s price:p limit:?q assigned:q cost_per_day:m lasts_s:?i marginal:?p full_price:?p"),
    "PoolView": _shape(POOL),
    "PoolResult": _shape("pool_id:i"),
    "CancelBidResult": _shape(LIVE_HEAD + f"canceled_qty:q filled_qty:q {ENDED_BID}"),
    "TimeResult": _shape("ts_us:i"),
    "InfoResult": _shape(
        "server:hashpit version:s epoch:s ts_us:i heartbeat_ms:i idle_ms:i frame_bytes_max:i batch_max:i "
        "subscriptions_max:i rates:o"
    ),
    "MarketInfo": MARKET_INFO,
    "AnyMarketInfo": MARKET_INFO,
    "BookView": _shape("bids:l asks:l checksum:i"),
    "TradeView": _shape(f"trade_id:i price:p qty:q aggressor_side:{SIDE} ts_us:i"),
    "Heartbeat": _shape("ts_us:i channels:o"),
    "LoginResult": _shape("account:i key:s permissions:l"),
    "LogoutResult": _shape("account:i challenge:h"),
    "ChannelsResult": _shape("channels:l"),
    "ResumeResult": _shape("account_seq:i"),
    "OrderResult": _shape(
        "order_id:i client_order_id:s market:s status:open|filled|canceled price:p qty:q filled_qty:q remaining_qty:q ts_us:i "
        "repeat:b fills:l"
    ),
    "CancelResult": _shape("order_id:i client_order_id:s market:s canceled_qty:q filled_qty:q"),
    "CancelAllResult": _shape("canceled:l"),
    "OrderView": _shape(ORDER_VIEW),
    "FillView": _shape(FILL),
    "BalanceView": _shape("account:i name:s balance:m held:m available:m positions:m"),
    "PositionView": _shape("market:s qty:Q basis:m bond:m realized:M"),
    "DeliveryView": _shape(
        DELIVERY + "role:seller|buyer|meter state:scheduled|running qty:q hashrate:d contracted_hashes:d proven_hashes:d "
        f"excused_hashes:d shares:i {PERIOD}"
    ),
    "DestinationResult": _shape("market:s url:s worker:s"),
    "TransferResult": _shape("account:i transfer_id:s amount:M balance:m held:m repeat:b"),
    "WorkResult": _shape(DELIVERY + "state:scheduled|running|settled proven_hashes:d excused_hashes:d shares:i"),
    "AccountResult": _shape("account:i name:s"),
    "MarketStateResult": _shape("market:s state:open|cancel_only|halted|closed"),
    "SettleResult": _shape("market:s deliveries:l"),
    "KeyView": _shape("key:s account:i kind:ed25519|hmac permissions:l ip_list:l label:s public_key:s created_us:i"),
    "AddKeyResult": _shape("key:o secret:s"),
    "RevokeKeyResult": _shape("key:s"),
}

MONEY_AFTER: Final = " balance:m held:m"
EVENTS: Final[dict[str, Shape]] = {
    "accepted": _shape(
        f"event:accepted order_id:i client_order_id:s market:s side:{SIDE} type:limit|market price:p qty:q filled_qty:q "
        f"resting_qty:q {TERMS_OF_ORDER}{MONEY_AFTER}"
    ),
    "fill": _shape(f"event:fill {FILL} position:Q{MONEY_AFTER}"),
    "canceled": _shape(
        f"event:canceled order_id:i client_order_id:s market:s side:{SIDE} price:p qty:q filled_qty:q "
        f"reason:{'|'.join(sorted(CANCEL_REASONS))}{MONEY_AFTER}"
    ),
    "reduced": _shape(
        f"event:reduced order_id:i client_order_id:s market:s side:{SIDE} price:p qty:q remaining_qty:q "
        f"reason:self_trade|reduce_only{MONEY_AFTER}"
    ),
    "amended": _shape(
        f"event:amended order_id:i client_order_id:s market:s side:{SIDE} old_price:p price:p qty:q filled_qty:q resting_qty:q "
        f"kept_priority:b{MONEY_AFTER}"
    ),
    "rejected": _shape("event:rejected code:i message:s reason:s field:s bound:?s order_id:i client_order_id:s market:s"),
    "balance": _shape(f"event:balance amount:M reason:deposit|withdraw transfer_id:s{MONEY_AFTER}"),
    "destination": _shape("event:destination market:s url:s worker:s"),
    "delivery_assigned": _shape(
        f"event:delivery_assigned {DELIVERY} role:seller|buyer qty:q hashrate:d contracted_hashes:d {PERIOD}"
    ),
    "delivery_updated": _shape(
        f"event:delivery_updated {DELIVERY} role:seller|buyer state:scheduled|running proven_hashes:d excused_hashes:d "
        "shares:i url:s worker:s"
    ),
    "delivery_settled": _shape(
        f"event:delivery_settled {DELIVERY} role:seller|buyer contracted_hashes:d delivered_hashes:d breach:b paid:m refund:m "
        f"compensation:m bond_released:m uncovered:m{MONEY_AFTER}"
    ),
    "bid_placed": _shape(f"event:bid_placed {LIVE_HEAD}price:p cap:p limit:?q budget:m {PEGGED} placing_fee:m{MONEY_AFTER}"),
    "bid_amended": _shape(
        f"event:bid_amended {LIVE_HEAD}old_price:p price:p cap:p limit:?q url:s worker:s cause:bid_amended|bid_repriced"
    ),
    "bid_stopped": _shape(f"event:bid_stopped {LIVE_HEAD}left:m"),
    "bid_resumed": _shape(f"event:bid_resumed {LIVE_HEAD}price:p left:m"),
    "bid_refilled": _shape(f"event:bid_refilled {LIVE_HEAD}refill_id:s amount:m left:m{MONEY_AFTER}"),
    "bid_ended": _shape(f"event:bid_ended {LIVE_HEAD}reason:{'|'.join(sorted(END_REASONS))} budget:m {ENDED_BID}{MONEY_AFTER}"),
    "ask_placed": _shape(f"event:ask_placed {LIVE_HEAD}price:p speed:q expires_us:i ts_us:i{MONEY_AFTER}"),
    "ask_amended": _shape(f"event:ask_amended {LIVE_HEAD}old_price:p price:p old_speed:q speed:q"),
    "ask_ended": _shape(f"event:ask_ended {LIVE_HEAD}reason:{'|'.join(sorted(END_REASONS))}"),
    "flow_changed": _shape(
        "event:flow_changed flow_id:i market:s role:seller|buyer change:started|resized|ended|redirected order_id:i "
        f"old_speed:q speed:q price:p cause:{'|'.join(sorted(FLOW_CAUSES))} url:s worker:s ts_us:i"
    ),
    "flow_paid": _shape(
        "event:flow_paid flow_id:i market:s role:seller|buyer order_id:i hashes:d paid_hashes:d cost:m fee:m "
        f"final:b{MONEY_AFTER}"
    ),
    "pool_saved": _shape(f"event:pool_saved {POOL}"),
    "pool_deleted": _shape("event:pool_deleted pool_id:i"),
}
ASSIGNED_ROLE: Final = {"seller": _shape("proceeds:m bond:m"), "buyer": _shape("cost:m")}

STATUS_EVENTS: Final[dict[str, Shape]] = {
    "market_listed": _shape("event:market_listed market:s terms:o"),
    "market_state": _shape("event:market_state market:s state:open|cancel_only|halted|closed|settled"),
    "server": _shape("event:server state:open|stopping"),
}
LIVE_TICKER: Final = _shape(
    "kind:live market:s bid:?p ask:?p marginal:?p assigned:q offered:q paying_price:?p paying_price_day:?p index_price:?p"
)
TICKER: Final = _shape("kind:dated market:s bid:?p bid_qty:?q ask:?p ask_qty:?q last:?p volume:q high:?p low:?p trades:i")
HELLO: Final = _shape(
    "server:hashpit version:s epoch:s connection:s challenge:h ts_us:i frame_bytes_max:i heartbeat_ms:i idle_ms:i"
)
SUBSCRIPTION: Final = _shape("channel:s type:snapshot|delta|event seq:i prev_seq:i ts_us:i data:any")
ACCOUNT_SNAPSHOT: Final = _shape("balance:o positions:l orders:l deliveries:l bids:l asks:l flows:l pools:l")


class Checker:
    """A shape made ready: says what is wrong with a record, or nothing."""

    def __init__(self, shape: Shape) -> None:
        self.names = frozenset(shape)
        self.fields: list[tuple[str, str, Callable[[Any, Terms | None], bool]]] = []
        for name, kind in shape.items():
            if kind == "any":
                continue
            nullable = kind.startswith("?")
            kind = kind.removeprefix("?")
            test = KINDS[kind] if kind in KINDS else _one_of(kind)
            self.fields.append((name, kind, _or_null(test) if nullable else test))

    def wrong(self, record: Any, terms: Terms | None) -> tuple[str, str] | None:
        """``("number" or "shape", what)`` for the first thing that is not as documented."""
        if type(record) is not dict:
            return "shape", f"an object, came {record!r:.80}"
        if record.keys() != self.names:
            missing, more = sorted(self.names - record.keys()), sorted(map(str, record.keys() - self.names))
            return "shape", f"the documented fields, missing {missing}, undocumented {more}"
        for name, kind, test in self.fields:
            if not test(record[name], terms):
                return ("number" if kind in NUMBERS else "shape"), f"{name} as documented, came {record[name]!r:.80}"
        return None


def _one_of(words: str) -> Callable[[Any, Terms | None], bool]:
    allowed = frozenset(words.split("|"))
    return lambda value, terms: type(value) is str and value in allowed


def _or_null(test: Callable[[Any, Terms | None], bool]) -> Callable[[Any, Terms | None], bool]:
    return lambda value, terms: value is None or test(value, terms)


CHECK_RESULTS: Final = {name: Checker(shape) for name, shape in RESULTS.items()}
CHECK_EVENTS: Final = {name: Checker(shape) for name, shape in EVENTS.items()}
CHECK_ASSIGNED: Final = {role: Checker({**EVENTS["delivery_assigned"], **more}) for role, more in ASSIGNED_ROLE.items()}
CHECK_STATUS: Final = {name: Checker(shape) for name, shape in STATUS_EVENTS.items()}
CHECK_TICKER: Final = Checker(TICKER)
CHECK_LIVE_TICKER: Final = Checker(LIVE_TICKER)
CHECK_BOUGHT: Final = Checker({**EVENTS["flow_paid"], **_shape("released:m")})
"""``flow_paid`` of a buyer."""
CHECK_HELLO: Final = Checker(HELLO)
CHECK_SUBSCRIPTION: Final = Checker(SUBSCRIPTION)
CHECK_ACCOUNT_SNAPSHOT: Final = Checker(ACCOUNT_SNAPSHOT)
