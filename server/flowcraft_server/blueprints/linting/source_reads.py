"""The sources of inputs and outputs, and the names that they read."""

from collections.abc import Iterator, Mapping

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.expressions import ExpressionError
from flowcraft_sdk.protocol.sources import Source, is_source, reads_of


def sources_of(inputs: object, path: Path) -> Iterator[tuple[Path, Source]]:
    """The sources of `inputs` or `outputs`, each with its place; what is no source is left out."""
    if isinstance(inputs, str):
        yield path, inputs
    elif isinstance(inputs, Mapping):
        yield from (((*path, name), value) for name, value in inputs.items() if is_source(value))


def readable(source: Source) -> list[str]:
    """The paths that a source reads; none if it is an expression that cannot be read, which is reported elsewhere."""
    try:
        return reads_of(source)
    except ExpressionError:
        return []
