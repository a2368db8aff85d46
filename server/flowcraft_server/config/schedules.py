"""Schedules in `flowcraft.yaml`, and whether they fit the blueprints whose runs they start."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_sdk.errors import ConfigurationError, FlowcraftError
from flowcraft_sdk.protocol.bounds import LONGEST_SPAN
from flowcraft_sdk.protocol.context_input import NO_INPUT, as_context, check_tags, encoded, fill_contract, with_misspelt
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.schedules.definition import Overlap, Schedule
from flowcraft_server.schedules.timing import TimingError, cron, zone_names

from .blueprint_cache import KeptBlueprints
from .quantities import Duration, format_duration
from .sections import Seconds, SecondsOrNone, Section, mistake

LEAST_CATCH_UP = 10.0
"""Seconds. Every start is a moment late: with no time for it none would be made."""

SCHEDULE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ScheduleSection(Section):
    """When runs of a blueprint are started. Either `cron` or `every` says it.

    Attributes:
        blueprint: Id of the blueprint.
        cron: Five fields, minute, hour, day of the month, month and day of the week; or `@daily` and the like.
        timezone: The time zone of `cron`, such as `Europe/Berlin`; by default UTC.
        every: The time from one tick to the next, in whole seconds; ticks count from the beginning of 1970.
        input: The start context of the runs.
        overlap: What becomes of a tick while the run of an earlier one goes on.
        catch_up: How late a tick may be started. Of several that were missed the latest is started, once.
        jitter: By how much each start may be put off, no further than to the next tick.
        tags: Tags of the runs.
        priority: In what order their nodes are claimed among those that are ready.
        paused: Whether nothing is started until the schedule is resumed.
    """

    blueprint: str
    cron: str | None = None
    timezone: str | None = None
    every: Seconds | None = None
    input: dict[str, Any] = Field(default_factory=dict)
    overlap: Overlap = "skip"
    catch_up: Annotated[Duration, Field(ge=LEAST_CATCH_UP, le=LONGEST_SPAN)] = 3600.0
    jitter: SecondsOrNone = 0.0
    tags: tuple[str, ...] = ()
    priority: Literal["high", "normal", "low"] = "normal"
    paused: bool = False

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, text: str | None) -> str | None:
        try:
            if text is not None:
                cron(text)
        except TimingError as error:
            raise mistake(str(error)) from None
        return text

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str | None) -> str | None:
        if name is not None and name not in zone_names():
            # An abbreviation is that of several zones, or of a part of the year: one that looks alike may be hours off.
            near = "" if name.isupper() else did_you_mean(name, zone_names())
            raise mistake(f"no time zone '{name}'{near or '; write UTC, or a place such as Europe/Berlin'}")
        return name

    @field_validator("every")
    @classmethod
    def _is_whole(cls, seconds: float | None) -> float | None:
        if seconds is not None and (seconds < 1 or seconds != int(seconds)):
            raise mistake(f"expected whole seconds, 1s at least, got {format_duration(seconds)}")
        return seconds

    @field_validator("tags")
    @classmethod
    def _are_tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(check_tags(tags))
        except ConfigurationError as error:
            raise mistake(str(error)) from None

    @model_validator(mode="after")
    def _has_ticks(self) -> Self:
        if self.cron is not None and self.every is not None:
            raise mistake("there is a `cron` already: keep one of the two", at="every")
        if self.cron is None and self.every is None:
            raise mistake("nothing says when it starts runs: give it `cron` or `every`")
        if self.every is not None and self.timezone is not None:
            raise mistake("goes with `cron`; `every` is the same in each time zone", at="timezone")
        if self.every is not None and self.jitter > self.every:
            raise mistake(f"is longer than from one tick to the next, {format_duration(self.every)}", at="jitter")
        return self

    def schedule(self, schedule_id: str) -> Schedule:
        """The schedule, as it is published."""
        return Schedule(
            schedule_id,
            self.blueprint,
            self.cron or "",
            self.timezone or "UTC",
            int((self.every or 0) * 1000),
            self.overlap,
            round(self.catch_up * 1000),
            round(self.jitter * 1000),
            self.input,
            self.tags,
            self.priority,
            self.paused,
        )


def schedules_of(sections: Mapping[str, ScheduleSection]) -> list[Schedule]:
    """The schedules of a deployment, as they are published."""
    return [section.schedule(name) for name, section in sections.items()]


def check_ids(sections: Mapping[str, ScheduleSection]) -> None:
    """Refuse ids that no schedule can have.

    Raises:
        PydanticCustomError: there is one.
    """
    for name in sections:
        if not SCHEDULE_ID.fullmatch(name):
            raise mistake("the id of a schedule is 1 to 64 of A-Z a-z 0-9 . _ -", at=name)


def misfits(
    sections: Mapping[str, ScheduleSection],
    blueprints: Sequence[Blueprint],
    max_value: int = 16 * 1024 * 1024,
    *,
    partial: bool = False,
) -> Iterator[tuple[Place, str]]:
    """What does not fit: unknown blueprints, and inputs that the blueprint would refuse; with the path of each in the file.

    Args:
        max_value: bytes that one value may have.
        partial: there may be other blueprints: of an unknown one only what looks like a misspelt name is reported.
    """
    known = blueprints.ids if isinstance(blueprints, KeptBlueprints) else [blueprint.id for blueprint in blueprints]
    for name, section in sections.items():
        place: Place = ("schedules", name)
        if section.blueprint not in known:
            near = did_you_mean(section.blueprint, known)
            if near or not partial:
                yield (*place, "blueprint"), f"no blueprint '{section.blueprint}'{near}"
            continue
        try:
            encoded(as_context(section.input), max_value)
        except FlowcraftError as error:
            yield (*place, "input"), str(error)
            continue
        at = list(known).index(section.blueprint)
        yield from _misfits_of(place, section, blueprints[at])


def schedule_diagnostics(
    schedules: Mapping[str, ScheduleSection], blueprints: Sequence[Blueprint], max_value: int, values: Tree
) -> list[Diagnostic]:
    """What does not fit, as diagnostics.

    Args:
        max_value: bytes that one value of a start context may have.
        values: of the file, for the places of what is wrong.
    """
    found = []
    for place, message in misfits(schedules, blueprints, max_value):
        origin = values.origin_of(place)
        found.append(Diagnostic("error", origin.position if origin else None, written_path(place), message))
    return found


def _misfits_of(place: Place, section: ScheduleSection, blueprint: Blueprint) -> Iterator[tuple[Place, str]]:
    contract = blueprint.inputs_contract
    if contract is None:
        return
    _, errors = fill_contract(contract, section.input)
    errors = with_misspelt(errors, contract, section.input, blueprint.context_keys or ())
    for error in errors:
        key = str(error["loc"][0])
        where = (*place, "input", key) if key in section.input else (*place, "input") if section.input else place
        if error["type"] == "unexpected":
            yield where, f"blueprint '{blueprint.id}' has no input '{key}'{error['msg'].removeprefix(NO_INPUT)}"
        else:
            yield where, f"input '{key}' of blueprint '{blueprint.id}' {error['msg']}"
