"""What the hot path asks for by name: enum members.

CPython 3.11 takes ten times as long to find ``Side.BUY`` as to find ``BUY``; compiled, a name of this module is one load.
"""

from typing import Final

from engine.types import (
    CancelReason,
    MarketState,
    OrderStatus,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

BUY: Final = Side.BUY
SELL: Final = Side.SELL
LIMIT: Final = OrderType.LIMIT
MARKET: Final = OrderType.MARKET
GTC: Final = TimeInForce.GTC
IOC: Final = TimeInForce.IOC
FOK: Final = TimeInForce.FOK
GTD: Final = TimeInForce.GTD
POST_ONLY_OFF: Final = PostOnly.OFF
POST_ONLY_SLIDE: Final = PostOnly.SLIDE
STP_NONE: Final = SelfTradePrevention.NONE
STP_CANCEL_MAKER: Final = SelfTradePrevention.CANCEL_MAKER
MARKET_OPEN: Final = MarketState.OPEN
MARKET_HALTED: Final = MarketState.HALTED
ORDER_OPEN: Final = OrderStatus.OPEN
ORDER_FILLED: Final = OrderStatus.FILLED
ORDER_CANCELED: Final = OrderStatus.CANCELED
CANCEL_REQUESTED: Final = CancelReason.REQUESTED
