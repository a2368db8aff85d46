"""What came of an evaluation: sums by case, as JSON that a later evaluation is compared with."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from flowcraft_sdk._config.source_positions import SourcePosition, written_path
from flowcraft_sdk.protocol.usage_sums import total
from flowcraft_sdk.records import Usage

from .checking import Miss
from .model import Evaluation
from .runs import EvalRun

FORMAT = "flowcraft-eval/1"
"""What the file of results says of its form."""


class NoResults(ValueError):
    """A text is no file of results."""


@dataclass(frozen=True, slots=True)
class CaseSum:
    """What came of the runs of a case.

    Attributes:
        name: of the case.
        passed: how many runs have passed.
        runs: how many there were.
        usage: what their model calls have used, all together.
        judged: what the judge has used.
        seconds: how long a run took, the one in the middle.
    """

    name: str
    passed: int = 0
    runs: int = 0
    usage: Usage = field(default_factory=Usage)
    judged: Usage = field(default_factory=Usage)
    seconds: float = 0.0

    @property
    def usd(self) -> float:
        """What a run costs on average."""
        return self.usage.usd / self.runs if self.runs else 0.0


@dataclass(frozen=True, slots=True)
class EvalResult:
    """What came of an evaluation.

    Attributes:
        file: the evaluation's.
        blueprint: id of the blueprint.
        cases: sums by case.
        threshold: the share of runs that has to pass; None of an earlier result.
    """

    file: str
    blueprint: str
    cases: tuple[CaseSum, ...]
    threshold: float | None = None

    @property
    def runs(self) -> int:
        """How many runs there were."""
        return sum(case.runs for case in self.cases)

    @property
    def passed(self) -> int:
        """How many of them have passed."""
        return sum(case.passed for case in self.cases)

    @property
    def pass_rate(self) -> float:
        """The share of runs that have passed, 0 to 1."""
        return self.passed / self.runs if self.runs else 0.0

    @property
    def is_enough(self) -> bool:
        """Whether as many have passed as the threshold asks for."""
        return self.threshold is None or self.pass_rate >= self.threshold - 1e-9

    @property
    def usage(self) -> Usage:
        """What the model calls of all runs have used."""
        return total(case.usage for case in self.cases)

    @property
    def judged(self) -> Usage:
        """What the judge has used."""
        return total(case.judged for case in self.cases)

    def case(self, name: str) -> CaseSum | None:
        """The case of a name."""
        return next((case for case in self.cases if case.name == name), None)


def result_of(evaluation: Evaluation, blueprint_id: str, runs: Sequence[EvalRun]) -> EvalResult:
    """Add up the runs of an evaluation."""
    sums = []
    for index, case in enumerate(evaluation.cases):
        own = [run for run in runs if run.case == index]
        sums.append(
            CaseSum(
                case.name,
                sum(run.passed for run in own),
                len(own),
                total(run.usage for run in own),
                total(run.judged for run in own),
                median([run.seconds for run in own] or [0.0]),
            )
        )
    return EvalResult(evaluation.file, blueprint_id, tuple(sums), evaluation.threshold)


def place_of(evaluation: Evaluation, index: int, miss: Miss | None) -> SourcePosition | None:
    """Where what was not met stands; without it, where the case does."""
    return evaluation.positions.of(evaluation.cases[index].place if miss is None else miss.place)


def plain_result(evaluation: Evaluation, result: EvalResult, runs: Iterable[EvalRun]) -> dict[str, Any]:
    """A result as JSON values, each run with what it has missed."""
    by_case: dict[int, list[EvalRun]] = {}
    for run in runs:
        by_case.setdefault(run.case, []).append(run)
    return {
        "format": FORMAT,
        **plain_sums(result),
        "cases": [
            {
                **_plain_case(case),
                "place": str(place_of(evaluation, index, None) or "") or None,
                "results": [_plain_run(evaluation, run) for run in by_case.get(index, ())],
            }
            for index, case in enumerate(result.cases)
        ],
    }


def plain_sums(result: EvalResult) -> dict[str, Any]:
    """The sums of a result as JSON values."""
    return {
        "file": result.file,
        "blueprint_id": result.blueprint,
        "passed": result.passed,
        "runs": result.runs,
        "pass_rate": round(result.pass_rate, 6),
        "threshold": result.threshold,
        "usage": _plain_usage(result.usage),
        "judge": _plain_usage(result.judged),
        "cases": [_plain_case(case) for case in result.cases],
    }


def _plain_case(case: CaseSum) -> dict[str, Any]:
    return {
        "name": case.name,
        "passed": case.passed,
        "runs": case.runs,
        "seconds": round(case.seconds, 6),
        "usage": _plain_usage(case.usage),
        "judge": _plain_usage(case.judged),
    }


def _plain_usage(usage: Usage) -> dict[str, Any]:
    return {**usage.model_dump(), "usd": round(usage.usd, 9), "seconds": round(usage.seconds, 6)}


def _plain_run(evaluation: Evaluation, run: EvalRun) -> dict[str, Any]:
    return {
        "passed": run.passed,
        "seconds": round(run.seconds, 6),
        "problem": run.problem or None,
        "usage": _plain_usage(run.usage),
        "judge": _plain_usage(run.judged),
        "misses": [
            {
                "path": written_path(miss.place),
                "place": str(place_of(evaluation, run.case, miss) or "") or None,
                "message": miss.message,
                "difference": list(miss.difference),
            }
            for miss in run.misses
        ],
    }


def read_result(text: str) -> EvalResult:
    """The sums of an earlier evaluation, from what `plain_result` gave.

    Raises:
        NoResults: they are none; the message says why.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NoResults(f"not JSON: {error}") from None
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise NoResults(f'no results of `flowcraft eval`: they have "format": "{FORMAT}"')
    try:
        return EvalResult(
            str(value["file"]), str(value["blueprint_id"]), tuple(_read_case(case) for case in value["cases"])
        )
    except (KeyError, TypeError, ValueError) as error:  # ValidationError is one
        about = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise NoResults(f"results that cannot be read: {about}") from None


def _read_case(value: Mapping[str, Any]) -> CaseSum:
    runs, passed = int(value["runs"]), int(value["passed"])
    return CaseSum(
        str(value["name"]), passed, runs, Usage.model_validate(value["usage"]), Usage.model_validate(value["judge"]),
        float(value["seconds"]),
    )  # fmt: skip
