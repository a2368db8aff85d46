"""Fills variables into scalars: `${V}`, `${V:-d}`, `${V-d}`, `${V:?m}`, `${V?m}`, `${V:+x}`, `${file:/path}`, `$$`.

As in Compose, but an unset `${V}` is a mistake and not an empty text, and what is filled in is never looked at again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file

_TOKEN = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<inner>[^{}]*)\}|(?P<open>\{)|)")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?:(?P<operator>:-|-|:\?|\?|:\+|\+)(?P<word>.*))?", re.DOTALL)
_FILE_LIMIT = 1024 * 1024


class InterpolationError(Exception):
    """A variable cannot be filled in; the message is one line."""


@dataclass
class Interpolation:
    """Fills in scalars from one environment.

    Args:
        environ: the variables.
        folder: what relative paths in `${file:...}` are relative to.

    Attributes:
        secrets: texts that came out of files and must never be shown.
    """

    environ: Mapping[str, str]
    folder: Path
    secrets: set[str] = field(default_factory=set)

    def fill(self, text: str) -> str:
        """The text with its variables filled in.

        Raises:
            InterpolationError: a variable is not set, a file cannot be read, or a `$` is none of these forms.
        """
        return _TOKEN.sub(self._replace, text) if "$" in text else text

    def variables_in(self, text: str) -> list[str]:
        """Names of the variables that a text mentions, in their order."""
        inner = [found["inner"] for found in _TOKEN.finditer(text) if found["inner"] is not None]
        named = [_VARIABLE.fullmatch(each) for each in inner if not each.startswith("file:")]
        return list(dict.fromkeys(found["name"] for found in named if found is not None))

    def _replace(self, found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        inner = found["inner"]
        if inner is None:
            how = "'${' is not closed, or holds a brace" if found["open"] else "a lone '$'"
            raise InterpolationError(f"{how}; write $$ for a dollar sign, ${{NAME}} for a variable")
        if inner.startswith("file:"):
            return self._file(inner.removeprefix("file:"))
        return self._variable(inner)

    def _variable(self, inner: str) -> str:
        found = _VARIABLE.fullmatch(inner)
        if found is None:
            raise InterpolationError(f"'${{{inner}}}' is not a variable; write ${{NAME}}, or $$ for a dollar sign")
        name, operator, word = found["name"], found["operator"] or "", found["word"] or ""
        value = self.environ.get(name)
        if operator in (":+", "+"):
            return word if value or (value is not None and operator == "+") else ""
        if value or (value is not None and not operator.startswith(":")):
            return value
        if operator in (":-", "-"):
            return word
        state = "is not set" if value is None else "is empty"
        reason = f": {word}" if word else ""
        raise InterpolationError(f"environment variable {name} {state}{reason} (written as ${{{inner}}})")

    def _file(self, name: str) -> str:
        path = self.folder / name
        try:
            text = read_utf8_file(path, _FILE_LIMIT, name)
        except OSError as error:
            raise InterpolationError(f"file {name} cannot be read: {error.strerror}") from None
        except NotUtf8Error as error:
            raise InterpolationError(f"file {error}") from None
        text = text.rstrip("\r\n")  # the newline an editor or `echo` leaves is not part of a secret
        if text:
            self.secrets.add(text)
        return text
