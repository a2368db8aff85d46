"""Branches, joins, transforms, subflows, batches and loops on the real engine, with the original's defects by name."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NodeResult, RunFailedError, RunStatus
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings
from tests.engine.test_failures import graph

Make = Callable[..., TestEnvironment]


def echo(ctx: NodeContext) -> Any:
    return ctx.input


def const(ctx: NodeContext) -> Any:
    return ctx.params.get("value")


def act(ctx: NodeContext) -> Any:
    return NodeResult(ctx.params.get("value"), ctx.params.get("action"))


def double(ctx: NodeContext) -> Any:
    return ctx.input * 2


def count(ctx: NodeContext) -> Any:
    value = (ctx.context.get("n") or 0) + 1
    ctx.context.set("n", value)
    return value


HANDLERS = {"echo": echo, "const": const, "act": act, "double": double, "count": count}


def edge(source: str, target: str, **more: str) -> dict[str, str]:
    return {"source": source, "target": target, **more}


class TestBranches:
    def test_a_router_into_two_terminals_completes(self, environment: Make) -> None:
        """D01: every terminal had to run."""
        env = environment(
            handlers=HANDLERS,
            blueprints=graph(
                {"r": {"uses": "act", "params": {"action": "x"}}, "x": "echo", "y": "echo"}, ["r x x", "r y y"]
            ),
        )
        snapshot = env.client.start("g").wait(timeout=60)
        assert (snapshot.status, snapshot.nodes["x"].status, snapshot.nodes["y"].status) == (
            "completed",
            "completed",
            "skipped",
        )

    def test_an_all_join_behind_exclusive_branches_runs(self, environment: Make) -> None:
        """D02: the use cases 2 and 3 hung for ever."""
        env = environment(
            handlers=HANDLERS,
            blueprints=graph(
                {"r": {"uses": "act", "params": {"action": "x"}}, "x": "echo", "y": "echo", "y2": "echo", "j": "echo"},
                ["r x x", "r y y", "y y2", "x j", "y2 j"],
            ),
        )
        assert env.client.start("g").wait(timeout=60).nodes["j"].status == "completed"

    @pytest.mark.parametrize("action", [None, "zzz"])
    def test_an_unmatched_action_fails_and_names_the_known_ones(self, environment: Make, action: str | None) -> None:
        """D03, S5, S6: use case 4 ran all four branches, or hung."""
        env = environment(
            handlers=HANDLERS,
            blueprints=graph(
                {"r": {"uses": "act", "params": {"action": action}}, "x": "echo", "y": "echo"}, ["r x x", "r y y"]
            ),
        )
        run = env.client.start("g")
        with pytest.raises(RunFailedError, match="'x', 'y'") as caught:
            run.result(timeout=10)
        assert caught.value.failure.type == "UnmatchedAction"
        if action:
            assert "'zzz'" in caught.value.failure.message
        nodes = run.describe().nodes
        assert {nodes["x"].attempts, nodes["y"].attempts} == {0}

    def test_all_conditions_false_ends_the_branch(self, environment: Make) -> None:
        """S8."""
        blueprint = graph({"a": {"uses": "const", "params": {"value": 1}}, "b": "echo"})
        blueprint["edges"] = [edge("a", "b", condition="result.output > 5")]
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        snapshot = env.client.start("g").wait(timeout=60)
        assert (snapshot.status, snapshot.nodes["b"].status) == ("completed", "skipped")

    def test_a_condition_may_name_a_node(self, environment: Make) -> None:
        """D38: bare keys were absent in the distributed mode."""
        blueprint = graph({"a": {"uses": "const", "params": {"value": 1}}, "b": "echo"})
        blueprint["edges"] = [edge("a", "b", condition="a > 0 and context.a == 1 and _outputs.a == 1")]
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        assert env.client.start("g").wait(timeout=60).nodes["b"].status == "completed"

    def test_all_true_conditions_fire(self, environment: Make) -> None:
        """S7: no first match."""
        blueprint = graph({"a": {"uses": "const", "params": {"value": 1}}, "x": "echo", "y": "echo", "z": "echo"})
        blueprint["edges"] = [
            edge("a", "x", condition="result.output > 0"),
            edge("a", "y", condition="result.output == 1"),
            edge("a", "z", condition="result.output < 0"),
        ]
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        nodes = env.client.start("g").wait(timeout=60).nodes
        assert [nodes[n].status.value for n in "xyz"] == ["completed", "completed", "skipped"]

    def test_two_parallel_edges_into_one_node(self, environment: Make) -> None:
        """D34, S42: two arrivals were counted; the last edge in the blueprint brings the value."""
        blueprint = graph({"a": {"uses": "const", "params": {"value": 2}}, "z": "echo"})
        blueprint["edges"] = [edge("a", "z", transform="input + 10"), edge("a", "z", transform="input + 100")]
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        assert env.client.execute("g", timeout=60)["z"] == 102


class TestValues:
    def test_a_node_without_output_is_null_and_nothing_breaks(self, environment: Make) -> None:
        """D05, D39: it bricked the run."""
        env = environment(
            handlers={**HANDLERS, "nothing": lambda ctx: None}, blueprints=graph({"a": "nothing", "b": "echo"}, ["a b"])
        )
        assert env.client.execute("g", timeout=60) == {"a": None, "b": None}

    def test_a_transform_never_changes_the_plan(self, environment: Make) -> None:
        """D22: it rewrote the shared blueprint for all later runs."""
        blueprint = graph(
            {
                "a": {"uses": "echo", "inputs": "v"},
                "b": {"uses": "const", "params": {"value": 7}},
                "j": {"uses": "echo", "inputs": {"x": "a", "y": "b"}},
            }
        )
        blueprint["edges"] = [
            edge("a", "j", transform="input * 10", condition="result.output > 5"),
            edge("a", "j", condition="result.output <= 5"),
            edge("b", "j"),
        ]
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        assert env.client.execute("g", {"v": 9}, timeout=60)["j"] == 90
        assert env.client.execute("g", {"v": 2}, timeout=60)["j"] == {"x": 2, "y": 7}

    def test_input_resolution(self, environment: Make) -> None:
        """S11, with paths as the newest release of the original has them."""
        inputs = {"m": "a.p", "n": "k", "o": "nope", "p": "_outputs.a", "q": "a.p.q", "r": "k.j", "s": "a.x.y.z"}
        env = environment(
            handlers=HANDLERS,
            blueprints=graph(
                {"a": {"uses": "const", "params": {"value": {"p": {"q": 7}}}}, "b": {"uses": "echo", "inputs": inputs}},
                ["a b"],
            ),
        )
        assert env.client.execute("g", {"k": {"j": 5}}, timeout=60)["b"] == {
            "m": {"q": 7},
            "n": {"j": 5},
            "o": None,
            "p": {"p": {"q": 7}},
            "q": 7,
            "r": 5,
            "s": None,
        }

    def test_a_node_id_never_overwrites_a_key_of_the_context(self, environment: Make) -> None:
        """S43: both became the node's output."""
        env = environment(handlers=HANDLERS, blueprints=graph({"topic": {"uses": "const", "params": {"value": "out"}}}))
        run = env.client.start("g", {"topic": "T"})
        assert run.result(timeout=60) == {"topic": "T"}
        assert run.describe(ctx=True).ctx["_outputs.topic"] == "out"

    def test_writes_of_parallel_nodes_are_not_lost(self, environment: Make) -> None:
        """D28: every write was replayed at the node's end, over newer ones."""
        written, read = threading.Event(), threading.Event()

        def early(ctx: NodeContext) -> None:
            ctx.context.set("mine", 1)
            written.set()
            read.wait(5)

        def late(ctx: NodeContext) -> Any:
            written.wait(5)
            seen = ctx.context.get("mine")
            ctx.context.set("other", 2)
            read.set()
            return seen

        env = environment(handlers={"early": early, "late": late}, blueprints=graph({"a": "early", "b": "late"}))
        result = env.client.execute("g", timeout=60)
        assert (result["mine"], result["other"]) == (1, 2)
        assert result["b"] is None, "a write was visible before its node completed"

    def test_context_calls(self, environment: Make) -> None:
        def uses(ctx: NodeContext) -> Any:
            context = ctx.context
            context.set("new", {"x": 1})
            context.delete("old")
            return [
                context.get("new"), context.get("old", "gone"), context.has("old"), context.has("null"),
                context.get("null", "default"), context.get_many(["k", "nope", "new"]), context.get("a"),
                context.get("_inputs.b"), context.get("_outputs.a"),
            ]  # fmt: skip

        env = environment(
            handlers={**HANDLERS, "uses": uses},
            blueprints=graph({"a": {"uses": "const", "params": {"value": 3}}, "b": "uses"}, ["a b"]),
        )
        result = env.client.execute("g", {"k": 1, "old": 2, "null": None}, timeout=60)
        assert result["b"] == [{"x": 1}, "gone", False, True, None, {"k": 1, "new": {"x": 1}}, 3, 3, 3]
        assert "old" not in result

    def test_a_run_id_is_no_dice_throw(self, environment: Make) -> None:
        """D27: a reused id returned another run's output."""
        env = environment(handlers=HANDLERS, blueprints=graph({"a": {"uses": "echo", "inputs": "who"}}))
        assert env.client.execute("g", {"who": "alice"}, timeout=60)["a"] == "alice"
        assert env.client.execute("g", {"who": "bob"}, timeout=60)["a"] == "bob"


