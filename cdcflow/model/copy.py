"""The initial copy: chunks of a table, how far each table's copy is, what a resumed copy must know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cdcflow.model.schema import TableName


class TableState(StrEnum):
    """A table's life: `pending -> copying -> catching_up -> live`, or `failed` with a reason and a hint."""

    PENDING = "pending"
    COPYING = "copying"
    CATCHING_UP = "catching_up"
    LIVE = "live"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a table that one worker copies in one target transaction.

    `number` counts from 0 within the table's copy; `low` and `high` are the source's own bounds as text
    (PostgreSQL: block numbers, `high` exclusive, '' for open). `changed_since` is set on a chunk that reads
    only rows changed since an earlier snapshot (its `Snapshot.token`): see `docs/adr/0002`.
    """

    table_id: int
    number: int
    low: str
    high: str
    changed_since: str = ""
    estimated_rows: int = 0


@dataclass(frozen=True, slots=True)
class DoneChunk:
    """A chunk that is durable in the target, with the snapshot it was read under."""

    chunk: Chunk
    position: str
    token: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TableRecord:
    """What the state remembers of one table of a pipeline.

    copied_from: position of the first snapshot that any part of the copy was read under: changes at or before
        it are in the copy, so the stream skips them.
    copied_upto: position of the last one: changes up to it may be in the copy, so they are applied
        idempotently. Equal to `copied_from` for a copy that was never interrupted.
    stamp: the source's fingerprint of the table's physical identity and shape, to notice a rewrite.
    shape: the source table as JSON when it was last recorded.
    """

    table_id: int
    source: TableName
    target: TableName
    state: TableState
    copied_from: str = ""
    copied_upto: str = ""
    stamp: str = ""
    shape: str = ""
    rows: int = 0
    reason: str = ""
    hint: str = ""
