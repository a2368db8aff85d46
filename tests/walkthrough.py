"""Follows a page of the documentation: its files are written, its commands typed, and what they print is compared.

A block whose first line is "```LANGUAGE FILE" is that file, in an empty folder. A block of `console` holds commands
(`$ COMMAND`) and what they print; what an interactive shell prints about its jobs (`[1] 4711`) is passed over. One shell
runs all of a page, so `&`, `$!` and `export` work as they do for a reader. In what is printed, `...` stands for anything
within a line and, alone on one, for any number of lines; times, spans, hashes, ids of runs and of processes may differ, and
so may the width of columns. A command that only looks is repeated until it shows what the page has. Blocks of `sh` hold
commands without output: they install things, or need what a test has not, and are passed over unless they are asked for.
"""

import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 60.0
LOOKS = re.compile(
    r"curl -s [^ ]*$|(cat|tail|grep|python -c) |flowcraft-server (health|check)\b|flowcraft (list|show|status|doctor|dlq list|blueprint list)\b|pytest\b"
)
JOBS = re.compile(r"\[\d+\][ +]|bash: line \d+: +\d+ (Killed|Terminated) ")
"""What a shell prints about its jobs: an interactive one, and the one of a test, which does so at any time later."""
VARYING = [
    (r" \(waited \d+(?:\.\d+)?\)", ""),  # a node that was parked for a moment shows it only if it took long enough
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?", "TIME"),
    (r"\b\d+(?:\.\d+)? ?(?:ms|s)\b", "SPAN"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "HASH"),
    (r"\bprocess \d+", "process N"),
    (r"\bworker w[0-9a-f]+\b", "worker ID"),
]


@dataclass(frozen=True)
class Step:
    """A file that is written, or a command with what it prints; `expected` is None where the page shows no output."""

    line: int
    file: str = ""
    text: str = ""
    command: str = ""
    expected: str | None = None


def steps_of(page: Path, *, install: bool = False) -> list[Step]:
    """The steps of a page in order; with `install`, its blocks of `sh` too."""
    return list(_steps(page.read_text("utf-8"), page.name, install))


def _steps(text: str, name: str, install: bool) -> Iterator[Step]:
    for found in re.finditer(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start()) + 1
        language, file, body = found.groups()
        if file:
            yield Step(line, file=file, text=body)
        elif language == "sh" and install:
            yield from (Step(line, command=command) for command in body.splitlines() if command)
        elif language == "console":
            assert body.startswith("$ "), f"{name}:{line}: begins with a command"
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, printed = re.sub(r" \\\n +", " ", part).partition("\n")
                yield Step(line, command=command, expected=printed)


def normal(line: str) -> str:
    """A line with what differs from run to run replaced by words."""
    for pattern, word in VARYING:
        line = re.sub(pattern, word, line)
    return re.sub(r"\s+", " ", line).strip()


def is_expected(printed: str, expected: str, command: str = "") -> bool:
    """Whether a command printed what the page shows."""
    if re.match("flowcraft (signal|cancel) ", command):  # prints the status, which may be the next one by then
        printed, expected = (
            re.sub("running|completed|cancell(ing|ed)$", "STATUS", text) for text in (printed, expected)
        )
    lines, found = (
        [normal(line) for line in text.splitlines() if line.strip() and not JOBS.match(line)]
        for text in (expected, printed)
    )
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n" for line in lines
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in found)) is not None


def environment(first_in_path: Path) -> dict[str, str]:
    """This process's environment, without settings of the server and of Python, with one more folder in PATH."""
    kept = {
        key: value for key, value in os.environ.items() if not re.match("FLOWCRAFT|REDIS|OPENAI|PY(TEST|THON)", key)
    }
    path = f"{first_in_path}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}


class Shell:
    """A shell that stays, as a reader's does."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.log = folder.parent / f"{folder.name}.printed"
        self.process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=dict(env), stdin=subprocess.PIPE,
            stdout=self.log.open("wb"), stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def type(self, command: str, timeout: float = TIMEOUT) -> str:
        begun, mark = self.log.stat().st_size, f"done-{secrets.token_hex(8)}"
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\nprintf '\\n%s\\n' {mark}\n")
        self.process.stdin.flush()
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            printed = self.log.read_bytes()[begun:].decode()
            if printed.endswith(f"{mark}\n"):
                return printed.partition(f"\n{mark}")[0]
            time.sleep(0.02)
        raise AssertionError(f"$ {command}\ndoes not end in {timeout} s; it printed\n{printed}")

    def close(self) -> None:
        self.type("kill $(jobs -p) 2>/dev/null; wait")
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


def follow(
    page: Path, folder: Path, env: Mapping[str, str], places: Mapping[str, str], *,
    install: bool = False, timeout: float = TIMEOUT,
) -> None:  # fmt: skip
    """Follow a page in an empty folder.

    Args:
        env: The environment of the shell.
        places: Texts of the page (an address, a folder) and what takes their place here.
        install: Whether to run the blocks of `sh`, each command of which has to succeed.
        timeout: Seconds that one command may take.
    """

    def here(text: str) -> str:
        for theirs, ours in places.items():
            text = text.replace(theirs, ours)
        return text

    def there(text: str) -> str:
        for theirs, ours in places.items():
            text = text.replace(ours, theirs)
        return text

    shell = Shell(folder, env)
    try:
        for step in steps_of(page, install=install):
            where = f"{page.name}:{step.line}"
            if step.file:
                target = folder / step.file
                assert target.resolve().is_relative_to(folder), where
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(here(step.text), "utf-8")
                continue
            command, until = here(step.command), time.monotonic() + TIMEOUT
            if step.expected is None:
                printed = shell.type(f"{command} && echo ended-well", timeout)
                assert printed.rstrip().endswith("ended-well"), f"{where}\n$ {command}\n{printed}"
                continue
            while not is_expected(printed := there(shell.type(command, timeout)), step.expected, step.command):
                report = f"{where}\n$ {step.command}\nprints\n{printed}\nand not\n{step.expected}"
                assert LOOKS.match(step.command) and time.monotonic() < until, report
                time.sleep(0.2)
    finally:
        shell.close()
