"""What may stand where in `flowcraft.yaml`: the sections behind a path, and the keys they know."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from .model import Settings

Shape = Any
"""The type at some place of the file: a section, a mapping, a list or a plain value."""

ROOT: Shape = Settings


def section_of(shape: Shape, value: Any) -> type[BaseModel] | None:
    """The section that a shape is, given the value that stands there; None for anything else."""
    shape = _bare(shape)
    if isinstance(shape, type) and issubclass(shape, BaseModel):
        return shape
    if _origin(shape) in (Union, types.UnionType):
        sections = [section for option in get_args(shape) if (section := section_of(option, value)) is not None]
        if len(sections) <= 1:
            return sections[0] if sections else None
        kind = value.get("type") if isinstance(value, Mapping) else None
        return next((section for section in sections if kind in _types(section)), None)
    return None


def child_of(shape: Shape, key: str | int, value: Any) -> Shape:
    """The shape under a key or index, None when nothing is known there."""
    section = section_of(shape, value)
    if section is not None:
        return next((field.annotation for field in section.model_fields.values() if field.alias == key), None)
    shape = _bare(shape)
    arguments = get_args(shape)
    if _origin(shape) is dict:
        return arguments[1]
    if _origin(shape) in (list, tuple) and arguments:
        return arguments[0]
    return None


def keys_of(section: type[BaseModel]) -> list[str]:
    """The keys that a section knows, in their order."""
    return [field.alias or name for name, field in section.model_fields.items()]


def is_mapping(shape: Shape) -> bool:
    """Whether any key may stand there."""
    return _origin(_bare(shape)) is dict


def is_list(shape: Shape) -> bool:
    """Whether several values may stand there."""
    return _origin(_bare(shape)) in (list, tuple)


def short_form_of(section: type[BaseModel]) -> str | None:
    """The key that a bare value in the place of a section stands for."""
    return getattr(section, "short_form", None)


def _bare(shape: Shape) -> Shape:
    while _origin(shape) is Annotated:
        shape = get_args(shape)[0]
    if _origin(shape) in (Union, types.UnionType):
        options = [option for option in get_args(shape) if option is not types.NoneType]
        if len(options) == 1:
            return _bare(options[0])
    return shape


def _types(section: type[BaseModel]) -> tuple[Any, ...]:
    field = section.model_fields.get("type")
    return get_args(field.annotation) if field is not None and _origin(field.annotation) is Literal else ()


def _origin(shape: Shape) -> Any:
    return get_origin(shape)
