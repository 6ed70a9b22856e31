"""The operator: opens accounts, lists and halts markets, reports work and settles, over the same wire as everybody else."""

from collections.abc import Generator
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from engine.limits import MONEY_MAX_MSAT
from gateway import wire
from gateway.scale import MONEY
from gateway.wire import Error, MarketInfo
from hashpit.keys import Key
from hashpit.messages import MarketListed, MarketStateChanged, StatusSnapshot
from tests.simulation.clients import AGAIN, Bot, Client
from tests.simulation.line import Line
from tests.simulation.live import LiveOperator, live_ones
from tests.simulation.world import MS_NS, SECOND_NS

MINUTE_US: Final = 60_000_000
ACCOUNT_NAME_TAKEN: Final = 1003
NARROW_KEYS: Final[tuple[tuple[wire.Permission, ...], ...]] = (("read", "quote"), ("read",), ("trade",), ("read", "trade"))

Script = Generator[tuple[str, Struct | None], tuple[Any, Error | None], None]
"""Yields calls one after the other; each is sent again until it is answered, and its answer is given back."""


class Operator(Client):
    """Runs the exchange, and the meter."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.bots: list[Bot] = []
        self.accounts: list[int] = []
        self.key_ids: list[str] = []
        self._scripts: list[Script] = []
        self._waiting: tuple[Script, str, Struct | None] | None = None
        """The call of a script that is to be sent."""
        self._busy = False
        self._number = 0
        self._last_delivery = 0
        self.live = LiveOperator(self)
        self._turn_ns = min(self.plan.pace_ns, 100 * MS_NS)

    def begin(self, key: Key, bots: list[Bot]) -> None:
        self.bots = bots
        line = self.add_line(key)
        line.connect()
        if self.plan.markets > 1 or not self.plan.config.listings:
            self._scripts.append(self._list_markets())
        self._scripts.append(self._open_accounts(bots))
        self.start()

    # ---------------------------------------------------------------------------------------------------------- scripts

    def _open_accounts(self, bots: list[Bot]) -> Script:
        for bot in bots:
            account, key = yield from self._open_account(bot.name)
            if account:
                bot.begin(account, key)

    def _open_account(self, name: str) -> Generator[tuple[str, Struct | None], tuple[Any, Error | None], tuple[int, Any]]:
        result, error = yield "create_account", wire.CreateAccountParams(name)
        if error is not None and error.code == ACCOUNT_NAME_TAKEN:
            account = int(error.data.bound)
        elif error is not None:
            return 0, None
        else:
            account = result.account
        self.accounts.append(account)
        if self.plan.money_msat:
            self._number += 1
            amount = MONEY.format(self.plan.money_msat)
            yield "deposit", wire.TransferParams(account, amount, f"first-{account}")
        permissions: list[wire.Permission] = ["read", "trade", "withdraw"]
        if "keys" in self.plan.operator_habits and self.rng.random() < 0.3:
            permissions = [*self.rng.choice(NARROW_KEYS)]
        private = public = ""
        kind: Any = "ed25519" if self.rng.random() < self.plan.ed25519 else "hmac"
        if kind == "ed25519":
            private = f"{self.rng.getrandbits(256):064x}"
            public = public_half(private)
        while True:
            result, error = yield "add_key", wire.AddKeyParams(account, permissions, kind, public)
            if result is not None:
                self.key_ids.append(result.key.key)
                return account, Key(result.key.key, kind, private, result.secret)

    def _list_markets(self) -> Script:
        for number in range(self.plan.markets):
            yield self._listing(number)

    def _listing(self, number: int) -> tuple[str, Struct]:
        start_us = (self.world.now_ns // 1_000 // MINUTE_US + 1 + number) * MINUTE_US
        length_s = self.rng.choice((60, 60, 120, 86_400, 60 * 61))
        if self.rng.random() < 0.05:
            start_us -= 10 * MINUTE_US
        algorithm = self.rng.choice(("SHA256", "SHA256", "SCRYPT", "RANDOMX", "KHEAVYHASH"))
        prices = {"SHA256": "0.00050000", "SCRYPT": "0.00050000", "RANDOMX": "0.00050000", "KHEAVYHASH": "0.00050000"}
        return "list_market", wire.ListMarketParams(algorithm, start_us, length_s, prices[algorithm])

    # ------------------------------------------------------------------------------------------------------------ turns

    def came_up(self, line: Line) -> None:
        line.subscribe("status")

    def learn(self, data: Any) -> None:
        """What the status channel said."""
        match data:
            case StatusSnapshot():
                self.board.markets.clear()
                self.board.live = {info.market: info for info in live_ones(data.markets) if info.state != "closed"}
                for info in data.markets:
                    if isinstance(info, MarketInfo) and info.state != "closed":
                        self.board.learn(info)
            case MarketListed():
                if isinstance(data.terms, MarketInfo):
                    self.board.learn(data.terms)
                else:
                    self.board.live[data.market] = data.terms
            case MarketStateChanged():
                if data.state in ("closed", "settled") and self.rng.random() < 0.9:
                    self.board.markets.pop(data.market, None)
                if data.state in ("closed", "settled"):
                    self.board.live.pop(data.market, None)

    def act(self, line: Line) -> None:
        if self.plan.live_markets and self.accounts and self.live.rng.random() < 0.3:
            self.live.act(line)
        if not self._script(line) and self.rng.random() < 0.2:
            if self.plan.naps and self.rng.random() < 0.2:
                self.board.asleep_until_ns = self.world.now_ns + self.rng.choice((10, 30, 70)) * SECOND_NS
            else:
                self.habit(line)

    def find_out(self, line: Line) -> None:
        if not self._script(line):
            super().find_out(line)

    @property
    def at_rest(self) -> bool:
        return not (self._busy or self._waiting or self._scripts) and super().at_rest

    def _script(self, line: Line) -> bool:
        """Go on with a script; False when there is none."""
        if not self._busy and self._waiting is None and self._scripts:
            script = self._scripts.pop(0)
            first = next(script, None)
            self._waiting = (script, *first) if first is not None else None
        if self._waiting is not None:
            self._go_on(line)
            return True
        return self._busy

    def _go_on(self, line: Line) -> None:
        assert self._waiting is not None
        script, method, params = self._waiting
        self._waiting = None
        self._busy = True

        def then(result: Any, error: Error | None) -> None:
            self._busy = False
            if (result is None and error is None) or (error is not None and error.code in AGAIN):
                self._waiting = script, method, params
                return
            try:
                self._waiting = script, *script.send((result, error))
            except StopIteration:
                pass

        if not line.call(method, params, then):
            self._busy = False
            self._waiting = script, method, params

    def habit(self, line: Line) -> None:
        rng, habits = self.rng, self.plan.operator_habits
        names = ["market"] + [name for name in habits if name not in ("wrong values", "huge amounts")]
        getattr(self, "_" + rng.choice(names).replace(" ", "_"))(line)

    def _market(self, line: Line) -> None:
        if len(self.board.markets) < self.plan.markets or self.rng.random() < 0.05:
            self.ask(line, *self._listing(self.rng.randrange(2)))

    def _wrong(self, odds: float) -> bool:
        return "wrong values" in self.plan.operator_habits and self.rng.random() < odds

    def _symbol(self) -> str:
        if not self.board.markets or self._wrong(0.05):
            return "NONE"
        return self.rng.choice([*self.board.mids])

    def _states(self, line: Line) -> None:
        state: Any = self.rng.choice(("open", "open", "open", "open", "cancel_only", "halted", "closed"))
        if state == "closed" and self.rng.random() < 0.7:
            state = "open"
        self.ask(line, "set_market_state", wire.MarketStateParams(self._symbol(), state))

    def _deliveries(self, line: Line) -> None:
        if self.rng.random() < 0.2:
            price = self.rng.choice((None, None, "0.00051000", "2" if self._wrong(0.3) else "0.0004"))
            self.ask(line, "settle", wire.SettleParams(self._symbol(), price))
            return

        def then(result: list[wire.DeliveryView] | None, error: Error | None) -> None:
            for delivery in result or []:
                self._last_delivery = max(self._last_delivery, delivery.delivery_id)
                if self.rng.random() < 0.5:
                    self._report(line, delivery)

        self.ask(line, "deliveries", wire.DeliveriesParams(limit=1_000), then)
        if self.rng.random() < 0.5:  # perhaps one that is scheduled, or none at all
            number = self._last_delivery + self.rng.randrange(1, 4)
            self.ask(line, "report_work", wire.ReportWorkParams(number, "1", 1))

    def _report(self, line: Line, delivery: wire.DeliveryView) -> None:
        rng = self.rng
        contracted, proven = int(delivery.contracted_hashes), int(delivery.proven_hashes)
        hashes = proven + rng.randrange(contracted // 2 + 2)
        shares, excused = delivery.shares + rng.randrange(3), int(delivery.excused_hashes) + rng.choice((0, 0, contracted // 9))
        if self._wrong(0.2):
            hashes = rng.choice((max(proven - 1, 0), 2**120, 2**120 + 1))
            shares = rng.choice((shares, max(delivery.shares - 1, 0)))
        self.ask(line, "report_work", wire.ReportWorkParams(delivery.delivery_id, str(hashes), shares, str(excused)))

    def _transfers(self, line: Line) -> None:
        if not self.accounts:
            return
        self._number += 1
        amount = self.rng.randrange(1, max(self.plan.money_msat // 10, 2))
        account = self.rng.choice(self.accounts)
        if self._wrong(0.2):
            account = self.rng.choice((1, 2, 99, 5_000))
            amount = self.rng.choice((0, 1))
        if "huge amounts" in self.plan.operator_habits:
            amount = self.rng.choice((amount, MONEY_MAX_MSAT, MONEY_MAX_MSAT + 1, MONEY_MAX_MSAT // 2))
        params = wire.TransferParams(account, MONEY.format(amount), f"t-{self._number}")
        self.ask(line, "deposit", params)
        if self.rng.random() < 0.2:
            self.ask(line, "deposit", params)

    def _cancel_for_others(self, line: Line) -> None:
        if self.accounts:
            account = self.rng.choice(self.accounts) if not self._wrong(0.1) else 99
            market = self.rng.choice((None, self._symbol()))
            self.ask(line, "account_cancel_all", wire.AccountCancelAllParams(account, market))

    def _accounts(self, line: Line) -> None:
        name = f"extra-{self.rng.randrange(10)}"
        if self._wrong(0.3):
            name = self.rng.choice(("fees", "a\nb", " x"))
        self.ask(line, "create_account", wire.CreateAccountParams(name))

    def _keys(self, line: Line) -> None:
        rng = self.rng
        if self.key_ids and rng.random() < 0.1:
            key_id = rng.choice((*self.key_ids, "k-none"))
            self.ask(line, "revoke_key", wire.RevokeKeyParams(key_id))
            self._scripts.append(self._new_key(key_id))
        else:
            self.ask(line, "keys", wire.KeysParams(limit=rng.choice((1, 1_000))))

    def _new_key(self, key_id: str) -> Script:
        """A bot whose key was revoked gets another one."""
        for bot in self.bots:
            if bot.key is not None and bot.key.key == key_id:
                params = wire.AddKeyParams(bot.account, ["read", "trade", "withdraw"], "hmac")
                result, error = yield "add_key", params
                if error is not None:
                    return
                self.key_ids[self.key_ids.index(key_id)] = result.key.key
                bot.key = Key(result.key.key, "hmac", "", result.secret)
                for line in bot.lines:
                    line.key = bot.key


def public_half(private: str) -> str:
    """The public half of an Ed25519 key."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw().hex()
