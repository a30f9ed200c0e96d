"""Avro and Protobuf against a real schema registry, and what Confluent's own readers make of our messages."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from cdcflow.bus.config import Decoding, Encoding, Registry
from cdcflow.bus.formats import Format
from cdcflow.bus.formats.avro import AvroFormat
from cdcflow.bus.formats.protobuf import ProtobufFormat
from cdcflow.bus.registry import SchemaRegistry
from cdcflow.errors import DecodeError, SchemaStop, SourceUnavailable, TargetUnavailable
from tests.servers.registry_server import SchemaRegistry as Server
from tests.unit.bus_rows import POSTGRES, frame_of, read_back, route_of, stamps_of, table_of

_numbers = count()
ROW = {
    "bool": b"t",
    "int2": b"-5",
    "int4": b"7",
    "int8": b"-9223372036854775808",
    "uint8": b"18446744073709551615",
    "numeric": b"1.50",
    "numeric12_2": b"-123.45",
    "float4": b"0.1",
    "float8": b"1e+20",
    "text": "h\u00e4l".encode(),
    "bytea": b"\\xdeadbeef",
    "date": b"2024-02-29",
    "time": b"12:34:56.7",
    "timetz": b"04:05:06.5+02",
    "timestamp": b"1960-03-15 01:02:03.000001",
    "timestamptz": b"2024-01-02 03:04:05.678+00",
    "interval": b"1 year 2 mons 3 days 04:05:06.7",
    "uuid": b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "jsonb": b'{"a": 1}',
    "mood": b"ok",
    "bit1": b"1",
    "bit10": b"1010101010",
    "varbit": b"101",
    "texts": b'{a,"b c",NULL,"x\\"y"}',
    "ints": b"{1,2,NULL}",
    "moments": b'{"2024-01-02 03:04:05.678+00"}',
    "geometry": b"0101000020E6100000000000000000F03F0000000000000040",
    "inet": b"10.0.0.1",
}
FORMATS: dict[str, Callable[..., Format]] = {"avro": AvroFormat, "protobuf": ProtobufFormat}


def _topic() -> str:
    return f"t{os.getpid()}x{next(_numbers)}.shop.orders"


def _registry(server: Server, side: Any = "target", **settings: Any) -> SchemaRegistry:
    return SchemaRegistry(Registry(url=server.url, **settings), side)


@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_every_type_come_back_as_they_were(schema_registry: Server, name: Any) -> None:
    columns = {kind: kind for kind in POSTGRES} | {"id": "int8", "a column's name": "text"}
    table = table_of(columns, ["id"])
    row = [ROW.get(column, b"1") for column in table.column_names]
    nulls = [b"2" if column == "id" else None for column in table.column_names]
    encode = FORMATS[name](Encoding(format=name), _registry(schema_registry))
    writer = encode.writer(_topic(), route_of(table), table.column_names)
    messages = writer.write(frame_of(route_of(table), [("I", None, row), ("I", None, nulls)]), stamps_of(2))
    decode = FORMATS[name](Decoding(format=name), _registry(schema_registry, "source"))
    found = read_back(messages, decode.reader(table, None), width=len(row))
    assert found == [("c", None, row), ("c", None, nulls)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_joins_is_a_new_version_of_the_same_subject(schema_registry: Server, name: Any) -> None:
    topic = _topic()
    old = table_of({"id": "int8", "text": "text"}, ["id"])
    new = table_of({"id": "int8", "text": "text", "int4": "int4"}, ["id"])
    registry = _registry(schema_registry, compatibility="BACKWARD")
    form = FORMATS[name](Encoding(format=name), registry)
    frames = []
    for table, row in ((old, [b"1", b"a"]), (new, [b"2", b"b", b"3"])):
        writer = form.writer(topic, route_of(table), table.column_names)
        frames.append(writer.write(frame_of(route_of(table), [("I", None, row)]), stamps_of(1)))
    client = SchemaRegistryClient({"url": schema_registry.url})
    assert client.get_versions(f"{topic}-value") == [1, 2]
    assert client.get_versions(f"{topic}-key") == [1]
    assert client.get_compatibility(f"{topic}-value") == "BACKWARD"
    reader = form.reader(new, None)
    (first,), (second,) = (read_back(messages, reader, width=3) for messages in frames)
    assert second == ("c", None, [b"2", b"b", b"3"])
    assert first[2] is not None
    assert first[2][:2] == [b"1", b"a"]
    assert repr(first[2][2]) == "UNCHANGED"  # the older schema does not have it


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_that_is_refused_stops_before_its_first_message(schema_registry: Server, name: Any) -> None:
    topic = _topic()
    registry = _registry(schema_registry, compatibility="FULL")
    form = FORMATS[name](Encoding(format=name), registry)
    table = table_of({"id": "int8", "a": "text"}, ["id"])
    form.writer(topic, route_of(table), table.column_names)
    changed = table_of({"id": "int8", "a": "int4"}, ["id"])
    with pytest.raises(SchemaStop) as stop:
        form.writer(topic, route_of(changed), changed.column_names)
    assert f"{topic}-value" in stop.value.at
    assert stop.value.why
    assert "new_subject" in stop.value.do


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_that_is_refused_goes_on_under_a_new_subject_if_wished(schema_registry: Server, name: Any) -> None:
    topic = _topic()
    registry = _registry(schema_registry, compatibility="FULL", incompatible="new_subject")
    form = FORMATS[name](Encoding(format=name), registry)
    table = table_of({"id": "int8", "a": "text"}, ["id"])
    form.writer(topic, route_of(table), table.column_names)
    changed = table_of({"id": "int8", "a": "int4"}, ["id"])
    writer = form.writer(topic, route_of(changed), changed.column_names)
    again = form.writer(topic, route_of(changed), changed.column_names)
    client = SchemaRegistryClient({"url": schema_registry.url})
    assert client.get_versions(f"{topic}-value-v2") == [1]
    frame = frame_of(route_of(changed), [("I", None, [b"1", b"5"])])
    messages = [each.write(frame, stamps_of(1)) for each in (writer, again)]
    assert messages[0].keys == messages[1].keys
    assert read_back(messages[0], form.reader(changed, None), width=2) == [("c", None, [b"1", b"5"])]


def test_a_number_of_a_dropped_protobuf_column_is_never_given_to_another(schema_registry: Server) -> None:
    topic = _topic()
    form = ProtobufFormat(Encoding(format="protobuf"), _registry(schema_registry, compatibility="NONE"))
    shapes = [
        {"id": "int8", "a": "text", "b": "text"},
        {"id": "int8", "b": "text"},
        {"id": "int8", "b": "text", "c": "int4"},
    ]
    for shape in shapes:
        table = table_of(shape, ["id"])
        writer = form.writer(topic, route_of(table), table.column_names)
        messages = writer.write(frame_of(route_of(table), [("I", None, [b"1"] * len(shape))]), stamps_of(1))
        assert read_back(messages, form.reader(table, None), width=len(shape)) == [("c", None, [b"1"] * len(shape))]
    latest = _registry(schema_registry).latest(f"{topic}-value")
    assert latest is not None
    assert "reserved 2;" in latest.text
    assert "int32 c = 4" in latest.text


def test_confluents_avro_reader_reads_our_messages(schema_registry: Server) -> None:
    topic = _topic()
    table = table_of({kind: kind for kind in POSTGRES} | {"id": "int8"}, ["id"])
    row = [ROW.get(column, b"1") for column in table.column_names]
    form = AvroFormat(Encoding(format="avro"), _registry(schema_registry))
    writer = form.writer(topic, route_of(table), table.column_names)
    messages = writer.write(frame_of(route_of(table), [("I", None, row)]), stamps_of(1))
    read = AvroDeserializer(SchemaRegistryClient({"url": schema_registry.url}))
    found = read(messages.values[0], SerializationContext(topic, MessageField.VALUE))
    assert isinstance(found, dict)
    assert found["op"] == "c"
    assert found["after"]["int8"] == -(1 << 63)
    assert found["after"]["texts"] == ["a", "b c", None, 'x"y']
    assert found["source"]["table"] == "orders"
    key = read(messages.keys[0], SerializationContext(topic, MessageField.KEY))
    assert key == {"id": 1}


@pytest.mark.parametrize(("side", "error"), [("source", SourceUnavailable), ("target", TargetUnavailable)])
def test_a_registry_that_is_down_is_an_error_that_passes(side: Any, error: type[Exception], free_port: int) -> None:
    registry = SchemaRegistry(Registry(url=f"http://somebody:secret@127.0.0.1:{free_port}"), side)
    with pytest.raises(error, match="cannot be reached") as raised:
        registry.register("a-value", "AVRO", '"string"')
    assert "secret" not in raised.value.report()  # type: ignore[attr-defined]


def test_a_number_that_the_registry_does_not_have_is_told(schema_registry: Server) -> None:
    with pytest.raises(DecodeError, match="under schema 987654321"):
        _registry(schema_registry, "source").definition(987654321)


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that nobody answers at, and that nobody else takes."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
