"""What a person can set about a PostgreSQL source."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cdcflow.sources.copying import SnapshotConfig


class Config(BaseModel):
    """A PostgreSQL source, version 14 to 18."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False, description="postgresql://user:password@host:5432/database")
    publication: str | None = Field(
        default=None, min_length=1, max_length=56, description="Publication to make; cdcflow_<pipeline> if not set."
    )
    slot: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9_]{1,63}$",
        description="Replication slot to make; cdcflow_<pipeline> if not set.",
    )
    failover: bool | Literal["auto"] = Field(
        default="auto",
        description="Whether standbys keep the slot, so that it outlives a failover. `auto`: on 17 and newer.",
    )
    snapshot: SnapshotConfig = SnapshotConfig()

    def named(self, pipeline: str) -> Config:
        """Return the same with the publication's and the slot's names filled in."""
        name = f"cdcflow_{pipeline}"
        return self.model_copy(update={"publication": self.publication or name, "slot": self.slot or name})

    @property
    def publications(self) -> tuple[str, str]:
        """The publication for tables that follow every change, and the one for tables in append mode."""
        assert self.publication is not None
        return self.publication, f"{self.publication}_append"

    @property
    def slot_name(self) -> str:
        assert self.slot is not None
        return self.slot
