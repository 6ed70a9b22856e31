"""The auditor: believes nothing but what clients sent and were told, and checks every promise.

It is written from docs/PROTOCOL.md and knows nothing of the engine or the gateway: no code of theirs is used here, and
prices, fees, checksums and queues are worked out again by its own rules. A finding starts with the name of the check that
made it. By promise (the numbers are those of ARCHITECTURE's table, from 1):

1. Acknowledged means durable
``durable``    every acknowledged order, cancel, fill and transfer is an event; the contents of an event's number never
               change, over crashes too; balances, positions and open orders at the end are those that the events add up
               to; a read tells a state that there was, not older than what was told before it was asked for
2. Exactly once
``once``       one outcome per client order id and transfer id while it is remembered: one order, one answer that is no
               repeat, all repeats like it
``trade``      trade numbers of a market start at 1, have no gap and no repeat, and keep their contents over restarts
3. The account stream has no gap, and resumes
``stream``     each socket's numbers follow each other, from its snapshot or the number that it resumed from; heartbeats
               agree; TOO_OLD only for a reason; nothing is missing in the end
``before``     what a command caused is told on the socket before its answer
``snapshot``   balance, open orders and positions of an account snapshot are what the events before it add up to
``life``       an order is accepted, then its fills, then one end; filled and remaining add up; time in force, post-only,
               collar and amends are as documented
``time``       GTD orders end at their time, not earlier and not later; nothing trades from the gate on
4. Book feeds can be verified
``book``       each message has its predecessor's number; levels in order, no crossing; the checksum over the auditor's own
               copy; equal to all accounts' open orders at that time, and to the true book in the end
``same``       one number of a public channel has one content, and one book behind it, for all subscribers; the terms of a
               market never change
``priority``   price and time: no order that surely stood better, or longer at the same price, is passed over; orders that
               cross do not rest; the maker's price
5. Budgets
``budget``     every answer has one, within its bound, and it never grows faster than its rate
``limit``      a request is refused only when its own budget is told to be 0; of burst + 1 requests that pass, the time
               between them has earned one; gathering channels send ten messages per second
6. A slow reader slows nobody
``close``      documented close codes, each only with its cause: slow, idle, not logged in, revoked, flooding, ...
7. Money is conserved
``balance``    balance, held, position and realized follow from the event before, by the rules of clearing and holds
``halves``     both halves of a trade and the public one: price, quantity, time, sides; fees
``flow``       a flow starts once, changes from the speed that it had, and flows for no order that has ended; at most an
               order's limit or speed flows; both sides and the public are told the same; no more work is paid than was
               proven, nor than was assigned over time
``delivery``   shares of positions; what is paid, refunded, compensated and released
``conserved``  balances, contracts and deliveries are deposits less withdrawals; positions add up to zero; the fee account
               has the fills' fees
8. Same journal, same state: the simulation itself replays the journal and compares ``state_hash``
9. No floats
``number``     prices, quantities and money as text with all decimals of their step; whole numbers elsewhere
10. Every refusal names code, field and bound
``error``      documented code, reason, field and bound, for that method, in that situation
``shape``      messages, results and events have the documented fields and no others
``answer``     every request has one answer, none comes unasked, batches are answered in order

What cannot be known is left out and counted in ``unchecked``: an account whose events nobody read, an order from before a
gap, things that happened at one time. Look at that counter before trusting a run without findings.
"""

from typing import Any

from tests.simulation.auditor_answers import Answers
from tests.simulation.auditor_books import copy_of
from tests.simulation.auditor_history import EndAccount, EndOrder, History, View
from tests.simulation.auditor_state import CLOSE_CAUSES, CUT, LOSSLESS, MESSAGES_MAX, PASSING, Connection, Setup
from tests.simulation.auditor_wire import CLOSE_CODES

__all__ = ["Auditor", "EndAccount", "EndOrder", "Setup", "View"]


