"""What a seed draws: which features and faults are on, how long things take, and how narrow the limits are.

Swarm testing: a world with everything on is a dull one, because everything hides everything else. So each seed turns most
things off and the others up, and shrinks some limits until they are met all the time.
"""

import random
from typing import Final

from msgspec.structs import replace

from engine.limits import MONEY_MAX_MSAT, SECOND_NS, Limits
from gateway.channels.account import FactLimits
from gateway.config import Bucket, Config, Listing, RateConfig, ServerConfig, SessionConfig, TermsConfig
from gateway.ratelimit import IP_LOGINS, KEY_FAILURES
from tests.simulation.world import MS_NS

NETWORK_FAULTS: Final = ("cut", "half-open", "deaf", "mute", "slow")
ROTS: Final = (
    "row changed",
    "row lost",
    "rows swapped",
    "snapshot changed",
    "snapshot of another journal",
    "snapshot of another past",
)
SERVER_FAULTS: Final = ("crash", "stop", "disk full", "disk I/O error", "clock back", "clock forward")
HABITS: Final = (
    "quote",
    "take",
    "amend",
    "cancel",
    "cancel all",
    "market order",
    "fill or kill",
    "expiring",
    "post-only",
    "reduce-only",
    "self-trade prevention",
    "deadline",
    "wrong values",
    "repeat",
    "ask",
    "feeds",
    "resync",
    "log in twice",
    "log out",
    "leave",
    "forget to read",
    "lose a message",
    "withdraw",
    "destination",
    "idle",
)
"""What bots do beyond placing orders; see clients.py."""
OPERATOR_HABITS: Final = (
    "states",
    "deliveries",
    "transfers",
    "cancel for others",
    "keys",
    "wrong values",
    "huge amounts",
    "accounts",
)
REST_RETRY_NS: Final = 60_000 * MS_NS
"""How long a bot waits for an answer while the world comes to rest."""


