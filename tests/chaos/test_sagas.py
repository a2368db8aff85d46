"""Workers are killed while sagas are undone; `python -m tests.chaos.sagas` runs the long version."""

import os
import secrets
from pathlib import Path

from tests.chaos import sagas


def test_sagas_are_undone_once_while_workers_are_killed(tmp_path: Path) -> None:
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    report = sagas.rage(tmp_path / "sagas", runs=10, kills=3, seed=seed)
    assert report.is_clean(), (report.wrong, sagas.table(report))
