"""What bots and the operator do in live markets: bids, asks, pools; and the meter's reports.

Everything here draws from random streams of its own, so seeds without live markets run as if it were not there.
"""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import replace

from gateway import wire
from gateway.algorithms import ALGORITHMS
from gateway.scale import MONEY
from gateway.wire import Error, LiveMarketInfo
from tests.simulation.line import Line

if TYPE_CHECKING:
    from tests.simulation.clients import Bot
    from tests.simulation.operator import Operator

KNOWN_MAX: Final = 100
NAMES: Final = ("SHA256-LIVE", "SHA256-SLOW-LIVE")
"""Of the live markets of a run; one that was settled is listed again."""
URL: Final = "stratum+tcp://pool.example:3333"
ALGORITHM: Final = ALGORITHMS["SHA256"]
PRICE: Final = ALGORITHM.price()
SPEED: Final = ALGORITHM.qty()
MIDDLE: Final = PRICE.parse(ALGORITHM.reference_price)

Known = tuple[str, bool, str]
"""An order that may be open: its market, whether it is a bid, and its client order id."""


class LiveTrader:
    """One bot's bids, asks and pools."""

    def __init__(self, bot: "Bot") -> None:
        self.bot = bot
        self.rng = bot.world.random(f"{bot.name} live")
        self.open: dict[int, Known] = {}
        self.pools: list[int] = []
        self.sent: deque[tuple[str, Struct]] = deque(maxlen=KNOWN_MAX)
        """Commands with a name of their own, to repeat."""
        self._number = 0
        self._actions: list[tuple[Callable[[Line], None], int]] = [
            (self.place_bid, 30),
            (self.place_ask, 30),
            (self.amend, 20),
            (self.refill, 8),
            (self.cancel, 8),
            (self.pool, 4),
            (self.question, 6),
        ]
        if "repeat" in bot.plan.habits:
            self._actions.append((self.repeat, 8))

    def act(self, line: Line) -> None:
        """Do something in a live market, if there is one."""
        if self.bot.board.live or self.rng.random() < 0.05:
            actions = [action for action, _ in self._actions]
            self.rng.choices(actions, [weight for _, weight in self._actions])[0](line)

    def _wrong(self, odds: float) -> bool:
        return "wrong values" in self.bot.plan.habits and self.rng.random() < odds

    def _market(self) -> str:
        board = self.bot.board
        if self._wrong(0.03) or not board.live:
            return self.rng.choice((*board.markets, "NONE-LIVE"))
        return self.rng.choice([*board.live])

    def _price(self, market: str) -> str:
        spread = self.bot.plan.spread_ticks
        ticks = MIDDLE + self.rng.randrange(-spread, spread + 1)
        info = self.bot.board.live.get(market)
        if info is not None and self._wrong(0.03):
            low, high = PRICE.parse(info.price_min), PRICE.parse(info.price_max)
            ticks = self.rng.choice((0, low - 1, low, high, high + 1))
        return PRICE.format(max(ticks, 0))

    def _speed(self, market: str) -> str:
        info = self.bot.board.live.get(market)
        low, high = (SPEED.parse(info.speed_min), SPEED.parse(info.speed_max)) if info is not None else (1, 1)
        lots = low + self.rng.randrange(min(self.bot.plan.live_speed, high - low) + 1)
        if self._wrong(0.03):
            lots = self.rng.choice((0, low - 1, high, high + 1))
        return SPEED.format(max(lots, 0))

    def _money(self, market: str) -> str:
        info = self.bot.board.live.get(market)
        low = MONEY.parse(info.budget_min) if info is not None else 1
        amount = low + self.rng.randrange(max(self.bot.plan.money_msat // 4, 1))
        if self.rng.random() < 0.5:
            amount = low + self.rng.randrange(10 * low)
        if self._wrong(0.05):
            amount = self.rng.choice((0, max(low - 1, 0), 2**61 - 1, 2**61))
        return MONEY.format(amount)

    def _name(self) -> str | None:
        if self.rng.random() < 0.1:
            return None
        if self.bot.placed and self._wrong(0.02):
            return self.rng.choice(self.bot.placed).client_order_id  # of an order of another kind
        self._number += 1
        return f"l-{self.bot.name}-{self._number}"

    def _expires_us(self) -> int | None:
        if self.rng.random() < 0.8:
            return None
        spans_us = [100_000, 1_000_000, 10_000_000, 60_000_000]
        if self._wrong(0.2):
            spans_us = [-1, 401 * 86_400 * 1_000_000]
        return self.bot.server_us() + self.rng.choice(spans_us)

    def _deadline_us(self) -> int | None:
        return self.bot.deadline_us() if "deadline" in self.bot.plan.habits and self.rng.random() < 0.1 else None

    def _pool(self) -> dict[str, Any]:
        """Where a bid's hashrate goes: a saved pool, or one that is named."""
        if self.rng.random() < 0.3 and (self.pools or self._wrong(0.2)):
            return {"pool_id": self.rng.choice(self.pools or [1])}
        url = URL if not self._wrong(0.05) else "http://pool.example"
        return {"url": url, "worker": f"w{self.rng.randrange(3)}"}

    def place_bid(self, line: Line) -> None:
        rng, market = self.rng, self._market()
        limit = None if rng.random() < 0.2 else self._speed(market)
        params = wire.PlaceBidParams(
            market, self._price(market), self._money(market), limit, expires_us=self._expires_us(), **self._pool()
        )
        if rng.random() < 0.4:
            floor = rng.choice((None, None, PRICE.format(MIDDLE - self.bot.plan.spread_ticks)))
            offset = f"{rng.choice(('', '-'))}{PRICE.format(rng.randrange(3))}"
            pegged: Any = rng.choice(("top", "marginal", "index"))
            params = replace(params, peg=pegged, offset=offset, floor=floor)
            if self._wrong(0.1):
                params = replace(params, floor=PRICE.format(2 * MIDDLE), peg=rng.choice(("none", pegged)))
        params = replace(params, client_order_id=self._name(), deadline_us=self._deadline_us())
        self._send(line, "live.place_bid", params)

    def place_ask(self, line: Line) -> None:
        market = self._market()
        params = wire.PlaceAskParams(
            market, self._price(market), self._speed(market), self._expires_us(), self._name(), self._deadline_us()
        )
        self._send(line, "live.place_ask", params)

    def _send(self, line: Line, method: str, params: Any) -> None:
        if params.client_order_id:
            self.sent.append((method, params))
        self.bot.ask(line, method, params, self._placed)

    def _placed(self, result: Any, error: Error | None) -> None:
        if result is not None and result.status != "ended":
            self.open[result.order_id] = result.market, isinstance(result, wire.BidResult), result.client_order_id
            if len(self.open) > KNOWN_MAX:
                del self.open[next(iter(self.open))]

    def _some_order(self, bid: bool | None) -> tuple[int | None, str | None, str]:
        """An order to name, by its id or by the client's own, and its market."""
        rng = self.rng
        if self._wrong(0.05):
            bid = None
        known = [order_id for order_id, order in self.open.items() if bid in (None, order[1])]
        if not known or self._wrong(0.03):
            return (*rng.choice(((rng.randrange(1, 1000), None), (None, f"l-{self.bot.name}-{rng.randrange(1, 100)}"))), "")
        order_id = rng.choice(known)
        market, _, name = self.open[order_id]
        return (None, name, market) if name and rng.random() < 0.5 else (order_id, None, market)

    def amend(self, line: Line) -> None:
        rng = self.rng
        bid = rng.random() < 0.6
        order_id, name, market = self._some_order(bid)
        price = self._price(market) if rng.random() < 0.6 else None
        size = self._speed(market) if rng.random() < 0.6 else None
        if not bid:
            ask = wire.AmendAskParams(order_id, name, price=price, speed=size, deadline_us=self._deadline_us())
            self.bot.ask(line, "live.amend_ask", ask, self._gone(order_id))
            return
        if size is not None and rng.random() < 0.2:
            size = "0"  # no limit any more
        pool = self._pool() if rng.random() < 0.2 else {}
        params = wire.AmendBidParams(order_id, name, price=price, limit=size, deadline_us=self._deadline_us(), **pool)
        self.bot.ask(line, "live.amend_bid", params, self._gone(order_id))

    def _gone(self, order_id: int | None) -> Callable[[Any, Error | None], None]:
        def then(result: Any, error: Error | None) -> None:
            is_gone = isinstance(result, wire.CancelResult) or (error is not None and error.code == 1301)
            if order_id is not None and is_gone:
                self.open.pop(order_id, None)

        return then

    def refill(self, line: Line) -> None:
        order_id, name, market = self._some_order(True)
        self._number += 1
        params = wire.RefillParams(
            order_id,
            name,
            amount=self._money(market),
            refill_id=f"r-{self.bot.name}-{self._number}",
            deadline_us=self._deadline_us(),
        )
        self.sent.append(("live.refill", params))
        self.bot.ask(line, "live.refill", params)

    def cancel(self, line: Line) -> None:
        order_id, name, _ = self._some_order(None)
        self.bot.ask(line, "cancel", wire.CancelParams(order_id, name, self._deadline_us()), self._gone(order_id))

    def repeat(self, line: Line) -> None:
        """Send a command again, answered or not."""
        if self.sent:
            self.bot.ask(line, *self.rng.choice(self.sent))

    def pool(self, line: Line) -> None:
        rng = self.rng
        number: int | None
        if self.pools and rng.random() < 0.3:
            gone = rng.choice(self.pools)
            if not self._wrong(0.3):
                self.pools.remove(gone)
            self.bot.ask(line, "pool.delete", wire.PoolParams(gone))
            return
        number = rng.choice(self.pools) if self.pools and rng.random() < 0.3 else None
        if self._wrong(0.1):
            number = rng.randrange(1, 50)
        name = "a\nb" if self._wrong(0.1) else f"pool {rng.randrange(5)}"
        url = "http://pool.example" if self._wrong(0.1) else URL
        params = wire.SavePoolParams(name, "SHA256", url, f"w{rng.randrange(3)}", pool_id=number)

        def then(result: wire.PoolView | None, error: Error | None) -> None:
            if result is not None and result.pool_id not in self.pools:
                self.pools.append(result.pool_id)

        self.bot.ask(line, "pool.save", params, then)

    def question(self, line: Line) -> None:
        rng, market = self.rng, self._market()
        limit = rng.choice((1, 10, 1_000))
        method, params = rng.choice(
            (
                ("live.orders", wire.LiveOrdersParams(rng.choice((None, market)), limit)),
                ("live.flows", wire.FlowsParams(rng.choice((None, market)), limit, rng.choice((0, 0, 3)))),
                ("live.book", wire.BookParams(market, limit)),
                ("live.estimate", wire.EstimateParams(market, self._price(market), self._speed(market), self._money(market))),
                ("pools", None),
            )
        )
        self.bot.ask(line, method, params)


class LiveOperator:
    """Lists, ends and prices live markets, and reports what flows."""

    def __init__(self, operator: "Operator") -> None:
        self.operator = operator
        self.rng = operator.world.random("operator live")
        self._last_flow = 0

    def act(self, line: Line) -> None:
        """One thing."""
        rng, operator = self.rng, self.operator
        board = operator.board
        chance = rng.random()
        if len(board.live) < operator.plan.live_markets and chance < 0.5:
            operator.ask(line, "list_live_market", self._listing())
        elif not board.live:
            return
        elif chance < 0.15:
            price = None if rng.random() < 0.1 else PRICE.format(MIDDLE + rng.randrange(-10, 11))
            if operator._wrong(0.1):
                price = rng.choice(("0", "2"))
            operator.ask(line, "set_index", wire.SetIndexParams(self._symbol(), price))
        elif chance < 0.2:
            state: Any = rng.choice(("open", "open", "open", "open", "cancel_only", "halted", "closed"))
            if state == "closed" and rng.random() < 0.5:
                state = "open"
            operator.ask(line, "set_market_state", wire.MarketStateParams(self._symbol(), state))
        elif chance < 0.22:
            operator.ask(line, "list_live_market", self._listing())
        elif chance < 0.23:
            operator.ask(line, "settle", wire.SettleParams(self._symbol()))
        elif chance < 0.3:
            number = self._last_flow + rng.randrange(-3, 4)  # done with, or not begun
            operator.ask(line, "report_flow", wire.ReportFlowParams(max(number, 1), "1"))
        else:
            after = rng.choice((0, 0, max(self._last_flow - 10, 0)))
            operator.ask(line, "live.flows", wire.FlowsParams(None, 100, after), self._meter(line))

    def _symbol(self) -> str:
        board = self.operator.board
        if self.operator._wrong(0.1):
            return self.rng.choice((*board.markets, "NONE-LIVE"))
        return self.rng.choice([*board.live])

    def _listing(self) -> wire.ListLiveMarketParams:
        rng = self.rng
        pricing: Any = rng.choice(("pay_as_bid", "uniform"))
        budget_min = rng.choice((1, 20, 500))
        return wire.ListLiveMarketParams(
            "SHA256",
            rng.choice((None, NAMES[1])),
            pricing,
            buyer_fee_bps=rng.choice((0, 20, 1_000)),
            seller_fee_bps=rng.choice((0, 10, 1_000)),
            placing_fee=MONEY.format(rng.choice((0, 0, budget_min // 2, 1))),
            price_max=rng.choice((None, "0.001")),
            speed_min=SPEED.format(rng.choice((1, 1, 10))),
            speed_max=rng.choice((None, "20")),
            budget_min=MONEY.format(budget_min if not self.operator._wrong(0.05) else 0),
            decrease_interval_s=rng.choice((0, 0, 2, 30)),
            decrease_step=rng.choice(("0", "0", "0.00000002")),
            lock_ms=rng.choice((0, 0, 200, 5_000)),
            life_s=rng.choice((5, 60, 86_400)),
            slack_s=rng.choice((0, 2, 60)),
            grace_s=rng.choice((1, 5, 30)),
            idle_s=rng.choice((0, 5, 60)),
        )

    def _meter(self, line: Line) -> Callable[[Any, Error | None], None]:
        """Reports some of the flows that are told: what was due, or too little, or too much."""

        def then(result: list[wire.FlowView] | None, error: Error | None) -> None:
            for flow in result or []:
                self._last_flow = max(self._last_flow, flow.flow_id)
                if line.ready and self.rng.random() < 0.6:
                    self.operator.ask(line, "report_flow", self._report(flow))

        return then

    def _report(self, flow: wire.FlowView) -> wire.ReportFlowParams:
        rng = self.rng
        until_us = flow.ended_us or self.operator.world.now_ns // 1_000
        hashes = int(flow.hashes)
        due = max(int(flow.hashrate) * max(until_us - flow.started_us, 0) // 1_000_000, hashes)
        due = rng.choice((due, due, (hashes + due) // 2, 3 * due + 10**12, hashes, hashes + 10**15))
        if self.operator._wrong(0.05):
            due = rng.choice((max(hashes - 1, 0), 2**120, 2**120 + 1))
        return wire.ReportFlowParams(flow.flow_id, str(due), rng.random() < (0.4 if flow.ended_us else 0.05))


def live_ones(markets: list[Any]) -> list[LiveMarketInfo]:
    """Terms of the live markets among them."""
    return [info for info in markets if isinstance(info, LiveMarketInfo)]
