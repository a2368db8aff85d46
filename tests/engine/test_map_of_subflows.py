"""`map` with `params.call`: a child run for each item of a list."""

from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, NotWaitingError, RunStatus
from flowcraft_server.testing import TestEnvironment
from tests.engine.accounts import disagreements

Make = Callable[..., TestEnvironment]

CHILD = """
id: child
nodes: {first: {uses: double, next: second}, second: {uses: double}}
"""
PARENT = """
id: parent
nodes: {each: {uses: map, inputs: numbers, params: {call: child}}}
outputs: {all: each}
"""


def double(ctx: NodeContext) -> Any:
    if not isinstance(ctx.input, int):
        raise TypeError(f"no number: {ctx.input!r}")
    return 2 * ctx.input


def echo(ctx: NodeContext) -> Any:
    return ctx.input


HANDLERS = {"double": double, "echo": echo}


@pytest.mark.parametrize("numbers", [[], [1], [3, 1, 2], list(range(20))])
def test_each_item_is_a_run_of_its_own_and_results_keep_their_order(environment: Make, numbers: list[int]) -> None:
    env = environment(handlers=HANDLERS, blueprints=[PARENT, CHILD])
    run = env.client.start("parent", {"numbers": numbers})
    assert run.result(timeout=60) == {"all": [4 * number for number in numbers]}
    assert len(run.describe().children) == len(numbers)
    for child in run.describe().children:
        assert env.client.get_handle(child).status() is RunStatus.COMPLETED
    assert not disagreements(run)


def test_objects_give_their_keys_to_a_child_with_inputs(environment: Make) -> None:
    child = """
        id: child
        inputs: {name: string, tone: {type: string, default: calm}}
        nodes: {a: {uses: echo, inputs: {name: name, tone: tone}}}
        """
    env = environment(handlers=HANDLERS, blueprints=[PARENT, child])
    run = env.client.start("parent", {"numbers": [{"name": "Ada", "more": 1}, {"name": "Bob", "tone": "loud"}]})
    assert run.result(timeout=60)["all"] == [{"name": "Ada", "tone": "calm"}, {"name": "Bob", "tone": "loud"}]
    failed = env.client.start("parent", {"numbers": [{"name": "Ada"}, {"tone": "loud"}]}).wait(timeout=60)
    assert failed.status is RunStatus.FAILED
    assert "does not fit the inputs of blueprint 'child'" in failed.failures[0].message


def test_inputs_and_outputs_are_mapped_by_item_and_index(environment: Make) -> None:
    parent = """
        id: parent
        nodes:
          each:
            uses: map
            inputs: orders
            params:
              call: child
              inputs: {order: item, place: index, price: item.price, rate: rate}
              outputs: {sum: a.price, place: place}
              outputKey: sums
        outputs: {sums: sums, leaked: sum}
        """
    child = """
        id: child
        inputs: {order: object, place: integer, price: number, rate: number}
        nodes: {a: {uses: echo, inputs: {price: price, rate: rate, order: order}}}
        """
    env = environment(handlers=HANDLERS, blueprints=[parent, child])
    run = env.client.start("parent", {"orders": [{"price": 5}, {"price": 7}], "rate": 2})
    expected = [{"sum": 5, "place": 0}, {"sum": 7, "place": 1}]
    assert run.result(timeout=60) == {"sums": expected, "leaked": None}


def test_one_item_that_fails_fails_the_map_and_stops_the_others(environment: Make) -> None:
    child = """
        id: child
        nodes: {gate: {uses: echo}, pause: {uses: sleep, params: {duration: 1h}}, broken: {uses: double}}
        edges:
          - {source: gate, target: pause, condition: "result.output != 'bad'"}
          - {source: gate, target: broken, condition: "result.output == 'bad'"}
        """
    env = environment(handlers=HANDLERS, blueprints=[PARENT, child])
    run = env.client.start("parent", {"numbers": ["a", "bad", "b"]})
    snapshot = run.wait(timeout=60)
    assert snapshot.status is RunStatus.FAILED
    assert snapshot.failures[0].node_id.startswith("each")
    assert "no number: 'bad'" in snapshot.failures[0].message
    env.run_until_idle()
    ends = {env.client.get_handle(child_id).status() for child_id in snapshot.children}
    assert ends == {RunStatus.FAILED, RunStatus.CANCELLED}


def test_failed_items_may_stand_among_the_results(environment: Make) -> None:
    parent = PARENT.replace("params: {call: child}", "params: {call: child}, config: {onItemError: collect}")
    env = environment(handlers=HANDLERS, blueprints=[parent, CHILD])
    first, second, third = env.client.start("parent", {"numbers": [1, "x", 3]}).result(timeout=60)["all"]
    assert (first, third) == (4, 12)
    assert second["error"]["type"] == "SubflowFailed"
    assert "no number: 'x'" in second["error"]["message"]