class Plan:
    """One seed's draws. Everything else of a run follows from these and from the seed's random streams."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(f"{seed}:plan")
        self.faulty = True
        """False at the end of a run, when everything has to come to rest."""
        self.calm = rng.random() < 0.1
        """No faults at all: what goes wrong then is plainly a bug."""

        self.bots = rng.choice((1, 2, 2, 2, 3, 3, 4, 6, 10))
        self.readers = rng.choice((0, 0, 1, 2))
        self.vandals = rng.choice((0, 0, 0, 1))
        self.habits = self._some(rng, HABITS, rng.choice((0.2, 0.5, 0.8)))
        self.operator_habits = self._some(rng, OPERATOR_HABITS, rng.choice((0.2, 0.5, 0.8)))
        self.pace_ns = rng.choice((2, 20, 100, 100, 400, 400, 1_500)) * MS_NS
        """The mean time between a bot's turns."""
        self.burst = rng.choice((1, 1, 3, 10))
        """Calls that a turn may make at once."""
        self.grid_ns = rng.choice((1, 1, MS_NS, 10 * MS_NS, 100 * MS_NS))
        """Times are whole multiples of this: the wider, the more things happen at one instant."""
        self.spread_ticks = rng.choice((1, 3, 8, 40))
        self.qty_max = rng.choice((1, 3, 10, 100))
        self.money_msat = rng.choice((0, 300, 5_000, 100_000, 10**9, 10**9, 10**12, MONEY_MAX_MSAT // 20))
        self.markets = rng.choice((1, 1, 2, 4))
        self.msgpack = rng.choice((0.0, 0.3, 1.0))
        self.ed25519 = rng.choice((0.0, 0.0, 0.0, 0.5))
        self.patience_ns = rng.choice((500, 2_000, 5_000)) * MS_NS

        self.network_faults = () if self.calm else tuple(self._some(rng, NETWORK_FAULTS, rng.choice((0.0, 0.3, 0.6))))
        self.network_fault_ns = rng.choice((1, 5, 20)) * SECOND_NS
        self.delay_ns = rng.choice((0, 1, 5, 50, 300)) * MS_NS
        self.retry_ns = self.patience_ns + 6 * self.delay_ns
        """How long a bot waits for an answer."""
        self.fragments = rng.random() < 0.3
        self.window_bytes = rng.choice((300, 5_000, 100_000, 10**9))
        self.byte_weight = rng.choice((1, 1, 300, 5_000))
        """What one unsent byte counts for the server, so that its bounds are met by small worlds too."""

        self.server_faults = () if self.calm else tuple(self._some(rng, SERVER_FAULTS, rng.choice((0.0, 0.4, 0.8))))
        self.server_fault_ns = rng.choice((3, 10, 40)) * SECOND_NS
        self.rots = tuple(self._some(rng, ROTS, 0.5)) if not self.calm and rng.random() < 0.6 else ()
        self.commit_ns = rng.choice((0, 1, 5, 50, 400)) * MS_NS
        self.commits = rng.choice(("thread", "loop", "both"))
        """Where commits run: what the sequencer decides by the speed of the disk."""
        self.snapshot_ns = rng.choice((0, 2, 10, 60)) * SECOND_NS
        """How often a snapshot is made; 0 for never."""
        self.snapshots_kept = rng.choice((1, 2, 3))
        self.tick_ns = rng.choice((100, 500, 1_000, 2_000)) * MS_NS
        self.naps = self.tick_ns >= SECOND_NS // 2 and rng.random() < 0.7
        """Whether everybody sleeps through a minute now and then, so that periods begin and end."""
        self.downtime_ns = rng.choice((50, 1_000, 10_000)) * MS_NS
        self._fault_odds = {name: rng.random() < 0.5 and not self.calm for name in ("slow commit", "power cut")}

        self.check_every = rng.choice((1, 10, 50, 200))
        """Entries between two looks at all invariants of the engine."""
        self.oracle = rng.random() < 0.5
        """Whether the naive exchange follows."""

        self.limits = self._limits(rng)
        self.config = self._config(rng)
        self._gateway(rng)
        self._live(rng)

    @staticmethod
    def _some(rng: random.Random, names: tuple[str, ...], share: float) -> list[str]:
        return [name for name in names if rng.random() < share]

    def _limits(self, rng: random.Random) -> Limits:
        def small(normal: int, *others: int) -> int:
            return rng.choice(others) if rng.random() < 0.15 else normal

        return Limits(
            accounts_max=small(1_000, 2 + self.bots, 3 + self.bots),
            orders_per_account_max=small(10_000, 2, 6),
            orders_max=small(100_000, 3, 12),
            markets_max=small(4_096, 2, 4),
            client_order_ids_per_account_max=small(100_000, 6, 20, 60),
            client_order_id_ns=rng.choice((60, 300, 86_400)) * SECOND_NS,
            expiry_max_ns=small(400 * 86_400 * SECOND_NS, 20 * SECOND_NS),
            destinations_per_account_max=small(4_096, 1, 2),
        )

    def _config(self, rng: random.Random) -> Config:
        def rate(narrow: bool) -> Bucket:
            if narrow:
                return Bucket(per_second=rng.choice((1, 5, 20)), burst=rng.choice((3, 10, 40)))
            return Bucket(per_second=10_000, burst=20_000)

        def narrow() -> bool:
            return rng.random() < 0.15

        lead_s = rng.choice((0, 0, 25, 45))
        terms = TermsConfig(
            maker_fee_bps=rng.choice((0, 10, 1_000)),
            taker_fee_bps=rng.choice((0, 20, 700)),
            bond_bps=rng.choice((2_000, 3_333, 10_000)),
            collar_bps=rng.choice((0, 1, 10, 800)),
            band_bps=rng.choice((1, 1_000, 9_999)),
            tolerance_bps=rng.choice((0, 300, 10_000)),
            penalty_bps=rng.choice((0, 500, 10_000)),
        )
        return Config(
            server=ServerConfig(port=0, anonymous_per_ip_max=rng.choice((64, 64, 2)), stop_ms=rng.choice((0, 200, 2_000))),
            session=SessionConfig(
                heartbeat_ms=rng.choice((1_000, 5_000, 20_000)),
                idle_ms=rng.choice((30_000, 60_000)),
                login_ms=rng.choice((3_000, 10_000)),
                subscriptions_max=rng.choice((1_000, 1_000, 2, 4)),
            ),
            rates=RateConfig(orders=rate(narrow()), cancels=rate(narrow()), requests=rate(narrow()), ip=rate(narrow())),
            terms=terms,
            listings=(Listing("SHA256", length_s=60, ahead=self.markets, gate_lead_s=lead_s),) if rng.random() < 0.8 else (),
        )

    def _gateway(self, rng: random.Random) -> None:
        narrow = rng.random() < 0.15
        self.queue_max = rng.choice((1, 4, 20)) if narrow else 65_536
        self.reads_max = rng.choice((1, 4, 20)) if narrow else 65_536
        self.batch_entries_max = rng.choice((1, 2, 5)) if rng.random() < 0.3 else 4_096
        self.batch_bytes_max = rng.choice((1, 100, 500)) if rng.random() < 0.2 else 2**20
        self.fact_limits = FactLimits(
            *(rng.choice(((5, 50, 2), (40, 60, 7), (1_000, 200, 3), (10, 10_000, 3))) if rng.random() < 0.4 else ())
        )
        self.closed_max = rng.choice((2, 20, 1_000))
        self.history_accounts_max = rng.choice((2, 1_000))
        self.ip_logins = IP_LOGINS if rng.random() < 0.7 else Bucket(per_second=1, burst=8)
        self.key_failures = KEY_FAILURES if rng.random() < 0.7 else Bucket(per_second=1, burst=2)
        self.budgets_idle_max = rng.choice((1_000, 2))

    def _live(self, rng: random.Random) -> None:
        """Drawn last, so that everything before is what it would be without live markets."""
        self.live_markets = rng.choice((0, 0, 0, 1, 1, 2))
        self.live_share = rng.choice((0.3, 0.6, 0.95))
        """How much of what bots do they do in live markets."""
        self.live_speed = rng.choice((2, 50, 2_000))
        """Lots by which speeds and limits differ."""

        def small(normal: int, *others: int) -> int:
            return rng.choice(others) if rng.random() < 0.15 else normal

        if not self.live_markets:
            return
        self.limits = replace(
            self.limits,
            live_orders_per_account_max=small(1_000, 2, 6),
            live_orders_max=small(200_000, 3, 12),
            pegs_max=small(256, 1, 3),
            flows_max=small(1_000_000, 4, 10),
            flows_per_account_max=small(10_000, 2, 5),
            pools_per_account_max=small(100, 1, 2),
        )

    # --------------------------------------------------------------------------------------------------------- in a run

    def chance(self, rng: random.Random, fault: str, odds: float) -> bool:
        """Whether a fault of this kind happens now."""
        return self.faulty and self._fault_odds[fault] and rng.random() < odds

    def dies_in_commit(self, rng: random.Random) -> bool:
        """Whether a crash comes within a commit that holds up the loop."""
        return self.faulty and "crash" in self.server_faults and rng.random() < 0.005

    def on_grid(self, time_ns: int) -> int:
        """The time, rounded up to the seed's grid."""
        return -(-time_ns // self.grid_ns) * self.grid_ns

    def calm_down(self) -> None:
        """No more faults: everything has to come to rest.

        Whoever still waits for a crowded server waits longer: asking again before it can answer would keep it crowded for ever.
        """
        self.faulty = False
        self.commit_ns = min(self.commit_ns, MS_NS)
        self.retry_ns = max(self.retry_ns, REST_RETRY_NS)

    def __str__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return "\n".join(f"  {name}: {value}" for name, value in shown.items())
