"""Table maps: which table row events are about, and how its rows are decoded with the shape that we know.

Format: https://dev.mysql.com/doc/dev/mysql-server/latest/classmysql_1_1binlog_1_1event_1_1Table__map__event.html
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from cdcflow.codecs.binlog_cy import MessageError
from cdcflow.codecs.binlogrow_cy import RowShape
from cdcflow.codecs.mysqlforms import (
    JSON,
    NO_DEFAULT,
    ColumnForm,
    Missing,
    TableMetadata,
    optional_metadata,
    parse_types,
)
from cdcflow.model.route import Route, ZeroDates
from cdcflow.model.schema import Column, Logical, Table, TableName
from cdcflow.sources.mysql.ddl_charsets import Charsets

# What the log calls each type, by the word that DDL begins it with. Types that are not here are not compared.
# https://dev.mysql.com/doc/dev/mysql-server/latest/field__types_8h.html
_CODES: Final[dict[str, frozenset[int]]] = {
    "tinyint": frozenset({1}),
    "smallint": frozenset({2}),
    "mediumint": frozenset({9}),
    "int": frozenset({3}),
    "bigint": frozenset({8}),
    "float": frozenset({4}),
    "double": frozenset({5}),
    "decimal": frozenset({246}),
    "year": frozenset({13}),
    "date": frozenset({10, 14}),
    "time": frozenset({11, 19}),
    "datetime": frozenset({12, 18}),
    "timestamp": frozenset({7, 17}),
    "bit": frozenset({16}),
    "enum": frozenset({247}),
    "set": frozenset({248}),
    "char": frozenset({254}),
    "binary": frozenset({254}),
    "varchar": frozenset({15, 141}),
    "varbinary": frozenset({15, 141}),
    "json": frozenset({245, 252}),  # MariaDB's is a longtext
    "vector": frozenset({242, 15}),
}
# What follows the day, of the beginning of time.
_DATES: Final = {Logical.DATE: b"", Logical.TIMESTAMP: b" 00:00:00", Logical.TIMESTAMPTZ: b" 00:00:00+00"}
_UTF8: Final = {"utf8": "utf8mb3"}
_NUMBERS: Final = frozenset({1, 2, 3, 4, 5, 8, 9, 246})
_BLOBS: Final = frozenset({252, 140})
_CODES_BLOB: Final = {f"{size}{kind}": _BLOBS for size in ("", "tiny", "medium", "long") for kind in ("text", "blob")}


@dataclass(frozen=True, slots=True)
class TableMap:
    """One table map. types: (type, metadata) of each column, resolved; `metadata` is what the server says besides."""

    number: int
    name: TableName
    types: list[tuple[int, int]]
    metadata: TableMetadata


def parse(body: bytes, engine: str) -> TableMap:
    """Read a table map's body, as `engine` (`mysql` or `mariadb`) writes it.

    Raises:
        MessageError: it ends before its parts do.
    """
    try:
        number, at = int.from_bytes(body[:6], "little"), 8
        database, at = _name(body, at)
        table, at = _name(body, at)
        width, at = _packed(body, at)
        types = body[at : at + width]
        at += width
        size, at = _packed(body, at)
        metadata = body[at : at + size]
        at += size + (width + 7) // 8
        if len(types) != width or len(metadata) != size or at > len(body):
            raise IndexError
        resolved = parse_types(types, metadata)
        return TableMap(number, TableName(database, table), resolved, optional_metadata(body[at:], resolved, engine))
    except (IndexError, UnicodeDecodeError):
        raise MessageError("a table map ends before its parts do") from None


def shape(
    found: TableMap, route: Route, charsets: Charsets, *, typed_documents: bool = False
) -> tuple[RowShape, tuple[str, ...]] | str:
    """Return the decoder of the table's rows and the names of the cells that it makes, or why the shape that we know
    is not that of these rows."""
    table = route.source
    why = mismatch(found, table, charsets)
    if why:
        return why
    kept = {column.name for column, _ in route.columns} | set(route.key)
    forms = [
        _form(column, kind, meta, kept, route, typed=typed_documents and kind == JSON)
        for column, (kind, meta) in zip(table.columns, found.types, strict=True)
    ]
    names = tuple(column.name for column in table.columns if column.name in kept)
    return RowShape(forms, str(table.name)), names


def mismatch(found: TableMap, table: Table, charsets: Charsets) -> str:
    """Say in what the log's table differs from the shape; '' where it does not."""
    if len(found.types) != len(table.columns):
        return f"its rows have {len(found.types)} columns, not {len(table.columns)}"
    names = found.metadata.names
    if names and list(names) != [column.name for column in table.columns]:
        return "its columns have other names"
    for index, (column, (kind, _)) in enumerate(zip(table.columns, found.types, strict=True)):
        codes = _CODES.get(base(column), _CODES_BLOB.get(base(column)))
        if codes is not None and kind not in codes:
            return f"column {column.name} has another type"
        unsigned = found.metadata.unsigned
        if unsigned and kind in _NUMBERS and unsigned[index] != column.type.unsigned:
            return f"column {column.name} has another sign"
        if found.metadata.collations and column.type.charset:
            collation = charsets.names.get(found.metadata.collations[index], "")
            charset = charsets.charset_of.get(collation, column.type.charset)
            if _UTF8.get(charset, charset) != _UTF8.get(column.type.charset, column.type.charset):
                return f"column {column.name} has another character set"
    return ""


def base(column: Column) -> str:
    """Return the first word of a column's type: `int`, `varchar`, `geometry`."""
    return column.type.text.split("(", 1)[0].split(" ", 1)[0].lower()


def _form(column: Column, kind: int, meta: int, kept: set[str], route: Route, *, typed: bool) -> ColumnForm:
    length = column.type.text.partition("(")[2].partition(")")[0]
    return ColumnForm(
        type=kind,
        meta=meta,
        unsigned=column.type.unsigned,
        charset=column.type.charset,
        labels=column.type.labels,
        native=base(column),
        length=int(length) if length.isdigit() and base(column) == "binary" else 0,
        zero_dates=str(route.zero_dates.value),
        default=_default(column, route.zero_dates),
        keep=column.name in kept,
        name=column.name,
        typed=typed,
    )


def _default(column: Column, zero_dates: ZeroDates) -> bytes | Missing | None:
    """Return what a row holds in the column that was inserted without it: canonical text, None for NULL."""
    if column.missing is None:
        return None if column.default is None and column.nullable else NO_DEFAULT
    if column.logical not in _DATES or _is_real(column.missing):
        return column.missing.encode()
    if zero_dates is ZeroDates.EPOCH:
        return b"1970-01-01" + _DATES[column.logical]
    return None if zero_dates is ZeroDates.NULL else NO_DEFAULT


def _is_real(text: str) -> bool:
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _name(body: bytes, at: int) -> tuple[str, int]:
    size, at = _packed(body, at)
    if body[at + size] != 0:
        raise IndexError
    return body[at : at + size].decode(), at + size + 1


def _packed(body: bytes, at: int) -> tuple[int, int]:
    first = body[at]
    size = {252: 2, 253: 3, 254: 8}.get(first, 0)
    if not size:
        return first, at + 1
    if at + 1 + size > len(body):
        raise IndexError
    return int.from_bytes(body[at + 1 : at + 1 + size], "little"), at + 1 + size
