"""Reads the file of an evaluation. Everything that is wrong with it is found in one pass, each thing with its place."""

import re
from pathlib import Path
from typing import Any

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_sdk._config.include import Includes
from flowcraft_sdk._config.source_positions import Path as Place
from flowcraft_sdk._config.source_positions import SourcePosition, SourcePositions
from flowcraft_sdk._config.utf8_text import NotUtf8Error, read_utf8_file
from flowcraft_sdk._config.yaml_reader import read_yaml
from flowcraft_sdk._config.yaml_tree import Fields, Items, Scalar, Tree, kind_of
from flowcraft_sdk.protocol.expressions import ExpressionError, compile_expression
from flowcraft_server.blueprints.linting.builtin_nodes import schema_problem
from flowcraft_server.blueprints.loading.load_context import LoadContext, is_null, kind_or_text
from flowcraft_server.blueprints.loading.test_cases import EXPECT_KEYS, read_expected
from flowcraft_server.blueprints.suggestions import did_you_mean, listed

from .model import (
    DEFAULT_CONCURRENT,
    DEFAULT_TIMEOUT_MS,
    LONGEST_CRITERION,
    MOST_CASES,
    MOST_CONCURRENT,
    MOST_REPEATS,
    MOST_RUNS,
    Checks,
    EvalCase,
    Evaluation,
    ExpressionCheck,
    JudgeCheck,
    JudgeSettings,
    SchemaCheck,
)

LARGEST = 16 * 1024 * 1024
"""Bytes of an evaluation's file."""

EVAL_KEYS = ("blueprint", "description", "repeat", "concurrency", "timeout", "threshold", "judge", "expect", "cases")
CASE_KEYS = ("name", "input", "repeat", "expect")
JUDGE_KEYS = ("model", "instructions")
CHECK_KEYS = ("schema", "expression", "judge")
SCOPE = ("output", "outputs", "context", "input", "status", "usage", "seconds")
"""What expressions read."""

_SHARE = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*")


def read_evaluation(path: Path) -> tuple[Evaluation | None, list[Diagnostic]]:
    """Read the file of an evaluation.

    Returns:
        The evaluation, None if anything is wrong with it, and what is.
    """
    start = SourcePosition(str(path), 1, 1)
    try:
        text = read_utf8_file(path, LARGEST)
    except OSError as error:
        return None, [Diagnostic("error", start, "", f"cannot be read: {error.strerror or type(error).__name__}")]
    except NotUtf8Error as error:
        return None, [Diagnostic("error", error.position, "", error.reason)]
    tree, diagnostics = read_yaml(text, str(path), Includes(path.parent), holds="one evaluation")
    if tree is None or (is_null(tree) and not diagnostics):
        message = "the file holds nothing; an evaluation needs blueprint and cases"
        return None, diagnostics or [Diagnostic("error", start, "", message)]
    reading = LoadContext(str(path), lenient=False)
    if isinstance(tree, Fields) and "nodes" in tree.entries:
        message = (
            "the file is a blueprint; an evaluation is a file of its own that names it: blueprint: ..., cases: ..."
        )
        return None, [*diagnostics, Diagnostic("error", tree.position, "", message)]
    evaluation = _evaluation(reading, tree, path)
    found = sorted(
        [*diagnostics, *reading.diagnostics],
        key=lambda each: (each.position.line, each.position.column) if each.position is not None else (0, 0),
    )
    return (None if found else evaluation), found


def _evaluation(reading: LoadContext, tree: Tree, path: Path) -> Evaluation:
    entries = reading.fields(tree, (), EVAL_KEYS)
    values = {name: entry.value for name, entry in entries.items()}
    blueprint = reading.text(values["blueprint"], ("blueprint",), "an id, or a file") if "blueprint" in values else None
    for name, what in (("blueprint", "the id of a blueprint, or its file"), ("cases", "a list of cases")):
        if isinstance(tree, Fields) and name not in values and not any(name in meant for meant in reading.meant):
            reading.error(tree.position, name, f"is required: {what}")
    repeat = _count(reading, values, "repeat", MOST_REPEATS, 1)
    general = _checks(reading, values["expect"], ("expect",)) if "expect" in values else Checks()
    timeout = reading.duration(values["timeout"], ("timeout",)) if "timeout" in values else DEFAULT_TIMEOUT_MS
    if timeout is not None and timeout < 1:
        reading.error(values["timeout"].position, "timeout", "must be more than 0")
    return Evaluation(
        file=reading.file,
        folder=path.parent,
        blueprint=blueprint or "",
        cases=_cases(reading, values["cases"], repeat, general) if "cases" in values else (),
        concurrency=_count(reading, values, "concurrency", MOST_CONCURRENT, DEFAULT_CONCURRENT),
        timeout_ms=timeout or DEFAULT_TIMEOUT_MS,
        threshold=_threshold(reading, values["threshold"]) if "threshold" in values else 1.0,
        judge=_judge(reading, values["judge"]) if "judge" in values else JudgeSettings(),
        general=general,
        positions=SourcePositions(reading.positions.keys, reading.positions.values, reading.positions.written),
    )


def _count(reading: LoadContext, values: dict[str, Tree], name: str, most: int, default: int) -> int:
    if name not in values:
        return default
    return reading.whole_number(values[name], (name,), 1, most) or default


def _threshold(reading: LoadContext, tree: Tree) -> float:
    value = tree.value if isinstance(tree, Scalar) else None
    share = read_share(value)
    if share is None:
        reading.error(
            tree.position, "threshold", f"expected a share from 0 to 1, or such as 90%; got {kind_or_text(tree)}"
        )
    return 1.0 if share is None else share


