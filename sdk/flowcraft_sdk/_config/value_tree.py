"""Values with the places they come from, by path; merged so that each value keeps its own place."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk._config.source_positions import Path, SourcePosition


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        label: a place of a file, the name of a variable or of an option.
        key: where its key stands, for values in a file.
        position: where it stands itself, for values in a file.
        written: what stands there, if variables were filled in.
        short: it stands in the place of the section that it is the one key of.
        filled: where those variables come from, such as `REDIS_URL from .env:3`.
    """

    label: str
    key: SourcePosition | None = None
    position: SourcePosition | None = None
    written: str | None = None
    filled: str = ""
    short: bool = False


@dataclass
class Tree:
    """A mapping of plain values, and the origin of each of them."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, Origin] = field(default_factory=dict)

    def copy(self) -> "Tree":
        """A tree of its own with the same values."""
        return Tree(deepcopy(self.data), dict(self.origins))

    def get(self, path: Path) -> Any:
        """The value at a path, None when there is none."""
        found: Any = self.data
        for key in path:
            inside = key in found if isinstance(found, dict) else isinstance(found, list) and key in range(len(found))
            if not inside:
                return None
            found = found[key]
        return found

    def put(self, path: Path, value: Any, origin: Origin) -> None:
        """Set one value; mappings on the way are made."""
        into = self.data
        for key in path[:-1]:
            into = into.setdefault(str(key), {})
        into[str(path[-1])] = value
        self.origins[path] = origin

    def replace(self, path: Path, value: Any) -> None:
        """Put another value where there is one; its origin stays."""
        into: Any = self.get(path[:-1])
        into[path[-1]] = value

    def remove(self, path: Path) -> None:
        """Take the value under a key out, with all below it."""
        self._forget(path)
        into = self.get(path[:-1])
        if isinstance(into, dict):
            into.pop(path[-1], None)

    def origin_of(self, path: Path) -> Origin | None:
        """The origin of a value, or of what it stands in when it is nowhere written itself."""
        while path:
            if path in self.origins:
                return self.origins[path]
            path = path[:-1]
        return self.origins.get(())

    def subtree(self, path: Path) -> "Tree":
        """A mapping within this one, as a tree of its own."""
        value = self.get(path)
        cut = len(path)
        origins = {place[cut:]: self.origins[place] for place in _places(path, value) if place in self.origins}
        return Tree(value if isinstance(value, dict) else {}, origins)

    def merge(self, over: "Tree") -> None:
        """Lay another tree over this one: mappings are merged, everything else is replaced."""
        for path, value in over.leaves():
            if value == {} and isinstance(self.get(path), dict):
                continue  # a section without keys lays down nothing
            for depth in range(1, len(path)):
                if self.get(path[:depth]) is not None and not isinstance(self.get(path[:depth]), dict):
                    self.remove(path[:depth])
            self._forget(path)
            for depth in range(len(path)):
                if path[:depth] in over.origins:
                    self.origins.setdefault(path[:depth], over.origins[path[:depth]])
            for place in _places(path, value):
                if place in over.origins:
                    self.origins[place] = over.origins[place]
            self.put(path, value, over.origin_of(path) or Origin(""))

    def leaves(self, path: Path = (), value: Any = None) -> Iterator[tuple[Path, Any]]:
        """All values but mappings with something in them, with their paths; a list is one value."""
        value = self.data if not path else value
        for key, item in list(value.items()):
            if isinstance(item, dict) and item:
                yield from self.leaves((*path, key), item)
            else:
                yield (*path, key), item

    def scalars(self) -> Iterator[tuple[Path, Any]]:
        """All values that are neither mappings nor lists, with their paths."""
        pending: list[tuple[Path, Any]] = [((), self.data)]
        while pending:
            path, value = pending.pop()
            if isinstance(value, dict):
                pending.extend(((*path, key), item) for key, item in value.items())
            elif isinstance(value, list):
                pending.extend(((*path, index), item) for index, item in enumerate(value))
            else:
                yield path, value

    def _forget(self, path: Path) -> None:
        for place in _places(path, self.get(path)):
            self.origins.pop(place, None)


def _places(path: Path, value: Any) -> Iterator[Path]:
    """The path of a value, and of each one in it."""
    pending: list[tuple[Path, Any]] = [(path, value)]
    while pending:
        place, found = pending.pop()
        yield place
        if isinstance(found, dict):
            pending.extend(((*place, key), item) for key, item in found.items())
        elif isinstance(found, list):
            pending.extend(((*place, index), item) for index, item in enumerate(found))
