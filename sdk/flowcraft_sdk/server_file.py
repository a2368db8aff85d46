"""The little of a server's file that a client needs: its name, its Redis, and where the embedded store listens."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.keys import DEFAULT_NAMESPACE

_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^}]*))?\})")


def read_server_file(path: str | Path) -> tuple[str, str]:
    """Address and namespace that a `flowcraft.yaml` lays down; of an embedded store, the running one's.

    Raises:
        ConfigurationError: the file cannot be used, or the embedded store is not running.
    """
    section = _parsed(path)
    settings = section.get("redis") or {}
    if not isinstance(settings, Mapping):
        raise ConfigurationError(f"{path}: redis: expected a mapping with a url")
    name = str(path)
    namespace = os.environ.get("FLOWCRAFT__NAME") or interpolate(str(section.get("name") or DEFAULT_NAMESPACE), name)
    url = os.environ.get("FLOWCRAFT__REDIS__URL") or interpolate(str(settings.get("url") or "embedded:"), name)
    if url.startswith("embedded:"):
        data_dir = os.environ.get("FLOWCRAFT__REDIS__DATADIR") or str(settings.get("dataDir") or ".flowcraft/data")
        url = embedded_url(name, interpolate(data_dir, name))
    return url, namespace


def _parsed(path: str | Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(f"reading {path} needs PyYAML: pip install pyyaml") from None
    try:
        data = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if data is not None and not isinstance(data, Mapping):
        raise ConfigurationError(f"{path}: expected a mapping")
    return data or {}


def interpolate(text: str, path: str) -> str:
    """Replace `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${VAR:+text}` and `$$`.

    Raises:
        ConfigurationError: a variable is not set and has no default.
    """

    def replacement(match: re.Match[str]) -> str:
        name, operator, rest = match[1], match[2] or "", match[3] or ""
        if name is None:
            return "$"
        value = os.environ.get(name)
        present = bool(value) if operator.startswith(":") else value is not None
        if operator.endswith("+"):
            return rest if present else ""
        if present:
            return value or ""
        if operator.endswith("-"):
            return rest
        raise ConfigurationError(f"{path}: environment variable {name} is not set {rest}".rstrip())

    return _VARIABLE.sub(replacement, text)


def embedded_url(path: str, data_dir: str) -> str:
    """Address of the embedded store that a running `flowcraft-server dev` keeps beside its file.

    Raises:
        ConfigurationError: it is not running.
    """
    folder = (Path(path).resolve().parent / data_dir).resolve()
    pointer = folder / "socket"
    socket = Path(pointer.read_text("utf-8").strip()) if pointer.exists() else folder / "store.sock"
    if not socket.exists():
        raise ConfigurationError(f"{path}: the embedded store is not running; start it with `flowcraft-server dev`")
    return f"unix://{quote(str(socket))}"
