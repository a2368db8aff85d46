"""Versions of blueprints, as the SDK returns them: frozen records."""

from datetime import datetime

from flowcraft_sdk.records.runs import Record


class BlueprintVersion(Record):
    """A version of a blueprint that is current, or that kept runs still use.

    Attributes:
        id: Id of the blueprint.
        version: Its plan hash.
        current: Whether new runs get this version.
        runs: How many runs that are kept have it.
        node_count: How many nodes it has.
        published_at: When it was published last; None if that is no longer known.
        published_by: The file that it came from, as `host:path`; empty if that is no longer known.
        retired_at: When it was found that no run uses it any more; None if some do, or it is current.
    """

    id: str
    version: str
    current: bool = False
    runs: int = 0
    node_count: int = 0
    published_at: datetime | None = None
    published_by: str = ""
    retired_at: datetime | None = None
