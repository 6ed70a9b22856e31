"""Algorithms and markets by the names that NiceHash's clients use, and which of our live markets each of them is."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from engine.markets.live import LiveMarket
from engine.types import LiveSpec
from gateway.nicehash.units import Units

MARKETS: Final = ("BTC", "EU", "USA", "EU_N", "USA_E", "SA", "ASIA")
"""Names of markets in circulation. All of them are one here: of an algorithm, the market that was listed first. Another one has
its symbol for a name."""
UNITS_MAX: Final = 4_096
"""Markets whose units are remembered, those that are gone included."""

_PREFIXES: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}


class Named(Struct, frozen=True):
    """An algorithm: NiceHash's name, title and number of it, our name, and the units that it is quoted in."""

    name: str
    title: str
    code: int
    algorithm: str
    mining_display: str
    market_display: str
    price_display: str
    aliases: tuple[str, ...] = ()

    @property
    def mining_factor(self) -> int:
        return factor(self.mining_display)

    @property
    def market_factor(self) -> int:
        return factor(self.market_display)

    @property
    def price_factor(self) -> int:
        return factor(self.price_display)

    @property
    def port(self) -> int:
        """NiceHash's stratum port; nothing listens there."""
        return 3333 + self.code


def factor(display: str) -> int:
    """H/s of a unit such as ``TH``."""
    return _PREFIXES[display.removesuffix("H")]


ALGORITHMS: Final[dict[str, Named]] = {
    row.name: row
    for row in (
        Named("SCRYPT", "Scrypt", 0, "SCRYPT", "MH", "TH", "TH"),
        Named("SHA256ASICBOOST", "SHA256AsicBoost", 35, "SHA256", "TH", "EH", "EH", aliases=("SHA256",)),
        Named("RANDOMXMONERO", "RandomXmonero", 47, "RANDOMX", "kH", "GH", "GH", aliases=("RANDOMX",)),
        Named("KAWPOW", "KAWPOW", 52, "KAWPOW", "MH", "TH", "TH"),
        Named("ETCHASH", "Etchash", 60, "ETCHASH", "MH", "TH", "TH"),
        Named("KHEAVYHASH", "kHeavyHash", 62, "KHEAVYHASH", "GH", "PH", "EH"),
    )
}
"""Every algorithm of ours, by NiceHash's name."""
_BY_NAME: Final = {name: row for row in ALGORITHMS.values() for name in (row.name, *row.aliases)}
_BY_OURS: Final = {row.algorithm: row for row in ALGORITHMS.values()}


def named(name: str) -> Named | None:
    """The algorithm of NiceHash's name, or of ours."""
    return _BY_NAME.get(name.upper())


class Quoted:
    """A live market as these clients see it."""

    __slots__ = ("algorithm", "is_first", "market", "units")

    def __init__(self, market: LiveMarket, algorithm: Named, units: Units, is_first: bool) -> None:
        self.market = market
        self.algorithm = algorithm
        self.units = units
        self.is_first = is_first
        """Whether it is the one that all the usual names mean."""

    @property
    def spec(self) -> LiveSpec:
        return self.market.spec

    @property
    def name(self) -> str:
        """What its orders say for a market."""
        return MARKETS[0] if self.is_first else self.spec.symbol


class Catalog:
    """Finds markets by the names in requests. ``markets`` are the engine's, in the order in which they were listed."""

    def __init__(self, markets: Mapping[str, LiveMarket]) -> None:
        self._markets = markets
        self._listed: list[LiveMarket] = []
        self._quoted: list[Quoted] = []
        self._units: dict[str, tuple[LiveSpec, Units | None]] = {}

    def all_quoted(self) -> list[Quoted]:
        """Every market that can be told in NiceHash's units, as listed."""
        listed = [*self._markets.values()]
        if listed != self._listed:
            self._listed = listed
            self._quoted = self._all_quoted()
        return self._quoted

    def _all_quoted(self) -> list[Quoted]:
        found: list[Quoted] = []
        first: set[str] = set()
        for market in self._markets.values():
            algorithm, units = _BY_OURS.get(market.spec.algorithm), self.units(market.spec)
            if algorithm is not None and units is not None:
                found.append(Quoted(market, algorithm, units, algorithm.name not in first))
                first.add(algorithm.name)
        return found

    def find(self, algorithm: str, market: str = "") -> Quoted | None:
        """The market of an algorithm: the first listed for one of the usual names or none, else that of the symbol."""
        row = named(algorithm)
        for quoted in self.all_quoted():
            if quoted.algorithm is row and (quoted.spec.symbol == market or (quoted.is_first and market in ("", *MARKETS))):
                return quoted
        return None

    def of(self, symbol: str) -> Quoted | None:
        """The market of that symbol."""
        return next((quoted for quoted in self.all_quoted() if quoted.spec.symbol == symbol), None)

    def units(self, spec: LiveSpec) -> Units | None:
        """A market's units; None where its steps do not fit them, or its algorithm has no name here."""
        known = self._units.get(spec.symbol)
        if known is not None and known[0] is spec:
            return known[1]
        row = _BY_OURS.get(spec.algorithm)
        units: Units | None = None
        if row is not None:
            try:
                units = Units(spec, row.market_factor, row.market_display, row.price_factor, row.price_display)
            except ValueError:
                units = None
        if len(self._units) >= UNITS_MAX:
            del self._units[next(iter(self._units))]
        self._units[spec.symbol] = (spec, units)
        return units
