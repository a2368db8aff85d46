"""Handlers that do not exist, and params that do not fit them."""

import builtins
from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_server.blueprints.agent_params import PROVIDED
from flowcraft_server.blueprints.linting.findings import Findings, node_path
from flowcraft_server.blueprints.linting.params import problem_of_entry, problems_of
from flowcraft_server.blueprints.model import BUILTIN_USES, Node
from flowcraft_server.blueprints.suggestions import listed

_PYTHON_ERRORS = frozenset(
    name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
)
_SIMILAR_QUEUE = 0.8
_SIMILAR_ERROR = 0.85


def check_handlers(findings: Findings) -> None:
    """Check what nodes and batches use, and the params that they give it."""
    known = findings.handlers or {}
    need_no_check = {name for name, spec in known.items() if spec.params is None and name not in BUILTIN_USES}
    for node in findings.graph.nodes.values():
        if node.uses in need_no_check:
            continue
        if node.uses in BUILTIN_USES:
            _check_worker(findings, node)
        elif node.uses and _known(findings, node.uses, node_path(node, "uses")):
            _check_params(findings, node.uses, node.params, node_path(node, "params"))


def check_error_names(findings: Findings) -> None:
    """Check `nonRetryable` for misspelt names of Python's own error types; those of handlers are not known."""
    for node in findings.set_up:
        for index, name in enumerate(node.config.non_retryable or ()):
            if name not in _PYTHON_ERRORS:
                similar = findings.nearest(name, _PYTHON_ERRORS, _SIMILAR_ERROR)
                if similar is not None:
                    path = node_path(node, "config", "nonRetryable", index)
                    findings.warning(path, f"Python has no error type '{name}'; did you mean '{similar}'?")


def check_retries(findings: Findings) -> None:
    """Check that a pause between attempts has further attempts; called where nodes have one unless they set more."""
    for node in findings.set_up:
        if node.config.retry_delay is None or node.config.max_retries not in (None, 1):
            continue
        written = node_path(node, "config", "maxRetries") in findings.blueprint.positions.keys
        if not written or node.config.max_retries is not None:  # else it is reported by itself
            path = node_path(node, "config", "retryDelay")
            findings.warning(
                path, "has no effect: the node has one attempt; set maxRetries, which counts the first one too"
            )


def check_limits(findings: Findings, limits: Collection[str]) -> None:
    """Check that the limits which nodes name are those of the deployment."""
    for node in findings.set_up:
        if node.config.limit is not None and node.config.limit not in limits:
            message = f"there is no limit '{node.config.limit}' in limits.named of flowcraft.yaml"
            findings.error(node_path(node, "config", "limit"), message + findings.meant(node.config.limit, limits))


def check_queues(findings: Findings, queues: Collection[str]) -> None:
    """Check the queues of nodes for misspelt ones; other workers than those of the file may serve any other queue."""
    for node in findings.set_up:
        queue = node.config.queue
        if queue is None or queue in queues:
            continue
        near = findings.nearest(queue, queues, _SIMILAR_QUEUE)
        if near is not None and not any(char.isdigit() for char in queue + near):
            message = f"'{queue}' is none of executor.queue in flowcraft.yaml; did you mean '{near}'?"
            findings.warning(node_path(node, "config", "queue"), message)


def _check_worker(findings: Findings, node: Node) -> None:
    """The handler that runs the items of a batch."""
    name = {"map": "uses", "batch-scatter": "workerUsesKey"}.get(node.uses)
    worker = node.params.get(name) if name else None
    if not isinstance(worker, str) or not worker or name is None:
        return  # reported by the check of the built-in kinds
    path = node_path(node, "params", name)
    if worker in BUILTIN_USES:
        findings.error(path, f"'{worker}' cannot run the items of a batch; name a handler")
    elif _known(findings, worker, path):
        params = node.params.get("params")
        _check_params(findings, worker, params if isinstance(params, Mapping) else {}, (*path[:-1], "params"))


def _known(findings: Findings, name: str, path: Path) -> bool:
    if findings.handlers is None:
        return False
    if name in findings.handlers or name in PROVIDED:
        return True
    if name in findings.undecorated:
        findings.error(
            path, f"no handler '{name}': the function {findings.undecorated[name]} has no @handler before it"
        )
        findings.has_unknown_handlers = True
        return False
    near = findings.nearest(name, chain(findings.handlers, PROVIDED, BUILTIN_USES))
    meant = f" (did you mean '{near}'?)" if near is not None else ""
    known = f"known: {listed(findings.handlers)}" if findings.handlers else "no handlers are registered"
    findings.error(path, f"no handler '{name}'; {known}{meant}")
    findings.has_unknown_handlers = True
    return False


def _check_params(findings: Findings, name: str, params: Mapping[str, Any], path: Path) -> None:
    """Check the params of a node; what comes from the deployment's entry of the handler is reported at its position there."""
    spec = findings.spec(name)
    model = spec.params if spec is not None else None
    if model is None:
        return
    brought = findings.handler_params.get(name, {})
    for problem in problems_of(name, model, {**brought, **params}, findings.meant):
        values = findings.blueprint.positions.values
        # What the entry brings may have been put among the node's params: only what the blueprint holds has a place in it.
        own = {key for key in params if key not in brought or not values or (*path, key) in values}
        first = problem.loc[0] if problem.loc else None
        if problem.missing and first in findings.blueprint.stray_keys.get(str(path[1]), ()):
            continue
        if brought and ((first is None and not own) or (first in brought and first not in own)):
            findings.note(problem_of_entry(name, problem, findings.handler_places))
        else:
            findings.error((*path, *problem.loc), problem.message, key=problem.at_key)
