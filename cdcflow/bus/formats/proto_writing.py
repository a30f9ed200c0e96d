"""The Protobuf writer of one table's rows: cells, and what stands around the rows, as Protobuf's bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from google.protobuf import descriptor_pb2

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats import UNAVAILABLE, avro_schema, proto_schema
from cdcflow.bus.formats.framing import head
from cdcflow.bus.formats.jsonpieces import Around, Origin, around
from cdcflow.bus.formats.packing import goes_out
from cdcflow.bus.formats.records import Lead, RecordWriter, Shell, slow_text
from cdcflow.bus.formats.wire import WirePlan
from cdcflow.bus.registry import Part, SchemaRegistry
from cdcflow.codecs.busbinary_cy import BinaryCell
from cdcflow.codecs.buscells import geometry_parts
from cdcflow.codecs.buskinds import Kind, WireKind
from cdcflow.codecs.busrecords_cy import CHANGE, FLAT, Layout, Records
from cdcflow.errors import DecodeError
from cdcflow.model.route import Route

_VARINT: Final = 0
_EIGHT: Final = 1
_LENGTH: Final = 2
_FOUR: Final = 5
# Behind the schema's number: which message of the file it is, here the first one.
_FIRST: Final = b"\0"
_WIRE: Final = {
    Kind.BOOL: _VARINT,
    Kind.BIT1: _VARINT,
    Kind.INT16: _VARINT,
    Kind.INT32: _VARINT,
    Kind.INT64: _VARINT,
    Kind.UINT64: _VARINT,
    Kind.DATE: _VARINT,
    Kind.TIME: _VARINT,
    Kind.TIMESTAMP: _VARINT,
    Kind.FLOAT32: _FOUR,
    Kind.FLOAT64: _EIGHT,
}
_WITHOUT_TEXT: Final = (*_WIRE, Kind.ARRAY, Kind.GEOMETRY, Kind.BITS)


def proto_writer(
    registry: SchemaRegistry, encoding: Encoding, topic: str, plan: WirePlan, route: Route, origin: Origin
) -> RecordWriter:
    """Return the writer of a route's rows; registers the schemas of keys and values.

    Raises:
        SchemaStop: the registry refuses one. TargetUnavailable: it cannot be asked now.
    """
    form = around(encoding)
    space = avro_schema.namespace(topic)
    first = {"flat": "Value", "structured": "CloudEvent"}.get(form, "Envelope")

    def registered(part: Part, record: str, row: str) -> tuple[bytes, proto_schema.Row]:
        return registry.once((topic, plan.fingerprint, part), lambda: asked(part, record, row))

    def asked(part: Part, record: str, row: str) -> tuple[bytes, proto_schema.Row]:
        subject = registry.subject(topic, part, f"{space}.{record}")
        made = proto_schema.row_message(plan.shape, plan.kinds, row, _last(registry, subject, row))
        messages = [made.message]
        if part == "value" and form != "flat":
            messages = proto_schema.envelope_messages(made.message, origin.engine)
            if form == "structured":
                messages.insert(0, proto_schema.event_message())
        number = registry.register(subject, "PROTOBUF", proto_schema.file_text(topic, messages)).id
        return head(number) + _FIRST, made

    key = tuple(sorted(plan.key))
    key_head, key_cells = b"", []
    if key:
        key_head, keys = registered("key", "Key", "Key")
        key_cells = [cell(plan.kinds[place], number) for place, number in zip(key, keys.numbers, strict=True)]
    value_head, values = registered("value", first, "Value")
    tombstones, deletes, updates = goes_out(route, encoding)
    layout = Layout(
        FLAT if form == "flat" else CHANGE,
        tagged=True,
        head=value_head,
        key_head=key_head,
        before=tag(1, _LENGTH),
        after=tag(2, _LENGTH),
        transaction=tag(4, _LENGTH),
        order=tag(2, _VARINT),
        table_order=tag(3, _VARINT),
        op=tag(5, _LENGTH) + b"\x01",
        tombstones=tombstones,
        deletes=deletes,
        updates=updates,
    )
    cells = [cell(kind, number) for kind, number in zip(plan.kinds, values.numbers, strict=True)]
    records = Records(cells, key_cells, plan.places, key, plan.width, layout)
    return RecordWriter(plan, records, _shell(value_head, form, origin.engine), origin, form)


def cell(kind: WireKind, number: int) -> BinaryCell:
    """Return the writer of a column's cells, as the field with that number."""
    present = tag(number, _WIRE.get(kind.kind, _LENGTH))
    slow: Callable[[bytes], bytes] | None = None
    element = None
    if kind.kind is Kind.ARRAY:
        assert kind.element is not None
        element = cell(kind.element, 1)
    elif kind.kind is Kind.GEOMETRY:
        slow = _geometry
    elif kind.kind in (Kind.TIMETZ, Kind.INTERVAL, Kind.BITS):
        slow = _lengthy(slow_text(kind.kind))
    unavailable = b"" if kind.kind in _WITHOUT_TEXT else present + raw(UNAVAILABLE.encode())
    return BinaryCell(kind.kind, True, present, b"", unavailable, delimiter=kind.delimiter, element=element, slow=slow)


