"""The plan of a rerun, as a function of an ended run's record and its plan."""

import itertools
import json
from typing import Any

import pytest

from flowcraft_sdk.protocol.plan_changes import compare_plans
from flowcraft_sdk.protocol.plan_graph import PlanGraph, read_plan
from flowcraft_sdk.protocol.take_over import NothingToRun, TakeOver, ValuesLost, take_over
from flowcraft_server.blueprints.compiling.compiler import compile_blueprint
from flowcraft_server.blueprints.model import Blueprint

DONE, FAILED, CANCELLED, SKIPPED = b"C|5|7", b"F|1|1|0|5|12", b"X|0|0|0|12|12", b"S|0|0|0|9"


def plan_of(*edges: str, **words: Any) -> PlanGraph:
    """The graph of a blueprint with these edges, `a-b` or `a-b:action`; words: what else is to be in a node, by its id."""
    pairs = [edge.partition(":")[0].split("-") for edge in edges]
    actions = [{"action": action} if (action := edge.partition(":")[2]) else {} for edge in edges]
    names = dict.fromkeys([*itertools.chain(*pairs), *words])
    nodes = [{"id": name, "uses": "x", **words.get(name, {})} for name in names]
    links = [{"source": a, "target": b, **action} for (a, b), action in zip(pairs, actions, strict=True)]
    compiled = compile_blueprint(Blueprint.from_plain({"id": "b", "nodes": nodes, "edges": links}))
    return read_plan(compiled.hash, compiled.fields)


def record(states: dict[str, bytes], **more: bytes) -> dict[str, bytes]:
    outputs = {f"o:{node}": node.encode() for node, state in states.items() if state is DONE}
    return {"cr": b"1000", "st": b"failed", **{f"n:{node}": raw for node, raw in states.items()}, **outputs, **more}


DIAMOND = plan_of("a-b", "b-c", "b-d", "c-e", "d-e")


def test_what_failed_is_decided_by_the_edges_of_what_is_kept() -> None:
    made = take_over(record({"a": DONE, "b": DONE, "c": DONE, "d": FAILED}, **{"j:e": b"tu"}), DIAMOND)
    assert made.kept == {"a", "b", "c"}
    assert made.fields == {
        **{f"n:{node}": b"C|0|1|0|0|0" for node in "abc"},
        **{f"o:{node}": node.encode() for node in "abc"},
    }
    assert sorted(made.work) == [["v", "b", "tt", "d", ""], ["v", "c", "t", "d", ""]]


def test_a_node_that_was_asked_for_and_all_behind_it() -> None:
    fields = record(dict.fromkeys("abcde", DONE), **{"j:e": b"tt"})
    assert take_over(fields, DIAMOND, asked=["c"]).kept == {"a", "b", "d"}
    whole = take_over(fields, DIAMOND, asked=["a"])
    assert (whole.kept, whole.work, whole.fields) == (frozenset(), [["f", "a"]], {})
    with pytest.raises(NothingToRun):
        take_over(fields, DIAMOND)


@pytest.mark.parametrize(("join", "kept"), [("any", {"a", "b", "j", "e"}), ("all", {"a", "b"})])
def test_what_a_join_has_made_of_it(join: str, kept: set[str]) -> None:
    graph = plan_of("a-b", "a-c", "b-j", "c-j", "j-e", j={"config": {"joinStrategy": join}})
    states = {"a": DONE, "b": DONE, "c": FAILED}
    states |= dict.fromkeys("je", DONE if join == "any" else SKIPPED)
    assert take_over(record(states, **{"j:j": b"tf"}), graph).kept == kept


def test_a_branch_that_was_not_taken_stays_so() -> None:
    graph = plan_of("a-b", "a-c", "b-d", "c-e")
    made = take_over(record({"a": DONE, "b": SKIPPED, "d": SKIPPED, "c": DONE, "e": CANCELLED}), graph)
    assert made.kept == {"a", "b", "c", "d"}
    assert made.work == [["v", "c", "t", "d", ""]]


def test_an_end_that_was_not_recorded_runs_again() -> None:
    """The plan was lost before it was decided what follows `a`."""
    assert take_over(record({"a": DONE}), plan_of("a-b")).kept == frozenset()


class TestLoops:
    GRAPH = plan_of("i-h", "h-b", "b-h:more", "b-e:done", h={"config": {"joinStrategy": "any"}})

    def states(self, iteration: int, back: int = 0) -> dict[str, bytes]:
        """`b` has failed in this round."""
        loop = {"l:h": f"{iteration}|0|{back}|c".encode(), "i:h": b"2", "j:h": b"bb"}
        return record({"i": DONE, "h": DONE, "b": FAILED, "e": SKIPPED}, **loop, **{"o:b": b"1"})

    def test_one_continues_with_its_round(self) -> None:
        made = take_over(self.states(3), self.GRAPH)
        assert made.kept == {"i", "h"}
        assert (made.fields["l:h"], made.fields["i:h"], made.fields["j:h"]) == (b"3|0|0|", b"2", b"bb")
        assert (made.fields["n:b"], made.fields["o:b"]) == (b"P|0|1|0|0|0/0/0/0", b"1"), "of the round before"
        assert ["l", "h"] in made.work and ["v", "h", "t", "d", ""] in made.work

    def test_one_that_is_asked_for_begins_with_its_first(self) -> None:
        made = take_over(self.states(3), self.GRAPH, asked=["h"])
        assert made.kept == {"i"}
        assert not made.fields.keys() & {"l:h", "i:h", "n:b", "o:b"}

    def test_a_header_that_failed_is_ready_at_once(self) -> None:
        fields = self.states(3) | {"n:h": FAILED, "n:b": b"P|0|1|0|0|1/1/2/0"}
        assert ["f", "h"] in take_over(fields, self.GRAPH).work

    def test_a_run_that_stopped_between_two_rounds(self) -> None:
        """The back edge was taken, and the next round did not begin any more."""
        fields = self.states(1, back=2) | {"n:b": DONE}
        made = take_over(fields, self.GRAPH)
        assert made.kept == {"i", "h", "b"}
        assert ["v", "b", "td", "d", ""] in made.work and ["l", "h"] in made.work


