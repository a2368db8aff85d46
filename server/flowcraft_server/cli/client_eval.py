"""`flowcraft eval`: runs the cases of a file again and again, and says how many runs were as expected, at what cost."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from .client_errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from .client_input import nearest_config
from .existing_file import ExistingFile
from .private_server import entered, refuse_addresses, server_errors
from .shared_options import as_json_option, given
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_server.blueprints.model import Diagnostic
    from flowcraft_server.evals.judge import Judge
    from flowcraft_server.evals.model import Evaluation
    from flowcraft_server.evals.results import EvalResult
    from flowcraft_server.evals.runs import EvalRun
    from flowcraft_server.testing.suite import Suite

LARGEST_RESULTS = 256 * 1024 * 1024
"""Bytes of an earlier result."""


class ShareParam(click.ParamType[float]):
    """A share of runs: `0.9` or `90%`."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share, 0 to 1."""
        from flowcraft_server.evals.reading import read_share

        try:
            share = read_share(float(value))
        except ValueError:
            share = read_share(value)
        if share is None:
            self.fail(f"expected a share from 0 to 1, or such as 90%, got {str(value)[:40]!r}", param, ctx)
        return share


@click.command("eval")
@click.argument("file", type=ExistingFile(), metavar="FILE")
@click.option("-k", "expression", metavar="EXPR", help="Only cases whose names have these words: 'a and not b'.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1_000),
    metavar="COUNT",
    help="How many runs of each case, in place of the file's.",
)
@click.option(
    "--threshold", type=ShareParam(), metavar="SHARE", help="What has to pass, as 0.9 or 90%, in place of the file's."
)
@click.option(
    "--compare", type=ExistingFile(), metavar="FILE",
    help="An earlier result, or another version of the blueprint, which is run as well.",
)  # fmt: skip
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the result as JSON."
)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JUnit XML, too.")
@click.option("--log-level", default="critical", metavar="LEVEL", help="What is logged meanwhile, such as warning.")
@as_json_option
@click.pass_context
def eval_(
    ctx: click.Context,
    file: Path,
    expression: str | None,
    repeat: int | None,
    threshold: float | None,
    compare: Path | None,
    save: Path | None,
    junit: Path | None,
    log_level: str,
    as_json: bool,
) -> None:
    """Run the cases in FILE, each as often as it says, and print how many runs were as expected, what they cost and took.

    They run with the files as they are here, on the real engine with a private server, and with the models of the nearest
    flowcraft.yaml: what these cost is paid. Exit codes: 0 enough runs have passed, 1 too few, 2 a file is wrong.
    """
    from flowcraft_server.evals.results import plain_result, plain_sums, result_of
    from flowcraft_server.observability.logging import configure_logging

    from .eval_output import print_misses, print_result

    refuse_addresses(ctx, "evaluations run")
    evaluation = _read(file, as_json)
    suite = _suite(ctx, evaluation, as_json)
    evaluation = _with_options(evaluation, expression, repeat, threshold)
    judge = _judge(evaluation, suite, as_json)
    before, other = _compared(ctx, compare, suite)
    configure_logging(log_level, "pretty", secrets=suite.secrets)
    runs = _run(evaluation, suite, judge)
    result = result_of(evaluation, suite.chosen[0].id, runs)
    if other is not None:
        before = result_of(evaluation, other.chosen[0].id, _run(evaluation, other, judge))
    found = plain_result(evaluation, result, runs)
    if before is not None:
        found["compared"] = {"with": str(compare), **plain_sums(before)}
    if as_json:
        write_json(found)
    else:
        print_misses(evaluation, runs)
        print_result(result, before)
    if save is not None:
        _write(save, "--save", lambda path: _save(path, found))
    if junit is not None:
        from .junit import write_eval_junit

        _write(junit, "--junit", lambda path: write_eval_junit(evaluation, runs, path))
    if not result.is_enough:
        raise click.exceptions.Exit(EXIT_FAILED)


def _read(file: Path, as_json: bool) -> "Evaluation":
    from flowcraft_server.evals.reading import read_evaluation

    evaluation, diagnostics = read_evaluation(file)
    if evaluation is None:
        return cast("Evaluation", _refuse(diagnostics, as_json))
    return evaluation


def _refuse(diagnostics: "list[Diagnostic]", as_json: bool) -> Any:
    from .diagnostic_output import print_diagnostics

    print_diagnostics(diagnostics, "json" if as_json else "text")
    raise click.exceptions.Exit(EXIT_USAGE)


def _with_options(
    evaluation: "Evaluation", expression: str | None, repeat: int | None, threshold: float | None
) -> "Evaluation":
    """The evaluation as the options change it."""
    from flowcraft_server.evals.model import MOST_RUNS
    from flowcraft_server.testing.selection import selection

    cases = evaluation.cases
    if expression is not None:
        try:
            chooses = selection(expression)
        except ValueError as error:
            raise click.UsageError(f"-k: {error}") from None
        cases = tuple(case for case in cases if chooses(case.name))
        if not cases:
            raise click.UsageError(f"-k {expression}: chooses none of the {len(evaluation.cases)} cases")
    if repeat is not None:
        cases = tuple(replace(case, repeat=repeat) for case in cases)
    if sum(case.repeat for case in cases) > MOST_RUNS:
        raise click.UsageError(f"--repeat {repeat}: an evaluation has {MOST_RUNS:,} runs at most")
    return replace(evaluation, cases=cases, threshold=evaluation.threshold if threshold is None else threshold)


