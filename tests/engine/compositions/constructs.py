"""The constructs: each writes its nodes and says what they mean. A construct is a tuple, its name first."""

from typing import Any

from tests.engine.compositions.program import ANSWER, ANY, Built, Meaning, Seen, Sheet, Tail, digest, made, tail

Tree = tuple[Any, ...]


def build(sheet: Sheet, tree: Tree, behind: Tail) -> Built:
    """Write a construct, and all that is inside it, behind a tail."""
    built: Built = CONSTRUCTS[tree[0]](sheet, behind, *tree[1:])
    return built


def step(sheet: Sheet, behind: Tail) -> Built:
    """A plain node."""
    node = sheet.node("step", behind)
    return tail(node), made(node)


def flaky(sheet: Sheet, behind: Tail, attempts: int) -> Built:
    """A node that succeeds at its last attempt."""
    node = sheet.node("flaky", behind, params={"attempts": attempts}, config={"maxRetries": attempts})

    def meaning(value: Any, seen: Seen) -> Any:
        seen[node] += attempts
        return digest(node, value)

    return tail(node), meaning


def sequence(sheet: Sheet, behind: Tail, *parts: Tree) -> Built:
    """One after the other."""
    meanings: list[Meaning] = []
    for part in parts:
        behind, meaning = build(sheet, part, behind)
        meanings.append(meaning)

    def whole(value: Any, seen: Seen) -> Any:
        for meaning in meanings:
            value = meaning(value, seen)
        return value

    return behind, whole


def choice(sheet: Sheet, behind: Tail, by: str, join: str, odd: Tree, even: Tree | None) -> Built:
    """One of two branches, by action or by condition, joined again; without `even` an edge leads around the branch."""
    router = sheet.node("route", behind)
    ways = (
        [tail(router, action="odd"), tail(router, action="even")]
        if by == "action"
        else [tail(router, condition=f"result.output % 2 == {rest}") for rest in (1, 0)]
    )
    if by == "default":
        ways = [tail(router, action="odd"), tail(router)]
    ends, meanings = [], []
    for way, branch in zip(ways, (odd, even), strict=True):
        end, meaning = build(sheet, branch, way) if branch is not None else (way, _same)
        ends.append(end)
        meanings.append(meaning)
    node = sheet.node("step", *ends, config={"joinStrategy": join})

    def whole(value: Any, seen: Seen) -> Any:
        chosen = made(router)(value, seen)
        return made(node)(meanings[0 if chosen % 2 else 1](chosen, seen), seen)

    return tail(node), whole


def _same(value: Any, seen: Seen) -> Any:
    return value


def parallel(sheet: Sheet, behind: Tail, *branches: Tree) -> Built:
    """Branches at one time; what follows has the value of each."""
    fork = sheet.node("step", behind)
    built = [build(sheet, branch, tail(fork)) for branch in branches]
    ends = [end for end, _ in built if end is not None]
    inputs = {f"i{number}": end["source"] for number, end in enumerate(ends)}
    node = sheet.node("step", *ends, inputs=inputs)

    def whole(value: Any, seen: Seen) -> Any:
        value = made(fork)(value, seen)
        return made(node)({f"i{number}": built[number][1](value, seen) for number in range(len(built))}, seen)

    return tail(node), whole


def race(sheet: Sheet, behind: Tail, *branches: Tree) -> Built:
    """Branches at one time; what follows goes on with the first, the others run to their ends."""
    fork = sheet.node("step", behind)
    built = [build(sheet, branch, tail(fork)) for branch in branches]
    node = sheet.node("won", *(end for end, _ in built), config=ANY)

    def whole(value: Any, seen: Seen) -> Any:
        value = made(fork)(value, seen)
        for _, meaning in built:
            meaning(value, seen)
        return made(node)(None, seen)

    return tail(node), whole


def aside(sheet: Sheet, behind: Tail, branch: Tree) -> Built:
    """A branch that nothing follows."""
    fork = sheet.node("step", behind)
    _, meaning = build(sheet, branch, tail(fork))

    def whole(value: Any, seen: Seen) -> Any:
        value = made(fork)(value, seen)
        meaning(value, seen)
        return value

    return tail(fork), whole


def rounds(sheet: Sheet, behind: Tail, count: int, body: Tree) -> Built:
    """A loop-controller that goes round so many times, none included."""
    key = sheet.deployment.new_id("k")
    keep = {"params": {"key": key}}
    begin = sheet.node("begin", behind, **keep)
    condition = {"condition": f"{key}_n < {count}"}
    controller = sheet.node("lc", tail(begin), uses="loop-controller", params=condition, config=ANY)
    head = sheet.node("head", tail(controller, action="continue"), **keep)
    end, meaning = build(sheet, body, tail(head))
    last = sheet.node("keep", end, **keep)
    sheet.link(tail(last), controller)
    after = sheet.node("kept", tail(controller, action="break"), **keep)

    def whole(value: Any, seen: Seen) -> Any:
        seen[begin] += 1
        for _ in range(count):
            seen[head] += 1
            value = meaning(value, seen)
            seen[last] += 1
        return made(after)(value, seen)

    return tail(after), whole


