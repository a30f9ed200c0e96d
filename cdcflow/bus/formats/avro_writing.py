"""The Avro writer of one table's rows: cells, and what stands around the rows, as Avro's bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from cdcflow.bus.config import Encoding
from cdcflow.bus.formats import UNAVAILABLE, avro_schema
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
from cdcflow.model.route import Route

# Branches of ["null", T].
_NONE: Final = b"\x00"
_SOME: Final = b"\x02"
_NUMBERS: Final = (Kind.BOOL, Kind.BIT1, Kind.INT16, Kind.INT32, Kind.INT64, Kind.DATE, Kind.TIME, Kind.TIMESTAMP)


def avro_writer(
    registry: SchemaRegistry, encoding: Encoding, topic: str, plan: WirePlan, route: Route, origin: Origin
) -> RecordWriter:
    """Return the writer of a route's rows; registers the schemas of keys and values.

    Raises:
        SchemaStop: the registry refuses one. TargetUnavailable: it cannot be asked now.
    """
    form = around(encoding)
    decimals = encoding.decimals
    row = avro_schema.row_schema(plan.shape, plan.kinds, topic, "Value", decimals, set())
    value = row
    if form != "flat":
        value = avro_schema.envelope_schema(row, topic, origin.engine)
    if form == "structured":
        value = avro_schema.event_schema(value, topic)

    def registered(part: Part, schema: dict[str, Any]) -> bytes:
        subject = registry.subject(topic, part, f"{schema['namespace']}.{schema['name']}")
        text = json.dumps(schema)
        return head(registry.once((subject, text), lambda: registry.register(subject, "AVRO", text).id))

    key_head = b""
    if plan.key:
        keys = avro_schema.row_schema(plan.shape, plan.kinds, topic, "Key", decimals, set())
        key_head = registered("key", keys)
    tombstones, deletes, updates = goes_out(route, encoding)
    layout = Layout(
        FLAT if form == "flat" else CHANGE,
        tagged=False,
        head=registered("value", value),
        key_head=key_head,
        before=_SOME,
        after=_SOME,
        nothing=_NONE,
        op=b"\x02",  # a text of one letter
        tombstones=tombstones,
        deletes=deletes,
        updates=updates,
    )
    cells = [
        cell(kind, decimals, nullable=column.nullable)
        for column, kind in zip(plan.shape.columns, plan.kinds, strict=True)
    ]
    # The fields of a key's record are in the order of the table's columns.
    key = tuple(sorted(plan.key))
    records = Records(cells, [cells[place] for place in key], plan.places, key, plan.width, layout)
    return RecordWriter(plan, records, _shell(layout.head, form, origin.engine), origin, form)


def cell(kind: WireKind, decimals: str, *, nullable: bool) -> BinaryCell:
    """Return the writer of a column's cells."""
    present = _SOME if nullable else b""
    number = kind.kind
    nothing = _NONE if nullable else _empty(kind, decimals)
    unavailable = nothing
    scale = -1
    slow: Callable[[bytes], bytes] | None = None
    element = None
    if avro_schema.as_bytes(kind, decimals):
        scale = max(kind.scale, 0)
    elif number is Kind.ARRAY:
        assert kind.element is not None
        element = cell(kind.element, decimals, nullable=True)
    elif number is Kind.GEOMETRY:
        slow = _geometry
    elif number in (Kind.TIMETZ, Kind.INTERVAL, Kind.BITS):
        slow = _lengthy(slow_text(number))
    elif number is Kind.BYTES or number not in (*_NUMBERS, Kind.FLOAT32, Kind.FLOAT64):
        unavailable = present + text(UNAVAILABLE)
    if number in (Kind.TIMETZ, Kind.INTERVAL):
        unavailable = present + text(UNAVAILABLE)
    return BinaryCell(
        number, False, present, nothing, unavailable, scale=scale, delimiter=kind.delimiter, element=element, slow=slow
    )


def text(value: str) -> bytes:
    """Return a text as Avro has it."""
    return raw(value.encode())


def raw(value: bytes) -> bytes:
    """Return bytes as Avro has them."""
    return long(len(value)) + value


def long(value: int) -> bytes:
    """Return a whole number as Avro has it: zigzag, seven bits a byte."""
    value = value << 1 if value >= 0 else ((-value - 1) << 1) | 1
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _empty(kind: WireKind, decimals: str) -> bytes:
    """Return a type's empty value."""
    if kind.kind is Kind.FLOAT32:
        return struct.pack("<f", 0)
    if kind.kind is Kind.FLOAT64:
        return struct.pack("<d", 0)
    if kind.kind is Kind.GEOMETRY:
        return raw(b"") + _NONE
    if avro_schema.as_bytes(kind, decimals):
        return raw(b"\0")
    return b"\0"  # zero, false, a text or an array of no length


def _lengthy(convert: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda cell: raw(convert(cell))


def _geometry(cell: bytes) -> bytes:
    wkb, srid = geometry_parts(cell)
    return raw(wkb) + (_NONE if srid is None else _SOME + long(srid))


def _shell(value_head: bytes, form: Around, engine: str) -> Shell:
    fields = avro_schema.source_fields(engine)

    def source(block: Mapping[str, object]) -> bytes:
        found = bytearray()
        for name, _, optional in fields:
            value = block.get(name)
            if optional:
                found += _NONE if value is None else _SOME
                if value is None:
                    continue
            found += long(value) if isinstance(value, int) else text(str(value))
        return bytes(found)

    def transaction(number: str | None) -> bytes:
        return _NONE if number is None else _SOME + text(number)

    def tail(micros: int) -> bytes:
        if form != "debezium":
            return _NONE * 3
        return b"".join(_SOME + long(value) for value in (micros // 1000, micros, micros * 1000))

    def lead(attributes: Mapping[str, str]) -> Lead:
        behind = {"specversion": "1.0", **attributes}
        moment = attributes.get("time")
        rest = b"".join(text(behind[name]) for name in avro_schema.EVENT_TEXTS if name != "id")
        return b"", attributes["id"].encode(), rest + (_NONE if moment is None else _SOME + text(moment))

    def emptied(leading: Lead | None, said: bytes, last: bytes) -> bytes:
        if form == "flat":
            return b""
        before = leading[0] + raw(leading[1]) + leading[2] if leading is not None else b""
        return value_head + before + _NONE + _NONE + said + _NONE + text("t") + last

    return Shell(source, transaction, tail, lead, emptied)
