"""One run: a seed's world put together, let go for so many steps, brought to rest, and looked at."""

import asyncio
import random
import traceback
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

import structlog

from engine.accounts import Account
from engine.core import Engine
from engine.invariants import check, money
from engine.markets.live import NO_LIMIT, Ask, Bid, LiveMarket
from engine.snapshot import state_hash
from gateway import auth
from gateway.auth import StoredKey
from hashpit.keys import Key
from hashpit.protocol import ACCOUNT
from tests.simulation.clients import Board, Bot, Client, Reader
from tests.simulation.coverage import Coverage
from tests.simulation.disk import SimulatedJournal, let_go
from tests.simulation.network import Network
from tests.simulation.operator import Operator
from tests.simulation.server import Host
from tests.simulation.swarm import Plan
from tests.simulation.vandal import Vandal
from tests.simulation.world import SECOND_NS, Finding, World

REST_STEPS_MAX: Final = 60_000
"""Steps that a world may take to come to rest."""
REST_NS: Final = 5 * SECOND_NS
"""And how long it stays so, with nothing on its way any more."""
EXPECTED_ERRORS: Final = ("key files", "keys not reloaded")
"""What the server's log may call an error when the disk is at fault."""


class NoAuditor:
    """Stands where the auditor goes."""

    def __init__(self) -> None:
        self.findings: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class _Secrets:
    """The module ``secrets``, from a seed."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def token_bytes(self, count: int) -> bytes:
        return self._rng.randbytes(count)

    def token_hex(self, count: int) -> str:
        return self._rng.randbytes(count).hex()


class Simulation:
    """A world of one seed. ``run`` it once; ``finding`` says what went wrong, empty when nothing did."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.finding = ""
        self.details = ""
        """The traceback behind the finding, if there is one."""
        self.coverage = Coverage()
        self.plan = plan = Plan(seed)
        self.world = world = World(seed, trace)
        self.network = Network(world, plan, self.coverage)
        self.host = Host(world, plan, self.network, self.coverage)
        self.auditor: Any = make_auditor(plan)
        self.host.on_crash = lambda: self.auditor.crashed(world.now_ns)
        self.host.on_recovered = lambda: self.auditor.recovered(world.now_ns)
        self.host.cause = lambda kind: self.auditor.cause(None, kind, world.now_ns)
        self.network.cause = self.auditor.cause
        if plan.config.server.anonymous_per_ip_max < 64:
            self.host.cause("crowded")
        if min(plan.queue_max, plan.reads_max) < 100:
            self.host.cause("overloaded")
        board = Board()

        def make(kind: Callable[..., Any], name: str) -> Any:
            return kind(name, world, plan, self.network, self.coverage, self.auditor, board)

        self.operator: Operator = make(Operator, "operator")
        self.bots: list[Bot] = [make(Bot, f"bot-{number}") for number in range(plan.bots)]
        self.others: list[Client] = [make(Reader, f"reader-{number}") for number in range(plan.readers)]
        self.others += [make(Vandal, f"vandal-{number}") for number in range(plan.vandals)]

    @property
    def hash(self) -> str:
        return self.world.hash()

    def run(self, steps: int) -> bool:
        """Let so many steps happen and bring the world to rest; whether nothing was found."""
        structlog.configure(
            processors=[self._logged],
            wrapper_class=structlog.make_filtering_bound_logger(40),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        before = asyncio._get_running_loop()
        try:
            with patch.object(auth, "secrets", _Secrets(self.world.random("secrets"))):
                self._begin()
                while self.world.steps < steps:
                    self.world.step()
                    if self.auditor.findings:
                        raise Finding(self.auditor.findings[0])
                self._rest()
                self._judge()
        except Finding as finding:
            self._found(str(finding))
        except Exception as error:
            self._found(f"{type(error).__name__}: {error}")
        finally:
            asyncio._set_running_loop(before)
            structlog.reset_defaults()
            for engine in self.host.disk.engines:
                let_go(engine)
        return not self.finding

    def _found(self, text: str) -> None:
        self.finding = " ".join(text.split())
        self.details = traceback.format_exc()

    def _logged(self, _logger: Any, _method: str, event: Any) -> Any:
        """An error in the server's log is a finding, unless the disk explains it."""
        if event["event"] not in EXPECTED_ERRORS:
            problem = event.get("problem", "")
            self._problem = f"the server logs: {event['event']} {problem}"
            raise Finding(self._problem)
        raise structlog.DropEvent

    def _begin(self) -> None:
        secret = self.world.random("operator's key").randbytes(32).hex()
        key = StoredKey("k-operator", 1, "hmac", ("read", "meter", "admin"), sealed_secret=secret)
        self.host.disk.keys = [key]
        self.host.start()
        self.operator.begin(Key(key.key, "hmac", "", secret), self.bots)
        for client in self.others:
            client.add_line(None)
            client.start()
        self.network.start_faults()
        self.host.start_faults()

    def _rest(self) -> None:
        """No more faults, nothing new: everybody finds out what is unsure, and is told what is still to be told."""
        self.plan.calm_down()
        self.network.calm_down()
        self.host.disk.full = self.host.disk.broken = False
        clients = [self.operator, *self.bots, *self.others]
        for client in clients:
            client.settle_down()
        end = self.world.steps + REST_STEPS_MAX
        self._step_until(lambda: self._is_at_rest(clients), end)
        for bot in self.bots:
            bot.hear_everything(self.host.disk.epoch)
        while True:
            self._step_until(lambda: self._is_at_rest(clients), end)
            assert self.host.process is not None
            seq, until_ns = self.host.process.engine.seq, self.world.now_ns + 2 * self.plan.tick_ns + REST_NS
            self._step_until(lambda until_ns=until_ns: self.world.now_ns >= until_ns and self._is_at_rest(clients), end)  # type: ignore[misc]
            if self.host.process.engine.seq == seq:
                return

    def _step_until(self, done: Callable[[], bool], end: int) -> None:
        while not done():
            if self.world.steps > end:
                clients = [self.operator, *self.bots, *self.others]
                busy = [f"{client.name} ({client.trouble()})" for client in clients if not client.at_rest]
                raise Finding(f"the world does not come to rest: {', '.join(busy) or 'the server'}")
            self.world.step()

    def _is_at_rest(self, clients: list[Client]) -> bool:
        process = self.host.process
        if process is None or not process.is_quiet or not all(client.at_rest for client in clients):
            return False
        return all(
            line.protocol.last_seq(ACCOUNT) == process.engine.accounts[bot.account].event_seq
            for bot in self.bots
            for line in bot.lines
            if line.ready and ACCOUNT in line.channels
        )

    def _judge(self) -> None:
        """The end: invariants, a replay of everything, and what the auditor has to say."""
        process = self.host.process
        assert process is not None
        check(process.engine)
        replayed = Engine(self.plan.limits)
        self.host.disk.engines.append(replayed)
        for entry in SimulatedJournal(self.host.disk).entries():
            replayed.apply(entry)
        final = state_hash(process.engine)
        if state_hash(replayed) != final:
            raise Finding("a replay of the whole journal gives another state")
        self.world.digest(final)
        if not isinstance(self.auditor, NoAuditor):
            self.auditor.at_rest(truth(self.host, process.engine), self.world.now_ns)
        if self.auditor.findings:
            raise Finding(self.auditor.findings[0])


def truth(host: Host, engine: Engine) -> Any:
    """The true end of a run, as plain data for the auditor."""
    from tests.simulation.auditor import EndAccount, EndOrder, View

    def end(account: Account) -> EndAccount:
        orders = {
            order.order_id: EndOrder(
                client_order_id=order.client_order_id,
                market=order.market,
                side="buy" if order.is_buy else "sell",
                price=order.price,
                qty=order.qty,
                filled=order.filled,
                remaining=order.remaining,
            )
            for order in account.orders.values()
        }
        positions = {symbol: (held.qty, held.basis, held.bond) for symbol, held in account.positions.items()}
        live = {order_id: live_order(order) for order_id, order in account.live.items()}
        return EndAccount(account.balance, account.held, account.event_seq, orders, positions, live)

    return View(
        accounts={number: end(account) for number, account in engine.accounts.items()},
        levels={
            symbol: (market.book.bids_best_first(), market.book.asks_best_first()) for symbol, market in engine.markets.items()
        },
        deliveries_msat=money(engine).deliveries,
        deposited_msat=engine.deposited,
        ts_us=engine.ts_ns // 1_000,
        book=lambda market, seq: host.books.get((market, seq)),
        live={symbol: live_levels(market) for symbol, market in engine.live.markets.items()},
    )


def live_order(order: Any) -> dict[str, Any]:
    """A bid or ask as its view shows it, in numbers."""
    shown = {name: getattr(order, name) for name in ("order_id", "client_order_id", "market", "price", "assigned")}
    if isinstance(order, Ask):
        return shown | {"speed": order.remaining}
    size = None if order.remaining == NO_LIMIT else order.remaining
    shown |= {"status": "stopped" if order.stopped else "open", "cap": order.cap, "limit": size, "budget": order.budget}
    return shown | {"spent": order.spent, "left": order.escrow, "url": order.url, "worker": order.worker}


def live_levels(market: LiveMarket) -> tuple[dict[int, Any], dict[int, Any]]:
    """Both sides of a live market: price to limit or speed, null for none, and what is assigned."""
    sides: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
    for order in market.orders.values():
        if isinstance(order, Bid) and order.stopped:
            continue
        side = sides[0 if isinstance(order, Bid) else 1]
        size, assigned = side.get(order.price, (0, 0))
        unlimited = size is None or order.remaining == NO_LIMIT
        side[order.price] = (None if unlimited else size + order.remaining, assigned + order.assigned)
    return sides


def make_auditor(plan: Plan) -> Any:
    """The auditor, with what it may know of the server's bounds."""
    try:
        from tests.simulation.auditor import Auditor, Setup
    except ImportError:
        return NoAuditor()
    rates, session = plan.config.rates, plan.config.session
    return Auditor(
        Setup(
            orders=(rates.orders.per_second, rates.orders.burst),
            cancels=(rates.cancels.per_second, rates.cancels.burst),
            requests=(rates.requests.per_second, rates.requests.burst),
            ip=(rates.ip.per_second, rates.ip.burst),
            events_kept=plan.fact_limits.account_max,
            events_kept_all=plan.fact_limits.all_max,
            heartbeat_ms=session.heartbeat_ms,
            idle_ms=session.idle_ms,
            login_ms=session.login_ms,
            subscriptions_max=session.subscriptions_max,
            snapshots=bool(plan.snapshot_ns),
            client_order_id_ns=plan.limits.client_order_id_ns,
            client_order_ids_max=plan.limits.client_order_ids_per_account_max,
        )
    )
