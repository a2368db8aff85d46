"""Prints what came of an evaluation: what was not as expected, and a table that fits 80 columns."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flowcraft_sdk.records.usage import dollars
from flowcraft_server.evals.model import Evaluation
from flowcraft_server.evals.results import CaseSum, EvalResult, place_of
from flowcraft_server.evals.runs import EvalRun

from .terminal import console, table, write

MOST_MISSES = 20
"""What was not as expected, as far as it is listed; `--json` has all of it."""

MOST_LINES = 12
"""Lines of a difference."""


@contextmanager
def shown_progress(count: int) -> Iterator[Callable[[EvalRun], None]]:
    """Show on a terminal how many runs have ended; gives what is to be called with each."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]}"))
    with Progress(*columns, console=console(err=True), transient=True) as progress:
        task, failed = progress.add_task("", total=count, failed=""), Counter[str]()

        def note(run: EvalRun) -> None:
            failed["runs"] += not run.passed
            progress.update(task, advance=1, failed=f"{failed['runs']} not as expected" if failed["runs"] else "")

        yield note


def print_misses(evaluation: Evaluation, runs: Sequence[EvalRun]) -> None:
    """Print what was not as expected, once for all runs of a case that have missed the same."""
    found: dict[tuple[int, str], int] = Counter()
    shown: dict[tuple[int, str], tuple[str, Sequence[str]]] = {}
    for run in runs:
        if run.problem:
            key = (run.case, run.problem)
            found[key] += 1
            shown[key] = (f"{place_of(evaluation, run.case, None)}   {_case(evaluation, run)}: {run.problem}", ())
        for miss in run.misses:
            path = evaluation.positions.shown(miss.place)
            key = (run.case, f"{path}: {miss.message} {miss.difference}")
            found[key] += 1
            place = place_of(evaluation, run.case, miss)
            shown[key] = (f"{place}   {_case(evaluation, run)}: {_short(path)}: {miss.message}", miss.difference)
    for key, (line, difference) in list(shown.items())[:MOST_MISSES]:
        of = evaluation.cases[key[0]].repeat
        write(f"{line}  ({found[key]} of {of} runs)" if of > 1 else line, colour="red")
        for each in difference[:MOST_LINES]:
            write(f"    {each}", colour={"-": "red", "+": "green"}.get(each[:1]))
        if len(difference) > MOST_LINES:
            write(f"    ... and {len(difference) - MOST_LINES} lines more")
    if len(shown) > MOST_MISSES:
        write(f"... and {len(shown) - MOST_MISSES} more; --json lists all")
    if shown:
        write()


def _case(evaluation: Evaluation, run: EvalRun) -> str:
    return evaluation.cases[run.case].name


def _short(path: str) -> str:
    """`cases[3].expect.output` from `expect` on: the case is named besides."""
    return path.partition("].")[2] if path.startswith("cases[") and "]." in path else path


def print_result(result: EvalResult, before: EvalResult | None = None) -> None:
    """Print the table and the sums, beside those that they are compared with."""
    from rich.text import Text

    head = ("passed", "was", "cost", "was", "took", "was") if before is not None else ("passed", "cost", "took")
    shown = table("case", *head)
    for column in shown.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for case in result.cases:
        earlier = before.case(case.name) if before is not None else None
        cells = (
            (_passed(case), _passed(earlier), _cost(case), _cost(earlier), _took(case), _took(earlier))
            if before is not None
            else (_passed(case), _cost(case), _took(case))
        )
        style = "" if case.passed == case.runs else "red" if not case.passed else "yellow"
        shown.add_row(Text(case.name), Text(cells[0], style=style), *cells[1:])
    console().print(shown)
    verdict = "" if result.threshold is None else f", {_share(result.threshold)} needed"
    line = f"\n{result.passed} of {result.runs} runs passed ({_share(result.pass_rate)}{verdict})"
    write(line, colour="green" if result.is_enough else "red")
    if before is not None:
        write(f"before: {before.passed} of {before.runs} ({_share(before.pass_rate)}), {before.usage.text}")
    write(f"runs: {result.usage.text}")
    if result.judged.calls:
        write(f"judge: {result.judged.text}")


def _passed(case: CaseSum | None) -> str:
    return "-" if case is None else f"{case.passed}/{case.runs}"


def _cost(case: CaseSum | None) -> str:
    if case is None:
        return "-"
    unknown = "?" if case.usage.unpriced_calls else ""
    return dollars(case.usd).replace("under ", "<") + unknown


def _took(case: CaseSum | None) -> str:
    if case is None:
        return "-"
    seconds = case.seconds
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def _share(share: float) -> str:
    """A share of runs in percent; less than all of them is never shown as all."""
    percent = share * 100
    return f"{percent:.0f} %" if percent in (0, 100) else f"{min(percent, 99.9):.1f} %".replace(".0 ", " ")
