"""What a person can set about a PostgreSQL source."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from cdcflow.model.quantity import SIZE_PATTERN, parse_size

# A chunk smaller than this costs more in transactions than it spares after a crash.
SMALLEST_CHUNK_BYTES: Final = 64 * 1024


def _bytes(given: object) -> int:
    try:
        return parse_size(given)
    except ValueError as error:
        raise PydanticCustomError("size", "{words}", {"words": str(error)}) from None


Size = Annotated[
    int,
    BeforeValidator(_bytes),
    WithJsonSchema({"type": ["string", "integer"], "pattern": SIZE_PATTERN + r"|\$\{", "minimum": 0}),
]


class SnapshotConfig(BaseModel):
    """How the initial copy is divided."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workers: int = Field(default=2, ge=1, le=64, description="Tables or parts of tables that are copied at once.")
    chunk: Size = Field(
        default=64_000_000,
        ge=SMALLEST_CHUNK_BYTES,
        json_schema_extra={"default": "64MB"},
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
