"""Whether a table that was there before can hold a route's rows, and the statement that mends what keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.errors import ConfigError
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route
from cdcflow.targets.mysql import ddl, equality, types
from cdcflow.targets.mysql.catalog import Server, TargetTable

# https://dev.mysql.com/doc/refman/8.0/en/identifier-length.html, in characters.
_LONGEST_NAME = 64

# https://dev.mysql.com/doc/refman/8.0/en/innodb-limits.html
_MOST_KEY_COLUMNS = 16
_MOST_COLUMNS = 1017


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why rows cannot be written. `name` is the finding's stable name in `cdcflow check`."""

    name: str
    what: str
    why: str
    do: str


def impossible(route: Route, server: Server) -> list[Problem]:
    """Find what no table of the server can have: long names, keys and rows that are too long."""
    names = [route.target.schema, route.target.table, *(name for _, name in route.columns)]
    shorter = f"give it a shorter one in the rules of {route.source.name} (`to:` or `columns: rename`)"
    found = [
        Problem(
            "target.name",
            f"{ident(name)} is too long for a name at the target",
            f"it has {len(name)} characters, and MySQL takes {_LONGEST_NAME}",
            shorter,
        )
        for name in names
        if len(name) > _LONGEST_NAME
    ]
    found += [
        Problem("target.name", f"{ident(name)} ends with a space", "MySQL takes no such name", shorter)
        for name in names
        if name.endswith(" ")
    ]
    folded: dict[str, str] = {}
    for _, name in route.columns:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            what = f"columns {ident(other)} and {ident(name)} of {route.source.name} have one name in the target"
            do = f"rename one in the rules of {route.source.name} (`columns: rename`)"
            found.append(Problem("target.name", what, "MySQL's column names know no upper and lower case", do))
    exclude = f"leave columns out in the rules of {route.source.name} (`columns: exclude`)"
    if len(route.columns) > _MOST_COLUMNS:
        what = f"table {route.source.name} has {len(route.columns)} columns"
        found.append(Problem("target.columns", what, f"InnoDB takes {_MOST_COLUMNS}", exclude))
    keys = ddl.key_columns(route)
    if len(keys) > _MOST_KEY_COLUMNS:
        what = f"the key of {route.source.name} has {len(keys)} columns"
        do = f"set another `key:` in the rules of {route.source.name}"
        found.append(Problem("target.key", what, f"an index of MySQL has {_MOST_KEY_COLUMNS} at the most", do))
    if not types.is_family(route.source):
        for name in keys:
            if types.ddl_type(route.source, route.source.column(name), server, key_bytes=4) in ("json", "geometry"):
                what = f"column {ident(name)} of {route.source.name} cannot be in a key of the target"
                do = f"set another `key:` in the rules of {route.source.name}"
                found.append(Problem("target.key", what, "MySQL has no unique index on its type", do))
    texts = ddl.column_types(route, server)
    size = sum(types.row_bytes(text) for text in texts.values())
    if size > types.ROW_BYTES and not types.is_family(route.source):
        what = f"a row of {route.source.name} may have {size} bytes in the target"
        found.append(Problem("target.row", what, f"MySQL takes {types.ROW_BYTES} besides TEXT and BLOB", exclude))
    return found


def problems(route: Route, table: TargetTable, server: Server) -> list[Problem]:
    """Return everything that would make writing the route's rows into this table fail."""
    if table.kind != "BASE TABLE":
        return [
            Problem(
                "target.table",
                f"{route.target} is no plain table at the target ({table.kind.lower()})",
                "rows can be written into tables only",
                f"give table {route.source.name} another name with `to:` in the rules, or rename what is there",
            )
        ]
    found = [
        *_engine(route, table),
        *_missing_columns(route, table, server),
        *_unwritable_columns(route, table),
        *_unfilled_columns(route, table),
        *_loose_keys(route, table, server),
    ]
    if route.key and not table.finds_one_row_by(route.key_in_target):
        columns = ddl.column_list(route.key_in_target)
        found.append(
            Problem(
                "target.key",
                f"table {route.target} has no unique index on its key ({', '.join(route.key_in_target)})",
                "rows are found and overwritten by their key",
                f"ALTER TABLE {qualified(route.target)} ADD UNIQUE KEY ({columns})",
            )
        )
    return found


