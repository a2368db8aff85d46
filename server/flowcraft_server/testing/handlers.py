"""Plain functions as handlers, without a flowcraft.yaml."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flowcraft_server.config.handler import Handler
from flowcraft_server.config.handler_forms import check_function, resources_of


def as_runnable(name: str, function: Callable[..., Any]) -> Handler:
    """Make a function, or another object that can be a handler, into one that the engine calls.

    Args:
        name: Name that nodes `use`.
        function: The function.

    Returns:
        The handler.

    Raises:
        HandlerError: It cannot be one.
    """
    spec = getattr(function, "__flowcraft_handler__", None)
    called, is_async = check_function(function, name)
    required, optional = resources_of(called)
    return Handler(
        name=name,
        function=called,
        is_async=is_async,
        spec=spec,
        timeout=spec.timeout if spec is not None else None,
        resources=required,
        optional_resources=optional,
    )


def in_place_of(handler: Handler, function: Callable[..., Any]) -> Handler:
    """Put another function under a handler's name, with its params and timeout.

    Args:
        handler: The handler.
        function: The function.

    Returns:
        The new handler.

    Raises:
        HandlerError: The function cannot be a handler.
    """
    other = as_runnable(handler.name, function)
    spec = other.spec or handler.spec
    return replace(
        handler,
        function=other.function,
        is_async=other.is_async,
        spec=spec,
        resources=other.resources,
        optional_resources=other.optional_resources,
    )
