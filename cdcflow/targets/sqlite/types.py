"""What a column is declared as in SQLite, and how its canonical text becomes the value that is stored.

A declared type decides by its letters what SQLite does to a value: https://www.sqlite.org/datatype3.html#affname. Here
they do nothing to any value that cdcflow stores: digits of a DECIMAL stay digits.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
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
