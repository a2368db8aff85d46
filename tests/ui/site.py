"""What the pages are shown over: a deployment with runs in each state, and the application on a port, in a thread."""

import asyncio
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from flowcraft_sdk import AsyncClient, ClientSettings, NodeResult
from flowcraft_sdk.protocol import scripts
from flowcraft_server.api.access import Role, Token
from flowcraft_server.api.app import create_app
from flowcraft_server.api.options import ApiOptions
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.ui.pages import add_pages
from tests.ui.histories import until_waiting

TOKENS = tuple(Token(f"{role}er", role, f"{role}-token-0123456789") for role in Role)
MARKUP = '"><img src=x onerror="window.hit=1"><script>window.hit=1</script>'
HOSTILE = f"{MARKUP}\u202eelif"
LONG = "a-name-of-two-hundred-characters." * 6
PIECE = "Solid-state batteries promise twice the energy of today's cells, and charge in minutes."
PROMPT = "Publish the report on solid-state batteries?"

SCHEMA = {
    "type": "object",
    "properties": {
        "comment": {"type": "string", "maxLength": 500, "description": "Shown to the author"},
        "score": {"type": "integer"},
        "tone": {"type": "string", "enum": ["dry", "warm"]},
        "urgent": {"type": "boolean"},
    },
    "required": ["score"],
}
RESEARCH = {
    "id": "research-report",
    "description": "Plan, search in parallel, judge, ask a person, and publish.",
    "inputs": {
        "topic": {"type": "string"},
        "depth": {"type": "integer", "default": 3},
        "tone": {"type": "string", "enum": ["dry", "warm"], "default": "dry"},
    },
    "nodes": [
        {"id": "plan", "uses": "plan", "inputs": "topic"},
        {"id": "search_web", "uses": "search", "config": {"maxRetries": 3}},
        {"id": "search_papers", "uses": "search"},
        {"id": "search_internal_knowledge_base", "uses": "search"},
        {"id": "summarise", "uses": "plan"},
        {"id": "judge", "uses": "judge"},
        {"id": "approve", "uses": "wait", "params": {"prompt": PROMPT, "actions": ["publish", "revise"], "schema": SCHEMA}},
        {"id": "publish", "uses": "hold"},
        {"id": "notify", "uses": "ok"},
        {"id": "reject", "uses": "ok"},
        {"id": "plan_again", "uses": "ok"},
    ],
    "edges": [
        "plan -> search_web", "plan -> search_papers", "plan -> search_internal_knowledge_base", "search_web -> summarise",
        "search_papers -> summarise", "search_internal_knowledge_base -> summarise", "summarise -> judge",
        "judge -[good]-> approve", "judge -[bad]-> reject", "approve -[publish]-> publish", "approve -[revise]-> plan_again",
        "publish -> notify",
    ],
}  # fmt: skip
OLD_RESEARCH = {
    "id": "research-report",
    "description": "Plan, search, judge, and publish.",
    "inputs": {"topic": {"type": "string"}},
    "nodes": [
        {"id": "plan", "uses": "plan", "inputs": "topic"},
        {"id": "search_web", "uses": "search"},
        {"id": "summarise", "uses": "plan"},
        {"id": "judge", "uses": "judge"},
        {"id": "translate_the_summary", "uses": "ok"},
        {"id": "publish", "uses": "ok"},
        {"id": "notify", "uses": "ok"},
        {"id": "reject", "uses": "ok"},
    ],
    "edges": [
        "plan -> search_web", "search_web -> summarise", "summarise -> judge", "judge -[good]-> translate_the_summary",
        "judge -[bad]-> reject", "translate_the_summary -> publish", "publish -> notify",
    ],
}  # fmt: skip
ORDER = {
    "id": "order",
    "description": "Take an order, charge it, ship it.",
    "nodes": [
        {"id": "validate", "uses": "ok"},
        {"id": "charge", "uses": "charge", "inputs": "card", "config": {"maxRetries": 2}},
        {"id": "ship", "uses": "ok"},
    ],
    "edges": ["validate -> charge", "charge -> ship"],
}
PARENT = {
    "id": "parent",
    "description": "Calls another blueprint.",
    "nodes": [
        {"id": "prepare", "uses": "ok"},
        {"id": "call_order", "uses": "subflow", "params": {"blueprintId": "order", "inputs": {"card": "card"}}},
    ],
    "edges": ["prepare -> call_order"],
}
FAN = {
    "id": "fan",
    "description": "Calls a blueprint for each item of a list, and another one that calls it, too.",
    "nodes": [
        {"id": "list", "uses": "ok"},
        {"id": "each", "uses": "map", "inputs": "cards", "params": {"call": "order", "inputs": {"card": "item"}},
         "config": {"onItemError": "collect"}},
        {"id": "other", "uses": "ok"},
        {"id": "nested", "uses": "subflow", "params": {"blueprintId": "parent", "inputs": {"card": "card"}}},
        {"id": "report", "uses": "ok"},
    ],
    "edges": ["list -> each", "list -> other", "list -> nested", "each -> report", "other -> report", "nested -> report"],
}  # fmt: skip
OUTER = {
    "id": "outer",
    "nodes": [
        {"id": "call", "uses": "subflow", "params": {"blueprintId": "slow"}},
        {"id": "each", "uses": "map", "inputs": "items", "params": {"call": "slow", "inputs": {"item": "item"}}},
    ],
    "edges": ["call -> each"],
}
SLOW = {
    "id": "slow",
    "nodes": [{"id": "first", "uses": "hold"}, {"id": "second", "uses": "hold"}],
    "edges": ["first -> second"],
}
WIDE = {
    "id": "wide-graph",
    "description": "Five hundred nodes.",
    "nodes": [{"id": f"step_{number:03}", "uses": "ok"} for number in range(500)],
    "edges": [f"step_{number - 1 - number * 7 % min(number, 25):03} -> step_{number:03}" for number in range(1, 500)],
}
STRANGE = {
    "id": "strange",
    "description": HOSTILE,
    "nodes": [
        {"id": "say", "uses": "say_strange"},
        {"id": LONG, "uses": "ok"},
        {"id": "ask", "uses": "wait", "params": {"prompt": HOSTILE, "actions": [HOSTILE, "yes"],
         "schema": {"type": "object", "properties": {HOSTILE: {"type": "string", "title": HOSTILE, "description": HOSTILE}}}}},
        {"id": "fail", "uses": "fail_strange"},
    ],
    "edges": [{"source": "say", "target": LONG}, "say -> ask", "ask -> fail"],
}  # fmt: skip
BLUEPRINTS = [RESEARCH, ORDER, PARENT, FAN, OUTER, SLOW, WIDE, STRANGE]


