"""What handlers declare of themselves, and the decorator that they do it with."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.bounds import check_span

if TYPE_CHECKING:
    from pydantic import BaseModel

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """What a handler declares of itself; the linter checks blueprints against it.

    Attributes:
        name: Name that nodes `use`; None: it is given in flowcraft.yaml.
        actions: Every action that the handler can return; None: not declared.
        params: Pydantic model that the nodes' `params` must fit.
        timeout: Seconds that an attempt may take, for nodes that set none.
        writes: Every context key that it writes and every node that it adds; None: not declared.
        arguments: Pydantic model of its input where an agent calls it as a tool.
        description: What it is for, as the model of an agent gets to know it; None for the first paragraph of its docstring.
        parks: Whether its node may be parked while a model call waits for its provider, and be run again from its beginning.
        output: Type of its output, as `check` knows it; None: not declared.
        reads: Every context key that it reads, as `check` finds them in its code; None: not known.
    """

    name: str | None = None
    actions: tuple[str, ...] | None = None
    params: "type[BaseModel] | None" = None
    timeout: float | None = None
    writes: tuple[str, ...] | None = None
    arguments: "type[BaseModel] | None" = None
    description: str | None = None
    parks: bool = False
    output: Any = None
    reads: tuple[str, ...] | None = None


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
    arguments: "type[BaseModel] | None" = None,
    description: str | None = None,
    parks: bool = False,
    output: Any = None,
) -> Callable[[Function], Function]: ...


def handler(
    name: str | Callable[..., Any] | None = None,
    *,
    actions: Sequence[str] | None = None,
    params: "type[BaseModel] | None" = None,
    timeout: float | timedelta | str | None = None,
    writes: Sequence[str] | None = None,
    arguments: "type[BaseModel] | None" = None,
    description: str | None = None,
    parks: bool = False,
    output: Any = None,
    **unknown: Any,
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
        arguments: Pydantic model of its input where an agent calls it as a tool: what does not fit is not handed to it.
        description: What it is for, as the model of an agent gets to know it; by default the first paragraph of its docstring.
        parks: Its node may be parked, and hold no worker, while a model call waits for more than a second for the limits of
            its provider. It is called again from its beginning then: replies and steps that are recorded answer it, other
            code is run once more.
        output: Type of its output, such as a TypedDict, a dataclass or a pydantic model, by default its return annotation;
            `check` finds paths that lead nowhere in it. A handler that returns a `NodeResult` declares it here.
        unknown: None: an argument that there is not is refused, with what may be meant.

    Returns:
        The function itself, or a decorator that returns it.

    Raises:
        TypeError: There is no such argument, the name is no text, `actions` or `writes` is one text in place of a list of
            them, or `params` or `arguments` is no pydantic model.
        ConfigurationError: The timeout is no duration, or 0.
    """
    if unknown:
        raise TypeError(_unknown_argument(next(iter(unknown))))
    seconds = check_span(timeout, "timeout")
    if seconds == 0:
        raise ConfigurationError("timeout is longer than 0; leave it out for the deployment's default")
    for what, model in (("params", params), ("arguments", arguments)):
        if model is not None and not hasattr(model, "model_validate"):
            raise TypeError(f"{what} is a pydantic model, a class; got {type(model).__name__}")
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
        arguments,
        description,
        parks,
        output,
    )

    def declare(function: Function) -> Function:
        function.__flowcraft_handler__ = spec  # type: ignore[attr-defined]
        return function

    return declare


_ARGUMENTS = ("name", "actions", "params", "timeout", "writes", "arguments", "description", "parks", "output")
_OF_NODES = {
    "maxRetries": ("retry", "retries", "maxretries", "maxattempts", "attempts", "retrypolicy", "autoretryfor"),
    "retryDelay": ("retrydelay", "retrydelayseconds", "retrybackoff", "backoff", "defaultretrydelay"),
    "nonRetryable": ("nonretryable", "dontautoretryfor", "nonretryableerrortypes"),
    "fallback": ("fallback", "onerror", "onfailure"),
    "compensate": ("compensate", "compensation", "undo"),
    "joinStrategy": ("joinstrategy", "join", "triggerrule"),
    "queue": ("queue", "taskqueue"),
    "limit": ("limit", "concurrency", "ratelimit"),
    "budget": ("budget",),
}
"""Settings of a node, with what they may be called here, in lower case and without underscores."""


def _unknown_argument(written: str) -> str:
    """What is wrong with an argument of the decorator that it does not have."""
    plain = written.replace("_", "").lower()
    for setting, words in _OF_NODES.items():
        if plain in words:
            or_for_all = (
                "" if setting in ("fallback", "compensate", "limit") else ", or for all of its nodes in `defaults`"
            )
            where = f"it is set in the blueprint, by the node: `config: {{{setting}: ...}}`{or_for_all}"
            return f"@handler takes no {written}: {where}"
    near = difflib.get_close_matches(plain, _ARGUMENTS, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"@handler takes no {written}{meant or '; it takes ' + ', '.join(_ARGUMENTS)}"
