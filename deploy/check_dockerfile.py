"""Checks a Dockerfile by reading it, for machines that cannot build one.

    python -m deploy.check_dockerfile [--file Dockerfile] [--root .]     what is wrong; exit code 1 if anything is
    python -m deploy.check_dockerfile --steps DIR                        its COPY and pip steps as a shell script in DIR

The rules are those whose breach spoils an image: see `RULES`.
"""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.dockerfile import Stage, Unreadable, copied_sources, destination, read_ignored, read_stages

CONSTRAINTS = "constraints.txt"
LEFT_OUT = "--exclude=__pycache__ --exclude='*.egg-info' --exclude=.env"
"""What .dockerignore keeps out of the folders that are copied."""

_PIP = re.compile(r"\bpip[0-9.]*\b[^&|;]*?\s(?:install|wheel|download)\b[^&|;]*")
_APT = re.compile(r"\bapt(?:-get)?\b[^&|;]*?\s(?:install|update|upgrade)\b")
_VERSION = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class Finding:
    """A rule that is broken, and where."""

    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.rule}: {self.message}"


Rule = Callable[[list[Stage], Path], Iterator[Finding]]


def base_tag(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """Each base image names a version, so that it is the same tomorrow."""
    names: set[str] = set()
    for stage in stages:
        image, line = stage.base, stage.start.line
        tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        if image not in names and image != "scratch" and "@sha256:" not in image:
            if not tag or tag.split("-")[0] == "latest":
                yield Finding(line, "base-tag", f"'{image}' may be another image tomorrow; name a version")
            elif not _VERSION.search(tag):
                yield Finding(line, "base-tag", f"the tag of '{image}' holds no version such as 3.11.14")
        names.add(stage.name)


def not_root(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """The image does not run as root."""
    user = stages[-1].last("USER")
    if user is None:
        yield Finding(stages[-1].start.line, "user", "the last stage has no USER: it runs as root")
    elif user.rest.partition(":")[0].strip("\"'") in ("root", "0"):
        yield Finding(user.line, "user", "the image runs as root")
    elif not user.rest.partition(":")[0].isdigit():
        yield Finding(user.line, "user", "name the user by number: an orchestrator cannot tell whether a name is root")


def apt_lists(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """What apt downloads does not stay in a layer."""
    for stage in stages:
        for run in stage.all("RUN"):
            if not _APT.search(run.rest):
                continue
            if "rm -rf /var/lib/apt/lists" not in run.rest:
                yield Finding(run.line, "apt", "remove /var/lib/apt/lists/* in the same RUN")
            if re.search(r"\bapt(?:-get)?\b[^&|;]*\binstall\b", run.rest) and "--no-install-recommends" not in run.rest:
                yield Finding(run.line, "apt", "install with --no-install-recommends")


def pip_options(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """pip keeps no cache in a layer, installs what is pinned, and no link to a folder that is gone later."""
    for stage in stages:
        variables = stage.variables()
        for run in stage.all("RUN"):
            for call in (found[0] for found in _PIP.finditer(run.rest)):
                if "--no-cache-dir" not in call and variables.get("PIP_NO_CACHE_DIR", "") in ("", "0", "off"):
                    yield Finding(run.line, "pip-cache", "pip without --no-cache-dir keeps its downloads in the image")
                pinned = re.search(rf"(?:\s-c\s*|--constraint[ =])\S*{re.escape(CONSTRAINTS)}\b", call)
                if not pinned and CONSTRAINTS not in variables.get("PIP_CONSTRAINT", ""):
                    yield Finding(run.line, "constraints", f"pip installs without -c {CONSTRAINTS}")
                if re.search(r"\s(?:-e|--editable)\b", call):
                    yield Finding(run.line, "editable", "an editable install points to a folder of the build")


def exec_form(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """Signals reach the program and not a shell around it."""
    last = stages[-1]
    if last.last("ENTRYPOINT") is None:
        yield Finding(last.start.line, "entrypoint", "the last stage has no ENTRYPOINT")
    for name in ("ENTRYPOINT", "CMD"):
        for found in last.all(name):
            if found.listed() is None:
                yield Finding(
                    found.line, "exec-form", f'{name} in the shell form; write {name} ["program", "argument"]'
                )


def health(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """A container runtime can ask the image whether it works."""
    check = stages[-1].last("HEALTHCHECK")
    if check is None or check.rest.upper() == "NONE":
        yield Finding((check or stages[-1].start).line, "healthcheck", "the image has no HEALTHCHECK")
    elif not check.rest.startswith("CMD") or check.listed(check.rest.removeprefix("CMD").strip()) is None:
        yield Finding(check.line, "exec-form", 'write HEALTHCHECK CMD ["program", "argument"]')


def sources(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """What is copied is there, and reaches the build."""
    ignored = read_ignored(root)
    names: set[str] = set()
    for index, stage in enumerate(stages):
        for copy in stage.all("COPY"):
            origin = copy.flag("from")
            if origin is not None:
                known = origin in names or (origin.isdigit() and int(origin) < index)
                if not known and ":" not in origin and "/" not in origin:
                    yield Finding(copy.line, "copy", f"there is no stage '{origin}' above")
                continue
            for source in copied_sources(copy):
                found = [root] if source == "." else sorted(root.glob(source))
                if not found:
                    yield Finding(copy.line, "copy", f"there is no '{source}'")
                elif source != "." and all(ignored(path.relative_to(root).as_posix()) for path in found):
                    yield Finding(copy.line, "copy", f".dockerignore keeps '{source}' from the build")
        for add in stage.all("ADD"):
            yield Finding(add.line, "copy", "ADD unpacks and downloads; write COPY")
        names.add(stage.name)


def places(stages: list[Stage], root: Path) -> Iterator[Finding]:
    """WORKDIR means one folder, wherever it stands; the image stops by a signal that the server heeds."""
    for stage in stages:
        for found in stage.all("WORKDIR"):
            if not found.rest.startswith("/"):
                yield Finding(found.line, "workdir", f"'{found.rest}' is not absolute")
    signal = stages[-1].last("STOPSIGNAL")
    if signal is not None and signal.rest not in ("SIGTERM", "15"):
        yield Finding(signal.line, "stopsignal", "the server finishes what runs on SIGTERM")


RULES: tuple[Rule, ...] = (base_tag, not_root, apt_lists, pip_options, exec_form, health, sources, places)


def check(text: str, root: Path) -> list[Finding]:
    """All that is wrong with a Dockerfile, in the order of its lines.

    Args:
        root: the folder that it builds from.

    Raises:
        Unreadable: it cannot be read.
    """
    stages = read_stages(text)
    return sorted((finding for rule in RULES for finding in rule(stages, root)), key=lambda finding: finding.line)


def steps(text: str, root: Path, target: str) -> Iterator[str]:
    """The COPY and pip steps as lines of shell, the image's folders below `target`.

    What makes users or calls apt is left out, as it would change this machine.
    """
    stages = read_stages(text)
    folders = {found.rest for stage in stages for found in stage.all("WORKDIR")}
    folders |= {destination(c) for stage in stages for c in stage.all("COPY") if c.flag("from") is not None}
    inside = re.compile("|".join(rf"(?<![\w/.]){re.escape(folder)}(?![\w.-])" for folder in sorted(folders)))
    ignored = read_ignored(root)

    def moved(command: str) -> str:
        return inside.sub(lambda found: target + found[0], command)

    yield "set -eu"
    for stage in stages:
        for found in stage.instructions:
            if found.name == "WORKDIR":
                yield f"mkdir -p {target}{found.rest} && cd {target}{found.rest}"
            elif found.name == "COPY" and found.flag("from") is None:
                for path in (path for source in copied_sources(found) for path in sorted(root.glob(source))):
                    name = path.relative_to(root).as_posix()
                    if not ignored(name):
                        yield f"tar -C {shlex.quote(str(root))} {LEFT_OUT} -cf - {shlex.quote(name)} | tar -xf -"
            elif found.name == "RUN" and not re.search(r"\b(?:useradd|groupadd|adduser|apt|apt-get)\b", found.rest):
                yield moved(found.rest)


def main() -> int:
    """Check a Dockerfile; the exit code."""
    parser = argparse.ArgumentParser(description="Check a Dockerfile by reading it.")
    parser.add_argument("--file", type=Path, default=Path("Dockerfile"))
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--steps", metavar="DIR", help="print its COPY and pip steps as a shell script in DIR")
    options = parser.parse_args()
    root, text = options.root.resolve(), options.file.read_text("utf-8")
    try:
        if options.steps:
            print("\n".join(steps(text, root, options.steps)))
            return 0
        findings = check(text, root)
    except Unreadable as error:
        print(f"{options.file}: {error}", file=sys.stderr)
        return 1
    for finding in findings:
        print(f"{options.file}: {finding}", file=sys.stderr)
    print(f"{options.file}: {len(findings) or 'no'} finding{'' if len(findings) == 1 else 's'}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
