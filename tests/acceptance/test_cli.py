"""The `flowcraft` command against the real engine."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flowcraft_sdk import AsyncNodeContext, NodeContext, RunStatus
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment

Flowcraft = Callable[..., Result]

BLUEPRINTS = {
    "greeting": {
        "nodes": [
            {"id": "greet", "uses": "echo", "inputs": {"name": "name", "n": "n"}},
            {"id": "again", "uses": "echo", "inputs": "greet"},
        ],
        "edges": [{"source": "greet", "target": "again"}],
    },
    "broken": {"nodes": [{"id": "breaks", "uses": "boom"}], "edges": []},
    "endless": {"nodes": [{"id": "hangs", "uses": "hang"}], "edges": []},
    "strict": {"inputs": {"name": "string"}, "nodes": [{"id": "greet", "uses": "echo", "inputs": "name"}], "edges": []},
}


def echo(ctx: NodeContext) -> Any:
    return ctx.input


def boom(ctx: NodeContext) -> None:
    raise ValueError("it broke\nbadly")


async def hang(ctx: AsyncNodeContext) -> None:
    ctx.progress(0.5, "half way")
    await asyncio.sleep(60)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers={"echo": echo, "boom": boom, "hang": hang}) as env:
        yield env


@pytest.fixture
def flowcraft(env: TestEnvironment) -> Flowcraft:
    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments], input=stdin)

    return call


def reported(result: Result, code: int) -> str:
    """Check that a call failed with one line on standard error; return the line."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 or lines[0].startswith("Usage:"), result.stderr
    return lines[-1]


def test_start_prints_the_id_and_status_and_result_take_it(flowcraft: Flowcraft) -> None:
    started = flowcraft("start", "greeting", "-i", "name=Ada")
    assert started.exit_code == 0, started.output
    (run_id,) = started.stdout.split()
    result = flowcraft("result", run_id, "--timeout", "10s")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["again"]["name"] == "Ada"
    assert flowcraft("status", run_id).stdout == "completed\n"


