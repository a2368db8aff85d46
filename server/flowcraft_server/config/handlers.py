"""Handlers by dotted path: imported, checked, registered by name. What is wrong with one is reported, not raised."""

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk.node import HandlerSpec
from flowcraft_server.blueprints.model import BUILTIN_USES
from flowcraft_server.blueprints.suggestions import Lookups
from flowcraft_server.config.handler import Handler

from .handler_forms import HandlerError, check_function, resources_of
from .limits import limit_of
from .sections import HandlerEntry


@dataclass(frozen=True, slots=True)
class Refusal:
    """A handler or handler module that cannot be used.

    Attributes:
        path: where it is named: `("handlers", name)` or `("handlerModules", index)`.
        message: one line.
    """

    path: Place
    message: str


def register_handlers(
    entries: Mapping[str, HandlerEntry], modules: tuple[str, ...], folder: Path
) -> tuple[dict[str, Handler], list[Refusal]]:
    """Import all handlers of a deployment.

    Args:
        entries: handlers by name.
        modules: modules whose decorated functions are handlers.
        folder: where `flowcraft.yaml` is; its modules can be imported afterwards, after all others.

    Returns:
        The usable handlers by name, and what is wrong with the others.
    """
    make_importable(folder)
    handlers: dict[str, Handler] = {}
    refusals = []
    lookups = Lookups()
    for name, entry in entries.items():
        try:
            handlers[name] = _register(name, entry, folder, lookups)
        except HandlerError as error:
            refusals.append(Refusal(("handlers", name), str(error)))
    first: dict[str, int] = {}
    for index, module_name in enumerate(modules):
        first.setdefault(module_name, index)
    for module_name, index in first.items():
        place = ("handlerModules", index)
        try:
            module = import_module(module_name, folder, lookups)
        except HandlerError as error:
            refusals.append(Refusal(place, str(error)))
            continue
        found = list(_declared_in(module))
        if not found:
            refusals.append(Refusal(place, f"no function of '{module_name}' has @handler before it"))
        for attribute, function, spec in found:
            try:
                _add(handlers, _declared(module_name, attribute, function, spec), module_name, function)
            except HandlerError as error:
                refusals.append(Refusal(place, str(error)))
    return handlers, refusals


def undecorated(modules: tuple[str, ...]) -> dict[str, str]:
    """Functions of handler modules that are no handlers because they have no `@handler`: `module:name` by name."""
    found: dict[str, str] = {}
    for module_name in modules:
        for name, value in vars(sys.modules.get(module_name, object)).items():
            own = getattr(value, "__module__", None) == module_name and not name.startswith("_")
            if own and inspect.isfunction(value) and not hasattr(value, "__flowcraft_handler__"):
                found.setdefault(name, f"{module_name}:{name}")
    return found


