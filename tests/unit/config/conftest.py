"""A folder to write deployments into, and what loading them says."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowcraft_server.config.load import LoadResult, load_config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is the current one; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    path, modules = sys.path[:], set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")) or name.startswith("deployed"):
            del sys.modules[name]


Load = Callable[..., LoadResult]


@pytest.fixture
def load(folder: Path) -> Load:
    """Write `flowcraft.yaml` and load it, with an empty environment unless one is given."""

    def write_and_load(text: str, **options: Any) -> LoadResult:
        (folder / "flowcraft.yaml").write_text(text)
        return load_config("flowcraft.yaml", **{"environ": {}, **options})

    return write_and_load


@pytest.fixture
def reported(load: Load) -> Callable[..., list[str]]:
    """All that is wrong with a `flowcraft.yaml`, as people read it."""

    def diagnostics(text: str, **options: Any) -> list[str]:
        return [str(diagnostic) for diagnostic in load(text, **options).diagnostics]

    return diagnostics
