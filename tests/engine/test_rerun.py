"""Doing an ended run again: what is taken over, and what runs."""

import asyncio
import inspect
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from flowcraft_sdk import (
    FAILED,
    AsyncClient,
    BlueprintNotFoundError,
    Client,
    ConfigurationError,
    DynamicNode,
    InvalidInputError,
    NodeContext,
    NodeResult,
    RerunRefusedError,
    RunConflictError,
    RunNotFoundError,
    RunStateError,
    RunStatus,
)
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.invariants import broken_invariants
from tests.blocking_client import BOTH, BlockingClient
from tests.engine.leaks import leaked_keys

TIMEOUT = 20.0
calls: Counter[str] = Counter()
broken: set[str] = set()
"""Nodes (or `node[item]`) that fail."""


def name_of(ctx: NodeContext) -> str:
    return ctx.node_id if ctx.item is None else f"{ctx.node_id}[{ctx.item}]"


opened: list[TestEnvironment] = []
BESIDE = {"diamond/D": "C", "adds/two": "one"}
"""Nodes that fail only once another one has completed."""


def step(ctx: NodeContext) -> Any:
    calls[name_of(ctx)] += 1
    if name_of(ctx) in broken:
        beside = BESIDE.get(f"{ctx.blueprint_id}/{ctx.node_id}")
        if opened and beside is not None:  # or that might be cancelled
            events = opened[0].client.get_handle(ctx.run_id).events(timeout=TIMEOUT)
            next(event for event in events if (event.type, event.node_id) == ("node_completed", beside))
        raise ValueError("broken")
    return f"{ctx.node_id}({ctx.input})" if ctx.item is None else ctx.input * 10


def count(ctx: NodeContext) -> int:
    """Counts in the context how often it has run; fails in the round that `broken` names."""
    calls[ctx.node_id] += 1
    if f"{ctx.node_id}#{ctx.iteration}" in broken:
        raise ValueError("broken")
    number = ctx.context.get("n", 0) + 1
    ctx.context.set("n", number)
    return number


def init(ctx: NodeContext) -> int:
    calls[ctx.node_id] += 1
    ctx.context.set("n", 0)
    return 0


def adds(ctx: NodeContext) -> NodeResult:
    calls[ctx.node_id] += 1
    return NodeResult("added", dynamic_nodes=[DynamicNode("one", "step"), DynamicNode("two", "step")])


def listed(ctx: NodeContext) -> list[int]:
    calls[ctx.node_id] += 1
    return list(range(ctx.params["count"]))


HANDLERS = {each.__name__: each for each in (step, count, init, adds, listed)}


def graph(name: str, *nodes: Any, edges: tuple[Any, ...], **more: Any) -> dict[str, Any]:
    """A blueprint; nodes are ids of steps, or whole nodes; edges `a-b`, or whole edges."""
    made = [{"id": node, "uses": "step"} if isinstance(node, str) else node for node in nodes]
    links = [dict(zip(("source", "target"), e.split("-"), strict=True)) if isinstance(e, str) else e for e in edges]
    return {"id": name, "nodes": made, "edges": links, **more}


DIAMOND = graph("diamond", *"ABCDE", edges=("A-B", "B-C", "B-D", "C-E", "D-E"))
JOINED = "E(D(B(A(None))))"


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(handlers=HANDLERS, workers=2) as made:
        opened.append(made)
        yield made
        opened.clear()
        assert not leaked_keys(made)
        assert not broken_invariants(made)


@pytest.fixture(autouse=True)
def fresh() -> None:
    calls.clear()
    broken.clear()


def ended(env: TestEnvironment, blueprint: dict[str, Any], ctx: Any = None, **options: Any) -> Any:
    """The handle of an ended run of a blueprint."""
    env.publish([blueprint])
    handle = env.client.start(blueprint["id"], ctx, **options)
    handle.wait(TIMEOUT)
    return handle


def failed(env: TestEnvironment, blueprint: dict[str, Any], *names: str, ctx: Any = None, **options: Any) -> Any:
    """The handle of a run that has failed at these nodes; they are mended, and no call counts yet."""
    broken.update(names)
    handle = ended(env, blueprint, ctx, **options)
    assert handle.status() is RunStatus.FAILED
    broken.clear()
    calls.clear()
    return handle


