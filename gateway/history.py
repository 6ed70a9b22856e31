"""Recent past of every account: closed orders and fills, and who has part in which delivery. A projection of durable events.

The engine forgets an order that is closed and carries no client order id; this remembers the last few of each account, in
memory and bounded. What it holds begins with the process, plus what the engine still remembered then.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal

from engine.accounts import Order, first_answer
from engine.core import Engine
from engine.events import (
    Accepted,
    Amended,
    Canceled,
    DeliveryAssigned,
    DeliverySettled,
    Event,
    Reduced,
    Trade,
)
from engine.types import CancelReason, OrderStatus
from gateway.records import ClosedOrder

CLOSED_ORDERS_MAX: Final = 1_000
"""Closed orders that are remembered per account."""
FILLS_MAX: Final = 1_000
"""Fills that are remembered per account."""
ACCOUNTS_MAX: Final = 10_000
"""Accounts whose past is remembered; past it that of the account that was quiet longest is forgotten."""

Liquidity = Literal["maker", "taker"]


class AccountHistory:
    """One account's recent past, oldest first."""

    __slots__ = ("_closed_max", "closed", "closed_by_id", "fills")

    def __init__(self, closed_max: int) -> None:
        self._closed_max = closed_max
        self.closed: deque[ClosedOrder] = deque()
        self.closed_by_id: dict[int, ClosedOrder] = {}
        self.fills: deque[tuple[Trade, Liquidity]] = deque(maxlen=FILLS_MAX)

    def close(self, order: ClosedOrder) -> None:
        self.closed.append(order)
        self.closed_by_id[order.accepted.order_id] = order
        if len(self.closed) > self._closed_max:
            del self.closed_by_id[self.closed.popleft().accepted.order_id]


