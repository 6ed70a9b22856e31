"""Chooses the engine build and the Hypothesis profile before any test module is imported.

pytest                                the compiled engine if it is compiled, else the plain sources
HASHPIT_PLAIN=1 pytest                the plain sources
HYPOTHESIS_PROFILE=thorough pytest    many more random examples
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from hashpit.build import build_kind, plain_requested, prefer_source, stale_message, stale_modules

STALE = [] if plain_requested() else stale_modules()
if not STALE:
    prefer_source()

# A busy machine pauses when it likes, so time limits are pytest-timeout's business, not Hypothesis's.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=100,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


def pytest_configure() -> None:
    if STALE:
        raise pytest.UsageError(f"hashpit: {stale_message(STALE)}")


def pytest_report_header() -> str:
    return f"hashpit: build {build_kind()}"
