"""Files of evaluations: what they may say, and where each mistake in them stands."""

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from flowcraft_sdk.records import Usage
from flowcraft_server.blueprints.loading.loader import load_text
from flowcraft_server.evals.checking import misses
from flowcraft_server.evals.json_schema import eval_schema
from flowcraft_server.evals.judge import JudgeError, read_verdict
from flowcraft_server.evals.linting import check_cases
from flowcraft_server.evals.model import Checks, Evaluation
from flowcraft_server.evals.reading import read_evaluation, read_share
from flowcraft_server.evals.results import NoResults, read_result
from flowcraft_server.testing.expectations import Observed

GOOD = """
blueprint: ticket
description: tickets
repeat: 2
concurrency: 8
timeout: 90s
threshold: 87.5%
judge: {model: main, instructions: Be strict.}
expect: {status: completed, judge: It is polite., schema: {type: object}}
cases:
  - name: a
    input: {text: x}
    expect: {status: failed, expression: [output.kind == 'bug', seconds < 3], judge: [It is short., It is right.]}
  - input: {text: y}
    repeat: 5
    expect: {output: null, ran: reply, outputs: {reply: 1}}
"""
BLUEPRINT = """
inputs: {text: string}
nodes: {reply: {uses: answer, inputs: text}}
"""


def read(tmp_path: Path, text: str) -> tuple[Evaluation | None, list[str]]:
    file = tmp_path / "e.yaml"
    file.write_text(text)
    evaluation, diagnostics = read_evaluation(file)
    return evaluation, [str(found).replace(f"{tmp_path}/", "") for found in diagnostics]


def read_well(tmp_path: Path, text: str) -> Evaluation:
    evaluation, found = read(tmp_path, text)
    assert found == []
    assert evaluation is not None
    return evaluation


