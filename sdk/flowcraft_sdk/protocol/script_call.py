"""A Lua script as Redis knows it, and one call of it. The calls themselves are in `scripts`.

A script file opens with its contract (KEYS, ARGV, RETURNS) and names the library files it needs (`--@include`).
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import NamedTuple

from flowcraft_sdk.protocol.keys import Keys
from flowcraft_sdk.protocol.lua_source import source_of

Argument = str | bytes | int
MOST_JOINED_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script as Redis knows it: its source and the SHA-1 it is called by."""

    name: str
    source: str
    sha: str


class ScriptCall(NamedTuple):
    """One call of a script, ready to be sent.

    Attributes:
        about: None for a script that does one thing in a call. Else the script does several, which are independent of each
            other, and this is what many of them have in common and is sent once: see `messages`.
    """

    script: Script
    keys: tuple[str, ...]
    args: tuple[Argument, ...]
    about: tuple[Argument, ...] | None = None


class Message(NamedTuple):
    """One EVALSHA.

    Attributes:
        words: the number of keys, keys and arguments.
        joined: how many calls it stands for: that many replies are in its reply. None for a call that is on its own.
    """

    script: Script
    words: tuple[Argument, ...]
    joined: int | None


def messages(calls: Iterable[ScriptCall]) -> list[Message]:
    """What is to be sent for these calls: those that follow each other and can be joined are one message.

    Its arguments are the number of different `about`; for each of them its length and itself; and for each call the number
    of its `about`, from 1, the number of its arguments and these.
    """
    made = []
    for (script, keys, joinable), each in groupby(calls, lambda call: (call.script, call.keys, call.about is not None)):
        head = (len(keys), *keys)
        if joinable:
            made += [Message(script, (*head, *_joined(group)), len(group)) for group in _bounded(each)]
        else:
            made += [Message(script, (*head, *call.args), None) for call in each]
    return made


def _bounded(calls: Iterable[ScriptCall]) -> Iterator[list[ScriptCall]]:
    """The calls in groups of `MOST_JOINED_BYTES` at most: Redis serves no other client while it runs one."""
    group: list[ScriptCall] = []
    size = 0
    for call in calls:
        bytes_ = 0
        for word in call.args:
            if type(word) is bytes:
                bytes_ += len(word)
        if group and size + bytes_ > MOST_JOINED_BYTES:
            yield group
            group, size = [], 0
        group.append(call)
        size += bytes_
    if group:
        yield group


def _joined(calls: Sequence[ScriptCall]) -> list[Argument]:
    numbers: dict[tuple[Argument, ...] | None, int] = {}
    words: list[Argument] = []
    for call in calls:
        words += (numbers.setdefault(call.about, len(numbers) + 1), len(call.args), *call.args)
    head: list[Argument] = [len(numbers)]
    for about in numbers:
        assert about is not None
        head += (len(about), *about)
    return head + words


@cache
def load(name: str) -> Script:
    """The script `name`, complete: a function, and behind it the naming of a key that holds something of another type."""
    naming = (files("flowcraft_sdk.protocol") / "lua" / "include" / "named_error.lua").read_text("utf-8")
    source = "\n".join(["local function script()", source_of(name), "end", naming])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def call_of(name: str, keys: Keys, *args: Argument) -> ScriptCall:
    """A call of the script `name`."""
    return ScriptCall(load(name), keys.script_keys, args)


def flat(pairs: Iterable[tuple[Argument, Argument]]) -> list[Argument]:
    """Pairs one after the other, as arguments."""
    return [part for pair in pairs for part in pair]
