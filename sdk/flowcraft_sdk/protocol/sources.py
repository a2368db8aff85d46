"""What a value is made of, wherever a blueprint names one: a path, an expression (`= a + 1`), or the value itself (`{value: 5}`).

The one rule for `inputs` and `outputs` of nodes, of runs and of subflows. Pure.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcraft_sdk.protocol.expressions import Expression

Source = str | Mapping[str, Any]
"""A path, an expression, or a literal: a mapping with the one key `value`."""

VALUE = "value"
"""The key of a literal."""

_SIGN = "="
_GROUPS = ("_outputs", "_inputs", "_own")
"""Beginnings of keys that an expression sees as objects: `_outputs.a` is a key of its own."""


def is_expression(source: object) -> bool:
    """Whether it is a text that begins with `=`, which is no path."""
    return isinstance(source, str) and source.lstrip()[:1] == _SIGN


def is_literal(source: object) -> bool:
    """Whether it is a value that is written in the blueprint."""
    return isinstance(source, Mapping) and len(source) == 1 and VALUE in source


def is_source(source: object) -> bool:
    """Whether it is any of the three."""
    return isinstance(source, str) or is_literal(source)


@lru_cache(maxsize=4096)
def compiled(source: str) -> "Expression":
    """The expression of a text that begins with `=`; a column in it is one in the text.

    Raises:
        ExpressionError: it cannot be read.
    """
    from flowcraft_sdk.protocol.expressions import compile_expression

    return compile_expression(source.replace(_SIGN, " ", 1))


def reads_of(source: Source) -> list[str]:
    """The paths that a source reads, in order; those of an expression as far as their keys are written in it.

    Raises:
        ExpressionError: it cannot be read.
    """
    if not isinstance(source, str):
        return []
    return [".".join(path) for path in _paths(compiled(source))] if is_expression(source) else [source]


def keys_of(source: Source) -> list[str]:
    """The keys for which `value_of` asks its `resolve`: a path as it stands, and of an expression each name.

    Raises:
        ExpressionError: it cannot be read.
    """
    if not is_expression(source):
        return reads_of(source)
    return list(dict.fromkeys(_key(path) for path in _paths(compiled(str(source)))))


def all_keys(sources: Iterable[Source]) -> list[str]:
    """`keys_of` all of these."""
    return list(dict.fromkeys(key for source in sources for key in keys_of(source)))


def value_of(source: Source, resolve: Callable[[str], Any]) -> Any:
    """The value of a source.

    Args:
        resolve: gives what a path or a key stands for, None for nothing.

    Raises:
        ExpressionError: it cannot be read.
    """
    if not isinstance(source, str):
        return source[VALUE]
    if not is_expression(source):
        return resolve(source)
    expression = compiled(source)
    scope: dict[str, Any] = {}
    for name in expression.names:
        within = [path[1:] for path in expression.reads if path[0] == name]
        if name == "context":
            scope[name] = _context([path for path in within if path], resolve)
        elif name in _GROUPS:
            scope[name] = {path[0]: resolve(f"{name}.{path[0]}") for path in within if path}
        else:
            scope[name] = resolve(name)
    return expression.evaluate(scope)


def reads_whole_context(source: Source) -> bool:
    """Whether an expression uses `context` as one value, which is not offered here: its keys have to be written."""
    return is_expression(source) and ("context",) in compiled(str(source)).reads


def _context(paths: list[tuple[str, ...]], resolve: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in paths:
        if path[0] not in _GROUPS:
            found[path[0]] = resolve(path[0])
        elif len(path) > 1:
            found.setdefault(path[0], {})[path[1]] = resolve(f"{path[0]}.{path[1]}")
    return {name: value for name, value in found.items() if value is not None}


def _paths(expression: "Expression") -> list[tuple[str, ...]]:
    """What it reads, in an order that does not change, without `context` before it."""
    paths = (path[1:] if path[0] == "context" else path for path in sorted(expression.reads))
    return [path for path in dict.fromkeys(paths) if path]


def _key(path: tuple[str, ...]) -> str:
    return f"{path[0]}.{path[1]}" if path[0] in _GROUPS and len(path) > 1 else path[0]
