"""Which context keys a blueprint's nodes are known to write. Handlers may write others, unseen."""

from collections.abc import Iterator, Mapping

from flowcraft_sdk._config.marks import Path
from flowcraft_server.blueprints.model import Blueprint

_KEY_PARAMS = ("outputKey", "key")


def written_keys(blueprint: Blueprint) -> set[str]:
    """Keys of the contract, and keys that nodes are set to write."""
    keys = set(blueprint.inputs_contract or {})
    return keys | {key for _, _, key in writes(blueprint)}


def writes(blueprint: Blueprint) -> Iterator[tuple[str, Path, str]]:
    """Of each node that is set to write a key: its id, the path of the setting, the key."""
    for node in blueprint.nodes:
        for name in _KEY_PARAMS:
            key = node.params.get(name)
            if isinstance(key, str) and key:
                yield node.id, ("nodes", node.id, "params", name), key
        outputs = node.params.get("outputs")
        if node.uses == "subflow" and isinstance(outputs, Mapping):
            for key in outputs:
                yield node.id, ("nodes", node.id, "params", "outputs", key), key
