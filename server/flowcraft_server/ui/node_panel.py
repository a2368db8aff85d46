"""What the panel beside a graph says of a node."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from flowcraft_sdk.protocol.node_kinds import BUILTIN_USES
from flowcraft_sdk.records import (
    LogLine,
    NodeAttempt,
    NodeSnapshot,
    RunEvent,
    RunSnapshot,
    StepFailedEvent,
    StepRecord,
    StepRecordedEvent,
)
from flowcraft_sdk.records.counts import counted
from flowcraft_server.api.access import Principal
from flowcraft_server.api.runs import PREFIX
from flowcraft_server.blueprints.model import Blueprint

from .drawing import state_of
from .rendering import Renderer

MOST_ATTEMPTS = 50
MOST_LINES = 200
MOST_STEPS = 100
LONGEST_FACT = 60
"""Characters of a detail of a step that stands in its line."""

STEP_TEXTS = {"prompt": "Prompt", "reply": "Reply"}
"""Details of a step that are texts, with their titles."""

MISSING = object()


@dataclass(frozen=True)
class StepRow:
    """A step.

    Attributes:
        record: What is known of it.
        about: Its details in one line.
        texts: What it was asked and what it has given, each with a title.
    """

    record: StepRecord
    about: str = ""
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class NodePanel:
    """A node.

    Attributes:
        uses: What it runs.
        state: Its state, `none` in a blueprint.
        snapshot: What is known of it in a run.
        output: Its output as text.
        inputs: Name, source and value of each input; the value is None if it is not there.
        params: Its params as text.
        config: Its settings as text.
        attempts: Its attempts, the last ones.
        more_attempts: How many came before those.
        rounds: Whether it is in a loop.
        items: Whether it is done for items.
        steps: Its steps, the last ones: those that are recorded, and once it has ended those of the history.
        more_steps: How many came before those.
        lines: What its handler has logged, the last lines.
        more_lines: How many came before those.
        stream: Address of what it streams; empty for a node that cannot.
    """

    uses: str
    state: str = "none"
    snapshot: NodeSnapshot | None = None
    output: str | None = None
    inputs: tuple[tuple[str, str, str | None], ...] = ()
    params: str = ""
    config: str = ""
    attempts: tuple[NodeAttempt, ...] = ()
    more_attempts: int = 0
    rounds: bool = False
    items: bool = False
    steps: tuple[StepRow, ...] = ()
    more_steps: int = 0
    lines: tuple[LogLine, ...] = ()
    more_lines: int = 0
    stream: str = ""


def panel_of(
    pages: Renderer,
    principal: Principal,
    blueprint: Blueprint | None,
    node_id: str,
    run: RunSnapshot | None = None,
    attempts: Sequence[NodeAttempt] = (),
    lines: Sequence[LogLine] = (),
    steps: Sequence[StepRecord] = (),
) -> NodePanel | None:
    """The panel of a node; None if there is no such node.

    Args:
        pages: Writes values.
        principal: The sender of the request.
        blueprint: Where the node is declared; None if its version is no longer kept.
        node_id: Id of the node.
        run: A run with its context and outputs.
        attempts: The run's attempts.
        lines: What the node has logged.
        steps: Its steps.
    """
    declared = next((node for node in blueprint.nodes if node.id == node_id), None) if blueprint is not None else None
    snapshot = run.nodes.get(node_id) if run is not None else None
    if declared is None and snapshot is None:
        return None
    found: Mapping[str, Any] = (
        declared.to_plain() if declared is not None else {"uses": "a node made while the run went"}
    )
    own = [attempt for attempt in attempts if attempt.node_id == node_id]
    return NodePanel(
        uses=str(found["uses"]),
        state=state_of(snapshot) if snapshot is not None else "none" if run is None else "pending",
        snapshot=snapshot,
        output=pages.shown(principal, snapshot.output)
        if snapshot is not None and snapshot.output is not None
        else None,
        inputs=tuple(_inputs(pages, principal, found.get("inputs"), run)),
        params=pages.shown(principal, found["params"]) if found.get("params") else "",
        config=pages.shown(principal, found["config"]) if found.get("config") else "",
        attempts=tuple(own[-MOST_ATTEMPTS:]),
        more_attempts=max(0, len(own) - MOST_ATTEMPTS),
        rounds=any(attempt.round for attempt in own),
        items=any(attempt.item is not None for attempt in own),
        steps=tuple(_step_row(pages, principal, step) for step in steps[-MOST_STEPS:]),
        more_steps=max(0, len(steps) - MOST_STEPS),
        lines=tuple(lines[-MOST_LINES:]),
        more_lines=max(0, len(lines) - MOST_LINES),
        stream=""
        if run is None or found["uses"] in BUILTIN_USES
        else f"{PREFIX}/runs/{quote(run.run_id, safe='')}/nodes/{quote(node_id, safe='')}/stream",
    )


def _inputs(
    pages: Renderer, principal: Principal, inputs: Any, run: RunSnapshot | None
) -> list[tuple[str, str, str | None]]:
    if inputs is None:
        return []
    named = inputs if isinstance(inputs, Mapping) else {"input": inputs}
    rows = []
    for name, source in named.items():
        value = _value_at(run.ctx or {}, source) if run is not None and isinstance(source, str) else MISSING
        text = source if isinstance(source, str) else pages.shown(principal, source)
        rows.append((str(name), text, None if value is MISSING else pages.shown(principal, value, str(name))))
    return rows


def _value_at(context: Mapping[str, Any], path: str) -> Any:
    """The value of a path in a context; what is written as an expression has none here."""
    if path in context:
        return context[path]
    value: Any = context
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def _step_row(pages: Renderer, principal: Principal, step: StepRecord) -> StepRow:
    """A step with its details: of a model call those that are asked for first, then what else is short, then the texts."""
    left = {name: value for name, value in step.details.items() if value is not None}
    facts = []
    if {"input", "output"} <= left.keys():
        names = dict.fromkeys(str(left.pop(name, "")) for name in ("provider", "model"))
        tokens = f"{counted(left.pop('input'), 'token')} in, {left.pop('output')} out"
        cached, usd, reason = left.pop("cached", 0), left.pop("usd", None), left.pop("finishReason", "stop")
        left.pop("ms", None)
        facts = [*filter(None, names), tokens + (f", {cached} cached" if cached else "")]
        facts += [f"${usd:.4g}"] if isinstance(usd, int | float) else []
        facts += [f"ended by {reason}"] if reason != "stop" else []
    texts = []
    for name, value in left.items():
        shown = pages.shown(principal, value, name)
        if name in STEP_TEXTS or len(shown) > LONGEST_FACT:
            texts.append((STEP_TEXTS.get(name, name), shown))
        else:
            facts.append(f"{name} {shown}")
    if step.value is not None and not texts:
        texts.append(("Value", pages.shown(principal, step.value, step.name)))
    return StepRow(step, " · ".join(facts), tuple((title, text) for title, text in texts if text))


def steps_of(node_id: str, events: Iterable[RunEvent]) -> list[StepRecord]:
    """The steps of a node as the history has them: without what they have given.

    Args:
        node_id: Id of the node; the steps of its rounds and items are among them.
        events: The history.
    """
    found = []
    for event in events:
        if not isinstance(event, StepRecordedEvent) or _node_of(event.node_id or "") != node_id:
            continue
        failed = isinstance(event, StepFailedEvent)
        found.append(
            StepRecord(
                name=event.name,
                kind=event.kind,  # type: ignore[arg-type]
                state="failed" if failed else "completed",
                started_at=event.at - timedelta(seconds=float(event.data.get("seconds", 0))),
                ended_at=event.at,
                bytes=int(event.data.get("bytes", 0)),
                tries=int(event.data.get("tries", 1)),
                details=event.data.get("details", {}),
                error=event.error.summary if isinstance(event, StepFailedEvent) else "",
            )
        )
    return found


def _node_of(instance: str) -> str:
    return instance.partition("#")[0].partition("[")[0]
