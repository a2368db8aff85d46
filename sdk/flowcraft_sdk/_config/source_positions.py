"""Where things stand in a file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")
Path = tuple[str | int, ...]
"""A place within nested mappings and lists: keys and indexes from the outside in."""


class SourcePosition(NamedTuple):
    """A place in a file; line and column count from 1, the column in characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class SourcePositions:
    """Places of keys and values by their paths.

    Attributes:
        written: how the file writes a path that a short form stands for, such as `call` for `params.blueprintId`.
    """

    keys: Mapping[Path, SourcePosition] = field(default_factory=dict)
    values: Mapping[Path, SourcePosition] = field(default_factory=dict)
    written: Mapping[Path, Path] = field(default_factory=dict)

    def of(self, path: Path) -> SourcePosition | None:
        """Where the value at `path` stands, or of what it would stand in; None if not even that is known."""
        while path not in self.values:
            if not path:
                return None
            path = path[:-1]
        return self.values[path]

    def of_key(self, path: Path) -> SourcePosition | None:
        """Where the key at the end of `path` stands; for an item of a list, where the item stands."""
        return self.keys.get(path) or self.of(path)

    def shown(self, path: Path) -> str:
        """A path as the file writes it."""
        return written_path(as_written(path, self.written))


class _LatePlaces(Mapping[Path, _T]):
    def __init__(self, table: Callable[[Path | None], Mapping[Path, _T]]) -> None:
        self._table = table

    def __getitem__(self, path: Path) -> _T:
        return self._table(path)[path]

    def __contains__(self, path: object) -> bool:
        return isinstance(path, tuple) and path in self._table(path)

    def __bool__(self) -> bool:  # without finding them all
        return True

    def __iter__(self) -> Iterator[Path]:
        return iter(self._table(None))

    def __len__(self) -> int:
        return len(self._table(None))


def late_positions(find: Callable[[Path | None], SourcePositions]) -> SourcePositions:
    """Places that are found when they are asked for.

    Args:
        find: gives a table that holds all there is at a path and around it; with None all there is.
    """
    return SourcePositions(
        _LatePlaces(lambda path: find(path).keys),
        _LatePlaces(lambda path: find(path).values),
        _LatePlaces(lambda path: find(path).written),
    )


def as_written(path: Path, written: Mapping[Path, Path]) -> Path:
    """A path with its longest part that the file writes otherwise in the file's own words."""
    for length in range(len(path), 0, -1) if written else ():
        own = written.get(path[:length])
        if own is not None:
            return (*own, *path[length:])
    return path


def written_path(path: Path) -> str:
    """A path as it is shown to people: `nodes.a.params.list[0]`."""
    shown = ""
    for key in path:
        if isinstance(key, int):
            shown += f"[{key}]"
        else:
            name = f"'{key}'" if key != key.strip() or not key else key if len(key) <= 60 else f"{key[:59]}…"
            shown += f".{name}" if shown else name
    return shown
