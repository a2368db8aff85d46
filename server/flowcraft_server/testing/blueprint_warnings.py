"""What `flowcraft-server check` warns of, as Python's own warnings: tests show them where they show all others."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic

_SHOWN: dict[Any, Any] = {}
"""Python's note of what it has shown, for all blueprints of a process."""


class BlueprintWarning(UserWarning):
    """A blueprint of a test has something that `flowcraft-server check` warns of: it runs, though perhaps not as it was meant."""


def warn_of(diagnostics: Iterable[Diagnostic], *, but: Path | None = None) -> None:
    """Warn of each diagnostic that is a warning, at its place in the blueprint's file.

    Args:
        diagnostics: What `check` finds.
        but: The file of the deployment, whose settings are not those of a test.
    """
    own = None if but is None else but.resolve()
    for diagnostic in diagnostics:
        position = diagnostic.position
        if diagnostic.severity != "warning" or position is None or Path(position.file).resolve() == own:
            continue
        text = str(diagnostic).removesuffix("   [warning]")
        warnings.warn_explicit(text, BlueprintWarning, position.file, position.line, registry=_SHOWN)
