"""Any configuration file is read whole, or a ConfigError that says what is wrong with it, and where, in a line or two."""

from collections.abc import Callable, Iterator
from typing import Final, get_type_hints

from msgspec.structs import fields

from engine.commands import Entry, ListLive, ListMarket
from engine.core import Engine
from engine.events import Event, LiveListed
from gateway.config import CONFIG_FILE, TEMPLATE, Config, ConfigError, Listing, LiveListing, load
from gateway.listings import Lister, list_live, live_markets
from gateway.server import tls_context
from tests.fuzz.runner import scratch
from tests.gateway.link import START_NS

BYTES_MAX = 4_096
LISTS: Final = ("listings", "live")
SECTIONS: Final = {
    section.name: get_type_hints(Config)[section.name] for section in fields(Config) if section.name not in LISTS
}
WORDS = (
    *(f"[{name}]\n".encode() for name in SECTIONS),
    b"[[listings]]\n",
    b"[[live]]\n",
    *(f"{field.name} = ".encode() for kind in (*SECTIONS.values(), Listing, LiveListing) for field in fields(kind)),
    *(
        b'"SHA256"',
        b'"SCRYPT"',
        b"true",
        b"1e400",
        b"inf",
        b"nan",
        b"0x7fffffffffffffff",
        b"2026-11-23T12:00:00Z",
        b'"""',
        b"'''",
    ),
    *(
        b"{ per_second = 1, burst = 1 }",
        b'["https://a.example"]',
        b'"/nowhere.pem"',
        b"86400",
        b"60",
        b'"0.0005"',
        b"\\u00e9",
        b"[" * 64,
    ),
)
PROBLEM_CHARS_MAX: Final = 2_000
_HOME: Final = scratch()


def one(data: bytes) -> None:
    (_HOME / CONFIG_FILE).write_bytes(data)
    try:
        config = load(_HOME)
        engine = Engine()
        commands: list[ListMarket] = []
        lister = Lister(config.listings, config.terms, engine.markets, lambda command, done: commands.append(command))
        live = live_markets(config.live)
        tls_context(config.server)
    except ConfigError as error:
        assert 0 < len(str(error)) <= PROBLEM_CHARS_MAX + len(data)
        return
    lister.run(START_NS)
    assert len(commands) <= sum(listing.ahead for listing in config.listings)

    def submit(command: ListLive, done: Callable[[Entry, list[Event]], None]) -> None:
        events = engine.apply(Entry(engine.seq + 1, START_NS, command))
        assert isinstance(events[0], LiveListed), "the engine takes what the configuration may say"

    assert list_live(live, engine.live.markets, submit) == len(config.live)


def seeds() -> Iterator[tuple[str, bytes]]:
    """The template, each of its tables, and mistakes."""
    yield "template", TEMPLATE.encode()
    for number, table in enumerate(TEMPLATE.split("\n\n")[1:]):
        yield f"table-{number}", table.encode()
    yield (
        "listings",
        b'[[listings]]\nalgorithm = "SHA256"\nlength_s = 3600\nahead = 2\nreference_price = "0.0005"\ngate_lead_s = 60\n',
    )
    yield (
        "live",
        b'[[live]]\nalgorithm = "SHA256"\n[[live]]\nalgorithm = "SHA256"\nmarket = "OTHER"\npricing = "uniform"\n'
        b'decrease_step = "0"\nplacing_fee = "0.0001"\nspeed_min = "1.5"\nlock_ms = 100\n',
    )
    yield "live-twice", b'[[live]]\nalgorithm = "SHA256"\n[[live]]\nalgorithm = "SHA256"\n'
    yield "lists", b'server.origins = ["https://a.example"]\nserver.trusted_proxies = ["10.0.0.1"]\nserver.port = 0'
    yield "tls", b'[server]\ntls_certificate = "/nowhere.pem"\ntls_key = "/nowhere.key"\n'
    yield "unknown", b"[server]\nprot = 1\n"
    yield "wrong", b"[rates]\norders = { per_second = 0, burst = 1 }\n"
    yield "deep", b"x = " + b"[" * 200
    yield "latin", b'server.host = "\xe9"'
    yield "date", b"session.idle_ms = 2026-11-23T12:00:00Z"
