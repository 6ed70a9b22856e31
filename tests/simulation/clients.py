"""Clients that behave as bots do: small weighted actions over one or two lines, and the retries that keep them honest.

A bot has turns. In each it looks after its lines, sends again what was lost, and does a few things at random, of those that
the seed switched on. What it knows comes from answers and channels; :class:`Board` holds what anybody can look up.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from gateway import wire
from gateway.scale import MONEY, Scale
from gateway.wire import Error, ErrorCode, LiveMarketInfo, MarketInfo
from hashpit.keys import Key
from tests.simulation.coverage import Coverage
from tests.simulation.line import Line
from tests.simulation.live import LiveTrader
from tests.simulation.network import Network
from tests.simulation.swarm import Plan
from tests.simulation.world import MS_NS, World

COMMANDS: Final = ("place", "withdraw", "deposit", "live.place_bid", "live.place_ask", "live.refill")
"""Commands that are safe to send again: they carry a name of their own."""
UNSURE_MAX: Final = 200
NAP_TURN_NS: Final = 2_000 * MS_NS
KNOWN_MAX: Final = 200
AGAIN: Final = (ErrorCode.RATE_LIMITED, ErrorCode.OVERLOADED, ErrorCode.SHUTTING_DOWN)
"""The gateway did not take the call: it may be sent again."""


class Board:
    """What anybody could look up: the markets, and where their prices are."""

    def __init__(self) -> None:
        self.markets: dict[str, MarketInfo] = {}
        self.live: dict[str, LiveMarketInfo] = {}
        self.mids: dict[str, int] = {}
        self.scales: dict[str, tuple[Scale, Scale]] = {}
        self.asleep_until_ns = 0
        """Everybody waits for the time to pass, so that periods begin and end."""

    def learn(self, info: MarketInfo) -> None:
        if info.market not in self.mids:
            price = Scale(info.tick_size)
            self.scales[info.market] = (price, Scale(info.lot_size))
            self.mids[info.market] = price.parse(info.reference_price)
        self.markets[info.market] = info


class Client:
    """Somebody with a name, an address and lines to the exchange."""

    def __init__(
        self, name: str, world: World, plan: Plan, network: Network, coverage: Coverage, auditor: Any, board: Board
    ) -> None:
        self.name = name
        self.world = world
        self.plan = plan
        self.network = network
        self.coverage = coverage
        self.auditor = auditor
        self.board = board
        self.rng = world.random(name)
        # Several share an address. Those that never log in do not take it from those that do; the operator has one of its own.
        group = 2 if name == "operator" else int("bot" in name)
        self.ip = f"10.{group}.0.{self.rng.randrange(4)}"
        self.lines: list[Line] = []
        self.settling = False
        """The run ends: nothing new is begun, and what is unsure is found out."""
        self.unsure: deque[tuple[str, Struct]] = deque()
        """Commands whose outcome is not known."""
        self._turn_ns = plan.pace_ns

    def start(self) -> None:
        self.world.later(self.rng.randrange(self._turn_ns + 1), self.turn)

    def add_line(self, key: Key | None) -> Line:
        line = Line(self, key, self.rng.random() < self.plan.msgpack)
        self.lines.append(line)
        return line

    def turn(self) -> None:
        asleep = self.world.now_ns < self.board.asleep_until_ns and not self.settling
        mean_ns = 200 * MS_NS if self.settling else NAP_TURN_NS if asleep else self._turn_ns
        delay_ns = self.plan.on_grid(int(min(self.rng.expovariate(1.0), 5.0) * mean_ns) + 1)
        self.world.later(delay_ns, self.turn)
        for line in [*self.lines]:
            line.look_after()
        ready = [line for line in self.lines if line.ready]
        if not ready or asleep:
            return
        if self.settling:
            self.find_out(ready[0])
        else:
            for _ in range(self.rng.randrange(1, self.plan.burst + 1)):
                line = self.rng.choice(ready)
                if line.ready:
                    self.act(line)

    def act(self, line: Line) -> None:
        """Do something."""

    def find_out(self, line: Line) -> None:
        """Send again one command whose outcome is not known."""
        if self.unsure and not line.asked:
            self.ask(line, *self.unsure.popleft())

    @property
    def at_rest(self) -> bool:
        """Whether everything that was asked is answered, on lines that are up."""
        lines = [line for line in self.lines if not line.ended]
        return not lines or (not self.unsure and all(line.at_rest for line in lines))

    def trouble(self) -> str:
        """Why it is not at rest."""
        lines = [f"ready {line.ready} {[asked.method for asked in line.asked.values()]}" for line in self.lines]
        return f"{len(self.unsure)} unsure, {'; '.join(lines)}"

    def settle_down(self) -> None:
        """The run ends: one line, read, and nothing new."""
        self.settling = True
        for line in self.lines:
            if line.link is not None:
                line.link.resume()

    # ------------------------------------------------------------------------------------------------- for the lines

    def ask(
        self, line: Line, method: str, params: Struct | None = None, then: Callable[[Any, Error | None], None] | None = None
    ) -> None:
        """Send a call; if it is a command that can be repeated, see to it that its outcome becomes known."""

        def answered(result: Any, error: Error | None) -> None:
            lost = result is None and error is None
            again = lost or (error is not None and error.code in AGAIN)
            if again and params is not None and method in COMMANDS and named(params) and len(self.unsure) < UNSURE_MAX:
                self.unsure.append((method, params))
            if then is not None and not lost:
                then(result, error)

        line.call(method, params, answered)

    def came_up(self, line: Line) -> None:
        """A line is up and its channels were asked for."""

    def account_message(self, message: wire.ChannelMessage) -> None:
        """The account channel said something."""

    def learn(self, data: Any) -> None:
        """The status channel said something."""

    def loses_a_message(self) -> bool:
        return False

    def answer_challenge(self, challenge: str, ts_us: int) -> tuple[str, int]:
        """What a login signs."""
        return challenge, ts_us


def named(params: Struct) -> bool:
    """Whether a command carries the name that makes repeating it harmless."""
    return any(getattr(params, name, None) for name in ("client_order_id", "transfer_id", "refill_id"))


class Reader(Client):
    """Follows public channels without logging in."""

    def act(self, line: Line) -> None:
        if (self.board.markets or self.board.live) and self.rng.random() < 0.2:
            line.subscribe(self.any_channel())
        elif self.rng.random() < 0.05 and line.channels:
            line.unsubscribe(self.rng.choice(line.channels))

    def any_channel(self) -> str:
        if self.board.live and (not self.board.markets or self.rng.random() < self.plan.live_share):
            live = self.rng.choice([*self.board.live])
            return self.rng.choice((f"live.{live}", f"live.{live}", f"flows.{live}", f"ticker.{live}"))
        market = self.rng.choice([*self.board.markets])
        return self.rng.choice((f"book.{market}", f"book.{market}.100ms", f"trades.{market}", f"ticker.{market}", "status"))


class Bot(Reader):
    """A trader with one account."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.account = 0
        self.key: Key | None = None
        self.placed: deque[wire.PlaceParams] = deque(maxlen=KNOWN_MAX)
        self.open: dict[int, tuple[str, str]] = {}
        """Orders that may be open: market and client order id by order id."""
        self._number = 0
        self._actions: list[tuple[Callable[[Line], None], int]] = [(self.place, 40)]
        habits = {
            "quote": (self.quote, 15),
            "amend": (self.amend, 12),
            "cancel": (self.cancel, 12),
            "cancel all": (self.cancel_all, 2),
            "repeat": (self.repeat, 8),
            "ask": (self.question, 6),
            "feeds": (self.feeds, 5),
            "resync": (self.resync, 2),
            "log in twice": (self.second_line, 2),
            "log out": (self.log_out, 1),
            "leave": (self.leave, 1),
            "forget to read": (self.forget_to_read, 3),
            "withdraw": (self.withdraw, 2),
            "destination": (self.destination, 3),
        }
        self._actions += [action for name, action in habits.items() if name in self.plan.habits]
        self.live = LiveTrader(self)
        self._functions = [function for function, _ in self._actions]
        self._weights = [weight for _, weight in self._actions]

    def begin(self, account: int, key: Key) -> None:
        """The operator has opened the account."""
        self.account, self.key = account, key
        self.add_line(key)
        self.start()

    def hear_everything(self, epoch: str) -> None:
        """One more line, which asks for all that ever happened to the account."""
        if self.lines and not all(line.ended for line in self.lines):
            line = self.add_line(self.key)
            line.resume_from_the_start(epoch)
            line.connect()

    def does(self, habit: str, odds: float) -> bool:
        return habit in self.plan.habits and self.rng.random() < odds

    def came_up(self, line: Line) -> None:
        if "account" not in line.channels and self.rng.random() < 0.9:
            line.subscribe("account")

    def loses_a_message(self) -> bool:
        return not self.settling and self.does("lose a message", 0.01)

    def answer_challenge(self, challenge: str, ts_us: int) -> tuple[str, int]:
        if not self.settling and self.does("wrong values", 0.05):
            if self.rng.random() < 0.5:
                return challenge[::-1], ts_us
            return challenge, ts_us + self.rng.choice((-11_000_000, 11_000_000))
        return challenge, ts_us

    def act(self, line: Line) -> None:
        if self.unsure and self.rng.random() < 0.3:
            self.ask(line, *self.unsure.popleft())
            return
        if self.does("idle", 0.2):
            return
        if self.plan.live_markets and self.rng.random() < self.plan.live_share:
            self.live.act(line)
            return
        self.rng.choices(self._functions, self._weights)[0](line)

    # ----------------------------------------------------------------------------------------------------------- orders

    def some_market(self) -> str | None:
        return self.rng.choice([*self.board.markets]) if self.board.markets else None

    def prices(self, market: str, side: str) -> str:
        """A price near the middle, at times far from it."""
        rng, board = self.rng, self.board
        if rng.random() < 0.05:
            board.mids[market] += rng.choice((-1, 1))
        spread = self.plan.spread_ticks
        ticks = board.mids[market] + rng.randrange(-spread, spread + 1)
        info, scale = board.markets[market], board.scales[market][0]
        low, high = scale.parse(info.price_min), scale.parse(info.price_max)
        if self.does("wrong values", 0.03):
            ticks = rng.choice((0, low - 1, low, high, high + 1))
        else:
            ticks = min(max(ticks, low), high)
        return scale.format(max(ticks, 0))

    def qty(self, market: str) -> str:
        lots = self.rng.randrange(1, self.plan.qty_max + 1)
        scale = self.board.scales[market][1]
        if self.does("wrong values", 0.03):
            if self.rng.random() < 0.2:
                return "0.0005"
            lots = self.rng.choice((0, scale.parse(self.board.markets[market].qty_max) + self.rng.randrange(2)))
        return scale.format(lots)

    def name_of_order(self) -> str | None:
        if self.rng.random() < 0.1:
            return None
        self._number += 1
        return f"{self.name}-{self._number}"

    def server_us(self) -> int:
        """The server's time, as far as a client knows it."""
        return self.world.now_ns // 1_000

    def order(self) -> wire.PlaceParams | None:
        rng, market = self.rng, self.some_market()
        if market is None:
            return None
        side: Any = rng.choice(("buy", "sell"))
        params = wire.PlaceParams(
            market, side, self.qty(market), self.prices(market, side), client_order_id=self.name_of_order()
        )
        if self.does("market order", 0.1):
            keeps_price = self.does("wrong values", 0.05)
            params = replace(params, type="market", price=params.price if keeps_price else None)
        elif self.does("take", 0.15):
            params = replace(params, time_in_force="ioc")
        if self.does("fill or kill", 0.1):
            params = replace(params, time_in_force="fok")
        if self.does("expiring", 0.15) and params.type == "limit":
            expires_us = self.server_us() + rng.choice((1, 100_000, 1_000_000, 5_000_000, 30_000_000))
            if self.does("wrong values", 0.1):
                expires_us = self.server_us() - 1
            params = replace(params, time_in_force="gtd", expires_us=expires_us)
        if self.does("post-only", 0.2):
            params = replace(params, post_only=rng.choice(("reject", "slide")))
        if self.does("reduce-only", 0.2):
            params = replace(params, reduce_only=True)
        if "self-trade prevention" in self.plan.habits:
            modes = ("none", "cancel_maker", "cancel_taker", "cancel_both", "decrement")
            params = replace(params, self_trade_prevention=rng.choice(modes))
        if self.does("deadline", 0.1):
            params = replace(params, deadline_us=self.deadline_us())
        if self.does("wrong values", 0.02):
            params = replace(
                params, time_in_force=rng.choice(("gtc", "ioc", "fok", "gtd")), market=rng.choice((market, "NONE"))
            )
        return params

    def deadline_us(self) -> int:
        return self.server_us() + self.rng.choice((-1, 20_000, 200_000, 2_000_000))

    def place(self, line: Line) -> None:
        params = self.order()
        if params is not None:
            self.send_order(line, params)

    def send_order(self, line: Line, params: wire.PlaceParams) -> None:
        if params.client_order_id:
            self.placed.append(params)
        self.ask(line, "place", params, self._placed)

    def _placed(self, result: wire.OrderResult | None, error: Error | None) -> None:
        if result is not None and result.status == "open":
            self.open[result.order_id] = (result.market, result.client_order_id)
            if len(self.open) > KNOWN_MAX:
                del self.open[next(iter(self.open))]

    def quote(self, line: Line) -> None:
        """Both sides at once, a step apart."""
        for side in ("buy", "sell"):
            params = self.order()
            if params is not None:
                self.send_order(line, replace(params, side=side))

    def some_order(self) -> tuple[int | None, str | None]:
        """An order to name, mostly an open one: by its id, or by the client's own."""
        rng = self.rng
        if not self.open or rng.random() < 0.03:
            return rng.choice(((rng.randrange(1, 1_000), None), (None, f"{self.name}-{rng.randrange(1, self._number + 2)}")))
        order_id = rng.choice([*self.open])
        client_order_id = self.open[order_id][1]
        if client_order_id and rng.random() < 0.5:
            return None, client_order_id
        return order_id, None

    def amend(self, line: Line) -> None:
        order_id, client_order_id = self.some_order()
        known = self.open.get(order_id or 0)
        market = known[0] if known else self.some_market()
        if market not in self.board.scales:
            return
        price = self.prices(market, "") if market in self.board.markets and self.rng.random() < 0.6 else None
        qty = self.qty(market) if market in self.board.markets and self.rng.random() < 0.6 else None
        deadline_us = self.deadline_us() if self.does("deadline", 0.1) else None
        self.ask(line, "amend", wire.AmendParams(order_id, client_order_id, price, qty, deadline_us), self._ended(order_id))

    def cancel(self, line: Line) -> None:
        order_id, client_order_id = self.some_order()
        deadline_us = self.deadline_us() if self.does("deadline", 0.1) else None
        self.ask(line, "cancel", wire.CancelParams(order_id, client_order_id, deadline_us), self._ended(order_id))

    def _ended(self, order_id: int | None) -> Callable[[Any, Error | None], None]:
        def then(result: Any, error: Error | None) -> None:
            if order_id is not None and (error is not None or isinstance(result, wire.CancelResult)):
                self.open.pop(order_id, None)

        return then

    def cancel_all(self, line: Line) -> None:
        market = self.rng.choice((None, self.some_market()))
        side: Any = self.rng.choice((None, None, "buy", "sell"))
        if self.does("wrong values", 0.1):
            market = "NONE"
        deadline_us = self.deadline_us() if self.does("deadline", 0.1) else None
        self.ask(line, "cancel_all", wire.CancelAllParams(market, side, deadline_us))

    def repeat(self, line: Line) -> None:
        """Send a command again that was sent before, answered or not; at times with other contents under its name."""
        if not self.placed:
            return
        params = self.rng.choice(self.placed)
        if self.rng.random() < 0.2 and params.market in self.board.markets:
            params = replace(params, qty=self.qty(params.market))
        self.ask(line, "place", params)

    # --------------------------------------------------------------------------------------------------------- the rest

    def question(self, line: Line) -> None:
        rng, market = self.rng, self.some_market()
        limit = rng.choice((1, 10, 1_000))
        order_id, client_order_id = self.some_order()
        method, params = rng.choice(
            (
                ("order", wire.OrderRef(order_id, client_order_id)),
                ("orders", wire.OrdersParams(rng.choice((None, market)), rng.choice(("open", "closed")), limit)),
                ("balances", None),
                ("positions", None),
                ("deliveries", wire.DeliveriesParams(rng.choice((None, market)), limit)),
                ("fills", wire.FillsParams(rng.choice((None, market)), limit)),
                ("book", wire.BookParams(market or "NONE", limit)),
                ("trades", wire.TradesParams(market or "NONE", limit)),
                ("markets", None),
                ("time", None),
                ("info", None),
                ("heartbeat", None),
                ("keys", wire.KeysParams()),
            )
        )
        self.ask(line, method, params)

    def feeds(self, line: Line) -> None:
        if line.channels and self.rng.random() < 0.3:
            line.unsubscribe(self.rng.choice(line.channels))
        elif self.board.markets or self.board.live:
            channels = dict.fromkeys(self.any_channel() for _ in range(self.rng.randrange(1, 4)))
            if self.does("wrong values", 0.1):
                self.ask(line, "subscribe", wire.SubscribeParams([*channels, "book.NONE"]))
            else:
                line.subscribe(*channels)

    def resync(self, line: Line) -> None:
        channel = self.rng.choice(line.channels) if line.channels else "status"
        self.ask(line, "resync", wire.ResyncParams(channel))

    def second_line(self, line: Line) -> None:
        if len(self.lines) < 2:
            self.add_line(self.key).connect()
        else:
            extra = self.lines.pop()
            extra.ended = True
            extra.leave("it was one too many", politely=self.rng.random() < 0.5)

    def log_out(self, line: Line) -> None:
        line.drop("account")
        line.ready = False

        def then(result: wire.LogoutResult | None, error: Error | None) -> None:
            if result is not None and line.protocol.hello is not None:
                line._greeted(replace(line.protocol.hello, challenge=result.challenge, ts_us=self.server_us()))
            elif line.link is not None:
                line.leave("the logout failed")

        self.ask(line, "logout", None, then)
        if not line.asked and line.link is not None:
            line.ready = True

    def leave(self, line: Line) -> None:
        line.leave("it wants to", politely=self.rng.random() < 0.5)

    def forget_to_read(self, line: Line) -> None:
        link = line.link
        if link is not None and link.reading:
            link.pause()
            line.cause("stalled")
            self.world.later(self.rng.choice((100, 1_000, 5_000, 40_000)) * MS_NS, link.resume)

    def withdraw(self, line: Line) -> None:
        self._number += 1
        amount = (
            self.rng.choice((1, 10, 1_000, 2**61 - 1, 2**61)) if self.does("wrong values", 0.3) else self.rng.randrange(1, 100)
        )
        deadline_us = self.deadline_us() if self.does("deadline", 0.1) else None
        params = wire.WithdrawParams(MONEY.format(amount), f"w-{self.name}-{self._number}", deadline_us)
        self.ask(line, "withdraw", params)
        if self.does("repeat", 0.2):
            self.ask(line, "withdraw", params)

    def destination(self, line: Line) -> None:
        url = "stratum+tcp://pool.example:3333" if not self.does("wrong values", 0.2) else "http://pool.example"
        market = self.some_market() or "NONE"
        self.ask(line, "set_destination", wire.SetDestinationParams(market, url, f"w{self.rng.randrange(3)}"))

    def account_message(self, message: wire.ChannelMessage) -> None:
        """Forget orders that are told to be over."""
        data = message.data
        if type(data).__name__ in ("BidEnded", "AskEnded"):
            self.live.open.pop(data.order_id, None)
            return
        gone = type(data).__name__ == "Canceled" or getattr(data, "remaining_qty", "1").strip("0.") == ""
        if gone:
            self.open.pop(data.order_id, None)
