"""What a person can set about the initial copy of any source that has tables."""

from __future__ import annotations

from typing import Annotated, Final

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
