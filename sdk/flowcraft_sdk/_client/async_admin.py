"""Administration of a deployment: queues, dead letters, the search for stuck runs, and what is done to many runs; for asyncio."""

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any, Literal

from flowcraft_sdk._client.async_handle import AsyncHandle
from flowcraft_sdk._client.connection import AsyncConnection
from flowcraft_sdk._operations import bulk
from flowcraft_sdk._operations.deployment import Seconds
from flowcraft_sdk._operations.rerun import FailedNodes
from flowcraft_sdk.records import (
    BulkOutcome,
    BulkPreview,
    DeadLetter,
    Defect,
    DeploymentMetrics,
    LimitInfo,
    Memory,
    MemoryInfo,
    QueueInfo,
    RestoredItem,
    RunStatus,
    ServerAnswer,
    ServerProcess,
)


class AsyncAdmin:
    """Administration of a deployment: `client.admin`."""

    def __init__(self, client: AsyncConnection) -> None:
        self._client = client

    async def dead_letters(self, *, limit: int = 100) -> list[DeadLetter]:
        """List the nodes that were given up because their worker was lost again and again, the newest first.

        Args:
            limit: How many at most.

        Returns:
            The dead letters.
        """
        return await self._client.driver.run(self._client.operations.dead_letters(limit))

    async def replay(self, run_id: str) -> AsyncHandle[Any]:
        """Do the run of a dead letter again as a new run, and delete its dead letters.

        The new run has the blueprint, version, start context, tags and memo of the old one, which stays as it is, and the id
        `RUN~replay`; repeating the call starts nothing twice. Of a child run, the outermost parent is done again.

        Args:
            run_id: Id of the run.

        Returns:
            A handle to the new run.

        Raises:
            DeadLetterNotFoundError: The run has no dead letter.
            RunStateError: The run is still running.
            RunNotFoundError: There is no such run.
            BlueprintNotFoundError: Its plan is gone.
        """
        replayed = await self._client.driver.run(self._client.operations.replay(run_id))
        return AsyncHandle(self._client, replayed.run_id, None, attached=replayed.attached)

    async def delete_dead_letters(self, run_id: str, node_id: str | None = None) -> int:
        """Delete the dead letters of a run, or of one of its nodes. The run stays as it is.

        Args:
            run_id: Id of the run.
            node_id: Id of the node; None for all nodes of the run.

        Returns:
            How many were deleted.

        Raises:
            DeadLetterNotFoundError: There is none.
        """
        return await self._client.driver.run(self._client.operations.delete_dead_letters(run_id, node_id))

    async def metrics(self) -> DeploymentMetrics:
        """Read what was counted since the deployment began, and how it does now: what `/metrics` reports.

        Returns:
            Counts and histograms by blueprint and by handler, queues, limits, workers, Redis.
        """
        return await self._client.driver.run(self._client.operations.metrics())

    async def examine(self, run_id: str | None = None, *, fix: bool = False) -> list[Defect]:
        """Look for stuck runs and left-over entries.

        Args:
            run_id: Only this run; by default all live runs, and all entries of queues, leases, timers and indexes.
            fix: Whether to repair what is safe to repair.

        Returns:
            The defects, with what was done about each.

        Raises:
            RunNotFoundError: There is no such run.
        """
        return await self._client.driver.run(self._client.operations.examine(run_id, fix))

    async def queues(self) -> list[QueueInfo]:
        """List the queues that nodes wait in, that workers serve or that are paused.

        Returns:
            The queues, by name.
        """
        return await self._client.driver.run(self._client.operations.queues())

    async def pause_queue(self, name: str) -> QueueInfo:
        """Pause a queue: nothing of it is claimed until it is resumed, also after restarts. What runs already runs to its end.

        Args:
            name: Name of the queue.

        Returns:
            The queue, as it is now.

        Raises:
            ConfigurationError: That is no name for a queue.
        """
        return await self._client.driver.run(self._client.operations.pause(name, True))

    async def resume_queue(self, name: str) -> QueueInfo:
        """Have nodes of a queue claimed again.

        Args:
            name: Name of the queue.

        Returns:
            The queue, as it is now.

        Raises:
            ConfigurationError: That is no name for a queue.
        """
        return await self._client.driver.run(self._client.operations.pause(name, False))

    async def servers(self) -> list[ServerProcess]:
        """List the `flowcraft-server` processes that were seen lately: `dev`, `run` and `worker`.

        Returns:
            The processes.
        """
        return await self._client.driver.run(self._client.operations.servers())

    async def reload(
        self, *, restart_workers: bool = False, host: str | None = None, timeout: Seconds | None = 60.0
    ) -> list[ServerAnswer]:
        """Have all server processes read their blueprints again, and replace worker processes whose code has changed.

        Args:
            restart_workers: Whether to replace worker processes although neither their code nor their settings have changed.
            host: Only the processes of the machine with this name.
            timeout: Seconds to wait for their answers; None for no limit.

        Returns:
            What each of them did, as far as it has answered in time.

        Raises:
            NoServerError: No server process was seen lately.
        """
        operation = self._client.operations.reload(restart_workers, host, timeout)
        return await self._client.driver.run(operation)

    async def drain(
        self, worker: str | None = None, *, host: str | None = None, timeout: Seconds | None = 60.0
    ) -> list[ServerAnswer]:
        """Have all server processes, or the process of one worker, take no more work, finish what runs, and end.

        Args:
            worker: Id of the worker; None for all processes.
            host: Only the processes of the machine with this name.
            timeout: Seconds to wait until they have ended; None for no limit. They end in any case.

        Returns:
            How far each of them has come.

        Raises:
            NoServerError: No server process was seen lately, or none has this worker.
        """
        operation = self._client.operations.drain(worker, host, timeout)
        return await self._client.driver.run(operation)

    async def preview_runs(
        self,
        action: Literal["cancel", "rerun", "delete"],
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int | None = None,
    ) -> BulkPreview:
        """Count the runs that `cancel_runs`, `rerun_runs` or `delete_runs` would act on with these arguments. Nothing is done.

        Args:
            action: What is going to be done.
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these.
            tag: Only runs with this tag.
            started_after: Only runs recorded at or after this moment; with a time zone.
            started_before: Only runs recorded before this moment; with a time zone.
            limit: How many at most, the newest ones; None for all.

        Returns:
            How many there are, and the ids of the newest ones.

        Raises:
            ConfigurationError: A filter cannot be used, or the action cannot be done to runs in such a state.
        """
        wanted = bulk.wanted_runs(blueprint_id, status, tag, started_after, started_before)
        return await self._client.driver.run(self._client.operations.preview(action, wanted, limit))

    def cancel_runs(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int | None = None,
        reason: str = "",
        grace: Seconds | None = None,
    ) -> AsyncIterator[BulkOutcome]:
        """Cancel the runs that a filter names, one after the other, while the iterator is read.

        Args:
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these; by default all that have not ended.
            tag: Only runs with this tag.
            started_after: Only runs recorded at or after this moment; with a time zone.
            started_before: Only runs recorded before this moment; with a time zone.
            limit: How many at most, the newest ones; None for all.
            reason: Kept with each run.
            grace: As for `Handle.cancel`.

        Returns:
            An iterator over what came of each run.

        Raises:
            ConfigurationError: A filter cannot be used.
        """
        wanted = bulk.wanted_runs(blueprint_id, status, tag, started_after, started_before)
        return self._client.driver.stream(self._client.operations.cancel_runs(wanted, limit, reason, grace))

    def rerun_runs(
        self,
        from_node: str | Iterable[str] | FailedNodes | None = None,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int | None = None,
        version: Literal["same", "current"] = "same",
    ) -> AsyncIterator[BulkOutcome]:
        """Do the runs that a filter names again, one after the other, while the iterator is read; each as `Handle.rerun` does.

        Args:
            from_node: As for `Handle.rerun`.
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these; by default all that have ended.
            tag: Only runs with this tag.
            started_after: Only runs recorded at or after this moment; with a time zone.
            started_before: Only runs recorded before this moment; with a time zone.
            limit: How many at most, the newest ones; None for all.
            version: As for `Handle.rerun`.

        Returns:
            An iterator over what came of each run. Child runs are left out: they are done again with their parents.

        Raises:
            ConfigurationError: A filter cannot be used.
        """
        wanted = bulk.wanted_runs(blueprint_id, status, tag, started_after, started_before)
        return self._client.driver.stream(self._client.operations.rerun_runs(wanted, limit, from_node, version))

    def delete_runs(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[BulkOutcome]:
        """Remove the ended runs that a filter names, one by one, while the iterator is read; each as `Handle.delete` does.

        Args:
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these; by default all that have ended.
            tag: Only runs with this tag.
            started_after: Only runs recorded at or after this moment; with a time zone.
            started_before: Only runs recorded before this moment; with a time zone.
            limit: How many at most, the newest ones; None for all.

        Returns:
            An iterator over what came of each run. Child runs are left out: they go with their parents.

        Raises:
            ConfigurationError: A filter cannot be used.
        """
        wanted = bulk.wanted_runs(blueprint_id, status, tag, started_after, started_before)
        return self._client.driver.stream(self._client.operations.delete_runs(wanted, limit))

    async def limits(self) -> list[LimitInfo]:
        """List the limits of concurrency and rate, and how many nodes wait for each.

        Returns:
            The limits, by name.
        """
        return await self._client.driver.run(self._client.operations.limits())

    async def memories(self, *, limit: int = 100) -> list[MemoryInfo]:
        """List the conversations that agents keep, those first that are kept longest.

        Args:
            limit: How many at most, up to 1,000.

        Returns:
            The conversations, without their messages.
        """
        return await self._client.driver.run(self._client.operations.list_memories(limit))

    async def memory(self, memory_id: str) -> Memory:
        """Read a conversation that agents keep.

        Args:
            memory_id: Its id, `NAME/KEY`.

        Returns:
            The conversation.

        Raises:
            MemoryNotFoundError: There is none.
        """
        return await self._client.driver.run(self._client.operations.read_memory(memory_id))

    async def delete_memory(self, memory_id: str) -> None:
        """Delete a conversation that agents keep. An agent that runs now adds its turn to a new one when it completes.

        Args:
            memory_id: Its id, `NAME/KEY`.

        Raises:
            MemoryNotFoundError: There is none.
        """
        await self._client.driver.run(self._client.operations.delete_memory(memory_id))

    def backup(self) -> AsyncIterator[str]:
        """Read blueprints, schedules and runs with their results, histories and logs, as lines of JSON: see `restore`.

        Each run is as it was at one moment. One that is under way is in it, too, as far as it was.

        Returns:
            An iterator over the lines, without their ends. A run at a time is held in memory.

        Raises:
            ConfigurationError: No server has published anything under this name.
        """
        return self._client.driver.stream(self._client.operations.backup())

    def restore(self, lines: Iterable[str]) -> AsyncIterator[RestoredItem]:
        """Put what is in a backup into this deployment, while the iterator is read. What is there already stays as it is.

        A run that had not ended is restored as cancelled, so that nothing is run twice unnoticed; `rerun(FAILED)` continues it.
        Schedules are restored paused.

        Args:
            lines: The lines of the backup.

        Returns:
            An iterator over what came of each blueprint, schedule and run.

        Raises:
            BackupError: A line is none that this version knows, or the file was cut off; what was before it is restored.
            ConfigurationError: No server has published anything under this name.
        """
        return self._client.driver.stream(self._client.operations.restore(lines))
