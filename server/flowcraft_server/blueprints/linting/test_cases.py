"""Test cases that speak of nodes that are not there, or of a start that would be refused."""

from collections.abc import Mapping
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
        findings.error(path, f"the run would be refused: it needs the input '{name}'")
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


def _check_mocks(
    findings: Findings,
    actions: Mapping[str, Mapping[str | None, None]],
    mocks: Mapping[str, Mapping[str, Any]],
    path: Path,
) -> None:
    for node_id, mock in mocks.items():
        if node_id not in findings.graph.nodes:
            findings.error((*path, node_id), _no_node(findings, node_id), key=True)
            continue
        action, taken = mock.get("action"), actions[node_id]
        if action is not None and taken and None not in taken and action not in taken:
            known = listed(f"'{name}'" for name in taken)
            findings.warning((*path, node_id, "action"), f"no edge of '{node_id}' takes '{action}'; they take {known}")


def _check_expected(findings: Findings, expected: Mapping[str, Any], path: Path) -> None:
    for name in ("ran", "notRan"):
        for node_id in expected.get(name) or ():
            if node_id not in findings.graph.nodes:
                findings.error((*path, name), _no_node(findings, node_id))
    not_run = set(expected.get("notRan") or ())
    for node_id in expected.get("ran") or ():
        if node_id in not_run:
            findings.error((*path, "notRan"), f"'{node_id}' cannot have run and not run")


def _no_node(findings: Findings, node_id: str) -> str:
    return f"no node '{node_id}'{findings.meant(node_id, findings.graph.nodes)}"
