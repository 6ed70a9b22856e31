"""What pytest runs of the faults; all of them: ``python -m tests.faults all``."""

from pathlib import Path

import pytest

from tests.faults.faults import FAULTS, QUICK
from tests.faults.scene import Unable, scene


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", QUICK)
async def test_nothing_told_is_lost(name: str, tmp_path: Path) -> None:
    try:
        async with scene(tmp_path) as found:
            await FAULTS[name](found)
    except Unable as problem:
        pytest.skip(str(problem))


def test_every_fault_says_what_has_to_hold() -> None:
    for name, fault in FAULTS.items():
        assert ": " in (fault.__doc__ or ""), name
    assert {*QUICK} < {*FAULTS}
