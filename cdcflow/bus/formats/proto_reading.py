"""What the compiled reader is told of one Protobuf message type for one table, and the table that it describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf import descriptor_pb2

from cdcflow.bus.formats import connect_types
from cdcflow.bus.formats.connect_types import Described
from cdcflow.bus.formats.reading_forms import bits_text_of, geometry_of, json_text, of_text
from cdcflow.codecs.buscells import interval_text, timetz_text
from cdcflow.codecs.buskinds import Kind, WireKind, wire_kind
from cdcflow.codecs.protoscan_cy import ProtoScanner
from cdcflow.codecs.scanforms import Form
from cdcflow.codecs.values_kinds import BadValue
from cdcflow.errors import DecodeError
from cdcflow.model.schema import Column, Table

Call = Callable[[Any], bytes | None]
Descriptor = descriptor_pb2.DescriptorProto
Field = descriptor_pb2.FieldDescriptorProto

_DEEPEST: Final = 32
_MOMENT: Final = ".google.protobuf.Timestamp"
_BY_KIND: Final = {Kind.DATE: Form.DAYS, Kind.TIME: Form.CLOCK_MICROS, Kind.TIMESTAMP: Form.MOMENT_MICROS}
_CONNECT: Final = {
    Field.TYPE_DOUBLE: "float64",
    Field.TYPE_FLOAT: "float32",
    Field.TYPE_INT64: "int64",
    Field.TYPE_SINT64: "int64",
    Field.TYPE_SFIXED64: "int64",
    Field.TYPE_UINT64: "uint64",
    Field.TYPE_FIXED64: "uint64",
    Field.TYPE_INT32: "int32",
    Field.TYPE_SINT32: "int32",
    Field.TYPE_SFIXED32: "int32",
    Field.TYPE_UINT32: "int64",
    Field.TYPE_FIXED32: "int64",
    Field.TYPE_BOOL: "boolean",
    Field.TYPE_STRING: "string",
    Field.TYPE_ENUM: "string",
    Field.TYPE_BYTES: "bytes",
}


@dataclass(slots=True)
class Types:
    """The message types and enums of a schema's files. names: full name -> place in `messages`."""

    messages: list[Descriptor] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    enums: dict[str, descriptor_pb2.EnumDescriptorProto] = field(default_factory=dict)
    tops: list[int] = field(default_factory=list)  # of the first file

    def of(self, at: int, one: Field) -> str:
        """Return the full name of a field's type; names are looked up from the inside out, as the language has it."""
        name = one.type_name
        if name.startswith("."):
            return name
        scope = self.full[at]
        while True:
            full = f"{scope}.{name}"
            if full in self.names or full in self.enums:
                return full
            if not scope:
                return f".{name}"
            scope = scope.rpartition(".")[0]


def types(files: Sequence[descriptor_pb2.FileDescriptorProto]) -> Types:
    """Return what is in a schema's files."""
    found = Types()

    def add(message: Descriptor, scope: str, depth: int) -> int:
        if depth > _DEEPEST:
            raise DecodeError("a message's Protobuf schema is nested too deeply")
        at, full = len(found.messages), f"{scope}.{message.name}"
        found.messages.append(message)
        found.full.append(full)
        found.names.setdefault(full, at)
        for inner in message.nested_type:
            add(inner, full, depth + 1)
        for enum in message.enum_type:
            found.enums[f"{full}.{enum.name}"] = enum
        return at

    for number, file in enumerate(files):
        scope = f".{file.package}" if file.package else ""
        tops = [add(message, scope, 0) for message in file.message_type]
        for enum in file.enum_type:
            found.enums[f"{scope}.{enum.name}"] = enum
        if number == 0:
            found.tops = tops
    return found


def root(found: Types, indexes: Sequence[int]) -> int:
    """Return the message type that a message's indexes lead to. Raises DecodeError."""
    try:
        at = found.tops[indexes[0]]
        for index in indexes[1:]:
            at = found.names[f"{found.full[at]}.{found.messages[at].nested_type[index].name}"]
    except (IndexError, KeyError):
        raise DecodeError("a message is of a type that its Protobuf schema does not have") from None
    return at