def _suite(ctx: click.Context, evaluation: "Evaluation", as_json: bool) -> "Suite":
    """All that it takes to run the blueprint of the evaluation."""
    from flowcraft_server.blueprints.loading.loader import FORMATS
    from flowcraft_server.blueprints.model import Diagnostic
    from flowcraft_server.blueprints.suggestions import did_you_mean
    from flowcraft_server.evals.linting import check_cases
    from flowcraft_server.testing.suite import load_suite

    def wrong(message: str) -> Any:
        return _refuse([Diagnostic("error", evaluation.positions.of(("blueprint",)), "blueprint", message)], as_json)

    name, config = evaluation.blueprint, given(ctx, "config") or nearest_config()
    path = evaluation.folder / name if Path(name).suffix.lower() in FORMATS else None
    if path is not None and not path.is_file():
        wrong(f"there is no file '{name}' beside this one")
    if path is None and config is None:
        wrong("no flowcraft.yaml here or above that has it: name a blueprint file, or give --config")
    with server_errors():
        suite = load_suite(config, [path] if path is not None else [], profile=given(ctx, "profile"), only=name)
    if not suite.chosen and not suite.diagnostics:
        known = [blueprint.id for blueprint in suite.blueprints]
        wrong(f"no blueprint '{name}'{did_you_mean(name, known) or '; known: ' + ', '.join(known[:8])}")
    suite = _usable(suite, as_json)
    if suite.models is not None:
        suite.models.keep_no_replies()
    problems = check_cases(evaluation, suite.chosen[0])
    if problems:
        _refuse(problems, as_json)
    return suite


def _usable(suite: "Suite", as_json: bool) -> "Suite":
    from flowcraft_server.testing.suite import with_modules

    from .diagnostic_output import print_diagnostics

    suite, problems = with_modules(suite, ())
    if suite.diagnostics:
        _refuse(list(suite.diagnostics), as_json)
    if problems:
        for problem in problems:
            write(problem, err=True)
        raise click.exceptions.Exit(EXIT_USAGE)
    print_diagnostics(suite.warnings, "text")  # on standard error, with --json too
    return suite


def _judge(evaluation: "Evaluation", suite: "Suite", as_json: bool) -> "Judge | None":
    """The model that judges; None if no case asks for one."""
    if not evaluation.has_judge:
        return None
    from flowcraft_server.blueprints.model import Diagnostic
    from flowcraft_server.evals.judge import Judge
    from flowcraft_server.llm.errors import LLMSettingsError

    settings = evaluation.judge
    place = settings.place or next(case.checks.judged[0].place for case in evaluation.cases if case.checks.judged)
    message = "no language model is configured: add one to llm.providers in flowcraft.yaml"
    if suite.models is not None and suite.models.names:
        try:
            provider = suite.models.default if settings.model is None else suite.models.get(settings.model)
            return Judge(suite.models, provider, settings.instructions)
        except LLMSettingsError as error:
            message = str(error)
    shown = evaluation.positions.shown(place)
    _refuse([Diagnostic("error", evaluation.positions.of(place), shown, message)], as_json)
    return None


def _compared(ctx: click.Context, path: Path | None, suite: "Suite") -> "tuple[EvalResult | None, Suite | None]":
    """What to compare with: an earlier result, or the suite of another version of the blueprint."""
    if path is None:
        return None, None
    from flowcraft_sdk._config.regular_file import read_regular_file
    from flowcraft_server.evals.results import FORMAT, NoResults, read_result
    from flowcraft_server.testing.suite import load_suite

    try:
        text = read_regular_file(path, LARGEST_RESULTS).decode("utf-8", "replace")
        if FORMAT in text[:200]:
            return read_result(text), None
    except OSError as error:
        raise click.UsageError(f"--compare {path}: {error.strerror}") from None
    except NoResults as error:
        raise click.UsageError(f"--compare {path}: {error}") from None
    with server_errors():
        other = load_suite(given(ctx, "config") or nearest_config(), [path], profile=given(ctx, "profile"))
    # One set of models: what the first version has recorded answers the second.
    return None, replace(_usable(other, False), models=suite.models)


def _run(evaluation: "Evaluation", suite: "Suite", judge: "Judge | None") -> "list[EvalRun]":
    from flowcraft_server.evals.runs import EvalRunner

    from .eval_output import shown_progress

    count = sum(case.repeat for case in evaluation.cases)
    with server_errors(), entered(suite) as env, shown_progress(count) as on_run:
        try:
            return EvalRunner(env, evaluation, suite.chosen[0].id, judge).run(on_run)
        except KeyboardInterrupt:
            write("interrupted; the runs are cancelled", err=True)
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


def _write(path: Path, option: str, write_to: Callable[[Path], None]) -> None:
    try:
        write_to(path)
    except OSError as error:
        raise click.UsageError(f"{option} {path}: {error.strerror}") from None


def _save(path: Path, found: Any) -> None:
    import json

    from .json_form import json_form

    path.write_text(json.dumps(json_form(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