def kept(env: TestEnvironment, handle: Any) -> Any:
    """All that Redis has of a run."""
    keys = env.partitions.for_run(handle.run_id)
    redis = env.link.redis
    return redis.hgetall(keys.run(handle.run_id)), redis.lrange(keys.events(handle.run_id), 0, -1)


class TestScenario:
    """A -> B -> {C, D} -> E, and D fails."""

    def test_what_failed_runs_again_and_nothing_else(self, env: TestEnvironment) -> None:
        old = failed(env, DIAMOND, "D", tags=["x"], memo={"m": 1})
        before = kept(env, old)
        new = old.rerun(FAILED)
        assert new.result(TIMEOUT)["E"] == JOINED
        assert calls == Counter("DE")
        assert kept(env, old) == before
        snapshot = new.describe()
        assert (snapshot.forked_from, snapshot.tags, snapshot.memo) == (old.run_id, ("x",), {"m": 1})
        assert {node for node, about in snapshot.nodes.items() if about.taken_over} == set("ABC")
        assert snapshot.nodes["A"].started_at is None and snapshot.nodes["A"].attempts == 0
        assert snapshot.nodes["D"].attempts == 1
        listed_run = next(iter(env.client.list_runs(blueprint_id="diamond", limit=1)))
        assert (listed_run.run_id, listed_run.forked_from) == (new.run_id, old.run_id)

    def test_async(self, env: TestEnvironment) -> None:
        old = failed(env, DIAMOND, "D")

        async def main() -> None:
            async with AsyncClient(env.url, namespace=env.namespace) as client:
                handle = client.get_handle(old.run_id)
                new = await handle.rerun(FAILED)
                assert (await new.result(TIMEOUT))["E"] == JOINED
                assert calls == Counter("DE")
                assert (await new.describe()).forked_from == old.run_id
                assert await handle.delete() is True
                assert await handle.delete() is False

        asyncio.run(main())

    def test_from_a_node(self, env: TestEnvironment) -> None:
        old = ended(env, DIAMOND)
        calls.clear()
        assert old.rerun("C").result(TIMEOUT)["E"] == JOINED
        assert calls == Counter("CE")
        calls.clear()
        assert old.rerun(["C", "D"]).wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter("CDE")
        calls.clear()
        assert old.rerun().wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter("ABCDE")

    def test_a_rerun_is_done_again(self, env: TestEnvironment) -> None:
        old = failed(env, DIAMOND, "D")
        broken.add("E")
        second = old.rerun(FAILED)
        assert second.wait(TIMEOUT).status is RunStatus.FAILED
        broken.clear()
        calls.clear()
        third = second.rerun(FAILED)
        assert third.result(TIMEOUT)["E"] == JOINED
        assert calls == Counter("E")
        assert third.describe().forked_from == second.run_id

    def test_the_current_version(self, env: TestEnvironment) -> None:
        old = failed(env, DIAMOND, "D")
        edited = graph(
            "diamond",
            *"ABC",
            {"id": "D2", "uses": "step"},
            "E",
            "F",
            edges=("A-B", "B-C", "B-D2", "C-E", "D2-E", "C-F"),
        )
        env.publish([edited])
        new = old.rerun(FAILED, version="current")
        assert new.result(TIMEOUT)["E"] == "E(D2(B(A(None))))"
        assert calls == Counter(["D2", "E", "F"])
        calls.clear()
        assert old.rerun(FAILED).result(TIMEOUT)["E"] == JOINED
        assert calls == Counter("DE")
        calls.clear()
        with pytest.raises(RerunRefusedError, match="no longer in the current version"):
            old.rerun("D", version="current")
        with pytest.raises(RerunRefusedError, match="has no node 'Z'"):
            old.rerun("Z")
        edited["nodes"][1]["params"] = {"other": 1}
        env.publish([edited])
        assert old.rerun("F", version="current").wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter(["B", "C", "D2", "E", "F"])


