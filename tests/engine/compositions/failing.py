"""Constructs that may fail, and those that catch a failure."""

from typing import Any

from tests.engine.compositions.constructs import CONSTRUCTS, Tree, build, item_result, spread_out
from tests.engine.compositions.program import Built, Seen, Sheet, Tail, digest, made, tail


class ProgramFails(Exception):
    """A run of the program has to fail."""


def fails(value: int) -> bool:
    """Whether a `perhaps` fails that makes this of its input."""
    return value % 3 == 0


def perhaps(sheet: Sheet, behind: Tail) -> Built:
    """A node that fails for good for some values."""
    node = sheet.node("perhaps", behind)

    def meaning(value: Any, seen: Seen) -> Any:
        if fails(digest(node, value)):
            raise ProgramFails(node)
        return made(node)(value, seen)

    return tail(node), meaning


def rescued(sheet: Sheet, behind: Tail, body: Tree) -> Built:
    """A subflow with a fallback."""
    end, meaning = build(sheet, ("subflow", True, body), behind)
    stand_in = sheet.node("step")
    call = next(node for node in reversed(sheet.nodes) if node["uses"] == "subflow")
    call["config"] = {"fallback": stand_in}
    after = (end or {})["source"]

    def whole(value: Any, seen: Seen) -> Any:
        try:
            return meaning(value, seen)
        except ProgramFails:
            return made(after)(made(stand_in)(value, seen), seen)

    return end, whole


def all_or_nothing(sheet: Sheet, behind: Tail, kind: str, count: int, live: int) -> Built:
    """Items of which one that fails is the end of the batch. `caught`: a map's fallback stands in for it."""
    spread = sheet.node("spread", behind, params={"count": count})
    worker = sheet.deployment.new_id("item")
    params: dict[str, Any] = {"label": worker, "errors": "fail"}
    if kind == "pair":
        params = {"workerUsesKey": "item", "gatherNodeId": "", "chunkSize": live, "params": params}
        scatter = sheet.node("sc", tail(spread), uses="batch-scatter", params=params)
        done = sheet.node("ga", tail(scatter), uses="batch-gather")
        params["gatherNodeId"] = done
    else:
        done = sheet.node("map", tail(spread), params={"uses": "item", "maxLive": live, "params": params})
    stand_in = sheet.node("step") if kind == "caught" else ""
    if stand_in:
        sheet.nodes[-2]["config"] = {"fallback": stand_in}
    fold = sheet.node("fold", tail(done))

    def whole(value: Any, seen: Seen) -> Any:
        items = spread_out(made(spread)(value, seen), count)
        failed = any(item % 3 == 1 for item in items)
        if failed and not stand_in:
            raise ProgramFails(worker)
        return made(fold)(
            [made(stand_in)(items, seen)] if failed else [item_result(worker, item) for item in items], seen
        )

    return tail(fold), whole


CONSTRUCTS |= {"perhaps": perhaps, "rescued": rescued, "all_or_nothing": all_or_nothing}
