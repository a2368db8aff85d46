"""A child's `inputs`: enforced, and its defaults filled in, when a subflow node starts it."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import Client, RunStatus
from flowcraft_server.testing import TestEnvironment

Environments = Callable[..., TestEnvironment]

CHILD = """
inputs:
  amount: integer
  tone: {type: string, default: calm}
  mode: {enum: [fast, slow], required: false}
  free: any
outputs: {misfit: say}
nodes:
  say: {uses: echo, inputs: {amount: amount, tone: tone, mode: mode, free: free}}
"""
PARENT = "nodes:\n  sub: {call: child, inputs: {amount: a, tone: t, mode: m, free: f}}\n  end: {uses: echo, inputs: sub, needs: sub}\n"
UNMAPPED = "nodes:\n  first: {uses: echo, inputs: a}\n  sub: {call: child, needs: first}\n"
EASY = (
    "inputs: {tone: {type: string, default: calm}}\nnodes:\n  say: {uses: echo}\n  report: {uses: echo, inputs: tone}\n"
)
UNMAPPED_EASY = "nodes:\n  first: {uses: echo, inputs: a}\n  sub: {call: easy, needs: first}\n"
CAUGHT = """
nodes:
  sub: {call: child, inputs: {amount: a}, config: {fallback: rescue}}
  rescue: {uses: reported}