class TestIds:
    def test_repeating_gives_the_same_run(self, env: TestEnvironment) -> None:
        old = failed(env, DIAMOND, "D")
        first = old.rerun(FAILED, run_id="again-1")
        first.wait(TIMEOUT)
        second = old.rerun(FAILED, run_id="again-1")
        assert (first.attached, second.attached) == (False, True)
        with pytest.raises(RunConflictError) as conflict:
            old.rerun("C", run_id="again-1")
        assert conflict.value.existing == first
        with pytest.raises(RunConflictError):
            old.rerun(FAILED, run_id="again-1", on_conflict="raise")
        assert calls == Counter("DE")


class TestRefusals:
    def test_states(self, env: TestEnvironment) -> None:
        done = ended(env, DIAMOND)
        with pytest.raises(RunStateError, match="each of its nodes has finished"):
            done.rerun(FAILED)
        env.publish([graph("waits", {"id": "w", "uses": "wait"}, edges=())])
        waiting = env.client.start("waits")
        waiting.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        with pytest.raises(RunStateError, match="is waiting"):
            waiting.rerun(FAILED)
        with pytest.raises(RunStateError, match="is waiting"):
            waiting.delete()
        waiting.cancel(grace=0)
        again = waiting.rerun(FAILED)
        again.wait_for(RunStatus.WAITING, timeout=TIMEOUT)
        again.signal("w", 3)
        assert again.result(TIMEOUT) == {"w": 3}
        for handle in (waiting, done):
            assert handle.delete() is True
            with pytest.raises(RunNotFoundError):
                handle.rerun()
        with pytest.raises(RunNotFoundError):
            env.client.get_handle("nobody").delete()

    def test_a_missing_plan(self, env: TestEnvironment) -> None:
        old = failed(env, graph("lost", "A", "D", edges=("A-D",)), "D")
        for keys in env.partitions.all:
            env.link.redis.rename(keys.plan(old.describe().blueprint_version), keys.base + "plan:aside")
        try:
            with pytest.raises(BlueprintNotFoundError):
                env.client.get_handle(old.run_id).rerun(FAILED)
        finally:
            for keys in env.partitions.all:
                env.link.redis.rename(keys.base + "plan:aside", keys.plan(old.describe().blueprint_version))


class TestContext:
    def test_a_patch(self, env: TestEnvironment) -> None:
        contract = {"text": "string", "size": {"type": "integer", "default": 1}}
        reads = {"id": "D", "uses": "step", "inputs": "size"}
        old = failed(env, graph("inputs", "A", reads, edges=("A-D",), inputs=contract), "D", ctx={"text": "t"})
        new = old.rerun(FAILED, ctx_patch={"size": 5})
        assert new.result(TIMEOUT)["D"] == "D(5)"
        assert calls == Counter("D")
        with pytest.raises(InvalidInputError, match="size"):
            old.rerun(FAILED, ctx_patch={"size": "large"})
        with pytest.raises(InvalidInputError, match=r"siez: is no input of the blueprint; did you mean 'size'\?"):
            old.rerun(FAILED, ctx_patch={"siez": 5})
        assert new.rerun().result(TIMEOUT)["D"] == "D(5)", "the patch is part of its start context"

    def test_what_a_node_had_written_is_undone(self, env: TestEnvironment) -> None:
        counts = graph("written", {"id": "i", "uses": "init"}, {"id": "c", "uses": "count"}, "E", edges=("i-c", "c-E"))
        old = ended(env, counts, {"n": 7})
        assert old.result()["n"] == 1
        calls.clear()
        with pytest.raises(RerunRefusedError, match="'n' was written by 'i' and 'c'"):
            old.rerun("c")
        assert old.rerun("c", ctx_patch={"n": 4}).result(TIMEOUT)["n"] == 5
        assert old.rerun("E").result(TIMEOUT)["n"] == 1
        assert old.rerun("i").result(TIMEOUT)["n"] == 1
        alone = ended(env, graph("alone", "A", {"id": "c", "uses": "count"}, edges=("A-c",)), {"n": 7})
        assert alone.rerun("c").result(TIMEOUT)["n"] == 8


