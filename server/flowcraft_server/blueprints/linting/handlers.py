"""Handlers that do not exist, and params that do not fit them."""

import builtins
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.model import BUILTIN_USES, Node
from flowcraft_server.blueprints.quoting import quoted
from flowcraft_server.blueprints.suggestions import listed

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails


_PYTHON_ERRORS = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
)
_SIMILAR_ERROR = 0.85


def check_handlers(findings: Findings) -> None:
    """Check what nodes and batches use, and the params that they give it."""
    for node in findings.graph.nodes.values():
        if node.uses in BUILTIN_USES:
            _check_worker(findings, node)
        elif node.uses and _known(findings, node.uses, node_path(node, "uses")):
            _check_params(findings, node.uses, node.params, node_path(node, "params"))


def check_error_names(findings: Findings) -> None:
    """Check `nonRetryable` for misspelt names of Python's own error types; those of handlers are not known."""
    for node in findings.graph.nodes.values():
        for index, name in enumerate(node.config.non_retryable or ()):
            if name not in _PYTHON_ERRORS:
                similar = findings.nearest(name, _PYTHON_ERRORS, _SIMILAR_ERROR)
                if similar is not None:
                    path = node_path(node, "config", "nonRetryable", index)
                    findings.warning(path, f"Python has no error type '{name}'; did you mean '{similar}'?")


def check_retries(findings: Findings) -> None:
    """Check that a pause between attempts has further attempts; called where nodes have one unless they set more."""
    for node in findings.graph.nodes.values():
        if node.config.retry_delay is not None and node.config.max_retries in (None, 1):
            path = node_path(node, "config", "retryDelay")
            findings.warning(
                path, "has no effect: the node has one attempt; set maxRetries, which counts the first one too"
            )


def _check_worker(findings: Findings, node: Node) -> None:
    """The handler that runs the items of a batch."""
    name = {"map": "uses", "batch-scatter": "workerUsesKey"}.get(node.uses)
    worker = node.params.get(name) if name else None
    if not isinstance(worker, str) or not worker or name is None:
        return  # said by the check of the built-in kinds
    path = node_path(node, "params", name)
    if worker in BUILTIN_USES:
        findings.error(path, f"'{worker}' cannot run the items of a batch; name a handler")
    elif _known(findings, worker, path):
        params = node.params.get("params")
        _check_params(findings, worker, params if isinstance(params, Mapping) else {}, (*path[:-1], "params"))


def _known(findings: Findings, name: str, path: Path) -> bool:
    if findings.handlers is None:
        return False
    if name in findings.handlers:
        return True
    near = findings.nearest(name, chain(findings.handlers, BUILTIN_USES))
    meant = f" (did you mean '{near}'?)" if near is not None else ""
    known = f"known: {listed(findings.handlers)}" if findings.handlers else "no handlers are registered"
    findings.error(path, f"no handler '{name}'; {known}{meant}")
    findings.has_unknown_handlers = True
    return False


def _check_params(findings: Findings, name: str, params: Mapping[str, Any], path: Path) -> None:
    spec = findings.spec(name)
    model = spec.params if spec is not None else None
    if model is None:
        return
    given = {**findings.handler_params.get(name, {}), **params}
    try:
        for place, known in _unread(model.model_validate(given), given):
            meant = findings.meant(str(place[-1]), known)
            findings.error((*path, *place), f"handler '{name}' has no such param{meant}", key=True)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False):
            _explain(findings, name, model, params, path, details)
    except Exception as error:
        findings.error(path, f"handler '{name}' cannot check them: {type(error).__name__}: {error}")


def _unread(model: "BaseModel", given: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Iterable[str]]]:
    """Keys that a model passes over which does not say that it does, with those that it knows: they are misspelt, most often."""
    known = {key: name for name, field in type(model).model_fields.items() for key in _keys_of(model, name, field)}
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


def _keys_of(model: "BaseModel", name: str, field: "FieldInfo") -> Iterator[str]:
    """What a field of a model may be written as."""
    alias = field.validation_alias
    by_name = model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name")
    if alias is None or by_name:
        yield name
    for choice in getattr(alias, "choices", [alias]):
        first = choice if isinstance(choice, str) else (getattr(choice, "path", None) or [None])[0]
        if isinstance(first, str):
            yield first


def _explain(
    findings: Findings, name: str, model: "type[BaseModel]", params: Any, path: Path, details: "ErrorDetails"
) -> None:
    missing, unknown = details["type"] == "missing", details["type"] == "extra_forbidden"
    place = path + _in_data(params, details["loc"], missing)
    if missing:
        findings.error(place, f"handler '{name}' needs it", key=False)
    elif unknown:
        fields = [field.alias or key for key, field in model.model_fields.items()]
        key = str(details["loc"][-1])
        meant = findings.meant(key, fields) if len(details["loc"]) == 1 else ""
        findings.error(place, f"handler '{name}' has no such param{meant}", key=True)
    else:
        said = details["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        message = said[:1].lower() + said[1:]
        findings.error(place, f"{message} (handler '{name}'); got {quoted(details['input'])}")


def _in_data(data: Any, loc: tuple[int | str, ...], missing: bool) -> Path:
    """The part of a validation error's location that is in the data: it also names branches of unions and the like."""
    found: Path = ()
    for part in loc:
        if _holds(data, part):
            data = data[part]
            found = (*found, part)
    return (*found, loc[-1]) if missing and loc else found


def _holds(data: Any, part: int | str) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)
