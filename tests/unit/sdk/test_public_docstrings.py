"""Each public name of the SDK and of the testing kit is described: arguments, results and attributes, in Google style."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flowcraft_sdk
from flowcraft_sdk._client.admin import Admin
from flowcraft_sdk._client.async_admin import AsyncAdmin
from flowcraft_sdk._client.reference import RunReference
from flowcraft_sdk.node import BaseNodeContext
from flowcraft_server import testing
from flowcraft_server.worker.settings import WorkerSettings

CLASSES_APART = [Admin, AsyncAdmin, BaseNodeContext, RunReference, WorkerSettings]
PUBLIC = {name: getattr(flowcraft_sdk, name) for name in flowcraft_sdk.__all__}
PUBLIC |= {name: getattr(testing, name) for name in testing.__all__} | {kind.__name__: kind for kind in CLASSES_APART}
INTERNAL = {"notification_token", "just_started", "model_config"}


def section(doc: str, title: str) -> set[str]:
    """The names that a section of a docstring describes."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", doc + "\n", re.MULTILINE)
    return set(re.findall(r"^    \*{0,2}(\w+):", found[1], re.MULTILINE)) if found else set()


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in PUBLIC.items():
        if not inspect.isclass(value):
            if callable(value):
                yield name, value
            continue
        for method, member in vars(value).items():
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if inspect.isfunction(function) and not method.startswith("_"):
                yield f"{name}.{method}", function


@pytest.mark.parametrize(
    ("name", "function"), list(functions()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_functions_describe_arguments_and_results(name: str, function: Callable[..., Any]) -> None:
    doc, signature = inspect.getdoc(function) or "", inspect.signature(function)
    assert re.match(r"[A-Z].*[.:]$", doc.partition("\n")[0]), "a summary in one line"
    described = section(doc, "Args")
    assert {each for each in signature.parameters if each not in ("self", "cls")} == described
    returned = signature.return_annotation
    if returned not in (None, "None", inspect.Signature.empty):
        assert "\nReturns:\n" in doc or "\nYields:\n" in doc


@pytest.mark.parametrize(
    "kind", [value for value in PUBLIC.values() if inspect.isclass(value)], ids=lambda kind: kind.__name__
)
def test_classes_describe_attributes(kind: type) -> None:
    doc = inspect.getdoc(kind) or ""
    assert re.match(r"[A-Z].*[.:]$", doc.partition("\n")[0]), "a summary in one line"
    own = {*vars(kind).get("__annotations__", ())} - INTERNAL
    if issubclass(kind, Exception) and "__init__" in vars(kind):
        own |= set(re.findall(r"self\.(\w+) = ", inspect.getsource(vars(kind)["__init__"])))
    names = section(doc, "Attributes") | section(doc, "Args")
    described = {name for name in own if not name.startswith("_")} - {"details"}
    if not hasattr(kind, "_member_map_"):
        assert described - names == set()


@pytest.mark.parametrize("kind", [flowcraft_sdk.Client, flowcraft_sdk.AsyncClient, testing.TestEnvironment])
def test_classes_that_users_make_describe_what_they_take(kind: type) -> None:
    parameters = set(inspect.signature(kind).parameters)
    assert section(inspect.getdoc(kind) or "", "Args") == parameters
