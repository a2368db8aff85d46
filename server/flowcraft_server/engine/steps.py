"""The steps of an attempt: which are recorded, in which order they are asked for, and what they give.

A step is found again by its place. The steps that one piece of code asks for one after the other form a sequence: the handler
itself has one, and so have each branch of `ctx.gather` and each try of a step that takes steps itself. In a sequence a step's
place is its number, and its name must be the recorded one. Steps that are asked for in tasks or threads of a handler's own have
no order: they are found by their names, and by what is asked.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flowcraft_sdk.errors import ConfigurationError
from flowcraft_sdk.node import NodeCancelled, StepLimitError, StepMismatchError
from flowcraft_sdk.protocol import wire
from flowcraft_sdk.protocol.bounds import LONGEST_NAME, check_text
from flowcraft_sdk.protocol.step_script import FAILED, MOST_STEP_BYTES, MOST_STEPS, UNUSED, StepEntry, read_entry
from flowcraft_server.engine.attempt import Attempt
from flowcraft_server.engine.step import Step
from flowcraft_server.engine.step_sequences import Sequence, current_sequence, runner_now
from flowcraft_server.engine.step_store import Details, StepStore
from flowcraft_server.engine.values import MISSING

KINDS = ("step", "model", "tool")
CLAIMS_A_ROUND = 1_000_000
"""Items of a batch have claims that begin above those of their owner's earlier batches, see include/batch.lua."""


