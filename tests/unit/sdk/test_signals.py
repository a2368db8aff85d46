"""The steps of a signal, without Redis."""

from typing import Any

import pytest

from flowcraft_sdk import BackendUnavailableError, InvalidInputError, NotWaitingError
from flowcraft_sdk._operations.deployment import Deployment
from flowcraft_sdk._operations.signals import signal
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.partitions import Partitions
from flowcraft_sdk.protocol.script_call import ScriptCall

DOC = {
    "id": "b",
    "nodes": [{"id": "w", "uses": "wait", "params": {}}],
    "edges": [{"source": "w", "target": "x", "action": "go"}],
}
FOUND = [b"found", b"w", b"r", b"w", b"h", b"{}"]


def steps(*replies: Any, action: str | None = "go", signal_id: str | None = None) -> tuple[list[ScriptCall], Any]:
    """The script calls of an operation that gets these replies, and its value."""
    deployment = Deployment(Keys("n"), 1.0, 1000, partitions=Partitions("n"), plan_documents={"h": DOC})
    operation = signal(deployment, "r", "w", 1, action, signal_id, False)
    sent = [next(operation)]
    try:
        for reply in replies:
            sent.append(operation.send(reply))
    except StopIteration as end:
        return sent, end.value  # type: ignore[return-value]
    raise AssertionError("there are more steps")


def test_the_id_is_made_up_once_so_that_a_call_that_is_sent_again_is_the_same() -> None:
    (find, send), path = steps(FOUND, [b"ok", b"w"])
    assert path == "w"
    assert find.args[2] == send.args[2]
    (_, other), _ = steps(FOUND, [b"ok", b"w"])
    assert other.args[2] != send.args[2]


def test_a_reply_that_says_it_was_applied_before_is_a_success() -> None:
    assert steps(FOUND, [b"duplicate", b"w"], signal_id="s")[1] == "w"
    sent, path = steps([b"duplicate", b"w"], signal_id="s")
    assert (len(sent), path) == (1, "w")


def test_somebody_was_faster_between_the_two_calls() -> None:
    with pytest.raises(NotWaitingError) as caught:
        steps(FOUND, [b"not-waiting", b"running"])
    assert (caught.value.status, caught.value.waiting) == ("running", ())


@pytest.mark.parametrize("action", ["stop", None])
def test_an_action_that_no_edge_takes_is_not_sent(action: str | None) -> None:
    with pytest.raises(InvalidInputError, match='expected "go"'):
        steps(FOUND, action=action)


def test_that_redis_is_away_is_the_callers_to_know() -> None:
    operation = signal(Deployment(Keys("n"), 1.0, 1000, partitions=Partitions("n")), "r", "w", 1, None, None, False)
    next(operation)
    with pytest.raises(BackendUnavailableError):
        operation.throw(BackendUnavailableError("away"))
