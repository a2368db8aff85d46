"""Blueprints from whatever form a test has them in, checked as `flowcraft-server check` does."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import load_dirs, load_file, load_text
from flowcraft_server.blueprints.loading.near_file import meant_file
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.config.handler import Handler
from flowcraft_server.testing.blueprint_warnings import warn_of

BlueprintSource = Path | str | Mapping[str, Any] | Blueprint


def read_blueprints(sources: BlueprintSource | Iterable[BlueprintSource]) -> Iterator[Blueprint]:
    """Read blueprints from any form that a test has them in.

    Args:
        sources: One or several of them.

    Yields:
        The blueprints.

    Raises:
        ValueError: One of them has errors; the message lists them.
    """
    if isinstance(sources, Blueprint):
        yield sources
    elif isinstance(sources, Path):
        if not sources.exists():
            raise ValueError(f"{sources}: no such file or folder{meant_file(sources)}")
        loaded = load_dirs([sources]) if sources.is_dir() else load_file(sources)
        yield from _checked(*loaded)
    elif isinstance(sources, Mapping):
        if "nodes" in sources:
            yield from _checked(
                *load_text(json.dumps(sources), "blueprint.json", sources.get("id", "blueprint"), "json")
            )
        else:
            for blueprint_id, source in sources.items():
                text = source if isinstance(source, str) else json.dumps(source)
                form: Literal["yaml", "json"] = "yaml" if isinstance(source, str) else "json"
                yield from _checked(*load_text(text, f"{blueprint_id}.{form}", blueprint_id, form))
    elif isinstance(sources, str):
        if _is_path(sources):
            yield from read_blueprints(Path(sources))
        else:
            yield from _checked(*load_text(sources, "blueprint.yaml", "blueprint", "yaml"))
    else:
        for source in sources:
            yield from read_blueprints(source)


def _checked(loaded: Blueprint | list[Blueprint] | None, diagnostics: list[Any]) -> Iterator[Blueprint]:
    errors = [str(diagnostic) for diagnostic in diagnostics if diagnostic.severity == "error"]
    if errors or loaded is None:
        raise ValueError("\n".join(errors) or "no blueprint")
    warn_of(diagnostics)
    yield from loaded if isinstance(loaded, list) else [loaded]


def _is_path(text: str) -> bool:
    """A text of one line is the path of a file or folder, unless it is a blueprint: a mapping in YAML or JSON."""
    return "\n" not in text and ": " not in text and not text.lstrip().startswith("{")


def check_blueprints(
    blueprints: Iterable[Blueprint], known: Mapping[str, Blueprint], handlers: Mapping[str, Handler]
) -> None:
    """Make sure that blueprints have no mistake that `flowcraft-server check` would call an error; warn of what it warns of.

    Args:
        blueprints: The blueprints.
        known: The blueprints that subflows may call, by id.
        handlers: All that nodes may use.

    Raises:
        ValueError: One has; the message lists the errors, each with file, line and column.
    """
    specs = {name: handler.declared for name, handler in handlers.items()}
    params = {name: handler.params for name, handler in handlers.items() if handler.params}
    catalog = Catalog(known)
    found = [
        diagnostic
        for blueprint in blueprints
        for diagnostic in lint(blueprint, handlers=specs, blueprints=catalog, handler_params=params)
    ]
    errors = [str(diagnostic) for diagnostic in found if diagnostic.severity == "error"]
    if errors:
        raise ValueError("\n".join(errors))
    warn_of(found)
