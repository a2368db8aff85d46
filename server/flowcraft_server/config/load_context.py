"""`flowcraft.yaml` as one tree of values: profile laid over it, environment and options on top, variables filled in."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.document import read_document
from flowcraft_sdk._config.environment import PROFILE_VARIABLE, Environment, environment_of
from flowcraft_sdk._config.interpolation import Interpolation, InterpolationError
from flowcraft_sdk._config.profiles import EXTENSION, PROFILES, no_profile, profiles_of
from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.source_positions import SourcePosition, written_path
from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_server.blueprints.suggestions import MOST_KNOWN, did_you_mean, suggested

from .keys import remove_empty_sections, remove_unknown_keys, write_out_short_forms
from .overrides import from_command_line, from_environment

_PROFILE = re.compile(rf"^{PROFILES}\.[^.]*\.")

LARGEST = 16 * 1024 * 1024
"""Bytes of `flowcraft.yaml`."""


@dataclass
class LoadContext:
    """What was read, and what is wrong with it.

    Attributes:
        path: the file.
        shown: its name in messages.
        profile: name of the profile that was laid over it.
        layers: the values by where they were set, what counts most first: options, environment, file.
        merged: all of them together, with the origin of each.
        secrets: texts that must never be shown.
        file: the file without its profiles, variables not filled in.
        profiles: its profiles by name, likewise.
        environment: what variables are filled in from.
        unfilled: paths of values whose variables could not be filled in; what else is wrong with them is not known.
        began_ns: when reading began, by the clock of files.
    """

    path: Path
    shown: str
    profile: str | None = None
    layers: tuple[Tree, ...] = ()
    merged: Tree = field(default_factory=Tree)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    file: Tree = field(default_factory=Tree)
    profiles: dict[str, Tree] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    unfilled: set[Place] = field(default_factory=set)
    began_ns: int = field(default_factory=time.time_ns)
    _reported: set[Diagnostic] = field(default_factory=set)

    @property
    def folder(self) -> Path:
        """What all paths in the file are relative to."""
        return self.path.parent

    def report(
        self,
        path: Place,
        message: str,
        *,
        at: SourcePosition | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Add a diagnostic with the value at a path, or at a place of its own."""
        origin = self.merged.origin_of(path) if path else None
        position = at or (origin.position if origin else None)
        diagnostic = Diagnostic(severity, position, written_path(self.as_written(path)), message)
        if diagnostic not in self._reported:
            self._reported.add(diagnostic)
            self.diagnostics.append(diagnostic)

    def as_written(self, path: Place) -> Place:
        """A path without the key that a short form stands for: `handlers.h` for its `path`."""
        origin = self.merged.origins.get(path)
        return path[:-1] if origin is not None and origin.short else path

    def hides(self, path: Place, *, parts: bool = True) -> bool:
        """Whether a mistake keeps what the file means by a section from being known: what others refer to may be in it.

        Args:
            path: of the section.
            parts: whether mistakes in its parts count as well.
        """
        section = written_path(path)
        for diagnostic in self.diagnostics:
            if diagnostic.severity != "error":
                continue
            where = _PROFILE.sub("", diagnostic.path)
            if where and (where == section or section.startswith(f"{where}.")):
                return True
            if parts and where.startswith((f"{section}.", f"{section}[")):
                return True
            above = where.rpartition(".")[0]
            if any(
                (*_written(above), name) == path[: len(_written(above)) + 1] for name in suggested([diagnostic.message])
            ):
                return True
        return False

    def lacks_a_misspelt_key(self, path: Place) -> bool:
        """Whether a section as a whole is wrong, and a key of it was written otherwise: what it lacks is that key."""
        section = written_path(path)
        return isinstance(self.merged.get(path), dict) and any(
            diagnostic.path.rpartition(".")[0] == section and suggested([diagnostic.message])
            for diagnostic in self.diagnostics
        )

    @property
    def start(self) -> SourcePosition:
        """The beginning of the file."""
        return SourcePosition(self.shown, 1, 1)


def _yaml_files(folder: Path) -> list[str]:
    try:
        return sorted(each.name for each in islice(folder.iterdir(), MOST_KNOWN) if each.suffix == ".yaml")
    except OSError:
        return []


