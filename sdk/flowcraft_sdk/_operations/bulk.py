"""One thing done to many runs: those that a filter names, a page at a time."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from flowcraft_sdk._operations.deployment import Deployment, Seconds
from flowcraft_sdk._operations.effects import Operation, Yield
from flowcraft_sdk._operations.list_runs import Filter, checked_statuses, matching_runs
from flowcraft_sdk._operations.removal import delete
from flowcraft_sdk._operations.rerun import FromNode, rerun
from flowcraft_sdk._operations.runs import cancel
from flowcraft_sdk.errors import BackendUnavailableError, ConfigurationError, FlowcraftError
from flowcraft_sdk.protocol.bounds import check_count, shown
from flowcraft_sdk.records import STATES, BulkOutcome, BulkPreview, RunStatus

FIRST_RUNS = 10
"""Run ids that a preview names."""

PAGE = 100
ACTIVE = frozenset(status for status in STATES if not status.is_terminal)
ENDED = frozenset(status for status in STATES if status.is_terminal)
ACTIONS = {"cancel": (ACTIVE, "cancelled"), "rerun": (ENDED, "done again"), "delete": (ENDED, "deleted")}
"""By action the states of runs that it is for, and what is done to them."""


def of_states(wanted: Filter, states: frozenset[RunStatus], what: str) -> Filter:
    """The filter, for runs in these states only.

    Raises:
        ConfigurationError: it asks for others.
    """
    if wanted.statuses is None:
        return replace(wanted, statuses=states)
    others = wanted.statuses - states
    if others:
        known = ", ".join(state for state in RunStatus if state in states)
        raise ConfigurationError(f"only runs that are {known} can be {what}, got {', '.join(sorted(others))}")
    return wanted


def wanted_runs(
    blueprint_id: str | None,
    status: RunStatus | Iterable[RunStatus] | None,
    tag: str | None,
    started_after: datetime | None,
    started_before: datetime | None,
) -> Filter:
    """The filter that these arguments make.

    Raises:
        ConfigurationError: one of them cannot be used.
    """
    return Filter(blueprint_id, checked_statuses(status), tag, None, started_after, started_before)


def preview(deployment: Deployment, action: str, wanted: Filter, limit: int | None) -> Operation[BulkPreview]:
    """How many runs an action would be done to, and the first of them."""
    if action not in ACTIONS:
        raise ConfigurationError(f"an action is one of {', '.join(ACTIONS)}, got {shown(action)}")
    run_ids = yield from _runs_for(deployment, action, wanted, limit)
    return BulkPreview(count=len(run_ids), first=tuple(run_ids[:FIRST_RUNS]))


def _runs_for(deployment: Deployment, action: str, wanted: Filter, limit: int | None) -> Operation[list[str]]:
    """The runs that an action is done to. Child runs are done again and deleted with their parents."""
    states, done = ACTIONS[action]
    if limit is not None:
        check_count(limit, "limit", None, least=1)
    filter_ = of_states(wanted, states, done)
    return (yield from matching_runs(deployment, filter_, limit, PAGE, roots=action != "cancel"))


def cancel_runs(
    deployment: Deployment, wanted: Filter, limit: int | None, reason: str, grace: Seconds | None
) -> Operation[None]:
    """Yield what came of each."""
    for run_id in (yield from _runs_for(deployment, "cancel", wanted, limit)):
        try:
            in_force = yield from cancel(deployment, run_id, reason, grace)
        except FlowcraftError as error:
            yield Yield(_failed(run_id, error))
            continue
        yield Yield(BulkOutcome(run_id=run_id, done=in_force, detail="" if in_force else "it had ended"))


def rerun_runs(
    deployment: Deployment, wanted: Filter, limit: int | None, from_node: FromNode, version: str
) -> Operation[None]:
    """Yield what came of each. Child runs are done again with their parents."""
    for run_id in (yield from _runs_for(deployment, "rerun", wanted, limit)):
        try:
            made = yield from rerun(deployment, run_id, from_node, None, version, None)
        except FlowcraftError as error:
            yield Yield(_failed(run_id, error))
            continue
        yield Yield(BulkOutcome(run_id=run_id, done=True, new_run_id=made.run_id))


def delete_runs(deployment: Deployment, wanted: Filter, limit: int | None) -> Operation[None]:
    """Yield what came of each. Child runs go with their parents."""
    for run_id in (yield from _runs_for(deployment, "delete", wanted, limit)):
        try:
            removed = yield from delete(deployment, run_id)
        except FlowcraftError as error:
            yield Yield(_failed(run_id, error))
            continue
        yield Yield(BulkOutcome(run_id=run_id, done=removed, detail="" if removed else "it was removed before"))


def _failed(run_id: str, error: FlowcraftError) -> BulkOutcome:
    """What went wrong with one run; if Redis is away it goes wrong with all.

    Raises:
        BackendUnavailableError: it is.
    """
    if isinstance(error, BackendUnavailableError | ConfigurationError):
        raise error
    return BulkOutcome(run_id=run_id, done=False, detail=str(error))
