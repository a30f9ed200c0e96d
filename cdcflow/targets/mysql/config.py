"""What a person may set under `target:` for MySQL and MariaDB."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Config(BaseModel):
    """The `target:` part of the configuration where its URL says `mysql://` or `mariadb://`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False, description="mysql://user:password@host:3306/database")