LOOP = graph(
    "loop", {"id": "i", "uses": "init"}, "head", {"id": "c", "uses": "count"}, "side", "after",
    edges=(
        "i-head", "head-c", "head-side",
        {"source": "c", "target": "head", "condition": "n < 4"}, {"source": "c", "target": "after", "condition": "n >= 4"},
    ),
)  # fmt: skip


class TestLoops:
    def test_a_loop_continues_with_the_round_in_which_it_failed(self, env: TestEnvironment) -> None:
        old = failed(env, LOOP, "c#2")
        new = old.rerun(FAILED)
        assert new.result(TIMEOUT)["n"] == 4
        assert calls.pop("side") in (1, 2), "it may have been cancelled in the round that failed"
        assert calls == Counter({"c": 2, "head": 1, "after": 1})

    def test_from_a_node_it_begins_anew(self, env: TestEnvironment) -> None:
        old = ended(env, LOOP)
        calls.clear()
        with pytest.raises(RerunRefusedError, match="give it in ctx_patch"):
            old.rerun("c")
        assert old.rerun("c", ctx_patch={"n": 0}).result(TIMEOUT)["n"] == 4
        assert calls == Counter({"c": 4, "head": 4, "side": 4, "after": 1})
        calls.clear()
        assert old.rerun("side").result(TIMEOUT)["n"] == 4
        assert calls == Counter(["side"])
        calls.clear()
        assert old.rerun("after").result(TIMEOUT)["n"] == 4
        assert calls == Counter(["after"])


class TestBatches:
    @pytest.mark.parametrize("policy", ["stop", "continue"])
    def test_finished_items_are_kept(self, env: TestEnvironment, policy: str) -> None:
        spread = {"id": "list", "uses": "listed", "params": {"count": 6}}
        mapped = {"id": "map", "uses": "map", "params": {"uses": "step", "maxLive": 2}}
        old = failed(env, graph("map", spread, mapped, "E", edges=("list-map", "map-E"), onFailure=policy), "map[3]")
        new = old.rerun(FAILED)
        assert new.result(TIMEOUT)["map"] == [0, 10, 20, 30, 40, 50]
        assert calls["map[3]"] == 1
        assert calls["list"] == calls["map[0]"] == calls["map[1]"] == 0
        calls.clear()
        assert old.rerun(FAILED, ctx_patch={"k": 1}).result(TIMEOUT)["map"] == [0, 10, 20, 30, 40, 50]
        assert sum(calls[f"map[{number}]"] for number in range(6)) == 6

    def test_a_pair_and_its_gather(self, env: TestEnvironment) -> None:
        spread = {"id": "list", "uses": "listed", "params": {"count": 5}}
        scatter = {
            "id": "sc",
            "uses": "batch-scatter",
            "params": {"workerUsesKey": "step", "gatherNodeId": "ga", "chunkSize": 2},
        }
        pair = graph("pair", spread, scatter, {"id": "ga", "uses": "batch-gather"}, "E", edges=("list-sc", "ga-E"))
        old = failed(env, pair, "sc[2]")
        new = old.rerun(FAILED)
        assert new.result(TIMEOUT)["ga"] == [0, 10, 20, 30, 40]
        assert calls["sc[2]"] == 1 and calls["sc[0]"] == 0
        calls.clear()
        assert new.rerun("ga").result(TIMEOUT)["ga"] == [0, 10, 20, 30, 40]
        assert calls == Counter("E")


