"""What is reported when a run ends: how, and with a small run its whole record, if somebody listens."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowcraft_sdk import RunFailedError
from flowcraft_sdk.protocol.end_notice import parse_end_notice
from flowcraft_sdk.protocol.run_record import RunRecord
from flowcraft_server.testing import TestEnvironment
from tests.engine.test_failures import graph
from tests.engine.test_sdk_runs import Gate

VALUES = {"text": 'a "b" \\ / \u2028 wörter \u0000', "list": [1.5, None, True, {"ключ": []}], "": "empty"}
Make = Callable[..., TestEnvironment]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.go.set()


def notice(env: TestEnvironment, gate: Gate, context: dict[str, Any]) -> tuple[Any, str]:
    """The end of a run, and what is reported of it."""
    run = env.client.start("g", context)
    assert gate.begun.wait(60)
    channel, inbox = env.keys.end_channel(run.run_id), f"{env.partitions.for_run(run.run_id).inbox_prefix}box"
    env.link.redis.hset(env.keys.run(run.run_id), "tok", "box@mark")
    with env.link.redis.pubsub() as listener:
        listener.subscribe(channel, inbox)
        assert [listener.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "subscribe"]
        gate.go.set()
        message = listener.get_message(timeout=5)["data"].decode()
        assert listener.get_message(timeout=5)["data"].decode() == f"mark {message}", "the inbox of who started it"
        assert listener.get_message(timeout=0.05) is None, "it is reported once"
    return run, message


@pytest.mark.parametrize("ends", ["straight", "branched", "failed"])
def test_the_record_comes_along_as_it_is_stored(environment: Make, gate: Gate, ends: str) -> None:
    def end(ctx: Any) -> Any:
        gate.handle(ctx)
        if ends == "failed":
            raise ValueError("no")
        return VALUES

    blueprint = graph({"a": "end"}) if ends != "branched" else graph({"a": "end", "b": "end"}, ["a b"])
    if ends == "branched":
        blueprint["edges"][0]["condition"] = "result.output.text == 'another'"
    env = environment(handlers={"end": end}, blueprints=blueprint)
    run, message = notice(env, gate, VALUES)
    state, fields = parse_end_notice(message)
    assert fields is not None
    stored = {k.decode(): v.decode() for k, v in env.link.redis.hgetall(env.keys.run(run.run_id)).items()}
    assert fields == stored
    if ends == "failed":
        with pytest.raises(RunFailedError, match="no"):
            run.result(timeout=5)
        assert state.value == "failed"
    else:
        doc = {"nodes": [{"id": "a"}, {"id": "b"}], "edges": []}
        assert RunRecord(run.run_id, fields, doc).result() == run.result(timeout=60) == {**VALUES, "a": VALUES}


@pytest.mark.parametrize("context", [{"text": "x" * 8_200}, {f"k{n}": n for n in range(100)}], ids=["long", "many"])
def test_a_large_record_stays_where_it_is(environment: Make, gate: Gate, context: dict[str, Any]) -> None:
    env = environment(handlers={"gate": gate.handle}, blueprints=graph({"a": "gate"}))
    run, message = notice(env, gate, context)
    assert message == "completed"
    assert run.result(timeout=60) == {**context, "a": "through"}
