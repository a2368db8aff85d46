"""The doctor looks at a run with many nodes in pieces: it finds and mends the same, and takes no change between them for a defect."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk.protocol import scripts
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
WIDTH = 2_500
WIDE = {"id": "wide", "nodes": [{"id": f"n{number}", "uses": "do"} for number in range(WIDTH)], "edges": []}
TIMEOUT = 60.0


@pytest.fixture
def env(environment: Make) -> Iterator[TestEnvironment]:
    made = environment(workers=0, handlers={"do": lambda ctx: 1}, blueprints={"wide": WIDE})
    made.client.start("wide", run_id="r")
    for _ in range(100):  # its nodes become ready in slices
        if not made.link.redis.hexists(made.keys.run("r"), "todo"):
            break
        made.link.call(scripts.sweep(made.keys, limit=100, max_crashes=3, grace_ms=1, queues="default"))
    yield made
    made.client.get_handle("r").cancel(grace=0)
    made.client.admin.examine(fix=True)  # removes the entries of nodes that were mended


def look(env: TestEnvironment, *, fix: bool = False) -> list[tuple[str, str, bool]]:
    return [(defect.kind, defect.subject, defect.fixed) for defect in env.client.admin.examine("r", fix=fix)]


def test_what_is_right_is_found_right_in_pieces(env: TestEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    send = env.client.driver._send
    monkeypatch.setattr(env.client.driver, "_send", lambda step: (used.append(_name(step)), send(step))[1])
    assert look(env) == []
    assert used.count("examine") == 2
    assert used.count("examine_piece") >= WIDTH // 500


def _name(step: Any) -> str:
    return step.script.name if hasattr(step, "script") else ""


@pytest.mark.parametrize("number", [0, 1_200, 2_499])
def test_a_node_in_no_queue_is_found_and_queued(env: TestEnvironment, number: int) -> None:
    env.link.redis.zrem(env.keys.ready("default"), f"r|n{number}")
    assert look(env) == [("ready-not-queued", f"n{number}", False)]
    assert look(env, fix=True) == [("ready-not-queued", f"n{number}", True)]
    assert look(env) == []


def test_a_wrong_counter_is_found_and_counted_again(env: TestEnvironment) -> None:
    env.link.redis.hset(env.keys.run("r"), "live", 7)
    assert look(env) == [("live-count", f"7 for {WIDTH}", False)]
    assert look(env, fix=True) == [("live-count", f"7 for {WIDTH}", True)]
    assert look(env) == []


def test_a_broken_field_is_mended_at_once(env: TestEnvironment) -> None:
    env.link.redis.hset(env.keys.run("r"), "n:n5", "?")
    assert ("field-broken", "n:n5", False) in look(env)
    assert ("field-broken", "n:n5", True) in look(env, fix=True)


def test_a_run_that_goes_on_meanwhile_is_disturbed_by_nothing(env: TestEnvironment) -> None:
    handle = env.client.get_handle("r")
    env.add_worker()
    looks = 0
    while not handle.done():
        assert look(env, fix=True) == []
        looks += 1
    assert looks > 0
    assert handle.result(timeout=TIMEOUT) == {f"n{number}": 1 for number in range(WIDTH)}
