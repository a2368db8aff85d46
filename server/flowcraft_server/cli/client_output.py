"""What `flowcraft` prints: for people on a terminal, plain in a pipe, JSON for machines."""

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from flowcraft_server.observability.terminal import plain_text

from .client_errors import EXIT_FAILED
from .counts import counted
from .terminal import console, table, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import (
        DeadLetter,
        Defect,
        LimitInfo,
        LogLine,
        NodeAttempt,
        NodeSnapshot,
        QueueInfo,
        RunEvent,
        RunSnapshot,
        RunSummary,
        ServerProcess,
        WaitPoint,
        WorkerInfo,
    )

MOST_OF_LINE = 4_000
MOST_UNDONE = 20
"""Compensations of a run that are shown."""

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


def print_outcome(snapshot: "RunSnapshot", key: str | None, as_json: bool) -> None:
    """Print the result of an ended run, or how it ended, and leave with the exit code that stands for it.

    Raises:
        click.exceptions.Exit: the run did not complete.
        click.UsageError: its result has no such key.
    """
    from flowcraft_sdk import RunStatus

    completed = snapshot.status is RunStatus.COMPLETED
    if as_json and completed and key is not None:
        write_json(_chosen(snapshot.output, key))
    elif as_json:
        write_json(outcome(snapshot))
    elif completed:
        print_output(_chosen(snapshot.output, key))
    else:
        print_outcome_line(snapshot)
    if not completed:
        raise click.exceptions.Exit(EXIT_FAILED)


def print_outcome_line(snapshot: "RunSnapshot") -> None:
    """Print in one line how a run ended, on standard error."""
    why = snapshot.cancel.reason if snapshot.cancel is not None else ""
    if snapshot.failures and str(snapshot.status) != "completed":
        why = f"node '{snapshot.failures[0].node_id}': {snapshot.failures[0].summary}"
    write(" ".join(f"run {snapshot.run_id} {snapshot.status}{': ' if why else ''}{why}".split()), err=True)


def _chosen(output: Any, key: str | None) -> Any:
    if key is None:
        return output
    if not isinstance(output, dict) or key not in output:
        known = ", ".join(output) if isinstance(output, dict) else "none"
        raise click.UsageError(f"the result has no key '{key}'; its keys: {known}")
    return output[key]


def print_runs(runs: Iterable["RunSummary"]) -> None:
    """Print a table of runs."""
    listed = list(runs)
    has_cost = any(run.usage is not None for run in listed)
    names = ("run", "blueprint", "status", "created", "took", *(("cost",) if has_cost else ()), "")
    shown = table(*names)
    for run in listed:
        took = _took(run.started_at, run.ended_at)
        cost = (run.usage.cost if run.usage is not None else "",) if has_cost else ()
        about = "waits for a limit of concurrent runs" if run.blocked_by else ""
        about = about or (f"rerun of {run.forked_from}" if run.forked_from else "")
        shown.add_row(run.run_id, run.blueprint_id, _status(run.status), _time(run.created_at), took, *cost, about)
    console().print(shown)


def print_run(run: "RunSnapshot", attempts: "Sequence[NodeAttempt]", *, unfold: bool) -> None:
    """Print a run: its record, its nodes, its failures, and its context if it is there.

    Args:
        run: The run.
        attempts: Those of its history.
        unfold: with a row for each attempt, also those of earlier rounds and of items of batches.
    """
    from rich.text import Text

    out = console()
    for title, value in _facts(run).items():
        out.print(Text.assemble((f"{title:<11}", "bold"), value))
    shown = table("node", "status", "attempts", "took", "")
    rows = _by_node(attempts)
    for node_id, node in run.nodes.items():
        took = _took(node.started_at, node.ended_at, node.waited)
        parts = _folded(rows.get(node_id, ()), unfold), _steps_of(node), about_node(node)
        about = ", ".join(part for part in parts if part)
        shown.add_row(Text(node_id), _status(node.status), str(node.attempts or ""), took, Text(one_line(about)))
        for step in node.steps if unfold else ():
            name, why = Text(f"  {one_line(step.name)}", style="dim"), step.error or step.kind
            tries = str(step.tries) if step.tries > 1 else ""
            shown.add_row(name, _status(step.state), tries, _took(step.started_at, step.ended_at), Text(one_line(why)))
        for row in rows.get(node_id, ()) if unfold else ():
            took = _took(row.started_at, row.ended_at, row.waited)
            name, why = Text(f"  {_row_name(row)}", style="dim"), row.error.summary if row.error else ""
            shown.add_row(name, _status(row.status), str(row.attempt), took, Text(one_line(why)))
    out.print()
    out.print(shown)
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


