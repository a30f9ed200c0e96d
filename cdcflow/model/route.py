"""Where a source table's rows go and how: what the rules decided for one shape of one table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cdcflow.model.schema import Column, Table, TableName


class OnDelete(StrEnum):
    DELETE = "delete"
    SOFT = "soft"  # the row stays and `cdcflow_deleted_at` is set
    IGNORE = "ignore"


class OnTruncate(StrEnum):
    TRUNCATE = "truncate"
    IGNORE = "ignore"


class SchemaChanges(StrEnum):
    APPLY = "apply"
    STOP = "stop"
    IGNORE = "ignore"


class ZeroDates(StrEnum):
    """What a MySQL or MariaDB date that no calendar has (`0000-00-00`, `2024-00-10`) becomes."""

    NULL = "null"
    EPOCH = "epoch"  # 1970-01-01, at 00:00:00
    FAIL = "fail"  # the row is rejected


class Mode(StrEnum):
    MIRROR = "mirror"
    APPEND = "append"  # only inserts are captured and written
    HISTORY = "history"


# The column that `on_delete: soft` keeps beside the source's own.
SOFT_DELETE_COLUMN = "cdcflow_deleted_at"


@dataclass(frozen=True, slots=True)
class Route:
    """One table's way to the target.

    `columns` pairs each kept source column with its name in the target, in source order; generated columns
    are never in it. `key` are *source* column names that find one row (see `Table.key`; a rule may have set
    it); empty means match by all columns.
    """

    source: Table
    target: TableName
    columns: tuple[tuple[Column, str], ...]
    key: tuple[str, ...]
    on_delete: OnDelete = OnDelete.DELETE
    on_truncate: OnTruncate = OnTruncate.TRUNCATE
    schema_changes: SchemaChanges = SchemaChanges.APPLY
    mode: Mode = Mode.MIRROR
    zero_dates: ZeroDates = ZeroDates.NULL

    @property
    def key_in_target(self) -> tuple[str, ...]:
        names = {column.name: target for column, target in self.columns}
        return tuple(names[name] for name in self.key)

    @property
    def whole(self) -> bool:
        """Whether every column goes over under its own name."""
        plain = [column for column in self.source.columns if not column.generated]
        return [(column.name, target) for column, target in self.columns] == [(c.name, c.name) for c in plain]
