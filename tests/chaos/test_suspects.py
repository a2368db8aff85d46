"""One bad node never fails its peers; `python -m tests.chaos.suspects` runs the long version."""

from pathlib import Path

import pytest

from tests.chaos.suspects import trial


@pytest.mark.parametrize("guilty", ["ends_the_process", "ends_the_process_in_coroutine", "aborts"])
def test_innocent_neighbours_complete_and_the_guilty_are_dead_letters(tmp_path: Path, guilty: str) -> None:
    found = trial(tmp_path / "suspects", guilty=guilty, guilty_count=2, coroutines=40, functions=10)
    assert found.completed == found.innocent == 50
    assert sorted(found.blamed) == sorted(found.guilty)
