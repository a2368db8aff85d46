"""An evaluation as its file has it: frozen records, without any I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.source_positions import SourcePositions
from flowcraft_sdk.protocol.expressions import Expression

MOST_CASES = 10_000
MOST_REPEATS = 1_000
MOST_RUNS = 100_000
MOST_CONCURRENT = 64
DEFAULT_CONCURRENT = 4
DEFAULT_TIMEOUT_MS = 600_000
LONGEST_CRITERION = 20_000


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """The output fits a JSON Schema."""

    place: Place
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExpressionCheck:
    """An expression over the run is true."""

    place: Place
    expression: Expression


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """A model finds that the output meets a criterion."""

    place: Place
    criterion: str


@dataclass(frozen=True, slots=True)
class Checks:
    """What is expected of a run.

    Attributes:
        plain: what `tests` of blueprints may expect, too: a status, an output, nodes that ran.
        places: where each key of `plain` stands.
        schemas, expressions, judged: the other kinds.
    """

    plain: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    schemas: tuple[SchemaCheck, ...] = ()
    expressions: tuple[ExpressionCheck, ...] = ()
    judged: tuple[JudgeCheck, ...] = ()

    def over(self, general: "Checks") -> "Checks":
        """These along with those of all cases: a plain key of these counts before the other's, all else is checked as well."""
        return Checks(
            {**general.plain, **self.plain},
            {**general.places, **self.places},
            (*general.schemas, *self.schemas),
            (*general.expressions, *self.expressions),
            (*general.judged, *self.judged),
        )


@dataclass(frozen=True, slots=True)
class EvalCase:
    """An input, and what is expected of runs with it.

    Attributes:
        name: by which it is shown and compared.
        place: where it stands.
        input: the start context.
        repeat: how many runs there are.
        checks: what is expected of each, with what is expected of all cases.
    """

    name: str
    place: Place
    input: Mapping[str, Any]
    repeat: int
    checks: Checks


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """The model that judges.

    Attributes:
        model: a provider of `llm.providers`; None for the default one.
        instructions: what it is asked to heed besides.
        place: where its model stands.
    """

    model: str | None = None
    instructions: str = ""
    place: Place = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A file of cases.

    Attributes:
        file: its name as people see it.
        folder: what paths in it are relative to.
        blueprint: an id of the deployment, or the path of a blueprint file.
        cases: in the order of the file.
        concurrency: how many runs there are at once.
        timeout_ms: how long a run may take.
        threshold: the share of runs, 0 to 1, that has to pass.
        judge: the model that judges.
        general: what is expected of all cases.
        positions: where all of it stands.
    """

    file: str
    folder: Path
    blueprint: str
    cases: tuple[EvalCase, ...]
    concurrency: int = DEFAULT_CONCURRENT
    timeout_ms: int = DEFAULT_TIMEOUT_MS
    threshold: float = 1.0
    judge: JudgeSettings = JudgeSettings()
    general: Checks = Checks()
    positions: SourcePositions = field(default_factory=SourcePositions, compare=False, repr=False)

    @property
    def has_judge(self) -> bool:
        """Whether a model is asked."""
        return any(case.checks.judged for case in self.cases)
