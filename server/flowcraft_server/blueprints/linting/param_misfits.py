"""What pydantic finds wrong with some params, once for each mistake: of a union's branches those that the value is meant for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.misfits import expected

from .param_wording import is_of_another_kind, param_misfit, shape_of

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_Located = tuple[tuple[int | str, ...], "ErrorDetails"]
"""What is left of an error's location below the value that is looked at, and the error."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """One mistake.

    Attributes:
        loc: the path of the value within the params, as far as it is in them, and the name of what is missing.
        type: pydantic's name of the error.
        message: one line.
        shape: what was expected, where the value is of another kind altogether; else empty.
    """

    loc: Path
    type: str
    message: str
    shape: str = ""


def misfits_of(errors: "Iterable[ErrorDetails]", given: Mapping[str, Any]) -> list[Misfit]:
    """All mistakes in some params.

    Args:
        errors: what pydantic reports.
        given: the params.
    """
    return _below([(details["loc"], details) for details in errors], given, ())


def _below(errors: Sequence[_Located], value: Any, path: Path) -> list[Misfit]:
    found: list[Misfit] = []
    parts: dict[int | str, list[_Located]] = {}
    branches: dict[int | str, list[_Located]] = {}  # a location also names branches of unions, and validators
    for rest, details in errors:
        if not rest:
            found.append(_misfit(path, details))
        elif _holds(value, rest[0]):
            parts.setdefault(rest[0], []).append((rest[1:], details))
        elif len(rest) == 1 and details["type"] == "missing":
            found.append(_misfit((*path, rest[0]), details))
        else:
            branches.setdefault(rest[0], []).append((rest[1:], details))
    if parts:  # entries with mistakes are not counted by pydantic: "too short" would be about them
        found = [misfit for misfit in found if misfit.type != "too_short"]
    for part, inner in parts.items():
        found += _below(inner, value[part], (*path, part))
    return found + _meant([_below(inner, value, path) for inner in branches.values()], value, path)


def _meant(branches: list[list[Misfit]], value: Any, path: Path) -> list[Misfit]:
    """The mistakes in the branch of a union that a value comes closest to; if it is of no branch's kind, one for all."""
    if len(branches) < 2:
        return [misfit for branch in branches for misfit in branch]
    entered = [branch for branch in branches if not (len(branch) == 1 and branch[0].shape and branch[0].loc == path)]
    if entered:
        fewest = min(len(branch) for branch in entered)
        return [misfit for branch in entered if len(branch) == fewest for misfit in branch]
    shape = " or ".join(dict.fromkeys(branch[0].shape for branch in branches))
    return [Misfit(path, branches[0][0].type, expected(shape, value), shape)]


def _misfit(path: Path, details: "ErrorDetails") -> Misfit:
    shape = (shape_of(details) or "") if is_of_another_kind(details) else ""
    return Misfit(path, details["type"], param_misfit(details), shape)


def _holds(data: Any, part: int | str) -> bool:
    if isinstance(data, Mapping):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)
