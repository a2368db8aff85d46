"""Plain functions as handlers, without a flowcraft.yaml."""

import inspect
from collections.abc import Callable
from typing import Any

from flowcraft_server.engine.attempts import RunnableHandler


def as_runnable(name: str, function: Callable[..., Any]) -> RunnableHandler:
    """A function or coroutine function as the engine calls it."""
    spec = getattr(function, "__flowcraft_handler__", None)
    return RunnableHandler(
        name=name,
        function=function,
        is_async=inspect.iscoroutinefunction(function),
        spec=spec,
        timeout=spec.timeout if spec is not None else None,
    )