def test_values_are_json_if_they_are_json_and_text_otherwise(flowcraft: Flowcraft, tmp_path: Path) -> None:
    def name(*arguments: str, stdin: str | None = None) -> Any:
        result = flowcraft("start", "greeting", "--wait", "--json", *arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["output"]["name"]

    assert name("-i", "name=3") == 3
    assert name("-i", 'name="3"') == "3"
    assert name("-i", 'name=["a", null]') == ["a", None]
    assert name("-i", "name=a=b") == "a=b"
    assert name("-i", "name=") == ""
    assert name("-i", "name=NaN") == "NaN"
    file = tmp_path / "ctx.json"
    file.write_text('{"name": "from the file", "n": 1}')
    assert name("-f", str(file)) == "from the file"
    assert name("-f", str(file), "-i", "name=over it") == "over it"
    assert name("-f", "-", stdin='{"name": "from standard input"}') == "from standard input"


def test_one_key_of_the_result(flowcraft: Flowcraft) -> None:
    assert flowcraft("start", "greeting", "-i", "name=Ada", "--wait", "--result-key", "name").stdout == "Ada\n"
    assert (
        flowcraft("start", "greeting", "-i", "name=Ada", "--wait", "--result-key", "name", "--json").stdout == '"Ada"\n'
    )
    line = reported(flowcraft("start", "greeting", "-i", "name=Ada", "--wait", "--result-key", "nope"), 2)
    assert "no key 'nope'" in line
    assert "greet" in line


def test_follow_shows_the_events_on_standard_error_and_the_result_on_standard_output(flowcraft: Flowcraft) -> None:
    result = flowcraft("start", "greeting", "-i", "name=Ada", "--follow")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["name"] == "Ada"
    lines = result.stderr.splitlines()
    assert lines[0].startswith("run ")
    assert any("greet" in line and "completed" in line for line in lines)
    assert "status completed" in lines[-1]


def test_the_same_id_is_found_again_and_refused_for_another_start(flowcraft: Flowcraft) -> None:
    for attached in (False, True):
        result = flowcraft("start", "greeting", "-i", "name=Ada", "--id", "mine", "--json")
        assert json.loads(result.stdout) == {"run_id": "mine", "blueprint_id": "greeting", "attached": attached}
    assert "run mine exists" in reported(flowcraft("start", "greeting", "-i", "name=Bob", "--id", "mine"), 2)
    assert "run id" in reported(flowcraft("start", "greeting", "--id", "not an id"), 2)


def test_a_failed_run_is_exit_code_1(flowcraft: Flowcraft) -> None:
    line = reported(flowcraft("start", "broken", "--wait"), 1)
    assert "node 'breaks': ValueError: it broke badly" in line
    result = flowcraft("start", "broken", "--wait", "--json")
    assert result.exit_code == 1
    plain = json.loads(result.stdout)
    assert plain["status"] == "failed"
    assert plain["output"] is None
    assert plain["failures"][0]["type"] == "ValueError"
    assert "failed" in reported(flowcraft("result", plain["run_id"]), 1)


def test_an_unknown_blueprint_or_run_is_exit_code_3(flowcraft: Flowcraft) -> None:
    assert "did you mean 'greeting'" in reported(flowcraft("start", "greting"), 3)
    for command in ("status", "result", "cancel", "show"):
        assert reported(flowcraft(command, "nope"), 3) == "no run nope"


def test_wrong_usage_is_exit_code_2(flowcraft: Flowcraft, tmp_path: Path) -> None:
    no_json = tmp_path / "text.json"
    no_json.write_text("name: Ada")
    a_list = tmp_path / "list.json"
    a_list.write_text("[1]")
    for arguments, message in [
        (["start", "greeting", "-i", "name"], "expected key=value"),
        (["start", "greeting", "-i", "=x"], "expected key=value"),
        (["start", "greeting", "-f", str(no_json)], "not JSON"),
        (["start", "greeting", "-f", str(a_list)], "a start context is a JSON object"),
        (["start", "greeting", "-f", str(tmp_path / "none.json")], "No such file"),
        (["start", "greeting", "--timeout", "soon"], "expected a duration"),
        (["start", "greeting", "--timeout=-1"], "expected a span of time"),
        (["start", "strict"], "name: is missing"),
        (["start", "strict", "-i", "name=3"], "name: expected string"),
        (["list", "--status", "done"], "'done' is not one of"),
        (["--config", str(no_json), "list"], "exclude each other"),
        (["nonsense"], "No such command"),
    ]:
        assert message in reported(flowcraft(*arguments), 2)


def test_a_timeout_is_exit_code_4_and_the_run_goes_on(flowcraft: Flowcraft, env: TestEnvironment) -> None:
    before = time.monotonic()
    line = reported(flowcraft("start", "endless", "--wait", "--timeout", "0.3"), 4)
    assert time.monotonic() - before > 0.25
    assert "it goes on" in line
    run_id = line.split()[1]
    assert reported(flowcraft("result", run_id, "--timeout", "50ms"), 4)
    assert env.client.get_handle(run_id).status() is RunStatus.RUNNING
    env.client.get_handle(run_id).cancel(grace=0)


def test_cancel(flowcraft: Flowcraft) -> None:
    run_id = flowcraft("start", "endless").stdout.strip()
    cancelled = flowcraft("cancel", run_id, "--reason", "had enough", "--grace", "5s")
    assert cancelled.exit_code == 0
    assert cancelled.stdout.strip() in ("cancelling", "cancelled")
    assert "cancelled: had enough" in reported(flowcraft("result", run_id, "--timeout", "10"), 1)
    assert flowcraft("cancel", run_id, "--json").exit_code == 0
    ended = flowcraft("start", "greeting", "--wait", "--json").stdout
    again = flowcraft("cancel", json.loads(ended)["run_id"])
    assert again.exit_code == 0
    assert again.stdout == "had ended before: completed\n"


def test_list_and_show(flowcraft: Flowcraft) -> None:
    good = json.loads(flowcraft("start", "greeting", "--tag", "shown", "--wait", "--json").stdout)["run_id"]
    bad = json.loads(flowcraft("start", "broken", "--tag", "shown", "--wait", "--json").stdout)["run_id"]
    listed = json.loads(flowcraft("list", "--tag", "shown", "--json").stdout)
    assert [run["run_id"] for run in listed] == [bad, good]
    failed = json.loads(flowcraft("list", "--tag", "shown", "--status", "failed", "--json").stdout)
    assert [run["blueprint_id"] for run in failed] == ["broken"]
    assert len(json.loads(flowcraft("list", "--limit", "1", "--json").stdout)) == 1
    assert json.loads(flowcraft("list", "--blueprint", "nope", "--json").stdout) == []
    table = flowcraft("list", "--blueprint", "broken", "--tag", "shown").stdout
    assert bad in table
    assert good not in table

    shown = flowcraft("show", bad).stdout
    assert "breaks failed: ValueError: it broke" in shown
    assert "ValueError" in shown
    assert '"_outputs.greet"' in flowcraft("show", good, "--ctx").stdout
    plain = json.loads(flowcraft("show", good, "--json").stdout)
    assert plain["nodes"]["again"]["status"] == "completed"
    assert plain["progress"] == {"done": 2, "total": 2}


def command(*arguments: str, cwd: Path, **variables: str) -> "subprocess.Popen[str]":
    """The command as a process of its own."""
    inherited = {k: v for k, v in os.environ.items() if "REDIS_URL" not in k and not k.startswith("FLOWCRAFT")}
    return subprocess.Popen(
        [sys.executable, "-m", "flowcraft_server.cli.client", *arguments],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def test_an_interrupt_ends_the_waiting_but_not_the_run(env: TestEnvironment, tmp_path: Path) -> None:
    place = ["--url", env.url, "--namespace", env.namespace]
    process = command(*place, "start", "endless", "--id", "interrupted", "--follow", cwd=tmp_path)
    handle = env.client.get_handle("interrupted")
    assert process.stderr is not None
    while "started" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "the run goes on: flowcraft result interrupted" in errors
    assert "Traceback" not in errors
    assert handle.status() is RunStatus.RUNNING
    handle.cancel(grace=0)


def test_the_nearest_file_says_where_redis_is(env: TestEnvironment, tmp_path: Path) -> None:
    deployment = tmp_path / "flowcraft.yaml"
    deployment.write_text(f"name: {env.namespace}\nredis:\n  url: {env.url}\n")
    below = tmp_path / "some" / "folder"
    below.mkdir(parents=True)
    for arguments, cwd, variables in [
        ([], below, {}),
        (["--config", str(deployment)], Path("/"), {}),
        ([], Path("/"), {"FLOWCRAFT_CONFIG": str(deployment)}),
        ([], Path("/"), {"REDIS_URL": env.url, "FLOWCRAFT_NAMESPACE": env.namespace}),
    ]:
        process = command(*arguments, "start", "greeting", "-i", "name=Ada", "--wait", cwd=cwd, **variables)
        output, errors = process.communicate(timeout=20)
        assert process.returncode == 0, errors
        assert json.loads(output)["name"] == "Ada"


def test_no_connection_is_one_line(tmp_path: Path) -> None:
    for arguments in (["--url", f"unix://{tmp_path}/none.sock"], ["--url", "nonsense://"], ["--config", "none.yaml"]):
        process = command(*arguments, "list", cwd=tmp_path)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 2, errors
        assert output == ""
        assert len(errors.strip().splitlines()) == 1, errors


def test_help_loads_neither_rich_nor_redis(tmp_path: Path) -> None:
    check = "import sys, flowcraft_server.cli.client; assert not {'rich', 'redis', 'pydantic'} & set(sys.modules)"
    paths = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, check=True)


def test_without_a_file_the_default_address_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("FLOWCRAFT_REDIS_URL", "REDIS_URL", "FLOWCRAFT_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("flowcraft_sdk._transport.connector.DEFAULT_URL", "redis://127.0.0.1:1/0")
    result = CliRunner().invoke(main, ["list"])
    assert result.exit_code == 2
    assert "no flowcraft.yaml is in this folder or above it" in result.stderr
    assert "no flowcraft.yaml" not in CliRunner().invoke(main, ["--url", "redis://127.0.0.1:1/0", "list"]).stderr


@pytest.mark.parametrize("option", [("--timeout", "5s"), ("--result-key", "a")])
def test_options_of_a_wait_without_one_are_refused(option: tuple[str, str]) -> None:
    result = CliRunner().invoke(main, ["--url", "redis://127.0.0.1:1/0", "start", "b", *option])
    assert result.exit_code == 2 and "go with --wait or --follow" in result.stderr


def test_a_key_of_the_result_is_written_alike_in_each_command(flowcraft: Flowcraft) -> None:
    having = {
        option: {name for name, command in main.commands.items() for param in command.params if option in param.opts}
        for option in ("--key", "--result-key")
    }
    assert having == {"--key": {"start"}, "--result-key": {"start", "result", "exec"}}
    assert "a key of the result is named by --result-key" in flowcraft("result", "r", "--key", "a").stderr
