"""The contract of what a server process is made of, and the loop that runs such parts until a stop is requested."""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from loguru import logger

from flowcraft_sdk.protocol.clock import clock
from flowcraft_server.store.descriptors import VITAL

from .stopping import StopRequests

HEALTH_PAUSE = 0.25
"""Seconds between two looks at the health of the components."""

DRAIN_PAUSE = 0.02
"""Seconds between two looks at whether the components have drained."""


class Component(Protocol):
    """A part of a server process. All calls come from one thread, and none but `start` and `stop` may take long."""

    def start(self) -> None:
        """Begin to work."""

    def health(self) -> Sequence[str]:
        """Put right what can be put right; returns what was found for the log, each finding once."""

    def drain(self, deadline: float) -> bool:
        """Take nothing more on, and let what runs finish. Called again and again; returns whether nothing runs any more.

        Args:
            deadline: in seconds of the monotonic clock; once it has passed, what still runs is to be handed back.
        """

    def stop(self) -> bool:
        """End at once, whatever was called before; returns whether all that ran has finished."""


@runtime_checkable
class WorkerComponent(Component, Protocol):
    """A worker of this very process. A process that only watches over others knows it without loading what runs nodes."""

    @property
    def worker_id(self) -> str:
        """The id of the worker."""
        ...


def serve(components: Sequence[Component], stop: StopRequests, drain_timeout: float) -> bool:
    """Run components until a stop is requested; returns whether all that they ran could finish.

    They are started in their order and stopped in the reverse one, also when one of them raises. One that does not start is
    not stopped.

    Args:
        stop: requested once to finish what runs, twice to hand it back.
        drain_timeout: seconds that what runs may take to finish.
    """
    started: list[Component] = []
    finished = False
    try:
        for component in components:
            component.start()
            started.append(component)
        while not stop.wait(HEALTH_PAUSE):
            if (
                VITAL.are_lost()
            ):  # the worker has this process replaced; what components open or close now could be others'
                continue
            for component in components:
                for finding in component.health():
                    logger.warning(finding)
        logger.info(
            "stopping: what runs may finish within {:g} s; asked again, it is handed back at once", drain_timeout
        )
        deadline = clock() + drain_timeout
        while not _drained(components, clock() if stop.now else deadline) and not stop.now and clock() < deadline:
            stop.wait(DRAIN_PAUSE)
        if stop.now:
            _drained(components, clock())
    finally:
        finished = _stop_all(reversed(started))
    return finished


def _drained(components: Iterable[Component], deadline: float) -> bool:
    # Each is asked, whatever another answers: they drain at the same time.
    answers = [component.drain(deadline) for component in components]
    return all(answers)


def _stop_all(components: Iterable[Component]) -> bool:
    finished = True
    for component in components:
        try:
            finished &= component.stop()
        except Exception:  # the others must be stopped all the same
            logger.exception("{} met an error while it was stopped", type(component).__name__)
            finished = False
    return finished
