"""What clients can do with a deployment that is reached through its HTTP API: lists, and administration."""

from collections.abc import Iterable
from typing import Any

from flowcraft_sdk._operations.bulk import ACTIONS, of_states
from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk._operations.effects import Yield
from flowcraft_sdk._operations.http_calls import (
    LONGEST_WAIT,
    call,
    event_data,
    filter_body,
    filter_query,
    from_json,
    member,
    next_event,
    problem_in,
    record_of,
    records_of,
)
from flowcraft_sdk._operations.http_effects import HttpOperation, OpenStream, Reply, Request, json_object, path_of
from flowcraft_sdk._operations.list_runs import Filter
from flowcraft_sdk._operations.problems import raise_problem
from flowcraft_sdk._operations.queues import checked_queue
from flowcraft_sdk._operations.rerun import FromNode, Rerun, checked_order
from flowcraft_sdk._operations.schedules import Change
from flowcraft_sdk._operations.stats import checked_window
from flowcraft_sdk._operations.usage import checked_days
from flowcraft_sdk.errors import BackendUnavailableError, ConfigurationError
from flowcraft_sdk.protocol.bounds import (
    LONGEST_NAME,
    LONGEST_PATH,
    LONGEST_REASON,
    MOST_A_PAGE,
    MOST_LISTED,
    check_count,
    check_span,
    check_text,
    shown,
)
from flowcraft_sdk.protocol.memory_scripts import LONGEST_ID
from flowcraft_sdk.protocol.schedule_record import ScheduleInfo
from flowcraft_sdk.records import (
    BlueprintDetails,
    BlueprintInfo,
    BlueprintVersion,
    BulkOutcome,
    BulkPreview,
    DeadLetter,
    Defect,
    DeploymentMetrics,
    LimitInfo,
    Memory,
    MemoryInfo,
    QueueInfo,
    RunPage,
    ServerAnswer,
    ServerInfo,
    ServerProcess,
    Stats,
    UsageOfDay,
    WaitingPage,
    WorkerInfo,
)

EXAMINING = 600.0
"""Seconds that the search for defects may take."""