class TestOthers:
    def test_dynamic_nodes(self, env: TestEnvironment) -> None:
        old = failed(env, graph("adds", {"id": "own", "uses": "adds"}, "E", edges=("own-E",)), "two")
        assert old.describe().nodes["one"].status == "completed"
        new = old.rerun(FAILED)
        assert new.result(TIMEOUT)["E"] == "E(added)"
        assert calls == Counter(["two", "E"])
        with pytest.raises(RerunRefusedError, match="was added by 'own'"):
            old.rerun("two")
        calls.clear()
        assert new.rerun("E").result(TIMEOUT)["two"] == new.result()["two"]
        assert calls == Counter("E")

    def test_a_fallback(self, env: TestEnvironment) -> None:
        guarded = graph("guarded", {"id": "r", "uses": "step", "config": {"fallback": "fb"}}, "fb", "E", edges=("r-E",))
        old = failed(env, guarded, "r", "E")
        assert old.rerun(FAILED).result(TIMEOUT)["E"] == "E(fb(None))"
        assert calls == Counter("E")
        both = failed(env, guarded, "r", "fb")
        assert both.rerun(FAILED).result(TIMEOUT)["E"] == "E(r(None))"
        assert calls == Counter("rE")

    def test_a_wait_that_was_answered(self, env: TestEnvironment) -> None:
        env.publish([graph("asks", {"id": "w", "uses": "wait"}, "E", edges=("w-E",))])
        broken.add("E")
        old = env.client.start("asks")
        old.signal("w", {"by": "Ada"}, buffer=True)
        assert old.wait(TIMEOUT).status is RunStatus.FAILED
        broken.clear()
        assert old.rerun(FAILED).result(TIMEOUT)["E"] == "E({'by': 'Ada'})"

    def test_joins(self, env: TestEnvironment) -> None:
        first = {"id": "J", "uses": "step", "config": {"joinStrategy": "any"}}
        race = graph("race", "A", "B", "C", first, "E", edges=("A-B", "A-C", "B-J", "C-J", "J-E"), onFailure="continue")
        old = failed(env, race, "C")
        assert old.describe().nodes["J"].status == "completed"
        calls.clear()
        assert old.rerun(FAILED).wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter("C")

    def test_a_wide_and_a_large_run(self, env: TestEnvironment) -> None:
        names = [f"n{number}" for number in range(300)]
        wide = graph("wide", "A", *names, "J", edges=tuple(f"A-{n}" for n in names) + tuple(f"{n}-J" for n in names))
        old = failed(env, {**wide, "onFailure": "continue"}, "n7", "n200")
        new = old.rerun(FAILED)
        assert new.wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter(["n7", "n200", "J"])
        calls.clear()
        assert new.rerun(names).wait(TIMEOUT).status is RunStatus.COMPLETED
        assert sum(calls.values()) == 301

    def test_large_values_go_in_pieces(self, env: TestEnvironment) -> None:
        old = failed(env, DIAMOND, "D", ctx={f"k{number}": "x" * 200_000 for number in range(8)})
        assert len(old.rerun(FAILED).result(TIMEOUT)["k7"]) == 200_000
        assert calls == Counter("DE")


