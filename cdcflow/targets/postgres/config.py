"""What a person may set under `target:` for PostgreSQL."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """The `target:` part of the configuration where its URL says `postgresql://`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False, description="postgresql://user:password@host:5432/database")
