"""Commands that keep a deployment tidy, as their users run them."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowcraft_sdk import Client
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_server.store.embedded import EmbeddedStore, running_url
from flowcraft_server.store.link import StoreLink
from flowcraft_server.testing import TestEnvironment
from tests.acceptance.server_program import FILE, Server, end_all, run_command, write_deployment
from tests.engine.routed_keys import in_one_partition

RULES = "retention: {completed: {age: forever, count: 2}, failed: {age: 1h}}\n"


@pytest.fixture
def external(tmp_path: Path) -> Iterator[str]:
    """A Redis that is not the server's own, with five completed runs of the deployment in it."""
    with EmbeddedStore(tmp_path / "external", durable=False) as store:
        blueprint = {"id": "one", "nodes": [{"id": "a", "uses": "echo"}], "edges": []}
        with TestEnvironment(handlers={"echo": lambda ctx: 1}, blueprints=blueprint, redis_url=store.url) as env:
            for number in range(5):
                env.client.execute("one", run_id=f"r{number}", timeout=60)
            env.clock.advance(100)
            rename(env, "acceptance")
        yield store.url


def rename(env: TestEnvironment, name: str) -> None:
    """Give the environment's keys to a deployment of another name."""
    keys = Keys(name)
    for key in env.link.redis.scan_iter(match=env.keys.base + "*"):
        env.link.redis.copy(key, keys.base + key.decode().removeprefix(env.keys.base))


@in_one_partition
def test_gc_says_what_it_would_do_and_does_it(external: str, tmp_path: Path) -> None:
    folder = write_deployment(tmp_path / "app", FILE + RULES)
    reported = run_command(folder, "gc", "--dry", REDIS_URL=external)
    assert reported.returncode == 0, reported.stderr
    assert reported.stdout.startswith("would remove: 3 completed (with the runs below them); ended runs take about ")
    done = run_command(folder, "gc", REDIS_URL=external)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("removed 3 runs; ended runs take about ")
    again = run_command(folder, "gc", "--dry", REDIS_URL=external)
    assert again.stdout.startswith("would remove: no run is past its age or the count of its class")
    link = StoreLink(external)
    assert link.redis.zrange(Keys("acceptance").index_status("completed"), 0, -1) == [b"r3", b"r4"]
    link.close()


def test_gc_without_a_store(tmp_path: Path) -> None:
    folder = write_deployment(tmp_path / "app")
    reported = run_command(folder, "gc")
    assert reported.returncode == 1
    assert "the embedded store does not run" in reported.stderr
    assert "Traceback" not in reported.stderr


SECRET = "hunter2-hunter2"
FAILING = """
import logging
from loguru import logger

def echo(ctx):
    logger.warning("calling with {}", ctx.params["key"])
    logging.getLogger("mine").warning("calling with %s", ctx.params["key"])
    ctx.progress(0.5, "calling")
    raise ValueError(f"the service refused {ctx.params['key']}")

slow = sleepy = echo
"""


def test_no_secret_is_in_what_a_failing_deployment_says_or_records(tmp_path: Path) -> None:
    file = FILE.replace(
        "  echo: deployed_work:echo\n", "  echo: {path: deployed_work:echo, params: {key: '${file:key}'}}\n"
    )
    llm = "llm: {providers: {main: {type: openai-compatible, model: m, apiKey: '${KEY}'}}}\n"
    folder = write_deployment(tmp_path / "app", file + llm)
    (folder / "key").write_text(SECRET)
    (folder / "deployed_work.py").write_text(FAILING)
    server = Server(folder, "dev", "--log-level", "trace", environ={"KEY": SECRET + "-2"})
    try:
        server.wait_for("serving 'acceptance'")
        url = running_url(folder / ".flowcraft" / "data")
        assert url is not None
        with Client(url, namespace="acceptance") as client:
            ended = client.start("chain", {"x": 1}).wait(20)
            assert ended.failures[0].message == "the service refused ********"
        stored = everything_in(url)
        server.signal(signal.SIGTERM)
        server.ends()
    finally:
        end_all(folder)
    assert "the service refused" in server.printed and "the service refused" in stored
    assert SECRET not in server.printed
    assert SECRET not in stored


def everything_in(url: str) -> str:
    """All values of a store, as text."""
    with redis.Redis.from_url(url) as client:
        found = []
        for key in client.scan_iter():
            kind = client.type(key)
            if kind == b"hash":
                found.append(str(client.hgetall(key)))
            elif kind == b"list":
                found.append(str(client.lrange(key, 0, -1)))
            elif kind == b"zset":
                found.append(str(client.zrange(key, 0, -1)))
            else:
                found.append(str(client.get(key)))
    return "\n".join(found)


def test_no_secret_is_in_what_is_printed_of_a_wrong_file(tmp_path: Path) -> None:
    folder = write_deployment(tmp_path / "app", FILE.replace("workers: 2", "workers: '${file:key}'"))
    (folder / "key").write_text(SECRET)
    for command in (("check", "--offline"), ("config", "show"), ("dev",), ("gc",)):
        reported = run_command(folder, *command)
        assert reported.returncode == 2, command
        assert "executor.workers: expected a whole number" in reported.stdout + reported.stderr
        assert SECRET not in reported.stdout + reported.stderr
        assert "Traceback" not in reported.stderr


def test_a_redis_that_cannot_keep_what_is_wanted_is_refused(external: str, tmp_path: Path) -> None:
    folder = write_deployment(tmp_path / "app", FILE.replace("redis: {", "redis: {durability: fsync, "))
    for command in ("run", "worker", "check"):
        reported = run_command(folder, command, REDIS_URL=external)
        assert reported.returncode == 1
        assert "keeps no append-only file; set appendonly yes" in reported.stderr
        assert "Traceback" not in reported.stderr
