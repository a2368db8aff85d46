"""The environment that variables are filled in from: the shell's, and a `.env` file for what the shell does not set."""

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

PROFILE_VARIABLE = "FLOWCRAFT_PROFILE"
CONFIG_VARIABLE = "FLOWCRAFT_CONFIG"
OVERRIDE_PREFIX = "FLOWCRAFT__"


def environment_of(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The shell's environment over the `.env` file of a folder, if there is one.

    Raises:
        OSError: the file is there but cannot be read.
        UnicodeDecodeError: it is not UTF-8 text.
    """
    path = folder / ".env"
    if not path.is_file():
        return dict(environ)
    read = dotenv_values(path, interpolate=False, encoding="utf-8")
    return {**{name: value for name, value in read.items() if value is not None}, **environ}
