"""Which context keys a blueprint's nodes are known to write. Handlers that do not declare it may write others, unseen."""

from collections.abc import Iterator, Mapping, Set

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.model import BUILTIN_USES, Blueprint, Node

_KEY_PARAMS = ("outputKey", "key")
HOW_TO_DECLARE = "; of a key that a handler writes, say so in `context:` or with @handler(writes=[...])"
WORKER = {"map": "uses", "batch-scatter": "workerUsesKey"}


def written_keys(findings: Findings, blueprint: Blueprint | None = None) -> Set[str]:
    """Keys of the contract, those declared, and those that nodes are set to write.

    Args:
        blueprint: by default the one under examination.
    """
    blueprint = blueprint or findings.blueprint
    found: dict[str, None] = findings.keep(blueprint, "written", lambda: dict.fromkeys(_written(findings, blueprint)))
    return found.keys()


def _written(findings: Findings, blueprint: Blueprint) -> Iterator[str]:
    yield from blueprint.inputs_contract or ()
    yield from blueprint.context_keys or ()
    for node in of_each_handler(blueprint):
        yield from declared_writes(findings, node) or ()
    for _, _, key in writes(blueprint):
        yield key


def all_known(findings: Findings, blueprint: Blueprint) -> bool:
    """Whether no handler of a blueprint can write other keys: each declares what it writes, or the blueprint does."""
    if blueprint.context_keys is not None:
        return True
    known: bool = findings.keep(
        blueprint,
        "all known",
        lambda: all(declared_writes(findings, node) is not None for node in of_each_handler(blueprint)),
    )
    return known


def of_each_handler(blueprint: Blueprint) -> Iterator[Node]:
    """Nodes that use what no node before them uses, and all that name a handler in their params."""
    seen: set[str] = set()
    for node in blueprint.nodes:
        if node.uses not in seen:
            if node.uses not in WORKER:
                seen.add(node.uses)
            yield node


def declared_writes(findings: Findings, node: Node) -> tuple[str, ...] | None:
    """What the handler of a node declares to write; None if it does not say."""
    uses = node.uses
    if uses in BUILTIN_USES:
        worker = node.params.get(WORKER[uses]) if uses in WORKER else None
        if not isinstance(worker, str):
            return ()
        uses = worker
    spec = findings.spec(uses)
    return None if spec is None else spec.writes


def writes(blueprint: Blueprint) -> Iterator[tuple[str, Path, str]]:
    """Of each node that is set to write a key: its id, the path of the setting, the key."""
    for node in blueprint.nodes:
        if not node.params:
            continue
        for name in _KEY_PARAMS:
            key = node.params.get(name)
            if isinstance(key, str) and key:
                yield node.id, ("nodes", node.id, "params", name), key
        outputs = node.params.get("outputs")
        if node.uses == "subflow" and isinstance(outputs, Mapping):
            for key in outputs:
                yield node.id, ("nodes", node.id, "params", "outputs", key), key