class Handlers:
    """The handlers of the deployment. Nodes that `hold` wait until a gate is opened."""

    def __init__(self) -> None:
        self.gates: dict[str, threading.Event] = {}

    def gate(self, run_id: str, node_id: str) -> threading.Event:
        return self.gates.setdefault(f"{run_id}/{node_id}", threading.Event())

    def open_all(self) -> None:
        for gate in list(self.gates.values()):
            gate.set()

    def all(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in dir(self) if name in NAMES}

    async def hold(self, ctx: Any) -> str:
        ctx.progress(0.4, "page 80 of 200")
        ctx.stream_text(f"{PIECE} ")
        await asyncio.to_thread(self.gate(ctx.run_id, ctx.node_id).wait, 600)
        ctx.stream_text("It is done.")
        return "held"

    def plan(self, ctx: Any) -> Any:
        return {"text": f"A plan for {ctx.input}, in three steps.", "tokens": 412}

    def search(self, ctx: Any) -> Any:
        if ctx.node_id == "search_web" and ctx.attempt < 2:
            raise ConnectionError("upstream answered 503: try again later")
        return ["result one", "result two"]

    def judge(self, ctx: Any) -> Any:
        return NodeResult(output={"verdict": "good", "score": 0.92}, action="good")

    def charge(self, ctx: Any) -> Any:
        if ctx.input == "good":
            return {"charged": True}
        raise ValueError("card 4242 was declined\nby the bank (code 51)\nask for another card")

    def say_strange(self, ctx: Any) -> Any:
        ctx.emit("custom", {HOSTILE: HOSTILE})
        ctx.stream_text(HOSTILE, part=MARKUP)
        return {HOSTILE: [HOSTILE, "\u200b\u0007"]}

    def fail_strange(self, ctx: Any) -> Any:
        raise ValueError(f"{HOSTILE}\nsecond line\nthird line")

    def ok(self, ctx: Any) -> str:
        return "done"


NAMES = {"hold", "plan", "search", "judge", "charge", "say_strange", "fail_strange", "ok"}


