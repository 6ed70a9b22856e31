"""One request that waits for its answer, and what is asked of it: its parameters, its body, who sent it."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from msgspec import Struct

from engine.accounts import Account
from engine.commands import Cancel, Command, Entry
from engine.events import Event, Rejected
from engine.rejects import RejectCode
from gateway import log
from gateway.auth import Key
from gateway.exchange import Exchange, Taking
from gateway.nicehash import problems
from gateway.nicehash.answers import ErrorAnswer, ErrorItem, encode
from gateway.nicehash.bodies import Body
from gateway.nicehash.catalog import Catalog, Quoted
from gateway.nicehash.history import History
from gateway.nicehash.problems import Problem, refusal
from gateway.nicehash.units import Units
from gateway.ratelimit import Bucket
from gateway.sequencer import Overloaded, Stopped
from gateway.wire import Permission

PAGE_MAX: Final = 1_000
"""Most rows of one page, and most orders of one answer."""

_log = log.get("nicehash")

BucketName = Literal["requests", "orders", "cancels"]
Signature = Literal["no", "optional", "yes"]


class Request(Struct, frozen=True):
    """An HTTP request, without the socket. ``path`` and ``query`` are as they were sent; header names are in small letters."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    ip: str
    unique: str
    """A UUID that was never used before: the error's id, and the request's where the client gave none."""


class Reply(NamedTuple):
    """An HTTP answer: its status and its JSON."""

    status: int
    body: bytes


class Param(NamedTuple):
    """A query parameter. Empty text, and Python's ``None``, are as good as nothing."""

    name: str
    kind: Literal["text", "int", "flag"] = "text"
    default: str | int | bool = ""
    most: int = 0
    """For an int: at most, and at least ``least``."""
    least: int = 0
    required: bool = False
    description: str = ""


class Route(NamedTuple):
    """One path and method: what it takes, answers, costs, and does."""

    method: str
    path: str
    run: Callable[["Call"], None]
    answer: Any
    summary: str
    query: tuple[Param, ...] = ()
    body: type[Body] | None = None
    signature: Signature = "no"
    permission: Permission | None = None
    bucket: BucketName = "requests"
    is_repeatable: bool = False
    """Whether the engine itself answers a repeat of X-Request-Id; of other changes the answer is remembered."""


