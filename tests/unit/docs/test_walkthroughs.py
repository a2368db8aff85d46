"""Pages that can be followed step by step are followed: their files are written, their commands typed, in order.

A block whose first line is "```LANGUAGE FILE" is that file, in an empty folder. A block of `console` holds commands
(`$ COMMAND`) and what they print; what an interactive shell says of its jobs (`[1] 4711`) is passed over. One shell runs all of a page, so `&`, `$!` and `export` work as they do for a reader.
In what is printed, `...` stands for anything within a line and, alone on one, for any number of lines; times, spans,
hashes, ids of runs and of processes may differ, and so may the width of columns. A command that only looks is repeated
until it shows what the page says. Blocks of `sh` are not run: they install things, or need what a test has not.
"""

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowcraft_server.store.embedded import EmbeddedStore

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READERS_REDIS = "redis://localhost:6379/0"  # a store of the test's own takes its place
PATIENCE = 60.0
LOOKS = re.compile(
    r"(cat|tail|grep|python -c) |flowcraft-server (health|check)\b|flowcraft (list|show|status|doctor|dlq list|blueprint list)\b|pytest\b"
)
VARYING = [
    (r" \(waited \d+(?:\.\d+)?\)", ""),  # a node that was parked for a moment says so only if it took long enough
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?", "TIME"),
    (r"\b\d+(?:\.\d+)? ?(?:ms|s)\b", "SPAN"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "HASH"),
    (r"\bprocess \d+", "process N"),
    (r"\bworker w[0-9a-f]+\b", "worker ID"),
]


@dataclass(frozen=True)
class Step:
    """A file that is written, or a command with what it prints."""

    line: int
    file: str = ""
    text: str = ""
    command: str = ""


def steps_of(page: Path) -> Iterator[Step]:
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start()) + 1
        language, file, body = found.groups()
        if file:
            yield Step(line, file=file, text=body)
        elif language == "console":
            assert body.startswith("$ "), f"{page.name}:{line}: begins with a command"
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, printed = re.sub(r" \\\n +", " ", part).partition("\n")
                yield Step(line, text=printed, command=command)


WALKTHROUGHS = {page: steps for page in PAGES if (steps := list(steps_of(page)))}


def normal(line: str) -> str:
    for pattern, word in VARYING:
        line = re.sub(pattern, word, line)
    return re.sub(r"\s+", " ", line).strip()


def is_as_said(printed: str, said: str, command: str = "") -> bool:
    if re.match("flowcraft (signal|cancel) ", command):  # prints the status, which may be the next one by then
        printed, said = (re.sub("running|completed|cancell(ing|ed)$", "STATUS", text) for text in (printed, said))
    lines = [normal(line) for line in said.splitlines() if not re.match(r"\[\d+\][ +]", line)]
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n" for line in lines if line
    )
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in map(normal, printed.splitlines()) if line)) is not None


class Shell:
    """A shell that stays, as a reader's does."""

    def __init__(self, folder: Path) -> None:
        self.log = folder.parent / f"{folder.name}.printed"
        bin_ = Path(sys.executable).parent
        kept = {key: value for key, value in os.environ.items() if not re.match("FLOWCRAFT|REDIS|OPENAI|PYTEST", key)}
        kept |= {"PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}
        self.process = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, env=kept, stdin=subprocess.PIPE,
            stdout=self.log.open("wb"), stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def type(self, command: str, timeout: float = PATIENCE) -> str:
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
        raise AssertionError(f"$ {command}\ndoes not end in {timeout} s")

    def close(self) -> None:
        self.type("kill $(jobs -p) 2>/dev/null; wait")
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


def followed(page: Path, folder: Path, redis_url: str) -> None:
    shell = Shell(folder)
    try:
        for step in WALKTHROUGHS[page]:
            where = f"{page.relative_to(ROOT)}:{step.line}"
            if step.file:
                assert (folder / step.file).resolve().is_relative_to(folder), where
                (folder / step.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / step.file).write_text(step.text.replace(READERS_REDIS, redis_url), "utf-8")
                continue
            until = time.monotonic() + PATIENCE
            command = step.command.replace(READERS_REDIS, redis_url)
            while not is_as_said(
                printed := shell.type(command).replace(redis_url, READERS_REDIS), step.text, step.command
            ):
                said = f"{where}\n$ {step.command}\nprints\n{printed}\nand not\n{step.text}"
                assert LOOKS.match(step.command) and time.monotonic() < until, said
                time.sleep(0.2)
    finally:
        shell.close()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with EmbeddedStore(tmp_path / "redis") as store:
        yield store.url


@pytest.mark.parametrize("page", list(WALKTHROUGHS), ids=lambda page: page.stem)
def test_a_page_can_be_followed(page: Path, tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "project").mkdir()
    followed(page, tmp_path / "project", redis_url)


@pytest.mark.parametrize("page", list(WALKTHROUGHS), ids=lambda page: page.stem)
def test_files_of_a_page_are_used_by_its_commands(page: Path) -> None:
    steps = WALKTHROUGHS[page]
    assert any(step.command for step in steps), "files alone show nothing"
    if any(step.file == "flowcraft.yaml" for step in steps):
        assert any(re.match(r"flowcraft-server (check|dev|run)|pytest", step.command) for step in steps)


@pytest.mark.parametrize(
    ("printed", "said", "same"),
    [
        ("a  b 1.5 s\n", "a b 2.31 s\n", True),
        ("x\ny\nz\n", "x\n...\nz\n", True),
        ("x\nz\n", "x\n...\nz\n", True),
        ("by /some/where/valkey-server\n", "by ...valkey-server\n", True),
        ("run 01a229509f10a719c6e3cd4cabdf\n", "run 01a2294bd85a31c54d7e97dc0b1c\n", True),
        ("a\nb\n", "a\n", False),
        ("a 1\n", "a 2\n", False),
        ("a\n", "", False),
        ("", "[1] 4711\n", True),
    ],
)
def test_what_counts_as_the_same(printed: str, said: str, same: bool) -> None:
    assert is_as_said(printed, said) is same
