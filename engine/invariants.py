"""What must hold after every entry. Called by tests, benches and ``hashpit verify``; too slow for the live path."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from engine.accounts import Account, Order
from engine.columns import known_orders
from engine.core import Engine
from engine.crossing import UNTOUCHED, best_first
from engine.due import BUDGET, EXPIRY, GATE, GRACE, LIFE, NEVER
from engine.events import AskPlaced, BidPlaced
from engine.limits import BPS
from engine.markets.dated import Market
from engine.markets.live import Bid, LiveMarket, clock_of
from engine.types import MarketState, OrderStatus, Peg


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
    for live in engine.live.markets.values():
        _check_crossing(live)
        _check_flows(engine, live)
    flows = sum(live.flows for live in engine.live.markets.values())
    assert flows == len(engine.live.flowing.by_id), "a flow is in no market"


def _check_accounts(engine: Engine) -> None:
    open_orders = 0
    known: dict[int, Order] = {}
    for account_id, account in engine.accounts.items():
        name = f"account {account_id}"
        bought = sum(flow.bid.account is account for flow in account.flows.values())
        assert account.bought_flows == bought, f"{name} counts {account.bought_flows} bought flows, not {bought}"
        assert account.account_id == account_id, f"{name} is filed under another id"
        assert engine.names[account.name] == account_id, f"{name} is not found by its name"
        assert 0 <= account.held <= account.balance, f"{name} has balance {account.balance} and holds {account.held}"
        held = _held_live(account)
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
            elif isinstance(outcome, BidPlaced | AskPlaced):
                assert outcome.client_order_id == key, f"{name} remembers {key} as another order"
    assert open_orders == engine.matching.open_orders, (
        f"{engine.matching.open_orders} open orders are counted, not {open_orders}"
    )
    remembered = sum(len(account.outcomes) for account in engine.accounts.values())
    forgotten = sum(order.forget for order in engine.open_orders())
    forgotten += sum(order.forget for order in engine.live.orders.values())
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
    entries = engine.due.entries()
    assert engine.next_due_ns() == (entries[0][0] if entries else 0), "the next due time is wrong"
    expiring = sorted(order.order_id for order in engine.open_orders() if order.expires_ns)
    assert sorted(engine.matching.expiring) == expiring, "the table of GTD orders is wrong"
    assert sorted(key for _, kind, key in entries if kind == EXPIRY) == expiring, "expiries do not match GTD orders"
    waiting = sorted(key for _, kind, key in entries if kind == GATE)
    before = sorted(m.symbol for m in engine.markets.values() if m.spec.gate_ns > engine.ts_ns)
    assert waiting == before, "gates do not match markets"
    live = engine.live
    ending = sorted((order.expires_ns, key) for key, order in live.orders.items() if order.expires_ns)
    assert sorted((ns, key) for ns, kind, key in entries if kind == LIFE) == ending, "ends do not match live orders"
    stops = sorted((o.stop_ns, key) for key, o in live.orders.items() if isinstance(o, Bid) and o.stop_ns < NEVER)
    assert sorted((ns, key) for ns, kind, key in entries if kind == BUDGET) == stops, "stops do not match bids"
    graces = sorted(key for key, flow in live.flowing.by_id.items() if flow.speed == 0)
    assert sorted(key for _, kind, key in entries if kind == GRACE) == graces, "graces do not match ended flows"


def _held_live(account: Account) -> int:
    """What live bids hold: those that stand, and those that have ended and wait for reports."""
    bids = [order for order in account.live.values() if isinstance(order, Bid)]
    ended = {flow.bid.order_id: flow.bid for flow in account.flows.values() if flow.bid.account is account and flow.bid.ended}
    return sum(bid.escrow for bid in (*bids, *ended.values()))


def _check_crossing(market: LiveMarket) -> None:
    """Speeds are those of both sides walked from the best, and so are those of the crossing without followers of the margin."""
    symbol = market.symbol
    standing = [o for o in market.orders.values() if not (isinstance(o, Bid) and o.stopped)]
    for order in standing:
        assert order.assigned_before == UNTOUCHED, f"{symbol}: order {order.order_id} is in the middle of a change"
        assert order.pending == 0, f"{symbol}: flows of order {order.order_id} are behind"
        assert not order.ended, f"{symbol}: order {order.order_id} has ended and stands"
    bids = sorted((o for o in standing if o.is_buy), key=best_first)
    asks = sorted((o for o in standing if not o.is_buy), key=best_first)
    assert market.crossing.bids.orders_best_first(True) == bids, f"{symbol}: bids are out of order"
    assert market.crossing.asks.orders_best_first(False) == asks, f"{symbol}: asks are out of order"
    total = _check_speeds(symbol, bids, asks)
    crossing = market.crossing
    assert crossing.bid_total == crossing.ask_total == total, f"{symbol}: {crossing.bid_total}, {crossing.ask_total} of {total}"
    matched = [bid.price for bid in bids if bid.assigned]
    assert market.marginal == crossing.marginal == (matched[-1] if matched else 0), (
        f"{symbol}: marginal price {market.marginal}"
    )
    assert market.shadow is not None or not market.on_margin, f"{symbol}: the margin's followers are not known"
    if market.shadow is not None:
        shown = [bid for bid in bids if isinstance(bid, Bid) and bid.peg is not Peg.MARGINAL]
        shades = [[order.shade for order in side] for side in (shown, asks)]
        for order in (*shown, *asks):
            shade = order.shade
            assert shade is not None, f"{symbol}: order {order.order_id} has no shade"
            assert (shade.price, shade.remaining) == (order.price, order.remaining), (
                f"{symbol}: {order.order_id} has a wrong shade"
            )
        assert market.shadow.bids.orders_best_first(True) == shades[0], f"{symbol}: the shadow's bids are out of order"
        assert market.shadow.asks.orders_best_first(False) == shades[1], f"{symbol}: the shadow's asks are out of order"
        _check_speeds(f"{symbol}'s shadow", shades[0], shades[1])
    for followers, peg in ((market.on_top, Peg.TOP), (market.on_margin, Peg.MARGINAL), (market.on_index, Peg.INDEX)):
        pegged = [o for o in market.orders.values() if isinstance(o, Bid) and o.peg is peg]
        assert list(followers.values()) == sorted(pegged, key=lambda bid: bid.order_id), (
            f"{symbol}: {peg.name} bids are not known"
        )
        for bid in pegged:
            price = market.pegged_price(market.reference(peg), bid.offset, bid.floor, bid.cap)
            assert bid.stopped or bid.price == price, f"{symbol}: bid {bid.order_id} pays {bid.price}, not {price}"


def _check_speeds(name: str, bids: Sequence[Any], asks: Sequence[Any]) -> int:
    """Walk both sides from the best; the sum that is matched."""
    speeds: dict[int, int] = {}
    i = j = used_bid = used_ask = total = 0
    while i < len(bids) and j < len(asks) and bids[i].price >= asks[j].price:
        speed = min(bids[i].remaining - used_bid, asks[j].remaining - used_ask)
        total += speed
        used_bid += speed
        used_ask += speed
        speeds[bids[i].order_id] = used_bid
        speeds[asks[j].order_id] = used_ask
        if used_bid == bids[i].remaining:
            i, used_bid = i + 1, 0
        if used_ask == asks[j].remaining:
            j, used_ask = j + 1, 0
    for order in (*bids, *asks):
        speed = speeds.get(order.order_id, 0)
        assert order.assigned == speed, f"{name}: order {order.order_id} has speed {order.assigned}, not {speed}"
    return total


def _check_flows(engine: Engine, market: LiveMarket) -> None:
    """Flows add up to speeds, no bid pays less than its ask wants, and no budget can be passed."""
    symbol = market.symbol
    flows = {key: flow for key, flow in engine.live.flowing.by_id.items() if flow.bid.listing is market}
    assert len(flows) == market.flows, f"{symbol} counts {market.flows} flows, not {len(flows)}"
    for flow_id, flow in flows.items():
        text = f"{symbol}: flow {flow_id}"
        bid, ask = flow.bid, flow.ask
        assert flow_id == flow.flow_id < engine.live.flowing.next_flow, f"{text} has another id"
        assert bid.account.flows[flow_id] is ask.account.flows[flow_id] is flow, f"{text} is not known to its accounts"
        assert min(flow.allowance, flow.accrued) >= 0, f"{text} has allowance {flow.allowance} + {flow.accrued}"
        assert min(flow.value, flow.accrued_value) >= 0, f"{text} has value {flow.value} + {flow.accrued_value}"
        assert flow.paid_hashes <= flow.hashes, f"{text} is paid for {flow.paid_hashes} of {flow.hashes} hashes"
        if flow.speed:
            assert bid.flows[ask] is ask.flows[bid] is flow, f"{text} is not known to its orders"
            assert bid.price >= ask.price, f"{text}: the bid pays {bid.price}, the ask wants {ask.price}"
        else:
            assert bid.closing[flow_id] is flow, f"{text} has ended and is not waited for"
    for order in market.orders.values():
        text = f"{symbol}: order {order.order_id}"
        assert engine.live.orders[order.order_id] is order.account.live[order.order_id] is order, f"{text} is not known"
        assert sum(flow.speed for flow in order.flows.values()) == order.assigned, f"{text} has flows for another speed"
        assert list(order.flows.values()) == sorted(order.flows.values(), key=lambda flow: flow.flow_id), f"{text}: flows"
        if isinstance(order, Bid):
            assert not order.stopped or not order.flows, f"{text} is stopped and flows"
            assert order.budget == order.spent + order.escrow, f"{text} has lost money"
    for bid in {flow.bid.order_id: flow.bid for flow in flows.values()}.values():
        owed = exposure = 0
        for flow in (*bid.flows.values(), *bid.closing.values()):
            clock = clock_of(bid, market, engine.ts_ns)
            value = flow.value + market.lot_hashrate * (flow.accrued_value + flow.speed * (clock - flow.clock))
            exposure += value
            cost = (flow.paid_value + value) * market.num // market.den
            owed += cost - flow.cost + cost * market.spec.buyer_fee_bps // BPS - flow.buyer_fee
        assert owed <= bid.escrow, f"{symbol}: bid {bid.order_id} can owe {owed} of {bid.escrow} msat"
        accrued = bid.accrued_value + bid.assigned * (clock_of(bid, market, engine.ts_ns) - bid.exposure_clock)
        assert bid.exposed_lots * market.lot_hashrate >= bid.exposure, f"{symbol}: bid {bid.order_id} is exposed by more"
        assert bid.exposure + market.lot_hashrate * accrued == exposure, (
            f"{symbol}: bid {bid.order_id} is exposed by {exposure}"
        )
