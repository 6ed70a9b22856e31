"""The configuration of one exchange: ``config.toml`` in its data directory, checked before anything starts.

Knows fields, defaults and bounds; opens no socket and no journal. An unknown field is refused, so a misspelt name cannot
silently leave a default in force. Every message names the field (``server.port``).
"""

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from engine.limits import BPS

CONFIG_FILE: Final = "config.toml"
CONFIG_BYTES_MAX: Final = 65_536
"""More is refused unread: what a parser does with it has no bound."""

_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
"""Scheme, host and port. ``null`` is none: every sandboxed page sends it."""

Positive = Annotated[int, Meta(ge=1, le=2**31)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Bps = Annotated[int, Meta(ge=0, le=10_000)]
SpanS = Annotated[int, Meta(ge=0, le=400 * 86_400)]
FeeBps = Annotated[int, Meta(ge=0, le=1_000)]


class ConfigError(Exception):
    """The configuration cannot be used; the text says which field and why."""


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every table: what is not named is refused."""


class ServerConfig(Section, frozen=True):
    """Where the exchange listens, and who may connect."""

    host: str = "127.0.0.1"
    port: Port = 8765
    """0 lets the system choose one; the line printed at start names it."""
    tls_certificate: str = ""
    """PEM file with the certificate chain; together with ``tls_key`` it turns ws:// into wss://."""
    tls_key: str = ""
    allow_plain_remote: bool = False
    """Listen beyond loopback without TLS (behind a proxy that does TLS, say)."""
    origins: tuple[str, ...] = ()
    """Web pages that may connect, e.g. ``https://trade.example``. Programs send no Origin and are not concerned."""
    trusted_proxies: tuple[str, ...] = ()
    """IP addresses of proxies whose X-Forwarded-For names the client."""
    connections_max: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    connections_per_ip_max: Positive = 1_000
    anonymous_per_ip_max: Positive = 64
    """Sockets of one IP address that have not logged in."""
    stop_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1_000
    """When the exchange stops, sockets that are logged in have so long to cancel what must not stay."""


class NiceHashConfig(Section, frozen=True):
    """NiceHash's API over the live markets, on a port of its own (docs/NICEHASH.md). Certificates, proxies and
    ``allow_plain_remote`` are the server's."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: Port = 8766
    connections_max: Annotated[int, Meta(ge=1, le=100_000)] = 256
    connections_per_ip_max: Positive = 64
    requests_max: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Requests that may wait for their answer at a time."""


class SessionConfig(Section, frozen=True):
    """What one connection may do, and for how long it may be silent."""

    heartbeat_ms: Annotated[int, Meta(ge=100, le=60_000)] = 5_000
    idle_ms: Annotated[int, Meta(ge=1_000, le=3_600_000)] = 60_000
    """A socket that sends nothing for this long is closed."""
    login_ms: Annotated[int, Meta(ge=100, le=600_000)] = 10_000
    """A socket that neither logs in nor subscribes for this long is closed."""
    subscriptions_max: Annotated[int, Meta(ge=1, le=10_000)] = 1_000


class Bucket(Section, frozen=True):
    """A rate limit: ``burst`` at once, and ``per_second`` more as time passes."""

    per_second: Annotated[int, Meta(ge=1, le=1_000_000)]
    burst: Annotated[int, Meta(ge=1, le=1_000_000)]


class RateConfig(Section, frozen=True):
    """Budgets. Cancels have their own, so that orders never use up the right to cancel."""

    orders: Bucket = Bucket(per_second=1_000, burst=2_000)
    """Place and amend, per account."""
    cancels: Bucket = Bucket(per_second=2_000, burst=4_000)
    """Cancel and cancel_all, per account."""
    requests: Bucket = Bucket(per_second=200, burst=400)
    """Everything else, per account."""
    ip: Bucket = Bucket(per_second=50, burst=200)
    """Everything, per IP address, before login."""


class TermsConfig(Section, frozen=True):
    """Terms that newly listed markets get."""

    maker_fee_bps: FeeBps = 10
    taker_fee_bps: FeeBps = 20
    bond_bps: Bps = 2_000
    collar_bps: Bps = 800
    """Orders are taken within this share of the reference price, up and down; 0: anywhere (see docs/OPERATIONS.md)."""
    band_bps: Annotated[int, Meta(ge=1, le=9_999)] = 1_000
    tolerance_bps: Bps = 300
    penalty_bps: Bps = 500


class Listing(Section, frozen=True):
    """Keep ``ahead`` periods of ``length_s`` seconds of an algorithm's hashrate listed."""

    algorithm: Annotated[str, Meta(min_length=1, max_length=24)]
    length_s: Annotated[int, Meta(ge=60, le=31 * 86_400)] = 86_400
    ahead: Annotated[int, Meta(ge=1, le=366)] = 7
    reference_price: str = ""
    """Centre of the price band until the algorithm's first trade; default: the algorithm's own."""
    gate_lead_s: Annotated[int, Meta(ge=0, le=31 * 86_400)] | None = None
    """Trading ends this long before the period; default: 1 h for days, nothing for shorter ones."""


class LiveListing(Section, frozen=True):
    """A live market to list when the server starts, unless it is there. Empty numbers are the algorithm's own."""

    algorithm: Annotated[str, Meta(min_length=1, max_length=24)]
    market: str = ""
    """Its name; default: the algorithm's with ``-LIVE``."""
    pricing: Literal["pay_as_bid", "uniform"] = "pay_as_bid"
    buyer_fee_bps: FeeBps = 20
    seller_fee_bps: FeeBps = 10
    placing_fee: str = "0"
    """BTC for placing a bid, never returned."""
    price_min: str = ""
    price_max: str = ""
    speed_min: str = ""
    """Smallest limit of a bid and smallest speed of an ask; default: 100 lots."""
    speed_max: str = ""
    budget_min: str = "0.001"
    """BTC; the smallest budget of a bid and the smallest refill."""
    decrease_interval_s: SpanS = 600
    """How long after its last change a bid's price may be lowered; 0: at once."""
    decrease_step: str = ""
    """By how much at most; 0: by any amount."""
    lock_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0
    """How long after an edit a bid's price and limit stay as they are."""
    life_s: Annotated[int, Meta(ge=1, le=400 * 86_400)] = 10 * 86_400
    """How long a bid lives at most."""
    slack_s: SpanS = 60
    """How much unproven time of a running flow may still be made up for."""
    grace_s: SpanS = 600
    """How long after its end a flow's work may be reported."""
    idle_s: SpanS = 300
    """An ask whose flow proves no new work for longer than that ends; 0: never."""


class SnapshotConfig(Section, frozen=True):
    """How often another process makes a snapshot. More often means a faster recovery."""

    every_entries: Annotated[int, Meta(ge=1, le=2**53)] = 1_000_000
    every_s: Annotated[int, Meta(ge=1, le=30 * 86_400)] = 3_600
    keep: Annotated[int, Meta(ge=1, le=1_000)] = 3
    """Older snapshots are removed."""
    archive: bool = True
    """Move journal rows older than every kept snapshot into archive files."""


class LogConfig(Section, frozen=True):
    """What is logged to standard error, and how."""

    format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, else one JSON object per line."""
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section, frozen=True):
    """The whole file, one field per table."""

    server: ServerConfig = ServerConfig()
    nicehash: NiceHashConfig = NiceHashConfig()
    session: SessionConfig = SessionConfig()
    rates: RateConfig = RateConfig()
    terms: TermsConfig = TermsConfig()
    listings: tuple[Listing, ...] = ()
    live: tuple[LiveListing, ...] = ()
    snapshot: SnapshotConfig = SnapshotConfig()
    log: LogConfig = LogConfig()


def parse(text: str, source: str = CONFIG_FILE) -> Config:
    """Read a configuration. Raises ConfigError naming ``source`` and the field."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # bad TOML, and numbers and nestings that Python does not take
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        where = path.rstrip("`").lstrip(".")
        raise ConfigError(f"{source}: {where + ': ' if where else ''}{message}") from error
    try:
        check(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    return config


def load(data_dir: Path) -> Config:
    """The configuration of ``data_dir``; all defaults when it has no ``config.toml``."""
    path = data_dir / CONFIG_FILE
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
        if len(content) > CONFIG_BYTES_MAX:
            raise ConfigError(f"{path}: longer than {CONFIG_BYTES_MAX} bytes")
        text = content.decode()
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return parse(text, str(path))


def check(config: Config) -> None:
    """What needs more than one field to judge. Raises ConfigError."""
    server = config.server
    if bool(server.tls_certificate) != bool(server.tls_key):
        missing = "tls_key" if server.tls_certificate else "tls_certificate"
        raise ConfigError(f"server.{missing}: TLS needs both tls_certificate and tls_key")
    if not (server.tls_certificate or server.allow_plain_remote or is_loopback(server.host)):
        raise ConfigError(
            f"server.host: {server.host!r} is not loopback, and plain sockets would carry logins in the clear; "
            "set server.tls_certificate and server.tls_key, or server.allow_plain_remote = true"
        )
    if config.nicehash.enabled and not (
        server.tls_certificate or server.allow_plain_remote or is_loopback(config.nicehash.host)
    ):
        raise ConfigError(
            f"nicehash.host: {config.nicehash.host!r} is not loopback, and plain sockets would show balances and orders to "
            "everybody on the way; set server.tls_certificate and server.tls_key, or server.allow_plain_remote = true"
        )
    terms = config.terms
    if 2 * terms.collar_bps * BPS > terms.bond_bps * (BPS - terms.collar_bps):
        most = terms.bond_bps * BPS // (2 * BPS + terms.bond_bps)
        raise ConfigError(
            f"terms.collar_bps: at most {most} with terms.bond_bps = {terms.bond_bps}, or the insurance account would pay "
            "for price differences that a seller's bond does not cover; 0 takes that risk and lifts the collar"
        )
    for number, proxy in enumerate(server.trusted_proxies):
        if not is_address(proxy):
            raise ConfigError(f"server.trusted_proxies[{number}]: {proxy!r} is not an IP address")
    for number, origin in enumerate(server.origins):
        if not _ORIGIN.fullmatch(origin):
            raise ConfigError(
                f"server.origins[{number}]: {origin!r} is not what browsers send: scheme and host in small letters, such as "
                '"https://trade.example" or "http://127.0.0.1:8080"'
            )
    if config.session.idle_ms <= config.session.heartbeat_ms:
        raise ConfigError("session.idle_ms: must be longer than session.heartbeat_ms")


def client_address(peer: str, forwarded_for: str, proxies: frozenset[str]) -> str:
    """The client's address: the peer's, or what a trusted proxy says last. One that names no address speaks for itself."""
    peer = peer.removeprefix("::ffff:")  # IPv4, seen through a door that takes both
    if peer in proxies:
        named = forwarded_for.rpartition(",")[2].strip()
        if is_address(named):
            return named
    return peer


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address, and nothing but that."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only. An empty host means every interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


TEMPLATE: Final = """\
# Hashpit configuration. What is left out has the value shown; an unknown name is an error.

[server]
host = "127.0.0.1"
port = 8765
# tls_certificate = "/etc/hashpit/chain.pem"   # with tls_key: wss:// instead of ws://
# tls_key = "/etc/hashpit/key.pem"
allow_plain_remote = false      # true: listen beyond loopback without TLS
origins = []                    # web pages that may connect, e.g. ["https://trade.example"]
trusted_proxies = []            # IP addresses of proxies whose X-Forwarded-For names the client
connections_max = 10000
connections_per_ip_max = 1000
anonymous_per_ip_max = 64       # that have not logged in
stop_ms = 1000                  # time to cancel orders between the announcement of a stop and the end

[nicehash]                      # NiceHash's API over the live markets; TLS and proxies as for [server]
enabled = false
host = "127.0.0.1"
port = 8766
connections_max = 256
connections_per_ip_max = 64
requests_max = 64               # that wait for their answer at a time

[session]
heartbeat_ms = 5000
idle_ms = 60000                 # silent for so long: closed
login_ms = 10000                # neither logged in nor subscribed for so long: closed
subscriptions_max = 1000

[rates]
orders = { per_second = 1000, burst = 2000 }      # place, amend; per account
cancels = { per_second = 2000, burst = 4000 }     # cancel, cancel_all; per account
requests = { per_second = 200, burst = 400 }      # everything else; per account
ip = { per_second = 50, burst = 200 }             # everything before login; per IP address

[terms]                         # of markets listed from now on, in basis points
maker_fee_bps = 10
taker_fee_bps = 20
bond_bps = 2000
collar_bps = 800                # orders further from the reference price are refused; 0: no collar
band_bps = 1000
tolerance_bps = 300
penalty_bps = 500

[snapshot]                      # by another process, while trading goes on; whichever comes first
every_entries = 1000000
every_s = 3600
keep = 3
archive = true                  # move journal rows older than every kept snapshot into archive files

[log]
format = "auto"
level = "info"

# Periods that are kept listed. Algorithms: SHA256 SCRYPT KHEAVYHASH RANDOMX ETCHASH KAWPOW
# [[listings]]
# algorithm = "SHA256"
# length_s = 86400
# ahead = 7

# Live markets: hashrate from now until either side stops. What is left out is as shown, or the algorithm's own.
# [[live]]
# algorithm = "SHA256"
# market = "SHA256-LIVE"
# pricing = "pay_as_bid"          # or "uniform": everybody pays the marginal price
# buyer_fee_bps = 20
# seller_fee_bps = 10
# placing_fee = "0"               # BTC per bid
# budget_min = "0.001"            # BTC
# decrease_interval_s = 600       # a bid's price goes down at most once in this time
# decrease_step = "0.00000200"    # and by at most this
# lock_ms = 0                     # price and limit stay for this long after an edit
# life_s = 864000
# slack_s = 60
# grace_s = 600
# idle_s = 300
"""
"""What ``hashpit init`` writes: every default, spelt out."""
