"""Avro and Protobuf: fastavro and google.protobuf agree with what we write, and what is broken is a typed error."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st

from cdcflow.bus.config import Decoding
from cdcflow.bus.formats import avro_schema, proto_schema
from cdcflow.bus.formats.avro import AvroFormat
from cdcflow.bus.formats.avro_writing import long, text
from cdcflow.bus.formats.framing import head
from cdcflow.bus.formats.protobuf import ProtobufFormat
from cdcflow.codecs.buscells import array_text
from cdcflow.codecs.buskinds import Kind, WireKind
from cdcflow.codecs.values_time import encode_date, encode_time, encode_timestamp
from cdcflow.errors import DecodeError
from cdcflow.model import frame as frames
from tests.unit.bus_binary import TABLE, both, float8_text, quick, reader_of, rows, written
from tests.unit.bus_rows import MemoryRegistry, table_of

MARK = b"__debezium_unavailable_value"

# -- what others read


def _avro(registry: MemoryRegistry, message: bytes) -> Any:
    schema = json.loads(registry.definition(int.from_bytes(message[1:5], "big")).text)
    stream = io.BytesIO(message[5:])
    found = fastavro.schemaless_reader(stream, schema)
    assert stream.read() == b""
    return found


@quick
@given(row=rows)
def test_fastavro_reads_what_we_write(row: Any) -> None:
    registry = MemoryRegistry()
    messages = written("avro", TABLE, [("I", None, row)], registry)
    try:
        found = _avro(registry, messages.values[0] or b"")["after"]
    except (OverflowError, ValueError):  # Python's own dates end before PostgreSQL's
        return
    said = dict(zip(TABLE.column_names, row, strict=True))
    unsaid = json.loads(dict(messages.extras.get(0, [])).get("cdcflow.exact", b"{}"))
    for column, value in found.items():
        cell = said[column]
        if cell is None or column in unsaid:
            continue
        match column:
            case "int2" | "int4" | "int8" | "id":
                assert value == int(cell)
            case "text" | "jsonb" | "numeric" | "mood" | "varbit" | "inet" | "numeric12_2":
                assert value == cell.decode()
            case "uint8":
                assert value == Decimal(cell.decode())
            case "float8":
                assert float8_text(value) == cell
            case "bytea":
                assert value == bytes.fromhex(cell[2:].decode())
            case "date":
                assert isinstance(value, date)
                assert encode_date(value) == cell
            case "time":
                assert isinstance(value, time)
                assert encode_time(value) == cell or cell == b"24:00:00"
            case "timestamp":
                assert isinstance(value, datetime)
                assert encode_timestamp(value) == cell
            case "texts":
                assert array_text([None if each is None else each.encode() for each in value]) == cell
            case "bool":
                assert value is (cell == b"t")


HAND_WRITTEN = {
    "type": "record",
    "name": "Order",
    "namespace": "com.example",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "DONE"]}},
        {"name": "again", "type": ["null", "State"]},
        {
            "name": "price",
            "type": {
                "type": "fixed",
                "name": "Price",
                "size": 8,
                "logicalType": "decimal",
                "precision": 16,
                "scale": 3,
            },
        },
        {"name": "bought", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "more", "type": {"type": "map", "values": ["null", "int"]}},
        {"name": "next", "type": ["null", "Order"]},
        {"name": "nano", "type": {"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"}},
        {"name": "year", "type": {"type": "int", "connect.name": "io.debezium.time.Year"}},
    ],
}


def test_a_hand_written_avro_schema_is_read_with_all_that_avro_has() -> None:
    registry = MemoryRegistry()
    number = registry.register("x", "AVRO", json.dumps(HAND_WRITTEN)).id
    order = {
        "id": 5,
        "state": "DONE",
        "again": "NEW",
        "price": Decimal("-12.345"),
        "bought": datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        "tags": ["a", "b c"],
        "more": {"x": 1, "y": None},
        "next": None,
        "nano": 1_700_000_000_123_456_500,
        "year": 2024,
    }
    stream = io.BytesIO(head(number))
    stream.seek(5)
    fastavro.schemaless_writer(stream, HAND_WRITTEN, order | {"next": order})
    form = AvroFormat(Decoding(format="avro", envelope="flat"), registry)
    table = form.described("shop.orders", None, stream.getvalue())
    op, before, after = form.reader(table, form.mark(stream.getvalue())).read(None, stream.getvalue(), {})
    assert (op, before) == ("c", None)
    assert after is not None
    found = dict(zip(table.column_names, frames.cells(after, 0, len(table.columns)), strict=True))
    assert found.pop("more") == b'{"x": 1, "y": null}'
    assert json.loads(found.pop("next"))["id"] == 5  # type: ignore[arg-type]
    assert found == {
        "id": b"5",
        "state": b"DONE",
        "again": b"NEW",
        "price": b"-12.345",
        "bought": b"2024-01-02 03:04:05.678+00",
        "tags": b'{a,"b c"}',
        "nano": b"2023-11-14 22:13:20.123457",
        "year": b"2024",
    }
    assert [column.type.text for column in table.columns][3:5] == ["numeric(16,3)", "timestamp with time zone"]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({"type": "array", "items": ["null", "int"]}, list(MARK)),
        ({"type": "array", "items": ["null", "long"]}, list(MARK)),
        ({"type": "array", "items": ["null", "string"]}, [MARK.decode()]),
        ({"type": "array", "items": ["null", "bytes"]}, [MARK]),
        (
            {"type": "array", "items": {"type": "string", "connect.name": "io.debezium.data.Uuid"}},
            ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],
        ),
        ({"type": "map", "values": "string"}, {MARK.decode(): MARK.decode()}),
        ({"type": "string", "connect.name": "io.debezium.data.Json"}, json.dumps({MARK.decode(): MARK.decode()})),
    ],
)
def test_what_debezium_writes_in_avro_for_a_value_that_was_not_logged_is_no_value(said: Any, value: Any) -> None:
    columns = [{"name": "id", "type": "int"}, {"name": "v", "type": ["null", said]}]
    row = {"type": "record", "name": "Value", "namespace": "a.b.c", "fields": columns}
    fields = [
        {"name": "before", "type": ["null", row]},
        {"name": "after", "type": ["null", "Value"]},
        {"name": "op", "type": "string"},
    ]
    schema = {"type": "record", "name": "Envelope", "namespace": "a.b.c", "fields": fields}
    registry = MemoryRegistry()
    made = io.BytesIO()
    fastavro.schemaless_writer(made, schema, {"before": None, "after": {"id": 1, "v": value}, "op": "u"})
    message = head(registry.register("a.b.c-value", "AVRO", json.dumps(schema)).id) + made.getvalue()
    opened = AvroFormat(Decoding(format="avro"), registry)
    reader = opened.reader(opened.described("a.b.c", None, message), opened.mark(message))
    _, _, after = reader.read(None, message, {})
    assert frames.cells(after or b"", 0, 2) == [b"1", frames.UNCHANGED]
    _, _, after = reader.read(None, message, {"cdcflow.op": b"u"})
    assert frames.cells(after or b"", 0, 2)[1] is not frames.UNCHANGED


def _classes(registry: MemoryRegistry, message: bytes) -> Any:
    number = int.from_bytes(message[1:5], "big")
    file = descriptor_pb2.FileDescriptorProto()
    file.CopyFrom(proto_schema.parse(registry.definition(number).text)[0])
    file.name = f"f{number}.proto"

    def qualify(of: Any, scope: str) -> None:
        for inner in of.nested_type:
            qualify(inner, f"{scope}.{inner.name}")
        for one in list(of.field):
            if one.type_name and not one.type_name.startswith("."):
                nested = {inner.name for inner in of.nested_type}
                one.type_name = (
                    f"{scope}.{one.type_name}" if one.type_name in nested else f".{file.package}.{one.type_name}"
                )
            if one.proto3_optional:
                one.oneof_index = len(of.oneof_decl)
                of.oneof_decl.add(name=f"_{one.name}")

    for message_type in file.message_type:
        qualify(message_type, f".{file.package}.{message_type.name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{file.message_type[0].name}"))


@quick
@given(row=rows)
def test_google_protobuf_reads_what_we_write_and_we_read_what_it_writes(row: Any) -> None:
    registry = MemoryRegistry()
    messages = written("protobuf", TABLE, [("I", None, row)], registry)
    value = messages.values[0] or b""
    made = _classes(registry, value)()
    made.ParseFromString(value[6:])
    said = dict(zip(TABLE.column_names, row, strict=True))
    unsaid = json.loads(dict(messages.extras.get(0, [])).get("cdcflow.exact", b"{}"))
    after = made.after
    for column, cell in said.items():
        assert after.HasField(column) is (cell is not None and column not in unsaid)
        if not after.HasField(column):
            continue
        found = getattr(after, column)
        if column in ("int2", "int4", "int8", "uint8", "id"):
            assert found == int(cell or b"")
        elif column in ("text", "jsonb", "numeric", "mood", "varbit"):
            assert found == (cell or b"").decode()
        elif column == "ints":
            items = [each.value if each.HasField("value") else None for each in found.items]
            assert array_text([None if each is None else b"%d" % each for each in items]) == cell
    assert made.op == "c"
    assert made.transaction.total_order == 1
    headers = {"cdcflow.op": b"c"} | dict(messages.extras.get(0, []))
    op, _, image = reader_of("protobuf", TABLE, registry).read(None, value[:6] + made.SerializeToString(), headers)
    assert op == "c"
    assert frames.cells(image, 0, len(row)) == row


# -- what is broken


@both
@quick
@given(data=st.data())
def test_broken_messages_are_a_typed_error_or_another_row(name: str, data: Any) -> None:
    table = table_of({"id": "int8", "text": "text", "texts": "texts", "bytea": "bytea", "float8": "float8"}, ["id"])
    registry = MemoryRegistry()
    messages = written(name, table, [("I", None, [b"1", b"abc", b"{x,NULL}", b"\\x00ff", b"1.5"])], registry)
    value = bytearray(messages.values[0] or b"")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(5, len(value) - 1))
        value[at] = data.draw(st.integers(0, 255))
    cut = bytes(value[: data.draw(st.integers(5, len(value)))])
    try:
        _, _, after = reader_of(name, table, registry).read(messages.keys[0], cut, {})
    except DecodeError as error:
        assert "abc" not in error.report()
    else:
        assert after is None or len(frames.cells(after, 0, 5)) == 5


def test_an_avro_message_cannot_ask_for_more_values_than_it_has_bytes() -> None:
    registry = MemoryRegistry()
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}
    number = registry.register("x", "AVRO", json.dumps(schema)).id
    form = AvroFormat(Decoding(format="avro", envelope="flat"), registry)
    bomb = head(number) + (long(1 << 40)) + long(0)
    table = table_of({"a": "jsonb"})
    with pytest.raises(DecodeError, match="more values than bytes"):
        form.reader(table, None).read(None, bomb, {})
    deep: Any = "null"
    for level in range(40):
        deep = {
            "type": "record",
            "name": f"L{level}",
            "fields": [{"name": "a", "type": deep}, {"name": "b", "type": f"L{level - 1}" if level else "null"}],
        }
    number = registry.register("x", "AVRO", json.dumps(deep)).id
    with pytest.raises(DecodeError, match="more values than bytes"):
        form.reader(table, None).read(None, head(number), {})


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "{",
        '{"type": "record"}',
        '["null", "Missing"]',
        "[]",
        '{"type": "fixed", "name": "F", "size": -1}',
        "[" * 500,
    ],
)
def test_what_is_no_avro_schema_is_a_typed_error(schema: str) -> None:
    registry = MemoryRegistry()
    number = registry.register("x", "AVRO", schema).id
    form = AvroFormat(Decoding(format="avro"), registry)
    with pytest.raises(DecodeError):
        form.reader(table_of({"a": "text"}), None).read(None, head(number) + text("x"), {})


@pytest.mark.parametrize("schema", ["", "message A {", "message A { int32 }", 'syntax = "proto3";', "}"])
def test_what_is_no_protobuf_schema_is_a_typed_error(schema: str) -> None:
    registry = MemoryRegistry()
    number = registry.register("x", "PROTOBUF", schema).id
    form = ProtobufFormat(Decoding(format="protobuf"), registry)
    with pytest.raises(DecodeError):
        form.reader(table_of({"a": "text"}), None).read(None, head(number) + b"\0", {})


def test_no_type_that_is_written_has_a_name_beside_a_logical_type_that_connects_converter_takes_for_another() -> None:
    # AvroData.toConnectSchema refuses such a schema as "mismatched names".
    connects = {"date": "Date", "time-millis": "Time", "timestamp-millis": "Timestamp", "decimal": "Decimal"}
    for kind in Kind:
        element = WireKind(Kind.TEXT) if kind is Kind.ARRAY else None
        said = avro_schema.column_type(WireKind(kind, precision=9, scale=2, length=3, element=element), "number")
        if isinstance(said, dict) and said.get("logicalType") in connects:
            assert said["connect.name"] == f"org.apache.kafka.connect.data.{connects[said['logicalType']]}"
