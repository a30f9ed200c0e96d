"""Schemas as Connect's JsonConverter writes them into each message: `{"schema": .., "payload": ..}`.

https://github.com/apache/kafka/blob/trunk/connect/json/src/main/java/org/apache/kafka/connect/json/JsonSchema.java
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cdcflow.bus.config import Encoding
from cdcflow.codecs.buskinds import CONNECT_DECIMAL, Kind, WireKind
from cdcflow.model.schema import Table

Schema = dict[str, Any]

_TYPES: Final = {
    Kind.BOOL: "boolean",
    Kind.BIT1: "boolean",
    Kind.INT16: "int16",
    Kind.INT32: "int32",
    Kind.INT64: "int64",
    Kind.UINT64: "int64",
    Kind.FLOAT32: "float",
    Kind.FLOAT64: "double",
    Kind.BYTES: "bytes",
    Kind.BITS: "bytes",
    Kind.DATE: "int32",
    Kind.TIME: "int64",
    Kind.TIMESTAMP: "int64",
}
_TEMPORALS: Final = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP)

# What the block `source` says of each engine's log.
SOURCE_FIELDS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "postgresql": (("schema", "string"), ("table", "string"), ("txId", "int64"), ("lsn", "int64"), ("xmin", "int64")),
    "mysql": (
        ("table", "string"),
        ("server_id", "int64"),
        ("gtid", "string"),
        ("file", "string"),
        ("pos", "int64"),
        ("row", "int32"),
        ("thread", "int64"),
        ("query", "string"),
    ),
}
SOURCE_FIELDS["mariadb"] = SOURCE_FIELDS["mysql"]


def row(
    table: Table, kinds: Sequence[WireKind], encoding: Encoding, name: str, columns: Sequence[str] | None = None
) -> Schema:
    """Return the schema of a row, or of its key with `columns`. Outside of the key a value may always be missing."""
    chosen = [
        (column, kind)
        for column, kind in zip(table.columns, kinds, strict=True)
        if columns is None or column.name in columns
    ]
    if columns is not None:
        chosen.sort(key=lambda pair: columns.index(pair[0].name))
    fields = [
        {**value(kind, encoding), "optional": column.name not in table.key or columns is None, "field": column.name}
        for column, kind in chosen
    ]
    return {"type": "struct", "fields": fields, "optional": columns is None, "name": name}


def value(kind: WireKind, encoding: Encoding) -> Schema:
    """Return the schema of one value."""
    if kind.kind is Kind.ARRAY:
        assert kind.element is not None
        return {"type": "array", "items": {**value(kind.element, encoding), "optional": True}}
    if kind.kind is Kind.GEOMETRY:
        fields = [
            {"type": "bytes", "optional": False, "field": "wkb"},
            {"type": "int32", "optional": True, "field": "srid"},
        ]
        return {"type": "struct", "fields": fields, "name": kind.connect_name, "version": 1}
    if kind.kind is Kind.DECIMAL:
        return _decimal(kind) if encoding.decimals == "number" else {"type": "string"}
    if kind.kind in _TEMPORALS and encoding.temporals == "iso":
        return {"type": "string"}
    made: Schema = {"type": _TYPES.get(kind.kind, "string")}
    if kind.connect_name:
        made |= {"name": kind.connect_name, "version": 1}
    if kind.connect_parameters:
        made["parameters"] = kind.connect_parameters
    return made


def _decimal(kind: WireKind) -> Schema:
    """Return the schema of decimals that are numbers: JsonConverter takes digits for a decimal as well as bytes, and
    keeps each of them; as a double only some."""
    if not 0 <= kind.scale <= kind.precision:
        return {"type": "double"}
    parameters = {"scale": str(kind.scale), "connect.decimal.precision": str(kind.precision)}
    return {"type": "bytes", "name": CONNECT_DECIMAL, "version": 1, "parameters": parameters}


def change(topic: str, rows: Schema, engine: str) -> Schema:
    """Return the schema of Debezium's envelope around a row."""
    of_source = [
        _field(name, kind) for name, kind in (("version", "string"), ("connector", "string"), ("name", "string"))
    ]
    of_source += [_field("ts_ms", "int64"), _field("snapshot", "string", True), _field("db", "string")]
    of_source += [_field("sequence", "string", True), _field("ts_us", "int64", True), _field("ts_ns", "int64", True)]
    of_source += [_field(name, kind, name not in ("schema", "table")) for name, kind in SOURCE_FIELDS[engine]]
    of_transaction = [_field("id", "string"), _field("total_order", "int64"), _field("data_collection_order", "int64")]
    fields = [
        {**rows, "field": "before"},
        {**rows, "field": "after"},
        {
            "type": "struct",
            "fields": of_source,
            "optional": False,
            "name": f"io.debezium.connector.{'postgresql' if engine == 'postgresql' else engine}.Source",
            "field": "source",
        },
        {
            "type": "struct",
            "fields": of_transaction,
            "optional": True,
            "name": "event.block",
            "version": 1,
            "field": "transaction",
        },
        _field("op", "string"),
        *(_field(name, "int64", True) for name in ("ts_ms", "ts_us", "ts_ns")),
    ]
    return {"type": "struct", "fields": fields, "optional": False, "name": f"{topic}.Envelope", "version": 2}


def _field(name: str, kind: str, optional: bool = False) -> Schema:
    return {"type": kind, "optional": optional, "field": name}
