"""What was read and checked at an earlier start, kept by content: files that have not changed are not read and checked again.

The key is a hash over everything that the result depends on: this release's own code, the files of all blueprint folders, what
the settings say of blueprints and handlers, and the source files of the deployment's modules. What lies in the cache is JSON.
A cache that is broken, of another user, or cannot be written is as good as none.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, overload

import flowcraft_sdk
import flowcraft_server
from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.regular_file import read_regular_file
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_server.blueprints.loading.loader import LARGEST
from flowcraft_server.blueprints.model import Blueprint

FOLDER = ".flowcraft/cache"
"""Beside `flowcraft.yaml`."""

MOST_FILES = 10_000
MOST_BYTES = 512 * 1024 * 1024
"""Of one kept result, and of all files together that are looked at for it."""


class KeptBlueprints(Sequence[Blueprint]):
    """Blueprints in the plain form, each made when it is asked for: where their plans are published, none is needed.

    Args:
        plain: blueprints by id.
    """

    def __init__(self, plain: Mapping[str, Mapping[str, Any]]) -> None:
        self._plain = plain
        self.ids = list(plain)

    def of(self, blueprint_id: str) -> Blueprint:
        """The blueprint with this id."""
        return Blueprint.from_plain(self._plain[blueprint_id])

    @overload
    def __getitem__(self, index: int) -> Blueprint: ...

    @overload
    def __getitem__(self, index: slice) -> list[Blueprint]: ...

    def __getitem__(self, index: int | slice) -> Blueprint | list[Blueprint]:
        return [self.of(name) for name in self.ids[index]] if isinstance(index, slice) else self.of(self.ids[index])

    def __len__(self) -> int:
        return len(self.ids)


class BlueprintCache:
    """One kept result of a deployment.

    Args:
        deployment: folder of `flowcraft.yaml`.
        key: of what is looked for, see `key_of`.
    """

    def __init__(self, deployment: Path, key: str) -> None:
        self._folder = deployment / FOLDER
        self._key = key

    def read(self) -> tuple[KeptBlueprints, list[Diagnostic]] | None:
        """The blueprints, and the warnings about them; None if nothing is kept for this key."""
        found = self._load("blueprints")
        try:
            if found is None:
                return None
            diagnostics = [
                Diagnostic("warning", None if position is None else SourcePosition(*position), path, message, excerpt)
                for position, path, message, excerpt in found["diagnostics"]
            ]
            return KeptBlueprints(found["blueprints"]), diagnostics
        except (KeyError, TypeError, ValueError):
            return None

    def write(self, blueprints: Iterable[Blueprint], diagnostics: Iterable[Diagnostic]) -> None:
        """Keep a result without errors."""
        kept = [
            (diagnostic.position, diagnostic.path, diagnostic.message, diagnostic.excerpt) for diagnostic in diagnostics
        ]
        self._save("blueprints", {"blueprints": {b.id: b.to_plain() for b in blueprints}, "diagnostics": kept})

    def plans(self) -> dict[str, str]:
        """The plan of each blueprint, as far as it is known."""
        found = self._load("plans") or {}
        plans = found.get("plans")
        return plans if isinstance(plans, dict) and all(isinstance(plan, str) for plan in plans.values()) else {}

    def keep_plans(self, plans: Mapping[str, str]) -> None:
        """Note which plans the blueprints were compiled to."""
        if self.plans() != plans:
            self._save("plans", {"plans": dict(plans)})

    def _load(self, name: str) -> dict[str, Any] | None:
        path = self._folder / f"{name}.json"
        try:
            if self._folder.stat().st_uid != os.geteuid() or path.stat().st_uid != os.geteuid():
                return None
            found = json.loads(read_regular_file(path, MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) and found.get("key") == self._key else None

    def _save(self, name: str, values: Mapping[str, Any]) -> None:
        path, beside = self._folder / f"{name}.json", self._folder / f"{name}.{os.getpid()}.new"
        with suppress(OSError):  # such as in a container whose files cannot be written
            self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
            (self._folder / ".gitignore").write_text("*\n")
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"key": self._key, **values}, file, ensure_ascii=False, separators=(",", ":"))
            beside.replace(path)


def key_of(deployment: Path, folders: Iterable[Path], depends_on: Any) -> str | None:
    """The key of a deployment's blueprints as they are now; None if they are too many to be kept.

    Args:
        folders: of blueprints, with all that lies in them, for blueprints take in files beside them.
        depends_on: what else the result depends on, as JSON values.
    """
    digest = hashlib.sha256(f"{_release()}\n{json.dumps(depends_on, sort_keys=True, default=str)}".encode())
    left = MOST_BYTES
    try:
        for number, path in enumerate(_files(folders)):
            content = read_regular_file(path, LARGEST)
            left -= len(content)
            if number >= MOST_FILES or left < 0:
                return None
            digest.update(f"\n{path}\n{len(content)}\n".encode(errors="surrogateescape"))
            digest.update(content)
        for path in sorted(modules_of(deployment)):
            digest.update(f"\n{path}\n".encode(errors="surrogateescape"))
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return None
    return digest.hexdigest()


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for place, below, names in os.walk(folder):
            below.sort()
            yield from (Path(place) / name for name in sorted(names))


def modules_of(deployment: Path) -> set[Path]:
    """Source files of the modules that were imported from the deployment's folder: params may be checked by any of them."""
    root = os.path.join(os.path.realpath(deployment), "")
    found = set()
    for module in list(sys.modules.values()):
        source = getattr(module, "__file__", None)
        if isinstance(source, str) and source.endswith(".py") and os.path.realpath(source).startswith(root):
            found.add(Path(source))
    return found


@cache
def _release() -> str:
    """A hash of this release's own code: another one may read or check differently."""
    digest = hashlib.sha256(sys.version.encode())
    for package in (flowcraft_sdk, flowcraft_server):
        for place in package.__path__:
            for path in sorted(Path(place).rglob("*.py")):
                digest.update(path.read_bytes())
    return digest.hexdigest()
