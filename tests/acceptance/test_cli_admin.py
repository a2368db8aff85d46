"""`flowcraft dlq` and `flowcraft doctor`, against the real engine."""

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.cli.client import main
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.handlers import as_runnable

Flowcraft = Callable[..., Result]
BLUEPRINT = {"id": "one", "nodes": [{"id": "a", "uses": "echo", "inputs": "x"}], "edges": []}


@pytest.fixture
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(workers=0, blueprints=BLUEPRINT, handlers={"echo": lambda ctx: ctx.input}) as env:
        yield env


@pytest.fixture
def flowcraft(env: TestEnvironment) -> Flowcraft:
    def call(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(main, ["--url", env.url, "--namespace", env.namespace, *arguments], input=stdin)

    return call


def killer(env: TestEnvironment, run_id: str) -> None:
    """A run whose node kills its worker."""
    env.client.start("one", {"x": 1}, run_id=run_id)
    keys = env.partitions.for_run(run_id)
    assert env.link.call(scripts.claim(keys, ClaimRequest("w", 10_000, "default")))
    env.clock.advance(11, keep_leases=False)
    env.link.call(scripts.sweep(keys, limit=9, max_crashes=1, grace_ms=1, queues="default", alone=["w"]))


def test_letters_are_listed_replayed_and_dropped(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    assert json.loads(flowcraft("dlq", "list", "--json").stdout) == []
    for number in range(3):
        killer(env, f"r{number}")
    listed = flowcraft("dlq", "list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == ["r2", "r1", "r0"]
    assert "the worker died or stalled 1 times" in listed.stdout
    (letter, *_) = json.loads(flowcraft("dlq", "list", "--json", "--limit", "1").stdout)
    assert (letter["run_id"], letter["node_id"], letter["status"], letter["crashes"]) == ("r2", "a", "failed", 1)

    assert flowcraft("dlq", "replay", "r2").stdout == "r2~replay\n"
    assert flowcraft("dlq", "replay", "r2").exit_code == 3
    assert json.loads(flowcraft("dlq", "replay", "r1", "--json").stdout) == {"run_id": "r1~replay", "attached": False}
    env.add_worker()
    assert env.client.get_handle("r2~replay").result(60) == {"x": 1, "a": 1}


def test_dropping_asks(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    for number in range(3):
        killer(env, f"r{number}")
    refused = flowcraft("dlq", "drop", "r0", stdin="n\n")
    assert refused.exit_code == 1 and "Drop the dead letters of run r0?" in refused.stderr
    assert flowcraft("dlq", "drop", "r0", stdin="y\n").stdout.endswith("dropped 1 dead letters\n")
    assert flowcraft("dlq", "drop", "r0", "--yes").exit_code == 3
    assert flowcraft("dlq", "drop").exit_code == 2
    assert flowcraft("dlq", "drop", "r1", "--all").exit_code == 2
    asked = flowcraft("dlq", "drop", "r1", "--json")
    assert asked.exit_code == 2 and "--yes" in json.loads(asked.stderr)["error"]["message"]
    everything = flowcraft("dlq", "drop", "--all", stdin="y\n")
    assert "Drop the dead letters of 2 runs?" in everything.stderr
    assert everything.stdout.endswith("dropped 2 dead letters\n")
    assert env.client.admin.dead_letters() == []


def test_the_doctor(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    healthy = flowcraft("doctor")
    assert (healthy.exit_code, healthy.stdout) == (0, "nothing hangs, nothing is left over\n")
    env.client.start("one", {"x": 1}, run_id="r")
    keys = env.partitions.for_run("r")
    env.link.redis.delete(keys.ready("default"))
    env.link.redis.zadd(keys.leases, {"gone|a": 1})
    found = flowcraft("doctor")
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "run r: node 'a' is ready, but in no queue: no worker finds it; --fix queues it  [ready-not-queued]",
        "the entry gone|a in leases stands for nothing that is there; --fix removes the entry  [entry-without-subject]",
    ]
    assert found.stderr == "no worker was seen lately: what is ready waits for one\n2 found, 0 repaired\n"
    one = json.loads(flowcraft("doctor", "r", "--json").stdout)
    assert [(defect["kind"], defect["subject"], defect["fixed"]) for defect in one] == [
        ("ready-not-queued", "a", False)
    ]
    fixed = flowcraft("doctor", "--fix")
    assert fixed.exit_code == 0 and "repaired (queues it)" in fixed.stdout
    assert flowcraft("doctor").exit_code == 0
    assert flowcraft("doctor", "never").exit_code == 3
    env.add_worker()
    assert env.client.get_handle("r").result(60) == {"x": 1, "a": 1}


def test_queues_are_listed_paused_and_resumed(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    env.client.start("one", {"x": 1}, run_id="r")
    assert flowcraft("queue", "pause", "default").stdout == "paused default: 1 ready, 0 workers\n"
    head, row = flowcraft("queue", "list").stdout.splitlines()
    assert head.split() == ["queue", "ready", "oldest", "workers"]
    assert row.split()[:2] == ["default", "1"] and "paused since" in row
    (listed,) = json.loads(flowcraft("queue", "list", "--json").stdout)
    assert (listed["name"], listed["ready"]) == ("default", 1) and listed["paused_since"].endswith("Z")
    assert "waits: queue 'default' is paused" in flowcraft("show", "r").stdout
    doctor = flowcraft("doctor")
    assert doctor.exit_code == 1 and "`flowcraft queue resume` ends that" in doctor.stdout
    assert json.loads(flowcraft("queue", "resume", "default", "--json").stdout)["paused_since"] is None
    assert flowcraft("queue", "pause", "a b").exit_code == 2
    env.add_worker()
    misspelt = flowcraft("queue", "pause", "defualt")
    assert misspelt.exit_code == 0 and misspelt.stdout == "paused defualt: 0 ready, 0 workers\n"
    expected = "no worker serves queue 'defualt' now, and nothing waits in it; queues with workers: default\n"
    assert misspelt.stderr == expected
    assert flowcraft("queue", "resume", "defualt").stderr == ""
    assert env.client.get_handle("r").result(timeout=60) == {"x": 1, "a": 1}


def test_a_message_is_sent_and_workers_are_listed(env: TestEnvironment, flowcraft: Flowcraft) -> None:
    env.handlers["echo"] = as_runnable("echo", lambda ctx: ctx.receive(timeout=20))
    env.client.start("one", {"x": 1}, run_id="r1")
    assert flowcraft("send", "r1", "a", "-i", "n=7", "--id", "m").stdout == "a\n"
    assert json.loads(flowcraft("send", "r1", "a", "--id", "m", "--json").stdout) == {"run_id": "r1", "node_id": "a"}
    refused = flowcraft("send", "r1", "b")
    assert "run r1 has no node 'b'" in refused.stderr
    worker = env.add_worker().settings.worker_id
    assert env.client.get_handle("r1").result(timeout=30)["a"] == {"n": 7}
    assert worker in flowcraft("worker", "list").stdout
    assert [each["id"] for each in json.loads(flowcraft("worker", "list", "--json").stdout)] == [worker]
    alone = flowcraft("worker", "drain", worker)
    assert alone.exit_code != 0
    assert "no server process of" in alone.stderr
