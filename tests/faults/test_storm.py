"""Every part is killed once under load; nothing acknowledged may be lost or doubled."""

from pathlib import Path

import pytest

from tests.faults import storm


@pytest.mark.timeout(240)
def test_nothing_acknowledged_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)  # PostgreSQL's own user must pass through
    count = storm.run(tmp_path)
    assert count.acknowledged > 500
    assert (count.lost, count.doubled, count.unfolded, count.summary_difference) == (0, 0, 0, 0)
