"""The aggressor's walk: an order that enters takes the best prices opposite, oldest first, until it may go no further.

Runs after every check has passed: nothing here refuses. Moves money through the ledger, keeps the book, and appends one Trade
per match; self-trade prevention and reduce-only trimming append what they remove.
"""

from bisect import bisect_left, insort

from engine.accounts import Account, Order, Position, keep_answer
from engine.due import EXPIRY, Due
from engine.events import Canceled, Event, Reduced, Trade
from engine.ledger import fill_buy, fill_sell, share_ceil
from engine.markets.dated import Market
from engine.members import (
    BUY,
    ORDER_CANCELED,
    ORDER_FILLED,
    SELL,
    STP_CANCEL_MAKER,
    STP_NONE,
)
from engine.types import CancelReason, OrderStatus, SelfTradePrevention


class Matching:
    """What the walk shares with the rest of the engine."""

    __slots__ = ("due", "expiring", "fees", "open_orders")

    def __init__(self, fees: Account, due: Due) -> None:
        self.fees: Account = fees
        self.due: Due = due
        # open orders of all accounts
        self.open_orders: int = 0
        # resting GTD orders by id, as the agenda names them
        self.expiring: dict[int, Order] = {}

    def walk(self, taker: Order, market: Market, ts_ns: int, out: list[Event]) -> bool:
        """Match ``taker`` up to its price; False when self-trade prevention ended it."""
        book = market.book
        prevention = taker.self_trade_prevention
        limit = taker.price
        is_buy = taker.is_buy
        levels = book.asks if is_buy else book.bids
        while taker.remaining > 0 and levels:
            level = levels[-1]
            price = level.price
            if price > limit if is_buy else price < limit:
                return True
            maker = level.head
            assert isinstance(maker, Order), market.symbol
            if maker.account is not taker.account or prevention is STP_NONE:
                self._trade(maker, taker, market, price, ts_ns, out)
            elif not self._prevent(maker, taker, market, prevention, out):
                return False
        return True

    def _trade(self, maker: Order, taker: Order, market: Market, price: int, ts_ns: int, out: list[Event]) -> None:
        terms = market.terms
        symbol = market.symbol
        qty = maker.remaining if maker.remaining < taker.remaining else taker.remaining
        if terms.den == 1:
            paid = proceeds = price * qty * terms.num
        else:
            paid = terms.notional_ceil(price, qty)
            proceeds = terms.notional_floor(price, qty)
        maker_account = maker.account
        taker_account = taker.account
        maker_position = self.position(maker_account, market)
        taker_position = self.position(taker_account, market)

        # the maker's half, then the taker's
        maker.filled += qty
        maker_account.held -= maker.unit_hold * qty
        if maker.is_buy:
            maker_fee = share_ceil(paid, terms.maker_fee_bps)
            maker_realized = fill_buy(maker_account, maker_position, terms, price, qty, paid)
        else:
            maker_fee = share_ceil(proceeds, terms.maker_fee_bps)
            maker_realized = fill_sell(maker_account, maker_position, terms, price, qty, proceeds)
        maker_account.balance -= maker_fee
        maker_balance = maker_account.balance
        maker_held = maker_account.held
        maker_qty = maker_position.qty
        taker.filled += qty
        taker.remaining -= qty
        taker_account.held -= taker.unit_hold * qty
        if taker.is_buy:
            taker_fee = share_ceil(paid, terms.taker_fee_bps)
            taker_realized = fill_buy(taker_account, taker_position, terms, price, qty, paid)
        else:
            taker_fee = share_ceil(proceeds, terms.taker_fee_bps)
            taker_realized = fill_sell(taker_account, taker_position, terms, price, qty, proceeds)
        taker_account.balance -= taker_fee
        self.fees.balance += maker_fee + taker_fee + (paid - proceeds)

        if qty == maker.remaining:
            # leaves the book while level and position still count what just traded
            self.close(maker, maker_account, market, ORDER_FILLED)
            maker.remaining = 0
        else:
            maker.remaining -= qty
            if maker.reduce_only:
                maker_position.reduce_only_qty -= qty
            level = maker.level
            assert level is not None, maker.order_id
            level.qty -= qty
        market.last_price = price
        market.trade_id += 1
        maker_account.event_seq += 1
        maker_seq = maker_account.event_seq
        taker_account.event_seq += 1
        out.append(
            Trade(
                symbol,
                market.trade_id,
                price,
                qty,
                BUY if taker.is_buy else SELL,
                ts_ns,
                maker_account.account_id,
                maker_seq,
                maker.order_id,
                maker.client_order_id,
                maker.remaining,
                maker_fee,
                maker_realized,
                maker_qty,
                maker_balance,
                maker_held,
                taker_account.account_id,
                taker_account.event_seq,
                taker.order_id,
                taker.client_order_id,
                taker.remaining,
                taker_fee,
                taker_realized,
                taker_position.qty,
                taker_account.balance,
                taker_account.held,
            )
        )
        if maker_position.reduce_only_qty:
            self._trim(maker_account, maker_position, market, out)
        if taker_position.reduce_only_qty:
            self._trim(taker_account, taker_position, market, out)

    def position(self, account: Account, market: Market) -> Position:
        """The account's position in the market, opened flat if there was none."""
        position = account.latest_position
        if position is None or account.latest is not market:
            position = account.positions.get(market.symbol)
            if position is None:
                position = Position()
                account.positions[market.symbol] = position
                market.positions[account.account_id] = position
            account.latest = market
            account.latest_position = position
        return position

    def close(self, order: Order, account: Account, market: Market, status: OrderStatus) -> None:
        """Take a resting order out of the book and out of everything that lists open orders."""
        self.unrest(order, account, market)
        self.finish(order, account, status)

    def finish(self, order: Order, account: Account, status: OrderStatus) -> None:
        """An order that does not rest has come to its end."""
        order.status = status
        self.open_orders -= 1
        del account.orders[order.id_object]
        if order.forget:
            del account.outcomes[order.client_order_id]

    def rest(self, order: Order, account: Account, market: Market) -> None:
        """Put what remains of an order into the book."""
        market.book.add(order)
        if order.expires_ns:
            self.due.add(order.expires_ns, EXPIRY, order.order_id)
            self.expiring[order.order_id] = order
        if order.reduce_only:
            self._cover(order, market)

    def load(self, orders: list[Order], markets: dict[str, Market]) -> None:
        """Note of orders that a snapshot put into the book what ``rest`` would have noted."""
        expiries: list[tuple[int, int, int]] = []
        for order in orders:
            if order.expires_ns:
                expiries.append((order.expires_ns, EXPIRY, order.order_id))
                self.expiring[order.order_id] = order
            if order.reduce_only:
                self._cover(order, markets[order.market])
        self.due.load(expiries)

    def _cover(self, order: Order, market: Market) -> None:
        """A resting reduce-only order covers a part of its account's position."""
        position = order.account.positions[market.symbol]
        insort(position.reduce_only, order.order_id)
        position.reduce_only_qty += order.remaining
        market.reduce_only_orders += 1

    def unrest(self, order: Order, account: Account, market: Market) -> None:
        """Undo ``rest``, with what still remains."""
        market.book.remove(order)
        if order.expires_ns:
            self.due.discard(order.expires_ns, EXPIRY, order.order_id)
            del self.expiring[order.order_id]
        if order.reduce_only:
            position = account.positions[market.symbol]
            del position.reduce_only[bisect_left(position.reduce_only, order.order_id)]
            position.reduce_only_qty -= order.remaining
            market.reduce_only_orders -= 1

    def cancel(
        self, order: Order, account: Account, market: Market, reason: CancelReason, status: OrderStatus, out: list[Event]
    ) -> None:
        """End an order with a quantity left, resting or not: release its hold and say so."""
        qty = order.remaining
        resting = order.level is not None
        account.held -= order.unit_hold * qty
        if resting:
            self.close(order, account, market, status)
        else:
            self.finish(order, account, status)
        order.remaining = 0
        account.event_seq += 1
        out.append(
            Canceled(
                account.account_id,
                account.event_seq,
                order.order_id,
                order.client_order_id,
                market.symbol,
                BUY if order.is_buy else SELL,
                order.price,
                qty,
                order.filled,
                resting,
                reason,
                account.balance,
                account.held,
            )
        )

    def _reduce(self, order: Order, account: Account, market: Market, qty: int, reason: CancelReason, out: list[Event]) -> None:
        """Take ``qty`` lots off an order without a trade; the rest keeps its place."""
        if qty == order.remaining:
            self.cancel(order, account, market, reason, ORDER_CANCELED, out)
            return
        keep_answer(order)
        order.qty -= qty
        order.remaining -= qty
        account.held -= order.unit_hold * qty
        level = order.level
        if level is not None:
            level.qty -= qty
            if order.reduce_only:
                account.positions[market.symbol].reduce_only_qty -= qty
        account.event_seq += 1
        out.append(
            Reduced(
                account.account_id,
                account.event_seq,
                order.order_id,
                order.client_order_id,
                market.symbol,
                BUY if order.is_buy else SELL,
                order.price,
                qty,
                order.remaining,
                level is not None,
                reason,
                account.balance,
                account.held,
            )
        )

    def _trim(self, account: Account, position: Position, market: Market, out: list[Event]) -> None:
        """Shrink reduce-only orders, newest first, to what is left of the position."""
        while position.reduce_only_qty:
            order = account.orders[position.reduce_only[-1]]
            left = max(0, -position.qty if order.is_buy else position.qty)
            excess = position.reduce_only_qty - left
            if excess <= 0:
                return
            self._reduce(order, account, market, min(excess, order.remaining), CancelReason.REDUCE_ONLY, out)

    def _prevent(self, maker: Order, taker: Order, market: Market, prevention: SelfTradePrevention, out: list[Event]) -> bool:
        """Two orders of one account met; False when the taker ends here."""
        account = taker.account
        reason = CancelReason.SELF_TRADE
        if prevention is SelfTradePrevention.DECREMENT:
            qty = min(maker.remaining, taker.remaining)
            self._reduce(maker, account, market, qty, reason, out)
            self._reduce(taker, account, market, qty, reason, out)
            return taker.remaining > 0
        if prevention is not SelfTradePrevention.CANCEL_TAKER:
            self.cancel(maker, account, market, reason, ORDER_CANCELED, out)
        if prevention is STP_CANCEL_MAKER:
            return True
        self.cancel(taker, account, market, reason, ORDER_CANCELED, out)
        return False
