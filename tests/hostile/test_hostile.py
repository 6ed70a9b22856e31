"""Malformed and hostile frames from many sockets: no crash, no growing memory, honest traders keep trading.

The same siege runs longer by hand: ``python -m tests.hostile --frames 100000``.
"""

from pathlib import Path

import pytest

from tests.hostile.siege import Siege


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_hostile_frames_hurt_nobody_else(tmp_path: Path) -> None:
    siege = Siege(tmp_path, seed=1, say=print)
    report = await siege.run(5_000)
    assert report.frames >= 5_000
    assert len(report.kinds) > 25
    assert report.orders > 20
