"""Every broken `flowcraft.yaml` gets its message, with line and column, and no other message; none ends in a traceback."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from flowcraft_server.config.load import load_config

CASES = yaml.safe_load((Path(__file__).parent / "broken.yaml").read_text(encoding="utf-8"))


def test_there_are_many_of_them() -> None:
    assert len(CASES) >= 80
    assert len({case["name"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_broken_file_is_explained(case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flowcraft.yaml").write_text(case["text"])
    loaded = load_config("flowcraft.yaml", environ={})
    shown = [str(diagnostic).split("\n")[0].removeprefix("flowcraft.yaml:") for diagnostic in loaded.diagnostics]
    missing = [line for line in case["expect"] if not any(found.startswith(line) for found in shown)]
    extra = [found for found in shown if not any(found.startswith(line) for line in case["expect"])]
    assert not missing, f"not shown: {missing}\nbut: {shown}"
    assert not extra, f"shown as well: {extra}"
    assert loaded.settings is None
