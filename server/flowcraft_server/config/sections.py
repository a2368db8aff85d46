"""The sections of `flowcraft.yaml`. Attributes are snake_case, keys camelCase; times are seconds, sizes bytes."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from flowcraft_sdk._transport.address import EXPECTED, AddressError, checked_address
from flowcraft_sdk.protocol.bounds import LONGEST_SPAN
from flowcraft_sdk.protocol.partitions import MOST_PARTITIONS

from .quantities import Duration, Size, format_duration

EMBEDDED = "embedded:"
"""The `redis.url` that stands for a server of our own."""

AUTO = "auto"
"""The `llm.default` that leaves the choice to the server."""

Amount = Annotated[int, Field(ge=1, le=1_000_000_000)]
Threads = Annotated[int, Field(ge=1, le=10_000)]
Attempts = Annotated[int, Field(ge=1, le=1_000_000)]
Seconds = Annotated[Duration, Field(gt=0, le=LONGEST_SPAN)]
SecondsOrNone = Annotated[Duration, Field(ge=0, le=LONGEST_SPAN)]
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


class HandlerEntry(Section):
    """A handler by name; the short form is the dotted path alone.

    Attributes:
        path: `package.module:attribute`.
        timeout: Time limit of an attempt, for the nodes that use it and set none.
        queue: Queue of the nodes that use it and name none.
        params: Defaults for the nodes' params.
    """

    short_form = "path"

    path: str
    timeout: Seconds | None = None
    queue: QueueName | None = None
    params: dict[str, Any] = Field(default_factory=dict)

    @field_validator("path")
    @classmethod
    def _is_dotted(cls, path: str) -> str:
        module, colon, attribute = path.partition(":")
        if not colon or not attribute or not all(part.isidentifier() for part in f"{module}.{attribute}".split(".")):
            package, dot, function = path.rpartition(".")
            meant = (
                f"; did you mean '{package}:{function}'?" if not colon and dot and package and function != "py" else ""
            )
            raise mistake(f"expected 'package.module:function', got '{path}'{meant}")
        return path


class BlueprintsSection(Section):
    """Where blueprints are: folders, relative to `flowcraft.yaml`.

    Attributes:
        dirs: The folders; folders below them are not looked into.
    """

    dirs: tuple[str, ...] = ()


class RedisSection(Section):
    """Where Redis is, and when what it acknowledged counts as kept. `data_dir` and `fsync` are for the embedded server.

    Attributes:
        url: Address of Redis or Valkey, or `embedded:` for a server that `dev` starts.
        data_dir: Where the embedded server keeps its data.
        fsync: When the embedded server writes to disk: after each command, or every second.
        durability: When a start and a result count as kept: `async`, `fsync` or `replicas:N`.
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
        if not re.fullmatch(r"async|fsync|replicas:[1-9]\d?", level):
            raise mistake(f"expected async, fsync or replicas:N, got '{level}'")
        return level

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


class LimitsSection(Section):
    """Bounds against mistakes.

    Attributes:
        subflow_depth: How deep subflows nest.
        dynamic_nodes: How many nodes handlers may add to a run.
        inline_value: Above this size, a stored value is worth a warning in the log.
        max_value: The largest value that is stored.
    """

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


class LLMRetriesSection(Section):
    """Which failed calls are made again, and how many calls there are in all.

    Attributes:
        max_retries: How many calls in all, the first one too.
        on: Status codes, classes of them, and `timeout`: what is tried again.
    """

    max_retries: Annotated[int, Field(ge=1, le=100)] = 4
    on: tuple[int | Literal["5xx", "4xx", "timeout"], ...] = (429, "5xx", "timeout")


class OpenAIProviderSection(Section):
    """An endpoint that speaks OpenAI's chat protocol.

    Attributes:
        type: The kind of provider.
        base_url: Address of the endpoint.
        api_key: Its key; with an empty one each call fails.
        model: Name of the model, for calls that name none.
        timeout: Time limit of one call.
        max_concurrent: How many calls each process makes at once.
        max_reply: The largest reply that is read.
        retries: Which failed calls are made again.
    """

    type: Literal["openai-compatible"]
    base_url: str = "https://api.openai.com/v1"
    api_key: SecretStr = SecretStr("")
    model: str
    timeout: Seconds = 60.0
    max_concurrent: Threads = 8
    max_reply: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 16 * 1024 * 1024
    retries: LLMRetriesSection = LLMRetriesSection()

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise mistake(f"expected an http:// or https:// address, got {url!r}")
        return url


class ScriptedProviderSection(Section):
    """Replies from a file, for demonstrations and tests.

    Attributes:
        type: The kind of provider.
        file: The file, relative to `flowcraft.yaml`.
    """

    type: Literal["scripted"]
    file: str


ProviderSection = Annotated[OpenAIProviderSection | ScriptedProviderSection, Field(discriminator="type")]


class LLMSection(Section):
    """Language models for handlers, by name.

    Attributes:
        default: Name of the provider that `ctx.llm` is. Without one, or with `auto`, the first one with a key is chosen, else
            the first scripted one.
        providers: The providers, by name.
    """

    default: str | None = None
    providers: dict[str, ProviderSection] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in (None, AUTO, *self.providers):
            known = ", ".join([AUTO, *self.providers])
            raise mistake(f"no provider '{self.default}'; known: {known}", at="default")
        return self


class LoggingSection(Section):
    """What is logged, and in which form.

    Attributes:
        level: The least severe level that is logged.
        format: `pretty` for people, `json` for programs; `auto` is `pretty` on a terminal.
    """

    level: Literal["trace", "debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "pretty", "json"] = "auto"
