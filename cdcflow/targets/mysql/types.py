"""Which type a source's column gets in MySQL and MariaDB, and how its values are written there.

Between MySQL and MariaDB a column keeps its own type wherever the target has it. From elsewhere the type is the
narrowest that holds every value of the source's type exactly; where MySQL has none (numeric without limits, arrays,
intervals, ranges) it is text that holds the canonical form. Moments in time become datetime(6) in UTC: timestamp
ends in 2038.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from cdcflow.codecs import mysqlliterals as cells
from cdcflow.engines.mysql.connect import Flavour
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical, NativeType, Table
from cdcflow.targets.mysql.catalog import Server, TargetColumn

FAMILY: Final = ("mysql", "mariadb")

# https://dev.mysql.com/doc/refman/8.0/en/innodb-limits.html: of one index, in a table with DYNAMIC rows.
INDEX_BYTES: Final = 3072
# https://dev.mysql.com/doc/refman/8.0/en/column-count-limit.html: of one row without its BLOB and TEXT columns.
ROW_BYTES: Final = 65535

# Longer ones are TEXT, which counts only with 12 bytes for the size of a row.
_LONGEST_VARCHAR: Final = 1024
_BYTES_PER_CHARACTER: Final = 4

_INTEGERS: Final = frozenset(("tinyint", "smallint", "mediumint", "int", "bigint"))
_NUMBERS: Final = _INTEGERS | {"decimal", "float", "double"}
_BINARY: Final = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"))
_TEXTS: Final = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"))
_GEOMETRIES: Final = frozenset(
    ("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon")
) | {"geometrycollection", "geomcollection"}
_SAME_AS_UTF8: Final = ("utf8mb4", "utf8mb3", "utf8", "ascii", "")

_SIZED: Final = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")
_NATIVE: Final = re.compile(r"^([a-z0-9]+)")
_COMMENT: Final = re.compile(r"\s*/\*.*?\*/")

_PLAIN: Final = {
    Logical.BOOL: "tinyint(1)",
    Logical.INT2: "smallint",
    Logical.INT4: "int",
    Logical.INT8: "bigint",
    Logical.UINT8: "bigint unsigned",
    Logical.FLOAT4: "float",
    Logical.FLOAT8: "double",
    Logical.DATE: "date",
    Logical.GEOMETRY: "geometry",
}
_SHORT_TEXT: Final = {Logical.TIMETZ: 32, Logical.INTERVAL: 128, Logical.ENUM: 64}


def is_family(table: Table) -> bool:
    """Whether a table's types are written in MySQL's words."""
    return table.engine in FAMILY


def base(type_: NativeType) -> NativeType:
    """Return what a domain is made over."""
    while type_.base is not None:
        type_ = type_.base
    return type_


def ddl_type(table: Table, column: Column, server: Server, *, key_bytes: int = 0) -> str:
    """Return the type with its character set, as CREATE TABLE has it.

    Args:
        key_bytes: what the index on the key leaves for the column; 0 for a column outside of it.
    """
    if is_family(table):
        return _native(table, column, server)
    type_ = base(column.type)
    sizes = _SIZED.search(type_.text)
    size, scale = (int(sizes[1]), int(sizes[2] or 0)) if sizes else (0, 0)
    match column.logical:
        case Logical.DECIMAL if size and size - min(scale, 0) <= 65 and scale <= min(size, 30):
            return f"decimal({size - min(scale, 0)},{max(scale, 0)})"
        case Logical.TIME:
            return f"time({size if sizes else 6})"
        case Logical.TIMESTAMP | Logical.TIMESTAMPTZ:
            return f"datetime({size if sizes else 6})"
        case Logical.BYTES:
            return f"varbinary({key_bytes})" if key_bytes else "longblob"
        case Logical.BIT if 0 < size <= 64 and "varying" not in type_.text:
            return f"bit({size})"
        case Logical.BIT if not sizes and type_.text == "bit":
            return "bit(1)"
        case Logical.UUID:
            known = server.mariadb and server.flavour.version >= (10, 7)
            return "uuid" if known else "char(36) CHARACTER SET ascii COLLATE ascii_bin"
        case Logical.JSON if type_.text == "jsonb" and not key_bytes:
            return "json"
    if column.logical in _PLAIN:
        return _PLAIN[column.logical]
    limit = _SHORT_TEXT.get(column.logical, 0)
    if column.logical is Logical.TEXT and sizes:
        limit = size
        if type_.text.startswith("character(") and size <= 255:
            return f"char({size}) CHARACTER SET utf8mb4 COLLATE {server.binary}"
    return f"{_text(limit, key_bytes)} CHARACTER SET utf8mb4 COLLATE {server.binary}"


def _text(limit: int, key_bytes: int) -> str:
    if key_bytes:
        most = key_bytes // _BYTES_PER_CHARACTER
        return f"varchar({min(limit or most, most)})"
    return f"varchar({limit})" if 0 < limit <= _LONGEST_VARCHAR else "longtext"


def is_sized(table: Table, column: Column) -> bool:
    """Whether a key on the column takes as many bytes of its index as there are."""
    if is_family(table):
        return False
    return column.logical in (
        Logical.BYTES,
        Logical.TEXT,
        Logical.JSON,
        Logical.ARRAY,
        Logical.OTHER,
        Logical.SET,
        Logical.DECIMAL,
        Logical.BIT,
    )


def row_bytes(type_text: str) -> int:
    """Return what a column takes of a row at the most, as the server counts it."""
    sizes = _SIZED.search(type_text)
    size = int(sizes[1]) if sizes else 0
    if type_text.startswith(("varchar", "char")):
        wide = 1 if "ascii" in type_text or "latin1" in type_text else _BYTES_PER_CHARACTER
        return size * wide + 2
    if type_text.startswith(("varbinary", "binary")):
        return size + 2
    return 12


def _native(table: Table, column: Column, server: Server) -> str:
    type_ = column.type
    plain = _COMMENT.sub("", type_.text).strip()
    found = _NATIVE.match(plain.lower())
    name = found[1] if found else ""
    other = (server.flavour.engine == "mariadb") != (table.engine == "mariadb")
    if name == "vector" and server.flavour.version < ((11, 7) if server.mariadb else (9, 0)):
        return f"longtext CHARACTER SET utf8mb4 COLLATE {server.binary}"
    if other:
        foreign = _foreign(name, plain, column, server)
        if foreign:
            return foreign
    if name in _TEXTS and type_.charset and type_.charset != "binary":
        charset, collation = collation_of(type_.charset, type_.collation, server)
        return f"{plain} CHARACTER SET {charset} COLLATE {collation}"
    if name in _GEOMETRIES and type_.srid >= 0:
        return f"{plain} REF_SYSTEM_ID={type_.srid}" if server.mariadb else f"{plain} /*!80003 SRID {type_.srid} */"
    return plain


def _foreign(name: str, plain: str, column: Column, server: Server) -> str:
    """Return the nearest type where only the other of the two engines has a column's own; '' where both have it."""
    if server.mariadb:
        return "geometrycollection" if name == "geomcollection" else ""
    if name == "uuid":
        return "char(36) CHARACTER SET ascii COLLATE ascii_bin"
    if name in ("inet4", "inet6"):
        return f"varchar({15 if name == 'inet4' else 45}) CHARACTER SET ascii COLLATE ascii_bin"
    sizes = _SIZED.search(plain)
    if name == "decimal" and sizes and int(sizes[2] or 0) > 30:
        return f"varchar(80) CHARACTER SET utf8mb4 COLLATE {server.binary}"
    if name == "json" or (column.logical is Logical.JSON and name == "longtext"):
        return f"longtext CHARACTER SET utf8mb4 COLLATE {server.binary}"  # its text stays what it is
    return ""


