"""`TestEnvironment` as tests of users meet it: a deployment's file, paths, overrides, and mistakes that are reported at once."""

import sys
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flowcraft_sdk import AsyncNodeContext, ConfigurationError, NodeContext, RunFailedError, RunStatus
from flowcraft_server.config.handler_forms import HandlerError
from flowcraft_server.llm import LLMSettingsError
from flowcraft_server.testing import BlueprintWarning, TestEnvironment, run_handler

FILE = """
name: shop
handlers:
  charge: {path: kit_handlers:charge, queue: io, params: {limit: 5}, timeout: 9s}
  ship: kit_handlers:ship
blueprints: {dirs: [flows]}
executor: {queue: [default, io]}
"""
CODE = """
def charge(ctx):
    return ["charged", ctx.params["limit"]]

def ship(ctx):
    return "shipped"
"""
ORDER = """
nodes:
  pay: {uses: charge, params: {note: x}}
  pause: {uses: sleep, needs: pay, params: {duration: 2d}}
  send: {uses: ship, needs: pause}
"""


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "order.yaml").write_text(ORDER)
    (tmp_path / "kit_handlers.py").write_text(CODE)
    (tmp_path / "flowcraft.yaml").write_text(FILE)
    yield tmp_path
    sys.modules.pop("kit_handlers", None)


def free(ctx: Any) -> Any:
    return ["free", ctx.params["limit"], ctx.params["note"]]


async def free_async(ctx: Any) -> Any:
    return free(ctx)


def test_the_environment_of_a_deployment(deployment: Path) -> None:
    with TestEnvironment.from_config(deployment / "flowcraft.yaml") as env:
        run = env.client.start("order", {})
        assert env.clock.advance_to_next_timer() > timedelta(days=1, hours=23)
        result = run.result(timeout=60)
        assert (result["pay"], result["send"]) == (["charged", 5], "shipped")
        with pytest.raises(LookupError, match="no timer is set"):
            env.clock.advance_to_next_timer()


@pytest.mark.parametrize("function", [free, free_async])
def test_a_handler_in_place_of_one_of_the_file(deployment: Path, function: Callable[..., Any]) -> None:
    path = str(deployment / "flowcraft.yaml")
    with TestEnvironment.from_config(path, handlers={"charge": function}) as env:
        run = env.client.start("order", {})
        env.run_until_idle()
        env.clock.advance_to_next_timer()
        assert run.result(timeout=60)["pay"] == ["free", 5, "x"]
        assert env.handlers["charge"].timeout == 9.0


def test_mistakes_in_a_deployment_are_reported_with_their_place(deployment: Path) -> None:
    path = deployment / "flowcraft.yaml"
    with pytest.raises(ConfigurationError, match=r"names no handler 'chrage'; did you mean 'charge'\?"):
        TestEnvironment.from_config(path, handlers={"chrage": free})
    (deployment / "flows" / "order.yaml").write_text("nodes: {a: {uses: shipp}}\n")
    with pytest.raises(ConfigurationError, match=r"order.yaml:1:19 .*'shipp'.*did you mean 'ship'\?"):
        TestEnvironment.from_config(path)
    with pytest.raises(ConfigurationError, match=r"nowhere.yaml"):
        TestEnvironment.from_config(deployment / "nowhere.yaml")


@pytest.mark.parametrize("form", [str, Path])
@pytest.mark.parametrize("place", ["flows", "flows/order.yaml"])
def test_paths_as_blueprints(deployment: Path, place: str, form: Callable[[Path], Any]) -> None:
    handlers = {"charge": lambda ctx: 1, "ship": lambda ctx: 2}
    with TestEnvironment(blueprints=form(deployment / place), handlers=handlers) as env:
        run = env.client.start("order", {})
        env.clock.advance_to_next_timer()
        assert run.result(timeout=60)["send"] == 2


@pytest.mark.parametrize("text", ["nodes: {a: {uses: ship}}", '{"nodes": {"a": {"uses": "ship"}}}'])
def test_a_blueprint_of_one_line_is_no_path(text: str) -> None:
    with TestEnvironment(blueprints=text, handlers={"ship": lambda ctx: 2}) as env:
        assert env.client.execute("blueprint", {}, timeout=60)["a"] == 2


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"flows/ordr.yaml: no such file or folder"):
        TestEnvironment(blueprints="flows/ordr.yaml").__enter__()