def refuse(route: Route, found: list[Problem]) -> None:
    """Raise ConfigError for the first problem, if there is one, with every statement that is needed."""
    if found:
        first = found[0]
        raise ConfigError(
            first.what,
            at=f"target table {qualified(route.target)}, from {route.source.name}",
            why=first.why,
            do="\n".join(f"{each.do};" if len(found) > 1 else each.do for each in found),
        )


def _engine(route: Route, table: TargetTable) -> list[Problem]:
    if table.engine.lower() == "innodb":
        return []
    return [
        Problem(
            "target.engine",
            f"table {route.target} is kept by {table.engine or 'no engine'}",
            "only InnoDB commits its rows together with the position",
            f"ALTER TABLE {qualified(route.target)} ENGINE=InnoDB",
        )
    ]


def _missing_columns(route: Route, table: TargetTable, server: Server) -> list[Problem]:
    alter = f"ALTER TABLE {qualified(route.target)} ADD COLUMN "
    texts = ddl.column_types(route, server)
    found = [
        Problem(
            "target.column",
            f"table {route.target} has no column {ident(name)}",
            f"the source has it as {column.type.text}",
            alter + ddl.column_line(route, column, name, texts[column.name], nullable=True),
        )
        for column, name in route.columns
        if table.column(name) is None
    ]
    if route.on_delete is OnDelete.SOFT and table.column(SOFT_DELETE_COLUMN) is None:
        found.append(
            Problem(
                "target.column",
                f"table {route.target} has no column {ident(SOFT_DELETE_COLUMN)}",
                "`on_delete: soft` writes the time of the deletion into it",
                f"{alter}{ident(SOFT_DELETE_COLUMN)} {ddl.SOFT_DELETE_TYPE}",
            )
        )
    return found


def _unwritable_columns(route: Route, table: TargetTable) -> list[Problem]:
    return [
        Problem(
            "target.generated",
            f"column {ident(name)} of table {route.target} is generated at the target",
            "a generated column cannot be written; the source has it as a plain one",
            f"ALTER TABLE {qualified(route.target)} MODIFY COLUMN {ident(name)} {there.type} (or exclude the column)",
        )
        for _, name in route.columns
        if (there := table.column(name)) is not None and there.generated
    ]


def _unfilled_columns(route: Route, table: TargetTable) -> list[Problem]:
    """Find columns of the target's own that every insert would have to fill."""
    written = {name.lower() for _, name in route.columns}
    return [
        Problem(
            "target.not_null",
            f"column {ident(there.name)} of table {route.target} must not be null and nothing writes it",
            "it is NOT NULL without a default, and the source's rows do not have it",
            f"ALTER TABLE {qualified(route.target)} MODIFY COLUMN {ident(there.name)} {there.type} NULL",
        )
        for there in table.columns
        if there.name.lower() not in written and not there.filled
    ]


def _loose_keys(route: Route, table: TargetTable, server: Server) -> list[Problem]:
    """Find columns of the key by which two rows of the source would be one here, in a table that a person made."""
    if table.made_by:
        return []
    alter = f"ALTER TABLE {qualified(route.target)} MODIFY COLUMN "
    return [
        Problem(
            "target.key",
            f"key column {ident(name)} of table {route.target} holds values for equal that the source tells apart"
            f" (its collation is {there.collation})",
            "two rows of the source would become one, and changes of one would be written to the other",
            alter + equality.mend(route.source, column, there, server),
        )
        for column, name in route.columns
        if column.name in route.key
        and (there := table.column(name)) is not None
        and equality.is_looser(route.source, column, there)
    ]
