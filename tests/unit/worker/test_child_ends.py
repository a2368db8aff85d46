"""What a worker knows of a child run that it has completed itself."""

from typing import Any

import pytest

from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import NO_CLAIM
from flowcraft_server.engine.attempt import Attempt, ChildEnd
from flowcraft_server.engine.claims import parse_claim
from flowcraft_server.engine.subflows import _read_child
from flowcraft_server.worker.outcome_recorder import _child_end

KEYS = Keys("test")


def attempt_at(run_id: str, instance_id: str, attached: bytes | None = None) -> Attempt:
    claim = parse_claim(
        [run_id.encode(), instance_id.encode(), b"plan", b"b", b"1", b"1:5", b"0", b"", 0, attached, None, 0]
    )
    missing: Any = None
    return Attempt(claim, (run_id, instance_id), missing, missing, missing, None, None, {}, None)


def completed(state: str = "C") -> ScriptCall:
    return scripts.complete(
        KEYS, NO_CLAIM, run_id="r~1", instance_id="n", fencing_token="1:5", plan="plan", state=state, action="",
        decisions="", output=b"[1]",
    )  # fmt: skip


def test_the_output_is_known_of_the_node_that_has_completed_the_child() -> None:
    parent = attempt_at("r", "s", b'["child","r~1","completed"]')
    assert _child_end(attempt_at("r~1", "n"), completed(), parent) == ChildEnd("plan", "o:n", b"[1]")


def test_nothing_else_is_to_be_read_then() -> None:
    parent = attempt_at("r", "s", b'["child","r~1","completed"]')
    parent.child_end = ChildEnd("plan", "o:n", b"[1]")
    no_engine: Any = None
    assert _read_child(no_engine, parent, "r~1", ["o:n"]) == ("plan", {"o:n": b"[1]"})


@pytest.mark.parametrize("attached", [b'["child","r~2","completed"]', b'["child","r~1","failed"]', b'["timer"]'])
def test_nothing_is_known_of_another_child_or_outcome(attached: bytes) -> None:
    assert _child_end(attempt_at("r~1", "n"), completed(), attempt_at("r", "s", attached)) is None


def test_the_output_of_a_fallback_or_an_item_is_not_its_node_s() -> None:
    parent = attempt_at("r", "s", b'["child","r~1","completed"]')
    assert _child_end(attempt_at("r~1", "n"), completed("K"), parent) is None
    assert _child_end(attempt_at("r~1", "n[3]"), completed(), parent) is None
    failed = scripts.fail(KEYS, NO_CLAIM, run_id="r~1", instance_id="n", fencing_token="1:5", verdict="final")
    assert _child_end(attempt_at("r~1", "n"), failed, parent) is None