def cycle(sheet: Sheet, behind: Tail, count: int, body: Tree) -> Built:
    """A plain cycle that goes round so many times, once at least."""
    key = sheet.deployment.new_id("k")
    begin = sheet.node("begin", behind, params={"key": key})
    head = sheet.node("count", tail(begin), params={"key": key})
    end, meaning = build(sheet, body, tail(head))
    last = sheet.node("step", end)
    sheet.link(tail(last, condition=f"{key}_n < {count}"), head)
    after = sheet.node("step", tail(last, condition=f"{key}_n >= {count}"))

    def whole(value: Any, seen: Seen) -> Any:
        seen[begin] += 1
        for _ in range(count):
            value = made(last)(meaning(made(head)(value, seen), seen), seen)
        return made(after)(value, seen)

    return tail(after), whole


def guarded(sheet: Sheet, behind: Tail, own: Tree | None) -> Built:
    """A node that fails for odd values and has a fallback, perhaps with a branch of its own."""
    risky = sheet.node("risky", behind)
    stand_in = sheet.node("step")
    sheet.nodes[-2]["config"] = {"fallback": stand_in}
    meaning = build(sheet, own, tail(stand_in))[1] if own is not None else _same
    node = sheet.node("step", tail(risky))

    def whole(value: Any, seen: Seen) -> Any:
        seen[risky] += 1
        if value % 2 == 0:
            return made(node)(digest(risky, value), seen)
        caught = made(stand_in)(value, seen)
        meaning(caught, seen)
        return made(node)(caught, seen)

    return tail(node), whole


def batch(sheet: Sheet, behind: Tail, kind: str, count: int, live: int, errors: str) -> Built:
    """Items, by `map` or by the original's pair; some results are null, some items fail and are collected or tried again."""
    spread = sheet.node("spread", behind, params={"count": count})
    worker = sheet.deployment.new_id("item")
    params = {"label": worker, "errors": errors}
    config = {"onItemError": "collect"} if errors == "collect" else {"maxRetries": 2}
    if kind == "map":
        params = {"uses": "item", "maxLive": live, "params": params}
        done = sheet.node("map", tail(spread), params=params, config=config)
    else:
        params = {"workerUsesKey": "item", "gatherNodeId": "", "chunkSize": live, "params": params}
        scatter = sheet.node("sc", tail(spread), uses="batch-scatter", params=params, config=config)
        done = sheet.node("ga", tail(scatter), uses="batch-gather")
        params["gatherNodeId"] = done
    fold = sheet.node("fold", tail(done))

    def whole(value: Any, seen: Seen) -> Any:
        items = spread_out(made(spread)(value, seen), count)
        results = []
        for item in items:
            fails = item % 3 == 1
            seen[worker] += 2 if fails and errors == "retry" else 1
            results.append("failed" if fails and errors == "collect" else item_result(worker, item))
        return made(fold)(results, seen)

    return tail(fold), whole


def spread_out(value: int, count: int) -> list[int]:
    """The items that a value is spread to."""
    return [(value + 7 * number) % 1000 for number in range(count)]


def item_result(label: str, item: int) -> int | None:
    """What an item comes to."""
    return None if item % 5 == 0 else digest(label, item)


def subflow(sheet: Sheet, behind: Tail, outputs: bool, body: Tree) -> Built:
    """A child run: its end's value comes back as the only terminal's output, or by name."""
    child = sheet.deployment.sheet()
    end, meaning = build(child, ("sequence", body, ("step",)), None)
    name = f"{sheet.deployment.name}-{sheet.deployment.new_id('sub')}"
    params: dict[str, Any] = {"blueprintId": name}
    if outputs or _ends(child) > 1:
        params["outputs"] = {sheet.deployment.new_id("o"): (end or {})["source"]}
    child.finish(name)
    call = sheet.node("call", behind, uses="subflow", params=params)
    node = sheet.node("step", tail(call))

    def whole(value: Any, seen: Seen) -> Any:
        return made(node)(meaning(value, seen), seen)

    return tail(node), whole


def each(sheet: Sheet, behind: Tail, count: int, live: int, body: Tree) -> Built:
    """A child run for each item of a list."""
    spread = sheet.node("spread", behind, params={"count": count})
    child = sheet.deployment.sheet()
    end, meaning = build(child, ("sequence", ("step",), body, ("step",)), None)
    name = f"{sheet.deployment.name}-{sheet.deployment.new_id('sub')}"
    params: dict[str, Any] = {"call": name, "maxLive": live, "outputs": {"value": (end or {})["source"]}}
    child.finish(name)
    fold = sheet.node("fold", tail(sheet.node("map", tail(spread), params=params)))

    def whole(value: Any, seen: Seen) -> Any:
        items = spread_out(made(spread)(value, seen), count)
        return made(fold)([meaning(item, seen) for item in items], seen)

    return tail(fold), whole


def _ends(sheet: Sheet) -> int:
    sources = {edge["source"] for edge in sheet.edges}
    return len([node for node in sheet.nodes if node["id"] not in sources])


def sleeping(sheet: Sheet, behind: Tail) -> Built:
    """An hour's sleep, which passes its input on."""
    node = sheet.node("sleep", behind, params={"duration": "1h"})
    return tail(node), _same


def waiting(sheet: Sheet, behind: Tail) -> Built:
    """A wait for an answer."""
    node = sheet.node("wait", behind)
    return tail(node), lambda value, seen: ANSWER


CONSTRUCTS: dict[str, Any] = {
    "step": step, "flaky": flaky, "sequence": sequence, "choice": choice, "parallel": parallel, "race": race, "aside": aside,
    "rounds": rounds, "cycle": cycle, "guarded": guarded, "batch": batch, "each": each, "subflow": subflow, "sleep": sleeping, "wait": waiting,
}  # fmt: skip
