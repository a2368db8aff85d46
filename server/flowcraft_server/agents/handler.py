"""The handler `agent`: a model that calls tools until it has an output."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcraft_server.blueprints.agent_params import AGENT, PROVIDED
from flowcraft_server.config.handler import Handler
from flowcraft_server.config.mcp_section import McpServerSection
from flowcraft_server.engine.contexts import AwaitedNodeContext
from flowcraft_server.llm.models import LanguageModels

from .agent_input import params_of
from .extra import load_extra


@dataclass(frozen=True, slots=True)
class AgentServices:
    """What agents have of their deployment.

    Attributes:
        handlers: by name; their tools are among them.
        models: the providers, or None.
        mcp: the MCP servers, by name.
    """

    handlers: Mapping[str, Handler]
    models: LanguageModels | None = None
    mcp: Mapping[str, McpServerSection] = field(default_factory=dict)

    async def run(self, ctx: AwaitedNodeContext) -> Any:
        """The handler."""
        await load_extra()
        from .agent_run import run_agent

        return await run_agent(ctx, params_of(ctx.params), self)


class WithProvided(Mapping[str, Handler]):
    """The handlers of a deployment as they are at each look, and behind them those that the server itself provides.

    Args:
        own: of the deployment, by name.
        provided: of the server.
    """

    def __init__(self, own: Mapping[str, Handler], provided: Mapping[str, Handler]) -> None:
        self._own = own
        self._provided = provided

    def __getitem__(self, name: str) -> Handler:
        found = self._own.get(name)
        return self._provided[name] if found is None else found

    def get(self, name: str, default: Any = None) -> Any:
        """The handler of a name. Not the mix-in's, which is slow: a worker asks for each node."""
        found = self._own.get(name)
        return self._provided.get(name, default) if found is None else found

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from (name for name in self._provided if name not in self._own)

    def __len__(self) -> int:
        return len({*self._own, *self._provided})


def with_provided(
    handlers: Mapping[str, Handler], models: LanguageModels | None, mcp: Mapping[str, McpServerSection]
) -> WithProvided:
    """The handlers of a worker: those of the deployment, and `agent`, unless the deployment has one of its own."""
    services = AgentServices(handlers, models, mcp)
    return WithProvided(handlers, {AGENT: Handler(AGENT, services.run, is_async=True, spec=PROVIDED[AGENT])})