def numbered(found: Types, at: int, name: str) -> tuple[int, int]:
    """Return the number of a message's field and its message type (-1: none); (0, -1) where there is no such field."""
    for one in found.messages[at].field:
        if one.name == name:
            inner = found.names.get(found.of(at, one), -1) if one.type == Field.TYPE_MESSAGE else -1
            return one.number, inner
    return 0, -1


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where a message's rows are; see `ProtoScanner`. rows: the message types of rows."""

    root: int
    path: tuple[int, ...]
    before: int
    after: int
    op: int
    rows: tuple[int, ...]


def envelope(found: Types, at: int, *, flat: bool) -> Envelope:
    """Find the rows in a message type. Raises DecodeError where it is no such envelope."""
    if flat:
        return Envelope(at, (), 0, 0, 0, (at,))
    begun = at
    path: tuple[int, ...] = ()
    data, inner = numbered(found, at, "data")
    if not numbered(found, at, "after")[0] and inner >= 0 and numbered(found, at, "specversion")[0]:
        path, at = (data,), inner
    before, old = numbered(found, at, "before")
    after, new = numbered(found, at, "after")
    op, _ = numbered(found, at, "op")
    if not after or new < 0 or not op:
        raise DecodeError(
            "a message's Protobuf schema is not Debezium's envelope",
            do="set `envelope: flat` if its messages are the rows themselves",
        )
    rows = tuple(sorted({row for row in (old, new) if row >= 0}))
    return Envelope(begun, path, before if old >= 0 else 0, after, op, rows)


def scanner(found: Types, table: Table, where: Envelope, *, hides: bool) -> ProtoScanner:
    """Return the reader of a message type as rows of a table; `hides` as in `ProtoScanner`."""
    columns = {column.name: (place, wire_kind(column)) for place, column in enumerate(table.columns)}
    messages: list[tuple[int, int]] = []
    fields: list[list[int]] = []
    names: list[str] = []
    symbols: dict[int, dict[int, bytes]] = {}
    calls: dict[int, Call] = {}
    places: dict[tuple[int, int], int] = {}
    for at, message in enumerate(found.messages):
        messages.append((len(fields), len(message.field)))
        for one in sorted(message.field, key=lambda one: one.number):
            places[at, one.number] = len(fields)
            inner = found.names.get(found.of(at, one), -1) if one.type == Field.TYPE_MESSAGE else -1
            if one.type == Field.TYPE_ENUM:
                enum = found.enums.get(found.of(at, one))
                values = enum.value if enum is not None else ()
                symbols[len(fields)] = {value.number: value.name.encode() for value in values}
            repeated = one.label == Field.LABEL_REPEATED
            absent_is_default = not (
                repeated or one.proto3_optional or one.HasField("oneof_index") or one.type == Field.TYPE_MESSAGE
            )
            fields.append([one.number, one.type, inner, -1, Form.RAW, 0, repeated, absent_is_default])
            names.append(one.name)
    for row in where.rows:
        for one in found.messages[row].field:
            name = next((each for each in (own_name(one), one.name, one.json_name) if each in columns), None)
            if name is None:
                continue
            place, kind = columns[name]
            at = places[row, one.number]
            fields[at][3] = place
            _set_form(found, fields, places, calls, at, (row, one), kind)
    return ProtoScanner(
        messages,
        [tuple(int(number) for number in each) for each in fields],
        names,
        symbols,
        calls,
        len(table.columns),
        where.root,
        where.path,
        where.before,
        where.after,
        where.op,
        hides,
    )


def described(found: Types, row: int) -> list[Column]:
    """Return the columns that a row's message describes. What it says of types is all that is known."""
    return [
        connect_types.column(own_name(one), _described(found, row, one), nullable=_nullable(one))
        for one in found.messages[row].field
    ]


def own_name(one: Field) -> str:
    """Return a column's own name. Descriptors give every field a name for JSON: the one that is made of its own does
    not count."""
    camel = "".join(
        part if number == 0 else part[:1].upper() + part[1:] for number, part in enumerate(one.name.split("_"))
    )
    return one.name if not one.json_name or one.json_name == camel else one.json_name


def _nullable(one: Field) -> bool:
    return one.proto3_optional or one.type == Field.TYPE_MESSAGE or one.HasField("oneof_index")


