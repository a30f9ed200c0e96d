"""What a column is on a bus: the wire kind of each type, and the name under which Connect and Debezium know it.

The table of docs/adr/0009 as code. Names: https://debezium.io/documentation/reference/stable/connectors/postgresql.html
under "Data type mappings".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final

from cdcflow.codecs.values import BUILT_IN
from cdcflow.model.schema import Column, Logical, NativeType


@unique
class Kind(IntEnum):
    """What the values of a column are on the wire. The numbers are for the compiled codecs only."""

    BOOL = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT64 = 5
    FLOAT32 = 6
    FLOAT64 = 7
    DECIMAL = 8
    TEXT = 9
    BYTES = 10
    DATE = 11
    TIME = 12
    TIMETZ = 13
    TIMESTAMP = 14
    TIMESTAMPTZ = 15
    INTERVAL = 16
    UUID = 17
    JSON = 18
    ENUM = 19
    SET = 20
    BIT1 = 21
    BITS = 22
    VARBIT = 23
    ARRAY = 24
    GEOMETRY = 25


@dataclass(frozen=True, slots=True)
class WireKind:
    """The wire kind of one column or array element.

    precision, scale: of a DECIMAL that declares them, else -1. length: bits of BITS, else -1. labels: of ENUM and SET.
    element, delimiter: of an ARRAY; the delimiter stands between elements in the canonical text.
    """

    kind: Kind
    precision: int = -1
    scale: int = -1
    length: int = -1
    labels: tuple[str, ...] = ()
    element: WireKind | None = None
    delimiter: bytes = b","

    @property
    def connect_name(self) -> str:
        """The schema's name in Connect, '' where it has none (a plain type, or a decimal that travels as text)."""
        return _NAMES.get(self.kind, "")

    @property
    def connect_parameters(self) -> dict[str, str]:
        """The schema's parameters in Connect."""
        if self.kind in (Kind.ENUM, Kind.SET):
            return {"allowed": ",".join(self.labels)} if self.labels else {}
        if self.kind is Kind.BITS:
            return {"length": str(self.length)}
        return {}


# The name of Connect's own decimal, for those formats that write one; its parameters are `scale` and, as the Avro
# converter adds it, `connect.decimal.precision`.
CONNECT_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"

_NAMES: Final = {
    Kind.DATE: "io.debezium.time.Date",
    Kind.TIME: "io.debezium.time.MicroTime",
    Kind.TIMETZ: "io.debezium.time.ZonedTime",
    Kind.TIMESTAMP: "io.debezium.time.MicroTimestamp",
    Kind.TIMESTAMPTZ: "io.debezium.time.ZonedTimestamp",
    Kind.INTERVAL: "io.debezium.time.Interval",
    Kind.UUID: "io.debezium.data.Uuid",
    Kind.JSON: "io.debezium.data.Json",
    Kind.ENUM: "io.debezium.data.Enum",
    Kind.SET: "io.debezium.data.EnumSet",
    Kind.BITS: "io.debezium.data.Bits",
    Kind.GEOMETRY: "io.debezium.data.geometry.Geometry",
}

_KINDS: Final = {
    Logical.BOOL: Kind.BOOL,
    Logical.INT2: Kind.INT16,
    Logical.INT4: Kind.INT32,
    Logical.INT8: Kind.INT64,
    Logical.UINT8: Kind.UINT64,
    Logical.DECIMAL: Kind.DECIMAL,
    Logical.FLOAT4: Kind.FLOAT32,
    Logical.FLOAT8: Kind.FLOAT64,
    Logical.TEXT: Kind.TEXT,
    Logical.BYTES: Kind.BYTES,
    Logical.DATE: Kind.DATE,
    Logical.TIME: Kind.TIME,
    Logical.TIMETZ: Kind.TIMETZ,
    Logical.TIMESTAMP: Kind.TIMESTAMP,
    Logical.TIMESTAMPTZ: Kind.TIMESTAMPTZ,
    Logical.INTERVAL: Kind.INTERVAL,
    Logical.UUID: Kind.UUID,
    Logical.JSON: Kind.JSON,
    Logical.ENUM: Kind.ENUM,
    Logical.SET: Kind.SET,
    Logical.GEOMETRY: Kind.GEOMETRY,
    Logical.OTHER: Kind.TEXT,
}

