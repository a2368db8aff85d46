"""Diagnostics as SARIF 2.1.0, which code hosts and editors read."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_server import __version__
from flowcraft_server.observability.terminal import plain_text

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
ROOT = "%SRCROOT%"
"""What paths are relative to: the folder that the command runs in, by the name that code hosts know."""

_RULES = {
    "flowcraft/config": "What flowcraft.yaml says",
    "flowcraft/blueprint": "What a blueprint file says",
}


def sarif(diagnostics: Sequence[Diagnostic], config: Path) -> dict[str, Any]:
    """A log with one run that holds these diagnostics.

    Args:
        diagnostics: the diagnostics.
        config: the deployment's file: what stands in it is of a rule of its own.
    """
    rules = list(_RULES)
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "flowcraft-server check",
                        "version": __version__,
                        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {ROOT: {"description": {"text": "The folder that was checked in."}}},
                "results": [_result(diagnostic, rules, config) for diagnostic in diagnostics],
            }
        ],
    }


def _result(diagnostic: Diagnostic, rules: list[str], config: Path) -> dict[str, Any]:
    position = diagnostic.position
    in_config = position is None or PurePath(position.file).name == config.name
    rule = rules[0 if in_config else 1]
    text = f"{diagnostic.path}: {diagnostic.message}" if diagnostic.path else diagnostic.message
    result: dict[str, Any] = {
        "ruleId": rule,
        "ruleIndex": rules.index(rule),
        "level": diagnostic.severity,
        "message": {"text": plain_text(text)},
    }
    if position is not None:
        region = {"startLine": position.line, "startColumn": position.column}
        result["locations"] = [{"physicalLocation": {"artifactLocation": _artifact(position.file), "region": region}}]
    return result


def _artifact(file: str) -> dict[str, str]:
    path = PurePath(file)
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": ROOT}
