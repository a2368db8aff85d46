"""The nodes that an agent has added for its tool calls: their ids, and what they have come to."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai import ToolApproved, ToolDenied, ToolFailed
from pydantic_ai.messages import ToolCallPart

from flowcraft_sdk.node import DynamicNode
from flowcraft_sdk.protocol import wire
from flowcraft_server.agents.tools import Tool
from flowcraft_server.engine.contexts import AwaitedNodeContext

LONGEST_OWNER = 100
LONGEST_TOOL = 64
LONGEST_FAILURE = 2_000
LONGEST_SHOWN = 8_000
"""Characters of a call's arguments, as far as they are shown for its approval."""

LONGEST_REASON = 2_000
APPROVAL = "-approval"
APPROVE, REFUSE, TIMED_OUT = "approve", "refuse", "timeout"
_ENDED = ("C", "F", "K", "X")


@dataclass(frozen=True, slots=True)
class Ended:
    """A node that was added and has ended.

    Attributes:
        output: what it has put out.
        action: the action that it has chosen.
        failure: type and message of what it failed with; empty if it completed.
    """

    output: Any = None
    action: str = ""
    failure: str = ""


AGREED = Ended(action=APPROVE)


@dataclass(slots=True)
class Answers:
    """What came of some tool calls.

    Attributes:
        results: by the id of the call, what the model is answered.
        approvals: by the id of a call that the agent makes itself, whether it is made.
        missing: nodes that have to be added first.
    """

    results: dict[str, Any] = field(default_factory=dict)
    approvals: dict[str, bool | ToolApproved | ToolDenied] = field(default_factory=dict)
    missing: list[DynamicNode] = field(default_factory=list)


class ToolNodes:
    """The nodes of an agent's tool calls, numbered in the order of the calls, which is the same in each attempt.

    Args:
        ctx: of the agent's handler.
        tools: by name.
        approve: those whose calls wait until a person agrees.
        approval_timeout: how long; None for good.
    """

    def __init__(
        self,
        ctx: AwaitedNodeContext,
        tools: Mapping[str, Tool],
        approve: Collection[str] = (),
        approval_timeout: str | None = None,
    ) -> None:
        self._ctx = ctx
        self._tools = tools
        self._approve = frozenset(approve)
        self._approval_timeout = approval_timeout
        self._counts: Counter[str] = Counter()
        self._owner = _owner_part(ctx.node_id, ctx._attempt.claim.iterations, ctx._attempt.plan.blueprint_nodes, tools)

    async def answers(self, calls: Sequence[ToolCallPart], approvals: Sequence[ToolCallPart] = ()) -> Answers:
        """What the calls have come to, as far as their nodes have ended.

        Args:
            calls: those that nodes make.
            approvals: those that the agent makes itself, once a person agrees.
        """
        found = Answers()
        await self._add_approvals(found, approvals)
        ids = [self._next_id(call.tool_name) for call in calls]
        asked = [f"{node_id}{APPROVAL}" for node_id in ids]
        ended = await self._ended([*ids, *asked])
        for call, node_id, asked_id in zip(calls, ids, asked, strict=True):
            arguments = call.args_as_dict()
            approval = ended[asked_id] if call.tool_name in self._approve else AGREED
            if approval is None:
                found.missing.append(self._approval(asked_id, call.tool_name, arguments))
            elif approval.action != APPROVE:
                found.results[call.tool_call_id] = ToolFailed(_refusal(approval))
            elif (answer := ended[node_id]) is None:
                found.missing.append(self._tools[call.tool_name].node(node_id, arguments))
            else:
                found.results[call.tool_call_id] = ToolFailed(answer.failure) if answer.failure else answer.output
        return found

    async def _add_approvals(self, found: Answers, calls: Sequence[ToolCallPart]) -> None:
        ids = [f"{self._next_id(call.tool_name)}{APPROVAL}" for call in calls]
        ended = await self._ended(ids)
        for call, node_id in zip(calls, ids, strict=True):
            approval = ended[node_id]
            if approval is None:
                found.missing.append(self._approval(node_id, call.tool_name, call.args_as_dict()))
            elif approval.action == APPROVE:
                found.approvals[call.tool_call_id] = ToolApproved()
            else:
                found.approvals[call.tool_call_id] = ToolDenied(_refusal(approval))

    def _approval(self, node_id: str, tool: str, arguments: Mapping[str, Any]) -> DynamicNode:
        """The node that waits for a person, and shows the call as it is to be made."""
        shown = json.dumps(arguments, ensure_ascii=False, indent=2)
        if len(shown) > LONGEST_SHOWN:
            shown = f"{shown[:LONGEST_SHOWN]}... ({len(shown):,} characters)"
        params = {"prompt": f"{self._ctx.node_id} asks to call {tool} with\n{shown}", "actions": [APPROVE, REFUSE]}
        if self._approval_timeout is not None:
            params |= {"timeout": self._approval_timeout, "onTimeout": TIMED_OUT}
        return DynamicNode(node_id, "wait", params)

    def _next_id(self, tool: str) -> str:
        self._counts[tool] += 1
        return f"{self._owner}-{_id_part(tool, LONGEST_TOOL)}-{self._counts[tool]}"

    async def _ended(self, ids: Sequence[str]) -> dict[str, Ended | None]:
        if not ids:
            return {}
        context = self._ctx.context
        fields = [f"{prefix}:{node_id}" for node_id in ids for prefix in "nofa"]
        read = await context._read(context._run_key, fields)
        return {node_id: _ended(*read[4 * number : 4 * number + 4]) for number, node_id in enumerate(ids)}


