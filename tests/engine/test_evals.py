"""`flowcraft eval` on the real engine: what passes, what it costs, what it is compared with, exit codes."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from flowcraft_server.cli.client import main
from flowcraft_server.evals.model import Checks, EvalCase, Evaluation
from flowcraft_server.evals.runs import EvalRunner
from flowcraft_server.testing import TestEnvironment

CONFIG = """
name: evals
handlers: {ask: MODULE:ask, odd: MODULE:odd}
blueprints: {dirs: [blueprints]}
llm:
  default: scripted
  prices: {scripted: {input: 1000, output: 1000}}
  providers:
    scripted: {type: scripted, file: replies.yaml}
    judge: {type: scripted, file: verdicts.yaml}
"""
HANDLERS = """
import itertools

count = itertools.count(1)


async def ask(ctx):
    return await ctx.llm.complete(ctx.params["prompt"] + " " + ctx.input)


def odd(ctx):
    return next(count) % 2 == 1
"""
REPLIES = """
replies:
  - {match: [Kindly, hello], reply: good day}
  - {match: hello, reply: go away}
default: what?
"""
VERDICTS = """
replies:
  - {match: [polite, good day], reply: '{"reason": "It greets.", "passed": true}'}
  - {match: polite, reply: '{"reason": "It is rude.", "passed": false}'}
default: I cannot say.
"""
ASK = (
    "inputs: {text: string}\noutputs: {reply: ask}\nnodes: {ask: {uses: ask, inputs: text, params: {prompt: PROMPT}}}\n"
)
EVALUATION = """
blueprint: ask
repeat: 2
concurrency: 2
judge: judge
cases:
  - {name: polite, input: {text: hello}, expect: {judge: It is polite.}}
  - {name: short, input: {text: how}, expect: {expression: "output.reply == 'what?'"}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = f"eval_handlers_{secrets.token_hex(4)}"  # modules of a name are loaded once in a process
    for name, text in {
        "flowcraft.yaml": CONFIG.replace("MODULE", module), f"{module}.py": HANDLERS, "replies.yaml": REPLIES, "verdicts.yaml": VERDICTS,
        "blueprints/ask.yaml": ASK.replace("PROMPT", "Reply."), "evals/ask.yaml": EVALUATION,
        "blueprints/odd.yaml": "outputs: {odd: odd}\nnodes: {odd: {uses: odd}}\n",
        "blueprints/wait.yaml": "nodes: {wait: {uses: wait}}\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWCRAFT_SERVER", raising=False)
    return tmp_path


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["eval", *arguments])


def found_by(*arguments: str) -> Any:
    return json.loads(evaluate(*arguments, "--json").stdout)


def test_runs_are_counted_and_priced_and_the_judge_apart(folder: Path) -> None:
    found = found_by("evals/ask.yaml")
    assert (found["passed"], found["runs"], found["pass_rate"], found["threshold"]) == (2, 4, 0.5, 1.0)
    polite, short = found["cases"]
    assert (polite["passed"], polite["runs"], short["passed"], short["runs"]) == (0, 2, 2, 2)
    assert found["usage"]["calls"] == 4
    assert found["judge"]["calls"] == 2
    tokens = found["usage"]["input_tokens"] + found["usage"]["output_tokens"]
    assert found["usage"]["usd"] == pytest.approx(tokens / 1000)  # 1,000 dollars for a million
    assert found["judge"]["usd"] > 0
    assert [run["judge"]["calls"] for run in polite["results"]] == [1, 1]
    miss = polite["results"][0]["misses"][0]
    assert (miss["path"], miss["place"]) == ("cases[0].expect.judge", "evals/ask.yaml:7:58")
    assert miss["message"] == "the judge found: It is rude."
    assert all(run["seconds"] > 0 for run in polite["results"])


def test_the_exit_code_is_by_the_threshold(folder: Path) -> None:
    assert evaluate("evals/ask.yaml").exit_code == 1
    assert evaluate("evals/ask.yaml", "--threshold", "0.5").exit_code == 0
    assert evaluate("evals/ask.yaml", "--threshold", "51%").exit_code == 1
    assert evaluate("evals/ask.yaml", "-k", "short").exit_code == 0
    assert evaluate("evals/ask.yaml", "--threshold", "2").exit_code == 2
    assert evaluate("evals/ask.yaml", "-k", "none").exit_code == 2
    text = EVALUATION.replace("repeat: 2", "repeat: 2\nthreshold: 50%")
    (folder / "evals/ask.yaml").write_text(text)
    assert evaluate("evals/ask.yaml").exit_code == 0


def test_the_table_fits_80_columns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = EVALUATION.replace("name: polite", f"name: {'polite ' * 20}")
    (folder / "evals/ask.yaml").write_text(text)
    assert evaluate("evals/ask.yaml", "--save", "before.json").exit_code == 1
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("flowcraft_server.cli.terminal.PIPE_WIDTH", 80)
    done = evaluate("evals/ask.yaml", "--compare", "before.json")
    lines = done.stdout.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("case"))
    assert max(len(line) for line in lines[begin:]) <= 80
    assert lines[begin].split() == ["case", "passed", "was", "cost", "was", "took", "was"]
    assert "evals/ask.yaml:7:" in lines[0]
    assert lines[0].endswith("the judge found: It is rude.  (2 of 2 runs)")


