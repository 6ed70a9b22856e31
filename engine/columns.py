"""Orders as columns of numbers, and back: what a snapshot does once per order.

Orders come in blocks of up to BLOCK rows. A column of a block is its one value, where all rows have the same, or else all
values in 1, 2, 4 or 8 bytes each, whatever the largest needs (unsigned, little end first). So most columns take no room, and
equal orders give equal bytes.
"""

from struct import pack, unpack
from typing import Final, TypeAlias

from engine.accounts import Account, Listing, Order, answer_of
from engine.members import ORDER_OPEN
from engine.types import OrderStatus, OrderType, PostOnly, SelfTradePrevention, TimeInForce

BLOCK: Final = 4_096
"""Rows of a block: few enough that a block being read stays in the processor's cache."""
COLUMNS: Final = 19
"""Columns of a block of orders."""
ANSWER_COLUMNS: Final = 7
"""Columns of a block of answers."""

Column: TypeAlias = int | bytes
Remembered: TypeAlias = Order | tuple[int, int, str]

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}

# By value.
_ORDER_TYPES: Final = [OrderType.LIMIT, *OrderType]
_TIMES_IN_FORCE: Final = [TimeInForce.GTC, *TimeInForce]
_POST_ONLY: Final = list(PostOnly)
_PREVENTIONS: Final = list(SelfTradePrevention)
_STATUSES: Final = [OrderStatus.OPEN, *OrderStatus]
_OPEN: Final = 1


def encode(values: list[int]) -> Column:
    """One column. O(values)."""
    least = min(values)
    most = max(values)
    if least == most:
        return int(most)
    code = "B" if most < 2**8 else "H" if most < 2**16 else "I" if most < 2**32 else "Q"
    return pack(f"<{len(values)}{code}", *values)


def decode(column: Column, rows: int) -> tuple[int, ...]:
    """The values of a column of so many rows. Raises ValueError when it has another number of them."""
    if isinstance(column, int):
        return (column,) * rows
    code = _CODES.get(len(column) // rows)
    if code is None or len(column) % rows:
        raise ValueError(f"a column of {rows} rows has {len(column)} bytes")
    values: tuple[int, ...] = unpack(f"<{rows}{code}", column)
    return values


def known_orders(account: Account) -> list[Order]:
    """The account's open orders, and the closed ones that are remembered, in order of their ids."""
    orders = list(account.orders.values())
    for outcome in account.outcomes.values():
        if isinstance(outcome, Order) and outcome.status is not ORDER_OPEN:
            orders.append(outcome)
    orders.sort(key=_order_id)
    return orders


def _order_id(order: Order) -> int:
    return order.order_id


def encode_orders(
    orders: list[Order],
    queued: dict[int, int],
    places: dict[int, int],
    account_rows: dict[int, int],
    market_rows: dict[str, int],
) -> list[Column]:
    """A block's columns. By order id, ``queued`` has the places from 1 in the books, ``places`` those among the remembered."""
    return [
        encode([order.order_id for order in orders]),
        encode([account_rows[order.account.account_id] for order in orders]),
        encode([market_rows[order.market] for order in orders]),
        encode([1 if order.is_buy else 0 for order in orders]),
        encode([order.order_type for order in orders]),
        encode([order.price for order in orders]),
        encode([order.qty for order in orders]),
        encode([order.filled for order in orders]),
        encode([order.time_in_force for order in orders]),
        encode([order.post_only for order in orders]),
        encode([1 if order.reduce_only else 0 for order in orders]),
        encode([order.self_trade_prevention for order in orders]),
        encode([order.expires_ns for order in orders]),
        encode([order.ts_ns for order in orders]),
        encode([order.account_seq for order in orders]),
        encode([order.unit_hold for order in orders]),
        encode([order.status for order in orders]),
        encode([queued.get(order.order_id, 0) for order in orders]),
        encode([places.get(order.order_id, 0) for order in orders]),
    ]


def decode_orders(
    columns: list[Column],
    keys: list[str],
    accounts: list[Account],
    listings: list[Listing],
    queue: list[Order | None],
    remembered: list[Remembered | None],
    special: list[Order],
) -> list[Order]:
    """A block's orders: known to their accounts, put at their places in ``queue`` and ``remembered``, and those that expire or
    are reduce-only in ``special``."""
    rows = len(keys)
    (
        order_ids,
        account_rows,
        market_rows,
        buys,
        order_types,
        prices,
        quantities,
        fills,
        lifetimes,
        post_onlys,
        reduce_onlys,
        preventions,
        expiries,
        times,
        account_seqs,
        unit_holds,
        statuses,
        queued,
        places,
    ) = [decode(column, rows) for column in columns]
    orders: list[Order] = []
    for row in range(rows):
        account = accounts[account_rows[row]]
        key = keys[row]
        qty = quantities[row]
        order = Order(
            order_ids[row],
            account,
            listings[market_rows[row]],
            buys[row] != 0,
            _ORDER_TYPES[order_types[row]],
            prices[row],
            qty,
            _TIMES_IN_FORCE[lifetimes[row]],
            _POST_ONLY[post_onlys[row]],
            reduce_onlys[row] != 0,
            _PREVENTIONS[preventions[row]],
            expiries[row],
            key,
            times[row],
            account_seqs[row],
            unit_holds[row],
        )
        filled = fills[row]
        if filled:
            order.filled = filled
            order.remaining = qty - filled
        status = statuses[row]
        if status == _OPEN:
            account.orders[order.id_object] = order
            queue[queued[row] - 1] = order
            if order.expires_ns or order.reduce_only:
                special.append(order)
        else:
            order.status = _STATUSES[status]
            order.remaining = 0
        if key:
            account.outcomes[key] = order
            place = places[row]
            if place:
                remembered[place - 1] = order
            else:
                order.forget = True
        orders.append(order)
    return orders


def encode_answers(rows: list[int], orders: list[Order]) -> list[Column]:
    """Columns of the answers that were kept: each order's row, and what its answer says that the order does not."""
    answers = [order.answer for order in orders if order.answer is not None]
    return [
        encode(rows),
        encode([answer.price for answer in answers]),
        encode([answer.qty for answer in answers]),
        encode([answer.filled_qty for answer in answers]),
        encode([answer.resting_qty for answer in answers]),
        encode([answer.balance for answer in answers]),
        encode([answer.held for answer in answers]),
    ]


def decode_answers(columns: list[Column], count: int, orders: list[Order]) -> None:
    """Give ``count`` of the orders their answers back."""
    rows, prices, quantities, fills, rests, balances, helds = [decode(column, count) for column in columns]
    for at in range(count):
        order = orders[rows[at]]
        order.answer = answer_of(order, prices[at], quantities[at], fills[at], rests[at], balances[at], helds[at])
