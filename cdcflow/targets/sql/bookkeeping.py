"""Statements that an applier or loader runs in its own transaction, so that rows and their record commit together.

The functions that they call are made by `migrations/`. Each fails with SQLSTATE CDC01 when the pipeline's
epoch is not ours, which aborts the transaction in the server: COMMIT may be on the wire already.
Parameters are text, in libpq's `$1` style.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cdcflow.model.copy import DoneChunk
from cdcflow.model.position import Share, Shares

# $1 pipeline, $2 epoch, $3 position. The last statement before COMMIT.
ADVANCE: Final = "SELECT cdcflow.advance($1::text, $2::bigint, $3::text)"

# $1 pipeline, $2 JSON: {"share": [epoch, place]}. As ADVANCE, for a source whose shares several instances hold.
ADVANCE_SHARES: Final = "SELECT cdcflow.advance_shares($1::text, $2::text)"

# $1 pipeline, $2 epoch. Keeps a new lease waiting until the transaction ends, and so comes late in it.
FENCE: Final = "SELECT cdcflow.fence($1::text, $2::bigint)"

# See `chunk_parameters`. Fails with 23505 when the chunk is recorded already.
RECORD_CHUNK: Final = (
    "WITH ours AS MATERIALIZED (SELECT cdcflow.fence($1::text, $2::bigint)) "
    "INSERT INTO cdcflow.chunks"
    " (pipeline, table_id, number, low, high, changed_since, position, token, rows, bytes) "
    "SELECT $1::text, $3::bigint, $4::bigint, $5::text, $6::text, $7::text, $8::text, $9::text,"
    " $10::bigint, $11::bigint FROM ours"
)

# $1 pipeline, $2 table. For a table whose copy starts over, in the transaction that empties it, after FENCE.
FORGET_CHUNKS: Final = "DELETE FROM cdcflow.chunks WHERE pipeline = $1::text AND table_id = $2::bigint"

# $1 pipeline, $2 table, $3 number. One row of low, high, changed_since, position, token, rows, bytes, or none.
FIND_CHUNK: Final = (
    "SELECT low, high, changed_since, position, token, rows, bytes FROM cdcflow.chunks"
    " WHERE pipeline = $1::text AND table_id = $2::bigint AND number = $3::bigint"
)

# $1 pipeline. The position on record, to compare with after a commit whose outcome is unknown.
RECORDED: Final = "SELECT position FROM cdcflow.checkpoints WHERE pipeline = $1::text"


def advance_parameters(pipeline: str, epoch: int, position: str) -> list[bytes]:
    """Return `ADVANCE`'s parameters."""
    return [pipeline.encode(), str(epoch).encode(), position.encode()]


def shares_parameters(pipeline: str, moved: Mapping[str, Share]) -> list[bytes]:
    """Return `ADVANCE_SHARES`'s parameters."""
    return [pipeline.encode(), str(Shares(moved)).encode()]


def chunk_parameters(pipeline: str, epoch: int, done: DoneChunk) -> list[bytes]:
    """Return `RECORD_CHUNK`'s parameters."""
    chunk = done.chunk
    values = (
        pipeline,
        epoch,
        chunk.table_id,
        chunk.number,
        chunk.low,
        chunk.high,
        chunk.changed_since,
        done.position,
        done.token,
        done.rows,
        done.bytes,
    )
    return [str(value).encode() for value in values]
