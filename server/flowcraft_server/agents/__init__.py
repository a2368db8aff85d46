"""Agents on pydantic-ai: the handler `agent`, and `DurableAgent` for agents that are written in Python.

pydantic-ai is an extra of this package: nothing of it is loaded before the first agent runs.

Imported by: cli, worker.
"""

from typing import Any

__all__ = ["DurableAgent"]


def __getattr__(name: str) -> Any:
    if name != "DurableAgent":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from .extra import require_extra

    require_extra()
    from .durable_agent import DurableAgent

    return DurableAgent
