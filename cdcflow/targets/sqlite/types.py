"""What a column is declared as in SQLite, and how its canonical text becomes the value that is stored.

A declared type decides by its letters what SQLite does to a value: https://www.sqlite.org/datatype3.html#affname. Here
they do nothing to any value that cdcflow stores: digits of a DECIMAL stay digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

from cdcflow.codecs.sqliterows_cy import value_of
from cdcflow.codecs.values_scalar import encode_float8
from cdcflow.model.schema import Column, Logical

# Declared type and kind (see `codecs.sqliterows_cy`); everything else is TEXT.
_TYPES: Final[dict[Logical, tuple[str, str]]] = {
    Logical.BOOL: ("BOOLEAN", "b"),
    Logical.INT2: ("INTEGER", "i"),
    Logical.INT4: ("INTEGER", "i"),
    Logical.INT8: ("INTEGER", "i"),
    # Without a type nothing is done to a value: integers up to 2**63-1, the rest as their digits.
    Logical.UINT8: ("", "i"),
    Logical.DECIMAL: ("DECIMAL_TEXT", "t"),
    Logical.FLOAT4: ("REAL", "f"),
    Logical.FLOAT8: ("REAL", "f"),
    Logical.BYTES: ("BLOB", "x"),
}

_SCALE: Final = re.compile(r"\(\d+(?:,\s*(-?\d+))?\)")
# PostgreSQL's numeric has up to 131,072 digits before the point and 16,383 behind it.
_EXACT: Final = Context(prec=147_456, rounding=ROUND_HALF_UP)


def type_of(column: Column) -> str:
    """Return the declared type of a column."""
    return _TYPES.get(column.logical, ("TEXT", "t"))[0]


def kind_of(column: Column) -> str:
    """Return the kind of a column's values."""
    return _TYPES.get(column.logical, ("TEXT", "t"))[1]


def kinds(columns: list[Column]) -> bytes:
    """Return the kinds of several columns, for `copy_rows` and `image_rows`."""
    return "".join(map(kind_of, columns)).encode()


def converter(old: Column, new: Column) -> Callable[[object], object]:
    """Return what turns a stored value of `old` into one of `new`, NULL where that cannot be."""
    was, kind = kind_of(old), kind_of(new)
    integer = new.logical in (Logical.INT2, Logical.INT4, Logical.INT8, Logical.UINT8)

    def convert(value: object) -> object:
        if value is None:
            return None
        text = _text(value, was, truth=not integer and kind != "b")
        if integer and kind == "i":
            return _integer(text)
        found = value_of(text.encode(), ord(kind))
        wrong = (kind == "f" and isinstance(found, str) and found != "NaN") or (kind == "b" and isinstance(found, str))
        return None if wrong else found

    return convert


def scale_of(column: Column) -> int | None:
    """Return how many digits a DECIMAL has behind the point, None where each value has its own number of them."""
    type_ = column.type
    while type_.base is not None:
        type_ = type_.base
    found = _SCALE.search(type_.text) if column.logical is Logical.DECIMAL else None
    return int(found[1] or 0) if found else None


def rescaled(old: Column, new: Column) -> Callable[[object], object] | None:
    """Return what writes a DECIMAL as its column has it from now on, rounded as servers do; None where that is as
    before."""
    scale = scale_of(new)
    if old.logical is not Logical.DECIMAL or scale is None or scale == scale_of(old):
        return None
    unit = Decimal((0, (1,), -scale))

    def convert(value: object) -> object:
        if not isinstance(value, str):  # a column of a person's own may hold numbers
            return value
        try:
            number = Decimal(value)
            if not number.is_finite():
                return value
            number = number.quantize(unit, context=_EXACT)
        except ArithmeticError:
            return value
        return format(number if number else abs(number), "f")  # no server has a zero below zero

    return convert


def _text(value: object, kind: str, *, truth: bool) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, float):
        return encode_float8(value).decode()
    if kind == "b" and value in (0, 1):
        if truth:
            return "true" if value else "false"
        return str(value)
    return str(value)


def _integer(text: str) -> object:
    try:
        number = Decimal(text)
        whole = number.to_integral_value()
    except ArithmeticError:
        return None
    if not number.is_finite():
        return None
    return value_of(str(int(whole)).encode(), ord("i"))
