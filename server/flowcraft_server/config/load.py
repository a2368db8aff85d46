"""Loads a deployment: its settings, handlers and blueprints, and everything that is wrong with any of them, at once."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.source_positions import written_path
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.linting.params import entry_problems
from flowcraft_server.blueprints.loading.loader import load_dirs
from flowcraft_server.blueprints.model import Blueprint, Diagnostic
from flowcraft_server.blueprints.suggestions import did_you_mean
from flowcraft_server.config.handler import Handler
from flowcraft_server.observability.redaction import Redactor, secrets_in, secrets_of_address

from .agents_extra import (
    NEEDED_BY_MODELS,
    NEEDED_BY_TRACING,
    has_extra,
    has_models_extra,
    has_tracing_extra,
    missing_extra,
)
from .blueprint_cache import BlueprintCache, key_of
from .blueprint_files import params_of, places_of, with_join, with_params
from .explain import LONGEST_SHOWN, mistakes_of
from .handler_forms import HandlerError
from .handlers import register_handlers, undecorated
from .hooks import unknown_blueprints
from .lifespan import Lifespan, load_lifespan, missing_resources
from .load_context import LoadContext, read_configuration
from .model import Settings
from .other_profiles import check_other_profiles
from .schedules import misfits
from .source import make_settings

MOST_ROUNDS = 20


@dataclass
class LoadResult:
    """A loaded deployment.

    Attributes:
        settings: None if anything is wrong.
        diagnostics: errors and warnings, by file and line; those of `flowcraft.yaml` first.
        handlers: by the name that nodes `use`.
        blueprints: in the order of their files.
        lifespan: entered by each worker process; None if there is none.
        kept: where the blueprints are kept for further starts; None if they are not.
        path: the file.
        profile: name of the profile that was laid over it.
        values: what was written where, without defaults.
        secrets: texts that must not be logged.
        began_ns: when reading it began, by the clock of files.
    """

    settings: Settings | None
    diagnostics: list[Diagnostic]
    path: Path
    handlers: dict[str, Handler] = field(default_factory=dict)
    blueprints: Sequence[Blueprint] = field(default_factory=list)
    lifespan: Lifespan | None = None
    kept: BlueprintCache | None = None
    profile: str | None = None
    values: Tree = field(default_factory=Tree)
    secrets: frozenset[str] = frozenset()
    began_ns: int = 0

    @property
    def folder(self) -> Path:
        """What the paths in the file are relative to."""
        return self.path.parent

    @property
    def errors(self) -> list[Diagnostic]:
        """The diagnostics that keep the deployment from being started."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]

    def place(self, name: str) -> Path:
        """A path of the file, absolute."""
        return self.folder / name


def load_config(
    path: str | Path,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    with_blueprints: bool = True,
    with_handlers: bool = True,
    keep: bool = False,
) -> LoadResult:
    """Load a deployment: read its file, import its handlers, read and check its blueprints.

    Args:
        path: of `flowcraft.yaml`.
        profile: name of a profile in it; FLOWCRAFT_PROFILE if None.
        overrides: values that count before all others, by dotted path such as `executor.workers`.
        environ: the environment; the process's own if None.
        with_blueprints: False for a process that runs what others publish.
        with_handlers: False to import none: what depends on them is then not checked.
        keep: take blueprints that have not changed from an earlier start, and keep them for a further one.
    """
    reading, settings, good = _load(path, profile, overrides, environ)
    check_other_profiles(reading)
    handlers: dict[str, Handler] = {}
    blueprints: Sequence[Blueprint] = []
    lifespan: Lifespan | None = None
    kept: BlueprintCache | None = None
    if good is not None:
        _check_limits(reading, good)
        handlers, all_known = _load_handlers(reading, good) if with_handlers else ({}, False)
        if with_handlers:
            lifespan = _load_lifespan(reading, good, handlers)
        if with_blueprints:
            known = handlers if all_known else None
            kept = _cache_of(reading, good, known) if keep and not reading.diagnostics else None
            blueprints = _kept_or_loaded(reading, good, known, kept)
            partial = _is_partial(reading, blueprints)
            _check_schedules(reading, good, blueprints, partial)
            for place, message in unknown_blueprints(good.hooks, blueprints, partial=partial):
                reading.report(place, message)
        if not reading.diagnostics:
            _check_purpose(reading)
        _warn(reading, good)
    return replace(_result(reading, settings, handlers, blueprints), kept=kept, lifespan=lifespan)


