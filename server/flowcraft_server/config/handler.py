"""A handler, as the configuration has registered it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.routes import NOWHERE, Route

from .context_reads import context_reads
from .return_types import returned_type


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
        limit: Limit that nodes count against which name none.
        params: Defaults for nodes' params.
        resources: Resources that it takes by keyword: its keyword-only parameters without a default.
        optional_resources: Its keyword-only parameters with a default, given to it if there are resources of these names.
    """

    name: str
    function: Callable[..., Any]
    is_async: bool
    spec: HandlerSpec | None = None
    timeout: float | None = None
    queue: str | None = None
    limit: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    resources: tuple[str, ...] = ()
    optional_resources: tuple[str, ...] = ()

    @property
    def declared(self) -> HandlerSpec:
        """What it declares by its decorator; besides, by its code, what its output is and which context keys it reads."""
        spec = self.spec or HandlerSpec()
        output = returned_type(self.function) if spec.output is None else spec.output
        return replace(spec, output=output, reads=context_reads(self.function))


def routes_of(handlers: Mapping[str, Handler]) -> dict[str, Route]:
    """The queues and limits that handlers have of their own, by name."""
    routes = {name: Route(handler.queue, handler.limit) for name, handler in handlers.items()}
    return {name: route for name, route in routes.items() if route != NOWHERE}
