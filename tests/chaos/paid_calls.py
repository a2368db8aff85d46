"""Calls of a model that are paid again after kills of workers: `python -m tests.chaos.paid_calls`, and in short as a test.

A model server outside of Redis counts the replies that it has sent, by prompt; each prompt is asked once by each run. Handlers make
six calls, and are run twice: with `ctx.llm`, whose replies are recorded, and with calls of their own, which nothing records.
Variables: FLOWCRAFT_CHAOS_KILLS (40), FLOWCRAFT_CHAOS_RUNS (120), FLOWCRAFT_CHAOS_SEED (chosen and printed).
"""

import asyncio
import json
import os
import random
import secrets
import select
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from flowcraft_sdk import AsyncNodeContext, NodeContext, NodeStartedEvent, RunEvent
from tests.acceptance.server_program import eventually
from tests.chaos.deployment import Deployment

CALLS = 6
WORKERS = 3
LEASE = 2.0
LATENCY = 0.1
SETTLING = 90.0

FLOWS = {
    "recorded": "nodes:\n  f: {uses: recorded, inputs: x}\n  c: {uses: recorded_together, inputs: x, needs: [f]}\n",
    "own": "nodes:\n  f: {uses: own, inputs: x}\n  c: {uses: own, inputs: x, needs: [f]}\n",
}
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LLM = """
llm:
  providers:
    counting: {{type: openai-compatible, baseUrl: "{url}", apiKey: none-needed, model: counting, maxConcurrent: 64}}
"""


def prompt(ctx: NodeContext | AsyncNodeContext, number: int) -> str:
    """A prompt that no other call of any run has."""
    return f"{ctx.run_id} {ctx.node_id} {number}"


def recorded(ctx: NodeContext) -> str:
    """Calls one after the other, in a thread."""
    for number in range(CALLS):
        ctx.llm.complete(prompt(ctx, number))
    return "done"


async def recorded_together(ctx: AsyncNodeContext) -> str:
    """Calls one after the other and at the same time, on the event loop."""
    for number in range(CALLS - 3):
        await ctx.llm.complete(prompt(ctx, number))
    await asyncio.gather(*[ctx.llm.complete(prompt(ctx, number)) for number in range(CALLS - 3, CALLS)])
    return "done"


def own(ctx: NodeContext) -> str:
    """Calls that nothing records."""
    for number in range(CALLS):
        body = json.dumps({"messages": [{"role": "user", "content": prompt(ctx, number)}]}).encode()
        url = ctx.context.get("url") + "/chat/completions"
        with DIRECT.open(urllib.request.Request(url, body)) as answer:
            answer.read()
    return "done"


