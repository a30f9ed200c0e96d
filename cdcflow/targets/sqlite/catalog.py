"""What the file has of a table: columns, keys, indexes, and whether cdcflow made it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cdcflow.targets.sqlite.names import folded, ident

# Stands in the text of each CREATE TABLE that cdcflow ran, which the file keeps word for word.
MARK: Final = "/* made by cdcflow, pipeline {} */"
_MARKED: Final = re.compile(r"/\* made by cdcflow, pipeline ([a-z0-9_]+) \*/")


@dataclass(frozen=True, slots=True)
class FileColumn:
    """One column. `key` counts from 1 within the primary key, 0 outside of it."""

    name: str
    type: str
    not_null: bool
    default: str | None
    key: int
    generated: bool


@dataclass(frozen=True, slots=True)
class FileIndex:
    """An index. `columns` has '' for an expression; `sql` is '' where a constraint of the table made it. `collations`
    are the columns' own, in upper case."""

    name: str
    columns: tuple[str, ...]
    unique: bool
    partial: bool
    sql: str
    collations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileTable:
    """A table or view of the file under the name that it has there."""

    name: str
    kind: str  # table | view | virtual
    sql: str
    columns: tuple[FileColumn, ...]
    indexes: tuple[FileIndex, ...]
    rowid: bool

    @property
    def made_by(self) -> str:
        """The pipeline that made the table, '' where a person did."""
        found = _MARKED.search(self.sql)
        return found[1] if found else ""

    @property
    def primary_key(self) -> tuple[str, ...]:
        keyed = sorted((column.key, column.name) for column in self.columns if column.key)
        return tuple(name for _, name in keyed)

    def column(self, name: str) -> FileColumn | None:
        """Return a column by name, whatever its case."""
        wanted = folded(name)
        return next((column for column in self.columns if folded(column.name) == wanted), None)

    def finds_one_row_by(self, names: Iterable[str]) -> bool:
        """Whether the primary key or a unique index has exactly these columns, in any order."""
        wanted = {folded(name) for name in names}
        keys = [self.primary_key, *(each.columns for each in self.indexes if each.unique and not each.partial)]
        return any(key and {folded(name) for name in key} == wanted for key in keys)


def table(connection: sqlite3.Connection, name: str) -> FileTable | None:
    """Read one table; None where there is none of that name. Raises sqlite3.Error."""
    found = connection.execute(
        "SELECT name, type, coalesce(sql, '') FROM sqlite_schema WHERE type IN ('table', 'view') AND lower(name) = ?",
        (folded(name),),
    ).fetchall()
    row = next((each for each in found if folded(each[0]) == folded(name)), None)
    if row is None:
        return None
    own, kind, sql = row
    columns = tuple(
        FileColumn(column, declared, bool(not_null), default, key, hidden in (2, 3))
        for _, column, declared, not_null, default, key, hidden in connection.execute(
            f"PRAGMA table_xinfo({ident(own)})"
        )
        if hidden != 1
    )
    if re.match(r"\s*CREATE\s+VIRTUAL", sql, re.IGNORECASE):
        kind = "virtual"
    listed = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (own,)
    ).fetchone()
    return FileTable(own, kind, sql, columns, _indexes(connection, own), not (listed and listed[0]))


def _indexes(connection: sqlite3.Connection, name: str) -> tuple[FileIndex, ...]:
    texts = dict(connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'"))
    found = []
    for _, index, unique, _, partial in connection.execute(f"PRAGMA index_list({ident(name)})").fetchall():
        parts = connection.execute(f"PRAGMA index_xinfo({ident(index)})").fetchall()
        columns = tuple(row[2] or "" for row in parts if row[5])
        collations = tuple(row[4].upper() for row in parts if row[5])
        found.append(FileIndex(index, columns, bool(unique), bool(partial), texts.get(index, ""), collations))
    return tuple(found)
