"""Reads a Dockerfile and a .dockerignore, as far as checking them needs it."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_FLAG = re.compile(r"--[a-z-]+(?:=\S+)?\s+")
_HEREDOC = re.compile(r"<<-?['\"]?[A-Za-z_]")


class Unreadable(ValueError):
    """The text is no Dockerfile, or uses what is not read here; the message names the line."""


@dataclass(frozen=True)
class Instruction:
    """One instruction: its line, its name in capitals, its `--flags` and the rest."""

    line: int
    name: str
    flags: tuple[str, ...]
    rest: str

    def flag(self, name: str) -> str | None:
        """The value of `--name=value`."""
        return next((flag.partition("=")[2] for flag in self.flags if flag.startswith(f"--{name}=")), None)

    def listed(self, text: str | None = None) -> list[str] | None:
        """The exec form, a JSON list of texts; None when it is the shell form."""
        try:
            value = json.loads(self.rest if text is None else text)
        except ValueError:
            return None
        return value if isinstance(value, list) and value and all(isinstance(item, str) for item in value) else None


@dataclass
class Stage:
    """What stands from one FROM to the next."""

    start: Instruction
    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """The instructions of that name, in order."""
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name: str) -> Instruction | None:
        """The instruction of that name that counts."""
        found = self.all(name)
        return found[-1] if found else None

    def variables(self) -> dict[str, str]:
        """What ENV sets, in the form NAME=value."""
        pairs = (
            pair for found in self.all("ENV") for pair in re.findall(r"(\w+)=(\"[^\"]*\"|'[^']*'|\S*)", found.rest)
        )
        return {name: value.strip("\"'") for name, value in pairs}


def read_stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile.

    Raises:
        Unreadable: there is none, or a line cannot be read.
    """
    stages: list[Stage] = []
    for found in read_instructions(text):
        if found.name == "FROM":
            words = found.rest.split()
            named = words[2] if len(words) == 3 and words[1].upper() == "AS" else ""
            if len(words) != 1 and not named:
                raise Unreadable(f"line {found.line}: FROM image [AS name], got {found.rest!r}")
            stages.append(Stage(found, words[0], named))
        elif stages:
            stages[-1].instructions.append(found)
        elif found.name != "ARG":
            raise Unreadable(f"line {found.line}: {found.name} stands before the first FROM")
    if not stages:
        raise Unreadable("line 1: there is no FROM")
    return stages


def read_instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, continued lines put together.

    Raises:
        Unreadable: a line cannot be read.
    """
    found: list[Instruction] = []
    pending, begun = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        begun = begun or number
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        found.append(_instruction(begun, (pending + line).strip()))
        pending, begun = "", 0
    if pending:
        raise Unreadable(f"line {begun}: the last line is continued, and nothing follows")
    return found


def _instruction(line: int, text: str) -> Instruction:
    name, _, rest = text.partition(" ")
    if not name.isalpha() or not rest.strip():
        raise Unreadable(f"line {line}: no instruction: {text[:60]!r}")
    if name.upper() in ("RUN", "COPY") and _HEREDOC.search(rest):
        raise Unreadable(f"line {line}: here-documents are not read here")
    rest, flags = rest.strip(), []
    while match := _FLAG.match(rest):
        flags.append(match[0].strip())
        rest = rest[match.end() :]
    return Instruction(line, name.upper(), tuple(flags), rest)


class Ignored:
    """A .dockerignore: which paths do not reach the build. The last pattern that fits a path or a folder above it counts."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in (line.strip() for line in lines):
            if line and not line.startswith("#"):
                kept = line.startswith("!")
                self._rules.append((not kept, _pattern(line.removeprefix("!").strip())))

    def __call__(self, path: str) -> bool:
        pure = PurePosixPath(path)
        above = [str(part) for part in (pure, *pure.parents) if str(part) != "."]
        ignored = False
        for ignores, pattern in self._rules:
            if any(pattern.fullmatch(part) for part in above):
                ignored = ignores
        return ignored


def _pattern(glob: str) -> re.Pattern[str]:
    parts: list[str] = []
    for part in re.split(r"(\*\*/?|\*|\?|\[[^\]]*\])", str(PurePosixPath(glob.lstrip("/")))):
        known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        parts.append(known.get(part) or (part if part.startswith("[") else re.escape(part)))
    return re.compile("".join(parts))


def copied_sources(copy: Instruction) -> list[str]:
    """The sources of a COPY or ADD, without its destination."""
    words = copy.listed() or copy.rest.split()
    return [str(PurePosixPath(word.lstrip("/") or ".")) for word in words[:-1]]


def destination(copy: Instruction) -> str:
    """Where a COPY puts its sources."""
    return (copy.listed() or copy.rest.split())[-1]


def read_ignored(root: Path) -> Ignored:
    """The .dockerignore of a folder; without one nothing is ignored."""
    path = root / ".dockerignore"
    return Ignored(path.read_text("utf-8").splitlines() if path.is_file() else ())
