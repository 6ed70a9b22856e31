"""What must hold after every entry. Called by tests, benches and ``hashpit verify``; too slow for the live path."""

from msgspec import Struct

from engine.accounts import Order
from engine.columns import known_orders
from engine.core import Engine
from engine.due import EXPIRY, GATE
from engine.markets.dated import Market
from engine.types import MarketState, OrderStatus


class Money(Struct, frozen=True):
    """Where every msat is. ``balances + proceeds + bonds + deliveries == deposited``, always."""

    balances: int
    """Cash of all accounts, the fee and insurance accounts included."""
    proceeds: int
    """What shorts were paid and what waits in the contract."""
    bonds: int
    deliveries: int
    """Proceeds and bonds of deliveries that are not settled."""
    deposited: int
    """Deposits minus withdrawals."""

    def conserved(self) -> bool:
        """No msat was made or lost."""
        return self.balances + self.proceeds + self.bonds + self.deliveries == self.deposited


def money(engine: Engine) -> Money:
    """Add up the whole engine's money. O(accounts + positions + deliveries)."""
    balances = proceeds = bonds = 0
    for account in engine.accounts.values():
        balances += account.balance
        for position in account.positions.values():
            bonds += position.bond
            if position.qty < 0:
                proceeds += position.basis
    deliveries = sum(delivery.proceeds + delivery.bond for delivery in engine.deliveries.values())
    return Money(balances, proceeds, bonds, deliveries, engine.deposited)


def check(engine: Engine) -> None:
    """Raise AssertionError naming the first invariant that does not hold. O(everything)."""
    total = money(engine)
    assert total.conserved(), f"money is not conserved: {total}"
    _check_accounts(engine)
    listed: dict[str, int] = {}
    for order in engine.open_orders():
        listed[order.market] = listed.get(order.market, 0) + 1
    for market in engine.markets.values():
        _check_book(market, listed.pop(market.symbol, 0))
        _check_positions(engine, market)
    assert not listed, f"orders are open in markets that are gone: {listed}"
    _check_deliveries(engine)
    _check_due(engine)


def _check_accounts(engine: Engine) -> None:
    open_orders = 0
    known: dict[int, Order] = {}
    for account_id, account in engine.accounts.items():
        name = f"account {account_id}"
        assert account.account_id == account_id, f"{name} is filed under another id"
        assert engine.names[account.name] == account_id, f"{name} is not found by its name"
        assert 0 <= account.held <= account.balance, f"{name} has balance {account.balance} and holds {account.held}"
        held = 0
        for order_id, order in account.orders.items():
            assert order.order_id == order_id == order.id_object, f"order {order_id} is filed under another id"
            assert order.account is account, f"order {order_id} is another account's"
            held += order.unit_hold * order.remaining
        assert held == account.held, f"{name} holds {account.held} for open orders that need {held}"
        open_orders += len(account.orders)
        if account.latest is not None:
            assert account.positions[account.latest.symbol] is account.latest_position, f"{name} has its latest position wrong"
        for order in known_orders(account):
            assert known.setdefault(order.order_id, order) is order, f"{name}: order {order.order_id} is there twice"
        for key, outcome in account.outcomes.items():
            if isinstance(outcome, Order):
                assert outcome.client_order_id == key, f"{name} remembers {key} as another order"
                is_open = outcome.status is OrderStatus.OPEN
                assert is_open or not outcome.forget, f"{name} remembers {key} too long"
                assert is_open is (outcome.order_id in account.orders), f"{name} remembers {key} as what it is not"
    assert open_orders == engine.matching.open_orders, (
        f"{engine.matching.open_orders} open orders are counted, not {open_orders}"
    )
    remembered = sum(len(account.outcomes) for account in engine.accounts.values())
    forgotten = sum(order.forget for order in engine.open_orders())
    assert remembered == len(engine.remembered) + forgotten, "an outcome is remembered without an end"


