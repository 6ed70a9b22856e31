"""The engine: ``state', events = apply(state, entry)``, a deterministic function of the journal.

``apply`` does first what fell due by the entry's time (expiries, gates, starts of delivery, settlements), then the command.
Each handler reads, decides, then changes: a command is applied whole or refused whole. The event contract is in
:mod:`engine.events`, the precedence of refusals in :mod:`engine.rejects`.
"""

from collections.abc import Callable
from typing import Any, Final, cast

from msgspec.structs import astuple

from engine import due as agenda
from engine.accounts import Account, Order, Pool, answer_of, is_client_order_id, keep_answer
from engine.answers import CLOSED_FOR_PLACING, Answers, is_destination
from engine.book import Resting
from engine.commands import (
    Amend,
    AmendAsk,
    AmendBid,
    Cancel,
    CancelAll,
    CreateAccount,
    DeletePool,
    Deposit,
    Entry,
    ListLive,
    ListMarket,
    Place,
    PlaceAsk,
    PlaceBid,
    RefillBid,
    ReportFlow,
    ReportWork,
    SavePool,
    SetDestination,
    SetIndex,
    SetMarketState,
    Settle,
    Tick,
    Withdraw,
)
from engine.delivery import Delivering
from engine.due import NEVER
from engine.events import (
    Accepted,
    AccountCreated,
    Amended,
    BalanceChanged,
    DestinationSet,
    Event,
    LiveListed,
    MarketListed,
    MarketStateChanged,
    PoolDeleted,
    PoolSaved,
    Rejected,
)
from engine.limits import (
    MONEY_MAX_MSAT,
    NAME_CHARS_MAX,
    SHARES_MAX,
    URL_CHARS_MAX,
    WORK_MAX_HASHES,
    Limits,
)
from engine.live import Live
from engine.markets.dated import Delivery, Market, broken_rule, waited_hashes
from engine.markets.live import LiveMarket, broken_live_rule
from engine.matching import Matching
from engine.members import (
    BUY,
    CANCEL_REQUESTED,
    END_REQUESTED,
    FOK,
    GTC,
    GTD,
    LIMIT,
    MARKET_HALTED,
    MARKET_OPEN,
    ORDER_CANCELED,
    ORDER_FILLED,
    ORDER_OPEN,
    POST_ONLY_OFF,
    SELL,
)
from engine.rejects import RejectCode
from engine.risk import fillable, post_only_price, reducible, unit_hold
from engine.types import (
    FEES_ACCOUNT,
    INSURANCE_ACCOUNT,
    BalanceReason,
    CancelReason,
    DeliveryState,
    MarketState,
    OrderStatus,
    OrderType,
    PostOnly,
    SelfTradePrevention,
    Side,
    TimeInForce,
)

# All fields of a Struct at once: compiled, reading them one by one takes several times as long.
_entry_fields: Final = cast("Callable[[Entry], tuple[Any, int, Any, int]]", astuple)
_place_fields: Final = cast(
    "Callable[[Place], tuple[int, str, Side, OrderType, int, int, TimeInForce, PostOnly, bool, SelfTradePrevention, int, str]]",
    astuple,
)
_amend_fields: Final = cast("Callable[[Amend], tuple[int, Any, str, int, int]]", astuple)
_cancel_fields: Final = cast("Callable[[Cancel], tuple[int, Any, str]]", astuple)

_PLACE: Final = Place
_CANCEL: Final = Cancel
_AMEND: Final = Amend


TRANSFER: Final = "transfer:"
"""Marks transfer ids among the remembered outcomes."""


