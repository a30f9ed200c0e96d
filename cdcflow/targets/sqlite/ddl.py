"""Statements that make a table like the source's, and that bring one from shape to shape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from cdcflow.codecs.sqliterows_cy import value_of
from cdcflow.model.route import SOFT_DELETE_COLUMN, Mode, OnDelete, OnTruncate, Route
from cdcflow.model.schema import Column, Index
from cdcflow.targets.sqlite.catalog import MARK, FileTable
from cdcflow.targets.sqlite.names import folded, ident, table_of
from cdcflow.targets.sqlite.types import converter, kind_of, rescaled, type_of

_BTREE: Final = re.compile(
    r" USING btree \((?P<entries>[^()]*)\)(?: INCLUDE \([^()]*\))?(?: NULLS NOT DISTINCT)?(?: WITH \([^()]*\))?$"
)
_LISTED: Final = re.compile(r"\((?P<entries>[^()]*)\)[^()]*$")
_SPECIAL: Final = re.compile(r"\b(FULLTEXT|SPATIAL|VECTOR)\b", re.IGNORECASE)


def is_mirror(route: Route) -> bool:
    """Whether the target holds just the rows that the source holds, so that its unique keys hold there too."""
    return route.on_delete is OnDelete.DELETE and route.on_truncate is OnTruncate.TRUNCATE and route.mode is Mode.MIRROR


def column_list(names: Iterable[str]) -> str:
    return ", ".join(map(ident, names))


def create_table(route: Route, pipeline: str, *, name: str = "", more: Iterable[str] = ()) -> str:
    """Return CREATE TABLE with the kept columns and the key; `more` are lines of columns that only the file has.

    The primary key of one integer column is the rowid itself: no index of its own.
    """
    key = primary_key(route)
    lines = []
    for column, target in route.columns:
        line = column_line(column, target, not_null=target in key or not is_nullable(route, column))
        if key == (target,) and type_of(column) == "INTEGER":
            line += " PRIMARY KEY"
        lines.append(line)
    if route.on_delete is OnDelete.SOFT:
        lines.append(f"{ident(SOFT_DELETE_COLUMN)} TEXT")
    lines += more
    if key and not any(line.endswith(" PRIMARY KEY") for line in lines):
        lines.append(f"PRIMARY KEY ({column_list(key)})")
    body = ",\n  ".join(lines) or '"cdcflow_empty" INTEGER'
    return f"CREATE TABLE {ident(name or table_of(route))} ( {MARK.format(pipeline)}\n  {body}\n)"


def column_line(column: Column, name: str, *, not_null: bool) -> str:
    parts = [ident(name), type_of(column), "NOT NULL" if not_null else ""]
    return " ".join(part for part in parts if part)


def is_nullable(route: Route, column: Column) -> bool:
    # What a date that no calendar has becomes is NULL, whatever the column says.
    dated = route.source.may_hold_zero_dates(column)
    return column.nullable or dated


def primary_key(route: Route) -> tuple[str, ...]:
    """Return the columns, by their names in the target, that the table's primary key has."""
    if not route.key:
        return ()
    # NULL is not equal to NULL in a unique index, and never in a primary key.
    columns = {column.name: column for column, _ in route.columns}
    nullable = any(columns[name].nullable for name in route.key)
    return () if nullable else route.key_in_target


def key_index(route: Route) -> str | None:
    """Return the unique index for a key that can be no primary key."""
    if not route.key or primary_key(route):
        return None
    table = table_of(route)
    name = key_index_name(table)
    return f"CREATE UNIQUE INDEX {ident(name)} ON {ident(table)} ({column_list(route.key_in_target)})"


def key_index_name(table: str) -> str:
    """Return what the index that `key_index` makes is called."""
    return f"cdcflow_{table}_key"


def has_shape(route: Route, table: FileTable) -> bool:
    """Whether a table that cdcflow made has the route's columns, types and key already."""
    for column, name in route.columns:
        there = table.column(name)
        if there is None or there.type != type_of(column):
            return False
        if there.not_null and is_nullable(route, column) and name not in primary_key(route):
            return False
    if route.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is None:
        return False
    return _folded(table.primary_key) == _folded(primary_key(route))


