"""Which child runs an address opens, and what it is once one is opened or closed."""

from flowcraft_sdk import NodeSnapshot, NodeStatus, RunSnapshot, RunStatus
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_server.ui.opened import MOST_OPENED, openable
from flowcraft_server.ui.run_page import toggled


def test_opening_and_closing() -> None:
    assert toggled([], "call") == ["call"]
    assert toggled(["call", "call/inner", "call_2"], "call") == ["call_2"]
    assert toggled(["call"], "call/inner") == ["call", "call/inner"]
    assert toggled(["each[1]", "each[1]/x", "call"], "each[2]") == ["call", "each[2]"]
    assert len(toggled([f"n{number}" for number in range(MOST_OPENED)], "one_more")) == MOST_OPENED


def test_of_a_batch_the_first_item_that_goes_on_is_opened() -> None:
    children = {"r~1": "each[0]", "r~2": "each[10]", "r~3": "each[9]", "r~4": "call", "r~5": ""}
    nodes = {name: NodeSnapshot(status=NodeStatus.WAITING) for name in ("each", "call", "each[9]", "each[10]")}
    run = RunSnapshot(
        run_id="r", blueprint_id="b", blueprint_version="v", status=RunStatus.RUNNING, created_at=moment(0),
        nodes=nodes, child_nodes=children,
    )  # fmt: skip
    assert openable(run) == {"call": "call", "each": "each[9]"}
    ended = run.model_copy(update={"nodes": {}})
    assert openable(ended) == {"call": "call", "each": "each[0]"}
