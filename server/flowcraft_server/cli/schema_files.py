"""`flowcraft-server schema`: the JSON Schemas of flowcraft.yaml, of blueprint files and of evaluations, for editors."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.json_schema import blueprint_schema
from flowcraft_server.config.blueprint_files import params_of
from flowcraft_server.config.json_schema import config_schema
from flowcraft_server.config.load import LoadResult
from flowcraft_server.evals.json_schema import eval_schema

FOLDER = ".flowcraft"
CONFIG_SCHEMA = "config.schema.json"
BLUEPRINT_SCHEMA = "blueprint.schema.json"
EVAL_SCHEMA = "eval.schema.json"


def schemas_of(loaded: LoadResult) -> dict[str, dict[str, Any]]:
    """The schemas of a deployment's files: `config`, `blueprint` and `eval`.

    Args:
        loaded: the deployment, its handlers imported. Those that could not be are known by name, as are those of a file
            with mistakes.
    """
    entries = loaded.values.get(("handlers",))
    names = list(entries) if isinstance(entries, Mapping) else []
    specs: dict[str, HandlerSpec] | None = {name: HandlerSpec() for name in names}
    assert specs is not None
    specs.update((name, handler.spec or HandlerSpec()) for name, handler in loaded.handlers.items())
    if any(diagnostic.path.startswith("handlerModules") for diagnostic in loaded.errors):
        specs = None  # not all of the names are known
    given = params_of(loaded.settings) if loaded.settings is not None else {}
    ids = [one.id for one in loaded.blueprints]
    providers = list(loaded.settings.llm.providers) if loaded.settings is not None else []
    return {
        "config": config_schema(),
        "blueprint": blueprint_schema(specs, ids, given),
        "eval": eval_schema(ids, providers),
    }


def write_schemas(loaded: LoadResult) -> list[Path]:
    """Write the schemas into the deployment's folder `.flowcraft`; returns the files.

    Raises:
        OSError: a file cannot be written.
    """
    folder = loaded.folder / FOLDER
    folder.mkdir(exist_ok=True)
    files = []
    for name, schema in zip((CONFIG_SCHEMA, BLUEPRINT_SCHEMA, EVAL_SCHEMA), schemas_of(loaded).values(), strict=True):
        file = folder / name
        temporary = folder / f"{name}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(file)
        files.append(file)
    return files


def hint(schema: str) -> str:
    """The line at the top of a file by which editors find its schema, given the schema's path from there."""
    return f"# yaml-language-server: $schema={schema}"
