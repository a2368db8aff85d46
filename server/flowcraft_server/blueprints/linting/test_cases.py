"""Test cases that speak of nodes that are not there, or of a start that would be refused."""

from collections.abc import Mapping
from typing import Any

from flowcraft_sdk._config.source_positions import Path
from flowcraft_sdk.protocol.context_input import misspelt_inputs
from flowcraft_sdk.protocol.misfits import choices, expected
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.loading.contract import fits


def check_tests(findings: Findings) -> None:
    """Check the `tests` of the blueprint."""
    names: set[str] = set()
    for index, case in enumerate(findings.blueprint.tests):
        path: Path = ("tests", index)
        name = case.get("name")
        if name in names:
            findings.warning((*path, "name"), f"a second test '{name}'")
        elif name:
            names.add(name)
        _check_input(findings, case.get("input") or {}, (*path, "input"))
        _check_mocks(findings, case.get("mocks") or {}, (*path, "mocks"))
        _check_expected(findings, case.get("expect") or {}, (*path, "expect"))


def _check_input(findings: Findings, given: Mapping[str, Any], path: Path) -> None:
    for name, rule in (findings.blueprint.inputs_contract or {}).items():
        if name not in given:
            if "default" not in rule and rule.get("required", True):
                findings.error(path, f"the run would be refused: it needs the input '{name}'")
        elif not fits(given[name], rule.get("type", "any")):
            findings.error((*path, name), f"the run would be refused: {expected(rule['type'], given[name])}")
        elif "enum" in rule and given[name] not in rule["enum"]:
            findings.error((*path, name), f"the run would be refused: {expected(choices(rule['enum']), given[name])}")
    for misspelt in misspelt_inputs(
        findings.blueprint.inputs_contract or {}, given, findings.blueprint.context_keys or ()
    ):
        name = misspelt["loc"][0]
        findings.error((*path, name), f"the run would be refused: '{name}' {misspelt['msg']}", key=True)


def _check_mocks(findings: Findings, mocks: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    for node_id, mock in mocks.items():
        if node_id not in findings.graph.nodes:
            findings.error((*path, node_id), _no_node(findings, node_id), key=True)
            continue
        action = mock.get("action")
        taken = [arc.edge.action for arc in findings.graph.outgoing[node_id] if arc.kind == "edge"]
        if action is not None and taken and None not in taken and action not in taken:
            known = ", ".join(f"'{name}'" for name in dict.fromkeys(taken))
            findings.warning((*path, node_id, "action"), f"no edge of '{node_id}' takes '{action}'; they take {known}")


def _check_expected(findings: Findings, expected: Mapping[str, Any], path: Path) -> None:
    for name in ("ran", "notRan"):
        for node_id in expected.get(name) or ():
            if node_id not in findings.graph.nodes:
                findings.error((*path, name), _no_node(findings, node_id))
    for node_id in expected.get("ran") or ():
        if node_id in (expected.get("notRan") or ()):
            findings.error((*path, "notRan"), f"'{node_id}' cannot have run and not run")


def _no_node(findings: Findings, node_id: str) -> str:
    return f"no node '{node_id}'{findings.meant(node_id, findings.graph.nodes)}"
