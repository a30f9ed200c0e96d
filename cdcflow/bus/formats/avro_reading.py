"""What the compiled reader is told of one Avro schema for one table, and the table that a schema describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cdcflow.bus.formats import connect_types
from cdcflow.bus.formats.avro_schema import COLUMN_NAME
from cdcflow.bus.formats.connect_types import Described
from cdcflow.bus.formats.reading_forms import (
    bits_text_of,
    duration_text,
    geometry_of,
    json_text,
    of_text,
    variable_decimal,
)
from cdcflow.codecs.avroprogram import Node, Op, Program
from cdcflow.codecs.avroscan_cy import Scanner
from cdcflow.codecs.buscells import interval_text, timetz_text
from cdcflow.codecs.buskinds import CONNECT_DECIMAL, Kind, WireKind, wire_kind
from cdcflow.codecs.scanforms import Form
from cdcflow.errors import DecodeError
from cdcflow.model.schema import Column, Table

Call = Callable[[Any], bytes | None]

_CONNECT: Final = "org.apache.kafka.connect.data."
_BY_NAME: Final = {
    "io.debezium.time.Date": Form.DAYS,
    "io.debezium.time.Time": Form.CLOCK_MILLIS,
    "io.debezium.time.MicroTime": Form.CLOCK_MICROS,
    "io.debezium.time.NanoTime": Form.CLOCK_NANOS,
    "io.debezium.time.Timestamp": Form.MOMENT_MILLIS,
    "io.debezium.time.MicroTimestamp": Form.MOMENT_MICROS,
    "io.debezium.time.NanoTimestamp": Form.MOMENT_NANOS,
    _CONNECT + "Date": Form.DAYS,
    _CONNECT + "Time": Form.CLOCK_MILLIS,
    _CONNECT + "Timestamp": Form.MOMENT_MILLIS,
}
_BY_LOGICAL: Final = {
    "date": Form.DAYS,
    "time-millis": Form.CLOCK_MILLIS,
    "time-micros": Form.CLOCK_MICROS,
    "timestamp-millis": Form.ZONED_MILLIS,
    "timestamp-micros": Form.ZONED_MICROS,
    "timestamp-nanos": Form.ZONED_NANOS,
    "local-timestamp-millis": Form.MOMENT_MILLIS,
    "local-timestamp-micros": Form.MOMENT_MICROS,
    "local-timestamp-nanos": Form.MOMENT_NANOS,
}
_BY_KIND: Final = {Kind.DATE: Form.DAYS, Kind.TIME: Form.CLOCK_MICROS, Kind.TIMESTAMP: Form.MOMENT_MICROS}
_ZONE: Final = {
    Form.MOMENT_MILLIS: Form.ZONED_MILLIS,
    Form.MOMENT_MICROS: Form.ZONED_MICROS,
    Form.MOMENT_NANOS: Form.ZONED_NANOS,
}
_NO_ZONE: Final = {zoned: local for local, zoned in _ZONE.items()}
_TYPES: Final = {
    Op.BOOLEAN: "boolean",
    Op.INT: "int32",
    Op.LONG: "int64",
    Op.FLOAT: "float32",
    Op.DOUBLE: "float64",
    Op.STRING: "string",
    Op.ENUM: "string",
    Op.BYTES: "bytes",
    Op.FIXED: "bytes",
    Op.ARRAY: "array",
}
# What a plain Avro schema says of time, in Connect's words.
_LOGICAL_NAMES: Final = {
    "date": "io.debezium.time.Date",
    "time-millis": "io.debezium.time.Time",
    "time-micros": "io.debezium.time.MicroTime",
    "timestamp-millis": "io.debezium.time.ZonedTimestamp",
    "timestamp-micros": "io.debezium.time.ZonedTimestamp",
    "timestamp-nanos": "io.debezium.time.ZonedTimestamp",
    "local-timestamp-millis": "io.debezium.time.Timestamp",
    "local-timestamp-micros": "io.debezium.time.MicroTimestamp",
    "local-timestamp-nanos": "io.debezium.time.NanoTimestamp",
    "uuid": "io.debezium.data.Uuid",
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a message's rows are: the fields that lead to the envelope, and the places of `before`, `after` and `op`
    in it, -1 for what it lacks. Without `after` the record is the row itself. rows: nodes of the row records."""

    path: tuple[int, ...]
    before: int
    after: int
    op: int
    rows: tuple[int, ...]


