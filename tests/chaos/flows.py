"""The blueprints of the chaos deployment, and what a run of each must come to, whatever dies meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FAN = 6
WIDTH = [f"w{i}" for i in range(FAN)]
ITEMS = 12
ROUNDS = 4
ADDED = 4


@dataclass(frozen=True)
class Flow:
    """A blueprint.

    Attributes:
        text: in YAML.
        results: for the start value `x`: what stands in the run's context at the end.
        recorded: for `x`: the instances that are completed, once each: a node's id, with `#round` inside a loop.
    """

    text: str
    results: Callable[[int], dict[str, Any]]
    recorded: Callable[[int], frozenset[str]]


def _always(*names: str) -> Callable[[int], frozenset[str]]:
    return lambda _x: frozenset(names)


CHAIN = Flow(
    """
nodes:
  a: {uses: step, inputs: x}
  b: {uses: async_step, inputs: a, needs: a}
  c: {uses: step, inputs: b, needs: b, params: {ms: 80}}
  d: {uses: async_step, inputs: c, needs: c, params: {ms: 80}}
  e: {uses: step, inputs: d, needs: d, params: {ms: 0}}
""",
    lambda x: {"e": x + 5},
    _always("a", "b", "c", "d", "e"),
)

FAN_OUT = Flow(
    "nodes:\n  s: {uses: step, inputs: x}\n"
    + "".join(
        f"  w{i}: {{uses: {('step', 'async_step')[i % 2]}, inputs: s, needs: s, params: {{ms: 40}}}}\n"
        for i in range(FAN)
    )
    + f"  j: {{uses: total, needs: [{', '.join(WIDTH)}], inputs: {{{', '.join(f'{w}: {w}' for w in WIDTH)}}}}}\n",
    lambda x: {"j": FAN * (x + 2)},
    _always("s", "j", *WIDTH),
)

ROUTER = Flow(
    """
nodes:
  choose: {uses: route, inputs: x, next: {even: left, odd: right}}
  left: {uses: step, params: {ms: 40}}
  right: {uses: async_step, params: {ms: 40}}
  end: {uses: total, inputs: {l: left, r: right}, needs: [left, right]}
""",
    lambda x: {"end": x + 2},
    lambda x: frozenset({"choose", "right" if x % 2 else "left", "end"}),
)

LOOP = Flow(
    f"""
nodes:
  again: {{uses: loop-controller, params: {{condition: "(rounds ?? 0) < {ROUNDS}"}}}}
  body: {{uses: count, params: {{ms: 40}}, next: again}}
  end: {{uses: step, inputs: body}}
edges:
  - again -[continue]-> body
  - again -[break]-> end
""",
    lambda _x: {"rounds": ROUNDS, "end": ROUNDS + 1},
    _always(*(f"again#{i}" for i in range(ROUNDS + 1)), *(f"body#{i}" for i in range(ROUNDS)), "end"),
)

MAP = Flow(
    """
nodes:
  each: {uses: map, inputs: list, params: {uses: step, maxLive: 6, params: {ms: 30}}}
  sum: {uses: total, inputs: each, needs: each}
""",
    lambda x: {"sum": sum(range(x, x + ITEMS)) + ITEMS},
    _always("each", "sum", *(f"each[{i}]" for i in range(ITEMS))),
)

PARENT = Flow(
    """
nodes:
  before: {uses: step, inputs: x}
  child: {call: chain, needs: before, inputs: {x: before}, outputs: {got: e}}
  after: {uses: step, inputs: child, needs: child}
""",
    lambda x: {"got": x + 6, "after": x + 7},
    _always("before", "child", "after"),
)

RETRY = Flow(
    """
nodes:
  a: {uses: step, inputs: x}
  b: {uses: flaky, inputs: a, needs: a, params: {good: 3}, config: {maxRetries: 3, retryDelay: 100ms}}
  nap: {uses: sleep, params: {duration: 100ms}, needs: b}
  c: {uses: step, inputs: b, needs: nap}
""",
    lambda x: {"b": x + 2, "c": x + 3},
    _always("a", "b", "nap", "c"),
)

DYNAMIC = Flow(
    f"""
nodes:
  plan: {{uses: plan, inputs: x, params: {{nodes: {ADDED}}}}}
  sum: {{uses: total, needs: plan, inputs: {{{", ".join(f"t{i}: t{i}" for i in range(ADDED))}}}}}
""",
    lambda x: {"plan": x + 1, "sum": ADDED * (x + 2)},
    _always("plan", "sum", *(f"t{i}" for i in range(ADDED))),
)

FALLBACK = Flow(
    """
nodes:
  a: {uses: broken, inputs: x, config: {fallback: b, maxRetries: 2, retryDelay: 50ms}}
  b: {uses: step, inputs: x, params: {ms: 40}}
  c: {uses: step, inputs: a, needs: a}
""",
    lambda x: {"c": x + 2},
    _always("a", "b", "c"),
)

FLOWS = {
    "chain": CHAIN,
    "dynamic": DYNAMIC,
    "fallback": FALLBACK,
    "fan": FAN_OUT,
    "loop": LOOP,
    "map": MAP,
    "parent": PARENT,
    "retry": RETRY,
    "router": ROUTER,
}


def context(flow: str, x: int) -> dict[str, Any]:
    """The start context of a flow for a value."""
    return {"list": list(range(x, x + ITEMS))} if flow == "map" else {"x": x}