def tag(number: int, wire: int) -> bytes:
    """Return what stands before a field's value."""
    return varint(number << 3 | wire)


def varint(value: int) -> bytes:
    """Return a whole number, negative ones as 64 bits."""
    value &= 0xFFFFFFFFFFFFFFFF
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def raw(value: bytes) -> bytes:
    """Return bytes behind their length."""
    return varint(len(value)) + value


def _last(registry: SchemaRegistry, subject: str, row: str) -> descriptor_pb2.DescriptorProto | None:
    """Return a row's message as the newest schema of a subject has it."""
    latest = registry.latest(subject)
    if latest is None or latest.kind != "PROTOBUF":
        return None
    try:
        found = proto_schema.parse(latest.text)[0]
    except DecodeError:
        return None  # somebody else's: the registry will say whether ours fits
    return next((message for message in found.message_type if message.name == row), None)


def _lengthy(convert: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda cell: raw(convert(cell))


def _geometry(cell: bytes) -> bytes:
    wkb, srid = geometry_parts(cell)
    return raw(tag(1, _LENGTH) + raw(wkb) + (b"" if srid is None else tag(2, _VARINT) + varint(srid)))


def _shell(value_head: bytes, form: Around, engine: str) -> Shell:
    fields = avro_schema.source_fields(engine)

    def source(block: Mapping[str, object]) -> bytes:
        found = bytearray()
        for number, (name, _, _) in enumerate(fields, 1):
            value = block.get(name)
            if isinstance(value, int):
                found += tag(number, _VARINT) + varint(value)
            elif value is not None:
                found += tag(number, _LENGTH) + raw(str(value).encode())
        return tag(3, _LENGTH) + raw(bytes(found))

    def transaction(number: str | None) -> bytes:
        return b"" if number is None else tag(1, _LENGTH) + raw(number.encode())

    def tail(micros: int) -> bytes:
        if form != "debezium":
            return b""
        times = enumerate((micros // 1000, micros, micros * 1000), 6)
        return b"".join(tag(number, _VARINT) + varint(value) for number, value in times)

    def lead(attributes: Mapping[str, str]) -> Lead:
        behind = {"specversion": "1.0", **attributes}
        names = (*avro_schema.EVENT_TEXTS, "time")
        rest = b"".join(
            tag(number, _LENGTH) + raw(behind[name].encode())
            for number, name in enumerate(names, 1)
            if name != "id" and name in behind
        )
        return tag(1, _LENGTH), attributes["id"].encode(), rest + tag(len(names) + 1, _LENGTH)

    def emptied(leading: Lead | None, said: bytes, last: bytes) -> bytes:
        if form == "flat":
            return b""
        body = said + tag(5, _LENGTH) + raw(b"t") + last
        if leading is not None:
            body = leading[0] + raw(leading[1]) + leading[2] + raw(body)
        return value_head + body

    return Shell(source, transaction, tail, lead, emptied)
