"""The child runs that are opened in the picture of a run: which ones an address names, and reading them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flowcraft_sdk import AsyncClient, RunNotFoundError
from flowcraft_sdk.errors import RunBrokenError
from flowcraft_sdk.records import RunSnapshot
from flowcraft_server.blueprints.model import Blueprint

from .published import blueprint_of

DEEPEST = 5
"""Levels of child runs in one another."""

MOST_OPENED = 12
"""Child runs in one picture."""

MOST_NODES = 1000
"""Nodes of all child runs in one picture."""


@dataclass(frozen=True)
class OpenedRun:
    """A child run that is shown in its node.

    Attributes:
        node_id: Id of the node.
        instance: The node, with the item that is shown: `each[7]`.
        way: The way to it from the run whose page this is.
        run: The child run.
        blueprint: Its blueprint; None if that is no longer kept.
        seen: The latest event before it was read.
        level: In how many runs it is.
        inside: Child runs that are opened in it.
        too_large: How many nodes it has, if those of all opened runs are too many together.
    """

    node_id: str
    instance: str
    way: str
    run: RunSnapshot
    blueprint: Blueprint | None
    seen: str = "0"
    level: int = 1
    inside: tuple["OpenedRun", ...] = ()
    too_large: int = 0

    @property
    def may_open(self) -> bool:
        """Whether child runs can be opened in it."""
        return self.level < DEEPEST and self.blueprint is not None and not self.too_large


def openable(run: RunSnapshot) -> dict[str, str]:
    """By each node that has started child runs the instance to open at first: of a batch the first item that has not ended.

    Args:
        run: The run.
    """
    found: dict[str, str] = {}
    for instance in sorted(set(run.child_nodes.values()), key=lambda name: (name not in run.nodes, len(name), name)):
        if instance:
            found.setdefault(node_of(instance), instance)
    return found


def node_of(instance: str) -> str:
    """The node of an instance: without its item."""
    return instance.partition("[")[0]


async def opened_runs(client: AsyncClient, run: RunSnapshot, ways: Iterable[str]) -> tuple[OpenedRun, ...]:
    """Read the child runs that are to be shown in the picture of a run; what is not there is left out.

    Args:
        run: The run.
        ways: The ways to them: the node `call`, the item `each[7]`, `call/inner` for what is opened in `call`.
    """
    reading = _Reading(client, list(dict.fromkeys(ways))[:MOST_OPENED])
    return await reading.inside(run, "", 1)


class _Reading:
    def __init__(self, client: AsyncClient, ways: Sequence[str]) -> None:
        self._client, self._ways = client, ways
        self._nodes = 0

    async def inside(self, run: RunSnapshot, prefix: str, level: int) -> tuple[OpenedRun, ...]:
        """What is opened in a run."""
        children = {instance: child_id for child_id, instance in run.child_nodes.items() if instance}
        found: dict[str, OpenedRun] = {}
        for way in self._ways:
            instance = way[len(prefix) :]
            if not way.startswith(prefix) or instance not in children:
                continue
            opened = await self._read(children[instance], instance, way, level)
            if opened is None:
                continue
            if opened.may_open:
                opened = replace(opened, inside=await self.inside(opened.run, f"{way}/", level + 1))
            found[opened.node_id] = opened  # of the items of a batch one is shown
        return tuple(found.values())

    async def _read(self, run_id: str, instance: str, way: str, level: int) -> OpenedRun | None:
        handle = self._client.get_handle(run_id)
        try:
            seen = await handle.last_event_id()  # before the run is read, as for the run of the page
            run = await handle.describe()
        except (RunNotFoundError, RunBrokenError):
            return None  # removed meanwhile, or it has a page that says what is wrong
        blueprint = await blueprint_of(self._client, run.blueprint_id, run.blueprint_version)
        count = len(blueprint.nodes) if blueprint is not None else 0
        self._nodes += count
        too_large = count if self._nodes > MOST_NODES else 0
        return OpenedRun(node_of(instance), instance, way, run, blueprint, seen, level, too_large=too_large)


def all_of(opened: Iterable[OpenedRun]) -> Iterable[OpenedRun]:
    """Opened runs with those that are opened in them."""
    for each in opened:
        yield each
        yield from all_of(each.inside)