def load_settings(
    path: str | Path,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadResult:
    """Load the settings alone, without importing or reading anything they name. Arguments as in `load_config`."""
    reading, settings, _ = _load(path, profile, overrides, environ)
    return _result(reading, settings, {}, [])


def _load(
    path: str | Path, profile: str | None, overrides: Mapping[str, Any] | None, environ: Mapping[str, str] | None
) -> tuple[LoadContext, Settings | None, Settings | None]:
    """The reading, the settings if they are right, and else what remains of them without their mistakes."""
    reading = read_configuration(Path(path), profile, overrides or {}, os.environ if environ is None else environ)
    if not reading.layers:
        return reading, None, None
    try:
        settings = make_settings(*reading.layers)
    except ValidationError as error:
        spoilt = {*reading.unfilled, *(path[:-1] for path in reading.unfilled if len(path) > 1)}
        for place, message in mistakes_of(error, reading.merged):
            if place not in spoilt and not reading.lacks_a_misspelt_key(place):
                reading.report(place, message)
        return reading, None, _without_mistakes(reading)
    return reading, settings, _without_mistakes(reading) if reading.unfilled else settings


def _without_mistakes(reading: LoadContext) -> Settings | None:
    """Settings of the values that are right, so that handlers and blueprints can be checked along with the rest."""
    tree = reading.merged.copy()
    for place in reading.unfilled:
        tree.remove(_mapped(place))
    for _ in range(MOST_ROUNDS):
        try:
            return make_settings(tree)
        except ValidationError as error:
            for place, _message in mistakes_of(error, tree):
                while place and tree.get(place) is None:  # what is missing spoils the section that it is missing in
                    place = place[:-1]
                if not place:
                    return None
                tree.remove(_mapped(place))
    return None


def _mapped(place: Place) -> Place:
    """The path of a value, or of the list that it is in."""
    return tuple(takewhile(lambda key: isinstance(key, str), place))


def _is_partial(reading: LoadContext, blueprints: Sequence[Blueprint]) -> bool:
    """Whether a mistake keeps blueprints from being known: in what the file says of them, or a file that cannot be read."""
    return reading.hides(("blueprints", "dirs")) or _unread(reading.diagnostics, blueprints, reading.shown)


def _unread(diagnostics: Iterable[Diagnostic], blueprints: Sequence[Blueprint], besides: str = "") -> bool:
    """Whether a blueprint file cannot be read, so that it has no blueprint."""
    wrong = {each.position.file for each in diagnostics if each.severity == "error" and each.position is not None}
    return bool(wrong - {besides}) and not wrong <= {besides, *(blueprint.file for blueprint in blueprints)}


def _check_schedules(reading: LoadContext, settings: Settings, blueprints: Sequence[Blueprint], partial: bool) -> None:
    """Check the schedules that have no mistake yet against the blueprints."""
    wrong = [diagnostic.path for diagnostic in reading.diagnostics if diagnostic.severity == "error"]
    places = {name: written_path(("schedules", name)) for name in settings.schedules}
    right = {
        name: section
        for name, section in settings.schedules.items()
        if not any(path == places[name] or path.startswith(f"{places[name]}.") for path in wrong)
    }
    for place, message in misfits(right, blueprints, settings.limits.max_value, partial=partial):
        reading.report(place, message)


def _load_handlers(reading: LoadContext, settings: Settings) -> tuple[dict[str, Handler], bool]:
    """The handlers, and whether every name that a blueprint may use is known."""
    # Where one of the two keys is wrong or misspelt, handlers that it would have named are not known.
    wrong = any(reading.hides((key,)) for key in ("handlers", "handlerModules"))
    handlers, refusals = register_handlers(settings.handlers, settings.handler_modules, reading.folder)
    for refusal in refusals:
        path = (*refusal.path, "path") if refusal.path[0] == "handlers" else refusal.path
        origin = reading.merged.origin_of(path)
        reading.report(refusal.path, refusal.message, at=origin.position if origin else None)
    return handlers, not wrong and not any(refusal.path[0] == "handlerModules" for refusal in refusals)


def _load_lifespan(reading: LoadContext, settings: Settings, handlers: dict[str, Handler]) -> Lifespan | None:
    """The lifespan; a resource that it does not yield is a mistake of the handler that takes it."""
    lifespan = None
    if settings.lifespan is not None:
        try:
            lifespan = load_lifespan(settings.lifespan, reading.folder)
        except HandlerError as error:
            reading.report(("lifespan",), str(error))
            return None
    if lifespan is None and reading.hides(("lifespan",)):  # there is one, whatever it yields
        return None
    for handler, message in missing_resources(handlers.values(), lifespan):
        path = ("handlers", handler.name) if handler.name in settings.handlers else ("handlerModules",)
        origin = reading.merged.origin_of((*path, "path"))
        about = message if path[0] == "handlers" else f"handler '{handler.name}' {message}"
        reading.report(path, about, at=origin.position if origin else None)
    return lifespan


def _cache_of(reading: LoadContext, settings: Settings, handlers: dict[str, Handler] | None) -> BlueprintCache | None:
    if handlers is None:
        return None
    # Nothing of this is kept but a hash.
    sections = ("handlers", "handlerModules", "blueprints", "defaults", "limits", "executor", "llm", "mcp")
    specs = {
        name: (
            handler.function.__module__,
            handler.function.__qualname__ if hasattr(handler.function, "__qualname__") else "",
        )
        for name, handler in handlers.items()
    }
    depends_on = [{name: reading.merged.data.get(name) for name in sections}, specs, os.getcwd(), has_extra()]
    key = key_of(reading.folder, [reading.folder / name for name in settings.blueprints.dirs], depends_on)
    return None if key is None else BlueprintCache(reading.folder, key)


def _kept_or_loaded(
    reading: LoadContext,
    settings: Settings,
    handlers: dict[str, Handler] | None,
    kept: BlueprintCache | None,
) -> Sequence[Blueprint]:
    found = kept.read() if kept is not None else None
    if found is not None:
        reading.diagnostics += found[1]
        return found[0]
    before = len(reading.diagnostics)
    blueprints = _load_blueprints(reading, settings, handlers)
    if kept is not None and not any(diagnostic.severity == "error" for diagnostic in reading.diagnostics):
        kept.write(blueprints, reading.diagnostics[before:])
    return blueprints


def _load_blueprints(reading: LoadContext, settings: Settings, handlers: dict[str, Handler] | None) -> list[Blueprint]:
    folders = []
    for index, name in enumerate(settings.blueprints.dirs):
        folder = reading.folder / name
        if folder.is_dir():
            folders.append(Path(os.path.relpath(folder)) if folder.is_relative_to(Path.cwd()) else folder)
        else:
            reading.report(("blueprints", "dirs", index), f"no folder '{name}' beside {reading.shown}")
    blueprints, diagnostics = load_dirs(folders)
    if settings.defaults.join_strategy != "all":
        blueprints = [with_join(blueprint, settings.defaults.join_strategy) for blueprint in blueprints]
    by_id = Catalog({blueprint.id: blueprint for blueprint in blueprints}, is_partial=_unread(diagnostics, blueprints))
    specs = None if handlers is None else _specs(reading, handlers)
    attempts, params, places = settings.defaults.max_retries, params_of(settings), places_of(reading.merged)
    diagnostics.extend(entry_problems(specs or {}, params, places))
    bare = undecorated(settings.handler_modules)
    for blueprint in blueprints:
        diagnostics.extend(
            lint(
                with_params(blueprint, settings.handlers), handlers=specs, blueprints=by_id, handler_params=params,
                handler_places=places, max_attempts=attempts, undecorated=bare,
                limits=_named(reading, settings.limits.named, "limits", "named"),
                queues=None if reading.hides(("executor", "queue")) else settings.executor.queues,
                providers=_named(reading, settings.llm.providers, "llm", "providers"),
                mcp_servers=_named(reading, settings.mcp, "mcp"),
            )
        )  # fmt: skip
    diagnostics.extend(missing_extra(blueprints, specs or ()))
    known = set(reading.diagnostics)
    reading.diagnostics.extend(diagnostic for diagnostic in dict.fromkeys(diagnostics) if diagnostic not in known)
    return blueprints


def _specs(reading: LoadContext, handlers: dict[str, Handler]) -> dict[str, HandlerSpec]:
    """What handlers declare, by name; those that could not be imported are known by name all the same."""
    named = reading.merged.get(("handlers",))
    specs = dict.fromkeys(named if isinstance(named, dict) else (), HandlerSpec())
    specs.update((name, handler.declared) for name, handler in handlers.items())
    return specs


def _check_purpose(reading: LoadContext) -> None:
    if not any(reading.merged.data.get(key) for key in ("handlers", "handlerModules", "blueprints")):
        message = "there is nothing to serve: name handlers, handlerModules or blueprints"
        reading.report((), message, at=reading.start)


def _named(reading: LoadContext, right: Collection[str], *path: str) -> Collection[str] | None:
    """The names in a section: those of its entries, and of the entries that something is wrong with; None if it is misspelt."""
    if reading.hides(path, parts=False):
        return None
    written = reading.merged.get(path)
    return list(dict.fromkeys([*right, *(written if isinstance(written, dict) else ())]))


def _check_limits(reading: LoadContext, settings: Settings) -> None:
    """The limits that handlers name are there."""
    known = _named(reading, settings.limits.named, "limits", "named")
    for name, entry in settings.handlers.items() if known is not None else ():
        if entry.limit is not None and entry.limit not in (known or ()):
            meant = did_you_mean(entry.limit, known or ())
            reading.report(("handlers", name, "limit"), f"there is no limit '{entry.limit}' in limits.named{meant}")


def _warn(reading: LoadContext, settings: Settings) -> None:
    if settings.tracing.enabled and not has_tracing_extra():
        about = f"is on and needs the extra otel: {NEEDED_BY_TRACING}; workers will not start"
        reading.report(("tracing",), about, severity="warning")
    name = settings.llm.default
    provider = settings.llm.providers.get(name or "")
    kind, path = getattr(provider, "type", ""), ("llm", "providers", str(name))
    fails = "nodes that call this provider will fail"
    if kind in ("openai-compatible", "recorded") and not has_models_extra():
        reading.report((*path, "type"), f"needs the extra llm: {NEEDED_BY_MODELS}; {fails}", severity="warning")
    key = getattr(provider, "api_key", None)
    if not isinstance(key, SecretStr) or key.get_secret_value():
        return
    if kind != "recorded":
        reading.report((*path, "apiKey"), f"is empty; {fails}", severity="warning")
    elif not (reading.folder / str(getattr(provider, "file", ""))).exists():
        about = f"is empty, and nothing is recorded yet: {fails}"
        reading.report((*path, "apiKey"), about, severity="warning")


def _result(
    reading: LoadContext,
    settings: Settings | None,
    handlers: dict[str, Handler],
    blueprints: Sequence[Blueprint],
) -> LoadResult:
    secrets = set(reading.secrets) | set(secrets_in(reading.merged.data))
    if settings is not None:
        secrets |= _secrets_in(settings) | set(secrets_of_address(settings.redis.url))
    shortened = {secret[:LONGEST_SHOWN] for secret in secrets}
    redactor = Redactor(secrets | shortened)
    diagnostics = [
        replace(diagnostic, message=redactor.clean(diagnostic.message)) for diagnostic in reading.diagnostics
    ]
    failed = any(diagnostic.severity == "error" for diagnostic in reading.diagnostics)
    return LoadResult(
        settings=None if failed else settings,
        diagnostics=sorted(diagnostics, key=lambda diagnostic: _rank(diagnostic, reading.shown)),
        path=reading.path,
        handlers=handlers,
        blueprints=blueprints,
        profile=reading.profile,
        values=reading.merged,
        secrets=frozenset(secrets),
        began_ns=reading.began_ns,
    )


def _rank(diagnostic: Diagnostic, shown: str) -> tuple[bool, bool, str, int, int]:
    position = diagnostic.position
    if position is None:
        return True, True, "", 0, 0
    return False, position.file != shown, position.file, position.line, position.column


def _secrets_in(model: BaseModel) -> set[str]:
    found = set()
    for value in dict(model).values():
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,):
            if isinstance(item, SecretStr):
                found.add(item.get_secret_value())
            elif isinstance(item, BaseModel):
                found |= _secrets_in(item)
    return found - {""}
