"""What holds the rows of two shapes of a table where nothing tells which of them is the newer one.

The result is the same in whatever order shapes are met, so that every reader of a topic arrives at the same table.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from cdcflow.model.schema import Column, Logical, NativeType, Table

# Types that take all that is called so, in PostgreSQL's words, which messages of others are told in.
_PLAIN: Final = {
    Logical.BOOL: "boolean",
    Logical.INT2: "smallint",
    Logical.INT4: "integer",
    Logical.INT8: "bigint",
    Logical.FLOAT4: "real",
    Logical.FLOAT8: "double precision",
    Logical.DECIMAL: "numeric",
    Logical.TEXT: "text",
    Logical.BYTES: "bytea",
    Logical.DATE: "date",
    Logical.TIME: "time without time zone",
    Logical.TIMETZ: "time with time zone",
    Logical.TIMESTAMP: "timestamp without time zone",
    Logical.TIMESTAMPTZ: "timestamp with time zone",
    Logical.INTERVAL: "interval",
    Logical.UUID: "uuid",
    Logical.JSON: "json",
}
_LOGICAL: Final = {text: logical for logical, text in _PLAIN.items()}
# What holds every value of another type: a float of 4 bytes has 24 binary digits, one of 8 has 53.
_WIDER: Final = {
    Logical.INT2: {Logical.INT4, Logical.INT8, Logical.FLOAT4, Logical.FLOAT8},
    Logical.INT4: {Logical.INT8, Logical.FLOAT8},
    Logical.FLOAT4: {Logical.FLOAT8},
    Logical.DATE: {Logical.TIMESTAMP},
}
# The most digits of each, all before the point.
_INTEGERS: Final = {Logical.INT2: 5, Logical.INT4: 10, Logical.INT8: 19, Logical.UINT8: 20}
_TEXT: Final = NativeType("text", 25)
_NUMERIC: Final = NativeType("numeric", 1700)
# How PostgreSQL keeps precision and scale: NUMERIC_TYPMOD in utils/adt/numeric.c.
_TYPMOD_HEADER: Final = 4
_MOST_PRECISION: Final = 1000
_NUMBERS: Final = re.compile(r"\((\d+)(?:,\s*(-?\d+))?\)")


def joined(known: Table, met: Table) -> tuple[Column, ...]:
    """Return the columns of a table that holds the rows of both: those of `met` first, each as wide as in either."""
    there = {column.name: column for column in known.columns}
    names = met.column_names
    both = [_joined(there[one.name], one, met) if one.name in there else one for one in met.columns]
    return (*both, *(column for column in known.columns if column.name not in names))


def _joined(known: Column, met: Column, table: Table) -> Column:
    if holds(known, met):
        wide = known
    elif holds(met, known):
        wide = met
    else:
        type_, logical = _above(known, met)
        wide = Column(met.name, type_, logical)
    nullable = met.nullable or (known.nullable and met.name not in table.primary_key)
    return wide if wide.nullable is nullable else replace(wide, nullable=nullable)


def holds(wide: Column, narrow: Column) -> bool:
    """Return whether one column's type has every value of another's."""
    if wide.type.text == narrow.type.text:
        return True
    plain = wide.type.text == _PLAIN.get(wide.logical)
    if plain and (wide.logical is Logical.TEXT or wide.logical is narrow.logical):
        return True
    if wide.logical is Logical.ARRAY and narrow.logical is Logical.ARRAY:
        return holds(_element(wide), _element(narrow))
    if wide.logical is Logical.DECIMAL:
        room, needed = _digits(wide), _digits(narrow)
        if needed is None:
            return False
        return plain or (room is not None and room[0] >= needed[0] and room[1] >= needed[1])
    return plain and wide.logical in _WIDER.get(narrow.logical, ())


def _element(column: Column) -> Column:
    element = column.type.element or column.type
    logical = Logical.DECIMAL if element.text.startswith(_NUMERIC.text) else _LOGICAL.get(element.text, Logical.OTHER)
    return Column(column.name, element, logical)


def _above(one: Column, other: Column) -> tuple[NativeType, Logical]:
    """Return the narrowest type that holds what two have of which neither holds the other."""
    if one.logical is other.logical is Logical.ARRAY:
        if _element(one).logical is _element(other).logical is Logical.DECIMAL:
            return replace(one.type, text=f"{_NUMERIC.text}[]", modifier=-1, element=_NUMERIC), Logical.ARRAY
        return _TEXT, Logical.TEXT
    first, second = _digits(one), _digits(other)
    if first is None or second is None:
        return _TEXT, Logical.TEXT
    before, behind = max(first[0], second[0]), max(first[1], second[1])
    if before + behind > _MOST_PRECISION:
        return _NUMERIC, Logical.DECIMAL
    modifier = ((before + behind) << 16 | behind) + _TYPMOD_HEADER
    return replace(_NUMERIC, text=f"numeric({before + behind},{behind})", modifier=modifier), Logical.DECIMAL


def _digits(column: Column) -> tuple[int, int] | None:
    """Return how many digits a column has before and behind the point; None where it has any number of them, or is no
    such number."""
    if column.logical in _INTEGERS:
        return _INTEGERS[column.logical], 0
    found = _NUMBERS.search(column.type.text) if column.logical is Logical.DECIMAL else None
    if found is None:
        return None
    precision, scale = int(found[1]), int(found[2] or 0)
    return precision - scale, max(scale, 0)
