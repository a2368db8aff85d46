"""Bare `pytest` in a deployment's folder imports the deployment's modules as the server does."""

import subprocess
import sys
from pathlib import Path

import pytest

ALONE = ["-p", "no:cacheprovider", "-p", "no:schemathesis"]  # the second plugin only takes time to import


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
    command = [sys.executable, "-P", "-m", "pytest", "-q", *ALONE, *more]
    done = subprocess.run(command, cwd=tmp_path / where, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_elsewhere_it_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_path.py").write_text(
        f"import sys\n\n\ndef test_it():\n    assert {str(tmp_path.parent)!r} not in sys.path\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", *ALONE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


FLOW = """
nodes: {look: {uses: look, inputs: n, next: {big: act}}, act: {uses: act}}
tests:
  - {name: as it should be, input: {n: 9}, expect: {ran: act, outputs: {act: 18}}}
  - name: otherwise
    input: {n: 1}
    mocks: {look: {output: 1, action: big}}
    expect: {outputs: {act: 3}}
"""
CODE = """
from flowcraft_sdk import NodeResult

def look(ctx):
    return NodeResult(ctx.input, action="big")

def act(ctx):
    return ctx.input * 2
"""


def deployment(folder: Path, ini: str) -> None:
    (folder / "flowcraft.yaml").write_text(
        "handlers: {look: plugin_h:look, act: plugin_h:act}\nblueprints: {dirs: [flows]}\n"
    )
    (folder / "plugin_h.py").write_text(CODE)
    (folder / "flows").mkdir()
    (folder / "tests").mkdir()
    (folder / "flows" / "flow.yaml").write_text(FLOW)
    (folder / "tests" / "other.yaml").write_text("some: data\n")
    (folder / "tests" / "test_env.py").write_text(
        "def test_it(flowcraft_env):\n"
        "    with flowcraft_env.override('act', lambda ctx: 'acted'):\n"
        "        assert flowcraft_env.client.execute('flow', {'n': 1}, timeout=60)['act'] == 'acted'\n"
    )
    (folder / "pytest.ini").write_text(f"[pytest]\n{ini}testpaths = tests flows\n")


def ran(folder: Path, *options: str) -> str:
    command = [sys.executable, "-P", "-m", "pytest", *ALONE, *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_tests_of_blueprints_are_collected(tmp_path: Path) -> None:
    deployment(tmp_path, "flowcraft_blueprints = true\n")
    printed = ran(tmp_path, "-n2", "-v")
    assert "2 passed" in printed, printed
    assert "1 failed" in printed, printed
    assert "PASSED flows/flow.yaml::as it should be" in printed
    assert "flow.yaml:8:29   expect.outputs.act: differs" in printed
    assert "Traceback" not in printed
    (tmp_path / "flows" / "flow.yaml").write_text(FLOW.replace("ran: act", "ran: axt"))
    printed = ran(tmp_path, "flows")
    assert "flow.yaml:4:58   tests[0].expect.ran: no node 'axt'; did you mean 'act'?" in printed, printed


def test_without_the_option_they_are_not(tmp_path: Path) -> None:
    deployment(tmp_path, "")
    assert "1 passed" in ran(tmp_path)
    (tmp_path / "flowcraft.yaml").unlink()
    assert "flowcraft_env: there is no flowcraft.yaml in the folder of test_env.py or above it" in ran(tmp_path)


@pytest.mark.parametrize("more", [[], ["-n2"]])
def test_what_check_warns_of_is_in_the_summary_once(tmp_path: Path, more: list[str]) -> None:
    deployment(tmp_path, "flowcraft_blueprints = true\n")
    (tmp_path / "flows" / "flow.yaml").write_text("inputs: {n: number}\n" + FLOW.replace("inputs: n,", "inputs: n.x,"))
    printed = ran(tmp_path, "flows", *more)
    message = "flow.yaml:3:36   nodes.look.inputs: 'n' is a number and has no parts: 'n.x' is always null"
    assert printed.count(message) == 1, printed
    assert "BlueprintWarning" in printed
    assert "BlueprintWarning" not in ran(
        tmp_path, "flows", "-W", "ignore::flowcraft_server.testing.BlueprintWarning", *more
    )
