"""`flowcraft schedule`, against the real engine."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment

Flowcraft = Callable[..., Result]
BLUEPRINT = {"id": "one", "nodes": [{"id": "w", "uses": "wait"}], "edges": []}
SCHEDULES = {
    "nightly": {"blueprint": "one", "cron": "30 2 * * *", "timezone": "Asia/Kolkata", "tags": ["t"], "jitter": 5},
    "often": {"blueprint": "one", "every": 3600, "overlap": "queue"},
}


@pytest.fixture
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(blueprints=BLUEPRINT, schedules=SCHEDULES) as env:
        env.run_until_idle()
        yield env


@pytest.fixture
def flowcraft(env: TestEnvironment) -> Flowcraft:
    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments], input=stdin)

    return call


def to_next(env: TestEnvironment, name: str) -> None:
    tick = env.client.schedules.get(name).next_times[0]
    env.clock.advance(tick - env.clock.now() + timedelta(seconds=6))
    env.run_until_idle()


def test_what_is_listed_and_shown(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    nightly, often = flowcraft("schedule", "list").stdout.splitlines()[1:]
    assert "30 2 * * * Asia/Kolkata" in nightly
    assert "02:30:00 IST" in nightly
    assert nightly.split()[0] == "nightly"
    assert "every 1h" in often
    shown = flowcraft("schedule", "show", "nightly").stdout
    assert shown.count(" 02:30:00 IST") == 5
    for line in (
        "when       30 2 * * * Asia/Kolkata",
        "tags       t",
        "jitter     5 s",
        "so far     0 runs started, 0 ticks left out",
    ):
        assert line in shown
    (info, _) = json.loads(flowcraft("schedule", "list", "--json").stdout)
    assert len(info["next_times"]) == 5
    assert json.loads(flowcraft("schedule", "show", "nightly", "--json").stdout) == info


def test_what_waits_is_left_out_or_fails_is_said(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    for _ in range(3):
        to_next(env, "often")
    listed = flowcraft("schedule", "list").stdout
    assert "the tick of " in listed
    shown = flowcraft("schedule", "show", "often").stdout
    assert "waits      " in shown
    assert "left out   " in shown
    assert ": an earlier tick was waiting" in shown
    for run in env.client.list_runs(tag="t"):  # at some times of day a tick of nightly was among those hours
        env.client.get_handle(run.run_id).cancel()
    env.run_until_idle()
    env.publish({**BLUEPRINT, "inputs": {"city\x1b[31m": "string"}})
    to_next(env, "nightly")
    failed = flowcraft("schedule", "list").stdout
    assert "the context does not fit blueprint 'one': city" in failed
    assert "\x1b" not in failed
    assert "error      " in flowcraft("schedule", "show", "nightly").stdout


def test_pausing_triggering_and_deleting(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    assert flowcraft("schedule", "pause", "often").stdout == "often is paused\n"
    assert flowcraft("schedule", "list").stdout.splitlines()[2].split()[4] == "paused"
    run_id = json.loads(flowcraft("schedule", "trigger", "often", "--json").stdout)["run_id"]
    assert run_id.startswith("often~0t")
    assert flowcraft("status", run_id).exit_code == 0
    assert f"triggered  {run_id}" in flowcraft("schedule", "show", "often").stdout
    resumed = json.loads(flowcraft("--json", "schedule", "resume", "often").stdout)
    assert resumed == {"schedule_id": "often", "paused": False}

    refused = flowcraft("schedule", "delete", "often", stdin="n\n")
    assert refused.exit_code == 1
    assert "Remove schedule often of test:" in refused.stderr
    assert flowcraft("schedule", "delete", "often", "--json").exit_code == 2
    removed = flowcraft("schedule", "delete", "often", "--yes")
    assert removed.stdout == "removed schedule often\n"
    assert (
        removed.stderr.startswith("if test:") and "still has it, it is there again at the next start" in removed.stderr
    )
    for command in ("show", "pause", "resume", "trigger", "delete"):
        missing = flowcraft("schedule", command, "often")
        assert missing.exit_code == 3
        assert missing.stderr == "no schedule 'often' is published\n"
