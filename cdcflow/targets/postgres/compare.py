"""Whether a table that was there before can hold a route's rows, and the statement that mends what keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdcflow.engines.postgres.names import ident, qualified
from cdcflow.errors import ConfigError
from cdcflow.model.route import SOFT_DELETE_COLUMN, OnDelete, Route
from cdcflow.targets.postgres.catalog import TargetTable
from cdcflow.targets.postgres.ddl import column_line, column_list
from cdcflow.targets.postgres.foreign import LONGEST_NAME_BYTES, is_foreign
from cdcflow.targets.sql.keys import differ_in, is_citext

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
    "c": "a composite type",
    "i": "an index",
    "I": "an index",
    "t": "an internal table",
}

# https://www.postgresql.org/docs/current/ddl-system-columns.html
_SYSTEM_COLUMNS = frozenset(("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"))


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason why rows cannot be written. `name` is the finding's stable name in `cdcflow check`."""

    name: str
    what: str
    why: str
    do: str


def bad_names(route: Route) -> list[Problem]:
    """Find names that the server would cut short, so that nobody finds them again, or keeps for itself."""
    source = route.source.name
    found = [
        Problem(
            "target.name",
            f"column {ident(name)} cannot be made at the target",
            "every table of PostgreSQL has a column of its own of that name",
            f"give it another one in the rules of {source} (`columns: rename`)",
        )
        for _, name in route.columns
        if name in _SYSTEM_COLUMNS
    ]
    if route.target.schema.startswith("pg_"):
        found.append(
            Problem(
                "target.name",
                f"schema {ident(route.target.schema)} cannot be made at the target",
                "PostgreSQL keeps names that begin with pg_ for itself",
                f"give {source} another schema in the rules (`to:`)",
            )
        )
    names = [route.target.schema, route.target.table, *(name for _, name in route.columns)]
    return found + [
        Problem(
            "target.name",
            f"{ident(name)} is too long for a name at the target",
            f"it has {len(name.encode())} bytes, and PostgreSQL keeps {LONGEST_NAME_BYTES}",
            f"give it a shorter one in the rules of {route.source.name} (`to:` or `columns: rename`)",
        )
        for name in names
        if len(name.encode()) > LONGEST_NAME_BYTES
    ]


def problems(route: Route, table: TargetTable) -> list[Problem]:
    """Return everything that would make writing the route's rows into this table fail."""
    if table.kind not in ("r", "p"):
        kind = _KINDS.get(table.kind, "no table")
        return [
            Problem(
                "target.table",
                f"{route.target} is {kind} at the target",
                "rows can be written into tables only",
                f"give table {route.source.name} another name with `to:` in the rules, or rename what is there",
            )
        ]
    found = [*_missing_columns(route, table), *_unwritable_columns(route, table), *_unfilled_columns(route, table)]
    if route.key and not table.finds_one_row_by(route.key_in_target):
        columns = column_list(route.key_in_target)
        found.append(
            Problem(
                "target.key",
                f"table {route.target} has no unique index on its key ({', '.join(route.key_in_target)})",
                "rows are found and overwritten by their key",
                f"CREATE UNIQUE INDEX ON {qualified(route.target)} ({columns})",
            )
        )
    return found + _loose_keys(route, table)


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


def needed(route: Route) -> str:
    """Return what stands before a column's type, which is the source's own only where the engine is the same."""
    return "the source's values need" if is_foreign(route.source) else "the source has it as"


def _missing_columns(route: Route, table: TargetTable) -> list[Problem]:
    alter = f"ALTER TABLE {qualified(route.target)} ADD COLUMN "
    found = [
        Problem(
            "target.column",
            f"table {route.target} has no column {ident(name)}",
            f"{needed(route)} {column.type.text}",
            alter + column_line(column, name, nullable=True),
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
                f"{alter}{ident(SOFT_DELETE_COLUMN)} timestamp with time zone",
            )
        )
    return found


def _unwritable_columns(route: Route, table: TargetTable) -> list[Problem]:
    found = []
    for _, name in route.columns:
        there = table.column(name)
        if there is None:
            continue
        change = f"ALTER TABLE {qualified(route.target)} ALTER COLUMN {ident(name)} "
        if there.generated:
            what = f"column {ident(name)} of table {route.target} is generated at the target"
            why = "a generated column cannot be written; the source has it as a plain one"
            found.append(Problem("target.generated", what, why, change + "DROP EXPRESSION"))
        elif there.identity == "always":
            what = f"column {ident(name)} of table {route.target} takes no values but its own sequence's"
            why = "it is GENERATED ALWAYS AS IDENTITY"
            found.append(Problem("target.identity", what, why, change + "SET GENERATED BY DEFAULT"))
    return found


def _unfilled_columns(route: Route, table: TargetTable) -> list[Problem]:
    """Find columns of the target's own that every insert would leave NULL though they must not be."""
    written = {name for _, name in route.columns}
    return [
        Problem(
            "target.not_null",
            f"column {ident(there.name)} of table {route.target} must not be null and nothing writes it",
            "it is NOT NULL without a default, and the source's rows do not have it",
            f"ALTER TABLE {qualified(route.target)} ALTER COLUMN {ident(there.name)} DROP NOT NULL",
        )
        for there in table.columns
        if there.name not in written
        and there.not_null
        and there.default is None
        and not there.identity
        and not there.generated
    ]


def _loose_keys(route: Route, table: TargetTable) -> list[Problem]:
    """Find columns of the key by which two rows of the source would be one here."""
    return [
        Problem(
            "target.key",
            f"key column {ident(name)} of table {route.target} holds values for equal that the source tells apart"
            f" (its type is {there.type})",
            "two rows of the source would become one, and changes of one would be written to the other",
            f"ALTER TABLE {qualified(route.target)} ALTER COLUMN {ident(name)} TYPE text",
        )
        for column, name in route.columns
        if column.name in route.key
        and (there := table.column(name)) is not None
        and is_citext(there.type)
        and "case" in differ_in(route.source, column)
    ]


_SIZED = re.compile(r"^(.*?)(?:\((\d+)(?:,(-?\d+))?\))?( with(?:out)? time zone)?(\[\])?$")
_RANK = {"smallint": 1, "integer": 2, "bigint": 3, "numeric": 4}


def is_narrower(source: str, target: str) -> bool:
    """Whether a value of the source's type may not fit the target's, both as `format_type` writes them."""
    if source == target:
        return False
    wanted, there = _SIZED.match(source), _SIZED.match(target)
    if not wanted or not there or wanted[5] != there[5]:
        return target != "text"
    name, other = wanted[1] + (wanted[4] or ""), there[1] + (there[4] or "")
    if other == "text":
        return False
    if name == other == "numeric":
        return _numeric_is_narrower(wanted, there)
    if name == other or (name == "character" and other == "character varying"):
        return there[2] is not None and (wanted[2] is None or int(wanted[2]) > int(there[2]))
    if name in _RANK and other in _RANK:
        return _RANK[name] > _RANK[other] or there[2] is not None
    return not (name == "real" and other == "double precision")


def _numeric_is_narrower(wanted: re.Match[str], there: re.Match[str]) -> bool:
    if there[2] is None:
        return False
    if wanted[2] is None:
        return True
    scale, other = int(wanted[3] or 0), int(there[3] or 0)
    return scale > other or int(wanted[2]) - scale > int(there[2]) - other
