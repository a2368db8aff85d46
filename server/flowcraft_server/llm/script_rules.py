"""Reads the rules of a `scripted` provider from YAML.

    replies:
      - match: classify this ticket            # a text the prompt contains, upper and lower case alike
        reply: bug
        latency: 200ms                         # optional
      - match: [summarise, '/about (?P<topic>\\w+)/']   # all of them; between slashes: a regular expression
        reply: Everything about {{ topic }}.   # groups by name or number, from the first expression that has them
    default: I do not know.                    # the reply when no rule matches; text or {reply:, latency:}

The first rule that matches wins.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import LLMSettingsError

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_LATENCY = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply text and the seconds it takes."""

    text: str
    latency: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A reply and the patterns that the prompt must contain, all of them, for it to be given."""

    patterns: tuple[re.Pattern[str], ...]
    reply: Reply

    def apply(self, prompt: str) -> Reply | None:
        """Return the filled-in reply to `prompt`, or None if the rule does not match."""
        groups: dict[str, str] = {}
        for pattern in self.patterns:
            found = pattern.search(prompt)
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

    def reply_to(self, prompt: str) -> Reply:
        """Return the reply of the first rule that matches `prompt`."""
        for rule in self.rules:
            reply = rule.apply(prompt)
            if reply is not None:
                return reply
        return self.default


def load_script(path: Path) -> Script:
    """Read the rules in the YAML file at `path`.

    Raises:
        LLMSettingsError: the file cannot be read or says something else than the form above; the message names the
            file and the rule.
    """
    try:
        document = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise LLMSettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise LLMSettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return _script(document)
    except ValueError as error:
        raise LLMSettingsError(f"{path}: {error}") from None


def _script(document: Any) -> Script:
    if not isinstance(document, dict):
        raise ValueError("expected a mapping with `replies` and `default`")
    _refuse_unknown(document, {"replies", "default"}, "")
    replies = document.get("replies") or []
    if not isinstance(replies, list):
        raise ValueError("replies: expected a list of rules")
    if "default" not in document:
        raise ValueError("default: missing; it is the reply when no rule matches")
    rules = tuple(_rule(entry, f"replies[{index}]") for index, entry in enumerate(replies))
    default = document["default"]
    entry = default if isinstance(default, dict) else {"reply": default}
    _refuse_unknown(entry, {"reply", "latency"}, "default.")
    return Script(rules, _reply(entry, "default"))


def _rule(entry: Any, where: str) -> Rule:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a mapping with `match` and `reply`")
    _refuse_unknown(entry, {"match", "reply", "latency"}, f"{where}.")
    match = entry.get("match")
    texts: list[Any] = match if isinstance(match, list) else [match]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{where}.match: expected a text, a /regular expression/ or a list of them")
    return Rule(tuple(_pattern(text, where) for text in texts), _reply(entry, where))


def _pattern(text: str, where: str) -> re.Pattern[str]:
    if len(text) > 2 and text[0] == text[-1] == "/":
        try:
            return re.compile(text[1:-1], re.IGNORECASE | re.DOTALL)
        except re.error as error:
            raise ValueError(f"{where}.match: {text}: {error}") from None
    return re.compile(re.escape(text), re.IGNORECASE)


def _reply(entry: Mapping[str, Any], where: str) -> Reply:
    text = entry.get("reply")
    if isinstance(text, bool):
        text = "true" if text else "false"  # `reply: true` means the word
    if not isinstance(text, (str, int, float)):
        raise ValueError(f"{where}.reply: expected a text")
    latency = entry.get("latency", "0ms")
    found = _LATENCY.fullmatch(latency) if isinstance(latency, str) else None
    if found is None:
        raise ValueError(f"{where}.latency: expected a time such as 200ms or 1.5s, got {latency!r}")
    return Reply(str(text), float(found[1]) * (0.001 if found[2] == "ms" else 1.0))


def _refuse_unknown(entry: Mapping[Any, Any], known: set[str], where: str) -> None:
    for key in entry:
        if key not in known:
            raise ValueError(f"{where}{key}: unknown key; known: {', '.join(sorted(known))}")
