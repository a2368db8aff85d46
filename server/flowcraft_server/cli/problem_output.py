"""Prints what is wrong with the files of a deployment."""

from collections.abc import Iterable, Sequence
from typing import Any

from flowcraft_sdk._config.problems import Problem
from flowcraft_server.blueprints.linting.subflows import called_id
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.blueprints.suggestions import listed

from .terminal import write, write_json

FORMATS = ("text", "json", "github")


def print_problems(problems: Sequence[Problem], format: str) -> None:
    """Print problems: `text` on standard error, `json` and `github` (annotations) on standard output."""
    if format == "json":
        write_json([_plain(problem) for problem in problems])
        return
    for problem in problems:
        if format == "github":
            write(_annotation(problem))
        else:
            write(str(problem), colour="yellow" if problem.severity == "warning" else "red", err=True)


def print_suggestions(blueprints: Iterable[Blueprint]) -> None:
    """Say what is no mistake and might be better: a result that repeats what the run was started with."""
    blueprints = list(blueprints)
    called = {called_id(node) for blueprint in blueprints for node in blueprint.nodes}
    without = [
        blueprint.id
        for blueprint in blueprints
        if blueprint.inputs_contract and blueprint.outputs is None and blueprint.id not in called
    ]
    if without:
        write(
            f"without `outputs:` a run's result is its whole context, what it was started with too: {listed(without)}",
            err=True,
        )


def counted(number: int, what: str) -> str:
    """A number of things: `1 error`, `2 errors`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _plain(problem: Problem) -> dict[str, Any]:
    mark = problem.mark
    return {
        "severity": problem.severity,
        "file": mark.file if mark else None,
        "line": mark.line if mark else None,
        "column": mark.column if mark else None,
        "path": problem.path,
        "message": problem.message,
    }


def _annotation(problem: Problem) -> str:
    place = f" file={problem.mark.file},line={problem.mark.line},col={problem.mark.column}" if problem.mark else ""
    text = f"{problem.path}: {problem.message}" if problem.path else problem.message
    return f"::{problem.severity}{place}::{text.replace('%', '%25').replace(chr(10), '%0A')}"
