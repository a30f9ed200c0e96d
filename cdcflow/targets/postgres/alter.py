"""From one shape of a table to the next: the statements that let the target follow a schema change.

The source's catalog is read later than the log, so it may be ahead of the rows that are being applied. What
could refuse a row of the past (a new NOT NULL on a column that is backfilled first) is therefore not followed:
the target stays as wide as it was.
"""

from __future__ import annotations

import re

from cdcflow.engines.postgres.names import ident, literal, qualified
from cdcflow.errors import SchemaStop
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route, SchemaChanges
from cdcflow.model.schema import Column
from cdcflow.targets.postgres import types
from cdcflow.targets.postgres.catalog import Shape, TargetColumn, TargetTable
from cdcflow.targets.postgres.ddl import (
    column_line,
    column_list,
    generated_line,
    is_computable,
    is_mirror,
    keeps_deleted_versions,
)
from cdcflow.targets.sql.columns import refuse_narrower

# A default that is one constant, perhaps cast: it means the same whenever and wherever it is evaluated.
_CONSTANT = re.compile(r"""^\(?-?(?:'(?:[^']|'')*'|\d+(?:\.\d+)?|true|false|NULL)\)?(?:::[\w\s"().,\[\]]+)?$""")


def statements(old: Route, new: Route, have: Shape, *, rows_lag: bool = False) -> list[str]:
    """Return what brings the target table from `old` to `new`, in order; empty where nothing is to be done.

    What the target has already (after a second attempt, or because a person did it) is left out. To be run in
    the transaction that applies the rows behind the change. Labels added to enums are not in it: see
    `types.new_labels`.

    Args:
        rows_lag: rows of older shapes may still come (from a bus): what they lack of an added column is what the
            source's older rows have in it, whatever its default is by now.

    Raises:
        SchemaStop: the rules say stop, or the change cannot be followed.
    """
    if new.schema_changes is SchemaChanges.IGNORE:
        return []
    if old.target != new.target:
        raise SchemaStop(
            f"table {old.source.name} is now called {new.source.name}, and its rows would go to {new.target}",
            at=f"target table {qualified(old.target)}",
            why="the rows so far are in the old table",
            do=f"route {new.source.name} with `to: {old.target}` in the rules to go on in the same table,"
            f" or exclude it",
        )
    refuse_narrower(old, new)
    table = have.table
    if table is None:
        raise SchemaStop(
            f"target table {new.target} is gone",
            at=f"from {new.source.name}",
            why="its shape changed at the source, and there is no table to change",
            do=f"cdcflow resync {new.source.name}",
        )
    made = [each for each in types.statements(new.source.types, have) if " ADD VALUE " not in each]
    made += _table(old, new, table, have, rows_lag=rows_lag)
    if made and new.schema_changes is SchemaChanges.STOP:
        raise SchemaStop(
            f"the shape of table {new.source.name} changed",
            at=f"target table {qualified(new.target)}",
            why="the rules say `schema_changes: stop` for it",
            do="\n".join(f"{each};" for each in made) + "\nthen start cdcflow again",
        )
    return made


def reshape(route: Route, have: Shape, *, empty: bool) -> list[str]:
    """Return what gives a table that cdcflow made, and that is to be copied anew, the shape of its route.

    Columns that only the target has stay: a person may have added them. Without `empty` rows are there still, and
    nothing that they could refuse is asked for: `clear` does the rest.
    """
    table = have.table
    if table is None or route.schema_changes is not SchemaChanges.APPLY:
        return []
    alter = f"ALTER TABLE {qualified(route.target)} "
    made = _drop_key(route, table, alter)
    made += [each for each in _drop_guards(route, have, alter) if each not in made]
    written = {name for _, name in route.columns}
    made += [
        f"{alter}ALTER COLUMN {ident(there.name)} DROP NOT NULL"
        for there in table.columns
        if there.name not in written and there.not_null and there.default is None and not there.identity
    ]
    for column, name in route.columns:
        there = table.column(name)
        if there is None:
            made.append(alter + "ADD COLUMN " + column_line(column, name, nullable=column.nullable or not empty))
            made += _default(alter, column, name)
            continue
        if empty and there.type != column.type.text:
            made += _retype(alter, there, column, name, keep=column.name in route.key)
        if there.not_null and column.nullable and column.name not in route.source.primary_key:
            made.append(f"{alter}ALTER COLUMN {ident(name)} DROP NOT NULL")
        elif empty and not column.nullable and (not there.not_null or there.type != column.type.text):
            made.append(f"{alter}ALTER COLUMN {ident(name)} SET NOT NULL")
    made += _soft_delete(route, table, alter)
    if empty:
        made += _add_key(route, table, alter)
    return made


