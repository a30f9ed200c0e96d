"""What Connect's names of types mean, and columns as its schemas describe them: for topics that have no shape of ours.

Names: https://debezium.io/documentation/reference/stable/connectors/postgresql.html under "Data type mappings"; the
other connectors use the same and a few more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cdcflow.codecs.buskinds import Kind
from cdcflow.model.schema import Column, Logical, NativeType

_CONNECT: Final = "org.apache.kafka.connect.data."

# Types are named in PostgreSQL's words, whatever the source was: type, number, logical type, the array's number.
TYPES: Final = {
    Kind.BOOL: ("boolean", 16, Logical.BOOL, 1000),
    Kind.INT16: ("smallint", 21, Logical.INT2, 1005),
    Kind.INT32: ("integer", 23, Logical.INT4, 1007),
    Kind.INT64: ("bigint", 20, Logical.INT8, 1016),
    Kind.FLOAT32: ("real", 700, Logical.FLOAT4, 1021),
    Kind.FLOAT64: ("double precision", 701, Logical.FLOAT8, 1022),
    Kind.DECIMAL: ("numeric", 1700, Logical.DECIMAL, 1231),
    Kind.TEXT: ("text", 25, Logical.TEXT, 1009),
    Kind.BYTES: ("bytea", 17, Logical.BYTES, 1001),
    Kind.DATE: ("date", 1082, Logical.DATE, 1182),
    Kind.TIME: ("time without time zone", 1083, Logical.TIME, 1183),
    Kind.TIMETZ: ("time with time zone", 1266, Logical.TIMETZ, 1270),
    Kind.TIMESTAMP: ("timestamp without time zone", 1114, Logical.TIMESTAMP, 1115),
    Kind.TIMESTAMPTZ: ("timestamp with time zone", 1184, Logical.TIMESTAMPTZ, 1185),
    Kind.INTERVAL: ("interval", 1186, Logical.INTERVAL, 1187),
    Kind.UUID: ("uuid", 2950, Logical.UUID, 2951),
    Kind.JSON: ("json", 114, Logical.JSON, 199),
    # The EWKB in hexadecimal digits: not every target has a type for it.
    Kind.GEOMETRY: ("text", 25, Logical.TEXT, 1009),
}
_ARRAYS: Final = {oid: array for _, oid, _, array in TYPES.values()}

# JSON says `float` and `double`.
PLAIN: Final = {
    "boolean": Kind.BOOL,
    "int8": Kind.INT16,
    "int16": Kind.INT16,
    "int32": Kind.INT32,
    "int64": Kind.INT64,
    "float": Kind.FLOAT32,
    "float32": Kind.FLOAT32,
    "double": Kind.FLOAT64,
    "float64": Kind.FLOAT64,
    "string": Kind.TEXT,
    "bytes": Kind.BYTES,
}
# Kind, and microseconds of 1; below zero, how many of it are a microsecond.
NAMED: Final = {
    "io.debezium.time.Date": (Kind.DATE, 1),
    _CONNECT + "Date": (Kind.DATE, 1),
    "io.debezium.time.Time": (Kind.TIME, 1000),
    "io.debezium.time.MicroTime": (Kind.TIME, 1),
    "io.debezium.time.NanoTime": (Kind.TIME, -1000),
    _CONNECT + "Time": (Kind.TIME, 1000),
    "io.debezium.time.ZonedTime": (Kind.TIMETZ, 1),
    "io.debezium.time.Timestamp": (Kind.TIMESTAMP, 1000),
    "io.debezium.time.MicroTimestamp": (Kind.TIMESTAMP, 1),
    "io.debezium.time.NanoTimestamp": (Kind.TIMESTAMP, -1000),
    _CONNECT + "Timestamp": (Kind.TIMESTAMP, 1000),
    "io.debezium.time.ZonedTimestamp": (Kind.TIMESTAMPTZ, 1),
    "io.debezium.time.Interval": (Kind.INTERVAL, 1),
    "io.debezium.time.MicroDuration": (Kind.INTERVAL, 1),
    "io.debezium.time.Year": (Kind.INT32, 1),
    "io.debezium.data.Uuid": (Kind.UUID, 1),
    "io.debezium.data.Json": (Kind.JSON, 1),
    # Labels of an enum make a type of their own, which a topic's reader would have to keep in step: text takes all.
    "io.debezium.data.Enum": (Kind.TEXT, 1),
    "io.debezium.data.EnumSet": (Kind.TEXT, 1),
    "io.debezium.data.geometry.Geometry": (Kind.GEOMETRY, 1),
    "io.debezium.data.geometry.Geography": (Kind.GEOMETRY, 1),
    "io.debezium.data.geometry.Point": (Kind.GEOMETRY, 1),
}
DECIMAL: Final = _CONNECT + "Decimal"
VARIABLE_DECIMAL: Final = "io.debezium.data.VariableScaleDecimal"
BITS: Final = "io.debezium.data.Bits"
# Protobuf's, of which Connect knows nothing.
UNSIGNED: Final = "uint64"
_BIT: Final = 1560
# numeric's modifier: precision and scale behind a header of four bytes (NUMERIC_TYPMOD in utils/adt/numeric.c).
_TYPMOD_HEADER: Final = 4
_MOST_PRECISION: Final = 1000
_MOST_BITS: Final = 83886080


@dataclass(frozen=True, slots=True)
class Described:
    """What a schema says of a field: its type in Connect's words (`int16`, `string`, `array`, ...), the schema's name,
    its parameters, and the elements of an array."""

    type: str
    name: str = ""
    parameters: Mapping[str, Any] | None = None
    element: Described | None = None


def column(name: str, described: Described, *, nullable: bool) -> Column:
    """Return the column that a field describes, with types in PostgreSQL's words."""
    of, logical = _type(described)
    return Column(name, of, logical, nullable=nullable)


