"""The shape of every body that a client sends. Numbers may be JSON numbers or text; either way every digit counts."""

from decimal import Decimal
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

Number = Decimal


class Body(Struct, rename="camel"):
    """Base of every body. Fields that nobody knows are no mistake: clients send more than is read."""


class Factors(Body):
    """The units that a client reckons in. Those that are sent must be the algorithm's; so nobody is re-priced in silence."""

    market_factor: Number | UnsetType = UNSET
    display_market_factor: str | UnsetType = UNSET
    price_factor: Number | UnsetType = UNSET
    display_price_factor: str | UnsetType = UNSET


class CreateOrder(Factors, kw_only=True):
    """The last three are an extension: with ``peg`` the order follows, and ``price`` is the most that it ever pays."""

    algorithm: str
    market: str = ""
    type: str = "STANDARD"
    price: Number
    """BTC per unit of price per day."""
    limit: Number
    """Units of speed; 0: as much as there is."""
    amount: Number
    """BTC, fees included."""
    pool_id: str
    peg: Literal["", "TOP", "MARGINAL", "INDEX"] = ""
    peg_offset: Number = Decimal(0)
    """BTC per unit of price per day, above or below what is followed."""
    peg_floor: Number = Decimal(0)
    """The least that the order pays; 0: the market's lowest price."""


class UpdateOrder(Factors, kw_only=True):
    """One of the two, or both."""

    price: Number | UnsetType = UNSET
    limit: Number | UnsetType = UNSET


class Refill(Body):
    amount: Number


class Estimate(Factors, kw_only=True):
    """``algorithm`` and ``market`` are an extension: with them the market's own fees are taken off."""

    type: str = "STANDARD"
    price: Number
    limit: Number
    amount: Number
    decrease_fee: bool = False
    algorithm: str = ""
    market: str = ""


class FixedPrice(Body, kw_only=True):
    algorithm: str
    market: str = ""
    limit: Number


class SavePoolBody(Body, kw_only=True):
    """With ``id``: the pool to change."""

    id: str = ""
    name: str
    algorithm: str
    stratum_hostname: str
    stratum_port: int | str
    username: str
    password: str = "x"  # noqa: S105 - what pools that ask for none are told


class VerifyPool(Body, kw_only=True):
    pool_verification_service_location: str = ""
    mining_algorithm: str
    stratum_host: str
    stratum_port: int | str
    username: str
    password: str = "x"  # noqa: S105 - what pools that ask for none are told
