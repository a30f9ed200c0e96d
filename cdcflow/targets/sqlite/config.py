"""What a person may set under `target:` for SQLite."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """The `target:` part of the configuration where its URL says `sqlite://`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="sqlite:///folder/file.db, or with four slashes for an absolute path")
