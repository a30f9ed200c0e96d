"""Canonical cell text <-> Python value, one codec for each type: `decoder`, `encoder` and the map behind them.

Canonical text is what PostgreSQL prints under `TimeZone=UTC, DateStyle=ISO, IntervalStyle=postgres,
extra_float_digits=1, bytea_output=hex`, in UTF-8. NULL never comes here. For every text that a server
prints, `encode(decode(text)) == text`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Final
from uuid import UUID

from cdcflow.codecs import values_nested as nested
from cdcflow.codecs import values_scalar as scalar
from cdcflow.codecs import values_time as temporal
from cdcflow.codecs.values_kinds import Array, BadValue, Beyond, Interval, Json, Range
from cdcflow.model.schema import Column, Logical, NativeType

__all__ = [
    "BUILT_IN",
    "EXTENSIONS",
    "Array",
    "BadValue",
    "Beyond",
    "Codec",
    "Interval",
    "Json",
    "Range",
    "codec",
    "decoder",
    "encoder",
    "plain",
]

# Arrays of domains of arrays of ... a type may name itself only through a table, but a hostile catalog may lie.
_DEEPEST_TYPE: Final = 16


@dataclass(frozen=True, slots=True)
class Codec:
    """How one type's canonical text becomes a Python value and back.

    decode: raises BadValue for text that the type does not print.
    encode: raises BadValue for a value that the type cannot hold. Never called with None for NULL.
    python: what `decode` returns, in words for the types page.
    """

    decode: Callable[[bytes], object]
    encode: Callable[[object], bytes]
    python: str


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One type of the server's own: its number in pg_type, names, meaning and codec."""

    oid: int
    name: str
    logical: Logical
    codec: Codec
    delimiter: bytes = b","


TEXT: Final = Codec(scalar.decode_text, scalar.encode_text, "str")
_BOOL: Final = Codec(scalar.decode_bool, scalar.encode_bool, "bool")
_INT: Final = Codec(scalar.decode_int, scalar.encode_int, "int")
_DECIMAL: Final = Codec(scalar.decode_decimal, scalar.encode_decimal, "Decimal")
_FLOAT4: Final = Codec(scalar.decode_float, scalar.encode_float4, "float")
_FLOAT8: Final = Codec(scalar.decode_float, scalar.encode_float8, "float")
_BYTES: Final = Codec(scalar.decode_bytes, scalar.encode_bytes, "bytes")
_UUID: Final = Codec(scalar.decode_uuid, scalar.encode_uuid, "UUID")
_JSON: Final = Codec(scalar.decode_json, scalar.encode_json, "Json (`.text` as printed, `.value` parsed)")
_DATE: Final = Codec(temporal.decode_date, temporal.encode_date, "date, or Beyond")
_TIME: Final = Codec(temporal.decode_time, temporal.encode_time, "time, or Beyond for 24:00:00")
_TIMETZ: Final = Codec(temporal.decode_timetz, temporal.encode_timetz, "time with offset, or Beyond")
_TIMESTAMP: Final = Codec(temporal.decode_timestamp, temporal.encode_timestamp, "datetime, or Beyond")
_TIMESTAMPTZ: Final = Codec(temporal.decode_timestamptz, temporal.encode_timestamptz, "datetime in UTC, or Beyond")
_INTERVAL: Final = Codec(temporal.decode_interval, temporal.encode_interval, "Interval, or Beyond for infinity")
# What only other engines have.
_DURATION: Final = Codec(temporal.decode_duration, temporal.encode_duration, "timedelta")
_SET: Final = Codec(scalar.decode_set, scalar.encode_set, "tuple of str, the labels")
_HSTORE: Final = Codec(nested.decode_hstore, nested.encode_hstore, "dict of str to str or None")


def _range_of(element: Codec) -> Codec:
    return Codec(
        partial(nested.decode_range, element=element.decode),
        partial(nested.encode_range, element=element.encode),
        f"Range of {element.python.partition(',')[0]}",
    )


def _multirange_of(element: Codec) -> Codec:
    return Codec(
        partial(nested.decode_multirange, element=element.decode),
        partial(nested.encode_multirange, element=element.encode),
        f"tuple of Range of {element.python.partition(',')[0]}",
    )


def _array_of(element: Codec, delimiter: bytes = b",") -> Codec:
    return Codec(
        partial(nested.decode_array, element=element.decode, delimiter=delimiter),
        partial(nested.encode_array, element=element.encode, delimiter=delimiter),
        "list (nested for more dimensions), or Array where a lower bound is not 1",
    )


def _record_of(fields: tuple[Codec, ...]) -> Codec:
    return Codec(
        partial(nested.decode_record, fields=tuple(field.decode for field in fields)),
        partial(nested.encode_record, fields=tuple(field.encode for field in fields)),
        "tuple",
    )


