"""The clock of Redis is set back: by NTP, in a machine that was moved or resumed, or by a failover. Runs go on."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import RunStatus
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
GRAPH = """
nodes:
  first: {uses: work}
  pause: {uses: sleep, needs: first, params: {duration: 10s}}
  again: {uses: loop-controller, params: {condition: "(n ?? 0) < 3"}, needs: pause}
  body: {uses: count, next: again}
  flaky: {uses: flaky, config: {maxRetries: 2}}
  left: {uses: work, needs: flaky}
  right: {uses: boom, needs: flaky, config: {fallback: rescue}}
  rescue: {uses: work}
  joined: {uses: work, needs: {all: [left, right]}}
  each: {uses: map, inputs: list, params: {uses: work}}
  child: {call: small, needs: joined}
edges:
  - again -[continue]-> body
  - again -[break]-> end
  - joined -> end
  - each -> end
  - child -> end
"""


def set_back(env: TestEnvironment, ms: int) -> None:
    for keys in env.partitions.all:
        env.link.redis.incrby(keys.clock, -ms)


@pytest.mark.parametrize("ms", [300, 5_000, 3_600_000, 86_400_000 * 400])
def test_runs_go_on(environment: Make, ms: int) -> None:
    graph = GRAPH.replace("edges:", "  end: {uses: work}\nedges:", 1)

    def count(ctx: Any) -> int:
        ctx.context.set("n", ctx.context.get("n", 0) + 1)
        set_back(env, ms)
        return 1

    def flaky(ctx: Any) -> int:
        set_back(env, ms)
        if ctx.attempt == 1:
            raise ValueError("once")
        return 1

    def work(ctx: Any) -> int:
        set_back(env, 1 + ms // 7)
        return 1

    handlers = {"work": work, "count": count, "flaky": flaky, "boom": lambda ctx: 1 / 0}
    env = environment(
        blueprints={"g": graph, "small": "nodes: {a: {uses: work}, b: {uses: work, needs: a}}"}, handlers=handlers
    )
    env.clock.advance(1)
    run = env.client.start("g", {"list": [1, 2, 3]})
    for _ in range(50):
        if run.status().is_terminal:
            break
        env.run_until_idle()
        if run.status() is RunStatus.WAITING:
            env.clock.advance_to_next_timer()
    snapshot = run.wait(timeout=60)
    assert snapshot.status == RunStatus.COMPLETED, snapshot.failures
    for node in run.describe().nodes.values():
        if node.started_at is not None and node.ended_at is not None:
            assert node.started_at <= node.ended_at
        assert node.waited >= 0
    assert run.attempts() and list(run.events(follow=False))
    assert env.client.admin.examine() == []
