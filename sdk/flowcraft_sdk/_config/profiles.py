"""Profiles of `flowcraft.yaml`: sections that are laid over the rest of the file when they are asked for."""

from collections.abc import Iterable
from difflib import get_close_matches

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.source_positions import SourcePosition
from flowcraft_sdk._config.value_tree import Tree

PROFILES = "profiles"
_MOST_COMPARED, _MOST_SHOWN = 2_000, 8
EXTENSION = "x-"
"""Keys at the top that begin so are for the author of the file, such as a place for anchors."""


def profiles_of(tree: Tree, file: str) -> tuple[dict[str, Tree], list[Diagnostic]]:
    """The profiles of a file by name, and what is wrong with their form."""
    written = tree.get((PROFILES,))
    if written is None:
        return {}, []
    if not isinstance(written, dict):
        return {}, [_problem(tree, (PROFILES,), "expected a mapping of profiles by name", file)]
    found, diagnostics = {}, []
    for name, value in written.items():
        if value is not None and not isinstance(value, dict):
            diagnostics.append(_problem(tree, (PROFILES, name), "expected a mapping with keys of the file", file))
        else:
            found[name] = tree.subtree((PROFILES, name))
    return found, diagnostics


def no_profile(name: str, known: dict[str, Tree]) -> str:
    """That there is no such profile, and which there are."""
    near = get_close_matches(name, list(known)[:_MOST_COMPARED], 1, 0.6)
    names = ", ".join(list(known)[:_MOST_SHOWN]) + (", ..." if len(known) > _MOST_SHOWN else "")
    return f"no profile '{name}'" + (f"; did you mean '{near[0]}'?" if near else f"; known: {names or 'none'}")


def lay_profile_over(tree: Tree, name: str | None, file: str, sections: Iterable[str]) -> list[Diagnostic]:
    """Take the profiles out of a file, and lay one of them over the rest; what is wrong with them.

    Args:
        sections: keys that may stand without a value: those of sections.
    """
    profiles, diagnostics = profiles_of(tree, file)
    for key in [key for key in tree.data if key.startswith(EXTENSION)]:
        tree.remove((key,))
    tree.remove((PROFILES,))
    chosen = profiles.get(name) if name else None
    for part in (tree, chosen):
        for section in sections if part is not None else ():
            if part is not None and section in part.data and part.data[section] is None:
                part.remove((section,))  # its keys are all commented out
    if chosen is not None:
        tree.merge(chosen)
    elif name:
        diagnostics.append(Diagnostic("error", SourcePosition(file, 1, 1), "", no_profile(name, profiles)))
    return diagnostics


def _problem(tree: Tree, path: tuple[str, ...], message: str, file: str) -> Diagnostic:
    origin = tree.origin_of(path)
    position = origin.position if origin is not None and origin.position is not None else SourcePosition(file, 1, 1)
    return Diagnostic("error", position, ".".join(path), message)
