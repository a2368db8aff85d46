"""The public names of the SDK: what users have written against them goes on working.

`public_api.txt` lists them. A name or an argument that goes or changes breaks users and needs a major release; new ones are
added to the file with `FLOWCRAFT_WRITE_PUBLIC_API=1` and a line in the CHANGELOG.
"""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flowcraft_sdk

FILE = Path(__file__).with_name("public_api.txt")


def lines() -> Iterator[str]:
    for name in sorted(flowcraft_sdk.__all__):
        value = getattr(flowcraft_sdk, name)
        if not inspect.isclass(value):
            yield f"{name}{arguments(value)}" if callable(value) else name
            continue
        bases = ", ".join(base.__name__ for base in value.__bases__ if base.__module__.startswith("flowcraft_sdk"))
        yield f"{name}({bases})" if bases else name
        yield from (f"  {member}" for member in members(value))


def members(kind: type) -> Iterator[str]:
    fields = {
        *getattr(kind, "model_fields", ()),
        *getattr(kind, "__dataclass_fields__", ()),
        *getattr(kind, "__required_keys__", ()),
    }
    fields |= {*getattr(kind, "__optional_keys__", ()), *(name for base in kind.__mro__ for name in _annotated(base))}
    found = {name: name for name in fields if not name.startswith("_")}
    for base in kind.__mro__:
        if not base.__module__.startswith("flowcraft_sdk"):
            continue
        for name, value in vars(base).items():
            if (name.startswith("_") and name != "__init__") or name in found:
                continue
            if isinstance(value, staticmethod | classmethod):
                value = value.__func__
            if inspect.isfunction(value):
                found[name] = f"{'async ' if inspect.iscoroutinefunction(value) else ''}{name}{arguments(value)}"
            elif isinstance(value, property) or not callable(value):
                found[name] = name
    return iter(found[name] for name in sorted(found))


def _annotated(base: type) -> list[str]:
    return list(inspect.get_annotations(base)) if base.__module__.startswith("flowcraft_sdk") else []


def arguments(function: Any) -> str:
    parameters = [
        each.replace(annotation=inspect.Parameter.empty) for each in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(parameters))


def test_the_public_names_are_those_of_the_list() -> None:
    now = list(lines())
    if os.environ.get("FLOWCRAFT_WRITE_PUBLIC_API"):
        FILE.write_text("\n".join(now) + "\n", "utf-8")
    assert FILE.read_text("utf-8").splitlines() == now