def _steps_of(node: "NodeSnapshot") -> str:
    """How many steps a node has taken."""
    count = node.step_totals.count if node.step_totals is not None else 0
    return counted(count, "step") if count else ""


def about_node(node: "NodeSnapshot") -> str:
    """What is to be known of a node besides its state."""
    error = node.error.summary if node.error is not None else ""
    if node.taken_over:
        return "taken over"
    if node.caught_by_fallback:
        return f"its fallback stood in; {error}"
    if node.waiting_for is not None and not node.child_run_id:
        from flowcraft_sdk.protocol.node_kinds import WAITS_FOR  # here, as the SDK is loaded by now

        waited_for = WAITS_FOR.get(node.waiting_for, node.waiting_for)
        if node.waiting_for == "model" and node.blocked_by is not None:
            waited_for = f"room in {node.blocked_by}"
        return node.message or f"waits for {waited_for}"
    if node.blocked_by is not None:
        return f"waits: {node.blocked_by}"
    if str(node.status) == "completed":
        error = ""  # of an attempt before the one that succeeded: `--attempts` shows it
    return error or node.message or node.child_run_id or _about_compensation(node)


def _about_compensation(node: "NodeSnapshot") -> str:
    """What a node undoes, so that one that is pending for good in a run that completes is not taken for one that is stuck."""
    if node.compensates is None:
        return ""
    if str(node.status) == "pending":
        return f"undoes '{node.compensates}' if the run does not complete"
    return f"undoes '{node.compensates}'"


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
    parts = [counted(rounds, "round")] if rounds > 1 else []
    if items:
        parts.append(counted(len(items), "item") + (f" ({failed} failed)" if failed else ""))
    return ", ".join(parts)


def _row_name(row: "NodeAttempt") -> str:
    item = f"[{row.item}]" if row.item is not None else ""
    return f"{row.node_id}{item}" + (f" round {row.round}" if row.round else "")


def _asked(run_id: str, point: "WaitPoint") -> str:
    """What a node waits for, and how to answer it."""
    prompt = f": {one_line(point.prompt)}" if point.prompt is not None else ""
    offered = [str(action) for action in point.actions or ()]
    until = f" until {_time(point.expires_at)}" if point.expires_at is not None else ""
    words = ["flowcraft", "signal", run_id, point.node_id]
    if offered:
        words += ["--action", offered[0]]
    required = point.payload_schema.get("required") if isinstance(point.payload_schema, Mapping) else None
    for name in required if isinstance(required, list) else ():
        words += ["-i", f"{name}=..."]
    others = f"   (or {', '.join(offered[1:])})" if offered[1:] else ""
    return f"{one_line(point.node_id)} waits{until}{prompt}\n  {plain_text(shlex.join(words), one_line=True)}{others}"


def print_dead_letters(dead_letters: "Iterable[DeadLetter]") -> None:
    """Print a table of dead letters."""
    from rich.text import Text

    shown = table("run", "node", "blueprint", "given up", "run is", "")
    for letter in dead_letters:
        row = (Text(letter.run_id), Text(letter.node_id), letter.blueprint_id, _time(letter.at))
        shown.add_row(*row, _status(letter.status), Text(one_line(letter.reason)))
    console().print(shown)


def print_queues(queues: "Iterable[QueueInfo]") -> None:
    """Print a table of queues."""
    shown = table("queue", "ready", "oldest", "workers", "")
    for queue in queues:
        oldest = f"{queue.oldest_age:.1f} s" if queue.oldest_age is not None else ""
        paused = f"paused since {_time(queue.paused_since)}" if queue.paused_since is not None else ""
        shown.add_row(one_line(queue.name), str(queue.ready), oldest, str(queue.workers), paused)
    console().print(shown)


