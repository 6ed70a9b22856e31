"""Live markets: what each command does to standing bids and asks. Check everything, then change everything.

After each change the crossing settles (:mod:`engine.crossing`), the flows follow (:mod:`engine.flows`), and then the bids that
follow a price which that has moved. The rules are docs/decisions/0019-live-markets.md.
"""

from collections.abc import Callable
from typing import Final, cast

from msgspec.structs import astuple

from engine.accounts import Account, Standing
from engine.answers import CLOSED_FOR_PLACING, Answers, is_destination
from engine.commands import AmendAsk, AmendBid, CancelAll, PlaceAsk, PlaceBid, RefillBid, ReportFlow, SetIndex
from engine.crossing import Crossing, Slot
from engine.due import BUDGET, GRACE, LIFE, NEVER
from engine.events import (
    AskAmended,
    AskEnded,
    AskPlaced,
    BidAmended,
    BidEnded,
    BidPlaced,
    BidRefilled,
    BidResumed,
    BidStopped,
    Event,
    IndexSet,
    MarketStateChanged,
)
from engine.flows import Flows
from engine.limits import MONEY_MAX_MSAT, URL_CHARS_MAX, WORK_MAX_HASHES
from engine.markets.live import NO_LIMIT, Ask, Bid, LiveMarket
from engine.members import (
    BUY,
    CAUSE_ASK_AMENDED,
    CAUSE_ASK_ENDED,
    CAUSE_ASK_PLACED,
    CAUSE_BID_AMENDED,
    CAUSE_BID_ENDED,
    CAUSE_BID_PLACED,
    CAUSE_BID_REPRICED,
    CAUSE_BID_RESUMED,
    CAUSE_BID_STOPPED,
    END_REQUESTED,
    MARKET_CLOSED,
    MARKET_HALTED,
    MARKET_OPEN,
    PEG_INDEX,
    PEG_MARGINAL,
    PEG_NONE,
    PEG_TOP,
)
from engine.rejects import RejectCode
from engine.types import EndReason, FlowCause, MarketState, Peg
from engine.words import product

REFILL: Final = "refill:"
"""Marks refill ids among the remembered outcomes."""

Refusal = tuple[RejectCode, int]

# All fields of a Struct at once: compiled, reading them one by one takes several times as long.
_place_bid_fields: Final = cast(
    "Callable[[PlaceBid], tuple[int, str, int, int, int, str, str, Peg, int, int, int, str]]",
    astuple,
)
_place_ask_fields: Final = cast("Callable[[PlaceAsk], tuple[int, str, int, int, int, str]]", astuple)
_amend_bid_fields: Final = cast("Callable[[AmendBid], tuple[int, int, str, int, int, str, str]]", astuple)
_amend_ask_fields: Final = cast("Callable[[AmendAsk], tuple[int, int, str, int, int]]", astuple)
_report_flow_fields: Final = cast("Callable[[ReportFlow], tuple[int, int, bool]]", astuple)