def test_an_item_is_tried_again_with_a_new_run(environment: Make) -> None:
    tries: list[str] = []

    def flaky(ctx: NodeContext) -> int:
        tries.append(ctx.run_id)
        if len(tries) < 3:
            raise OSError("not yet")
        return 7

    parent = PARENT.replace("params: {call: child}", "params: {call: child}, config: {maxRetries: 3}")
    child = "id: child\nnodes: {a: {uses: flaky}}"
    env = environment(handlers={"flaky": flaky}, blueprints=[parent, child])
    run = env.client.start("parent", {"numbers": [1]})
    assert run.result(timeout=60) == {"all": [7]}
    assert len(set(tries)) == 3
    assert [each.attempt for each in run.attempts() if each.item == 0] == [1, 2, 3]


def test_what_waits_inside_is_answered_by_its_path(environment: Make) -> None:
    child = "id: child\nnodes: {ask: {uses: wait, params: {prompt: who}}}"
    env = environment(handlers={}, blueprints=[PARENT, child])
    run = env.client.start("parent", {"numbers": [1, 2, 3]})
    env.run_until_idle()
    assert run.status() is RunStatus.WAITING
    waiting = {point.node_id for point in run.describe().waiting if point.kind == "signal"}
    assert waiting == {"each[0]/ask", "each[1]/ask", "each[2]/ask"}
    with pytest.raises(NotWaitingError):
        run.signal("each[7]/ask", 1)
    for place in (2, 0, 1):
        run.signal(f"each[{place}]/ask", place * 10)
    assert run.result(timeout=60) == {"all": [0, 10, 20]}


def test_a_cancelled_run_stops_all_children(environment: Make) -> None:
    child = "id: child\nnodes: {nap: {uses: sleep, params: {duration: 1h}}}"
    parent = PARENT.replace("call: child", "call: child, maxLive: 3")
    env = environment(handlers={}, blueprints=[parent, child])
    run = env.client.start("parent", {"numbers": list(range(10))})
    env.run_until_idle()
    assert len(run.describe().children) == 3
    run.cancel()
    assert run.wait(timeout=60).status is RunStatus.CANCELLED
    for child_id in run.describe().children:
        assert env.client.get_handle(child_id).status() is RunStatus.CANCELLED
    assert not disagreements(run)


def test_a_timeout_is_each_child_s_own(environment: Make) -> None:
    child = "id: child\nnodes: {nap: {uses: sleep, params: {duration: 1h}}}"
    parent = PARENT.replace(
        "params: {call: child}", "params: {call: child}, config: {timeout: 1m, onItemError: collect}"
    )
    env = environment(handlers={}, blueprints=[parent, child])
    run = env.client.start("parent", {"numbers": [1, 2]})
    env.run_until_idle()
    env.clock.advance(61)
    results = run.result(timeout=60)["all"]
    assert ["timed out" in each["error"]["message"] for each in results] == [True, True]


def test_maps_nest_and_go_round_in_loops(environment: Make) -> None:
    outer = """
        id: outer
        nodes:
          again: {uses: loop-controller, params: {condition: "(n ?? 0) < 2"}, next: {continue: all, break: end}}
          all: {uses: map, inputs: lists, params: {call: parent, inputs: {numbers: item}, outputs: {all: each}}}
          count: {uses: count, needs: all, next: again}
          end: {uses: echo, inputs: all}
        outputs: {end: end, n: n}
        """

    def count(ctx: NodeContext) -> None:
        ctx.context.set("n", int(ctx.context.get("n", 0)) + 1)

    env = environment(handlers={**HANDLERS, "count": count}, blueprints=[outer, PARENT, CHILD])
    run = env.client.start("outer", {"lists": [[1], [], [2, 3]]})
    assert run.result(timeout=60) == {"end": [[4], [], [8, 12]], "n": 2}
    assert not disagreements(run)


def test_a_thousand_items(environment: Make) -> None:
    env = environment(handlers=HANDLERS, blueprints=[PARENT, CHILD])
    run = env.client.start("parent", {"numbers": list(range(1000))})
    assert run.result(timeout=120) == {"all": [4 * number for number in range(1000)]}
    fields = env.link.redis.hkeys(env.keys.run(run.run_id))
    assert not [field for field in fields if field.startswith((b"w:each[", b"r:each[", b"t:each[", b"n:each["))]


def test_a_child_that_is_not_there_fails_the_item(environment: Make) -> None:
    parent = PARENT.replace("call: child", "call: nothing")
    env = environment(handlers=HANDLERS, blueprints=[parent, CHILD], check=False)
    snapshot = env.client.start("parent", {"numbers": [1]}).wait(timeout=60)
    assert snapshot.status is RunStatus.FAILED
    assert "no blueprint 'nothing' is published" in snapshot.failures[0].message


def test_a_child_s_own_outputs_are_its_result(environment: Make) -> None:
    child = CHILD + "outputs: {once: first, twice: second, own: _own.first, exact: _outputs.second, none: nothing}\n"
    calls = "id: calls\nnodes: {start: {uses: echo, inputs: n, next: one}, one: {call: child}}\noutputs: {one: one}"
    env = environment(handlers=HANDLERS, blueprints=[PARENT, child, calls])
    expected = {"once": 2, "twice": 4, "own": 2, "exact": 4, "none": None}
    assert env.client.start("parent", {"numbers": [1]}).result(timeout=60) == {"all": [expected]}
    assert env.client.start("calls", {"n": 1}).result(timeout=60) == {"one": expected}