def _ended(state: bytes | None, output: bytes | None, failure: bytes | None, action: bytes | None) -> Ended | None:
    letter = state[:1].decode() if state else ""
    if letter not in _ENDED:
        return None
    if letter in ("F", "X"):
        about = wire.loads(failure) if failure is not None else {}
        kind, message = str(about.get("type") or "").rpartition(".")[2], str(about.get("message") or "it was cancelled")
        return Ended(failure=(f"{kind}: {message}" if kind else message)[:LONGEST_FAILURE])
    return Ended(None if output is None else wire.loads(output), action.decode() if action else "")


def _refusal(approval: Ended) -> str:
    """What the model is answered when a person has not agreed to a call. The reason is the person's, given on as it is."""
    if approval.action == TIMED_OUT:
        return "this call was not agreed to in time, so it was not made"
    reason = approval.output
    if isinstance(reason, Mapping):
        reason = reason.get("reason")
    text = f": {str(reason)[:LONGEST_REASON]}" if reason not in (None, "", True, False) else ""
    return f"a person refused this call, so it was not made{text}"


def _id_part(name: str, longest: int) -> str:
    """A name in a form that ids may have; two names do not come to the same."""
    part = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:longest]
    return part if part == name else f"{part}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _owner_part(node_id: str, iterations: Sequence[int], others: Collection[str], tools: Collection[str]) -> str:
    """The beginning of the ids: the agent's node, in a form that ids may have, and the round of its loop.

    Where ids that begin so might be those of something else, a digest is in them: `a` with the tool `b-c` and `a-b` with `c`
    would both have `a-b-c-1`, and one of them the other's answer.

    Args:
        node_id: the agent's node.
        iterations: rounds of the loops around it.
        others: nodes of the blueprint, this one too if it is not a dynamic one.
        tools: names of the agent's tools.
    """
    part = _id_part(node_id, LONGEST_OWNER)
    is_alike = any(other.startswith(f"{node_id}-") or node_id.startswith(f"{other}-") for other in others)
    if part == node_id and (is_alike or node_id not in others or any(tool.startswith("round") for tool in tools)):
        part += f"-{_digest(node_id)}"
    return "-".join([part, *(f"round{number + 1}" for number in iterations if any(iterations))])
