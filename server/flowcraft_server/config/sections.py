"""The sections of `flowcraft.yaml`. Attributes are snake_case, keys camelCase; times are seconds, sizes bytes."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from flowcraft_sdk._operations.durability import ONE_REPLICA, REPLICA
from flowcraft_sdk._transport.address import EXPECTED, AddressError, checked_address
from flowcraft_sdk.protocol.bounds import LONGEST_SPAN
from flowcraft_sdk.protocol.partitions import MOST_PARTITIONS
from flowcraft_server.blueprints.run_limits import Overflow

from .quantities import Duration, Rate, Size, format_duration

EMBEDDED = "embedded:"
"""The `redis.url` that stands for a server of our own."""

Amount = Annotated[int, Field(ge=1, le=1_000_000_000)]
Threads = Annotated[int, Field(ge=1, le=10_000)]
Attempts = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[Duration, Field(gt=0, le=LONGEST_SPAN)]
SecondsOrNone = Annotated[Duration, Field(ge=0, le=LONGEST_SPAN)]
NamePattern = Annotated[str, Field(min_length=1, max_length=100)]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _three_tenths_of_lease(values: dict[str, Any]) -> Any:
    return f"{values.get('lease', 10.0) * 0.3:.6f}s"  # written out, as all durations that are validated


def mistake(message: str, **context: Any) -> PydanticCustomError:
    """A mistake in a value; `message` is the sentence a user reads."""
    return PydanticCustomError("mistake", "{why}", {"why": message, **context})


class Section(BaseModel):
    """What all sections share: unknown keys are mistakes, and nothing changes once it is loaded.

    A bare value in the place of a section stands for the section's key `short_form`, if it has one.
    """

    short_form: ClassVar[str | None] = None

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if cls.short_form is None or isinstance(value, (dict, BaseModel)):
            return value
        return {cls.short_form: value}


def dotted_path(path: str) -> str:
    """The path, if it is one of a function: `package.module:function`."""
    module, colon, attribute = path.partition(":")
    if not colon or not attribute or not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
        package, dot, function = path.rpartition(".")
        meant = f"; did you mean '{package}:{function}'?" if not colon and dot and package and function != "py" else ""
        raise mistake(f"expected 'package.module:function', got '{path}'{meant}")
    return path


class HandlerEntry(Section):
    """A handler by name; the short form is the dotted path alone.

    Attributes:
        path: `package.module:attribute`.
        timeout: Time limit of an attempt, for the nodes that use it and set none.
        queue: Queue of the nodes that use it and name none.
        rate_limit: How many nodes that use it may begin in a time, over all workers: `10/s`, `100/m`.
        max_concurrent: How many nodes that use it run at once, over all workers.
        limit: The limit of `limits.named` that nodes count against which use it and name none.
        params: Defaults for the nodes' params.
    """

    short_form = "path"

    path: str
    timeout: Seconds | None = None
    queue: QueueName | None = None
    rate_limit: Rate | None = None
    max_concurrent: Amount | None = None
    limit: QueueName | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.limit is not None and (self.rate_limit is not None or self.max_concurrent is not None):
            raise mistake("a node counts against one limit: give limit, or rateLimit and maxConcurrent", at="limit")
        return self

    @field_validator("path")
    @classmethod
    def _is_dotted(cls, path: str) -> str:
        return dotted_path(path)


class BlueprintsSection(Section):
    """Where blueprints are: folders, relative to `flowcraft.yaml`.

    Attributes:
        dirs: The folders; folders below them are not looked into.
        reload: When their files are read again: `watch` when they change, `manual` when that is asked for; `auto` watches in
            `dev` alone.
    """

    dirs: tuple[str, ...] = ()
    reload: Literal["auto", "watch", "manual"] = "auto"


class RedisSection(Section):
    """Where Redis is, and when what it acknowledged counts as kept. `data_dir` and `fsync` are for the embedded server.

    Attributes:
        url: Address of Redis or Valkey, or `embedded:` for a server that `dev` starts.
        data_dir: Where the embedded server keeps its data.
        fsync: When the embedded server writes to disk: after each command, or every second.
        durability: When a start and a result count as kept: `async`, `fsync`, `replica` or `replicas:N`.
        require_no_eviction: Whether a Redis that may evict keys, or is a replica, is refused.
        connect_timeout: How long to try to reach Redis at the start.
        partitions: How many partitions the runs are spread over; fixed for the life of a deployment.
    """

    url: str = Field(default=EMBEDDED, repr=False)
    data_dir: str = ".flowcraft/data"
    fsync: Literal["always", "everysec"] = "everysec"
    durability: str = "async"
    require_no_eviction: bool = True
    connect_timeout: Seconds = 5.0
    partitions: int = Field(default=1, ge=1, le=MOST_PARTITIONS)

    @field_validator("durability")
    @classmethod
    def _is_a_level(cls, level: str) -> str:
        if not re.fullmatch(r"async|fsync|replica|replicas:[1-9]\d?", level):
            raise mistake(f"expected async, fsync, replica or replicas:N, got '{level}'")
        return ONE_REPLICA if level == REPLICA else level

    @field_validator("url")
    @classmethod
    def _is_known(cls, url: str) -> str:
        if url == EMBEDDED:
            return url
        try:
            return checked_address(url)
        except AddressError as error:
            raise mistake(f"{error}, or {EMBEDDED}" if str(error) == EXPECTED else str(error)) from None

    @property
    def embedded(self) -> bool:
        """Whether the server is one of our own."""
        return self.url == EMBEDDED


class ExecutorSection(Section):
    """How nodes are run.

    Attributes:
        queues: Queue, or list of queues, that this process serves, the first one first.
        workers: Threads of each process; with `worker_type: process`, processes of one thread each.
        worker_type: Whether workers are threads of one process, or processes.
        processes: How many processes, each with its own threads and event loop.
        async_concurrency: How many coroutines run at once in each process.
        lease: How long a dead worker can hold a node.
        heartbeat: How often leases are renewed; three tenths of the lease when it is not set.
        drain_timeout: How long running nodes may take to finish at a shutdown.
        cancel_grace: How long the running nodes of a cancelled run may take to give up.
        max_crashes: After how many crashed workers a node is given up.
        abandoned_threads: How many threads may be lost to functions whose node has ended, before the process is replaced.
    """

    queues: Annotated[tuple[QueueName, ...], Field(min_length=1, alias="queue")] = ("default",)
    workers: Threads = 4
    worker_type: Literal["thread", "process"] = "thread"
    processes: Annotated[int, Field(ge=1, le=1_000)] = 1
    async_concurrency: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    lease: Annotated[Duration, Field(ge=0.1, le=86_400)] = 10.0
    heartbeat: Seconds = Field(default_factory=_three_tenths_of_lease, validate_default=True)
    drain_timeout: SecondsOrNone = 25.0
    cancel_grace: SecondsOrNone = 30.0
    max_crashes: Attempts = 3
    abandoned_threads: Threads = 8

    @field_validator("queues", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("queues")
    @classmethod
    def _once_each(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(queues))

    @field_validator("processes")
    @classmethod
    def _of_threads(cls, processes: int, info: ValidationInfo) -> int:
        if processes > 1 and info.data.get("worker_type") == "process":
            raise mistake(
                "counts with workerType: thread (it is process{related}); with process, workers says how many there are",
                related=("executor", "workerType"),
            )
        return processes

    @field_validator("heartbeat")
    @classmethod
    def _under_half_of_lease(cls, heartbeat: float, info: ValidationInfo) -> float:
        lease = info.data.get("lease")
        if lease is not None and heartbeat >= lease / 2:
            written = format_duration(heartbeat)
            raise mistake(
                f"{written} must be less than half of lease ({format_duration(lease)}{{related}})",
                related=("executor", "lease"),
            )
        return heartbeat


class RetryDelaySection(Section):
    """A pause before a further attempt: `initial * factor ** failures`, at most `max`, spread by `jitter`.

    Attributes:
        initial: The pause before the second attempt.
        factor: By what each further pause is longer than the one before it.
        max: The longest pause.
        jitter: Share of the pause, 0 to 1, by which it is longer or shorter at random.
    """

    short_form = "initial"

    initial: SecondsOrNone
    factor: Annotated[float, Field(ge=1, le=1_000)] = 1.0
    max: Seconds | None = None
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0


class DefaultsSection(Section):
    """Settings of nodes that have none of their own.

    Attributes:
        max_retries: How many attempts a node has in all, the first one too.
        retry_delay: The pause before a further attempt.
        timeout: Time limit of an attempt; no limit if it is not set.
        join_strategy: Whether a node with several incoming edges waits for all of them or for the first.
    """

    max_retries: Attempts = 1
    retry_delay: RetryDelaySection | None = None
    timeout: Seconds | None = None
    join_strategy: Literal["all", "any"] = "all"


class NamedLimitSection(Section):
    """A limit that nodes of several handlers share, over all workers.

    Attributes:
        rate: How many of them may begin in a time: `10/s`, `100/m`.
        max_concurrent: How many of them run at once.
    """

    rate: Rate | None = None
    max_concurrent: Amount | None = None


class LimitsSection(Section):
    """Bounds against mistakes, and limits that nodes share.

    Attributes:
        named: Limits by the name that `config.limit` of nodes and `limit` of handlers have.
        concurrent_runs: How many runs of the deployment there may be at once.
        concurrent_runs_per_key: The same, of runs that were started with one key.
        overflow: What becomes of a run that is one too many.
        subflow_depth: How deep subflows nest.
        dynamic_nodes: How many nodes handlers may add to a run.
        inline_value: Above this size, a stored value is worth a warning in the log.
        max_value: The largest value that is stored.
    """

    named: dict[QueueName, NamedLimitSection] = Field(default_factory=dict)
    concurrent_runs: Amount | None = None
    concurrent_runs_per_key: Amount | None = None
    overflow: Overflow = "queue"
    subflow_depth: Annotated[int, Field(ge=1, le=1000)] = 16
    dynamic_nodes: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    inline_value: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 64 * 1024
    max_value: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 16 * 1024 * 1024


class HistorySection(Section):
    """Whether the events of a run are kept. `on` and `off` are short for `enabled`.

    Attributes:
        enabled: Whether they are kept.
        events: How many of a run's newest events are kept.
    """

    short_form = "enabled"

    enabled: bool = True
    events: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000


class CaptureSection(Section):
    """What of the lines that handlers log is kept with their runs. A level in place of the section sets its `level`.

    Attributes:
        level: The least severe level that is kept; lines that `logging.level` leaves out are not, either. `none` for nothing.
        lines: How many lines of an attempt are kept, the first ones.
        bytes: How many bytes of an attempt.
        run_bytes: How many bytes of a run; the oldest lines make room.
    """

    short_form: ClassVar[str | None] = "level"

    level: Literal["none", "trace", "debug", "info", "warning", "error", "critical"] = "info"
    lines: Annotated[int, Field(ge=1, le=500)] = 100
    bytes: Annotated[Size, Field(ge=1024, le=1024 * 1024)] = 16 * 1024
    run_bytes: Annotated[Size, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024


class LoggingSection(Section):
    """What is logged, and in which form.

    Attributes:
        level: The least severe level that is logged.
        format: `pretty` for people, `json` for programs; `auto` is `pretty` on a terminal.
        redact: Patterns of names whose values are masked, in fields of log lines and, for the role `view`, in the API.
        capture: What is kept with runs.
    """

    level: Literal["trace", "debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "pretty", "json"] = "auto"
    redact: Annotated[tuple[NamePattern, ...], Field(max_length=100)] = ()
    capture: CaptureSection = CaptureSection()
