"""The base of all records."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all records, which are frozen pydantic models."""

    model_config = ConfigDict(frozen=True)