# Numbers from pg_type.dat; they never change between versions.
BUILT_IN: Final = (
    BuiltIn(16, "boolean", Logical.BOOL, _BOOL),
    BuiltIn(21, "smallint", Logical.INT2, _INT),
    BuiltIn(23, "integer", Logical.INT4, _INT),
    BuiltIn(20, "bigint", Logical.INT8, _INT),
    BuiltIn(26, "oid", Logical.INT8, _INT),
    BuiltIn(28, "xid", Logical.INT8, _INT),
    BuiltIn(29, "cid", Logical.INT8, _INT),
    BuiltIn(5069, "xid8", Logical.UINT8, _INT),
    BuiltIn(1700, "numeric", Logical.DECIMAL, _DECIMAL),
    BuiltIn(700, "real", Logical.FLOAT4, _FLOAT4),
    BuiltIn(701, "double precision", Logical.FLOAT8, _FLOAT8),
    BuiltIn(790, "money", Logical.OTHER, TEXT),
    BuiltIn(25, "text", Logical.TEXT, TEXT),
    BuiltIn(1043, "character varying", Logical.TEXT, TEXT),
    BuiltIn(1042, "character", Logical.TEXT, TEXT),
    BuiltIn(18, '"char"', Logical.TEXT, TEXT),
    BuiltIn(19, "name", Logical.TEXT, TEXT),
    BuiltIn(17, "bytea", Logical.BYTES, _BYTES),
    BuiltIn(1082, "date", Logical.DATE, _DATE),
    BuiltIn(1083, "time without time zone", Logical.TIME, _TIME),
    BuiltIn(1266, "time with time zone", Logical.TIMETZ, _TIMETZ),
    BuiltIn(1114, "timestamp without time zone", Logical.TIMESTAMP, _TIMESTAMP),
    BuiltIn(1184, "timestamp with time zone", Logical.TIMESTAMPTZ, _TIMESTAMPTZ),
    BuiltIn(1186, "interval", Logical.INTERVAL, _INTERVAL),
    BuiltIn(2950, "uuid", Logical.UUID, _UUID),
    BuiltIn(114, "json", Logical.JSON, _JSON),
    BuiltIn(3802, "jsonb", Logical.JSON, _JSON),
    BuiltIn(1560, "bit", Logical.BIT, TEXT),
    BuiltIn(1562, "bit varying", Logical.BIT, TEXT),
    BuiltIn(869, "inet", Logical.OTHER, TEXT),
    BuiltIn(650, "cidr", Logical.OTHER, TEXT),
    BuiltIn(829, "macaddr", Logical.OTHER, TEXT),
    BuiltIn(774, "macaddr8", Logical.OTHER, TEXT),
    BuiltIn(142, "xml", Logical.OTHER, TEXT),
    BuiltIn(3614, "tsvector", Logical.OTHER, TEXT),
    BuiltIn(3615, "tsquery", Logical.OTHER, TEXT),
    BuiltIn(4072, "jsonpath", Logical.OTHER, TEXT),
    BuiltIn(3220, "pg_lsn", Logical.OTHER, TEXT),
    # Logical.GEOMETRY is EWKB, which these are not.
    BuiltIn(600, "point", Logical.OTHER, TEXT),
    BuiltIn(601, "lseg", Logical.OTHER, TEXT),
    BuiltIn(602, "path", Logical.OTHER, TEXT),
    BuiltIn(603, "box", Logical.OTHER, TEXT, b";"),
    BuiltIn(604, "polygon", Logical.OTHER, TEXT),
    BuiltIn(628, "line", Logical.OTHER, TEXT),
    BuiltIn(718, "circle", Logical.OTHER, TEXT),
    BuiltIn(3904, "int4range", Logical.OTHER, _range_of(_INT)),
    BuiltIn(3926, "int8range", Logical.OTHER, _range_of(_INT)),
    BuiltIn(3906, "numrange", Logical.OTHER, _range_of(_DECIMAL)),
    BuiltIn(3908, "tsrange", Logical.OTHER, _range_of(_TIMESTAMP)),
    BuiltIn(3910, "tstzrange", Logical.OTHER, _range_of(_TIMESTAMPTZ)),
    BuiltIn(3912, "daterange", Logical.OTHER, _range_of(_DATE)),
    BuiltIn(4451, "int4multirange", Logical.OTHER, _multirange_of(_INT)),
    BuiltIn(4536, "int8multirange", Logical.OTHER, _multirange_of(_INT)),
    BuiltIn(4532, "nummultirange", Logical.OTHER, _multirange_of(_DECIMAL)),
    BuiltIn(4533, "tsmultirange", Logical.OTHER, _multirange_of(_TIMESTAMP)),
    BuiltIn(4534, "tstzmultirange", Logical.OTHER, _multirange_of(_TIMESTAMPTZ)),
    BuiltIn(4535, "datemultirange", Logical.OTHER, _multirange_of(_DATE)),
)

# Types that come with an extension have no fixed number: found by the last part of their name.
EXTENSIONS: Final = {
    "citext": (Logical.TEXT, TEXT),
    "hstore": (Logical.OTHER, _HSTORE),
}

_BY_OID: Final = {entry.oid: entry for entry in BUILT_IN}

