"""Seeded streams of commands for live markets, beside a little of everything else.

A :class:`LiveStream` is a :class:`Stream` that mostly bids, offers, edits and reports. Prices and speeds are small, so that
ties are common and every crossing has a margin; each market that it lists draws its own rules.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from engine.commands import (
    AmendAsk,
    AmendBid,
    Cancel,
    Command,
    DeletePool,
    ListLive,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    SavePool,
    SetDestination,
    SetIndex,
    SetMarketState,
    Settle,
)
from engine.limits import DAY_NS, MONEY_MAX_MSAT, SECOND_NS, WORK_MAX_HASHES
from engine.types import FIRST_ACCOUNT, LiveSpec, MarketState, Peg, Pricing
from tests.reference.exchange import NaiveExchange
from tests.reference.live import NANO, Ask, Bid, Flow, LiveOrder
from tests.reference.stream import CLIENT_ORDER_IDS, HOSTILE, MILLISECOND_NS, SMALL, URLS, Stream

LIVE_SMALL = replace(
    SMALL,
    markets_max=6,
    client_order_ids_per_account_max=24,
    live_orders_per_account_max=10,
    live_orders_max=34,
    pegs_max=4,
    flows_max=32,
    flows_per_account_max=14,
    pools_per_account_max=2,
)

LIVE_SYMBOLS = ("SHA256-LIVE", "SCRYPT-LIVE", "X11-LIVE", "RANDOMX-LIVE")
WORKERS = ("rig", "ant")


class LiveStream(Stream):
    def __init__(self, exchange: NaiveExchange, seed: int) -> None:
        super().__init__(exchange, seed)
        dated: list[tuple[Callable[[], Command], int]] = [(maker, weight // 12 + 1) for maker, weight in self.makers]
        self.makers = [
            *dated,
            (self.place_bid, 190),
            (self.place_ask, 150),
            (self.amend_bid, 170),
            (self.amend_ask, 90),
            (self.refill_bid, 50),
            (self.report_flow, 220),
            (self.set_index, 30),
            (self.cancel, 40),
            (self.deposit, 60),
            (self.save_pool, 14),
            (self.delete_pool, 6),
            (self.list_live, 14),
            (self.set_live_state, 16),
            (self.wrong_kind, 6),
        ]

    def opening(self) -> Any:
        yield from super().opening()
        for account in range(FIRST_ACCOUNT, FIRST_ACCOUNT + 4):
            yield self.deposit_for(account)
        for symbol in LIVE_SYMBOLS[:3]:
            yield ListLive(self.live_spec(symbol))

    def deposit_for(self, account: int) -> Command:
        return replace(self.deposit(), account=account, amount=self.amount() + 1, transfer_id=f"live-{account}")

    def step(self, now: int) -> int:
        """Often no time at all, at times exactly to what falls due next, at times past it."""
        dice = self.rng.random()
        if dice < 0.45:
            return now
        if dice < 0.80:
            return now + self.rng.randrange(1, self.rng.choice((1_000, MILLISECOND_NS, 120 * MILLISECOND_NS)))
        # what is due in a year is left for a year
        due = [work[0] for work in self.exchange.live.all_work() if work[0] < now + 60 * SECOND_NS]
        if dice < 0.94 and due:
            return max(now, min(due) + self.rng.choice((-1, 0, 0, 1)))
        if dice < 0.95 and due:
            return max(now, min(self.rng.choice(due), now + 5 * SECOND_NS))
        if dice < 0.9995:
            return now + self.rng.randrange(SECOND_NS)
        return now + self.rng.randrange(100 * SECOND_NS)

    # --- Values ---------------------------------------------------------------------------------------------

    def live_spec(self, symbol: str) -> LiveSpec:
        rng = self.rng
        huge = self.rich and self.chance(30)
        budget_min = rng.choice((1, 1, 300, 4_000))
        price_min = rng.choice((1, 1, 3))
        return LiveSpec(
            symbol=symbol,
            algorithm="SHA256",
            speed_unit="PH/s",
            tick_size="0.00000001",
            lot_size="0.001",
            tick_lot_msat=10**12 if huge else rng.choice((1, 86_400, 10**6 - 7, 4 * 10**6, 10**7 + 3, 10**8, 10**9 + 9)),
            lot_hashrate=2**63 - 1 if huge else rng.choice((1, 7, 10**6, 10**9, 10**9 + 7)),
            price_max=2**40 if huge else price_min + rng.choice((6, 11, 30)),
            price_min=price_min,
            speed_max=2**40 if huge else rng.choice((12, 30)),
            speed_min=rng.choice((1, 1, 2)),
            budget_min=budget_min,
            pricing=rng.choice(tuple(Pricing)),
            buyer_fee_bps=rng.choice((0, 0, 300, 1_000)),
            seller_fee_bps=rng.choice((0, 200, 999)),
            placing_fee=rng.choice((0, 0, 1, budget_min)),
            decrease_interval_ns=rng.choice((0, 0, 150 * MILLISECOND_NS)),
            decrease_step=rng.choice((0, 0, 1, 3)),
            lock_ns=rng.choice((0, 0, 60 * MILLISECOND_NS)),
            life_ns=rng.choice((3 * SECOND_NS, 60 * SECOND_NS, 400 * DAY_NS)),
            slack_ns=rng.choice((0, 20 * MILLISECOND_NS, SECOND_NS, 60 * SECOND_NS)),
            grace_ns=rng.choice((SECOND_NS, SECOND_NS, 3 * SECOND_NS, 600 * SECOND_NS)),
            idle_ns=rng.choice((0, 0, 20 * MILLISECOND_NS, SECOND_NS)),
        )

    def broken_live(self, spec: LiveSpec) -> LiveSpec:
        """The specification with one or two fields at or past a bound."""
        longest = 400 * DAY_NS
        changes: dict[str, Any] = {}
        for _ in range(self.rng.randrange(1, 3)):
            name, values = self.rng.choice(
                [
                    ("symbol", ("", "live", "S" * 49, "A B")),
                    ("kind", ("dated", "")),
                    ("algorithm", ("", "A" * 24, "A" * 25, "É")),
                    ("speed_unit", ("", "H/s")),
                    ("tick_size", ("", "0", "1e-8", "0." + "1" * 23)),
                    ("lot_size", ("", "0.0", ".5", "5.", "1")),
                    ("tick_lot_msat", (0, 10**12 + 1, -1)),
                    ("lot_hashrate", (0, 2**63)),
                    ("price_max", (0, spec.price_min, spec.price_min - 1, 2**40 + 1)),
                    ("price_min", (0, spec.price_max, spec.price_max + 1)),
                    ("speed_max", (0, spec.speed_min, spec.speed_min - 1, 2**40 + 1)),
                    ("speed_min", (0, spec.speed_max, spec.speed_max + 1)),
                    ("budget_min", (0, -1, MONEY_MAX_MSAT + 1)),
                    ("buyer_fee_bps", (-1, 1_001)),
                    ("seller_fee_bps", (-1, 1_001)),
                    ("placing_fee", (-1, spec.budget_min + 1)),
                    ("decrease_interval_ns", (-1, longest, longest + 1)),
                    ("decrease_step", (-1, spec.price_max, spec.price_max + 1)),
                    ("lock_ns", (-1, longest + 1)),
                    ("slack_ns", (-1, longest, longest + 1)),
                    ("grace_ns", (0, SECOND_NS - 1, longest, longest + 1)),
                    ("idle_ns", (-1, longest + 1)),
                    ("life_ns", (0, longest + 1)),
                ]
            )
            changes[name] = self.rng.choice(values)
        return replace(spec, **changes)

    def live_symbol(self) -> str:
        markets = self.exchange.live.markets
        trading = [symbol for symbol, market in markets.items() if market.state == MarketState.OPEN]
        if trading and self.chance(97):
            return self.rng.choice(trading)
        if markets and self.chance(80):
            return self.rng.choice(list(markets))
        return self.symbol()

    def live_price(self, symbol: str) -> int:
        market = self.exchange.live.markets.get(symbol)
        if market is None or self.chance(1):
            return self.rng.choice((*HOSTILE, 5))
        spec = market.spec
        if self.chance(3):
            return self.rng.choice((spec.price_min, spec.price_max)) + self.rng.randrange(-1, 2)
        if spec.price_max > 100:
            return self.rng.choice((spec.price_max, spec.price_max - 1, self.rng.randrange(1, spec.price_max)))
        return self.rng.randrange(spec.price_min, min(spec.price_max, spec.price_min + 8) + 1)

    def lots(self, symbol: str) -> int:
        market = self.exchange.live.markets.get(symbol)
        if self.chance(1):
            return self.rng.choice(HOSTILE)
        if market and self.chance(3):
            return self.rng.choice((market.spec.speed_min, market.spec.speed_max)) + self.rng.randrange(-1, 2)
        if market and market.spec.speed_max > 100 and self.chance(50):
            return self.rng.randrange(1, market.spec.speed_max)
        return self.rng.randrange(2, 9)

    def budget(self, account: int, symbol: str) -> int:
        market = self.exchange.live.markets.get(symbol)
        if self.chance(2):
            return self.rng.choice((*HOSTILE, MONEY_MAX_MSAT, MONEY_MAX_MSAT + 1))
        if market and self.chance(12):
            return market.spec.budget_min + self.rng.choice((-1, 0, 0, 1))
        if account in self.exchange.accounts and self.chance(10):
            fee = market.spec.placing_fee if market else 0
            return self.exchange.available(account) - self.rng.choice((0, fee)) + self.rng.choice((-1, 0, 1))
        return self.amount() // self.rng.choice((2, 8, 30)) + 1

    def pool(self) -> tuple[str, str]:
        if self.chance(98):
            return self.rng.choice(URLS[:2]), self.rng.choice(WORKERS)
        return self.rng.choice(URLS), self.rng.choice(("", "a b", "w" * 129, "rig"))

    def live_order(self, kind: type[LiveOrder]) -> LiveOrder | None:
        orders = [order for order in self.exchange.live.orders() if isinstance(order, kind)]
        return self.rng.choice(orders) if orders else None

    def live_named(self, order: LiveOrder | None) -> tuple[int, int, str]:
        """Account, order id and client order id of an order, mostly one's own."""
        if order is None or self.chance(2):
            return self.named()
        account = order.account if self.chance(98) else self.account()
        if order.client_order_id and self.chance(50):
            return account, 0, order.client_order_id
        return account, order.order_id, "" if self.chance(90) else self.rng.choice(CLIENT_ORDER_IDS)

    def named(self) -> tuple[int, int, str]:
        order = self.live_order(Bid if self.chance(50) else Ask)
        if order is None or self.chance(30):
            return super().named()
        return self.live_named(order)

    def client_id(self) -> str:
        return self.rng.choice(CLIENT_ORDER_IDS) if self.chance(25) else ""

    # --- Commands -------------------------------------------------------------------------------------------

    def place_bid(self) -> PlaceBid:
        rng = self.rng
        account, symbol = self.account(), self.live_symbol()
        market = self.exchange.live.markets.get(symbol)
        price = self.live_price(symbol)
        peg = rng.choice(tuple(Peg)) if self.chance(45) else Peg.NONE
        offset = lowest = expires = 0
        if peg != Peg.NONE or self.chance(1):
            offset = rng.choice((0, 1, 1, 2, -1, -2))
            lowest = rng.choice((0, 0, max(0, price - rng.randrange(5))))
            if market and self.chance(3):
                offset = rng.choice((1, -1)) * (market.spec.price_max + rng.choice((0, 1)))
                lowest = rng.choice((-1, price, price + 1, market.spec.price_min - 1))
        if market and self.chance(12):
            expires = self.now + rng.randrange(1, 3 * SECOND_NS)
            if self.chance(10):
                life = market.spec.life_ns
                expires = rng.choice((self.now, self.now + 1, self.now + life, self.now + life + 1, *HOSTILE))
        return PlaceBid(
            account,
            symbol,
            price,
            0 if self.chance(20) else self.lots(symbol),
            self.budget(account, symbol),
            *self.pool(),
            peg,
            offset,
            lowest,
            expires,
            self.client_id(),
        )

    def place_ask(self) -> Command:
        """Asks outlive bids; of both there are to be about as many."""
        live = self.exchange.live
        if len(live.asks) > len(live.bids) + 2 and self.chance(90):
            return Cancel(*self.live_named(self.live_order(Ask))) if self.chance(20) else self.place_bid()
        symbol = self.live_symbol()
        expires = 0
        if self.chance(20):
            expires = self.now + self.rng.randrange(1, 3 * SECOND_NS)
            if self.chance(10):
                limit = self.exchange.limits.expiry_max_ns
                expires = self.rng.choice((self.now, self.now + 1, self.now + limit, self.now + limit + 1, *HOSTILE))
        return PlaceAsk(self.account(), symbol, self.live_price(symbol), self.lots(symbol), expires, self.client_id())

    def amend_bid(self) -> AmendBid:
        rng = self.rng
        bid = self.live_order(Bid)
        account, order_id, client_order_id = self.live_named(bid)
        price, limit, url, worker = 0, -1, "", ""
        kind = rng.randrange(10)
        if isinstance(bid, Bid):
            if kind in (0, 1, 2, 3):
                price = bid.cap + rng.choice((1, 1, 2, 3, -1, -1, -2, -3, -4, 0))
            if kind in (3, 4, 5, 6):
                limit = rng.choice((bid.limit, bid.limit + 1, bid.limit + 3, bid.limit - 1, bid.limit - 2, 0, 0))
            if kind == 7:
                price, limit = self.live_price(bid.market), self.lots(bid.market)
        if kind == 8 or self.chance(5):
            url, worker = self.pool()
        if kind == 9 and self.chance(50):
            price, limit = rng.choice((*HOSTILE, 0)), rng.choice((*HOSTILE, -1, -2))
        return AmendBid(account, order_id, client_order_id, price, limit, url, worker)

    def amend_ask(self) -> AmendAsk:
        ask = self.live_order(Ask)
        account, order_id, client_order_id = self.live_named(ask)
        price = speed = 0
        kind = self.rng.randrange(8)
        if isinstance(ask, Ask):
            if kind in (0, 1, 2):
                price = ask.price + self.rng.choice((1, 1, 2, 3, -1, -1, -2, -3, 0))
            if kind in (2, 3, 4, 5):
                speed = ask.speed + self.rng.choice((1, 2, 4, -1, -2, -3, -4, 0))
            if kind == 6:
                price, speed = self.live_price(ask.market), self.lots(ask.market)
        if kind == 7 and self.chance(30):
            price, speed = self.rng.choice((*HOSTILE, 0)), self.rng.choice((*HOSTILE, 0))
        return AmendAsk(account, order_id, client_order_id, price, speed)

    def refill_bid(self) -> RefillBid:
        bids = [bid for bid in self.exchange.live.bids if bid.stopped or self.chance(40)]
        bid = self.rng.choice(bids) if bids else self.live_order(Bid)
        account, order_id, client_order_id = self.live_named(bid)
        amount = self.budget(account, bid.market if bid else "")
        refill_id = f"r-{self.rng.randrange(5)}" if self.chance(40) else self.transfer_id()
        return RefillBid(account, order_id, client_order_id, amount, refill_id)

    def report_flow(self) -> ReportFlow:
        rng = self.rng
        flows = self.exchange.live.flows
        if not flows or self.chance(2):
            made = self.exchange.live.flows_made
            hashes = rng.choice((0, 5, -1, WORK_MAX_HASHES + 1))
            return ReportFlow(rng.choice((*HOSTILE, 0, made, made + 1, rng.randrange(made + 1))), hashes, self.chance(50))
        ended = [flow for flow in flows if not flow.running]
        flow = rng.choice(ended) if ended and self.chance(40) else rng.choice(flows)
        allowed = self.allowed(flow)
        hashes = flow.paid_hashes + allowed
        dice = rng.randrange(12)
        if dice < 3:
            hashes -= rng.randrange(allowed + 1)
        elif dice < 5:
            hashes += rng.choice((1, allowed, rng.randrange(allowed + 3)))
        elif dice < 8:
            hashes = flow.hashes
        hashes = max(hashes, flow.hashes)
        if self.chance(3):
            hashes = rng.choice((-1, flow.hashes - 1, WORK_MAX_HASHES, WORK_MAX_HASHES + 1, hashes * 2))
        if hashes == WORK_MAX_HASHES and self.chance(70):
            hashes = flow.hashes + 1  # what was reported so much has nothing new to report
        return ReportFlow(flow.flow_id, hashes, self.chance(50) if not flow.running else self.chance(8))

    def allowed(self, flow: Flow) -> int:
        """Whole hashes of the flow's allowance at the time of the command."""
        live = self.exchange.live
        lot_hashrate = live.markets[flow.market].spec.lot_hashrate
        return (flow.allowance + lot_hashrate * flow.speed * (self.now - live.accrued_ns)) // NANO

    def set_index(self) -> SetIndex:
        symbol = self.live_symbol()
        return SetIndex(symbol, self.rng.choice((0, *HOSTILE)) if self.chance(10) else self.live_price(symbol))

    def save_pool(self) -> SavePool:
        pools = list(self.exchange.live.pools)
        account, pool_id = self.account(), 0
        if pools and self.chance(40):
            account, pool_id = self.rng.choice(pools)
        if self.chance(5):
            pool_id = self.rng.choice(HOSTILE)
        texts = ["mine", "SHA256", "x"]
        if self.chance(12):
            texts[self.rng.randrange(3)] = self.rng.choice(("", "a\nb", "n" * 64, "n" * 65, " é "))
        name, algorithm, password = texts
        return SavePool(account, pool_id, name, algorithm, *self.pool(), password)

    def delete_pool(self) -> DeletePool:
        pools = list(self.exchange.live.pools)
        if pools and self.chance(85):
            account, pool_id = self.rng.choice(pools)
            return DeletePool(account if self.chance(95) else self.account(), pool_id)
        return DeletePool(self.account(), self.rng.choice((*HOSTILE, 1)))

    def list_live(self) -> Command:
        absent = [symbol for symbol in LIVE_SYMBOLS if symbol not in self.exchange.live.markets]
        if len(absent) == 1 and self.chance(80):
            return self.place_bid()
        symbol = self.rng.choice(absent if absent and self.chance(85) else (*LIVE_SYMBOLS, *self.exchange.markets))
        spec = self.live_spec(symbol)
        return ListLive(self.broken_live(spec) if self.chance(25) else spec)

    def set_live_state(self) -> SetMarketState:
        """Mostly back to OPEN."""
        shut = [s for s, m in self.exchange.live.markets.items() if m.state in (MarketState.CANCEL_ONLY, MarketState.HALTED)]
        if shut and self.chance(85):
            return SetMarketState(self.rng.choice(shut), MarketState.OPEN)
        states = (1, 2, 3, 4, 4, 5) if self.chance(35) else (1, 2, 3)
        return SetMarketState(self.live_symbol(), MarketState(self.rng.choice(states)))

    def wrong_kind(self) -> Command:
        """A command for markets of the other kind."""
        symbol, account = self.live_symbol(), self.account()
        match self.rng.randrange(6):
            case 0:
                return replace(self.place(), market=symbol)
            case 1:
                return SetDestination(account, symbol, URLS[0], "rig")
            case 2:
                return Settle(symbol, self.rng.choice((0, -1)))
            case 3:
                return replace(self.place_bid(), market=self.symbol())
            case 4:
                return PlaceAsk(account, self.symbol(), 5, 5)
            case _:
                return SetIndex(self.symbol(), self.rng.choice((5, -1)))
