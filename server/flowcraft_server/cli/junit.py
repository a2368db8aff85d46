"""Results of test cases as JUnit's XML, which services for continuous integration read."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from flowcraft_server.evals.model import Evaluation
from flowcraft_server.evals.results import place_of
from flowcraft_server.evals.runs import EvalRun
from flowcraft_server.observability.terminal import plain_text
from flowcraft_server.testing.case_run import CaseResult


def write_junit(results: Sequence[CaseResult], file: Path) -> None:
    """Write the results to a file, with a suite for each blueprint.

    Raises:
        OSError: the file cannot be written.
    """
    root = ET.Element("testsuites", name="flowcraft")
    for blueprint_id in dict.fromkeys(result.blueprint.id for result in results):
        of_it = [result for result in results if result.blueprint.id == blueprint_id]
        seconds = sum(result.seconds for result in of_it)
        suite = ET.SubElement(root, "testsuite", name=plain_text(blueprint_id), tests=str(len(of_it)),
            failures=str(sum(bool(result.mismatches) for result in of_it)),
            errors=str(sum(bool(result.problem) for result in of_it)), time=f"{seconds:.3f}")  # fmt: skip
        for result in of_it:
            about = {"classname": plain_text(blueprint_id), "name": plain_text(result.name)}
            position = result.blueprint.positions.of(("tests", result.index))
            if position is not None:
                about |= {"file": plain_text(position.file), "line": str(position.line)}
            case = ET.SubElement(suite, "testcase", about, time=f"{result.seconds:.3f}")
            if not result.passed:
                first, *_ = lines = [plain_text(line) for line in result.explained()]
                problem = ET.SubElement(case, "error" if result.problem else "failure", message=first)
                problem.text = "\n".join(lines)
    ET.indent(root)
    ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)


def write_eval_junit(evaluation: Evaluation, runs: Sequence[EvalRun], file: Path) -> None:
    """Write the cases of an evaluation to a file; one fails if a run of it was not as expected.

    Raises:
        OSError: the file cannot be written.
    """
    root = ET.Element("testsuites", name="flowcraft")
    failed = {run.case for run in runs if not run.passed}
    suite = ET.SubElement(root, "testsuite", name=plain_text(evaluation.file), tests=str(len(evaluation.cases)),
        failures=str(len(failed)), errors="0", time=f"{sum(run.seconds for run in runs):.3f}")  # fmt: skip
    for index, case in enumerate(evaluation.cases):
        own = [run for run in runs if run.case == index]
        about = {"classname": plain_text(evaluation.blueprint), "name": plain_text(case.name)}
        position = place_of(evaluation, index, None)
        if position is not None:
            about |= {"file": plain_text(position.file), "line": str(position.line)}
        entry = ET.SubElement(suite, "testcase", about, time=f"{sum(run.seconds for run in own):.3f}")
        if index in failed:
            passed = sum(run.passed for run in own)
            problem = ET.SubElement(entry, "failure", message=f"{passed} of {len(own)} runs passed")
            lines = [run.problem for run in own if run.problem]
            lines += [f"{place_of(evaluation, index, miss)}   {miss.message}" for run in own for miss in run.misses]
            problem.text = "\n".join(plain_text(line) for line in dict.fromkeys(lines))
    ET.indent(root)
    ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
