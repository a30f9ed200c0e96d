"""Avro schemas as Debezium's Avro converter writes them: of keys, rows and envelopes.

Names: https://debezium.io/documentation/reference/stable/configuration/avro.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from cdcflow.bus.formats.connectjson import SOURCE_FIELDS
from cdcflow.codecs.buskinds import CONNECT_DECIMAL, Kind, WireKind
from cdcflow.model.schema import Table

# Where a column's own name stands, if Avro does not allow it as a field's.
COLUMN_NAME: Final = "__debezium.source.column.name"
# What Connect's converter makes of `date`; it takes no other name beside that (AvroData.toConnectSchema).
CONNECT_DATE: Final = "org.apache.kafka.connect.data.Date"
GEOMETRY: Final = "io.debezium.data.geometry.Geometry"

_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_]")
_PRIMITIVES: Final = {
    Kind.BOOL: "boolean",
    Kind.INT16: "int",
    Kind.INT32: "int",
    Kind.INT64: "long",
    Kind.FLOAT32: "float",
    Kind.FLOAT64: "double",
    Kind.BYTES: "bytes",
    Kind.DATE: "int",
    Kind.TIME: "long",
    Kind.TIMESTAMP: "long",
    Kind.BIT1: "boolean",
    Kind.BITS: "bytes",
}
_LOGICAL: Final = {
    Kind.DATE: "date",
    Kind.TIME: "time-micros",
    Kind.TIMESTAMP: "local-timestamp-micros",
    Kind.UUID: "uuid",
}
UINT64_DIGITS: Final = 20
# A CloudEvent's attributes that are always there, in the order of their fields; `time` follows, then the data.
EVENT_TEXTS: Final = ("id", "specversion", "source", "type", "datacontenttype", "subject")

# Of the block `source`, for every engine: name, type in Connect's words, whether it may be missing.
_SOURCE: Final = (
    ("version", "string", False),
    ("connector", "string", False),
    ("name", "string", False),
    ("ts_ms", "int64", False),
    ("snapshot", "string", True),
    ("db", "string", False),
    ("sequence", "string", True),
    ("ts_us", "int64", True),
    ("ts_ns", "int64", True),
)
_TRANSACTION: Final = {
    "type": "record",
    "name": "block",
    "namespace": "event",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "total_order", "type": "long"},
        {"name": "data_collection_order", "type": "long"},
    ],
    "connect.version": 1,
    "connect.name": "event.block",
}


def namespace(topic: str) -> str:
    """Return a topic's name as a namespace."""
    return ".".join(_allowed(part) for part in topic.split("."))


def field_names(columns: Iterable[str]) -> list[str]:
    """Return a name for each column that Avro and Protobuf allow; no two are the same."""
    names: list[str] = []
    for column in columns:
        allowed = _allowed(column)
        name, number = allowed, 2
        while name in names:
            name, number = f"{allowed}_{number}", number + 1
        names.append(name)
    return names


def as_bytes(kind: WireKind, decimals: str) -> bool:
    """Return whether a decimal goes as Avro's decimal, not as text."""
    return kind.kind is Kind.UINT64 or (
        kind.kind is Kind.DECIMAL and decimals == "number" and kind.precision > 0 and 0 <= kind.scale <= kind.precision
    )


def column_type(kind: WireKind, decimals: str, *, defined: set[str] | None = None) -> Any:
    """Return the Avro type of a column's values.

    Args:
        decimals: `string` or `number`, as in the configuration.
        defined: named types that the schema has already; added to.
    """
    said: dict[str, Any] = {}
    parameters = kind.connect_parameters
    name = kind.connect_name
    logical = _LOGICAL.get(kind.kind)
    primitive = _PRIMITIVES.get(kind.kind, "string")
    if as_bytes(kind, decimals):
        precision, scale = (kind.precision, kind.scale) if kind.kind is Kind.DECIMAL else (UINT64_DIGITS, 0)
        primitive, name, logical = "bytes", CONNECT_DECIMAL, "decimal"
        said |= {"scale": scale, "precision": precision}
        parameters = {"scale": str(scale), "connect.decimal.precision": str(precision)}
    elif kind.kind is Kind.ARRAY:
        assert kind.element is not None
        return {"type": "array", "items": ["null", column_type(kind.element, decimals, defined=defined)]}
    elif kind.kind is Kind.GEOMETRY:
        return _geometry(set() if defined is None else defined)
    elif kind.kind is Kind.DATE:
        name = CONNECT_DATE
    elif kind.kind is Kind.INT16:
        said["connect.type"] = "int16"
    if name:
        said |= {"connect.version": 1, "connect.name": name}
    if parameters:
        said["connect.parameters"] = parameters
    if logical:
        said["logicalType"] = logical
    return {"type": primitive, **said} if said else primitive


