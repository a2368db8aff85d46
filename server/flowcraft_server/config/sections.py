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
        timeout: default for the nodes that use it.
        queue: queue of the nodes that use it and name none.
        params: defaults for the nodes' params.
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
            raise mistake(f"expected 'package.module:function', got '{path}'")
        return path


class BlueprintsSection(Section):
    """Where blueprints are: folders, relative to `flowcraft.yaml`."""

    dirs: tuple[str, ...] = ()


class RedisSection(Section):
    """Where Redis is, and when what it acknowledged counts as kept. `data_dir` and `fsync` are for the embedded server."""

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
        queues: what this process works on.
        workers: threads of each process; with `worker_type: process`, processes of one thread each.
        processes: how many processes, each with its own threads and event loop.
        lease: how long a dead worker can hold a node.
        heartbeat: how often leases are renewed; three tenths of the lease when it is not set.
        drain_timeout: how long running nodes may take to finish at a shutdown.
        cancel_grace: how long the running nodes of a cancelled run may take to give up.
        max_crashes: after how many crashed workers a node is given up.
        abandoned_threads: how many threads may be lost to functions whose node is over, before the process is replaced.
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
    """A pause before a further attempt: `initial * factor ** failures`, at most `max`, spread by `jitter` (0 to 1)."""

    short_form = "initial"

    initial: SecondsOrNone
    factor: Annotated[float, Field(ge=1, le=1_000)] = 1.0
    max: Seconds | None = None
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.0


class DefaultsSection(Section):
    """What nodes get that say nothing else. `max_retries` counts all attempts, the first one too."""

    max_retries: Attempts = 1
    retry_delay: RetryDelaySection | None = None
    timeout: Seconds | None = None
    join_strategy: Literal["all", "any"] = "all"


class LimitsSection(Section):
    """Bounds against mistakes: how deep subflows nest, how many nodes handlers add to a run, how large a value may be.

    Attributes:
        inline_value: bytes above which a stored value is worth a warning.
    """

    subflow_depth: Annotated[int, Field(ge=1, le=1000)] = 16
    dynamic_nodes: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    inline_value: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 64 * 1024
    max_value: Annotated[Size, Field(ge=1024, le=512 * 1024 * 1024)] = 16 * 1024 * 1024


class HistorySection(Section):
    """Whether the events of a run are kept, and how many of the newest. `on` and `off` are short for the first."""

    short_form = "enabled"

    enabled: bool = True
    events: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000


class LLMRetriesSection(Section):
    """Which failed calls are made again, and how many calls there are in all."""

    max_retries: Annotated[int, Field(ge=1, le=100)] = 4
    on: tuple[int | Literal["5xx", "4xx", "timeout"], ...] = (429, "5xx", "timeout")


class OpenAIProviderSection(Section):
    """An endpoint that speaks OpenAI's chat protocol."""

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
    """Replies out of a file, for demonstrations and tests; the path is relative to `flowcraft.yaml`."""

    type: Literal["scripted"]
    file: str


ProviderSection = Annotated[OpenAIProviderSection | ScriptedProviderSection, Field(discriminator="type")]


class LLMSection(Section):
    """Language models for handlers, by name. Without a `default`, or with `auto`, one is chosen that can be used."""

    default: str | None = None
    providers: dict[str, ProviderSection] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _default_exists(self) -> Self:
        if self.default not in (None, AUTO, *self.providers):
            known = ", ".join([AUTO, *self.providers])
            raise mistake(f"no provider '{self.default}'; known: {known}", at="default")
        return self


class LoggingSection(Section):
    """What is logged, and whether for people or for machines; `auto` asks whether the output is a terminal."""

    level: Literal["trace", "debug", "info", "warning", "error", "critical"] = "info"
    format: Literal["auto", "pretty", "json"] = "auto"