class TestBatches:
    GRAPH = plan_of("a-m", "m-e", m={"uses": "map", "params": {"uses": "x", "maxLive": 4}})

    def fields(self, **more: bytes) -> dict[str, bytes]:
        """Of nine items five were opened, and three are done; the first one has failed."""
        items = {"n:m[0]": FAILED, "n:m[4]": CANCELLED}
        return record({"a": DONE, "m": FAILED}, **{"b:m": b"9|5|3|0", **items, **more})

    def test_finished_items_are_kept(self) -> None:
        made = take_over(self.fields(), self.GRAPH)
        assert made.batches == ["m"] and made.fields["b:m"] == b"9|5|3|4"
        assert made.work[:4] == [["p", "m", "batch"], ["f", "m[0]"], ["f", "m[4]"], ["b", "m"]]

    def test_not_with_other_values_or_when_an_item_is_not_known(self) -> None:
        fresh = take_over(self.fields(), self.GRAPH, patch={"k": b"1"})
        assert fresh.batches == [] and fresh.work == [["v", "a", "t", "d", ""]]
        assert take_over(self.fields(**{"b:m": b"9|5|4|0"}), self.GRAPH).batches == []


class TestContext:
    GRAPH = plan_of("a-b", "b-c")

    def kept(self, writers: str, asked: str, **options: Any) -> TakeOver:
        fields = record(dict.fromkeys("abc", DONE))
        fields |= {"c:k": b"2", "u:k": b"1", "cw:k": writers.encode()}
        return take_over(fields, self.GRAPH, asked=[asked], **options)

    def test_a_value_is_that_of_the_end_or_that_of_the_start(self) -> None:
        assert self.kept("a", "b").fields["c:k"] == b"2"
        assert self.kept("b", "b").fields["c:k"] == b"1"
        assert "u:k" not in self.kept("b\nc", "b").fields

    @pytest.mark.parametrize("writers", ["a\nb", "*"])
    def test_or_it_is_lost(self, writers: str) -> None:
        with pytest.raises(ValuesLost) as lost:
            self.kept(writers, "b")
        assert lost.value.keys == {"k": tuple(writers.split("\n"))}
        assert self.kept(writers, "b", patch={"k": b"3"}).fields["c:k"] == b"3"


class TestAnotherVersion:
    OLD = plan_of("a-b", "b-c", "b-d")

    def kept(self, new: PlanGraph) -> frozenset[str]:
        change = compare_plans(self.OLD, new)
        return take_over(record(dict.fromkeys("abcd", DONE)), self.OLD, current=new, change=change).kept

    def test_a_node_that_is_another_one_runs_again_with_all_behind_it(self) -> None:
        assert self.kept(plan_of("a-b", "b-c", "b-d", c={"params": {"p": 1}})) == {"a", "b", "d"}
        assert self.kept(plan_of("a-b", "b-c", "b-d", b={"uses": "y"})) == {"a"}

    def test_plain_edges_come_and_go(self) -> None:
        new = plan_of("a-b", "b-e", "b-c", "c-f")
        made = take_over(
            record(dict.fromkeys("abcd", DONE)), self.OLD, current=new, change=compare_plans(self.OLD, new)
        )
        assert made.kept == {"a", "b", "c"}
        assert sorted(made.work) == [["v", "b", "tt", "d", ""], ["v", "c", "t", "d", ""]]

    def test_a_choice_between_other_edges_is_made_again(self) -> None:
        document = json.loads(json.dumps(self.OLD.doc))
        document["edges"][1]["action"] = "go"
        compiled = compile_blueprint(Blueprint.from_plain(document))
        assert self.kept(read_plan(compiled.hash, compiled.fields)) == {"a"}


def test_a_batch_without_items_has_nothing_to_copy() -> None:
    """The node was cancelled just when its batch, an empty one, was done."""
    fields = record({"a": DONE, "m": CANCELLED}, **{"b:m": b"0|0|0|4", "r:m": b'["batch"]'})
    made = take_over(fields, TestBatches.GRAPH)
    assert made.batches == [] and made.work[0] == ["f", "m"]
    assert (made.fields["r:m"], made.fields["b:m"]) == (b'["batch"]', b"0|0|0|4")


def test_a_batch_that_was_done_after_its_node_was_cancelled() -> None:
    made = take_over(record({"a": DONE, "m": CANCELLED}, **{"b:m": b"2|2|2|4"}), TestBatches.GRAPH)
    assert made.batches == ["m"] and made.fields["r:m"] == b'["batch"]' and made.work[0] == ["f", "m"]
