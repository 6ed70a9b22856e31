"""The engine: ``state', events = apply(state, entry)``, a deterministic function of the journal.

``apply`` does first what fell due by the entry's time (expiries, gates, starts of delivery, settlements), then the command.
Each handler reads, decides, then changes: a command is applied whole or refused whole. The event contract is in
:mod:`engine.events`, the precedence of refusals in :mod:`engine.rejects`.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from msgspec.structs import replace

from engine import due as agenda
from engine.book import Order
from engine.commands import (
    Amend,
    Cancel,
    CancelAll,
    CreateAccount,
    Deposit,
    Entry,
    ListMarket,
    Place,
    ReportWork,
    SetDestination,
    SetMarketState,
    Settle,
    Tick,
    Withdraw,
)
from engine.delivery import Delivering
from engine.due import NEVER, Due
from engine.events import (
    Accepted,
    AccountCreated,
    Amended,
    BalanceChanged,
    DestinationSet,
    Event,
    MarketListed,
    MarketStateChanged,
    Rejected,
)
from engine.ledger import Account
from engine.limits import (
    CLIENT_ORDER_ID_CHARS_MAX,
    MONEY_MAX_MSAT,
    NAME_CHARS_MAX,
    SHARES_MAX,
    URL_CHARS_MAX,
    WORK_MAX_HASHES,
    WORKER_CHARS_MAX,
    Limits,
)
from engine.markets.dated import Delivery, Market, broken_rule, waited_hashes
from engine.matching import Matching
from engine.members import (
    BUY,
    CANCEL_REQUESTED,
    FOK,
    GTC,
    GTD,
    IOC,
    LIMIT,
    MARKET,
    MARKET_HALTED,
    MARKET_OPEN,
    ORDER_CANCELED,
    ORDER_FILLED,
    ORDER_OPEN,
    POST_ONLY_OFF,
    SELL,
)
from engine.rejects import RejectCode
from engine.risk import post_only_price, reducible, unit_hold
from engine.types import (
    FEES_ACCOUNT,
    FIRST_ACCOUNT,
    INSURANCE_ACCOUNT,
    BalanceReason,
    CancelReason,
    DeliveryState,
    MarketState,
    OrderStatus,
)

URL_SCHEMES: Final = ("stratum+tcp://", "stratum+ssl://")

_CLOSED_FOR_PLACING: Final = {
    MarketState.CANCEL_ONLY: RejectCode.MARKET_CANCEL_ONLY,
    MARKET_HALTED: RejectCode.MARKET_HALTED,
    MarketState.CLOSED: RejectCode.MARKET_CLOSED,
}


class Engine:
    """The whole state of the exchange, and the one function that changes it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits: Limits = limits if limits is not None else Limits()
        self.seq: int = 0
        self.ts_ns: int = 0
        self.fees: Account = Account(FEES_ACCOUNT, "fees")
        self.insurance: Account = Account(INSURANCE_ACCOUNT, "insurance")
        self.accounts: dict[int, Account] = {FEES_ACCOUNT: self.fees, INSURANCE_ACCOUNT: self.insurance}
        self.names: dict[str, int] = {"fees": FEES_ACCOUNT, "insurance": INSURANCE_ACCOUNT}
        self.next_account: int = FIRST_ACCOUNT
        self.markets: dict[str, Market] = {}
        self.orders: dict[int, Order] = {}
        self.deliveries: dict[int, Delivery] = {}
        # deposits minus withdrawals: what all money in the engine must add up to
        self.deposited: int = 0
        self.due: Due = Due()
        # when the oldest outcome is to be forgotten; NEVER when there is none
        self._forget_ns: int = NEVER
        # every remembered outcome, oldest first: an order knows its time, account and key, others come with
        # (placed_ns, account, key)
        self.remembered: deque[Order | tuple[int, int, str]] = deque()
        self.matching: Matching = Matching(self.accounts, self.orders, self.fees, self.due)
        self.delivering: Delivering = Delivering(self.accounts, self.markets, self.deliveries, self.insurance, self.due)
        self._handlers: dict[type, Callable[[Any, Entry, list[Event]], None]] = {
            Place: self._place,
            Amend: self._amend,
            Cancel: self._cancel,
            CancelAll: self._cancel_all,
            SetDestination: self._set_destination,
            CreateAccount: self._create_account,
            Deposit: self._deposit,
            Withdraw: self._withdraw,
            ListMarket: self._list_market,
            SetMarketState: self._set_market_state,
            ReportWork: self._report_work,
            Settle: self._settle,
            Tick: self._tick,
        }

    # ---------------------------------------------------------------------------------------------------------- entries

    def apply(self, entry: Entry) -> list[Event]:
        """Apply one entry and return its facts in order. Cost: that of the command, plus what fell due.

        Raises AssertionError when the entry is not the next one: a broken journal, not a trader's mistake.
        """
        ts_ns = entry.ts_ns
        assert entry.seq == self.seq + 1, f"entry {entry.seq} after {self.seq}"
        assert ts_ns >= self.ts_ns, f"entry {entry.seq} goes back in time, from {self.ts_ns} to {ts_ns}"
        out: list[Event] = []
        if self.due.next_ns <= ts_ns:
            self._run_due(ts_ns, out)
        if self._forget_ns <= ts_ns:
            self._forget(ts_ns)
        self.seq = entry.seq
        self.ts_ns = ts_ns
        self._handlers[type(entry.command)](entry.command, entry, out)
        return out

    def next_due_ns(self) -> int:
        """When the next expiry, gate, delivery or settlement falls due; 0 when nothing is waiting."""
        return 0 if self.due.next_ns == NEVER else self.due.next_ns

    def _tick(self, command: Tick, entry: Entry, out: list[Event]) -> None:
        """Only time passes."""

    def _run_due(self, ts_ns: int, out: list[Event]) -> None:
        due = self.due
        while due.next_ns <= ts_ns:
            _, kind, key = due.pop()
            if kind == agenda.EXPIRY:
                self._end(self.orders[int(key)], CancelReason.EXPIRED, OrderStatus.EXPIRED, out)
            elif kind == agenda.GATE:
                self._gate(self.markets[str(key)], out)
            elif kind == agenda.START:
                self.delivering.start(self.markets[str(key)], out)
            else:
                self.delivering.settle(self.markets[str(key)], 0, out)

    def _remember(self, account: Account, key: str, outcome: Order | Rejected | BalanceChanged, ts_ns: int) -> None:
        account.outcomes[key] = outcome
        if not self.remembered:
            self._forget_ns = ts_ns + self.limits.client_order_id_ns
        self.remembered.append(outcome if isinstance(outcome, Order) else (ts_ns, account.account_id, key))

    def _forget(self, ts_ns: int) -> None:
        remembered = self.remembered
        while self._forget_ns <= ts_ns:
            _, account_id, key = memory(remembered.popleft())
            outcomes = self.accounts[account_id].outcomes
            outcome = outcomes[key]
            if isinstance(outcome, Order) and outcome.status is ORDER_OPEN:
                outcome.forget = True
            else:
                del outcomes[key]
            self._forget_ns = memory(remembered[0])[0] + self.limits.client_order_id_ns if remembered else NEVER

    def recall(self, account_id: int, key: str, outcome: Order | Rejected | BalanceChanged, ts_ns: int) -> None:
        """Remember an outcome that a snapshot tells of; oldest first."""
        self._remember(self.accounts[account_id], key, outcome, ts_ns)

    # --------------------------------------------------------------------------------------------------------- refusals

    def _refuse(
        self,
        out: list[Event],
        code: RejectCode,
        bound: int = 0,
        account: Account | None = None,
        order_id: int = 0,
        client_order_id: str = "",
        market: str = "",
    ) -> Rejected:
        account_id = account_seq = 0
        if account is not None:
            account.event_seq += 1
            account_seq = account.event_seq
            account_id = account.account_id
        rejected = Rejected(account_id, account_seq, code, bound, order_id, client_order_id, market)
        out.append(rejected)
        return rejected

    # ----------------------------------------------------------------------------------------------------------- orders

    def _place(self, command: Place, entry: Entry, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        key = command.client_order_id
        if account is None:
            self._refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, 0, key, command.market)
            return
        if key:
            first = account.outcomes.get(key)
            if first is not None:
                out.append(_repeat(first))
                return
            if not _is_client_order_id(key):
                self._refuse(
                    out, RejectCode.CLIENT_ORDER_ID_INVALID, CLIENT_ORDER_ID_CHARS_MAX, account, 0, key, command.market
                )
                return
            full = len(account.outcomes) >= self.limits.client_order_ids_per_account_max
            if full and (entry.deadline_ns == 0 or entry.ts_ns <= entry.deadline_ns):
                bound = self.limits.client_order_ids_per_account_max
                self._refuse(out, RejectCode.CLIENT_ORDER_IDS_FULL, bound, account, 0, key, command.market)
                return
        refusal = self._place_checked(command, entry, account, out)
        if refusal is not None:
            rejected = self._refuse(out, refusal[0], refusal[1], account, 0, key, command.market)
            if key and len(account.outcomes) < self.limits.client_order_ids_per_account_max:
                self._remember(account, key, rejected, entry.ts_ns)

    def _place_checked(self, command: Place, entry: Entry, account: Account, out: list[Event]) -> tuple[RejectCode, int] | None:
        """Place the order, or say why not: the code and its bound."""
        limits = self.limits
        ts_ns = entry.ts_ns
        if entry.deadline_ns and ts_ns > entry.deadline_ns:
            return RejectCode.DEADLINE_PASSED, ts_ns
        market = self.markets.get(command.market)
        if market is None:
            return RejectCode.MARKET_UNKNOWN, 0
        if market.state is not MARKET_OPEN:
            return _CLOSED_FOR_PLACING[market.state], 0
        is_buy = command.side is BUY
        lifetime = command.time_in_force
        price = command.price
        qty = command.qty
        is_limit = command.order_type is LIMIT
        if not is_limit and lifetime is not IOC and lifetime is not FOK:
            return RejectCode.TIME_IN_FORCE_INVALID, 0
        may_rest = lifetime is GTC or lifetime is GTD
        post_only = command.post_only
        if post_only is not POST_ONLY_OFF and not (is_limit and may_rest):
            return RejectCode.POST_ONLY_INVALID, 0
        expires_ns = command.expires_ns
        if lifetime is GTD:
            if not ts_ns < expires_ns <= ts_ns + limits.expiry_max_ns:
                return RejectCode.EXPIRY_INVALID, limits.expiry_max_ns
        elif expires_ns:
            return RejectCode.EXPIRY_INVALID, limits.expiry_max_ns
        if is_limit:
            if price < market.spec.price_min:
                return RejectCode.PRICE_TOO_LOW, market.spec.price_min
            if price > market.spec.price_max:
                return RejectCode.PRICE_TOO_HIGH, market.spec.price_max
        else:
            if price:
                return RejectCode.PRICE_NOT_ALLOWED, 0
            price = market.band_price(is_buy)
        if qty < 1:
            return RejectCode.QTY_TOO_SMALL, 1
        if qty > market.spec.qty_max:
            return RejectCode.QTY_TOO_LARGE, market.spec.qty_max
        reduce_only = command.reduce_only
        hold = unit_hold(market, is_buy, price, reduce_only)
        if max(hold * qty, market.terms.notional_ceil(price, qty)) > MONEY_MAX_MSAT:
            return RejectCode.NOTIONAL_TOO_LARGE, MONEY_MAX_MSAT
        if may_rest and len(account.orders) >= limits.orders_per_account_max:
            return RejectCode.ORDERS_PER_ACCOUNT_FULL, limits.orders_per_account_max
        if may_rest and len(self.orders) >= limits.orders_max:
            return RejectCode.ORDERS_FULL, limits.orders_max
        if reduce_only:
            left = reducible(account, market, is_buy, None)
            if qty > left:
                return RejectCode.REDUCE_ONLY_EXCEEDED, max(left, 0)
        if post_only is not POST_ONLY_OFF:
            slid = post_only_price(market, is_buy, price, post_only)
            if slid == 0:
                return RejectCode.POST_ONLY_WOULD_TAKE, market.book.best_ask if is_buy else market.book.best_bid
            if slid != price:
                price = slid
                hold = unit_hold(market, is_buy, price, reduce_only)
        available = account.balance - account.held
        if hold * qty > available:
            return RejectCode.FUNDS_INSUFFICIENT, available
        prevention = command.self_trade_prevention
        if lifetime is FOK:
            fillable = market.book.fillable(is_buy, price, qty, account.account_id, prevention)
            if fillable < qty:
                return RejectCode.FILL_OR_KILL_UNFILLABLE, fillable

        # every check has passed
        order_id = entry.seq
        key = command.client_order_id
        order = Order(
            order_id,
            account.account_id,
            market.symbol,
            is_buy,
            command.order_type,
            price,
            qty,
            lifetime,
            post_only,
            reduce_only,
            prevention,
            expires_ns,
            key,
            ts_ns,
            hold,
        )
        self.orders[order_id] = order
        account.orders[order_id] = order
        account.held += hold * qty
        account.event_seq += 1
        account_seq = account.event_seq
        balance = account.balance
        held = account.held
        if key:
            self._remember(account, key, order, ts_ns)
        book = market.book
        first = len(out)
        resting = 0
        if is_buy:
            crosses = book.best_ask != 0 and price >= book.best_ask
        else:
            crosses = book.best_bid != 0 and price <= book.best_bid
        if crosses or not may_rest:
            # the answer goes before the trades, but tells how they went
            out.append(_PENDING)
            resting = self._enter(order, account, market, may_rest, ts_ns, out)
        else:
            self.matching.rest(order, account, market)
            resting = qty
        accepted = Accepted(
            account.account_id,
            account_seq,
            order_id,
            key,
            market.symbol,
            command.side,
            command.order_type,
            price,
            qty,
            order.filled,
            resting,
            lifetime,
            post_only,
            reduce_only,
            prevention,
            expires_ns,
            ts_ns,
            balance,
            held,
        )
        order.accepted = accepted
        if first == len(out):
            out.append(accepted)
        else:
            out[first] = accepted
        return None

    def _enter(self, order: Order, account: Account, market: Market, may_rest: bool, ts_ns: int, out: list[Event]) -> int:
        """Let an order walk the book, then rest, cancel or finish what remains; returns the quantity that rests."""
        if not self.matching.walk(order, market, ts_ns, out):
            return 0
        if order.remaining == 0:
            self.matching.finish(order, account, ORDER_FILLED)
            return 0
        if may_rest:
            self.matching.rest(order, account, market)
            return order.remaining
        is_market = order.order_type is MARKET
        reason = CancelReason.NO_LIQUIDITY if is_market else CancelReason.IMMEDIATE
        self.matching.cancel(order, account, market, reason, ORDER_CANCELED, out)
        return 0

    def _find(self, account: Account, order_id: int, client_order_id: str) -> Order | None:
        """The account's open order of that id, or, when that is 0, of that client order id."""
        if order_id:
            return account.orders.get(order_id)
        outcome = account.outcomes.get(client_order_id)
        if type(outcome) is Order and outcome.status is ORDER_OPEN:
            return outcome
        return None

    def _amend(self, command: Amend, entry: Entry, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        order: Order | None = None
        refusal: tuple[RejectCode, int] | None
        if account is None:
            refusal = RejectCode.ACCOUNT_UNKNOWN, 0
        elif entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            refusal = RejectCode.DEADLINE_PASSED, entry.ts_ns
        else:
            order = self._find(account, command.order_id, command.client_order_id)
            if order is None:
                refusal = RejectCode.ORDER_UNKNOWN, 0
            else:
                refusal = self._amend_checked(command, entry, account, order, out)
        if refusal is not None:
            market = order.market if order is not None else ""
            self._refuse(out, refusal[0], refusal[1], account, command.order_id, command.client_order_id, market)

    def _amend_checked(
        self, command: Amend, entry: Entry, account: Account, order: Order, out: list[Event]
    ) -> tuple[RejectCode, int] | None:
        """Amend the order, or say why not: the code and its bound."""
        market = self.markets[order.market]
        if market.state is not MARKET_OPEN:
            return _CLOSED_FOR_PLACING[market.state], 0
        if command.price and command.price < market.spec.price_min:
            return RejectCode.PRICE_TOO_LOW, market.spec.price_min
        if command.price > market.spec.price_max:
            return RejectCode.PRICE_TOO_HIGH, market.spec.price_max
        if command.qty < 0:
            return RejectCode.QTY_TOO_SMALL, 1
        if command.qty > market.spec.qty_max:
            return RejectCode.QTY_TOO_LARGE, market.spec.qty_max
        if command.price == 0 and command.qty == 0:
            return RejectCode.AMEND_EMPTY, 0
        price = command.price or order.price
        qty = command.qty or order.qty
        if qty <= order.filled:
            self._end(order, CancelReason.AMENDED, ORDER_CANCELED, out)
            return None
        old_price = order.price
        old_resting = order.remaining
        remaining = qty - order.filled
        if price == old_price and qty <= order.qty:
            self._amend_in_place(order, account, market, qty, out)
            return None

        is_buy = order.is_buy
        hold = unit_hold(market, is_buy, price, order.reduce_only)
        if max(hold * remaining, market.terms.notional_ceil(price, remaining)) > MONEY_MAX_MSAT:
            return RejectCode.NOTIONAL_TOO_LARGE, MONEY_MAX_MSAT
        if order.reduce_only:
            left = reducible(account, market, is_buy, order)
            if remaining > left:
                return RejectCode.REDUCE_ONLY_EXCEEDED, max(left, 0)
        if order.post_only is not POST_ONLY_OFF:
            slid = post_only_price(market, is_buy, price, order.post_only)
            if slid == 0:
                return RejectCode.POST_ONLY_WOULD_TAKE, market.book.best_ask if is_buy else market.book.best_bid
            if slid != price:
                price = slid
                hold = unit_hold(market, is_buy, price, order.reduce_only)
        available = account.balance - account.held + order.unit_hold * old_resting
        if hold * remaining > available:
            return RejectCode.FUNDS_INSUFFICIENT, available

        # every check has passed: out of the book, and in again as an aggressor
        matching = self.matching
        matching.unrest(order, account, market)
        account.held += hold * remaining - order.unit_hold * old_resting
        order.price = price
        order.qty = qty
        order.remaining = remaining
        order.unit_hold = hold
        account.event_seq += 1
        account_seq = account.event_seq
        balance = account.balance
        held = account.held
        first = len(out)
        out.append(_PENDING)
        resting = self._enter(order, account, market, True, entry.ts_ns, out)
        out[first] = Amended(
            account.account_id,
            account_seq,
            order.order_id,
            order.client_order_id,
            market.symbol,
            BUY if is_buy else SELL,
            old_price,
            old_resting,
            price,
            qty,
            order.filled,
            resting,
            False,
            balance,
            held,
        )
        return None

    def _amend_in_place(self, order: Order, account: Account, market: Market, qty: int, out: list[Event]) -> None:
        """Lower the quantity (or leave it); the order keeps its place in the queue."""
        old_resting = order.remaining
        less = order.qty - qty
        order.qty = qty
        order.remaining -= less
        level = order.level
        assert level is not None, order.order_id
        level.qty -= less
        if order.reduce_only:
            account.positions[market.symbol].reduce_only_qty -= less
        account.held -= order.unit_hold * less
        account.event_seq += 1
        out.append(
            Amended(
                account.account_id,
                account.event_seq,
                order.order_id,
                order.client_order_id,
                market.symbol,
                BUY if order.is_buy else SELL,
                order.price,
                old_resting,
                order.price,
                qty,
                order.filled,
                order.remaining,
                True,
                account.balance,
                account.held,
            )
        )

    def _end(self, order: Order, reason: CancelReason, status: OrderStatus, out: list[Event]) -> None:
        """Cancel a resting order."""
        market = self.markets[order.market]
        self.matching.cancel(order, self.accounts[order.account], market, reason, status, out)

    def _cancel(self, command: Cancel, entry: Entry, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        symbol = ""
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            code, bound = RejectCode.DEADLINE_PASSED, entry.ts_ns
        else:
            order = self._find(account, command.order_id, command.client_order_id)
            if order is None:
                code = RejectCode.ORDER_UNKNOWN
            else:
                symbol = order.market
                market = self.markets[symbol]
                if market.state is not MARKET_HALTED:
                    self.matching.cancel(order, account, market, CANCEL_REQUESTED, ORDER_CANCELED, out)
                    return
                code = RejectCode.MARKET_HALTED
        self._refuse(out, code, bound, account, command.order_id, command.client_order_id, symbol)

    def _cancel_all(self, command: CancelAll, entry: Entry, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        market = self.markets.get(command.market)
        code: RejectCode | None = None
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            code, bound = RejectCode.DEADLINE_PASSED, entry.ts_ns
        elif command.market and market is None:
            code = RejectCode.MARKET_UNKNOWN
        elif market is not None and market.state is MARKET_HALTED and not command.by_operator:
            code = RejectCode.MARKET_HALTED
        if code is not None:
            self._refuse(out, code, bound, account, 0, "", command.market)
            return
        assert account is not None
        reason = CancelReason.OPERATOR if command.by_operator else CANCEL_REQUESTED
        for order_id in sorted(account.orders):
            order = account.orders[order_id]
            if command.market and order.market != command.market:
                continue
            if command.side is not None and order.is_buy != (command.side is BUY):
                continue
            if self.markets[order.market].state is MARKET_HALTED and not command.by_operator:
                continue
            self._end(order, reason, ORDER_CANCELED, out)

    # --------------------------------------------------------------------------------------------- accounts and money

    def _create_account(self, command: CreateAccount, entry: Entry, out: list[Event]) -> None:
        name = command.name
        if not (0 < len(name) <= NAME_CHARS_MAX and name.isprintable() and name.strip() == name):
            self._refuse(out, RejectCode.ACCOUNT_NAME_INVALID, NAME_CHARS_MAX)
        elif name in self.names:
            self._refuse(out, RejectCode.ACCOUNT_NAME_TAKEN, self.names[name])
        elif len(self.accounts) >= self.limits.accounts_max:
            self._refuse(out, RejectCode.ACCOUNTS_FULL, self.limits.accounts_max)
        elif entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            self._refuse(out, RejectCode.DEADLINE_PASSED, entry.ts_ns)
        else:
            account = Account(self.next_account, name)
            self.next_account += 1
            self.accounts[account.account_id] = account
            self.names[name] = account.account_id
            out.append(AccountCreated(account.account_id, name))

    def _deposit(self, command: Deposit, entry: Entry, out: list[Event]) -> None:
        self._transfer(command.account, command.amount, 1, command.transfer_id, entry, out)

    def _withdraw(self, command: Withdraw, entry: Entry, out: list[Event]) -> None:
        self._transfer(command.account, command.amount, -1, command.transfer_id, entry, out)

    def _transfer(self, account_id: int, amount: int, sign: int, transfer_id: str, entry: Entry, out: list[Event]) -> None:
        """A deposit (``sign`` 1) or withdrawal (-1), at most once per transfer id."""
        account = self.accounts.get(account_id)
        if account is None:
            self._refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, 0, transfer_id)
            return
        key = "transfer:" + transfer_id
        first = account.outcomes.get(key)
        if first is not None:
            out.append(_repeat(first))
            return
        if not _is_client_order_id(transfer_id):
            bound = CLIENT_ORDER_ID_CHARS_MAX
            self._refuse(out, RejectCode.CLIENT_ORDER_ID_INVALID, bound, account, 0, transfer_id)
            return
        full = len(account.outcomes) >= self.limits.client_order_ids_per_account_max
        refusal: tuple[RejectCode, int] | None = None
        available = account.balance - account.held
        room = MONEY_MAX_MSAT - self.deposited
        if entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            refusal = RejectCode.DEADLINE_PASSED, entry.ts_ns
        elif full:
            bound = self.limits.client_order_ids_per_account_max
            self._refuse(out, RejectCode.CLIENT_ORDER_IDS_FULL, bound, account, 0, transfer_id)
            return
        elif not 0 < amount <= MONEY_MAX_MSAT:
            refusal = RejectCode.AMOUNT_INVALID, MONEY_MAX_MSAT
        elif sign > 0 and amount > room:
            refusal = RejectCode.DEPOSITS_FULL, room
        elif sign < 0 and amount > available:
            refusal = RejectCode.BALANCE_INSUFFICIENT, available
        if refusal is not None:
            rejected = self._refuse(out, refusal[0], refusal[1], account, 0, transfer_id)
            if not full:
                self._remember(account, key, rejected, entry.ts_ns)
            return
        account.balance += sign * amount
        self.deposited += sign * amount
        account.event_seq += 1
        changed = BalanceChanged(
            account_id,
            account.event_seq,
            sign * amount,
            BalanceReason.DEPOSIT if sign > 0 else BalanceReason.WITHDRAW,
            transfer_id,
            account.balance,
            account.held,
        )
        out.append(changed)
        self._remember(account, key, changed, entry.ts_ns)

    def _set_destination(self, command: SetDestination, entry: Entry, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        market = self.markets.get(command.market)
        code: RejectCode | None = None
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            code, bound = RejectCode.DEADLINE_PASSED, entry.ts_ns
        elif market is None:
            code = RejectCode.MARKET_UNKNOWN
        elif not _is_destination(command.url, command.worker):
            code, bound = RejectCode.DESTINATION_INVALID, URL_CHARS_MAX
        elif (
            command.market not in account.destinations and len(account.destinations) >= self.limits.destinations_per_account_max
        ):
            code, bound = RejectCode.DESTINATIONS_FULL, self.limits.destinations_per_account_max
        if code is not None:
            self._refuse(out, code, bound, account, 0, "", command.market)
            return
        assert account is not None
        assert market is not None
        if command.market not in account.destinations:
            market.destined.append(command.account)
        account.destinations[command.market] = (command.url, command.worker)
        account.event_seq += 1
        out.append(DestinationSet(command.account, account.event_seq, command.market, command.url, command.worker))
        for delivery_id in market.deliveries:
            delivery = self.deliveries[delivery_id]
            if delivery.buyer == command.account and (delivery.url, delivery.worker) != (command.url, command.worker):
                if not delivery.url and delivery.state is DeliveryState.RUNNING:
                    delivery.waited_hashes = waited_hashes(market.spec, delivery.contracted_hashes, entry.ts_ns)
                delivery.url = command.url
                delivery.worker = command.worker
                self.delivering.tell(delivery, out)

    # ---------------------------------------------------------------------------------------------------------- markets

    def _list_market(self, command: ListMarket, entry: Entry, out: list[Event]) -> None:
        spec = command.spec
        rule = broken_rule(spec, entry.ts_ns, self.limits)
        if entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            self._refuse(out, RejectCode.DEADLINE_PASSED, entry.ts_ns, market=spec.symbol)
        elif spec.symbol in self.markets:
            self._refuse(out, RejectCode.MARKET_EXISTS, market=spec.symbol)
        elif len(self.markets) >= self.limits.markets_max:
            self._refuse(out, RejectCode.MARKETS_FULL, self.limits.markets_max, market=spec.symbol)
        elif rule:
            self._refuse(out, RejectCode.MARKET_SPEC_INVALID, rule, market=spec.symbol)
        else:
            self.markets[spec.symbol] = Market(spec)
            self.due.add(spec.gate_ns, agenda.GATE, spec.symbol)
            out.append(MarketListed(spec))

    def _set_market_state(self, command: SetMarketState, entry: Entry, out: list[Event]) -> None:
        market = self.markets.get(command.market)
        if entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            self._refuse(out, RejectCode.DEADLINE_PASSED, entry.ts_ns, market=command.market)
        elif market is None:
            self._refuse(out, RejectCode.MARKET_UNKNOWN, market=command.market)
        elif market.state is MarketState.CLOSED or command.state is MarketState.SETTLED:
            self._refuse(out, RejectCode.MARKET_STATE_INVALID, market.state.value, market=command.market)
        else:
            market.state = command.state
            out.append(MarketStateChanged(market.symbol, command.state))
            if command.state is MarketState.CLOSED:
                self._cancel_orders(market, CancelReason.OPERATOR, out)

    def _cancel_orders(self, market: Market, reason: CancelReason, out: list[Event]) -> None:
        """Cancel every order of a market, oldest first."""
        orders = market.book.orders_best_first(True) + market.book.orders_best_first(False)
        for order in sorted(orders, key=_by_order_id):
            self._end(order, reason, ORDER_CANCELED, out)

    def _gate(self, market: Market, out: list[Event]) -> None:
        """Trading ends: cancel what rests and turn positions into deliveries."""
        self._cancel_orders(market, CancelReason.GATE, out)
        if market.state is not MarketState.CLOSED:
            market.state = MarketState.CLOSED
            out.append(MarketStateChanged(market.symbol, MarketState.CLOSED))
        self.delivering.assign(market, out)

    # ------------------------------------------------------------------------------------------------------- deliveries

    def _report_work(self, command: ReportWork, entry: Entry, out: list[Event]) -> None:
        delivery = self.deliveries.get(command.delivery_id)
        if entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            self._refuse(out, RejectCode.DEADLINE_PASSED, entry.ts_ns)
        elif delivery is None:
            self._refuse(out, RejectCode.DELIVERY_UNKNOWN)
        elif delivery.state is DeliveryState.SCHEDULED:
            self._refuse(out, RejectCode.DELIVERY_NOT_STARTED, self.markets[delivery.market].spec.period_start_ns)
        elif command.hashes < delivery.proven_hashes:
            self._refuse(out, RejectCode.WORK_DECREASED, delivery.proven_hashes)
        elif command.shares < delivery.shares:
            self._refuse(out, RejectCode.WORK_DECREASED, delivery.shares)
        elif command.excused_hashes < delivery.excused_hashes:
            self._refuse(out, RejectCode.WORK_DECREASED, delivery.excused_hashes)
        elif command.hashes + command.excused_hashes > WORK_MAX_HASHES:
            self._refuse(out, RejectCode.WORK_TOO_LARGE, WORK_MAX_HASHES)
        elif command.shares > SHARES_MAX:
            self._refuse(out, RejectCode.WORK_TOO_LARGE, SHARES_MAX)
        else:
            delivery.proven_hashes = command.hashes
            delivery.shares = command.shares
            delivery.excused_hashes = command.excused_hashes
            self.delivering.tell(delivery, out)

    def _settle(self, command: Settle, entry: Entry, out: list[Event]) -> None:
        market = self.markets.get(command.market)
        if entry.deadline_ns and entry.ts_ns > entry.deadline_ns:
            self._refuse(out, RejectCode.DEADLINE_PASSED, entry.ts_ns, market=command.market)
        elif market is None:
            self._refuse(out, RejectCode.MARKET_UNKNOWN, market=command.market)
        elif command.index_price < 0:
            self._refuse(out, RejectCode.PRICE_TOO_LOW, 1, market=command.market)
        elif command.index_price > market.spec.price_max:
            self._refuse(out, RejectCode.PRICE_TOO_HIGH, market.spec.price_max, market=command.market)
        elif entry.ts_ns < market.spec.period_end_ns:
            self._refuse(out, RejectCode.PERIOD_NOT_ENDED, market.spec.period_end_ns, market=command.market)
        else:
            self.due.discard(market.spec.settle_ns, agenda.SETTLEMENT, market.symbol)
            self.delivering.settle(market, command.index_price, out)


# Stands where an Accepted or Amended event goes until the trades that it tells of are done; never leaves the engine.
_PENDING: Final = Rejected(0, 0, RejectCode.ACCOUNT_UNKNOWN, 0, 0, "", "")


def memory(item: Order | tuple[int, int, str]) -> tuple[int, int, str]:
    """When an outcome was first given, to which account, under which key."""
    if isinstance(item, Order):
        return item.ts_ns, item.account, item.client_order_id
    return item


def _by_order_id(order: Order) -> int:
    return order.order_id


def _repeat(outcome: Order | Rejected | BalanceChanged) -> Event:
    """The first outcome of a client order id or transfer id, marked as a repeat."""
    if isinstance(outcome, Order):
        assert outcome.accepted is not None, outcome.order_id
        return replace(outcome.accepted, repeat=True)
    return replace(outcome, repeat=True)


def _is_client_order_id(text: str) -> bool:
    """1 to 36 characters of A-Z a-z 0-9 . _ - (no colon: that marks transfers among the remembered outcomes)."""
    if not 0 < len(text) <= CLIENT_ORDER_ID_CHARS_MAX or not text.isascii():
        return False
    rest = text.replace("-", "").replace("_", "").replace(".", "")
    return not rest or rest.isalnum()


def _is_destination(url: str, worker: str) -> bool:
    """A stratum URL with host and port, and a worker name, both printable ASCII without blanks."""
    if not url.startswith(URL_SCHEMES) or len(url) > URL_CHARS_MAX or not 0 < len(worker) <= WORKER_CHARS_MAX:
        return False
    if not all(text.isascii() and text.isprintable() and " " not in text for text in (url, worker)):
        return False
    host, _, port = url.partition("://")[2].rpartition(":")
    return bool(host) and "/" not in host and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65_535
