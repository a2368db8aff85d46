"""The four clients, and their handles: the same methods, parameters, defaults and words.

What they do, `tests/engine/test_four_clients.py` compares.
"""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import AsyncClient, AsyncHandle, AsyncHttpClient, Client, Handle, HttpClient
from flowcraft_sdk._client.admin import Admin
from flowcraft_sdk._client.async_admin import AsyncAdmin
from flowcraft_sdk._client.async_schedules import AsyncSchedules
from flowcraft_sdk._client.schedules import Schedules
from flowcraft_sdk._operations.over_http import HttpOperations
from flowcraft_sdk._operations.over_redis import RedisOperations

PAIRS = [(Client, AsyncClient), (Handle, AsyncHandle), (Admin, AsyncAdmin), (Schedules, AsyncSchedules)]
OTHER_NAMES = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
ITERATORS = {
    "events",
    "stream",
    "logs",
    "list_runs",
    "as_completed",
    "cancel_runs",
    "rerun_runs",
    "delete_runs",
    "backup",
    "restore",
}
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


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=["client", "handle", "admin", "schedules"])
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


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=["client", "handle", "admin", "schedules"])
def test_whatever_does_io_is_awaited(sync: type, other: type) -> None:
    for name, function in methods(other).items():
        assert inspect.iscoroutinefunction(function) is (name not in ITERATORS | PLAIN), name
    for name, function in methods(sync).items():
        assert not inspect.iscoroutinefunction(function), name


OF_HTTP = {"__init__", "from_config", "__repr__"}
"""What a client over HTTP has of its own: how it is made. All else it shares with the client that reaches Redis."""


@pytest.mark.parametrize(
    ("redis", "http"), [(Client, HttpClient), (AsyncClient, AsyncHttpClient)], ids=["sync", "async"]
)
def test_clients_over_http_are_the_same_clients(redis: type, http: type) -> None:
    assert issubclass(http, redis)
    assert {
        name for name, member in vars(http).items() if callable(member) or isinstance(member, classmethod)
    } == OF_HTTP
    assert inspect.getdoc(HttpClient) == inspect.getdoc(AsyncHttpClient)
    assert inspect.signature(HttpClient) == inspect.signature(AsyncHttpClient)


def operations(kind: type) -> dict[str, Callable[..., Any]]:
    return {name: member for name, member in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}


def test_both_kinds_of_clients_have_the_same_operations() -> None:
    assert sorted(operations(RedisOperations)) == sorted(operations(HttpOperations))
    for name, one in operations(RedisOperations).items():
        mine, its = (inspect.signature(each) for each in (one, operations(HttpOperations)[name]))
        assert [(p.name, p.annotation) for p in mine.parameters.values()] == [
            (p.name, p.annotation) for p in its.parameters.values()
        ], name
        assert (
            str(mine.return_annotation).partition("Yield")[2].rpartition(",")[2]
            == (str(its.return_annotation).partition("Yield")[2].rpartition(",")[2])
        ), name


def _annotation(annotation: Any) -> str:
    return str(annotation).replace("async_handle", "handle").replace("Async", "")
