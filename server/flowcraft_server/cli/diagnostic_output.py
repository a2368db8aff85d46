"""Prints what is wrong with the files of a deployment."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_server.blueprints.linting.catalog import called_id
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.blueprints.suggestions import listed

from .sarif import sarif
from .terminal import write, write_json

MOST_PRINTED = 1_000


def print_diagnostics(diagnostics: Sequence[Diagnostic], format: str, config: Path | None = None) -> None:
    """Print diagnostics: `text` on standard error, `json`, `sarif` and `github` (annotations) on standard output.

    Of very many the first are printed, errors before warnings, and how many more there are.

    Args:
        diagnostics: the diagnostics.
        format: one of `FORMATS`.
        config: the deployment's file, for `sarif`.
    """
    shown, left = _first(diagnostics)
    if format == "sarif":
        write_json(sarif(shown, config or Path("flowcraft.yaml")))
    else:
        _print(shown, format)
    if left:
        write(f"... and {left:,} more; these first {len(shown):,} are shown", err=True)


def _first(diagnostics: Sequence[Diagnostic]) -> tuple[Sequence[Diagnostic], int]:
    """As many as are printed, in their order, and how many are left out."""
    if len(diagnostics) <= MOST_PRINTED:
        return diagnostics, 0
    by_weight = sorted(range(len(diagnostics)), key=lambda place: diagnostics[place].severity != "error")
    chosen = sorted(by_weight[:MOST_PRINTED])
    return [diagnostics[place] for place in chosen], len(diagnostics) - MOST_PRINTED


def _print(diagnostics: Sequence[Diagnostic], format: str) -> None:
    if format == "json":
        write_json([_plain(diagnostic) for diagnostic in diagnostics])
        return
    for diagnostic in diagnostics:
        if format == "github":
            write(_annotation(diagnostic))
        else:
            write(str(diagnostic), colour="yellow" if diagnostic.severity == "warning" else "red", err=True)


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


def _plain(diagnostic: Diagnostic) -> dict[str, Any]:
    position = diagnostic.position
    return {
        "severity": diagnostic.severity,
        "file": position.file if position else None,
        "line": position.line if position else None,
        "column": position.column if position else None,
        "path": diagnostic.path,
        "message": diagnostic.message,
    }


def _annotation(diagnostic: Diagnostic) -> str:
    at = diagnostic.position
    place = f" file={at.file},line={at.line},col={at.column}" if at else ""
    text = f"{diagnostic.path}: {diagnostic.message}" if diagnostic.path else diagnostic.message
    return f"::{diagnostic.severity}{place}::{text.replace('%', '%25').replace(chr(10), '%0A')}"
