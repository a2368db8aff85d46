"""What handlers import: the context they get, what they may return and raise, and the decorator that names them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.bounds import check_span

if TYPE_CHECKING:
    from pydantic import BaseModel

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class DynamicNode:
    """A node that a handler adds to its run.

    Attributes:
        id: Letters, digits, `_` and `-`; no other node of the run may have it.
        uses: Name of its handler, or of a built-in one such as `subflow`.
        params: Settings for the handler.
        inputs: Where its input comes from: a path, or paths by name; None for the output of the node that adds it.
        config: As in a blueprint: `maxRetries`, `retryDelay`, `timeout`, `queue`, ...
    """

    id: str
    uses: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | Mapping[str, str] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeResult:
    """An output together with the action that chooses the outgoing edges.

    Attributes:
        output: The node's output.
        action: The action; None for the edges without one.
        dynamic_nodes: Nodes to run now; the edges fire when all of them have ended. A mapping with the same keys does as well.
    """

    output: Any = None
    action: str | None = None
    dynamic_nodes: Sequence[DynamicNode | Mapping[str, Any]] = ()


class NonRetryableError(Exception):
    """Raised by a handler whose failure no further attempt can mend.

    Args:
        message: What went wrong, recorded with the run.
        details: JSON value recorded beside it.
    """

    def __init__(self, message: str, *, details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class NodeCancelled(Exception):
    """Raised by `ctx.check_cancelled()` when the handler is to stop. Let it through."""


class LanguageModel(Protocol):
    """A language model for plain functions."""

    def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Ask the model.

        Args:
            prompt: The prompt.
            system: Instructions that stand before it.
            model: Name of the model; None for the provider's own.
            temperature: As the provider takes it; None for its default.
            max_tokens: The longest reply, in tokens; None for the provider's default.

        Returns:
            The reply.
        """
        ...


