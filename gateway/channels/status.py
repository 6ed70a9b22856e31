"""``status``: the server's state and the list of markets, then what becomes of them.

A snapshot is ``{"server": {...}, "markets": [...]}``. Events are ``market_listed`` with the terms, ``market_state``, and
``server`` when the exchange is about to stop.
"""

from typing import Any, Literal

from engine.events import Event, LiveListed, MarketListed, MarketStateChanged
from engine.types import LiveSpec, MarketSpec, MarketState
from gateway.channels.base import Channel, Subscriptions
from gateway.views import any_market_info
from gateway.wire import MARKET_STATE

ServerState = Literal["open", "stopping"]


class StatusChannel(Channel):
    """The one status feed."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        super().__init__("status", subscriptions)
        self._state: ServerState = "open"
        self._markets: dict[str, tuple[MarketSpec | LiveSpec, MarketState]] = {}

    def load(self, spec: MarketSpec | LiveSpec, state: MarketState) -> None:
        """A market from before the start."""
        self._markets[spec.symbol] = (spec, state)

    def apply(self, event: Event, ts_ns: int) -> None:
        """Tell of a market's beginning, change or end."""
        data: dict[str, Any]
        match event:
            case MarketListed() | LiveListed():
                self._markets[event.spec.symbol] = (event.spec, MarketState.OPEN)
                info = any_market_info(event.spec, MarketState.OPEN)
                data = {"event": "market_listed", "market": event.spec.symbol, "terms": info}
            case MarketStateChanged():
                if event.state is MarketState.SETTLED:
                    self._markets.pop(event.market, None)
                else:
                    self._markets[event.market] = (self._markets[event.market][0], event.state)
                data = {"event": "market_state", "market": event.market, "state": MARKET_STATE[event.state]}
            case _:
                return
        self._tell(data, ts_ns)

    def server(self, state: ServerState, now_ns: int) -> None:
        """Announce the server's own state."""
        self._state = state
        self._tell({"event": "server", "state": state}, now_ns)

    def snapshot_data(self, now_ns: int) -> dict[str, Any]:
        return {
            "server": {"state": self._state},
            "markets": [any_market_info(spec, state) for _, (spec, state) in sorted(self._markets.items())],
        }

    def _tell(self, data: dict[str, Any], ts_ns: int) -> None:
        if self._subscribers:
            self._broadcast(self._next("event", data, ts_ns))
        else:
            self._skip()