class TestJoins:
    def test_any_fires_once_on_the_first(self, environment: Make) -> None:
        """D04, D40, S15: three successful predecessors."""
        calls: list[Any] = []

        def join(ctx: NodeContext) -> None:
            calls.append(ctx.input)

        env = environment(
            handlers={**HANDLERS, "join": join},
            blueprints=graph(
                {"a": "echo", "b": "echo", "c": "echo", "j": {"uses": "join", "config": {"joinStrategy": "any"}}},
                ["a j", "b j", "c j"],
            ),
        )
        assert env.client.start("g").wait(timeout=60).status is RunStatus.COMPLETED
        assert len(calls) == 1

    def test_an_any_join_with_one_failed_predecessor_is_not_run_after_the_failure(self, environment: Make) -> None:
        """D36: the run was failed, then overwritten by completed."""

        def boom(ctx: NodeContext) -> None:
            raise ValueError("no")

        env = environment(
            handlers={**HANDLERS, "boom": boom},
            blueprints=graph(
                {"a": "boom", "s": "echo", "j": {"uses": "echo", "config": {"joinStrategy": "any"}}}, ["a j", "s j"]
            ),
        )
        run = env.client.start("g")
        assert run.wait(timeout=60).status is RunStatus.FAILED
        env.run_until_idle()
        assert run.status() is RunStatus.FAILED


