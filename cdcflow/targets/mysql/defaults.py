"""Defaults of PostgreSQL's columns, as `pg_get_expr` prints them, in MySQL's words: literals and the present time."""

from __future__ import annotations

import re
from typing import Final

from cdcflow.codecs import mysqlliterals
from cdcflow.model.route import Route
from cdcflow.model.schema import Column, Logical
from cdcflow.targets.mysql import types

_CAST = r"(?:::[\w .\"]+(?:\(\d+(?:,-?\d+)?\))?(?: (?:with|without) time zone)?(?:\[\])?)*"
_STRING = re.compile(rf"^\(*'(?P<text>(?:[^']|'')*)'{_CAST}\)*{_CAST}$", re.DOTALL)
_NUMBER = re.compile(rf"^\(*(?P<text>-?\d+(?:\.\d+)?)\)*{_CAST}\)*$")
_NOW = re.compile(
    r"^(?:now\(\)|transaction_timestamp\(\)|statement_timestamp\(\)|clock_timestamp\(\)"
    r"|CURRENT_TIMESTAMP(?:\(\d\))?|LOCALTIMESTAMP(?:\(\d\))?)$"
)
_DATE = re.compile(r"^\d{4}-\d\d-\d\d$")
_MOMENT = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?:\+00)?$")
_CLOCK = re.compile(r"^\d\d:\d\d:\d\d(?:\.\d{1,6})?$")
_PLAIN_NUMBER = re.compile(r"^-?\d+(?:\.\d+)?$")

_NUMBERS: Final = (Logical.INT2, Logical.INT4, Logical.INT8, Logical.DECIMAL, Logical.FLOAT4, Logical.FLOAT8)


def expression(column: Column, type_text: str) -> str | None:
    """Return a column's default as what follows DEFAULT; None where it has none, or none that means the same here.

    Args:
        type_text: the column's type at the target.
    """
    if column.default is None or column.generated or column.identity:
        return None
    if column.default == "CURRENT_DATE":
        return "(CURRENT_DATE)" if column.logical is Logical.DATE else None
    if _NOW.match(column.default):
        return _now(column, type_text)
    if column.default in ("true", "false") and column.logical is Logical.BOOL:
        return "1" if column.default == "true" else "0"
    found = _STRING.match(column.default) or _NUMBER.match(column.default)
    if found is None:
        return None
    value = found["text"].replace("''", "'") if found.re is _STRING else found["text"]
    return _literal(column, type_text, value)


def _now(column: Column, type_text: str) -> str | None:
    """A timestamptz is kept in UTC, a timestamp in the time of whoever writes it."""
    digits = re.search(r"\((\d)\)", type_text)
    size = digits[1] if digits else "0"
    if column.logical is Logical.TIMESTAMPTZ:
        return f"(UTC_TIMESTAMP({size}))"
    if column.logical is Logical.TIMESTAMP:
        return f"CURRENT_TIMESTAMP({size})"
    return "(CURRENT_DATE)" if column.logical is Logical.DATE else None


def _literal(column: Column, type_text: str, value: str) -> str | None:
    forms = {
        Logical.DATE: _DATE,
        Logical.TIMESTAMP: _MOMENT,
        Logical.TIMESTAMPTZ: _MOMENT,
        Logical.TIME: _CLOCK,
        **dict.fromkeys(_NUMBERS, _PLAIN_NUMBER),
    }
    if column.logical in forms:
        found = forms[column.logical].match(value)
        if found is None:
            return None
        value = found[1] if found.re is _MOMENT else value
    elif column.logical is Logical.BYTES:
        if not re.fullmatch(r"\\x(?:[0-9a-f]{2})*", value):
            return None
        return f"(X'{value[2:]}')"
    elif column.logical not in (Logical.TEXT, Logical.JSON, Logical.ENUM, Logical.UUID) and value != "{}":
        return None
    if column.logical in _NUMBERS and not type_text.startswith("longtext"):
        return value
    quoted = mysqlliterals.quoted(value.encode()).decode()
    # TEXT, BLOB and JSON columns take an expression only.
    return f"({quoted})" if type_text.startswith(("longtext", "longblob", "json")) else quoted


def left_out(route: Route, made: dict[str, str]) -> list[tuple[str, str]]:
    """Return what of a table's columns does not go over, for the log: the column's name at the source and what.

    Args:
        made: each column's type at the target by its name at the source.
    """
    if types.is_family(route.source):
        return []
    found = [(column.name, "a generated column") for column in route.source.columns if column.generated]
    for column, _ in route.columns:
        counts = column.identity or (column.default or "").startswith("nextval(")
        if column.default is not None and not counts and expression(column, made[column.name]) is None:
            found.append((column.name, "a default"))
    return found
