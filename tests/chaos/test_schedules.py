"""Servers are killed as ticks fall due; `python -m tests.chaos.schedules` runs the long version."""

import os
import secrets
from pathlib import Path

from tests.chaos import schedules


def test_each_tick_has_one_run_while_servers_are_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    report = schedules.rage(tmp_path / "ticks", ticks=30, kills=2, seed=seed)
    assert report.is_clean(), schedules.table(report)
