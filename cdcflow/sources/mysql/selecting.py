"""How each column is selected for the copy, and what the text that comes back is."""

from __future__ import annotations

from typing import Final

from cdcflow.codecs import mysqlcells_cy as cells
from cdcflow.codecs.mysqldocuments import END, MARK
from cdcflow.engines.mysql.names import ident, qualified
from cdcflow.errors import TableRefused
from cdcflow.model.route import Route, ZeroDates
from cdcflow.model.schema import Column, Logical
from cdcflow.sources.mysql import types

_KINDS: Final = {
    Logical.INT2: cells.DIGITS,
    Logical.INT4: cells.DIGITS,
    Logical.INT8: cells.DIGITS,
    Logical.UINT8: cells.DIGITS,
    Logical.DECIMAL: cells.DIGITS,
    Logical.FLOAT4: cells.FLOAT4,
    Logical.FLOAT8: cells.FLOAT8,
    Logical.TEXT: cells.TEXT,
    Logical.ENUM: cells.TEXT,
    Logical.SET: cells.TEXT,
    Logical.JSON: cells.TEXT,
    Logical.UUID: cells.PLAIN,
    Logical.BYTES: cells.BYTES,
    Logical.DATE: cells.DATE,
    Logical.TIMESTAMP: cells.DATETIME,
    Logical.TIMESTAMPTZ: cells.TIMESTAMP,
    Logical.INTERVAL: cells.TIME,
    Logical.BIT: cells.BIT,
    Logical.GEOMETRY: cells.GEOMETRY,
    Logical.ARRAY: cells.VECTOR,
}

ZERO_DATES: Final = {
    ZeroDates.NULL: cells.ZERO_NULL,
    ZeroDates.EPOCH: cells.ZERO_EPOCH,
    ZeroDates.FAIL: cells.ZERO_FAIL,
}

# What `codecs.mysqldocuments` reads behind a document. JSON_TABLE finds values by their type and number, and not by
# their path.
_SQL_TYPES: Final = "'DECIMAL', 'DATE', 'TIME', 'DATETIME', 'TIMESTAMP', 'BLOB', 'BIT', 'OPAQUE'"
_LETTER: Final = f"ELT(FIELD(JSON_TYPE({{value}}), {_SQL_TYPES}), 'n', 'd', 't', 'm', 's', 'b', 'b', 'b')"
_LISTED: Final = (
    "IFNULL((SELECT CONCAT('{order}', COUNT(*), ':', GROUP_CONCAT(cdc.n, {letter} ORDER BY cdc.n SEPARATOR ','), ';')"
    " FROM JSON_TABLE({{name}}, '{path}' COLUMNS (n FOR ORDINALITY, v JSON PATH '$')) AS cdc"
    " WHERE JSON_TYPE(cdc.v) IN ({types})), '')"
)
_SECTIONS: Final = (
    "IFNULL(CONCAT('r1:0', {letter}, ';'), '')".format(letter=_LETTER.format(value="{name}")),
    _LISTED.format(order="o", path="$**.*", letter=_LETTER.format(value="cdc.v"), types=_SQL_TYPES),
    _LISTED.format(order="a", path="$**[*]", letter=_LETTER.format(value="cdc.v"), types=_SQL_TYPES),
)
_TYPED: Final = (
    f"IFNULL(CONCAT({{name}}, _utf8mb4 X'{MARK.hex()}', NULLIF(CONCAT({', '.join(_SECTIONS)}), ''),"
    f" _utf8mb4 X'{END.hex()}'), {{name}})"
)


def kind(column: Column) -> tuple[int, int]:
    """Return what a column's text is, and its width: the digits of a BIT, 0 for all else."""
    if column.logical is Logical.BIT:
        return cells.BIT, types.size(column.type.text) or 1
    return _KINDS[column.logical], 0


def kinds(route: Route) -> tuple[tuple[int, int], ...]:
    """Return `kind` of each of the route's columns.

    Raises:
        TableRefused: a column has a type that this version does not know.
    """
    unknown = [column for column, _ in route.columns if column.logical not in _KINDS and column.logical != Logical.BIT]
    if unknown:
        named = ", ".join(f"{column.name} ({column.type.text})" for column in unknown)
        raise TableRefused(
            f"table {route.source.name} has columns of a type that cannot be read",
            why=named,
            do="leave them out with `exclude_columns` in the rules",
        )
    return tuple(kind(column) for column, _ in route.columns)


def expression(column: Column, *, typed_documents: bool = False) -> str:
    """Return the SQL whose text holds the column's whole value; see `model.context.Context` for `typed_documents`.

    FLOAT is printed with six digits, and FLOAT(m,d) and DOUBLE(m,d) with d decimals, which is less than they hold; a
    product is an ordinary double, printed with as many digits as it takes. A sum would lose the sign of zero.
    """
    name = ident(column.name)
    if typed_documents and column.type.text == "json":  # MariaDB's is a longtext
        return _TYPED.format(name=name)
    return f"{name} * 1e0" if column.logical in (Logical.FLOAT4, Logical.FLOAT8) else name


def statement(route: Route, index: str, where: str, *, typed_documents: bool = False) -> str:
    """Return the SELECT of a chunk: all columns by name, since `*` leaves invisible ones out.

    Args:
        index: the index to read by, '' where the server may choose.
        where: a condition, '' for all rows.
        typed_documents: see `expression`.
    """
    columns = ", ".join(expression(column, typed_documents=typed_documents) for column, _ in route.columns)
    forced = f" FORCE INDEX ({ident(index)})" if index else ""
    return f"SELECT {columns} FROM {qualified(route.source.name)}{forced}" + (f" WHERE {where}" if where else "")