def moved(before: Route, now: Route, have: Shape) -> list[str]:
    """Return what renames and drops, in a table that is empty, the columns that the source or the rules renamed,
    dropped or excluded since its rows came. `reshape` does the rest."""
    table = have.table
    if table is None or now.schema_changes is not SchemaChanges.APPLY or before.target != now.target:
        return []
    alter = f"ALTER TABLE {qualified(now.target)} "
    pairs, gone, _ = _match(before, now)
    gone = [name for name in [*_dropped_generated(before, now), *gone] if table.column(name) is not None]
    made = _drop_foreign_keys(table, have, gone, [])
    made += _drop_key(now, table, alter) if _key_changes(before, now) else []
    made += [f"{alter}DROP COLUMN {ident(name)}" for name in gone]
    return made + _rename(alter, _renames(pairs, table))


def _table(old: Route, new: Route, table: TargetTable, have: Shape, *, rows_lag: bool) -> list[str]:
    alter = f"ALTER TABLE {qualified(new.target)} "
    pairs, gone, added = _match(old, new)
    retyped = [was for before, was, after, _ in pairs if before.type.text != after.type.text]
    made = _drop_foreign_keys(table, have, gone, retyped)
    made += _drop_key(new, table, alter) if _key_changes(old, new) else []
    renames = _renames(pairs, table)
    dropped = [*_dropped_generated(old, new), *gone]
    made += [f"{alter}DROP COLUMN {ident(name)}" for name in dropped if table.column(name) is not None]
    made += _rename(alter, renames)
    vacated = {*dropped, *(was for was, _ in renames)}
    for column, name in added:
        if table.column(name) is None or name in vacated:
            made += _add(alter, column, name, partitioned=new.source.partitioned, rows_lag=rows_lag)
    for before, was, after, name in pairs:
        there = table.column(was) or table.column(name)
        if there is None:
            made += _add(alter, after, name, partitioned=new.source.partitioned, rows_lag=rows_lag)
            continue
        if before.type.text != after.type.text and there.type != after.type.text:
            keep = new.source.described or after.name in new.key
            made += _retype(alter, there, after, name, keep=keep)
        if after.nullable and not before.nullable and there.not_null and after.name not in new.source.primary_key:
            made.append(f"{alter}ALTER COLUMN {ident(name)} DROP NOT NULL")
    made += _added_generated(old, new, table, alter, have.version)
    made += _soft_delete(new, table, alter)
    if _key_changes(old, new):
        made += _add_key(new, table, alter)
    return made


def _dropped_generated(old: Route, new: Route) -> list[str]:
    """Name the generated columns that are gone: they go first, since they hold the columns that they are made of."""
    now = set(new.source.column_names)
    return [column.name for column in old.source.columns if column.generated and column.name not in now]


def _added_generated(old: Route, new: Route, table: TargetTable, alter: str, version: int) -> list[str]:
    before = set(old.source.column_names)
    return [
        attempt(f"{alter}ADD COLUMN {generated_line(column, version)}")
        for column in new.source.columns
        if column.name not in before and table.column(column.name) is None and is_computable(new, column)
    ]


