"""Literals and expressions where a path may stand, durations and times where data says them."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, NodeContext, RunFailedError, RunStatus
from flowcraft_server.testing import TestEnvironment
from tests.engine.leaks import leaked_keys

SOURCES = """
inputs: {order: object, rate: {type: number, default: 1.2}}
outputs:
  given: given
  sum: "= given.total + 1"
  fixed: {value: {a: [1, "= no expression"]}}
  recovered: "= failing + '!'"
  own: "= _own.failing"
nodes:
  given:
    uses: echo
    inputs:
      limit: {value: 5}
      nothing: {value: null}
      total: "= order.total * rate"
      named: "= context['order'].name ?? 'none'"
      absent: "= no.such + 1"
      name: order.name
  whole: {uses: echo, inputs: "= [given.limit, _outputs.given.total]", needs: given}
  failing: {uses: fails, config: {fallback: rescue}, needs: whole}
  rescue: {uses: ok}
  last: {uses: echo, inputs: {said: "= upper(failing)"}, needs: failing}
"""
CALLED = """
inputs: {amount: number, kind: string}
outputs: {doubled: "= twice * 1", same: kind}
nodes:
  twice: {uses: echo, inputs: "= amount * 2"}
"""
CALLS = """
nodes:
  sub:
    call: called
    inputs: {amount: "= price + 1", kind: {value: plain}}
    outputs: {both: "= same + str(doubled)", inner: twice, fixed: {value: 7}}
  each:
    uses: map
    inputs: prices
    params:
      call: called
      inputs: {amount: "= item.price + index", kind: {value: item}}
      outputs: {result: "= doubled"}
    needs: sub
outputs: {sub: sub, both: both, each: each, fixed: fixed}
"""
WRONG = "nodes:\n  sub: {call: called, inputs: {amount: '= price', kind: {value: plain}}}\n"
SLEEP = """
nodes:
  nap: {uses: sleep, inputs: value, params: {PARAM: "= EXPR"}}
outputs: {nap: nap}
"""
TIMEOUT = 'nodes:\n  slow: {uses: hangs, inputs: value, config: {timeout: "= EXPR"}}\noutputs: {slow: slow}\n'
ITEMS = """
nodes:
  each: {uses: map, inputs: items, params: {uses: hangs}, config: {timeout: "= item.sla"}}
outputs: {each: each}
"""
SUBFLOW = """
nodes:
  sub: {call: waits, inputs: {until: until}, config: {timeout: "= sla"}}