def row_schema(
    table: Table, kinds: tuple[WireKind, ...], topic: str, part: str, decimals: str, defined: set[str]
) -> dict[str, Any]:
    """Return the schema of a row: `part` is `Value`, or `Key` with the key's columns alone."""
    full = f"{namespace(topic)}.{part}"
    fields = []
    for name, column, kind in zip(field_names(table.column_names), table.columns, kinds, strict=True):
        if part == "Key" and column.name not in table.key:
            continue
        type_ = column_type(kind, decimals, defined=defined)
        if name != column.name:
            type_ = type_ if isinstance(type_, dict) else {"type": type_}
            type_ = {**type_, "connect.parameters": {**type_.get("connect.parameters", {}), COLUMN_NAME: column.name}}
        fields.append(
            {"name": name, "type": ["null", type_], "default": None}
            if column.nullable
            else {"name": name, "type": type_}
        )
    return {
        "type": "record",
        "name": part,
        "namespace": namespace(topic),
        "fields": fields,
        "connect.name": full,
    }


def source_fields(engine: str) -> tuple[tuple[str, str, bool], ...]:
    """Return (name, type in Connect's words, may be missing) of the fields of an engine's block `source`."""
    rest = ((name, kind, name not in ("schema", "table")) for name, kind in SOURCE_FIELDS[engine])
    return (*_SOURCE, *rest)


def envelope_schema(row: dict[str, Any], topic: str, engine: str) -> dict[str, Any]:
    """Return the schema of Debezium's envelope around a row."""
    space = namespace(topic)
    return {
        "type": "record",
        "name": "Envelope",
        "namespace": space,
        "fields": [
            {"name": "before", "type": ["null", row], "default": None},
            {"name": "after", "type": ["null", f"{space}.Value"], "default": None},
            {"name": "source", "type": _source(engine)},
            {"name": "transaction", "type": ["null", _TRANSACTION], "default": None},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"], "default": None},
            {"name": "ts_us", "type": ["null", "long"], "default": None},
            {"name": "ts_ns", "type": ["null", "long"], "default": None},
        ],
        "connect.version": 1,
        "connect.name": f"{space}.Envelope",
    }


def event_schema(envelope: dict[str, Any], topic: str) -> dict[str, Any]:
    """Return the schema of a CloudEvent in structured mode, around an envelope."""
    space = namespace(topic)

    return {
        "type": "record",
        "name": "CloudEvent",
        "namespace": space,
        "fields": [
            *({"name": name, "type": "string"} for name in EVENT_TEXTS),
            {"name": "time", "type": ["null", "string"], "default": None},
            {"name": "data", "type": envelope},
        ],
        "connect.name": f"{space}.CloudEvent",
    }


def _source(engine: str) -> dict[str, Any]:
    names = {"string": "string", "int64": "long", "int32": "int"}
    fields: list[dict[str, Any]] = []
    for name, kind, optional in source_fields(engine):
        if optional:
            fields.append({"name": name, "type": ["null", names[kind]], "default": None})
        else:
            fields.append({"name": name, "type": names[kind]})
    space = f"io.debezium.connector.{engine}"
    return {
        "type": "record",
        "name": "Source",
        "namespace": space,
        "fields": fields,
        "connect.version": 1,
        "connect.name": f"{space}.Source",
    }


def _geometry(defined: set[str]) -> Any:
    if GEOMETRY in defined:
        return {"type": GEOMETRY}
    defined.add(GEOMETRY)
    space, _, name = GEOMETRY.rpartition(".")
    return {
        "type": "record",
        "name": name,
        "namespace": space,
        "fields": [
            {"name": "wkb", "type": "bytes"},
            {"name": "srid", "type": ["null", "int"], "default": None},
        ],
        "connect.version": 1,
        "connect.name": GEOMETRY,
    }


def _allowed(name: str) -> str:
    text = _NOT_ALLOWED.sub("_", name) or "_"
    return f"_{text}" if text[0].isdigit() else text
