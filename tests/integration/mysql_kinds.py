"""Tables of MySQL and MariaDB as a PostgreSQL target meets them: a column of every kind, and what it becomes there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cdcflow.model.copy import Chunk, DoneChunk
from cdcflow.model.frame import Cell
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName
from tests.servers.database import Database

# COLUMN_TYPE at the source, meaning, type at the target, values.
KINDS: dict[str, tuple[str, Logical, str, Sequence[str]]] = {
    "tiny": ("tinyint(1)", Logical.INT2, "smallint", ["-128", "127", "2"]),
    "utiny": ("tinyint unsigned", Logical.INT2, "smallint", ["0", "255"]),
    "small": ("smallint(6)", Logical.INT2, "smallint", ["-32768", "32767"]),
    "usmall": ("smallint unsigned", Logical.INT4, "integer", ["65535"]),
    "medium": ("mediumint", Logical.INT4, "integer", ["-8388608"]),
    "int": ("int", Logical.INT4, "integer", ["-2147483648", "2147483647"]),
    "uint": ("int(10) unsigned zerofill", Logical.INT8, "bigint", ["4294967295", "7"]),
    "big": ("bigint", Logical.INT8, "bigint", ["-9223372036854775808"]),
    "ubig": ("bigint unsigned", Logical.UINT8, "numeric(20,0)", ["18446744073709551615", "0"]),
    "year": ("year(4)", Logical.INT2, "smallint", ["0", "1901", "2155"]),
    "dec": ("decimal(10,2) unsigned", Logical.DECIMAL, "numeric(10,2)", ["0.10", "99999999.99"]),
    "long dec": ("decimal(65,30)", Logical.DECIMAL, "numeric(65,30)", ["-" + "9" * 35 + "." + "9" * 30]),
    "whole dec": ("decimal(10)", Logical.DECIMAL, "numeric(10,0)", ["-1234567890"]),
    "float": ("float(7,3)", Logical.FLOAT4, "real", ["0.1", "3.4028235e+38", "1e-07", "-0"]),
    "double": ("double unsigned", Logical.FLOAT8, "double precision", ["1e+20", "1.7976931348623157e+308", "0.1"]),
    "char": ("char(3)", Logical.TEXT, "character varying(3)", ["", "a", " é🐘", "abc"]),
    "varchar": ("varchar(20)", Logical.TEXT, "character varying(20)", ["a ", "tab\t\\N\r\n", "🐘" * 20]),
    "nothing": ("varchar(0)", Logical.TEXT, "text", [""]),
    "long": ("longtext", Logical.TEXT, "text", ["x" * 100_000, "'\"%s"]),
    "binary": ("binary(3)", Logical.BYTES, "bytea", ["\\x610000"]),
    "blob": ("mediumblob", Logical.BYTES, "bytea", ["\\x", "\\x00ff5c"]),
    "date": ("date", Logical.DATE, "date", ["0001-01-01", "1000-01-01", "9999-12-31"]),
    "datetime": (
        "datetime",
        Logical.TIMESTAMP,
        "timestamp(0) without time zone",
        ["1000-01-01 00:00:00", "9999-12-31 23:59:59"],
    ),
    "datetime6": ("datetime(6)", Logical.TIMESTAMP, "timestamp(6) without time zone", ["2024-02-29 12:00:00.000001"]),
    "timestamp": ("timestamp", Logical.TIMESTAMPTZ, "timestamp(0) with time zone", ["2038-01-19 03:14:07+00"]),
    "timestamp3": ("timestamp(3)", Logical.TIMESTAMPTZ, "timestamp(3) with time zone", ["1970-01-01 00:00:01.5+00"]),
    "time": ("time", Logical.INTERVAL, "interval", ["-838:59:59", "838:59:59", "00:00:00", "24:00:00"]),
    "time6": ("time(6)", Logical.INTERVAL, "interval", ["-00:00:00.000001", "12:34:56.5"]),
    "bit": ("bit(1)", Logical.BIT, "bit(1)", ["0", "1"]),
    "bits": ("bit(64)", Logical.BIT, "bit(64)", ["1" * 64, "01" * 32]),
    "enum": ("enum('a','it''s','')", Logical.ENUM, "text", ["a", "it's", ""]),
    "set": ("set('a','b')", Logical.SET, "text", ["a,b", "", "b"]),
    "json": ("json", Logical.JSON, "json", ['{"a": 1, "b": [1.10, "\\u0000 é"]}', "null", '"x"', '{"a":1,"a":2}']),
    "point": ("point", Logical.GEOMETRY, "text", ["0101000020E6100000000000000000F03F0000000000000040"]),
    "vector": ("vector(2)", Logical.ARRAY, "real[]", ["{1,2.5}", "{1e-07,-0}"]),
    "uuid": ("uuid", Logical.UUID, "uuid", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    "inet6": ("inet6", Logical.TEXT, "text", ["::1", "::ffff:1.2.3.4"]),
    "inet4": ("inet4", Logical.TEXT, "text", ["255.0.0.1"]),
}

ONE = Chunk(1, 0, "", "")
UNICODE_TABLE = "Bestellungen mit ü 😀"


def my(name: str, kind: str = "varchar(20)", logical: Logical = Logical.TEXT, **more: Any) -> Column:
    """Return a column as the catalog of a MySQL source tells it."""
    return Column(name, NativeType(kind, unsigned="unsigned" in kind), logical, **more)


def my_id(**more: Any) -> Column:
    return my("id", "int", Logical.INT4, nullable=False, **more)


def my_table(*columns: Column, name: str = "shop.t", key: tuple[str, ...] = ("id",), **more: Any) -> Table:
    schema, _, plain = name.partition(".")
    numbered = tuple(replace(c, number=c.number or at) for at, c in enumerate(columns, 1))
    more.setdefault("primary_key", key)
    more.setdefault("engine", "mysql")
    return Table(TableName(schema, plain), abs(hash(name)) >> 1, numbered, key, **more)


def done(rows: int, size: int) -> DoneChunk:
    return DoneChunk(ONE, "0/1", "", rows, size)


def copy_line(cells: Sequence[bytes | None]) -> bytes:
    """Write one row as a snapshot's COPY text."""
    marks = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))

    def written(cell: bytes | None) -> bytes:
        if cell is None:
            return b"\\N"
        for mark, escaped in marks:
            cell = cell.replace(mark, escaped)
        return cell

    return b"\t".join(map(written, cells)) + b"\n"


