"""What `flowcraft` prints: for people on a terminal, plain in a pipe, JSON for machines."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowcraft_server.observability.terminal import plain_text

from .terminal import console, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import DeadLetter, Defect, RunEvent, RunSnapshot, RunSummary, WaitPoint

_STYLES = {
    "completed": "green",
    "failed": "red",
    "timed_out": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "running": "cyan",
    "retrying": "magenta",
}


def print_output(output: Any) -> None:
    """Print a result: a text as it is, anything else as JSON."""
    if isinstance(output, str):
        write(output)
    else:
        write_json(output)


def outcome(snapshot: "RunSnapshot") -> dict[str, Any]:
    """How a run ended, as JSON values."""
    plain = snapshot.model_dump(mode="json", include={"run_id", "blueprint_id", "status", "failures", "cancel"})
    return {**plain, "output": snapshot.output}


def print_runs(runs: Iterable["RunSummary"]) -> None:
    """Print a table of runs."""
    from rich.table import Table

    table = Table("run", "blueprint", "status", "created", "took", box=None, pad_edge=False, header_style="bold")
    for run in runs:
        took = _took(run.started_at, run.ended_at)
        table.add_row(run.run_id, run.blueprint_id, _status(run.status), _time(run.created_at), took)
    console().print(table)


def print_run(run: "RunSnapshot") -> None:
    """Print a run: its record, its nodes, its failures, and its context if it is there."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    for name, value in _facts(run).items():
        out.print(Text.assemble((f"{name:<11}", "bold"), value))
    table = Table("node", "status", "attempts", "took", "", box=None, pad_edge=False, header_style="bold")
    for node_id, node in run.nodes.items():
        about = node.error.summary if node.error is not None else node.message or node.child_run_id or ""
        took = _took(node.started_at, node.ended_at)
        table.add_row(Text(node_id), _status(node.status), str(node.attempts or ""), took, Text(_line(about)))
    out.print()
    out.print(table)
    for point in run.waiting:
        if point.kind in ("signal", "webhook"):
            out.print(Text(f"\n{_asked(run.run_id, point)}", style="cyan"))
    for failure in run.failures:
        out.print(Text(f"\n{failure.node_id} failed: {failure.summary}", style="red"))
        if failure.traceback:
            out.print(Text(failure.traceback.rstrip(), style="dim"))
    if run.ctx is not None:
        out.print()
        write_json(dict(run.ctx))


def _asked(run_id: str, point: "WaitPoint") -> str:
    """What a node waits for, and how to answer it."""
    prompt = f": {_line(point.prompt)}" if point.prompt is not None else ""
    actions = f" --action {'|'.join(map(str, point.actions))}" if point.actions else ""
    until = f" until {_time(point.expires_at)}" if point.expires_at is not None else ""
    return f"{point.node_id} waits{until}{prompt}\n  flowcraft signal {run_id} {point.node_id}{actions}"


def print_letters(letters: "Iterable[DeadLetter]") -> None:
    """Print a table of dead letters."""
    from rich.table import Table
    from rich.text import Text

    table = Table("run", "node", "blueprint", "given up", "run is", "", box=None, pad_edge=False, header_style="bold")
    for letter in letters:
        row = (Text(letter.run_id), Text(letter.node_id), letter.blueprint_id, _time(letter.at))
        table.add_row(*row, _status(letter.status), Text(_line(letter.reason)))
    console().print(table)


def print_defects(defects: "Iterable[Defect]") -> None:
    """Print what the doctor found, a line each, and how many there were."""
    found = list(defects)
    for defect in found:
        where = f"run {defect.run_id}: " if defect.run_id else ""
        what = f"repaired ({defect.remedy})" if defect.fixed else f"--fix {defect.remedy}" if defect.remedy else ""
        write(f"{where}{defect.explanation}{'; ' if what else ''}{what}  [{defect.kind}]")
    left = sum(not defect.fixed for defect in found)
    if not found:
        write("nothing hangs, nothing is left over")
    else:
        write(f"{len(found)} found, {len(found) - left} repaired", err=True)


def event_line(event: "RunEvent") -> str:
    """An event as one line: when, which node, what."""
    what = event.type.removeprefix("node_").replace("_", " ")
    about = ", ".join(f"{key} {_line(value)}" for key, value in event.data.items() if value not in (None, ""))
    return f"{event.at.astimezone():%H:%M:%S.%f}"[:-3] + f"  {event.node_id or '(run)':<28} {what:<16} {about}".rstrip()


def _facts(run: "RunSnapshot") -> Mapping[str, Any]:
    facts: dict[str, Any] = {
        "run": run.run_id,
        "blueprint": f"{run.blueprint_id} ({run.blueprint_version[:12]})",
        "status": _status(run.status),
        "created": _time(run.created_at),
        "took": _took(run.started_at, run.ended_at),
        "progress": f"{run.progress.done} of {run.progress.total} nodes",
    }
    if run.parent_run_id:
        facts["parent"] = run.parent_run_id
    if run.children:
        facts["children"] = ", ".join(run.children)
    if run.tags:
        facts["tags"] = ", ".join(run.tags)
    if run.cancel is not None:
        facts["cancel"] = run.cancel.reason or "asked for"
    return facts


def _status(status: str) -> Any:
    from rich.text import Text

    return Text(str(status), style=_STYLES.get(str(status), ""))


def _time(moment: datetime | None) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment is not None else ""


def _took(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.2f} s" if start is not None and end is not None else ""


def _line(value: Any, most: int = 120) -> str:
    text = plain_text(" ".join(str(value).split()), one_line=True)
    return text if len(text) <= most else text[: most - 3] + "..."