class Live:
    """All live markets, by their symbols."""

    __slots__ = (
        "answers",
        "expiry_max_ns",
        "flowing",
        "flows_max",
        "flows_per_account_max",
        "markets",
        "orders",
        "orders_max",
        "orders_per_account_max",
        "pegs_max",
    )

    def __init__(self, answers: Answers) -> None:
        self.answers: Answers = answers
        self.flowing: Flows = Flows(answers.fees, answers.due)
        self.markets: dict[str, LiveMarket] = {}
        # open bids and asks of all of them
        self.orders: dict[int, Bid | Ask] = {}
        limits = answers.limits
        self.orders_max: int = limits.live_orders_max
        self.orders_per_account_max: int = limits.live_orders_per_account_max
        self.pegs_max: int = limits.pegs_max
        self.flows_max: int = limits.flows_max
        self.flows_per_account_max: int = limits.flows_per_account_max
        self.expiry_max_ns: int = limits.expiry_max_ns

    # ---------------------------------------------------------------------------------------------------------- placing

    def place_bid(self, command: PlaceBid, late: bool, out: list[Event]) -> None:
        """Take a bid into the book and hold its budget, or refuse it: codes of 10xx to 12xx, 14xx, and DESTINATION_INVALID."""
        account_id, symbol, cap, limit, budget, url, worker, peg, offset, floor, expires_ns, key = _place_bid_fields(command)
        answers = self.answers
        account = answers.accounts.get(account_id)
        if account is None:
            answers.refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, 0, key, symbol)
            return
        market = self.markets.get(symbol)
        refusal = self._closed(market, symbol, late) or self._wrong_bid(
            market, account, cap, limit, budget, url, worker, peg, offset, floor, expires_ns
        )
        if refusal is None and key and not answers.is_new(account, key):
            refusal = RejectCode.CLIENT_ORDER_IDS_FULL, 0
        if refusal is not None:
            answers.refuse_new(refusal[0], refusal[1], account, key, symbol, out)
            return
        assert market is not None
        now_ns = answers.ts_ns
        price = cap
        if peg is not PEG_NONE:
            if peg is PEG_MARGINAL and market.shadow is None:
                _build_shadow(market)
            price = market.pegged_price(market.reference(peg), offset, floor, cap)
        ends_ns = expires_ns or now_ns + market.life_ns
        bid = Bid(
            answers.seq,
            account,
            market,
            price,
            limit or NO_LIMIT,
            budget,
            url,
            worker,
            peg,
            offset,
            floor,
            cap,
            ends_ns,
            key,
            now_ns,
        )
        self._add(bid, market)
        followers = _followers(market, peg)
        if followers is not None:
            followers[bid.order_id] = bid
        account.balance -= market.placing_fee
        answers.fees.balance += market.placing_fee
        account.held += bid.budget
        account.event_seq += 1
        placed = BidPlaced(
            account.account_id,
            account.event_seq,
            bid.order_id,
            key,
            market.symbol,
            price,
            limit,
            bid.budget,
            bid.url,
            bid.worker,
            peg,
            bid.offset,
            bid.floor,
            bid.cap,
            ends_ns,
            now_ns,
            market.placing_fee,
            account.balance,
            account.held,
        )
        out.append(placed)
        if key:
            answers.remember(account, key, placed, now_ns)
        _enter(bid, market)
        self._settle(market, CAUSE_BID_PLACED, now_ns, out)

    def _wrong_bid(
        self,
        market: LiveMarket | None,
        account: Account,
        price: int,
        limit: int,
        budget: int,
        url: str,
        worker: str,
        peg: Peg,
        offset: int,
        floor: int,
        expires_ns: int,
    ) -> Refusal | None:
        assert market is not None
        wrong = _wrong_price(market, price) or _wrong_limit(market, limit)
        if wrong is not None:
            return wrong
        if budget < market.budget_min:
            return RejectCode.BUDGET_TOO_SMALL, market.budget_min
        if budget > MONEY_MAX_MSAT:
            return RejectCode.BUDGET_TOO_LARGE, MONEY_MAX_MSAT
        if peg is PEG_NONE:
            if offset or floor:
                return RejectCode.PEG_INVALID, market.price_max
        elif abs(offset) > market.price_max or not (floor == 0 or market.price_min <= floor <= price):
            return RejectCode.PEG_INVALID, market.price_max
        wrong = self._wrong_end(expires_ns, market.life_ns) or self._full(account)
        if wrong is not None:
            return wrong
        if peg is not PEG_NONE and _pegs(market) >= self.pegs_max:
            return RejectCode.PEGS_FULL, self.pegs_max
        wrong = self._flows_full(account)
        if wrong is not None:
            return wrong
        available = account.balance - account.held
        if budget + market.placing_fee > available:
            return RejectCode.BUDGET_NOT_COVERED, available
        if not is_destination(url, worker):
            return RejectCode.DESTINATION_INVALID, URL_CHARS_MAX
        return None

    def place_ask(self, command: PlaceAsk, late: bool, out: list[Event]) -> None:
        """Take an ask into the book, or refuse it: codes of 10xx to 12xx and 14xx."""
        account_id, symbol, price, speed, expires_ns, key = _place_ask_fields(command)
        answers = self.answers
        account = answers.accounts.get(account_id)
        if account is None:
            answers.refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, 0, key, symbol)
            return
        market = self.markets.get(symbol)
        refusal = self._closed(market, symbol, late)
        if refusal is None:
            assert market is not None
            refusal = (
                _wrong_price(market, price)
                or _wrong_speed(market, speed)
                or self._wrong_end(expires_ns, self.expiry_max_ns)
                or self._full(account)
            )
        if refusal is None:
            refusal = self._flows_full(None)
        if refusal is None and key and not answers.is_new(account, key):
            refusal = RejectCode.CLIENT_ORDER_IDS_FULL, 0
        if refusal is not None:
            answers.refuse_new(refusal[0], refusal[1], account, key, symbol, out)
            return
        assert market is not None
        now_ns = answers.ts_ns
        ask = Ask(answers.seq, account, market, price, speed, expires_ns, key, now_ns)
        self._add(ask, market)
        account.event_seq += 1
        placed = AskPlaced(
            account.account_id,
            account.event_seq,
            ask.order_id,
            key,
            market.symbol,
            ask.price,
            ask.remaining,
            ask.expires_ns,
            now_ns,
            account.balance,
            account.held,
        )
        out.append(placed)
        if key:
            answers.remember(account, key, placed, now_ns)
        _enter(ask, market)
        self._settle(market, CAUSE_ASK_PLACED, now_ns, out)

    def _add(self, order: Bid | Ask, market: LiveMarket) -> None:
        self.orders[order.order_id] = order
        market.orders[order.order_id] = order
        order.account.live[order.order_id] = order
        if order.expires_ns:
            self.answers.due.add(order.expires_ns, LIFE, order.order_id)

    def _closed(self, market: LiveMarket | None, symbol: str, late: bool) -> Refusal | None:
        """Why nothing can be placed there now."""
        if late:
            return RejectCode.DEADLINE_PASSED, self.answers.ts_ns
        if market is None:
            return self._no_market(symbol), 0
        if market.state is not MARKET_OPEN:
            return CLOSED_FOR_PLACING[market.state], 0
        return None

    def _no_market(self, symbol: str) -> RejectCode:
        """Why there is no live market of that name."""
        return RejectCode.MARKET_KIND_WRONG if symbol in self.answers.markets else RejectCode.MARKET_UNKNOWN

    def _wrong_end(self, expires_ns: int, longest_ns: int) -> Refusal | None:
        if expires_ns and not 0 < expires_ns - self.answers.ts_ns <= longest_ns:
            return RejectCode.LIFE_INVALID, longest_ns
        return None

    def _full(self, account: Account) -> Refusal | None:
        if len(account.live) >= self.orders_per_account_max:
            return RejectCode.ORDERS_PER_ACCOUNT_FULL, self.orders_per_account_max
        if len(self.orders) >= self.orders_max:
            return RejectCode.ORDERS_FULL, self.orders_max
        return None

    def _flows_full(self, buyer: Account | None) -> Refusal | None:
        """Why no order may enter a book that could start flows."""
        if buyer is not None and buyer.bought_flows >= self.flows_per_account_max:
            return RejectCode.FLOWS_FULL, self.flows_per_account_max
        if len(self.flowing.by_id) >= self.flows_max:
            return RejectCode.FLOWS_FULL, self.flows_max
        return None

    # --------------------------------------------------------------------------------------------------------- amending

    def find(self, account: Account, order_id: int, client_order_id: str) -> Bid | Ask | None:
        """The account's open order of that id, or, when that is 0, of that client order id."""
        if not order_id:
            outcome = account.outcomes.get(client_order_id)
            if isinstance(outcome, BidPlaced | AskPlaced):
                order_id = outcome.order_id
        order = self.orders.get(order_id)
        return order if order is not None and order.account is account else None

    def amend_bid(self, command: AmendBid, late: bool, out: list[Event]) -> None:
        """Change a bid, or refuse it: also for the edit rules of the market (13xx), with when or by how much it may change."""
        account_id, order_id, client_order_id, price, limit, url, worker = _amend_bid_fields(command)
        answers = self.answers
        account = answers.accounts.get(account_id)
        bid: Bid | None = None
        refusal: Refusal | None
        if account is None:
            refusal = RejectCode.ACCOUNT_UNKNOWN, 0
        elif late:
            refusal = RejectCode.DEADLINE_PASSED, answers.ts_ns
        else:
            found = self.find(account, order_id, client_order_id)
            if isinstance(found, Bid):
                bid = found
                refusal = self._wrong_amend(bid, _market(bid), price, limit, url, worker)
            else:
                refusal = RejectCode.ORDER_UNKNOWN, 0
        if refusal is not None:
            symbol = bid.market if bid is not None else ""
            answers.refuse(out, refusal[0], refusal[1], account, order_id, client_order_id, symbol)
            return
        assert bid is not None
        self._amend_bid(bid, _market(bid), price, limit, url, worker, out)

    def _wrong_amend(self, bid: Bid, market: LiveMarket, price: int, limit: int, url: str, worker: str) -> Refusal | None:
        if market.state is not MARKET_OPEN:
            return CLOSED_FOR_PLACING[market.state], 0
        now_ns = self.answers.ts_ns
        cap = price or bid.cap
        wrong = _wrong_price(market, cap)
        if wrong is None and limit >= 0:
            wrong = _wrong_limit(market, limit)
        if wrong is not None:
            return wrong
        if limit < -1:
            return RejectCode.LIMIT_TOO_LOW, market.speed_min
        if cap < bid.floor:
            return RejectCode.PEG_INVALID, market.price_max
        if not price and limit == -1 and not url:
            return RejectCode.AMEND_EMPTY, 0
        size = _size(bid, limit)
        if cap != bid.cap or size != bid.remaining:
            if bid.edited_ns and now_ns < bid.edited_ns + market.lock_ns:
                return RejectCode.EDIT_LOCKED, bid.edited_ns + market.lock_ns
            if cap < bid.cap:
                if market.decrease_step and bid.cap - cap > market.decrease_step:
                    return RejectCode.DECREASE_TOO_LARGE, market.decrease_step
                if now_ns < bid.price_ns + market.decrease_interval_ns:
                    return RejectCode.DECREASE_TOO_EARLY, bid.price_ns + market.decrease_interval_ns
            if cap != bid.cap or size > bid.remaining:
                wrong = self._flows_full(bid.account)
                if wrong is not None:
                    return wrong
        if url and not is_destination(url, worker):
            return RejectCode.DESTINATION_INVALID, URL_CHARS_MAX
        return None

    def _amend_bid(
        self, bid: Bid, market: LiveMarket, new_cap: int, limit: int, url: str, worker: str, out: list[Event]
    ) -> None:
        now_ns = self.answers.ts_ns
        size = _size(bid, limit)
        cap = new_cap or bid.cap
        price = cap
        if bid.peg is not PEG_NONE:
            price = market.pegged_price(market.reference(bid.peg), bid.offset, bid.floor, cap)
        old_price = bid.price
        if cap != bid.cap:
            bid.price_ns = now_ns
        if cap != bid.cap or size != bid.remaining:
            bid.edited_ns = now_ns
        bid.cap = cap
        elsewhere = bool(url) and (bid.url, bid.worker) != (url, worker)
        if elsewhere:
            bid.url = url
            bid.worker = worker
        self._reprice(bid, market, price, size, now_ns)
        self._tell_amended(bid, old_price, CAUSE_BID_AMENDED, out)
        if elsewhere:
            for flow in bid.flows.values():
                self.flowing.tell(flow, flow.speed, CAUSE_BID_AMENDED, now_ns, out)
        self._settle(market, CAUSE_BID_AMENDED, now_ns, out)
        self.flowing.schedule(bid, market, now_ns)

    def _reprice(self, bid: Bid, market: LiveMarket, price: int, size: int, now_ns: int) -> None:
        """Give a bid another price or limit, and with it perhaps another place; the crossing is to settle next."""
        enters = price != bid.price or size > bid.remaining
        if bid.stopped:
            _set_price(self.flowing, bid, market, price, now_ns)
            bid.remaining = size
        elif enters:
            _leave(bid, market)
            _set_price(self.flowing, bid, market, price, now_ns)
            bid.remaining = size
            _enter(bid, market)
        elif size < bid.remaining:
            _shrink(bid, market, size)

    def _tell_amended(self, bid: Bid, old_price: int, cause: FlowCause, out: list[Event]) -> None:
        account = bid.account
        account.event_seq += 1
        out.append(
            BidAmended(
                account.account_id,
                account.event_seq,
                bid.order_id,
                bid.client_order_id,
                bid.listing.symbol,
                old_price,
                bid.price,
                bid.cap,
                0 if bid.remaining == NO_LIMIT else bid.remaining,
                bid.url,
                bid.worker,
                cause,
            )
        )

    def amend_ask(self, command: AmendAsk, late: bool, out: list[Event]) -> None:
        """Change an ask, or refuse it."""
        account_id, order_id, client_order_id, price, speed = _amend_ask_fields(command)
        answers = self.answers
        account = answers.accounts.get(account_id)
        ask: Ask | None = None
        refusal: Refusal | None = None
        if account is None:
            refusal = RejectCode.ACCOUNT_UNKNOWN, 0
        elif late:
            refusal = RejectCode.DEADLINE_PASSED, answers.ts_ns
        else:
            found = self.find(account, order_id, client_order_id)
            if isinstance(found, Ask):
                ask = found
                market = _market(ask)
                new_price = price or ask.price
                new_speed = speed or ask.remaining
                if market.state is not MARKET_OPEN:
                    refusal = CLOSED_FOR_PLACING[market.state], 0
                else:
                    refusal = _wrong_price(market, new_price) or _wrong_speed(market, new_speed)
                if refusal is None and not price and not speed:
                    refusal = RejectCode.AMEND_EMPTY, 0
                if refusal is None and (new_price != ask.price or new_speed > ask.remaining):
                    refusal = self._flows_full(None)
            else:
                refusal = RejectCode.ORDER_UNKNOWN, 0
        if refusal is not None:
            symbol = ask.market if ask is not None else ""
            answers.refuse(out, refusal[0], refusal[1], account, order_id, client_order_id, symbol)
            return
        assert account is not None
        assert ask is not None
        market = _market(ask)
        old_price = ask.price
        old_speed = ask.remaining
        price = price or old_price
        speed = speed or old_speed
        if price != old_price or speed > old_speed:
            _leave(ask, market)
            ask.price = price
            ask.remaining = speed
            _enter(ask, market)
        elif speed < old_speed:
            _shrink(ask, market, speed)
        account.event_seq += 1
        out.append(
            AskAmended(
                account.account_id,
                account.event_seq,
                ask.order_id,
                ask.client_order_id,
                market.symbol,
                old_price,
                price,
                old_speed,
                speed,
            )
        )
        self._settle(market, CAUSE_ASK_AMENDED, answers.ts_ns, out)

    def refill_bid(self, command: RefillBid, late: bool, out: list[Event]) -> None:
        """Add money to a bid, at most once per refill id; a bid that was stopped goes on."""
        answers = self.answers
        account = answers.accounts.get(command.account)
        if account is None:
            answers.refuse(out, RejectCode.ACCOUNT_UNKNOWN, 0, None, command.order_id, command.refill_id)
            return
        found = self.find(account, command.order_id, command.client_order_id)
        bid = found if isinstance(found, Bid) else None
        symbol = bid.market if bid is not None and not late else ""
        available = account.balance - account.held
        refusal: Refusal | None = None
        if late:
            refusal = RejectCode.DEADLINE_PASSED, answers.ts_ns
        elif bid is None:
            refusal = RejectCode.ORDER_UNKNOWN, 0
        elif _market(bid).state is MARKET_HALTED:
            refusal = RejectCode.MARKET_HALTED, 0
        elif command.amount < _market(bid).budget_min:
            refusal = RejectCode.BUDGET_TOO_SMALL, _market(bid).budget_min
        elif bid.budget + command.amount > MONEY_MAX_MSAT:
            refusal = RejectCode.BUDGET_TOO_LARGE, MONEY_MAX_MSAT
        elif command.amount > available:
            refusal = RejectCode.BUDGET_NOT_COVERED, available
        elif not answers.is_new(account, command.refill_id, REFILL):
            refusal = RejectCode.CLIENT_ORDER_IDS_FULL, 0
        if refusal is not None:
            answers.refuse_new(refusal[0], refusal[1], account, command.refill_id, symbol, out, REFILL, command.order_id)
            return
        assert bid is not None
        market = _market(bid)
        now_ns = answers.ts_ns
        bid.budget += command.amount
        bid.escrow += command.amount
        account.held += command.amount
        account.event_seq += 1
        refilled = BidRefilled(
            account.account_id,
            account.event_seq,
            bid.order_id,
            bid.client_order_id,
            market.symbol,
            command.refill_id,
            command.amount,
            bid.escrow,
            account.balance,
            account.held,
        )
        out.append(refilled)
        answers.remember(account, REFILL + command.refill_id, refilled, now_ns)
        if bid.stopped:
            self._resume(bid, market, now_ns, out)
        else:
            self.flowing.schedule(bid, market, now_ns)

    # ----------------------------------------------------------------------------------------------------------- ending

    def cancel(self, order: Bid | Ask, reason: EndReason, out: list[Event]) -> bool:
        """End an order by its account's request; False, and nothing changes, while its market is halted."""
        if _market(order).state is MARKET_HALTED:
            return False
        self._end(order, reason, self.answers.ts_ns, out)
        return True

    def cancel_all(self, account: Account, command: CancelAll, out: list[Event]) -> None:
        """End the account's orders that the command means, by order id; of halted markets only if the operator asks.

        Flows follow when all have ended, market by market.
        """
        reason = EndReason.OPERATOR if command.by_operator else END_REQUESTED
        now_ns = self.answers.ts_ns
        causes: dict[LiveMarket, FlowCause] = {}
        for order_id in sorted(account.live):
            order = self.orders[order_id]
            if command.market and order.market != command.market:
                continue
            if command.side is not None and order.is_buy != (command.side is BUY):
                continue
            market = _market(order)
            if market.state is MARKET_HALTED and not command.by_operator:
                continue
            cause = self._take_out(order, market, reason, now_ns, out)
            if causes.get(market) is not CAUSE_BID_ENDED:
                causes[market] = cause
        # Only now: each by itself could take all flows from the one before.
        for market, cause in causes.items():
            self._settle(market, cause, now_ns, out)

    def _end(self, order: Bid | Ask, reason: EndReason, now_ns: int, out: list[Event]) -> None:
        """End an order, its flows, and give what it had to others."""
        market = _market(order)
        cause = self._take_out(order, market, reason, now_ns, out)
        self._settle(market, cause, now_ns, out)

    def _take_out(self, order: Bid | Ask, market: LiveMarket, reason: EndReason, now_ns: int, out: list[Event]) -> FlowCause:
        """End an order: the crossing is to settle next, for the cause that is returned."""
        if isinstance(order, Bid):
            if not order.stopped:
                _leave(order, market)
            self._tell_bid_ended(order, market, reason, now_ns, out)
            return CAUSE_BID_ENDED
        _leave(order, market)
        self._tell_ask_ended(order, market, reason, out)
        return CAUSE_ASK_ENDED

    def _tell_bid_ended(self, bid: Bid, market: LiveMarket, reason: EndReason, now_ns: int, out: list[Event]) -> None:
        """The bid is out of the book: keep what its flows can still cost, return the rest."""
        account = bid.account
        self.flowing.unschedule(bid)
        kept = self.flowing.owed_max(bid, market, now_ns)
        returned = bid.escrow - kept
        assert returned >= 0, f"bid {bid.order_id} owes {kept} of {bid.escrow} msat"
        bid.escrow = kept
        account.held -= returned
        followers = _followers(market, bid.peg)
        if followers is not None:
            del followers[bid.order_id]
            if bid.peg is PEG_MARGINAL and not followers:
                market.shadow_left = len(market.orders)
        self._remove(bid, market)
        account.event_seq += 1
        out.append(
            BidEnded(
                account.account_id,
                account.event_seq,
                bid.order_id,
                bid.client_order_id,
                market.symbol,
                reason,
                bid.budget,
                bid.spent,
                returned,
                account.balance,
                account.held,
            )
        )

    def _tell_ask_ended(self, ask: Ask, market: LiveMarket, reason: EndReason, out: list[Event]) -> None:
        account = ask.account
        self._remove(ask, market)
        account.event_seq += 1
        out.append(AskEnded(account.account_id, account.event_seq, ask.order_id, ask.client_order_id, market.symbol, reason))

    def _remove(self, order: Bid | Ask, market: LiveMarket) -> None:
        order.ended = True
        del self.orders[order.order_id]
        del market.orders[order.order_id]
        del order.account.live[order.order_id]
        if order.expires_ns:
            self.answers.due.discard(order.expires_ns, LIFE, order.order_id)
        if order.forget:
            del order.account.outcomes[order.client_order_id]

    def close(self, market: LiveMarket, out: list[Event]) -> None:
        """The market has been closed: nothing flows, and nothing stands, any more."""
        now_ns = self.answers.ts_ns
        for order in market.orders.values():
            if isinstance(order, Bid):
                self.flowing.expose(order, market, now_ns)
                if order.stopped:
                    continue
            _leave(order, market)
        self.flowing.end_all(market, CAUSE_BID_ENDED, now_ns, out)
        for order_id in sorted(market.orders):
            order = market.orders[order_id]
            if isinstance(order, Bid):
                self._tell_bid_ended(order, market, EndReason.CLOSED, now_ns, out)
            else:
                self._tell_ask_ended(order, market, EndReason.CLOSED, out)
        self._retire(market, out)

    def _retire(self, market: LiveMarket, out: list[Event]) -> None:
        """Forget a closed market once nothing waits for a report."""
        if market.state is MARKET_CLOSED and market.flows == 0:
            market.state = MarketState.SETTLED
            del self.markets[market.symbol]
            out.append(MarketStateChanged(market.symbol, MarketState.SETTLED))

    # ------------------------------------------------------------------------------------------------ work and budgets

    def report_flow(self, command: ReportFlow, late: bool, out: list[Event]) -> None:
        """Pay for proven work, or refuse: FLOW_UNKNOWN, WORK_DECREASED, WORK_TOO_LARGE."""
        flow_id, hashes, final = _report_flow_fields(command)
        answers = self.answers
        flow = self.flowing.by_id.get(flow_id)
        if late:
            answers.refuse(out, RejectCode.DEADLINE_PASSED, answers.ts_ns)
        elif hashes > WORK_MAX_HASHES:
            answers.refuse(out, RejectCode.WORK_TOO_LARGE, WORK_MAX_HASHES)
        elif flow is None:
            answers.refuse(out, RejectCode.FLOW_UNKNOWN)
        elif hashes < flow.hashes:
            answers.refuse(out, RejectCode.WORK_DECREASED, flow.hashes)
        else:
            now_ns = answers.ts_ns
            market = _market(flow.bid)
            idle_ns = market.idle_ns
            runs = flow.speed > 0
            idle = runs and idle_ns and hashes == flow.hashes and now_ns - flow.proven_ns > idle_ns
            done = final and not runs
            flow.bid.heard = True
            self.flowing.pay(flow, market, hashes, done, now_ns, out)
            if idle:
                self._end(flow.ask, EndReason.IDLE, now_ns, out)
            elif done:
                self._done(flow.bid, market, now_ns, out)

    def _done(self, bid: Bid, market: LiveMarket, now_ns: int, out: list[Event]) -> None:
        """A flow of the bid is done with: it may have been the last that the bid, or the market, waited for."""
        if bid.stopped and not bid.ended and not bid.closing:
            if bid.escrow < market.budget_min:
                self._tell_bid_ended(bid, market, EndReason.SPENT, now_ns, out)
            elif bid.heard:
                self._resume(bid, market, now_ns, out)
            else:
                # nobody reports: it would stop again and again
                self._tell_bid_ended(bid, market, EndReason.IDLE, now_ns, out)
        self._retire(market, out)

    def fell_due(self, kind: int, key: int, due_ns: int, out: list[Event]) -> None:
        """Something on the agenda has come, at ``due_ns``."""
        if kind == LIFE:
            self._end(self.orders[key], EndReason.EXPIRED, due_ns, out)
        elif kind == BUDGET:
            bid = self.orders[key]
            assert isinstance(bid, Bid), key
            market = _market(bid)
            if not self.flowing.may_go_on(bid, market, due_ns):
                self._stop(bid, market, due_ns, out)
        else:
            assert kind == GRACE, kind
            flow = self.flowing.by_id[key]
            market = _market(flow.bid)
            self.flowing.pay(flow, market, flow.hashes, True, due_ns, out)
            self._done(flow.bid, market, due_ns, out)

    def _stop(self, bid: Bid, market: LiveMarket, now_ns: int, out: list[Event]) -> None:
        """The bid's flows could cost all that it has by now."""
        account = bid.account
        _leave(bid, market)
        bid.stopped = True
        account.event_seq += 1
        out.append(
            BidStopped(account.account_id, account.event_seq, bid.order_id, bid.client_order_id, market.symbol, bid.escrow)
        )
        self._settle(market, CAUSE_BID_STOPPED, now_ns, out)
        if not bid.closing:
            self._tell_bid_ended(bid, market, EndReason.SPENT, now_ns, out)

    def _resume(self, bid: Bid, market: LiveMarket, now_ns: int, out: list[Event]) -> None:
        """A stopped bid has money to go on with."""
        account = bid.account
        price = bid.cap
        if bid.peg is not PEG_NONE:
            price = market.pegged_price(market.reference(bid.peg), bid.offset, bid.floor, bid.cap)
        _set_price(self.flowing, bid, market, price, now_ns)
        bid.stopped = False
        bid.heard = False
        account.event_seq += 1
        out.append(
            BidResumed(
                account.account_id,
                account.event_seq,
                bid.order_id,
                bid.client_order_id,
                market.symbol,
                price,
                bid.escrow,
            )
        )
        _enter(bid, market)
        self._settle(market, CAUSE_BID_RESUMED, now_ns, out)

    # -------------------------------------------------------------------------------------------------------- following

    def set_index(self, command: SetIndex, late: bool, out: list[Event]) -> None:
        """Note the index price, in ticks, and move the bids that follow it."""
        answers = self.answers
        market = self.markets.get(command.market)
        if late:
            answers.refuse(out, RejectCode.DEADLINE_PASSED, answers.ts_ns, market=command.market)
        elif market is None:
            answers.refuse(out, self._no_market(command.market), market=command.market)
        elif command.price < 0:
            answers.refuse(out, RejectCode.PRICE_TOO_LOW, 1, market=command.market)
        elif command.price > market.price_max:
            answers.refuse(out, RejectCode.PRICE_TOO_HIGH, market.price_max, market=command.market)
        else:
            market.index_price = command.price
            out.append(IndexSet(market.symbol, command.price))
            self._reprice_all(market, market.on_index, market.index_price, answers.ts_ns, out)
            self._follow(market, answers.ts_ns, out)

    def _settle(self, market: LiveMarket, cause: FlowCause, now_ns: int, out: list[Event]) -> None:
        """After a change: the crossing settles, the flows follow, then the bids that follow prices."""
        self._flow(market, cause, now_ns, out)
        self._follow(market, now_ns, out)

    def _flow(self, market: LiveMarket, cause: FlowCause, now_ns: int, out: list[Event]) -> None:
        market.crossing.settle()
        self.flowing.move(market, cause, now_ns, out)
        if market.shadow is not None:
            market.shadow.settle()
            market.shadow.forget_moved()

    def _follow(self, market: LiveMarket, now_ns: int, out: list[Event]) -> None:
        if market.on_top:
            self._reprice_all(market, market.on_top, market.reference(PEG_TOP), now_ns, out)
        if market.on_margin:
            self._reprice_all(market, market.on_margin, market.reference(PEG_MARGINAL), now_ns, out)

    def _reprice_all(
        self, market: LiveMarket, followers: dict[int, Bid], reference: int, now_ns: int, out: list[Event]
    ) -> None:
        """Give followers their prices, then have the flows follow once: each by itself could move every flow of the market."""
        repriced: list[Bid] = []
        for bid in followers.values():
            price = market.pegged_price(reference, bid.offset, bid.floor, bid.cap)
            if price != bid.price and not bid.stopped:
                old_price = bid.price
                self._reprice(bid, market, price, bid.remaining, now_ns)
                self._tell_amended(bid, old_price, CAUSE_BID_REPRICED, out)
                repriced.append(bid)
        if repriced:
            self._flow(market, CAUSE_BID_REPRICED, now_ns, out)
            for bid in repriced:
                self.flowing.schedule(bid, market, now_ns)

    # --------------------------------------------------------------------------------------------------------- restoring

    def restore(self, order: Bid | Ask, market: LiveMarket) -> None:
        """Take an order out of a snapshot: an open one, or one that has ended and that flows still wait for."""
        if order.ended:
            return
        self._add(order, market)
        if isinstance(order, Bid):
            followers = _followers(market, order.peg)
            if followers is not None:
                followers[order.order_id] = order
            if order.stop_ns < NEVER:
                self.answers.due.add(order.stop_ns, BUDGET, order.order_id)

    def fill(self, market: LiveMarket) -> None:
        """All orders of the market are back: put them into the book as they stood."""
        standing = [order for order in market.orders.values() if not (isinstance(order, Bid) and order.stopped)]
        standing.sort(key=_worst_price_first)
        for order in standing:
            market.crossing.enter(order)
        market.crossing.settle()
        market.crossing.forget_moved()
        if market.on_margin:
            _build_shadow(market)

    # ---------------------------------------------------------------------------------------------------------- asking

    def estimate(self, market: LiveMarket, price: int, limit: int) -> int:
        """The speed, in lots, that a new bid of ``price`` and ``limit`` (0: none) would have now. O(price levels).

        It comes behind every bid that pays as much, and takes what asks want no more than it pays.
        """
        speed = 0
        for level in market.crossing.asks.levels_from_best(True, price):
            speed += level.qty
        for level in market.crossing.bids.levels_from_best(False, price):
            speed -= level.qty
        return max(0, min(speed, limit or NO_LIMIT))


