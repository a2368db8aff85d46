"""The lifespan of a deployment: a context manager for each worker process, whose value handlers get as resources."""

import ast
import contextlib
import inspect
import textwrap
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowcraft_server.blueprints.suggestions import Lookups, did_you_mean

from .handler import Handler
from .handler_forms import HandlerError, innermost
from .handlers import attribute_of, import_module

MOST_LISTED = 10

_YIELDING = (Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)


@dataclass(frozen=True, slots=True)
class Lifespan:
    """A function that gives a context manager, plain or asynchronous.

    Attributes:
        path: What it is called in messages: `package.module:attribute`.
        enter: Makes the context manager.
        names: What its value holds, as far as that can be read from its code; None if it cannot.
    """

    path: str
    enter: Callable[[], Any]
    names: frozenset[str] | None = None


def load_lifespan(path: str, folder: Path, lookups: Lookups | None = None) -> Lifespan:
    """Import the lifespan of a deployment.

    Args:
        path: `package.module:attribute`.
        folder: of `flowcraft.yaml`.

    Raises:
        HandlerError: it cannot be imported, or is none; the message is one line that says why.
    """
    module_name, _, attribute = path.partition(":")
    lookups = lookups or Lookups()
    module = import_module(module_name, folder, lookups)
    return as_lifespan(attribute_of(module, module_name, attribute, lookups), path)


def as_lifespan(function: Any, path: str) -> Lifespan:
    """Make a function into a lifespan; a generator function need not be decorated.

    Args:
        path: what it is called in messages.

    Raises:
        HandlerError: it is none.
    """
    if not callable(function):
        raise HandlerError(
            f"'{path}' is of type {type(function).__name__}, not a function that gives a context manager"
        )
    called = innermost(function)
    if inspect.iscoroutinefunction(called):
        raise HandlerError(f"'{path}' is a coroutine function; a lifespan yields: write `yield` where the worker runs")
    try:
        inspect.signature(function).bind()
    except TypeError:
        shown = inspect.signature(function)
        raise HandlerError(f"'{path}{shown}' must take no argument") from None
    except ValueError:  # written in C, without a signature to look at
        pass
    names = _names_of(called)
    if inspect.isgeneratorfunction(function):
        function = contextlib.contextmanager(function)
    elif inspect.isasyncgenfunction(function):
        function = contextlib.asynccontextmanager(function)
    return Lifespan(path, function, names)


def missing_resources(handlers: Iterable[Handler], lifespan: Lifespan | None) -> Iterator[tuple[Handler, str]]:
    """What handlers take that the lifespan does not yield, as far as that is known: each with what to say of it."""
    for handler in handlers:
        for name in handler.resources:
            if lifespan is None:
                yield handler, f"takes {name!r}{_place(handler)}, and there is no `lifespan` that yields it"
            elif lifespan.names is not None and name not in lifespan.names:
                known = ", ".join(sorted(lifespan.names)[:MOST_LISTED]) or "nothing"
                meant = did_you_mean(name, lifespan.names)
                yield (
                    handler,
                    f"takes {name!r}{_place(handler)}, which lifespan '{lifespan.path}' does not yield; it yields {known}{meant}",
                )


def resource(value: Any, name: str, default: Any) -> Any:
    """A resource by its name: a key of a mapping, or an attribute of an object.

    Args:
        value: what the lifespan has yielded.
        default: what to return if it is not there.
    """
    if isinstance(value, Mapping):
        return value.get(name, default)
    return default if value is None else getattr(value, name, default)


def _place(handler: Handler) -> str:
    code = getattr(innermost(handler.function), "__code__", None)
    return "" if code is None else f" (line {code.co_firstlineno} of {Path(code.co_filename).name})"


def _names_of(function: Any) -> frozenset[str] | None:
    """What a generator function yields, by its annotation or by the mapping that it writes out; None if neither says so."""
    try:
        returned = typing.get_type_hints(function).get("return")
    except Exception:  # names that are imported for a type checker alone, and whatever else an annotation may be
        returned = None
    if typing.get_origin(returned) in _YIELDING:
        yielded = typing.get_args(returned)[0]
        if isinstance(yielded, type) and not issubclass(yielded, Mapping) and yielded.__module__ != "builtins":
            return frozenset(_members(yielded))
        if typing.is_typeddict(yielded):
            return frozenset(yielded.__annotations__)
    return _written_out(function)


def _members(kind: type) -> Iterator[str]:
    for base in kind.__mro__:
        for name in (*inspect.get_annotations(base), *vars(base)):
            if not name.startswith("_"):
                yield name


def _written_out(function: Any) -> frozenset[str] | None:
    """The keys of `yield {"db": ...}` or `yield dict(db=...)`, where each yield is one of these."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError, RecursionError):
        return None
    found: set[str] = set()
    yields = [node for node in ast.walk(tree) if isinstance(node, ast.Yield)]
    for each in yields:
        value = each.value
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            continue
        if isinstance(value, ast.Dict) and all(isinstance(key, ast.Constant) for key in value.keys):
            found |= {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}
        elif (
            isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id == "dict"
            and not value.args
            and all(keyword.arg for keyword in value.keywords)
        ):
            found |= {keyword.arg for keyword in value.keywords if keyword.arg}
        else:
            return None
    return frozenset(found) if yields else None
