"""Fills the page of all settings from the settings' own classes: keys, types, bounds, defaults and docstrings."""

import json
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from griffe import Docstring, DocstringSection, DocstringSectionAttributes
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from flowcraft_server.config.model import Settings
from flowcraft_server.config.quantities import format_duration, format_size
from flowcraft_server.config.show import plain_settings

PAGE = "reference/settings.md"
PLACE = "<!-- settings -->"
NAMES = {int: "number", float: "number", str: "text", bool: "`on` or `off`", Any: "any value"}


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the tables in their place."""
    if page.file.src_uri != PAGE:
        return markdown
    assert PLACE in markdown
    return markdown.replace(PLACE, "\n".join(_section(Settings, "", plain_settings(Settings()))))


def _section(section: type[BaseModel], path: str, defaults: Any) -> Iterator[str]:
    docstring = _docstring(section)
    # a section that extends another one describes what it adds
    described = {
        attribute.name: " ".join(attribute.description.split())
        for described_by in reversed(section.__mro__)
        if described_by.__module__.startswith("flowcraft_server.")
        for part in _docstring(described_by)
        if isinstance(part, DocstringSectionAttributes)
        for attribute in part.value
    }
    yield f"## {f'`{path}`' if path else 'The top level'}\n"
    yield " ".join(str(docstring[0].value).split()) + "\n"
    below: list[tuple[type[BaseModel], str, Any]] = []
    rows = []
    for name, field in section.model_fields.items():
        key = field.alias or name
        inner = _sections_in(field.annotation)
        default = defaults.get(key) if isinstance(defaults, dict) else None
        full = f"{path}.{key}" if path else key
        is_mapping = get_origin(_bare(field.annotation)) is dict
        below += [(found, f"{full}.NAME" if is_mapping else full, {} if is_mapping else default) for found in inner]
        if inner and not is_mapping and _bare(field.annotation) in inner:
            continue  # a section: it has a table of its own
        if name not in described:
            raise PluginError(f"{section.__name__}.{name} has no line under `Attributes:` of its class's docstring")
        kind = _kind(field.annotation, repr(field.annotation) + repr(field.metadata))
        bounds = ", ".join(filter(None, map(_bound, field.metadata)))
        if bounds and kind == "number":
            kind += f" ({bounds})"
        rows.append(f"| `{key}` | {kind} | {_default(field, default)} | {described[name]} |")
    if rows:
        yield "| key | type | default | |\n|---|---|---|---|"
        yield "\n".join(rows) + "\n"
    for inner_section, inner_path, inner_defaults in below:
        kind = inner_section.model_fields.get("type")
        suffix = f" with `type: {get_args(kind.annotation)[0]}`" if kind is not None else ""
        parts = list(_section(inner_section, inner_path, inner_defaults))
        yield parts[0].rstrip("\n") + suffix + "\n"
        yield from parts[1:]


def _docstring(section: type[BaseModel]) -> list[DocstringSection]:
    return Docstring((section.__doc__ or "").replace("\n    ", "\n")).parse("google")


def _bare(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, types.UnionType):
        options = [option for option in get_args(kind) if option is not types.NoneType]
        return _bare(options[0]) if len(options) == 1 else kind
    return kind


def _sections_in(kind: Any) -> list[type[BaseModel]]:
    kind = _bare(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    if get_origin(kind) in (Union, types.UnionType):
        return [found for option in get_args(kind) for found in _sections_in(option)]
    return _sections_in(get_args(kind)[1]) if get_origin(kind) is dict else []


def _kind(kind: Any, written: str) -> str:
    if "_duration" in written:
        name = "duration"
    elif "_size" in written:
        name = "size"
    else:
        name = _plain(kind)
    return f"{name}, or `forever`" if "_no_limit" in written else name


def _plain(kind: Any) -> str:
    kind = _bare(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list: {_plain(arguments[0])}"
    if origin is dict:
        return "section for each NAME" if _sections_in(kind) else "mapping"
    if origin in (Union, types.UnionType):
        return ", ".join(_plain(option) for option in arguments)
    return NAMES.get(kind, "text")


def _bound(metadata: Any) -> str:
    low, high = getattr(metadata, "ge", None), getattr(metadata, "le", None)
    return " ".join(
        [*([f"at least {low:,}"] if low is not None else []), *([f"at most {high:,}"] if high is not None else [])]
    )


def _default(field: Any, value: Any) -> str:
    if field.is_required():
        return "required"
    if value is None:
        value = field.default
        if hasattr(value, "get_secret_value"):
            return "empty"
        if "_duration" in repr(field.metadata) and isinstance(value, float):
            return f"`{format_duration(value)}`"
        if "_size" in repr(field.metadata) and isinstance(value, int):
            return f"`{format_size(value)}`"
    if value is None or value is PydanticUndefined or value in ({}, ()):
        return ""
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
