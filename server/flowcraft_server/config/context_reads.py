"""Which context keys a handler reads, as far as its code says so."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

_WRITES = ("set", "delete")
_READS = ("get", "has")


def context_reads(function: Callable[..., Any]) -> tuple[str, ...] | None:
    """The keys that a handler may read from the context; None if its code leaves that open.

    It does where the context is handed on or kept, where a key is no text that is written there, and where a decorator or a class
    stands around the function.
    """
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    return _reads(inner) if inspect.isfunction(inner) and not hasattr(inner, "__wrapped__") else None


@functools.lru_cache(maxsize=4096)
def _reads(function: FunctionType) -> tuple[str, ...] | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):  # no source, or none that stands alone
        return None
    own = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(own, ast.FunctionDef | ast.AsyncFunctionDef) or not (own.args.posonlyargs or own.args.args):
        return None
    name = [*own.args.posonlyargs, *own.args.args][0].arg
    above = {child: node for node in ast.walk(own) for child in ast.iter_child_nodes(node)}
    keys: dict[str, None] = {}
    for node in ast.walk(own):
        if not isinstance(node, ast.Name) or node.id != name:
            continue
        part = above[node]
        if not isinstance(part, ast.Attribute):
            return None
        if part.attr != "context":
            continue
        method = above[part]
        call = above.get(method)
        if not isinstance(method, ast.Attribute) or not isinstance(call, ast.Call) or call.func is not method:
            return None
        if method.attr in _WRITES:
            continue
        key = call.args[0] if call.args else None
        if method.attr not in _READS or not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        keys[key.value] = None
    return tuple(keys)
