"""Checks blueprint files, along with the deployment that they belong to."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.linting.catalog import Catalog
from flowcraft_server.blueprints.linting.linter import lint
from flowcraft_server.blueprints.loading.loader import FORMATS, load_file
from flowcraft_server.blueprints.model import Blueprint, Diagnostic
from flowcraft_server.config.blueprint_files import params_of, places_of, with_join, with_params
from flowcraft_server.config.handlers import undecorated
from flowcraft_server.config.load import LoadResult, load_config
from flowcraft_server.observability.redaction import Redactor


def check_files(
    paths: Sequence[Path], config: Path | None, profile: str | None = None
) -> tuple[list[Diagnostic], list[Blueprint]]:
    """All that is wrong with these files, and the blueprints that were looked at.

    Args:
        paths: blueprint files and folders of them; none for all of the deployment, its own file and handlers too.
        config: the deployment's file. Without one nothing is known of handlers and of other blueprints.
        profile: name of a profile of that file.
    """
    deployment = load_config(config, profile=profile) if config is not None else None
    if not paths and deployment is not None:
        return deployment.diagnostics, list(deployment.blueprints)
    diagnostics: list[Diagnostic] = []
    checked: dict[str, Blueprint] = {}
    paths = _files(paths)
    for path in paths:
        blueprint, found = load_file(path)
        diagnostics += found
        if blueprint is not None:
            other = checked.setdefault(blueprint.id, blueprint)
            if other is not blueprint:
                diagnostics.append(_taken(blueprint, other, path))
    ours = {path.resolve() for path in paths}
    others = [
        blueprint
        for blueprint in (deployment.blueprints if deployment is not None else ())
        if blueprint.file is None or Path(blueprint.file).resolve() not in ours
    ]
    by_id = Catalog({blueprint.id: blueprint for blueprint in (*others, *checked.values())})
    handlers = None if deployment is None else _handlers_of(deployment)
    settings = deployment.settings if deployment is not None else None
    for blueprint in checked.values():
        if settings is not None:
            joined = blueprint if settings.defaults.join_strategy == "all" else with_join(blueprint, "any")
            blueprint = with_params(joined, settings.handlers)
        params = params_of(settings) if settings is not None else {}
        places = places_of(deployment.values) if deployment is not None else None
        diagnostics += lint(
            blueprint,
            handlers=handlers,
            blueprints=by_id,
            handler_params=params,
            handler_places=places,
            undecorated=undecorated(settings.handler_modules) if settings is not None else None,
            limits=settings.limits.named if settings is not None else None,
            providers=settings.llm.providers if settings is not None else None,
            mcp_servers=settings.mcp if settings is not None else None,
        )
    redactor = Redactor(deployment.secrets if deployment is not None else ())
    cleaned = [replace(diagnostic, message=redactor.clean(diagnostic.message)) for diagnostic in diagnostics]
    return sorted(dict.fromkeys(cleaned), key=_place), list(checked.values())


def _files(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        found |= dict.fromkeys(file for file in inside if not path.is_dir() or file.suffix.lower() in FORMATS)
    return list(found)


def _handlers_of(deployment: LoadResult) -> dict[str, HandlerSpec] | None:
    """What the deployment's handlers declare; None where not all of them are known."""
    if any(diagnostic.path.startswith(("handlers", "handlerModules")) for diagnostic in deployment.errors):
        return None
    return {name: handler.declared for name, handler in deployment.handlers.items()}


def _taken(blueprint: Blueprint, other: Blueprint, path: Path) -> Diagnostic:
    position = blueprint.positions.of(("id",)) or SourcePosition(str(path), 1, 1)
    place = other.positions.of(("id",)) or other.file
    return Diagnostic("error", position, "id", f"the id '{blueprint.id}' is taken by {place}")


def _place(diagnostic: Diagnostic) -> tuple[str, int, int]:
    position = diagnostic.position
    return (position.file, position.line, position.column) if position is not None else ("", 0, 0)
