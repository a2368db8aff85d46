"""What `flowcraft` prints: for people on a terminal, plain in a pipe, JSON for machines."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowcraft_server.observability.terminal import plain_text

from .terminal import console, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import (
        DeadLetter,
        Defect,
        NodeAttempt,
        NodeSnapshot,
        RunEvent,
        RunSnapshot,
        RunSummary,
        WaitPoint,
    )

WAITS_FOR = {
    "signal": "a signal",
    "webhook": "a webhook",
    "timer": "its time",
    "batch": "its items",
    "dynamic": "the nodes that it added",
    "fallback": "its fallback",
}
_STYLES = {
    "completed": "green",
    "failed": "red",
    "lost": "red",
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
    plain = snapshot.model_dump(include={"run_id", "blueprint_id", "status", "failures", "cancel"})
    return {**plain, "output": snapshot.output}


def print_runs(runs: Iterable["RunSummary"]) -> None:
    """Print a table of runs."""
    from rich.table import Table

    table = Table("run", "blueprint", "status", "created", "took", box=None, pad_edge=False, header_style="bold")
    for run in runs:
        took = _took(run.started_at, run.ended_at)
        table.add_row(run.run_id, run.blueprint_id, _status(run.status), _time(run.created_at), took)
    console().print(table)


def print_run(run: "RunSnapshot", attempts: "Sequence[NodeAttempt]", *, unfold: bool) -> None:
    """Print a run: its record, its nodes, its failures, and its context if it is there.

    Args:
        run: The run.
        attempts: Those of its history.
        unfold: with a row for each attempt, also those of earlier rounds and of items of batches.
    """
    from rich.table import Table
    from rich.text import Text

    out = console()
    for title, value in _facts(run).items():
        out.print(Text.assemble((f"{title:<11}", "bold"), value))
    table = Table("node", "status", "attempts", "took", "", box=None, pad_edge=False, header_style="bold")
    rows = _by_node(attempts)
    for node_id, node in run.nodes.items():
        took = _took(node.started_at, node.ended_at, node.waited)
        about = ", ".join(part for part in (_folded(rows.get(node_id, ()), unfold), _about(node)) if part)
        table.add_row(Text(node_id), _status(node.status), str(node.attempts or ""), took, Text(_line(about)))
        for row in rows.get(node_id, ()) if unfold else ():
            took = _took(row.started_at, row.ended_at, row.waited)
            name, why = Text(f"  {_row_name(row)}", style="dim"), row.error.summary if row.error else ""
            table.add_row(name, _status(row.status), str(row.attempt), took, Text(_line(why)))
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


def _about(node: "NodeSnapshot") -> str:
    error = node.error.summary if node.error is not None else ""
    if node.caught_by_fallback:
        return f"its fallback stood in; {error}"
    if node.waiting_for is not None and not node.child_run_id:
        return node.message or f"waits for {WAITS_FOR.get(node.waiting_for, node.waiting_for)}"
    if str(node.status) == "completed":
        error = ""  # of an attempt before the one that succeeded: `--attempts` shows it
    return error or node.message or node.child_run_id or ""


def _by_node(attempts: "Iterable[NodeAttempt]") -> "dict[str, list[NodeAttempt]]":
    """The attempts of each node that has more of them than its own row shows."""
    rows: dict[str, list[NodeAttempt]] = {}
    for attempt in attempts:
        rows.setdefault(attempt.node_id, []).append(attempt)
    for node, found in rows.items():
        own = [row for row in found if row.item is None]
        if len(own) == 1 and not own[0].round and own[0].status != "failed":
            rows[node] = [row for row in found if row.item is not None]
    return {node: found for node, found in rows.items() if found}


def _folded(rows: "Sequence[NodeAttempt]", unfold: bool) -> str:
    """A summary of a node's rounds and items in place of their rows."""
    if unfold:
        return ""
    rounds = len({row.round for row in rows})
    items = {(row.item, row.round): row.status for row in rows if row.item is not None}
    failed = sum(status == "failed" for status in items.values())
    parts = [f"{rounds} rounds"] if rounds > 1 else []
    if items:
        parts.append(f"{len(items)} items" + (f" ({failed} failed)" if failed else ""))
    return ", ".join(parts)


def _row_name(row: "NodeAttempt") -> str:
    item = f"[{row.item}]" if row.item is not None else ""
    return f"{row.node_id}{item}" + (f" round {row.round}" if row.round else "")


def _asked(run_id: str, point: "WaitPoint") -> str:
    """What a node waits for, and how to answer it."""
    prompt = f": {_line(point.prompt)}" if point.prompt is not None else ""
    offered = [str(action) for action in point.actions or ()]
    until = f" until {_time(point.expires_at)}" if point.expires_at is not None else ""
    words = ["flowcraft", "signal", run_id, point.node_id]
    if offered:
        words += ["--action", offered[0]]
    required = point.payload_schema.get("required") if isinstance(point.payload_schema, Mapping) else None
    for name in required if isinstance(required, list) else ():
        words += ["-i", f"{name}=..."]
    others = f"   (or {', '.join(offered[1:])})" if offered[1:] else ""
    return (
        f"{_line(point.node_id)} waits{until}{prompt}" + f"\n  {plain_text(shlex.join(words), one_line=True)}{others}"
    )


def print_dead_letters(dead_letters: "Iterable[DeadLetter]") -> None:
    """Print a table of dead letters."""
    from rich.table import Table
    from rich.text import Text

    table = Table("run", "node", "blueprint", "given up", "run is", "", box=None, pad_edge=False, header_style="bold")
    for letter in dead_letters:
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
    about = ", ".join(
        f"{key} {_shown_value(key, value)}"
        for key, value in event.data.items()
        if value not in (None, "") and key != "ready_at"
    )
    return f"{event.at.astimezone():%H:%M:%S.%f}"[:-3] + f"  {event.node_id or '(run)':<28} {what:<16} {about}".rstrip()


def _shown_value(key: str, value: Any) -> str:
    """A part of an event's data in a line; of an error its type and message."""
    if key == "error" and isinstance(value, dict):
        from flowcraft_sdk import NodeFailure

        return _line(NodeFailure(node_id="", type=str(value.get("type")), message=str(value.get("message"))).summary)
    return _line(value)


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


def _took(start: datetime | None, end: datetime | None, waited: float = 0.0) -> str:
    if start is None or end is None:
        return ""
    return f"{(end - start).total_seconds():.2f} s" + (f" (waited {waited:.2f})" if waited >= 0.005 else "")


def _line(value: Any, most: int = 120) -> str:
    text = plain_text(" ".join(str(value).split()), one_line=True)
    return text if len(text) <= most else text[: most - 3] + "..."
