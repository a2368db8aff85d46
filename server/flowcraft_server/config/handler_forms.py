"""What can be a handler: functions, coroutine functions, partials of them, instances with `__call__`, classes of those."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from flowcraft_sdk.node import AsyncNodeContext, NodeContext

_CONTEXTS: dict[Any, bool] = {
    NodeContext: False,
    AsyncNodeContext: True,
    "NodeContext": False,
    "AsyncNodeContext": True,
}
"""Annotations of the context, and whether they are for coroutine functions."""


class HandlerError(Exception):
    """A handler cannot be used; the message is one line that says why and what to do."""


def check_function(function: Any, path: str) -> tuple[Callable[..., Any], bool]:
    """Check that something can be called as a handler.

    Args:
        function: what its path names.
        path: its dotted path, for the message.

    Returns:
        What is called with the context, and whether that gives a coroutine. Of a class it is an instance, made here
        without arguments: it serves all calls of this process.

    Raises:
        HandlerError: it cannot.
    """
    if inspect.isclass(function):
        function = _instance(function, path)
    if not callable(function):
        raise HandlerError(f"'{path}' is of type {type(function).__name__}, not a function")
    called = innermost(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise HandlerError(f"'{path}' is a generator; a handler returns its output")
    is_async = inspect.iscoroutinefunction(called)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Written in C, or a mock of a coroutine with the first releases of Python 3.11: only a call shows what it takes.
        return function, is_async
    try:
        signature.bind(object(), **dict.fromkeys(resources_of(function)[0]))
    except TypeError:
        message = f"'{path}{signature}' must take exactly one argument, the context"
        raise HandlerError(message) from None
    _check_annotation(function, path, is_async)
    if is_async:
        _check_awaits(called, path)
    return function, is_async


def resources_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keyword-only parameters of a handler: those without a default, and those with one.

    What a `functools.partial` has given already is none.
    """
    given: set[str] = set()
    inner = function
    while isinstance(inner, functools.partial):
        given |= set(inner.keywords)
        inner = inner.func
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return (), ()
    named = [each for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY and each.name not in given]
    empty = inspect.Parameter.empty
    return (
        tuple(each.name for each in named if each.default is empty),
        tuple(each.name for each in named if each.default is not empty),
    )


def innermost(function: Any) -> Any:
    """The function behind partials, decorators that say what they wrap, bound methods, and `__call__` of an instance."""
    for _ in range(100):  # a decorator may name itself as what it wraps
        if inspect.iscoroutinefunction(function):  # as an AsyncMock says, whose `__call__` is a plain function
            break
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif getattr(function, "__wrapped__", None) is not None:
            function = function.__wrapped__
        elif inspect.isroutine(function) or not hasattr(type(function), "__call__"):  # noqa: B004
            break
        else:
            function = type(function).__call__
    return function


def _instance(kind: type, path: str) -> Any:
    """An instance of a class whose instances can be called."""
    if not any("__call__" in vars(base) for base in kind.__mro__):  # every class has the one of its own type
        raise HandlerError(f"'{path}' is a class without __call__; name a function that takes the context")
    try:
        inspect.signature(kind).bind()
    except (TypeError, ValueError):
        raise HandlerError(
            f"'{path}' is a class whose __init__ takes arguments; name an instance of it, or a function that takes the context"
        ) from None
    try:
        return kind()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # as for an import: whatever it does, it is the handler's mistake
        raise HandlerError(
            f"'{path}' is a class, and making an instance failed ({type(error).__name__}: {error})"
        ) from error


def _check_annotation(function: Any, path: str, is_async: bool) -> None:
    """The context that a handler names is the one that it gets."""
    parameter = next(iter(inspect.signature(function).parameters.values()), None)
    noted = parameter.annotation if parameter is not None else None
    if isinstance(noted, str):
        noted = noted.rpartition(".")[2]
    if not isinstance(noted, type | str) or _CONTEXTS.get(noted, is_async) == is_async:
        return
    if is_async:
        raise HandlerError(f"'{path}' is a coroutine function, whose context is an AsyncNodeContext, not a NodeContext")
    raise HandlerError(
        f"'{path}' is a plain function, whose context is a NodeContext, not an AsyncNodeContext; or write `async def`"
    )


def _check_awaits(function: Any, path: str) -> None:
    """No call of the context stands alone without its `await`: nothing would happen."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):  # no source, or none that stands alone
        return
    own = next((node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)), None)
    names = [] if own is None else [each.arg for each in (*own.args.posonlyargs, *own.args.args)]
    for node in ast.walk(tree):
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and _is_of_context(call.func, names):
            where = f"`{ast.unparse(call.func)}(...)` on line {first + call.lineno - 1}"
            if isinstance(call.func, ast.Attribute) and call.func.attr == "stream":
                raise HandlerError(f"'{path}': {where} is not read, so it does nothing: write `async for` with it")
            raise HandlerError(f"'{path}': {where} is not awaited, so it does nothing: put `await` before it")


def _is_of_context(called: ast.expr, names: list[str]) -> bool:
    """Whether this is `ctx.context.set` or the like, of one of these arguments."""
    if not isinstance(called, ast.Attribute) or not isinstance(called.value, ast.Attribute):
        return False
    owner = called.value
    return owner.attr in ("context", "llm") and isinstance(owner.value, ast.Name) and owner.value.id in names
