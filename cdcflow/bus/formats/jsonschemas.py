"""What JSON messages of others say of their tables: Connect's schemas in them, or the look of their values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Final

from cdcflow.bus.formats import connect_types
from cdcflow.bus.formats.wire import wire_kinds
from cdcflow.codecs.buskinds import Kind, WireKind
from cdcflow.codecs.jsoncell_cy import ColumnForm
from cdcflow.codecs.jsonforeign import CONNECT_DECIMAL, VARIABLE_DECIMAL
from cdcflow.codecs.jsonscan_cy import ChangeReader
from cdcflow.codecs.jsontext_cy import ScanError, schema_part
from cdcflow.errors import DecodeError
from cdcflow.model.frame import cells
from cdcflow.model.schema import Column, Logical, NativeType, Table, TableName

# What only JSON says in this way.
_NAMED: Final = connect_types.NAMED | {
    "io.debezium.time.IsoDate": (Kind.DATE, 1),
    "io.debezium.time.IsoTime": (Kind.TIME, 1),
    "io.debezium.time.IsoTimestamp": (Kind.TIMESTAMP, 1),
    "io.debezium.time.NanoDuration": (Kind.INTERVAL, -1000),
}
_PLAIN: Final = connect_types.PLAIN | {"struct": Kind.JSON, "map": Kind.JSON}
_LARGEST_INT8: Final = 2**63


@dataclass(frozen=True, slots=True)
class Seen:
    """What a schema or a value tells of a column: how it is read, and what it means."""

    kind: WireKind
    form_kind: int
    unit: int = 1
    scale: int = 0
    length: int = -1
    element: Seen | None = None

    def form(self, name: str) -> ColumnForm:
        """Return how the column's values are read."""
        element = self.element.form("") if self.element is not None else None
        return ColumnForm(name.encode(), self.form_kind, self.unit, self.scale, self.length, element)


def of_kind(kind: WireKind) -> Seen:
    """Return how values of a kind are read that were written by the table of docs/adr/0009."""
    return Seen(kind, kind.kind, length=kind.length, element=None if kind.element is None else of_kind(kind.element))


def form_of_kind(kind: WireKind, name: str) -> ColumnForm:
    """Return how a column of a known table is read."""
    element = form_of_kind(kind.element, "") if kind.element is not None else None
    return ColumnForm(name.encode(), kind.kind, 1, 0, kind.length, element, kind.delimiter)


def parse_schema(text: bytes) -> dict[str, Any]:
    """Return the schema of a row from a message's schema part, as `of_row`.

    Raises:
        DecodeError: it is none.
    """
    try:
        return of_row(json.loads(text))
    except (ValueError, RecursionError):
        raise DecodeError("the message's schema is none of Connect's") from None


def of_row(schema: Any) -> dict[str, Any]:
    """Return the schema of a row from that of a message: that of `after`, also inside of an event, or the whole one.

    Raises:
        DecodeError: it is none.
    """
    try:
        fields = {field.get("field"): field for field in schema["fields"]}
        if "data" in fields and "specversion" in fields:
            schema = fields["data"]
            fields = {field.get("field"): field for field in schema["fields"]}
        row: dict[str, Any] = fields["after"] if "after" in fields and "op" in fields else schema
        if not all(isinstance(field["field"], str) and isinstance(field, dict) for field in row["fields"]):
            raise DecodeError("the message's schema has a field without a name")
    except (KeyError, TypeError, AttributeError):
        raise DecodeError("the message's schema is none of Connect's") from None
    return row


def seen_in_schema(row: dict[str, Any]) -> dict[str, tuple[Seen, bool]]:
    """Return what a row's schema tells of each column, and whether it may be NULL."""
    return {field["field"]: (_seen(field, 0), bool(field.get("optional", False))) for field in row["fields"]}


def defaults_in_schema(row: dict[str, Any], seen: dict[str, tuple[Seen, bool]]) -> dict[str, str]:
    """Return, as canonical text, the default of each column that has one, read as its values are.

    It is all that a message tells of the rows that were there before the column; one that cannot be read tells nothing.
    """
    found = {}
    for field in row["fields"]:
        name = field["field"]
        if field.get("default") is not None and seen[name][0].kind.kind is not Kind.ARRAY:
            try:
                image = ChangeReader([seen[name][0].form(name)]).row(
                    json.dumps({name: field["default"]}).encode(), True
                )
            except ScanError:
                continue
            cell = cells(image, 0, 1)[0] if image is not None else None
            if isinstance(cell, bytes):
                found[name] = cell.decode()
    return found


