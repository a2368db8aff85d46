"""A folder for an embedded store that leaves no server behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft_server.store.embedded import EmbeddedStore


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a store."""
    data = tmp_path / "data"
    yield data
    # A test that failed half way must not leave a server behind.
    with EmbeddedStore(data) as store:
        assert store.url
