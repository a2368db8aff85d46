"""Text literals: `'...'` and `"..."` with the escapes that JSON, JavaScript and Python share."""

import re

from flowcraft_sdk.protocol.expressions.errors import ExpressionError

_PLAIN = {'"': re.compile(r'[^"\\\n\r]*'), "'": re.compile(r"[^'\\\n\r]*")}
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "/": "/", '"': '"', "'": "'"}
_DIGITS = {"x": re.compile(r"[0-9A-Fa-f]{2}"), "u": re.compile(r"[0-9A-Fa-f]{4}")}


def read_text(source: str, start: int) -> tuple[str, int]:
    """The value of the text literal that opens at `start`, and the offset after its closing quote.

    Raises:
        ExpressionError: it is not closed on its line, or an escape in it is unknown.
    """
    quote = source[start]
    parts: list[str] = []
    position = start + 1
    while True:
        plain = _PLAIN[quote].match(source, position)
        if plain:
            parts.append(plain[0])
            position = plain.end()
        if position >= len(source) or source[position] in "\r\n":
            raise ExpressionError(f"the text is not closed; a {quote} is missing", source, start)
        if source[position] == quote:
            return _joined(parts, source, start), position + 1
        escaped, position = _escape(source, position)
        parts.append(escaped)


def _escape(source: str, position: int) -> tuple[str, int]:
    letter = source[position + 1 : position + 2]
    if letter in _SHORT:
        return _SHORT[letter], position + 2
    digits = _DIGITS[letter].match(source, position + 2) if letter in _DIGITS else None
    if digits is None:
        shown = f"\\{letter}" if letter.isprintable() else "\\"
        raise ExpressionError(f"unknown escape '{shown}'; a backslash is written '\\\\'", source, position)
    return chr(int(digits[0], 16)), digits.end()


def _joined(parts: list[str], source: str, start: int) -> str:
    text = "".join(parts)
    try:
        # Two \u escapes may be the halves of one character, as in JSON; half a character alone is no text.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise ExpressionError("the text holds half of a character (a lone surrogate)", source, start) from None