class AttemptSteps:
    """The steps of one attempt. Thread-safe.

    Args:
        runner: the task, or the number of the thread, in which its handler runs.
        max_value: bytes that a value may take.

    Attributes:
        is_loaded: what earlier attempts have recorded was read.
        entries: what is recorded, by place.
        places: the places of recorded steps in sequences, by the path of these and the name.
        last: the step that has given something last, or was answered; None if another one has failed since.
        unused: how many replies of a step the handler has failed on, by place.
    """

    def __init__(self, attempt: Attempt, store: StepStore, runner: Any, max_value: int | None) -> None:
        self.attempt = attempt
        self.store = store
        self.max_value = max_value
        self.entries: dict[str, StepEntry] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.last: Step | None = None
        self.unused: dict[str, int] = {}
        self._reported = False
        # A node that is claimed for the first time has recorded nothing.
        self.is_loaded = attempt.claim.claims % CLAIMS_A_ROUND == 1
        self._bytes = 0
        self._under_way = 0
        self._suspended = False
        self._root = Sequence(self, "", runner)
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @property
    def is_home(self) -> bool:
        """Whether the caller is the thread in which the handler runs, a plain function."""
        return bool(self._root.runner == threading.get_ident())

    def begin(self, name: str, kind: str = "step", request: str = "") -> Step:
        """Ask for a step: it gets its place now.

        Args:
            kind: step, model or tool.
            request: a digest of what is asked, where the name does not say it all: what is recorded for another is no answer.

        Raises:
            ConfigurationError: the name is none.
        """
        name = check_text(name, "the name of a step", LONGEST_NAME)
        if not name.isprintable():
            raise ConfigurationError(f"the name of a step is one line of text, got {name!r}")
        assert kind in KINDS
        with self._lock:
            sequence, in_order = self._sequence()
            if not in_order:
                key = f"{name}\n{request}" if request else name
                number = sequence.elsewhere[key] = sequence.elsewhere.get(key, 0) + 1
                return Step(self, f"{sequence.path}~{key}\n{number}", None, name, number, kind, request, 0)
            number = sequence.number_for(name)
            sequence.asked += 1
            position = sequence.asked
            return Step(self, f"{sequence.path}{position}", sequence.path, name, number, kind, request, position)

    @contextmanager
    def executing(self) -> Iterator[None]:
        """A step is executed meanwhile.

        Raises:
            NodeCancelled: the node was given back.
        """
        with self._lock:
            if self._suspended:
                raise NodeCancelled(f"node '{self.attempt.claim.instance_id}' is parked")
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def try_suspend(self, count: int) -> bool:
        """Have no further step begin, if just so many are executed; returns whether that is so."""
        with self._lock:
            self._suspended = self._suspended or self._under_way == count
            return self._suspended

    def record(
        self, name: str, kind: str, execute: Callable[[], Any], *, details: Details = None, request: str = ""
    ) -> Any:
        """Give what is recorded for a step; else call `execute`, and record what that gives."""
        return self.begin(name, kind, request).run(execute, details)

    async def arecord(
        self, name: str, kind: str, execute: Callable[[], Awaitable[Any]], *, details: Details = None, request: str = ""
    ) -> Any:
        """The same for a coroutine."""
        return await self.begin(name, kind, request).arun(execute, details)

    def recorded_of(self, step: Step) -> Any:
        """What a step has given, `MISSING` if that is not recorded."""
        self.load()
        entry = step.find()
        if entry is None:
            return MISSING
        value = self.store.read_value(self.attempt, step.place) if entry.value is None else entry.value
        return MISSING if value is None else wire.loads(value)

    async def arecorded_of(self, step: Step) -> Any:
        """The same for a coroutine."""
        if not self.is_loaded:
            await asyncio.to_thread(self.load)
        entry = step.find()
        if entry is None:
            return MISSING
        value = entry.value
        if value is None:
            value = await asyncio.to_thread(self.store.read_value, self.attempt, step.place)
        return MISSING if value is None else wire.loads(value)

    def branches(self, count: int) -> list[Sequence]:
        """Sequences for code that runs at the same time; together they have a place in the one that asks."""
        with self._lock:
            sequence, in_order = self._sequence()
            if in_order:
                sequence.asked += 1
                start = f"{sequence.path}{sequence.asked}"
            else:
                number = sequence.elsewhere[""] = sequence.elsewhere.get("", 0) + 1
                start = f"{sequence.path}~\n{number}"
            return [Sequence(self, f"{start}:{index}:") for index in range(count)]

    def load(self) -> None:
        """Read what earlier attempts have recorded, once."""
        with self._loading:
            if self.is_loaded:
                return
            for place, record in self.store.read(self.attempt).items():
                text = place.decode()
                entry = read_entry(text, record)
                if not text.startswith(FAILED):
                    self.note(entry)
                elif entry.details.get(UNUSED):
                    self.unused[text[len(FAILED) :]] = int(entry.details[UNUSED])
            self.is_loaded = True

    def note(self, entry: StepEntry) -> None:
        """Take note of a recorded step."""
        with self._lock:
            before = self.entries.get(entry.place)
            self._bytes += entry.size - (0 if before is None else before.size)
            # Its value is not asked for again in this attempt once it was recorded in it.
            self.entries[entry.place] = entry
            if entry.within is not None:
                self.places[entry.within, entry.name] = entry.place

    def forget_within(self, place: str) -> tuple[tuple[str, ...], int]:
        """Forget what was recorded within a step; returns its places and bytes."""
        with self._lock:
            found = [entry for other, entry in self.entries.items() if other.startswith(f"{place}/")]
            for entry in found:
                del self.entries[entry.place]
                if entry.within is not None:
                    self.places.pop((entry.within, entry.name), None)
            size = sum(entry.size for entry in found)
            self._bytes -= size
            return tuple(entry.place for entry in found), size

    def forget(self, place: str) -> int:
        """Forget what a step has given; returns its bytes."""
        with self._lock:
            entry = self.entries.pop(place, None)
            if entry is None:
                return 0
            if entry.within is not None:
                self.places.pop((entry.within, entry.name), None)
            self._bytes -= entry.size
            return entry.size

    def give_up_last_reply(self, error: BaseException) -> None:
        """The handler has failed, and is called again: the reply of a model that it got last may be why, so it is not kept."""
        last, self.last = self.last, None
        if last is not None and last.kind == "model":
            last.give_up(f"the handler has failed on it: {type(error).__name__}")

    def note_unrecorded(self, why: str) -> None:
        """Log that calls are not recorded, once."""
        if not self._reported:
            self._reported = True
            self.store.warn(self.attempt, f"calls of models are not recorded any more: {why}")

    def check_room(self) -> None:
        """Make sure that a further step can be recorded, before it is paid for.

        Raises:
            StepLimitError: it cannot.
        """
        if len(self.entries) >= MOST_STEPS or self._bytes >= MOST_STEP_BYTES:
            raise StepLimitError(
                f"node '{self.attempt.claim.instance_id}' has {len(self.entries):,} steps of {self._bytes:,} bytes; "
                f"{MOST_STEPS:,} of {MOST_STEP_BYTES:,} bytes are kept for a node at most: share its work out over several nodes"
            )

    @staticmethod
    def refuse(node: str, step: Step, recorded: str, how: str) -> None:
        """Raise that a step is asked for in another order than before."""
        raise StepMismatchError(
            f"node '{node}' asks for step '{step.name}' as number {step.position}, but {how}: a handler must ask for its steps "
            "in the same order in each attempt. Take what decides the order (times, random numbers, sets) from a step or from "
            "the input; if its code was changed meanwhile, do the run again",
            asked=step.name,
            recorded=recorded,
        )

    def _sequence(self) -> tuple[Sequence, bool]:
        """The sequence that the caller's code is in, and whether it asks in its order."""
        sequence = current_sequence.get()
        if sequence is None or sequence.steps is not self:
            sequence = self._root
        runner = runner_now()
        if sequence.runner is None:
            sequence.runner = runner
        return sequence, sequence.runner == runner
