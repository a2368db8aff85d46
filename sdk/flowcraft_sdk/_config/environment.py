"""The environment that variables are filled in from: the shell's, and a `.env` file for what the shell does not set."""

import errno
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream

from flowcraft_sdk._config.regular_file import read_regular_file

PROFILE_VARIABLE = "FLOWCRAFT_PROFILE"
CONFIG_VARIABLE = "FLOWCRAFT_CONFIG"
OVERRIDE_PREFIX = "FLOWCRAFT__"
LARGEST_ENV = 1024 * 1024
"""Bytes of a `.env` file."""


def environment_of(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The shell's environment over the `.env` file of a folder, if there is one.

    Raises:
        OSError: the file is there but cannot be read, or has a line that sets no variable.
        UnicodeDecodeError: it is not UTF-8 text.
    """
    try:
        text = read_regular_file(folder / ".env", LARGEST_ENV).decode("utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return dict(environ)
    read: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            reason = f"line {binding.original.line} sets no variable: expected NAME=value, with quotes closed"
            raise OSError(errno.EINVAL, reason, str(folder / ".env"))
        if binding.key is not None and binding.value is not None:
            read[binding.key] = binding.value
    return {**read, **environ}
