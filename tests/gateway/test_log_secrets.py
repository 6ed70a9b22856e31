"""Secrets never reach the log, not even as a local variable of a function that failed."""

import io
from collections.abc import Iterator

import pytest
import structlog

from gateway import log

SECRET = "5ec2e7" * 10


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(form: str) -> None:
    stream = io.StringIO()
    log.configure(form, stream=stream)

    def fails(made: str) -> None:
        raise RuntimeError(f"with {len(made)} characters")

    try:
        fails(SECRET)
    except RuntimeError:
        log.get("test").exception("bug", secret=SECRET)
    text = stream.getvalue()
    assert "with 60 characters" in text
    assert "fails" in text
    assert SECRET not in text