def print_workers(workers: "Iterable[WorkerInfo]", servers: "Iterable[ServerProcess]") -> None:
    """Print a table of workers, and what is wrong with the files of their servers."""
    servers = list(servers)
    states = {worker: server.state for server in servers for worker in server.workers}
    shown = table("worker", "process", "queues", "runs", "state", "seen")
    for worker in workers:
        process = f"{worker.host}:{worker.pid}"
        queues, state = ",".join(worker.queues), states.get(worker.id, "")
        shown.add_row(worker.id, process, queues, str(worker.concurrency), state, _time(worker.last_seen))
    console().print(shown)
    print_mistakes(servers)


def print_mistakes(servers: "Iterable[ServerProcess]") -> None:
    """Print what server processes have found wrong with their files, on standard error."""
    for server in servers:
        for mistake in server.mistakes:
            write(f"not reloaded by {server.deployment}: {mistake}", err=True, colour="red")


def print_limits(limits: "Iterable[LimitInfo]") -> None:
    """Print a table of limits."""
    from flowcraft_server.config.quantities import format_rate

    head = ("limit", "rate", "at once", "admitted", "waiting", "oldest")
    shown = table(*head)
    for limit in limits:
        rate = format_rate(limit.rate) if limit.rate is not None else ""
        most = str(limit.max_concurrent) if limit.max_concurrent is not None else ""
        oldest = f"{limit.oldest_age:.1f} s" if limit.oldest_age is not None else ""
        shown.add_row(one_line(limit.name), rate, most, str(limit.admitted), str(limit.waiting), oldest)
    console().print(shown)


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


def log_line(line: "LogLine") -> str:
    """What a handler has logged, as one line: when, which node, how severe, what."""
    fields = " ".join(f"{key}={one_line(value)}" for key, value in line.fields.items())
    attempt = f" ({line.attempt})" if line.attempt > 1 else ""
    about = " ".join(part for part in (one_line(line.message, MOST_OF_LINE), fields) if part)
    return f"{line.at.astimezone():%H:%M:%S.%f}"[:-3] + f"  {line.node_id + attempt:<24} {line.level:<8} {about}"


def _shown_value(key: str, value: Any) -> str:
    """A part of an event's data in a line; of an error its type and message."""
    if key == "error" and isinstance(value, dict):
        from flowcraft_sdk import NodeFailure

        return one_line(NodeFailure(node_id="", type=str(value.get("type")), message=str(value.get("message"))).summary)
    return one_line(value)


def _facts(run: "RunSnapshot") -> Mapping[str, Any]:
    facts: dict[str, Any] = {
        "run": run.run_id,
        "blueprint": f"{run.blueprint_id} ({run.blueprint_version[:12]})",
        "status": _status(run.status),
        "created": _time(run.created_at),
        "took": _took(run.started_at, run.ended_at),
        "progress": f"{run.progress.done} of {counted(run.progress.total, 'node')}",
    }
    if run.usage is not None:
        facts["models"] = run.usage.text
    if run.blocked_by is not None:
        facts["waits for"] = one_line(run.blocked_by)
    if run.key is not None:
        facts["key"] = one_line(run.key)
    if run.priority != "normal":
        facts["priority"] = run.priority
    if run.parent_run_id:
        facts["parent"] = run.parent_run_id
    if run.abandoned is not None:
        facts["abandoned"] = f"{_time(run.abandoned.at)}, parent {run.abandoned.cause.replace('_', ' ')}"
    if run.forked_from:
        facts["rerun of"] = run.forked_from
    if run.children:
        facts["children"] = ", ".join(run.children)
    if run.abandoned_children:
        facts["go on"] = one_line(", ".join(run.abandoned_children))
    if run.tags:
        facts["tags"] = ", ".join(run.tags)
    if run.memo is not None:
        facts["memo"] = one_line(json.dumps(run.memo, ensure_ascii=False, default=str))
    if run.cancel is not None:
        facts["cancel"] = run.cancel.reason or "asked for"
    if run.closing is not None:
        facts["closing"] = f"will end as {run.closing}"
    if run.compensations:
        shown = [f"{undone.compensates} ({undone.status})" for undone in run.compensations[:MOST_UNDONE]]
        facts["undoing" if run.closing is not None else "undone"] = one_line(
            ", ".join(shown) + (", ..." if len(run.compensations) > MOST_UNDONE else "")
        )
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


def one_line(value: Any, most: int = 120) -> str:
    """A value as text in one line, shortened."""
    text = plain_text(" ".join(str(value).split()), one_line=True)
    return text if len(text) <= most else text[: most - 3] + "..."
