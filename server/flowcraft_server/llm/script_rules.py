r"""Reads the rules of a `scripted` provider from YAML.

    replies:
      - match: classify this ticket            # a text the prompt contains, upper and lower case alike
        reply: bug
        latency: 200ms                         # optional
      - match: [summarise, '/about (?P<topic>\w+)/']    # all of them; between slashes: an expression of RE2
        reply: Everything about {{ topic }}.   # groups by name or number, from the first expression that has them
      - system: you judge                      # as `match`, in the system message; an agent's instructions are one
        reply: good
    default: I do not know.                    # the reply when no rule matches; text or {reply:, latency:}

The first rule that matches wins.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.source_positions import Path as Path_
from flowcraft_sdk._config.source_positions import SourcePosition, SourcePositions, written_path
from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file
from flowcraft_sdk._config.yaml_reader import read_yaml
from flowcraft_sdk._config.yaml_tree import PositionTable
from flowcraft_sdk.protocol.linear_patterns import PatternError, compile_linear

from .errors import LLMSettingsError

LARGEST = 4 * 1024 * 1024
"""Bytes of a file of rules."""

LONGEST_PATTERN = 10_000
LONGEST_LATENCY = 3_600.0

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply text and the seconds it takes."""

    text: str
    latency: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A reply and the patterns that the prompt must contain, all of them, for it to be given; `system`: the system message."""

    patterns: tuple[Any, ...]
    reply: Reply
    system: tuple[Any, ...] = ()

    def apply(self, prompt: str, system: str = "") -> Reply | None:
        """Return the filled-in reply to `prompt`, or None if the rule does not match."""
        groups: dict[str, str] = {}
        searches = [*((pattern, prompt) for pattern in self.patterns), *((pattern, system) for pattern in self.system)]
        for pattern, text_searched in searches:
            found = pattern.search(text_searched)
            if found is None:
                return None
            named = found.groupdict(default="")
            numbered = {str(number): text or "" for number, text in enumerate(found.groups(), start=1)}
            groups = {**numbered, **named, **groups}
        text = _PLACEHOLDER.sub(lambda hole: groups.get(hole[1], hole[0]), self.reply.text)
        return Reply(text, self.reply.latency)


@dataclass(frozen=True, slots=True)
class Script:
    """The rules in order, and the reply when none of them matches."""

    rules: tuple[Rule, ...]
    default: Reply

    def reply_to(self, prompt: str, system: str = "") -> Reply:
        """Return the reply of the first rule that matches the prompt and the system message."""
        for rule in self.rules:
            reply = rule.apply(prompt, system)
            if reply is not None:
                return reply
        return self.default


def load_script(path: Path) -> Script:
    """Read the rules in the YAML file at `path`.

    Raises:
        LLMSettingsError: the file cannot be read or says something else than the form above; the message names the
            file with line and column, and the rule.
    """
    try:
        text = read_utf8_file(path, LARGEST)
    except OSError as error:
        raise LLMSettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except NotUtf8Error as error:
        raise LLMSettingsError(str(error)) from None
    tree, diagnostics = read_yaml(text, str(path), Includes(path.parent), holds="one list of replies")
    if diagnostics:
        raise LLMSettingsError(f"{diagnostics[0].position}: {diagnostics[0].message}")
    positions = PositionTable()
    document = None if tree is None else positions.data(tree, ())
    try:
        return _script(document)
    except _Wrong as error:
        position = SourcePositions(positions.keys, positions.values).of(error.path) or SourcePosition(str(path), 1, 1)
        raise LLMSettingsError(f"{position}: {error}") from None


class _Wrong(Exception):
    """Something in the file is not as it should be. `path`: where."""

    def __init__(self, path: Path_, message: str) -> None:
        where = written_path(path)
        super().__init__(f"{where}: {message}" if where else message)
        self.path = path


def _script(document: Any) -> Script:
    if not isinstance(document, dict):
        raise _Wrong((), "expected a mapping with `replies` and `default`")
    _refuse_unknown(document, {"replies", "default"}, ())
    replies = document.get("replies") or []
    if not isinstance(replies, list):
        raise _Wrong(("replies",), "expected a list of rules")
    if "default" not in document:
        raise _Wrong(("default",), "missing; it is the reply when no rule matches")
    rules = tuple(_rule(entry, ("replies", index)) for index, entry in enumerate(replies))
    default = document["default"]
    entry = default if isinstance(default, dict) else {"reply": default}
    _refuse_unknown(entry, {"reply", "latency"}, ("default",))
    return Script(rules, _reply(entry, ("default",)))


def _rule(entry: Any, where: Path_) -> Rule:
    if not isinstance(entry, dict):
        raise _Wrong(where, "expected a mapping with `match` and `reply`")
    _refuse_unknown(entry, {"match", "reply", "latency", "system"}, where)
    patterns = () if "system" in entry and "match" not in entry else _patterns(entry, "match", where)
    system = _patterns(entry, "system", where) if "system" in entry else ()
    return Rule(patterns, _reply(entry, where), system)


def _patterns(entry: Mapping[str, Any], key: str, where: Path_) -> tuple[Any, ...]:
    given = entry.get(key)
    texts: list[Any] = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise _Wrong((*where, key), "expected a text, a /regular expression/ or a list of them")
    return tuple(_pattern(text, (*where, key)) for text in texts)


def _pattern(text: str, where: Path_) -> Any:
    if len(text) > LONGEST_PATTERN:
        raise _Wrong(where, f"{len(text):,} characters; a pattern has {LONGEST_PATTERN:,} at most")
    if len(text) > 2 and text[0] == text[-1] == "/":
        try:
            return compile_linear(text[1:-1], ignore_case=True, dot_matches_all=True)
        except PatternError as error:
            raise _Wrong(where, f"{text}: {error}") from None
    return re.compile(re.escape(text), re.IGNORECASE)


def _reply(entry: Mapping[str, Any], where: Path_) -> Reply:
    text = entry.get("reply")
    if isinstance(text, bool):
        text = "true" if text else "false"  # `reply: true` means the word
    if not isinstance(text, (str, int, float)):
        raise _Wrong((*where, "reply"), "expected a text")
    latency = entry.get("latency", "0ms")
    found = _LATENCY.fullmatch(latency) if isinstance(latency, str) and len(latency) <= 20 else None
    if found is None:
        raise _Wrong((*where, "latency"), f"expected a time such as 200ms or 1.5s, got {latency!r:.60}")
    seconds = float(found[1]) * (0.001 if found[2] == "ms" else 1.0)
    if seconds > LONGEST_LATENCY:
        raise _Wrong((*where, "latency"), f"a reply takes an hour at most, got {latency}")
    return Reply(str(text), seconds)


def _refuse_unknown(entry: Mapping[Any, Any], known: set[str], where: Path_) -> None:
    for key in entry:
        if key not in known:
            raise _Wrong((*where, str(key)), f"unknown key; known: {', '.join(sorted(known))}")