def test_a_handler_that_is_not_there_is_reported_on_entering(deployment: Path) -> None:
    with pytest.raises(ValueError, match=r"order.yaml:5:16 .*'ship'"):
        TestEnvironment(blueprints=deployment / "flows", handlers={"charge": free}).__enter__()
    with TestEnvironment(blueprints=deployment / "flows", handlers={"charge": lambda ctx: 1}, check=False) as env:
        run = env.client.start("order", {})
        env.run_until_idle()
        assert run.status() in ("running", "waiting"), run.describe().failures


def test_overrides(deployment: Path) -> None:
    with TestEnvironment.from_config(deployment / "flowcraft.yaml") as env:
        with (
            pytest.raises(ConfigurationError, match=r"no handler 'chrage' to replace.*; did you mean 'charge'\?"),
            env.override("chrage", free),
        ):
            pass
        with pytest.raises(ConfigurationError, match="'sleep' is built in"), env.override("sleep", free):
            pass
        with pytest.raises(HandlerError, match="must take exactly one argument"), env.override("charge", lambda: 1):
            pass
        with env.override("charge", free):
            run = env.client.start("order", {})
            env.run_until_idle()
        env.clock.advance_to_next_timer()
        assert run.result(timeout=60)["pay"] == ["free", 5, "x"]


def test_a_test_that_fails_inside_of_a_handler_fails_with_its_message() -> None:
    def judged(ctx: Any) -> None:
        pytest.fail("the amount is wrong")

    graph = {"id": "g", "nodes": [{"id": "a", "uses": "h"}], "edges": []}
    with (
        TestEnvironment(blueprints=graph, handlers={"h": judged}) as env,
        pytest.raises(RunFailedError, match="node 'a': Failed: the amount is wrong"),
    ):
        env.client.execute("g", {}, timeout=10)


def test_the_patience_for_a_missing_handler_follows_the_test_clock() -> None:
    blueprint = {"id": "gone", "nodes": [{"id": "a", "uses": "nowhere"}]}
    with TestEnvironment(blueprints=blueprint, handlers={}, check=False) as env:
        run = env.client.start("gone")
        env.run_until_idle()
        assert run.status() is RunStatus.RUNNING
        pauses = []
        for _ in range(3):
            pauses.append(round(env.clock.advance_to_next_timer().total_seconds(), 1))
            env.run_until_idle()
        assert pauses == sorted(pauses)
        assert pauses[-1] > 1.5
        env.clock.advance(40)
        assert run.wait(timeout=60).status is RunStatus.FAILED
        assert run.describe().failures[0].type == "HandlerNotFound"
        handed_back = [event for event in run.events() if event.type == "node_handed_back"]
        assert len(handed_back) == 4


def test_an_override_that_nothing_entered_is_reported(deployment: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="the override of 'charge' had no effect"),
        TestEnvironment.from_config(deployment / "flowcraft.yaml") as env,
    ):
        env.override("charge", lambda ctx: 1)
    with pytest.raises(KeyError), TestEnvironment.from_config(deployment / "flowcraft.yaml") as env:
        env.override("charge", lambda ctx: 1)
        raise KeyError("the test's own failure comes first")
    with (
        TestEnvironment.from_config(deployment / "flowcraft.yaml") as env,
        pytest.raises(ConfigurationError, match="there is no handler 'chrage'"),
    ):
        env.override("chrage", lambda ctx: 1)


