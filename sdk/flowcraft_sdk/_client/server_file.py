"""The little of a server's file that a client needs: its name, its Redis, and where the embedded store listens.

Read with the server's own reader: YAML 1.2, the `.env` file beside it fills in what the environment does not set, a profile is
laid over the rest, `FLOWCRAFT__NAME` and the like count before both.
"""

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file
from flowcraft_sdk._transport.address import AddressError, checked_address
from flowcraft_sdk._transport.connector import NAMESPACE, address_in
from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.keys import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from flowcraft_sdk._config.interpolation import Interpolation
    from flowcraft_sdk._config.value_tree import Tree

LARGEST = 16 * 1024 * 1024
"""Bytes of `flowcraft.yaml`."""

SECTIONS = (
    "version", "name", "handlers", "handlerModules", "lifespan", "blueprints", "hooks", "schedules", "redis", "executor",
    "defaults", "limits", "retention", "history", "llm", "budgets", "mcp", "api", "logging", "tracing", "profiles",
)  # fmt: skip
"""The keys of a `flowcraft.yaml`, as the server's settings have them."""
REDIS_KEYS = ("url", "dataDir", "fsync", "durability", "requireNoEviction", "connectTimeout", "partitions")

EMBEDDED = "embedded:"
FORMAT_VERSION = 1
_EXTRA = "pip install 'flowcraft-sdk[config]'"


def read_server_file(path: str | Path, profile: str | None = None) -> tuple[str, str]:
    """Address and namespace that a `flowcraft.yaml` lays down; of an embedded store, the running one's.

    Args:
        path: of the file.
        profile: name of a profile in it; FLOWCRAFT_PROFILE if None.

    Raises:
        ConfigurationError: the file cannot be used, or the embedded store is not running.
    """
    try:
        from flowcraft_sdk._config.document import read_document
        from flowcraft_sdk._config.environment import PROFILE_VARIABLE, environment_of
        from flowcraft_sdk._config.interpolation import Interpolation
        from flowcraft_sdk._config.profiles import lay_profile_over
    except ImportError as error:
        raise ConfigurationError(f"reading {path} needs {error.name}: {_EXTRA}") from None
    file = Path(path)
    folder = file.absolute().parent
    try:
        text = read_utf8_file(file, LARGEST)
        environ = environment_of(folder, os.environ)
    except OSError as error:
        raise ConfigurationError(f"{error.filename or file}: {error.strerror}") from error
    except NotUtf8Error as error:
        raise ConfigurationError(str(error)) from None
    tree, diagnostics = read_document(text, str(file))
    diagnostics += lay_profile_over(tree, profile or environ.get(PROFILE_VARIABLE), str(file), ("redis",))
    if diagnostics:
        first = diagnostics[0]
        place = first.position or file
        raise ConfigurationError(
            f"{place}: {first.path}: {first.message}" if first.path else f"{place}: {first.message}"
        )
    _refuse_unknown_keys(file, tree)
    values = _FileValues(file, tree, environ, Interpolation(environ, folder))
    values.check_version()
    namespace = values.text(("name",), DEFAULT_NAMESPACE)
    if not NAMESPACE.fullmatch(namespace):
        raise values.wrong(("name",), f"is 1 to 64 of A-Z a-z 0-9 . _ -, got {namespace[:80]!r}")
    url = values.text(("redis", "url"), EMBEDDED)
    data = folder / values.text(("redis", "dataDir"), ".flowcraft/data")
    if url != EMBEDDED:
        try:
            return checked_address(url), namespace
        except AddressError as error:
            raise values.wrong(("redis", "url"), str(error)) from None
    found = _running_store(data.resolve()) or address_in(environ)
    if not found:
        raise ConfigurationError(f"{file}: the embedded store is not running; start it with `flowcraft-server dev`")
    return found, namespace


def _refuse_unknown_keys(file: Path, tree: "Tree") -> None:
    """Refuse keys that the server does not know: a misspelt `name` would silently be the default."""
    sections: dict[tuple[str, ...], tuple[str, ...]] = {(): SECTIONS, ("redis",): REDIS_KEYS}
    for path, known in sections.items():
        section = tree.get(path) if path else tree.data
        for key in section if isinstance(section, dict) else ():
            if key in known:
                continue
            origin = tree.origin_of((*path, key))
            place = origin.key if origin is not None and origin.key is not None else file
            similar = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean '{similar[0]}'?" if similar else f"known: {', '.join(known)}"
            raise ConfigurationError(f"{place}: {'.'.join((*path, str(key)))}: unknown key; {hint}")


class _FileValues:
    """Single values of the file and the environment."""

    def __init__(self, file: Path, tree: "Tree", environ: dict[str, str], interpolation: "Interpolation") -> None:
        self._file = file
        self._tree = tree
        self._interpolation = interpolation
        # One form of a variable that may be written `DATA_DIR` or `datadir`, as the server takes them.
        self._over = {_plain(name): value for name, value in sorted(environ.items()) if value}

    def wrong(self, path: tuple[str, ...], message: str) -> ConfigurationError:
        """The error about a value, with its place."""
        origin = self._tree.origin_of(path)
        place = origin.position if origin is not None and origin.position is not None else self._file
        return ConfigurationError(f"{place}: {'.'.join(path)}: {message}")

    def check_version(self) -> None:
        """Refuse a file of another form."""
        found = self._over.get("FLOWCRAFT__VERSION", self._tree.get(("version",)))
        if found is not None and str(found) != str(FORMAT_VERSION):
            raise self.wrong(("version",), f"is {found!r}; this release reads version {FORMAT_VERSION}")

    def text(self, path: tuple[str, ...], default: str) -> str:
        """The text at a path, its variables filled in."""
        from flowcraft_sdk._config.interpolation import InterpolationError

        over = self._over.get("FLOWCRAFT__" + "__".join(path).upper())
        if over:
            return over
        for depth in range(1, len(path)):
            section: Any = self._tree.get(path[:depth])
            if section is not None and not isinstance(section, dict):
                raise self.wrong(path[:depth], f"expected a mapping with a {path[depth]}")
        section = self._tree.get(path[:-1])
        if not isinstance(section, dict) or path[-1] not in section:
            return default
        value = section[path[-1]]
        if value is None:
            raise self.wrong(path, "has no value; write one, or take the key out")
        if not isinstance(value, str):
            raise self.wrong(path, f"expected a text, got {value!r}; put it in quotes")
        try:
            return self._interpolation.fill(value)
        except InterpolationError as error:
            raise self.wrong(path, str(error)) from None


def _plain(variable: str) -> str:
    prefix, *parts = variable.upper().split("__")
    return "__".join([prefix, *(part.replace("_", "").replace("-", "").replace(".", "") for part in parts)])


def _running_store(folder: Path) -> str | None:
    """Address of the embedded store that a running `flowcraft-server dev` keeps in a folder."""
    pointer = folder / "socket"
    socket = Path(pointer.read_text("utf-8").strip()) if pointer.exists() else folder / "store.sock"
    return f"unix://{quote(str(socket))}" if socket.exists() else None