def test_all_that_a_file_may_say(tmp_path: Path) -> None:
    evaluation = read_well(tmp_path, GOOD)
    assert (evaluation.concurrency, evaluation.timeout_ms, evaluation.threshold) == (8, 90_000, 0.875)
    assert (evaluation.judge.model, evaluation.judge.instructions) == ("main", "Be strict.")
    first, second = evaluation.cases
    assert (first.name, first.repeat, second.name, second.repeat) == ("a", 2, "#2", 5)
    assert first.checks.plain == {"status": "failed"}
    assert first.checks.places == {"status": ("cases", 0, "expect", "status")}
    assert [each.criterion for each in first.checks.judged] == ["It is polite.", "It is short.", "It is right."]
    assert [each.expression.source for each in first.checks.expressions] == ["output.kind == 'bug'", "seconds < 3"]
    assert second.checks.plain == {"status": "completed", "output": None, "ran": ["reply"], "outputs": {"reply": 1}}
    assert [each.place for each in second.checks.schemas] == [("expect", "schema")]
    validator = Draft202012Validator(eval_schema(["ticket"], ["main"]))
    assert list(validator.iter_errors(yaml.safe_load(GOOD))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["e.yaml:1:1   the file holds nothing; an evaluation needs blueprint and cases"]),
        ("[]", ["e.yaml:1:1   expected a mapping with"]),
        ("cases: [{}]", ["e.yaml:1:1   blueprint: is required"]),
        ("blueprint: a", ["e.yaml:1:1   cases: is required"]),
        ("blueprint: a\ncases: []", ["e.yaml:2:8   cases: expected a list of cases; got none"]),
        ("blueprint: a\ncases: [3]", ["e.yaml:2:9   cases[0]: expected a mapping with"]),
        ("blueprint: a\nrepeat: 0\ncases: [{}]", ["e.yaml:2:9   repeat: expected a whole number from 1 to 1000"]),
        ("blueprint: a\nconcurrency: 65\ncases: [{}]", ["e.yaml:2:14   concurrency: expected a whole number"]),
        ("blueprint: a\ntimeout: 0s\ncases: [{}]", ["e.yaml:2:10   timeout: must be more than 0"]),
        ("blueprint: a\ntimeout: 30\ncases: [{}]", ["e.yaml:2:10   timeout: "]),
        ("blueprint: a\nthreshold: 120%\ncases: [{}]", ["e.yaml:2:12   threshold: expected a share"]),
        ("blueprint: a\nthreshold: true\ncases: [{}]", ["e.yaml:2:12   threshold: expected a share"]),
        ("blueprint: a\njudge: {modell: x}\ncases: [{}]", ["e.yaml:2:9   judge.modell: unknown key; did you mean 'model'?"]),
        ("blueprint: a\ncase: [{}]", ["e.yaml:2:1   case: unknown key; did you mean 'cases'?"]),
        ("blueprint: a\ncases: [{name: x}, {name: x}]", ["e.yaml:2:27   cases[1].name: 'x' is the name of another case (line 2)"]),
        (
            "blueprint: a\ncases: [{expect: {schema: {type: objekt}}}]",
            ["e.yaml:2:27   cases[0].expect.schema: is no JSON Schema: type"],
        ),
        (
            "blueprint: a\ncases: [{expect: {expression: [true == true, output >]}}]",
            ["e.yaml:2:46   cases[0].expect.expression[1]: expected a value after '>'"],
        ),
        (
            "blueprint: a\ncases: [{expect: {expression: ouput.a}}]",
            ["e.yaml:2:31   cases[0].expect.expression: there is no 'ouput'; did you mean 'output'?"],
        ),
        ("blueprint: a\ncases: [{expect: {judge: ' '}}]", ["e.yaml:2:26   cases[0].expect.judge: is empty"]),
        ("blueprint: a\ncases: [{expect: {statuss: failed}}]", ["cases[0].expect.statuss: unknown key; did you mean 'status'?"]),
        ("blueprint: a\ncases: [{expect: {status: done}}]", ["cases[0].expect.status: expected 'completed' or"]),
        ("blueprint: a\nexpect: {judge: " + "x" * 20_001 + "}\ncases: [{}]", ["expect.judge: has 20,001 characters, 20,000"]),
        ("blueprint: a\nrepeat: 1000\ncases: [" + "{}, " * 101 + "]", ["cases: an evaluation has 100,000 runs at most"]),
        ("blueprint: a\ncases: [" + "{}, " * 10_001 + "]", ["cases: a file has 10,000 cases at most, got 10,001"]),
        ("blueprint: {", ["e.yaml:1"]),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place(tmp_path: Path, text: str, expected: list[str]) -> None:
    evaluation, found = read(tmp_path, text)
    assert evaluation is None
    assert len(found) == len(expected), found
    assert all(part in line for part, line in zip(expected, found, strict=True)), found


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_bytes(b"a: \xff")
    assert str(read_evaluation(file)[1][0]) == f"{file}:1:4   not UTF-8 text: byte 0xff; save it as UTF-8"
    assert "cannot be read" in str(read_evaluation(tmp_path)[1][0])


def test_cases_are_compared_with_the_blueprint(tmp_path: Path) -> None:
    blueprint, diagnostics = load_text(BLUEPRINT, default_id="ticket")
    assert blueprint is not None
    assert diagnostics == []
    text = """
blueprint: ticket
expect: {ran: repli}
cases:
  - {input: {text: 3}, expect: {outputs: {repply: 1}}}
  - {input: {}, expect: {ran: reply}}
"""
    found = [str(each).replace(f"{tmp_path}/", "") for each in check_cases(read_well(tmp_path, text), blueprint)]
    assert [line.partition(": ")[0] for line in found] == [
        "e.yaml:3:15   expect.ran",
        "e.yaml:5:20   cases[0].input.text",
        "e.yaml:5:43   cases[0].expect.outputs.repply",
        "e.yaml:6:13   cases[1].input",
    ]
    assert found[0].endswith("no node 'repli'; did you mean 'reply'?")
    assert check_cases(read_well(tmp_path, text.replace("repli", "reply").replace("repply", "reply")
        .replace("text: 3", "text: x").replace("input: {}", "input: {text: y}")), blueprint) == []  # fmt: skip


