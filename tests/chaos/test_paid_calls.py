"""Replies of models are recorded while workers are killed; `python -m tests.chaos.paid_calls` is the long version."""

import secrets
from pathlib import Path

from tests.chaos import paid_calls


def test_replies_that_were_recorded_are_not_paid_for_again(tmp_path: Path) -> None:
    seed = secrets.randbits(32)
    found = paid_calls.suffer(tmp_path / "calls", "recorded", kills=2, runs=8, seed=seed)
    assert found.incomplete == 0, f"seed {seed}"
    replies = 2 * paid_calls.CALLS * 8
    assert found.calls == replies + found.again, f"seed {seed}"
    assert found.recorded == replies, (
        f"seed {seed}: a reply that was recorded would be recorded again if it was asked for again"
    )
