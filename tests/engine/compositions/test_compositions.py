"""Random programs on the real engine: the result, and how often each handler is called, are as worked out beside it."""

import os
from collections import Counter
from collections.abc import Iterator
from itertools import count as counted
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowcraft_sdk import NodeContext, NodeResult, NotWaitingError, RunStatus
from flowcraft_server.testing import TestEnvironment
from tests.conformance.redelivery import Unreliable
from tests.engine.accounts import disagreements
from tests.engine.compositions.constructs import Tree, build, item_result, spread_out
from tests.engine.compositions.failing import ProgramFails, fails
from tests.engine.compositions.program import ANSWER, Deployment, Seen, digest
from tests.engine.leaks import leaked_keys

PROGRAMS = int(os.environ.get("FLOWCRAFT_PROGRAMS", "80"))
TIMEOUT = 60.0
NUMBERS = counted()
called: Seen = Counter()
current = [""]
"""The root run whose calls are counted: a worker that lost a node may begin its handler when the next run is already on."""


def note(ctx: NodeContext, name: str) -> None:
    if ctx.run_id.partition("~")[0] == current[0]:
        called[name] += 1


def step(ctx: NodeContext) -> int:
    note(ctx, ctx.node_id)
    return digest(ctx.node_id, ctx.input)


def won(ctx: NodeContext) -> int:
    note(ctx, ctx.node_id)
    return digest(ctx.node_id, None)


def route(ctx: NodeContext) -> NodeResult:
    value = step(ctx)
    return NodeResult(value, "odd" if value % 2 else "even")


def flaky(ctx: NodeContext) -> int:
    value = step(ctx)
    if ctx.attempt < ctx.params["attempts"]:
        raise OSError("not yet")
    return value


def risky(ctx: NodeContext) -> int:
    value = step(ctx)
    if ctx.input % 2:
        raise ValueError("odd")
    return value


def begin(ctx: NodeContext) -> Any:
    note(ctx, ctx.node_id)
    ctx.context.set(ctx.params["key"] + "_n", 0)
    ctx.context.set(ctx.params["key"], ctx.input)
    return ctx.input


def head(ctx: NodeContext) -> Any:
    note(ctx, ctx.node_id)
    name = ctx.params["key"] + "_n"
    ctx.context.set(name, ctx.context.get(name) + 1)
    return ctx.context.get(ctx.params["key"])


def count(ctx: NodeContext) -> int:
    name = ctx.params["key"] + "_n"
    ctx.context.set(name, ctx.context.get(name) + 1)
    return step(ctx)


def keep(ctx: NodeContext) -> None:
    note(ctx, ctx.node_id)
    ctx.context.set(ctx.params["key"], ctx.input)


def kept(ctx: NodeContext) -> int:
    note(ctx, ctx.node_id)
    return digest(ctx.node_id, ctx.context.get(ctx.params["key"]))


def spread(ctx: NodeContext) -> list[int]:
    return spread_out(step(ctx), ctx.params["count"])


def perhaps(ctx: NodeContext) -> int:
    value = step(ctx)
    if fails(value):
        raise ValueError("perhaps not")
    return value


def item(ctx: NodeContext) -> int | None:
    label, errors = ctx.params["label"], ctx.params["errors"]
    note(ctx, label)
    if ctx.input % 3 == 1 and (errors != "retry" or ctx.attempt == 1):
        raise ValueError("no such item")
    return item_result(label, ctx.input)


def fold(ctx: NodeContext) -> int:
    note(ctx, ctx.node_id)
    results = ctx.input if isinstance(ctx.input, list) else [ctx.input]
    return digest(ctx.node_id, ["failed" if isinstance(each, dict) else each for each in results])


HANDLERS = (step, won, route, flaky, risky, begin, head, count, keep, kept, spread, perhaps, item, fold)


def around(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    """All constructs that hold others."""
    some = st.integers(0, 3)
    return st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: ("sequence", *parts)),
        st.tuples(
            st.just("choice"),
            st.sampled_from(["action", "condition", "default"]),
            st.sampled_from(["all", "any"]),
            inner,
            st.none() | inner,
        ),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: ("parallel", *parts)),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: ("race", *parts)),
        st.tuples(st.just("aside"), inner),
        st.tuples(st.just("rounds"), some, inner),
        st.tuples(st.just("cycle"), some.map(lambda number: number + 1), inner),
        st.tuples(st.just("guarded"), st.none() | inner),
        st.tuples(st.just("subflow"), st.booleans(), inner),
        st.tuples(st.just("each"), st.integers(0, 3), st.integers(1, 3), inner),
    )


LEAVES: st.SearchStrategy[Tree] = st.one_of(
    st.just(("step",)),
    st.tuples(st.just("flaky"), st.integers(1, 3)),
    st.tuples(
        st.just("batch"),
        st.sampled_from(["map", "pair"]),
        st.integers(0, 4),
        st.integers(1, 3),
        st.sampled_from(["collect", "retry"]),
    ),
    st.just(("guarded", None)),
    st.just(("sleep",)),
    st.just(("wait",)),
)
FAILING: st.SearchStrategy[Tree] = st.one_of(
    LEAVES,
    st.just(("perhaps",)),
    st.tuples(
        st.just("all_or_nothing"), st.sampled_from(["map", "pair", "caught"]), st.integers(0, 4), st.integers(1, 3)
    ),
)
TREES = st.recursive(LEAVES, around, max_leaves=18)
FAILING_TREES = st.recursive(FAILING, lambda inner: around(inner) | st.tuples(st.just("rescued"), inner), max_leaves=14)


