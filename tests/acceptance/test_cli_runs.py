"""`flowcraft rerun`, `rm`, `cancel`, `list` and `events`: one run, and many by filter."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from loguru import logger

from flowcraft_sdk import NodeContext
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment

Flowcraft = Callable[..., Result]
BLUEPRINTS = [
    {
        "id": "pair",
        "nodes": [{"id": "a", "uses": "echo", "inputs": "x"}, {"id": "b", "uses": "check", "inputs": "y"}],
        "edges": [{"source": "a", "target": "b"}],
    },
    {"id": "outer", "nodes": [{"id": "s", "uses": "subflow", "params": {"blueprintId": "inner"}}], "edges": []},
    {"id": "card", "inputs": {"card": "string", "n": "integer"}, "nodes": [{"id": "a", "uses": "echo"}], "edges": []},
    {"id": "inner", "nodes": [{"id": "w", "uses": "wait"}], "edges": []},
]


def check(ctx: NodeContext) -> Any:
    ctx.logger.info("checking \x1b[31m{}", ctx.input)
    if ctx.input is None:
        raise ValueError("no y")
    return ctx.input


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input, "check": check}) as env:
        yield env


@pytest.fixture
def flowcraft(env: TestEnvironment) -> Flowcraft:
    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments], input=stdin)

    return call


def failed(env: TestEnvironment, run_id: str, **options: Any) -> None:
    env.client.start("pair", {"x": 1}, run_id=run_id, **options).wait(10)


def test_a_rerun_of_what_failed(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    failed(env, "r1")
    (new,) = flowcraft("rerun", "r1", "--failed", "--set", "y=5").stdout.split()
    assert env.client.get_handle(new).result(60) == {"x": 1, "y": 5, "a": 1, "b": 5}
    shown = flowcraft("show", new).stdout
    assert "rerun of   r1" in shown and "taken over" in shown
    listed = next(line for line in flowcraft("list", "--blueprint", "pair").stdout.splitlines() if line.startswith(new))
    assert listed.endswith("rerun of r1")
    again = json.loads(flowcraft("rerun", "r1", "--from", "b", "--current", "--id", "r1-b", "--json").stdout)
    assert again == {"run_id": "r1-b", "forked_from": "r1", "attached": False}
    env.client.get_handle("r1-b").wait(10)
    assert flowcraft("rerun", "r1", "--from", "b", "--failed").exit_code == 2
    refused = flowcraft("rerun", "r1", "--from", "c")
    assert refused.exit_code != 0 and "has no node 'c'" in refused.stderr and "Traceback" not in refused.stderr
    assert "give FAILED (`--failed`)" in flowcraft("rerun", "r1", "--from", "failed").stderr
    assert flowcraft("rerun", "nobody").exit_code == 3
    bad = flowcraft("rerun", "r1", "--set", "y")
    assert bad.exit_code == 2 and "--set y: expected key=value" in bad.stderr


def test_many_runs_are_counted_and_asked_for(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    for number in range(3):
        failed(env, f"m{number}", tags=["many"])
    many = ("--tag", "many", "--status", "failed", "--since", "1d")
    assert flowcraft("rerun", *many, "--dry-run").stdout == "3 runs: m2, m1, m0\n"
    assert json.loads(flowcraft("rm", *many, "--dry-run", "--json", "--limit", "2").stdout) == {
        "count": 2,
        "first": ["m2", "m1"],
    }
    refused = flowcraft("rerun", *many, "--failed", stdin="n\n")
    assert refused.exit_code == 1 and "Do again 3 runs?" in refused.stderr
    assert env.client.count_runs(tag="many") == 3
    assert flowcraft("rerun", *many, "--json").exit_code == 2, "it would have to ask"
    done = json.loads(flowcraft("rerun", *many, "--failed", "--yes", "--json").stdout)
    assert [(each["run_id"], each["done"]) for each in done] == [("m2", True), ("m1", True), ("m0", True)]
    for each in done:
        env.client.get_handle(each["new_run_id"]).wait(10)
    removed = flowcraft("rm", *many, stdin="y\n")
    assert removed.exit_code == 0 and "6 of 6 runs removed" in removed.stderr
    assert env.client.count_runs(tag="many") == 0
    assert flowcraft("rm", *many).exit_code == 0, "there is nothing to ask about"
    assert flowcraft("rm").exit_code == flowcraft("cancel").exit_code == flowcraft("rerun").exit_code == 2
    assert flowcraft("rm", "x", "--status", "failed").exit_code == 2
    wrong = flowcraft("rm", "--status", "running", "--yes")
    assert wrong.exit_code == 2 and "can be deleted" in wrong.stderr


def test_one_run_is_removed(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    failed(env, "gone")
    asked = flowcraft("rm", "gone", stdin="n\n")
    assert asked.exit_code == 1 and "Remove run gone (failed)?" in asked.stderr
    assert "Remove" not in (nobody := flowcraft("rm", "nobody", stdin="y\n")).stderr and nobody.exit_code == 3
    env.client.start("pair", {"x": 1}, run_id="later", delay="1h")
    early = flowcraft("rm", "later", stdin="y\n")
    assert early.exit_code == 2 and "Remove" not in early.stderr, "it does not ask first what it then refuses"
    env.client.get_handle("later").cancel()
    assert flowcraft("rm", "gone", "--json").exit_code == 2
    assert flowcraft("rm", "gone", "-y").stdout == "removed\n"
    assert flowcraft("rm", "gone", "-y").stdout == "had been removed before\n"
    assert flowcraft("show", "gone").exit_code == 3


def test_children(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    handle = env.client.start("outer", run_id="out")
    env.run_until_idle()
    assert {line.split()[0] for line in flowcraft("list", "--since", "1d").stdout.splitlines()} >= {"out", "out~1"}
    assert "out~1" not in flowcraft("list", "--top").stdout
    assert flowcraft("list", "--until", "1d").stdout.count("\n") == 1
    assert flowcraft("list", "--since", "yesterday").exit_code == 2
    lines = flowcraft("events", "out").stdout.splitlines()
    assert [line for line in lines if "[out~1]" in line and "waiting" in line]
    entries = [json.loads(line) for line in flowcraft("events", "out", "--json").stdout.splitlines()]
    assert {entry["run_id"] for entry in entries} == {"out", "out~1"}
    assert "2 of 2 runs cancelled" not in flowcraft("cancel", "--blueprint", "outer", "--grace", "0", "--yes").stderr
    assert handle.wait(60).status == "cancelled"
    assert flowcraft("events", "out", "-f", "--timeout", "5s").stdout.splitlines()[-1].endswith("status cancelled")


def test_start_takes_delay_timeout_and_memo(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    words = ("--id", "late", "--delay", "1h", "--run-timeout", "2h", "--memo", "by=Ada", "--tag", "t")
    assert flowcraft("start", "pair", "-i", "x=1", *words).stdout == "late\n"
    snapshot = env.client.get_handle("late").describe()
    assert (snapshot.status, snapshot.memo, snapshot.tags) == ("scheduled", {"by": "Ada"}, ("t",))
    assert snapshot.deadline is not None
    assert 'memo       {"by": "Ada"}' in flowcraft("show", "late").stdout
    assert flowcraft("cancel", "late").stdout == "cancelled\n"


def test_a_text_that_reads_as_a_number_is_explained(flowcraft: Flowcraft) -> None:
    wrong = flowcraft("start", "card", "-i", "card=123", "-i", "n=1")
    assert wrong.exit_code == 2
    assert wrong.stderr.endswith("""card: expected string, got 123; card=123 is no text, -i 'card="123"' is one\n""")
    assert "is one" not in flowcraft("start", "card", "-i", "card=[1]", "-i", "n=1").stderr
    assert flowcraft("start", "card", "-i", 'card="123"', "-i", "n=1").exit_code == 0


def test_logs_prints_what_handlers_have_logged(flowcraft: Flowcraft, env: TestEnvironment) -> None:
    sink = logger.add(lambda _: None)  # other tests leave loguru without a place to write to
    env.client.start("pair", {"x": 1, "y": 2}, run_id="logs-1").wait(10)
    logger.remove(sink)
    printed = flowcraft("logs", "logs-1").stdout
    assert printed.split(maxsplit=1)[1] == "b                        info     checking \\x1b[31m2\n"
    assert flowcraft("logs", "logs-1", "-f", "--node", "b").stdout == printed
    assert flowcraft("logs", "logs-1", "--node", "a").stdout == ""
    (line,) = map(json.loads, flowcraft("logs", "logs-1", "--json").stdout.splitlines())
    assert (line["run_id"], line["node_id"], line["level"]) == ("logs-1", "b", "info")
    assert flowcraft("logs", "nope").exit_code == 3
    assert flowcraft("logs", "logs-1", "--timeout", "1s").exit_code == 2


def test_a_list_of_the_runs_of_an_unknown_blueprint_says_that_it_is_unknown(flowcraft: Flowcraft) -> None:
    found = flowcraft("list", "--blueprint", "piar")
    assert found.exit_code == 0
    assert found.stderr == "no blueprint 'piar' is published; did you mean 'pair'?\n"
    assert json.loads(flowcraft("list", "--blueprint", "piar", "--json").stdout) == []
    assert flowcraft("list", "--blueprint", "outer").stderr == ""
