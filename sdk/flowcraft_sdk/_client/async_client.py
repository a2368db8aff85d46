"""The async client."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from flowcraft_sdk._client.async_admin import AsyncAdmin
from flowcraft_sdk._client.async_handle import AsyncHandle
from flowcraft_sdk._client.reference import T, check_handles
from flowcraft_sdk._client.server_file import read_server_file
from flowcraft_sdk._operations import list_runs, runs, start, wait
from flowcraft_sdk._operations.deployment import Deployment, Seconds, checked_partitions
from flowcraft_sdk._operations.start import StartOptions
from flowcraft_sdk._transport.async_driver import AsyncDriver
from flowcraft_sdk._transport.connector import ClientSettings, hidden, resolve_namespace, resolve_url, url_of
from flowcraft_sdk.errors import RunConflictError
from flowcraft_sdk.protocol.context_input import check_known_run_id, check_run_id, new_run_id
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.records import BlueprintInfo, RunStatus, RunSummary, ServerInfo, WorkerInfo


class AsyncClient:
    """Talks to a Flowcraft deployment through Redis. Cheap to make, connects on first use. Use as a context manager.

    A `Client` is for threads: one may serve all of them, and survives a fork. An `AsyncClient` is for asyncio, with the
    same methods; it belongs to the event loop that uses it first.

    Args:
        url: of Redis; else `FLOWCRAFT_REDIS_URL`, `REDIS_URL`, `redis://localhost:6379/0`.
        namespace: the deployment's `name`; else `FLOWCRAFT_NAMESPACE`, `flowcraft`.
        redis: a redis-py client of your own for commands, instead of `url`; waiting opens one more connection like its.
        partitions: how many partitions the deployment must have; by default as many as its record in Redis says.
        settings: time-outs and sizes.

    Raises:
        ConfigurationError: the address is none, or both it and a client are given.
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
        self.settings = settings or ClientSettings()
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

    @classmethod
    def from_config(
        cls, path: str | Path = "flowcraft.yaml", *, profile: str | None = None, settings: ClientSettings | None = None
    ) -> Self:
        """A client for the deployment that this server file describes: the same Redis, the same namespace.

        Read as the server reads it, with the `.env` file beside it.

        Args:
            path: of the file.
            profile: name of a profile in it; else `FLOWCRAFT_PROFILE`.
            settings: time-outs and sizes.

        Raises:
            ConfigurationError: the file cannot be read or used.
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
        result_type: Any = None,
    ) -> AsyncHandle[Any]:
        """Record a run and queue its first nodes in one atomic step; returns before any node has run.

        Repeating a call with the same run_id and ctx gives a handle to the run that is already there.

        Args:
            blueprint_id: which blueprint.
            ctx: the start context: a mapping, a dataclass or a pydantic model.
            run_id: an id of your own; made up otherwise. With a `parent` it may be `ROOT~NAME`: the id of the outermost run, and
                letters and digits; it must be where the deployment has several partitions.
            on_conflict: what to do when the id is taken: "attach" to the same run, or "raise".
            delay: seconds to wait before the run begins.
            start_at: when to begin, instead of `delay`; with a time zone.
            run_timeout: seconds that the whole run may take, waits and queueing included.
            tags: short texts to find runs by.
            memo: small JSON shown by `describe`.
            version: a plan hash, to start another version than the current one.
            parent: a run whose deadline and depth of nesting this one inherits.
            result_type: type that `result` is validated as.

        Raises:
            BlueprintNotFoundError: no such blueprint, or not in this version; it names near ones.
            InvalidInputError: the context does not fit the blueprint's `inputs`.
            SerializationError: the context holds what cannot be stored; it names where.
            RunConflictError: the id is taken by another run.
            RunNotFoundError: there is no such parent.
            BackendUnavailableError: Redis did not answer.
        """
        if parent is not None:
            chosen = await self.driver.run(start.choose_run_id(self.deployment, run_id, parent))
        else:
            chosen = check_run_id(run_id) if run_id is not None else new_run_id()
        options: StartOptions = {
            "on_conflict": on_conflict, "delay": delay, "start_at": start_at, "run_timeout": run_timeout,
            "tags": tags, "memo": memo, "version": version, "parent": parent,
        }  # fmt: skip
        try:
            operation = start.start(self.deployment, blueprint_id, ctx, chosen, options)
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
        """`start` then `result`, with the arguments of both.

        If the wait runs out the error carries `.handle`, and the run goes on.
        """
        handle = await self.start(blueprint_id, ctx, result_type=result_type, **options)
        return await handle.result(timeout)

    @overload
    def get_handle(self, run_id: str, *, result_type: type[T]) -> AsyncHandle[T]: ...

    @overload
    def get_handle(self, run_id: str, *, result_type: Any = None) -> AsyncHandle[Any]: ...

    def get_handle(self, run_id: str, *, result_type: Any = None) -> AsyncHandle[Any]:
        """A handle to an existing run. No I/O: a wrong id shows at the first call on the handle."""
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
        """Runs, newest first, fetched page by page while iterated, never with payloads.

        Args:
            blueprint_id: only runs of this blueprint.
            status: only runs in this state, or in one of these.
            tag: only runs with this tag.
            parent: only children of this run.
            started_after: only runs recorded at or after this moment; with a time zone.
            started_before: only runs recorded before this moment; with a time zone.
            limit: at most so many; None for all.
            page_size: how many to fetch at once.
        """
        statuses = list_runs.checked_statuses(status)
        wanted = list_runs.Filter(blueprint_id, statuses, tag, parent, started_after, started_before)
        return self.driver.stream(list_runs.list_runs(self.deployment, wanted, limit, page_size))

    async def count_runs(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
    ) -> int:
        """How many runs there are."""
        wanted = list_runs.Filter(blueprint_id, list_runs.checked_statuses(status), tag)
        return await self.driver.run(list_runs.count_runs(self.deployment, wanted))

    def as_completed(
        self, handles: Iterable[AsyncHandle[T]], *, timeout: Seconds | None = None
    ) -> AsyncIterator[AsyncHandle[T]]:
        """Yield each handle as its run ends, however it ends.

        Raises:
            ConfigurationError: what is given are no handles.
            WaitTimeoutError: some have not ended in time.
        """
        waiting_for = {handle.run_id: handle for handle in check_handles(handles, AsyncHandle)}
        return self.driver.stream(wait.as_completed(self.deployment, waiting_for, timeout))

    async def blueprints(self) -> list[BlueprintInfo]:
        """Published blueprints."""
        return await self.driver.run(list_runs.blueprints(self.deployment))

    async def workers(self) -> list[WorkerInfo]:
        """Workers that were seen lately."""
        return await self.driver.run(list_runs.workers(self.deployment))

    async def ping(self) -> ServerInfo:
        """Check Redis and the protocol version.

        Raises:
            BackendUnavailableError: Redis does not answer.
            ProtocolMismatchError: the deployment speaks another version.
        """
        return await self.driver.run(runs.ping(self.deployment))

    @property
    def admin(self) -> AsyncAdmin:
        """Administration: dead letters, and the search for stuck runs."""
        return AsyncAdmin(self)

    async def aclose(self) -> None:
        """Close all connections; afterwards the client is of no use."""
        await self.driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.namespace} at {hidden(self._url)}>"
