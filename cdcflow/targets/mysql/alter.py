"""From one shape of a table to the next: the statement that lets the target follow a schema change.

All of one change is one ALTER TABLE, which both servers do wholly or not at all (columns that make way for others of
their name are dropped by one before it). DDL commits, so it may be asked for again after a crash: in a table that
cdcflow made, the ALTER sets the fingerprint of the new shape in the comment too, and is left out where it stands there
already; in another, what the table has already is left out. Shapes that look the same may have other columns behind
their names (dropped and added anew, swapped): the columns' numbers in the fingerprint tell.

The source's catalog is read later than the log, so it may be ahead of the rows that are being applied. What could
refuse a row of the past is not followed: no column becomes NOT NULL but one that is new and has a value.
"""

from __future__ import annotations

from collections.abc import Collection

from cdcflow.engines.mysql.names import ident, literal, qualified
from cdcflow.errors import SchemaStop
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route, SchemaChanges
from cdcflow.model.schema import Column
from cdcflow.targets.mysql import catalog, ddl, types
from cdcflow.targets.mysql.catalog import Server, TargetColumn, TargetTable
from cdcflow.targets.sql.columns import refuse_narrower

Pair = tuple[Column, str, Column, str]  # old column, its name in the target, new column, its name


def statements(old: Route, new: Route, table: TargetTable | None, server: Server, pipeline: str) -> list[str]:
    """Return what brings the target table from `old` to `new`; empty where nothing is to be done.

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
    if table is None:
        raise SchemaStop(
            f"target table {new.target} is gone",
            at=f"from {new.source.name}",
            why="its shape changed at the source, and there is no table to change",
            do=f"cdcflow resync {new.source.name}",
        )
    refuse_narrower(old, new)
    if _is_done(old, new, table):
        return []
    clauses = _clauses(old, new, table, server)
    found = _ordered(old, new, table, clauses, pipeline)
    if clauses and new.schema_changes is SchemaChanges.STOP:
        raise SchemaStop(
            f"the shape of table {new.source.name} changed",
            at=f"target table {qualified(new.target)}",
            why="the rules say `schema_changes: stop` for it",
            # With the mark, by which it is known to be done.
            do=";\n".join([*found, "then start cdcflow again"]),
        )
    return found


def _is_done(old: Route, new: Route, table: TargetTable) -> bool:
    """Whether a table that cdcflow made has the new shape already."""
    if not table.made_by or table.shape != ddl.fingerprint(new):
        return False
    if ddl.fingerprint(old) != ddl.fingerprint(new) or ddl.numbers(old) == ddl.numbers(new):
        return True
    if table.numbers == ddl.numbers(new):
        return True
    # Of a key's new column that its rows have no known value in, the source wrote every row anew: a copy follows.
    return any(older_value(new, new.source.column(name)) is None for name in _renewed_keys(old, new))


def _ordered(old: Route, new: Route, table: TargetTable, clauses: list[str], pipeline: str) -> list[str]:
    """Return the statements: first what makes way, if anything does, then the rest."""
    # A column that takes the place of another of its name would inherit its indexes, with lengths of the other's type;
    # and an index is not to become one on the columns that are left.
    _, gone, added = _match(old, new)
    names = {name.lower() for _, name in added}
    drops = {f"DROP COLUMN {ident(name)}" for name in gone if name.lower() in names} & set(clauses)
    if drops:
        drops |= {*_drop_keys(new, table, _lost(old, new, table))} & set(clauses)
    rest = _joined(new, table, [clause for clause in clauses if clause not in drops], pipeline)
    if not drops:
        return rest
    made_way = [clause for clause in clauses if clause in drops]
    return [f"ALTER TABLE {qualified(new.target)} {', '.join(made_way)}", *rest]


def _renewed_keys(old: Route, new: Route) -> list[str]:
    """Name the columns of the new key that are others than those that had their names before."""
    _, _, added = _match(old, new)
    before = {name.lower() for _, name in old.columns}
    return [column.name for column, name in added if name.lower() in before and column.name in new.key]


def moved(before: Route, now: Route, table: TargetTable) -> list[str]:
    """Return what renames and drops, in a table that is empty, the columns that the source or the rules renamed,
    dropped or excluded since its rows came. `reshape` does the rest."""
    if now.schema_changes is not SchemaChanges.APPLY or before.target != now.target:
        return []
    pairs, gone, _ = _match(before, now)
    gone = list(dict.fromkeys([*_dropped_generated(before, now), *gone]))
    clauses = [f"DROP COLUMN {ident(name)}" for name in gone if table.column(name)]
    if _key_changes(before, now):
        clauses = _drop_keys(now, table) + clauses
    clauses += _renames(pairs, table)
    return [f"ALTER TABLE {qualified(now.target)} {', '.join(clauses)}"] if clauses else []


def reshape(route: Route, table: TargetTable, server: Server, pipeline: str, *, empty: bool) -> list[str]:
    """Return what gives a table that cdcflow made, and that is to be copied anew, the shape of its route.

    Columns that only the target has stay: a person may have added them. Without `empty` rows are there still, and
    nothing that they could refuse is asked for: `clear` does the rest.
    """
    if route.schema_changes is not SchemaChanges.APPLY:
        return []
    if table.shape == ddl.fingerprint(route) and all(table.column(name) for _, name in route.columns):
        # Which says nothing of generated columns; and the numbers begin anew with each copy.
        seal = table.numbers not in ("", ddl.numbers(route))
        return _joined(route, table, _generated(route, table, server) if empty else [], pipeline, seal=seal)
    texts = ddl.column_types(route, server)
    written = {name for _, name in route.columns}
    clauses = _drop_keys(route, table)
    clauses += [
        f"MODIFY COLUMN {ident(there.name)} {_as_is(there)} NULL"
        for there in table.columns
        if there.name not in written and not there.filled
    ]
    for column, name in route.columns:
        there = table.column(name)
        if there is None:
            nullable = column.nullable or not empty
            clauses.append("ADD COLUMN " + ddl.column_line(route, column, name, texts[column.name], nullable=nullable))
        elif empty:
            auto = there.auto and ddl.is_auto(route, column)
            clauses.append("MODIFY COLUMN " + ddl.column_line(route, column, name, texts[column.name], auto=auto))
    if empty:
        clauses += _generated(route, table, server)
    clauses += _soft_delete(route, table)
    if empty:
        clauses += _add_key(route, table)
    # What its rows are like is known only when it is empty.
    return _joined(route, table, clauses, pipeline, seal=empty)


def _joined(route: Route, table: TargetTable, clauses: list[str], pipeline: str, *, seal: bool = True) -> list[str]:
    if table.made_by and seal:
        comment = catalog.mark(pipeline, catalog.unmarked(table.comment), ddl.seal(route))
        clauses = [*clauses, f"COMMENT = {literal(comment)}"]
    return [f"ALTER TABLE {qualified(route.target)} {', '.join(clauses)}"] if clauses else []


def _clauses(old: Route, new: Route, table: TargetTable, server: Server) -> list[str]:
    pairs, gone, added = _match(old, new)
    texts = ddl.column_types(new, server)
    before = ddl.column_types(old, server)
    gone = [name for name in gone if table.column(name)]
    lost = _lost(old, new, table)
    made = _drop_keys(new, table, lost) if _key_changes(old, new) else []
    dropped = _dropped_generated(old, new)
    made += [f"DROP COLUMN {ident(name)}" for name in dict.fromkeys([*dropped, *gone]) if table.column(name)]
    vacated = {name.lower() for name in (*dropped, *gone)} | {was.lower() for _, was, _, name in pairs if was != name}
    for column, name in added:
        if table.column(name) is None or name.lower() in vacated:
            made.append(_add(new, column, name, texts[column.name]))
    taken = table.made_by != ""
    for was, was_name, column, name in pairs:
        there = table.column(was_name) or table.column(name)
        if there is None:
            made.append(_add(new, column, name, texts[column.name]))
            continue
        renamed = was_name != name and table.column(was_name) is not None
        retyped = before.get(was.name) != texts[column.name]
        loosened = column.nullable and not was.nullable and there.not_null and column.name not in new.source.primary_key
        if retyped or loosened:
            type_text = texts[column.name] if retyped else _as_is(there)
            nullable = column.nullable or (not there.not_null)
            auto = there.auto
            line = ddl.column_line(new, column, name, type_text, nullable=nullable, auto=auto)
            made.append(f"CHANGE COLUMN {ident(was_name)} {line}" if renamed else f"MODIFY COLUMN {line}")
        elif renamed and (taken or table.column(name) is None or name.lower() in vacated):
            made.append(f"RENAME COLUMN {ident(was_name)} TO {ident(name)}")
    was_there = set(old.source.column_names)
    made += _generated(new, table, server, without=was_there)
    made += _soft_delete(new, table)
    if _key_changes(old, new):
        made += _add_key(new, table, lost)
    return made


def _lost(old: Route, new: Route, table: TargetTable) -> list[str]:
    """Name the target's columns that are gone, or whose names stand for other columns than those that its indexes
    hold."""
    pairs, gone, _ = _match(old, new)
    passed_on = {was for _, was, _, name in pairs if was != name} & {name for _, was, _, name in pairs if was != name}
    return [*(name for name in gone if table.column(name)), *passed_on]


def _dropped_generated(old: Route, new: Route) -> list[str]:
    """Name the generated columns that are gone: no column of the routes stands for them."""
    now = set(new.source.column_names)
    return [column.name for column in old.source.columns if column.generated and column.name not in now]


def _generated(route: Route, table: TargetTable, server: Server, *, without: Collection[str] = ()) -> list[str]:
    """Add the generated columns that the target lacks and can compute."""
    return [
        f"ADD COLUMN {ddl.generated_line(route, column, server)}"
        for column in route.source.columns
        if column.name not in without and table.column(column.name) is None and ddl.is_computable(route, column)
    ]


def _match(old: Route, new: Route) -> tuple[list[Pair], list[str], list[tuple[Column, str]]]:
    """Pair the columns of two shapes by the engine's number for each, by name where there is none.

    Returns:
        The pairs, the target names that are gone, and the columns that are new.
    """
    numbered = all(column.number for column, _ in (*old.columns, *new.columns))

    def mark(column: Column) -> int | str:
        return column.number if numbered else column.name

    left = {mark(column): (column, name) for column, name in old.columns}
    pairs: list[Pair] = []
    added = []
    for column, name in new.columns:
        before = left.pop(mark(column), None)
        if before is None:
            added.append((column, name))
        else:
            pairs.append((*before, column, name))
    return pairs, [name for _, name in left.values()], added


def _renames(pairs: list[Pair], table: TargetTable) -> list[str]:
    return [
        f"RENAME COLUMN {ident(was)} TO {ident(name)}"
        for _, was, _, name in pairs
        if was != name and table.column(was) is not None
    ]


def _add(route: Route, column: Column, name: str, type_text: str) -> str:
    """Add a column; rows that are there get what the source's older rows have.

    NOT NULL only together with such a value: without one the column may have been filled later than it was added.
    """
    value = older_value(route, column)
    line = f"ADD COLUMN {ddl.column_line(route, column, name, type_text, nullable=column.nullable or value is None)}"
    if value is None:
        # From PostgreSQL: a default that is newer than the column is not what its older rows hold.
        return line + (ddl.default_of(route, column, type_text) if types.is_family(route.source) else "")
    return f"{line} DEFAULT {value}"


def older_value(route: Route, column: Column) -> str | None:
    """Return what rows older than the column hold, as an expression; None for NULL or where it is not known."""
    if column.identity or column.generated or column.missing is None:
        return None
    if types.is_family(route.source) and column.default is not None:
        return column.default
    there = TargetColumn(column.name, types.kind_of_ddl(route, column), "")
    kind = types.cell_kind(column, there)
    value = types.comparable(there, kind, column.missing.encode()).decode()
    # TEXT, BLOB and JSON columns take an expression only.
    return f"({value})" if there.kind.endswith(("text", "blob")) or there.kind in ("json", "geometry") else value


def _as_is(there: TargetColumn) -> str:
    if there.charset and there.charset != "binary":
        return f"{there.type} CHARACTER SET {there.charset} COLLATE {there.collation}"
    return there.type


def _soft_delete(route: Route, table: TargetTable) -> list[str]:
    if route.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is None:
        return [f"ADD COLUMN {ident(SOFT_DELETE_COLUMN)} {ddl.SOFT_DELETE_TYPE}"]
    return []


def _key_changes(old: Route, new: Route) -> bool:
    if _renewed_keys(old, new):
        return True
    names = {column.number: column.name for column in old.source.columns if column.number}
    now = {column.name: names.get(column.number, column.name) for column in new.source.columns}
    return [now.get(name, name) for name in new.key] != list(old.key)


def _drop_keys(route: Route, table: TargetTable, gone: Collection[str] = ()) -> list[str]:
    """Drop the target's keys where they are no longer the source's, and would only refuse rows; and those that have
    columns of `gone`, which are dropped or go under other names."""
    if not table.made_by:
        return []
    lost = {name.lower() for name in gone}
    names = {column.name: name for column, name in route.columns}
    wanted = [set(route.key_in_target), {names.get(name, "") for name in route.source.primary_key}]
    found = [
        key
        for key in table.keys
        if (key.primary or key.name == "cdcflow_key")
        and (set(key.columns) not in wanted or lost & {name.lower() for name in key.columns})
    ]
    counting = [
        f"MODIFY COLUMN {ident(there.name)} {_as_is(there)} NOT NULL"
        for there in table.columns
        if there.auto and any(there.name in key.columns for key in found) and there.name.lower() not in lost
    ]
    return counting + ["DROP PRIMARY KEY" if key.primary else f"DROP KEY {ident(key.name)}" for key in found]


def _add_key(route: Route, table: TargetTable, gone: Collection[str] = ()) -> list[str]:
    lost = {name.lower() for name in gone} & {name.lower() for name in route.key_in_target}
    if not route.key or (table.finds_one_row_by(route.key_in_target) and not lost):
        return []
    columns = ddl.column_list(route.key_in_target)
    if set(route.key) == set(route.source.primary_key) and not ddl.keeps_deleted_versions(route):
        return [f"ADD PRIMARY KEY ({columns})"]
    return [f"ADD UNIQUE KEY `cdcflow_key` ({columns})"]
