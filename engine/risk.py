"""Before an order may match: what it must hold, and what its account may do. Decides only; changes nothing."""

from engine.accounts import Account, Order
from engine.markets.dated import Market
from engine.members import POST_ONLY_SLIDE, STP_CANCEL_MAKER, STP_NONE
from engine.types import PostOnly, SelfTradePrevention


def unit_hold(market: Market, is_buy: bool, price: int, reduce_only: bool) -> int:
    """msat to hold per lot of an order that enters at ``price``.

    A sell may fill above its own price, up to the best bid that it meets, and its bond grows with the price: it holds for the
    higher of the two. A reduce-only sell holds nothing: what it closes pays its fee.
    """
    if is_buy:
        return market.terms.unit_hold_buy(price)
    if reduce_only:
        return 0
    best_bid = market.book.best_bid
    return market.terms.unit_hold_sell(best_bid if best_bid > price else price)


def reducible(account: Account, market: Market, is_buy: bool, amended: Order | None) -> int:
    """Lots of the account's position that no open reduce-only order covers; ``amended`` is not counted against itself."""
    position = account.positions.get(market.symbol)
    if position is None:
        return 0
    size = -position.qty if is_buy else position.qty
    if size <= 0:
        return 0
    open_qty = position.reduce_only_qty
    if amended is not None:
        open_qty -= amended.remaining
    return size - open_qty


def post_only_price(market: Market, is_buy: bool, price: int, mode: PostOnly) -> int:
    """The price a post-only order rests at; 0 when it would take and may not slide."""
    if is_buy:
        best = market.book.best_ask
        if best == 0 or price < best:
            return price
        if mode is POST_ONLY_SLIDE and best > market.price_min:
            return best - 1
        return 0
    best = market.book.best_bid
    if best == 0 or price > best:
        return price
    if mode is POST_ONLY_SLIDE and best < market.price_max:
        return best + 1
    return 0


def fillable(account: Account, market: Market, is_buy: bool, limit: int, qty: int, prevention: SelfTradePrevention) -> int:
    """How much of ``qty`` an order that takes up to price ``limit`` is sure to fill at once.

    Leaves out what self-trade prevention keeps from trading, and resting reduce-only orders, which may be trimmed while
    the order walks the book. O(levels), or O(orders) when one of these applies.
    """
    by_order = market.reduce_only_orders > 0 or prevention is not STP_NONE
    found = 0
    for level in market.book.levels_from_best(is_buy, limit):
        if by_order:
            order = level.head
            while order is not None and found < qty:
                assert isinstance(order, Order), order.order_id
                if order.account is account and prevention is not STP_NONE:
                    if prevention is not STP_CANCEL_MAKER:
                        return found
                elif not order.reduce_only:
                    found += order.remaining
                order = order.next
        else:
            found += level.qty
        if found >= qty:
            return qty
    return found