def envelope(program: Program, *, flat: bool) -> Envelope:
    """Find the rows in a schema. Raises DecodeError where it is no such envelope."""
    path: list[int] = []
    at = program.plain(program.root)
    node = program.nodes[at]
    if node.op is not Op.RECORD:
        raise DecodeError("a message's Avro schema is not a record")
    if not flat and "after" not in node.names and "data" in node.names and "specversion" in node.names:
        path.append(node.names.index("data"))
        at = program.plain(node.children[path[0]])
        node = program.nodes[at]
    if flat:
        return Envelope((), -1, -1, -1, (at,))
    if node.op is not Op.RECORD or "after" not in node.names or "op" not in node.names:
        raise DecodeError(
            "a message's Avro schema is not Debezium's envelope",
            do="set `envelope: flat` if its messages are the rows themselves",
        )
    before, after, op = (node.names.index(name) if name in node.names else -1 for name in ("before", "after", "op"))
    rows = {program.plain(node.children[place]) for place in (before, after) if place >= 0}
    return Envelope(tuple(path), before, after, op, tuple(sorted(rows)))


@dataclass(slots=True)
class _Plan:
    """The arrays of a `Scanner`, while they are made."""

    program: Program
    links: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    forms: list[tuple[int, int]] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)


def scanner(program: Program, table: Table, found: Envelope, *, hides: bool) -> Scanner:
    """Return the reader of a schema's messages as rows of a table.

    Args:
        hides: `__debezium_unavailable_value` stands for what was not logged.
    """
    plan = _Plan(program)
    for node in program.nodes:
        plan.starts.append(len(plan.links))
        plan.links += node.children
        plan.places += [-1] * len(node.children)
        plan.forms.append((Form.RAW, 0))
    columns = {column.name: (place, column) for place, column in enumerate(table.columns)}
    for row in found.rows:
        node = program.nodes[row]
        if node.op is not Op.RECORD:
            raise DecodeError("a row is not a record in a message's Avro schema")
        for place, name in enumerate(column_names(node)):
            if name in columns:
                number, column = columns[name]
                plan.places[plan.starts[row] + place] = number
                _set_form(plan, node.children[place], wire_kind(column))
    nodes = [
        (int(node.op), start, len(node.children), node.size)
        for node, start in zip(program.nodes, plan.starts, strict=True)
    ]
    symbols = {at: [name.encode() for name in node.names] for at, node in _every(program, Op.ENUM)}
    names = {at: node.names for at, node in _every(program, Op.RECORD)}
    return Scanner(
        nodes,
        plan.links,
        plan.places,
        [(int(form), parameter) for form, parameter in plan.forms],
        symbols,
        plan.calls,
        names,
        len(table.columns),
        program.root,
        found.path,
        found.before,
        found.after,
        found.op,
        hides,
    )


def column_names(node: Node) -> list[str]:
    """Return the columns' own names of a row's record: what Avro does not allow stands beside."""
    return [_own_name(name, said) for name, said in zip(node.names, node.fields, strict=True)]


def described(program: Program, rows: tuple[int, ...]) -> list[Column]:
    """Return the columns that a row's record describes."""
    node = program.nodes[rows[0]]
    return [
        replace(
            connect_types.column(name, _described(program, child), nullable=program.nullable(child)),
            missing=_default(program.nodes[program.plain(child)]),
        )
        for name, child in zip(column_names(node), node.children, strict=True)
    ]


def _default(node: Node) -> str | None:
    """Return a column's default as canonical text, where Connect says one whose text is the same in every type: it is
    all that a schema tells of the rows that were there before the column."""
    value = node.said.get("connect.default")
    if node.connect or node.logical or value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    if node.op in (Op.INT, Op.LONG) and isinstance(value, int):
        return str(value)
    return value if node.op is Op.STRING and isinstance(value, str) else None


def _every(program: Program, op: Op) -> list[tuple[int, Node]]:
    return [(at, node) for at, node in enumerate(program.nodes) if node.op is op]


