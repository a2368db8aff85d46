"""Regular expressions that users write: searched for by RE2, in time that grows with the text and never faster.

Python's own engine goes back and tries again: `(a+)+$` takes years over some dozen characters.
"""

from typing import Any


class PatternError(ValueError):
    """A pattern cannot be used; the message says why."""


def compile_linear(pattern: str, *, ignore_case: bool = False, dot_matches_all: bool = False) -> Any:
    """A pattern with `search`, whose matches have `groups` and `groupdict` as those of `re`.

    Raises:
        PatternError: it is no pattern, or one that needs going back: look-around and references to groups.
        ImportError: google-re2 is not installed.
    """
    import re2  # type: ignore[import-untyped]

    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.dot_nl = dot_matches_all
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except (re2.error, UnicodeError) as error:
        message = error.args[0] if error.args else "it cannot be used"
        raise PatternError(message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)) from None
