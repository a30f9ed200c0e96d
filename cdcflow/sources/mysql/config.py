"""What a person can set about a MySQL or MariaDB source."""

from __future__ import annotations

from hashlib import blake2b
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from cdcflow.model.quantity import SIZE_PATTERN, parse_size

# A chunk smaller than this costs more in transactions than it spares after a crash.
SMALLEST_CHUNK_BYTES: Final = 64 * 1024

# Readers of a binary log share one space of numbers with the servers of the topology, which people number from 1 on or
# by address and port; so ours are taken from the upper half.
_LOWEST_CHOSEN_ID: Final = 1 << 31


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
    """A MySQL source, version 8.0 or newer, or a MariaDB source, 10.6 or newer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(
        repr=False,
        description="mysql://user:password@host:3306 or mariadb://..; with /database, only that database is looked at.",
    )
    server_id: int | None = Field(
        default=None,
        ge=1,
        le=(1 << 32) - 1,
        description="The number under which the source's binary log is read, which no other server or reader of this"
        " source may have; made from the pipeline's name if not set.",
    )
    snapshot: SnapshotConfig = SnapshotConfig()

    def named(self, pipeline: str) -> Config:
        """Return the same with the server id filled in."""
        return self.model_copy(update={"server_id": self.server_id or chosen_id(pipeline)})

    @property
    def reader_id(self) -> int:
        """The server id, of a configuration that `named` returned."""
        assert self.server_id is not None
        return self.server_id


def chosen_id(name: str) -> int:
    """Return the server id that a name stands for: always the same one, from 2^31 to 2^32 - 1."""
    digest = blake2b(f"cdcflow {name}".encode(), digest_size=4).digest()
    return _LOWEST_CHOSEN_ID | int.from_bytes(digest, "big")
