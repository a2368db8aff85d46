"""Steps whose names look like those that steps of one name are recorded under, and errors that rise through steps within steps."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from flowcraft_sdk import NodeContext, RunStatus, StepFailedEvent, StepRecordedEvent
from flowcraft_server.engine import failures
from flowcraft_server.testing import TestEnvironment

Make = Callable[..., TestEnvironment]
FLOW = "nodes:\n  a: {uses: it, config: {maxRetries: 2, retryDelay: 0}}\n"


@pytest.mark.parametrize(
    "names",
    [
        ["s#2", "s", "s"], ["s", "s", "s#2"], ["s", "s#2", "s", "s#2", "s#3"], ["s#2#2", "s#2", "s#2", "s", "s"],
        ["!", "!!", "!", "a|b", "1/", "~", "1/1", "~s"],
    ],
)  # fmt: skip
def test_names_that_spell_other_names_are_told_apart(environment: Make, names: list[str]) -> None:
    calls: Counter[int] = Counter()

    def it(ctx: NodeContext) -> Any:
        def call(number: int) -> int:
            calls[number] += 1
            return number

        found = [ctx.step(name, call, number) for number, name in enumerate(names)]
        if ctx.attempt == 1:
            raise ValueError("once more")
        return found

    env = environment(blueprints={"flow": FLOW}, handlers={"it": it})
    handle = env.client.start("flow")
    assert handle.result(timeout=30)["a"] == list(range(len(names)))
    assert set(calls.values()) == {1}, "the second attempt is answered from the records"
    recorded = [event.name for event in handle.events() if isinstance(event, StepRecordedEvent)]
    assert len(set(recorded)) == len(names)


def test_an_error_that_rises_through_steps_has_its_traceback_made_once(
    environment: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[type[BaseException]] = []
    real = failures._traceback

    def counting(error: BaseException) -> str:
        made.append(type(error))
        return real(error)

    class Deep(Exception):
        pass

    def fall(ctx: NodeContext, depth: int) -> Any:
        if depth == 0:
            raise Deep("bottom")
        return ctx.step(f"level {depth}", fall, ctx, depth - 1)

    monkeypatch.setattr(failures, "_traceback", counting)
    env = environment(blueprints={"flow": FLOW}, handlers={"it": lambda ctx: fall(ctx, 30)})
    handle = env.client.start("flow")
    assert handle.wait(timeout=60).status is RunStatus.FAILED
    assert made.count(Deep) == 2, "one for each attempt, none for the steps"
    failed = [event for event in handle.events() if isinstance(event, StepFailedEvent)]
    assert len(failed) == 60
