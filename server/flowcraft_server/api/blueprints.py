"""Routes of the versions of a blueprint, and of what differs between two of them."""

from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from flowcraft_sdk import AsyncClient, BlueprintVersion
from flowcraft_sdk.protocol.bounds import LONGEST_NAME
from flowcraft_server.blueprints.difference import MISSING, Change, difference
from flowcraft_server.blueprints.model import Blueprint

from .access import VIEW
from .answers import answer
from .deployment import BlueprintId
from .openapi import routes
from .problems import Problem, documented
from .runs import PREFIX, client_of

router = routes(f"{PREFIX}/blueprints", tag="deployment")


class ValueChange(BaseModel):
    """A value that differs.

    Attributes:
        path: Where it is.
        kind: Whether it is there in the second version only, in the first only, or in both.
        before: The value in the first version.
        after: The value in the second version.
    """

    path: str
    kind: Literal["added", "removed", "changed"]
    before: Any = None
    after: Any = None


class NodeChanges(BaseModel):
    """What differs in a node that both versions have.

    Attributes:
        id: Id of the node.
        changes: What differs.
    """

    id: str
    changes: list[ValueChange]


class EdgeChanges(BaseModel):
    """What differs in an edge that both versions have.

    Attributes:
        edge: The edge of the first version.
        changes: What differs.
    """

    edge: dict[str, Any]
    changes: list[ValueChange]


class BlueprintDifference(BaseModel):
    """What differs between two versions of a blueprint.

    Attributes:
        id: Id of the blueprint.
        from_version: Plan hash of the first version.
        to_version: Plan hash of the second version.
        same: Whether nothing differs.
        nodes_added: Ids of nodes that the second version has besides.
        nodes_removed: Ids of nodes that it has no longer.
        nodes_changed: Nodes that differ.
        edges_added: Edges that the second version has besides.
        edges_removed: Edges that it has no longer.
        edges_changed: Edges of the same source, target and action that differ.
        settings: What differs of the blueprint itself: `inputs`, `outputs` and so on.
        reordered: `nodes` or `edges`, if those of both stand in another order.
    """

    model_config = ConfigDict(populate_by_name=True)

    id: str
    from_version: Annotated[str, Field(alias="from")]
    to_version: Annotated[str, Field(alias="to")]
    same: bool
    nodes_added: list[str]
    nodes_removed: list[str]
    nodes_changed: list[NodeChanges]
    edges_added: list[dict[str, Any]]
    edges_removed: list[dict[str, Any]]
    edges_changed: list[EdgeChanges]
    settings: list[ValueChange]
    reordered: list[Literal["nodes", "edges"]]


@router.get(
    "/{blueprint_id}/versions", dependencies=[VIEW], response_model=list[BlueprintVersion], responses=documented(404)
)
async def list_versions(request: Request, blueprint_id: BlueprintId) -> Response:
    """The versions of a blueprint: the current one, and those that kept runs have."""
    return answer(request, await client_of(request).blueprint_versions(blueprint_id))


@router.get("/{blueprint_id}/diff", dependencies=[VIEW], response_model=BlueprintDifference, responses=documented(404))
async def compare_versions(
    request: Request,
    blueprint_id: BlueprintId,
    from_: Annotated[
        str, Query(alias="from", min_length=1, max_length=LONGEST_NAME, description="Plan hash of the first version.")
    ],
    to: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=LONGEST_NAME,
            description="Plan hash of the second version; by default the current one.",
        ),
    ] = None,
) -> Response:
    """What differs between two versions of a blueprint: nodes, edges and settings."""
    client = client_of(request)
    before, after = await read_version(client, blueprint_id, from_), await read_version(client, blueprint_id, to)
    found = difference(before[1], after[1])
    shown = BlueprintDifference(
        id=blueprint_id,
        from_version=before[0],
        to_version=after[0],
        same=found.empty,
        nodes_added=list(found.nodes_added),
        nodes_removed=list(found.nodes_removed),
        nodes_changed=[NodeChanges(id=node, changes=_changes(each)) for node, each in found.nodes_changed.items()],
        edges_added=[edge.to_plain() for edge in found.edges_added],
        edges_removed=[edge.to_plain() for edge in found.edges_removed],
        edges_changed=[EdgeChanges(edge=edge.to_plain(), changes=_changes(each)) for edge, each in found.edges_changed],
        settings=_changes(found.settings),
        reordered=list(found.reordered),  # type: ignore[arg-type]
    )
    return answer(request, shown.model_dump(by_alias=True))


async def read_version(client: AsyncClient, blueprint_id: str, version: str | None) -> tuple[str, Blueprint]:
    """A version of a blueprint, and its plan hash; the current one for None.

    Raises:
        BlueprintNotFoundError: there is none.
        Problem: 409, it was written by a release that this one cannot read.
    """
    found = await client.blueprint(blueprint_id, version=version)
    try:
        return found.version, Blueprint.from_plain(found.document)
    except (KeyError, ValueError, TypeError):
        raise Problem(409, "unreadable_version", f"version {found.version} was written by another release") from None


def _changes(changes: tuple[Change, ...]) -> list[ValueChange]:
    return [
        ValueChange(
            path=change.path,
            kind="added" if change.before is MISSING else "removed" if change.after is MISSING else "changed",
            before=None if change.before is MISSING else change.before,
            after=None if change.after is MISSING else change.after,
        )
        for change in changes
    ]