class TestSubflows:
    def child(self, **more: Any) -> dict[str, Any]:
        return graph({"add": {"uses": "double", "inputs": "x"}, "t2": "echo"}, ["add t2"]) | {"id": "sub"} | more

    def test_inputs_and_outputs_are_mapped(self, environment: Make) -> None:
        """S24."""
        params = {"blueprintId": "sub", "inputs": {"x": "k"}, "outputs": {"total": "add", "raw": "x"}}
        env = environment(
            handlers=HANDLERS,
            blueprints=[self.child(), graph({"s": {"uses": "subflow", "params": params}, "z": "echo"}, ["s z"])],
        )
        result = env.client.execute("g", {"k": 3}, timeout=60)
        assert (result["total"], result["raw"], result["z"]) == (6, 3, {"total": 6, "raw": 3})

    def test_several_terminals_give_an_object(self, environment: Make) -> None:
        """S25."""
        child = graph(
            {"a": {"uses": "const", "params": {"value": 1}}, "b": {"uses": "const", "params": {"value": 2}}}
        ) | {"id": "sub"}
        env = environment(
            handlers=HANDLERS, blueprints=[child, graph({"s": {"uses": "subflow", "params": {"blueprintId": "sub"}}})]
        )
        assert env.client.execute("g", timeout=60)["s"] == {"a": 1, "b": 2}

    def test_a_failure_keeps_the_inner_message(self, environment: Make) -> None:
        """S26, D43: the inner message was lost."""

        def boom(ctx: NodeContext) -> None:
            raise ValueError("card declined")

        child = graph({"pay": "boom"}) | {"id": "sub"}
        env = environment(
            handlers={"boom": boom},
            blueprints=[child, graph({"s": {"uses": "subflow", "params": {"blueprintId": "sub"}}})],
        )
        with pytest.raises(RunFailedError, match=r"node 'pay': .*: card declined") as caught:
            env.client.execute("g", timeout=10)
        assert caught.value.failure.details["failure"]["node"] == "pay"

    def test_a_retry_runs_the_whole_child_again(self, environment: Make) -> None:
        calls: list[str] = []

        def flaky(ctx: NodeContext) -> str:
            calls.append(ctx.run_id)
            if len(calls) < 2:
                raise ValueError("once")
            return "ok"

        child = graph({"f": "flaky"}) | {"id": "sub"}
        node = {"uses": "subflow", "params": {"blueprintId": "sub"}, "config": {"maxRetries": 2}}
        env = environment(handlers={"flaky": flaky}, blueprints=[child, graph({"s": node})])
        assert env.client.execute("g", timeout=60)["s"] == "ok"
        assert len(set(calls)) == 2

    def test_endless_nesting_is_refused(self, environment: Make) -> None:
        nested = graph({"s": {"uses": "subflow", "params": {"blueprintId": "g"}}})
        env = environment(blueprints=nested, settings=WorkerSettings(max_depth=4))
        with pytest.raises(RunFailedError, match=r"deeper than 4 \(limits\.subflowDepth\)"):
            env.client.execute("g", timeout=10)

    def test_an_unknown_child_names_the_blueprint(self, environment: Make) -> None:
        env = environment(blueprints=graph({"s": {"uses": "subflow", "params": {"blueprintId": "nope"}}}))
        with pytest.raises(RunFailedError, match="no blueprint 'nope' is published"):
            env.client.execute("g", timeout=10)


