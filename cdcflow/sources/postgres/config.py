"""What a person can set about a PostgreSQL source."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_SIZE: Final = re.compile(r"(\d+)\s*([kKmMgG]?)(?:[iI]?[bB])?")
_UNITS: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def _bytes(given: object) -> object:
    """Read `64MB` as PostgreSQL does: units are powers of 1024. What is no size is left for pydantic to refuse."""
    if isinstance(given, str) and (found := _SIZE.fullmatch(given.strip())):
        return int(found[1]) * _UNITS[found[2].lower()]
    return given


Size = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=int | str), Field(ge=64 * 1024)]


class SnapshotConfig(BaseModel):
    """How the initial copy is divided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(default=2, ge=1, le=64, description="Tables or parts of tables that are copied at once.")
    chunk: Size = Field(
        default=64 * 1024 * 1024,
        description="How much of a table, as it lies on the source's disk, is copied in one transaction.",
    )


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