def test_an_environment_that_was_not_entered_is_reported() -> None:
    env = TestEnvironment(blueprints={"b": "nodes: {a: {uses: echo}}"}, handlers={"echo": lambda ctx: 1})
    outside: list[Callable[[], Any]] = [
        lambda: env.client,
        lambda: env.clock.advance("1d"),
        lambda: env.clock.advance_to_next_timer(),
        lambda: env.clock.until_next_timer(),
        lambda: env.clock.now(),
        lambda: env.publish({"c": "nodes: {a: {uses: echo}}"}),
        lambda: env.add_worker(),
        lambda: env.kill_worker(),
        lambda: env.run_until_idle(),
        lambda: env.override("eco", lambda ctx: 1),
    ]
    for call in outside:
        with pytest.raises(ConfigurationError, match="was not entered: write `with TestEnvironment"):
            call()
    with env.override("echo", lambda ctx: 2), env:  # a handler that was given is known before
        run = env.client.start("b")
        assert run.result(timeout=10)["a"] == 2
    for call in (*outside, lambda: env.override("echo", lambda ctx: 1)):
        with pytest.raises(ConfigurationError, match="ended with its block"):
            call()
    with pytest.raises(ConfigurationError, match="entered once"), env:
        pass


def test_spans_of_the_clock() -> None:
    with TestEnvironment(workers=0) as env:
        before = env.clock.now()
        env.clock.advance("2d")
        assert timedelta(days=2) <= env.clock.now() - before < timedelta(days=2, minutes=1)
        for wrong in ("two days", -1, None, "2"):
            with pytest.raises(ConfigurationError):
                env.clock.advance(wrong)  # type: ignore[arg-type]


def test_wrong_arguments_of_the_kit_are_reported() -> None:
    with pytest.raises(ConfigurationError, match="handlers is a mapping of names to functions"):
        TestEnvironment(handlers=[lambda ctx: 1])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="models is a function from prompts to replies"):
        TestEnvironment(models="gpt")
    with TestEnvironment(workers=1) as env:
        env.kill_worker()
        with pytest.raises(ConfigurationError, match="no such worker"):
            env.kill_worker()


ASKS = {"ask": "nodes:\n  a: {uses: ask}\n", "ask-awaited": "nodes:\n  a: {uses: ask_awaited}\n"}


def ask(ctx: NodeContext) -> str:
    return ctx.llm.complete("how long?")


async def ask_awaited(ctx: AsyncNodeContext) -> str:
    return await ctx.llm.complete("how long?") + "".join([piece async for piece in ctx.llm.stream("and now?")])


def test_a_function_is_a_model_and_without_one_a_call_says_so() -> None:
    handlers = {"ask": ask, "ask_awaited": ask_awaited}
    with TestEnvironment(blueprints=ASKS, handlers=handlers, models=str.upper) as env:
        assert env.client.execute("ask", timeout=60)["a"] == "HOW LONG?"
        assert env.client.execute("ask-awaited", timeout=60)["a"] == "HOW LONG?AND NOW?"
    missing = "no language model is configured: add one to llm.providers"
    with TestEnvironment(blueprints=ASKS, handlers=handlers) as env:
        for blueprint in ASKS:
            with pytest.raises(RunFailedError, match=missing):
                env.client.execute(blueprint, timeout=20)
    with pytest.raises(LLMSettingsError, match=missing):
        run_handler(ask)


WARNED = "inputs: {name: string}\nnodes: {pay: {uses: charge, inputs: name.first}}\n"


def test_what_check_warns_of_is_a_warning_of_python(deployment: Path, recwarn: pytest.WarningsRecorder) -> None:
    expected = [
        (
            "flow.yaml",
            2,
            "flow.yaml:2:37   nodes.pay.inputs: 'name' is a string and has no parts: 'name.first' is always null",
        ),
    ]

    def shown() -> list[tuple[str, int, str]]:
        found = [each for each in recwarn if each.category is BlueprintWarning]
        recwarn.clear()
        return [(Path(each.filename).name, each.lineno, str(each.message).rpartition("/")[2]) for each in found]

    warnings.simplefilter("default", BlueprintWarning)
    with TestEnvironment(handlers={"charge": lambda ctx: 1}, blueprints={"flow": WARNED}) as env:
        assert shown() == expected
        env.publish({"id": "json", "nodes": [{"id": "pay", "uses": "charge"}], "edges": [], "extra": 1})
        assert [message.partition("   ")[2] for _, _, message in shown()] == ["extra: unknown key, ignored"]
        env.publish({"right": WARNED.replace(".first", "")})
    assert shown() == []
    (deployment / "flows" / "flow.yaml").write_text(WARNED)
    with TestEnvironment.from_config(deployment / "flowcraft.yaml"):
        assert shown() == expected
