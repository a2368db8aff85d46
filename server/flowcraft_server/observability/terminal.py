"""The one function between foreign text and a terminal: what a run, a file or a model wrote must not command the terminal."""

import re

# C0 but for tab and newline, DEL and C1; marks that reorder or hide text; separators that only some programs take for newlines;
# halves of surrogate pairs.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINE_BREAKS = re.compile("[\t\n]")
_IN_JSON = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def plain_text(text: str, *, one_line: bool = False) -> str:
    """The text as a terminal may show it: whatever would command the terminal, reorder or hide text is written as an escape.

    Args:
        one_line: newlines and tabs are escaped, too.
    """
    escaped = _COMMANDS.sub(_escape, text)
    return _LINE_BREAKS.sub(_escape, escaped) if one_line else escaped


def plain_json(text: str) -> str:
    r"""JSON of the same value with such characters written as `\u` escapes. Control characters below 32 are escaped already."""
    return _IN_JSON.sub(_escape_in_json, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number in (9, 10):
        return "\\t" if number == 9 else "\\n"
    if number < 256:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _escape_in_json(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x10000:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
