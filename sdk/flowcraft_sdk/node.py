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
        id: letters, digits, `_` and `-`; no other node of the run may have it.
        uses: the handler's name, or a built-in one such as `subflow`.
        params: settings for the handler.
        inputs: where its input comes from: a path, or paths by name; None for the output of the node that adds it.
        config: as in a blueprint: `maxRetries`, `retryDelay`, `timeout`, `queue`, ...
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
        dynamic_nodes: nodes to be run now; the edges fire when all of them are done. An object with the same keys does as well.
    """

    output: Any = None
    action: str | None = None
    dynamic_nodes: Sequence[DynamicNode | Mapping[str, Any]] = ()


class NonRetryableError(Exception):
    """Raised by a handler whose failure no further attempt can mend.

    Args:
        message: what went wrong, recorded with the run.
        details: JSON value recorded beside it.
    """

    def __init__(self, message: str, *, details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class NodeCancelled(Exception):
    """Raised by `ctx.check_cancelled()` when the run is to stop. Let it through."""


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
        """The model's answer to a prompt."""
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
        """The model's answer to a prompt."""
        ...


class RunContext(ABC):
    """The run's context for a plain function. Writes become visible to others when the node completes."""

    @abstractmethod
    def get(self, key: str, default: Any = None) -> Any:
        """Value of a key, or `default`."""

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Values of those of the keys that are there, in one round trip."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether the key is there; null is a value."""

    @abstractmethod
    def set(self, key: str, value: Any) -> None:
        """Write a key. Raises SerializationError for a value that cannot be stored."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete a key."""


class AsyncRunContext(ABC):
    """The run's context for a coroutine: the same, awaited."""

    @abstractmethod
    async def get(self, key: str, default: Any = None) -> Any:
        """Value of a key, or `default`."""

    @abstractmethod
    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Values of those of the keys that are there, in one round trip."""

    @abstractmethod
    async def has(self, key: str) -> bool:
        """Whether the key is there; null is a value."""

    @abstractmethod
    async def set(self, key: str, value: Any) -> None:
        """Write a key. Raises SerializationError for a value that cannot be stored."""

    @abstractmethod
    async def delete(self, key: str) -> None:
        """Delete a key."""


class BaseNodeContext:
    """What plain functions and coroutines get alike.

    Attributes:
        input: the node's resolved input.
        params: the node's `params`.
        attempt: 1 for the first attempt; grows with each failed one.
        item: index of the item in a batch, None outside of one.
        fencing_token: grows with each take-over of the node.
        logger: names run and node on each line.
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
        """The same for every attempt at this node in this iteration, for calls to the outside."""
        raise AttributeError("a node context comes from the engine")

    @property
    def cancelled(self) -> bool:
        """Whether the handler is to stop."""
        raise AttributeError("a node context comes from the engine")

    def check_cancelled(self) -> None:
        """Raise NodeCancelled if the handler is to stop."""
        raise AttributeError("a node context comes from the engine")

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Report progress from 0 to 1 (None: unknown) with a short text."""
        raise AttributeError("a node context comes from the engine")

    def emit(self, name: str, data: Any = None) -> None:
        """Add an event of your own to the run's history (64 KiB at most)."""
        raise AttributeError("a node context comes from the engine")


class NodeContext(BaseNodeContext):
    """The `ctx` of a handler that is a plain function."""

    context: RunContext
    llm: LanguageModel


class AsyncNodeContext(BaseNodeContext):
    """The `ctx` of a handler that is a coroutine function."""

    context: AsyncRunContext
    llm: AsyncLanguageModel


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """What a handler declares of itself; the linter checks blueprints against it.

    Attributes:
        name: the name that nodes `use`; None: given in flowcraft.yaml.
        actions: every action it can return; None: not declared.
        params: pydantic model that the nodes' `params` must fit.
        timeout: seconds, for nodes that set none.
        writes: every context key that it writes and every node that it adds; None: not declared.
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

    Args:
        name: the name that nodes `use`; by default the function's own, or the one in flowcraft.yaml.
        actions: every action it can return.
        params: pydantic model that the nodes' `params` must fit.
        timeout: for nodes that set none: seconds, a timedelta, or a text such as `30s`.
        writes: every context key that it writes with `ctx.context.set`, and the id of every node that it adds; `check`
            knows them then. Empty for none.

    Raises:
        TypeError: the name is no text, `actions` or `writes` is one text in place of a list of them, or `params` is no
            pydantic model.
        ConfigurationError: the timeout is no span, or 0.
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
