"""Runs the cases of an evaluation on the real engine, several at once, and looks at what came of each run."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from flowcraft_sdk import FlowcraftError, Handle, RunSnapshot, WaitTimeoutError
from flowcraft_sdk.protocol.clock import clock
from flowcraft_sdk.protocol.usage_sums import total
from flowcraft_sdk.records import Usage
from flowcraft_server.llm.errors import LLMError
from flowcraft_server.testing import TestEnvironment
from flowcraft_server.testing.case_run import observed_of

from .checking import Miss, misses, plain
from .judge import Judge, JudgeError
from .model import EvalCase, Evaluation

LOOK_PAUSE = 1.0
"""Seconds between two looks whether a run waits for what nothing brings."""

SPARE = 60.0
"""Seconds after its timeout for which the end of a run is waited for."""


class EvalStopped(Exception):
    """The evaluation is to stop before its end."""


@dataclass(frozen=True, slots=True)
class EvalRun:
    """A run of a case.

    Attributes:
        case: the number of the case, from 0.
        misses: what was otherwise than expected; empty if the run passed.
        problem: why it could not be looked at; empty if it could.
        seconds: from the beginning of the run to its end.
        usage: what its model calls have used.
        judged: what the calls of the judge have used.
    """

    case: int
    misses: tuple[Miss, ...] = ()
    problem: str = ""
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    judged: Usage = field(default_factory=Usage)

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.misses and not self.problem


class EvalRunner:
    """Runs the cases of an evaluation in an environment that was entered.

    Args:
        env: the environment; the blueprint is published.
        evaluation: the cases.
        blueprint_id: what they are run with.
        judge: asked about criteria; None if there are none.
    """

    def __init__(
        self, env: TestEnvironment, evaluation: Evaluation, blueprint_id: str, judge: Judge | None = None
    ) -> None:
        self._env = env
        self._evaluation = evaluation
        self._blueprint_id = blueprint_id
        self._judge = judge
        self._stop = threading.Event()

    def run(self, on_run: Callable[[EvalRun], object] = lambda _: None) -> list[EvalRun]:
        """Run all cases as often as they say; returns the runs in the order of the file.

        Args:
            on_run: called as each has ended, from any thread.
        """
        evaluation = self._evaluation
        jobs = [index for index, case in enumerate(evaluation.cases) for _ in range(case.repeat)]

        def one(index: int) -> EvalRun:
            done = self._one(index, evaluation.cases[index])
            on_run(done)
            return done

        pool = ThreadPoolExecutor(evaluation.concurrency, thread_name_prefix="eval")
        try:
            return list(pool.map(one, jobs))
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _one(self, index: int, case: EvalCase) -> EvalRun:
        if self._stop.is_set():
            raise EvalStopped
        timeout = self._evaluation.timeout_ms / 1000
        try:
            handle = self._env.client.start(self._blueprint_id, case.input, run_timeout=timeout)
            problem = self._wait(handle, timeout, case.checks.plain.get("status") == "waiting")
            snapshot = handle.describe(ctx=True, outputs=True)
            observed = observed_of(handle, snapshot)
            if not snapshot.status.is_terminal:
                handle.cancel("the evaluation has seen enough", grace=0)
        except FlowcraftError as error:
            return EvalRun(index, problem=" ".join(str(error).split()))
        seconds, usage = _seconds(snapshot), snapshot.usage or Usage()
        if problem:
            return EvalRun(index, (), problem, seconds, usage)
        found = misses(case.checks, observed, case.input, usage, seconds)
        if found or not case.checks.judged:  # a judge costs money: it is asked about what is right so far
            return EvalRun(index, tuple(found), "", seconds, usage)
        return self._judged(index, case, plain(observed.output), seconds, usage)

    def _wait(self, handle: Handle[object], timeout: float, wants_to_wait: bool) -> str:
        """Wait for the end of a run, or until it waits as it is to; returns why it is not waited for any more, else."""
        until = clock() + timeout + SPARE
        while not self._stop.is_set():
            try:
                handle.wait(LOOK_PAUSE)
                return ""
            except WaitTimeoutError:
                problem = _stands_still(handle.describe())
            if not problem and clock() > until:
                problem = "the run has not ended within its time"
            if problem:
                return "" if wants_to_wait else problem
        handle.cancel("the evaluation was stopped", grace=0)
        raise EvalStopped

    def _judged(self, index: int, case: EvalCase, output: object, seconds: float, usage: Usage) -> EvalRun:
        assert self._judge is not None
        found, spent, problem = [], [], ""
        for check in case.checks.judged:
            if self._stop.is_set():
                raise EvalStopped
            try:
                verdict = self._judge.verdict(check.criterion, case.input, output)
            except JudgeError as error:
                spent.append(error.usage)
                problem = str(error)
                break
            except LLMError as error:
                problem = f"the judge cannot be asked: {' '.join(str(error).split())}"
                break
            spent.append(verdict.usage)
            if not verdict.passed:
                found.append(Miss(check.place, f"the judge found: {verdict.reason or 'it is not met'}"))
        return EvalRun(index, tuple(found), problem, seconds, usage, total(spent))


def _stands_still(snapshot: RunSnapshot) -> str:
    """Why a run does not go on: it waits for nothing but answers, which an evaluation does not give."""
    if str(snapshot.status) != "waiting":
        return ""
    points = [point for point in snapshot.waiting if point.kind != "subflow"]
    if not points or not all(point.kind in ("signal", "webhook") and point.expires_at is None for point in points):
        return ""
    names = ", ".join(f"'{point.node_id}'" for point in points)
    return f"the run waits for an answer at {names}, which an evaluation does not give"


def _seconds(snapshot: RunSnapshot) -> float:
    if snapshot.started_at is None or snapshot.ended_at is None:
        return 0.0
    return max(0.0, (snapshot.ended_at - snapshot.started_at).total_seconds())
