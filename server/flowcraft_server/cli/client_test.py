"""`flowcraft test`: runs the test cases of blueprint files."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .client_errors import EXIT_FAILED, EXIT_USAGE
from .client_input import DurationParam, nearest_config
from .counts import counted
from .private_server import refuse_addresses, server_errors
from .shared_options import as_json_option, given
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_server.testing.case_run import CaseResult
    from flowcraft_server.testing.suite import Case, Suite


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option(
    "-k", "expression", metavar="EXPR", help="Only tests whose BLUEPRINT::NAME has these words: 'a and not b'."
)
@click.option("--update", is_flag=True, help="Write what was found in place of expected output, outputs and context.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write JUnit XML, too.")
@click.option("--timeout", type=DurationParam(), default=30.0, metavar="SPAN", help="Real time for a test; 30s.")
@click.option(
    "--log-level", default="critical", metavar="LEVEL", help="Show what is logged meanwhile, such as warning."
)
@as_json_option
@click.pass_context
def test(
    ctx: click.Context,
    paths: tuple[Path, ...],
    expression: str | None,
    update: bool,
    junit: Path | None,
    timeout: float,
    log_level: str,
    as_json: bool,
) -> None:
    """Run the `tests:` of blueprints: of files and folders, or of the whole deployment.

    They run on the real engine with a private server and a clock of their own: a sleep of a month takes no time. Exit codes:
    0 all passed, 1 one failed, 2 a file is wrong or there is no test.
    """
    from flowcraft_server.observability.logging import configure_logging
    from flowcraft_server.testing.coverage import Coverage
    from flowcraft_server.testing.suite import load_suite

    from .diagnostic_output import print_diagnostics
    from .test_output import plain_results, print_coverage, print_result, print_summary

    refuse_addresses(ctx, "tests run")
    with server_errors():
        suite = load_suite(given(ctx, "config") or nearest_config(), paths, profile=given(ctx, "profile"))
    if suite.diagnostics:
        print_diagnostics(suite.diagnostics, "json" if as_json else "text")
        raise click.exceptions.Exit(EXIT_USAGE)
    cases = _chosen(suite, expression)
    print_diagnostics(suite.warnings, "text")  # on standard error, with --json too
    configure_logging(log_level, "pretty", secrets=suite.secrets)
    begin = time.perf_counter()
    coverage, results = Coverage(), []
    with server_errors(), suite.runner(coverage, timeout) as runner:
        for note in runner.notes:
            write(f"warning: {note}", err=True)
        for case in cases:
            result = runner.run(case.blueprint, case.index)
            results.append(result)
            if not as_json:
                print_result(result)
    tested = {case.blueprint.id: case.blueprint for case in cases}
    covered = list(coverage.of(tested.values()))
    if as_json:
        write_json(plain_results(results, covered))
    else:
        print_coverage(covered)
        print_summary(results, time.perf_counter() - begin)
    if junit is not None:
        _write_junit(results, junit)
    if update:
        _update(results)
    if not all(result.passed for result in results):
        raise click.exceptions.Exit(EXIT_FAILED)


def _chosen(suite: "Suite", expression: str | None) -> "list[Case]":
    from flowcraft_server.testing.selection import selection

    if not suite.cases:
        raise click.UsageError("no blueprint here has `tests:`")
    if expression is None:
        return list(suite.cases)
    try:
        chooses = selection(expression)
    except ValueError as error:
        raise click.UsageError(f"-k: {error}") from None
    cases = [case for case in suite.cases if chooses(case.id)]
    if not cases:
        raise click.UsageError(f"-k {expression}: chooses none of the {counted(len(suite.cases), 'test')}")
    return cases


def _write_junit(results: "Sequence[CaseResult]", file: Path) -> None:
    from .junit import write_junit

    try:
        write_junit(results, file)
    except OSError as error:
        raise click.UsageError(f"--junit {file}: {error.strerror}") from None


def _update(results: "Sequence[CaseResult]") -> None:
    """Take found values over into the files, and say of each what was written or why not."""
    from flowcraft_server.testing.rewriting import CannotRewrite, rewritten, updates_of

    for name in dict.fromkeys(result.blueprint.file for result in results if result.blueprint.file):
        updates = updates_of([result for result in results if result.blueprint.file == name])
        if not updates:
            continue
        file = Path(name)
        try:
            text = file.read_bytes().decode("utf-8")
            _replace(file, rewritten(text, updates, "json" if file.suffix.lower() == ".json" else "yaml"))
            values = "value was" if len(updates) == 1 else "values were"
            write(f"{name}: {len(updates)} expected {values} written anew", err=True)
        except (CannotRewrite, OSError, UnicodeDecodeError) as error:
            write(f"{name} was not changed: {error}", err=True)


def _replace(file: Path, text: str) -> None:
    """Write a file as a whole or not at all; its permissions stay."""
    descriptor, temporary = tempfile.mkstemp(dir=file.resolve().parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode("utf-8"))
        os.chmod(temporary, file.stat().st_mode & 0o7777)
        os.replace(temporary, file.resolve())
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
