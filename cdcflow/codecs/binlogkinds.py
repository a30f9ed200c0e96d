"""Which way a column's values are decoded: planned once for a shape, by `binlogrow_cy`."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cdcflow.codecs import mysqlcharsets, mysqlforms, mysqlinet
from cdcflow.codecs.frames_cy import MessageError
from cdcflow.codecs.mysqlforms import ColumnForm, Missing

# Kinds of values; `binlogrow_cy` has the numbers.
SIGNED: Final = 1
UNSIGNED: Final = 2
FLOAT4: Final = 11
FLOAT8: Final = 12
DECIMAL: Final = 13
YEAR: Final = 14
BIT: Final = 15
DATE: Final = 16
TIME: Final = 17
DATETIME: Final = 18
TIMESTAMP: Final = 19
OLD_TIME: Final = 20
OLD_DATETIME: Final = 21
OLD_TIMESTAMP: Final = 22
ENUM: Final = 23
SET: Final = 24
UTF8: Final = 25
MAPPED: Final = 26
CONVERTED: Final = 27
BYTES: Final = 28
JSON: Final = 29
GEOMETRY: Final = 30
VECTOR: Final = 31
COMPRESSED: Final = 64  # added to the kind of what is inside

_POLICIES: Final = {"null": 0, "epoch": 1, "fail": 2}
_EPOCHS: Final = {
    DATE: b"1970-01-01",
    DATETIME: b"1970-01-01 00:00:00",
    OLD_DATETIME: b"1970-01-01 00:00:00",
    TIMESTAMP: b"1970-01-01 00:00:00+00",
    OLD_TIMESTAMP: b"1970-01-01 00:00:00+00",
}
_CELL: Final = struct.Struct("=i")

_INTEGER_BYTES: Final = {
    mysqlforms.TINY: 1,
    mysqlforms.SHORT: 2,
    mysqlforms.INT24: 3,
    mysqlforms.LONG: 4,
    mysqlforms.LONGLONG: 8,
}
_FIXED: Final = {
    mysqlforms.FLOAT: (FLOAT4, 4),
    mysqlforms.DOUBLE: (FLOAT8, 8),
    mysqlforms.YEAR: (YEAR, 1),
    mysqlforms.DATE: (DATE, 3),
    mysqlforms.NEWDATE: (DATE, 3),
    mysqlforms.TIME: (OLD_TIME, 3),
    mysqlforms.DATETIME: (OLD_DATETIME, 8),
    mysqlforms.TIMESTAMP: (OLD_TIMESTAMP, 4),
}
_FRACTIONAL: Final = {
    mysqlforms.TIME2: (TIME, 3),
    mysqlforms.DATETIME2: (DATETIME, 5),
    mysqlforms.TIMESTAMP2: (TIMESTAMP, 4),
}
_BLOBS: Final = frozenset(
    {
        mysqlforms.TINY_BLOB,
        mysqlforms.MEDIUM_BLOB,
        mysqlforms.LONG_BLOB,
        mysqlforms.BLOB,
        mysqlforms.BLOB_COMPRESSED,
    }
)
_STRINGS: Final = frozenset(
    {mysqlforms.STRING, mysqlforms.VAR_STRING, mysqlforms.VARCHAR, mysqlforms.VARCHAR_COMPRESSED}
)
_COMPRESSED: Final = frozenset({mysqlforms.BLOB_COMPRESSED, mysqlforms.VARCHAR_COMPRESSED})

# What zlib can make of a byte at most.
_MOST_GROWTH: Final = 1040


@dataclass(frozen=True, slots=True)
class Plan:
    """`size` as in the image, negative for the size of a length; `object` what the kind needs of Python.

    `default` is the cell of an insert without the column, None where there is none.
    """

    kind: int
    size: int
    detail: int = 0
    object: object = None
    policy: int = 0
    default: bytes | None = None


def plan(form: ColumnForm) -> Plan:
    """Return how values of a form are decoded.

    Raises:
        MessageError: no value can have that form.
    """
    kind, size, detail, thing = _kind(form)
    if form.zero_dates not in _POLICIES:
        raise MessageError(f"zero_dates of column {form.name} is not null, epoch or fail")
    if kind in _EPOCHS:
        thing = _EPOCHS[kind]
    default: bytes | None
    if isinstance(form.default, Missing):
        default = None
    elif form.default is None:
        default = _CELL.pack(-1)
    else:
        default = _CELL.pack(len(form.default)) + form.default
    return Plan(kind, size, detail, thing, _POLICIES[form.zero_dates], default)


def _kind(form: ColumnForm) -> tuple[int, int, int, object]:
    kind, meta = form.type, form.meta
    if kind in _INTEGER_BYTES:
        return UNSIGNED if form.unsigned else SIGNED, _INTEGER_BYTES[kind], 0, None
    if kind in _FIXED:
        return *_FIXED[kind], 0, None
    if kind in _FRACTIONAL:
        if meta > 6:
            raise _unknown(form)
        found, size = _FRACTIONAL[kind]
        return found, size + (meta + 1) // 2, 0, None
    if kind in (mysqlforms.ENUM, mysqlforms.SET):
        if not 1 <= meta <= 8 or len(form.labels) > (64 if kind == mysqlforms.SET else 65535):
            raise _unknown(form)
        return ENUM if kind == mysqlforms.ENUM else SET, meta, 0, [label.encode() for label in form.labels]
    if kind == mysqlforms.NEWDECIMAL:
        precision, scale = meta & 0xFF, meta >> 8
        if not 1 <= precision <= 65 or scale > min(precision, 38):
            raise _unknown(form)
        whole = precision - scale
        size = whole // 9 * 4 + (whole % 9 + 1) // 2 + scale // 9 * 4 + (scale % 9 + 1) // 2
        return DECIMAL, size, meta, None
    if kind == mysqlforms.BIT:
        if not 1 <= meta <= 64:
            raise _unknown(form)
        return BIT, (meta + 7) // 8, meta, None
    if kind == mysqlforms.NULL:
        return BYTES, 0, 0, None
    if kind in _BLOBS or kind in (mysqlforms.JSON, mysqlforms.GEOMETRY, mysqlforms.VECTOR):
        if not 1 <= meta <= 4:
            raise _unknown(form)
        if kind == mysqlforms.JSON:
            return JSON, -meta, 0, None
        if kind == mysqlforms.GEOMETRY:
            return GEOMETRY, -meta, 0, None
        if kind == mysqlforms.VECTOR or form.native == "vector":
            return VECTOR, -meta, 0, None
        return _texts(form, -meta)
    if kind in _STRINGS:
        return _texts(form, -1 if meta < 256 else -2)
    raise _unknown(form)


def _texts(form: ColumnForm, size: int) -> tuple[int, int, int, object]:
    above = COMPRESSED if form.type in _COMPRESSED else 0
    if form.native in mysqlinet.CONVERTERS and form.type == mysqlforms.STRING:
        return CONVERTED, size, 0, mysqlinet.CONVERTERS[form.native]
    if form.native == "vector":
        return VECTOR, size, 0, None
    if form.charset in ("", "binary"):
        return above + BYTES, size, (form.length or form.meta) if form.type == mysqlforms.STRING else 0, None
    if form.charset in mysqlcharsets.UNICODE:
        return above + UTF8, size, 0, None
    table = mysqlcharsets.single(form.charset)
    if table is not None:
        return above + MAPPED, size, 0, table
    converter = mysqlcharsets.converter(form.charset)
    if converter is None:
        raise MessageError(f"column {form.name} has the unknown character set {form.charset}")
    return above + CONVERTED, size, 0, converter


def _unknown(form: ColumnForm) -> MessageError:
    return MessageError(f"column {form.name} has type {form.type} with metadata {form.meta}, which no value can have")


def inflated(value: bytes) -> bytes:
    """Return the value of a COMPRESSED column of MariaDB.

    The first byte says how: 0 raw, else the method (zlib: 8) above a bit that says raw deflate and the size of the
    length that follows, highest byte first.

    Raises:
        MessageError: the value is not what its header says.
    """
    if not value:
        return b""
    how = value[0]
    if how == 0:
        return value[1:]
    size = how & 7
    if how >> 4 != 8 or not size or len(value) < 1 + size:
        raise MessageError("a compressed value of an unknown method")
    length = int.from_bytes(value[1 : 1 + size], "big")
    if length > _MOST_GROWTH * len(value):
        raise MessageError("a compressed value that is longer than it can be")
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS if how & 8 else zlib.MAX_WBITS)
    try:
        found = unpacking.decompress(value[1 + size :], length + 1)
    except zlib.error:
        raise MessageError("a compressed value that cannot be unpacked") from None
    if len(found) != length or not unpacking.eof:
        raise MessageError("a compressed value of another length than it says")
    return found
