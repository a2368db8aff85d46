"""Commands that keep a deployment tidy, as their users run them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.embedded import EmbeddedStore
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing import TestEnvironment
from tests.acceptance.server_program import FILE, run_command, write_deployment

RULES = "retention: {completed: {age: forever, count: 2}, failed: {age: 1h}}\n"


@pytest.fixture
def external(tmp_path: Path) -> Iterator[str]:
    """A Redis that is not the server's own, with five completed runs of the deployment in it."""
    with EmbeddedStore(tmp_path / "external", durable=False) as store:
        blueprint = {"id": "one", "nodes": [{"id": "a", "uses": "echo"}], "edges": []}
        with TestEnvironment(handlers={"echo": lambda ctx: 1}, blueprints=blueprint, redis_url=store.url) as env:
            for number in range(5):
                env.client.execute("one", run_id=f"r{number}", timeout=10)
            env.clock.advance(100)
            rename(env, "acceptance")
        yield store.url


def rename(env: TestEnvironment, name: str) -> None:
    """Give the environment's keys to a deployment of another name."""
    keys = Keys(name)
    for key in env.link.redis.scan_iter(match=env.keys.base + "*"):
        env.link.redis.copy(key, keys.base + key.decode().removeprefix(env.keys.base))


def test_gc_says_what_it_would_do_and_does_it(external: str, tmp_path: Path) -> None:
    folder = write_deployment(tmp_path / "app", FILE + RULES)
    told = run_command(folder, "gc", "--dry", REDIS_URL=external)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("would remove: 3 completed (with the runs below them); ended runs take about ")
    done = run_command(folder, "gc", REDIS_URL=external)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed 3 runs; ended runs take about ")
    again = run_command(folder, "gc", "--dry", REDIS_URL=external)
    assert again.stdout.startswith("would remove: no run is past its age or the count of its class")
    link = StoreLink(external)
    assert link.redis.zrange(Keys("acceptance").index_all, 0, -1) == [b"r3", b"r4"]
    link.close()


def test_gc_without_a_store(tmp_path: Path) -> None:
    folder = write_deployment(tmp_path / "app")
    told = run_command(folder, "gc")
    assert told.returncode == 1
    assert "the embedded store does not run" in told.stderr
    assert "Traceback" not in told.stderr