def read_configuration(
    path: Path, profile: str | None, overrides: Mapping[str, Any], environ: Mapping[str, str]
) -> LoadContext:
    """Read the file and all that is laid over it; nothing is checked yet but keys and variables."""
    path = Path(os.path.abspath(path))
    reading = LoadContext(path, _shown(path))
    try:
        text = read_utf8_file(path, LARGEST, reading.shown)
        environment = environment_of(path.parent, environ)
    except FileNotFoundError:
        other = path.with_suffix(".yml")
        near = did_you_mean(path.name, _yaml_files(path.parent))
        hint = f"; {other.name} is there: rename it" if other.exists() else near or "; name another one, or make it"
        reading.report((), f"{reading.shown}: no such file{hint}")
        return reading
    except NotUtf8Error as error:
        reading.report((), error.reason, at=error.position)
        return reading
    except OSError as error:
        reading.report((), f"{error.filename}: cannot be read: {error.strerror}")
        return reading
    file, diagnostics = read_document(text, reading.shown)
    reading.diagnostics += diagnostics
    reading.merged = file
    reading.environment = environment
    _apply_profile(reading, file, profile or environment.get(PROFILE_VARIABLE))
    _lay_over(reading, file, overrides, environment)
    _fill_in(reading, file, Interpolation(environment, path.parent, reading.secrets), environment)
    return reading


def _apply_profile(reading: LoadContext, file: Tree, name: str | None) -> None:
    """Take the profiles out of the file, and lay one of them over the rest."""
    profiles, diagnostics = profiles_of(file, reading.shown)
    reading.diagnostics += diagnostics
    for profile, tree in profiles.items():
        _tidy(reading, tree, (PROFILES, profile))
        if profile == name:
            reading.profile, chosen = profile, tree
    file.remove((PROFILES,))
    _tidy(reading, file, ())
    reading.file, reading.profiles = file.copy(), {each: tree.copy() for each, tree in profiles.items()}
    if reading.profile is not None:
        for path, origin in list(chosen.origins.items()):
            chosen.origins[path] = replace(origin, label=f"{origin.label} (profile {reading.profile})")
        file.merge(chosen)
    elif name:
        reading.report((), no_profile(name, profiles))


def _tidy(reading: LoadContext, tree: Tree, below: Place) -> None:
    """Take out unknown keys, and bring what is left into its one long form."""
    for key in [key for key in tree.data if key.startswith(EXTENSION)]:
        tree.remove((key,))
    for path, position, message in remove_unknown_keys(tree):
        reading.report((*below, *path), message, at=position)
    remove_empty_sections(tree)
    write_out_short_forms(tree)


def _lay_over(reading: LoadContext, file: Tree, overrides: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    variables, refused = from_environment(environ, file)
    for name, message in refused:
        reading.report((), f"environment variable {name}: {message}")
    options = from_command_line(overrides)
    reading.layers = (options, variables, file)
    reading.merged = file.copy()
    reading.merged.merge(variables)
    reading.merged.merge(options)


def _fill_in(reading: LoadContext, file: Tree, interpolation: Interpolation, environment: Environment) -> None:
    """Fill variables into the values of the file that still count: what is overridden may name a variable that is not set."""
    for path, value in list(reading.merged.scalars()):
        origin = reading.merged.origins.get(path)
        if not isinstance(value, str) or "$" not in value or origin is None or origin.position is None:
            continue
        try:
            filled = interpolation.fill(value)
        except InterpolationError as error:
            reading.report(path, str(error))
            reading.unfilled.add(path)
            continue
        names = interpolation.variables_in(value)
        places = ", ".join(
            f"{name} {'from ' if name in environment else ''}{environment.place_of(name)}" for name in names
        )
        for tree in (reading.merged, file):
            tree.replace(path, filled)
            tree.origins[path] = replace(origin, written=value, filled=places)


def _shown(path: Path) -> str:
    """A path as short as it can be written from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _written(path: str) -> Place:
    """The parts of a path without indexes, as it is written in messages."""
    return tuple(path.split(".")) if path else ()
