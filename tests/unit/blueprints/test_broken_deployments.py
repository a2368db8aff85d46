"""Every broken blueprint through `flowcraft-server check` itself: its messages are printed, located, and no traceback is."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowcraft_server.cli.server import main
from tests.unit.blueprints.registry import HANDLERS
from tests.unit.blueprints.test_broken_files import CASES

CHILD = """
id: child
inputs: {topic: string, tone: {type: string, default: calm}}
nodes: {summary: {uses: echo, inputs: topic}}
"""
BACK = "id: back\nnodes: {again: {call: main}}\n"
LOCATED = re.compile(r"blueprints/\w+\.(yaml|json):[1-9]\d*:[1-9]\d*   ")
SHOWN = re.compile(r" +(\d+)? \| ")
VERDICT = re.compile(r"\d+ errors?(, \d+ warnings?)?: nothing was started")
OF_TEXTS = {"include in a text"}
"""Cases that are right or broken in another way once the text is a file."""
CHECKED = [(family, case) for family, case in CASES if case["name"] not in OF_TEXTS]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Checks a deployment that holds this blueprint, and those that the corpus calls."""
    folder = tmp_path / "blueprints"
    folder.mkdir()
    (folder / "child.yaml").write_text(CHILD)
    (folder / "back.yaml").write_text(BACK)
    handlers = ", ".join(f"{name}: 'tests.unit.blueprints.deployed:{name}'" for name in HANDLERS)
    deployment = f"name: broken\nhandlers: {{{handlers}}}\nblueprints: {{dirs: [blueprints]}}\n"
    (tmp_path / "flowcraft.yaml").write_text(deployment)
    monkeypatch.chdir(tmp_path)

    def run(text: str, form: str) -> Result:
        (folder / f"main.{form}").write_text(text, encoding="utf-8")
        return CliRunner().invoke(main, ["check", "--offline"])

    return run


def test_the_deployment_is_right_without_it(check: Any) -> None:
    result = check("nodes: {a: {uses: echo}}", "yaml")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("family", "case"), CHECKED, ids=[f"{family}: {case['name']}" for family, case in CHECKED])
def test_check_prints_it(check: Any, family: str, case: dict[str, Any]) -> None:
    form = case.get("format", "yaml")
    result = check(case["text"], form)
    lines = result.output.splitlines()
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    for expected in case["expect"]:
        assert any(line.startswith(f"blueprints/main.{form}:{expected}") for line in lines), result.output
    if all(expected.endswith("[warning]") for expected in case["expect"]):
        assert result.exit_code == 0
        return
    assert result.exit_code == 2
    assert not [line for line in lines if not (LOCATED.match(line) or SHOWN.match(line) or VERDICT.fullmatch(line))]
