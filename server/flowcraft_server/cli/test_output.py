"""Prints results of test cases, and what they went through."""

from collections.abc import Iterable, Sequence
from typing import Any

from flowcraft_server.testing.case_run import CaseResult
from flowcraft_server.testing.coverage import BlueprintCoverage

from .counts import counted
from .terminal import write

MOST_MISSED = 20
"""Nodes or edges that are listed as missed, of one blueprint."""


def print_result(result: CaseResult) -> None:
    """Print how a case went: a line, and for one that failed what was not met."""
    verdict, colour = ("passed", "green") if result.passed else ("FAILED", "red")
    write(f"{verdict}  {result.blueprint.id}::{result.name}  {result.seconds:.2f} s", colour=colour)
    for line in result.explained():
        of_line = {"-": "red", "+": "green"}.get(line.strip()[:1]) if line.startswith("    ") else None
        write(f"  {line}", colour=of_line)


def print_coverage(covered: Sequence[BlueprintCoverage]) -> None:
    """Print how many nodes and edges of each blueprint were gone through, and which were not."""
    if not covered:
        return
    width = max(len(one.blueprint_id) for one in covered)
    write()
    for one in covered:
        nodes, edges = one.nodes - len(one.nodes_missed), one.edges - len(one.edges_missed)
        write(f"{one.blueprint_id:<{width}}  nodes {nodes}/{one.nodes}  edges {edges}/{one.edges}")
        for what, missed in (("never ran", one.nodes_missed), ("never taken", one.edges_missed)):
            if missed:
                more = f" and {len(missed) - MOST_MISSED} more" if len(missed) > MOST_MISSED else ""
                write(f"  {what}: {', '.join(missed[:MOST_MISSED])}{more}")


def print_summary(results: Sequence[CaseResult], seconds: float) -> None:
    """Print in one line how many passed and failed."""
    failed = sum(not result.passed for result in results)
    passed = len(results) - failed
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{passed} passed"] if passed else []
    of = counted(len({result.blueprint.id for result in results}), "blueprint")
    write(f"\n{', '.join(parts)} in {seconds:.2f} s, {of}", colour="red" if failed else "green")


def plain_results(results: Iterable[CaseResult], covered: Iterable[BlueprintCoverage]) -> dict[str, Any]:
    """All of it as JSON values."""
    return {
        "tests": [
            {
                "blueprint_id": result.blueprint.id,
                "name": result.name,
                "passed": result.passed,
                "seconds": round(result.seconds, 3),
                "place": result.place or None,
                "problem": result.problem or None,
                "mismatches": [
                    {
                        "path": mismatch.written_path,
                        "place": result.place_of(mismatch) or None,
                        "message": mismatch.message,
                        "difference": list(mismatch.difference),
                    }
                    for mismatch in result.mismatches
                ],
            }
            for result in results
        ],
        "coverage": [
            {
                "blueprint_id": one.blueprint_id,
                "nodes": one.nodes,
                "nodes_missed": list(one.nodes_missed),
                "edges": one.edges,
                "edges_missed": list(one.edges_missed),
            }
            for one in covered
        ],
    }
