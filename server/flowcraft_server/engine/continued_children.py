"""Child runs that take over what a failed child of the run before has finished: in a run that does another one again."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowcraft_sdk._operations.effects import Command, Operation
from flowcraft_sdk._operations.rerun import store_draft, work_json
from flowcraft_sdk.errors import RunBrokenError
from flowcraft_sdk.protocol.context_input import digest
from flowcraft_sdk.protocol.plan_changes import compare_plans
from flowcraft_sdk.protocol.plan_graph import read_plan
from flowcraft_sdk.protocol.run_record import RunRecord
from flowcraft_sdk.protocol.script_call import ScriptCall
from flowcraft_sdk.protocol.scripts import ChildDraft
from flowcraft_sdk.protocol.take_over import NothingToRun, TakeOver, take_over
from flowcraft_sdk.records import RunStatus
from flowcraft_server.blueprints.compiling.plan import Plan
from flowcraft_server.engine.engine import Engine
from flowcraft_server.engine.plans import PlanCache, PlanNotFound


@dataclass(frozen=True, slots=True)
class FormerChild:
    """A child run of the run that is done again; it has ended, or is about to.

    Attributes:
        run_id: its id.
        fields: its record.
        former_plan: the plan that it had.
        plan: the one that its successor is to have.
        version: same or current, for what it has started itself.
    """

    run_id: str
    fields: Mapping[str, bytes]
    former_plan: Plan
    plan: Plan
    version: str

    @property
    def is_ending(self) -> bool:
        """Whether it was stopped with its parent, and one of its nodes still runs: it ends with that, or with its grace."""
        return not RunStatus(self.fields["st"].decode()).is_terminal

    @property
    def has_completed(self) -> bool:
        """Whether it has completed, of the plan that its successor would have: its outcome is the node's."""
        return self.fields["st"] == b"completed" and self.plan.hash == self.former_plan.hash

    def was_given(self, context: Mapping[str, bytes]) -> bool:
        """Whether it was started with this context: only then is what it has finished of use."""
        texts = {name: raw.decode() for name, raw in self.fields.items()}
        start = RunRecord(self.run_id, texts).start_context()
        return digest({key: raw.encode() for key, raw in start.items()}) == digest(context)


def read_former_child(engine: Engine, plans: PlanCache, noted: str, blueprint_id: str) -> FormerChild | None:
    """The child run that a node's child is to take over from; None if it cannot, and the new one begins from its beginning.

    Args:
        noted: `VERSION|SINCE|CHILD`, as the script `start_child` replies; empty for none. A child older than SINCE is of an
            earlier round of a loop.
        blueprint_id: of the child that the node calls.
    """
    if not noted:
        return None
    version, since, child_id = noted.split("|", 2)
    fields = {name.decode(): raw for name, raw in engine.link.read_hash(engine.run_key(child_id)).items()}
    status = RunStatus(fields.get("st", b"").decode())
    if (
        not (status.is_terminal or "stop" in fields)
        or fields.get("bp", b"").decode() != blueprint_id
        or int(fields["cr"]) < int(since)
    ):
        return None
    try:
        former = plans.get(fields["plan"].decode())
    except PlanNotFound:
        return None
    plan = former if version == "same" else plans.current(blueprint_id)
    return None if plan is None else FormerChild(child_id, fields, former, plan, version)


def work_left(former: FormerChild) -> TakeOver | None:
    """What a child takes over and has left to do; None if nothing is left.

    The status alone does not say so: a child that was stopped may count as completed.

    Raises:
        UNREADABLE: that cannot be found out.
    """
    graph = read_plan(former.former_plan.hash, former.former_plan.fields)
    current = graph
    if former.plan.hash != graph.hash:
        current = read_plan(former.plan.hash, former.plan.fields)
    change = compare_plans(graph, current)
    try:
        return take_over(former.fields, graph, current=current, change=change, version=former.version)
    except NothingToRun:
        return None


def draft_of(engine: Engine, former: FormerChild, left: TakeOver, run_id: str) -> ChildDraft | None:
    """What a child takes over, part of it stored already; None if part of it is gone.

    Args:
        run_id: the run that starts the child.
    """
    token = secrets.token_hex(8)
    source, keys = engine.partitions.for_run(former.run_id), engine.partitions.for_run(run_id)
    try:
        drafted, last = _driven(engine, store_draft(keys, source, former.run_id, token, left))
    except RunBrokenError:
        return None
    return ChildDraft(token, drafted, left.batches, work_json(left), former.run_id, last)


def _driven(engine: Engine, operation: Operation[Any]) -> Any:
    """The value of an operation of the SDK, which sends calls and commands."""
    answer: Any = None
    while True:
        try:
            step = operation.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(step, ScriptCall):
            answer = engine.link.call_with_retry(step)
        else:
            assert isinstance(step, Command)
            (answer,) = engine.link.read_all([(step.name, *step.args)])