class Engine(Answers):
    """The whole state of the exchange, and the one function that changes it."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.orders_max: int = self.limits.orders_max
        self.orders_per_account_max: int = self.limits.orders_per_account_max
        # seq as the very object that the entry has: what the order that it places is filed under
        self.seq_object: Any = 0
        self.names: dict[str, int] = {"fees": FEES_ACCOUNT, "insurance": INSURANCE_ACCOUNT}
        # the market of the last order: most likely that of the next
        self.latest: Market | None = None
        self.deliveries: dict[int, Delivery] = {}
        # deposits minus withdrawals: what all money in the engine must add up to
        self.deposited: int = 0
        self.matching: Matching = Matching(self.fees, self.due)
        self.delivering: Delivering = Delivering(self.accounts, self.markets, self.deliveries, self.insurance, self.due)
        self.live: Live = Live(self)
        self._handlers: dict[type, Callable[[Any, bool, list[Event]], None]] = {
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
            PlaceBid: self.live.place_bid,
            PlaceAsk: self.live.place_ask,
            AmendBid: self.live.amend_bid,
            AmendAsk: self.live.amend_ask,
            RefillBid: self.live.refill_bid,
            ReportFlow: self.live.report_flow,
            SetIndex: self.live.set_index,
            ListLive: self._list_live,
            SavePool: self._save_pool,
            DeletePool: self._delete_pool,
            Tick: self._tick,
        }

    # ---------------------------------------------------------------------------------------------------------- entries

    def apply(self, entry: Entry) -> list[Event]:
        """Apply one entry and return its facts in order. Cost: that of the command, plus what fell due.

        Raises AssertionError when the entry is not the next one: a broken journal, not a trader's mistake.
        """
        seq_object, ts_ns, command, deadline_ns = _entry_fields(entry)
        seq: int = seq_object
        assert seq == self.seq + 1, f"entry {seq} after {self.seq}"
        assert ts_ns >= self.ts_ns, f"entry {seq} goes back in time, from {self.ts_ns} to {ts_ns}"
        out: list[Event] = []
        if self.due.next_ns <= ts_ns:
            self._run_due(ts_ns, out)
        if self.forget_ns <= ts_ns:
            self.forget(ts_ns)
        self.seq = seq
        self.seq_object = seq_object
        self.ts_ns = ts_ns
        late = deadline_ns != 0 and ts_ns > deadline_ns
        kind = type(command)
        if kind is _PLACE:
            self._place(command, late, out)
        elif kind is _CANCEL:
            self._cancel(command, late, out)
        elif kind is _AMEND:
            self._amend(command, late, out)
        else:
            self._handlers[kind](command, late, out)
        return out

    def next_due_ns(self) -> int:
        """When the next expiry, gate, delivery or settlement falls due; 0 when nothing is waiting."""
        return 0 if self.due.next_ns == NEVER else self.due.next_ns

    def open_orders(self) -> list[Order]:
        """Every open order, account by account. O(accounts + orders)."""
        return [order for account in self.accounts.values() for order in account.orders.values()]

    def _tick(self, command: Tick, late: bool, out: list[Event]) -> None:
        """Only time passes."""

    def _run_due(self, ts_ns: int, out: list[Event]) -> None:
        due = self.due
        while due.next_ns <= ts_ns:
            due_ns, kind, key = due.pop()
            if kind == agenda.EXPIRY:
                self._end(self.matching.expiring[int(key)], CancelReason.EXPIRED, OrderStatus.EXPIRED, out)
            elif kind == agenda.GATE:
                self._gate(self.markets[str(key)], out)
            elif kind == agenda.START:
                self.delivering.start(self.markets[str(key)], out)
            elif kind == agenda.SETTLEMENT:
                self.delivering.settle(self.markets[str(key)], 0, out)
            else:
                self.live.fell_due(kind, int(key), due_ns, out)

    # ----------------------------------------------------------------------------------------------------------- orders

    def _place(self, command: Place, late: bool, out: list[Event]) -> None:
        (
            account_id,
            symbol,
            side,
            order_type,
            price,
            qty,
            lifetime,
            post_only,
            reduce_only,
            prevention,
            expires_ns,
            key,
        ) = _place_fields(command)
        account = self.accounts.get(account_id)
        if account is None:
            self.refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, 0, key, symbol)
            return
        ts_ns = self.ts_ns
        if late:
            return self.refuse_new(RejectCode.DEADLINE_PASSED, ts_ns, account, key, symbol, out)
        market = self.latest
        if market is None or market.state is not MARKET_OPEN or market.symbol != symbol:
            market = self.markets.get(symbol)
            if market is None or market.state is not MARKET_OPEN:
                code = self._no_market(symbol) if market is None else CLOSED_FOR_PLACING[market.state]
                return self.refuse_new(code, 0, account, key, symbol, out)
            self.latest = market
        is_buy = side is BUY
        is_limit = order_type is LIMIT
        may_rest = lifetime is GTC or lifetime is GTD
        plain = is_limit and lifetime is GTC and not expires_ns
        if not (plain and market.price_min <= price <= market.price_max and 0 < qty <= market.qty_max):
            # a closer look, out of the way of the usual order
            refusal = self._wrong_field(market, is_limit, price, qty, lifetime, post_only, expires_ns)
            if refusal is not None:
                return self.refuse_new(refusal[0], refusal[1], account, key, symbol, out)
            if not is_limit:
                price = market.band_price(is_buy)
        hold = unit_hold(market, is_buy, price, reduce_only)
        if hold * qty > MONEY_MAX_MSAT or price * qty > market.terms.price_qty_max:
            return self.refuse_new(RejectCode.NOTIONAL_TOO_LARGE, MONEY_MAX_MSAT, account, key, symbol, out)
        matching = self.matching
        orders = account.orders
        if may_rest and (len(orders) >= self.orders_per_account_max or matching.open_orders >= self.orders_max):
            if len(orders) >= self.orders_per_account_max:
                code, bound = RejectCode.ORDERS_PER_ACCOUNT_FULL, self.orders_per_account_max
            else:
                code, bound = RejectCode.ORDERS_FULL, self.orders_max
            return self.refuse_new(code, bound, account, key, symbol, out)
        if reduce_only:
            left = reducible(account, market, is_buy, None)
            if qty > left:
                return self.refuse_new(RejectCode.REDUCE_ONLY_EXCEEDED, max(left, 0), account, key, symbol, out)
        book = market.book
        if post_only is not POST_ONLY_OFF:
            slid = post_only_price(market, is_buy, price, post_only)
            if slid == 0:
                best = book.best_ask if is_buy else book.best_bid
                return self.refuse_new(RejectCode.POST_ONLY_WOULD_TAKE, best, account, key, symbol, out)
            if slid != price:
                price = slid
                hold = unit_hold(market, is_buy, price, reduce_only)
        balance = account.balance
        held = account.held + hold * qty
        if held > balance:
            return self.refuse_new(RejectCode.FUNDS_INSUFFICIENT, balance - account.held, account, key, symbol, out)
        if lifetime is FOK:
            found = fillable(account, market, is_buy, price, qty, prevention)
            if found < qty:
                return self.refuse_new(RejectCode.FILL_OR_KILL_UNFILLABLE, found, account, key, symbol, out)
        order = Order(
            self.seq_object,
            account,
            market,
            is_buy,
            order_type,
            price,
            qty,
            lifetime,
            post_only,
            reduce_only,
            prevention,
            expires_ns,
            key,
            ts_ns,
            account.event_seq + 1,
            hold,
        )
        if key:
            outcomes = account.outcomes
            # one look at the table says whether the id is new, and takes it
            if (
                len(outcomes) >= self.client_order_ids_max
                or not is_client_order_id(key)
                or outcomes.setdefault(key, order) is not order
            ):
                # a repeat, no id, or one too many: which of them is found there
                return self.refuse_new(RejectCode.CLIENT_ORDER_IDS_FULL, 0, account, key, symbol, out)
            if self.forget_ns == NEVER:
                self.forget_ns = ts_ns + self.limits.client_order_id_ns
            self.queue(order)

        # every check has passed
        account.event_seq = order.account_seq
        matching.open_orders += 1
        orders[order.id_object] = order
        account.held = held
        if is_buy:
            crosses = book.best_ask != 0 and price >= book.best_ask
        else:
            crosses = price <= book.best_bid
        if may_rest and not crosses:
            matching.rest(order, account, market)
            out.append(
                Accepted(
                    account_id,
                    order.account_seq,
                    order.order_id,
                    key,
                    market.symbol,
                    side,
                    order_type,
                    price,
                    qty,
                    0,
                    qty,
                    lifetime,
                    post_only,
                    reduce_only,
                    prevention,
                    expires_ns,
                    ts_ns,
                    balance,
                    held,
                )
            )
            return
        # the answer goes before the trades, but tells how they went
        place = len(out)
        out.append(_PENDING)
        resting = self._enter(order, account, market, may_rest, ts_ns, out)
        answer = answer_of(order, price, qty, order.filled, resting, balance, held)
        out[place] = answer
        if key:
            order.answer = answer

    def _wrong_field(
        self,
        market: Market,
        is_limit: bool,
        price: int,
        qty: int,
        lifetime: TimeInForce,
        post_only: PostOnly,
        expires_ns: int,
    ) -> tuple[RejectCode, int] | None:
        """What is wrong with an order by itself, and the bound that it broke."""
        may_rest = lifetime is GTC or lifetime is GTD
        if not is_limit and may_rest:
            return RejectCode.TIME_IN_FORCE_INVALID, 0
        if post_only is not POST_ONLY_OFF and not (is_limit and may_rest):
            return RejectCode.POST_ONLY_INVALID, 0
        if expires_ns or lifetime is GTD:
            longest = self.limits.expiry_max_ns
            if lifetime is not GTD or not self.ts_ns < expires_ns <= self.ts_ns + longest:
                return RejectCode.EXPIRY_INVALID, longest
        if is_limit:
            if price < market.price_min:
                return RejectCode.PRICE_TOO_LOW, market.price_min
            if price > market.price_max:
                return RejectCode.PRICE_TOO_HIGH, market.price_max
        elif price:
            return RejectCode.PRICE_NOT_ALLOWED, 0
        if qty < 1:
            return RejectCode.QTY_TOO_SMALL, 1
        if qty > market.qty_max:
            return RejectCode.QTY_TOO_LARGE, market.qty_max
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
        reason = CancelReason.IMMEDIATE if order.is_limit else CancelReason.NO_LIQUIDITY
        self.matching.cancel(order, account, market, reason, ORDER_CANCELED, out)
        return 0

    def _find(self, account: Account, order_id: Any, client_order_id: str) -> Order | None:
        """The account's open order of that id, or, when that is 0, of that client order id."""
        if order_id:
            return account.orders.get(order_id)
        outcome = account.outcomes.get(client_order_id)
        if type(outcome) is Order and outcome.status is ORDER_OPEN:
            return outcome
        return None

    def _amend(self, command: Amend, late: bool, out: list[Event]) -> None:
        account_id, order_id, client_order_id, price, qty = _amend_fields(command)
        account = self.accounts.get(account_id)
        order: Order | None = None
        refusal: tuple[RejectCode, int] | None
        if account is None:
            refusal = RejectCode.ACCOUNT_UNKNOWN, 0
        elif late:
            refusal = RejectCode.DEADLINE_PASSED, self.ts_ns
        else:
            order = self._find(account, order_id, client_order_id)
            if order is None:
                refusal = RejectCode.ORDER_UNKNOWN, 0
            else:
                refusal = self._amend_checked(order, account, price, qty, out)
        if refusal is not None:
            symbol = order.market if order is not None else ""
            self.refuse(out, refusal[0], refusal[1], account, order_id, client_order_id, symbol)

    def _amend_checked(
        self, order: Order, account: Account, price: int, qty: int, out: list[Event]
    ) -> tuple[RejectCode, int] | None:
        """Amend the order, or say why not: the code and its bound."""
        market = market_of(order)
        if market.state is not MARKET_OPEN:
            return CLOSED_FOR_PLACING[market.state], 0
        if price and price < market.price_min:
            return RejectCode.PRICE_TOO_LOW, market.price_min
        if price > market.price_max:
            return RejectCode.PRICE_TOO_HIGH, market.price_max
        if qty < 0:
            return RejectCode.QTY_TOO_SMALL, 1
        if qty > market.qty_max:
            return RejectCode.QTY_TOO_LARGE, market.qty_max
        if price == 0 and qty == 0:
            return RejectCode.AMEND_EMPTY, 0
        if price == 0:
            price = order.price
        if qty == 0:
            qty = order.qty
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
        if hold * remaining > MONEY_MAX_MSAT or price * remaining > market.terms.price_qty_max:
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
        keep_answer(order)
        self.matching.unrest(order, account, market)
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
        resting = self._enter(order, account, market, True, self.ts_ns, out)
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
        keep_answer(order)
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
        self.matching.cancel(order, order.account, market_of(order), reason, status, out)

    def _cancel(self, command: Cancel, late: bool, out: list[Event]) -> None:
        account_id, order_id, client_order_id = _cancel_fields(command)
        account = self.accounts.get(account_id)
        symbol = ""
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif late:
            code, bound = RejectCode.DEADLINE_PASSED, self.ts_ns
        else:
            order = self._find(account, order_id, client_order_id)
            if order is None:
                standing = self.live.find(account, order_id, client_order_id)
                if standing is None:
                    code = RejectCode.ORDER_UNKNOWN
                elif self.live.cancel(standing, END_REQUESTED, out):
                    return
                else:
                    symbol = standing.market
                    code = RejectCode.MARKET_HALTED
            else:
                market = market_of(order)
                if market.state is not MARKET_HALTED:
                    self.matching.cancel(order, account, market, CANCEL_REQUESTED, ORDER_CANCELED, out)
                    return
                symbol = market.symbol
                code = RejectCode.MARKET_HALTED
        self.refuse(out, code, bound, account, order_id, client_order_id, symbol)

    def _cancel_all(self, command: CancelAll, late: bool, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        state = self._state_of(command.market)
        code: RejectCode | None = None
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif late:
            code, bound = RejectCode.DEADLINE_PASSED, self.ts_ns
        elif command.market and state is None:
            code = RejectCode.MARKET_UNKNOWN
        elif state is MARKET_HALTED and not command.by_operator:
            code = RejectCode.MARKET_HALTED
        if code is not None:
            self.refuse(out, code, bound, account, 0, "", command.market)
            return
        assert account is not None
        reason = CancelReason.OPERATOR if command.by_operator else CANCEL_REQUESTED
        for order_id in sorted(account.orders):
            order = account.orders[order_id]
            if command.market and order.market != command.market:
                continue
            if command.side is not None and order.is_buy != (command.side is BUY):
                continue
            if market_of(order).state is MARKET_HALTED and not command.by_operator:
                continue
            self._end(order, reason, ORDER_CANCELED, out)
        self.live.cancel_all(account, command, out)

    def _state_of(self, symbol: str) -> MarketState | None:
        """The state of a listed market of any kind."""
        if symbol in self.markets:
            return self.markets[symbol].state
        live = self.live.markets.get(symbol)
        return None if live is None else live.state

    def _no_market(self, symbol: str) -> RejectCode:
        """Why there is no dated market of that name."""
        return RejectCode.MARKET_KIND_WRONG if symbol in self.live.markets else RejectCode.MARKET_UNKNOWN

    # --------------------------------------------------------------------------------------------- accounts and money

    def _create_account(self, command: CreateAccount, late: bool, out: list[Event]) -> None:
        name = command.name
        if not (0 < len(name) <= NAME_CHARS_MAX and name.isprintable() and name.strip() == name):
            self.refuse(out, RejectCode.ACCOUNT_NAME_INVALID, NAME_CHARS_MAX)
        elif name in self.names:
            self.refuse(out, RejectCode.ACCOUNT_NAME_TAKEN, self.names[name])
        elif len(self.accounts) >= self.limits.accounts_max:
            self.refuse(out, RejectCode.ACCOUNTS_FULL, self.limits.accounts_max)
        elif late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns)
        else:
            account = Account(self.next_account, name)
            self.next_account += 1
            self.accounts.add(account)
            self.names[name] = account.account_id
            out.append(AccountCreated(account.account_id, name))

    def _deposit(self, command: Deposit, late: bool, out: list[Event]) -> None:
        self._transfer(command.account, command.amount, 1, command.transfer_id, late, out)

    def _withdraw(self, command: Withdraw, late: bool, out: list[Event]) -> None:
        self._transfer(command.account, command.amount, -1, command.transfer_id, late, out)

    def _transfer(self, account_id: int, amount: int, sign: int, transfer_id: str, late: bool, out: list[Event]) -> None:
        """A deposit (``sign`` 1) or withdrawal (-1), at most once per transfer id."""
        account = self.accounts.get(account_id)
        if account is None:
            self.refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, 0, transfer_id)
            return
        available = account.balance - account.held
        room = MONEY_MAX_MSAT - self.deposited
        code: RejectCode | None = None
        bound = 0
        if late:
            code, bound = RejectCode.DEADLINE_PASSED, self.ts_ns
        elif not 0 < amount <= MONEY_MAX_MSAT:
            code, bound = RejectCode.AMOUNT_INVALID, MONEY_MAX_MSAT
        elif sign > 0 and amount > room:
            code, bound = RejectCode.DEPOSITS_FULL, room
        elif sign < 0 and amount > available:
            code, bound = RejectCode.BALANCE_INSUFFICIENT, available
        elif not self.is_new(account, transfer_id, TRANSFER):
            code = RejectCode.CLIENT_ORDER_IDS_FULL
        if code is not None:
            self.refuse_new(code, bound, account, transfer_id, "", out, TRANSFER)
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
        self.remember(account, TRANSFER + transfer_id, changed, self.ts_ns)

    def _set_destination(self, command: SetDestination, late: bool, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        market = self.markets.get(command.market)
        code: RejectCode | None = None
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif late:
            code, bound = RejectCode.DEADLINE_PASSED, self.ts_ns
        elif market is None:
            code = self._no_market(command.market)
        elif not is_destination(command.url, command.worker):
            code, bound = RejectCode.DESTINATION_INVALID, URL_CHARS_MAX
        elif (
            command.market not in account.destinations and len(account.destinations) >= self.limits.destinations_per_account_max
        ):
            code, bound = RejectCode.DESTINATIONS_FULL, self.limits.destinations_per_account_max
        if code is not None:
            self.refuse(out, code, bound, account, 0, "", command.market)
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
                    delivery.waited_hashes = waited_hashes(market.spec, delivery.contracted_hashes, self.ts_ns)
                delivery.url = command.url
                delivery.worker = command.worker
                self.delivering.tell(delivery, out)

    def _save_pool(self, command: SavePool, late: bool, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        pool_id = command.pool_id or self.seq
        texts = (command.name, command.algorithm)
        code: RejectCode | None = None
        bound = 0
        if account is None:
            code = RejectCode.ACCOUNT_UNKNOWN
        elif late:
            code, bound = RejectCode.DEADLINE_PASSED, self.ts_ns
        elif command.pool_id and command.pool_id not in account.pools:
            code = RejectCode.POOL_UNKNOWN
        elif not is_destination(command.url, command.worker):
            code, bound = RejectCode.DESTINATION_INVALID, URL_CHARS_MAX
        elif not (all(0 < len(text) <= NAME_CHARS_MAX and text.isprintable() for text in texts)) or not (
            len(command.password) <= NAME_CHARS_MAX and command.password.isprintable()
        ):
            code, bound = RejectCode.POOL_INVALID, NAME_CHARS_MAX
        elif not command.pool_id and len(account.pools) >= self.limits.pools_per_account_max:
            code, bound = RejectCode.POOLS_FULL, self.limits.pools_per_account_max
        if code is not None:
            self.refuse(out, code, bound, account)
            return
        assert account is not None
        named = Pool(pool_id, command.name, command.algorithm, command.url, command.worker, command.password)
        account.pools[pool_id] = named
        account.event_seq += 1
        out.append(
            PoolSaved(
                account.account_id,
                account.event_seq,
                pool_id,
                named.name,
                named.algorithm,
                named.url,
                named.worker,
                named.password,
            )
        )

    def _delete_pool(self, command: DeletePool, late: bool, out: list[Event]) -> None:
        account = self.accounts.get(command.account)
        if account is None:
            self.refuse(out, RejectCode.ACCOUNT_UNKNOWN)
        elif late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns, account)
        elif command.pool_id not in account.pools:
            self.refuse(out, RejectCode.POOL_UNKNOWN, 0, account)
        else:
            del account.pools[command.pool_id]
            account.event_seq += 1
            out.append(PoolDeleted(account.account_id, account.event_seq, command.pool_id))

    # ---------------------------------------------------------------------------------------------------------- markets

    def _list_market(self, command: ListMarket, late: bool, out: list[Event]) -> None:
        spec = command.spec
        rule = broken_rule(spec, self.ts_ns, self.limits)
        if late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns, market=spec.symbol)
        elif self._state_of(spec.symbol) is not None:
            self.refuse(out, RejectCode.MARKET_EXISTS, market=spec.symbol)
        elif len(self.markets) + len(self.live.markets) >= self.limits.markets_max:
            self.refuse(out, RejectCode.MARKETS_FULL, self.limits.markets_max, market=spec.symbol)
        elif rule:
            self.refuse(out, RejectCode.MARKET_SPEC_INVALID, rule, market=spec.symbol)
        else:
            self.markets[spec.symbol] = Market(spec)
            self.due.add_market(spec.gate_ns, agenda.GATE, spec.symbol)
            out.append(MarketListed(spec))

    def _list_live(self, command: ListLive, late: bool, out: list[Event]) -> None:
        spec = command.spec
        rule = broken_live_rule(spec, self.limits)
        if late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns, market=spec.symbol)
        elif self._state_of(spec.symbol) is not None:
            self.refuse(out, RejectCode.MARKET_EXISTS, market=spec.symbol)
        elif len(self.markets) + len(self.live.markets) >= self.limits.markets_max:
            self.refuse(out, RejectCode.MARKETS_FULL, self.limits.markets_max, market=spec.symbol)
        elif rule:
            self.refuse(out, RejectCode.MARKET_SPEC_INVALID, rule, market=spec.symbol)
        else:
            self.live.markets[spec.symbol] = LiveMarket(spec)
            out.append(LiveListed(spec))

    def _set_market_state(self, command: SetMarketState, late: bool, out: list[Event]) -> None:
        market: Market | LiveMarket | None = self.markets.get(command.market) or self.live.markets.get(command.market)
        if late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns, market=command.market)
        elif market is None:
            self.refuse(out, RejectCode.MARKET_UNKNOWN, market=command.market)
        elif market.state is MarketState.CLOSED or command.state is MarketState.SETTLED:
            self.refuse(out, RejectCode.MARKET_STATE_INVALID, market.state.value, market=command.market)
        else:
            market.state = command.state
            out.append(MarketStateChanged(market.symbol, command.state))
            if command.state is MarketState.CLOSED:
                if isinstance(market, LiveMarket):
                    self.live.close(market, out)
                else:
                    self._cancel_orders(market, CancelReason.OPERATOR, out)

    def _cancel_orders(self, market: Market, reason: CancelReason, out: list[Event]) -> None:
        """Cancel every order of a market, oldest first."""
        orders = market.book.orders_best_first(True) + market.book.orders_best_first(False)
        for order in sorted(orders, key=_by_order_id):
            assert isinstance(order, Order), order.order_id
            self._end(order, reason, ORDER_CANCELED, out)

    def _gate(self, market: Market, out: list[Event]) -> None:
        """Trading ends: cancel what rests and turn positions into deliveries."""
        self._cancel_orders(market, CancelReason.GATE, out)
        if market.state is not MarketState.CLOSED:
            market.state = MarketState.CLOSED
            out.append(MarketStateChanged(market.symbol, MarketState.CLOSED))
        self.delivering.assign(market, out)

    # ------------------------------------------------------------------------------------------------------- deliveries

    def _report_work(self, command: ReportWork, late: bool, out: list[Event]) -> None:
        delivery = self.deliveries.get(command.delivery_id)
        if late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns)
        elif delivery is None:
            self.refuse(out, RejectCode.DELIVERY_UNKNOWN)
        elif delivery.state is DeliveryState.SCHEDULED:
            self.refuse(out, RejectCode.DELIVERY_NOT_STARTED, self.markets[delivery.market].spec.period_start_ns)
        elif command.hashes < delivery.proven_hashes:
            self.refuse(out, RejectCode.WORK_DECREASED, delivery.proven_hashes)
        elif command.shares < delivery.shares:
            self.refuse(out, RejectCode.WORK_DECREASED, delivery.shares)
        elif command.excused_hashes < delivery.excused_hashes:
            self.refuse(out, RejectCode.WORK_DECREASED, delivery.excused_hashes)
        elif command.hashes + command.excused_hashes > WORK_MAX_HASHES:
            self.refuse(out, RejectCode.WORK_TOO_LARGE, WORK_MAX_HASHES)
        elif command.shares > SHARES_MAX:
            self.refuse(out, RejectCode.WORK_TOO_LARGE, SHARES_MAX)
        else:
            delivery.proven_hashes = command.hashes
            delivery.shares = command.shares
            delivery.excused_hashes = command.excused_hashes
            self.delivering.tell(delivery, out)

    def _settle(self, command: Settle, late: bool, out: list[Event]) -> None:
        market = self.markets.get(command.market)
        if late:
            self.refuse(out, RejectCode.DEADLINE_PASSED, self.ts_ns, market=command.market)
        elif market is None:
            self.refuse(out, self._no_market(command.market), market=command.market)
        elif command.index_price < 0:
            self.refuse(out, RejectCode.PRICE_TOO_LOW, 1, market=command.market)
        elif command.index_price > market.spec.price_max:
            self.refuse(out, RejectCode.PRICE_TOO_HIGH, market.spec.price_max, market=command.market)
        elif self.ts_ns < market.spec.period_end_ns:
            self.refuse(out, RejectCode.PERIOD_NOT_ENDED, market.spec.period_end_ns, market=command.market)
        else:
            self.due.discard_market(market.spec.settle_ns, agenda.SETTLEMENT, market.symbol)
            self.delivering.settle(market, command.index_price, out)


# Stands where an Accepted or Amended event goes until the trades that it tells of are done; never leaves the engine.
_PENDING: Final = Rejected(0, 0, RejectCode.ACCOUNT_UNKNOWN, 0, 0, "", "")


def market_of(order: Order) -> Market:
    """The market of an order that is open."""
    market = order.listing
    assert isinstance(market, Market), order.order_id
    return market


def _by_order_id(order: Resting) -> int:
    return order.order_id