_BY_LOGICAL: Final = {
    Logical.BOOL: _BOOL,
    Logical.INT2: _INT,
    Logical.INT4: _INT,
    Logical.INT8: _INT,
    Logical.UINT8: _INT,
    Logical.DECIMAL: _DECIMAL,
    Logical.FLOAT4: _FLOAT4,
    Logical.FLOAT8: _FLOAT8,
    Logical.BYTES: _BYTES,
    Logical.DATE: _DATE,
    Logical.TIME: _TIME,
    Logical.TIMETZ: _TIMETZ,
    Logical.TIMESTAMP: _TIMESTAMP,
    Logical.TIMESTAMPTZ: _TIMESTAMPTZ,
    Logical.INTERVAL: _DURATION,  # PostgreSQL's is known by its number
    Logical.UUID: _UUID,
    Logical.JSON: _JSON,
    Logical.SET: _SET,
    Logical.ARRAY: _array_of(_FLOAT4),
}


def decoder(column: Column) -> Callable[[bytes], object]:
    """Return the function from a cell of `column` to its Python value. Make it once per schema, not per value."""
    return codec(column.type, column.logical).decode


def encoder(column: Column) -> Callable[[object], bytes]:
    """Return the function from a Python value to a cell of `column`: the inverse of `decoder`."""
    return codec(column.type, column.logical).encode


@lru_cache(maxsize=4096)
def codec(native: NativeType, logical: Logical = Logical.OTHER) -> Codec:
    """Return the codec of a type: by its number, what it is made of, its name, its meaning; else text.

    Types of MySQL and MariaDB have no number and are known by their meaning.
    """
    return _codec(native, logical, 0)


def _codec(native: NativeType, logical: Logical, depth: int) -> Codec:
    if depth > _DEEPEST_TYPE:
        return TEXT
    if native.base is not None:
        return _codec(native.base, logical, depth + 1)
    if native.element is not None:
        inner = native.element
        if not inner.oid and logical is Logical.ARRAY:
            return _BY_LOGICAL[logical]  # a vector's elements are all of one kind
        known = _BY_OID.get(inner.oid)
        return _array_of(_codec(inner, Logical.OTHER, depth + 1), known.delimiter if known else b",")
    if native.oid in _BY_OID:
        return _BY_OID[native.oid].codec
    if native.fields:
        return _record_of(tuple(_codec(field, Logical.OTHER, depth + 1) for _, field in native.fields))
    if native.labels and logical is not Logical.SET:
        return TEXT
    extension = EXTENSIONS.get(native.text.rpartition(".")[2].strip('"'))
    if extension is not None and native.oid >= 16384:  # FirstNormalObjectId: no type of the server's own
        return extension[1]
    return _BY_LOGICAL.get(logical, TEXT)


def plain(value: object) -> object:
    """Return `value` as something JSON can hold without loss: str, int, bool, None, list, dict, finite float.

    Decimal, temporal values, bytes and the like become their canonical text.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else scalar.encode_float8(value).decode("ascii")
    if isinstance(value, Json):
        return _plain_json(value.value)
    if isinstance(value, Array):
        return {"lower": list(value.lower), "items": plain(value.items)}
    if isinstance(value, list | tuple):
        return [plain(member) for member in value]
    if isinstance(value, dict):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, Range):
        if value.empty:
            return {"empty": True}
        return {
            "lower": plain(value.lower),
            "upper": plain(value.upper),
            "bounds": ("[" if value.lower_inclusive else "(") + ("]" if value.upper_inclusive else ")"),
        }
    if isinstance(value, bytes):
        return scalar.encode_bytes(value).decode("ascii")
    for kind, encode in _PLAIN:
        if isinstance(value, kind):
            return encode(value).decode("ascii")
    return str(value)


def _plain_json(value: object) -> object:
    """Numbers inside a document that neither 64 bits nor a float hold exactly become text, and half of a surrogate
    pair, which no encoding knows, its escape."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Decimal):
        near = float(value)
        return near if near - near == 0 and Decimal(repr(near)) == value else str(value)
    if isinstance(value, list):
        return [_plain_json(member) for member in value]
    if isinstance(value, dict):
        return {_plain_json(name): _plain_json(member) for name, member in value.items()}
    return value


def _plain_datetime(value: object) -> bytes:
    assert isinstance(value, datetime)
    return temporal.encode_timestamp(value) if value.tzinfo is None else temporal.encode_timestamptz(value)


def _plain_time(value: object) -> bytes:
    assert isinstance(value, time)
    return temporal.encode_time(value) if value.tzinfo is None else temporal.encode_timetz(value)


_PLAIN: Final[tuple[tuple[type, Callable[..., bytes]], ...]] = (
    (Decimal, scalar.encode_decimal),
    (datetime, _plain_datetime),
    (date, temporal.encode_date),
    (time, _plain_time),
    (timedelta, temporal.encode_duration),
    (Interval, temporal.encode_interval),
    (UUID, scalar.encode_uuid),
)