class TestChildren:
    @pytest.fixture
    def outer(self, env: TestEnvironment) -> dict[str, Any]:
        inner = graph("inner", "a", "b", "c", edges=("a-b", "b-c"))
        middle = graph(
            "middle", "x", {"id": "s", "uses": "subflow", "params": {"blueprintId": "inner"}}, "y", edges=("x-s", "s-y")
        )
        env.publish([inner, middle])
        first = {"id": "first", "uses": "subflow", "params": {"blueprintId": "inner"}}
        second = {"id": "second", "uses": "subflow", "params": {"blueprintId": "middle"}}
        return graph("outer", "A", first, second, "E", edges=("A-first", "first-second", "second-E"))

    def test_a_failed_child_continues_where_it_failed(self, env: TestEnvironment, outer: dict[str, Any]) -> None:
        old = failed(env, outer, "y")
        new = old.rerun(FAILED)
        assert new.result(TIMEOUT)["E"].startswith("E(y(c(b(a(x(c(b(a(A(None)")
        assert calls == Counter("yE")
        (child,) = new.describe().children
        assert env.client.get_handle(child).describe().forked_from == old.describe().children[-1]
        with pytest.raises(RerunRefusedError, match="is a child run"):
            env.client.get_handle(child).rerun()
        with pytest.raises(RunStateError, match="is a child of"):
            env.client.get_handle(child).delete()
        calls.clear()
        assert old.rerun("second").wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter("xabcyE")
        with pytest.raises(RerunRefusedError, match="is in a child run"):
            old.rerun("second/y")

    def test_so_does_a_child_of_it(self, env: TestEnvironment, outer: dict[str, Any]) -> None:
        broken.add("x")
        old = failed(env, outer, "x")
        broken.add("b")
        second = old.rerun(FAILED)
        assert second.wait(TIMEOUT).status is RunStatus.FAILED
        broken.clear()
        calls.clear()
        assert second.rerun(FAILED).wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter("bcyE")

    def test_with_other_inputs_it_begins_anew(self, env: TestEnvironment) -> None:
        env.publish([graph("reads", "a", {"id": "b", "uses": "step", "inputs": "k"}, edges=("a-b",))])
        call = {"id": "call", "uses": "subflow", "params": {"blueprintId": "reads", "inputs": {"k": "k"}}}
        old = failed(env, graph("gives", "A", call, edges=("A-call",)), "b", ctx={"k": 1})
        assert old.rerun(FAILED).result(TIMEOUT)["call"] == "b(1)"
        assert calls == Counter("b")
        calls.clear()
        assert old.rerun(FAILED, ctx_patch={"k": 2}).result(TIMEOUT)["call"] == "b(2)"
        assert calls == Counter("ab")

    def test_a_map_of_children(self, env: TestEnvironment) -> None:
        env.publish([graph("each", "a", "b", edges=("a-b",))])
        spread = {"id": "list", "uses": "listed", "params": {"count": 4}}
        mapped = {"id": "map", "uses": "map", "params": {"call": "each", "maxLive": 1}}
        broken.add("b")
        old = failed(env, graph("maps", spread, mapped, edges=("list-map",)), "b")
        assert old.rerun(FAILED).result(TIMEOUT)["map"] == [f"b(a({number}))" for number in range(4)]
        assert calls == Counter({"a": 3, "b": 4})

    def test_when_the_old_run_is_gone_by_then(self) -> None:
        inner = graph("inner", "a", "b", edges=("a-b",))
        call = {"id": "call", "uses": "subflow", "params": {"blueprintId": "inner"}}
        with TestEnvironment(blueprints=[inner], handlers=HANDLERS, workers=1) as env:
            old = failed(env, graph("outer", "A", call, edges=("A-call",)), "b")
            env.kill_worker()
            new = old.rerun(FAILED)
            assert old.delete()
            env.add_worker()
            assert new.wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter("ab")


class TestClosing:
    SAGA = graph(
        "saga",
        {"id": "pay", "uses": "step", "config": {"compensate": "refund"}}, "ship", "mail", "refund", "sweep",
        edges=("pay-ship", "ship-mail"), **{"finally": ["sweep"]},
    )  # fmt: skip

    def test_what_was_compensated_runs_again(self, env: TestEnvironment) -> None:
        broken.add("ship")
        old = ended(env, self.SAGA)
        assert old.status() is RunStatus.FAILED and calls == Counter(["pay", "ship", "refund", "sweep"])
        broken.clear()
        calls.clear()
        new = old.rerun(FAILED)
        assert new.wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter(["pay", "ship", "mail", "sweep"])

    def test_what_is_kept_is_compensated_if_the_new_run_fails(self, env: TestEnvironment) -> None:
        old = ended(env, self.SAGA)
        calls.clear()
        broken.add("mail")
        new = old.rerun("mail")
        assert new.wait(TIMEOUT).status is RunStatus.FAILED
        assert calls == Counter(["mail", "refund", "sweep"])

    def test_only_what_closes_a_run_failed(self, env: TestEnvironment) -> None:
        broken.add("sweep")
        old = ended(env, self.SAGA)
        broken.clear()
        calls.clear()
        assert old.rerun(FAILED).wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter(["sweep"])