class AsyncLanguageModel(Protocol):
    """A language model for coroutines."""

    async def complete(
        self,
        prompt: str,
        *,
        system: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> str:
        """Ask the model.

        Args:
            prompt: The prompt.
            system: Instructions that stand before it.
            model: Name of the model; None for the provider's own.
            temperature: As the provider takes it; None for its default.
            max_tokens: The longest reply, in tokens; None for the provider's default.

        Returns:
            The reply.
        """
        ...


class RunContext(ABC):
    """The run's context. Writes become visible to other nodes when this one completes."""

    @abstractmethod
    def get(self, key: str, default: Any = None) -> Any:
        """Read a key.

        Args:
            key: The key.
            default: What to return if it is not there.

        Returns:
            Its value, or `default`.
        """

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Read several keys in one round trip.

        Args:
            keys: The keys.

        Returns:
            The values of those that are there.
        """

    @abstractmethod
    def has(self, key: str) -> bool:
        """Look whether a key is there; null is a value.

        Args:
            key: The key.

        Returns:
            True if it is.
        """

    @abstractmethod
    def set(self, key: str, value: Any) -> None:
        """Write a key.

        Args:
            key: The key.
            value: A JSON value.

        Raises:
            SerializationError: The value cannot be stored.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a key.

        Args:
            key: The key.
        """


class AsyncRunContext(ABC):
    """The run's context. Writes become visible to other nodes when this one completes."""

    @abstractmethod
    async def get(self, key: str, default: Any = None) -> Any:
        """Read a key.

        Args:
            key: The key.
            default: What to return if it is not there.

        Returns:
            Its value, or `default`.
        """

    @abstractmethod
    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Read several keys in one round trip.

        Args:
            keys: The keys.

        Returns:
            The values of those that are there.
        """

    @abstractmethod
    async def has(self, key: str) -> bool:
        """Look whether a key is there; null is a value.

        Args:
            key: The key.

        Returns:
            True if it is.
        """

    @abstractmethod
    async def set(self, key: str, value: Any) -> None:
        """Write a key.

        Args:
            key: The key.
            value: A JSON value.

        Raises:
            SerializationError: The value cannot be stored.
        """

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Delete a key.

        Args:
            key: The key.
        """


class BaseNodeContext:
    """What the contexts of plain functions and coroutines have in common.

    Attributes:
        input: The node's resolved input.
        params: The node's `params`.
        run_id: Id of the run.
        node_id: Id of the node.
        blueprint_id: Id of the blueprint.
        attempt: 1 for the first attempt; grows with each failed one.
        item: Index of the item in a batch, None outside of one.
        fencing_token: Grows with each take-over of the node.
        logger: Logs with run and node on each line.
    """

    input: Any
    params: Mapping[str, Any]
    run_id: str
    node_id: str
    blueprint_id: str
    attempt: int
    item: int | None
    fencing_token: int
    logger: Any

    @property
    def iteration(self) -> int:
        """Number of the round in the innermost loop, from 0."""
        raise AttributeError("a node context comes from the engine")

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this node in this iteration: a key for calls to other services."""
        raise AttributeError("a node context comes from the engine")

    @property
    def cancelled(self) -> bool:
        """Whether the handler is to stop."""
        raise AttributeError("a node context comes from the engine")

    def check_cancelled(self) -> None:
        """Raise if the handler is to stop.

        Raises:
            NodeCancelled: The run is cancelled, or the attempt has timed out or lost its lease.
        """
        raise AttributeError("a node context comes from the engine")

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Report progress, which `describe` and the events of the run show.

        Args:
            fraction: From 0 to 1; None if it is not known.
            message: A short text.

        Raises:
            ValueError: The fraction is not between 0 and 1.
        """
        raise AttributeError("a node context comes from the engine")

    def emit(self, name: str, data: Any = None) -> None:
        """Add an event of your own to the run's history.

        Args:
            name: Name of the event.
            data: A JSON value, 64 KiB at most.

        Raises:
            ValueError: The name has a `|`.
            SerializationError: The data cannot be stored.
        """
        raise AttributeError("a node context comes from the engine")


class NodeContext(BaseNodeContext):
    """The `ctx` of a handler that is a plain function.

    Attributes:
        context: The run's context.
        llm: The deployment's language model.
    """

    context: RunContext
    llm: LanguageModel


class AsyncNodeContext(BaseNodeContext):
    """The `ctx` of a handler that is a coroutine function.

    Attributes:
        context: The run's context, awaited.
        llm: The deployment's language model, awaited.
    """

    context: AsyncRunContext
    llm: AsyncLanguageModel


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """What a handler declares of itself; the linter checks blueprints against it.

    Attributes:
        name: Name that nodes `use`; None: it is given in flowcraft.yaml.
        actions: Every action that the handler can return; None: not declared.
        params: Pydantic model that the nodes' `params` must fit.
        timeout: Seconds that an attempt may take, for nodes that set none.
        writes: Every context key that it writes and every node that it adds; None: not declared.
    """

    name: str | None = None
    actions: tuple[str, ...] | None = None
    params: "type[BaseModel] | None" = None
    timeout: float | None = None
    writes: tuple[str, ...] | None = None


@overload
def handler(name: Function, /) -> Function: ...


@overload
def handler(
    name: str | None = None,
    *,
    actions: Sequence[str] | None = None,
    params: "type[BaseModel] | None" = None,
    timeout: float | timedelta | str | None = None,
    writes: Sequence[str] | None = None,
) -> Callable[[Function], Function]: ...


def handler(
    name: str | Callable[..., Any] | None = None,
    *,
    actions: Sequence[str] | None = None,
    params: "type[BaseModel] | None" = None,
    timeout: float | timedelta | str | None = None,
    writes: Sequence[str] | None = None,
) -> Any:
    """Declare a function, a coroutine function or a class with `__call__` to be a handler, bare or with arguments.

    Example:
        ```python
        @handler("greet", actions=["polite", "brief"], timeout="30s")
        def greet(ctx: NodeContext) -> NodeResult:
            return NodeResult(f"Hello {ctx.input}", action="polite")
        ```

    Args:
        name: Name that nodes `use`; by default the function's own, or the one in flowcraft.yaml.
        actions: Every action that it can return.
        params: Pydantic model that the nodes' `params` must fit.
        timeout: Time limit of an attempt, for nodes that set none: seconds, a timedelta, or a text such as `30s`.
        writes: Every context key that it writes with `ctx.context.set`, and the id of every node that it adds; `check`
            knows them then. Empty for none.

    Returns:
        The function itself, or a decorator that returns it.

    Raises:
        TypeError: The name is no text, `actions` or `writes` is one text in place of a list of them, or `params` is no
            pydantic model.
        ConfigurationError: The timeout is no duration, or 0.
    """
    seconds = check_span(timeout, "timeout")
    if seconds == 0:
        raise ConfigurationError("timeout is longer than 0; leave it out for the deployment's default")
    if params is not None and not hasattr(params, "model_validate"):
        raise TypeError(f"params is a pydantic model, a class; got {type(params).__name__}")
    for what, names in (("actions", actions), ("writes", writes)):
        if isinstance(names, str):
            raise TypeError(f"{what} is a list of texts, got one text; write {what}=[{names!r}]")
    if name is not None and not isinstance(name, str):
        if not callable(name):
            raise TypeError(f"a handler's name is a text, got {type(name).__name__}")
        return handler()(name)
    spec = HandlerSpec(
        name,
        None if actions is None else tuple(actions),
        params,
        seconds,
        None if writes is None else tuple(writes),
    )

    def declare(function: Function) -> Function:
        function.__flowcraft_handler__ = spec  # type: ignore[attr-defined]
        return function

    return declare