def _described(found: Types, row: int, one: Field) -> Described:
    if one.type == Field.TYPE_MESSAGE:
        full = found.of(row, one)
        if full == _MOMENT and one.label != Field.LABEL_REPEATED:
            return Described("string", "io.debezium.time.ZonedTimestamp")
        inner = found.names.get(full, -1)
        value = _item(found, inner) if inner >= 0 else None
        if value is not None and value[1].type in _CONNECT:
            return Described("array", element=Described(_CONNECT[value[1].type]))
        if inner >= 0 and {each.name for each in found.messages[inner].field} == {"wkb", "srid"}:
            return Described("struct", "io.debezium.data.geometry.Geometry")
        return Described("struct")
    plain = Described(_CONNECT.get(one.type, "struct"))
    return Described("array", element=plain) if one.label == Field.LABEL_REPEATED else plain


def _item(found: Types, at: int) -> tuple[int, Field] | None:
    """Return (message type, field) of the value in the elements of a list of ours, None where it is no such list."""
    message = found.messages[at]
    if len(message.field) != 1 or message.field[0].number != 1 or message.field[0].label != Field.LABEL_REPEATED:
        return None
    inner = found.names.get(found.of(at, message.field[0]), -1) if message.field[0].type == Field.TYPE_MESSAGE else -1
    if inner < 0 or len(found.messages[inner].field) != 1 or found.messages[inner].field[0].name != "value":
        return None
    return inner, found.messages[inner].field[0]


def _set_form(
    found: Types,
    fields: list[list[int]],
    places: dict[tuple[int, int], int],
    calls: dict[int, Call],
    at: int,
    of: tuple[int, Field],
    kind: WireKind,
) -> None:
    row, one = of
    if one.type == Field.TYPE_MESSAGE:
        full = found.of(row, one)
        inner = found.names.get(full, -1)
        item = _item(found, inner) if inner >= 0 and one.label != Field.LABEL_REPEATED else None
        if item is not None and kind.kind is Kind.ARRAY and item[1].type != Field.TYPE_MESSAGE:
            assert kind.element is not None
            value = places[item[0], item[1].number]
            _set_form(found, fields, places, calls, value, item, kind.element)
            fields[at][4], fields[at][5] = Form.ARRAY, value << 8 | kind.delimiter[0]
            return
        fields[at][4] = Form.CALL
        if one.label == Field.LABEL_REPEATED:
            calls[at] = json_text
        elif full == _MOMENT:
            calls[at] = _moment
        else:
            calls[at] = geometry_of if kind.kind is Kind.GEOMETRY else json_text
        return
    if one.label == Field.LABEL_REPEATED and kind.kind is Kind.ARRAY:
        assert kind.element is not None
        kind = kind.element
    call: Call | None = None
    form = Form.RAW
    if one.type == Field.TYPE_STRING:
        if kind.kind is Kind.TIMESTAMPTZ:
            form = Form.ZONED
        elif kind.kind is Kind.TIMETZ:
            call = of_text(timetz_text)
        elif kind.kind is Kind.INTERVAL:
            call = of_text(interval_text)
    elif one.type == Field.TYPE_BYTES:
        form = Form.HEX
        if kind.kind is Kind.BITS:
            call = bits_text_of(kind.length)
    elif one.type == Field.TYPE_BOOL:
        form = Form.BIT if kind.kind in (Kind.BIT1, Kind.VARBIT) else Form.BOOL
    elif one.type not in (Field.TYPE_DOUBLE, Field.TYPE_FLOAT, Field.TYPE_ENUM):
        form = _BY_KIND.get(kind.kind, Form.DIGITS)
    fields[at][4] = form
    if call is not None:
        fields[at][4] = Form.CALL
        calls[at] = call


def _moment(value: dict[str, Any]) -> bytes:
    """Return google.protobuf.Timestamp as canonical text."""
    try:
        moment = datetime.fromtimestamp(0, UTC) + timedelta(
            seconds=value.get("seconds", 0), microseconds=(value.get("nanos", 0) + 500) // 1000
        )
    except OverflowError:
        raise BadValue("timestamp", "out of range") from None
    text = f"{moment:%H:%M:%S}" + (f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else "")
    return f"{moment.date().isoformat()} {text}+00".encode()
