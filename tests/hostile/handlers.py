"""Handlers that misbehave. Each is registered under its name, run as the only node of a blueprint of that name.

What must come of each stands in its decorator; `test_hostile.py` runs them one after the other in one worker process.
"""

import _thread
import argparse
import asyncio
import collections.abc
import ctypes
import gc
import io
import itertools
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from loguru import logger

from flowcraft_sdk import AsyncNodeContext, DynamicNode, NodeContext, NodeResult


@dataclass(frozen=True)
class Expected:
    """What must come of a handler.

    Attributes:
        status: of its run.
        failure: the type of the node's failure, its end at least; "" for none.
        message: what the failure's message holds.
        output: the node's output, if it completes.
        config: of the node.
        context: how the run is started.
    """

    status: str = "completed"
    failure: str = ""
    message: str = ""
    output: Any = None
    config: str = ""
    any_output: bool = False


HOSTILE: dict[str, tuple[Callable[..., Any], Expected]] = {}


def fails(failure: str, message: str = "", *, config: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The run must fail with a failure of this type."""
    return _registered(Expected("failed", failure, message, config=config))


def completes(output: Any = None, *, config: str = "", any_output: bool = False) -> Callable[..., Any]:
    """The run must complete with this output."""
    return _registered(Expected(output=output, config=config, any_output=any_output))


def _registered(expected: Expected) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        HOSTILE[function.__name__] = function, expected
        return function

    return register


class Outrage(BaseException):
    """No Exception."""


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise Outrage("no text")

    __repr__ = __str__


# ---- words and values that cannot be stored

HALF = "\ud800"


class Stubborn(dict[str, Any]):
    """Looking into it takes a minute."""

    def items(self) -> Any:
        time.sleep(60)
        return super().items()


class StubbornError(Exception):
    """Its text takes a minute."""

    def __str__(self) -> str:
        time.sleep(60)
        return "late"


class MisnamedError(Exception):
    """Its name cannot be stored."""


MisnamedError.__qualname__ = f"Misnamed{HALF}"


class HomelessError(Exception):
    """It has no module."""


HomelessError.__module__ = None  # type: ignore[assignment]


@fails("SerializationError", "valid UTF-8")
def sets_half_a_character(ctx: NodeContext) -> None:
    ctx.context.set(HALF, 1)


@fails("SerializationError", "valid UTF-8")
async def sets_half_a_character_in_coroutine(ctx: AsyncNodeContext) -> None:
    await ctx.context.set(HALF, 1)


@fails("SerializationError", "a context key is a text")
def sets_under_bytes(ctx: NodeContext) -> None:
    ctx.context.set(b"a\xff", 1)  # type: ignore[arg-type]


@fails("SerializationError", "a context key is a text")
async def sets_under_a_tuple(ctx: AsyncNodeContext) -> None:
    await ctx.context.set(("a",), 1)  # type: ignore[arg-type]


@fails("SerializationError", "a context key is a text")
def deletes_nothing(ctx: NodeContext) -> None:
    ctx.context.delete(None)  # type: ignore[arg-type]


@fails("SerializationError", "valid UTF-8")
async def deletes_half_a_character(ctx: AsyncNodeContext) -> None:
    await ctx.context.delete(HALF)


@fails("SerializationError", "an action is valid UTF-8")
def half_an_action(ctx: NodeContext) -> NodeResult:
    return NodeResult(1, action=HALF)


@fails("SerializationError", "an action is valid UTF-8")
async def half_an_action_of_a_coroutine(ctx: AsyncNodeContext) -> NodeResult:
    return NodeResult(1, action=HALF)


@fails("NodeTimeout", config="timeout: 1s")
def stubborn_value(ctx: NodeContext) -> Any:
    return Stubborn(a=1)


@fails("NodeTimeout", config="timeout: 1s")
async def stubborn_value_of_a_coroutine(ctx: AsyncNodeContext) -> Any:
    return Stubborn(a=1)


@fails("NodeTimeout", config="timeout: 1s")
async def stubborn_error_of_a_coroutine(ctx: AsyncNodeContext) -> Any:
    raise StubbornError


@fails("ValueError", "after its input")
async def stubborn_input_of_a_coroutine(ctx: AsyncNodeContext) -> Any:
    ctx.input.append(Stubborn(a=1))
    raise ValueError("after its input")


@fails("NodeTimeout", config="timeout: 1s")
async def stubborn_dynamic_node(ctx: AsyncNodeContext) -> Any:
    return NodeResult(1, dynamic_nodes=[DynamicNode(id="one", uses="innocent", params=Stubborn(a=1))])


@fails("Exception", "misnamed")
def misnamed_error(ctx: NodeContext) -> None:
    raise MisnamedError("misnamed")


@fails("Exception", "misnamed")
async def misnamed_error_in_coroutine(ctx: AsyncNodeContext) -> None:
    raise MisnamedError("misnamed")


@fails("Exception", "homeless")
def homeless_error(ctx: NodeContext) -> None:
    raise HomelessError("homeless")


@fails("InvalidDynamicNode", "limits.dynamicNodes")
async def too_many_dynamic_nodes(ctx: AsyncNodeContext) -> Any:
    return NodeResult(1, dynamic_nodes=[DynamicNode(id=f"g{n}", uses="innocent") for n in range(60_000)])


class Clinging:
    """It takes a minute to go."""

    def __del__(self) -> None:
        time.sleep(60)


class ClingingDict(dict[str, Any]):
    """A value that takes a minute to go."""

    __del__ = Clinging.__del__


class StubbornText(str):
    """A text that cannot be looked up."""

    def __hash__(self) -> int:
        time.sleep(60)
        return 1

    def __eq__(self, other: object) -> bool:
        time.sleep(60)
        return False


@fails("ValueError", "clinging")
def clinging_local(ctx: NodeContext) -> None:
    clinging = Clinging()
    raise ValueError(f"clinging {id(clinging) > 0}")


@completes({"a": 1})
def clinging_value(ctx: NodeContext) -> Any:
    return ClingingDict(a=1)


@completes({"a": 1})
async def clinging_value_of_a_coroutine(ctx: AsyncNodeContext) -> Any:
    return ClingingDict(a=1)


@completes(1)
def stubborn_action(ctx: NodeContext) -> NodeResult:
    return NodeResult(1, action=StubbornText("x"))


@completes(1)
async def stubborn_action_of_a_coroutine(ctx: AsyncNodeContext) -> NodeResult:
    return NodeResult(1, action=StubbornText("x"))


def _adds(**words: Any) -> NodeResult:
    return NodeResult(1, dynamic_nodes=[DynamicNode(**({"id": "one", "uses": "innocent"} | words))])


@fails("InvalidDynamicNode", "params is an object")
def adds_a_list_of_params(ctx: NodeContext) -> NodeResult:
    return _adds(params=[1])


@fails("InvalidDynamicNode", "maxRetries is a number")
def adds_texts_for_numbers(ctx: NodeContext) -> NodeResult:
    return _adds(config={"nonRetryable": [5], "maxRetries": "3"})


@fails("InvalidDynamicNode", "retryDelay.factor is a number from 1 to 1000")
async def adds_an_endless_factor(ctx: AsyncNodeContext) -> NodeResult:
    return _adds(config={"maxRetries": 5, "retryDelay": {"initial": "1s", "factor": 1e300, "max": "1s", "jitter": 50}})


@fails("InvalidDynamicNode", "whole number")
def adds_a_map_without_room(ctx: NodeContext) -> NodeResult:
    return _adds(uses="map", params={"uses": "innocent", "maxLive": -1})


@fails("ExceptionGroup", "many")
def many_exceptions(ctx: NodeContext) -> None:
    error: Exception = ValueError("one")
    for _ in range(40):
        error = ExceptionGroup("many", [error, error])
    raise error


@fails("ExceptionGroup", "many")
async def many_exceptions_of_a_coroutine(ctx: AsyncNodeContext) -> None:
    error: Exception = ValueError("one")
    for _ in range(40):
        error = ExceptionGroup("many", [error, error])
    raise error


@completes(1)
async def deaf_loop(ctx: AsyncNodeContext) -> int:
    loop: Any = asyncio.get_running_loop()
    loop._csock.close()
    loop._ssock.close()
    return 1


# ---- containers that never end, or lie


class EndlessDict(dict[str, Any]):
    """There is always another item."""

    def items(self) -> Any:
        return ((str(number), number) for number in itertools.count())


class EndlessList(list[Any]):
    """There is always another element."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(1)


class EndlessTexts(list[Any]):
    """Its elements are few and large."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat("x" * 1_000_000)


class EndlessDepth(list[Any]):
    """Each element holds another one."""

    def __iter__(self) -> Iterator[Any]:
        return iter([EndlessDepth(), EndlessDepth()])


class EndlessMapping(collections.abc.Mapping[str, Any]):
    """A mapping that is no dict and has as many keys as it is asked for; it says that there are none."""

    def __getitem__(self, key: str) -> Any:
        return key

    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())

    def __len__(self) -> int:
        return 0


class NoPairs(dict[str, Any]):
    """Its items are none."""

    def items(self) -> Any:
        return [1, 2, 3]


class LyingText(str):
    """It is long and says that it is short."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> Any:
        return self

    def encode(self, *_: Any) -> bytes:
        return b""

    def __str__(self) -> str:
        return self


class LyingLength(list[Any]):
    """It says that it is endless, and is short."""

    def __len__(self) -> int:
        return sys.maxsize


class EndlessNotes(list[Any]):
    """Notes of an exception."""

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat("note")


def _bomb(levels: int = 60) -> list[Any]:
    """A few lists that stand for more elements than there are atoms."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value, value]
    return value


@fails("SerializationError", "EndlessDict gives more than 100,000 items")
def returns_an_endless_dict(ctx: NodeContext) -> Any:
    return EndlessDict()


@fails("SerializationError", "EndlessList gives more than 100,000 items")
async def returns_an_endless_list_from_a_coroutine(ctx: AsyncNodeContext) -> Any:
    return {"list": EndlessList()}


@fails("PayloadTooLargeError")
def returns_endless_texts(ctx: NodeContext) -> Any:
    return EndlessTexts()


@fails("SerializationError", "nested deeper")
async def returns_endless_depth(ctx: AsyncNodeContext) -> Any:
    return EndlessDepth()


@fails("SerializationError", "items of tests.hostile.handlers.NoPairs are no pairs")
def returns_items_that_are_no_pairs(ctx: NodeContext) -> Any:
    return NoPairs()


@fails("PayloadTooLargeError")
def returns_a_bomb(ctx: NodeContext) -> Any:
    return _bomb()


@fails("PayloadTooLargeError")
async def returns_a_bomb_of_dates(ctx: AsyncNodeContext) -> Any:
    return [datetime.now(UTC), _bomb()]


@fails("PayloadTooLargeError")
async def returns_one_text_many_times(ctx: AsyncNodeContext) -> Any:
    return ["x" * 1_000_000] * 1_000_000


@completes([1])
def returns_a_length_that_is_none(ctx: NodeContext) -> Any:
    return LyingLength([1])


@fails("SerializationError", "EndlessMapping gives more than 100,000 items")
def sets_an_endless_mapping(ctx: NodeContext) -> None:
    ctx.context.set("key", EndlessMapping())


@fails("PayloadTooLargeError", "context.key")
async def sets_a_bomb(ctx: AsyncNodeContext) -> None:
    await ctx.context.set("key", _bomb())


@fails("ConfigurationError", "1,000 characters at most")
def sets_under_a_key_that_lies(ctx: NodeContext) -> None:
    ctx.context.set(LyingText("x" * 1_000_000), 1)


@fails("ConfigurationError", "1,000 characters at most")
async def reads_under_a_key_that_lies(ctx: AsyncNodeContext) -> None:
    await ctx.context.get(LyingText("x" * 1_000_000))


@fails("ConfigurationError", "10,000 context keys")
def reads_keys_without_end(ctx: NodeContext) -> None:
    ctx.context.get_many(map(str, itertools.count()))


@fails("ConfigurationError", "10,000 context keys")
async def reads_keys_without_end_in_coroutine(ctx: AsyncNodeContext) -> None:
    await ctx.context.get_many(map(str, itertools.count()))


@fails("SerializationError", "EndlessDict gives more than 100,000 items")
def emits_an_endless_dict(ctx: NodeContext) -> None:
    ctx.emit("event", EndlessDict())


@fails("PayloadTooLargeError", "event")
async def emits_a_bomb(ctx: AsyncNodeContext) -> None:
    ctx.emit("event", _bomb())


@fails("ConfigurationError", "an event name has 1 to 200 characters")
def emits_under_a_name_that_lies(ctx: NodeContext) -> None:
    ctx.emit(LyingText("x" * 1_000_000))


@fails("TypeError")
async def reports_an_endless_fraction(ctx: AsyncNodeContext) -> None:
    ctx.progress(EndlessList())  # type: ignore[arg-type]


@completes("reported")
def reports_a_message_that_lies(ctx: NodeContext) -> str:
    ctx.progress(0.5, LyingText("x" * 5_000_000))
    return "reported"


@completes("reported")
def reports_for_a_second(ctx: NodeContext) -> str:
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        ctx.progress(0.5, "x" * 1_000)
    return "reported"


@fails("EventsNotSent", "wait to be sent")
def emits_without_end(ctx: NodeContext) -> str:
    while True:
        ctx.emit("again", "x" * 60_000)


@fails("ValueError", "noted")
def notes_without_end(ctx: NodeContext) -> None:
    error = ValueError("noted")
    error.__notes__ = EndlessNotes()
    raise error


@fails("ValueError", "x")
async def details_without_end(ctx: AsyncNodeContext) -> None:
    error = ValueError("x")
    error.details = EndlessMapping()  # type: ignore[attr-defined]
    raise error


@fails("SerializationError", "EndlessDict gives more than 100,000 items")
def adds_endless_params(ctx: NodeContext) -> NodeResult:
    return NodeResult(1, dynamic_nodes=[DynamicNode(id="one", uses="innocent", params=EndlessDict())])


@fails("SerializationError", "EndlessMapping gives more than 100,000 items")
async def adds_an_endless_node(ctx: AsyncNodeContext) -> NodeResult:
    return NodeResult(1, dynamic_nodes=[EndlessMapping()])


@fails("InvalidHandlerResult", "more than 1,000,000 nodes")
def adds_nodes_without_end(ctx: NodeContext) -> NodeResult:
    return NodeResult(1, dynamic_nodes=itertools.repeat(None))  # type: ignore[arg-type]


# ---- ways to leave


@fails("SystemExit", "2")
def exit_by_argparse(ctx: NodeContext) -> None:
    sys.stderr = io.StringIO()
    argparse.ArgumentParser().parse_args(["--nonsense"])


@fails("SystemExit", "bye")
def exit_by_sys_exit(ctx: NodeContext) -> None:
    sys.exit("bye")


@fails("SystemExit")
async def exit_in_coroutine(ctx: AsyncNodeContext) -> None:
    await asyncio.sleep(0)
    sys.exit(3)


@fails("KeyboardInterrupt")
def keyboard_interrupt(ctx: NodeContext) -> None:
    raise KeyboardInterrupt


@fails("KeyboardInterrupt")
async def keyboard_interrupt_in_coroutine(ctx: AsyncNodeContext) -> None:
    raise KeyboardInterrupt


@fails("GeneratorExit")
def generator_exit(ctx: NodeContext) -> None:
    raise GeneratorExit


@fails("GeneratorExit")
async def generator_exit_in_coroutine(ctx: AsyncNodeContext) -> None:
    await asyncio.sleep(0)
    raise GeneratorExit


@fails("Outrage", "whatever")
def own_base_exception(ctx: NodeContext) -> None:
    raise Outrage("whatever")


@fails("Outrage", "whatever")
async def own_base_exception_in_coroutine(ctx: AsyncNodeContext) -> None:
    raise Outrage("whatever")


@fails("CancelledError")
def cancelled_error_of_a_function(ctx: NodeContext) -> None:
    raise asyncio.CancelledError("never asked for")


@fails("CancelledError")
async def cancelled_error_of_a_coroutine(ctx: AsyncNodeContext) -> None:
    raise asyncio.CancelledError("never asked for")


@fails("CancelledError")
async def cancels_itself(ctx: AsyncNodeContext) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(5)


@fails("StopIteration")
def stop_iteration(ctx: NodeContext) -> None:
    raise StopIteration


@fails("RuntimeError", "StopIteration")
async def stop_iteration_in_coroutine(ctx: AsyncNodeContext) -> None:
    raise StopIteration


@fails("Unspeakable", "Unspeakable")
def exception_without_text(ctx: NodeContext) -> None:
    raise Unspeakable


@fails("BaseExceptionGroup")
def group_of_exits(ctx: NodeContext) -> None:
    raise BaseExceptionGroup("several", [SystemExit(1), KeyboardInterrupt(), ValueError("x")])


@fails("ValueError", "round and round")
def exception_that_causes_itself(ctx: NodeContext) -> None:
    first, second = ValueError("round and round"), ValueError("the other")
    first.__cause__, second.__cause__ = second, first
    raise first


@fails("RecursionError")
def endless_recursion(ctx: NodeContext) -> None:
    endless_recursion(ctx)


@fails("SystemExit")
def thread_exit(ctx: NodeContext) -> None:
    _thread.exit()


@fails("SystemExit", config="timeout: 5s")
def exception_from_another_thread(ctx: NodeContext) -> None:
    ident = ctypes.c_ulong(threading.get_ident())
    raiser = threading.Thread(
        target=lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(SystemExit))
    )
    raiser.start()
    while True:
        time.sleep(0.001)


@completes("mapped")
def fine_after_all(ctx: NodeContext) -> str:
    """The tame one among them: the harness itself is right."""
    return "mapped"


# ---- ways to hang


@fails("NodeTimeout", config="timeout: 300ms")
def sleeps_too_long(ctx: NodeContext) -> None:
    time.sleep(2.0)


@fails("NodeTimeout", config="timeout: 300ms")
def waits_for_a_lock(ctx: NodeContext) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=2.0)


@fails("NodeTimeout", config="timeout: 300ms")
async def blocks_the_loop(ctx: AsyncNodeContext) -> None:
    time.sleep(1.0)


@fails("NodeTimeout", config="timeout: 300ms")
async def swallows_cancellation(ctx: AsyncNodeContext) -> str:
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass
    return "too late"


@fails("NodeTimeout", config="timeout: 300ms")
async def shields_its_task(ctx: AsyncNodeContext) -> None:
    inner = asyncio.ensure_future(asyncio.sleep(2.0))
    try:
        await asyncio.shield(inner)
    except asyncio.CancelledError:
        await inner


@fails("NodeTimeout", config="timeout: 300ms")
async def waits_for_a_future_of_nobody(ctx: AsyncNodeContext) -> None:
    await asyncio.get_running_loop().create_future()


@fails("NodeTimeout", config="timeout: 300ms")
def endless_generator(ctx: NodeContext) -> list[int]:
    until = time.monotonic() + 2.0

    def numbers() -> Iterator[int]:
        while time.monotonic() < until:
            yield 1

    return [0 for _ in numbers() if not ctx.cancelled]


@fails("NodeTimeout", config="timeout: 300ms")
def retries_what_stops_it(ctx: NodeContext) -> None:
    until = time.monotonic() + 2.0
    while time.monotonic() < until:
        try:
            ctx.check_cancelled()
            time.sleep(0.01)
        except BaseException:
            pass


# ---- ways to harm


@completes("stopped")
async def stops_the_loop(ctx: AsyncNodeContext) -> str:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return "stopped"


@fails("RuntimeError", "running event loop")
async def closes_the_loop(ctx: AsyncNodeContext) -> None:
    asyncio.get_running_loop().close()


@completes(any_output=True)
async def closes_the_loop_from_a_thread(ctx: AsyncNodeContext) -> str:
    """Its own attempt is given up with the loop, and run again; the second one leaves it alone."""
    if ctx.fencing_token > 1:
        return "again"
    loop = asyncio.get_running_loop()

    def close() -> None:
        for _ in range(2000):
            if not loop.is_running():
                loop.close()
                return
            time.sleep(0.0005)

    threading.Thread(target=close, daemon=True).start()
    for _ in range(200):
        loop.stop()
        await asyncio.sleep(0.01)
    return "the loop could not be closed"


@fails("CancelledError")
async def cancels_all_tasks(ctx: AsyncNodeContext) -> None:
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(1)


@completes("went on")
async def raises_in_a_callback(ctx: AsyncNodeContext) -> str:
    asyncio.get_running_loop().call_soon(sys.exit, "from a callback")
    await asyncio.sleep(0.01)
    return "went on"


@completes("went on")
async def exits_in_a_task_of_its_own(ctx: AsyncNodeContext) -> str:
    async def leave() -> NoReturn:
        raise SystemExit(4)

    task = asyncio.get_running_loop().create_task(leave())
    await asyncio.wait([task])
    task.exception()
    return "went on"


@completes("set")
async def unsets_the_task_factory(ctx: AsyncNodeContext) -> str:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: sys.exit(1))
    return "set"


@completes("forked")
def forks(ctx: NodeContext) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


@completes("forked")
def forks_and_the_child_returns(ctx: NodeContext) -> str:
    """The child comes back out of the handler as if it were the worker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child:
        for _ in range(500):
            if os.waitpid(child, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "the child stayed"
    return "forked"


@completes("used later")
def uses_ctx_afterwards(ctx: NodeContext) -> str:
    def later() -> None:
        time.sleep(0.2)
        ctx.progress(0.5, "after the end")
        ctx.emit("late", {"a": 1})
        ctx.context.set("late", True)

    threading.Thread(target=later, daemon=True).start()
    return "used later"


@completes("goes on")
async def leaves_a_task_behind(ctx: AsyncNodeContext) -> str:
    async def later() -> None:
        await asyncio.sleep(0.2)
        ctx.progress(0.5, "after the end")
        raise ValueError("of nobody")

    ctx.logger.info("task {}", asyncio.get_running_loop().create_task(later()))
    return "goes on"


@completes("changed")
def changes_the_folder(ctx: NodeContext) -> str:
    os.chdir("/")
    return "changed"


@completes("emptied")
def empties_the_environment(ctx: NodeContext) -> str:
    os.environ.clear()
    return "emptied"


@completes("removed")
def removes_log_sinks(ctx: NodeContext) -> str:
    logger.remove()
    logging.disable(logging.CRITICAL)
    return "removed"


@completes("closed")
def closes_stdout(ctx: NodeContext) -> str:
    sys.stdout.close()
    sys.stderr.close()
    return "closed"


@completes("replaced")
def replaces_stdout(ctx: NodeContext) -> str:
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    return "replaced"


@completes("hooked")
def changes_hooks(ctx: NodeContext) -> str:
    sys.excepthook = threading.excepthook = lambda *_: os._exit(9)  # type: ignore[assignment]
    sys.unraisablehook = lambda *_: None  # a deadly one would be called for what handlers before this one have left
    return "hooked"


@completes("slow")
def changes_the_switch_interval(ctx: NodeContext) -> str:
    sys.setswitchinterval(5.0)
    return "slow"


@completes("shallow")
def lowers_the_recursion_limit(ctx: NodeContext) -> str:
    sys.setrecursionlimit(120)
    return "shallow"


@completes("impatient")
def changes_the_socket_timeout(ctx: NodeContext) -> str:
    socket.setdefaulttimeout(0.0001)
    return "impatient"


@completes("uncollected")
def disables_the_collector(ctx: NodeContext) -> str:
    gc.disable()
    return "uncollected"


@completes("frozen")
def freezes_time(ctx: NodeContext) -> str:
    from freezegun import freeze_time

    with freeze_time("2001-01-01"):
        until = ctx.params.get("turns", 400)
        for _ in range(until):
            threading.Event().wait(0.005)
    return "frozen"


@completes("alarmed")
def sets_an_alarm(ctx: NodeContext) -> str:
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    threading.Event().wait(0.3)
    return "alarmed"


@completes("signalled")
def signals_its_process(ctx: NodeContext) -> str:
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM):
        os.kill(os.getpid(), number)
    threading.Event().wait(0.1)
    return "signalled"


@fails("ValueError", "main thread")
def installs_a_signal_handler(ctx: NodeContext) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


# ---- ways to flood


@completes("printed")
def prints_without_end(ctx: NodeContext) -> str:
    for _ in range(2000):
        print("x" * 200)
    return "printed"


@completes("reported")
def floods_with_progress(ctx: NodeContext) -> str:
    for i in range(5000):
        ctx.progress((i % 100) / 100, "again " * 10)
    return "reported"


@completes("reported")
async def floods_with_events(ctx: AsyncNodeContext) -> str:
    for i in range(5000):
        ctx.emit("again", {"number": i})
    return "reported"


@fails("PayloadTooLargeError", "17825794 bytes")
def returns_too_much(ctx: NodeContext) -> str:
    return "x" * (17 * 1024 * 1024)


@completes("written", config="")
def writes_many_keys(ctx: NodeContext) -> str:
    for i in range(5000):
        ctx.context.set(f"key{i}", i)
    return "written"


@completes("logged")
def logs_much(ctx: NodeContext) -> str:
    for _ in range(200):
        ctx.logger.info("y" * 10_000)
    return "logged"


# ---- oddities that are returned


async def _forgotten() -> int:
    return 1


@fails("SerializationError")
def returns_a_coroutine(ctx: NodeContext) -> Any:
    coroutine = _forgotten()
    return [coroutine, coroutine.close()]


@fails("SerializationError")
def returns_a_generator(ctx: NodeContext) -> Any:
    return (i for i in range(3))


@fails("SerializationError")
async def returns_an_async_generator(ctx: AsyncNodeContext) -> Any:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    return numbers()


@fails("SerializationError")
def returns_what_holds_itself(ctx: NodeContext) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


class Text(str):
    """A str that is none."""


class Mapping(dict[str, Any]):
    """A dict that is one."""


class Hollow(dict[str, Any]):
    """A dict with code of its own."""

    def items(self) -> Any:
        raise Outrage("no items")


@completes("text")
def returns_a_subclass_of_str(ctx: NodeContext) -> Any:
    return Text("text")


@completes({"a": 1})
def returns_a_subclass_of_dict(ctx: NodeContext) -> Any:
    return Mapping(a=1)


@fails("Outrage", "no items")
def returns_a_dict_that_raises(ctx: NodeContext) -> Any:
    return Hollow(a=1)


@fails("SerializationError")
def returns_keys_that_are_no_text(ctx: NodeContext) -> Any:
    return {("a", 1): 2}


@completes(any_output=True)
def returns_a_huge_key(ctx: NodeContext) -> Any:
    return {"k" * 100_000: 1}


@completes([1, 2, 3, "changed"])
def changes_its_input_and_params(ctx: NodeContext) -> Any:
    ctx.input.append("changed")
    try:
        ctx.params["turns"] = 1  # type: ignore[index]
    except TypeError:
        pass
    return ctx.input


@fails("InvalidHandlerResult", "NodeResult")
def returns_an_odd_action(ctx: NodeContext) -> Any:
    return NodeResult(1, action=["a"])  # type: ignore[arg-type]


@fails("SerializationError")
def returns_a_lone_surrogate(ctx: NodeContext) -> Any:
    return "\ud800"


@fails("SerializationError", "nan")
def returns_not_a_number(ctx: NodeContext) -> Any:
    return float("nan")


# ---- ways to take the process along: run in a deployment of their own


def ends_the_process(ctx: NodeContext) -> None:
    os._exit(3)


def aborts(ctx: NodeContext) -> None:
    os.abort()


def kills_its_process(ctx: NodeContext) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashes_natively(ctx: NodeContext) -> None:
    ctypes.string_at(0)


async def ends_the_process_in_coroutine(ctx: AsyncNodeContext) -> None:
    await asyncio.sleep(0.01)
    os._exit(3)


def ends_its_thread_natively(ctx: NodeContext) -> None:
    """The thread is gone, and Python does not notice; its attempt is given up. The second attempt is tame."""
    if ctx.fencing_token > 1:
        return
    ctypes.CDLL(None).pthread_exit(None)


KILLERS = {
    function.__name__: function
    for function in (
        ends_the_process, aborts, kills_its_process, crashes_natively, ends_the_process_in_coroutine
    )
}  # fmt: skip


# ---- the innocent


def innocent(ctx: NodeContext) -> dict[str, Any]:
    """What the next function of the process finds."""

    def deep(n: int) -> int:
        return 0 if n == 0 else 1 + deep(n - 1)

    print("still here")
    ctx.logger.info("innocent {}", ctx.run_id)
    with socket.socket() as connection:
        timeout = connection.gettimeout()
    return {
        "pid": os.getpid(),
        "folder": os.getcwd(),
        "path": "PATH" in os.environ and os.environ.get("HOSTILE_TESTS") == "1",
        "interval": sys.getswitchinterval(),
        "depth": deep(500),
        "timeout": timeout,
        "collects": gc.isenabled(),
        "year": time.gmtime().tm_year > 2020,
        "streams": not (sys.stdout.closed or sys.stderr.closed),
    }


async def innocent_coroutine(ctx: AsyncNodeContext) -> dict[str, Any]:
    """What the next coroutine of the process finds."""
    before = time.monotonic()
    await asyncio.gather(asyncio.sleep(0.01), asyncio.sleep(0.02))
    async with asyncio.timeout(5):
        return innocent(ctx) | {"slept": time.monotonic() - before > 0.0}  # type: ignore[arg-type]


async def patient(ctx: AsyncNodeContext) -> str:
    """A run that is under way all the time, until the file `go` is there."""
    while not os.path.exists(ctx.params["go"]):
        await asyncio.sleep(0.02)
    return "waited"


INNOCENT = {function.__name__: function for function in (innocent, innocent_coroutine, patient)}
