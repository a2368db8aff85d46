"""Chaos deployments of a test's own. Two test processes share them, so that few of them measure each other."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.deployment import Deployment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            points = item.path.stem in ("test_kill_points", "test_suspects")
            item.add_marker(pytest.mark.xdist_group("chaos points" if points else "chaos"))


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Makes deployments, without workers, that are ended with the test."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Deployment(tmp_path / "chaos", **options))
