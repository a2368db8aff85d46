"""Variables of the environment in blueprints, where nothing fills them in."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.linting.findings import Findings, node_path

_VARIABLE = re.compile(r"\$\{[A-Z][A-Z0-9_]*(:?[-?+][^{}]*)?\}")
"""A text that is nothing else; handlers may have templates of their own, whose names are seldom written in capitals."""


def check_variables(findings: Findings) -> None:
    """Check params for texts that are variables of the environment."""
    for node in findings.set_up:
        for path, text in _texts(node.params, node_path(node, "params")):
            if _VARIABLE.fullmatch(text):
                findings.warning(
                    path,
                    f"{text} is no variable here: a blueprint is the same on every machine; flowcraft.yaml fills it in, "
                    "under handlers.NAME.params",
                )


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if value.startswith("${"):
            yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
