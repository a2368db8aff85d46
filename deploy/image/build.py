"""Runs a Dockerfile's steps in root file systems that mmdebstrap makes.

The base images come from no registry here: each FROM begins with a minimal Debian that has Python 3.11 as `python`, as
python:3.11-slim-bookworm has. All else is done as the Dockerfile says.
"""

import io
import json
import os
import shlex
import shutil
import string
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pathspec
from dockerfile_parse import DockerfileParser

SUITE = "bookworm"
PACKAGES = ("python3.11", "python3.11-venv", "ca-certificates")
IGNORED = ("CMD", "ENTRYPOINT", "HEALTHCHECK", "STOPSIGNAL", "USER", "WORKDIR", "ENV", "LABEL", "EXPOSE")
"""Instructions that change no file; `Image` keeps what they set."""


class BuildError(Exception):
    """A step failed or is not supported; the message names its line."""


@dataclass
class Image:
    """A root file system, and what the Dockerfile sets for a container of it.

    Attributes:
        root: the folder.
        env: variables, by name.
        user: of `USER`, as `uid:gid`.
        entrypoint: and `command`, `healthcheck`: in exec form.
    """

    root: Path
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"


def bootstrap(target: Path) -> None:
    """Make the root file system of the base image in a folder that does not exist yet.

    Raises:
        BuildError: mmdebstrap fails.
    """
    include = ",".join(PACKAGES)
    _call(["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", SUITE, str(target)], "the base image")
    python = target / "usr/local/bin/python"
    python.symlink_to("/usr/bin/python3.11")


