"""What clients can do, for a deployment that is reached through Redis: each is one operation of the modules beside."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowcraft_sdk._operations import (
    backup,
    blueprint,
    blueprint_versions,
    bulk,
    dead_letters,
    describe,
    doctor,
    list_runs,
    logs,
    memories,
    messages,
    metrics,
    queues,
    removal,
    rerun,
    restore,
    run_pages,
    run_tree,
    runs,
    schedules,
    server_requests,
    signals,
    start,
    stats,
    streams,
    usage,
    wait,
)
from flowcraft_sdk._operations.deployment import Deployment, Seconds
from flowcraft_sdk._operations.effects import Operation
from flowcraft_sdk._operations.list_runs import Filter
from flowcraft_sdk._operations.rerun import FromNode, Rerun
from flowcraft_sdk._operations.schedules import Change
from flowcraft_sdk._operations.start import StartOptions
from flowcraft_sdk.protocol.schedule_record import ScheduleInfo
from flowcraft_sdk.records import (
    BlueprintDetails,
    BlueprintInfo,
    BlueprintVersion,
    BulkPreview,
    DeadLetter,
    Defect,
    DeploymentMetrics,
    LimitInfo,
    Memory,
    MemoryInfo,
    NodeAttempt,
    QueueInfo,
    RunPage,
    RunSnapshot,
    RunStatus,
    ServerAnswer,
    ServerInfo,
    ServerProcess,
    Stats,
    UsageOfDay,
    WaitingPage,
    WorkerInfo,
)


class RedisOperations:
    """The operations of the clients that reach Redis; `HttpOperations` has the same ones.

    Args:
        deployment: which deployment, and what is known of it.
    """

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def start(self, blueprint_id: str, ctx: Any, run_id: str, options: StartOptions) -> Operation[str | None]:
        return start.start(self.deployment, blueprint_id, ctx, run_id, options)

    def choose_run_id(self, run_id: str | None, parent: Any) -> Operation[str]:
        return start.choose_run_id(self.deployment, run_id, parent)

    def result(self, run_id: str, timeout: Seconds | None, handle: Any) -> Operation[Any]:
        return wait.result(self.deployment, run_id, timeout, handle)

    def wait(self, run_id: str, timeout: Seconds | None, handle: Any) -> Operation[RunSnapshot]:
        return wait.wait(self.deployment, run_id, timeout, handle)

    def wait_for(
        self, run_id: str, wanted: frozenset[RunStatus], timeout: Seconds | None, handle: Any
    ) -> Operation[RunStatus]:
        return wait.wait_for(self.deployment, run_id, wanted, timeout, handle)

    def as_completed(self, handles: Mapping[str, Any], timeout: Seconds | None) -> Operation[None]:
        return wait.as_completed(self.deployment, handles, timeout)

    def events(
        self, run_id: str, after: str | None, follow: bool, children: bool, timeout: Seconds | None, handle: Any
    ) -> Operation[None]:
        events_of = run_tree.tree_events if children else wait.events
        return events_of(self.deployment, run_id, after, follow, timeout, handle)

    def logs(
        self,
        run_id: str,
        node_id: str | None,
        after: str | None,
        follow: bool,
        timeout: Seconds | None,
        handle: Any,
    ) -> Operation[None]:
        return logs.logs(self.deployment, run_id, node_id, after, follow, timeout, handle)

    def stream(
        self, run_id: str, node_id: str, after: str | None, timeout: Seconds | None, handle: Any
    ) -> Operation[None]:
        return streams.stream(self.deployment, run_id, node_id, after, timeout, handle)

    def last_event_id(self, run_id: str) -> Operation[str]:
        return wait.last_event_id(self.deployment, run_id)

    def attempts(self, run_id: str) -> Operation[list[NodeAttempt]]:
        return wait.attempts(self.deployment, run_id)

    def status(self, run_id: str) -> Operation[RunStatus]:
        return runs.status(self.deployment, run_id)

    def done(self, run_id: str) -> Operation[bool]:
        return runs.done(self.deployment, run_id)

    def describe(self, run_id: str, ctx: bool, outputs: bool) -> Operation[RunSnapshot]:
        return describe.describe(self.deployment, run_id, ctx, outputs)

    def cancel(self, run_id: str, reason: str, grace: Seconds | None) -> Operation[bool]:
        return runs.cancel(self.deployment, run_id, reason, grace)

    def rerun(
        self, run_id: str, from_node: FromNode, ctx_patch: Any, version: str, new_id: str | None, on_conflict: str
    ) -> Operation[Rerun]:
        return rerun.rerun(self.deployment, run_id, from_node, ctx_patch, version, new_id, on_conflict)

    def delete(self, run_id: str) -> Operation[bool]:
        return removal.delete(self.deployment, run_id)

    def signal(
        self, run_id: str, node_id: str | None, payload: Any, action: str | None, signal_id: str | None, buffer: bool
    ) -> Operation[str]:
        return signals.signal(self.deployment, run_id, node_id, payload, action, signal_id, buffer)

    def send(self, run_id: str, node_id: str, message: Any, message_id: str | None) -> Operation[str]:
        return messages.send(self.deployment, run_id, node_id, message, message_id)

    def list_runs(self, wanted: Filter, limit: int | None, page_size: int) -> Operation[None]:
        return list_runs.list_runs(self.deployment, wanted, limit, page_size)

    def count_runs(self, wanted: Filter) -> Operation[int]:
        return list_runs.count_runs(self.deployment, wanted)

    def run_page(self, wanted: Filter, search: str | None, limit: int, cursor: str | None) -> Operation[RunPage]:
        return run_pages.run_page(self.deployment, wanted, search, limit, cursor)

    def waiting_page(self, limit: int, cursor: str | None) -> Operation[WaitingPage]:
        return run_pages.waiting_page(self.deployment, limit, cursor)

    def blueprint(self, blueprint_id: str, version: str | None) -> Operation[BlueprintDetails]:
        return blueprint.blueprint(self.deployment, blueprint_id, version)

    def blueprint_versions(self, blueprint_id: str) -> Operation[list[BlueprintVersion]]:
        return blueprint_versions.blueprint_versions(self.deployment, blueprint_id)

    def blueprints(self) -> Operation[list[BlueprintInfo]]:
        return list_runs.blueprints(self.deployment)

    def workers(self) -> Operation[list[WorkerInfo]]:
        return list_runs.workers(self.deployment)

    def stats(self, window: Seconds) -> Operation[Stats]:
        return stats.stats(self.deployment, window)

    def usage(self, days: int) -> Operation[list[UsageOfDay]]:
        return usage.usage(self.deployment, days)

    def ping(self) -> Operation[ServerInfo]:
        return runs.ping(self.deployment)

    def dead_letters(self, limit: int) -> Operation[list[DeadLetter]]:
        return dead_letters.dead_letters(self.deployment, limit)

    def replay(self, run_id: str) -> Operation[Rerun]:
        return dead_letters.replay(self.deployment, run_id)

    def delete_dead_letters(self, run_id: str, node_id: str | None) -> Operation[int]:
        return dead_letters.delete_dead_letters(self.deployment, run_id, node_id)

    def examine(self, run_id: str | None, fix: bool) -> Operation[list[Defect]]:
        return doctor.examine(self.deployment, run_id, fix)

    def queues(self) -> Operation[list[QueueInfo]]:
        return queues.queues(self.deployment)

    def pause(self, name: str, paused: bool) -> Operation[QueueInfo]:
        return queues.pause(self.deployment, name, paused)

    def limits(self) -> Operation[list[LimitInfo]]:
        return queues.limits(self.deployment)

    def list_memories(self, limit: int) -> Operation[list[MemoryInfo]]:
        return memories.list_memories(self.deployment, limit)

    def read_memory(self, memory_id: str) -> Operation[Memory]:
        return memories.read_memory(self.deployment, memory_id)

    def delete_memory(self, memory_id: str) -> Operation[None]:
        return memories.delete_memory(self.deployment, memory_id)

    def metrics(self) -> Operation[DeploymentMetrics]:
        return metrics.metrics(self.deployment)

    def servers(self) -> Operation[list[ServerProcess]]:
        return server_requests.servers(self.deployment)

    def reload(self, restart_workers: bool, host: str | None, timeout: Seconds | None) -> Operation[list[ServerAnswer]]:
        return server_requests.reload(self.deployment, restart_workers, host, timeout)

    def drain(self, worker: str | None, host: str | None, timeout: Seconds | None) -> Operation[list[ServerAnswer]]:
        return server_requests.drain(self.deployment, worker, host, timeout)

    def preview(self, action: str, wanted: Filter, limit: int | None) -> Operation[BulkPreview]:
        return bulk.preview(self.deployment, action, wanted, limit)

    def cancel_runs(self, wanted: Filter, limit: int | None, reason: str, grace: Seconds | None) -> Operation[None]:
        return bulk.cancel_runs(self.deployment, wanted, limit, reason, grace)

    def rerun_runs(self, wanted: Filter, limit: int | None, from_node: FromNode, version: str) -> Operation[None]:
        return bulk.rerun_runs(self.deployment, wanted, limit, from_node, version)

    def delete_runs(self, wanted: Filter, limit: int | None) -> Operation[None]:
        return bulk.delete_runs(self.deployment, wanted, limit)

    def backup(self) -> Operation[None]:
        return backup.backup(self.deployment)

    def restore(self, lines: Iterable[str]) -> Operation[None]:
        return restore.restore(self.deployment, lines)

    def list_schedules(self) -> Operation[list[ScheduleInfo]]:
        return schedules.list_schedules(self.deployment)

    def get_schedule(self, schedule_id: str) -> Operation[ScheduleInfo]:
        return schedules.get_schedule(self.deployment, schedule_id)

    def change_schedule(self, schedule_id: str, change: Change) -> Operation[None]:
        return schedules.change_schedule(self.deployment, schedule_id, change)

    def trigger_schedule(self, schedule_id: str) -> Operation[str]:
        return schedules.trigger_schedule(self.deployment, schedule_id)
