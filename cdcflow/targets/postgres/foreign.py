"""Tables of MySQL and MariaDB in PostgreSQL's words: the one place where their types and defaults are mapped.

Everything else in this folder reads `column.type.text` as a type of PostgreSQL's, so a route of another engine is put
through `localized` where it enters the target. The words are those of `format_type`, which what is there is compared
with. What the values look like is said in `model.frame`: a type here must take that text and print it again.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from hashlib import blake2b

from cdcflow.engines.postgres.names import literal, qualified
from cdcflow.model.route import Route, ZeroDates
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

ENGINES = ("mysql", "mariadb")

# NAMEDATALEN - 1. https://www.postgresql.org/docs/current/sql-syntax-lexical.html
LONGEST_NAME_BYTES = 63

_PLAIN = {
    Logical.BOOL: "boolean",
    Logical.INT2: "smallint",
    Logical.INT4: "integer",
    Logical.INT8: "bigint",
    Logical.UINT8: "numeric(20,0)",
    Logical.FLOAT4: "real",
    Logical.FLOAT8: "double precision",
    Logical.BYTES: "bytea",
    Logical.DATE: "date",
    Logical.INTERVAL: "interval",
    Logical.UUID: "uuid",
    Logical.JSON: "json",  # jsonb would sort the keys and drop repeated ones
    Logical.ARRAY: "real[]",
    Logical.ENUM: "text",
    Logical.SET: "text",
}

# `decimal(10,2) unsigned`, `varchar(20)`, `datetime(3)`: the name in lower case and what stands in parentheses.
_TYPE = re.compile(r"^\s*([a-z0-9_]+)(?:\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?", re.IGNORECASE)

# What has an identity must be one of these: https://www.postgresql.org/docs/current/sql-createtable.html
_COUNTABLE = ("smallint", "integer", "bigint")

_DATED = (Logical.DATE, Logical.TIMESTAMP, Logical.TIMESTAMPTZ)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?: \d\d:\d\d:\d\d(?:\.\d{1,6})?(?:\+00)?)?")

# MySQL prints CURRENT_TIMESTAMP(3), MariaDB current_timestamp(3); what stands behind it (ON UPDATE) is not a default.
_NOW = re.compile(r"^\(*\s*(?:current_timestamp|now|localtime|localtimestamp)\s*(?:\(\s*(\d?)\s*\))?", re.IGNORECASE)
_TODAY = re.compile(r"^\(*\s*(?:curdate\s*\(\s*\)|current_date(?:\s*\(\s*\))?)\s*\)*$", re.IGNORECASE)


def shortened(name: str) -> str:
    """Return a name of ours, of an index say, so that the server keeps all of it and no other one becomes the same."""
    if len(name.encode()) <= LONGEST_NAME_BYTES:
        return name
    mark = "_" + blake2b(name.encode(), digest_size=4).hexdigest()
    return name.encode()[: LONGEST_NAME_BYTES - len(mark)].decode(errors="ignore") + mark


def is_foreign(table: Table) -> bool:
    """Whether the table's types are another engine's."""
    return table.engine in ENGINES


def native(column: Column, engine: str, *, geometry: str = "", in_key: bool = False) -> str:
    """Return the PostgreSQL type that holds a column's canonical text without loss, as `format_type` writes it.

    Args:
        geometry: PostGIS's type at the target, as `format_type` writes it; '' where the extension is not there.
        in_key: rows are found by the column, so its type must have an operator for equality and one for order.
    """
    if engine not in ENGINES:
        return column.type.text
    _, length, scale = _parts(column.type)
    match column.logical:
        case Logical.DECIMAL:
            return f"numeric({length},{scale or 0})" if length is not None else "numeric"
        case Logical.TEXT:
            return _text(column.type)
        case Logical.TIMESTAMP:
            return f"timestamp({length or 0}) without time zone"
        case Logical.TIMESTAMPTZ:
            return f"timestamp({length or 0}) with time zone"
        case Logical.BIT:
            return f"bit({length or 1})"
        case Logical.GEOMETRY:
            return geometry or "text"  # both take EWKB in hex
        case Logical.JSON if in_key:
            return "text"
    return _PLAIN.get(column.logical, "text")


def _parts(kind: NativeType) -> tuple[str, int | None, int | None]:
    found = _TYPE.match(kind.text)
    if found is None:
        return "", None, None
    first, second = (int(part) if part is not None else None for part in (found[2], found[3]))
    return found[1].lower(), first, second


def _text(kind: NativeType) -> str:
    """Both engines count a length in characters. CHAR loses its trailing spaces in MySQL and is padded here."""
    name, length, _ = _parts(kind)
    # MySQL has varchar(0), which PostgreSQL refuses.
    return f"character varying({length})" if name in ("char", "varchar") and length else "text"


def localized(route: Route, geometry: str = "") -> Route:
    """Return a route whose columns have PostgreSQL's types and defaults; one of PostgreSQL's own as it is.

    Generated columns are left out of the source: their expressions are not PostgreSQL's. Indexes and foreign keys stay
    as they are (see `indexes`). Do not give it what it returned.
    """
    table = route.source
    if not is_foreign(table):
        return route
    made = {column.name: _column(route, column, geometry) for column in table.columns if not column.generated}
    source = replace(table, columns=tuple(made.values()))
    return replace(route, source=source, columns=tuple((made[column.name], name) for column, name in route.columns))


def _column(route: Route, column: Column, geometry: str) -> Column:
    in_key = column.name in route.key or column.name in route.source.primary_key
    text = native(column, route.source.engine, geometry=geometry, in_key=in_key)
    older = None if column.missing is None else _dated(route, column, column.missing)
    default, identity = default_expression(route, column, text), column.identity
    if identity and text not in _COUNTABLE:  # BIGINT UNSIGNED, mostly
        default, identity = f"nextval({literal(qualified(_sequence(route, column)))}::regclass)", ""
    return replace(
        column,
        type=NativeType(text),
        nullable=column.nullable or (may_become_null(route, column) and not in_key),
        default=default,
        identity=identity,
        missing=older,
    )


def may_become_null(route: Route, column: Column) -> bool:
    """Whether a value of a NOT NULL column may arrive as NULL: a date that no calendar has."""
    return column.logical in _DATED and route.zero_dates is ZeroDates.NULL


def _sequence(route: Route, column: Column) -> TableName:
    name = route.source.name
    return TableName(name.schema, shortened(f"{name.table}_{column.name}_seq"))


def default_expression(route: Route, column: Column, text: str) -> str | None:
    """Return a column's default as PostgreSQL's SQL, None where it has none or none that means the same here.

    Args:
        text: the column's type at the target.
    """
    if column.default is None or column.identity or column.generated:
        return None
    if column.missing is not None:
        value = _dated(route, column, column.missing)
        return None if value is None else f"{literal(value)}::{text}"
    now = _NOW.match(column.default)
    if now is not None:
        if column.logical is Logical.TIMESTAMPTZ:
            return f"CURRENT_TIMESTAMP({now[1] or 0})"
        if column.logical is Logical.TIMESTAMP:
            return f"LOCALTIMESTAMP({now[1] or 0})"
    if column.logical is Logical.DATE and (now is not None or _TODAY.match(column.default)):
        return "CURRENT_DATE"
    return None


def _dated(route: Route, column: Column, value: str) -> str | None:
    """Return a literal value of a column; of a date that no calendar has, what the route makes of it."""
    if column.logical not in _DATED:
        return None if "\0" in value else value
    if _is_in_calendar(value):
        return value
    if route.zero_dates is not ZeroDates.EPOCH:
        return None
    clock = {Logical.DATE: "", Logical.TIMESTAMP: " 00:00:00", Logical.TIMESTAMPTZ: " 00:00:00+00"}
    return "1970-01-01" + clock[column.logical]


def _is_in_calendar(value: str) -> bool:
    found = _DAY.fullmatch(value)
    try:
        return found is not None and bool(date(int(found[1]), int(found[2]), int(found[3])))
    except ValueError:
        return False


def left_out(route: Route) -> list[tuple[str, str]]:
    """Return what of a table's columns does not go over, for the log: the column's name at the source and what."""
    if not is_foreign(route.source):
        return []
    found = [(column.name, "a generated column") for column in route.source.columns if column.generated]
    for column, _ in route.columns:
        lost = column.default is not None and not column.identity and default_expression(route, column, "") is None
        if lost:
            found.append((column.name, "a default"))
    return found
