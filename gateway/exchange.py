"""What all sessions of one server share: the engine and what stands around it, the keys, the budgets, and one another.

    exchange = Exchange(engine, config, keys, feeds, epoch, version)
    sequencer = Sequencer(engine, journal, clock, exchange.publish, on_batch, on_failure)
    feeds.start(engine, sequencer)
    exchange.start(sequencer)

Sans-IO: time is a parameter.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final, Protocol

from engine.commands import Command, Entry, ListLive, ListMarket
from engine.core import Engine
from engine.events import Event, LiveListed, MarketListed
from engine.types import LiveSpec, MarketSpec
from gateway import log
from gateway.auth import Key, KeyStore, KeyStoreError, address_group, new_challenge
from gateway.channels.base import Terms
from gateway.config import Config
from gateway.feeds import Feeds
from gateway.history import History
from gateway.ratelimit import Limiter
from gateway.wire import Close

TERMS_MAX: Final = 16_384
"""Markets whose number formats are remembered, those that are settled included; four times what may be listed."""
KEYS_CHECK_NS: Final = 1_000_000_000
"""How often the key file is looked at for changes made by another process."""


class Taking(Enum):
    """Which commands are taken. Reads and feeds go on until the sockets close."""

    ALL = "all"
    CANCELS = "cancels"
    """The exchange is about to stop: who wants no orders in the book meanwhile can still cancel them."""
    NONE = "none"


class Sequencer(Protocol):
    """What sessions need of the sequencer. Both methods raise ``gateway.sequencer``'s Overloaded and Stopped."""

    def submit(
        self, command: Command, deadline_ns: int = 0, done: Callable[[Entry, list[Event]], None] | None = None
    ) -> None: ...
    def after_durable(self, fn: Callable[[], None]) -> None: ...


class Client(Protocol):
    """What the exchange does to a session."""

    key: Key | None

    def tick(self, now_ns: int) -> None: ...
    def clock_set(self, now_ns: int) -> None: ...
    def close(self, code: int, reason: str) -> None: ...


class Exchange:
    """The shared half of every session."""

    def __init__(
        self,
        engine: Engine,
        config: Config,
        keys: KeyStore,
        feeds: Feeds,
        epoch: str,
        version: str,
        *,
        history: History | None = None,
        limiter: Limiter | None = None,
        new_challenge: Callable[[], str] = new_challenge,
    ) -> None:
        """``engine`` is recovered, and everything in it durable. ``history`` may hold what recovery replayed."""
        self.engine = engine
        self.config = config
        self.keys = keys
        self.feeds = feeds
        self.epoch = epoch
        self.version = version
        self.history = history if history is not None else History()
        self.limiter = limiter if limiter is not None else Limiter(config.rates)
        self.new_challenge = new_challenge
        self.sequencer: Sequencer
        self.taking = Taking.ALL
        self.sessions: dict[Client, None] = {}
        """Every open session."""
        self._terms: dict[str, Terms] = {}
        self._keys_check_ns = 0
        self._keys_problem = ""
        self._log = log.get("exchange")

        keys.on_revoked = self._key_revoked
        self.history.start(engine)
        for symbol in [*engine.markets, *engine.live.markets]:
            self.terms(symbol)

    def start(self, sequencer: Sequencer) -> None:
        """Say where commands go; before this no session may open."""
        self.sequencer = sequencer

    def publish(self, entry: Entry, events: list[Event]) -> None:
        """An entry is durable: the projections learn of it. The sequencer's ``on_durable``."""
        kind = type(entry.command)
        if kind is ListMarket or kind is ListLive:
            # Known from now on, even if it is gone when somebody asks, or already: the engine is ahead of what is durable.
            for event in events:
                if isinstance(event, MarketListed | LiveListed) and self.terms(event.spec.symbol) is None:
                    self._learn(event.spec.symbol, event.spec)
        self.history.publish(events)
        self.feeds.publish(entry, events)

    @property
    def has_traders(self) -> bool:
        """Whether any open session is logged in."""
        return any(session.key is not None for session in self.sessions)

    def tick(self, now_ns: int) -> None:
        """Heartbeats, deadlines and idle sockets; and the key file, if another process changed it."""
        for session in [*self.sessions]:
            session.tick(now_ns)
        if now_ns >= self._keys_check_ns:
            self._keys_check_ns = now_ns + KEYS_CHECK_NS
            self._reload_keys()

    def clock_set(self, now_ns: int) -> None:
        """Somebody set the system's clock, forward or back: what is measured with it starts over."""
        self._keys_check_ns = now_ns
        for session in [*self.sessions]:
            session.clock_set(now_ns)

    def admit(self, ip: str) -> bool:
        """Whether one more socket from ``ip`` may open. Those that are not logged in are counted, by their sessions."""
        budget = self.limiter.addresses.peek(address_group(ip))
        if budget is not None and budget.anonymous >= self.config.server.anonymous_per_ip_max:
            self._log.warning("socket refused: too many that are not logged in", ip=ip)
            return False
        return True

    def terms(self, market: str) -> Terms | None:
        """A market's specification and number formats; None for one that never was (or was settled long ago)."""
        known = self._terms.get(market)
        listed = self.engine.markets.get(market)
        if listed is not None:
            return known if known is not None and known.spec is listed.spec else self._learn(market, listed.spec)
        live = self.engine.live.markets.get(market)
        if live is not None:
            return known if known is not None and known.spec is live.spec else self._learn(market, live.spec)
        return known

    def _learn(self, market: str, spec: MarketSpec | LiveSpec) -> Terms:
        if len(self._terms) >= TERMS_MAX:
            listed, live = self.engine.markets, self.engine.live.markets
            settled = next(symbol for symbol in self._terms if symbol not in listed and symbol not in live)
            del self._terms[settled]
        terms = self._terms[market] = Terms(spec)
        return terms

    def _reload_keys(self) -> None:
        try:
            self.keys.reload()
            self._keys_problem = ""
        except KeyStoreError as problem:
            # The keys that are known stay in force; said once, not every second.
            if str(problem) != self._keys_problem:
                self._keys_problem = str(problem)
                self._log.error("keys not reloaded", problem=self._keys_problem)

    def _key_revoked(self, key: Key) -> None:
        self._log.info("key revoked", key=key.key_id, account=key.account)
        for session in [*self.sessions]:
            if session.key is key:
                session.close(Close.KEY_REVOKED, "the key was revoked")
