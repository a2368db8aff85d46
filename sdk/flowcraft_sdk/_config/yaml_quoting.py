"""Texts that YAML takes for something else as they stand without quotes, and how to write them."""

import re

_AROUND = 200
"""Characters before and behind a place that are looked at."""
_FIELD, _BETWEEN = r"\{\{[^\n{}]{0,100}\}\}", r"[^\n,\]{}#]{0,100}"
_TEMPLATE = re.compile(f"{_FIELD}(?:{_BETWEEN}{_FIELD}){{0,10}}{_BETWEEN}")
_VARIABLE = re.compile(r"[\w./:@-]{0,60}\$\{[^\n{}]{0,100}\}[\w./:@-]{0,60}")
_EDGE = re.compile(r"[\w./-]{1,60}(?:[ ]?-(?:\[[^\]\n]{0,60}\]-)?>[ ]?[\w./-]{1,60}){1,10}")
_FIRST_WORD = re.compile(r"[ ]*[\w-]+")
_REST = re.compile(r"[^\n#]{1,100}")


def template_at(text: str, start: int) -> str | None:
    """The text that begins with the `{{` at a place, None if none does."""
    found = _TEMPLATE.match(text, start)
    return found[0].rstrip() if found else None


def is_a_key_of_its_own(text: str, at: int) -> bool:
    """Whether the `:` at a place follows the first word of its line, so that the line before it has none."""
    return _FIRST_WORD.fullmatch(text[max(text.rfind("\n", 0, at) + 1, at - _AROUND) : at]) is not None


def in_quotes(text: str) -> str:
    """A text as YAML has it in quotes."""
    if '"' not in text and "\\" not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def quoting_hint(text: str, at: int) -> str | None:
    """What to put in quotes where a parser cannot go on.

    Args:
        text: the file.
        at: where the parser stands.
    """
    begin = max(text.rfind("\n", 0, at) + 1, at - _AROUND)
    for pattern, where in (
        (_VARIABLE, "inside of { } and [ ] a variable"),
        (_EDGE, "inside of [ ] an edge with an action"),
    ):
        for found in pattern.finditer(text, begin, at + _AROUND):
            if found.start() <= at < found.end():
                return f"{where} needs quotes: {in_quotes(found[0])}"
    if text[at : at + 1] == "*" or text[at - 1 : at] == "*":
        return 'write "*" in quotes'
    before = text[begin:at]
    tag = re.search(r"!\S{0,60}$", before)
    if tag and not before[: tag.start()].strip().endswith("!"):
        return f"a text that begins with ! needs quotes: {in_quotes(_value_from(text, begin + tag.start()))}"
    value = re.search(r"(?:: |- )([\[{])", before)
    if value and before.rstrip()[-1:] in ("]", "}"):
        return (
            f"a text that begins with {value[1]} needs quotes: {in_quotes(_value_from(text, begin + value.start(1)))}"
        )
    if text[at : at + 1] == ":":
        return "a text with ': ' in it needs quotes"
    return None


def _value_from(text: str, start: int) -> str:
    found = _REST.match(text, start)
    return (
        found[0].rstrip().rstrip("}").rstrip() if found and text[start] == "!" else found[0].rstrip() if found else ""
    )
