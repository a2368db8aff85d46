"""Keeps secrets out of what is written for people to read. Every step is linear in the text, which strangers may have written."""

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

MASK = "********"

SHORTEST_SECRET = 4
"""Characters below which a text is no secret: masking every `a` or `123` would help no reader."""

SHORTEST_LINE = 12
"""Characters from which on a line of a longer secret, as of a key in PEM form, is masked by itself."""

LONGEST_AUTHORITY = 2048
"""Characters of an address within which its password is looked for."""

LONGEST_NAME = 200
"""Characters of a name that are looked at."""

DEEPEST = 64
"""Levels of a value that are looked at; what lies deeper is masked as a whole."""

_AUTHORITY_END = re.compile(r"[\s/?#\"'<>\\]")
_PARAMETER = re.compile(r"(?P<before>[?&;](?P<name>[A-Za-z0-9_.-]{1,64})=)[^&;\s\"'#<>\\]+")
_BEARER = re.compile(r"\b(?P<before>bearer[ \t]{1,8})[A-Za-z0-9._~+/-]{8,}={0,2}", re.IGNORECASE)
_SECRET_NAME = re.compile(r"(api_?key|token|password|passwd|secret|credential|private_?key)", re.IGNORECASE)
_NAMED_VALUE = re.compile(
    r"""(?P<before>\b(?P<name>[\w.-]{1,64})["']?[ \t]{0,4}[:=][ \t]{0,4})"""
    r"""(?:"[^"\n]{0,1000}"|'[^'\n]{0,1000}'|[^\s,;}\]"']{1,1000})"""
)
_COUNT_OF_TOKENS = re.compile(r"[\w.-]*tokens[\"']?[ \t]*[:=][ \t]*\d{1,12}", re.IGNORECASE)
"""What a model call has used is no secret."""

_SECRETS_OF = {"name", "role"}
"""Keys that say what a secret is for, in an entry of a list of secrets."""

_SECRET_PARAMETERS = {"key", "sig", "signature", "auth", "code", "pass", "pwd"}


class Redactor:
    """Masks known secrets, passwords and keys in addresses, and bearer tokens.

    Args:
        secrets: texts to mask wherever they stand, also as JSON, `repr` or an address writes them, and each long line of
            those that have several; very short ones are left alone.
        names: patterns of names, such as `*password*`, whose values are masked besides those of names that say it themselves.
    """

    def __init__(self, secrets: Iterable[str] = (), *, names: Iterable[str] = ()) -> None:
        patterns = [fnmatch.translate(name.lower()) for name in names]
        self._names = re.compile("|".join(patterns)) if patterns else None
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST_SECRET}
        self._known = sorted(forms, key=len, reverse=True)

    def clean(self, text: str) -> str:
        """The text with its secrets masked."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, MASK)
        if "://" in text:
            text = _mask_passwords(text)
        if "=" in text:
            text = _PARAMETER.sub(_mask_parameter, text)
        return _BEARER.sub(rf"\g<before>{MASK}", text) if "earer" in text or "EARER" in text else text

    def unfinished(self, text: str) -> int:
        """How many characters at the end of a text may be the beginning of a known secret, of which the rest is to come."""
        most = 0
        for secret in self._known:
            at = text.find(secret[0], max(0, len(text) - len(secret) + 1))
            while at >= 0:
                if secret.startswith(text[at:]):
                    most = max(most, len(text) - at)
                    break
                at = text.find(secret[0], at + 1)
        return most

    def clip(self, text: str, limit: int) -> str:
        """The text with its secrets masked, and shortened in its middle to about `limit` characters.

        A text far longer than that is cut first, with so much to spare that a secret which the first cut splits is dropped by
        the second.
        """
        spare = limit + 2 * max((len(secret) for secret in self._known[:1]), default=0) + LONGEST_AUTHORITY
        if len(text) > 4 * spare:
            text = text[: 2 * spare] + text[-2 * spare :]
        return clip(self.clean(text), limit)

    def clean_named(self, text: str) -> str:
        """A text with the values masked that follow a secret's name: `password: ...`, `token=...`, `"apiKey": "..."`."""
        return _NAMED_VALUE.sub(self._mask_named, text)

    def _mask_named(self, found: re.Match[str]) -> str:
        if not self._is_secret_name(found["name"]) or _COUNT_OF_TOKENS.fullmatch(found[0]):
            return found[0]
        return found["before"] + MASK

    def clean_bytes(self, raw: bytes) -> bytes:
        """Text in UTF-8 with its secrets masked."""
        return self.clean(raw.decode("utf-8", "surrogatepass")).encode("utf-8", "surrogatepass")

    def clean_value(self, value: Any, _secret: bool = False, _depth: int = 0) -> Any:
        """A JSON-like value with the secrets in its texts masked, and all texts that stand under a secret's name."""
        if isinstance(value, str):
            return MASK if _secret and value else self.clean(value)
        if _depth > DEEPEST:
            return MASK
        if isinstance(value, Mapping):
            return {
                self.clean(key) if isinstance(key, str) else key: self.clean_value(
                    item, (_secret and key not in _SECRETS_OF) or self._is_secret_name(str(key)), _depth + 1
                )
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.clean_value(item, _secret, _depth + 1) for item in value]
        return value

    def _is_secret_name(self, name: str) -> bool:
        if is_secret_name(name):
            return True
        return self._names is not None and self._names.match(name[:LONGEST_NAME].lower()) is not None


