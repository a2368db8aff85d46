"""Blueprint files that are read again while a deployment runs. A file that has mistakes never replaces what was good before."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import blueprint_files, load_file
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.handler import Handler

from .blueprint_files import params_of, places_of, with_join, with_params
from .handlers import undecorated
from .load import LoadResult
from .model import Settings

INCLUDE = b"!include"

Signature = tuple[int, int, int, int]
"""Of a file: time of its last change and of its record's (ns), size, number."""


@dataclass(frozen=True)
class Reread:
    """What reading the files again has found.

    Attributes:
        blueprints: all that are good, by id; where a file has mistakes now, what it was before.
        changed: ids of those that are new or other than before.
        removed: ids that no file has any more.
        kept: ids whose file has mistakes: they are what they were before.
        diagnostics: what is wrong with the files, warnings too.
    """

    blueprints: Mapping[str, Blueprint]
    changed: Sequence[str] = ()
    removed: Sequence[str] = ()
    kept: Sequence[str] = ()
    diagnostics: Sequence[Diagnostic] = ()

    @property
    def errors(self) -> list[Diagnostic]:
        """The mistakes."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]


@dataclass(frozen=True)
class _File:
    signature: Signature
    blueprint: Blueprint | None
    diagnostics: Sequence[Diagnostic]
    includes: bool

    @property
    def is_wrong(self) -> bool:
        return self.blueprint is None or any(diagnostic.severity == "error" for diagnostic in self.diagnostics)


@dataclass
class BlueprintFiles:
    """The blueprint files of a running deployment. A file that has not changed is neither read nor compiled again.

    Args:
        folder: of `flowcraft.yaml`.
        blueprints: what the deployment runs.
    """

    folder: Path
    blueprints: Mapping[str, Blueprint]
    _files: dict[Path, _File] = field(default_factory=dict)
    _homes: dict[str, Path] = field(default_factory=dict)
    _beside: frozenset[tuple[str, Signature]] = frozenset()

    @classmethod
    def of(cls, loaded: LoadResult) -> "BlueprintFiles":
        """Those of a deployment that was loaded without mistakes."""
        return cls(loaded.folder, {blueprint.id: blueprint for blueprint in loaded.blueprints})

    def read(
        self,
        loaded: LoadResult,
        settings: Settings,
        handlers: Mapping[str, Handler] | None,
        known: Iterable[Diagnostic] = (),
    ) -> Reread:
        """Read the files that have changed, and check all of them.

        Args:
            loaded: the deployment as its file is now; its handlers and blueprints do not count.
            handlers: those that run; None if they are not known, which leaves out what depends on them.
            known: mistakes that were found elsewhere: their files have them as well.
        """
        diagnostics = self._read_changed(settings)
        found = list(known)
        wrong_files = {diagnostic.position.file for diagnostic in found if diagnostic.position is not None}
        fresh: dict[str, Blueprint] = {}
        homes: dict[str, Path] = {}
        bad: set[Path] = set()
        for path in sorted(self._files, key=lambda path: path not in self._homes.values()):
            file = self._files[path]
            if file.is_wrong or file.blueprint is None or file.blueprint.file in wrong_files:
                diagnostics += file.diagnostics
                bad.add(path)
            elif file.blueprint.id in fresh:
                diagnostics.append(_taken(file.blueprint, path, fresh[file.blueprint.id]))
                bad.add(path)
            else:
                diagnostics += file.diagnostics
                join = settings.defaults.join_strategy
                blueprint = file.blueprint if join == "all" else with_join(file.blueprint, join)
                fresh[blueprint.id], homes[blueprint.id] = blueprint, path
        for blueprint_id, path in self._homes.items():
            if path in bad and blueprint_id not in fresh and blueprint_id in self.blueprints:
                fresh[blueprint_id], homes[blueprint_id] = self.blueprints[blueprint_id], path
        found += self._refused(fresh, homes, bad, _lint_options(loaded, settings, handlers))
        # An id whose file could not be made out, as before the first look, is not taken for removed while some file is wrong.
        removed = [] if bad else [name for name in self.blueprints if name not in fresh]
        kept = sorted({name for name, path in homes.items() if path in bad})
        changed = [name for name, blueprint in fresh.items() if self.blueprints.get(name) != blueprint]
        self._homes = homes
        for name in self.blueprints:
            if bad and name not in fresh:
                fresh[name] = self.blueprints[name]
        self.blueprints = fresh
        every = dict.fromkeys([*diagnostics, *found])
        return Reread(fresh, changed, removed, kept, sorted(every, key=_place))

    def _read_changed(self, settings: Settings) -> list[Diagnostic]:
        """Read what has changed since the last time; returns what is wrong with the folders."""
        diagnostics: list[Diagnostic] = []
        folders = blueprint_folders(self.folder, settings)
        paths = blueprint_files(folders, diagnostics)
        beside = frozenset(
            _signatures(path for folder in folders for path in _all_files(folder) if path not in set(paths))
        )
        others_changed, self._beside = beside != self._beside, beside
        files: dict[Path, _File] = {}
        for path in paths:
            signature, known = _signature(path), self._files.get(path)
            if known is not None and known.signature == signature and not (known.includes and others_changed):
                files[path] = known
                continue
            blueprint, found = load_file(path)
            files[path] = _File(signature, blueprint, found, _has_include(path))
        self._files = files
        return diagnostics

    def _refused(
        self, fresh: dict[str, Blueprint], homes: dict[str, Path], bad: set[Path], options: "_LintOptions"
    ) -> list[Diagnostic]:
        """Put back what was before in place of each blueprint that the linter refuses, until it refuses none.

        Putting one back may make another one wrong that calls it.
        """
        found: list[Diagnostic] = []
        while True:
            # While some file cannot be read it is not known which blueprint is missing: those from before may be called.
            catalog, refused = Catalog({**self.blueprints, **fresh} if bad else fresh), []
            round_: list[Diagnostic] = []
            for name, blueprint in fresh.items():
                if homes[name] in bad:
                    continue
                diagnostics = options.lint(blueprint, catalog)
                round_ += diagnostics
                if any(diagnostic.severity == "error" for diagnostic in diagnostics):
                    refused.append((name, diagnostics))
            if not refused:
                return [*found, *round_]
            for name, diagnostics in refused:
                found += diagnostics
                bad.add(homes[name])
                before = self.blueprints.get(name)
                if before is None:
                    del fresh[name], homes[name]
                else:
                    fresh[name] = before


def folder_state(folder: Path, settings: Settings) -> dict[str, Signature]:
    """The files of the blueprint folders, and those beside them that a blueprint may take in."""
    return dict(_signatures(path for place in blueprint_folders(folder, settings) for path in _all_files(place)))


def blueprint_folders(folder: Path, settings: Settings) -> list[Path]:
    """As the loader of the deployment names them, so that messages do."""
    places = [folder / name for name in settings.blueprints.dirs]
    return [
        Path(os.path.relpath(place)) if place.is_relative_to(Path.cwd()) else place
        for place in places
        if place.is_dir()
    ]


@dataclass(frozen=True)
class _LintOptions:
    loaded: LoadResult
    settings: Settings
    specs: Mapping[str, HandlerSpec] | None
    bare: Mapping[str, str]

    def lint(self, blueprint: Blueprint, catalog: Catalog) -> list[Diagnostic]:
        return lint(
            with_params(blueprint, self.settings.handlers),
            handlers=self.specs,
            blueprints=catalog,
            handler_params=params_of(self.settings),
            handler_places=places_of(self.loaded.values),
            max_attempts=self.settings.defaults.max_retries,
            undecorated=self.bare,
            limits=self.settings.limits.named,
            providers=self.settings.llm.providers,
            mcp_servers=self.settings.mcp,
        )


def _lint_options(loaded: LoadResult, settings: Settings, handlers: Mapping[str, Handler] | None) -> _LintOptions:
    specs = None
    if handlers is not None:
        specs = {name: handler.declared for name, handler in handlers.items()}
    return _LintOptions(loaded, settings, specs, undecorated(settings.handler_modules))


def _all_files(folder: Path) -> Iterator[Path]:
    for place, below, names in os.walk(folder):
        below.sort()
        yield from (Path(place) / name for name in sorted(names))


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except OSError:  # it is gone, or may not be looked at: reading it says so
        return 0, 0, 0, 0
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _signatures(paths: Iterable[Path]) -> Iterator[tuple[str, Signature]]:
    return ((str(path), _signature(path)) for path in paths)


def _has_include(path: Path) -> bool:
    try:
        return INCLUDE in path.read_bytes()
    except OSError:
        return True


def _taken(blueprint: Blueprint, path: Path, other: Blueprint) -> Diagnostic:
    position = blueprint.positions.of(("id",)) or SourcePosition(str(path), 1, 1)
    place = other.positions.of(("id",)) or other.file
    message = f"the id '{blueprint.id}' is taken by {place}; every blueprint needs an id of its own"
    return Diagnostic("error", position, "id", message)


def _place(diagnostic: Diagnostic) -> tuple[str, int, int]:
    position = diagnostic.position
    return ("", 0, 0) if position is None else (position.file, position.line, position.column)
