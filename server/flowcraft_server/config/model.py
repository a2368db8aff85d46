"""The whole of `flowcraft.yaml` as one frozen record, and what loading it gives."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .api_section import ApiSection
from .hooks import HookSection, check_names
from .llm_section import BudgetsSection, LLMSection
from .mcp_section import McpServerSection, check_servers
from .retention import RetentionSection
from .schedules import ScheduleSection, check_ids
from .sections import (
    BlueprintsSection,
    DefaultsSection,
    ExecutorSection,
    HandlerEntry,
    HistorySection,
    LimitsSection,
    LoggingSection,
    RedisSection,
    dotted_path,
    mistake,
)
from .tracing import TracingSection

FORMAT_VERSION = 1
"""The version of the file's format; a version that is not known is refused, never guessed."""


class Settings(BaseSettings):
    """Everything that can be set: made by `load_config` from file and environment, or by code from arguments alone.

    Attributes:
        version: Version of the file's format; any other one is refused.
        name: Namespace of all keys in Redis, so that many deployments may share one.
        handlers: What the `uses` names of blueprints stand for.
        handler_modules: Modules whose decorated functions are handlers too.
        lifespan: `package.module:attribute` of a context manager, entered by each worker process; handlers get what it yields.
        blueprints: Where blueprints are.
        hooks: Webhooks by name: requests of other programs that start runs.
        schedules: Runs that are started at set times.
        redis: Where Redis is.
        executor: How nodes are run.
        defaults: Settings of nodes that have none of their own.
        limits: Bounds against mistakes.
        retention: How long ended runs are kept.
        history: Whether the events of a run are kept.
        llm: Language models for handlers.
        budgets: What model calls of many runs may use.
        mcp: MCP servers by name, whose tools agents may call.
        api: The HTTP API.
        logging: What is logged.
        tracing: Spans for OpenTelemetry.
    """

    model_config = SettingsConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=False,
    )

    version: int = FORMAT_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "flowcraft"
    handlers: dict[str, HandlerEntry] = Field(default_factory=dict)
    handler_modules: tuple[str, ...] = ()
    lifespan: str | None = None
    blueprints: BlueprintsSection = BlueprintsSection()
    schedules: dict[str, ScheduleSection] = Field(default_factory=dict)
    hooks: dict[str, HookSection] = Field(default_factory=dict)
    redis: RedisSection = RedisSection()
    executor: ExecutorSection = ExecutorSection()
    defaults: DefaultsSection = DefaultsSection()
    limits: LimitsSection = LimitsSection()
    retention: RetentionSection = RetentionSection()
    history: HistorySection = HistorySection()
    llm: LLMSection = LLMSection()
    budgets: BudgetsSection = BudgetsSection()
    mcp: dict[str, McpServerSection] = Field(default_factory=dict)
    api: ApiSection = ApiSection()
    logging: LoggingSection = LoggingSection()
    tracing: TracingSection = TracingSection()

    @field_validator("lifespan")
    @classmethod
    def _is_dotted(cls, path: str | None) -> str | None:
        return None if path is None else dotted_path(path)

    @field_validator("version")
    @classmethod
    def _is_read_here(cls, version: int) -> int:
        if version != FORMAT_VERSION:
            raise mistake(f"this server reads version {FORMAT_VERSION} of the file, not {version}")
        return version

    @field_validator("hooks")
    @classmethod
    def _have_names(cls, hooks: dict[str, HookSection]) -> dict[str, HookSection]:
        check_names(hooks)
        return hooks

    @field_validator("mcp")
    @classmethod
    def _begin_names(cls, mcp: dict[str, McpServerSection]) -> dict[str, McpServerSection]:
        check_servers(mcp)
        return mcp

    @field_validator("schedules")
    @classmethod
    def _have_ids(cls, schedules: dict[str, ScheduleSection]) -> dict[str, ScheduleSection]:
        check_ids(schedules)
        return schedules

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments: files and environment are read by `load_config`, which knows their places."""
        return (init_settings,)