def native(kind: Kind) -> tuple[NativeType, Logical]:
    """Return the type of a kind that needs no parameters; text of one that `TYPES` lacks."""
    text, oid, logical, _ = TYPES.get(kind, TYPES[Kind.TEXT])
    return NativeType(text, oid), logical


def array(element: NativeType) -> tuple[NativeType, Logical]:
    """Return the type of arrays of a type."""
    return NativeType(f"{element.text}[]", _ARRAYS.get(element.oid, 0), element=element), Logical.ARRAY


def bits(length: int) -> tuple[NativeType, Logical]:
    """Return the type of so many bits."""
    return NativeType(f"bit({length})", _BIT, length), Logical.BIT


def _numeric(precision: int, scale: int) -> tuple[NativeType, Logical]:
    text, oid, logical, _ = TYPES[Kind.DECIMAL]
    return NativeType(f"{text}({precision},{scale})", oid, (precision << 16 | scale) + _TYPMOD_HEADER), logical


def _type(described: Described) -> tuple[NativeType, Logical]:
    parameters = described.parameters or {}
    if described.name == DECIMAL:
        precision = _number(parameters.get("connect.decimal.precision"))
        scale = _number(parameters.get("scale"))
        if scale is not None and precision is not None and 0 < precision <= _MOST_PRECISION and 0 <= scale <= precision:
            return _numeric(precision, scale)
        return native(Kind.DECIMAL)
    if described.name == VARIABLE_DECIMAL:
        return native(Kind.DECIMAL)
    if described.name == BITS:
        length = _number(parameters.get("length"))
        return bits(length) if length is not None and 0 < length <= _MOST_BITS else native(Kind.BYTES)
    if described.name in NAMED:
        return native(NAMED[described.name][0])
    element = described.element
    if described.type == "array" and element is not None and (element.type in PLAIN or element.type == UNSIGNED):
        return array(_type(element)[0])
    if described.type == UNSIGNED:
        return _numeric(20, 0)
    return native(PLAIN.get(described.type, Kind.JSON))


def _number(text: object) -> int | None:
    try:
        return int(str(text))
    except ValueError:
        return None