"""
PARTS = "nodes:\n  sub: {call: child, inputs: {amount: order.amount, tone: order.tone, free: order.lines.0.free}}\n"
ITEMS = "nodes:\n  all: {uses: map, inputs: orders, params: {call: easy, inputs: {tone: item.tone}, outputs: {tone: report}}}\n"
BLUEPRINTS = {
    "parts": PARTS, "items": ITEMS, "child": CHILD, "parent": PARENT, "unmapped": UNMAPPED, "easy": EASY, "unmapped-easy": UNMAPPED_EASY,
    "caught": CAUGHT,
}  # fmt: skip


@pytest.fixture
def env(environment: Environments) -> TestEnvironment:
    reported = lambda ctx: ctx.context.get("_catch_error")["message"]  # noqa: E731
    return environment(blueprints=BLUEPRINTS, handlers={"echo": lambda ctx: ctx.input, "reported": reported})


def test_defaults_are_filled_in(env: TestEnvironment) -> None:
    result = env.client.execute("parent", {"a": 3, "f": None}, timeout=60)
    assert result["end"] == {"misfit": {"amount": 3, "tone": "calm", "mode": None, "free": None}}


def test_what_is_given_counts_before_a_default(env: TestEnvironment) -> None:
    result = env.client.execute("parent", {"a": 3, "t": "loud", "m": "fast", "f": [1]}, timeout=60)
    assert result["end"] == {"misfit": {"amount": 3, "tone": "loud", "mode": "fast", "free": [1]}}


def test_a_part_that_is_not_there_is_not_handed_over(env: TestEnvironment) -> None:
    result = env.client.execute("parts", {"order": {"amount": 3, "lines": [{"free": None}]}}, timeout=60)
    assert result["sub"]["misfit"] == {"amount": 3, "tone": "calm", "mode": None, "free": None}
    failed = env.client.start("parts", {"order": {"lines": []}}).wait(timeout=60).failures[0].message
    assert "amount: is missing, expected integer (from 'order.amount'); free: is missing" in failed
    found = env.client.execute("items", {"orders": [{"tone": "loud"}, {}]}, timeout=60)["all"]
    assert found == ["loud", "calm"]


@pytest.mark.parametrize(
    ("context", "misfit"),
    [
        ({"a": "3", "f": 1}, "amount: expected integer, got \"3\" (from 'a')"),
        ({"a": True, "f": 1}, "amount: expected integer, got true (from 'a')"),
        ({"f": 1}, "amount: is missing, expected integer (from 'a')"),
        ({"a": 3}, "free: is missing (from 'f')"),
        ({"a": 3, "f": 1, "t": None}, "tone: expected string, got null (from 't')"),
        ({"a": 3, "f": 1, "m": "quick"}, 'mode: expected "fast" or "slow", got "quick" (from \'m\')'),
        (
            {"a": 3.5, "t": 1, "f": 1},
            "amount: expected integer, got 3.5 (from 'a'); tone: expected string, got 1 (from 't')",
        ),
    ],
)
def test_a_misfit_fails_the_node_and_starts_no_child(
    env: TestEnvironment, context: dict[str, Any], misfit: str
) -> None:
    snapshot = env.client.start("parent", context).wait(timeout=60)
    assert (snapshot.status, snapshot.children) == (RunStatus.FAILED, ())
    (failure,) = snapshot.failures
    assert (failure.node_id, failure.type) == ("sub", "InvalidNodeInput")
    assert failure.details["blueprint_id"] == "child"
    assert {error["loc"][0] for error in failure.details["errors"]} == set(re.findall(r"(?:^|; )(\w+): ", misfit))
    assert failure.message == f"subflow 'sub' does not fit the inputs of blueprint 'child': {misfit}"


def test_without_a_mapping_the_named_inputs_are_not_there(env: TestEnvironment) -> None:
    snapshot = env.client.start("unmapped", {"a": 3}).wait(timeout=60)
    assert "amount: is missing, expected integer; free: is missing" in snapshot.failures[0].message
    assert env.client.execute("unmapped-easy", {"a": 3}, timeout=60)["sub"] == {"say": 3, "report": "calm"}


def test_a_misfit_may_be_caught(env: TestEnvironment) -> None:
    result = env.client.execute("caught", {"a": "x"}, timeout=60)
    assert result["rescue"].endswith("amount: expected integer, got \"x\" (from 'a'); free: is missing")


def test_a_client_goes_by_the_contract_that_is_published_when_it_starts(env: TestEnvironment) -> None:
    assert env.client.execute("easy", timeout=60)["report"] == "calm"
    env.publish({"easy": EASY.replace("calm", "loud")})
    assert env.client.execute("easy", timeout=60)["report"] == "loud"
    env.publish({"easy": "inputs: {amount: integer}\nnodes:\n  say: {uses: echo, inputs: amount}\n"})
    with pytest.raises(ValueError, match="amount"):
        env.client.start("easy")
    assert env.client.execute("easy", {"amount": 3}, timeout=10)["say"] == 3
    env.publish({"easy": EASY})
    assert env.client.execute("easy", timeout=60)["report"] == "calm"


def test_a_run_that_another_client_started_by_a_newer_contract_is_attached_to(env: TestEnvironment) -> None:
    env.client.execute("easy", timeout=60)
    env.publish({"easy": EASY.replace("calm", "loud")})
    with Client(env.url, namespace=env.namespace) as other:
        other.start("easy", run_id="same")
    handle = env.client.start("easy", run_id="same")
    assert handle.attached
    assert handle.result(timeout=60)["report"] == "loud"


def test_a_subflow_goes_by_the_contract_that_is_published_when_its_child_starts(env: TestEnvironment) -> None:
    """The worker remembers what it last met: it is notified of a newer one, and does not refuse what that one takes."""
    assert env.client.execute("unmapped-easy", {"a": 3}, timeout=60)["sub"] == {"say": 3, "report": "calm"}
    env.publish({"easy": EASY.replace("calm", "loud")})
    assert env.client.execute("unmapped-easy", {"a": 3}, timeout=60)["sub"] == {"say": 3, "report": "loud"}
    env.publish({"easy": "inputs: {amount: integer}\nnodes:\n  say: {uses: echo, inputs: amount}\n"})
    snapshot = env.client.start("unmapped-easy", {"a": 3}).wait(timeout=60)
    assert (snapshot.status, snapshot.children) == (RunStatus.FAILED, ())
    assert "amount: is missing" in snapshot.failures[0].message
    env.publish({"easy": EASY})
    assert env.client.execute("unmapped-easy", {"a": 3}, timeout=60)["sub"] == {"say": 3, "report": "calm"}


RETURNING = """
outputs: {parcel: box.lid, box: open, whole: box, open: open}
nodes:
  box: {uses: echo, inputs: {lid: a, deep: a}}
  open: {uses: echo, inputs: a}
"""
MAPPING = """
nodes:
  one: {call: returning, inputs: {a: a}, outputs: {parcel: parcel, colour: parcel.colour}}
  two: {call: returning, inputs: {a: a}, outputs: {declared: box, inside: whole.deep.size, node: open.size}}
  each: {uses: map, inputs: list, params: {call: returning, inputs: {a: item}, outputs: {parcel: parcel}}}
"""


def test_a_mapping_names_the_outputs_that_the_child_declares(environment: Environments) -> None:
    env = environment(blueprints={"returning": RETURNING, "mapping": MAPPING}, handlers={"echo": lambda ctx: ctx.input})
    parcel = {"colour": "red", "size": 3}
    result = env.client.execute("mapping", {"a": parcel, "list": [1, 2]}, timeout=60)
    assert result["one"] == {"parcel": parcel, "colour": "red"}
    assert result["two"] == {"declared": parcel, "inside": 3, "node": 3}, "what is declared comes before nodes and keys"
    assert result["each"] == [1, 2]
    assert result["parcel"] == parcel, "it is in the parent's context"
