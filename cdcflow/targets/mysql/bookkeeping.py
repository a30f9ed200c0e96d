"""Statements that an applier or loader runs in its own transaction, so that rows and their record commit together.

The tables are the state's (`state.tables`), but for one of the target's own: DDL commits implicitly in MySQL, so a
batch that holds a schema change is committed in parts. `partial_batches` says, in the transaction of each part, how
many changes of each table behind the recorded position are in the target already.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from cdcflow.engines.mysql.names import literal
from cdcflow.model.copy import DoneChunk
from cdcflow.model.position import Share

STATE_DATABASE: Final = "cdcflow"

MAKE_PARTIAL: Final = (
    "CREATE TABLE IF NOT EXISTS cdcflow.partial_batches (pipeline VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin"
    " NOT NULL PRIMARY KEY, position LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,"
    " changes LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL) ENGINE=InnoDB"
)


def advance(pipeline: str, epoch: int, position: str) -> str:
    """Return what moves the recorded position: the last statement before COMMIT. It must match exactly one row."""
    return (
        f"UPDATE cdcflow.checkpoints SET `position` = {literal(position)}, updated_at = UTC_TIMESTAMP(6)"
        f" WHERE pipeline = {literal(pipeline)} AND epoch = {epoch}"
    )


def advance_shares(pipeline: str, moved: Mapping[str, Share]) -> str:
    """As `advance`, for a source whose shares several instances hold. It must change exactly one row a share; a
    place never goes back."""
    if not moved:
        return "DO 0"
    places = " ".join(f"WHEN {literal(name)} THEN {at.place}" for name, at in moved.items())
    held = ", ".join(f"({literal(name)}, {at.epoch})" for name, at in moved.items())
    return (
        f"UPDATE cdcflow.shares SET place = CASE share {places} END, updated_at = UTC_TIMESTAMP(6)"
        f" WHERE pipeline = {literal(pipeline)} AND (share, epoch) IN ({held}) AND place <= CASE share {places} END"
    )


def fence(pipeline: str, epoch: int) -> str:
    """Return the query that finds one row while the epoch is ours, and keeps a new lease waiting until the transaction
    ends. It waits for an open transaction that advances the position, and so comes late in ours."""
    return (
        f"SELECT `position` FROM cdcflow.checkpoints WHERE pipeline = {literal(pipeline)} AND epoch = {epoch}"
        " LOCK IN SHARE MODE"
    )


def lock(pipeline: str, epoch: int) -> str:
    """As `fence`, but nobody else may move the position either."""
    return (
        f"SELECT `position` FROM cdcflow.checkpoints WHERE pipeline = {literal(pipeline)} AND epoch = {epoch}"
        " FOR UPDATE"
    )


def record_chunk(pipeline: str, done: DoneChunk) -> str:
    """Return what records a finished chunk, after `fence`. Fails with 1062 when it is recorded already."""
    chunk = done.chunk
    texts = (chunk.low, chunk.high, chunk.changed_since, done.position, done.token)
    return (
        "INSERT INTO cdcflow.chunks (pipeline, table_id, `number`, low, high, changed_since, `position`, token, `rows`,"
        f" `bytes`) VALUES ({literal(pipeline)}, {chunk.table_id}, {chunk.number},"
        f" {', '.join(map(literal, texts))}, {done.rows}, {done.bytes})"
    )


def find_chunk(pipeline: str, table_id: int, number: int) -> str:
    """Return the query for one row of low, high, changed_since, position, token, rows, bytes, or none."""
    return (
        "SELECT low, high, changed_since, `position`, token, `rows`, `bytes` FROM cdcflow.chunks"
        f" WHERE pipeline = {literal(pipeline)} AND table_id = {table_id} AND `number` = {number}"
    )


def forget_chunks(pipeline: str, table_id: int) -> str:
    """For a table whose copy starts over, in the transaction that empties it, after `fence`."""
    return f"DELETE FROM cdcflow.chunks WHERE pipeline = {literal(pipeline)} AND table_id = {table_id}"


def recorded(pipeline: str) -> str:
    """Return the query for the recorded position."""
    return f"SELECT `position` FROM cdcflow.checkpoints WHERE pipeline = {literal(pipeline)}"


def set_partial(pipeline: str, position: str, changes: Mapping[int, int]) -> str:
    """Return what records how many changes of each table, by its id, behind `position` are written."""
    text = json.dumps({str(table): count for table, count in changes.items() if count})
    return (
        f"REPLACE INTO cdcflow.partial_batches (pipeline, `position`, changes)"
        f" VALUES ({literal(pipeline)}, {literal(position)}, {literal(text)})"
    )


def get_partial(pipeline: str) -> str:
    """Return the query for (position, changes)."""
    return f"SELECT `position`, changes FROM cdcflow.partial_batches WHERE pipeline = {literal(pipeline)}"


def forget_partial(pipeline: str) -> str:
    """Return what removes the record: the position has moved past it."""
    return f"DELETE FROM cdcflow.partial_batches WHERE pipeline = {literal(pipeline)}"


def read_changes(text: str) -> dict[int, int]:
    """Return what `set_partial` wrote."""
    return {int(table): int(count) for table, count in json.loads(text).items()}