class History:
    """The recent past of all accounts. :meth:`publish` takes every durable entry, in order."""

    def __init__(self, accounts_max: int = ACCOUNTS_MAX, closed_max: int = CLOSED_ORDERS_MAX) -> None:
        self._closed_max = closed_max
        self._accounts_max = accounts_max
        # Kept in the order in which they last had news.
        self._accounts: dict[int, AccountHistory] = {}
        # Open orders by account and id. One table of all of them would stop everybody while it grows: 17 ms at 350,000 orders,
        # 57 ms at 1.4 million.
        self._open: dict[int, dict[int, Accepted]] = {}
        # Deliveries that are not settled, by seller and by buyer.
        self._deliveries: dict[int, dict[int, None]] = {}
        self.last_delivery: int = 0
        """The newest delivery that is known here; the engine may have assigned others since."""

    def start(self, engine: Engine) -> None:
        """Take over what the engine knows and no event will tell any more. To be called once, with everything durable."""
        for order in engine.open_orders():
            self._keep(_as_accepted(order))
        closed = [
            outcome
            for account in engine.accounts.values()
            for outcome in account.outcomes.values()
            if isinstance(outcome, Order) and outcome.status is not OrderStatus.OPEN
        ]
        for order in sorted(closed, key=lambda order: order.order_id):
            self._account(order.account.account_id).close(ClosedOrder(_as_accepted(order), order.status, order.filled))
        for delivery in engine.deliveries.values():
            self._add_delivery(delivery.delivery_id, delivery.seller, delivery.buyer)

    def load(self, events: list[Event]) -> None:
        """Take in the fills of an entry that recovery replayed, before :meth:`start`."""
        if len(events) == 1:
            return  # a trade comes after the answer of the order that took
        for event in events:
            if type(event) is Trade:
                self._fill(event)

    def publish(self, events: list[Event]) -> None:
        """Take in what one durable entry did."""
        for event in events:
            kind = type(event)
            if kind is Accepted:
                assert isinstance(event, Accepted)
                if not event.repeat:
                    self._keep(event)
            elif kind is Trade:
                assert isinstance(event, Trade)
                self._fill(event)
                if not event.maker_remaining:
                    self._filled(event.maker_account, event.maker_order_id)
                if not event.taker_remaining:
                    self._filled(event.taker_account, event.taker_order_id)
            elif kind is Canceled:
                assert isinstance(event, Canceled)
                expired = event.reason is CancelReason.EXPIRED
                status = OrderStatus.EXPIRED if expired else OrderStatus.CANCELED
                self._close(event.account, event.order_id, status, event.filled_qty)
            elif kind is Amended:
                assert isinstance(event, Amended)
                order = self._open[event.account][event.order_id]
                self._keep(_changed(order, event.price, event.qty))
            elif kind is Reduced:
                assert isinstance(event, Reduced)
                order = self._open[event.account][event.order_id]
                self._keep(_changed(order, order.price, order.qty - event.qty))
            elif kind is DeliveryAssigned:
                assert isinstance(event, DeliveryAssigned)
                self._add_delivery(event.delivery_id, event.seller, event.buyer)
            elif kind is DeliverySettled:
                assert isinstance(event, DeliverySettled)
                self._drop_delivery(event.delivery_id, event.seller)
                self._drop_delivery(event.delivery_id, event.buyer)

    # ------------------------------------------------------------------------------------------------------------ reads

    def closed_order(self, account: int, order_id: int, client_order_id: str) -> ClosedOrder | None:
        """An order of the account that is closed, if it is still remembered; by client order id when ``order_id`` is 0,
        and then the last of that name."""
        past = self._accounts.get(account)
        if past is None:
            return None
        if order_id:
            return past.closed_by_id.get(order_id)
        named = (order for order in reversed(past.closed) if order.accepted.client_order_id == client_order_id)
        return next(named, None)

    def closed_orders(self, account: int, market: str | None, limit: int) -> list[ClosedOrder]:
        """The account's last closed orders, newest first."""
        past = self._accounts.get(account)
        if past is None:
            return []
        found = (order for order in reversed(past.closed) if market is None or order.accepted.market == market)
        return list(islice(found, limit))

    def fills(self, account: int, market: str | None, limit: int) -> list[tuple[Trade, Liquidity]]:
        """The account's last fills, newest first."""
        past = self._accounts.get(account)
        if past is None:
            return []
        found = (fill for fill in reversed(past.fills) if market is None or fill[0].market == market)
        return list(islice(found, limit))

    def deliveries(self, account: int) -> Iterator[int]:
        """Ids of the deliveries that the account has part in, oldest first."""
        return iter(self._deliveries.get(account, {}))

    # -------------------------------------------------------------------------------------------------------- internals

    def _account(self, account: int) -> AccountHistory:
        past = self._accounts.pop(account, None)
        if past is None:
            past = AccountHistory(self._closed_max)
            if len(self._accounts) >= self._accounts_max:
                del self._accounts[next(iter(self._accounts))]
        self._accounts[account] = past
        return past

    def _fill(self, trade: Trade) -> None:
        self._account(trade.maker_account).fills.append((trade, "maker"))
        self._account(trade.taker_account).fills.append((trade, "taker"))

    def _keep(self, order: Accepted) -> None:
        mine = self._open.get(order.account)
        if mine is None:
            mine = self._open[order.account] = {}
        mine[order.order_id] = order

    def _filled(self, account: int, order_id: int) -> None:
        self._close(account, order_id, OrderStatus.FILLED, self._open[account][order_id].qty)

    def _close(self, account: int, order_id: int, status: OrderStatus, filled_qty: int) -> None:
        mine = self._open[account]
        accepted = mine.pop(order_id)
        if not mine:
            del self._open[account]
        self._account(account).close(ClosedOrder(accepted, status, filled_qty))

    def _add_delivery(self, delivery_id: int, seller: int, buyer: int) -> None:
        self.last_delivery = max(self.last_delivery, delivery_id)
        self._deliveries.setdefault(seller, {})[delivery_id] = None
        self._deliveries.setdefault(buyer, {})[delivery_id] = None

    def _drop_delivery(self, delivery_id: int, account: int) -> None:
        mine = self._deliveries.get(account)
        if mine is not None:
            mine.pop(delivery_id, None)
            if not mine:
                del self._deliveries[account]


def _as_accepted(order: Order) -> Accepted:
    """An order that the engine remembers, as an Accepted event with its last price and quantity."""
    answer = first_answer(order)
    return answer if order.answer is None else _changed(answer, order.price, order.qty)


def _changed(order: Accepted, price: int, qty: int) -> Accepted:
    """The order at another price or quantity."""
    return Accepted(
        order.account,
        order.account_seq,
        order.order_id,
        order.client_order_id,
        order.market,
        order.side,
        order.order_type,
        price,
        qty,
        order.filled_qty,
        order.resting_qty,
        order.time_in_force,
        order.post_only,
        order.reduce_only,
        order.self_trade_prevention,
        order.expires_ns,
        order.ts_ns,
        order.balance,
        order.held,
        order.repeat,
    )
