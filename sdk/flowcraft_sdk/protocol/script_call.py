"""A Lua script as Redis knows it, and one call of it. The calls themselves are in `scripts`.

A script file opens with its contract (KEYS, ARGV, RETURNS) and names the library files it needs (`--@include`).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from flowcraft_sdk.protocol.keys import Keys

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as Redis knows it: its source and the SHA-1 it is called by."""

    name: str
    source: str
    sha: str


class ScriptCall(NamedTuple):
    """One call of a script, ready to be sent with EVALSHA."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Argument, ...]


@cache
def load(name: str) -> Script:
    """The script `name`, its includes in front. An include marked `?` has a function of its name that may do without the rest."""
    folder = files("flowcraft_sdk.protocol") / "lua"
    text = (folder / f"{name}.lua").read_text("utf-8")
    head = next(line for line in text.splitlines() if line.startswith("--@include "))
    includes = []
    for part in head.split()[1:]:
        include = part.removesuffix("?")
        includes.append((folder / "include" / f"{include}.lua").read_text("utf-8"))
        if part != include:
            includes.append(f"do\n  local reply = {include}()\n  if reply then return reply end\nend")
    source = "\n".join([*includes, text])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def call_of(name: str, keys: Keys, *args: Argument) -> ScriptCall:
    """A call of the script `name`."""
    return ScriptCall(load(name), (keys.clock,), args)


def flat(pairs: Iterable[tuple[Argument, Argument]]) -> list[Argument]:
    """Pairs one after the other, as arguments."""
    return [part for pair in pairs for part in pair]