outputs: {sub: sub}
"""
WAITS = "nodes:\n  answer: {uses: wait, params: {until: '= until', onTimeout: late}, next: {late: done}}\n  done: {uses: ok}\n"
RETRY = 'nodes:\n  flaky: {uses: flaky, config: {maxRetries: 2, retryDelay: {initial: "= pause", factor: 2}}}\n'


async def hangs(ctx: AsyncNodeContext) -> Any:
    """Comes back at once unless it is told not to."""
    if isinstance(ctx.input, dict) and ctx.input.get("hang"):
        await asyncio.Event().wait()
    return "done"


def fails(ctx: NodeContext) -> Any:
    raise RuntimeError("no")


def flaky(ctx: NodeContext) -> Any:
    if ctx.attempt == 1:
        raise RuntimeError("once")
    return ctx.attempt


def sleeps(param: str, expression: str) -> str:
    return SLEEP.replace("PARAM", param).replace("EXPR", expression)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    blueprints = {
        "sources": SOURCES, "called": CALLED, "calls": CALLS, "wrong": WRONG, "retry": RETRY, "items": ITEMS,
        "for": sleeps("for", "input.delay"), "duration": sleeps("duration", "value.minutes * 1m"),
        "until": sleeps("until", "meeting.start - 10m"), "timeout": TIMEOUT.replace("EXPR", "sla"),
        "subflow": SUBFLOW, "waits": WAITS, "asked": WAITS,
        "timed": WAITS.replace("until: '= until'", "timeout: '= limit'"),
    }  # fmt: skip
    handlers: dict[str, Callable[..., Any]] = {
        "echo": lambda ctx: ctx.input, "ok": lambda ctx: "ok", "hangs": hangs, "fails": fails, "flaky": flaky,
    }  # fmt: skip
    with TestEnvironment(blueprints=blueprints, handlers=handlers, check=False) as env:
        yield env
        assert not leaked_keys(env)


def result(env: TestEnvironment, blueprint: str, context: dict[str, Any]) -> Any:
    return env.client.execute(blueprint, context, timeout=60)


def failure(env: TestEnvironment, blueprint: str, context: dict[str, Any]) -> str:
    with pytest.raises(RunFailedError) as raised:
        result(env, blueprint, context)
    first = raised.value.failures[0]
    return f"{first.type}: {first.message}"


def test_literals_and_expressions_stand_where_a_path_may(env: TestEnvironment) -> None:
    found = result(env, "sources", {"order": {"total": 10, "name": "Ada"}})
    assert found["given"] == {
        "limit": 5, "nothing": None, "total": 12.0, "named": "Ada", "absent": None, "name": "Ada",
    }  # fmt: skip
    assert found["sum"] == 13.0
    assert found["fixed"] == {"a": [1, "= no expression"]}
    assert (found["recovered"], found["own"]) == ("ok!", None)
    whole = env.client.execute("sources", {"order": {"total": 10}}, timeout=60)
    assert whole["given"]["named"] == "none"


def test_what_a_fallback_put_out_stands_for_the_node_in_expressions(env: TestEnvironment) -> None:
    handle = env.client.start("sources", {"order": {"total": 1}})
    handle.wait(timeout=60)
    outputs = handle.describe(outputs=True).nodes
    assert outputs["last"].output == {"said": "OK"}
    assert outputs["whole"].output == [5, 1.2]


def test_subflows_are_given_and_give_expressions_and_literals(env: TestEnvironment) -> None:
    found = result(env, "calls", {"price": 4, "prices": [{"price": 1}, {"price": 2}]})
    assert found["sub"] == {"both": "plain10", "inner": 10, "fixed": 7}
    assert (found["both"], found["fixed"]) == ("plain10", 7)
    assert found["each"] == [2, 6]
    assert "amount: expected number" in failure(env, "wrong", {"price": "four"})


@pytest.mark.parametrize(
    ("blueprint", "context"),
    [
        ("for", {"value": {"delay": "20ms"}}),
        ("for", {"value": {"delay": timedelta(milliseconds=5)}}),
        ("duration", {"value": {"minutes": 0.0005}}),
        ("until", {"meeting": {"start": "2020-01-01T09:00:00Z"}, "value": 1}),
        ("until", {"meeting": {"start": datetime(2020, 1, 1, tzinfo=UTC)}, "value": 1}),
    ],
)
def test_a_sleep_takes_its_end_from_data(env: TestEnvironment, blueprint: str, context: dict[str, Any]) -> None:
    assert result(env, blueprint, context) == {"nap": context["value"]}


def test_a_sleep_until_a_time_ends_at_that_time(env: TestEnvironment) -> None:
    start = env.clock.now() + timedelta(hours=3)
    handle = env.client.start("until", {"meeting": {"start": start.isoformat()}, "value": 2})
    handle.wait_for(RunStatus.WAITING, timeout=60)
    env.clock.advance(2 * 3600)
    assert handle.describe().nodes["nap"].status == "waiting"
    env.clock.advance(3600)
    assert handle.result(timeout=60) == {"nap": 2}


@pytest.mark.parametrize(
    ("blueprint", "context", "words"),
    [
        ("for", {"value": {}}, ["params.for of node 'nap'", "'= input.delay'", "got null"]),
        ("for", {"value": {"delay": 5}}, ["with a unit", "number 5", "* 1s"]),
        ("for", {"value": {"delay": "soon"}}, ["expected a duration", "'soon'"]),
        ("for", {"value": {"delay": timedelta(seconds=-1)}}, ["0 or more", "-1s"]),
        ("duration", {"value": {"minutes": "two"}}, ["params.duration", "value.minutes * 1m", "got null"]),
        ("until", {"meeting": {"start": "2020-01-01T09:00:00"}}, ["params.until", "got null"]),
        ("until", {"meeting": {"start": "9999-01-01T09:00:00Z"}}, ["100 years"]),
        ("timeout", {"sla": "never"}, ["config.timeout of node 'slow'", "'= sla'", "'never'"]),
        ("timeout", {"sla": "0s"}, ["config.timeout", "longer than 0"]),
        ("timeout", {}, ["config.timeout", "got null"]),
        ("retry", {"pause": 5}, ["config.retryDelay", "'= pause'", "with a unit"]),
        ("subflow", {"sla": 5}, ["config.timeout of node 'sub'", "with a unit"]),
        ("timed", {"limit": {"value": 30}}, ["params.timeout of node 'answer'", "'= limit'", "expected a duration"]),
        ("asked", {"until": "tomorrow"}, ["params.until of node 'answer'", "with its zone", "'tomorrow'"]),
    ],
)
def test_what_is_no_duration_fails_the_node(
    env: TestEnvironment, blueprint: str, context: dict[str, Any], words: list[str]
) -> None:
    message = failure(env, blueprint, context)
    assert "InvalidDuration" in message
    assert [word for word in words if word not in message] == [], message


def test_a_timeout_from_data_ends_an_attempt(env: TestEnvironment) -> None:
    assert result(env, "timeout", {"sla": "5s", "value": 1}) == {"slow": "done"}
    assert "longer than its timeout of 0.05 s" in failure(env, "timeout", {"sla": "50ms", "value": {"hang": True}})


def test_each_item_of_a_map_has_its_own_timeout(env: TestEnvironment) -> None:
    assert result(env, "items", {"items": [{"sla": "5s"}, {"sla": "6s"}]}) == {"each": ["done", "done"]}
    items = [{"sla": "30s"}, {"sla": "50ms", "hang": True}]
    assert "each[1]' took longer than its timeout of 0.05 s" in failure(env, "items", {"items": items})


def test_a_timeout_from_data_ends_a_child_run(env: TestEnvironment) -> None:
    until = env.clock.now() + timedelta(hours=100)
    handle = env.client.start("subflow", {"sla": "2h", "until": until.isoformat()})
    handle.wait_for(RunStatus.WAITING, timeout=60)
    env.clock.advance(3 * 3600)
    assert handle.wait(timeout=60).status is RunStatus.FAILED
    assert "timed out" in handle.describe().failures[0].message


def test_a_wait_ends_at_a_time_from_data(env: TestEnvironment) -> None:
    assert env.client.execute("asked", {"until": "2020-01-01T09:00:00+02:00"}, timeout=60)["done"] == "ok"


def test_a_wait_takes_its_timeout_from_data(env: TestEnvironment) -> None:
    assert env.client.execute("timed", {"limit": "10ms"}, timeout=60)["done"] == "ok"


def test_the_pause_before_a_further_attempt_comes_from_data(env: TestEnvironment) -> None:
    handle = env.client.start("retry", {"pause": "1h"})
    assert env.clock.advance_to_next_timer() > timedelta(minutes=59)
    assert handle.wait(timeout=60).status is RunStatus.COMPLETED
