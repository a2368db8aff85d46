"""Random programs that fail at a random call and are done again: the result is as if nothing had happened, and no node runs twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcraft_sdk import FAILED, NodeContext, NonRetryableError, RerunRefusedError, RunStateError, RunStatus
from flowcraft_server.testing import TestEnvironment
from tests.engine.compositions.constructs import Tree
from tests.engine.compositions.program import Seen
from tests.engine.compositions.test_compositions import BY_NAME, PROGRAMS, RANDOM, TIMEOUT, TREES, Program, drive
from tests.engine.leaks import leaked_keys

done: Seen = Counter()
"""How often each node has returned."""
begun = [0]
fails_at = [0]


def counted(handler: Callable[[NodeContext], Any], ctx: NodeContext) -> Any:
    """A handler whose returns are counted, and that fails for good at one call of the run."""
    begun[0] += 1
    if begun[0] == fails_at[0]:
        raise NonRetryableError("as asked for")
    result = handler(ctx)
    done[ctx.params.get("label", ctx.node_id)] += 1
    return result


HANDLERS = {name: partial(counted, handler) for name, handler in BY_NAME.items()}


@pytest.fixture(scope="module")
def env() -> Iterator[TestEnvironment]:
    with TestEnvironment(handlers=HANDLERS, workers=2, check=False) as made:
        yield made
        assert not leaked_keys(made)


def without_errors(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the failures of collected items, which hold times."""
    return {key: value for key, value in result.items() if not isinstance(value, list)}


def forget(at: int = 0) -> None:
    begun[0], fails_at[0] = 0, at
    done.clear()


@given(tree=TREES, start=st.integers(0, 9), policy=st.sampled_from(["stop", "continue"]), data=st.data())
@settings(RANDOM, max_examples=PROGRAMS)
def test_a_program_that_is_done_again(
    env: TestEnvironment, tree: Tree, start: int, policy: str, data: st.DataObject
) -> None:
    program = Program(env, tree, policy)
    forget()
    undisturbed = program.run(start)
    expected, result = Counter(done), undisturbed.result(TIMEOUT)
    forget(data.draw(st.integers(1, begun[0])))
    failed = env.client.start(program.name, {"start": start})
    drive(env, failed)
    at = fails_at[0]
    fails_at[0] = 0
    if failed.status() is not RunStatus.FAILED:
        return  # it was caught
    try:
        again = failed.rerun(FAILED)
    except RunStateError as refused:
        assert policy == "continue" and "in an earlier round of a loop" in str(refused), program.description
        return  # it failed in a branch of a loop that nothing follows, and the loop went round
    except RerunRefusedError as refused:
        assert policy == "continue" and "give it in ctx_patch" in str(refused), f"{refused} {at}\n{program.description}"
        return  # a loop ran although a node before it had failed, and begins anew
    drive(env, again)
    snapshot = again.describe()
    assert snapshot.status is RunStatus.COMPLETED, f"{at}: {snapshot.failures}\n{program.description}"
    assert without_errors(again.result(TIMEOUT)) == without_errors(result), f"{at}\n{program.description}"
    twice = done - expected
    assert not expected - done, f"{at}: {expected - done}\n{program.description}"
    if policy == "stop":
        assert not twice, f"{at}: {twice}\n{program.description}"
    else:  # what ran although something before it had failed runs again, and nothing that was taken over
        assert not {node for node in twice if node in snapshot.nodes and snapshot.nodes[node].taken_over}