def _own_name(name: str, said: Mapping[str, Any]) -> str:
    types = said.get("type")
    for one in types if isinstance(types, list) else (types,):
        parameters = one.get("connect.parameters") if isinstance(one, dict) else None
        own = parameters.get(COLUMN_NAME) if isinstance(parameters, dict) else None
        if isinstance(own, str) and own:
            return own
    return name


def _described(program: Program, at: int) -> Described:
    at = program.plain(at)
    node = program.nodes[at]
    name = node.connect or _LOGICAL_NAMES.get(node.logical, "")
    parameters = dict(node.parameters)
    kind = _TYPES.get(node.op, "struct")
    if node.logical == "decimal":
        name = CONNECT_DECIMAL
        parameters.setdefault("scale", node.said.get("scale", 0))
        if "precision" in node.said:
            parameters.setdefault("connect.decimal.precision", node.said["precision"])
    connect = node.said.get("connect.type")
    if isinstance(connect, str) and node.op is Op.INT:
        kind = connect
    element = _described(program, node.children[0]) if node.op is Op.ARRAY else None
    return Described(kind, name, parameters, element)


def _set_form(plan: _Plan, at: int, kind: WireKind) -> None:
    """Say how the values at a node, or at the branches of its union, become text."""
    node = plan.program.nodes[at]
    if node.op is Op.UNION:
        for child in node.children:
            if plan.program.nodes[child].op is not Op.UNION:
                _set_form(plan, child, kind)
        return
    form, parameter = _form(node, kind)
    call = _call(node, kind)
    if node.op is Op.ARRAY:
        item = plan.program.plain(node.children[0])
        if plan.program.nodes[item].op in (Op.ARRAY, Op.MAP, Op.UNION) or kind.kind is not Kind.ARRAY:
            call = json_text
        else:
            assert kind.element is not None
            form, parameter = Form.ARRAY, kind.delimiter[0]
            _set_form(plan, node.children[0], kind.element)
    if call is not None:
        form = Form.CALL
        plan.calls[at] = call
    plan.forms[at] = (form, parameter)


def _form(node: Node, kind: WireKind) -> tuple[Form, int]:
    match node.op:
        case Op.INT | Op.LONG:
            form = _BY_NAME.get(node.connect) or _BY_LOGICAL.get(node.logical)
            if form is None:
                # A number alone: the table says what it counts.
                return _BY_KIND.get(kind.kind, Form.DIGITS), 0
            if kind.kind is Kind.TIMESTAMPTZ:
                form = _ZONE.get(form, form)
            elif kind.kind is Kind.TIMESTAMP:
                form = _NO_ZONE.get(form, form)
            return form, 0
        case Op.BOOLEAN:
            return (Form.BIT if kind.kind in (Kind.BIT1, Kind.VARBIT) else Form.BOOL), 0
        case Op.FLOAT:
            return Form.FLOAT4, 0
        case Op.DOUBLE:
            return Form.FLOAT8, 0
        case Op.STRING:
            return (Form.ZONED if kind.kind is Kind.TIMESTAMPTZ else Form.RAW), 0
        case Op.BYTES | Op.FIXED:
            if node.logical == "decimal" or node.connect == CONNECT_DECIMAL:
                scale = node.said.get("scale", node.parameters.get("scale", 0))
                number = int(scale) if str(scale).lstrip("-").isdecimal() else 0
                return Form.DECIMAL, max(-1000, min(number, 20000))
            return Form.HEX, 0
    return Form.RAW, 0


def _call(node: Node, kind: WireKind) -> Call | None:
    """Return the function for those values that need one."""
    if node.op is Op.STRING:
        if kind.kind is Kind.TIMETZ:
            return of_text(timetz_text)
        if kind.kind is Kind.INTERVAL:
            return of_text(interval_text)
    if node.op in (Op.INT, Op.LONG) and kind.kind is Kind.INTERVAL:
        return duration_text
    if node.op in (Op.BYTES, Op.FIXED) and kind.kind is Kind.BITS:
        return bits_text_of(kind.length)
    if node.op is Op.RECORD:
        if kind.kind is Kind.GEOMETRY or node.connect.startswith("io.debezium.data.geometry."):
            return geometry_of
        if node.connect == "io.debezium.data.VariableScaleDecimal":
            return variable_decimal
        return json_text
    return json_text if node.op is Op.MAP else None