_BUILT_IN: Final = {entry.oid: entry for entry in BUILT_IN}
_NUMERIC_OID: Final = 1700
_BIT_OID: Final = 1560
_VARBIT_OID: Final = 1562
# numeric's type modifier: precision in the upper half, the scale in the lower 11 bits with a sign, behind a header of
# four bytes (NUMERIC_TYPMOD in utils/adt/numeric.c).
_TYPMOD_HEADER: Final = 4
# A domain over a domain over ...: a hostile shape may name more than any server would.
_DEEPEST_DOMAIN: Final = 64
_SIZES: Final = re.compile(r"[a-z]+\((\d+)(?:,(\d+))?\)")


def wire_kind(column: Column) -> WireKind:
    """Return what a column's values are on the wire."""
    return _kind(_undressed(column.type), column.logical)


def _kind(native: NativeType, logical: Logical) -> WireKind:
    if logical is Logical.ARRAY:
        return _array(native)
    if logical is Logical.BIT:
        return _bits(native)
    if logical is Logical.DECIMAL:
        return _decimal(native)
    if logical in (Logical.ENUM, Logical.SET):
        return WireKind(_KINDS[logical], labels=native.labels)
    return WireKind(_KINDS.get(logical, Kind.TEXT))


def _undressed(native: NativeType) -> NativeType:
    """Return what a domain is over, with its modifier."""
    for _ in range(_DEEPEST_DOMAIN):
        if native.base is None:
            break
        native = native.base
    return native


def _array(native: NativeType) -> WireKind:
    if native.element is None:
        return WireKind(Kind.TEXT)
    if not native.element.oid:
        return WireKind(Kind.ARRAY, element=WireKind(Kind.FLOAT32))  # MySQL's and MariaDB's vector
    inner = _undressed(native.element)
    entry = _BUILT_IN.get(inner.oid)
    if inner.element is not None:
        element = WireKind(Kind.TEXT)  # a domain over an array
    elif entry is not None:
        element = _kind(inner, entry.logical)
    elif inner.labels:
        element = WireKind(Kind.ENUM, labels=inner.labels)
    else:
        element = WireKind(Kind.TEXT)
    outer = _BUILT_IN.get(native.element.oid)
    return WireKind(Kind.ARRAY, element=element, delimiter=outer.delimiter if outer is not None else b",")


def _bits(native: NativeType) -> WireKind:
    if native.oid == _VARBIT_OID:
        return WireKind(Kind.VARBIT)
    length = native.modifier if native.oid == _BIT_OID else _sizes(native.text)[0]
    if length < 1:
        return WireKind(Kind.VARBIT)  # an array's element does not say how long it is
    return WireKind(Kind.BIT1) if length == 1 else WireKind(Kind.BITS, length=length)


def _decimal(native: NativeType) -> WireKind:
    if native.oid == _NUMERIC_OID:
        modifier = native.modifier - _TYPMOD_HEADER
        if modifier < 0:
            return WireKind(Kind.DECIMAL)
        scale = ((modifier & 0x7FF) ^ 1024) - 1024
        return WireKind(Kind.DECIMAL, precision=modifier >> 16 & 0xFFFF, scale=scale)
    precision, scale = _sizes(native.text)
    return WireKind(Kind.DECIMAL, precision=precision, scale=max(scale, 0) if precision > 0 else -1)


def _sizes(text: str) -> tuple[int, int]:
    """Return the numbers in a type's parentheses, -1 for each that is not there: (10, 2) of `decimal(10,2)`."""
    found = _SIZES.match(text)
    if found is None:
        return -1, -1
    return int(found[1]), int(found[2] or -1)
