"""Whether a table that was in the file before can hold a route's rows, and the statement that mends what keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdcflow.errors import ConfigError
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route
from cdcflow.targets.sql.keys import differ_in
from cdcflow.targets.sqlite.catalog import FileTable
from cdcflow.targets.sqlite.ddl import column_line, column_list
from cdcflow.targets.sqlite.names import folded, ident, table_of


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why rows cannot be written. `name` is the finding's stable name in `cdcflow check`."""

    name: str
    what: str
    why: str
    do: str


def problems(route: Route, table: FileTable) -> list[Problem]:
    """Return everything that would make writing the route's rows into this table fail."""
    name = table_of(route)
    if table.kind != "table":
        do = f"give table {route.source.name} another name with `to:` in the rules, or rename what is there"
        return [Problem("target.table", f"{name} is a {table.kind} in the file", "rows go into tables only", do)]
    found = [*_missing(route, table), *_unfilled(route, table)]
    if route.key and not table.finds_one_row_by(route.key_in_target):
        columns = ", ".join(route.key_in_target)
        found.append(
            Problem(
                "target.key",
                f"table {name} has no unique index on its key ({columns})",
                "rows are found and overwritten by their key",
                f"CREATE UNIQUE INDEX {ident(name + '_key')} ON {ident(name)} ({column_list(route.key_in_target)})",
            )
        )
    if not table.rowid and not route.key:
        what = f"table {name} has no rowid, and the source's table has no key"
        do = f"make table {name} without WITHOUT ROWID"
        found.append(Problem("target.key", what, "a row can be found by neither", do))
    return found + _loose_keys(route, table)


def refuse(route: Route, found: list[Problem]) -> None:
    """Raise ConfigError for the first problem, if there is one, with every statement that is needed."""
    if found:
        first = found[0]
        raise ConfigError(
            first.what,
            at=f"target table {table_of(route)}, from {route.source.name}",
            why=first.why,
            do="\n".join(f"{each.do};" if len(found) > 1 else each.do for each in found),
        )


# What a collation holds for equal: https://www.sqlite.org/datatype3.html#collating_sequences
_LOOSE: Final = {"NOCASE": "case", "RTRIM": "bytes"}


def _loose_keys(route: Route, table: FileTable) -> list[Problem]:
    """Find columns of the key by which two rows of the source would be one here."""
    key = {folded(name) for name in route.key_in_target}
    collations = {
        folded(name): collation
        for index in table.indexes
        if index.unique and not index.partial and {folded(name) for name in index.columns} == key
        for name, collation in zip(index.columns, index.collations, strict=True)
        if collation in _LOOSE
    }
    return [
        Problem(
            "target.key",
            f"key column {ident(name)} of table {table.name} holds values for equal that the source tells apart",
            "two rows of the source would become one, and changes of one would be written to the other",
            f"make table {table.name}, or its unique index, again without COLLATE {collations[folded(name)]}",
        )
        for column, name in route.columns
        if folded(name) in collations and _LOOSE[collations[folded(name)]] in differ_in(route.source, column)
    ]


def _missing(route: Route, table: FileTable) -> list[Problem]:
    alter = f"ALTER TABLE {ident(table.name)} ADD COLUMN "
    found = []
    for column, name in route.columns:
        there = table.column(name)
        if there is None:
            what, why = f"table {table.name} has no column {ident(name)}", f"the source has it as {column.type.text}"
            found.append(Problem("target.column", what, why, alter + column_line(column, name, not_null=False)))
        elif there.generated:
            what = f"column {ident(name)} of table {table.name} is generated in the file"
            why = "a generated column cannot be written; the source has it as a plain one"
            found.append(Problem("target.generated", what, why, f"make table {table.name} again without GENERATED"))
    if route.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is None:
        what = f"table {table.name} has no column {ident(SOFT_DELETE_COLUMN)}"
        why = "`on_delete: soft` writes the time of the deletion into it"
        found.append(Problem("target.column", what, why, f"{alter}{ident(SOFT_DELETE_COLUMN)} TEXT"))
    return found


def _unfilled(route: Route, table: FileTable) -> list[Problem]:
    """Find columns of the file's own that every insert would leave NULL though they must not be."""
    written = {folded(name) for _, name in route.columns}
    alias = table.primary_key if len(table.primary_key) == 1 else ()
    return [
        Problem(
            "target.not_null",
            f"column {ident(there.name)} of table {table.name} must not be null and nothing writes it",
            "it is NOT NULL without a default, and the source's rows do not have it",
            f"ALTER TABLE {ident(table.name)} DROP COLUMN {ident(there.name)}",
        )
        for there in table.columns
        if folded(there.name) not in written
        and there.not_null
        and there.default is None
        and not there.generated
        and not (there.name in alias and there.type.upper() == "INTEGER")
    ]