def make_importable(folder: Path) -> None:
    """Put a folder at the end of the import path: a file in it never takes the place of an installed module."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.append(place)
        importlib.invalidate_caches()


def import_module(name: str, folder: Path, lookups: Lookups | None = None) -> ModuleType:
    """Import a module of a deployment and make sure that it is the one its author means.

    Raises:
        HandlerError: it cannot be imported, or a module of the same name stands before it.
    """
    own = _file_in(folder, name)
    try:
        # What a module prints would stand among the output of a command, which may be JSON.
        with contextlib.redirect_stdout(sys.stderr):
            module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if own is not None and isinstance(error, ModuleNotFoundError) and error.name and _leads_to(error.name, name):
            raise HandlerError(_shadowed(name, own, folder)) from error
        near = _near_module(error, name, folder, lookups or Lookups())
        raise HandlerError(f"cannot import '{name}' ({_described(error)}){_raised_in(error, folder)}{near}") from error
    file = getattr(module, "__file__", None)
    origin = Path(file).resolve() if file else None
    if own is not None and origin != own.resolve():
        raise HandlerError(_shadowed(name, own, folder))
    return module


def _register(name: str, entry: HandlerEntry, folder: Path, lookups: Lookups) -> Handler:
    if name in BUILTIN_USES:
        raise HandlerError(f"'{name}' is built in; choose another name")
    module_name, _, attribute = entry.path.partition(":")
    function = attribute_of(import_module(module_name, folder, lookups), module_name, attribute, lookups)
    function, is_async = check_function(function, entry.path)
    spec: HandlerSpec | None = getattr(function, "__flowcraft_handler__", None)
    timeout = entry.timeout if entry.timeout is not None else spec.timeout if spec else None
    required, optional = resources_of(function)
    limit = limit_of(name, entry)
    return Handler(name, function, is_async, spec, timeout, entry.queue, limit, entry.params, required, optional)


def attribute_of(module: ModuleType, module_name: str, attribute: str, lookups: Lookups) -> Any:
    """What a dotted path names in its module.

    Raises:
        HandlerError: it names nothing.
    """
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = vars(found).items() if hasattr(found, "__dict__") else ()
            meant = lookups.did_you_mean(part, (name for name, value in known if callable(value)))
            raise HandlerError(f"'{module_name}' has no '{attribute}'{meant}")
        found = getattr(found, part)
    return found


def _declared_in(module: ModuleType) -> Iterator[tuple[str, Any, HandlerSpec]]:
    for attribute, function in vars(module).items():
        own = vars(function) if isinstance(function, type) else {}  # a subclass declares itself, if it is one
        spec = own.get("__flowcraft_handler__") if own else getattr(function, "__flowcraft_handler__", None)
        if isinstance(spec, HandlerSpec):
            yield attribute, function, spec


def _declared(module_name: str, attribute: str, function: Any, spec: HandlerSpec) -> Handler:
    called, is_async = check_function(function, f"{module_name}:{attribute}")
    name = spec.name or attribute
    if name in BUILTIN_USES:
        raise HandlerError(f"'{module_name}:{attribute}': '{name}' is built in; choose another name")
    required, optional = resources_of(called)
    return Handler(name, called, is_async, spec, spec.timeout, resources=required, optional_resources=optional)


def _add(handlers: dict[str, Handler], found: Handler, module_name: str, declared: Any) -> None:
    known = handlers.setdefault(found.name, found)
    if known.function is not found.function and type(known.function) is not declared:  # of a class it is an instance
        first, second = _place(known.function), _place(found.function)
        raise HandlerError(f"'{module_name}': handler '{found.name}' ({second}) is there already ({first})")


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"


def _file_in(folder: Path, name: str) -> Path | None:
    """The file of the deployment's folder that a module name means, if there is one."""
    base = folder.joinpath(*name.split("."))
    for file in (base / "__init__.py", base.with_name(base.name + ".py")):
        if file.is_file():
            return file
    return None


def _leads_to(missing: str, name: str) -> bool:
    return name == missing or name.startswith(missing + ".")


def _near_module(error: BaseException, name: str, folder: Path, lookups: Lookups) -> str:
    """`; did you mean 'handlers.text'?` for a module of the folder that is not there."""
    if name.endswith(".py") and isinstance(error, ModuleNotFoundError):
        return f"; a module is named without its ending: '{name.removesuffix('.py').replace('/', '.')}'"
    if not isinstance(error, ModuleNotFoundError) or not error.name or not _leads_to(error.name, name):
        return ""
    if not lookups.may():
        return ""
    package, _, last = error.name.rpartition(".")
    place = folder.joinpath(*package.split(".")) if package else folder
    known = [file.stem for file in place.glob("*.py")] + [file.parent.name for file in place.glob("*/__init__.py")]
    before = f"{package}." if package else ""
    return lookups.did_you_mean(f"{before}{last}", [f"{before}{stem}" for stem in known if stem != "__init__"])


def _shadowed(name: str, own: Path, folder: Path) -> str:
    top = name.partition(".")[0]
    for candidate in (name, top):
        module = sys.modules.get(candidate)
        origin = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if module is not None and (origin is None or not Path(origin).resolve().is_relative_to(folder.resolve())):
            what = origin or "a module that is built into Python"
            return f"'{name}' means {_shown(own, folder)}, but {what} is found first; rename yours"
    return f"'{name}' means {_shown(own, folder)}, but Python finds another module first; rename yours"


def _described(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg}"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _raised_in(error: BaseException, folder: Path) -> str:
    """The innermost line of the deployment's own code that led to an error."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f", in {_shown(Path(error.filename), folder)}:{error.lineno}" + (
            f" `{error.text.strip()}`" if error.text else ""
        )
    place = folder.resolve()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_absolute() and file.resolve().is_relative_to(place) and "site-packages" not in file.parts:
            return f", raised in {_shown(file, folder)}:{frame.lineno} `{frame.line}`"
    return ""


def _shown(file: Path, folder: Path) -> str:
    try:
        return str(file.resolve().relative_to(folder.resolve()))
    except ValueError:
        return str(file)
