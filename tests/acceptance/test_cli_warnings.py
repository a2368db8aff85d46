"""What `flowcraft-server check` warns of, in the other commands that run a blueprint."""

import json
from pathlib import Path

from tests.acceptance.test_cli_init import run

WARNED = """
inputs: {n: string}
nodes: {a: {uses: up, inputs: {x: n, y: n.z}}}
tests: [{name: one, input: {n: Ada}, expect: {status: completed}}]
"""
SETTINGS = "handlers: {up: steps:up}\nblueprints: {dirs: [flows]}\n"
MESSAGE = "flow.yaml:3:41   nodes.a.inputs.y: 'n' is a string and has no parts: 'n.z' is always null   [warning]"


def test_commands_that_run_a_blueprint_show_what_check_warns_of(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "flow.yaml").write_text(WARNED)
    (tmp_path / "steps.py").write_text("def up(ctx):\n    return 1\n")
    (tmp_path / "flowcraft.yaml").write_text(SETTINGS)
    (tmp_path / "eval.yaml").write_text(
        "blueprint: flow\ncases: [{name: a, input: {n: x}, expect: {status: completed}}]\n"
    )
    for command in (
        ["flowcraft", "exec", "flows/flow.yaml", "-i", "n=Ada", "--json"],
        ["flowcraft", "test", "--json"],
        ["flowcraft", "test", "flows/flow.yaml", "--json"],
        ["flowcraft", "eval", "eval.yaml", "--json"],
        ["flowcraft-server", "check"],
    ):
        done = run(tmp_path, *command)
        assert done.returncode == 0, (command, done.stdout + done.stderr)
        assert done.stderr.count(MESSAGE) == 1, (command, done.stderr)
        if "--json" in command:
            json.loads(done.stdout)
