"""What must hold of a naive exchange's live markets after every entry; found without the code that made it so."""

from collections import defaultdict, deque
from fractions import Fraction

from engine.types import MarketState, Peg, Pricing
from tests.reference.exchange import NaiveExchange
from tests.reference.live import Ask, Bid, Move


def check_live(exchange: NaiveExchange) -> None:
    """Raise AssertionError for the first thing that does not hold. O(orders x flows)."""
    live = exchange.live
    assert {order.market for order in live.orders()} <= set(live.markets)
    for symbol, market in live.markets.items():
        check_speeds(exchange, symbol)
        check_pegs(exchange, symbol)
        if market.state == MarketState.CLOSED:
            assert not live.book(symbol)[0]
            assert not live.book(symbol)[1]
            assert any(flow.market == symbol for flow in live.flows), f"{symbol} should be forgotten"
    for flow in live.flows:
        if flow.running:
            assert flow.speed > 0
            assert flow.bid.price >= flow.ask.price, f"flow {flow.flow_id} pays less than its ask wants"
            assert not flow.bid.stopped
            assert not flow.bid.ended
            assert not flow.ask.ended
        else:
            assert flow.speed == 0
        assert flow.allowance >= 0
        assert flow.value >= 0
        assert flow.paid_hashes <= flow.hashes or not flow.hashes
    for bid in live.bids:
        assert not bid.stopped or live.flows_of(bid), f"bid {bid.order_id} waits for nothing"
        at_most = sum(live.can_cost(flow) for flow in live.flows_of(bid))
        assert at_most <= bid.escrow, f"flows of bid {bid.order_id} can cost {at_most} of {bid.escrow}"
    for move in exchange.live.moves:
        check_least(move)
    check_money(exchange)


def check_speeds(exchange: NaiveExchange, symbol: str) -> None:
    """Flows add up to a crossing that is found in another way: as the largest matching of a prefix of each side."""
    live = exchange.live
    bids, asks = live.book(symbol)
    assert len({bid.rank for bid in bids} | {ask.rank for ask in asks}) == len(bids) + len(asks)
    total = 0
    for price in {bid.price for bid in bids}:
        # what is wanted at a price or more, and what is offered at it or less, can be matched at most at the cross of both
        wanted = [bid for bid in bids if bid.price >= price]
        offered = sum(ask.speed for ask in asks if ask.price <= price)
        unlimited = any(bid.limit == 0 for bid in wanted)
        total = max(total, offered if unlimited else min(offered, sum(bid.limit for bid in wanted)))
    for side in (bids, asks):
        left = total
        for order in side:
            size = (order.limit or total) if isinstance(order, Bid) else order.speed
            assert live.speed(order) == min(size, left), f"speed of order {order.order_id}"
            left -= min(size, left)
        assert left == 0
    pairs = [(flow.bid, flow.ask) for flow in live.running(symbol)]
    assert len(set(pairs)) == len(pairs), "two flows of one pair"


def check_pegs(exchange: NaiveExchange, symbol: str) -> None:
    live, spec = exchange.live, exchange.live.markets[symbol].spec
    bids, asks = live.book(symbol)
    free = [bid for bid in bids if bid.peg in (Peg.NONE, Peg.INDEX)]
    unpegged: list[Bid] = [bid for bid in bids if bid.peg != Peg.MARGINAL]
    for bid in bids:
        assert spec.price_min <= bid.price <= bid.cap <= spec.price_max
        if bid.peg == Peg.NONE:
            assert bid.price == bid.cap
            continue
        if bid.peg == Peg.TOP:
            reference = free[0].price if free else 0
        elif bid.peg == Peg.INDEX:
            reference = live.markets[symbol].index
        else:
            reference = marginal_without_walking(unpegged, asks)
        lowest = bid.floor or spec.price_min
        assert bid.price == (min(bid.cap, max(lowest, reference + bid.offset)) if reference else lowest)


def marginal_without_walking(bids: list[Bid], asks: list[Ask]) -> int:
    """The lowest price of a bid that is matched: one that finds supply which nobody before it takes."""
    result = taken = 0
    for bid in bids:
        supply = sum(ask.speed for ask in asks if ask.price <= bid.price)
        if supply > taken:
            result = bid.price
            taken = supply if bid.limit == 0 else min(supply, taken + bid.limit)
    return result or min((ask.price for ask in asks), default=0)


def check_least(move: Move) -> None:
    """No pairing moves less speed: only a flow between two that lose can serve both, so most of those are found, as a flow in
    a graph from bids that lose to asks that lose. When several lose on both sides, more may move."""
    lost = sum(move.bids_lost.values()) + sum(move.asks_lost.values())
    removed = sum(max(0, speed - move.after.get(pair, 0)) for pair, speed in move.before.items())
    overlap = largest_overlap(move)
    least = lost - overlap
    few = min(len(move.bids_lost), len(move.asks_lost)) <= 1
    assert removed == least or (not few and least < removed <= lost), f"{removed} removed, {least} needed"
    grown = sum(max(0, speed - move.before.get(pair, 0)) for pair, speed in move.after.items())
    assert grown == removed + sum(move.after.values()) - sum(move.before.values())


def largest_overlap(move: Move) -> int:
    """Maximum flow by shortest augmenting paths."""
    source, sink = ("source", 0), ("sink", 0)
    room: dict[tuple[tuple[str, int], tuple[str, int]], int] = defaultdict(int)
    for bid, lots in move.bids_lost.items():
        room[source, ("bid", bid)] = lots
    for ask, lots in move.asks_lost.items():
        room[("ask", ask), sink] = lots
    for (bid, ask), speed in move.before.items():
        if bid in move.bids_lost and ask in move.asks_lost:
            room[("bid", bid), ("ask", ask)] = speed
    total = 0
    while True:
        came: dict[tuple[str, int], tuple[str, int]] = {}
        queue = deque([source])
        while queue and sink not in came:
            node = queue.popleft()
            for (start, end), left in list(room.items()):
                if start == node and left > 0 and end not in came:
                    came[end] = node
                    queue.append(end)
        if sink not in came:
            return total
        path = [sink]
        while path[-1] != source:
            path.append(came[path[-1]])
        edges = list(zip(path[1:], path, strict=False))
        lots = min(room[edge] for edge in edges)
        for start, end in edges:
            room[start, end] -= lots
            room[end, start] += lots
        total += lots


def check_money(exchange: NaiveExchange) -> None:
    """All money is what was deposited: balances, what shorts wait for, what deliveries hold."""
    balances = sum(account.balance for account in exchange.accounts.values())
    shorts = sum(position.basis + position.bond for position in exchange.positions.values() if position.qty < 0)
    deliveries = sum(delivery.proceeds + delivery.bond for delivery in exchange.deliveries)
    assert balances + shorts + deliveries == exchange.deposited
    for number in exchange.accounts:
        assert exchange.held(number) <= exchange.accounts[number].balance or number < 100, f"account {number} holds too much"


def check_paid(exchange: NaiveExchange) -> None:
    """What flows were charged is exact to less than one msat, and nobody pays for more than the assigned speed over time."""
    for flow in exchange.live.flows:
        spec = exchange.live.markets[flow.market].spec
        exact = Fraction(flow.paid_value * spec.tick_lot_msat, spec.lot_hashrate * 86_400 * 10**9)
        assert 0 <= exact - flow.cost < 1
        if spec.pricing == Pricing.PAY_AS_BID:
            assert flow.paid_value <= flow.paid_hashes * 10**9 * spec.price_max