class TestBatches:
    def scatter(self, **params: Any) -> dict[str, Any]:
        return graph(
            {
                "s": {
                    "uses": "batch-scatter",
                    "inputs": "items",
                    "params": {"workerUsesKey": "double", "gatherNodeId": "g", **params},
                },
                "g": {"uses": "batch-gather", "params": {"outputKey": "results"}},
                "z": "echo",
            },
            ["s g", "g z"],
        )

    @pytest.mark.parametrize("items", [[1, 2, 3], [], list(range(700))])
    @pytest.mark.parametrize("chunk", [None, 2])
    def test_results_keep_the_order(self, environment: Make, items: list[int], chunk: int | None) -> None:
        """D09, S20 to S22: no worker ran; an empty list; chunks."""
        env = environment(handlers=HANDLERS, blueprints=self.scatter(**({"chunkSize": chunk} if chunk else {})))
        result = env.client.execute("g", {"items": items}, timeout=30)
        doubled = [2 * item for item in items]
        assert (result["results"], result["z"]) == (doubled, doubled)
        assert set(result) == {"items", "results", "s", "g", "z"}

    def test_a_failing_item_fails_the_run_and_names_it(self, environment: Make) -> None:
        """S23."""

        def picky(ctx: NodeContext) -> Any:
            if ctx.input == 2:
                raise ValueError("not two")
            return ctx.input

        env = environment(handlers={**HANDLERS, "double": picky}, blueprints=self.scatter())
        with pytest.raises(RunFailedError, match=r"node 's\[1\]': .*not two"):
            env.client.execute("g", {"items": [1, 2, 3]}, timeout=10)

    def test_an_input_that_is_no_list(self, environment: Make) -> None:
        env = environment(handlers=HANDLERS, blueprints=self.scatter())
        with pytest.raises(RunFailedError, match="scatters a list; its input is of type str"):
            env.client.execute("g", {"items": "abc"}, timeout=10)

    def test_map_is_the_short_form(self, environment: Make) -> None:
        live, most = [0], [0]
        lock = threading.Lock()

        def work(ctx: NodeContext) -> Any:
            with lock:
                live[0] += 1
                most[0] = max(most[0], live[0])
            assert ctx.item is not None
            with lock:
                live[0] -= 1
            return {"item": ctx.item, "value": ctx.input, "p": ctx.params["p"]}

        params = {"uses": "work", "chunkSize": 2, "params": {"p": "x"}}
        env = environment(
            handlers={**HANDLERS, "work": work},
            blueprints=graph({"m": {"uses": "map", "inputs": "items", "params": params}, "z": "echo"}, ["m z"]),
        )
        result = env.client.execute("g", {"items": ["a", None, "c"]}, timeout=60)
        assert result["z"] == [{"item": i, "value": v, "p": "x"} for i, v in enumerate(["a", None, "c"])]
        assert most[0] <= 2

    def test_errors_of_items_may_be_collected(self, environment: Make) -> None:
        def picky(ctx: NodeContext) -> Any:
            if ctx.input == 2:
                raise ValueError("not two")
            return ctx.input

        node = {"uses": "map", "inputs": "items", "params": {"uses": "picky"}, "config": {"onItemError": "collect"}}
        env = environment(handlers={"picky": picky}, blueprints=graph({"m": node}))
        result = env.client.execute("g", {"items": [1, 2, 3]}, timeout=60)["m"]
        assert (result[0], result[1]["error"]["message"], result[2]) == (1, "not two", 3)

    def test_a_failed_map_goes_to_its_fallback(self, environment: Make) -> None:
        def boom(ctx: NodeContext) -> Any:
            raise ValueError("no")

        node = {"uses": "map", "inputs": "items", "params": {"uses": "boom"}, "config": {"fallback": "fb"}}
        env = environment(
            handlers={**HANDLERS, "boom": boom},
            blueprints=graph({"m": node, "fb": {"uses": "const", "params": {"value": "saved"}}, "z": "echo"}, ["m z"]),
        )
        assert env.client.execute("g", {"items": [1, 2, 3]}, timeout=60)["z"] == "saved"


