"""What a person can set about a MySQL or MariaDB source."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from cdcflow.sources.copying import SnapshotConfig

# Readers of a binary log share one space of numbers with the servers of the topology, which people number from 1 on or
# by address and port; so ours are taken from the upper half.
_LOWEST_CHOSEN_ID: Final = 1 << 31


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
