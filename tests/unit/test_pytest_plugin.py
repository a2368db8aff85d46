"""Bare `pytest` in a deployment's folder imports the deployment's modules as the server does."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("where", [".", "tests"])
@pytest.mark.parametrize("more", [[], ["-n1"], ["tests/test_order.py::test_it"]])
def test_handlers_are_found(tmp_path: Path, where: str, more: list[str]) -> None:
    if where == "tests" and "::" in "".join(more):
        more = ["test_order.py::test_it"]
    (tmp_path / "flowcraft.yaml").write_text("name: x\n")
    (tmp_path / "order_handlers.py").write_text("def total(ctx):\n    return 3\n")
    if more != ["-n1"]:  # pytest-xdist puts the current folder first by itself
        (tmp_path / "json.py").write_text("raise RuntimeError('takes the place of an installed module')\n")
    (tmp_path / "tests").mkdir()
    test = "import json\nfrom order_handlers import total\n\n\ndef test_it():\n    assert total(None) == 3\n"
    (tmp_path / "tests" / "test_order.py").write_text(test)
    # -P: as `pytest` alone, which does not put the current folder on the path.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *more]
    done = subprocess.run(command, cwd=tmp_path / where, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_elsewhere_it_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_path.py").write_text(
        f"import sys\n\n\ndef test_it():\n    assert {str(tmp_path.parent)!r} not in sys.path\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