class Call:
    """Exactly one of ``answer`` and ``refuse``, once."""

    __slots__ = (
        "_reply",
        "body",
        "bucket",
        "catalog",
        "exchange",
        "history",
        "key",
        "now_ns",
        "path",
        "query",
        "request",
        "route",
    )

    def __init__(
        self,
        route: Route,
        request: Request,
        path: Mapping[str, str],
        exchange: Exchange,
        catalog: Catalog,
        history: History,
        now_ns: int,
        reply: Callable[[Reply], None],
    ) -> None:
        self.route = route
        self.request = request
        self.path = path
        """The variable parts of the path, by name."""
        self.exchange = exchange
        self.catalog = catalog
        self.history = history
        self.now_ns = now_ns
        self.key: Key | None = None
        self.query: dict[str, Any] = {}
        self.body: Any = None
        self.bucket: Bucket | None = None
        """What the request is paid from."""
        self._reply = reply

    @property
    def account(self) -> Account:
        """Whose key signed the request."""
        assert self.key is not None, "the route takes a signature"
        return self.exchange.engine.accounts[self.key.account]

    @property
    def request_id(self) -> str:
        """The client's name for this request, or one that nobody used before."""
        return self.request.headers.get("x-request-id", "") or self.request.unique

    def spend(self, tokens: int) -> None:
        """Pay for what costs as much as so many requests. Raises Problem when there are fewer; they are spent then."""
        bucket = self.bucket
        assert bucket is not None, "the service has set it"
        for _ in range(tokens):
            if not bucket.take(self.now_ns):
                raise problems.http(problems.TOO_MANY, f"too many requests; wait {bucket.wait_ms(self.now_ns)} ms")

    # --------------------------------------------------------------------------------------------------------- answering

    def answer(self, value: object) -> None:
        self._reply(Reply(200, encode(value)))

    def refuse(self, problem: Problem) -> None:
        self._reply(error_reply(problem, self.request.unique))

    def reply_to(self, reply: Callable[[Reply], None]) -> None:
        """Send the answer there instead."""
        self._reply = reply

    def read(self, value: object) -> None:
        """Answer with what was read from the engine just now, once that is durable."""
        self.later(lambda: self.answer(value))

    def later(self, answer: Callable[[], None]) -> None:
        """Answer once everything that happened up to now is durable. A Problem that ``answer`` raises is the answer."""
        try:
            self.exchange.sequencer.after_durable(lambda: self._guarded(answer))
        except (Overloaded, Stopped) as problem:
            self.refuse(_unavailable(problem))

    def submit(
        self,
        command: Command,
        answer: Callable[[list[Event]], None],
        units: Units | None = None,
        refused: Callable[[RejectCode], None] = lambda code: None,
    ) -> None:
        """Sequence a command. ``answer`` is called once it is durable, unless the engine refused it: then ``refused`` may raise
        a Problem that says more than the code. ``units``: of the command's market. Raises Problem."""
        taking = self.exchange.taking
        if taking is Taking.NONE or (taking is Taking.CANCELS and not isinstance(command, Cancel)):
            raise problems.http(problems.UNAVAILABLE, "the exchange is stopping")

        def told(entry: Entry, events: list[Event]) -> None:
            for event in events:
                if isinstance(event, Rejected):
                    refused(event.code)
                    raise refusal(event.code, event.bound, units, entry.ts_ns)
            answer(events)

        def done(entry: Entry, events: list[Event]) -> None:
            self._guarded(lambda: told(entry, events))

        try:
            self.exchange.sequencer.submit(command, 0, done)
        except (Overloaded, Stopped) as problem:
            raise _unavailable(problem) from None

    def _guarded(self, answer: Callable[[], None]) -> None:
        """Run what makes an answer. The sequencer waits for it, and what it raised would stop the exchange: a bug in how
        something is shown must not."""
        try:
            answer()
        except Problem as problem:
            self.refuse(problem)
        except Exception:
            _log.exception("bug", method=self.request.method, path=self.route.path)
            self.refuse(Problem(problems.INTERNAL, problems.SERVER, "Generic Server Error"))

    # ---------------------------------------------------------------------------------------------------------- looking up

    def quoted(self, algorithm: str, market: str = "") -> Quoted:
        """The market that is meant. Raises Problem."""
        found = self.catalog.find(algorithm, market)
        if found is None:
            where = f" at {market}" if market else ""
            raise problems.invalid(f"algorithm, market: no market for {algorithm[:40]!r}{where[:60]}")
        return found

    def all_quoted(self) -> list[Quoted]:
        """The markets that the query's ``algorithm`` and ``market`` leave; all where it names none."""
        algorithm, market = self.query.get("algorithm", ""), self.query.get("market", "")
        if algorithm:
            return [self.quoted(algorithm, market)]
        return [
            quoted for quoted in self.catalog.all_quoted() if not market or self.catalog.find(quoted.algorithm.name, market)
        ]


def error_reply(problem: Problem, unique: str) -> Reply:
    """A refusal in NiceHash's shape."""
    item = ErrorItem(code=problem.code, message=problem.message)
    return Reply(problem.status, encode(ErrorAnswer(error_id=unique, errors=[item])))


def page_of(rows: int, query: Mapping[str, Any]) -> tuple[int, int, int]:
    """First row, row behind the last, and number of pages that ``size`` and ``page`` of a query mean."""
    size, page = query["size"], query["page"]
    return page * size, min(rows, (page + 1) * size), max(1, -(-rows // size))


def _unavailable(problem: Exception) -> Problem:
    text = str(problem) if isinstance(problem, Overloaded) else "the exchange is stopping"
    return problems.http(problems.UNAVAILABLE, text)
