"""What a column's type, as information_schema or SHOW CREATE TABLE writes it, means."""

from __future__ import annotations

import re
from typing import Final

from cdcflow.model.schema import Logical, NativeType

_INTEGERS: Final = {
    # signed, unsigned
    "tinyint": (Logical.INT2, Logical.INT2),
    "smallint": (Logical.INT2, Logical.INT4),
    "mediumint": (Logical.INT4, Logical.INT4),
    "int": (Logical.INT4, Logical.INT8),
    "bigint": (Logical.INT8, Logical.UINT8),
}
# fmt: off
GEOMETRIES: Final = frozenset((
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
    "geometrycollection", "geomcollection",
))
# fmt: on
TEXTS: Final = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"))
BINARIES: Final = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"))
_LOGICALS: Final = {
    "year": Logical.INT2,
    "decimal": Logical.DECIMAL,
    "float": Logical.FLOAT4,
    "double": Logical.FLOAT8,
    "date": Logical.DATE,
    "datetime": Logical.TIMESTAMP,
    "timestamp": Logical.TIMESTAMPTZ,
    "time": Logical.INTERVAL,
    "bit": Logical.BIT,
    "enum": Logical.ENUM,
    "set": Logical.SET,
    "json": Logical.JSON,
    "vector": Logical.ARRAY,
    "uuid": Logical.UUID,
    "inet4": Logical.TEXT,
    "inet6": Logical.TEXT,
    "xmltype": Logical.TEXT,
    **dict.fromkeys(TEXTS, Logical.TEXT),
    **dict.fromkeys(BINARIES, Logical.BYTES),
    **dict.fromkeys(GEOMETRIES, Logical.GEOMETRY),
}

_BASE: Final = re.compile(r"[a-z0-9]+")
# MariaDB writes what only it understands as a comment: `varchar(100) /*M!100301 COMPRESSED*/`.
_COMMENT: Final = re.compile(r"\s*/\*.*?\*/")
# A display width says nothing about the values; servers before 8.0.19 and MariaDB print it, so the same column would
# have another type after an upgrade. ZEROFILL uses it, and tinyint(1) tells people that a truth value is meant.
_WIDTH: Final = re.compile(r"^(tinyint|smallint|mediumint|int|bigint|year)\(\d+\)")
_LABEL: Final = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPES: Final = {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "b": "\b", "Z": "\x1a"}

VECTOR_ELEMENT: Final = NativeType("float")


def native(text: str, *, charset: str = "", collation: str = "", srid: int = -1, json: bool = False) -> NativeType:
    """Return the type that information_schema's COLUMN_TYPE writes.

    The text is the server's, in one form for every version: without display widths (but for ZEROFILL and
    `tinyint(1)`) and without comments.

    Args:
        json: the column is MariaDB's JSON, which the server writes as `longtext` with a check.
    """
    text = _COMMENT.sub("", text).strip()
    if json:
        return NativeType("json", charset=charset, collation=collation)
    if "zerofill" not in text and not text.startswith("tinyint(1)"):
        text = _WIDTH.sub(r"\1", text)
    name = base(text)
    return NativeType(
        text,
        unsigned=" unsigned" in text and name not in ("enum", "set"),
        charset=charset,
        collation=collation,
        labels=labels(text) if name in ("enum", "set") else (),
        element=VECTOR_ELEMENT if name == "vector" else None,
        srid=srid if name in GEOMETRIES else -1,
    )


def logical(of: NativeType) -> Logical:
    """Return what values of the type mean."""
    name = base(of.text)
    if name in _INTEGERS:
        return _INTEGERS[name][of.unsigned]
    return _LOGICALS.get(name, Logical.OTHER)


def base(text: str) -> str:
    """Return a type's bare name: `decimal` of `decimal(10,2) unsigned`."""
    found = _BASE.match(text)
    return found[0] if found else ""


def labels(text: str) -> tuple[str, ...]:
    """Return the labels of `enum('a','b,c','d''e')`."""
    return tuple(unescape(found[1]) for found in _LABEL.finditer(text))


def unescape(inside: str) -> str:
    """Return what stands between the quotes of a string constant, with `''` and backslashes resolved."""
    return re.sub(r"''|\\(.)", lambda found: _ESCAPES.get(found[1], found[1]) if found[1] else "'", inside, flags=re.S)


def size(text: str) -> int:
    """Return the first number in a type's parentheses, 0 where there is none: 9 of `bit(9)`."""
    found = re.match(r"[a-z0-9]+\((\d+)", text)
    return int(found[1]) if found else 0
