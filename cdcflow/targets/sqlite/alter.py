"""From one shape of a table to the next, in the transaction that writes the rows behind the change.

Columns come, go and are renamed by ALTER TABLE. Everything else makes the table anew beside the old one, moves the rows
over and takes its name: https://www.sqlite.org/lang_altertable.html#otheralter
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from cdcflow.codecs.sqliterows_cy import value_of
from cdcflow.errors import SchemaStop
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route, SchemaChanges
from cdcflow.model.schema import Column
from cdcflow.ops.logs import get_logger
from cdcflow.targets.sql.columns import refuse_narrower
from cdcflow.targets.sqlite import catalog, ddl
from cdcflow.targets.sqlite.catalog import FileColumn, FileTable
from cdcflow.targets.sqlite.ddl import Move
from cdcflow.targets.sqlite.names import folded, ident, refuse_names, table_of
from cdcflow.targets.sqlite.types import kind_of, rescaled, type_of

log = get_logger(__name__)

_BESIDE: Final = "cdcflow_new"


def follow(connection: sqlite3.Connection, old: Route, new: Route, pipeline: str) -> None:
    """Bring the table from `old` to `new`. What the file has already is left as it is.

    Raises:
        SchemaStop: the rules say stop, or the change cannot be followed.
        ConfigError: two names are one in SQLite.
        sqlite3.Error: the file refused.
    """
    if new.schema_changes is SchemaChanges.IGNORE:
        return
    if old.target != new.target:
        raise SchemaStop(
            f"table {old.source.name} is now called {new.source.name}, and its rows would go to {table_of(new)}",
            at=f"target table {table_of(old)}",
            why="the rows so far are in the old table",
            do=f"route {new.source.name} with `to: {old.target}` in the rules to go on in the same table,"
            " or exclude it",
        )
    refuse_names(new)
    refuse_narrower(old, new)
    table = catalog.table(connection, table_of(new))
    if table is None:
        raise SchemaStop(
            f"target table {table_of(new)} is gone",
            at=f"from {new.source.name}",
            why="its shape changed at the source, and there is no table to change",
            do=f"cdcflow resync {new.source.name}",
        )
    move = ddl.move(old, new)
    if not _differs(table, move, new):
        _rescale(connection, table, move)
        return
    if new.schema_changes is SchemaChanges.STOP:
        raise SchemaStop(
            f"the shape of table {new.source.name} changed",
            at=f"target table {table_of(new)}",
            why="the rules say `schema_changes: stop` for it",
            do=f"cdcflow resync {new.source.name} makes the table again as the source has it now; or change it and"
            " the rules yourself, and start cdcflow again",
        )
    log.info("the target table is altered", table=table.name, source=str(new.source.name))
    if table.made_by and not _is_simple(table, move, new):
        rebuild(connection, table, new, move, pipeline)
    else:
        _in_place(connection, table, new, move)
        now = catalog.table(connection, table.name)
        assert now is not None
        _rescale(connection, now, move)


def _rescale(connection: sqlite3.Connection, table: FileTable, move: Move) -> None:
    """Write the DECIMALs that are there as the rows from now on have them, as the source did."""
    for old, _, column, name in move.kept:
        convert = rescaled(old, column)
        there = table.column(name)
        if convert is not None and there is not None and not there.generated:
            connection.create_function("cdcflow_rescale", 1, cast("Callable[[Any], Any]", convert), deterministic=True)
            value = ident(there.name)
            connection.execute(f"UPDATE {ident(table.name)} SET {value} = cdcflow_rescale({value})")


def _differs(table: FileTable, move: Move, new: Route) -> bool:
    if any(table.column(name) is None for _, name in new.columns) or any(table.column(name) for name in move.gone):
        return True
    if table.made_by and not ddl.has_shape(new, table):
        return True
    renamed = [(folded(was), folded(name)) for _, was, _, name in move.kept if folded(was) != folded(name)]
    if {was for was, _ in renamed} & {name for _, name in renamed}:  # names go round
        return True
    return new.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is None


def _is_simple(table: FileTable, move: Move, new: Route) -> bool:
    """Whether ALTER TABLE can do it: no value, no key and no NOT NULL changes."""
    held = {folded(name) for name in table.primary_key}
    names = {folded(was): name for _, was, _, name in move.kept}
    key = [folded(names.get(folded(name), name)) for name in table.primary_key]
    if key != [folded(name) for name in ddl.primary_key(new)] or any(folded(name) in held for name in move.gone):
        return False
    for _, was, column, name in move.kept:
        there = table.column(was) or table.column(name)
        if there is not None and (there.type != type_of(column) or _must_loosen(there, new, column, name)):
            return False
    return move.is_simple


def _must_loosen(there: FileColumn, new: Route, column: Column, name: str) -> bool:
    return there.not_null and ddl.is_nullable(new, column) and name not in ddl.primary_key(new)


def _in_place(connection: sqlite3.Connection, table: FileTable, new: Route, move: Move) -> None:
    alter = f"ALTER TABLE {ident(table.name)} "
    for name in move.gone:
        there = table.column(name)
        if there is None:
            continue
        for index in table.indexes:
            if index.sql and folded(name) in {folded(column) for column in index.columns}:
                connection.execute(f"DROP INDEX {ident(index.name)}")
        try:
            connection.execute(f"{alter}DROP COLUMN {ident(there.name)}")
        except sqlite3.OperationalError as error:
            raise SchemaStop(
                f"column {there.name} cannot be dropped as the source did it",
                at=f"target table {table.name}",
                why=str(error),
                do="mend it in the file (a view, trigger or constraint needs the column), then start cdcflow again",
            ) from None
    pairs = [(was, name) for _, was, _, name in move.kept if was != name and table.column(was) is not None]
    for was, name in ddl.renames(pairs):
        connection.execute(f"{alter}RENAME COLUMN {ident(was)} TO {ident(name)}")
    now = catalog.table(connection, table.name)
    assert now is not None
    for column, name in new.columns:
        if now.column(name) is None:
            connection.execute(ddl.add_column(new, column, name))
    if new.on_delete is OnDelete.SOFT and now.column(SOFT_DELETE_COLUMN) is None:
        connection.execute(f"{alter}ADD COLUMN {ident(SOFT_DELETE_COLUMN)} TEXT")


def rebuild(connection: sqlite3.Connection, table: FileTable, new: Route, move: Move, pipeline: str) -> None:
    """Make the table anew in the shape of `new`, with its rows and what a person added to it."""
    gone = {folded(name) for name in (*move.gone, *(was for _, was, _, _ in move.kept))}
    written = {folded(name) for _, name in new.columns} | {folded(SOFT_DELETE_COLUMN)}
    theirs = [
        column
        for column in table.columns
        if folded(column.name) not in gone | written and not column.generated and column.name != "cdcflow_empty"
    ]
    kept: list[_Moved] = []
    for was, name, convert in ddl.conversions(move):
        there = table.column(was) or table.column(name)
        if there is not None:
            kept.append(_Moved(there.name, name, convert))
    kept += [_Moved(column.name, column.name, None) for column in theirs]
    if new.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is not None:
        kept.append(_Moved(SOFT_DELETE_COLUMN, SOFT_DELETE_COLUMN, None))
    connection.execute(f"DROP TABLE IF EXISTS {ident(_BESIDE)}")
    connection.execute(ddl.create_table(new, pipeline, name=_BESIDE, more=map(_line, theirs)))
    selected = []
    for number, each in enumerate(kept):
        if each.convert is None:
            selected.append(ident(each.was))
        else:
            function = f"cdcflow_convert_{number}"
            connection.create_function(function, 1, cast("Callable[[Any], Any]", each.convert), deterministic=True)
            selected.append(f"{function}({ident(each.was)})")
    names = [each.name for each in kept]
    for column, name in move.added:
        if column.missing is not None:
            names.append(name)
            selected.append(ddl.literal(value_of(column.missing.encode(), ord(kind_of(column)))))
    if names:
        connection.execute(
            f"INSERT INTO {ident(_BESIDE)} ({ddl.column_list(names)})"
            f" SELECT {', '.join(selected)} FROM {ident(table.name)}"
        )
    texts = _texts(connection, table.name)
    connection.execute(f"DROP TABLE {ident(table.name)}")
    # Else a view of the table, which is not there at this moment, would be an error.
    connection.execute("PRAGMA legacy_alter_table = ON")
    try:
        connection.execute(f"ALTER TABLE {ident(_BESIDE)} RENAME TO {ident(table_of(new))}")
    finally:
        connection.execute("PRAGMA legacy_alter_table = OFF")
    statement = ddl.key_index(new)
    if statement is not None:
        connection.execute(statement)
    for text in texts:
        try:
            connection.execute(text)
        except sqlite3.DatabaseError as error:
            log.info("left out what a table had before its change", table=table_of(new), why=str(error))


@dataclass(frozen=True, slots=True)
class _Moved:
    was: str
    name: str
    convert: Callable[[object], object] | None


def _line(column: FileColumn) -> str:
    line = f"{ident(column.name)} {column.type}".rstrip()
    return f"{line} DEFAULT {column.default}" if column.default is not None else line


def _texts(connection: sqlite3.Connection, name: str) -> list[str]:
    """Return the statements that made a table's indexes and triggers, but for the index of its key."""
    wanted = "SELECT sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND tbl_name = ? AND sql IS NOT NULL"
    wanted += " AND name <> ?"
    return [row[0] for row in connection.execute(wanted, (name, ddl.key_index_name(name))).fetchall()]
