"""The whole of `flowcraft.yaml` as one frozen record, and what loading it gives."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic.alias_generators import to_camel
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .retention import RetentionSection
from .sections import (
    BlueprintsSection,
    DefaultsSection,
    ExecutorSection,
    HandlerEntry,
    HistorySection,
    LimitsSection,
    LLMSection,
    LoggingSection,
    RedisSection,
    mistake,
)

FORMAT_VERSION = 1
"""The version of the file's format; a version that is not known is refused, never guessed."""


class Settings(BaseSettings):
    """Everything that can be set: made by `load_config` from file and environment, or by code from arguments alone.

    Attributes:
        version: Version of the file's format; any other one is refused.
        name: Namespace of all keys in Redis, so that many deployments may share one.
        handlers: What the `uses` names of blueprints stand for.
        handler_modules: Modules whose decorated functions are handlers too.
        blueprints: Where blueprints are.
        redis: Where Redis is.
        executor: How nodes are run.
        defaults: Settings of nodes that have none of their own.
        limits: Bounds against mistakes.
        retention: How long ended runs are kept.
        history: Whether the events of a run are kept.
        llm: Language models for handlers.
        logging: What is logged.
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
    blueprints: BlueprintsSection = BlueprintsSection()
    redis: RedisSection = RedisSection()
    executor: ExecutorSection = ExecutorSection()
    defaults: DefaultsSection = DefaultsSection()
    limits: LimitsSection = LimitsSection()
    retention: RetentionSection = RetentionSection()
    history: HistorySection = HistorySection()
    llm: LLMSection = LLMSection()
    logging: LoggingSection = LoggingSection()

    @field_validator("version")
    @classmethod
    def _is_read_here(cls, version: int) -> int:
        if version != FORMAT_VERSION:
            raise mistake(f"this server reads version {FORMAT_VERSION} of the file, not {version}")
        return version

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