def clip(text: str, limit: int) -> str:
    """The text, shortened in its middle if it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - limit} characters left out ...\n{text[-half:]}"


def is_secret_name(name: str) -> bool:
    """Whether a key of this name holds a secret."""
    return _SECRET_NAME.search(name[:LONGEST_NAME]) is not None


def secrets_in(value: Any, *, secret: bool = False) -> Iterator[str]:
    """The secrets in a configuration: what stands under a secret's name, however deep, and passwords and keys in addresses.

    Args:
        value: as the file was read, with its variables filled in.
        secret: whether all texts in it are secrets.
    """
    if isinstance(value, str):
        if secret:
            yield value
        if "://" in value:
            yield from secrets_of_address(value)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, secret=(secret and key not in _SECRETS_OF) or is_secret_name(str(key)))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secrets_in(item, secret=secret)


def secrets_of_address(address: str) -> Iterator[str]:
    """Password and secret parameters of an address, as they are written and as they are meant."""
    _, _, rest = address.partition("://")
    end = _AUTHORITY_END.search(rest)
    user, at, _ = rest[: end.start() if end else len(rest)].rpartition("@")
    _, colon, password = user.partition(":")
    if at and colon and password:
        yield from {password, unquote(password)}
    try:
        parts = urlsplit(address)
        query, password = parts.query, parts.password or ""
    except ValueError:
        return
    if password:
        yield from {password, unquote(password)}
    for name, value in parse_qsl(query):
        if _is_secret_parameter(name) and value:
            yield from {value, quote(value, safe="")}


def _is_secret_parameter(name: str) -> bool:
    return name.lower() in _SECRET_PARAMETERS or is_secret_name(name)


def _forms(secret: str) -> Iterator[str]:
    """How a secret may appear."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(secret, safe="")
    lines = secret.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= SHORTEST_LINE)


def _mask_passwords(text: str) -> str:
    """`scheme://user:password@host` with its password masked: all up to the last `@` of the authority."""
    parts, done = [], 0
    at = text.find("://")
    while at >= 0:
        begin = at + 3
        window = text[begin : begin + LONGEST_AUTHORITY]
        end = _AUTHORITY_END.search(window)
        authority = window[: end.start()] if end else window
        user, found, _ = authority.rpartition("@")
        name, colon, password = user.partition(":")
        if found and colon and password:
            parts += [text[done:begin], name, ":", MASK]
            done = begin + len(user)
        at = text.find("://", begin + len(authority))
    return "".join([*parts, text[done:]]) if parts else text


def _mask_parameter(found: re.Match[str]) -> str:
    return found["before"] + MASK if _is_secret_parameter(found["name"]) else found[0]