def collation_of(charset: str, collation: str, server: Server) -> tuple[str, str]:
    """Return the character set and collation of the target that are the source's own, or come nearest: what is told
    apart at the source is told apart in the target."""
    charset = "utf8mb3" if charset == "utf8" and "utf8mb3_bin" in server.collations else charset
    collation = collation.replace("utf8_", "utf8mb3_", 1) if collation.startswith("utf8_") else collation
    if collation in server.collations and not (server.mariadb and collation == "utf8mb4_0900_bin"):
        return charset, collation
    charsets = set(server.collations.values())
    if charset not in charsets and not (charset == "utf8mb3" and "utf8" in charsets):
        charset = "utf8mb4"  # holds every character that another one has
    if charset == "utf8mb3" and charset not in charsets:
        charset = "utf8"
    for name in (*_nearest(collation, charset), f"{charset}_bin"):
        if name in server.collations:
            return charset, name
    return "utf8mb4", server.binary


def _nearest(collation: str, charset: str) -> tuple[str, ...]:
    """Return candidates, the best first, for a collation that the target lacks."""
    no_pad = "_0900_" in collation or "nopad" in collation
    unicode = charset in ("utf8mb4", "utf8mb3", "utf8")
    if collation.endswith("_bin") or not unicode:
        if no_pad and unicode:
            return (f"{charset}_nopad_bin", f"{charset}_0900_bin", f"{charset}_bin")
        if collation.endswith("_bin"):
            return (f"{charset}_bin",)
        general = f"{charset}_general_ci"
        return (general,) if collation.endswith("_ci") else ()
    if collation.endswith("_cs"):
        pad = "nopad_" if no_pad else ""
        return (f"{charset}_uca1400_{pad}as_cs", f"{charset}_0900_as_cs", f"{charset}_nopad_bin", f"{charset}_bin")
    if collation.endswith("_as_ci"):
        pad = "nopad_" if no_pad else ""
        return (f"{charset}_uca1400_{pad}as_ci", f"{charset}_0900_as_ci", f"{charset}_nopad_bin", f"{charset}_bin")
    if no_pad:
        return (
            f"{charset}_uca1400_nopad_ai_ci",
            f"{charset}_0900_ai_ci",
            f"{charset}_unicode_520_nopad_ci",
            f"{charset}_unicode_520_ci",
        )
    return (f"{charset}_uca1400_ai_ci", f"{charset}_unicode_520_ci", f"{charset}_unicode_ci", f"{charset}_general_ci")


