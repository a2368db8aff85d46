"""Params that do not fit the model that their handler declares, those of nodes and those of a deployment's entries."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import Path, SourcePositions, written_path
from flowcraft_server.blueprints.linting.param_misfits import Misfit, misfits_of
from flowcraft_server.blueprints.loading.keys import belongs_under_config
from flowcraft_server.blueprints.suggestions import Lookups, suggested

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from flowcraft_sdk.node import HandlerSpec


@dataclass(frozen=True, slots=True)
class ParamProblem:
    """What is wrong with some params.

    Attributes:
        loc: the path of the value within the params, as far as it is in them.
        message: one line.
        at_key: it is about the key, not about its value.
        missing: the param at the end of `loc` is not there.
    """

    loc: Path
    message: str
    at_key: bool = False
    missing: bool = False


Meant = Callable[[str, Iterable[str]], str]
"""Says of a name that is not among the known ones which of them may be meant, in words that end a message, or nothing."""


def problems_of(name: str, model: "type[BaseModel]", given: Mapping[str, Any], meant: Meant) -> list[ParamProblem]:
    """All that is wrong with the params of a handler. What a misspelt one stands for is not missing besides.

    Args:
        name: of the handler.
        model: what it declares of its params.
        given: the params.
        meant: suggests a known name.
    """
    found = list(_problems(name, model, given, meant))
    written = {(problem.loc[:-1], key) for problem in found if problem.at_key for key in suggested([problem.message])}
    return [problem for problem in found if not problem.missing or (problem.loc[:-1], problem.loc[-1]) not in written]


def _problems(name: str, model: "type[BaseModel]", given: Mapping[str, Any], meant: Meant) -> Iterator[ParamProblem]:
    try:
        for place, known in _unread(model.model_validate(given), given):
            yield _unknown(name, place, known, meant)
    except ValidationError as error:
        for misfit in misfits_of(error.errors(include_url=False), given):
            yield _explained(name, model, misfit, meant)
        known = _known_keys(model)
        for key in given if "extra" not in model.model_config else ():
            if key not in known:
                yield _unknown(name, (key,), known, meant)
    except Exception as error:
        yield ParamProblem((), f"handler '{name}' cannot check them: {type(error).__name__}: {error}")


def problem_of_entry(name: str, problem: ParamProblem, places: SourcePositions) -> Diagnostic:
    """A problem with params that a deployment's entry of a handler brings, at its place there.

    Args:
        places: of the values of `flowcraft.yaml`.
    """
    path = ("handlers", name, "params", *problem.loc)
    position = places.of_key(path) if problem.at_key else places.of(path)
    return Diagnostic("error", position, written_path(path), problem.message)


def entry_problems(
    handlers: "Mapping[str, HandlerSpec]", params: Mapping[str, Mapping[str, Any]], places: SourcePositions
) -> Iterator[Diagnostic]:
    """What is wrong with the params that a deployment gives to its handlers, whether or not a node uses them.

    What is missing may be given by each node.
    """
    meant = Lookups().did_you_mean
    for name, given in params.items():
        spec = handlers.get(name)
        for problem in (
            problems_of(name, spec.params, given, meant) if spec is not None and spec.params is not None else ()
        ):
            if problem.loc and problem.loc[0] in given:
                yield problem_of_entry(name, problem, places)


def _unread(model: "BaseModel", given: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Iterable[str]]]:
    """Keys that a model passes over which does not say that it does, with those that it knows: they are misspelt, most often."""
    known = _known_keys(type(model))
    for key, value in given.items():
        if key in known:
            yield from _unread_below(getattr(model, known[key]), value, (*path, key))
        elif "extra" not in model.model_config:
            yield (*path, key), known


def _unread_below(read: Any, value: Any, path: Path) -> Iterator[tuple[Path, Iterable[str]]]:
    if hasattr(type(read), "model_fields") and isinstance(value, Mapping):
        yield from _unread(read, value, path)
    elif isinstance(read, list | tuple) and isinstance(value, list | tuple):
        for index, (inner, item) in enumerate(zip(read, value, strict=False)):
            yield from _unread_below(inner, item, (*path, index))
    elif isinstance(read, Mapping) and isinstance(value, Mapping):
        for key in value.keys() & read.keys():
            yield from _unread_below(read[key], value[key], (*path, key))


def _known_keys(model: "type[BaseModel]") -> dict[str, str]:
    """The fields of a model by each key that they may be written as."""
    return {key: name for name, field in model.model_fields.items() for key in _keys_of(model, name, field)}


def _keys_of(model: "type[BaseModel]", name: str, field: "FieldInfo") -> Iterator[str]:
    """What a field of a model may be written as."""
    alias = field.validation_alias
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    if alias is None or by_name:
        yield name
    for choice in getattr(alias, "choices", [alias]):
        first = choice if isinstance(choice, str) else (getattr(choice, "path", None) or [None])[0]
        if isinstance(first, str):
            yield first


def _unknown(name: str, place: Path, known: Iterable[str], meant: Meant) -> ParamProblem:
    key = str(place[-1]) if place else ""
    misplaced = belongs_under_config(key) if len(place) == 1 else ""
    return ParamProblem(place, f"handler '{name}' has no such param{misplaced or meant(key, known)}", at_key=True)


def _explained(name: str, model: "type[BaseModel]", misfit: Misfit, meant: Meant) -> ParamProblem:
    if misfit.type == "missing":
        return ParamProblem(misfit.loc, f"handler '{name}' needs it", missing=True)
    if misfit.type == "extra_forbidden":
        return _unknown(name, misfit.loc, _fields_beside(model, misfit.loc), meant)
    return ParamProblem(misfit.loc, f"{misfit.message} (handler '{name}')")


def _fields_beside(model: "type[BaseModel]", loc: Path) -> list[str]:
    """The keys that may stand where an unknown one does."""
    models = [model]
    for part in loc[:-1]:
        if isinstance(part, str):  # an index leads to the entries of the field that it follows
            fields = [(each, name) for each in models if (name := _known_keys(each).get(part)) is not None]
            models = [inner for each, name in fields for inner in _models_in(each.model_fields[name].annotation)]
    return [field.alias or key for each in models for key, field in each.model_fields.items()]


def _models_in(annotation: Any) -> "Iterator[type[BaseModel]]":
    if hasattr(annotation, "model_fields"):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
