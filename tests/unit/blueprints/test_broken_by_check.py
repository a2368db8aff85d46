"""The same broken blueprints by `flowcraft-server check`, as a user meets them: located lines, exit code 2, no traceback."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flowcraft_server.cli.server import main
from tests.unit.blueprints.test_broken_files import CASES

HANDLERS = """\
from flowcraft_sdk.node import handler
from tests.unit.blueprints.registry import HANDLERS

def made(name, spec):
    return handler(name, params=spec.params, actions=spec.actions)(lambda ctx: None)

globals().update({name: made(name, spec) for name, spec in HANDLERS.items()})
"""
CHILD = """\
id: child
inputs: {topic: string, tone: {type: string, default: calm}}
nodes: {summary: {uses: echo, inputs: topic}}
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "corpus_handlers.py").write_text(HANDLERS)
    (folder / "flowcraft.yaml").write_text("handlerModules: [corpus_handlers]\nblueprints: {dirs: [made]}\n")
    (folder / "made").mkdir()
    (folder / "made" / "child.yaml").write_text(CHILD)
    (folder / "made" / "back.yaml").write_text(
        "id: back\nnodes: {again: {call: main, inputs: {topic: x, draft: x, order: x}}}"
    )
    path = sys.path[:]
    yield folder
    sys.path[:] = path
    sys.modules.pop("corpus_handlers", None)


IN_FILES = [(family, case) for family, case in CASES if case["name"] != "include in a text"]  # a file has a folder


@pytest.mark.parametrize(("family", "case"), IN_FILES, ids=[f"{family}: {case['name']}" for family, case in IN_FILES])
def test_check(deployment: Path, family: str, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(deployment)
    form = case.get("format", "yaml")
    file = deployment / "made" / f"main.{form}"
    file.write_text(case["text"], encoding="utf-8", newline="")
    try:
        result = CliRunner().invoke(main, ["check", "--offline"])
    finally:
        file.unlink()
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    lines = result.output.splitlines()
    for expected in case["expect"]:
        assert any(line.startswith(f"made/main.{form}:{expected}") for line in lines), (expected, result.output)
    assert "Traceback" not in result.output
    if case.get("only"):  # no second line for the same mistake
        assert sum(line.startswith(f"made/main.{form}:") for line in lines) == len(case["expect"]), result.output
    fails = any("[warning]" not in line for line in lines if line.startswith(f"made/main.{form}:"))
    assert result.exit_code == (2 if fails else 0), result.output