def _market(order: Standing) -> LiveMarket:
    market = order.listing
    assert isinstance(market, LiveMarket), order.order_id
    return market


def _size(bid: Bid, limit: int) -> int:
    """What an amend makes of the bid's limit: -1 leaves it, 0 takes it away."""
    return bid.remaining if limit == -1 else limit or NO_LIMIT


def _wrong_price(market: LiveMarket, price: int) -> Refusal | None:
    if price < market.price_min:
        return RejectCode.PRICE_TOO_LOW, market.price_min
    if price > market.price_max:
        return RejectCode.PRICE_TOO_HIGH, market.price_max
    return None


def _wrong_limit(market: LiveMarket, limit: int) -> Refusal | None:
    """A bid's limit, 0 for none."""
    if limit and limit < market.speed_min:
        return RejectCode.LIMIT_TOO_LOW, market.speed_min
    if limit > market.speed_max:
        return RejectCode.LIMIT_TOO_HIGH, market.speed_max
    return None


def _wrong_speed(market: LiveMarket, speed: int) -> Refusal | None:
    if speed < market.speed_min:
        return RejectCode.SPEED_TOO_LOW, market.speed_min
    if speed > market.speed_max:
        return RejectCode.SPEED_TOO_HIGH, market.speed_max
    return None


