"""What runs, models and files wrote commands no terminal: every command shows it escaped."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowcraft_sdk import NodeContext
from flowcraft_server.cli.client import main
from flowcraft_server.cli.server import main as server_main
from flowcraft_server.testing import TestEnvironment

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\u202egnp.exe\u2066\u200b[red]x[/red]\u2028"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f]")


def echo(ctx: NodeContext) -> Any:
    ctx.progress(0.5, HOSTILE)
    ctx.emit("printed", {HOSTILE: HOSTILE})
    return ctx.input


def fails(ctx: NodeContext) -> None:
    raise ValueError(HOSTILE)


BLUEPRINTS = {
    "hostile": {
        "description": HOSTILE,
        "nodes": [
            {"id": "reports", "uses": "echo", "inputs": "text"},
            {"id": "fails", "uses": "fails", "config": {"fallback": "asks"}},
            {"id": "asks", "uses": "wait", "params": {"prompt": HOSTILE, "actions": ["a", HOSTILE]}},
        ],
        "edges": [{"source": "reports", "target": "fails"}],
    },
    "reported": {"nodes": [{"id": "reports", "uses": "echo", "inputs": "text"}], "edges": []},
    "broken": {"nodes": [{"id": "fails", "uses": "fails"}], "edges": []},
}


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers={"echo": echo, "fails": fails}) as env:
        env.client.start("hostile", {"text": HOSTILE}, run_id="waits", tags=["a"])
        env.client.start("reported", {"text": HOSTILE}, run_id="reported", memo={"m": HOSTILE})
        env.client.start("broken", run_id="broken")
        env.client.start("hostile", {"text": HOSTILE}, run_id="cancelled")
        env.run_until_idle()
        env.client.get_handle("cancelled").cancel(HOSTILE)
        env.run_until_idle()
        yield env


def call(env: TestEnvironment, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments])


COMMAND_LINES = [
    ("show", "waits", "--ctx"), ("show", "reported", "--ctx"), ("show", "broken"), ("show", "cancelled"), ("status", "waits"),
    ("result", "reported"), ("result", "reported", "--result-key", "reports"), ("result", "broken"), ("result", "cancelled"),
    ("result", "waits", "--timeout", "0.05"), ("list",), ("dlq", "list"), ("doctor",), ("blueprint", "list"),
    ("blueprint", "show", "hostile"), ("blueprint", "show", "hostile", "--format", "mermaid"),
    ("blueprint", "diff", "hostile", "reported"), ("signal", "waits", "asks", "--action", HOSTILE),
    ("start", "reported", "-i", f"text={HOSTILE}", "--follow"), ("start", "reported", "-i", f"text={HOSTILE}", "--wait"),
    ("start", "broken", "--wait"), ("start", HOSTILE), ("show", HOSTILE), ("status", HOSTILE),
]  # fmt: skip


@pytest.mark.parametrize(
    "arguments", COMMAND_LINES, ids=lambda arguments: " ".join(arguments[:2]).encode("ascii", "ignore").decode()
)
def test_hostile_text_is_shown_escaped(env: TestEnvironment, arguments: tuple[str, ...]) -> None:
    result = call(env, *arguments)
    assert not COMMANDS.search(result.stdout + result.stderr), result.output
    assert "Traceback" not in result.stderr
    assert result.exit_code in (0, 1, 2, 3, 4), result.output


@pytest.mark.parametrize(
    "arguments", [("show", "reported", "--ctx", "--json"), ("result", "reported", "--json"), ("list", "--json")]
)
def test_json_holds_the_same_value_escaped(env: TestEnvironment, arguments: tuple[str, ...]) -> None:
    result = call(env, *arguments)
    assert not COMMANDS.search(result.stdout)
    value = json.loads(result.stdout)
    if arguments[0] == "result":
        assert value["output"]["reports"] == HOSTILE


def test_the_words_of_a_run_are_still_there(env: TestEnvironment) -> None:
    shown = call(env, "result", "reported", "--result-key", "reports").stdout
    assert "\\x1b]0;owned\\x07" in shown
    assert "[red]x[/red]" in shown
    assert "\\u202egnp.exe" in shown


@pytest.mark.parametrize("format", ["text", "json", "github"])
def test_hostile_text_in_files(tmp_path: Path, format: str) -> None:
    (tmp_path / "flowcraft.yaml").write_text(
        'name: x\nhandlers: {"a\\x1b[2J\\u202e": "no\\x9b.such:thing"}\nredis: {url: "\\x1b]0;x\\x07"}\n'
    )
    result = CliRunner().invoke(
        server_main, ["check", "--config", str(tmp_path / "flowcraft.yaml"), "--format", format, "--offline"]
    )
    assert result.exit_code == 2, result.output
    assert not COMMANDS.search(result.stdout + result.stderr), result.output
    if format == "json":
        json.loads(result.stdout)
