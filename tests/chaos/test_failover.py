"""A primary of a Cluster is killed under load; `python -m tests.chaos.failover` is the long version, for Sentinel too."""

import os
import secrets
from pathlib import Path

from tests.chaos.failover import fail_over_repeatedly


def test_no_acknowledged_run_is_lost_with_its_primary(tmp_path: Path) -> None:
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    found = fail_over_repeatedly(tmp_path, "cluster", failovers=1, rate=30.0, durability="replicas:1", seed=seed)
    assert found.verdict.is_clean(), f"seed {seed}\n{found.verdict.faults()}"
    assert found.lost == found.undone == [], f"seed {seed}"
    assert found.verdict.runs > 30, f"seed {seed}"
    assert len(found.first) == 1, f"seed {seed}: nothing went on where the primary was killed"