def test_a_result_is_compared_with_an_earlier_one_and_with_another_version(folder: Path) -> None:
    assert evaluate("evals/ask.yaml", "--save", "before.json").exit_code == 1
    (folder / "old.yaml").write_text("id: ask\n" + (folder / "blueprints/ask.yaml").read_text())
    (folder / "blueprints/ask.yaml").write_text(ASK.replace("PROMPT", "Kindly reply."))
    for other in ("before.json", "old.yaml"):
        found = found_by("evals/ask.yaml", "--compare", other)
        assert (found["passed"], found["compared"]["passed"], found["compared"]["with"]) == (4, 2, other)
        assert [case["passed"] for case in found["compared"]["cases"]] == [0, 2]
    (folder / "broken.json").write_text('{"format": "flowcraft-eval/1"}')
    done = evaluate("evals/ask.yaml", "--compare", "broken.json")
    assert done.exit_code == 2
    assert "results that cannot be read: no 'file'" in done.stderr


def test_junit_has_each_case(folder: Path) -> None:
    assert evaluate("evals/ask.yaml", "--junit", "j.xml").exit_code == 1
    suite = ET.parse(folder / "j.xml").getroot()[0]
    assert suite.attrib["failures"] == "1"
    failure = suite[0][0]
    assert failure.attrib["message"] == "0 of 2 runs passed"
    assert failure.text == "evals/ask.yaml:7:58   the judge found: It is rude."
    assert len(suite[1]) == 0


def test_some_runs_of_a_case_may_pass(folder: Path) -> None:
    (folder / "evals/odd.yaml").write_text(
        "blueprint: odd\nrepeat: 4\nconcurrency: 1\ncases: [{expect: {output: {odd: true}}}]\n"
    )
    found = found_by("evals/odd.yaml")
    assert (found["passed"], found["runs"]) == (2, 4)


def test_a_judge_without_a_verdict_counts_as_not_passed_and_is_paid(folder: Path) -> None:
    (folder / "evals/ask.yaml").write_text(EVALUATION.replace("It is polite.", "It rhymes."))
    polite, short = found_by("evals/ask.yaml")["cases"]
    assert (polite["passed"], short["passed"]) == (0, 2)
    assert 'the reply of the judge has no "passed"' in polite["results"][0]["problem"]
    assert polite["judge"]["calls"] == 2


def test_a_run_that_waits_for_an_answer_is_given_up(folder: Path) -> None:
    text = "blueprint: wait\ntimeout: 1h\ncases: [{EXPECT}]\n"
    (folder / "evals/wait.yaml").write_text(text.replace("EXPECT", ""))
    found = found_by("evals/wait.yaml")
    assert found["cases"][0]["results"][0]["problem"] == (
        "the run waits for an answer at 'wait', which an evaluation does not give"
    )
    (folder / "evals/wait.yaml").write_text(text.replace("EXPECT", "expect: {status: waiting}"))
    assert evaluate("evals/wait.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("blueprint: ask", "blueprint: aks", "evals/ask.yaml:2:12   blueprint: no blueprint 'aks'; did you mean 'ask'?"),
        ("blueprint: ask", "blueprint: gone.yaml", "evals/ask.yaml:2:12   blueprint: there is no file 'gone.yaml' beside this"),
        ("judge: judge", "judge: jugde", "evals/ask.yaml:5:8   judge: llm: no provider 'jugde'; did you mean 'judge'?"),
        ("text: how", "text: 3", "evals/ask.yaml:8:33   cases[1].input.text: the run would be refused: expected string, got 3"),
        ("name: polite", "nam: polite", "evals/ask.yaml:7:6   cases[0].nam: unknown key; did you mean 'name'?"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(folder: Path, before: str, after: str, expected: str) -> None:
    (folder / "evals/ask.yaml").write_text(EVALUATION.replace(before, after))
    done = evaluate("evals/ask.yaml")
    assert (done.exit_code, done.stdout) == (2, "")
    assert expected in done.stderr
    assert json.loads(evaluate("evals/ask.yaml", "--json").stdout)[0]["line"] == int(expected.split(":")[1])


def test_a_blueprint_file_needs_no_deployment(folder: Path) -> None:
    (folder / "flowcraft.yaml").unlink()
    (folder / "evals/pause.yaml").write_text("blueprint: ../blueprints/pause.yaml\ncases: [{expect: {ran: pause}}]\n")
    (folder / "blueprints/pause.yaml").write_text("nodes: {pause: {uses: sleep, params: {duration: 1ms}}}\n")
    done = evaluate("evals/pause.yaml")
    assert done.exit_code == 0, done.output
    done = evaluate("evals/ask.yaml")
    assert done.exit_code == 2
    assert "evals/ask.yaml:2:12   blueprint: no flowcraft.yaml here or above that has it" in done.stderr


def test_there_are_as_many_runs_at_once_as_the_file_allows(environment: Callable[..., TestEnvironment]) -> None:
    active, most = [0], [0]

    async def note(ctx: Any) -> None:
        import asyncio

        active[0] += 1
        most[0] = max(most[0], active[0])
        await asyncio.sleep(0)
        active[0] -= 1

    env = environment(blueprints={"a": "nodes: {a: {uses: note}}"}, handlers={"note": note})

    case = EvalCase("a", ("cases", 0), {}, 12, Checks())
    evaluation = Evaluation("e.yaml", Path(), "a", (case,), concurrency=1)
    runs = EvalRunner(env, evaluation, "a").run()
    assert [run.passed for run in runs] == [True] * 12
    assert most[0] == 1