def test_the_new_run_lies_where_its_id_says() -> None:
    """A new id is chosen beside the old run; one of the caller's may lie in any partition."""
    with TestEnvironment(blueprints=[DIAMOND], handlers=HANDLERS, workers=1, partitions=16) as many:
        old = failed(many, {**DIAMOND, "id": "spread"}, "D")
        spread = {"id": "list", "uses": "listed", "params": {"count": 5}}
        mapped = {"id": "map", "uses": "map", "params": {"uses": "step", "maxLive": 2}}
        batch = failed(many, graph("map", spread, mapped, edges=("list-map",)), "map[3]")
        beside = old.rerun(FAILED)
        assert many.partitions.for_run(beside.run_id) is many.partitions.for_run(old.run_id)
        for number in range(6):
            assert old.rerun(FAILED, run_id=f"elsewhere-{number}").result(TIMEOUT)["E"] == JOINED
            assert batch.rerun(FAILED, run_id=f"batch-{number}").result(TIMEOUT)["map"] == [0, 10, 20, 30, 40]
        assert calls["D"] == calls["E"] == 6 + 1
        beside.wait(TIMEOUT)
        assert not leaked_keys(many)


def test_without_history(env: TestEnvironment) -> None:
    with TestEnvironment(handlers=HANDLERS, history=False) as silent:
        old = failed(silent, graph("chain", *"AB", edges=("A-B",)), "B")
        assert list(old.events(follow=False)) == []
        assert old.rerun(FAILED).result(TIMEOUT)["B"] == "B(A(None))"
        assert calls == Counter("B")


class TestMany:
    @pytest.fixture(params=BOTH, ids=["sync", "async"])
    def client(self, request: pytest.FixtureRequest, env: TestEnvironment) -> Iterator[Any]:
        with request.param(env.url, namespace=env.namespace) as client:
            yield client

    def admin(self, client: Any) -> Any:
        return client.admin if isinstance(client, Client) else BlockingAdmin(client)

    def test_what_failed_is_done_again_and_deleted(self, env: TestEnvironment, client: Any) -> None:
        tag = f"many-{type(client).__name__}"
        runs = [failed(env, DIAMOND, "D", tags=[tag]) for _ in range(4)]
        admin = self.admin(client)
        preview = admin.preview_runs("rerun", tag=tag, status="failed", limit=3)
        assert (preview.count, preview.first) == (3, tuple(run.run_id for run in runs[:0:-1]))
        outcomes = list(admin.rerun_runs(FAILED, tag=tag, status="failed"))
        assert [outcome.run_id for outcome in outcomes] == [run.run_id for run in reversed(runs)]
        for outcome in outcomes:
            assert env.client.get_handle(outcome.new_run_id).result(TIMEOUT)["E"] == JOINED
        assert calls == Counter({"D": 4, "E": 4})
        env.link.redis.hset(env.partitions.for_run(runs[1].run_id).run(runs[1].run_id), "st", "what?")
        done = {outcome.run_id: outcome for outcome in admin.delete_runs(tag=tag)}
        assert len(done) == 7 and all(outcome.done for outcome in done.values()), "the broken one is none of them"
        env.link.redis.hset(env.partitions.for_run(runs[1].run_id).run(runs[1].run_id), "st", "failed")
        assert [outcome.done for outcome in admin.delete_runs(tag=tag)] == [True]
        again = list(admin.rerun_runs(FAILED, blueprint_id="diamond", status="completed", limit=1))
        assert [outcome.done for outcome in again] in ([], [False])

    def test_what_runs_is_cancelled(self, env: TestEnvironment, client: Any) -> None:
        tag = f"waits-{type(client).__name__}"
        env.publish([graph("waits", {"id": "w", "uses": "wait"}, edges=())])
        runs = [env.client.start("waits", tags=[tag]) for _ in range(3)]
        admin = self.admin(client)
        with pytest.raises(ConfigurationError, match="only runs that are scheduled"):
            admin.preview_runs("cancel", tag=tag, status="failed")
        with pytest.raises(ConfigurationError, match="an action is one of"):
            admin.preview_runs("stop", tag=tag)
        outcomes = list(admin.cancel_runs(tag=tag, reason="enough", grace=0))
        assert [outcome.done for outcome in outcomes] == [True] * 3
        assert {run.describe().cancel.reason for run in runs} == {"enough"}
        assert list(admin.cancel_runs(tag=tag)) == []


