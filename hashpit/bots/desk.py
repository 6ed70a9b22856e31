"""A bot's own orders and position in one market, learned from the account channel and from nowhere else.

The account channel is the one source of truth that survives everything: it has no gaps, it goes on where it was after a
reconnect, and it comes before the answer to the call that caused it. So a bot never guesses from an answer, or from the
lack of one, what its orders are: it sends commands, and reads here what became of them.
"""

from typing import Final

from msgspec import Struct

from engine.rejects import RejectCode
from gateway.scale import Scale
from gateway.wire import AccountSnapshot, ChannelMessage, ErrorCode, MarketInfo
from hashpit.errors import Refused
from hashpit.messages import Accepted, Amended, Canceled, Fill, Reduced

MARKET_OVER: Final = (RejectCode.MARKET_CLOSED, RejectCode.MARKET_UNKNOWN, ErrorCode.CHANNEL_UNKNOWN)
"""Refusals that say that a market takes no more orders, ever."""
FOR_NOW: Final = (ErrorCode.OVERLOADED, ErrorCode.SHUTTING_DOWN)
"""Refusals that say nothing about the order."""


def is_mistake(error: Refused) -> bool:
    """Whether a refusal is the bot's own fault (a key without the permission, say), so that trying again is no use."""
    return error.code < 0 and error.code not in (*MARKET_OVER, *FOR_NOW)


class OwnOrder(Struct):
    """An order of ours that rests in the book. Price in ticks, quantities in lots."""

    order_id: int
    side: str
    price: int
    qty: int
    remaining: int

    @property
    def filled(self) -> int:
        return self.qty - self.remaining


class Desk:
    """Feed it every message of the account channel."""

    def __init__(self, market: MarketInfo) -> None:
        self.market = market.market
        self.price = Scale(market.tick_size)
        self.qty = Scale(market.lot_size)
        self.price_min = self.price.parse(market.price_min)
        self.price_max = self.price.parse(market.price_max)
        """The market's collar, in ticks: orders outside it are refused."""
        self.position = 0
        """In lots; above zero is long."""
        self.orders: dict[int, OwnOrder] = {}
        """Resting orders by id, oldest first."""
        self.fills = 0
        """How many fills it saw."""

    def learn(self, message: ChannelMessage) -> None:
        """Take in one message; those of other channels and markets change nothing."""
        data = message.data
        if isinstance(data, AccountSnapshot):
            self._start_over(data)
        elif getattr(data, "market", "") == self.market:
            self._event(data)

    def collared(self, price: int) -> int:
        """The allowed price nearest to ``price``, in ticks."""
        return min(max(price, self.price_min), self.price_max)

    def side(self, side: str) -> list[OwnOrder]:
        """Our resting orders of one side."""
        return [order for order in self.orders.values() if order.side == side]

    def _start_over(self, snapshot: AccountSnapshot) -> None:
        positions = [view for view in snapshot.positions if view.market == self.market]
        self.position = self._signed(positions[0].qty) if positions else 0
        self.orders = {}
        for order in snapshot.orders:
            if order.market == self.market:
                self._rest(order.order_id, order.side, order.price, order.qty, order.remaining_qty)

    def _event(self, event: object) -> None:
        match event:
            case Accepted() | Amended():
                # resting_qty is what remains after the fills that follow, which say the same
                self._rest(event.order_id, event.side, event.price, event.qty, event.resting_qty)
            case Fill():
                self.fills += 1
                self.position = self._signed(event.position)
                self._remain(event.order_id, event.remaining_qty)
            case Reduced():
                order = self.orders.get(event.order_id)
                if order is not None:
                    order.qty -= self.qty.parse(event.qty)
                self._remain(event.order_id, event.remaining_qty)
            case Canceled():
                self.orders.pop(event.order_id, None)

    def _rest(self, order_id: int, side: str, price: str, qty: str, resting: str) -> None:
        remaining = self.qty.parse(resting)
        if remaining:
            order = OwnOrder(order_id, side, self.price.parse(price), self.qty.parse(qty), remaining)
            self.orders[order_id] = order
        else:
            self.orders.pop(order_id, None)

    def _remain(self, order_id: int, remaining: str) -> None:
        order = self.orders.get(order_id)
        if order is not None:
            order.remaining = self.qty.parse(remaining)
            if not order.remaining:
                del self.orders[order_id]

    def _signed(self, text: str) -> int:
        return -self.qty.parse(text[1:]) if text.startswith("-") else self.qty.parse(text)
