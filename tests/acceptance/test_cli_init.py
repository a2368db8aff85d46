"""`flowcraft init` and `flowcraft exec`: a project that runs at once, and a blueprint that runs on its own."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.server_program import server_environment

BIN = Path(sys.executable).parent
STEPS = """
from flowcraft_sdk import handler

def up(ctx):
    return ctx.input.upper()

@handler("low")
def down(ctx):
    return ctx.input.lower()

def bad(ctx):
    raise KeyError(ctx.input)
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = server_environment() | {"PYTHONPATH": ""}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("example", "tests", "result"),
    [
        ("minimal", 1, {"greeting": "Hello Ada", "farewell": "Good night Ada"}),
        ("order", 6, {"total": 23, "parcel": "parcel for Ada", "refused": None}),
        ("agent", 3, {"verdict": "urgent", "answer": None, "escalation": "called the engineer on duty"}),
    ],
)
def test_a_new_project_runs(tmp_path: Path, example: str, tests: int, result: object) -> None:
    done = run(tmp_path, "flowcraft", "init", "my shop", "--example", example, "--json")
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    folder = tmp_path / "my shop"
    assert {"flowcraft.yaml", "handlers.py", "README.md", ".gitignore"} < set(written["files"])
    assert "name: my-shop " in (folder / "flowcraft.yaml").read_text()
    assert f"    {written['start']}\n" in (folder / "README.md").read_text()
    for file in (folder / "flowcraft.yaml", *(folder / "blueprints").iterdir()):
        hint = file.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert json.loads((file.parent / hint).read_text())["$schema"]
    tested = run(folder, "flowcraft", "test", "--json")
    assert tested.returncode == 0, tested.stdout
    report = json.loads(tested.stdout)
    assert len(report["tests"]) == tests
    assert [(one["nodes_missed"], one["edges_missed"]) for one in report["coverage"]] == [([], [])]
    command = [str(BIN / "flowcraft-server"), "dev", "--log-level", "error"]
    environment = server_environment() | {"PYTHONPATH": ""}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if line.startswith("Start a run:"):
                    break
            words = [word for word in written["start"].split(" ") if word != "--follow"]
            start = [
                "flowcraft",
                "start",
                words[2],
                "-i",
                example_input(example),
                "--wait",
                "--timeout",
                "30s",
                "--json",
            ]
            done = run(folder, *start)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["output"] == result
        finally:
            server.terminate()
            server.wait(30)


def example_input(example: str) -> str:
    return {"minimal": "name=Ada", "order": "customer=Ada", "agent": "mail=The server room is on fire"}[example]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("mine\n")
    done = run(tmp_path, "flowcraft", "init")
    assert done.returncode == 2
    assert "handlers.py: already there, and nothing was written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["handlers.py"]
    done = run(tmp_path, "flowcraft", "init", "handlers.py")
    assert done.returncode == 2
    assert (tmp_path / "handlers.py").read_text() == "mine\n"


def test_exec(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "one.yaml").write_text(
        "inputs: {n: string}\noutputs: {a: a, b: b}\nnodes: {a: {uses: up, inputs: n}, b: {uses: low, inputs: n}}\n"
    )
    done = run(tmp_path, "flowcraft", "exec", "one.yaml", "-i", "n=Ada", "--handlers", "steps.py")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"a": "ADA", "b": "ada"}), done.stderr
    done = run(tmp_path, "flowcraft", "exec", "one.yaml", "-i", "n=Ada", "--handlers", "steps", "--result-key", "a")
    assert (done.returncode, done.stdout) == (0, "ADA\n")
    done = run(tmp_path, "flowcraft", "exec", "one.yaml", "-i", "n=Ada")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "one.yaml:3:9   nodes.a: handler 'up' cannot be used (there is no flowcraft.yaml that names it)"
    )
    (tmp_path / "two.yaml").write_text("nodes: {a: {uses: bad, inputs: n, next: b}, b: {uses: wait}}\n")
    done = run(tmp_path, "flowcraft", "exec", "two.yaml", "-i", "n=Ada", "--handlers", "steps.py", "--json")
    outcome = json.loads(done.stdout)
    assert (done.returncode, outcome["status"], outcome["failures"][0]["type"]) == (1, "failed", "KeyError")
    (tmp_path / "two.yaml").write_text("nodes: {a: {uses: up, inputs: n, next: b}, b: {uses: wait}}\n")
    begin = time.monotonic()
    done = run(tmp_path, "flowcraft", "exec", "two.yaml", "-i", "n=Ada", "--handlers", "steps.py")
    assert done.returncode == 1
    assert done.stderr.startswith("'b' waits for an answer")
    assert time.monotonic() - begin < 60
    for arguments, said in [
        (("none.yaml",), "does not exist"),
        (("two.yaml", "--handlers", "no_such"), "cannot import 'no_such'"),
        (("two.yaml", "--url", "redis://localhost"), "exec runs on a private server"),
        (
            ("two.yaml", "-i", "n=x", "--handlers", "steps.py", "--timeout", "0.2s"),
            "the run took longer than --timeout",
        ),
    ]:
        done = run(tmp_path, "flowcraft", "exec", *arguments)
        assert (done.returncode in (2, 4), said in done.stderr) == (True, True), done.stderr
