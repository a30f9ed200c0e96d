"""Rows of the state's tables, and the records that they hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from cdcflow.model.copy import TableRecord, TableState
from cdcflow.model.position import Checkpoint
from cdcflow.model.schema import TableName


@dataclass(frozen=True, slots=True)
class Remembered:
    """One pipeline's row as `cdcflow status` shows it. `running`: some session holds the lease now."""

    checkpoint: Checkpoint
    owner: dict[str, str]
    leased_at: datetime
    updated_at: datetime
    running: bool


def aware(moment: datetime) -> datetime:
    """Return a moment that was read with its time zone: SQLite gives it back without, and it was UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def row_of(pipeline: str, record: TableRecord, now: datetime) -> dict[str, object]:
    """Return a table's record as its row."""
    return {
        "pipeline": pipeline,
        "table_id": record.table_id,
        "source_schema": record.source.schema,
        "source_table": record.source.table,
        "target_schema": record.target.schema,
        "target_table": record.target.table,
        "state": record.state.value,
        "copied_from": record.copied_from,
        "copied_upto": record.copied_upto,
        "stamp": record.stamp,
        "shape": record.shape,
        "rows": record.rows,
        "reason": record.reason,
        "hint": record.hint,
        "asked": False,
        "updated_at": now,
    }


def checkpoint_of(row: sa.Row[Any]) -> Checkpoint:
    """Return the checkpoint of a pipeline's own row."""
    return Checkpoint(row.pipeline, row.position, dict(row.source), row.epoch)


def record_of(row: sa.Row[Any]) -> TableRecord:
    """Return the record of a table's row."""
    return TableRecord(
        row.table_id,
        TableName(row.source_schema, row.source_table),
        TableName(row.target_schema, row.target_table),
        TableState(row.state),
        row.copied_from,
        row.copied_upto,
        row.stamp,
        row.shape,
        row.rows,
        row.reason,
        row.hint,
    )
