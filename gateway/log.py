"""Logs: structlog events on standard error, as one JSON object per line or for human eyes.

An event is a short text with fields, e.g. ``log.info("socket closed", connection="c17", code=4003)``. Secrets never reach a
log: fields with the names of secrets are blanked here, and messages from clients are not logged as a whole anywhere.
Text from outside cannot forge a line: what is not printable is escaped.
"""

import io
import logging
import sys
from collections.abc import MutableMapping
from time import monotonic
from typing import Any, Final, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import ExcInfo, FilteringBoundLogger, Processor

from gateway.text import printable

SECRET_FIELDS: Final = frozenset({"secret", "signature", "private_key", "master_key", "password", "token", "seed"})
TEXT_CHARS_MAX: Final = 2_000
"""Longer texts in a field are cut; a traceback is not."""

EVENTS_PER_SECOND_MAX: Final = 100
"""Events of one text that are written per second."""


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank the values of fields that are named like secrets."""
    for name in SECRET_FIELDS & event.keys():
        event[name] = "(hidden)"
    return event


def one_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what is not printable in texts, so that one event stays one line, and cut what is too long."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value[:TEXT_CHARS_MAX])
    return event


class Throttle:
    """Drops events of a kind beyond EVENTS_PER_SECOND_MAX, so that no client can fill the disk; the next one that is let
    through carries how many were ``dropped``. Errors are never dropped."""

    def __init__(self) -> None:
        self._second = 0
        self._counts: dict[str, int] = {}
        self._dropped: dict[str, int] = {}

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in ("error", "exception", "critical"):
            return event
        second = int(monotonic())
        if second != self._second:
            self._second = second
            self._dropped.update({kind: count - EVENTS_PER_SECOND_MAX for kind, count in self._counts.items()})
            self._counts = {}
        kind = str(event.get("event"))
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count > EVENTS_PER_SECOND_MAX:
            raise structlog.DropEvent
        if (dropped := self._dropped.pop(kind, 0)) > 0:
            event["dropped"] = dropped
        return event


def _traceback(out: TextIO, failure: ExcInfo) -> None:
    """A traceback for human eyes, without local variables: a secret may be one of them. Every line is indented and escaped, so
    that the text of an exception cannot pass for an event either."""
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, failure)
    out.writelines(f"  {printable(line)}\n" for line in plain.getvalue().split("\n"))


def configure(form: str = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog, and the standard logging of libraries, to write to ``stream`` (default: standard error).

    ``form`` is ``json``, ``console``, or ``auto``: console on a terminal.
    """
    out = sys.stderr if stream is None else stream
    console = form == "console" or (form == "auto" and out.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
        one_line,
    ]
    render: list[Processor]
    if console:
        render = [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=_traceback)]
    else:
        frames = ExceptionDictTransformer(show_locals=False)
        render = [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[Throttle(), *shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


def get(name: str) -> FilteringBoundLogger:
    """The logger of one part of the gateway."""
    logger: FilteringBoundLogger = structlog.get_logger(part=name)
    return logger
