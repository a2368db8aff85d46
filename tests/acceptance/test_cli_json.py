"""`--json` of both commands: one form, wherever the option stands, for results and for errors."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from click.testing import CliRunner, Result
from pydantic import TypeAdapter

from flowcraft_sdk import NodeAttempt, NodeContext, RunSnapshot, RunSummary
from flowcraft_server.cli import server
from flowcraft_server.cli.client import main
from flowcraft_server.cli.json_form import json_form
from flowcraft_server.testing import TestEnvironment

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
VALUES = {
    "at": MOMENT,
    "day": date(2026, 1, 2),
    "hour": time(3, 4),
    "span": timedelta(minutes=1.5),
    "raw": b"\xff\x00",
    "exact": Decimal("1.10"),
    "key": UUID(int=1),
    "nested": [{"raw": b"a"}],
}
FORM = {
    "at": "2026-01-02T03:04:05.678000Z",
    "day": "2026-01-02",
    "hour": "03:04:00",
    "span": 90.0,
    "raw": "/wA=",
    "exact": "1.10",
    "key": "00000000-0000-0000-0000-000000000001",
    "nested": [{"raw": "YQ=="}],
}
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
Flowcraft = Callable[..., Result]


def values(ctx: NodeContext) -> Any:
    ctx.emit("values", VALUES)
    return VALUES


def boom(ctx: NodeContext) -> None:
    raise ValueError("it broke")


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    blueprints = {
        "values": {"nodes": [{"id": "v", "uses": "values"}], "outputs": {"v": "v"}},
        "broken": {"nodes": [{"id": "b", "uses": "boom"}]},
        "tries": {
            "nodes": [
                {"id": "t", "uses": "boom", "config": {"maxRetries": 2, "fallback": "v"}},
                {"id": "v", "uses": "values"},
            ]
        },
        "asks": {"nodes": [{"id": "ask", "uses": "wait"}]},
        "above": {"nodes": [{"id": "below", "uses": "subflow", "params": {"blueprintId": "asks"}}]},
    }
    with TestEnvironment(blueprints=blueprints, handlers={"values": values, "boom": boom}) as env:
        yield env


@pytest.fixture
def flowcraft(env: TestEnvironment) -> Flowcraft:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments])

    return call


def test_every_value_has_one_form() -> None:
    assert json_form(VALUES) == FORM
    assert json_form({"a": {3, 1}, "b": (1, float("nan")), 4: None}) == {"a": [1, 3], "b": [1, None], "4": None}
    assert json_form(datetime(2026, 1, 2, 3, 4, 5)) == "2026-01-02T03:04:05"


def test_results_events_and_contexts_have_that_form(flowcraft: Flowcraft) -> None:
    result = flowcraft("start", "values", "--id", "v1", "--wait", "--json")
    assert json.loads(result.stdout)["output"] == {"v": FORM}
    assert json.loads(flowcraft("result", "v1", "--result-key", "v", "--json").stdout) == FORM
    shown = json.loads(flowcraft("show", "v1", "--ctx", "--json").stdout)
    assert shown["ctx"]["v"] == shown["output"]["v"] == shown["nodes"]["v"]["output"] == FORM
    assert ISO.fullmatch(shown["created_at"])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["show", "b1", "--attempts", "--json"], RunSnapshot),
        (["show", "v1", "--json"], RunSnapshot),
        (["show", "a1", "--json"], RunSnapshot),
        (["list", "--json"], list[RunSummary]),
    ],
)
def test_records_fit_their_schema(flowcraft: Flowcraft, arguments: list[str], what: Any) -> None:
    for blueprint, run in (("broken", "b1"), ("values", "v1"), ("asks", "a1")):
        flowcraft("start", blueprint, "--id", run, *([] if blueprint == "asks" else ["--wait"]))
    plain = json.loads(flowcraft(*arguments).stdout)
    jsonschema.validate(plain, TypeAdapter(what).json_schema(mode="serialization"))
    for attempt in plain.get("attempts", []) if isinstance(plain, dict) else []:
        jsonschema.validate(attempt, NodeAttempt.model_json_schema(mode="serialization"))
    assert "object at 0x" not in json.dumps(plain)


def test_the_options_stand_before_a_command_or_behind_it(env: TestEnvironment, tmp_path: Path) -> None:
    config = tmp_path / "flowcraft.yaml"
    config.write_text(f"name: {env.namespace}\nredis: {{url: '{env.url}'}}\nblueprints: {{dirs: [b]}}\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.yaml").write_text("nodes: {a: {uses: wait}}\n")
    other = tmp_path / "other.yaml"
    other.write_text("name: nothing\nredis: {url: 'redis://127.0.0.1:1'}\n")
    found = []
    for arguments in (
        ["-c", str(config), "--json", "list"],
        ["list", "-c", str(config), "--json"],
        ["-c", str(other), "list", "--config", str(config), "--json"],
        ["--json", "list", "--url", env.url, "--namespace", env.namespace],
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
        found.append([run["run_id"] for run in json.loads(result.stdout)])
    assert found == [found[0]] * 4
    for arguments in (
        ["--json", "-c", str(config), "dlq", "list"],
        ["dlq", "--json", "list", "-c", str(config)],
        ["dlq", "list", "--json", "-c", str(config)],
    ):
        assert json.loads(CliRunner().invoke(main, arguments).stdout) == []
    for arguments in (
        ["-c", str(config), "--json", "config", "show"],
        ["config", "show", "--config", str(config), "--json"],
        ["-c", str(other), "config", "show", "--json", "-c", str(config)],
    ):
        assert json.loads(CliRunner().invoke(server.main, arguments).stdout)["name"] == env.namespace
    assert json.loads(CliRunner().invoke(server.main, ["--json", "-c", str(config), "check", "--offline"]).stdout) == []


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["show", "nothing", "--json"], "RunNotFoundError", 3),
        (["--json", "start", "nothing"], "BlueprintNotFoundError", 3),
        (["result", "a2", "--timeout", "10ms", "--json"], "WaitTimeoutError", 4),
        (["list", "--limit", "x", "--json"], "BadParameter", 2),
        (["--json", "list", "--nope"], "NoSuchOption", 2),
        (["--json", "nope"], "NoSuchCommand", 2),
        (["start", "values", "-i", "o={bad", "--json"], "UsageError", 2),
    ],
)
def test_errors_are_json_too(flowcraft: Flowcraft, arguments: list[str], kind: str, code: int) -> None:
    flowcraft("start", "asks", "--id", "a2")
    result = flowcraft(*arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    error = json.loads(result.stderr)["error"]
    assert (error["type"], error["exit_code"]) == (kind, code)
    assert error["message"]


def test_a_wait_that_is_over_names_its_run(flowcraft: Flowcraft, monkeypatch: pytest.MonkeyPatch) -> None:
    result = flowcraft("--json", "start", "asks", "--wait", "--timeout", "10ms")
    error = json.loads(result.stderr)["error"]
    assert (result.exit_code, result.stdout) == (4, "")
    assert error["status"] in ("queued", "running", "waiting")
    assert json.loads(flowcraft("status", error["run_id"], "--json").stdout)["run_id"] == error["run_id"]

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowcraft_sdk.Handle.wait", interrupted)
    stopped = flowcraft("start", "asks", "--id", "a3", "--wait", "--json")
    assert json.loads(stopped.stderr)["error"] == {
        "type": "Interrupted",
        "message": "interrupted; the run goes on: flowcraft result a3",
        "exit_code": 130,
        "run_id": "a3",
    }


def test_a_signal_names_the_node_that_got_it(flowcraft: Flowcraft, env: TestEnvironment) -> None:
    for run_id, blueprint, node in (("s1", "asks", "ask"), ("s2", "above", "below/ask")):
        flowcraft("start", blueprint, "--id", run_id)
        env.client.get_handle(run_id).wait_for("waiting", timeout=60)
        env.run_until_idle()
        assert json.loads(flowcraft("signal", run_id, "--json").stdout)["node_id"] == node


def test_errors_of_the_server_are_json_too(tmp_path: Path) -> None:
    (tmp_path / "flowcraft.yaml").write_text("name: x\n")
    result = CliRunner().invoke(server.main, ["health", "--json", "-c", str(tmp_path / "flowcraft.yaml")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(result.stderr)["error"]["type"] == "Unhealthy"


@pytest.mark.parametrize("value", ["{bad", "[1,", '"half', " {x}"])
def test_what_begins_as_json_and_is_none_is_no_text(flowcraft: Flowcraft, value: str) -> None:
    result = flowcraft("start", "values", "-i", f"o={value}")
    assert result.exit_code == 2
    assert "-i o: it begins as JSON does and is none" in result.stderr


def test_strict_makes_warnings_fail(tmp_path: Path) -> None:
    (tmp_path / "flowcraft.yaml").write_text("name: x\nblueprints: {dirs: [b]}\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.yaml").write_text(
        "inputs: {x: any}\nnodes: {a: {uses: wait, inputs: x}}\noutputs: {y: nothing}\n"
    )
    for command, arguments in ((server.main, ["check", "--offline"]), (main, ["blueprint", "check"])):
        config = ["-c", str(tmp_path / "flowcraft.yaml")]
        lax = CliRunner().invoke(command, [*arguments, *config])
        assert lax.exit_code == 0, lax.output
        strict = CliRunner().invoke(command, [*arguments, "--strict", *config])
        assert strict.exit_code == 2
        assert "1 warning" in strict.stderr


def test_check_suggests_outputs_and_counts_no_warning(tmp_path: Path) -> None:
    (tmp_path / "flowcraft.yaml").write_text("name: x\nblueprints: {dirs: [b]}\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.yaml").write_text("inputs: {x: any}\nnodes: {a: {uses: wait}}\n")
    result = CliRunner().invoke(server.main, ["check", "--offline", "--strict", "-c", str(tmp_path / "flowcraft.yaml")])
    assert result.exit_code == 0, result.output
    assert "without `outputs:` a run's result is its whole context, what it was started with too: a" in result.stderr
    assert "warning" not in result.output


def test_show_has_a_row_for_each_attempt_and_the_reason_where_a_failure_stands(flowcraft: Flowcraft) -> None:
    flowcraft("start", "tries", "--id", "t1", "--wait")
    folded = flowcraft("show", "t1").stdout
    assert "its fallback stood in; ValueError: it broke" in folded
    unfolded = [
        line.split() for line in flowcraft("show", "t1", "--attempts").stdout.splitlines() if "ValueError" in line
    ]
    assert [row[:3] for row in unfolded] == [["t", "failed", "2"], ["t", "failed", "1"], ["t", "failed", "2"]]
    followed = flowcraft("start", "tries", "--follow").stderr
    assert "retrying" in followed
    assert followed.count("error ValueError: it broke") == 2
    assert "recovered" in followed
