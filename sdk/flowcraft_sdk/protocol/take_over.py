"""What a run takes over of the ended run that it does again, and how it is set going: the plan of a rerun. Pure.

The new run's record is part of the old one's: the state and the output of each node that is kept, context values, decisions of
joins, rounds of loops, results of batches. Everything else begins anew. What is between the two is a list of work items, see
include/take_over.lua: decisions of kept nodes are made once more, for the edges that lead to nodes which run again.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk.protocol.ended_run import CHUNK, EndedRun
from flowcraft_sdk.protocol.kept_nodes import KeptNodes, PlanChange
from flowcraft_sdk.protocol.plan_graph import BACK, BATCH, EXIT, FALLBACK, PlanGraph

LIVE_ITEMS = 256
"""Items of a batch that are active together, unless its node says otherwise."""

_OF_CLOSING = ("_outcome", "_compensates")
"""Context keys that a run gets when it closes."""

_LAST_ROUND = "|0/0/0/0"
"""What a node keeps of a round that was another run's, see `last_round` in include/loops.lua."""


class ValuesLost(Exception):
    """Context keys that nodes have written over which run again: what they were before is not kept.

    Attributes:
        keys: by key the nodes that have written it.
    """

    def __init__(self, keys: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(", ".join(keys))
        self.keys = keys


class NothingToRun(Exception):
    """Every node of the run has finished, and none was asked for."""


@dataclass(slots=True)
class TakeOver:
    """The plan of a rerun.

    Attributes:
        fields: of the new run's record.
        batches: nodes whose batches are copied.
        work: work items, in the order in which they are to be done.
        kept: nodes whose outcomes are taken over.
    """

    fields: dict[str, bytes] = field(default_factory=dict)
    batches: list[str] = field(default_factory=list)
    work: list[list[Any]] = field(default_factory=list)
    kept: frozenset[str] = frozenset()


def take_over(
    fields: Mapping[str, bytes],
    graph: PlanGraph,
    *,
    asked: Iterable[str] = (),
    patch: Mapping[str, bytes] | None = None,
    current: PlanGraph | None = None,
    change: PlanChange | None = None,
    version: str = "same",
) -> TakeOver:
    """Work out what a rerun takes over.

    Args:
        fields: the ended run's hash.
        graph: of its plan.
        asked: nodes of the new run's plan that are to run again, with all behind them. What has not finished does so anyway.
        patch: context values that replace those of the old run, as wire JSON.
        current: the plan of the new run, if it is another.
        change: what differs between the two.
        version: same or current: which plan child runs get that are continued.

    Raises:
        NothingToRun: every node has finished.
        ValuesLost: a context value is not known that the nodes to run will read.
        ValueError, LookupError: a field holds what no script writes there.
    """
    return _TakeOver(fields, graph, set(asked), patch or {}, current or graph, change or PlanChange(), version).made()


def node_of(instance: str) -> str:
    """The node of an instance as the history names it: `pay`, `each[3]`, `body#2`."""
    return instance.partition("#")[0].partition("[")[0]


class _TakeOver:
    def __init__(
        self,
        fields: Mapping[str, bytes],
        graph: PlanGraph,
        asked: set[str],
        patch: Mapping[str, bytes],
        current: PlanGraph,
        change: PlanChange,
        version: str,
    ) -> None:
        self.version = version
        self.old = EndedRun(fields, graph)
        self.graph = current
        self.patch = patch
        compensated = {node_of(instance) for _, mark, instance in self.old.compensations() if mark != "u"}
        self.nodes = KeptNodes(self.old, current, asked | (compensated & current.outs.keys()), change)
        self.plan = TakeOver(kept=frozenset(self.nodes.kept))
        self.resumed: set[str] = set()  # that wait again, or for which what they waited for is there
        self.dynamic: set[str] = set()  # that are kept, or go on

    def made(self) -> TakeOver:
        for node in self.graph.outs:
            if node in self.nodes.kept:
                self._keep(node)
            else:
                self._reset(node)
        for header in self.graph.loops:
            self._loop(header)
        for node in self.graph.outs:
            self._begin(node)
        for node in self.nodes.kept:
            self._decide(node)
        self.plan.work += [["l", header] for header in self.graph.loops if self.nodes.continues(header)]
        if not self.plan.work and not self._has_to_close():
            raise NothingToRun
        if self.dynamic:
            self._put("dyn", str(len(self.dynamic)))
        if self.plan.batches:
            self._put("batches", "\n".join(self.plan.batches))
        self._compensations()
        self._context()
        return self.plan

    def _has_to_close(self) -> bool:
        """Whether one of the nodes failed that the run closed with: with nothing else to run, the new one closes at once."""
        return any(
            self.graph.options[node].get("closing") and self.old.letter(node) in ("F", "X") for node in self.graph.outs
        )

    def _compensations(self) -> None:
        """Executions of kept nodes that have a compensation: it runs if the new run fails."""
        number = 0
        for old_number, mark, instance in self.old.compensations():
            if mark != "u" or node_of(instance) not in self.nodes.kept:
                continue
            number += 1
            self._put(f"co:{number}", f"u|{instance}")
            if (output := self.old.fields.get(f"cv:{old_number}")) is not None:
                self.plan.fields[f"cv:{number}"] = output
        if number:
            self._put("cn", str(number))

    # What is written into the new record.

    def _put(self, name: str, value: str) -> None:
        self.plan.fields[name] = value.encode()

    def _copy(self, *names: str) -> None:
        for name in names:
            if name in self.old.fields:
                self.plan.fields[name] = self.old.fields[name]

    def _state(self, instance_id: str, letter: str) -> None:
        """A state without times, for they would be another run's; its attempt is 0."""
        claims = self.old.claims(instance_id)
        if letter == "S":
            self._put(f"n:{instance_id}", f"S|0|{claims}|0|0{_LAST_ROUND if claims else ''}")
        else:
            self._put(f"n:{instance_id}", f"{letter}|0|{max(1, claims)}|0|0|0")

    def _values(self, node: str) -> None:
        """Output, the fallback's output, and what the edges carry."""
        self._copy(f"o:{node}", f"s:{node}")
        for link in self.graph.outs.get(node, ()):
            former = self.nodes.former(link)
            if former is not None and (raw := self.old.fields.get(f"x:{node}>{former.index}")) is not None:
                self.plan.fields[f"x:{node}>{link.index}"] = raw

    def _keep(self, node: str) -> None:
        letter = self.old.letter(node)
        self._state(node, letter)
        self._values(node)
        self._copy(f"a:{node}", f"j:{node}")
        if letter == "K":
            self._copy(f"f:{node}", f"x:{node}>fallback")
        for chunk in range(len(self.graph.incoming[node]) // CHUNK + 1):
            self._copy(f"J:{chunk}:{node}")
        for name, owner in self.old.owners.items():
            if owner == node:
                self._keep_dynamic(name)

    def _keep_dynamic(self, node: str) -> None:
        """A dynamic node that has completed, and what it has added."""
        if self.old.letter(node) != "C":
            return
        self.dynamic.add(node)
        self._state(node, "C")
        self._copy(f"o:{node}", f"y:{node}", f"z:{node}")
        for name, owner in self.old.owners.items():
            if owner == node:
                self._keep_dynamic(name)

    def _reset(self, node: str) -> None:
        """A node that is to run again; in a loop that continues, what it did in earlier rounds stays."""
        self._copy(f"ep:{node}", f"ea:{node}")
        if self._is_in_round(node):
            if self.old.letter(node) not in ("C", "K") and f"o:{node}" in self.old.fields:
                self._put(f"n:{node}", f"P|0|{max(1, self.old.claims(node))}|0|0{_LAST_ROUND}")
                self._values(node)
            self._join_in_round(node)

    def _join_in_round(self, node: str) -> None:
        """Edges into an `any` join that were decided in another round do not count in this one."""
        links = sorted(self.graph.incoming[node], key=lambda link: link.position)
        if len(links) < 2 or self.graph.joins[node] != "any":
            return
        former = [self.nodes.former(link) for link in links]
        marks = "".join(
            "b" if link.kind == BACK or (was is not None and self.old.join_mark(was) == "b") else "u"
            for link, was in zip(links, former, strict=True)
        )
        if marks.count("b") == sum(link.kind == BACK for link in links):
            return  # as the plan has it
        if len(links) <= CHUNK:
            self._put(f"j:{node}", marks)
            return
        for first in range(0, len(marks), CHUNK):
            self._put(f"J:{first // CHUNK}:{node}", marks[first : first + CHUNK].ljust(CHUNK, "u"))
        self._put(f"j:{node}", f"#{marks.count('u')}|0|0|0|0")

    def _loop(self, header: str) -> None:
        state = self.old.loop(header)
        if state is None or header in self.nodes.restarted:
            return
        if self.nodes.continues(header):
            self._put(f"l:{header}", f"{state.iteration}|0|0|")
        elif header in self.nodes.kept:
            self._copy(f"l:{header}")
        self._copy(f"i:{header}")

    # How the rest is set going.

    def _begin(self, node: str) -> None:
        """Nodes that become ready, or wait again, by no edge of a kept node."""
        if node in self.nodes.kept:
            if self.old.letter(node) == "C" and any(
                link.origin == BATCH and link.target not in self.nodes.kept for link in self.graph.implied[node]
            ):
                self._continue_batch(node)
            return
        if node not in self.nodes.barred and self.old.letter(node) in ("F", "X") and self.nodes.was_reached(node):
            if self._resume(node):
                return
            self._rerun_child(node)
            if node in self.graph.loops and self.nodes.continues(node):
                state = self.old.loop(node)
                if state is not None and state.iteration > 0:
                    self.plan.work.append(["f", node])
        if node in self.graph.starts:
            self.plan.work.append(["f", node])

    def _resume(self, instance_id: str) -> bool:
        """Continue a node that was waiting, or had failed because of what it waited for; False if it begins anew.

        So does one whose handler had suspended itself: what it had done until then is in the old run alone.
        """
        if self.old.was_suspended(instance_id):
            return False
        attached = self.old.attached(instance_id)
        if attached:
            return self._attach(instance_id, attached)
        if self._round_is_unclear(instance_id):
            return False
        if self._has_all_items(instance_id):
            return self._attach(instance_id, ["batch"])
        return self._wait_for_items(instance_id) or self._wait_for_dynamic(instance_id)

    def _round_is_unclear(self, instance_id: str) -> bool:
        """Whether what is kept of a node may be of an earlier round, in which its fallback stood in."""
        node = self.old.root_owner(instance_id)
        has_fallback = any(link.origin == FALLBACK for link in self.graph.implied.get(node, ()))
        return has_fallback and self._is_in_later_round(node)

    def _is_in_later_round(self, node: str) -> bool:
        states = [self.old.loop(header) for header in self.graph.around(node)] if node in self.graph.outs else []
        return any(state is not None and state.iteration > 0 for state in states)

    def _has_all_items(self, instance_id: str) -> bool:
        """Whether the last items of a batch were done after its node had been cancelled; in a later round it may be older."""
        batch = self.old.batch(instance_id)
        cancelled = self.old.letter(instance_id) == "X" and not self._is_in_later_round(
            self.old.root_owner(instance_id)
        )
        gathered = any(link.origin == BATCH for link in self.graph.implied.get(instance_id, ()))
        return batch is not None and cancelled and not gathered and not self.patch and batch.done == batch.total

    def _attach(self, instance_id: str, attached: list[Any]) -> bool:
        """What the node waited for had come; a failed child run and a fallback that runs again do not count."""
        kind, *rest = attached
        if self.old.letter(instance_id) != "X":
            return False
        if (kind == "child" and rest[1:] != ["completed"]) or (kind == "fallback" and rest[0] not in self.nodes.kept):
            return False
        self._put(f"r:{instance_id}", json.dumps([kind, *rest], ensure_ascii=False))
        self._copy(f"v:{instance_id}", f"w:{instance_id}", f"f:{instance_id}")
        if kind == "fallback":
            self._copy(f"x:{instance_id}>fallback")
        if kind == "batch":
            self._copy(f"b:{instance_id}")
            self._copy_batch(instance_id)
        if kind == "dynamic":
            self._copy(f"o:{instance_id}")
            for name, owner in self.old.owners.items():
                if owner == instance_id:
                    self._keep_dynamic(name)
        self._resumed(["f", instance_id], instance_id)
        return True

    def _resumed(self, item: list[Any], instance_id: str) -> None:
        self.plan.work.append(item)
        self.resumed.add(instance_id)

    def _wait_for_items(self, instance_id: str) -> bool:
        """Whether a node's batch goes on: its finished items are kept. With other context values it may be another batch."""
        batch = self.old.batch(instance_id)
        if batch is None or self.patch or not self._is_whole(instance_id) or not batch.done < batch.total:
            return False
        if any(link.origin == BATCH for link in self.graph.implied.get(instance_id, ())) or not batch.opened:
            return False
        self._put(f"w:{instance_id}", "null")
        self._copy(f"x:{instance_id}>fallback")
        self._resumed(["p", instance_id, "batch"], instance_id)
        self._continue_batch(instance_id)
        return True

    def _is_whole(self, owner: str) -> bool:
        """Whether it is known of each opened item of a batch whether it is done."""
        batch = self.old.batch(owner)
        return batch is not None and batch.opened - batch.done == len(self.old.items.get(owner, ()))

    def _continue_batch(self, owner: str) -> None:
        batch = self.old.batch(owner)
        assert batch is not None
        self._put(f"b:{owner}", f"{batch.total}|{batch.opened}|{batch.done}|{self._live_items(owner)}")
        self._copy_batch(owner)
        for number in sorted(self.old.items.get(owner, ())):
            item = f"{owner}[{number}]"
            kind, *rest = self.old.attached(item) or [""]
            if kind == "child" and rest[1:] == ["completed"]:
                self._copy(f"r:{item}")
            self._rerun_child(item)
            self.plan.work.append(["f", item])
        self.plan.work.append(["b", owner])

    def _copy_batch(self, owner: str) -> None:
        """Have items and results copied; one without items has neither."""
        batch = self.old.batch(owner)
        if batch is not None and batch.total:
            self.plan.batches.append(owner)

    def _live_items(self, owner: str) -> int:
        raw = self.old.fields.get(f"z:{owner}")
        nodes = self.graph.doc["nodes"] if raw is None else [json.loads(raw)]
        node: Mapping[str, Any] = next((each for each in nodes if each["id"] == owner), {})
        params = node.get("params") or {}
        return int(params.get("chunkSize") or params.get("maxLive") or LIVE_ITEMS)

    def _wait_for_dynamic(self, instance_id: str) -> bool:
        """Whether a node goes on to wait for the nodes that it has added: those that have completed are kept."""
        added = [name for name, owner in self.old.owners.items() if owner == instance_id]
        left, bar, action = self.old.text(f"w:{instance_id}").partition("|")
        if not added or not bar or not left.isdecimal() or left == "0":
            return False
        if self.old.letter(instance_id) == "F" and not self.old.failed_by_another(instance_id):
            return False
        again = [name for name in added if self.old.letter(name) != "C"]
        if not again:  # the last one completed after the node had been cancelled
            return self._attach(instance_id, ["dynamic", action])
        self._put(f"w:{instance_id}", f"{len(again)}|{action}")
        self._copy(f"o:{instance_id}", f"x:{instance_id}>fallback")
        self._resumed(["p", instance_id, "dynamic"], instance_id)
        for name in added:
            if name not in again:
                self._keep_dynamic(name)
                continue
            self.dynamic.add(name)
            self._copy(f"y:{name}", f"z:{name}")
            if not self._resume(name):
                self._rerun_child(name)
                self.plan.work.append(["f", name])
        return True

    def _rerun_child(self, instance_id: str) -> None:
        """Note the child run of a node: the new one takes over what that has finished, see start_child.lua."""
        child = self.old.text(f"w:{instance_id}")
        began = self.old.began(instance_id)
        if (
            child
            and began
            and self.old.text(f"k:{child}") == instance_id
            and f"r:{instance_id}" not in self.plan.fields
        ):
            self._put(f"fk:{instance_id}", f"{self.version}|{began}|{child}")

    def _decide(self, node: str) -> None:
        """The edges of a kept node to nodes that run again."""
        links = list(self.graph.links(node))
        if not any(
            link.target not in self.nodes.kept or (link.kind in (BACK, EXIT) and self.nodes.continues(link.loop))
            for link in links
        ):
            return
        letter = self.old.letter(node)
        if letter == "S":
            self.plan.work.append(["e", node, "d", 1, 1])
            return
        marks = "".join("t" if self.nodes.decision(link) == "t" else "d" for link in self.graph.outs[node])
        fallback = "d" if letter == "C" else ""
        gather = "t" if letter == "K" else ""
        self.plan.work.append(["v", node, marks, fallback, gather])

    # Context values.

    def _context(self) -> None:
        lost: dict[str, tuple[str, ...]] = {}
        keys = dict.fromkeys(name.partition(":")[2] for name in self.old.fields if name.startswith(("c:", "u:", "cw:")))
        for key in keys:
            if key in self.patch or key in _OF_CLOSING:
                continue
            writers = tuple(filter(None, self.old.text(f"cw:{key}").split("\n")))
            undone = [node for node in writers if self._is_undone(node)]
            if not undone:
                self._copy(f"c:{key}", f"u:{key}", f"cw:{key}")
            elif len(undone) < len(writers) or "*" in writers:
                lost[key] = writers
            elif self.old.fields.get(f"u:{key}"):
                self.plan.fields[f"c:{key}"] = self.old.fields[f"u:{key}"]
        if lost:
            raise ValuesLost(lost)
        for key, value in self.patch.items():
            self.plan.fields[f"c:{key}"] = value

    def _is_undone(self, name: str) -> bool:
        """Whether what a node has written is to be written again; `*` stands for nodes that are not known."""
        if name == "*":
            return bool(self.nodes.barred)
        node = self.old.root_owner(name)
        if node in self.nodes.kept or node in self.resumed:
            return False
        if node not in self.graph.outs:
            return True
        return not self._is_in_round(node) or self.old.letter(node) in ("C", "K")

    def _is_in_round(self, node: str) -> bool:
        """Whether a node is in loops, and none of them begins with its first round."""
        around = self.graph.around(node)
        return bool(around) and self.nodes.restarted.isdisjoint(around)
