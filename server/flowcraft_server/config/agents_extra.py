"""The extras that agents and models need, and the blueprints that are without theirs. Nothing of them is loaded here."""

import importlib.util
from collections.abc import Collection, Iterable, Iterator

from flowcraft_server.blueprints.agent_params import AGENT
from flowcraft_server.blueprints.model import Blueprint, Diagnostic

NEEDED = "agents need pydantic-ai: pip install 'flowcraft-server[agents]'"
NEEDED_BY_TRACING = "pip install 'flowcraft-server[otel]'"
NEEDED_BY_MODELS = "pip install 'flowcraft-server[llm]'"


def has_models_extra() -> bool:
    """Whether the libraries are installed that call models over HTTP."""
    return all(importlib.util.find_spec(name) is not None for name in ("httpx2", "openai"))


def has_tracing_extra() -> bool:
    """Whether OpenTelemetry is installed."""
    try:
        return importlib.util.find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:  # not even its namespace is there
        return False


def has_extra() -> bool:
    """Whether pydantic-ai is installed."""
    return importlib.util.find_spec("pydantic_ai") is not None


def missing_extra(blueprints: Iterable[Blueprint], handlers: Collection[str]) -> Iterator[Diagnostic]:
    """A warning about the first agent of each blueprint, if agents cannot run here.

    Args:
        blueprints: those of the deployment.
        handlers: names of its own handlers.
    """
    if AGENT in handlers or has_extra():
        return
    for blueprint in blueprints:
        node = next((node for node in blueprint.nodes if node.uses == AGENT), None)
        if node is not None:
            yield Diagnostic("warning", blueprint.positions.of_key(("nodes", node.id)), f"nodes.{node.id}.uses", NEEDED)
