"""Wide graphs: joins of more edges than one string holds, and steps that take more than one call."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeResult, RunStatus
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
SEAT = ClaimRequest("w1", 10_000, "default")


def fan(width: int, join: dict[str, Any] | None = None, edge: dict[str, Any] | None = None) -> dict[str, Any]:
    """One node, `width` successors `w<i>` that give their number, one join `j`."""
    names = [f"w{i}" for i in range(width)]
    return {
        "id": "fan",
        "nodes": [
            {"id": "s", "uses": "route"},
            *({"id": name, "uses": "number", "params": {"n": i}} for i, name in enumerate(names)),
            {"id": "j", "uses": "echo", **(join or {})},
        ],
        "edges": [
            *({"source": "s", "target": name, "action": "odd" if i % 2 else "even"} for i, name in enumerate(names)),
            *({"source": name, "target": "j", **(edge or {})} for name in names),
        ],
        "onFailure": "continue",
    }


def plain(graph: dict[str, Any]) -> dict[str, Any]:
    """The same without actions: all edges are taken."""
    return {**graph, "edges": [{k: v for k, v in edge.items() if k != "action"} for edge in graph["edges"]]}


def number(ctx: Any) -> int:
    n: int = ctx.params["n"]
    if n == ctx.context.get("bad"):
        raise ValueError("bad")
    return n


def route(ctx: Any) -> NodeResult:
    return NodeResult(None, ctx.context.get("way"))


HANDLERS: dict[str, Callable[..., Any]] = {"number": number, "route": route, "echo": lambda ctx: ctx.input}


@pytest.fixture
def run(environment: Make) -> Callable[..., Any]:
    """Runs a graph to its end, its calls short enough that each step takes several of them."""

    def start(graph: dict[str, Any], ctx: dict[str, Any] | None = None, steps: int = 7) -> Any:
        env = environment(handlers=HANDLERS, blueprints={graph["id"]: graph})
        env.link.redis.hset(env.keys.settings, "steps", steps)
        handle = env.client.start(graph["id"], ctx or {}, run_id="r")
        handle.wait(timeout=30)
        return handle

    return start


@pytest.mark.parametrize("width", [64, 65, 128, 129, 250])
@pytest.mark.parametrize("steps", [5, 500])
def test_a_join_takes_what_its_last_edge_brings(run: Any, width: int, steps: int) -> None:
    found = run(plain(fan(width)), steps=steps).describe(ctx=True, outputs=True)
    assert found.status is RunStatus.COMPLETED
    assert found.nodes["j"].output == width - 1
    assert found.ctx["_inputs.j"] == width - 1
    assert all(node.status == "completed" for node in found.nodes.values())


@pytest.mark.parametrize(("way", "last"), [("odd", 129), ("even", 128)])
def test_edges_that_are_not_taken(run: Any, way: str, last: int) -> None:
    found = run(fan(130), {"way": way}).describe(ctx=True, outputs=True)
    assert found.status is RunStatus.COMPLETED
    assert sum(node.status == "skipped" for node in found.nodes.values()) == 65
    assert found.nodes["j"].output == last


def test_an_any_join_fires_once(run: Any) -> None:
    found = run(plain(fan(130, {"config": {"joinStrategy": "any"}}))).describe(outputs=True)
    assert (found.status, found.nodes["j"].attempts) == (RunStatus.COMPLETED, 1)


def test_a_failed_edge_skips_an_all_join(run: Any) -> None:
    found = run(plain(fan(130)), {"bad": 77}).describe()
    assert (found.status, found.nodes["j"].status) == (RunStatus.FAILED, "skipped")


def test_declared_inputs_give_way_to_the_last_transform_alone(run: Any) -> None:
    graph = plain(fan(130, {"inputs": {"first": "w0"}}))
    assert run(graph).describe(outputs=True).nodes["j"].output == {"first": 0}


def test_the_last_transform_counts_where_inputs_are_declared(run: Any) -> None:
    graph = plain(fan(130, {"inputs": {"first": "w0"}}))
    for edge in graph["edges"]:
        if edge["source"] in ("w3", "w90"):
            edge["transform"] = "input + 1000"
    assert run(graph).describe(outputs=True).nodes["j"].output == 1090


def test_a_wide_join_inside_of_a_loop_starts_over(run: Any) -> None:
    names = [f"w{i}" for i in range(100)]
    graph = {
        "id": "loop",
        "nodes": [
            {"id": "h", "uses": "count"},
            *({"id": name, "uses": "echo"} for name in names),
            {"id": "j", "uses": "round"},
            {"id": "end", "uses": "echo"},
        ],
        "edges": [
            *({"source": "h", "target": name} for name in names),
            *({"source": name, "target": "j"} for name in names),
            {"source": "j", "target": "h", "action": "again"},
            {"source": "j", "target": "end", "action": "done"},
        ],
    }
    rounds = []

    def again(ctx: Any) -> NodeResult:
        rounds.append(ctx.input)
        return NodeResult(len(rounds), "done" if len(rounds) == 3 else "again")

    HANDLERS.update({"count": lambda ctx: len(rounds), "round": again})
    found = run(graph).describe(outputs=True)
    assert (found.status, found.nodes["end"].output, rounds) == (RunStatus.COMPLETED, 3, [0, 1, 2])


def test_a_thousand_edges_and_names(run: Any) -> None:
    """More fields than Lua's stack takes, and more edges than one piece of a plan holds."""
    names = {f"v{i}": f"w{i}" for i in range(1_000)}
    found = run(plain(fan(1_250, {"inputs": names})), steps=150).describe(outputs=True)
    assert found.nodes["j"].output == {f"v{i}": i for i in range(1_000)}