def _match(old: Route, new: Route) -> tuple[list[tuple[Column, str, Column, str]], list[str], list[tuple[Column, str]]]:
    """Pair the columns of two shapes by the engine's number for each, by name where there is none.

    Returns:
        The pairs (old column, its target name, new column, its target name), the target names that are gone,
        and the columns that are new.
    """
    numbered = all(column.number for column, _ in (*old.columns, *new.columns))

    def mark(column: Column) -> int | str:
        return column.number if numbered else column.name

    left = {mark(column): (column, name) for column, name in old.columns}
    pairs, added = [], []
    for column, name in new.columns:
        before = left.pop(mark(column), None)
        if before is None:
            added.append((column, name))
        else:
            pairs.append((*before, column, name))
    return pairs, [name for _, name in left.values()], added


def _renames(pairs: list[tuple[Column, str, Column, str]], table: TargetTable) -> list[tuple[str, str]]:
    return [(was, name) for _, was, _, name in pairs if was != name and table.column(was) is not None]


def _rename(alter: str, renames: list[tuple[str, str]]) -> list[str]:
    """Rename in one step each, in two where the new name is one that another column still has."""
    held = {was for was, _ in renames}
    aside, direct, last = [], [], []
    for number, (was, name) in enumerate(renames):
        if name in held:
            between = f"cdcflow_rename_{number}"
            aside.append(f"{alter}RENAME COLUMN {ident(was)} TO {ident(between)}")
            last.append(f"{alter}RENAME COLUMN {ident(between)} TO {ident(name)}")
        else:
            direct.append(f"{alter}RENAME COLUMN {ident(was)} TO {ident(name)}")
    return aside + direct + last


def _add(alter: str, column: Column, name: str, *, partitioned: bool, rows_lag: bool) -> list[str]:
    """Add a column; rows that are there get what the source's older rows have, and those that lack it later.

    NOT NULL only together with such a value: without one the column may have been filled later than it was added.
    """
    value = older_value(column, partitioned=partitioned)
    nullable = column.nullable or value is None
    line = f"{alter}ADD COLUMN {column_line(column, name, nullable=nullable)}"
    if value is None:
        made = [line]
    elif rows_lag or value == column.default:
        return [f"{line} DEFAULT {value}"]
    else:
        made = [f"{line} DEFAULT {value}", f"{alter}ALTER COLUMN {ident(name)} DROP DEFAULT"]
    return made + _default(alter, column, name)


def _default(alter: str, column: Column, name: str) -> list[str]:
    """Set the source's default where the target can: it may call a function that is not there."""
    if column.default is None or column.identity or column.default.startswith("nextval("):
        return []
    return [attempt(f"{alter}ALTER COLUMN {ident(name)} SET DEFAULT {column.default}")]


def attempt(statement: str) -> str:
    """Return the statement in a form that does nothing where the target lacks what it names."""
    missing = "undefined_function OR undefined_object OR undefined_table OR undefined_column OR invalid_schema_name"
    return f"DO {literal(f'BEGIN {statement}; EXCEPTION WHEN {missing} THEN NULL; END')}"


def older_value(column: Column, *, partitioned: bool) -> str | None:
    """Return what rows older than the column hold, as an expression; None for NULL or where it is not known.

    A default says nothing of them: it may have been set after the column was added. Only of the root of a partition
    tree, which has no rows and so no value for them, it is the best that is known.
    """
    if column.identity or column.generated:
        return None
    if column.missing is not None:
        return f"{literal(column.missing)}::{column.type.text}"
    if partitioned and column.default is not None and _CONSTANT.match(column.default):
        return column.default
    return None