class TestLoops:
    def test_a_controller_goes_round_while_its_condition_holds(self, environment: Make) -> None:
        """D10, D11, S19: the second iteration was dropped."""
        env = environment(
            handlers=HANDLERS,
            blueprints=graph(
                {
                    "init": "echo",
                    "lc": {
                        "uses": "loop-controller",
                        "params": {"condition": "n < 3"},
                        "config": {"joinStrategy": "any"},
                    },
                    "body": "count",
                    "end": "echo",
                },
                ["init lc", "lc body continue", "body lc", "lc end break"],
            ),
        )
        run = env.client.start("g", {"n": 0})
        assert run.result(timeout=60)["n"] == 3
        started = [event.node_id for event in run.events() if event.type == "node_started"]
        assert [name for name in started if name.startswith("body")] == ["body#0", "body#1", "body#2"]

    def test_a_plain_cycle(self, environment: Make) -> None:
        blueprint = graph({"a": "count", "b": "echo", "done": "echo"})
        blueprint["edges"] = [
            edge("a", "b"),
            edge("b", "a", condition="n < 4"),
            edge("b", "done", condition="n >= 4"),
        ]
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        run = env.client.start("g")
        assert run.result(timeout=60)["n"] == 4
        assert run.describe().nodes["done"].status == "completed"

    def test_a_side_branch_runs_in_each_round(self, environment: Make) -> None:
        seen: list[int] = []

        def note(ctx: NodeContext) -> None:
            seen.append(ctx.iteration)

        env = environment(
            handlers={**HANDLERS, "note": note},
            blueprints=graph(
                {
                    "lc": {
                        "uses": "loop-controller",
                        "params": {"condition": "(n ?? 0) < 3"},
                        "config": {"joinStrategy": "any"},
                    },
                    "body": "count",
                    "side": "note",
                    "end": "echo",
                },
                ["lc body continue", "body lc", "body side", "lc end break"],
            ),
        )
        assert env.client.start("g").wait(timeout=60).nodes["end"].status == "completed"
        assert seen == [0, 1, 2]

    def test_nested_loops(self, environment: Make) -> None:
        def reset(ctx: NodeContext) -> None:
            ctx.context.set("n", 0)

        def outer(ctx: NodeContext) -> None:
            ctx.context.set("rounds", (ctx.context.get("rounds") or 0) + 1)
            ctx.context.set("total", (ctx.context.get("total") or 0) + ctx.context.get("n"))

        env = environment(
            handlers={**HANDLERS, "reset": reset, "outer": outer},
            blueprints=graph(
                {
                    "o": {
                        "uses": "loop-controller",
                        "params": {"condition": "(rounds ?? 0) < 2"},
                        "config": {"joinStrategy": "any"},
                    },
                    "reset": "reset",
                    "i": {
                        "uses": "loop-controller",
                        "params": {"condition": "n < 3"},
                        "config": {"joinStrategy": "any"},
                    },
                    "body": "count",
                    "tail": "outer",
                    "end": "echo",
                },
                ["o reset continue", "reset i", "i body continue", "body i", "i tail break", "tail o", "o end break"],
            ),
        )
        result = env.client.execute("g", timeout=60)
        assert (result["rounds"], result["total"]) == (2, 6)

    def test_an_endless_loop_is_stopped_by_the_guard(self, environment: Make) -> None:
        blueprint = graph({"a": {"uses": "count", "params": {"maxIterations": 5}}}, ["a a"])
        env = environment(handlers=HANDLERS, blueprints=blueprint)
        with pytest.raises(RunFailedError, match="loop 'a' went round 5 times"):
            env.client.execute("g", timeout=10)


class TestSleep:
    def test_a_sleep_is_slept_by_the_clock_and_passes_its_input_on(self, environment: Make) -> None:
        """D07: one hour took 43 ms."""
        nodes = {
            "a": {"uses": "const", "params": {"value": 5}},
            "s": {"uses": "sleep", "params": {"duration": "30d"}},
            "z": "echo",
        }
        env = environment(handlers=HANDLERS, blueprints=graph(nodes, ["a s", "s z"]))
        run = env.client.start("g")
        assert run.wait_for(RunStatus.WAITING, timeout=60) is RunStatus.WAITING
        env.clock.advance(30 * 86_400 + 1)
        assert run.result(timeout=60)["z"] == 5
