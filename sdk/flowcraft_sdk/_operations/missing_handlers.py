"""Live runs that will come to a node whose handler no worker has: it was renamed or removed since their plan was made."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk._operations.deployment import Deployment, keys_of, partitions_of, plan_document, text
from flowcraft_sdk._operations.effects import Batch, Operation, command
from flowcraft_sdk.protocol.node_kinds import handler_of
from flowcraft_sdk.records import STATES

RUNS_AT_ONCE = 500
MOST_PLANS = 1_000
"""Plans that are looked through for handlers."""
_ENDED = frozenset("CFKSX")
"""First letters of node states that are final."""


@dataclass(slots=True)
class MissingHandler:
    """A handler that live runs need and that is not there.

    Attributes:
        handler: its name.
        run_ids: the runs that have yet to come to it, the oldest first.
        blueprint_ids: of those runs.
    """

    handler: str
    run_ids: list[str] = field(default_factory=list)
    blueprint_ids: set[str] = field(default_factory=set)

    @property
    def explanation(self) -> str:
        """How many runs, which handler, what comes of it and what to do, in one line."""
        count = len(self.run_ids)
        runs = f"run {self.run_ids[0]} needs" if count == 1 else f"{count} live runs need"
        such = "" if count == 1 else f", such as {self.run_ids[0]}"
        they = "it has ended, or cancel it" if count == 1 else "they have ended, or cancel them"
        blueprints = ", ".join(f"'{name}'" for name in sorted(self.blueprint_ids)[:5])
        return (
            f"{runs} the handler '{self.handler}', which no worker has any more (blueprint {blueprints}{such}): a run keeps the"
            " version of its blueprint that it began with, and fails when it comes to that node; serve the handler under"
            f" that name until {they}"
        )


def missing_handlers(
    deployment: Deployment, known: Collection[str], run_id: str | None = None
) -> Operation[list[MissingHandler]]:
    """The handlers that live runs have yet to come to and that are not among those that are known.

    Args:
        known: names of the handlers that there are.
        run_id: look at this run alone.
    """
    wanted = yield from _plans_of(deployment, run_id)
    lacking: dict[str, dict[str, str]] = {}  # by plan the handler of each node
    for plan in wanted:
        doc = (yield from plan_document(deployment, plan)) or {}
        nodes = {str(node["id"]): handler_of(node) for node in doc.get("nodes", ())}
        without = {node: handler for node, handler in nodes.items() if handler is not None and handler not in known}
        if without:
            lacking[plan] = without
    if not lacking:
        return []
    found: dict[str, MissingHandler] = {}
    for page in (yield from _live_runs(deployment, run_id)):
        yield from _look_at(deployment, page, lacking, found)
    return [found[handler] for handler in sorted(found)]


def _plans_of(deployment: Deployment, run_id: str | None) -> Operation[list[str]]:
    if run_id is not None:
        keys = yield from keys_of(deployment, run_id)
        plan = yield command("HGET", keys.run(run_id), "plan")
        return [] if plan is None else [text(plan)]
    found: dict[str, None] = {}
    for keys in (yield from partitions_of(deployment)).all:
        used = yield command("HGETALL", keys.plans)
        found |= dict.fromkeys(text(plan) for plan, runs in used.items() if int(runs) > 0)
    return list(found)[:MOST_PLANS]


def _live_runs(deployment: Deployment, run_id: str | None) -> Operation[list[list[str]]]:
    if run_id is not None:
        return [[run_id]]
    found: dict[str, None] = {}
    live = [status for status in sorted(STATES) if not status.is_terminal]
    for keys in (yield from partitions_of(deployment)).all:
        for status in live:
            (members,) = yield Batch((command("ZRANGE", keys.index_status(status), 0, -1),), bearing=True)
            found |= dict.fromkeys(map(text, members) if not isinstance(members, Exception) else ())
    run_ids = list(found)
    return [run_ids[first : first + RUNS_AT_ONCE] for first in range(0, len(run_ids), RUNS_AT_ONCE)]


def _look_at(
    deployment: Deployment,
    run_ids: Iterable[str],
    lacking: Mapping[str, Mapping[str, str]],
    found: dict[str, MissingHandler],
) -> Operation[None]:
    run_ids, partitions = list(run_ids), (yield from partitions_of(deployment))
    reads = (command("HMGET", partitions.for_run(each).run(each), "plan", "bp", "en") for each in run_ids)
    plans = yield Batch(tuple(reads), bearing=True)
    concerned = []
    for run_id, row in zip(run_ids, plans, strict=True):
        if isinstance(row, Exception) or row[0] is None or row[2] is not None or text(row[0]) not in lacking:
            continue
        concerned.append((run_id, text(row[1]), lacking[text(row[0])], text(row[0])))
    if not concerned:
        return
    states = yield Batch(
        tuple(
            command("HMGET", partitions.for_run(run_id).run(run_id), *(f"n:{node}" for node in nodes))
            for run_id, _, nodes, _ in concerned
        ),
        bearing=True,
    )
    for (run_id, blueprint_id, nodes, plan), row in zip(concerned, states, strict=True):
        repeated = _repeated(deployment.plan_documents.get(plan, {}))
        for (node, handler), state in zip(nodes.items(), [] if isinstance(row, Exception) else row, strict=False):
            if state is not None and text(state)[:1] in _ENDED and node not in repeated:
                continue
            about = found.setdefault(handler, MissingHandler(handler))
            if about.run_ids[-1:] != [run_id]:
                about.run_ids.append(run_id)
            about.blueprint_ids.add(blueprint_id)


def _repeated(doc: Mapping[str, Any]) -> set[str]:
    """Nodes that lie on a circle: one that has ended may begin again."""
    after: dict[str, list[str]] = {}
    for edge in doc.get("edges", ()):
        after.setdefault(str(edge["source"]), []).append(str(edge["target"]))
    left = {node: len(targets) for node, targets in after.items()}
    before: dict[str, list[str]] = {}
    for source, targets in after.items():
        for target in targets:
            before.setdefault(target, []).append(source)
    done = [node for node in before if node not in left]
    while done:  # what leads to nothing but ends lies on no circle
        for source in before.get(done.pop(), ()):
            left[source] -= 1
            if left[source] == 0:
                done.append(source)
    return {node for node, count in left.items() if count > 0}
