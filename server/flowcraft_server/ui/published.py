"""Reading published blueprints."""

from flowcraft_sdk import AsyncClient, BlueprintNotFoundError
from flowcraft_server.blueprints.model import Blueprint


async def blueprint_of(client: AsyncClient, blueprint_id: str, version: str) -> Blueprint | None:
    """A version of a blueprint; None if it is no longer kept, or was written by a release that this one cannot read."""
    try:
        return Blueprint.from_plain((await client.blueprint(blueprint_id, version=version)).document)
    except (BlueprintNotFoundError, KeyError, ValueError, TypeError):
        return None
