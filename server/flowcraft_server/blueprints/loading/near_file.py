"""The file that may be meant by a name that is none."""

from pathlib import Path

from flowcraft_server.blueprints.suggestions import nearest

FORMATS = (".yaml", ".yml", ".json")
"""Of blueprints."""

MOST_LOOKED_AT = 2_000


def meant_file(path: Path) -> str:
    """`; did you mean 'x'?`, or nothing."""
    near = near_file(path)
    return f"; did you mean '{near}'?" if near is not None else ""


def near_file(path: Path) -> Path | None:
    """A file that may be meant by one that is not there: beside it by name; in the folders beside it by the id of a blueprint."""
    try:
        beside = {
            each.name: each for _, each in zip(range(MOST_LOOKED_AT), sorted(path.parent.iterdir()), strict=False)
        }
        files = {name: each for name, each in beside.items() if each.is_file() and each.name != path.name}
        below = {
            each.stem: each
            for folder in beside.values()
            if folder.is_dir() and not folder.name.startswith(".")
            for _, each in zip(range(MOST_LOOKED_AT), sorted(folder.iterdir()), strict=False)
            if each.suffix in FORMATS
        }
    except OSError:
        return None
    of_kind = {name: each for name, each in files.items() if path.suffix in ("", each.suffix)}
    by_stem = {each.stem: each for each in files.values() if each.suffix in FORMATS} if not path.suffix else {}
    for known, name in ((of_kind, path.name), (files, path.name), (by_stem, path.stem), (below, path.stem)):
        if name in known:
            return known[name]
        if (near := nearest(name, known, 0.75)) is not None:
            return known[near]
    return None
