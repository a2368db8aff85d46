"""Whether the cases of an evaluation fit their blueprint: inputs that a start takes, nodes that there are."""

from collections.abc import Mapping
from dataclasses import replace

from flowcraft_sdk._config.source_positions import Path, SourcePosition, SourcePositions
from flowcraft_server.blueprints.linting.findings import Findings
from flowcraft_server.blueprints.linting.test_cases import check_tests
from flowcraft_server.blueprints.model import Blueprint, Diagnostic

from .model import Evaluation


def check_cases(evaluation: Evaluation, blueprint: Blueprint) -> list[Diagnostic]:
    """What is wrong with the cases, given the blueprint: they are looked at as its test cases would be."""
    cases = [{"input": case.input, "expect": _own(evaluation, index)} for index, case in enumerate(evaluation.cases)]
    written: dict[Path, Path] = {("tests", index): ("cases", index) for index in range(len(cases))}
    if evaluation.general.plain and cases:
        written |= {("tests", len(cases)): ("cases", 0), ("tests", len(cases), "expect"): ("expect",)}
        cases.append({"input": evaluation.cases[0].input, "expect": evaluation.general.plain})
    positions = SourcePositions(
        _moved(evaluation.positions.keys, len(evaluation.cases)),
        _moved(evaluation.positions.values, len(evaluation.cases)),
        written,
    )
    findings = Findings(replace(blueprint, tests=tuple(cases), positions=positions), None, {}, {})
    check_tests(findings)
    found = [each for each in dict.fromkeys(findings.diagnostics) if each.severity == "error"]
    return sorted(found, key=lambda each: (each.position.line, each.position.column) if each.position else (0, 0))


def _own(evaluation: Evaluation, index: int) -> dict[str, object]:
    """What a case itself expects, of what test cases may expect, too."""
    checks = evaluation.cases[index].checks
    return {name: value for name, value in checks.plain.items() if checks.places[name][:1] == ("cases",)}


def _moved(places: Mapping[Path, SourcePosition], count: int) -> dict[Path, SourcePosition]:
    """The places of cases as those of tests, and those of what all cases expect as of a further one."""
    found: dict[Path, SourcePosition] = {}
    for path, position in places.items():
        if path[:1] == ("cases",):
            found[("tests", *path[1:])] = position
            if path[:3] == ("cases", 0, "input"):
                found[("tests", count, *path[2:])] = position
        elif path[:1] == ("expect",):
            found[("tests", count, *path)] = position
    return found
