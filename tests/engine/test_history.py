"""What a run's history reports about its nodes; of those inside loops each entry names the round, as docs/store.md says."""

from collections.abc import Callable

from flowcraft_sdk import AsyncNodeContext, NodeContext
from flowcraft_sdk.protocol import scripts
from flowcraft_sdk.protocol.scripts import ClaimRequest
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.worker.settings import WorkerSettings

Make = Callable[..., TestEnvironment]

LOOP = """
id: rounds
nodes:
  again: {uses: loop-controller, params: {condition: "(n ?? 0) < 2"}}
  body: {uses: body, config: {maxRetries: 2}}
  side: {uses: body, needs: [body], config: {maxRetries: 2}}
  nap: {uses: sleep, params: {duration: 1ms}, next: again}
  end: {uses: end}
edges:
  - again -[continue]-> body
  - again -[break]-> end
  - body -[never]-> end
  - side -> nap
"""


def test_every_entry_of_a_node_in_a_loop_names_the_round(environment: Make) -> None:
    def body(ctx: NodeContext) -> str:
        ctx.progress(0.5)
        if ctx.attempt == 1:
            raise OSError("not yet")
        if ctx.node_id == "side":
            ctx.context.set("n", int(ctx.context.get("n", 0)) + 1)
        return "done"

    env = environment(handlers={"body": body, "end": lambda ctx: None}, blueprints=LOOP)
    run = env.client.start("rounds")
    run.result(timeout=60)
    reported: dict[str, set[str]] = {}
    for event in run.events(follow=False):
        reported.setdefault(event.type, set()).add(event.node_id or "")
    both = {f"{node}#{n}" for node in ("body", "side") for n in (0, 1)}
    assert reported["node_retrying"] == both
    assert reported["node_progress"] == both
    assert reported["node_waiting"] == {"nap#0", "nap#1"}
    assert reported["node_completed"] >= both


def test_a_take_over_and_a_failure_in_a_loop_name_the_round(environment: Make) -> None:
    def body(ctx: NodeContext) -> None:
        raise ValueError("never")

    blueprint = LOOP.replace("maxRetries: 2", "maxRetries: 1")
    env = environment(
        handlers={"body": body, "end": lambda ctx: None},
        blueprints=blueprint,
        workers=0,
        settings=WorkerSettings(lease=5),
    )
    run = env.client.start("rounds")
    claim_request = ClaimRequest("w1", 5000, "default")
    for _ in range(2):  # `again`, which nobody completes, is taken over
        env.link.call(scripts.claim(env.keys, claim_request))
        env.clock.advance(6, keep_leases=False)
        env.link.call(scripts.sweep(env.keys, limit=100, max_crashes=9, grace_ms=0, queues="default"))
    env.add_worker()
    assert run.wait(timeout=60).status == "failed"
    reported = {event.type: event.node_id for event in run.events(follow=False)}
    assert reported["node_taken_over"] == "again#0"
    assert reported["node_failed"] == "body#0"


def test_what_a_handler_says_last_is_kept(environment: Make) -> None:
    def talks(ctx: NodeContext) -> None:
        ctx.emit("last", {"words": ctx.run_id})

    async def talks_too(ctx: AsyncNodeContext) -> None:
        ctx.emit("last", {"words": ctx.run_id})

    blueprint = {"id": "talk", "nodes": [{"id": "a", "uses": "talks"}, {"id": "b", "uses": "talks_too"}]}
    env = environment(handlers={"talks": talks, "talks_too": talks_too}, blueprints=blueprint)
    runs = [env.client.start("talk") for _ in range(50)]
    for run in runs:
        run.result(timeout=60)
        message = {event.node_id: event.data for event in run.events(follow=False) if event.type == "custom"}
        assert message == {key: {"name": "last", "data": {"words": run.run_id}} for key in "ab"}
