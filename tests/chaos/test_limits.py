"""Workers are killed while limits are reached; `python -m tests.chaos.limits` runs the long version."""

import os
import secrets
from pathlib import Path

from tests.chaos import limits


def test_no_limit_is_exceeded_while_workers_are_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    report = limits.rage(tmp_path / "limits", runs=24, kills=2, seed=seed)
    assert report.is_clean(), limits.table(report)
