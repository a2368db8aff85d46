"""Runs one test case of a blueprint on the real engine, and moves the clock over every pause."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from flowcraft_sdk import FlowcraftError, Handle, RunSnapshot
from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.blueprints.model import Blueprint
from flowcraft_server.testing.coverage import Coverage
from flowcraft_server.testing.environment import TestEnvironment
from flowcraft_server.testing.expectations import Mismatch, Observed, compare
from flowcraft_server.testing.mocks import WAITS, DelayedNodes, Mocks

TIMEOUT = 30.0
"""Seconds of real time that a case may take."""

LOOK_PAUSE = 0.002


class CaseError(Exception):
    """A case could not be run to where it can be compared."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a test case.

    Attributes:
        blueprint: the blueprint that it stands in.
        index: its place among the blueprint's cases, from 0.
        name: its name; `#2` for the second one, if it has none.
        seconds: how long it took.
        mismatches: what was otherwise than expected; empty if the case passed.
        problem: why it could not be compared at all; empty if it was.
    """

    blueprint: Blueprint
    index: int
    name: str
    seconds: float = 0.0
    mismatches: tuple[Mismatch, ...] = ()
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.mismatches and not self.problem

    @property
    def place(self) -> str:
        """Where the case stands, as `file:line:column`; empty if it stands in no file."""
        position = self.blueprint.positions.of(("tests", self.index))
        return str(position) if position is not None else ""

    def place_of(self, mismatch: Mismatch) -> str:
        """Where what was not met stands."""
        position = self.blueprint.positions.of(("tests", self.index, "expect", *mismatch.path))
        return str(position) if position is not None else self.place

    def explained(self) -> Iterator[str]:
        """What was not met, in lines; each part begins with its place, and further lines of it are indented."""
        if self.problem:
            yield f"{self.place}   {self.problem}"
        for mismatch in self.mismatches:
            yield f"{self.place_of(mismatch)}   expect.{mismatch.written_path}: {mismatch.message}"
            yield from (f"    {line}" for line in mismatch.difference)


def case_name(blueprint: Blueprint, index: int) -> str:
    """The name of a case; its number, if it has none."""
    return blueprint.tests[index].get("name") or f"#{index + 1}"


def observed_of(handle: Handle[Any], snapshot: RunSnapshot) -> Observed:
    """What a run did, as expectations are compared with it.

    Args:
        handle: of the run.
        snapshot: of it, with context and outputs.
    """
    rows, items = Counter[str](), Counter[str]()
    for attempt in handle.attempts():
        (rows if attempt.item is None else items)[attempt.node_id] += 1
    outputs = {name: node.output for name, node in snapshot.nodes.items() if str(node.status) == "completed"}
    return Observed(
        status=str(snapshot.status),
        times={**rows, **items},
        outputs=outputs,
        output=snapshot.output,
        context=snapshot.ctx or {},
        failures=tuple((failure.node_id, failure.type, failure.message) for failure in snapshot.failures),
        waiting=tuple(point.node_id for point in snapshot.waiting),
    )


class CaseRunner:
    """Runs test cases, one after the other, in an environment that was entered.

    Args:
        env: the environment; its blueprints are published.
        coverage: where it is noted what the runs went through.
        timeout: seconds of real time that a case may take.
        notes: what is to be known of how the cases are run, a line each.
    """

    def __init__(
        self, env: TestEnvironment, coverage: Coverage, timeout: float = TIMEOUT, notes: Iterable[str] = ()
    ) -> None:
        self.notes = tuple(notes)
        self._env = env
        self._coverage = coverage
        self._timeout = timeout

    def run(self, blueprint: Blueprint, index: int) -> CaseResult:
        """Run a case and compare what its run did with what the case expects."""
        case = blueprint.tests[index]
        begin = time.perf_counter()
        result = CaseResult(blueprint, index, case_name(blueprint, index))
        try:
            observed = self._observe(blueprint, case)
            result = replace(result, mismatches=tuple(compare(case.get("expect") or {}, observed)))
        except (CaseError, FlowcraftError) as error:
            result = replace(result, problem=" ".join(str(error).split()))
        return replace(result, seconds=time.perf_counter() - begin)

    def _observe(self, blueprint: Blueprint, case: Mapping[str, Any]) -> Observed:
        env = self._env
        delayed = DelayedNodes(lambda: env.clock.now().timestamp() * 1000)
        mocks = Mocks(blueprint, case.get("mocks") or {}, delayed)
        env.handlers.update(mocks.handlers(env.handlers))
        env.publish_checked([replace(mocks.in_place(env.queues), run_limits=None)])
        handle = env.client.start(blueprint.id, case.get("input") or {})
        try:
            wants_to_wait = (case.get("expect") or {}).get("status") == "waiting"
            _Progress(env, handle, blueprint, case, mocks, delayed, wants_to_wait).drive(clock() + self._timeout)
            snapshot = handle.describe(ctx=True, outputs=True)
            observed = observed_of(handle, snapshot)
        finally:
            self._leave(handle, delayed)
            env.publish_checked([replace(blueprint, run_limits=None)])
        self._coverage.ran(blueprint.id, (node for node, count in observed.times.items() if count))
        return observed

    def _leave(self, handle: Handle[Any], delayed: DelayedNodes) -> None:
        """End a run that is left before its end: the next case begins with nothing of it."""
        if not handle.status().is_terminal:
            handle.cancel("the test is over", grace=0)
        delayed.release(float("inf"))
        until = clock() + self._timeout
        while self._env.is_busy() and clock() < until:
            time.sleep(LOOK_PAUSE)


@dataclass(slots=True)
class _Progress:
    """A run on its way to where it is compared: at its end, or where it waits for what nothing answers."""

    env: TestEnvironment
    handle: Handle[Any]
    blueprint: Blueprint
    case: Mapping[str, Any]
    mocks: Mocks
    delayed: DelayedNodes
    wants_to_wait: bool

    def drive(self, until: float) -> None:
        """Go there.

        Raises:
            CaseError: it takes too long, or a mocked answer is refused.
        """
        answers: dict[str, tuple[float, Mapping[str, Any]]] = {}
        waits = {node.id for node in self.blueprint.nodes if node.uses in WAITS}
        mocked = waits & (self.case.get("mocks") or {}).keys()
        while True:
            self._settle(until)
            snapshot = self.handle.describe()
            if snapshot.status.is_terminal:
                return
            now = self.env.clock.now().timestamp() * 1000
            unanswered = False
            for point in snapshot.waiting:
                if point.kind not in ("signal", "webhook"):
                    continue
                if point.node_id not in mocked:
                    unanswered = True
                elif point.node_id not in answers:
                    answer = self.mocks.signal_for(point.node_id) or {}
                    answers[point.node_id] = (now + (answer.get("delay") or 0), answer)
            open_ones = {point.node_id for point in snapshot.waiting}
            answers = {name: answer for name, answer in answers.items() if name in open_ones}
            due = next((name for name, (at, _) in answers.items() if at <= now), None)
            if due is not None:
                _, answer = answers.pop(due)
                self.handle.signal(due, answer.get("signal"), action=answer.get("action"))
            elif (unanswered and self.wants_to_wait) or not self._move(now, [at for at, _ in answers.values()]):
                return

    def _settle(self, until: float) -> None:
        """Wait until all that can run has run; nodes that wait for the test clock may be left."""
        while True:
            held = len(self.delayed)
            if not self.env.is_busy(held) and len(self.delayed) == held:
                return
            if clock() > until:
                raise CaseError(f"still at work when its time was over: {self.env.at_work()}")
            time.sleep(LOOK_PAUSE)

    def _move(self, now: float, answers: list[float]) -> bool:
        """Move the clock to what comes next; False if nothing does."""
        timer = self.env.clock.until_next_timer()
        times = [at - now for at in (*answers, self.delayed.next_due()) if at is not None]
        if timer is not None:
            times.append(timer.total_seconds() * 1000)
        if not times:
            return False
        self.env.clock.advance(timedelta(milliseconds=max(1.0, min(times))))
        self.delayed.release(self.env.clock.now().timestamp() * 1000)
        return True
