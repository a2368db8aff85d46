"""A Lua script as Redis knows it, and one call of it. The calls themselves are in `scripts`.

A script file opens with its contract (KEYS, ARGV, RETURNS) and names the library files it needs (`--@include`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
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
    made: list[Message] = []
    group: list[ScriptCall] = []  # calls of one script that can be joined, of `size` bytes
    size = 0
    for call in calls:
        if call.about is None:
            made += _joined(group)
            group, size = [], 0
            made.append(Message(call.script, (len(call.keys), *call.keys, *call.args), None))
            continue
        bytes_ = 0
        for word in call.args:
            if type(word) is bytes:
                bytes_ += len(word)
        if group and (
            call.script is not group[0].script or call.keys != group[0].keys or size + bytes_ > MOST_JOINED_BYTES
        ):  # Redis serves no other client while it runs one
            made += _joined(group)
            group, size = [], 0
        group.append(call)
        size += bytes_
    made += _joined(group)
    return made


def _joined(calls: Sequence[ScriptCall]) -> list[Message]:
    """One message of calls that can be joined, none of no calls. Their keys are written down once."""
    if not calls:
        return []
    keys = calls[0].keys
    numbers: dict[tuple[Argument, ...] | None, int] = {}
    words: list[Argument] = []
    for call in calls:
        about, args = call.about, call.args
        number = numbers.get(about)
        if number is None:
            number = numbers[about] = len(numbers) + 1
        words.append(number)
        words.append(len(args))
        words += args
    head: list[Argument] = [len(keys), *keys, len(numbers)]
    for about in numbers:
        assert about is not None
        head.append(len(about))
        head += about
    return [Message(calls[0].script, (*head, *words), len(calls))]


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