def types_of(database: Database, table: str = "shop.t") -> dict[str, tuple[str, bool, str | None]]:
    """Return type, NOT NULL and default of each column."""
    rows = database.query(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    return {name: (kind, not_null, default) for name, kind, not_null, default in rows}


def texts(database: Database, column: str) -> list[str | None]:
    quoted = '"' + column.replace('"', '""') + '"'
    return [text for (text,) in database.query(f"SELECT {quoted}::text FROM shop.t ORDER BY id")]


def every_kind(engine: str = "mysql") -> tuple[Table, list[list[Cell]]]:
    """Return a table with a column of each kind, and rows that hold all its values, and NULL."""
    columns = [my(name, kind, logical) for name, (kind, logical, _, _) in KINDS.items()]
    table = my_table(my_id(), *columns, engine=engine)
    count = max(len(values) for *_, values in KINDS.values()) + 1
    rows: list[list[Cell]] = []
    for number in range(count):
        values: list[Cell] = [str(number).encode()]
        for *_, known in KINDS.values():
            values.append(known[number % len(known)].encode() if number < count - 1 else None)
        rows.append(values)
    return table, rows


def check_texts(database: Database, rows: list[list[Cell]]) -> None:
    for place, name in enumerate(KINDS, 1):
        wanted = [cell.decode() if isinstance(cell, bytes) else None for cell in (row[place] for row in rows)]
        assert texts(database, name) == wanted, name