def _followers(market: LiveMarket, peg: Peg) -> dict[int, Bid] | None:
    """The table of bids with that peg."""
    if peg is PEG_TOP:
        return market.on_top
    if peg is PEG_MARGINAL:
        return market.on_margin
    return market.on_index if peg is PEG_INDEX else None


def _pegs(market: LiveMarket) -> int:
    return len(market.on_top) + len(market.on_margin) + len(market.on_index)


def _set_price(flowing: Flows, bid: Bid, market: LiveMarket, price: int, now_ns: int) -> None:
    """Another price from now on."""
    flowing.expose(bid, market, now_ns)
    bid.price_clock += product(bid.price, now_ns - bid.price_clock_ns)
    bid.price_clock_ns = now_ns
    bid.price = price


def _enter(order: Standing, market: LiveMarket) -> None:
    """Put an order into the book, last at its price; the crossing is to settle next."""
    order.rank = market.next_rank
    market.next_rank += 1
    market.crossing.enter(order)
    if market.shadow is not None and not market.on_margin:
        market.shadow_left -= 1
        if market.shadow_left <= 0:
            _drop_shadow(market)
    if market.shadow is not None and _is_shown(order):
        _shade(order, market.shadow)


def _leave(order: Standing, market: LiveMarket) -> None:
    market.crossing.leave(order)
    shade = order.shade
    if shade is not None:
        assert market.shadow is not None, market.symbol
        market.shadow.leave(shade)
        order.shade = None