def build(dockerfile: Path, context: Path, base: Path, work: Path) -> Image:
    """Run all stages of a Dockerfile; returns the last one.

    Args:
        base: the root file system that each FROM begins with.
        work: an empty folder for the stages.

    Raises:
        BuildError: a step fails.
    """
    stages: dict[str, Image] = {}
    image: Image | None = None
    for step in _steps(dockerfile):
        if step.name == "FROM":
            name = step.rest.split()[-1] if " as " in step.rest.lower() else str(len(stages))
            image = Image(work / name, {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"})
            _call(["cp", "-a", "--reflink=auto", str(base), str(image.root)], f"stage {name}")
            stages[name] = image
            continue
        if image is None:
            raise BuildError(f"line {step.line}: {step.name} before FROM")
        print(f"== line {step.line}: {step.name} {step.rest[:90]}", flush=True)
        _run_step(step, image, stages, context)
    if image is None:
        raise BuildError(f"{dockerfile}: no FROM")
    return image


@dataclass(frozen=True)
class _Step:
    line: int
    name: str
    rest: str


def _steps(dockerfile: Path) -> Iterator[_Step]:
    # The stubs say text, the library reads bytes.
    parser = DockerfileParser(fileobj=io.BytesIO(dockerfile.read_bytes()), env_replace=False)  # type: ignore[arg-type]
    for found in parser.structure:
        if found["instruction"] != "COMMENT":
            yield _Step(found["startline"] + 1, found["instruction"], found["value"])


def _run_step(step: _Step, image: Image, stages: Mapping[str, Image], context: Path) -> None:
    match step.name:
        case "ENV":
            for pair in shlex.split(step.rest):
                name, _, value = pair.partition("=")
                image.env[name] = string.Template(value).safe_substitute(image.env)
        case "WORKDIR":
            image.workdir = str(PurePosixPath(image.workdir, step.rest))
            _inside(image, image.workdir).mkdir(parents=True, exist_ok=True)
        case "USER":
            image.user = step.rest
        case "STOPSIGNAL":
            image.stop_signal = step.rest
        case "ENTRYPOINT":
            image.entrypoint = _exec_form(step, step.rest)
        case "CMD":
            image.command = _exec_form(step, step.rest)
        case "HEALTHCHECK":
            image.healthcheck = _exec_form(step, step.rest.partition("CMD")[2])
        case "EXPOSE":
            pass  # says for readers which port is served; it changes nothing in the image
        case "COPY":
            _copy(step, image, stages, context)
        case "RUN":
            _run(step, image)
        case _:
            raise BuildError(f"line {step.line}: {step.name} is not supported here")


def _exec_form(step: _Step, text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        raise BuildError(f"line {step.line}: {step.name} in shell form; write a JSON list") from None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise BuildError(f"line {step.line}: {step.name}: expected a JSON list of texts")
    return found


def _copy(step: _Step, image: Image, stages: Mapping[str, Image], context: Path) -> None:
    words = shlex.split(step.rest)
    flags = [word for word in words if word.startswith("--")]
    *sources, target = (word for word in words if not word.startswith("--"))
    source_root, ignored = context, _docker_ignore(context)
    for flag in flags:
        if not flag.startswith("--from="):
            raise BuildError(f"line {step.line}: COPY {flag} is not supported here")
        stage = flag.partition("=")[2]
        if stage not in stages:
            raise BuildError(f"line {step.line}: no stage '{stage}' stands above")
        source_root, ignored = stages[stage].root, pathspec.GitIgnoreSpec([])
    for source in sources:
        found = source_root / source.lstrip("/")
        destination = _inside(image, str(PurePosixPath(image.workdir, target)))
        if target.endswith("/") and not found.is_dir():
            destination = destination / found.name
        files = (
            [found]
            if found.is_file()
            else sorted(path for path in found.rglob("*") if not path.is_dir() or path.is_symlink())
        )
        copied = 0
        for path in files:
            if ignored.match_file(path.relative_to(source_root).as_posix()):
                continue
            place = destination if path == found else destination / path.relative_to(found)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place, follow_symlinks=False)
            copied += 1
        if not copied:
            raise BuildError(f"line {step.line}: {source} is not there, or .dockerignore leaves it out")


def _docker_ignore(context: Path) -> pathspec.GitIgnoreSpec:
    file = context / ".dockerignore"
    lines = file.read_text().splitlines() if file.exists() else []
    # Docker matches from the root of the context; git anchors a pattern only when it has a slash.
    anchored = [f"!/{line[1:]}" if line.startswith("!") else f"/{line}" for line in lines if line and line[0] != "#"]
    return pathspec.GitIgnoreSpec.from_lines(anchored)


def _run(step: _Step, image: Image) -> None:
    """Run a RUN step as root in the root file system, with the host's network and package index settings."""
    shared = [path for path in _index_paths() if not path.is_relative_to("/usr")]
    lines = ["set -e"]
    for path in shared:
        inside = _inside(image, str(path))
        if path.is_dir():
            inside.mkdir(parents=True, exist_ok=True)
        else:
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.touch()
        lines.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(inside))}")
    lines += [f"mount -t proc proc {shlex.quote(str(image.root))}/proc", 'exec chroot "$0" "$@"']
    environ = {**_index_variables(), **image.env}
    command = ["env", "-i", "-C", image.workdir, *(f"{name}={value}" for name, value in environ.items())]
    _call(
        ["unshare", "--mount", "sh", "-c", "\n".join(lines), str(image.root), *command, "/bin/sh", "-c", step.rest],
        f"line {step.line}",
    )


def _index_variables() -> dict[str, str]:
    prefixes = ("PIP_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {name: value for name, value in os.environ.items() if name.upper().startswith(prefixes)}


def _index_paths() -> list[Path]:
    """What pip's and the resolver's settings name on this host: files, and folders of packages."""
    listed = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    words = shlex.split(listed.stdout.replace("=", " ")) + list(_index_variables().values())
    named = [word.removeprefix("file://") for text in words for word in text.split()]
    paths = [Path(word) for word in named if word.startswith("/")]
    paths += [
        Path("/etc/resolv.conf"),
        Path("/etc/hosts"),
        Path("/etc/pip.conf"),
        Path("/etc/ssl/certs/ca-certificates.crt"),
    ]
    return sorted({path for path in paths if path.exists()})


def _inside(image: Image, path: str) -> Path:
    return image.root / path.lstrip("/")


def _call(command: list[str], what: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{what} failed with exit code {done.returncode}:\n{done.stdout[-4000:]}")