def read_share(value: Any) -> float | None:
    """A share of runs: a number from 0 to 1, or a text such as `90%`; None for anything else."""
    if isinstance(value, str) and (found := _SHARE.fullmatch(value)):
        value = float(found[1]) / 100
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _judge(reading: LoadContext, tree: Tree) -> JudgeSettings:
    if isinstance(tree, Scalar):
        return JudgeSettings(reading.text(tree, ("judge",), "the name of a provider"), place=("judge",))
    entries = reading.fields(tree, ("judge",), JUDGE_KEYS)
    place: Place = ("judge", "model")
    model = reading.text(entries["model"].value, place, "the name of a provider") if "model" in entries else None
    instructions = ""
    if "instructions" in entries:
        instructions = _long_text(reading, entries["instructions"].value, ("judge", "instructions"), "a text") or ""
    return JudgeSettings(model, instructions, place if model is not None else ("judge",))


def _cases(reading: LoadContext, tree: Tree, repeat: int, general: Checks) -> tuple[EvalCase, ...]:
    if not isinstance(tree, Items) or not tree.items:
        what = "none" if isinstance(tree, Items) else kind_of(tree)
        reading.error(tree.position, "cases", f"expected a list of cases; got {what}")
        return ()
    reading.positions.put(("cases",), tree.position)
    if len(tree.items) > MOST_CASES:
        reading.error(tree.position, "cases", f"a file has {MOST_CASES:,} cases at most, got {len(tree.items):,}")
        return ()
    cases, places = [], dict[str, SourcePosition]()
    for index, item in enumerate(tree.items):
        place: Place = ("cases", index)
        if not isinstance(item, Fields):
            reading.error(item.position, place, f"expected a mapping with {listed(CASE_KEYS)}; got {kind_of(item)}")
            continue
        case = _case(reading, item, place, index, repeat, general)
        if case.name in places:
            at = places[case.name]
            reading.error(
                reading.positions.values.get((*place, "name"), item.position), (*place, "name"),
                f"'{case.name}' is the name of another case (line {at.line}); results are compared by names",
            )  # fmt: skip
        places.setdefault(case.name, item.position)
        cases.append(case)
    runs = sum(case.repeat for case in cases)
    if runs > MOST_RUNS:
        reading.error(tree.position, "cases", f"an evaluation has {MOST_RUNS:,} runs at most, these are {runs:,}")
    return tuple(cases)


def _case(reading: LoadContext, tree: Fields, place: Place, index: int, repeat: int, general: Checks) -> EvalCase:
    entries = reading.fields(tree, place, CASE_KEYS)
    reading.positions.put(place, tree.position)
    name, context = f"#{index + 1}", {}
    if "name" in entries:
        name = reading.text(entries["name"].value, (*place, "name")) or name
    if "input" in entries:
        reading.any_fields(entries["input"].value, (*place, "input"), "keys of the start context to values")
        given = reading.data(entries["input"].value, (*place, "input"))
        context = given if isinstance(given, dict) else {}
    if "repeat" in entries:
        repeat = reading.whole_number(entries["repeat"].value, (*place, "repeat"), 1, MOST_REPEATS) or repeat
    own = _checks(reading, entries["expect"].value, (*place, "expect")) if "expect" in entries else Checks()
    return EvalCase(name, place, context, repeat, own.over(general))


def _checks(reading: LoadContext, tree: Tree, place: Place) -> Checks:
    plain = read_expected(reading, tree, place, CHECK_KEYS)
    if not isinstance(tree, Fields):
        return Checks()
    entries = {name: entry.value for name, entry in tree.entries.items() if not is_null(entry.value)}
    schemas, expressions, judged = [], [], []
    if "schema" in entries:
        schema = reading.data(entries["schema"], (*place, "schema"))
        problem = schema_problem(schema)
        if problem:
            reading.error(entries["schema"].position, (*place, "schema"), problem)
        else:
            schemas.append(SchemaCheck((*place, "schema"), schema))
    for where, each in _one_or_more(entries, "expression", place):
        source = reading.strict_text(each, where, "an expression, or a list of them")
        expressions += [] if source is None else _expression(reading, each, where, source)
    for where, each in _one_or_more(entries, "judge", place):
        criterion = _long_text(reading, each, where, "what the judge is asked, or a list of that")
        judged += [] if criterion is None else [JudgeCheck(where, criterion)]
    return Checks(
        plain, {name: (*place, name) for name in plain if name in EXPECT_KEYS}, tuple(schemas), tuple(expressions),
        tuple(judged),
    )  # fmt: skip


def _one_or_more(entries: dict[str, Tree], name: str, place: Place) -> list[tuple[Place, Tree]]:
    tree = entries.get(name)
    if isinstance(tree, Items):
        return [((*place, name, index), item) for index, item in enumerate(tree.items)]
    return [] if tree is None else [((*place, name), tree)]


def _expression(reading: LoadContext, tree: Tree, place: Place, source: str) -> list[ExpressionCheck]:
    try:
        expression = compile_expression(source)
    except ExpressionError as error:
        reading.error(tree.position, place, error.message)
        return []
    unknown = sorted(name for name in expression.names if name not in SCOPE)
    for name in unknown:
        meant = did_you_mean(name, SCOPE) or f"; an expression reads {listed(SCOPE)}"
        reading.error(tree.position, place, f"there is no '{name}'{meant}")
    return [] if unknown else [ExpressionCheck(place, expression)]


def _long_text(reading: LoadContext, tree: Tree, place: Place, what: str) -> str | None:
    text = reading.strict_text(tree, place, what)
    if text is not None and not text.strip():
        reading.error(tree.position, place, "is empty")
        return None
    if text is not None and len(text) > LONGEST_CRITERION:
        reading.error(tree.position, place, f"has {len(text):,} characters, {LONGEST_CRITERION:,} are allowed")
        return None
    return text
