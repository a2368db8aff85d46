"""The items of a batch: those that have ended are in the history alone, those that have not begun in neither."""

from flowcraft_sdk import ItemCounts, NodeAttempt, NodeSnapshot, NodeStatus, RunSnapshot, RunStatus
from flowcraft_sdk.protocol.run_record import moment
from flowcraft_server.ui.items import BAR_WIDTH, MOST_ROWS, items_of


def run_with(items: ItemCounts | None, output: object = None, **nodes: NodeStatus) -> RunSnapshot:
    batch = NodeSnapshot(status=NodeStatus.WAITING, items=items, output=output)
    found = {f"each[{name[1:]}]": NodeSnapshot(status=status) for name, status in nodes.items()}
    return RunSnapshot(
        run_id="r", blueprint_id="b", blueprint_version="v", status=RunStatus.RUNNING, created_at=moment(0),
        nodes={"each": batch, **found}, child_nodes={"r~1": "each[1]"},
    )  # fmt: skip


def attempt(item: int, status: str, number: int = 1) -> NodeAttempt:
    return NodeAttempt(node_id="each", item=item, attempt=number, status=status, started_at=moment(0))


def test_states_come_from_the_snapshot_then_from_the_history() -> None:
    run = run_with(ItemCounts(total=6, begun=4, done=2), _2=NodeStatus.RUNNING, _3=NodeStatus.READY)
    attempts = [attempt(0, "completed"), attempt(1, "failed"), attempt(1, "completed", 2), attempt(2, "failed")]
    found = items_of(run, "each", attempts)
    assert found is not None
    assert [row.state for row in found.rows] == ["completed", "completed", "running", "ready", "pending", "pending"]
    assert [row.child for row in found.rows] == ["", "r~1", "", "", "", ""]
    assert found.rows[1].attempt is not None and found.rows[1].attempt.attempt == 2
    assert [(state, count) for state, count, _, _ in found.counts] == [
        ("running", 1), ("ready", 1), ("completed", 2), ("pending", 2),
    ]  # fmt: skip
    assert round(sum(width for _, _, _, width in found.counts)) == BAR_WIDTH


def test_what_the_history_has_lost_is_in_the_output_or_unknown() -> None:
    counts = ItemCounts(total=2, begun=2, done=2)
    ended = items_of(run_with(counts, [1, {"error": {"type": "ValueError"}}]), "each", [])
    assert ended is not None and [row.state for row in ended.rows] == ["completed", "failed"]
    unknown = items_of(run_with(counts), "each", [])
    assert unknown is not None and [row.state for row in unknown.rows] == ["unknown", "unknown"]


def test_a_state_a_number_or_nonsense_is_chosen() -> None:
    run = run_with(ItemCounts(total=1000, begun=10, done=0), _7=NodeStatus.FAILED)

    def chosen(text: str) -> tuple[str, list[int], int]:
        found = items_of(run, "each", [attempt(number, "completed") for number in range(10)], text)
        assert found is not None
        return found.chosen, [row.number for row in found.rows], found.more

    assert chosen("failed") == ("failed", [7], 0)
    assert chosen("995") == ("995", [995, 996, 997, 998, 999], 0)
    assert chosen("5000") == ("5000", [], 0)
    for text in ("", "nonsense", "running"):
        assert chosen(text) == ("", list(range(MOST_ROWS)), 1000 - MOST_ROWS)


def test_other_nodes_have_none() -> None:
    assert items_of(run_with(None), "each", []) is None
    assert items_of(run_with(ItemCounts()), "each", []) is None
    assert items_of(run_with(None), "unknown", []) is None
