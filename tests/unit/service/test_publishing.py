"""What is published stays published: Redis is emptied, restored, and served by two deployments at once."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.blueprint_cache import KeptBlueprints
from flowcraft_server.config.load import load_config
from flowcraft_server.service.deployment import Deployment
from flowcraft_server.service.publishing import KeptPublished
from flowcraft_server.store.publish import publish_blueprints, publish_settings
from flowcraft_server.testing import TestEnvironment


def blueprint(name: str, nodes: str = "a") -> Blueprint:
    return Blueprint.from_plain({"id": name, "nodes": [{"id": node, "uses": "x"} for node in nodes], "edges": []})


class Published:
    """A deployment that keeps two blueprints published."""

    def __init__(self, redis: Any, keys: Keys, nodes: str = "a") -> None:
        self.redis, self.keys, self.nodes, self.times = redis, keys, nodes, 0
        self.kept = KeptPublished(redis, Partitions(keys.namespace), self.publish(), self.publish, pause=0.0)

    def publish(self) -> dict[str, str]:
        self.times += 1
        publish_settings(self.redis, Partitions(self.keys.namespace), history=True, max_events=10, cancel_grace_ms=1)
        return publish_blueprints(
            self.redis, Partitions(self.keys.namespace), [blueprint("one", self.nodes), blueprint("two", self.nodes)]
        )


@pytest.fixture
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(workers=0) as env:
        yield env


def names(env: TestEnvironment) -> list[bytes]:
    return list(env.link.redis.scan_iter(match=env.keys.base + "*", count=1000))


def test_an_emptied_redis_gets_everything_again(env: TestEnvironment) -> None:
    deployment = Published(env.link.redis, env.keys)
    before = {name: env.link.redis.type(name) for name in names(env)}
    deployment.kept.health()
    assert deployment.times == 1, "nothing was missing"
    env.link.redis.unlink(*names(env))
    (finding,) = deployment.kept.health()
    assert "blueprints 'one', 'two' were missing in Redis" in finding
    assert {name: env.link.redis.type(name) for name in names(env)} == before
    assert not deployment.kept.health()
    assert deployment.times == 2
    assert env.client.start("one").status() == "queued"


@pytest.mark.parametrize("gone", ["blueprints", "settings", "protocol", "plan"])
def test_each_part_that_is_missing_is_noticed(env: TestEnvironment, gone: str) -> None:
    deployment = Published(env.link.redis, env.keys)
    plan = env.link.redis.hget(env.keys.blueprints, "one").decode()
    key = env.keys.plan(plan) if gone == "plan" else env.keys.base + gone
    env.link.redis.delete(key)
    deployment.kept.health()
    assert deployment.times == 2
    assert env.link.redis.exists(key) == 1


def test_two_deployments_do_not_publish_against_each_other(env: TestEnvironment) -> None:
    first = Published(env.link.redis, env.keys, "a")
    second = Published(env.link.redis, env.keys, "b")
    for _ in range(3):
        first.kept.health()
        second.kept.health()
    assert (first.times, second.times) == (1, 1)


def test_a_worker_that_redis_has_forgotten_is_listed_again(env: TestEnvironment) -> None:
    worker = env.add_worker(replace(env.settings, heartbeat=0.05))
    env.link.redis.delete(env.keys.workers, env.keys.worker(worker.settings.worker_id))
    deadline = time.monotonic() + 10
    while not (found := [info for info in env.client.workers() if info.pid]) and time.monotonic() < deadline:
        worker.wake()
    assert len(found) == 1
    worker.stop()
    env.workers.remove(worker)


def test_kept_blueprints_are_published_whatever_redis_still_has(env: TestEnvironment, tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/kept.yaml").write_text("nodes:\n  a: {uses: sleep, params: {duration: 1ms}}\n")
    (tmp_path / "flowcraft.yaml").write_text(f"name: {env.namespace}\nblueprints: {{dirs: [flows]}}\n")
    found = []
    for emptied in (False, False, True, False):
        if emptied:
            env.link.redis.unlink(*names(env))
        loaded = load_config(tmp_path / "flowcraft.yaml", keep=True)
        assert loaded.settings is not None
        deployment = Deployment(loaded, loaded.settings, env.url)
        found.append(dict(deployment.publish(env.link.redis).hashes))
        plan = found[-1]["kept"]
        assert env.link.redis.hget(env.keys.plan(plan), "doc") is not None
        assert env.link.redis.hget(env.keys.blueprints, "kept") == plan.encode()
        assert isinstance(loaded.blueprints, KeptBlueprints) is (len(found) > 1)
    assert found == [found[0]] * 4
    env.add_worker()
    assert env.client.start("kept").wait(timeout=60).status == "completed"
