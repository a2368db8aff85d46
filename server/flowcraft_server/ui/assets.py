"""The style sheet, the scripts and the icons: read once, served under an address that changes with their content."""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_COMMENTS = re.compile(r"^[ \t]*(?:/\*(?:(?!\*/).)*\*/[ \t]*\n|//[^\n]*\n|\n)", re.MULTILINE | re.DOTALL)
_CASTS = re.compile(r"/\*\* @type \{[^*\n]*\} \*/ ?")
_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)
_TEXTS_AND_SPACES = re.compile(r"""("[^"\n]*")|(?<=[:;,{}]) +| +(?=[{}])""")


@dataclass(frozen=True)
class Assets:
    """What pages load besides themselves.

    Attributes:
        digest: Stands for the content of all of them; part of their address, so that browsers may keep them for good.
        content: Each file's bytes and type, by its name.
    """

    digest: str
    content: dict[str, tuple[bytes, str]]


@cache
def assets() -> Assets:
    """The files of this release."""
    content = {}
    for file in sorted(files(__package__).joinpath("static").iterdir(), key=lambda file: file.name):
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            data = file.read_bytes()
            data = data if suffix == ".svg" else without_comments(data)
            content[file.name] = (without_spaces(data) if suffix == ".css" else data, _TYPES[suffix])
    digest = hashlib.sha256()
    for name, (data, _) in content.items():
        digest.update(name.encode() + b"\0" + data + b"\0")
    return Assets(digest.hexdigest()[:16], content)


def without_comments(source: bytes) -> bytes:
    """A script or a style sheet without the comments that have lines of their own or give a type, and without indentation.

    Lines keep what else they hold, so that a message of the browser names a line that can be read. A text that goes over
    several lines would lose its indentation: there is none, which a test checks.
    """
    return _INDENTATION.sub("", _CASTS.sub("", _COMMENTS.sub("", source.decode()))).encode()


def without_spaces(style: bytes) -> bytes:
    """A style sheet without the spaces that are there for readers; texts keep theirs."""
    return _TEXTS_AND_SPACES.sub(lambda found: found[1] or "", style.decode()).encode()
