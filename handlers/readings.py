"""Reads a model's reply as a yes or no, or as the name of an action."""

import json
import re
from typing import Any

_VERDICTS = {"true": True, "yes": True, "false": False, "no": False, "untrue": False}
_LEAD_IN = (
    r"(?:(?:the\s+)?(?:final\s+)?(?:answer|verdict|result|response)\s*(?:is)?\s*[:=]?\s*"
    r"|(?:it|this|that)(?:\s+is|'s)?\s+)?"
)
_VERDICT = r"(?P<negation>(?:not|isn't|is\s+not)\s+)?(?P<word>true|false|yes|no|untrue)"
_ANSWER = re.compile(rf"{_LEAD_IN}{_VERDICT}(?P<rest>\s*$|\s*[.,;:!()\n\u2013\u2014-].*)", re.DOTALL)
_CONTRARY = re.compile(r"(?P<negation>\b(?:not|isn't)\s+)?\b(?P<word>true|false|untrue)\b")
_SPACES = re.compile(r"\s+")
_MARKUP = str.maketrans("\u2019", "'", '*_`"\u201c\u201d')
_AROUND = " \t\r\n\"'`\u201c\u201d\u2018\u2019"


def read_yes_no(reply: str) -> bool | None:
    """Return what `reply` answers to a yes/no question, or None if that is not clear.

    A reply is clear when it is `true`, `false`, `yes` or `no` (or a negation, such as `not true` and `untrue`), when it
    begins with one of them followed by an explanation that does not say the opposite, or when its last line is such
    an answer ("Answer: false").
    """
    text = _narrow(reply.translate(_MARKUP).strip().strip("'").lower())
    leading = _answer(text)
    if leading is not None:
        return leading
    lines = text.splitlines()
    return _answer(lines[-1].strip()) if lines and not _ANSWER.match(text) else None


def read_field(reply: str, name: str) -> Any:
    """Return what a reply has under `name` if it is a JSON object, as models answer that are held to a schema; else None."""
    try:
        value = json.loads(reply)
    except ValueError:
        return None
    return value.get(name) if isinstance(value, dict) else None


def read_action(reply: str) -> str:
    """Return the action that `reply` names: the reply without white space, quotes and a full stop around it."""
    return reply.strip(_AROUND).removesuffix(".").strip(_AROUND)


def _narrow(text: str) -> str:
    """The text with each run of white space as one character, as a pattern may try every way to divide a long run."""
    return _SPACES.sub(lambda run: "\n" if len(f"{run[0]}x".splitlines()) > 1 else " ", text)


def _answer(text: str) -> bool | None:
    found = _ANSWER.match(text)
    if found is None:
        return None
    verdict = _verdict(found)
    if any(_verdict(other) is not verdict for other in _CONTRARY.finditer(found["rest"])):
        return None
    return verdict


def _verdict(found: re.Match[str]) -> bool:
    return _VERDICTS[found["word"]] is not bool(found["negation"])
