"""`flowcraft cancel`, `rerun`, `rm`, `list` and `events`: one run, or all that a filter names."""

from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from .client_errors import EXIT_FAILED
from .client_input import DurationParam, MomentParam, start_context
from .client_output import event_line, print_runs
from .counts import counted
from .shared_options import as_json_option
from .terminal import write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import BulkOutcome, Client

STATUSES = (
    "scheduled",
    "queued",
    "running",
    "waiting",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
)
Connect = Callable[[], "Client"]
Decorated = Callable[..., Any]


def _stacked(*options: Callable[[Decorated], Decorated]) -> Callable[[Decorated], Decorated]:
    def add(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return add


filter_options = _stacked(
    click.option("--status", "statuses", multiple=True, type=click.Choice(STATUSES), metavar="STATUS",
                 help=f"Only runs in this status: {', '.join(STATUSES)}."),
    click.option("--blueprint", metavar="ID", help="Only runs of this blueprint."),
    click.option("--tag", metavar="TAG", help="Only runs with this tag."),
    click.option("--since", type=MomentParam(), metavar="WHEN", help="Only runs since then: 1d for a day ago, or 2026-01-31."),
    click.option("--until", type=MomentParam(), metavar="WHEN", help="Only runs before then."),
)  # fmt: skip
bulk_options = _stacked(
    filter_options,
    click.option("--limit", type=click.IntRange(min=1), help="At most so many of them, the newest."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Only say which runs these are."),
)


def _filter(
    statuses: tuple[str, ...], blueprint: str | None, tag: str | None, since: datetime | None, until: datetime | None
) -> dict[str, Any]:
    from flowcraft_sdk import RunStatus

    given = {
        "status": [RunStatus(name) for name in statuses] or None,
        "blueprint_id": blueprint,
        "tag": tag,
        "started_after": since,
        "started_before": until,
    }
    return {name: value for name, value in given.items() if value is not None}


class _Bulk:
    """An action on all runs that a filter names: they are counted, then it is asked.

    Args:
        action: as `Admin.preview_runs` has it.
        verb, done: of the question, and of what is printed.
    """

    def __init__(self, action: str, verb: str, done: str) -> None:
        self._action = action
        self._verb = verb
        self._done = done

    def run(
        self,
        client: "Client",
        wanted: dict[str, Any],
        act: Callable[..., Iterator["BulkOutcome"]],
        *,
        limit: int | None,
        yes: bool,
        dry_run: bool,
        as_json: bool,
    ) -> None:
        """Ask, act, and print what came of each run; exit code 1 if something could not be done."""
        preview = client.admin.preview_runs(self._action, **wanted, limit=limit)  # type: ignore[arg-type]
        if dry_run:
            if as_json:
                write_json({"count": preview.count, "first": list(preview.first)})
            else:
                self._show(preview.count, preview.first, err=False)
            return
        if not yes:
            if as_json:
                raise click.UsageError(
                    f"it asks before it acts on {counted(preview.count, 'run')}; with --json give --yes too"
                )
            self._show(preview.count, preview.first, err=True)
            if not preview.count:
                return
            click.confirm(f"{self._verb} {counted(preview.count, 'run')}?", abort=True, err=True)
        outcomes = []
        for outcome in act(**wanted, limit=limit):
            outcomes.append(outcome)
            if not as_json:
                what = outcome.new_run_id or (self._done if outcome.done else f"not {self._done}: {outcome.detail}")
                write(f"{outcome.run_id}  {what}")
        failed = sum(not outcome.done for outcome in outcomes)
        if as_json:
            write_json(outcomes)
        else:
            write(f"{len(outcomes) - failed} of {counted(len(outcomes), 'run')} {self._done}", err=True)
        if failed:
            raise click.exceptions.Exit(EXIT_FAILED)

    def _show(self, count: int, first: tuple[str, ...], *, err: bool) -> None:
        more = ", ..." if count > len(first) else ""
        write(counted(count, "run") + (f": {', '.join(first)}{more}" if first else ""), err=err)


def _one_or_many(run_id: str | None, wanted: dict[str, Any], bulk: dict[str, Any]) -> bool:
    """Whether a filter names the runs.

    Raises:
        click.UsageError: both a run and a filter are given, or neither is.
    """
    if run_id is not None and (wanted or bulk["limit"] is not None or bulk["dry_run"]):
        raise click.UsageError("give a RUN, or options that say which runs, not both")
    if run_id is None and not wanted:
        raise click.UsageError("give a RUN, or say which runs: --status, --blueprint, --tag, --since, --until")
    return run_id is None


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--reason", default="", help="Why; kept with the run.")
@click.option(
    "--grace", type=DurationParam(), metavar="SPAN", help="How long running nodes may take to stop; 0 for not at all."
)
@bulk_options
@as_json_option
@click.pass_obj
def cancel(
    connect: Connect,
    /,
    run_id: str | None,
    reason: str,
    grace: float | None,
    statuses: tuple[str, ...],
    blueprint: str | None,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **bulk: Any,
) -> None:
    """Ask RUN and its subflows to stop, or all runs that the options name. A run that had ended stays as it is."""
    wanted = _filter(statuses, blueprint, tag, since, until)
    if _one_or_many(run_id, wanted, bulk):
        client = connect()

        def act(**words: Any) -> Iterator["BulkOutcome"]:
            return client.admin.cancel_runs(**words, reason=reason, grace=grace)

        _Bulk("cancel", "Cancel", "cancelled").run(client, wanted, act, as_json=as_json, **bulk)
        return
    handle = connect().get_handle(run_id or "")
    in_force = handle.cancel(reason, grace=grace)
    now = handle.status()
    if as_json:
        write_json({"run_id": run_id, "cancelled": in_force, "status": now.value})
    else:
        write(now.value if in_force else f"had ended before: {now.value}")


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option(
    "--from", "nodes", multiple=True, metavar="NODE", help="Begin from this node; may be given several times."
)
@click.option("--failed", is_flag=True, help="Only what failed, was cancelled or was never reached.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A context value in place of the old run's.")
@click.option("--current", is_flag=True, help="With the blueprint's current version, not with that of the run.")
@click.option("--id", "new_id", metavar="ID", help="Id of the new run; done again with the same id, it is only found.")
@bulk_options
@as_json_option
@click.pass_obj
def rerun(
    connect: Connect,
    /,
    run_id: str | None,
    nodes: tuple[str, ...],
    failed: bool,
    pairs: tuple[str, ...],
    current: bool,
    new_id: str | None,
    statuses: tuple[str, ...],
    blueprint: str | None,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **bulk: Any,
) -> None:
    """Do the ended RUN again as a new run, and print its id; or all runs that the options name.

    Without --from and --failed the whole run is done again. Otherwise what had finished is taken over and not run again. The old
    run stays as it is. A value of --set is read as for `flowcraft start -i`.
    """
    from flowcraft_sdk import FAILED

    if nodes and failed:
        raise click.UsageError("--from and --failed exclude each other")
    start = FAILED if failed else list(nodes) or None
    version: Any = "current" if current else "same"
    wanted = _filter(statuses, blueprint, tag, since, until)
    if _one_or_many(run_id, wanted, bulk):
        if pairs or new_id is not None:
            raise click.UsageError("--set and --id are for one RUN")
        client = connect()

        def act(**words: Any) -> Iterator["BulkOutcome"]:
            return client.admin.rerun_runs(start, **words, version=version)

        _Bulk("rerun", "Do again", "done again").run(client, wanted, act, as_json=as_json, **bulk)
        return
    patch = start_context(pairs, None, option="--set")
    handle = connect().get_handle(run_id or "").rerun(start, ctx_patch=patch, version=version, run_id=new_id)
    if as_json:
        write_json({"run_id": handle.run_id, "forked_from": run_id, "attached": handle.attached})
    else:
        write(handle.run_id)


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@bulk_options
@as_json_option
@click.pass_obj
def rm(
    connect: Connect,
    /,
    run_id: str | None,
    statuses: tuple[str, ...],
    blueprint: str | None,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
    **bulk: Any,
) -> None:
    """Remove the ended RUN with its child runs, or all ended runs that the options name."""
    wanted = _filter(statuses, blueprint, tag, since, until)
    client = connect()
    if _one_or_many(run_id, wanted, bulk):
        _Bulk("delete", "Remove", "removed").run(client, wanted, client.admin.delete_runs, as_json=as_json, **bulk)
        return
    handle = client.get_handle(run_id or "")
    if not bulk["yes"]:
        if as_json:
            raise click.UsageError("it asks before it removes a run; with --json give --yes too")
        status = handle.status()
        if status.is_terminal:  # of any other one `delete` says why it stays
            click.confirm(f"Remove run {run_id} ({status.replace('_', ' ')})?", abort=True, err=True)
    removed = handle.delete()
    if as_json:
        write_json({"run_id": run_id, "removed": removed})
    else:
        write("removed" if removed else "had been removed before")


@click.command("list")
@filter_options
@click.option("--top", is_flag=True, help="Without child runs.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@as_json_option
@click.pass_obj
def list_(
    connect: Connect,
    statuses: tuple[str, ...],
    blueprint: str | None,
    tag: str | None,
    since: datetime | None,
    until: datetime | None,
    top: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    client = connect()
    found = client.list_runs(**_filter(statuses, blueprint, tag, since, until), limit=None if top else limit)
    runs = list(islice((run for run in found if run.parent_run_id is None), limit) if top else found)
    if as_json:
        write_json(runs)
    else:
        print_runs(runs)
    if not runs and blueprint is not None and blueprint not in (known := [each.id for each in client.blueprints()]):
        from flowcraft_server.blueprints.suggestions import did_you_mean

        write(f"no blueprint '{blueprint}' is published{did_you_mean(blueprint, known)}", err=True)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--follow", "-f", is_flag=True, help="Wait for new events until the run has ended.")
@click.option("--timeout", type=DurationParam(), metavar="SPAN", help="Follow no longer than this.")
@as_json_option
@click.pass_obj
def events(connect: Connect, run_id: str, follow: bool, timeout: float | None, as_json: bool) -> None:
    """Print the history of RUN and of its child runs, a line for each event; with --json an object a line."""
    if timeout is not None and not follow:
        raise click.UsageError("--timeout goes with --follow")
    for event in connect().get_handle(run_id).events(follow=follow, timeout=timeout, children=True):
        if as_json:
            write_json(event, indent=None)
        else:
            write(event_line(event) + (f"  [{event.run_id}]" if event.run_id != run_id else ""))
