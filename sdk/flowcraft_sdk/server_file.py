"""The little of a server's file that a client needs: interpolation, and where the embedded store listens."""

import os
import re
from pathlib import Path
from urllib.parse import quote

from flowcraft_sdk.errors import ConfigurationError

_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])([^}]*))?\})")


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
