"""Every bound of the engine, by name. A command past a bound is refused with a code that names it.

Suffixes give the unit: ``_ns`` nanoseconds, ``_msat`` millisatoshi, ``_bps`` basis points (1/10,000), ``_chars`` characters.
Tests shrink these through ``Limits(...)`` so that corners are common.
"""

from typing import Final

from msgspec import Struct

SECOND_NS: Final = 1_000_000_000
DAY_SECONDS: Final = 86_400
DAY_NS: Final = DAY_SECONDS * SECOND_NS

MONEY_MAX_MSAT: Final = 2**61 - 1
"""No balance, notional or sum of deposits is ever larger than this: 23 million BTC, more than there will ever be, and less than
what compiled code handles in one machine word."""

BPS: Final = 10_000
"""Basis points in one whole."""


class Limits(Struct, frozen=True):
    """The engine's bounds. They are part of the state: a journal replays under the limits it was recorded with."""

    accounts_max: int = 1_000_000
    orders_per_account_max: int = 10_000
    """Open orders of one account, over all markets."""
    orders_max: int = 4_000_000
    """Open orders of the whole engine."""
    markets_max: int = 4_096
    """Listed markets that are not settled yet."""
    price_max_ticks: int = 2**40
    qty_max_lots: int = 2**40
    client_order_ids_per_account_max: int = 1_048_576
    """Client order ids one account may have remembered at a time; past it new ids are refused, none is forgotten early."""
    client_order_id_ns: int = DAY_NS
    """How long a client order id is remembered, in engine time; never shorter than its order lives."""
    expiry_max_ns: int = 400 * DAY_NS
    """How far ahead a GTD order may expire."""
    destinations_per_account_max: int = 4_096
    live_orders_per_account_max: int = 1_000
    """Open bids and asks of one account in live markets."""
    live_orders_max: int = 200_000
    """Open bids and asks of all live markets."""
    pegs_max: int = 256
    """Pegged bids of one live market: each is repriced whenever what it follows moves."""
    flows_max: int = 1_000_000
    """Flows of all live markets, those included whose last work is not reported yet. Past it bids and asks are refused."""
    flows_per_account_max: int = 10_000
    """Flows that one account buys, those included whose last work is not reported yet. Past it its bids are refused, so that
    nobody fills the exchange with flows that last for an instant."""
    pools_per_account_max: int = 100


CLIENT_ORDER_ID_CHARS_MAX: Final = 36
NAME_CHARS_MAX: Final = 64
SYMBOL_CHARS_MAX: Final = 48
URL_CHARS_MAX: Final = 256
WORKER_CHARS_MAX: Final = 128
WORK_MAX_HASHES: Final = 2**120
"""Largest cumulative work of one delivery."""
SHARES_MAX: Final = 2**63 - 1
"""Largest number of shares of one delivery."""
FEE_MAX_BPS: Final = 1_000
"""No fee is above 10 %."""