def _check_book(market: Market, listed: int) -> None:
    """``listed`` open orders of the market are known to their accounts."""
    book, symbol = market.book, market.symbol
    bids, asks = book.bids_best_first(), book.asks_best_first()
    assert not bids or not asks or bids[0][0] < asks[0][0], f"{symbol} is crossed: {bids[0]} {asks[0]}"
    assert book.best_bid == (bids[0][0] if bids else 0), f"{symbol}: best bid {book.best_bid} is not the highest"
    assert book.best_ask == (asks[0][0] if asks else 0), f"{symbol}: best ask {book.best_ask} is not the lowest"
    assert bids == sorted(set(bids), reverse=True), f"{symbol}: bids are out of order"
    assert asks == sorted(set(asks)), f"{symbol}: asks are out of order"
    assert market.state is not MarketState.CLOSED or not (bids or asks), f"{symbol} is closed and has orders"
    reduce_only = resting = 0
    for is_buy, levels in ((True, book.bids), (False, book.asks)):
        for level in levels:
            price, qty, order, previous = level.price, 0, level.head, None
            assert order is not None, f"{symbol}: level {price} is empty"
            while order is not None:
                text = f"{symbol}: order {order.order_id}"
                assert isinstance(order, Order), f"{text} is nobody's"
                assert order.listing is market, f"{text} belongs to another market"
                assert order.level is level, f"{text} does not know its level"
                assert order.price == price, f"{text} at {order.price} stands at {price}"
                assert order.is_buy is is_buy, f"{text} stands on the wrong side"
                assert order.prev is previous, f"{text} does not know who is before it"
                assert order.remaining > 0, f"{text} has nothing left"
                assert order.qty == order.filled + order.remaining, f"{text} has lost quantity"
                assert order.status is OrderStatus.OPEN, f"{text} is {order.status.name}"
                assert order.account.orders.get(order.order_id) is order, f"{text} is not among its account's"
                qty += order.remaining
                reduce_only += order.reduce_only
                resting += 1
                previous, order = order, order.next
            assert level.tail is previous, f"{symbol}: level {price} ends elsewhere"
            assert level.qty == qty, f"{symbol}: level {price} counts {level.qty}, its orders {qty}"
    assert market.reduce_only_orders == reduce_only, f"{symbol} counts {market.reduce_only_orders} reduce-only orders"
    assert listed == resting, f"{symbol} has {resting} orders in its book and {listed} open"


def _check_positions(engine: Engine, market: Market) -> None:
    symbol = market.symbol
    total = 0
    for account_id, position in market.positions.items():
        text = f"{symbol}: position of account {account_id}"
        assert engine.accounts[account_id].positions[symbol] is position, f"{text} is not the account's"
        assert position.basis >= 0, f"{text} has basis {position.basis}"
        assert position.bond >= 0, f"{text} has bond {position.bond}"
        assert position.qty < 0 or position.bond == 0, f"{text} is not short and has a bond"
        assert position.qty != 0 or position.basis == 0, f"{text} is flat and has basis {position.basis}"
        assert position.reduce_only == sorted(position.reduce_only), f"{text}: reduce-only orders are out of order"
        orders = [engine.accounts[account_id].orders[order_id] for order_id in position.reduce_only]
        reduce_only = sum(order.remaining for order in orders)
        assert position.reduce_only_qty == reduce_only, f"{text} counts {position.reduce_only_qty} lots to reduce"
        assert reduce_only <= abs(position.qty), f"{text} has reduce-only orders for {reduce_only} lots"
        for order in orders:
            assert order.reduce_only, f"{text}: order {order.order_id} is not reduce-only"
            assert order.is_buy is (position.qty < 0), f"{text}: order {order.order_id} would increase it"
        total += position.qty
    assert total == 0, f"{symbol}: positions add up to {total}"


def _check_deliveries(engine: Engine) -> None:
    listed = [delivery_id for market in engine.markets.values() for delivery_id in market.deliveries]
    assert sorted(listed) == sorted(engine.deliveries), "a delivery belongs to no market"
    for delivery in engine.deliveries.values():
        text = f"delivery {delivery.delivery_id}"
        assert delivery.proceeds >= 0, f"{text} has proceeds {delivery.proceeds}"
        assert delivery.bond >= 0, f"{text} has bond {delivery.bond}"
        assert delivery.cost >= 0, f"{text} has cost {delivery.cost}"


def _check_due(engine: Engine) -> None:
    entries = list(engine.due.entries)
    assert engine.next_due_ns() == (entries[0][0] if entries else 0), "the next due time is wrong"
    expiring = sorted(order.order_id for order in engine.open_orders() if order.expires_ns)
    assert sorted(engine.matching.expiring) == expiring, "the table of GTD orders is wrong"
    assert sorted(key for _, kind, key in entries if kind == EXPIRY) == expiring, "expiries do not match GTD orders"
    waiting = sorted(key for _, kind, key in entries if kind == GATE)
    before = sorted(m.symbol for m in engine.markets.values() if m.spec.gate_ns > engine.ts_ns)
    assert waiting == before, "gates do not match markets"