def test_many_nodes_that_a_run_begins_with(run: Any) -> None:
    graph = plain(fan(250))
    graph["nodes"] = [node for node in graph["nodes"] if node["id"] != "s"]
    graph["edges"] = [edge for edge in graph["edges"] if edge["source"] != "s"]
    for steps in (5, 500):
        assert run(graph, steps=steps).describe(outputs=True).nodes["j"].output == 249


class TestWithoutWorkers:
    """The test is the worker, and sweeps when it wants to."""

    @pytest.fixture
    def env(self, environment: Make) -> TestEnvironment:
        env = environment(workers=0, handlers=HANDLERS, blueprints={"fan": plain(fan(130))})
        env.link.redis.hset(env.keys.settings, "steps", 5)
        return env

    def sweep(self, env: TestEnvironment) -> list[int]:
        call = scripts.sweep(env.keys, limit=100, max_crashes=3, grace_ms=60_000, queues="default")
        reply: list[int] = env.link.call(call)
        return reply

    def claim(self, env: TestEnvironment, count: int = 1) -> list[Any]:
        return list(env.link.call(scripts.claim(env.keys, SEAT, count)))

    def complete_first(self, env: TestEnvironment) -> None:
        (claim,) = self.claim(env)
        call = scripts.complete(
            env.keys, ClaimRequest("w1", 10_000, "default", "-"), run_id="r", instance_id="s", fencing_token=1, plan=claim[2].decode(),
            state="C", action="", decisions="t" * 130, output=b"1",
        )  # fmt: skip
        assert env.link.call(call)[:2] == [b"ok", b"running"]

    def test_what_a_call_puts_off_is_done_by_sweeps(self, env: TestEnvironment) -> None:
        env.client.start("fan", {}, run_id="r")
        self.complete_first(env)
        ready = env.link.redis.zcard(env.keys.ready("default"))
        assert 0 < ready < 130
        assert env.client.admin.examine() == [], "it is on its way"
        assert self.sweep(env)[1] == 0, "the next sweep is due at once"
        for _ in range(200):
            if not self.sweep(env)[0]:
                break
        assert env.link.redis.zcard(env.keys.ready("default")) == 130
        assert env.link.redis.hget(env.keys.run("r"), "todo") is None
        env.client.get_handle("r").cancel(grace=0)
        while self.sweep(env)[0]:
            pass

    def test_the_doctor_gives_it_back_its_timer(self, env: TestEnvironment) -> None:
        env.client.start("fan", {}, run_id="r")
        self.complete_first(env)
        env.link.redis.zrem(env.keys.timers, "c|r|")
        assert [defect.kind for defect in env.client.admin.examine(fix=True)] == ["timer-missing"]
        assert self.sweep(env)[0] == 1
        env.client.get_handle("r").cancel(grace=0)
        while self.sweep(env)[0]:
            pass

    @pytest.mark.parametrize("grace", [0, 3600])
    def test_a_cancelled_run_has_nothing_left(self, env: TestEnvironment, grace: int) -> None:
        env.client.start("fan", {}, run_id="r")
        self.complete_first(env)
        for _ in range(5):
            self.sweep(env)
        held = len(self.claim(env, 3))
        assert held == 3
        run = env.client.get_handle("r")
        assert run.cancel(grace=grace)
        for _ in range(500):
            if not self.sweep(env)[0]:
                break
        if grace:
            assert run.status() is RunStatus.CANCELLING, "three nodes have time to finish"
            assert run.cancel(grace=0) is True
            env.clock.advance(3601)
            while self.sweep(env)[0]:
                pass
        assert run.status() is RunStatus.CANCELLED
        states = {node.status for node in run.describe().nodes.values()}
        assert states <= {"completed", "cancelled", "pending"}
        assert env.link.redis.zcard(env.keys.ready("default")) == 0
        assert env.link.redis.zcard(env.keys.leases) == 0
        assert env.link.redis.zcard(env.keys.timers) == 0

    def test_no_call_takes_more_steps_than_it_may(self, env: TestEnvironment) -> None:
        """What a call does is counted by what it writes, as a time would depend on the machine."""
        env.link.redis.hset(env.keys.settings, "steps", 20)
        env.client.start("fan", {}, run_id="r")
        self.complete_first(env)
        before = env.link.redis.zcard(env.keys.ready("default"))
        while self.sweep(env)[0]:
            after = env.link.redis.zcard(env.keys.ready("default"))
            assert after - before <= 20
            before = after
        env.client.get_handle("r").cancel(grace=0)
        while self.sweep(env)[0]:
            pass
