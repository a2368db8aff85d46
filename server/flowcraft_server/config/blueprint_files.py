"""Blueprints as a deployment runs them: with its defaults, and with what it says of their handlers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from flowcraft_sdk._config.source_positions import SourcePositions
from flowcraft_sdk._config.value_tree import Tree
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint
from flowcraft_server.blueprints.routes import NOWHERE, Route

from .limits import limit_of
from .model import Settings
from .sections import HandlerEntry


def with_params(blueprint: Blueprint, entries: Mapping[str, HandlerEntry]) -> Blueprint:
    """The blueprint with the params that its handlers give to all their nodes, as they will run."""
    nodes = []
    for node in blueprint.nodes:
        worker = node.params.get("workerUsesKey" if node.uses == "batch-scatter" else "uses")
        inner = node.params.get("params")
        if node.uses in entries:
            node = replace(node, params={**entries[node.uses].params, **node.params})
        elif inner is not None and not isinstance(inner, Mapping):
            pass  # the linter says what it should be
        elif node.uses in BUILTIN_USES and isinstance(worker, str) and worker in entries:
            node = replace(node, params={**node.params, "params": {**entries[worker].params, **(inner or {})}})
        nodes.append(node)
    return replace(blueprint, nodes=tuple(nodes))


def params_of(settings: Settings) -> dict[str, Mapping[str, Any]]:
    """The params that a deployment gives to its handlers, by the name that nodes `use`."""
    return {name: entry.params for name, entry in settings.handlers.items() if entry.params}


def places_of(values: Tree) -> SourcePositions:
    """Where the entries of handlers stand in `flowcraft.yaml`, by paths that begin with `handlers`."""
    origins = [(path, origin) for path, origin in values.origins.items() if path[:1] == ("handlers",)]
    return SourcePositions(
        {path: origin.key for path, origin in origins if origin.key is not None},
        {path: origin.position for path, origin in origins if origin.position is not None},
    )


def with_join(blueprint: Blueprint, join: Literal["all", "any"]) -> Blueprint:
    """The blueprint with the deployment's join strategy in the nodes that name none."""
    nodes = tuple(
        node
        if node.config.join is not None or node.uses in BUILTIN_USES
        else replace(node, config=replace(node.config, join=join))
        for node in blueprint.nodes
    )
    return replace(blueprint, nodes=nodes)


def handler_routes(settings: Settings | None) -> dict[str, Route]:
    """The queues and limits that handlers have of their own, by the name that nodes `use`."""
    entries = settings.handlers.items() if settings is not None else ()
    routes = {name: Route(entry.queue, limit_of(name, entry)) for name, entry in entries}
    return {name: route for name, route in routes.items() if route != NOWHERE}
