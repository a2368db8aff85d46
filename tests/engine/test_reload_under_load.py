"""Blueprints that are reloaded while runs are under way: each run keeps the plan that it began with, and none fails."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk import Handle
from flowcraft_server.config.load import load_config
from flowcraft_server.service import reloading
from flowcraft_server.service.deployment import Deployment
from flowcraft_server.service.publishing import KeptPublished
from flowcraft_server.service.reloading import Reloader, ReloadReport
from flowcraft_server.service.stopping import StopRequests
from flowcraft_server.testing import TestEnvironment

BLUEPRINTS = 50
VERSIONS = 4
STAMPS = 3


def stamp(ctx: Any) -> list[str]:
    """What the nodes before it have returned, and the version of its own plan."""
    return [*(ctx.input or ()), ctx.params["version"]]


class Deployed:
    """Fifty blueprint files in a folder, published by a server that can reload them."""

    def __init__(self, env: TestEnvironment, folder: Path) -> None:
        self.env = env
        self.flows = folder / "flows"
        self.flows.mkdir()
        (folder / "flowcraft.yaml").write_text(
            f"name: {env.namespace}\nblueprints: {{dirs: [flows]}}\nredis: {{partitions: {env.partitions.count}}}\n"
        )
        self.write("v0")
        loaded = replace(load_config(folder / "flowcraft.yaml", with_handlers=False), handlers=env.handlers)
        assert loaded.settings is not None, loaded.diagnostics
        deployment = Deployment(loaded, loaded.settings, env.url)
        self.redis = deployment.open_redis(StopRequests(), lenient=True)
        published = deployment.publish(self.redis)
        self.kept = KeptPublished(self.redis, deployment.partitions, published.hashes, lambda: None, 0.0, deployment.id)
        self.reloader = Reloader(deployment, self.redis, self.kept, None, StopRequests())

    def write(self, version: str) -> None:
        for number in range(BLUEPRINTS):
            self.write_one(number, version)

    def write_one(self, number: int, version: str) -> None:
        nodes = [
            f"  n{place}: {{uses: stamp, params: {{version: {version}}}{f', needs: [n{place - 1}]' if place else ''}}}"
            for place in range(STAMPS)
        ]
        (self.flows / f"b{number}.yaml").write_text("\n".join(["nodes:", *nodes, f"outputs: {{all: n{STAMPS - 1}}}"]))


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    with TestEnvironment(handlers={"stamp": stamp}) as env:
        yield Deployed(env, tmp_path)


def test_fifty_blueprints_are_reloaded_under_load(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run fails, and none has nodes of two plans; what has not changed is not compiled, what is wrong not published."""
    compiled: list[str] = []
    compile_ = reloading.compile_blueprint
    monkeypatch.setattr(
        reloading,
        "compile_blueprint",
        lambda blueprint, queues: compiled.append(blueprint.id) or compile_(blueprint, queues),
    )
    client, runs, reloaded = deployed.env.client, [], threading.Event()

    def start_runs() -> list[Handle[Any]]:
        number = 0
        while not reloaded.is_set() or number % BLUEPRINTS:
            runs.append(client.start(f"b{number % BLUEPRINTS}"))
            number += 1
            if number % BLUEPRINTS == 0:
                runs[-1].wait(timeout=60)
        return runs

    starter = threading.Thread(target=start_runs)
    starter.start()
    try:
        for version in range(1, VERSIONS):
            deployed.write(f"v{version}")
            (deployed.flows / "b7.yaml").write_text("nodes: [")
            report = deployed.reloader.reload()
            assert len(report.published) == BLUEPRINTS - 1
            assert ["b7.yaml:1:" in mistake for mistake in report.mistakes] == [True]
            assert sorted(compiled) == sorted(f"b{number}" for number in range(BLUEPRINTS) if number != 7)
            compiled.clear()
    finally:
        reloaded.set()
        starter.join(60)
    deployed.write_one(7, "last")
    report = deployed.reloader.reload()
    assert [name.partition("@")[0] for name in report.published] == compiled == ["b7"]
    seen = set()
    for run in runs:
        stamps = run.result(timeout=60)["all"]
        assert len(stamps) == STAMPS
        assert len(set(stamps)) == 1, f"run {run.run_id} of {stamps}"
        seen.add(stamps[0])
    assert len(seen) > 1
    assert client.execute("b7", timeout=60)["all"] == ["last"] * STAMPS
    assert client.execute("b8", timeout=60)["all"] == [f"v{VERSIONS - 1}"] * STAMPS
    assert not deployed.kept.health(), "what was reloaded is what is kept published"


def test_plans_that_were_replaced_go_and_those_that_stay_do_not(deployed: Deployed) -> None:
    keys, redis = deployed.env.partitions.for_run("x"), deployed.env.link.redis
    before = redis.hgetall(keys.blueprints)
    deployed.write_one(3, "other")
    assert len(deployed.reloader.reload().published) == 1
    after = redis.hgetall(keys.blueprints)
    assert {name for name in before if before[name] != after[name]} == {b"b3"}
    assert redis.zrange(f"{keys.base}retired", 0, -1) == [before[b"b3"]]


def test_a_deployment_file_with_mistakes_changes_nothing(deployed: Deployed) -> None:
    file = deployed.flows.parent / "flowcraft.yaml"
    text = file.read_text()
    file.write_text(text + "executor: {workers: many}\n")
    deployed.write_one(3, "other")
    report = deployed.reloader.reload()
    assert not report.published
    assert "flowcraft.yaml:4:21" in report.mistakes[0]
    file.write_text(text + "executor: {workers: 9}\nhistory: {events: 77}\n")
    report = deployed.reloader.reload()
    assert report.restart == ["executor.workers"]
    assert len(report.published) == 1
    assert deployed.redis.hget(deployed.env.keys.settings, "events") == "77"


def test_a_reload_that_failed_is_made_up_for_by_the_next_one(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.write_one(3, "v1")

    def fail(*_args: Any) -> Any:
        raise ValueError("a defect of ours")

    with monkeypatch.context() as patched:
        patched.setattr(reloading, "compile_blueprint", fail)
        with pytest.raises(ValueError, match="a defect of ours"):
            deployed.reloader.reload()
    assert [name.partition("@")[0] for name in deployed.reloader.reload().published] == ["b3"]
    assert ReloadReport(failure="it failed").lines() == ["no blueprint was published", "it failed"]
