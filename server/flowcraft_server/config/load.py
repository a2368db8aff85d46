"""Loads a deployment: its settings, handlers and blueprints, and everything that is wrong with any of them, at once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.linting.params import entry_problems
from flowcraft_server.blueprints.loading.loader import load_dirs
from flowcraft_server.blueprints.model import Blueprint, Diagnostic
from flowcraft_server.config.handler import Handler
from flowcraft_server.observability.redaction import Redactor, secrets_in, secrets_of_address

from .blueprint_cache import BlueprintCache, key_of
from .blueprint_files import params_of, places_of, with_join, with_params
from .explain import LONGEST_SHOWN, mistakes_of
from .handlers import register_handlers, undecorated
from .load_context import LoadContext, read_configuration
from .model import Settings
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
        kept: where the blueprints are kept for further starts; None if they are not.
        path: the file.
        profile: name of the profile that was laid over it.
        values: what was written where, without defaults.
        secrets: texts that must not be logged.
    """

    settings: Settings | None
    diagnostics: list[Diagnostic]
    path: Path
    handlers: dict[str, Handler] = field(default_factory=dict)
    blueprints: Sequence[Blueprint] = field(default_factory=list)
    kept: BlueprintCache | None = None
    profile: str | None = None
    values: Tree = field(default_factory=Tree)
    secrets: frozenset[str] = frozenset()

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
    handlers: dict[str, Handler] = {}
    blueprints: Sequence[Blueprint] = []
    kept: BlueprintCache | None = None
    if good is not None:
        handlers, all_known = _load_handlers(reading, good) if with_handlers else ({}, False)
        if with_blueprints:
            known = handlers if all_known else None
            kept = _cache_of(reading, good, known) if keep and not reading.diagnostics else None
            blueprints = _kept_or_loaded(reading, good, known, kept)
        if not reading.diagnostics:
            _check_purpose(reading)
        _warn(reading, good)
    return replace(_result(reading, settings, handlers, blueprints), kept=kept)


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
            if place not in spoilt:
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


def _load_handlers(reading: LoadContext, settings: Settings) -> tuple[dict[str, Handler], bool]:
    """The handlers, and whether every name that a blueprint may use is known."""
    before = [diagnostic for diagnostic in reading.diagnostics if diagnostic.severity == "error"]
    handlers, refusals = register_handlers(settings.handlers, settings.handler_modules, reading.folder)
    for refusal in refusals:
        path = (*refusal.path, "path") if refusal.path[0] == "handlers" else refusal.path
        origin = reading.merged.origin_of(path)
        reading.report(refusal.path, refusal.message, at=origin.position if origin else None)
    # Where one of the two keys is wrong or misspelt, handlers that it would have named are not known.
    sections = ("handlers", "handlerModules")
    wrong = any(
        diagnostic.path.partition(".")[0].partition("[")[0] in sections
        or any(f"'{key}'" in diagnostic.message for key in sections)
        for diagnostic in before
    )
    return handlers, not wrong and not any(refusal.path[0] == "handlerModules" for refusal in refusals)


def _cache_of(reading: LoadContext, settings: Settings, handlers: dict[str, Handler] | None) -> BlueprintCache | None:
    if handlers is None:
        return None
    # Nothing of this is kept but a hash.
    sections = ("handlers", "handlerModules", "blueprints", "defaults")
    specs = {
        name: (
            handler.function.__module__,
            handler.function.__qualname__ if hasattr(handler.function, "__qualname__") else "",
        )
        for name, handler in handlers.items()
    }
    depends_on = [{name: reading.merged.data.get(name) for name in sections}, specs, os.getcwd()]
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
    by_id = Catalog({blueprint.id: blueprint for blueprint in blueprints})
    specs = None if handlers is None else _specs(reading, handlers)
    attempts, params, places = settings.defaults.max_retries, params_of(settings), places_of(reading.merged)
    diagnostics.extend(entry_problems(specs or {}, params, places))
    bare = undecorated(settings.handler_modules)
    for blueprint in blueprints:
        diagnostics.extend(
            lint(
                with_params(blueprint, settings.handlers), handlers=specs, blueprints=by_id, handler_params=params,
                handler_places=places, max_attempts=attempts, undecorated=bare,
            )
        )  # fmt: skip
    known = set(reading.diagnostics)
    reading.diagnostics.extend(diagnostic for diagnostic in dict.fromkeys(diagnostics) if diagnostic not in known)
    return blueprints


def _specs(reading: LoadContext, handlers: dict[str, Handler]) -> dict[str, HandlerSpec]:
    """What handlers declare, by name; those that could not be imported are known by name all the same."""
    named = reading.merged.get(("handlers",))
    specs = dict.fromkeys(named if isinstance(named, dict) else (), HandlerSpec())
    specs.update((name, handler.spec or HandlerSpec()) for name, handler in handlers.items())
    return specs


def _check_purpose(reading: LoadContext) -> None:
    if not any(reading.merged.data.get(key) for key in ("handlers", "handlerModules", "blueprints")):
        message = "there is nothing to serve: name handlers, handlerModules or blueprints"
        reading.report((), message, at=reading.start)


def _warn(reading: LoadContext, settings: Settings) -> None:
    name = settings.llm.default
    provider = settings.llm.providers.get(name or "")
    key = getattr(provider, "api_key", None)
    if isinstance(key, SecretStr) and not key.get_secret_value():
        path = ("llm", "providers", str(name), "apiKey")
        reading.report(path, "is empty; nodes that call this provider will fail", severity="warning")


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
    )


def _rank(diagnostic: Diagnostic, shown: str) -> tuple[bool, bool, str, int, int]:
    position = diagnostic.position
    if position is None:
        return True, True, "", 0, 0
    return False, position.file != shown, position.file, position.line, position.column


def _secrets_in(model: BaseModel) -> set[str]:
    found = set()
    for value in dict(model).values():
        for item in value.values() if isinstance(value, dict) else (value,):
            if isinstance(item, SecretStr):
                found.add(item.get_secret_value())
            elif isinstance(item, BaseModel):
                found |= _secrets_in(item)
    return found - {""}