class Served:
    """The application on a port of loopback, in a thread.

    Args:
        url: of Redis.
        namespace: of the deployment.
        options: of the application.
    """

    def __init__(self, url: str, namespace: str, **options: Any) -> None:
        self._url, self._namespace, self._options = url, namespace, options
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, on the port of the last time if there was one."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self._port))
        listening.listen(100)
        self._port = listening.getsockname()[1]
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listening, ready)), daemon=True)
        self._thread.start()
        assert ready.wait(60)

    def stop(self) -> None:
        """Stop, as the server does: streams are ended first."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _serve(self, listening: socket.socket, ready: threading.Event) -> None:
        client = AsyncClient(self._url, namespace=self._namespace, settings=ClientSettings(max_outage=1.0, retries=0))
        app = create_app(client, ApiOptions(namespace=self._namespace, **self._options))
        add_pages(app)
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listening]))
        ready.set()
        await self._stopped.wait()
        app.state.stopping.request()
        server.should_exit = True
        await serving


class Site:
    """A deployment with something to see on each page.

    Attributes:
        env: The deployment.
        handlers: Its handlers.
        served: The application, open to everybody.
        guarded: The same deployment, with tokens.
        empty: A deployment without blueprints, runs and workers.
        broken: One whose Redis does not answer.
    """

    def __init__(self, env: TestEnvironment, handlers: Handlers) -> None:
        self.env, self.handlers = env, handlers
        self.served = Served(env.url, env.namespace)
        self.guarded = Served(env.url, env.namespace, tokens=TOKENS)
        self.empty = Served(env.url, f"{env.namespace}-empty")
        self.broken = Served("redis://127.0.0.1:1", "nowhere")

    def fill(self) -> None:
        """Make runs: `research-0` runs, `research-1` waits, `order-0` has failed, `parent-0` too, `order-good` and `fan-0` are complete."""
        client = self.env.client
        self.env.publish(OLD_RESEARCH)
        client.start("research-report", {"topic": "an older version"}, run_id="research-old", delay="1h").cancel()
        self.env.publish(RESEARCH)
        runs = [
            client.start("research-report", {"topic": f"batteries {number}", "password": "s3cret"}, run_id=f"research-{number}",
                         tags=["demo", "customer-7"])
            for number in range(2)
        ]  # fmt: skip
        failing = [client.start("order", {"card": "bad"}, run_id=f"order-{number}") for number in range(2)]
        failing.append(client.start("parent", {"card": "bad"}, run_id="parent-0"))
        strange = client.start("strange", {HOSTILE: HOSTILE}, run_id="S" * 200, tags=[MARKUP, LONG])
        client.start("order", {"card": "good"}, run_id="order-good").result(timeout=60)
        client.start("wide-graph", {}, run_id="wide-0").result(timeout=60)
        client.start("fan", {"cards": ["good", "bad", "good"], "card": "good"}, run_id="fan-0").result(timeout=60)
        for run in runs:
            until_waiting(run)
        runs[0].signal("approve", {"score": 5}, action="publish")
        until_waiting(strange)
        strange.signal("ask", {}, action="yes")
        client.start("strange", {}, run_id="strange-waiting", tags=[MARKUP])
        for run in (*failing, strange):
            run.wait(timeout=60)
        self.count_model_calls("research-1", 37)
        self.fill_counts()

    def count_model_calls(self, run_id: str, count: int) -> None:
        """Count model calls of a run, as workers do; one of them has no known price."""
        keys, link = self.env.partitions.for_run(run_id), self.env.link
        created = int(link.redis.hget(keys.run(run_id), "cr"))
        for number in range(count):
            link.call(
                scripts.record_usage(
                    keys, run_id=run_id, node_id="judge", created_ms=created, call_id=f"{number:08d}", model="a-model",
                    input_tokens=3_400, cached_tokens=800, output_tokens=510, nano_usd=34_000_000 if number else None, ms=900,
                )
            )  # fmt: skip

    @property
    def old_version(self) -> str:
        """The older version of `research-report`."""
        return next(each.version for each in self.env.client.blueprint_versions("research-report") if not each.current)

    def fill_counts(self) -> None:
        """Counts of runs that ended in the last 30 days, as the scripts would have kept them."""
        keys, redis = self.env.partitions.home, self.env.link.redis
        minute = int(self.env.clock.now().timestamp()) // 60
        for ago in range(1, 1440):
            busy = 1.4 + math.sin(ago / 90) + 0.4 * math.sin(ago / 7)
            slow = 4 if 20 < ago < 32 else 0
            for name, rate, number in (("research-report", 6, 26), ("order", 14, 17), ("slow", 1, 31)):
                count = round(rate * max(0.1, busy))
                late, failed = max(1, count // 12), round(count * (0.3 if slow and name == "order" else 0.02))
                value = f"c{number + slow // 2}={count} c{number + 3 + slow}={late} f{number + 1}={failed} x{number}={failed // 3}"
                redis.hset(keys.minutes((minute - ago) // 60), f"{minute - ago} {name}", value)
        for ago in range(1, 720):
            hour = minute // 60 - ago
            count = round(600 + 450 * math.sin(ago / 3.8) + 90 * math.sin(ago))
            redis.hset(keys.hours(hour // 24), f"{hour} order", f"c17={count} c21={count // 15} f18={count // 50}")

    def close(self) -> None:
        """Stop everything."""
        for each in (self.served, self.guarded, self.empty, self.broken):
            each.stop()
        self.handlers.open_all()


@contextmanager
def open_site() -> Iterator[Site]:
    """A filled site."""
    handlers = Handlers()
    with TestEnvironment(blueprints=BLUEPRINTS, handlers=handlers.all(), check=False) as env:
        site = Site(env, handlers)
        try:
            site.fill()
            yield site
        finally:
            site.close()
