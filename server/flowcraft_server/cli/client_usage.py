"""`flowcraft usage`: what model calls have used lately."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from .shared_options import as_json_option
from .terminal import console, table, write, write_json

if TYPE_CHECKING:
    from flowcraft_sdk import Client, Usage, UsageOfDay

MOST_DAYS = 40
"""As the SDK has it, which is loaded only when the command runs."""

ALL = "all calls"
OTHERS = "(others)"


@click.command()
@click.option(
    "--days", type=click.IntRange(1, MOST_DAYS), default=1, show_default=True, help="So many days back, today included."
)
@click.option("--by", type=click.Choice(("blueprint", "tag", "model")), help="Add up the days by this.")
@as_json_option
@click.pass_obj
def usage(connect: Callable[[], "Client"], days: int, by: str | None, as_json: bool) -> None:
    """Print what model calls have used: calls, tokens and cost of each day, or of all days by blueprint, tag or model.

    Days are those of UTC. A `?` behind a cost says that the price of some calls is not known. A call counts for each tag of its
    run and of the runs above that, so tags may add up to more than all calls. `from cache` counts the calls that the cache of
    replies has answered, which are not among the others; `cached` are tokens of the input that the provider had in its cache.
    """
    rows = connect().usage(days)
    if as_json:
        write_json([row for row in rows if by in (None, row.kind)])
    elif not rows:
        write(f"no model call was answered {'today' if days == 1 else f'in {days} days'} (UTC)", err=True)
    else:
        _print(by or "day", _lines(rows, by))
        if by == "tag" and any(row.kind == "rest" for row in rows):
            write("there are more tags: of each day those that cost the least are not listed", err=True)


def _lines(rows: "Iterable[UsageOfDay]", by: str | None) -> "list[tuple[str, Usage]]":
    """The lines of the table by their names, the sum of all calls last."""
    from flowcraft_sdk.protocol.usage_sums import beyond, total

    rows = list(rows)
    everything = [row for row in rows if row.kind == "all"]
    in_all = total(row.usage for row in everything)
    if by is None:
        lines = [(row.day.isoformat(), row.usage) for row in everything]
        return [*lines, (ALL, in_all)] if len(lines) > 1 else lines
    names: dict[str, list[Usage]] = {}
    for row in rows:
        if row.kind == by:
            names.setdefault(row.name, []).append(row.usage)
    lines = [(name, total(usages)) for name, usages in names.items()]
    lines.sort(key=lambda line: (-line[1].usd, -line[1].tokens, line[0]))
    others = beyond(in_all, (used for _, used in lines)) if by != "tag" else None
    return [*lines, *([(OTHERS, others)] if others else []), (ALL, in_all)]


def _print(head: str, lines: "Iterable[tuple[str, Usage]]") -> None:
    from rich.text import Text

    lines = list(lines)
    any_hits = any(used.cache_hits for _, used in lines)  # there are none without `llm.cache`
    shown = table(head, "calls", *(["from cache"] if any_hits else []), "input", "cached", "output", "cost")
    for column in shown.columns[1:]:
        column.justify, column.no_wrap = "right", True
    for name, used in lines:
        hits = (used.cache_hits,) if any_hits else ()
        counts = (used.calls, *hits, used.input_tokens, used.cached_tokens, used.output_tokens)
        shown.add_row(Text(name), *map(_short, counts), used.cost)
    console().print(shown)


def _short(count: int) -> str:
    """A number that leaves room for names in 80 columns: in millions from ten million on; `--json` has all digits."""
    return f"{count:,}" if count < 10_000_000 else f"{count / 1_000_000:,.1f}M"