def _retype(alter: str, there: TargetColumn, column: Column, name: str, *, keep: bool) -> list[str]:
    """Change a column's type. Values that cannot be cast become NULL: the source rewrote the table to change
    them in a way of its own, which is noticed, and the table is copied again. `keep`: they stop it; a key cannot be
    NULL, and of a table that only its messages tell of, nothing brings them back.
    """
    text = column.type.text
    change = f"{alter}ALTER COLUMN {ident(name)} TYPE {text} USING"
    body = f"{change} {ident(name)}::text::{text};"
    if not keep:
        forget = f"{alter}ALTER COLUMN {ident(name)} DROP NOT NULL; {change} NULL"
        body = f"BEGIN {body} EXCEPTION WHEN data_exception OR cannot_coerce THEN {forget}; END;"
    body = f"BEGIN {change} {ident(name)}::{text}; EXCEPTION WHEN data_exception OR cannot_coerce THEN {body} END"
    drop, default = _default_around(alter, there, column, name)
    if there.identity and not column.identity:  # the new type cannot have one
        drop = [f"{alter}ALTER COLUMN {ident(name)} DROP IDENTITY", *drop]
    return [*drop, f"DO {literal(body)}", *default]


def _default_around(alter: str, there: TargetColumn, column: Column, name: str) -> tuple[list[str], list[str]]:
    """Return what takes a default away before a change of type, which may not be able to cast it, and what sets
    the new one. A sequence's default fits every type that it may have."""
    if there.default is None or there.identity or there.default.startswith("nextval("):
        return [], []
    return [f"{alter}ALTER COLUMN {ident(name)} DROP DEFAULT"], _default(alter, column, name)


def _soft_delete(route: Route, table: TargetTable, alter: str) -> list[str]:
    if route.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is None:
        return [f"{alter}ADD COLUMN {ident(SOFT_DELETE_COLUMN)} timestamp with time zone"]
    return []


def _key_changes(old: Route, new: Route) -> bool:
    names = {column.number: column.name for column in old.source.columns if column.number}
    now = {column.name: names.get(column.number, column.name) for column in new.source.columns}
    return [now.get(name, name) for name in new.key] != list(old.key)


def _drop_foreign_keys(table: TargetTable, have: Shape, gone: list[str], retyped: list[str]) -> list[str]:
    """Drop foreign keys that would hold a column back: the source, which changed it, has dropped or rebuilt them.

    Those that it still has come back with the next `finish`.
    """
    if not table.made_by:
        return []
    held = [key for key in have.references if set(key.columns) & {*gone, *retyped}]
    held += [key for key in have.foreign_keys if set(key.columns) & set(retyped) and key not in held]
    return [f"ALTER TABLE {qualified(key.table)} DROP CONSTRAINT {ident(key.name)}" for key in held]


def _drop_key(route: Route, table: TargetTable, alter: str) -> list[str]:
    """Drop the target's primary key where it is no longer the source's, and would only refuse rows."""
    primary = table.primary_key
    names = {column.name: name for column, name in route.columns}
    wanted = [set(route.key_in_target), {names.get(name, "") for name in route.source.primary_key}]
    if primary is None or set(primary.columns) in wanted:
        return []
    return [f"{alter}DROP CONSTRAINT {ident(primary.name)}"]


def _drop_guards(route: Route, have: Shape, alter: str) -> list[str]:
    """Drop what keeps rows apart by anything but the key, from a table of ours that keeps rows which the source has
    no longer: they would refuse new ones for ever. `finish` makes the indexes again, not unique."""
    if have.table is None or not have.table.made_by or is_mirror(route):
        return []
    made: list[str] = []
    for guard in have.guards:
        if set(guard.columns) == set(route.key_in_target):
            continue
        made += [
            f"ALTER TABLE {qualified(key.table)} DROP CONSTRAINT {ident(key.name)}"
            for key in have.references
            if set(key.columns) == set(guard.columns)
        ]
        drop = f"{alter}DROP CONSTRAINT {ident(guard.name.table)}"
        made.append(drop if guard.constraint else f"DROP INDEX {qualified(guard.name)}")
    return made


def _add_key(route: Route, table: TargetTable, alter: str) -> list[str]:
    if not route.key or table.finds_one_row_by(route.key_in_target):
        return []
    columns = column_list(route.key_in_target)
    if set(route.key) == set(route.source.primary_key) and not keeps_deleted_versions(route):
        return [f"{alter}ADD PRIMARY KEY ({columns})"]
    return [f"CREATE UNIQUE INDEX ON {qualified(route.target)} ({columns})"]
