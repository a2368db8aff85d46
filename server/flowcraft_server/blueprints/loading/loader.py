"""Reads blueprints from YAML and JSON, in all the forms that people write them in, into the model.

Everything that is wrong with a file is found in one pass. A blueprint that comes with errors is what could be read of
it: the linter can find further mistakes in it, but it is not to be run.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from flowcraft_sdk._config.collection import without_collection
from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.source_positions import SourcePosition, SourcePositions
from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file
from flowcraft_sdk._config.yaml_reader import read_yaml
from flowcraft_server.blueprints.loading.blueprint import read_blueprint
from flowcraft_server.blueprints.loading.json_text import read_json
from flowcraft_server.blueprints.loading.late_places import LatePlaces
from flowcraft_server.blueprints.loading.load_context import LoadContext, is_null
from flowcraft_server.blueprints.loading.near_file import meant_file
from flowcraft_server.blueprints.loading.simple_form import NotSimple, plain_json, read_simple
from flowcraft_server.blueprints.model import Blueprint

Format = Literal["yaml", "json"]
FORMATS: dict[str, Format] = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}
LARGEST = 16 * 1024 * 1024
"""Bytes of a blueprint file."""


def load_file(path: str | Path) -> tuple[Blueprint | None, list[Diagnostic]]:
    """Read a blueprint file; its id is its `id:` or else the file's name without its ending.

    Returns:
        The blueprint, None when nothing of it could be read, and all that is wrong with it. With an error among the
        diagnostics the blueprint is incomplete and not to be run.
    """
    path = Path(path)
    start = SourcePosition(str(path), 1, 1)
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        return None, [Diagnostic("error", start, "", f"a blueprint file ends in {', '.join(FORMATS)}")]
    try:
        text = read_utf8_file(path, LARGEST)
    except OSError as error:
        near = meant_file(path) if isinstance(error, FileNotFoundError) else ""
        return None, [Diagnostic("error", start, "", f"cannot be read: {error.strerror or type(error).__name__}{near}")]
    except NotUtf8Error as error:
        return None, [Diagnostic("error", error.position, "", error.reason)]
    return _load(text, str(path), path.stem, form, Includes(path.parent))


def load_text(
    text: str, file: str = "blueprint.yaml", default_id: str = "blueprint", format: Format = "yaml"
) -> tuple[Blueprint | None, list[Diagnostic]]:
    """Read a blueprint from a text.

    Args:
        file: what the text is called in diagnostics.
        default_id: the blueprint's id when the text names none.

    Returns:
        As `load_file`.
    """
    return _load(text.removeprefix("\ufeff"), file, default_id, format, Includes(None))


def load_dirs(dirs: Iterable[str | Path]) -> tuple[list[Blueprint], list[Diagnostic]]:
    """Read all blueprint files of these folders, in the order of their names; files may be named too.

    Returns:
        What could be read, and all that is wrong: of two files with one id the first counts.
    """
    blueprints: dict[str, Blueprint] = {}
    diagnostics: list[Diagnostic] = []
    for path in blueprint_files(dirs, diagnostics):
        blueprint, found = load_file(path)
        diagnostics += found
        if blueprint is None:
            continue
        other = blueprints.setdefault(blueprint.id, blueprint)
        if other is not blueprint:
            position = blueprint.positions.of(("id",)) or SourcePosition(str(path), 1, 1)
            place = other.positions.of(("id",)) or other.file
            message = f"the id '{blueprint.id}' is taken by {place}; every blueprint needs an id of its own"
            diagnostics.append(Diagnostic("error", position, "id", message))
    return list(blueprints.values()), diagnostics


def blueprint_files(dirs: Iterable[str | Path], diagnostics: list[Diagnostic]) -> list[Path]:
    """The blueprint files of these folders, in the order of their names; files may be named too.

    Args:
        diagnostics: what is wrong with the folders is added to it.
    """
    found: dict[Path, None] = {}
    for name in dirs:
        path = Path(name)
        if path.is_file():
            found[path] = None
            continue
        try:
            inside = sorted(path.iterdir())
        except OSError as error:
            reason = error.strerror or type(error).__name__
            diagnostics.append(Diagnostic("error", None, "", f"folder '{path}' cannot be read: {reason}"))
            continue
        for file in inside:
            if file.suffix.lower() in FORMATS and not file.name.startswith(".") and not file.is_dir():
                found[file] = None
    return list(found)


@without_collection()
def _load(
    text: str, file: str, default_id: str, form: Format, includes: Includes
) -> tuple[Blueprint | None, list[Diagnostic]]:
    start = SourcePosition(file, 1, 1)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return None, [
            Diagnostic("error", start, "", f"not valid text: half of a surrogate pair at character {error.start}")
        ]
    if not text.strip():
        return None, [Diagnostic("error", start, "", "the file is empty; a blueprint needs nodes")]
    try:
        return _load_simply(text, file, default_id, form), []
    except NotSimple:
        return _load_in_full(text, file, default_id, form, includes)


def _load_simply(text: str, file: str, default_id: str, form: Format) -> Blueprint:
    """Read a text that nothing is wrong with; what includes files is not among them, for these may have changed later.

    Raises:
        NotSimple: it is to be read in full.
    """
    if form != "json":
        raise NotSimple
    blueprint, nodes = read_simple(LoadContext(file, lenient=True), plain_json(text), default_id)

    @without_collection()
    def in_full() -> SourcePositions:
        found, _ = _load_in_full(text, file, default_id, form, Includes(None))
        return SourcePositions() if found is None else found.positions

    return replace(blueprint, positions=LatePlaces(text, file, default_id, in_full, nodes).positions)


def _load_in_full(
    text: str, file: str, default_id: str, form: Format, includes: Includes
) -> tuple[Blueprint | None, list[Diagnostic]]:
    """Read a text with the places of all that is in it, and find all that is wrong with it."""
    start = SourcePosition(file, 1, 1)
    tree, diagnostics = read_json(text, file) if form == "json" else read_yaml(text, file, includes)
    reading = LoadContext(file, lenient=form == "json")
    if tree is None or (is_null(tree) and not diagnostics):
        empty = [Diagnostic("error", start, "", "the file holds nothing; a blueprint needs nodes")]
        return None, diagnostics or empty
    reading.complete = reading.nodes_known = not diagnostics
    blueprint = read_blueprint(reading, tree, default_id)
    return blueprint, sorted([*diagnostics, *reading.diagnostics], key=_order)


def _order(diagnostic: Diagnostic) -> tuple[int, int]:
    return (diagnostic.position.line, diagnostic.position.column) if diagnostic.position is not None else (0, 0)
