"""The little of a server's file that a client needs: its name, its Redis, and where the embedded store listens.

Read as the server reads it: the `.env` file beside it fills in what the environment does not set, a profile is laid over
the rest, `FLOWCRAFT__NAME` and the like count before both.
"""

import os
import re
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.protocol.keys import DEFAULT_NAMESPACE
from flowcraft_sdk.regular_file import read_regular_file

_TOKEN = re.compile(
    r"\$(?:\$|\{(?:file:(?P<file>[^{}]*)|(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?[-?+])(?P<word>[^{}]*))?)\}|)"
)
_EXTRA = "pip install 'flowcraft-sdk[config]'"
LARGEST = 16 * 1024 * 1024
"""Bytes of `flowcraft.yaml`, `.env` and files that they name."""


def read_server_file(path: str | Path, profile: str | None = None) -> tuple[str, str]:
    """Address and namespace that a `flowcraft.yaml` lays down; of an embedded store, the running one's.

    Args:
        path: of the file.
        profile: name of a profile in it; FLOWCRAFT_PROFILE if None.

    Raises:
        ConfigurationError: the file cannot be used, or the embedded store is not running.
    """
    file = Path(path)
    environ = _environment_of(file)
    document = _with_profile(_parsed(file), profile or environ.get("FLOWCRAFT_PROFILE"), file)
    redis = document.get("redis") or {}
    if not isinstance(redis, Mapping):
        raise ConfigurationError(f"{file}: redis: expected a mapping with a url")

    def said(variable: str, written: Any, default: str) -> str:
        return environ.get(f"FLOWCRAFT__{variable}") or interpolate(str(written or default), file, environ)

    namespace = said("NAME", document.get("name"), DEFAULT_NAMESPACE)
    url = said("REDIS__URL", redis.get("url"), "embedded:")
    if not url.startswith("embedded:"):
        return url, namespace
    folder = file.absolute().parent / said("REDIS__DATADIR", redis.get("dataDir"), ".flowcraft/data")
    found = _running_store(folder.resolve()) or environ.get("FLOWCRAFT_REDIS_URL") or environ.get("REDIS_URL")
    if not found:
        raise ConfigurationError(f"{file}: the embedded store is not running; start it with `flowcraft-server dev`")
    return found, namespace


def _environment_of(file: Path) -> dict[str, str]:
    """The environment over the `.env` file beside the server's file, if there is one; our own variables in capitals."""
    beside = file.absolute().parent / ".env"
    found: dict[str, str] = {}
    if beside.exists() and not beside.is_dir():
        try:
            from dotenv import dotenv_values
        except ImportError:
            raise ConfigurationError(f"reading {beside} needs python-dotenv: {_EXTRA}") from None
        try:
            text = read_regular_file(beside, LARGEST).decode("utf-8")
            read = dotenv_values(stream=StringIO(text), interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{beside}: {getattr(error, 'strerror', None) or error}") from None
        found = {name: value for name, value in read.items() if value is not None}
    found |= os.environ
    ours = {_plain(name): value for name, value in found.items() if name.upper().startswith("FLOWCRAFT__")}
    return {**found, **ours}


def _plain(variable: str) -> str:
    """One form of a variable that may be written `DATA_DIR` or `datadir`, as the server takes them."""
    return "__".join(part.replace("_", "") for part in variable.upper().split("__"))


def _parsed(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(f"reading {file} needs PyYAML: {_EXTRA}") from None
    try:
        data = yaml.safe_load(read_regular_file(file, LARGEST).decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from None
    if data is not None and not isinstance(data, Mapping):
        raise ConfigurationError(f"{file}: expected a mapping")
    return data or {}


def _with_profile(document: Mapping[str, Any], name: str | None, file: Path) -> Mapping[str, Any]:
    """The document with a profile laid over it."""
    if not name:
        return document
    profiles = document.get("profiles")
    known: Iterable[Any] = profiles if isinstance(profiles, Mapping) else ()
    if not isinstance(profiles, Mapping) or not isinstance(profiles.get(name) or {}, Mapping) or name not in profiles:
        raise ConfigurationError(f"{file}: no profile '{name}'; known: {', '.join(map(str, known)) or 'none'}")
    return _merged(document, profiles[name] or {})


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in over.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _merged(under, value) if both and isinstance(under, Mapping) else value
    return merged


def interpolate(text: str, file: Path, environ: Mapping[str, str]) -> str:
    """Replace `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, `${VAR:+text}`, `${file:path}` and `$$`.

    Raises:
        ConfigurationError: a variable is not set and has no default, a file cannot be read, or a `$` is none of these.
    """

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match["file"] is not None:
            return _secret(file, match["file"])
        if match["name"] is None:
            raise ConfigurationError(f"{file}: a lone '$'; write $$ for a dollar sign, ${{NAME}} for a variable")
        return _variable(file, environ, match["name"], match["operator"] or "", match["word"] or "")

    return _TOKEN.sub(replacement, text)


def _variable(file: Path, environ: Mapping[str, str], name: str, operator: str, word: str) -> str:
    value = environ.get(name)
    present = bool(value) if operator.startswith(":") else value is not None
    if operator.endswith("+"):
        return word if present else ""
    if present:
        return value or ""
    if operator.endswith("-"):
        return word
    raise ConfigurationError(f"{file}: environment variable {name} is not set {word}".rstrip())


def _secret(file: Path, name: str) -> str:
    try:
        return read_regular_file(file.absolute().parent / name, LARGEST).decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigurationError(f"{file}: file {name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file}: file {name} is not UTF-8 text") from None


def _running_store(folder: Path) -> str | None:
    """Address of the embedded store that a running `flowcraft-server dev` keeps in a folder."""
    pointer = folder / "socket"
    socket = Path(pointer.read_text("utf-8").strip()) if pointer.exists() else folder / "store.sock"
    return f"unix://{quote(str(socket))}" if socket.exists() else None
