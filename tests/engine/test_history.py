"""What a run's history tells of its nodes."""

from collections.abc import Callable

from flowcraft_sdk import AsyncNodeContext, NodeContext
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]


def test_what_a_handler_says_last_is_kept(environment: Make) -> None:
    def talks(ctx: NodeContext) -> None:
        ctx.emit("last", {"words": ctx.run_id})

    async def talks_too(ctx: AsyncNodeContext) -> None:
        ctx.emit("last", {"words": ctx.run_id})

    blueprint = {"id": "talk", "nodes": [{"id": "a", "uses": "talks"}, {"id": "b", "uses": "talks_too"}]}
    env = environment(handlers={"talks": talks, "talks_too": talks_too}, blueprints=blueprint)
    runs = [env.client.start("talk") for _ in range(50)]
    for run in runs:
        run.result(timeout=10)
        said = {event.node_id: event.data for event in run.events(follow=False) if event.type == "custom"}
        assert said == {key: {"name": "last", "data": {"words": run.run_id}} for key in "ab"}