BY_NAME = {handler.__name__: handler for handler in HANDLERS}
FUZZING = "FLOWCRAFT_PROGRAMS" in os.environ
# The same programs each time, so that a change is judged by what it changes, and reported as they are: looking for smaller
# ones takes minutes. With FLOWCRAFT_PROGRAMS (`make fuzz`) new ones.
RANDOM = settings(
    max_examples=PROGRAMS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not FUZZING,
    phases=tuple(Phase) if FUZZING else (Phase.explicit, Phase.generate),
)


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(handlers=BY_NAME, workers=2, check=False) as made:
        yield made
        assert not leaked_keys(made)


@pytest.fixture
def troubled() -> Iterator[TestEnvironment]:
    """One whose workers lose leases, replies and messages. For one test: an `env` that were opened beside it would lose
    replies as well, and wait for leases of ordinary length each time."""
    with (
        Unreliable() as trouble,
        TestEnvironment(handlers=BY_NAME, workers=2, settings=trouble.settings, check=False) as made,
    ):
        trouble.begin(made)
        yield made
        trouble.end()
        assert trouble.made["lost replies"] and trouble.made["expired leases"], trouble.made
        assert not leaked_keys(made)


@given(tree=TREES, start=st.integers(0, 9))
@RANDOM
def test_a_program_comes_to_what_it_means(env: TestEnvironment, tree: Tree, start: int) -> None:
    calls, expected = run(env, tree, start)
    assert calls == expected, tree


@given(tree=TREES, start=st.integers(0, 9))
@settings(RANDOM, max_examples=PROGRAMS // 8)
def test_so_it_does_when_work_is_delivered_again(troubled: TestEnvironment, tree: Tree, start: int) -> None:
    """A handler may be called more often then; what it does is recorded once, and no other handler is called."""
    calls, expected = run(troubled, tree, start)
    assert calls.keys() == expected.keys(), tree
    assert calls >= expected, tree


@given(tree=FAILING_TREES, start=st.integers(0, 9), policy=st.sampled_from(["stop", "continue"]))
@RANDOM
def test_a_program_that_fails_ends(env: TestEnvironment, tree: Tree, start: int, policy: str) -> None:
    """Whatever else it does at that moment; what was caught has no part in it."""
    program = Program(env, tree, policy)
    try:
        expected = program.meaning(start, Counter())
    except ProgramFails:
        expected = None
    handle = program.run(start)
    if expected is None:
        assert handle.status() is RunStatus.FAILED, program.description
    else:
        program.check(handle, expected)


def run(env: TestEnvironment, tree: Tree, start: int) -> tuple[Seen, Seen]:
    """Run a program and check its result. How often handlers were called, and how often they had to be."""
    program = Program(env, tree)
    expected: Seen = Counter()
    result = program.meaning(start, expected)
    program.check(program.run(start), result)
    return Counter(called), +expected


class Program:
    """A program that is published."""

    def __init__(self, env: TestEnvironment, tree: Tree, policy: str = "stop") -> None:
        self.env = env
        deployment = Deployment(f"program{next(NUMBERS)}")
        sheet = deployment.sheet()
        _, self.meaning = build(sheet, ("sequence", ("step",), tree, ("step",)), None)
        sheet.nodes[0]["inputs"] = "start"
        sheet.finish(deployment.name)
        self.name, self.last = deployment.name, sheet.nodes[-1]["id"]
        blueprints = [{**blueprint, "onFailure": policy} for blueprint in deployment.finished]
        self.description = f"{tree}\n{blueprints}"
        env.publish(blueprints)

    def run(self, start: int) -> Any:
        """The handle of a run that has ended."""
        called.clear()
        current[0] = self.name
        handle = self.env.client.start(self.name, {"start": start}, run_id=self.name)
        drive(self.env, handle)
        differing = disagreements(handle)
        assert not differing, f"{differing}\n{self.description}"
        return handle

    def check(self, handle: Any, result: Any) -> None:
        """It completed with this result."""
        assert handle.status() is RunStatus.COMPLETED, f"{handle.describe().failures}\n{self.description}"
        assert handle.result(timeout=TIMEOUT)[self.last] == result, self.description


def drive(env: TestEnvironment, handle: Any) -> None:
    """Answer what waits, and let the hours pass, until the run has ended."""
    for _ in range(500):
        env.run_until_idle(TIMEOUT)
        snapshot = handle.describe()
        if snapshot.status.is_terminal:
            return
        for point in snapshot.waiting:
            if "wait" in point.node_id.rpartition("/")[2]:
                try:
                    handle.signal(point.node_id, ANSWER)
                except NotWaitingError:
                    continue  # what was read a moment ago may have gone on since
        env.clock.advance(3600.0)
    raise AssertionError(f"the run does not end: {handle.describe()}")
