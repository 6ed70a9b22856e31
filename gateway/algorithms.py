"""The registry of algorithms: what a speed unit is, and how its prices and quantities step.

One row per algorithm is all that the rest of the exchange needs to know of a proof of work: money maths sees only ticks,
lots and hashes. Tick and lot are chosen so that one lot for one day at a price of one tick costs a whole number of msat.
"""

from fractions import Fraction
from typing import Final

from msgspec import Struct

from gateway.scale import Scale

MSAT_PER_BTC: Final = 10**11


class Algorithm(Struct, frozen=True, kw_only=True):
    """One row: units, steps and bounds of every market in this algorithm's hashrate."""

    name: str
    speed_unit: str
    """Text of the unit that quantities are quoted in."""
    unit_hashrate: int
    """Hashes per second of one speed unit."""
    share_hashes: int
    """Expected hashes behind one share of difficulty 1, as pools of this algorithm count difficulty."""
    tick_size: str
    """Smallest price step, in BTC per speed unit per day."""
    lot_size: str
    """Smallest quantity, in speed units."""
    reference_price: str
    """A plausible price, in BTC per speed unit per day: the price band's centre until there is a trade."""
    price_max: str
    qty_max: str
    decrease_step: str
    """By how much a live bid may go down at a time where the operator says nothing else: about 0.4 % of a plausible price."""

    def price(self) -> Scale:
        """Price text <-> ticks."""
        return Scale(self.tick_size)

    def qty(self) -> Scale:
        """Quantity text <-> lots."""
        return Scale(self.lot_size)

    def tick_lot_msat(self) -> int:
        """msat that one lot costs per day at a price of one tick; asserts that it is whole."""
        msat = Fraction(self.tick_size) * Fraction(self.lot_size) * MSAT_PER_BTC
        assert msat >= 1, f"{self.name}: one tick of one lot is {msat} msat a day"
        assert msat.denominator == 1, f"{self.name}: one tick of one lot is {msat} msat a day"
        return int(msat)

    def lot_hashrate(self) -> int:
        """Hashes per second of one lot; asserts that it is whole."""
        hashrate = Fraction(self.lot_size) * self.unit_hashrate
        assert hashrate.denominator == 1, f"{self.name}: one lot is {hashrate} H/s"
        return int(hashrate)


ALGORITHMS: Final[dict[str, Algorithm]] = {
    row.name: row
    for row in (
        Algorithm(
            name="SHA256",
            speed_unit="PH/s",
            unit_hashrate=10**15,
            share_hashes=2**32,
            tick_size="0.00000001",
            lot_size="0.001",
            reference_price="0.00050000",
            price_max="1.00000000",
            qty_max="100000.000",
            decrease_step="0.00000200",
        ),
        Algorithm(
            name="SCRYPT",
            speed_unit="TH/s",
            unit_hashrate=10**12,
            share_hashes=2**16,
            tick_size="0.000001",
            lot_size="0.0001",
            reference_price="0.010000",
            price_max="20.000000",
            qty_max="1000.0000",
            decrease_step="0.000040",
        ),
        Algorithm(
            name="KHEAVYHASH",
            speed_unit="PH/s",
            unit_hashrate=10**15,
            share_hashes=2**32,
            tick_size="0.0000001",
            lot_size="0.0001",
            reference_price="0.0018000",
            price_max="4.0000000",
            qty_max="10000.0000",
            decrease_step="0.0000070",
        ),
        Algorithm(
            name="RANDOMX",
            speed_unit="MH/s",
            unit_hashrate=10**6,
            share_hashes=1,
            tick_size="0.00000001",
            lot_size="0.001",
            reference_price="0.00033000",
            price_max="1.00000000",
            qty_max="100000.000",
            decrease_step="0.00000130",
        ),
        Algorithm(
            name="ETCHASH",
            speed_unit="TH/s",
            unit_hashrate=10**12,
            share_hashes=2**32,
            tick_size="0.000001",
            lot_size="0.0001",
            reference_price="0.007000",
            price_max="15.000000",
            qty_max="10000.0000",
            decrease_step="0.000030",
        ),
        Algorithm(
            name="KAWPOW",
            speed_unit="GH/s",
            unit_hashrate=10**9,
            share_hashes=2**32,
            tick_size="0.00000001",
            lot_size="0.001",
            reference_price="0.00006000",
            price_max="0.50000000",
            qty_max="100000.000",
            decrease_step="0.00000024",
        ),
    )
}
"""KHEAVYHASH and ETCHASH pools differ in what difficulty 1 means; the rows hold the meaning of the usual stratum bridges."""
