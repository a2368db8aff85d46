"""The async client."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from flowcraft_sdk._client.async_admin import AsyncAdmin
from flowcraft_sdk._client.async_handle import AsyncHandle
from flowcraft_sdk._client.async_schedules import AsyncSchedules
from flowcraft_sdk._client.reference import T, check_handles
from flowcraft_sdk._client.server_file import read_server_file
from flowcraft_sdk._operations import list_runs
from flowcraft_sdk._operations.deployment import Deployment, Seconds, checked_partitions
from flowcraft_sdk._operations.over_redis import RedisOperations
from flowcraft_sdk._operations.start import BudgetLike, OnParentCancel, Priority, StartOptions
from flowcraft_sdk._transport.async_driver import AsyncDriver
from flowcraft_sdk._transport.connector import ClientSettings, hidden, resolve_namespace, resolve_url, settled, url_of
from flowcraft_sdk.errors import RunConflictError
from flowcraft_sdk.protocol.context_input import check_known_run_id, check_run_id, new_run_id
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.records import (
    BlueprintDetails,
    BlueprintInfo,
    BlueprintVersion,
    RunPage,
    RunStatus,
    RunSummary,
    ServerInfo,
    Stats,
    UsageOfDay,
    WaitingPage,
    WorkerInfo,
)


class AsyncClient:
    """Starts runs of a deployment and gives handles to them, through Redis. Use it as a context manager.

    A client is cheap to make and connects on first use. A `Client` is for threads: one may serve all of them, and survives a
    fork. An `AsyncClient` is for asyncio, with the same methods; it belongs to the event loop that uses it first.

    Example:
        ```python
        with Client("redis://localhost:6379/0", namespace="agents") as client:
            print(client.execute("summarize", {"text": "..."}, timeout=60))
        ```

    Args:
        url: Address of Redis; by default `FLOWCRAFT_REDIS_URL`, `REDIS_URL`, or `redis://localhost:6379/0`.
        namespace: The deployment's `name`; by default `FLOWCRAFT_NAMESPACE`, or `flowcraft`.
        redis: A redis-py client of your own for commands, in place of `url`; waiting opens one more connection like its own.
        partitions: How many partitions the deployment must have; by default as many as its record in Redis says.
        settings: Time-outs and sizes.

    Raises:
        ConfigurationError: The address cannot be used, or both an address and a client are given.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        redis: Any = None,
        partitions: int | None = None,
        settings: ClientSettings | None = None,
    ) -> None:
        self.namespace = resolve_namespace(namespace)
        self.settings = settled(settings)
        self._url = resolve_url(url) if redis is None else url_of(redis, url, asynchronous=True)
        keys = Keys(self.namespace)
        self.driver = AsyncDriver(self._url, self.settings, keys.inbox_prefix, redis)
        self.deployment = Deployment(
            keys,
            self.settings.max_outage,
            self.settings.max_value,
            ack_timeout=self.settings.socket_timeout * 0.6,
            expected_partitions=checked_partitions(partitions),
        )
        self.operations = RedisOperations(self.deployment)

    @classmethod
    def from_config(
        cls, path: str | Path = "flowcraft.yaml", *, profile: str | None = None, settings: ClientSettings | None = None
    ) -> Self:
        """Make a client for the deployment that a `flowcraft.yaml` describes: the same Redis, the same namespace.

        The file is read as the server reads it, with the `.env` file beside it.

        Args:
            path: Path of the file.
            profile: Name of a profile in it; by default `FLOWCRAFT_PROFILE`.
            settings: Time-outs and sizes.

        Returns:
            The client.

        Raises:
            ConfigurationError: The file cannot be read or used.
        """
        url, namespace = read_server_file(path, profile)
        return cls(url, namespace=namespace, settings=settings)

    @overload
    async def start(
        self, blueprint_id: str, ctx: Any = None, *, result_type: type[T], **options: Unpack[StartOptions]
    ) -> AsyncHandle[T]: ...

    @overload
    async def start(
        self, blueprint_id: str, ctx: Any = None, *, result_type: Any = None, **options: Unpack[StartOptions]
    ) -> AsyncHandle[Any]: ...

    async def start(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        run_id: str | None = None,
        on_conflict: Literal["attach", "raise"] = "attach",
        delay: Seconds | None = None,
        start_at: datetime | None = None,
        run_timeout: Seconds | None = None,
        tags: Iterable[str] = (),
        memo: Mapping[str, Any] | None = None,
        version: str | None = None,
        parent: AsyncHandle[Any] | str | None = None,
        priority: Priority | None = None,
        budget: BudgetLike | None = None,
        key: str | None = None,
        on_parent_cancel: OnParentCancel = "cancel",
        result_type: Any = None,
    ) -> AsyncHandle[Any]:
        """Record a run and queue its first nodes in one atomic step. Returns before any node has run.

        Repeating a call with the same run_id and ctx gives a handle to the run that is already there.

        Args:
            blueprint_id: Id of the blueprint.
            ctx: The start context: a mapping, a dataclass or a pydantic model.
            run_id: An id of your own; by default a new one is made. With a `parent` it may be `ROOT~NAME`, that of the outermost
                run and letters and digits; it must be where the deployment has several partitions.
            on_conflict: What to do when the id is taken: "attach" to the same run, or "raise".
            delay: Seconds (or a timedelta, or a text such as "5m") to wait before the run begins.
            start_at: When to begin, in place of `delay`; with a time zone.
            run_timeout: Seconds that the whole run may take, waits and queueing included.
            tags: Short texts to find runs by.
            memo: Small JSON value that `describe` shows.
            version: A plan hash, to start another version than the current one.
            parent: A run, or its id, whose deadline, depth of nesting and priority this one inherits.
            priority: "high", "normal" or "low", for its child runs too: which nodes are claimed first when more are ready than
                workers can run. None for that of the parent, else "normal".
            budget: What its model calls may use at most, with those of its child runs: `{"usd": 0.5, "tokens": "200k"}`, or
                one of the two. The call that would follow raises BudgetExceededError in the handler, and its node fails.
            key: Such as the id of a customer: what the run is counted by where a blueprint or the deployment limits the
                concurrent runs of one key (`limits.concurrentRunsPerKey`). Up to 200 characters.
            on_parent_cancel: "abandon" lets it go on when its parent is cancelled, fails or times out; it inherits no deadline.
            result_type: Type that `result` is validated as.

        Returns:
            A handle to the run; its `attached` says whether the run was there already.

        Raises:
            BlueprintNotFoundError: There is no such blueprint, or not in this version; the message names similar ones.
            InvalidInputError: The context does not fit the blueprint's `inputs`.
            SerializationError: The context holds a value that cannot be stored; the message has its path.
            RunConflictError: The id is taken by another run.
            RunNotFoundError: There is no such parent.
            RunLimitError: There are as many concurrent runs as there may be, and the limit says `overflow: reject`.
            BackendUnavailableError: Redis did not answer.
        """
        if parent is not None:
            chosen = await self.driver.run(self.operations.choose_run_id(run_id, parent))
        else:
            chosen = check_run_id(run_id) if run_id is not None else new_run_id()
        options: StartOptions = {
            "on_conflict": on_conflict, "delay": delay, "start_at": start_at, "run_timeout": run_timeout,
            "tags": tags, "memo": memo, "version": version, "parent": parent, "priority": priority,
            "budget": budget, "key": key, "on_parent_cancel": on_parent_cancel,
        }  # fmt: skip
        try:
            operation = self.operations.start(blueprint_id, ctx, chosen, options)
            notification_token = await self.driver.run(operation)
        except RunConflictError as error:
            error.existing = self.get_handle(chosen)
            raise
        return AsyncHandle(
            self, chosen, result_type, attached=notification_token is None, notification_token=notification_token
        )

    @overload
    async def execute(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        timeout: Seconds | None = None,
        result_type: type[T],
        **options: Unpack[StartOptions],
    ) -> T: ...

    @overload
    async def execute(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        timeout: Seconds | None = None,
        result_type: Any = None,
        **options: Unpack[StartOptions],
    ) -> Any: ...

    async def execute(
        self,
        blueprint_id: str,
        ctx: Any = None,
        *,
        timeout: Seconds | None = None,
        result_type: Any = None,
        **options: Unpack[StartOptions],
    ) -> Any:
        """Start a run and wait for its result: `start` then `result`, with the arguments of both.

        If the time-out passes, the error carries the handle of the run, which is still running.

        Args:
            blueprint_id: Id of the blueprint.
            ctx: The start context: a mapping, a dataclass or a pydantic model.
            timeout: Seconds to wait for the result; None for no limit.
            result_type: Type that the result is validated as.
            **options: The other arguments of `start`.

        Returns:
            The output of the run.

        Raises:
            WaitTimeoutError: The run has not ended in time; `handle` reaches it.
            RunFailedError: A node failed for good.
            RunCancelledError: The run was cancelled.
            RunTimedOutError: The run passed its own deadline.
        """
        handle = await self.start(blueprint_id, ctx, result_type=result_type, **options)
        return await handle.result(timeout)

    @overload
    def get_handle(self, run_id: str, *, result_type: type[T]) -> AsyncHandle[T]: ...

    @overload
    def get_handle(self, run_id: str, *, result_type: Any = None) -> AsyncHandle[Any]: ...

    def get_handle(self, run_id: str, *, result_type: Any = None) -> AsyncHandle[Any]:
        """Make a handle to an existing run. It does no I/O: a wrong id shows at the first call on the handle.

        Args:
            run_id: Id of the run.
            result_type: Type that `result` is validated as.

        Returns:
            The handle.

        Raises:
            ConfigurationError: The id is no text that can be one.
        """
        return AsyncHandle(self, check_known_run_id(run_id), result_type)

    def list_runs(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
        parent: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        limit: int | None = 100,
        page_size: int = 100,
    ) -> AsyncIterator[RunSummary]:
        """List runs, newest first, without payloads. They are fetched page by page while the iterator is read.

        Args:
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these.
            tag: Only runs with this tag.
            parent: Only children of this run.
            started_after: Only runs recorded at or after this moment; with a time zone.
            started_before: Only runs recorded before this moment; with a time zone.
            limit: How many at most; None for all.
            page_size: How many to fetch at once.

        Returns:
            An iterator over the runs.

        Raises:
            ConfigurationError: A filter, the limit or the page size cannot be used.
        """
        statuses = list_runs.checked_statuses(status)
        wanted = list_runs.Filter(blueprint_id, statuses, tag, parent, started_after, started_before)
        return self.driver.stream(self.operations.list_runs(wanted, limit, page_size))

    async def count_runs(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
    ) -> int:
        """Count runs.

        Args:
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these.
            tag: Only runs with this tag.

        Returns:
            How many there are.
        """
        wanted = list_runs.Filter(blueprint_id, list_runs.checked_statuses(status), tag)
        return await self.driver.run(self.operations.count_runs(wanted))

    def as_completed(
        self, handles: Iterable[AsyncHandle[T]], *, timeout: Seconds | None = None
    ) -> AsyncIterator[AsyncHandle[T]]:
        """Yield each handle as its run ends, however it ends.

        Args:
            handles: Handles of this client.
            timeout: Seconds in all; None for no limit.

        Returns:
            An iterator over the handles, in the order in which their runs end.

        Raises:
            ConfigurationError: An element is no handle.
            WaitTimeoutError: Some runs have not ended in time.
        """
        waiting_for = {handle.run_id: handle for handle in check_handles(handles, AsyncHandle)}
        return self.driver.stream(self.operations.as_completed(waiting_for, timeout))

    async def list_runs_page(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
        parent: str | None = None,
        started_after: datetime | None = None,
        started_before: datetime | None = None,
        search: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> RunPage:
        """Read a page of runs, newest first, without payloads; its cursor leads to the next one, in any process.

        Args:
            blueprint_id: Only runs of this blueprint.
            status: Only runs in this state, or in one of these.
            tag: Only runs with this tag.
            parent: Only children of this run.
            started_after: Only runs recorded at or after this moment; with a time zone.
            started_before: Only runs recorded before this moment; with a time zone.
            search: Only runs whose id begins with this text, or whose first failure has it in its type or message.
            limit: How many at most, up to 1,000.
            cursor: The `next_cursor` of the page before.

        Returns:
            The page. At most 5,000 runs are looked at for it, so it may be short, or empty, and still not be the last one.

        Raises:
            ConfigurationError: A filter, the limit or the cursor cannot be used.
        """
        statuses = list_runs.checked_statuses(status)
        wanted = list_runs.Filter(blueprint_id, statuses, tag, parent, started_after, started_before)
        return await self.driver.run(self.operations.run_page(wanted, search, limit, cursor))

    async def waiting(self, *, limit: int = 100, cursor: str | None = None) -> WaitingPage:
        """Read a page of the nodes that wait for a signal, in all runs.

        Args:
            limit: About how many, up to 1,000: a page ends behind the run with which it has as many.
            cursor: The `next_cursor` of the page before.

        Returns:
            The page.

        Raises:
            ConfigurationError: The limit or the cursor cannot be used.
        """
        return await self.driver.run(self.operations.waiting_page(limit, cursor))

    async def blueprint(self, blueprint_id: str, *, version: str | None = None) -> BlueprintDetails:
        """Read a published blueprint with its graph.

        Args:
            blueprint_id: Id of the blueprint.
            version: A plan hash, for another version than the current one.

        Returns:
            The blueprint.

        Raises:
            BlueprintNotFoundError: There is no such blueprint, or not in this version.
        """
        return await self.driver.run(self.operations.blueprint(blueprint_id, version))

    async def blueprint_versions(self, blueprint_id: str) -> list[BlueprintVersion]:
        """List the versions of a blueprint: the current one, and those that kept runs have.

        Args:
            blueprint_id: Id of the blueprint.

        Returns:
            The versions, the current one first, then those of the most runs.

        Raises:
            BlueprintNotFoundError: There is no such blueprint.
        """
        return await self.driver.run(self.operations.blueprint_versions(blueprint_id))

    async def blueprints(self) -> list[BlueprintInfo]:
        """List the published blueprints.

        Returns:
            The current version of each.
        """
        return await self.driver.run(self.operations.blueprints())

    async def workers(self) -> list[WorkerInfo]:
        """List the workers that were seen recently.

        Returns:
            One record for each worker.
        """
        return await self.driver.run(self.operations.workers())

    async def stats(self, window: Seconds = "1h") -> Stats:
        """Count the runs that have ended lately, and look how the deployment does.

        Args:
            window: Seconds, a minute to 30 days: by the minute up to a day, by the hour beyond.

        Returns:
            Counts and durations over the window, in parts and by blueprint; states, queues, workers and memory as they are now.

        Raises:
            ConfigurationError: The window cannot be used.
        """
        return await self.driver.run(self.operations.stats(window))

    async def usage(self, days: int = 1) -> list[UsageOfDay]:
        """Read what model calls have used, by blueprint, tag and model.

        Args:
            days: How many days back, in UTC, from 1 for today alone to 40.

        Returns:
            Sums: of each day, today first, that of all calls, and of each blueprint, tag and model; what cost the most first.

        Raises:
            ConfigurationError: There cannot be so many days.
        """
        return await self.driver.run(self.operations.usage(days))

    async def ping(self) -> ServerInfo:
        """Check that Redis answers, and that client and deployment speak the same version of the protocol.

        Returns:
            What was found there.

        Raises:
            BackendUnavailableError: Redis does not answer.
            ProtocolMismatchError: The deployment speaks another version.
        """
        return await self.driver.run(self.operations.ping())

    @property
    def admin(self) -> AsyncAdmin:
        """Administration: queues, dead letters, and the search for stuck runs."""
        return AsyncAdmin(self)

    @property
    def schedules(self) -> AsyncSchedules:
        """The schedules of the deployment."""
        return AsyncSchedules(self)

    async def aclose(self) -> None:
        """Close all connections. The client cannot be used afterwards."""
        await self.driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.namespace} at {hidden(self._url)}>"
