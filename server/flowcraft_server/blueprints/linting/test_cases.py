"""Test cases that speak of nodes that are not there, or of a start that would be refused."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.context_input import misspelt_inputs
from flowcraft_sdk.protocol.misfits import choices, expected
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.loading.contract import fits, required_inputs
from flowcraft_server.blueprints.loading.load_context import MOST_REPORTED
from flowcraft_server.blueprints.suggestions import listed


def check_tests(findings: Findings) -> None:
    """Check the `tests` of the blueprint."""
    names: set[str] = set()
    starts = _Starts(findings.blueprint.inputs_contract or {}) if findings.blueprint.tests else None
    taken = _taken_actions(findings) if findings.blueprint.tests else {}
    for index, case in enumerate(findings.blueprint.tests):
        path: Path = ("tests", index)
        name = case.get("name")
        if name in names:
            findings.warning((*path, "name"), f"a second test '{name}'")
        elif name:
            names.add(name)
        if starts is not None:
            _check_input(findings, starts, case.get("input") or {}, (*path, "input"))
        _check_mocks(findings, taken, case.get("mocks") or {}, (*path, "mocks"))
        _check_expected(findings, case.get("expect") or {}, (*path, "expect"))


class _Starts:
    """What a run may be started with, in a form that many tests can be compared with."""

    def __init__(self, contract: Mapping[str, Mapping[str, Any]]) -> None:
        self.contract = contract
        self.needed = required_inputs(contract)
        self._allowed: dict[str, frozenset[Any]] = {}

    def allows(self, name: str, value: Any) -> bool:
        """Whether an input may have a value, if its values are listed."""
        if "enum" not in self.contract[name]:
            return True
        if name not in self._allowed:
            self._allowed[name] = frozenset(_hashable(item) for item in self.contract[name]["enum"])
        return _hashable(value) in self._allowed[name]


def _hashable(value: Any) -> Any:
    """A JSON value as one that is equal to another one's if the values are."""
    if isinstance(value, Mapping):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _taken_actions(findings: Findings) -> dict[str, dict[str | None, None]]:
    """The actions of each node's edges, in order."""
    return {
        node_id: {arc.edge.action: None for arc in findings.graph.edges_from(node_id)}
        for node_id in findings.graph.nodes
    }


def _check_input(findings: Findings, starts: _Starts, given: Mapping[str, Any], path: Path) -> None:
    for name in islice((name for name in starts.needed if name not in given), MOST_REPORTED):
        findings.lacks(path, f"the run would be refused: it needs the input '{name}'", name, below=path)
    for name in given:
        rule = starts.contract.get(name)
        if rule is None:
            continue
        if not fits(given[name], rule.get("type", "any")):
            findings.error((*path, name), f"the run would be refused: {expected(rule['type'], given[name])}")
        elif not starts.allows(name, given[name]):
            findings.error((*path, name), f"the run would be refused: {expected(choices(rule['enum']), given[name])}")
    if any(name not in starts.contract for name in given) and findings.may_look_up():
        for misspelt in misspelt_inputs(starts.contract, given, findings.blueprint.context_keys or ()):
            name = misspelt["loc"][0]
            findings.error((*path, name), f"the run would be refused: '{name}' {misspelt['msg']}", key=True)


_ENGINE_DECIDES = ("loop-controller", "batch-gather")
_WAITS = ("wait", "webhook")
_BATCHES = ("map", "batch-scatter")


def answers_of(mock: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The answers of a mock, which is one or a list of them."""
    return [mock] if isinstance(mock, Mapping) else list(mock)


def _check_mocks(
    findings: Findings,
    actions: Mapping[str, Mapping[str | None, None]],
    mocks: Mapping[str, Any],
    path: Path,
) -> None:
    nodes = findings.graph.nodes
    for node_id, mock in mocks.items():
        if node_id not in nodes:
            findings.error((*path, node_id), _no_node(findings, node_id), key=True)
            continue
        taken, uses = actions[node_id], nodes[node_id].uses
        several = not isinstance(mock, Mapping)
        for index, answer in enumerate(answers_of(mock)):
            place = (*path, node_id, index) if several else (*path, node_id)
            _check_answer(findings, uses, node_id, answer, place)
            action = answer.get("action")
            if action is not None and taken and None not in taken and action not in taken:
                known = listed(f"'{name}'" for name in taken)
                findings.warning((*place, "action"), f"no edge of '{node_id}' takes '{action}'; they take {known}")


def _check_answer(findings: Findings, uses: str, node_id: str, answer: Mapping[str, Any], path: Path) -> None:
    """A mock that says what its kind of node never does."""
    if uses in _ENGINE_DECIDES:
        findings.error(path, f"a {uses} cannot be mocked: mock the nodes that it reads", key=True)
    elif uses in _WAITS:
        for name in ("output", "error", "writes", "items"):
            if name in answer:
                findings.error((*path, name), f"'{node_id}' waits: it is answered by 'signal' and 'action'", key=True)
    else:
        if "signal" in answer:
            findings.error((*path, "signal"), f"'{node_id}' does not wait: no signal reaches it", key=True)
        if "items" in answer and uses not in _BATCHES:
            findings.error((*path, "items"), f"'{node_id}' has no items: only map and batch-scatter have", key=True)
        elif "items" in answer and ("output" in answer or "action" in answer):
            findings.error((*path, "items"), "a batch has either an output or items", key=True)
        elif uses == "batch-scatter" and "items" not in answer:
            findings.error(path, "a batch-scatter is mocked by 'items': what its workers return", key=True)


def _check_expected(findings: Findings, expected: Mapping[str, Any], path: Path) -> None:
    places = findings.blueprint.positions.values
    for name in ("ran", "notRan"):
        for index, node_id in enumerate(expected.get(name) or ()):
            if node_id not in findings.graph.nodes:
                place = (*path, name, index)  # one id need not stand in a list
                findings.error(place if place in places else (*path, name), _no_node(findings, node_id))
    for name in ("outputs", "times"):
        for node_id in expected.get(name) or ():
            if node_id not in findings.graph.nodes:
                findings.error((*path, name, node_id), _no_node(findings, node_id), key=True)
    failing = (expected.get("error") or {}).get("node")
    if failing is not None and failing not in findings.graph.nodes:
        findings.error((*path, "error", "node"), _no_node(findings, failing))
    status = expected.get("status")
    if "error" in expected and status not in (None, "failed", "timed_out"):
        findings.error((*path, "error"), f"a run that is '{status}' has no error", key=True)
    not_run = set(expected.get("notRan") or ())
    for node_id in expected.get("ran") or ():
        if node_id in not_run:
            findings.error((*path, "notRan"), f"'{node_id}' cannot have run and not run")
    for node_id, count in (expected.get("times") or {}).items():
        if (count and node_id in not_run) or (not count and node_id in (expected.get("ran") or ())):
            findings.error((*path, "times", node_id), f"'{node_id}' cannot have run and not run")


def _no_node(findings: Findings, node_id: str) -> str:
    return f"no node '{node_id}'{findings.meant(node_id, findings.graph.nodes)}"