def cell_kind(column: Column, there: TargetColumn) -> int:
    """Return how the column's canonical text is written into the column that the target has (see `mysqlliterals`)."""
    logical, name = column.logical, there.kind
    if name in _NUMBERS:
        if logical is Logical.BOOL:
            return cells.BOOL
        # Without quotes -0 would be the integer 0.
        return cells.SINGLE if name == "float" else cells.TEXT if name == "double" else cells.NUMBER
    if name == "bit":
        return cells.FLAG if logical is Logical.BOOL else cells.BITS if logical is Logical.BIT else cells.TEXT
    if name in _BINARY:
        return cells.BYTES if logical is Logical.BYTES else cells.TEXT
    if name in _GEOMETRIES:
        return cells.GEOMETRY
    if name == "vector":
        return cells.VECTOR
    if name in ("datetime", "timestamp", "date", "time"):
        return cells.INSTANT if logical in (Logical.TIMESTAMPTZ, Logical.TIMETZ) else cells.TEXT
    if name == "year":
        return cells.YEAR
    if column.type.text == "json":
        return cells.DOCUMENT if name == "json" else cells.UNTYPED
    return cells.PADDED if name == "char" else cells.TEXT


def read_as(there: TargetColumn, *, mariadb: bool) -> str:
    """Return the expression that LOAD DATA, which reads bytes, needs for a column, with `{}` for its value; '' where
    the bytes are right as they are."""
    if there.kind in _TEXTS:
        return "" if there.charset in _SAME_AS_UTF8 else "CONVERT({} USING utf8mb4)"
    if there.kind in ("json", "uuid", "inet4", "inet6") or (
        mariadb and there.kind not in _NUMBERS and not _bytes(there)
    ):
        return "CONVERT({} USING utf8mb4)"
    return ""


def is_geometry(there: TargetColumn) -> bool:
    """Whether a column holds geometries."""
    return there.kind in _GEOMETRIES


def _bytes(there: TargetColumn) -> bool:
    return there.kind in _BINARY or there.kind in _GEOMETRIES or there.kind in ("bit", "vector")


def is_listable(there: TargetColumn) -> bool:
    """Whether a list of literals finds rows by the column: their type is the column's, and exact."""
    return there.kind in _INTEGERS | _BINARY | {"decimal", "char", "varchar"}


def matches(name: str, there: TargetColumn, kind: int, text: bytes) -> bytes:
    """Return the condition that a column holds just this value, byte for byte where equal values may differ."""
    quoted = name.encode()
    value = comparable(there, kind, text)
    if there.kind in _TEXTS:
        same = b"CAST(CONVERT(%s USING utf8mb4) AS BINARY) = CAST(%s AS BINARY)"
        return b"%s = %s AND " % (quoted, value) + same % (quoted, value)
    if there.kind == "json":
        return b"%s = CAST(%s AS JSON)" % (quoted, value)
    if there.kind in _GEOMETRIES or there.kind == "vector":
        return b"CAST(%s AS BINARY) = %s" % (quoted, value)
    return b"%s = %s" % (quoted, value)


def comparable(there: TargetColumn, kind: int, text: bytes) -> bytes:
    """Return a literal that is equal to what the column holds after the value was written."""
    if there.kind == "float":
        return widened(text)
    return cells.literal(kind, text)


def widened(text: bytes) -> bytes:
    """Return a FLOAT's value as the DOUBLE that the server compares it as."""
    try:
        (value,) = struct.unpack("f", struct.pack("f", float(text)))
    except (ValueError, OverflowError):
        return cells.quoted(text)
    words = repr(value)
    return (words if "e" in words else f"{words}e0").encode() if words[-1].isdigit() else cells.quoted(text)


def kind_of_ddl(route: Route, column: Column) -> str:
    """Return the DATA_TYPE that a column from another engine gets outside of a key."""
    anything = Server(Flavour("mysql", (9, 0, 0)), {})
    return re.split(r"[( ]", ddl_type(route.source, column, anything))[0]
