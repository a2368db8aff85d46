import re
from datetime import UTC, datetime

from flowcraft_sdk import NodeSnapshot, NodeStatus, RunSnapshot, RunStatus
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.ui.drawing import (
    LABEL_CHARACTER,
    MOST_NODES,
    NODE_WIDTH,
    Drawing,
    Layouts,
    counted_states,
    draw,
    shortened,
)

POINT = re.compile(r"-?\d+\.\d,-?\d+\.\d")


def drawing(nodes: list[dict[str, object]], edges: list[dict[str, object]]) -> Drawing:
    blueprint = Blueprint.from_plain({"id": "b", "nodes": nodes, "edges": edges})
    return draw(Layouts(), "hash", blueprint)


def test_nodes_and_edges() -> None:
    found = drawing(
        [
            {"id": "first", "uses": "one"},
            {"id": "with-a-name-that-is-longer-than-its-box", "uses": "subflow", "params": {"blueprintId": "child"}},
            {"id": "third", "uses": "one"},
        ],
        [
            {"source": "first", "target": "with-a-name-that-is-longer-than-its-box", "action": "good"},
            {"source": "first", "target": "third", "condition": "result.output.a_long_name > 100 and other"},
            {"source": "nowhere", "target": "third"},
        ],
    )
    first, second, _third = found.nodes
    assert (first.id, first.label, first.state) == ("first", "first", "none")
    assert len(second.label) < 22 and second.label.endswith("…")
    assert "child" in second.under
    labels = {edge.title: edge.label for edge in found.edges}
    assert labels["good"] == "good"
    assert len(found.edges) == 2
    assert all(len(label) <= 26 for label in labels.values())
    for edge in found.edges:
        assert edge.path.startswith("M") and len(POINT.findall(edge.path)) >= 4
        assert (edge.kind, edge.state) == ("edge", "")
    assert all(0 <= node.x < found.width and 0 <= node.y < found.height for node in found.nodes)


def test_edges_to_itself_and_back_are_drawn_round_the_nodes() -> None:
    nodes = [{"id": "a", "uses": "one"}, {"id": "b", "uses": "one", "config": {"maxIterations": 3}}]
    found = drawing(
        nodes,
        [
            {"source": "a", "target": "b"},
            {"source": "b", "target": "a", "action": "again"},
            {"source": "b", "target": "b"},
        ],
    )
    bottom = max(node.y for node in found.nodes)
    lowest = [max(float(point.split(",")[1]) for point in POINT.findall(edge.path)) for edge in found.edges]
    assert lowest[0] < bottom + 46 < min(lowest[1:])


def test_layers_are_as_far_apart_as_the_labels_between_them_need() -> None:
    nodes: list[dict[str, object]] = [{"id": name, "uses": "one"} for name in "abc"]
    plain, labelled = (
        drawing(nodes, [{"source": "a", "target": "b", **more}, {"source": "b", "target": "c"}])
        for more in ({}, {"condition": "result.output.topic == 'order'"})
    )
    first, second, third = (after.x - before.x for before, after in zip(plain.nodes, labelled.nodes, strict=True))
    assert first == 0
    assert round(second) == round(third) > 60
    label = next(edge for edge in labelled.edges if edge.label)
    half = LABEL_CHARACTER * len(label.label) / 2
    assert labelled.nodes[0].x + NODE_WIDTH < label.x - half
    assert label.x + half < labelled.nodes[1].x


def test_nodes_that_were_added_while_the_run_went_are_drawn_behind_the_one_that_added_them() -> None:
    blueprint = Blueprint.from_plain({"id": "b", "nodes": [{"id": "a", "uses": "agent"}], "edges": []})
    made = NodeSnapshot(status=NodeStatus.RUNNING, added_by="a")
    nodes = {"a": NodeSnapshot(status=NodeStatus.WAITING), "a-search-1": made, "of-another": made.model_copy()}
    nodes["of-another"] = NodeSnapshot(status=NodeStatus.RUNNING, added_by="nothing")
    run = RunSnapshot(
        run_id="r",
        blueprint_id="b",
        blueprint_version="v",
        status=RunStatus.WAITING,
        created_at=datetime.now(UTC),
        nodes=nodes,
    )
    found = draw(Layouts(), "hash", blueprint, run)
    assert [(node.id, node.state) for node in found.nodes] == [("a", "waiting"), ("a-search-1", "running")]
    assert found.nodes[1].under == "added by a"
    assert found.nodes[0].x < found.nodes[1].x
    assert [(edge.kind, edge.state) for edge in found.edges] == [("made", "taken")]


def test_too_large() -> None:
    nodes: list[dict[str, object]] = [{"id": f"n{number}", "uses": "one"} for number in range(MOST_NODES + 1)]
    assert drawing(nodes, []) == Drawing(too_large=MOST_NODES + 1)


def test_layouts_are_kept_up_to_a_number() -> None:
    layouts = Layouts(most=2)
    blueprint = Blueprint.from_plain({"id": "b", "nodes": [{"id": "a", "uses": "one"}], "edges": []})
    first = layouts.of("1", blueprint)
    for plan_hash in ("2", "1", "3"):
        layouts.of(plan_hash, blueprint)
    assert layouts.of("1", blueprint) is first
    assert [plan_hash for plan_hash, _ in layouts._kept] == ["3", "1"]


def test_texts_and_counts() -> None:
    assert shortened("a\n  b\tc", 10) == "a b c"
    assert shortened("x" * 30, 10) == "x" * 9 + "…"
    assert counted_states(["b", "a", "b"]) == {"b": 2, "a": 1}