def seen_in_values(row: dict[str, Any]) -> dict[str, tuple[Seen, bool]]:
    """Return what a row's values look like. `row`: numbers with a point as `str` in a `Digits`."""
    return {name: (of_kind(WireKind(_look(value))), True) for name, value in row.items()}


def seen_in_table(table: Table) -> dict[str, Seen]:
    """Return what is known of a table's columns, in the words of what its rows will look like."""
    return {name: of_kind(kind) for name, kind in zip(table.column_names, wire_kinds(table), strict=True)}


def wider(before: Kind, now: Kind) -> Kind:
    """Return the kind that holds what both hold."""
    if before == now:
        return before
    numbers = (Kind.INT16, Kind.INT32, Kind.INT64, Kind.DECIMAL)
    return max(before, now, key=numbers.index) if before in numbers and now in numbers else Kind.TEXT


class Digits(str):
    """A number with a point or exponent, as it stands in the text."""

    __slots__ = ()


def parsed(text: bytes) -> Any:
    """Return a message as Python values; for the first message of a shape only.

    Raises:
        DecodeError: it is not JSON.
    """
    try:
        return json.loads(text, parse_float=Digits, parse_constant=_no_constant, parse_int=_whole)
    except (ValueError, RecursionError):
        raise DecodeError("the message is not JSON") from None


def schema_of(text: bytes) -> bytes:
    """Return the schema part of a message, b"" where it has none.

    Raises:
        DecodeError: it is not JSON.
    """
    try:
        return schema_part(text)
    except ScanError as error:
        raise DecodeError(f"the message cannot be read: {error}") from None


def column(name: str, seen: Seen, nullable: bool, missing: str | None = None) -> Column:
    """Return a column of a table that only its messages tell of. `missing`: see `Column`."""
    native, logical = _native(seen)
    return Column(name, native, logical, nullable=nullable, missing=missing)


def table(name: TableName, columns: tuple[Column, ...], key: tuple[str, ...]) -> Table:
    """Return such a table. Key columns cannot be NULL."""
    number = int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:7], "big")
    columns = tuple(replace(each, nullable=each.nullable and each.name not in key) for each in columns)
    return Table(name, number, columns, key=key, primary_key=key)


def _seen(field: dict[str, Any], depth: int) -> Seen:
    name, kind = str(field.get("name") or ""), str(field.get("type") or "")
    parameters = field.get("parameters") or {}
    if name == connect_types.DECIMAL:
        scale = _number(parameters.get("scale"), 0)
        return Seen(WireKind(Kind.DECIMAL), CONNECT_DECIMAL, scale=scale)
    if name == connect_types.VARIABLE_DECIMAL:
        return Seen(WireKind(Kind.DECIMAL), VARIABLE_DECIMAL)
    if name == connect_types.BITS:
        length = _number(parameters.get("length"), -1)
        if length < 1:
            return Seen(WireKind(Kind.BYTES), Kind.BYTES)
        return Seen(WireKind(Kind.BITS, length=length), Kind.BITS, length=length)
    if name in _NAMED:
        known, unit = _NAMED[name]
        return Seen(WireKind(known), known, unit)
    if kind == "array" and depth == 0:
        items = field.get("items")
        element = _seen(items if isinstance(items, dict) else {}, depth + 1)
        if element.kind.kind in connect_types.TYPES and element.kind.kind is not Kind.JSON:
            return Seen(WireKind(Kind.ARRAY, element=element.kind), Kind.ARRAY, element=element)
    if kind == "array":
        return Seen(WireKind(Kind.JSON), Kind.JSON)
    plain = _PLAIN.get(kind, Kind.TEXT)
    return Seen(WireKind(plain), plain)


def _native(seen: Seen) -> tuple[NativeType, Logical]:
    kind = seen.kind
    if kind.kind is Kind.ARRAY and seen.element is not None:
        return connect_types.array(_native(seen.element)[0])
    if kind.kind is Kind.BITS:
        return connect_types.bits(kind.length)
    return connect_types.native(kind.kind)


def _look(value: object) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.INT64 if -_LARGEST_INT8 <= value < _LARGEST_INT8 else Kind.DECIMAL
    if isinstance(value, Digits):
        return Kind.DECIMAL
    return Kind.JSON if isinstance(value, dict | list) else Kind.TEXT


def _number(text: object, otherwise: int) -> int:
    try:
        return int(str(text)) if text is not None else otherwise
    except ValueError:
        raise DecodeError("the message's schema has a parameter that is no number") from None


def _whole(text: str) -> int | Digits:
    return int(text) if len(text) < 1000 else Digits(text)


def _no_constant(name: str) -> object:
    raise ValueError(name)
