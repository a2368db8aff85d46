"""The sync client."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from flowcraft_sdk import listing, operations
from flowcraft_sdk.connection import ClientSettings, hidden, read_server_file, resolve_namespace, resolve_url
from flowcraft_sdk.context_input import check_run_id, new_run_id
from flowcraft_sdk.driver import SyncDriver
from flowcraft_sdk.errors import ConfigurationError, RunConflictError, WaitTimeoutError
from flowcraft_sdk.handle import Handle, Seconds
from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.records import BlueprintInfo, RunStatus, RunSummary, ServerInfo, WorkerInfo
from flowcraft_sdk.steps import clock

T = TypeVar("T")


class Client:
    """Talks to a Flowcraft deployment through Redis. Cheap to make, connects on first use, thread-safe.

    Args:
        url: of Redis; else `FLOWCRAFT_REDIS_URL`, `REDIS_URL`, `redis://localhost:6379/0`.
        namespace: the deployment's `name`; else `FLOWCRAFT_NAMESPACE`, `flowcraft`.
        redis: a redis-py client of your own for commands; waiting uses a connection made from `url` all the same.
        settings: time-outs and sizes.

    Raises:
        ConfigurationError: the address is none.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        redis: Any = None,
        settings: ClientSettings | None = None,
    ) -> None:
        self.namespace = resolve_namespace(namespace)
        self.settings = settings or ClientSettings()
        self._url = resolve_url(url)
        self.driver = SyncDriver(self._url, self.settings, redis)
        self.deployment = operations.Deployment(Keys(self.namespace), {})

    @classmethod
    def from_config(cls, path: str | Path = "flowcraft.yaml") -> Self:
        """A client for the deployment that this server file describes: the same Redis, the same namespace.

        Raises:
            ConfigurationError: the file cannot be read or used.
        """
        try:
            text = Path(path).read_text("utf-8")
        except OSError as error:
            raise ConfigurationError(f"{path}: {error.strerror}") from error
        url, namespace = read_server_file(str(path), text)
        return cls(url, namespace=namespace)

    @overload
    def start(
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
        parent: "Handle[Any] | str | None" = None,
        result_type: type[T],
    ) -> Handle[T]: ...

    @overload
    def start(
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
        parent: "Handle[Any] | str | None" = None,
        result_type: None = None,
    ) -> Handle[Any]: ...

    def start(
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
        parent: "Handle[Any] | str | None" = None,
        result_type: Any = None,
    ) -> Handle[Any]:
        """Record a run and queue its first nodes in one atomic step; returns before any node has run.

        Repeating a call with the same run_id and ctx gives a handle to the run that is already there.

        Args:
            blueprint_id: which blueprint.
            ctx: the start context: a mapping, a dataclass or a pydantic model.
            run_id: an id of your own; made up otherwise.
            on_conflict: what to do when the id is taken: attach to the same run, or raise.
            delay: seconds to wait before the run begins.
            start_at: when to begin, instead of `delay`.
            run_timeout: seconds that the whole run may take, waits and queueing included.
            tags: short texts to find runs by.
            memo: small JSON shown by `describe`.
            version: a plan hash, to start another version than the current one.
            parent: a run that this one belongs to: it is cancelled and timed out with it.
            result_type: type that `result` is validated as.

        Raises:
            BlueprintNotFoundError, InvalidInputError, SerializationError, RunConflictError, BackendUnavailableError.
        """
        if on_conflict not in ("attach", "raise"):
            raise ConfigurationError(f"on_conflict is 'attach' or 'raise', got {on_conflict!r}")
        if delay is not None and start_at is not None:
            raise ConfigurationError("give delay or start_at, not both")
        chosen = check_run_id(run_id) if run_id is not None else new_run_id()
        options = operations.StartOptions(
            run_id, on_conflict, delay, start_at, run_timeout, tuple(tags), memo, version,
            parent.run_id if isinstance(parent, Handle) else parent, self.settings.max_value,
        )  # fmt: skip
        try:
            attached = self.driver.run(operations.start(self.deployment, blueprint_id, ctx, options, chosen))
        except RunConflictError as error:
            error.existing = self.get_handle(chosen)
            raise
        return Handle(self, chosen, result_type, attached=attached)

    def execute(self, blueprint_id: str, ctx: Any = None, *, timeout: Seconds | None = None, **options: Any) -> Any:
        """`start` then `result`. If the wait runs out the error carries `.handle`, and the run goes on."""
        return self.start(blueprint_id, ctx, **options).result(timeout)

    @overload
    def get_handle(self, run_id: str, *, result_type: type[T]) -> Handle[T]: ...

    @overload
    def get_handle(self, run_id: str, *, result_type: None = None) -> Handle[Any]: ...

    def get_handle(self, run_id: str, *, result_type: Any = None) -> Handle[Any]:
        """A handle to an existing run. No I/O: a wrong id shows at the first call on the handle."""
        return Handle(self, run_id, result_type)

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
    ) -> Iterator[RunSummary]:
        """Runs, newest first, fetched page by page while iterated, never with payloads. limit=None means all."""
        wanted = listing.Filter(blueprint_id, status, tag, parent, started_after, started_before)
        offset, given = 0, 0
        while offset >= 0:
            page, offset = self.driver.run(listing.run_page(self.deployment, wanted, offset))
            for run in page:
                if limit is not None and given >= limit:
                    return
                given += 1
                yield run

    def count_runs(
        self,
        *,
        blueprint_id: str | None = None,
        status: RunStatus | Iterable[RunStatus] | None = None,
        tag: str | None = None,
    ) -> int:
        """How many runs there are."""
        wanted = listing.Filter(blueprint_id, status, tag, None, None, None)
        return self.driver.run(listing.count_runs(self.deployment, wanted))

    def as_completed(self, handles: Iterable[Handle[T]], *, timeout: Seconds | None = None) -> Iterator[Handle[T]]:
        """Yield each handle as its run ends, however it ends.

        Raises:
            WaitTimeoutError: some have not ended in time.
        """
        waiting = dict.fromkeys(handles)
        span = operations.seconds(timeout, "timeout")
        begin = clock()
        ears = {handle: self.driver.hub.listen(self.deployment.keys.channel(handle.run_id)) for handle in waiting}
        try:
            while waiting:
                for handle in [handle for handle in waiting if handle.done()]:
                    del waiting[handle]
                    yield handle
                left = operations.LOOK_AGAIN if span is None else span - (clock() - begin)
                if waiting and left <= 0:
                    first = next(iter(waiting))
                    raise WaitTimeoutError(first.run_id, first.status().value, clock() - begin, first)
                if waiting:
                    self.driver.hub.doze_any([ears[handle] for handle in waiting], min(left, operations.LOOK_AGAIN))
        finally:
            for ear in ears.values():
                self.driver.hub.forget(ear)

    def blueprints(self) -> list[BlueprintInfo]:
        """Published blueprints."""
        return self.driver.run(listing.blueprints(self.deployment))

    def workers(self) -> list[WorkerInfo]:
        """Workers that were heard of lately."""
        return self.driver.run(listing.workers(self.deployment))

    def ping(self) -> ServerInfo:
        """Check Redis and the protocol version.

        Raises:
            BackendUnavailableError, ProtocolMismatchError.
        """
        return self.driver.run(operations.ping(self.deployment))

    def close(self) -> None:
        """Close all connections."""
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.namespace} at {hidden(self._url)}>"