def _folded(names: Iterable[str]) -> list[str]:
    return [folded(name) for name in names]


# -- from shape to shape


@dataclass(frozen=True, slots=True)
class Move:
    """How the columns of one shape become those of another, by the engine's number for each, or by name.

    kept: (old column, its name so far, new column, its name); gone: names so far; added: (column, name).
    """

    kept: tuple[tuple[Column, str, Column, str], ...]
    gone: tuple[str, ...]
    added: tuple[tuple[Column, str], ...]

    @property
    def is_simple(self) -> bool:
        """Whether no value changes: columns only come, go and get other names."""
        return all(type_of(old) == type_of(new) and kind_of(old) == kind_of(new) for old, _, new, _ in self.kept)


def move(old: Route, new: Route) -> Move:
    """Pair the columns of two shapes."""
    numbered = all(column.number for column, _ in (*old.columns, *new.columns))

    def mark(column: Column) -> int | str:
        return column.number if numbered else column.name

    left = {mark(column): (column, name) for column, name in old.columns}
    kept, added = [], []
    for column, name in new.columns:
        before = left.pop(mark(column), None)
        if before is None:
            added.append((column, name))
        else:
            kept.append((*before, column, name))
    return Move(tuple(kept), tuple(name for _, name in left.values()), tuple(added))


def renames(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the steps of renaming several columns, in two each where a new name is one that another still has."""
    held = {folded(was) for was, _ in pairs}
    aside, direct, last = [], [], []
    for number, (was, name) in enumerate(pairs):
        if folded(name) in held:
            between = f"cdcflow_rename_{number}"
            aside.append((was, between))
            last.append((between, name))
        else:
            direct.append((was, name))
    return aside + direct + last


def add_column(route: Route, column: Column, name: str) -> str:
    """Return ADD COLUMN; rows that are there get what the source's older rows have, as far as it is known."""
    line = f"ALTER TABLE {ident(table_of(route))} ADD COLUMN {column_line(column, name, not_null=False)}"
    if column.missing is None:
        return line
    return f"{line} DEFAULT {literal(value_of(column.missing.encode(), ord(kind_of(column))))}"


def literal(value: object) -> str:
    """Return a value as it stands in a DEFAULT."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float):
        if value in (float("inf"), float("-inf")):
            return "9e999" if value > 0 else "-9e999"
        return repr(value)
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if "\0" in text:
        return f"CAST(x'{text.encode().hex()}' AS TEXT)"
    return "'" + text.replace("'", "''") + "'"


def conversions(move: Move) -> list[tuple[str, str, Callable[[object], object] | None]]:
    """Return for each kept column its old name, its new one, and what changes its values (None: nothing)."""
    return [(was, name, _conversion(old, new)) for old, was, new, name in move.kept]


def _conversion(old: Column, new: Column) -> Callable[[object], object] | None:
    if type_of(old) == type_of(new) and kind_of(old) == kind_of(new):
        return rescaled(old, new)
    return converter(old, new)


# -- indexes


def index_columns(route: Route, index: Index) -> tuple[str, ...] | None:
    """Return the columns, in the target, of an index that SQLite can have too; None for any other.

    Left out: expressions, parts of columns, conditions, and kinds that are no B-tree.
    """
    names = {column.name: name for column, name in route.columns}
    if not index.columns or any(name not in names for name in index.columns):
        return None
    if route.source.engine == "postgresql":
        found = _BTREE.search(index.definition)
    else:
        found = None if _SPECIAL.search(index.definition) else _LISTED.search(index.definition)
    if found is None or len(found["entries"].split(",")) != len(index.columns):
        return None
    return tuple(names[name] for name in index.columns)


def is_unique(route: Route, index: Index) -> bool:
    """Whether the index may be unique in the target: rows there are the source's, and checked one by one."""
    return index.unique and is_mirror(route) and "DEFERRABLE" not in index.constraint
