"""Everything the SDK raises, as one tree. What it tells you is what you may do next.

HashpitError
├── Refused          the server said no, and nothing changed: code, field and bound say why
│   ├── Rejected     by the engine (1xxx): a business outcome, numbered and journaled
│   └── Denied       by the gateway (-32xxx): the engine never saw the call
│       ├── LoginFailed
│       └── RateLimited     retry_after_s says when to come back
├── NotSent          there was no connection in time, and nothing happened: try again
├── NoAnswer         a question went out and no answer came: ask again
│   └── Unknown      a command went out and no answer came: it may or may not have happened
├── Overflow         a reader was slower than its channel and missed messages: subscribe again
├── Closed           the client is closed; its cause, if it has one, says what ended it
├── ProtocolError    the server sent something that this protocol does not have
└── KeyFileError     a key file is missing, open to others, or not a key
"""

from typing import Any

from gateway.wire import Error, ErrorCode, ErrorData


class HashpitError(Exception):
    """Base of all errors of the SDK."""


class Refused(HashpitError):
    """The server refused a call; nothing changed.

    ``code`` is in docs/PROTOCOL.md, Errors; ``data.field`` names the field at fault (``params.qty``) and ``data.bound`` the
    bound it broke.
    """

    def __init__(self, code: int, message: str, data: ErrorData) -> None:
        super().__init__(code, message, data)
        self.code = code
        self.message = message
        self.data = data

    def __str__(self) -> str:
        where = f" ({self.data.field})" if self.data.field and self.data.field not in self.message else ""
        return f"{self.message}{where} [{self.code} {self.data.reason}]"


class Rejected(Refused):
    """The engine refused the command. ``data.repeat``: this is the first outcome of the same client order id."""


class Denied(Refused):
    """The gateway refused the call before it was sequenced."""


class LoginFailed(Denied):
    """Unknown key or bad signature (the server does not say which), or a key that may not be used from here."""


class RateLimited(Denied):
    """The budget is used up."""

    @property
    def retry_after_s(self) -> float:
        return self.data.retry_after_ms / 1000


class NotSent(HashpitError):
    """The client was not connected in time; the call never left, so nothing happened."""


class NoAnswer(HashpitError):
    """A call was sent and no answer came in time, or the connection broke first."""

    def __init__(self, method: str, params: Any, why: str) -> None:
        super().__init__(method, params, why)
        self.method = method
        self.params = params
        self.why = why

    def __str__(self) -> str:
        return f"{self.method}: {self.why}"


class Unknown(NoAnswer):
    """A command was sent and its outcome is not known: it may be done, or never have arrived.

    ``await client.retry(unknown)`` finds out. It sends the same command again; the server remembers ``client_order_id``
    (``transfer_id`` for transfers) for 24 hours and answers a repeat with the first outcome, so nothing is done twice.
    """

    def __str__(self) -> str:
        name = getattr(self.params, "client_order_id", None) or getattr(self.params, "transfer_id", None)
        of = f" of {name}" if name else ""
        return f"{self.method}{of}: outcome unknown ({self.why}); retry with the same id"


class Overflow(HashpitError):
    """A subscription's queue was full. It gave out all it held before raising this; what came after is lost to it."""

    def __init__(self, channel: str, bound: int) -> None:
        super().__init__(f"{channel}: more than {bound} messages waited to be read; subscribe again")
        self.channel = channel
        self.bound = bound


class Closed(HashpitError):
    """The client is closed."""


class ProtocolError(HashpitError):
    """The server's message does not fit the protocol."""


class KeyFileError(HashpitError):
    """A key file cannot be used; the message says why."""


_DENIED: dict[int, type[Denied]] = {
    ErrorCode.LOGIN_FAILED: LoginFailed,
    ErrorCode.RATE_LIMITED: RateLimited,
}


def refused(error: Error) -> Refused:
    """The exception for an error the server answered with."""
    kind = Rejected if error.code > 0 else _DENIED.get(error.code, Denied)
    return kind(error.code, error.message, error.data)