def _shrink(order: Standing, market: LiveMarket, size: int) -> None:
    market.crossing.shrink(order, size)
    shade = order.shade
    if shade is not None:
        assert market.shadow is not None, market.symbol
        market.shadow.shrink(shade, size)


def _is_shown(order: Slot) -> bool:
    """Whether the order stands in the crossing without followers of the margin."""
    return not isinstance(order, Bid) or order.peg is not PEG_MARGINAL


def _shade(order: Standing, shadow: Crossing) -> None:
    shade = Slot(order.order_id, order.is_buy, order.price, order.remaining)
    order.shade = shade
    shadow.enter(shade)


def _build_shadow(market: LiveMarket) -> None:
    """The first bid that follows the margin comes. O(orders)."""
    shadow = market.shadow = Crossing()
    # the best price last, where a book is cheapest to change
    for levels in (market.crossing.bids.bids, market.crossing.asks.asks):
        for level in levels:
            order = level.head
            while order is not None:
                assert isinstance(order, Standing), order.order_id
                if _is_shown(order):
                    _shade(order, shadow)
                order = order.next
    shadow.settle()
    shadow.forget_moved()


def _drop_shadow(market: LiveMarket) -> None:
    """As many orders have come since the last of them went as there were then: so building it again is paid for. O(orders)."""
    shadow = market.shadow
    assert shadow is not None, market.symbol
    shadow.bids.clear()
    shadow.asks.clear()
    for order in market.orders.values():
        order.shade = None
    market.shadow = None


def _worst_price_first(order: Standing) -> tuple[int, int]:
    """Sort key: the order in which a book is filled at the least cost; at one price the older comes first."""
    return (order.price if order.is_buy else -order.price), order.rank
