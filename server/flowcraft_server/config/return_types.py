"""What a handler gives, by its return annotation."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any


def returned_type(function: Callable[..., Any]) -> Any:
    """The return annotation of a handler; `Any` where there is none that can be read.

    A function that wraps another one may make something else of its output: what that one has for an annotation says nothing.
    """
    inner: Any = function
    while isinstance(inner, functools.partial) or inspect.ismethod(inner):
        inner = inner.func if isinstance(inner, functools.partial) else inner.__func__
    if not inspect.isfunction(inner):
        inner = vars(type(inner)).get("__call__")
    if not inspect.isfunction(inner) or hasattr(inner, "__wrapped__") or "return" not in inner.__annotations__:
        return Any

    def returned() -> None: ...

    returned.__annotations__ = {"return": inner.__annotations__["return"]}
    try:
        return typing.get_type_hints(returned, inner.__globals__, include_extras=True)["return"]
    except Exception:
        return Any
