"""A handler, as the configuration has registered it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_sdk.node import HandlerSpec


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler that was imported and found callable: what the configuration has of it and the engine calls.

    Attributes:
        name: Name that blueprints `use`.
        function: The function, called with one context.
        is_async: Whether it is a coroutine function.
        spec: What its decorator declared, None when it has none.
        timeout: Seconds that an attempt may take, for nodes that set none.
        queue: Queue for nodes that name none.
        params: Defaults for nodes' params.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    spec: HandlerSpec | None = None
    timeout: float | None = None
    queue: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
