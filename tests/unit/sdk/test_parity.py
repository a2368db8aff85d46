"""Client and AsyncClient, Handle and AsyncHandle: the same methods, parameters, defaults and words."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import AsyncClient, AsyncHandle, Client, Handle
from flowcraft_sdk._client.admin import Admin
from flowcraft_sdk._client.async_admin import AsyncAdmin

PAIRS = [(Client, AsyncClient), (Handle, AsyncHandle), (Admin, AsyncAdmin)]
OTHER_NAMES = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
ITERATORS = {"events", "list_runs", "as_completed"}
PLAIN = {"from_config", "get_handle", "__init__", "__repr__", "__eq__", "__hash__"}


def methods(cls: type) -> dict[str, Callable[..., Any]]:
    """What a class offers, by the sync name."""
    own = {**vars(cls.__mro__[1]), **vars(cls)} if cls.__mro__[1].__module__.startswith("flowcraft") else vars(cls)
    found: dict[str, Callable[..., Any]] = {}
    for name, member in own.items():
        function = member.__func__ if isinstance(member, classmethod) else member
        if inspect.isfunction(function) and (not name.startswith("_") or name.startswith("__")):
            found[OTHER_NAMES.get(name, name)] = function
    return found


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=["client", "handle", "admin"])
def test_both_have_the_same_methods(sync: type, other: type) -> None:
    assert sorted(methods(sync)) == sorted(methods(other))
    assert inspect.getdoc(sync) == inspect.getdoc(other)


@pytest.mark.parametrize(
    ("name", "sync", "other"),
    [(name, sync, other) for sync, other in PAIRS for name in methods(sync)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_both_have_the_same_signature_and_docstring(name: str, sync: type, other: type) -> None:
    mine, its = methods(sync)[name], methods(other)[name]
    assert inspect.getdoc(mine) == inspect.getdoc(its)
    parameters = [inspect.signature(function).parameters.values() for function in (mine, its)]
    plain = [[(p.name, p.kind, p.default, _annotation(p.annotation)) for p in each] for each in parameters]
    assert plain[0] == plain[1]
    returned = [_annotation(inspect.signature(function).return_annotation) for function in (mine, its)]
    assert returned[0] == returned[1]


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=["client", "handle", "admin"])
def test_whatever_does_io_is_awaited(sync: type, other: type) -> None:
    for name, function in methods(other).items():
        assert inspect.iscoroutinefunction(function) is (name not in ITERATORS | PLAIN), name
    for name, function in methods(sync).items():
        assert not inspect.iscoroutinefunction(function), name


def _annotation(annotation: Any) -> str:
    return str(annotation).replace("async_handle", "handle").replace("Async", "")