class HttpAdministration:
    """The operations that are about more than one run."""

    def list_runs(self, wanted: Filter, limit: int | None, page_size: int) -> HttpOperation[None]:
        """Yield summaries, the newest first, until `limit` are out."""
        check_count(page_size, "page_size", MOST_A_PAGE, least=1)
        if limit is not None and check_count(limit, "limit", None) == 0:
            return
        left, cursor = limit, None
        while True:
            size = min(page_size, MOST_LISTED) if left is None else min(page_size, MOST_LISTED, left)
            page = yield from self.run_page(wanted, None, size, cursor)
            for run in page.items:
                yield Yield(run)
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None or left == 0:
                return

    def count_runs(self, wanted: Filter) -> HttpOperation[int]:
        """How many runs there are."""
        if _names_none(wanted):
            return 0
        reply = yield from call(Request("GET", path_of("run-count", query=filter_query(wanted))), "count runs")
        return member(reply, "count", int)

    def run_page(self, wanted: Filter, search: str | None, limit: int, cursor: str | None) -> HttpOperation[RunPage]:
        """A page of runs."""
        check_count(limit, "limit", MOST_LISTED, least=1)
        if _names_none(wanted):
            return RunPage()
        query = [*filter_query(wanted), ("q", search), ("limit", limit), ("cursor", cursor)]
        reply = yield from call(Request("GET", path_of("runs", query=query)), "list runs")
        return record_of(RunPage, reply.json())

    def waiting_page(self, limit: int, cursor: str | None) -> HttpOperation[WaitingPage]:
        """A page of the nodes that wait for a signal."""
        check_count(limit, "limit", MOST_LISTED, least=1)
        request = Request("GET", path_of("waiting", query=[("limit", limit), ("cursor", cursor)]))
        return record_of(WaitingPage, (yield from call(request, "list nodes that wait")).json())

    def blueprint(self, blueprint_id: str, version: str | None) -> HttpOperation[BlueprintDetails]:
        """A published blueprint, or another version of it that is still in use."""
        check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
        if version is not None:
            check_text(version, "version", LONGEST_NAME)
        request = Request("GET", path_of("blueprints", blueprint_id, query=[("version", version)]))
        return record_of(BlueprintDetails, (yield from call(request, "read the blueprint")).json())

    def blueprint_versions(self, blueprint_id: str) -> HttpOperation[list[BlueprintVersion]]:
        """The versions of a blueprint."""
        check_text(blueprint_id, "a blueprint id", LONGEST_NAME)
        request = Request("GET", path_of("blueprints", blueprint_id, "versions"))
        return records_of(BlueprintVersion, (yield from call(request, "list versions of the blueprint")))

    def blueprints(self) -> HttpOperation[list[BlueprintInfo]]:
        """Published blueprints by id."""
        return records_of(BlueprintInfo, (yield from call(Request("GET", path_of("blueprints")), "list blueprints")))

    def workers(self) -> HttpOperation[list[WorkerInfo]]:
        """Workers that were seen lately."""
        return records_of(WorkerInfo, (yield from call(Request("GET", path_of("workers")), "list workers")))

    def stats(self, window: Seconds) -> HttpOperation[Stats]:
        """Counts of runs that have ended lately, and how the deployment does."""
        path = path_of("stats", query=[("window", f"{checked_window(window):.0f}s")])
        return record_of(Stats, (yield from call(Request("GET", path), "read the figures of the deployment")).json())

    def usage(self, days: int) -> HttpOperation[list[UsageOfDay]]:
        """Sums of model calls of the latest days."""
        request = Request("GET", path_of("usage", query=[("days", checked_days(days))]))
        return records_of(UsageOfDay, (yield from call(request, "read what model calls have used")))

    def ping(self) -> HttpOperation[ServerInfo]:
        """Check that the API answers, and the deployment behind it."""
        return record_of(ServerInfo, (yield from call(Request("GET", path_of("info")), "reach the deployment")).json())

    def dead_letters(self, limit: int) -> HttpOperation[list[DeadLetter]]:
        """The dead letters, the newest first."""
        if check_count(limit, "limit", MOST_A_PAGE) == 0:
            return []
        request = Request("GET", path_of("dead-letters", query=[("limit", limit)]))
        return records_of(DeadLetter, (yield from call(request, "list dead letters")))

    def replay(self, run_id: str) -> HttpOperation[Rerun]:
        """Do the run of a dead letter again."""
        check_text(run_id, "a run id", LONGEST_PATH)
        request = Request("POST", path_of("dead-letters", run_id, "replay"))
        reply = yield from call(request, "replay the run")
        return Rerun(member(reply, "run_id", str), member(reply, "attached", bool))

    def delete_dead_letters(self, run_id: str, node_id: str | None) -> HttpOperation[int]:
        """Delete the dead letters of a run; how many there were."""
        check_text(run_id, "a run id", LONGEST_PATH)
        request = Request("DELETE", path_of("dead-letters", run_id, query=[("node", node_id)]), repeatable=False)
        return member((yield from call(request, "delete dead letters")), "deleted", int)

    def examine(self, run_id: str | None, fix: bool) -> HttpOperation[list[Defect]]:
        """Look at one run, or at everything that is live and at all entries."""
        body = json_object({"run_id": run_id, "fix": bool(fix)})
        request = Request("POST", path_of("doctor"), body, wait=EXAMINING)
        return records_of(Defect, (yield from call(request, "examine runs")))

    def queues(self) -> HttpOperation[list[QueueInfo]]:
        """The queues, by name."""
        return records_of(QueueInfo, (yield from call(Request("GET", path_of("queues")), "list queues")))

    def pause(self, name: str, paused: bool) -> HttpOperation[QueueInfo]:
        """Pause a queue, or resume it; the queue as it is now."""
        path = path_of("queues", checked_queue(name), "pause" if paused else "resume")
        return record_of(QueueInfo, (yield from call(Request("POST", path), "change the queue")).json())

    def limits(self) -> HttpOperation[list[LimitInfo]]:
        """The limits, by name."""
        return records_of(LimitInfo, (yield from call(Request("GET", path_of("limits")), "list limits")))

    def list_memories(self, limit: int) -> HttpOperation[list[MemoryInfo]]:
        """The memories, those first that are kept longest."""
        if check_count(limit, "limit", MOST_LISTED) == 0:
            return []
        request = Request("GET", path_of("memories", query=[("limit", limit)]))
        return records_of(MemoryInfo, (yield from call(request, "list memories")))

    def read_memory(self, memory_id: str) -> HttpOperation[Memory]:
        """A memory with its messages."""
        check_text(memory_id, "the id of a memory", LONGEST_ID)
        request = Request("GET", path_of("memories", memory_id))
        return record_of(Memory, (yield from call(request, "read the memory")).json())

    def delete_memory(self, memory_id: str) -> HttpOperation[None]:
        """Delete a memory."""
        check_text(memory_id, "the id of a memory", LONGEST_ID)
        request = Request("DELETE", path_of("memories", memory_id), repeatable=False)
        yield from call(request, "delete the memory")

    def metrics(self) -> HttpOperation[DeploymentMetrics]:
        """What was counted since the deployment began, and how it does now."""
        reply = yield from call(Request("GET", path_of("metrics")), "read the figures of the deployment")
        return record_of(DeploymentMetrics, reply.json())

    def servers(self) -> HttpOperation[list[ServerProcess]]:
        """Server processes that were seen lately."""
        return records_of(ServerProcess, (yield from call(Request("GET", path_of("servers")), "list servers")))

    def reload(
        self, restart_workers: bool, host: str | None, timeout: Seconds | None
    ) -> HttpOperation[list[ServerAnswer]]:
        """Have all server processes reload; what each of them did."""
        body = json_object({"restart_workers": bool(restart_workers), "host": host})
        return (yield from self._ask_servers("reload", body, timeout, "have servers reload"))

    def drain(self, worker: str | None, host: str | None, timeout: Seconds | None) -> HttpOperation[list[ServerAnswer]]:
        """Have all server processes, or the one of a worker, finish what runs and end."""
        body = json_object({"worker": worker, "host": host})
        return (yield from self._ask_servers("drain", body, timeout, "drain servers"))

    def _ask_servers(
        self, what: str, body: bytes, timeout: Seconds | None, asked: str
    ) -> HttpOperation[list[ServerAnswer]]:
        seconds = check_span(timeout, "timeout")
        span = LONGEST_WAIT if seconds is None else min(seconds, LONGEST_WAIT)
        path = path_of("servers", what, query=[("wait", f"{span:.3f}")])
        return records_of(ServerAnswer, (yield from call(Request("POST", path, body, wait=span), asked)))

    def preview(self, action: str, wanted: Filter, limit: int | None) -> HttpOperation[BulkPreview]:
        """How many runs an action would be done to, and the first of them."""
        if action not in ACTIONS:
            raise ConfigurationError(f"an action is one of {', '.join(ACTIONS)}, got {shown(action)}")
        body = _action_body(action, wanted, limit, {"dry_run": True})
        if _names_none(wanted):
            return BulkPreview(count=0)
        return record_of(
            BulkPreview, (yield from call(Request("POST", path_of("runs", "actions"), body), "count runs")).json()
        )

    def cancel_runs(self, wanted: Filter, limit: int | None, reason: str, grace: Seconds | None) -> HttpOperation[None]:
        """Yield what came of each."""
        check_text(reason, "reason", LONGEST_REASON, least=0)
        yield from self._act("cancel", wanted, limit, {"reason": reason, "grace": check_span(grace, "grace")})

    def rerun_runs(self, wanted: Filter, limit: int | None, from_node: FromNode, version: str) -> HttpOperation[None]:
        """Yield what came of each."""
        order = checked_order(from_node, version, None, "attach")
        yield from self._act("rerun", wanted, limit, {"from": from_json(order), "blueprint_version": version})

    def delete_runs(self, wanted: Filter, limit: int | None) -> HttpOperation[None]:
        """Yield what came of each."""
        yield from self._act("delete", wanted, limit, {})

    def _act(self, action: str, wanted: Filter, limit: int | None, more: dict[str, Any]) -> HttpOperation[None]:
        """Act on runs through a stream that reports each. It is not opened again: what is left may be asked for anew."""
        body, asked = _action_body(action, wanted, limit, more), f"{action} runs"
        if _names_none(wanted):
            return
        headers = {"accept": "text/event-stream"}
        reply: Reply = yield OpenStream(Request("POST", path_of("runs", "actions"), body, headers, repeatable=False))
        raise_problem(reply, asked)
        while (event := (yield from next_event())) is not None:
            if event.kind == "end":
                return
            if event.kind == "problem":
                raise problem_in(event, asked)
            if event.kind == "closing":
                break
            yield Yield(record_of(BulkOutcome, event_data(event)))
        raise BackendUnavailableError(
            f"cannot {asked}: the API has stopped meanwhile, some are left", operation=asked, maybe_applied=True
        )

    def backup(self) -> HttpOperation[None]:
        """Refuse: a backup is made through Redis."""
        yield from ()
        raise ConfigurationError(
            "a backup is read from Redis: use Client or AsyncClient, `flowcraft backup` without --server"
        )

    def restore(self, lines: Iterable[str]) -> HttpOperation[None]:
        """Refuse: a backup is restored through Redis."""
        yield from ()
        raise ConfigurationError(
            "a backup is written to Redis: use Client or AsyncClient, `flowcraft restore` without --server"
        )

    def list_schedules(self) -> HttpOperation[list[ScheduleInfo]]:
        """All schedules, by their ids."""
        return records_of(ScheduleInfo, (yield from call(Request("GET", path_of("schedules")), "list schedules")))

    def get_schedule(self, schedule_id: str) -> HttpOperation[ScheduleInfo]:
        """A schedule."""
        check_text(schedule_id, "a schedule id", LONGEST_NAME)
        request = Request("GET", path_of("schedules", schedule_id))
        return record_of(ScheduleInfo, (yield from call(request, "read the schedule")).json())

    def change_schedule(self, schedule_id: str, change: Change) -> HttpOperation[None]:
        """Pause, resume or delete a schedule."""
        check_text(schedule_id, "a schedule id", LONGEST_NAME)
        request = (
            Request("DELETE", path_of("schedules", schedule_id))
            if change == "delete"
            else Request("POST", path_of("schedules", schedule_id, change))
        )
        yield from call(request, "change the schedule")

    def trigger_schedule(self, schedule_id: str) -> HttpOperation[str]:
        """Start a run as a tick of the schedule would, now; the value is its id."""
        check_text(schedule_id, "a schedule id", LONGEST_NAME)
        request = Request("POST", path_of("schedules", schedule_id, "trigger"), repeatable=False)
        return member((yield from call(request, "start a run of the schedule")), "run_id", str)


def _names_none(wanted: Filter) -> bool:
    """Whether a filter names no state at all, which a query cannot say."""
    return wanted.statuses is not None and not wanted.statuses


def _action_body(action: str, wanted: Filter, limit: int | None, more: dict[str, Any]) -> bytes:
    """The body of a bulk action.

    Raises:
        ConfigurationError: the filter cannot be used for it.
    """
    if limit is not None:
        check_count(limit, "limit", None, least=1)
    of_states(wanted, *ACTIONS[action])
    return json_object({"action": action, **filter_body(wanted), "limit": limit, **more})
