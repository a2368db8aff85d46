"""Inputs and records that nothing of ours writes: each ends in a typed error, or is read as if it were not there."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import ConfigurationError, FlowcraftError, RunBrokenError, SerializationError
from flowcraft_server.service.namespace_peers import look_around
from flowcraft_server.testing import TestEnvironment
from tests.hostile.handlers import EndlessDict, EndlessMapping, LyingText, _bomb

Make = Callable[..., TestEnvironment]
LIES = LyingText("x" * 1_000_000)
DEEP = "[" * 100_000
BLUEPRINTS = {
    "one": {"id": "one", "nodes": [{"id": "a", "uses": "do"}], "edges": []},
    "wait": {"id": "wait", "nodes": [{"id": "w", "uses": "wait"}], "edges": []},
}


@pytest.fixture
def env(environment: Make) -> TestEnvironment:
    return environment(handlers={"do": lambda ctx: 1}, blueprints=BLUEPRINTS)


REFUSED: dict[str, tuple[type[Exception], Callable[[Any], Any]]] = {
    "endless-context": (ConfigurationError, lambda client: client.start("one", EndlessMapping())),
    "context-bomb": (SerializationError, lambda client: client.start("one", {"x": _bomb()})),
    "context-value-without-end": (SerializationError, lambda client: client.start("one", {"x": EndlessDict()})),
    "context-key-lies": (ConfigurationError, lambda client: client.start("one", {LIES: 1})),
    "run-id-lies": (ConfigurationError, lambda client: client.start("one", run_id=LIES)),
    "tag-lies": (ConfigurationError, lambda client: client.start("one", tags=[LIES])),
    "endless-tags": (ConfigurationError, lambda client: client.start("one", tags=map(str, itertools.count()))),
    "memo-bomb": (SerializationError, lambda client: client.start("one", memo={"x": _bomb()})),
    "signal-bomb": (SerializationError, lambda client: client.get_handle("w").signal("w", _bomb())),
    "signal-without-end": (SerializationError, lambda client: client.get_handle("w").signal("w", EndlessDict())),
    "signal-id-lies": (ConfigurationError, lambda client: client.get_handle("w").signal("w", 1, signal_id=LIES)),
    "signal-action-lies": (ConfigurationError, lambda client: client.get_handle("w").signal("w", 1, action=LIES)),
    "signal-path-lies": (ConfigurationError, lambda client: client.get_handle("w").signal(LIES, 1)),
    "reason-lies": (ConfigurationError, lambda client: client.get_handle("w").cancel(reason=LIES)),
    "filter-lies": (ConfigurationError, lambda client: list(client.list_runs(tag=LIES))),
    "endless-handles": (
        ConfigurationError,
        lambda client: next(iter(client.as_completed(itertools.repeat(client.get_handle("w")), timeout=1))),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_never_ends_or_lies_is_refused(env: TestEnvironment, case: str) -> None:
    error, call = REFUSED[case]
    with pytest.raises(error) as caught:
        call(env.client)
    assert isinstance(caught.value, FlowcraftError)
    assert len(str(caught.value)) < 500
    assert env.client.count_runs() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pid", "abc"),
        ("pid", "9" * 5000),
        ("concurrency", ""),
        ("queues", b"\xff"),
        ("handlers", "{"),
        ("handlers", DEEP),
    ],
    ids=lambda value: str(value)[:8],
)
def test_what_a_worker_tells_of_itself_is_read_as_far_as_it_can_be(
    env: TestEnvironment, field: str, value: Any
) -> None:
    name = env.workers[0].settings.worker_id
    env.link.redis.hset(env.keys.worker(name), field, value)
    assert [worker.id for worker in env.client.workers()] == [name]
    env.client.admin.examine()
    look_around(env.link.redis, env.keys, "host:file")


@pytest.mark.parametrize("value", [DEEP, "{", '{"plan": 5}', '{"plan": "p", "by": [], "at": 1e400}', b"\xff"])
def test_a_publisher_that_cannot_be_read_is_unknown(env: TestEnvironment, value: Any) -> None:
    env.link.redis.hset(env.keys.publishers, "one", value)
    assert look_around(env.link.redis, env.keys, "host:file").published["one"].by in ("", "[]")
    env.link.redis.delete(env.keys.publishers)


def test_a_blueprint_whose_name_is_no_text_hides_no_other(env: TestEnvironment) -> None:
    env.link.redis.hset(env.keys.blueprints, b"\xff", "plan")
    assert "one" in look_around(env.link.redis, env.keys, "host:file").published
    assert "one" in [blueprint.id for blueprint in env.client.blueprints()]


def test_a_memo_that_nests_without_end_is_a_broken_record(env: TestEnvironment) -> None:
    handle = env.client.start("one", run_id="r")
    handle.result(timeout=60)
    env.link.redis.hset(env.keys.run("r"), "memo", DEEP)
    with pytest.raises(RunBrokenError):
        handle.describe()
    env.link.redis.hdel(env.keys.run("r"), "memo")