class BlockingAdmin:
    """The admin part of a BlockingClient."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        async def collected(items: Any) -> Any:
            return [item async for item in items]

        def call(*words: Any, **options: Any) -> Any:
            answer = getattr(self._client.client.admin, name)(*words, **options)
            return self._client.runner.run(answer if inspect.iscoroutine(answer) else collected(answer))

        return call


def test_a_fallback_that_ran_while_its_node_was_cancelled(env: TestEnvironment) -> None:
    """Another branch fails while the fallback runs: that it has returned counts, and neither node is called again."""
    running, may_return = threading.Event(), threading.Event()

    def slow(ctx: NodeContext) -> str:
        calls["slow"] += 1
        running.set()
        assert may_return.wait(TIMEOUT)
        return "slow"

    def late(ctx: NodeContext) -> str:
        calls["late"] += 1
        assert running.wait(TIMEOUT)
        return step(ctx)

    handlers = {"step": step, "slow": slow, "late": late}
    guarded = graph(
        "guarded", "A", {"id": "r", "uses": "step", "config": {"fallback": "fb"}}, {"id": "fb", "uses": "slow"},
        {"id": "L", "uses": "late"}, "E", edges=("A-r", "A-L", "r-E", "L-E"),
    )  # fmt: skip
    with TestEnvironment(blueprints=[guarded], handlers=handlers, workers=3) as other:
        broken.update(["r", "L"])
        old = other.client.start("guarded")
        failure = next(
            event for event in old.events(timeout=TIMEOUT) if event.node_id == "L" and event.type == "node_failed"
        )
        assert failure.data["error"]["message"] == "broken"
        may_return.set()
        assert old.wait(TIMEOUT).status is RunStatus.FAILED
        broken.clear()
        calls.clear()
        assert old.rerun(FAILED).result(TIMEOUT)["E"].startswith("E(")
        assert calls == Counter({"late": 1, "L": 1, "E": 1})


def test_a_child_that_still_stops_is_waited_for(env: TestEnvironment) -> None:
    """Its parent has ended, and what one of its nodes makes is taken over all the same."""
    running, may_return = threading.Event(), threading.Event()

    def slow(ctx: NodeContext) -> int:
        calls["slow"] += 1
        running.set()
        assert may_return.wait(TIMEOUT)
        return 1

    def item(ctx: NodeContext) -> Any:
        calls["item"] += 1
        if ctx.input == 1 and "item" in broken:
            assert running.wait(TIMEOUT)
            raise ValueError("broken")
        return ctx.input

    inner = graph("inner", {"id": "f", "uses": "item"}, {"id": "s", "uses": "slow"}, edges=("f-s",))
    spread = {"id": "list", "uses": "listed", "params": {"count": 2}}
    outer = graph("outer", spread, {"id": "map", "uses": "map", "params": {"call": "inner"}}, edges=("list-map",))
    handlers = {"slow": slow, "item": item, "listed": listed}
    with TestEnvironment(blueprints=[inner, outer], handlers=handlers, workers=3) as other:
        old = failed(other, outer, "item")
        assert {run.status for run in other.client.list_runs(blueprint_id="inner")} == {"failed", "cancelling"}
        new = old.rerun(FAILED)
        assert new.wait_for(RunStatus.RUNNING, timeout=TIMEOUT) is RunStatus.RUNNING
        may_return.set()
        assert new.wait(TIMEOUT).status is RunStatus.COMPLETED
        assert calls == Counter({"item": 1, "slow": 1})


def test_an_empty_pair_is_gathered_again(env: TestEnvironment) -> None:
    spread = {"id": "list", "uses": "listed", "params": {"count": 0}}
    scatter = {"id": "sc", "uses": "batch-scatter", "params": {"workerUsesKey": "step", "gatherNodeId": "ga"}}
    pair = graph("empty", spread, scatter, {"id": "ga", "uses": "batch-gather"}, "E", edges=("list-sc", "ga-E"))
    old = ended(env, pair)
    calls.clear()
    assert old.rerun("ga").result(TIMEOUT)["ga"] == []
    assert calls == Counter("E")
