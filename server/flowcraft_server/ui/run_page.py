"""What the page of a run shows."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from fastapi import Request

from flowcraft_sdk import AsyncHandle
from flowcraft_sdk.records import RunSnapshot, RunSummary, StepRecord
from flowcraft_server.api.access import principal_of
from flowcraft_server.api.runs import PREFIX

from .drawing import counted_states, draw, state_of
from .items import items_of
from .node_panel import panel_of, steps_of
from .opened import MOST_OPENED, OpenedRun, all_of, node_of, opened_runs
from .published import blueprint_of
from .rendering import Renderer, url, with_query
from .waits import waits_of

TABS = (
    ("graph", "Graph"),
    ("timeline", "Timeline"),
    ("events", "Events"),
    ("context", "Context"),
    ("result", "Result"),
)
MOST_CHILDREN = 50


async def run_values(
    request: Request, pages: Renderer, run_id: str, tab: str, node_id: str, ways: Sequence[str] = (), items: str = ""
) -> dict[str, Any]:
    """The values for the template.

    Args:
        tab: Which part of the page is asked for; the graph if there is no such part.
        node_id: The node whose panel is open, or the way to it if it is in a child run that is opened; '' for none.
        ways: The ways to the child runs that are opened in the graph.
        items: Which items of the node are listed: a state, or the number from which on.

    Raises:
        RunNotFoundError: There is no such run.
        RunExpiredError: It is no longer kept.
    """
    tab = tab if tab in dict(TABS) else "graph"
    principal = principal_of(request)
    handle = pages.client.get_handle(run_id)
    seen = await handle.last_event_id()  # before the run is read: what happens between the two is announced, not missed
    run = await handle.describe(ctx=tab == "context" or bool(node_id), outputs=tab == "result" or bool(node_id))
    blueprint = (
        await blueprint_of(pages.client, run.blueprint_id, run.blueprint_version) if tab == "graph" or node_id else None
    )
    opened = await opened_runs(pages.client, run, ways) if tab == "graph" or node_id else ()
    here = url("runs", run_id)

    def tab_href(name: str, node: str | None, open_ways: Sequence[str] = ways) -> str:
        return with_query(here, {"tab": None if name == "graph" else name, "node": node, "open": open_ways})

    values: dict[str, Any] = {
        "run": run,
        "tab": tab,
        "tabs": TABS,
        "tab_href": tab_href,
        "node_href": lambda node: tab_href("graph", node),
        "open_href": lambda way: tab_href("graph", node_id, toggled(ways, way)),
        "chosen": node_id,
        "ancestors": _ancestors(run_id),
        "waits": waits_of(run),
        "node_ids": [name for name in run.nodes if "[" not in name],
        "node": None,
        "live": ""
        if run.status.is_terminal or tab in ("events", "timeline")  # these follow the events themselves
        else _live(run_id, seen, opened),
    }
    if node_id:
        within = _opened_around(opened, node_id)
        if within is not None:
            node_id, blueprint_of_node = node_id[len(within.way) + 1 :], within.blueprint
            handle = pages.client.get_handle(within.run.run_id)
            owner = await handle.describe(ctx=True, outputs=True)
        else:
            owner, blueprint_of_node = run, blueprint
        lines = [line async for line in handle.logs(node_id)] if node_id in owner.nodes else []
        attempts, steps = await handle.attempts(), await _steps(handle, owner, node_id)
        values["node"] = panel_of(pages, principal, blueprint_of_node, node_id, owner, attempts, lines, steps)
        way = values["chosen"][: -len(node_id)]
        values |= {
            "node_run": owner,
            "node_id": node_id,
            "item_list": items_of(owner, node_id, attempts, items),
            "items_query": [("tab", tab), ("node", way + node_id), *(("open", each) for each in ways)],
            "items_href": lambda chosen: with_query(
                here, {"tab": tab, "node": way + node_id, "items": chosen, "open": ways}
            ),
            "item_href": lambda instance: tab_href("graph", way + node_id, toggled(ways, way + instance)),
        }
    if tab == "graph":
        values["drawing"] = (
            draw(request.app.state.layouts, run.blueprint_version, blueprint, run, None, opened)
            if blueprint is not None
            else None
        )
        values["state_counts"] = counted_states(sorted(state_of(node) for node in run.nodes.values()))
        values["children"] = await _children(pages, run)
    elif tab == "context":
        values["context"] = [(key, pages.shown(principal, value, key)) for key, value in (run.ctx or {}).items()]
    elif tab == "result":
        values["output"] = pages.shown(principal, run.output)
    return values


def toggled(ways: Sequence[str], way: str) -> list[str]:
    """The ways to what is opened once one is opened or closed: with it closes what is in it, or another item of its batch."""
    if way in ways:
        return [each for each in ways if each != way and not each.startswith(f"{way}/")]
    node = node_of(way) if way.endswith("]") else way
    others = [each for each in ways if not each.startswith(f"{node}[")] if way.endswith("]") else list(ways)
    return [*others, way][-MOST_OPENED:]


def _live(run_id: str, seen: str, opened: Sequence[OpenedRun]) -> str:
    """The address of the stream that announces changes of a run, and of those that are opened in it."""
    going_on = [each for each in all_of(opened) if not each.run.status.is_terminal]
    if not going_on:
        return f"{PREFIX}/runs/{quote(run_id, safe='')}/events?after={seen}"
    return with_query(
        f"{url('runs', run_id)}/changes",
        {"child": [each.run.run_id for each in going_on], "after": [seen, *(each.seen for each in going_on)]},
    )


def _opened_around(opened: Sequence[OpenedRun], way: str) -> OpenedRun | None:
    """The opened run that a node is in, by the way to it."""
    around = [each for each in all_of(opened) if way.startswith(f"{each.way}/")]
    return max(around, key=lambda each: len(each.way), default=None)


def _ancestors(run_id: str) -> list[str]:
    """The runs above a child run, the outermost first: their ids are the beginnings of its own."""
    parts = run_id.split("~")
    return ["~".join(parts[:number]) for number in range(1, len(parts))]


async def _steps(handle: AsyncHandle[Any], run: RunSnapshot, node_id: str) -> list[StepRecord]:
    """The steps of a node: those that are recorded, else those of the history."""
    node = run.nodes.get(node_id)
    if node is None or node.step_totals is None:
        return []
    return list(node.steps) or steps_of(node_id, [event async for event in handle.events(follow=False)])


async def _children(pages: Renderer, run: RunSnapshot) -> list[RunSummary]:
    if not run.children:
        return []
    return [child async for child in pages.client.list_runs(parent=run.run_id, limit=MOST_CHILDREN)]
