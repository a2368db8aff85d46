"""The environment that variables are filled in from: the shell's, and a `.env` file for what the shell does not set."""

import errno
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from flowcraft_sdk._config.utf8_text import read_utf8_file

PROFILE_VARIABLE = "FLOWCRAFT_PROFILE"
CONFIG_VARIABLE = "FLOWCRAFT_CONFIG"
OVERRIDE_PREFIX = "FLOWCRAFT__"
LARGEST_ENV = 1024 * 1024
"""Bytes of a `.env` file."""


class Environment(dict[str, str]):
    """Variables, and in which line of `.env` those stand that the shell does not set."""

    def __init__(self, values: Mapping[str, str], lines: Mapping[str, int] | None = None) -> None:
        super().__init__(values)
        self.lines = dict(lines or {})

    def place_of(self, name: str) -> str:
        """Where a variable comes from, for people."""
        if name in self.lines:
            return f".env:{self.lines[name]}"
        return "the environment" if name in self else "not set"


def environment_of(folder: Path, environ: Mapping[str, str]) -> Environment:
    """The shell's environment over the `.env` file of a folder, if there is one.

    Raises:
        OSError: the file is there but cannot be read, or has a line that sets no variable.
        NotUtf8Error: it is not UTF-8 text.
    """
    try:
        text = read_utf8_file(folder / ".env", LARGEST_ENV)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return Environment(environ)
    read: dict[str, str] = {}
    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            reason = f"line {binding.original.line} sets no variable: expected NAME=value, with quotes closed"
            raise OSError(errno.EINVAL, reason, str(folder / ".env"))
        if binding.key is not None and binding.value is not None:
            read[binding.key] = binding.value
            begun = binding.original.string[: len(binding.original.string) - len(binding.original.string.lstrip())]
            lines[binding.key] = binding.original.line + begun.count("\n")
    return Environment({**read, **environ}, {name: line for name, line in lines.items() if name not in environ})
