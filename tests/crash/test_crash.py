"""Acknowledged means durable, exactly once, in order: a real server is killed under load and has to keep every promise.

The same campaign runs longer by hand: ``python -m tests.crash --kills 50 --seed 1 [--snapshots]``.
"""

from pathlib import Path

import pytest

from tests.crash.campaign import Campaign


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("kills", "snapshots"), [(10, False), (4, True)], ids=["journal", "snapshots"])
async def test_everything_told_survives_kill_9(tmp_path: Path, kills: int, snapshots: bool) -> None:
    report = await Campaign(tmp_path, seed=1, traders=3, snapshots=snapshots, say=print).run(kills)
    assert report.kills >= kills
    assert report.acked_orders > 100
    assert report.fills > 50
    assert report.acked_changes > 20
    assert report.unsure > 0, "no kill hit a command in flight"
    if snapshots:
        # a snapshot right before a kill leaves nothing to resume from: too_old is then the promised answer
        assert report.from_snapshot > 0
        assert report.resumed + report.too_old > 0
    else:
        assert report.repeated_events > 0
