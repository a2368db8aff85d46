"""Values in profiles that were not asked for: a mistake in one shows before the day on which it is."""

from dataclasses import replace

from pydantic import ValidationError

from flowcraft_sdk._config.interpolation import Interpolation, InterpolationError
from flowcraft_sdk._config.profiles import PROFILES
from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk._config.value_tree import Tree

from .explain import mistakes_of
from .load_context import LoadContext
from .source import make_settings


def check_other_profiles(reading: LoadContext) -> None:
    """Report wrong values in the profiles that are not laid over the file, each with its place.

    What depends on a variable that is not set here is not known: production has its own.
    """
    known = _mistakes(reading, reading.file.copy())
    for name, profile in reading.profiles.items():
        if name == reading.profile:
            continue
        laid = reading.file.copy()
        laid.merge(profile)
        for place, message in _mistakes(reading, laid).items():
            if known.get(place) != message and _is_part(profile, place):
                origin = profile.origin_of(place)
                at = origin.position if origin is not None else None
                reading.report((PROFILES, name, *place), message, at=at)


def _mistakes(reading: LoadContext, tree: Tree) -> dict[Path, str]:
    interpolation = Interpolation(reading.environment, reading.folder, reading.secrets)
    spoilt: set[Path] = set()
    for path, value in list(tree.scalars()):
        if isinstance(value, str) and "$" in value:
            try:
                filled = interpolation.fill(value)
            except InterpolationError:
                spoilt |= {path, path[:-1]}
                continue
            tree.replace(path, filled)
            if path in tree.origins:
                tree.origins[path] = replace(tree.origins[path], written=value)
    try:
        make_settings(tree)
    except ValidationError as error:
        return {place: message for place, message in mistakes_of(error, tree) if place not in spoilt}
    return {}


def _is_part(profile: Tree, place: Path) -> bool:
    """Whether a profile has a value, or the section that it is missing from or at odds with another one in."""
    return profile.get(place) is not None or (len(place) > 1 and profile.get(place[:-1]) is not None)
