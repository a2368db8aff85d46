"""Handler code that has changed since it was imported, and checking it in a process of its own before it is used."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_server.config.blueprint_cache import modules_of

from .supervisor import child_command

CHECK_SECONDS = 120.0


class HandlerCode:
    """The source files of the handlers of a deployment, as they were when they were imported.

    Args:
        folder: of `flowcraft.yaml`: modules from elsewhere do not count.
        began_ns: when they began to be imported: what was written since counts as changed.
    """

    def __init__(self, folder: Path, began_ns: int) -> None:
        self._folder = folder
        self._known = {
            path: signature if signature is not None and signature[0] < began_ns else None
            for path, signature in self._look().items()
        }

    def changed(self) -> list[str]:
        """The files that have changed, relative to the folder; those that are gone, too."""
        now = self._look()
        changed = {path for path in self._known if now.get(path) != self._known[path]}
        return sorted(os.path.relpath(path, self._folder) for path in changed)

    def accept(self) -> None:
        """What is there now is in use from now on."""
        self._known = self._look()

    def state(self) -> dict[str, tuple[int, ...]]:
        """The files as they are now, each with the time of its last change (ns) first."""
        return {str(path): signature or (0,) for path, signature in self._look().items()}

    def _look(self) -> dict[Path, tuple[int, int] | None]:
        return {path: _signature(path) for path in modules_of(self._folder)}


@dataclass(frozen=True)
class CheckedDeployment:
    """What `flowcraft-server check` says of a deployment, in a fresh process.

    Attributes:
        diagnostics: mistakes and warnings, by file and line.
        failure: why there is no such answer; '' if there is.
    """

    diagnostics: list[Diagnostic]
    failure: str = ""

    @property
    def errors(self) -> list[Diagnostic]:
        """The mistakes."""
        return [diagnostic for diagnostic in self.diagnostics if diagnostic.severity == "error"]


def check_in_child(path: Path, profile: str | None, environ: Mapping[str, str]) -> CheckedDeployment:
    """Check a deployment as it is now: its file, its handlers, which are imported, and its blueprints.

    Args:
        path: of `flowcraft.yaml`.
        profile: name of the profile laid over it.
    """
    arguments = ["check", "--offline", "--json", "--config", str(path)]
    if profile:
        arguments += ["--profile", profile]
    try:
        ended = subprocess.run(
            child_command(*arguments),
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHECK_SECONDS,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CheckedDeployment([], f"checking the handlers has taken longer than {CHECK_SECONDS:g} s")
    except OSError as error:
        return CheckedDeployment([], f"the handlers cannot be checked: {error.strerror}")
    try:
        return CheckedDeployment([_diagnostic(each) for each in json.loads(ended.stdout)])
    except (ValueError, TypeError, LookupError):
        last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
        return CheckedDeployment(
            [], f"checking the handlers ended with exit code {ended.returncode}{': ' + last[0] if last else ''}"
        )


def _diagnostic(plain: Mapping[str, Any]) -> Diagnostic:
    position = None if plain["file"] is None else SourcePosition(plain["file"], plain["line"], plain["column"])
    return Diagnostic("error" if plain["severity"] == "error" else "warning", position, plain["path"], plain["message"])


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