class Auditor(Answers):
    """Told of every message, in the order in which each socket sent and read; see ``findings``."""

    def connected(self, conn: int, client: str, now_ns: int) -> None:
        """A socket is open, to the server process that recovered last."""
        self._conns[conn] = Connection(conn, client, self.process, now_ns)
        self.counts["connected"] += 1

    def sent(self, conn: int, message: Any, now_ns: int) -> None:
        """A client sent this; it may never arrive."""
        connection = self._conns[conn]
        connection.sent_ns = now_ns
        connection.requests += 1
        if type(message) is list:
            if not 0 < len(message) <= self.setup.batch_max:
                connection.loose_nulls += 1
                return
            connection.batches.append([self._request(connection, item, now_ns, True) for item in message])
        else:
            self._request(connection, message, now_ns, False)

    def received(self, conn: int, message: Any, now_ns: int) -> None:
        """A client read this."""
        self.messages += 1
        self._now_ns = now_ns
        assert self.messages <= MESSAGES_MAX, f"a run of at most {MESSAGES_MAX} messages"
        connection = self._conns[conn]
        if type(message) is list:
            self._batch(connection, message, now_ns)
        elif type(message) is not dict or message.get("jsonrpc") != "2.0":
            self._say(connection, "shape", f"a JSON-RPC 2.0 message, came {message!r:.120}")
        elif "method" in message:
            self._notification(connection, message)
        else:
            self._answer(connection, message, now_ns)

    def closed(self, conn: int, code: int, reason: str, now_ns: int) -> None:
        """The socket ended, as the client saw it; 1006 stands for an end without a close frame."""
        connection = self._conns[conn]
        connection.is_open = False
        self.counts[f"close {code}"] += 1
        if code == CUT:
            return
        if code not in CLOSE_CODES:
            self._say(connection, "close", f"a documented close code, came {code} {reason!r}")
            return
        waited_ms = (now_ns - connection.opened_ns) // 1_000_000
        excused = self.clock_stepped or "silent" in connection.causes
        why = ""
        if code == 4001:
            speaks = connection.account is not None or connection.subscriptions
            alone_ns = now_ns - connection.spoke_ns
            if not excused and (speaks or alone_ns < self.setup.login_ms * 1_000_000):
                why = f"a socket without login and subscription for {self.setup.login_ms} ms"
        elif code == 4002:
            if not excused and waited_ms < self.setup.idle_ms:
                why = f"a socket that was not heard for {self.setup.idle_ms} ms"
        elif code == 4005:
            least = min(self.setup.refusals_burst, self.setup.protocol_errors_burst)
            if connection.requests < least and "frames" not in connection.causes:
                why = f"a socket with more than {least} requests refused"
        elif code == 4004:
            if connection.key not in self._revoked and "key_revoked" not in connection.causes:
                why = "a socket of a key that was revoked"
        else:
            causes = connection.causes | self._process_causes[connection.process] | self.causes
            account = connection.subscriptions.get("account")
            if code == 4003 and account is not None and account.resumed:
                causes.add("stalled")  # what it missed was forgotten before it had caught up
            if not causes & CLOSE_CAUSES[code]:
                why = f"a cause ({' or '.join(sorted(CLOSE_CAUSES[code]))})"
        if why:
            self._say(connection, "close", f"{code} only for {why}, came {reason!r} after {waited_ms} ms")

    def crashed(self, now_ns: int) -> None:
        """The server process is gone."""
        self.counts["crashed"] += 1

    def recovered(self, now_ns: int) -> None:
        """Another server process listens, on the same data."""
        self.process += 1
        self.counts["recovered"] += 1
        self._process_causes.append(set())

    def cause(self, conn: int | None, kind: str, now_ns: int) -> None:
        """The simulation did something that explains a refusal or the end of a socket."""
        if conn is None:
            (self._process_causes[self.process] if kind in PASSING else self.causes).add(kind)
            self.clock_stepped |= kind == "clock"
        else:
            connection = self._conns[conn]
            connection.causes.add(kind)
            connection.requests += 1
            if kind == "garbage":
                connection.loose_nulls += 1

    def at_rest(self, view: View, now_ns: int) -> None:
        """Everything is quiet, durable and read: the final audit."""
        for connection in self._conns.values():
            if connection.is_open:
                self._rest_of(connection, view)
        self._check_too_old(view)
        for told in self.told.values():
            told.clock_stepped = self.clock_stepped
        history = History(
            self.told,
            self.terms,
            self.public,
            self._index_prices,
            self._listed_again,
            self._find,
            self.unchecked,
            self.live_terms,
            self.flow_starts,
        )
        history.run(view)

    def _rest_of(self, connection: Connection, view: View) -> None:
        for waiting in connection.outstanding.values():
            for request in waiting:
                if not request.loose:
                    self._say(connection, "answer", f"an answer to {request.method} {request.params!r:.120}, came none")
        for name, subscription in connection.subscriptions.items():
            if subscription.fresh or subscription.owed:
                self._say(connection, "stream", f"a snapshot of {name}, came none")
                continue
            if subscription.kind in LOSSLESS and subscription.seq < subscription.promised:
                self._say(connection, "stream", f"{name} up to {subscription.promised}, came {subscription.seq}")
            if subscription.kind == "account" and connection.account in view.accounts:
                last = view.accounts[connection.account].event_seq
                if subscription.seq != last:
                    self._say(connection, "stream", f"account events up to {last}, came {subscription.seq}")
            elif subscription.live is not None and subscription.market in view.live:
                if "stalled" in connection.causes:
                    self.unchecked["book: the copy of a slow reader at the end"] += 1
                elif subscription.live.sides != view.live[subscription.market]:
                    own = view.live[subscription.market]
                    self._say(connection, "book", f"{name} as at the end {own}, came {subscription.live.sides}")
            elif subscription.book is not None and subscription.market in view.levels:
                if "stalled" in connection.causes:
                    self.unchecked["book: the copy of a slow reader at the end"] += 1
                    continue
                end = copy_of(*view.levels[subscription.market])
                if end.mark != subscription.book.mark:
                    self._say(connection, "book", f"{name} as at the end {end.best(5)}, came {subscription.book.best(5)}")

    def _check_too_old(self, view: View) -> None:
        everything = sum(end.event_seq for end in view.accounts.values())
        # at most one for each request, and what comes of a market by itself: listed, closed, settled
        happened = sum(connection.requests for connection in self._conns.values()) + 3 * len(self.terms)
        for account, told_max, request, connection in self._too_old:
            number, epoch = request.params.get("account_seq"), request.params.get("epoch")
            end = view.accounts.get(account)
            if type(number) is not int or epoch != self.epoch or number > told_max or end is None:
                continue
            if end.event_seq - number >= self.setup.events_kept or everything >= self.setup.events_kept_all:
                continue
            following = self.told[account].events.get(number + 1)
            restarted = connection.process > 0
            if restarted and everything + happened >= self.setup.events_kept_all:
                self.unchecked["stream: TOO_OLD behind a restart, where events that are nobody's count too"] += 1
                continue
            if restarted and self.setup.snapshots:
                if following is None and number < end.event_seq:
                    continue  # when it happened is not known
                if following is not None and self._was_before(account, number + 1, following["ts_us"], connection):
                    continue
            if restarted and any(terms.gate_us <= view.ts_us for terms in self.terms.values()):
                continue
            self._say(connection, "stream", f"account {account} is resumed from {number} of {told_max}, came TOO_OLD")

    def _was_before(self, account: int, number: int, ts_us: int, connection: Connection) -> bool:
        """Whether an event of the account was, or may have been, before the server process of that connection began."""
        teller = self._conns.get(self.told[account].conns.get(number, -1))
        if teller is not None and teller.process < connection.process:
            return True
        if self.clock_stepped:
            self.unchecked["stream: TOO_OLD of an event from about a restart, the clock being set"] += 1
            return True
        return ts_us < self.started_us.get(connection.process, 0)