@pytest.mark.parametrize(
    ("value", "share"),
    [(0.9, 0.9), (1, 1.0), ("90%", 0.9), (" 12.5 %", 0.125), ("101%", None), (True, None), (-1, None), ("x", None), (None, None)],
)  # fmt: skip
def test_shares(value: object, share: float | None) -> None:
    assert read_share(value) == share


def checks_of(tmp_path: Path, expect: str) -> Checks:
    return read_well(tmp_path, f"blueprint: a\ncases: [{{expect: {expect}}}]").cases[0].checks


def test_what_a_run_misses(tmp_path: Path) -> None:
    observed = Observed("completed", {"a": 1}, {"a": {"v": 2}}, {"kind": "bug", "n": 3}, {"k": [1]})
    checks = checks_of(
        tmp_path,
        "{output: {kind: bug}, schema: {properties: {n: {type: string}}}, ran: b,"
        " expression: [output.n == 4, \"outputs.a.v == 2 && context.k[0] == 1 && input.q == 'x'\", usage.usd < 1, seconds < 1]}",
    )
    found = misses(checks, observed, {"q": "x"}, Usage(usd=2.0), 0.5)
    assert {each.place[3:]: each.message for each in found} == {
        ("ran",): "b did not run; these ran: a",
        ("output",): "differs",
        ("schema",): "output.n: expected string, got 3",
        ("expression", 0): "not true: output.n == 4 (output.n is 3)",
        ("expression", 2): "not true: usage.usd < 1 (usage.usd is 2.0)",
    }


def test_nothing_is_asked_of_the_output_of_a_run_that_has_failed(tmp_path: Path) -> None:
    observed = Observed("failed", {}, {}, None, {}, (("a", "ValueError", "no"),))
    found = misses(checks_of(tmp_path, "{schema: {type: object}, expression: output.a}"), observed, {}, Usage(), 0.0)
    assert [each.message for each in found] == [
        "expected completed, the run is failed: node 'a' failed with ValueError: no"
    ]
    assert (
        misses(checks_of(tmp_path, "{error: ValueError, expression: status == 'failed'}"), observed, {}, Usage(), 0.0)
        == []
    )


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"reason": "fine", "passed": true}', (True, "fine")),
        ('Here it is:\n```json\n{"passed": false,\n "reason": "a\\nb"}\n```', (False, "a b")),
        ('{"passed": true}', (True, "")),
    ],
)
def test_verdicts(text: str, verdict: tuple[bool, str]) -> None:
    assert read_verdict(text) == verdict


@pytest.mark.parametrize("text", ["", "yes", '{"passed": "true"}', "{", "[true]", '{"a": ' * 20_000])
def test_replies_that_are_no_verdict(text: str) -> None:
    with pytest.raises(JudgeError, match="has no"):
        read_verdict(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": "flowcraft-eval/1"}', '{"format": "flowcraft-eval/1", "file": 1, "blueprint_id": 2, "cases": [3]}',
        '{"format": "flowcraft-eval/1", "file": "", "blueprint_id": "", "cases": [{"name": 1, "passed": 0, "runs": 1, "usage": {"calls": "x"}, "judge": {}, "seconds": 1}]}',
    ],
)  # fmt: skip
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(NoResults):
        read_result(text)


def test_a_blueprint_is_no_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "order.yaml"
    file.write_text("inputs: {a: string}\nnodes: {n: {uses: echo}}\nbudget: {usd: 1}\n")
    evaluation, found = read_evaluation(file)
    assert evaluation is None
    (only,) = found
    assert "the file is a blueprint; an evaluation is a file of its own" in only.message
