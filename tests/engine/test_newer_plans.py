"""A plan of a newer release, which this one may run wrongly, is left to workers that know it."""

import threading

from flowcraft_server.blueprints.compiling.compiler import PLAN_FORMAT
from flowcraft_server.testing import TestEnvironment


def test_a_worker_leaves_a_plan_of_a_newer_release_alone() -> None:
    flow = {"new": "nodes: {a: {uses: echo, inputs: x}, b: {uses: echo, inputs: a, needs: [a]}}\n"}
    with TestEnvironment(blueprints=flow, handlers={"echo": lambda ctx: ctx.input}) as env:
        (plan,) = env.link.redis.hvals(env.keys.blueprints)
        places = [keys.plan(plan.decode()) for keys in env.partitions.all]
        assert env.link.redis.hget(places[0], "format") == str(PLAN_FORMAT).encode()
        for place in places:
            env.link.redis.hset(place, "format", PLAN_FORMAT + 1)
        run = env.client.start("new", {"x": 1})
        ticks = threading.Event()
        for _ in range(4):  # more often than a worker may crash with it
            handed_back = len([event for event in run.events(follow=False) if event.type == "node_handed_back"])
            while len([event for event in run.events(follow=False) if event.type == "node_handed_back"]) == handed_back:
                env.clock.advance(3)
                ticks.wait(0.01)
        assert not run.done()
        for place in places:
            env.link.redis.hset(place, "format", PLAN_FORMAT)
        env.clock.advance(3)
        assert run.result(timeout=30)["b"] == 1
        assert run.describe().nodes["a"].crashes == 0