@dataclass
class ModelServer:
    """Counts the replies that it has sent: when, by prompt; and the calls that their callers did not live to see answered."""

    url: str = ""
    cut: int = 0
    replies: dict[str, list[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, asked: str) -> None:
        """A reply was sent."""
        with self.lock:
            self.replies.setdefault(asked, []).append(time.time())

    @property
    def again(self) -> dict[str, list[float]]:
        """What was sent more than once."""
        return {asked: times for asked, times in self.replies.items() if len(times) > 1}


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Serve on a free port of the loopback interface."""
    state = ModelServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][-1]["content"]
            time.sleep(LATENCY)
            message = {"role": "assistant", "content": f"reply to {asked}"}
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            about = {"id": "r", "object": "chat.completion", "created": 1, "model": "counting"}
            body = json.dumps({**about, "choices": [choice], "usage": usage}).encode()
            if self.connection in select.select([self.connection], [], [], 0)[0]:
                state.cut += 1  # its worker was killed while the call was under way
                self.close_connection = True
                return
            try:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                state.cut += 1
                self.close_connection = True
                return
            state.note(asked)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Connections of killed workers break."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        calls: replies that the server has sent.
        under_way: calls whose worker was killed before they were answered.
        again: how many of the replies were sent before, and so are paid again.
        recorded: replies that the histories of the runs have.
        stalled: replies that were paid again although their worker was not killed: it had lost its lease.
        longest: seconds from a reply that was paid again to the kill of the worker that it was for, at most.
        incomplete: runs that have not completed.
    """

    kills: int
    runs: int
    calls: int
    under_way: int
    again: int
    recorded: int
    stalled: int
    longest: float
    incomplete: int


def worker_at(histories: dict[str, list[RunEvent]], asked: str, sent: float) -> str:
    """The worker that ran the node of a prompt when its reply was sent."""
    run_id, node, _ = asked.split(" ")
    started = [event for event in histories[run_id] if isinstance(event, NodeStartedEvent) and event.node_id == node]
    return next((event.worker for event in reversed(started) if event.at.timestamp() <= sent), "")


def suffer(folder: Path, flow: str, *, kills: int, runs: int, seed: int) -> Outcome:
    """Spread runs over kills of a random worker; two at least are alive before each."""
    chance = random.Random(seed)
    started: list[str] = []
    with model_server() as model, Deployment(folder, flows=FLOWS, lease=LEASE) as chaos:
        file = folder / "flowcraft.yaml"
        names = "".join(
            f"  {name}: tests.chaos.paid_calls:{name}\n" for name in ("recorded", "recorded_together", "own")
        )
        file.write_text(file.read_text().replace("handlers:\n", f"handlers:\n{names}") + LLM.format(url=model.url))

        def start(count: int) -> None:
            for _ in range(min(count, runs - len(started))):
                started.append(chaos.client.start(flow, {"x": len(started), "url": model.url}).run_id)

        for _ in range(WORKERS):
            chaos.add_worker()
        start(WORKERS * 2)
        for _ in range(kills):
            assert eventually(lambda: sum(worker.up() for worker in chaos.workers) >= 2)
            start(-(-(runs - WORKERS * 2) // max(1, kills)))
            time.sleep(chance.uniform(0.05, 0.4))
            chaos.kill(chance.choice([worker for worker in chaos.workers if worker.up()]))
            chaos.add_worker(wait=False)
        start(runs)
        until = time.monotonic() + SETTLING
        ended = [chaos.client.get_handle(run_id).wait(timeout=max(0.1, until - time.monotonic())) for run_id in started]
        deaths = {death.worker: death.at for death in chaos.deaths}
        histories = {run_id: list(chaos.client.get_handle(run_id).events(follow=False)) for run_id in started}
        gaps = [
            deaths.get(worker_at(histories, asked, sent), float("inf")) - sent
            for asked, times in model.again.items()
            for sent in times[:-1]
        ]
        for snapshot in ended:
            for failure in snapshot.failures[:1]:
                sys.stdout.write(f"{snapshot.run_id}: {failure.summary}\n")
        return Outcome(
            kills,
            runs,
            sum(map(len, model.replies.values())),
            model.cut,
            sum(len(times) - 1 for times in model.again.values()),
            sum(event.type == "step_recorded" for history in histories.values() for event in history),
            sum(gap == float("inf") for gap in gaps),
            max((gap for gap in gaps if gap < float("inf")), default=0.0),
            sum(snapshot.status != "completed" for snapshot in ended),
        )


def table(outcomes: dict[str, Outcome]) -> str:
    """What happened, as a table in Markdown."""
    rows = [
        "| | kills | runs | replies | under way at a kill | paid again | paid again, each kill | from such a reply to the kill | lease lost, not killed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in outcomes.items():
        each = found.again / max(1, found.kills)
        rows.append(
            f"| {name} | {found.kills} | {found.runs} | {found.calls:,} | {found.under_way} | {found.again} | {each:.2f} "
            f"| {found.longest * 1000:,.0f} ms at most | {found.stalled} |"
        )
    return "\n".join(rows)


def main() -> int:
    """The long version; 1 if a run has not completed."""
    kills = int(os.environ.get("FLOWCRAFT_CHAOS_KILLS", "40"))
    runs = int(os.environ.get("FLOWCRAFT_CHAOS_RUNS", "120"))
    seed = int(os.environ.get("FLOWCRAFT_CHAOS_SEED") or secrets.randbits(32))
    sys.stdout.write(f"seed {seed}\n")
    outcomes = {}
    for title, flow in (("calls that nothing records", "own"), ("`ctx.llm`", "recorded")):
        with tempfile.TemporaryDirectory(prefix="flowcraft-chaos-") as folder:
            outcomes[title] = suffer(Path(folder), flow, kills=kills, runs=runs, seed=seed)
    sys.stdout.write(f"{table(outcomes)}\n")
    return 0 if not any(found.incomplete for found in outcomes.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
