"""The YAML of `flowcraft.yaml` as values with their places; read as blueprints are, by the rules of YAML 1.2."""

from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.source_positions import Path, SourcePosition
from flowcraft_sdk._config.value_tree import Origin, Tree
from flowcraft_sdk._config.yaml_reader import read_yaml
from flowcraft_sdk._config.yaml_tree import Fields, Items, Scalar, kind_of
from flowcraft_sdk._config.yaml_tree import Tree as Written

HOLDS = "one deployment, a single document: what differs from place to place goes under 'profiles'"


def read_document(text: str, file: str) -> tuple[Tree, list[Diagnostic]]:
    """Read a YAML mapping.

    Args:
        text: the YAML.
        file: its name as shown to people.

    Returns:
        What could be read, and what is wrong with the rest.
    """
    written, diagnostics = read_yaml(text, file, _NoIncludes(None), holds=HOLDS)
    tree = Tree()
    if isinstance(written, Fields):
        tree.data = _value(tree, (), written, written.position)
    elif written is not None and not (isinstance(written, Scalar) and written.value is None):
        diagnostics.append(
            Diagnostic("error", written.position, "", f"expected a mapping (key: value), got {kind_of(written)}")
        )
    return tree, diagnostics


class _NoIncludes(Includes):
    def read(self, name: str) -> str:
        raise ValueError(f"!include works in blueprints; here write ${{file:{name}}}")


def _value(tree: Tree, path: Path, written: Written, key: SourcePosition) -> Any:
    position = written.position
    tree.origins[path] = Origin(f"{position.file}:{position.line}", key, position)
    if isinstance(written, Scalar):
        return written.value
    if isinstance(written, Items):
        return [_value(tree, (*path, index), item, item.position) for index, item in enumerate(written.items)]
    return {
        name: _value(tree, (*path, name), entry.value, entry.key_position) for name, entry in written.entries.items()
    }
